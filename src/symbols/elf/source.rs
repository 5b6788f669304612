//! The source of an ELF file's bytes: a file read with `pread`, or memory.
//!
//! Reads past the end are short, never errors: a parser asks for what it needs
//! and says itself what is missing. [`Strings`] is a window on a string table. Where a
//! report's [`Allowance`] is used up there are no more bytes ([`Source::is_out`]).

#[cfg(any(feature = "dwz", feature = "split"))]
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::allowance::Allowance;
use crate::base::bytes;
use crate::sys::file::{Refusal, RegularFile, Status};

/// The longest name that is read; the rest of a longer one is left out.
pub const MAX_NAME: usize = 4096;

/// Units of work that a read costs, however short it is.
const READ: u64 = 512;

#[derive(Debug)]
enum Bytes {
    /// With what it was when it was opened.
    File {
        file: RegularFile,
        status: Status,
    },
    Memory(Vec<u8>),
}

/// The bytes of an ELF file.
#[derive(Debug)]
pub struct Source {
    bytes: Bytes,
    allowance: Option<Rc<Allowance>>,
}

impl Source {
    /// A file, as it is now.
    pub fn file(file: RegularFile) -> Result<Self, Refusal> {
        let status = file.status()?;
        Ok(Source {
            bytes: Bytes::File { file, status },
            allowance: None,
        })
    }

    #[must_use]
    pub fn memory(bytes: Vec<u8>) -> Self {
        Source {
            bytes: Bytes::Memory(bytes),
            allowance: None,
        }
    }

    /// The same, with all work on it limited.
    #[must_use]
    pub fn within(self, allowance: Option<&Rc<Allowance>>) -> Self {
        Source {
            allowance: allowance.cloned(),
            ..self
        }
    }

    #[must_use]
    pub fn allowance(&self) -> Option<&Rc<Allowance>> {
        self.allowance.as_ref()
    }

    /// Takes work that is about to be done with what was read; whether it may be done.
    #[must_use]
    pub fn work(&self, units: u64) -> bool {
        self.allowance.as_ref().is_none_or(|left| left.take(units))
    }

    /// Whether what was read last may not be all that there is.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.allowance.as_ref().is_some_and(|left| left.is_out())
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::File { .. } => 0,
            Bytes::Memory(bytes) => bytes.len(),
        }
    }

    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self.bytes, Bytes::Memory(_))
    }

    /// Where the file is, seen from our own root; memory is nowhere.
    #[cfg(any(feature = "dwz", feature = "split"))]
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match &self.bytes {
            Bytes::File { file, .. } => file.path(),
            Bytes::Memory(_) => None,
        }
    }

    /// Whether the file is unchanged since it was opened. It may have lost its name, but must
    /// not have been written to.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Bytes::File { file, status } = &self.bytes else {
            return true;
        };
        file.status().is_ok_and(|now| {
            // With its name a file changes too.
            let is_same = now.changed_unix_ns == status.changed_unix_ns || now.links < status.links;
            is_same
                && (now.size, now.mtime_s, now.mtime_ns)
                    == (status.size, status.mtime_s, status.mtime_ns)
        })
    }

    /// When the file had last changed as it was opened; memory does not.
    #[must_use]
    pub fn changed_unix_ns(&self) -> i64 {
        match &self.bytes {
            Bytes::File { status, .. } => status.changed_unix_ns,
            Bytes::Memory(_) => i64::MIN,
        }
    }

    /// Whose file it is; memory is nobody's.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        match &self.bytes {
            Bytes::File { status, .. } => Some(status.owner),
            Bytes::Memory(_) => None,
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.bytes {
            Bytes::File { status, .. } => status.size,
            Bytes::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buf` as far as there are bytes; how many there were.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        if !self.work(READ + buf.len() as u64) {
            return 0;
        }
        match &self.bytes {
            Bytes::File { file, .. } => file.read_at(offset, buf),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or(&[]);
                let len = rest.len().min(buf.len());
                buf[..len].copy_from_slice(&rest[..len]);
                len
            }
        }
    }

    /// All of `buf`, or `None`.
    pub fn read_exact(&self, offset: u64, buf: &mut [u8]) -> Option<()> {
        (self.read_at(offset, buf) == buf.len()).then_some(())
    }

    /// `len` bytes, which the caller has bounded; `None` if there are fewer.
    #[must_use]
    pub fn read_vec(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        // Nothing is allocated for more bytes than the file has.
        let end = offset.checked_add(len as u64)?;
        if end > self.size() {
            return None;
        }
        let mut buf = vec![0; len];
        self.read_exact(offset, &mut buf)?;
        Some(buf)
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FileRange {
    pub offset: u64,
    pub size: u64,
}

impl FileRange {
    /// The part that the file really has.
    #[must_use]
    pub fn within(self, size: u64) -> Self {
        let left = size.saturating_sub(self.offset);
        FileRange {
            offset: self.offset,
            size: self.size.min(left),
        }
    }
}

/// A string table, seen through a window that moves.
#[derive(Debug)]
pub(super) struct Strings<'a> {
    source: &'a Source,
    range: FileRange,
    /// Offset of the window's first byte in the table.
    start: u64,
    window: Vec<u8>,
}

impl<'a> Strings<'a> {
    const WINDOW: u64 = 32 * 1024;

    #[must_use]
    pub(super) fn new(source: &'a Source, range: FileRange) -> Self {
        Strings {
            source,
            range: range.within(source.size()),
            start: 0,
            window: Vec::new(),
        }
    }

    /// The name at `offset`, at most [`MAX_NAME`] bytes of it.
    pub(super) fn get(&mut self, offset: u64) -> Option<&[u8]> {
        if offset >= self.range.size {
            return None;
        }
        let wanted = (self.range.size - offset).min(MAX_NAME as u64);
        let inside = offset.checked_sub(self.start).is_some_and(|at| {
            let held = self.window.len() as u64;
            at.checked_add(wanted).is_some_and(|end| end <= held)
        });
        if !inside {
            self.load(offset)?;
        }
        let at = usize::try_from(offset - self.start).ok()?;
        let tail = self.window.get(at..)?;
        Some(bytes::until_nul(&tail[..tail.len().min(MAX_NAME)]))
    }

    fn load(&mut self, offset: u64) -> Option<()> {
        // Some of the bytes before, too: symbols are not in the order of the strings.
        let start = offset.saturating_sub(Self::WINDOW / 4);
        let len = (self.range.size - start).min(Self::WINDOW);
        self.window.resize(usize::try_from(len).ok()?, 0);
        let place = self.range.offset.checked_add(start)?;
        let read = self.source.read_at(place, &mut self.window);
        self.window.truncate(read);
        self.start = start;
        Some(())
    }
}
