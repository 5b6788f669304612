//! What `--maps` and `--memory` add to a report in text.

use crate::crash::event::{MemoryWindow, VmFlags};
use crate::crash::registers::Registers;
use crate::report::NearbyMapping;

use super::escape;

/// Bytes in one line.
const LINE_BYTES: usize = 16;

/// `rwxp`, as /proc/PID/maps has it.
pub(super) fn permissions(flags: VmFlags) -> String {
    let letters = [
        (flags.readable(), 'r', '-'),
        (flags.writable(), 'w', '-'),
        (flags.executable(), 'x', '-'),
        (flags.shared(), 's', 'p'),
    ];
    let letter = |(is, yes, no)| if is { yes } else { no };
    letters.into_iter().map(letter).collect()
}

/// One mapping a line, with the interesting addresses in it.
pub(super) fn maps(out: &mut String, maps: &[NearbyMapping]) {
    out.push_str("  Mappings nearby:\n");
    for mapping in maps {
        let permissions = permissions(mapping.flags);
        out.push_str(&format!(
            "    {:#x}-{:#x} {permissions}",
            mapping.start, mapping.end
        ));
        if let Some(offset) = mapping.file_offset {
            out.push_str(&format!(" {offset:#x}"));
        }
        out.push(' ');
        escape::text(out, &mapping.name);
        for (index, near) in mapping.holds.iter().enumerate() {
            out.push_str(if index == 0 { " <- " } else { ", " });
            out.push_str(near.as_str());
        }
        out.push('\n');
    }
}

/// Bytes in hexadecimal and as text, with the registers that point into each line.
pub(super) fn memory(out: &mut String, windows: &[MemoryWindow], registers: Option<&Registers>) {
    out.push_str("  Memory around registers:\n");
    for window in windows {
        for (index, bytes) in window.bytes.chunks(LINE_BYTES).enumerate() {
            let address = window.address.0 + (index * LINE_BYTES) as u64;
            out.push_str(&format!("    {address:#x}:"));
            for byte in bytes {
                out.push_str(&format!(" {byte:02x}"));
            }
            out.push_str(&"   ".repeat(LINE_BYTES - bytes.len()));
            out.push_str("  ");
            for &byte in bytes {
                let shown = matches!(byte, b' '..=b'~');
                out.push(if shown { char::from(byte) } else { '.' });
            }
            let mut mark = " <- ";
            for (name, value) in registers.into_iter().flat_map(Registers::named) {
                if value.wrapping_sub(address) < bytes.len() as u64 {
                    out.push_str(mark);
                    out.push_str(&name.to_uppercase());
                    mark = ", ";
                }
            }
            out.push('\n');
        }
    }
}
