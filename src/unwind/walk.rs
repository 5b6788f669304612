//! The rules in their order, from one frame to the next.
//!
//! ```text
//! restorer's code here?       the interrupted frame, from the signal frame
//! pc not in code?             the caller of a bad pc: [sp] or the link register
//! call-frame information?     its row; undefined or zero return address: outermost
//! entry point, thread's end?  outermost
//! crash's own frame?          a leaf's caller: [sp] or the link register
//! frame pointer?              its record, if the return address follows a call
//! code that can be read?      by how far it has moved the stack pointer, or will
//! code's file is missing?     the frame pointer's record, in a chain of such records
//! else                        scan
//! ```
//!
//! Every rule but the first must move the stack pointer up. There are two exceptions: the
//! crash's own frame, and one that a signal interrupted, may leave it where it is; and
//! call-frame information may lead down a few times, to a stack that the program switched
//! from.
//! The number of frames is limited too, so no stack can make a walk loop.

use std::marker::PhantomData;
use std::rc::Rc;

use super::aarch64::Aarch64;
use super::apply::Applied;
use super::architecture::{Architecture, Before, Caller, Cursor, Site, State};
use super::arm::Arm;
use super::failure::Failure;
use super::i386::I386;
use super::rule::Rule;
use super::stack::Upward;
use super::x86_64::X86_64;
use super::{AddressSpace, Caches, CodeAddress, Frame, Placed, Stop, Trust, Walk};
use crate::base::address::ProcessAddress;
use crate::base::allowance::Step;
use crate::crash::registers::{Arch, Registers};

/// How often one walk may go down to another stack.
const MAX_DESCENTS: usize = 4;
/// Signal frames in one walk: handlers that crash in handlers that crash.
const MAX_SIGNALS: usize = 16;
/// Steps of all trials in one walk.
const MAX_TRIAL_STEPS: usize = 8192;
/// Units of work for a frame, and for what the code around an address tells.
const STEP: u64 = 1024;
const SITE: u64 = 128;
/// How far behind the file's entry point code without call-frame information
/// still belongs to it. glibc's loader takes 0x38 bytes, the others fewer.
const ENTRY_BYTES: u64 = 0x40;

/// The architectures whose tasks are walked: a release binary meets only tasks of its own
/// kernel (a desk's also cores of others), and the code for the others would be a tenth of it.
const X86: bool = cfg!(any(
    test,
    debug_assertions,
    feature = "every-arch",
    target_arch = "x86_64"
));
pub(super) const ARM: bool = Arch::MEETS_ARM;

/// Finds the calls that led to these registers.
#[must_use]
pub fn walk(
    registers: &Registers,
    space: &dyn AddressSpace,
    max_frames: usize,
    caches: &mut Caches,
) -> Walk {
    match registers.arch() {
        Arch::X86_64 if X86 => Walker::<X86_64>::new(space, caches).walk(registers, max_frames),
        Arch::I386 if X86 => Walker::<I386>::new(space, caches).walk(registers, max_frames),
        Arch::Aarch64 if ARM => Walker::<Aarch64>::new(space, caches).walk(registers, max_frames),
        Arch::Arm if ARM => Walker::<Arm>::new(space, caches).walk(registers, max_frames),
        _ => Walk {
            frames: Vec::new(),
            stop: Stop::NoCaller(registers.pc()),
            uncertain: false,
            certain: 0,
            interrupted: None,
        },
    }
}

/// A walk in progress.
pub(super) struct Walker<'a, A> {
    pub(super) space: &'a dyn AddressSpace,
    caches: &'a mut Caches,
    signals: usize,
    /// How often the walk has gone down to another stack.
    descents: usize,
    /// The parts of stacks on which it has found frames, each in one captured window.
    walked: Vec<(ProcessAddress, ProcessAddress)>,
    /// The start of the function that was looked up last.
    last_start: Option<(ProcessAddress, Option<ProcessAddress>)>,
    /// It has followed the frame pointer to one, so often.
    pub(super) switches: usize,
    /// The registers that the kernel saved, to which the innermost handler returns.
    saved: Option<State>,
    /// Steps of trials that are left, so that no stack can keep a walk busy.
    pub(super) trial_steps: usize,
    /// Of the frame that is being left by a search.
    pub(super) upward: Upward,
    architecture: PhantomData<A>,
}

impl<'a, A: Architecture> Walker<'a, A> {
    fn new(space: &'a dyn AddressSpace, caches: &'a mut Caches) -> Self {
        Walker {
            space,
            caches,
            signals: 0,
            descents: 0,
            walked: Vec::new(),
            last_start: None,
            switches: 0,
            saved: None,
            trial_steps: MAX_TRIAL_STEPS,
            upward: Upward::default(),
            architecture: PhantomData,
        }
    }

    fn walk(&mut self, registers: &Registers, max_frames: usize) -> Walk {
        let mut frames = Vec::new();
        self.walked.push((registers.sp(), registers.sp()));
        let mut cursor = Cursor {
            code: CodeAddress::Exact(registers.pc()),
            state: State::new(registers),
            floor: registers.sp(),
            interrupted: true,
            proven: true,
            chained: false,
        };
        let mut uncertain = false;
        let mut certain = 0;
        let mut trust = Trust::Context;
        let stop = loop {
            if frames.len() >= max_frames {
                break Stop::Depth;
            }
            frames.push(Frame {
                code: cursor.code,
                trust,
            });
            certain += usize::from(!uncertain);
            let step = match self.caches.work(STEP) {
                Some(()) => self.step(&cursor),
                None => Err(Stop::NoCaller(cursor.code.address())),
            };
            // What a step found when there was no more to be had is not what is there.
            if self.caches.is_out() {
                self.caches.allowance.cut(Step::Calls);
                break Stop::NoCaller(cursor.code.address());
            }
            match step {
                Ok(next) => (trust, cursor) = next,
                Err(stop) => break stop,
            }
            self.reach(cursor.floor);
            uncertain |= !cursor.proven;
        };
        let interrupted = self.saved.and_then(|state| state.registers(registers));
        Walk {
            frames,
            stop,
            uncertain,
            certain,
            interrupted,
        }
    }

    /// Takes work that is about to be done, if it may be done.
    pub(super) fn work(&self, units: u64) -> Option<()> {
        self.caches.work(units)
    }

    /// The caller of a frame, or why there is none.
    fn step(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        let pc = at.code.address();
        if self.is_in_restorer(at) {
            return self.interrupted(at);
        }
        if !self.space.is_executable(pc) {
            return self.called_nowhere(at);
        }
        if self.doubts_entry(at) {
            if let Some(found) = self.by_code(at) {
                return Ok(found);
            }
        }
        match self.by_cfi(at) {
            Some(Ok(None)) => Err(Stop::Outermost),
            Some(Ok(Some(caller))) => self.accept_cfi(at, caller),
            // Below the frame nothing is kept: the registers were wrong.
            Some(Err(Failure::NotCaptured(address))) if address >= at.floor => {
                Err(if self.is_outermost(at) {
                    Stop::Outermost
                } else {
                    Stop::StackNotCaptured(address)
                })
            }
            Some(Err(_)) | None => self.without_cfi(at),
        }
    }

    /// What the code around an address shows, from earlier walks if it is in a file.
    pub(super) fn site(&mut self, address: ProcessAddress) -> Site {
        // A code that is not read is as one that is not at hand.
        let _ = self.caches.work(SITE);
        let Some(module) = self.space.module(address) else {
            return A::site(self.space, address);
        };
        let key = (module.data.identity(), module.file_address(address));
        if let Some(site) = self.caches.sites.get(&key) {
            return site;
        }
        let site = A::site(self.space, address);
        if !self.caches.is_out() {
            self.caches.sites.insert(key, site, 0);
        }
        site
    }

    /// Whether an address holds code and follows a call.
    pub(super) fn follows_call(&mut self, address: ProcessAddress) -> bool {
        self.space.is_executable(address) && self.site(address).before.is_call()
    }

    /// Whether a caller can be one: its pc follows a call, or the kernel put it
    /// there for a handler to return to.
    pub(super) fn is_return(&mut self, caller: &Caller) -> bool {
        self.space.is_executable(caller.pc) && {
            let site = self.site(caller.pc);
            site.before.is_call() || self.restores(site, &caller.state)
        }
    }

    /// Whether a signal handler returned to this code with these registers.
    fn restores(&self, site: Site, state: &State) -> bool {
        site.restorer || (!site.before.is_call() && A::is_marked(self.space, state))
    }

    /// Whether code with call-frame information begins at an address.
    fn begins(&mut self, pc: ProcessAddress) -> bool {
        let Some(module) = self.space.module(pc) else {
            return false;
        };
        let file = module.file_address(pc);
        let rule = self.rule(&module, pc);
        rule.is_some_and(|rule| rule.start == file)
    }

    pub(super) fn is_restorer(&mut self, caller: &Caller) -> bool {
        let site = self.site(caller.pc);
        self.restores(site, &caller.state)
    }

    fn is_in_restorer(&mut self, at: &Cursor) -> bool {
        let pc = at.code.address();
        let site = self.site(pc);
        self.restores(site, &at.state) || (at.interrupted && A::inside_restorer(self.space, pc))
    }

    fn interrupted(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        self.signals += 1;
        if self.signals > MAX_SIGNALS {
            return Err(Stop::NoProgress(at.floor));
        }
        if A::stack_pointer(&at.state).is_none() {
            return Err(Stop::NoCaller(at.code.address()));
        }
        match A::interrupted(self.space, &at.state) {
            Ok(caller) => {
                self.saved.get_or_insert(caller.state);
                Ok((Trust::Signal, interrupted_at(caller)))
            }
            Err(address) => Err(Stop::StackNotCaptured(address)),
        }
    }

    /// One step by call-frame information; `None` if there is none.
    pub(super) fn by_cfi(&mut self, at: &Cursor) -> Option<Result<Applied, Failure>> {
        let lookup = at.code.lookup();
        let module = self.space.module(lookup)?;
        let rule = self.rule(&module, lookup)?;
        self.caches.work(rule.work())?;
        let applied = rule.apply::<A>(&at.state, self.space, module.bias);
        if !(A::READS_RULES && rule.at_calls && at.interrupted) {
            return Some(applied);
        }
        // It may be in a prologue or epilogue.
        let assume = |caller| Caller {
            assumed: true,
            ..caller
        };
        Some(applied.map(|caller| caller.map(assume)))
    }

    /// Whether a frame's own code is to be asked before the table's entry for it.
    fn doubts_entry(&mut self, at: &Cursor) -> bool {
        if !(A::READS_RULES && at.interrupted) {
            return false;
        }
        let lookup = at.code.lookup();
        let Some(module) = self.space.module(lookup) else {
            return false;
        };
        self.rule(&module, lookup).is_some_and(|rule| rule.at_calls)
    }

    #[cfg(feature = "dwarf")]
    fn rule(&mut self, module: &Placed, lookup: ProcessAddress) -> Option<Rc<Rule>> {
        super::cfi::rule(module, lookup, A::ARCH, self.caches)
    }

    #[cfg(not(feature = "dwarf"))]
    fn rule(&mut self, _: &Placed, _: ProcessAddress) -> Option<Rc<Rule>> {
        None
    }

    /// Whether there is call-frame information for the instruction at an address.
    pub(super) fn has_cfi(&mut self, address: ProcessAddress) -> bool {
        let module = self.space.module(address);
        module.is_some_and(|module| self.rule(&module, address).is_some())
    }

    /// Whether a frame was made by hand, so that a function runs from its beginning when the
    /// code above it returns, as in a coroutine's last frame.
    fn is_trampoline(&mut self, at: &Cursor) -> bool {
        let CodeAddress::Exact(pc) = at.code else {
            return false;
        };
        !at.interrupted && self.begins(pc)
    }

    fn accept_cfi(&mut self, at: &Cursor, caller: Caller) -> Result<(Trust, Cursor), Stop> {
        if caller.signal {
            self.signals += 1;
            if self.signals > MAX_SIGNALS {
                return Err(Stop::NoProgress(at.floor));
            }
            return Ok((caller.trust(), interrupted_at(caller)));
        }
        if caller.assumed && !(advances(at, &caller) && self.is_return(&caller)) {
            return self.without_cfi(at);
        }
        if caller.pc.0 == 0 {
            let ends = self.ends_stack(caller.floor) || self.is_outermost(at);
            return Err(match ends || self.is_trampoline(at) {
                true => Stop::Outermost,
                false => Stop::BadReturn(caller.pc),
            });
        }
        if !advances(at, &caller) && !self.descends(at, &caller) {
            return Err(if self.is_outermost(at) {
                Stop::Outermost
            } else {
                Stop::NoProgress(caller.floor)
            });
        }
        if !self.space.is_executable(caller.pc) {
            if self.is_trampoline(at) || self.is_outermost(at) {
                return Err(Stop::Outermost);
            }
            // Frames above may still be there, each with its own evidence. What
            // called the frame that is lost is not known.
            let lost = Cursor {
                code: CodeAddress::Return(caller.pc),
                state: caller.state,
                floor: caller.floor,
                interrupted: false,
                proven: false,
                chained: false,
            };
            return self
                .scan(&lost, lost.floor, Trust::ScanCfi)
                .ok_or(Stop::BadReturn(caller.pc));
        }
        let proven = self.proves_assumed(at, &caller);
        Ok((caller.trust(), self.called_by(caller, proven)))
    }

    /// Whether a caller that lies below the frame has called it on a stack of the
    /// program's own making: that part of its stack was captured for this.
    fn descends(&mut self, at: &Cursor, caller: &Caller) -> bool {
        let descends = self.descents < MAX_DESCENTS
            && self.space.is_other_stack(caller.floor, at.floor)
            && !self.has_walked(caller.floor)
            && self.follows_call(caller.pc);
        self.descents += usize::from(descends);
        descends
    }

    /// Notes that the frames up to `floor` are known.
    fn reach(&mut self, floor: ProcessAddress) {
        let last = ProcessAddress(floor.0.wrapping_sub(1));
        match self.walked.last_mut() {
            Some((_, high)) if *high <= floor && !self.space.is_other_stack(last, *high) => {
                *high = floor;
            }
            _ => self.walked.push((floor, floor)),
        }
    }

    /// Whether an address belongs to a stack's part whose frames are known.
    fn has_walked(&self, address: ProcessAddress) -> bool {
        let mut walked = self.walked.iter();
        walked.any(|(low, high)| (*low..*high).contains(&address))
    }

    /// The cursor at a caller. A return address that does not follow a call was put there by
    /// hand (a restorer, the end of a coroutine): a function begins at it.
    pub(super) fn called_from(&mut self, caller: Caller) -> Cursor {
        self.called_by(caller, false)
    }

    /// The same; whether that it has called the frame before it is proven.
    pub(super) fn called_by(&mut self, caller: Caller, proven: bool) -> Cursor {
        let site = self.site(caller.pc);
        let by_hand = site.before == Before::Other || self.restores(site, &caller.state);
        let faulted = proven && self.is_injected(&caller);
        Cursor {
            code: if by_hand {
                CodeAddress::Exact(caller.pc)
            } else {
                CodeAddress::Return(caller.pc)
            },
            state: caller.state,
            floor: caller.floor,
            interrupted: faulted,
            proven,
            chained: false,
        }
    }

    /// Whether a return address that follows no call is that of an instruction of Go's
    /// which faulted: Go's handler of the signal puts a call of sigpanic between it and its
    /// stack. Nothing else is put there by hand but `goexit`, which begins a function.
    pub(super) fn is_injected(&mut self, caller: &Caller) -> bool {
        let module = self.space.module(caller.pc);
        module.is_some_and(|module| module.data.keeps_frame_pointers())
            && self.space.is_executable(caller.pc)
            && !self.is_return(caller)
            && !self.is_behind_start(caller.pc)
    }

    /// Whether code without call-frame information is where a process or thread begins.
    pub(super) fn is_outermost(&mut self, at: &Cursor) -> bool {
        let returns = matches!(at.code, CodeAddress::Return(_));
        if returns && self.site(at.code.address()).ends {
            return true;
        }
        if self.space.stack_start() == Some(at.floor) {
            return true;
        }
        self.is_entry(at.code.lookup(), at.floor)
    }

    /// Whether an address belongs to a file's entry point, with a frame whose part of
    /// the stack begins at `floor`: by its symbol, or because nothing has called it.
    pub(super) fn is_entry(&mut self, address: ProcessAddress, floor: ProcessAddress) -> bool {
        let Some(module) = self.space.module(address) else {
            return false;
        };
        let file = module.file_address(address);
        let Some(entry) = module.data.entry() else {
            return false;
        };
        if file
            .offset_from(entry)
            .is_none_or(|into| into >= ENTRY_BYTES)
        {
            return false;
        }
        if let Some(start) = module.data.function_start(file) {
            return start == entry;
        }
        let top = self.space.stack_start();
        top.is_some_and(|top| floor <= top && self.nothing_between(floor, top))
    }

    /// Whether the call before a return address is one of the function that a
    /// frame is in.
    pub(super) fn is_direct(&mut self, at: &Cursor, returns: ProcessAddress) -> bool {
        let target = self.site(returns).before.target(returns);
        target.is_some() && target == self.function_start(at.code.lookup())
    }

    /// By its symbol, else by the entry of call-frame information that is for it.
    pub(super) fn function_start(&mut self, address: ProcessAddress) -> Option<ProcessAddress> {
        if let Some((_, start)) = self.last_start.filter(|(last, _)| *last == address) {
            return start;
        }
        let start = self.space.module(address).and_then(|module| {
            let start = module.data.function_start(module.file_address(address));
            let start = start.or_else(|| Some(self.rule(&module, address)?.start))?;
            Some(module.process_address(start))
        });
        // A search asks for the same again and again.
        self.last_start = Some((address, start));
        start
    }

    pub(super) fn same_function(&mut self, pc: ProcessAddress, returns: ProcessAddress) -> bool {
        let lookup = CodeAddress::Return(returns).lookup();
        let start = self.function_start(pc);
        start.is_some() && start == self.function_start(lookup)
    }
}

/// Whether a caller's part of the stack lies above the frame's.
pub(super) fn advances(at: &Cursor, caller: &Caller) -> bool {
    caller.floor > at.floor || (at.interrupted && caller.floor == at.floor)
}

/// The cursor at a frame that a signal interrupted.
fn interrupted_at(caller: Caller) -> Cursor {
    Cursor {
        code: CodeAddress::Exact(caller.pc),
        state: caller.state,
        floor: caller.floor,
        interrupted: true,
        proven: true,
        chained: false,
    }
}
