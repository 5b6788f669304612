//! The separate file that holds a stripped program's symbols.
//!
//! In: a stripped file, its path in our own mount namespace, and the directories
//! that packages and debuginfod clients put debug files in ([`DebugDirs`]). Out: the
//! debug file, checked to belong: by equal build-ids, or by the checksum in
//! `.gnu_debuglink` where one of them has none. A link is a file name; one with a
//! slash in it is refused.
//! GDB manual, "Debugging Information in Separate Files"; debuginfod(8), "CACHE".

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::source::{FileRange, Source};
use super::ElfFile;
use crate::bytes::until_nul;
use crate::sys::file::RegularFile;

/// The longest file name that Linux has, its NUL, and the checksum.
const MAX_LINK: u64 = 256 + 8;
/// A larger file is not read through for a checksum; its build-id has to do.
const MAX_CHECKED: u64 = 64 << 20;

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

/// The file with the symbols that `stripped` lacks. `path` is where it was found,
/// `None` where that is no path of our own mount namespace.
#[must_use]
pub fn find_debug_file(
    stripped: &ElfFile,
    path: Option<&Path>,
    dirs: &DebugDirs,
) -> Option<ElfFile> {
    by_build_id(stripped, &dirs.packages)
        .or_else(|| by_link(stripped, path?, &dirs.packages))
        .or_else(|| cached(stripped, &dirs.debuginfod))
        .or_else(|| packed(stripped))
}

fn by_build_id(stripped: &ElfFile, debug_dirs: &[PathBuf]) -> Option<ElfFile> {
    let (first, rest) = stripped.build_id()?.split_first()?;
    let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
    first_with_build_id(stripped, debug_dirs, &name)
}

/// It lacks what other tables of the file name, and has no lines.
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
        .filter_map(|dir| open(&dir.join(name)))
        .find(|debug| debug.has_symtab() && debug.build_id() == stripped.build_id())
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn by_link(stripped: &ElfFile, path: &Path, debug_dirs: &[PathBuf]) -> Option<ElfFile> {
    let link = stripped.debug_link()?;
    let name = OsStr::from_bytes(&link.name);
    let dir = path.parent()?;
    let beside = [dir.join(name), dir.join(".debug").join(name)];
    let inside = dir.strip_prefix("/").unwrap_or(dir);
    let elsewhere = debug_dirs.iter().map(|debug| debug.join(inside).join(name));
    beside
        .into_iter()
        .chain(elsewhere)
        .filter_map(|candidate| open(&candidate))
        .find(|debug| debug.has_symtab() && belongs(debug, stripped, link.crc))
}

fn belongs(debug: &ElfFile, stripped: &ElfFile, crc: u32) -> bool {
    match (debug.build_id(), stripped.build_id()) {
        (Some(one), Some(other)) => one == other,
        _ => debug.source().size() <= MAX_CHECKED && crc32(debug.source()) == crc,
    }
}

fn open(path: &Path) -> Option<ElfFile> {
    let file = RegularFile::open(path).ok()?;
    ElfFile::parse(Source::file(file).ok()?).ok()
}

/// CRC-32 as IEEE 802.3 has it, of all bytes.
#[must_use]
pub fn crc32(source: &Source) -> u32 {
    let mut crc = !0u32;
    let mut offset = 0;
    let mut window = vec![0; 64 * 1024];
    loop {
        let read = source.read_at(offset, &mut window);
        for &byte in &window[..read] {
            crc = CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
        }
        if read < window.len() {
            return !crc;
        }
        offset += read as u64;
    }
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};
