use super::*;

#[test]
fn a_part_must_have_the_size_that_it_claims() {
    let mut bytes = vec![5, 0, 0, 0, 48, 0, 0, 0];
    bytes.resize(47, 0);
    assert_eq!(
        decode(&bytes).unwrap_err(),
        BadPart::Size { said: 48, came: 47 }
    );
    bytes.push(0);
    assert!(matches!(decode(&bytes), Ok((0, Part::End(_)))));
}

#[test]
fn mappings_carry_two_paths_and_are_padded() {
    let mut bytes = vec![0; RawPart::SIZE];
    bytes[0] = 3;
    for (path, lower, head) in [
        (&b"ls\0bin\0"[..], &b""[..], &b"\x7fELF"[..]),
        (&b"x\0"[..], &b"y\0z\0"[..], &b""[..]),
    ] {
        let mut raw = [0; RawMapping::SIZE];
        raw[68..70].copy_from_slice(&(path.len() as u16).to_le_bytes());
        raw[70..72].copy_from_slice(&(lower.len() as u16).to_le_bytes());
        raw[80..84].copy_from_slice(&(head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&raw);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(lower);
        bytes.resize(bytes.len().next_multiple_of(8), 0xee);
    }
    let size = (bytes.len() as u32).to_le_bytes();
    bytes[4..8].copy_from_slice(&size);
    let Ok((_, Part::Mappings(mappings))) = decode(&bytes) else {
        panic!("not decoded");
    };
    assert_eq!(mappings[0].path, b"ls\0bin\0");
    assert_eq!(mappings[0].head, b"\x7fELF");
    assert_eq!(
        (mappings[1].path, mappings[1].lower),
        (&b"x\0"[..], &b"y\0z\0"[..])
    );
}

#[test]
fn any_cut_is_an_error_or_a_part_and_never_a_panic() {
    for kind in 0..12 {
        let mut bytes = vec![0xff; 1200];
        bytes[..4].copy_from_slice(&u32::to_le_bytes(kind));
        for len in 0..bytes.len() {
            let size = (len as u32).to_le_bytes();
            bytes[4..8].copy_from_slice(&size);
            let _ = decode(&bytes[..len]);
        }
    }
}
