//! Faults that a handler took: each place is reported once in a window of time and
//! counted in between; and each fault is remembered for the fatal delivery that may
//! follow.
//!
//! This does with perf samples what bpf/fold.h and `remember_fault()` do in the kernel.
//! Both lists are bounded: the least recently used entry is evicted.

use crate::capture::Folded;
use crate::crash::event::{EarlierFault, FaultSite};

/// More than [`Repeats`](crate::report::repeats) asks for, as in bpf/fold.h: an entry that is
/// evicted here is not reported.
const MAX_SITES: usize = 2048;
const MAX_FIRST: usize = 256;

#[derive(Debug)]
struct Fold {
    site: FaultSite,
    since_ns: u64,
    count: u64,
    last_ns: u64,
}

/// Sites that are counted, and threads that overcame a fault. Times are
/// `CLOCK_BOOTTIME`.
#[derive(Debug, Default)]
pub(super) struct Handled {
    folds: Vec<Fold>,
    /// By thread.
    first: Vec<(u32, EarlierFault)>,
}

impl Handled {
    /// Whether a fault is only counted; else how many were since the last that was
    /// reported. Without a window each is reported.
    pub(super) fn fold(&mut self, site: FaultSite, now_ns: u64, window_ns: u64) -> Option<u64> {
        if window_ns == 0 {
            return Some(0);
        }
        let known = self.folds.iter().position(|fold| fold.site == site);
        let mut fold = match known {
            Some(place) => self.folds.remove(place),
            None => Fold {
                site,
                since_ns: 0,
                count: 0,
                last_ns: 0,
            },
        };
        let is_counted = known.is_some() && now_ns.saturating_sub(fold.since_ns) < window_ns;
        let mut repeats = None;
        if is_counted {
            fold.count += 1;
            fold.last_ns = now_ns;
        } else {
            fold.since_ns = now_ns;
            repeats = Some(std::mem::take(&mut fold.count));
        }
        if self.folds.len() >= MAX_SITES {
            self.folds.remove(0);
        }
        self.folds.push(fold);
        repeats
    }

    /// What was counted at a site and not reported; the count then begins at 0 again.
    pub(super) fn take(&mut self, site: &FaultSite) -> Option<Folded> {
        let place = self.folds.iter().position(|fold| fold.site == *site)?;
        let fold = self.folds.remove(place);
        (fold.count > 0).then_some(Folded {
            count: fold.count,
            last_boot_ns: fold.last_ns,
        })
    }

    /// Keeps a fault that a handler is about to take.
    pub(super) fn remember(&mut self, tid: u32, fault: EarlierFault) {
        self.first.retain(|(known, _)| *known != tid);
        if self.first.len() >= MAX_FIRST {
            self.first.remove(0);
        }
        self.first.push((tid, fault));
    }

    /// The fault that this thread took since it became what it is.
    pub(super) fn recall(&mut self, tid: u32, image_ns: u64) -> Option<EarlierFault> {
        let place = self.first.iter().position(|(known, _)| *known == tid)?;
        let (_, fault) = self.first.remove(place);
        (fault.boot_ns > image_ns).then_some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::ProcessAddress;
    use crate::crash::event::Siginfo;

    fn site(pid: u32) -> FaultSite {
        FaultSite {
            pc: ProcessAddress(0x1000),
            host_pid: pid,
            signal: 11,
            code: 1,
        }
    }

    #[test]
    fn one_of_a_window_is_reported_and_the_next_has_their_number() {
        let mut handled = Handled::default();
        let reported: Vec<_> = [10, 11, 12, 20, 21]
            .map(|now| handled.fold(site(7), now, 10))
            .to_vec();
        assert_eq!(reported, [Some(0), None, None, Some(2), None]);
        let folded = Folded {
            count: 1,
            last_boot_ns: 21,
        };
        assert_eq!(handled.take(&site(7)), Some(folded));
        assert_eq!(handled.take(&site(7)), None);
        assert_eq!(handled.fold(site(7), 22, 10), Some(0));
        assert_eq!(handled.fold(site(7), 22, 0), Some(0), "without a window");
    }

    #[test]
    fn the_site_used_longest_ago_is_forgotten() {
        let mut handled = Handled::default();
        for pid in 0..=MAX_SITES as u32 {
            handled.fold(site(pid), 1, 10);
            handled.fold(site(0), 1, 10);
        }
        assert_eq!(handled.fold(site(0), 2, 10), None);
        assert_eq!(handled.fold(site(1), 2, 10), Some(0));
    }

    #[test]
    fn a_fault_is_recalled_once_and_by_the_same_program() {
        let mut handled = Handled::default();
        let fault = EarlierFault {
            signal: 11,
            code: 1,
            siginfo: Siginfo::Unknown,
            pc: ProcessAddress(1),
            trap: None,
            boot_ns: 50,
        };
        handled.remember(7, fault);
        assert_eq!(handled.recall(8, 1), None);
        assert_eq!(handled.recall(7, 49), Some(fault));
        assert_eq!(handled.recall(7, 49), None);
        handled.remember(7, fault);
        assert_eq!(handled.recall(7, 51), None, "of the program before");
    }
}
