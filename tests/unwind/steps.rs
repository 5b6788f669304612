//! A program walked at every instruction between two signals, in libraries too,
//! against the calls that it was seen to make.

use std::collections::HashMap;

use segfault_analyzer::base::address::ProcessAddress;
use segfault_analyzer::crash::frame::{Stop, Trust};
use segfault_analyzer::crash::registers::Registers;
use segfault_analyzer::unwind::{walk, AddressSpace, Caches};

use crate::build::{self, Flavour, FLAVOURS};
use crate::child::Child;
use crate::space::Space;
use crate::{names, DEPTH};

/// Return addresses that calls pushed, with where: what a walk ought to find.
#[derive(Default)]
struct Shadow {
    calls: Vec<(u64, u64)>,
}

impl Shadow {
    /// After one instruction: one that moved the stack down by a word and left
    /// there the address behind itself was a call.
    fn follow(&mut self, before: &Registers, after: &Registers, space: &Space) {
        let sp = after.sp().0;
        self.calls.retain(|(slot, _)| *slot >= sp);
        let mut word = [0; 8];
        if before.sp().0.wrapping_sub(sp) == 8 && space.read_memory(after.sp(), &mut word).is_some()
        {
            let returns = u64::from_le_bytes(word);
            let len = returns.wrapping_sub(before.pc().0);
            if (2..=8).contains(&len) {
                self.calls.push((sp, returns));
            }
        }
    }
}

/// Every instruction between two signals, in libraries too, against the calls
/// that were really made.
fn walk_every_instruction(flavour: Flavour, max_wrong: usize) {
    let Some(program) = build::program("steps", flavour) else {
        return;
    };
    let mut child = Child::run(&program.path, "steps", libc::SIGUSR1, 1).expect("a child");
    let space = Space::of(child.pid(), &program.named, &mut HashMap::new()).expect("its mappings");
    let mut caches = Caches::new(4096, 1 << 20);
    let functions = build::functions("steps");
    let mut shadow = Shadow::default();
    let mut steps = 0;
    let mut wrong = Vec::new();
    let mut handled = false;
    loop {
        let before = child.registers;
        if !child.step(libc::SIGUSR1).expect("a step") {
            break;
        }
        space.forget();
        shadow.follow(&before, &child.registers, &space);
        let walked = walk(&child.registers, &space, DEPTH, &mut caches);
        steps += 1;
        let through = walked
            .frames
            .iter()
            .any(|frame| frame.trust == Trust::Signal);
        handled |= through;
        let names = names(&walked, &space);
        let found = walked.frames[1..]
            .iter()
            .map(|frame| frame.code.address().0);
        let found: Vec<_> = found.collect();
        let calls: Vec<_> = shadow
            .calls
            .iter()
            .rev()
            .map(|(_, returns)| *returns)
            .collect();
        // The kernel's frame is no call; longjmp and setcontext already speak of
        // where they go. Chains through those are known by name alone.
        let by_name = through
            || names
                .iter()
                .any(|name| name == "returns_twice" || name == "contexts");
        let whole = names
            .windows(5)
            .any(|names| names == ["steps", "inner", "middle", "outer", "main"]);
        // A C library without call-frame information may lose its own frames,
        // the program's never.
        let own = |addresses: &[u64]| -> Vec<u64> {
            let own = |address: &u64| {
                let place = space.located(ProcessAddress(address.wrapping_sub(1)));
                let symbol = place.and_then(|(module, address)| module.symbol(address));
                symbol.is_some_and(|(_, _, name)| functions.contains(name))
            };
            addresses.iter().copied().filter(own).collect()
        };
        let exact = match flavour.musl {
            false => found.starts_with(&calls),
            true => own(&found).starts_with(&own(&calls)),
        };
        if walked.stop != Stop::Outermost || !(exact || by_name && whole) {
            let pc = space
                .located(child.registers.pc())
                .map(|(_, address)| address);
            wrong.push(format!(
                "{pc:x?} {:x?} {} calls {calls:x?}",
                walked.stop,
                names.join(" ")
            ));
        }
    }
    println!(
        "{}: {steps} instructions, {} wrong",
        flavour.name,
        wrong.len()
    );
    assert!(steps > 1000 && handled, "{steps}");
    wrong.dedup();
    assert!(wrong.len() <= max_wrong, "{}", wrong.join("\n"));
}

#[test]
fn every_instruction_is_walked_right() {
    for flavour in FLAVOURS {
        // gcc keeps a rule for rbp two instructions too long where a realigned
        // function ends (after `leave`). Without rows for the C library what
        // earlier calls left is taken for a caller now and then.
        match flavour.name {
            "pie" | "static" => walk_every_instruction(flavour, 2),
            "musl_static" => walk_every_instruction(flavour, 100),
            _ => {}
        }
    }
}
