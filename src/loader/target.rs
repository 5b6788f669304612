//! The kernel's BTF, read in windows and never held whole.
//!
//! A kernel's BTF has five million bytes and a program asks for a few dozen of
//! its types. So the caller first says which names matter ([`Names`], made from
//! the object's own types), and then each section is read once, front to back:
//!
//! ```text
//! strings:  at which offset is each wanted name?   offset -> name
//! types:    which types have a wanted name?        name -> candidates
//!           where does every 32nd type begin?      the index for get()
//! ```
//!
//! From then on a type is found by a small read at its place, and two names are
//! compared as numbers. A name is found only if it is between two NULs in the string
//! section, which is how the kernel's build writes it. A name that is only the tail of
//! another string is not found.
//!
//! The bytes come through [`TypeSource`]: a file, a descriptor, or a test's
//! vector. Hostile bytes cost time in proportion to their length and no more.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::base::bytes::{each_nul, find, Cursor, ShortRead};
use crate::keyed::Map;
use crate::loader::btf::{
    essential_name, BtfError, Head, Header, Kind, Type, Types, HEADER_LEN, HEAD_LEN, MAX_TYPES,
};
use crate::loader::parallel;

/// Where BTF bytes come from.
pub trait TypeSource: Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Reads some bytes at `offset`; zero at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize>;

    /// True when there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TypeSource for [u8] {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl TypeSource for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }
}

/// Larger than any kernel's BTF by far.
const MAX_SOURCE: u64 = 256 << 20;
const SCAN_WINDOW: usize = 64 << 10;
const LOOKUP_WINDOW: usize = 4 << 10;
/// The index keeps the place of one type in so many.
const INDEX_STEP: usize = 32;
/// Decoded types that are kept; more than a program's relocations touch.
const CACHE_TYPES: usize = 512;
/// Candidates are types of the same essential name: a kernel has one or a few.
const MAX_CANDIDATES: usize = 4096;

/// A stretch of the source in memory.
#[derive(Debug)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
}

impl Window {
    fn new(size: usize) -> Self {
        Window {
            bytes: vec![0; size],
            start: 0,
            filled: 0,
        }
    }

    /// The bytes of the window from `offset`, at least `wanted` unless the source ends.
    fn at(
        &mut self,
        source: &dyn TypeSource,
        offset: u64,
        wanted: usize,
    ) -> Result<&[u8], BtfError> {
        let within = offset
            .checked_sub(self.start)
            .and_then(|within| usize::try_from(within).ok())
            .filter(|within| {
                within
                    .checked_add(wanted)
                    .is_some_and(|end| end <= self.filled)
            });
        if let Some(within) = within {
            return Ok(&self.bytes[within..self.filled]);
        }
        if wanted > self.bytes.len() {
            self.bytes.resize(wanted, 0);
        }
        self.start = offset;
        self.filled = 0;
        while self.filled < self.bytes.len() {
            // sysfs hands out a page at a time.
            let place = offset + self.filled as u64;
            match source.read_at(place, &mut self.bytes[self.filled..]) {
                Ok(0) => break,
                Ok(read) => self.filled += read.min(self.bytes.len() - self.filled),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(BtfError::Unreadable {
                        offset: place,
                        errno: error.raw_os_error().unwrap_or(0),
                    })
                }
            }
        }
        Ok(&self.bytes[..self.filled])
    }
}

/// A wanted name, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(u32);

/// The names that matter, each with a number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: Map<Vec<u8>, NameId>,
    /// One bit for each pair of length and last byte that some wanted name has.
    shapes: Vec<u64>,
}

impl Names {
    /// No names yet.
    #[must_use]
    pub fn new() -> Self {
        Names {
            numbers: Map::default(),
            shapes: vec![0; 256],
        }
    }

    /// Adds a name and its essential part.
    pub fn add(&mut self, name: &[u8]) {
        for name in [name, essential_name(name)] {
            if name.is_empty() || self.numbers.contains_key(name) {
                continue;
            }
            // There are fewer names than bytes in an object.
            let number = NameId(self.numbers.len() as u32);
            self.numbers.insert(name.to_vec(), number);
            let (word, bit) = Self::shape(name);
            self.shapes[word] |= bit;
        }
    }

    /// The number of a name, if it was added.
    #[must_use]
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<NameId> {
        let (word, bit) = Self::shape(name);
        if self.shapes[word] & bit == 0 {
            return None;
        }
        self.numbers.get(name).copied()
    }

    #[inline]
    fn shape(name: &[u8]) -> (usize, u64) {
        // Length, first and last byte mixed into 14 bits: most of the kernel's names end here.
        let first = usize::from(name.first().copied().unwrap_or(0));
        let last = usize::from(name.last().copied().unwrap_or(0));
        let mixed =
            name.len().wrapping_mul(0x9e5) ^ first.wrapping_mul(0x11b) ^ last.wrapping_mul(0x47);
        (mixed >> 6 & 0xff, 1 << (mixed & 63))
    }
}

/// How a string of the target relates to the wanted names.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    exact: Option<NameId>,
    essential: Option<NameId>,
}

/// Strings of the target that matter, by their offset.
#[derive(Debug)]
struct Places {
    by_offset: Map<u32, Place>,
    /// One bit for each residue that some offset has: most offsets are rejected here.
    residues: Vec<u64>,
}

impl Places {
    fn new() -> Self {
        Places {
            by_offset: Map::default(),
            residues: vec![0; 1024],
        }
    }

    #[inline]
    fn residue(offset: u32) -> (usize, u64) {
        ((offset >> 6 & 0x3ff) as usize, 1 << (offset & 63))
    }

    fn insert(&mut self, offset: u32, place: Place) {
        let (word, bit) = Self::residue(offset);
        self.residues[word] |= bit;
        self.by_offset.insert(offset, place);
    }

    #[inline]
    fn get(&self, offset: u32) -> Place {
        let (word, bit) = Self::residue(offset);
        if self.residues[word] & bit == 0 {
            return Place::default();
        }
        self.by_offset.get(&offset).copied().unwrap_or_default()
    }
}

/// The kernel's types, as far as the wanted names go.
pub struct Target<'a> {
    source: &'a dyn TypeSource,
    header: Header,
    names: Names,
    places: Places,
    candidates: Map<NameId, Vec<(u32, Kind)>>,
    index: Vec<u32>,
    count: u32,
    lookups: RefCell<Lookups>,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("header", &self.header)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Lookups {
    window: Window,
    cache: Map<u32, Arc<Type>>,
}

/// The strings of a source.
struct Strings<'a> {
    source: &'a dyn TypeSource,
    header: Header,
    names: &'a Names,
}

impl Strings<'_> {
    /// The beginning of a string, at an offset or shortly after it.
    fn begin_of_one(&self, window: &mut Window, offset: u32) -> Result<u32, BtfError> {
        let place = u64::from(self.header.strings_offset) + u64::from(offset);
        let nul = window
            .at(self.source, place, SCAN_WINDOW)?
            .iter()
            .position(|byte| *byte == 0);
        let len = self.header.strings_len;
        Ok(nul.map_or(len, |nul| len.min(offset + nul as u32 + 1)))
    }

    /// The wanted types among those that begin in a range.
    fn scan(&self, window: &mut Window, range: Range<u32>) -> Result<Vec<(u32, Place)>, BtfError> {
        let mut found = Vec::new();
        let mut done = range.start;
        while done < range.end {
            let place = u64::from(self.header.strings_offset) + u64::from(done);
            let bytes = window.at(self.source, place, SCAN_WINDOW)?;
            let left = (range.end - done) as usize;
            let bytes = &bytes[..bytes.len().min(left)];
            if bytes.is_empty() {
                return Err(BtfError::Short(ShortRead {
                    offset: done as usize,
                    wanted: left,
                    left: 0,
                }));
            }
            // Only whole strings: one that is cut off at the end comes first in the next window. A
            // string longer than a window is not a name.
            let whole = bytes.iter().rposition(|byte| *byte == 0);
            let whole = whole.map_or(&[][..], |last| &bytes[..=last]);
            let mut flavour = next_flavour(whole, 0);
            let mut at = 0;
            each_nul(whole, |end| {
                let name = &whole[at..end];
                // Windows are small and the section's offsets have 32 bits.
                let offset = done + at as u32;
                at = end + 1;
                let exact = self.names.get(name);
                let essential = if flavour < at {
                    flavour = next_flavour(whole, at);
                    self.names.get(essential_name(name))
                } else {
                    exact
                };
                if exact.is_some() || essential.is_some() {
                    found.push((offset, Place { exact, essential }));
                }
                match found.len() > self.names.numbers.len() + MAX_CANDIDATES {
                    true => Err(BtfError::TooMany {
                        what: "copies of wanted names",
                        count: found.len() as u64,
                    }),
                    false => Ok(()),
                }
            })?;
            done += match whole.len() {
                0 => bytes.len(),
                whole => whole,
            } as u32;
        }
        Ok(found)
    }
}

impl<'a> Target<'a> {
    /// Reads the source once for where the wanted names are.
    pub fn scan(source: &'a dyn TypeSource, names: Names) -> Result<Self, BtfError> {
        let total = source.len();
        if total > MAX_SOURCE {
            return Err(BtfError::TooMany {
                what: "bytes",
                count: total,
            });
        }
        let mut window = Window::new(SCAN_WINDOW);
        let start = window.at(source, 0, HEADER_LEN)?;
        let header = Header::parse(start, total)?;
        let mut target = Target {
            source,
            header,
            names,
            places: Places::new(),
            candidates: Map::default(),
            index: Vec::new(),
            count: 1,
            lookups: RefCell::new(Lookups {
                window: Window::new(LOOKUP_WINDOW),
                cache: Map::default(),
            }),
        };
        target.scan_strings(&mut window)?;
        target.scan_types(&mut window)?;
        Ok(target)
    }

    /// In two halves, each on a CPU of its own if there are two.
    fn scan_strings(&mut self, window: &mut Window) -> Result<(), BtfError> {
        let strings = Strings {
            source: self.source,
            header: self.header,
            names: &self.names,
        };
        let middle = strings.begin_of_one(window, self.header.strings_len / 2)?;
        let (first, second) = parallel::both(
            || strings.scan(window, 0..middle),
            || {
                strings.scan(
                    &mut Window::new(SCAN_WINDOW),
                    middle..self.header.strings_len,
                )
            },
        );
        for (offset, place) in first?.into_iter().chain(second?) {
            self.places.insert(offset, place);
        }
        Ok(())
    }
    fn scan_types(&mut self, window: &mut Window) -> Result<(), BtfError> {
        let start = u64::from(self.header.types_offset);
        let mut at = 0u32;
        while at < self.header.types_len {
            let mut bytes = window.at(self.source, start + u64::from(at), HEAD_LEN)?;
            let left = (self.header.types_len - at) as usize;
            bytes = &bytes[..bytes.len().min(left)];
            // As many types as the window holds heads of.
            let mut within = 0;
            while let Some(head) = bytes.get(within..).and_then(<[u8]>::first_chunk) {
                let id = self.count;
                if id >= MAX_TYPES {
                    return Err(BtfError::TooMany {
                        what: "types",
                        count: u64::from(id),
                    });
                }
                if (id as usize).is_multiple_of(INDEX_STEP) || id == 1 {
                    self.index.push(at);
                }
                let head = Head::from_bytes(head, id)?;
                self.note_type(id, &head)?;
                self.count += 1;
                at = at.saturating_add(head.type_len());
                within += head.type_len() as usize;
            }
            if within == 0 {
                return Err(BtfError::Short(ShortRead {
                    offset: at as usize,
                    wanted: HEAD_LEN,
                    left: bytes.len(),
                }));
            }
        }
        Ok(())
    }

    #[inline]
    fn note_type(&mut self, id: u32, head: &Head) -> Result<(), BtfError> {
        // Only these kinds can begin a relocation.
        if !matches!(
            head.kind,
            Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Typedef
                | Kind::Int
                | Kind::Fwd
                | Kind::Float
        ) {
            return Ok(());
        }
        let Some(name) = self.places.get(head.name).essential else {
            return Ok(());
        };
        let list = self.candidates.entry(name).or_default();
        if list.len() >= MAX_CANDIDATES {
            return Err(BtfError::TooMany {
                what: "types of one name",
                count: list.len() as u64,
            });
        }
        list.push((id, head.kind));
        Ok(())
    }

    /// Types whose essential name is that of `name`, and whose kind can stand for `kind`.
    pub fn candidates(&self, name: &[u8], kind: Kind) -> impl Iterator<Item = u32> + '_ {
        self.names
            .get(essential_name(name))
            .and_then(|name| self.candidates.get(&name))
            .into_iter()
            .flatten()
            .filter(move |(_, found)| kind.is_compatible(*found))
            .map(|(id, _)| *id)
    }

    /// Whether the target's string at `offset` is exactly `name`, which must be a wanted one.
    #[must_use]
    pub fn is_name(&self, offset: u32, name: &[u8]) -> bool {
        let found = self.places.get(offset).exact;
        found.is_some() && found == self.names.get(name)
    }

    /// The same without the flavours of either.
    #[must_use]
    pub fn is_essential_name(&self, offset: u32, name: &[u8]) -> bool {
        let found = self.places.get(offset).essential;
        found.is_some() && found == self.names.get(essential_name(name))
    }

    fn read(&self, id: u32, window: &mut Window) -> Result<Type, BtfError> {
        let slot = id as usize / INDEX_STEP;
        let mut at = *self.index.get(slot).ok_or(BtfError::NoType { id })?;
        let mut here = (slot * INDEX_STEP).max(1) as u32;
        let start = u64::from(self.header.types_offset);
        loop {
            let bytes = window.at(self.source, start + u64::from(at), HEAD_LEN)?;
            let head = Head::parse(&mut Cursor::new(bytes), here)?;
            let len = head.type_len();
            if here == id {
                let bytes = window.at(self.source, start + u64::from(at), len as usize)?;
                return Type::parse(&mut Cursor::new(bytes), id);
            }
            at = at.saturating_add(len);
            here += 1;
        }
    }
}

/// Where the next three underscores are: few names have a flavour, and only they are looked at.
fn next_flavour(strings: &[u8], from: usize) -> usize {
    let rest = strings.get(from..).unwrap_or_default();
    find(rest, b"___").map_or(usize::MAX, |found| from + found)
}

impl Types for Target<'_> {
    fn get(&self, id: u32) -> Result<Arc<Type>, BtfError> {
        if id == 0 {
            return Ok(Arc::new(Type::void()));
        }
        if id >= self.count {
            return Err(BtfError::NoType { id });
        }
        let mut lookups = self.lookups.borrow_mut();
        if let Some(found) = lookups.cache.get(&id) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(self.read(id, &mut lookups.window)?);
        if lookups.cache.len() >= CACHE_TYPES {
            lookups.cache.clear();
        }
        lookups.cache.insert(id, Arc::clone(&found));
        Ok(found)
    }
}
