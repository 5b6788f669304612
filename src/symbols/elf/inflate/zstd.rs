//! Zstandard, a block of at most 128 KB at a time.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::{Error, Read};

use super::{Input, Output, Trouble};

/// How far back a decoder must be able to look (RFC 8878, section 3.1.1.1.2); `--ultra`
/// looks back further.
const MAX_LOOK_BACK: u64 = 8 << 20;
/// What is shown at a time.
const PIECE: usize = 16 * 1024;

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let (held, _) = self.held();
        let len = held.len().min(buf.len());
        buf[..len].copy_from_slice(&held[..len]);
        self.take(len);
        Ok(len)
    }
}

pub(super) fn unpack(input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), Trouble> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_LOOK_BACK);
    decoder.init(&mut *input).map_err(|_| Trouble::Damaged)?;
    let mut piece = vec![0; PIECE];
    loop {
        let block = decoder.decode_blocks(&mut *input, BlockDecodingStrategy::UptoBlocks(1));
        let is_last = block.map_err(|_| Trouble::Damaged)?;
        while decoder.can_collect() > 0 {
            let read = decoder.read(&mut piece).map_err(|_| Trouble::Damaged)?;
            output.put(piece.get(..read).unwrap_or(&[]))?;
        }
        if is_last {
            return Ok(());
        }
        // A block may have no bytes.
        if !output.source.work(super::NS_PER_BYTE) {
            return Err(Trouble::TimedOut);
        }
    }
}
