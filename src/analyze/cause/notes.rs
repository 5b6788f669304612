//! What each register points at.
//!
//! A register's value alone says little. A person wants to know that it points to the
//! middle of a function, eight bytes into the heap, to a text, or to nothing at all.
//! Only the captured data of the process are used for this.

use super::words::Words;
use crate::base::address::ProcessAddress;
use crate::crash::event::Event;
use crate::report::Location;

/// Numbers up to here are not addresses.
const SMALL: u64 = 0x1_0000;
/// A text has at least so many characters, and no more of them are shown.
const TEXT_MIN: usize = 4;
const TEXT_SHOWN: usize = 40;

/// The note on a register's value of so many bits, which may be empty. `place` is the name
/// of the address, if it is code. With `quotes` a text is shown: one that begins there, or
/// one that the value itself is.
#[must_use]
pub fn note(event: &Event, value: u64, bits: u32, place: &Location, quotes: bool) -> Vec<u8> {
    let mut words = Words::default();
    let is_data = write(&mut words, event, value, bits, place, quotes);
    if is_data && quotes {
        quote(&mut words, event, value);
    }
    words.0
}

/// Whether the value points at data.
fn write(
    words: &mut Words,
    event: &Event,
    value: u64,
    bits: u32,
    place: &Location,
    quotes: bool,
) -> bool {
    let negative = (value | u64::MAX << (bits - 1) << 1).wrapping_neg();
    match value {
        0 => {
            words.text("null");
            return false;
        }
        1..SMALL => {
            words.text("small integer ").number(value);
            return false;
        }
        _ if negative < SMALL => {
            words.text("small integer -").number(negative);
            return false;
        }
        _ => {}
    }
    let Some(mapping) = event.mapping(ProcessAddress(value)) else {
        words.resemblance("", value, quotes);
        return false;
    };
    if place.symbol.is_some() {
        words.symbol(place);
        return false;
    }
    let into = value - mapping.start.0;
    match &mapping.file {
        Some(file) => {
            words.mapping(event, mapping).text(" at file offset ");
            words.hex(file.offset.0.wrapping_add(into));
        }
        None => {
            words
                .bytes(&event.mapping_name(mapping))
                .text("+")
                .hex(into);
            words.text(" (").permissions(mapping.flags).text(")");
        }
    }
    !mapping.flags.executable()
}

/// The captured text that begins at an address, if it reads as one: printable, and
/// ended by a zero byte or too long to show.
fn quote(words: &mut Words, event: &Event, address: u64) {
    let byte_at = |index: usize| {
        let address = ProcessAddress(address).checked_add(index as u64)?;
        event.memory(address, 1).map(|bytes| bytes[0])
    };
    let mut text = Vec::new();
    loop {
        match byte_at(text.len()) {
            Some(0) if text.len() >= TEXT_MIN => break,
            Some(byte @ b' '..=b'~') if text.len() < TEXT_SHOWN => text.push(byte),
            Some(b' '..=b'~') => {
                text.extend_from_slice(b"...");
                break;
            }
            _ => return,
        }
    }
    words.text(" \"").bytes(&text).text("\"");
}
