//! The rules in their order, from one frame to the next.
//!
//! ```text
//! restorer's code here?       the interrupted frame, from the signal frame
//! pc not in code?             the caller of a bad pc: [sp] or the link register
//! call-frame information?     its row; undefined or zero return address: outermost
//! entry point, thread's end?  outermost
//! crash's own frame?          a leaf's caller: [sp] or the link register
//! frame pointer?              its record, if the return address follows a call
//! else                        scan
//! ```
//!
//! Every rule but the first must move the stack on (the crash's own frame, and
//! one that a signal interrupted, may leave it where it is), and the number of
//! frames is capped, so that no stack can make a walk loop.

use std::marker::PhantomData;

use super::aarch64::Aarch64;
use super::architecture::{Architecture, Caller, Cursor, Site, State};
use super::rule::{Applied, Failure};
use super::x86_64::X86_64;
use super::{AddressSpace, Caches, CodeAddress, Frame, Placed, Stop, Trust, Walk};
use crate::address::ProcessAddress;
use crate::registers::{Arch, Registers};

/// Signal frames in one walk: handlers that crash in handlers that crash.
const MAX_SIGNALS: usize = 16;
/// How far behind the file's entry point code without call-frame information
/// still belongs to it. glibc's loader takes 0x38 bytes, the others fewer.
const ENTRY_BYTES: u64 = 0x40;

/// Finds the calls that led to these registers.
#[must_use]
pub fn walk(
    registers: &Registers,
    space: &dyn AddressSpace,
    max_frames: usize,
    caches: &mut Caches,
) -> Walk {
    // 32-bit tasks: an i386 or arm architecture would stand here.
    if registers.is_32_bit() {
        let pc = registers.pc();
        return Walk {
            frames: vec![Frame {
                code: CodeAddress::Exact(pc),
                trust: Trust::Context,
            }],
            stop: Stop::NoCaller(pc),
        };
    }
    match registers.arch() {
        Arch::X86_64 => Walker::<X86_64>::new(space, caches).walk(registers, max_frames),
        Arch::Aarch64 => Walker::<Aarch64>::new(space, caches).walk(registers, max_frames),
    }
}

/// A walk in progress.
pub(super) struct Walker<'a, A> {
    pub(super) space: &'a dyn AddressSpace,
    caches: &'a mut Caches,
    signals: usize,
    architecture: PhantomData<A>,
}

impl<'a, A: Architecture> Walker<'a, A> {
    fn new(space: &'a dyn AddressSpace, caches: &'a mut Caches) -> Self {
        Walker {
            space,
            caches,
            signals: 0,
            architecture: PhantomData,
        }
    }

    fn walk(&mut self, registers: &Registers, max_frames: usize) -> Walk {
        let mut frames = Vec::new();
        let mut cursor = Cursor {
            code: CodeAddress::Exact(registers.pc()),
            state: State::new(registers),
            floor: registers.sp(),
            interrupted: true,
        };
        let mut trust = Trust::Context;
        let stop = loop {
            if frames.len() >= max_frames {
                break Stop::Depth;
            }
            frames.push(Frame {
                code: cursor.code,
                trust,
            });
            match self.step(&cursor) {
                Ok(next) => (trust, cursor) = next,
                Err(stop) => break stop,
            }
        };
        Walk { frames, stop }
    }

    /// The caller of a frame, or why there is none.
    fn step(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        let pc = at.code.address();
        if self.is_restorer(at) {
            return self.interrupted(at);
        }
        if !self.space.is_executable(pc) {
            return self.called_nowhere(at);
        }
        match self.by_cfi(at) {
            Some(Ok(Applied::Outermost)) => Err(Stop::Outermost),
            Some(Ok(Applied::Caller(caller))) => self.accept_cfi(at, caller),
            Some(Err(Failure::NotCaptured(address))) => Err(Stop::StackNotCaptured(address)),
            Some(Err(Failure::Unusable)) | None => self.without_cfi(at),
        }
    }

    /// What the code around an address tells, from earlier walks if it lies in a file.
    pub(super) fn site(&mut self, address: ProcessAddress) -> Site {
        let Some(module) = self.space.module(address) else {
            return A::site(self.space, address);
        };
        let key = (module.data.identity(), module.file_address(address));
        if let Some(site) = self.caches.sites.get(&key) {
            return site;
        }
        let site = A::site(self.space, address);
        self.caches.sites.insert(key, site, 0);
        site
    }

    /// Whether an address holds code and follows a call.
    pub(super) fn follows_call(&mut self, address: ProcessAddress) -> bool {
        self.space.is_executable(address) && self.site(address).before.is_call()
    }

    fn is_restorer(&mut self, at: &Cursor) -> bool {
        let pc = at.code.address();
        self.site(pc).restorer || (at.interrupted && A::inside_restorer(self.space, pc))
    }

    fn interrupted(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        self.signals += 1;
        if self.signals > MAX_SIGNALS {
            return Err(Stop::NoProgress(at.floor));
        }
        match A::interrupted(self.space, &at.state) {
            Ok(caller) => Ok((Trust::Signal, interrupted_at(caller))),
            Err(address) => Err(Stop::StackNotCaptured(address)),
        }
    }

    /// One step by call-frame information; `None` when there is none.
    #[cfg(feature = "dwarf")]
    pub(super) fn by_cfi(&mut self, at: &Cursor) -> Option<Result<Applied, Failure>> {
        let lookup = at.code.lookup();
        let module = self.space.module(lookup)?;
        let rule = super::cfi::rule(&module, lookup, A::ARCH, self.caches)?;
        Some(rule.apply::<A>(&at.state, self.space, module.bias))
    }

    #[cfg(not(feature = "dwarf"))]
    pub(super) fn by_cfi(&mut self, _: &Cursor) -> Option<Result<Applied, Failure>> {
        None
    }

    fn accept_cfi(&mut self, at: &Cursor, caller: Caller) -> Result<(Trust, Cursor), Stop> {
        if caller.signal {
            self.signals += 1;
            if self.signals > MAX_SIGNALS {
                return Err(Stop::NoProgress(at.floor));
            }
            return Ok((Trust::Cfi, interrupted_at(caller)));
        }
        if caller.pc.0 == 0 {
            return Err(Stop::Outermost);
        }
        if !advances(at, &caller) {
            return Err(Stop::NoProgress(caller.floor));
        }
        if !self.space.is_executable(caller.pc) {
            // Frames above may still be there, each with its own evidence.
            return self
                .scan(at, caller.floor, Trust::ScanCfi)
                .ok_or(Stop::BadReturn(caller.pc));
        }
        Ok((Trust::Cfi, self.called_from(caller)))
    }

    /// The cursor at a caller. A return address behind no call was put there by
    /// hand (a restorer, the end of a coroutine): it is where a function begins.
    pub(super) fn called_from(&mut self, caller: Caller) -> Cursor {
        let site = self.site(caller.pc);
        let by_hand = site.restorer || site.before == super::architecture::Before::Other;
        Cursor {
            code: if by_hand {
                CodeAddress::Exact(caller.pc)
            } else {
                CodeAddress::Return(caller.pc)
            },
            state: caller.state,
            floor: caller.floor,
            interrupted: false,
        }
    }

    /// A pc without code behind it was called or jumped to: the return address,
    /// if any, is where the call left it.
    fn called_nowhere(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        let pc = at.code.address();
        if !at.interrupted {
            return Err(Stop::BadReturn(pc));
        }
        if let Some(caller) = A::leaf(self.space, &at.state) {
            if self.follows_call(caller.pc) {
                return Ok((Trust::Leaf, self.called_from(caller)));
            }
        }
        self.by_frame_pointer(at)
            .or_else(|| self.scan(at, at.floor, Trust::Scan))
            .ok_or(Stop::NoCaller(pc))
    }

    fn without_cfi(&mut self, at: &Cursor) -> Result<(Trust, Cursor), Stop> {
        if self.is_outermost(at) {
            return Err(Stop::Outermost);
        }
        let chained = self.by_frame_pointer(at);
        if at.interrupted {
            if let Some(leaf) = self.leaf(at, chained.as_ref()) {
                return Ok(leaf);
            }
        }
        if let Some(chained) = chained {
            return Ok(chained);
        }
        match self.scan(at, at.floor, Trust::Scan) {
            Some(found) => Ok(found),
            None => Err(Stop::NoCaller(at.code.address())),
        }
    }

    /// Whether code without call-frame information is where a process or thread begins.
    fn is_outermost(&mut self, at: &Cursor) -> bool {
        let returns = matches!(at.code, CodeAddress::Return(_));
        if returns && self.site(at.code.address()).ends {
            return true;
        }
        if self.space.stack_start() == Some(at.floor) {
            return true;
        }
        let lookup = at.code.lookup();
        self.space
            .module(lookup)
            .is_some_and(|module| is_entry(&module, lookup))
    }

    /// The caller of a function that has not touched the stack, unless the frame
    /// pointer's record has better evidence.
    fn leaf(&mut self, at: &Cursor, chained: Option<&(Trust, Cursor)>) -> Option<(Trust, Cursor)> {
        let caller = A::leaf(self.space, &at.state)?;
        if !self.follows_call(caller.pc) {
            return None;
        }
        if let Some((_, chained)) = chained {
            let other = chained.code.address();
            // A link register that was saved already says the same as the record.
            let saved = other == caller.pc && A::ARCH == Arch::Aarch64;
            let better = self.is_direct(at, other) && !self.is_direct(at, caller.pc);
            if saved || better {
                return None;
            }
        }
        // A link register left over from an earlier call points into its own function.
        if A::ARCH == Arch::Aarch64 && self.same_function(at.code.address(), caller.pc) {
            return None;
        }
        Some((Trust::Leaf, self.called_from(caller)))
    }

    fn by_frame_pointer(&mut self, at: &Cursor) -> Option<(Trust, Cursor)> {
        let caller = A::frame_pointer(self.space, &at.state, at.floor)?;
        let good = advances(at, &caller) && self.follows_call(caller.pc);
        good.then(|| (Trust::FramePointer, self.called_from(caller)))
    }

    /// Whether the call before a return address is one of the function that a
    /// frame is in.
    pub(super) fn is_direct(&mut self, at: &Cursor, returns: ProcessAddress) -> bool {
        let target = self.site(returns).before.target(returns);
        target.is_some() && target == self.function_start(at.code.lookup())
    }

    pub(super) fn function_start(&self, address: ProcessAddress) -> Option<ProcessAddress> {
        let module = self.space.module(address)?;
        let start = module.data.function_start(module.file_address(address))?;
        Some(module.process_address(start))
    }

    fn same_function(&self, pc: ProcessAddress, returns: ProcessAddress) -> bool {
        let lookup = CodeAddress::Return(returns).lookup();
        let start = self.function_start(pc);
        start.is_some() && start == self.function_start(lookup)
    }
}

/// Whether an address belongs to a file's entry point.
pub(super) fn is_entry(module: &Placed, address: ProcessAddress) -> bool {
    let address = module.file_address(address);
    let into = module
        .data
        .entry()
        .and_then(|entry| address.offset_from(entry));
    into.is_some_and(|into| into < ENTRY_BYTES)
}

/// Whether a caller's part of the stack lies above the frame's.
fn advances(at: &Cursor, caller: &Caller) -> bool {
    caller.floor > at.floor || (at.interrupted && caller.floor == at.floor)
}

/// The cursor at a frame that a signal interrupted.
fn interrupted_at(caller: Caller) -> Cursor {
    Cursor {
        code: CodeAddress::Exact(caller.pc),
        state: caller.state,
        floor: caller.floor,
        interrupted: true,
    }
}
