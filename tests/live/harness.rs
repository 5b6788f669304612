//! Starts the real binary, watches what it writes, and stops it.
//!
//! A [`Monitor`] is one running instance; its two streams are read by threads
//! into a [`Transcript`], so that a test polls what has come so far and never
//! sleeps for a guessed time. Everything that was started is killed on drop. The
//! transcripts of a test's monitors end in its failure message.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::report::Report;

/// Longer than anything here takes on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    static TRANSCRIPTS: RefCell<Vec<Arc<Transcript>>> = const { RefCell::new(Vec::new()) };
}

/// What the monitors of this thread's test wrote, for its failure message.
pub fn take_transcripts() -> String {
    let transcripts = TRANSCRIPTS.with(RefCell::take);
    // A test that starts one monitor after another fails at its last.
    let last = transcripts.len().saturating_sub(3);
    transcripts[last..].iter().map(|t| t.to_string()).collect()
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("SEGFAULT_ANALYZER").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_segfault_analyzer")),
        |path| std::path::absolute(path).expect("a path"),
    )
}

/// Whether the binary under test is the one for musl, which needs no libraries.
pub fn is_static() -> bool {
    let path = binary();
    path.components().any(|component| {
        component
            .as_os_str()
            .to_string_lossy()
            .ends_with("-linux-musl")
    })
}

/// Options for every monitor, from SEGFAULT_ANALYZER_ARGS: to try another method with
/// the same tests.
pub fn options_for_all() -> Vec<String> {
    let options = std::env::var("SEGFAULT_ANALYZER_ARGS").unwrap_or_default();
    options.split_whitespace().map(str::to_owned).collect()
}

/// Calls `poll` until it gives a value; panics with `what` at the deadline.
pub fn eventually<T>(what: &str, patience: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The command line and the two streams of one monitor.
#[derive(Default)]
pub struct Transcript {
    command: String,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n--- {}", self.command)?;
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let bytes = stream.lock().expect("no reader panics");
            writeln!(f, "--- {name}, {} bytes", bytes.len())?;
            // A storm's reports would bury the message: the last ones are enough.
            let from = bytes.len().saturating_sub(16_384);
            writeln!(f, "{}", String::from_utf8_lossy(&bytes[from..]))?;
        }
        Ok(())
    }
}

/// How a monitor ended and all that it wrote.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is UTF-8")
    }

    /// Every line of stdout as a report; panics if there is anything else.
    pub fn reports(&self) -> Vec<Report> {
        assert!(
            self.stdout.is_empty() || self.stdout.ends_with(b"\n"),
            "stdout ends in half a line"
        );
        self.text().lines().map(Report::parse).collect()
    }
}

/// A running instance of the binary.
pub struct Monitor {
    child: Child,
    transcript: Arc<Transcript>,
    readers: Vec<JoinHandle<()>>,
}

impl Monitor {
    /// Starts the binary and waits until it says that it is attached.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Monitor {
        let mut command = Command::new(binary());
        command.args(options_for_all()).args(args);
        Monitor::start_as(command)
    }

    /// As `start`, with a command of the test's own making.
    pub fn start_as(command: Command) -> Monitor {
        let mut monitor = Monitor::spawn(command);
        monitor.wait_attached();
        monitor
    }

    /// Starts a command without waiting. Its stdout is captured unless the command
    /// redirects it and says so through `spawn_redirected`.
    pub fn spawn(mut command: Command) -> Monitor {
        command.stdout(Stdio::piped());
        Monitor::spawn_redirected(command)
    }

    pub fn spawn_redirected(mut command: Command) -> Monitor {
        command.stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let transcript = Arc::new(Transcript {
            command: format!("{command:?}"),
            ..Default::default()
        });
        TRANSCRIPTS.with(|all| all.borrow_mut().push(Arc::clone(&transcript)));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_all(stdout, Arc::clone(&transcript), |t| &t.stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_all(stderr, Arc::clone(&transcript), |t| &t.stderr));
        }
        Monitor {
            child,
            transcript,
            readers,
        }
    }

    pub fn wait_attached(&mut self) {
        eventually(
            "a line that begins `Monitoring` on stderr",
            PATIENCE,
            || {
                if self
                    .stderr()
                    .lines()
                    .any(|line| line.starts_with("Monitoring"))
                {
                    return Some(());
                }
                let ended = self.child.try_wait().expect("our own child");
                assert!(ended.is_none(), "ended before it was attached: {ended:?}");
                None
            },
        );
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.transcript.stderr.lock().expect("no reader panics"))
            .into_owned()
    }

    pub fn stdout(&self) -> Vec<u8> {
        self.transcript
            .stdout
            .lock()
            .expect("no reader panics")
            .clone()
    }

    /// The reports that are complete so far.
    pub fn reports(&self) -> Vec<Report> {
        complete_lines(&self.stdout())
            .iter()
            .map(|line| Report::parse(line))
            .collect()
    }

    /// The last report that is complete.
    pub fn last_report(&self) -> Option<Report> {
        let stdout = self.transcript.stdout.lock().expect("no reader panics");
        let end = stdout.iter().rposition(|&byte| byte == b'\n')?;
        let begin = stdout[..end]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        Some(Report::parse(&String::from_utf8_lossy(&stdout[begin..end])))
    }

    /// Waits for at least `count` reports.
    pub fn wait_reports(&self, count: usize) -> Vec<Report> {
        eventually(&format!("{count} reports"), PATIENCE, || {
            let lines = self.stdout().iter().filter(|&&byte| byte == b'\n').count();
            (lines >= count).then(|| self.reports())
        })
    }

    /// The report of this process, if it comes within that time.
    pub fn report_of_within(&self, pid: u32, time: Duration) -> Option<Report> {
        let deadline = Instant::now() + time;
        loop {
            let mut reports = self.reports().into_iter();
            if let Some(report) = reports.find(|report| report["pid"] == pid) {
                return Some(report);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the report of this process.
    pub fn wait_report_of(&self, pid: u32) -> Report {
        let report = self.report_of_within(pid, PATIENCE);
        report.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for a report of {pid}"))
    }

    /// Waits until stderr contains `needle`.
    pub fn wait_stderr(&self, needle: &str) {
        eventually(&format!("{needle:?} on stderr"), PATIENCE, || {
            self.stderr().contains(needle).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.id() as i32), signal).expect("our own child");
    }

    /// Ends the monitor as a user does, by SIGINT, and checks that it ends with 0.
    pub fn stop(self) -> Outcome {
        self.signal(Signal::SIGINT);
        let outcome = self.wait();
        assert_eq!(
            outcome.status.code(),
            Some(0),
            "status after SIGINT: {:?}",
            outcome.status
        );
        outcome
    }

    /// Waits until the monitor ends by itself.
    pub fn wait(mut self) -> Outcome {
        let status = eventually("the end of the monitor", PATIENCE, || {
            self.child.try_wait().expect("our own child")
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panics");
        }
        Outcome {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs the binary to its end, for command lines that do not monitor.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Outcome {
    let mut command = Command::new(binary());
    command.args(args);
    Monitor::spawn(command).wait()
}

/// Runs a program to its end.
pub fn status_of(command: &mut Command) -> ExitStatus {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .status()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"))
}

/// Runs a program that must die by SIGSEGV; gives its process id.
pub fn crash(command: &mut Command) -> u32 {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let status = child.wait().expect("our own child");
    assert_eq!(
        status.signal(),
        Some(libc::SIGSEGV),
        "{command:?} should die by SIGSEGV: {status:?}"
    );
    child.id()
}

/// The lines of `bytes` that have their newline.
pub fn complete_lines(bytes: &[u8]) -> Vec<String> {
    let end = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    String::from_utf8_lossy(&bytes[..end])
        .lines()
        .map(str::to_owned)
        .collect()
}

fn read_all(
    mut stream: impl Read + Send + 'static,
    transcript: Arc<Transcript>,
    which: fn(&Transcript) -> &Mutex<Vec<u8>>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            which(&transcript)
                .lock()
                .expect("no reader panics")
                .extend_from_slice(&buffer[..count]);
        }
    })
}
