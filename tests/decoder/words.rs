//! Words of 32-bit ARM: each short one of Thumb, and of the others many by chance.
//!
//! Words of aarch64 that are loads, stores, branches or of the system, and some
//! of scalable vectors: by chance, but the same on every run. Fields of five bits
//! that must be all ones or all zeros in some are made so more often.

const COUNT: usize = 4_000_000;

/// Knuth's generator of MMIX; its high bits are the good ones.
fn random() -> impl FnMut() -> u32 {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

/// Of A32, loads and stores more often than others.
pub fn arm() -> Vec<u8> {
    // Bits 27 to 24.
    const GROUPS: [u32; 16] = [0, 1, 4, 5, 6, 7, 8, 9, 12, 13, 4, 5, 0, 1, 16, 16];
    let mut random = random();
    let mut code = Vec::with_capacity(COUNT / 2 * 4);
    for _ in 0..COUNT / 2 {
        let (mut word, choice) = (random(), random());
        match GROUPS[choice as usize & 15] {
            16 => {}
            group => word = word & !(0xf << 24) | group << 24,
        }
        // Bits 7 and 4 set are no operations of registers there.
        if word >> 25 & 7 == 0 && choice >> 4 & 3 != 0 {
            word |= 0x90;
        }
        // Always, or none of the conditions.
        match choice >> 8 & 3 {
            0 => word |= 0xf << 28,
            1 | 2 => word = word & 0x0fff_ffff | 0xe << 28,
            _ => {}
        }
        // What must be ones in exclusives, and is zero in the offset by register.
        match choice >> 10 & 3 {
            0 => word |= 0xf00,
            1 => word &= !0xf00,
            _ => {}
        }
        // Coprocessors of floating point.
        if word >> 25 & 7 == 6 && choice >> 12 & 1 == 1 {
            word = word & !(0xf << 8) | (9 + (choice >> 13) % 3) << 8;
        }
        if choice >> 16 & 3 == 0 {
            word |= 15;
        }
        code.extend_from_slice(&word.to_le_bytes());
    }
    code
}

/// Bytes from one long word of T32 to the next: what follows is nop, for a disassembler
/// may take half of a word for an instruction.
pub const THUMB_SLOT: usize = 8;

/// The long words of T32.
pub fn thumb() -> Vec<u8> {
    const NOP: u16 = 0xbf00;
    // Bits 15 to 9 of the first half.
    const GROUPS: [u16; 8] = [0x74, 0x76, 0x7c, 0x7e, 0x74, 0x7c, 0x78, 0x7c];
    let mut random = random();
    let mut code = Vec::with_capacity(COUNT / 4 * THUMB_SLOT);
    for _ in 0..COUNT / 4 {
        let (word, choice) = (random(), random());
        let mut first = (word >> 16) as u16 & 0x1ff | GROUPS[choice as usize & 7] << 9;
        let mut second = word as u16;
        match choice >> 3 & 3 {
            0 => second &= !0x0fc0,
            1 => second |= 0x0f00,
            _ => {}
        }
        if choice >> 5 & 3 == 0 {
            second = second & 0x0fff | 0xf000;
        }
        if choice >> 7 & 3 == 0 {
            first |= 15;
        }
        let coprocessor = first >> 9 == 0x76 && choice >> 9 & 1 == 1;
        if coprocessor {
            second = second & !0xf00 | (9 + (choice >> 10) as u16 % 3) << 8;
        }
        for half in [first, second, NOP, NOP] {
            code.extend_from_slice(&half.to_le_bytes());
        }
    }
    code
}

/// Each short one.
pub fn short_thumb() -> Vec<u8> {
    (0..0xe800_u16).flat_map(u16::to_le_bytes).collect()
}

pub fn all() -> Vec<u8> {
    let mut random = random();
    let mut code = Vec::with_capacity(COUNT * 4);
    for _ in 0..COUNT {
        let mut word = random();
        let choice = random();
        // Bits 28 to 25.
        let group = match choice & 15 {
            0 => 0b0000,
            1 => 0b0010,
            2 => 0b1010,
            3 => 0b1011,
            4 => choice >> 4 & 15,
            _ => 0b0100 | choice >> 4 & 0b1010,
        };
        word = word & !(0xf << 25) | group << 25;
        for (bit, from) in [(8, 16), (10, 10), (12, 12)] {
            match choice >> bit & 3 {
                0 => word |= 31 << from,
                1 => word &= !(31 << from),
                _ => {}
            }
        }
        // System instructions have most of their bits fixed.
        if choice & 15 == 3 && choice >> 16 & 1 == 1 {
            word = word & 0x003f_ffff | 0xd500_0000;
        }
        code.extend_from_slice(&word.to_le_bytes());
    }
    code
}
