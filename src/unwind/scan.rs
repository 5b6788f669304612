//! The last resort: words on the stack that follow a call.
//!
//! A stack is full of return addresses that were left there by calls that have ended,
//! so the candidates are ranked, best first:
//!
//! ```text
//! direct   its call goes to the function whose caller is searched
//! cfi      steps from there by call-frame information lead to calls again,
//!          or end the stack; or it is a signal's restorer, or the file's entry
//! plain    nothing contradicts it
//! ```
//!
//! A word that call-frame information contradicts is not a candidate. Within a rank, a
//! call that seems to lead here comes first, then one that leaves its file through a stub
//! or slot, then all others. Of the best candidates the nearest wins.

use super::architecture::{Architecture, Before, Caller, Cursor};
use super::stack::{offset, word, Upward};
use super::walk::Walker;
use super::{Placed, Trust};
use crate::base::address::ProcessAddress;

/// Words that are examined: 64 KB of stack.
const MAX_WORDS: u64 = 8192;
/// Bytes within which a candidate is taken on its own word.
const MAX_PLAIN: u64 = 2048;
/// Candidates that are weighed.
const MAX_CANDIDATES: usize = 256;
/// Bytes at a call's target by which a stub or a tail call is recognized.
const TARGET_BYTES: usize = 256;
/// Units of work for a word, and for one that leads to code.
const WORD: u64 = 32;
const CANDIDATE: u64 = 2048;
/// Steps of a trial.
pub(super) const MAX_STEPS: usize = 24;

/// Words below a return address among which the caller's frame pointer is looked for.
const MAX_SAVED_WORDS: u64 = 2048;
/// How far above the return address it may point.
const MAX_FRAME: u64 = 1 << 20;
/// Values that are tried for it.
const MAX_TRIES: usize = 32;

/// Bytes of an ordinary function.
const MAX_FUNCTION: i64 = 4096;

/// The rank of a candidate, the most important criterion first; the second says whether its
/// trial reached the end of the stack.
type Rank = (Trust, bool, Lead);

/// Whether a call led to the function that is being left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lead {
    /// By a tail call that was not seen.
    Unlikely,
    /// Through a register.
    Possible,
    /// Through a stub or slot, as calls of other files go.
    Outward,
    Likely,
}

impl<A: Architecture> Walker<'_, A> {
    /// The nearest caller of the best kind from `start` upwards, no worse than `floor`.
    pub(super) fn scan(
        &mut self,
        at: &Cursor,
        start: ProcessAddress,
        floor: Trust,
    ) -> Option<(Trust, Cursor)> {
        self.scan_below(at, start, None, floor)
    }

    /// The same, in words below `end` only.
    pub(super) fn scan_below(
        &mut self,
        at: &Cursor,
        start: ProcessAddress,
        end: Option<ProcessAddress>,
        floor: Trust,
    ) -> Option<(Trust, Cursor)> {
        let mut best: Option<(Rank, Caller)> = None;
        let mut seen = 0;
        let aligned = |address: ProcessAddress| {
            ProcessAddress(address.0.wrapping_add(A::WORD - 1) & !(A::WORD - 1))
        };
        let start = aligned(start);
        let top = self.space.stack_start().filter(|top| start <= *top);
        // Its callers are of that file too, most likely.
        let blind = self.space.lacks_file(at.code.lookup());
        let mut next = start;
        for _ in 0..MAX_WORDS {
            if self.work(WORD).is_none() {
                break;
            }
            let slot = next;
            if slot < start || [top, end].into_iter().flatten().any(|end| end <= slot) {
                break;
            }
            next = offset(slot, A::WORD);
            let Ok(value) = word::<A>(self.space, slot) else {
                let Some(above) = self.space.above_unused(slot) else {
                    break;
                };
                next = next.max(aligned(above));
                continue;
            };
            if blind && self.is_unreadable(value) {
                break;
            }
            let Some(candidate) = self.candidate(at, slot, value) else {
                continue;
            };
            if end.is_some_and(|end| self.takes_record(&candidate.1, end)) {
                continue;
            }
            seen += 1;
            let ((trust, ..), _) = candidate;
            let near = trust > Trust::Scan || slot.0 - start.0 < MAX_PLAIN;
            let better = best.as_ref().is_none_or(|(rank, _)| candidate.0 > *rank);
            if near && better && trust >= floor {
                best = Some(candidate);
            }
            if trust == Trust::ScanDirect || seen >= MAX_CANDIDATES {
                break;
            }
        }
        let ((trust, ..), caller) = best?;
        let proven = self.proves_scanned(at, &caller);
        Some((trust, self.called_by(caller, proven)))
    }

    /// Whether a word may be a return address, but its code is not available.
    fn is_unreadable(&mut self, value: u64) -> bool {
        let address = A::code_pointer(self.space, value);
        value >= 0x1000
            && self.space.is_executable(address)
            && self.space.lacks_file(address)
            && self.site(address).before == Before::Unreadable
    }

    /// A word's rank: its trust, and whether its call can have led here directly.
    fn candidate(
        &mut self,
        at: &Cursor,
        slot: ProcessAddress,
        value: u64,
    ) -> Option<(Rank, Caller)> {
        // Most words are data.
        if value < 0x1000 || !self.space.is_executable(A::code_pointer(self.space, value)) {
            return None;
        }
        self.work(CANDIDATE)?;
        let caller = A::returned_through(self.space, &at.state, slot, value);
        if self.is_restorer(&caller) {
            let sound = self.is_signal_frame(&caller);
            return sound.then_some(((Trust::ScanCfi, true, Lead::Likely), caller));
        }
        if !self.follows_call(caller.pc) {
            return None;
        }
        // Code that is called at its place in a file was not compiled at run time.
        if self.is_compiled(at) && self.calls_into_file(caller.pc) {
            return None;
        }
        let lead = self.lead_of_candidate(at, caller.pc);
        if self.is_direct(at, caller.pc) {
            let tried = self.trial(at, caller, slot);
            let (_, caller) = tried.unwrap_or((false, caller));
            return Some(((Trust::ScanDirect, true, Lead::Likely), caller));
        }
        if A::READS_RULES && self.function_start(at.code.lookup()).is_none() {
            if let Some(confirmed) = self.caller_by_call(at, caller.pc) {
                return Some(((Trust::ScanDirect, true, Lead::Likely), confirmed.caller));
            }
        }
        let lookup = ProcessAddress(caller.pc.0.wrapping_sub(1));
        if self.is_entry(lookup, caller.floor) {
            // However the walk came here, all other frames come before it.
            return Some(((Trust::ScanCfi, true, Lead::Possible), caller));
        }
        if let Some((whole, tried)) = self.trial(at, caller, slot) {
            return Some(((Trust::ScanCfi, whole, lead), tried));
        }
        // Call-frame information that leads nowhere contradicts it.
        let cursor = self.called_from(caller);
        let has_cfi = self.by_cfi(&cursor).is_some();
        (!has_cfi).then_some(((Trust::Scan, false, lead), caller))
    }

    /// Whether registers of a running thread are above a restorer's address: each `sigaction`
    /// also leaves that address on the stack.
    fn is_signal_frame(&mut self, restorer: &Caller) -> bool {
        let Ok(interrupted) = A::interrupted(self.space, &restorer.state) else {
            return false;
        };
        word::<A>(self.space, interrupted.floor).is_ok()
            && (self.space.is_executable(interrupted.pc)
                || A::leaf(self.space, &interrupted.state)
                    .is_some_and(|caller| self.follows_call(caller.pc)))
    }

    /// The caller, if steps from it lead to further calls or end the stack. The callee may have
    /// saved the frame pointer below its return address and used the register for something
    /// else. Outer frames show whether it did: of the possible values the one that leads
    /// furthest is right.
    fn trial(
        &mut self,
        at: &Cursor,
        caller: Caller,
        slot: ProcessAddress,
    ) -> Option<(bool, Caller)> {
        let mut best = (self.steps(&caller), caller);
        let mut tries = 0;
        let mut number = self.upward_below(at.floor, slot);
        let lowest = slot.0.saturating_sub(MAX_SAVED_WORDS * A::WORD);
        while best.0 < MAX_STEPS && tries < MAX_TRIES && self.work(WORD).is_some() {
            let Some((saved, value)) = self.upward.next_below(&mut number) else {
                break;
            };
            if saved.0 < lowest {
                break;
            }
            if !(1..=MAX_FRAME).contains(&value.wrapping_sub(slot.0)) {
                continue;
            }
            tries += 1;
            let mut tried = caller;
            tried.state.set(A::FRAME_POINTER, value);
            let steps = self.steps(&tried);
            if steps > best.0 {
                best = (steps, tried);
            }
        }
        (best.0 > 0).then_some((best.0 >= MAX_STEPS, best.1))
    }

    /// Goes over the words from a frame's floor up to a slot, each once for all candidates
    /// above them, and gathers those that may be saved frame pointers; how many there are.
    fn upward_below(&mut self, floor: ProcessAddress, slot: ProcessAddress) -> usize {
        if self.upward.floor != floor || slot < self.upward.end {
            self.upward = Upward {
                floor,
                end: floor,
                words: Vec::new(),
            };
        }
        while self.upward.end < slot && self.work(WORD).is_some() {
            let at = self.upward.end;
            self.upward.end = offset(at, A::WORD);
            match word::<A>(self.space, at) {
                Ok(value) if value.is_multiple_of(A::WORD) && value > at.0 => {
                    if value - at.0 <= MAX_FRAME + MAX_SAVED_WORDS * A::WORD {
                        self.upward.words.push((at, value));
                    }
                }
                Ok(_) => {}
                // What lies below a gap belongs to nobody above it.
                Err(_) => self.upward.words.clear(),
            }
        }
        self.upward.words.len()
    }

    /// How many steps by call-frame information or code lead from a caller to further
    /// calls; [`MAX_STEPS`] when they end the stack, or get to code without any.
    pub(super) fn steps(&mut self, caller: &Caller) -> usize {
        let mut cursor = self.called_from(*caller);
        for steps in 0..MAX_STEPS {
            let Some(left) = self.trial_steps.checked_sub(1) else {
                return steps;
            };
            self.trial_steps = left;
            match self.by_cfi(&cursor) {
                Some(Ok(None)) => break,
                Some(Ok(Some(next))) => {
                    if next.signal {
                        break;
                    }
                    // A zero return address ends a stack, but zeros are everywhere.
                    if next.floor <= cursor.floor || !self.is_return(&next) {
                        return steps;
                    }
                    cursor = self.called_from(next);
                }
                Some(Err(_)) => return steps,
                None => match self
                    .by_code(&cursor)
                    .or_else(|| self.by_compiled_record(&cursor))
                {
                    Some((_, next)) => cursor = next,
                    None if steps > 0 => break,
                    None => return steps,
                },
            }
        }
        MAX_STEPS
    }

    /// Whether call-frame information supports a caller, or is silent.
    pub(super) fn steps_on_or_silent(&mut self, caller: &Caller) -> bool {
        let cursor = self.called_from(*caller);
        self.by_cfi(&cursor).is_none() || self.steps(caller) > 0
    }

    /// Whether the call before a return address can have led to the frame's function.
    pub(super) fn lead(&mut self, at: &Cursor, returns: ProcessAddress) -> Lead {
        let pc = at.code.lookup();
        // If a return address was lost, the code there may have any caller.
        if !self.space.is_executable(pc) {
            return Lead::Possible;
        }
        let before = self.site(returns).before;
        let Some(target) = before.target(returns) else {
            return if before == Before::Slot {
                Lead::Outward
            } else {
                Lead::Possible
            };
        };
        let mut code = [0; TARGET_BYTES];
        let len = self.space.read_code(target, &mut code).min(code.len());
        let code = &code[..len];
        if A::is_jump(code) {
            return Lead::Outward;
        }
        // A compiler's thunk jumps to the address in a register.
        if A::jumps_on(code) {
            return Lead::Possible;
        }
        let distance = |to: ProcessAddress| to.0.wrapping_sub(target.0) as i64;
        if let Some(start) = self.function_start(pc) {
            let start = distance(start);
            return if start == 0 || A::jumps_into(code, start..=start) {
                Lead::Likely
            } else {
                Lead::Unlikely
            };
        }
        // The start of this function is not known: most likely it is not far below the pc.
        let pc_at = distance(pc);
        let near = pc_at.saturating_sub(MAX_FUNCTION)..=pc_at;
        // A function with call-frame information is another than this one.
        let other = self.has_cfi(target) || !self.same_module(target, pc);
        if near.contains(&0) && !other {
            Lead::Likely
        } else if A::jumps_into(code, near) || (pc_at >= 0 && !other) {
            Lead::Possible
        } else {
            Lead::Unlikely
        }
    }

    /// The same for a word that a search finds. A caller of callers that must be skipped called
    /// something else: where none leads here, the nearest wins. But if what it called has
    /// call-frame information, then that function's own return address would have been found.
    fn lead_of_candidate(&mut self, at: &Cursor, returns: ProcessAddress) -> Lead {
        let lead = self.lead(at, returns);
        let Some(target) = self.site(returns).before.target(returns) else {
            return lead.max(Lead::Possible);
        };
        let elsewhere = !self.same_module(target, at.code.lookup());
        if lead == Lead::Unlikely && elsewhere && self.has_cfi(target) {
            return lead;
        }
        lead.max(Lead::Possible)
    }

    /// Whether a candidate returns through the record that the frame pointer leads to, whose
    /// return address lies at `slot`, though its function never sets the frame pointer: that
    /// record is another's.
    fn takes_record(&mut self, candidate: &Caller, slot: ProcessAddress) -> bool {
        let cursor = self.called_from(*candidate);
        let Some(Ok(Some(next))) = self.by_cfi(&cursor) else {
            return false;
        };
        next.floor == offset(slot, A::WORD) && !self.sets_frame_pointer(&cursor)
    }

    /// Whether the call before a return address is one of code in a file, perhaps of a
    /// stub of the procedure linkage table.
    fn calls_into_file(&mut self, returns: ProcessAddress) -> bool {
        let Some(target) = self.site(returns).before.target(returns) else {
            return false;
        };
        let mut code = [0; TARGET_BYTES];
        let len = self.read_code_some(target, &mut code);
        let anywhere = A::jumps_on(&code[..len]) && !A::is_jump(&code[..len]);
        self.space.module(target).is_some() && !anywhere
    }

    pub(super) fn same_module(&self, one: ProcessAddress, other: ProcessAddress) -> bool {
        if self.space.lacks_file(one) && self.space.lacks_file(other) {
            return true;
        }
        let identity = |module: Placed| (module.data.identity(), module.bias);
        let one = self.space.module(one).map(identity);
        one.is_some() && one == self.space.module(other).map(identity)
    }
}
