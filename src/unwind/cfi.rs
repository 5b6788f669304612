//! From an address in a file to the row of call-frame information for it.
//!
//! The entry is found without holding the section: by the search table of
//! `.eh_frame_hdr`, else by a pass over `.eh_frame`, else by one over
//! `.debug_frame`; its index is kept. The entry and its CIE are laid side by
//! side as a section of their own,
//!
//! ```text
//! [CIE][FDE, its CIE pointer patched]      base = where the FDE stands - |CIE|
//! ```
//!
//! so that gimli reads a few hundred bytes and pc-relative addresses come out
//! right. What it makes of them is kept as a [`Rule`], by file and address.

use std::rc::Rc;

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EndianSlice, LittleEndian, ReaderOffset, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection,
    UnwindTableRow, Vendor,
};

use super::architecture::COLUMNS;
use super::cache::{Caches, Index};
use super::eh_hdr::{self, Nearest};
use super::frames::{Entry, Section};
use super::rule::{Cfa, Column, Rule, Slice};
use super::{CfiSection, Placed};
use crate::address::{FileAddress, ProcessAddress};
use crate::registers::Arch;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Room for rows: aarch64 code has been seen with 20 rules and 2 remembered states.
struct Storage;

impl<T: ReaderOffset> UnwindContextStorage<T> for Storage {
    type Rules = [(Register, RegisterRule<T>); 96];
    type Stack = Box<[UnwindTableRow<T, Self>; 8]>;
}

/// The row for an address: what is looked up, not what is returned to.
pub(super) fn rule(
    module: &Placed,
    lookup: ProcessAddress,
    arch: Arch,
    caches: &mut Caches,
) -> Option<Rc<Rule>> {
    let address = module.file_address(lookup);
    let key = (module.data.identity(), address);
    if let Some(known) = caches.rules.get(&key) {
        return known;
    }
    let rule = locate(module, address, arch, caches).map(Rc::new);
    let bytes = rule.as_ref().map_or(0, |rule| rule.bytes());
    caches.rules.insert(key, rule.clone(), bytes);
    rule
}

fn locate(module: &Placed, address: FileAddress, arch: Arch, caches: &mut Caches) -> Option<Rule> {
    let data = &*module.data;
    if let Some(section) = Section::new(data, CfiSection::EhFrame) {
        let nearest = data
            .section(CfiSection::EhFrameHdr)
            .and_then(|header| eh_hdr::search(data, header, address));
        let entry = nearest.and_then(|nearest| nearest.entry);
        let rule = entry
            .and_then(|entry| entry.offset_from(section.range.address))
            .and_then(|offset| resolve(&section, offset, address, arch))
            .or_else(|| {
                let offset = by_pass(&section, address, nearest, caches)?;
                resolve(&section, offset, address, arch)
            });
        if rule.is_some() {
            return rule;
        }
    }
    let section = Section::new(data, CfiSection::DebugFrame)?;
    let offset = by_pass(&section, address, None, caches)?;
    resolve(&section, offset, address, arch)
}

/// The offset of the entry that holds an address, by the section's index or by
/// going over it. Where the search table proves to list every entry, what it
/// does not find is not there, and an empty index says so from then on.
fn by_pass(
    section: &Section<'_>,
    address: FileAddress,
    table: Option<Nearest>,
    caches: &mut Caches,
) -> Option<u64> {
    let key = (section.data.identity(), section.kind);
    if let Some(index) = caches.indexes.get(&key) {
        return index.find(address);
    }
    let mut pass = section.pass(address);
    if table.is_some_and(|table| table.count >= pass.count) {
        pass.index = Some(Index {
            entries: Vec::new(),
        });
    }
    if let Some(index) = pass.index {
        let bytes = index.bytes();
        caches.indexes.insert(key, Rc::new(index), bytes);
    }
    pass.found
}

/// The row for an address from the entry at an offset, if it is for that code.
fn resolve(section: &Section<'_>, offset: u64, address: FileAddress, arch: Arch) -> Option<Rule> {
    let fde = section.entry(offset)?;
    let cie = section.entry(fde.head.cie?)?;
    if cie.head.cie.is_some() {
        return None;
    }
    let base = section
        .range
        .address
        .0
        .wrapping_add(fde.offset)
        .wrapping_sub(cie.bytes.len() as u64);
    let bases = BaseAddresses::default().set_eh_frame(base);
    let cie_len = cie.bytes.len();
    let bytes = side_by_side(section.kind, cie, &fde)?;
    let vendor = match arch {
        Arch::X86_64 => Vendor::Default,
        Arch::Aarch64 => Vendor::AArch64,
    };
    if section.kind == CfiSection::DebugFrame {
        let mut frames = DebugFrame::new(&bytes, LittleEndian);
        frames.set_address_size(8);
        frames.set_vendor(vendor);
        row(&frames, &bases, cie_len, address)
    } else {
        let mut frames = EhFrame::new(&bytes, LittleEndian);
        frames.set_address_size(8);
        frames.set_vendor(vendor);
        row(&frames, &bases, cie_len, address)
    }
}

/// The bytes of a section that holds just these two.
fn side_by_side(kind: CfiSection, cie: Entry, fde: &Entry) -> Option<Vec<u8>> {
    let id_at = cie.bytes.len() + fde.head.id_at;
    let mut bytes = cie.bytes;
    without_flags(&mut bytes, cie.head.id_at + cie.head.id_len);
    bytes.extend_from_slice(&fde.bytes);
    let id = match kind {
        CfiSection::DebugFrame => 0,
        // Counted back from the id itself.
        _ => u32::try_from(id_at).ok()?,
    };
    let field = bytes.get_mut(id_at..id_at + fde.head.id_len)?;
    field.fill(0);
    field.get_mut(..4)?.copy_from_slice(&id.to_le_bytes());
    Some(bytes)
}

/// Takes aarch64's flags out of a CIE's augmentation, which gimli would refuse:
/// B (return addresses are signed with the second key) and G (a tagged frame)
/// carry no data. What follows moves up; the end is padded with no-operations.
fn without_flags(cie: &mut Vec<u8>, version_at: usize) {
    let len = cie.len();
    let start = version_at + 1;
    let Some(augmentation) = crate::bytes::string_at(cie, start) else {
        return;
    };
    let mut at = start;
    for _ in 0..augmentation.len() {
        match cie.get(at) {
            Some(b'B' | b'G') => {
                cie.remove(at);
            }
            _ => at += 1,
        }
    }
    cie.resize(len, 0);
}

fn row<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    offset: usize,
    address: FileAddress,
) -> Option<Rule> {
    let fde = section
        .fde_from_offset(bases, offset.into(), S::cie_from_offset)
        .ok()
        .filter(|fde| fde.contains(address.0))?;
    let mut context = UnwindContext::<_, Storage>::new_in();
    let row = fde
        .unwind_info_for_address(section, bases, &mut context, address.0)
        .ok()?;
    let mut expressions = Expressions {
        section,
        bytes: Vec::new(),
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Cfa::Register(register.0, *offset),
        CfaRule::Expression(expression) => Cfa::Expression(expressions.take(expression)?),
    };
    let return_column = fde.cie().return_address_register().0;
    let columns: Option<Vec<_>> = row
        .registers()
        .filter(|(register, _)| register.0 < COLUMNS)
        .map(|(register, rule)| Some((register.0, expressions.column(rule)?)))
        .collect();
    Some(Rule {
        cfa,
        columns: columns?.into(),
        return_column,
        expressions: expressions.bytes.into(),
        signal: fde.is_signal_trampoline(),
        first: fde.initial_address() == address.0,
    })
}

/// Gathers the expressions of one row.
struct Expressions<'s, S> {
    section: &'s S,
    bytes: Vec<u8>,
}

impl<S> Expressions<'_, S> {
    fn take<'a>(&mut self, expression: &UnwindExpression<usize>) -> Option<Slice>
    where
        S: UnwindSection<Reader<'a>>,
    {
        let code = expression.get(self.section).ok()?;
        let start = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.extend_from_slice(code.0.slice());
        Some(start..u32::try_from(self.bytes.len()).ok()?)
    }

    fn column<'a>(&mut self, rule: &RegisterRule<usize>) -> Option<Column>
    where
        S: UnwindSection<Reader<'a>>,
    {
        Some(match rule {
            RegisterRule::Undefined => Column::Undefined,
            RegisterRule::SameValue => Column::Same,
            RegisterRule::Offset(offset) => Column::At(*offset),
            RegisterRule::ValOffset(offset) => Column::Value(*offset),
            RegisterRule::Register(register) => Column::Register(register.0),
            RegisterRule::Expression(expression) => Column::AtExpression(self.take(expression)?),
            RegisterRule::ValExpression(expression) => {
                Column::ValueExpression(self.take(expression)?)
            }
            RegisterRule::Architectural | RegisterRule::Constant(_) => return None,
        })
    }
}
