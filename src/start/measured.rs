//! Tests measured offsets before the real capture starts.
//!
//! Nothing is believed because it was found: one more child faults under a capture of
//! its own, and what the record says is compared with what the child was given
//! and with its /proc. What differs is taken out by name. What every report stands on,
//! registers and fault, has to be right.

use std::ffi::CStr;

use crate::base::address::ProcessAddress;
use crate::base::error::{Error, Kind, Result};
use crate::base::procfs::NS_PER_TICK;
use crate::capture::record::assemble::Assembler;
use crate::capture::{self, Next, Started};
use crate::config::{CaptureConfig, Method};
use crate::crash::event::{Disposition, Event, Siginfo};
use crate::loader::probe::Features;
use crate::loader::KernelTypes;
use crate::measure::children::{self, Running};
use crate::measure::facts::{is_childs_fault, Fact, Seen};
use crate::measure::layout::{Detail, Field};
use crate::measure::{self, Layout};
use crate::sys::mmap::page_bytes;
use crate::sys::time::boot_ahead_ns;

/// The child's number; those before it were measured. It faults in a thread.
const CHILD: u32 = measure::facts::CHILDREN + 1;
const RING_BYTES: u32 = 256 << 10;
const SIGSEGV: i32 = 11;
const SEGV_MAPERR: i32 = 1;

/// The measured offsets that are right.
pub(super) fn layout(method: Option<Method>) -> Result<Layout> {
    let mut layout = measure::measure(measure::OURSELVES, method != Some(Method::Tracepoint))?;
    // Until nothing was taken back: each time there is less.
    while try_out(measure::OURSELVES, &mut layout, method)? {}
    Ok(layout)
}

/// The measured offsets, for the loader.
pub(super) fn types(layout: &Layout) -> KernelTypes {
    KernelTypes::measured(layout.to_btf(), layout.thread_bytes, layout.lost())
}

/// Compares one record with the truth, and gives up wrong fields; whether there were any.
pub fn try_out(program: &CStr, layout: &mut Layout, method: Option<Method>) -> Result<bool> {
    let (event, child) = crash(program, layout, method)?;
    let seen = child.seen();
    let seen =
        seen.ok_or_else(|| Error::unsupported("/proc does not show a child that was started"))?;
    match wrong_essential(&event, &seen) {
        Some(wrong) => Err(Error::unsupported(wrong)),
        None => Ok(take_back(&event, &seen, layout)),
    }
}

/// The record of a child's fault, and the child.
pub fn crash(program: &CStr, layout: &Layout, method: Option<Method>) -> Result<(Event, Running)> {
    let magic = children::magic();
    let name = measure::facts::thread_name(&magic, CHILD);
    // That child alone, with all of its mappings.
    let config = CaptureConfig {
        name: Some(name[..name.len() - 1].to_vec()),
        all_mappings: true,
        ring_bytes: RING_BYTES,
        ..CaptureConfig::default()
    };
    let mut capture = plain(method, &config, &types(layout))?.capture;
    let child = children::start(program, CHILD, &magic);
    capture.stop();
    let mut assembler = Assembler::new(page_bytes() as u64, RING_BYTES.into());
    let mut event = None;
    assembler.set_boot_ahead_ns(boot_ahead_ns());
    while event.is_none() {
        if capture.next_part(&mut |part| event = assembler.feed(part).ok().flatten())
            == Next::Nothing
        {
            break;
        }
    }
    let record = event.zip(child);
    record.ok_or_else(|| Error::unsupported("a child's fault was not captured"))
}

/// The first way that these types suffice for.
fn plain(method: Option<Method>, config: &CaptureConfig, types: &KernelTypes) -> Result<Started> {
    if let Some(method) = method {
        return capture::start(method, config, types, None);
    }
    let features = Features::new();
    let mut refused = Error::unsupported("no capture program works with the measured offsets");
    for method in super::PROGRAMS {
        if super::lack(method, &features)?.is_some() {
            continue;
        }
        match capture::start(method, config, types, None) {
            Err(error) if error.kind() == Kind::NotPermitted => return Err(error),
            Err(error) => refused = error,
            started => return started,
        }
    }
    Err(refused)
}

/// What has to be right and is not.
fn wrong_essential(event: &Event, seen: &Seen) -> Option<&'static str> {
    let fact = |fact| seen.facts.get(fact);
    let address = fact(Fact::FaultAddress);
    let sp = event.registers.map(|registers| registers.sp().0);
    if (event.signal, event.code) != (SIGSEGV, SEGV_MAPERR) {
        Some("measured offsets give a wrong signal")
    } else if event.siginfo != Siginfo::Address(ProcessAddress(address))
        || event.trap.is_none_or(|trap| trap.address != address)
    {
        Some("measured offsets give a wrong fault address")
    } else if event
        .trap
        .is_none_or(|trap| !is_childs_fault(trap.number, trap.error_code))
    {
        Some("measured offsets give a wrong trap number or error code")
    } else if event.disposition != Disposition::Handled {
        Some("measured offsets give a wrong signal handler")
    } else if sp != Some(fact(Fact::Sp)) {
        Some("measured offsets give wrong registers")
    } else {
        None
    }
}

/// Gives up fields whose values are wrong; whether there were any. Fields that are already
/// given up may be wrong.
fn take_back(event: &Event, seen: &Seen, layout: &mut Layout) -> bool {
    let fact = |fact| seen.facts.get(fact);
    let name = &seen.name[..seen.name.len() - 1];
    let is_name = event.comm == name && event.thread == name;
    let is_parent = event.ppid == Some(std::process::id());
    let is_tid = u64::from(event.ns_tid) == fact(Fact::Tid);
    let is_pid = is_tid && event.pid == Some(seen.pid);
    let is_start = event.start_ns / NS_PER_TICK == fact(Fact::StartTicks);
    let is_break = event.brk.0 == fact(Fact::Brk);
    let namespace = fact(Fact::MountNamespace);
    let is_namespace = namespace == 0 || u64::from(event.mnt_ns) == namespace;
    let is_executable = event.exe.as_deref() == Some(&seen.executable);
    let has_identity = !layout.has_lost(Detail::FileIdentity);
    let are_mappings = are_mappings(event, seen, has_identity);
    let mut is_changed = false;
    for (detail, holds, field) in [
        (Detail::Comm, is_name, Field::Comm),
        (Detail::Ppid, is_parent, Field::RealParent),
        (Detail::NsPid, is_pid, Field::ThreadPid),
        (Detail::StartTime, is_start, Field::StartBootTime),
        (Detail::MemoryLayout, is_break, Field::Mm),
        (Detail::MountNamespace, is_namespace, Field::NsProxy),
        (Detail::Exe, is_executable, Field::ExeFile),
        (Detail::Mappings, are_mappings, Field::Mmap),
        (Detail::Mappings, are_mappings, Field::MmMt),
    ] {
        if !holds && layout.place(field).is_some() {
            layout.forget(field);
            layout.lose(detail);
            is_changed = true;
        }
    }
    is_changed
}

/// Whether the mappings are those of /proc, with their files if there is code.
fn are_mappings(event: &Event, seen: &Seen, has_identity: bool) -> bool {
    let mut same = event.mappings.len() == seen.lines.len();
    for (found, line) in event.mappings.iter().zip(&seen.lines) {
        same &= found.start.0 == line.start && found.end.0 == line.end;
        same &= (found.flags.0 ^ line.flags) & 7 == 0;
        let Some(file) = &found.file else {
            same &= line.inode == 0 || !found.flags.executable();
            continue;
        };
        let path = line.path.strip_suffix(b" (deleted)");
        same &= file.path == path.unwrap_or(&line.path);
        same &= file.offset.0 == line.file_offset;
        let identity = (file.identity.inode, file.identity.device, file.deleted);
        same &= !has_identity || identity == (line.inode, line.device, path.is_some());
    }
    same
}
