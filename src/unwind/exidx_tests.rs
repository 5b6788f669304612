//! Instructions one by one, tables made by hand, and those of real libraries.

use std::fmt::Write as _;

use super::*;
use crate::base::address::FileAddress;
use crate::unwind::SectionRange;

/// A file whose index and other bytes begin at an address each.
struct File {
    index: (u64, Vec<u8>),
    pieces: Vec<(u64, Vec<u8>)>,
}

impl ModuleData for File {
    fn identity(&self) -> u64 {
        1
    }

    fn section(&self, section: CfiSection) -> Option<SectionRange> {
        let range = SectionRange {
            address: FileAddress(self.index.0),
            size: self.index.1.len() as u64,
        };
        (section == CfiSection::ArmIndex).then_some(range)
    }

    fn read_section(&self, _: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        buf.copy_from_slice(self.index.1.get(start..start + buf.len())?);
        Some(())
    }

    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize {
        let piece = self.pieces.iter().find_map(|(start, bytes)| {
            bytes.get(usize::try_from(address.0.checked_sub(*start)?).ok()?..)
        });
        let piece = piece.unwrap_or(&[]);
        let len = piece.len().min(buf.len());
        buf[..len].copy_from_slice(&piece[..len]);
        len
    }

    fn function_start(&self, _: FileAddress) -> Option<FileAddress> {
        None
    }
}

/// `cfa=r13+8 r4@-8 r14@-4`
fn show(rule: &Rule) -> String {
    let mut text = match &rule.cfa {
        Cfa::Register(number, offset) => format!("cfa=r{number}+{offset}"),
        Cfa::Expression(slice) => format!("cfa={:02x?}", bytes(rule, slice)),
    };
    for (number, column) in &rule.columns {
        match column {
            Column::At(offset) => write!(text, " r{number}@{offset}"),
            Column::AtExpression(slice) => write!(text, " r{number}@{:02x?}", bytes(rule, slice)),
            other => write!(text, " r{number} {other:?}"),
        }
        .unwrap();
    }
    text
}

fn bytes<'a>(rule: &'a Rule, slice: &Slice) -> &'a [u8] {
    &rule.expressions[slice.start as usize..slice.end as usize]
}

#[track_caller]
fn shows(code: &[u8], expected: &str) {
    let rule = run(code).map_or("none".to_owned(), |rule| show(&rule));
    assert_eq!(rule, expected, "{code:02x?}");
}

/// Table 4 of section 10.3, line by line.
#[test]
fn each_instruction_has_its_meaning() {
    shows(&[0xb0], "cfa=r13+0");
    shows(&[], "cfa=r13+0");
    shows(&[0x01, 0xb0, 0x3f], "cfa=r13+8");
    shows(&[0x3f], "cfa=r13+256");
    shows(&[0x41], "cfa=r13+-8");
    shows(&[0x80, 0x00], "none");
    shows(&[0x80, 0x08], "cfa=r13+4 r7@-4");
    shows(&[0x88, 0x01], "cfa=r13+8 r4@-8 r15@-4");
    shows(&[0x84, 0x80], "cfa=r13+8 r11@-8 r14@-4");
    shows(&[0x80], "none");
    shows(&[0x9b, 0x40, 0x84, 0x80], "cfa=r11+4 r11@-8 r14@-4");
    shows(&[0x9d], "none");
    shows(&[0x9f], "none");
    shows(&[0xa3], "cfa=r13+16 r4@-16 r5@-12 r6@-8 r7@-4");
    shows(&[0xa8], "cfa=r13+8 r4@-8 r14@-4");
    shows(&[0xb1, 0x00], "none");
    shows(&[0xb1, 0x0f], "cfa=r13+16 r0@-16 r1@-12 r2@-8 r3@-4");
    shows(&[0xb1, 0x10], "none");
    shows(&[0xb2, 0x00], "cfa=r13+516");
    shows(&[0xb2, 0x81, 0x02], "cfa=r13+1544");
    shows(&[0xb2, 0x80], "none");
    shows(&[0xb3, 0x81], "cfa=r13+20");
    shows(&[0xb4], "cfa=r13+4");
    shows(&[0xb5], "cfa=r13+0");
    shows(&[0xb6], "none");
    shows(&[0xb9], "cfa=r13+20");
    shows(&[0xc1], "cfa=r13+16");
    shows(&[0xc6, 0x22], "cfa=r13+24");
    shows(&[0xc7, 0x05], "cfa=r13+8");
    shows(&[0xc7, 0x00], "none");
    shows(&[0xc7, 0x10], "none");
    shows(&[0xc8, 0x01], "cfa=r13+16");
    shows(&[0xc9, 0x8f], "cfa=r13+128");
    shows(&[0xca], "none");
    shows(&[0xd7], "cfa=r13+64");
    shows(&[0xd8], "none");
    shows(&[0xff], "none");
}

/// What was saved below a stack that is then left, and a stack pointer that was saved.
#[test]
fn a_loaded_register_can_become_the_stack_pointer() {
    // r4 from the stack, then everything else from where it points.
    let (dup, plus, deref, consts) = (0x7d, 0x22, 0x06, 0x11);
    let text = format!(
        "cfa={:02x?} r4@{:02x?} r14@-4",
        [dup, 0, deref, consts, 4, plus],
        [dup, 0]
    );
    shows(&[0xa0, 0x94, 0x84, 0x00], &text);
    // pop {r13, r14}
    let text = format!(
        "cfa={:02x?} r14@{:02x?}",
        [dup, 0, deref, consts, 0, plus],
        [dup, 4]
    );
    shows(&[0x86, 0x00], &text);
    // And so on without an end: it is given up.
    shows(&[0xa0, 0x94].repeat(64), "none");
}

#[test]
fn numbers_of_expressions_are_encoded_with_their_sign() {
    for (number, expected) in [
        (0, &[0][..]),
        (63, &[63]),
        (64, &[0xc0, 0]),
        (-64, &[0x40]),
        (-65, &[0xbf, 0x7f]),
        (516, &[0x84, 0x04]),
    ] {
        let mut code = Vec::new();
        sleb128(&mut code, number);
        assert_eq!(code, expected, "{number}");
    }
}

fn relative(place: u64, to: u64) -> u32 {
    (to.wrapping_sub(place) as u32) & 0x7fff_ffff
}

/// Five functions, in each form of entry; the table lies at 0x8000, `.ARM.extab` at 0x7000.
fn file() -> File {
    let table: [u32; 8] = [
        // Personality 1: one more word, so six instructions.
        0x8101_a8b0,
        0xb0b0_b0b0,
        // Generic: the personality, one more word, so seven.
        relative(0x7008, 0x1000),
        0x0101_a8b0,
        0xb0b0_b0b0,
        // Personality 0.
        0x8002_a8b0,
        // None of these.
        0x8300_0000,
        // The address of a personality whose words are cut off.
        relative(0x701c, 0x1000),
    ];
    let entries = [
        (0x1000, 0x8000_a8b0),
        (0x1100, relative(0x800c, 0x7000)),
        (0x1200, relative(0x8014, 0x7008)),
        (0x1300, relative(0x801c, 0x7014)),
        (0x1400, CANNOT_UNWIND),
        (0x1500, relative(0x802c, 0x7018)),
        (0x1600, relative(0x8034, 0x701c)),
        (0x1700, 0x8100_a8b0),
        (0x1800, relative(0x8044, 0x6000)),
    ];
    let index = (0x8000_u64..).step_by(8).zip(entries);
    let words = index.flat_map(|(place, (start, content))| [relative(place, start), content]);
    let bytes = |words: Vec<u32>| words.into_iter().flat_map(u32::to_le_bytes).collect();
    File {
        index: (0x8000, bytes(words.collect())),
        pieces: vec![(0x7000, bytes(table.to_vec()))],
    }
}

#[test]
fn each_form_of_entry_is_read() {
    let file = file();
    let at = |address| rule(&file, FileAddress(address)).map(|rule| (rule.start.0, show(&rule)));
    let inline = "cfa=r13+12 r4@-8 r14@-4";
    let found = |start, text: &str| Some((start, text.to_owned()));
    assert_eq!(at(0xfff), None, "below all of them");
    assert_eq!(at(0x1000), found(0x1000, inline));
    assert_eq!(at(0x10ff), found(0x1000, inline));
    assert_eq!(at(0x1100), found(0x1100, "cfa=r13+8 r4@-8 r14@-4"));
    assert_eq!(at(0x1200), found(0x1200, "cfa=r13+16 r4@-8 r14@-4"));
    assert_eq!(at(0x1300), found(0x1300, "cfa=r13+20 r4@-8 r14@-4"));
    assert_eq!(at(0x1400), None, "cannot be unwound");
    assert_eq!(at(0x1500), None, "no such personality");
    assert_eq!(at(0x1600), None, "cut off");
    assert_eq!(at(0x1700), None, "no room for personality 1");
    assert_eq!(at(0x1800), None, "leads to nothing");
}

/// Whatever the bytes are: no panic, no loop, no memory without end.
#[test]
fn hostile_tables_are_survived() {
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    for length in 0..200 {
        let mut bytes = |count: usize| (0..count).map(|_| random()).collect::<Vec<u8>>();
        let file = File {
            index: (0x8000, bytes(length)),
            pieces: vec![(0, bytes(0x400))],
        };
        for address in [0, 0x7f00, 0x8000, 0x4000_7fff, u64::MAX] {
            if let Some(rule) = rule(&file, FileAddress(address)) {
                assert!(rule.columns.len() <= 16);
            }
        }
        let _ = run(&bytes(300));
    }
}

/// The virtual machine once more, on the text that another tool writes.
fn by_text(text: &str) -> String {
    if text == "none" {
        return text.to_owned();
    }
    let mut base = "13".to_owned();
    let mut offset = 0;
    let mut loaded = std::collections::BTreeMap::new();
    for instruction in text.split(';') {
        if let Some(rest) = instruction.strip_prefix("vsp = vsp ") {
            let (sign, number) = rest.split_once(' ').unwrap();
            let number: i64 = number.parse().unwrap();
            offset += if sign == "-" { -number } else { number };
        } else if let Some(register) = instruction.strip_prefix("vsp = r") {
            assert!(loaded.is_empty(), "{text}");
            (base, offset) = (register.to_owned(), 0);
        } else if let Some(list) = instruction.strip_prefix("pop {") {
            for register in list.trim_end_matches('}').split(", ") {
                if let Some(range) = register.strip_prefix('D') {
                    let (first, last) = range.split_once("-D").unwrap_or((range, range));
                    let [first, last] = [first, last].map(|number| number.parse::<i64>().unwrap());
                    offset += (last - first + 1) * 8;
                    continue;
                }
                let number: u16 = register[1..].parse().unwrap();
                loaded.insert(number, offset);
                offset += 4;
            }
        } else {
            assert_eq!(instruction, "finish", "{text}");
            break;
        }
    }
    // The stack pointer itself was saved: all places are counted from the one before.
    if let Some(&at) = loaded.get(&13) {
        let place = |at: i64| {
            let mut code = vec![0x7d];
            sleb128(&mut code, at);
            code
        };
        let mut text = format!(
            "cfa={:02x?}",
            [&place(at)[..], &[0x06, 0x11, 0, 0x22]].concat()
        );
        for (number, at) in loaded.into_iter().filter(|(number, _)| *number != 13) {
            write!(text, " r{number}@{:02x?}", place(at)).unwrap();
        }
        return text;
    }
    let mut text = format!("cfa=r{base}+{offset}");
    for (number, at) in loaded {
        write!(text, " r{number}@{}", at - offset).unwrap();
    }
    text
}

/// Every entry of libraries, at its first byte and at its last: tests/arm_tables.py makes the
/// list.
#[test]
#[ignore = "needs libraries: make check-arm-tables"]
fn entries_are_as_readelf_has_them() {
    let list = std::env::var_os("ARM_TABLES").expect("the list's place in ARM_TABLES");
    let list = std::fs::read_to_string(list).expect("the list");
    let (mut count, mut with_rules) = (0, 0);
    for part in list.split("file ").filter(|part| !part.is_empty()) {
        let mut lines = part.lines();
        let path = lines.next().expect("a path");
        let file = loaded(&std::fs::read(path).expect(path));
        let entries: Vec<(u64, &str)> = lines
            .map(|line| line.split_once(' ').expect("an entry"))
            .map(|(start, text)| (u64::from_str_radix(start, 16).expect("an address"), text))
            .collect();
        for (index, &(start, text)) in entries.iter().enumerate() {
            let end = entries.get(index + 1).map_or(start + 2, |next| next.0);
            let expected = by_text(text);
            for address in [start, end - 1] {
                let rule = rule(&file, FileAddress(address));
                let found = rule.as_ref().map_or("none".to_owned(), show);
                assert_eq!(found, expected, "{path} {address:#x}: {text}");
                assert!(rule.is_none_or(|rule| rule.start.0 == start));
            }
            count += 1;
            with_rules += usize::from(expected != "none");
        }
        println!("{path}: {} entries", entries.len());
    }
    println!("{count} entries, {with_rules} of them can be unwound: no mismatch");
    assert!(with_rules > 0, "nothing was compared");
}

/// The segments of an ELF file, and its index.
fn loaded(bytes: &[u8]) -> File {
    let word = |at: usize| u64::from(number(&bytes[at..at + 4]));
    let (table, count) = (word(28) as usize, usize::from(bytes[44]));
    let mut file = File {
        index: (0, Vec::new()),
        pieces: Vec::new(),
    };
    for header in (table..).step_by(32).take(count) {
        let [kind, offset, address, _, size] = [0, 4, 8, 12, 16].map(|at| word(header + at));
        let content = bytes[offset as usize..(offset + size) as usize].to_vec();
        match kind {
            1 => file.pieces.push((address, content)),
            0x7000_0001 => file.index = (address, content),
            _ => {}
        }
    }
    file
}
