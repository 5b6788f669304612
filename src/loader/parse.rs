//! Takes apart an ELF object that clang made for BPF.
//!
//! Bytes come in; out come programs and functions with their instructions, maps,
//! the bytes behind global data, relocations and type information. Nothing here
//! depends on the running kernel: the same bytes give the same [`Object`].
//! Joining functions into programs is `link.rs`, maps are described in `maps.rs`.
//!
//! Only little-endian 64-bit relocatable files for BPF are accepted, and only the
//! features that this tool's own objects use: no extern variables, no kernel functions.
//! goblin's low-level parsers read the tables, each from a slice that was checked to be
//! inside the file. `Documentation/bpf/llvm_reloc.rst` defines the relocations.

use std::ffi::CString;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::header64::Header as ElfHeader;
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, EM_BPF, ET_REL};
use goblin::elf::reloc::RelocSection;
use goblin::elf::section_header::{
    SectionHeader, SHF_EXECINSTR, SHN_LORESERVE, SHN_UNDEF, SHT_NOBITS, SHT_PROGBITS, SHT_REL,
    SHT_SYMTAB,
};
use goblin::elf::sym::{Symtab, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_SECTION};

use crate::base::bytes::{string_at, until_nul};
use crate::base::error::{Error, Result};
use crate::base::order;
use crate::loader::btf::Btf;
use crate::loader::insn;
use crate::loader::lines::Extension;
use crate::loader::maps;
use crate::loader::object::{
    Function, Location, Object, ObjectError, Program, ReferenceKind, Relocation, Section, Symbol,
};
use crate::loader::target::TypeSource;

/// Bytes of an ELF header and of a section header in 64-bit files.
const ELF_HEADER_LEN: usize = 64;
const SECTION_HEADER_LEN: usize = 64;
const SYMBOL_LEN: usize = 24;
const RELOCATION_LEN: usize = 16;
const MAX_SECTIONS: usize = 4096;

/// `R_BPF_64_64`: a 64-bit immediate load.
const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_ABS64`: eight bytes of data.
const R_BPF_64_ABS64: u32 = 2;
/// `R_BPF_64_32`: a call.
const R_BPF_64_32: u32 = 10;

impl Object {
    /// Takes an object apart.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_parts(bytes).map_err(|error| Error::from(error).context("BPF object"))
    }

    fn parse_parts(bytes: &[u8]) -> Result<Self, ObjectError> {
        let headers = section_headers(bytes)?;
        let sections = sections(bytes, &headers)?;
        let (table, symbols) = symbols(bytes, &headers, &sections)?;
        let relocations = relocations(bytes, &headers, &table)?;
        let section = |name: &'static str| {
            sections
                .iter()
                .find(|section| section.name == name)
                .ok_or(ObjectError::Missing { section: name })
        };
        let btf = Btf::parse(&section(".BTF")?.bytes)?;
        let extension = match section(".BTF.ext") {
            Ok(section) => Extension::parse(&section.bytes)?,
            Err(_) => Extension::default(),
        };
        let license = until_nul(&section("license")?.bytes).to_vec();
        let license =
            CString::new(license).map_err(|_| ObjectError::Malformed { what: "license" })?;
        let functions = functions(&sections, &symbols)?;
        let programs = programs(&sections, &functions);
        let mut object = Object {
            programs,
            functions,
            maps: Vec::new(),
            license,
            sections,
            symbols,
            relocations,
            btf,
            extension,
        };
        object.maps = maps::describe(&object)?;
        Ok(object)
    }
}

fn context() -> Ctx {
    Ctx::new(Container::Big, Endian::Little)
}

fn elf_header(bytes: &[u8]) -> Result<ElfHeader, ObjectError> {
    let malformed = ObjectError::Malformed { what: "ELF header" };
    if !bytes.starts_with(b"\x7fELF") {
        return Err(malformed);
    }
    let head = bytes.get(..ELF_HEADER_LEN).ok_or(malformed)?;
    let header = ElfHeader::parse(head).map_err(|_| malformed)?;
    let checks = [
        (
            "class",
            u64::from(header.e_ident[EI_CLASS]),
            u64::from(ELFCLASS64),
        ),
        (
            "byte order",
            u64::from(header.e_ident[EI_DATA]),
            u64::from(ELFDATA2LSB),
        ),
        (
            "section header size",
            u64::from(header.e_shentsize),
            SECTION_HEADER_LEN as u64,
        ),
    ];
    for (field, value, wanted) in checks {
        if value != wanted {
            return Err(ObjectError::NotBpf { field, value });
        }
    }
    Ok(header)
}

fn slice<'a>(
    bytes: &'a [u8],
    what: &'static str,
    offset: u64,
    len: u64,
) -> Result<&'a [u8], ObjectError> {
    let range = usize::try_from(offset).ok().zip(
        offset
            .checked_add(len)
            .and_then(|end| usize::try_from(end).ok()),
    );
    range
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(ObjectError::Outside { what, offset })
}

fn section_headers(bytes: &[u8]) -> Result<Vec<SectionHeader>, ObjectError> {
    let header = elf_header(bytes)?;
    for (field, value, wanted) in [
        ("type", header.e_type, ET_REL),
        ("machine", header.e_machine, EM_BPF),
    ] {
        if value != wanted {
            return Err(ObjectError::NotBpf {
                field,
                value: u64::from(value),
            });
        }
    }
    let count = usize::from(header.e_shnum);
    if count == 0 || count > MAX_SECTIONS {
        return Err(ObjectError::NotBpf {
            field: "number of sections",
            value: u64::from(header.e_shnum),
        });
    }
    let len = (count * SECTION_HEADER_LEN) as u64;
    let table = slice(bytes, "section headers", header.e_shoff, len)?;
    SectionHeader::parse_from(table, 0, count, context()).map_err(|_| ObjectError::Malformed {
        what: "section headers",
    })
}

fn sections(bytes: &[u8], headers: &[SectionHeader]) -> Result<Vec<Section>, ObjectError> {
    let header = elf_header(bytes)?;
    let names = headers
        .get(usize::from(header.e_shstrndx))
        .ok_or(ObjectError::Missing {
            section: ".shstrtab",
        })?;
    let names = slice(bytes, "section names", names.sh_offset, names.sh_size)?;
    let mut sections = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        let name = string_at(names, header.sh_name).ok_or(ObjectError::Outside {
            what: "section name",
            offset: header.sh_name as u64,
        })?;
        let content = if index == 0 || header.sh_type == SHT_NOBITS {
            &[][..]
        } else {
            slice(bytes, "section", header.sh_offset, header.sh_size)?
        };
        sections.push(Section {
            name: String::from_utf8_lossy(name).into_owned(),
            bytes: content.to_vec(),
            size: header.sh_size,
            is_code: header.sh_type == SHT_PROGBITS
                && header.sh_flags & u64::from(SHF_EXECINSTR) != 0,
        });
    }
    Ok(sections)
}

/// Where each entry of the symbol table is, by its number, and the symbols that have names.
type SymbolTable = (Vec<Option<Location>>, Vec<Symbol>);

fn symbols(
    bytes: &[u8],
    headers: &[SectionHeader],
    sections: &[Section],
) -> Result<SymbolTable, ObjectError> {
    let missing = ObjectError::Missing { section: ".symtab" };
    let header = headers
        .iter()
        .find(|header| header.sh_type == SHT_SYMTAB)
        .ok_or(missing)?;
    let content = slice(bytes, "symbol table", header.sh_offset, header.sh_size)?;
    let strings = sections.get(header.sh_link as usize).ok_or(missing)?;
    let malformed = ObjectError::Malformed {
        what: "symbol table",
    };
    let count = content.len() / SYMBOL_LEN;
    let table = Symtab::parse(content, 0, count, context()).map_err(|_| malformed)?;
    let mut places = Vec::with_capacity(count);
    let mut symbols = Vec::new();
    for symbol in table.iter() {
        let section = symbol.st_shndx;
        let defined = section != SHN_UNDEF as usize
            && section < SHN_LORESERVE as usize
            && section < sections.len();
        let location = defined.then_some(Location {
            section: section as u32,
            offset: symbol.st_value,
        });
        places.push(location);
        let Some(location) = location else { continue };
        if symbol.st_type() == STT_SECTION {
            continue;
        }
        let name = string_at(&strings.bytes, symbol.st_name).ok_or(malformed)?;
        symbols.push(Symbol {
            name: String::from_utf8_lossy(name).into_owned(),
            location,
            size: symbol.st_size,
            is_function: symbol.st_type() == STT_FUNC,
            is_global: matches!(symbol.st_bind(), STB_GLOBAL | STB_WEAK),
        });
    }
    Ok((places, symbols))
}

fn relocations(
    bytes: &[u8],
    headers: &[SectionHeader],
    places: &[Option<Location>],
) -> Result<Vec<Vec<Relocation>>, ObjectError> {
    let mut all = vec![Vec::new(); headers.len()];
    for header in headers.iter().filter(|header| header.sh_type == SHT_REL) {
        let section = header.sh_info as usize;
        // Relocations of debugging and type sections say nothing that is needed here.
        let (Some(subject), Some(list)) = (headers.get(section), all.get_mut(section)) else {
            continue;
        };
        let is_code = subject.sh_flags & u64::from(SHF_EXECINSTR) != 0;
        let content = slice(bytes, "relocations", header.sh_offset, header.sh_size)?;
        let len = content.len() / RELOCATION_LEN * RELOCATION_LEN;
        let table = RelocSection::parse(content, 0, len, false, context()).map_err(|_| {
            ObjectError::Malformed {
                what: "relocations",
            }
        })?;
        for relocation in table.iter() {
            let kind = match relocation.r_type {
                R_BPF_64_64 if is_code => ReferenceKind::Load,
                R_BPF_64_32 if is_code => ReferenceKind::Call,
                R_BPF_64_ABS64 if !is_code => ReferenceKind::Data,
                _ if !is_code => continue,
                kind => {
                    return Err(ObjectError::BadRelocation {
                        section: header.sh_info,
                        offset: relocation.r_offset,
                        kind,
                    })
                }
            };
            let target = places.get(relocation.r_sym).copied().flatten();
            let target = match target {
                Some(target) => target,
                None if !is_code => continue,
                None => {
                    return Err(ObjectError::BadSymbol {
                        index: u32::try_from(relocation.r_sym).unwrap_or(u32::MAX),
                    })
                }
            };
            list.push(Relocation {
                offset: relocation.r_offset,
                kind,
                target,
            });
        }
        order::sort(list, |relocation| relocation.offset);
    }
    Ok(all)
}

fn functions(sections: &[Section], symbols: &[Symbol]) -> Result<Vec<Function>, ObjectError> {
    let mut functions = Vec::new();
    for symbol in symbols.iter().filter(|symbol| symbol.is_function) {
        let location = symbol.location;
        let Some(section) = sections.get(location.section as usize) else {
            continue;
        };
        if !section.is_code {
            continue;
        }
        let bad = ObjectError::BadFunction {
            section: location.section,
            offset: location.offset,
        };
        let code = slice(&section.bytes, "function", location.offset, symbol.size)?;
        let whole = insn::SIZE as u64;
        if code.is_empty() || location.offset % whole != 0 || symbol.size % whole != 0 {
            return Err(bad);
        }
        functions.push(Function {
            name: symbol.name.clone(),
            location,
            instructions: insn::decode(code),
        });
    }
    Ok(functions)
}

fn programs(sections: &[Section], functions: &[Function]) -> Vec<Program> {
    let mut programs = Vec::new();
    for (index, function) in functions.iter().enumerate() {
        let section = &sections[function.location.section as usize].name;
        if section != ".text" {
            programs.push(Program {
                name: function.name.clone(),
                section: section.clone(),
                function: index,
            });
        }
    }
    programs
}

/// The range of a section of any 64-bit little-endian ELF file, read through `source` without
/// holding the file: a kernel image has its types in `.BTF`.
pub fn section_range(
    source: &dyn TypeSource,
    wanted: &'static str,
) -> Result<(u64, u64), ObjectError> {
    let mut head = [0; ELF_HEADER_LEN];
    read_exactly(source, 0, &mut head, "ELF header")?;
    let header = elf_header(&head)?;
    let count = usize::from(header.e_shnum);
    if count > MAX_SECTIONS {
        return Err(ObjectError::NotBpf {
            field: "number of sections",
            value: count as u64,
        });
    }
    let mut table = vec![0; count * SECTION_HEADER_LEN];
    read_exactly(source, header.e_shoff, &mut table, "section headers")?;
    let missing = ObjectError::Missing { section: wanted };
    if table.is_empty() {
        return Err(missing);
    }
    let headers = SectionHeader::parse_from(&table, 0, count, context()).map_err(|_| {
        ObjectError::Malformed {
            what: "section headers",
        }
    })?;
    let names = headers.get(usize::from(header.e_shstrndx)).ok_or(missing)?;
    let mut name = vec![0; wanted.len() + 1];
    for header in &headers {
        let Some(place) = names.sh_offset.checked_add(header.sh_name as u64) else {
            continue;
        };
        if read_exactly(source, place, &mut name, "section name").is_err() {
            continue;
        }
        let inside = header
            .sh_offset
            .checked_add(header.sh_size)
            .is_some_and(|end| end <= source.len());
        if name.split_last() == Some((&0, wanted.as_bytes())) && inside {
            return Ok((header.sh_offset, header.sh_size));
        }
    }
    Err(missing)
}

fn read_exactly(
    source: &dyn TypeSource,
    offset: u64,
    buffer: &mut [u8],
    what: &'static str,
) -> Result<(), ObjectError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let place = offset.checked_add(filled as u64);
        let read = place.and_then(|place| source.read_at(place, &mut buffer[filled..]).ok());
        match read {
            Some(read) if read > 0 => filled += read.min(buffer.len() - filled),
            _ => return Err(ObjectError::Outside { what, offset }),
        }
    }
    Ok(())
}
