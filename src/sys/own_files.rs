//! A directory into which the tool puts files of its own, one by one.
//!
//! In: a directory, opened once, so that nobody can put another in its place. A file is
//! made under a name of its own with mode 0600, and gets its final name when it is whole;
//! a link or file that somebody has planted under that name is replaced and never opened.
//! Files are listed and removed only if they are regular, belong to this user and have no
//! second name.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode, SFlag};
use nix::unistd::{self, UnlinkatFlags};

use crate::base::error::{Error, Result};

/// A file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFile {
    pub name: String,
    pub bytes: u64,
}

/// An open directory.
#[derive(Debug)]
pub struct OwnFiles(OwnedFd);

impl OwnFiles {
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        fcntl::open(path, flags, Mode::empty())
            .map(OwnFiles)
            .map_err(|errno| Error::syscall("open", errno as i32))
    }

    /// Writes a whole file: under the name `aside` first.
    pub fn write(&self, name: &str, aside: &str, bytes: &[u8]) -> Result<()> {
        let failed = |call: &str, errno: Errno| Error::syscall(call, errno as i32);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = fcntl::openat(&self.0, aside, flags, mode).map_err(|e| failed("openat", e))?;
        let mut file = File::from(fd);
        let written = stat::fchmod(&file, mode)
            .map_err(|errno| failed("fchmod", errno))
            .and_then(|()| {
                file.write_all(bytes)
                    .map_err(|error| Error::syscall("write", error.raw_os_error().unwrap_or(0)))
            })
            .and_then(|()| {
                fcntl::renameat(&self.0, aside, &self.0, name)
                    .map_err(|errno| failed("renameat", errno))
            });
        if written.is_err() {
            self.remove(aside);
        }
        written
    }

    /// Files of ours whose names pass.
    #[must_use]
    pub fn list(&self, is_wanted: &dyn Fn(&str) -> bool) -> Vec<OwnFile> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let us = unistd::geteuid().as_raw();
        let Ok(mut dir) = Dir::openat(&self.0, ".", flags, Mode::empty()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for entry in dir.iter().map_while(std::result::Result::ok) {
            let Some(name) = entry
                .file_name()
                .to_str()
                .ok()
                .filter(|name| is_wanted(name))
            else {
                continue;
            };
            let Ok(status) = stat::fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFREG && status.st_uid == us && status.st_nlink == 1 {
                found.push(OwnFile {
                    name: name.to_owned(),
                    bytes: u64::try_from(status.st_size).unwrap_or(0),
                });
            }
        }
        found
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        // What cannot be removed is listed again next time.
        let _ = unistd::unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir);
    }
}
