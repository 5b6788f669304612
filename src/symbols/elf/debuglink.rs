//! The separate file that holds a stripped program's symbols.
//!
//! In: a stripped file, its place ([`Home`]), and the directories into which packages and
//! debuginfod clients put debug files ([`DebugDirs`]). Out: the debug file. Its build-id
//! must match, or, if a link led to it, the checksum in `.gnu_debuglink`. A link is a file
//! name; one with a slash in it is refused. The file to which it leads belongs to the
//! program's owner or to root.
//!
//! ```text
//! DEBUGDIR/.build-id/xx/rest.debug
//! DIR/link, DIR/.debug/link, DEBUGDIR/DIR/link     DIR: the program's directory
//! ROOT/DEBUGDIR/DIR/link                           DIR below ROOT: chroot(2)
//! CACHE/BUILDID/debuginfo
//! ```
//!
//! GDB manual, "Debugging Information in Separate Files"; debuginfod(8), "CACHE".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::source::{FileRange, Source};
use super::ElfFile;
use crate::base::bytes::{hex, until_nul};
use crate::sys::file::{Directory, RegularFile};

/// The longest file name that Linux has, its NUL, and the checksum.
const MAX_LINK: u64 = 256 + 8;
/// A larger file is not read through for a checksum; its build-id has to do.
const MAX_CHECKED: u64 = 64 << 20;
/// The same where both files have one build-id: then it is chance or malice that it
/// belongs to another.
const MAX_CHECKED_OF_BUILD: u64 = 8 << 20;
/// Units of work that it takes to look whether there is a file.
pub(super) const LOOK: u64 = 16 << 10;
/// Parts of a path that are taken for a root. Trees of containers and of builds lie deep.
const MAX_ROOTS: usize = 64;

/// Content of `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    pub name: Vec<u8>,
    pub crc: u32,
}

impl DebugLink {
    pub(crate) fn read(source: &Source, range: FileRange) -> Option<Self> {
        if range.size > MAX_LINK {
            return None;
        }
        let bytes = source.read_vec(range.offset, usize::try_from(range.size).ok()?)?;
        let name = until_nul(&bytes).to_vec();
        // After the NUL, at the next multiple of four.
        let crc_at = (name.len() / 4 + 1) * 4;
        let crc = bytes.get(crc_at..crc_at + 4)?.try_into().ok()?;
        let whole = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
        whole.then(|| DebugLink {
            name,
            crc: u32::from_le_bytes(crc),
        })
    }
}

/// Where separate debug files may be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DebugDirs {
    /// As packages fill them: `.build-id/xx/rest.debug`, or the program's own path.
    pub packages: Vec<PathBuf>,
    /// Caches of debuginfod clients: `BUILDID/debuginfo`.
    pub debuginfod: Vec<PathBuf>,
}

impl DebugDirs {
    /// With the debuginfod caches that these environment variables lead to.
    pub fn new(packages: Vec<PathBuf>, variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let places = [
            ("DEBUGINFOD_CACHE_PATH", ""),
            ("XDG_CACHE_HOME", "debuginfod_client"),
            ("HOME", ".cache/debuginfod_client"),
            ("HOME", ".debuginfod_client_cache"),
        ];
        let debuginfod = places
            .into_iter()
            .filter_map(|(name, below)| Some(PathBuf::from(variable(name)?).join(below)))
            .filter(|path| path.is_absolute())
            .collect();
        DebugDirs {
            packages,
            debuginfod,
        }
    }
}

/// A directory of a file, now or when it was mapped.
#[derive(Debug)]
pub struct Home {
    /// Of a process in another mount namespace; `None` for our own.
    pub root: Option<Rc<Directory>>,
    /// Absolute, below that root.
    pub dir: PathBuf,
}

impl Home {
    fn open(&self, path: &Path, stripped: &ElfFile) -> Option<ElfFile> {
        let Some(root) = &self.root else {
            return open(path, stripped);
        };
        if !stripped.source().work(LOOK) {
            return None;
        }
        let found = root.open_in_root(path.as_os_str().as_bytes());
        parse(found.ok()?, stripped)
    }

    /// The same for a path that the program's owner may have prepared: the file belongs to that
    /// owner, or to root, and then no symbolic link leads to it.
    fn open_of_owner(&self, path: &Path, stripped: &ElfFile) -> Option<ElfFile> {
        let owner = stripped.source().owner();
        let found = self.open(path, stripped)?;
        match found.source().owner() {
            found_owner if found_owner == owner => Some(found),
            Some(0) if self.root.is_some() => Some(found),
            Some(0) => parse(RegularFile::open_without_links(path).ok()?, stripped),
            _ => None,
        }
    }
}

/// The file with the symbols that `stripped` lacks, which lies at these places.
#[must_use]
pub fn find_debug_file(stripped: &ElfFile, homes: &[Home], dirs: &DebugDirs) -> Option<ElfFile> {
    by_build_id(stripped, homes, &dirs.packages)
        .or_else(|| by_link(stripped, homes, &dirs.packages))
        .or_else(|| cached(stripped, &dirs.debuginfod))
        .or_else(|| packed(stripped))
}

fn by_build_id(stripped: &ElfFile, homes: &[Home], debug_dirs: &[PathBuf]) -> Option<ElfFile> {
    let (first, rest) = stripped.build_id()?.split_first()?;
    let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
    first_with_build_id(stripped, debug_dirs, &name).or_else(|| {
        let other = homes.iter().find(|home| home.root.is_some())?;
        let inside = debug_dirs.iter().map(|dir| dir.join(&name));
        inside
            .filter_map(|path| other.open(&path, stripped))
            .find(|debug| debug.has_symtab() && debug.build_id() == stripped.build_id())
    })
}

/// It lacks symbols that are in other tables of the file, and has no lines.
#[cfg(feature = "minidebuginfo")]
fn packed(stripped: &ElfFile) -> Option<ElfFile> {
    stripped.packed_symbols().filter(ElfFile::has_symtab)
}

#[cfg(not(feature = "minidebuginfo"))]
fn packed(_: &ElfFile) -> Option<ElfFile> {
    None
}

fn cached(stripped: &ElfFile, caches: &[PathBuf]) -> Option<ElfFile> {
    let name = format!("{}/debuginfo", hex(stripped.build_id()?));
    first_with_build_id(stripped, caches, &name)
}

fn first_with_build_id(stripped: &ElfFile, dirs: &[PathBuf], name: &str) -> Option<ElfFile> {
    dirs.iter()
        .filter_map(|dir| open(&dir.join(name), stripped))
        .find(|debug| debug.has_symtab() && debug.build_id() == stripped.build_id())
}

fn by_link(stripped: &ElfFile, homes: &[Home], debug_dirs: &[PathBuf]) -> Option<ElfFile> {
    let link = stripped.debug_link()?;
    let name = OsStr::from_bytes(&link.name);
    homes.iter().find_map(|home| {
        places(&home.dir, debug_dirs)
            .filter_map(|place| home.open_of_owner(&place.join(name), stripped))
            .find(|debug| debug.has_symtab() && belongs(debug, stripped, link.crc))
    })
}

/// The directories where a link of a program in `dir` may lead. A debug directory
/// belongs to a root, which for a process in chroot(2) may be any part of the path.
fn places<'a>(dir: &'a Path, debug_dirs: &'a [PathBuf]) -> impl Iterator<Item = PathBuf> + 'a {
    let beside = [dir.to_owned(), dir.join(".debug")];
    let roots: Vec<&Path> = dir.ancestors().collect();
    let roots = roots.into_iter().rev().take(MAX_ROOTS);
    let elsewhere = roots.flat_map(move |root| {
        let inside = dir.strip_prefix(root).unwrap_or(Path::new(""));
        debug_dirs.iter().map(move |debug| {
            let debug = debug.strip_prefix("/").unwrap_or(debug);
            root.join(debug).join(inside)
        })
    });
    beside.into_iter().chain(elsewhere)
}

/// Two programs may have one build-id, which can be chosen.
fn belongs(debug: &ElfFile, stripped: &ElfFile, crc: u32) -> bool {
    let ids = (debug.build_id(), stripped.build_id());
    let is_other = matches!(ids, (Some(one), Some(own)) if one != own);
    let is_known = matches!(ids, (Some(_), Some(_)));
    match debug.source().size() {
        _ if is_other => false,
        size if size > MAX_CHECKED || is_known && size > MAX_CHECKED_OF_BUILD => is_known,
        _ => crc32(debug.source()) == Some(crc),
    }
}

fn open(path: &Path, stripped: &ElfFile) -> Option<ElfFile> {
    if !stripped.source().work(LOOK) {
        return None;
    }
    parse(RegularFile::open(path).ok()?, stripped)
}

/// All work on it is the stripped file's.
fn parse(file: RegularFile, stripped: &ElfFile) -> Option<ElfFile> {
    let source = Source::file(file).ok()?;
    ElfFile::parse(source.within(stripped.source().allowance())).ok()
}

/// CRC-32 as IEEE 802.3 has it, of all bytes, eight at a time; `None` when the work for
/// it is used up.
#[must_use]
pub fn crc32(source: &Source) -> Option<u32> {
    let tables = crc_tables();
    let mut crc = !0u32;
    let mut offset = 0;
    let mut window = vec![0; 64 * 1024];
    loop {
        let read = source.read_at(offset, &mut window);
        let mut eights = window[..read].chunks_exact(8);
        for eight in &mut eights {
            let word = u64::from_le_bytes(eight.try_into().ok()?) ^ u64::from(crc);
            let bytes = word.to_le_bytes().into_iter().zip(tables.iter().rev());
            crc = bytes.fold(0, |crc, (byte, table)| crc ^ table[usize::from(byte)]);
        }
        for &byte in eights.remainder() {
            crc = tables[0][usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
        }
        if source.is_out() {
            return None;
        }
        if read < window.len() {
            return Some(!crc);
        }
        offset += read as u64;
    }
}

/// What a byte makes of the remainder; in each further table with one more zero behind it.
fn crc_tables() -> Box<[[u32; 256]; 8]> {
    let mut tables = Box::new([[0u32; 256]; 8]);
    for (index, slot) in (0..).zip(&mut tables[0]) {
        *slot = (0..8).fold(index, |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        });
    }
    for number in 1..tables.len() {
        for index in 0..256 {
            let before = tables[number - 1][index];
            tables[number][index] = tables[0][usize::from(before.to_le_bytes()[0])] ^ (before >> 8);
        }
    }
    tables
}
