//! The processor of this machine as the judge: a traced child runs one
//! instruction after the other, each with its operand at the end of a page, or on
//! one that is not writable to, or not be touched, or one byte too far. Where
//! it faults tells address, width, direction and alignment.

use std::io;
use std::ptr;

use segfault_analyzer::crash::registers::{Arch, Registers, WORDS};
use segfault_analyzer::decode::{decode, Class, Decoded, Operand, SegmentBases, Touch};

use super::outcome::Outcome;

const PAGE: u64 = 4096;
/// Pages in a row: code, and those with operands, which lie between such that
/// cannot be touched.
const CODE: u64 = 0;
const WRITABLE: u64 = 2;
const READABLE: u64 = 4;
const STACK: u64 = 6;
const PAGES: u64 = 8;

/// The kernel's own code for what has no address.
const SI_KERNEL: i32 = 0x80;

pub struct Processor {
    pid: i32,
    start: u64,
    registers: libc::user_regs_struct,
    floats: libc::user_fpregs_struct,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Completed,
    /// A page fault, at this address.
    Page(u64),
    Protection,
    /// No such instruction here, or an exception of arithmetic.
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// So that it ends with the page.
    Writable,
    Readable,
    /// One byte too far.
    Across,
    Nowhere,
}

impl Processor {
    pub fn start() -> io::Result<Self> {
        let length = (PAGES * PAGE) as usize;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of no file.
        let memory = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = memory as u64;
        // SAFETY: the child makes system calls only, and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child(start);
        }
        let mut processor = Processor {
            pid,
            start,
            // SAFETY: numbers, for which all bits may be zero.
            registers: unsafe { std::mem::zeroed() },
            // SAFETY: as above.
            floats: unsafe { std::mem::zeroed() },
        };
        processor.wait();
        processor.ptrace(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL as usize);
        let registers = ptr::addr_of_mut!(processor.registers) as usize;
        processor.ptrace(libc::PTRACE_GETREGS, registers);
        let floats = ptr::addr_of_mut!(processor.floats) as usize;
        processor.ptrace(libc::PTRACE_GETFPREGS, floats);
        Ok(processor)
    }

    fn ptrace(&self, request: libc::c_uint, data: usize) {
        // SAFETY: `data` is an option, or points to what the request is about.
        let result = unsafe { libc::ptrace(request, self.pid, 0, data) };
        assert_eq!(
            result,
            0,
            "ptrace {request}: {}",
            io::Error::last_os_error()
        );
    }

    /// The signal that stopped it.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        assert!(
            pid == self.pid && libc::WIFSTOPPED(status),
            "{pid} {status:#x}"
        );
        libc::WSTOPSIG(status)
    }

    fn page(&self, number: u64) -> u64 {
        self.start + number * PAGE
    }

    /// Runs one instruction.
    fn run(&self, code: &[u8], registers: &libc::user_regs_struct) -> End {
        let mut to = self.page(CODE) as *mut u8;
        for byte in code {
            // SAFETY: the page is ours, writable here, and longer than any code.
            unsafe { to.write_volatile(*byte) };
            // SAFETY: as above.
            to = unsafe { to.add(1) };
        }
        self.ptrace(libc::PTRACE_SETREGS, ptr::from_ref(registers) as usize);
        self.ptrace(libc::PTRACE_SETFPREGS, ptr::addr_of!(self.floats) as usize);
        self.ptrace(libc::PTRACE_SINGLESTEP, 0);
        match self.wait() {
            libc::SIGTRAP => return End::Completed,
            libc::SIGSEGV | libc::SIGBUS => {}
            _ => return End::Other,
        }
        // SAFETY: numbers, for which all bits may be zero.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        self.ptrace(libc::PTRACE_GETSIGINFO, ptr::addr_of_mut!(info) as usize);
        if info.si_code == SI_KERNEL {
            return End::Protection;
        }
        // SAFETY: a fault's signal has an address.
        End::Page(unsafe { info.si_addr() } as u64)
    }

    /// Registers that put one of the operands at an address, and all others where
    /// nothing is in the way; `None` where that cannot be.
    fn registers_for(
        &self,
        decoded: &Decoded,
        operand: &Operand,
        address: u64,
    ) -> Option<libc::user_regs_struct> {
        let safe = self.page(WRITABLE) + PAGE / 2;
        let mut values = [safe; 17];
        values[7] = self.page(STACK) + PAGE / 2;
        values[16] = self.page(CODE);
        let base = usize::from(operand.base?.0);
        // A number of bits that is the address too leads anywhere.
        if operand.bit_offset == operand.base {
            return None;
        }
        let index = operand.index.map(|index| index.register);
        for register in [index, operand.bit_offset].into_iter().flatten() {
            values[usize::from(register.0)] = 0;
        }
        values[base] = 0;
        let at_zero = operand.address(&registers(&values), SegmentBases::default())?;
        if base == 16 {
            return None;
        }
        values[base] = address.wrapping_sub(at_zero.0);
        // A register that serves twice, or 32 bits of address; and of two operands
        // the other must not be in the way.
        let registers = registers(&values);
        let place = |operand: &Operand| operand.address(&registers, SegmentBases::default());
        let out_of_the_way = |other: &Operand| {
            let Some(address) = place(other) else {
                return false;
            };
            let last = address.0 + u64::from(other.width.unwrap_or(1)) - 1;
            [address.0, last].iter().all(|address| {
                let page = address.wrapping_sub(self.start) / PAGE;
                page == WRITABLE || page == STACK
            })
        };
        let mut others = decoded.memory().filter(|other| *other != operand);
        (place(operand)?.0 == address && others.all(out_of_the_way)).then(|| self.with(&values))
    }

    /// The same in the kernel's order.
    fn with(&self, values: &[u64; 17]) -> libc::user_regs_struct {
        let [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip] =
            *values;
        libc::user_regs_struct {
            rax,
            rdx,
            rcx,
            rbx,
            rsi,
            rdi,
            rbp,
            rsp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            // No system call to begin anew.
            orig_rax: u64::MAX,
            ..self.registers
        }
    }

    /// All that can be learnt of one instruction, against what we make of it.
    pub fn outcome(&self, code: &[u8]) -> Outcome {
        let usual = libc::user_regs_struct {
            rip: self.page(CODE),
            ..self.with(&[self.page(WRITABLE); 17])
        };
        let Some(decoded) = decode(Arch::X86_64, code) else {
            return match self.run(code, &usual) {
                End::Other => Outcome::Nothing,
                end => Outcome::Differs(0, format!("not known: {end:x?}")),
            };
        };
        if decoded.class == Class::SystemCall {
            return Outcome::Nothing;
        }
        let mut learnt = 0;
        for operand in decoded.memory() {
            match self.judge(code, &decoded, operand) {
                Ok(known) => learnt += u64::from(known),
                Err(key) => {
                    let kind = format!("{key}, {:?} of {:?}", operand.touch, operand.width);
                    return Outcome::Differs(0, kind);
                }
            }
        }
        if decoded.class == Class::Privileged && may_complete(code) {
            return Outcome::Same(learnt);
        }
        if decoded.memory().next().is_none() {
            return match (self.run(code, &usual), decoded.class) {
                (End::Completed, Class::Privileged) => Outcome::Differs(0, "it runs".into()),
                (End::Protection, Class::Privileged) => Outcome::Same(0),
                // There is no such segment.
                (End::Protection, _) if operation(code)[0] == 0x8e => Outcome::Nothing,
                (End::Protection, _) => {
                    Outcome::Differs(0, format!("it is refused {:x?}", operation(code)))
                }
                _ => Outcome::Nothing,
            };
        }
        match learnt {
            0 => Outcome::Nothing,
            _ => Outcome::Same(learnt),
        }
    }

    /// Whether anything was learnt.
    fn judge(&self, code: &[u8], decoded: &Decoded, operand: &Operand) -> Result<bool, String> {
        if operand.opaque || operand.segment.is_some() {
            return Ok(false);
        }
        let width = u64::from(operand.width.unwrap_or(0));
        // If the processor does not say, any byte may be the first to fault.
        let wide = if width == 0 { 4 * PAGE } else { width };
        let place = |place| match place {
            Place::Writable => self.page(WRITABLE + 1) - width,
            Place::Readable => self.page(READABLE + 1) - width,
            Place::Across => self.page(WRITABLE + 1) - width + 1,
            Place::Nowhere => self.page(WRITABLE + 1),
        };
        let run = |at| {
            let registers = self.registers_for(decoded, operand, place(at))?;
            Some(self.run(code, &registers))
        };
        let touched = operand.touch != Touch::Nothing;
        let within = |at, address: u64| (place(at)..place(at) + wide).contains(&address);
        match run(Place::Writable) {
            Some(End::Completed) if decoded.class == Class::Privileged => {
                return Err("it runs".into());
            }
            Some(End::Completed) => {}
            Some(End::Page(address)) if decoded.target.is_none() && operand.width.is_some() => {
                let distance = address.wrapping_sub(place(Place::Writable)) as i64;
                return Err(format!("faults at {distance:+}"));
            }
            // It does not run here, or not with what lies there.
            _ if operand.width.is_some() => return Ok(false),
            _ => {}
        }
        if decoded.class == Class::Privileged {
            return Ok(true);
        }
        match run(Place::Nowhere) {
            None => return Ok(false),
            Some(End::Page(address)) if touched && within(Place::Nowhere, address) => {}
            Some(End::Completed) if !touched || operand.partial => {}
            Some(End::Other) if operand.width.is_none() => return Ok(false),
            end => return Err(format!("untouchable: {end:x?}")),
        }
        if operand.partial || !touched {
            return Ok(true);
        }
        let Some(_) = operand.width else {
            return Ok(true);
        };
        match (run(Place::Readable), operand.touch) {
            (Some(End::Completed | End::Other), Touch::Read) => {}
            (Some(End::Page(address)), Touch::Write | Touch::ReadWrite)
                if within(Place::Readable, address) => {}
            (end, _) => return Err(format!("read only: {end:x?}")),
        }
        // sgdt and its like: where the processor refuses them, the kernel does what
        // they do, and says where they begin.
        if let [0x0f, 0x00 | 0x01] = operation(code) {
            return Ok(true);
        }
        match (run(Place::Across), operand.alignment) {
            (Some(End::Page(address)), 1) if address == self.page(WRITABLE + 1) => {}
            (Some(End::Protection), 2..) => {}
            (end, _) => return Err(format!("one further: {end:x?}")),
        }
        Ok(true)
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // SAFETY: our own child.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start as *mut libc::c_void, (PAGES * PAGE) as usize) };
    }
}

/// In the kernel's order of words.
fn registers(values: &[u64; 17]) -> Registers {
    const WORD: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];
    let mut words = [0; WORDS];
    for (value, word) in values.iter().zip(WORD) {
        words[word] = *value;
    }
    Registers::new(Arch::X86_64, words)
}

/// The first two bytes of an opcode.
fn operation(code: &[u8]) -> [u8; 2] {
    let prefixes = [0x40..=0x4f, 0x64..=0x67, 0xf0..=0xf0, 0xf2..=0xf3];
    let is_prefix = |byte: &&u8| prefixes.iter().any(|range| range.contains(*byte));
    let count = code.iter().take_while(is_prefix).count();
    [code[count], code[count + 1]]
}

/// rdtsc and rdtscp, which the kernel lets user code run if it is not asked
/// otherwise; vmcall, which is the hypervisor's matter.
fn may_complete(code: &[u8]) -> bool {
    operation(code) == [0x0f, 0x31]
        || code
            .windows(3)
            .any(|three| matches!(three, [0x0f, 0x01, 0xf9 | 0xc1]))
}

fn child(start: u64) -> ! {
    let protect = |page: u64, protection| {
        let address = (start + page * PAGE) as *mut libc::c_void;
        // SAFETY: pages of our own mapping, which nothing here looks at.
        unsafe { libc::mprotect(address, PAGE as usize, protection) };
    };
    for page in [1, 3, 5, 7] {
        protect(page, libc::PROT_NONE);
    }
    protect(CODE, libc::PROT_READ | libc::PROT_EXEC);
    protect(READABLE, libc::PROT_READ);
    // SAFETY: no memory is involved.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    // SAFETY: stops this process until its tracer has seen it.
    unsafe { libc::raise(libc::SIGSTOP) };
    // SAFETY: ends this process.
    unsafe { libc::_exit(1) }
}
