//! A cache of names, so that a crash loop scans no symbol table twice.
//!
//! In: a module (anything that implements [`Names`]) and a batch of addresses in it. Out: a
//! [`Symbol`] for each that has one. An entry is a range of addresses with the same
//! answer, which may be that there is no name. Entries are bounded by number and by the
//! [`MemoryBudget`]: if there is no room, the half that was not used lately is dropped.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::demangle::demangle;
use super::elf::Answer;
#[cfg(feature = "lines")]
use super::lines::Lines;
use crate::base::address::FileAddress;
use crate::base::budget::MemoryBudget;

/// A module that can be asked for the functions at addresses.
pub trait Names {
    /// Equal for equal files, as long as the program runs.
    fn id(&self) -> u64;

    /// One answer for each address; `None` if it would take too long.
    fn functions(&self, addresses: &[FileAddress]) -> Option<Vec<Answer>>;

    /// Takes work that is about to be done for it; whether it may be done.
    fn work(&self, _units: u64) -> bool {
        true
    }

    /// The calls that each address stands for, with their lines; none where there is
    /// no debug information.
    #[cfg(feature = "lines")]
    fn calls(&self, addresses: &[FileAddress]) -> Lines {
        Lines::none(addresses.len(), None)
    }
}

/// A function's name, readable if possible, and its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: Rc<[u8]>,
    pub start: FileAddress,
}

/// Takes the work that makes a name readable.
fn affords(module: &dyn Names, name: &[u8]) -> bool {
    const PER_BYTE: u64 = 64;
    module.work(name.len() as u64 * PER_BYTE)
}

/// What a cache did, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ResolverStats {
    /// Addresses answered from memory.
    pub hits: u64,
    /// Addresses that a symbol table was read for.
    pub misses: u64,
    /// Passes over symbol tables, one for each batch that missed.
    pub scans: u64,
    /// Passes refused or given up for taking too long.
    pub timeouts: u64,
    /// Entries dropped for room.
    pub evictions: u64,
    pub entries: usize,
    pub bytes: usize,
}

/// Module, first address.
type Key = (u64, u64);

#[derive(Debug)]
struct Entry {
    high: FileAddress,
    symbol: Option<Symbol>,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        // The entry in its tree, and slack of the nodes.
        const FIXED: usize = 2 * (size_of::<Key>() + size_of::<Entry>());
        // A reference-counted name has two counters before it.
        FIXED
            + self
                .symbol
                .as_ref()
                .map_or(0, |symbol| symbol.name.len() + 16)
    }
}

/// The cache.
#[derive(Debug)]
pub struct Resolver {
    limit: usize,
    budget: Rc<MemoryBudget>,
    entries: BTreeMap<Key, Entry>,
    clock: u64,
    stats: ResolverStats,
}

impl Resolver {
    /// At most `limit` entries.
    #[must_use]
    pub fn new(limit: usize, budget: Rc<MemoryBudget>) -> Self {
        Resolver {
            limit,
            budget,
            entries: BTreeMap::new(),
            clock: 0,
            stats: ResolverStats::default(),
        }
    }

    #[must_use]
    pub fn stats(&self) -> ResolverStats {
        ResolverStats {
            entries: self.entries.len(),
            ..self.stats
        }
    }

    /// The symbol that holds each address, in the order of `addresses`.
    pub fn resolve(
        &mut self,
        module: &dyn Names,
        addresses: &[FileAddress],
    ) -> Vec<Option<Symbol>> {
        let id = module.id();
        let mut symbols = vec![None; addresses.len()];
        let mut missing = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            match self.look_up(id, address) {
                Some(symbol) => symbols[index] = symbol,
                None => missing.push(index),
            }
        }
        if missing.is_empty() {
            return symbols;
        }
        let asked: Vec<FileAddress> = missing.iter().map(|&index| addresses[index]).collect();
        self.stats.scans += 1;
        let Some(answers) = module.functions(&asked) else {
            // Not remembered: the next time there may be time.
            self.stats.timeouts += 1;
            self.stats.misses += asked.len() as u64;
            return symbols;
        };
        for (&index, answer) in missing.iter().zip(answers) {
            // A batch may hold an address twice.
            symbols[index] = match self.look_up(id, addresses[index]) {
                Some(symbol) => symbol,
                None if answer
                    .found
                    .as_ref()
                    .is_some_and(|found| !affords(module, &found.name)) =>
                {
                    None
                }
                None => self.remember(id, answer),
            };
        }
        symbols
    }

    /// Forgets everything.
    #[cfg(test)]
    fn clear(&mut self) {
        self.budget.give_back(self.stats.bytes);
        self.stats.bytes = 0;
        self.entries.clear();
    }

    fn look_up(&mut self, id: u64, address: FileAddress) -> Option<Option<Symbol>> {
        let (key, entry) = self.entries.range_mut(..=(id, address.0)).next_back()?;
        if key.0 != id || address >= entry.high {
            return None;
        }
        self.clock += 1;
        entry.used = self.clock;
        self.stats.hits += 1;
        Some(entry.symbol.clone())
    }

    fn remember(&mut self, id: u64, answer: Answer) -> Option<Symbol> {
        self.stats.misses += 1;
        let symbol = answer.found.map(|found| Symbol {
            name: demangle(&found.name).into(),
            start: found.start,
        });
        self.clock += 1;
        let entry = Entry {
            high: answer.high,
            symbol: symbol.clone(),
            used: self.clock,
        };
        let bytes = entry.bytes();
        let full = |cache: &Self| cache.entries.len() >= cache.limit || !cache.budget.fits(bytes);
        while full(self) && self.evict() {}
        if full(self) {
            return symbol;
        }
        let key = (id, answer.low.0);
        if let Some(replaced) = self.entries.insert(key, entry) {
            self.release(replaced.bytes());
        }
        self.stats.bytes += bytes;
        self.budget.take(bytes);
        symbol
    }

    /// Drops the half of the entries that was not used lately; false if there is none.
    fn evict(&mut self) -> bool {
        let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        uses.sort_unstable();
        let Some(&last) = uses.get(uses.len().saturating_sub(1) / 2) else {
            return false;
        };
        let unused = self.entries.iter().filter(|(_, entry)| entry.used <= last);
        let unused: Vec<Key> = unused.map(|(key, _)| *key).collect();
        for key in unused {
            if let Some(entry) = self.entries.remove(&key) {
                self.stats.evictions += 1;
                self.release(entry.bytes());
            }
        }
        true
    }

    fn release(&mut self, bytes: usize) {
        self.stats.bytes = self.stats.bytes.saturating_sub(bytes);
        self.budget.give_back(bytes);
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
