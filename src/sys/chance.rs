//! Numbers that no other program knows, even if the kernel has no randomness yet.
//!
//! The kernel gives each program sixteen random bytes when it is executed, and more on
//! request. Early after boot a request is refused while entropy is being gathered, and
//! there may be no /dev/urandom. So nothing here waits, opens a file or fails.

use super::time;

/// Random bytes even before the kernel has gathered entropy (5.6).
const GRND_INSECURE: libc::c_uint = 4;

/// The words of the kernel's two sources, mixed with the time and the memory layout.
#[must_use]
pub fn words() -> [u64; 7] {
    let [first, second] = at_exec();
    let [third, fourth] = on_request();
    let now = time::realtime_ns().cast_unsigned();
    // The address of the stack is random too.
    let place = std::ptr::from_ref(&now).addr() as u64;
    [
        first,
        second,
        third,
        fourth,
        now,
        time::monotonic_ns(),
        place,
    ]
}

/// Two words from the sixteen bytes at `bytes`.
fn pair(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_ne_bytes(bytes);
    [whole as u64, (whole >> 64) as u64]
}

/// What the kernel gave this program when it was executed.
fn at_exec() -> [u64; 2] {
    // SAFETY: takes a number by value.
    let address = unsafe { libc::getauxval(libc::AT_RANDOM) };
    if address == 0 {
        return [0; 2];
    }
    let place = address as *const [u8; 16];
    // SAFETY: the kernel has put sixteen bytes there, which stay forever; nothing writes them.
    pair(unsafe { place.read_unaligned() })
}

/// What the kernel gives now, without waiting.
fn on_request() -> [u64; 2] {
    let mut bytes = [0u8; 16];
    for flags in [GRND_INSECURE, libc::GRND_NONBLOCK] {
        // SAFETY: the kernel writes at most as many bytes as the array has.
        let got =
            unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), flags) };
        if got == 16 {
            break;
        }
    }
    pair(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_gives_something() {
        assert!(at_exec().iter().all(|word| *word != 0));
        assert_ne!(on_request(), on_request());
        assert_eq!(at_exec(), at_exec());
    }
}
