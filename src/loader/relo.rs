//! CO-RE: computes the value of each relocation of the object on this kernel.
//!
//! ```text
//! relocation = (kind, local type, access string)
//! local spec = walk the access string through the object's types
//! for each type of the kernel with the same essential name and kind:
//!     target spec = walk the same names through that type, or no match
//!     fixup       = value that (kind, local spec) and (kind, target spec) give
//!     all fixups must agree, else the relocation is ambiguous
//! none matched: existence is 0, size and type id are 0, anything else poison
//! ```
//!
//! This computes a [`Fixup`]; `insn.rs` puts it into an instruction. libbpf's rules
//! define a match (`src/relo_core.c`, and "BPF CO-RE" in
//! `Documentation/bpf/llvm_reloc.rst`): fields match by name, through anonymous structs
//! and unions, whatever other fields there are; integers match at any width; pointers
//! match whatever they point to. `type_matches` is refused: nothing here needs it.

use std::fmt;

use crate::keyed::Map;
use crate::loader::btf::{Btf, BtfError, Kind, Tail, Types};
use crate::loader::lines::RelocationRecord;
use crate::loader::target::{Names, Target};

mod spec;
mod value;

pub use spec::describe;
use spec::{is_flexible, local_member, local_spec, push_element, Accessor, Spec};
use value::{enum_value, field_value};

/// Accessors in one relocation, and depth of anonymous structs: libbpf's limit.
const MAX_STEPS: usize = 64;
/// Anonymous structs searched for one field: a kernel's largest struct has some dozens.
const MAX_ENTERED: u32 = 10_000;
/// How many arrays or pointers deep two types are compared.
const MAX_COMPARE: u32 = 32;

/// What a relocation asks for, numbered as `enum bpf_core_relo_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocationKind {
    ByteOffset,
    ByteSize,
    FieldExists,
    Signed,
    LeftShift,
    RightShift,
    LocalTypeId,
    TargetTypeId,
    TypeExists,
    TypeSize,
    EnumValueExists,
    EnumValue,
}

impl RelocationKind {
    /// The kind with this number, if it is one that is handled.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => RelocationKind::ByteOffset,
            1 => RelocationKind::ByteSize,
            2 => RelocationKind::FieldExists,
            3 => RelocationKind::Signed,
            4 => RelocationKind::LeftShift,
            5 => RelocationKind::RightShift,
            6 => RelocationKind::LocalTypeId,
            7 => RelocationKind::TargetTypeId,
            8 => RelocationKind::TypeExists,
            9 => RelocationKind::TypeSize,
            10 => RelocationKind::EnumValueExists,
            11 => RelocationKind::EnumValue,
            _ => return None,
        })
    }

    fn is_type_based(self) -> bool {
        matches!(
            self,
            RelocationKind::LocalTypeId
                | RelocationKind::TargetTypeId
                | RelocationKind::TypeExists
                | RelocationKind::TypeSize
        )
    }

    fn is_enum_based(self) -> bool {
        matches!(
            self,
            RelocationKind::EnumValueExists | RelocationKind::EnumValue
        )
    }
}

impl fmt::Display for RelocationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RelocationKind::ByteOffset => "byte_off",
            RelocationKind::ByteSize => "byte_sz",
            RelocationKind::FieldExists => "field_exists",
            RelocationKind::Signed => "signed",
            RelocationKind::LeftShift => "lshift_u64",
            RelocationKind::RightShift => "rshift_u64",
            RelocationKind::LocalTypeId => "local_type_id",
            RelocationKind::TargetTypeId => "target_type_id",
            RelocationKind::TypeExists => "type_exists",
            RelocationKind::TypeSize => "type_size",
            RelocationKind::EnumValueExists => "enumval_exists",
            RelocationKind::EnumValue => "enumval_value",
        })
    }
}

/// The value that an instruction has, and the one that it must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixup {
    pub kind: RelocationKind,
    pub local: u64,
    pub target: u64,
    /// The kernel has no such thing: the instruction must not run.
    pub poison: bool,
    /// The instruction must hold `local` now; for bit fields compilers differ.
    pub validate: bool,
    /// Bytes of the field, for loads and stores; zero if it does not matter.
    pub local_size: u32,
    pub target_size: u32,
    /// The sizes differ, and the value may not be cut or widened.
    pub unsafe_resize: bool,
}

/// Why a relocation has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationError {
    Btf(BtfError),
    /// A kind that is not handled, or none at all.
    UnknownKind {
        kind: u32,
    },
    /// The access string does not fit the local type.
    BadAccess {
        type_id: u32,
    },
    /// The local type has no name to look for.
    Anonymous {
        type_id: u32,
    },
    /// Two types of the kernel give different values.
    Ambiguous {
        first: u64,
        second: u64,
    },
    /// No load of at most eight bytes covers the bit field.
    WideBitField {
        bit_offset: u64,
    },
}

impl From<BtfError> for RelocationError {
    fn from(error: BtfError) -> Self {
        RelocationError::Btf(error)
    }
}

impl fmt::Display for RelocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RelocationError::Btf(error) => error.fmt(f),
            RelocationError::UnknownKind { kind } => {
                write!(f, "CO-RE relocations of kind {kind} are not supported")
            }
            RelocationError::BadAccess { type_id } => {
                write!(f, "access string does not fit local type {type_id}")
            }
            RelocationError::Anonymous { type_id } => {
                write!(f, "local type {type_id} has no name to look for")
            }
            RelocationError::Ambiguous { first, second } => {
                write!(f, "ambiguous: the kernel's types give {first} and {second}")
            }
            RelocationError::WideBitField { bit_offset } => {
                write!(f, "bit field at bit {bit_offset} needs more than 8 bytes")
            }
        }
    }
}

impl std::error::Error for RelocationError {}

/// The relocations of one object against one kernel; each is computed once.
#[derive(Debug)]
pub struct Engine<'a> {
    local: &'a Btf,
    target: &'a Target<'a>,
    known: Map<(u32, u32, u32), Fixup>,
}

/// The names that an object's relocations can ask a kernel for.
pub fn wanted_names(local: &Btf) -> Result<Names, BtfError> {
    let mut names = Names::new();
    for (_, found) in local.iter() {
        if matches!(
            found.kind,
            Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag | Kind::TypeTag
        ) {
            continue;
        }
        names.add(local.string(found.name)?);
        for member in found.members() {
            names.add(local.string(member.name)?);
        }
        for enumerator in found.enumerators() {
            names.add(local.string(enumerator.name)?);
        }
    }
    Ok(names)
}

impl<'a> Engine<'a> {
    /// An engine for these two sets of types.
    #[must_use]
    pub fn new(local: &'a Btf, target: &'a Target<'a>) -> Self {
        Engine {
            local,
            target,
            known: Map::default(),
        }
    }

    /// Computes the fix-up of `record`.
    pub fn fixup(&mut self, record: &RelocationRecord) -> Result<Fixup, RelocationError> {
        let key = (record.kind, record.type_id, record.access);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let fixup = self.compute(record)?;
        self.known.insert(key, fixup);
        Ok(fixup)
    }

    fn compute(&self, record: &RelocationRecord) -> Result<Fixup, RelocationError> {
        let kind = RelocationKind::from_number(record.kind)
            .ok_or(RelocationError::UnknownKind { kind: record.kind })?;
        let local = local_spec(self.local, record, kind)?;
        if kind == RelocationKind::LocalTypeId {
            let id = u64::from(record.type_id);
            return Ok(plain(kind, id, id, false));
        }
        let root = self.local.get(record.type_id)?;
        let name = self.local.string(root.name)?;
        if name.is_empty() {
            return Err(RelocationError::Anonymous {
                type_id: record.type_id,
            });
        }
        let mut chosen: Option<(Spec, Fixup)> = None;
        for candidate in self.target.candidates(name, root.kind) {
            let Some(spec) = self.match_spec(kind, &local, candidate)? else {
                continue;
            };
            let fixup = self.evaluate(kind, &local, Some(&spec))?;
            match &chosen {
                None => chosen = Some((spec, fixup)),
                Some((first_spec, first)) => {
                    if first_spec.bit_offset != spec.bit_offset {
                        return Err(RelocationError::Ambiguous {
                            first: first_spec.bit_offset,
                            second: spec.bit_offset,
                        });
                    }
                    if first.target != fixup.target || first.poison != fixup.poison {
                        return Err(RelocationError::Ambiguous {
                            first: first.target,
                            second: fixup.target,
                        });
                    }
                }
            }
        }
        match chosen {
            Some((_, fixup)) => Ok(fixup),
            None => self.evaluate(kind, &local, None),
        }
    }

    /// The same access in a type of the kernel, or none.
    fn match_spec(
        &self,
        kind: RelocationKind,
        local: &Spec,
        candidate: u32,
    ) -> Result<Option<Spec>, RelocationError> {
        let mut spec = Spec {
            root: candidate,
            accessors: Vec::with_capacity(local.accessors.len()),
            bit_offset: 0,
            entered: 0,
        };
        if kind.is_type_based() {
            let matches = self.types_compatible(local.root, candidate, MAX_COMPARE)?;
            return Ok(matches.then_some(spec));
        }
        if kind.is_enum_based() {
            return self.match_enumerator(local, spec);
        }
        let mut at = candidate;
        for (step, accessor) in local.accessors.iter().enumerate() {
            if spec.accessors.len() >= MAX_STEPS {
                return Err(BtfError::TooDeep { id: candidate }.into());
            }
            if accessor.named {
                let Some(next) = self.match_field(accessor, at, &mut spec, 0)? else {
                    return Ok(None);
                };
                at = next;
                continue;
            }
            if step > 0 {
                let (_, array) = self.target.resolve(at)?;
                let Tail::Array { element, count } = array.tail else {
                    return Ok(None);
                };
                if accessor.index >= count
                    && !is_flexible(self.target, spec.accessors.last(), count)?
                {
                    return Ok(None);
                }
                at = element;
            }
            let (resolved, _) = self.target.resolve(at)?;
            at = resolved;
            push_element(self.target, &mut spec, at, accessor.index)?;
        }
        Ok(Some(spec))
    }

    fn match_enumerator(
        &self,
        local: &Spec,
        mut spec: Spec,
    ) -> Result<Option<Spec>, RelocationError> {
        let (local_id, index) = match local.accessors.first() {
            Some(accessor) => (accessor.type_id, accessor.index),
            None => return Ok(None),
        };
        let wanted = self.local.get(local_id)?;
        let wanted = wanted
            .enumerators()
            .get(index as usize)
            .ok_or(RelocationError::BadAccess { type_id: local_id })?;
        let name = self.local.string(wanted.name)?;
        let (type_id, found) = self.target.resolve(spec.root)?;
        let position = found
            .enumerators()
            .iter()
            .position(|enumerator| self.target.is_essential_name(enumerator.name, name));
        let Some(position) = position else {
            return Ok(None);
        };
        spec.accessors.push(Accessor {
            type_id,
            // Enumerators are counted in 16 bits.
            index: position as u32,
            named: true,
        });
        Ok(Some(spec))
    }

    /// Looks for the local accessor's field in the target struct `at`, anonymous members
    /// included; gives the field's type.
    fn match_field(
        &self,
        accessor: &Accessor,
        at: u32,
        spec: &mut Spec,
        depth: usize,
    ) -> Result<Option<u32>, RelocationError> {
        spec.entered += 1;
        if depth >= MAX_STEPS || spec.entered > MAX_ENTERED {
            return Err(BtfError::TooDeep { id: at }.into());
        }
        let (type_id, composite) = self.target.resolve(at)?;
        let local = local_member(self.local, accessor)?;
        let name = self.local.string(local.name)?;
        for (index, member) in (0..).zip(composite.members()) {
            if member.name == 0 {
                let before = spec.bit_offset;
                spec.bit_offset += u64::from(member.bit_offset);
                if let Some(found) = self.match_field(accessor, member.type_id, spec, depth + 1)? {
                    return Ok(Some(found));
                }
                spec.bit_offset = before;
            } else if self.target.is_name(member.name, name) {
                // As in libbpf, a field of this name that does not fit ends the search.
                if !self.fields_compatible(local.type_id, member.type_id)? {
                    return Ok(None);
                }
                spec.bit_offset += u64::from(member.bit_offset);
                spec.accessors.push(Accessor {
                    type_id,
                    index,
                    named: true,
                });
                return Ok(Some(member.type_id));
            }
        }
        Ok(None)
    }

    fn fields_compatible(&self, local: u32, target: u32) -> Result<bool, RelocationError> {
        let (mut local_id, mut target_id) = (local, target);
        for _ in 0..MAX_COMPARE {
            let (_, local) = self.local.resolve(local_id)?;
            let (_, target) = self.target.resolve(target_id)?;
            if local.kind.is_composite() && target.kind.is_composite() {
                return Ok(true);
            }
            if !local.kind.is_compatible(target.kind) {
                return Ok(false);
            }
            match (&local.tail, &target.tail) {
                (
                    Tail::Array { element: ours, .. },
                    Tail::Array {
                        element: theirs, ..
                    },
                ) => {
                    (local_id, target_id) = (*ours, *theirs);
                }
                (Tail::Int { offset: ours, .. }, Tail::Int { offset: theirs, .. }) => {
                    return Ok(*ours == 0 && *theirs == 0);
                }
                _ if local.kind.is_enum() || local.kind == Kind::Fwd => {
                    let name = self.local.string(local.name)?;
                    return Ok(name.is_empty()
                        || target.name == 0
                        || self.target.is_essential_name(target.name, name));
                }
                _ => return Ok(matches!(local.kind, Kind::Ptr | Kind::Float)),
            }
        }
        Err(BtfError::TooDeep { id: target }.into())
    }

    fn types_compatible(
        &self,
        local: u32,
        target: u32,
        depth: u32,
    ) -> Result<bool, RelocationError> {
        let depth = depth
            .checked_sub(1)
            .ok_or(BtfError::TooDeep { id: target })?;
        let (_, ours) = self.local.resolve(local)?;
        let (_, theirs) = self.target.resolve(target)?;
        if !ours.kind.is_compatible(theirs.kind) {
            return Ok(false);
        }
        match (&ours.tail, &theirs.tail) {
            (Tail::Int { offset: a, .. }, Tail::Int { offset: b, .. }) => Ok(*a == 0 && *b == 0),
            (Tail::Array { element: a, .. }, Tail::Array { element: b, .. }) => {
                self.types_compatible(*a, *b, depth)
            }
            (Tail::Parameters(a), Tail::Parameters(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b) {
                    // Only simple prototypes: each level gets an eighth of the remaining depth.
                    if !self.types_compatible(*a, *b, depth / 8)? {
                        return Ok(false);
                    }
                }
                self.types_compatible(ours.size_or_type, theirs.size_or_type, depth)
            }
            _ if ours.kind == Kind::Ptr => {
                self.types_compatible(ours.size_or_type, theirs.size_or_type, depth)
            }
            _ => Ok(matches!(
                ours.kind,
                Kind::Void
                    | Kind::Struct
                    | Kind::Union
                    | Kind::Enum
                    | Kind::Enum64
                    | Kind::Fwd
                    | Kind::Float
            )),
        }
    }

    fn evaluate(
        &self,
        kind: RelocationKind,
        local: &Spec,
        target: Option<&Spec>,
    ) -> Result<Fixup, RelocationError> {
        if kind.is_enum_based() {
            return self.evaluate_enum(kind, local, target);
        }
        if kind.is_type_based() {
            let value = |types: &dyn SizeOf, spec: &Spec| match kind {
                RelocationKind::TargetTypeId => Ok(u64::from(spec.root)),
                RelocationKind::TypeSize => types.bytes(spec.root).map(u64::from),
                _ => Ok(1),
            };
            let ours = value(self.local, local)?;
            let theirs = target.map_or(Ok(0), |target| value(self.target, target))?;
            let validate = kind != RelocationKind::TargetTypeId;
            return Ok(plain(kind, ours, theirs, validate));
        }
        if kind == RelocationKind::FieldExists {
            return Ok(plain(kind, 1, u64::from(target.is_some()), true));
        }
        let ours = field_value(self.local, kind, local)?;
        let Some(target) = target else {
            return Ok(poisoned(kind, ours.value));
        };
        let theirs = field_value(self.target, kind, target)?;
        let mut fixup = plain(kind, ours.value, theirs.value, ours.validate);
        fixup.local_size = ours.size;
        fixup.target_size = theirs.size;
        fixup.unsafe_resize = ours.size != theirs.size && !(ours.resizable && theirs.resizable);
        Ok(fixup)
    }

    fn evaluate_enum(
        &self,
        kind: RelocationKind,
        local: &Spec,
        target: Option<&Spec>,
    ) -> Result<Fixup, RelocationError> {
        if kind == RelocationKind::EnumValueExists {
            return Ok(plain(kind, 1, u64::from(target.is_some()), true));
        }
        let ours = enum_value(self.local, local)?;
        match target {
            Some(target) => Ok(plain(kind, ours, enum_value(self.target, target)?, true)),
            None => Ok(poisoned(kind, ours)),
        }
    }

    /// The relocation in libbpf's words: `<byte_off> [12] struct sample.a[3].b`.
    #[must_use]
    pub fn describe(&self, record: &RelocationRecord) -> String {
        describe(self.local, record)
    }
}

/// Sizes of either set of types, for a closure that must take both.
trait SizeOf {
    fn bytes(&self, id: u32) -> Result<u32, BtfError>;
}

impl<T: Types> SizeOf for T {
    fn bytes(&self, id: u32) -> Result<u32, BtfError> {
        self.size_of(id)
    }
}

fn plain(kind: RelocationKind, local: u64, target: u64, validate: bool) -> Fixup {
    Fixup {
        kind,
        local,
        target,
        poison: false,
        validate,
        local_size: 0,
        target_size: 0,
        unsafe_resize: false,
    }
}

fn poisoned(kind: RelocationKind, local: u64) -> Fixup {
    Fixup {
        poison: true,
        ..plain(kind, local, 0, false)
    }
}
