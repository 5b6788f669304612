//! The proof of a capture: a child of ours faults on purpose, and its record is compared
//! with what is known about that fault.
//!
//! The child is a copy of this process with a unique name, by which the programs recognize
//! it: until the proof is over they capture no other process. The child handles its fault
//! and ends: no core, no line in the kernel's log, and no report, not even by another run of
//! the tool (`monitor/trials`). The fault is a SIGBUS if one can be made, so that other
//! monitors of segmentation faults do not see it either.
//! [`wrong`] and [`doubtful`] are pure.

use crate::base::address::ProcessAddress;
use crate::capture::record::assemble::Assembler;
use crate::capture::{Capture, Mark, Next, Started};
use crate::config::CaptureConfig;
use crate::crash::event::{Disposition, Event, MappedFile, Mapping, Siginfo};
use crate::measure::children;
use crate::measure::facts::{self, is_childs_fault, Known, Name, REGISTERS};
use crate::sys::mmap::page_bytes;
use crate::sys::own_fault::{self, Brink, Registers};
use crate::sys::{process, time};

/// The child's number, unlike those of children that are measured.
const CHILD: u32 = 5;
/// Of the handler; the processor's vector registers may take 11 KB of it.
const STACK_BYTES: usize = 64 << 10;
const FILL: u8 = 0xa6;
/// A burst of other processes may fill the rings just then.
const TRIES: usize = 3;
const SIGBUS: i32 = 7;
const BUS_ADRERR: i32 = 2;
const SIGSEGV: i32 = 11;
const SEGV_MAPERR: i32 = 1;
/// The programs may round a start time down, and older kernels' clocks differ a little.
const START_SLACK_NS: u64 = 100_000_000;
/// Why a proof is impossible where this process may make no other.
pub const NO_CHILD: &str = "cannot start a child that faults on purpose";
/// Bytes of the stack that are looked at.
const LOOKED_AT: usize = 64;

/// The result of a proof.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Right,
    /// A value is wrong, but not one that every report needs.
    Doubtful(Vec<&'static str>),
    Wrong(&'static str),
    /// Nothing was captured.
    Unseen,
    /// No child could be made.
    Impossible(&'static str),
}

/// A proof to come.
#[derive(Debug)]
pub struct Proof {
    name: Name,
}

/// The values that the child's record must have.
#[derive(Clone, Debug)]
pub struct Expected {
    pub name: Name,
    pub pid: u32,
    pub parent: u32,
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    pub sp: u64,
    pub values: [u64; REGISTERS],
    /// Between which times it was forked and ended.
    pub began_ns: u64,
    pub ended_ns: u64,
    /// Only if they are known.
    pub brk: u64,
    pub mnt_ns: Option<u32>,
    /// The base name of the executable, and the first argument.
    pub exe: Option<Vec<u8>>,
    pub argument: Option<Vec<u8>>,
    pub has_stack: bool,
    /// Details that no record has.
    pub lost: Vec<&'static str>,
}

impl Default for Proof {
    fn default() -> Self {
        Proof::new()
    }
}

impl Proof {
    #[must_use]
    pub fn new() -> Proof {
        let name = facts::thread_name(&children::magic(), CHILD);
        Proof { name }
    }

    /// The beginning of the child's name.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut mark = Mark::default();
        mark.copy_from_slice(&self.name[..8]);
        mark
    }

    /// Several times if nothing was captured, for that alone may be chance.
    pub fn tried(&self, started: &mut Started, config: &CaptureConfig) -> Outcome {
        let mut outcome = Outcome::Unseen;
        for _ in 0..TRIES {
            outcome = self.of(started, config);
            if outcome != Outcome::Unseen {
                break;
            }
        }
        outcome
    }

    /// Lets the child fault, and looks at what a capture that sees it alone has of that.
    fn of(&self, started: &mut Started, config: &CaptureConfig) -> Outcome {
        let Some(brink) = Brink::new(page_bytes(), STACK_BYTES, FILL) else {
            return Outcome::Impossible("no memory for a child process");
        };
        let Some(mut expected) = self.expected(&brink, config, started) else {
            return Outcome::Impossible(NO_CHILD);
        };
        expected.ended_ns = now_ns();
        let Some(event) = self.event(started.capture.as_mut()) else {
            return Outcome::Unseen;
        };
        if let Some(wrong) = wrong(&event, &expected) {
            return Outcome::Wrong(wrong);
        }
        let doubtful = doubtful(&event, &expected);
        match doubtful.is_empty() {
            true => Outcome::Right,
            false => Outcome::Doubtful(doubtful),
        }
    }

    /// What the child has had, which has ended.
    fn expected(
        &self,
        brink: &Brink,
        config: &CaptureConfig,
        started: &Started,
    ) -> Option<Expected> {
        let known = Known::of_name(&self.name);
        let (signal, code, address) = match brink.beyond() {
            Some(address) => (SIGBUS, BUS_ADRERR, address),
            None => (SIGSEGV, SEGV_MAPERR, known.fault_address()),
        };
        let registers = Registers {
            fault_address: address,
            sp: brink.middle(),
            values: known.registers(),
        };
        let mut values = [0; REGISTERS];
        for (value, bytes) in values.iter_mut().zip(registers.values.chunks_exact(8)) {
            *value = bytes.try_into().map_or(0, u64::from_ne_bytes);
        }
        let lost: Vec<_> = started.lacks().iter().map(|lost| lost.detail).collect();
        let began_ns = now_ns();
        let brk = own_fault::heap_end();
        let pid = brink.fault_in_child(&self.name, &registers)?;
        Some(Expected {
            name: self.name,
            pid,
            parent: process::pid(),
            signal,
            code,
            address,
            sp: registers.sp,
            values,
            began_ns,
            ended_ns: 0,
            brk,
            // Perf events lack the user too, and have this only of living processes.
            mnt_ns: process::mount_namespace().filter(|_| !lost.contains(&"uid")),
            exe: process::executable_name(),
            argument: process::first_argument(),
            has_stack: config.stack_bytes > 0,
            lost,
        })
    }

    /// The child's record, if there is one; nothing else is left in the rings. A small ring
    /// may have had no room for its last parts: then the header has to be right.
    fn event(&self, capture: &mut dyn Capture) -> Option<Event> {
        let mut assembler = Assembler::new(page_bytes() as u64, capture.ring_bytes());
        assembler.set_boot_ahead_ns(time::boot_ahead_ns());
        let is_fault = |event: &Event| [SIGBUS, SIGSEGV].contains(&event.signal);
        let mut found = None;
        loop {
            let mut event = None;
            match capture.next_part(&mut |part| event = assembler.feed(part).ok().flatten()) {
                Next::Nothing => return found.or_else(|| assembler.give_up().find(is_fault)),
                Next::Event(whole) => event = Some(*whole),
                Next::Part | Next::Lost { .. } => {}
            }
            found = event.filter(is_fault).or(found);
        }
    }
}

fn now_ns() -> u64 {
    time::boottime_ns().unsigned_abs()
}

/// The registers that a child sets, by their numbers in DWARF, as [`Known::registers`] has
/// them.
const NUMBERS: [u16; REGISTERS] = if cfg!(target_arch = "aarch64") {
    [19, 20, 21, 22, 23, 24]
} else {
    [15, 14, 13, 12, 6, 3]
};

/// The wrong value, if one that every report needs is wrong.
#[must_use]
pub fn wrong(event: &Event, expected: &Expected) -> Option<&'static str> {
    let has = |detail| !expected.lost.contains(&detail);
    let name = &expected.name[..expected.name.len() - 1];
    let Some(registers) = event.registers else {
        return Some("the registers are missing");
    };
    let values = NUMBERS.map(|number| registers.dwarf(number));
    // Samples of perf events lack some of them before 5.11.
    let is_other =
        |(value, expected): (&Option<u64>, &u64)| value.is_some_and(|it| it != *expected);
    let code = event.memory(registers.pc(), own_fault::FAULTING.len());
    let trap = event.trap.filter(|_| has("fault"));
    let is_pid = event.pid == Some(expected.pid) || event.ns_pid == expected.pid;
    let times =
        expected.began_ns.saturating_sub(START_SLACK_NS)..=expected.ended_ns + START_SLACK_NS;
    if (event.signal, event.code) != (expected.signal, expected.code) {
        Some("the signal")
    } else if registers.sp().0 != expected.sp || values.iter().zip(&expected.values).any(is_other) {
        Some("a register")
    } else if trap.is_some() && event.siginfo != Siginfo::Address(ProcessAddress(expected.address))
    {
        Some("the fault's address")
    } else if trap.is_some_and(|trap| trap.address != expected.address) {
        Some("the fault address in the trap data")
    } else if trap.is_some_and(|trap| !is_childs_fault(trap.number, trap.error_code)) {
        Some("the trap number or the error code")
    } else if has("comm") && event.comm != name || event.thread != name {
        Some("the name of the process")
    } else if has("ns_pid") && !is_pid {
        Some("the process id")
    } else if !times.contains(&event.boot_ns) {
        Some("the time")
    } else if code.is_some_and(|code| code != own_fault::FAULTING) {
        Some("the code")
    } else if event.disposition != Disposition::Handled {
        Some("the signal handler")
    } else {
        None
    }
}

/// Details that are there and are not as they should be. A record that was cut off may lack
/// what comes in further parts; what comes in the header is compared all the same.
#[must_use]
pub fn doubtful(event: &Event, expected: &Expected) -> Vec<&'static str> {
    let mut found = Vec::new();
    let is_named = |detail| event.lost.iter().any(|lost| lost.detail == detail);
    let is_cut = is_named("end");
    let mut expect = |detail, name, holds: bool| {
        if !holds && !expected.lost.contains(&detail) && !is_named(detail) {
            found.push(name);
        }
    };
    let is_base = |path: &[u8], base: &[u8]| path.rsplit(|byte| *byte == b'/').next() == Some(base);
    let pc = event.registers.map(|registers| registers.pc());
    let mapping = pc.and_then(|pc| event.mapping(pc));
    // The code that faults is in the executable.
    let is_ours = |mapping: &Mapping| {
        let file = mapping.file.as_ref();
        let has_name = |file: &MappedFile| match &expected.exe {
            Some(base) if !file.path.is_empty() => is_base(&file.path, base),
            _ => true,
        };
        mapping.flags.executable() && file.is_some_and(has_name)
    };
    let stack = event
        .registers
        .and_then(|registers| event.memory(registers.sp(), LOOKED_AT));
    let times = expected.began_ns.saturating_sub(START_SLACK_NS)..=expected.ended_ns;
    expect("ppid", "the parent", event.ppid == Some(expected.parent));
    expect(
        "start_time",
        "the start time",
        times.contains(&event.start_ns),
    );
    expect(
        "memory_layout",
        "the memory layout",
        event.brk.0 == 0 || event.brk.0 == expected.brk,
    );
    expect(
        "mount_namespace",
        "the mount namespace",
        expected.mnt_ns.is_none_or(|known| known == event.mnt_ns),
    );
    expect("mappings", "the mappings", mapping.map_or(is_cut, is_ours));
    if let (Some(path), Some(base)) = (&event.exe, &expected.exe) {
        expect("exe", "the executable", is_base(path, base));
    }
    if let (Some(line), Some(first)) = (&event.cmdline, &expected.argument) {
        let shorter = line.len().min(first.len());
        let holds = line[..shorter] == first[..shorter];
        expect("cmdline", "the command line", holds);
    }
    if expected.has_stack {
        let is_filled = |bytes: &[u8]| bytes.iter().all(|byte| *byte == FILL);
        let holds = stack.map_or(is_cut, is_filled);
        expect("stack", "the stack", holds);
    }
    found
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
