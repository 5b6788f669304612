//! How often each crash was seen, and when, in bounded memory.
//!
//! In: reports, in any order. Out: one row for each distinct crash, and one for those
//! that came after the table was full. The figures of a crash with a row are exact.

use super::sighting::Sighting;

/// Rows; one takes some 400 bytes, and 8 KB at the most.
const MAX_ROWS: usize = 4096;

/// How often, and when, in Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Figures {
    pub(super) deaths: u64,
    pub(super) reports: u64,
    pub(super) first_ms: Option<u64>,
    pub(super) last_ms: Option<u64>,
}

impl Figures {
    pub(super) fn add(&mut self, sighting: &Sighting<'_>) {
        self.deaths = self.deaths.saturating_add(sighting.deaths());
        let reports = sighting.repeats().saturating_add(1);
        self.reports = self.reports.saturating_add(reports);
        if let Some(time) = sighting.time_ms() {
            self.first_ms = Some(self.first_ms.map_or(time, |first| first.min(time)));
            self.last_ms = self.last_ms.max(Some(time));
        }
    }
}

/// A crash as [`Sighting::crash`] has it, or the value that it is counted by, and its
/// figures.
pub(super) type Row = (Vec<u8>, Figures);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Sorted by what identifies a crash; with the number of its row.
    index: Vec<(Vec<u8>, usize)>,
    rows: Vec<Row>,
    /// The figures of all crashes without a row.
    pub(super) others: Row,
    /// Crashes that were held back, of whatever kind.
    pub(super) suppressed: u64,
}

impl Table {
    pub(super) fn add(&mut self, sighting: &Sighting<'_>) {
        self.add_as(sighting.identity(), sighting, &|| sighting.crash());
    }

    /// Counts a report in the row with that identity; a new row shows what `shown` gives.
    pub(super) fn add_as(
        &mut self,
        identity: Vec<u8>,
        sighting: &Sighting<'_>,
        shown: &dyn Fn() -> Vec<u8>,
    ) {
        let row = match self.index.binary_search_by(|known| known.0.cmp(&identity)) {
            Ok(at) => &mut self.rows[self.index[at].1],
            Err(_) if self.rows.len() >= MAX_ROWS => &mut self.others,
            Err(at) => {
                let row = self.rows.len();
                self.index.insert(at, (identity, row));
                self.rows.push((shown(), Figures::default()));
                &mut self.rows[row]
            }
        };
        row.1.add(sighting);
        self.suppressed = self.suppressed.saturating_add(sighting.suppressed());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.others.1.reports == 0
    }

    /// The rows, the most frequent first; equally frequent ones in the order in which they came.
    pub(super) fn ranked(&self) -> Vec<&Row> {
        let mut ranked: Vec<&Row> = Vec::new();
        let rank = |row: &Row| (row.1.deaths, row.1.reports);
        for row in &self.rows {
            let at = ranked.partition_point(|other| rank(other) >= rank(row));
            ranked.insert(at, row);
        }
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> String {
        format!("{{\"timestamp\":1000,\"pid\":1,\"fault_type\":\"\",{text}}}")
    }

    fn table(reports: &[&str]) -> Table {
        let mut table = Table::default();
        for text in reports {
            let line = report(text);
            table.add(&Sighting::read(line.as_bytes()).expect("a report"));
        }
        table
    }

    fn figures(reports: &[&str]) -> Vec<(u64, u64)> {
        let table = table(reports);
        let both = |row: &&Row| (row.1.deaths, row.1.reports);
        table.ranked().iter().map(both).collect()
    }

    #[test]
    fn deaths_are_processes_and_not_reports() {
        let fatal = "\"signature\":\"01\",\"disposition\":\"fatal\",\"same_death\":false";
        let thread = "\"signature\":\"01\",\"disposition\":\"fatal\",\"same_death\":true";
        let handled = "\"signature\":\"01\",\"disposition\":\"handled\",\"repeats\":7";
        let ignored = "\"signature\":\"01\",\"disposition\":\"ignored\"";
        assert_eq!(figures(&[fatal, thread, thread, fatal]), [(2, 4)]);
        assert_eq!(figures(&[handled, ignored]), [(0, 9)]);
        let folded = format!("{fatal},\"repeats\":0");
        let last = format!("{fatal},\"repeats\":40");
        assert_eq!(figures(&[&folded, &last]), [(42, 42)]);
        let threads = format!("{thread},\"repeats\":40,\"deaths\":7");
        assert_eq!(figures(&[&folded, &threads]), [(8, 42)]);
        let many = format!("{fatal},\"repeats\":{}", u64::MAX);
        assert_eq!(figures(&[&many, &many]), [(u64::MAX, u64::MAX)]);
        let limited = format!("{fatal},\"repeats\":2,\"suppressed\":5");
        assert_eq!(figures(&[&limited, &limited]), [(6, 6)]);
        assert_eq!(table(&[&limited, &limited]).suppressed, 10);
        let unknown = format!("{fatal},\"repeats\":null");
        assert_eq!(figures(&[&unknown]), [(1, 1)]);
    }

    #[test]
    fn crashes_are_distinguished_by_signature_or_by_what_there_is() {
        let one = "\"signature\":\"01\",\"exe\":\"/a\"";
        let moved = "\"signature\":\"01\",\"exe\":\"/b\"";
        let other = "\"signature\":\"02\",\"exe\":\"/a\"";
        assert_eq!(table(&[one, moved, other]).ranked().len(), 2);
        let unsigned = [
            "\"exe\":\"/a\",\"signal\":\"SIGSEGV\",\"instruction_symbol\":\"f+0x1 (/a)\"",
            "\"exe\":\"/a\",\"signal\":\"SIGSEGV\",\"instruction_symbol\":\"f+0x2 (/a)\"",
            "\"exe\":\"/a\",\"signal\":\"SIGBUS\",\"instruction_symbol\":\"f+0x1 (/a)\"",
            "\"exe\":\"/b\",\"signal\":\"SIGSEGV\",\"instruction_symbol\":\"f+0x1 (/a)\"",
            "\"exe\":\"/a\",\"signal\":\"SIGSEGV\",\"cause\":\"x\",\"instruction_symbol\":null",
            "\"comm\":\"/a\",\"signature\":null,\"signal\":\"SIGSEGV\"",
        ];
        assert_eq!(table(&unsigned).ranked().len(), unsigned.len());
        assert_eq!(table(&[unsigned[0]; 3]).ranked().len(), 1);
    }

    #[test]
    fn times_are_those_of_the_first_and_of_the_last() {
        let mut table = Table::default();
        for time in ["5000", "3000", "null", "9000", "-1", "4000"] {
            let line = report("\"signature\":\"01\"").replace("1000", time);
            table.add(&Sighting::read(line.as_bytes()).expect("a report"));
        }
        let Figures {
            first_ms, last_ms, ..
        } = table.rows[0].1;
        assert_eq!((first_ms, last_ms), (Some(3000), Some(9000)));
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted_together() {
        let mut table = Table::default();
        let long = "x".repeat(5_000);
        for round in 0..2 {
            for number in 0..MAX_ROWS + 10 {
                let deaths = format!("\"disposition\":\"fatal\",\"repeats\":{}", number % 3);
                let rest = format!("\"exe\":\"{long}\",\"cause\":\"{long}\",\"comm\":\"{long}\"");
                let signature = format!("\"signature\":\"{number}\"");
                let line = report(&format!("{signature},{deaths},{rest}"));
                table.add(&Sighting::read(line.as_bytes()).expect("a report"));
                assert!(table.rows.len() <= MAX_ROWS, "{round}");
            }
        }
        assert_eq!(table.ranked().len(), MAX_ROWS);
        let further = (MAX_ROWS..MAX_ROWS + 10).map(|number| 2 * (1 + number as u64 % 3));
        let further: u64 = further.sum();
        let others = table.others.1;
        assert_eq!((others.deaths, others.reports), (further, further));
        let bytes: usize = table.rows.iter().map(|row| row.0.len()).sum();
        assert!(bytes < MAX_ROWS * 200, "{bytes}");
        let deaths: Vec<u64> = table.ranked().iter().map(|row| row.1.deaths).collect();
        assert!(deaths.is_sorted_by(|one, next| one >= next));
    }
}
