//! Symbols that a distribution compressed into the stripped program itself.
//!
//! In: the section `.gnu_debugdata`, an xz stream. Out: the ELF file in it, in
//! memory. Its size is added up from the headers of its chunks before anything is
//! unpacked, because the decoder would allocate whatever they say. Only one block is
//! accepted, as `xz` makes it from files of such size; other filters are refused.
//! GDB manual, "MiniDebugInfo"; "The .xz File Format" 1.2; xz's
//! `src/liblzma/lzma/lzma2_decoder.c`.

use std::rc::Rc;

use super::source::{FileRange, Source};
use super::ElfFile;
use crate::base::allowance::Allowance;
use crate::base::bytes::Cursor;

/// Fedora's largest have some 400 KB, and unpack to ten times that.
const MAX_PACKED: u64 = 4 << 20;
const MAX_UNPACKED: u64 = 16 << 20;
/// What it takes to unpack one.
const NS_PER_BYTE: u64 = 8;

/// The file in the section.
pub(crate) fn unpack(source: &Source, section: FileRange) -> Option<ElfFile> {
    if section.size > MAX_PACKED {
        return None;
    }
    let packed = source.read_vec(section.offset, usize::try_from(section.size).ok()?)?;
    let size = unpacked_size(&packed).filter(|&size| size <= MAX_UNPACKED)?;
    let affords = |left: &Rc<Allowance>| left.affords(size * NS_PER_BYTE);
    if !source.allowance().is_none_or(affords) {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
    lzma_rs::xz_decompress(&mut &packed[..], &mut bytes).ok()?;
    bytes.shrink_to_fit();
    ElfFile::parse(Source::memory(bytes).within(source.allowance())).ok()
}

/// The size of the only block of a stream, from the headers of its chunks.
fn unpacked_size(stream: &[u8]) -> Option<u64> {
    const MAGIC: &[u8] = b"\xfd7zXZ\0";
    const STREAM_HEADER: usize = 12;
    const INDEX: u8 = 0;
    if !stream.starts_with(MAGIC) {
        return None;
    }
    let mut cursor = Cursor::at(stream, STREAM_HEADER);
    let block_header = usize::from(cursor.u8().ok().filter(|&size| size != INDEX)?) * 4 + 3;
    cursor.skip(block_header).ok()?;
    let mut unpacked = 0;
    loop {
        let control = cursor.u8().ok()?;
        let big = |cursor: &mut Cursor<'_>| cursor.array().ok().map(u16::from_be_bytes);
        match control {
            0 => break,
            // Not compressed.
            1 | 2 => {
                let size = u64::from(big(&mut cursor)?) + 1;
                unpacked += size;
                cursor.skip(usize::try_from(size).ok()?).ok()?;
            }
            3..0x80 => return None,
            _ => {
                let high = u64::from(control & 0x1f) << 16;
                unpacked += (high | u64::from(big(&mut cursor)?)) + 1;
                let packed = usize::from(big(&mut cursor)?) + 1;
                // From 0xc0 on new properties follow.
                cursor.skip(packed + usize::from(control >= 0xc0)).ok()?;
            }
        }
    }
    // To a multiple of four, and a check value whose kind is in the stream's flags.
    let check = match stream.get(7)? & 0x0f {
        0 => 0,
        kind => 4 << ((kind - 1) / 3),
    };
    let at = cursor.offset().next_multiple_of(4) + check;
    (stream.get(at) == Some(&INDEX)).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn packed(bytes: &[u8], options: &[&str]) -> Vec<u8> {
        let mut command = Command::new("xz");
        command.args(options).arg("-c");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("xz");
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let out = child.wait_with_output().expect("our own child");
        writer.join().expect("no panic").expect("xz reads all");
        assert!(out.status.success(), "xz {options:?}");
        out.stdout
    }

    fn file(packed: Vec<u8>) -> Option<ElfFile> {
        let range = FileRange {
            offset: 0,
            size: packed.len() as u64,
        };
        unpack(&Source::memory(packed), range)
    }

    #[test]
    fn what_xz_packed_is_unpacked() {
        if !host::has("xz") {
            return;
        }
        let program = std::fs::read("/bin/ls").unwrap();
        for options in [
            &[][..],
            &["-0"],
            &["-9e"],
            &["-Ccrc32"],
            &["-Cnone"],
            &["-Csha256"],
        ] {
            let packed = packed(&program, options);
            assert_eq!(unpacked_size(&packed), Some(program.len() as u64));
            let elf = file(packed);
            if options != ["-Csha256"] {
                assert_eq!(elf.unwrap().source().size(), program.len() as u64);
            }
        }
    }

    #[test]
    fn what_would_unpack_to_too_much_is_refused() {
        if !host::has("xz") {
            return;
        }
        let bomb = packed(&vec![0; 64 << 20], &["-9"]);
        assert!(bomb.len() < 100_000);
        assert_eq!(unpacked_size(&bomb), Some(64 << 20));
        assert!(file(bomb).is_none());
    }

    #[test]
    fn streams_of_any_content_do_no_harm() {
        if !host::has("xz") {
            return;
        }
        let good = packed(&std::fs::read("/bin/true").unwrap(), &["-0"]);
        for at in 0..good.len().min(3000) {
            for value in [0x00, 0x01, 0x80, 0xe0, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                // Most do not decode; none may unpack to more than was said.
                if at < 64 || at % 37 == 0 {
                    let _ = file(bytes);
                } else {
                    let _ = unpacked_size(&bytes);
                }
            }
            let _ = file(good[..at].to_vec());
        }
    }
}
