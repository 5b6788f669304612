//! Files of the kernel's own file systems, if these are not mounted.
//!
//! The new mount interface (Linux 5.2, fsopen(2)) gives a detached mount: only its
//! descriptor leads there, and the mount ends when that is closed.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::base::error::{Error, Result};

const FSOPEN_CLOEXEC: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOUNT_ATTR_RDONLY: u32 = 1;

/// Opens the file at this path below the root of a file system such as `sysfs`, to read it.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.2, `EPERM` without CAP_SYS_ADMIN, `ENODEV` if the kernel
/// has no such file system, `ENOENT` if that has no such file.
pub fn open(file_system: &CStr, path: &CStr) -> Result<File> {
    // SAFETY: the name is a string with a NUL; the answer is a new descriptor.
    let context = descriptor("fsopen", unsafe {
        libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), FSOPEN_CLOEXEC)
    })?;
    let none: *const u8 = std::ptr::null();
    // SAFETY: this command takes neither a key nor a value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    };
    if created != 0 {
        return Err(last("fsconfig"));
    }
    // SAFETY: takes numbers by value; the answer is a new descriptor.
    let root = descriptor("fsmount", unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            MOUNT_ATTR_RDONLY,
        )
    })?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a string with a NUL; the answer is a new descriptor.
    let file = descriptor("openat", unsafe {
        libc::openat(root.as_raw_fd(), path.as_ptr(), flags).into()
    })?;
    Ok(File::from(file))
}

/// The result of a call that makes a descriptor.
fn descriptor(call: &'static str, answer: libc::c_long) -> Result<OwnedFd> {
    if answer < 0 {
        return Err(last(call));
    }
    // SAFETY: the kernel has just made it, and nothing else uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
}

fn last(call: &'static str) -> Error {
    Error::syscall(call, nix::errno::Errno::last_raw())
}
