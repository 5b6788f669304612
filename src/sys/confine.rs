//! The system calls that the tool makes once it monitors, and that its openers make.
//!
//! Whoever takes over the tool with a crafted crash gets no more than these. The lists are
//! of what the C library and the standard library make of this source: both of them have
//! several calls for the same purpose, and all of those are here.

use crate::base::error::Result;

use super::seccomp::{self, Condition, Test};
use super::{bpf, perf, process};

pub use seccomp::is_supported;

/// Memory, descriptors and the end of a process.
const COMMON: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendmsg,
    libc::SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// What the tool makes besides.
const OF_TOOL: &[libc::c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_faccessat,
    libc::SYS_fchmod,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_geteuid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getuid,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_open,
    libc::SYS_ppoll,
    libc::SYS_prlimit64,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_wait4,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// What makes openers makes processes, which limit themselves further.
const OF_MAKER: &[libc::c_long] = &[
    libc::SYS_clone,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
];

/// No new code comes into the process.
const MEMORY: [Condition<'_>; 2] = [
    Condition {
        call: libc::SYS_mmap,
        argument: 2,
        test: Test::Without(libc::PROT_EXEC as u32),
    },
    Condition {
        call: libc::SYS_mprotect,
        argument: 2,
        test: Test::Without(libc::PROT_EXEC as u32),
    },
];

/// Signals that are passed on to a command, and the one that only asks whether a process is
/// there.
const SIGNALS: [u32; 4] = [
    0,
    libc::SIGHUP as u32,
    libc::SIGINT as u32,
    libc::SIGTERM as u32,
];

/// From here on the tool makes only the calls that monitoring takes; false if the kernel
/// cannot see to that.
///
/// # Errors
///
/// The kernel refuses, for example because an earlier filter does.
pub fn tool() -> Result<bool> {
    let of = |call, argument, values| Condition {
        call,
        argument,
        test: Test::OneOf(values),
    };
    let itself = [process::pid()];
    let requests = [
        perf::REQUESTS,
        &[
            process::PIDFD_GET_INFO,
            libc::FIONREAD as u32,
            // Whether a stream is a terminal.
            libc::TCGETS as u32,
            libc::TIOCGWINSZ as u32,
        ],
    ]
    .concat();
    let conditions = [
        MEMORY[0],
        MEMORY[1],
        // Another opener; no network.
        of(libc::SYS_socketpair, 0, &[libc::AF_UNIX as u32]),
        // No new program, and no map.
        of(libc::SYS_bpf, 0, &bpf::OF_MAPS),
        of(libc::SYS_ioctl, 1, &requests),
        of(libc::SYS_kill, 1, &SIGNALS),
        // How a process ends itself.
        of(libc::SYS_tkill, 0, &itself),
        of(libc::SYS_tgkill, 0, &itself),
    ];
    seccomp::permit_only(&[COMMON, OF_TOOL].concat(), &conditions)
}

/// The process that makes openers.
pub(super) fn maker() -> Result<bool> {
    seccomp::permit_only(&[COMMON, OF_MAKER].concat(), &MEMORY)
}

/// An opener: it opens files and reads them.
pub(super) fn opener() -> Result<bool> {
    seccomp::permit_only(COMMON, &MEMORY)
}
