//! The `group` of a report whose calls now have names.
//!
//! In: a report, its frames that are not inlined, and their new names. Out: the value
//! that the monitor would have computed with these names. A report lacks some of the
//! input: which fault it is about, and what the cause would be without names. There are
//! few possibilities, and each is tried with the old names: the right one gives the group
//! that the report has. If none does, because frames are missing, there is no result.

use super::json::{self, Object};
use super::recall::{address, digest, name, signal};
use crate::analyze::located::Located;
use crate::crash::frame::Trust;
use crate::report::signature::{Crash, Place, Signature};
use crate::report::{Location, Symbol};

/// One call, by the name that it has.
struct Call {
    trust: Trust,
    address: Option<u64>,
    location: Location,
}

/// The group by the names of now; `located` has one for each of `frames`.
pub(super) fn group<'a>(
    report: &Object<'_>,
    frames: impl Iterator<Item = &'a Object<'a>>,
    located: &[Located],
) -> Option<u64> {
    let stands = digest(report.value("group"))?;
    let exe = json::string(report.value("exe"))?;
    let first = report.place("first_fault");
    let first = first.and_then(|place| Object::read(report.text(), place));
    let of_first = |key| first.as_ref().map_or(&b""[..], |first| first.value(key));
    let mut calls: Vec<Call> = frames.zip(located).map(call).collect();
    let pc = address(of_first("pc"));
    let earlier = calls
        .iter()
        .position(|call| pc.is_some() && call.address == pc);
    let cause = json::string(report.value("cause"))?;
    let causes: &[&[u8]] = match &*cause {
        // The cause if no function has a name.
        b"stack_smashing" => &[b"abort", b"privileged_instruction"],
        other => &[other],
    };
    let names = [report.value("signal"), of_first("signal")];
    for (way, cause) in (0..16).flat_map(|way| causes.iter().map(move |cause| (way, cause))) {
        let Some(signal) = signal(names[way & 1]) else {
            continue;
        };
        let fault = earlier.filter(|_| way & 2 != 0);
        let in_code = way & 4 == 0;
        let proven = way & 8 != 0;
        let crash = Crash {
            signal,
            cause,
            exe: Some(&exe),
        };
        let of = |calls: &[Call]| {
            let places = places(calls, fault, in_code, proven);
            Signature::of(&crash, &places).group
        };
        if of(&calls) == Some(stands) {
            for (call, found) in calls.iter_mut().zip(located) {
                let now = found.location.symbol.clone();
                call.location.symbol = now.or(call.location.symbol.take());
            }
            return of(&calls);
        }
    }
    None
}

fn call((frame, located): (&Object<'_>, &Located)) -> Call {
    let place = &located.location;
    let named = json::string(frame.value("symbol"));
    let mangled = json::string(frame.value("mangled"));
    Call {
        trust: match frame.value("trust") {
            b"\"context\"" => Trust::Context,
            b"\"cfi\"" => Trust::Cfi,
            b"\"leaf\"" => Trust::Leaf,
            _ => Trust::Scan,
        },
        address: address(frame.value("address")),
        location: Location {
            symbol: named.map(|text| Symbol {
                name: match mangled {
                    Some(mangled) => mangled.to_vec(),
                    None => name(&text, place.module.as_deref()).to_vec(),
                },
                offset: 0,
            }),
            module: place.module.clone(),
            module_offset: place.module_offset,
            build_id: place.build_id.clone(),
            ..Location::default()
        },
    }
}

/// `in_code`: where it happened lies in code, so that it has a place. `proven`: the
/// frames are, up to the one that matters.
fn places(calls: &[Call], fault: Option<usize>, in_code: bool, proven: bool) -> Vec<Place<'_>> {
    const NOWHERE: &Location = &Location {
        symbol: None,
        module: None,
        module_offset: None,
        file_offset: None,
        build_id: None,
        file: None,
        line: None,
    };
    calls
        .iter()
        .enumerate()
        .map(|(at, call)| Place {
            trust: call.trust,
            fault: fault == Some(at),
            unread: false,
            proven,
            keeps_frame_pointers: false,
            // It is part of signatures alone.
            function: None,
            location: match in_code || at != fault.unwrap_or(0) {
                true => &call.location,
                false => NOWHERE,
            },
        })
        .collect()
}
