//! A caller's registers from those of the frame, by a row of call-frame information.
//!
//! A register that the row leaves out keeps its value if calls preserve it, and is
//! forgotten otherwise (elfutils does so too; gdb keeps it and may use a stale value).

use super::architecture::{Architecture, Caller, State};
use super::failure::Failure;
use super::rule::{Cfa, Column, Rule, Slice};
use super::stack::word;
use super::AddressSpace;
use crate::base::address::ProcessAddress;

/// What a row gives; `None` if the return address is explicitly undefined:
/// the frame is outermost.
pub(super) type Applied = Option<Caller>;

impl Rule {
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
    #[cfg_attr(not(feature = "dwarf"), expect(dead_code))]
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
