//! The real binary against real crashes on the running kernel.
//!
//! `cargo test --test live` as root. Each test is named for what it shows; the
//! modules are subjects. The binary is SEGFAULT_ANALYZER, or the one that cargo
//! built. Where BPF is not permitted the tests that need it are counted as
//! ignored, with the reason; with CI=true that is a failure instead.
//!
//! Most tests share the host: each watches only programs with names of its own.
//! Those that load the machine, or that count what the whole host does, run alone
//! (one lock), and last.

#[cfg(not(target_os = "linux"))]
compile_error!("the live tests need Linux");

mod books;
mod busybox;
mod causes;
mod chains;
mod command;
mod compat;
mod containers;
mod context;
mod cores;
mod cpus;
mod crashers;
mod debuglinks;
mod deliveries;
mod desk;
mod examples;
mod fairness;
mod faults;
mod files;
mod filters;
mod folding;
mod frames;
mod harness;
mod help;
#[path = "../host/mod.rs"]
mod host;
mod hostile;
mod json;
mod lifetime;
mod limits;
mod lines;
mod measured;
mod names;
mod namespaces;
mod options;
mod overcome;
mod pipes;
mod privileges;
mod programs;
mod raised;
mod refusals;
mod report;
#[path = "../schema/validate.rs"]
mod schema;
mod secrets;
mod signatures;
mod skip;
mod starting;
mod statistics;
mod surroundings;
mod text;
mod thread_cores;
mod threads;
mod unanswered;
mod waiting;

use std::cell::RefCell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a test needs to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Needs {
    /// Nothing: no BPF, no root.
    Nothing,
    /// Root, with BPF permitted.
    Bpf,
    /// The same, and this program in PATH.
    Tool(&'static str),
    /// The same as `Bpf`, and the binary runs where there are no libraries.
    Static,
    /// Both of these.
    StaticAndTool(&'static str),
    /// The same as `Bpf`, and a compiler for programs of 32 bits.
    Compat,
    /// The same as `Bpf`, and no other test beside it.
    Alone,
}

/// One test: its name, what it needs, and the function that panics if it fails.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub needs: Needs,
    pub run: fn(),
}

/// The tests of a module, as `Case`s named `module::function`.
#[macro_export]
macro_rules! cases {
    ($($needs:expr => [$($test:ident),* $(,)?]),* $(,)?) => {
        pub const CASES: &[$crate::Case] = &[$($($crate::Case {
            name: concat!(module_path!(), "::", stringify!($test)),
            needs: $needs,
            run: $test,
        }),*),*];
    };
}

static HOST: RwLock<()> = RwLock::new(());

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Most of the time a test waits, for another process or for a second to pass.
    args.test_threads.get_or_insert(6);
    panic::set_hook(Box::new(|info| {
        PANIC.with(|text| *text.borrow_mut() = info.to_string())
    }));

    let refused = why_not();
    let mut cases: Vec<Case> = [
        crashers::CASES,
        help::CASES,
        options::CASES,
        lifetime::CASES,
        cpus::CASES,
        text::CASES,
        json::CASES,
        context::CASES,
        containers::CASES,
        chains::CASES,
        command::CASES,
        compat::CASES,
        deliveries::CASES,
        causes::CASES,
        raised::CASES,
        frames::CASES,
        overcome::CASES,
        signatures::CASES,
        desk::CASES,
        cores::CASES,
        threads::CASES,
        thread_cores::CASES,
        waiting::CASES,
        names::CASES,
        debuglinks::CASES,
        secrets::CASES,
        namespaces::CASES,
        lines::CASES,
        hostile::CASES,
        measured::CASES,
        examples::CASES,
        filters::CASES,
        folding::CASES,
        files::CASES,
        pipes::CASES,
        privileges::CASES,
        limits::CASES,
        statistics::CASES,
        refusals::CASES,
        starting::CASES,
        surroundings::CASES,
        unanswered::CASES,
        busybox::CASES,
        books::CASES,
        fairness::CASES,
        faults::CASES,
    ]
    .concat();
    cases.sort_by_key(|case| case.needs == Needs::Alone);
    let trials = cases
        .into_iter()
        .map(|case| trial(case, refused.clone()))
        .collect();
    let conclusion = libtest_mimic::run(&args, trials);

    if conclusion.has_failed() {
        eprintln!("kept for a look: {}", programs::scratch().display());
    } else {
        let _ = fs::remove_dir_all(programs::scratch());
    }
    conclusion.exit_code()
}

/// Why live tests cannot run here, if they cannot.
fn why_not() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("live tests need root".into());
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).ok()?;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let has = |bit: u32| capabilities >> bit & 1 == 1;
    if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)) {
        return None;
    }
    Some("live tests need CAP_BPF and CAP_PERFMON".into())
}

fn trial(case: Case, refused: Option<String>) -> Trial {
    let name = case.name.strip_prefix("live::").unwrap_or(case.name);
    Trial::ignorable_test(name, move || {
        let reason = match case.needs {
            Needs::Nothing => None,
            Needs::Tool(tool) | Needs::StaticAndTool(tool) if !programs::installed(tool) => {
                Some(format!("{tool} is not installed"))
            }
            Needs::Static | Needs::StaticAndTool(_) if !harness::is_static() => {
                Some("SEGFAULT_ANALYZER is not the path of the static binary".into())
            }
            Needs::Compat if !programs::links_32_bit() => {
                let reason = "no compiler for programs of 32 bits (gcc-multilib)";
                if !cfg!(target_arch = "x86_64") {
                    return Ok(Completion::ignored_with("this is about x86_64"));
                }
                Some(reason.into())
            }
            _ => refused,
        };
        match reason {
            Some(reason) => skip::skipped(reason),
            None => run(case),
        }
    })
}

fn run(case: Case) -> Result<Completion, Failed> {
    let result = if case.needs == Needs::Alone {
        let _alone = HOST.write().unwrap_or_else(PoisonError::into_inner);
        panic::catch_unwind(AssertUnwindSafe(case.run))
    } else {
        let _shared = HOST.read().unwrap_or_else(PoisonError::into_inner);
        panic::catch_unwind(AssertUnwindSafe(case.run))
    };
    let transcripts = harness::take_transcripts();
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(payload) => skip::conclusion(&*payload).unwrap_or_else(|| {
            let message = PANIC.with(RefCell::take);
            Err(Failed::from(format!("{message}\n{transcripts}")))
        }),
    }
}
