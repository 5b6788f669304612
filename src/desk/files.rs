//! Unstripped files, found by build-id and by nothing else.
//!
//! In: the places that the user gave ([`Places`]), and the build-id of a module with its
//! path on the crashed host. Out: its files ([`Unstripped`]), or the reason why there are
//! none. These are searched until symbols and lines are found:
//!
//! ```text
//! DIR/.build-id/xx/rest.debug     of each directory that was given, and of packages'
//! CACHE/BUILDID/debuginfo         of each cache of a debuginfod client
//! ROOT/path/of/the/module         of each root
//! the files that were given, and every file below the directories that were given
//! the servers of debuginfod, if there are some
//! ```
//!
//! All of them are opened like foreign files: only regular ones, and no path in a report
//! leads out of a root. A file with another build-id is never used. The given directories
//! are searched once, when something is missing.

#[cfg(feature = "split")]
use std::cell::OnceCell;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[cfg(feature = "desk")]
use super::debuginfod::Debuginfod;
use crate::base::address::FileAddress;
use crate::base::allowance::Allowance;
use crate::base::budget::MemoryBudget;
use crate::base::bytes::hex;
use crate::base::error::{Error, Result};
use crate::report::output::escape;
#[cfg(feature = "split")]
use crate::symbols::elf::package_places;
use crate::symbols::elf::{Answer, DebugDirs, ElfFile, Source, Table};
#[cfg(feature = "desk")]
use crate::symbols::lines::TailCall;
#[cfg(feature = "lines")]
use crate::symbols::lines::{self, Lack, Lines, Memory, Others, Refused};
use crate::symbols::resolver::Names;
use crate::sys::file::{Directory, Refusal, RegularFile};
use crate::sys::time;

/// Files and directories that are looked through.
const MAX_ENTRIES: usize = 250_000;
/// For one module of a report. On a host where programs crash there is less time.
const MODULE_NS: u64 = 60_000_000_000;

/// The places that are searched.
#[derive(Debug)]
pub(super) struct Places {
    dirs: DebugDirs,
    roots: Vec<PathBuf>,
    /// Files and directories that have not been looked at yet.
    given: Vec<PathBuf>,
    /// The files that were found there, by build-id.
    index: Vec<(Box<[u8]>, PathBuf)>,
    /// Asked when nothing else has the file.
    #[cfg(feature = "desk")]
    pub(super) debuginfod: Option<Debuginfod>,
    /// How many modules were looked for.
    count: u64,
    /// Messages for the user.
    pub(super) said: Vec<String>,
    /// For the work on the files that are used.
    pub(super) allowance: Rc<Allowance>,
    /// For what is kept of them.
    pub(super) budget: Rc<MemoryBudget>,
}

impl Places {
    /// `given` are files, and directories to be looked through.
    pub(super) fn new(
        dirs: DebugDirs,
        roots: Vec<PathBuf>,
        given: Vec<PathBuf>,
        memory_bytes: usize,
    ) -> Self {
        Places {
            dirs,
            roots,
            given,
            index: Vec::new(),
            #[cfg(feature = "desk")]
            debuginfod: None,
            count: 0,
            said: Vec::new(),
            allowance: Rc::new(Allowance::new(time::CLOCKS, MODULE_NS)),
            budget: Rc::new(MemoryBudget::new(memory_bytes)),
        }
    }

    /// The files of a module, or why there are none.
    pub(super) fn find(&mut self, build_id: &[u8], path: &[u8]) -> Unstripped {
        self.count += 1;
        let mut module = Unstripped {
            id: self.count,
            build_id: build_id.into(),
            path: path.into(),
            files: Vec::new(),
            refused: String::new(),
            allowance: self.allowance.clone(),
            #[cfg(feature = "lines")]
            memory: Memory::kept(self.budget.clone()),
            #[cfg(feature = "dwz")]
            supplement: None,
            #[cfg(feature = "split")]
            package: OnceCell::new(),
            #[cfg(feature = "split")]
            roots: self.roots.clone(),
        };
        let name = hex(build_id);
        let Some((first, rest)) = name.split_at_checked(2) else {
            module.refused.push_str("the file has no build-id");
            return module;
        };
        let debug = format!(".build-id/{first}/{rest}.debug");
        let cached = format!("{name}/debuginfo");
        for (dirs, file) in [
            (&self.dirs.packages, debug),
            (&self.dirs.debuginfod, cached),
        ] {
            for dir in dirs {
                let path = dir.join(&file);
                // In a cache an empty one stands for a file that no server has.
                #[cfg(feature = "desk")]
                if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
                    continue;
                }
                module.look_at(&path, None);
            }
        }
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        for root in &self.roots {
            module.look_at(root, Some(path));
        }
        if !module.is_complete() {
            self.look_through();
        }
        for (id, path) in &self.index {
            if **id == *build_id {
                module.look_at(path, None);
            }
        }
        #[cfg(feature = "desk")]
        if !module.is_complete() {
            if let Some(path) = self.download(build_id) {
                module.look_at(&path, None);
            }
        }
        #[cfg(feature = "dwz")]
        {
            module.supplement = self.supplement(&module);
        }
        if module.is_found() {
            module.refused.clear();
        } else if module.refused.is_empty() {
            module.refused = format!("no file has its build-id {name}");
        }
        module
    }

    /// The file that the one with lines leads to, as it says itself; or, as for a module,
    /// wherever it is.
    #[cfg(feature = "dwz")]
    fn supplement(&mut self, module: &Unstripped) -> Option<ElfFile> {
        let file = module.with_lines()?;
        let link = file.supplement_link()?;
        let open = |way: Result<RegularFile, Refusal>| {
            let source = Source::file(way.ok()?).ok()?;
            let found = ElfFile::parse_debug(source.within(Some(&module.allowance))).ok()?;
            link.is_to(&found).then_some(found)
        };
        for path in link.places(file, &self.dirs) {
            let below = |root: &PathBuf| {
                Directory::open(root)
                    .and_then(|root| root.open_in_root(path.as_os_str().as_bytes()))
            };
            let found = open(RegularFile::open(&path));
            let found = found.or_else(|| self.roots.iter().find_map(|root| open(below(root))));
            if found.is_some() {
                return found;
            }
        }
        self.look_through();
        let mut known = self.index.iter().filter(|(id, _)| **id == *link.id);
        let found = known.find_map(|(_, path)| open(RegularFile::open(path)));
        #[cfg(feature = "desk")]
        let found = found.or_else(|| open(RegularFile::open(&self.download(&link.id)?)));
        found
    }

    /// The file of that build-id from a server, in the cache.
    #[cfg(feature = "desk")]
    fn download(&mut self, build_id: &[u8]) -> Option<PathBuf> {
        let debuginfod = self.debuginfod.as_mut()?;
        let found = debuginfod.find(build_id);
        self.said.append(&mut debuginfod.said);
        found
    }

    /// Something about a file, for the user.
    pub(super) fn say(&mut self, path: &[u8], what: &str) {
        let mut text = String::new();
        escape::text(&mut text, path);
        self.said.push(format!("{text}: {what}"));
    }

    /// Looks at everything that was given. Links are not followed.
    fn look_through(&mut self) {
        let mut left = MAX_ENTRIES;
        while let Some(path) = self.given.pop() {
            if left == 0 {
                let path = path.as_os_str().as_bytes();
                self.say(path, "too many files: the rest was not searched");
                self.given.clear();
                break;
            }
            left -= 1;
            if let Ok(entries) = fs::read_dir(&path) {
                for entry in entries.flatten() {
                    if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                        self.given.push(entry.path());
                    }
                }
            } else if let Ok(elf) = open(RegularFile::open(&path), None) {
                if let Some(id) = elf.build_id() {
                    self.index.push((id.into(), path));
                }
            }
        }
    }
}

/// Fails if there is neither a directory nor, unless one is wanted, a file of use.
pub(super) fn check(path: &Path, is_directory: bool) -> Result<()> {
    let reason = match Directory::open(path) {
        Ok(_) => return Ok(()),
        Err(refusal) if is_directory => refusal.as_str(),
        Err(_) => match open(RegularFile::open(path), None) {
            Ok(elf) if elf.build_id().is_some() => return Ok(()),
            Ok(_) => "the file has no build-id",
            Err(reason) => reason,
        },
    };
    Err(Error::failed(format!("{}: {reason}", path.display())))
}

fn open(
    way: Result<RegularFile, Refusal>,
    allowance: Option<&Rc<Allowance>>,
) -> Result<ElfFile, &'static str> {
    let source = way.and_then(Source::file).map_err(Refusal::as_str)?;
    ElfFile::parse(source.within(allowance)).map_err(|error| error.as_str())
}

/// A module, and the files of its build: the program as it was linked; or the stripped
/// program, and its debug file.
#[derive(Debug)]
pub(super) struct Unstripped {
    /// A number that no other module has.
    id: u64,
    build_id: Box<[u8]>,
    /// Its path on the crashed host.
    path: Box<[u8]>,
    files: Vec<ElfFile>,
    allowance: Rc<Allowance>,
    #[cfg(feature = "lines")]
    memory: Memory,
    /// What the file with lines has in common with others.
    #[cfg(feature = "dwz")]
    supplement: Option<ElfFile>,
    /// All split units of it.
    #[cfg(feature = "split")]
    package: OnceCell<Option<ElfFile>>,
    #[cfg(feature = "split")]
    roots: Vec<PathBuf>,
    /// Why there are no files; while they are looked for, what stood in the way last.
    pub(super) refused: String,
}

impl Unstripped {
    pub(super) fn is_of(&self, build_id: &[u8], path: &[u8]) -> bool {
        (&*self.build_id, &*self.path) == (build_id, path)
    }

    pub(super) fn is_found(&self) -> bool {
        !self.files.is_empty()
    }

    /// Takes a file if it belongs to the module, and has what the other files lack; with
    /// `below`, the file at that path under the root `path`.
    fn look_at(&mut self, path: &Path, below: Option<&[u8]>) {
        if self.is_complete() {
            return;
        }
        let way = match below {
            None => RegularFile::open(path),
            Some(below) => Directory::open(path).and_then(|root| root.open_in_root(below)),
        };
        if matches!(way, Err(Refusal::NotFound)) {
            return;
        }
        let reason = match open(way, Some(&self.allowance)) {
            Ok(elf) if elf.build_id() == Some(&*self.build_id) => {
                let symbols = elf.has_symtab() && !self.have(ElfFile::has_symtab);
                let lines = has_lines(&elf) && !self.have(has_lines);
                if self.files.is_empty() || symbols || lines {
                    self.files.push(elf);
                }
                return;
            }
            Ok(_) => "the file has a different build-id",
            Err(reason) => reason,
        };
        self.refused = format!("{}: {reason}", path.display());
    }

    /// Forgets what it has read of debug information, for want of memory.
    #[cfg(feature = "lines")]
    pub(super) fn forget(&self) {
        self.memory.clear();
    }

    #[cfg(feature = "lines")]
    fn with_lines(&self) -> Option<&ElfFile> {
        self.files.iter().find(|file| has_lines(file))
    }

    /// The tail calls that led to the function that holds `callee`, as [`lines::tail_calls`]
    /// has them.
    #[cfg(feature = "desk")]
    pub(super) fn tail_calls(&self, callee: FileAddress, return_to: FileAddress) -> Vec<TailCall> {
        let Some(file) = self.with_lines() else {
            return Vec::new();
        };
        let address_of = |name: &[u8]| self.files.iter().find_map(|file| file.function_named(name));
        let others = OthersOf(self);
        lines::tail_calls(file, &self.memory, &others, &address_of, callee, return_to)
    }

    fn have(&self, what: fn(&ElfFile) -> bool) -> bool {
        self.files.iter().any(what)
    }

    fn is_complete(&self) -> bool {
        let lines = cfg!(not(feature = "lines")) || self.have(has_lines);
        lines && self.have(ElfFile::has_symtab)
    }
}

#[cfg(feature = "lines")]
fn has_lines(elf: &ElfFile) -> bool {
    elf.debug_sections().exist()
}

#[cfg(not(feature = "lines"))]
fn has_lines(_: &ElfFile) -> bool {
    false
}

impl Names for Unstripped {
    fn id(&self) -> u64 {
        self.id
    }

    fn functions(&self, addresses: &[FileAddress]) -> Option<Vec<Answer>> {
        let mut answers = vec![Answer::unknown(); addresses.len()];
        for table in [Table::Full, Table::Dynamic] {
            for file in &self.files {
                file.add_functions(table, addresses, &mut answers)?;
            }
        }
        for file in &self.files {
            file.add_go_functions(addresses, &mut answers);
            file.add_stubs(addresses, &mut answers);
        }
        Some(answers)
    }

    #[cfg(feature = "lines")]
    fn calls(&self, addresses: &[FileAddress]) -> Lines {
        match self.with_lines() {
            Some(file) => lines::calls(file, &self.memory, &OthersOf(self), addresses),
            None => Lines::none(addresses.len(), None),
        }
    }
}

#[cfg(feature = "lines")]
struct OthersOf<'a>(&'a Unstripped);

#[cfg(feature = "lines")]
impl Others for OthersOf<'_> {
    #[cfg(not(feature = "dwz"))]
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        let _ = self.0;
        Err(Refused::Supplement.into())
    }

    #[cfg(feature = "dwz")]
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        let link = self.0.with_lines().and_then(ElfFile::supplement_link);
        self.0.supplement.as_ref().ok_or_else(|| Lack {
            reason: Refused::Supplement,
            file: link.map(|link| link.name.clone().into()),
        })
    }

    #[cfg(feature = "split")]
    fn package(&self) -> Option<&ElfFile> {
        let find = || {
            let places = self.0.files.iter().map(ElfFile::source);
            let mut places = places.flat_map(package_places);
            places.find_map(|place| self.object(&place))
        };
        self.0.package.get_or_init(find).as_ref()
    }

    #[cfg(feature = "split")]
    fn object(&self, path: &Path) -> Option<ElfFile> {
        let below = |root: &PathBuf| {
            Directory::open(root).and_then(|root| root.open_in_root(path.as_os_str().as_bytes()))
        };
        let ways = std::iter::once(RegularFile::open(path)).chain(self.0.roots.iter().map(below));
        let mut sources = ways.filter_map(|way| Source::file(way.ok()?).ok());
        let source = sources.next()?.within(Some(&self.0.allowance));
        ElfFile::parse_debug(source).ok()
    }
}
