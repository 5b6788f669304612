//! The start of a capture; where offsets were measured, tried out first.
//!
//! Nothing is believed because it was found: with offsets that were measured, one
//! more child faults under a capture of its own, and what the record says is
//! compared with what the child was told to have and with its /proc. What differs
//! is taken out by name before the capture proper starts. What every report stands
//! on, registers and fault, has to be right.

use std::path::Path;

use crate::assemble::Assembler;
use crate::capture::{Capture, Next};
use crate::cli::{Config, Rung};
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Disposition, Event};
use crate::loader::{self, KernelTypes};
use crate::measure::children;
use crate::measure::facts::{Fact, Known, Seen};
use crate::measure::{self, Layout};
use crate::sys::mmap::page_bytes;
use crate::sys::time::boot_ahead_ns;

/// The child's number; those before it were measured. It faults in a thread.
const CHILD: u32 = measure::facts::CHILDREN + 1;
const RING_BYTES: u32 = 256 << 10;
const SIGSEGV: i32 = 11;
const SEGV_MAPERR: i32 = 1;
const NS_PER_TICK: u64 = 10_000_000;

/// Loads and attaches what the user asked for.
pub fn start(config: &Config) -> Result<Capture> {
    if config.measure_types {
        return start_measured(config);
    }
    match loader::kernel_types(config.btf.as_deref()) {
        Ok(types) => Capture::start(config, &types),
        Err(missing) if config.btf.is_none() && missing.kind() == Kind::Unsupported => {
            start_measured(config).map_err(|error| {
                let hint = missing.hint().unwrap_or_default().to_owned();
                error.context(missing.to_string()).with_hint(hint)
            })
        }
        Err(error) => Err(error),
    }
}

fn start_measured(config: &Config) -> Result<Capture> {
    let program = Path::new(measure::OURSELVES);
    let mut layout = measure::measure(program)?;
    try_out(program, &mut layout, config.force_rung).context(|| "try out what was measured")?;
    Capture::start(config, &types(&layout))
}

/// What was measured, for the loader.
fn types(layout: &Layout) -> KernelTypes {
    KernelTypes::measured(layout.to_btf(), layout.thread_bytes, layout.lost.clone())
}

/// Compares one record with the truth, and takes back what is wrong.
pub fn try_out(program: &Path, layout: &mut Layout, force_rung: Option<Rung>) -> Result<()> {
    let magic = children::magic();
    let name = Known(CHILD).name(&magic);
    let config = Config {
        name: Some(name[..name.len() - 1].to_vec()),
        registers: true,
        ring_bytes: RING_BYTES,
        force_rung,
        ..Config::default()
    };
    let mut capture = Capture::start(&config, &types(layout))?;
    let child = children::start(program, CHILD, &magic)?;
    capture.stop();
    let mut assembler = Assembler::new(page_bytes() as u64, RING_BYTES.into());
    let mut event = None;
    assembler.set_boot_ahead_ns(boot_ahead_ns());
    while event.is_none() {
        if capture.next_part(|part| event = assembler.feed(part).ok().flatten()) == Next::Nothing {
            break;
        }
    }
    let event = event.ok_or_else(|| Error::unsupported("a child's fault was not captured"))?;
    let seen = child.seen()?;
    if let Some(wrong) = wrong_essential(&event, &seen) {
        return Err(Error::unsupported(wrong));
    }
    take_back(&event, &seen, layout);
    Ok(())
}

/// What has to be right and is not.
fn wrong_essential(event: &Event, seen: &Seen) -> Option<&'static str> {
    let address = seen.facts.get(Fact::FaultAddress);
    let sp = event.registers.map(|registers| registers.sp().0);
    let checks = [
        ("the signal is wrong", event.signal == SIGSEGV),
        ("the signal's code is wrong", event.code == SEGV_MAPERR),
        ("the fault's address is wrong", event.siginfo == address),
        ("the trap's address is wrong", event.trap.address == address),
        ("the error code is wrong", event.trap.error_code != 0),
        (
            "the handler is wrong",
            event.disposition == Disposition::Handled,
        ),
        (
            "the registers are wrong",
            sp == Some(seen.facts.get(Fact::Sp)),
        ),
    ];
    let wrong = checks.iter().find(|(_, holds)| !holds);
    wrong.map(|(what, _)| *what)
}

/// Takes fields back if what came of them is wrong; what is lost already may be.
fn take_back(event: &Event, seen: &Seen, layout: &mut Layout) {
    let fact = |fact| seen.facts.get(fact);
    let name = &seen.name[..seen.name.len() - 1];
    let tid = u64::from(event.ns_tid);
    let namespace = fact(Fact::MountNamespace);
    let checks = [
        (
            "comm",
            event.comm == name && event.thread == name,
            "task_struct",
            "comm",
        ),
        (
            "ppid",
            event.ppid.is_none_or(|ppid| ppid == std::process::id()),
            "task_struct",
            "real_parent",
        ),
        (
            "ns_pid",
            event.pid == Some(seen.pid) && tid == fact(Fact::Tid),
            "task_struct",
            "thread_pid",
        ),
        (
            "start time",
            event.start_ns / NS_PER_TICK == fact(Fact::LeaderTicks),
            "task_struct",
            "start_boottime",
        ),
        (
            "memory layout",
            event.brk.0 == fact(Fact::Brk),
            "mm_struct",
            "brk",
        ),
        (
            "mount namespace",
            namespace == 0 || u64::from(event.mnt_ns) == namespace,
            "task_struct",
            "nsproxy",
        ),
        (
            "segment bases",
            event.fs_base == fact(Fact::FsBase),
            "thread_struct",
            "fsbase",
        ),
        (
            "exe",
            event.exe.as_deref() == Some(&seen.executable),
            "mm_struct",
            "exe_file",
        ),
        ("mappings", has_mappings(event, seen), "mm_struct", "mmap"),
        ("mappings", has_mappings(event, seen), "mm_struct", "mm_mt"),
        ("files", has_files(event, seen), "vm_area_struct", "vm_file"),
    ];
    let lost = layout.lost.clone();
    for (detail, holds, of, field) in checks {
        if !holds && !lost.contains(&detail) {
            layout.forget(of, field);
            layout.lose(detail);
        }
    }
}

fn has_mappings(event: &Event, seen: &Seen) -> bool {
    let mut same = event.mappings.len() == seen.lines.len();
    for (found, line) in event.mappings.iter().zip(&seen.lines) {
        same &= found.start.0 == line.start && found.end.0 == line.end;
        same &= (found.flags.0 ^ line.flags) & 7 == 0;
    }
    same
}

fn has_files(event: &Event, seen: &Seen) -> bool {
    let mut same = true;
    for (found, line) in event.mappings.iter().zip(&seen.lines) {
        let Some(file) = &found.file else {
            same &= line.inode == 0;
            continue;
        };
        let path = line.path.strip_suffix(b" (deleted)");
        same &= file.deleted == path.is_some();
        same &= file.path == path.unwrap_or(&line.path);
        same &= file.offset.0 == line.file_offset;
        same &= file.identity.inode == line.inode;
        same &= file.identity.device == line.device;
    }
    same
}
