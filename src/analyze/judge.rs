//! Why the process crashed, which crashes are equal to it, and what its registers and its
//! instruction say: decided from what was gathered, and from nothing else.

use super::gather::{bytes_at, Facts};
use super::Wanted;
use crate::analyze::cause::{self, Evidence, Verdict};
use crate::crash::fault;
use crate::crash::frame::{Stop, Trust};
use crate::crash::kinds::Access;
use crate::crash::registers::Registers;
use crate::crash::signals::{code, signal};
use crate::decode::decode_at_pc;
use crate::report::signature::{Crash, Place, Signature};
use crate::report::{Code, Location};

/// What was decided about one crash.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// `None` where no stack was asked for or none could be walked.
    pub(super) signature: Option<Signature>,
    pub(super) notes: Vec<(&'static str, Vec<u8>)>,
    pub(super) code: Option<Code>,
}

pub(super) fn judge(facts: &Facts<'_>, wanted: Wanted) -> Judged {
    let verdict = verdict(facts, !wanted.no_memory);
    // The signature of one frame alone would be a different one.
    let has_callers = cfg!(feature = "dwarf") && wanted.stack_trace;
    let signed = has_callers && facts.event.registers.is_some();
    let coded = facts.shown.filter(|_| !wanted.no_memory);
    Judged {
        signature: signed.then(|| match facts.is_cut {
            true => Signature::default(),
            false => signature(facts, &verdict),
        }),
        notes: notes(facts, !wanted.no_memory),
        code: coded.and_then(|registers| code(facts, &registers)),
        verdict,
    }
}

fn verdict(facts: &Facts<'_>, quotes: bool) -> Verdict {
    let mut functions = Vec::new();
    for located in &facts.located {
        functions.extend(located.inlined.iter().map(name));
        functions.push(name(&located.location));
    }
    let into = facts.chosen.fault.pc.offset_from(facts.code.address);
    let into = into.and_then(|into| usize::try_from(into).ok());
    cause::judge(&Evidence {
        event: facts.event,
        chosen: &facts.chosen,
        code: &facts.faulting,
        before: into
            .and_then(|into| facts.code.bytes.get(..into))
            .unwrap_or_default(),
        functions: &functions,
        place: &facts.place,
        quotes,
    })
}

fn name(location: &Location) -> &[u8] {
    match &location.symbol {
        Some(symbol) => &symbol.name,
        None => b"",
    }
}

fn signature(facts: &Facts<'_>, verdict: &Verdict) -> Signature {
    let (event, walk, chosen) = (facts.event, &facts.walk, &facts.chosen);
    let nowhere = Location::default();
    let mut places = Vec::new();
    for (at, (frame, located)) in walk.frames.iter().zip(&facts.located).enumerate() {
        let mapping = event.mapping(frame.code.lookup());
        let code = mapping.is_some_and(|mapping| mapping.flags.executable());
        places.push(Place {
            trust: frame.trust,
            fault: chosen.earlier.is_some() && frame.code.address() == chosen.fault.pc,
            proven: at < walk.certain,
            keeps_frame_pointers: located.keeps_frame_pointers,
            function: located.function,
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

/// What the registers point at.
fn notes(facts: &Facts<'_>, quotes: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut notes = Vec::new();
    let registers = facts.shown.as_ref();
    let named = registers.iter().flat_map(|registers| registers.named());
    let bits = registers.map_or(0, |registers| 8 * registers.arch().word_bytes() as u32);
    for ((name, value), place) in named.zip(&facts.places) {
        let note = cause::note(facts.event, value, bits, &place.location, quotes);
        let status = matches!(name, "rflags" | "eflags" | "pstate" | "cpsr");
        if !status && !note.is_empty() {
            notes.push((name, note));
        }
    }
    notes
}

/// Whether the signal is about what the instruction at the pc did: not where it was
/// sent or comes behind an instruction, nor where the fetch itself failed.
fn has_run(facts: &Facts<'_>) -> bool {
    let (event, own) = (facts.event, &facts.own);
    let raised = matches!(
        event.signal,
        signal::SIGSEGV | signal::SIGBUS | signal::SIGILL | signal::SIGFPE
    );
    let access = fault::access(facts.arch, own.siginfo, own.trap);
    let fetch = access == Some(Access::Execute);
    raised && event.code > code::SI_USER && !fetch && !facts.chosen.made
}

fn code(facts: &Facts<'_>, registers: &Registers) -> Option<Code> {
    let captured = &facts.code;
    let bytes = bytes_at(captured, registers.pc());
    if bytes.is_empty() {
        return None;
    }
    let decoded = decode_at_pc(registers, bytes).filter(|_| has_run(facts));
    Some(Code {
        address: captured.address,
        bytes: captured.bytes.clone(),
        instruction: captured.bytes.len() - bytes.len(),
        operands: decoded.map(|decoded| cause::describe(facts.event, registers, &decoded)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which frames count as unread then.
    fn unread(trusts: &[Trust], stop: Stop, no_room: bool, unmapped: bool) -> Vec<usize> {
        let nowhere = Location::default();
        let mut places: Vec<Place<'_>> = trusts
            .iter()
            .map(|&trust| Place {
                trust,
                fault: false,
                unread: false,
                proven: false,
                keeps_frame_pointers: false,
                function: None,
                location: &nowhere,
            })
            .collect();
        forget_what_luck_found(&mut places, stop, no_room, unmapped);
        let mut numbers = 0..places.len();
        let found = numbers.by_ref().filter(|&at| places[at].unread);
        found.collect()
    }

    const WALK: [Trust; 4] = [Trust::Context, Trust::Cfi, Trust::Scan, Trust::Cfi];
    const SHORT: Stop = Stop::Depth;

    #[test]
    fn nothing_is_luck_where_all_was_captured() {
        for stop in [Stop::Outermost, SHORT] {
            assert_eq!(unread(&WALK, stop, false, false), [0; 0]);
        }
    }

    /// What found no room may have it the next time, and more frames with it.
    #[test]
    fn behind_a_walk_cut_short_for_want_of_room_is_luck() {
        assert_eq!(unread(&WALK, SHORT, true, false), [3]);
        assert_eq!(unread(&WALK, Stop::Outermost, true, false), [0; 0]);
        assert_eq!(unread(&[], SHORT, true, false), [0; 0]);
    }

    /// A search passes over callers whose mapping was not captured.
    #[test]
    fn what_a_search_found_among_unknown_mappings_is_luck() {
        assert_eq!(unread(&WALK, Stop::Outermost, false, true), [2]);
        assert_eq!(unread(&WALK, SHORT, false, true), [2, 3]);
        assert_eq!(unread(&WALK[..2], Stop::Outermost, false, true), [0; 0]);
        let leaf = [Trust::Context, Trust::Leaf, Trust::FramePointer];
        assert_eq!(unread(&leaf, Stop::Outermost, false, true), [2]);
    }
}
