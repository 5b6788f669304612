//! docs/report.schema.json is what the tool writes, and docs/json.md describes all of it.
//!
//! The golden files are checked here. The live tests check every line that they read,
//! see tests/live/report.rs.

#[path = "schema/validate.rs"]
mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};
use validate::Schema;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a golden file, as JSON.
fn golden(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a golden file can be read");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn golden_reports_fit() {
    // What the desk is given to read: reports cut short, and lines that are none.
    const INPUT: &str = "desk_reports.json";
    let schema = Schema::of_reports();
    let mut count = 0;
    for entry in fs::read_dir(repository().join("tests/golden")).expect("tests/golden") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name").to_owned();
        if !name.ends_with(".json") || name == INPUT {
            continue;
        }
        let definition = if name.ends_with("summary.json") {
            "summary"
        } else if name.ends_with("desk_by.json") {
            "share"
        } else if name.ends_with("diff.json") {
            "difference"
        } else {
            "report"
        };
        for value in golden(&path) {
            let errors = schema.errors(definition, &value);
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} lines were checked");
}

#[test]
fn wrong_reports_do_not_fit() {
    let schema = Schema::of_reports();
    let path = repository().join("tests/golden/manual_json.json");
    let right = golden(&path).remove(0);
    for (key, value) in [
        ("pid", json!("9876")),
        ("pid", json!(-1)),
        ("fault_address", json!("0x8")),
        ("fault_address", json!(8)),
        ("cause", json!("bad_luck")),
        ("signature", json!("123456789abcdef")),
        ("lost", json!(["nothing"])),
        ("sender", json!({"pid": 1})),
        ("sender", json!({"pid": 1, "uid": 0, "gid": 0})),
        ("stack_trace", json!([{}])),
        ("a_new_field", json!(null)),
    ] {
        let mut wrong = right.clone();
        wrong[key] = value.clone();
        assert!(
            !schema.errors("report", &wrong).is_empty(),
            "{key}: {value}"
        );
    }
    let members = right.as_object().expect("an object");
    let required = &schema.root["$defs"]["report"]["required"];
    for key in required.as_array().expect("a list") {
        let mut wrong = members.clone();
        wrong.remove(key.as_str().expect("a key"));
        assert!(
            !schema.errors("report", &wrong.into()).is_empty(),
            "without {key}"
        );
    }
}

/// Each field of the schema has a row of its own in docs/json.md.
#[test]
fn every_field_is_described() {
    let page = fs::read_to_string(repository().join("docs/json.md")).expect("docs/json.md");
    let schema = Schema::of_reports();
    let definitions = schema.root["$defs"].as_object().expect("definitions");
    for (name, definition) in definitions {
        let fields = definition["properties"].as_object();
        for field in fields.into_iter().flat_map(|fields| fields.keys()) {
            let has_row = page
                .lines()
                .any(|line| line.starts_with('|') && line.contains(&format!("`{field}`")));
            assert!(has_row, "docs/json.md has no row for {field} of {name}");
        }
    }
}

/// A schema that is wrong must not pass for one that allows everything.
#[test]
fn patterns_hold_from_end_to_end() {
    let schema = Schema::of_reports();
    let mut stack = vec![&schema.root];
    while let Some(value) = stack.pop() {
        match value {
            Value::Object(members) => {
                if let Some(pattern) = members.get("pattern").and_then(Value::as_str) {
                    assert!(pattern.starts_with('^'), "{pattern}");
                }
                if members.get("type") == Some(&json!("object")) {
                    assert!(members.contains_key("additionalProperties"), "{members:?}");
                }
                stack.extend(members.values());
            }
            Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
}
