//! The dynamic linker's symbol table, if no section header names it.
//!
//! In: the dynamic segment. Out: a [`SymbolTable`]. The dynamic section says where symbols
//! and strings begin, but only the hash table gives the number of symbols: `DT_HASH`
//! directly, `DT_GNU_HASH` as the end of its last chain.
//! The format: System V ABI, "Dynamic Section"; for the GNU hash table glibc's
//! `elf/dl-setup_hash.c`.

use goblin::container::Ctx;

use super::source::{FileRange, Source};
use super::symtab::SymbolTable;
use super::Segments;
use crate::base::bytes::Cursor;

const MAX_DYNAMIC: u64 = 64 * 1024;
/// Buckets of a GNU hash table, and steps along its last chain.
const MAX_BUCKETS: u32 = 1 << 20;
const MAX_CHAIN: u64 = 1 << 12;

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

#[derive(Default)]
struct Tags {
    hash: Option<u64>,
    gnu_hash: Option<u64>,
    symbols: Option<u64>,
    strings: Option<u64>,
    strings_size: Option<u64>,
}

pub(crate) fn symbol_table(source: &Source, ctx: Ctx, segments: &Segments) -> Option<SymbolTable> {
    let tags = read_tags(source, ctx, segments)?;
    let count = tags
        .hash
        .and_then(|address| hash_count(source, segments, address))
        .or_else(|| gnu_hash_count(source, ctx, segments, tags.gnu_hash?))?;
    let (offset, left) = segments.locate(tags.symbols?)?;
    let symbols = FileRange {
        offset,
        size: count.checked_mul(SymbolTable::entry_size(ctx))?.min(left),
    };
    let (offset, left) = segments.locate(tags.strings?)?;
    let strings = FileRange {
        offset,
        size: tags.strings_size?.min(left),
    };
    SymbolTable::new(ctx, symbols.within(source.size()), strings, true)
}

fn read_tags(source: &Source, ctx: Ctx, segments: &Segments) -> Option<Tags> {
    let range = segments.dynamic?.range.within(source.size());
    let size = usize::try_from(range.size.min(MAX_DYNAMIC)).ok()?;
    let bytes = source.read_vec(range.offset, size)?;
    let mut cursor = Cursor::new(&bytes);
    let mut tags = Tags::default();
    while let Some((tag, value)) = read_pair(&mut cursor, ctx) {
        match tag {
            0 => break,
            DT_HASH => tags.hash = Some(value),
            DT_GNU_HASH => tags.gnu_hash = Some(value),
            DT_SYMTAB => tags.symbols = Some(value),
            DT_STRTAB => tags.strings = Some(value),
            DT_STRSZ => tags.strings_size = Some(value),
            _ => {}
        }
    }
    Some(tags)
}

fn read_pair(cursor: &mut Cursor<'_>, ctx: Ctx) -> Option<(u64, u64)> {
    if ctx.is_big() {
        Some((cursor.u64().ok()?, cursor.u64().ok()?))
    } else {
        Some((cursor.u32().ok()?.into(), cursor.u32().ok()?.into()))
    }
}

/// `nchain` is the number of symbols.
fn hash_count(source: &Source, segments: &Segments, address: u64) -> Option<u64> {
    let (offset, left) = segments.locate(address)?;
    let mut head = [0; 8];
    source.read_exact(offset, &mut head)?;
    let [_, _, _, _, chains @ ..] = head;
    let count = u64::from(u32::from_le_bytes(chains));
    (count <= left / 4).then_some(count)
}

/// The highest bucket begins the last chain; its end, marked by a set low bit,
/// is the last symbol.
fn gnu_hash_count(source: &Source, ctx: Ctx, segments: &Segments, address: u64) -> Option<u64> {
    let (offset, left) = segments.locate(address)?;
    let mut head = [0; 16];
    source.read_exact(offset, &mut head)?;
    let mut cursor = Cursor::new(&head);
    let buckets = cursor.u32().ok()?;
    let first_hashed = cursor.u32().ok()?;
    let bloom_words = cursor.u32().ok()?;
    if buckets > MAX_BUCKETS {
        return None;
    }
    let bloom_size = u64::from(bloom_words) * if ctx.is_big() { 8 } else { 4 };
    let buckets_at = 16 + bloom_size;
    let chains_at = buckets_at + u64::from(buckets) * 4;
    if chains_at > left {
        return None;
    }
    let bytes = source.read_vec(offset.checked_add(buckets_at)?, buckets as usize * 4)?;
    let last = bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .max()
        .unwrap_or(0);
    let Some(first_link) = last.checked_sub(first_hashed) else {
        // Every bucket is empty: only undefined symbols.
        return Some(first_hashed.into());
    };
    let chain_at = chains_at + u64::from(first_link) * 4;
    let mut at = offset.checked_add(chain_at)?;
    for step in 1..=MAX_CHAIN {
        let mut word = [0; 4];
        source.read_exact(at, &mut word)?;
        if word[0] & 1 != 0 {
            return Some(u64::from(last) + step);
        }
        at = at.checked_add(4)?;
    }
    None
}
