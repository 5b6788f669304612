//! Distributes work over several CPUs while programs are loaded.
//!
//! If there is only one CPU, or no thread can be started, the caller does all the work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;
use std::thread::Builder;

use crate::sys::process;

const MOST_THREADS: usize = 4;
/// Stack of a thread; large values are on the heap.
const STACK_BYTES: usize = 128 << 10;

fn thread() -> Builder {
    Builder::new().stack_size(STACK_BYTES)
}

/// What two pieces of work give; the second is done beside the first.
pub(super) fn both<A, B: Send + Sync>(
    first: impl FnOnce() -> A,
    second: impl Fn() -> B + Sync,
) -> (A, B) {
    let place = OnceLock::new();
    let first = std::thread::scope(|scope| {
        if process::our_cpus() > 1 {
            let beside = || {
                place.get_or_init(&second);
            };
            let _ = thread().spawn_scoped(scope, beside);
        }
        let first = first();
        // Waits for it, if it was begun.
        place.get_or_init(&second);
        first
    });
    let second = place.into_inner().unwrap_or_else(second);
    (first, second)
}

/// What the work gives for each item, in their order. It begins with the last.
pub(super) fn each<T: Sync, R: Send + Sync>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let left = AtomicUsize::new(items.len());
    let places: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let take = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
    };
    let run = || {
        while let Ok(left) = take() {
            if let Some((item, place)) = items.iter().zip(&places).nth(left - 1) {
                let _ = place.set(work(item));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..process::our_cpus().min(items.len()).min(MOST_THREADS) {
            let _ = thread().spawn_scoped(scope, run);
        }
        run();
    });
    places
        .into_iter()
        .filter_map(OnceLock::into_inner)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_answer_in_its_place() {
        let numbers: Vec<u32> = (0..100).collect();
        let doubled = each(&numbers, |number| number * 2);
        assert_eq!(doubled, (0..200).step_by(2).collect::<Vec<_>>());
        assert!(each(&[0u8; 0], |_| 1).is_empty());
    }

    #[test]
    fn both_are_done_once() {
        let count = AtomicUsize::new(0);
        let (one, other) = both(|| 1, || count.fetch_add(1, Ordering::Relaxed));
        assert_eq!((one, other, count.into_inner()), (1, 0, 1));
    }
}
