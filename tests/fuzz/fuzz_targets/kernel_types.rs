//! Any bytes as a kernel's BTF: each relocation has a value or an error.
//!
//! The same bytes are also read whole; where both readers take them, they must
//! see the same types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::loader::btf::{Btf, Types};
use segfault_analyzer::loader::parse::section_range;
use segfault_analyzer::loader::relo::{wanted_names, Engine};
use segfault_analyzer::loader::target::Target;
use segfault_analyzer::loader::{link, Object};

const OBJECT: &[u8] = include_bytes!("../../bpf/kernels.bpf.o");

fuzz_target!(|bytes: &[u8]| {
    let source = bytes.to_vec();
    let _ = section_range(&source, ".BTF");
    let object = Object::parse(OBJECT).expect("our own object");
    let names = wanted_names(&object.btf).expect("our own types");
    let Ok(target) = Target::scan(&source, names) else {
        return;
    };
    let mut engine = Engine::new(&object.btf, &target);
    for program in &object.programs {
        let joined = link::join(&object, program).expect("our own program");
        for (_, record) in link::relocations(&object, &joined) {
            let _ = engine.fixup(&record);
        }
    }
    if let Ok(whole) = Btf::parse(bytes) {
        for id in 0..1000 {
            assert_eq!(target.get(id).ok(), whole.get(id).ok());
        }
    }
});
