//! What is known about code addresses: their functions, their lines, and the calls that
//! the compiler inlined there.
//!
//! In: a file and addresses in it, from a crash on this host or from a report that is
//! read at a desk. Out: names and lines ([`Located`]), from which the frames of a report
//! are made. [`Namer`] remembers its answers.

use std::rc::Rc;

use crate::base::address::FileAddress;
use crate::base::budget::MemoryBudget;
use crate::crash::frame::{CodeAddress, Frame};
use crate::report::{Location, StackFrame, Symbol};
#[cfg(feature = "lines")]
use crate::symbols::demangle::demangle;
#[cfg(feature = "lines")]
use crate::symbols::lines::{Call, Lack};
#[cfg(feature = "lines")]
use crate::symbols::places::Places;
use crate::symbols::resolver::{self, Names, Resolver, ResolverStats};

/// Where a frame is, and the calls inlined there, innermost first.
#[derive(Clone, Debug, Default)]
pub struct Located {
    pub inlined: Vec<Location>,
    pub location: Location,
    /// Its file was not available.
    pub unread: bool,
    /// Where its function begins, by call-frame information.
    pub function: Option<FileAddress>,
    /// All code of its file keeps frame pointers.
    pub keeps_frame_pointers: bool,
}

impl Located {
    fn add_name(&mut self, symbol: Option<resolver::Symbol>) {
        let at = self.location.module_offset.unwrap_or_default();
        self.location.symbol = symbol.and_then(|symbol| {
            Some(Symbol {
                name: symbol.name.to_vec(),
                offset: at.offset_from(symbol.start)?,
            })
        });
    }

    #[cfg(feature = "lines")]
    fn add_calls(&mut self, calls: &[Call]) {
        let at = self.location.module_offset.unwrap_or_default();
        for call in calls {
            if !call.inlined {
                self.location.file = call.file.as_deref().map(<[u8]>::to_vec);
                self.location.line = call.line;
                continue;
            }
            let symbol = call.name.as_deref().and_then(|name| {
                Some(Symbol {
                    name: demangle(name).into_owned(),
                    offset: at.offset_from(call.start)?,
                })
            });
            let outer = &self.location;
            self.inlined.push(Location {
                symbol,
                module: outer.module.clone(),
                module_offset: outer.module_offset,
                file_offset: outer.file_offset,
                build_id: outer.build_id.clone(),
                file: call.file.as_deref().map(<[u8]>::to_vec),
                line: call.line,
            });
        }
    }

    /// Adds one frame for each call.
    pub fn frames(&self, frame: &Frame, frames: &mut Vec<StackFrame>) {
        let inlined = self.inlined.iter().map(|location| (true, location));
        for (inlined, location) in inlined.chain([(false, &self.location)]) {
            frames.push(StackFrame {
                address: frame.code.address(),
                exact: matches!(frame.code, CodeAddress::Exact(_)),
                trust: frame.trust,
                inlined,
                location: location.clone(),
            });
        }
    }
}

/// Finds names and lines, and caches both.
#[derive(Debug)]
pub struct Namer {
    names: Resolver,
    #[cfg(feature = "lines")]
    lines: Places,
}

impl Namer {
    /// For so many names, and so many addresses with lines.
    #[must_use]
    pub fn new(limit: usize, budget: &Rc<MemoryBudget>) -> Self {
        Namer {
            names: Resolver::new(limit, budget.clone()),
            #[cfg(feature = "lines")]
            lines: Places::new(limit, budget.clone()),
        }
    }

    /// For so many names of files that keep their lines themselves.
    #[must_use]
    pub fn of_names(limit: usize, budget: &Rc<MemoryBudget>) -> Self {
        Namer {
            names: Resolver::new(limit, budget.clone()),
            #[cfg(feature = "lines")]
            lines: Places::new(0, budget.clone()),
        }
    }

    #[must_use]
    pub fn stats(&self) -> ResolverStats {
        self.names.stats()
    }

    /// Names those of `located` that lie in `file`: their numbers, and the address to be
    /// looked up for each. Their modules and places are known already.
    pub fn add_names(
        &mut self,
        file: &dyn Names,
        located: &mut [Located],
        which: &[(usize, FileAddress)],
    ) {
        let addresses: Vec<FileAddress> = which.iter().map(|(_, lookup)| *lookup).collect();
        let symbols = self.names.resolve(file, &addresses);
        for (&(index, _), symbol) in which.iter().zip(symbols) {
            located[index].add_name(symbol);
        }
    }

    /// The same for their lines and the calls inlined there; what is lacking.
    #[cfg(feature = "lines")]
    pub fn add_lines(
        &mut self,
        file: &dyn Names,
        located: &mut [Located],
        which: &[(usize, FileAddress)],
    ) -> Option<Lack> {
        let addresses: Vec<FileAddress> = which.iter().map(|(_, lookup)| *lookup).collect();
        let read = |missing: &[FileAddress]| file.calls(missing);
        let (calls, lack) = self.lines.resolve(file.id(), &addresses, read);
        for (&(index, _), calls) in which.iter().zip(calls) {
            located[index].add_calls(&calls);
        }
        lack
    }
}
