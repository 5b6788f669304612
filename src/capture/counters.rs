//! The counters of a capture: how many deliveries it saw, and what became of them.

use crate::base::order;

/// The capture program's counters: the sum over all CPUs, since it was attached.
///
/// `detected = filtered + folded + submitted + dropped`, exactly. The names and meanings
/// are those of `struct counters` in bpf/event.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KernelCounters {
    /// Deliveries of a watched signal.
    pub detected: u64,
    /// How many of these were left out by `-p`, `-n`, `--fatal-only`, or because they are our own.
    pub filtered: u64,
    /// Passed the filters; handled, and equal to one that was already sent.
    pub folded: u64,
    /// Passed the filters, not folded, and found a free scratch.
    pub captured: u64,
    /// Whose header is in the ring.
    pub submitted: u64,
    /// Passed the filters, but cannot get a report.
    pub dropped: u64,
    /// How many of these: scratch in use.
    pub dropped_busy: u64,
    /// How many of these: ring full.
    pub dropped_ring: u64,
    /// Detected with a fault address.
    pub fault_info_captured: u64,
    /// Detected without.
    pub fault_info_missed: u64,
    /// Captured, registers not readable.
    pub register_failures: u64,
    /// A stack was wanted and nothing of it arrived.
    pub stack_failures: u64,
    /// Parts that found no room.
    pub parts_lost: u64,
    /// Deliveries that the kernel kept from the program, which was at work on that CPU:
    /// of any signal, watched or not. In none of the other figures.
    pub missed: u64,
}

impl KernelCounters {
    /// As if handled faults had been filtered: those that were only counted, and those whose
    /// records the tool `dropped`.
    #[must_use]
    pub fn without_handled(mut self, dropped: u64) -> Self {
        self.filtered = self.filtered.saturating_add(self.folded);
        self.folded = 0;
        self.filtered_later(dropped)
    }

    /// As if the programs had left out so many that were submitted.
    #[must_use]
    pub fn filtered_later(mut self, count: u64) -> Self {
        self.filtered = self.filtered.saturating_add(count);
        self.captured = self.captured.saturating_sub(count);
        self.submitted = self.submitted.saturating_sub(count);
        self
    }

    /// As if so many had been dropped that were submitted.
    #[must_use]
    pub fn dropped_later(mut self, count: u64) -> Self {
        self.submitted = self.submitted.saturating_sub(count);
        self.dropped = self.dropped.saturating_add(count);
        self
    }
}

/// Users whose drops are counted each; those of all others have one count.
const MAX_USERS: usize = 256;

/// How many crashes were dropped, in all and by user.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Drops {
    all: u64,
    of_users: Vec<(u32, u64)>,
}

impl Drops {
    /// Counts drops of a user, if it is known which one.
    pub fn add(&mut self, uid: Option<u32>, count: u64) {
        self.all = self.all.saturating_add(count);
        let Some(uid) = uid else {
            return;
        };
        match self.of_users.iter().position(|&(known, _)| known == uid) {
            Some(place) => self.of_users[place].1 += count,
            None if self.of_users.len() < MAX_USERS => self.of_users.push((uid, count)),
            None => {}
        }
    }

    pub fn join(&mut self, other: &Drops) {
        let mut of_others = other.all;
        for &(uid, count) in &other.of_users {
            self.add(Some(uid), count);
            of_others = of_others.saturating_sub(count);
        }
        self.add(None, of_others);
    }

    #[must_use]
    pub fn all(&self) -> u64 {
        self.all
    }

    /// At most `most` users, those with the most drops first.
    #[must_use]
    pub fn of_users(&self, most: usize) -> Vec<(u32, u64)> {
        let mut of_users = self.of_users.clone();
        order::sort(&mut of_users, |&(uid, _)| uid.into());
        order::sort(&mut of_users, |&(_, count)| !count);
        of_users.truncate(most);
        of_users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_many_users_are_counted_in_all() {
        let mut drops = Drops::default();
        for uid in 0..1000 {
            drops.add(Some(uid), u64::from(uid % 7));
        }
        drops.add(None, 5);
        let mut joined = drops.clone();
        joined.join(&drops);
        assert_eq!(joined.all(), 2 * drops.all());
        assert_eq!(joined.of_users(2), [(6, 12), (13, 12)]);
    }
}
