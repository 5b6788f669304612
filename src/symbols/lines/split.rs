//! Units whose entries are in another file: split DWARF.
//!
//! In: a skeleton unit, which has lines and addresses. Out: the unit with its functions, in
//! a package of all units (`PROGRAM.dwp`) or in an object of its own (`.dwo`), found by the
//! identification that both have. What the two share stays in the first file: addresses,
//! ranges of version 4, lines.
//!
//! DWARF 5, sections 3.1.2, 3.1.3 and 7.3.5; what GNU had before, for version 4:
//! <https://gcc.gnu.org/wiki/DebugFission>, <https://gcc.gnu.org/wiki/DebugFissionDWP>.

use std::rc::Rc;

use super::abbreviation::ENTRY;
use super::unit::Unit;
use super::{Debug, Lack, Refused, Role, Section, Windows};
use crate::symbols::elf::{split_places, FileRange};

/// Units of a file that are looked at: an object has one, and those of its types.
const MAX_UNITS: usize = 1 << 16;
/// Sections that a package knows.
const MAX_COLUMNS: u32 = 16;

impl Unit {
    /// The split unit of a skeleton, which lends it what they share.
    pub(super) fn read_split(debug: &Debug<'_>, at: u64, skeleton: &Unit) -> Option<Self> {
        let mut unit = Unit::read(debug, at)?;
        unit.borrow(skeleton);
        Some(unit)
    }
}

impl Debug<'_> {
    /// Shows the file with the rest of a skeleton unit, and where its unit begins.
    pub(super) fn split(
        &self,
        skeleton: &Unit,
        show: &mut dyn FnMut(&Debug<'_>, u64),
    ) -> Result<(), Lack> {
        let name = skeleton.split_name(self);
        let lack = |reason| Lack {
            reason,
            file: name.as_deref().map(Rc::from),
        };
        let id = skeleton.split_id().ok_or(lack(Refused::NoObject))?;
        if let Some(elf) = self.batch.others.package() {
            let memory = &self.batch.memory.split.package;
            let mut package = Debug::new(self.batch, elf, Role::Split, memory);
            package.main = Some(self);
            if let Some(windows) = package.find_in_package(id) {
                package.windows = Some(&windows);
                if let Some(at) = package.find_unit(id) {
                    show(&package, at);
                    return Ok(());
                }
            }
        }
        let open = &self.batch.memory.split;
        let known = open.get(id).or_else(|| {
            let directory = skeleton.directory(self);
            let places = split_places(self.source, directory.as_deref(), name.as_deref()?);
            let mut files = places.iter().map(|place| self.batch.others.object(place));
            let elf = files.find_map(|file| file)?;
            Some(open.put(id, elf))
        });
        let file = known.ok_or(lack(Refused::NoObject))?;
        let mut object = Debug::new(self.batch, &file.elf, Role::Split, &file.memory);
        object.main = Some(self);
        let at = object.find_unit(id).ok_or(lack(Refused::OtherObject))?;
        show(&object, at);
        Ok(())
    }

    /// Where the unit with that identification begins.
    fn find_unit(&self, id: u64) -> Option<u64> {
        let mut reader = self.reader(Section::Info);
        for _ in 0..MAX_UNITS {
            let at = reader.at();
            self.work(ENTRY)?;
            let end = Unit::header(&mut reader)?.end;
            reader.seek(at);
            let unit = Unit::glance(self, &mut reader);
            if unit.is_some_and(|unit| unit.is_program() && unit.split_id() == Some(id)) {
                return Some(at);
            }
            reader.seek(end);
        }
        None
    }

    /// By the hash table of the package. DWARF 5, section 7.3.5.3.
    fn find_in_package(&self, id: u64) -> Option<Windows> {
        const HEADER: u64 = 16;
        let mut reader = self.reader(Section::CuIndex);
        let mut number = || reader.sized(4).map(|number| number as u32);
        let version = number()?;
        let (columns, units, slots) = (number()?, number()?, u64::from(number()?));
        let is_known = matches!(version, 2 | 5) && columns <= MAX_COLUMNS;
        if !is_known || !slots.is_power_of_two() {
            return None;
        }
        let mask = slots - 1;
        let step = (id >> 32) & mask | 1;
        let mut slot = id & mask;
        let rows = HEADER + slots * 8;
        let mut row = 0;
        for _ in 0..slots {
            self.work(ENTRY)?;
            reader.seek(rows + slot * 4);
            row = reader.sized(4)?;
            reader.seek(HEADER + slot * 8);
            if row == 0 || reader.sized(8)? == id {
                break;
            }
            slot = (slot + step) & mask;
            row = 0;
        }
        let row = row.checked_sub(1).filter(|row| *row < units.into())?;
        let width = u64::from(columns) * 4;
        let names = rows + slots * 4;
        let offsets = names + width * (row + 1);
        let sizes = names + width * (u64::from(units) + row + 1);
        let mut windows = Windows::default();
        for column in (0..width).step_by(4) {
            let mut number = |at: u64| {
                reader.seek(at + column);
                reader.sized(4)
            };
            let section = match (number(names)?, version) {
                (1, _) => Section::Info,
                (3, _) => Section::Abbrev,
                (6, _) => Section::StrOffsets,
                (8, 5) => Section::Rnglists,
                _ => continue,
            };
            let (offset, size) = (number(offsets)?, number(sizes)?);
            windows[section as usize] = Some(FileRange { offset, size });
        }
        Some(windows)
    }
}
