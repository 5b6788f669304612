//! The command that the tool runs and watches.
//!
//! It gets the standard streams as they are, and signals as a shell would leave them:
//! those that Rust's runtime and the tool ignore are reset, and the fork comes before the
//! tool blocks others.
//!
//! # Safety
//!
//! The tool has one thread when it forks. Between fork and exec the child makes system
//! calls only, with strings that were made before the fork.

use std::ffi::{CString, OsStr};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr::null;

use nix::fcntl::OFlag;
use nix::unistd::ForkResult;

use crate::base::error::{Error, Result};

/// What a shell reports for a command that is not there, or cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// A child that waits until it may execute its command. It ends if that never comes.
#[derive(Debug)]
pub struct Waiting {
    pid: u32,
    gate: OwnedFd,
}

impl Waiting {
    /// Forks at once, so that the command has the privileges and limits with which the
    /// tool was started. Descendants whose parents end become children of the tool.
    ///
    /// # Errors
    ///
    /// No process can be made, or an argument has a NUL.
    pub fn new(command: &[impl AsRef<OsStr>]) -> Result<Waiting> {
        let failed = |errno: nix::errno::Errno| Error::syscall("fork", errno as i32);
        nix::sys::prctl::set_child_subreaper(true).map_err(failed)?;
        let (read, gate) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        let program = Program::new(command)?;
        // SAFETY: see above.
        match unsafe { nix::unistd::fork() }.map_err(failed)? {
            ForkResult::Parent { child } => Ok(Waiting {
                pid: child.as_raw().unsigned_abs(),
                gate,
            }),
            ForkResult::Child => {
                drop(gate);
                if nix::unistd::read(&read, &mut [0]) != Ok(1) {
                    // SAFETY: ends the child alone.
                    unsafe { libc::_exit(NOT_EXECUTABLE) };
                }
                program.execute()
            }
        }
    }

    /// Lets it go; its process id.
    #[must_use]
    pub fn start(self) -> u32 {
        let _ = nix::unistd::write(&self.gate, b"x");
        self.pid
    }
}

/// What is to be executed, as execvp(3) takes it.
struct Program {
    strings: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
}

impl Program {
    fn new(command: &[impl AsRef<OsStr>]) -> Result<Program> {
        let string = |word: &OsStr| {
            CString::new(word.as_bytes()).map_err(|_| Error::failed("an argument has a NUL"))
        };
        let words = command.iter().map(|word| string(word.as_ref()));
        let strings = words.collect::<Result<Vec<_>>>()?;
        let places = strings.iter().map(|text| text.as_ptr());
        Ok(Program {
            arguments: places.chain([null()]).collect(),
            strings,
        })
    }

    fn execute(&self) -> ! {
        // SAFETY: to let a signal have its usual effect installs no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        // SAFETY: the same.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
        // SAFETY: the strings end with NUL and the list with null; both live in self.
        unsafe { libc::execvp(self.arguments[0], self.arguments.as_ptr()) };
        let errno = nix::errno::Errno::last();
        let mut stderr = std::io::stderr();
        for text in [
            b"Error: cannot run ",
            self.strings[0].as_bytes(),
            b": ",
            errno.desc().as_bytes(),
            b"\n",
        ] {
            let _ = stderr.write_all(text);
        }
        let status = match errno {
            nix::errno::Errno::ENOENT => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        // SAFETY: ends the child alone.
        unsafe { libc::_exit(status) }
    }
}

/// A child that has ended: its process id, and its status as a shell has it, which is 128
/// plus the number of a signal.
#[must_use]
pub fn reap() -> Option<(u32, u8)> {
    let mut status = 0;
    // SAFETY: the place is live for the call, which fills it.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let code = match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    };
    Some((pid, code as u8))
}

/// Sends a signal to a child.
pub fn signal(pid: u32, number: i32) {
    // SAFETY: takes numbers by value.
    unsafe { libc::kill(pid.cast_signed(), number) };
}
