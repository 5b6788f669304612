//! `segfault_analyzer summarize`: reports as JSON in, a table of crashes out.
//!
//! As text a line has columns for people, in local time; as JSON it is an object with all
//! fields. If some crashes have no line of their own, the last line counts them together.

use super::input::{Input, Next};
use super::json::{self, Object, Span};
use super::sighting::Sighting;
use super::table::{Figures, Row, Table};
use super::text_sighting::TextSighting;
use super::{add, find_last, report_of, say};
use crate::base::bytes::find;
use crate::base::error::{Error, Result};
use crate::cli::desk::Task;
use crate::report::output::{self, escape};
use crate::sys::messages::print;
use crate::sys::time;

/// Characters of a name that are shown.
const MAX_SHOWN: usize = 40;

const HEADING: &str = "\
Deaths  First seen           Last seen            Program          Cause               \
Signature         Calls
";

/// Behind the path of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// In place of a crash, if there are many.
const OTHERS: &[u8] =
    br#"{"program":null,"signal":null,"cause":null,"signature":null,"group":null,"calls":[]}"#;

pub(super) fn run(task: Task) -> Result<()> {
    let mut input = Input::new(task.inputs);
    let mut table = Table::default();
    each_report(&mut input, &mut |sighting| table.add(sighting));
    let mut out = Vec::new();
    let is_empty = table.is_empty();
    // A table without a line says that there were no crashes: only if all was read.
    let is_unknown = is_empty && (input.has_failed() || input.has_foreign());
    if !task.json && !is_unknown {
        add(&mut out, &[HEADING.as_bytes()]);
    }
    for row in table.ranked() {
        put(&mut out, row, task.json, false);
    }
    if table.others.1.reports > 0 {
        put(&mut out, &table.others, task.json, true);
    }
    print(&out)?;
    finish(&table, &input)
}

/// Reads all reports of an input, in JSON and as text; counts what is none.
pub(super) fn each_report(input: &mut Input, take: &mut dyn FnMut(&Sighting<'_>)) {
    // Times in text are local ones.
    time::settle_time_zone();
    let mut text = TextSighting::default();
    let mut read = Vec::new();
    loop {
        let mut is_foreign = false;
        let mut is_end = false;
        match input.next() {
            Next::Line(line) => match Sighting::read(report_of(line)) {
                Some(sighting) => {
                    text.finish(&mut read);
                    take_text(&mut read, take);
                    take(&sighting);
                }
                None => is_foreign = !text.take(line, &mut read),
            },
            Next::Piece(_) => text.finish(&mut read),
            Next::End => {
                text.finish(&mut read);
                is_end = true;
            }
        }
        take_text(&mut read, take);
        input.foreign += u64::from(is_foreign);
        if is_end {
            break;
        }
    }
}

/// Takes a report that was text, if there is one.
fn take_text(read: &mut Vec<u8>, take: &mut dyn FnMut(&Sighting<'_>)) {
    if let Some(sighting) = Sighting::read(read) {
        take(&sighting);
    }
    read.clear();
}

/// Says what the table does not hold.
pub(super) fn finish(table: &Table, input: &Input) -> Result<()> {
    say_suppressed(table.suppressed);
    input.finish()?;
    if table.is_empty() && input.has_foreign() {
        return Err(Error::failed(
            "no reports found: summarize reads reports of segfault_analyzer, in JSON or as text",
        ));
    }
    Ok(())
}

/// Says how many crashes no report is about.
pub(super) fn say_suppressed(count: u64) {
    if count > 0 {
        say(&format!(
            "--max-per-minute held back {count} more crashes of unknown kinds: they are not in the table"
        ));
    }
}

/// Appends a line for a row.
fn put(out: &mut Vec<u8>, row: &Row, is_json: bool, is_others: bool) {
    let (crash, figures) = row;
    let crash = if is_others { OTHERS } else { crash };
    if !is_json {
        add(out, &[text(crash, figures, is_others).as_bytes()]);
        return;
    }
    put_figures(out, figures);
    let others = if is_others {
        &b"true}\n"[..]
    } else {
        b"false}\n"
    };
    // The crash without the brackets around it.
    let crash = &crash[1..crash.len() - 1];
    add(out, &[b",", crash, b",\"others\":", others]);
}

/// Appends the figures as the first members of an object.
pub(super) fn put_figures(out: &mut Vec<u8>, figures: &Figures) {
    let mut number = |name: &str, number: Option<u64>| {
        let number = number.map_or("null".into(), |number| number.to_string());
        add(out, &[name.as_bytes(), number.as_bytes()]);
    };
    number("{\"deaths\":", Some(figures.deaths));
    number(",\"reports\":", Some(figures.reports));
    number(",\"first_seen\":", figures.first_ms);
    number(",\"last_seen\":", figures.last_ms);
}

/// A line of columns.
fn text(crash: &[u8], figures: &Figures, is_others: bool) -> String {
    let crash = Object::read(crash, Span::whole(crash));
    let value = |key| crash.as_ref().map_or(&b""[..], |crash| crash.value(key));
    let mut line = format!(
        "{:>6}  {:<19}  {:<19}  {:<15}  {:<18}  {:<16}  ",
        figures.deaths,
        local(figures.first_ms),
        local(figures.last_ms),
        shown(value("program")),
        shown(value("cause")),
        shown(value("signature")),
    );
    put_calls(&mut line, value("calls"));
    line.push_str(if is_others { "others\n" } else { "\n" });
    line
}

/// Appends calls, innermost first.
pub(super) fn put_calls(line: &mut String, calls: &[u8]) {
    let calls_at = json::elements(calls, Span::whole(calls)).unwrap_or_default();
    for (number, call) in calls_at.iter().enumerate() {
        if number > 0 {
            line.push_str(" <- ");
        }
        line.push_str(&shown(call.of(calls)));
    }
}

/// A time by the clock on the wall.
pub(super) fn local(unix_ms: Option<u64>) -> String {
    let Some(ms) = unix_ms else {
        return "unknown".into();
    };
    let offset_s = time::utc_offset_s((ms / 1000) as i64);
    let mut shown = output::date_time(ms, offset_s);
    shown.truncate(shown.len().saturating_sub(".000".len()));
    shown
}

/// A value for the terminal, cut to a maximum length: the name in `name+0xoff (/path)`, or the
/// last part of a path.
pub(super) fn shown(value: &[u8]) -> String {
    let mut text = json::string(value).unwrap_or(b"-".to_vec());
    match find_last(&text, b"+0x") {
        Some(end) if text.ends_with(b")") => text.truncate(end),
        _ => {
            drop(text.drain(..find_last(&text, b"/").map_or(0, |slash| slash + 1)));
            // A word more would break the column.
            if let Some(at) = find(&text, DELETED) {
                drop(text.drain(at..at + DELETED.len()));
            }
        }
    }
    let mut shown = String::new();
    escape::text(&mut shown, &text);
    if let Some((end, _)) = shown.char_indices().nth(MAX_SHOWN) {
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn names_fit_into_their_columns() {
        for (value, expected) in [
            (r#""/srv/bill (deleted)""#, "bill"),
            (r#""/srv/bill (deleted)@0x1a3""#, "bill@0x1a3"),
            (r#""/srv/bill+0x11a3""#, "bill+0x11a3"),
            (r#""price_of+0x3 (/srv/bill (deleted))""#, "price_of"),
            ("null", "-"),
        ] {
            assert_eq!(shown(value.as_bytes()), expected);
        }
    }
}
