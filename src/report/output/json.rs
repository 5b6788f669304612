//! A report as one line of JSON, through a small streaming writer.
//!
//! `docs/json.md` has the order of the keys. A key that belongs to an option
//! (`registers`, `stack_trace`, `stack_complete`, `register_notes`, `code`, `maps`,
//! `memory`, `repeats`, `deaths`, `suppressed`) is absent without that option.
//! `host_pid` is absent if it equals `pid`, `exit` if no process ended after a handled
//! fault, `since` if the report does not stand for held ones, `core` if no core file was written, and what is about other threads if they were
//! not asked for. `container` is absent outside of containers, and `time` and what follows
//! it without a host that is monitored. All others are always there, and `null` if nothing is known. The line is
//! ASCII, with no other escape than `\uXXXX` (see [`super::escape`]).

use crate::base::address::ProcessAddress;
use crate::base::bytes::{hex, spaced, without_nuls};
use crate::config::CppNames;
use crate::crash::frame::Stop;
use crate::crash::kinds::Sender;
use crate::crash::registers::Registers;
use crate::crash::signals;
use crate::report::container;
use crate::report::threads::{Call, ReportThreads, WaitsFor};
use crate::report::{Code, Exit, FirstFault, NearbyMapping, Report, StackFrame, StackTrace};

use super::{escape, mangled, nearby, symbol, text, Host, Options, SHORT_BYTES};

/// The whole line, with its newline.
pub(super) fn report(report: &Report, options: &Options) -> String {
    let mut out = Writer::default();
    line(&mut out, report, options);
    if options.is_short && out.text.len() >= SHORT_BYTES {
        out.cut.command = Some(COMMAND_SHORT_BYTES);
        line(&mut out, report, options);
        let end = out.frame_ends.last().copied().unwrap_or(0);
        let too_many = out.text.len().saturating_sub(SHORT_BYTES - CUT_NOTE_BYTES);
        if out.text.len() >= SHORT_BYTES && out.frame_ends.len() > 1 {
            let fits = |place: &&usize| **place + too_many <= end;
            let count = out.frame_ends.iter().take_while(fits).count();
            out.cut.frames = Some(count.max(1));
            line(&mut out, report, options);
        }
    }
    out.text
}

/// The arguments in a line that must be short, and room for a note that calls were left out.
const COMMAND_SHORT_BYTES: usize = 512;
const CUT_NOTE_BYTES: usize = 64;

/// What is left out so that a line is short.
#[derive(Default)]
struct Cut {
    /// Bytes of the arguments.
    command: Option<usize>,
    frames: Option<usize>,
}

fn line(out: &mut Writer, report: &Report, options: &Options) {
    out.text.clear();
    out.frame_ends.clear();
    out.comma = false;
    out.open('{');
    manual_fields(out, report, options);
    our_fields(out, report, options);
    if let Some(host) = &options.host {
        fleet_fields(out, report, host);
    }
    out.close('}');
    out.text.push('\n');
}

fn manual_fields(out: &mut Writer, report: &Report, options: &Options) {
    out.key("timestamp").number(report.time.unix_ms);
    out.key("pid").number(report.process.pid);
    out.key("tid").number(report.process.tid);
    out.key("comm").string(&report.process.comm);
    out.key("fault_address")
        .data_address(report.delivery.fault_address);
    out.key("instruction_pointer")
        .code_address(report.state.instruction_pointer);
    out.key("instruction_symbol")
        .optional_string(symbol(&report.state.instruction, options.cpp_names, true).as_deref());
    out.key("fault_type")
        .string(signals::fault_type_token(report.delivery.signal, report.delivery.code).as_bytes());
    if options.registers {
        registers(out.key("registers"), report.state.registers.as_ref());
    }
    if options.stack_trace {
        stack_trace(out, report.stack.as_ref(), options.cpp_names);
    }
}

/// What those need who collect reports of many hosts.
fn fleet_fields(out: &mut Writer, report: &Report, host: &Host) {
    let time = super::date_time(report.time.unix_ms, 0).replace(' ', "T") + "Z";
    out.key("time").string(time.as_bytes());
    out.key("argv");
    match out.command(report) {
        Some(arguments) => {
            out.open('[');
            for argument in without_nuls(arguments).split(|&byte| byte == 0) {
                out.string(argument);
            }
            out.close(']');
        }
        None => out.null(),
    }
    out.key("host").string(host.name.as_bytes());
    out.key("boot_id")
        .optional_string(host.boot_id.as_deref().map(str::as_bytes));
    out.key("kernel").string(host.kernel.as_bytes());
    out.key("machine").string(host.machine.as_bytes());
    out.key("version")
        .string(env!("CARGO_PKG_VERSION").as_bytes());
}

fn stack_trace(out: &mut Writer, stack: Option<&StackTrace>, cpp_names: CppNames) {
    out.key("stack_trace").open('[');
    let wanted = out.cut.frames.unwrap_or(usize::MAX);
    let frames = stack.iter().flat_map(|stack| &stack.frames);
    for frame in frames.take(wanted) {
        stack_frame(out, frame, cpp_names);
        out.frame_ends.push(out.text.len());
    }
    out.close(']');
}

fn stack_complete(out: &mut Writer, stack: Option<&StackTrace>) {
    let complete = stack.is_some_and(StackTrace::complete) && out.cut.frames.is_none();
    out.key("stack_complete").boolean(complete);
    let end = text::stack_end(stack);
    out.key("stack_end")
        .optional_string(end.as_deref().map(str::as_bytes));
}

fn our_fields(out: &mut Writer, report: &Report, options: &Options) {
    if let Some(host_pid) = report.process.host_pid {
        out.key("host_pid").number(host_pid);
    }
    out.key("thread").string(&report.process.thread);
    if options.stack_trace {
        stack_complete(out, report.stack.as_ref());
    }
    if report.state.instruction.symbol.is_none() {
        let place = text::place(&report.state.instruction, options.cpp_names, false);
        out.key("instruction_place")
            .optional_string(place.as_deref());
    }
    out.key("signal")
        .string(signals::signal_name(report.delivery.signal).as_bytes());
    out.key("signal_code")
        .string(signals::code_name(report.delivery.signal, report.delivery.code).as_bytes());
    out.key("access").optional_string(
        report
            .delivery
            .access
            .map(|access| access.as_str().as_bytes()),
    );
    out.key("disposition")
        .string(report.delivery.disposition.as_str().as_bytes());
    first_fault(out.key("first_fault"), report.delivery.first_fault.as_ref());
    out.key("same_death").boolean(report.same_death);
    sender(out.key("sender"), report.delivery.sender.as_ref());
    out.key("uptime_ms").number(report.time.uptime_ms);
    out.key("ppid").optional_number(report.process.ppid);
    out.key("uid").optional_number(report.process.uid);
    out.key("exe")
        .optional_string(report.process.exe.as_deref());
    let command = out.command(report).map(spaced);
    out.key("cmdline").optional_string(command.as_deref());
    out.key("ns_pid").optional_number(report.process.ns_pid);
    out.key("cgroup")
        .optional_string(report.process.cgroup.as_deref());
    out.key("cause")
        .string(report.why.cause.as_str().as_bytes());
    out.key("cause_text").string(&report.why.text);
    out.key("signature").digest(report.why.signature);
    out.key("group").digest(report.why.group);
    if options.registers {
        register_notes(out, &report.state.register_notes);
        code(out.key("code"), report.state.instruction_code.as_ref());
    }
    if let Some(maps) = &report.state.maps {
        nearby_mappings(out, maps);
    }
    if let Some(memory) = &report.state.memory {
        out.key("memory").open('[');
        for window in memory {
            out.open('{');
            out.key("address").data_address(Some(window.address));
            out.key("bytes").string(hex(&window.bytes).as_bytes());
            out.close('}');
        }
        out.close(']');
    }
    if let Some(repeats) = report.counts.repeats {
        out.key("repeats").number(repeats);
    }
    if let Some(deaths) = report.counts.deaths {
        out.key("deaths").number(deaths);
    }
    if let Some(suppressed) = report.counts.suppressed {
        out.key("suppressed").number(suppressed);
    }
    if let Some(since_ms) = report.counts.since_ms {
        out.key("since").number(since_ms);
    }
    lost(out, report);
    if let Some(exit) = report.exit {
        ended(out.key("exit"), exit);
    }
    if let Some(core) = &report.core {
        out.key("core").string(core);
    }
    if let Some(others) = &report.threads {
        threads(out, others, options);
    }
    let cgroup = report.process.cgroup.as_deref();
    if let Some(container) = cgroup.and_then(container::of) {
        out.key("container").open('{');
        let runtime = container.runtime.map(str::as_bytes);
        out.key("runtime").optional_string(runtime);
        out.key("id").string(container.id.as_bytes());
        let pod = container.pod.as_deref().map(str::as_bytes);
        out.key("pod").optional_string(pod);
        out.close('}');
    }
}

fn threads(out: &mut Writer, threads: &ReportThreads, options: &Options) {
    out.key("thread_count").optional_number(threads.count);
    out.key("threads").open('[');
    for thread in &threads.list {
        out.open('{');
        out.key("tid").number(thread.tid);
        out.key("name").string(&thread.name);
        out.key("state").string(thread.state.as_str().as_bytes());
        called(out.key("syscall"), thread.call.as_ref());
        waits_for(out.key("waits_for"), thread.waits_for.as_ref());
        if options.registers {
            registers(out.key("registers"), thread.registers.as_ref());
        }
        if options.stack_trace {
            stack_trace(out, thread.stack.as_ref(), options.cpp_names);
            stack_complete(out, thread.stack.as_ref());
        }
        out.close('}');
    }
    out.close(']');
    waits_for(out.key("waits_for"), threads.own.as_ref());
    out.key("deadlock").open('[');
    for &tid in &threads.deadlock {
        out.number(tid);
    }
    out.close(']');
}

fn waits_for(out: &mut Writer, waits: Option<&WaitsFor>) {
    let Some(waits) = waits else {
        return out.null();
    };
    out.open('{');
    out.key("address").data_address(Some(waits.address));
    out.key("place").optional_string(waits.place.as_deref());
    out.key("owner").optional_number(waits.owner);
    out.close('}');
}

fn called(out: &mut Writer, call: Option<&Call>) {
    let Some(call) = call else {
        return out.null();
    };
    out.open('{');
    out.key("number").number(call.call.number);
    out.key("name")
        .optional_string(call.name.map(str::as_bytes));
    out.key("arguments").open('[');
    for argument in call.call.arguments {
        out.string(format!("{argument:#x}").as_bytes());
    }
    out.close(']');
    out.close('}');
}

fn registers(out: &mut Writer, registers: Option<&Registers>) {
    let Some(registers) = registers else {
        return out.null();
    };
    let digits = 2 + 2 * registers.arch().word_bytes();
    out.open('{');
    for (name, value) in registers.named() {
        out.key(name)
            .string(format!("{value:#0digits$x}").as_bytes());
    }
    out.close('}');
}

fn register_notes(out: &mut Writer, notes: &[(&str, Vec<u8>)]) {
    out.key("register_notes").open('{');
    for (name, note) in notes {
        out.key(name).string(note);
    }
    out.close('}');
}

fn code(out: &mut Writer, code: Option<&Code>) {
    let Some(code) = code else {
        return out.null();
    };
    out.open('{');
    out.key("address").code_address(Some(code.address));
    out.key("bytes").string(hex(&code.bytes).as_bytes());
    out.key("instruction").number(code.instruction as u64);
    out.key("operands")
        .optional_string(code.operands.as_deref());
    out.close('}');
}

fn stack_frame(out: &mut Writer, frame: &StackFrame, cpp_names: CppNames) {
    let location = &frame.location;
    out.open('{');
    out.key("address").code_address(Some(frame.address));
    out.key("symbol")
        .optional_string(symbol(location, cpp_names, true).as_deref());
    if let Some(name) = mangled(location) {
        out.key("mangled").string(name);
    }
    out.key("module")
        .optional_string(location.module.as_deref());
    let offset = location.module_offset.map(|offset| format!("{offset:#x}"));
    out.key("module_offset")
        .optional_string(offset.as_deref().map(str::as_bytes));
    if let Some(offset) = location.file_offset {
        out.key("file_offset")
            .string(format!("{offset:#x}").as_bytes());
    }
    let build_id = location.build_id.as_deref().map(hex);
    out.key("build_id")
        .optional_string(build_id.as_deref().map(str::as_bytes));
    out.key("trust").string(frame.trust.as_str().as_bytes());
    out.key("file").optional_string(location.file.as_deref());
    out.key("line").optional_number(location.line);
    out.key("inlined").boolean(frame.inlined);
    if frame.exact && !frame.trust.is_exact() {
        out.key("exact").boolean(true);
    }
    out.close('}');
}

fn nearby_mappings(out: &mut Writer, maps: &[NearbyMapping]) {
    out.key("maps").open('[');
    for mapping in maps {
        out.open('{');
        out.key("start").data_address(Some(mapping.start));
        out.key("end").data_address(Some(mapping.end));
        out.key("permissions")
            .string(nearby::permissions(mapping.flags).as_bytes());
        let offset = mapping.file_offset.map(|offset| format!("{offset:#x}"));
        out.key("file_offset")
            .optional_string(offset.as_deref().map(str::as_bytes));
        out.key("name").string(&mapping.name);
        out.key("holds").open('[');
        for near in &mapping.holds {
            out.string(near.as_str().as_bytes());
        }
        out.close(']');
        out.close('}');
    }
    out.close(']');
}

fn first_fault(out: &mut Writer, fault: Option<&FirstFault>) {
    let Some(fault) = fault else {
        return out.null();
    };
    out.open('{');
    out.key("signal")
        .string(signals::signal_name(fault.signal).as_bytes());
    out.key("code")
        .string(signals::code_name(fault.signal, fault.code).as_bytes());
    out.key("address").data_address(fault.address);
    out.key("pc").code_address(Some(fault.pc));
    out.key("access")
        .optional_string(fault.access.map(|access| access.as_str().as_bytes()));
    out.key("age_ms").number(fault.age_ms);
    out.close('}');
}

fn sender(out: &mut Writer, sender: Option<&Sender>) {
    let Some(sender) = sender else {
        return out.null();
    };
    out.open('{');
    out.key("pid").optional_number(sender.pid);
    out.key("uid").optional_number(sender.uid);
    out.close('}');
}

/// Each lost detail as `detail: reason`; a walk that ended early is one of
/// them, except if the user's own limit ended it.
fn lost(out: &mut Writer, report: &Report) {
    out.key("lost").open('[');
    for lost in &report.lost {
        out.string(format!("{}: {}", lost.detail, lost.reason).as_bytes());
    }
    if let Some(StackTrace { stop, .. }) = &report.stack {
        if !matches!(stop, Stop::Outermost | Stop::Depth) {
            out.string(format!("callers: {}", text::stop_reason(*stop)).as_bytes());
        }
    }
    if out.cut.command.is_some() && report.process.cmdline.is_some() {
        out.string(b"cmdline: cut off: the line would be too long");
    }
    if out.cut.frames.is_some() {
        out.string(b"callers: left out: the line would be too long");
    }
    out.close(']');
}

/// How the process ended; fields without a value are left out.
fn ended(out: &mut Writer, exit: Exit) {
    out.open('{');
    match exit {
        Exit::Status(status) => out.key("status").number(status),
        Exit::Signal(number) => out
            .key("signal")
            .string(signals::signal_name(number).as_bytes()),
        Exit::Unknown => {}
    }
    out.key("death").boolean(exit.is_death());
    out.close('}');
}

/// Puts the commas; the caller keeps to the grammar.
#[derive(Default)]
struct Writer {
    text: String,
    /// Whether the next value or key follows another one.
    comma: bool,
    /// Where the frames of the report's stack end in the text, those of threads after them.
    frame_ends: Vec<usize>,
    cut: Cut,
}

impl Writer {
    /// The arguments, as far as they are written.
    fn command<'a>(&self, report: &'a Report) -> Option<&'a [u8]> {
        let arguments = report.process.cmdline.as_deref()?;
        let end = self.cut.command.unwrap_or(usize::MAX);
        Some(&arguments[..arguments.len().min(end)])
    }

    fn separate(&mut self) {
        if self.comma {
            self.text.push(',');
        }
        self.comma = true;
    }

    fn open(&mut self, bracket: char) {
        self.separate();
        self.text.push(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.comma = true;
    }

    /// Keys are ours: nothing in them needs an escape.
    fn key(&mut self, key: &str) -> &mut Self {
        self.separate();
        self.text.push_str(&format!("\"{key}\":"));
        self.comma = false;
        self
    }

    fn plain(&mut self, word: &str) {
        self.separate();
        self.text.push_str(word);
    }

    fn null(&mut self) {
        self.plain("null");
    }

    fn boolean(&mut self, value: bool) {
        self.plain(if value { "true" } else { "false" });
    }

    fn number(&mut self, value: impl Into<u64>) {
        self.plain(&value.into().to_string());
    }

    fn optional_number(&mut self, value: Option<u32>) {
        match value {
            Some(value) => self.number(value),
            None => self.null(),
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.separate();
        self.text.push('"');
        escape::json(&mut self.text, bytes);
        self.text.push('"');
    }

    fn optional_string(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.string(bytes),
            None => self.null(),
        }
    }

    /// 16 digits, without `0x`.
    fn digest(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.string(format!("{value:016x}").as_bytes()),
            None => self.null(),
        }
    }

    /// An address of data: 16 digits.
    fn data_address(&mut self, address: Option<ProcessAddress>) {
        match address {
            Some(address) => self.string(format!("{address:#018x}").as_bytes()),
            None => self.null(),
        }
    }

    /// An address of code: no leading zeros.
    fn code_address(&mut self, address: Option<ProcessAddress>) {
        match address {
            Some(address) => self.string(format!("{address:#x}").as_bytes()),
            None => self.null(),
        }
    }
}
