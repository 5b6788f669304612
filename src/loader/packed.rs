//! The objects as they are stored in the binary: compressed to a third of their size,
//! which saves most of a megabyte.
//!
//! ```text
//! size u32, then until that is reached:
//!   lengths u8      of literals << 4 | of the match - 7; after 15 come bytes
//!   [u8]...         that are added, up to and including the first below 255
//!   literals
//!   distance u16    back to the match, and [u8]... of its length as above;
//!                   neither at the end
//! ```
//!
//! This is the block format of LZ4 but for the shortest match: with matches of 4 bytes,
//! as LZ4 has them, an archive of the binary is 4 KB larger. Only what build.rs has packed
//! is unpacked here, but bytes that make no sense still give `None`.

use crate::base::bytes::Cursor;
use crate::base::error::{Context, Result};
use crate::loader::object::Object;

const SHORTEST_MATCH: usize = 7;

/// An object that build.rs has embedded.
pub fn object(packed: &[u8]) -> Result<Object> {
    let bytes = unpack(packed).unwrap_or_default();
    Object::parse(&bytes).context(|| "an embedded program")
}

/// The bytes that were packed.
#[must_use]
pub fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(packed);
    let size = cursor.u32().ok()? as usize;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let lengths = cursor.u8().ok()?;
        let literals = length(&mut cursor, lengths >> 4)?;
        bytes.extend_from_slice(cursor.take(literals).ok()?);
        if cursor.left() == 0 {
            break;
        }
        let distance = usize::from(cursor.u16().ok()?);
        let from = bytes.len().checked_sub(distance).filter(|_| distance > 0)?;
        let count = length(&mut cursor, lengths & 15)? + SHORTEST_MATCH;
        if count > size - bytes.len() {
            return None;
        }
        // One by one: a match may overlap its own output.
        for at in from..from + count {
            bytes.push(bytes[at]);
        }
    }
    (bytes.len() == size).then_some(bytes)
}

fn length(cursor: &mut Cursor<'_>, first: u8) -> Option<usize> {
    let mut length = usize::from(first);
    let mut goes_on = first == 15;
    while goes_on {
        let more = cursor.u8().ok()?;
        length += usize::from(more);
        goes_on = more == 255;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_matches_that_overlap() {
        let packed = [&[13, 0, 0, 0, 0x20][..], b"ab", &[2, 0], &[0x40], b"wxyz"].concat();
        assert_eq!(unpack(&packed).unwrap(), b"ababababawxyz");
    }

    #[test]
    fn any_cut_or_changed_byte_gives_nothing_or_the_right_size() {
        let packed = [&[12, 0, 0, 0, 0x20][..], b"ab", &[2, 0], &[0x30], b"xyz"].concat();
        for end in 0..packed.len() {
            assert_eq!(unpack(&packed[..end]), None, "{end}");
        }
        for at in 4..packed.len() {
            for value in 0..=255 {
                let mut changed = packed.clone();
                changed[at] = value;
                assert!(unpack(&changed).is_none_or(|bytes| bytes.len() == 12));
            }
        }
    }
}
