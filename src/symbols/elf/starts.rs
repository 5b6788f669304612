//! An index of one symbol table: which function an address is in, by its start alone.
//!
//! A stack walk asks for one address after another, and a pass over the table for each
//! would be most of its time. Names are not kept: whoever wants one makes a pass for all
//! addresses at once (`symtab`). Both give the same starts; where a symbol without a size
//! may be the answer, this one does not know.

use goblin::elf::sym::Sym;

use crate::base::address::FileAddress;

/// Functions of one table: 6 MB.
pub(super) const MAX_FUNCTIONS: u64 = 512 << 10;

#[derive(Clone, Copy, Debug)]
struct Function {
    /// From the file's first address.
    start: u32,
    /// 0 where the table does not tell.
    size: u32,
    /// The highest end of this one and all before it.
    reach: u32,
}

/// The functions of a table, sorted.
#[derive(Debug, Default)]
pub struct Starts {
    base: u64,
    functions: Vec<Function>,
    /// The higher half of the address space has some, or they are too large.
    is_partial: bool,
}

/// What an index knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Function(FileAddress),
    Nobody,
    NotKnown,
}

impl Starts {
    /// For `most` functions at addresses from `base` on.
    pub(super) fn new(base: u64, most: usize) -> Self {
        Starts {
            base,
            functions: Vec::with_capacity(most),
            is_partial: false,
        }
    }

    /// Adds a symbol of code; `size` as it counts in this table.
    pub(super) fn add(&mut self, symbol: &Sym, start: u64, size: u64) {
        let from_base = start
            .checked_sub(self.base)
            .and_then(|at| u32::try_from(at).ok());
        let Some((start, size)) = from_base.zip(u32::try_from(size).ok()) else {
            self.is_partial = true;
            return;
        };
        if symbol.st_name != 0 && self.functions.len() < self.functions.capacity() {
            let reach = start.saturating_add(size);
            self.functions.push(Function { start, size, reach });
        }
    }

    /// Nothing is added any more; `None` where not all could be.
    pub(super) fn finish(mut self) -> Option<Self> {
        if self.is_partial {
            return None;
        }
        self.functions
            .sort_unstable_by_key(|function| function.start);
        self.functions.shrink_to_fit();
        let mut reach = 0;
        for function in &mut self.functions {
            reach = reach.max(function.reach);
            function.reach = reach;
        }
        Some(self)
    }

    /// The innermost function that holds an address.
    #[must_use]
    pub fn find(&self, address: FileAddress) -> Holder {
        let from_base = address.0.checked_sub(self.base);
        let Some(at) = from_base.and_then(|at| u32::try_from(at).ok()) else {
            return Holder::Nobody;
        };
        let behind = self
            .functions
            .partition_point(|function| function.start <= at);
        let below = &self.functions[..behind];
        let Some(nearest) = below.last() else {
            return Holder::Nobody;
        };
        let might_hold = |function: &&Function| function.reach > at;
        let held = below
            .iter()
            .rev()
            .take_while(might_hold)
            .find(|function| at - function.start < function.size);
        if let Some(function) = held {
            return Holder::Function(FileAddress(self.base + u64::from(function.start)));
        }
        let mut nearest = below
            .iter()
            .rev()
            .take_while(|function| function.start == nearest.start);
        match nearest.any(|function| function.size == 0) {
            true => Holder::NotKnown,
            false => Holder::Nobody,
        }
    }

    /// Heap bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.functions.capacity() * size_of::<Function>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(functions: &[(u64, u64)]) -> Option<Starts> {
        let mut starts = Starts::new(0x1000, functions.len());
        for &(start, size) in functions {
            let symbol = Sym {
                st_name: 1,
                ..Sym::default()
            };
            starts.add(&symbol, start, size);
        }
        starts.finish()
    }

    #[test]
    fn the_innermost_holds() {
        let found = [
            (0x1100, 0x100),
            (0x1180, 8),
            (0x1300, 0),
            (0x1110, 4),
            (0x1400, 1),
        ];
        let starts = starts(&found).unwrap();
        let function = |address| Holder::Function(FileAddress(address));
        for (address, expected) in [
            (0, Holder::Nobody),
            (0x10ff, Holder::Nobody),
            (0x1100, function(0x1100)),
            (0x1112, function(0x1110)),
            (0x1114, function(0x1100)),
            (0x1187, function(0x1180)),
            (0x1188, function(0x1100)),
            (0x1200, Holder::Nobody),
            (0x1301, Holder::NotKnown),
            (0x1400, function(0x1400)),
            (0x1401, Holder::Nobody),
            (u64::MAX, Holder::Nobody),
        ] {
            assert_eq!(starts.find(FileAddress(address)), expected, "{address:#x}");
        }
    }

    #[test]
    fn what_does_not_fit_makes_no_index() {
        assert!(starts(&[(0x10, 4)]).is_none(), "below the first address");
        assert!(starts(&[(0x1_0000_2000, 4)]).is_none());
        assert!(starts(&[(0x2000, 1 << 32)]).is_none());
        assert_eq!(
            starts(&[]).unwrap().find(FileAddress(0x1000)),
            Holder::Nobody
        );
    }
}
