//! C++ names that were made readable lately.
//!
//! A frame's name is asked for by the writer of its symbol and by that of its raw name, and
//! the functions that a compiler puts into others are on every stack of a program. In: a
//! mangled name. Out: what [`demangle_cpp`] says about it, which is the same each time.
//! Names share a number of places, by a hash; long ones are not kept.

use std::cell::RefCell;
use std::rc::Rc;

use super::demangle_cpp;

/// Unless [`keep`] asks for more: they take 400 KB at most.
const SLOTS: usize = 256;
/// Of a name that is kept, and of what it is made into.
const MAX_KEPT: usize = 512;

#[derive(Default)]
struct Known {
    name: Box<[u8]>,
    readable: [Option<Option<Rc<[u8]>>>; 2],
}

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// Makes so many places, and forgets what was kept.
pub fn keep(slots: usize) {
    KNOWN.with_borrow_mut(|known| {
        known.clear();
        known.resize_with(slots, Known::default);
    });
}

/// The same as [`demangle_cpp`].
#[must_use]
pub fn cpp(name: &[u8], parameters: bool) -> Option<Rc<[u8]>> {
    if !name.starts_with(b"_Z") {
        return None;
    }
    let ask = || demangle_cpp(name, parameters).map(Rc::from);
    if name.len() > MAX_KEPT {
        return ask();
    }
    // FNV-1a.
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    if KNOWN.with_borrow(Vec::is_empty) {
        keep(SLOTS);
    }
    KNOWN.with_borrow_mut(|known| {
        let at = (hash >> 32) as usize % known.len();
        let slot = &mut known[at];
        if *slot.name != *name {
            *slot = Known {
                name: name.into(),
                ..Known::default()
            };
        }
        let kept = &mut slot.readable[usize::from(parameters)];
        if let Some(readable) = kept {
            return readable.clone();
        }
        let readable = ask();
        if readable.as_ref().is_none_or(|text| text.len() <= MAX_KEPT) {
            *kept = Some(readable.clone());
        }
        readable
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_the_demangler() {
        let name = |number: usize| format!("_Z{}f{number:0>7}IiEvT_", 8).into_bytes();
        let long = format!("_Z600{}v", "x".repeat(600)).into_bytes();
        let names = (0..4 * SLOTS)
            .map(name)
            .chain([long, b"main".into(), b"_Z".into()]);
        let names: Vec<Vec<u8>> = names.collect();
        for _ in 0..2 {
            for name in &names {
                for parameters in [false, true, false] {
                    let expected = demangle_cpp(name, parameters);
                    assert_eq!(cpp(name, parameters).as_deref(), expected.as_deref());
                }
            }
        }
        assert_eq!(
            cpp(&names[7], true).unwrap()[..],
            *b"void f0000007<int>(int)"
        );
    }
}
