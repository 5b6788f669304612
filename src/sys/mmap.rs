//! Memory shared with the kernel: mapped, bounds-checked, and read with the
//! orderings that the kernel's side expects.
//!
//! # Safety
//!
//! A [`SharedMemory`] is read and written only through raw pointers inside this
//! file, never as a Rust reference: the kernel may change it at any time.
//! Every access is checked against the mapped length first.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags};

use nix::sys::statfs;

use crate::base::error::{Error, Result};

/// A shared mapping of a descriptor, unmapped when dropped.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
}

/// Bytes in a page of this kernel.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: sysconf only reads its argument.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Bytes of memory that this machine has.
#[must_use]
pub fn memory_bytes() -> u64 {
    // SAFETY: sysconf only reads its argument.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0) * page_bytes() as u64
}

impl SharedMemory {
    /// Maps `bytes` of `fd` from `offset`, for reading or for reading and writing.
    pub fn map(fd: BorrowedFd<'_>, offset: usize, bytes: usize, writable: bool) -> Result<Self> {
        SharedMemory::map_as(MapFlags::MAP_SHARED, fd, offset, bytes, writable)
    }

    fn map_as(
        kind: MapFlags,
        fd: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        writable: bool,
    ) -> Result<Self> {
        let length =
            std::num::NonZeroUsize::new(bytes).ok_or_else(|| Error::failed("mmap of no bytes"))?;
        let mut protection = ProtFlags::PROT_READ;
        if writable {
            protection |= ProtFlags::PROT_WRITE;
        }
        let offset =
            libc::off_t::try_from(offset).map_err(|_| Error::failed("mmap offset out of range"))?;
        // SAFETY: a new mapping at an address of the kernel's choosing touches no
        // memory that Rust knows of; its length is that of the request.
        let start =
            unsafe { nix::sys::mman::mmap(None, length, protection, kind, fd.as_fd(), offset) }
                .map_err(|errno| Error::syscall("mmap", errno as i32))?;
        Ok(SharedMemory {
            start: start.cast(),
            bytes,
            writable,
        })
    }

    /// All of a file of sysfs, for reading: nobody can cut it, as another user's file
    /// could be under a mapping. The kernel's types can be mapped from 6.16 on.
    pub fn map_sysfs(file: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        let found =
            statfs::fstatfs(file).map_err(|errno| Error::syscall("fstatfs", errno as i32))?;
        if found.filesystem_type() != statfs::SYSFS_MAGIC {
            return Err(Error::failed("not a file of sysfs"));
        }
        let bytes = usize::try_from(bytes).map_err(|_| Error::failed("mmap of too much"))?;
        // The kernel refuses MAP_SHARED here.
        SharedMemory::map_as(MapFlags::MAP_PRIVATE, file, 0, bytes, false)
    }

    /// Mapped bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Never: nothing empty is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A pointer to `size` bytes at `offset`, aligned to `size`.
    ///
    /// # Panics
    ///
    /// When they are outside: the callers compute offsets from the mapped length.
    fn at(&self, offset: usize, size: usize) -> NonNull<u8> {
        assert!(
            offset.is_multiple_of(size)
                && offset
                    .checked_add(size)
                    .is_some_and(|end| end <= self.bytes)
        );
        // SAFETY: the assertion keeps the offset inside the mapping.
        unsafe { self.start.add(offset) }
    }

    /// Reads a word that the kernel publishes with a release store.
    #[must_use]
    pub fn load_u64(&self, offset: usize) -> u64 {
        let word = self.at(offset, 8).cast::<u64>();
        // SAFETY: aligned and inside, as `at` has checked; an atomic may be shared.
        let atomic = unsafe { AtomicU64::from_ptr(word.as_ptr()) };
        atomic.load(Ordering::Acquire)
    }

    /// As [`SharedMemory::load_u64`], for 32 bits.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        let word = self.at(offset, 4).cast::<u32>();
        // SAFETY: aligned and inside, as `at` has checked; an atomic may be shared.
        let atomic = unsafe { AtomicU32::from_ptr(word.as_ptr()) };
        atomic.load(Ordering::Acquire)
    }

    /// Publishes a word that the kernel reads with an acquire load.
    pub fn store_u64(&self, offset: usize, value: u64) {
        assert!(self.writable);
        let word = self.at(offset, 8).cast::<u64>();
        // SAFETY: aligned and inside, as `at` has checked; an atomic may be shared.
        let atomic = unsafe { AtomicU64::from_ptr(word.as_ptr()) };
        atomic.store(value, Ordering::Release);
    }

    /// Copies `into.len()` bytes from `offset` out.
    ///
    /// # Panics
    ///
    /// When they are outside.
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) {
        assert!(offset
            .checked_add(into.len())
            .is_some_and(|end| end <= self.bytes));
        // SAFETY: the assertion keeps the offset inside the mapping.
        let from = unsafe { self.start.add(offset) };
        // SAFETY: both ends hold that many bytes, and a mapping of the kernel's
        // cannot overlap a Rust slice. A byte that the kernel changes meanwhile
        // is a wrong value at worst: it does not change published bytes.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
    }
}

// SAFETY: threads share nothing of it but memory that the kernel shares with all of them
// already: words are atomic, and bytes are copied out as what they are then.
unsafe impl Sync for SharedMemory {}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and nothing refers to it
        // any more.
        let _ = unsafe { nix::sys::mman::munmap(self.start.cast(), self.bytes) };
    }
}
