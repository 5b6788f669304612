use super::*;
use crate::base::address::{FileOffset, ProcessAddress};
use crate::capture::record::abi;
use crate::crash::event::{FileIdentity, Lost, MemoryWindow, Siginfo, Trap, VmFlags};
use crate::crash::registers::{Arch, Registers as Seen, WORDS};

const PC: u64 = 0x40_1000;

fn expected() -> Expected {
    Expected {
        name: facts::thread_name(b"abcdefgh", CHILD),
        pid: 77,
        parent: 70,
        signal: SIGBUS,
        code: BUS_ADRERR,
        address: 0x7f00_0000_1128,
        sp: 0x7f00_0000_0800,
        values: [1, 2, 3, 4, 5, 6],
        began_ns: 5_000_000_000,
        ended_ns: 5_001_000_000,
        brk: 0x60_0000,
        mnt_ns: Some(9),
        exe: Some(b"tool".to_vec()),
        argument: Some(b"./tool".to_vec()),
        has_stack: true,
        lost: Vec::new(),
    }
}

/// A record of nothing.
fn empty() -> Event {
    let mut assembler = Assembler::new(4096, 1 << 20);
    let mut part = |kind: u32, bytes: usize| {
        let mut part = vec![0; bytes];
        part[..4].copy_from_slice(&kind.to_ne_bytes());
        part[4..8].copy_from_slice(&(bytes as u32).to_ne_bytes());
        part[8] = 1;
        assembler.feed(&part).expect("a part")
    };
    assert!(part(1, abi::HEADER_IN_RING - 8).is_none());
    part(5, abi::END_IN_RING - 8).expect("an event")
}

fn mapping() -> Mapping {
    Mapping {
        start: ProcessAddress(PC & !0xfff),
        end: ProcessAddress((PC & !0xfff) + 0x1000),
        flags: VmFlags(5),
        file: Some(MappedFile {
            head: None,
            identity: FileIdentity::default(),
            offset: FileOffset(0),
            path: b"/opt/tool".to_vec(),
            lower_path: None,
            deleted: false,
            detached: false,
            truncated: false,
        }),
    }
}

/// The event of a correct capture.
fn event() -> Event {
    let expected = expected();
    let mut registers = Seen::new(Arch::NATIVE, [0; WORDS]);
    for (number, value) in NUMBERS.into_iter().zip(expected.values) {
        registers.set_dwarf(number, value);
    }
    let (pc, sp) = match Arch::NATIVE {
        Arch::Aarch64 => (32, 31),
        _ => (16, 7),
    };
    registers.set_dwarf(pc, PC);
    registers.set_dwarf(sp, expected.sp);
    let window = |address, bytes| MemoryWindow {
        address: ProcessAddress(address),
        bytes,
    };
    Event {
        signal: expected.signal,
        code: expected.code,
        siginfo: Siginfo::Address(ProcessAddress(expected.address)),
        disposition: Disposition::Handled,
        trap: Some(Trap {
            address: expected.address,
            error_code: match Arch::NATIVE {
                Arch::Aarch64 => 0x9200_0047,
                _ => 6,
            },
            number: match Arch::NATIVE {
                Arch::Aarch64 => 0,
                _ => 14,
            },
        }),
        boot_ns: expected.began_ns + 1000,
        start_ns: expected.began_ns + 10,
        pid: Some(expected.pid),
        ppid: Some(expected.parent),
        mnt_ns: 9,
        comm: expected.name[..15].to_vec(),
        thread: expected.name[..15].to_vec(),
        exe: Some(b"/opt/tool".to_vec()),
        cmdline: Some(b"./tool -t".to_vec()),
        brk: ProcessAddress(expected.brk),
        registers: Some(registers),
        code_bytes: window(PC - 16, [&[0x90; 16], own_fault::FAULTING].concat()),
        windows: vec![window(expected.sp - 128, vec![FILL; 1024])],
        mappings: vec![mapping()],
        ..empty()
    }
}

fn trap(event: &mut Event) -> &mut Trap {
    event.trap.as_mut().expect("set by event()")
}

/// A word that the verdict contains, and what is changed for it.
type Change = (&'static str, Edit);
type Edit = fn(&mut Event);

#[test]
fn what_is_as_expected_is_right() {
    assert_eq!(wrong(&event(), &expected()), None);
    assert_eq!(doubtful(&event(), &expected()), [""; 0]);
}

/// Before 5.11 a sample has these registers only if the kernel saved them.
#[test]
fn what_a_record_lacks_is_not_wrong() {
    let mut event = event();
    let mut registers = event.registers.expect("registers");
    for number in NUMBERS {
        registers.set_dwarf(number, u64::MAX);
    }
    event.registers = Some(registers);
    assert_eq!(wrong(&event, &expected()), Some("a register"));
    event.registers = Some(registers.without(u64::MAX));
    assert_eq!(wrong(&event, &expected()), None);
}

/// As with types of another kernel: whatever is read elsewhere is noticed.
#[test]
fn whatever_differs_is_wrong() {
    let changes: [Change; 12] = [
        ("signal", |event| event.code = 1),
        ("registers", |event| event.registers = None),
        ("register", |event| {
            let mut registers = event.registers.expect("registers");
            registers.set_dwarf(NUMBERS[3], 0);
            event.registers = Some(registers);
        }),
        ("fault's address", |event| {
            event.siginfo = Siginfo::Address(ProcessAddress(0))
        }),
        ("trap data", |event| trap(event).address ^= 8),
        ("error code", |event| trap(event).error_code = 0),
        ("name", |event| event.comm.clear()),
        ("name", |event| event.thread = b"other".to_vec()),
        ("process id", |event| {
            (event.pid, event.ns_pid) = (Some(2_168_138_672), 0)
        }),
        ("time", |event| event.boot_ns = 0),
        ("code", |event| event.code_bytes.bytes.fill(0)),
        ("handler", |event| event.disposition = Disposition::Fatal),
    ];
    for (word, change) in changes {
        let mut event = event();
        change(&mut event);
        let found = wrong(&event, &expected());
        assert!(
            found.is_some_and(|found| found.contains(word)),
            "{word}: {found:?}"
        );
    }
}

#[test]
fn details_are_doubtful_by_name_unless_they_are_lost() {
    let changes: [(&str, &str, Edit); 9] = [
        ("parent", "ppid", |event| event.ppid = Some(1)),
        ("start", "start_time", |event| event.start_ns = 7),
        ("layout", "memory_layout", |event| event.brk.0 = 1),
        ("namespace", "mount_namespace", |event| event.mnt_ns = 1),
        ("mappings", "mappings", |event| event.mappings.clear()),
        ("mappings", "mappings", |event| {
            let file = event.mappings[0].file.as_mut().expect("a file");
            file.path = b"/opt/tools".to_vec();
        }),
        ("executable", "exe", |event| {
            event.exe = Some(b"/opt/another".to_vec())
        }),
        ("command line", "cmdline", |event| {
            event.cmdline = Some(b"PASSWORD=x".to_vec())
        }),
        ("stack", "stack", |event| event.windows.clear()),
    ];
    for (word, detail, change) in changes {
        let mut event = event();
        change(&mut event);
        assert_eq!(wrong(&event, &expected()), None);
        let found = doubtful(&event, &expected());
        assert!(
            found.len() == 1 && found[0].contains(word),
            "{word}: {found:?}"
        );
        let expected = Expected {
            lost: vec![detail],
            ..expected()
        };
        assert_eq!(doubtful(&event, &expected), [""; 0], "{word}");
    }
}

/// What comes in further parts may be missing, but not wrong.
#[test]
fn a_record_that_was_cut_off_is_compared_as_far_as_it_came() {
    let cut = || {
        let mut event = event();
        event.lost.push(Lost {
            detail: "end",
            reason: "",
        });
        event
    };
    let found = |change: Edit| {
        let mut event = cut();
        change(&mut event);
        doubtful(&event, &expected()).len()
    };
    assert_eq!(wrong(&cut(), &expected()), None);
    assert_eq!(found(|_| ()), 0);
    assert_eq!(found(|event| event.mappings.clear()), 0);
    assert_eq!(found(|event| event.windows.clear()), 0);
    assert_eq!(found(|event| event.ppid = Some(1)), 1);
    assert_eq!(found(|event| event.start_ns = 7), 1);
    assert_eq!(found(|event| event.exe = Some(b"/opt/another".to_vec())), 1);
    assert_eq!(found(|event| event.mappings[0].flags = VmFlags(1)), 1);
}
