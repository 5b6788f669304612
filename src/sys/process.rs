//! This process itself: its numbers, its limits, and the privileges that it gives up.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::base::bytes::find;
use crate::base::error::{Error, Result};

/// The base name of our executable, if /proc has it and the file still exists.
#[must_use]
pub fn executable_name() -> Option<Vec<u8>> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let path = path.into_os_string().into_encoded_bytes();
    let base = path.rsplit(|byte| *byte == b'/').next()?;
    let is_there = path.starts_with(b"/") && !base.ends_with(b" (deleted)");
    is_there.then(|| base.to_vec())
}

/// The name that this process was executed as, if there is one.
#[must_use]
pub fn first_argument() -> Option<Vec<u8>> {
    let name = std::env::args_os().next()?.into_encoded_bytes();
    (!name.is_empty()).then_some(name)
}

/// The initial pid namespace's inode, which never changes
/// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u32 = 0xefff_fffc;

/// Our process id, as our own pid namespace has it.
#[must_use]
pub fn pid() -> u32 {
    std::process::id()
}

/// The inode that names our pid namespace; without /proc the first one is assumed.
#[must_use]
pub fn pid_namespace() -> u32 {
    namespace("/proc/self/ns/pid").unwrap_or(FIRST_PID_NAMESPACE)
}

/// Whether this is the first pid namespace, from which all processes can be seen.
#[must_use]
pub fn sees_all_processes() -> bool {
    pid_namespace() == FIRST_PID_NAMESPACE
}

/// How a container must be started to read the programs of other ones.
#[must_use]
pub fn container_hint() -> String {
    let mut hint = "start this container with --pid=host".to_string();
    for (number, name) in [
        (capability::SYS_PTRACE, "SYS_PTRACE"),
        (capability::DAC_READ_SEARCH, "DAC_READ_SEARCH"),
        (capability::CHECKPOINT_RESTORE, "CHECKPOINT_RESTORE"),
    ] {
        if !has_capability(number) {
            hint.push_str(&format!(" --cap-add={name}"));
        }
    }
    hint
}

/// Whether a seccomp filter is in force for this process; false without /proc.
#[must_use]
pub fn has_seccomp_filter() -> bool {
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    find(&status, b"\nSeccomp:\t2\n").is_some()
}

/// The inode number of our mount namespace, if /proc has it.
#[must_use]
pub fn mount_namespace() -> Option<u32> {
    namespace("/proc/self/ns/mnt")
}

fn namespace(path: &str) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino();
    u32::try_from(inode).ok()
}

/// CPUs that run now, at least one.
#[must_use]
pub fn cpus() -> usize {
    let of_sysfs = || super::bpf::online_cpus().ok();
    of_sysfs()
        .or_else(|| cpus_of_stat(&std::fs::read_to_string("/proc/stat").ok()?))
        .unwrap_or_else(our_cpus)
}

/// The lines `cpu0` and so on of /proc/stat.
fn cpus_of_stat(text: &str) -> Option<usize> {
    let names = text.lines().filter_map(|line| line.strip_prefix("cpu"));
    let count = names
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        .count();
    (count > 0).then_some(count)
}

/// The number of CPUs, as musl reports it: those that this process may run on.
#[must_use]
pub fn our_cpus() -> usize {
    // SAFETY: sysconf only reads its argument.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Raises the limit of open files to its maximum: with a ring or two for each CPU there may be
/// more than the usual limit. The limit from here on.
pub fn allow_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is live for the call, which fills it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // If this fails, the error shows when a file is opened.
    // SAFETY: the struct is live for the call and only read.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => limit.rlim_max,
        _ => before,
    }
}

/// As `uname -srm` has it.
#[must_use]
pub fn kernel_name() -> String {
    let Ok(name) = nix::sys::utsname::uname() else {
        return String::new();
    };
    let parts = [name.sysname(), name.release(), name.machine()];
    parts.map(|part| part.to_string_lossy()).join(" ")
}

/// As `uname -n`, `-r` and `-m` have it.
#[must_use]
pub fn host_names() -> [String; 3] {
    let Ok(name) = nix::sys::utsname::uname() else {
        return Default::default();
    };
    let parts = [name.nodename(), name.release(), name.machine()];
    parts.map(|part| part.to_string_lossy().into_owned())
}

/// A UUID that the kernel made when it booted, if /proc has it.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_string())
}

/// Whether a process has this number, in our own pid namespace.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH)
}

/// Whether this process is ours, or one that descends from ours and has not ended.
#[must_use]
pub fn is_below(mut process: u32) -> bool {
    // More generations than any shell makes.
    for _ in 0..256 {
        if process <= 1 || process == pid() {
            break;
        }
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let parent = fields.split_whitespace().nth(1);
        process = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    process == pid()
}

/// A process whose end is waited for.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    /// Before Linux 5.3 there is none.
    pidfd: Option<OwnedFd>,
}

/// `struct pidfd_info`, as it came with Linux 6.13.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// The request that fills it, include/uapi/linux/pidfd.h.
pub(super) const PIDFD_GET_INFO: u32 =
    3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;

impl Watch {
    /// A process by its number in our pid namespace; one that does not exist has ended.
    #[must_use]
    pub fn open(pid: u32) -> Watch {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
        Watch {
            pid,
            // SAFETY: the kernel has just made the descriptor, and nothing else uses it.
            pidfd: fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }

    /// Readable once it has ended; `None` if the kernel has no such descriptor.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has ended by now, and its status as wait(2) reports it, if that is known: from
    /// the kernel from 6.15 on, and from /proc until its parent collects it.
    #[must_use]
    pub fn ended(&self) -> Option<Option<u32>> {
        let Some(pidfd) = &self.pidfd else {
            return (!exists(self.pid)).then_some(None);
        };
        let mut poll = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let ready = nix::poll::poll(&mut poll, PollTimeout::ZERO);
        let is_over = ready.is_ok_and(|ready| ready > 0);
        is_over.then(|| exit_info(pidfd).or_else(|| zombie_status(self.pid)))
    }
}

fn exit_info(pidfd: &OwnedFd) -> Option<u32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        cgroup_id: 0,
        ids: [0; 11],
        exit_code: 0,
    };
    let fd = pidfd.as_raw_fd();
    // SAFETY: the struct has the size that the command names, and is live for the call.
    let failed = unsafe { libc::ioctl(fd, PIDFD_GET_INFO as _, &raw mut info) };
    let is_known = failed == 0 && info.mask & PIDFD_INFO_EXIT != 0;
    is_known.then_some(info.exit_code as u32)
}

/// The last field of /proc/PID/stat, which proc(5) calls exit_code.
fn zombie_status(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace();
    (fields.next()? == "Z").then(|| fields.last()?.parse().ok())?
}

/// Our effective user id.
#[must_use]
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Capabilities by their numbers in include/uapi/linux/capability.h.
pub mod capability {
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const IPC_LOCK: u32 = 14;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;
    pub const CHECKPOINT_RESTORE: u32 = 40;
}

/// `struct __user_cap_header_struct`
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`; version 3 has two of them.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn capget() -> Result<[CapabilityData; 2]> {
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structs, all ours.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if done == 0 {
        Ok(data)
    } else {
        Err(Error::syscall("capget", nix::errno::Errno::last_raw()))
    }
}

/// Gives up every capability but those listed, permanently: executing a program does not
/// bring one back, nor can one be gained in any other way.
pub fn keep_capabilities(kept: &[u32]) -> Result<()> {
    // Fails without CAP_SETPCAP; then the other two must do. Beyond the last one is EINVAL.
    // SAFETY: takes numbers by value.
    let unbind = |number: libc::c_ulong| unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number) };
    let _ = (0..64).find(|number| unbind(*number) != 0);
    let mut data = capget()?;
    for (word, data) in data.iter_mut().enumerate() {
        let mask = kept
            .iter()
            .filter(|&&number| number as usize / 32 == word)
            .fold(0, |mask, number| mask | 1 << (number % 32));
        data.effective &= mask;
        data.permitted &= mask;
        data.inheritable = 0;
    }
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| Error::syscall("prctl(PR_SET_NO_NEW_PRIVS)", errno as i32))?;
    // SAFETY: version 3 reads one header and two data structs, all ours.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(Error::syscall("capset", nix::errno::Errno::last_raw())),
    }
}

/// Whether a capability is in force.
#[must_use]
pub fn has_capability(number: u32) -> bool {
    capget().is_ok_and(|data| {
        data.get(number as usize / 32)
            .is_some_and(|data| data.effective & 1 << (number % 32) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::cpus_of_stat;

    #[test]
    fn the_sum_of_all_cpus_is_none_of_them() {
        let text = "cpu  1 2 3\ncpu0 1 2 3\ncpu7 1 2 3\nintr 5\ncpus 4\n";
        assert_eq!(cpus_of_stat(text), Some(2));
        assert_eq!(cpus_of_stat("intr 5\n"), None);
    }
}
