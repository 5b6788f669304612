//! Where a first thread's stack begins, and the arguments above it, found in a copy
//! of the stack.
//!
//! ```text
//! argc, argv[0] … argv[argc - 1], 0, environment …, 0, 33, vDSO, more of the
//! auxiliary vector, strings
//! ```
//!
//! The kernel lays it out so (create_elf_tables() of fs/binfmt_elf.c), in words of the
//! program's size. With 33, `AT_SYSINFO_EHDR`, it says where it put its own code,
//! which is known; for 32-bit programs on x86 `AT_SYSINFO` stands before. Neither
//! arguments nor environment are handed on as stack.

use crate::bytes::until_nul;

const AT_SYSINFO: u64 = 32;
const AT_SYSINFO_EHDR: u64 = 33;
/// A longer command line is left out.
const MAX_ARGUMENTS: usize = 4096;

/// The beginning of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Into the copy: where argc stands.
    pub at: usize,
    /// Joined by spaces; `None` where they were not copied whole.
    pub cmdline: Option<Vec<u8>>,
}

/// The beginning of a stack, if it is in the copy that was made from `sp` on.
#[must_use]
pub fn beginning(stack: &[u8], sp: u64, vdso: u64, word_bytes: usize) -> Option<Beginning> {
    // Words stand at multiples of their size, whatever the stack pointer is.
    let first = (sp.wrapping_neg() % word_bytes as u64) as usize;
    let chunks = stack.get(first..)?.chunks_exact(word_bytes);
    let words: Vec<u64> = chunks.map(word).collect();
    let told = words
        .windows(2)
        .position(|pair| pair == [AT_SYSINFO_EHDR, vdso])?;
    let auxiliary = match words[..told] {
        [.., AT_SYSINFO, _] => told - 2,
        _ => told,
    };
    // Zeros end the environment, and before it the arguments.
    let environment_end = auxiliary.checked_sub(1).filter(|&end| words[end] == 0)?;
    let arguments_end = words[..environment_end]
        .iter()
        .rposition(|&word| word == 0)?;
    let before = words[..arguments_end].iter().rev().zip(0u64..);
    let (_, count) = before
        .take_while(|(word, count)| **word != 0 || *count == 0)
        .find(|(word, count)| *word == count)?;
    let argc = arguments_end - 1 - usize::try_from(count).ok()?;
    let arguments = &words[argc + 1..arguments_end];
    Some(Beginning {
        at: first + argc * word_bytes,
        cmdline: cmdline(stack, sp, arguments),
    })
}

fn word(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn cmdline(stack: &[u8], sp: u64, arguments: &[u64]) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    for address in arguments {
        let at = usize::try_from(address.checked_sub(sp)?).ok()?;
        let rest = stack.get(at..)?;
        let argument = until_nul(rest);
        if argument.len() == rest.len() {
            return None;
        }
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(argument);
        if line.len() > MAX_ARGUMENTS {
            return None;
        }
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SP: u64 = 0xfffc_1008;
    const VDSO: u64 = 0xf7fc_0000;

    /// A stack with these words below argc, and these arguments.
    fn stack(below: &[u64], arguments: &[&str], word_bytes: usize) -> Vec<u8> {
        let auxiliary = match word_bytes {
            4 => vec![AT_SYSINFO, VDSO + 8, AT_SYSINFO_EHDR, VDSO, 0, 0],
            _ => vec![AT_SYSINFO_EHDR, VDSO, 0, 0],
        };
        let words = below.len() + 1 + arguments.len() + 3 + auxiliary.len();
        let mut at = SP + (words * word_bytes) as u64;
        let mut out = below.to_vec();
        let mut strings = Vec::new();
        out.push(arguments.len() as u64);
        for argument in arguments {
            out.push(at);
            at += argument.len() as u64 + 1;
            strings.extend_from_slice(argument.as_bytes());
            strings.push(0);
        }
        out.extend_from_slice(&[0, at, 0]);
        out.extend_from_slice(&auxiliary);
        let mut bytes = Vec::new();
        for word in out {
            bytes.extend_from_slice(&word.to_le_bytes()[..word_bytes]);
        }
        bytes.extend_from_slice(&strings);
        bytes.extend_from_slice(b"HOME=/secret\0");
        bytes
    }

    #[test]
    fn arguments_begin_where_their_number_stands() {
        for word_bytes in [4, 8] {
            let stack = stack(&[5, 0, 2, 0x1234], &["prog", "two words"], word_bytes);
            let found = beginning(&stack, SP, VDSO, word_bytes).unwrap();
            assert_eq!(found.at, 4 * word_bytes);
            assert_eq!(found.cmdline.as_deref(), Some(&b"prog two words"[..]));
            // The strings lie beyond what was copied.
            let cut = &stack[..stack.len() - 20];
            let cut = beginning(cut, SP, VDSO, word_bytes).unwrap();
            assert_eq!((cut.at, cut.cmdline), (4 * word_bytes, None));
        }
    }

    #[test]
    fn a_program_without_arguments_has_a_stack_too() {
        let found = beginning(&stack(&[7, 7], &[], 8), SP, VDSO, 8).unwrap();
        assert_eq!((found.at, found.cmdline), (16, None));
    }

    #[test]
    fn words_are_found_below_a_crooked_stack_pointer() {
        let mut bytes = vec![9; 3];
        bytes.extend_from_slice(&stack(&[1, 2], &["prog"], 8));
        let found = beginning(&bytes, SP - 3, VDSO, 8).unwrap();
        assert_eq!(found.at, 3 + 16);
    }

    #[test]
    fn what_is_no_beginning_is_none() {
        let good = stack(&[5, 6], &["prog"], 8);
        let found = |bytes: &[u8]| beginning(bytes, SP, VDSO, 8);
        assert_eq!(beginning(&good, SP, VDSO + 1, 8), None);
        for end in 0..8 * 8 {
            assert_eq!(found(&good[..end]), None);
        }
        // A number of arguments that does not fit them.
        let mut wrong = good.clone();
        wrong[16] = 9;
        assert_eq!(found(&wrong), None);
        for address in [0, u64::MAX, SP - 1] {
            let mut wrong = good.clone();
            wrong[24..32].copy_from_slice(&address.to_le_bytes());
            assert!(found(&wrong).is_none_or(|found| found.cmdline.is_none()));
        }
    }
}
