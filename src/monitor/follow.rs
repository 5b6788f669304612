//! Processes that end although a handler took their fault: a runtime that prints an error
//! and exits, a handler that aborts.
//!
//! In: reports of handled faults, and the ends of processes. Out: the same reports, each
//! at most about a second later. If its process has ended, a report comes out at once, and
//! says how it ended ([`Exit`]). Reports of fatal crashes are not delayed. The last fault
//! before the end is the one that the process died of, unless there is a fatal report of
//! the same process. With `--fatal-only` all other reports of handled faults are dropped
//! here.
//!
//! The number of held reports is bounded: past [`MAX_HELD`] the oldest goes out at once.

use std::collections::VecDeque;
use std::time::Duration;

use crate::capture::record::assemble::Ended;
use crate::crash::event::{Disposition, FaultSite};
use crate::report::{Exit, Report};
use crate::sys::process::Watch;

/// How long an end is waited for: FOLLOWED_NS of bpf/follow.h, and for the record.
const WAIT: Duration = Duration::from_millis(1100);
const MAX_HELD: usize = 64;
/// Reports that are kept for faults that the capture program only counts: the last fault of
/// a process may be a repetition.
const MAX_LAST: usize = 32;

/// A process's identity: its number in the first pid namespace, and when it began.
type Process = (u32, u64);

/// A report with what decides whether it is folded.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub report: Box<Report>,
    pub site: Option<FaultSite>,
    /// Counted at its site before.
    pub repeats: u64,
    pub process: Process,
    /// The core file of a fatal crash, if one is to be written.
    pub core: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Held {
    item: Item,
    until: Duration,
    /// Used if the capture does not report the ends of processes.
    watch: Option<Watch>,
}

/// The events that it waits for.
#[derive(Debug)]
pub(super) struct Followed {
    fatal_only: bool,
    /// In the order of their time.
    held: VecDeque<Held>,
    last: VecDeque<Item>,
    unwanted: u64,
}

impl Followed {
    #[must_use]
    pub(super) fn new(fatal_only: bool) -> Self {
        Followed {
            fatal_only,
            held: VecDeque::new(),
            last: VecDeque::new(),
            unwanted: 0,
        }
    }

    /// Reports that `--fatal-only` left out.
    #[must_use]
    pub(super) fn unwanted(&self) -> u64 {
        self.unwanted
    }

    /// What goes out now that this report has come. `reports_ends`: the capture reports how
    /// processes end.
    pub(super) fn admit(&mut self, item: Item, now: Duration, reports_ends: bool) -> Vec<Item> {
        let mut out = Vec::new();
        if item.report.delivery.disposition == Disposition::Fatal {
            self.forget(item.process, &mut out);
            out.push(item);
            return out;
        }
        let is_fault = item.report.delivery.disposition == Disposition::Handled
            && item.report.delivery.code > 0;
        if !is_fault {
            self.let_go(item, &mut out);
            return out;
        }
        while self.held.len() >= MAX_HELD {
            self.let_go_first(&mut out);
        }
        self.remember(&item);
        let watch = (!reports_ends).then(|| Watch::open(item.report.process.pid));
        self.held.push_back(Held {
            item,
            until: now.saturating_add(WAIT),
            watch,
        });
        out
    }

    /// What goes out because a process has ended. `take` gives how many faults were
    /// counted at a site since, and when the last was, by the clock of uptime.
    pub(super) fn ended(
        &mut self,
        ended: &Ended,
        take: &mut dyn FnMut(&FaultSite) -> Option<(u64, u64)>,
    ) -> Option<Item> {
        let process = (ended.host_pid, ended.start_ns);
        let exit = exit(ended.status);
        let of = |held: &Held| held.item.process == process;
        let place = self.held.iter().rposition(of);
        // What the process survived is reported as before.
        let mut nothing = |_: &FaultSite| None;
        let take = match exit.is_death() {
            true => take,
            false => &mut nothing,
        };
        let (item, folded) = match place.and_then(|place| self.held.remove(place)) {
            Some(Held { item, .. }) => {
                let folded = item.site.as_ref().and_then(take);
                (Some(item), folded)
            }
            None => self.counted(process, take),
        };
        self.last.retain(|known| known.process != process);
        let mut item = item?;
        // The last of the faults that were only counted since stands for all.
        if let Some((count, last_ms)) = folded {
            let time = &mut item.report.time;
            let later_ms = last_ms.saturating_sub(time.uptime_ms);
            time.uptime_ms += later_ms;
            time.unix_ms += later_ms;
            item.repeats = item.repeats.saturating_add(count);
        }
        item.report.exit = Some(exit);
        if self.fatal_only && !exit.is_death() {
            self.unwanted += 1;
            return None;
        }
        Some(item)
    }

    /// The report of a process that was written before, and whose repetitions were counted;
    /// one of these is what it stands for now.
    fn counted(
        &self,
        process: Process,
        take: &mut dyn FnMut(&FaultSite) -> Option<(u64, u64)>,
    ) -> (Option<Item>, Option<(u64, u64)>) {
        let of_process = |item: &&Item| item.process == process;
        for item in self.last.iter().rev().filter(of_process) {
            if let Some((count, last_ms)) = item.site.as_ref().and_then(&mut *take) {
                let mut item = item.clone();
                item.repeats = 0;
                return (Some(item), Some((count.saturating_sub(1), last_ms)));
            }
        }
        (None, None)
    }

    /// What goes out because nothing has ended it by now; at the end of everything all.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Item> {
        let mut out = Vec::new();
        while self.held.front().is_some_and(|held| held.until <= now) {
            self.let_go_first(&mut out);
        }
        out
    }

    /// When [`Followed::due`] has something to do.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.held.front().map(|held| held.until)
    }

    fn let_go_first(&mut self, out: &mut Vec<Item>) {
        let Some(mut held) = self.held.pop_front() else {
            return;
        };
        let of = held.item.process;
        let is_last = self.held.iter().all(|later| later.item.process != of);
        if let Some(status) = held
            .watch
            .filter(|_| is_last)
            .and_then(|watch| watch.ended())
        {
            held.item.report.exit = Some(exit(status));
        }
        self.let_go(held.item, out);
    }

    fn let_go(&mut self, item: Item, out: &mut Vec<Item>) {
        let died = item.report.exit.is_some_and(|exit| exit.is_death());
        match self.fatal_only && !died {
            true => self.unwanted += 1,
            false => out.push(item),
        }
    }

    /// A fatal report of this process comes: its held reports go out first.
    fn forget(&mut self, process: Process, out: &mut Vec<Item>) {
        self.last.retain(|item| item.process != process);
        for held in std::mem::take(&mut self.held) {
            match held.item.process == process {
                true => self.let_go(held.item, out),
                false => self.held.push_back(held),
            }
        }
    }

    fn remember(&mut self, item: &Item) {
        let same = |known: &Item| known.process == item.process && known.site == item.site;
        self.last.retain(|known| !same(known));
        if self.last.len() >= MAX_LAST {
            self.last.pop_front();
        }
        self.last.push_back(item.clone());
    }
}

/// The status of wait(2), decoded.
fn exit(status: Option<u32>) -> Exit {
    match status {
        None => Exit::Unknown,
        Some(status) => match status & 0x7f {
            0 => Exit::Status((status >> 8) as u8),
            signal => Exit::Signal(signal as i32),
        },
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
