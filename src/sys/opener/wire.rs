//! What this process and the opener say to each other: words, bytes and a descriptor.
//!
//! Sockets of the type `SOCK_SEQPACKET`: a message arrives whole or not at all, and the end
//! of either process is the end of the other's messages. unix(7).
//!
//! # Safety
//!
//! Every pointer in a message header is to memory that outlives the call.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;

/// Numbers at the beginning of each message; what they mean depends on its direction.
pub(super) type Words = [u64; 10];

/// The most bytes in a message beside its words.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// `struct cmsghdr` with one descriptor behind it.
#[repr(C)]
struct Passed {
    header: libc::cmsghdr,
    fd: i32,
    _padding: u32,
}

/// Bytes of it without the padding: `CMSG_LEN`.
const PASSED_BYTES: usize = size_of::<libc::cmsghdr>() + 4;

fn checked(answer: isize) -> nix::Result<usize> {
    usize::try_from(answer).map_err(|_| Errno::last())
}

fn passed() -> Passed {
    // SAFETY: zeros are a value of all its fields.
    unsafe { zeroed() }
}

fn header(parts: &mut [libc::iovec; 2], passed: Option<&mut Passed>) -> libc::msghdr {
    // SAFETY: zeros are a value of all its fields.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = 2;
    if let Some(passed) = passed {
        header.msg_control = std::ptr::from_mut(passed).cast();
        header.msg_controllen = size_of::<Passed>() as _;
    }
    header
}

/// Two sockets that are connected to each other.
pub(super) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    let answer = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    checked(answer as isize)?;
    // SAFETY: the kernel has just made it, and nothing else uses it.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((own(ends[0]), own(ends[1])))
}

/// Sends a message; `flags` may say that it does not wait.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    words: &Words,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
    flags: i32,
) -> nix::Result<()> {
    let mut parts = [
        libc::iovec {
            iov_base: words.as_ptr().cast_mut().cast(),
            iov_len: size_of::<Words>(),
        },
        libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        },
    ];
    let mut passed = passed();
    let passed = fd.map(|fd| {
        passed.header.cmsg_len = PASSED_BYTES as _;
        passed.header.cmsg_level = libc::SOL_SOCKET;
        passed.header.cmsg_type = libc::SCM_RIGHTS;
        passed.fd = fd.as_raw_fd();
        &mut passed
    });
    let header = header(&mut parts, passed);
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: sendmsg only reads the parts, which are live.
    checked(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })?;
    Ok(())
}

/// Waits for a message: how many bytes it had, and its descriptor. An error if there comes
/// none any more.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    words: &mut Words,
    bytes: &mut [u8],
) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut parts = [
        libc::iovec {
            iov_base: words.as_mut_ptr().cast(),
            iov_len: size_of::<Words>(),
        },
        libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        },
    ];
    let mut passed = passed();
    let mut header = header(&mut parts, Some(&mut passed));
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the parts are live and writable, as long as they say.
    let got = checked(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })?;
    // Without one the kernel leaves the zeros.
    let is_passed =
        passed.header.cmsg_level == libc::SOL_SOCKET && passed.header.cmsg_type == libc::SCM_RIGHTS;
    // SAFETY: the kernel has just put it there, and nothing else uses it.
    let fd = is_passed.then(|| unsafe { OwnedFd::from_raw_fd(passed.fd) });
    let count = got
        .checked_sub(size_of::<Words>())
        .ok_or(Errno::ECONNRESET)?;
    Ok((count, fd))
}

/// Whether there is a message, or the other end has gone, within so many milliseconds.
pub(super) fn is_ready(socket: BorrowedFd<'_>, limit_ms: u64) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one struct, which is live.
    unsafe {
        libc::poll(
            &raw mut poll,
            1,
            i32::try_from(limit_ms).unwrap_or(i32::MAX),
        ) > 0
    }
}

/// Closes every descriptor but this one, which gets the number 0.
pub(super) fn keep_only(socket: OwnedFd) {
    const MOST: i32 = 1024;
    // Closed below, if it has not the number 0 already.
    let socket = socket.into_raw_fd();
    // SAFETY: takes numbers by value. What had the number 0 is not used any more.
    unsafe { libc::dup2(socket, 0) };
    // SAFETY: takes numbers by value; nothing of this process uses the others any more.
    let all = unsafe { libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0) };
    if all != 0 {
        // Before Linux 5.9.
        for fd in 1..MOST {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// The socket that [`keep_only`] has kept.
pub(super) fn kept() -> BorrowedFd<'static> {
    // SAFETY: nothing in the opener closes it.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Ends this process, without what would be done at its end.
pub(super) fn end() -> ! {
    // SAFETY: nothing of the process is used after this.
    unsafe { libc::_exit(0) }
}

/// Has children of this process disappear when they end.
pub(super) fn forget_children() {
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
