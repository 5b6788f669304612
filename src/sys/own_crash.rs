//! The tool's own crash: writes one line to standard error, with the place and the build-id
//! of the file, and then lets the signal kill the tool as if there were no handler.
//!
//! So a user who runs the tool for months sees that it crashed, and can find the place
//! with `addr2line -e FILE OFFSET`. Another instance of the tool reports the crash like
//! any other.
//!
//! # Safety
//!
//! The handler runs on a stack of its own and only calls what signal-safety(7) lists. It
//! reads what the kernel gave it, and this file's own headers, which the linker puts
//! where `__ehdr_start` is.

use std::ptr::{addr_of, null_mut};

use nix::sys::signal::Signal;

const SIGNALS: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];
const STACK_BYTES: usize = 32 << 10;
const MAX_LINE: usize = 256;
/// `NT_GNU_BUILD_ID`, with a name of four bytes and an id of twenty.
const NOTE_HEAD: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
const BUILD_ID_BYTES: usize = 20;
/// The linker puts notes in front of everything else.
const HEADERS_BYTES: usize = 1024;

extern "C" {
    static __ehdr_start: u8;
}

/// Makes this process print a line if it crashes.
pub fn announce() {
    // SAFETY: new memory, which stays for good.
    let stack = unsafe {
        libc::mmap(
            null_mut(),
            STACK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return;
    }
    let stack = libc::stack_t {
        ss_sp: stack,
        ss_flags: 0,
        ss_size: STACK_BYTES,
    };
    // SAFETY: the struct is live; the stack is there for good.
    unsafe { libc::sigaltstack(&raw const stack, null_mut()) };
    for signal in SIGNALS {
        // SAFETY: zeros are a value of this struct.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = say_so as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
        // SAFETY: the struct is live, and the handler is one for SA_SIGINFO.
        unsafe { libc::sigaction(signal, &raw const action, null_mut()) };
    }
}

/// Returns to the instruction that faulted, which faults again, and now fatally. A signal
/// that another process has sent does not come again, so it is raised.
extern "C" fn say_so(
    signal: libc::c_int,
    info: *const libc::siginfo_t,
    context: *const libc::ucontext_t,
) {
    let mut line = Line::default();
    line.text(b"Error: this tool faulted: ");
    line.text(
        Signal::try_from(signal)
            .map_or("a signal", Signal::as_str)
            .as_bytes(),
    );
    line.text(b" at ");
    // SAFETY: the kernel gives a handler for SA_SIGINFO its context.
    line.number(unsafe { pc(context) }.wrapping_sub(addr_of!(__ehdr_start) as u64));
    line.text(b", build-id ");
    match build_id() {
        Some(id) => id.iter().for_each(|byte| line.byte(*byte)),
        None => line.text(b"unknown"),
    }
    line.text(b", version ");
    line.text(env!("CARGO_PKG_VERSION").as_bytes());
    line.text(b"\n");
    // SAFETY: as many bytes as are live. A failure cannot be reported any more.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.length) };
    // SAFETY: the kernel gives a handler for SA_SIGINFO this struct.
    if unsafe { (*info).si_code } <= 0 {
        // SAFETY: the handler is gone, SA_RESETHAND has seen to that.
        unsafe { libc::raise(signal) };
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn pc(context: *const libc::ucontext_t) -> u64 {
    // SAFETY: the caller has it from the kernel.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned() }
}

#[cfg(target_arch = "aarch64")]
unsafe fn pc(context: *const libc::ucontext_t) -> u64 {
    // SAFETY: the caller has it from the kernel.
    unsafe { (*context).uc_mcontext.pc }
}

/// Of the file that this runs from.
#[must_use]
pub fn build_id() -> Option<&'static [u8]> {
    // SAFETY: the first page of the file is mapped there, and longer than that.
    let headers = unsafe { std::slice::from_raw_parts(addr_of!(__ehdr_start), HEADERS_BYTES) };
    let at = crate::base::bytes::find(headers, &NOTE_HEAD)? + NOTE_HEAD.len();
    headers.get(at..at + BUILD_ID_BYTES)
}

/// A line that is put together without allocation.
struct Line {
    bytes: [u8; MAX_LINE],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            bytes: [0; MAX_LINE],
            length: 0,
        }
    }
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = *byte;
                self.length += 1;
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.text(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }

    fn number(&mut self, number: u64) {
        self.text(b"0x");
        number
            .to_be_bytes()
            .iter()
            .for_each(|byte| self.byte(*byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{waitpid, WaitStatus};
    use nix::unistd::{dup2_stderr, fork, pipe, read, ForkResult};

    /// What a child says that ends like this, and how it ended.
    fn said_by(ends: fn()) -> (String, WaitStatus) {
        let (from, to) = pipe().unwrap();
        // SAFETY: the child calls what is safe after a fork, and ends.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let _ = dup2_stderr(&to);
                announce();
                ends();
                // SAFETY: ends the process.
                unsafe { libc::_exit(7) }
            }
            ForkResult::Parent { child } => {
                drop(to);
                let mut bytes = [0; 512];
                let count = read(&from, &mut bytes).unwrap();
                let status = waitpid(child, None).unwrap();
                (
                    String::from_utf8_lossy(&bytes[..count]).into_owned(),
                    status,
                )
            }
        }
    }

    #[test]
    fn a_fault_of_our_own_is_said_and_fatal() {
        // SAFETY: nothing is mapped there; the child dies of it.
        let (line, status) = said_by(|| unsafe { std::ptr::write_volatile(8 as *mut u8, 1) });
        assert!(
            line.starts_with("Error: this tool faulted: SIGSEGV at 0x"),
            "{line}"
        );
        assert!(
            line.ends_with(concat!(", version ", env!("CARGO_PKG_VERSION"), "\n")),
            "{line}"
        );
        assert!(matches!(
            status,
            WaitStatus::Signaled(_, Signal::SIGSEGV, _)
        ));
    }

    #[test]
    fn so_is_a_signal_that_was_sent() {
        // SAFETY: a signal to the child itself.
        let (line, status) = said_by(|| unsafe {
            libc::raise(libc::SIGBUS);
        });
        assert!(
            line.starts_with("Error: this tool faulted: SIGBUS at 0x"),
            "{line}"
        );
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)));
    }
}
