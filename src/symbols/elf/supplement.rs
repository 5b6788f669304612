//! The supplementary file of debug information, with what several files have in common, as
//! dwz makes it.
//!
//! In: the section `.gnu_debugaltlink`, or DWARF 5's `.debug_sup`: a name and an
//! identification. Out: the file, which must have that identification: its build-id, or
//! the same one in its own `.debug_sup`. These are tried:
//!
//! ```text
//! DEBUGDIR/.build-id/xx/rest.debug, CACHE/BUILDID/debuginfo
//! the name, if it is absolute, or else from the directory of the file that has it
//! DEBUGDIR/.dwz/NAME       NAME: what comes after .dwz/, or after the last slash
//! ```
//!
//! dwz(1); DWARF 5, section 7.3.6.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::debuglink::{DebugDirs, Home};
use super::other::{open_other, plain};
use super::source::{FileRange, Source};
use super::ElfFile;
use crate::base::bytes::{find, hex, until_nul, Cursor};
use crate::sys::file::Directory;

/// PATH_MAX, and more than any checksum has.
const MAX_LINK: u64 = 4096 + 256;

/// What leads to such a file, or makes a file one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplementLink {
    /// Empty in such a file itself.
    pub name: Box<[u8]>,
    pub id: Box<[u8]>,
}

impl SupplementLink {
    /// `.gnu_debugaltlink`.
    pub(super) fn read_gnu(source: &Source, range: FileRange) -> Option<Self> {
        let bytes = read(source, range)?;
        let name = until_nul(&bytes);
        let id = bytes.get(name.len() + 1..)?;
        (!name.is_empty() && !id.is_empty()).then(|| SupplementLink {
            name: name.into(),
            id: id.into(),
        })
    }

    /// `.debug_sup`.
    pub(super) fn read(source: &Source, range: FileRange) -> Option<Self> {
        let bytes = read(source, range)?;
        let mut cursor = Cursor::new(&bytes);
        let version = cursor.u16().ok()?;
        let is_supplement = cursor.u8().ok()? != 0;
        let name = until_nul(bytes.get(3..)?);
        cursor.skip(name.len() + 1).ok()?;
        // The length is a LEB128, which needs no second byte for any checksum.
        let length = cursor
            .u8()
            .ok()
            .filter(|length| (1..0x80).contains(length))?;
        let id = cursor.take(length.into()).ok()?;
        (version == 5 && is_supplement == name.is_empty()).then(|| SupplementLink {
            name: name.into(),
            id: id.into(),
        })
    }

    /// The directory entries that may be the file; `of` is the file that has the link.
    #[must_use]
    pub fn places(&self, of: &ElfFile, dirs: &DebugDirs) -> Vec<PathBuf> {
        let mut places = Vec::new();
        if let Some((first, rest)) = self.id.split_first() {
            let debug = format!(".build-id/{first:02x}/{}.debug", hex(rest));
            places.extend(dirs.packages.iter().map(|dir| dir.join(&debug)));
            let cached = format!("{}/debuginfo", hex(&self.id));
            places.extend(dirs.debuginfod.iter().map(|dir| dir.join(&cached)));
        }
        let name = Path::new(OsStr::from_bytes(&self.name));
        match of.source().path() {
            _ if name.is_absolute() => places.push(name.into()),
            Some(path) => places.extend(path.parent().map(|dir| plain(&dir.join(name)))),
            None => {}
        }
        const COMMON: &[u8] = b".dwz/";
        let below = find(&self.name, COMMON).and_then(|at| self.name.get(at + COMMON.len()..));
        let below = below.map(|name| Path::new(OsStr::from_bytes(name)));
        let below = below.filter(|path| path.is_relative()).map(plain);
        for name in below.into_iter().chain(name.file_name().map(PathBuf::from)) {
            places.extend(dirs.packages.iter().map(|dir| dir.join(".dwz").join(&name)));
        }
        places
    }

    /// Whether a file is the one that is meant.
    #[must_use]
    pub fn is_to(&self, file: &ElfFile) -> bool {
        let own = file.supplement_link().filter(|own| own.name.is_empty());
        file.build_id() == Some(&*self.id) || own.is_some_and(|own| own.id == self.id)
    }
}

/// The file that `of` leads to, from a host where programs crash: in our own root, or in
/// that of the process.
#[must_use]
pub fn find_supplement(of: &ElfFile, homes: &[Home], dirs: &DebugDirs) -> Option<ElfFile> {
    let link = of.supplement_link()?;
    let places = link.places(of, dirs);
    let roots = homes.iter().filter_map(|home| home.root.as_deref());
    let mut roots: Vec<Option<&Directory>> = roots.map(Some).collect();
    roots.insert(0, None);
    let mut files = places
        .iter()
        .flat_map(|path| roots.iter().filter_map(|root| open_other(of, *root, path)));
    files.find(|file| link.is_to(file))
}

fn read(source: &Source, range: FileRange) -> Option<Vec<u8>> {
    let size = usize::try_from(range.size).ok()?;
    (range.size <= MAX_LINK).then(|| source.read_vec(range.offset, size))?
}
