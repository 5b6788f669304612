//! Names of the stubs through which a file calls into others: `puts@plt`.
//!
//! In: an address in `.plt`, `.plt.sec` or `.plt.got`. Out: the symbol that the
//! stub's jump goes to. The stub is decoded to find the slot that it jumps through;
//! the relocation of that slot names the symbol. So the order of stubs, which
//! differs among linkers, does not matter. x86-64 and aarch64.
//! The layouts: psABI x86-64, "Procedure Linkage Table"; binutils
//! `bfd/elfnn-aarch64.c`.

use goblin::container::Ctx;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};

use super::place::Place;
use super::source::{FileRange, Source};
use super::symtab::{Answer, Found, SymbolTable};
use crate::base::address::FileAddress;
use crate::base::bytes::Cursor;

/// 24 MB of relocations; programs have some thousand.
const MAX_RELOCATIONS: u64 = 1 << 20;
const RELOCATION: usize = 24;
const WINDOW: usize = RELOCATION * 1024;
const SUFFIX: &[u8] = b"@plt";

/// A section of stubs.
#[derive(Clone, Copy, Debug)]
struct Stubs {
    place: Place,
    /// Bytes before the first stub.
    head: u64,
    /// Bytes of each.
    each: u64,
}

/// The stubs of a file, and the relocations of their slots.
#[derive(Debug, Default)]
pub(crate) struct Plt {
    stubs: Vec<Stubs>,
    relocations: Vec<FileRange>,
}

/// An address that is in a stub.
struct Wanted {
    index: usize,
    start: u64,
    end: u64,
    slot: u64,
    symbol: Option<u64>,
}

impl Plt {
    /// Takes a section if it is a wanted one.
    pub(crate) fn take(&mut self, name: &[u8], place: Place, entry_size: u64, machine: u16) {
        match name {
            b".plt" | b".plt.sec" | b".plt.got" if self.stubs.len() < 4 => {
                let long_head = name == b".plt" && machine == EM_AARCH64;
                self.stubs.push(Stubs {
                    place,
                    head: if long_head { 32 } else { 0 },
                    each: if matches!(entry_size, 8 | 16 | 24) {
                        entry_size
                    } else {
                        16
                    },
                });
            }
            // The first has the slots of `.plt` and `.plt.sec`.
            b".rela.plt" => self.relocations.insert(0, place.range),
            b".rela.dyn" if self.relocations.len() < 2 => self.relocations.push(place.range),
            _ => {}
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.stubs.capacity() * size_of::<Stubs>()
            + self.relocations.capacity() * size_of::<FileRange>()
    }

    /// Adds the names of stubs to `answers`; an answer that has a symbol keeps it.
    pub(crate) fn functions(
        &self,
        source: &Source,
        ctx: Ctx,
        machine: u16,
        dynsym: &SymbolTable,
        addresses: &[FileAddress],
        answers: &mut [Answer],
    ) {
        if !ctx.is_big() || self.stubs.is_empty() {
            return;
        }
        let mut wanted: Vec<Wanted> = addresses
            .iter()
            .enumerate()
            .filter(|(index, _)| answers[*index].found.is_none())
            .filter_map(|(index, address)| self.decode(source, machine, index, address.0))
            .collect();
        for &relocations in &self.relocations {
            if wanted.iter().any(|wanted| wanted.symbol.is_none()) {
                find_symbols(source, relocations, &mut wanted);
            }
        }
        for wanted in wanted {
            let name = wanted
                .symbol
                .and_then(|symbol| dynsym.name_of(source, ctx, symbol));
            let Some(mut name) = name else { continue };
            name.extend_from_slice(SUFFIX);
            answers[wanted.index] = Answer {
                low: FileAddress(wanted.start),
                high: FileAddress(wanted.end),
                found: Some(Found {
                    name,
                    start: FileAddress(wanted.start),
                    size: wanted.end - wanted.start,
                }),
            };
        }
    }

    fn decode(&self, source: &Source, machine: u16, index: usize, address: u64) -> Option<Wanted> {
        let (stubs, within) = self.stubs.iter().find_map(|stubs| {
            let within = address.checked_sub(stubs.place.address)?;
            (within < stubs.place.range.size).then_some((stubs, within))
        })?;
        let number = within.checked_sub(stubs.head)? / stubs.each;
        let offset = stubs.head + number * stubs.each;
        let start = stubs.place.address.checked_add(offset)?;
        let mut code = [0; 24];
        let len = usize::try_from(stubs.each).ok()?.min(code.len());
        let place = stubs.place.range.offset.checked_add(offset)?;
        source.read_exact(place, &mut code[..len])?;
        let slot = match machine {
            EM_X86_64 => x86_64_slot(&code[..len], start)?,
            EM_AARCH64 => aarch64_slot(&code[..len], start)?,
            _ => return None,
        };
        Some(Wanted {
            index,
            start,
            end: start.checked_add(stubs.each)?,
            slot,
            symbol: None,
        })
    }
}

/// `jmp *disp(%rip)`, after `endbr64` or `bnd` or both.
fn x86_64_slot(code: &[u8], start: u64) -> Option<u64> {
    [0, 1, 4, 5].into_iter().find_map(|at| {
        let disp = code.get(at..at + 6)?.strip_prefix(&[0xff, 0x25])?;
        let disp = i32::from_le_bytes(disp.try_into().ok()?);
        let next = start.wrapping_add(at as u64 + 6);
        Some(next.wrapping_add_signed(disp.into()))
    })
}

/// `adrp x16, page; ldr x17, [x16, #offset]`, perhaps after `bti c`.
fn aarch64_slot(code: &[u8], start: u64) -> Option<u64> {
    let words: Vec<u32> = code
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    words.windows(2).enumerate().find_map(|(index, pair)| {
        let [adrp, ldr] = [pair[0], pair[1]];
        if adrp & 0x9f00_001f != 0x9000_0010 || ldr & 0xffc0_03ff != 0xf940_0211 {
            return None;
        }
        let pages = (adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3;
        // 21 bits with a sign.
        let pages = i64::from((pages << 11).cast_signed() >> 11);
        let page = start.wrapping_add(index as u64 * 4) & !0xfff;
        let offset = u64::from(ldr >> 10 & 0xfff) * 8;
        Some(page.wrapping_add_signed(pages << 12).wrapping_add(offset))
    })
}

/// One pass over `Elf64_Rela`s: r_offset, r_info (symbol << 32 | type), r_addend.
fn find_symbols(source: &Source, range: FileRange, wanted: &mut [Wanted]) {
    let whole = range.size.min(MAX_RELOCATIONS * RELOCATION as u64);
    let mut window = vec![0; WINDOW];
    let mut done = 0;
    while done < whole {
        let len = (whole - done).min(WINDOW as u64) as usize;
        let Some(at) = range.offset.checked_add(done) else {
            return;
        };
        let read = source.read_at(at, &mut window[..len]);
        // Each is compared with all.
        if !source.work(read as u64 / 32 * wanted.len() as u64) {
            return;
        }
        for entry in window[..read].chunks_exact(RELOCATION) {
            let mut cursor = Cursor::new(entry);
            let (Ok(slot), Ok(info)) = (cursor.u64(), cursor.u64()) else {
                return;
            };
            for wanted in wanted.iter_mut().filter(|wanted| wanted.slot == slot) {
                wanted.symbol = Some(info >> 32).filter(|&symbol| symbol != 0);
            }
        }
        if read < len {
            return;
        }
        done += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_x86_64_stubs() {
        // 1020: ff 25 da 2f 00 00  jmp *0x2fda(%rip) # 4000; 68 .. push; e9 .. jmp
        let lazy = [
            0xff, 0x25, 0xda, 0x2f, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0,
        ];
        assert_eq!(x86_64_slot(&lazy, 0x1020), Some(0x4000));
        // 1050: f3 0f 1e fa endbr64; ff 25 76 2f 00 00 jmp *0x2f76(%rip) # 3fd0
        let mut sec = [0x90; 16];
        sec[..10].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0x76, 0x2f, 0, 0]);
        assert_eq!(x86_64_slot(&sec, 0x1050), Some(0x3fd0));
        assert_eq!(x86_64_slot(&[0xff, 0x25, 1], 0), None);
        assert_eq!(x86_64_slot(&[0x90; 16], 0), None);
    }

    #[test]
    fn slots_of_aarch64_stubs() {
        // 640: adrp x16, 1f000; ldr x17, [x16, #4008]; add x16, x16, #0xfa8; br x17
        let words = [0xf000_00f0_u32, 0xf947_d611, 0x913e_a210, 0xd61f_0220];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(aarch64_slot(&code, 0x640), Some(0x1_ffa8));
        // Backwards: adrp x16, -1 page.
        let back = [0xf0ff_fff0_u32, 0xf940_0211];
        let code: Vec<u8> = back.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(aarch64_slot(&code, 0x5000), Some(0x4000));
        assert_eq!(aarch64_slot(&code[..7], 0x5000), None);
    }
}
