//! The raw calls behind the output file: opening it safely, writing, and undoing a write.
//!
//! In: a path. Out: an [`OpenFile`] into which other users' crashes may be written: it
//! has mode 0600 if it is new, and was not reached through a link that somebody else could
//! have created. [`crate::report::output::sink`] decides what happens after a failed write.
//!
//! # Safety
//!
//! One unsafe call takes a descriptor of the process by the number that the user named
//! (`/dev/fd/3`), and duplicates it; another sends bytes that it borrows for the call; a
//! third has the kernel write a number into a local variable.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::stat::{self, FileStat, Mode, SFlag};
use nix::unistd;

use crate::base::error::{Error, Result};
use crate::sys::streams;

/// As many links in a row as are followed.
const LINKS_MAX: usize = 8;

/// The kind of file that reports go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file that every write of ours is appended to.
    Appended,
    /// A regular file that another program opened, at its present position.
    Inherited,
    /// A pipe, a terminal, a socket, another device.
    Stream,
}

/// An open output.
#[derive(Debug)]
pub struct OpenFile {
    pub fd: OwnedFd,
    pub kind: FileKind,
    /// Opened by its own name, so that it can be opened again; else inherited.
    pub named: bool,
    /// A socket, which is written without a wait.
    is_socket: bool,
    /// A FIFO that is held open, so that reports wait in it while it has no reader.
    pub is_held: bool,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// A signal came first.
    Interrupted,
    /// No room now.
    WouldBlock,
    /// The reader has gone.
    BrokenPipe,
    /// Anything else, such as ENOSPC.
    Failed(Errno),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Interrupted => f.write_str(Errno::EINTR.desc()),
            WriteError::WouldBlock => f.write_str(Errno::EAGAIN.desc()),
            WriteError::BrokenPipe => f.write_str(Errno::EPIPE.desc()),
            WriteError::Failed(errno) => f.write_str(errno.desc()),
        }
    }
}

/// What to do with a FIFO that has no reader yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fifo {
    /// It is held open, and reports wait in it.
    Hold,
    /// ENXIO.
    Refuse,
}

/// Standard output, as it was handed to us.
pub fn open_stdout() -> Result<OpenFile> {
    inherited(1).map_err(|errno| Error::syscall("fcntl", errno as i32).context("standard output"))
}

/// Opens the file of that name for appending, makes it if there is none.
/// Nothing is truncated.
pub fn open(path: &Path, fifo: Fifo) -> Result<OpenFile> {
    let mut base: Option<OwnedFd> = None;
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        if let Some(number) = own_descriptor(&path) {
            return inherited(number).map_err(|errno| Error::syscall("fcntl", errno as i32));
        }
        let directory = open_directory(base.as_ref(), &path)?;
        let Some(name) = path.file_name() else {
            return Err(Error::syscall("openat", Errno::EISDIR as i32));
        };
        match open_entry(&directory, name.as_ref(), fifo) {
            Ok((fd, Entry::Made)) => return named(fd),
            Ok((fd, Entry::Found)) => {
                trusted_file(&directory, &fd)?;
                return named(fd);
            }
            Err(Errno::ELOOP) => {
                let target = trusted_link(&directory, name.as_ref())?;
                base = Some(directory);
                path = target;
            }
            Err(errno) => return Err(Error::syscall("openat", errno as i32)),
        }
    }
    Err(Error::syscall("openat", Errno::ELOOP as i32))
}

/// The descriptor of this process that a path such as `/dev/stdout` means. It is duplicated
/// and not opened: opening would truncate or re-position a file that a shell has opened,
/// and fails on a socket.
fn own_descriptor(path: &Path) -> Option<RawFd> {
    let text = path.to_str()?;
    match text {
        "/dev/stdout" => return Some(1),
        "/dev/stderr" => return Some(2),
        _ => {}
    }
    ["/dev/fd/", "/proc/self/fd/"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
}

/// A copy of a descriptor that the process was started with.
pub fn duplicate(number: RawFd) -> nix::Result<OwnedFd> {
    if streams::was_closed(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: F_DUPFD_CLOEXEC touches no memory; a number that is not open gives EBADF.
    let copy = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the call above has just made this descriptor, and nothing else uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn inherited(number: RawFd) -> nix::Result<OpenFile> {
    let mut fd = duplicate(number)?;
    let stat = stat::fstat(&fd)?;
    let kind = match file_type(&stat) {
        SFlag::S_IFREG if flags(&fd)?.contains(OFlag::O_APPEND) => FileKind::Appended,
        SFlag::S_IFREG => FileKind::Inherited,
        _ => FileKind::Stream,
    };
    if matches!(file_type(&stat), SFlag::S_IFIFO | SFlag::S_IFCHR) {
        if let Some(own) = nonblocking_copy(&fd) {
            fd = own;
        }
    }
    Ok(OpenFile {
        fd,
        kind,
        named: false,
        is_socket: file_type(&stat) == SFlag::S_IFSOCK,
        is_held: false,
    })
}

/// A pipe or a terminal opened once more, so that O_NONBLOCK applies only to us: set
/// on the inherited description it would affect every process that shares it. `None`
/// if that cannot be done (no /proc, another user's terminal); writes then
/// block, and a reader that stopped stops us.
fn nonblocking_copy(fd: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    fcntl::open(path.as_str(), flags, Mode::empty()).ok()
}

fn open_directory(base: Option<&OwnedFd>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = match base {
        Some(base) => fcntl::openat(base, parent, flags, Mode::empty()),
        None => fcntl::open(parent, flags, Mode::empty()),
    };
    opened.map_err(|errno| Error::syscall("openat", errno as i32).context("its directory"))
}

/// Opens one name in a directory, never through a link.
///
/// O_CREAT stays set for a file that exists, so that the kernel's own guards
/// (fs.protected_regular, fs.protected_fifos) refuse a file that another user has planted
/// in /tmp. Never waits, neither for a FIFO's reader nor for a terminal's line.
fn open_entry(directory: &OwnedFd, name: &Path, fifo: Fifo) -> nix::Result<(OwnedFd, Entry)> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_WRONLY
        | OFlag::O_NONBLOCK
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY;
    match fcntl::openat(directory, name, flags | OFlag::O_EXCL, mode) {
        Ok(fd) => {
            // The umask may have taken even our own permissions away.
            stat::fchmod(&fd, mode)?;
            return Ok((fd, Entry::Made));
        }
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let mut opened = fcntl::openat(directory, name, flags, mode);
    if matches!(opened, Err(Errno::ENXIO)) && fifo == Fifo::Hold {
        // Who reads it too needs no other reader: fifo(7).
        let flags = (flags - OFlag::O_WRONLY) | OFlag::O_RDWR;
        opened = fcntl::openat(directory, name, flags, mode);
    }
    Ok((opened?, Entry::Found))
}

/// Whether an entry of a directory was there before it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Made,
    Found,
}

/// Refuses a file that another user may have planted, or can read: the kernel's own guards may
/// be off, and do not check for existing hard links.
fn trusted_file(directory: &OwnedFd, fd: &OwnedFd) -> Result<()> {
    let failed = |errno: Errno| Error::syscall("fstat", errno as i32);
    let (place, file) = (
        stat::fstat(directory).map_err(failed)?,
        stat::fstat(fd).map_err(failed)?,
    );
    let us = unistd::geteuid().as_raw();
    let is_ours = |owner: u32| owner == us || owner == 0;
    let others = (Mode::S_IWGRP | Mode::S_IWOTH).bits();
    let is_shared = place.st_mode & others != 0;
    if is_ours(place.st_uid) && !is_shared || file_type(&file) == SFlag::S_IFCHR {
        return Ok(());
    }
    let refused = if !is_ours(file.st_uid) && (is_shared || file.st_uid != place.st_uid) {
        "belongs to another user, in a directory that others can write to"
    } else if file_type(&file) == SFlag::S_IFREG && file.st_nlink > 1 {
        "has more than one name (hard links), in a directory that others can write to"
    } else {
        return Ok(());
    };
    Err(Error::not_permitted(refused).with_hint("Name a file in a directory of your own."))
}

/// A file that was opened by name, if reports may go into its kind.
fn named(fd: OwnedFd) -> Result<OpenFile> {
    let failed = |errno: Errno| Error::syscall("fstat", errno as i32);
    let stat = stat::fstat(&fd).map_err(failed)?;
    let kind = match file_type(&stat) {
        SFlag::S_IFREG => FileKind::Appended,
        SFlag::S_IFIFO | SFlag::S_IFCHR => FileKind::Stream,
        _ => return Err(Error::failed("is not a file, a pipe or a terminal")),
    };
    let mut status = flags(&fd).map_err(failed)?;
    status.set(OFlag::O_NONBLOCK, kind == FileKind::Stream);
    fcntl::fcntl(&fd, fcntl::FcntlArg::F_SETFL(status)).map_err(failed)?;
    Ok(OpenFile {
        fd,
        kind,
        named: true,
        is_socket: false,
        is_held: file_type(&stat) == SFlag::S_IFIFO && status.contains(OFlag::O_RDWR),
    })
}

/// The target of a link, if only root can have created it.
fn trusted_link(directory: &OwnedFd, name: &Path) -> Result<PathBuf> {
    let failed = |errno: Errno| Error::syscall("readlinkat", errno as i32);
    let link = stat::fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    let place = stat::fstat(directory).map_err(failed)?;
    let others = (Mode::S_IWGRP | Mode::S_IWOTH).bits();
    if link.st_uid != 0 || place.st_uid != 0 || place.st_mode & others != 0 {
        return Err(
            Error::not_permitted("is a symbolic link that another user could have made")
                .with_hint("Name the file itself."),
        );
    }
    fcntl::readlinkat(directory, name)
        .map(PathBuf::from)
        .map_err(failed)
}

fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn flags(fd: &OwnedFd) -> nix::Result<OFlag> {
    fcntl::fcntl(fd, fcntl::FcntlArg::F_GETFL).map(OFlag::from_bits_retain)
}

/// One write(2) of at least one byte: how much of it was taken.
pub fn write(file: &OpenFile, bytes: &[u8]) -> std::result::Result<usize, WriteError> {
    let taken = match file.is_socket {
        true => send(&file.fd, bytes),
        false => unistd::write(&file.fd, bytes),
    };
    match taken {
        // No error and no progress: some device that will not say why.
        Ok(0) => Err(WriteError::Failed(Errno::EIO)),
        Ok(taken) => Ok(taken),
        Err(Errno::EINTR) => Err(WriteError::Interrupted),
        Err(Errno::EAGAIN) => Err(WriteError::WouldBlock),
        Err(Errno::EPIPE) => Err(WriteError::BrokenPipe),
        Err(other) => Err(WriteError::Failed(other)),
    }
}

/// A write to a socket that does not wait, whatever mode other users of it have set.
fn send(fd: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are live for the call, which reads as many as its length says.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    Errno::result(sent).map(isize::cast_unsigned)
}

/// Renames a file of this name, which is open, to `NAME.1`, that to `NAME.2` and so on, and
/// at last one over `NAME.keep`.
///
/// # Errors
///
/// The name is that of another file or of a link, or a file cannot be renamed.
pub fn put_aside(path: &Path, fd: &OwnedFd, keep: u32) -> Result<()> {
    let failed = |errno: Errno| Error::syscall("rename", errno as i32);
    let (named, open) = (
        stat::lstat(path).map_err(failed)?,
        stat::fstat(fd).map_err(failed)?,
    );
    if (named.st_dev, named.st_ino) != (open.st_dev, open.st_ino) {
        return Err(Error::failed("the name leads to another file"));
    }
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name
    };
    for number in (0..keep).rev() {
        match fcntl::renameat(
            fcntl::AT_FDCWD,
            name(number).as_os_str(),
            fcntl::AT_FDCWD,
            name(number + 1).as_os_str(),
        ) {
            Err(Errno::ENOENT) if number > 0 => {}
            renamed => renamed.map_err(failed)?,
        }
    }
    Ok(())
}

/// Whether a regular file ends within a line: a report is cut where a page of the file ends
/// if SIGKILL comes while it is written, or anywhere by a loss of power. `false` if the file
/// cannot be read, as without /proc.
#[must_use]
pub fn ends_within_line(fd: &OwnedFd) -> bool {
    let last = size(fd).and_then(|size| {
        let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, size.checked_sub(1)?).ok()?;
        Some(byte[0])
    });
    last.is_some_and(|byte| byte != b'\n')
}

/// The size of a regular file; `None` if it is not available.
#[must_use]
pub fn size(fd: &OwnedFd) -> Option<u64> {
    stat::fstat(fd).ok()?.st_size.try_into().ok()
}

/// Cuts a file; whether that was done.
pub fn truncate(fd: &OwnedFd, size: u64) -> bool {
    size.try_into()
        .is_ok_and(|size| unistd::ftruncate(fd, size).is_ok())
}

/// The number of unread bytes in a pipe.
#[must_use]
pub fn unread_bytes(fd: &OwnedFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: this request writes a number into the given place.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    usize::try_from(count).map_or(0, |count| if answer < 0 { 0 } else { count })
}

/// Whether a short write would be taken at once: not if a pipe is full and its
/// reader has stopped.
#[must_use]
pub fn is_writable(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(0))
}

/// Waits until the output can be written or has an error; false if `limit` is over first.
#[must_use]
pub fn wait_writable(fd: &OwnedFd, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    // A signal: the caller asks again.
    !matches!(poll(&mut polled, timeout), Ok(0))
}
