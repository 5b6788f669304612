//! perf_event_open(2): events that BPF programs write to, tracepoints that they run
//! at, and events that report signals and mappings without a program.
//!
//! Arguments come in as numbers and borrowed descriptors, an event goes out as an
//! owned descriptor; [`super::mmap`] maps its ring. The attribute is
//! `struct perf_event_attr` of include/uapi/linux/perf_event.h as Linux 4.1 had it.
//!
//! # Safety
//!
//! The kernel reads the attribute for as long as its size field says, which is
//! that of our struct.

use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::base::error::{Error, Result};

pub use libc::{EINVAL, ENODEV, ENXIO};

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
/// `PERF_COUNT_SW_BPF_OUTPUT`
const BPF_OUTPUT: u64 = 10;
/// `PERF_COUNT_SW_DUMMY`
const DUMMY: u64 = 9;
/// `PERF_SAMPLE_TID` and so on: the content of a sample.
const SAMPLE_TID: u64 = 1 << 1;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_RAW: u64 = 1 << 10;
const SAMPLE_REGS_USER: u64 = 1 << 12;
const SAMPLE_STACK_USER: u64 = 1 << 13;
/// Bits of the attribute's flags.
const DISABLED: u64 = 1;
const MMAP: u64 = 1 << 8;
const COMM: u64 = 1 << 9;
const TASK: u64 = 1 << 13;
const WATERMARK: u64 = 1 << 14;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const MMAP2: u64 = 1 << 23;
const COMM_EXEC: u64 = 1 << 24;
const USE_CLOCKID: u64 = 1 << 25;
const NAMESPACES: u64 = 1 << 28;
const FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_ENABLE` and so on.
const IOC_ENABLE: libc::Ioctl = 0x2400;
const IOC_DISABLE: libc::Ioctl = 0x2401;
const IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;
const IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
/// All that is asked of an event.
pub(super) const REQUESTS: &[u32] = &[
    IOC_ENABLE as u32,
    IOC_DISABLE as u32,
    IOC_SET_FILTER as u32,
    IOC_SET_BPF as u32,
];

/// `PERF_ATTR_SIZE_VER3` bytes of `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Attribute {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    /// Or bytes, with `WATERMARK`.
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock: i32,
}
const _: () = assert!(size_of::<Attribute>() == 96);

/// Above 2, which Debian's and Android's kernels know, opening takes CAP_SYS_ADMIN.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Whether CAP_PERFMON does not suffice to open events of others, or may not.
#[must_use]
pub fn takes_all_rights() -> bool {
    is_more_than_perfmon(std::fs::read_to_string(PARANOID).ok().as_deref())
}

fn is_more_than_perfmon(level: Option<&str>) -> bool {
    let level = level.and_then(|level| level.trim().parse::<i32>().ok());
    level.is_none_or(|level| level > 2)
}

fn open(mut attribute: Attribute, cpu: u32) -> Result<OwnedFd> {
    let failed = |errno| Error::syscall("perf_event_open", errno);
    attribute.size = size_of::<Attribute>() as u32;
    let cpu = libc::c_int::try_from(cpu).map_err(|_| failed(EINVAL))?;
    let (any_process, no_group): (libc::pid_t, libc::c_int) = (-1, -1);
    // SAFETY: the attribute is live for the call and as long as its size says.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attribute,
            any_process,
            cpu,
            no_group,
            FLAG_FD_CLOEXEC,
        )
    };
    match libc::c_int::try_from(answer) {
        // SAFETY: a descriptor that was just made, which nothing else uses.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(failed(nix::errno::Errno::last_raw())),
    }
}

/// An event whose ring takes the output of BPF programs on this CPU. Its descriptor
/// becomes readable with every record.
pub fn bpf_output(cpu: u32) -> Result<OwnedFd> {
    open(
        Attribute {
            kind: TYPE_SOFTWARE,
            config: BPF_OUTPUT,
            sample_period: 1,
            sample_type: SAMPLE_RAW,
            wakeup_events: 1,
            ..Attribute::default()
        },
        cpu,
    )
}

/// The tracepoint with this number, on one CPU. A program that is set on any of
/// its events runs at the tracepoint wherever it is met.
pub fn tracepoint(number: u64, cpu: u32) -> Result<OwnedFd> {
    open(
        Attribute {
            kind: TYPE_TRACEPOINT,
            config: number,
            sample_period: 1,
            wakeup_events: 1,
            ..Attribute::default()
        },
        cpu,
    )
}

/// The same tracepoint, telling by itself: each sample holds the ids of process
/// and thread, the time by `CLOCK_MONOTONIC`, the tracepoint's fields, the user's
/// registers and stack, and makes the descriptor readable. Off until it is enabled.
///
/// `registers` are bits as the kernel numbers them for samples; of the stack
/// `stack_bytes` are copied from the stack pointer on, a multiple of 8.
pub fn deliveries(number: u64, cpu: u32, registers: u64, stack_bytes: u32) -> Result<OwnedFd> {
    let stack = if stack_bytes > 0 {
        SAMPLE_STACK_USER
    } else {
        0
    };
    open(
        Attribute {
            kind: TYPE_TRACEPOINT,
            config: number,
            sample_period: 1,
            sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_RAW | SAMPLE_REGS_USER | stack,
            flags: DISABLED | SAMPLE_ID_ALL | USE_CLOCKID,
            wakeup_events: 1,
            sample_regs_user: registers,
            sample_stack_user: stack_bytes,
            clock: libc::CLOCK_MONOTONIC,
            ..Attribute::default()
        },
        cpu,
    )
}

/// An event for what processes on one CPU do: fork, exec, exit, names, executable mappings,
/// namespaces. Each record ends with its time, by `CLOCK_MONOTONIC`. The descriptor becomes
/// readable when its ring holds `wakeup_bytes`. Off until it is enabled.
pub fn process_changes(cpu: u32, wakeup_bytes: u32) -> Result<OwnedFd> {
    open(
        Attribute {
            kind: TYPE_SOFTWARE,
            config: DUMMY,
            sample_type: SAMPLE_TIME,
            flags: DISABLED
                | MMAP
                | MMAP2
                | COMM
                | COMM_EXEC
                | TASK
                | WATERMARK
                | NAMESPACES
                | SAMPLE_ID_ALL
                | USE_CLOCKID,
            wakeup_events: wakeup_bytes,
            clock: libc::CLOCK_MONOTONIC,
            ..Attribute::default()
        },
        cpu,
    )
}

/// Lets through only deliveries for which an expression over the tracepoint's fields holds.
pub fn set_filter(event: BorrowedFd<'_>, filter: &CStr) -> Result<()> {
    // SAFETY: this request reads a string, which is live for the call.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_FILTER, filter.as_ptr()) };
    checked(answer, "ioctl(PERF_EVENT_IOC_SET_FILTER)")
}

/// How often the event has happened since it was opened, filter passed.
pub fn count(event: BorrowedFd<'_>) -> Result<u64> {
    let mut bytes = [0; 8];
    match nix::unistd::read(event, &mut bytes) {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        Ok(_) => Err(Error::syscall("read of perf event", EINVAL)),
        Err(errno) => Err(Error::syscall("read of perf event", errno as i32)),
    }
}

/// Has `program` run with the event.
pub fn set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this request takes a descriptor by value.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF, program.as_raw_fd()) };
    checked(answer, "ioctl(PERF_EVENT_IOC_SET_BPF)")
}

/// Starts the event.
pub fn enable(event: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this request takes a number by value.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), IOC_ENABLE, 0) };
    checked(answer, "ioctl(PERF_EVENT_IOC_ENABLE)")
}

/// Stops the event: when this returns no CPU writes a record of it any more.
pub fn disable(event: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this request takes a number by value.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), IOC_DISABLE, 0) };
    checked(answer, "ioctl(PERF_EVENT_IOC_DISABLE)")
}

fn checked(answer: libc::c_int, call: &str) -> Result<()> {
    if answer < 0 {
        return Err(Error::syscall(call, nix::errno::Errno::last_raw()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_more_than_perfmon;

    #[test]
    fn only_levels_that_are_known_spare_the_right_to_everything() {
        for (level, is_more) in [
            (Some("-1\n"), false),
            (Some("2\n"), false),
            (Some("3\n"), true),
            (Some("4\n"), true),
            (Some(""), true),
            (None, true),
        ] {
            assert_eq!(is_more_than_perfmon(level), is_more, "{level:?}");
        }
    }
}
