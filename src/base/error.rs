//! The error that reaches the user, and the exit status that goes with it.
//!
//! Parsers have small `Copy` errors of their own that carry the offending
//! value. If one reaches the user, it becomes an [`Error`]: the operation, its object,
//! what was found, and, if it is known, what to do about it.
//! Each layer adds a few lowercase words with [`Context::context`]; the chain
//! prints on one line, outermost first: `load program segfault_probe: bpf(PROG_LOAD): EACCES`.
//!
//! A failed frame or symbol is not an error: it is data in the report.

use std::borrow::Cow;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of error; it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something failed while running.
    Failed,
    /// The command line was wrong.
    Usage,
    /// The caller may not do this.
    NotPermitted,
    /// The kernel lacks something that is needed.
    Unsupported,
    /// The reader of our output has gone: an end, not a failure.
    BrokenPipe,
}

impl Kind {
    /// The process's exit status for an error of this kind.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Kind::BrokenPipe => 0,
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotPermitted => 3,
            Kind::Unsupported => 4,
        }
    }
}

/// A failure on its way to the user.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    /// Outermost last: contexts are pushed as the error travels up.
    chain: Vec<Cow<'static, str>>,
    /// What the user can do, printed on a line of its own.
    hint: Option<Cow<'static, str>>,
    /// The operating system's number for it, for callers that decide by it.
    errno: Option<i32>,
}

impl Error {
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error {
            kind,
            chain: vec![message.into()],
            hint: None,
            errno: None,
        }
    }

    #[must_use]
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Failed, message)
    }

    #[must_use]
    pub fn usage(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Usage, message)
    }

    #[must_use]
    pub fn not_permitted(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::NotPermitted, message)
    }

    #[must_use]
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Unsupported, message)
    }

    /// A failed system call: its name as the kernel knows it, and its errno.
    #[must_use]
    pub fn syscall(call: &str, errno: i32) -> Self {
        let reason = std::io::Error::from_raw_os_error(errno);
        let kind = match errno {
            libc::EPERM | libc::EACCES => Kind::NotPermitted,
            libc::EPIPE => Kind::BrokenPipe,
            libc::ENOSYS => Kind::Unsupported,
            _ => Kind::Failed,
        };
        let mut error = Error::new(kind, format!("{call}: {reason}"));
        error.errno = Some(errno);
        error
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was being done when this happened.
    #[must_use]
    pub fn context(mut self, context: impl Into<Cow<'static, str>>) -> Self {
        self.chain.push(context.into());
        self
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, layer) in self.chain.iter().rev().enumerate() {
            if depth > 0 {
                f.write_str(": ")?;
            }
            f.write_str(layer)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => {
                let mut plain = Error::syscall("", errno);
                plain.chain = vec![error.to_string().into()];
                plain
            }
            None => Error::failed(error.to_string()),
        }
    }
}

/// Adds context to whatever can become an [`Error`].
pub trait Context<T> {
    /// Adds words that are made only when there is an error.
    fn context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_reads_outermost_first_on_one_line() {
        let error = Error::syscall("bpf(BPF_PROG_LOAD)", libc::EPERM)
            .context("program segfault_probe")
            .context("load");
        assert_eq!(
            error.to_string(),
            "load: program segfault_probe: bpf(BPF_PROG_LOAD): Operation not permitted (os error 1)"
        );
        assert_eq!(error.kind().exit_status(), 3);
        assert_eq!(error.errno(), Some(libc::EPERM));
    }
}
