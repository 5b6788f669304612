//! `segfault_analyzer show`: the text that a report in JSON gives is the text that the
//! tool prints itself. Each pair of golden files is one crash in both formats.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use segfault_analyzer::crash::registers::Arch;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segfault_analyzer"));
    command.arg("show").args(args).env("TZ", "UTC");
    command
}

fn show(args: &[&str], input: &[u8]) -> Output {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("our own binary");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without having read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("our own child")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A scratch file, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("show-{name}"));
        let _ = fs::remove_file(&path);
        Scratch(path)
    }

    fn append(&self, text: &[u8]) {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&self.0).unwrap();
        file.write_all(text).unwrap();
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn each_pair_of_golden_files() {
    let mut count = 0;
    for entry in fs::read_dir(golden("")).expect("tests/golden") {
        let json = entry.expect("an entry").path();
        let name = json.file_stem().expect("a name").to_string_lossy();
        let expected = json.with_extension("txt");
        let is_json = json.extension().is_some_and(|it| it == "json");
        if !is_json || !expected.exists() || name.starts_with("desk_") {
            continue;
        }
        let mut expected = fs::read_to_string(expected).expect("a golden file");
        // Made for a zone of its own, and for a machine of any kind.
        let zone = match &*name {
            "every_frame" => "<+0530>-5:30",
            _ => "UTC",
        };
        expected = expected.replace("(ARCH)", &format!("({})", Arch::NATIVE.as_str()));
        // Without -r, JSON does not have the registers that a line of memory names.
        if name == "nearby" {
            let lines = expected.lines().map(|line| {
                let is_memory = line.starts_with("    0x60001");
                let end = line.find(" <- ").filter(|_| is_memory);
                format!("{}\n", &line[..end.unwrap_or(line.len())])
            });
            expected = lines.collect();
        }
        let output = command(&[]).arg(&json).env("TZ", zone).output().unwrap();
        let shown = text(&output);
        for (shown, expected) in shown.lines().zip(expected.lines()) {
            assert_eq!(shown, expected, "{name}");
        }
        assert_eq!(shown, expected, "{name}");
        assert!(output.status.success());
        count += 1;
    }
    assert!(count >= 9, "only {count} pairs were compared");
}

#[test]
fn reports_are_chosen() {
    let reports = fs::read(golden("desk_reports.json")).expect("a golden file");
    let headers = |args: &[&str]| {
        let output = show(args, &reports);
        let shown = text(&output);
        let headers = shown.lines().filter(|line| line.starts_with('['));
        (output.status.code(), headers.count())
    };
    let (_, all) = headers(&[]);
    assert!(all > 4, "{all}");
    assert_eq!(headers(&["--last", "2"]).1, 2);
    assert_eq!(headers(&["--last=1", "-"]).1, 1);
    let (_, equal) = headers(&["--signature", "2f0c1d9a55e07b31"]);
    assert!(equal > 0 && equal < all, "{equal}");
    let (_, late) = headers(&["--since", "2026-11-23T09:00:00Z"]);
    assert!(late < all, "{late}");
    assert_eq!(headers(&["--since", "1970-01-01"]).1, all);
    assert_eq!(headers(&["--since", "9999-01-01"]), (Some(1), 0));
    assert_eq!(headers(&["--signature", &"0".repeat(16)]), (Some(1), 0));
}

#[test]
fn options_stand_before_files_and_after() {
    let file = golden("fleet.json");
    let file = file.to_str().expect("UTF-8");
    let before = show(&["--last", "1", file], b"");
    let after = show(&[file, "--last", "1"], b"");
    assert!(before.status.success() && !before.stdout.is_empty());
    assert_eq!(before.stdout, after.stdout);
}

#[test]
fn loggers_may_put_text_before_a_report() {
    let report = fs::read(golden("fleet.json")).expect("a golden file");
    let logged = [
        b"Feb 15 10:30:45 node-7 segfault_analyzer[12]: ",
        &report[..],
    ]
    .concat();
    let expected = fs::read(golden("fleet.txt")).expect("a golden file");
    assert_eq!(show(&[], &logged).stdout, expected);
}

#[test]
fn an_input_without_reports_is_an_error() {
    for input in [
        &b""[..],
        b"other\n",
        b"{\"timestamp\":1}\n",
        b"{\"timestamp\":",
    ] {
        let output = show(&[], input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no reports found: show reads"), "{said}");
    }
    for wrong in [
        &["--last", "0"][..],
        &["--signature", "12"],
        &["--signature", "2f0c1d9a55e07b3+"],
        &["--since", "tomorrow"],
        &["--json"],
    ] {
        assert_eq!(show(wrong, b"").status.code(), Some(2), "{wrong:?}");
    }
}

/// Values of other kinds than the tool writes, and as many words as anybody likes.
#[test]
fn hostile_reports_are_shown_or_passed_over() {
    let report = fs::read_to_string(golden("threads.json")).expect("a golden file");
    let keys: Vec<&str> = report.split('"').skip(1).step_by(2).collect();
    let mut input = String::new();
    for key in keys.iter().take(400) {
        for value in [
            "\"\\u001b[2J\"",
            "-1",
            "{}",
            "[[]]",
            "99999999999999999999",
            "null",
        ] {
            input.push_str(
                &report.replace(&format!("\"{key}\":"), &format!("\"{key}\":{value},\"x\":")),
            );
        }
    }
    for number in 0..6000 {
        input.push_str(&format!(
            "{{\"timestamp\":1,\"pid\":1,\"fault_type\":\"\",\"lost\":[\"d{number}: r\"]}}\n"
        ));
    }
    let file = Scratch::new("hostile");
    file.append(input.as_bytes());
    let output = show(&[file.name()], b"");
    assert!(output.status.success());
    let shown = text(&output);
    assert!(shown.contains("Lost:          d0 (r)"));
    assert!(shown.contains("not kept: too many different words"));
    assert!(!shown.contains('\x1b'));
}

#[test]
fn a_file_is_followed_across_rotation() {
    let report = fs::read(golden("fleet.json")).expect("a golden file");
    let (log, old, out) = (
        Scratch::new("follow"),
        Scratch::new("follow.1"),
        Scratch::new("follow.out"),
    );
    log.append(&report.repeat(3));
    let file = fs::File::create(&out.0).unwrap();
    let mut child = command(&["--follow", "--last", "1", log.name()])
        .stdout(file)
        .spawn()
        .unwrap();
    let shown = |count: usize| {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&out.0).unwrap();
            let headers = text.lines().filter(|line| line.starts_with('[')).count();
            if headers >= count || begun.elapsed() > Duration::from_secs(20) {
                assert_eq!(headers, count);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    shown(1);
    // A line comes in two pieces.
    let (begin, end) = report.split_at(200);
    log.append(begin);
    std::thread::sleep(Duration::from_millis(600));
    shown(1);
    log.append(end);
    shown(2);
    fs::rename(&log.0, &old.0).unwrap();
    old.append(&report);
    log.append(&report);
    shown(4);
    // Truncated, as by copytruncate.
    fs::write(&log.0, b"").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    log.append(&report);
    shown(5);
    child.kill().unwrap();
    child.wait().unwrap();
}
