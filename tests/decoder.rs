//! Our decoder against disassemblers, which share no code with it nor with each
//! other: on whole libraries, and on every form of every opcode.
//!
//! `make check-decoder` runs these; they take minutes.

#[path = "decoder/forms.rs"]
mod forms;
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

use listing::{Line, Machine, Tool};
use tally::Tally;
use x86::Outcome;

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

/// Here the tools' own mistakes show. Ours is one where nobody agrees with us.
fn forms_of_x86(machine: Machine) {
    let name = format!("forms of {machine:?}");
    let code = forms::of(machine);
    let object = listing::object_of(machine, &name, &code);
    let mut lines: Vec<[Option<(usize, String)>; 2]> = Vec::new();
    lines.resize_with(code.len() / forms::SLOT, Default::default);
    for (number, tool) in [Tool::Gnu, Tool::Llvm].into_iter().enumerate() {
        tool.disassemble(machine, &object, |line| {
            let address = line.address as usize;
            if address % forms::SLOT == 0 {
                let length = line.bytes.len();
                lines[address / forms::SLOT][number] = Some((length, line.text.to_owned()));
            }
        });
    }
    fs::remove_file(object).expect("our own file");
    let mut tally = Tally::default();
    let mut disputed = Tally::default();
    for (slot, tools) in lines.iter().enumerate() {
        let address = slot * forms::SLOT;
        let outcomes: Vec<(Outcome, String)> = tools
            .iter()
            .zip([Tool::Gnu, Tool::Llvm])
            .filter_map(|(line, tool)| {
                let (length, text) = line.as_ref()?;
                let bytes = &code[address..address + length];
                let line = Line {
                    address: address as u64,
                    bytes,
                    text,
                };
                let outcome = x86::outcome(tool, machine, &line);
                let nothing = matches!(outcome, Outcome::Nothing);
                let example = || format!("{tool:?} {bytes:02x?} {text}");
                (!nothing).then(|| (outcome, example()))
            })
            .collect();
        let agreed = outcomes.iter().find_map(|(outcome, _)| match outcome {
            Outcome::Same(operands) => Some(*operands),
            _ => None,
        });
        tally.instructions += u64::from(!outcomes.is_empty());
        tally.operands += agreed.unwrap_or(0);
        let both_refused = outcomes.len() == 2;
        for (outcome, example) in outcomes {
            let into = if agreed.is_none() {
                &mut tally
            } else {
                &mut disputed
            };
            match outcome {
                Outcome::Differs(_, key) => into.mismatch(&key, || example),
                Outcome::Refused(key) if both_refused => into.refuse(&key, || example),
                Outcome::Refused(key) => disputed.refuse(&key, || example),
                _ => {}
            }
        }
    }
    let title = format!("{name}, where a tool differs from us and from the other");
    if std::env::var_os("DISPUTED").is_some() {
        disputed.settle(&title);
    }
    disputed.print(&title);
    tally.settle(&name);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_x86_64() {
    forms_of_x86(Machine::X86_64);
}

#[test]
#[ignore = "minutes: make check-decoder"]
fn forms_of_i386() {
    forms_of_x86(Machine::I386);
}
