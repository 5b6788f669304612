//! Which reports are printed, and which are told by their number alone.
//!
//! Every fatal crash is printed unless `--fold` or `--max-per-minute` asks for
//! less. Faults that a handler takes are no crashes: they are folded unless the
//! user says otherwise, by the capture program where one place of one process
//! takes them, and here where several processes or places give equal reports.
//! Nothing is folded in silence: see [`Folder`].

use std::collections::HashMap;
use std::time::Duration;

use crate::capture::Folded;
use crate::cli::Config;
use crate::event::{Disposition, FaultSite};
use crate::fold::{Counted, Folder};
use crate::report::Report;

/// Sites of handled faults remembered at a time; past that the oldest is asked
/// for its number at once.
const MAX_SITES: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);

/// A report on its way out.
#[derive(Clone, Debug)]
pub struct Told {
    pub report: Box<Report>,
    /// It was held back: an equal one was printed before.
    pub is_held: bool,
}

/// Takes what the capture program has counted at a site.
pub type TakeFolded<'a> = &'a mut dyn FnMut(&FaultSite) -> Option<Folded>;

/// A site whose faults the capture program counts.
#[derive(Debug)]
struct Site {
    /// Of the window.
    ends: Duration,
    /// The last that it sent.
    report: Box<Report>,
}

/// What was told, and what was not.
#[derive(Debug)]
pub struct Repeats {
    crashes: Option<Folder<Box<Report>>>,
    handled: Option<Folder<Box<Report>>>,
    per_minute: Option<Folder<Box<Report>>>,
    handled_window: Option<Duration>,
    sites: HashMap<FaultSite, Site>,
    held: u64,
}

impl Repeats {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let folder = |window| Folder::new(window, 1);
        Repeats {
            crashes: config.fold.map(folder),
            handled: config.fold_handled.map(folder),
            per_minute: config
                .max_per_minute
                .map(|allowed| Folder::new(MINUTE, u64::from(allowed))),
            handled_window: config.fold_handled,
            sites: HashMap::new(),
            held: 0,
        }
    }

    /// Reports that were held back until now, each counted once.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// What is to be printed now that this report has come. `repeats` is what the
    /// capture program has counted at its site before. `now` never goes back.
    pub fn admit(
        &mut self,
        report: Report,
        site: Option<FaultSite>,
        repeats: u64,
        now: Duration,
        take: TakeFolded<'_>,
    ) -> Vec<Told> {
        let report = Box::new(report);
        let mut out = Vec::new();
        let is_handled = report.disposition == Disposition::Handled;
        if let (true, Some(window), Some(site)) = (is_handled, self.handled_window, site) {
            if self.sites.len() >= MAX_SITES && !self.sites.contains_key(&site) {
                let first = self.sites.iter().min_by_key(|(_, site)| site.ends);
                if let Some(first) = first.map(|(site, _)| *site) {
                    self.end_site(&first, now, take, &mut out);
                }
            }
            let site_of = Site {
                ends: now.saturating_add(window),
                report: report.clone(),
            };
            self.sites.insert(site, site_of);
        }
        let counted = Counted {
            item: report,
            count: repeats.saturating_add(1),
        };
        if self.folder(is_handled).is_none() && self.per_minute.is_none() {
            // Nothing is folded: there is no number to tell.
            let report = counted.item;
            let is_held = false;
            return vec![Told { report, is_held }];
        }
        self.pass(counted, false, now, &mut out);
        out
    }

    /// What is to be printed because time has passed.
    pub fn due(&mut self, now: Duration, take: TakeFolded<'_>) -> Vec<Told> {
        let mut out = Vec::new();
        let over = self.sites.iter().filter(|(_, site)| site.ends <= now);
        let over: Vec<FaultSite> = over.map(|(site, _)| *site).collect();
        for site in over {
            self.end_site(&site, now, take, &mut out);
        }
        for is_handled in [false, true] {
            let ended = self.folder(is_handled).map(|folder| folder.ended(now));
            for counted in ended.unwrap_or_default() {
                self.limit(counted, true, now, &mut out);
            }
        }
        if let Some(folder) = &mut self.per_minute {
            out.extend(folder.ended(now).into_iter().map(|it| told(it, true)));
        }
        out
    }

    /// What is still to be told at the end of everything.
    pub fn finish(&mut self, now: Duration, take: TakeFolded<'_>) -> Vec<Told> {
        let mut out = Vec::new();
        let sites: Vec<FaultSite> = self.sites.keys().copied().collect();
        for site in sites {
            self.end_site(&site, now, take, &mut out);
        }
        for folder in [&mut self.crashes, &mut self.handled, &mut self.per_minute] {
            let rest = folder.as_mut().map(Folder::finish).unwrap_or_default();
            out.extend(rest.into_iter().map(|counted| told(counted, true)));
        }
        out
    }

    /// When [`Repeats::due`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let folders = [&self.crashes, &self.handled, &self.per_minute];
        let folders = folders.into_iter().flatten().filter_map(Folder::next_end);
        folders
            .chain(self.sites.values().map(|site| site.ends))
            .min()
    }

    fn folder(&mut self, is_handled: bool) -> Option<&mut Folder<Box<Report>>> {
        if is_handled {
            self.handled.as_mut()
        } else {
            self.crashes.as_mut()
        }
    }

    /// Forgets a site; what was counted there is told by its last report.
    fn end_site(
        &mut self,
        site: &FaultSite,
        now: Duration,
        take: TakeFolded<'_>,
        out: &mut Vec<Told>,
    ) {
        let Some(Site { mut report, .. }) = self.sites.remove(site) else {
            return;
        };
        let Some(folded) = take(site) else {
            return;
        };
        let last_ms = folded.last_boot_ns / 1_000_000;
        let later_ms = last_ms.saturating_sub(report.time.uptime_ms);
        report.time.uptime_ms += later_ms;
        report.time.unix_ms += later_ms;
        let counted = Counted {
            item: report,
            count: folded.count,
        };
        self.pass(counted, true, now, out);
    }

    fn pass(
        &mut self,
        counted: Counted<Box<Report>>,
        is_held: bool,
        now: Duration,
        out: &mut Vec<Told>,
    ) {
        let is_handled = counted.item.disposition == Disposition::Handled;
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

    fn limit(
        &mut self,
        counted: Counted<Box<Report>>,
        is_held: bool,
        now: Duration,
        out: &mut Vec<Told>,
    ) {
        let Some(folder) = &mut self.per_minute else {
            out.push(told(counted, is_held));
            return;
        };
        let key = counted.item.program_key();
        let mut ended = Vec::new();
        let passed = folder.admit(key, counted, now, &mut ended);
        self.held += u64::from(passed.is_none());
        out.extend(ended.into_iter().map(|counted| told(counted, true)));
        out.extend(passed.map(|counted| told(counted, is_held)));
    }
}

fn told(counted: Counted<Box<Report>>, is_held: bool) -> Told {
    let mut report = counted.item;
    report.repeats = Some(counted.count.saturating_sub(1));
    Told { report, is_held }
}
