//! Decodes the delivery of a signal from a perf sample.
//!
//! ```text
//! pid u32, tid u32, time u64
//! size u32, fields of the tracepoint          include/trace/events/signal.h
//! abi u64, registers u64 each                 none if abi is 0
//! size u64, stack, u64: how much is valid     only with stacks
//! ```
//!
//! Layout: perf_output_sample(); registers: arch/x86/include/uapi/asm/perf_regs.h,
//! arch/arm64/include/uapi/asm/perf_regs.h. The result has the registers in the order of
//! [`Registers`].

use crate::base::bytes::{Cursor, ShortRead};
use crate::crash::registers::{Arch, Registers, WORDS};

/// `PERF_SAMPLE_REGS_ABI_32`
const ABI_32: u64 = 1;
/// Offsets of the tracepoint's fields.
const SIGNAL_AT: usize = 8;
const CODE_AT: usize = 16;
const HANDLER_AT: usize = 24;

/// A signal as it reached a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// By our pid namespace; 0 where that does not have it.
    pub pid: u32,
    pub tid: u32,
    /// `CLOCK_MONOTONIC`
    pub time_ns: u64,
    pub signal: i32,
    pub code: i32,
    /// 0 for none, 1 to ignore.
    pub handler: u64,
    pub registers: Option<Registers>,
    /// From the stack pointer on.
    pub stack: Vec<u8>,
    /// How much it would be if memory went on for so long.
    pub stack_room: usize,
}

/// x86: the number of a register in a sample, and its word in `pt_regs`.
const X86: [(u8, u8); 20] = [
    (0, 10),
    (1, 5),
    (2, 11),
    (3, 12),
    (4, 13),
    (5, 14),
    (6, 4),
    (7, 19),
    (8, 16),
    (9, 18),
    (10, 17),
    (11, 20),
    (16, 9),
    (17, 8),
    (18, 7),
    (19, 6),
    (20, 3),
    (21, 2),
    (22, 1),
    (23, 0),
];
/// x86: rbx, r12 to r15 and rbp. Before 5.11 or so only some kernels saved them at the entry
/// of a system call.
const X86_UNSAVED: u64 = 1 << 5 | 0xf;
const X86_FRAME_POINTER: u64 = 1 << 4;
/// x86: orig_ax; aarch64: pstate. Neither is in a sample.
const X86_UNKNOWN: u64 = 1 << 15;
const AARCH64_PSTATE: usize = 33;
/// `PSR_MODE32_BIT`
const PSTATE_32: u64 = 0x10;

/// The registers that are asked for, a bit each.
#[must_use]
pub(super) fn wanted_registers(kernel: Arch) -> u64 {
    match kernel {
        Arch::Aarch64 | Arch::Arm => (1 << AARCH64_PSTATE) - 1,
        Arch::X86_64 | Arch::I386 => X86.iter().fold(0, |mask, (bit, _)| mask | 1 << bit),
    }
}

/// A sample's delivery; `None` if it is none, or cut off.
#[must_use]
pub(super) fn parse(kernel: Arch, body: &[u8], has_stack: bool) -> Option<Delivery> {
    read(kernel, body, has_stack).ok()
}

fn read(kernel: Arch, body: &[u8], has_stack: bool) -> Result<Delivery, ShortRead> {
    let mut cursor = Cursor::new(body);
    let (pid, tid, time_ns) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    let fields_bytes = cursor.u32()? as usize;
    let fields = cursor.take(fields_bytes)?;
    let abi = cursor.u64()?;
    let registers = match abi {
        0 => None,
        _ => Some(registers(kernel, abi, &mut cursor)?),
    };
    let (stack, stack_room) = match has_stack {
        true => stack(&mut cursor)?,
        false => (&[][..], 0),
    };
    Ok(Delivery {
        pid,
        tid,
        time_ns,
        signal: Cursor::at(fields, SIGNAL_AT).i32()?,
        code: Cursor::at(fields, CODE_AT).i32()?,
        handler: Cursor::at(fields, HANDLER_AT).u64()?,
        registers,
        stack: stack.to_vec(),
        stack_room,
    })
}

fn stack<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], usize), ShortRead> {
    let room = cursor.u64()?;
    if room == 0 {
        return Ok((&[], 0));
    }
    let stack = cursor.take(usize::try_from(room).unwrap_or(usize::MAX))?;
    let filled = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
    Ok((&stack[..filled.min(stack.len())], stack.len()))
}

fn registers(kernel: Arch, abi: u64, cursor: &mut Cursor<'_>) -> Result<Registers, ShortRead> {
    let mut words = [0; WORDS];
    if matches!(kernel, Arch::Aarch64 | Arch::Arm) {
        for word in &mut words[..AARCH64_PSTATE] {
            *word = cursor.u64()?;
        }
        words[AARCH64_PSTATE] = if abi == ABI_32 { PSTATE_32 } else { 0 };
        return Ok(Registers::new(kernel, words).without(1 << AARCH64_PSTATE));
    }
    for (_, word) in X86 {
        words[usize::from(word)] = cursor.u64()?;
    }
    // As after a trap; perf_get_regs_user() of old kernels marks the others so.
    words[15] = u64::MAX;
    let is_unsaved = |mask: u64| {
        let mut marked = (0..WORDS).filter(|word| mask >> word & 1 != 0);
        marked.all(|word| words[word] == u64::MAX)
    };
    let mut unknown = X86_UNKNOWN;
    if is_unsaved(X86_UNSAVED) {
        unknown |= X86_UNSAVED;
        if is_unsaved(X86_FRAME_POINTER) {
            unknown |= X86_FRAME_POINTER;
        }
    }
    Ok(Registers::new(kernel, words).without(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each register holds 100 plus its number.
    fn sample(unsaved: bool, stack: Option<(&[u8], u64)>) -> Vec<u8> {
        let mut body = Vec::new();
        for word in [7u32, 8] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(&55u64.to_le_bytes());
        let mut fields = vec![0; 44];
        fields[SIGNAL_AT] = 11;
        fields[CODE_AT..CODE_AT + 4].copy_from_slice(&(-6i32).to_le_bytes());
        fields[HANDLER_AT..HANDLER_AT + 8].copy_from_slice(&0x4000u64.to_le_bytes());
        body.extend_from_slice(&44u32.to_le_bytes());
        body.extend_from_slice(&fields);
        body.extend_from_slice(&2u64.to_le_bytes());
        for (bit, word) in X86 {
            let is_unsaved = unsaved && X86_UNSAVED >> word & 1 != 0;
            let value = if is_unsaved {
                u64::MAX
            } else {
                100 + u64::from(bit)
            };
            body.extend_from_slice(&value.to_le_bytes());
        }
        if let Some((bytes, filled)) = stack {
            body.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            body.extend_from_slice(bytes);
            if !bytes.is_empty() {
                body.extend_from_slice(&filled.to_le_bytes());
            }
        }
        body
    }

    #[test]
    fn a_sample_is_a_delivery() {
        let body = sample(false, Some((b"stack, and what is not true", 5)));
        let delivery = parse(Arch::X86_64, &body, true).unwrap();
        assert_eq!((delivery.pid, delivery.tid, delivery.time_ns), (7, 8, 55));
        assert_eq!((delivery.signal, delivery.code), (11, -6));
        assert_eq!(delivery.handler, 0x4000);
        assert_eq!(delivery.stack, b"stack");
        let registers = delivery.registers.unwrap();
        assert_eq!((registers.pc().0, registers.sp().0), (108, 107));
        assert_eq!(registers.dwarf(0), Some(100), "rax");
        assert_eq!(registers.dwarf(6), Some(106), "rbp");
        assert_eq!(registers.dwarf(15), Some(123), "r15");
        assert_eq!(registers.named().count(), 18);
    }

    #[test]
    fn registers_that_were_not_saved_are_not_known() {
        let delivery = parse(Arch::X86_64, &sample(true, None), false).unwrap();
        let registers = delivery.registers.unwrap();
        for dwarf in [3, 12, 13, 14, 15] {
            assert_eq!(registers.dwarf(dwarf), None);
        }
        assert_eq!(registers.dwarf(6), Some(106), "rbp");
        assert_eq!(registers.named().count(), 13);
    }

    #[test]
    fn aarch64_has_its_own_order_and_no_pstate() {
        let mut body = sample(false, None)[..16 + 48].to_vec();
        body.extend_from_slice(&2u64.to_le_bytes());
        for word in 0..33u64 {
            body.extend_from_slice(&(word * 8).to_le_bytes());
        }
        let delivery = parse(Arch::Aarch64, &body, false).unwrap();
        let registers = delivery.registers.unwrap();
        assert_eq!((registers.pc().0, registers.sp().0), (256, 248));
        assert_eq!(registers.arch(), Arch::Aarch64);
        assert_eq!(registers.named().count(), 33);
        body[16 + 48] = 1;
        let delivery = parse(Arch::Aarch64, &body, false).unwrap();
        assert_eq!(delivery.registers.unwrap().arch(), Arch::Arm);
        assert_eq!(wanted_registers(Arch::Aarch64).count_ones(), 33);
        assert_eq!(wanted_registers(Arch::X86_64), 0xff_0fff);
    }

    /// Cut off anywhere, and with any length in it.
    #[test]
    fn no_sample_is_read_past_its_end() {
        let body = sample(false, Some((&[7; 64], 64)));
        for end in 0..body.len() {
            assert_eq!(parse(Arch::X86_64, &body[..end], true), None, "{end}");
        }
        assert!(parse(Arch::X86_64, &sample(false, Some((b"", 0))), true).is_some());
        for at in (0..body.len()).step_by(4) {
            for value in [u32::MAX, 0x8000_0000, 0x1_0000] {
                let mut wrong = body.clone();
                wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
                let read = parse(Arch::X86_64, &wrong, true);
                assert!(read.is_none_or(|delivery| delivery.stack.len() <= 64));
            }
        }
    }
}
