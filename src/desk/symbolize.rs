//! `segfault_analyzer symbolize`: reports in, the same reports with names out.
//!
//! The order of the lines stays. JSON and text may be mixed: a line that begins with
//! a brace is JSON.

#[cfg(feature = "desk")]
use super::debuginfod::Debuginfod;
use super::files::{self, Places};
use super::input::{Input, Next};
use super::json_report;
use super::naming::Desk;
use super::text_report::TextReport;
use super::{add, say};
use crate::base::error::Result;
use crate::cli::desk::Task;
use crate::symbols::elf::DebugDirs;
use crate::sys::messages::print;
use crate::sys::mmap;

/// Where packages put debug files; not looked through.
const DEBUG_DIR: &str = "/usr/lib/debug";
/// The part of the machine's memory that may be used, if nothing else was said.
const MEMORY_SHARE: u64 = 4;
/// The size of one write, if there is as much.
const WRITE_BYTES: usize = 64 << 10;

pub(super) fn run(task: Task) -> Result<()> {
    for path in &task.given {
        files::check(path, false)?;
    }
    for path in &task.sysroots {
        files::check(path, true)?;
    }
    let mut packages = task.given.clone();
    packages.push(DEBUG_DIR.into());
    let dirs = DebugDirs::new(packages, &|name| std::env::var_os(name));
    let limit = task.memory_limit_bytes;
    let limit = limit.unwrap_or_else(|| mmap::memory_bytes() / MEMORY_SHARE);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    #[cfg_attr(not(feature = "desk"), expect(unused_mut, reason = "no servers"))]
    let mut places = Places::new(dirs, task.sysroots, task.given, limit);
    #[cfg(feature = "desk")]
    match Debuginfod::new(task.servers, &|name| std::env::var_os(name)) {
        Ok(servers) => places.debuginfod = servers,
        Err(reason) => say(reason),
    }
    let mut desk = Desk::new(places);
    desk.cpp_names = task.cpp_names;
    let mut input = Input::new(task.inputs);
    let mut text = TextReport::default();
    let mut out = Vec::new();
    loop {
        let next = input.next();
        let is_text = matches!(next, Next::Line(line) if !line.starts_with(b"{"));
        if !is_text {
            text.flush(&mut desk, &mut out);
        }
        let ours = match next {
            Next::Line(line) if is_text => text.take(line, &mut desk, &mut out),
            Next::Line(line) => json_report::symbolize(line, &mut desk, &mut out),
            Next::Piece(piece) => {
                add(&mut out, &[piece]);
                true
            }
            Next::End => break,
        };
        input.foreign += u64::from(!ours);
        for text in desk.said() {
            say(&text);
        }
        if input.is_idle() || out.len() > WRITE_BYTES {
            print(&out)?;
            out.clear();
        }
    }
    for text in desk.said() {
        say(&text);
    }
    print(&out)?;
    input.finish()
}
