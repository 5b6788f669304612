//! Starts, questions and ends the children that fault on purpose.
//!
//! A child is this program, executed again so that it has its own addresses, under a
//! name from which it knows that it is a child. It sets up the files and values of
//! [`Known`], reports the values that chance decided, and faults. Its handler reports the
//! fault and waits: no core, no line in the kernel's log. The child ends when its parent
//! does.

use std::ffi::{CStr, OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::procfs;
use crate::measure::facts::{self, Child, Fact, Facts, Known, Name, Seen};
use crate::measure::facts::{GONE, OUTER, REPORTED_BYTES};
use crate::measure::peek::Peek;
use crate::sys::file::Directory;
use crate::sys::mmap::page_bytes;
use crate::sys::own_fault::{self, Registers, Spawned};
use crate::sys::time;

/// The name under which a child is executed.
const MARK: &CStr = c"segfault_analyzer: measuring";
/// Where a child mounts a file system of its own.
const COVERED: &CStr = c"/proc";
/// The next child's stack pointer is so much further up.
const STACK_STEP: u64 = 128;
const STACK_BYTES: usize = 64 << 10;
/// More than a child's files in /proc have.
const PROC_BYTES: usize = 64 << 10;
/// Ancestors of the tool that are looked at.
const MOST_ANCESTORS: usize = 8;

/// Fields of `/proc/PID/stat`: proc(5).
const STAT: [(usize, Fact); 11] = [
    (22, Fact::StartTicks),
    (26, Fact::StartCode),
    (27, Fact::EndCode),
    (28, Fact::StartStack),
    (45, Fact::StartData),
    (46, Fact::EndData),
    (47, Fact::StartBrk),
    (48, Fact::ArgStart),
    (49, Fact::ArgEnd),
    (50, Fact::EnvStart),
    (51, Fact::EnvEnd),
];

/// The beginning of the children's names: eight bytes that no other name has.
#[must_use]
pub fn magic() -> [u8; 8] {
    let now = time::boottime_ns().cast_unsigned();
    let chance = now.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut magic = [0; 8];
    for (at, byte) in magic.iter_mut().enumerate() {
        *byte = b'a' + (chance >> (24 + at * 4) & 15) as u8;
    }
    magic
}

/// A name up to its NUL, which every name has.
fn text(name: &[u8]) -> &CStr {
    CStr::from_bytes_until_nul(name).unwrap_or_default()
}

/// A child that runs; it ends with this.
#[derive(Debug)]
pub struct Running {
    process: Spawned,
    name: Name,
    facts: Facts,
}

/// Starts a child; returns when it has faulted and handled that.
#[must_use]
pub fn start(program: &CStr, number: u32, magic: &[u8; 8]) -> Option<Running> {
    let name = facts::thread_name(magic, number);
    let mut process = own_fault::spawn(program, MARK, text(&name))?;
    let mut reported = [0; REPORTED_BYTES + 1];
    process.output.read_exact(&mut reported).ok()?;
    let mut facts = Facts::default();
    facts.hear(reported.first_chunk()?);
    Some(Running {
        process,
        name,
        facts,
    })
}

/// A process in /proc.
fn process(pid: u64) -> Option<Directory> {
    Directory::open(Path::new(&format!("/proc/{pid}"))).ok()
}

impl Running {
    /// What the probe and /proc report about it.
    #[must_use]
    pub fn child(&self, peek: &mut Peek) -> Option<Child> {
        let mut seen = self.seen()?;
        let fault = peek.fault()?;
        let leader = fault.ids >> 32;
        seen.facts.set(Fact::Ids, fault.ids);
        seen.facts.set(Fact::LeaderIds, leader << 32 | leader);
        seen.facts.set(Fact::StackTop, fault.stack_top);
        if fault.ids as u32 != leader as u32 {
            seen.facts.set(Fact::StartTicks, 0);
        }
        Some(Child {
            task: fault.task,
            top: fault.top,
            seen,
        })
    }

    /// What /proc reports about it now.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let pid = self.process.pid();
        let process = process(pid.into())?;
        let known = Known::of_name(&self.name);
        let mut facts = self.facts.clone();
        let stat = process.read_small("stat", PROC_BYTES)?;
        for (number, fact) in STAT {
            facts.set(fact, procfs::stat_field(&stat, number).unwrap_or(0));
        }
        let lines = procfs::parse_maps(&process.read_small("maps", PROC_BYTES)?);
        facts.set_name(Fact::Name, &self.name);
        facts.set(Fact::FaultAddress, known.fault_address());
        if facts.get(Fact::HasFiles) != 0 {
            let namespace = procfs::namespace(&process.read_link("ns/mnt")?)?;
            facts.set(Fact::MountNamespace, namespace.into());
        }
        for line in &lines {
            if line.path == b"[vdso]" {
                facts.set(Fact::Vdso, line.start);
            }
            facts.set(Fact::LastEnd, line.end);
        }
        facts.set(Fact::FirstStart, lines.first()?.start);
        facts.set(Fact::FirstEnd, lines.first()?.end);
        let executable = process.read_link("exe")?;
        let (name, mask) = executable_name(&executable);
        facts.set(Fact::Executable, name);
        facts.set(Fact::ExecutableMask, mask);
        Some(Seen {
            known,
            name: self.name,
            pid,
            facts,
            lines,
            executable,
        })
    }
}

/// The first bytes of the base name as a dentry has it, with its NUL, and which bits count.
fn executable_name(path: &[u8]) -> (u64, u64) {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let base = &path[slash.map_or(0, |at| at + 1)..];
    let (mut name, mut mask) = ([0; 8], [0; 8]);
    for at in 0..name.len().min(base.len() + 1) {
        name[at] = base.get(at).copied().unwrap_or(0);
        mask[at] = 0xff;
    }
    (u64::from_ne_bytes(name), u64::from_ne_bytes(mask))
}

/// Start times, in ticks, of our parent, of that one's, and so on, as far as we see them.
#[must_use]
pub fn ancestors() -> Vec<u64> {
    let mut found = Vec::new();
    let mut pid = u64::from(std::os::unix::process::parent_id());
    while found.len() < MOST_ANCESTORS {
        let stat = process(pid).and_then(|process| process.read_small("stat", PROC_BYTES));
        let stat = stat.unwrap_or_default();
        let Some(ticks) = procfs::stat_field(&stat, procfs::stat::STARTED) else {
            break;
        };
        found.push(ticks);
        pid = procfs::stat_field(&stat, procfs::stat::PARENT).unwrap_or(0);
    }
    found
}

/// Runs as a child if that is what the program's name says; does not return then.
pub fn run_as_child(name: &OsStr, args: &mut dyn Iterator<Item = OsString>) {
    if name.as_bytes() == MARK.to_bytes() {
        let mut name = Name::default();
        for (at, byte) in name
            .iter_mut()
            .zip(args.next().unwrap_or_default().as_bytes())
        {
            *at = *byte;
        }
        let _ = live(name);
        own_fault::end()
    }
}

fn live(name: Name) -> Option<()> {
    own_fault::die_with_parent();
    // A thread inherits its name.
    own_fault::set_thread_name(&name);
    let known = Known::of_name(&name);
    let has_files = u64::from(make_files(known).is_some());
    if known.number.is_multiple_of(2) {
        fault(has_files);
    }
    let stack = own_fault::map_memory(STACK_BYTES)?;
    own_fault::go_on_in_thread(stack + STACK_BYTES as u64, fault, has_files);
    None
}

extern "C" fn fault(has_files: u64) -> ! {
    let known = Known::of_name(&own_fault::thread_name());
    let _ = prepare_and_fault(known, has_files);
    own_fault::end()
}

fn prepare_and_fault(known: Known, has_files: u64) -> Option<()> {
    let alternate = own_fault::map_memory(STACK_BYTES)?;
    own_fault::handle_faults(alternate, STACK_BYTES)?;
    let stack = own_fault::map_memory(STACK_BYTES)?;
    let sp = stack + STACK_BYTES as u64 / 2 + u64::from(known.number + 1) * STACK_STEP;
    let mut facts = Facts::default();
    facts.set(Fact::Tid, own_fault::tid());
    facts.set(Fact::Sp, sp);
    facts.set(Fact::Brk, own_fault::heap_end());
    facts.set(Fact::AlternateStart, alternate);
    facts.set(Fact::AlternateBytes, STACK_BYTES as u64);
    facts.set(Fact::HasFiles, has_files);
    own_fault::say(&facts.reported())?;
    own_fault::fault(&Registers {
        fault_address: known.fault_address(),
        sp,
        values: known.registers(),
    })
}

/// Two file systems, one within the other, both in a third, and files in both. Only this
/// process sees them, and they end with it.
fn make_files(known: Known) -> Option<()> {
    own_fault::own_mounts()?;
    own_fault::mount_and_enter(COVERED)?;
    for number in 0..2 {
        let name = known.mount_name(number);
        own_fault::make_directory(text(&name))?;
        own_fault::mount_and_enter(text(&name))?;
        if number == 0 {
            make_file(known, OUTER)?;
        }
    }
    own_fault::make_directory(text(&known.directory_name()))?;
    own_fault::enter(text(&known.directory_name()))?;
    for number in 0..OUTER {
        make_file(known, number)?;
    }
    Some(())
}

fn make_file(known: Known, number: u32) -> Option<()> {
    let wanted = known.file(number);
    let page = page_bytes() as u64;
    let (seconds, nanoseconds) = wanted.mtime();
    // So that the files of the children have other inode numbers.
    for _ in 0..3 + 20 * known.number {
        own_fault::make_file(c"other", 0, seconds, nanoseconds)?;
        own_fault::remove(c"other")?;
    }
    let whole = wanted.whole_name();
    let path = text(&whole);
    let file = own_fault::make_file(path, wanted.size_bytes(page), seconds, nanoseconds)?;
    let bytes = page_bytes() * (1 + number as usize);
    own_fault::map_file(&file, wanted.page_offset() * page, bytes)?;
    if number == GONE {
        own_fault::remove(path)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_is_cut_to_a_word() {
        let (name, mask) = executable_name(b"/usr/bin/sa (deleted)");
        assert_eq!(&name.to_ne_bytes(), b"sa\0\0\0\0\0\0");
        assert_eq!(mask, 0xff_ffff);
        let (name, mask) = executable_name(b"/segfault_analyzer");
        assert_eq!((&name.to_ne_bytes(), mask), (b"segfault", u64::MAX));
    }

    #[test]
    fn two_children_are_not_taken_for_each_other() {
        let seen: std::collections::BTreeSet<_> = (0..100).map(|_| magic()).collect();
        assert!(seen.len() > 90, "{} of 100 differ", seen.len());
    }
}
