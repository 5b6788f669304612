//! Folding: which of several equal items are printed, and which are only counted.
//!
//! A [`Folder`] lets a number of items of each key through in each window of time and
//! holds the rest back. When the window ends, the last held item comes out, with the
//! number of items that it stands for: none disappears. `--fold` lets one report of each
//! signature through, and `--max-per-minute` a number of reports of each executable.

use std::time::Duration;

/// Keys remembered at a time; past that the oldest window ends early.
const MAX_KEYS: usize = 256;

/// An item that is let through, and how many it stands for, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<T> {
    pub item: T,
    pub count: u64,
    /// How many of these are the first of a process that died.
    pub deaths: u64,
    /// Its time. For an item that was held back, the time of the first item in its window, which
    /// was let through.
    pub since_ms: u64,
}

/// The state of a key in its window.
#[derive(Debug)]
struct Window<T> {
    key: u64,
    ends: Duration,
    since_ms: u64,
    passed: u64,
    /// The last that was held back, with all before it.
    held: Option<Counted<T>>,
}

/// Lets some of the equal items through.
#[derive(Debug)]
pub struct Folder<T> {
    window: Duration,
    allowed: u64,
    /// Takes off what an item that is held back need not keep.
    shed: fn(&mut T),
    /// In the order in which they end, which is that in which they began.
    windows: Vec<Window<T>>,
}

impl<T> Folder<T> {
    /// Lets `allowed` items of each key through in each `window`.
    #[must_use]
    pub fn new(window: Duration, allowed: u64) -> Self {
        Folder {
            window,
            allowed,
            shed: |_| {},
            windows: Vec::new(),
        }
    }

    /// From here on items that are held back are made smaller.
    #[must_use]
    pub fn shedding(mut self, shed: fn(&mut T)) -> Self {
        self.shed = shed;
        self
    }

    /// Returns `item` if it may pass. Items that were held back in windows that are over, or that
    /// had to end for this one, go to `ended`. `now` never goes back.
    pub fn admit(
        &mut self,
        key: u64,
        mut item: Counted<T>,
        now: Duration,
        ended: &mut Vec<Counted<T>>,
    ) -> Option<Counted<T>> {
        self.end(now, ended);
        let Some(window) = self.windows.iter_mut().find(|window| window.key == key) else {
            if self.windows.len() >= MAX_KEYS {
                ended.extend(self.windows.remove(0).held);
            }
            self.windows.push(Window {
                key,
                ends: now.saturating_add(self.window),
                since_ms: item.since_ms,
                passed: 1,
                held: None,
            });
            return Some(item);
        };
        if window.passed < self.allowed {
            window.passed += 1;
            return Some(item);
        }
        let (count, deaths) = match &window.held {
            Some(held) => (held.count, held.deaths),
            None => (0, 0),
        };
        (self.shed)(&mut item.item);
        window.held = Some(Counted {
            count: item.count.saturating_add(count),
            deaths: item.deaths.saturating_add(deaths),
            item: item.item,
            since_ms: window.since_ms,
        });
        None
    }

    /// Items that were held back in windows that are over go to `ended`, oldest first.
    pub fn end(&mut self, now: Duration, ended: &mut Vec<Counted<T>>) {
        while self.windows.first().is_some_and(|first| first.ends <= now) {
            ended.extend(self.windows.remove(0).held);
        }
    }

    /// When something that is held back is due.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        let held = self.windows.iter().find(|window| window.held.is_some());
        held.map(|window| window.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_made_smaller() {
        let mut folder = Folder::new(at(1000), 1).shedding(|item: &mut u32| *item = 0);
        let counted = |item: u32| Counted {
            item,
            count: 1,
            deaths: 1,
            since_ms: 0,
        };
        let passed = admit(&mut folder, 1, counted(7), at(0));
        assert_eq!(passed[0].item, 7);
        assert!(admit(&mut folder, 1, counted(7), at(1)).is_empty());
        assert_eq!(ended(&mut folder, Duration::MAX)[0].item, 0);
    }

    fn admit<T>(
        folder: &mut Folder<T>,
        key: u64,
        item: Counted<T>,
        now: Duration,
    ) -> Vec<Counted<T>> {
        let mut out = Vec::new();
        let passed = folder.admit(key, item, now, &mut out);
        out.extend(passed);
        out
    }

    fn ended<T>(folder: &mut Folder<T>, now: Duration) -> Vec<Counted<T>> {
        let mut out = Vec::new();
        folder.end(now, &mut out);
        out
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn one(item: u32) -> Counted<u32> {
        counted(item, 1, u64::from(item))
    }

    /// Every second one is a death.
    fn counted(item: u32, count: u64, since_ms: u64) -> Counted<u32> {
        Counted {
            item,
            count,
            deaths: count / 2,
            since_ms,
        }
    }

    #[test]
    fn the_first_passes_and_the_rest_is_counted_when_the_window_ends() {
        let mut folder = Folder::new(at(10), 1);
        assert_eq!(admit(&mut folder, 7, one(1), at(0)), [one(1)]);
        assert_eq!(folder.next_end(), None, "nothing is held back");
        assert_eq!(admit(&mut folder, 7, one(2), at(1)), []);
        assert_eq!(admit(&mut folder, 7, one(3), at(9)), []);
        assert_eq!(
            admit(&mut folder, 8, one(4), at(9)),
            [one(4)],
            "another key"
        );
        assert_eq!(folder.next_end(), Some(at(10)));
        assert_eq!(ended(&mut folder, at(9)), []);
        assert_eq!(
            ended(&mut folder, at(10)),
            [Counted {
                deaths: 0,
                ..counted(3, 2, 1)
            }]
        );
        assert_eq!(
            admit(&mut folder, 7, one(5), at(10)),
            [one(5)],
            "a new window"
        );
    }

    #[test]
    fn a_late_item_brings_out_what_its_window_held_back() {
        let mut folder = Folder::new(at(10), 1);
        admit(&mut folder, 7, one(1), at(0));
        admit(&mut folder, 7, one(2), at(5));
        assert_eq!(
            admit(&mut folder, 7, one(3), at(11)),
            [counted(2, 1, 1), one(3)]
        );
        assert_eq!(ended(&mut folder, Duration::MAX), []);
    }

    #[test]
    fn as_many_pass_as_are_allowed_and_counts_add_up() {
        let mut folder = Folder::new(at(60), 2);
        let many = counted(3, 5, 3);
        assert_eq!(admit(&mut folder, 1, one(1), at(0)), [one(1)]);
        assert_eq!(admit(&mut folder, 1, one(2), at(0)), [one(2)]);
        assert_eq!(admit(&mut folder, 1, many, at(1)), []);
        assert_eq!(admit(&mut folder, 1, one(4), at(2)), []);
        assert_eq!(
            ended(&mut folder, Duration::MAX),
            [Counted {
                deaths: 2,
                ..counted(4, 6, 1)
            }]
        );
    }

    #[test]
    fn no_more_keys_than_there_is_room_for_and_nothing_lost() {
        let mut folder = Folder::new(at(1000), 1);
        let mut printed = 0;
        let keys = 3 * MAX_KEYS as u64;
        for key in 0..keys {
            for _ in 0..2 {
                let out = admit(&mut folder, key, one(0), Duration::from_millis(key));
                printed += out.iter().map(|counted| counted.count).sum::<u64>();
            }
            assert!(folder.windows.len() <= MAX_KEYS);
        }
        printed += ended(&mut folder, Duration::MAX)
            .iter()
            .map(|counted| counted.count)
            .sum::<u64>();
        assert_eq!(printed, 2 * keys);
    }
}
