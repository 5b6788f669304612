//! Hash maps with a secret key.
//!
//! Crashed programs choose the keys (paths, addresses, numbers). If they could compute
//! the hash, they could make all hashes equal, and every look-up would search through all
//! entries. The standard library's maps have a secret key too, but panic if the kernel
//! has no randomness yet: early after boot, without /dev/urandom. These maps take their key
//! from whatever the kernel gives at once. This crate uses no others.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::OnceLock;

use crate::sys::chance;

pub type Map<K, V> = HashMap<K, V, Key>;
pub type Set<T> = HashSet<T, Key>;

/// The same for all maps of this process.
static KEY: OnceLock<Key> = OnceLock::new();

/// Makes hashers that have hashed only this process's secret so far.
#[derive(Clone, Debug)]
pub struct Key(Keyed);

/// SipHash 1-3; the text begins with a secret. Not inlined: every map would get its own
/// copy.
#[derive(Clone, Debug)]
pub struct Keyed(DefaultHasher);

impl Key {
    /// Without all of these words the hashes cannot be computed.
    fn of(words: &[u64]) -> Key {
        let mut secret = [Keyed(DefaultHasher::new()), Keyed(DefaultHasher::new())];
        for (number, half) in secret.iter_mut().enumerate() {
            half.write_usize(number);
            words.iter().for_each(|word| half.write_u64(*word));
        }
        let mut hasher = Keyed(DefaultHasher::new());
        secret
            .iter()
            .for_each(|half| hasher.write_u64(half.finish()));
        Key(hasher)
    }
}

impl Default for Key {
    #[inline(never)]
    fn default() -> Self {
        KEY.get_or_init(|| Key::of(&chance::words())).clone()
    }
}

impl BuildHasher for Key {
    type Hasher = Keyed;

    #[inline(never)]
    fn build_hasher(&self) -> Keyed {
        self.0.clone()
    }
}

impl Hasher for Keyed {
    #[inline(never)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
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
    fn every_word_of_the_secret_counts() {
        let words = [1, 2, 3, 4, 5];
        let known = Key::of(&words);
        for at in 0..words.len() {
            let mut other = words;
            other[at] ^= 1 << 63;
            assert_ne!(known.hash_one(7), Key::of(&other).hash_one(7));
        }
    }

    #[test]
    fn keys_that_are_chosen_for_another_secret_do_not_collide() {
        let (theirs, ours) = (Key::of(&[1, 2]), Key::of(&[3, 4]));
        let mut buckets = [0; 64];
        let chosen = (0u64..).filter(|key| theirs.hash_one(key).is_multiple_of(64));
        for key in chosen.take(640) {
            buckets[(ours.hash_one(key) % 64) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| *count < 60), "{buckets:?}");
    }
}
