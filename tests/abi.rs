//! `src/capture/record/abi.rs` is what `bpf/event.h` says, and what the committed object has.
//!
//! Two witnesses. The type information in `prebuilt/`, read with our
//! own parser, has the structs that the program's variables hold: that is what
//! the kernel will write. Structs and enums that are only written through casts
//! leave no trace there; for them, and for all the rest once more, the text of
//! `bpf/event.h` is read by a small reader of C declarations. That the object is
//! made from that text is what `make check-prebuilt` shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use segfault_analyzer::base::structs::FieldLayout;
use segfault_analyzer::capture::chain;
use segfault_analyzer::capture::record::abi::{
    self, header_flags, path_flags, thread_flags, BadPart, Part, TextKind,
};
use segfault_analyzer::loader::btf::{Btf, Kind, Type, Types};
use segfault_analyzer::loader::Object;
use segfault_analyzer::measure::peek;
use segfault_analyzer::measure::pieces::PIECE;

const OBJECT: &[u8] = include_bytes!("../prebuilt/capture.bpf.o");
const CHAIN_OBJECT: &[u8] = include_bytes!("../prebuilt/capture_chain.bpf.o");
const PEEK_OBJECT: &[u8] = include_bytes!("../prebuilt/peek.bpf.o");
const HEADER: &str = include_str!("../bpf/event.h");

/// Structs of the header that no variable of the programs holds.
const NOT_IN_OBJECTS: [&str; 5] = [
    "event_exit",
    "event_mapping",
    "event_stack",
    "event_text",
    "event_thread",
];

/// Name, offset and size, in bytes.
type Field = (String, usize, usize);

#[derive(Debug, PartialEq)]
struct Struct {
    size: usize,
    fields: Vec<Field>,
}

/// What `event.h` declares, by name.
#[derive(Debug, Default)]
struct Declarations {
    structs: BTreeMap<String, Struct>,
    enums: BTreeMap<String, Vec<(String, u32)>>,
    constants: BTreeMap<String, usize>,
    /// The alignment of each struct: that of its widest member.
    alignments: BTreeMap<String, usize>,
}

fn own((name, offset, size): &FieldLayout) -> Field {
    ((*name).to_owned(), *offset, *size)
}

fn mirror() -> BTreeMap<String, Struct> {
    abi::layout()
        .iter()
        .map(|(name, size, fields)| {
            let fields = fields.iter().map(own).collect();
            (
                (*name).to_owned(),
                Struct {
                    size: *size,
                    fields,
                },
            )
        })
        .collect()
}

// --- The text of the header.

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        out.push(' ');
        rest = comment.split_once("*/").expect("a comment ends").1;
    }
    out + rest
}

fn declarations(text: &str) -> Declarations {
    let text = without_comments(text);
    let mut found = Declarations::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("#define"), Some(name), Some(value)) =
            (words.next(), words.next(), words.next())
        {
            found
                .constants
                .insert(name.to_owned(), value.parse().expect("a number"));
        }
    }
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let code = code.join("\n");
    for declaration in code
        .split("};")
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (head, body) = declaration.split_once('{').expect("a body");
        match head.split_whitespace().collect::<Vec<_>>()[..] {
            ["enum", name] => {
                let values = body
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                found
                    .enums
                    .insert(name.to_owned(), values.map(enumerator).collect());
            }
            ["struct", name] => declare_struct(&mut found, name, body),
            _ => panic!("neither enum nor struct: {head}"),
        }
    }
    found
}

/// `NAME = 3` or `NAME = 1 << 4`
fn enumerator(text: &str) -> (String, u32) {
    let number = |text: &str| -> u32 { text.trim().parse().expect("a number") };
    let (name, value) = text.split_once('=').expect("each value is written out");
    let value = match value.split_once("<<") {
        Some((one, bits)) => number(one) << number(bits),
        None => number(value),
    };
    (name.trim().to_owned(), value)
}

fn declare_struct(found: &mut Declarations, name: &str, body: &str) {
    let mut fields = Vec::new();
    let (mut offset, mut widest) = (0usize, 1);
    for field in body
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (kind, declared) = field
            .rsplit_once(char::is_whitespace)
            .expect("type and name");
        let (size, alignment) = match kind.trim() {
            "char" | "__u8" => (1, 1),
            "__u16" | "__s16" => (2, 2),
            "__u32" | "__s32" => (4, 4),
            "__u64" | "__s64" => (8, 8),
            other => {
                let inner = other.strip_prefix("struct ").expect("a struct").trim();
                (found.structs[inner].size, found.alignments[inner])
            }
        };
        let (field, count) = match declared.split_once('[') {
            Some((field, count)) => {
                let count = count.trim_end_matches(']');
                let number = count.parse().ok();
                (field, number.unwrap_or_else(|| found.constants[count]))
            }
            None => (declared, 1),
        };
        // The header promises it; a compiler would pad in silence.
        assert_eq!(offset % alignment, 0, "padding before {name}.{field}");
        fields.push((field.to_owned(), offset, size * count));
        offset += size * count;
        widest = widest.max(alignment);
    }
    assert_eq!(offset % widest, 0, "padding at the end of {name}");
    found.structs.insert(
        name.to_owned(),
        Struct {
            size: offset,
            fields,
        },
    );
    found.alignments.insert(name.to_owned(), widest);
}

// --- The object.

fn object_types() -> Btf {
    Object::parse(OBJECT).expect("the committed object").btf
}

fn find<'a>(btf: &'a Btf, kind: Kind, name: &str) -> Option<&'a Type> {
    btf.iter()
        .map(|(_, found)| found)
        .find(|found| found.kind == kind && btf.text(found.name) == name)
}

fn struct_of(btf: &Btf, found: &Type) -> Struct {
    let field = |member: &segfault_analyzer::loader::btf::Member| {
        assert_eq!(member.bit_offset % 8, 0, "a bit field");
        let size = btf.size_of(member.type_id).expect("a type with a size");
        (
            btf.text(member.name),
            (member.bit_offset / 8) as usize,
            size as usize,
        )
    };
    Struct {
        size: found.size_or_type as usize,
        fields: found.members().iter().map(field).collect(),
    }
}

// --- Structs.

#[test]
fn structs_are_those_of_the_header() {
    let (ours, theirs) = (mirror(), declarations(HEADER).structs);
    for (name, declared) in &theirs {
        assert_eq!(
            ours.get(name),
            Some(declared),
            "struct {name}: src/capture/record/abi.rs, and bpf/event.h"
        );
    }
    assert_eq!(
        ours.len(),
        theirs.len(),
        "a struct that bpf/event.h does not have"
    );
}

#[test]
fn structs_are_those_in_the_objects() {
    let old = Object::parse(CHAIN_OBJECT)
        .expect("the committed object")
        .btf;
    let mut absent = Vec::new();
    for (name, ours) in mirror() {
        let mut is_absent = true;
        for btf in [&object_types(), &old] {
            if let Some(theirs) = find(btf, Kind::Struct, &name) {
                assert_eq!(
                    ours,
                    struct_of(btf, theirs),
                    "struct {name}: src/capture/record/abi.rs, and prebuilt/"
                );
                is_absent = false;
            }
        }
        if is_absent {
            absent.push(name);
        }
    }
    assert_eq!(absent, NOT_IN_OBJECTS, "structs without type information");
}

#[test]
fn structs_that_the_tool_writes_are_those_in_the_objects() {
    let types = |bytes| Object::parse(bytes).expect("the committed object").btf;
    let mut ours = vec![("chain_config", abi::chain_config(), types(CHAIN_OBJECT))];
    for (name, fields) in peek::layout() {
        ours.push((name, fields, types(PEEK_OBJECT)));
    }
    for (name, fields, btf) in ours {
        let found = find(&btf, Kind::Struct, name).unwrap_or_else(|| panic!("no struct {name}"));
        let theirs = struct_of(&btf, found);
        let fields: Vec<Field> = fields.iter().map(own).collect();
        if name == "peek_answer" {
            // What follows is read as bytes.
            assert_eq!(fields, theirs.fields[..fields.len()], "struct {name}");
            continue;
        }
        assert_eq!(fields, theirs.fields, "struct {name}");
    }
}

/// Numbers that stand in bpf/ and in src/, where the two must agree.
#[test]
fn constants_are_those_of_the_programs() {
    let bpf = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    let source = |file: &str| fs::read_to_string(bpf.join(file)).expect("a source");
    for (file, name, ours) in [
        ("peek.bpf.c", "PIECES", peek::PIECES as u64),
        ("peek.bpf.c", "PIECE_BYTES", PIECE as u64),
        ("peek.bpf.c", "TOP_BYTES", peek::TOP_BYTES as u64),
    ] {
        let text = source(file);
        let mut lines = text.lines();
        let value = lines.find_map(|line| {
            let (found, value) = line
                .strip_prefix("#define ")?
                .split_once(char::is_whitespace)?;
            (found == name).then(|| value.split_whitespace().next())?
        });
        assert_eq!(value, Some(&*ours.to_string()), "{name} of bpf/{file}");
    }
    let text = source("chain.h");
    let steps = text.split_once("enum step {").expect("enum step").1;
    let steps = steps.split_once("STEPS,").expect("its end").0;
    let theirs: Vec<&str> = steps
        .split(',')
        .map(str::trim)
        .filter(|step| !step.is_empty())
        .collect();
    assert_eq!(
        theirs,
        chain::STEPS.map(|(name, _)| name),
        "enum step of bpf/chain.h"
    );
}

// --- Enums.

/// The objects have no type information of enums: programs use their values as numbers.
fn enumeration(name: &str) -> Vec<(String, u32)> {
    let values = declarations(HEADER).enums.remove(name);
    values.unwrap_or_else(|| panic!("no enum {name} in bpf/event.h"))
}

fn expect(name: &str, ours: &[(&str, u32)]) {
    let ours: Vec<_> = ours
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    assert_eq!(
        ours,
        enumeration(name),
        "enum {name}: src/capture/record/abi.rs, and bpf/event.h"
    );
}

/// A part of this kind; where texts have their kind stands `second`.
fn part(kind: u32, second: u32) -> Vec<u8> {
    let mut bytes = vec![0; mirror()["event_header"].size];
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..8].copy_from_slice(&size.to_ne_bytes());
    bytes[16..20].copy_from_slice(&second.to_ne_bytes());
    bytes
}

#[test]
fn parts_are_decoded_by_the_headers_numbers() {
    let values = enumeration("part_kind");
    for (name, kind) in &values {
        let bytes = part(*kind, 1);
        let decoded = abi::decode(&bytes).map(|(_, part)| part);
        let right = match name.as_str() {
            "PART_HEADER" => matches!(decoded, Ok(Part::Header(_))),
            "PART_TEXT" => matches!(decoded, Ok(Part::Text { .. })),
            // Zeros do not divide into mappings, but it was they that were looked for.
            "PART_MAPPINGS" => matches!(decoded, Ok(Part::Mappings(_)) | Err(BadPart::Short(_))),
            "PART_RANGES" => matches!(decoded, Ok(Part::Ranges(_)) | Err(BadPart::Short(_))),
            "PART_STACK" => matches!(decoded, Ok(Part::Stack { .. })),
            "PART_MEMORY" => matches!(decoded, Ok(Part::Memory { .. })),
            "PART_CODE" => matches!(decoded, Ok(Part::Code(_)) | Err(BadPart::Short(_))),
            "PART_END" => matches!(decoded, Ok(Part::End(_))),
            "PART_EXIT" => matches!(decoded, Ok(Part::Exit(_))),
            "PART_THREAD" => matches!(decoded, Ok(Part::Thread { .. })),
            _ => panic!("src/capture/record/abi.rs does not know {name}"),
        };
        assert!(right, "{name} is decoded as {decoded:?}");
    }
    let unused = 1 + values.iter().map(|(_, kind)| *kind).max().expect("a kind");
    assert!(abi::decode(&part(unused, 0)).is_err());
}

#[test]
fn texts_are_decoded_by_the_headers_numbers() {
    for (name, kind) in enumeration("text_kind") {
        let wanted = match name.as_str() {
            "TEXT_EXE" => TextKind::Exe,
            "TEXT_CMDLINE" => TextKind::Cmdline,
            "TEXT_CGROUP" => TextKind::Cgroup,
            _ => panic!("src/capture/record/abi.rs does not know {name}"),
        };
        let bytes = part(2, kind);
        let decoded = abi::decode(&bytes);
        assert!(
            matches!(decoded, Ok((_, Part::Text { kind, .. })) if kind == wanted),
            "{name} is decoded as {decoded:?}"
        );
    }
}

#[test]
fn flags_are_those_of_the_header() {
    expect(
        "path_flags",
        &[
            ("PATH_TRUNCATED", path_flags::TRUNCATED),
            ("PATH_DELETED", path_flags::DELETED),
            ("PATH_DETACHED", path_flags::DETACHED),
        ],
    );
    expect(
        "header_flags",
        &[
            ("HEADER_REGISTERS", header_flags::REGISTERS),
            ("HEADER_AARCH64", header_flags::AARCH64),
            ("HEADER_FIRST_FAULT", header_flags::FIRST_FAULT),
            // Nobody asks for it: what such a task lacks is empty.
            ("HEADER_KERNEL_TASK", 1 << 3),
            ("HEADER_MONOTONIC", header_flags::MONOTONIC),
            ("HEADER_NO_SENDER", header_flags::NO_SENDER),
        ],
    );
    expect(
        "thread_flags",
        &[
            ("THREAD_RUNS", u32::from(thread_flags::RUNS)),
            ("THREAD_EXITS", u32::from(thread_flags::EXITS)),
            ("THREAD_AARCH64", u32::from(thread_flags::AARCH64)),
            ("THREAD_LOCK", u32::from(thread_flags::LOCK)),
        ],
    );
    expect(
        "mapping_flags",
        &[
            ("MAPPING_FILE", abi::MAPPING_FILE),
            ("MAPPING_TRUNCATED", path_flags::TRUNCATED << 1),
            ("MAPPING_DELETED", path_flags::DELETED << 1),
            ("MAPPING_DETACHED", path_flags::DETACHED << 1),
            // Its length says as much.
            ("MAPPING_PATH", 1 << 4),
        ],
    );
}

/// Each bit has its words, and the words of its detail.
#[test]
fn losses_are_those_of_the_header() {
    let details = [
        ("LOST_RING_MAPPINGS", "mappings"),
        ("LOST_RING_STACK", "stack"),
        ("LOST_RING_TEXT", "context"),
        ("LOST_WALK_CUT", "mappings"),
        ("LOST_WALK_TORN", "mappings"),
        ("LOST_STACK_READ", "stack"),
        ("LOST_CMDLINE", "cmdline"),
        ("LOST_EXE", "exe"),
        ("LOST_CODE", "code"),
        ("LOST_NAMES", "mappings"),
        ("LOST_RING_MEMORY", "memory"),
        ("LOST_THREADS", "threads"),
        ("LOST_THREADS_TORN", "threads"),
        ("LOST_THREADS_CUT", "threads"),
        ("LOST_THREADS_CALLS", "threads"),
        ("LOST_THREADS_FIELDS", "threads"),
    ];
    let values = enumeration("lost_bits");
    assert_eq!(
        values.len(),
        abi::LOST.len(),
        "one line of abi::LOST for each bit"
    );
    for ((name, bit), (our_bit, our_detail, _)) in values.iter().zip(abi::LOST) {
        let detail = details.iter().find(|(known, _)| known == name);
        assert_eq!(detail, Some(&(name.as_str(), our_detail)));
        assert_eq!(*bit, our_bit, "{name}");
    }
}

#[test]
fn a_moved_field_is_seen() {
    let swapped = HEADER
        .replace("\t__u32 kind;", "\t__u32 size_;")
        .replace("\t__u32 tid;", "\t__u32 tid_;");
    let (ours, theirs) = (mirror(), declarations(&swapped).structs);
    assert_ne!(ours["part"], theirs["part"]);
    assert_ne!(ours["event_header"], theirs["event_header"]);
    assert_eq!(ours["event_end"], theirs["event_end"]);
}
