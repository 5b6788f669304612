//! When a caller is certain, so that a walk may say that it has all of them.
//!
//! A frame may look right and yet be left over from a call that has ended, so that frames
//! in between are missing. This proves that a frame has called the one before it:
//!
//! ```text
//! call-frame information   its row led there; if the row needs a register that the callee
//!                          may use, only if the call before the return address goes to
//!                          the function of the callee
//! signal                   the kernel's copy of the registers
//! frame pointer            the function has set it, or is about to return through it,
//!                          or the record's call goes to this function, or no word below
//!                          the record can be a return address
//! code                     the code from the function's start to the pc moves the stack
//!                          pointer by this much; if the start is not known, the target of
//!                          the call that is found in this way is taken as the start
//! leaf                     such code has not moved it, or is a stub, which never does;
//!                          on i386 also the vDSO after `call *%gs:0x10`
//! bad pc                   the word on top of the stack follows a call that can have
//!                          led there
//! ```
//!
//! A frame that a search of the stack found is never proven: a word that was left over
//! looks like one that is in use, and so does everything that call-frame information
//! derives from it. A return address of zero proves an end only at the end of the stack;
//! elsewhere something has overwritten it.

use super::architecture::{Architecture, Before, Caller, Cursor};
use super::stack::{offset, word};
use super::walk::Walker;
use crate::base::address::ProcessAddress;

/// Code at the target of a call by which a stub is recognized.
const STUB_BYTES: usize = 16;
/// The same of a thunk, or of a function that does little more than jump on.
const THUNK_BYTES: usize = 64;
/// Code from a function's start to the pc.
const MAX_CODE: usize = 4096;
/// Code from the pc on, until the function returns.
const MAX_CODE_AHEAD: usize = 512;
/// Words below a frame pointer's record that are looked at.
const MAX_WORDS: u64 = 512;

impl<A: Architecture> Walker<'_, A> {
    /// Whether no word of this part of a stack can be a return address.
    pub(super) fn nothing_between(&mut self, start: ProcessAddress, end: ProcessAddress) -> bool {
        let Some(bytes) = end.offset_from(start) else {
            return false;
        };
        if bytes / A::WORD > MAX_WORDS {
            return false;
        }
        let slots = (0..bytes / A::WORD).map(|index| offset(start, index * A::WORD));
        for slot in slots {
            let Ok(value) = word::<A>(self.space, slot) else {
                return false;
            };
            let address = A::code_pointer(self.space, value);
            let may_return = value >= 0x1000
                && self.space.is_executable(address)
                && !matches!(self.site(address).before, Before::Other | Before::Astray(_));
            if may_return {
                return false;
            }
        }
        true
    }

    /// Whether the code from here on returns through the frame pointer's record.
    pub(super) fn leaves_by_frame(&self, at: &Cursor) -> bool {
        let mut code = [0; MAX_CODE_AHEAD];
        let len = self.read_code_some(at.code.address(), &mut code);
        A::leaves_by_frame(&code[..len])
    }

    /// As much code as there is: from a file, or from the captured bytes.
    pub(super) fn read_code_some(&self, address: ProcessAddress, code: &mut [u8]) -> usize {
        let mut wanted = code.len();
        while wanted > 0 {
            let len = self.space.read_code(address, &mut code[..wanted]);
            if len > 0 {
                return len.min(wanted);
            }
            wanted /= 2;
        }
        0
    }

    /// Where the frame's function begins, if its symbol or the call before `returns` shows
    /// it.
    fn start_by_call(&mut self, at: &Cursor, returns: ProcessAddress) -> Option<ProcessAddress> {
        let pc = at.code.lookup();
        self.function_start(pc).or_else(|| {
            let target = self.site(returns).before.target(returns)?;
            let into = pc.offset_from(target)?;
            (into < MAX_CODE as u64 && self.same_module(target, pc)).then_some(target)
        })
    }

    /// Whether the call before a return address is one of the code at `start`.
    fn is_called(&mut self, start: ProcessAddress, returns: ProcessAddress) -> bool {
        self.site(returns).before.target(returns) == Some(start)
    }

    /// Whether the code that was run so far has left the return address where it is
    /// now, so many bytes above the frame's floor.
    pub(super) fn code_agrees(&mut self, at: &Cursor, caller: &Caller, bytes: u64) -> bool {
        let Some(start) = self.start_by_call(at, caller.pc) else {
            return false;
        };
        if A::READS_RULES {
            let rule = self.rule_from(at, start).filter(|(_, sure)| *sure);
            let found =
                rule.and_then(|(rule, _)| rule.apply::<A>(&at.state, self.space, 0).ok()?);
            return found.is_some_and(|it| it.pc == caller.pc && it.floor == caller.floor);
        }
        let len = at.code.address().offset_from(start).unwrap_or(u64::MAX);
        let Ok(len) = usize::try_from(len) else {
            return false;
        };
        let mut code = [0; MAX_CODE];
        let Some(code) = code.get_mut(..len) else {
            return false;
        };
        if self.work(4 * len as u64).is_none() {
            return false;
        }
        if self.space.read_code(start, code) < len {
            return false;
        }
        if A::LINK.is_some() {
            return bytes == 0 && A::keeps_link(&at.state, code);
        }
        let depth = A::depth(code).filter(|depth| depth.bytes == bytes);
        depth.is_some_and(|depth| depth.sure || self.is_called(start, caller.pc))
    }

    /// Whether the caller of code that has not moved the stack pointer is certain.
    pub(super) fn proves_leaf(&mut self, at: &Cursor, caller: &Caller) -> bool {
        let mut code = [0; STUB_BYTES];
        let len = self.read_code_some(at.code.address(), &mut code);
        A::is_jump(&code[..len])
            || self.code_agrees(at, caller, 0)
            || A::proves_system_call(self.space, at.code.address(), caller.pc)
    }

    /// Whether the call before a return address can have led to a pc without code.
    pub(super) fn proves_bad_call(&mut self, at: &Cursor, caller: &Caller) -> bool {
        let before = self.site(caller.pc).before;
        if let Some(target) = before.target(caller.pc) {
            let mut code = [0; THUNK_BYTES];
            let len = self.read_code_some(target, &mut code);
            return A::jumps_on(&code[..len]);
        }
        // Nothing has run since, so the register still holds the call's target.
        let called = A::called(self.space, caller.pc, &at.state);
        called.is_none_or(|called| called == at.code.address().0)
    }

    /// Whether the call before a return address leads to the frame's function: proof
    /// for a caller that was found by a register which the callee may have used.
    pub(super) fn proves_assumed(&mut self, at: &Cursor, caller: &Caller) -> bool {
        !caller.assumed || self.is_direct(at, caller.pc)
    }

    /// Whether a return address from a search is certain: the code that has run confirms it, or
    /// it is that of the first call of a process or thread, and there is no other one below.
    pub(super) fn proves_scanned(&mut self, at: &Cursor, caller: &Caller) -> bool {
        let slot = ProcessAddress(caller.floor.0.wrapping_sub(A::WORD));
        let Some(bytes) = slot.offset_from(at.floor) else {
            return false;
        };
        if !at.proven || !self.space.is_executable(at.code.lookup()) {
            return false;
        }
        let lookup = ProcessAddress(caller.pc.0.wrapping_sub(1));
        let first = self.is_entry(lookup, caller.floor) || self.site(caller.pc).ends;
        (first && self.nothing_between(at.floor, slot)) || self.code_agrees(at, caller, bytes)
    }

    /// Whether there is nothing above the frame that ends at `cfa`: a return address
    /// of zero is then an end that was made.
    pub(super) fn ends_stack(&self, cfa: ProcessAddress) -> bool {
        self.space.is_stack_top(cfa)
    }

    /// Whether a frame's code was made while the program ran.
    pub(super) fn is_compiled(&self, at: &Cursor) -> bool {
        self.space.is_compiled(at.code.lookup())
    }
}
