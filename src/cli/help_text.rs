//! What `--help` prints: a text, and in it the options of a table, in columns.

use super::options::{Default, Group, Opt, Value};

/// A help text: its lines, with the options in place of `{options}`. Explanations begin
/// in this column.
pub(super) fn render(text: &str, groups: &[Group], column: usize) -> String {
    let (before, after) = text.split_once("{options}\n").unwrap_or((text, ""));
    let mut out = before.to_string();
    for (number, (heading, options)) in groups.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        if !heading.is_empty() {
            out.push_str(&format!("{heading}:\n"));
        }
        for option in *options {
            explain(&mut out, option, column);
        }
    }
    out + after
}

/// Where a default stands.
const DEFAULT_COLUMN: usize = 69;

fn explain(out: &mut String, option: &Opt, column: usize) {
    let mut line = match option.short {
        Some(short) => format!("  -{short}, --{}", option.long),
        None => format!("      --{}", option.long),
    };
    if let Some(word) = option.word() {
        let space = if word.starts_with('[') { "" } else { " " };
        line.push_str(&format!("{space}{word}"));
    }
    let mut default = match option.default {
        Default::None => String::new(),
        _ => format!("[{}]", option.shown_default()),
    };
    for text in option.help.lines() {
        let mut text = text.to_string();
        if let Value::Number(_, _, from, to) | Value::Optional(_, _, from, to, _) = option.value {
            text = text.replace("{range}", &format!("{from} to {to}"));
        }
        if text.contains("[]") {
            text = text.replace("[]", &std::mem::take(&mut default));
        }
        if line.len() > column {
            out.push_str(&(std::mem::take(&mut line) + "\n"));
        }
        line = format!("{line:column$}{text}");
    }
    if !default.is_empty() {
        if line.len() >= DEFAULT_COLUMN {
            out.push_str(&line);
            out.push('\n');
            line.clear();
        }
        line = format!("{line:DEFAULT_COLUMN$}{default}");
    }
    out.push_str(&line);
    out.push('\n');
}
