//! Hash maps whose order nobody outside can foresee.
//!
//! Crashed programs choose what becomes a key (paths, addresses, numbers): with a hash
//! that they could compute, equal hashes would make every look-up a search through all.
//! The standard library's maps have a secret key for that, but panic where the kernel
//! has no randomness yet: early after boot, without /dev/urandom. These have a key from
//! whatever the kernel gives at once, and nothing in this crate uses the others.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use crate::sys::chance;

pub type Map<K, V> = HashMap<K, V, Key>;
pub type Set<T> = HashSet<T, Key>;

/// The same for all maps of this process.
static SECRET: OnceLock<[u64; 2]> = OnceLock::new();

/// Makes hashers that share this process's secret.
#[derive(Clone, Copy, Debug)]
pub struct Key([u64; 2]);

impl Default for Key {
    fn default() -> Self {
        Key(*SECRET.get_or_init(|| secret(&chance::words())))
    }
}

impl BuildHasher for Key {
    // Deprecated in favour of maps with a key of the library's own: that is the one that
    // panics. It is SipHash 2-4.
    #[allow(deprecated)]
    type Hasher = std::hash::SipHasher;

    #[allow(deprecated)]
    fn build_hasher(&self) -> Self::Hasher {
        std::hash::SipHasher::new_with_keys(self.0[0], self.0[1])
    }
}

/// Two words that depend on every bit of these; whoever lacks one of them knows nothing.
fn secret(words: &[u64]) -> [u64; 2] {
    let half = |number: u64| {
        let mut hasher = Key([number, 0]).build_hasher();
        for word in words {
            hasher.write_u64(*word);
        }
        hasher.finish()
    };
    [half(1), half(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_one_process_agree() {
        let (a, b) = (Key::default(), Key::default());
        assert_eq!(a.hash_one("text"), b.hash_one("text"));
        assert_ne!(a.hash_one("text"), a.hash_one("other"));
    }

    #[test]
    fn every_source_of_the_secret_counts() {
        let words = [1, 2, 3, 4, 5];
        let known = secret(&words);
        for at in 0..words.len() {
            let mut other = words;
            other[at] ^= 1 << 63;
            let other = secret(&other);
            assert!(known[0] != other[0] && known[1] != other[1]);
        }
        assert_ne!(known[0], known[1]);
    }

    #[test]
    fn keys_that_are_chosen_for_another_secret_do_not_collide() {
        let theirs = Key([1, 2]);
        let mut buckets = [0; 64];
        let chosen = (0u64..).filter(|key| theirs.hash_one(key).is_multiple_of(64));
        for key in chosen.take(640) {
            buckets[(Key([3, 4]).hash_one(key) % 64) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| *count < 60), "{buckets:?}");
    }
}
