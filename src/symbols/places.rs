//! A cache of lines and inlined calls, so that a crash loop reads no debug information
//! twice.
//!
//! In: a module's id, addresses in it, and a function that reads those that are not in
//! the cache. Out: the calls at each. Bounded by number and by the [`MemoryBudget`]: a full
//! cache is emptied, which costs a crash loop nothing.

use std::rc::Rc;

use super::lines::{Call, Lack, Lines};
use crate::base::address::FileAddress;
use crate::base::budget::MemoryBudget;

/// A table of more would take long to insert into.
const MAX_ENTRIES: usize = 4096;

/// Module, address.
type Key = (u64, FileAddress);

/// The cache.
#[derive(Debug)]
pub struct Places {
    limit: usize,
    budget: Rc<MemoryBudget>,
    /// Sorted by key.
    entries: Vec<(Key, Rc<[Call]>)>,
    bytes: usize,
}

fn bytes_of(calls: &[Call]) -> usize {
    let text = |text: &Option<Rc<[u8]>>| text.as_ref().map_or(0, |text| text.len());
    let strings: usize = calls
        .iter()
        .map(|call| text(&call.name) + text(&call.file))
        .sum();
    // Key and pointer, with the unused part of a vector; two counters.
    64 + size_of_val(calls) + strings
}

impl Places {
    /// For at most `limit` addresses.
    #[must_use]
    pub fn new(limit: usize, budget: Rc<MemoryBudget>) -> Self {
        Places {
            limit: limit.min(MAX_ENTRIES),
            budget,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// The calls at each address, none if nothing is known, and what they lack.
    pub fn resolve(
        &mut self,
        module: u64,
        addresses: &[FileAddress],
        read: impl FnOnce(&[FileAddress]) -> Lines,
    ) -> (Vec<Rc<[Call]>>, Option<Lack>) {
        let known = |&address: &FileAddress| {
            let at = self.place((module, address)).ok()?;
            Some(self.entries[at].1.clone())
        };
        let mut found: Vec<Option<Rc<[Call]>>> = addresses.iter().map(known).collect();
        let missing: Vec<FileAddress> = addresses
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(address, _)| *address)
            .collect();
        let mut lack = None;
        if !missing.is_empty() {
            let lines = read(&missing);
            lack = lines.lack;
            let mut answers = missing.into_iter().zip(lines.calls);
            for slot in found.iter_mut().filter(|slot| slot.is_none()) {
                let Some((address, calls)) = answers.next() else {
                    break;
                };
                let calls: Rc<[Call]> = calls.into();
                // With more time or memory there may be more to it.
                if lack.is_none() {
                    self.remember((module, address), calls.clone());
                }
                *slot = Some(calls);
            }
        }
        let found = found.into_iter().map(Option::unwrap_or_default);
        (found.collect(), lack)
    }

    fn place(&self, key: Key) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&key, |(key, _)| *key)
    }

    fn remember(&mut self, key: Key, calls: Rc<[Call]>) {
        let bytes = bytes_of(&calls);
        if self.entries.len() >= self.limit || !self.budget.fits(bytes) {
            self.clear();
        }
        if self.limit == 0 || !self.budget.fits(bytes) {
            return;
        }
        // A batch may hold an address twice.
        let Err(at) = self.place(key) else { return };
        self.entries.insert(at, (key, calls));
        self.bytes += bytes;
        self.budget.take(bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.budget.give_back(self.bytes);
        self.bytes = 0;
        self.entries = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::lines::Refused;

    fn read(addresses: &[FileAddress]) -> Lines {
        let call = |address: &FileAddress| Call {
            line: Some(address.0 as u32),
            ..Call::default()
        };
        Lines {
            calls: addresses
                .iter()
                .map(|address| vec![call(address)])
                .collect(),
            lack: None,
        }
    }

    fn lines(places: &mut Places, module: u64, addresses: &[u64]) -> Vec<Option<u32>> {
        let addresses: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
        let (calls, lack) = places.resolve(module, &addresses, read);
        assert_eq!(lack, None);
        calls.iter().map(|calls| calls[0].line).collect()
    }

    #[test]
    fn a_second_time_nothing_is_read() {
        let budget = Rc::new(MemoryBudget::new(1 << 20));
        let mut places = Places::new(10, budget.clone());
        assert_eq!(
            lines(&mut places, 1, &[5, 6, 5]),
            [Some(5), Some(6), Some(5)]
        );
        let refuse = |_: &[FileAddress]| Lines::none(2, Some(Refused::TimedOut));
        let addresses = [FileAddress(6), FileAddress(5)];
        let (calls, lack) = places.resolve(1, &addresses, refuse);
        assert_eq!(lack, None);
        assert_eq!((calls[0][0].line, calls[1][0].line), (Some(6), Some(5)));
        for _ in 0..2 {
            let (calls, lack) = places.resolve(2, &addresses, refuse);
            let lack = lack.map(|lack| lack.reason);
            assert_eq!(lack, Some(Refused::TimedOut), "another file");
            assert!(calls.iter().all(|calls| calls.is_empty()));
        }
        places.clear();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn room_is_kept() {
        let budget = Rc::new(MemoryBudget::new(2000));
        let mut places = Places::new(1000, budget.clone());
        for address in 0..1000 {
            assert_eq!(lines(&mut places, 1, &[address]), [Some(address as u32)]);
            assert!(budget.used() <= 2000);
        }
        let mut few = Places::new(3, Rc::new(MemoryBudget::new(1 << 20)));
        for address in 0..10 {
            lines(&mut few, 1, &[address]);
            assert!(few.entries.len() <= 3);
        }
    }
}
