//! How much one report may cost, and which file is to blame if it would cost more.
//!
//! Everything that works on foreign bytes takes its work from here before it does it:
//! bytes to be read, steps to be made; what gets none stops. A report has one deadline in
//! processor time, one in time of the clock, and one amount of work in case that the
//! clocks stand still. The clocks come in from outside; they are looked at once in
//! `LOOK` units of work. With each look something else may be done meanwhile
//! ([`Allowance::meanwhile`]), whose time does not count.
//!
//! Within a report each step on each file has at most half of the time ([`Allowance::turn`]),
//! so that one file does not take it from all others. A step on a file that used up at
//! least a quarter of it without coming to an end is given up: it is refused at once in
//! reports that follow, until [`Allowance::forget`]. A user can bring that about for
//! files of his own only: those of others get done, or end for want of time that they did
//! not use up themselves.

use std::cell::{Cell, OnceCell, RefCell};

/// Work between two looks at the clock. A unit is about what a nanosecond does.
const LOOK: u64 = 64 << 10;
/// Units of work in a nanosecond of a report's time, at most.
const WORK_PER_NS: u64 = 16;
/// For a disk that is slow, or a machine that is busy elsewhere.
const CLOCK_PER_CPU: u64 = 15;
/// Steps on files that are remembered.
const MAX_STEPS: usize = 512;

/// A part of a report that takes longer with some files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Files are looked for and their headers read.
    Files,
    /// The stack is walked by call-frame information.
    Calls,
    /// Names are looked up in symbol tables and perf maps.
    Names,
    /// Separate debug files are looked for and compared.
    DebugFiles,
    /// Lines and inlined calls are looked up.
    Lines,
}

impl Step {
    /// What a report lacks without it, and why, in a few words.
    #[must_use]
    pub fn lost(self) -> (&'static str, &'static str) {
        match self {
            Step::Files => ("symbols", "time limit: not all files were looked for"),
            Step::Calls => ("callers", "time limit: the walk ended early"),
            Step::Names => ("symbols", "time limit: symbols not read to their end"),
            Step::DebugFiles => ("symbols", "time limit: not all debug files were looked for"),
            Step::Lines => ("lines", "time limit: debug information not read to its end"),
        }
    }
}

/// Two clocks, in nanoseconds: the thread's time on a processor, and time as it passes.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub cpu_ns: fn() -> u64,
    pub wall_ns: fn() -> u64,
}

/// What one step on one file has cost.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// In this report.
    ns: u64,
    /// It did not come to its end in this report.
    cut: bool,
    /// It is not tried any more.
    given_up: bool,
}

/// What is done while a report is made.
struct Meanwhile(Box<dyn Fn()>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// What is left of a report's work and time.
#[derive(Debug)]
pub struct Allowance {
    clocks: Clocks,
    meanwhile: OnceCell<Meanwhile>,
    /// What that took of the processor's time, and of time, in all reports.
    excused_ns: Cell<u64>,
    wall_excused_ns: Cell<u64>,
    limit_ns: u64,
    /// On the processor, for the step that is being made.
    deadline_ns: Cell<u64>,
    wall_deadline_ns: Cell<u64>,
    work: Cell<u64>,
    until_look: Cell<u64>,
    /// Nothing more is to be done in this step.
    out: Cell<bool>,
    /// A bit for each [`Step`] that was cut short in this report.
    cut: Cell<u8>,
    /// What is being done is not about the crash itself.
    is_rest: Cell<bool>,
    /// Of all reports.
    cut_count: Cell<u64>,
    /// By file and step; at most [`MAX_STEPS`].
    spent: RefCell<Vec<((u64, Step), Spent)>>,
}

impl Allowance {
    /// For reports of `limit_ns` each. The first one begins now.
    #[must_use]
    pub fn new(clocks: Clocks, limit_ns: u64) -> Self {
        let allowance = Allowance {
            clocks,
            meanwhile: OnceCell::new(),
            excused_ns: Cell::new(0),
            wall_excused_ns: Cell::new(0),
            limit_ns,
            deadline_ns: Cell::new(0),
            wall_deadline_ns: Cell::new(0),
            work: Cell::new(0),
            until_look: Cell::new(0),
            out: Cell::new(false),
            cut: Cell::new(0),
            is_rest: Cell::new(false),
            cut_count: Cell::new(0),
            spent: RefCell::default(),
        };
        allowance.begin();
        allowance
    }

    /// An amount of work without a clock: for those who have none.
    #[must_use]
    pub fn of_work(units: u64) -> Self {
        let none = Clocks {
            cpu_ns: || 0,
            wall_ns: || 0,
        };
        Allowance::new(none, units / WORK_PER_NS)
    }

    /// From here on `work` is done with each look at the clocks; only the first call counts.
    pub fn meanwhile(&self, work: Box<dyn Fn()>) {
        let _ = self.meanwhile.set(Meanwhile(work));
    }

    /// The processor's time, without what was done meanwhile.
    fn cpu_ns(&self) -> u64 {
        (self.clocks.cpu_ns)().saturating_sub(self.excused_ns.get())
    }

    fn wall_ns(&self) -> u64 {
        (self.clocks.wall_ns)().saturating_sub(self.wall_excused_ns.get())
    }

    /// Another report begins.
    pub fn begin(&self) {
        self.deadline_ns
            .set(self.cpu_ns().saturating_add(self.limit_ns));
        let wall_limit_ns = self.limit_ns.saturating_mul(CLOCK_PER_CPU);
        self.wall_deadline_ns
            .set(self.wall_ns().saturating_add(wall_limit_ns));
        self.work.set(self.limit_ns.saturating_mul(WORK_PER_NS));
        self.until_look.set(LOOK);
        self.out.set(false);
        self.cut.set(0);
        let mut spent = self.spent.borrow_mut();
        spent.retain(|(_, spent)| spent.given_up);
        if spent.len() >= MAX_STEPS {
            spent.clear();
        }
        for (_, spent) in spent.iter_mut() {
            (spent.ns, spent.cut) = (0, false);
        }
    }

    /// Takes work that is about to be done; false where it is not to be done any more.
    #[must_use]
    pub fn take(&self, units: u64) -> bool {
        if self.out.get() {
            return false;
        }
        let Some(left) = self.work.get().checked_sub(units) else {
            self.work.set(0);
            self.out.set(true);
            return false;
        };
        self.work.set(left);
        if let Some(left) = self.until_look.get().checked_sub(units) {
            self.until_look.set(left);
            return true;
        }
        self.look()
    }

    /// Whether there is time for what takes so long.
    #[must_use]
    pub fn has(&self, ns: u64) -> bool {
        let left_ns = self.deadline_ns.get().saturating_sub(self.cpu_ns());
        !self.out.get() && left_ns >= ns
    }

    /// The same for what cannot be interrupted; what comes instead is not all that there is.
    #[must_use]
    pub fn affords(&self, ns: u64) -> bool {
        self.out.set(!self.has(ns));
        !self.out.get()
    }

    #[inline(never)]
    fn look(&self) -> bool {
        self.until_look.set(LOOK);
        if let Some(Meanwhile(work)) = self.meanwhile.get() {
            let before = (self.cpu_ns(), self.wall_ns());
            work();
            let excuse = |excused: &Cell<u64>, ns: u64| excused.set(excused.get() + ns);
            let took_ns = self.cpu_ns().saturating_sub(before.0);
            excuse(&self.excused_ns, took_ns);
            let took_ns = self.wall_ns().saturating_sub(before.1);
            excuse(&self.wall_excused_ns, took_ns);
        }
        self.out.set(self.is_late());
        !self.out.get()
    }

    fn is_late(&self) -> bool {
        self.cpu_ns() > self.deadline_ns.get() || self.wall_ns() > self.wall_deadline_ns.get()
    }

    /// Whether nothing more is to be done: what was found is not all that there is.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.out.get()
    }

    /// Begins a step on a file, which ends with what is returned; `None` where it was given
    /// up before, or nothing is left.
    #[must_use]
    pub fn turn(&self, file: u64, step: Step) -> Option<Turn<'_>> {
        let began_ns = self.cpu_ns();
        let outer_ns = self.deadline_ns.get();
        let share_ns = {
            let mut all = self.spent.borrow_mut();
            let spent = spent_on(&mut all, file, step);
            let used_up = spent.ns >= self.limit_ns / 2;
            if spent.given_up || used_up || self.out.get() {
                self.note(step, spent);
                return None;
            }
            (self.limit_ns / 2).saturating_sub(spent.ns)
        };
        let deadline_ns = began_ns.saturating_add(share_ns).min(outer_ns);
        self.deadline_ns.set(deadline_ns);
        Some(Turn {
            allowance: self,
            file,
            step,
            began_ns,
            outer_ns,
        })
    }

    /// Begins something that may take half of a report's time, whatever files it is about;
    /// it ends with what is returned.
    #[must_use]
    pub fn half(&self) -> Half<'_> {
        let outer_ns = self.deadline_ns.get();
        let half_ns = self.cpu_ns().saturating_add(self.limit_ns / 2);
        self.deadline_ns.set(half_ns.min(outer_ns));
        Half {
            allowance: self,
            outer_ns,
            is_rest: self.is_rest.get(),
        }
    }

    /// Begins what is not about the crash itself, and ends with what is returned. It may take
    /// what is left but for an eighth of a report's time. [`Allowance::cuts`] begins anew, and
    /// no file is given up for what this takes: it may be another user's.
    #[must_use]
    pub fn rest(&self) -> Half<'_> {
        let outer_ns = self.deadline_ns.get();
        let is_rest = self.is_rest.replace(true);
        self.cut.set(0);
        self.deadline_ns
            .set(outer_ns.saturating_sub(self.limit_ns / 8));
        self.out.set(self.out.get() || self.is_late());
        Half {
            allowance: self,
            outer_ns,
            is_rest,
        }
    }

    /// What is left for others when something has ended.
    fn go_back_to(&self, outer_ns: u64) {
        self.deadline_ns.set(outer_ns);
        if self.out.get() {
            self.out.set(self.work.get() == 0 || self.is_late());
        }
    }

    fn note(&self, step: Step, spent: &mut Spent) {
        if !spent.cut {
            spent.cut = true;
            self.cut_count.set(self.cut_count.get() + 1);
        }
        self.cut.set(self.cut.get() | 1 << step as u8);
    }

    fn end(&self, turn: &Turn<'_>) {
        let mut all = self.spent.borrow_mut();
        let spent = spent_on(&mut all, turn.file, turn.step);
        let now_ns = self.cpu_ns();
        spent.ns = spent
            .ns
            .saturating_add(now_ns.saturating_sub(turn.began_ns));
        if self.out.get() {
            self.note(turn.step, spent);
            spent.given_up |= !self.is_rest.get() && spent.ns >= self.limit_ns / 4;
        }
        self.go_back_to(turn.outer_ns);
    }

    /// A step that is no turn of a file was cut short.
    pub fn cut(&self, step: Step) {
        self.note(step, &mut Spent::default());
    }

    /// The steps of this report that were cut short.
    pub fn cuts(&self) -> impl Iterator<Item = Step> {
        let cut = self.cut.get();
        let all = [
            Step::Files,
            Step::Calls,
            Step::Names,
            Step::DebugFiles,
            Step::Lines,
        ];
        all.into_iter()
            .filter(move |step| cut & 1 << *step as u8 != 0)
    }

    /// How often a step on a file was cut short or refused, once a report each.
    #[must_use]
    pub fn cut_count(&self) -> u64 {
        self.cut_count.get()
    }

    /// Tries all steps on all files again.
    pub fn forget(&self) {
        self.spent.borrow_mut().clear();
    }
}

fn spent_on(all: &mut Vec<((u64, Step), Spent)>, file: u64, step: Step) -> &mut Spent {
    let known = all.iter().position(|(key, _)| *key == (file, step));
    let at = known.unwrap_or_else(|| {
        if all.len() >= MAX_STEPS {
            all.clear();
        }
        all.push(((file, step), Spent::default()));
        all.len() - 1
    });
    &mut all[at].1
}

/// Half of a report's time, or the rest of it, while it is used.
#[derive(Debug)]
pub struct Half<'a> {
    allowance: &'a Allowance,
    outer_ns: u64,
    /// As it was before.
    is_rest: bool,
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        self.allowance.is_rest.set(self.is_rest);
        self.allowance.go_back_to(self.outer_ns);
    }
}

/// A step on a file while it is made.
#[derive(Debug)]
pub struct Turn<'a> {
    allowance: &'a Allowance,
    file: u64,
    step: Step,
    began_ns: u64,
    outer_ns: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.allowance.end(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static NOW_NS: Cell<u64> = const { Cell::new(1_000) };
    }

    const CLOCKS: Clocks = Clocks {
        cpu_ns: || NOW_NS.get(),
        wall_ns: || 0,
    };

    /// Works for so long, as far as it is permitted; for how long it was.
    fn work(allowance: &Allowance, ns: u64) -> u64 {
        const STEP_NS: u64 = 5_000;
        for done in 0..ns / STEP_NS {
            if !allowance.take(LOOK + 1) {
                return done * STEP_NS;
            }
            NOW_NS.set(NOW_NS.get() + STEP_NS);
        }
        ns
    }

    #[test]
    fn a_report_ends_at_its_deadline_and_the_next_one_begins_anew() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        assert_eq!(work(&allowance, 9_000_000), 9_000_000);
        assert!((10_000..2_000_000).contains(&work(&allowance, 9_000_000)));
        assert!(allowance.is_out() && !allowance.take(0));
        allowance.begin();
        assert!(!allowance.is_out() && allowance.take(1));
    }

    #[test]
    fn without_a_clock_work_is_the_limit() {
        let allowance = Allowance::of_work(800);
        assert!(allowance.take(500) && !allowance.take(301) && !allowance.take(1));
        allowance.begin();
        assert!(allowance.take(800));
    }

    #[test]
    fn a_slow_file_leaves_half_to_others_and_is_not_tried_again() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        let turn = allowance.turn(1, Step::Names).unwrap();
        assert!((4_900_000..5_100_000).contains(&work(&allowance, 20_000_000)));
        drop(turn);
        assert_eq!(allowance.cuts().collect::<Vec<_>>(), [Step::Names]);
        let turn = allowance.turn(2, Step::Names).unwrap();
        assert_eq!(work(&allowance, 3_000_000), 3_000_000);
        drop(turn);
        allowance.begin();
        assert_eq!(allowance.cuts().count(), 0);
        assert!(allowance.turn(1, Step::Names).is_none());
        assert_eq!(allowance.cuts().count(), 1, "is said of this report, too");
        assert!(
            allowance.turn(1, Step::Lines).is_some() && allowance.turn(2, Step::Names).is_some()
        );
        assert_eq!(allowance.cut_count(), 2);
        allowance.forget();
        assert!(allowance.turn(1, Step::Names).is_some());
    }

    #[test]
    fn a_file_is_not_given_up_for_what_others_used() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        work(&allowance, 9_500_000);
        let turn = allowance.turn(7, Step::Calls).unwrap();
        work(&allowance, 20_000_000);
        drop(turn);
        assert!(allowance.is_out() && allowance.turn(8, Step::Calls).is_none());
        allowance.begin();
        assert!(
            allowance.turn(7, Step::Calls).is_some() && allowance.turn(8, Step::Calls).is_some()
        );
    }

    #[test]
    fn many_turns_of_one_file_are_one_share() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        let mut done = 0;
        while let Some(_turn) = allowance.turn(1, Step::Calls) {
            done += work(&allowance, 500_000);
        }
        assert!((4_900_000..5_100_000).contains(&done), "{done}");
        assert!(!allowance.is_out());
    }

    #[test]
    fn turns_inside_of_turns_keep_within_both() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        let outer = allowance.turn(1, Step::Calls).unwrap();
        work(&allowance, 4_000_000);
        let inner = allowance.turn(2, Step::Names).unwrap();
        assert!(work(&allowance, 9_000_000) < 1_100_000);
        drop(inner);
        assert!(allowance.is_out(), "the outer one is late, too");
        drop(outer);
        assert!(!allowance.is_out());
        allowance.begin();
        assert!(allowance.turn(2, Step::Names).is_some());
    }

    #[test]
    fn what_has_used_its_half_leaves_the_other() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        let half = allowance.half();
        let turn = allowance.turn(1, Step::Names).unwrap();
        assert!((4_900_000..5_100_000).contains(&work(&allowance, 20_000_000)));
        drop(turn);
        assert!(allowance.is_out());
        drop(half);
        let done = work(&allowance, 20_000_000);
        assert!((4_800_000..5_200_000).contains(&done), "{done}");
    }

    #[test]
    fn what_is_not_about_the_crash_has_the_rest_and_no_file_is_given_up_for_it() {
        let allowance = Allowance::new(CLOCKS, 16_000_000);
        drop(allowance.turn(1, Step::Names));
        work(&allowance, 2_000_000);
        let rest = allowance.rest();
        let mut done = 0;
        while let Some(_turn) = allowance.turn(1, Step::Calls) {
            done += work(&allowance, 1_000_000);
        }
        assert!(
            (7_900_000..8_200_000).contains(&done),
            "half of the time: {done}"
        );
        let mut done = 0;
        while let Some(_turn) = allowance.turn(2, Step::Calls) {
            done += work(&allowance, 1_000_000);
        }
        assert!((3_800_000..4_200_000).contains(&done), "{done}");
        assert!(allowance.is_out() && allowance.cuts().count() == 1);
        drop(rest);
        assert!(!allowance.is_out(), "an eighth is left");
        let done = work(&allowance, 16_000_000);
        assert!((1_800_000..2_200_000).contains(&done), "{done}");
        allowance.begin();
        assert!(allowance.turn(1, Step::Calls).is_some(), "not given up");
    }

    #[test]
    fn cuts_of_the_rest_are_its_own() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        let turn = allowance.turn(1, Step::Lines);
        work(&allowance, 20_000_000);
        drop(turn);
        assert_eq!(allowance.cuts().count(), 1);
        let rest = allowance.rest();
        assert_eq!(allowance.cuts().count(), 0);
        drop(rest);
        // What comes after it is about the crash again.
        allowance.begin();
        let turn = allowance.turn(3, Step::Calls);
        work(&allowance, 20_000_000);
        drop(turn);
        allowance.begin();
        assert!(allowance.turn(3, Step::Calls).is_none(), "given up");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let allowance = Allowance::new(CLOCKS, 10_000_000);
        for file in 0..10_000 {
            drop(allowance.turn(file, Step::Files));
            assert!(allowance.spent.borrow().len() <= MAX_STEPS);
        }
    }
}
