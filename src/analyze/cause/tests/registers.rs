//! What registers point at.

use super::*;
use crate::report::Symbol;

fn note(event: &mut Event, value: u64, name: Option<&str>) -> String {
    let place = Location {
        symbol: name.map(|name| Symbol {
            name: name.as_bytes().to_vec(),
            offset: 0x12,
        }),
        module: Some(b"/bin/prog".to_vec()),
        ..Location::default()
    };
    let note = super::super::note(event, value, 64, &place, true);
    String::from_utf8_lossy(&note).into_owned()
}

#[test]
fn every_kind_of_value() {
    let mut event = quiet(Arch::X86_64);
    assert_eq!(note(&mut event, 0, None), "null");
    assert_eq!(note(&mut event, 42, None), "small integer 42");
    assert_eq!(note(&mut event, u64::MAX, None), "small integer -1");
    assert_eq!(note(&mut event, PC, Some("main")), "main+0x12 (/bin/prog)");
    assert_eq!(
        note(&mut event, RODATA + 16, None),
        "/bin/prog (r--) at file offset 0x1010"
    );
    assert_eq!(note(&mut event, HEAP + 16, None), "[heap]+0x10 (rw-)");
    assert_eq!(
        note(&mut event, 0x4141_4141_4141_4141, None),
        "looks like the text \"AAAAAAAA\""
    );
    assert_eq!(note(&mut event, 0x1234_5678_9abc, None), "");
    let of_32_bits = super::super::note(&event, 0xffff_fffe, 32, &Location::default(), true);
    assert_eq!(of_32_bits, b"small integer -2");
}

/// As `--no-memory` wants it.
#[test]
fn no_text_where_none_may_be_shown() {
    let event = quiet(Arch::X86_64);
    let note = |value| super::super::note(&event, value, 64, &Location::default(), false);
    assert_eq!(note(0x4141_4141_4141_4141), b"looks like text");
    assert_eq!(note(0xdead_beef), b"looks like the fill pattern 0xdeadbeef");
    // mov (%rbx), %eax; call *%rax
    for (code, register) in [(&[0x8b, 0x03], "rbx"), (&[0xff, 0xd0], "rax")] {
        let made = Made::new(Arch::X86_64).at(code, &[(register, 0x4141_4141_4141_4141)]);
        let said = made.protection().verdict_with(false).text;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.ends_with(" looks like text"), "{said}");
    }
}

#[test]
fn text_where_it_was_captured() {
    let mut event = quiet(Arch::X86_64);
    let mut bytes = b"hello\0\x01abc\0".to_vec();
    bytes.extend_from_slice(&[b'x'; 60]);
    event.windows.push(MemoryWindow {
        address: ProcessAddress(STACK + 0x100),
        bytes,
    });
    assert_eq!(
        note(&mut event, STACK + 0x100, None),
        "[stack]+0x100 (rw-) \"hello\""
    );
    assert_eq!(
        note(&mut event, STACK + 0x107, None),
        "[stack]+0x107 (rw-)",
        "too short"
    );
    assert_eq!(
        note(&mut event, STACK + 0x10b, None),
        format!("[stack]+0x10b (rw-) \"{}...\"", "x".repeat(40))
    );
    assert_eq!(
        note(&mut event, STACK + 0x140, None),
        "[stack]+0x140 (rw-)",
        "its end was not captured"
    );
}
