//! 32-bit ARM: call-frame information, and nothing else.
//!
//! ARM programs have `.ARM.exidx` (EHABI), which is not read; those with `.debug_frame`
//! can be walked. Without it a frame cannot be recognized: the frame pointer is r11 or r7
//! or neither. So a walk stops there.

use std::ops::RangeInclusive;

use super::architecture::{Architecture, Before, Caller, Site, State};
use super::stack::offset;
use super::AddressSpace;
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

pub(super) struct Arm;

const FP: u16 = 11;
const SP: u16 = 13;
const PC: u16 = 15;

impl Architecture for Arm {
    const ARCH: Arch = Arch::Arm;
    const WORD: u64 = 4;
    const STACK_POINTER: u16 = SP;
    const FRAME_POINTER: u16 = FP;
    const PROGRAM_COUNTER: u16 = PC;
    // r4 to r11.
    const PRESERVED: u64 = 0xff << 4;

    /// Bit 0 says that the code is Thumb.
    fn code_pointer(_: &dyn AddressSpace, value: u64) -> ProcessAddress {
        ProcessAddress(value & !1)
    }

    fn site(_: &dyn AddressSpace, _: ProcessAddress) -> Site {
        Site {
            before: Before::Unreadable,
            restorer: false,
            ends: false,
        }
    }

    fn inside_restorer(_: &dyn AddressSpace, _: ProcessAddress) -> bool {
        false
    }

    fn interrupted(_: &dyn AddressSpace, _: &State) -> Result<Caller, ProcessAddress> {
        Err(ProcessAddress(0))
    }

    fn leaf(_: &dyn AddressSpace, _: &State) -> Option<Caller> {
        None
    }

    fn frame_pointer(_: &dyn AddressSpace, _: &State, _: ProcessAddress) -> Option<Caller> {
        None
    }

    fn returned_through(
        space: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller {
        let mut next = *state;
        next.keep(0);
        next.set(SP, offset(slot, Self::WORD).0);
        next.set(PC, Self::code_pointer(space, value).0);
        Self::caller(next)
    }

    fn is_jump(_: &[u8]) -> bool {
        false
    }

    fn sets_frame_pointer(_: &[u8]) -> bool {
        false
    }

    fn jumps_into(_: &[u8], _: RangeInclusive<i64>) -> bool {
        false
    }
}
