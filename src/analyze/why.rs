//! Why it crashed, and what a person looks at next: the evidence of one event,
//! brought to those that judge it.

use super::locate::Located;
use super::Analyzer;
use crate::address::ProcessAddress;
use crate::cause::{self, Chosen, Evidence, Verdict};
use crate::decode::{decode, MAX_LENGTH};
use crate::event::Event;
use crate::report::{Code, Location};
use crate::signature::{Place, Signature};
use crate::space::Captured;
use crate::unwind::{AddressSpace, CodeAddress, Walk};

/// What is said about one crash beyond what was captured of it.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) verdict: Verdict,
    /// With `-t`.
    pub(super) signature: Option<Signature>,
    /// With `-r`.
    pub(super) register_notes: Vec<(&'static str, Vec<u8>)>,
    /// With `-r`.
    pub(super) instruction_code: Option<Code>,
}

impl Analyzer {
    /// `located` belongs to the walk's frames.
    pub(super) fn why(&mut self, event: &Event, walk: &Walk, located: &[Located]) -> Why {
        let chosen = cause::choose(event, self.stack_trace.then_some(walk));
        let registers = event.registers.filter(|_| self.registers);
        let fault = ProcessAddress(chosen.fault.siginfo);
        let values = registers.iter().flat_map(|registers| registers.named());
        let addresses: Vec<ProcessAddress> = [fault]
            .into_iter()
            .chain(values.map(|(_, value)| ProcessAddress(value)))
            .collect();
        let places = self.places_of(event, &addresses);
        let verdict = self.verdict(event, chosen, located, &places[0]);
        let signature = (self.stack_trace && event.registers.is_some())
            .then(|| signature(event, &chosen, &verdict, walk, located));
        Why {
            signature,
            register_notes: registers.map_or_else(Vec::new, |registers| {
                cause::notes(event, &registers, &places[1..])
            }),
            instruction_code: registers.and_then(|_| code(event)),
            verdict,
        }
    }

    /// The names of those addresses that lie in code, in step with them.
    fn places_of(&mut self, event: &Event, addresses: &[ProcessAddress]) -> Vec<Location> {
        let in_code = |address: &ProcessAddress| {
            event
                .mapping(*address)
                .is_some_and(|mapping| mapping.flags.executable())
        };
        let indexes: Vec<usize> = (0..addresses.len())
            .filter(|&index| in_code(&addresses[index]))
            .collect();
        let mut places = vec![Location::default(); addresses.len()];
        if indexes.is_empty() {
            return places;
        }
        let codes: Vec<CodeAddress> = indexes
            .iter()
            .map(|&index| CodeAddress::Exact(addresses[index]))
            .collect();
        let located = self.locate(event, &codes, false, &mut Vec::new());
        for (index, located) in indexes.into_iter().zip(located) {
            places[index] = located.location;
        }
        places
    }

    fn verdict(
        &mut self,
        event: &Event,
        chosen: Chosen,
        located: &[Located],
        place: &Location,
    ) -> Verdict {
        let mut bytes = [0; MAX_LENGTH];
        let code = code_at(event, chosen.fault.pc);
        let code = if code.is_empty() && chosen.earlier.is_some() {
            let space = Captured::new(event, &mut self.modules);
            let len = space.read_code(chosen.fault.pc, &mut bytes);
            &bytes[..len.min(bytes.len())]
        } else {
            code
        };
        let functions: Vec<&[u8]> = located
            .iter()
            .flat_map(|located| located.inlined.iter().chain([&located.location]))
            .map(|location| location.symbol.as_ref().map_or(&b""[..], |it| &it.name))
            .collect();
        cause::judge(&Evidence {
            event,
            chosen,
            code,
            functions: &functions,
            place,
        })
    }
}

/// What was captured of the code from an address on.
fn code_at(event: &Event, pc: ProcessAddress) -> &[u8] {
    let captured = &event.code_bytes;
    let into = pc.offset_from(captured.address).map(usize::try_from);
    match into {
        Some(Ok(into)) => captured.bytes.get(into..).unwrap_or_default(),
        _ => &[],
    }
}

fn signature(
    event: &Event,
    chosen: &Chosen,
    verdict: &Verdict,
    walk: &Walk,
    located: &[Located],
) -> Signature {
    let nowhere = Location::default();
    let places: Vec<Place<'_>> = walk
        .frames
        .iter()
        .zip(located)
        .map(|(frame, located)| {
            let address = frame.code.address();
            let code = event
                .mapping(frame.code.lookup())
                .is_some_and(|mapping| mapping.flags.executable());
            Place {
                trust: frame.trust,
                fault: chosen.earlier.is_some() && address == chosen.fault.pc,
                // A wild pc is another one in each run.
                location: if code { &located.location } else { &nowhere },
            }
        })
        .collect();
    Signature::of(chosen.fault.signal, verdict.nameless, &places)
}

fn code(event: &Event) -> Option<Code> {
    let registers = event.registers?;
    let pc = registers.pc();
    let captured = &event.code_bytes;
    let instruction = pc.offset_from(captured.address)?;
    let instruction = usize::try_from(instruction).ok()?;
    let bytes = captured
        .bytes
        .get(instruction..)
        .filter(|it| !it.is_empty())?;
    let decoded = decode(registers.arch(), bytes);
    Some(Code {
        address: captured.address,
        bytes: captured.bytes.clone(),
        instruction,
        operands: decoded.map(|decoded| cause::describe(event, &registers, &decoded)),
    })
}
