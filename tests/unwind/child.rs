//! A traced child that has stopped at the signal that would kill it.
//!
//! Every call of `ptrace` must come from the thread that started the child; a
//! [`Child`] is therefore made, used and dropped within one test.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use segfault_analyzer::crash::registers::{Arch, Registers, WORDS};

/// Signals and stops after which a child is given up.
const MAX_STOPS: usize = 1000;

pub struct Child {
    process: std::process::Child,
    /// The thread that was stopped.
    pub tid: i32,
    pub registers: Registers,
}

impl Child {
    /// Runs a program until its signal of this number has come `count` times.
    pub fn run(program: &Path, scenario: &str, signal: i32, count: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(scenario).stdin(Stdio::null());
        let trace_me = || match ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: the closure makes one system call and touches no memory.
        unsafe { command.pre_exec(trace_me) };
        let process = command.spawn()?;
        let mut child = Child {
            tid: process.id() as i32,
            process,
            registers: Registers::new(Arch::NATIVE, [0; WORDS]),
        };
        child.tid = child.stop_at(signal, count)?;
        child.registers = registers(child.tid)?;
        Ok(child)
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Runs one instruction. Whether the program is still at it: another signal
    /// of this number, or its end, is the end.
    #[cfg(feature = "dwarf")]
    pub fn step(&mut self, end: i32) -> io::Result<bool> {
        let mut passed = 0;
        loop {
            ptrace(libc::PTRACE_SINGLESTEP, self.tid, 0, passed);
            let (tid, status) = wait()?;
            if tid != self.tid || !libc::WIFSTOPPED(status) {
                return Ok(false);
            }
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => break,
                signal if signal == end => return Ok(false),
                signal => passed = signal as usize,
            }
        }
        self.registers = registers(self.tid)?;
        Ok(true)
    }

    fn stop_at(&self, wanted: i32, count: usize) -> io::Result<i32> {
        let mut seen = 0;
        for stop in 0..MAX_STOPS {
            let (tid, status) = wait()?;
            if !libc::WIFSTOPPED(status) {
                if tid == self.pid() {
                    return Err(io::Error::other("it ended by itself"));
                }
                continue;
            }
            if stop == 0 {
                let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options as usize);
            }
            let signal = libc::WSTOPSIG(status);
            if signal == wanted {
                seen += 1;
                if seen == count {
                    return Ok(tid);
                }
            }
            // The tracer's own stops are no signals of the program.
            let own = signal == libc::SIGTRAP || signal == libc::SIGSTOP;
            let passed = if own { 0 } else { signal as usize };
            ptrace(libc::PTRACE_CONT, tid, 0, passed);
        }
        Err(io::Error::other("no end of stops"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The exit of a traced process is reported to its tracer; nothing to do
        // when it is gone already.
        drop(self.process.kill());
        while let Ok((tid, status)) = wait() {
            if tid == self.pid() && !libc::WIFSTOPPED(status) {
                break;
            }
        }
    }
}

/// The next change of a child or thread of this thread's.
fn wait() -> io::Result<(i32, i32)> {
    let mut status = 0;
    let flags = libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: `status` lives through the call.
    match unsafe { libc::waitpid(-1, &mut status, flags) } {
        -1 => Err(io::Error::last_os_error()),
        tid => Ok((tid, status)),
    }
}

fn registers(tid: i32) -> io::Result<Registers> {
    let mut words = [0_u64; WORDS];
    let mut vector = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(&words),
    };
    let vector = std::ptr::addr_of_mut!(vector) as usize;
    match ptrace(
        libc::PTRACE_GETREGSET,
        tid,
        libc::NT_PRSTATUS as usize,
        vector,
    ) {
        0 => Ok(Registers::new(Arch::NATIVE, words)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

fn ptrace(request: Request, tid: i32, address: usize, data: usize) -> i64 {
    // SAFETY: every caller passes what its request wants; only PTRACE_GETREGSET
    // writes, into the buffer whose length it is given.
    unsafe { libc::ptrace(request, tid, address, data) as i64 }
}
