//! Why it crashed, and what a person looks at next: the evidence of one event,
//! brought to those that judge it.

use super::Analyzer;
use crate::analyze::cause::{self, Chosen, Evidence, Fault, Verdict};
use crate::analyze::located::Located;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Lost, MemoryWindow};
use crate::crash::fault::{self};
use crate::crash::frame::{CodeAddress, Stop, Trust};
use crate::crash::kinds::Access;
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{code, signal};
use crate::decode::{decode, Class, MAX_LENGTH};
use crate::report::signature::{Crash, Place, Signature};
use crate::report::{Code, Location};
use crate::unwind::{AddressSpace, Walk};

/// The addresses that are to be named: those of the walk's frames, then the
/// fault's, then those that registers hold.
pub(super) fn interesting(
    walk: &Walk,
    chosen: &Chosen,
    registers: Option<&Registers>,
) -> Vec<CodeAddress> {
    let mut codes: Vec<CodeAddress> = walk.frames.iter().map(|frame| frame.code).collect();
    codes.push(CodeAddress::Exact(ProcessAddress(chosen.fault.siginfo)));
    if let Some(registers) = registers {
        for (_, value) in registers.named() {
            codes.push(CodeAddress::Exact(ProcessAddress(value)));
        }
    }
    codes
}

/// Bytes ahead of the instruction pointer, as in the capture program (bpf/task.h).
const CODE_BEFORE: u64 = 16;
const CODE_BYTES: usize = 64;

impl Analyzer {
    /// What is missing of a fault, as far as the instruction shows it; the code
    /// comes from the file that is mapped there.
    pub(super) fn infer_fault(&mut self, event: &mut Event) {
        let Some(registers) = event.registers else {
            return;
        };
        // It may run another program by now than the one whose code would be read.
        if event.lacks("mappings") {
            return;
        }
        if event.code_bytes.bytes.is_empty() {
            event.code_bytes = self.code_in_file(event, registers.pc());
        }
        let code = code_at(event, registers.pc());
        let Some((siginfo, trap)) = cause::infer(event, &Fault::of(event), &registers, code) else {
            return;
        };
        let code = event.code_bytes.clone();
        if self.may_be_unloaded(event, &Fault::of(event), &code) {
            return;
        }
        event.siginfo = siginfo;
        event.trap = trap;
        event.knows_fault = true;
        let is_known = |lost: &Lost| matches!(lost.detail, "fault_address" | "access");
        event.lost.retain(|lost| !is_known(lost));
    }

    /// Whether the process may have come here by a jump into a library that was
    /// unloaded before, for which there is no event: to a function's beginning, or back into one.
    fn may_be_unloaded(&mut self, event: &Event, fault: &Fault, code: &MemoryWindow) -> bool {
        let pc = fault.pc;
        let file = event.mapping(pc).and_then(|mapping| mapping.file.as_ref());
        let own = file.is_none_or(|file| Some(&file.path) == event.exe.as_ref());
        // A fetch that fails has one of the other codes.
        if own || fault.code == code::SI_KERNEL {
            return false;
        }
        let calls = (code.address.0..pc.0).any(|at| {
            let decoded = decode(Arch::NATIVE, bytes_at(code, ProcessAddress(at)));
            decoded.is_some_and(|it| it.class == Class::Call && at + u64::from(it.length) == pc.0)
        });
        let located = self.locate(event, &[CodeAddress::Exact(pc)], 1, &mut Vec::new());
        let symbol = located
            .first()
            .and_then(|found| found.location.symbol.as_ref());
        calls || symbol.is_none_or(|symbol| symbol.offset == 0)
    }

    /// The same of the handled fault before it.
    pub(super) fn infer_earlier(&mut self, event: &mut Event, chosen: &mut Chosen) {
        let Some(registers) = chosen.registers.filter(|_| !event.lacks("mappings")) else {
            return;
        };
        let fault = chosen.fault;
        let code = self.code_in_file(event, fault.pc);
        let inferred = cause::infer(event, &fault, &registers, bytes_at(&code, fault.pc));
        if self.may_be_unloaded(event, &fault, &code) {
            return;
        }
        let (Some((siginfo, trap)), Some(first)) = (inferred, event.first_fault.as_mut()) else {
            return;
        };
        (first.siginfo, first.trap, first.knows_fault) = (siginfo, trap, true);
        chosen.fault.siginfo = siginfo;
        chosen.fault.trap = trap;
        chosen.fault.known = true;
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

    /// `located` belongs to the walk's frames, `places` to what is interesting beside.
    pub(super) fn verdict(
        &mut self,
        event: &Event,
        chosen: &Chosen,
        located: &[Located],
        places: &[Located],
    ) -> Verdict {
        let mut bytes = [0; MAX_LENGTH];
        let mut code = code_at(event, chosen.fault.pc);
        if code.is_empty() && chosen.earlier.is_some() {
            let space = Captured::new(event, &mut self.modules, self.window_bytes);
            let len = space.read_code(chosen.fault.pc, &mut bytes);
            code = &bytes[..len.min(bytes.len())];
        }
        let mut functions = Vec::new();
        for located in located {
            for location in &located.inlined {
                functions.push(name(location));
            }
            functions.push(name(&located.location));
        }
        cause::judge(&Evidence {
            event,
            chosen,
            code,
            functions: &functions,
            place: &places[0].location,
            quotes: !self.no_memory,
        })
    }
}

fn name(location: &Location) -> &[u8] {
    match &location.symbol {
        Some(symbol) => &symbol.name,
        None => b"",
    }
}

/// What was captured of the code from an address on.
fn code_at(event: &Event, pc: ProcessAddress) -> &[u8] {
    bytes_at(&event.code_bytes, pc)
}

fn bytes_at(window: &MemoryWindow, pc: ProcessAddress) -> &[u8] {
    let into = pc.offset_from(window.address).unwrap_or(u64::MAX);
    let into = usize::try_from(into).unwrap_or(usize::MAX);
    window.bytes.get(into..).unwrap_or_default()
}

pub(super) fn signature(
    event: &Event,
    chosen: &Chosen,
    verdict: &Verdict,
    walk: &Walk,
    located: &[Located],
) -> Signature {
    let nowhere = Location::default();
    let mut places = Vec::new();
    for (frame, located) in walk.frames.iter().zip(located) {
        let mapping = event.mapping(frame.code.lookup());
        let code = mapping.is_some_and(|mapping| mapping.flags.executable());
        places.push(Place {
            trust: frame.trust,
            fault: chosen.earlier.is_some() && frame.code.address() == chosen.fault.pc,
            keeps_frame_pointers: located.keeps_frame_pointers,
            unread: match mapping {
                Some(_) => code && located.unread,
                None => event.lacks("mappings"),
            },
            // A wild pc is another one in each run.
            location: if code { &located.location } else { &nowhere },
        });
    }
    let no_room = event
        .lost
        .iter()
        .any(|lost| lost.reason.starts_with("no room"));
    forget_what_luck_found(&mut places, walk.stop, no_room, event.lacks("mappings"));
    let crash = Crash {
        signal: chosen.fault.signal,
        cause: verdict.nameless.as_str().as_bytes(),
        exe: event.exe.as_deref(),
    };
    Signature::of(&crash, &places)
}

/// What found no room in the ring this time may have it the next; and a caller whose
/// mapping was not captured, over which a search passes, others find.
fn forget_what_luck_found(places: &mut [Place<'_>], stop: Stop, no_room: bool, unmapped: bool) {
    let searched = |place: &&mut Place<'_>| !place.fault && place.trust < Trust::Leaf;
    if let (true, Some(first)) = (unmapped, places.iter_mut().find(searched)) {
        first.unread = true;
    }
    let is_short = (no_room || unmapped) && stop != Stop::Outermost;
    if let (true, Some(last)) = (is_short, places.last_mut()) {
        last.unread = true;
    }
}

/// What the registers point at; `places` has the fault's address before theirs.
pub(super) fn notes(
    event: &Event,
    registers: Option<&Registers>,
    places: &[Located],
    quotes: bool,
) -> Vec<(&'static str, Vec<u8>)> {
    let mut notes = Vec::new();
    let named = registers.iter().flat_map(|registers| registers.named());
    let bits = registers.map_or(0, |registers| 8 * registers.arch().word_bytes() as u32);
    for ((name, value), place) in named.zip(&places[1..]) {
        let note = cause::note(event, value, bits, &place.location, quotes);
        let status = matches!(name, "rflags" | "eflags" | "pstate" | "cpsr");
        if !status && !note.is_empty() {
            notes.push((name, note));
        }
    }
    notes
}

/// Whether the signal is about what the instruction at the pc did: not where it was
/// sent or comes behind an instruction, nor where the fetch itself failed.
fn has_run(event: &Event, registers: &Registers, chosen: &Chosen) -> bool {
    let raised = matches!(
        event.signal,
        signal::SIGSEGV | signal::SIGBUS | signal::SIGILL | signal::SIGFPE
    );
    let access = fault::access(registers.arch(), event.code, event.siginfo, &event.trap);
    let fetch = event.knows_fault && access == Some(Access::Execute);
    raised && event.code > code::SI_USER && !fetch && !chosen.made
}

pub(super) fn code(event: &Event, registers: &Registers, chosen: &Chosen) -> Option<Code> {
    let captured = &event.code_bytes;
    let bytes = code_at(event, registers.pc());
    if bytes.is_empty() {
        return None;
    }
    let decoded = decode(registers.arch(), bytes).filter(|_| has_run(event, registers, chosen));
    Some(Code {
        address: captured.address,
        bytes: captured.bytes.clone(),
        instruction: captured.bytes.len() - bytes.len(),
        operands: decoded.map(|decoded| cause::describe(event, registers, &decoded)),
    })
}
