//! Filters for the system calls of this process: those that it needs are permitted, and
//! all others fail. seccomp(2); Documentation/userspace-api/seccomp_filter.rst.
//!
//! In: numbers of calls, and conditions on an argument. Out: a filter that nothing can
//! remove, and that children inherit. A refused call fails with `EPERM`, or with `ENOSYS` if
//! its number is newer than this source: callers know both. No filter kills.
//!
//! # Safety
//!
//! The kernel copies the filter while the call lasts.

use nix::errno::Errno;

use crate::base::error::{Error, Result};

/// `file_setattr`, of Linux 6.17.
const LAST_KNOWN: u32 = 469;

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// `struct seccomp_data`
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

const SET_MODE_FILTER: u32 = 1;
/// Without it kernels before 5.16 slow the whole process down, for the sake of code that
/// nobody trusts. There is none here.
const FLAG_SPEC_ALLOW: u32 = 4;

/// What the lower half of an argument must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test<'a> {
    OneOf(&'a [u32]),
    /// None of these bits is set.
    Without(u32),
}

/// A call that is permitted with some arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition<'a> {
    pub(super) call: libc::c_long,
    /// Counted from 0.
    pub(super) argument: u32,
    pub(super) test: Test<'a>,
}

/// Whether this kernel has filters.
#[must_use]
pub fn is_supported() -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: where there are filters the kernel refuses to read one from there.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, nothing) };
    answer != 0 && Errno::last() == Errno::EFAULT
}

/// Permits these calls to this process from here on, besides what earlier filters refuse;
/// false if the kernel has no filters. The process must not be able to gain privileges.
pub(super) fn permit_only(calls: &[libc::c_long], conditions: &[Condition<'_>]) -> Result<bool> {
    if !is_supported() {
        return Ok(false);
    }
    let mut filter = filter(calls, conditions);
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    for flags in [FLAG_SPEC_ALLOW, 0] {
        // SAFETY: the program is live, with as many instructions as it says.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if answer == 0 {
            return Ok(true);
        }
    }
    // Before Linux 3.17.
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: as above.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } {
        0 => Ok(true),
        _ => Err(Error::syscall("prctl(PR_SET_SECCOMP)", Errno::last_raw())),
    }
}

fn instruction(code: u32, operand: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: then,
        jf: otherwise,
        k: operand,
    }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Goes on if it is so, and else skips so many instructions.
fn unless(comparison: u32, operand: u32, skipped: usize) -> libc::sock_filter {
    let code = libc::BPF_JMP | comparison | libc::BPF_K;
    instruction(code, operand, 0, skipped as u8)
}

fn answer(value: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn refused(errno: Errno) -> libc::sock_filter {
    answer(ERRNO | errno as u32)
}

fn filter(calls: &[libc::c_long], conditions: &[Condition<'_>]) -> Vec<libc::sock_filter> {
    let permitted = answer(ALLOW);
    let mut filter = vec![
        load(ARCHITECTURE),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, ARCH, 1, 0),
        refused(Errno::ENOSYS),
        load(NUMBER),
    ];
    for call in calls {
        filter.extend([unless(libc::BPF_JEQ, *call as u32, 1), permitted]);
    }
    for condition in conditions {
        let mut test = vec![load(ARGUMENTS + 8 * condition.argument)];
        match condition.test {
            Test::OneOf(values) => {
                for value in values {
                    test.extend([unless(libc::BPF_JEQ, *value, 1), permitted]);
                }
            }
            Test::Without(bits) => {
                let code = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
                test.extend([instruction(code, bits, 1, 0), permitted]);
            }
        }
        test.push(refused(Errno::EPERM));
        filter.push(unless(libc::BPF_JEQ, condition.call as u32, test.len()));
        filter.append(&mut test);
    }
    filter.extend([
        unless(libc::BPF_JGT, LAST_KNOWN, 1),
        refused(Errno::ENOSYS),
        refused(Errno::EPERM),
    ]);
    filter
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
