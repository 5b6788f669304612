//! Finds the beginning of the first thread's stack, and the arguments above it, in a copy
//! of the stack.
//!
//! ```text
//! argc, argv[0] … argv[argc - 1], 0, environment …, 0, 33, vDSO, more of the
//! auxiliary vector, strings
//! ```
//!
//! The kernel lays it out so (create_elf_tables() of fs/binfmt_elf.c), in words of the
//! program's size. With 33, `AT_SYSINFO_EHDR`, it says where it put its own code,
//! which is known; the size of pages and the rate of clock ticks always stand next to
//! each other. Neither arguments nor environment are handed on as stack: a copy that
//! may have them, and no beginning by which they are recognized, is dropped.

use crate::base::bytes::until_nul;

const AT_PAGESZ: u64 = 6;
const AT_CLKTCK: u64 = 17;
const CLOCK_TICKS: u64 = 100;
const AT_SYSINFO_EHDR: u64 = 33;
/// Tags are less (include/uapi/linux/auxvec.h), pointers are not.
const TAGS: u64 = 256;
/// A longer command line is left out.
const MAX_ARGUMENTS: usize = 4096;

/// The beginning of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Into the copy: where argc stands.
    pub at: usize,
    /// Joined by spaces; `None` if they were not copied whole.
    pub cmdline: Option<Vec<u8>>,
}

/// The beginning of a stack, if it is in the copy that was made from `sp` on.
#[must_use]
pub(super) fn beginning(stack: &[u8], sp: u64, vdso: u64, word_bytes: usize) -> Option<Beginning> {
    // Words stand at multiples of their size, whatever the stack pointer is.
    let first = (sp.wrapping_neg() % word_bytes as u64) as usize;
    let chunks = stack.get(first..)?.chunks_exact(word_bytes);
    let words: Vec<u64> = chunks.map(word).collect();
    let auxiliary = auxiliary_vector(&words, vdso)?;
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
    let environment = &words[arguments_end + 1..environment_end];
    Some(Beginning {
        at: first + argc * word_bytes,
        cmdline: cmdline(stack, sp, arguments, environment),
    })
}

/// The word at which the auxiliary vector begins.
fn auxiliary_vector(words: &[u64], vdso: u64) -> Option<usize> {
    let is_vdso = |pair: &[u64]| vdso != 0 && pair == [AT_SYSINFO_EHDR, vdso];
    let is_known = |four: &[u64]| matches!(*four, [AT_PAGESZ, bytes, AT_CLKTCK, CLOCK_TICKS] if bytes.is_power_of_two());
    let mut at = words
        .windows(2)
        .position(is_vdso)
        .or_else(|| words.windows(4).position(is_known))?;
    while at >= 2 && (1..TAGS).contains(&words[at - 2]) {
        at -= 2;
    }
    Some(at)
}

/// Whether a copy without a [`beginning`] may nevertheless hold arguments and environment:
/// it lies above all mapped files, where the first stack is, and begins with text; or, on
/// the first thread, it is shorter than `room`, the size that it could have had, so that it
/// reaches the text at the end of the stack.
#[must_use]
pub(super) fn may_have_strings(stack: &[u8], room: usize, is_above: bool, is_leader: bool) -> bool {
    const LOOKED_AT: usize = 256;
    let is_text = |&byte: &u8| byte == 0 || byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let begins = &stack[..stack.len().min(LOOKED_AT)];
    is_above && (is_leader && stack.len() < room || begins.iter().all(is_text))
}

fn word(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The arguments. They end at the beginning of the environment, whatever their content.
fn cmdline(stack: &[u8], sp: u64, arguments: &[u64], environment: &[u64]) -> Option<Vec<u8>> {
    let above = environment.iter().filter(|&&address| address >= sp);
    let limit = match above.min() {
        Some(first) => usize::try_from(first - sp).ok()?.min(stack.len()),
        // It was moved: where it was is not known.
        None if !environment.is_empty() => return None,
        None => stack.len(),
    };
    let mut line = Vec::new();
    for address in arguments {
        let at = usize::try_from(address.checked_sub(sp)?).ok()?;
        let rest = stack.get(at..limit)?;
        let argument = until_nul(rest);
        if argument.len() == rest.len() && limit == stack.len() {
            return None;
        }
        line.extend_from_slice(argument);
        line.push(0);
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
            4 => vec![32, VDSO + 8, AT_SYSINFO_EHDR, VDSO, 0, 0],
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
            assert_eq!(found.cmdline.as_deref(), Some(&b"prog\0two words\0"[..]));
            // The strings lie beyond the copy.
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
    fn a_beginning_is_found_without_its_vdso() {
        let words = [7, 1, SP + 96, 0, SP + 101, 0, 16, 5, 6, 4096, 17, 100];
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word: &u64| word.to_le_bytes())
            .collect();
        bytes.extend_from_slice(b"prog\0HOME=/secret\0");
        for vdso in [0, VDSO] {
            let found = beginning(&bytes, SP, vdso, 8).unwrap();
            assert_eq!(
                (found.at, found.cmdline.as_deref()),
                (8, Some(&b"prog\0"[..]))
            );
        }
    }

    #[test]
    fn arguments_end_where_the_environment_begins() {
        let mut good = stack(&[5, 6], &["prog", "x"], 8);
        // The zero after the last argument is overwritten: a title that was too long.
        let end = good.windows(7).position(|it| it == b"x\0HOME=").unwrap() + 1;
        good[end] = b'!';
        let found = beginning(&good, SP, VDSO, 8).unwrap();
        assert_eq!(found.cmdline.as_deref(), Some(&b"prog\0x!\0"[..]));
        // And the pointers to the environment lead elsewhere.
        let pointer = SP + end as u64 + 1;
        let at = good
            .windows(8)
            .position(|it| it == pointer.to_le_bytes())
            .unwrap();
        good[at..at + 8].copy_from_slice(&0x1234_5678u64.to_le_bytes());
        let found = beginning(&good, SP, VDSO, 8).unwrap();
        assert_eq!(found.cmdline, None);
    }

    #[test]
    fn a_copy_that_may_hold_strings_is_known() {
        let text = b"ME=1\0DB_PASSWORD=secret\0".repeat(20);
        assert!(may_have_strings(&text, text.len(), true, true));
        assert!(
            !may_have_strings(&text, text.len(), false, true),
            "another stack"
        );
        let mut words = vec![0x90; 4096];
        assert!(!may_have_strings(&words, 4096, true, true));
        words.extend_from_slice(&text);
        assert!(
            may_have_strings(&words, 8192, true, true),
            "it ends with the stack"
        );
        let is_there = |is_leader| may_have_strings(&words, 8192, true, is_leader);
        assert!(
            !is_there(false),
            "of a thread's stack other things may follow"
        );
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
