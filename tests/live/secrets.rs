//! What a report never has, whatever a process does to its own layout and wherever its
//! registers point: the environment, in any form.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::harness::{crash, options_for_all, Monitor};
use crate::programs::{command, directory, unique, Program};
use crate::skip::not_applicable;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        secrets_of_a_process_that_moves_its_arguments,
        secrets_of_a_program_that_exec_gives_up,
        secrets_of_a_program_that_exec_gives_up_next_to_the_old_one,
    ],
}

const WAYS: &[&str] = &[
    "pointers", "jump", "stack", "frame", "title", "all", "inside", "swapped", "taken", "start",
    "low", "moved",
];
const SECRET: &str = "QzA7QzA7QzA7QzA7QzA7QzA7QzA7QzA7QzA7QzA7";
/// The same in hexadecimal, from each of its bytes on.
const IN_HEX: [&str; 4] = ["517a4137", "7a413751", "4137517a", "37517a41"];

fn assert_nothing_of_it(text: &str) {
    let plain = text.to_lowercase().replace(' ', "");
    for forbidden in IN_HEX {
        assert!(!plain.contains(forbidden), "{forbidden} in {text}");
    }
    assert!(!text.contains(&SECRET[..4]), "{text}");
}

/// In both formats, with all that can be asked for; the reports' number.
fn watch(name: &str, mut run: impl FnMut()) -> Vec<String> {
    let mut texts = Vec::new();
    for format in ["text", "json"] {
        let options = ["-r", "-t", "--memory", "--maps", "--signals", "all", "-n"];
        let mut options = options.to_vec();
        options.extend([name, "--format", format]);
        let monitor = Monitor::start(options);
        run();
        let outcome = monitor.stop();
        assert_nothing_of_it(outcome.text());
        texts.push(outcome.text().to_owned());
    }
    texts
}

fn with_secret(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .env("QzA7", SECRET)
        .env("QzA7QzA7", SECRET)
}

fn secrets_of_a_process_that_moves_its_arguments() {
    let program = Program::new("strings.c");
    let texts = watch(&program.name, || {
        for way in WAYS {
            crash(with_secret(program.command().arg(way)));
        }
    });
    let lines = texts[1].lines().count();
    assert_eq!(lines, WAYS.len(), "{}", texts[1]);
    // And the arguments are there, where they are what they seem to be.
    for way in ["pointers", "jump", "all"] {
        assert!(
            texts[1].contains(&format!("{} {way}", program.path())),
            "{}",
            texts[1]
        );
    }
}

/// An executable whose one segment cannot be mapped: exec(2) fails when the program
/// before it is gone already, and the new one has no layout yet.
fn unmappable() -> (String, std::path::PathBuf) {
    let machine: u16 = if cfg!(target_arch = "aarch64") {
        183
    } else {
        62
    };
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [0x40_0078u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    for word in [0u64, 0x40_0000, 0x40_0000, 128, 0x7fff_ffff_0000, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.resize(128, 0);
    let name = unique("exec");
    let path = directory().join(&name);
    fs::write(&path, file).expect("our own directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    (name, path)
}

fn secrets_of_a_program_that_exec_gives_up() {
    let (name, path) = unmappable();
    let mut status = None;
    let texts = watch(&name, || {
        status = with_secret(command(&path).arg("argument")).status().ok();
    });
    if options_for_all().iter().any(|it| it == "perf") {
        not_applicable("perf events do not tell the call");
    }
    if status.is_some_and(|status| status.signal() == Some(libc::SIGKILL)) {
        not_applicable("this kernel sends SIGKILL instead, which nobody can see");
    }
    assert!(
        texts[1].contains(&format!("exec of {}", path.display())),
        "{}",
        texts[1]
    );
    assert!(texts[1].contains("\"cmdline\":null"), "{}", texts[1]);
}

/// Without a random layout the old stack pointer is in the new stack.
fn secrets_of_a_program_that_exec_gives_up_next_to_the_old_one() {
    let (name, path) = unmappable();
    watch(&name, || {
        let mut command = Command::new("setarch");
        command.arg("-R").arg(&path);
        let path_of_tools = std::env::var_os("PATH").unwrap_or_default();
        let _ = with_secret(&mut command)
            .env("PATH", path_of_tools)
            .status();
    });
}
