//! The program as a whole: the command line, the privileges, the order in which
//! things start and end.
//!
//! The output is opened first, because scripts may read the file at once. Then the
//! capture starts, the tool gives up the privileges that it no longer needs, and a
//! [`Monitor`] reports crashes until something ends it.

use std::time::Instant;

use crate::base::error::{Error, Kind, Result};
use crate::check;
use crate::cli::{self, Command};
use crate::config::Config;
use crate::corefile::store::Store;
use crate::desk;
use crate::monitor::Monitor;
use crate::report::output::{self, outputs::Outputs};
use crate::start::{self, proof::NO_CHILD};
use crate::sys::bpf;
use crate::sys::command;
use crate::sys::confine;
use crate::sys::events::Signals;
use crate::sys::messages::{print, say, say_last};
use crate::sys::opener;
use crate::sys::perf;
use crate::sys::process::{self, capability};
use crate::sys::time;

/// Runs a command line; the process's exit status.
#[must_use]
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let result = match cli::parse(args) {
        Ok(Command::Help) => print(cli::help().as_bytes()),
        Ok(Command::Version) => print(format!("{}\n", cli::VERSION).as_bytes()),
        Ok(Command::Run(config)) => return run(&config).unwrap_or_else(|error| failed(&error)),
        Ok(Command::Desk(task)) => desk::run(task),
        Ok(Command::DeskHelp(command)) => print(cli::desk::help(command).as_bytes()),
        Ok(Command::Check(config)) => check(&config),
        Err(error) => Err(error),
    };
    result.map_or_else(|error| failed(&error), |()| 0)
}

/// Says why, and what to do; the exit status.
fn failed(error: &Error) -> u8 {
    if error.kind() != Kind::BrokenPipe {
        say_last(&format!("Error: {error}"));
        if let Some(hint) = error.hint() {
            say_last(&format!("  {hint}"));
        }
    }
    error.kind().exit_status()
}

/// `--check`: a page on standard output; fails as monitoring would.
fn check(config: &Config) -> Result<()> {
    let mut pages = vec![check::host(config.btf.as_deref())];
    let started = start::start(&config.start());
    if let Ok(started) = &started {
        pages.push(check::capture(started));
        let capture = &started.capture;
        let (has_programs, opens_rings) = (capture.has_programs(), capture.has_ring_for_each_cpu());
        let kept = needed(config, has_programs, opens_rings, true);
        pages.push(check::privileges(&kept, true));
    }
    let failed = started.err();
    pages.push(check::advice(failed.as_ref()));
    let lines = pages.iter().flat_map(check::Page::lines);
    let mut text = lines.fold(String::new(), |text, line| text + line + "\n");
    text.push_str(&check::verdict(failed.as_ref()));
    text.push('\n');
    print(text.as_bytes())?;
    failed.map_or(Ok(()), Err)
}

/// Monitors; the exit status, which is that of the command if there is one.
fn run(config: &Config) -> Result<u8> {
    time::settle_time_zone();
    // Before anything changes what it inherits.
    let command = match config.command.is_empty() {
        true => None,
        false => Some(command::Waiting::new(&config.command)?),
    };
    // First of all: scripts follow the file at once.
    let mut sink = Outputs::open(&config.outputs(), config.append)?;
    sink.rotate(config.rotation);
    let cores = config.cores().map(Store::open).transpose()?;
    let signals = Signals::new()?;
    // Before there is anything that another process should not hold.
    let no_opener = opener::start().err();
    let mut started = start::start(&config.start())?;
    if let Some(error) = &no_opener {
        say_that_files_may_stop_it(&mut started.warnings, error);
    }
    let since = Instant::now();
    let capture = &started.capture;
    let kept = needed(
        config,
        capture.has_programs(),
        capture.has_ring_for_each_cpu(),
        no_opener.is_none(),
    );
    if config.verbose {
        for page in [
            check::host(config.btf.as_deref()),
            check::capture(&started),
            check::privileges(&kept, no_opener.is_none()),
        ] {
            page.lines().iter().for_each(|line| say(line));
        }
    }
    for pid in config.pids.iter().filter(|pid| !process::exists(**pid)) {
        say(&format!("Warning: no process {pid} exists now"));
    }
    for warning in &started.warnings {
        say(&format!("Warning: {warning}"));
    }
    if command.is_some() && !started.capture.knows_descendants() {
        say("Warning: with this capture method a crash of the command is left out if the parent of the process ends at once");
    }
    if let Err(error) = process::keep_capabilities(&kept) {
        say(&format!("Warning: could not give up privileges: {error}"));
    }
    let mut monitor = Monitor::new(config.monitor(), started, sink, cores, signals, since)?;
    match command {
        Some(command) => monitor.follow_command(command.start()),
        // Once every crash is seen: scripts wait for it.
        None => say(&monitoring(config)),
    }
    // Before the first crash is looked at.
    limit_calls();
    opener::get_ready();
    let ended = monitor.watch();
    let ended = ended.and_then(|()| monitor.finish());
    if ended.is_err() {
        monitor.discard();
    }
    if config.stats {
        monitor.print_statistics();
    }
    match monitor.command_status() {
        Some(status) => {
            ended.err().map(|error| failed(&error));
            Ok(status)
        }
        None => ended.map(|()| 0),
    }
}

/// Nobody but the tool itself can open files. Where it may make no other process, that has
/// been said already.
fn say_that_files_may_stop_it(warnings: &mut Vec<String>, error: &Error) {
    const WHAT: &str = "a file system that does not answer will stop this tool";
    match warnings.iter_mut().find(|said| said.ends_with(NO_CHILD)) {
        Some(said) => said.push_str(&format!("; {WHAT}")),
        None => warnings.push(format!("{WHAT}: {error}")),
    }
}

/// The line that scripts wait for.
fn monitoring(config: &Config) -> String {
    let mut line = format!("Monitoring {}", config.monitored());
    for (number, pid) in config.pids.iter().enumerate() {
        let before = if number == 0 { " of process" } else { "," };
        line.push_str(&format!("{before} {pid}"));
    }
    if let Some(name) = &config.name {
        line.push_str(" of programs whose name contains \"");
        output::escape::text(&mut line, name);
        line.push('"');
    }
    match config.duration {
        Some(duration) => line.push_str(&format!(" for {} s", duration.as_secs())),
        None => line.push_str(" until interrupted"),
    }
    line
}

/// The capabilities that are needed from here on. The opener has its own, if there is one.
fn needed(config: &Config, has_programs: bool, opens_rings: bool, has_opener: bool) -> Vec<u32> {
    // What /proc has of other users' processes.
    let mut kept = vec![capability::SYS_PTRACE];
    if has_programs {
        // Their counters are in maps.
        kept.push(capability::BPF);
    }
    if !has_opener {
        kept.extend(opener::capabilities());
    }
    if config.writes_files() || config.core_directory.is_some() {
        // SIGHUP opens the file again, and cores are made, in a directory of any user.
        kept.push(capability::DAC_OVERRIDE);
    }
    if opens_rings {
        kept.push(capability::PERFMON);
    }
    // The ring of a CPU that comes up is locked memory.
    if opens_rings && bpf::raise_memlock_limit().is_err() {
        kept.push(capability::IPC_LOCK);
    }
    if !process::has_capability(capability::BPF) || opens_rings && perf::takes_all_rights() {
        kept.push(capability::SYS_ADMIN);
    }
    kept
}

/// From here on this process makes only the calls that monitoring takes. Where the kernel
/// cannot see to that, `-v` has said so.
fn limit_calls() {
    if let Err(error) = confine::tool() {
        say(&format!("Warning: could not limit system calls: {error}"));
    }
}
