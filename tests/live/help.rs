//! `--help`, `--version`, and command lines that make no sense. None of it needs
//! root or BPF.

use segfault_analyzer::cli::options::MONITORING;

use crate::harness::{run, Outcome};
use crate::{cases, Needs};

cases! {
    Needs::Nothing => [help_names_every_option, help_fits_80_columns, help_by_letter, version, wrong_usage],
}

fn succeeded(outcome: &Outcome) -> &str {
    assert_eq!(outcome.status.code(), Some(0), "{:?}", outcome.status);
    assert_eq!(outcome.stderr, "", "it was asked for: stdout");
    outcome.text()
}

fn help_names_every_option() {
    let outcome = run(["--help"]);
    let help = succeeded(&outcome);
    for option in MONITORING.iter().flat_map(|(_, options)| *options) {
        let mut term = format!(" --{}", option.long);
        if let Some(short) = option.short {
            term = format!(" -{short},{term}");
        }
        let from = help
            .find(&term)
            .unwrap_or_else(|| panic!("{term} is missing in:\n{help}"));
        let entry: Vec<&str> = help[from..].lines().take(4).collect();
        let default = option.shown_default();
        assert!(
            entry.join(" ").contains(&default),
            "{term} has the default {default}:\n{help}"
        );
    }
}

fn help_fits_80_columns() {
    let outcome = run(["--help"]);
    for line in succeeded(&outcome).lines() {
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
        assert_eq!(line, line.trim_end(), "blanks at the end");
        assert!(!line.contains('\t'), "a tab: {line}");
    }
}

fn help_by_letter() {
    assert_eq!(succeeded(&run(["-h"])), succeeded(&run(["--help"])));
    // Wherever it stands, and whatever else is asked for.
    assert_eq!(
        succeeded(&run(["-t", "-r", "--help"])),
        succeeded(&run(["--help"]))
    );
}

fn version() {
    let outcome = run(["--version"]);
    let version = succeeded(&outcome);
    let first = version.lines().next().unwrap_or("");
    assert_eq!(
        first,
        concat!("segfault_analyzer ", env!("CARGO_PKG_VERSION"))
    );
    assert!(version.lines().all(|line| line.len() <= 80), "{version}");
    assert_eq!(succeeded(&run(["-V"])), version);
}

/// What is wrong, the words that the message must have.
const WRONG: &[(&[&str], &[&str])] = &[
    (&["-d", "soon"], &["duration", "soon"]),
    (&["--duration", "-1"], &["duration", "-1"]),
    (&["--duration=1.5x"], &["duration", "1.5x"]),
    (
        &["-d", "99999999999999999999999"],
        &["duration", "99999999999999999999999"],
    ),
    (&["-d"], &["-d"]),
    (&["-p", "init"], &["pid", "init"]),
    (&["--pid=-4"], &["pid", "-4"]),
    (&["--pid"], &["--pid"]),
    (&["-n"], &["-n"]),
    (&["--process-name"], &["--process-name"]),
    (&["-o"], &["-o"]),
    (&["--output"], &["--output"]),
    (&["--format", "xml"], &["format", "xml", "text", "json"]),
    (&["--format=JSON5"], &["format", "JSON5", "text", "json"]),
    (&["--format"], &["--format"]),
    (&["--max-stack-depth", "deep"], &["max-stack-depth", "deep"]),
    (&["--stats-interval", "often"], &["stats-interval", "often"]),
    (&["--stats-interval=0"], &["stats-interval", "0"]),
    (
        &["--symbol-cache-limit", "all"],
        &["symbol-cache-limit", "all"],
    ),
    (&["--memory-limit", "10MB"], &["memory-limit", "10MB"]),
    (&["--ring-buffer", "big"], &["ring-buffer", "big"]),
    (&["--registers=yes"], &["--registers"]),
    (&["--frobnicate"], &["--frobnicate"]),
    (&["-x"], &["-x"]),
    (&["stray"], &["stray"]),
];

fn wrong_usage() {
    for (args, words) in WRONG {
        let outcome = run(*args);
        assert_eq!(
            outcome.status.code(),
            Some(2),
            "{args:?}: {:?}",
            outcome.stderr
        );
        assert_eq!(outcome.text(), "", "{args:?}: nothing on stdout");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{args:?}: one line: {:?}", outcome.stderr);
        for word in *words {
            assert!(
                lines[0].contains(word),
                "{args:?}: {word:?} is missing in {:?}",
                lines[0]
            );
        }
    }
}
