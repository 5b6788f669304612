//! Files that a hostile user may have chosen, and directories to open them from.
//!
//! In: paths and directories. Out: regular files, which are read only with `pread` (a
//! mapping of a file that shrinks raises SIGBUS). `look_up` says how they are
//! opened: where there is an `opener`, by another process. Magic links
//! are not followed, except by [`Directory::open_regular_link`], for `/proc/PID/map_files`.
//!
//! Refused, with a [`Refusal`]: everything that is not a regular file.
//!
//! # Safety
//!
//! No unsafe code: std and nix wrap every call made here.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{openat, readlinkat};
use nix::sys::stat::Mode;

use super::look_up::{self, Way, READ};
pub use super::look_up::{Refusal, Status, NO_ANSWER};
use super::opener::{self, Opened};

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile(Opened);

impl RegularFile {
    fn look_up(way: Way, directory: Option<BorrowedFd<'_>>, path: &[u8]) -> Result<Self, Refusal> {
        let opened = opener::open(way, directory, path)
            .unwrap_or_else(|| look_up::open(way, directory, path).map(Opened::Own))?;
        Ok(RegularFile(opened))
    }

    /// Opens a path of our own mount namespace. Symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        Self::look_up(Way::Path, None, path.as_os_str().as_bytes())
    }

    /// The same for a path that leads through no symbolic link: whoever owns one of its
    /// directories could let it lead anywhere.
    pub fn open_without_links(path: &Path) -> Result<Self, Refusal> {
        Self::look_up(Way::WithoutLinks, None, path.as_os_str().as_bytes())
    }

    #[must_use = "the status tells whether it is the right file"]
    pub fn status(&self) -> Result<Status, Refusal> {
        match &self.0 {
            Opened::Own(file) => look_up::status(file),
            Opened::Foreign(file) => file.status(),
        }
    }

    /// Its path without links; none without /proc, or on a file system that may not answer.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let Opened::Own(file) = &self.0 else {
            return None;
        };
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::read_link(link).ok()
    }

    /// Reads until `buf` is full, the file ends or a read fails; how many bytes.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        match &self.0 {
            Opened::Own(file) => look_up::read_at(file, offset, buf),
            Opened::Foreign(file) => file.read_at(offset, buf),
        }
    }
}

/// A directory to open from: `/proc/PID`, or a process's root.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a path that we chose ourselves; links are followed.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        look_up::directory(None, path.as_os_str().as_bytes()).map(Directory)
    }

    /// A directory in this one, by a name that we chose ourselves; links are followed.
    pub fn open_directory(&self, name: &str) -> Result<Self, Refusal> {
        let own = || look_up::directory(Some(self.0.as_fd()), name.as_bytes());
        let opened = opener::directory(self.0.as_fd(), name).unwrap_or_else(own);
        opened.map(Directory)
    }

    /// A file in this directory, by a name that the caller made itself, such as `map_files/…`;
    /// a magic link is followed.
    pub fn open_regular_link(&self, name: &str) -> Result<RegularFile, Refusal> {
        RegularFile::look_up(Way::Link, Some(self.0.as_fd()), name.as_bytes())
    }

    /// A foreign path with this directory as its root: neither `..` nor a link
    /// leads out of it.
    pub fn open_in_root(&self, path: &[u8]) -> Result<RegularFile, Refusal> {
        RegularFile::look_up(Way::InRoot, Some(self.0.as_fd()), path)
    }

    /// The target of a link in this directory, as text.
    #[must_use]
    pub fn read_link(&self, name: &str) -> Option<Vec<u8>> {
        readlinkat(&self.0, name).ok().map(OsStringExt::into_vec)
    }

    /// Up to `cap` bytes of a file of `/proc`.
    #[must_use]
    pub fn read_small(&self, name: &str, cap: usize) -> Option<Vec<u8>> {
        let file = File::from(openat(&self.0, name, READ, Mode::empty()).ok()?);
        let mut bytes = vec![0; cap];
        // Such a file is handed out in pieces.
        let count = look_up::read_at(&file, 0, &mut bytes);
        bytes.truncate(count);
        Some(bytes)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
