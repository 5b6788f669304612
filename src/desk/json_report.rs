//! One report as a line of JSON: its frames named, everything else as it was.
//!
//! In: a line. Out: the line with other values for `instruction_symbol`,
//! `stack_trace`, also those of other threads, `group` and `lost`, all other bytes unchanged. A frame that has a name
//! keeps it, unless the file has lines for it: then name, line and inlined calls come from
//! the file.

use super::json::{self, Object, Span};
use super::naming::Desk;
#[cfg(feature = "desk")]
use super::naming::Replaced;
use super::{add, hexadecimal, is_report, regroup, unhex};
use crate::analyze::located::Located;
use crate::base::address::FileAddress;
use crate::base::bytes::find;
use crate::config::CppNames;
use crate::report::output::{self, escape};
use crate::report::Location;

/// Appends the report with its frames named; false if the line is not a report, which
/// then is appended as it is.
pub(super) fn symbolize(line: &[u8], desk: &mut Desk, out: &mut Vec<u8>) -> bool {
    let Some((report, stacks)) = read(line) else {
        add(out, &[line]);
        return false;
    };
    desk.clear();
    let all = stacks.iter().flat_map(|stack| {
        let frames = stack.frames.iter().filter(|frame| !is_derived(frame));
        frames.enumerate()
    });
    for (number, frame) in all {
        #[cfg(not(feature = "desk"))]
        let _ = number;
        let string = |key| json::string(frame.value(key));
        let location = Location {
            module: string("module"),
            module_offset: string("module_offset")
                .and_then(|offset| hexadecimal(&offset))
                .map(FileAddress),
            build_id: string("build_id").and_then(|digits| unhex(&digits)),
            ..Location::default()
        };
        let exact = is_context(frame)
            || frame.value("trust") == b"\"signal\""
            || frame.value("exact") == b"true";
        desk.ask(location, exact, !frame.value("symbol").is_empty());
        #[cfg(feature = "desk")]
        if number > 0 && matches!(frame.value("trust"), b"\"cfi\"" | b"\"leaf\"") {
            desk.last_is_caller();
        }
    }
    desk.name();
    // The crash's own stack is the first one, others have their names after it.
    let frames = stacks.first().map_or(&[][..], |stack| &stack.frames);
    let calls = frames.iter().filter(|frame| !is_derived(frame));
    let is_new = calls
        .clone()
        .zip(&desk.located)
        .any(|(frame, found)| found.location.symbol.is_some() && frame.value("symbol").is_empty());
    let group = regroup::group(&report, calls, &desk.located);
    if is_new && group.is_none() && !report.value("group").is_empty() {
        desk.lost.push((
            "group",
            "not recomputed from the new names: the report does not hold all frames that it is made of".into(),
        ));
    }
    put(&report, out, &mut |key, old, out| match key {
        b"stack_trace" => put_stack(frames, 0, desk, out),
        b"threads" => put_stacks(&report, &stacks, desk, out),
        b"instruction_symbol" => put_instruction(frames, desk, old, out),
        b"group" => put_group(group, out),
        b"lost" => put_lost(&desk.lost, old, out),
        _ => false,
    });
    true
}

/// The calls of a thread.
struct Stack<'a> {
    place: Span,
    /// Calls of the stacks before, which are not inlined.
    before: usize,
    frames: Vec<Object<'a>>,
}

/// A report, and its stacks: that of the crash, and those of other threads.
fn read(line: &[u8]) -> Option<(Object<'_>, Vec<Stack<'_>>)> {
    let report = Object::read(line, Span::whole(line)).filter(is_report)?;
    let mut places = vec![report.place("stack_trace")];
    if let Some(threads) = report.place("threads") {
        for thread in json::objects(line, threads)? {
            places.push(thread.place("stack_trace"));
        }
    }
    let mut stacks = Vec::new();
    let mut before = 0;
    // Those are missing that were made without -t.
    for place in places.into_iter().flatten() {
        let frames = json::objects(line, place)?;
        let calls = frames.iter().filter(|frame| !is_derived(frame)).count();
        stacks.push(Stack {
            place,
            before,
            frames,
        });
        before += calls;
    }
    Some((report, stacks))
}

/// Whether a frame is not on the stack: an inlined call, or one that a tail call replaced.
fn is_derived(frame: &Object<'_>) -> bool {
    frame.value("inlined") == b"true" || frame.value("tail_call") == b"true"
}

fn is_context(frame: &Object<'_>) -> bool {
    frame.value("trust") == b"\"context\""
}

/// Whether more than a name was found.
fn has_lines(located: &Located) -> bool {
    located.location.file.is_some() || !located.inlined.is_empty()
}

/// Whether the files have more about a frame than the report.
fn is_news(frame: &Object<'_>, located: &Located) -> bool {
    let new_name = located.location.symbol.is_some() && frame.value("symbol").is_empty();
    new_name || has_lines(located)
}

/// Appends the other threads, and in them the stacks with the new names.
fn put_stacks(report: &Object<'_>, stacks: &[Stack<'_>], desk: &Desk, out: &mut Vec<u8>) -> bool {
    let Some(Span { mut start, end }) = report.place("threads") else {
        return false;
    };
    let text = report.text();
    for stack in stacks {
        let place = stack.place;
        // The crash's own is elsewhere.
        if place.start < start || place.end > end {
            continue;
        }
        let until = place.start;
        add(out, &[Span { start, end: until }.of(text)]);
        if !put_stack(&stack.frames, stack.before, desk, out) {
            add(out, &[place.of(text)]);
        }
        start = place.end;
    }
    add(out, &[Span { start, end }.of(text)]);
    true
}

/// Appends the stack trace with the new names, if there are any: the desk has some for each
/// frame that is not inlined, after those of so many others.
fn put_stack(frames: &[Object<'_>], before: usize, desk: &Desk, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let mut changed = false;
    let mut located = desk.located.get(before..).unwrap_or_default().iter();
    #[cfg(feature = "desk")]
    let mut tail_calls = desk.tail_calls.get(before..).unwrap_or_default().iter();
    let mut written = 0;
    out.push(b'[');
    for (at, frame) in frames.iter().enumerate() {
        if is_derived(frame) {
            continue;
        }
        let Some(found) = located.next() else {
            break;
        };
        #[cfg(feature = "desk")]
        let tail_calls = tail_calls.next();
        // Calls inlined there, as they are or as they were reported.
        if has_lines(found) {
            written = at;
            #[cfg(feature = "desk")]
            for call in tail_calls.into_iter().flatten() {
                put_tail_call(out, frame, call, found, desk.cpp_names);
            }
            for call in &found.inlined {
                put_frame(out, frame, Some(call), true, desk.cpp_names);
            }
        }
        for old in &frames[written..at] {
            put_frame(out, old, None, false, desk.cpp_names);
        }
        let news = is_news(frame, found);
        let known = news.then_some(&found.location);
        put_frame(out, frame, known, false, desk.cpp_names);
        changed |= news;
        written = at + 1;
    }
    for old in &frames[written..] {
        put_frame(out, old, None, false, desk.cpp_names);
    }
    // The last comma.
    out.pop();
    out.push(b']');
    if !changed {
        out.truncate(begin);
    }
    changed
}

/// Appends a frame and a comma, with its new name.
fn put_frame(
    out: &mut Vec<u8>,
    frame: &Object<'_>,
    known: Option<&Location>,
    inlined: bool,
    cpp_names: CppNames,
) {
    put(frame, out, &mut |key, _, out| {
        let Some(known) = known else {
            return false;
        };
        let lines = inlined || known.file.is_some();
        match key {
            b"symbol" if inlined || known.symbol.is_some() => {
                put_string(out, output::symbol(known, cpp_names, true).as_deref());
                if let (b"", Some(name)) = (frame.value("mangled"), output::mangled(known)) {
                    add(out, &[b",\"mangled\":"]);
                    put_string(out, Some(name));
                }
            }
            b"mangled" if inlined || known.symbol.is_some() => {
                put_string(out, output::mangled(known));
            }
            b"file" if lines => put_string(out, known.file.as_deref()),
            b"line" if lines => match known.line {
                Some(line) => add(out, &[line.to_string().as_bytes()]),
                None => add(out, &[b"null"]),
            },
            b"inlined" if inlined => add(out, &[b"true"]),
            _ => return false,
        }
        true
    });
    out.push(b',');
}

/// Appends the frame of a call that a tail call replaced, and those of the calls inlined
/// there; `frame` called it, and is `found`.
#[cfg(feature = "desk")]
fn put_tail_call(
    out: &mut Vec<u8>,
    frame: &Object<'_>,
    call: &Replaced,
    found: &Located,
    cpp_names: CppNames,
) {
    let Replaced {
        located: call,
        is_exact,
    } = call;
    let place = |located: &Located| located.location.module_offset.map(|at| at.0);
    let address = json::string(frame.value("address")).and_then(|text| hexadecimal(&text));
    let (Some(address), Some(at), Some(outer)) = (address, place(call), place(found)) else {
        return;
    };
    let address = format!("\"{:#x}\"", address.wrapping_sub(outer).wrapping_add(at));
    let inlined = call.inlined.iter().map(|location| (true, location));
    for (is_inlined, location) in inlined.chain([(false, &call.location)]) {
        let mut named = Vec::new();
        put_frame(&mut named, frame, Some(location), true, cpp_names);
        // The comma.
        named.pop();
        let Some(named) = Object::read(&named, Span::whole(&named)) else {
            return;
        };
        put(&named, out, &mut |key, _, out| {
            match key {
                b"address" => add(out, &[address.as_bytes()]),
                b"module_offset" => add(out, &[format!("\"{at:#x}\"").as_bytes()]),
                b"inlined" => add(out, &[is_inlined.to_string().as_bytes()]),
                _ => return false,
            }
            true
        });
        out.pop();
        if *is_exact {
            add(out, &[b",\"exact\":true"]);
        }
        if !is_inlined {
            add(out, &[b",\"tail_call\":true"]);
        }
        add(out, &[b"},"]);
    }
}

/// Appends the name of the crash's instruction, if it had the old name of its frame.
fn put_instruction(frames: &[Object<'_>], desk: &Desk, old: &[u8], out: &mut Vec<u8>) -> bool {
    let own = frames.iter().find(|frame| !is_derived(frame));
    let (Some(frame), Some(found)) = (own, desk.located.first()) else {
        return false;
    };
    let before = frame.place("symbol").map(|place| place.of(frame.text()));
    let named = found.location.symbol.is_some() && is_news(frame, found);
    let same = named && is_context(frame) && before == Some(old);
    if same {
        put_string(
            out,
            output::symbol(&found.location, desk.cpp_names, true).as_deref(),
        );
    }
    same
}

/// Appends the group, if it could be computed again.
fn put_group(group: Option<u64>, out: &mut Vec<u8>) -> bool {
    if let Some(group) = group {
        add(out, &[format!("\"{group:016x}\"").as_bytes()]);
    }
    group.is_some()
}

/// Appends `lost`, with new entries that the report does not have.
fn put_lost(lost: &[(&str, String)], old: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(begin) = old.strip_suffix(b"]") else {
        return false;
    };
    add(out, &[begin]);
    for (detail, reason) in lost {
        let mut new = Vec::new();
        put_string(&mut new, Some(format!("{detail}: {reason}").as_bytes()));
        if find(old, &new).is_none() {
            let comma = if out.ends_with(b"[") { &b""[..] } else { b"," };
            add(out, &[comma, &new]);
        }
    }
    out.push(b']');
    true
}

/// Appends a string, or null.
fn put_string(out: &mut Vec<u8>, text: Option<&[u8]>) {
    let Some(text) = text else {
        return add(out, &[b"null"]);
    };
    if escape::is_plain_json(text) {
        return add(out, &[b"\"", text, b"\""]);
    }
    let mut quoted = String::from("\"");
    escape::json(&mut quoted, text);
    add(out, &[quoted.as_bytes(), b"\""]);
}

/// What appends another value for a key, or does not: key, value, and where to.
type Replace<'a> = &'a mut dyn FnMut(&[u8], &[u8], &mut Vec<u8>) -> bool;

/// Appends an object with other values for some keys.
fn put(object: &Object<'_>, out: &mut Vec<u8>, replace: Replace<'_>) {
    let text = object.text();
    let Span { mut start, end } = object.whole();
    for (key, value) in object.members() {
        let end = value.start;
        add(out, &[Span { start, end }.of(text)]);
        if !replace(key.of(text), value.of(text), out) {
            add(out, &[value.of(text)]);
        }
        start = value.end;
    }
    add(out, &[Span { start, end }.of(text)]);
}
