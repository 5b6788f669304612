//! The last resort: words on the stack that follow a call.
//!
//! A stack is full of return addresses that were left there by calls long
//! done, so each candidate is weighed, best first:
//!
//! ```text
//! direct   its call's target is the function that is being left
//! cfi      one step from there by call-frame information follows a call again,
//!          or ends the stack, or it is the file's entry point
//! plain    nothing speaks against it
//! ```
//!
//! A candidate that call-frame information speaks against is none. A call whose
//! target is known to be another function (and no stub) led here only by a tail
//! call, and comes after all others of its kind. The nearest of the best kind wins.

use super::architecture::{Architecture, Caller, Cursor};
use super::rule::Applied;
use super::stack::{offset, word, WORD};
use super::walk::{is_entry, Walker};
use super::Trust;
use crate::address::ProcessAddress;

/// Words that are looked at: 64 KB of stack.
const MAX_WORDS: u64 = 8192;
/// Words within which a candidate is taken on its own word: 2 KB.
const MAX_PLAIN: u64 = 256;
/// Candidates that are weighed.
const MAX_CANDIDATES: usize = 256;
/// Bytes at a call's target that tell a stub.
const STUB_BYTES: usize = 16;

/// Words below a return address where a function keeps the caller's registers.
const SAVED_WORDS: u64 = 8;

impl<A: Architecture> Walker<'_, A> {
    /// The nearest caller of the best kind from `start` upwards, no worse than `floor`.
    pub(super) fn scan(
        &mut self,
        at: &Cursor,
        start: ProcessAddress,
        floor: Trust,
    ) -> Option<(Trust, Cursor)> {
        let mut best: Option<((Trust, bool), Caller)> = None;
        let mut seen = 0;
        let start = ProcessAddress(start.0.wrapping_add(WORD - 1) & !(WORD - 1));
        let end = self.space.stack_start();
        for index in 0..MAX_WORDS {
            let slot = offset(start, index * WORD);
            if slot < start || end == Some(slot) {
                break;
            }
            let Ok(value) = word(self.space, slot) else {
                break;
            };
            let Some(candidate) = self.candidate(at, slot, value) else {
                continue;
            };
            seen += 1;
            let ((trust, _), _) = candidate;
            let near = trust > Trust::Scan || index < MAX_PLAIN;
            let better = best.as_ref().is_none_or(|(rank, _)| candidate.0 > *rank);
            if near && better && trust >= floor {
                best = Some(candidate);
            }
            if trust == Trust::ScanDirect || seen >= MAX_CANDIDATES {
                break;
            }
        }
        let ((trust, _), caller) = best?;
        Some((trust, self.called_from(caller)))
    }

    /// A word's rank: its trust, and whether its call can have led here directly.
    fn candidate(
        &mut self,
        at: &Cursor,
        slot: ProcessAddress,
        value: u64,
    ) -> Option<((Trust, bool), Caller)> {
        // Most words are data.
        if value < 0x1000 || !self.space.is_executable(A::code_pointer(self.space, value)) {
            return None;
        }
        let caller = A::returned_through(self.space, &at.state, slot, value);
        if !self.follows_call(caller.pc) {
            return None;
        }
        let plausible = self.leads_to(at, caller.pc);
        if self.is_direct(at, caller.pc) {
            let caller = self.trial(caller, slot).unwrap_or(caller);
            return Some(((Trust::ScanDirect, true), caller));
        }
        let lookup = ProcessAddress(caller.pc.0.wrapping_sub(1));
        let module = self.space.module(lookup);
        if module.is_some_and(|module| is_entry(&module, lookup)) {
            return Some(((Trust::ScanCfi, plausible), caller));
        }
        if let Some(tried) = self.trial(caller, slot) {
            return Some(((Trust::ScanCfi, plausible), tried));
        }
        // Call-frame information that leads nowhere speaks against it.
        let cursor = self.called_from(caller);
        let has_cfi = self.by_cfi(&cursor).is_some();
        (!has_cfi).then_some(((Trust::Scan, plausible), caller))
    }

    /// The caller, if one more step from it leads to another call or ends the
    /// stack. A function without call-frame information may have saved the
    /// frame pointer below its return address: those words are tried for it too.
    fn trial(&mut self, caller: Caller, slot: ProcessAddress) -> Option<Caller> {
        if self.steps_on(&caller) {
            return Some(caller);
        }
        (1..=SAVED_WORDS).find_map(|back| {
            let saved = ProcessAddress(slot.0.checked_sub(back * WORD)?);
            let value = word(self.space, saved).ok()?;
            let mut tried = caller;
            tried.state.set(A::FRAME_POINTER, value);
            (value > slot.0 && self.steps_on(&tried)).then_some(tried)
        })
    }

    fn steps_on(&mut self, caller: &Caller) -> bool {
        let cursor = self.called_from(*caller);
        match self.by_cfi(&cursor) {
            Some(Ok(Applied::Outermost)) => true,
            Some(Ok(Applied::Caller(next))) => {
                next.floor > caller.floor && (next.pc.0 == 0 || self.follows_call(next.pc))
            }
            _ => false,
        }
    }

    /// Whether a call can have led to the frame's function without a tail call.
    fn leads_to(&mut self, at: &Cursor, returns: ProcessAddress) -> bool {
        let Some(target) = self.site(returns).before.target(returns) else {
            return true;
        };
        let mut code = [0; STUB_BYTES];
        let len = self.space.read_code(target, &mut code).min(code.len());
        if A::is_jump(&code[..len]) {
            return true;
        }
        let pc = at.code.lookup();
        match self.function_start(pc) {
            Some(start) => start == target,
            None => target <= pc,
        }
    }
}
