//! Symbols for a batch of addresses, by one pass over a symbol table.
//!
//! In: the table's place in the file, and addresses. Out: for each address the
//! best symbol, and the [`Answer::low`]..[`Answer::high`] around it within which
//! every address has that same answer, because no symbol begins or ends there.
//! Memory does not grow with the table: it is read in windows of 64 KB.
//!
//! ```text
//! for each symbol of code [start, end):
//!     its start and end narrow low..high of the addresses next to them
//!     for each address in [start, end): keep the better symbol
//!     without a size: keep it for the first address at or after its start
//! for each address: the best that contains it;
//!     else one without size that begins at low, in a section that goes on to here
//! ```
//!
//! The innermost symbol is better: the nearer start, then the smaller size. If these are
//! equal, GLOBAL is better than WEAK and WEAK better than LOCAL, then the fewest leading
//! underscores win, then the first symbol. An STT_GNU_IFUNC symbol is the name of the
//! function that its resolver chooses, but its address is that of the resolver. The
//! resolver gets its own name; without one, that name with `.resolver` appended, as
//! compilers call the resolvers that they generate. A symbol of size 0 reaches to the next
//! symbol. In `.dynsym`, which lacks most symbols, a function reaches no further than
//! [`DYNAMIC_REACH`] (memcpy(3) of musl has no size), and a label names only its start.
//! The format: System V ABI, "Symbol Table".

use std::cmp::Reverse;

use goblin::container::Ctx;
use goblin::elf::header::{EM_AARCH64, EM_ARM, EM_RISCV};
use goblin::elf::section_header::{SHN_LORESERVE, SHN_UNDEF, SHN_XINDEX};
use goblin::elf::sym::{self, Sym};

use super::place::CodeSection;
use super::source::{FileRange, Source, Strings};
use super::starts::{Starts, MAX_FUNCTIONS};
use crate::base::address::FileAddress;

/// 192 MB of symbols; libLLVM with its full table has 300,000.
const MAX_SYMBOLS: u64 = 8 << 20;
const WINDOW: usize = 64 * 1024;
/// Units of work for a symbol that is sorted into an index.
const SORT: u64 = 64;
/// Units of work for a symbol that holds an address.
const OFFER: u64 = 8;
/// How far a function without a size reaches in `.dynsym`, where the one behind it may be
/// missing: musl's longest in assembly code have some hundred bytes.
const DYNAMIC_REACH: u64 = 1024;
/// Names of one function that are compared.
const MAX_ALIASES: usize = 8;

/// A symbol, raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: Vec<u8>,
    pub start: FileAddress,
    /// 0 if the table does not say.
    pub size: u64,
}

/// What the tables say about one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Every address from here up to, not including, `high` has this answer.
    pub low: FileAddress,
    pub high: FileAddress,
    pub found: Option<Found>,
}

impl Answer {
    /// Nothing known, anywhere.
    #[must_use]
    pub fn unknown() -> Self {
        Answer {
            low: FileAddress(0),
            high: FileAddress(u64::MAX),
            found: None,
        }
    }
}

/// The place of a symbol table and its strings.
#[derive(Debug)]
pub(crate) struct SymbolTable {
    pub(crate) symbols: FileRange,
    strings: FileRange,
    dynamic: bool,
    /// Ends of code sections, for symbols without size.
    pub(crate) code: Box<[CodeSection]>,
}

/// The greater is the better: start, no IFUNC, smallness, binding.
type Rank = (u64, bool, Reverse<u64>, u8);

fn rank(symbol: &Sym, start: u64) -> Rank {
    let is_itself = symbol.st_type() != sym::STT_GNU_IFUNC;
    (
        start,
        is_itself,
        Reverse(symbol.st_size),
        binding_rank(symbol),
    )
}

/// The best symbol so far: its rank, and the aliases that share it.
#[derive(Clone, Copy, Debug)]
struct Best {
    rank: Rank,
    start: u64,
    size: u64,
    section: usize,
    names: [u32; MAX_ALIASES],
    count: usize,
}

impl Best {
    fn new(symbol: &Sym, start: u64) -> Self {
        let mut names = [0; MAX_ALIASES];
        names[0] = u32::try_from(symbol.st_name).unwrap_or(0);
        Best {
            rank: rank(symbol, start),
            start,
            size: symbol.st_size,
            section: symbol.st_shndx,
            names,
            count: 1,
        }
    }

    /// Puts the better of the two into `slot`.
    fn offer(slot: &mut Option<Best>, symbol: &Sym, start: u64) {
        let offered = rank(symbol, start);
        match slot {
            Some(best) if best.rank > offered => {}
            Some(best) if best.rank == offered => {
                if let Some(free) = best.names.get_mut(best.count) {
                    *free = u32::try_from(symbol.st_name).unwrap_or(0);
                    best.count += 1;
                }
            }
            _ => *slot = Some(Best::new(symbol, start)),
        }
    }

    fn into_found(self, strings: &mut Strings<'_>) -> Option<Found> {
        let mut chosen: Option<(usize, Vec<u8>)> = None;
        for &offset in &self.names[..self.count] {
            let Some(name) = strings.get(offset.into()).filter(|name| !name.is_empty()) else {
                continue;
            };
            let name = without_version(name);
            let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
            if chosen
                .as_ref()
                .is_none_or(|&(least, _)| underscores < least)
            {
                chosen = Some((underscores, name.to_vec()));
            }
        }
        let (_, is_itself, ..) = self.rank;
        chosen.map(|(_, name)| Found {
            name: match is_itself {
                true => name,
                false => [&name[..], b".resolver"].concat(),
            },
            start: FileAddress(self.start),
            size: self.size,
        })
    }
}

/// `ld` writes `name@@VERSION` into the full table of a library with versions.
fn without_version(name: &[u8]) -> &[u8] {
    match name.iter().position(|&byte| byte == b'@') {
        Some(end) if end > 0 => &name[..end],
        _ => name,
    }
}

fn binding_rank(symbol: &Sym) -> u8 {
    // STB_GNU_UNIQUE
    const UNIQUE: u8 = 10;
    match symbol.st_bind() {
        sym::STB_GLOBAL | UNIQUE => 3,
        sym::STB_WEAK => 2,
        sym::STB_LOCAL => 1,
        _ => 0,
    }
}

/// The intermediate result for one address.
#[derive(Clone, Debug)]
struct Slot {
    address: u64,
    low: u64,
    high: u64,
    sized: Option<Best>,
    /// Highest start among those without size.
    unsized_: Option<Best>,
}

impl SymbolTable {
    pub(crate) fn entry_size(ctx: Ctx) -> u64 {
        Sym::size(ctx.container) as u64
    }

    /// `None` for a table without symbols, or with more than the limit.
    pub(crate) fn new(
        ctx: Ctx,
        symbols: FileRange,
        strings: FileRange,
        dynamic: bool,
    ) -> Option<Self> {
        let count = symbols.size / Self::entry_size(ctx);
        (1..=MAX_SYMBOLS).contains(&count).then(|| SymbolTable {
            symbols,
            strings,
            dynamic,
            code: Box::default(),
        })
    }

    /// Shows every symbol, and takes the work that was said to have been done with it;
    /// `None` when the allowance is used up.
    fn visit(&self, source: &Source, ctx: Ctx, mut see: impl FnMut(&Sym) -> u64) -> Option<()> {
        let entry = Sym::size(ctx.container);
        let whole = usize::try_from(self.symbols.size).ok()?;
        let mut window = vec![0; whole.min(WINDOW / entry * entry)];
        let mut done = 0;
        while done < whole {
            let len = window.len().min(whole - done);
            let place = self.symbols.offset.checked_add(done as u64)?;
            let read = source.read_at(place, &mut window[..len]) / entry * entry;
            if read == 0 {
                break;
            }
            for bytes in window[..read].chunks_exact(entry) {
                let work = see(&decode(bytes, ctx)?);
                if work > 0 && !source.work(work) {
                    return None;
                }
            }
            done += read;
        }
        (!source.is_out()).then_some(())
    }

    /// The name of the symbol with that number.
    pub(crate) fn name_of(&self, source: &Source, ctx: Ctx, number: u64) -> Option<Vec<u8>> {
        let entry = Self::entry_size(ctx);
        if number >= self.symbols.size / entry {
            return None;
        }
        // Both classes begin with the name's place.
        let mut place = [0; 4];
        let at = self.symbols.offset.checked_add(number * entry)?;
        source.read_exact(at, &mut place)?;
        let mut strings = Strings::new(source, self.strings);
        let name = strings.get(u32::from_le_bytes(place).into())?;
        (!name.is_empty()).then(|| without_version(name).to_vec())
    }

    /// Where the function of that name begins that other files may call; `None` if there is
    /// none, or more than one.
    #[cfg(feature = "desk")]
    pub(crate) fn function_named(
        &self,
        source: &Source,
        ctx: Ctx,
        machine: u16,
        name: &[u8],
    ) -> Option<FileAddress> {
        let mut strings = Strings::new(source, self.strings);
        let mut found = Vec::new();
        self.visit(source, ctx, |symbol| {
            let is_global = binding_rank(symbol) > 1 && symbol.st_type() == sym::STT_FUNC;
            if is_global && is_code(symbol) {
                let own = strings.get(symbol.st_name as u64);
                if own.is_some_and(|own| without_version(own) == name) {
                    found.push(start_of(symbol, machine));
                }
            }
            0
        })?;
        found.dedup();
        match *found {
            [start] => Some(FileAddress(start)),
            _ => None,
        }
    }

    /// Adds to `answers` what this table knows; an answer that has a symbol
    /// already keeps it. `None` when the allowance is used up.
    pub(crate) fn functions(
        &self,
        source: &Source,
        ctx: Ctx,
        machine: u16,
        addresses: &[FileAddress],
        answers: &mut [Answer],
    ) -> Option<()> {
        let mut slots = self.open_slots(addresses, answers);
        if slots.is_empty() {
            return Some(());
        }
        let mut strings = Strings::new(source, self.strings);
        self.visit(source, ctx, |symbol| {
            if !is_code(symbol) || is_marker(symbol, machine, &mut strings) {
                return 0;
            }
            self.gather(symbol, machine, &mut slots)
        })?;
        propagate(&mut slots);
        for (&address, answer) in addresses.iter().zip(answers) {
            if answer.found.is_some() {
                continue;
            }
            if let Ok(index) = slots.binary_search_by_key(&address.0, |slot| slot.address) {
                self.settle(&slots[index], &mut strings, answer);
            }
        }
        Some(())
    }

    /// The variable that holds an address.
    pub(crate) fn variable(
        &self,
        source: &Source,
        ctx: Ctx,
        address: FileAddress,
    ) -> Option<Found> {
        let mut best = None;
        self.visit(source, ctx, |symbol| {
            let is_variable = symbol.st_type() == sym::STT_OBJECT && has_section(symbol);
            if is_variable && address.0.wrapping_sub(symbol.st_value) < symbol.st_size {
                Best::offer(&mut best, symbol, symbol.st_value);
            }
            0
        })?;
        best?.into_found(&mut Strings::new(source, self.strings))
    }

    /// An index of the functions, at addresses from `base` on; `None` where there are too
    /// many, or where the allowance is used up.
    pub(crate) fn starts(
        &self,
        source: &Source,
        ctx: Ctx,
        machine: u16,
        base: u64,
    ) -> Option<Starts> {
        let count = self.symbols.size / Self::entry_size(ctx);
        if count > MAX_FUNCTIONS || !source.work(count * SORT) {
            return None;
        }
        let mut starts = Starts::new(base, usize::try_from(count).ok()?);
        let mut strings = Strings::new(source, self.strings);
        self.visit(source, ctx, |symbol| {
            if is_code(symbol) && !is_marker(symbol, machine, &mut strings) {
                starts.add(symbol, start_of(symbol, machine), self.size_of(symbol));
            }
            0
        })?;
        starts.finish()
    }

    fn size_of(&self, symbol: &Sym) -> u64 {
        match symbol.st_size {
            0 if self.dynamic && symbol.st_type() != sym::STT_FUNC => 1,
            size => size,
        }
    }

    /// One slot for each address still without a symbol, sorted.
    fn open_slots(&self, addresses: &[FileAddress], answers: &[Answer]) -> Vec<Slot> {
        let mut open: Vec<u64> = addresses
            .iter()
            .zip(answers)
            .filter(|(_, answer)| answer.found.is_none())
            .map(|(address, _)| address.0)
            .collect();
        open.sort_unstable();
        open.dedup();
        open.into_iter()
            .map(|address| Slot {
                address,
                low: 0,
                high: u64::MAX,
                sized: None,
                unsized_: None,
            })
            .collect()
    }

    /// How much more work than most symbols it was.
    fn gather(&self, symbol: &Sym, machine: u16, slots: &mut [Slot]) -> u64 {
        let start = start_of(symbol, machine);
        let size = self.size_of(symbol);
        let first = bound(slots, start);
        if size == 0 {
            if let Some(slot) = slots.get_mut(first) {
                offer_unsized(&mut slot.unsized_, symbol, start);
            }
            return 0;
        }
        let end = start.saturating_add(size);
        let mut work = 0;
        for slot in slots[first..]
            .iter_mut()
            .take_while(|slot| slot.address < end)
        {
            Best::offer(&mut slot.sized, symbol, start);
            work += OFFER;
        }
        match slots.get(first) {
            Some(slot) if slot.address < end => {
                bound(slots, end);
            }
            // Nearly all begin and end between the same two.
            _ => narrow(slots, first, end),
        }
        work
    }

    fn settle(&self, slot: &Slot, strings: &mut Strings<'_>, answer: &mut Answer) {
        let mut high = slot.high;
        let best = slot.sized.or_else(|| {
            // Something begins or ends between it and the address: not its code.
            let best = slot.unsized_.filter(|best| best.start == slot.low)?;
            let section = self.code.iter().find(|code| code.index == best.section);
            let mut end = match section {
                Some(section) => section.end,
                // Without section headers the start is certain.
                None if self.dynamic => best.start.saturating_add(1),
                None => return None,
            };
            if self.dynamic {
                end = end.min(best.start.saturating_add(DYNAMIC_REACH));
            }
            if slot.address >= end {
                return None;
            }
            high = high.min(end);
            Some(best)
        });
        answer.low = answer.low.max(FileAddress(slot.low));
        answer.high = answer.high.min(FileAddress(high));
        answer.found = best.and_then(|best| best.into_found(strings));
    }
}

/// Narrows the ranges around a place where a symbol begins or ends; the result is the index
/// of the first slot at or after it.
fn bound(slots: &mut [Slot], place: u64) -> usize {
    let first = slots.partition_point(|slot| slot.address < place);
    narrow(slots, first, place);
    first
}

fn narrow(slots: &mut [Slot], first: usize, place: u64) {
    if let Some(slot) = slots.get_mut(first) {
        slot.low = slot.low.max(place);
    }
    if let Some(slot) = first.checked_sub(1).and_then(|index| slots.get_mut(index)) {
        slot.high = slot.high.min(place);
    }
}

/// The nearest start wins, whatever its binding; among equal ones, the better symbol.
fn offer_unsized(slot: &mut Option<Best>, symbol: &Sym, start: u64) {
    match slot {
        Some(best) if best.start > start => {}
        Some(best) if best.start == start => Best::offer(slot, symbol, start),
        _ => *slot = Some(Best::new(symbol, start)),
    }
}

/// Bounds that a slot has for its neighbours hold for slots further away, too.
fn propagate(slots: &mut [Slot]) {
    for index in 1..slots.len() {
        let below = slots[index - 1].clone();
        let slot = &mut slots[index];
        slot.low = slot.low.max(below.low);
        let nearer = |best: &Best| below.unsized_.is_none_or(|other| best.start >= other.start);
        slot.unsized_ = slot.unsized_.filter(nearer).or(below.unsized_);
    }
    for index in (1..slots.len()).rev() {
        let high = slots[index].high;
        let slot = &mut slots[index - 1];
        slot.high = slot.high.min(high);
    }
}

/// One entry of either class. goblin's iterator takes ten times as long, and a library may
/// have a million symbols.
fn decode(bytes: &[u8], ctx: Ctx) -> Option<Sym> {
    let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if !ctx.is_big() {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        return Some(Sym {
            st_name: number(&bytes[..4]) as usize,
            st_value: number(&bytes[4..8]).into(),
            st_size: number(&bytes[8..12]).into(),
            st_info: bytes[12],
            st_other: bytes[13],
            st_shndx: u16::from_le_bytes([bytes[14], bytes[15]]).into(),
        });
    }
    let bytes: &[u8; 24] = bytes.try_into().ok()?;
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Some(Sym {
        st_name: number(&bytes[..4]) as usize,
        st_info: bytes[4],
        st_other: bytes[5],
        st_shndx: u16::from_le_bytes([bytes[6], bytes[7]]).into(),
        st_value: wide(number(&bytes[8..12]), number(&bytes[12..16])),
        st_size: wide(number(&bytes[16..20]), number(&bytes[20..])),
    })
}

fn start_of(symbol: &Sym, machine: u16) -> u64 {
    match machine {
        // Bit 0 marks Thumb code.
        EM_ARM => symbol.st_value & !1,
        _ => symbol.st_value,
    }
}

fn has_section(symbol: &Sym) -> bool {
    let section = u32::try_from(symbol.st_shndx).unwrap_or(SHN_UNDEF);
    section != SHN_UNDEF && (section < SHN_LORESERVE || section == SHN_XINDEX)
}

/// FUNC, IFUNC, or a label of assembly code.
fn is_code(symbol: &Sym) -> bool {
    let kind = symbol.st_type();
    matches!(kind, sym::STT_FUNC | sym::STT_GNU_IFUNC | sym::STT_NOTYPE) && has_section(symbol)
}

/// ARM and RISC-V mark runs of code and data in the symbol table: `$x`, `$d`,
/// `$a`, `$t`, alone or with a suffix (ELF for the Arm Architecture, 5.5.5).
fn is_marker(symbol: &Sym, machine: u16, strings: &mut Strings<'_>) -> bool {
    matches!(machine, EM_ARM | EM_AARCH64 | EM_RISCV)
        && symbol.st_type() == sym::STT_NOTYPE
        && symbol.st_bind() == sym::STB_LOCAL
        && symbol.st_size == 0
        && matches!(
            strings.get(symbol.st_name as u64),
            Some([b'$', b'x' | b'd' | b'a' | b't', ..])
        )
}
