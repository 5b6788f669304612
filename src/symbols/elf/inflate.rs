//! Unpacks compressed sections, a piece at a time.
//!
//! In: the packed bytes of a section, read in windows, and the size that its header names.
//! Out: the unpacked bytes, piece by piece, to a function that may stop it. Nothing is
//! allocated by what a header says: the caller keeps pieces as they come, and no more of
//! them than the header has named. zlib (RFC 1950) by miniz_oxide, Zstandard (RFC 8878) by
//! ruzstd; a form whose feature is not in the build is refused before anything is read.

#![cfg_attr(
    not(any(feature = "zlib", feature = "zstd")),
    expect(dead_code, reason = "there is nothing to unpack with")
)]

#[cfg(feature = "zlib")]
mod zlib;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(any(feature = "zlib", feature = "zstd"))]
use super::debug::Compression;
use super::debug::Packed;
use super::source::{FileRange, Source};

/// Packed bytes that are read at a time.
const WINDOW: usize = 16 * 1024;
/// What it takes to unpack a byte, in nanoseconds and in units of work.
pub const NS_PER_BYTE: u64 = 8;

/// Why a section was not unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not a form that this build can unpack.
    Unknown,
    /// Not what its form makes, or of another size than its header says.
    Damaged,
    /// There is no room for it.
    TooLarge,
    TimedOut,
}

/// Shows the unpacked bytes, in pieces; stops when `show` does.
pub fn inflate(
    source: &Source,
    range: FileRange,
    packed: Packed,
    show: &mut dyn FnMut(&[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    type Unpack = fn(&mut Input<'_>, &mut Output<'_>) -> Result<(), Trouble>;
    let unpack: Option<Unpack> = match packed.form {
        #[cfg(feature = "zlib")]
        Compression::Zlib | Compression::ZlibGnu => Some(zlib::unpack),
        #[cfg(feature = "zstd")]
        Compression::Zstd => Some(zstd::unpack),
        _ => None,
    };
    let unpack = unpack.ok_or(Trouble::Unknown)?;

    let mut input = Input {
        source,
        left: range.within(source.size()),
        window: Vec::new(),
        at: 0,
    };
    let mut output = Output {
        source,
        left: packed.size,
        show,
    };
    let done = unpack(&mut input, &mut output);
    match done {
        _ if source.is_out() => Err(Trouble::TimedOut),
        Ok(()) if output.left > 0 => Err(Trouble::Damaged),
        done => done,
    }
}

/// The packed bytes.
struct Input<'a> {
    source: &'a Source,
    /// What was not read yet.
    left: FileRange,
    window: Vec<u8>,
    at: usize,
}

#[cfg(any(feature = "zlib", feature = "zstd"))]
impl Input<'_> {
    /// The bytes at hand, none at the end, and whether others follow.
    fn held(&mut self) -> (&[u8], bool) {
        if self.at >= self.window.len() && self.left.size > 0 {
            let len = self.left.size.min(WINDOW as u64);
            self.window.resize(len as usize, 0);
            let read = self.source.read_at(self.left.offset, &mut self.window);
            self.window.truncate(read);
            self.left.offset += len;
            self.left.size -= len;
            self.at = 0;
        }
        let held = self.window.get(self.at..).unwrap_or(&[]);
        (held, self.left.size > 0)
    }

    fn take(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

/// Where the unpacked bytes go.
struct Output<'a> {
    source: &'a Source,
    /// Bytes that the header promises.
    left: u64,
    show: &'a mut dyn FnMut(&[u8]) -> Result<(), Trouble>,
}

#[cfg(any(feature = "zlib", feature = "zstd"))]
impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let len = bytes.len() as u64;
        if !self.source.work(len * NS_PER_BYTE) {
            return Err(Trouble::TimedOut);
        }
        self.left = self.left.checked_sub(len).ok_or(Trouble::Damaged)?;
        (self.show)(bytes)
    }
}

#[cfg(all(test, feature = "zlib", feature = "zstd"))]
#[path = "inflate_tests.rs"]
mod tests;
