use std::rc::Rc;

use super::*;
use crate::capture::perf::change::name;
use crate::capture::perf::processes::KnownFile;

const PC: u64 = 0x40_1234;
const SP: u64 = 0x8000;

fn delivery(code: i32) -> Delivery {
    let mut words = [7; 34];
    (words[16], words[19]) = (PC, SP);
    Delivery {
        pid: 7,
        tid: 8,
        time_ns: 1,
        signal: SIGSEGV,
        code,
        handler: 0,
        registers: Some(Registers::new(Arch::X86_64, words)),
        stack: Vec::new(),
        stack_room: 0,
    }
}

fn process(start: u64) -> Process {
    let file = KnownFile {
        inode: 42,
        device: 1,
        path: b"/bin/x".to_vec(),
        deleted: false,
        detached: false,
    };
    let file = Some(Rc::new(file));
    let mapping = KnownMapping {
        start,
        end: start + 0x1000,
        flags: 5,
        file_offset: 0x1000,
        mapped_unix_ns: 99,
        file: file.clone(),
    };
    Process {
        name: name(b"x"),
        named_ns: 1,
        thread_names: vec![(8, name(b"worker"))],
        exe: file,
        cmdline: Some(Rc::from(*b"x -v")),
        mappings: Rc::new(vec![mapping]),
        ..Process::default()
    }
}

fn event_of(delivery: Delivery, process: Option<&Process>, gap: Option<Gap>) -> Event {
    event(delivery, around(process, gap))
}

fn around(process: Option<&Process>, gap: Option<Gap>) -> Circumstances<'_> {
    Circumstances {
        id: 1,
        boot_ns: 5,
        process,
        parent: Some(1),
        gap,
        may_be_renamed: false,
        first_fault: None,
        look: None,
        repeats: 0,
        wants_stack: false,
        wants_memory: false,
        wants_threads: false,
    }
}

fn details(event: &Event) -> Vec<&'static str> {
    event.lost.iter().map(|lost| lost.detail).collect()
}

#[test]
fn what_is_not_known_is_named_and_has_no_value() {
    let process = process(0x40_1000);
    let event = event_of(delivery(SEGV_MAPERR), Some(&process), None);
    assert_eq!((event.trap, event.siginfo), (None, Siginfo::Unknown));
    assert_eq!(
        details(&event),
        [
            "data_mappings",
            "fault_address",
            "access",
            "uid",
            "ns_pid",
            "cgroup"
        ]
    );
    assert_eq!(event.comm, b"x");
    assert_eq!(event.thread, b"worker");
    assert_eq!(event.exe.as_deref(), Some(&b"/bin/x"[..]));
    assert_eq!(event.cmdline.as_deref(), Some(&b"x -v"[..]));
    let file = event.mappings[0].file.as_ref().unwrap();
    assert_eq!(file.identity.mapped_unix_ns, Some(99));
    let sent = event_of(delivery(0), Some(&process), None);
    assert_eq!(
        details(&sent),
        ["data_mappings", "sender", "uid", "ns_pid", "cgroup"]
    );
}

#[test]
fn a_process_that_is_not_gone_yet_tells_more() {
    let process = process(0x40_1000);
    let around = Circumstances {
        look: Some(Look {
            parent: 3,
            uid: 1000,
            own_pid: 2,
            cgroup: Some(b"/x".to_vec()),
        }),
        ..around(Some(&process), None)
    };
    let event = event(delivery(SEGV_MAPERR), around);
    assert_eq!(
        (event.ppid, event.uid, event.ns_pid),
        (Some(3), Some(1000), 2)
    );
    assert_eq!(event.cgroup.as_deref(), Some(&b"/x"[..]));
    assert_eq!(
        details(&event),
        ["data_mappings", "fault_address", "access"]
    );
}

#[test]
fn of_a_process_that_nobody_saw_little_is_known() {
    let event = event_of(delivery(SEGV_MAPERR), None, Some(Gap::Unseen));
    for detail in ["exe", "comm", "cmdline", "data_mappings", "fault_address"] {
        assert!(details(&event).contains(&detail), "{detail}");
    }
    assert!(event.mappings.is_empty() && event.comm.is_empty());
}

#[test]
fn a_call_into_nowhere_has_the_address_of_its_instruction() {
    let at = |pc: u64, code| Delivery {
        registers: Some(Registers::new(Arch::X86_64, [pc; 34])),
        ..delivery(code)
    };
    let process = process(0x40_1000);
    let event = event_of(at(0x10, SEGV_MAPERR), Some(&process), None);
    let address = ProcessAddress(0x10);
    assert_eq!(event.siginfo, Siginfo::Address(address));
    assert_eq!(event.trap.map(|trap| trap.address), Some(0x10));
    assert!(!details(&event).contains(&"fault_address"));
    assert!(certain_fault(&at(0x10, 2)).is_none(), "something is mapped");
    let elsewhere = certain_fault(&at(0x10_0000, SEGV_MAPERR));
    assert!(elsewhere.is_none(), "code may have been moved there");
}

#[test]
fn after_a_loss_nothing_is_called_what_it_was() {
    let process = process(0x40_1000);
    let around = Circumstances {
        may_be_renamed: true,
        ..around(Some(&process), Some(Gap::Lost))
    };
    let event = event(delivery(SEGV_MAPERR), around);
    assert_eq!((event.exe.as_ref(), event.cmdline.as_ref()), (None, None));
    for detail in ["exe", "comm", "cmdline", "mappings"] {
        assert!(details(&event).contains(&detail), "{detail}");
    }
}

#[test]
fn arguments_are_no_part_of_the_stack() {
    let vdso = 0x7000u64;
    let words = [1, 2, 1, SP + 9 * 8, 0, 0, 33, vdso, 0];
    let mut delivery = delivery(SEGV_MAPERR);
    delivery.stack = words
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    delivery.stack.extend_from_slice(b"secret\0");
    let process = Process {
        vdso,
        ..process(0x40_1000)
    };
    let event = event_of(delivery, Some(&process), None);
    assert_eq!(event.windows[0].bytes.len(), 16);
    assert_eq!(event.start_stack.0, SP + 16);
    assert_eq!(event.cmdline.as_deref(), Some(&b"secret\0"[..]));
}
