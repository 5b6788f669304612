//! aarch64: the link register, frame records, signed return addresses.

use super::*;

const FP: usize = 29;
const LR: usize = 30;
const SP: usize = 31;
const PC: usize = 32;

fn crash(pc: u64) -> Crash {
    let mut crash = Crash::new(Arch::Aarch64);
    crash.words[PC] = pc;
    crash.words[SP] = STACK;
    crash
}

impl Crash {
    /// A `bl` of `target` whose return address is `returns`.
    fn branch(&mut self, returns: u64, target: u64) {
        let words = target.wrapping_sub(returns - 4) / 4;
        let code = 0x9400_0000 | (words as u32 & 0x03ff_ffff);
        self.code(returns - 4, &code.to_le_bytes());
    }
}

#[test]
fn the_caller_of_a_bad_pc_is_in_the_link_register() {
    let mut crash = crash(0);
    // blr x1
    crash.code(0x121c, &0xd63f_0020_u32.to_le_bytes());
    crash.words[LR] = at(0x1220);
    let (frames, _) = crash.frames();
    assert_eq!(frames, [(0, Trust::Context), (0x1220, Trust::Leaf)]);
}

/// Two functions without CFI, each with its frame record.
#[test]
fn frame_records_are_followed() {
    let mut crash = crash(at(0x1110));
    crash.branch(0x1220, 0x1100);
    crash.branch(0x1330, 0x1200);
    // stp x29, x30, [sp, #-32]!; mov x29, sp
    let prologue = [0xa9be_7bfd_u32.to_le_bytes(), 0x9100_03fd_u32.to_le_bytes()];
    crash.code(0x1100, &prologue.concat());
    crash.module.functions = vec![(0x1100, 0x40), (0x1200, 0x40)];
    // Left over from a call that the function made itself.
    crash.code(0x1108, &0x9400_0040_u32.to_le_bytes());
    crash.words[LR] = at(0x110c);
    crash.words[FP] = STACK;
    crash.stack(STACK, &[STACK + 0x40, at(0x1220), 0, 0]);
    crash.stack(STACK + 0x40, &[0, at(0x1330), 0, 0]);
    let (frames, _) = crash.frames();
    let expected = [
        (0x1110, Trust::Context),
        (0x1220, Trust::FramePointer),
        (0x1330, Trust::FramePointer),
    ];
    assert_eq!(frames, expected);
}

/// mov x8, #139; svc #0, as in the vDSO; x0 at sp+312, sp at sp+560, pc at sp+568.
#[test]
fn a_handler_leads_to_what_it_interrupted() {
    let mut crash = crash(at(0x1180));
    crash.code(0x1180, &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    crash.branch(0x1330, 0x1200);
    crash.stack(STACK + 312, &[0; 33]);
    crash.stack(STACK + 312 + 30 * 8, &[at(0x1330)]);
    crash.stack(STACK + 560, &[STACK - 0x1000, at(0x1204)]);
    let (frames, _) = crash.frames();
    let expected = [
        (0x1180, Trust::Context),
        (0x1204, Trust::Signal),
        (0x1330, Trust::Leaf),
    ];
    assert_eq!(frames, expected);
}

#[cfg(feature = "dwarf")]
mod rows {
    use super::super::synth::{Frames, FRAMES};
    use super::*;

    /// An authentication code above 48 bits of address.
    const SIGNED: u64 = 0x1a << 49;

    /// def_cfa sp, 0
    const INITIAL: [u8; 3] = [0x0c, 31, 0];
    /// undefined x30
    const OUTERMOST: [u8; 2] = [0x07, 30];
    /// stp x29, x30, [sp, #-32]!: cfa = sp+32, x29 = [cfa-32], x30 = [cfa-24]
    const RECORD: [u8; 6] = [0x0e, 32, 0x9d, 4, 0x9e, 3];

    /// ```text
    /// 1100 leaf:   ldr x0, [x0]            cfa = sp, x30 same
    /// 1200 outer:  stp x29, x30, [sp, #-32]!; mov x29, sp
    /// 121c         bl leaf                 returns to 1220
    /// 1300 _start: bl outer                returns to 1310; x30 undefined
    /// ```
    fn three_frames(augmentation: &str, record: &[u8]) -> Crash {
        let mut crash = crash(at(0x1104));
        crash.branch(0x1220, 0x1100);
        crash.branch(0x1310, 0x1200);
        crash.eh_frame(
            Frames::new(CfiSection::EhFrame, FRAMES)
                .cie(augmentation, 30, &INITIAL)
                .fde(0x1100, 0x20, &[])
                .fde(0x1200, 0x40, record)
                .fde(0x1300, 0x20, &OUTERMOST),
        );
        crash.words[LR] = at(0x1220);
        crash.stack(STACK, &[STACK + 0x100, at(0x1310), 0, 0]);
        crash
    }

    fn assert_three_frames(crash: &Crash) {
        let (frames, stop) = crash.frames();
        let expected = [
            (0x1104, Trust::Context),
            (0x1220, Trust::Cfi),
            (0x1310, Trust::Cfi),
        ];
        assert_eq!(frames, expected);
        assert_eq!(stop, Stop::Outermost);
    }

    #[test]
    fn a_leaf_has_its_return_address_in_the_link_register() {
        assert_three_frames(&three_frames("zR", &RECORD));
    }

    /// -mbranch-protection=standard: paciasp, then negate_ra_state (0x2d).
    #[test]
    fn signed_return_addresses_are_stripped() {
        let mut row = vec![0x2d];
        row.extend_from_slice(&RECORD);
        // B: signed with the second key.
        for augmentation in ["zR", "zRB", "zBR"] {
            let mut crash = three_frames(augmentation, &row);
            crash.stack(STACK + 8, &[at(0x1310) | SIGNED]);
            assert_three_frames(&crash);
        }
    }

    /// A row that says "same" for x30 in a function that has called: it would
    /// return to itself for ever.
    #[test]
    fn a_caller_has_no_return_address_in_the_link_register() {
        let crash = three_frames("zR", &[]);
        let (frames, stop) = crash.frames();
        assert!(frames.len() <= 3, "{frames:x?}");
        assert_ne!(stop, Stop::Depth);
    }

    /// A frame record does not have the caller's sp; the caller's row gives it, with x29.
    #[test]
    fn rows_resume_behind_a_frame_record() {
        let mut crash = three_frames("zR", &RECORD);
        crash.module.sections.clear();
        crash.eh_frame(
            Frames::new(CfiSection::EhFrame, FRAMES)
                .cie("zR", 30, &INITIAL)
                .fde(0x1200, 0x40, &RECORD)
                .fde(0x1300, 0x20, &OUTERMOST),
        );
        crash.words[LR] = 0;
        crash.words[FP] = STACK;
        crash.stack(STACK, &[STACK + 0x80, at(0x1220)]);
        crash.stack(STACK + 0x80, &[STACK + 0x200, at(0x1310), 0, 0]);
        let (frames, stop) = crash.frames();
        let expected = [
            (0x1104, Trust::Context),
            (0x1220, Trust::FramePointer),
            (0x1310, Trust::Cfi),
        ];
        assert_eq!(frames, expected);
        assert_eq!(stop, Stop::Outermost);
    }
}
