//! Where reports go: standard output or the file of `-o`.
//!
//! Each report is one write, complete before the next begins. A report that cannot be
//! written now (full disk, stopped reader) waits in a bounded queue and is tried again
//! with the next report and at the end; if the queue is full, the report is counted. If a
//! file of ours took only a part of a report, that part is cut off again, so that no half
//! line stays; elsewhere the rest follows later. Trouble is reported once on standard
//! error, and so is its end.
//!
//! A stopped reader must not stop the tool, so no write waits for a reader. The caller
//! asks [`Sink::is_blocked`], watches [`Sink::fd`] together with everything else, and calls
//! it again when the reader goes on. Only at the end of the tool ([`Sink::end`]) does a
//! write wait, and no longer than the caller allows.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::{Error, Kind, Result};
use crate::config::Rotation;
use crate::sys::messages;
use crate::sys::output_file::{self, Fifo, FileKind, OpenFile, WriteError};

/// The memory of all waiting reports together.
const QUEUE_BYTES: usize = 1 << 20;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on disk or in the pipe, and so is everything before it.
    Now,
    /// It waits.
    Later,
    /// There was no room to wait: it is lost, and counted.
    Lost,
}

/// How an attempt to write the first of the queue ended.
enum Attempt {
    Done,
    /// The reader takes nothing now.
    Blocked,
    Failed(WriteError),
}

/// An output for reports.
#[derive(Debug)]
pub struct Sink {
    file: OpenFile,
    /// `None` is standard output.
    path: Option<PathBuf>,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    queue_limit_bytes: usize,
    /// Bytes of the first in the queue that were written and could not be undone.
    written_of_first: usize,
    is_blocked: bool,
    /// How long a write waits for a reader who takes nothing, once the tool is ending.
    patience: Option<Duration>,
    /// The last attempt failed, and a message said so.
    in_trouble: bool,
    lost: u64,
    errors: u64,
    rotation: Option<Rotation>,
}

impl Sink {
    /// Opens the output before anything else happens. A missing file is made with mode 0600; an
    /// existing one is emptied unless `append`. In a FIFO without a reader, reports wait for one.
    pub fn open(path: Option<&Path>, append: bool) -> Result<Sink> {
        let file = match path {
            None => output_file::open_stdout()?,
            Some(path) => output_file::open(path, Fifo::Hold).map_err(|e| opening(e, path))?,
        };
        if let (Some(path), false, true, FileKind::Appended) = (path, append, file.named, file.kind)
        {
            if !output_file::truncate(&file.fd, 0) {
                return Err(opening(Error::failed("cannot empty it"), path));
            }
        }
        end_line(&file);
        if file.is_held {
            let path = path.unwrap_or(Path::new("")).display();
            say(&format!("{path} has no reader yet; reports wait for one"));
        }
        Ok(Sink {
            file,
            path: path.map(Path::to_path_buf),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_limit_bytes: QUEUE_BYTES,
            written_of_first: 0,
            is_blocked: false,
            patience: None,
            in_trouble: false,
            lost: 0,
            errors: 0,
            rotation: None,
        })
    }

    /// From here on a file of ours that grows is put aside, if it was opened by name.
    pub fn rotate(&mut self, rotation: Option<Rotation>) {
        let can = self.file.named && self.file.kind == FileKind::Appended;
        self.rotation = rotation.filter(|_| can);
    }

    /// Puts the file aside if the report does not fit.
    fn make_room(&mut self, bytes: usize) {
        let (Some(rotation), Some(path), 0) = (self.rotation, &self.path, self.written_of_first)
        else {
            return;
        };
        let size = output_file::size(&self.file.fd).unwrap_or(0);
        if size == 0 || size.saturating_add(bytes as u64) <= rotation.bytes {
            return;
        }
        match output_file::put_aside(path, &self.file.fd, rotation.keep) {
            Ok(()) => self.reopen(),
            Err(error) => {
                say(&format!("{}: {error}; it is not rotated", path.display()));
                self.rotation = None;
            }
        }
    }

    /// Limits the memory of waiting reports to this, or to the default if that is less.
    pub fn limit_queue(&mut self, bytes: usize) {
        self.queue_limit_bytes = self.queue_limit_bytes.min(bytes);
    }

    /// Whether a report waits for a reader who took nothing, so that the next one is
    /// better written later: [`Sink::go_on`] when [`Sink::fd`] is writable.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.fd.as_fd()
    }

    /// Writes the waiting reports. Errors as in [`Sink::write`].
    pub fn go_on(&mut self) -> Result<()> {
        self.flush()
    }

    /// Whether this is a file that was opened by name, so that [`Sink::reopen`] has an effect.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.file.named
    }

    /// Reports that are not in the output: lost, or still waiting.
    #[must_use]
    pub fn reports_not_written(&self) -> u64 {
        self.lost.saturating_add(self.queue.len() as u64)
    }

    /// Attempts to write that failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Memory that waiting reports take.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Writes a report after those that wait. An error means the end of the output:
    /// [`Kind::BrokenPipe`].
    pub fn write(&mut self, report: &[u8]) -> Result<Written> {
        let fits = self.queued_bytes.saturating_add(report.len()) <= self.queue_limit_bytes;
        let room = fits || self.queue.is_empty();
        if room {
            self.queue.push_back(report.to_vec());
            self.queued_bytes += report.len();
        }
        self.flush()?;
        if !room {
            // The queue may have gone meanwhile, and with it the reason.
            if self.queue.is_empty() {
                return self.write(report);
            }
            self.lost += 1;
            return Ok(Written::Lost);
        }
        Ok(if self.queue.is_empty() {
            Written::Now
        } else {
            Written::Later
        })
    }

    /// Opens the file of `-o` again, as after a rotation; never truncates. If that fails, the
    /// old one stays, and a message says so.
    pub fn reopen(&mut self) {
        let (Some(path), true) = (&self.path, self.file.named) else {
            return;
        };
        match output_file::open(path, Fifo::Refuse) {
            Ok(file) => {
                end_line(&file);
                self.file = file;
                self.written_of_first = 0;
            }
            Err(error) => {
                let error = opening(error, path);
                say(&format!("{error}; still writing to the old file"));
            }
        }
    }

    /// From here on, a write waits at most `patience` for the reader. After that, neither this
    /// report nor later ones wait.
    pub fn end(&mut self, patience: Duration) {
        self.is_blocked = false;
        self.patience = Some(patience);
    }

    /// Tries the waiting reports once more, after [`Sink::end`], and gives up the rest; the
    /// result is the number of reports that were lost in all.
    pub fn finish(&mut self) -> Result<u64> {
        self.patience.get_or_insert(Duration::ZERO);
        self.flush()?;
        self.lost += self.queue.len() as u64;
        self.queue.clear();
        self.queued_bytes = 0;
        let unread = output_file::unread_bytes(&self.file.fd);
        if self.file.is_held && unread > 0 {
            say(&format!("{unread} bytes in {} were not read", self.name()));
        }
        if self.lost > 0 {
            say(&format!("{} reports could not be written", self.lost));
        }
        Ok(self.lost)
    }

    /// Writes waiting reports until none is left or a write fails.
    fn flush(&mut self) -> Result<()> {
        self.is_blocked = false;
        while let Some(report) = self.queue.pop_front() {
            match self.attempt(&report) {
                Attempt::Done => {
                    self.queued_bytes -= report.len();
                    self.written_of_first = 0;
                    self.trouble_is_over();
                }
                Attempt::Blocked => {
                    self.queue.push_front(report);
                    // Who is waited for no more holds nothing up.
                    self.is_blocked = self.patience.is_none();
                    return Ok(());
                }
                Attempt::Failed(WriteError::BrokenPipe) => {
                    self.queue.push_front(report);
                    let message = format!("{}: {}", self.name(), WriteError::BrokenPipe);
                    return Err(Error::new(Kind::BrokenPipe, message));
                }
                Attempt::Failed(error) => {
                    self.queue.push_front(report);
                    self.trouble(error);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes the rest of the first report.
    fn attempt(&mut self, report: &[u8]) -> Attempt {
        self.make_room(report.len());
        let size_before = match self.file.kind {
            FileKind::Appended => output_file::size(&self.file.fd),
            FileKind::Inherited | FileKind::Stream => None,
        };
        let begun_at = self.written_of_first;
        while self.written_of_first < report.len() {
            match output_file::write(&self.file, &report[self.written_of_first..]) {
                Ok(taken) => self.written_of_first += taken,
                Err(WriteError::Interrupted) => {}
                Err(WriteError::WouldBlock) => {
                    let Some(patience) = self.patience else {
                        return Attempt::Blocked;
                    };
                    if !output_file::wait_writable(&self.file.fd, patience) {
                        self.patience = Some(Duration::ZERO);
                        return Attempt::Blocked;
                    }
                }
                Err(error) => {
                    self.undo(begun_at, size_before);
                    return Attempt::Failed(error);
                }
            }
        }
        Attempt::Done
    }

    /// Removes the bytes that this attempt wrote, if nothing else was written since.
    fn undo(&mut self, begun_at: usize, size_before: Option<u64>) {
        let Some(size_before) = size_before else {
            return;
        };
        let taken = (self.written_of_first - begun_at) as u64;
        let ours = size_before.checked_add(taken) == output_file::size(&self.file.fd);
        if taken > 0 && ours && output_file::truncate(&self.file.fd, size_before) {
            self.written_of_first = begun_at;
        }
    }

    fn trouble(&mut self, error: WriteError) {
        self.errors += 1;
        if !self.in_trouble {
            self.in_trouble = true;
            let name = self.name();
            say(&format!(
                "{name}: {error}; reports wait and are written with the next one"
            ));
        }
    }

    fn trouble_is_over(&mut self) {
        if self.in_trouble && self.queue.is_empty() {
            self.in_trouble = false;
            say(&format!(
                "{}: writing works again; {} reports were lost",
                self.name(),
                self.lost
            ));
        }
    }

    fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard output".to_string(),
        }
    }
}

/// Gives a line that was cut off in an earlier run its end, so that the next report begins
/// a line of its own. If that fails, so does the next report, and the message comes then.
fn end_line(file: &OpenFile) {
    if file.kind == FileKind::Appended && output_file::ends_within_line(&file.fd) {
        let _ = output_file::write(file, b"\n");
    }
}

fn opening(error: Error, path: &Path) -> Error {
    error.context(format!("open output file {}", path.display()))
}

/// A message for the user.
fn say(message: &str) {
    messages::say(&format!("Warning: {message}"));
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
