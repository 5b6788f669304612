//! `segfault_analyzer summarize --by FIELD`: how many crashes each value of a field has.
//!
//! In: reports as JSON. Out: a line for each value, the one with the most deaths first. The
//! reports that do not have the field are counted in a line without a value, and
//! those of values that came after the table was full in a last line.

use super::add;
use super::input::Input;
use super::json::{Object, Span};
use super::sighting::Sighting;
use super::summarize::{each_report, finish, local, put_figures, shown};
use super::table::{Row, Table};
use crate::base::error::Result;
use crate::cli::desk::{Field, Task};
use crate::sys::messages::print;
use crate::sys::time;

pub(super) fn run(task: Task) -> Result<()> {
    let Some(field) = task.by else {
        return Ok(());
    };
    let mut input = Input::new(task.inputs);
    let mut table = Table::default();
    each_report(&mut input, &mut |sighting| {
        count(&mut table, field, sighting)
    });
    time::settle_time_zone();
    let mut out = Vec::new();
    // A table without a line says that there were no crashes: only if all was read.
    if !(task.json || table.is_empty() && input.has_failed()) {
        let mut heading = field.as_str().to_owned();
        heading[..1].make_ascii_uppercase();
        let columns = "Deaths  Reports  First seen           Last seen            ";
        add(&mut out, &[columns.as_bytes(), heading.as_bytes(), b"\n"]);
    }
    for row in table.ranked() {
        put(&mut out, row, task.json, b"false");
    }
    if table.others.1.reports > 0 {
        let others = (value(field, b""), table.others.1);
        put(&mut out, &others, task.json, b"true");
    }
    print(&out)?;
    finish(&table, &input)
}

fn count(table: &mut Table, field: Field, sighting: &Sighting<'_>) {
    let given = sighting.field(field);
    table.add_as(given.to_vec(), sighting, &|| value(field, given));
}

/// An object with the field and its value.
fn value(field: Field, value: &[u8]) -> Vec<u8> {
    let mut out = b"{\"by\":\"".to_vec();
    let value = if value.is_empty() { b"null" } else { value };
    add(
        &mut out,
        &[field.as_str().as_bytes(), b"\",\"value\":", value, b"}"],
    );
    out
}

/// Appends a line for a row.
fn put(out: &mut Vec<u8>, (object, figures): &Row, is_json: bool, is_others: &[u8]) {
    if is_json {
        put_figures(out, figures);
        // The value without the brackets around it.
        let members = &object[1..object.len() - 1];
        add(out, &[b",", members, b",\"others\":", is_others, b"}\n"]);
        return;
    }
    let value = Object::read(object, Span::whole(object)).map(|object| object.value("value"));
    let value = match is_others {
        b"true" => "others".into(),
        _ => shown(value.unwrap_or_default()),
    };
    let line = format!(
        "{:>6}  {:>7}  {:<19}  {:<19}  {value}\n",
        figures.deaths,
        figures.reports,
        local(figures.first_ms),
        local(figures.last_ms),
    );
    add(out, &[line.as_bytes()]);
}
