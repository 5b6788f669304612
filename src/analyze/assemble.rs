//! The report, out of what was gathered and what was decided: nothing is read, and nothing
//! decided, but which details the user wants and which are missing.

use super::gather::Facts;
use super::judge::Judged;
use super::{nearby, Wanted};
use crate::analyze::cause::Verdict;
use crate::analyze::located::Located;
use crate::base::address::ProcessAddress;
use crate::crash::event::{EarlierFault, Event, Lost};
use crate::crash::fault;
use crate::crash::frame::{Stop, Trust};
use crate::crash::registers::Arch;
use crate::report::signature::Signature;
use crate::report::{
    Counts, Delivery, FirstFault, Process, Report, StackTrace, State, Timestamp, Why,
};
use crate::sys::file::NO_ANSWER;
use crate::unwind::Walk;

pub(super) fn assemble(
    mut facts: Facts<'_>,
    judged: Judged,
    wanted: Wanted,
    time: Timestamp,
) -> Report {
    let delivery = delivery(&facts, &judged.verdict);
    let instruction = facts.located.first().map(|it| it.location.clone());
    let has_stack = wanted.stack_trace && facts.event.registers.is_some();
    let place = |number: usize| facts.located.get(number);
    let stack = has_stack.then(|| trace(facts.event, &facts.walk, &place, wanted.max_stack_depth));
    let signature = judged.signature.unwrap_or_default();
    let lost = lost(
        &mut facts,
        judged.signature.as_ref(),
        stack.as_ref(),
        wanted,
    );
    let event = facts.event;
    Report {
        time,
        process: process(event, wanted),
        delivery,
        state: State {
            instruction_pointer: event.registers.map(|registers| registers.pc()),
            instruction: instruction.unwrap_or_default(),
            registers: event
                .registers
                .filter(|_| wanted.registers || wanted.memory),
            register_notes: judged.notes,
            instruction_code: judged.code,
            maps: wanted
                .maps
                .then(|| nearby::mappings(event, own_address(&facts))),
            memory: wanted.memory.then(|| event.memory.clone()),
        },
        stack,
        threads: None,
        why: Why {
            cause: judged.verdict.cause,
            text: judged.verdict.text,
            signature: signature.signature,
            group: signature.group,
        },
        counts: Counts::default(),
        same_death: false,
        exit: None,
        core: None,
        lost,
    }
}

fn process(event: &Event, wanted: Wanted) -> Process {
    let pid = event.pid.unwrap_or(event.host_pid);
    Process {
        pid,
        tid: event.tid.unwrap_or(event.host_tid),
        host_pid: (event.host_pid != pid).then_some(event.host_pid),
        ns_pid: (event.ns_pid != pid).then_some(event.ns_pid),
        comm: event.comm.clone(),
        thread: event.thread.clone(),
        ppid: event.ppid,
        uid: event.uid,
        exe: exe(event),
        cmdline: event.cmdline.clone().filter(|_| !wanted.no_memory),
        cgroup: event.cgroup.clone(),
    }
}

fn delivery(facts: &Facts<'_>, verdict: &Verdict) -> Delivery {
    let (event, own) = (facts.event, &facts.own);
    let access = fault::access(facts.arch, own.siginfo, own.trap);
    let first = facts.first.filter(|_| !fault::is_sent_by_another(event));
    Delivery {
        signal: event.signal,
        code: event.code,
        fault_address: own_address(facts).or(verdict.address),
        access: access.or(verdict.access),
        disposition: event.disposition,
        first_fault: first.map(|first| first_fault(&first, facts.arch, event.boot_ns)),
        sender: event.siginfo.sender(),
    }
}

fn own_address(facts: &Facts<'_>) -> Option<ProcessAddress> {
    let own = &facts.own;
    fault::address(own.signal, own.code, own.siginfo)
}

/// The frames that the user wants; `place` says where each of them is, by its number.
pub(super) fn trace<'a>(
    event: &Event,
    walk: &Walk,
    place: &dyn Fn(usize) -> Option<&'a Located>,
    max_depth: usize,
) -> StackTrace {
    let mut frames = Vec::new();
    for (number, frame) in walk.frames.iter().enumerate().take(max_depth) {
        if let Some(located) = place(number) {
            located.frames(frame, &mut frames);
        }
    }
    StackTrace {
        frames,
        gaps: walk.uncertain || gaps(event, walk),
        stop: match walk.frames.len() > max_depth {
            true => Stop::Depth,
            false => walk.stop,
        },
    }
}

/// What the report lacks, each once.
fn lost(
    facts: &mut Facts<'_>,
    signature: Option<&Signature>,
    stack: Option<&StackTrace>,
    wanted: Wanted,
) -> Vec<Lost> {
    let mut lost = std::mem::take(&mut facts.lost);
    let mut lose = |detail, reason| lost.push(Lost { detail, reason });
    if let Some((detail, reason)) = signature.and_then(|values| lost_value(facts, values)) {
        lose(detail, reason);
    }
    if facts.event.registers.is_none() {
        lose("registers", "the kernel could not read them");
    }
    if facts.walk.uncertain && stack.is_some_and(|stack| stack.stop == Stop::Outermost) {
        lose("callers", UNCERTAIN);
    }
    if wanted.no_memory {
        lost.retain(|lost| lost.detail != "cmdline");
        lost.push(Lost {
            detail: "cmdline",
            reason: "left out because of --no-memory",
        });
    }
    lost.sort_unstable();
    lost.dedup();
    lost
}

const UNCERTAIN: &str = "not proven for each call: some may be missing, or left over";

/// Why a crash with a stack has no signature or no group.
fn lost_value(facts: &Facts<'_>, values: &Signature) -> Option<(&'static str, &'static str)> {
    let detail = match (values.signature, values.group) {
        (None, _) => "signature",
        (_, None) => "group",
        _ => return None,
    };
    let reason = match facts.event.exe {
        _ if facts.is_silent => NO_ANSWER,
        _ if facts.is_cut => "time limit: frames and names are not all that there are",
        None => "the executable is not known",
        Some(_) => "a frame that it is made of may be missing, with its file or its mapping",
    };
    Some((detail, reason))
}

/// Whether a frame may have been passed over, because its mapping was not captured.
fn gaps(event: &Event, walk: &Walk) -> bool {
    let unknown = event.lost.iter().any(|lost| lost.detail == "mappings");
    unknown
        && walk
            .frames
            .iter()
            .any(|frame| frame.trust <= Trust::ScanDirect)
}

/// As /proc/PID/exe shows it.
fn exe(event: &Event) -> Option<Vec<u8>> {
    let mut exe = event.exe.clone()?;
    if event.exe_deleted {
        exe.extend_from_slice(b" (deleted)");
    }
    Some(exe)
}

fn first_fault(first: &EarlierFault, arch: Arch, now_boot_ns: u64) -> FirstFault {
    FirstFault {
        signal: first.signal,
        code: first.code,
        address: fault::address(first.signal, first.code, first.siginfo),
        pc: first.pc,
        access: fault::access(arch, first.siginfo, first.trap),
        age_ms: now_boot_ns.saturating_sub(first.boot_ns) / 1_000_000,
    }
}
