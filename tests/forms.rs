//! Lines and inlined calls in every form of debug information, by a desk build: each frame
//! of some hundred addresses as addr2line or llvm-symbolizer has it. tests/bench/forms.py
//! compares; `make bench-forms` asks for more.

#[path = "host/mod.rs"]
mod host;

use std::process::Command;

#[test]
#[cfg_attr(
    not(feature = "lines"),
    ignore = "the feature `lines` is not in this build"
)]
fn every_form_has_the_lines_that_others_read() {
    let Some(binary) = std::env::var_os("SEGFAULT_ANALYZER_DESK") else {
        host::skip("SEGFAULT_ANALYZER_DESK does not name a desk build, which `make desk` gives");
        return;
    };
    if !["python3", "g++", "addr2line", "llvm-symbolizer-19"]
        .into_iter()
        .all(host::has)
    {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/forms.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(binary).args(["--count", "300"]);
    let output = command.output().expect("python3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    println!("{table}{said}");
    assert!(output.status.success(), "{table}{said}");
    assert!(table.lines().count() > 4, "{table}{said}");
}
