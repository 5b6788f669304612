//! Causes of made events: each word by its evidence, on both processors, and the
//! sentences word by word. The instructions' bytes have their text beside them.

mod infer;
mod memory;
mod names;
mod property;
mod registers;
mod signals;

use super::*;
use crate::base::address::FileOffset;
use crate::crash::event::{
    Disposition, EarlierFault, FileIdentity, MappedFile, Mapping, MemoryWindow, VmFlags,
};
use crate::crash::registers::WORDS;
use crate::crash::signals::trap;

const PROGRAM: u64 = 0x5555_5555_4000;
const RODATA: u64 = 0x5555_5555_6000;
const HEAP: u64 = 0x5555_5557_0000;
const HEAP_END: u64 = 0x5555_5559_1000;
const GUARD: u64 = 0x7f00_0000_0000;
const THREAD: u64 = GUARD + 0x1000;
const DATA: u64 = 0x7f00_2000_0000;
const STACK: u64 = 0x7ffd_0000_0000;
const STACK_END: u64 = 0x7ffd_0002_1000;
const PC: u64 = PROGRAM + 0x123;

fn mapping(start: u64, end: u64, flags: u64, path: Option<&str>) -> Mapping {
    Mapping {
        start: ProcessAddress(start),
        end: ProcessAddress(end),
        flags: VmFlags(flags),
        file: path.map(|path| MappedFile {
            identity: FileIdentity {
                inode: 1,
                device: 1,
                size: 0x1800,
                mtime_s: 0,
                mtime_ns: 0,
                mapped_unix_ns: None,
                crashed_unix_ns: None,
            },
            offset: FileOffset(0x1000),
            path: path.as_bytes().to_vec(),
            lower_path: None,
            deleted: false,
            detached: false,
            truncated: false,
            head: None,
        }),
    }
}

/// A program before its fault, with all mappings captured.
fn quiet(arch: Arch) -> Event {
    let (read, write, execute) = (1, 2, 4);
    let mappings = vec![
        mapping(PROGRAM, RODATA, read | execute, Some("/bin/prog")),
        mapping(RODATA, RODATA + 0x2000, read, Some("/bin/prog")),
        mapping(HEAP, HEAP_END, read | write, None),
        mapping(GUARD, THREAD, 0, None),
        mapping(THREAD, THREAD + 0x80_0000, read | write, None),
        mapping(DATA, DATA + 0x2000, read | write, Some("/tmp/data")),
        mapping(STACK, STACK_END, read | write, None),
    ];
    let (kernel, mut words) = (arch, [0; WORDS]);
    words[15] = u64::MAX;
    let mut registers = Registers::new(kernel, words);
    set(&mut registers, pc_name(arch), PC);
    set(&mut registers, sp_name(arch), STACK + 0x2_0000);
    Event {
        id: 1,
        boot_ns: 1_000_000_000,
        tai_ns: None,
        start_ns: 1,
        signal: signal::SIGSEGV,
        code: code::SEGV_MAPERR,
        siginfo: Siginfo::Address(ProcessAddress(0)),
        siginfo_more: Some([0; 2]),
        repeats: 0,
        disposition: Disposition::Fatal,
        trap: Some(Trap {
            address: 0,
            error_code: 0,
            number: 0,
        }),
        first_fault: None,
        host_pid: 77,
        host_tid: 77,
        pid: Some(77),
        tid: Some(77),
        ppid: Some(1),
        ns_pid: 77,
        ns_tid: 77,
        uid: Some(0),
        pid_ns: 1,
        mnt_ns: 1,
        cgroup_id: 1,
        comm: b"prog".to_vec(),
        thread: b"prog".to_vec(),
        exe: None,
        exe_deleted: false,
        cmdline: None,
        cgroup: None,
        registers: Some(registers),
        fs_base: 0x7f00_3000_0000,
        gs_base: 0,
        compiled: Vec::new(),
        code_bytes: MemoryWindow {
            address: ProcessAddress(PC - 16),
            bytes: vec![0x90; 64],
        },
        start_stack: ProcessAddress(STACK + 0x2_0800),
        start_brk: ProcessAddress(HEAP),
        brk: ProcessAddress(HEAP_END),
        arg_start: ProcessAddress(STACK + 0x2_0900),
        is_laid_out: true,
        env_end: ProcessAddress(STACK + 0x2_0f00),
        vdso: ProcessAddress(0),
        map_count: mappings.len() as u32,
        mappings,
        windows: Vec::new(),
        memory: Vec::new(),
        threads: None,
        capture_ns: 0,
        lost: Vec::new(),
    }
}

fn pc_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 | Arch::Arm => "pc",
        Arch::X86_64 => "rip",
        Arch::I386 => "eip",
    }
}

fn sp_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 | Arch::Arm => "sp",
        Arch::X86_64 => "rsp",
        Arch::I386 => "esp",
    }
}

fn set(registers: &mut Registers, name: &str, value: u64) {
    let arch = registers.arch();
    let number = (0..=32)
        .find(|&number| arch.dwarf_name(number) == Some(name))
        .expect("a register of this processor");
    registers.set_dwarf(number, value);
}

/// A crash in the making.
struct Made {
    event: Event,
    functions: Vec<&'static str>,
    place: Location,
}

impl Made {
    fn new(arch: Arch) -> Made {
        Made {
            event: quiet(arch),
            functions: Vec::new(),
            place: Location::default(),
        }
    }

    fn arch(&self) -> Arch {
        self.event.registers.expect("set by new").arch()
    }

    /// The instruction at the pc, and registers by name.
    fn at(mut self, code: &[u8], registers: &[(&str, u64)]) -> Made {
        self.event.code_bytes.bytes[16..16 + code.len()].copy_from_slice(code);
        let own = self.event.registers.as_mut().expect("set by new");
        for (name, value) in registers {
            set(own, name, *value);
        }
        let pc = own.pc();
        self.event.code_bytes.address = ProcessAddress(pc.0.wrapping_sub(16));
        self
    }

    /// The first word of siginfo, with the code as it is now.
    fn says(&mut self, word: u64) {
        self.event.siginfo = fault::siginfo(self.event.code, word);
    }

    fn trap(&mut self) -> &mut Trap {
        self.event.trap.as_mut().expect("set by new")
    }

    /// A page fault: error code of x86, or the same as an arm64 syndrome.
    fn page_fault(mut self, code: i32, address: u64, access: Access) -> Made {
        self.event.code = code;
        self.says(address);
        let arm = matches!(self.arch(), Arch::Aarch64 | Arch::Arm);
        self.event.trap = Some(Trap {
            address,
            error_code: match (arm, access) {
                (true, Access::Read) => 0x9200_0005,
                (true, Access::Write) => 0x9200_0045,
                (true, Access::Execute) => 0x8200_0005,
                (false, Access::Read) => 4,
                (false, Access::Write) => 6,
                (false, Access::Execute) => 0x14,
            },
            number: if arm { 0 } else { trap::PAGE_FAULT },
        });
        self
    }

    /// A signal that names no address, after an x86 trap.
    fn signal(mut self, signal: i32, code: i32, number: u64) -> Made {
        self.event.signal = signal;
        self.event.code = code;
        let word = self.event.siginfo.address().unwrap_or_default().0;
        self.says(word);
        self.trap().number = number;
        self
    }

    fn protection(self) -> Made {
        self.signal(signal::SIGSEGV, code::SI_KERNEL, trap::GENERAL_PROTECTION)
    }

    fn named(mut self, functions: &[&'static str]) -> Made {
        self.functions = functions.to_vec();
        self
    }

    fn verdict(&self) -> Verdict {
        self.verdict_with(true)
    }

    fn chosen(&self) -> Chosen {
        self.chosen_of(None)
    }

    fn chosen_of(&self, walk: Option<&crate::unwind::Walk>) -> Chosen {
        let event = &self.event;
        choose(event, &Fault::of(event), &event.code_bytes, walk)
    }

    fn verdict_with(&self, quotes: bool) -> Verdict {
        let captured = &self.event.code_bytes;
        let chosen = self.chosen();
        let into = chosen.fault.pc.0.wrapping_sub(captured.address.0) as usize;
        let functions: Vec<&[u8]> = self.functions.iter().map(|name| name.as_bytes()).collect();
        judge(&Evidence {
            event: &self.event,
            chosen: &chosen,
            code: captured.bytes.get(into..).unwrap_or_default(),
            before: captured.bytes.get(..into).unwrap_or_default(),
            functions: &functions,
            place: &self.place,
            quotes,
        })
    }

    #[track_caller]
    fn is(&self, cause: Cause, text: &str) {
        let verdict = self.verdict();
        let said = String::from_utf8_lossy(&verdict.text).into_owned();
        assert_eq!((verdict.cause, &*said), (cause, text));
    }
}
