//! An identified ELF file, open, with its debug file if there is one.
//!
//! What a stack walk asks for ([`ModuleData`]) is read through the shared blocks;
//! what the resolver asks for ([`Names`]) is a pass over symbol tables, in this
//! order: `.symtab`, the debug file's `.symtab`, `.dynsym`, Go's `.gopclntab`, the
//! stubs of calls into other files.

use std::cell::{Cell, OnceCell, RefCell};
#[cfg(feature = "split")]
use std::path::Path;
use std::rc::Rc;

use super::blocks::Blocks;
use crate::base::address::FileAddress;
use crate::base::allowance::{Allowance, Step};
use crate::base::budget::MemoryBudget;
use crate::crash::event::Mapping;
#[cfg(feature = "dwz")]
use crate::symbols::elf::find_supplement;
use crate::symbols::elf::{
    find_debug_file, Answer, DebugDirs, ElfFile, Found, Holder, Home, Load, Starts, Table,
};
#[cfg(feature = "split")]
use crate::symbols::elf::{open_other, package_places};
#[cfg(feature = "lines")]
use crate::symbols::lines::{self, Lack, Lines, Others, Refused};
use crate::symbols::resolver::Names;
use crate::sys::opener;
use crate::unwind::{CfiSection, ModuleData, SectionRange};

/// Functions whose starts are remembered for the stack walk.
const MAX_STARTS: usize = 64;
/// Passes over symbol tables for one start each; then an index is made.
const MAX_PASSES: usize = 4;

/// What all modules have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) blocks: RefCell<Blocks>,
    pub(super) debug_dirs: DebugDirs,
    pub(super) allowance: Rc<Allowance>,
    pub(super) budget: Rc<MemoryBudget>,
}

/// One file.
#[derive(Debug)]
pub struct Module {
    id: u64,
    elf: ElfFile,
    homes: Vec<Home>,
    debug: OnceCell<Option<ElfFile>>,
    #[cfg(feature = "dwz")]
    supplement: OnceCell<Option<ElfFile>>,
    #[cfg(feature = "split")]
    package: OnceCell<Option<ElfFile>>,
    /// Answers to `function_start`, and the one to be replaced next.
    starts: RefCell<(Vec<Answer>, usize)>,
    /// How often that was not known.
    asked: Cell<usize>,
    /// What answers it when that was often.
    index: OnceCell<Option<[Starts; 3]>>,
    shared: Rc<Shared>,
}

impl Module {
    /// `homes`: its places, for links to its debug file.
    pub(super) fn new(id: u64, elf: ElfFile, homes: Vec<Home>, shared: Rc<Shared>) -> Self {
        Module {
            id,
            elf,
            homes,
            debug: OnceCell::new(),
            #[cfg(feature = "dwz")]
            supplement: OnceCell::new(),
            #[cfg(feature = "split")]
            package: OnceCell::new(),
            starts: RefCell::default(),
            asked: Cell::new(0),
            index: OnceCell::new(),
            shared,
        }
    }

    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.elf.build_id()
    }

    #[must_use]
    pub fn elf(&self) -> &ElfFile {
        &self.elf
    }

    /// Where the file lies, or lay when it was mapped.
    #[cfg(test)]
    pub(super) fn homes(&self) -> &[Home] {
        &self.homes
    }

    /// The separate file with its symbols; searched once.
    #[must_use]
    pub fn debug_file(&self) -> Option<&ElfFile> {
        if let Some(known) = self.debug.get() {
            return known.as_ref();
        }
        let _turn = self.shared.allowance.turn(self.id, Step::DebugFiles)?;
        let found = find_debug_file(&self.elf, &self.homes, &self.shared.debug_dirs);
        // It goes unused where there is no room for it.
        let found = found.filter(|debug| self.take_room(debug.memory()));
        if found.is_none() && (self.shared.allowance.is_out() || opener::is_silent()) {
            return None;
        }
        self.debug.get_or_init(|| found).as_ref()
    }

    /// What its file with debug information has in common with others; searched once.
    #[cfg(feature = "dwz")]
    fn supplement(&self, elf: &ElfFile) -> Option<&ElfFile> {
        let find = || find_supplement(elf, &self.homes, &self.shared.debug_dirs);
        self.remembered(&self.supplement, &find)
    }

    /// The file with all its split units; searched once.
    #[cfg(feature = "split")]
    fn package(&self, elf: &ElfFile) -> Option<&ElfFile> {
        let find = || {
            let files = [self.elf.source(), elf.source()];
            let places = files.into_iter().flat_map(package_places);
            places.into_iter().find_map(|place| self.other(elf, &place))
        };
        self.remembered(&self.package, &find)
    }

    /// A file that `elf` names.
    #[cfg(feature = "split")]
    fn other(&self, elf: &ElfFile, path: &Path) -> Option<ElfFile> {
        let roots = self.homes.iter().map(|home| home.root.as_deref());
        let mut roots = std::iter::once(None).chain(roots);
        roots.find_map(|root| open_other(elf, root, path))
    }

    /// What was found before, or is found now.
    #[cfg(any(feature = "dwz", feature = "split"))]
    fn remembered<'a>(
        &self,
        known: &'a OnceCell<Option<ElfFile>>,
        find: &dyn Fn() -> Option<ElfFile>,
    ) -> Option<&'a ElfFile> {
        if known.get().is_none() {
            let found = find().filter(|file| self.take_room(file.memory()));
            if found.is_none() && (self.shared.allowance.is_out() || opener::is_silent()) {
                return None;
            }
            let _ = known.set(found);
        }
        let known = known.get()?.as_ref();
        known.filter(|file| file.source().is_current())
    }

    fn take_room(&self, bytes: usize) -> bool {
        let fits = self.shared.budget.fits(bytes);
        if fits {
            self.shared.budget.take(bytes);
        }
        fits
    }

    /// The same, if it has symbols that the file itself lacks.
    fn debug_symbols(&self) -> Option<&ElfFile> {
        if self.elf.has_symtab() {
            return None;
        }
        self.debug_file()
            .filter(|debug| debug.source().is_current())
    }

    /// Whether the file is unchanged since it was opened.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.elf.source().is_current()
    }

    /// When the file had last changed as it was opened, by the wall clock.
    #[must_use]
    pub fn changed_unix_ns(&self) -> i64 {
        self.elf.source().changed_unix_ns()
    }

    /// `process = file + bias`, for a mapping of this file; `None` if no segment
    /// of it is mapped so.
    #[must_use]
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        bias(self.elf.loads(), mapping)
    }

    /// Heap bytes, about.
    pub(super) fn memory(&self) -> usize {
        let home = |home: &Home| size_of::<Home>() + home.dir.as_os_str().len();
        let homes: usize = self.homes.iter().map(home).sum();
        // The answers' names come on top; most are short.
        let starts = MAX_STARTS * (size_of::<Answer>() + 32);
        size_of::<Self>() + homes + starts + self.elf.memory()
    }

    fn remembered_start(&self, address: FileAddress) -> Option<Option<FileAddress>> {
        let starts = self.starts.borrow();
        let held = |answer: &&Answer| answer.low <= address && address < answer.high;
        let answer = starts.0.iter().find(held)?;
        Some(answer.found.as_ref().map(|found| found.start))
    }

    /// The variable that holds an address.
    #[must_use]
    pub fn variable(&self, address: FileAddress) -> Option<Found> {
        let tables = self.tables();
        let _turn = self.shared.allowance.turn(self.id, Step::Names)?;
        let mut tables = tables.into_iter();
        tables.find_map(|(file, table)| file?.variable(table, address))
    }

    /// The tables of symbols, the best one first.
    fn tables(&self) -> [(Option<&ElfFile>, Table); 3] {
        [
            (Some(&self.elf), Table::Full),
            (self.debug_symbols(), Table::Full),
            (Some(&self.elf), Table::Dynamic),
        ]
    }

    /// By the index; `None` where there is none, or where it does not know.
    fn indexed_start(&self, address: FileAddress) -> Option<Option<FileAddress>> {
        let index = match self.index.get() {
            Some(index) => index,
            None => self.make_index()?,
        };
        for starts in index.as_ref()? {
            match starts.find(address) {
                Holder::Function(start) => return Some(Some(start)),
                Holder::NotKnown => return None,
                Holder::Nobody => {}
            }
        }
        let _turn = self.shared.allowance.turn(self.id, Step::Names)?;
        let mut answers = [Answer::unknown()];
        self.elf.add_go_functions(&[address], &mut answers);
        self.elf.add_stubs(&[address], &mut answers);
        let [answer] = answers;
        let start = answer.found.as_ref().map(|found| found.start);
        if start.is_some() {
            self.remember_start(answer);
        }
        Some(start)
    }

    fn make_index(&self) -> Option<&Option<[Starts; 3]>> {
        let tables = self.tables();
        let _turn = self.shared.allowance.turn(self.id, Step::Names)?;
        let starts = |(file, table): (Option<&ElfFile>, Table)| match file {
            Some(file) => file.starts(table),
            None => Some(Starts::default()),
        };
        let [full, debug, dynamic] = tables.map(starts);
        if self.shared.allowance.is_out() {
            return None;
        }
        let all = full.zip(debug).zip(dynamic);
        let index = all.map(|((full, debug), dynamic)| [full, debug, dynamic]);
        let index = index.filter(|index| self.take_room(index.iter().map(Starts::memory).sum()));
        Some(self.index.get_or_init(|| index))
    }

    fn remember_start(&self, mut answer: Answer) {
        if let Some(found) = &mut answer.found {
            found.name = Vec::new();
        }
        let mut starts = self.starts.borrow_mut();
        let (answers, next) = &mut *starts;
        if answers.len() < MAX_STARTS {
            answers.push(answer);
            return;
        }
        answers[*next] = answer;
        *next = (*next + 1) % MAX_STARTS;
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Some(Some(debug)) = self.debug.get() {
            self.shared.budget.give_back(debug.memory());
        }
        #[cfg(feature = "dwz")]
        if let Some(Some(file)) = self.supplement.get() {
            self.shared.budget.give_back(file.memory());
        }
        #[cfg(feature = "split")]
        if let Some(Some(file)) = self.package.get() {
            self.shared.budget.give_back(file.memory());
        }
        for starts in self.index.get().into_iter().flatten().flatten() {
            self.shared.budget.give_back(starts.memory());
        }
    }
}

impl Names for Module {
    fn id(&self) -> u64 {
        self.id
    }

    fn functions(&self, addresses: &[FileAddress]) -> Option<Vec<Answer>> {
        let tables = self.tables();
        let _turn = self.shared.allowance.turn(self.id, Step::Names)?;
        let mut answers = vec![Answer::unknown(); addresses.len()];
        for (file, table) in tables {
            if let Some(file) = file {
                file.add_functions(table, addresses, &mut answers)?;
            }
        }
        self.elf.add_go_functions(addresses, &mut answers);
        self.elf.add_stubs(addresses, &mut answers);
        (!self.shared.allowance.is_out()).then_some(answers)
    }

    fn work(&self, units: u64) -> bool {
        self.shared.allowance.take(units)
    }

    #[cfg(feature = "lines")]
    fn calls(&self, addresses: &[FileAddress]) -> Lines {
        let own = self.elf.debug_sections().exist().then_some(&self.elf);
        let debug = || {
            let debug = self.debug_file()?;
            debug.source().is_current().then_some(debug)
        };
        let Some(elf) = own.or_else(debug) else {
            return Lines::none(addresses.len(), None);
        };
        let Some(_turn) = self.shared.allowance.turn(self.id, Step::Lines) else {
            return Lines::none(addresses.len(), Some(Refused::TimedOut));
        };
        let memory = lines::Memory::brief(self.shared.budget.clone());
        let others = OthersOf { module: self, elf };
        lines::calls(elf, &memory, &others, addresses)
    }
}

/// The other files that have a part of the debug information of `elf`, which is the
/// module's own or its debug file.
#[cfg(feature = "lines")]
struct OthersOf<'a> {
    #[cfg_attr(
        not(any(feature = "dwz", feature = "split")),
        expect(dead_code, reason = "asked for its other files")
    )]
    module: &'a Module,
    #[cfg_attr(
        not(any(feature = "dwz", feature = "split")),
        expect(dead_code, reason = "asked for their names")
    )]
    elf: &'a ElfFile,
}

#[cfg(feature = "lines")]
impl Others for OthersOf<'_> {
    #[cfg(not(feature = "dwz"))]
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        Err(Refused::Supplement.into())
    }

    #[cfg(feature = "dwz")]
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        let link = self.elf.supplement_link();
        let found = self.module.supplement(self.elf);
        found.ok_or_else(|| Lack {
            reason: Refused::Supplement,
            file: link.map(|link| link.name.clone().into()),
        })
    }

    #[cfg(feature = "split")]
    fn package(&self) -> Option<&ElfFile> {
        self.module.package(self.elf)
    }

    #[cfg(feature = "split")]
    fn object(&self, path: &Path) -> Option<ElfFile> {
        self.module.other(self.elf, path)
    }
}

impl ModuleData for Module {
    fn identity(&self) -> u64 {
        self.id
    }

    fn address_bytes(&self) -> u8 {
        if self.elf.is_64_bit() {
            8
        } else {
            4
        }
    }

    fn entry(&self) -> Option<FileAddress> {
        self.elf.entry()
    }

    fn keeps_frame_pointers(&self) -> bool {
        self.elf.is_go()
    }

    fn section(&self, section: CfiSection) -> Option<SectionRange> {
        match (self.elf.section(section), section) {
            (None, CfiSection::DebugFrame) => self.debug_file()?.section(section),
            (own, _) => own,
        }
    }

    fn read_section(&self, section: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()> {
        let (file, id) = match self.elf.section_range(section) {
            Some(_) => (&self.elf, self.id),
            // The debug file's blocks must not be taken for this file's.
            None => (self.debug_file()?, self.id.wrapping_add(1)),
        };
        let range = file.section_range(section)?;
        let end = offset.checked_add(buf.len() as u64)?;
        if end > range.size {
            return None;
        }
        let at = range.offset.checked_add(offset)?;
        let mut blocks = self.shared.blocks.borrow_mut();
        (blocks.read(id, file.source(), at, buf) == buf.len()).then_some(())
    }

    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize {
        let Some((offset, left)) = self.elf.file_offset(address) else {
            return 0;
        };
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let mut blocks = self.shared.blocks.borrow_mut();
        blocks.read(self.id, self.elf.source(), offset.0, &mut buf[..len])
    }

    fn function_start(&self, address: FileAddress) -> Option<FileAddress> {
        if let Some(start) = self.remembered_start(address) {
            return start;
        }
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() > MAX_PASSES {
            if let Some(start) = self.indexed_start(address) {
                return start;
            }
        }
        let answer = self.functions(&[address])?.pop()?;
        let start = answer.found.as_ref().map(|found| found.start);
        self.remember_start(answer);
        start
    }
}

/// Computed from the place of a segment in the file and the address of that part.
///
/// The kernel maps whole pages, so that a mapping may begin before its segment,
/// and one page of the file may belong to two segments: `ld` overlaps the ends of
/// read-only data and of data, `lld` pads none. Permissions distinguish them, except
/// for data that became read-only after relocation; an executable mapping is
/// always certain.
pub(super) fn bias(loads: &[Load], mapping: &Mapping) -> Option<u64> {
    let offset = mapping.file.as_ref()?.offset.0;
    let length = mapping.end.offset_from(mapping.start)?;
    let end = offset.checked_add(length)?;
    let flags = mapping.flags;
    let rank = |load: &Load| {
        let executable = load.executable == flags.executable();
        let writable = load.writable == flags.writable();
        (executable, writable, load.offset.0 <= offset)
    };
    let load = loads
        .iter()
        .filter(|load| {
            let load_end = load.offset.0.saturating_add(load.file_size);
            load.offset.0 < end && offset < load_end
        })
        .max_by_key(|load| rank(load))?;
    let file_address = load
        .address
        .0
        .wrapping_add(offset.wrapping_sub(load.offset.0));
    Some(mapping.start.0.wrapping_sub(file_address))
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod tests;
