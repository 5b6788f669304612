//! The mappings that a person looks at first: those that hold the fault address,
//! the instruction and the stack pointer, or lie next to them. A pure function
//! over what was captured.

use crate::base::address::ProcessAddress;
use crate::crash::event::Event;
use crate::report::{Near, NearbyMapping};

/// Shown on each side of what one looks for.
const NEIGHBOURS: usize = 1;

/// The mappings next to the three addresses, in order.
#[must_use]
pub fn mappings(event: &Event, fault: Option<ProcessAddress>) -> Vec<NearbyMapping> {
    let mut wanted = Vec::new();
    let registers = event.registers;
    if let Some(address) = fault {
        wanted.push((Near::Fault, address));
    }
    if let Some(registers) = registers {
        wanted.push((Near::Pc, registers.pc()));
        wanted.push((Near::Sp, registers.sp()));
    }
    let mut near: Vec<NearbyMapping> = Vec::new();
    for (index, mapping) in event.mappings.iter().enumerate() {
        let is_near = |&(_, address): &(Near, ProcessAddress)| {
            // The first that ends above it, whether that holds it or not.
            let at = event
                .mappings
                .partition_point(|mapping| mapping.end <= address);
            let holds = event
                .mappings
                .get(at)
                .is_some_and(|mapping| mapping.contains(address));
            let last = if holds { at + NEIGHBOURS } else { at };
            (at.saturating_sub(NEIGHBOURS)..=last).contains(&index)
        };
        if !wanted.iter().any(is_near) {
            continue;
        }
        let holds = |near| {
            let here = |&(what, address): &(Near, _)| what == near && mapping.contains(address);
            wanted.iter().any(here)
        };
        near.push(NearbyMapping {
            start: mapping.start,
            end: mapping.end,
            flags: mapping.flags,
            file_offset: mapping.file.as_ref().map(|file| file.offset),
            name: event.mapping_name(mapping),
            holds: Near::ALL.into_iter().filter(|&near| holds(near)).collect(),
        });
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::record::abi;
    use crate::capture::record::assemble::Assembler;
    use crate::crash::event::{Mapping, VmFlags};
    use crate::crash::registers::{Arch, Registers};

    /// A record whose every byte is zero.
    fn blank() -> Event {
        let mut header = vec![0; abi::HEADER_IN_RING - 8];
        header[0] = 1;
        let size = header.len() as u32;
        header[4..8].copy_from_slice(&size.to_ne_bytes());
        let mut assembler = Assembler::new(4096, 1 << 20);
        assembler.feed(&header).expect("a header");
        let event = assembler.give_up().next();
        event.expect("a header gives an event")
    }

    fn event(pc: u64, sp: u64) -> Event {
        let mut words = [0; 34];
        (words[16], words[19]) = (pc, sp);
        let mapping = |start: u64| Mapping {
            start: ProcessAddress(start),
            end: ProcessAddress(start + 0x1000),
            flags: VmFlags(1),
            file: None,
        };
        Event {
            registers: Some(Registers::new(Arch::X86_64, words)),
            mappings: (1..10).map(|number| mapping(number * 0x10000)).collect(),
            ..blank()
        }
    }

    fn starts(near: &[NearbyMapping]) -> Vec<u64> {
        near.iter().map(|mapping| mapping.start.0 >> 16).collect()
    }

    #[test]
    fn what_holds_an_address_is_shown_with_its_neighbours() {
        let near = mappings(&event(0x50010, 0x90020), Some(ProcessAddress(0)));
        assert_eq!(starts(&near), [1, 4, 5, 6, 8, 9]);
        assert_eq!(near[2].holds, [Near::Pc]);
        assert_eq!(near[5].holds, [Near::Sp]);
        assert!(near[0].holds.is_empty(), "nothing is mapped at zero");
    }

    #[test]
    fn of_an_address_in_a_gap_both_sides_are_shown() {
        let near = mappings(&event(0x30010, 0x30020), Some(ProcessAddress(0x35000)));
        assert_eq!(starts(&near), [2, 3, 4]);
        assert_eq!(near[1].holds, [Near::Pc, Near::Sp]);
    }
}
