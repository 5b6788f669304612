//! Whatever an event says: a verdict, and never a panic. Tokens that speak of a
//! mapping are held to the mappings.

use super::*;

/// Numbers of no importance (xorshift64*, Vigna 2016).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next() as usize % all.len()]
    }

    /// Values that mean something somewhere, and some that do not.
    fn value(&mut self) -> u64 {
        let some = [
            0,
            1,
            8,
            0x1234,
            0xffff,
            0x1_0000,
            PC,
            HEAP,
            HEAP_END,
            GUARD,
            THREAD,
            DATA + 0x1000,
            STACK,
            STACK - 8,
            STACK_END,
            0x4141_4141_4141_4141,
            0x8000_0000_0000,
            u64::MAX,
            u64::MAX - 7,
            1 << 63,
            77,
        ];
        match self.next() % 4 {
            0 => self.next(),
            1 => self.one_of(&some).wrapping_add(self.next() % 64),
            2 => self.one_of(&some).wrapping_sub(self.next() % 5000),
            _ => self.one_of(&some),
        }
    }
}

fn random(chance: &mut Chance) -> Made {
    let arch = chance.one_of(&[Arch::X86_64, Arch::Aarch64]);
    let mut made = Made::new(arch);
    let event = &mut made.event;
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = chance.value();
    }
    match chance.next() % 3 {
        0 => words[15] = u64::MAX,
        1 => words[17] = 0x23,
        _ => {}
    }
    event.registers = (!chance.one_in(16)).then(|| Registers::new(arch, words));
    if let (Some(registers), true) = (&mut event.registers, chance.one_in(2)) {
        let pc = pc_name(registers.arch());
        set(registers, pc, PC);
    }
    event.signal = chance.one_of(&[4, 5, 6, 7, 8, 11, 11, 11, 31, 34]);
    event.code = chance.one_of(&[
        -60, -6, -2, -1, 0, 1, 1, 2, 2, 3, 4, 5, 8, 9, 10, 0x80, 0x80,
    ]);
    let word = chance.value();
    event.siginfo = fault::siginfo(event.code, word);
    let trap = Trap {
        address: if chance.one_in(4) {
            chance.value()
        } else {
            word
        },
        error_code: chance.one_of(&[
            0,
            4,
            6,
            7,
            0x14,
            0x15,
            0x9200_0045,
            0x8200_0005,
            0x9200_0021,
        ]),
        number: chance.one_of(&[0, 3, 6, 12, 13, 13, 14, 14, 14, 21, 1 << 40]),
    };
    if chance.one_in(8) {
        (event.siginfo, event.trap) = (Siginfo::Unknown, None);
    } else {
        event.trap = Some(trap);
    }
    for byte in &mut event.code_bytes.bytes {
        *byte = chance.next() as u8;
    }
    let into = chance.next() as usize % 40;
    event.code_bytes.bytes.truncate(64 - into);
    if chance.one_in(2) {
        let code = chance.one_of(&[1, 2, 0x80]);
        let is_known = !chance.one_in(4);
        event.first_fault = Some(EarlierFault {
            signal: 11,
            code,
            siginfo: match is_known {
                true => fault::siginfo(code, chance.value()),
                false => Siginfo::Unknown,
            },
            pc: ProcessAddress(chance.one_of(&[PC, PC + 8, 0])),
            trap: is_known.then_some(trap),
            boot_ns: chance.value(),
        });
    }
    match chance.next() % 8 {
        0 => event.mappings.clear(),
        1 => event.mappings.truncate(3),
        2 => event.map_count = 0,
        3 => event.lost.push(crate::crash::event::Lost {
            detail: "mappings",
            reason: "made up",
        }),
        _ => {}
    }
    event.start_stack = ProcessAddress(chance.one_of(&[0, STACK + 0x2_0800, u64::MAX]));
    made.named(match chance.next() % 3 {
        0 => &["", "abort", "free"],
        1 => &["__stack_chk_fail"],
        _ => &[],
    })
}

#[test]
fn no_event_makes_it_panic_or_lie_about_mappings() {
    let mut chance = Chance(0x5eed_ca05_e500);
    for _ in 0..300_000 {
        let made = random(&mut chance);
        let verdict = made.verdict();
        let chosen = made.chosen();
        let address = chosen.fault.siginfo.address().unwrap_or_default().0;
        let there = made.event.mapping(ProcessAddress(address));
        assert!(!verdict.text.is_empty(), "{made:?}", made = made.event);
        let wrong = match verdict.cause {
            Cause::Unmapped => there.is_some() && chosen.fault.code == code::SEGV_ACCERR,
            Cause::WriteProtected => there.is_some_and(|mapping| mapping.flags.writable()),
            Cause::BeyondFile => there.is_none_or(|mapping| mapping.file.is_none()),
            Cause::NullDereference => address << 8 >> 8 >= 0x1_0000,
            _ => false,
        };
        let text = String::from_utf8_lossy(&verdict.text);
        assert!(!wrong, "{:?}: {text}: {:?}", verdict.cause, made.event);
        if let Some(registers) = made.event.registers {
            for (_, value) in registers.named() {
                let _ = note(&made.event, value, 64, &made.place, true);
            }
            if let Some(decoded) = decode(registers.arch(), &made.event.code_bytes.bytes) {
                let _ = describe(&made.event, &registers, &decoded);
            }
        }
    }
}
