//! C++ names that were made readable lately.
//!
//! A frame's name is asked for by the writer of its symbol and by that of its raw name, and
//! the functions that a compiler puts into others are on every stack of a program. In: a
//! mangled name. Out: what [`demangle_cpp`] says about it, which is the same each time.
//! Names share a number of places, by a hash. If they take too many bytes, all are
//! forgotten.

use std::cell::RefCell;
use std::rc::Rc;

use super::demangle_cpp;

/// Places, and bytes that names may take there, unless [`keep`] asks for more.
const FEW: (usize, usize) = (256, 256 << 10);

#[derive(Debug, Default)]
struct Known {
    name: Box<[u8]>,
    /// Without parameters, and with them.
    readable: [Option<Option<Rc<[u8]>>>; 2],
}

#[derive(Debug)]
struct Names {
    known: Vec<Known>,
    bytes: usize,
    max_bytes: usize,
}

thread_local! {
    static NAMES: RefCell<Names> = const {
        RefCell::new(Names {
            known: Vec::new(),
            bytes: 0,
            max_bytes: 0,
        })
    };
}

/// Keeps so many names of so many bytes from now on.
pub fn keep(places: usize, max_bytes: usize) {
    NAMES.with_borrow_mut(|names| names.begin((places, max_bytes)));
}

/// The same as [`demangle_cpp`].
#[must_use]
pub fn cpp(name: &[u8], parameters: bool) -> Option<Rc<[u8]>> {
    match name.starts_with(b"_Z") {
        true => NAMES.with_borrow_mut(|names| names.ask(name, parameters)),
        false => None,
    }
}

impl Names {
    fn begin(&mut self, (places, max_bytes): (usize, usize)) {
        self.known.clear();
        self.known.resize_with(places.max(1), Known::default);
        (self.bytes, self.max_bytes) = (0, max_bytes);
    }

    fn ask(&mut self, name: &[u8], parameters: bool) -> Option<Rc<[u8]>> {
        if self.known.is_empty() {
            self.begin(FEW);
        }
        let at = hash(name) as usize % self.known.len();
        let kept = &self.known[at];
        if *kept.name == *name {
            if let Some(readable) = &kept.readable[usize::from(parameters)] {
                return readable.clone();
            }
        }
        let readable: Option<Rc<[u8]>> = demangle_cpp(name, parameters).map(Rc::from);
        let bytes = name.len() + readable.as_ref().map_or(0, |text| text.len());
        if self.bytes + bytes > self.max_bytes {
            self.begin((self.known.len(), self.max_bytes));
        }
        // What is replaced stays counted: then the rest is forgotten sooner.
        self.bytes += bytes;
        let kept = &mut self.known[at];
        if *kept.name != *name {
            *kept = Known {
                name: name.into(),
                ..Known::default()
            };
        }
        kept.readable[usize::from(parameters)] = Some(readable.clone());
        readable
    }
}

/// FNV-1a, by eight bytes at a time.
fn hash(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in name.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_the_demangler() {
        let name = |number: usize| format!("_Z8f{number:0>7}IiEvT_").into_bytes();
        let long = format!("_Z600{}v", "x".repeat(600)).into_bytes();
        let names = (0..4 * FEW.0).map(name);
        let names: Vec<Vec<u8>> = names.chain([long, b"main".into(), b"_Z".into()]).collect();
        for round in 0..3 {
            keep(100 * round, 9000);
            for name in &names {
                for parameters in [false, true, false] {
                    let expected = demangle_cpp(name, parameters);
                    assert_eq!(cpp(name, parameters).as_deref(), expected.as_deref());
                    NAMES.with_borrow(|names| assert!(names.bytes <= 9000));
                }
            }
        }
        assert_eq!(
            cpp(&names[7], true).unwrap()[..],
            *b"void f0000007<int>(int)"
        );
    }
}
