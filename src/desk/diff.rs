//! `segfault_analyzer diff OLD NEW`: which crashes are new, gone, more or less frequent.
//!
//! In: two sets of reports as JSON. Out: a line for each group, as text or JSON: what changed,
//! how often the group was seen in each set, and a crash of it, a new one if there is one. If
//! a set cannot be read to its end nothing is compared, because what is missing would
//! pass for gone or new.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::input::Input;
use super::json::{Object, Span};
use super::sighting::Sighting;
use super::summarize::{each_report, local, put_calls, put_figures, say_suppressed, shown};
use super::table::Figures;
use super::{add, say};
use crate::base::error::{Error, Result};
use crate::cli::desk::Task;
use crate::sys::messages::print;
use crate::sys::time;

/// Groups with a row; each takes some 500 bytes.
const MAX_ROWS: usize = 1 << 16;
const MS_PER_DAY: f64 = 86_400_000.0;
/// Of a shorter time a number in a day means nothing.
const MIN_SPAN_MS: u64 = 3_600_000;

const HEADING: &str = "\
Change       Old       New  Program          Cause               Group             Calls
";

/// In place of a crash, if there are many.
const OTHERS: &[u8] =
    br#"{"program":null,"signal":null,"cause":null,"signature":null,"group":null,"calls":[]}"#;

/// What became of a group; in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    New,
    More,
    Less,
    Gone,
    Same,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::More => "more",
            Change::Less => "less",
            Change::Gone => "gone",
            Change::Same => "same",
        }
    }
}

/// A group: a crash of it, and its figures in the old and in the new set.
#[derive(Clone, Debug, Default)]
struct Row {
    crash: Vec<u8>,
    figures: [Figures; 2],
}

/// Two sets of reports.
#[derive(Debug, Default)]
struct Sets {
    rows: BTreeMap<Vec<u8>, Row>,
    /// The figures of all groups without a row.
    others: Row,
    /// Those of each set as a whole.
    all: [Figures; 2],
    suppressed: u64,
}

impl Sets {
    fn add(&mut self, set: usize, sighting: &Sighting<'_>) {
        let identity = sighting.group_identity();
        let is_full = self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&identity);
        let row = match is_full {
            true => &mut self.others,
            false => self.rows.entry(identity).or_default(),
        };
        if !is_full && row.figures[set] == Figures::default() {
            row.crash = sighting.crash();
        }
        row.figures[set].add(sighting);
        self.all[set].add(sighting);
        self.suppressed = self.suppressed.saturating_add(sighting.suppressed());
    }
}

/// How the sets are compared: by numbers, or by numbers in a day of each set's time.
#[derive(Clone, Copy, Debug)]
struct Scale {
    days: Option<[f64; 2]>,
}

impl Scale {
    fn of(all: &[Figures; 2], per_day: bool) -> Result<Self> {
        if !per_day {
            return Ok(Scale { days: None });
        }
        let days = |set: usize, name: &str| {
            let (first, last) = (all[set].first_ms, all[set].last_ms);
            let span = last.zip(first).map(|(last, first)| last - first);
            match span.filter(|ms| *ms >= MIN_SPAN_MS) {
                Some(ms) => Ok(ms as f64 / MS_PER_DAY),
                None => Err(Error::failed(format!(
                    "--per-day: the reports of {name} are from less than an hour"
                ))),
            }
        };
        Ok(Scale {
            days: Some([days(0, "OLD")?, days(1, "NEW")?]),
        })
    }

    /// The frequencies that are compared.
    fn frequencies(self, figures: &[Figures; 2]) -> [f64; 2] {
        let has_deaths = figures.iter().any(|figures| figures.deaths > 0);
        [0, 1].map(|set| {
            let count = match has_deaths {
                true => figures[set].deaths,
                false => figures[set].reports,
            };
            self.days
                .map_or(count as f64, |days| count as f64 / days[set])
        })
    }

    fn change(self, figures: &[Figures; 2]) -> Change {
        let [old, new] = self.frequencies(figures);
        match figures.map(|figures| figures.reports) {
            [0, _] => Change::New,
            [_, 0] => Change::Gone,
            _ if old < new => Change::More,
            _ if old > new => Change::Less,
            _ => Change::Same,
        }
    }

    /// A frequency in a column.
    fn shown(self, frequency: f64) -> String {
        match self.days {
            Some(_) => format!("{frequency:.2}"),
            None => format!("{frequency}"),
        }
    }
}

pub(super) fn run(task: Task) -> Result<()> {
    let mut sets = Sets::default();
    let mut skipped = false;
    for (set, place) in task.inputs.iter().enumerate() {
        let mut input = Input::new(files(place)?);
        each_report(&mut input, &mut |sighting| sets.add(set, sighting));
        input.finish().map_err(|_| {
            Error::failed(format!(
                "nothing is compared: {} could not be read to its end",
                place.display()
            ))
        })?;
        skipped |= input.has_foreign() && sets.all[set].reports == 0;
    }
    let scale = Scale::of(&sets.all, task.per_day)?;
    time::settle_time_zone();
    let mut out = Vec::new();
    if !task.json {
        put_heading(&mut out, &sets.all);
    }
    let mut rows: Vec<(Change, &Row)> = sets
        .rows
        .values()
        .map(|row| (scale.change(&row.figures), row))
        .collect();
    // The most frequent first; equally frequent ones in the order of their groups.
    rows.sort_by(|(change, row), (other_change, other)| {
        let rank = |row: &Row| {
            let [old, new] = scale.frequencies(&row.figures);
            old.max(new)
        };
        change
            .cmp(other_change)
            .then(rank(other).total_cmp(&rank(row)))
    });
    for (change, row) in rows {
        put(&mut out, Some(change), row, scale, task.json);
    }
    if sets.others.figures != [Figures::default(); 2] {
        let others = Row {
            crash: OTHERS.to_vec(),
            ..sets.others
        };
        put(&mut out, None, &others, scale, task.json);
    }
    print(&out)?;
    say_suppressed(sets.suppressed);
    if skipped {
        say("a set has no reports: diff reads the JSON lines that --format json writes");
    }
    Ok(())
}

/// The files of a set, in the order of their names.
fn files(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let failed = |error| Error::failed(format!("{}: {error}", place.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(place).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::failed(format!(
            "{}: no files are in it",
            place.display()
        )));
    }
    Ok(files)
}

fn put_heading(out: &mut Vec<u8>, all: &[Figures; 2]) {
    for (name, figures) in ["Old", "New"].iter().zip(all) {
        let line = format!(
            "{name}: {} deaths, {} reports, {} to {}\n",
            figures.deaths,
            figures.reports,
            local(figures.first_ms),
            local(figures.last_ms)
        );
        add(out, &[line.as_bytes()]);
    }
    add(out, &[b"\n", HEADING.as_bytes()]);
}

/// Appends a line for a row; without a change it is that of all other groups.
fn put(out: &mut Vec<u8>, change: Option<Change>, row: &Row, scale: Scale, is_json: bool) {
    let crash = &row.crash;
    let frequencies = scale.frequencies(&row.figures);
    if is_json {
        let change = change.map_or("null".into(), |change| format!("\"{}\"", change.as_str()));
        add(out, &[b"{\"change\":", change.as_bytes()]);
        for (set, name) in ["old", "new"].into_iter().enumerate() {
            add(out, &[b",\"", name.as_bytes(), b"\":"]);
            put_figures(out, &row.figures[set]);
            if scale.days.is_some() {
                add(
                    out,
                    &[
                        b",\"per_day\":",
                        format!("{:.3}", frequencies[set]).as_bytes(),
                    ],
                );
            }
            add(out, &[b"}"]);
        }
        // The crash without the brackets around it.
        add(out, &[b",", &crash[1..crash.len() - 1], b"}\n"]);
        return;
    }
    let object = Object::read(crash, Span::whole(crash));
    let value = |key| object.as_ref().map_or(&b""[..], |object| object.value(key));
    let [old, new] = frequencies.map(|frequency| scale.shown(frequency));
    let mut line = format!(
        "{:<6}  {old:>8}  {new:>8}  {:<15}  {:<18}  {:<16}  ",
        change.map_or("others", Change::as_str),
        shown(value("program")),
        shown(value("cause")),
        shown(value("group")),
    );
    put_calls(&mut line, value("calls"));
    line.push('\n');
    add(out, &[line.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(deaths: u64, reports: u64) -> Figures {
        Figures {
            deaths,
            reports,
            ..Figures::default()
        }
    }

    #[test]
    fn frequency_is_that_of_deaths_or_of_reports_if_nothing_died() {
        let scale = Scale { days: None };
        let none = Figures::default();
        for (old, new, change) in [
            (none, figures(1, 1), Change::New),
            (figures(0, 3), none, Change::Gone),
            (figures(2, 9), figures(3, 3), Change::More),
            (figures(3, 3), figures(2, 9), Change::Less),
            (figures(0, 3), figures(0, 4), Change::More),
            (figures(2, 2), figures(2, 5), Change::Same),
            // Survived before, deadly now.
            (figures(0, 8), figures(1, 1), Change::More),
        ] {
            assert_eq!(scale.change(&[old, new]), change, "{old:?} {new:?}");
        }
    }

    #[test]
    fn frequency_in_a_day_depends_on_the_time_of_each_set() {
        let day = MS_PER_DAY as u64;
        let set = |days: u64| Figures {
            first_ms: Some(5),
            last_ms: Some(5 + days * day),
            ..figures(10, 10)
        };
        let scale = Scale::of(&[set(10), set(1)], true).expect("times");
        assert_eq!(
            scale.change(&[figures(10, 10), figures(2, 2)]),
            Change::More
        );
        assert_eq!(
            scale.change(&[figures(10, 10), figures(1, 1)]),
            Change::Same
        );
        assert_eq!(
            scale.frequencies(&[figures(10, 10), figures(2, 2)]),
            [1.0, 2.0]
        );
        let mut short = set(0);
        short.last_ms = short.first_ms.map(|first| first + MIN_SPAN_MS - 1);
        assert!(Scale::of(&[set(1), short], true).is_err());
        assert!(Scale::of(&[Figures::default(), set(1)], true).is_err());
    }

    #[test]
    fn groups_without_a_row_are_neither_new_nor_gone() {
        let mut sets = Sets::default();
        let add = |sets: &mut Sets, set, number: usize| {
            let line = format!(
                "{{\"timestamp\":1,\"pid\":1,\"fault_type\":\"\",\"disposition\":\"fatal\",\"group\":\"{number}\"}}"
            );
            sets.add(set, &Sighting::read(line.as_bytes()).expect("a report"));
        };
        for number in 0..MAX_ROWS + 2 {
            add(&mut sets, 0, number);
        }
        for number in MAX_ROWS..MAX_ROWS + 5 {
            add(&mut sets, 1, number);
        }
        assert_eq!(sets.rows.len(), MAX_ROWS);
        let deaths = sets.others.figures.map(|figures| figures.deaths);
        assert_eq!(deaths, [2, 5]);
    }
}
