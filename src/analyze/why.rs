//! Why it crashed, and what a person looks at next: the evidence of one event,
//! brought to those that judge it.

use super::Analyzer;
use crate::address::ProcessAddress;
use crate::cause::{self, Chosen, Evidence, Verdict};
use crate::decode::{decode, MAX_LENGTH};
use crate::event::Event;
use crate::fault;
use crate::located::Located;
use crate::registers::Registers;
use crate::report::{Code, Location};
use crate::signature::{Place, Signature};
use crate::space::Captured;
use crate::unwind::{AddressSpace, CodeAddress, Walk};

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

impl Analyzer {
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
    let captured = &event.code_bytes;
    let into = pc.offset_from(captured.address).unwrap_or(u64::MAX);
    let into = usize::try_from(into).unwrap_or(usize::MAX);
    captured.bytes.get(into..).unwrap_or_default()
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
            // A wild pc is another one in each run.
            location: if code { &located.location } else { &nowhere },
        });
    }
    Signature::of(chosen.fault.signal, verdict.nameless, &places)
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

pub(super) fn code(event: &Event, registers: &Registers) -> Option<Code> {
    let captured = &event.code_bytes;
    let bytes = code_at(event, registers.pc());
    if bytes.is_empty() {
        return None;
    }
    // What could not be fetched is no instruction, whatever it would mean.
    let decoded = (!fault::is_fetch(event, registers.arch(), registers.pc()))
        .then(|| decode(registers.arch(), bytes))
        .flatten();
    Some(Code {
        address: captured.address,
        bytes: captured.bytes.clone(),
        instruction: captured.bytes.len() - bytes.len(),
        operands: decoded.map(|decoded| cause::describe(event, registers, &decoded)),
    })
}
