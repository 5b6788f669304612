//! A process of ours that opens files, so that none of them can stop this one.
//!
//! The server of a file system (FUSE, NFS) may never answer, and who waits for it can
//! neither go on nor be killed. So another process, the *opener*, looks up every path. It
//! hands over the descriptor of a file whose file system is local, which is then read
//! directly. Files of all others it keeps, and reads them for us: even to close one may
//! take for ever. If it does not answer in time, it is left to itself, and another one
//! takes its place. Until it answers, nothing of the same file system is asked for.
//!
//! In: paths, directories, numbers of open files. Out: descriptors, or bytes. Without
//! [`start`], as at a desk, files are opened directly.
//!
//! ```text
//! tool ──a socket──▶ process that makes openers ──fork──▶ opener
//!   └────────────────────another socket────────────────────▶┘
//! ```
//!
//! # Safety
//!
//! The only unsafe call here is fork(2), made while there is one thread.

mod makers;
mod wire;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::unistd::{fork, ForkResult};

use super::look_up::{Refusal, Status, Way};
use super::messages::say;
use super::process::{self, capability};
use crate::base::error::{Error, Result};
use wire::{Words, MAX_BYTES};

/// How long an answer is waited for, and all those of one report together.
/// [`Refusal::NoAnswer`] has the first one in words.
const LIMIT_MS: u64 = 400;
const LIMIT_OF_REPORT_MS: u64 = 800;
/// Openers that do not answer: of one user's crashes, and all. Each takes some 100 KB.
const MAX_STUCK_OF_USER: usize = 3;
const MAX_STUCK: usize = 16;
/// What the capture takes, a report's files, and the sockets that lead to openers.
const MIN_DESCRIPTORS: u64 = 64;

/// What the opener is asked for: the first word of a request.
mod ask {
    pub(super) const PATH: u64 = 0;
    pub(super) const WITHOUT_LINKS: u64 = 1;
    pub(super) const LINK: u64 = 2;
    pub(super) const IN_ROOT: u64 = 3;
    pub(super) const DIRECTORY: u64 = 4;
    pub(super) const READ: u64 = 5;
    pub(super) const STATUS: u64 = 6;
    pub(super) const CLOSE: u64 = 7;
}

/// In the second word of an answer: the opener has kept the file, under this number.
const FOREIGN: u64 = 1 << 32;

/// An opener has ended.
const ENDED: i32 = Errno::EPIPE as i32;

/// What a request is about.
#[derive(Clone, Debug, Default)]
struct About {
    /// Of the file system, if that is known to be one with a server.
    device: Option<u32>,
    /// What every path of the file system begins with, or one path.
    path: Vec<u8>,
    /// The path begins at another root than ours.
    is_below: bool,
}

/// An opener that did not answer.
#[derive(Debug)]
struct Stuck {
    socket: OwnedFd,
    uid: Option<u32>,
    about: About,
}

/// This process's end.
#[derive(Debug)]
struct Client {
    control: OwnedFd,
    opener: Option<OwnedFd>,
    /// How many openers there were before.
    generation: u64,
    stuck: Vec<Stuck>,
    /// Whose crash is being reported.
    uid: Option<u32>,
    left_ms: u64,
    /// Something did not answer, for this report.
    is_silent: bool,
    /// Of the mapped file that is searched for.
    device: Option<u32>,
    /// What makes openers has ended.
    is_gone: bool,
}

thread_local! {
    /// Until this process ends.
    static CLIENT: Cell<Option<&'static RefCell<Client>>> = const { Cell::new(None) };
}

/// What an opener needs to open the files of others.
#[must_use]
pub fn capabilities() -> Vec<u32> {
    let mut kept = vec![
        capability::SYS_PTRACE,
        capability::DAC_READ_SEARCH,
        capability::CHECKPOINT_RESTORE,
    ];
    if !process::has_capability(capability::CHECKPOINT_RESTORE) {
        // Before Linux 5.9, for `map_files`.
        kept.push(capability::SYS_ADMIN);
    }
    kept
}

/// From here on files are opened by another process. It is made now, and has no descriptor
/// of this one's.
///
/// # Errors
///
/// No process can be made, or this one may have so few descriptors that the files of a
/// report need them.
pub fn start() -> Result<()> {
    let failed = |call: &str, errno: Errno| Error::syscall(call, errno as i32);
    let limit = process::allow_open_files();
    if limit < MIN_DESCRIPTORS {
        let limit = format!("the limit of open files is {limit}, and it takes {MIN_DESCRIPTORS}");
        return Err(Error::failed(limit));
    }
    let (control, theirs) = wire::pair().map_err(|errno| failed("socketpair", errno))?;
    // SAFETY: this process has one thread; the child calls what is safe after that.
    match unsafe { fork() }.map_err(|errno| failed("fork", errno))? {
        ForkResult::Child => makers::make_openers(theirs),
        ForkResult::Parent { .. } => {}
    }
    let client = Client {
        control,
        opener: None,
        generation: 0,
        stuck: Vec::new(),
        uid: None,
        left_ms: LIMIT_OF_REPORT_MS,
        is_silent: false,
        device: None,
        is_gone: false,
    };
    CLIENT.set(Some(Box::leak(Box::new(RefCell::new(client)))));
    Ok(())
}

/// Has the first opener made, so that the first report need not wait for it: once the tool
/// is attached, which takes all processors. If there can be none, that report says so.
pub fn get_ready() {
    with_client(|client| client.opener = another(client.control.as_fd()).ok());
}

fn with_client<T>(work: impl FnOnce(&mut Client) -> T) -> Option<T> {
    let client = CLIENT.get()?;
    // Without one where a report is made while another waits.
    let mut client = client.try_borrow_mut().ok()?;
    Some(work(&mut client))
}

/// The answer of an opener. If there can be none any more, this process opens files itself
/// from here on.
fn asked<T>(
    ask: impl FnOnce(&mut Client) -> std::result::Result<T, Refusal>,
) -> Option<std::result::Result<T, Refusal>> {
    let answer = with_client(ask)?;
    if with_client(|client| client.is_gone) == Some(true) {
        CLIENT.set(None);
        say("Warning: the process that makes openers has ended; a file system that does not answer will stop this tool");
        return None;
    }
    Some(answer)
}

/// The report of a crash of this user begins.
pub fn begin(uid: Option<u32>) {
    with_client(|client| {
        client.uid = uid;
        client.left_ms = LIMIT_OF_REPORT_MS;
        client.is_silent = false;
    });
}

/// Whether the report lacks something because a file system did not answer.
#[must_use]
pub fn is_silent() -> bool {
    with_client(|client| client.is_silent).unwrap_or(false)
}

/// From here on a file of this device is searched for, until it is `None`; false if its file
/// system does not answer.
pub fn search_on(device: Option<u32>) -> bool {
    let search = |client: &mut Client| {
        client.device = device;
        let about = About {
            device,
            ..About::default()
        };
        let is_free = !client.is_stuck(&about);
        client.is_silent |= !is_free;
        is_free
    };
    with_client(search).unwrap_or(true)
}

/// A regular file, open for reading.
#[derive(Debug)]
pub enum Opened {
    /// By this process.
    Own(File),
    /// By an opener, because its file system may not answer.
    Foreign(ForeignFile),
}

/// Opens a regular file; `None` where this process is to do it.
pub(super) fn open(
    way: Way,
    directory: Option<BorrowedFd<'_>>,
    path: &[u8],
) -> Option<std::result::Result<Opened, Refusal>> {
    asked(|client| {
        let what = match way {
            Way::Path => ask::PATH,
            Way::WithoutLinks => ask::WITHOUT_LINKS,
            Way::Link => ask::LINK,
            Way::InRoot => ask::IN_ROOT,
        };
        let (words, _, fd) = client.open(what, directory, path)?;
        match fd {
            Some(fd) => Ok(Opened::Own(fd.into())),
            None if words[1] & FOREIGN != 0 => Ok(Opened::Foreign(ForeignFile {
                generation: client.generation,
                number: words[1] & !FOREIGN,
                status: status(&words),
            })),
            None => Err(Refusal::NoDescriptor),
        }
    })
}

/// Opens a directory that a name in another one leads to; `None` where this process is to
/// do it.
pub(super) fn directory(
    directory: BorrowedFd<'_>,
    name: &str,
) -> Option<std::result::Result<OwnedFd, Refusal>> {
    asked(|client| {
        let (_, _, fd) = client.open(ask::DIRECTORY, Some(directory), name.as_bytes())?;
        fd.ok_or(Refusal::NoDescriptor)
    })
}

impl Client {
    fn open(
        &mut self,
        what: u64,
        directory: Option<BorrowedFd<'_>>,
        path: &[u8],
    ) -> std::result::Result<(Words, usize, Option<OwnedFd>), Refusal> {
        let about = About {
            device: self.device,
            path: match what {
                // Of one process alone.
                ask::LINK | ask::DIRECTORY => Vec::new(),
                _ => path.to_vec(),
            },
            is_below: what == ask::IN_ROOT,
        };
        let request = [what, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let generation = self.generation;
        match self.ask(&request, path, directory, &mut [], about.clone()) {
            // The opener has ended; another one is asked.
            Err(Refusal::Failed(ENDED)) if generation != self.generation => {
                self.ask(&request, path, directory, &mut [], about)
            }
            answer => answer,
        }
    }

    /// Whether this is what an opener waits for.
    fn is_stuck(&mut self, about: &About) -> bool {
        self.stuck
            .retain(|stuck| !wire::is_ready(stuck.socket.as_fd(), 0));
        let uid = self.uid;
        self.stuck.iter().any(
            |Stuck {
                 about: known,
                 uid: of,
                 ..
             }| {
                let is_on = known.device.is_some() && known.device == about.device;
                let is_below = known.is_below == about.is_below && (!known.is_below || *of == uid);
                let rest = about.path.strip_prefix(&*known.path);
                let is_in = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
                is_on || is_below && !known.path.is_empty() && is_in
            },
        )
    }

    fn is_too_much(&self) -> bool {
        let of_user = self.stuck.iter().filter(|stuck| stuck.uid == self.uid);
        self.left_ms == 0 || self.stuck.len() >= MAX_STUCK || of_user.count() >= MAX_STUCK_OF_USER
    }

    /// Sends a request and waits for its answer, which may fill `bytes`: its words, how many
    /// bytes came, and the descriptor.
    fn ask(
        &mut self,
        request: &Words,
        path: &[u8],
        directory: Option<BorrowedFd<'_>>,
        bytes: &mut [u8],
        about: About,
    ) -> std::result::Result<(Words, usize, Option<OwnedFd>), Refusal> {
        if self.is_stuck(&about) || self.is_too_much() {
            self.is_silent = true;
            return Err(Refusal::NoAnswer);
        }
        let socket = match self.opener.take() {
            Some(opener) => opener,
            None => another(self.control.as_fd()).inspect_err(|errno| {
                self.is_gone = matches!(errno, Errno::EPIPE | Errno::ECONNRESET);
            })?,
        };
        let sent = wire::send(socket.as_fd(), request, path, directory, libc::MSG_DONTWAIT);
        if let Err(errno) = sent {
            self.generation += 1;
            return Err(match errno {
                Errno::ECONNRESET => Refusal::Failed(ENDED),
                errno => errno.into(),
            });
        }
        if !wait(
            socket.as_fd(),
            LIMIT_MS.min(self.left_ms),
            &mut self.left_ms,
        ) {
            self.generation += 1;
            self.is_silent = true;
            self.stuck.push(Stuck {
                socket,
                uid: self.uid,
                about: widened(about),
            });
            return Err(Refusal::NoAnswer);
        }
        let mut words = Words::default();
        let answer = wire::receive(socket.as_fd(), &mut words, bytes);
        let Ok((count, fd)) = answer else {
            self.generation += 1;
            return Err(Refusal::Failed(ENDED));
        };
        self.opener = Some(socket);
        match words[0] {
            0 => Ok((words, count, fd)),
            errno => Err(Errno::from_raw(errno as i32).into()),
        }
    }
}

/// Has another opener made.
fn another(control: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let (ours, theirs) = wire::pair()?;
    let none = Words::default();
    let theirs = Some(theirs.as_fd());
    wire::send(control, &none, &[], theirs, libc::MSG_DONTWAIT)?;
    Ok(ours)
}

/// Waits for an answer; what that took beyond a moment goes off `left_ms`.
fn wait(socket: BorrowedFd<'_>, limit_ms: u64, left_ms: &mut u64) -> bool {
    let began = Instant::now();
    loop {
        let waited_ms = began.elapsed().as_millis() as u64;
        let is_over = waited_ms >= limit_ms;
        let is_ready = wire::is_ready(socket, limit_ms.saturating_sub(waited_ms));
        if is_ready || is_over {
            let waited_ms = began.elapsed().as_millis() as u64;
            *left_ms = left_ms.saturating_sub(waited_ms);
            return is_ready;
        }
    }
}

/// Kinds of file systems whose servers may be elsewhere, by how their names begin.
const REMOTE: [&[u8]; 9] = [
    b"fuse",
    b"nfs",
    b"cifs",
    b"smb",
    b"9p",
    b"virtiofs",
    b"ceph",
    b"afs",
    b"overlay",
];

/// The whole file system, if that is certain: a link may have led from another one to where
/// nothing answers.
fn widened(mut about: About) -> About {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let number = about.device.take().filter(|device| device >> 20 == 0);
    // What is not mounted here is in another mount namespace.
    about.device = number;
    let mut longest = (0, false);
    for line in text.split(|&byte| byte == b'\n') {
        let Some((minor, place, kind)) = mount(line) else {
            continue;
        };
        let is_remote = REMOTE.iter().any(|name| kind.starts_with(name));
        if Some(minor) == number && !is_remote {
            about.device = None;
        }
        let rest = about.path.strip_prefix(place);
        if place.len() > longest.0 && rest.is_some_and(|rest| rest.starts_with(b"/")) {
            longest = (place.len(), is_remote);
        }
    }
    if let ((length, true), false) = (longest, about.is_below) {
        about.path.truncate(length);
    }
    about
}

/// Minor number of a device without hardware, place and kind:
/// `36 35 0:50 /root /mount/point options - type source options`, proc_pid_mountinfo(5).
fn mount(line: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let place = fields.nth(1)?;
    fields.find(|field| *field == b"-")?;
    let minor = device.strip_prefix("0:").map_or(Ok(u32::MAX), str::parse);
    Some((minor.ok()?, place, fields.next()?))
}

fn status(words: &Words) -> Status {
    Status {
        inode: words[2],
        device: words[3] as u32,
        size: words[4],
        mtime_s: words[5].cast_signed(),
        mtime_ns: words[6] as u32,
        changed_unix_ns: words[7].cast_signed(),
        links: words[8],
        owner: words[9] as u32,
    }
}

/// A file that an opener holds open.
#[derive(Debug)]
pub struct ForeignFile {
    generation: u64,
    number: u64,
    status: Status,
}

impl ForeignFile {
    fn ask(
        &self,
        what: u64,
        (offset, bytes): (u64, &mut [u8]),
    ) -> std::result::Result<(Words, usize), Refusal> {
        let asked = with_client(|client| {
            // It went with its opener.
            if client.generation != self.generation {
                client.is_silent = true;
                return Err(Refusal::NoAnswer);
            }
            let mut request = Words::default();
            request[..4].copy_from_slice(&[what, self.number, offset, bytes.len() as u64]);
            let about = About {
                device: Some(self.status.device),
                ..About::default()
            };
            let (words, count, _) = client.ask(&request, &[], None, bytes, about)?;
            Ok((words, count))
        });
        asked.unwrap_or(Err(Refusal::NoAnswer))
    }

    pub(super) fn status(&self) -> std::result::Result<Status, Refusal> {
        let (words, _) = self.ask(ask::STATUS, (0, &mut []))?;
        Ok(status(&words))
    }

    /// Reads until `buf` is full, the file ends or a read fails; how many bytes.
    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buf.len() {
            let Some(at) = offset.checked_add(filled as u64) else {
                break;
            };
            let rest = &mut buf[filled..];
            let most = rest.len().min(MAX_BYTES);
            match self.ask(ask::READ, (at, &mut rest[..most])) {
                Ok((_, count @ 1..)) => filled += count,
                _ => break,
            }
        }
        filled
    }
}

impl Drop for ForeignFile {
    fn drop(&mut self) {
        with_client(|client| {
            if let Some(opener) = &client.opener {
                if client.generation == self.generation {
                    let mut request = Words::default();
                    request[..2].copy_from_slice(&[ask::CLOSE, self.number]);
                    // If it cannot be sent, its end closes the file too.
                    let _ = wire::send(opener.as_fd(), &request, &[], None, libc::MSG_DONTWAIT);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
