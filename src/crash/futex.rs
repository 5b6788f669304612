//! The system call in which threads wait for locks: futex(2), by the kernel's
//! include/uapi/linux/futex.h.

use crate::crash::registers::Arch;
use crate::crash::threads::SystemCall;

/// Bytes at the address of a futex that show who holds a lock of glibc or musl.
pub const WORD_BYTES: usize = 32;

/// The operations in the order of their numbers.
const OPERATIONS: &str = "FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE \
     FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET \
     FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2";
/// FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
const FLAGS: u64 = 0x80 | 0x100;

/// A call of futex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Futex {
    pub address: u64,
    /// Without its flags; `None` for one that has no name.
    pub operation: Option<&'static str>,
    pub waits: bool,
    /// The kernel knows who holds it: the word at the address says so.
    pub inherits: bool,
}

impl Futex {
    /// `None` for other system calls.
    #[must_use]
    pub fn of(arch: Arch, call: &SystemCall) -> Option<Futex> {
        let is_futex = match arch {
            Arch::X86_64 => call.number == 202,
            Arch::Aarch64 => call.number == 98,
            // The second has times of 64 bits.
            Arch::I386 | Arch::Arm => matches!(call.number, 240 | 422),
        };
        if !is_futex {
            return None;
        }
        let number = (call.arguments[1] & 0xffff_ffff & !FLAGS) as usize;
        Some(Futex {
            address: call.arguments[0],
            operation: OPERATIONS.split(' ').nth(number),
            waits: matches!(number, 0 | 6 | 9 | 11 | 13),
            inherits: matches!(number, 6 | 13),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_names_without_their_flags() {
        let of = |arch, number, operation| {
            let arguments = [0x1000, operation, 2, 0, 0, 0];
            Futex::of(arch, &SystemCall { number, arguments })
        };
        let wait = of(Arch::X86_64, 202, 0x80).expect("a futex");
        assert_eq!((wait.address, wait.operation), (0x1000, Some("FUTEX_WAIT")));
        assert!(wait.waits && !wait.inherits);
        let wait = of(Arch::I386, 422, 0x189).expect("a futex");
        assert_eq!(wait.operation, Some("FUTEX_WAIT_BITSET"));
        let lock = of(Arch::Aarch64, 98, 0xffff_ffff_0000_008d).expect("a futex");
        assert_eq!(lock.operation, Some("FUTEX_LOCK_PI2"));
        assert!(lock.waits && lock.inherits);
        let unlock = of(Arch::Arm, 240, 7).expect("a futex");
        assert!(!unlock.waits && !unlock.inherits);
        let unknown = of(Arch::Arm, 240, 77).expect("a futex");
        assert_eq!((unknown.operation, unknown.waits), (None, false));
        assert_eq!(of(Arch::X86_64, 98, 0), None);
        assert_eq!(of(Arch::Aarch64, 202, 0), None);
    }
}
