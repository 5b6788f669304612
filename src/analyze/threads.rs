//! The other threads of a crash: their calls, by the same walk and with the same names as
//! the crash's own, within what that has left of the report's time.
//!
//! In: the event. Out: the threads of the report. An address that several threads have in
//! their stacks is named once. A thread that was running gets no stack: its registers are
//! those of an earlier moment.

use super::locks::{self, Waiter};
use super::{assemble, Analyzer};
use crate::analyze::cause::calls;
use crate::analyze::located::Located;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Lost, MemoryWindow};
use crate::crash::frame::CodeAddress;
use crate::crash::futex::Futex;
use crate::crash::registers::{Arch, Registers};
use crate::crash::threads::{State, SystemCall, Thread};
use crate::report::threads::{Call, Operation, ReportThread, ReportThreads};
use crate::report::StackTrace;
use crate::unwind::{self, Walk};

/// Calls of all other threads, so that a report keeps within bounds.
const MAX_CALLS: usize = 1 << 14;

/// What orders addresses: where, and whether it is an instruction's own.
type Key = (u64, usize);

impl Analyzer {
    pub(super) fn threads(
        &mut self,
        event: &Event,
        code: &MemoryWindow,
        own: &[Located],
        lost: &mut Vec<Lost>,
    ) -> Option<ReportThreads> {
        let allowance = self.allowance.clone();
        let _rest = allowance.rest();
        let threads = event.threads.as_ref()?;
        let arch = event.registers.map_or(Arch::NATIVE, |regs| regs.arch());
        let mut list: Vec<ReportThread> = Vec::new();
        for thread in &threads.list {
            list.push(ReportThread {
                tid: thread.tid.unwrap_or(thread.host_tid),
                name: thread.name.clone(),
                state: thread.state,
                call: thread.system_call.map(|call| named(arch, call)),
                waits_for: None,
                registers: thread.registers.filter(|_| self.wanted.registers),
                stack: None,
            });
        }
        if self.wanted.stack_trace {
            let stacks = self.stacks(event, &threads.list, lost);
            for (thread, stack) in list.iter_mut().zip(stacks) {
                thread.stack = stack;
            }
        }
        let waits = {
            let mut waiters = vec![Waiter {
                thread: None,
                call: locks::own_call(event, code),
                places: own.iter().map(|located| &located.location).collect(),
            }];
            for (thread, reported) in threads.list.iter().zip(&list) {
                let frames = reported.stack.iter().flat_map(|stack| &stack.frames);
                waiters.push(Waiter {
                    thread: Some(thread),
                    call: thread.system_call,
                    places: frames.map(|frame| &frame.location).collect(),
                });
            }
            self.waits(event, &waiters)
        };
        let mut waits = waits.into_iter();
        let mut report = ReportThreads {
            own: waits.next().flatten(),
            list,
            count: (threads.count != 0).then_some(threads.count),
            deadlock: Vec::new(),
        };
        for (thread, waits) in report.list.iter_mut().zip(waits) {
            thread.waits_for = waits;
        }
        report.deadlock = locks::circle(event.tid.unwrap_or(event.host_tid), &report);
        let is_cut = allowance.is_out() || allowance.cuts().next().is_some();
        if is_cut {
            lost.push(Lost {
                detail: "threads",
                reason: "time limit: not all calls and names of other threads were found",
            });
        }
        Some(report)
    }

    fn stacks(
        &mut self,
        event: &Event,
        threads: &[Thread],
        lost: &mut Vec<Lost>,
    ) -> Vec<Option<StackTrace>> {
        let walks = self.walks(event, threads);
        let frames = || walks.iter().flatten().flat_map(|walk| &walk.frames);
        let mut keys: Vec<Key> = frames().map(|frame| key(frame.code)).collect();
        keys.sort_unstable();
        keys.dedup();
        let codes: Vec<CodeAddress> = keys.iter().map(|&key| code(key)).collect();
        let mut lacks = Vec::new();
        let located = self.locate(event, &codes, codes.len(), &mut lacks);
        // Missing lines of other threads are not worth a word.
        lost.extend(lacks.into_iter().filter(|lost| lost.detail == "symbols"));
        let (mut room, mut is_full) = (MAX_CALLS, false);
        let mut stacks = Vec::new();
        for walk in &walks {
            let stack = walk.as_ref().map(|walk| {
                let places = walk.frames.iter().filter_map(|frame| {
                    let at = keys.binary_search(&key(frame.code)).ok()?;
                    located.get(at).cloned()
                });
                let places: Vec<Located> = places.collect();
                assemble::trace(event, walk, places, self.wanted.max_stack_depth)
            });
            let calls = stack.as_ref().map_or(0, |stack| stack.frames.len());
            is_full |= calls > room;
            room = room.saturating_sub(calls);
            stacks.push(stack.filter(|_| !is_full));
        }
        if is_full {
            lost.push(Lost {
                detail: "threads",
                reason: "too many calls: not all are in the report",
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
