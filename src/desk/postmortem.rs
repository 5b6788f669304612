//! `core`: reports of core files.
//!
//! In: core files, the kernel's or ours. Out: for each the report that monitoring would
//! have written, on standard output. Its files are those that have the paths now. A core
//! that cannot be read is named on standard error, and the next one follows.

use std::path::Path;

use super::say;
use crate::analyze::Analyzer;
use crate::base::error::{Error, Result};
use crate::cli::desk::Task;
use crate::config::{default, AnalysisConfig};
use crate::corefile::read::Core;
use crate::corefile::recall::{identify, recall, Recalled};
use crate::corefile::{short_id, threads};
use crate::crash::event::{FileIdentity, Mapping};
use crate::report::output;
use crate::report::Report;
use crate::symbols::elf::{ElfFile, Source};
use crate::sys::file::RegularFile;
use crate::sys::messages::print;
use crate::sys::time;
use crate::sys::vdso;

/// For what is remembered of one core's files.
const CACHE_BYTES: u64 = 64 << 20;

pub(super) fn run(task: &Task) -> Result<()> {
    time::settle_time_zone();
    let mut failed = false;
    for path in &task.inputs {
        match report(task, path) {
            Ok(report) => print(&text(task, &report))?,
            Err(reason) => {
                say(&format!("{}: {reason}", path.display()));
                failed = true;
            }
        }
    }
    match failed {
        true => Err(Error::failed("some core files could not be read")),
        false => Ok(()),
    }
}

fn report(task: &Task, path: &Path) -> std::result::Result<Report, &'static str> {
    let file = RegularFile::open(path).map_err(|refusal| refusal.as_str())?;
    let status = file.status().map_err(|refusal| refusal.as_str())?;
    let source = Source::file(file).map_err(|refusal| refusal.as_str())?;
    let mut core = Core::read(source).map_err(|reason| reason.as_str())?;
    let mut recalled = recall(&core);
    let made_ms = status.mtime_s.saturating_mul(1000) + i64::from(status.mtime_ns / 1_000_000);
    let unix_ms = recalled
        .unix_ms
        .unwrap_or(u64::try_from(made_ms).unwrap_or(0));
    // The end of that millisecond: a program may crash in the one in which it was made.
    let made_unix_ns = i64::try_from(unix_ms)
        .unwrap_or(0)
        .saturating_mul(1_000_000)
        .saturating_add(999_999);
    identify(&mut recalled.event, made_unix_ns, &has_build_id, &look);
    check_vdso(&mut recalled);
    if task.threads {
        threads::recall(&mut core, &mut recalled.event);
    }
    let debug_dirs = task.given.clone();
    let depth = task
        .max_stack_depth
        .unwrap_or(default::CORE_STACK_DEPTH as usize);
    let mut config = AnalysisConfig::of_cores(task.registers, depth, debug_dirs);
    config.stack_snapshot_bytes = recalled.window_bytes;
    let mut report = Analyzer::new(&config, CACHE_BYTES).report(&recalled.event);
    report.time.unix_ms = unix_ms;
    Ok(report)
}

fn text(task: &Task, report: &Report) -> Vec<u8> {
    let options = output::Options {
        registers: task.registers,
        stack_trace: true,
        cpp_names: task.cpp_names,
        utc_offset_s: time::utc_offset_s((report.time.unix_ms / 1000) as i64),
        ..output::Options::default()
    };
    match task.json {
        true => output::json(report, &options),
        false => output::text(report, &options),
    }
}

/// Whether the core has the build-id of a mapping's file.
fn has_build_id(mapping: &Mapping) -> bool {
    let file = mapping.file.as_ref();
    let head = file.and_then(|file| file.head.as_ref());
    let elf = head.and_then(|head| ElfFile::parse(Source::memory(head.bytes.to_vec())).ok());
    elf.is_some_and(|elf| elf.build_id().is_some())
}

/// The file that has a path now.
fn look(path: &[u8]) -> Option<FileIdentity> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let status = RegularFile::open(path).ok()?.status().ok()?;
    Some(FileIdentity {
        inode: status.inode,
        device: status.device,
        size: status.size,
        mtime_s: status.mtime_s,
        mtime_ns: status.mtime_ns,
        mapped_unix_ns: None,
        crashed_unix_ns: None,
    })
}

/// Our own vDSO stands for that of the crashed process only if it is the same one.
fn check_vdso(recalled: &mut Recalled) {
    let event = &mut recalled.event;
    if event
        .registers
        .is_some_and(|registers| registers.is_32_bit())
    {
        return;
    }
    let image = vdso::image();
    let own = image.and_then(|image| ElfFile::parse(Source::memory(image)).ok());
    let own = short_id(own.as_ref().and_then(ElfFile::build_id));
    if own == 0 || own != recalled.vdso_id {
        event.vdso.0 = 0;
    }
}
