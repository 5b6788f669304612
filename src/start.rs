//! Decides which capture method works here. No other place does.
//!
//! ```text
//! types    the kernel's own, those in a file that the user names, or measured ones
//! methods  ring, chain, tracepoint, perf: one that the kernel is known to lack is
//!          skipped; after one that it refuses comes the next, with a warning
//! proof    a child of ours faults; its record must be right
//! ```
//!
//! Out comes a [`Capture`](crate::capture::Capture) whose records were seen to be right, or why there is none:
//! what is not permitted, or what this kernel lacks. A method that the user has named is
//! taken or refused, and nothing else is tried.

use crate::base::error::{Error, Kind, Result};
use crate::capture::{self, Started};
use crate::config::{Method, StartConfig};
use crate::crash::event::Lost;
use crate::loader::compare;
use crate::loader::probe::{self, Features};
use crate::loader::source::NO_TYPES_HINT;
use crate::loader::{self, KernelTypes};
use crate::sys::messages::say;
use crate::sys::process;

pub mod measured;
pub mod proof;

use proof::{Outcome, Proof};

/// The methods with BPF programs, from the one that captures most to the one that needs least.
const PROGRAMS: [Method; 3] = [Method::Ring, Method::Chain, Method::Tracepoint];

/// The hint that a method need not be named.
const FORCED_HINT: &str = "without --capture the best that this kernel has is taken";

/// Why one method does not work.
struct Refusal {
    error: Error,
    /// No other method would be better.
    is_final: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal {
            error,
            is_final: false,
        }
    }
}

/// Loads and attaches what the user asked for, and proves it.
pub fn start(config: &StartConfig) -> Result<Started> {
    let mut started = match config.method {
        Some(method) => forced(method, config),
        None => best(config),
    }?;
    if !process::sees_all_processes() {
        started.lost.push(OF_OTHER_CONTAINERS);
        let Lost { detail, reason } = OF_OTHER_CONTAINERS;
        started.warnings.push(format!(
            "reports will lack {detail} {reason}; {}",
            process::container_hint()
        ));
    }
    Ok(started)
}

/// What is out of reach from a pid namespace in which other processes cannot be seen.
const OF_OTHER_CONTAINERS: Lost = Lost {
    detail: "symbols",
    reason: "of other containers: this is a pid namespace of its own",
};

/// One method, as the user says.
fn forced(method: Method, config: &StartConfig) -> Result<Started> {
    let types = match method {
        Method::Perf => Ok(KernelTypes::none()),
        _ => types(config),
    };
    let why = "as --capture says";
    let started = types
        .map_err(Refusal::from)
        .and_then(|types| proved(method, config, &types, why));
    started.map_err(|refusal| match lack(method, &Features::new()) {
        Ok(Some(lack)) => {
            let message = format!("--capture {}: {lack}", method.name());
            Error::unsupported(message).with_hint(FORCED_HINT)
        }
        _ => refusal.error,
    })
}

/// The first method that works.
fn best(config: &StartConfig) -> Result<Started> {
    let mut refused = Vec::new();
    match types(config) {
        Ok(types) => {
            if let Some(started) = by_programs(config, &types, &mut refused)? {
                return Ok(started);
            }
        }
        Err(error) if config.btf.is_some() => return Err(error),
        Err(error) => refused.push(error),
    }
    let refusal = telling(refused);
    if let Some(path) = &config.btf {
        return Err(refusal.context(format!("with the type information in {}", path.display())));
    }
    if config.measure_types {
        return Err(refusal);
    }
    without_programs(config, refusal)
}

/// The first method with programs that works; the reasons of the others are added to
/// `refused`.
fn by_programs(
    config: &StartConfig,
    types: &KernelTypes,
    refused: &mut Vec<Error>,
) -> Result<Option<Started>> {
    let features = Features::new();
    let mut why = "this kernel has bpf_loop".to_string();
    for method in PROGRAMS {
        match lack(method, &features) {
            Ok(None) => {}
            Ok(Some(lack)) => {
                why = lack.to_string();
                continue;
            }
            Err(error) => {
                refused.push(error);
                continue;
            }
        }
        match proved(method, config, types, &why) {
            Ok(mut started) => {
                if !refused.is_empty() {
                    let refusal = telling(std::mem::take(refused));
                    let warning = instead(&refusal, method, &started);
                    started.warnings.push(warning);
                }
                return Ok(Some(started));
            }
            Err(Refusal { error, is_final }) => {
                if is_final || error.kind() == Kind::Usage {
                    return Err(error);
                }
                if config.capture.verbose {
                    say(&format!("Refused method {}: {error}", method.name()));
                }
                why = format!("{} was refused", method.name());
                refused.push(error);
            }
        }
    }
    if refused.is_empty() {
        refused.push(probe::no_tracepoints());
    }
    Ok(None)
}

/// Perf events, where there is no program; else the reason for that.
fn without_programs(config: &StartConfig, refused: Error) -> Result<Started> {
    let why = first_line(&refused);
    let started = proved(Method::Perf, config, &KernelTypes::none(), &why);
    match started.map_err(|refusal| refusal.error) {
        Ok(mut started) => {
            let warning = instead(&refused, Method::Perf, &started);
            started.warnings.push(warning);
            Ok(started)
        }
        Err(too) if refused.kind() == Kind::NotPermitted => Err(match too.kind() {
            Kind::Usage => too,
            _ => refused,
        }),
        Err(too) if too.kind() == Kind::Usage => Err(too),
        Err(too) => {
            let hint = refused.hint().unwrap_or_default();
            let hint = format!("{hint}; without BPF: {too}");
            // With more privileges it would work.
            let kind = match too.kind() {
                Kind::NotPermitted => Kind::NotPermitted,
                _ => Kind::Unsupported,
            };
            Err(refused
                .with_kind(kind)
                .with_hint(hint.trim_start_matches("; ").to_string()))
        }
    }
}

/// The feature that this method needs and the kernel is known to lack.
fn lack(method: Method, features: &Features) -> Result<Option<&'static str>> {
    let (has, lack) = match method {
        // One probe is enough: a kernel with bpf_loop has everything else.
        Method::Ring => (features.callbacks()?, "this kernel has no bpf_loop (5.17)"),
        Method::Chain => (
            features.raw_tracepoints()?,
            "this kernel has no raw tracepoints (4.17)",
        ),
        Method::Tracepoint => (
            features.tracepoints()?,
            "this kernel runs no BPF programs at tracepoints",
        ),
        Method::Perf => (true, ""),
    };
    Ok((!has).then_some(lack))
}

/// Types of this kernel, or measured ones.
fn types(config: &StartConfig) -> Result<KernelTypes> {
    if !config.measure_types {
        match loader::kernel_types(config.btf.as_deref()) {
            Err(error) if config.btf.is_none() && error.kind() == Kind::Unsupported => {}
            Ok(types) => return agreeing(types),
            refused => return refused,
        }
    }
    let layout = measured::layout(config.method).map_err(|error| {
        let error = error.context("measuring offsets, because the kernel has no type information");
        match error.hint() {
            Some(_) => error,
            None => error.with_hint(NO_TYPES_HINT),
        }
    });
    Ok(measured::types(&layout?))
}

/// Types from a file that the user has named, if the kernel's own do not contradict them.
fn agreeing(types: KernelTypes) -> Result<KernelTypes> {
    let Some(path) = types.file() else {
        return Ok(types);
    };
    let Ok(kernels) = loader::kernel_types(None) else {
        return Ok(types);
    };
    match compare::first_difference(&capture::ring_object()?, &types, &kernels)? {
        None => Ok(types),
        Some(difference) => {
            let message = format!("{} describes another kernel: {difference}", path.display());
            let hint = format!("without --btf the tool uses the kernel's own types: {kernels}");
            Err(Error::unsupported(message).with_hint(hint))
        }
    }
}

/// Starts one method, and enables the filters after its records have proved right.
fn proved(
    method: Method,
    config: &StartConfig,
    types: &KernelTypes,
    why: &str,
) -> Result<Started, Refusal> {
    let proof = Proof::new();
    let mut started = capture::start(method, &config.capture, types, Some(proof.mark()))?;
    started.choice = format!("Capture method: {}, {why}", method.name());
    match proof.tried(&mut started, &config.capture) {
        Outcome::Right => {}
        Outcome::Impossible(reason) => {
            started.warnings.push(format!(
                "cannot verify that reports will be right: {reason}"
            ));
        }
        Outcome::Doubtful(details) => match types.file() {
            Some(_) => return Err(wrong(types, details[0])),
            None => started.warnings.push(format!(
                "the record of a test fault is right, except: {}",
                details.join(", ")
            )),
        },
        Outcome::Wrong(what) => return Err(wrong(types, what)),
        Outcome::Unseen => {
            let error = Error::unsupported(
                "a test fault was not captured, although everything is attached",
            );
            let hint = "something prevents the kernel from running the attached programs";
            return Err(error.with_hint(hint).into());
        }
    }
    started.capture.let_filters_hold()?;
    Ok(started)
}

/// For a record with wrong values.
fn wrong(types: &KernelTypes, what: &str) -> Refusal {
    let error = match types.file() {
        Some(path) => Error::unsupported(format!(
            "{} describes another kernel: the record of a test fault has a wrong value: {what}",
            path.display()
        ))
        .with_hint("without --btf the tool uses this kernel's own types, or measures offsets"),
        None => Error::unsupported(format!(
            "the record of a test fault has a wrong value: {what}"
        ))
        .with_hint(
            "the type information may belong to another kernel, or this kernel may be unusual",
        ),
    };
    Refusal {
        error,
        is_final: types.file().is_some(),
    }
}

/// The most useful of several refusals: one for a missing privilege, else the first.
fn telling(mut refused: Vec<Error>) -> Error {
    let right = |error: &Error| error.kind() == Kind::NotPermitted;
    let place = refused.iter().position(right).unwrap_or(0);
    match refused.is_empty() {
        true => probe::no_tracepoints(),
        false => refused.swap_remove(place),
    }
}

/// Without the verifier's log, which has lines of its own.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_string()
}

/// The warning for a method that is not the best one.
fn instead(refused: &Error, method: Method, started: &Started) -> String {
    let reason = match refused.kind() {
        Kind::NotPermitted => "BPF is not permitted".to_string(),
        _ => first_line(refused),
    };
    let way = match method {
        Method::Ring => "one program",
        Method::Chain => "a chain of small programs",
        Method::Tracepoint => "programs at the tracepoint",
        Method::Perf => "perf events",
    };
    let lacks: Vec<&str> = started.lacks().iter().map(|lost| lost.detail).collect();
    let lacks = match (method, lacks.join(", ")) {
        (Method::Chain | Method::Tracepoint, lacks) if lacks.is_empty() => {
            "names of mapped files beyond 256".to_string()
        }
        (Method::Chain | Method::Tracepoint, lacks) => {
            format!("names of mapped files beyond 256, {lacks}")
        }
        (_, lacks) => lacks,
    };
    let hint = refused.hint().map(|hint| format!("; {hint}"));
    format!(
        "{reason}; falling back to {way}; reports will lack details: {lacks}{}",
        hint.unwrap_or_default()
    )
}
