//! The fields of task_struct, and of the structures that it points to directly.

use super::{same, Bits, Place, Rule, Search, SearchError, Subject, Word, RULE};
use crate::measure::facts::{Fact, Facts};
use crate::measure::layout::{Detail, Field};

/// No task is larger.
pub(super) const BYTES: i32 = 24 << 10;
/// No struct pid is smaller.
const PID_APART: i16 = 96;
/// How much older a process must be, so that none of its other times is near.
const OLDER_TICKS: u64 = 6;

/// The processor's account of the fault: `thread`, which ends a task.
const TRAP: Rule = match cfg!(target_arch = "aarch64") {
    true => ARM_TRAP,
    false => X86_TRAP,
};
const X86_TRAP: Rule = Rule {
    words: &[
        same(Fact::FaultAddress),
        same(Fact::PageFault),
        same(Fact::UserWrite),
    ],
    fields: &[
        (0, Field::Cr2, 0),
        (0, Field::TrapNumber, 8),
        (0, Field::ErrorCode, 16),
    ],
    ..RULE
};
const ARM_TRAP: Rule = Rule {
    words: &[
        same(Fact::FaultAddress),
        Word::Same(Fact::DataAbort, Bits::Syndrome),
    ],
    fields: &[(0, Field::FaultAddress, 0), (0, Field::FaultCode, 8)],
    ..RULE
};
const TRAP_AT: Field = match cfg!(target_arch = "aarch64") {
    true => Field::FaultAddress,
    false => Field::Cr2,
};

const TASK: &[Rule] = &[
    Rule {
        words: &[same(Fact::Name), same(Fact::NameEnd)],
        fields: &[(0, Field::Comm, 0)],
        lost: Detail::Comm,
        ..RULE
    },
    // real_parent and parent; the scheduler keeps elsewhere whom a task woke last.
    Rule {
        words: &[same(Fact::Parent), same(Fact::Parent)],
        fields: &[(0, Field::RealParent, 0)],
        lost: Detail::Ppid,
        ..RULE
    },
    // pid, then tgid
    Rule {
        place: Place::Task(4),
        words: &[same(Fact::Ids)],
        fields: &[(0, Field::Ids, 0)],
        lost: Detail::Comm,
        ..RULE
    },
    Rule {
        path: &[Place::Task(8)],
        place: Place::Of(Field::Ids),
        words: &[same(Fact::LeaderIds)],
        fields: &[(0, Field::GroupLeader, 0)],
        lost: Detail::Comm,
        ..RULE
    },
    Rule {
        words: &[Word::StackOf(Fact::StackTop)],
        fields: &[(0, Field::Stack, 0)],
        ..RULE
    },
    Rule {
        words: &[same(Fact::AlternateStart), same(Fact::AlternateBytes)],
        fields: &[(0, Field::AlternateStart, 0), (0, Field::AlternateBytes, 8)],
        lost: Detail::InterruptedStack,
        ..RULE
    },
    // task -> nsproxy -> mnt_namespace -> inode
    Rule {
        path: &[Place::Task(8), Place::Within(8, 64, 8)],
        clear: Some(Bits::ManyUsers),
        place: Place::Within(0, 256, 4),
        words: &[Word::Same(Fact::MountNamespace, Bits::Low)],
        nearest: true,
        fields: &[
            (0, Field::NsProxy, 0),
            (1, Field::MntNs, 0),
            (2, Field::MntNsCommon, 0),
        ],
        lost: Detail::MountNamespace,
        ..RULE
    },
    // task -> pid, which ends with a number and a namespace for each level.
    Rule {
        path: &[Place::Task(8)],
        clear: Some(Bits::ManyOrDeep),
        place: Place::Within(8, 256, 8),
        words: &[Word::Same(Fact::Ids, Bits::Low)],
        nearest: true,
        fields: &[(0, Field::ThreadPid, 0), (1, Field::Numbers, 0)],
        lost: Detail::NsPid,
        ..RULE
    },
    // The number that the child knows, in the deepest namespace, which is ours.
    Rule {
        path: &[Place::Of(Field::ThreadPid)],
        place: Place::Within(8, 512, 8),
        words: &[Word::Same(Fact::Tid, Bits::Low)],
        apart: PID_APART,
        fields: &[(1, Field::OwnPidNs, 8)],
        lost: Detail::NsPid,
        ..RULE
    },
    Rule {
        path: &[Place::Of(Field::ThreadPid), Place::Of(Field::OwnPidNs)],
        place: Place::Within(0, 1024, 4),
        words: &[Word::Same(Fact::PidNamespace, Bits::Low)],
        fields: &[(2, Field::PidNsCommon, 0)],
        lost: Detail::NsPid,
        ..RULE
    },
];

/// By the monotonic clock, then by the boot-time clock; only one if the host has slept.
const START_TIMES: Rule = Rule {
    only: Some(Fact::StartTicks),
    words: &[Word::Ticks(Fact::StartTicks), Word::Ticks(Fact::StartTicks)],
    fields: &[(0, Field::StartBootTime, 8)],
    ..RULE
};
const START_TIME: Rule = Rule {
    only: Some(Fact::StartTicks),
    words: &[Word::Ticks(Fact::StartTicks)],
    fields: &[(0, Field::StartBootTime, 0)],
    ..RULE
};

impl Search<'_> {
    pub(super) fn task(&mut self, tasks: &[Subject]) -> Result<(), SearchError> {
        if !self.find(tasks, &TRAP) {
            return Err(SearchError::NoTrap);
        }
        self.limit = self.layout.place(TRAP_AT).unwrap_or(0);
        self.find_all(tasks, TASK);
        if self.layout.place(Field::PidNsCommon).is_none() {
            self.layout.forget(Field::ThreadPid);
            self.layout.forget(Field::Numbers);
        }
        self.layout.thread_bytes = self.stack_bytes(tasks);
        if !self.start_time(tasks) {
            self.layout.lose(Detail::StartTime);
        }
        Ok(())
    }

    /// The size with which a stack that begins where the task says ends where the registers are.
    fn stack_bytes(&mut self, tasks: &[Subject]) -> Option<u64> {
        let mut bytes = None;
        for task in tasks {
            let start = self.word_of(task.at, Field::Stack)?;
            let here = task.facts.get(Fact::StackTop).wrapping_sub(start);
            if *bytes.get_or_insert(here) != here {
                return None;
            }
        }
        bytes
    }

    /// When the process began. A young task has many times in the same hundredth of a second,
    /// so an older one has to agree: an ancestor of the tool's.
    fn start_time(&mut self, tasks: &[Subject]) -> bool {
        let mut subjects = tasks.to_vec();
        let mut oldest = u64::MAX;
        let mut at = self.tool.task;
        for ticks in &self.tool.ancestors {
            // A parent is a thread, and not always the first one of its process.
            let thread = self.word_of(at, Field::RealParent).unwrap_or(0);
            let Some(first) = self.word_of(thread, Field::GroupLeader) else {
                break;
            };
            at = first;
            oldest = *ticks;
            let mut facts = Facts::default();
            facts.set(Fact::StartTicks, oldest);
            subjects.push(Subject { at, facts });
        }
        let own = tasks
            .first()
            .map_or(0, |task| task.facts.get(Fact::StartTicks));
        oldest.saturating_add(OLDER_TICKS) <= own
            && (self.find(&subjects, &START_TIMES) || self.find(&subjects, &START_TIME))
    }
}
