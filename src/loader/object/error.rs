//! Why an object is refused, with the offending place and value.

use std::fmt;

use crate::base::error::Error;
use crate::loader::btf::BtfError;

/// Why an object could not be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// The file is not a BPF object: the field that shows it, and its value.
    NotBpf {
        field: &'static str,
        value: u64,
    },
    /// A table or section lies outside of the file.
    Outside {
        what: &'static str,
        offset: u64,
    },
    /// goblin refused a table.
    Malformed {
        what: &'static str,
    },
    /// A section that must be there is not.
    Missing {
        section: &'static str,
    },
    /// A relocation of a kind, or to a place, that is not handled.
    BadRelocation {
        section: u32,
        offset: u64,
        kind: u32,
    },
    /// A symbol has no place in this file.
    BadSymbol {
        index: u32,
    },
    /// A function does not consist of whole instructions.
    BadFunction {
        section: u32,
        offset: u64,
    },
    Btf(BtfError),
}

impl From<BtfError> for ObjectError {
    fn from(error: BtfError) -> Self {
        ObjectError::Btf(error)
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ObjectError::NotBpf { field, value } => {
                write!(f, "no BPF object: {field} is {value:#x}")
            }
            ObjectError::Outside { what, offset } => {
                write!(f, "{what} at {offset:#x} lies outside of the file")
            }
            ObjectError::Malformed { what } => write!(f, "{what} is malformed"),
            ObjectError::Missing { section } => write!(f, "no section {section}"),
            ObjectError::BadRelocation {
                section,
                offset,
                kind,
            } => write!(
                f,
                "section {section}: relocation of kind {kind} at {offset:#x} is not supported"
            ),
            ObjectError::BadSymbol { index } => {
                write!(f, "symbol {index} is not defined in this file")
            }
            ObjectError::BadFunction { section, offset } => {
                write!(f, "section {section}: function at {offset:#x} is cut")
            }
            ObjectError::Btf(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ObjectError {}

impl From<ObjectError> for Error {
    fn from(error: ObjectError) -> Self {
        Error::failed(error.to_string())
    }
}
