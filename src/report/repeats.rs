//! Which reports are printed, and which are only counted.
//!
//! Every fatal crash is printed unless `--fold` or `--max-per-minute` asks for less. A
//! fault that a handler takes, and that the process does not die of, is not a crash:
//! such faults are folded by default. The capture program folds those of one place in
//! one process; this module folds equal reports of several processes or places. Every
//! folded report is counted: see [`Folder`].

use std::time::Duration;

use crate::capture::Folded;
use crate::config::RepeatsConfig;
use crate::crash::event::{Disposition, FaultSite, Lost};
use crate::report::fold::{Counted, Folder};
use crate::report::{Exit, Report};

/// Sites of handled faults remembered at a time, with a report each; past that the
/// oldest is asked for its number at once, and its next fault gets a full report.
const MAX_SITES: u64 = 1024;
const MIN_SITES: u64 = 64;
/// The share of --memory-limit for each site.
const SITE_SHARE_BYTES: u64 = 64 << 10;
const MINUTE: Duration = Duration::from_secs(60);

/// A report on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub report: Box<Report>,
    /// It was held back: an equal one was printed before.
    pub is_held: bool,
}

/// Removes the capture program's count of a site.
pub type TakeFolded<'a> = &'a mut dyn FnMut(&FaultSite) -> Option<Folded>;

/// A site whose faults the capture program counts.
#[derive(Debug)]
struct Site {
    site: FaultSite,
    /// When the window ends.
    ends: Duration,
    /// The last that it sent.
    report: Box<Report>,
}

/// The other threads of a report that is held back are not kept: they may take megabytes.
fn without_threads(report: &mut Box<Report>) {
    if report.threads.take().is_some() {
        report.lost.push(Lost {
            detail: "threads",
            reason: "left out of a report that stands for others",
        });
    }
}

/// A report, and whether it stands for others that were held back.
#[derive(Debug)]
pub struct Repeats {
    crashes: Option<Folder<Box<Report>>>,
    handled: Option<Folder<Box<Report>>>,
    per_minute: Option<Folder<Box<Report>>>,
    handled_window: Option<Duration>,
    /// In the order in which their windows end.
    sites: Vec<Site>,
    max_sites: usize,
    held: u64,
}

impl Repeats {
    #[must_use]
    pub fn new(config: &RepeatsConfig) -> Self {
        let folder = |window: Option<Duration>| {
            window.map(|window| Folder::new(window, 1).shedding(without_threads))
        };
        let per_minute = config.max_per_minute;
        let limited = |allowed: u32| Folder::new(MINUTE, allowed.into()).shedding(without_threads);
        Repeats {
            crashes: folder(config.fold),
            handled: folder(config.fold_handled),
            per_minute: per_minute.map(limited),
            handled_window: config.fold_handled,
            sites: Vec::new(),
            max_sites: (config.memory_limit_bytes / SITE_SHARE_BYTES).clamp(MIN_SITES, MAX_SITES)
                as usize,
            held: 0,
        }
    }

    /// Reports that were held back until now, each counted once.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The reports to print now that this one has come. `repeats` is the capture program's
    /// count of its site before. `now` never goes back.
    pub fn admit(
        &mut self,
        item: Box<Report>,
        site: Option<FaultSite>,
        repeats: u64,
        now: Duration,
        take: TakeFolded<'_>,
    ) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let is_handled = is_overcome(&item);
        if self.folder(is_handled).is_none() && self.per_minute.is_none() {
            // Nothing is folded here: the only number to report is that of the faults that the
            // capture program has counted before a death.
            let mut item = item;
            if repeats > 0 && !is_handled {
                item.counts.repeats = Some(repeats);
                item.counts.deaths = Some(is_death(&item).into());
            }
            return vec![Outgoing {
                report: item,
                is_held: false,
            }];
        }
        if let (true, Some(window), Some(site)) = (is_handled, self.handled_window, site) {
            self.sites.retain(|known| known.site != site);
            if self.sites.len() >= self.max_sites {
                self.end_first_site(now, take, &mut out);
            }
            self.sites.push(Site {
                site,
                ends: now.saturating_add(window),
                report: item.clone(),
            });
        }
        let counted = Counted {
            count: repeats.saturating_add(1),
            deaths: u64::from(is_death(&item)),
            since_ms: item.time.unix_ms,
            item,
        };
        self.pass(counted, false, now, &mut out);
        out
    }

    /// What is to be printed because the time is `now`; of the end of everything,
    /// all that is left.
    pub fn due(&mut self, now: Duration, take: TakeFolded<'_>) -> Vec<Outgoing> {
        let mut out = Vec::new();
        while self.sites.first().is_some_and(|site| site.ends <= now) {
            self.end_first_site(now, take, &mut out);
        }
        let mut ended = Vec::new();
        for folder in [&mut self.crashes, &mut self.handled].into_iter().flatten() {
            folder.end(now, &mut ended);
        }
        for counted in ended {
            self.limit(counted, true, now, &mut out);
        }
        let mut ended = Vec::new();
        if let Some(folder) = &mut self.per_minute {
            folder.end(now, &mut ended);
        }
        out.extend(ended.into_iter().map(suppressed));
        out
    }

    /// When [`Repeats::due`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let folders = [&self.crashes, &self.handled, &self.per_minute];
        let folders = folders.into_iter().flatten().filter_map(Folder::next_end);
        let site = self.sites.first().map(|site| site.ends);
        folders.chain(site).min()
    }

    fn folder(&mut self, is_handled: bool) -> Option<&mut Folder<Box<Report>>> {
        if is_handled {
            self.handled.as_mut()
        } else {
            self.crashes.as_mut()
        }
    }

    /// Forgets a site; its last report says what was counted there.
    fn end_first_site(&mut self, now: Duration, take: TakeFolded<'_>, out: &mut Vec<Outgoing>) {
        let Site {
            site, mut report, ..
        } = self.sites.remove(0);
        let Some(folded) = take(&site) else {
            return;
        };
        let since_ms = report.time.unix_ms;
        let last_ms = folded.last_boot_ns / 1_000_000;
        let later_ms = last_ms.saturating_sub(report.time.uptime_ms);
        report.time.uptime_ms += later_ms;
        report.time.unix_ms += later_ms;
        let counted = Counted {
            item: report,
            count: folded.count,
            deaths: 0,
            since_ms,
        };
        self.pass(counted, true, now, out);
    }

    /// By the window of its signature.
    fn pass(
        &mut self,
        counted: Counted<Box<Report>>,
        is_held: bool,
        now: Duration,
        out: &mut Vec<Outgoing>,
    ) {
        let is_handled = is_overcome(&counted.item);
        let key = counted.item.fold_key();
        let Some(folder) = self.folder(is_handled) else {
            return self.limit(counted, is_held, now, out);
        };
        let mut ended = Vec::new();
        let passed = folder.admit(key, counted, now, &mut ended);
        self.held += u64::from(passed.is_none());
        for counted in ended {
            self.limit(counted, true, now, out);
        }
        if let Some(counted) = passed {
            self.limit(counted, is_held, now, out);
        }
    }

    /// By the number of its executable's.
    fn limit(
        &mut self,
        counted: Counted<Box<Report>>,
        is_held: bool,
        now: Duration,
        out: &mut Vec<Outgoing>,
    ) {
        let Counted {
            count,
            deaths,
            since_ms,
            ..
        } = counted;
        let report = numbered(counted, is_held);
        let Some(folder) = &mut self.per_minute else {
            out.push(Outgoing { report, is_held });
            return;
        };
        let mut ended = Vec::new();
        let key = report.program_key();
        let counted = Counted {
            item: report,
            count,
            deaths,
            since_ms,
        };
        let passed = folder.admit(key, counted, now, &mut ended);
        self.held += u64::from(passed.is_none());
        out.extend(ended.into_iter().map(suppressed));
        out.extend(passed.map(|Counted { item: report, .. }| Outgoing { report, is_held }));
    }
}

/// Whether it is of a fault that a handler took, and the process did not die of it.
fn is_overcome(report: &Report) -> bool {
    report.delivery.disposition == Disposition::Handled && !report.exit.is_some_and(Exit::is_death)
}

fn is_death(report: &Report) -> bool {
    let died = match report.delivery.disposition {
        Disposition::Fatal => true,
        _ => report.exit.is_some_and(Exit::is_death),
    };
    died && !report.same_death
}

/// A report with how often its crash occurred.
fn numbered(counted: Counted<Box<Report>>, is_held: bool) -> Box<Report> {
    let mut report = counted.item;
    report.counts.repeats = Some(counted.count.saturating_sub(1));
    report.counts.deaths = Some(counted.deaths);
    report.counts.since_ms = is_held.then_some(counted.since_ms);
    report
}

/// The last of an executable's that were held back: those that are not its own repetitions
/// may be of any kind.
fn suppressed(counted: Counted<Box<Report>>) -> Outgoing {
    let mut report = counted.item;
    let own = report.counts.repeats.unwrap_or(0).saturating_add(1);
    report.counts.suppressed = Some(counted.count.saturating_sub(own));
    Outgoing {
        report,
        is_held: true,
    }
}
