//! A bounds-checked cursor over bytes that somebody else wrote.
//!
//! Ring records, ELF sections and BTF blobs come in as slices; fixed-width
//! integers and sub-slices come out, or a [`ShortRead`] that names the offset
//! where the bytes ran out. Nothing here panics and nothing is cast: a field becomes
//! a value only after a check that its bytes are there.
//!
//! Byte order is little-endian: both architectures that the tool runs on are,
//! and the parsers refuse big-endian files before they come here.

use std::fmt::{self, Write as _};

/// Fewer bytes than a read asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortRead {
    /// Offset, from the start of the slice, where the read began.
    pub offset: usize,
    /// Bytes that were wanted there.
    pub wanted: usize,
    /// Bytes that were left there.
    pub left: usize,
}

impl fmt::Display for ShortRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes wanted at offset {:#x}, {} left",
            self.wanted, self.offset, self.left
        )
    }
}

impl std::error::Error for ShortRead {}

/// Arguments with their NULs, as one line with spaces.
#[must_use]
pub fn spaced(arguments: &[u8]) -> Vec<u8> {
    let mut line = without_nuls(arguments).to_vec();
    for byte in &mut line {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    line
}

/// Without the NULs at the end.
#[must_use]
pub fn without_nuls(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|&byte| byte != 0);
    &bytes[..last.map_or(0, |last| last + 1)]
}

/// A position in a byte slice, moved by each successful read.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, offset: 0 }
    }

    /// A cursor at `offset`, which may lie past the end (every read then fails).
    #[must_use]
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Cursor { bytes, offset }
    }

    /// Offset of the next read from the start of the slice.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ShortRead> {
        let end = self.offset.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.offset..end)) {
            Some(taken) => {
                self.offset += len;
                Ok(taken)
            }
            None => Err(ShortRead {
                offset: self.offset,
                wanted: len,
                left: self.left(),
            }),
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ShortRead> {
        let taken = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    /// Moves on by `len` bytes without looking at them.
    pub fn skip(&mut self, len: usize) -> Result<(), ShortRead> {
        self.take(len).map(|_| ())
    }

    pub fn u8(&mut self) -> Result<u8, ShortRead> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, ShortRead> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ShortRead> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, ShortRead> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ShortRead> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, ShortRead> {
        self.array().map(i64::from_le_bytes)
    }
}

/// The bytes before the first NUL, or all of them: how the kernel and ELF keep names.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    match memchr::memchr(0, bytes) {
        Some(end) => &bytes[..end],
        None => bytes,
    }
}

/// Calls `each` with the place of every NUL, in order: faster than one search after the
/// other where strings are short.
#[inline]
pub fn each_nul<E>(bytes: &[u8], mut each: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bit of each byte that is zero.
        let mut nuls = !((word & LOW).wrapping_add(LOW) | word | LOW);
        while nuls != 0 {
            each(number * 8 + nuls.trailing_zeros() as usize / 8)?;
            nuls &= nuls - 1;
        }
    }
    for (at, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == 0) {
        each(words.len() * 8 + at)?;
    }
    Ok(())
}

/// The NUL-terminated string that begins at `offset`, without its NUL; `None`
/// when the offset is outside or no NUL follows.
#[must_use]
pub fn string_at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let tail = bytes.get(offset..)?;
    memchr::memchr(0, tail).map(|end| &tail[..end])
}

/// The bytes up to the last newline, that included; none when there is no newline.
#[must_use]
pub fn whole_lines(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1)]
}

/// The offset after the first newline.
#[must_use]
pub fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|at| at + 1)
}

/// Up to eight bytes as a number.
#[must_use]
pub fn little_endian(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev().take(8);
    bytes.fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Two lower-case hexadecimal digits for each byte, as build-ids are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// The offset of the first occurrence of `needle`.
#[must_use]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nul_is_found_once_and_nothing_else() {
        let mut bytes: Vec<u8> = (0..=255).chain([0, 0, 1, 0x80, 0xff, 0]).collect();
        for _ in 0..9 {
            let known: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == 0).collect();
            let mut found = Vec::new();
            let kept: Result<(), ()> = each_nul(&bytes, |at| {
                found.push(at);
                Ok(())
            });
            assert_eq!(kept, Ok(()));
            assert_eq!(found, known);
            bytes.rotate_left(1);
            bytes.push(0);
        }
    }

    #[test]
    fn reads_in_order_and_names_where_it_ran_out() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0, 9]);
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        assert_eq!(cursor.u32(), Ok(3));
        assert_eq!(
            cursor.u64(),
            Err(ShortRead {
                offset: 7,
                wanted: 8,
                left: 1
            })
        );
        assert_eq!(cursor.u8(), Ok(9), "a failed read moves nothing");
    }

    #[test]
    fn lengths_near_the_end_of_the_address_space_do_not_wrap() {
        let mut cursor = Cursor::at(&[0; 4], usize::MAX);
        assert!(cursor.take(usize::MAX).is_err());
        assert_eq!(cursor.left(), 0);
    }

    #[test]
    fn strings_need_their_nul() {
        assert_eq!(string_at(b"ab\0cd", 1), Some(&b"b"[..]));
        assert_eq!(string_at(b"ab\0cd", 3), None);
        assert_eq!(string_at(b"ab\0cd", 9), None);
        assert_eq!(until_nul(b"cd"), b"cd");
    }
}
