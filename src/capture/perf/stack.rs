//! Where a first thread's stack begins, and the arguments above it, found in a copy
//! of the stack.
//!
//! ```text
//! argc, argv[0] … argv[argc - 1], 0, environment …, 0, 33, vDSO, more of the
//! auxiliary vector, strings
//! ```
//!
//! The kernel lays it out so (create_elf_tables() of fs/binfmt_elf.c), and says with
//! 33, `AT_SYSINFO_EHDR`, first of the auxiliary vector, where it put its own code,
//! which is known. Neither arguments nor environment are handed on as stack.

use crate::bytes::until_nul;

const AT_SYSINFO_EHDR: u64 = 33;
const WORD: usize = 8;
/// A longer command line is cut, as the capture program does.
const MAX_ARGUMENTS: usize = 4096;

/// The beginning of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Into the copy: where argc stands.
    pub at: usize,
    /// Joined by spaces; `None` where they were not copied whole.
    pub cmdline: Option<Vec<u8>>,
}

/// The beginning of the stack of a 64-bit program, if it is in the copy that was
/// made from `sp` on.
#[must_use]
pub fn beginning(stack: &[u8], sp: u64, vdso: u64) -> Option<Beginning> {
    // Words stand at multiples of their size, whatever the stack pointer is.
    let first = (sp.wrapping_neg() % WORD as u64) as usize;
    let words: Vec<u64> = stack.get(first..)?.chunks_exact(WORD).map(word).collect();
    let auxiliary = words
        .windows(3)
        .position(|three| three == [0, AT_SYSINFO_EHDR, vdso])?;
    let arguments_end = words[..auxiliary].iter().rposition(|&word| word == 0)?;
    let before = words[..arguments_end].iter().rev().zip(0u64..);
    let count = before
        .take_while(|(word, _)| **word != 0)
        .find(|(word, count)| *word == count);
    // Without arguments there is a 0 before the 0.
    let count = match count {
        Some((_, count)) => usize::try_from(count).ok()?,
        None if words[..arguments_end].last() == Some(&0) => 0,
        None => return None,
    };
    let argc = arguments_end - count - 1;
    let arguments = &words[argc + 1..arguments_end];
    Some(Beginning {
        at: first + argc * WORD,
        cmdline: cmdline(stack, sp, arguments),
    })
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
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

    const SP: u64 = 0x7ffc_0000_1008;
    const VDSO: u64 = 0x7ffc_8888_0000;

    /// A stack with these words below argc, and these arguments.
    fn stack(below: &[u64], arguments: &[&str]) -> Vec<u8> {
        let words = below.len() + 1 + arguments.len() + 2 + 1 + 4;
        let mut at = SP + words as u64 * 8;
        let mut out = below.to_vec();
        let mut strings = Vec::new();
        out.push(arguments.len() as u64);
        for argument in arguments {
            out.push(at);
            at += argument.len() as u64 + 1;
            strings.extend_from_slice(argument.as_bytes());
            strings.push(0);
        }
        out.extend_from_slice(&[0, at, 0, AT_SYSINFO_EHDR, VDSO, 0, 0]);
        let mut bytes: Vec<u8> = out.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&strings);
        bytes.extend_from_slice(b"HOME=/secret\0");
        bytes
    }

    #[test]
    fn arguments_begin_where_their_number_stands() {
        let stack = stack(&[5, 0, 2, 0x1234], &["prog", "two words"]);
        let found = beginning(&stack, SP, VDSO).unwrap();
        assert_eq!(found.at, 32);
        assert_eq!(found.cmdline.as_deref(), Some(&b"prog two words"[..]));
        // The strings lie beyond what was copied.
        let cut = beginning(&stack[..4 * 8 + 8 * 8], SP, VDSO).unwrap();
        assert_eq!((cut.at, cut.cmdline), (32, None));
    }

    #[test]
    fn a_program_without_arguments_has_a_stack_too() {
        let found = beginning(&stack(&[7, 7], &[]), SP, VDSO).unwrap();
        assert_eq!((found.at, found.cmdline), (16, None));
    }

    #[test]
    fn words_are_found_below_a_crooked_stack_pointer() {
        let mut bytes = vec![9; 3];
        bytes.extend_from_slice(&stack(&[1, 2], &["prog"]));
        let found = beginning(&bytes, SP - 3, VDSO).unwrap();
        assert_eq!(found.at, 3 + 16);
    }

    #[test]
    fn what_is_no_beginning_is_none() {
        let good = stack(&[5, 6], &["prog"]);
        assert_eq!(beginning(&good, SP, VDSO + 1), None);
        for end in 0..8 * 8 {
            assert_eq!(beginning(&good[..end], SP, VDSO), None);
        }
        // A number of arguments that does not fit them.
        let mut wrong = good.clone();
        wrong[16] = 9;
        assert_eq!(beginning(&wrong, SP, VDSO), None);
        for address in [0, u64::MAX, SP - 1] {
            let mut wrong = good.clone();
            wrong[24..32].copy_from_slice(&address.to_le_bytes());
            let found = beginning(&wrong, SP, VDSO);
            assert!(found.is_none_or(|found| found.cmdline.is_none()));
        }
    }
}
