//! One unit of `.debug_info`: its header, its abbreviations, and the attributes of
//! entries.
//!
//! In: the unit's offset. Out: a [`Unit`], with the data in its first entry;
//! [`Unit::entry`] reads entries one after another. Only attributes with the place or the
//! name of code are kept; the others are skipped by their length. DWARF 5, sections 7.5
//! and 3.1.

use super::abbreviation::{
    Abbreviation, Abbreviations, Encoding, ENTRY, FORM_IMPLICIT_CONST, SKIP, TAG_COMPILE_UNIT,
    TAG_PARTIAL_UNIT, TAG_SKELETON_UNIT,
};
use super::reader::Reader;
use super::{Debug, Section};

/// A string, not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// In this section, at this offset.
    At(Section, u64),
    /// By its number in `.debug_str_offsets`.
    Index(u64),
    /// In `.debug_str` of the supplementary file.
    Supplement(u64),
}

/// An attribute's value, as far as one is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Address(u64),
    /// By its number in `.debug_addr`.
    AddressIndex(u64),
    /// By its number in `.debug_rnglists`.
    ListIndex(u64),
    /// An entry, by its offset in `.debug_info`.
    Entry(u64),
    /// The same in the supplementary file.
    Supplement(u64),
    Text(Text),
    Other,
}

impl Value {
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }
}

/// An entry's attributes of interest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) tag: u64,
    children: bool,
    pub(super) name: Option<Value>,
    pub(super) linkage_name: Option<Value>,
    pub(super) low: Option<Value>,
    pub(super) high: Option<Value>,
    pub(super) ranges: Option<Value>,
    pub(super) origin: Option<Value>,
    pub(super) specification: Option<Value>,
    pub(super) sibling: Option<Value>,
    pub(super) call_file: Option<Value>,
    pub(super) call_line: Option<Value>,
    statements: Option<Value>,
    directory: Option<Value>,
    split_name: Option<Value>,
    split_id: Option<Value>,
    ranges_base: Option<Value>,
    string_base: Option<Value>,
    address_base: Option<Value>,
    list_base: Option<Value>,
    #[cfg(feature = "desk")]
    pub(super) call_return: Option<Value>,
    #[cfg(feature = "desk")]
    pub(super) call_pc: Option<Value>,
    #[cfg(feature = "desk")]
    pub(super) call_origin: Option<Value>,
    #[cfg(feature = "desk")]
    pub(super) is_tail_call: Option<Value>,
    /// Of a function: all calls, or all tail calls, are described.
    #[cfg(feature = "desk")]
    pub(super) has_all_calls: Option<Value>,
}

impl Entry {
    fn keep(&mut self, attribute: u16, value: Value) {
        // DWARF 5, table 7.5; the linkage name and the bases also as GNU had them.
        let slot = match attribute {
            0x01 => &mut self.sibling,
            0x03 => &mut self.name,
            0x10 => &mut self.statements,
            0x11 => &mut self.low,
            0x12 => &mut self.high,
            0x1b => &mut self.directory,
            0x31 => &mut self.origin,
            0x47 => &mut self.specification,
            0x55 => &mut self.ranges,
            0x58 => &mut self.call_file,
            0x59 => &mut self.call_line,
            0x6e | 0x2007 => &mut self.linkage_name,
            0x76 | 0x2130 => &mut self.split_name,
            0x2131 => &mut self.split_id,
            0x2132 => &mut self.ranges_base,
            0x72 => &mut self.string_base,
            0x73 | 0x2133 => &mut self.address_base,
            0x74 => &mut self.list_base,
            #[cfg(feature = "desk")]
            0x7d => &mut self.call_return,
            #[cfg(feature = "desk")]
            0x81 => &mut self.call_pc,
            #[cfg(feature = "desk")]
            0x7f => &mut self.call_origin,
            #[cfg(feature = "desk")]
            0x82 | 0x2115 => &mut self.is_tail_call,
            #[cfg(feature = "desk")]
            0x7a..=0x7c | 0x2116..=0x2118 => &mut self.has_all_calls,
            _ => return,
        };
        *slot = Some(value);
    }

    pub(super) fn call_site(&self) -> (Option<u64>, Option<u64>) {
        let number = |value: Option<Value>| value.and_then(Value::number);
        (number(self.call_file), number(self.call_line))
    }
}

/// The form comes before the value.
const FORM_INDIRECT: u16 = 0x16;
/// The meaning of a form's value.
enum Kind {
    Number,
    Address,
    AddressIndex,
    ListIndex,
    Entry,
    /// An entry of the same unit.
    Local,
    Text(Section),
    TextIndex,
    /// An entry, or a string, of the supplementary file.
    Supplement,
    SupplementText,
    /// A string in place.
    String,
    /// So many bytes follow.
    Block,
    Other,
}

/// How a form's number is written.
enum Length {
    Bytes(u8),
    Offset,
    Unsigned,
    Signed,
}

/// A unit, and how its entries are read.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) start: u64,
    /// Where the next one begins.
    pub(super) end: u64,
    pub(super) version: u16,
    pub(super) wide: bool,
    pub(super) address_size: u8,
    /// In the headers of version 5.
    #[cfg(feature = "split")]
    split_id: Option<u64>,
    /// Where the ranges of a split unit of version 4 begin.
    pub(super) ranges_base: u64,
    first_entry: u64,
    abbreviations_at: u64,
    abbreviations: Abbreviations,
    pub(super) root: Entry,
}

impl Unit {
    /// The unit that begins there, ready to be read.
    pub(super) fn read(debug: &Debug<'_>, at: u64) -> Option<Self> {
        let mut reader = debug.reader_at(Section::Info, at);
        let mut unit = Unit::header(&mut reader)?;
        unit.abbreviations =
            Abbreviations::read(debug, unit.abbreviations_at, unit.encoding(), None)?;
        unit.read_root(debug, &mut reader)?;
        Some(unit)
    }

    /// The same, ready to read its calls.
    #[cfg(feature = "desk")]
    pub(super) fn read_calls(debug: &Debug<'_>, at: u64) -> Option<Self> {
        let mut reader = debug.reader_at(Section::Info, at);
        let mut unit = Unit::header(&mut reader)?;
        let encoding = Encoding {
            has_calls: true,
            ..unit.encoding()
        };
        unit.abbreviations = Abbreviations::read(debug, unit.abbreviations_at, encoding, None)?;
        unit.read_root(debug, &mut reader)?;
        Some(unit)
    }

    /// The same with the first entry alone.
    pub(super) fn glance(debug: &Debug<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut unit = Unit::header(reader)?;
        let code = reader.unsigned()?;
        reader.seek(unit.first_entry);
        unit.abbreviations =
            Abbreviations::read(debug, unit.abbreviations_at, unit.encoding(), Some(code))?;
        unit.read_root(debug, reader)?;
        Some(unit)
    }

    fn read_root(&mut self, debug: &Debug<'_>, reader: &mut Reader<'_>) -> Option<()> {
        reader.seek(self.first_entry);
        self.root = self.entry(debug, reader)?;
        Some(())
    }

    /// A split unit takes what it shares with its skeleton.
    #[cfg(feature = "split")]
    pub(super) fn borrow(&mut self, skeleton: &Unit) {
        self.root.low = skeleton.root.low;
        self.root.address_base = skeleton.root.address_base;
        let base = skeleton.root.ranges_base.and_then(Value::number);
        self.ranges_base = base.unwrap_or(0);
        // Behind the header of its own list of lists.
        let header = if self.wide { 20 } else { 12 };
        let list_base = self.root.list_base.or(Some(Value::Number(header)));
        self.root.list_base = list_base;
    }

    /// Leaves the reader at the first entry.
    pub(super) fn header(reader: &mut Reader<'_>) -> Option<Self> {
        const TYPE: u8 = 2;
        const SKELETON: u8 = 4;
        const SPLIT_COMPILE: u8 = 5;
        const SPLIT_TYPE: u8 = 6;
        let start = reader.at();
        let (length, wide) = reader.initial_length()?;
        let end = reader.at().checked_add(length)?;
        if end > reader.size() {
            return None;
        }
        let version = reader.u16()?;
        #[cfg(feature = "split")]
        let mut split_id = None;
        let (address_size, abbreviations_at) = match version {
            2..=4 => {
                let at = reader.offset(wide)?;
                (reader.u8()?, at)
            }
            5 => {
                let kind = reader.u8()?;
                let address_size = reader.u8()?;
                let at = reader.offset(wide)?;
                match kind {
                    #[cfg(feature = "split")]
                    SKELETON | SPLIT_COMPILE => split_id = Some(reader.sized(8)?),
                    #[cfg(not(feature = "split"))]
                    SKELETON | SPLIT_COMPILE => reader.skip(8)?,
                    TYPE | SPLIT_TYPE => reader.skip(if wide { 16 } else { 12 })?,
                    _ => {}
                }
                (address_size, at)
            }
            _ => return None,
        };
        matches!(address_size, 4 | 8).then_some(Unit {
            start,
            end,
            version,
            wide,
            address_size,
            #[cfg(feature = "split")]
            split_id,
            ranges_base: 0,
            first_entry: reader.at(),
            abbreviations_at,
            abbreviations: Abbreviations::default(),
            root: Entry::default(),
        })
    }

    pub(super) fn first_entry(&self) -> u64 {
        self.first_entry
    }

    /// Whether the first entry is of a kind that has code.
    pub(super) fn is_program(&self) -> bool {
        matches!(
            self.root.tag,
            TAG_COMPILE_UNIT | TAG_PARTIAL_UNIT | TAG_SKELETON_UNIT
        )
    }

    /// Whether the file that the first entry names has the rest.
    pub(super) fn is_split(&self) -> bool {
        self.root.split_name.is_some()
    }

    /// The name of that file.
    #[cfg(feature = "split")]
    pub(super) fn split_name(&self, debug: &Debug<'_>) -> Option<Vec<u8>> {
        self.text(debug, self.root.split_name?)
    }

    /// What a skeleton and its split unit have in common.
    #[cfg(feature = "split")]
    pub(super) fn split_id(&self) -> Option<u64> {
        self.split_id.or_else(|| self.root.split_id?.number())
    }

    /// Whether there are more entries than the first.
    pub(super) fn has_children(&self) -> bool {
        self.root.children
    }

    pub(super) fn statements(&self) -> Option<u64> {
        self.root.statements?.number()
    }

    pub(super) fn directory(&self, debug: &Debug<'_>) -> Option<Vec<u8>> {
        self.text(debug, self.root.directory?)
    }

    pub(super) fn name(&self, debug: &Debug<'_>) -> Option<Vec<u8>> {
        self.text(debug, self.root.name?)
    }

    /// Where the unit's part of `.debug_rnglists` begins.
    pub(super) fn list_base(&self) -> Option<u64> {
        self.root.list_base?.number()
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            version: self.version,
            wide: self.wide,
            address_size: self.address_size,
            #[cfg(feature = "desk")]
            has_calls: false,
        }
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.abbreviations.all) + size_of_val(&*self.abbreviations.specifications)
    }

    /// The shape of the entry that begins here; inside, none for the end of a list.
    #[expect(
        clippy::option_option,
        reason = "outside: could it be read; inside: is there an entry"
    )]
    pub(super) fn shape(
        &self,
        debug: &Debug<'_>,
        reader: &mut Reader<'_>,
    ) -> Option<Option<Abbreviation>> {
        if reader.at() >= self.end {
            return None;
        }
        let code = reader.unsigned()?;
        if code == 0 {
            return Some(None);
        }
        let shape = self.abbreviations.find(code)?;
        debug.work(ENTRY + u64::from(shape.count) * 8)?;
        Some(Some(shape))
    }

    /// Reads the attributes of an entry of that shape.
    pub(super) fn attributes(
        &self,
        reader: &mut Reader<'_>,
        shape: Abbreviation,
        at: u64,
    ) -> Option<Entry> {
        let mut entry = Entry {
            at,
            tag: shape.tag,
            children: shape.children,
            ..Entry::default()
        };
        self.values(reader, shape, &mut |attribute, value| {
            entry.keep(attribute, value);
        })?;
        Some(entry)
    }

    /// Skips them; the offset of the entry after its children, if that is written.
    pub(super) fn sibling(
        &self,
        reader: &mut Reader<'_>,
        shape: Abbreviation,
    ) -> Option<Option<Value>> {
        let mut sibling = None;
        self.values(reader, shape, &mut |attribute, value| {
            if attribute == 0x01 {
                sibling = Some(value);
            }
        })?;
        Some(sibling)
    }

    #[inline]
    fn values(
        &self,
        reader: &mut Reader<'_>,
        shape: Abbreviation,
        keep: &mut dyn FnMut(u16, Value),
    ) -> Option<()> {
        let first = shape.first as usize;
        let specifications = first..first + shape.count as usize;
        for specification in self.abbreviations.specifications.get(specifications)? {
            let form = match specification.form {
                SKIP => {
                    reader.skip(specification.constant.cast_unsigned())?;
                    continue;
                }
                FORM_INDIRECT => reader.unsigned()?,
                form => form.into(),
            };
            let value = self.value(reader, form, specification.constant)?;
            keep(specification.attribute, value);
        }
        Some(())
    }

    /// The entry that begins here.
    pub(super) fn entry(&self, debug: &Debug<'_>, reader: &mut Reader<'_>) -> Option<Entry> {
        let at = reader.at();
        match self.shape(debug, reader)? {
            Some(shape) => self.attributes(reader, shape, at),
            None => None,
        }
    }

    /// A value of that form in a line number program, which has its own offset size.
    pub(super) fn line_value(
        &self,
        reader: &mut Reader<'_>,
        form: u64,
        wide: bool,
    ) -> Option<Value> {
        match form {
            0x0e => Some(Value::Text(Text::At(Section::Str, reader.offset(wide)?))),
            0x1f => Some(Value::Text(Text::At(
                Section::LineStr,
                reader.offset(wide)?,
            ))),
            _ => self.value(reader, form, 0),
        }
    }

    /// DWARF 5, section 7.5.5; `0x1f..` as GNU has them.
    fn value(&self, reader: &mut Reader<'_>, form: u64, constant: i64) -> Option<Value> {
        let (kind, length) = match form {
            0x01 => (Kind::Address, Length::Bytes(self.address_size)),
            0x03 => (Kind::Block, Length::Bytes(2)),
            0x04 => (Kind::Block, Length::Bytes(4)),
            0x05 => (Kind::Number, Length::Bytes(2)),
            0x06 => (Kind::Number, Length::Bytes(4)),
            0x07 => (Kind::Number, Length::Bytes(8)),
            0x08 => (Kind::String, Length::Bytes(0)),
            0x09 | 0x18 => (Kind::Block, Length::Unsigned),
            0x0a => (Kind::Block, Length::Bytes(1)),
            0x0b | 0x0c => (Kind::Number, Length::Bytes(1)),
            0x0d => (Kind::Number, Length::Signed),
            0x0e => (Kind::Text(Section::Str), Length::Offset),
            0x0f => (Kind::Number, Length::Unsigned),
            0x10 if self.version == 2 => (Kind::Entry, Length::Bytes(self.address_size)),
            0x10 => (Kind::Entry, Length::Offset),
            0x11 => (Kind::Local, Length::Bytes(1)),
            0x12 => (Kind::Local, Length::Bytes(2)),
            0x13 => (Kind::Local, Length::Bytes(4)),
            0x14 => (Kind::Local, Length::Bytes(8)),
            0x15 => (Kind::Local, Length::Unsigned),
            0x17 => (Kind::Number, Length::Offset),
            0x19 => return Some(Value::Number(1)),
            0x1a | 0x1f02 => (Kind::TextIndex, Length::Unsigned),
            0x1b | 0x1f01 => (Kind::AddressIndex, Length::Unsigned),
            0x1c => (Kind::Supplement, Length::Bytes(4)),
            0x1f20 => (Kind::Supplement, Length::Offset),
            0x1d | 0x1f21 => (Kind::SupplementText, Length::Offset),
            0x1e => {
                reader.skip(16)?;
                return Some(Value::Other);
            }
            0x1f => (Kind::Text(Section::LineStr), Length::Offset),
            0x20 => (Kind::Other, Length::Bytes(8)),
            0x24 => (Kind::Supplement, Length::Bytes(8)),
            FORM_IMPLICIT_CONST => return Some(Value::Number(constant.cast_unsigned())),
            0x22 => (Kind::Other, Length::Unsigned),
            0x23 => (Kind::ListIndex, Length::Unsigned),
            0x25..=0x28 => (Kind::TextIndex, Length::Bytes((form - 0x24) as u8)),
            0x29..=0x2c => (Kind::AddressIndex, Length::Bytes((form - 0x28) as u8)),
            _ => return None,
        };
        let at = reader.at();
        let number = match length {
            Length::Bytes(size) => reader.sized(size)?,
            Length::Offset => reader.offset(self.wide)?,
            Length::Unsigned => reader.unsigned()?,
            Length::Signed => reader.signed()?.cast_unsigned(),
        };
        Some(match kind {
            Kind::Number => Value::Number(number),
            Kind::Address => Value::Address(number),
            Kind::AddressIndex => Value::AddressIndex(number),
            Kind::ListIndex => Value::ListIndex(number),
            Kind::Entry => Value::Entry(number),
            Kind::Local => Value::Entry(self.start.checked_add(number)?),
            Kind::Text(section) => Value::Text(Text::At(section, number)),
            Kind::TextIndex => Value::Text(Text::Index(number)),
            Kind::Supplement => Value::Supplement(number),
            Kind::SupplementText => Value::Text(Text::Supplement(number)),
            Kind::String => {
                reader.skip_string()?;
                Value::Text(Text::At(Section::Info, at))
            }
            Kind::Block => {
                reader.skip(number)?;
                Value::Other
            }
            Kind::Other => Value::Other,
        })
    }

    pub(super) fn text(&self, debug: &Debug<'_>, value: Value) -> Option<Vec<u8>> {
        match value {
            Value::Text(Text::At(section, at)) => debug.reader_at(section, at).string(),
            Value::Text(Text::Supplement(at)) => {
                debug.supplement()?.reader_at(Section::Str, at).string()
            }
            Value::Text(Text::Index(index)) => {
                // After the header of the only part, if no base is given; version 4 has none.
                let behind_header = match (self.version, self.wide) {
                    (..5, _) => 0,
                    (_, true) => 16,
                    (_, false) => 8,
                };
                let base = self.root.string_base.and_then(Value::number);
                let size = if self.wide { 8 } else { 4 };
                let at = index
                    .checked_mul(size)?
                    .checked_add(base.unwrap_or(behind_header))?;
                let offset = debug.reader_at(Section::StrOffsets, at).offset(self.wide)?;
                debug.reader_at(Section::Str, offset).string()
            }
            _ => None,
        }
    }

    pub(super) fn address(&self, debug: &Debug<'_>, value: Value) -> Option<u64> {
        match value {
            Value::Address(address) => Some(address),
            Value::AddressIndex(index) => self.indexed_address(debug, index),
            _ => None,
        }
    }

    pub(super) fn indexed_address(&self, debug: &Debug<'_>, index: u64) -> Option<u64> {
        let behind_header = if self.version < 5 { 0 } else { 8 };
        let base = self.root.address_base.and_then(Value::number);
        let base = base.unwrap_or(behind_header);
        let at = index
            .checked_mul(self.address_size.into())?
            .checked_add(base)?;
        debug.reader_at(Section::Addr, at).sized(self.address_size)
    }
}
