//! DWARF expressions, as call-frame information uses them.
//!
//! An expression sees the frame's registers, captured memory and, for a
//! register's rule, the CFA as its first value. Whatever else it asks for
//! (types, thread-local storage, other entries) is refused.

use gimli::{
    Encoding, EndianSlice, Evaluation, EvaluationResult, Format, LittleEndian, Location, Value,
};

use super::architecture::State;
use super::failure::Failure;
use super::stack::sized;
use super::AddressSpace;
use crate::base::address::ProcessAddress;

/// Steps of one expression. Real ones take fewer than 20.
const MAX_STEPS: u32 = 1_000;

/// The value that an expression leaves on its stack, in a task with words of so
/// many bytes.
pub(super) fn evaluate(
    code: &[u8],
    word: u8,
    initial: Option<u64>,
    state: &State,
    space: &dyn AddressSpace,
    bias: u64,
) -> Result<u64, Failure> {
    let encoding = Encoding {
        address_size: word,
        format: Format::Dwarf32,
        version: 4,
    };
    let mut evaluation = Evaluation::new(EndianSlice::new(code, LittleEndian), encoding);
    evaluation.set_max_iterations(MAX_STEPS);
    if let Some(value) = initial {
        evaluation.set_initial_value(value);
    }
    let mut result = evaluation.evaluate();
    loop {
        result = match result.map_err(|_| Failure::Unusable)? {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister {
                register,
                base_type,
            } if base_type.0 == 0 => {
                let value = state.get(register.0).ok_or(Failure::Unusable)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            EvaluationResult::RequiresMemory {
                address,
                size,
                space: None,
                base_type,
            } if base_type.0 == 0 => {
                let address = ProcessAddress(address);
                let value = sized(space, address, size).ok_or(Failure::NotCaptured(address))?;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            EvaluationResult::RequiresCallFrameCfa => {
                evaluation.resume_with_call_frame_cfa(initial.ok_or(Failure::Unusable)?)
            }
            EvaluationResult::RequiresRelocatedAddress(address) => {
                evaluation.resume_with_relocated_address(address.wrapping_add(bias))
            }
            _ => return Err(Failure::Unusable),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => Ok(address),
            Location::Value {
                value: Value::Generic(value),
            } => Ok(value),
            _ => Err(Failure::Unusable),
        },
        _ => Err(Failure::Unusable),
    }
}
