//! Pieces of a sentence: numbers, mappings, and what a value looks like.
//!
//! A sentence is bytes, because names in it are; the writers escape it.

use super::calls;
use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Mapping, VmFlags};
use crate::crash::fault::has_address;
use crate::crash::kinds::Access;
use crate::crash::registers::Arch;
use crate::report::Location;
use crate::symbols::demangle::known;

/// A sentence in the making.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<u8>);

impl Words {
    // A sentence is a hundred calls of it: inlined they would take half of this room.
    #[inline(never)]
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    #[inline(never)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn hex(&mut self, value: u64) -> &mut Self {
        self.text(&format!("{value:#x}"))
    }

    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        self.text(&value.to_string())
    }

    /// A register, as in a report's text.
    pub(super) fn named(&mut self, register: Option<&str>) -> &mut Self {
        self.text(&register.unwrap_or("?").to_ascii_uppercase())
    }

    /// `59 (execve)`, or the number alone.
    pub(super) fn system_call(&mut self, arch: Arch, number: u64) -> &mut Self {
        self.number(number);
        match calls::name(arch, number) {
            Some(name) => self.text(" (").text(name).text(")"),
            None => self,
        }
    }

    /// `1 byte`, `12 bytes`, `more than 3 MB`.
    pub(super) fn distance(&mut self, bytes: u64) -> &mut Self {
        match bytes {
            1 => self.text("1 byte"),
            0..0x10_0000 => self.number(bytes).text(" bytes"),
            _ => self
                .text("more than ")
                .number((bytes - 1) >> 20)
                .text(" MB"),
        }
    }

    /// `write`, or `access` if it is not known which.
    pub(super) fn access(&mut self, access: Option<Access>) -> &mut Self {
        self.text(access.map_or("access", Access::as_str))
    }

    /// `[heap] (rw-)`
    pub(super) fn mapping(&mut self, event: &Event, mapping: &Mapping) -> &mut Self {
        self.bytes(&event.mapping_name(mapping))
            .text(" (")
            .permissions(mapping.flags)
            .text(")")
    }

    pub(super) fn permissions(&mut self, flags: VmFlags) -> &mut Self {
        self.text(if flags.readable() { "r" } else { "-" })
            .text(if flags.writable() { "w" } else { "-" })
            .text(if flags.executable() { "x" } else { "-" })
    }

    /// The name of a function; one of C++ without its parameters.
    pub(super) fn name(&mut self, name: &[u8]) -> &mut Self {
        self.bytes(known::cpp(name, false).as_deref().unwrap_or(name))
    }

    /// `main+0x12 (/path)`; nothing for a place without a name.
    pub(super) fn symbol(&mut self, location: &Location) -> &mut Self {
        if let Some(symbol) = &location.symbol {
            self.name(&symbol.name).text("+").hex(symbol.offset);
            if let Some(module) = &location.module {
                self.text(" (").bytes(module).text(")");
            }
        }
        self
    }

    /// Writes where an unmapped address lies next to a mapping: `; 0x7f00 is 16 bytes past
    /// the end of [heap] (rw-)`. Writes nothing and returns false if the neighbours are not
    /// known, or far away.
    pub(super) fn beside(&mut self, event: &Event, address: u64) -> bool {
        if !knows_neighbours(event, address) {
            return false;
        }
        let at = event
            .mappings
            .partition_point(|mapping| mapping.start.0 <= address);
        /// Farther away nothing is a neighbour.
        const FAR: u64 = 1 << 36;
        let below = at.checked_sub(1).map(|below| &event.mappings[below]);
        let below = below.and_then(|below| Some((below, address.checked_sub(below.end.0)?)));
        let above = event.mappings.get(at);
        let above = above.map(|above| (above, above.start.0 - address));
        let (mapping, distance, side) = match (below, above) {
            (Some((mapping, past)), Some((_, before))) if past <= before => {
                (mapping, past, " past the end of ")
            }
            (Some((mapping, past)), None) => (mapping, past, " past the end of "),
            (_, Some((mapping, before))) => (mapping, before, " before "),
            (None, None) => return false,
        };
        if distance >= FAR {
            return false;
        }
        self.text("; ").hex(address).text(" is ");
        if distance == 0 {
            self.text("the first byte");
        } else {
            self.distance(distance);
        }
        self.text(side).mapping(event, mapping);
        true
    }

    /// Writes what a value looks like that is not an address: `looks like the text "AAAA"`, with
    /// the text itself only if it may be quoted. Writes nothing and returns false if it looks
    /// like nothing.
    pub(super) fn resemblance(&mut self, before: &str, value: u64, quotes: bool) -> bool {
        if let Some((text, len)) = readable(value) {
            self.text(before).text("looks like ");
            if quotes {
                self.text("the text \"").bytes(&text[..len]).text("\"");
            } else {
                self.text("text");
            }
            return true;
        }
        let Some((pattern, maker)) = fill(value) else {
            return false;
        };
        self.text(before).text("looks like the fill pattern ");
        self.hex(pattern).text(maker);
        true
    }
}

/// Whether everything that is mapped next to an address was captured: mappings
/// beside the fault's address are, others only if all are.
pub(super) fn knows_neighbours(event: &Event, address: u64) -> bool {
    let lacks = event.lacks("mappings") || event.lacks("data_mappings");
    let whole = !lacks && !event.mappings.is_empty();
    let all = event.mappings.len() as u64 >= u64::from(event.map_count);
    whole && (all || captured_around(event) == Some(ProcessAddress(address)))
}

/// The address that the capture program took for the fault's (bpf/mappings.h).
fn captured_around(event: &Event) -> Option<ProcessAddress> {
    match &event.first_fault {
        Some(first) if !has_address(event.code) => first.siginfo.address(),
        _ => event.siginfo.address(),
    }
}

/// The mapping that holds an address; `Err` if it may be one that was not captured.
pub(super) fn mapping_at(event: &Event, address: u64) -> Result<Option<&Mapping>, ()> {
    match event.mapping(ProcessAddress(address)) {
        Some(mapping) => Ok(Some(mapping)),
        None if knows_neighbours(event, address) => Ok(None),
        None => Err(()),
    }
}

/// The bytes of a value, lowest first, and how many of them are its text: four or
/// more printable ones, with nothing after them but zeros.
fn readable(value: u64) -> Option<([u8; 8], usize)> {
    let bytes = value.to_le_bytes();
    let len = 8 - value.leading_zeros() as usize / 8;
    let printable = bytes[..len].iter().all(|byte| (b' '..=b'~').contains(byte));
    // 0x55... and 0x56... are where Linux puts programs.
    let code = len == 6 && matches!(bytes[5], b'U' | b'V');
    (len >= 4 && printable && !code).then_some((bytes, len))
}

/// Bytes that allocators, compilers and kernels put where nothing should be read.
const FILLS: [(u8, &str); 12] = [
    (0x5a, " of freed memory (jemalloc)"),
    (0xa5, " of fresh memory (jemalloc)"),
    (0xaa, " of uninitialized variables (clang)"),
    (0xab, " of guards behind allocations"),
    (0xbe, " of fresh memory (AddressSanitizer)"),
    (0xcc, " of uninitialized stack"),
    (0xcd, " of uninitialized heap"),
    (0xdb, " of fresh memory (OpenBSD)"),
    (0xdd, " of freed heap"),
    (0xdf, " of freed memory (OpenBSD)"),
    (0xfd, " of guards beside allocations"),
    (0xfe, " of uninitialized variables (gcc)"),
];

const WORDS: [u32; 6] = [
    0xdead_beef,
    0xbaad_f00d,
    0xdead_c0de,
    0xfeee_feee,
    0xcafe_babe,
    0xdead_dead,
];

/// The fill pattern that a value equals or lies shortly after, and the program that usually
/// writes it.
fn fill(value: u64) -> Option<(u64, &'static str)> {
    let (high, low) = ((value >> 32) as u32, value as u32);
    for word in WORDS {
        // A member's offset may have been added.
        let near = low.wrapping_sub(word) < 0x1000;
        if near && (high == 0 || high == word) {
            return Some((u64::from(word), ""));
        }
    }
    if value >> 48 == 0xdead {
        return Some((0xdead, ""));
    }
    // Whole words, or all but the lowest two bytes.
    let byte = (value >> 56) as u8;
    let all = u64::from(byte) * 0x0101_0101_0101_0101;
    let half = low & 0xff;
    let (byte, same) = if high == 0 {
        (half as u8, low == half * 0x0101_0101)
    } else {
        (
            byte,
            value >> 16 == all >> 16 && value.wrapping_sub(all) < 0x1000,
        )
    };
    let known = FILLS.iter().find(|(fill, _)| *fill == byte);
    match known {
        Some((_, maker)) if same => Some((u64::from(byte), maker)),
        _ => None,
    }
}
