//! What stands in task_struct itself, and in what it points to at one remove.

use super::{plus, Place, Rule, Search, SearchError, Subject, Word, ALL, LOW, RULE};
use crate::measure::facts::{Fact, Facts};
use crate::measure::layout::{field, What};

/// No task is larger.
pub(super) const BYTES: i32 = 24 << 10;
/// How much older a process must be, so that none of its other times is near.
const OLDER_TICKS: u64 = 6;
/// The first word of what counts its users and knows its level: more than 65,535 users, a
/// level beyond 31.
const MANY_USERS: u64 = 0xffff_0000;
const DEEP: u64 = 0xffff_ffe0 << 32;

/// The processor's account of the fault: `thread`, which ends a task.
#[cfg(target_arch = "x86_64")]
const TRAP: Rule = Rule {
    // `X86_TRAP_PF`; the error code of a user's write to what is not there.
    words: &[
        Word::Same(Fact::FaultAddress, ALL),
        Word::Is(14, ALL),
        Word::Is(6, ALL),
    ],
    fields: &[
        (0, field("thread_struct.cr2", What::U64, 0)),
        (0, field("thread_struct.trap_nr", What::U64, 8)),
        (0, field("thread_struct.error_code", What::U64, 16)),
    ],
    ..RULE
};
#[cfg(target_arch = "aarch64")]
const TRAP: Rule = Rule {
    // The syndrome of a data abort from user space, a write, for want of a translation.
    words: &[
        Word::Same(Fact::FaultAddress, ALL),
        Word::Is(0x9200_0044, 0xfe00_007c),
    ],
    fields: &[
        (0, field("thread_struct.fault_address", What::U64, 0)),
        (0, field("thread_struct.fault_code", What::U64, 8)),
    ],
    ..RULE
};

const TASK: &[Rule] = &[
    Rule {
        words: &[Word::Same(Fact::Name, ALL), Word::Same(Fact::NameEnd, ALL)],
        fields: &[(0, field("task_struct.comm", What::Bytes, 0))],
        lost: "comm",
        ..RULE
    },
    // real_parent and parent; the scheduler keeps elsewhere whom a task woke last.
    Rule {
        words: &[Word::Same(Fact::Parent, ALL), Word::Same(Fact::Parent, ALL)],
        fields: &[(0, field("task_struct.real_parent", What::Pointer, 0))],
        lost: "ppid",
        ..RULE
    },
    // pid, then tgid
    Rule {
        place: Place::Task(4),
        words: &[Word::Same(Fact::Ids, ALL)],
        fields: &[(0, field("task_struct.pid", What::U32, 0))],
        lost: "comm",
        ..RULE
    },
    Rule {
        path: &[Place::Task(8)],
        place: Place::Of("task_struct.pid"),
        words: &[Word::Same(Fact::LeaderIds, ALL)],
        fields: &[(0, field("task_struct.group_leader", What::Pointer, 0))],
        lost: "comm",
        ..RULE
    },
    Rule {
        words: &[Word::StackOf(Fact::StackTop)],
        fields: &[(0, field("task_struct.stack", What::Pointer, 0))],
        ..RULE
    },
    Rule {
        words: &[
            Word::Same(Fact::AlternateStart, ALL),
            Word::Same(Fact::AlternateBytes, ALL),
        ],
        fields: &[
            (0, field("task_struct.sas_ss_sp", What::U64, 0)),
            (0, field("task_struct.sas_ss_size", What::U64, 8)),
        ],
        ..RULE
    },
    // task -> nsproxy -> mnt_namespace -> inode
    Rule {
        path: &[Place::Task(8), Place::Within(8, 64, 8)],
        clear: MANY_USERS,
        place: Place::Within(0, 256, 4),
        words: &[Word::Same(Fact::MountNamespace, LOW)],
        nearest: true,
        fields: &[
            (0, field("task_struct.nsproxy", What::Pointer, 0)),
            (1, field("nsproxy.mnt_ns", What::Pointer, 0)),
            (2, field("mnt_namespace.ns", What::NsCommon, 0)),
        ],
        lost: "mount_namespace",
        ..RULE
    },
    // task -> pid, at whose end stands a number for each level
    Rule {
        path: &[Place::Task(8)],
        clear: MANY_USERS | DEEP,
        place: Place::Within(8, 256, 8),
        words: &[Word::Same(Fact::Ids, LOW)],
        nearest: true,
        fields: &[
            (0, field("task_struct.thread_pid", What::Pointer, 0)),
            (1, field("pid.numbers", What::Upids, 0)),
        ],
        lost: "ns_pid",
        ..RULE
    },
];

/// By the monotonic clock, then by that of the boot; one alone if the host has slept.
const START_TIMES: Rule = Rule {
    words: &[Word::Ticks(Fact::StartTicks), Word::Ticks(Fact::StartTicks)],
    fields: &[(0, field("task_struct.start_boottime", What::U64, 8))],
    ..RULE
};
const START_TIME: Rule = Rule {
    words: &[Word::Ticks(Fact::StartTicks)],
    fields: &[(0, field("task_struct.start_boottime", What::U64, 0))],
    ..RULE
};

/// What stands for a process in the deepest of its namespaces, which is ours.
const UPID: &[Rule] = &[
    Rule {
        place: Place::At(0),
        words: &[Word::Same(Fact::Tid, LOW)],
        lost: "ns_pid",
        ..RULE
    },
    Rule {
        path: &[Place::At(8)],
        place: Place::Within(0, 1024, 4),
        words: &[Word::Same(Fact::PidNamespace, LOW)],
        fields: &[(1, field("pid_namespace.ns", What::NsCommon, 0))],
        lost: "ns_pid",
        ..RULE
    },
];
const UPID_BYTES: u64 = 16;

impl Search<'_> {
    pub(super) fn task(&mut self, tasks: &[Subject]) -> Result<(), SearchError> {
        if !self.find(tasks, &TRAP) {
            return Err(SearchError::NoTrap);
        }
        self.limit = self.layout.fields[0].at;
        self.find_all(tasks, TASK);
        self.layout.thread_bytes = self.stack_bytes(tasks);
        if !self.start_time(tasks) {
            self.layout.lose("start_time");
        }
        if self.upids(tasks).is_none() {
            self.layout.forget("task_struct.thread_pid");
            self.layout.forget("pid.numbers");
            self.layout.lose("ns_pid");
        }
        Ok(())
    }

    /// The size with which a stack that begins where the task says ends where the registers are.
    fn stack_bytes(&mut self, tasks: &[Subject]) -> Option<u64> {
        let mut bytes = None;
        for task in tasks {
            let start = self.word_of(task.at, "task_struct.stack")?;
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
        // Of a process, which its first thread began.
        subjects.retain(|task| task.facts.get(Fact::Ids) == task.facts.get(Fact::LeaderIds));
        let Some(youngest) = subjects
            .first()
            .map(|task| task.facts.get(Fact::StartTicks))
        else {
            return false;
        };
        let mut is_certain = false;
        let mut at = self.tool.task;
        for ticks in &self.tool.ancestors {
            // A parent is a thread, and not always the first one of its process.
            let thread = self.word_of(at, "task_struct.real_parent");
            let first = thread.and_then(|at| self.word_of(at, "task_struct.group_leader"));
            let Some(first) = first else { break };
            at = first;
            let mut facts = Facts::default();
            facts.set(Fact::StartTicks, *ticks);
            subjects.push(Subject { at, facts });
            is_certain |= ticks + OLDER_TICKS <= youngest;
        }
        is_certain && (self.find(&subjects, &START_TIMES) || self.find(&subjects, &START_TIME))
    }

    /// A pid has a number for each level of its namespaces; the last is the one that the child
    /// knows.
    fn upids(&mut self, tasks: &[Subject]) -> Option<()> {
        let numbers = self.layout.place("pid.numbers")?;
        let mut upids = tasks.to_vec();
        for upid in &mut upids {
            let pid = self.word_of(upid.at, "task_struct.thread_pid")?;
            let level = self.pieces.u64(pid)? >> 32;
            upid.at = plus(pid.wrapping_add(level * UPID_BYTES), numbers);
        }
        self.find_all(&upids, UPID).then_some(())
    }
}
