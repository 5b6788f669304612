//! A report as text.
//!
//! The first four lines, the registers and the stack trace have exactly the layout of the
//! manual's samples, because scripts cut them by column. Further lines follow the four in
//! the same layout, and only if they have a value: an ordinary crash has two or three of
//! them. Everything from the crashed process is escaped, so it cannot add a line.

use std::fmt::Display;

use crate::base::bytes::{hex, spaced};
use crate::config::CppNames;
use crate::crash::event::Disposition;
use crate::crash::frame::{Stop, Trust};
use crate::crash::kinds::Sender;
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{self, code, signal};
use crate::report::container::{self, Container};
use crate::report::threads::{ReportThread, ReportThreads};
use crate::report::{Code, Exit, FirstFault, Location, Report, StackFrame, StackTrace};

use super::{escape, nearby, symbol, threads, Options};

/// The shown part of a command line: some, such as Java's, fill screens.
const COMMAND_SHOWN_CHARS: usize = 240;

/// The whole report, and the empty line after it.
pub(super) fn report(report: &Report, options: &Options) -> String {
    let mut out = String::new();
    header(&mut out, report, options);
    manual_lines(&mut out, report, options);
    our_lines(&mut out, report, options);
    if options.registers {
        out.push('\n');
        registers(&mut out, report.state.registers.as_ref());
        register_notes(&mut out, report);
    }
    if options.stack_trace {
        out.push('\n');
        stack_trace(&mut out, report.stack.as_ref(), options.cpp_names);
    }
    if let Some(others) = &report.threads {
        other_threads(&mut out, others, options.cpp_names);
    }
    if let Some(maps) = &report.state.maps {
        out.push('\n');
        nearby::maps(&mut out, maps);
    }
    if let Some(memory) = &report.state.memory {
        out.push('\n');
        nearby::memory(&mut out, memory, report.state.registers.as_ref());
    }
    out.push('\n');
    out
}

/// How many there were, in place of the report itself.
pub(super) fn repeats(report: &Report, options: &Options) -> String {
    let mut out = String::new();
    header(&mut out, report, options);
    let count = report.counts.repeats.unwrap_or(0).saturating_add(1);
    if let Some(suppressed) = report.counts.suppressed {
        let count = count.saturating_add(suppressed);
        let crashes = if count == 1 { "crash" } else { "crashes" };
        let text = format!("{count} more {crashes} of this executable (--max-per-minute)");
        line(&mut out, "Suppressed", text);
    } else {
        let mut text = format!("{count} more");
        if let Some(signature) = report.why.signature {
            text.push_str(&format!(" of signature {signature:016x}"));
        }
        if let Some(place) = place_or_pc(report, options.cpp_names) {
            text.push_str(" at ");
            text.push_str(&place);
        }
        if let Some(since_ms) = report.counts.since_ms {
            text.push_str(", since ");
            text.push_str(&since(since_ms, report, options));
        }
        line(&mut out, "Repeats", text);
    }
    out.push('\n');
    out
}

/// The time of day, and the date if that is not the report's.
fn since(since_ms: u64, report: &Report, options: &Options) -> String {
    let local =
        |unix_ms: u64| date_time(i128::from(unix_ms) + i128::from(options.utc_offset_s) * 1000);
    let (since, last) = (local(since_ms), local(report.time.unix_ms));
    const DAY: usize = "2024-02-15 ".len();
    let begin = match since.get(..DAY) == last.get(..DAY) {
        true => DAY,
        false => 0,
    };
    let seconds = begin..since.len() - ".000".len();
    since.get(seconds).unwrap_or_default().to_string()
}

/// The name of the instruction's place, or else its address.
fn place_or_pc(report: &Report, cpp_names: CppNames) -> Option<String> {
    match place(&report.state.instruction, cpp_names, false) {
        Some(place) => Some(escaped(&place)),
        None => report
            .state
            .instruction_pointer
            .map(|pc| format!("{pc:#x}")),
    }
}

fn header(out: &mut String, report: &Report, options: &Options) {
    let local_ms = i128::from(report.time.unix_ms) + i128::from(options.utc_offset_s) * 1000;
    let what = match report.delivery.signal {
        signal::SIGSEGV => "SEGFAULT".into(),
        other => signals::signal_name(other),
    };
    out.push_str(&format!("[{}] {what} in process ", date_time(local_ms)));
    escape::text(out, &report.process.comm);
    out.push_str(&format!(
        " (PID: {}, TID: {})\n",
        report.process.pid, report.process.tid
    ));
}

/// `YYYY-MM-DD HH:MM:SS.mmm` of milliseconds since 1970, in the proleptic
/// Gregorian calendar: years counted from March, so that the leap day is last.
pub(super) fn date_time(ms: i128) -> String {
    const DAY_MS: i128 = 86_400_000;
    const DAYS_TO_1970_FROM_MARCH_OF_YEAR_0: i128 = 719_468;
    const DAYS_IN_400_YEARS: i128 = 146_097;
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let days = days + DAYS_TO_1970_FROM_MARCH_OF_YEAR_0;
    let (era, of_era) = (
        days.div_euclid(DAYS_IN_400_YEARS),
        days.rem_euclid(DAYS_IN_400_YEARS),
    );
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000
    )
}

/// One line of the summary: label and colon take 15 columns.
fn line(out: &mut String, label: &str, value: impl Display) {
    out.push_str(&format!("  {:<14} {value}\n", format!("{label}:")));
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    escape::text(&mut out, bytes);
    out
}

fn manual_lines(out: &mut String, report: &Report, options: &Options) {
    match report.delivery.fault_address {
        Some(address) => line(out, "Fault Address", format!("{address:#018x}")),
        None => line(out, "Fault Address", "unknown"),
    }
    let instruction = match report.state.instruction_pointer {
        Some(address) => {
            let mut text = format!("{address:#x}");
            if let Some(place) = place(
                &report.state.instruction,
                options.cpp_names,
                options.stack_trace,
            ) {
                text.push_str(&format!(" ({})", escaped(&place)));
            }
            text
        }
        None => "unknown".to_string(),
    };
    line(out, "Instruction", instruction);
    let mut fault_type = signals::fault_type(report.delivery.signal, report.delivery.code);
    if report.delivery.code == code::SI_KERNEL && report.delivery.fault_address.is_some() {
        fault_type = signals::KERNELS_BUT_WORKED_OUT.into();
    }
    line(out, "Fault Type", fault_type);
}

/// The best name that a location has: `name+0xoff (/path)`, without paths `name+0xoff`;
/// `/path+0xoff`, which else would look like a function; `[heap]`. `@0xoff` is an
/// offset in the file.
pub(super) fn place(location: &Location, cpp_names: CppNames, with_path: bool) -> Option<Vec<u8>> {
    if let Some(symbol) = symbol(location, cpp_names, with_path) {
        return Some(symbol);
    }
    let mut module = location.module.clone()?;
    if let Some(offset) = location.module_offset {
        module.extend_from_slice(format!("+{offset:#x}").as_bytes());
    } else if let Some(offset) = location.file_offset {
        module.extend_from_slice(format!("@{offset:#x}").as_bytes());
    }
    Some(module)
}

fn our_lines(out: &mut String, report: &Report, options: &Options) {
    if let Some(access) = report.delivery.access {
        line(out, "Access", access.as_str());
    }
    let cause = escaped(&report.why.text);
    line(
        out,
        "Cause",
        format!("{cause} ({})", report.why.cause.as_str()),
    );
    if report.delivery.disposition != Disposition::Fatal {
        line(out, "Disposition", report.delivery.disposition.as_str());
    }
    if let Some(exit) = report.exit {
        line(out, "Exit", exit_text(exit));
    }
    if let Some(core) = &report.core {
        line(out, "Core", escaped(core));
    }
    if let Some(sender) = &report.delivery.sender {
        line(out, "Sender", sender_text(sender));
    }
    if let Some(fault) = &report.delivery.first_fault {
        line(out, "First Fault", first_fault(fault));
    }
    if report.same_death {
        line(out, "Same Death", "an earlier report has the same death");
    }
    if let Some(repeats @ 1..) = report.counts.repeats {
        line(out, "Repeats", format!("{repeats} equal ones before"));
    }
    if let Some(others) = &report.threads {
        if let Some(waits) = &others.own {
            line(out, "Waits For", threads::own_wait(waits));
        }
        if !others.deadlock.is_empty() {
            line(out, "Deadlock", threads::deadlock(&others.deadlock));
        }
    }
    if report.process.thread != report.process.comm {
        line(out, "Thread", escaped(&report.process.thread));
    }
    program(out, report);
    let cgroup = report.process.cgroup.as_deref();
    if let Some(container) = cgroup.and_then(container::of) {
        line(out, "Container", container_text(&container));
    }
    if let (true, Some(signature)) = (options.stack_trace, report.why.signature) {
        line(out, "Signature", format!("{signature:016x}"));
    }
    if let (true, Some(code)) = (options.registers, &report.state.instruction_code) {
        instruction_code(out, code);
    }
    for lost in &report.lost {
        line(out, "Lost", format!("{} ({})", lost.detail, lost.reason));
    }
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Status(status) => format!("exited with status {status}"),
        Exit::Signal(number) => format!("killed by {}", signals::signal_name(number)),
        Exit::Unknown => "ended within a second, how is not known".to_string(),
    }
}

fn sender_text(sender: &Sender) -> String {
    let number = |id: Option<u32>| id.map_or("unknown".to_string(), |id| id.to_string());
    format!("PID {}, UID {}", number(sender.pid), number(sender.uid))
}

/// The runtime, the id and the pod.
fn container_text(container: &Container) -> String {
    let mut text = container
        .runtime
        .map_or(String::new(), |it| format!("{it} "));
    escape::text(&mut text, container.id.as_bytes());
    if let Some(pod) = &container.pod {
        text.push_str(&format!(", pod {pod}"));
    }
    text
}

/// What, where, how and when, on one line.
fn first_fault(fault: &FirstFault) -> String {
    let mut text = signals::fault_type(fault.signal, fault.code);
    if fault.signal != signal::SIGSEGV {
        text = format!("{}, {text}", signals::signal_name(fault.signal));
    }
    match fault.address {
        Some(address) => text.push_str(&format!(" at {address:#018x}")),
        None => text.push_str(" at an unknown address"),
    }
    if let Some(access) = fault.access {
        text.push_str(&format!(", {}", access.as_str()));
    }
    text.push_str(&format!(" by {:#x}, {} ms before", fault.pc, fault.age_ms));
    text
}

/// The command line, and the executable if the command does not begin with it.
fn program(out: &mut String, report: &Report) {
    let begins = |command: &[u8], exe: &[u8]| {
        command
            .strip_prefix(exe)
            .is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b' '))
    };
    let command = report.process.cmdline.as_deref().map(spaced);
    let command = command.as_deref().filter(|command| !command.is_empty());
    if let Some(exe) = &report.process.exe {
        if !command.is_some_and(|command| begins(command, exe)) {
            line(out, "Executable", escaped(exe));
        }
    }
    if let Some(command) = command {
        let shown = escaped(command);
        match shown.char_indices().nth(COMMAND_SHOWN_CHARS) {
            Some((end, _)) => line(out, "Command", format!("{} ...", &shown[..end])),
            None => line(out, "Command", shown),
        }
    }
}

/// Two registers a line; pc and sp short, the others with all their digits.
fn registers(out: &mut String, registers: Option<&Registers>) {
    let Some(registers) = registers else {
        out.push_str(&format!(
            "  Registers ({}): unknown\n",
            Arch::NATIVE.as_str()
        ));
        return;
    };
    let arch = registers.arch();
    out.push_str(&format!("  Registers ({}):\n", arch.as_str()));
    for (index, (name, value)) in registers.named().enumerate() {
        let digits = if index < 2 {
            0
        } else {
            2 + 2 * arch.word_bytes()
        };
        out.push_str(&format!(
            "    {}: {value:#0digits$x}",
            name.to_ascii_uppercase()
        ));
        if index % 2 == 1 {
            out.push('\n');
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// What the registers point at, in a block of its own: scripts that read the registers by
/// line expect two of them on each.
fn register_notes(out: &mut String, report: &Report) {
    if report.state.register_notes.is_empty() {
        return;
    }
    out.push_str("\n  Register Notes:\n");
    for (name, note) in &report.state.register_notes {
        out.push_str("    ");
        out.push_str(&name.to_ascii_uppercase());
        out.push_str(" -> ");
        escape::text(out, note);
        out.push('\n');
    }
}

/// As the kernel writes it, the instruction's first byte in brackets.
fn instruction_code(out: &mut String, code: &Code) {
    let mut text = format!("{:#x}:", code.address);
    for (index, byte) in code.bytes.iter().enumerate() {
        text.push_str(&match index == code.instruction {
            true => format!(" <{byte:02x}>"),
            false => format!(" {byte:02x}"),
        });
    }
    line(out, "Code", text);
    if let Some(operands) = code.operands.as_deref().filter(|it| !it.is_empty()) {
        line(out, "Operands", escaped(operands));
    }
}

fn stack_trace(out: &mut String, stack: Option<&StackTrace>, cpp_names: CppNames) {
    let count = stack.map_or(0, |stack| stack.frames.len());
    // One word for any number: scripts look for it.
    out.push_str(&format!("  Stack Trace ({count} frames):\n"));
    match stack {
        Some(stack) => frames(out, stack, cpp_names),
        None => ends(out, None),
    }
}

/// The section, which is empty if there is no other thread.
fn other_threads(out: &mut String, others: &ReportThreads, cpp_names: CppNames) {
    if others.list.is_empty() {
        return;
    }
    out.push('\n');
    threads::title(out, others);
    let firsts = others.alike();
    for number in 0..firsts.len() {
        let mut alike: Vec<&ReportThread> = Vec::new();
        for (thread, first) in others.list.iter().zip(&firsts) {
            if *first == number {
                alike.push(thread);
            }
        }
        if alike.is_empty() {
            continue;
        }
        threads::heading(out, &alike);
        match &alike[0].stack {
            Some(stack) => {
                out.push_str(":\n");
                frames(out, stack, cpp_names);
            }
            None => out.push('\n'),
        }
    }
}

/// A line for each frame, and where they end too early the reason.
pub(super) fn frames(out: &mut String, stack: &StackTrace, cpp_names: CppNames) {
    for (index, frame) in stack.frames.iter().enumerate() {
        numbered_frame(out, index, frame, cpp_names);
    }
    ends(out, Some(stack));
}

/// The last line of a stack that ends too early.
fn ends(out: &mut String, stack: Option<&StackTrace>) {
    if let Some(reason) = stack_end(stack) {
        out.push_str(&format!("    (stack ends here: {reason})\n"));
    }
}

/// Why a stack ends too early, if it does.
pub(super) fn stack_end(stack: Option<&StackTrace>) -> Option<String> {
    match stack {
        None => Some(super::NO_STACK.to_string()),
        Some(stack) if stack.stop == Stop::Outermost => None,
        Some(stack) => Some(stop_reason(stack.stop)),
    }
}

/// A frame's line.
pub(super) fn numbered_frame(
    out: &mut String,
    index: usize,
    frame: &StackFrame,
    cpp_names: CppNames,
) {
    out.push_str(&format!("    #{index:<2} {:#x}", frame.address));
    stack_frame(out, frame, cpp_names);
    out.push('\n');
}

/// The part of a frame's line after the address.
fn stack_frame(out: &mut String, frame: &StackFrame, cpp_names: CppNames) {
    let location = &frame.location;
    if let Some(place) = place(location, cpp_names, true) {
        out.push(' ');
        escape::text(out, &place);
    }
    if let (None, Some(build_id)) = (&location.symbol, &location.build_id) {
        out.push_str(&format!(" (build-id {}", hex(build_id)));
        if frame.exact && !frame.trust.is_exact() {
            out.push_str(", exact");
        }
        out.push(')');
    }
    if let Some(file) = &location.file {
        out.push_str(" at ");
        escape::text(out, file);
        if let Some(number) = location.line {
            out.push_str(&format!(":{number}"));
        }
    }
    if frame.inlined {
        out.push_str(" (inlined)");
    }
    if let Some((_, mark)) = MARKS.iter().find(|(trust, _)| *trust == frame.trust) {
        out.push_str(&format!(" [{mark}]"));
    }
}

/// How a frame was found, if not by call-frame information, which is better.
pub(super) const MARKS: [(Trust, &str); 6] = [
    (Trust::Scan, "scan"),
    (Trust::ScanCfi, "scan, fits the next call"),
    (Trust::ScanDirect, "scan, calls this function"),
    (Trust::FramePointer, "frame pointer"),
    (Trust::Leaf, "leaf"),
    (Trust::Signal, "signal"),
];

/// Why a walk ended, in words that follow a colon.
pub(super) fn stop_reason(stop: Stop) -> String {
    match stop {
        Stop::Outermost => "this is the outermost call".to_string(),
        Stop::Depth => "--max-stack-depth is reached".to_string(),
        Stop::StackNotCaptured(address) => format!("the stack at {address:#x} was not captured"),
        Stop::NoCaller(address) => format!("no caller found for the code at {address:#x}"),
        Stop::BadReturn(address) => {
            format!("the return address {address:#x} is not code")
        }
        Stop::NoProgress(address) => format!("the stack pointer stays at {address:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::date_time;

    #[test]
    fn dates_and_times_by_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00.000");
        assert_eq!(date_time(-1), "1969-12-31 23:59:59.999");
        assert_eq!(date_time(951_782_399_999), "2000-02-28 23:59:59.999");
        assert_eq!(date_time(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(date_time(1_708_000_245_123), "2024-02-15 12:30:45.123");
        assert_eq!(date_time(4_107_542_400_000), "2100-03-01 00:00:00.000");
        assert_eq!(date_time(253_402_300_800_000), "10000-01-01 00:00:00.000");
    }

    #[test]
    fn the_calendar_agrees_with_counting_days() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for count in 0..200_000 {
            let expected = format!("{year:04}-{month:02}-{day:02} 00:00:00.000");
            assert_eq!(date_time(count * 86_400_000), expected);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
