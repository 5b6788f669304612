//! What is remembered, for how long, and in how much room.

use super::*;
use crate::symbols::elf::Found;
use std::cell::Cell;

/// Functions of 16 bytes, one every 32; counts how often it is asked.
struct Every32 {
    id: u64,
    asked: Cell<usize>,
    slow: bool,
}

impl Every32 {
    fn new(id: u64) -> Self {
        Every32 {
            id,
            asked: Cell::new(0),
            slow: false,
        }
    }
}

impl Names for Every32 {
    fn id(&self) -> u64 {
        self.id
    }

    fn functions(&self, addresses: &[FileAddress]) -> Option<Vec<Answer>> {
        self.asked.set(self.asked.get() + addresses.len());
        let answer = |address: &FileAddress| {
            let start = address.0 / 32 * 32;
            let inside = address.0 - start < 16;
            let low = FileAddress(if inside { start } else { start + 16 });
            Answer {
                low,
                high: FileAddress(low.0 + 16),
                found: inside.then(|| Found {
                    name: format!("f{}", start / 32).into_bytes(),
                    start: low,
                    size: 16,
                }),
            }
        };
        (!self.slow).then(|| addresses.iter().map(answer).collect())
    }
}

fn shown(symbols: &[Option<Symbol>]) -> Vec<&str> {
    let show = |symbol: &Option<Symbol>| match symbol {
        Some(_) => "some",
        None => "-",
    };
    symbols
        .iter()
        .map(|symbol| match symbol {
            Some(symbol) => std::str::from_utf8(&symbol.name).unwrap(),
            None => show(symbol),
        })
        .collect()
}

fn at(addresses: &[u64]) -> Vec<FileAddress> {
    addresses.iter().copied().map(FileAddress).collect()
}

#[test]
fn what_was_asked_before_is_not_asked_again() {
    let module = Every32::new(7);
    let other = Every32::new(8);
    let mut resolver = Resolver::new(100, Rc::new(MemoryBudget::new(1 << 20)));
    let batch = at(&[64, 5, 20, 70, 5]);
    let expected = ["f2", "f0", "-", "f2", "f0"];
    assert_eq!(shown(&resolver.resolve(&module, &batch)), expected);
    assert_eq!(shown(&resolver.resolve(&module, &batch)), expected);
    assert_eq!(module.asked.get(), 5);
    let stats = resolver.stats();
    // The first batch names two functions twice, and each is remembered at once.
    assert_eq!((stats.misses, stats.hits, stats.scans), (3, 7, 1));
    assert_eq!(stats.entries, 3, "no name is remembered, too");
    resolver.resolve(&other, &at(&[5]));
    assert_eq!(other.asked.get(), 1, "another module has other names");
}

#[test]
fn entries_stay_within_their_limit_and_the_last_used_stay() {
    let module = Every32::new(1);
    let budget = Rc::new(MemoryBudget::new(1 << 20));
    let mut resolver = Resolver::new(10, budget.clone());
    for function in 0..1000 {
        resolver.resolve(&module, &at(&[0, function * 32]));
        assert!(resolver.stats().entries <= 10);
    }
    let stats = resolver.stats();
    assert_eq!(stats.evictions + stats.entries as u64, stats.misses);
    assert_eq!(budget.used(), stats.bytes);
    let asked = module.asked.get();
    resolver.resolve(&module, &at(&[0]));
    assert_eq!(module.asked.get(), asked, "always in use, never evicted");
    resolver.clear();
    assert_eq!((budget.used(), resolver.stats().entries), (0, 0));
}

#[test]
fn the_budget_bounds_it_too_and_nothing_fails_without_room() {
    let module = Every32::new(1);
    let budget = Rc::new(MemoryBudget::new(2000));
    let mut resolver = Resolver::new(1000, budget.clone());
    for function in 0..100 {
        resolver.resolve(&module, &at(&[function * 32]));
        assert!(budget.used() <= 2000);
    }
    assert!(resolver.stats().entries > 2);
    let mut none = Resolver::new(0, Rc::new(MemoryBudget::new(0)));
    assert_eq!(shown(&none.resolve(&module, &at(&[33]))), ["f1"]);
    assert_eq!(none.stats().entries, 0);
}

#[test]
fn a_table_that_takes_too_long_gives_no_names() {
    let module = Every32 {
        slow: true,
        ..Every32::new(1)
    };
    let mut resolver = Resolver::new(10, Rc::new(MemoryBudget::new(1 << 20)));
    assert_eq!(
        shown(&resolver.resolve(&module, &at(&[1, u64::MAX]))),
        ["-", "-"]
    );
    assert_eq!(resolver.stats().timeouts, 1);
}
