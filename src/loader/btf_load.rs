//! The object's BTF, made ready for a kernel.
//!
//! This does two things. It fills in what a linker would fill in: the sizes of data
//! sections and the offsets of the variables in them. And for an older kernel it replaces
//! each kind that the kernel does not know by one of the same length and about the same
//! meaning, newest first, so that the type numbers in the rest of the object stay valid:
//!
//! ```text
//! before 6.0   ENUM64            -> UNION of ints
//! before 5.17  TYPE_TAG          -> CONST
//! before 5.16  DECL_TAG          -> INT
//! before 5.13  FLOAT             -> empty STRUCT
//! before 5.6   FUNC with linkage -> FUNC without
//! before 5.2   VAR, DATASEC      -> INT, STRUCT
//! ```
//!
//! If a kernel refuses even that, its programs are loaded without BTF. The kernel's own
//! checks are in `kernel/bpf/btf.c`; the replacements are libbpf's.

use crate::base::order;
use crate::loader::btf::{BtfError, Kind, Tail, Types, HEAD_LEN};
use crate::loader::maps;
use crate::loader::object::Object;

/// Renditions that there are: the whole, and one more for each line of the table above.
pub const RENDITIONS: usize = 7;

const INFO: usize = 4;
const SIZE_OR_TYPE: usize = 8;
const SECTION_VARIABLE_LEN: usize = 12;
/// The tail of an 8-bit unsigned integer.
const INT_8_BITS: u32 = 8;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn info(kind: Kind, count: u32) -> u32 {
    (kind as u32) << 24 | count
}

/// The object's BTF with data sections filled in.
pub fn finish(object: &Object) -> Result<Vec<u8>, BtfError> {
    let btf = &object.btf;
    let mut bytes = btf.bytes().to_vec();
    for (id, datasec) in btf.iter() {
        let Tail::Section(places) = &datasec.tail else {
            continue;
        };
        let Some(place) = btf.place(id) else { continue };
        let name = btf.text(datasec.name);
        let Some(number) = object.section_number(&name) else {
            continue;
        };
        // A size that does not fit was refused when the maps were described.
        let size = u32::try_from(object.sections[number as usize].size).unwrap_or(u32::MAX);
        put(&mut bytes, place + SIZE_OR_TYPE, size);
        let mut entries = Vec::with_capacity(places.len());
        for entry in places {
            let variable = btf.get(entry.type_id)?;
            let name = btf.text(variable.name);
            let offset = maps::variable_offset(object, number, &name, &variable);
            entries.push((offset.unwrap_or(entry.offset), entry));
        }
        order::sort(&mut entries, |&(offset, _)| offset.into());
        for (index, (offset, entry)) in entries.into_iter().enumerate() {
            let at = place + HEAD_LEN + index * SECTION_VARIABLE_LEN;
            put(&mut bytes, at, entry.type_id);
            put(&mut bytes, at + 4, offset);
            put(&mut bytes, at + 8, entry.size);
        }
    }
    Ok(bytes)
}

/// Variant `number` of the result of [`finish`]; 0 is unchanged. None if it would be the same as
/// the previous one.
#[must_use]
pub fn rendition(object: &Object, whole: &[u8], number: usize) -> Option<Vec<u8>> {
    if number == 0 {
        return Some(whole.to_vec());
    }
    let mut bytes = whole.to_vec();
    let mut is_new = false;
    for (id, found) in object.btf.iter() {
        let Some(place) = object.btf.place(id) else {
            continue;
        };
        let step = match found.kind {
            Kind::Enum64 => 1,
            Kind::Enum if found.flag => 1,
            Kind::TypeTag => 2,
            Kind::DeclTag => 3,
            Kind::Float => 4,
            Kind::Func if found.count != 0 => 5,
            Kind::Var | Kind::Datasec => 6,
            _ => continue,
        };
        if step > number {
            continue;
        }
        is_new |= step == number;
        replace(object, &mut bytes, place, found.kind, found.count);
    }
    is_new.then_some(bytes)
}

fn replace(object: &Object, bytes: &mut [u8], place: usize, kind: Kind, count: u32) {
    let tail = place + HEAD_LEN;
    match kind {
        // Signed enums came together with 64-bit ones.
        Kind::Enum => put(bytes, place + INFO, info(Kind::Enum, count)),
        Kind::Enum64 => {
            put(bytes, place + INFO, info(Kind::Union, count));
            for index in 0..count as usize {
                put(bytes, tail + index * 12 + 4, some_int(object));
                put(bytes, tail + index * 12 + 8, 0);
            }
        }
        Kind::TypeTag => {
            put(bytes, place, 0);
            put(bytes, place + INFO, info(Kind::Const, 0));
        }
        Kind::DeclTag | Kind::Var => {
            put(bytes, place + INFO, info(Kind::Int, 0));
            put(bytes, place + SIZE_OR_TYPE, 1);
            put(bytes, tail, INT_8_BITS);
        }
        Kind::Float => {
            put(bytes, place, 0);
            put(bytes, place + INFO, info(Kind::Struct, 0));
        }
        Kind::Func => put(bytes, place + INFO, info(Kind::Func, 0)),
        Kind::Datasec => {
            // Section names are not identifiers; a struct may go without a name.
            put(bytes, place, 0);
            put(bytes, place + INFO, info(Kind::Struct, count));
            for index in 0..count as usize {
                let at = tail + index * SECTION_VARIABLE_LEN;
                let word = |at: usize, bytes: &[u8]| {
                    bytes
                        .get(at..at + 4)
                        .and_then(|word| word.try_into().ok())
                        .map_or(0, u32::from_le_bytes)
                };
                let (type_id, offset) = (word(at, bytes), word(at + 4, bytes));
                put(bytes, at, 0);
                put(bytes, at + 4, type_id);
                put(bytes, at + 8, offset.wrapping_mul(8));
            }
        }
        _ => {}
    }
}

/// An integer that fits into any enum.
fn some_int(object: &Object) -> u32 {
    let int = object
        .btf
        .iter()
        .find(|(_, found)| found.kind == Kind::Int && found.size_or_type <= 4);
    int.map_or(0, |(id, _)| id)
}
