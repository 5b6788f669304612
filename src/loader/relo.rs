//! CO-RE: what a relocation of the object comes to on this kernel.
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
//! Computing a [`Fixup`] is separate from putting it into an instruction, which
//! is `insn.rs`. What counts as a match is libbpf's rule
//! (`src/relo_core.c`, and "BPF CO-RE" in `Documentation/bpf/llvm_reloc.rst`):
//! fields by name, through anonymous structs and unions, whatever else stands
//! around them; integers of any width; pointers to anything. `type_matches` is
//! refused: nothing here needs it.

use std::collections::HashMap;
use std::fmt;

use crate::loader::btf::{Btf, BtfError, Kind, Member, Tail, Type, Types};
use crate::loader::lines::RelocationRecord;
use crate::loader::target::{Names, Target};

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

/// The value that an instruction holds, and the one that it is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixup {
    pub kind: RelocationKind,
    pub local: u64,
    pub target: u64,
    /// The kernel has no such thing: the instruction must not run.
    pub poison: bool,
    /// The instruction must hold `local` now; for bit fields compilers differ.
    pub validate: bool,
    /// Bytes of the field, for loads and stores; zero where it does not matter.
    pub local_size: u32,
    pub target_size: u32,
    /// The sizes differ and the value is none that may be cut or widened.
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

/// One step of an access: a named field, or an element of an array.
#[derive(Clone, Copy, Debug)]
struct Accessor {
    /// The struct that has the field, or the element's type.
    type_id: u32,
    index: u32,
    named: bool,
}

/// Where an access leads in one set of types.
#[derive(Clone, Debug)]
struct Spec {
    root: u32,
    accessors: Vec<Accessor>,
    bit_offset: u64,
    /// Structs entered on the way. Anonymous members that share a type would otherwise let a
    /// small BTF ask for exponential work.
    entered: u32,
}

/// The relocations of one object against one kernel; each is computed once.
#[derive(Debug)]
pub struct Engine<'a> {
    local: &'a Btf,
    target: &'a Target<'a>,
    known: HashMap<(u32, u32, u32), Fixup>,
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
            known: HashMap::new(),
        }
    }

    /// What `record` comes to.
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
                    // Only simple prototypes: each level is an eighth of what is left.
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

fn parse_access(text: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(text).ok()?;
    let steps: Option<Vec<u32>> = text.split(':').map(|step| step.parse().ok()).collect();
    steps.filter(|steps| steps.len() <= MAX_STEPS)
}

fn local_spec(
    local: &Btf,
    record: &RelocationRecord,
    kind: RelocationKind,
) -> Result<Spec, RelocationError> {
    let bad = RelocationError::BadAccess {
        type_id: record.type_id,
    };
    let steps = parse_access(local.string(record.access)?).ok_or(bad)?;
    let mut spec = Spec {
        root: record.type_id,
        accessors: Vec::with_capacity(steps.len()),
        bit_offset: 0,
        entered: 0,
    };
    if kind.is_type_based() {
        return if steps == [0] { Ok(spec) } else { Err(bad) };
    }
    let (&first, rest) = steps.split_first().ok_or(bad)?;
    let (mut at, root) = local.resolve(record.type_id)?;
    if kind.is_enum_based() {
        if !rest.is_empty() || first as usize >= root.enumerators().len() {
            return Err(bad);
        }
        spec.accessors.push(Accessor {
            type_id: at,
            index: first,
            named: true,
        });
        return Ok(spec);
    }
    push_element(local, &mut spec, at, first)?;
    for &index in rest {
        let (here, found) = local.resolve(at)?;
        if let Tail::Array { element, count } = found.tail {
            if index >= count && !is_flexible(local, spec.accessors.last(), count)? {
                return Err(bad);
            }
            (at, _) = local.resolve(element)?;
            push_element(local, &mut spec, at, index)?;
            continue;
        }
        let member = found.members().get(index as usize).ok_or(bad)?;
        spec.bit_offset += u64::from(member.bit_offset);
        if member.name != 0 {
            spec.accessors.push(Accessor {
                type_id: here,
                index,
                named: true,
            });
        }
        at = member.type_id;
    }
    Ok(spec)
}

fn push_element<T: Types>(
    types: &T,
    spec: &mut Spec,
    type_id: u32,
    index: u32,
) -> Result<(), RelocationError> {
    // An incomplete struct has no size, and index 0 needs none.
    if index > 0 {
        let bits = u64::from(types.size_of(type_id)?) * 8;
        spec.bit_offset = bits
            .checked_mul(u64::from(index))
            .and_then(|bits| bits.checked_add(spec.bit_offset))
            .ok_or(BtfError::TooDeep { id: type_id })?;
    }
    spec.accessors.push(Accessor {
        type_id,
        index,
        named: false,
    });
    Ok(())
}

/// Whether an array of `count` elements is the last field of its struct and declared without a
/// size, so that any index is inside.
fn is_flexible<T: Types>(
    types: &T,
    owner: Option<&Accessor>,
    count: u32,
) -> Result<bool, RelocationError> {
    match owner {
        Some(owner) if owner.named && count == 0 => {
            let composite = types.get(owner.type_id)?;
            Ok(owner.index as usize + 1 == composite.members().len())
        }
        _ => Ok(false),
    }
}

fn local_member(local: &Btf, accessor: &Accessor) -> Result<Member, RelocationError> {
    let composite = local.get(accessor.type_id)?;
    composite
        .members()
        .get(accessor.index as usize)
        .copied()
        .ok_or(RelocationError::BadAccess {
            type_id: accessor.type_id,
        })
}

fn enum_value<T: Types>(types: &T, spec: &Spec) -> Result<u64, RelocationError> {
    let bad = RelocationError::BadAccess { type_id: spec.root };
    let accessor = spec.accessors.first().ok_or(bad)?;
    let found = types.get(accessor.type_id)?;
    let enumerator = found.enumerators().get(accessor.index as usize);
    enumerator.map(|enumerator| enumerator.value).ok_or(bad)
}

/// What a field relocation comes to on one side.
struct FieldValue {
    value: u64,
    size: u32,
    validate: bool,
    /// A pointer or an unsigned integer: loading more or fewer bytes keeps its value.
    resizable: bool,
}

fn field_value<T: Types>(
    types: &T,
    kind: RelocationKind,
    spec: &Spec,
) -> Result<FieldValue, RelocationError> {
    let bad = RelocationError::BadAccess { type_id: spec.root };
    let accessor = spec.accessors.last().ok_or(bad)?;
    let mut found = FieldValue {
        value: 0,
        size: 0,
        validate: true,
        resizable: false,
    };
    if !accessor.named {
        let size = types.size_of(accessor.type_id)?;
        match kind {
            RelocationKind::ByteOffset => {
                found.value = spec.bit_offset / 8;
                found.size = size;
                found.resizable = is_resizable(&*types.get(accessor.type_id)?);
            }
            RelocationKind::ByteSize => found.value = u64::from(size),
            _ => return Err(bad),
        }
        return Ok(found);
    }
    let composite = types.get(accessor.type_id)?;
    let member = composite
        .members()
        .get(accessor.index as usize)
        .ok_or(bad)?;
    let (field_id, field) = types.resolve(member.type_id)?;
    let span = if member.bit_size > 0 {
        bit_field_span(spec.bit_offset, member.bit_size, field.size_or_type)?
    } else {
        let size = types.size_of(field_id)?;
        Span {
            byte_offset: spec.bit_offset / 8,
            bytes: size,
            bits: u64::from(size) * 8,
        }
    };
    let is_bit_field = member.bit_size > 0;
    found.validate = !is_bit_field;
    match kind {
        RelocationKind::ByteOffset => {
            found.value = span.byte_offset;
            if !is_bit_field {
                found.size = span.bytes;
                found.resizable = is_resizable(&field);
            }
        }
        RelocationKind::ByteSize => found.value = u64::from(span.bytes),
        RelocationKind::Signed => {
            found.validate = true;
            found.value = u64::from(is_signed(&field));
        }
        // Little-endian: the field's bits end so far from the top of a 64-bit register.
        RelocationKind::LeftShift => {
            let end = spec.bit_offset + span.bits - span.byte_offset * 8;
            found.value = 64u64.wrapping_sub(end);
        }
        RelocationKind::RightShift => {
            found.validate = true;
            found.value = 64u64.wrapping_sub(span.bits);
        }
        _ => return Err(bad),
    }
    Ok(found)
}

struct Span {
    byte_offset: u64,
    bytes: u32,
    bits: u64,
}

/// The smallest naturally aligned load that covers a bit field.
fn bit_field_span(bit_offset: u64, bit_size: u32, declared: u32) -> Result<Span, RelocationError> {
    let wide = RelocationError::WideBitField { bit_offset };
    let mut bytes = u64::from(declared);
    if !matches!(bytes, 1 | 2 | 4 | 8) {
        return Err(wide);
    }
    let bits = u64::from(bit_size);
    loop {
        let byte_offset = bit_offset / 8 / bytes * bytes;
        if bit_offset + bits - byte_offset * 8 <= bytes * 8 {
            return Ok(Span {
                byte_offset,
                // At most eight.
                bytes: bytes as u32,
                bits,
            });
        }
        if bytes >= 8 {
            return Err(wide);
        }
        bytes *= 2;
    }
}

const INT_SIGNED: u8 = 1;

fn is_signed(field: &Type) -> bool {
    match field.tail {
        Tail::Int { encoding, .. } => encoding & INT_SIGNED != 0,
        Tail::Enumerators(_) => field.flag,
        _ => false,
    }
}

fn is_resizable(field: &Type) -> bool {
    match field.tail {
        Tail::Int { encoding, .. } => encoding & INT_SIGNED == 0,
        _ => field.kind == Kind::Ptr,
    }
}

/// A relocation in libbpf's words: `<byte_off> [12] struct sample.a[3].b (0:1:3 @ offset 24)`.
#[must_use]
pub fn describe(local: &Btf, record: &RelocationRecord) -> String {
    let Some(kind) = RelocationKind::from_number(record.kind) else {
        return format!("<unknown {}> [{}]", record.kind, record.type_id);
    };
    let (word, name) = match local.get(record.type_id) {
        Ok(root) => (root.kind.name(), local.text(root.name)),
        Err(_) => ("type", "<?>".to_owned()),
    };
    let mut text = format!("<{kind}> [{}] {word} {name}", record.type_id);
    let Ok(spec) = local_spec(local, record, kind) else {
        return text;
    };
    if kind.is_type_based() {
        return text;
    }
    for (step, accessor) in spec.accessors.iter().enumerate() {
        if kind.is_enum_based() {
            let name = local
                .get(accessor.type_id)
                .ok()
                .and_then(|found| found.enumerators().get(accessor.index as usize).copied())
                .map(|enumerator| local.text(enumerator.name));
            text.push_str("::");
            text.push_str(name.as_deref().unwrap_or("<?>"));
        } else if accessor.named {
            let name = local_member(local, accessor).map(|member| local.text(member.name));
            text.push('.');
            text.push_str(name.as_deref().unwrap_or("<?>"));
        } else if step > 0 || accessor.index > 0 {
            text.push_str(&format!("[{}]", accessor.index));
        }
    }
    if !kind.is_enum_based() {
        let access = local.text(record.access);
        let offset = spec.bit_offset / 8;
        text.push_str(&format!(" ({access} @ offset {offset})"));
    }
    text
}
