//! Chains of real crashes, known from their source, walked in a stopped child.
//!
//! Each scenario is built in several ways (compiler, C library, linking,
//! stripped or not). The expected chain is written from the source; a frame
//! that it does not name may only belong to a library, so that an invented
//! frame of the program's own fails. `make compare` sets gdb beside it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![cfg_attr(
    not(feature = "dwarf"),
    allow(
        dead_code,
        unused_imports,
        reason = "most chains need call-frame information"
    )
)]

#[path = "unwind/build.rs"]
mod build;
#[path = "unwind/child.rs"]
mod child;
#[path = "host/mod.rs"]
mod host;
#[path = "unwind/space.rs"]
mod space;
#[cfg(feature = "dwarf")]
#[path = "unwind/steps.rs"]
mod steps;

use std::collections::HashMap;

use build::{Flavour, Program, FLAVOURS};
use child::Child;
use segfault_analyzer::crash::frame::{CodeAddress, Stop};
use segfault_analyzer::unwind::{walk, Caches, Walk};
use space::Space;

const DEPTH: usize = 64;

/// A frame of no function of the program: a library's, or a bad pc.
const ANY: &str = "?";
/// Any number of those.
const LIBRARY: &str = "...";

struct Scenario {
    source: &'static str,
    name: &'static str,
    /// Which SIGSEGV kills, counted from 1.
    fatal: usize,
    /// From the crash up to the scenario's function.
    frames: &'static [&'static str],
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// inner, middle, outer, main, and the C library's start.
    Main,
    /// The frames are all; the outermost is proven.
    Here,
    /// Deeper than is asked for.
    Depth,
}

const fn scenario(
    source: &'static str,
    name: &'static str,
    fatal: usize,
    frames: &'static [&'static str],
    end: End,
) -> Scenario {
    Scenario {
        source,
        name,
        fatal,
        frames,
        end,
    }
}

const SCENARIOS: [Scenario; 30] = [
    scenario("calls", "null_write", 1, &["null_write"], End::Main),
    scenario("calls", "null_call", 1, &[ANY, "null_call"], End::Main),
    scenario("calls", "wild_call", 1, &[ANY, "wild_call"], End::Main),
    scenario(
        "calls",
        "non_canonical_call",
        1,
        &["non_canonical_call"],
        End::Main,
    ),
    scenario("calls", "heap_call", 1, &[ANY, "heap_call"], End::Main),
    scenario("calls", "slot_call", 1, &[ANY, "slot_call"], End::Main),
    scenario("calls", "last_call", 1, &["dies", "last_call"], End::Main),
    scenario("calls", "recursion", 1, &["recurse"; DEPTH], End::Depth),
    scenario("calls", "big_local", 1, &["big_local"], End::Main),
    // The frame whose address was overwritten is lost for everybody.
    scenario("calls", "overwritten", 1, &["smash"], End::Main),
    scenario(
        "signals",
        "handled",
        2,
        &["in_handler", "handler", ANY, "faults", "handled"],
        End::Main,
    ),
    scenario(
        "signals",
        "on_alternate",
        2,
        &["in_handler", "handler", ANY, "faults", "on_alternate"],
        End::Main,
    ),
    scenario(
        "signals",
        "first_instruction",
        2,
        &["in_handler", "handler", ANY, "first", "first_instruction"],
        End::Main,
    ),
    scenario(
        "signals",
        "handled_call",
        2,
        &["in_handler", "handler", ANY, ANY, "handled_call"],
        End::Main,
    ),
    scenario(
        "library",
        "sorts",
        1,
        &["compare", LIBRARY, "sorts"],
        End::Main,
    ),
    scenario("library", "measures", 1, &[LIBRARY, "measures"], End::Main),
    scenario("library", "copies", 1, &[LIBRARY, "copies"], End::Main),
    scenario("library", "prints", 1, &[LIBRARY, "prints"], End::Main),
    scenario(
        "library",
        "tells_time",
        1,
        &[LIBRARY, "tells_time"],
        End::Main,
    ),
    scenario("library", "frees", 1, &[LIBRARY, "frees"], End::Main),
    scenario(
        "library",
        "threads",
        1,
        &["in_thread", "thread", LIBRARY],
        End::Here,
    ),
    scenario(
        "library",
        "exits",
        1,
        &["at_exit", LIBRARY, "exits"],
        End::Main,
    ),
    scenario(
        "library",
        "switches",
        1,
        &["in_thread", "coroutine", LIBRARY],
        End::Here,
    ),
    scenario("frames", "realigns", 1, &["writes", "realigns"], End::Main),
    scenario("frames", "leaf", 1, &["bare", "leaf"], End::Main),
    scenario("frames", "leaf_4k", 1, &["bare_4k", "leaf_4k"], End::Main),
    scenario("frames", "leaf_fp", 1, &["bare_fp", "leaf_fp"], End::Main),
    scenario(
        "frames",
        "calls_bare",
        1,
        &["writes", "called_back", "bare_caller", "calls_bare"],
        End::Main,
    ),
    scenario("frames", "jit", 1, &[ANY, "jit"], End::Main),
    scenario(
        "frames",
        "jit_calls",
        1,
        &["writes", "called_back", ANY, "jit_calls"],
        End::Main,
    ),
];

impl Scenario {
    fn expected(&self) -> Vec<&'static str> {
        let mut frames = self.frames.to_vec();
        if self.end == End::Main {
            frames.extend(["inner", "middle", "outer", "main", LIBRARY]);
        }
        frames
    }

    /// makecontext is glibc's.
    fn exists(&self, flavour: Flavour) -> bool {
        !(flavour.musl && self.name == "switches")
    }
}

/// Whether names are those expected; `own` are the program's functions.
fn matches(names: &[String], expected: &[&str], own: &[String]) -> bool {
    match (expected.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((&LIBRARY, rest)), first) => {
            matches(names, rest, own)
                || first.is_some_and(|(name, names)| {
                    !own.contains(name) && matches(names, expected, own)
                })
        }
        (Some((&ANY, rest)), Some((name, names))) => {
            !own.contains(name) && matches(names, rest, own)
        }
        (Some((wanted, rest)), Some((name, names))) => wanted == name && matches(names, rest, own),
        _ => false,
    }
}

/// A symbol without what a compiler adds to a part of a function.
fn names(walk: &Walk, space: &Space) -> Vec<String> {
    let name = |code: CodeAddress| {
        let (module, address) = space.located(code.lookup())?;
        let (_, _, name) = module.symbol(address)?;
        Some(name.split('.').next().unwrap_or(name).to_owned())
    };
    let frames = walk.frames.iter();
    frames
        .map(|frame| name(frame.code).unwrap_or_else(|| "??".to_owned()))
        .collect()
}

/// A walk with its names, and a line that tells all about it.
struct Walked {
    names: Vec<String>,
    stop: Stop,
    shown: String,
}

fn walked(program: &Program, scenario: &Scenario) -> Walked {
    let child = Child::run(&program.path, scenario.name, libc::SIGSEGV, scenario.fatal)
        .unwrap_or_else(|error| panic!("{:?} {}: {error}", program.path, scenario.name));
    let space = Space::of(child.pid(), &program.named, &mut HashMap::new()).expect("its mappings");
    let mut caches = Caches::new(4096, 1 << 20);
    let walked = walk(&child.registers, &space, DEPTH, &mut caches);
    let again = walk(&child.registers, &space, DEPTH, &mut caches);
    assert_eq!(walked, again, "the caches change nothing");
    let names = names(&walked, &space);
    let shown: Vec<_> = names
        .iter()
        .zip(&walked.frames)
        .map(|(name, frame)| {
            let place = space.located(frame.code.address());
            let place = place.map_or_else(String::new, |(module, address)| {
                let file = module.path.rsplit('/').next().unwrap_or("");
                format!("{file}+{:#x}", address.0)
            });
            format!("{name}[{} {place}]", frame.trust.as_str())
        })
        .collect();
    Walked {
        shown: format!("{} {:x?}", shown.join(" "), walked.stop),
        names,
        stop: walked.stop,
    }
}

/// What is wrong with a walk, if anything.
fn wrong(walked: &Walked, scenario: &Scenario, own: &[String]) -> Option<&'static str> {
    let stop = match scenario.end {
        End::Depth => Stop::Depth,
        End::Main | End::Here => Stop::Outermost,
    };
    if !matches(&walked.names, &scenario.expected(), own) {
        return Some("chain");
    }
    (walked.stop != stop).then_some("stop")
}

#[cfg(feature = "dwarf")]
fn check(source: &str) {
    let own = build::functions(source);
    let mut failures = Vec::new();
    for flavour in FLAVOURS {
        let Some(program) = build::program(source, flavour) else {
            continue;
        };
        for scenario in SCENARIOS
            .iter()
            .filter(|scenario| scenario.source == source)
        {
            if !scenario.exists(flavour) {
                continue;
            }
            let walked = walked(&program, scenario);
            if let Some(what) = wrong(&walked, scenario, &own) {
                let name = scenario.name;
                failures.push(format!("{} {name}: {what}: {}", flavour.name, walked.shown));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[cfg(feature = "dwarf")]
fn bad_calls_are_walked_to_the_start() {
    check("calls");
}

#[test]
#[cfg(feature = "dwarf")]
fn handlers_are_walked_through() {
    check("signals");
}

#[test]
#[cfg(feature = "dwarf")]
fn libraries_are_walked_through() {
    check("library");
}

#[test]
#[cfg(feature = "dwarf")]
fn unusual_frames_are_walked_through() {
    check("frames");
}

/// Where the program keeps frame pointers, its part of the chain needs nothing else.
#[test]
fn frame_pointers_are_enough_for_the_program_itself() {
    let mut failures = Vec::new();
    for scenario in &SCENARIOS {
        let walkable = matches!(scenario.source, "calls" | "signals");
        // The return address that was overwritten takes the frame pointer's place.
        if !walkable || scenario.name == "overwritten" {
            continue;
        }
        let own = build::functions(scenario.source);
        let Some(program) = build::program(scenario.source, build::FRAME_POINTERS) else {
            return;
        };
        let walked = walked(&program, scenario);
        let end = walked.names.iter().position(|name| name == "main");
        let end = end.map_or(walked.names.len(), |main| main + 1);
        if !matches(&walked.names[..end], &scenario.expected(), &own) {
            failures.push(format!("{}: {}", scenario.name, walked.shown));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
