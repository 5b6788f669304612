//! Maps, as the object's types describe them.
//!
//! A map is a variable in the section `.maps` whose struct type carries numbers
//! as the lengths of arrays that its members point to, and key and value as the
//! types that they point to: libbpf's convention, made by its `__uint` and
//! `__type` macros. Global data are array maps with one value, the section:
//! `.rodata`, `.data` and `.bss`, found in the kernel under names that begin with
//! `segfault_`.
//!
//! Nothing here creates a map. The name of a member decides what it means; an unknown
//! name is refused and not ignored.

use crate::loader::btf::{Btf, BtfError, Kind, Tail, Type, Types};
use crate::loader::object::{
    Content, Location, Map, Object, ObjectError, ReferenceKind, Variable, ARRAY, MAPPABLE,
    PROG_ARRAY, READ_ONLY_TO_PROGRAMS,
};

/// All maps of an object, in the order of its sections.
pub fn describe(object: &Object) -> Result<Vec<Map>, ObjectError> {
    let mut maps = Vec::new();
    for (number, section) in (0..).zip(&object.sections) {
        let name = section.name.as_str();
        let is_data = [".rodata", ".data", ".bss"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if name == ".maps" {
            defined(object, number, &mut maps)?;
        } else if is_data && section.size > 0 {
            maps.push(data(object, number)?);
        }
    }
    Ok(maps)
}

fn datasec(btf: &Btf, name: &str) -> Option<Type> {
    btf.iter()
        .find(|(_, found)| {
            found.kind == Kind::Datasec
                && btf
                    .string(found.name)
                    .is_ok_and(|found| found == name.as_bytes())
        })
        .map(|(_, found)| found.clone())
}

/// The variables of a data section, each with its place in it.
///
/// clang leaves the offsets of global variables zero for the linker to fill in: the symbol
/// table has them. The offsets of static variables are already there.
pub fn variables(object: &Object, section: u32) -> Result<Vec<Variable>, ObjectError> {
    let name = &object.sections[section as usize].name;
    let Some(datasec) = datasec(&object.btf, name) else {
        return Ok(Vec::new());
    };
    let Tail::Section(places) = &datasec.tail else {
        return Ok(Vec::new());
    };
    let mut variables = Vec::with_capacity(places.len());
    for place in places {
        let variable = object.btf.get(place.type_id)?;
        let name = object.btf.text(variable.name);
        let offset = variable_offset(object, section, &name, &variable).unwrap_or(place.offset);
        variables.push(Variable {
            name,
            offset,
            size: place.size,
        });
    }
    Ok(variables)
}

/// Where the symbol table says that a global variable is.
pub fn variable_offset(object: &Object, section: u32, name: &str, variable: &Type) -> Option<u32> {
    const STATIC: u32 = 0;
    if variable.tail == (Tail::Variable { linkage: STATIC }) {
        return None;
    }
    let symbol = object.global(name)?;
    (symbol.location.section == section)
        .then(|| u32::try_from(symbol.location.offset).ok())
        .flatten()
}

fn data(object: &Object, number: u32) -> Result<Map, ObjectError> {
    let section = &object.sections[number as usize];
    let too_large = ObjectError::Outside {
        what: "data section",
        offset: section.size,
    };
    let size = u32::try_from(section.size)
        .ok()
        // A file of a few bytes can claim a .bss of any size.
        .filter(|size| *size <= 64 << 20)
        .ok_or(too_large)?;
    let mut bytes = section.bytes.clone();
    bytes.resize(size as usize, 0);
    let constant = section.name.starts_with(".rodata");
    Ok(Map {
        name: format!("segfault_{}", &section.name[1..]),
        location: Location {
            section: number,
            offset: 0,
        },
        extent: section.size,
        map_type: ARRAY,
        key_size: 4,
        value_size: size,
        max_entries: 1,
        flags: if constant {
            READ_ONLY_TO_PROGRAMS
        } else {
            MAPPABLE
        },
        content: Content::Data { bytes, constant },
        variables: variables(object, number)?,
    })
}

fn defined(object: &Object, number: u32, maps: &mut Vec<Map>) -> Result<(), ObjectError> {
    let malformed = ObjectError::Malformed { what: ".maps" };
    let datasec = datasec(&object.btf, ".maps").ok_or(malformed)?;
    let Tail::Section(places) = &datasec.tail else {
        return Err(malformed);
    };
    for place in places {
        let variable = object.btf.get(place.type_id)?;
        let name = object.btf.text(variable.name);
        let offset = variable_offset(object, number, &name, &variable).unwrap_or(place.offset);
        let location = Location {
            section: number,
            offset: u64::from(offset),
        };
        let mut map = Map {
            name,
            location,
            extent: u64::from(place.size).max(1),
            map_type: 0,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            content: Content::Empty,
            variables: Vec::new(),
        };
        fill(object, &mut map, variable.size_or_type)?;
        if map.map_type == 0 {
            return Err(malformed);
        }
        maps.push(map);
    }
    Ok(())
}

/// Reads the members of a map's struct.
fn fill(object: &Object, map: &mut Map, type_id: u32) -> Result<(), ObjectError> {
    let malformed = ObjectError::Malformed {
        what: "map definition",
    };
    let btf = &object.btf;
    let (_, definition) = btf.resolve(type_id)?;
    for member in definition.members() {
        match btf.string(member.name)? {
            b"type" => map.map_type = number(btf, member.type_id)?,
            b"max_entries" => map.max_entries = number(btf, member.type_id)?,
            b"map_flags" => map.flags = number(btf, member.type_id)?,
            b"key_size" => map.key_size = number(btf, member.type_id)?,
            b"value_size" => map.value_size = number(btf, member.type_id)?,
            b"key" => map.key_size = pointed_size(btf, member.type_id)?,
            b"value" => map.value_size = pointed_size(btf, member.type_id)?,
            b"values" => {
                if map.map_type != PROG_ARRAY {
                    return Err(malformed);
                }
                map.value_size = 4;
                map.content = initial_programs(object, map, member.bit_offset / 8);
            }
            _ => return Err(malformed),
        }
    }
    Ok(())
}

/// `__uint(name, value)`: a pointer to an array of `value` elements.
fn number(btf: &Btf, type_id: u32) -> Result<u32, BtfError> {
    let (id, pointer) = btf.resolve(type_id)?;
    let (array_id, array) = btf.resolve(pointer.size_or_type)?;
    match (pointer.kind, &array.tail) {
        (Kind::Ptr, Tail::Array { count, .. }) => Ok(*count),
        (Kind::Ptr, _) => Err(BtfError::NoSize {
            id: array_id,
            kind: array.kind,
        }),
        (kind, _) => Err(BtfError::NoSize { id, kind }),
    }
}

/// `__type(name, type)`: a pointer to the type.
fn pointed_size(btf: &Btf, type_id: u32) -> Result<u32, BtfError> {
    let (id, pointer) = btf.resolve(type_id)?;
    if pointer.kind != Kind::Ptr {
        return Err(BtfError::NoSize {
            id,
            kind: pointer.kind,
        });
    }
    btf.size_of(pointer.size_or_type)
}

/// `__array(values, ...)` with an initializer: relocations name the programs.
fn initial_programs(object: &Object, map: &Map, values: u32) -> Content {
    const SLOT: u64 = 8;
    let start = map.location.offset + u64::from(values);
    let end = map.location.offset + map.extent;
    let mut programs = Vec::new();
    for relocation in &object.relocations[map.location.section as usize] {
        if relocation.kind != ReferenceKind::Data
            || relocation.offset < start
            || relocation.offset >= end
        {
            continue;
        }
        let slot = u32::try_from((relocation.offset - start) / SLOT);
        if let (Ok(slot), Some(function)) = (slot, object.function_at(relocation.target)) {
            programs.push((slot, object.functions[function].name.clone()));
        }
    }
    Content::Programs(programs)
}
