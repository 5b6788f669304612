//! What limits the use of bpf(2) in this process: memory, privileges, processors.
//!
//! # Safety
//!
//! setrlimit(2) only reads, capget(2) writes as much as its version says; both get
//! local structs.

use crate::base::error::{Error, Result};

/// Lifts the limit on locked memory, which BPF objects counted against before 5.11.
pub fn raise_memlock_limit() -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the struct is live for the call and only read.
    let answer = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if answer == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(Error::syscall("setrlimit(RLIMIT_MEMLOCK)", errno))
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// The effective capabilities of this thread, one bit each; capget(2), which needs no /proc.
pub fn effective_capabilities() -> Result<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = CapabilityHeader {
        version: VERSION_3,
        pid: 0,
    };
    // Effective, permitted, inheritable: the low words, then the high ones.
    let mut sets = [0u32; 6];
    let header: *mut CapabilityHeader = &raw mut header;
    // SAFETY: version 3 writes two sets of three words, which `sets` has, and may write the header.
    let answer = unsafe { libc::syscall(libc::SYS_capget, header, sets.as_mut_ptr()) };
    if answer != 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Error::syscall("capget", errno));
    }
    Ok(u64::from(sets[0]) | u64::from(sets[3]) << 32)
}

/// How many CPUs the kernel keeps per-CPU memory for.
///
/// `/sys/devices/system/cpu/possible` reads like `0-3,8-11`; the number of values in a per-CPU
/// map is one more than the highest of them on the kernels that number them without holes, and
/// the count of them everywhere.
pub fn possible_cpus() -> Result<usize> {
    cpus_of("/sys/devices/system/cpu/possible")
}

/// How many CPUs run now.
pub fn online_cpus() -> Result<usize> {
    cpus_of("/sys/devices/system/cpu/online")
}

fn cpus_of(path: &'static str) -> Result<usize> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::from(error).context(path))?;
    parse_cpu_list(text.trim())
        .ok_or_else(|| Error::failed(format!("{path}: {:?} is no list of CPUs", text.trim())))
}

fn parse_cpu_list(list: &str) -> Option<usize> {
    let mut count = 0usize;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.parse().ok()?;
        let last: usize = last.parse().ok()?;
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::parse_cpu_list;

    #[test]
    fn cpu_lists_may_have_holes() {
        assert_eq!(parse_cpu_list("0"), Some(1));
        assert_eq!(parse_cpu_list("0-3,8-11"), Some(8));
        assert_eq!(parse_cpu_list("3-0"), None);
        assert_eq!(parse_cpu_list(""), None);
    }
}
