//! The processes that died recently. Several threads that fault at once are one death;
//! each report of it but the first says so.

use std::collections::VecDeque;

use crate::keyed::Set;

/// How many deaths are remembered: reports of one come within moments.
const REMEMBERED: usize = 1024;

/// A process's identity: its number and when it started.
type Process = (u32, u64);

#[derive(Debug, Default)]
pub struct RecentDeaths {
    known: Set<Process>,
    order: VecDeque<Process>,
}

impl RecentDeaths {
    /// Notes a fatal delivery; true if this process's death is already known. Without its
    /// start time a process cannot be distinguished from an earlier one with the same number.
    pub fn is_repeated(&mut self, host_pid: u32, start_ns: u64) -> bool {
        if start_ns == 0 {
            return false;
        }
        let process = (host_pid, start_ns);
        if !self.known.insert(process) {
            return true;
        }
        self.order.push_back(process);
        if self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_repeated_only_for_the_same_process() {
        let mut deaths = RecentDeaths::default();
        assert!(!deaths.is_repeated(7, 100));
        assert!(deaths.is_repeated(7, 100));
        assert!(!deaths.is_repeated(7, 200), "the number was used again");
    }

    #[test]
    fn processes_of_unknown_start_are_not_taken_for_each_other() {
        let mut deaths = RecentDeaths::default();
        assert!(!deaths.is_repeated(7, 0));
        assert!(!deaths.is_repeated(7, 0));
    }

    #[test]
    fn old_deaths_are_forgotten() {
        let mut deaths = RecentDeaths::default();
        for pid in 0..=REMEMBERED as u32 {
            assert!(!deaths.is_repeated(pid, 1));
        }
        assert!(!deaths.is_repeated(0, 1));
        assert_eq!(deaths.known.len(), REMEMBERED);
    }
}
