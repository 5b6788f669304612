//! The start of a capture; where offsets were measured, tried out first.
//!
//! Nothing is believed because it was found: with offsets that were measured, one
//! more child faults under a capture of its own, and what the record says is
//! compared with what the child was told to have and with its /proc. What differs
//! is taken out by name before the capture proper starts. What every report stands
//! on, registers and fault, has to be right.

use std::path::Path;

use crate::address::ProcessAddress;
use crate::assemble::Assembler;
use crate::capture::Capture;
use crate::cli::Config;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::loader::KernelTypes;
use crate::measure::children::{self, Seen};
use crate::measure::{self, Layout, Measured};
use crate::sys::mmap::page_bytes;

/// The child's number; those before it were measured.
const CHILD: u32 = measure::facts::CHILDREN;
const RING_BYTES: u32 = 256 << 10;

/// Loads and attaches what the user asked for.
pub fn start(config: &Config) -> Result<Capture> {
    let (types, measured) = measure::kernel_types(config.btf.as_deref(), config.measure_types)?;
    let Some(mut measured) = measured else {
        return Capture::start(config, &types, None);
    };
    let program = Path::new(measure::OURSELVES);
    let found = measured.to_string();
    try_out(program, &types, &mut measured).context(|| format!("kernel types {found}"))?;
    let types = KernelTypes::made(measured.layout.to_btf(), measured.to_string());
    Capture::start(config, &types, measured.layout.thread_size)
}

/// Compares one record with the truth, and takes back what is wrong.
pub fn try_out(program: &Path, types: &KernelTypes, measured: &mut Measured) -> Result<()> {
    let magic = children::magic();
    let mut child = children::start(program, CHILD, &magic)?;
    let config = Config {
        name: Some(child.name().to_owned().into_bytes()),
        registers: true,
        ring_bytes: RING_BYTES,
        ..Config::default()
    };
    let mut capture = Capture::start(&config, types, measured.layout.thread_size)?;
    child.go()?;
    capture.stop();
    let mut assembler = Assembler::new(page_bytes() as u64, RING_BYTES.into());
    let mut event = None;
    while capture.next_part(|bytes| {
        if let Ok(Some(whole)) = assembler.feed(bytes) {
            event = Some(whole);
        }
    }) {}
    let event = event.ok_or_else(|| Error::unsupported("a child's fault was not captured"))?;
    judge(&event, &child.seen()?, &mut measured.layout)
}

/// What each field of the record must be.
fn judge(event: &Event, seen: &Seen, layout: &mut Layout) -> Result<()> {
    let registers = event.registers.as_ref();
    let essential = [
        ("signal", event.signal == 11 && event.code == 1),
        ("fault address", event.siginfo == seen.known.fault_address()),
        (
            "trap",
            event.trap.address == seen.known.fault_address() && event.trap.error_code != 0,
        ),
        (
            "registers",
            registers.is_some_and(|found| found.sp() == ProcessAddress(seen.told.sp)),
        ),
    ];
    for (what, holds) in essential {
        if !holds {
            return Err(Error::unsupported(format!("{what} is wrong")));
        }
    }
    let is_name = event.comm == seen.name && event.thread == seen.name;
    check(layout, is_name, "name", &[("task_struct", "comm")]);
    let is_parent = event.ppid.is_none_or(|ppid| ppid == seen.parent);
    check(
        layout,
        is_parent,
        "parent",
        &[("task_struct", "real_parent")],
    );
    let is_pid = event.pid == Some(seen.pid) && u64::from(event.ns_tid) == seen.told.tid;
    check(
        layout,
        is_pid,
        "pids of namespaces",
        &[("task_struct", "thread_pid")],
    );
    let is_start = event.start_ns / 10_000_000 == seen.start_ticks;
    let fields = [("task_struct", "start_boottime")];
    check(layout, is_start, "start time", &fields);
    let is_break = event.brk.0 == seen.told.brk;
    check(layout, is_break, "break", &[("mm_struct", "brk")]);
    let namespace = seen.mount_namespace;
    let is_namespace = namespace.is_none_or(|inode| event.mnt_ns == inode);
    let fields = [("task_struct", "nsproxy")];
    check(layout, is_namespace, "mount namespace", &fields);
    let is_bases = event.registers.is_none() || event.fs_base == seen.told.fs_base;
    let fields = [("thread_struct", "fsbase"), ("thread_struct", "gsbase")];
    check(layout, is_bases, "segment bases", &fields);
    let is_exe = event.exe.as_deref() == Some(&seen.executable);
    check(layout, is_exe, "executable", &[("mm_struct", "exe_file")]);
    let fields = [("mm_struct", "mmap"), ("mm_struct", "mm_mt")];
    check(layout, has_mappings(event, seen), "mappings", &fields);
    let fields = [("vm_area_struct", "vm_file")];
    check(layout, has_files(event, seen), "files", &fields);
    Ok(())
}

/// Takes fields back if what came of them is wrong; what is lost already may be.
fn check(layout: &mut Layout, holds: bool, name: &'static str, fields: &[(&str, &str)]) {
    if holds || layout.lost.contains(&name) {
        return;
    }
    for (of, field) in fields {
        layout.forget(of, field);
    }
    layout.lose(name);
}

fn has_mappings(event: &Event, seen: &Seen) -> bool {
    event.mappings.len() == seen.lines.len()
        && event.mappings.iter().zip(&seen.lines).all(|(found, line)| {
            found.start.0 == line.start
                && found.end.0 == line.end
                && found.flags.0 & 7 == line.flags
        })
}

fn has_files(event: &Event, seen: &Seen) -> bool {
    event.mappings.iter().zip(&seen.lines).all(|(found, line)| {
        let Some(file) = &found.file else {
            return line.inode == 0;
        };
        let (path, is_deleted) = match line.path.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (line.path.as_slice(), false),
        };
        file.path == path
            && file.deleted == is_deleted
            && file.offset.0 == line.file_offset
            && file.identity.inode == line.inode
            && file.identity.device == line.device
    })
}
