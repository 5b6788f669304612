//! What equal crashes have in common, in 64 bits.
//!
//! The `signature` is the same for equal crashes of one build: it is computed from values
//! that do not change from run to run or from host to host. The `group` uses function
//! names in place of build-ids, so it is the same across builds. Both are FNV-1a (64 bits,
//! the usual offset basis and prime) over these lines, each ended by a newline:
//!
//! ```text
//! 2                       the version of this text
//! SIGNAL                  its number, decimal
//! CAUSE                   the word; as it would be if no function had a name
//! EXECUTABLE              its name without directories; left out of a signature that
//!                         has the executable's build-id in one of its lines
//! BUILD-ID+OFFSET         signature: lower-case hexadecimal, no 0x
//! NAME                    group: of the function; of one without, as in the signature
//! ```
//!
//! A file without a build-id is represented by its name without directories, a frame in no
//! file by `?`, and the vDSO, whose build changes with the kernel, by `[vdso]`. These
//! frames count, innermost first: those that the crash's own registers or call-frame
//! information gave, and the caller of an address that is not code. If the stack has a
//! handler's frame, they begin at the fault. Call-frame information that may be in a debug
//! file does not count, because other hosts lack that file. In Go's code, which keeps frame
//! pointers everywhere, frames of that chain count too. Inlined calls have no frame, and
//! are left out.
//!
//! In a group the executable's frames count, too, if the code proves all frames up to them:
//! musl has no call-frame information, and two callers of its abort(3) are two bugs. Such
//! a proof may need symbols, as the names of a group do, and a signature must not.
//!
//! Which of them have a line:
//!
//! ```text
//! runtime frames before the first frame of the program
//!   in an abort     none: how a library ends a program is not a bug of that library
//!   otherwise       one line for all, `[runtime]`: the processor decides which variant of
//!                   strlen(3) ran; but the place itself if its caller is not certain
//!                   (musl has no call-frame information)
//!   in both         if a library of the program called them, the outermost has its own
//!                   line: one place there may call anything (libffi); in a group only if
//!                   its name begins without an underscore, so that every host knows it,
//!                   else `[runtime]`
//! runtime frames after that
//!                   none: the program's own frames are enough
//! all other frames  one line each; equal lines count once, because the depth of a
//!                   recursion is chance. In a signature, a call of a function below
//!                   another one of it has the place where the function begins, because
//!                   the way of a recursion through its calls is chance, too
//! ```
//!
//! Five lines count; where the innermost lies in another library, as many more as it
//! takes to have two that do not lie in that one, or all callers of a recursive parser
//! would be one. Of an abort that the executable's own code begins, all of 24 frames: there
//! the way of dying (of Rust's std, of a static C library) is not distinguished from the program
//! without symbols, and the values must not depend on these. A group, which may, leaves
//! out the functions of a way of dying by their names, and has five.
//!
//! The place in a recursion at which a stack is full is chance. So for a `stack_overflow`
//! only the lines count that more than one frame has, each once and sorted. If there are
//! none, those of the four frames after the innermost count.
//!
//! If a frame's file could not be read before all these lines were found, callers may be
//! missing. Then there is no value, because chance would decide it.

use crate::base::address::FileAddress;
use crate::crash::frame::Trust;
use crate::report::dying;
use crate::report::{Cause, Location};

/// The number of frames that are examined, whatever depth a report has.
pub const FRAMES_WALKED: usize = 24;
const LINES_COUNTED: usize = 5;
/// Of these, outside of the library where it happened.
const LINES_OUTSIDE: usize = 2;
/// A place in no file.
const NOWHERE: &[u8] = b"?";
/// A place in the runtime.
const IN_RUNTIME: &[u8] = b"[runtime]";
const VERSION: &[u8] = b"2";

/// One frame, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub trust: Trust,
    /// The fault happened here, and the frames before this one are its handler's.
    pub fault: bool,
    /// Its file was not available, so its callers are not certain.
    pub unread: bool,
    /// It is proven that it, and each frame before it, has called the next one.
    pub proven: bool,
    /// Its file has no call-frame information that cannot be taken off, and keeps frame
    /// pointers instead.
    pub keeps_frame_pointers: bool,
    /// Where its function begins, by call-frame information that cannot be taken off.
    pub function: Option<FileAddress>,
    pub location: &'a Location,
}

/// The other input of the two values.
#[derive(Clone, Copy, Debug)]
pub struct Crash<'a> {
    pub signal: i32,
    /// The word of the cause, as it would be if no function had a name.
    pub cause: &'a [u8],
    /// The executable's path.
    pub exe: Option<&'a [u8]>,
}

/// The two values; `None` for one that is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Signature {
    pub signature: Option<u64>,
    pub group: Option<u64>,
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signature,
    Group,
}

impl Signature {
    /// Of a crash with its frames, from the innermost on.
    #[must_use]
    pub fn of(crash: &Crash<'_>, places: &[Place<'_>]) -> Signature {
        let Some(exe) = crash.exe.map(base_name) else {
            return Signature::default();
        };
        let walked = &places[..places.len().min(FRAMES_WALKED)];
        let first = walked.iter().position(|place| place.fault).unwrap_or(0);
        let stack = Stack::new(&walked[first..], exe, crash.cause);
        let value = |kind| {
            let lines = stack.lines(kind)?;
            let mut value = Fnv::default();
            value.line(VERSION);
            value.line(crash.signal.to_string().as_bytes());
            value.line(crash.cause);
            if kind == Kind::Group || !lines.iter().any(|line| line.names_exe) {
                value.line(exe);
            }
            lines.iter().for_each(|line| value.line(&line.text));
            Some(value.0)
        };
        Signature {
            signature: value(Kind::Signature),
            group: value(Kind::Group),
        }
    }
}

/// A frame whose caller is certain.
#[derive(Clone, Copy)]
struct Counting<'a> {
    location: &'a Location,
    file: &'a [u8],
    /// Where its function begins, if this is one of several calls of it below the innermost.
    recursive: Option<FileAddress>,
    unread: bool,
    /// The file of an inner frame was not available: this may not be its caller.
    is_chance: bool,
    /// A frame that does not count lies between this one and the one that counts before it.
    follows_gap: bool,
    is_exe: bool,
    is_runtime: bool,
    /// Counts in a group, but not in a signature.
    in_group_alone: bool,
}

/// The frames that count.
struct Stack<'a> {
    frames: Vec<Counting<'a>>,
    /// The file of any frame was not available.
    is_blind: bool,
    is_abort: bool,
    is_recursive: bool,
}

/// A line of the text, and whether it has the executable's build-id in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    text: Vec<u8>,
    names_exe: bool,
}

impl<'a> Stack<'a> {
    fn new(places: &[Place<'a>], exe: &[u8], cause: &[u8]) -> Self {
        let mut frames = Vec::new();
        let (mut left_code, mut is_blind, mut is_gap) = (false, false, false);
        let is_recursive = cause == Cause::StackOverflow.as_str().as_bytes();
        for (depth, place) in places.iter().enumerate() {
            let file = file_name(place.location);
            // The call has pushed its return address, and nothing has run since.
            let called = left_code && place.trust == Trust::Leaf;
            let least = match place.keeps_frame_pointers {
                true => Trust::FramePointer,
                false => Trust::Cfi,
            };
            let counts = place.fault || called || place.trust >= least;
            let is_runtime = file != exe && dying::is_runtime(file);
            let proven = place.proven && file == exe;
            if counts || proven {
                frames.push(Counting {
                    location: place.location,
                    file,
                    recursive: place.function.filter(|_| {
                        let calls = places.iter().filter(|other| is_in_same(place, other));
                        depth > 0 && !is_recursive && calls.count() > 1
                    }),
                    unread: place.unread,
                    is_chance: is_blind,
                    follows_gap: is_gap,
                    is_exe: file == exe,
                    is_runtime,
                    in_group_alone: !counts,
                });
            }
            is_gap = !counts;
            is_blind |= place.unread;
            left_code = file == NOWHERE;
        }
        Stack {
            frames,
            is_blind,
            is_abort: cause == Cause::Abort.as_str().as_bytes(),
            is_recursive,
        }
    }

    /// The lines of a value; `None` if chance would decide which these are.
    fn lines(&self, kind: Kind) -> Option<Vec<Line>> {
        let (inner, own) = self.parts(kind);
        if self.is_recursive {
            let own = own.iter().map(|frame| frame.line(kind));
            let lines: Vec<Line> = inner.into_iter().chain(own).collect();
            return (!self.is_blind).then(|| repeated(&lines));
        }
        let many = match own.first() {
            Some(first) if self.is_abort && first.is_exe && !first.has_name(kind) => FRAMES_WALKED,
            _ => LINES_COUNTED,
        };
        let library = own.first().map(|first| first.file);
        let library = library.filter(|file| *file != NOWHERE && !own[0].is_exe);
        let mut lines = Vec::from_iter(inner);
        let mut outside = 0;
        for frame in &own {
            if lines.len() >= many && (library.is_none() || outside >= LINES_OUTSIDE) {
                return Some(lines);
            }
            if frame.is_chance || frame.unread && !frame.is_known(kind) {
                return None;
            }
            let line = frame.line(kind);
            if !lines.contains(&line) {
                lines.push(line);
                outside += usize::from(Some(frame.file) != library);
            }
        }
        let is_full = lines.len() >= many && (library.is_none() || outside >= LINES_OUTSIDE);
        (is_full || !self.is_blind).then_some(lines)
    }

    /// The line of the inner runtime frames, if they have one, and the frames of the program.
    fn parts(&self, kind: Kind) -> (Option<Line>, Vec<&Counting<'a>>) {
        let counts = |frame: &&Counting<'a>| kind == Kind::Group || !frame.in_group_alone;
        let frames: Vec<&Counting<'a>> = self.frames.iter().filter(counts).collect();
        let skipped = frames.iter().take_while(|frame| frame.is_runtime);
        let (inner, outer) = frames.split_at(skipped.count());
        if outer.is_empty() {
            // All that there is.
            return (None, inner.to_vec());
        }
        let own = outer.iter().filter(|frame| !frame.is_runtime);
        let mut own: Vec<&Counting<'a>> = own.copied().collect();
        let is_called_by_exe = own[0].is_exe;
        // A runtime without call-frame information (musl's) has one strlen(3), and its
        // caller does not count: only the place distinguishes crashes there.
        let is_gap = outer[0].follows_gap && !self.is_abort;
        let line = inner.last().and_then(|called| match is_called_by_exe {
            _ if is_gap => Some(called.line(kind)),
            true => (!self.is_abort).then(Line::of_runtime),
            false => Some(called.line_in_runtime(kind)),
        });
        if !self.is_abort {
            return (line, own);
        }
        let dying = own.iter().take_while(|frame| frame.is_dying()).count();
        if kind == Kind::Group && dying < own.len() {
            own.drain(..dying);
        }
        (line, own)
    }
}

/// Whether two calls are known to be of one function.
fn is_in_same(one: &Place<'_>, other: &Place<'_>) -> bool {
    one.function == other.function && one.location.module == other.location.module
}

impl Line {
    fn of_runtime() -> Line {
        Line {
            text: IN_RUNTIME.to_vec(),
            names_exe: false,
        }
    }
}

impl Counting<'_> {
    /// The line of a runtime function that a library has called. Only exported functions have a
    /// name on every host, and among these only C functions begin without an underscore.
    fn line_in_runtime(&self, kind: Kind) -> Line {
        let symbol = self.location.symbol.as_ref();
        let is_private = symbol.is_none_or(|symbol| symbol.name.starts_with(b"_"));
        match kind {
            Kind::Group if is_private => Line::of_runtime(),
            _ => self.line(kind),
        }
    }

    fn is_dying(&self) -> bool {
        let symbol = self.location.symbol.as_ref();
        symbol.is_some_and(|symbol| dying::is_function(&symbol.name))
    }

    fn has_name(&self, kind: Kind) -> bool {
        kind == Kind::Group && self.location.symbol.is_some()
    }

    /// Whether its line would be the same if its file were available.
    fn is_known(&self, kind: Kind) -> bool {
        let is_placed = self.location.build_id.is_some() && self.location.module_offset.is_some();
        match kind {
            Kind::Signature => is_placed,
            Kind::Group => self.location.symbol.is_some(),
        }
    }

    fn line(&self, kind: Kind) -> Line {
        let named = match kind {
            Kind::Group => self.location.symbol.as_ref(),
            Kind::Signature => None,
        };
        Line {
            text: match named {
                Some(symbol) => in_any_build(&symbol.name),
                // If nothing else is known, at least different places get different lines.
                None => in_build(
                    self.location,
                    self.recursive.filter(|_| kind == Kind::Signature),
                ),
            },
            names_exe: self.is_exe && self.is_known(kind),
        }
    }
}

/// The lines that are the same wherever in a recursion the stack is full.
fn repeated(lines: &[Line]) -> Vec<Line> {
    let callers = lines.get(1..).unwrap_or_default();
    let often = |line: &&Line| lines.iter().filter(|other| other == line).count() > 1;
    let any = callers.iter().any(|line| often(&line));
    let counted = if any { lines.len() } else { LINES_COUNTED - 1 };
    let counting = callers.iter().take(counted);
    let mut sorted: Vec<Line> = Vec::new();
    for line in counting.filter(|line| !any || often(line)) {
        let at = sorted.partition_point(|other| other < line);
        if sorted.get(at) != Some(line) {
            sorted.insert(at, line.clone());
        }
    }
    sorted
}

/// The place in its build; that of the whole function, where the call does not matter.
fn in_build(location: &Location, function: Option<FileAddress>) -> Vec<u8> {
    let module = file_name(location);
    let offset = function.or(location.module_offset);
    let offset = offset.filter(|_| module != b"[vdso]");
    let mut line = Vec::new();
    match &location.build_id {
        Some(id) if offset.is_some() => {
            for byte in id {
                digits(&mut line, u64::from(*byte), 2);
            }
        }
        _ => line.extend_from_slice(module),
    }
    if let Some(offset) = offset {
        line.push(b'+');
        let needed = (64 - offset.0.leading_zeros()).div_ceil(4);
        digits(&mut line, offset.0, needed.max(1));
    }
    line
}

/// The lowest digits of a number, hexadecimal.
fn digits(line: &mut Vec<u8>, value: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = value >> (4 * place) & 15;
        line.push(b"0123456789abcdef"[digit as usize]);
    }
}

/// A function's name without the suffix that the compiler adds for a part or a copy of it.
fn in_any_build(name: &[u8]) -> Vec<u8> {
    const ADDED: [&[u8]; 6] = [
        b".cold",
        b".constprop.",
        b".isra.",
        b".llvm.",
        b".lto_priv.",
        b".part.",
    ];
    let end = (1..name.len()).find(|&at| ADDED.iter().any(|added| name[at..].starts_with(added)));
    name[..end.unwrap_or(name.len())].to_vec()
}

fn file_name(location: &Location) -> &[u8] {
    match location.module.as_deref() {
        // Its address is chance: it is on the heap, on the stack, or was made at run time.
        None | Some(b"[anon]" | b"[heap]" | b"[stack]") => NOWHERE,
        Some(path) => base_name(path),
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
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
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
