//! Names of Go functions, which outlive stripping.
//!
//! In: the section `.gopclntab`, which Go's own tracebacks need. Out: the function
//! at an address, by binary search over its table of entries, 8 bytes a read.
//! Layouts since Go 1.18 are known; a table whose text start was left to the
//! dynamic linker (position-independent programs) is refused, because a guess
//! would give wrong names. Go's `src/runtime/symtab.go` (`pcHeader`, `functab`) and
//! `src/debug/gosym/pclntab.go`.
//!
//! ```text
//! header:  magic u32 | 0 0 | minimum instruction u8 | word size u8
//!          words: functions, files, text start, and the offsets in the section
//!          of names, units, files, pc tables, functions
//! functions: (entry - text start u32, offset of its record u32)..., end u32
//! record:  entry - text start u32 | offset of its name i32 | ...
//! ```

use super::source::{FileRange, Source, Strings};
use super::symtab::{Answer, Found};
use crate::base::address::FileAddress;
use crate::base::bytes::Cursor;

const GO_1_18: u32 = 0xffff_fff0;
const GO_1_20: u32 = 0xffff_fff1;
/// Kubernetes' largest programs have 140,000.
const MAX_FUNCTIONS: u64 = 8 << 20;

/// The table, as far as its header describes it.
#[derive(Debug)]
pub(crate) struct GoTable {
    text: u64,
    count: u64,
    names: FileRange,
    functions: FileRange,
}

/// A function's entry and the place of its record.
struct Entry {
    start: u64,
    record: u64,
}

impl GoTable {
    pub(crate) fn read(source: &Source, section: FileRange) -> Option<Self> {
        let mut head = [0; 8 + 8 * 8];
        let len = source.read_at(section.offset, &mut head);
        let mut cursor = Cursor::new(&head[..len]);
        if !matches!(cursor.u32().ok()?, GO_1_18 | GO_1_20) {
            return None;
        }
        let [_, _, _, word_size] = cursor.array().ok()?;
        let mut word = || match word_size {
            8 => cursor.u64().ok(),
            4 => cursor.u32().ok().map(u64::from),
            _ => None,
        };
        let [count, _files, text, names, _units, _file_names, _pcs, functions] = [
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
        ];
        let part = |offset: u64| {
            Some(FileRange {
                offset: section.offset.checked_add(offset)?,
                size: section.size.checked_sub(offset)?,
            })
        };
        let known = text != 0 && (1..=MAX_FUNCTIONS).contains(&count);
        known.then_some(GoTable {
            text,
            count,
            names: part(names)?,
            functions: part(functions)?,
        })
    }

    /// Adds the names of this table to `answers`; an answer that has a symbol keeps it.
    pub(crate) fn functions(
        &self,
        source: &Source,
        addresses: &[FileAddress],
        answers: &mut [Answer],
    ) {
        let mut names = Strings::new(source, self.names);
        for (&address, answer) in addresses.iter().zip(answers) {
            if answer.found.is_none() {
                if let Some((found, end)) = self.look_up(source, &mut names, address) {
                    answer.low = answer.low.max(found.start);
                    answer.high = answer.high.min(end);
                    answer.found = Some(found);
                }
            }
        }
    }

    fn look_up(
        &self,
        source: &Source,
        names: &mut Strings<'_>,
        address: FileAddress,
    ) -> Option<(Found, FileAddress)> {
        // The first entry is at or below the address, entry `above` beyond it.
        let mut below = 0;
        let mut above = self.count;
        let mut entry = self.entry(source, below)?;
        let mut end = self.entry(source, above)?.start;
        if !(entry.start..end).contains(&address.0) {
            return None;
        }
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            let seen = self.entry(source, middle)?;
            if seen.start <= address.0 {
                (below, entry) = (middle, seen);
            } else {
                (above, end) = (middle, seen.start);
            }
        }
        let mut record = [0; 8];
        let place = self.functions.offset.checked_add(entry.record)?;
        source.read_exact(place, &mut record)?;
        let [_, _, _, _, name @ ..] = record;
        let name = names.get(u32::from_le_bytes(name).into())?;
        // Padding between functions has no name.
        (!name.is_empty()).then(|| {
            let found = Found {
                name: name.to_vec(),
                start: FileAddress(entry.start),
                size: end.saturating_sub(entry.start),
            };
            (found, FileAddress(end))
        })
    }

    fn entry(&self, source: &Source, index: u64) -> Option<Entry> {
        let mut bytes = [0; 8];
        let place = self.functions.offset.checked_add(index.checked_mul(8)?)?;
        // The last one has no second half, but the records follow.
        source.read_exact(place, &mut bytes)?;
        let [a, b, c, d, record @ ..] = bytes;
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        Some(Entry {
            start: self.text.checked_add(start)?,
            record: u32::from_le_bytes(record).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three functions at 0x1000, 0x1010 and 0x1040; the text ends at 0x1050.
    fn table(text: u64) -> Vec<u8> {
        let names = b"\0main.main\0main.(*T).run\0";
        let functions = 8 + 8 * 8 + names.len() as u64;
        let mut out = Vec::new();
        out.extend(GO_1_20.to_le_bytes());
        out.extend([0, 0, 1, 8]);
        for word in [3, 0, text, 72, 0, 0, 0, functions] {
            out.extend(u64::to_le_bytes(word));
        }
        out.extend(names);
        let records = [(0u32, 1u32), (0x10, 11), (0x40, 0)];
        for (index, (start, _)) in records.iter().enumerate() {
            out.extend(start.to_le_bytes());
            out.extend((28 + 8 * index as u32).to_le_bytes());
        }
        out.extend(0x50u32.to_le_bytes());
        for (start, name) in records {
            out.extend(start.to_le_bytes());
            out.extend(name.to_le_bytes());
        }
        out
    }

    fn read(bytes: Vec<u8>) -> Option<(Source, GoTable)> {
        let source = Source::memory(bytes);
        let size = source.size();
        let table = GoTable::read(&source, FileRange { offset: 0, size })?;
        Some((source, table))
    }

    fn names(source: &Source, table: &GoTable, addresses: &[u64]) -> Vec<String> {
        let addresses: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
        let mut answers = vec![Answer::unknown(); addresses.len()];
        table.functions(source, &addresses, &mut answers);
        let name = |answer: &Answer| match &answer.found {
            Some(found) => String::from_utf8_lossy(&found.name).into_owned(),
            None => "-".to_owned(),
        };
        answers.iter().map(name).collect()
    }

    #[test]
    fn functions_are_found_by_their_entries() {
        let (source, go) = read(table(0x1000)).unwrap();
        assert_eq!(
            names(
                &source,
                &go,
                &[0xfff, 0x1000, 0x100f, 0x1010, 0x103f, 0x1040, 0x1050]
            ),
            [
                "-",
                "main.main",
                "main.main",
                "main.(*T).run",
                "main.(*T).run",
                "-",
                "-"
            ]
        );
    }

    #[test]
    fn an_unknown_text_start_is_refused() {
        assert!(read(table(0)).is_none());
    }

    #[test]
    fn a_table_cut_or_changed_anywhere_does_no_harm() {
        let whole = table(0x1000);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            for bytes in [whole[..at].to_vec(), changed] {
                if let Some((source, go)) = read(bytes) {
                    names(&source, &go, &[0, 0x1000, 0x1012, u64::MAX]);
                }
            }
        }
    }
}
