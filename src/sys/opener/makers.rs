//! The processes behind [`super`]: one that makes openers, and the openers.
//!
//! The first one never touches a file, so nothing can stop it. An opener waits for a
//! request, obeys it, and answers. It may be stopped for ever by a file system whose server
//! does not answer; then nobody waits for it, and when it gets free it sees that its socket
//! is closed and ends. Both end with the tool. Neither parses what it reads.
//!
//! # Safety
//!
//! The only unsafe call here is fork(2), made while there is one thread.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{fork, ForkResult};

use super::wire::{self, Words, MAX_BYTES};
use super::{ask, FOREIGN};
use crate::sys::confine;
use crate::sys::look_up::{self, Refusal, Status, Way};
use crate::sys::process::keep_capabilities;

/// Files that an opener holds open for the tool.
const MAX_FILES: usize = 512;

/// The first one: makes an opener for each socket that comes. It limits itself when the first
/// one comes: until then all processors are busy with attaching, and it only waits.
pub(super) fn make_openers(control: OwnedFd) -> ! {
    wire::keep_only(control);
    wire::forget_children();
    let mut words = Words::default();
    let mut is_limited = false;
    while let Ok((_, socket)) = wire::receive(wire::kept(), &mut words, &mut []) {
        let Some(socket) = socket else { continue };
        if !std::mem::replace(&mut is_limited, true) {
            // Without capabilities it opens what everybody may. Where the kernel has no
            // filters, or refuses this one, the capabilities must do.
            let _ = keep_capabilities(&super::capabilities());
            let _ = confine::maker();
        }
        // SAFETY: this process has one thread.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            wire::keep_only(socket);
            let _ = confine::opener();
            open_files();
        }
    }
    wire::end()
}

/// An opener.
fn open_files() -> ! {
    let mut files: Vec<Option<File>> = Vec::new();
    let mut words = Words::default();
    let mut bytes = vec![0; MAX_BYTES];
    while let Ok((count, directory)) = wire::receive(wire::kept(), &mut words, &mut bytes) {
        let [what, number, offset, length, ..] = words;
        let file = usize::try_from(number).ok();
        let file = file.and_then(|number| files.get_mut(number));
        let mut answer = Words::default();
        let mut passed = None;
        let mut read = 0;
        match what {
            ask::CLOSE => {
                file.map(Option::take);
                continue;
            }
            ask::READ => {
                let length = usize::try_from(length).map_or(MAX_BYTES, |most| most.min(MAX_BYTES));
                let file = file.and_then(|file| file.as_ref());
                read = file.map_or(0, |file| {
                    look_up::read_at(file, offset, &mut bytes[..length])
                });
            }
            ask::STATUS => match file.and_then(|file| file.as_ref()).map(look_up::status) {
                Some(Ok(status)) => put(&mut answer, &status),
                _ => answer[0] = Errno::EBADF as u64,
            },
            _ => {
                let directory = directory.as_ref().map(AsFd::as_fd);
                match open(what, directory, &bytes[..count], &mut files, &mut answer) {
                    Ok(fd) => passed = fd,
                    Err(refusal) => answer[0] = Errno::from(refusal) as u64,
                }
            }
        }
        let passed = passed.as_ref().map(AsFd::as_fd);
        if wire::send(wire::kept(), &answer, &bytes[..read], passed, 0).is_err() {
            break;
        }
    }
    wire::end()
}

/// Opens a file. It is returned if its file system always answers, and else kept in `files`.
fn open(
    what: u64,
    directory: Option<BorrowedFd<'_>>,
    path: &[u8],
    files: &mut Vec<Option<File>>,
    answer: &mut Words,
) -> Result<Option<OwnedFd>, Refusal> {
    if what == ask::DIRECTORY {
        return look_up::directory(directory, path).map(Some);
    }
    let way = match what {
        ask::LINK => Way::Link,
        ask::IN_ROOT => Way::InRoot,
        ask::WITHOUT_LINKS => Way::WithoutLinks,
        _ => Way::Path,
    };
    let opened = look_up::open(way, directory, path)?;
    if look_up::is_local(&opened) {
        return Ok(Some(opened.into()));
    }
    put(answer, &look_up::status(&opened)?);
    let free = files.iter().position(Option::is_none);
    let number = free.unwrap_or(files.len());
    match free {
        Some(free) => files[free] = Some(opened),
        None if number >= MAX_FILES => return Err(Refusal::NoDescriptor),
        None => files.push(Some(opened)),
    }
    answer[1] = number as u64 | FOREIGN;
    Ok(None)
}

fn put(answer: &mut Words, status: &Status) {
    answer[2..].copy_from_slice(&[
        status.inode,
        status.device.into(),
        status.size,
        status.mtime_s.cast_unsigned(),
        status.mtime_ns.into(),
        status.changed_unix_ns.cast_unsigned(),
        status.links,
        status.owner.into(),
    ]);
}
