//! Our decoder against disassemblers, which share no code with it nor with each
//! other: on whole libraries, and on every form of every opcode.
//!
//! `make check-decoder` runs these; they take minutes.

#[path = "decoder/intel.rs"]
mod intel;
#[path = "decoder/listing.rs"]
mod listing;
#[path = "decoder/tally.rs"]
mod tally;
#[path = "decoder/x86.rs"]
mod x86;

use std::fs;
use std::path::Path;

use listing::{Machine, Tool};
use tally::Tally;

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/";

/// What every distribution has, compilers' vector code of several generations,
/// and hand-written assembly. Those that are not there are left out, but the
/// first.
const X86_64_FILES: [&str; 9] = [
    "libc.so.6",
    "libm.so.6",
    "libstdc++.so.6",
    "../../bin/gdb",
    "libcrypto.so.3",
    "libx265.so.199",
    "libSvtAv1Enc.so.1",
    "libaom.so.3",
    "libLLVM.so.19.1",
];

#[test]
#[ignore = "minutes: make check-decoder"]
fn libraries_of_x86_64() {
    let mut sum = Tally::default();
    for name in X86_64_FILES {
        let library = Path::new(LIBRARIES).join(name);
        if !library.exists() && name != X86_64_FILES[0] {
            continue;
        }
        let object = listing::text_of(Machine::X86_64, &library);
        for tool in [Tool::Gnu, Tool::Llvm] {
            let mut tally = Tally::default();
            tool.disassemble(Machine::X86_64, &object, |line| {
                x86::compare(tool, Machine::X86_64, line, &mut tally);
            });
            tally.print(&format!("{name}, {tool:?}"));
            sum.add(tally);
        }
        fs::remove_file(object).expect("our own file");
    }
    sum.settle("x86_64");
}
