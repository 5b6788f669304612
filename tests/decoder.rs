//! Our decoder against disassemblers, which share no code with it nor with each
//! other: on whole libraries, and on every form of every opcode.
//!
//! `make check-decoder` runs these; they take minutes.

#[path = "decoder/arm.rs"]
mod arm;
#[path = "decoder/arm64.rs"]
mod arm64;
#[path = "decoder/forms.rs"]
mod forms;
#[path = "decoder/intel.rs"]
mod intel;
#[path = "decoder/listing.rs"]
mod listing;
#[path = "decoder/outcome.rs"]
mod outcome;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "decoder/processor.rs"]
mod processor;
#[path = "decoder/stack.rs"]
mod stack;
#[path = "decoder/tally.rs"]
mod tally;
#[path = "decoder/words.rs"]
mod words;
#[path = "decoder/x86.rs"]
mod x86;

use std::fs;
use std::path::Path;

use listing::{Line, Machine, Tool};
use outcome::Outcome;
use tally::Tally;

const TOOLS: [Tool; 2] = [Tool::Gnu, Tool::Llvm];

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

const AARCH64_FILES: [&str; 5] = [
    "libc.so.6",
    "libm.so.6",
    "libstdc++.so.6",
    "libasan.so.8",
    "libtsan.so.2",
];

fn outcome(tool: Tool, machine: Machine, line: &Line) -> Outcome {
    match machine {
        Machine::Aarch64 => arm64::outcome(line),
        Machine::Arm => arm::outcome(false, line),
        Machine::Thumb => arm::outcome(true, line),
        _ => x86::outcome(tool, machine, line),
    }
}

/// Each tool must agree on each instruction.
fn libraries(machine: Machine, directory: &str, files: &[&str]) {
    let mut sum = Tally::default();
    for name in files {
        let library = Path::new(directory).join(name);
        if !library.exists() && name != &files[0] {
            continue;
        }
        let object = listing::text_of(machine, &library);
        for tool in TOOLS {
            let mut tally = Tally::default();
            tool.disassemble(machine, &object, |line| {
                tally.count(outcome(tool, machine, line), || {
                    format!("{:02x?} {}", line.bytes, line.text)
                });
            });
            tally.print(&format!("{name}, {tool:?}"));
            sum.add(tally);
        }
        fs::remove_file(object).expect("our own file");
    }
    sum.settle(&format!("{machine:?}"));
}

/// Here the tools' own mistakes show. Ours is one where nobody agrees with us.
fn forms(machine: Machine, code: &[u8], slot: usize) {
    compare(machine, &format!("forms of {machine:?}"), code, slot);
}

fn compare(machine: Machine, name: &str, code: &[u8], slot: usize) {
    let object = listing::object_of(machine, name, code);
    let mut lines: Vec<[Option<(usize, String)>; 2]> = Vec::new();
    lines.resize_with(code.len() / slot, Default::default);
    for (number, tool) in TOOLS.into_iter().enumerate() {
        tool.disassemble(machine, &object, |line| {
            let address = line.address as usize;
            if address.is_multiple_of(slot) {
                lines[address / slot][number] = Some((line.bytes.len(), line.text.to_owned()));
            }
        });
    }
    fs::remove_file(object).expect("our own file");
    let mut tally = Tally::default();
    let mut disputed = 0;
    let mut unsure = 0;
    for (number, tools) in lines.iter().enumerate() {
        let address = number * slot;
        let mut outcomes = Vec::new();
        for (line, tool) in tools.iter().zip(TOOLS) {
            let Some((length, text)) = line else {
                continue;
            };
            let line = Line {
                address: address as u64,
                bytes: &code[address..address + length],
                text,
            };
            match outcome(tool, machine, &line) {
                Outcome::Nothing => {}
                outcome => outcomes.push((outcome, format!("{tool:?} {:02x?} {text}", line.bytes))),
            }
        }
        let agree = |(outcome, _): &(Outcome, String)| matches!(outcome, Outcome::Same(_));
        match outcomes.iter().position(agree) {
            Some(at) => {
                disputed += u64::from(!outcomes.iter().all(agree));
                let (outcome, example) = outcomes.swap_remove(at);
                tally.count(outcome, || example);
            }
            None if outcomes.len() == 1 && matches!(outcomes[0].0, Outcome::Refused(_)) => {
                unsure += 1;
            }
            None => {
                if let Some((outcome, example)) = outcomes.pop() {
                    tally.count(outcome, || example);
                }
            }
        }
    }
    println!(
        "{name}: {disputed} where one tool agrees and the other does not, {unsure} that only one \
         takes for instructions and we do not"
    );
    tally.settle(name);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn libraries_of_x86_64() {
    libraries(Machine::X86_64, "/usr/lib/x86_64-linux-gnu", &X86_64_FILES);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn libraries_of_aarch64() {
    libraries(
        Machine::Aarch64,
        "/usr/aarch64-linux-gnu/lib",
        &AARCH64_FILES,
    );
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_x86_64() {
    forms(Machine::X86_64, &forms::all(Machine::X86_64), forms::SLOT);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_i386() {
    forms(Machine::I386, &forms::all(Machine::I386), forms::SLOT);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_aarch64() {
    forms(Machine::Aarch64, &words::all(), 4);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_arm() {
    forms(Machine::Arm, &words::arm(), 4);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_thumb() {
    forms(Machine::Thumb, &words::thumb(), words::THUMB_SLOT);
    forms(Machine::Thumb, &words::short_thumb(), 2);
}

/// Nothing in a stripped library says which code is ARM and which is Thumb: all of it is read
/// as both. What is neither of them is an instruction by chance, on which tools differ.
#[test]
#[ignore = "minutes: make check-decoder"]
fn libraries_of_arm() {
    let files =
        std::env::var("ARM_LIBRARIES").expect("the files, as make check-decoder names them");
    for file in files.split_ascii_whitespace() {
        let library = Path::new(file);
        let short = library.file_name().expect("a name").to_string_lossy();
        for (machine, slot) in [(Machine::Arm, 4), (Machine::Thumb, 2)] {
            let mut code = listing::code_of(machine, library);
            code.truncate(code.len() / slot * slot);
            compare(machine, &format!("{short}, {machine:?}"), &code, slot);
        }
    }
}

/// Where the tools only name an operand, the processor shows what it does to it.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
#[ignore = "minutes: make check-decoder"]
fn as_this_processor_does() {
    let processor = processor::Processor::start().expect("a traced child");
    let mut tally = Tally::default();
    for code in forms::opcodes(Machine::X86_64).chunks(forms::SLOT) {
        let code = &code[..15];
        tally.count(processor.outcome(code), || format!("{code:02x?}"));
    }
    tally.settle("as this processor does");
}
