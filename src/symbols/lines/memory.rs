//! What is kept of a file's debug information, so that it is read once.
//!
//! A desk keeps the index of units and all that it read of each unit, within its memory
//! limit, from one batch of addresses to the next ([`Memory::kept`]). The monitor keeps
//! nothing after a batch ([`Memory::brief`]) and reads only what concerns its addresses.

use std::cell::RefCell;
use std::rc::Rc;

use super::files::FileMemory;
use super::index::{Index, Units};
#[cfg(feature = "split")]
use super::open::SplitFiles;
use super::program::{Place, Program, Rows};
#[cfg(feature = "desk")]
use super::sites::Sites;
use super::tree::Functions;
use super::unit::{Unit, Value};
use super::wanted::Wanted;
use super::{Debug, Lack, Refused, Role, Section};
use crate::base::budget::MemoryBudget;
use crate::keyed::Map;

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
    /// The unit in another file that the functions are in.
    #[cfg(feature = "split")]
    split: Option<Rc<Unit>>,
    /// Why they are unknown: that file is not there.
    pub(super) lack: Option<Lack>,
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
        let mut tables = Tables {
            program,
            rows,
            functions: Functions::default(),
            #[cfg(feature = "split")]
            split: None,
            lack: None,
            unit,
        };
        match tables.unit.is_split() {
            true => tables.read_split(debug, &wanted, room)?,
            false => tables.functions = Functions::read(debug, &tables.unit, wanted(), room)?,
        }
        Some(Some(tables))
    }

    /// The functions of a skeleton unit; `None` if they would have more than so many bytes.
    fn read_split<'w>(
        &mut self,
        debug: &Debug<'_>,
        wanted: &dyn Fn() -> Wanted<'w>,
        room: usize,
    ) -> Option<()> {
        let unit = &self.unit;
        #[cfg(not(feature = "split"))]
        let lack = Refused::Split.into();
        #[cfg(feature = "split")]
        let lack = {
            let mut found = None;
            let done = debug.split(unit, &mut |file, at| {
                found = Unit::read_split(file, at, unit).map(|unit| {
                    let functions = Functions::read(file, &unit, wanted(), room);
                    (functions, Rc::new(unit))
                });
            });
            if let Some((functions, unit)) = found {
                (self.functions, self.split) = (functions?, Some(unit));
                return Some(());
            }
            done.err().unwrap_or_else(|| Refused::OtherObject.into())
        };
        if unit.has_children() {
            // Some compilers write functions with inlined calls there, too.
            self.functions = Functions::read(debug, unit, wanted(), room)?;
        } else {
            // Lines alone would stand beside the names of outer functions.
            self.lack = Some(lack);
            self.rows = Rows::default();
        }
        Some(())
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
    #[cfg(feature = "desk")]
    Sites(Option<Rc<Sites>>),
}

/// What something is, where it is, and the number of a file.
type Key = (Kind, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Unit(Role),
    List(Role),
    Tables,
    Name,
    Path,
    #[cfg(feature = "desk")]
    Sites,
}

/// All of a file, and what it takes.
#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    index: Option<Rc<Index>>,
    items: Map<Key, Item>,
}

/// What is known of a file, and of those that have parts of its debug information.
#[derive(Debug)]
pub struct Memory {
    pub(super) itself: FileMemory,
    #[cfg(feature = "dwz")]
    pub(super) supplement: FileMemory,
    #[cfg(feature = "split")]
    pub(super) split: SplitFiles,
    /// None if nothing is kept after a batch.
    budget: Option<Rc<MemoryBudget>>,
    kept: RefCell<Kept>,
}

impl Memory {
    /// For many batches.
    #[must_use]
    pub fn kept(budget: Rc<MemoryBudget>) -> Self {
        Memory {
            itself: FileMemory::new(BLOCKS.0, budget.clone()),
            #[cfg(feature = "dwz")]
            supplement: FileMemory::new(BLOCKS.1, budget.clone()),
            #[cfg(feature = "split")]
            split: SplitFiles::new(&budget),
            budget: Some(budget),
            kept: RefCell::default(),
        }
    }

    /// For one batch; `limit` is for compressed sections.
    #[must_use]
    pub fn brief(limit: Rc<MemoryBudget>) -> Self {
        Memory {
            #[cfg(feature = "split")]
            split: SplitFiles::new(&limit),
            #[cfg(feature = "dwz")]
            supplement: FileMemory::new(BLOCKS.1, limit.clone()),
            itself: FileMemory::new(BLOCKS.1, limit),
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

    pub(super) fn forget(&self) {
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

impl Memory {
    /// Forgets everything.
    pub fn clear(&self) {
        self.forget();
        self.itself.clear();
        #[cfg(feature = "dwz")]
        self.supplement.clear();
        #[cfg(feature = "split")]
        self.split.clear();
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

    /// The calls of a unit of this file.
    #[cfg(feature = "desk")]
    pub(super) fn sites(&self, at: u64) -> Option<Rc<Sites>> {
        let key = (Kind::Sites, at, 0);
        if let Some(Item::Sites(sites)) = self.batch.memory.get(key) {
            return sites;
        }
        let sites = Sites::read(self, at).map(Rc::new);
        if !self.is_cut() {
            let bytes = sites.as_ref().map_or(0, |sites| sites.memory());
            self.batch
                .memory
                .put(key, Item::Sites(sites.clone()), bytes);
        }
        sites
    }

    /// The linkage name, else the plain name, of an entry of this file.
    #[cfg(feature = "desk")]
    pub(super) fn name_at(&self, at: u64) -> Option<Text> {
        self.text((Kind::Name, at, 0), || {
            self.read_name(self.unit_around(at)?, at)
        })
    }

    /// Where the unit begins that an entry of this file belongs to.
    #[cfg(feature = "desk")]
    pub(super) fn unit_of_entry(&self, at: u64) -> Option<u64> {
        Some(self.unit_around(at)?.start)
    }

    fn unit(&self, at: u64) -> Option<Rc<Unit>> {
        if self.role == Role::Split {
            return Unit::read(self, at).map(Rc::new);
        }
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
        if self.role == Role::Split {
            return self.unit(Units::read(self).around(at)?);
        }
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
        let path = self.text((Kind::Path, tables.unit.start, file.into()), || {
            tables.program.path(self, &tables.unit, file.into())
        });
        Some((path?, line))
    }

    /// The linkage name of the entry that this one is an instance of, else the plain name.
    pub(super) fn name(&self, tables: &Tables, at: u64) -> Option<Text> {
        let unit = tables.unit.clone();
        #[cfg(feature = "split")]
        if let Some(split) = &tables.split {
            return self.text((Kind::Name, at, unit.start + 1), || {
                let mut name = None;
                let _ = self.split(&unit, &mut |file, _| {
                    name = file.read_name(split.clone(), at);
                });
                name
            });
        }
        self.text((Kind::Name, at, 0), || self.read_name(unit, at))
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
