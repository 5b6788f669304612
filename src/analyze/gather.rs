//! What is known of one crash: the event, what completes it, the calls and their names.
//!
//! The one stage of a report that reads files. It decides nothing but which fault the
//! report is about, because that is the one whose address gets a name.

use std::borrow::Cow;

use super::Analyzer;
use crate::analyze::cause::{self, Chosen, Fault};
use crate::analyze::located::Located;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::crash::event::{EarlierFault, Event, Lost, MemoryWindow};
use crate::crash::frame::{CodeAddress, Frame, Stop, Trust};
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::code;
use crate::decode::{decode_at_pc, Class, Reg, MAX_LENGTH};
use crate::report::{signature, Location};
use crate::sys::opener;
use crate::unwind::{self, AddressSpace, Walk};

/// Bytes ahead of the instruction pointer, as in the capture program (bpf/task.h).
const CODE_BEFORE: u64 = 16;
const CODE_BYTES: usize = 64;

/// What is known of one crash.
pub(super) struct Facts<'a> {
    pub(super) event: &'a Event,
    pub(super) arch: Arch,
    /// The delivery's own fault. Where the kernel did not report it: what the instruction
    /// leaves possible.
    pub(super) own: Fault,
    /// The handled fault before it, completed in the same way.
    pub(super) first: Option<EarlierFault>,
    /// The code around the instruction pointer: captured, or else from the file.
    pub(super) code: Cow<'a, MemoryWindow>,
    /// The bytes from the chosen fault's pc on.
    pub(super) faulting: Vec<u8>,
    pub(super) walk: Walk,
    pub(super) chosen: Chosen,
    /// The registers, if they are to be shown.
    pub(super) shown: Option<Registers>,
    /// Where the frames of the walk are.
    pub(super) located: Vec<Located>,
    /// What lies at the fault's address, if the signal names one.
    pub(super) place: Location,
    /// What lies at the value of each register that is shown.
    pub(super) places: Vec<Located>,
    pub(super) lost: Vec<Lost>,
    /// Frames or names may be missing, because the report's time was over or a file system did
    /// not answer.
    pub(super) is_cut: bool,
    /// A file system did not answer.
    pub(super) is_silent: bool,
}

impl Analyzer {
    pub(super) fn gather<'a>(&mut self, event: &'a Event) -> Facts<'a> {
        let mut lost = event.lost.clone();
        let (own, code) = self.own_fault(event, &mut lost);
        let walk = self.walk(event);
        let walked = self.wanted.stack_trace.then_some(&walk);
        let mut chosen = cause::choose(event, &own, &code, walked);
        let mut first = event.first_fault;
        if chosen.earlier.is_some() && chosen.fault.trap.is_none() {
            self.infer_earlier(event, &mut chosen, &mut first);
        }
        let shown = event.registers.filter(|_| self.wanted.registers);
        let frames = walk.frames.len();
        let codes = interesting(&walk, &chosen, shown.as_ref());
        let mut located = self.locate(event, &codes, frames, &mut lost);
        let mut places = located.split_off(frames);
        let named = chosen.fault.siginfo.address();
        let place = named.map(|_| places.remove(0).location);
        let faulting = self.faulting(event, &chosen, &code);
        lost.extend(self.allowance.cuts().map(|step| {
            let (detail, reason) = step.lost();
            Lost { detail, reason }
        }));
        Facts {
            arch: event.registers.map_or(Arch::NATIVE, |regs| regs.arch()),
            faulting,
            is_cut: self.is_cut(),
            is_silent: opener::is_silent(),
            event,
            own,
            first,
            code,
            walk,
            chosen,
            shown,
            located,
            place: place.unwrap_or_default(),
            places,
            lost,
        }
    }

    /// The delivery's fault and the code around it. What is missing is taken from the
    /// instruction, as far as that shows it; the code, from the file that is mapped there.
    fn own_fault<'a>(
        &mut self,
        event: &'a Event,
        lost: &mut Vec<Lost>,
    ) -> (Fault, Cow<'a, MemoryWindow>) {
        let mut fault = Fault::of(event);
        let mut code = Cow::Borrowed(&event.code_bytes);
        // It may run another program by now than the one whose code would be read.
        if fault.trap.is_some() || event.lacks("mappings") {
            return (fault, code);
        }
        let Some(registers) = event.registers else {
            return (fault, code);
        };
        if code.bytes.is_empty() {
            code = Cow::Owned(self.code_in_file(event, registers.pc()));
        }
        let inferred = cause::infer(event, &fault, &registers, bytes_at(&code, registers.pc()));
        if let Some((siginfo, trap)) = inferred {
            if !self.may_be_unloaded(event, &fault, &registers, &code) {
                (fault.siginfo, fault.trap) = (siginfo, Some(trap));
                lost.retain(|lost| !matches!(lost.detail, "fault_address" | "access"));
            }
        }
        (fault, code)
    }

    /// Whether the process may have come here by a jump into a library that was
    /// unloaded before, for which there is no event: to a function's beginning, or back into one.
    fn may_be_unloaded(
        &mut self,
        event: &Event,
        fault: &Fault,
        registers: &Registers,
        code: &MemoryWindow,
    ) -> bool {
        let pc = fault.pc;
        let file = event.mapping(pc).and_then(|mapping| mapping.file.as_ref());
        let own = file.is_none_or(|file| Some(&file.path) == event.exe.as_ref());
        // A fetch that fails has one of the other codes.
        if own || fault.code == code::SI_KERNEL {
            return false;
        }
        let calls = (code.address.0..pc.0).any(|at| {
            let mut there = *registers;
            there.set_dwarf(u16::from(Reg::pc(registers.arch()).0), at);
            let decoded = decode_at_pc(&there, bytes_at(code, there.pc()));
            decoded.is_some_and(|it| it.class == Class::Call && at + u64::from(it.length) == pc.0)
        });
        let located = self.locate(event, &[CodeAddress::Exact(pc)], 1, &mut Vec::new());
        let symbol = located
            .first()
            .and_then(|found| found.location.symbol.as_ref());
        calls || symbol.is_none_or(|symbol| symbol.offset == 0)
    }

    /// Completes the handled fault before it, which is the chosen one.
    fn infer_earlier(
        &mut self,
        event: &Event,
        chosen: &mut Chosen,
        first: &mut Option<EarlierFault>,
    ) {
        let Some(registers) = chosen.registers.filter(|_| !event.lacks("mappings")) else {
            return;
        };
        let fault = chosen.fault;
        let code = self.code_in_file(event, fault.pc);
        let inferred = cause::infer(event, &fault, &registers, bytes_at(&code, fault.pc));
        if self.may_be_unloaded(event, &fault, &registers, &code) {
            return;
        }
        let (Some((siginfo, trap)), Some(first)) = (inferred, first.as_mut()) else {
            return;
        };
        (first.siginfo, first.trap) = (siginfo, Some(trap));
        (chosen.fault.siginfo, chosen.fault.trap) = (siginfo, Some(trap));
    }

    fn code_in_file(&mut self, event: &Event, pc: ProcessAddress) -> MemoryWindow {
        let mapping = event
            .mapping(pc)
            .filter(|mapping| mapping.flags.executable());
        let address = match mapping {
            Some(mapping) => ProcessAddress(pc.0.saturating_sub(CODE_BEFORE)).max(mapping.start),
            None => pc,
        };
        let mut bytes = vec![0; CODE_BYTES];
        let mut len = 0;
        if let Some(mapping) = mapping {
            let most = mapping.end.offset_from(address).unwrap_or(0);
            bytes.truncate(usize::try_from(most).unwrap_or(CODE_BYTES));
            len = Captured::new(event, &mut self.modules, self.window_bytes)
                .read_code(address, &mut bytes);
        }
        bytes.truncate(len);
        MemoryWindow { address, bytes }
    }

    /// The code from the chosen fault's pc on; from the file where that of an earlier
    /// fault was not captured.
    fn faulting(&mut self, event: &Event, chosen: &Chosen, code: &MemoryWindow) -> Vec<u8> {
        let captured = bytes_at(code, chosen.fault.pc);
        if !captured.is_empty() || chosen.earlier.is_none() {
            return captured.to_vec();
        }
        let mut bytes = vec![0; MAX_LENGTH];
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        let len = space.read_code(chosen.fault.pc, &mut bytes);
        bytes.truncate(len);
        bytes
    }

    /// The calls; without `-t` the crash's own frame alone.
    fn walk(&mut self, event: &Event) -> Walk {
        let Some(registers) = event.registers else {
            return Walk {
                frames: Vec::new(),
                stop: Stop::NoCaller(ProcessAddress(0)),
                uncertain: false,
                certain: 0,
                interrupted: None,
            };
        };
        if !self.wanted.stack_trace {
            let frame = Frame {
                code: CodeAddress::Exact(registers.pc()),
                trust: Trust::Context,
            };
            return Walk {
                frames: vec![frame],
                stop: Stop::Depth,
                uncertain: false,
                certain: 0,
                interrupted: None,
            };
        }
        let half = self.allowance.half();
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        // Signatures and causes are the same whatever depth is shown.
        let depth = self.wanted.max_stack_depth.max(signature::FRAMES_WALKED);
        let mut walk = unwind::walk(&registers, &space, depth, &mut self.caches);
        drop(half);
        // What was not read may have led elsewhere.
        walk.uncertain |= self.is_cut();
        walk
    }
}

/// The addresses that are to be named: those of the walk's frames, then the
/// fault's, then those that registers hold.
fn interesting(walk: &Walk, chosen: &Chosen, registers: Option<&Registers>) -> Vec<CodeAddress> {
    let mut codes: Vec<CodeAddress> = walk.frames.iter().map(|frame| frame.code).collect();
    codes.extend(chosen.fault.siginfo.address().map(CodeAddress::Exact));
    if let Some(registers) = registers {
        for (_, value) in registers.named() {
            codes.push(CodeAddress::Exact(ProcessAddress(value)));
        }
    }
    codes
}

/// What a window has from an address on.
pub(super) fn bytes_at(window: &MemoryWindow, pc: ProcessAddress) -> &[u8] {
    let into = pc.offset_from(window.address).unwrap_or(u64::MAX);
    let into = usize::try_from(into).unwrap_or(usize::MAX);
    window.bytes.get(into..).unwrap_or_default()
}
