//! Reports against docs/report.schema.json.
//!
//! In: a line of JSON. Out: where it breaks the schema. This is the part of JSON Schema
//! (draft 2020-12) that our schema uses; a word that is not known here is a failure, so
//! that nothing in the schema is passed over. Tests of other crates include this file
//! by its path.

use std::collections::HashMap;
use std::path::Path;

use regex_lite::Regex;
use serde_json::Value;

/// What the schema may be made of; the first four say nothing about a value.
const WORDS: [&str; 15] = [
    "$schema",
    "$id",
    "$defs",
    "title",
    "$ref",
    "type",
    "enum",
    "anyOf",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "pattern",
    "minimum",
    "description",
];

/// A schema, and what in it other parts refer to.
#[derive(Debug)]
pub struct Schema {
    pub root: Value,
    /// Compiled once: a test may check ten thousand lines.
    patterns: HashMap<String, Regex>,
}

impl Schema {
    /// The one in docs/.
    pub fn of_reports() -> Schema {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
        let text = std::fs::read_to_string(path).expect("docs/report.schema.json can be read");
        let root: Value = serde_json::from_str(&text).expect("the schema is JSON");
        let mut patterns = HashMap::new();
        compile_patterns(&root, &mut patterns);
        Schema { root, patterns }
    }

    /// What is wrong with a value of one of the schema's definitions, such as `report`;
    /// empty for one that fits.
    pub fn errors(&self, definition: &str, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.check(self.definition(definition), value, definition, &mut errors);
        errors
    }

    fn definition(&self, name: &str) -> &Value {
        let found = &self.root["$defs"][name];
        assert!(found.is_object(), "the schema has no definition {name}");
        found
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        let rules = schema.as_object().expect("a schema is an object");
        for (word, rule) in rules {
            assert!(
                WORDS.contains(&word.as_str()),
                "{word}: not known to this test"
            );
            match word.as_str() {
                "$ref" => {
                    let name = rule.as_str().and_then(|path| path.strip_prefix("#/$defs/"));
                    let target = self.definition(name.expect("a reference into $defs"));
                    self.check(target, value, place, errors);
                }
                "anyOf" => self.check_any(rule, value, place, errors),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{place}[{index}]"), errors);
                    }
                }
                "properties" | "additionalProperties" => {}
                "pattern" => {
                    let pattern = &self.patterns[rule.as_str().expect("a pattern")];
                    if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                        errors.push(format!("{place}: {value} breaks pattern: {rule}"));
                    }
                }
                _ => check_value(word, rule, value, place, errors),
            }
        }
        self.check_members(schema, value, place, errors);
    }

    fn check_any(&self, options: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        let mut reasons = Vec::new();
        for option in options.as_array().expect("anyOf is a list") {
            let mut failed = Vec::new();
            self.check(option, value, place, &mut failed);
            if failed.is_empty() {
                return;
            }
            reasons.extend(failed);
        }
        errors.append(&mut reasons);
    }

    fn check_members(&self, schema: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        for (key, member) in value.as_object().into_iter().flatten() {
            let place = format!("{place}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (known @ Value::Object(_), _) => self.check(known, member, &place, errors),
                (_, Value::Bool(false)) => errors.push(format!("{place}: not in the schema")),
                (_, other @ Value::Object(_)) => self.check(other, member, &place, errors),
                _ => {}
            }
        }
    }
}

fn compile_patterns(schema: &Value, patterns: &mut HashMap<String, Regex>) {
    if let Some(pattern) = schema["pattern"].as_str() {
        let compiled = Regex::new(pattern).expect("a pattern");
        patterns.insert(pattern.to_owned(), compiled);
    }
    for part in schema.as_object().into_iter().flat_map(|it| it.values()) {
        compile_patterns(part, patterns);
    }
    for part in schema.as_array().into_iter().flatten() {
        compile_patterns(part, patterns);
    }
}

/// The rules that look at one value alone.
fn check_value(word: &str, rule: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
    let list = rule.as_array().map_or(&[][..], Vec::as_slice);
    let fits = match word {
        "type" => has_type(value, rule.as_str().expect("one type")),
        "enum" => list.contains(value),
        "required" => {
            let is_there = |key: &Value| value.get(key.as_str().expect("a key")).is_some();
            !value.is_object() || list.iter().all(is_there)
        }
        "minimum" => value.as_i64().is_none_or(|it| Some(it) >= rule.as_i64()),
        _ => true,
    };
    if !fits {
        errors.push(format!("{place}: {value} breaks {word}: {rule}"));
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("{other}: not a type that the schema may use"),
    }
}
