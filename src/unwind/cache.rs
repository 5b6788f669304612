//! A cache of what earlier walks read, so that a known program costs no file reads.
//!
//! Two kinds of fact are kept, both by file and address in it: the rule that
//! call-frame information gives there, and the kind of code around it. For files
//! without a search table an index of their entries is kept too. Everything is
//! bounded by entries and bytes: a full cache drops the half that was not used
//! lately.

use std::hash::Hash;
use std::mem::size_of;
use std::rc::Rc;

use super::architecture::Site;
use super::rule::Rule;
use super::CfiSection;
use crate::base::address::FileAddress;
use crate::base::allowance::Allowance;
use crate::keyed::Map;

/// A file and an address in it.
pub(super) type Place = (u64, FileAddress);

/// The facts that walks keep for later walks.
#[derive(Debug)]
pub struct Caches {
    /// `None`: there is no call-frame information.
    pub(super) rules: Bounded<Place, Option<Rc<Rule>>>,
    pub(super) sites: Bounded<Place, Site>,
    pub(super) indexes: Bounded<(u64, CfiSection), Rc<Index>>,
    /// The work that a walk may still do, and the time it may take.
    pub(super) allowance: Rc<Allowance>,
}

/// Work of a walk whose caller gives no other.
const MAX_WORK: u64 = 1 << 30;

impl Caches {
    /// Half of `max_bytes` goes to rules, a quarter each to code and to indexes.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Caches::within(
            max_entries,
            max_bytes,
            Rc::new(Allowance::of_work(MAX_WORK)),
        )
    }

    /// The same for walks that are a part of something larger.
    #[must_use]
    pub fn within(max_entries: usize, max_bytes: usize, allowance: Rc<Allowance>) -> Self {
        Caches {
            rules: Bounded::new(max_entries, max_bytes / 2),
            sites: Bounded::new(max_entries, max_bytes / 4),
            indexes: Bounded::new(max_entries, max_bytes / 4),
            allowance,
        }
    }

    /// Takes work that is about to be done, if it may be done.
    pub(super) fn work(&self, units: u64) -> Option<()> {
        self.allowance.take(units).then_some(())
    }

    /// Whether something was not looked for because the allowance was used up.
    pub(super) fn is_out(&self) -> bool {
        self.allowance.is_out()
    }

    /// The estimated memory that is in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rules.bytes() + self.sites.bytes() + self.indexes.bytes()
    }
}

/// The entries of a section, sorted by address.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) entries: Vec<IndexEntry>,
}

/// One entry's code and place in its section.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexEntry {
    pub(super) start: FileAddress,
    pub(super) len: u32,
    pub(super) offset: u32,
}

impl Index {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Index>() + self.entries.capacity() * size_of::<IndexEntry>()
    }

    /// The section offset of the entry that holds an address.
    pub(super) fn find(&self, address: FileAddress) -> Option<u64> {
        let behind = self.entries.partition_point(|entry| entry.start <= address);
        let entry = self.entries.get(behind.checked_sub(1)?)?;
        let into = address.offset_from(entry.start)?;
        (into < u64::from(entry.len)).then_some(u64::from(entry.offset))
    }
}

/// A map in two generations: an entry that is used moves to the young one. When that is
/// full, the old one is dropped and the young one becomes the old one.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    map: Map<K, (V, usize)>,
    bytes: usize,
}

impl<K, V> Default for Generation<K, V> {
    fn default() -> Self {
        Generation {
            map: Map::default(),
            bytes: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Bounded<K, V> {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        Bounded {
            young: Generation::default(),
            old: Generation::default(),
            max_entries,
            max_bytes,
        }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.map.get(key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.map.remove(key)?;
        self.old.bytes = self.old.bytes.saturating_sub(bytes);
        self.add(*key, value.clone(), bytes);
        Some(value)
    }

    /// `bytes` is the memory that the value holds in addition to itself.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        // A slot of the map costs one byte more, and at worst half of the slots are empty.
        let bytes = bytes.saturating_add(2 * (size_of::<(K, (V, usize))>() + 1));
        if bytes <= self.max_bytes / 2 {
            self.add(key, value, bytes);
        }
    }

    fn add(&mut self, key: K, value: V, bytes: usize) {
        let full = self.young.map.len() >= self.max_entries / 2
            || self.young.bytes.saturating_add(bytes) > self.max_bytes / 2;
        if full {
            self.old = std::mem::take(&mut self.young);
        }
        if let Some((_, before)) = self.young.map.insert(key, (value, bytes)) {
            self.young.bytes = self.young.bytes.saturating_sub(before);
        }
        self.young.bytes += bytes;
    }

    fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.map.len() + self.old.map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_keeps_what_is_used() {
        let mut cache = Bounded::new(8, 1 << 20);
        for key in 0..100_u32 {
            cache.insert(key, key, 0);
            assert_eq!(cache.get(&0), Some(0), "used at every step");
            assert!(cache.len() <= 8);
        }
        assert_eq!(cache.get(&50), None, "not used since");
    }

    #[test]
    fn bytes_are_a_bound_too() {
        let mut cache = Bounded::new(1000, 10_000);
        for key in 0..100_u32 {
            cache.insert(key, (), 1000);
            assert!(cache.bytes() <= 10_000);
        }
        cache.insert(7, (), 6000);
        assert_eq!(cache.get(&7), None, "too large to be worth it");
    }

    #[test]
    fn an_index_answers_only_inside_its_entries() {
        let entry = |start, len, offset| IndexEntry {
            start: FileAddress(start),
            len,
            offset,
        };
        let index = Index {
            entries: vec![entry(0x10, 0x10, 1), entry(0x30, 8, 2)],
        };
        assert_eq!(index.find(FileAddress(0x0f)), None);
        assert_eq!(index.find(FileAddress(0x1f)), Some(1));
        assert_eq!(index.find(FileAddress(0x20)), None);
        assert_eq!(index.find(FileAddress(0x37)), Some(2));
    }
}
