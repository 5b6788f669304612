//! All outputs of a run: one, or each `-o` that was given.
//!
//! A single output holds up the tool while its reader is stopped, and its end is the end of the
//! tool. Of several, none holds up or ends the others: what one cannot take waits in its own
//! queue until the next report or the end of the tool, and is counted if the queue is full.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::sink::Sink;
use crate::base::error::{Kind, Result};
use crate::config::{Format, Rotation};
use crate::sys::messages;

#[derive(Debug)]
struct Output {
    format: Format,
    sink: Sink,
    /// Its reader went away; the others go on.
    is_gone: bool,
    /// Reports after that.
    missed: u64,
}

/// At least one output.
#[derive(Debug)]
pub struct Outputs(Vec<Output>);

impl Outputs {
    /// Opens each as [`Sink::open`] does; one that cannot be opened is an error.
    pub fn open(wanted: &[(Option<&Path>, Format)], append: bool) -> Result<Outputs> {
        let open = |&(path, format): &(Option<&Path>, Format)| {
            Ok(Output {
                format,
                sink: Sink::open(path, append)?,
                is_gone: false,
                missed: 0,
            })
        };
        wanted.iter().map(open).collect::<Result<_>>().map(Outputs)
    }

    /// As [`Sink::rotate`], for each.
    pub fn rotate(&mut self, rotation: Option<Rotation>) {
        self.0.iter_mut().for_each(|o| o.sink.rotate(rotation));
    }

    /// Divides this memory among them.
    pub fn limit_queue(&mut self, bytes: usize) {
        let each = bytes / self.0.len();
        self.0.iter_mut().for_each(|o| o.sink.limit_queue(each));
    }

    /// Whether the only output waits for its reader. Several never hold up the tool.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.len() == 1 && self.0[0].sink.is_blocked()
    }

    /// Of the output that [`Outputs::is_blocked`] means.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0[0].sink.fd()
    }

    #[must_use]
    pub fn is_named(&self) -> bool {
        self.0.iter().any(|o| o.sink.is_named())
    }

    #[must_use]
    pub fn reports_not_written(&self) -> u64 {
        self.0.iter().map(Output::not_written).sum()
    }

    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.iter().map(|o| o.sink.errors()).sum()
    }

    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.iter().map(|o| o.sink.queued_bytes()).sum()
    }

    /// Writes a report to each, in its format. An error means that no output is left.
    pub fn write(&mut self, mut report: impl FnMut(Format) -> Vec<u8>) -> Result<()> {
        let gone = self.0.iter_mut().filter(|o| o.is_gone);
        gone.for_each(|o| o.missed += 1);
        self.each(|output| {
            let report = report(output.format);
            output.sink.write(&report).map(|_| ())
        })
    }

    /// Writes what waits. Errors as in [`Outputs::write`].
    pub fn go_on(&mut self) -> Result<()> {
        self.each(|output| output.sink.go_on())
    }

    /// As [`Sink::reopen`], for each.
    pub fn reopen(&mut self) {
        self.0.iter_mut().for_each(|o| o.sink.reopen());
    }

    /// As [`Sink::end`]; `patience` is for all of them together.
    pub fn end(&mut self, patience: Duration) {
        let each = patience / self.0.len() as u32;
        self.0.iter_mut().for_each(|o| o.sink.end(each));
    }

    /// As [`Sink::finish`], for each.
    pub fn finish(&mut self) -> Result<u64> {
        let mut lost = 0;
        self.each(|output| {
            lost += output.sink.finish()?;
            Ok(())
        })?;
        let gone = self.0.iter().filter(|o| o.is_gone);
        lost += gone.map(Output::not_written).sum::<u64>();
        Ok(lost)
    }

    fn each(&mut self, mut attempt: impl FnMut(&mut Output) -> Result<()>) -> Result<()> {
        let is_only = self.0.len() == 1;
        let mut last = Ok(());
        for output in &mut self.0 {
            if output.is_gone {
                continue;
            }
            match attempt(output) {
                Err(error) if error.kind() == Kind::BrokenPipe && !is_only => {
                    messages::say(&format!("Warning: {error}; the other outputs go on"));
                    output.is_gone = true;
                    last = Err(error);
                }
                result => result?,
            }
        }
        match self.0.iter().all(|o| o.is_gone) {
            true => last,
            false => Ok(()),
        }
    }
}

impl Output {
    fn not_written(&self) -> u64 {
        self.sink.reports_not_written() + self.missed
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
