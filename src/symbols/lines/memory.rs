//! What is kept of a file's debug information, so that it is read once.
//!
//! A desk keeps the index of units and all that it read of each unit, within its memory
//! limit, from one batch of addresses to the next ([`Memory::kept`]). The monitor keeps
//! nothing after a batch ([`Memory::brief`]) and reads only what concerns its addresses.

use std::cell::RefCell;
use std::rc::Rc;

use super::index::{Index, Units};
use super::program::{Place, Program, Rows};
use super::reader::{Blocks, Unpacked};
use super::tree::Functions;
use super::unit::{Unit, Value};
use super::wanted::Wanted;
use super::{Debug, Refused, Role, Section};
use crate::base::budget::MemoryBudget;
use crate::keyed::Map;
use crate::symbols::elf::{inflate, FileRange, Packed, Trouble};

/// Blocks of a file at a desk, and in the monitor.
const BLOCKS: (usize, usize) = (96, 12);
/// What the monitor keeps during a batch.
const BRIEF_BYTES: usize = 1 << 20;
/// What an entry of a map costs beside its value.
const ENTRY: usize = 64;
/// Entries that are followed for a name: an inlined call's origin, its declaration, and the
/// entry that this one specifies.
const MAX_HOPS: usize = 8;

/// A text that many calls share.
type Text = Rc<[u8]>;

/// What was read of a unit.
#[derive(Debug)]
pub(super) struct Tables {
    unit: Rc<Unit>,
    program: Program,
    pub(super) rows: Rows,
    pub(super) functions: Functions,
}

impl Tables {
    fn read(
        debug: &Debug<'_>,
        unit: Rc<Unit>,
        few: Option<&[u64]>,
        room: usize,
    ) -> Option<Option<Self>> {
        let Some(program) = Program::read(debug, &unit) else {
            return Some(None);
        };
        let wanted = || few.map_or(Wanted::ALL, Wanted::few);
        let rows = program.rows(debug, wanted(), room)?;
        let functions = Functions::read(debug, &unit, wanted(), room)?;
        Some(Some(Tables {
            unit,
            program,
            rows,
            functions,
        }))
    }

    /// Whether most of it is in a file of its own.
    pub(super) fn is_split(&self) -> bool {
        self.unit.is_split()
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.rows.memory() + self.functions.memory()
    }
}

/// Something that was read.
#[derive(Clone, Debug)]
enum Item {
    Unit(Rc<Unit>),
    List(Rc<Units>),
    Tables(Option<Rc<Tables>>),
    Text(Option<Text>),
}

/// What something is, where it is, and the number of a file.
type Key = (Kind, u64, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Unit(Role),
    List(Role),
    Tables,
    Name,
    Path,
}

/// All of a file, and what it takes.
#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    index: Option<Rc<Index>>,
    items: Map<Key, Item>,
}

/// The bytes of a file that are at hand.
#[derive(Debug)]
pub(super) struct FileMemory {
    pub(super) blocks: Blocks,
    /// Sections that were compressed.
    unpacked: RefCell<Vec<(Section, Rc<Unpacked>)>>,
}

impl FileMemory {
    fn new(blocks: usize) -> Self {
        FileMemory {
            blocks: Blocks::new(blocks),
            unpacked: RefCell::default(),
        }
    }

    /// Whether nothing has been unpacked.
    pub(super) fn is_empty(&self) -> bool {
        self.unpacked.borrow().is_empty()
    }
}

/// What is known of a file, and of those that have parts of its debug information.
#[derive(Debug)]
pub struct Memory {
    pub(super) itself: FileMemory,
    pub(super) supplement: FileMemory,
    /// Of what is unpacked.
    limit: Rc<MemoryBudget>,
    /// None if nothing is kept after a batch.
    budget: Option<Rc<MemoryBudget>>,
    kept: RefCell<Kept>,
}

impl Memory {
    /// For many batches.
    #[must_use]
    pub fn kept(budget: Rc<MemoryBudget>) -> Self {
        Memory {
            itself: FileMemory::new(BLOCKS.0),
            supplement: FileMemory::new(BLOCKS.1),
            limit: budget.clone(),
            budget: Some(budget),
            kept: RefCell::default(),
        }
    }

    /// For one batch; `limit` is for compressed sections.
    #[must_use]
    pub fn brief(limit: Rc<MemoryBudget>) -> Self {
        Memory {
            itself: FileMemory::new(BLOCKS.1),
            supplement: FileMemory::new(BLOCKS.1),
            limit,
            budget: None,
            kept: RefCell::default(),
        }
    }

    /// Accounts for bytes that are kept from now on; forgets the rest if there is no room.
    fn take(&self, bytes: usize) -> bool {
        let fits = |kept: &Kept| match &self.budget {
            Some(budget) => budget.fits(bytes),
            None => kept.bytes + bytes <= BRIEF_BYTES,
        };
        if !fits(&self.kept.borrow()) {
            self.forget();
        }
        let mut kept = self.kept.borrow_mut();
        if !fits(&kept) {
            return false;
        }
        kept.bytes += bytes;
        if let Some(budget) = &self.budget {
            budget.take(bytes);
        }
        true
    }

    fn forget(&self) {
        let kept = self.kept.take();
        if let Some(budget) = &self.budget {
            budget.give_back(kept.bytes);
        }
    }

    /// How large a part may be to be kept whole.
    fn room(&self) -> Option<usize> {
        let budget = self.budget.as_ref()?;
        let held = self.kept.borrow().bytes;
        Some(budget.room().saturating_add(held) / 4)
    }

    fn get(&self, key: Key) -> Option<Item> {
        self.kept.borrow().items.get(&key).cloned()
    }

    fn put(&self, key: Key, item: Item, bytes: usize) {
        if self.take(bytes + ENTRY) {
            self.kept.borrow_mut().items.insert(key, item);
        }
    }
}

impl Debug<'_> {
    /// The bytes of a compressed section, which is unpacked once.
    pub(super) fn unpacked(
        &self,
        section: Section,
        range: FileRange,
        packed: Packed,
    ) -> Result<Rc<Unpacked>, Refused> {
        let known = self.memory.unpacked.borrow();
        if let Some((_, unpacked)) = known.iter().find(|(known, _)| *known == section) {
            return Ok(unpacked.clone());
        }
        drop(known);
        // The header may promise more than there is, but never less.
        let size = usize::try_from(packed.size).unwrap_or(usize::MAX);
        let memory = self.batch.memory;
        let limit = &memory.limit;
        if !limit.fits(size) {
            memory.forget();
        }
        let mut unpacked = Unpacked::default();
        let mut taken = 0;
        let mut take = || {
            let fits = limit.fits(Unpacked::BLOCK_BYTES);
            if fits {
                limit.take(Unpacked::BLOCK_BYTES);
                taken += Unpacked::BLOCK_BYTES;
            }
            fits
        };
        let done = match limit.fits(size) {
            true => inflate(self.source, range, packed, &mut |bytes| {
                unpacked.push(bytes, &mut take).ok_or(Trouble::TooLarge)
            }),
            false => Err(Trouble::TooLarge),
        };
        limit.give_back(taken);
        done.map_err(|trouble| match trouble {
            Trouble::Unknown => Refused::Compressed(packed.form),
            Trouble::TooLarge => Refused::TooLarge(packed.form),
            Trouble::Damaged => Refused::Damaged(packed.form),
            Trouble::TimedOut => Refused::TimedOut,
        })?;
        let unpacked = Rc::new(unpacked.finish());
        limit.take(unpacked.memory());
        self.memory
            .unpacked
            .borrow_mut()
            .push((section, unpacked.clone()));
        Ok(unpacked)
    }
}

impl Memory {
    /// Forgets everything.
    pub fn clear(&self) {
        self.forget();
        for file in [&self.itself, &self.supplement] {
            for (_, unpacked) in file.unpacked.take() {
                self.limit.give_back(unpacked.memory());
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Debug<'_> {
    /// The index, of everything or of these addresses.
    pub(super) fn index(&self, addresses: &[u64]) -> Rc<Index> {
        if let Some(index) = &self.batch.memory.kept.borrow().index {
            return index.clone();
        }
        let Some(room) = self.batch.memory.room() else {
            return Rc::new(Index::read(self, Wanted::few(addresses)));
        };
        let index = Rc::new(Index::read(self, Wanted::ALL));
        // What was not read in time is read again.
        if index.memory() <= room && !self.is_cut() && self.batch.memory.take(index.memory()) {
            self.batch.memory.kept.borrow_mut().index = Some(index.clone());
        }
        index
    }

    /// What is known of a unit, at these addresses at least.
    pub(super) fn tables(&self, at: u64, addresses: &[u64]) -> Option<Rc<Tables>> {
        let key = (Kind::Tables, at, 0);
        if let Some(Item::Tables(tables)) = self.batch.memory.get(key) {
            return tables;
        }
        let unit = self.unit(at)?;
        let all = self.batch.memory.room().and_then(|room| {
            let tables = Tables::read(self, unit.clone(), None, room)?.map(Rc::new);
            let bytes = tables.as_ref().map_or(0, |tables| tables.memory());
            if !self.is_cut() {
                self.batch
                    .memory
                    .put(key, Item::Tables(tables.clone()), bytes);
            }
            Some(tables)
        });
        match all {
            Some(all) => all,
            None => Tables::read(self, unit, Some(addresses), usize::MAX)?.map(Rc::new),
        }
    }

    fn unit(&self, at: u64) -> Option<Rc<Unit>> {
        let key = (Kind::Unit(self.role), at, 0);
        if let Some(Item::Unit(unit)) = self.batch.memory.get(key) {
            return Some(unit);
        }
        let unit = Rc::new(Unit::read(self, at)?);
        if self.is_cut() {
            return Some(unit);
        }
        let bytes = unit.memory() + size_of::<Unit>();
        self.batch.memory.put(key, Item::Unit(unit.clone()), bytes);
        Some(unit)
    }

    /// The unit that an entry anywhere belongs to.
    fn unit_around(&self, at: u64) -> Option<Rc<Unit>> {
        let key = (Kind::List(self.role), 0, 0);
        let list = match self.batch.memory.get(key) {
            Some(Item::List(list)) => list,
            _ => {
                let list = Rc::new(Units::read(self));
                if !self.is_cut() {
                    self.batch
                        .memory
                        .put(key, Item::List(list.clone()), list.memory());
                }
                list
            }
        };
        self.unit(list.around(at)?)
    }

    /// A text that is kept from then on.
    fn text(&self, key: Key, read: impl FnOnce() -> Option<Vec<u8>>) -> Option<Text> {
        if let Some(Item::Text(text)) = self.batch.memory.get(key) {
            return text;
        }
        let text = read().map(Text::from);
        if !self.is_cut() {
            let bytes = text.as_ref().map_or(0, |text| text.len());
            self.batch.memory.put(key, Item::Text(text.clone()), bytes);
        }
        text
    }

    /// The path and the line of a place. Line 0 means code without a line.
    pub(super) fn show(&self, tables: &Tables, place: Option<Place>) -> Option<(Text, u32)> {
        let (file, line) = place.filter(|&(_, line)| line != 0)?;
        let path = self.text((Kind::Path, tables.unit.start, file), || {
            tables.program.path(self, &tables.unit, file.into())
        });
        Some((path?, line))
    }

    /// The linkage name of the entry that this one is an instance of, else the plain name.
    pub(super) fn name(&self, tables: &Tables, at: u64) -> Option<Text> {
        self.text((Kind::Name, at, 0), || {
            self.read_name(tables.unit.clone(), at)
        })
    }

    fn read_name(&self, mut unit: Rc<Unit>, mut at: u64) -> Option<Vec<u8>> {
        let mut plain = None;
        for _ in 0..MAX_HOPS {
            if !(unit.start..unit.end).contains(&at) {
                unit = self.unit_around(at)?;
            }
            let mut reader = self.reader_at(Section::Info, at);
            let Some(entry) = unit.entry(self, &mut reader) else {
                break;
            };
            let text = |value: Option<Value>| unit.text(self, value?);
            if let Some(name) = text(entry.linkage_name) {
                return Some(name);
            }
            plain = plain.or_else(|| text(entry.name));
            match entry.origin.or(entry.specification) {
                Some(Value::Entry(next)) => at = next,
                Some(Value::Supplement(next)) => {
                    let name = |other: Debug<'_>| other.read_name(other.unit_around(next)?, next);
                    return self.supplement().and_then(name).or(plain);
                }
                _ => break,
            }
        }
        plain.filter(|name| !name.is_empty())
    }
}
