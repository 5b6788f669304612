//! CPUs that come online while the tool runs, as the kernel announces them.
//!
//! The kernel multicasts a message for each change of a device (lib/kobject_uevent.c):
//! text, each line ended by a NUL. The first line is `online@/devices/…/cpu3`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::base::error::{Error, Result};

const NETLINK_KOBJECT_UEVENT: libc::c_int = 15;
const FROM_THE_KERNEL: u32 = 1;
/// `UEVENT_BUFFER_SIZE`, and the bytes before it.
const MESSAGE_BYTES: usize = 4096;

/// A socket that becomes readable with every announcement.
#[derive(Debug)]
pub struct Announcements {
    socket: OwnedFd,
}

impl Announcements {
    /// Fails if the kernel has no networking.
    pub fn new() -> Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers by value.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT) };
        if socket < 0 {
            return Err(failed("socket(AF_NETLINK)"));
        }
        // SAFETY: a descriptor that was just made, which nothing else uses.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all zeros is a value of this struct of integers.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = FROM_THE_KERNEL;
        let bytes = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address is live for the call and as long as its size says.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
        if bound < 0 {
            return Err(failed("bind(AF_NETLINK)"));
        }
        Ok(Announcements { socket })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// CPUs that have come up since this was asked last.
    pub fn cpus_up(&mut self) -> Vec<u32> {
        let mut up = Vec::new();
        let mut message = [0; MESSAGE_BYTES];
        // After any error there is nothing more to read now.
        while let Ok(length) = nix::unistd::read(&self.socket, &mut message) {
            if length == 0 {
                break;
            }
            up.extend(cpu_up(&message[..length]));
        }
        up
    }
}

fn failed(call: &str) -> Error {
    Error::syscall(call, nix::errno::Errno::last_raw())
}

/// The CPU that a message says is there now.
fn cpu_up(message: &[u8]) -> Option<u32> {
    let device = message.strip_prefix(b"online@")?;
    let end = device.iter().position(|&byte| byte == 0)?;
    let device = std::str::from_utf8(&device[..end]).ok()?;
    let number = device.strip_prefix("/devices/system/cpu/cpu")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cpu_that_comes_up_counts() {
        let up = b"online@/devices/system/cpu/cpu12\0ACTION=online\0";
        assert_eq!(cpu_up(up), Some(12));
        for other in [
            &b"offline@/devices/system/cpu/cpu12\0ACTION=offline\0"[..],
            b"online@/devices/system/memory/memory3\0",
            b"online@/devices/system/cpu/cpu12",
            b"online@/devices/system/cpu/cpu-1\0",
            b"libudev\0",
            b"",
        ] {
            assert_eq!(cpu_up(other), None);
        }
    }
}
