//! Attaches loaded programs to tracepoints.
//!
//! The returned descriptor is the attachment: closing it detaches the program.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::base::error::{Context, Error, Kind, Result};
use crate::sys::{bpf, perf, tracefs};

/// Runs `program` each time that a signal is about to be delivered: at the raw tracepoint, or
/// at the ordinary one.
pub fn signal_deliver(program: BorrowedFd<'_>, is_raw: bool) -> Result<OwnedFd> {
    const NAME: &str = "signal_deliver";
    match is_raw {
        true => raw_tracepoint(program, NAME),
        false => tracepoint(program, "signal", NAME),
    }
}

/// Runs `program` each time that a thread ends, in the same way.
pub fn process_exit(program: BorrowedFd<'_>, is_raw: bool) -> Result<OwnedFd> {
    const NAME: &str = "sched_process_exit";
    match is_raw {
        true => raw_tracepoint(program, NAME),
        false => tracepoint(program, "sched", NAME),
    }
}

/// Runs `program` at a raw tracepoint (4.17): at `signal_deliver`, each time that a signal is
/// about to be delivered.
pub fn raw_tracepoint(program: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let terminated = CString::new(name)
        .map_err(|_| Error::failed(format!("tracepoint {name:?}: name contains a NUL")))?;
    match bpf::raw_tracepoint_open(program, &terminated) {
        Err(error) if error.errno() == Some(bpf::ENOENT) => Err(error
            .with_kind(Kind::Unsupported)
            .with_hint("this kernel has no such tracepoint, or was built without CONFIG_BPF_EVENTS")
            .context(format!("attach to raw tracepoint {name}"))),
        other => other.context(|| format!("attach to raw tracepoint {name}")),
    }
}

/// The event on the first CPU that is online.
fn on_any_cpu(number: u64) -> Result<OwnedFd> {
    let mut cpu = 0;
    loop {
        match perf::tracepoint(number, cpu) {
            Err(error) if error.errno() == Some(perf::ENODEV) => cpu += 1,
            other => return other,
        }
    }
}

/// Runs `program` at an ordinary tracepoint, for kernels without raw ones. The kernel runs it
/// on every CPU, whichever CPU the perf event is for.
pub fn tracepoint(program: BorrowedFd<'_>, group: &str, name: &str) -> Result<OwnedFd> {
    let context = || format!("attach to tracepoint {group}/{name}");
    let number = tracefs::event_number(group, name).context(context)?;
    let event = on_any_cpu(number).context(context)?;
    perf::set_program(event.as_fd(), program).context(context)?;
    perf::enable(event.as_fd()).context(context)?;
    Ok(event)
}
