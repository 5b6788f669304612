//! The calls of a unit, and the functions that make them.
//!
//! In: a unit. Out: its functions with code ([`Function`]), and the places where these call
//! others ([`Site`]). A unit that cannot be read to its end gives nothing, because what is
//! missing could be another way from one function to another. DWARF 5, section 3.4; in
//! version 4 as GNU has it.

use super::abbreviation::{TAG_CALL_SITE, TAG_GNU_CALL_SITE, TAG_SUBPROGRAM};
use super::reader::Reader;
use super::unit::{Entry, Unit, Value};
use super::{ranges, Debug, Section};

/// Entries that are followed from an instance of a function to its first declaration.
const MAX_HOPS: usize = 8;
/// Functions within functions.
const MAX_OPEN: usize = 64;
/// What is kept of a unit.
const MAX_SITES: usize = 1 << 20;

/// A function, or one of several parts of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    low: u64,
    high: u64,
    /// Where a call of it leads.
    pub(super) entry: u64,
    /// Its entry in `.debug_info`.
    pub(super) at: u64,
    /// All of its tail calls are described.
    pub(super) is_whole: bool,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// The entry of the function that it is in.
    function: u64,
    /// Where it returns to, or would; if that is not known, the call itself.
    pub(super) at: u64,
    pub(super) is_exact: bool,
    pub(super) is_tail_call: bool,
    /// The entry of what it calls; `None` for a call through a pointer.
    pub(super) target: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Sites {
    functions: Vec<Function>,
    sites: Vec<Site>,
    /// Each function's entry, in the order of the file, and the one that it completes.
    links: Vec<(u64, Option<u64>)>,
}

impl Sites {
    pub(super) fn read(debug: &Debug<'_>, at: u64) -> Option<Self> {
        let unit = Unit::read_calls(debug, at)?;
        if unit.is_split() {
            return None;
        }
        let mut walk = Walk {
            debug,
            unit: &unit,
            found: Sites::default(),
            open: Vec::new(),
            depth: 0,
        };
        let mut reader = debug.reader_at(Section::Info, unit.first_entry());
        while reader.at() < unit.end {
            walk.step(&mut reader)?;
        }
        let mut found = walk.found;
        found.functions.shrink_to_fit();
        found.sites.shrink_to_fit();
        found.links.shrink_to_fit();
        Some(found)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.functions) + size_of_val(&*self.sites) + size_of_val(&*self.links)
    }

    /// The function that holds an address; `None` where several do.
    pub(super) fn holding(&self, address: u64) -> Option<Function> {
        let mut holding = self
            .functions
            .iter()
            .filter(|function| (function.low..function.high).contains(&address));
        let first = holding.next()?;
        holding.all(|other| other.at == first.at).then_some(*first)
    }

    /// The call in that function that returns there; `None` where several do.
    pub(super) fn returning_to(&self, function: Function, address: u64) -> Option<Site> {
        let mut sites = self
            .of(function)
            .filter(|site| site.at == address && !site.is_exact);
        let first = sites.next()?;
        sites.next().is_none().then_some(first)
    }

    /// The calls that a function makes.
    pub(super) fn of(&self, function: Function) -> impl Iterator<Item = Site> + '_ {
        let sites = self.sites.iter().copied();
        sites.filter(move |site| site.function == function.at)
    }

    /// The entry that the function of this entry was declared with first.
    pub(super) fn declaration(&self, mut at: u64) -> u64 {
        for _ in 0..MAX_HOPS {
            let link = self.links.binary_search_by_key(&at, |link| link.0).ok();
            match link.and_then(|link| self.links[link].1) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Where calls of the function of that entry lead; inside, none if the unit does not have
    /// its code; `None` if it has several copies of it.
    #[expect(
        clippy::option_option,
        reason = "outside: is it certain; inside: is it here"
    )]
    pub(super) fn entry_of(&self, at: u64) -> Option<Option<u64>> {
        if let Some(own) = self.functions.iter().find(|function| function.at == at) {
            return Some(Some(own.entry));
        }
        let declared = self.declaration(at);
        let mut copies = self
            .functions
            .iter()
            .filter(|function| self.declaration(function.at) == declared);
        let Some(first) = copies.next() else {
            return Some(None);
        };
        let is_only = copies.all(|other| other.entry == first.entry);
        is_only.then_some(Some(first.entry))
    }
}

/// A pass over the entries of a unit.
struct Walk<'a> {
    debug: &'a Debug<'a>,
    unit: &'a Unit,
    found: Sites,
    /// The functions whose children are being read: depth, and entry.
    open: Vec<(u64, u64)>,
    depth: u64,
}

impl Walk<'_> {
    fn step(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let at = reader.at();
        let Some(shape) = self.unit.shape(self.debug, reader)? else {
            self.depth = self.depth.saturating_sub(1);
            self.open.pop_if(|(depth, _)| *depth > self.depth);
            return Some(());
        };
        match shape.tag {
            TAG_SUBPROGRAM => {
                let entry = self.unit.attributes(reader, shape, at)?;
                self.function(&entry)?;
                if shape.children {
                    self.open.push((self.depth + 1, at));
                }
            }
            TAG_CALL_SITE | TAG_GNU_CALL_SITE => {
                let entry = self.unit.attributes(reader, shape, at)?;
                self.site(&entry)?;
            }
            _ => {
                self.unit.sibling(reader, shape)?;
            }
        }
        self.depth += u64::from(shape.children);
        let count = self.found.sites.len() + self.found.links.len();
        (self.open.len() <= MAX_OPEN && count <= MAX_SITES).then_some(())
    }

    fn function(&mut self, entry: &Entry) -> Option<()> {
        let next = match entry.origin.or(entry.specification) {
            Some(Value::Entry(next)) => Some(next),
            _ => None,
        };
        self.found.links.push((entry.at, next));
        let is_whole = entry.has_all_calls.and_then(Value::number) == Some(1);
        let mut first = None;
        let Walk {
            debug, unit, found, ..
        } = self;
        ranges::visit(debug, unit, entry, &mut |low, high| {
            found.functions.push(Function {
                low,
                high,
                entry: *first.get_or_insert(low),
                at: entry.at,
                is_whole,
            });
        })
    }

    fn site(&mut self, entry: &Entry) -> Option<()> {
        let Some(&(_, function)) = self.open.last() else {
            return Some(());
        };
        let return_to = entry.call_return.or(entry.low);
        let at = return_to.or(entry.call_pc);
        let at = at.and_then(|value| self.unit.address(self.debug, value));
        let target = match entry.call_origin.or(entry.origin) {
            Some(Value::Entry(at)) => Some(at),
            _ => None,
        };
        self.found.sites.push(Site {
            function,
            at: at.unwrap_or(0),
            is_exact: return_to.is_none(),
            is_tail_call: entry.is_tail_call.and_then(Value::number) == Some(1),
            // Without an address it cannot be shown.
            target: target.filter(|_| at.is_some()),
        });
        Some(())
    }
}
