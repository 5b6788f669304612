//! The inlined calls at an address.
//!
//! In: a unit and addresses in it. Out: for each address the inlined calls that contain
//! it, innermost first, with their names and the places they were called from. One pass
//! over the unit's entries finds the functions; each of these is then searched. Bodies of
//! other functions are skipped if the compiler wrote their length. DWARF 5, sections
//! 3.3.8 and 2.3.

use super::program::Place;
use super::unit::{Entry, Unit, Value, TAG_INLINED, TAG_SUBPROGRAM};
use super::{ranges, Debug, Section};

/// Entries that are followed for a name: an inlined call's origin, its declaration, and the
/// entry that this one specifies.
const MAX_HOPS: usize = 8;
/// More units than any program has.
const MAX_UNITS: usize = 1 << 20;
/// Units of work for one.
const UNIT: u64 = 64;

/// An inlined call.
#[derive(Debug)]
pub(super) struct Inlined {
    pub(super) name: Option<Vec<u8>>,
    pub(super) start: u64,
    pub(super) called_from: Option<Place>,
}

/// One entry for each address of `wanted`; empty if none was found in time.
pub(super) fn inlined(debug: &Debug<'_>, unit: &Unit, wanted: &[u64]) -> Vec<Vec<Inlined>> {
    let mut functions = vec![None; wanted.len()];
    // If a unit cannot be read to its end, the entries before still count.
    let _ = find_functions(debug, unit, wanted, &mut functions);
    let chain = |(&function, &address): (&Option<u64>, &u64)| {
        let entries = holding(debug, unit, function?, address)?;
        let inlined = entries.iter().rev().map(|(entry, start)| Inlined {
            name: name(debug, unit, entry),
            start: *start,
            called_from: match entry.call_site() {
                (Some(file), Some(line)) => Some((file, line)),
                _ => None,
            },
        });
        Some(inlined.collect())
    };
    let chains = functions.iter().zip(wanted).map(chain);
    chains.map(Option::unwrap_or_default).collect()
}

/// The entry of the function that holds each address.
fn find_functions(
    debug: &Debug<'_>,
    unit: &Unit,
    wanted: &[u64],
    functions: &mut [Option<u64>],
) -> Option<()> {
    let mut reader = debug.reader_at(Section::Info, unit.first_entry());
    while reader.at() < unit.end && functions.contains(&None) {
        let entry = unit.entry(debug, &mut reader)?;
        if entry.tag != TAG_SUBPROGRAM {
            continue;
        }
        let _ = ranges::visit(debug, unit, &entry, &mut |low, high| {
            for (&wanted, function) in wanted.iter().zip(&mut *functions) {
                if function.is_none() && (low..high).contains(&wanted) {
                    *function = Some(entry.at);
                }
            }
        });
        if let Some(next) = behind(&entry, unit) {
            reader.seek(next);
        }
    }
    Some(())
}

/// The offset of the entry after this one's children, if that is known.
fn behind(entry: &Entry, unit: &Unit) -> Option<u64> {
    match entry.sibling? {
        Value::Entry(next) if entry.at < next && next < unit.end => Some(next),
        _ => None,
    }
}

/// The inlined calls in a function that hold an address, outermost first, each with
/// the start of the range that does.
fn holding(debug: &Debug<'_>, unit: &Unit, at: u64, address: u64) -> Option<Vec<(Entry, u64)>> {
    let mut reader = debug.reader_at(Section::Info, at);
    let mut depth = u64::from(unit.entry(debug, &mut reader)?.children);
    // How deep the children of the innermost one found are.
    let mut inside = 0;
    let mut found = Vec::new();
    while depth > 0 && depth >= inside {
        let entry = unit.entry(debug, &mut reader)?;
        if entry.tag == 0 {
            depth -= 1;
            continue;
        }
        let mut start = None;
        if entry.tag == TAG_INLINED {
            let _ = ranges::visit(debug, unit, &entry, &mut |low, high| {
                if (low..high).contains(&address) {
                    start = Some(low);
                }
            });
        }
        if let Some(start) = start {
            found.push((entry, start));
            if !entry.children {
                break;
            }
            depth += 1;
            inside = depth;
            continue;
        }
        match behind(&entry, unit) {
            Some(next) if matches!(entry.tag, TAG_INLINED | TAG_SUBPROGRAM) => reader.seek(next),
            _ => depth += u64::from(entry.children),
        }
    }
    Some(found)
}

/// The linkage name of the entry that this one is an instance of, else the plain name.
fn name(debug: &Debug<'_>, home: &Unit, entry: &Entry) -> Option<Vec<u8>> {
    let mut foreign: Option<Unit> = None;
    let mut entry = *entry;
    let mut plain = None;
    for _ in 0..MAX_HOPS {
        let unit = foreign.as_ref().unwrap_or(home);
        let text = |value: Option<Value>| unit.text(debug, value?);
        if let Some(name) = text(entry.linkage_name) {
            return Some(name);
        }
        plain = plain.or_else(|| text(entry.name));
        let Some(Value::Entry(at)) = entry.origin.or(entry.specification) else {
            break;
        };
        if !(unit.start..unit.end).contains(&at) {
            foreign = Some(unit_around(debug, at)?);
        }
        let unit = foreign.as_ref().unwrap_or(home);
        let mut reader = debug.reader_at(Section::Info, at);
        let Some(next) = unit.entry(debug, &mut reader) else {
            break;
        };
        entry = next;
    }
    plain.filter(|name| !name.is_empty())
}

/// The unit that an entry anywhere belongs to.
fn unit_around(debug: &Debug<'_>, at: u64) -> Option<Unit> {
    let mut reader = debug.reader(Section::Info);
    for _ in 0..MAX_UNITS {
        debug.work(UNIT)?;
        let header = Unit::header(&mut reader)?;
        if (header.start..header.end).contains(&at) {
            return Unit::read(debug, header.start);
        }
        reader.seek(header.end);
    }
    None
}
