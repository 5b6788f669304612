//! Hand-made types: what a kernel's BTF could say and those at hand do not.
//!
//! The BTF here is written by a builder of its own that knows the format and
//! nothing of the reader.

use segfault_analyzer::loader::btf::{essential_name, Btf, BtfError, Kind, Types};
use segfault_analyzer::loader::lines::RelocationRecord;
use segfault_analyzer::loader::relo::{describe, wanted_names, Engine, Fixup, RelocationError};
use segfault_analyzer::loader::target::{Names, Target, TypeSource};

/// Writes BTF: types get their numbers in the order of the calls, from 1 on.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const CONST: u32 = 10;
const ENUM64: u32 = 19;

impl Builder {
    fn new() -> Self {
        Builder {
            strings: vec![0],
            ..Builder::default()
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn head(&mut self, name: &str, kind: u32, count: u32, flag: bool, size_or_type: u32) -> u32 {
        let name = self.string(name);
        let info = kind << 24 | count | u32::from(flag) << 31;
        self.words(&[name, info, size_or_type]);
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, bytes: u32, signed: bool) -> u32 {
        let id = self.head(name, INT, 0, false, bytes);
        self.words(&[(u32::from(signed) << 24) | (bytes * 8)]);
        id
    }

    fn refers(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        self.head(name, kind, 0, false, to)
    }

    fn array(&mut self, element: u32, count: u32) -> u32 {
        let id = self.head("", ARRAY, 0, false, 0);
        self.words(&[element, element, count]);
        id
    }

    /// Members are name, type and bit offset.
    fn composite(
        &mut self,
        kind: u32,
        name: &str,
        bytes: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let id = self.head(name, kind, members.len() as u32, false, bytes);
        for (name, type_id, offset) in members {
            let name = self.string(name);
            self.words(&[name, *type_id, *offset]);
        }
        id
    }

    /// A struct with one bit field: its offset and size are in bits.
    fn bit_field(&mut self, name: &str, bytes: u32, field: (&str, u32, u32, u32)) -> u32 {
        let id = self.head(name, STRUCT, 1, true, bytes);
        let (name, type_id, offset, size) = field;
        let name = self.string(name);
        self.words(&[name, type_id, size << 24 | offset]);
        id
    }

    fn enumeration(&mut self, name: &str, signed: bool, values: &[(&str, u32)]) -> u32 {
        let id = self.head(name, ENUM, values.len() as u32, signed, 4);
        for (name, value) in values {
            let name = self.string(name);
            self.words(&[name, *value]);
        }
        id
    }

    fn enumeration64(&mut self, name: &str, values: &[(&str, u64)]) -> u32 {
        let id = self.head(name, ENUM64, values.len() as u32, false, 8);
        for (name, value) in values {
            let name = self.string(name);
            self.words(&[name, *value as u32, (*value >> 32) as u32]);
        }
        id
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let types = self.types.len() as u32;
        let strings = self.strings.len() as u32;
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

const BYTE_OFF: u32 = 0;
const BYTE_SZ: u32 = 1;
const FIELD_EXISTS: u32 = 2;
const SIGNED: u32 = 3;
const LSHIFT: u32 = 4;
const RSHIFT: u32 = 5;
const TYPE_EXISTS: u32 = 8;
const TYPE_MATCHES: u32 = 12;
const TYPE_SIZE: u32 = 9;
const ENUM_VALUE: u32 = 11;

/// What one relocation of `local` comes to on `kernel`.
fn relocate(
    mut local: Builder,
    kernel: &Builder,
    (kind, type_id, access): (u32, u32, &str),
) -> Result<Fixup, RelocationError> {
    let access = local.string(access);
    let local = Btf::parse(&local.build()).expect("local types");
    let source = kernel.build();
    let target = Target::scan(&source, wanted_names(&local)?)?;
    Engine::new(&local, &target).fixup(&RelocationRecord {
        offset: 0,
        type_id,
        access,
        kind,
    })
}

fn sample(field: &str) -> (Builder, u32) {
    let mut local = Builder::new();
    let int = local.int("int", 4, true);
    let id = local.composite(STRUCT, "sample", 8, &[("first", int, 0), (field, int, 32)]);
    (local, id)
}

#[test]
fn a_field_is_found_through_anonymous_members() {
    let (local, id) = sample("wanted");
    let mut kernel = Builder::new();
    let int = kernel.int("int", 4, true);
    let inner = kernel.composite(STRUCT, "", 8, &[("other", int, 0), ("wanted", int, 32)]);
    let union = kernel.composite(UNION, "", 8, &[("whole", int, 0), ("", inner, 0)]);
    kernel.composite(STRUCT, "sample", 24, &[("", union, 128)]);
    let fixup = relocate(local, &kernel, (BYTE_OFF, id, "0:1")).expect("value");
    assert_eq!((fixup.local, fixup.target, fixup.poison), (4, 20, false));
    assert_eq!((fixup.local_size, fixup.target_size), (4, 4));
}

#[test]
fn flavours_of_either_side_are_candidates_and_must_agree() {
    let mut kernel = Builder::new();
    let int = kernel.int("int", 4, true);
    kernel.composite(STRUCT, "sample", 8, &[("wanted", int, 0)]);
    kernel.composite(STRUCT, "sample___2", 8, &[("wanted", int, 0)]);
    let (local, id) = sample("wanted");
    let fixup = relocate(local, &kernel, (BYTE_OFF, id, "0:1")).expect("both say 0");
    assert_eq!(fixup.target, 0);
    kernel.composite(STRUCT, "sample___3", 8, &[("wanted", int, 32)]);
    let (local, id) = sample("wanted");
    assert_eq!(
        relocate(local, &kernel, (BYTE_OFF, id, "0:1")),
        Err(RelocationError::Ambiguous {
            first: 0,
            second: 32
        })
    );
    // A candidate without the field does not count.
    kernel.composite(STRUCT, "sample___4", 8, &[("unrelated", int, 64)]);
    let (local, id) = sample("first");
    let fixup = relocate(local, &kernel, (FIELD_EXISTS, id, "0:0")).expect("value");
    assert_eq!(fixup.target, 0);
}

#[test]
fn what_is_missing_is_poison_or_zero() {
    let mut kernel = Builder::new();
    let int = kernel.int("int", 4, true);
    kernel.composite(STRUCT, "sample", 8, &[("first", int, 0)]);
    let at = |kind, access| {
        let (local, id) = sample("gone");
        relocate(local, &kernel, (kind, id, access)).expect("value")
    };
    assert!(at(BYTE_OFF, "0:1").poison);
    assert!(at(BYTE_SZ, "0:1").poison);
    assert_eq!(at(FIELD_EXISTS, "0:1").target, 0);
    assert_eq!(at(FIELD_EXISTS, "0:0").target, 1);
    assert_eq!(at(TYPE_EXISTS, "0").target, 1);
    assert_eq!(at(TYPE_SIZE, "0").target, 8);
    let other = Builder::new();
    let (local, id) = sample("gone");
    let fixup = relocate(local, &other, (TYPE_SIZE, id, "0")).expect("value");
    assert_eq!((fixup.target, fixup.poison), (0, false));
}

#[test]
fn only_pointers_and_unsigned_integers_change_their_width() {
    let widened = |signed| {
        let mut local = Builder::new();
        let int = local.int("int", 4, signed);
        let id = local.composite(STRUCT, "sample", 4, &[("wanted", int, 0)]);
        let mut kernel = Builder::new();
        let long = kernel.int("long", 8, signed);
        kernel.composite(STRUCT, "sample", 16, &[("wanted", long, 64)]);
        relocate(local, &kernel, (BYTE_OFF, id, "0:0")).expect("value")
    };
    assert!(!widened(false).unsafe_resize);
    assert!(widened(true).unsafe_resize);
    assert_eq!(
        (widened(false).local_size, widened(false).target_size),
        (4, 8)
    );
}

#[test]
fn bit_fields_are_read_by_the_smallest_load_that_covers_them() {
    let at = |offset: u32, size: u32, kind: u32| {
        let mut local = Builder::new();
        let int = local.int("unsigned int", 4, false);
        let id = local.bit_field("sample", 4, ("wanted", int, 0, 1));
        let mut kernel = Builder::new();
        let int = kernel.int("unsigned int", 4, false);
        kernel.bit_field("sample", 64, ("wanted", int, offset, size));
        relocate(local, &kernel, (kind, id, "0:0")).map(|fixup| fixup.target)
    };
    // Bits 37..40 lie in the second word, 5 from its low end.
    assert_eq!(at(37, 3, BYTE_OFF), Ok(4));
    assert_eq!(at(37, 3, BYTE_SZ), Ok(4));
    assert_eq!(at(37, 3, LSHIFT), Ok(64 - 8));
    assert_eq!(at(37, 3, RSHIFT), Ok(61));
    assert_eq!(at(37, 3, SIGNED), Ok(0));
    // Bits 30..34 cross a word: eight bytes.
    assert_eq!(at(30, 4, BYTE_OFF), Ok(0));
    assert_eq!(at(30, 4, BYTE_SZ), Ok(8));
    // Bits 62..66 cross eight bytes.
    assert_eq!(
        at(62, 4, BYTE_OFF),
        Err(RelocationError::WideBitField { bit_offset: 62 })
    );
}

#[test]
fn arrays_are_bounded_by_the_kernels_unless_flexible() {
    let at = |count: u32, is_last: bool, access: &str| {
        let mut local = Builder::new();
        let int = local.int("int", 4, true);
        let array = local.array(int, 8);
        let id = local.composite(
            STRUCT,
            "sample",
            36,
            &[("n", int, 0), ("wanted", array, 32)],
        );
        let mut kernel = Builder::new();
        let int = kernel.int("int", 4, true);
        let array = kernel.array(int, count);
        let members = [("wanted", array, 64), ("n", int, 0)];
        let members = if is_last {
            [members[1], members[0]]
        } else {
            members
        };
        kernel.composite(STRUCT, "sample", 8, &members);
        relocate(local, &kernel, (BYTE_OFF, id, access)).expect("value or poison")
    };
    assert_eq!(at(8, true, "0:1:7").target, 8 + 7 * 4);
    assert!(at(7, true, "0:1:7").poison);
    assert_eq!(at(0, true, "0:1:7").target, 8 + 7 * 4);
    assert!(at(0, false, "0:1:7").poison);
}

#[test]
fn enum_values_cross_widths_and_keep_their_signs() {
    let value = |kernel: &Builder| {
        let mut local = Builder::new();
        let id = local.enumeration("state", false, &[("A___mine", 1), ("B___mine", 2)]);
        relocate(local, kernel, (ENUM_VALUE, id, "1")).expect("value")
    };
    let mut kernel = Builder::new();
    kernel.enumeration64("state", &[("A", 5), ("B", 0x1_0000_0000)]);
    assert_eq!(value(&kernel).target, 0x1_0000_0000);
    let mut kernel = Builder::new();
    kernel.enumeration("state", true, &[("B", u32::MAX)]);
    assert_eq!(value(&kernel).target, u64::MAX);
    let mut kernel = Builder::new();
    kernel.enumeration("state", false, &[("A", 0)]);
    assert!(value(&kernel).poison);
}

#[test]
fn modifiers_and_typedefs_are_looked_through() {
    let (local, id) = sample("wanted");
    let mut kernel = Builder::new();
    let int = kernel.int("int", 4, true);
    let constant = kernel.refers(CONST, "", int);
    let named = kernel.refers(TYPEDEF, "s32", constant);
    kernel.composite(STRUCT, "sample", 8, &[("wanted", named, 32)]);
    let fixup = relocate(local, &kernel, (BYTE_OFF, id, "0:1")).expect("value");
    assert_eq!((fixup.target, fixup.target_size), (4, 4));
    // A pointer is no integer.
    let (local, id) = sample("wanted");
    let mut kernel = Builder::new();
    let void = kernel.refers(PTR, "", 0);
    kernel.composite(STRUCT, "sample", 8, &[("wanted", void, 0)]);
    assert!(
        relocate(local, &kernel, (BYTE_OFF, id, "0:1"))
            .expect("poison")
            .poison
    );
}

#[test]
fn relocations_that_make_no_sense_are_errors() {
    let kernel = Builder::new();
    let refused = |kind, access| {
        let (local, id) = sample("wanted");
        relocate(local, &kernel, (kind, id, access)).expect_err("no sense")
    };
    let bad = RelocationError::BadAccess { type_id: 2 };
    assert_eq!(refused(BYTE_OFF, "0:2"), bad);
    assert_eq!(refused(BYTE_OFF, ""), bad);
    assert_eq!(refused(BYTE_OFF, "0:x"), bad);
    assert_eq!(refused(ENUM_VALUE, "0"), bad);
    assert_eq!(refused(TYPE_SIZE, "0:1"), bad);
    let unknown = RelocationError::UnknownKind { kind: TYPE_MATCHES };
    assert_eq!(refused(TYPE_MATCHES, "0"), unknown);
}

#[test]
fn circles_end() {
    let mut kernel = Builder::new();
    kernel.refers(TYPEDEF, "a", 2);
    kernel.refers(TYPEDEF, "b", 1);
    kernel.array(3, 2);
    // A struct that has itself as an anonymous member, twice.
    kernel.composite(STRUCT, "sample", 8, &[("", 4, 0), ("", 4, 0)]);
    let btf = Btf::parse(&kernel.build()).expect("types");
    assert_eq!(btf.resolve(1).err(), Some(BtfError::TooDeep { id: 1 }));
    assert_eq!(btf.size_of(3).err(), Some(BtfError::TooDeep { id: 3 }));
    let (local, id) = sample("wanted");
    assert!(matches!(
        relocate(local, &kernel, (BYTE_OFF, id, "0:1")),
        Err(RelocationError::Btf(BtfError::TooDeep { .. }))
    ));
    // Forty structs, each with the next one twice: 2^40 ways.
    let mut kernel = Builder::new();
    for level in 0..40 {
        let name = if level == 0 { "sample" } else { "" };
        kernel.composite(STRUCT, name, 8, &[("", level + 2, 0), ("", level + 2, 0)]);
    }
    kernel.int("int", 4, true);
    let (local, id) = sample("wanted");
    assert!(matches!(
        relocate(local, &kernel, (BYTE_OFF, id, "0:1")),
        Err(RelocationError::Btf(BtfError::TooDeep { .. }))
    ));
}

#[test]
fn names_are_found_wherever_the_windows_end() {
    // Strings of 61 bytes drift through the 64 KB windows; wanted ones are among them.
    let mut kernel = Builder::new();
    let filler = "f".repeat(60);
    let int = kernel.int("int", 4, true);
    for round in 0..4000 {
        kernel.string(&filler);
        if round % 100 == 0 {
            kernel.composite(STRUCT, &format!("wanted_{round}"), 4, &[("field", int, 0)]);
        }
    }
    // A string longer than any window, and one after it.
    kernel.string(&"l".repeat(200_000));
    kernel.composite(STRUCT, "wanted_last", 4, &[("field", int, 0)]);
    let mut names = Names::new();
    for round in (0..4000).step_by(100) {
        names.add(format!("wanted_{round}").as_bytes());
    }
    names.add(b"wanted_last");
    let source = kernel.build();
    let target = Target::scan(&source, names).expect("types");
    for round in (0..4000).step_by(100) {
        let name = format!("wanted_{round}");
        let found = target.candidates(name.as_bytes(), Kind::Struct).count();
        assert_eq!(found, 1, "{name}");
    }
    let last = target.candidates(b"wanted_last", Kind::Struct).count();
    assert_eq!(last, 1);
}

/// A source that hands out few bytes at a time, as sysfs does.
struct Trickle(Vec<u8>);

impl TypeSource for Trickle {
    fn len(&self) -> u64 {
        TypeSource::len(&self.0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(7);
        self.0.read_at(offset, &mut buffer[..len])
    }
}

#[test]
fn short_reads_and_far_types_are_no_matter() {
    let mut kernel = Builder::new();
    let int = kernel.int("int", 4, true);
    for number in 0..500u32 {
        let members: Vec<(&str, u32, u32)> = (0..number % 40)
            .map(|place| ("field", int, place * 32))
            .collect();
        kernel.composite(STRUCT, "", 4 * (number % 40), &members);
    }
    let bytes = kernel.build();
    let whole = Btf::parse(&bytes).expect("types");
    let source = Trickle(bytes);
    let target = Target::scan(&source, Names::new()).expect("types");
    for id in (0..502).rev() {
        assert_eq!(target.get(id), whole.get(id), "type {id}");
    }
    assert_eq!(target.get(502).err(), Some(BtfError::NoType { id: 502 }));
}

#[test]
fn essential_names_end_before_the_last_flavour() {
    let cases: [(&[u8], &[u8]); 6] = [
        (b"task_struct", b"task_struct"),
        (b"task_struct___old", b"task_struct"),
        (b"a___b___c", b"a___b"),
        (b"___x", b"___x"),
        (b"a____b", b"a____b"),
        (b"a___", b"a___"),
    ];
    for (name, essential) in cases {
        assert_eq!(essential_name(name), essential);
    }
}

#[test]
fn descriptions_are_in_libbpfs_words() {
    let (mut local, id) = sample("wanted");
    let array = local.array(id, 3);
    let outer = local.composite(STRUCT, "outer", 24, &[("list", array, 0)]);
    let access = local.string("0:0:2:1");
    let local = Btf::parse(&local.build()).expect("types");
    let record = RelocationRecord {
        offset: 0,
        type_id: outer,
        access,
        kind: BYTE_OFF,
    };
    assert_eq!(
        describe(&local, &record),
        "<byte_off> [4] struct outer.list[2].wanted (0:0:2:1 @ offset 20)"
    );
}
