//! The addresses that something is read for: all that there are, or a few.
//!
//! A desk reads a unit once and keeps all of it; the monitor keeps only what concerns
//! the addresses of one report.

use crate::base::order;

#[derive(Debug)]
pub(super) struct Wanted<'w> {
    /// Sorted; none means all.
    few: Option<&'w [u64]>,
    /// Which of the few were found, and how many were not.
    found: Vec<bool>,
    missing: usize,
}

impl<'w> Wanted<'w> {
    pub(super) const ALL: Wanted<'static> = Wanted {
        few: None,
        found: Vec::new(),
        missing: 0,
    };

    /// `addresses` are sorted.
    pub(super) fn few(addresses: &'w [u64]) -> Self {
        Wanted {
            few: Some(addresses),
            found: vec![false; addresses.len()],
            missing: addresses.len(),
        }
    }

    /// Whether not everything is wanted.
    pub(super) fn are_few(&self) -> bool {
        self.few.is_some()
    }

    /// Whether an address in the range is wanted.
    pub(super) fn are_in(&self, low: u64, high: u64) -> bool {
        let Some(few) = self.few else { return true };
        let first = few.partition_point(|&address| address < low);
        few.get(first).is_some_and(|&address| address < high)
    }

    /// The same, for one that was not found before. Those in the range are found now.
    pub(super) fn take(&mut self, low: u64, high: u64) -> bool {
        let Some(few) = self.few else { return true };
        let first = few.partition_point(|&address| address < low);
        let mut is_new = false;
        for (&address, found) in few.iter().zip(&mut self.found).skip(first) {
            if address >= high {
                break;
            }
            if !*found {
                *found = true;
                is_new = true;
                self.missing -= 1;
            }
        }
        is_new
    }

    /// Whether nothing is left to be found.
    pub(super) fn are_found(&self) -> bool {
        self.few.is_some() && self.missing == 0
    }
}

/// Sorts by a number; of several with one number the first counts.
pub(super) fn sort<T>(values: &mut Vec<T>, number: impl Fn(&T) -> u64) {
    order::sort(values, &number);
    values.dedup_by_key(|value| number(value));
}
