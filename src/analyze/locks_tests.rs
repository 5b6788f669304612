use super::*;
use crate::capture::record::abi;
use crate::capture::record::assemble::Assembler;
use crate::crash::frame::Trust;
use crate::crash::memory::MemoryWindow;
use crate::crash::registers::{Registers, WORDS};
use crate::crash::threads::{State, Threads};
use crate::report::threads::ReportThread;
use crate::report::{Location, Symbol};

const LOCK: u64 = 0x60_0000;
const FUTEX_WAIT: u64 = 0x80;
const FUTEX_LOCK_PI: u64 = 0x86;

/// A record whose every byte is zero, of a process that sees itself as 10.
fn event() -> Event {
    let mut header = vec![0; abi::HEADER_IN_RING - 8];
    header[0] = 1;
    let size = header.len() as u32;
    header[4..8].copy_from_slice(&size.to_ne_bytes());
    let mut assembler = Assembler::new(4096, 1 << 20);
    assembler.feed(&header).expect("a header");
    let event = assembler.give_up().next().expect("an event of it");
    Event {
        registers: Some(Registers::new(Arch::X86_64, [0; WORDS])),
        pid: Some(100),
        tid: Some(100),
        ns_pid: 10,
        ns_tid: 10,
        threads: Some(Threads {
            list: vec![thread(101, 11, &[]), thread(102, 12, &[])],
            count: 3,
        }),
        ..event
    }
}

/// A thread, with these words where it waits.
fn thread(tid: u32, ns_tid: u32, words: &[u32]) -> Thread {
    let window = MemoryWindow {
        address: ProcessAddress(LOCK),
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
    };
    Thread {
        host_tid: tid,
        tid: Some(tid),
        ns_tid,
        name: Vec::new(),
        state: State::Sleeping,
        system_call: None,
        registers: None,
        windows: vec![window],
    }
}

fn frame(name: &str, module: &str) -> StackFrame {
    let location = Location {
        symbol: Some(Symbol {
            name: name.as_bytes().to_vec(),
            offset: 1,
        }),
        module: Some(module.as_bytes().to_vec()),
        ..Location::default()
    };
    StackFrame {
        address: ProcessAddress(0),
        exact: false,
        trust: Trust::Cfi,
        inlined: false,
        location,
    }
}

const GLIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

/// The owner by the words at the lock, in a thread with these frames.
fn owner_of(operation: u64, words: &[u32], module: &str, names: &[&str]) -> Option<u32> {
    let frames: Vec<StackFrame> = names.iter().map(|name| frame(name, module)).collect();
    let thread = thread(101, 11, words);
    let call = SystemCall {
        number: 202,
        arguments: [LOCK, operation, 2, 0, 0, 0],
    };
    let futex = Futex::of(Arch::X86_64, &call)?;
    owner(&event(), Some(&thread), &futex, &frames)
}

#[test]
fn a_mutex_of_glibc_names_its_owner() {
    let names = ["__GI___lll_lock_wait", "pthread_mutex_lock", "work"];
    let of = |words: &[u32]| owner_of(FUTEX_WAIT, words, GLIBC, &names);
    assert_eq!(of(&[2, 1, 12, 1, 0]), Some(12));
    // The same in a program that has the library in it.
    let inside = owner_of(FUTEX_WAIT, &[2, 1, 12], "/srv/app", &names);
    assert_eq!(inside, Some(12));
    // Stripped: the wait has no name.
    let stripped = ["", "pthread_mutex_lock", "work"];
    assert_eq!(
        owner_of(FUTEX_WAIT, &[2, 1, 12], GLIBC, &stripped),
        Some(12)
    );
    assert_eq!(of(&[2, 1, 0]), None, "between two owners");
    assert_eq!(of(&[0, 0, 12]), None, "not held: the futex is another one");
    assert_eq!(of(&[2, 1]), None, "not captured");
}

#[test]
fn what_is_no_mutex_has_no_owner() {
    for names in [
        &["futex_wait", "pthread_cond_wait", "work"][..],
        &["__lll_lock_wait_private", "malloc", "work"],
        &[
            "syscall",
            "work",
            "main",
            "start",
            "begin",
            "pthread_mutex_lock",
        ],
        &[],
    ] {
        assert_eq!(owner_of(FUTEX_WAIT, &[2, 1, 12], GLIBC, names), None);
    }
    let own = ["park", "my_pthread_mutex_lock"];
    assert_eq!(owner_of(FUTEX_WAIT, &[2, 1, 12], "/srv/app", &own), None);
}

#[test]
fn a_mutex_of_musl_names_its_owner_if_it_has_one() {
    let names = [
        "__syscall_cp_c",
        "__timedwait_cp",
        "__timedwait",
        "pthread_mutex_timedlock",
    ];
    let of = |word: u32| owner_of(FUTEX_WAIT, &[word, 0, 99], "/srv/app", &names);
    assert_eq!(of(0x8000_000c), Some(12));
    assert_eq!(of(0x8000_0010), None, "of the type normal");
    let stripped = ["", "", "pthread_mutex_timedlock"];
    assert_eq!(
        owner_of(FUTEX_WAIT, &[12, 0, 99], MUSL, &stripped),
        Some(12)
    );
}

#[test]
fn the_kernel_knows_the_owner_of_what_inherits_priority() {
    assert_eq!(owner_of(FUTEX_LOCK_PI, &[0x8000_000c], "", &[]), Some(12));
    assert_eq!(owner_of(FUTEX_LOCK_PI, &[0], "", &[]), None);
}

#[test]
fn an_owner_has_the_number_that_the_report_has() {
    let mut event = event();
    assert_eq!(shown(&event, 10), Some(100), "the crashed one");
    assert_eq!(shown(&event, 12), Some(102));
    assert_eq!(shown(&event, 13), None, "there is no such thread");
    event.threads.as_mut().unwrap().count = 4;
    assert_eq!(shown(&event, 13), None, "its number here is not known");
    event.ns_pid = 100;
    assert_eq!(shown(&event, 13), Some(13));
    assert_eq!(shown(&event, MAX_TID + 1), None, "no thread's number");
}

/// The circle, where each thread waits for the next number.
fn circle_of(own: Option<u32>, waits: &[(u32, u32)]) -> Vec<u32> {
    let waits_for = |owner| WaitsFor {
        address: ProcessAddress(LOCK),
        place: None,
        owner: Some(owner),
    };
    let thread = |&(tid, owner): &(u32, u32)| ReportThread {
        tid,
        name: Vec::new(),
        state: State::Sleeping,
        call: None,
        waits_for: Some(waits_for(owner)),
        registers: None,
        stack: None,
    };
    let threads = ReportThreads {
        list: waits.iter().map(thread).collect(),
        own: own.map(waits_for),
        ..ReportThreads::default()
    };
    circle(1, &threads)
}

#[test]
fn circles_of_waiting_threads_are_found() {
    assert_eq!(circle_of(None, &[(2, 3), (3, 2)]), [2, 3]);
    assert_eq!(
        circle_of(None, &[(5, 2), (2, 3), (3, 4), (4, 2)]),
        [2, 3, 4]
    );
    assert_eq!(
        circle_of(Some(2), &[(2, 1)]),
        [2, 1],
        "with the crashed one"
    );
    assert_eq!(circle_of(None, &[(7, 7)]), [7]);
    assert!(circle_of(None, &[(2, 3), (3, 4), (4, 5)]).is_empty());
    assert!(circle_of(Some(9), &[]).is_empty());
}

/// The program writes the owners. The square of their number would take minutes.
#[test]
fn a_long_chain_of_waiting_threads_is_no_work() {
    let mut chain: Vec<(u32, u32)> = (2..200_000).map(|tid| (tid, tid + 1)).collect();
    assert!(circle_of(None, &chain).is_empty());
    chain.push((200_000, 199_999));
    assert_eq!(circle_of(None, &chain), [199_999, 200_000]);
}

#[test]
fn the_crashed_thread_may_have_been_in_a_call() {
    let mut event = event();
    let mut words = [0; WORDS];
    // orig_rax, rdi
    (words[15], words[14]) = (202, LOCK);
    event.registers = Some(Registers::new(Arch::X86_64, words));
    let call = own_call(&event).expect("a call");
    assert_eq!((call.number, call.arguments[0]), (202, LOCK));
    words[15] = u64::MAX;
    event.registers = Some(Registers::new(Arch::X86_64, words));
    assert_eq!(own_call(&event), None);
    let mut words = [0; WORDS];
    (words[0], words[8], words[32]) = (LOCK, 98, 0x1000);
    event.registers = Some(Registers::new(Arch::Aarch64, words));
    event.code_bytes = MemoryWindow {
        address: ProcessAddress(0xff0),
        bytes: vec![0; 64],
    };
    assert_eq!(own_call(&event), None, "another instruction");
    event.code_bytes.bytes[16..20].copy_from_slice(&SVC);
    let call = own_call(&event).expect("a call");
    assert_eq!((call.number, call.arguments[0]), (98, LOCK));
}
