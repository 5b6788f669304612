//! The list of loaded files that a dynamic linker keeps, made up from the mappings.
//!
//! A debugger finds shared libraries through memory: the program's dynamic section has an
//! entry DT_DEBUG, which points to `r_debug`, which begins a list of `link_map`. None of
//! it is captured. The list of a core of ours is at an address that the process did not
//! use, and DT_DEBUG of a copy of the dynamic section points there. The libraries are in
//! the order of their addresses, not in that of loading. glibc's elf/link.h, musl's
//! include/link.h.

use super::layout::Writer;
use super::Object;
use crate::crash::registers::Arch;

const DT_NULL: u64 = 0;
const DT_DEBUG: u64 = 21;
/// Words of `r_debug`, and of a `link_map` as far as debuggers know it.
const WORDS: u64 = 5;

/// The program's dynamic section, with DT_DEBUG set; `None` if it has no such entry.
#[must_use]
pub(super) fn dynamic(arch: Arch, bytes: &[u8], list: u64) -> Option<Vec<u8>> {
    let word = arch.word_bytes();
    let mut out = bytes.to_vec();
    let value = |bytes: &[u8]| {
        let mut whole = [0; 8];
        whole[..word].copy_from_slice(&bytes[..word]);
        u64::from_le_bytes(whole)
    };
    for entry in out.chunks_exact_mut(2 * word) {
        match value(entry) {
            DT_DEBUG => {
                entry[word..].copy_from_slice(&list.to_le_bytes()[..word]);
                return Some(out);
            }
            DT_NULL => break,
            _ => {}
        }
    }
    None
}

/// `r_debug` and the list behind it, for memory at `list`.
#[must_use]
pub(super) fn list(arch: Arch, objects: &[&Object], list: u64) -> Vec<u8> {
    let node_bytes = WORDS * arch.word_bytes() as u64;
    let node = |index: usize| list + node_bytes * (index as u64 + 1);
    let mut out = Writer::new(arch);
    // Version 1, the list, no function to stop at, state RT_CONSISTENT, no base.
    for word in [1, node(0), 0, 0, 0] {
        out.word(word);
    }
    let mut names = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let name = node(objects.len()) + names.len() as u64;
        // The program itself has no name there.
        if !object.is_program {
            names.extend_from_slice(&object.path);
        }
        names.push(0);
        let dynamic = object.dynamic.as_ref().map_or(0, |(address, _)| address.0);
        let has_next = index + 1 < objects.len();
        out.word(object.bias);
        out.word(name);
        out.word(dynamic);
        out.word(if has_next { node(index + 1) } else { 0 });
        out.word(if index > 0 { node(index - 1) } else { 0 });
    }
    out.bytes.extend_from_slice(&names);
    out.bytes
}
