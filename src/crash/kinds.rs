//! How memory was accessed, and who sent a signal.

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Execute,
}

impl Access {
    pub const ALL: [Access; 3] = [Access::Read, Access::Write, Access::Execute];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Execute => "execute",
        }
    }
}

/// Who sent a signal, as the target's namespaces see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// `None` if the sender has no number there.
    pub pid: Option<u32>,
    pub uid: Option<u32>,
}
