//! From an address in a file to the row of call-frame information for it.
//!
//! The entry is found without holding the section in memory: by the search table of
//! `.eh_frame_hdr`, else by a pass over `.eh_frame`, else by one over
//! `.debug_frame`; its index is kept. The CIE and the entry are then put into an
//! `.eh_frame` of their own, whichever section they come from,
//!
//! ```text
//! [CIE][FDE, its CIE pointer patched]      base = address of the FDE - |CIE|
//! ```
//!
//! so that gimli reads a few hundred bytes and pc-relative addresses come out
//! right. The result is kept as a [`Rule`], by file and address.

use std::rc::Rc;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, LittleEndian, ReaderOffset, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection,
    UnwindTableRow, Vendor,
};

use super::architecture::COLUMNS;
use super::cache::{Caches, Index};
use super::eh_hdr::{self, Nearest};
use super::exidx;
use super::frames::{Entry, Section, MAX_PASS};
use super::rule::{Cfa, Column, Rule, Slice};
use super::{CfiSection, ModuleData, Placed, WALKS_ARM};
use crate::base::address::{FileAddress, ProcessAddress};
use crate::base::allowance::Step;
use crate::crash::registers::Arch;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes of an entry's length and id.
const HEAD: usize = 8;

/// Units of work for a byte of an entry: to remember a row copies all of it.
const WORK_PER_BYTE: u64 = 128;
/// The same for a byte of a section that is gone over.
const PASS_PER_BYTE: u64 = 1;

/// Units of work for a search of ARM's table.
const TABLE: u64 = 4096;

/// Room for rows: aarch64 code has been seen with 20 rules and 2 remembered states.
struct Storage;

impl<T: ReaderOffset> UnwindContextStorage<T> for Storage {
    type Rules = [(Register, RegisterRule<T>); 96];
    type Stack = Box<[UnwindTableRow<T, Self>; 8]>;
}

/// The row for an address that is to be looked up, which is not a return address.
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
    let allowance = caches.allowance.clone();
    let _turn = allowance.turn(module.data.identity(), Step::Calls)?;
    let rule = locate(module, address, arch, caches).map(Rc::new);
    if rule.is_some() || !caches.is_out() {
        let bytes = rule.as_ref().map_or(0, |rule| rule.bytes());
        caches.rules.insert(key, rule.clone(), bytes);
    }
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
            .and_then(|offset| resolve(&section, offset, address, arch, caches))
            .or_else(|| {
                let offset = by_pass(&section, address, nearest, caches)?;
                resolve(&section, offset, address, arch, caches)
            });
        if rule.is_some() {
            return rule;
        }
    }
    match by_debug_frame(data, address, arch, caches) {
        None if WALKS_ARM && arch == Arch::Arm => {
            caches.work(TABLE)?;
            exidx::rule(data, address)
        }
        rule => rule,
    }
}

fn by_debug_frame(
    data: &dyn ModuleData,
    address: FileAddress,
    arch: Arch,
    caches: &mut Caches,
) -> Option<Rule> {
    let section = Section::new(data, CfiSection::DebugFrame)?;
    let offset = by_pass(&section, address, None, caches)?;
    resolve(&section, offset, address, arch, caches)
}

/// The offset of the entry that holds an address, by the section's index or by a pass over
/// the section. If the search table proves to list every entry, an address that it does
/// not find has none, and an empty index says so from then on.
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
    caches.work(section.range.size.min(MAX_PASS) * PASS_PER_BYTE)?;
    let mut pass = section.pass(address, caches)?;
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
fn resolve(
    section: &Section<'_>,
    offset: u64,
    address: FileAddress,
    arch: Arch,
    caches: &mut Caches,
) -> Option<Rule> {
    let fde = section.entry(offset)?;
    let cie = section.entry(fde.head.cie?)?;
    let len = fde.bytes.len() as u64 + cie.bytes.len() as u64;
    caches.work(len * WORK_PER_BYTE)?;
    if cie.head.cie.is_some() {
        return None;
    }
    let mut bytes = Vec::with_capacity(cie.bytes.len() + fde.bytes.len());
    let cie_body = cie_body(section, &cie)?;
    push(&mut bytes, 0, &cie_body)?;
    let fde_at = bytes.len();
    // Counted back from the id itself, which stands after the length.
    push(&mut bytes, u32::try_from(fde_at).ok()? + 4, fde.body()?)?;
    let base = section
        .range
        .address
        .0
        .wrapping_add(fde.offset)
        .wrapping_add(fde.body_at() as u64)
        .wrapping_sub((fde_at + HEAD) as u64);
    let bases = BaseAddresses::default().set_eh_frame(base);
    let mut frames = EhFrame::new(&bytes, LittleEndian);
    frames.set_address_size(section.data.address_bytes());
    frames.set_vendor(match arch {
        Arch::Aarch64 => Vendor::AArch64,
        _ => Vendor::Default,
    });
    let mut rule = row(&frames, &bases, fde_at, address)?;
    rule.debug = section.kind == CfiSection::DebugFrame;
    Some(rule)
}

/// Appends an entry: its length, its id, the rest.
fn push(bytes: &mut Vec<u8>, id: u32, body: &[u8]) -> Option<()> {
    let len = u32::try_from(body.len()).ok()?.checked_add(4)?;
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(body);
    Some(())
}

/// A CIE after its id, as `.eh_frame` has it. This removes aarch64's flags, which gimli
/// would refuse and which carry no data: B (return addresses are signed with the second
/// key) and G (a tagged frame). It also removes the address and segment sizes that
/// `.debug_frame` has since version 4.
fn cie_body(section: &Section<'_>, cie: &Entry) -> Option<Vec<u8>> {
    let (&version, rest) = cie.body()?.split_first()?;
    let augmentation = crate::base::bytes::string_at(rest, 0)?;
    let mut rest = rest.get(augmentation.len() + 1..)?;
    let sized = section.kind == CfiSection::DebugFrame && version >= 4;
    if sized {
        rest = rest.strip_prefix(&[section.data.address_bytes(), 0])?;
    }
    let mut body = vec![if sized { 3 } else { version }];
    let letters = augmentation
        .iter()
        .filter(|flag| !matches!(flag, b'B' | b'G'));
    body.extend(letters);
    body.push(0);
    body.extend_from_slice(rest);
    Some(body)
}

fn row(
    section: &EhFrame<Reader<'_>>,
    bases: &BaseAddresses,
    offset: usize,
    address: FileAddress,
) -> Option<Rule> {
    let fde = section
        .fde_from_offset(bases, offset.into(), EhFrame::cie_from_offset)
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
        debug: false,
        at_calls: false,
        start: FileAddress(fde.initial_address()),
    })
}

/// Gathers the expressions of one row.
struct Expressions<'a> {
    section: &'a EhFrame<Reader<'a>>,
    bytes: Vec<u8>,
}

impl Expressions<'_> {
    fn take(&mut self, expression: &UnwindExpression<usize>) -> Option<Slice> {
        let code = expression.get(self.section).ok()?;
        let start = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.extend_from_slice(code.0.slice());
        Some(start..u32::try_from(self.bytes.len()).ok()?)
    }

    fn column(&mut self, rule: &RegisterRule<usize>) -> Option<Column> {
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
