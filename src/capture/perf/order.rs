//! The records of several rings, in the order in which they happened.
//!
//! The time stamps give that order. But if the kernel has no better clock than its timer's
//! ticks, the whole life of a process can have one time stamp. Then the order within a
//! ring counts, and between rings what must have come first: a process forks before it does
//! anything else, and a signal is delivered after its cause and before the process ends.

use std::collections::VecDeque;

use super::change::Change;
use super::rings::{Pending, What};
use crate::base::order;

/// More at one time stay as the rings gave them: the order below takes its square.
const MOST_AT_ONCE: usize = 4096;

/// Sorts what was read.
pub(super) fn sort(pending: &mut VecDeque<Pending>) {
    let all = pending.make_contiguous();
    // Stable: the records of one ring stay in their order.
    order::sort(all, |one| one.time_ns);
    let is_tied =
        |pair: &[Pending]| pair[0].time_ns == pair[1].time_ns && pair[0].ring != pair[1].ring;
    if all.windows(2).any(is_tied) {
        let tied = std::mem::take(pending);
        let mut run: Vec<Pending> = Vec::new();
        for one in tied {
            if run
                .first()
                .is_some_and(|first| first.time_ns != one.time_ns)
            {
                pending.extend(untied(std::mem::take(&mut run)));
            }
            run.push(one);
        }
        pending.extend(untied(run));
    }
}

/// The same, all of one time, so that each ring's order holds.
fn untied(run: Vec<Pending>) -> Vec<Pending> {
    let count = run.len();
    if count > MOST_AT_ONCE || run.windows(2).all(|pair| pair[0].ring == pair[1].ring) {
        return run;
    }
    let mut queues: Vec<VecDeque<Pending>> = Vec::new();
    for one in run {
        let same = |queue: &&mut VecDeque<Pending>| queue[0].ring == one.ring;
        match queues.iter_mut().find(same) {
            Some(queue) => queue.push_back(one),
            None => queues.push(VecDeque::from([one])),
        }
    }
    let mut sorted = Vec::with_capacity(count);
    while sorted.len() < count {
        let free = (0..queues.len()).find(|&at| !waits(at, &queues));
        // That all wait for each other cannot have happened.
        let next = free.or_else(|| queues.iter().position(|queue| !queue.is_empty()));
        sorted.extend(next.and_then(|at| queues[at].pop_front()));
    }
    sorted
}

/// Whether something in another ring must come before this one's next.
fn waits(at: usize, queues: &[VecDeque<Pending>]) -> bool {
    let Some(next) = queues[at].front() else {
        return true;
    };
    let others = queues.iter().enumerate().filter(|(other, _)| *other != at);
    let mut others = others.flat_map(|(_, queue)| queue);
    others.any(|other| is_before(&other.what, &next.what))
}

fn is_before(other: &What, next: &What) -> bool {
    match (other, next) {
        (What::Change(Change::Exited { .. }), What::Delivery { .. }) => false,
        (What::Change(change), What::Delivery { delivery, .. }) => of(change) == Some(delivery.pid),
        (What::Delivery { delivery, .. }, What::Change(Change::Exited { pid, .. })) => {
            delivery.pid == *pid
        }
        (What::Change(Change::Forked { pid, parent, .. }), What::Change(change))
            if pid != parent =>
        {
            needs(change) == Some(*pid)
        }
        _ => false,
    }
}

/// Whose change it is.
fn of(change: &Change) -> Option<u32> {
    match change {
        Change::Forked { pid, .. }
        | Change::Exited { pid, .. }
        | Change::Named { pid, .. }
        | Change::Mapped { pid, .. }
        | Change::Moved { pid, .. } => Some(*pid),
        Change::Lost(_) => None,
    }
}

/// Who must be there already.
fn needs(change: &Change) -> Option<u32> {
    match change {
        Change::Forked { parent, .. } => Some(*parent),
        other => of(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery::Delivery;
    use super::*;

    const CPU: u32 = 2;

    fn at(time_ns: u64, ring: u32, what: What) -> Pending {
        Pending {
            time_ns,
            ring,
            what,
        }
    }

    fn forked(pid: u32, parent: u32) -> What {
        What::Change(Change::Forked {
            pid,
            tid: pid,
            parent,
            parent_tid: parent,
        })
    }

    fn exec(pid: u32) -> What {
        What::Change(Change::Named {
            pid,
            tid: pid,
            name: [0; 16],
            is_exec: true,
        })
    }

    fn exited(pid: u32) -> What {
        What::Change(Change::Exited { pid, tid: pid })
    }

    fn delivered(pid: u32) -> What {
        What::Delivery {
            cpu: 0,
            delivery: Box::new(Delivery {
                pid,
                tid: pid,
                time_ns: 0,
                signal: 11,
                code: 1,
                handler: 0,
                registers: None,
                stack: Vec::new(),
                stack_room: 0,
            }),
        }
    }

    fn sorted(read: Vec<Pending>) -> Vec<String> {
        let mut pending = VecDeque::from(read);
        sort(&mut pending);
        let tell = |one: Pending| match one.what {
            What::Change(Change::Forked { pid, .. }) => format!("fork {pid}"),
            What::Change(Change::Named { pid, .. }) => format!("exec {pid}"),
            What::Change(Change::Exited { pid, .. }) => format!("exit {pid}"),
            What::Delivery { delivery, .. } => format!("signal {}", delivery.pid),
            _ => String::new(),
        };
        pending.into_iter().map(tell).collect()
    }

    #[test]
    fn time_goes_first() {
        let read = vec![
            at(9, 0, delivered(7)),
            at(5, 1, exec(7)),
            at(4, CPU + 1, forked(7, 1)),
        ];
        assert_eq!(sorted(read), ["fork 7", "exec 7", "signal 7"]);
    }

    /// Forked on one CPU, by a parent that was forked on another; all in one tick.
    #[test]
    fn a_life_in_one_tick_has_its_order() {
        let read = vec![
            at(5, 0, delivered(8)),
            at(5, 1, exec(8)),
            at(5, 1, exited(8)),
            at(5, CPU, delivered(6)),
            at(5, CPU + 1, exited(6)),
            at(5, CPU + 1, forked(8, 7)),
            at(5, CPU + 3, forked(7, 1)),
        ];
        let order = sorted(read);
        let place = |what: &str| order.iter().position(|one| one == what).expect(what);
        for pair in [
            "fork 7, fork 8",
            "fork 8, exec 8",
            "exec 8, signal 8",
            "signal 8, exit 8",
            "signal 6, exit 6",
        ] {
            let (first, then) = pair.split_once(", ").expect("two");
            assert!(place(first) < place(then), "{pair} in {order:?}");
        }
    }

    #[test]
    fn a_circle_is_no_end() {
        let read = vec![at(5, 0, forked(8, 7)), at(5, 1, forked(7, 8))];
        assert_eq!(sorted(read).len(), 2);
    }
}
