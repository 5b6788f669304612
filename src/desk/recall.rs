//! A report from its line of JSON, so that the writer of text can write it.
//!
//! In: a line. Out: the report, and the options with which it was made, by the keys that
//! the line has. What a line does not have is unknown, as it is where nothing was
//! captured. A number or a word that is not what the tool writes counts as missing.

use std::rc::Rc;

use super::json::{self, Object, Span};
use super::{find_last, hexadecimal, is_report, unhex};
use crate::base::address::{FileAddress, FileOffset, ProcessAddress};
use crate::base::bytes::find;
use crate::config::CppNames;
use crate::crash::event::{Disposition, Lost, MemoryWindow, VmFlags};
use crate::crash::frame::{Stop, Trust};
use crate::crash::futex::Futex;
use crate::crash::kinds::{Access, Sender};
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals;
use crate::crash::threads::{State as ThreadState, SystemCall};
use crate::report::output::{self, Options};
use crate::report::threads::{Call, Operation, ReportThread, ReportThreads, WaitsFor};
use crate::report::{
    Cause, Code, Counts, Delivery, Exit, FirstFault, Location, Near, NearbyMapping, Process,
    Report, StackFrame, StackTrace, State, Symbol, Timestamp, Why,
};

/// Words of reports that are kept while the tool runs, and the longest one: the tool itself
/// has fewer, and shorter ones.
const MAX_WORDS: usize = 4096;
const MAX_WORD: usize = 512;
/// In place of a word when there are too many.
const TOO_MANY: &str = "not kept: too many different words";
/// Codes that have names, with a margin.
const CODES: std::ops::RangeInclusive<i32> = -100..=200;

/// A report as its line has it.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) report: Report,
    pub(super) options: Options,
    /// It stands for reports that were held back.
    pub(super) is_held: bool,
    /// For each call of the crash whether a tail call replaced it.
    pub(super) tail_calls: Vec<bool>,
}

/// Reads reports.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Reports hold words that live as long as the program: each is kept once.
    words: Vec<&'static str>,
}

impl Reader {
    /// `None` if the line is not a report.
    pub(super) fn read(&mut self, line: &[u8]) -> Option<Recalled> {
        let object = Object::read(line, Span::whole(line)).filter(is_report)?;
        let it = Fields(&object);
        let registers = it.registers();
        let mut options = Options {
            registers: object.place("registers").is_some(),
            stack_trace: object.place("stack_trace").is_some(),
            ..Options::default()
        };
        let lost = self.lost(&it);
        let (stack, stop_is_lost) = stack(&it, &lost);
        let frames = stack.as_ref().map_or(&[][..], |stack| &stack.frames);
        if it.has_whole_names(frames) {
            options.cpp_names = CppNames::Whole;
        }
        let comm = it.bytes("comm").unwrap_or_default();
        let signal = it.signal("signal");
        let report = Report {
            time: Timestamp {
                unix_ms: it.number("timestamp").unwrap_or(0),
                uptime_ms: it.number("uptime_ms").unwrap_or(0),
            },
            delivery: Delivery {
                signal,
                code: code(signal, it.value("signal_code")),
                fault_address: it.address("fault_address"),
                access: it.word("access", &Access::ALL, Access::as_str),
                disposition: it
                    .word("disposition", &Disposition::ALL, Disposition::as_str)
                    .unwrap_or(Disposition::Fatal),
                first_fault: it.object("first_fault").map(|it| first_fault(&Fields(&it))),
                sender: it.object("sender").map(|it| Sender {
                    pid: Fields(&it).small("pid"),
                    uid: Fields(&it).small("uid"),
                }),
            },
            state: State {
                instruction_pointer: it.address("instruction_pointer"),
                instruction: instruction(&it, frames, &options),
                register_notes: notes(&it, registers.as_ref()),
                registers,
                instruction_code: it.object("code").map(|it| code_bytes(&Fields(&it))),
                maps: it.objects("maps").map(|all| {
                    let mapping = |it| nearby(&Fields(it));
                    all.iter().map(mapping).collect()
                }),
                memory: it.objects("memory").map(|all| {
                    let window = |it| MemoryWindow {
                        address: Fields(it).address("address").unwrap_or(ProcessAddress(0)),
                        bytes: Fields(it).hex("bytes"),
                    };
                    all.iter().map(window).collect()
                }),
            },
            threads: self.threads(&it),
            why: Why {
                cause: it
                    .word("cause", &Cause::ALL, Cause::as_str)
                    .unwrap_or(Cause::Unknown),
                text: it.bytes("cause_text").unwrap_or_default(),
                signature: digest(it.value("signature")),
                group: digest(it.value("group")),
            },
            counts: Counts {
                repeats: it.number("repeats"),
                deaths: it.number("deaths"),
                suppressed: it.number("suppressed"),
                since_ms: it.number("since"),
            },
            same_death: it.value("same_death") == b"true",
            exit: it.object("exit").map(|it| exit(&Fields(&it))),
            core: it.bytes("core"),
            lost: lost
                .into_iter()
                .filter(|lost| !stop_is_lost(lost))
                .collect(),
            process: Process {
                pid: it.small("pid").unwrap_or(0),
                tid: it.small("tid").unwrap_or(0),
                host_pid: it.small("host_pid"),
                ns_pid: it.small("ns_pid"),
                thread: it.bytes("thread").unwrap_or(comm.clone()),
                comm,
                ppid: it.small("ppid"),
                uid: it.small("uid"),
                exe: it.bytes("exe"),
                cmdline: it.bytes("cmdline"),
                cgroup: it.bytes("cgroup"),
            },
            stack,
        };
        Some(Recalled {
            is_held: report.counts.since_ms.is_some() || report.counts.suppressed.is_some(),
            tail_calls: it.tail_calls(),
            report,
            options,
        })
    }

    /// A word that lives as long as the program.
    fn word(&mut self, word: &[u8]) -> &'static str {
        let mut shown = String::new();
        output::escape::text(&mut shown, &word[..word.len().min(MAX_WORD)]);
        if let Some(known) = self.words.iter().find(|known| **known == shown) {
            return known;
        }
        if self.words.len() == MAX_WORDS {
            return TOO_MANY;
        }
        let word = &*shown.leak();
        self.words.push(word);
        word
    }

    fn lost(&mut self, it: &Fields<'_, '_>) -> Vec<Lost> {
        let mut all = Vec::new();
        let text = it.0.text();
        for entry in it.elements("lost") {
            let entry = json::string(entry.of(text)).unwrap_or_default();
            let (detail, reason) = match find(&entry, b": ") {
                Some(at) => (&entry[..at], &entry[at + 2..]),
                None => (&entry[..], &b""[..]),
            };
            all.push(Lost {
                detail: self.word(detail),
                reason: self.word(reason),
            });
        }
        all
    }

    fn threads(&mut self, it: &Fields<'_, '_>) -> Option<Rc<ReportThreads>> {
        let list = it.objects("threads")?;
        let text = it.0.text();
        let deadlock = it.elements("deadlock").into_iter();
        Some(Rc::new(ReportThreads {
            list: list.iter().map(|it| self.thread(&Fields(it))).collect(),
            count: it.small("thread_count"),
            own: it.wait(),
            deadlock: deadlock
                .filter_map(|tid| u32::try_from(json::number(tid.of(text))?).ok())
                .collect(),
        }))
    }

    fn thread(&mut self, it: &Fields<'_, '_>) -> ReportThread {
        let stack = it.0.place("stack_trace").and_then(|_| stack(it, &[]).0);
        ReportThread {
            tid: it.small("tid").unwrap_or(0),
            name: it.bytes("name").unwrap_or_default(),
            state: it
                .word("state", &ThreadState::ALL, ThreadState::as_str)
                .unwrap_or(ThreadState::Unknown),
            call: it.object("syscall").map(|it| self.call(&Fields(&it))),
            waits_for: it.wait(),
            registers: it.registers(),
            stack,
        }
    }

    fn call(&mut self, it: &Fields<'_, '_>) -> Call {
        let mut arguments = [0; 6];
        for (argument, place) in arguments.iter_mut().zip(it.elements("arguments")) {
            *argument = address(place.of(it.0.text())).unwrap_or(0);
        }
        let number = it.small("number").unwrap_or(0);
        let call = SystemCall { number, arguments };
        let name = it.bytes("name").map(|name| self.word(&name));
        // A number means futex(2) on one architecture and another call elsewhere.
        let is_futex = name.is_some_and(|name| name.starts_with("futex"));
        let of = |arch| Futex::of(arch, &call).filter(|_| is_futex);
        let futex = [Arch::X86_64, Arch::Aarch64, Arch::I386]
            .into_iter()
            .find_map(of);
        Call {
            call,
            name,
            futex: futex.map(|futex| Operation {
                address: ProcessAddress(futex.address),
                name: futex.operation,
            }),
        }
    }
}

/// An object, and its values by what they are.
struct Fields<'o, 'a>(&'o Object<'a>);

impl<'a> Fields<'_, 'a> {
    fn value(&self, key: &str) -> &'a [u8] {
        self.0.value(key)
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        json::string(self.value(key))
    }

    fn number(&self, key: &str) -> Option<u64> {
        json::number(self.value(key))
    }

    fn small(&self, key: &str) -> Option<u32> {
        u32::try_from(self.number(key)?).ok()
    }

    fn address(&self, key: &str) -> Option<ProcessAddress> {
        address(self.value(key)).map(ProcessAddress)
    }

    fn hex(&self, key: &str) -> Vec<u8> {
        let digits = self.bytes(key).unwrap_or_default();
        unhex(&digits).unwrap_or_default()
    }

    /// Zero for a name that no signal has.
    fn signal(&self, key: &str) -> i32 {
        signal(self.value(key)).unwrap_or(0)
    }

    fn word<T: Copy>(&self, key: &str, all: &[T], as_str: fn(T) -> &'static str) -> Option<T> {
        let word = self.bytes(key)?;
        let mut all = all.iter().copied();
        all.find(|it| as_str(*it).as_bytes() == word)
    }

    fn object(&self, key: &str) -> Option<Object<'a>> {
        Object::read(self.0.text(), self.0.place(key)?)
    }

    fn objects(&self, key: &str) -> Option<Vec<Object<'a>>> {
        json::objects(self.0.text(), self.0.place(key)?)
    }

    fn elements(&self, key: &str) -> Vec<Span> {
        let place = self.0.place(key);
        let elements = place.and_then(|place| json::elements(self.0.text(), place));
        elements.unwrap_or_default()
    }

    fn registers(&self) -> Option<Registers> {
        let object = self.object("registers")?;
        let named = object.members().iter().map(|(name, value)| {
            let value = address(value.of(object.text()))?;
            Some((name.of(object.text()), value))
        });
        Registers::of_names(&named.collect::<Option<Vec<_>>>()?)
    }

    fn wait(&self) -> Option<WaitsFor> {
        let object = self.object("waits_for")?;
        let it = Fields(&object);
        Some(WaitsFor {
            address: it.address("address")?,
            place: it.bytes("place"),
            owner: it.small("owner"),
        })
    }

    fn location(&self) -> Location {
        let module = self.bytes("module");
        let offset = |key| address(self.value(key));
        Location {
            symbol: self.bytes("symbol").and_then(|text| {
                let (readable, offset) = named(&text, module.as_deref())?;
                Some(Symbol {
                    // What is_like() compares, and what can be written with parameters.
                    name: self.bytes("mangled").unwrap_or(readable),
                    offset,
                })
            }),
            module_offset: offset("module_offset").map(FileAddress),
            file_offset: offset("file_offset").map(FileOffset),
            build_id: self.bytes("build_id").and_then(|digits| unhex(&digits)),
            file: self.bytes("file"),
            line: self.small("line"),
            module,
        }
    }

    fn frames(&self) -> Vec<StackFrame> {
        let frame = |it: &Object<'_>| {
            let it = Fields(it);
            let words = Trust::ALL;
            let trust = it.word("trust", &words, Trust::as_str);
            let trust = trust.unwrap_or(Trust::Scan);
            StackFrame {
                address: it.address("address").unwrap_or(ProcessAddress(0)),
                exact: trust.is_exact() || it.value("exact") == b"true",
                trust,
                inlined: it.value("inlined") == b"true",
                location: it.location(),
            }
        };
        let frames = self.objects("stack_trace").unwrap_or_default();
        frames.iter().map(frame).collect()
    }

    fn tail_calls(&self) -> Vec<bool> {
        let frames = self.objects("stack_trace").unwrap_or_default();
        let is_one = |frame: &Object<'_>| frame.value("tail_call") == b"true";
        frames.iter().map(is_one).collect()
    }

    /// Whether the names have their parameters: `frames` are those of this report.
    fn has_whole_names(&self, frames: &[StackFrame]) -> bool {
        let texts = self.objects("stack_trace").unwrap_or_default();
        texts.iter().zip(frames).any(|(text, frame)| {
            let text = json::string(text.value("symbol"));
            let is = |names| text == output::symbol(&frame.location, names, true);
            output::mangled(&frame.location).is_some()
                && !is(CppNames::Short)
                && is(CppNames::Whole)
        })
    }
}

/// What a stack's last line says that JSON has among the losses, too.
type IsStop = Box<dyn Fn(&Lost) -> bool>;

/// The calls of an object, and which of its losses is the reason why they end.
fn stack(it: &Fields<'_, '_>, lost: &[Lost]) -> (Option<StackTrace>, IsStop) {
    let frames = it.frames();
    let complete = it.value("stack_complete") == b"true";
    // Lines from before there was this key say it only there.
    let callers = lost.iter().rev().find(|lost| {
        lost.detail == "callers" && stop(lost.reason.as_bytes()) != Some(Stop::Outermost)
    });
    let old = callers.filter(|lost| stop(lost.reason.as_bytes()).is_some());
    let end = match it.0.place("stack_end") {
        Some(_) => it.bytes("stack_end"),
        None if frames.is_empty() => Some(output::NO_STACK.into()),
        None => old.map(|lost| lost.reason.into()),
    };
    let ends = end.as_deref().and_then(stop);
    let reason = ends.map(output::stop_reason);
    let is_stop =
        move |lost: &Lost| lost.detail == "callers" && Some(lost.reason) == reason.as_deref();
    let is_known = it.0.place("stack_trace").is_some();
    let is_none = !is_known || end.as_deref() == Some(output::NO_STACK.as_bytes());
    let stack = (!is_none).then(|| StackTrace {
        frames,
        stop: ends.unwrap_or(Stop::Outermost),
        gaps: !complete,
    });
    (stack, Box::new(is_stop))
}

/// Why a walk ended, from the words of [`output::stop_reason`].
fn stop(words: &[u8]) -> Option<Stop> {
    let at = find(words, b"0x").map_or(&b""[..], |at| &words[at..]);
    let end = at.iter().position(|&byte| byte == b' ').unwrap_or(at.len());
    let address = ProcessAddress(hexadecimal(&at[..end]).unwrap_or(0));
    let all = [
        Stop::Outermost,
        Stop::Depth,
        Stop::StackNotCaptured(address),
        Stop::NoCaller(address),
        Stop::NoProgress(address),
        Stop::BadReturn(address),
    ];
    all.into_iter()
        .find(|stop| output::stop_reason(*stop).as_bytes() == words)
}

/// The place of the instruction: that of the crash's own frame, if it has one.
fn instruction(it: &Fields<'_, '_>, frames: &[StackFrame], options: &Options) -> Location {
    let text = it.bytes("instruction_symbol");
    let pc = it.address("instruction_pointer");
    let own = frames
        .iter()
        .find(|frame| !frame.inlined && frame.trust == Trust::Context && Some(frame.address) == pc);
    let mut location = own.map_or(Location::default(), |frame| frame.location.clone());
    if text == output::symbol(&location, options.cpp_names, true) && text.is_some() {
        return location;
    }
    location.symbol = text.as_deref().and_then(|text| {
        let end = find(text, b" (/").unwrap_or(text.len());
        let path = text.get(end + 2..).and_then(|path| path.strip_suffix(b")"));
        if let Some(path) = path {
            location.module = Some(path.to_vec());
        }
        let (name, offset) = named(text, location.module.as_deref())?;
        Some(Symbol { name, offset })
    });
    match it.bytes("instruction_place") {
        // The words of it, whole.
        Some(place) if location.symbol.is_none() => Location {
            module: Some(place),
            ..Location::default()
        },
        _ => location,
    }
}

fn first_fault(it: &Fields<'_, '_>) -> FirstFault {
    let signal = it.signal("signal");
    FirstFault {
        signal,
        code: code(signal, it.value("code")),
        address: it.address("address"),
        pc: it.address("pc").unwrap_or(ProcessAddress(0)),
        access: it.word("access", &Access::ALL, Access::as_str),
        age_ms: it.number("age_ms").unwrap_or(0),
    }
}

fn code_bytes(it: &Fields<'_, '_>) -> Code {
    Code {
        address: it.address("address").unwrap_or(ProcessAddress(0)),
        bytes: it.hex("bytes"),
        instruction: it.small("instruction").unwrap_or(0) as usize,
        operands: it.bytes("operands"),
    }
}

fn nearby(it: &Fields<'_, '_>) -> NearbyMapping {
    let text = it.0.text();
    let holds: Vec<_> = it.elements("holds");
    let holds = holds.iter().filter_map(|word| json::string(word.of(text)));
    NearbyMapping {
        start: it.address("start").unwrap_or(ProcessAddress(0)),
        end: it.address("end").unwrap_or(ProcessAddress(0)),
        flags: VmFlags::of_letters(&it.bytes("permissions").unwrap_or_default()),
        file_offset: address(it.value("file_offset")).map(FileOffset),
        name: it.bytes("name").unwrap_or_default(),
        holds: holds
            .filter_map(|word| {
                let mut all = Near::ALL.into_iter();
                all.find(|near| near.as_str().as_bytes() == word)
            })
            .collect(),
    }
}

/// What the registers point at, under the registers' own names.
fn notes(it: &Fields<'_, '_>, registers: Option<&Registers>) -> Vec<(&'static str, Vec<u8>)> {
    let mut notes = Vec::new();
    let (Some(object), Some(registers)) = (it.object("register_notes"), registers) else {
        return notes;
    };
    for (name, value) in object.members() {
        let name = name.of(object.text());
        let known = registers.named().find(|known| known.0.as_bytes() == name);
        let note = json::string(value.of(object.text()));
        if let (Some((name, _)), Some(note)) = (known, note) {
            notes.push((name, note));
        }
    }
    notes
}

fn exit(it: &Fields<'_, '_>) -> Exit {
    let status = it.number("status").and_then(|it| u8::try_from(it).ok());
    match (status, signal(it.value("signal"))) {
        (Some(status), _) => Exit::Status(status),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// A signal's number by its name.
pub(super) fn signal(name: &[u8]) -> Option<i32> {
    let name = json::string(name)?;
    (1..=64).find(|&number| signals::signal_name(number).as_bytes() == name)
}

/// A code's number by its name; zero if it has none.
fn code(signal: i32, name: &[u8]) -> i32 {
    let name = json::string(name).unwrap_or_default();
    if let Some(number) = name.strip_prefix(b"code ") {
        let number = std::str::from_utf8(number).ok();
        return number.and_then(|number| number.parse().ok()).unwrap_or(0);
    }
    let mut codes = CODES;
    let is_it = |code: &i32| signals::code_name(signal, *code).as_bytes() == name;
    codes.find(is_it).unwrap_or(0)
}

/// An address, or another number in hexadecimal.
pub(super) fn address(value: &[u8]) -> Option<u64> {
    hexadecimal(&json::string(value)?)
}

/// 16 digits, without `0x`.
pub(super) fn digest(value: &[u8]) -> Option<u64> {
    hexadecimal(&[b"0x", &*json::string(value)?].concat())
}

/// `name` of `name+0xoff (/path)`.
pub(super) fn name<'a>(text: &'a [u8], module: Option<&[u8]>) -> &'a [u8] {
    let symbol = without_path(text, module);
    &symbol[..find_last(symbol, b"+0x").unwrap_or(symbol.len())]
}

/// Name and offset of such a text.
fn named(text: &[u8], module: Option<&[u8]>) -> Option<(Vec<u8>, u64)> {
    let symbol = without_path(text, module);
    let at = find_last(symbol, b"+0x")?;
    Some((symbol[..at].to_vec(), hexadecimal(&symbol[at + 1..])?))
}

fn without_path<'a>(text: &'a [u8], module: Option<&[u8]>) -> &'a [u8] {
    let path = [b" (", module.unwrap_or_default(), b")"].concat();
    text.strip_suffix(&*path).unwrap_or(text)
}
