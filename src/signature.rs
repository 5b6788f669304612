//! What equal crashes have in common, in 64 bits.
//!
//! The `signature` is one value for equal crashes of one build: it is made of what
//! does not change from run to run and from host to host. The `group` has function
//! names instead, and is one value across builds. Both are FNV-1a (64 bits, the
//! usual offset basis and prime) over these lines, each ended by a newline:
//!
//! ```text
//! SIGNAL                  its number, decimal
//! CAUSE                   the token; as it would be without any function's name
//! BUILD-ID+OFFSET         signature: lower-case hexadecimal, no 0x; five at most
//! NAME                    group: of the function; of one without, as in the signature
//! ```
//!
//! A file without a build-id stands by its name without directories, one that could
//! not be had as `NAME@OFFSET`, counted from its beginning, a frame in no file as `?`,
//! the kernel's vDSO as `[vdso]`, whose build changes with the kernel. Frames count that
//! the crash's own registers or call-frame information gave, innermost first, and who
//! called what is no code; where a handler's frame lies between, those from the fault
//! on. Call-frame information that may be in a debug file counts for nothing: other
//! hosts lack it. Inlined calls have no frame, and are left out.
//!
//! Where in a recursion a stack is full is chance: of a `stack_overflow` count the
//! lines that more than one frame has, each once and sorted, or if there are none
//! those of the four frames behind the innermost.

use crate::report::{Cause, Location};
use crate::unwind::Trust;

/// How many frames are looked at for those that count, whichever depth a report has.
pub const FRAMES_WALKED: usize = 16;
const FRAMES_COUNTED: usize = 5;
/// A place in no file.
const NOWHERE: &[u8] = b"?";

/// One frame, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub trust: Trust,
    /// The fault happened here, and the frames before this one are its handler's.
    pub fault: bool,
    pub location: &'a Location,
}

/// The two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub signature: u64,
    pub group: u64,
}

impl Signature {
    /// Of a signal, the cause without names, and the frames from the innermost on.
    #[must_use]
    pub fn of(signal: i32, cause: &[u8], places: &[Place<'_>]) -> Signature {
        let mut head = Fnv::default();
        head.line(signal.to_string().as_bytes());
        head.line(cause);
        let walked = &places[..places.len().min(FRAMES_WALKED)];
        let first = walked.iter().position(|place| place.fault).unwrap_or(0);
        let (mut in_builds, mut names) = (Vec::new(), Vec::new());
        let mut left_code = false;
        for place in &walked[first..] {
            // The call has pushed its return address, and nothing has run since.
            let called = left_code && place.trust == Trust::Leaf;
            if place.fault || called || place.trust >= Trust::Cfi {
                in_builds.push(in_build(place.location));
                names.push(in_any_build(place.location));
            }
            left_code = file_name(place.location) == NOWHERE;
        }
        let recursive = cause == Cause::StackOverflow.as_str().as_bytes();
        Signature {
            signature: head.of(&in_builds, recursive),
            group: head.of(&names, recursive),
        }
    }
}

fn in_build(location: &Location) -> Vec<u8> {
    let module = file_name(location);
    let offset = location.module_offset.filter(|_| module != b"[vdso]");
    let mut line = Vec::new();
    match &location.build_id {
        Some(id) if offset.is_some() => {
            for byte in id {
                digits(&mut line, u64::from(*byte), 2);
            }
        }
        _ => line.extend_from_slice(module),
    }
    let (sign, offset) = match (offset, location.file_offset) {
        (Some(offset), _) => (b'+', offset.0),
        (None, Some(offset)) => (b'@', offset.0),
        (None, None) => return line,
    };
    line.push(sign);
    let needed = (64 - offset.leading_zeros()).div_ceil(4);
    digits(&mut line, offset, needed.max(1));
    line
}

/// The lowest digits of a number, hexadecimal.
fn digits(line: &mut Vec<u8>, value: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = value >> (4 * place) & 15;
        line.push(b"0123456789abcdef"[digit as usize]);
    }
}

/// A function's name without what the compiler adds to a part or a copy of it.
fn in_any_build(location: &Location) -> Vec<u8> {
    const ADDED: [&[u8]; 6] = [
        b".cold",
        b".constprop.",
        b".isra.",
        b".llvm.",
        b".lto_priv.",
        b".part.",
    ];
    let Some(symbol) = &location.symbol else {
        // Where nothing else is known, at least different places are.
        return in_build(location);
    };
    let name = &symbol.name[..];
    let end = (1..name.len()).find(|&at| ADDED.iter().any(|added| name[at..].starts_with(added)));
    name[..end.unwrap_or(name.len())].to_vec()
}

fn file_name(location: &Location) -> &[u8] {
    match location.module.as_deref() {
        // Where it lies is chance: the heap, the stack, made while it ran.
        None | Some(b"[anon]" | b"[heap]" | b"[stack]") => NOWHERE,
        Some(path) => {
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
        }
    }
}

/// FNV-1a.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn line(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(b"\n") {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The value when the lines that count are added.
    fn of(mut self, lines: &[Vec<u8>], recursive: bool) -> u64 {
        if !recursive {
            lines
                .iter()
                .take(FRAMES_COUNTED)
                .for_each(|line| self.line(line));
            return self.0;
        }
        let callers = lines.get(1..).unwrap_or_default();
        let often = |line: &&Vec<u8>| lines.iter().filter(|other| other == line).count() > 1;
        let any = callers.iter().any(|line| often(&line));
        let counted = if any { lines.len() } else { FRAMES_COUNTED - 1 };
        let mut sorted: Vec<&Vec<u8>> = Vec::new();
        let counting = callers.iter().take(counted);
        for line in counting.filter(|line| !any || often(line)) {
            let at = sorted.iter().position(|other| *other >= line);
            if at.is_none_or(|at| sorted[at] != line) {
                sorted.insert(at.unwrap_or(sorted.len()), line);
            }
        }
        sorted.into_iter().for_each(|line| self.line(line));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{FileAddress, FileOffset};
    use crate::report::Symbol;

    fn location(module: &str, offset: u64, name: &str) -> Location {
        Location {
            symbol: (!name.is_empty()).then(|| Symbol {
                name: name.as_bytes().to_vec(),
                offset: 4,
            }),
            module: Some(module.as_bytes().to_vec()),
            module_offset: Some(FileAddress(offset)),
            build_id: Some(vec![0xab, 0x01]),
            ..Location::default()
        }
    }

    fn of(places: &[(Trust, Location)]) -> Signature {
        let places: Vec<Place<'_>> = places
            .iter()
            .map(|(trust, location)| Place {
                trust: *trust,
                fault: false,
                location,
            })
            .collect();
        Signature::of(11, b"null_dereference", &places)
    }

    /// The algorithm is for ever: values of one version are compared with those
    /// of the next. FNV-1a of the text that the module's page describes.
    #[test]
    fn the_values_are_those_of_the_description() {
        // "foobar" is an example of the algorithm's authors: 0x85944171f73967e8;
        // the newline makes one more step.
        let mut plain = Fnv::default();
        plain.line(b"foobar");
        assert_eq!(plain.0, 0x3453_16a7_168b_8506);
        let one = of(&[(Trust::Context, location("/a/b", 0x1234, "f.part.0"))]);
        let text = |text: &[u8]| {
            let mut fnv = Fnv::default();
            text.split(|&byte| byte == b'\n')
                .for_each(|line| fnv.line(line));
            fnv.0
        };
        assert_eq!(one.signature, text(b"11\nnull_dereference\nab01+1234"));
        assert_eq!(one.group, text(b"11\nnull_dereference\nf"));
    }

    #[test]
    fn names_change_the_group_alone() {
        let named = of(&[(Trust::Cfi, location("/a/b", 16, "f"))]);
        let stripped = of(&[(Trust::Cfi, location("/a/b", 16, ""))]);
        let rebuilt = of(&[(Trust::Cfi, location("/a/b", 32, "f"))]);
        assert_eq!(named.signature, stripped.signature);
        assert_ne!(named.group, stripped.group);
        assert_ne!(named.signature, rebuilt.signature);
        assert_eq!(named.group, rebuilt.group);
    }

    #[test]
    fn places_without_names_are_told_apart() {
        let at = |module, offset| of(&[(Trust::Context, location(module, offset, ""))]);
        assert_ne!(at("/a/b", 16).group, at("/a/b", 32).group);
        assert_eq!(at("/a/b", 16), at("/other/name", 16), "one build");
        let gone = |offset| {
            let gone = Location {
                module: Some(b"/a/b (deleted)".to_vec()),
                file_offset: Some(FileOffset(offset)),
                ..Location::default()
            };
            of(&[(Trust::Context, gone)])
        };
        assert_ne!(gone(16).signature, gone(32).signature);
        assert_ne!(gone(16).group, gone(32).group);
    }

    #[test]
    fn frames_that_were_guessed_do_not_count() {
        let sure = (Trust::Cfi, location("/a/b", 16, "f"));
        let guess = (Trust::Scan, location("/a/b", 99, "g"));
        assert_eq!(of(&[sure.clone(), guess]), of(&[sure]));
    }

    /// All calls of null would be one bug.
    #[test]
    fn who_called_what_is_no_code_counts() {
        let nowhere = (Trust::Context, Location::default());
        let caller = |offset| (Trust::Leaf, location("/a/b", offset, "f"));
        let main = (Trust::Cfi, location("/a/b", 99, "main"));
        let through = |offset| of(&[nowhere.clone(), caller(offset), main.clone()]);
        assert_ne!(through(1).signature, through(2).signature);
        let code = (Trust::Context, location("/a/b", 7, "g"));
        let guessed = |offset| of(&[code.clone(), caller(offset), main.clone()]);
        assert_eq!(guessed(1), guessed(2));
    }

    #[test]
    fn five_frames_count_and_no_more() {
        let frames: Vec<_> = (0..9)
            .map(|at| (Trust::Cfi, location("/a/b", at, "f")))
            .collect();
        assert_eq!(of(&frames), of(&frames[..5]));
        assert_ne!(of(&frames).signature, of(&frames[..4]).signature);
    }

    /// A full stack may be met anywhere in a recursion.
    #[test]
    fn one_recursion_has_one_value() {
        let frames = |names: &str| -> Vec<Location> {
            let number = |name| u64::from(name as u32);
            let names = names.chars();
            names
                .map(|name| location("/a/b", number(name), &name.to_string()))
                .collect()
        };
        let of = |names: &str| {
            let frames = frames(names);
            let places: Vec<Place<'_>> = frames
                .iter()
                .map(|location| Place {
                    trust: Trust::Cfi,
                    fault: false,
                    location,
                })
                .collect();
            Signature::of(11, b"stack_overflow", &places)
        };
        assert_eq!(of("xababab"), of("ybabab"));
        assert_eq!(of("xababab"), of("pqabab"), "in a function that they call");
        assert_ne!(of("xababab"), of("xacacac"));
        assert_ne!(of("xababab"), of("xaaaa"));
        assert_eq!(of("xmn"), of("ymn"), "a large frame: no recursion");
        assert_ne!(of("xmn"), of("xon"));
        assert_eq!(of("xmnopq"), of("ymnopr"), "what calls them all");
        assert_eq!(of("x"), of("y"));
        assert_eq!(of(""), of("x"));
    }

    #[test]
    fn what_chance_decides_is_left_out() {
        let at = |module: &str| Location {
            build_id: None,
            module_offset: None,
            ..location(module, 0, "")
        };
        let places =
            ["[heap]", "[anon]", "[stack]"].map(|module| of(&[(Trust::Context, at(module))]));
        assert_eq!(places[0], places[1]);
        assert_eq!(places[0], places[2]);
        assert_eq!(places[0], of(&[(Trust::Context, Location::default())]));
        let vdso = |offset| of(&[(Trust::Cfi, location("[vdso]", offset, "clock_gettime"))]);
        assert_eq!(vdso(1), vdso(2));
    }

    #[test]
    fn a_handlers_frames_are_passed_over() {
        let frames = ["raise", "on_segv", "f", "main"].map(|name| location("/a/b", 1, name));
        let places: Vec<Place<'_>> = frames
            .iter()
            .zip([Trust::Context, Trust::Cfi, Trust::Signal, Trust::Cfi])
            .map(|(location, trust)| Place {
                trust,
                fault: trust == Trust::Signal,
                location,
            })
            .collect();
        let direct = Signature::of(11, b"unmapped", &places[2..]);
        assert_eq!(Signature::of(11, b"unmapped", &places), direct);
    }
}
