use crate::base::address::ProcessAddress;
use crate::base::structs::{bytes_of, Field};
use crate::capture::record::abi::{thread_flags, RawPart, RawThread, END_IN_RING, HEADER_IN_RING};
use crate::capture::record::assemble::Assembler;
use crate::crash::event::Event;
use crate::crash::registers::Arch;
use crate::crash::threads::{State, SystemCall};

const X86_BYTES: usize = 21 * 8;

fn raw(host_tid: u32) -> RawThread {
    RawThread {
        part: RawPart {
            kind: 10,
            size: 0,
            id: 1,
        },
        address: 0,
        first_argument: 0,
        host_tid,
        tid: host_tid + 1,
        ns_tid: host_tid + 2,
        system_call: -1,
        state: 1,
        regs_bytes: 0,
        flags: 0,
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        lock: [0; 2],
    }
}

fn part(mut raw: RawThread, words: &[u64], stack: &[u8]) -> Vec<u8> {
    raw.regs_bytes = 8 * words.len() as u16;
    raw.part.size = (RawThread::SIZE + 8 * words.len() + stack.len()) as u32;
    let mut bytes = bytes_of(&raw);
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend_from_slice(stack);
    bytes
}

/// The header of a record, or its end.
fn outer(kind: u32, bytes: usize, threads: u32) -> Vec<u8> {
    let mut out = vec![0; bytes];
    out[..4].copy_from_slice(&kind.to_ne_bytes());
    out[4..8].copy_from_slice(&(bytes as u32).to_ne_bytes());
    out[8] = 1;
    if kind == 5 {
        out[44..48].copy_from_slice(&threads.to_ne_bytes());
    }
    out
}

fn event(parts: &[Vec<u8>], threads: u32, room: u64) -> Event {
    let mut assembler = Assembler::new(4096, room);
    let _ = assembler.feed(&outer(1, HEADER_IN_RING - 8, 0));
    for part in parts {
        // A part that makes no sense is refused, and the others count.
        let _ = assembler.feed(part);
    }
    let event = assembler.feed(&outer(5, END_IN_RING - 8, threads));
    event.expect("an end").expect("an event")
}

/// Registers of a 64-bit task in futex(1, 2, 3, 4, 5, 6).
fn in_futex() -> [u64; 21] {
    let mut words = [0; 21];
    for (place, value) in [(14, 1), (13, 2), (12, 3), (7, 4), (9, 5), (8, 6)] {
        words[place] = value;
    }
    (words[15], words[16], words[17]) = (202, 0x1000, 0x33);
    words[19] = 0x7000;
    words
}

#[test]
fn a_thread_has_its_numbers_its_call_and_all_of_its_stack() {
    let mut first = raw(10);
    first.address = 0x7000;
    let mut more = raw(10);
    more.address = 0x7003;
    let mut apart = raw(10);
    apart.address = 0x9000;
    let parts = [
        part(first, &in_futex(), b"abc"),
        part(more, &[], b"de"),
        part(apart, &[], b"f"),
        part(raw(20), &[], b""),
    ];
    let threads = event(&parts, 3, 1 << 20).threads.expect("threads");
    assert_eq!((threads.count, threads.list.len()), (3, 2));
    let thread = &threads.list[0];
    assert_eq!(
        (thread.host_tid, thread.tid, thread.ns_tid),
        (10, Some(11), 12)
    );
    assert_eq!(
        (&thread.name[..], thread.state),
        (&b"worker"[..], State::Sleeping)
    );
    let call = SystemCall {
        number: 202,
        arguments: [1, 2, 3, 4, 5, 6],
    };
    assert_eq!(thread.system_call, Some(call));
    let windows: Vec<_> = thread
        .windows
        .iter()
        .map(|it| (it.address, &it.bytes[..]))
        .collect();
    let joined = (ProcessAddress(0x7000), &b"abcde"[..]);
    assert_eq!(windows, [joined, (ProcessAddress(0x9000), b"f")]);
    let bare = &threads.list[1];
    assert_eq!((bare.registers, bare.system_call), (None, None));
}

#[test]
fn nobody_asked_for_threads() {
    assert_eq!(event(&[], 0, 1 << 20).threads, None);
    let alone = event(&[], 1, 1 << 20).threads.expect("they were wanted");
    assert_eq!((alone.count, alone.list.len()), (1, 0));
}

#[test]
fn states_are_those_of_the_kernel() {
    for (state, flags, expected) in [
        (0, 0, State::Runnable),
        (0x800, 0, State::Runnable),
        (1, 0, State::Sleeping),
        (0x2001, 0, State::Sleeping),
        (2, 0, State::Uninterruptible),
        (0x102, 0, State::Uninterruptible),
        (0x402, 0, State::Uninterruptible),
        (0x8000, 0, State::Uninterruptible),
        (4, 0, State::Stopped),
        (0x108, 0, State::Stopped),
        (0x40, 0, State::Unknown),
        (1, thread_flags::RUNS, State::Running),
        (0, thread_flags::RUNS | thread_flags::EXITS, State::Exiting),
    ] {
        let raw = RawThread {
            state,
            flags,
            ..raw(1)
        };
        let event = event(&[part(raw, &in_futex(), b"")], 2, 1 << 20);
        let thread = &event.threads.expect("threads").list[0];
        assert_eq!(thread.state, expected, "{state:#x} {flags}");
        let is_in_call = !matches!(expected, State::Running | State::Exiting);
        assert_eq!(thread.system_call.is_some(), is_in_call, "{expected:?}");
    }
}

#[test]
fn calls_are_numbered_by_the_tasks_architecture() {
    let call = |raw: RawThread, words: &[u64]| {
        let event = event(&[part(raw, words, b"")], 2, 1 << 20);
        let thread = event.threads.expect("threads").list.remove(0);
        (thread.registers.map(|it| it.arch()), thread.system_call)
    };
    let mut words = in_futex();
    words[15] = u64::MAX;
    assert_eq!(call(raw(1), &words).1, None, "was preempted");
    words[15] = 240;
    words[17] = 0x23;
    (
        words[5], words[11], words[12], words[13], words[14], words[4],
    ) = (1, 2, 3, 4, 5, 6);
    let (arch, compat) = call(raw(1), &words);
    assert_eq!(arch, Some(Arch::I386));
    assert_eq!(
        compat.map(|it| (it.number, it.arguments)),
        Some((240, [1, 2, 3, 4, 5, 6]))
    );

    let mut words = [0; 34];
    words[..6].copy_from_slice(&[99, 2, 3, 4, 5, 6]);
    words[32] = 0x1000;
    let mut arm = raw(1);
    arm.flags = thread_flags::AARCH64;
    assert_eq!(call(arm, &words), (Some(Arch::Aarch64), None));
    (arm.system_call, arm.first_argument) = (98, 1);
    let (_, futex) = call(arm, &words);
    assert_eq!(
        futex.map(|it| (it.number, it.arguments)),
        Some((98, [1, 2, 3, 4, 5, 6]))
    );
    words[33] = 0x10;
    assert_eq!(call(arm, &words).0, Some(Arch::Arm));
    // A worker of io_uring has no user registers.
    assert_eq!(call(raw(1), &[0; 21]), (None, None));
}

#[test]
fn more_of_a_thread_that_was_lost_is_a_thread_without_registers() {
    let mut more = raw(20);
    more.address = 0x9000;
    let parts = [part(raw(10), &in_futex(), b"abc"), part(more, &[], b"de")];
    let threads = event(&parts, 3, 1 << 20).threads.expect("threads");
    assert_eq!(threads.list[0].windows[0].bytes, b"abc");
    assert_eq!(threads.list[1].registers, None);
    assert_eq!(threads.list[1].windows[0].bytes, b"de");
}

/// Of a part that was cut, or whose bytes are others, comes an error or a thread.
#[test]
fn torn_parts_break_nothing() {
    let whole = part(raw(10), &in_futex(), b"abcdefgh");
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        assert!(event(std::slice::from_ref(&cut), 2, 1 << 20)
            .threads
            .expect("count")
            .list
            .is_empty());
        // The same with a size that fits.
        let mut resized = cut;
        if let Some(size) = resized.get_mut(4..8) {
            size.copy_from_slice(&(len as u32).to_ne_bytes());
        }
        let list = event(&[resized], 2, 1 << 20).threads.expect("count").list;
        let is_whole = len >= RawThread::SIZE + X86_BYTES;
        assert_eq!(list.len(), usize::from(is_whole), "cut at {len}");
    }
    for at in 16..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        let list = event(&[whole.clone(), changed], 2, 1 << 20)
            .threads
            .expect("count")
            .list;
        assert!((1..=2).contains(&list.len()), "changed at {at}");
    }
}

#[test]
fn threads_are_limited_in_number_and_in_bytes() {
    let parts: Vec<_> = (1..=2000)
        .map(|tid| part(raw(tid), &in_futex(), b"abc"))
        .collect();
    let threads = event(&parts, 2001, 64 << 20).threads.expect("threads");
    assert_eq!((threads.count, threads.list.len()), (2001, 1024));

    let few = event(&parts[..100], 101, 10_000);
    assert!(few.threads.as_ref().is_some_and(|all| all.list.len() < 100));
    assert_eq!(few.lost[0].reason, "--memory-limit left no room");
    assert_eq!(few.lost[0].detail, "threads");
    let (none, all) = (event(&[], 101, 1 << 20), event(&parts[..100], 101, 1 << 20));
    assert!(all.memory_bytes() > none.memory_bytes() + 100 * 300);
}

/// Of the lock that a thread waits for, which may lie in its stack.
#[test]
fn locks_are_windows_without_overlaps() {
    let windows = |at: u64, flags: u16| {
        let mut raw = raw(10);
        (raw.address, raw.flags, raw.lock) = (0x7000, flags, [2, 4711]);
        let mut words = in_futex();
        words[14] = at;
        let threads = event(&[part(raw, &words, &[7; 64])], 2, 1 << 20).threads;
        let windows = threads.expect("threads").list.remove(0).windows;
        let ends = windows.iter().map(|it| (it.address.0, it.bytes.len()));
        (ends.collect::<Vec<_>>(), windows)
    };
    let (ends, apart) = windows(0x5000, thread_flags::LOCK);
    assert_eq!(ends, [(0x5000, 16), (0x7000, 64)]);
    assert_eq!(apart[0].bytes, bytes_of(&[2u64, 4711]));
    assert_eq!(windows(0x7010, thread_flags::LOCK).0, [(0x7000, 64)]);
    assert_eq!(windows(0x7038, thread_flags::LOCK).0, [(0x7000, 72)]);
    assert_eq!(windows(0x5000, 0).0, [(0x7000, 64)]);
    let runs = thread_flags::LOCK | thread_flags::RUNS;
    assert_eq!(windows(0x5000, runs).0, [(0x7000, 64)]);
}
