//! Any bytes as an ELF file: what it says of an address is about that address.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::base::address::{FileAddress, FileOffset};
use segfault_analyzer::symbols::elf::{find_debug_file, DebugDirs, ElfFile, Source};
use segfault_analyzer::unwind::CfiSection;

fuzz_target!(|bytes: &[u8]| {
    let size = bytes.len() as u64;
    let Ok(elf) = ElfFile::parse(Source::memory(bytes.to_vec())) else {
        return;
    };
    let mut addresses: Vec<FileAddress> = [0, 0x1000, 0x1139, u64::MAX].map(FileAddress).into();
    addresses.extend(elf.entry());
    for load in elf.loads() {
        addresses.push(load.address);
        addresses.push(FileAddress(load.address.0.wrapping_add(load.file_size / 2)));
    }
    if let Some(answers) = elf.functions(&addresses) {
        assert_eq!(answers.len(), addresses.len());
        for (address, answer) in addresses.iter().zip(answers) {
            assert!(answer.found.is_none_or(|found| found.start <= *address));
        }
    }
    for &address in &addresses {
        if let Some((FileOffset(_), left)) = elf.file_offset(address) {
            assert!(left > 0);
        }
    }
    for section in [
        CfiSection::EhFrameHdr,
        CfiSection::EhFrame,
        CfiSection::DebugFrame,
        CfiSection::ArmIndex,
    ] {
        let range = elf.section_range(section);
        assert_eq!(range.is_some(), elf.section(section).is_some());
        // Nothing can be read beyond the end.
        let end = range.map_or(0, |range| match range.size {
            0 => 0,
            bytes => range.offset + bytes,
        });
        assert!(end <= size);
    }
    let _ = find_debug_file(&elf, &[], &DebugDirs::default());
});
