//! What the processor and the signal say about a fault: its address, the kind
//! of access, the sender. Pure functions over an event's numbers.
//!
//! A signal's code decides which of its fields are valid. The thread's trap words
//! describe its last fault, however long ago it was. Both count only if they agree.
//! x86 page-fault error codes: arch/x86/include/asm/trap_pf.h;
//! arm64 syndromes: arch/arm64/include/asm/esr.h.

use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Siginfo, Trap};
use crate::crash::kinds::{Access, Sender};
use crate::crash::registers::Arch;
use crate::crash::signals::{code, signal, trap};

const X86_FAULT_WRITE: u64 = 1 << 1;
const X86_FAULT_FETCH: u64 = 1 << 4;

const ESR_CLASS_SHIFT: u64 = 26;
const ESR_CLASS_FETCH_LOWER: u64 = 0x20;
const ESR_CLASS_DATA_LOWER: u64 = 0x24;
const ESR_CACHE_MAINTENANCE: u64 = 1 << 8;
const ESR_WRITE: u64 = 1 << 6;

/// Addresses below this are a null pointer, or an offset from one: mmap_min_addr is 64 KB
/// if it is set.
pub const NULL_BYTES: u64 = 64 << 10;

/// Bits of an address that are none of a tag's (arm64's top-byte-ignore).
pub const UNTAGGED: u64 = (1 << 56) - 1;

/// Whether the kernel made this signal for a fault at a known address.
#[must_use]
pub fn has_address(code: i32) -> bool {
    code > code::SI_USER && code != code::SI_KERNEL
}

/// What the first word of a siginfo means with this code.
#[must_use]
pub fn siginfo(code: i32, word: u64) -> Siginfo {
    match code {
        _ if has_address(code) => Siginfo::Address(ProcessAddress(word)),
        _ if has_sender(code) => {
            let pid = word as u32;
            // 0 is the kernel, or somebody outside of the target's namespace.
            Siginfo::Sender(Sender {
                pid: (pid != 0).then_some(pid),
                uid: Some((word >> 32) as u32),
            })
        }
        _ => Siginfo::Neither,
    }
}

/// Whether a process, or the kernel in its place, sent this signal and is named.
fn has_sender(code: i32) -> bool {
    matches!(
        code,
        code::SI_USER | code::SI_QUEUE | code::SI_MESGQ | code::SI_TKILL
    )
}

/// The address that was touched, where the signal names one.
#[must_use]
pub fn address(signal: i32, code: i32, siginfo: Siginfo) -> Option<ProcessAddress> {
    // The kernel's null is no address here, but the lack of one.
    let lacks = matches!(
        (signal, code),
        (signal::SIGBUS, code::BUS_ADRALN)
            | (signal::SIGSEGV, code::SEGV_CPERR | code::SEGV_MTEAERR)
    );
    siginfo
        .address()
        .filter(|address| !(lacks && address.0 == 0))
}

/// Whether the processor named this address at the thread's last fault.
#[must_use]
pub fn is_at(trap: &Trap, address: u64) -> bool {
    (trap.address ^ address) & UNTAGGED == 0
}

/// The exception class of an arm64 syndrome.
#[must_use]
pub fn syndrome_class(syndrome: u64) -> u64 {
    syndrome >> ESR_CLASS_SHIFT & 0x3f
}

/// How memory was accessed; `None` if no page fault led to this signal, or
/// where the last one was at another address.
#[must_use]
pub fn access(arch: Arch, siginfo: Siginfo, trap: Option<Trap>) -> Option<Access> {
    let trap = trap.filter(|trap| {
        let named = siginfo.address();
        named.is_some_and(|address| is_at(trap, address.0))
    })?;
    match arch {
        // The kernel's words are the same for 32-bit tasks.
        Arch::X86_64 | Arch::I386 => x86_access(&trap),
        Arch::Aarch64 | Arch::Arm => arm64_access(trap.error_code),
    }
}

fn x86_access(trap: &Trap) -> Option<Access> {
    match trap.error_code {
        _ if trap.number != trap::PAGE_FAULT => None,
        code if code & X86_FAULT_FETCH != 0 => Some(Access::Execute),
        code if code & X86_FAULT_WRITE != 0 => Some(Access::Write),
        _ => Some(Access::Read),
    }
}

fn arm64_access(syndrome: u64) -> Option<Access> {
    match syndrome_class(syndrome) {
        ESR_CLASS_FETCH_LOWER => Some(Access::Execute),
        // A cache operation counts as a write there, and reads at most.
        ESR_CLASS_DATA_LOWER if syndrome & ESR_CACHE_MAINTENANCE != 0 => Some(Access::Read),
        ESR_CLASS_DATA_LOWER if syndrome & ESR_WRITE != 0 => Some(Access::Write),
        ESR_CLASS_DATA_LOWER => Some(Access::Read),
        _ => None,
    }
}

/// Whether another process sent this signal: then it is no consequence of what
/// the thread did before.
#[must_use]
pub fn is_sent_by_another(event: &Event) -> bool {
    match event.siginfo {
        Siginfo::Sender(sender) => sender.pid != Some(event.ns_pid),
        // raise(3) sends in this way, to the thread itself.
        Siginfo::Unknown => has_sender(event.code) && event.code != code::SI_TKILL,
        Siginfo::Address(_) | Siginfo::Neither => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPERR: i32 = 1;

    fn x86(code: i32, address: u64, error_code: u64, number: u64) -> Option<Access> {
        let trap = Trap {
            address: 0x1000,
            error_code,
            number,
        };
        access(Arch::X86_64, siginfo(code, address), Some(trap))
    }

    #[test]
    fn x86_error_codes_tell_the_access() {
        assert_eq!(x86(MAPERR, 0x1000, 4, 14), Some(Access::Read));
        assert_eq!(x86(MAPERR, 0x1000, 6, 14), Some(Access::Write));
        assert_eq!(x86(2, 0x1000, 15 | 0x10, 14), Some(Access::Execute));
    }

    #[test]
    fn stale_traps_tell_nothing() {
        assert_eq!(x86(MAPERR, 0x2000, 6, 14), None, "another address");
        assert_eq!(x86(MAPERR, 0x1000, 6, 13), None, "not a page fault");
        assert_eq!(x86(0, 0x1000, 6, 14), None, "sent");
        assert_eq!(x86(0x80, 0, 6, 14), None, "general protection");
        let of = |signal, code, word| address(signal, code, siginfo(code, word));
        assert_eq!(of(signal::SIGSEGV, 0x80, 0), None);
        assert_eq!(of(signal::SIGSEGV, -6, 0x1234), None);
        assert_eq!(of(signal::SIGSEGV, MAPERR, 0), Some(ProcessAddress(0)));
        assert_eq!(of(signal::SIGBUS, code::BUS_ADRALN, 0), None);
        assert_eq!(address(signal::SIGSEGV, MAPERR, Siginfo::Unknown), None);
    }

    #[test]
    fn arm64_syndromes_tell_the_access() {
        let at = |error_code| {
            let trap = Trap {
                address: 0x1000,
                error_code,
                number: 0,
            };
            access(
                Arch::Aarch64,
                siginfo(MAPERR, 0xab00_0000_0000_1000),
                Some(trap),
            )
        };
        assert_eq!(at(0x9200_0045), Some(Access::Write));
        assert_eq!(at(0x9200_0005), Some(Access::Read));
        assert_eq!(at(0x8200_0005), Some(Access::Execute));
        assert_eq!(at(0x5600_0000), None, "a system call is no fault");
    }

    #[test]
    fn only_sent_signals_have_a_sender() {
        let sent = 1000 << 32 | 77;
        assert_eq!(
            siginfo(0, sent).sender(),
            Some(Sender {
                pid: Some(77),
                uid: Some(1000)
            })
        );
        assert_eq!(
            siginfo(-6, 0).sender(),
            Some(Sender {
                pid: None,
                uid: Some(0)
            })
        );
        assert_eq!(siginfo(MAPERR, sent).sender(), None);
        assert_eq!(siginfo(-2, sent).sender(), None, "a timer has no sender");
    }
}
