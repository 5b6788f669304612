//! What a core of ours holds beside what the kernel's have: a note that says what the
//! processor said of the fault, and which mappings there were; and with `--threads` another
//! one, of the other threads.
//!
//! Each note is made of 64-bit words, on every architecture; a reader that expects fewer of
//! them ignores the rest. It is as foreign as everything else in a core: who made the file
//! may have written anything.

use crate::base::address::ProcessAddress;
use crate::base::bytes::Cursor;
use crate::crash::event::{EarlierFault, Event, Mapping, Siginfo, Trap, VmFlags};
use crate::crash::fault;

pub(super) const NAME: &[u8] = b"segfault_analyzer\0";
pub(super) const KIND: u32 = 1;
/// [`super::own_threads`] has its words.
pub(super) const THREADS: u32 = 2;

const VERSION: u64 = 1;
/// Flags: the kernel reported these.
const HAS_SIGINFO: u64 = 1;
const HAS_TRAP: u64 = 1 << 1;
const HAS_FIRST: u64 = 1 << 2;
const FIRST_HAS_TRAP: u64 = 1 << 3;
const FIRST_HAS_SIGINFO: u64 = 1 << 4;
/// It did not report mappings without code.
const ONLY_CODE: u64 = 1 << 5;

/// `max_map_count` is seldom larger.
const MAX_MAPPINGS: usize = 1 << 16;

/// The note, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct OwnNote {
    pub(super) unix_ms: u64,
    pub(super) boot_ns: u64,
    pub(super) start_ns: u64,
    /// Stack, heap, vDSO.
    pub(super) places: [u64; 4],
    /// The first bytes of the vDSO's build-id; 0 if that is not known.
    pub(super) vdso_id: u64,
    /// How much of a stack was to be captured.
    pub(super) window_bytes: u64,
    /// Registers whose values are not known.
    pub(super) unknown: u64,
    pub(super) has_siginfo: bool,
    /// There were mappings that are not among these.
    pub(super) has_only_code: bool,
    pub(super) trap: Option<Trap>,
    pub(super) first_fault: Option<EarlierFault>,
    pub(super) mappings: Vec<Mapping>,
}

/// The words of a note for this event.
pub(super) fn words(event: &Event, unix_ms: u64, vdso_id: u64, window_bytes: u64) -> Vec<u64> {
    let known = |is_known: bool, flag: u64| if is_known { flag } else { 0 };
    let first = event.first_fault;
    let first_trap = first.and_then(|first| first.trap);
    let flags = known(event.siginfo != Siginfo::Unknown, HAS_SIGINFO)
        | known(event.trap.is_some(), HAS_TRAP)
        | known(first.is_some(), HAS_FIRST)
        | known(first_trap.is_some(), FIRST_HAS_TRAP)
        | known(
            first.is_some_and(|first| first.siginfo != Siginfo::Unknown),
            FIRST_HAS_SIGINFO,
        )
        | known(event.lacks("data_mappings"), ONLY_CODE);
    let mut words = vec![
        VERSION,
        flags,
        unix_ms,
        event.boot_ns,
        event.start_ns,
        event.start_stack.0,
        event.start_brk.0,
        event.brk.0,
        event.vdso.0,
        vdso_id,
        window_bytes,
        event.registers.map_or(0, |registers| registers.unknown()),
    ];
    words.extend(trap_words(event.trap));
    words.extend([
        first.map_or(0, |first| first.signal as u64),
        first.map_or(0, |first| first.code as u64),
        first.map_or(0, |first| siginfo_word(first.siginfo)),
        first.map_or(0, |first| first.pc.0),
        first.map_or(0, |first| first.boot_ns),
    ]);
    words.extend(trap_words(first_trap));
    for mapping in event.mappings.iter().take(MAX_MAPPINGS) {
        words.extend([mapping.start.0, mapping.end.0, mapping.flags.0]);
    }
    words
}

fn trap_words(trap: Option<Trap>) -> [u64; 3] {
    trap.map_or([0; 3], |trap| [trap.address, trap.error_code, trap.number])
}

/// What a siginfo has in its first word after the codes.
pub(super) fn siginfo_word(siginfo: Siginfo) -> u64 {
    match siginfo {
        Siginfo::Address(address) => address.0,
        Siginfo::Sender(sender) => {
            let (pid, uid) = (sender.pid.unwrap_or(0), sender.uid.unwrap_or(0));
            u64::from(pid) | u64::from(uid) << 32
        }
        Siginfo::Neither | Siginfo::Unknown => 0,
    }
}

/// Reads it; `None` if it is cut off, or of a version that this tool does not know.
pub(super) fn read(bytes: &[u8]) -> Option<OwnNote> {
    let mut cursor = Cursor::new(bytes);
    let mut next = || cursor.u64().ok();
    if next()? != VERSION {
        return None;
    }
    let flags = next()?;
    let has = |flag: u64| flags & flag != 0;
    let mut note = OwnNote {
        unix_ms: next()?,
        boot_ns: next()?,
        start_ns: next()?,
        places: [next()?, next()?, next()?, next()?],
        vdso_id: next()?,
        window_bytes: next()?,
        unknown: next()?,
        has_siginfo: has(HAS_SIGINFO),
        has_only_code: has(ONLY_CODE),
        ..OwnNote::default()
    };
    let trap = |is_known: bool, words: [u64; 3]| {
        let [address, error_code, number] = words;
        is_known.then_some(Trap {
            address,
            error_code,
            number,
        })
    };
    note.trap = trap(has(HAS_TRAP), [next()?, next()?, next()?]);
    let (signal, code) = (next()? as i32, next()? as i32);
    let (word, pc, boot_ns) = (next()?, next()?, next()?);
    let first_trap = trap(has(FIRST_HAS_TRAP), [next()?, next()?, next()?]);
    note.first_fault = has(HAS_FIRST).then_some(EarlierFault {
        signal,
        code,
        siginfo: match has(FIRST_HAS_SIGINFO) {
            true => fault::siginfo(code, word),
            false => Siginfo::Unknown,
        },
        pc: ProcessAddress(pc),
        trap: first_trap,
        boot_ns,
    });
    while let (Some(start), Some(end), Some(flags)) = (next(), next(), next()) {
        if note.mappings.len() >= MAX_MAPPINGS {
            break;
        }
        note.mappings.push(Mapping {
            start: ProcessAddress(start),
            end: ProcessAddress(end),
            flags: VmFlags(flags),
            file: None,
        });
    }
    Some(note)
}
