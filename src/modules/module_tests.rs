//! Load biases of segments as linkers lay them out.

use super::*;
use crate::base::address::{FileOffset, ProcessAddress};
use crate::crash::event::{FileIdentity, MappedFile, VmFlags};

fn load(address: u64, offset: u64, size: u64, executable: bool) -> Load {
    Load {
        address: FileAddress(address),
        offset: FileOffset(offset),
        file_size: size,
        memory_size: size,
        executable,
        writable: false,
    }
}

fn mapping(start: u64, len: u64, offset: u64, executable: bool) -> Mapping {
    Mapping {
        start: ProcessAddress(start),
        end: ProcessAddress(start + len),
        flags: VmFlags(if executable { 5 } else { 1 }),
        file: Some(MappedFile {
            identity: FileIdentity {
                inode: 1,
                device: 1,
                size: 1,
                mtime_s: 0,
                mtime_ns: 0,
                mapped_unix_ns: None,
                crashed_unix_ns: None,
            },
            offset: FileOffset(offset),
            path: b"/x".to_vec(),
            lower_path: None,
            deleted: false,
            detached: false,
            truncated: false,
            head: None,
        }),
    }
}

#[test]
fn segments_padded_to_pages_by_ld() {
    let loads = [
        load(0, 0, 0x600, false),
        load(0x1000, 0x1000, 0x2345, true),
        load(0x4000, 0x4000, 0x100, false),
        load(0x5df0, 0x4df0, 0x300, false),
    ];
    let base = 0x5555_5555_4000;
    for (start, len, offset, executable) in [
        (base, 0x1000, 0, false),
        (base + 0x1000, 0x3000, 0x1000, true),
        (base + 0x4000, 0x1000, 0x4000, false),
        // After mprotect split it.
        (base + 0x2000, 0x1000, 0x2000, true),
    ] {
        let mapping = mapping(start, len, offset, executable);
        assert_eq!(bias(&loads, &mapping), Some(base), "{mapping:?}");
    }
    let mut data = mapping(base + 0x5000, 0x1000, 0x4000, false);
    data.flags = VmFlags(3);
    let mut writable = loads;
    writable[3].writable = true;
    assert_eq!(bias(&writable, &data), Some(base));
    let outside = mapping(base + 0x9000, 0x1000, 0x9000, false);
    assert_eq!(bias(&loads, &outside), None);
}

#[test]
fn segments_that_share_a_page_of_the_file_as_lld_makes_them() {
    let loads = [load(0, 0, 0x79c, false), load(0x17a0, 0x7a0, 0x300, true)];
    let base = 0x20_0000;
    assert_eq!(
        bias(&loads, &mapping(base + 0x1000, 0x1000, 0, true)),
        Some(base)
    );
    assert_eq!(bias(&loads, &mapping(base, 0x1000, 0, false)), Some(base));
}

#[test]
fn a_program_with_fixed_addresses_has_no_bias() {
    let loads = [
        load(0x40_0000, 0, 0x500, false),
        load(0x40_1000, 0x1000, 0x800, true),
    ];
    assert_eq!(
        bias(&loads, &mapping(0x40_1000, 0x1000, 0x1000, true)),
        Some(0)
    );
    // A library below its linked address: the difference wraps.
    assert_eq!(
        bias(&loads, &mapping(0x1000, 0x1000, 0x1000, true)),
        Some(0u64.wrapping_sub(0x40_0000))
    );
}
