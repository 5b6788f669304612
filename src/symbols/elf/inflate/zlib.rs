//! zlib, through a window of as many bytes as it looks back.

use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER,
};
use miniz_oxide::inflate::core::{decompress, DecompressorOxide, TINFL_LZ_DICT_SIZE};
use miniz_oxide::inflate::TINFLStatus;

use super::{Input, Output, Trouble};

pub(super) fn unpack(input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), Trouble> {
    let mut state = Box::new(DecompressorOxide::new());
    let mut window = vec![0; TINFL_LZ_DICT_SIZE];
    let mut at = 0;
    loop {
        let (packed, more) = input.held();
        let flags = match more {
            true => TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_HAS_MORE_INPUT,
            false => TINFL_FLAG_PARSE_ZLIB_HEADER,
        };
        let (status, read, written) = decompress(&mut state, packed, &mut window, at, flags);
        input.take(read);
        output.put(window.get(at..at + written).unwrap_or(&[]))?;
        at = (at + written) % TINFL_LZ_DICT_SIZE;
        match status {
            TINFLStatus::Done => return Ok(()),
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if more => {}
            _ => return Err(Trouble::Damaged),
        }
        if !output.source.work(super::NS_PER_BYTE) {
            return Err(Trouble::TimedOut);
        }
    }
}
