//! Access strings: which field of the object's own types a relocation means.
//!
//! `0:1:3` on `struct sample` is element 0 of what the pointer points to, then
//! the second field of the struct, then the fourth element or field of that. A
//! [`Spec`] keeps the steps that have a meaning of their own, named fields and
//! array elements, and adds up where they lead; anonymous structs and unions
//! leave no step, so that the same field is found wherever another kernel puts
//! it. The encoding is described in `include/uapi/linux/bpf.h` at
//! `struct bpf_core_relo`.

use crate::loader::btf::{Btf, BtfError, Member, Tail, Types};
use crate::loader::lines::RelocationRecord;
use crate::loader::relo::{RelocationError, RelocationKind, MAX_STEPS};

/// One step of an access: a named field, or an element of an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accessor {
    /// The struct that has the field, or the element's type.
    pub(super) type_id: u32,
    pub(super) index: u32,
    pub(super) named: bool,
}

/// Where an access leads in one set of types.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) root: u32,
    pub(super) accessors: Vec<Accessor>,
    pub(super) bit_offset: u64,
    /// Structs entered on the way. Anonymous members that share a type would otherwise let a
    /// small BTF ask for exponential work.
    pub(super) entered: u32,
}

fn parse_access(text: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(text).ok()?;
    let steps: Option<Vec<u32>> = text.split(':').map(|step| step.parse().ok()).collect();
    steps.filter(|steps| steps.len() <= MAX_STEPS)
}

pub(super) fn local_spec(
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

pub(super) fn push_element<T: Types>(
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
pub(super) fn is_flexible<T: Types>(
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

pub(super) fn local_member(local: &Btf, accessor: &Accessor) -> Result<Member, RelocationError> {
    let composite = local.get(accessor.type_id)?;
    composite
        .members()
        .get(accessor.index as usize)
        .copied()
        .ok_or(RelocationError::BadAccess {
            type_id: accessor.type_id,
        })
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
