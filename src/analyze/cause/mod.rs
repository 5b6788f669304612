//! Why it crashed: a word that never changes its meaning, and a sentence with the
//! evidence.
//!
//! The input is a captured event, the frames that were found and the names of the
//! functions; the output is a [`Verdict`]. The evidence is what the processor reported
//! (error code or syndrome, trap), the signal, the mappings, the registers, and the
//! decoded instruction at the pc. Pieces that contradict each other do not count: a
//! signal without a trap was sent, not raised by a fault.
//!
//! ```text
//! infer     what the event lacks of the fault, by the instruction
//! choose    this delivery's fault, or the handled one before it
//! judge ──> sent, made      a signal without a fault
//!      ├──> page ──> jump   the pc could not be fetched
//!      │        └──> stack  at the end of a stack
//!      ├──> operand         general protection: the address is in the instruction
//!      ├──> trap            bus errors, division, undefined instructions, ...
//!      └──> abort           the reason, from the names on the stack
//! ```
//!
//! Every number in a sentence was captured, or computed from captured numbers. If the
//! kind of cause is a guess, the sentence says `probably` or `looks like`. What cannot be
//! known is `unknown`, and the sentence says why.

mod abort;
pub(in crate::analyze) mod calls;
mod choose;
mod infer;
mod jump;
mod notes;
mod operand;
mod page;
mod privileged;
mod stack;
#[cfg(test)]
mod tests;
mod trap;
mod words;

use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Siginfo, Trap};
use crate::crash::fault::{self};
use crate::crash::kinds::Access;
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{code, signal};
use crate::decode::{decode, decode_at_pc, Decoded};
use crate::report::{Cause, Location};

pub use choose::choose;
pub use infer::infer;
pub use jump::is_vsyscall;
pub use notes::note;
pub use operand::describe;

use words::Words;

/// One fault: the delivery's own, or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    /// This and the trap are what the kernel says, or all that the instruction leaves
    /// possible ([`infer`]): perf events have neither.
    pub siginfo: Siginfo,
    pub trap: Option<Trap>,
    pub pc: ProcessAddress,
}

/// How an earlier fault led to this death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// The kernel could not write the frame of its handler.
    NoFrame,
    /// Its handler is on the stack.
    Handled,
    /// It was handled not long before.
    Recent,
}

/// The fault that the cause is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub fault: Fault,
    /// As they were at that fault.
    pub registers: Option<Registers>,
    /// `None` for the delivery's own fault.
    pub earlier: Option<Earlier>,
    /// The signal was made by a system call, though its code is a kernel's.
    pub made: bool,
}

/// Everything from which a cause is derived.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub event: &'a Event,
    pub chosen: &'a Chosen,
    /// Bytes from the fault's pc on.
    pub code: &'a [u8],
    /// The code before it, as far as it was captured.
    pub before: &'a [u8],
    /// Names of the functions on the stack, innermost first; empty where one has none.
    pub functions: &'a [&'a [u8]],
    /// The name of the fault's address, if it lies in code.
    pub place: &'a Location,
    /// Whether texts of the process may be shown.
    pub quotes: bool,
}

/// Why it crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cause: Cause,
    /// Raw bytes: names of files and functions are in it.
    pub text: Vec<u8>,
    /// The accessed address and the access, if the signal itself does not have them.
    pub address: Option<ProcessAddress>,
    pub access: Option<Access>,
    /// What the cause would be if no function had a name: the same on hosts with
    /// and without symbols.
    pub nameless: Cause,
}

impl Verdict {
    fn new(cause: Cause, words: Words) -> Self {
        Verdict {
            cause,
            text: words.0,
            address: None,
            access: None,
            nameless: cause,
        }
    }

    fn plain(cause: Cause, text: &str) -> Self {
        Verdict::new(cause, Words(text.into()))
    }
}

/// The evidence, and what was derived from it.
struct Scene<'a> {
    evidence: &'a Evidence<'a>,
    event: &'a Event,
    fault: Fault,
    arch: Arch,
    registers: Option<&'a Registers>,
    decoded: Option<Decoded>,
}

impl Scene<'_> {
    fn access(&self) -> Option<Access> {
        fault::access(self.arch, self.fault.siginfo, self.fault.trap)
    }

    /// The address that the signal names; only asked of signals that name one.
    fn named_address(&self) -> u64 {
        self.fault.siginfo.address().unwrap_or_default().0
    }

    /// The same as mappings are numbered: without a tag.
    fn address(&self) -> u64 {
        self.untagged(self.named_address())
    }

    fn is_trap(&self, number: u64) -> bool {
        self.fault.trap.is_some_and(|trap| trap.number == number)
    }

    /// The exception class of an arm64 syndrome.
    fn syndrome_class(&self) -> Option<u64> {
        let trap = self.fault.trap?;
        Some(fault::syndrome_class(trap.error_code))
    }

    fn untagged(&self, address: u64) -> u64 {
        match self.arch {
            // Without a tag the top bits would equal bit 55 (top-byte-ignore).
            Arch::Aarch64 => ((address << 8) as i64 >> 8) as u64,
            _ => address,
        }
    }

    /// Whether this cannot be an address: its high bits are not all equal.
    ///
    /// x86_64 without five-level paging; aarch64 with any size of address.
    fn non_canonical(&self, address: u64) -> bool {
        let spare = match self.arch {
            Arch::X86_64 => 16,
            Arch::Aarch64 => 11,
            Arch::I386 | Arch::Arm => return false,
        };
        let address = self.untagged(address);
        ((address << spare) as i64 >> spare) as u64 != address
    }

    /// A further word of the siginfo, which is captured only for the delivery's own fault.
    fn own_siginfo(&self, word: usize) -> Option<u64> {
        let own = self.evidence.chosen.earlier.is_none();
        let more = self.event.siginfo_more.filter(|_| own)?;
        Some(more[word])
    }

    fn is_silent(&self) -> bool {
        let trap = self.fault.trap;
        trap.is_some_and(|trap| choose::is_silent(self.arch, &trap))
    }

    fn register(&self, number: u16) -> Option<u64> {
        self.registers.and_then(|registers| registers.dwarf(number))
    }

    fn stack_pointer(&self) -> Option<u64> {
        self.registers.map(|registers| registers.sp().0)
    }

    /// The innermost function's name, or nothing.
    fn function(&self) -> &[u8] {
        self.evidence.functions.first().copied().unwrap_or(b"")
    }
}

/// Why it crashed.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let chosen = evidence.chosen;
    let arch = evidence
        .event
        .registers
        .map_or(Arch::NATIVE, |registers| registers.arch());
    let scene = Scene {
        evidence,
        event: evidence.event,
        fault: chosen.fault,
        arch,
        registers: chosen.registers.as_ref(),
        decoded: match &chosen.registers {
            Some(registers) => decode_at_pc(registers, evidence.code),
            None => decode(arch, evidence.code),
        },
    };
    let mut verdict = of_fault(&scene, chosen.made);
    if matches!(
        verdict.cause,
        Cause::NullDereference | Cause::Unmapped | Cause::NonCanonical
    ) {
        abort::in_allocator(&scene, &mut verdict.text);
    }
    if let Some(earlier) = chosen.earlier {
        // Address and access describe the earlier fault.
        (verdict.address, verdict.access) = (None, None);
        verdict.text.extend_from_slice(match earlier {
            Earlier::NoFrame => b"; the signal's handler could not be run",
            Earlier::Handled => b"; a handler of the program took this fault first",
            Earlier::Recent => b"; probably a handler took this fault shortly before the signal",
        });
    }
    verdict
}

/// Words for a fault of which nothing tells more than that it was one.
fn unknown_access(scene: &Scene<'_>) -> Verdict {
    let pc = scene.fault.pc;
    let mut words = Words::default();
    words.text("perf events have neither the address nor the access");
    if scene.event.mapping(pc).is_none() {
        words.text("; no mapping with code was seen at the instruction pointer");
    } else {
        words.text(", and the instruction does not show them");
    }
    Verdict::new(Cause::Unknown, words)
}

fn of_fault(scene: &Scene<'_>, made: bool) -> Verdict {
    let fault = &scene.fault;
    if made {
        return choose::made(scene);
    }
    if fault.signal == signal::SIGABRT {
        return abort::verdict(scene);
    }
    if fault.code <= code::SI_USER {
        return choose::sent(scene);
    }
    if fault.trap.is_none()
        && matches!(
            fault.signal,
            signal::SIGSEGV | signal::SIGBUS | signal::SIGSYS
        )
    {
        return unknown_access(scene);
    }
    match fault.signal {
        signal::SIGSEGV if fault.code == code::SI_KERNEL => operand::protection(scene),
        signal::SIGSEGV => page::verdict(scene),
        signal::SIGBUS => trap::bus(scene),
        signal::SIGILL => trap::undefined(scene),
        signal::SIGFPE => trap::arithmetic(scene),
        signal::SIGTRAP => trap::breakpoint(scene),
        signal::SIGSYS => trap::system_call(scene),
        _ => Verdict::plain(Cause::Unknown, "no fault raises this signal"),
    }
}
