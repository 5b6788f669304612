//! The other threads of a process that crashes, as each capture method reads them from the
//! kernel that this runs on. Where bpf(2) is not permitted the tests are skipped.

#[path = "host/mod.rs"]
mod host;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::libc;
use segfault_analyzer::base::address::ProcessAddress;
use segfault_analyzer::base::error::Kind;
use segfault_analyzer::capture::record::assemble::Assembler;
use segfault_analyzer::capture::{self, Capture, Next};
use segfault_analyzer::config::{CaptureConfig, Method};
use segfault_analyzer::crash::event::{Event, MemoryWindow};
use segfault_analyzer::crash::registers::Arch;
use segfault_analyzer::crash::threads::{State, Thread, Threads};
use segfault_analyzer::loader::{self, probe::Features};

const MARK: u64 = 0x7761_6974_2061_7400;
const RED_ZONE: u64 = 128;
const STACK_BYTES: u32 = 8 << 10;
const ENV: &str = "THREADS_LIVE_SECRET=never-shown-by-a-thread";

/// A copy of the program under a name of its own, by which it is captured.
struct Program {
    path: PathBuf,
    name: String,
}

impl Program {
    fn new(test: &str) -> Option<Program> {
        if !host::has("cc") {
            return None;
        }
        let name = format!("{test}{}", std::process::id() % 100_000);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crashers/waiting.c");
        let built = Command::new("cc")
            .args(["-O1", "-g", "-pthread", "-o"])
            .arg(&path)
            .arg(source)
            .status()
            .expect("cc runs");
        assert!(built.success());
        Some(Program { path, name })
    }

    fn config(&self) -> CaptureConfig {
        CaptureConfig {
            name: Some(self.name.as_bytes().to_vec()),
            stack_bytes: 32 << 10,
            threads: 64,
            thread_stack_bytes: STACK_BYTES,
            ring_bytes: 4 << 20,
            ..CaptureConfig::default()
        }
    }

    /// A capture of it alone.
    fn start(&self, method: Method, config: &CaptureConfig) -> Option<Box<dyn Capture>> {
        let types = loader::kernel_types(None).expect("the kernel's types");
        match capture::start(method, config, &types, None) {
            Ok(started) => Some(started.capture),
            Err(error) if error.kind() == Kind::NotPermitted => {
                host::skip(error);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The event of one crash.
    fn event(&self, method: Method, config: &CaptureConfig, args: &[&str]) -> Option<Event> {
        let mut capture = self.start(method, config)?;
        Some(self.crash(capture.as_mut(), args))
    }

    fn crash(&self, capture: &mut dyn Capture, args: &[&str]) -> Event {
        let (name, value) = ENV.split_once('=').expect("a variable");
        let mut child = Command::new(&self.path)
            .args(args)
            .env(name, value)
            .spawn()
            .expect("the program runs");
        let pid = child.id();
        self.fetch(capture, &mut child, |event| event.host_pid == pid)
    }

    /// What a child that is about to die, or its child, gives.
    fn fetch(
        &self,
        capture: &mut dyn Capture,
        child: &mut Child,
        is_it: impl Fn(&Event) -> bool,
    ) -> Event {
        let status = child.wait().expect("it ends");
        assert!(!status.success());
        let mut assembler = Assembler::new(4096, 64 << 20);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let mut whole = None;
            let next = capture.next_part(&mut |part| {
                whole = assembler.feed(part).expect("a part that makes sense");
            });
            match whole {
                Some(event) if is_it(&event) => return event,
                _ => assert!(next != Next::Lost { cpu: 0 } || assembler.is_waiting()),
            }
        }
        panic!("no event came");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn methods() -> Vec<Method> {
    let mut methods = vec![Method::Chain, Method::Tracepoint];
    if Features::new().callbacks().unwrap_or(false) {
        methods.insert(0, Method::Ring);
    }
    methods
}

fn threads(event: &Event) -> &Threads {
    event.threads.as_ref().expect("they were wanted")
}

fn words(window: &MemoryWindow) -> impl Iterator<Item = u64> + '_ {
    let skip = window.address.0.next_multiple_of(8) - window.address.0;
    let bytes = window.bytes.get(skip as usize..).unwrap_or_default();
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight")))
}

fn has_mark(thread: &Thread, mark: u64) -> bool {
    thread
        .windows
        .iter()
        .flat_map(words)
        .any(|word| word == mark)
}

fn lost(event: &Event) -> Vec<&'static str> {
    let lost = event.lost.iter().filter(|lost| lost.detail == "threads");
    lost.map(|lost| lost.reason).collect()
}

/// No byte of arguments or environment is in a window.
fn assert_hidden(event: &Event) {
    let value = ENV.split_once('=').expect("a variable").1.as_bytes();
    for thread in &threads(event).list {
        for window in &thread.windows {
            let shown = window.bytes.windows(value.len()).any(|part| part == value);
            assert!(!shown, "{thread:?}");
            let end = window.address.0 + window.bytes.len() as u64;
            assert!(window.address.0 > event.start_stack.0 || end <= event.start_stack.0 + 16);
        }
    }
}

/// The calls that the threads' names tell, by the numbers of this architecture.
fn calls() -> Vec<(&'static str, Vec<libc::c_long>)> {
    #[cfg(target_arch = "x86_64")]
    let (poll, epoll) = (libc::SYS_poll, libc::SYS_epoll_wait);
    #[cfg(target_arch = "aarch64")]
    let (poll, epoll) = (libc::SYS_ppoll, libc::SYS_epoll_pwait);
    vec![
        ("w-mutex", vec![libc::SYS_futex]),
        ("w-read", vec![libc::SYS_read]),
        ("w-poll", vec![poll]),
        (
            "w-sleep",
            vec![libc::SYS_clock_nanosleep, libc::SYS_nanosleep],
        ),
        ("w-join", vec![libc::SYS_futex]),
        ("w-epoll", vec![epoll]),
        ("w-accept", vec![libc::SYS_accept, libc::SYS_accept4]),
        ("w-signal", vec![libc::SYS_rt_sigtimedwait]),
    ]
}

#[test]
fn each_thread_is_in_its_call() {
    let Some(program) = Program::new("wcalls") else {
        return;
    };
    for method in methods() {
        let config = program.config();
        let Some(event) = program.event(method, &config, &["calls"]) else {
            return;
        };
        let threads = threads(&event);
        assert_eq!((lost(&event), threads.count), (vec![], 11), "{method:?}");
        let names: Vec<_> = threads.list.iter().map(|one| one.name.clone()).collect();
        let mut expected = vec![program.name.clone().into_bytes()];
        expected.extend(calls().iter().map(|(name, _)| name.as_bytes().to_vec()));
        expected.push(b"w-spin".to_vec());
        assert_eq!(names, expected, "in the order of their creation");
        assert_hidden(&event);
        let main = &threads.list[0];
        assert_eq!((main.host_tid, main.tid), (event.host_pid, event.pid));
        for (number, (name, numbers)) in calls().iter().enumerate() {
            let thread = &threads.list[number + 1];
            assert_eq!(thread.state, State::Sleeping, "{name}");
            let call = thread.system_call.unwrap_or_else(|| panic!("{name}"));
            assert!(
                numbers.contains(&i64::from(call.number)),
                "{name}: {call:?}"
            );
            let registers = thread.registers.expect("registers");
            assert_eq!(registers.arch(), Arch::NATIVE);
            let code = event.mapping(registers.pc()).expect("its code is mapped");
            assert!(code.flags.executable(), "{name}");
            let begin = registers.sp().0 - RED_ZONE;
            let mut windows = thread.windows.iter();
            let stack = windows.find(|one| one.address.0 == begin);
            let bytes = stack.map_or(0, |one| one.bytes.len());
            assert!(
                bytes > 512 && bytes <= STACK_BYTES as usize,
                "{name}: {bytes}"
            );
            assert!(has_mark(thread, MARK + number as u64), "{name}");
        }
        let spinning = &threads.list[9];
        match spinning.state {
            State::Running => assert!(spinning.windows.is_empty()),
            State::Runnable => assert!(has_mark(spinning, MARK + 8)),
            other => panic!("{other:?}"),
        }
        assert_eq!(spinning.system_call, None);
    }
}

/// `read` of the pipe's end: its arguments are those that the program has passed.
#[test]
fn arguments_are_those_of_the_call() {
    let Some(program) = Program::new("wargs") else {
        return;
    };
    for method in methods() {
        let Some(event) = program.event(method, &program.config(), &["calls"]) else {
            return;
        };
        let by_name: BTreeMap<&[u8], &Thread> = threads(&event)
            .list
            .iter()
            .map(|thread| (&thread.name[..], thread))
            .collect();
        let arguments = |name: &str| {
            let call = by_name[name.as_bytes()].system_call.expect("in a call");
            call.arguments
        };
        let read = arguments("w-read");
        assert_eq!((read[0], read[2]), (77, 1), "read(77, buffer, 1)");
        let stack = &by_name[&b"w-read"[..]].windows[0];
        let end = stack.address.0 + stack.bytes.len() as u64;
        assert!(
            (stack.address.0..end).contains(&read[1]),
            "a local of the caller"
        );
        // glibc has the owner of a mutex 8 bytes into it.
        let (mutex, lock) = (by_name[&b"w-mutex"[..]], arguments("w-mutex")[0]);
        let mut windows = mutex.windows.iter();
        let owner = windows.find_map(|one| one.get(ProcessAddress(lock + 8), 4));
        assert_eq!(owner, Some(&event.ns_tid.to_ne_bytes()[..]), "{method:?}");
        let poll = arguments("w-poll");
        assert_eq!(poll[1], 1, "one descriptor");
        let epoll = arguments("w-epoll");
        assert_eq!((epoll[2], epoll[3] as u32), (1, u32::MAX));
    }
}

#[test]
fn without_stacks_there_are_names_and_calls() {
    let Some(program) = Program::new("wbare") else {
        return;
    };
    for method in methods() {
        let config = CaptureConfig {
            stack_bytes: 0,
            thread_stack_bytes: 0,
            ..program.config()
        };
        let Some(event) = program.event(method, &config, &["calls"]) else {
            return;
        };
        assert_eq!(threads(&event).list.len(), 10, "{method:?}");
        for thread in &threads(&event).list[..9] {
            // Of a lock alone.
            let bytes: usize = thread.windows.iter().map(|one| one.bytes.len()).sum();
            assert!(bytes <= 16 && thread.system_call.is_some(), "{thread:?}");
        }
        let config = CaptureConfig {
            threads: 0,
            ..program.config()
        };
        let Some(event) = program.event(method, &config, &["calls"]) else {
            return;
        };
        assert_eq!((&event.threads, lost(&event)), (&None, vec![]));
    }
}

#[test]
fn ten_thousand_are_cut_and_that_is_named() {
    let Some(program) = Program::new("wmany") else {
        return;
    };
    for method in methods() {
        let config = program.config();
        let Some(event) = program.event(method, &config, &["many", "9999"]) else {
            return;
        };
        let threads = threads(&event);
        assert_eq!(threads.count, 10_000);
        assert_eq!(lost(&event), ["more than --threads asks for"]);
        assert_eq!(threads.list.len(), 64);
        assert!(threads.list.iter().all(|thread| has_mark(thread, MARK)));
    }
}

/// Threads begin and end while others are walked. Whatever is there is in order.
#[test]
fn threads_that_come_and_go_break_no_record() {
    const RUNS: usize = 40;
    let Some(program) = Program::new("wchurn") else {
        return;
    };
    for method in methods() {
        let Some(mut capture) = program.start(method, &program.config()) else {
            return;
        };
        for _ in 0..RUNS {
            let event = program.crash(capture.as_mut(), &["churn"]);
            assert_eq!(lost(&event), [""; 0], "{method:?}");
            let threads = threads(&event);
            assert_eq!(
                threads.list.len() + 1,
                threads.count as usize,
                "{threads:?}"
            );
            assert!(threads.list.len() >= 4, "those that make others stay");
            let mut tids: Vec<_> = threads.list.iter().map(|one| one.host_tid).collect();
            assert!(!tids.contains(&event.host_tid) && !tids.contains(&0));
            tids.sort_unstable();
            tids.dedup();
            assert_eq!(tids.len(), threads.list.len(), "each once");
            for thread in &threads.list {
                let is_seen = matches!(thread.state, State::Running | State::Exiting);
                assert!(!is_seen || thread.windows.is_empty(), "{thread:?}");
            }
        }
    }
}

/// The chain has a limited number of calls, some of which are kept for threads.
#[test]
fn what_the_chain_has_no_calls_for_is_named() {
    let Some(program) = Program::new("wchain") else {
        return;
    };
    let config = CaptureConfig {
        threads: 1024,
        thread_stack_bytes: 1024,
        ..program.config()
    };
    let Some(mut capture) = program.start(Method::Chain, &config) else {
        return;
    };
    let event = program.crash(capture.as_mut(), &["many", "1000"]);
    assert_eq!(lost(&event), ["too many for this capture method"]);
    let sent = threads(&event).list.len();
    assert!((90..1000).contains(&sent), "{sent}");
    let event = program.crash(capture.as_mut(), &["many", "100"]);
    assert_eq!((lost(&event), threads(&event).list.len()), (vec![], 100));
}

/// A ring that is too small for all of them has some, and its record has an end.
#[test]
fn what_the_ring_has_no_room_for_is_named() {
    let Some(program) = Program::new("wsmall") else {
        return;
    };
    for method in methods() {
        let config = CaptureConfig {
            threads: 500,
            ring_bytes: 256 << 10,
            ..program.config()
        };
        let Some(event) = program.event(method, &config, &["many", "499"]) else {
            return;
        };
        assert_eq!(
            lost(&event),
            ["the ring had no room for all of them"],
            "{method:?}"
        );
        let sent = threads(&event).list.len();
        assert!((2..499).contains(&sent), "{sent}");
        assert_eq!(threads(&event).count, 500, "the end of the record came");
    }
}

/// Nothing of a thread that has exited is there but its name.
#[test]
fn the_first_thread_may_have_ended() {
    let Some(program) = Program::new("worphan") else {
        return;
    };
    for method in methods() {
        let Some(event) = program.event(method, &program.config(), &["orphan"]) else {
            return;
        };
        let threads = threads(&event);
        assert_eq!((threads.count, threads.list.len()), (2, 1), "{method:?}");
        let ended = &threads.list[0];
        assert_eq!(
            (ended.host_tid, ended.state),
            (event.host_pid, State::Exiting)
        );
        assert_eq!(ended.name, program.name.as_bytes());
        assert_eq!((ended.registers, ended.system_call), (None, None));
        assert!(ended.windows.is_empty());
    }
}

#[test]
fn numbers_are_those_of_each_namespace() {
    let Some(program) = Program::new("wspaces") else {
        return;
    };
    if !host::has("unshare") || !host::is_root() {
        return;
    }
    for method in methods() {
        let Some(mut capture) = program.start(method, &program.config()) else {
            return;
        };
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(&program.path)
            .arg("calls")
            .spawn()
            .expect("unshare runs");
        let event = program.fetch(capture.as_mut(), &mut child, |_| true);
        let list = &threads(&event).list;
        let inside: Vec<_> = list.iter().map(|thread| thread.ns_tid).collect();
        let crashed = event.ns_tid;
        let expected: Vec<_> = (1..=11).filter(|tid| *tid != crashed).collect();
        assert_eq!(inside, expected, "{method:?}");
        // The threads were created one after the other.
        for thread in list {
            let seen = thread.tid.expect("it is in a namespace below ours");
            assert!(seen > thread.ns_tid && thread.host_tid > thread.ns_tid);
            let is_main = thread.host_tid == event.host_pid;
            assert_eq!(
                (is_main, Some(seen) == event.pid),
                (thread.ns_tid == 1, is_main)
            );
        }
    }
}

/// A signal finds the thread in a call that waits for a lock: that is copied, too.
#[test]
fn the_thread_that_dies_may_wait_for_a_lock() {
    let Some(program) = Program::new("wlocked") else {
        return;
    };
    for method in methods() {
        let Some(event) = program.event(method, &program.config(), &["locked"]) else {
            return;
        };
        assert_eq!((event.code, event.host_tid), (-6, event.host_pid), "tgkill");
        let registers = event.registers.expect("registers");
        let lock = ProcessAddress(registers.call_arguments()[0]);
        let window = event.memory.iter().find(|one| one.address == lock);
        let bytes = &window.expect("the lock").bytes;
        assert_eq!(bytes.len(), 16, "{method:?}");
        let holder = threads(&event).list[0].ns_tid;
        assert_eq!(bytes[8..12], holder.to_ne_bytes(), "the owner, by glibc");
    }
}
