//! perf_event_open(2): events that BPF programs write to, and tracepoints that
//! they run at.
//!
//! Arguments come in as numbers and borrowed descriptors, an event goes out as an
//! owned descriptor; its ring is mapped by [`super::mmap`]. The attribute is
//! `struct perf_event_attr` of include/uapi/linux/perf_event.h in its first
//! version, which every kernel takes.
//!
//! # Safety
//!
//! The kernel reads the attribute for as long as its size field says, which is
//! that of our struct.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

pub use libc::{EINVAL, ENODEV, ENXIO};

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
/// `PERF_COUNT_SW_BPF_OUTPUT`
const BPF_OUTPUT: u64 = 10;
/// `PERF_SAMPLE_RAW`
const SAMPLE_RAW: u64 = 1 << 10;
const FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_ENABLE`, `PERF_EVENT_IOC_SET_BPF`
const IOC_ENABLE: libc::Ioctl = 0x2400;
const IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// `PERF_ATTR_SIZE_VER0` bytes of `struct perf_event_attr`.
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
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}
const _: () = assert!(size_of::<Attribute>() == 64);

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
        // SAFETY: a descriptor that was just made, which nobody else knows of.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(failed(nix::errno::Errno::last_raw())),
    }
}

/// An event whose ring takes what BPF programs on this CPU put out. Its descriptor
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

fn checked(answer: libc::c_int, call: &str) -> Result<()> {
    if answer < 0 {
        return Err(Error::syscall(call, nix::errno::Errno::last_raw()));
    }
    Ok(())
}
