//! C++ names of whole libraries, held against `c++filt`: the C++ library's, and those of
//! whatever `CXX_NAMES_OF` lists, with colons between.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use segfault_analyzer::symbols::demangle::demangle_cpp;

/// Of what differs.
const MAX_SHOWN: usize = 40;

fn output(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output();
    let out = out.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn names(path: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for tables in [
        &["--defined-only", path][..],
        &["-D", "--defined-only", path],
    ] {
        let listed = output("nm", tables);
        let last = listed.lines().filter_map(|line| line.rsplit(' ').next());
        let plain = last.map(|name| name.split('@').next().unwrap_or(name));
        names.extend(
            plain
                .filter(|name| name.starts_with("_Z"))
                .map(str::to_owned),
        );
    }
    names
}

/// What `c++filt` makes of them.
fn filtered(names: &BTreeSet<String>) -> Vec<String> {
    let mut filter = Command::new("c++filt")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("c++filt, of binutils");
    let mut stdin = filter.stdin.take().expect("piped");
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let out = filter.wait_with_output().expect("its output").stdout;
    writer.join().expect("no panic").expect("all of it");
    let text = String::from_utf8(out).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn compare(path: &str) {
    let names = names(path);
    assert!(names.len() > 1000, "{path}: {} names", names.len());
    let expected = filtered(&names);
    assert_eq!(expected.len(), names.len());
    let differ: Vec<String> = names
        .iter()
        .zip(&expected)
        .filter_map(|(name, expected)| {
            let shown = demangle_cpp(name.as_bytes(), true).unwrap_or_else(|| name.clone().into());
            let shown = String::from_utf8_lossy(&shown).into_owned();
            (shown != *expected).then(|| format!("{name}\n  {shown}\n  {expected}"))
        })
        .collect();
    assert!(
        differ.is_empty(),
        "{path}: {} of {} names differ:\n{}",
        differ.len(),
        names.len(),
        differ[..differ.len().min(MAX_SHOWN)].join("\n")
    );
    eprintln!("{path}: {} names", names.len());
}

#[test]
fn names_are_those_of_cxxfilt() {
    let library = output("c++", &["-print-file-name=libstdc++.so.6"]);
    compare(library.trim());
    let more = std::env::var("CXX_NAMES_OF").unwrap_or_default();
    more.split(':')
        .filter(|path| !path.is_empty())
        .for_each(compare);
}
