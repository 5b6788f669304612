//! From an object's functions to one program: what a linker would do.
//!
//! The kernel takes a program as one array of instructions with the entry first.
//! So each function that the entry reaches, by a call or by taking its address
//! for `bpf_loop`, is appended once, and every reference becomes a distance:
//!
//! ```text
//! call f            imm = start(f) - (here + 1)        src_reg = BPF_PSEUDO_CALL
//! rX = &f           imm = start(f) - (here + 1)        src_reg = BPF_PSEUDO_FUNC
//! rX = &map         imm = descriptor                   src_reg = BPF_PSEUDO_MAP_FD
//! rX = &variable    imm = descriptor, next imm = place src_reg = BPF_PSEUDO_MAP_VALUE
//! ```
//!
//! Descriptors exist only once the maps do; until then the references are a list.
//! Records about functions, lines and CO-RE relocations are rebased the same way.
//! The kernel's side is `add_subprog_and_kfunc` and `resolve_pseudo_ldimm64` in
//! `kernel/bpf/verifier.c`.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::base::error::Error;
use crate::loader::insn::{self, InsnError, Instruction};
use crate::loader::lines::{RelocationRecord, Table};
use crate::loader::object::{map_at, Location, Object, Program, ReferenceKind, Relocation};

/// Functions in one program: the kernel's limit.
const MAX_PIECES: usize = 256;
/// Instructions in one program: the kernel's limit.
const MAX_INSTRUCTIONS: usize = 1_000_000;

/// Why functions could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// A reference leads to no function and no map.
    Dangling {
        from: Location,
        to: Location,
    },
    /// More functions or instructions than the kernel takes.
    TooLarge {
        what: &'static str,
        count: usize,
    },
    Insn(InsnError),
}

impl From<InsnError> for LinkError {
    fn from(error: InsnError) -> Self {
        LinkError::Insn(error)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LinkError::Dangling { from, to } => write!(
                f,
                "section {} at {:#x} refers to section {} at {:#x}, where nothing is",
                from.section, from.offset, to.section, to.offset
            ),
            LinkError::TooLarge { what, count } => write!(f, "{count} {what} in one program"),
            LinkError::Insn(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        Error::failed(error.to_string())
    }
}

/// A function's place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index into [`Object::functions`].
    pub function: usize,
    /// Its first instruction in the program.
    pub start: usize,
}

/// A load that is to yield a map or a place in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapReference {
    pub instruction: usize,
    /// Index into [`Object::maps`].
    pub map: usize,
    /// The offset in the value, for global data.
    pub place: Option<u32>,
}

/// A program joined from its functions.
#[derive(Clone, Debug)]
pub struct Joined {
    pub instructions: Vec<Instruction>,
    pub pieces: Vec<Piece>,
    pub maps: Vec<MapReference>,
}

/// A reference from one function to another, to be made a distance.
struct FunctionReference {
    instruction: usize,
    piece: usize,
    is_call: bool,
}

struct Joiner<'a> {
    object: &'a Object,
    joined: Joined,
    references: Vec<FunctionReference>,
}

/// Joins a program with everything that it reaches.
pub fn join(object: &Object, program: &Program) -> Result<Joined, LinkError> {
    let mut joiner = Joiner {
        object,
        joined: Joined {
            instructions: Vec::new(),
            pieces: Vec::new(),
            maps: Vec::new(),
        },
        references: Vec::new(),
    };
    joiner.append(program.function)?;
    let mut next = 0;
    while let Some(piece) = joiner.joined.pieces.get(next).copied() {
        joiner.visit(piece)?;
        next += 1;
    }
    joiner.finish()
}

impl Joiner<'_> {
    /// The piece that is this function, appended if it is new.
    fn append(&mut self, function: usize) -> Result<usize, LinkError> {
        let pieces = &mut self.joined.pieces;
        if let Some(known) = pieces.iter().position(|piece| piece.function == function) {
            return Ok(known);
        }
        let start = self.joined.instructions.len();
        let body = &self.object.functions[function].instructions;
        if pieces.len() >= MAX_PIECES {
            return Err(LinkError::TooLarge {
                what: "functions",
                count: pieces.len() + 1,
            });
        }
        if start + body.len() > MAX_INSTRUCTIONS {
            return Err(LinkError::TooLarge {
                what: "instructions",
                count: start + body.len(),
            });
        }
        pieces.push(Piece { function, start });
        self.joined.instructions.extend_from_slice(body);
        Ok(pieces.len() - 1)
    }

    fn visit(&mut self, piece: Piece) -> Result<(), LinkError> {
        let object = self.object;
        let function = &object.functions[piece.function];
        for (index, insn) in function.instructions.iter().enumerate() {
            let from = Location {
                section: function.location.section,
                offset: function.location.offset + (index * insn::SIZE) as u64,
            };
            let relocation = relocation_at(object, from);
            let instruction = piece.start + index;
            match relocation {
                _ if insn.is_local_call() => {
                    self.call(instruction, from, insn.immediate, relocation)?;
                }
                Some(relocation) if relocation.kind == ReferenceKind::Load => {
                    self.load(instruction, from, insn.immediate, relocation.target)?;
                }
                Some(relocation) => {
                    return Err(LinkError::Dangling {
                        from,
                        to: relocation.target,
                    })
                }
                None => {}
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        instruction: usize,
        from: Location,
        immediate: i32,
        relocation: Option<&Relocation>,
    ) -> Result<(), LinkError> {
        // The immediate counts instructions from the one after the call, or, with a relocation,
        // from one before the symbol.
        let base = match relocation {
            Some(relocation) => relocation.target,
            None => from,
        };
        let slots = i64::from(immediate) + 1;
        let to = displaced(base, slots * insn::SIZE as i64);
        self.refer(instruction, from, to, true)
    }

    fn load(
        &mut self,
        instruction: usize,
        from: Location,
        immediate: i32,
        target: Location,
    ) -> Result<(), LinkError> {
        let to = displaced(target, i64::from(immediate));
        let is_code = |location: Location| {
            let section = self.object.sections.get(location.section as usize);
            section.is_some_and(|section| section.is_code)
        };
        if is_code(target) {
            return self.refer(instruction, from, to, false);
        }
        // A place one past the end of the data still belongs to it.
        let map = map_at(&self.object.maps, to).or_else(|| map_at(&self.object.maps, target));
        let map = map.ok_or(LinkError::Dangling { from, to })?;
        let found = &self.object.maps[map];
        let place = to.offset.wrapping_sub(found.location.offset);
        let place = match u32::try_from(place) {
            Ok(place) if found.is_data() => Some(place),
            Ok(0) => None,
            _ => return Err(LinkError::Dangling { from, to }),
        };
        self.joined.maps.push(MapReference {
            instruction,
            map,
            place,
        });
        Ok(())
    }

    fn refer(
        &mut self,
        instruction: usize,
        from: Location,
        to: Location,
        is_call: bool,
    ) -> Result<(), LinkError> {
        let function = self
            .object
            .function_at(to)
            .ok_or(LinkError::Dangling { from, to })?;
        let piece = self.append(function)?;
        self.references.push(FunctionReference {
            instruction,
            piece,
            is_call,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Joined, LinkError> {
        for reference in &self.references {
            let start = self.joined.pieces[reference.piece].start;
            // Programs have at most a million instructions, so distances fit.
            let distance = start as i64 - (reference.instruction as i64 + 1);
            let distance = distance as i32;
            let instructions = &mut self.joined.instructions;
            if reference.is_call {
                instructions[reference.instruction].immediate = distance;
            } else {
                insn::set_pseudo(
                    instructions,
                    reference.instruction,
                    insn::PSEUDO_FUNC,
                    distance.cast_unsigned(),
                    0,
                )?;
            }
        }
        Ok(self.joined)
    }
}

fn displaced(base: Location, bytes: i64) -> Location {
    Location {
        section: base.section,
        // An offset that wraps is found nowhere.
        offset: base.offset.wrapping_add_signed(bytes),
    }
}

fn relocation_at(object: &Object, place: Location) -> Option<&Relocation> {
    let list = object.relocations.get(place.section as usize)?;
    let found = list.binary_search_by_key(&place.offset, |relocation| relocation.offset);
    list.get(found.ok()?)
}

/// The records of `table` that belong to this program, each with the instruction in it.
fn rebased<'a>(object: &'a Object, joined: &Joined, table: &'a Table) -> Vec<(usize, &'a [u8])> {
    let mut records = Vec::new();
    for piece in &joined.pieces {
        let function = &object.functions[piece.function];
        let section = &object.sections[function.location.section as usize].name;
        let accepted = |name| {
            object
                .btf
                .string(name)
                .is_ok_and(|name| name == section.as_bytes())
        };
        for (offset, record) in table.records(accepted) {
            let within = u64::from(offset).checked_sub(function.location.offset);
            let index = within.map(|within| within / insn::SIZE as u64);
            let index = index.and_then(|index| usize::try_from(index).ok());
            if let Some(index) = index.filter(|index| *index < function.instructions.len()) {
                records.push((piece.start + index, record));
            }
        }
    }
    records
}

/// Function or line records as the kernel wants them: for this program, in instructions.
/// `origins` are the instructions that were kept of it, in their order.
#[must_use]
pub fn info(object: &Object, joined: &Joined, table: &Table, origins: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (instruction, record) in rebased(object, joined, table) {
        let Ok(place) = origins.binary_search(&instruction) else {
            continue;
        };
        // At most a million.
        bytes.extend_from_slice(&(place as u32).to_le_bytes());
        bytes.extend_from_slice(record.get(4..).unwrap_or_default());
    }
    bytes
}

/// The CO-RE relocations of this program, each with its instruction.
#[must_use]
pub fn relocations(object: &Object, joined: &Joined) -> Vec<(usize, RelocationRecord)> {
    rebased(object, joined, &object.extension.relocations)
        .into_iter()
        // Records are at least as long as one needs to be.
        .filter_map(|(index, record)| Some((index, RelocationRecord::parse(record).ok()?)))
        .collect()
}

/// Puts descriptors into the loads of maps. `origins` are the instructions of the joined
/// program that `written` was made of; `references` are in the order of that one.
pub fn put_maps(
    written: &mut [Instruction],
    origins: &[usize],
    references: &[MapReference],
    maps: &[Option<OwnedFd>],
) -> crate::base::error::Result<()> {
    for (place, origin) in origins.iter().enumerate() {
        // Where poison has taken the place of the load there is nothing to put.
        if !written[place].is_wide_load() {
            continue;
        }
        let found = references.binary_search_by_key(origin, |reference| reference.instruction);
        let Ok(found) = found else {
            continue;
        };
        let reference = &references[found];
        let fd = maps
            .get(reference.map)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::failed("a map that was not created"))?;
        let (source, offset) = match reference.place {
            Some(offset) => (insn::PSEUDO_MAP_VALUE, offset),
            None => (insn::PSEUDO_MAP_FD, 0),
        };
        let fd = fd.as_raw_fd().cast_unsigned();
        insn::set_pseudo(written, place, source, fd, offset)
            .map_err(|error| Error::failed(error.to_string()))?;
    }
    Ok(())
}
