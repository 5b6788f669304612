//! Opening files that a hostile user may have chosen.
//!
//! In: paths and directories. Out: descriptors of regular files, which are read only
//! with `pread` (a mapping of a file that shrinks raises SIGBUS). A path is first opened
//! with `O_PATH`, which touches no device and wakes no writer of a FIFO. Only if that is
//! a regular file is it opened for reading, through `/proc/self/fd`, so that nothing can
//! take its place in between.
//! Magic links are not followed, except by [`Directory::open_regular_link`], for
//! `/proc/PID/map_files`.
//!
//! Refused, with a [`Refusal`]: everything that is not a regular file.
//!
//! # Safety
//!
//! No unsafe code: std and nix wrap every call made here.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat, openat2, readlinkat, OFlag, OpenHow, ResolveFlag, AT_FDCWD};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    fstatfs, FsType, CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC, DEBUGFS_MAGIC, PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC, TRACEFS_MAGIC,
};

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    NotRegular,
    NotPermitted,
    /// Its name led elsewhere between two looks.
    Changed,
    /// A file of the kernel's, which may do something when it is opened.
    Special,
    /// The process, or the system, has no descriptor left.
    NoDescriptor,
    /// Any other errno.
    Failed(i32),
}

impl Refusal {
    /// A few words for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NotFound => "file not found",
            Refusal::NotRegular => "not a regular file",
            Refusal::NotPermitted => "no permission to read the file",
            Refusal::Changed => "file changed while it was opened",
            Refusal::Special => "the file system is one of the kernel's own",
            Refusal::NoDescriptor => "no file descriptor left to open the file",
            Refusal::Failed(_) => "file cannot be opened",
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH => Refusal::NotFound,
            Errno::EACCES | Errno::EPERM => Refusal::NotPermitted,
            Errno::ELOOP => Refusal::NotRegular,
            Errno::EMFILE | Errno::ENFILE => Refusal::NoDescriptor,
            other => Refusal::Failed(other as i32),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Errno::from_raw(error.raw_os_error().unwrap_or(0)).into()
    }
}

/// The result of `fstat` for a file, in the widths of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub inode: u64,
    /// Major << 20 | minor.
    pub device: u32,
    pub size: u64,
    pub mtime_s: i64,
    pub mtime_ns: u32,
    /// When content, name or rights last changed, by the wall clock.
    pub changed_unix_ns: i64,
    /// Names that the file still has; 0 once deleted.
    pub links: u64,
    pub owner: u32,
}

fn regular_status(file: &File) -> Result<Status, Refusal> {
    let meta = file.metadata()?;
    if !meta.file_type().is_file() {
        return Err(Refusal::NotRegular);
    }
    let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
    Ok(Status {
        inode: meta.ino(),
        device: (major << 20) | (minor & 0xf_ffff),
        size: meta.size(),
        mtime_s: meta.mtime(),
        mtime_ns: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        changed_unix_ns: meta
            .ctime()
            .saturating_mul(1_000_000_000)
            .saturating_add(meta.ctime_nsec()),
        links: meta.nlink(),
        owner: meta.uid(),
    })
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile(File);

impl RegularFile {
    /// Opens a path of our own mount namespace. Symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let how = OpenHow::new()
            .flags(HANDLE)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let handle = match openat2(AT_FDCWD, path, how) {
            // Before Linux 5.6; EPERM: container runtimes that do not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => openat(AT_FDCWD, path, HANDLE, Mode::empty())?,
            other => other?,
        };
        reopen(handle, AT_FDCWD, path.as_os_str())
    }

    /// The same for a path that leads through no symbolic link: whoever owns one of its
    /// directories could let it lead anywhere.
    pub fn open_without_links(path: &Path) -> Result<Self, Refusal> {
        let how = OpenHow::new()
            .flags(HANDLE)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let handle = match openat2(AT_FDCWD, path, how) {
            Err(Errno::ENOSYS | Errno::EPERM) => Directory::open(Path::new("/"))?.walk(path)?,
            other => other?,
        };
        reopen(handle, AT_FDCWD, path.as_os_str())
    }

    #[must_use = "the status tells whether it is the right file"]
    pub fn status(&self) -> Result<Status, Refusal> {
        regular_status(&self.0)
    }

    /// Its path without links; none without /proc.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        std::fs::read_link(link).ok()
    }

    /// Reads until `buf` is full, the file ends or a read fails; how many bytes.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buf.len() {
            let Some(at) = offset.checked_add(filled as u64) else {
                break;
            };
            match self.0.read_at(&mut buf[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        filled
    }
}

const HANDLE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// File systems whose files are made when they are read. /sys is not among them: the kernel's
/// types are there.
const KERNELS_OWN: [FsType; 6] = [
    PROC_SUPER_MAGIC,
    TRACEFS_MAGIC,
    DEBUGFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    SECURITYFS_MAGIC,
];

/// From an `O_PATH` descriptor to one that can be read. `directory` and `name`
/// say where the handle came from, for systems without `/proc`.
fn reopen(
    handle: OwnedFd,
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<RegularFile, Refusal> {
    let handle = File::from(handle);
    let wanted = regular_status(&handle)?;
    // Before it is opened: reading from trace_pipe takes what others wait for.
    let system = fstatfs(&handle)?.filesystem_type();
    if KERNELS_OWN.contains(&system) {
        return Err(Refusal::Special);
    }
    let itself = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(READ.bits())
        .open(itself);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let direct = openat(directory, name, READ | OFlag::O_NOFOLLOW, Mode::empty())?;
            File::from(direct)
        }
        Err(error) => return Err(error.into()),
    };
    let seen = regular_status(&file)?;
    if (seen.inode, seen.device) != (wanted.inode, wanted.device) {
        return Err(Refusal::Changed);
    }
    Ok(RegularFile(file))
}

/// A directory to open from: `/proc/PID`, or a process's root.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a path that we chose ourselves; links are followed.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let flags = HANDLE | OFlag::O_DIRECTORY;
        Ok(Directory(openat(AT_FDCWD, path, flags, Mode::empty())?))
    }

    /// A directory in this one, by a name that we chose ourselves; links are followed.
    pub fn open_directory(&self, name: &str) -> Result<Self, Refusal> {
        let flags = HANDLE | OFlag::O_DIRECTORY;
        Ok(Directory(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// A file in this directory, by a name that the caller made itself, such as `map_files/…`;
    /// a magic link is followed.
    pub fn open_regular_link(&self, name: &str) -> Result<RegularFile, Refusal> {
        let handle = openat(&self.0, name, HANDLE, Mode::empty())?;
        reopen(handle, self.0.as_fd(), OsStr::new(name))
    }

    /// A foreign path with this directory as its root: neither `..` nor a link
    /// leads out of it.
    pub fn open_in_root(&self, path: &[u8]) -> Result<RegularFile, Refusal> {
        let path = OsStr::from_bytes(path);
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(HANDLE).resolve(resolve);
        let handle = match openat2(&self.0, path, how) {
            Err(Errno::ENOSYS | Errno::EPERM) => self.walk(Path::new(path))?,
            other => other?,
        };
        // Without /proc no foreign root can be reached either, so a fallback by name is not
        // needed: this one finds nothing.
        reopen(handle, self.0.as_fd(), OsStr::new(""))
    }

    /// The same for kernels before 5.6, one component at a time. Captured paths
    /// hold no links; if one was created since, this ends in a refusal.
    fn walk(&self, path: &Path) -> Result<OwnedFd, Refusal> {
        let mut at: Option<OwnedFd> = None;
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => return Err(Refusal::NotFound),
            };
            let from = at.as_ref().map_or(self.0.as_fd(), AsFd::as_fd);
            at = Some(openat(
                from,
                name,
                HANDLE | OFlag::O_NOFOLLOW,
                Mode::empty(),
            )?);
        }
        at.ok_or(Refusal::NotRegular)
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
        let count = RegularFile(file).read_at(0, &mut bytes);
        bytes.truncate(count);
        Some(bytes)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
