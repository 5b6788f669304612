//! The numbers of tracepoints, which only tracefs has.
//!
//! If it is not mounted, a detached mount is enough: one that is in no directory tree.
//! Before Linux 5.2 a child mounts it in a mount namespace of its own, which ends with the
//! child. Nothing on the host changes.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};

use nix::mount::MsFlags;
use nix::unistd::ForkResult;

use crate::base::error::{Error, Kind, Result};
use crate::sys::unmounted;

/// The usual places; the second is in debugfs, which mounts it on access.
const USUAL: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const NOT_PERMITTED_HINT: &str =
    "reading tracefs needs CAP_SYS_ADMIN, or files that this user may read";
/// A directory that is always there, as the mount point in the child's namespace: for a
/// process whose root it is, only `..` leads to the mounted file system.
const PRIVATE: &str = "/";
const PRIVATE_ROOT: &str = "/..";

/// The number by which perf_event_open(2) knows a tracepoint.
pub fn event_number(group: &str, name: &str) -> Result<u64> {
    let place = format!("events/{group}/{name}/id");
    if let Some(number) = USUAL.iter().find_map(|root| number_in(root, &place)) {
        return Ok(number);
    }
    let refused = match number_unmounted(&place) {
        Ok(number) => return Ok(number),
        Err(error) => error,
    };
    match number_from_child(&place)? {
        0 if refused.kind() == Kind::NotPermitted => {
            Err(refused.context("tracefs").with_hint(NOT_PERMITTED_HINT))
        }
        // The child has as few descriptors as we have.
        0 if matches!(refused.errno(), Some(libc::EMFILE | libc::ENFILE)) => {
            Err(refused.context("tracefs"))
        }
        0 => Err(Error::new(
            Kind::Unsupported,
            format!("tracefs cannot be mounted, or has no {place}"),
        )),
        number => Ok(number),
    }
}

fn number_unmounted(place: &str) -> Result<u64> {
    let c_place = CString::new(place).map_err(|_| Error::failed("a NUL in a path"))?;
    let mut text = String::new();
    unmounted::open(c"tracefs", &c_place)?.read_to_string(&mut text)?;
    let number = text.trim().parse();
    number.map_err(|_| Error::failed(format!("{place} holds no number")))
}

/// The usual place at which it is mounted, or the reason why none was found.
#[must_use]
pub fn mounted() -> &'static str {
    let mut answer = "not mounted";
    for root in USUAL {
        match fs::metadata(format!("{root}/events")) {
            Ok(_) => return root,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                answer = "not permitted to look";
            }
            Err(_) => {}
        }
    }
    answer
}

/// Asks a child that has tracefs to itself; 0 if that fails.
fn number_from_child(place: &str) -> Result<u64> {
    let (reader, writer) =
        nix::unistd::pipe().map_err(|errno| Error::syscall("pipe", errno as i32))?;
    // SAFETY: the tool has one thread when it attaches, so that the child finds no
    // lock held; it ends without coming back from here.
    let forked = unsafe { nix::unistd::fork() };
    match forked.map_err(|errno| Error::syscall("fork", errno as i32))? {
        ForkResult::Child => {
            let number = mount_privately().ok();
            let number = number.and_then(|()| number_in(PRIVATE_ROOT, place));
            let _ = File::from(writer).write_all(&number.unwrap_or(0).to_ne_bytes());
            // SAFETY: ends the child alone.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut bytes = [0; 8];
            let answer = File::from(reader).read_exact(&mut bytes);
            let _ = nix::sys::wait::waitpid(child, None);
            Ok(answer.map_or(0, |()| u64::from_ne_bytes(bytes)))
        }
    }
}

fn number_in(root: &str, place: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{root}/{place}")).ok()?;
    text.trim().parse().ok()
}

/// Mounts tracefs where only this process sees it.
fn mount_privately() -> Result<()> {
    // SAFETY: takes a number by value; it is this process's view alone that changes.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if answer != 0 {
        let errno = nix::errno::Errno::last_raw();
        return Err(Error::syscall("unshare(CLONE_NEWNS)", errno));
    }
    let none: Option<&str> = None;
    // What is mounted from here on must not spread to where this came from.
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| Error::syscall("mount(MS_PRIVATE)", errno as i32))?;
    nix::mount::mount(
        Some("tracefs"),
        PRIVATE,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )
    .map_err(|errno| Error::syscall("mount(tracefs)", errno as i32))
}
