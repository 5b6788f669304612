//! What differs between processors, as far as a walk cares, and the register
//! set that travels from frame to frame.
//!
//! A [`State`] knows for each register whether its value is known: calls forget
//! what the callee may have overwritten, and a rule that asks for a forgotten
//! register fails instead of working with a stale value.

use std::ops::RangeInclusive;

use super::depth::Depth;
use super::rule::Rule;
use super::{AddressSpace, CodeAddress, Trust};
use crate::base::address::ProcessAddress;
use crate::crash::registers::{Arch, Registers};

/// DWARF columns that are tracked: aarch64's x0 to x30, sp and pc are 33.
pub(super) const COLUMNS: u16 = 33;

/// Of 32-bit ARM: 1 in Thumb code, 0 in ARM code. DWARF has no register of this number there.
pub(super) const THUMB: u16 = 16;

/// A register set by DWARF number, as far as it is known in one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    values: [u64; COLUMNS as usize],
    known: u64,
    /// Not known, but unchanged since the callee was entered, if the callee left it alone.
    left: u64,
}

impl State {
    pub(super) fn new(registers: &Registers) -> Self {
        let mut state = State {
            values: [0; COLUMNS as usize],
            known: 0,
            left: 0,
        };
        for number in 0..COLUMNS {
            if let Some(value) = registers.dwarf(number) {
                state.set(number, value);
            }
        }
        if let Some(thumb) = registers.is_thumb() {
            state.set(THUMB, thumb.into());
        }
        state
    }

    pub(super) fn get(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.known & (1 << number) != 0).then_some(value)
    }

    /// The value of a register that the callee may have overwritten, but perhaps did not.
    pub(super) fn left_alone(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.left & (1 << number) != 0).then_some(value)
    }

    /// Numbers that are not tracked are ignored.
    pub(super) fn set(&mut self, number: u16, value: u64) {
        if let Some(slot) = self.values.get_mut(usize::from(number)) {
            *slot = value;
            self.known |= 1 << number;
            self.left &= !(1 << number);
        }
    }

    pub(super) fn forget(&mut self, number: u16) {
        if number < COLUMNS {
            self.known &= !(1 << number);
            self.left &= !(1 << number);
        }
    }

    /// As registers of the same task; `None` unless all of them are known.
    pub(super) fn registers(&self, of: &Registers) -> Option<Registers> {
        let mut registers = *of;
        for number in (0..COLUMNS).filter(|&number| of.dwarf(number).is_some()) {
            registers.set_dwarf(number, self.get(number)?);
        }
        if of.is_thumb().is_some() {
            registers.set_thumb(self.get(THUMB)? == 1);
        }
        Some(registers)
    }

    /// Keeps only the registers whose bit is set.
    pub(super) fn keep(&mut self, mask: u64) {
        self.known &= mask;
        self.left &= mask;
    }

    /// The same, for a caller: its callee may have left the others alone.
    pub(super) fn keep_behind_call(&mut self, preserved: u64) {
        self.left |= self.known & !preserved;
        self.known &= preserved;
    }
}

/// The instruction before an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// A call of the place this many bytes (wrapping) after the address.
    Direct(u64),
    /// The same of a place without code: data that looks like a call, unless the pc is there.
    Astray(u64),
    /// A call through a register or memory.
    Indirect,
    /// A call through a fixed slot, as to another file.
    Slot,
    /// No call.
    Other,
    /// The code is not available.
    Unreadable,
}

impl Before {
    pub(super) fn is_call(self) -> bool {
        matches!(self, Before::Direct(_) | Before::Indirect | Before::Slot)
    }

    /// The address that is called, if the code has it.
    pub(super) fn target(self, address: ProcessAddress) -> Option<ProcessAddress> {
        match self {
            Before::Direct(distance) => Some(ProcessAddress(address.0.wrapping_add(distance))),
            _ => None,
        }
    }

    /// Whether this is a call of a place without code.
    pub(super) fn is_astray(self, address: ProcessAddress, place: ProcessAddress) -> bool {
        matches!(self, Before::Astray(distance) if address.0.wrapping_add(distance) == place.0)
    }
}

/// What the code around an address shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) before: Before,
    /// The code that a signal handler returns to.
    pub(super) restorer: bool,
    /// The code here ends the thread: the function that is called right before it is outermost.
    pub(super) ends: bool,
}

/// A caller's pc and registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) pc: ProcessAddress,
    pub(super) state: State,
    /// The lowest address of its part of the stack: its stack pointer, if that is known.
    pub(super) floor: ProcessAddress,
    /// A signal interrupted it: its pc is not a return address.
    pub(super) signal: bool,
    /// `.debug_frame` has led to it.
    pub(super) debug: bool,
    /// Right if the callee has left a register alone that it may overwrite.
    pub(super) assumed: bool,
}

impl Caller {
    /// The trust of a caller that call-frame information gave.
    pub(super) fn trust(&self) -> Trust {
        match self.debug {
            true => Trust::DebugFrame,
            false => Trust::Cfi,
        }
    }
}

/// A processor's conventions.
pub(super) trait Architecture {
    const ARCH: Arch;
    /// Bytes of a register, and of a word on the stack.
    const WORD: u64;
    /// The last address.
    const LAST: u64 = u64::MAX >> (64 - 8 * Self::WORD);
    const STACK_POINTER: u16;
    const FRAME_POINTER: u16;
    /// The column that holds the frame's own pc.
    const PROGRAM_COUNTER: u16;
    /// Bytes of the shortest instruction.
    const INSTRUCTION: u64 = 1;
    /// The register that a call leaves the return address in, if it does not push it.
    const LINK: Option<u16> = None;
    /// Whether frames are found by [`Architecture::rule_behind`] and `rule_ahead`, not
    /// by depth.
    const READS_RULES: bool = false;
    /// Registers that a function leaves as it found them, as bits.
    const PRESERVED: u64;

    /// The address in a code pointer, without authentication bits.
    fn code_pointer(space: &dyn AddressSpace, value: u64) -> ProcessAddress;

    /// Notes what a code pointer says besides its address: the processor's mode.
    fn set_mode(_state: &mut State, _pointer: u64) {}

    /// Reads the code around an address.
    fn site(space: &dyn AddressSpace, address: ProcessAddress) -> Site;

    /// Whether an interrupted pc is in a restorer, past its first instruction.
    fn inside_restorer(space: &dyn AddressSpace, pc: ProcessAddress) -> bool;

    /// Whether the kernel's own mark shows that the stack pointer of `state` leads
    /// to a signal frame, where the restorer's code is not available or not known.
    fn is_marked(_space: &dyn AddressSpace, _state: &State) -> bool {
        false
    }

    /// The registers that the kernel saved below a signal handler; `state` is that of the
    /// restorer. On failure, the address that was not captured.
    fn interrupted(space: &dyn AddressSpace, state: &State) -> Result<Caller, ProcessAddress>;

    /// The caller of code that has not moved the stack pointer: pc not yet checked.
    fn leaf(space: &dyn AddressSpace, state: &State) -> Option<Caller>;

    /// The caller by the frame pointer, which lies not below `floor`: pc not
    /// yet checked.
    fn frame_pointer(
        space: &dyn AddressSpace,
        state: &State,
        floor: ProcessAddress,
    ) -> Option<Caller>;

    /// The caller whose return address was found at `slot`: pc not yet checked.
    fn returned_through(
        space: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller;

    /// Whether the code at the start of a function only jumps on, as a stub
    /// of the procedure linkage table does.
    fn is_jump(code: &[u8]) -> bool;

    /// Whether the code at the start of a function lets the frame pointer point
    /// to the caller's.
    fn sets_frame_pointer(code: &[u8]) -> bool;

    /// The depth to which code from a function's start has pushed, if it can be read from it.
    fn depth(_code: &[u8]) -> Option<Depth> {
        None
    }

    /// The same from the code that is still to be run until the function returns.
    fn depth_ahead(_code: &[u8]) -> Option<Depth> {
        None
    }

    /// The rule for a frame of which the code from its function's start is known, and whether
    /// it is certain. For processors whose calls leave the return address in a register.
    fn rule_behind(_state: &State, _code: &[u8]) -> Option<(Rule, bool)> {
        None
    }

    /// The same from the code that is still to be run until the function returns.
    fn rule_ahead(_state: &State, _code: &[u8]) -> Option<(Rule, bool)> {
        None
    }

    /// Whether `pc`, where a system call was made, returns after a call that leads only
    /// to code which makes system calls.
    fn proves_system_call(
        _: &dyn AddressSpace,
        _pc: ProcessAddress,
        _returns: ProcessAddress,
    ) -> bool {
        false
    }

    /// Whether a function jumps on through a register or memory, with the stack as it
    /// was: a stub, a tail call, a compiler's thunk for indirect calls.
    fn jumps_on(code: &[u8]) -> bool {
        Self::is_jump(code)
    }

    /// Whether code from the pc on gives the stack back through the frame pointer.
    fn leaves_by_frame(_code: &[u8]) -> bool {
        false
    }

    /// Whether the link register still has its value from the beginning of the code.
    fn keeps_link(_state: &State, _code: &[u8]) -> bool {
        false
    }

    /// The target of the call before an address, if it went through a register.
    fn called(_: &dyn AddressSpace, _returns: ProcessAddress, _: &State) -> Option<u64> {
        None
    }

    /// Whether code jumps to a place so many bytes from its start.
    fn jumps_into(code: &[u8], distance: RangeInclusive<i64>) -> bool;

    fn stack_pointer(state: &State) -> Option<ProcessAddress> {
        state.get(Self::STACK_POINTER).map(ProcessAddress)
    }

    /// The pc and stack pointer that a state holds.
    fn caller(state: State) -> Caller {
        let known = |number| ProcessAddress(state.get(number).unwrap_or(0));
        Caller {
            pc: known(Self::PROGRAM_COUNTER),
            floor: known(Self::STACK_POINTER),
            signal: false,
            debug: false,
            assumed: false,
            state,
        }
    }
}

/// One frame while it is being left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) code: CodeAddress,
    pub(super) state: State,
    pub(super) floor: ProcessAddress,
    /// The crash's own frame, or one that a signal interrupted: every register is known, and
    /// the stack pointer may not have moved yet.
    pub(super) interrupted: bool,
    /// This frame has called the one before it: see `proof`.
    pub(super) proven: bool,
    /// It was found by the frame pointer of code that is in no file.
    pub(super) chained: bool,
}
