//! What users see, byte by byte: reports and statistics against the files in
//! tests/golden/. `UPDATE_GOLDEN=1 cargo test --test golden` rewrites them; the
//! difference is then to be read like any other change.
//!
//! The files whose names begin with `manual_` hold the manual's samples.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use segfault_analyzer::base::address::{FileAddress, FileOffset, ProcessAddress};
use segfault_analyzer::capture::counters::KernelCounters;
use segfault_analyzer::config::CppNames;
use segfault_analyzer::crash::event::{Disposition, Lost, MemoryWindow, VmFlags};
use segfault_analyzer::crash::frame::{Stop, Trust};
use segfault_analyzer::crash::kinds::{Access, Sender};
use segfault_analyzer::crash::registers::{Arch, Registers, WORDS};
use segfault_analyzer::crash::threads::{self, SystemCall};
use segfault_analyzer::monitor::statistics::{Sizes, Statistics, UserCounters};
use segfault_analyzer::report::output::{self, Host, Options};
use segfault_analyzer::report::threads::{Call, Operation, ReportThread, ReportThreads, WaitsFor};
use segfault_analyzer::report::{
    Cause, Code, Counts, Delivery, FirstFault, Location, Near, NearbyMapping, Process, Report,
    StackFrame, StackTrace, State, Symbol, Timestamp, Why,
};

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const MAPERR: i32 = 1;
const ACCERR: i32 = 2;
const TKILL: i32 = -6;

/// 2024-02-15 10:30:45.123 UTC.
const MANUALS_TIME_MS: u64 = 1_707_993_045_123;

const PLAIN: Options = Options {
    registers: false,
    stack_trace: false,
    utc_offset_s: 0,
    cpp_names: CppNames::Short,
    host: None,
    is_short: false,
};

const DETAILED: Options = Options {
    registers: true,
    stack_trace: true,
    utc_offset_s: 0,
    cpp_names: CppNames::Short,
    host: None,
    is_short: false,
};

#[track_caller]
fn compare(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("tests/golden/ can be written");
        return;
    }
    let expected = std::fs::read(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs\n--- expected\n{}\n--- actual\n{}\n---",
        String::from_utf8_lossy(&expected),
        String::from_utf8_lossy(actual),
    );
}

/// A report that knows as little as one can.
fn bare(comm: &[u8], pid: u32) -> Report {
    Report {
        time: Timestamp {
            unix_ms: MANUALS_TIME_MS,
            uptime_ms: 4_567_890,
        },
        process: Process {
            pid,
            tid: pid,
            host_pid: None,
            ns_pid: None,
            comm: comm.to_vec(),
            thread: comm.to_vec(),
            ppid: None,
            uid: Some(0),
            exe: None,
            cmdline: None,
            cgroup: None,
        },
        delivery: Delivery {
            signal: SIGSEGV,
            code: MAPERR,
            fault_address: None,
            access: None,
            disposition: Disposition::Fatal,
            first_fault: None,
            sender: None,
        },
        state: State::default(),
        stack: None,
        threads: None,
        why: Why {
            cause: Cause::Unknown,
            text: b"nothing is known".to_vec(),
            signature: None,
            group: None,
        },
        counts: Counts::default(),
        same_death: false,
        exit: None,
        core: None,
        lost: Vec::new(),
    }
}

fn named(name: &str, offset: u64, module: &str) -> Location {
    Location {
        symbol: Some(Symbol {
            name: name.as_bytes().to_vec(),
            offset,
        }),
        module: Some(module.as_bytes().to_vec()),
        module_offset: Some(FileAddress(0x1000 + offset)),
        build_id: Some(vec![0xab, 0xcd, 0x01, 0x23]),
        ..Location::default()
    }
}

fn frame(address: u64, trust: Trust, location: Location) -> StackFrame {
    StackFrame {
        inlined: false,
        exact: trust.is_exact(),
        address: ProcessAddress(address),
        trust,
        location,
    }
}

fn x86_64_registers(values: [u64; 6]) -> Registers {
    let mut words = [0; WORDS];
    // rip, rsp, rax, rbx, rcx, rdx in struct pt_regs
    for (word, value) in [16, 19, 10, 5, 11, 12].into_iter().zip(values) {
        words[word] = value;
    }
    words[18] = 0x10246;
    Registers::new(Arch::X86_64, words)
}

/// The crash of the manual's second example.
fn detailed() -> Report {
    let app = "/path/to/my_buggy_app";
    let frames = vec![
        frame(
            0x5555_5555_4567,
            Trust::Context,
            named("process_data", 0x23, app),
        ),
        frame(
            0x5555_5555_4123,
            Trust::Cfi,
            named("handle_request", 0x45, app),
        ),
        frame(0x5555_5555_3000, Trust::Cfi, named("main", 0x67, app)),
        frame(
            0x7f8b_4b12_3456,
            Trust::Cfi,
            named("__libc_start_main", 0x123, "/lib/libc.so.6"),
        ),
    ];
    let mut report = bare(b"my_buggy_app", 9876);
    report.time.unix_ms = MANUALS_TIME_MS + 267_666;
    report.delivery.fault_address = Some(ProcessAddress(8));
    report.state.instruction_pointer = Some(ProcessAddress(0x5555_5555_4567));
    report.state.instruction = named("process_data", 0x23, app);
    report.state.registers = Some(x86_64_registers([
        0x5555_5555_4567,
        0x7ffe_1234_5678,
        0,
        8,
        0x7f8b_4c12_3456,
        16,
    ]));
    report.stack = Some(StackTrace {
        gaps: false,
        frames,
        stop: Stop::Outermost,
    });
    report.why.cause = Cause::NullDereference;
    report.why.text = b"read of 4 bytes at 0x8: null pointer in RAX + 0x8".to_vec();
    report.why.signature = Some(0x0123_4567_89ab_cdef);
    report.why.group = Some(0xfe);
    report.state.register_notes = vec![
        ("rip", b"process_data+0x23 (/path/to/my_buggy_app)".to_vec()),
        ("rsp", b"[stack]+0x1e678 (rw-)".to_vec()),
        ("rax", b"null".to_vec()),
        ("rbx", b"small integer 8".to_vec()),
    ];
    report.state.instruction_code = Some(Code {
        address: ProcessAddress(0x5555_5555_4565),
        bytes: vec![0x31, 0xc0, 0x8b, 0x40, 0x08, 0xc3],
        instruction: 2,
        operands: Some(b"read of 4 bytes at 0x8: null pointer in RAX + 0x8".to_vec()),
    });
    report
}

/// Everything known, from a program that means ill.
fn hostile() -> Report {
    let mut report = detailed();
    report.process.comm = b"a\n[2024\x1b[2J".to_vec();
    report.process.thread = "\"wörker\" \\ \u{202e}1".as_bytes().to_vec();
    report.process.tid = 9880;
    report.process.host_pid = Some(123_456);
    report.process.ns_pid = Some(7);
    report.process.ppid = Some(1);
    report.process.uid = Some(1000);
    report.delivery.signal = SIGBUS;
    report.delivery.code = TKILL;
    report.delivery.fault_address = None;
    report.delivery.access = Some(Access::Write);
    report.delivery.disposition = Disposition::Handled;
    report.same_death = true;
    report.delivery.sender = Some(Sender {
        pid: None,
        uid: Some(1000),
    });
    report.delivery.first_fault = Some(FirstFault {
        signal: SIGSEGV,
        code: ACCERR,
        address: Some(ProcessAddress(0x7ffe_1234_0ff8)),
        pc: ProcessAddress(0x5555_5555_4567),
        access: Some(Access::Write),
        age_ms: 3,
    });
    report.process.exe = Some(b"/tmp/\xff\xc3\xa9vil".to_vec());
    report.process.cmdline = Some(format!("./evil --text='\r\n' {}", "x".repeat(300)).into_bytes());
    report.process.cgroup = Some(b"/system.slice/evil.service".to_vec());
    report.why.cause = Cause::StackOverflow;
    report.why.text = b"stack overflow; \x1b[2Jf calls itself".to_vec();
    report.state.register_notes = vec![("rdi", b"/tmp/\x9b\n (rw-) \"a\\\"".to_vec())];
    if let Some(code) = &mut report.state.instruction_code {
        code.operands = None;
    }
    report.lost = vec![Lost {
        detail: "mappings",
        reason: "no room in the ring",
    }];
    report
}

/// Frames of every trust, names of every kind, and an end before the end.
fn hard_stack() -> Report {
    let stripped = Location {
        symbol: None,
        ..named("", 0x234, "/usr/lib/libstripped.so.1")
    };
    let anonymous = Location {
        module: Some(b"[anon]".to_vec()),
        ..Location::default()
    };
    let with_line = Location {
        file: Some(b"src/request.c".to_vec()),
        line: Some(118),
        ..named("handle", 0x45, "/srv/app")
    };
    let in_line = Location {
        file: Some(b"include/list.h".to_vec()),
        line: Some(7),
        ..named("pop", 0x2, "/srv/app")
    };
    let unplaced = Location {
        module: None,
        module_offset: None,
        build_id: None,
        ..named("lonely", 0, "")
    };
    let without_file = Location {
        module: Some(b"/srv/app (deleted)".to_vec()),
        file_offset: Some(FileOffset(0x11a3)),
        ..Location::default()
    };
    let mut frames = vec![
        frame(0, Trust::Context, Location::default()),
        frame(0x40_0234, Trust::Leaf, without_file),
        frame(0x40_1234, Trust::Leaf, stripped.clone()),
        StackFrame {
            inlined: true,
            ..frame(0x40_2234, Trust::Cfi, in_line)
        },
        frame(0x40_2234, Trust::Cfi, with_line),
        frame(
            0x40_3234,
            Trust::Signal,
            named("__restore_rt", 0, "/lib/libc.so.6"),
        ),
        StackFrame {
            exact: true,
            ..frame(0x40_3a34, Trust::Cfi, stripped.clone())
        },
        frame(0x40_4234, Trust::FramePointer, unplaced),
        frame(0x40_5234, Trust::ScanDirect, anonymous),
        frame(0x40_6234, Trust::ScanCfi, stripped.clone()),
        frame(0x40_7234, Trust::Scan, stripped.clone()),
    ];
    frames.extend(
        (0..3).map(|index| frame(0x50_0000 + index, Trust::Cfi, named("deep", index, "/a"))),
    );
    let mut report = bare(b"hard", 42);
    report.delivery.fault_address = Some(ProcessAddress(0));
    report.delivery.access = Some(Access::Execute);
    report.state.instruction_pointer = Some(ProcessAddress(0x40_1234));
    report.state.instruction = stripped;
    report.process.exe = Some(b"/srv/app".to_vec());
    report.process.cmdline = Some(b"/srv/app --serve".to_vec());
    report.stack = Some(StackTrace {
        gaps: false,
        frames,
        stop: Stop::StackNotCaptured(ProcessAddress(0x7ffe_1234_6000)),
    });
    report
}

#[test]
fn the_manuals_first_sample() {
    let mut first = bare(b"myapp", 1234);
    first.delivery.fault_address = Some(ProcessAddress(0x7f8b_4c00_0000));
    first.state.instruction_pointer = Some(ProcessAddress(0x5555_5555_4000));
    first.state.instruction = named("main", 0x10, "/usr/bin/myapp");
    first.delivery.code = ACCERR;
    first.why.cause = Cause::WriteProtected;
    first.why.text = b"write of 4 bytes at 0x7f8b4c000000: RAX (0x7f8b4c000000); the address \
        is in /usr/share/myapp/table (r--) at file offset 0x0, which is not writable"
        .to_vec();
    let mut second = bare(b"test_program", 5678);
    second.time.unix_ms += 2333;
    second.delivery.fault_address = Some(ProcessAddress(0));
    second.state.instruction_pointer = Some(ProcessAddress(0x5555_5555_4020));
    second.why.cause = Cause::NullDereference;
    second.why.text = b"write of 4 bytes at 0x0: null pointer in RAX".to_vec();
    let both = [output::text(&first, &PLAIN), output::text(&second, &PLAIN)].concat();
    compare("manual_basic.txt", &both);
}

#[test]
fn the_manuals_detailed_sample() {
    compare("manual_detailed.txt", &output::text(&detailed(), &DETAILED));
}

#[test]
fn the_manuals_json_sample() {
    let mut report = detailed();
    if let Some(stack) = &mut report.stack {
        stack.frames.truncate(2);
        stack.stop = Stop::Depth;
    }
    let options = Options {
        registers: false,
        ..DETAILED
    };
    let line = output::json(&report, &options);
    compare("manual_json.json", &line);
}

#[test]
fn the_manuals_statistics() {
    let statistics = Statistics {
        runtime: Duration::from_millis(45_200),
        kernel: KernelCounters {
            detected: 23,
            filtered: 5,
            captured: 18,
            submitted: 18,
            fault_info_captured: 22,
            fault_info_missed: 1,
            register_failures: 2,
            stack_failures: 1,
            ..KernelCounters::default()
        },
        user: UserCounters {
            processed: 18,
            symbol_cache_hits: 156,
            symbol_cache_misses: 34,
            ..UserCounters::default()
        },
        sizes: Sizes {
            symbol_cache_entries: 190,
            memory_bytes: 13_054_772,
            memory_limit_bytes: 100 << 20,
            ring_bytes: 256 << 10,
        },
        ..Statistics::default()
    };
    compare("manual_statistics.txt", statistics.page().as_bytes());
}

#[test]
fn strangers_text_is_harmless_in_both_formats() {
    let text = output::text(&hostile(), &DETAILED);
    compare("hostile.txt", &text);
    assert!(text
        .iter()
        .all(|&byte| byte == b'\n' || !byte.is_ascii_control()));
    let line = output::json(&hostile(), &DETAILED);
    compare("hostile.json", &line);
    let (end, inside) = line.split_last().expect("it is not empty");
    assert_eq!(*end, b'\n');
    assert!(inside.iter().all(|byte| (b' '..=b'~').contains(byte)));
}

#[test]
fn every_kind_of_frame() {
    let options = Options {
        registers: true,
        stack_trace: true,
        utc_offset_s: 5 * 3600 + 1800,
        ..DETAILED
    };
    let mut report = hard_stack();
    let mut words = [0; WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = 0x1000 + index as u64;
    }
    report.state.registers = Some(Registers::new(Arch::Aarch64, words));
    compare("every_frame.txt", &output::text(&report, &options));
    compare("every_frame.json", &output::json(&report, &options));
}

fn in_call(number: u32, name: Option<&'static str>, arguments: [u64; 6]) -> Option<Call> {
    Some(Call {
        call: SystemCall { number, arguments },
        name,
        futex: (number == 202).then_some(Operation {
            address: ProcessAddress(arguments[0]),
            name: Some("FUTEX_WAIT"),
        }),
    })
}

/// A thread whose stack has these calls and does not end early.
fn thread(tid: u32, name: &[u8], calls: &[&str]) -> ReportThread {
    let frames = calls.iter().enumerate().map(|(at, name)| {
        let trust = if at == 0 { Trust::Context } else { Trust::Cfi };
        // Other threads have the same calls elsewhere.
        let address = 0x40_0000 + u64::from(tid) * 16 + at as u64;
        frame(address, trust, named(name, 0x10, "/srv/app"))
    });
    ReportThread {
        tid,
        name: name.to_vec(),
        state: threads::State::Sleeping,
        call: None,
        waits_for: None,
        registers: None,
        stack: Some(StackTrace {
            frames: frames.collect(),
            stop: Stop::Outermost,
            gaps: false,
        }),
    }
}

/// Threads of every kind: in each state, alike and not.
fn several() -> ReportThreads {
    let place = Some(b"mutex_b+0x0 (/srv/\x1b[1mapp)".to_vec());
    let waits = |address, owner, place| {
        Some(WaitsFor {
            address: ProcessAddress(address),
            place,
            owner,
        })
    };
    let arguments = [0x60_1040, 0x80, 2, 0, 0, 0];
    let locked = |tid, owner: Option<u32>| ReportThread {
        call: in_call(202, Some("futex"), arguments),
        waits_for: waits(0x60_1040, owner, place.clone()),
        ..thread(tid, b"locker", &["lock", "work"])
    };
    let reader = |tid, descriptor, name: &[u8]| ReportThread {
        call: in_call(0, Some("read"), [descriptor, 0x7fff_0000, 512, 0, 0, 0]),
        ..thread(tid, name, &["read", "serve"])
    };
    let mut list = vec![locked(4711, Some(4712)), locked(4712, Some(4711))];
    list.extend((12..28).map(|tid| reader(tid, 5, b"worker")));
    list.extend([31, 40].map(|tid| reader(tid, tid.into(), b"reader \x1b[1m")));
    for tid in [50, 52, 54, 56, 58, 60, 62, 64, 66, 67] {
        list.push(ReportThread {
            call: in_call(202, Some("futex"), [tid.into(), 0x80, 2, 0, 0, 0]),
            waits_for: waits(tid.into(), None, None),
            ..thread(tid, b"pool", &["wait"])
        });
    }
    let mut cut = thread(70, b"deep", &["recurse"]);
    cut.state = threads::State::Uninterruptible;
    cut.call = in_call(467, None, [1; 6]);
    if let Some(stack) = &mut cut.stack {
        stack.stop = Stop::StackNotCaptured(ProcessAddress(0x7ffe_1234_6000));
    }
    list.push(cut);
    let without_stack = |tid, state| ReportThread {
        state,
        stack: None,
        ..thread(tid, b"", &[])
    };
    list.push(without_stack(71, threads::State::Running));
    list.push(without_stack(72, threads::State::Exiting));
    let mut preempted = thread(73, b"busy", &["spin"]);
    preempted.state = threads::State::Runnable;
    preempted.registers = Some(x86_64_registers([1, 2, 3, 4, 5, 6]));
    list.push(preempted);
    let mut unknown = thread(74, b"", &["spin"]);
    unknown.state = threads::State::Unknown;
    list.push(unknown);
    ReportThreads {
        list,
        count: Some(101),
        own: waits(0x7fff_1000, Some(4711), None),
        deadlock: vec![4711, 4712],
    }
}

#[test]
fn other_threads() {
    let mut report = detailed();
    report.threads = Some(Rc::new(several()));
    compare("threads.txt", &output::text(&report, &DETAILED));
    compare("threads.json", &output::json(&report, &DETAILED));
    // Without calls, and with a thread that waits for itself.
    if let Some(threads) = report.threads.as_mut().and_then(Rc::get_mut) {
        threads.count = None;
        threads.deadlock.truncate(1);
        threads.own = None;
        for thread in &mut threads.list {
            thread.stack = None;
        }
    }
    compare("threads_plain.txt", &output::text(&report, &PLAIN));
    compare("threads_plain.json", &output::json(&report, &PLAIN));
    report.threads = Some(Rc::default());
    compare("threads_none.txt", &output::text(&report, &PLAIN));
}

#[test]
fn what_is_near_and_how_often() {
    let mapping = |start, flags, offset: Option<u64>, name: &[u8], holds: &[Near]| NearbyMapping {
        start: ProcessAddress(start),
        end: ProcessAddress(start + 0x1000),
        flags: VmFlags(flags),
        file_offset: offset.map(FileOffset),
        name: name.to_vec(),
        holds: holds.to_vec(),
    };
    let mut report = bare(b"near", 7);
    report.state.registers = Some(x86_64_registers([
        0x40_1000,
        0x7ffe_0000,
        0x60_0012,
        0,
        0,
        0,
    ]));
    report.state.maps = Some(vec![
        mapping(0x40_1000, 5, Some(0x1000), b"/srv/\x1b[1m", &[Near::Pc]),
        mapping(0x60_0000, 3, None, b"[heap]", &[]),
        mapping(
            0x7ffe_0000,
            0x103,
            None,
            b"[stack]",
            &[Near::Fault, Near::Sp],
        ),
    ]);
    report.state.memory = Some(vec![MemoryWindow {
        address: ProcessAddress(0x60_0000),
        bytes: b"a \"text\" \x00\x1b[1m here and there".to_vec(),
    }]);
    report.counts.repeats = Some(41);
    report.counts.deaths = Some(40);
    compare("nearby.txt", &output::text(&report, &PLAIN));
    compare("nearby.json", &output::json(&report, &PLAIN));
}

#[test]
fn what_was_held_back() {
    let mut report = bare(b"near", 7);
    let day_ms = 86_400_000;
    report.counts.repeats = Some(41);
    let mut text = output::repeats(&report, &PLAIN);
    report.counts.since_ms = Some(MANUALS_TIME_MS - 90_000);
    report.state.instruction = named("price_of", 3, "/srv/bill");
    text.extend(output::repeats(&report, &PLAIN));
    report.why.signature = Some(0x6552_d0fc_c0db_cab3);
    report.state.instruction.symbol = None;
    text.extend(output::repeats(&report, &PLAIN));
    report.counts.since_ms = Some(MANUALS_TIME_MS - day_ms);
    report.state.instruction = Location::default();
    report.state.instruction_pointer = Some(ProcessAddress(0x1234));
    text.extend(output::repeats(&report, &PLAIN));
    for suppressed in [3, 0] {
        report.counts.suppressed = Some(suppressed);
        report.counts.repeats = Some(suppressed);
        text.extend(output::repeats(&report, &PLAIN));
    }
    compare("repeats.txt", &text);
    report.counts.suppressed = Some(7);
    compare("suppressed.json", &output::json(&report, &PLAIN));
}

/// Code segment 0x23; high halves that mean nothing.
#[test]
fn registers_of_a_32_bit_task() {
    let mut words: [u64; WORDS] = std::array::from_fn(|index| 0xabcd_0000_1000 + index as u64);
    words[16] = 0x0804_8123;
    words[17] = 0x23;
    let options = Options {
        registers: true,
        ..PLAIN
    };
    let mut report = bare(b"small", 7);
    report.state.registers = Some(Registers::new(Arch::X86_64, words));
    compare("registers_i386.txt", &output::text(&report, &options));
    compare("registers_i386.json", &output::json(&report, &options));
}

/// A host of a fleet, and a container there.
#[test]
fn of_which_host_and_container() {
    let id = "9e073649debeec6d511391c9ec7627ee67ce3a3fb508b0fa0437a97f8e58ba98";
    let mut report = bare(b"bill", 77);
    let cgroup = format!("/kubepods.slice/kubepods-pod019c1fe8_0d92_4aa0_b61c_4df58bdde71c.slice/cri-containerd-{id}.scope");
    report.process.cgroup = Some(cgroup.into_bytes());
    report.process.cmdline = Some(b"/srv/bill\0--title=a b\0\0".to_vec());
    let options = Options {
        host: Some(Host {
            name: "node-7".into(),
            boot_id: Some("3bc35687-c4a2-4f2f-aa6d-8655c232e95e".into()),
            kernel: "6.1.0-50-amd64".into(),
            machine: "x86_64".into(),
        }),
        ..PLAIN
    };
    compare("fleet.txt", &output::text(&report, &options));
    compare("fleet.json", &output::json(&report, &options));
}

/// What is too long for a collector of logs loses arguments first, and then outer calls.
#[test]
fn a_short_line() {
    let mut report = detailed();
    let options = Options {
        is_short: true,
        host: Some(Host::default()),
        registers: false,
        ..DETAILED
    };
    let whole = |report: &Report| {
        let line = output::json(report, &options);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        (line.len(), value)
    };
    let (_, value) = whole(&report);
    assert_eq!(value["lost"].to_string(), "[]");
    report.process.cmdline = Some([b"x".repeat(5000), b"\0y\0".to_vec()].concat());
    let (length, value) = whole(&report);
    assert!(length < output::SHORT_BYTES, "{length}");
    assert_eq!(value["cmdline"].as_str().map(str::len), Some(512));
    assert_eq!(value["argv"].as_array().map(Vec::len), Some(1));
    assert_eq!(value["stack_complete"], true);
    let stack = report.stack.as_mut().expect("a stack");
    let one = stack.frames[0].clone();
    for name_bytes in [1, 700, 7000, 9000] {
        let mut frame = one.clone();
        frame.location.symbol.as_mut().expect("a name").name = vec![b'f'; name_bytes];
        let stack = report.stack.as_mut().expect("a stack");
        stack.frames = vec![frame; 60];
        let (length, value) = whole(&report);
        let frames = value["stack_trace"].as_array().expect("frames").len();
        assert!((1..60).contains(&frames), "{frames}");
        assert!(length < output::SHORT_BYTES || frames == 1, "{length}");
        // As many as there is room for.
        let each = length / frames;
        assert!(
            length + each + 100 > output::SHORT_BYTES,
            "{length}, {frames}"
        );
        assert_eq!(value["stack_complete"], false);
        let lost = value["lost"].to_string();
        assert!(lost.contains("callers: left out"), "{lost}");
    }
}

#[test]
fn what_is_unknown_is_said_and_never_zero() {
    let nothing = bare(b"", 1);
    compare("unknown_plain.txt", &output::text(&nothing, &PLAIN));
    compare("unknown_plain.json", &output::json(&nothing, &PLAIN));
    let text = String::from_utf8(output::text(&nothing, &DETAILED)).expect("text is UTF-8");
    let text = text.replace(Arch::NATIVE.as_str(), "ARCH");
    compare("unknown_detailed.txt", text.as_bytes());
    compare("unknown_detailed.json", &output::json(&nothing, &DETAILED));
}
