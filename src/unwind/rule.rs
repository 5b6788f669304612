//! One row of call-frame information.
//!
//! ```text
//! cfa        = register + n                  | value of an expression
//! register'  = [cfa + n] | cfa + n | register | [expression] | expression
//! sp'        = cfa, unless the row says otherwise
//! pc'        = register' of the return address column
//! ```
//!
//! `cfi` reads rows, and so do `exidx` and `arm_code`; `apply` computes a caller's registers
//! by one. This file does not know how they are encoded.

use std::mem::size_of;
use std::ops::Range;

use crate::base::address::FileAddress;

/// Bytes of [`Rule::expressions`].
pub(super) type Slice = Range<u32>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cfa {
    Register(u16, i64),
    Expression(Slice),
}

/// How a column of the caller is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Undefined,
    Same,
    /// `[cfa + n]`
    At(i64),
    /// `cfa + n`
    Value(i64),
    Register(u16),
    AtExpression(Slice),
    ValueExpression(Slice),
}

/// A row, independent of where its file is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) cfa: Cfa,
    pub(super) columns: Box<[(u16, Column)]>,
    pub(super) return_column: u16,
    pub(super) expressions: Box<[u8]>,
    /// The frame of a signal: the code that it returns to was interrupted.
    pub(super) signal: bool,
    /// It is in `.debug_frame`.
    pub(super) debug: bool,
    /// It holds where functions are called, and perhaps not in a prologue or epilogue.
    pub(super) at_calls: bool,
    /// The first address that the entry is for.
    pub(super) start: FileAddress,
}

/// Units of work for a row, and for each of its expressions, which may loop.
const ROW: u64 = 256;
const EXPRESSION: u64 = 16 << 10;

impl Rule {
    /// What applying it may cost.
    pub(super) fn work(&self) -> u64 {
        let expressions = match self.expressions.len() {
            0 => 0,
            _ => 1 + self.columns.len() as u64,
        };
        ROW + expressions * EXPRESSION
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Rule>() + self.columns.len() * size_of::<(u16, Column)>() + self.expressions.len()
    }

    pub(super) fn column(&self, number: u16) -> Option<&Column> {
        let found = self.columns.iter().find(|(column, _)| *column == number);
        found.map(|(_, column)| column)
    }
}
