//! Any bytes as an ELF file with debug information: for each address the calls
//! there, the last of them not inlined, or nothing.
#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::base::address::FileAddress;
use segfault_analyzer::base::allowance::Allowance;
use segfault_analyzer::base::budget::MemoryBudget;
use segfault_analyzer::symbols::elf::{ElfFile, Source};
use segfault_analyzer::symbols::lines;

fuzz_target!(|bytes: &[u8]| {
    let source = Source::memory(bytes.to_vec());
    let source = source.within(Some(&Rc::new(Allowance::of_work(1 << 30))));
    let Ok(elf) = ElfFile::parse(source) else {
        return;
    };
    let mut addresses: Vec<FileAddress> = vec![FileAddress(0), FileAddress(u64::MAX)];
    for load in elf.loads().iter().filter(|load| load.executable).take(2) {
        let places = (0..load.file_size.min(0x400)).step_by(0x20);
        addresses.extend(places.map(|into| FileAddress(load.address.0.wrapping_add(into))));
    }
    // Compressed sections have as much room.
    let limit = Rc::new(MemoryBudget::new(1 << 24));
    let brief = lines::Memory::brief(limit.clone());
    let found = lines::calls(&elf, &brief, &lines::Alone, &addresses).calls;
    assert!(limit.used() <= 1 << 24);
    assert_eq!(found.len(), addresses.len());
    // A desk keeps what it has read: as much as there is room for.
    let budget = Rc::new(MemoryBudget::new(1 << 16));
    let memory = lines::Memory::kept(budget.clone());
    for addresses in addresses.chunks(3) {
        let _ = lines::calls(&elf, &memory, &lines::Alone, addresses);
        assert!(budget.used() <= 1 << 16);
    }
    for calls in found {
        let inlined = calls.iter().take_while(|call| call.inlined).count();
        assert!(calls.is_empty() || inlined + 1 == calls.len());
    }
});
