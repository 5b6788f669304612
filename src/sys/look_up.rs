//! Looks paths up that a hostile user may have chosen, in this process.
//!
//! In: paths and directories. Out: regular files. A path is first opened with `O_PATH`, which
//! touches no device and wakes no writer of a FIFO. Only if that is a regular file is it
//! opened for reading, through `/proc/self/fd`, so that nothing can take its place in
//! between. Magic links are not followed, except by [`Way::Link`].
//!
//! Refused, with a [`Refusal`]: everything that is not a regular file.
//!
//! # Safety
//!
//! No unsafe code: std and nix wrap every call made here.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{openat, openat2, OFlag, OpenHow, ResolveFlag, AT_FDCWD};
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
    /// The server of its file system may be gone.
    NoAnswer,
    /// Any other errno.
    Failed(i32),
}

/// A file system did not answer; `LIMIT_MS` in `sys/opener` has the number.
pub const NO_ANSWER: &str = "its file system did not answer within 400 ms";

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
            Refusal::NoAnswer => NO_ANSWER,
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
            Errno::ESTALE => Refusal::Changed,
            Errno::EDOM => Refusal::Special,
            Errno::ETIMEDOUT => Refusal::NoAnswer,
            other => Refusal::Failed(other as i32),
        }
    }
}

/// As an opener sends it.
impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Errno::ENOENT,
            Refusal::NotRegular => Errno::ELOOP,
            Refusal::NotPermitted => Errno::EACCES,
            Refusal::Changed => Errno::ESTALE,
            Refusal::Special => Errno::EDOM,
            Refusal::NoDescriptor => Errno::EMFILE,
            Refusal::NoAnswer => Errno::ETIMEDOUT,
            Refusal::Failed(errno) => Errno::from_raw(errno),
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

/// Of a regular file.
pub(super) fn status(file: &File) -> Result<Status, Refusal> {
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

/// How a path is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From our own root. Symbolic links are followed.
    Path,
    /// The same, through no symbolic link.
    WithoutLinks,
    /// A name in a directory, which may be a magic link.
    Link,
    /// With a directory as the root.
    InRoot,
}

/// Reads until `buf` is full, the file ends or a read fails; how many bytes.
pub(super) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buf.len() {
        let Some(at) = offset.checked_add(filled as u64) else {
            break;
        };
        match file.read_at(&mut buf[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    filled
}

pub(super) const HANDLE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
pub(super) const READ: OFlag = OFlag::O_RDONLY
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

/// File systems that are here: whoever mounts one decides what it has, and nobody else has to
/// answer. `statfs(2)` and include/uapi/linux/magic.h have the numbers.
const LOCAL: [u32; 17] = [
    0xef53,      // ext2 to ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x28cd_3d45, // cramfs
    0x7275,      // romfs
    0x72b6,      // jffs2
    0x2405_1905, // ubifs
    0x9660,      // iso9660
    0x4d44,      // vfat
    0x2011_bab0, // exfat
];

/// Whether to read a file never means to wait for a server.
pub(super) fn is_local(file: &File) -> bool {
    let system = fstatfs(file).map(|system| system.filesystem_type().0 as u32);
    system.is_ok_and(|number| LOCAL.contains(&number))
}

/// Looks a path up in this process.
pub(super) fn open(
    way: Way,
    directory: Option<BorrowedFd<'_>>,
    path: &[u8],
) -> Result<File, Refusal> {
    let directory = directory.unwrap_or(AT_FDCWD);
    let path = OsStr::from_bytes(path);
    let resolve = match way {
        Way::Path | Way::Link => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Way::WithoutLinks => ResolveFlag::RESOLVE_NO_SYMLINKS,
        Way::InRoot => ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    };
    let how = OpenHow::new().flags(HANDLE).resolve(resolve);
    let opened = match way {
        Way::Link => Err(Errno::ENOSYS),
        _ => openat2(directory, path, how),
    };
    let handle = match (opened, way) {
        // Before Linux 5.6; EPERM: container runtimes that do not know the call.
        (Err(Errno::ENOSYS | Errno::EPERM), Way::Path | Way::Link) => {
            openat(directory, path, HANDLE, Mode::empty())?
        }
        (Err(Errno::ENOSYS | Errno::EPERM), Way::WithoutLinks) => {
            let root = openat(AT_FDCWD, "/", HANDLE, Mode::empty())?;
            walk(root.as_fd(), Path::new(path))?
        }
        (Err(Errno::ENOSYS | Errno::EPERM), Way::InRoot) => walk(directory, Path::new(path))?,
        (other, _) => other?,
    };
    // Without /proc no foreign root can be reached either, so a fallback by name is not
    // needed: this one finds nothing.
    let name = if way == Way::InRoot {
        OsStr::new("")
    } else {
        path
    };
    reopen(handle, directory, name)
}

/// A directory by a name in another one; links are followed.
pub(super) fn directory(
    directory: Option<BorrowedFd<'_>>,
    name: &[u8],
) -> Result<OwnedFd, Refusal> {
    let flags = HANDLE | OFlag::O_DIRECTORY;
    let directory = directory.unwrap_or(AT_FDCWD);
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// For kernels before 5.6, one component at a time. Captured paths hold no links; if one was
/// created since, this ends in a refusal.
pub(super) fn walk(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Refusal> {
    let mut at: Option<OwnedFd> = None;
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            Component::ParentDir | Component::Prefix(_) => return Err(Refusal::NotFound),
        };
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(openat(
            from,
            name,
            HANDLE | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )?);
    }
    at.ok_or(Refusal::NotRegular)
}

/// From an `O_PATH` descriptor to one that can be read. `directory` and `name`
/// say where the handle came from, for systems without `/proc`.
fn reopen(handle: OwnedFd, directory: BorrowedFd<'_>, name: &OsStr) -> Result<File, Refusal> {
    let handle = File::from(handle);
    let wanted = status(&handle)?;
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
    let seen = status(&file)?;
    if (seen.inode, seen.device) != (wanted.inode, wanted.device) {
        return Err(Refusal::Changed);
    }
    Ok(file)
}
