//! The line number program of a unit: which line an address belongs to.
//!
//! In: a unit. Out: file number and line for addresses, and the files' paths. The
//! program is run once for all addresses, row by row, and the table that it describes is
//! not kept; a file's name is read from the header on request. VLIW machines are not
//! supported. DWARF 5, section 6.2; version 4, section 6.2.4.

use super::reader::Reader;
use super::unit::Unit;
use super::wanted::{sort, Wanted};
use super::{Debug, Section};

/// Directories or files of one header.
const MAX_ENTRIES: u64 = 1 << 20;
/// Spans that begin before an address and are looked at: those of code that is there twice.
const MAX_OVERLAP: usize = 64;
/// Units of work for a row.
const ROW: u64 = 8;
/// The same for a directory or a file.
const LISTED: u64 = 32;

/// A line in a file: the file's number in the header, the line.
pub(super) type Place = (u32, u32);

#[derive(Debug)]
pub(super) struct Program {
    version: u16,
    wide: bool,
    instruction_bytes: u8,
    line_base: i8,
    line_range: u8,
    opcode_base: u8,
    /// Operands of each standard opcode.
    operands: Vec<u8>,
    /// The offset of the lists of directories and files.
    tables: u64,
    start: u64,
    end: u64,
}

/// The machine's registers.
#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: u64,
    line: u64,
}

const FIRST_ROW: Row = Row {
    address: 0,
    file: 1,
    line: 1,
};

/// Addresses of one line.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: u64,
    size: u32,
    place: Place,
}

/// What a program has put out.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Span>);

impl Rows {
    /// The place of an address.
    pub(super) fn find(&self, address: u64) -> Option<Place> {
        let behind = self.0.partition_point(|span| span.low <= address);
        let mut below = self.0[..behind].iter().rev().take(MAX_OVERLAP);
        let span = below.find(|span| address - span.low < span.size.into())?;
        Some(span.place)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<Span>()
    }
}

/// What rows are taken.
struct Matcher<'m, 'w> {
    wanted: &'m mut Wanted<'w>,
    found: Vec<Span>,
    /// The row before, of the same sequence.
    last: Option<Row>,
    /// The sequence begins at 0: code that the linker left out.
    void: bool,
}

impl Matcher<'_, '_> {
    /// A row reaches from its address to that of the next one.
    fn see(&mut self, row: Row) {
        match self.last {
            None => self.void = row.address == 0,
            Some(last) if !self.void && last.address < row.address => {
                self.add(last, row.address - last.address);
            }
            Some(_) => {}
        }
        self.last = Some(row);
    }

    fn add(&mut self, row: Row, size: u64) {
        let low = row.address;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let number = |value: u64| u32::try_from(value).unwrap_or(0);
        let place = (number(row.file), number(row.line));
        if !self.wanted.are_few() {
            if let Some(before) = self.found.last_mut() {
                let follows = before.low + u64::from(before.size) == low;
                let sum = before.size.checked_add(size);
                if let (true, Some(sum)) = (follows && before.place == place, sum) {
                    before.size = sum;
                    return;
                }
            }
        }
        if self.wanted.take(low, low.saturating_add(size.into())) {
            self.found.push(Span { low, size, place });
        }
    }
}

impl Program {
    pub(super) fn read(debug: &Debug<'_>, unit: &Unit) -> Option<Self> {
        let mut reader = debug.reader_at(Section::Line, unit.statements()?);
        let (length, wide) = reader.initial_length()?;
        let end = reader.at().checked_add(length)?;
        let version = reader.u16()?;
        if !(2..=5).contains(&version) {
            return None;
        }
        if version == 5 {
            // Sizes of an address and of a segment selector.
            reader.skip(2)?;
        }
        let header_length = reader.offset(wide)?;
        let start = reader.at().checked_add(header_length)?;
        let instruction_bytes = reader.u8()?;
        if version >= 4 {
            // Operations in a VLIW instruction.
            reader.skip(1)?;
        }
        // Whether a row begins a statement does not matter here.
        reader.skip(1)?;
        let line_base = reader.u8()?.cast_signed();
        let line_range = reader.u8()?;
        let opcode_base = reader.u8()?;
        let operands = (1..opcode_base)
            .map(|_| reader.u8())
            .collect::<Option<Vec<u8>>>()?;
        (line_range != 0 && opcode_base != 0 && end <= reader.size()).then(|| Program {
            version,
            wide,
            instruction_bytes,
            line_base,
            line_range,
            opcode_base,
            operands,
            tables: reader.at(),
            start,
            end,
        })
    }

    /// The rows that are wanted; `None` if they would have more than so many bytes.
    pub(super) fn rows(
        &self,
        debug: &Debug<'_>,
        mut wanted: Wanted<'_>,
        room: usize,
    ) -> Option<Rows> {
        let mut matcher = Matcher {
            wanted: &mut wanted,
            found: Vec::new(),
            last: None,
            void: false,
        };
        let most = room / size_of::<Span>();
        let mut reader = debug.reader_at(Section::Line, self.start);
        let mut row = FIRST_ROW;
        while reader.at() < self.end && !matcher.wanted.are_found() {
            let step = debug.work(ROW);
            if step
                .and_then(|()| self.step(&mut reader, &mut row, &mut matcher))
                .is_none()
            {
                break;
            }
            if matcher.found.len() > most {
                return None;
            }
        }
        let mut spans = matcher.found;
        sort(&mut spans, |span| span.low);
        spans.shrink_to_fit();
        Some(Rows(spans))
    }

    fn step(
        &self,
        reader: &mut Reader<'_>,
        row: &mut Row,
        matcher: &mut Matcher<'_, '_>,
    ) -> Option<()> {
        let opcode = reader.u8()?;
        if opcode >= self.opcode_base {
            let adjusted = opcode - self.opcode_base;
            self.advance(row, (adjusted / self.line_range).into());
            let lines = i64::from(self.line_base) + i64::from(adjusted % self.line_range);
            row.line = row.line.wrapping_add_signed(lines);
            matcher.see(*row);
            return Some(());
        }
        // DWARF 5, table 7.25.
        match opcode {
            0 => self.extended(reader, row, matcher)?,
            1 => matcher.see(*row),
            2 => {
                let operations = reader.unsigned()?;
                self.advance(row, operations);
            }
            3 => row.line = row.line.wrapping_add_signed(reader.signed()?),
            4 => row.file = reader.unsigned()?,
            8 => self.advance(row, ((255 - self.opcode_base) / self.line_range).into()),
            9 => row.address = row.address.wrapping_add(reader.u16()?.into()),
            other => {
                for _ in 0..*self.operands.get(usize::from(other) - 1)? {
                    reader.unsigned()?;
                }
            }
        }
        Some(())
    }

    /// DWARF 5, table 7.26.
    fn extended(
        &self,
        reader: &mut Reader<'_>,
        row: &mut Row,
        matcher: &mut Matcher<'_, '_>,
    ) -> Option<()> {
        let length = reader.unsigned()?;
        let end = reader.at().checked_add(length)?;
        match (length > 0).then(|| reader.u8())?? {
            1 => {
                matcher.see(*row);
                matcher.last = None;
                *row = FIRST_ROW;
            }
            2 => row.address = reader.sized(u8::try_from(length - 1).ok()?)?,
            _ => {}
        }
        reader.seek(end);
        Some(())
    }

    fn advance(&self, row: &mut Row, operations: u64) {
        let bytes = operations.wrapping_mul(self.instruction_bytes.into());
        row.address = row.address.wrapping_add(bytes);
    }

    /// A file's path, absolute if its directories are known.
    pub(super) fn path(&self, debug: &Debug<'_>, unit: &Unit, number: u64) -> Option<Vec<u8>> {
        let mut reader = debug.reader_at(Section::Line, self.tables);
        let (name, directory) = if self.version >= 5 {
            let directories = reader.at();
            self.new_entry(debug, unit, &mut reader, None)?;
            let (name, directory) = self.new_entry(debug, unit, &mut reader, Some(number))??;
            if name.starts_with(b"/") {
                return Some(name);
            }
            reader.seek(directories);
            let found = self.new_entry(debug, unit, &mut reader, Some(directory))?;
            let found = found.map(|(path, _)| path);
            // The first one is the unit's own, which need not be absolute.
            if let (0, Some(path)) = (directory, &found) {
                return Some(join(path.clone(), &name));
            }
            (name, found)
        } else if number == 0 {
            (unit.name(debug)?, None)
        } else {
            old_entry(debug, &mut reader, number)?
        };
        let whole = name.starts_with(b"/");
        let path = match directory {
            Some(directory) if !whole => join(directory, &name),
            _ => name,
        };
        if path.starts_with(b"/") {
            return Some(path);
        }
        Some(match unit.directory(debug) {
            Some(directory) => join(directory, &path),
            None => path,
        })
    }

    /// Version 5: reads a list, of directories or of files, up to the entry with
    /// that number, which counts from 0, or through; the path of that entry and the
    /// number of its directory.
    #[expect(
        clippy::option_option,
        reason = "outside: could it be read; inside: is there such an entry"
    )]
    fn new_entry(
        &self,
        debug: &Debug<'_>,
        unit: &Unit,
        reader: &mut Reader<'_>,
        number: Option<u64>,
    ) -> Option<Option<(Vec<u8>, u64)>> {
        const PATH: u64 = 1;
        const DIRECTORY: u64 = 2;
        const STRING: u64 = 0x08;
        let formats = (0..reader.u8()?)
            .map(|_| Some((reader.unsigned()?, reader.unsigned()?)))
            .collect::<Option<Vec<(u64, u64)>>>()?;
        let count = reader.unsigned()?;
        for current in 0..count.min(MAX_ENTRIES) {
            debug.work(LISTED * (1 + formats.len() as u64))?;
            let mut path = None;
            let mut directory = 0;
            for &(content, form) in &formats {
                let wanted = Some(current) == number;
                match (content, form) {
                    (PATH, STRING) if wanted => path = reader.string(),
                    (_, STRING) => reader.skip_string()?,
                    _ => {
                        let value = unit.line_value(reader, form, self.wide)?;
                        if wanted && content == PATH {
                            path = unit.text(debug, value);
                        }
                        if wanted && content == DIRECTORY {
                            directory = value.number()?;
                        }
                    }
                }
            }
            if let (true, Some(path)) = (Some(current) == number, path) {
                return Some(Some((path, directory)));
            }
        }
        Some(None)
    }
}

/// Versions 2 to 4: directories, an empty one; files, an empty one. Numbers
/// count from 1, directory 0 is the unit's.
fn old_entry(
    debug: &Debug<'_>,
    reader: &mut Reader<'_>,
    number: u64,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let directories = reader.at();
    while !is_empty(reader)? {
        debug.work(LISTED)?;
        reader.skip_string()?;
    }
    for _ in 1..number.min(MAX_ENTRIES) {
        debug.work(LISTED)?;
        if is_empty(reader)? {
            return None;
        }
        reader.skip_string()?;
        old_numbers(reader)?;
    }
    let name = reader.string()?;
    let directory = old_numbers(reader)?;
    if name.is_empty() {
        return None;
    }
    reader.seek(directories);
    for _ in 1..directory.min(MAX_ENTRIES) {
        debug.work(LISTED)?;
        if is_empty(reader)? {
            return Some((name, None));
        }
        reader.skip_string()?;
    }
    let path = if directory == 0 {
        None
    } else {
        reader.string().filter(|path| !path.is_empty())
    };
    Some((name, path))
}

fn is_empty(reader: &mut Reader<'_>) -> Option<bool> {
    let at = reader.at();
    let empty = reader.u8()? == 0;
    if !empty {
        reader.seek(at);
    }
    Some(empty)
}

/// Behind a file's name: its directory, its time and its size; the first of them.
fn old_numbers(reader: &mut Reader<'_>) -> Option<u64> {
    let directory = reader.unsigned()?;
    reader.unsigned()?;
    reader.unsigned()?;
    Some(directory)
}

fn join(mut directory: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !directory.is_empty() && !directory.ends_with(b"/") {
        directory.push(b'/');
    }
    directory.extend_from_slice(name);
    directory
}
