//! Any bytes as a BPF object: a plan or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::loader::{btf_load, link, Object};

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = Object::parse(bytes) else {
        return;
    };
    for program in &object.programs {
        if let Ok(joined) = link::join(&object, program) {
            let last = joined.pieces.last().expect("a program has a function");
            assert!(last.start < joined.instructions.len());
            let count = joined.instructions.len();
            for (instruction, _) in link::relocations(&object, &joined) {
                assert!(instruction < count);
            }
        }
    }
    if let Ok(whole) = btf_load::finish(&object) {
        for number in 0..btf_load::RENDITIONS {
            if let Some(rendition) = btf_load::rendition(&object, &whole, number) {
                assert_eq!(rendition.len(), whole.len());
            }
        }
    }
});
