//! Explains a kernel's refusal so that the user can act on it.
//!
//! In: the error of a bpf(2) command, the verifier's log if there is one, and the
//! capabilities of this process. Out: one line that says what was refused and why, and a
//! hint. Nothing here tries again.

use crate::base::error::{Error, Kind};
use crate::loader::insn::POISON_HELPER;
use crate::sys::bpf;
use crate::sys::process;

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const UID_MAP: &str = "/proc/self/uid_map";
/// Lines of the verifier's log that usually have the reason: the last ones before its statistics.
const TELLING_LINES: usize = 4;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Which right the process lacks to load tracing programs.
#[must_use]
pub fn missing_right(capabilities: u64) -> Option<&'static str> {
    let has = |number: u32| capabilities >> number & 1 != 0;
    if has(CAP_SYS_ADMIN) {
        return None;
    }
    match (has(CAP_BPF), has(CAP_PERFMON)) {
        (true, true) => None,
        (true, false) => Some("CAP_PERFMON is missing (CAP_BPF is there); or run as root"),
        (false, true) => Some("CAP_BPF is missing (CAP_PERFMON is there); or run as root"),
        (false, false) => {
            Some("run as root, or give the program CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)")
        }
    }
}

fn is_locked_down() -> bool {
    std::fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

/// Whether each user is whom the first user namespace has under that number.
fn is_identity(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn permission_hint() -> String {
    if is_locked_down() {
        return format!(
            "kernel lockdown is in confidentiality mode ({LOCKDOWN}), which forbids reading kernel memory"
        );
    }
    if std::fs::read_to_string(UID_MAP).is_ok_and(|map| !is_identity(&map)) {
        return format!(
            "this is a user namespace ({UID_MAP}), whose capabilities do not count for BPF: run the tool as root outside of it"
        );
    }
    let missing = bpf::effective_capabilities().ok().and_then(missing_right);
    match missing {
        Some(right) => right.to_owned(),
        None if process::has_seccomp_filter() => "the capabilities are there, but a seccomp filter is in force, which refuses bpf(2): start the container with --security-opt seccomp=unconfined, or with a profile that permits bpf and perf_event_open"
            .to_owned(),
        None => "this process has the capabilities, so a seccomp filter (of a container) or a security module refuses bpf(2)"
            .to_owned(),
    }
}

/// A refusal that does not depend on the program: no privilege, no bpf(2).
#[must_use]
pub fn refused(error: Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    match error.errno() {
        Some(bpf::EPERM | bpf::EACCES) => error
            .with_kind(Kind::NotPermitted)
            .context("Permission denied when loading BPF program")
            .with_hint(hint.unwrap_or_else(permission_hint)),
        Some(bpf::ENOSYS) => error
            .with_kind(Kind::Unsupported)
            .context("this kernel has no bpf(2)")
            .with_hint("the kernel must be built with CONFIG_BPF_SYSCALL"),
        _ => error,
    }
}

/// The verifier refused: its reason from the end of the log, or all of the log.
#[must_use]
pub fn verifier(
    error: &Error,
    name: &str,
    log: &[u8],
    verbose: bool,
    relocation_at: impl Fn(usize) -> Option<String>,
) -> Error {
    let log = String::from_utf8_lossy(crate::base::bytes::until_nul(log));
    // Under lockdown the helpers that read kernel memory are as if they did not exist.
    if log.contains("bpf_probe_read") && is_locked_down() {
        let plain = Error::not_permitted(telling_lines(&log)).context(format!("program {name}"));
        return plain
            .context("Permission denied when loading BPF program")
            .with_hint(permission_hint());
    }
    let reason = error.errno().map_or_else(
        || error.to_string(),
        |errno| std::io::Error::from_raw_os_error(errno).to_string(),
    );
    let mut message = format!("Failed to load BPF program: {name}: {reason}");
    let poisoned = poisoned_instruction(&log).and_then(relocation_at);
    if let Some(relocation) = &poisoned {
        message.push_str(&format!(": this kernel lacks {relocation}"));
    } else {
        let telling = telling_lines(&log);
        if !telling.is_empty() {
            message.push_str(": ");
            message.push_str(&telling);
        }
    }
    if verbose && !log.is_empty() {
        message.push('\n');
        message.push_str(log.trim_end());
    }
    let refusal = Error::new(Kind::Failed, message);
    if poisoned.is_some() {
        return refusal
            .with_kind(Kind::Unsupported)
            .with_hint("the program uses a field or value that this kernel does not have");
    }
    // Before callbacks were supported (5.13), their functions look like ones without a caller.
    if log.contains("number of funcs in func_info doesn't match") {
        return refusal
            .with_kind(Kind::Unsupported)
            .with_hint("bpf_loop and its callbacks need Linux 5.17");
    }
    if verbose || log.is_empty() {
        return refusal;
    }
    refusal.with_hint("-v prints the complete log of the verifier")
}

/// The instruction that the verifier stopped at, if it is one that was poisoned.
fn poisoned_instruction(log: &str) -> Option<usize> {
    // The log has "12: (85) call unknown#195896080", then the complaint.
    let mark = format!("unknown#{POISON_HELPER}");
    let line = log
        .lines()
        .find(|line| line.contains(&mark) && line.contains(": (85)"))?;
    line.split(':').next()?.trim().parse().ok()
}

fn telling_lines(log: &str) -> String {
    let is_statistics = |line: &&str| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with("processed ")
            && !line.starts_with("verification time ")
            && !line.starts_with("stack depth ")
    };
    let lines: Vec<&str> = log.lines().filter(is_statistics).collect();
    let from = lines.len().saturating_sub(TELLING_LINES);
    let trimmed: Vec<&str> = lines[from..].iter().map(|line| line.trim()).collect();
    trimmed.join("; ")
}

#[cfg(test)]
mod tests {
    use super::{is_identity, missing_right, verifier};
    use crate::base::error::Error;

    #[test]
    fn the_missing_capability_is_named() {
        assert_eq!(missing_right(1 << 21), None);
        assert_eq!(missing_right(1 << 38 | 1 << 39), None);
        assert!(missing_right(1 << 39).is_some_and(|hint| hint.starts_with("CAP_PERFMON")));
        assert!(missing_right(1 << 38).is_some_and(|hint| hint.starts_with("CAP_BPF")));
        assert!(missing_right(0).is_some_and(|hint| hint.starts_with("run as root")));
    }

    #[test]
    fn a_user_namespace_has_users_of_its_own() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("         0       1000          1\n"));
        assert!(!is_identity(
            "         0     100000      65536\n     65536     200000      65536\n"
        ));
    }

    #[test]
    fn the_last_lines_of_the_log_tell_the_reason() {
        let log =
            b"0: R1=ctx()\n3: (79) r0 = *(u64 *)(r1 +99)\ninvalid bpf_context access off=99\n\
            processed 4 insns (limit 1000000) max_states_per_insn 0\n\0\0";
        let error = Error::syscall("bpf(BPF_PROG_LOAD)", 13);
        let said = verifier(&error, "segfault_x", log, false, |_| None).to_string();
        assert_eq!(
            said,
            "Failed to load BPF program: segfault_x: Permission denied (os error 13): 0: R1=ctx(); \
             3: (79) r0 = *(u64 *)(r1 +99); invalid bpf_context access off=99"
        );
    }

    #[test]
    fn a_reached_relocation_is_named() {
        let log = b"12: (85) call unknown#195896080\ninvalid func unknown#195896080\n";
        let error = Error::syscall("bpf(BPF_PROG_LOAD)", 22);
        let said = verifier(&error, "segfault_x", log, false, |index| {
            (index == 12).then(|| "<byte_off> [7] struct task_struct.gone".to_owned())
        });
        assert_eq!(
            said.to_string(),
            "Failed to load BPF program: segfault_x: Invalid argument (os error 22): \
             this kernel lacks <byte_off> [7] struct task_struct.gone"
        );
    }
}
