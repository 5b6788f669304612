//! One row of call-frame information, and the register set that it gives.
//!
//! ```text
//! cfa        = register + n                  | value of an expression
//! register'  = [cfa + n] | cfa + n | register | [expression] | expression
//! sp'        = cfa, unless the row says otherwise
//! pc'        = register' of the return address column
//! ```
//!
//! `cfi` reads the rows; this file does not know their encoding. A register that the row
//! leaves out keeps its value if calls preserve it, and is forgotten otherwise (elfutils
//! does so too; gdb keeps it and may use a stale value).

use std::mem::size_of;
use std::ops::Range;

use super::architecture::{Architecture, Caller, State};
use super::failure::Failure;
use super::stack::word;
use super::AddressSpace;
use crate::base::address::{FileAddress, ProcessAddress};

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

/// What a row gives; `None` if the return address is explicitly undefined:
/// the frame is outermost.
pub(super) type Applied = Option<Caller>;

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

    /// The caller's registers from those of the frame; `bias` is the file's.
    pub(super) fn apply<A: Architecture>(
        &self,
        state: &State,
        space: &dyn AddressSpace,
        bias: u64,
    ) -> Result<Applied, Failure> {
        let returns = self.column(self.return_column);
        if returns == Some(&Column::Undefined) {
            return Ok(None);
        }
        // The frame's own pc is not a return address.
        if returns.is_none() && self.return_column == A::PROGRAM_COUNTER {
            return Err(Failure::Unusable);
        }
        let within = Within {
            rule: self,
            state,
            space,
            bias,
        };
        let (cfa, assumed) = within.cfa::<A>()?;
        let mut next = *state;
        if !self.signal {
            next.keep_behind_call(A::PRESERVED);
        }
        next.set(A::STACK_POINTER, cfa);
        for (number, column) in &self.columns {
            match within.value::<A>(*number, column, cfa) {
                Ok(Some(value)) => next.set(*number, value),
                Ok(None) => next.forget(*number),
                Err(_) if *number == self.return_column && assumed => {
                    return Err(Failure::Unusable)
                }
                Err(failure) if *number == self.return_column => return Err(failure),
                // A register that turns out to be needed is missed then.
                Err(_) => next.forget(*number),
            }
        }
        // Same-value return addresses (a leaf's link register) are not preserved.
        let value = match returns {
            None | Some(Column::Same) => state.get(self.return_column),
            Some(_) => next.get(self.return_column),
        };
        let value = value.ok_or(Failure::Unusable)?;
        let pc = A::code_pointer(space, value);
        if !self.signal && self.return_column != A::PROGRAM_COUNTER {
            // A caller that claims still to have it there would return to itself.
            next.forget(self.return_column);
        }
        next.set(A::PROGRAM_COUNTER, pc.0);
        A::set_mode(&mut next, value);
        let caller = A::caller(next);
        Ok(Some(Caller {
            signal: self.signal,
            debug: self.debug,
            assumed,
            ..caller
        }))
    }
}

/// A row at work on one frame.
struct Within<'a> {
    rule: &'a Rule,
    state: &'a State,
    space: &'a dyn AddressSpace,
    bias: u64,
}

impl Within<'_> {
    /// The CFA, and whether it is only right if the callee has left a register alone: some
    /// assembly keeps it in a register that callees may use (OpenSSL's AVX code in rax).
    fn cfa<A: Architecture>(&self) -> Result<(u64, bool), Failure> {
        let (number, offset) = match &self.rule.cfa {
            Cfa::Register(number, offset) => (*number, *offset as u64),
            Cfa::Expression(slice) => return Ok((self.expression::<A>(slice, None)?, false)),
        };
        let at = |value: u64| value.wrapping_add(offset) & A::LAST;
        match self.state.get(number) {
            Some(value) => Ok((at(value), false)),
            None if number == A::STACK_POINTER => Ok((self.cfa_by_record::<A>()?, false)),
            None => {
                let left = self.state.left_alone(number).ok_or(Failure::Unusable)?;
                Ok((at(left), true))
            }
        }
    }

    /// The frame pointer points to the place where the caller's value was saved. From that the
    /// row gives the end of the frame if only the frame pointer is known.
    fn cfa_by_record<A: Architecture>(&self) -> Result<u64, Failure> {
        let fp = self.state.get(A::FRAME_POINTER);
        match (fp, self.rule.column(A::FRAME_POINTER)) {
            (Some(fp), Some(Column::At(offset))) => Ok(fp.wrapping_sub(*offset as u64)),
            _ => Err(Failure::Unusable),
        }
    }

    fn value<A: Architecture>(
        &self,
        number: u16,
        column: &Column,
        cfa: u64,
    ) -> Result<Option<u64>, Failure> {
        Ok(match column {
            Column::Undefined => None,
            Column::Same => self.state.get(number),
            Column::At(offset) => Some(self.word::<A>(cfa.wrapping_add(*offset as u64))?),
            Column::Value(offset) => Some(cfa.wrapping_add(*offset as u64)),
            Column::Register(other) => self.state.get(*other),
            Column::AtExpression(slice) => {
                Some(self.word::<A>(self.expression::<A>(slice, Some(cfa))?)?)
            }
            Column::ValueExpression(slice) => Some(self.expression::<A>(slice, Some(cfa))?),
        })
    }

    fn word<A: Architecture>(&self, address: u64) -> Result<u64, Failure> {
        word::<A>(self.space, ProcessAddress(address)).map_err(Failure::NotCaptured)
    }

    #[cfg(feature = "dwarf")]
    fn expression<A: Architecture>(
        &self,
        slice: &Slice,
        initial: Option<u64>,
    ) -> Result<u64, Failure> {
        let range = slice.start as usize..slice.end as usize;
        let code = self.rule.expressions.get(range).ok_or(Failure::Unusable)?;
        let word = A::WORD as u8;
        super::expression::evaluate(code, word, initial, self.state, self.space, self.bias)
    }

    #[cfg(not(feature = "dwarf"))]
    fn expression<A: Architecture>(&self, _: &Slice, _: Option<u64>) -> Result<u64, Failure> {
        Err(Failure::Unusable)
    }
}
