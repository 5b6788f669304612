//! Lines of files and of standard input, one after the other.
//!
//! In: the names that the user gave; none, or `-`, is standard input. Out: lines with
//! their newline, unchanged. A line that is longer than any report comes in pieces, so
//! that it can be passed on without being held in memory. If a file cannot be read, a
//! message says so, and the next one follows.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::say;
use crate::base::bytes;
use crate::base::error::{Error, Result};
use crate::sys::output_file::duplicate;

/// Longer than any report: 1,024 calls with 32 inlined ones each, at 500 bytes.
const MAX_LINE: usize = 16 << 20;
const BUFFER: usize = 64 << 10;
/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The next line, a piece of a long one, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Line(&'a [u8]),
    /// A part of a line that is too long.
    Piece(&'a [u8]),
    End,
}

/// All inputs, in their order.
#[derive(Debug)]
pub(super) struct Input {
    waiting: std::vec::IntoIter<PathBuf>,
    open: Option<(File, PathBuf)>,
    /// The last file that was read to its end.
    ended: Option<(File, PathBuf)>,
    /// The last file may grow: its last line may not be whole.
    follows: bool,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not handed out yet.
    start: usize,
    end: usize,
    max_line: usize,
    /// The last piece did not end its line.
    inside: bool,
    failed: bool,
    /// Lines that are not reports, and how many of them are too long.
    pub(super) foreign: u64,
    long: u64,
}

impl Input {
    pub(super) fn new(mut names: Vec<PathBuf>) -> Self {
        if names.is_empty() {
            names.push(PathBuf::from("-"));
        }
        Input {
            waiting: names.into_iter(),
            open: None,
            ended: None,
            follows: false,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            max_line: MAX_LINE,
            inside: false,
            failed: false,
            foreign: 0,
            long: 0,
        }
    }

    pub(super) fn next(&mut self) -> Next<'_> {
        let mut searched = self.start;
        let end = loop {
            if let Some(at) = bytes::line_end(&self.buffer[searched..self.end]) {
                break searched + at;
            }
            searched = self.end;
            if self.end - self.start >= self.max_line {
                break self.end;
            }
            if self.end == self.buffer.len() {
                self.make_room();
                searched = self.end;
            }
            if self.fill() {
                continue;
            }
            // A last line without newline.
            let grows = self.follows && self.waiting.as_slice().is_empty();
            if self.start < self.end && !grows {
                break self.end;
            }
            self.inside &= grows;
            if !self.open_next() {
                return Next::End;
            }
        };
        let text = &self.buffer[self.start..end];
        self.start = end;
        let whole = text.ends_with(b"\n") || text.len() < self.max_line;
        let first = !self.inside;
        self.inside = !whole;
        if first && whole {
            return Next::Line(text);
        }
        self.long += u64::from(first);
        Next::Piece(text)
    }

    /// Keeps the last file, for [`Input::wait`].
    pub(super) fn follow(&mut self) {
        self.follows = true;
    }

    /// Waits until the last file has grown, or another one has its name; false if there is
    /// none to wait for, as for a pipe.
    pub(super) fn wait(&mut self) -> bool {
        let Some((mut file, name)) = self.ended.take() else {
            return false;
        };
        let Ok(known) = file.metadata() else {
            return false;
        };
        if !known.is_file() {
            return false;
        }
        loop {
            // Before the sizes are compared: what the old file got until it was renamed is read.
            let named = std::fs::metadata(&name).ok();
            let size = file.metadata().map_or(0, |status| status.len());
            let at = file.stream_position().unwrap_or(0);
            let is_other = named
                .as_ref()
                .is_some_and(|named| (named.ino(), named.dev()) != (known.ino(), known.dev()));
            let next = match size.cmp(&at) {
                std::cmp::Ordering::Greater => Some(file.try_clone()),
                // It was truncated.
                std::cmp::Ordering::Less => {
                    self.start_anew();
                    Some(file.rewind().and_then(|()| file.try_clone()))
                }
                std::cmp::Ordering::Equal if is_other => {
                    self.start_anew();
                    Some(open(&name))
                }
                std::cmp::Ordering::Equal => None,
            };
            match next {
                Some(Ok(file)) => {
                    self.open = Some((file, name));
                    return true;
                }
                Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                    say(&format!("{}: {error}", name.display()));
                    self.failed = true;
                    return false;
                }
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Gives up the beginning of a line whose end will not come.
    fn start_anew(&mut self) {
        self.foreign += u64::from(self.start < self.end);
        self.start = self.end;
        self.inside = false;
    }

    /// Whether the next read would wait for the writer.
    pub(super) fn is_idle(&self) -> bool {
        self.start == self.end
    }

    /// Whether there was something that is not a report.
    pub(super) fn has_foreign(&self) -> bool {
        self.foreign + self.long > 0
    }

    /// Whether some of the input could not be read.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Says what was met, and whether it was all.
    pub(super) fn finish(&self) -> Result<()> {
        for (count, what) in [
            (self.foreign, "not a report"),
            (self.long, "longer than 16 MB"),
        ] {
            match count {
                0 => {}
                1 => say(&format!("1 line was skipped: {what}")),
                _ => say(&format!("{count} lines were skipped, each {what}")),
            }
        }
        if self.failed {
            return Err(Error::failed("some of the input could not be read"));
        }
        Ok(())
    }

    /// At the end of the buffer, which holds the beginning of a line.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end > self.buffer.len() / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> bool {
        let Some((file, name)) = &mut self.open else {
            return false;
        };
        // No more than the longest line.
        let room = self.buffer.len().min(self.start + self.max_line);
        loop {
            match file.read(&mut self.buffer[self.end..room]) {
                Ok(0) => break,
                Ok(count) => {
                    self.end += count;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    say(&format!("{}: {error}", name.display()));
                    self.failed = true;
                    break;
                }
            }
        }
        self.ended = self.open.take();
        false
    }

    /// Begins with the next input that can be opened; false if there is none.
    fn open_next(&mut self) -> bool {
        for name in self.waiting.by_ref() {
            match open(&name) {
                Ok(file) => {
                    self.open = Some((file, name));
                    return true;
                }
                Err(error) => {
                    say(&format!("{}: {error}", name.display()));
                    self.failed = true;
                }
            }
        }
        false
    }
}

fn open(name: &Path) -> io::Result<File> {
    if name.as_os_str() == "-" {
        return Ok(File::from(duplicate(0)?));
    }
    File::open(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces that a text gives, in a file of its own.
    fn all(text: &[u8], max_line: usize) -> Vec<(String, String)> {
        let path = std::env::temp_dir().join(format!(
            "segfault_analyzer-input-{}-{:x}",
            std::process::id(),
            text.as_ptr() as usize
        ));
        std::fs::write(&path, text).unwrap();
        let mut input = Input::new(vec![path.clone(), path.clone()]);
        input.buffer = vec![0; 3];
        input.max_line = max_line;
        let mut found = Vec::new();
        loop {
            let (kind, text) = match input.next() {
                Next::Line(text) => ("line", text),
                Next::Piece(text) => ("piece", text),
                Next::End => break,
            };
            found.push((kind.to_owned(), String::from_utf8(text.to_vec()).unwrap()));
        }
        std::fs::remove_file(path).unwrap();
        assert!(!input.failed && input.is_idle());
        // The file was given twice.
        let second = found.split_off(found.len() / 2);
        assert_eq!(found, second);
        found
    }

    fn lines(text: &[u8], max_line: usize) -> Vec<String> {
        let line = |(kind, text): (String, String)| {
            assert_eq!(kind, "line");
            text
        };
        all(text, max_line).into_iter().map(line).collect()
    }

    #[test]
    fn lines_come_with_their_newlines() {
        assert_eq!(lines(b"", 8), [""; 0]);
        assert_eq!(lines(b"ab\n\nc", 8), ["ab\n", "\n", "c"]);
        assert_eq!(lines(b"1234567\n12", 8), ["1234567\n", "12"]);
        let long = format!("{}\n", "x".repeat(10_000));
        assert_eq!(lines(long.repeat(3).as_bytes(), MAX_LINE), vec![long; 3]);
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_pieces() {
        let text = "1234567812345678123\nab\n12345678\nc";
        let found = all(text.as_bytes(), 8);
        let kinds: Vec<&str> = found.iter().map(|(kind, _)| &**kind).collect();
        let (piece, line) = ("piece", "line");
        assert_eq!(kinds, [piece, piece, piece, line, piece, piece, line]);
        let joined: String = found.into_iter().map(|(_, text)| text).collect();
        assert_eq!(joined, text);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_remembered() {
        let mut input = Input::new(vec!["/nonexistent".into(), "/".into(), "/dev/null".into()]);
        assert_eq!(input.next(), Next::End);
        assert!(input.failed);
    }
}
