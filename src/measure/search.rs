//! Searches the kernel's structures for the known values.
//!
//! ```text
//! task of each child -- trap values, name, ids, times
//!   -> mm -> its values, each mapping       (search/mappings.rs)
//!        -> file -> dentry, inode, mount    (search/files.rs)
//! ```
//!
//! Tables of `Rule`s say what is searched. An offset counts only if it is the only one
//! that holds for both children, and for each of their mappings and files. Otherwise the
//! field is left out and named as missing; nothing is guessed. Two fields that always have
//! the same value must be next to each other, in a known order. A kernel with shuffled
//! structures (`CONFIG_RANDSTRUCT`) breaks that rule, so those fields are missing there.
//!
//! Nothing here makes a system call: [`Pieces`] provides the kernel's memory.

use crate::measure::facts::{Child, Fact, Facts, Tool, SYNDROME};
use crate::measure::layout::{Detail, Field, Layout};
use crate::measure::pieces::{is_kernel_address, Memory, Pieces};

mod files;
mod mappings;
mod stack;
mod task;

/// Why nothing at all can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchError {
    /// The children's fault address is not in their tasks, or not exactly once.
    NoTrap,
    /// Their registers are not at the top of the kernel stack.
    NoRegisters,
}

impl SearchError {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SearchError::NoTrap => "the fault address was not found in the task structure",
            SearchError::NoRegisters => "the registers were not found on the kernel stack",
        }
    }
}

/// A kernel structure that is searched, and the known values in it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub at: u64,
    pub facts: Facts,
}

/// An offset in a structure, or before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In a task, below the trap's values, every so many bytes.
    Task(u8),
    /// From here, to before there, every so many bytes.
    Within(i16, i16, u8),
    /// At this very place.
    At(i16),
    /// At the place of a field that was found, or of the word ahead of it.
    Of(Field),
    Ahead(Field),
}

/// Bits of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bits {
    All,
    /// The lower half.
    Low,
    /// Two bytes.
    Text,
    /// Read, write and execute; and where flags have no bits, but addresses do.
    Permissions,
    /// arm64: of the processor's account of a fault.
    Syndrome,
    /// A count of users that is too high, or a level that is too deep.
    ManyUsers,
    ManyOrDeep,
}

impl Bits {
    fn mask(self) -> u64 {
        match self {
            Bits::All => u64::MAX,
            Bits::Low => 0xffff_ffff,
            Bits::Text => 0xffff,
            Bits::Permissions => 0x7f00_0000_0000_0007,
            Bits::Syndrome => SYNDROME,
            Bits::ManyUsers => 0xffff_0000,
            Bits::ManyOrDeep => 0xffff_ffe0_ffff_0000,
        }
    }
}

/// The condition on a word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// The known value, in these bits.
    Same(Fact, Bits),
    /// In the bits that are known to count.
    Masked(Fact, Fact),
    /// Anything but this.
    Not(Fact),
    /// Nanoseconds, for a value that is known in ticks.
    Ticks(Fact),
    /// An address if the fact is known, else 0.
    Pointer(Fact),
    /// The beginning of a stack whose end is known.
    StackOf(Fact),
}

/// All of a word.
pub(crate) const fn same(fact: Fact) -> Word {
    Word::Same(fact, Bits::All)
}

/// Consecutive words at an offset that is searched, reached through pointers whose
/// offsets are searched as well.
pub(crate) struct Rule {
    /// Only for subjects whose value of this fact is known.
    pub only: Option<Fact>,
    /// The offsets of the pointers that lead there.
    pub path: &'static [Place],
    /// Two pointers in a row, which are the same, instead of the first.
    pub paired: bool,
    /// Bits that are zero in the first word that the first pointer leads to.
    pub clear: Option<Bits>,
    /// Behind the last pointer.
    pub place: Place,
    pub words: &'static [Word],
    /// If there are several finds, the one counts whose last searched offset is the smallest: a
    /// pointer to the structure's neighbour in memory sees the same words at a larger offset.
    /// Otherwise there must be exactly one find.
    pub nearest: bool,
    /// A second find at this distance or more after the first searched offset belongs to the
    /// structure's neighbour, which may be another child's.
    pub apart: i16,
    /// Fields that are found with it: after which of the offsets above, and how far after it.
    pub fields: &'static [(u8, Field, i16)],
    /// The detail that reports lack without these fields.
    pub lost: Detail,
}

/// A rule with the simplest setting of every field.
pub(crate) const RULE: Rule = Rule {
    only: None,
    path: &[],
    paired: false,
    clear: None,
    place: Place::Task(8),
    words: &[],
    nearest: false,
    apart: i16::MAX,
    fields: &[],
    lost: Detail::None,
};

/// Places of a rule.
const MOST_PLACES: usize = 6;
type Way = [i32; MOST_PLACES];

/// The matches of a rule, as far as they matter.
#[derive(Debug, Default)]
struct Found {
    way: Way,
    count: u32,
}

/// A running search.
pub(crate) struct Search<'a> {
    pieces: Pieces<'a>,
    tool: &'a Tool,
    layout: Layout,
    /// The offset of the trap's values: all other fields of a task are below.
    limit: i32,
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
        facts.set(Fact::PidNamespace, tool.pid_namespace.into());
        let at = child.task;
        tasks.push(Subject { at, facts });
    }
    search.task(&tasks)?;
    search.memory(&tasks, children);
    search.layout.lose(Detail::Cgroup);
    Ok(search.layout)
}

fn plus(start: u64, offset: i32) -> u64 {
    start.wrapping_add_signed(offset.into())
}

impl Search<'_> {
    /// Finds what each rule of a table is about, or loses it; whether all of it was found.
    pub(super) fn find_all(&mut self, subjects: &[Subject], rules: &[Rule]) -> bool {
        let mut all = true;
        for rule in rules {
            if !self.find(subjects, rule) {
                self.layout.lose(rule.lost);
                all = false;
            }
        }
        all
    }

    /// Finds the one way of a rule that holds for all subjects, and its fields with it.
    pub(super) fn find(&mut self, subjects: &[Subject], rule: &Rule) -> bool {
        let mut chosen = Vec::new();
        let mut starts = Vec::new();
        for subject in subjects {
            if rule.only.is_none_or(|fact| subject.facts.get(fact) != 0) {
                chosen.push(subject);
                starts.push(subject.at);
            }
        }
        let mut found = Found::default();
        self.follow(rule, &chosen, &starts, 0, Way::default(), &mut found);
        if found.count != 1 || chosen.is_empty() {
            return false;
        }
        for (step, field, behind) in rule.fields {
            let at = found.way[usize::from(*step)] + i32::from(*behind);
            self.layout.found(*field, at);
        }
        true
    }

    /// The word in a field that was found, of the structure at an address.
    fn word_of(&mut self, at: u64, field: Field) -> Option<u64> {
        let place = self.layout.place(field)?;
        self.pieces.u64(plus(at, place))
    }

    /// Offsets from, to and step; nothing if a field was not found.
    fn range(&self, place: Place) -> (i32, i32, i32) {
        let at = match place {
            Place::Task(step) => return (0, self.limit, step.into()),
            Place::Within(from, to, step) => return (from.into(), to.into(), step.into()),
            Place::At(at) => Some(at.into()),
            Place::Of(field) => self.layout.place(field),
            Place::Ahead(field) => self.layout.place(field).map(|at| at - 8),
        };
        at.map_or((0, 0, 1), |at| (at, at + 1, 1))
    }

    /// Tries all places of one step of a rule, for all subjects at once.
    fn follow(
        &mut self,
        rule: &Rule,
        subjects: &[&Subject],
        starts: &[u64],
        step: usize,
        mut way: Way,
        found: &mut Found,
    ) {
        let hop = rule.path.get(step);
        let (from, to, every) = self.range(*hop.unwrap_or(&rule.place));
        let mut wanted = starts.to_vec();
        self.pieces.want(&wanted, from, to + 8);
        if hop.is_some() {
            // Reads at once what the next step looks at one by one.
            let next = rule.path.get(step + 1).unwrap_or(&rule.place);
            let (next_from, mut next_to, _) = self.range(*next);
            if rule.clear.is_some() && step == 0 {
                next_to = next_from;
            }
            wanted.clear();
            for start in starts {
                let mut at = from;
                while at < to {
                    wanted.extend(self.pieces.pointer(plus(*start, at)));
                    at += every;
                }
            }
            self.pieces.want(&wanted, next_from, next_to + 8);
        }
        let mut at = from;
        while at < to {
            way[step] = at;
            if hop.is_none() {
                if self.holds(rule, subjects, starts, at) {
                    found.add(rule, way);
                }
            } else if self.targets(rule, starts, at, step == 0, &mut wanted) {
                self.follow(rule, subjects, &wanted, step + 1, way, found);
            }
            at += every;
        }
    }

    /// Where the pointers of all subjects lead, if all are pointers.
    fn targets(
        &mut self,
        rule: &Rule,
        starts: &[u64],
        at: i32,
        is_first: bool,
        targets: &mut Vec<u64>,
    ) -> bool {
        targets.clear();
        for start in starts {
            let place = plus(*start, at);
            let Some(target) = self.pieces.pointer(place) else {
                return false;
            };
            if is_first && rule.paired && self.pieces.u64(plus(place, 8)) != Some(target) {
                return false;
            }
            if let Some(clear) = rule.clear.filter(|_| is_first) {
                let first = self.pieces.u64(target).unwrap_or(u64::MAX);
                if first & clear.mask() != 0 {
                    return false;
                }
            }
            targets.push(target);
        }
        true
    }

    fn holds(&mut self, rule: &Rule, subjects: &[&Subject], starts: &[u64], at: i32) -> bool {
        for (subject, start) in subjects.iter().zip(starts) {
            let mut place = plus(*start, at);
            for word in rule.words {
                let found = self.pieces.u64(place);
                if !found.is_some_and(|found| word.holds(found, &subject.facts)) {
                    return false;
                }
                place = plus(place, 8);
            }
        }
        true
    }
}

impl Found {
    /// Takes note of another find; places are tried in order.
    fn add(&mut self, rule: &Rule, way: Way) {
        // The last of the searched places if the nearest counts, otherwise the first.
        let mut key = rule.path.len();
        let mut is_first = true;
        for (step, place) in rule.path.iter().chain([&rule.place]).enumerate() {
            let is_searched = matches!(place, Place::Task(_) | Place::Within(..));
            if is_searched && (is_first || rule.nearest) {
                key = step;
                is_first = false;
            }
        }
        let further = way[key] - self.way[key];
        if self.count == 0 || further < 0 {
            *self = Found { way, count: 1 };
        } else if further == 0 || !rule.nearest && further < rule.apart.into() {
            self.count += 1;
        }
    }
}

impl Word {
    fn holds(self, word: u64, facts: &Facts) -> bool {
        use crate::base::procfs::NS_PER_TICK;
        match self {
            Word::Same(fact, bits) => (word ^ facts.get(fact)) & bits.mask() == 0,
            Word::Masked(fact, bits) => (word ^ facts.get(fact)) & facts.get(bits) == 0,
            Word::Not(fact) => word != facts.get(fact),
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
