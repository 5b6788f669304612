//! A copy of the vDSO: the code that the kernel maps into every process.
//!
//! It is in no file. Every process of this kernel and word size has the same image as
//! our own process, at another address. The image comes out as bytes, to be parsed like
//! a file.
//!
//! # Safety
//!
//! The kernel maps the whole image, readable, for the life of the process, at
//! the address that it puts in the auxiliary vector (`AT_SYSINFO_EHDR`,
//! `fs/binfmt_elf.c`). How long it is comes from `/proc/self/maps`; without
//! `/proc` there is no image.

use std::io::{BufRead, BufReader};

/// More than any kernel's image has.
const MAX_BYTES: usize = 256 * 1024;

/// The whole image, or `None` if the kernel gives none.
#[must_use]
pub fn image() -> Option<Vec<u8>> {
    // SAFETY: getauxval only looks a number up.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let start = usize::try_from(start).ok().filter(|&start| start != 0)?;
    let len = mapped_len(start)?.min(MAX_BYTES);
    // SAFETY: the kernel put the image at `start` for as long as we live, and
    // /proc/self/maps has just said that `len` bytes are readable there; nothing
    // writes to them.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len) };
    Some(bytes.to_vec())
}

/// The length of the readable mapping that begins at `start`.
fn mapped_len(start: usize) -> Option<usize> {
    let maps = std::fs::File::open("/proc/self/maps").ok()?;
    for line in BufReader::new(maps).split(b'\n') {
        // Our own path may stand in it, which need not be UTF-8.
        let line = String::from_utf8_lossy(&line.ok()?).into_owned();
        let (range, rest) = line.split_once(' ')?;
        let (low, high) = range.split_once('-')?;
        let low = usize::from_str_radix(low, 16).ok()?;
        if low == start && rest.starts_with('r') {
            return usize::from_str_radix(high, 16).ok()?.checked_sub(low);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn our_own_image_is_an_elf_file() {
        let image = super::image().unwrap();
        assert_eq!(&image[..4], b"\x7fELF");
        assert_eq!(image.len() % 4096, 0);
    }
}
