//! Words of aarch64 that are loads, stores, branches or of the system, and some
//! of scalable vectors: by chance, but the same on every run. Fields of five bits
//! that must be all ones or all zeros in some are made so more often.

const COUNT: usize = 4_000_000;

pub fn all() -> Vec<u8> {
    let mut state = 1_u64;
    // Knuth's generator of MMIX; its high bits are the good ones.
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
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
