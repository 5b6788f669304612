//! Where in the kernel's structures the known values stand.
//!
//! ```text
//! task of each child -- trap values, name, ids, times
//!   -> mm -> its values, each mapping       (search/mappings.rs)
//!        -> file -> dentry, inode, mount    (search/files.rs)
//! ```
//!
//! What is looked for is written as tables of [`Rule`]s. A place counts only if it
//! is the only one that holds for both children, and for every mapping and every
//! file of theirs. What does not is left out and named; nothing is guessed. Where
//! two fields always have the same value, they stand side by side, and their
//! order is known; a kernel whose structures were shuffled (`CONFIG_RANDSTRUCT`)
//! fails that and loses those fields.
//!
//! Nothing here asks the system: [`Pieces`] answers for the kernel's memory.

use crate::measure::facts::{Child, Fact, Facts, Tool};
use crate::measure::layout::{Field, Layout};
use crate::measure::pieces::{is_kernel_address, Memory, Pieces};

mod files;
mod mappings;
mod stack;
mod task;

/// Why nothing at all can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchError {
    /// The children's fault address does not stand in their tasks, or not once.
    NoTrap,
    /// Their registers do not stand at the top of the kernel stack.
    NoRegisters,
}

impl SearchError {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SearchError::NoTrap => "the fault address does not stand where tasks end",
            SearchError::NoRegisters => "the registers do not stand on the kernel stack",
        }
    }
}

/// A structure of the kernel's that is looked at, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub at: u64,
    pub facts: Facts,
}

/// Where in a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In a task, below the trap's values, every so many bytes.
    Task(u32),
    /// From here, to before there, every so many bytes.
    Within(u32, u32, u32),
    /// From the start to before the place of a field that was found, every so many bytes.
    Before(&'static str, u32),
    /// At this very place.
    At(u32),
    /// At the place of a field that was found.
    Of(&'static str),
}

/// What a word must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// In these bits, what is known.
    Same(Fact, u64),
    /// In the bits that are known to count.
    Masked(Fact, Fact),
    /// In these bits, this.
    Is(u64, u64),
    /// Anything but this.
    Not(u64),
    /// Nanoseconds of what is known in ticks.
    Ticks(Fact),
    /// An address where something is known, and 0 where not.
    Pointer(Fact),
    /// Where a stack begins whose end is known.
    StackOf(Fact),
}

pub(crate) const ALL: u64 = u64::MAX;
pub(crate) const LOW: u64 = 0xffff_ffff;

/// Words that stand in a row at a place that is searched for, behind pointers at
/// places that are searched for as well.
pub(crate) struct Rule {
    /// Where the pointers are that lead there.
    pub path: &'static [Place],
    /// Two pointers in a row, which are the same, instead of one.
    pub paired: bool,
    /// Bits that are clear in the first word of what the first pointer leads to.
    pub clear: u64,
    /// Behind the last pointer.
    pub place: Place,
    pub words: &'static [Word],
    /// What stands again so far behind the first place belongs to the structure's neighbour
    /// in memory, which may be another child's.
    pub apart: u32,
    /// What is found with it: behind which of the places above, and how far behind it.
    pub fields: &'static [(usize, Field)],
    /// What is lost without.
    pub lost: &'static str,
}

/// A rule that leaves most at its simplest.
pub(crate) const RULE: Rule = Rule {
    path: &[],
    paired: false,
    clear: 0,
    place: Place::Task(8),
    words: &[],
    apart: u32::MAX,
    fields: &[],
    lost: "",
};

/// Places of a rule.
pub(crate) const MOST_PLACES: usize = 4;
pub(crate) type Way = [u32; MOST_PLACES];

/// The ways that hold, as far as they matter.
#[derive(Debug, Default)]
struct Found {
    way: Way,
    count: u32,
}

/// A search under way.
pub(crate) struct Search<'a> {
    pieces: Pieces<'a>,
    tool: &'a Tool,
    layout: Layout,
    /// Where the trap's values stand: everything else of a task stands below.
    limit: u32,
}

/// Searches all that can be found.
pub fn search(
    memory: &mut dyn Memory,
    children: &[Child],
    tool: &Tool,
) -> Result<Layout, SearchError> {
    let mut search = Search {
        pieces: Pieces::new(memory),
        tool,
        layout: Layout::default(),
        limit: task::BYTES,
    };
    search.layout.regs_from_top = stack::registers(children).ok_or(SearchError::NoRegisters)?;
    let mut tasks = Vec::new();
    for child in children {
        let mut facts = child.seen.facts.clone();
        facts.set(Fact::Parent, tool.task);
        tasks.push(Subject {
            at: child.task,
            facts,
        });
    }
    search.task(&tasks)?;
    search.memory(&tasks, children);
    search.layout.lose("cgroup");
    Ok(search.layout)
}

impl Search<'_> {
    /// Finds what each rule of a table is about, or loses it; whether all of it was found.
    pub fn find_all(&mut self, subjects: &[Subject], rules: &[Rule]) -> bool {
        let mut all = true;
        for rule in rules {
            if self.find(subjects, rule).is_none() {
                self.layout.lose(rule.lost);
                all = false;
            }
        }
        all
    }

    /// The one way of a rule that holds for all subjects; its fields are found with it.
    pub fn find(&mut self, subjects: &[Subject], rule: &Rule) -> Option<Way> {
        let mut found = Found::default();
        let mut starts = Vec::new();
        for subject in subjects {
            starts.push(subject.at);
        }
        if !subjects.is_empty() {
            self.follow(rule, subjects, &starts, 0, [0; MOST_PLACES], &mut found);
        }
        if found.count != 1 {
            return None;
        }
        for (index, field) in rule.fields {
            let mut field = *field;
            field.at += found.way[*index];
            self.layout.fields.push(field);
        }
        Some(found.way)
    }

    /// Offsets from, to and step; nothing where a field was not found.
    fn range(&self, place: Place) -> (u32, u32, usize) {
        let place_of = |name| self.layout.place(name);
        let (from, to, step) = match place {
            Place::Task(step) => (0, self.limit, step),
            Place::Within(from, to, step) => (from, to, step),
            Place::Before(name, step) => (0, place_of(name).unwrap_or(0), step),
            Place::At(at) => (at, at + 1, 8),
            Place::Of(name) => match place_of(name) {
                Some(at) => (at, at + 1, 8),
                None => (0, 0, 8),
            },
        };
        (from, to, step as usize)
    }

    /// Tries all places of one step of a rule, for all subjects at once.
    fn follow(
        &mut self,
        rule: &Rule,
        subjects: &[Subject],
        starts: &[u64],
        step: usize,
        mut way: Way,
        found: &mut Found,
    ) {
        let hop = rule.path.get(step);
        let (from, to, every) = self.range(*hop.unwrap_or(&rule.place));
        self.pieces.want(starts, to + 8);
        if hop.is_some() && to - from > 8 {
            // All at once, what the next step will look at one by one.
            let (_, next_to, _) = self.range(*rule.path.get(step + 1).unwrap_or(&rule.place));
            let mut targets = Vec::new();
            for start in starts {
                for at in (from..to).step_by(every) {
                    let target = self.pieces.pointer(start.saturating_add(at.into()));
                    targets.extend(target);
                }
            }
            let bytes = if rule.clear != 0 && step == 0 {
                8
            } else {
                next_to + 8
            };
            self.pieces.want(&targets, bytes);
        }
        for at in (from..to).step_by(every) {
            way[step] = at;
            if hop.is_none() {
                if self.holds(rule, subjects, starts, at) {
                    found.add(rule, way);
                }
            } else if let Some(next) = self.targets(rule, starts, at, step == 0) {
                self.follow(rule, subjects, &next, step + 1, way, found);
            }
        }
    }

    /// Where the pointers of all subjects lead, if all are pointers.
    fn targets(
        &mut self,
        rule: &Rule,
        starts: &[u64],
        at: u32,
        is_first: bool,
    ) -> Option<Vec<u64>> {
        let mut targets = Vec::new();
        for start in starts {
            let place = start.saturating_add(at.into());
            let target = self.pieces.pointer(place)?;
            if is_first {
                let again = self.pieces.u64(place.saturating_add(8));
                if rule.paired && again != Some(target) {
                    return None;
                }
                if rule.clear != 0 && self.pieces.u64(target)? & rule.clear != 0 {
                    return None;
                }
            }
            targets.push(target);
        }
        Some(targets)
    }

    fn holds(&mut self, rule: &Rule, subjects: &[Subject], starts: &[u64], at: u32) -> bool {
        for (subject, start) in subjects.iter().zip(starts) {
            let mut place = start.saturating_add(at.into());
            for word in rule.words {
                let Some(found) = self.pieces.u64(place) else {
                    return false;
                };
                if !word.holds(found, &subject.facts) {
                    return false;
                }
                place = place.saturating_add(8);
            }
        }
        true
    }
}

impl Found {
    /// What is searched for behind pointers counts where it is nearest: what a pointer to a
    /// neighbour sees of it, it sees further off.
    fn add(&mut self, rule: &Rule, way: Way) {
        let last = rule.path.len();
        let is_nearer = last > 0 && way[last] < self.way[last];
        if self.count == 0 || is_nearer {
            *self = Found { way, count: 1 };
        } else if way[last] == self.way[last] || last == 0 {
            let is_neighbours = way[0] - self.way[0] >= rule.apart;
            self.count += u32::from(!is_neighbours);
        }
    }
}

impl Word {
    fn holds(self, word: u64, facts: &Facts) -> bool {
        const NS_PER_TICK: u64 = 10_000_000;
        match self {
            Word::Same(fact, bits) => (word ^ facts.get(fact)) & bits == 0,
            Word::Masked(fact, bits) => (word ^ facts.get(fact)) & facts.get(bits) == 0,
            Word::Is(value, bits) => word & bits == value,
            Word::Not(value) => word != value,
            Word::Ticks(fact) => word / NS_PER_TICK == facts.get(fact),
            Word::Pointer(fact) if facts.get(fact) == 0 => word == 0,
            Word::Pointer(_) => is_kernel_address(word),
            Word::StackOf(end) => stack::is_size(facts.get(end).wrapping_sub(word)),
        }
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
