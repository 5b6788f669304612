//! How an entry is found: search table, pass, `.debug_frame`, long lengths.

use super::super::eh_hdr;
use super::synth::{Frames, FRAMES};
use super::*;

const INITIAL: [u8; 5] = [0x0c, 7, 8, 0x90, 1];
const OUTERMOST: [u8; 2] = [0x07, 16];

/// 1104 was called from 1310, whose return address is undefined.
fn crash() -> Crash {
    let mut crash = Crash::new(Arch::X86_64);
    crash.words[16] = at(0x1104);
    crash.words[19] = STACK;
    crash.code(0x130e, &[0xff, 0xd0]);
    crash.stack(STACK, &[0, 0, 0, at(0x1310)]);
    crash
}

fn frames(kind: CfiSection, augmentation: &str) -> Frames {
    Frames::new(kind, FRAMES)
        .cie(augmentation, 16, &INITIAL)
        // Out of order, as linkers leave them.
        .fde(0x1300, 0x20, &OUTERMOST)
        // def_cfa_offset 32
        .fde(0x1100, 0x20, &[0x0e, 32])
}

fn assert_walks(crash: &Crash) {
    assert_walks_by(crash, Trust::Cfi);
}

#[track_caller]
fn assert_walks_by(crash: &Crash, trust: Trust) {
    let (frames, stop) = crash.frames();
    assert_eq!(frames[1..], [(0x1310, trust)]);
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn the_search_table_leads_to_the_entry() {
    let mut crash = crash();
    crash.eh_frame(frames(CfiSection::EhFrame, "zR"));
    assert_walks(&crash);
}

#[test]
fn a_pass_finds_what_has_no_table() {
    let mut crash = crash();
    let bytes = frames(CfiSection::EhFrame, "zR").bytes;
    crash.section(CfiSection::EhFrame, FRAMES, bytes);
    assert_walks(&crash);
}

/// A table that lists only one of two entries.
#[test]
fn a_pass_finds_what_the_table_leaves_out() {
    let mut crash = crash();
    let mut frames = frames(CfiSection::EhFrame, "zR");
    frames.entries.truncate(1);
    crash.eh_frame(frames);
    assert_walks(&crash);
}

#[test]
fn debug_frame_is_the_last_resort() {
    for augmentation in ["", "zR"] {
        let mut crash = crash();
        let bytes = frames(CfiSection::DebugFrame, "").bytes;
        crash.section(CfiSection::DebugFrame, 0, bytes);
        if augmentation == "zR" {
            let other = Frames::new(CfiSection::EhFrame, FRAMES).cie("zR", 16, &INITIAL);
            crash.eh_frame(other.fde(0x1800, 8, &[]));
        }
        assert_walks_by(&crash, Trust::DebugFrame);
    }
}

/// Entries whose length has 64 bits: the id then has 8 bytes.
#[test]
fn long_lengths_are_read() {
    let mut bytes = Vec::new();
    let mut push = |id: u64, body: &[u8]| {
        let len = (8 + body.len()).next_multiple_of(8);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        bytes.extend_from_slice(&(len as u64).to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len() + len - 8 - body.len(), 0);
    };
    push(u64::MAX, &[1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]);
    for (start, row) in [(0x1100_u64, [0x0e, 32]), (0x1300, OUTERMOST)] {
        let mut body = start.to_le_bytes().to_vec();
        body.extend_from_slice(&0x20_u64.to_le_bytes());
        body.extend_from_slice(&row);
        push(0, &body);
    }
    let mut crash = crash();
    crash.section(CfiSection::DebugFrame, 0, bytes);
    assert_walks_by(&crash, Trust::DebugFrame);
}

#[test]
fn an_entry_for_other_code_is_not_used() {
    let mut crash = crash();
    crash.eh_frame(
        Frames::new(CfiSection::EhFrame, FRAMES)
            .cie("zR", 16, &INITIAL)
            // Ends before 1104.
            .fde(0x1100, 4, &[0x0e, 32]),
    );
    let (frames, _) = crash.frames();
    assert_eq!(frames[1], (0x1310, Trust::Scan));
}

#[test]
fn unknown_augmentations_are_refused() {
    let mut crash = crash();
    crash.eh_frame(frames(CfiSection::EhFrame, "zR?"));
    let (frames, _) = crash.frames();
    assert_eq!(frames[1], (0x1310, Trust::Scan));
}

#[test]
fn a_table_is_searched_by_windows() {
    let mut crash = crash();
    let mut frames = Frames::new(CfiSection::EhFrame, FRAMES).cie("zR", 16, &INITIAL);
    for index in 0..2000 {
        frames = frames.fde(TEXT + 2 * index, 2, &[]);
    }
    let entries = frames.entries.clone();
    crash.eh_frame(frames);
    let header = crash.module.section(CfiSection::EhFrameHdr).unwrap();
    for (start, offset) in entries {
        for address in [start, start + 1] {
            let nearest = eh_hdr::search(&crash.module, header, FileAddress(address)).unwrap();
            assert_eq!(nearest.entry, Some(FileAddress(FRAMES + offset)));
            assert_eq!(nearest.count, 2000);
        }
    }
    let below = eh_hdr::search(&crash.module, header, FileAddress(TEXT - 1)).unwrap();
    assert_eq!(below.entry, None);
}
