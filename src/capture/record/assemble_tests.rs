use super::*;

const HEADER_BYTES: u32 = (abi::HEADER_IN_RING - 8) as u32;
const END_BYTES: u32 = (abi::END_IN_RING - 8) as u32;

fn part(kind: u32, id: u64, size: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(size as usize, 0);
    bytes
}

fn stack(id: u64, address: u64, bytes: &[u8]) -> Vec<u8> {
    let mut body = address.to_le_bytes().to_vec();
    body.extend_from_slice(bytes);
    part(4, id, 16 + body.len() as u32, &body)
}

/// An event about which nothing is known.
pub(super) fn nothing() -> Event {
    let mut assembler = Assembler::new(4096, 0);
    let _ = assembler.feed(&part(1, 1, HEADER_BYTES, &[]));
    let event = assembler.feed(&part(5, 1, END_BYTES, &[]));
    event.unwrap().unwrap()
}

#[test]
fn ranges_have_the_name_of_their_number() {
    let mut assembler = Assembler::new(4096, 1 << 20);
    let words =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    // A page of code; the same file's data, another file's, and nobody's.
    let mut named = words(&[0x1000, 0x2000, 5, 0, 0, 0, 0]);
    named.extend_from_slice(&[0; 8]);
    named.extend_from_slice(&(0x11u32 | 3 << 8).to_le_bytes());
    named.extend_from_slice(&[4, 0, 0, 0]);
    // No head.
    named.extend_from_slice(&[0; 16]);
    named.extend_from_slice(b"lib\0\0\0\0\0");
    let mut ranges = words(&[0x2000, 0x3000, 3, 1, 3, 0]);
    ranges.extend(words(&[0x4000, 0x5000, 3, 0, 4, 0]));
    ranges.extend(words(&[0x6000, 0x7000, 7, 0, 0, 0]));
    for bytes in [
        part(1, 1, HEADER_BYTES, &[]),
        part(6, 1, 16 + 144, &ranges),
        part(3, 1, 16 + 96, &named),
    ] {
        assert_eq!(assembler.feed(&bytes), Ok(None));
    }
    let event = assembler
        .feed(&part(5, 1, END_BYTES, &[]))
        .unwrap()
        .unwrap();
    let files: Vec<_> = event
        .mappings
        .iter()
        .map(|mapping| mapping.file.as_ref())
        .collect();
    assert_eq!(files[0].unwrap().path, b"/lib");
    assert_eq!(files[1].unwrap().path, b"/lib");
    assert_eq!(files[1].unwrap().offset, FileOffset(4096));
    assert_eq!(files[2].unwrap().path, b"");
    assert!(files[3].is_none());
}

#[test]
fn records_of_two_cpus_are_distinguished() {
    let mut assembler = Assembler::new(4096, 1 << 20);
    let (one, two) = (1 << 48 | 7, 2 << 48 | 7);
    for bytes in [
        part(1, one, HEADER_BYTES, &[]),
        part(1, two, HEADER_BYTES, &[]),
        stack(two, 0x2000, b"two"),
        stack(one, 0x1000, b"on"),
        stack(one, 0x1002, b"e"),
    ] {
        assert_eq!(assembler.feed(&bytes), Ok(None));
    }
    let event = assembler
        .feed(&part(5, one, END_BYTES, &[]))
        .unwrap()
        .unwrap();
    assert_eq!(event.windows.len(), 1);
    assert_eq!(event.windows[0].bytes, b"one");
    assert!(event.lost.is_empty());
    assert!(assembler.is_waiting());
}

#[test]
fn a_record_without_end_comes_when_its_cpu_begins_another() {
    let mut assembler = Assembler::new(4096, 1 << 20);
    assert_eq!(assembler.feed(&part(1, 1, HEADER_BYTES, &[])), Ok(None));
    let cut_off = assembler
        .feed(&part(1, 2, HEADER_BYTES, &[]))
        .unwrap()
        .unwrap();
    assert_eq!(cut_off.id, 1);
    assert_eq!(cut_off.lost[0].detail, "end");
    assert_eq!(assembler.give_up().count(), 1);
    assert_eq!(
        assembler.feed(&part(5, 2, END_BYTES, &[])),
        Ok(None),
        "came too late"
    );
    assert_eq!(assembler.strays(), 1);
}

#[test]
fn what_finds_no_room_is_left_out_and_named() {
    let mut assembler = Assembler::new(4096, 10);
    for bytes in [
        part(1, 1, HEADER_BYTES, &[]),
        stack(1, 0x1000, b"12345678"),
        stack(1, 0x1008, b"9ab"),
        part(1, 1 << 48 | 1, HEADER_BYTES, &[]),
        stack(1 << 48 | 1, 0x1000, b"123"),
    ] {
        assert_eq!(assembler.feed(&bytes), Ok(None));
    }
    let mut end = |id| {
        assembler
            .feed(&part(5, id, END_BYTES, &[]))
            .unwrap()
            .unwrap()
    };
    let (first, second) = (end(1), end(1 << 48 | 1));
    assert_eq!(first.windows[0].bytes, b"12345678");
    assert!(second.windows.is_empty());
    assert_eq!(
        (first.lost[0].detail, second.lost[0].detail),
        ("stack", "stack")
    );
    let mut feed = |bytes: Vec<u8>| assembler.feed(&bytes);
    assert_eq!(feed(part(1, 2, HEADER_BYTES, &[])), Ok(None));
    assert_eq!(feed(stack(2, 0x1000, b"1234567890")), Ok(None));
    let third = feed(part(5, 2, END_BYTES, &[])).unwrap().unwrap();
    assert!(third.lost.is_empty(), "those before it have left");
}

#[test]
fn paths_are_turned_round() {
    assert_eq!(path(b"ls\0bin\0usr\0", 0), b"/usr/bin/ls");
    assert_eq!(
        path(b"ls\0bin\0", abi::path_flags::TRUNCATED),
        b".../bin/ls"
    );
    assert_eq!(path(b"", 0), b"/");
    assert_eq!(path(b"memfd:x\0", 0), b"/memfd:x");
}

#[test]
fn windows_around_registers_are_joined_where_they_overlap() {
    let window = |address, bytes: &[u8]| MemoryWindow {
        address: ProcessAddress(address),
        bytes: bytes.to_vec(),
    };
    let windows = vec![
        window(0x40, b"four"),
        window(0x10, b"0123"),
        window(0x12, b"23456"),
        window(0x13, b"3"),
        window(0x17, b"789"),
    ];
    let expected = vec![window(0x10, b"0123456789"), window(0x40, b"four")];
    assert_eq!(joined(windows), expected);
}
