//! Other files that an ELF file names for its debug information.
//!
//! In: a path that whoever owns the file has chosen. Out: the file there, which may be an
//! object. Those of other users are refused.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::debuglink::LOOK;
use super::source::Source;
use super::ElfFile;
use crate::sys::file::{Directory, RegularFile};

/// A file that `of` names, which the owner of that one chose. It must belong to the same
/// owner; or to root, and then no symbolic link leads to it.
#[must_use]
pub fn open_other(of: &ElfFile, root: Option<&Directory>, path: &Path) -> Option<ElfFile> {
    if !of.source().work(LOOK) {
        return None;
    }
    let file = match root {
        Some(root) => root.open_in_root(path.as_os_str().as_bytes()),
        None => RegularFile::open(path),
    };
    let mut file = file.ok()?;
    match (file.status().ok()?.owner, root) {
        (owner, _) if Some(owner) == of.source().owner() => {}
        (0, Some(_)) => {}
        (0, None) => file = RegularFile::open_without_links(path).ok()?,
        _ => return None,
    }
    let source = Source::file(file).ok()?;
    ElfFile::parse_debug(source.within(of.source().allowance())).ok()
}

/// Without `..`, as far as the path goes down before.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
