//! One line of the monitor's JSON, with the questions that tests ask of it.

use std::fmt;
use std::ops::Index;
use std::sync::LazyLock;

use serde_json::Value;

use crate::schema::Schema;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of_reports);

/// A parsed report; `report["key"]` is null where the key is absent, and the
/// tests treat both alike, as the format does.
#[derive(Clone)]
pub struct Report {
    pub line: String,
    pub value: Value,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl Index<&str> for Report {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.value[key]
    }
}

impl Report {
    /// A line that something else than the tool has written.
    pub fn of_another_kind(line: &str) -> Report {
        Report {
            line: line.to_owned(),
            value: serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}")),
        }
    }

    pub fn parse(line: &str) -> Report {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}"));
        assert!(value.is_object(), "not an object: {line}");
        // A row of `summarize` is read here, too.
        let is_row = value.get("first_seen").is_some();
        let errors = SCHEMA.errors(if is_row { "summary" } else { "report" }, &value);
        assert!(errors.is_empty(), "{errors:#?}: {line}");
        Report {
            line: line.to_owned(),
            value,
        }
    }

    pub fn keys(&self) -> Vec<&str> {
        self.value
            .as_object()
            .expect("checked by parse")
            .keys()
            .map(String::as_str)
            .collect()
    }

    pub fn str(&self, key: &str) -> &str {
        self[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} should be a string: {}", self.line))
    }

    /// The number in a `0x` string.
    pub fn hex(&self, key: &str) -> u64 {
        parse_hex(&self[key])
            .unwrap_or_else(|| panic!("{key} should be a hex string: {}", self.line))
    }

    pub fn frames(&self) -> &[Value] {
        self["stack_trace"]
            .as_array()
            .unwrap_or_else(|| panic!("no stack_trace: {}", self.line))
    }

    /// The function of each frame, innermost first; `?` for one without a symbol.
    pub fn functions(&self) -> Vec<String> {
        self.frames()
            .iter()
            .map(|frame| frame["symbol"].as_str().map_or("?".into(), function))
            .collect()
    }

    /// Panics unless the innermost frames are `expected`. Without CFI (a build
    /// without the feature `dwarf`) only the innermost frame is promised.
    pub fn assert_chain(&self, expected: &[&str]) {
        let expected = if cfg!(feature = "dwarf") {
            expected
        } else {
            &expected[..1]
        };
        let functions = self.functions();
        let same = functions.len() >= expected.len()
            && functions.iter().zip(expected).all(|(f, e)| f == e);
        assert!(
            same,
            "expected {expected:?}, then anything; got {functions:?}: {}",
            self.line
        );
    }

    /// Panics unless the walk reached `_start`, through libc if there is one.
    pub fn assert_reaches_start(&self) {
        if !cfg!(feature = "dwarf") {
            return;
        }
        let functions = self.functions();
        assert_eq!(
            self["stack_complete"], true,
            "stack_complete: {}",
            self.line
        );
        assert_eq!(
            functions.last().map(String::as_str),
            Some("_start"),
            "outermost frame: {functions:?}"
        );
        let main = functions
            .iter()
            .rposition(|f| f == "main")
            .expect("main on the stack");
        let runtime = &functions[main + 1..functions.len() - 1];
        // The frame between is a local function of libc, named only where libc has
        // a symbol table or debug symbols beside it.
        assert!(
            runtime.iter().any(|f| f.starts_with("__libc_start_main")),
            "libc below main: {functions:?}"
        );
    }

    /// What the report lacks, but for what no report of this kernel has.
    pub fn lost(&self) -> Vec<&str> {
        let lost = self["lost"].as_array().into_iter().flatten();
        lost.filter_map(Value::as_str)
            .filter(|lost| !lost.ends_with("which has no type information"))
            .collect()
    }

    /// Panics if the report lacks anything that this kernel could tell.
    pub fn assert_nothing_lost(&self) {
        assert!(self.lost().is_empty(), "something is lost: {}", self.line);
    }

    /// Is this the fatal report of a death (not a handled or ignored delivery)?
    pub fn is_fatal(&self) -> bool {
        self["disposition"] == "fatal"
    }
}

/// The function in `function+0x12 (/path)`. Names may hold spaces and parentheses.
pub fn function(symbol: &str) -> String {
    let without_path = symbol.rfind(" (/").map_or(symbol, |at| &symbol[..at]);
    without_path
        .rfind("+0x")
        .map_or(without_path, |at| &without_path[..at])
        .to_owned()
}

pub fn parse_hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Panics unless there is exactly one report, and gives it.
pub fn only(reports: Vec<Report>) -> Report {
    let [report] = <[Report; 1]>::try_from(reports)
        .unwrap_or_else(|all| panic!("expected one report, got {}: {all:#?}", all.len()));
    report
}
