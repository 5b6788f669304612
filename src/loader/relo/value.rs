//! The values of an access: offsets, sizes, shifts, signs, enum values.
//!
//! The same rules apply to the object's types and to the kernel's. A bit field is
//! read by the smallest aligned load that covers it, and shifted:
//!
//! ```text
//! value = load(byte_off, byte_sz) << lshift_u64 >> rshift_u64
//! lshift_u64 = 64 - (bit offset within the load + bits)     little-endian
//! rshift_u64 = 64 - bits
//! ```

use crate::loader::btf::{Kind, Tail, Type, Types};
use crate::loader::relo::spec::Spec;
use crate::loader::relo::{RelocationError, RelocationKind};

pub(super) fn enum_value<T: Types>(types: &T, spec: &Spec) -> Result<u64, RelocationError> {
    let bad = RelocationError::BadAccess { type_id: spec.root };
    let accessor = spec.accessors.first().ok_or(bad)?;
    let found = types.get(accessor.type_id)?;
    let enumerator = found.enumerators().get(accessor.index as usize);
    enumerator.map(|enumerator| enumerator.value).ok_or(bad)
}

/// The values of a field relocation on one side.
pub(super) struct FieldValue {
    pub(super) value: u64,
    pub(super) size: u32,
    pub(super) validate: bool,
    /// A pointer or an unsigned integer: loading more or fewer bytes keeps its value.
    pub(super) resizable: bool,
}

pub(super) fn field_value<T: Types>(
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
