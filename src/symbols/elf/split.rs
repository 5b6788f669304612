//! Where the objects and the package are to which split DWARF has moved its entries.
//!
//! In: a file with skeleton units. Out: paths, the most likely first: of an object as the
//! compiler named it, in its directory or beside the file; of the package beside the file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::other::plain;
use super::source::Source;

/// Of an object with that name, which was compiled in `directory`.
#[must_use]
pub fn split_places(of: &Source, directory: Option<&[u8]>, name: &[u8]) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    let beside = of.path().and_then(|path| Some(path.parent()?.to_owned()));
    let directory = directory.map(|path| Path::new(OsStr::from_bytes(path)));
    let directory = match (directory, &beside) {
        (Some(path), Some(beside)) => Some(beside.join(path)),
        (path, _) => path.map(Path::to_owned),
    };
    // An absolute name takes the place of what it is joined to.
    let mut places: Vec<PathBuf> = directory.iter().map(|dir| plain(&dir.join(name))).collect();
    if let Some(beside) = beside {
        places.push(plain(&beside.join(name)));
        places.extend(name.file_name().map(|name| beside.join(name)));
    }
    places.retain(|place| place.is_absolute());
    places.dedup();
    places
}

/// Of the package of a program, or of the program that a debug file belongs to.
#[must_use]
pub fn package_places(of: &Source) -> Vec<PathBuf> {
    let Some(path) = of.path() else {
        return Vec::new();
    };
    let with_package = |path: &Path| {
        let mut path = path.as_os_str().to_owned();
        path.push(".dwp");
        PathBuf::from(path)
    };
    let is_debug = path.extension().is_some_and(|ending| ending == "debug");
    let program = is_debug.then(|| with_package(&path.with_extension("")));
    [Some(with_package(&path)), program]
        .into_iter()
        .flatten()
        .collect()
}
