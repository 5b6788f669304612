//! The other threads of a crash: their calls, by the same walk and with the same names as
//! the crash's own, within what that has left of the report's time.
//!
//! In: the event. Out: the threads of the report. An address that several threads have in
//! their stacks is named once. A thread that was running gets no stack: its registers are
//! those of an earlier moment.

use std::rc::Rc;

use super::{assemble, locks, Analyzer};
use crate::analyze::cause::calls;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Lost};
use crate::crash::frame::CodeAddress;
use crate::crash::futex::Futex;
use crate::crash::registers::{Arch, Registers};
use crate::crash::threads::{State, SystemCall, Thread};
use crate::report::threads::{Call, Operation, ReportThread, ReportThreads};
use crate::report::{Report, StackTrace};
use crate::unwind::{self, Walk};

/// Calls of all other threads, so that a report keeps within bounds.
const MAX_CALLS: usize = 1 << 14;

/// What orders addresses: where, and whether it is an instruction's own.
type Key = (u64, usize);

impl Analyzer {
    /// Adds them to the report, if the event has them.
    pub(super) fn add_threads(&mut self, event: &Event, report: &mut Report) {
        let Some(threads) = &event.threads else {
            return;
        };
        let allowance = self.allowance.clone();
        let _rest = allowance.rest();
        let arch = event.registers.map_or(Arch::NATIVE, |regs| regs.arch());
        let lost = &mut report.lost;
        let mut stacks = match self.wanted.stack_trace {
            true => self.stacks(event, &threads.list, lost),
            false => Vec::new(),
        }
        .into_iter();
        let mut others = ReportThreads {
            count: (threads.count != 0).then_some(threads.count),
            own: locks::own_call(event).and_then(|call| {
                let frames = report.stack.as_ref().map_or(&[][..], |stack| &stack.frames);
                self.waits_for(event, None, &call, frames)
            }),
            ..ReportThreads::default()
        };
        for thread in &threads.list {
            let stack = stacks.next().flatten();
            let frames = stack.as_ref().map_or(&[][..], |stack| &stack.frames);
            let call = thread.system_call.as_ref();
            let waits_for = call.and_then(|call| self.waits_for(event, Some(thread), call, frames));
            others.list.push(ReportThread {
                tid: thread.tid.unwrap_or(thread.host_tid),
                name: thread.name.clone(),
                state: thread.state,
                call: thread.system_call.map(|call| named(arch, call)),
                waits_for,
                registers: thread.registers.filter(|_| self.wanted.registers),
                stack,
            });
        }
        others.deadlock = locks::circle(event.tid.unwrap_or(event.host_tid), &others);
        report.threads = Some(Rc::new(others));
        let is_cut = allowance.is_out() || allowance.cuts().next().is_some();
        if is_cut {
            lost.push(Lost {
                detail: "threads",
                reason: "time limit: not all calls and names of other threads were found",
            });
        }
        lost.sort_unstable();
        lost.dedup();
    }

    fn stacks(
        &mut self,
        event: &Event,
        threads: &[Thread],
        lost: &mut Vec<Lost>,
    ) -> Vec<Option<StackTrace>> {
        let walks = self.walks(event, threads);
        let mut keys: Vec<Key> = Vec::new();
        for walk in walks.iter().flatten() {
            for frame in &walk.frames {
                keys.push(key(frame.code));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let mut codes = Vec::new();
        for key in &keys {
            codes.push(code(*key));
        }
        let mut lacks = Vec::new();
        let located = self.locate(event, &codes, codes.len(), &mut lacks);
        // Missing lines of other threads are not worth a word.
        lacks.retain(|lost| lost.detail == "symbols");
        lost.append(&mut lacks);
        let (mut left, mut is_full) = (MAX_CALLS, false);
        let mut stacks = Vec::new();
        for walk in &walks {
            is_full |= left == 0 && walk.is_some();
            let Some(walk) = walk.as_ref().filter(|_| left > 0) else {
                stacks.push(None);
                continue;
            };
            let place = |number: usize| {
                let at = keys.binary_search(&key(walk.frames[number].code));
                located.get(at.ok()?)
            };
            let stack = assemble::trace(event, walk, &place, self.wanted.max_stack_depth);
            left = left.saturating_sub(stack.frames.len());
            stacks.push(Some(stack));
        }
        if is_full {
            lost.push(Lost {
                detail: "threads",
                reason: "too many calls: those of the last threads are left out",
            });
        }
        stacks
    }

    /// The calls of each thread of which a stack is claimed.
    fn walks(&mut self, event: &Event, threads: &[Thread]) -> Vec<Option<Walk>> {
        let _half = self.allowance.half();
        let mut space = Captured::new(event, &mut self.modules, self.window_bytes);
        let mut walks = Vec::new();
        for thread in threads {
            let Some(registers) = has_stack(thread).filter(|_| !self.allowance.is_out()) else {
                walks.push(None);
                continue;
            };
            space.turn_to(thread);
            let depth = self.wanted.max_stack_depth;
            let mut walk = unwind::walk(&registers, &space, depth, &mut self.caches);
            // What was not read may have led elsewhere.
            walk.uncertain |= self.allowance.is_out() || self.allowance.cuts().next().is_some();
            walks.push(Some(walk));
        }
        walks
    }
}

/// The registers of a thread whose stack they belong to.
fn has_stack(thread: &Thread) -> Option<Registers> {
    let stands = !matches!(thread.state, State::Running | State::Exiting);
    thread.registers.filter(|_| stands)
}

fn key(code: CodeAddress) -> Key {
    let is_exact = matches!(code, CodeAddress::Exact(_));
    (code.address().0, usize::from(is_exact))
}

fn code((address, is_exact): Key) -> CodeAddress {
    match is_exact {
        0 => CodeAddress::Return(ProcessAddress(address)),
        _ => CodeAddress::Exact(ProcessAddress(address)),
    }
}

fn named(arch: Arch, call: SystemCall) -> Call {
    let futex = Futex::of(arch, &call);
    Call {
        call,
        name: calls::name(arch, call.number.into()),
        futex: futex.map(|futex| Operation {
            address: ProcessAddress(futex.address),
            name: futex.operation,
        }),
    }
}
