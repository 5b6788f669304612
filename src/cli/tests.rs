use super::*;

fn run(args: &[&str]) -> Config {
    match parse(args.iter().copied()).expect("these arguments are right") {
        Command::Run(config) => *config,
        other => panic!("{args:?} gave {other:?}"),
    }
}

fn line(args: &[&str]) -> String {
    let error = parse(args.iter().copied()).expect_err("these arguments are wrong");
    assert_eq!(error.kind(), crate::base::error::Kind::Usage);
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn nothing_given_is_the_manuals_default() {
    let config = run(&[]);
    assert_eq!(config, Config::default());
    assert_eq!(config.ring_bytes(), 256 << 10);
    assert_eq!(run(&["-t"]).ring_bytes(), 4096 << 10);
    assert_eq!(run(&["--ring-buffer", "512", "-t"]).ring_bytes(), 512 << 10);
}

fn file(path: &str, format: Option<Format>) -> Output {
    let path = Some(path.into());
    Output { path, format }
}

#[test]
fn each_output_may_have_a_format() {
    let config = run(&[
        "-o", "text:a", "-o", "b", "-o", "json:-", "--format", "json",
    ]);
    let path = |name| Some(std::path::Path::new(name));
    let (text, json) = (Format::Text, Format::Json);
    let expected = [(path("a"), text), (path("b"), json), (None, json)];
    assert_eq!(config.outputs(), expected);
    assert_eq!(run(&["-o", "./json:a"]).outputs, [file("./json:a", None)]);
    assert!(line(&["-o", "json:"]).contains("expected the path"));
    assert!(line(&["-o", "a", "-o", "json:a"]).contains("given twice"));
}

#[test]
fn every_option_in_its_short_form() {
    let expected = Config {
        duration: Some(Duration::from_secs(60)),
        pids: vec![1234],
        name: Some(b"myapp".to_vec()),
        registers: true,
        stack_trace: true,
        outputs: vec![file("crashes.log", None)],
        append: true,
        verbose: true,
        ..Config::default()
    };
    let short = [
        "-d",
        "60",
        "-p",
        "1234",
        "-n",
        "myapp",
        "-rtav",
        "-o",
        "crashes.log",
    ];
    assert_eq!(run(&short), expected);
    assert_eq!(
        run(&["-d60", "-p1234", "-n=myapp", "-rtavocrashes.log"]),
        expected
    );
}

#[test]
fn every_option_in_its_long_form() {
    let config = run(&[
        "--duration=3600",
        "--count=3",
        "--pid=1",
        "--process-name=my app",
        "--registers",
        "--stack-trace",
        "--max-stack-depth=8",
        "--verbose-names",
        "--output=x",
        "--format=json",
        "--append",
        "--rotate=10M,3",
        "--stats",
        "--stats-interval=10",
        "--symbol-cache-limit=2000",
        "--memory-limit=200",
        "--verbose",
        "--fatal-only",
        "--ring-buffer=1024",
        "--btf=/boot/vmlinux",
        "--stack-snapshot=64",
        "--report-time=250",
        "--threads=9",
        "--thread-snapshot=16",
        "--capture=measured",
        "--debug-dir=/srv/debug",
        "--debug-dir",
        "more",
        "--signals=all",
        "--memory",
        "--maps",
        "--fold=30",
        "--fold-handled=10",
        "--max-per-minute=6",
        "--capture=chain",
        "--core=/var/crash",
        "--core-keep=5",
        "--core-max-size=20",
    ]);
    let expected = Config {
        duration: Some(Duration::from_secs(3600)),
        count: Some(3),
        pids: vec![1],
        command: Vec::new(),
        name: Some(b"my app".to_vec()),
        registers: true,
        stack_trace: true,
        max_stack_depth: 8,
        cpp_names: CppNames::Whole,
        outputs: vec![file("x", None)],
        append: true,
        rotation: Some(Rotation {
            bytes: 10 << 20,
            keep: 3,
        }),
        format: Format::Json,
        stats: true,
        stats_interval: Duration::from_secs(10),
        symbol_cache_limit: 2000,
        memory_limit_bytes: 200 << 20,
        verbose: true,
        fatal_only: true,
        ring_bytes: Some(1 << 20),
        btf: Some("/boot/vmlinux".into()),
        measure_types: true,
        stack_snapshot_bytes: 64 << 10,
        report_time: Duration::from_millis(250),
        threads: Some(9),
        thread_snapshot_bytes: 16 << 10,
        debug_dirs: vec!["/srv/debug".into(), "more".into()],
        signals: 0x8000_09f0,
        memory: true,
        maps: true,
        no_memory: false,
        fold: Some(Duration::from_secs(30)),
        fold_handled: Some(Duration::from_secs(10)),
        max_per_minute: Some(6),
        core_directory: Some("/var/crash".into()),
        core_keep_files: Some(5),
        core_keep_bytes: Some(20 << 20),
        method: Some(Method::Chain),
    };
    assert_eq!(config, expected);
}

#[test]
fn help_and_version() {
    assert_eq!(parse(["-h"]).expect("right"), Command::Help);
    assert_eq!(parse(["-r", "--help"]).expect("right"), Command::Help);
    assert_eq!(parse(["-V"]).expect("right"), Command::Version);
    assert_eq!(parse(["--version"]).expect("right"), Command::Version);
    assert_eq!(VERSION, "segfault_analyzer 0.1.0");
}

/// How an option is written: every name it has.
fn written(option: &Opt) -> Vec<String> {
    let long = format!("--{}", option.long);
    option
        .short
        .map(|short| format!("-{short}"))
        .into_iter()
        .chain([long])
        .collect()
}

#[cfg(not(feature = "desk"))]
use desk_options::SUMMARIZE;
#[cfg(feature = "desk")]
use desk_options::SUMMARIZE_AT_DESK as SUMMARIZE;

#[test]
fn help_texts_explain_each_option_on_short_lines() {
    let texts = [
        (MONITORING, help()),
        (
            desk_options::SYMBOLIZE,
            desk::help(desk::Command::Symbolize),
        ),
        (SUMMARIZE, desk::help(desk::Command::Summarize)),
        #[cfg(feature = "desk")]
        (desk_options::DIFF, desk::help(desk::Command::Diff)),
        (desk_options::CORE, desk::help(desk::Command::Core)),
    ];
    for (groups, help) in texts {
        for line in help.lines() {
            assert!(line.len() <= 80 && line.is_ascii(), "{line}");
            assert!(
                line == line.trim_end() && !line.contains(['{', '}']),
                "{line}"
            );
        }
        let mut names = Vec::new();
        for option in groups.iter().flat_map(|(_, options)| *options) {
            names.extend(written(option));
            let mut term = written(option).join(", ");
            match option.word() {
                Some(word) if word.starts_with('[') => term.push_str(word),
                Some(word) => term.push_str(&format!(" {word}")),
                None => {}
            }
            let entry = help
                .lines()
                .position(|line| line.trim_start().starts_with(&format!("{term} ")));
            let entry = entry.unwrap_or_else(|| panic!("{term} is not explained"));
            let lines: Vec<_> = help.lines().skip(entry).take(4).collect();
            assert!(lines.join(" ").contains(&option.shown_default()), "{term}");
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands for two options");
    }
}

/// What the table says of defaults and limits is what the parser does.
#[test]
fn defaults_and_limits_are_those_of_the_table() {
    for option in MONITORING.iter().flat_map(|(_, options)| *options) {
        let long = format!("--{}", option.long);
        match option.default {
            options::Default::None => {}
            options::Default::Text(_) if option.key == Key::RingBuffer => {
                let config = Config::default();
                let with_stacks = run(&["-t"]).ring_bytes();
                assert_eq!(run(&["--core", "/tmp"]).ring_bytes(), with_stacks);
                let sizes = format!(
                    "{}, with -t or --core {}",
                    config.ring_bytes() >> 10,
                    with_stacks >> 10
                );
                assert_eq!(option.shown_default(), sizes);
            }
            options::Default::Text(_) if option.key == Key::DebugDir => {
                let dirs = Config::default().monitor().analysis.debug_dirs;
                assert_eq!(dirs, [PathBuf::from(option.shown_default())]);
            }
            _ => assert_eq!(
                run(&[&long, &option.shown_default()]),
                Config::default(),
                "{long}"
            ),
        }
        match option.value {
            Value::Number(_, _, from, to) => {
                for wrong in [from.checked_sub(1), Some(to + 1)].into_iter().flatten() {
                    line(&[&long, &wrong.to_string()]);
                }
                let enough = ["--memory-limit", "5000"];
                for right in [from, to].map(|limit| limit.to_string()) {
                    let memory = option.key == Key::MemoryLimit && right == "1";
                    match memory {
                        true => assert!(line(&[&long, &right]).contains("cannot hold")),
                        false => drop(run(&[enough[0], enough[1], &long, &right])),
                    }
                }
            }
            Value::Optional(_, _, from, to, usual) => {
                let with = |number: u64| format!("{long}={number}");
                assert_eq!(run(&[&long]), run(&[&with(usual)]));
                assert_ne!(run(&[&with(from)]), run(&[&with(to)]));
                for wrong in [from - 1, to + 1] {
                    line(&[&with(wrong)]);
                }
            }
            Value::Text(..) => assert!(line(&[&long]).contains("needs a value: ")),
            // Help, version, check, or a field that is set.
            Value::None => drop(parse([&long]).expect("a flag is enough")),
        }
    }
}

#[test]
fn wrong_values_get_one_line_with_what_was_expected() {
    let lines = [
        (
            &["--stats-interval", "0"][..],
            "--stats-interval: expected a number of seconds from 1 to 86400, not '0'",
        ),
        (
            &["-p", "0"],
            "--pid: expected a process id from 1 to 4194304, not '0'",
        ),
        (
            &["-p", "-1"],
            "--pid: expected a process id from 1 to 4194304, not '-1'",
        ),
        (
            &["-p"],
            "--pid needs a value: a process id from 1 to 4194304",
        ),
        (
            &["-d", "1.5"],
            "--duration: expected a whole number of seconds (0 = until a signal), not '1.5'",
        ),
        (
            &["-d", ""],
            "--duration: expected a whole number of seconds (0 = until a signal), not ''",
        ),
        (
            &["-n", ""],
            "--process-name: expected 1 to 64 bytes of a process name, not ''",
        ),
        (
            &["--max-stack-depth", "1025"],
            "--max-stack-depth: expected a number of frames from 1 to 1024, not '1025'",
        ),
        (
            &["--format", "xml"],
            "--format: expected text or json, not 'xml'",
        ),
        (&["-o", ""], "--output: expected the path of a file, not ''"),
        (
            &["--ring-buffer", "300"],
            "--ring-buffer: expected a size in KB, a power of two from 64 to 1048576, not '300'",
        ),
        (
            &["--report-time=9"],
            "--report-time: expected a number of milliseconds from 10 to 60000, not '9'",
        ),
        (
            &["--stack-snapshot=3"],
            "--stack-snapshot: expected a size in KB from 4 to 512, not '3'",
        ),
        (
            &["--debug-dir="],
            "--debug-dir: expected the path of a directory, not ''",
        ),
        (
            &["--memory-limit", "2"],
            "--memory-limit: 2 MB cannot hold a ring buffer of 256 KB; 5 MB or more can",
        ),
        (
            &["--ring-buffer=1048576"],
            "--memory-limit: 100 MB cannot hold a ring buffer of 1048576 KB; 1028 MB or more can",
        ),
        (
            &["--threads=0"],
            "--threads: expected a number of threads from 1 to 1024, not '0'",
        ),
        (&["--stats=5"], "--stats takes no value, but got '5'"),
        (
            &["--wrong\x1b[2J"],
            "unknown option '--wrong\\u{1b}[2J'; try --help",
        ),
        (&["-x"], "unknown option '-x'; try --help"),
        (
            &["--stack-trcae"],
            "unknown option '--stack-trcae'; did you mean --stack-trace?",
        ),
        (
            &["symbolise", "x"],
            "unexpected argument 'symbolise': did you mean symbolize?",
        ),
        (
            &["symbolize", "--degub-dir"],
            "unknown option '--degub-dir'; did you mean --debug-dir?",
        ),
        (
            &["./a.out"],
            &format!("unexpected argument './a.out': expected options, or {SUBCOMMANDS} as the first word, or -- before a command; try --help"),
        ),
    ];
    for (args, expected) in lines {
        assert_eq!(line(args), expected);
    }
}

#[test]
fn limits_are_inside() {
    assert_eq!(run(&["-d", "0"]).duration, None);
    let long = run(&["-d", "18446744073709551615"]).duration;
    assert_eq!(long, Some(Duration::from_secs(DURATION_MAX_S)));
    assert_eq!(run(&["-p", "4194304"]).pids, [4_194_304]);
    assert_eq!(
        run(&["-n", &"n".repeat(64)]).name.map(|name| name.len()),
        Some(64)
    );
    line(&["-n", &"n".repeat(65)]);
    assert_eq!(run(&["--threads", "-t"]).threads, Some(64));
    assert!(line(&["--threads", "9"]).contains("unexpected argument '9'"));
    assert_eq!(run(&["--memory-limit", "5"]).memory_limit_bytes, 5 << 20);
    line(&["--memory-limit", "7", "-t"]);
    run(&["--memory-limit", "8", "-t"]);
    assert_eq!(run(&["--ring-buffer", "64"]).ring_bytes(), 64 << 10);
    let largest = run(&["--ring-buffer", "1048576", "--memory-limit", "2000"]);
    assert_eq!(largest.ring_bytes(), 1 << 30);
}

#[test]
fn the_last_of_an_option_counts_and_a_dash_is_standard_output() {
    let config = run(&[
        "-p", "1", "-p", "2", "-o", "-", "--count", "1", "--count", "2",
    ]);
    assert_eq!(config.pids, [1, 2]);
    assert_eq!(config.count, Some(2));
    assert_eq!(config.outputs(), [(None, Format::Text)]);
    assert!(run(&["-a"]).append, "harmless without -o");
}

#[test]
fn a_file_is_rotated_by_its_size() {
    let rotation = |given| run(&["-o", "x", "--rotate", given]).rotation;
    let (bytes, keep) = (500 << 10, 5);
    assert_eq!(rotation("500K"), Some(Rotation { bytes, keep }));
    let (bytes, keep) = (1 << 30, 100);
    assert_eq!(rotation("1G,100"), Some(Rotation { bytes, keep }));
    for wrong in [
        "", "5", "0K", "M", "5M,", "5M,0", "5M,101", "5T", "2048G", "-1K", "5M,1,1",
    ] {
        let line = line(&["-o", "x", "--rotate", wrong]);
        assert!(
            line.starts_with("--rotate: expected a size such as"),
            "{line}"
        );
    }
    assert!(line(&["--rotate", "1M"]).contains("--output"));
}

#[test]
fn a_command_follows_two_dashes() {
    let config = run(&["-t", "--", "make", "-j", "--", "-h"]);
    assert_eq!(config.command, ["make", "-j", "--", "-h"]);
    assert_eq!(config.outputs, [file("/dev/stderr", None)]);
    assert!(!run(&["-o", "-", "--", "make"]).writes_files());
    assert_eq!(run(&["-o", "x", "--", "make"]).outputs, [file("x", None)]);
    // The value of an option is none.
    assert_eq!(run(&["-n", "--"]).name, Some(b"--".to_vec()));
    assert_eq!(line(&["--"]), "expected a command after '--'");
}

#[test]
fn names_and_paths_are_bytes() {
    let args = [OsString::from("-n"), OsString::from_vec(vec![0xff, b'x'])];
    let Ok(Command::Run(config)) = parse(args) else {
        panic!("a name need not be UTF-8");
    };
    assert_eq!(config.name, Some(vec![0xff, b'x']));
}

#[test]
fn signals_are_named_with_or_without_their_beginning() {
    assert_eq!(run(&["--signals", "SEGV"]).signals, 1 << 11);
    assert_eq!(run(&["--signals=sigbus,Fpe"]).signals, 1 << 7 | 1 << 8);
    let all = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 31;
    assert_eq!(run(&["--signals", "all"]).signals, all);
    for wrong in ["", "KILL", "SEGV,", "11", "SEGV BUS", "SIG"] {
        assert!(line(&["--signals", wrong]).contains("or all, not"));
    }
}

#[test]
fn windows_of_zero_seconds_fold_nothing() {
    assert_eq!(run(&["--fold", "0"]).fold, None);
    assert_eq!(run(&["--fold", "5"]).fold, Some(Duration::from_secs(5)));
    assert_eq!(run(&["--fold-handled", "0"]).fold_handled, None);
    assert_eq!(run(&["--max-per-minute", "3"]).max_per_minute, Some(3));
    assert!(line(&["--max-per-minute", "0"]).contains("from 1 to"));
    assert!(line(&["--memory", "--no-memory"]).contains("cannot be combined"));
}

fn task(args: &[&str]) -> desk::Task {
    match parse(args.iter().copied()).expect("these arguments are right") {
        Command::Desk(task) => task,
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn subcommands_are_first_arguments() {
    let plain = desk::Task::default();
    assert_eq!(task(&["symbolize"]), plain);
    let all = [
        "symbolize",
        "a",
        "--file",
        "b",
        "--debug-dir=c",
        "-",
        "--sysroot",
        "d",
        "--file=e",
        "--",
        "--f",
    ];
    let expected = desk::Task {
        given: vec!["b".into(), "c".into(), "e".into()],
        sysroots: vec!["d".into()],
        inputs: vec!["a".into(), "-".into(), "--f".into()],
        ..plain.clone()
    };
    assert_eq!(task(&all), expected);
    let expected = desk::Task {
        command: desk::Command::Summarize,
        json: true,
        inputs: vec!["a".into()],
        ..plain
    };
    assert_eq!(task(&["summarize", "--json", "a"]), expected);
    for subcommand in ["symbolize", "summarize"] {
        let help = parse([subcommand, "x", "-h"]).expect("these arguments are right");
        let Command::DeskHelp(command) = help else {
            panic!("{subcommand}: {help:?}");
        };
        assert!(desk::help(command).contains(subcommand));
    }
}

#[cfg(feature = "desk")]
#[test]
fn servers_are_addresses() {
    let given = task(&[
        "symbolize",
        "--debuginfod=http://a",
        "--debuginfod",
        "HTTPS://b/x",
    ]);
    assert_eq!(given.servers, ["http://a", "HTTPS://b/x"]);
    for wrong in ["a", "ftp://a", "http://", "http://a b", "file:///x"] {
        let said = line(&["symbolize", "--debuginfod", wrong]);
        assert!(said.contains("--debuginfod: expected an address"), "{said}");
    }
}

#[test]
fn subcommands_have_options_of_their_own() {
    for (args, word) in [
        (&["symbolize", "--json"][..], "--json"),
        (&["symbolize", "-t"], "-t"),
        (&["symbolize", "--file"], "--file"),
        (&["symbolize", "--sysroot="], "--sysroot"),
        (&["summarize", "--debug-dir", "x"], "--debug-dir"),
        (&["core", "--file", "x"], "--file"),
        (
            &["core", "--max-stack-depth", "0", "x"],
            "--max-stack-depth",
        ),
        (&["core", "--json"], "core needs a core file"),
        (&["--core", "d", "--no-memory"], "--core and --no-memory"),
        (&["summarize", "--json=x"], "--json"),
        (&["-t", "summarize"], "summarize"),
        (&["symbolise"], "symbolise"),
    ] {
        assert!(line(args).contains(word), "{args:?}: {}", line(args));
    }
}
