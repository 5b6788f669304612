use super::*;
use crate::base::address::{FileOffset, ProcessAddress};
use crate::base::order;
use crate::corefile::read::Core;
use crate::corefile::recall::recall;
use crate::corefile::threads;
use crate::crash::event::{Disposition, EarlierFault, FileHead, FileIdentity, Siginfo, Trap};
use crate::crash::kinds::Sender;
use crate::crash::registers::WORDS;
use crate::crash::threads::{State, SystemCall, Thread, Threads};
use crate::symbols::elf::Source;

const STACK: u64 = 0x7ff0_0000;
const CODE: u64 = 0x40_0000;

fn registers(arch: Arch) -> Registers {
    let mut words: [u64; WORDS] = std::array::from_fn(|at| 0x1000 + at as u64 * 0x11);
    let kernel = match arch {
        Arch::X86_64 | Arch::I386 => Arch::X86_64,
        Arch::Aarch64 | Arch::Arm => Arch::Aarch64,
    };
    match arch {
        Arch::X86_64 => words[17] = 0x33,
        Arch::I386 => words[17] = 0x23,
        Arch::Aarch64 => words[33] = 0x6000_0000,
        Arch::Arm => words[33] = 0x6000_0010,
    }
    let (pc, sp) = match arch {
        Arch::X86_64 | Arch::I386 => (16, 19),
        Arch::Aarch64 => (32, 31),
        Arch::Arm => (32, 13),
    };
    words[pc] = CODE + 0x1010;
    words[sp] = STACK + 0x800;
    let registers = Registers::new(kernel, words);
    assert_eq!(registers.arch(), arch);
    registers
}

fn mapping(start: u64, end: u64, flags: u64, path: Option<&[u8]>) -> Mapping {
    Mapping {
        start: ProcessAddress(start),
        end: ProcessAddress(end),
        flags: VmFlags(flags),
        file: path.map(|path| MappedFile {
            identity: FileIdentity::default(),
            offset: FileOffset(if start > CODE { 0x1000 } else { 0 }),
            path: path.to_vec(),
            lower_path: None,
            deleted: false,
            detached: false,
            truncated: false,
            head: Some(FileHead {
                address: ProcessAddress(CODE),
                bytes: b"\x7fELF head of the file"[..].into(),
            }),
        }),
    }
}

fn window(address: u64, bytes: &[u8]) -> MemoryWindow {
    MemoryWindow {
        address: ProcessAddress(address),
        bytes: bytes.to_vec(),
    }
}

/// An event with everything that a core can hold.
fn event(arch: Arch) -> Event {
    let program: &[u8] = b"/bin/program";
    Event {
        id: 0,
        boot_ns: 5_000_000,
        tai_ns: None,
        start_ns: 3_000_000,
        signal: 11,
        code: 1,
        siginfo: Siginfo::Address(ProcessAddress(0xdead_0008)),
        siginfo_more: (arch.word_bytes() == 8).then_some([7, 8]),
        repeats: 0,
        disposition: Disposition::Fatal,
        trap: Some(Trap {
            address: 0xdead_0008,
            error_code: 6,
            number: 14,
        }),
        first_fault: Some(EarlierFault {
            signal: 7,
            code: -6,
            siginfo: Siginfo::Sender(Sender {
                pid: Some(9),
                uid: Some(1000),
            }),
            pc: ProcessAddress(0x1234),
            trap: None,
            boot_ns: 4_000_000,
        }),
        host_pid: 77,
        host_tid: 78,
        pid: Some(77),
        tid: Some(78),
        ppid: Some(1),
        ns_pid: 77,
        ns_tid: 78,
        uid: Some(1000),
        pid_ns: 0,
        mnt_ns: 0,
        cgroup_id: 0,
        comm: b"program".to_vec(),
        thread: b"program".to_vec(),
        exe: Some(program.to_vec()),
        exe_deleted: false,
        cmdline: Some(b"program -x".to_vec()),
        cgroup: None,
        registers: Some(registers(arch)),
        fs_base: if arch == Arch::X86_64 { 0x7000 } else { 0 },
        gs_base: 0,
        code_bytes: window(CODE + 0x1000, &[0x90; 64]),
        compiled: Vec::new(),
        start_stack: ProcessAddress(STACK + 0x1f00),
        start_brk: ProcessAddress(0x50_0000),
        brk: ProcessAddress(0x52_0000),
        arg_start: ProcessAddress(0),
        env_end: ProcessAddress(0),
        vdso: ProcessAddress(0x6000_0000),
        map_count: 0,
        is_laid_out: true,
        mappings: vec![
            mapping(CODE, CODE + 0x1000, 1, Some(program)),
            mapping(CODE + 0x1000, CODE + 0x2000, 5, Some(program)),
            mapping(STACK, STACK + 0x2000, 0x103, None),
        ],
        windows: vec![
            window(STACK + 0x780, &[1; 0x100]),
            window(STACK + 0x1000, &[2; 0x80]),
        ],
        memory: Vec::new(),
        threads: None,
        capture_ns: 0,
        lost: Vec::new(),
    }
}

fn object() -> Object {
    let mut dynamic = Vec::new();
    for word in [1u64, 2, 21, 0, 0, 0] {
        dynamic.extend_from_slice(&word.to_le_bytes());
    }
    Object {
        path: b"/bin/program".to_vec(),
        bias: 0x3000,
        is_program: true,
        entry: Some(ProcessAddress(CODE + 0x1000)),
        headers: Some((ProcessAddress(CODE + 64), 9)),
        dynamic: Some((ProcessAddress(CODE + 0x8000), dynamic)),
        interpreter: Some(b"/lib/ld.so".to_vec()),
    }
}

fn library() -> Object {
    Object {
        path: b"/usr/lib/ld.so".to_vec(),
        bias: 0x10_0000,
        dynamic: Some((ProcessAddress(0x10_2000), Vec::new())),
        ..Object::default()
    }
}

fn core(event: &Event, objects: &[Object]) -> Vec<u8> {
    let material = Material {
        event,
        objects,
        unix_ms: 1_700_000_000_123,
        window_bytes: 32 << 10,
        page_bytes: 4096,
        vdso_id: 99,
    };
    material.core().expect("registers")
}

#[test]
fn a_core_gives_the_event_that_it_was_made_of() {
    for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm] {
        let event = event(arch);
        let bytes = core(&event, &[object(), library()]);
        let read = Core::read(Source::memory(bytes)).expect("a core");
        let recalled = recall(&read);
        assert_eq!(recalled.unix_ms, Some(1_700_000_000_123));
        assert_eq!(recalled.window_bytes, 32 << 10);
        assert_eq!(recalled.vdso_id, 99);
        let mut again = recalled.event;
        // Registers are words that are nowhere in memory, but for the stack pointer and the pc.
        assert_eq!(again.memory.len(), 2, "{arch:?}");
        again.memory.clear();
        again.map_count = 0;
        let named = |event: &Event| event.registers.map(|it| it.named().collect::<Vec<_>>());
        assert_eq!(named(&again), named(&event));
        again.registers = event.registers;
        // The code around the pc is cut where the capture program cuts it.
        assert_eq!(again, event, "{arch:?}");
    }
}

/// Others of that process: one in each state, the last one without registers.
fn others(arch: Arch) -> Threads {
    let states = [
        State::Running,
        State::Runnable,
        State::Sleeping,
        State::Uninterruptible,
        State::Stopped,
        State::Exiting,
        State::Unknown,
    ];
    let list = states.into_iter().zip(1..).map(|(state, number)| Thread {
        host_tid: 1000 + number,
        tid: (number != 3).then_some(100 + number),
        ns_tid: 10 + number,
        name: format!("thread {number}").into_bytes(),
        state,
        system_call: (number != 2).then_some(SystemCall {
            number: 200 + number,
            arguments: [1, 2, 3, 4, 5, u64::MAX],
        }),
        registers: (number != 7).then(|| registers(arch).without(1 << 5)),
        // The second one's has a part that the crash has, too.
        windows: match number {
            1 => vec![window(0x10_0000, &[7; 64]), window(0x10_1000, &[8; 32])],
            2 => vec![window(STACK + 0x700, &[1; 0x80])],
            _ => Vec::new(),
        },
    });
    Threads {
        list: list.collect(),
        count: 9,
    }
}

#[test]
fn a_core_gives_the_threads_that_it_was_made_of() {
    for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm] {
        let mut event = event(arch);
        event.mappings.push(mapping(0x10_0000, 0x10_2000, 3, None));
        order::sort(&mut event.mappings, |it| it.start.0);
        event.threads = Some(others(arch));
        let mut read = Core::read(Source::memory(core(&event, &[]))).expect("a core");
        let mut again = recall(&read).event;
        assert_eq!(
            again.windows, event.windows,
            "{arch:?}: not those of others"
        );
        assert_eq!(again.threads, None);
        threads::recall(&mut read, &mut again);
        let (mut again, threads) = (again.threads.unwrap(), event.threads.unwrap());
        for (again, thread) in again.list.iter_mut().zip(&threads.list) {
            let named = |thread: &Thread| {
                let registers = thread.registers.as_ref();
                registers.map(|it| it.named().collect::<Vec<_>>())
            };
            assert_eq!(named(again), named(thread));
            again.registers = thread.registers;
        }
        assert_eq!(again, threads, "{arch:?}");
    }
}

#[test]
fn a_core_without_threads_says_so() {
    let event = event(Arch::X86_64);
    let mut read = Core::read(Source::memory(core(&event, &[]))).expect("a core");
    let mut again = recall(&read).event;
    threads::recall(&mut read, &mut again);
    assert_eq!(again.threads, Some(Threads::default()));
    assert_eq!(again.lost.last().unwrap().detail, "threads");
}

#[test]
fn unknown_registers_stay_unknown() {
    let mut event = event(Arch::X86_64);
    event.registers = Some(registers(Arch::X86_64).without(1 << 5));
    event.siginfo = Siginfo::Unknown;
    event.trap = None;
    let again = recall(&Core::read(Source::memory(core(&event, &[]))).unwrap()).event;
    assert_eq!(again.registers.unwrap().dwarf(3), None);
    assert_eq!(again.siginfo, Siginfo::Unknown);
    assert_eq!(again.trap, None);
    let mut nothing = self::event(Arch::X86_64);
    nothing.registers = None;
    let material = Material {
        event: &nothing,
        objects: &[],
        unix_ms: 0,
        window_bytes: 0,
        page_bytes: 4096,
        vdso_id: 0,
    };
    assert!(material.core().is_none());
}

fn word(core: &Core, address: u64) -> u64 {
    u64::from_le_bytes(core.memory(address, 8).try_into().expect("eight bytes"))
}

#[test]
fn the_dynamic_section_leads_to_every_library() {
    let mut event = event(Arch::X86_64);
    // The first address that the list could have is in use.
    event
        .mappings
        .insert(0, mapping(0x1_0000, 0x1_1000, 3, None));
    let core = Core::read(Source::memory(core(&event, &[library(), object()]))).unwrap();
    let debug = word(&core, CODE + 0x8000 + 24);
    assert_eq!(debug, 0x2_0000);
    assert_eq!(word(&core, debug), 1, "version");
    let program = word(&core, debug + 8);
    assert_eq!(word(&core, program), 0x3000);
    assert_eq!(core.memory(word(&core, program + 8), 1), [0], "no name");
    assert_eq!(word(&core, program + 16), CODE + 0x8000);
    assert_eq!(word(&core, program + 32), 0);
    let library = word(&core, program + 24);
    assert_eq!(word(&core, library), 0x10_0000);
    let name = core.memory(word(&core, library + 8), 15);
    assert_eq!(name, b"/usr/lib/ld.so\0");
    assert_eq!(word(&core, library + 24), 0);
    assert_eq!(word(&core, library + 32), program);
    assert_eq!(core.auxv(layout::AT_BASE), Some(0x10_0000));
    assert_eq!(core.auxv(layout::AT_ENTRY), Some(CODE + 0x1000));
    assert_eq!(core.auxv(layout::AT_PHDR), Some(CODE + 64));
    assert_eq!(core.auxv(layout::AT_PHNUM), Some(9));
}

#[test]
fn memory_is_kept_once_and_the_first_wins() {
    let mut memory = Memory::default();
    memory.add(0x100, &[1; 16]);
    memory.add(0x120, &[2; 16]);
    // Over both, and the gap between them.
    memory.add(0xf0, &[3; 0x60]);
    memory.add(0x104, &[4; 4]);
    memory.add(u64::MAX - 4, &[5; 8]);
    memory.add(u64::MAX - 4, &[5; 3]);
    // An odd address loses a byte.
    memory.add(0x201, &[6; 3]);
    memory.add(0x301, &[7]);
    let pieces: Vec<(u64, usize, u8)> = memory
        .pieces
        .iter()
        .map(|(address, bytes)| (*address, bytes.len(), bytes[0]))
        .collect();
    assert_eq!(
        pieces,
        [
            (0xf0, 16, 3),
            (0x100, 16, 1),
            (0x110, 16, 3),
            (0x120, 16, 2),
            (0x130, 32, 3),
            (0x202, 2, 6),
            (u64::MAX - 3, 2, 5),
        ]
    );
}

/// The numbers that readers of cores have built in.
#[test]
fn notes_have_the_sizes_of_the_kernels_structures() {
    for (arch, prstatus, prpsinfo) in [
        (Arch::X86_64, 336, 136),
        (Arch::Aarch64, 392, 136),
        (Arch::I386, 144, 124),
        (Arch::Arm, 148, 124),
    ] {
        let event = event(arch);
        let material = Material {
            event: &event,
            objects: &[],
            unix_ms: 0,
            window_bytes: 0,
            page_bytes: 4096,
            vdso_id: 0,
        };
        assert_eq!(
            material.prstatus(&registers(arch), 1, true).len(),
            prstatus,
            "{arch:?}"
        );
        assert_eq!(material.prpsinfo(arch).len(), prpsinfo, "{arch:?}");
        assert_eq!(material.siginfo(arch).len(), 128, "{arch:?}");
    }
}
