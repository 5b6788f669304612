//! Frames without call-frame information, and pcs without code.
//!
//! In: a frame. Out: its caller, found from the frame's own code, from the frame pointer
//! or by a search of the stack (`scan`), or the reason why there is none.

use super::architecture::{Architecture, Before, Caller, Cursor};
use super::depth::Depth;
use super::rule::Rule;
use super::scan::{Lead, MAX_STEPS};
use super::stack::{offset, word};
use super::walk::{advances, Walker};
use super::{CodeAddress, Stop, Trust};
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

/// Code by which a stub is recognized, which has no frame.
const STUB_BYTES: usize = 16;
/// Code of a function that is read to learn its depth.
const MAX_CODE: usize = 4096;
/// The same where a rule is read from it: `vfprintf` has 12 KB.
const MAX_RULE_CODE: usize = 16 << 10;
/// The same from the pc on.
const MAX_CODE_AHEAD: usize = 512;
/// Bytes that a leaf may take from the stack and not be seen to.
const MAX_LEAF: u64 = 256;
/// Code at a function's start that may set up the frame pointer.
const PROLOGUE_BYTES: usize = 32;
/// Bytes below a record on another stack that the frame it belongs to may take.
const MAX_BELOW: u64 = 512;
/// How often a walk may change to another stack.
const MAX_SWITCHES: usize = 8;
/// No piece of a stack that is not captured is shorter.
const PAGE_BYTES: u64 = 4096;

/// A caller whose call leads to the start of the frame's function.
pub(super) struct ByCall {
    pub(super) start: ProcessAddress,
    pub(super) caller: Caller,
}

impl<A: Architecture> Walker<'_, A> {
    /// A pc that is not code was called or jumped to: the return address, if any, is where
    /// the call left it.
    pub(super) fn called_nowhere(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        let pc = at.code.address();
        if !at.interrupted {
            return Err(Stop::BadReturn(pc));
        }
        if let Some(caller) = A::leaf(self.space, &at.state) {
            let leads_here = self.site(caller.pc).before.is_astray(caller.pc, pc);
            if leads_here || self.follows_call(caller.pc) {
                let proven = leads_here || self.proves_bad_call(at, &caller);
                return Ok((Trust::Leaf, self.called_by(caller, proven)));
            }
        }
        let chained = self.by_frame_pointer(at);
        self.search(at, chained)
    }

    /// The frame pointer is used late: in code that does not use one it still has the value of
    /// some outer function, and all frames up to there would be lost.
    pub(super) fn without_cfi(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        if self.is_outermost(at) || self.is_goexit(at) {
            return Err(Stop::Outermost);
        }
        // Nothing called it: it was put there to be returned to.
        if matches!(at.code, CodeAddress::Exact(_)) && !at.interrupted {
            return Err(Stop::NoCaller(at.code.address()));
        }
        // Only the code shows which register is the frame pointer, if any is.
        if A::READS_RULES {
            if let Some(read) = self.by_code(at) {
                return Ok(read);
            }
        }
        let compiled = self.is_compiled(at);
        let mut chained = self.by_frame_pointer(at);
        // Compilers keep frame pointers in all of their code or in none.
        let mut kept = false;
        if let Some((trust, found)) = chained {
            let own = self.is_direct(at, found.code.address())
                || self.sets_frame_pointer(at)
                || self.leaves_by_frame(at);
            let record = ProcessAddress(found.floor.0.wrapping_sub(2 * A::WORD));
            let found = Cursor {
                proven: own || self.nothing_between(at.floor, record),
                chained: compiled,
                ..found
            };
            chained = Some((trust, found));
            kept = compiled && (at.chained || self.is_compiled(&found));
            if own {
                return Ok((trust, found));
            }
        }
        if at.interrupted && !kept {
            if let Some(leaf) = self.leaf(at, chained.as_ref()) {
                return Ok(leaf);
            }
        }
        if let Some(end) = self.thread_end(at) {
            return Ok((Trust::FramePointer, self.called_by(end, true)));
        }
        if let Some(read) = self.by_code(at) {
            let agrees = |(_, chained): &(Trust, Cursor)| {
                chained.code == read.1.code && chained.floor == read.1.floor
            };
            // The record has the caller's frame pointer, too.
            return Ok(chained.filter(agrees).unwrap_or(read));
        }
        if let Some(found) = self.by_switched_record(at) {
            return Ok(found);
        }
        if let (Some(chained), true) = (chained, kept) {
            return Ok(chained);
        }
        if let (None, Some(found)) = (chained, self.by_compiled_chain(at)) {
            return Ok(found);
        }
        if self.space.lacks_file(at.code.lookup()) {
            let found = self.by_records_alone(at);
            // If a file is missing, a word that a search finds is usually left over. But the
            // crash's own function may have been called by readable code.
            if found.is_some() || !at.interrupted {
                return found.ok_or(Stop::NoCaller(at.code.address()));
            }
            return self.search(at, None);
        }
        if self.keeps_frame_pointers(at) {
            return chained.ok_or(Stop::NoCaller(at.code.address()));
        }
        match self.search(at, chained) {
            // The frame pointer may still be that of another stack.
            Err(Stop::NoCaller(_) | Stop::StackNotCaptured(_)) if self.returns_nowhere(at) => {
                Err(Stop::Outermost)
            }
            found => found,
        }
    }

    /// The best caller that the stack has; first searched below the frame pointer's record.
    fn search(
        &mut self,
        at: &Cursor,
        chained: Option<(Trust, Cursor)>,
    ) -> Result<(Trust, Cursor), Stop> {
        // Below the word that the frame pointer's own return address is in.
        let end = chained.and_then(|(_, chained)| chained.floor.checked_sub(A::WORD));
        if let Some(found) = self.scan_below(at, at.floor, end, Trust::ScanCfi) {
            return Ok(found);
        }
        if let Some(chained) = chained {
            // Frames may lie in the part before the record that was not captured.
            return match self.not_captured(at.floor, chained.1.floor) {
                Some(address) => Err(Stop::StackNotCaptured(address)),
                None => Ok(chained),
            };
        }
        let found = self.scan(at, at.floor, Trust::Scan);
        found.ok_or(Stop::NoCaller(at.code.address()))
    }

    /// An address in a piece of the stack that is not there but may have been used.
    fn not_captured(&self, from: ProcessAddress, to: ProcessAddress) -> Option<ProcessAddress> {
        let is_there = |address: u64| word::<A>(self.space, ProcessAddress(address)).is_ok();
        let mut at = from.0;
        while at < to.0 {
            // Windows are cut anywhere, pages are there or not.
            let end = (at | (PAGE_BYTES - 1)).min(to.0 - 1) + 1;
            if is_there(at) && is_there(end.saturating_sub(A::WORD)) {
                at = end;
                continue;
            }
            match self.space.above_unused(ProcessAddress(at)) {
                Some(above) if above.0 > at => at = above.0,
                _ => return Some(ProcessAddress(at)),
            }
        }
        None
    }

    /// The caller whose return address is where the function's own code puts it: the code
    /// that has run if its start is known, else the code that is still to run.
    pub(super) fn by_code(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        if A::READS_RULES {
            return self.by_code_rule(at);
        }
        // The end of a function is not visible: code after a call that does not return may
        // belong to another function.
        let depth = self.depth(at);
        let ahead = depth.is_none();
        let depth = depth.or_else(|| self.depth_ahead(at))?;
        self.at_depth(at, &depth, ahead)
    }

    /// The same for processors whose calls leave the return address in a register.
    fn by_code_rule(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        if !self.space.is_executable(at.code.lookup()) {
            return None;
        }
        let behind = self.rule_behind(at);
        let ahead = behind.is_none();
        let (rule, sure) = behind.or_else(|| self.rule_ahead(at))?;
        let caller = rule.apply::<A>(&at.state, self.space, 0).ok()??;
        let direct = self.is_direct(at, caller.pc);
        let led = direct || self.lead(at, caller.pc) > Lead::Unlikely;
        let sure = sure && self.space.is_executable(caller.pc);
        // The target of a function pointer returns, as far as a compiler knows.
        let goes_on = at.interrupted || self.site(at.code.address()).before == Before::Indirect;
        let proven = direct || sure && (!ahead || goes_on);
        let returns = sure && !ahead || self.is_return(&caller);
        if !led || !returns || !advances(at, &caller) {
            return None;
        }
        let unmoved = caller.floor == at.floor;
        let trust = match (unmoved, direct) {
            (true, _) => Trust::Leaf,
            (_, true) => Trust::ScanDirect,
            _ => Trust::Scan,
        };
        Some((trust, self.called_by(caller, proven)))
    }

    /// By the code from the function's start up to here. If its start is not known, it may be
    /// what the call led to whose return address is still in the link register.
    fn rule_behind(&mut self, at: &Cursor) -> Option<(Rule, bool)> {
        if let Some(start) = self.function_start(at.code.lookup()) {
            return self.rule_from(at, start);
        }
        let link = at.state.get(A::LINK?).filter(|_| at.interrupted)?;
        let caller = self.caller_by_call(at, A::code_pointer(self.space, link))?;
        self.rule_from(at, caller.start)
    }

    /// The caller with that return address, if the call before it leads to code that confirms
    /// it: it begins there, and has put the return address where it is found.
    pub(super) fn caller_by_call(
        &mut self,
        at: &Cursor,
        returns: ProcessAddress,
    ) -> Option<ByCall> {
        let lookup = at.code.lookup();
        let start = self.site(returns).before.target(returns)?;
        if !self.same_module(start, lookup) {
            return None;
        }
        let (rule, _) = self.rule_from(at, start)?;
        let caller = rule.apply::<A>(&at.state, self.space, 0).ok()??;
        let moves = advances(at, &caller) && caller.pc == returns;
        moves.then_some(ByCall { start, caller })
    }

    /// By the code from there up to here.
    pub(super) fn rule_from(&mut self, at: &Cursor, start: ProcessAddress) -> Option<(Rule, bool)> {
        let len = usize::try_from(at.code.address().offset_from(start)?).ok()?;
        let mut code = [0; MAX_RULE_CODE];
        let code = code.get_mut(..len)?;
        self.work(4 * len as u64)?;
        if self.space.read_code(start, code) < len {
            return None;
        }
        A::rule_behind(&at.state, code)
    }

    /// By the code from here on.
    fn rule_ahead(&self, at: &Cursor) -> Option<(Rule, bool)> {
        self.work(4 * MAX_CODE_AHEAD as u64)?;
        let mut code = [0; MAX_CODE_AHEAD];
        let len = self.read_code_some(at.code.address(), &mut code);
        A::rule_ahead(&at.state, code.get(..len)?)
    }

    /// How deep the function's code up to here has moved the stack pointer.
    fn depth(&mut self, at: &Cursor) -> Option<Depth> {
        let start = self.function_start(at.code.lookup())?;
        let len = usize::try_from(at.code.address().offset_from(start)?).ok()?;
        let mut code = [0; MAX_CODE];
        let code = code.get_mut(..len)?;
        self.work(4 * len as u64)?;
        if self.space.read_code(start, code) < len {
            return None;
        }
        self.aligned(at, A::depth(code)?)
    }

    /// The same from the stack that the code from here on frees.
    fn depth_ahead(&self, at: &Cursor) -> Option<Depth> {
        self.work(4 * MAX_CODE_AHEAD as u64)?;
        let mut code = [0; MAX_CODE_AHEAD];
        let len = self.read_code_some(at.code.address(), &mut code);
        self.aligned(at, A::depth_ahead(code.get(..len)?)?)
    }

    /// A call is made with the stack aligned: otherwise something was missed. Old
    /// programs of 32 bits align it to words.
    fn aligned(&self, at: &Cursor, depth: Depth) -> Option<Depth> {
        let alignment = if A::ARCH == Arch::I386 { A::WORD } else { 16 };
        let whole = depth.bytes.wrapping_add(A::WORD) % alignment == 0;
        (at.interrupted || whole).then_some(depth)
    }

    /// The caller whose return address lies that deep. If the depth is certain, no call need
    /// be visible before the address: its code may not be available, or somebody put the
    /// address there, as `makecontext` does.
    fn at_depth(&mut self, at: &Cursor, depth: &Depth, ahead: bool) -> Option<(Trust, Cursor)> {
        let slot = offset(at.floor, depth.bytes);
        let value = word::<A>(self.space, slot).ok()?;
        let mut caller = A::returned_through(self.space, &at.state, slot, value);
        let direct = self.is_direct(at, caller.pc);
        let led = direct || self.lead(at, caller.pc) > Lead::Unlikely;
        // A function that aligns the stack copies its return address.
        let copied = !direct && caller.pc == at.code.address();
        let sure = depth.sure && !ahead && self.space.is_executable(caller.pc);
        // The target of a function pointer returns, as far as a compiler knows.
        let goes_on = at.interrupted || self.site(at.code.address()).before == Before::Indirect;
        let proven = direct
            || sure
            || (ahead && depth.sure && goes_on)
            || self.code_agrees(at, &caller, depth.bytes);
        // Its own code may be available, and its caller's not.
        let blind = depth.sure && at.interrupted && self.space.lacks_file(caller.pc);
        let returns = sure || blind || self.is_return(&caller);
        if copied || !led || !returns || !advances(at, &caller) {
            return None;
        }
        for (number, below) in (0..).zip(depth.saved) {
            let Some(below) = below.filter(|&below| below <= depth.bytes) else {
                continue;
            };
            let old = word::<A>(self.space, ProcessAddress(slot.0.wrapping_sub(below)));
            caller.state.set(number, old.ok()?);
        }
        let trust = if direct {
            Trust::ScanDirect
        } else {
            Trust::Scan
        };
        Some((trust, self.called_by(caller, proven)))
    }

    /// Whether the return address is zero, where the function's code says it lies.
    fn returns_nowhere(&mut self, at: &Cursor) -> bool {
        let slot = self.depth(at).map(|depth| offset(at.floor, depth.bytes));
        slot.is_some_and(|slot| {
            let zero = word::<A>(self.space, slot) == Ok(0);
            zero && self.ends_stack(offset(slot, A::WORD))
        })
    }

    /// The record that the frame pointer leads to, if it was made by hand for a
    /// thread's first function: no frame pointer before it.
    fn thread_end(&mut self, at: &Cursor) -> Option<Caller> {
        let caller = A::frame_pointer(self.space, &at.state, at.floor)?;
        let first = caller.state.get(A::FRAME_POINTER) == Some(0);
        (first && self.is_behind_start(caller.pc)).then_some(caller)
    }

    /// Whether a frame is such a record's: Go's `goexit`.
    fn is_goexit(&mut self, at: &Cursor) -> bool {
        let pc = at.code.address();
        !at.interrupted && at.code == CodeAddress::Exact(pc) && self.is_behind_start(pc)
    }

    /// Whether an address is one instruction after a function's start, where no call
    /// fits in.
    pub(super) fn is_behind_start(&mut self, pc: ProcessAddress) -> bool {
        let start = self.function_start(pc);
        let into = start.and_then(|start| pc.offset_from(start));
        self.space.is_executable(pc) && into == Some(A::INSTRUCTION)
    }

    fn keeps_frame_pointers(&self, at: &Cursor) -> bool {
        let module = self.space.module(at.code.lookup());
        module.is_some_and(|module| module.data.keeps_frame_pointers())
    }

    /// The caller on another stack, to which the frame pointer still leads: Go calls C on a
    /// separate stack, and the function that switches to it keeps no frame. Its caller left the
    /// return address below the record.
    fn by_switched_record(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        let fp = ProcessAddress(at.state.get(A::FRAME_POINTER)?);
        let far = self.switches == MAX_SWITCHES || !self.keeps_frame_pointers(at);
        if fp >= at.floor || far || !fp.0.is_multiple_of(A::WORD) {
            return None;
        }
        word::<A>(self.space, fp).ok()?;
        for back in 1..=MAX_BELOW / A::WORD {
            let slot = ProcessAddress(fp.0.checked_sub(back * A::WORD)?);
            let Ok(value) = word::<A>(self.space, slot) else {
                break;
            };
            let caller = A::returned_through(self.space, &at.state, slot, value);
            if self.is_direct(at, caller.pc) {
                self.switches += 1;
                return Some((Trust::FramePointer, self.called_by(caller, true)));
            }
        }
        let caller = A::frame_pointer(self.space, &at.state, fp)?;
        let returns = self.is_return(&caller);
        self.switches += usize::from(returns);
        returns.then(|| (Trust::FramePointer, self.called_by(caller, false)))
    }

    /// Whether the frame's function is known to have set up the frame pointer.
    pub(super) fn sets_frame_pointer(&mut self, at: &Cursor) -> bool {
        let lookup = at.code.lookup();
        let Some(start) = self.function_start(lookup) else {
            return false;
        };
        let mut code = [0; PROLOGUE_BYTES];
        let into = lookup.offset_from(start).unwrap_or(0);
        let wanted = usize::try_from(into).map_or(code.len(), |into| into.min(code.len()));
        let len = self.space.read_code(start, &mut code[..wanted]).min(wanted);
        A::sets_frame_pointer(&code[..len])
    }

    /// The caller of a function that has not moved the stack pointer, unless something
    /// contradicts that.
    fn leaf(&mut self, at: &Cursor, chained: Option<&(Trust, Cursor)>) -> Option<(Trust, Cursor)> {
        let mut caller = A::leaf(self.space, &at.state)?;
        if !self.is_return(&caller) {
            return None;
        }
        if A::READS_RULES {
            caller = self.behind_moved_leaf(caller);
        }
        if A::LINK.is_some() {
            // A link register that was saved already says the same as the record;
            // one left over from an earlier call points into its own function.
            let saved = chained.is_some_and(|(_, other)| other.code.address() == caller.pc);
            if saved || self.same_function(at.code.address(), caller.pc) {
                return None;
            }
        }
        let mut code = [0; STUB_BYTES];
        let len = self.space.read_code(at.code.address(), &mut code);
        let good = A::is_jump(&code[..len.min(STUB_BYTES)])
            || self.is_direct(at, caller.pc)
            || self.lead(at, caller.pc) > Lead::Unlikely && self.steps_on_or_silent(&caller);
        let proven = good && self.proves_leaf(at, &caller);
        good.then(|| (Trust::Leaf, self.called_by(caller, proven)))
    }

    /// The caller of code that has not saved its return address but may have moved the stack
    /// pointer: by so much that steps from the caller lead on to the end of the stack.
    fn behind_moved_leaf(&mut self, caller: Caller) -> Caller {
        if self.steps(&caller) > 0 {
            return caller;
        }
        let moved = (A::WORD..=MAX_LEAF).step_by(A::WORD as usize);
        let mut moved = moved.map(|bytes| {
            let mut moved = caller;
            moved.floor = offset(caller.floor, bytes);
            moved.state.set(A::STACK_POINTER, moved.floor.0);
            moved
        });
        moved
            .find(|moved| self.steps(moved) == MAX_STEPS)
            .unwrap_or(caller)
    }

    fn by_frame_pointer(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        let caller = A::frame_pointer(self.space, &at.state, at.floor)?;
        if !advances(at, &caller) {
            return None;
        }
        let faulted = self.is_injected(&caller) && self.sets_frame_pointer(at);
        let good = faulted || self.is_return(&caller);
        let found = good.then(|| self.called_from(caller))?;
        let found = Cursor {
            interrupted: faulted,
            ..found
        };
        Some((Trust::FramePointer, found))
    }

    /// The same from code that was compiled while the program ran.
    pub(super) fn by_compiled_record(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        self.is_compiled(at).then(|| self.by_frame_pointer(at))?
    }

    /// The caller by the record of an interpreter that was compiled while the program ran, and
    /// that jumps where others call (HotSpot's): it is believed if it belongs to a chain of
    /// records that leads to a call by code in a file, and on from there.
    fn by_compiled_chain(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        let caller = A::frame_pointer(self.space, &at.state, at.floor)?;
        if !self.is_compiled(at) || !self.space.is_compiled(caller.pc) {
            return None;
        }
        let mut above = caller;
        while self.space.is_compiled(above.pc) {
            self.trial_steps = self.trial_steps.checked_sub(1)?;
            if self.site(above.pc).before == Before::Unreadable {
                return None;
            }
            let next = A::frame_pointer(self.space, &above.state, above.floor)?;
            if next.floor <= above.floor {
                return None;
            }
            above = next;
        }
        let cursor = Cursor {
            code: CodeAddress::Return(caller.pc),
            state: caller.state,
            floor: caller.floor,
            interrupted: false,
            proven: false,
            chained: true,
        };
        let known = self.is_return(&above) && self.steps(&above) > 0;
        known.then_some((Trust::FramePointer, cursor))
    }

    /// The caller by a frame pointer's record if the code cannot be read, because its file was
    /// not available. Two conditions must hold for such a record: no word below it can be the
    /// return address of a frame without a record, and it belongs to a chain of records that
    /// leads to code that can be read, and on from there.
    fn by_records_alone(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        // A link register would be one more place for a return address.
        if A::LINK.is_some() {
            return None;
        }
        let caller = A::frame_pointer(self.space, &at.state, at.floor)?;
        let record = caller.floor.0.checked_sub(2 * A::WORD)?;
        let mut slot = at.floor;
        while slot.0 < record {
            self.trial_steps = self.trial_steps.checked_sub(1)?;
            let value = word::<A>(self.space, slot).ok()?;
            if self.space.is_executable(A::code_pointer(self.space, value)) {
                return None;
            }
            slot = offset(slot, A::WORD);
        }
        let mut above = caller;
        while !self.is_return(&above) {
            self.trial_steps = self.trial_steps.checked_sub(1)?;
            if !self.space.lacks_file(above.pc) {
                return None;
            }
            let next = A::frame_pointer(self.space, &above.state, above.floor)?;
            if next.floor <= above.floor {
                return None;
            }
            above = next;
        }
        let known = self.steps(&above) > 0;
        known.then(|| (Trust::FramePointer, self.called_by(caller, true)))
    }
}
