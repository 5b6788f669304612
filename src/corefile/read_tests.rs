use super::*;
use crate::base::address::ProcessAddress;
use crate::corefile::recall::recall;
use crate::corefile::threads;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A core of x86_64 with one thread, an auxiliary vector, one file and 0x100 bytes of stack.
fn small() -> Vec<u8> {
    let mut notes = Vec::new();
    let mut note = |name: &[u8], kind: u32, value: &[u8]| {
        for number in [name.len() as u32, value.len() as u32, kind] {
            notes.extend_from_slice(&number.to_le_bytes());
        }
        notes.extend_from_slice(name);
        notes.resize(notes.len().next_multiple_of(4), 0);
        notes.extend_from_slice(value);
        notes.resize(notes.len().next_multiple_of(4), 0);
    };
    let mut status = vec![0; 336];
    put(&mut status, 12, &11u16.to_le_bytes());
    put(&mut status, 32, &42u32.to_le_bytes());
    put(&mut status, 112 + 16 * 8, &0x40_1000u64.to_le_bytes());
    put(&mut status, 112 + 19 * 8, &0x7000u64.to_le_bytes());
    note(b"CORE\0", layout::NT_PRSTATUS, &status);
    // A second thread, and notes of others.
    put(&mut status, 32, &43u32.to_le_bytes());
    note(b"CORE\0", layout::NT_PRSTATUS, &status);
    note(b"LINUX\0", 0x202, &[0; 40]);
    let words =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    note(
        b"CORE\0",
        layout::NT_AUXV,
        &words(&[9, 0x40_1000, 0, 0, 7, 7]),
    );
    let mut files = words(&[1, 0x1000, 0x40_1000, 0x40_2000, 1]);
    files.extend_from_slice(b"/bin/x\0");
    note(b"CORE\0", layout::NT_FILE, &files);
    let mut out = vec![0; 64 + 3 * 56];
    put(&mut out, 0, b"\x7fELF\x02\x01\x01");
    put(&mut out, 16, &layout::ET_CORE.to_le_bytes());
    put(&mut out, 18, &62u16.to_le_bytes());
    put(&mut out, 32, &64u64.to_le_bytes());
    put(&mut out, 54, &56u16.to_le_bytes());
    put(&mut out, 56, &3u16.to_le_bytes());
    let data = out.len() as u64;
    let mut segment = |index: usize, kind: u32, flags: u32, words: [u64; 4]| {
        let at = 64 + index * 56;
        put(&mut out, at, &kind.to_le_bytes());
        put(&mut out, at + 4, &flags.to_le_bytes());
        for (word, offset) in words.into_iter().zip([8, 16, 32, 40]) {
            put(&mut out, at + offset, &word.to_le_bytes());
        }
    };
    let size = notes.len() as u64;
    segment(0, layout::PT_NOTE, 0, [data, 0, size, 0]);
    segment(1, layout::PT_LOAD, 6, [data + size, 0x7000, 0x100, 0x1000]);
    segment(2, layout::PT_LOAD, 5, [0, 0x40_1000, 0, 0x1000]);
    out.extend_from_slice(&notes);
    out.extend_from_slice(&[0xaa; 0x100]);
    out
}

fn read(bytes: Vec<u8>) -> Result<Core, NotCore> {
    Core::read(Source::memory(bytes))
}

#[test]
fn the_first_thread_is_the_one_that_crashed() {
    let core = read(small()).unwrap();
    assert_eq!(core.thread.tid, 42);
    assert_eq!(core.auxv, [(9, 0x40_1000)]);
    assert_eq!(core.files[0].path, b"/bin/x");
    assert_eq!(
        core.memory(0x70f0, 64),
        [0xaa; 16],
        "as far as there is any"
    );
    assert!(core.memory(0x7100, 8).is_empty(), "mapped, and not in it");
    assert!(core.memory(0x9000, 8).is_empty());
    let event = recall(&core).event;
    assert_eq!((event.signal, event.code), (11, 0));
    assert_eq!(event.exe.as_deref(), Some(&b"/bin/x"[..]));
    assert_eq!(event.mappings.len(), 2);
    assert!(event.mappings[1].flags.executable() && !event.mappings[1].flags.writable());
    assert_eq!(event.mappings[1].file.as_ref().unwrap().offset.0, 0x1000);
    assert_eq!(event.windows.len(), 1);
    assert_eq!(event.windows[0].bytes.len(), 0x100);
}

#[test]
fn other_threads_have_their_registers_and_their_stacks() {
    let mut core = read(small()).unwrap();
    let mut event = recall(&core).event;
    assert_eq!(event.threads, None, "only if they are asked for");
    threads::recall(&mut core, &mut event);
    let threads = event.threads.unwrap();
    assert_eq!((threads.count, threads.list.len()), (2, 1));
    let thread = &threads.list[0];
    assert_eq!((thread.tid, thread.ns_tid), (Some(43), 43));
    assert_eq!(thread.registers.unwrap().pc().0, 0x40_1000);
    assert_eq!(thread.windows[0].bytes, [0xaa; 0x100]);
    // orig_rax is 0.
    assert_eq!(thread.system_call.unwrap().number, 0);
    assert!(event.lost.iter().all(|lost| lost.detail != "threads"));
}

#[test]
fn notes_that_are_cut_off_do_not_say_how_many_threads_there_were() {
    let mut bytes = small();
    // They would be longer than the file.
    put(&mut bytes, 64 + 32, &0x10_0000u64.to_le_bytes());
    let mut core = read(bytes).unwrap();
    let mut event = recall(&core).event;
    threads::recall(&mut core, &mut event);
    let threads = event.threads.unwrap();
    assert_eq!((threads.count, threads.list.len()), (0, 1));
    assert!(event.lost.iter().any(|lost| lost.detail == "threads"));
}

/// As gdb's gcore writes it.
#[test]
fn code_that_is_in_its_file_alone_is_mapped() {
    let mut bytes = small();
    // The segment with code becomes one of another kind.
    bytes[64 + 2 * 56] = 9;
    let event = recall(&read(bytes).unwrap()).event;
    let mapping = event.mapping(ProcessAddress(0x40_1010)).expect("a mapping");
    assert!(mapping.flags.executable() && mapping.file.is_some());
    assert_eq!(event.mappings.len(), 2);
}

#[test]
fn of_many_threads_so_many_are_kept() {
    let mut notes = Notes::new(Arch::X86_64);
    for tid in 0..MAX_THREADS as u32 + 10 {
        let mut status = vec![0; 336];
        put(&mut status, 32, &tid.to_le_bytes());
        notes.take(b"CORE\0", layout::NT_PRSTATUS, &status);
        notes.take(b"CORE\0", layout::NT_PRSTATUS, &status[..300]);
    }
    assert_eq!(notes.thread.unwrap().tid, 0);
    assert_eq!(notes.others.len(), MAX_THREADS);
    assert_eq!(notes.thread_count, MAX_THREADS as u32 + 10);
}

#[test]
fn what_is_no_core_is_refused_with_a_reason() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = small();
        change(&mut bytes);
        read(bytes).unwrap_err()
    };
    assert_eq!(refused(&|bytes| bytes.clear()), NotCore::NotElf);
    assert_eq!(refused(&|bytes| bytes[5] = 2), NotCore::BigEndian);
    assert_eq!(refused(&|bytes| bytes[16] = 2), NotCore::NotCore);
    assert_eq!(refused(&|bytes| bytes[18] = 243), NotCore::OtherMachine);
    assert_eq!(refused(&|bytes| bytes[54] = 57), NotCore::Malformed);
    assert_eq!(refused(&|bytes| bytes.truncate(64)), NotCore::NoThread);
    // A program header without its notes.
    assert_eq!(refused(&|bytes| bytes[64] = 9), NotCore::NoThread);
    // More entries than 16 bits hold, and no section that says how many.
    assert_eq!(
        refused(&|bytes| put(bytes, 56, &PN_XNUM.to_le_bytes())),
        NotCore::NoThread
    );
}

#[test]
fn a_core_that_was_cut_off_gives_what_is_left() {
    let whole = small();
    for len in 0..whole.len() {
        if let Ok(core) = read(whole[..len].to_vec()) {
            let recalled = recall(&core);
            assert!(recalled
                .event
                .windows
                .iter()
                .all(|it| it.bytes.len() <= 0x100));
        }
    }
}

/// Every byte in turn, with values that make sizes and addresses extreme.
#[test]
fn no_byte_makes_it_panic_or_read_without_end() {
    let whole = small();
    for at in 0..whole.len() - 0x100 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            // Eight bytes at once make the largest numbers.
            let end = (at + 8).min(bytes.len());
            for bytes in [bytes.clone(), {
                bytes[at..end].fill(value);
                bytes
            }] {
                if let Ok(mut core) = read(bytes) {
                    let mut event = recall(&core).event;
                    threads::recall(&mut core, &mut event);
                    assert!(event.memory_bytes() < 8 << 20);
                    for thread in event.threads.unwrap().list {
                        assert!(thread.windows.iter().all(|it| it.bytes.len() <= 0x100));
                    }
                }
            }
        }
    }
}
