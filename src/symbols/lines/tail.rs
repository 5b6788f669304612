//! Calls that tail calls replaced.
//!
//! A function that ends with a call of another may jump there instead, and its own frame is
//! gone: the stack shows the other one as if the caller of the first had called it. In:
//! a function on the stack and where it returns to. Out: the tail calls that led from what
//! the caller calls to the function. They are known if there is exactly one way. With two ways,
//! with a call through a pointer, or with a function whose calls are not all described,
//! nothing is known. gdb's manual, "Tail Call Frames".

use std::cell::{Cell, RefCell};

use super::index::Index;
use super::sites::{Function, Site, Sites};
use super::{Batch, Debug, Memory, Others, Role};
use crate::base::address::FileAddress;
use crate::symbols::elf::ElfFile;
use std::rc::Rc;

/// Tail calls in a row.
const MAX_LENGTH: usize = 32;
/// Calls that are followed.
const MAX_STEPS: usize = 4096;

/// A tail call: where it would have returned to, or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailCall {
    pub at: FileAddress,
    /// It is the address of the call itself.
    pub is_exact: bool,
}

/// The tail calls, innermost first, that led from the call which returns to `return_to` to the
/// function that holds `callee`. `address_of` finds a
/// function by its name in the symbol tables.
#[must_use]
pub fn tail_calls(
    elf: &ElfFile,
    memory: &Memory,
    others: &dyn Others,
    address_of: &dyn Fn(&[u8]) -> Option<FileAddress>,
    callee: FileAddress,
    return_to: FileAddress,
) -> Vec<TailCall> {
    if !elf.debug_sections().exist() {
        return Vec::new();
    }
    let batch = Batch {
        memory,
        others,
        refused: Cell::new(None),
        lack: RefCell::default(),
    };
    let debug = Debug::new(&batch, elf, Role::Itself, &memory.itself);
    let index = debug.index(&[callee.0, return_to.0]);
    let found = Search::between(&debug, &index, address_of, callee.0, return_to.0);
    match found {
        // Another way may have been missed.
        Some(found) if !debug.is_cut() => found.into_iter().rev().collect(),
        _ => Vec::new(),
    }
}

/// The calls of a unit, with a function that is in it.
#[derive(Clone)]
struct Home {
    unit: u64,
    sites: Rc<Sites>,
    function: Function,
}

/// Looks for the ways to a function.
struct Search<'a> {
    debug: &'a Debug<'a>,
    index: &'a Index,
    address_of: &'a dyn Fn(&[u8]) -> Option<FileAddress>,
    callee: Home,
    /// The tail calls that are being followed, outermost first.
    path: Vec<TailCall>,
    found: Option<Vec<TailCall>>,
    steps: usize,
}

impl<'a> Search<'a> {
    /// The only way; `None` if it is not certain that there is one.
    fn between(
        debug: &'a Debug<'a>,
        index: &'a Index,
        address_of: &'a dyn Fn(&[u8]) -> Option<FileAddress>,
        callee: u64,
        return_to: u64,
    ) -> Option<Vec<TailCall>> {
        let mut search = Search {
            debug,
            index,
            address_of,
            callee: home(debug, index, callee)?,
            path: Vec::new(),
            found: None,
            steps: 0,
        };
        let caller = home(debug, index, return_to.checked_sub(1)?)?;
        let site = caller.sites.returning_to(caller.function, return_to)?;
        if site.is_tail_call || search.is_callee(&caller, site)? {
            return None;
        }
        search.follow(&caller, site)?;
        search.found
    }

    /// Whether a call is one of the function that is looked for; `None` for a call through a
    /// pointer.
    fn is_callee(&self, home: &Home, site: Site) -> Option<bool> {
        let target = site.target?;
        let callee = &self.callee;
        let own = callee.function.at;
        if home.unit == callee.unit {
            let declaration = |at| home.sites.declaration(at);
            if declaration(target) == declaration(own) {
                return Some(true);
            }
        }
        if home.sites.entry_of(target) == Some(None) {
            // It is elsewhere, and known by its name.
            return Some(self.debug.name_at(target)? == self.debug.name_at(own)?);
        }
        Some(false)
    }

    /// Follows a call of another function, and all tail calls of that.
    fn follow(&mut self, home: &Home, site: Site) -> Option<()> {
        let entry = self.entry_of(home, site.target?)?;
        if entry == self.callee.function.entry {
            return self.arrive();
        }
        let next = self::home(self.debug, self.index, entry)?;
        if next.function.entry != entry || !next.function.is_whole {
            return None;
        }
        let sites: Vec<Site> = next.sites.of(next.function).collect();
        for site in sites.into_iter().filter(|site| site.is_tail_call) {
            self.steps += 1;
            if self.path.len() == MAX_LENGTH || self.steps > MAX_STEPS {
                return None;
            }
            let call = TailCall {
                at: FileAddress(site.at),
                is_exact: site.is_exact,
            };
            if self.path.contains(&call) {
                continue;
            }
            self.path.push(call);
            match self.is_callee(&next, site)? {
                true => self.arrive()?,
                false => self.follow(&next, site)?,
            }
            self.path.pop();
        }
        Some(())
    }

    /// Takes the way that was gone; `None` if it is the second one.
    fn arrive(&mut self) -> Option<()> {
        self.found
            .replace(self.path.clone())
            .is_none()
            .then_some(())
    }

    /// Where a call of the function with that entry leads.
    fn entry_of(&self, home: &Home, target: u64) -> Option<u64> {
        let unit = self.debug.unit_of_entry(target)?;
        let here = match unit == home.unit {
            true => home.sites.entry_of(target)?,
            false => self.debug.sites(unit)?.entry_of(target)?,
        };
        here.or_else(|| Some((self.address_of)(&self.debug.name_at(target)?)?.0))
    }
}

/// The function that holds an address.
fn home(debug: &Debug<'_>, index: &Index, address: u64) -> Option<Home> {
    let unit = index.find(address)?;
    let sites = debug.sites(unit)?;
    let function = sites.holding(address)?;
    Some(Home {
        unit,
        sites,
        function,
    })
}
