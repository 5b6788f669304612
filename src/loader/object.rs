//! An object for BPF, taken apart: plain data.
//!
//! Programs and functions with their instructions, maps, the bytes behind global data,
//! relocations and type information. `parse.rs` makes it from a file's bytes, `maps.rs`
//! describes the maps, `link.rs` joins functions into programs. Nothing here depends on the
//! running kernel.

use std::ffi::CString;

use crate::loader::btf::Btf;
use crate::loader::insn::Instruction;
use crate::loader::lines::Extension;

mod error;

pub use error::ObjectError;

/// `BPF_MAP_TYPE_ARRAY`.
pub const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_PROG_ARRAY`.
pub const PROG_ARRAY: u32 = 3;
/// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.
pub const PERF_EVENT_ARRAY: u32 = 4;
/// `BPF_F_RDONLY_PROG`: programs only read the map.
pub const READ_ONLY_TO_PROGRAMS: u32 = 1 << 7;
/// `BPF_F_MMAPABLE` (5.5): user space can map the values.
pub const MAPPABLE: u32 = 1 << 10;

/// The initial content of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Empty,
    /// The bytes of a data section; the map is frozen if they are constants.
    Data {
        bytes: Vec<u8>,
        constant: bool,
    },
    /// Programs of the object, by name, and the slots that they belong in.
    Programs(Vec<(u32, String)>),
}

/// A variable in global data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub offset: u32,
    pub size: u32,
}

/// A map to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// `segfault_rodata` for `.rodata`, the variable's name otherwise.
    pub name: String,
    pub location: Location,
    /// Bytes that it takes in its section: a reference into them is a reference to this map.
    pub extent: u64,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub content: Content,
    /// For global data, its variables.
    pub variables: Vec<Variable>,
}

impl Map {
    /// Whether references to it are places in its value rather than the map itself.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.content, Content::Data { .. })
    }

    fn contains(&self, location: Location) -> bool {
        self.location.section == location.section
            && location
                .offset
                .checked_sub(self.location.offset)
                .is_some_and(|within| within < self.extent)
    }
}

/// The map that lies at this place of the object.
#[must_use]
pub fn map_at(maps: &[Map], location: Location) -> Option<usize> {
    maps.iter().position(|map| map.contains(location))
}

/// A place in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub section: u32,
    pub offset: u64,
}

/// A section with a name.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    /// Empty for sections without bytes in the file.
    pub bytes: Vec<u8>,
    pub size: u64,
    pub is_code: bool,
}

/// A defined symbol.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: String,
    pub location: Location,
    pub size: u64,
    pub is_function: bool,
    pub is_global: bool,
}

/// What a relocation in code or in `.maps` refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Where the reference is, in bytes from the section's start.
    pub offset: u64,
    pub kind: ReferenceKind,
    /// The target, without the offset that the instruction itself adds.
    pub target: Location,
}

/// The kind of reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    Load,
    Call,
    Data,
}

/// A function: a program that can be attached, or something that programs call.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub location: Location,
    pub instructions: Vec<Instruction>,
}

/// A function that the kernel can run: its section says how.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    /// The section's name, as `raw_tp/signal_deliver`.
    pub section: String,
    /// Index into [`Object::functions`].
    pub function: usize,
}

/// An object taken apart.
#[derive(Clone, Debug)]
pub struct Object {
    pub programs: Vec<Program>,
    pub functions: Vec<Function>,
    pub maps: Vec<Map>,
    pub license: CString,
    /// By section number; section 0 is empty.
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
    /// By number of the section that they apply to.
    pub relocations: Vec<Vec<Relocation>>,
    pub btf: Btf,
    pub extension: Extension,
}

impl Object {
    /// The program of this name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The function that begins at this place.
    #[must_use]
    pub fn function_at(&self, location: Location) -> Option<usize> {
        self.functions
            .iter()
            .position(|function| function.location == location)
    }

    /// The global symbol of this name.
    #[must_use]
    pub fn global(&self, name: &str) -> Option<&Symbol> {
        self.symbols
            .iter()
            .find(|symbol| symbol.is_global && symbol.name == name)
    }

    /// The number of the section with this name.
    #[must_use]
    pub fn section_number(&self, name: &str) -> Option<u32> {
        let position = self.sections.iter().position(|found| found.name == name)?;
        u32::try_from(position).ok()
    }
}
