//! What is known about the children that fault on purpose: the values that they set up,
//! and what /proc and the probe report.
//!
//! Parent and child compute the same values from the child's number, so that the child
//! sends only what chance decided. No field has one of these values by accident, and
//! they differ between the children. A name has sixteen bytes, which are two words.

use crate::base::procfs::Line;

/// Children whose memory is searched.
pub const CHILDREN: u32 = 2;
/// Registers that a child sets, by [`Known::registers`].
pub const REGISTERS: usize = 6;
/// Files that a child maps.
pub const FILES: u32 = 4;
/// The file with a long name, the unlinked one, and the one on the outer file system.
pub const LONG: u32 = 1;
pub const GONE: u32 = 2;
pub const OUTER: u32 = 3;

/// `X86_TRAP_PF`; the error code of a write from user space to memory that is not there.
const PAGE_FAULT: u64 = 14;
const USER_WRITE: u64 = 6;
/// arm64: the syndrome of a data abort in user space, caused by a write without a
/// translation; and the mask of the bits that say so, all but the level.
const DATA_ABORT: u64 = 0x9200_0044;
pub const SYNDROME: u64 = 0xfe00_007c;
/// include/uapi/linux/auxvec.h
const AT_SYSINFO_EHDR: u64 = 33;

/// Whether this is what the processor reports for a child's fault.
#[must_use]
pub fn is_childs_fault(trap: u64, error_code: u64) -> bool {
    match cfg!(target_arch = "aarch64") {
        true => error_code & SYNDROME == DATA_ABORT,
        false => (trap, error_code) == (PAGE_FAULT, USER_WRITE),
    }
}

/// A name, with its NUL.
pub type Name = [u8; 16];

/// The name of the thread that faults; all begin with the magic.
#[must_use]
pub fn thread_name(magic: &[u8; 8], number: u32) -> Name {
    let mut name = *b"________-child0\0";
    name[..8].copy_from_slice(magic);
    name[14] += number as u8;
    name
}

/// Whether a thread may be such a child of any run of this tool.
#[must_use]
pub fn is_thread_name(name: &[u8]) -> bool {
    matches!(
        name.split_at_checked(8),
        Some((_, [b'-', b'c', b'h', b'i', b'l', b'd', b'0'..=b'9']))
    )
}

/// The meaning of a value in [`Facts`]. A name takes two consecutive values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    // Values that a child reports when it is ready.
    Tid,
    Sp,
    Brk,
    AlternateStart,
    AlternateBytes,
    /// Whether it could make its file systems.
    HasFiles,
    // The values that the child set up, and those that the probe saw.
    FaultAddress,
    Name,
    NameEnd,
    /// The task of its parent, which is the tool, and the inode of their pid namespace.
    Parent,
    PidNamespace,
    /// Process << 32 | thread, in the first pid namespace; the same of its first thread.
    Ids,
    LeaderIds,
    StackTop,
    // Values from /proc.
    /// Of a process; 0 for any thread but its first.
    StartTicks,
    MountNamespace,
    StartCode,
    EndCode,
    StartData,
    EndData,
    StartBrk,
    StartStack,
    ArgStart,
    ArgEnd,
    EnvStart,
    EnvEnd,
    Vdso,
    FirstStart,
    FirstEnd,
    LastEnd,
    /// The first bytes of the executable's name, and which bits count.
    Executable,
    ExecutableMask,
    // Facts about one mapping.
    Mm,
    Flags,
    PageOffset,
    /// 0 if no file is mapped.
    File,
    // Facts about a file that the child has made.
    Made,
    /// On which of its file systems; 0 for the other.
    Inner,
    Outer,
    FileName,
    FileNameEnd,
    Directory,
    DirectoryEnd,
    /// Where the file system is mounted, and where its parent file system is mounted.
    Mount,
    MountEnd,
    OuterMount,
    OuterMountEnd,
    Inode,
    Device,
    Size,
    Seconds,
    Nanoseconds,
    /// 0 if it was unlinked.
    Linked,
    // Values that are always the same.
    PageFault,
    UserWrite,
    DataAbort,
    SysinfoTag,
    /// The name of a root.
    Slash,
}

const FACTS: usize = Fact::Slash as usize + 1;
/// As many as a child says of itself.
const REPORTED: usize = Fact::HasFiles as usize + 1;
pub const REPORTED_BYTES: usize = REPORTED * 8;

/// A value for each [`Fact`]; 0 if it does not apply, which no search finds once.
#[derive(Clone, Debug)]
pub struct Facts([u64; FACTS]);

impl Default for Facts {
    fn default() -> Self {
        let mut facts = Facts([0; FACTS]);
        facts.set(Fact::PageFault, PAGE_FAULT);
        facts.set(Fact::UserWrite, USER_WRITE);
        facts.set(Fact::DataAbort, DATA_ABORT);
        facts.set(Fact::SysinfoTag, AT_SYSINFO_EHDR);
        facts.set(Fact::Slash, u64::from(b'/'));
        facts
    }
}

impl Facts {
    #[must_use]
    pub fn get(&self, fact: Fact) -> u64 {
        self.0[fact as usize]
    }

    pub fn set(&mut self, fact: Fact, value: u64) {
        self.0[fact as usize] = value;
    }

    pub fn set_name(&mut self, fact: Fact, name: &Name) {
        for (at, half) in name.chunks_exact(8).enumerate() {
            self.0[fact as usize + at] = word(half);
        }
    }

    /// The bytes that a child sends.
    #[must_use]
    pub fn reported(&self) -> [u8; REPORTED_BYTES] {
        let mut bytes = [0; REPORTED_BYTES];
        for (at, value) in bytes.chunks_exact_mut(8).zip(self.0) {
            at.copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    /// Takes in what a child has sent.
    pub fn hear(&mut self, reported: &[u8; REPORTED_BYTES]) {
        for (at, value) in reported.chunks_exact(8).enumerate() {
            self.0[at] = word(value);
        }
    }
}

/// Eight bytes as the processor reads them; the missing ones are zeros.
fn word(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(whole)
}

/// The values that a child sets up, computed from its number and the beginning of its name:
/// these differ each time, so that leftovers of an earlier child do not match.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub number: u32,
    chance: u32,
}

impl Known {
    /// The address that it writes to: never mapped, even with 39 bits of addresses.
    #[must_use]
    pub fn fault_address(self) -> u64 {
        0x5e_adbe_ef00 + u64::from(self.chance) * 0x1000 + u64::from(self.number) * 0x1_0008
    }

    /// r15 to r12, rbp, rbx; x19 to x24: in the order in which the kernel keeps them.
    #[must_use]
    pub fn registers(self) -> [u8; 8 * REGISTERS] {
        let differs = u64::from(self.number + 1) * 77 + u64::from(self.chance) * 0x1_0000;
        let mut value = 0x1212_c0de_0000_0000 + differs;
        let mut bytes = [0; 8 * REGISTERS];
        for at in bytes.chunks_exact_mut(8) {
            at.copy_from_slice(&value.to_ne_bytes());
            value += 0x0101_0000_0000_0016;
        }
        bytes
    }

    /// The values of a thread with this name: a magic that no other name has, and a number.
    #[must_use]
    pub fn of_name(name: &Name) -> Known {
        let mut chance = 0;
        for byte in &name[..4] {
            chance = chance << 4 | u32::from(byte & 15);
        }
        Known {
            number: u32::from(name[14] & 7),
            chance,
        }
    }

    /// The outer file system has the number 0, the inner one 1.
    #[must_use]
    pub fn mount_name(self, number: u32) -> Name {
        numbered(*b"mount-at00.know\0", self.number, number)
    }

    #[must_use]
    pub fn directory_name(self) -> Name {
        numbered(*b"director00.know\0", self.number, 0)
    }

    #[must_use]
    pub fn file(self, number: u32) -> KnownFile {
        KnownFile {
            child: self.number,
            number,
        }
    }
}

fn numbered(mut name: Name, child: u32, number: u32) -> Name {
    name[8] += child as u8;
    name[9] += number as u8;
    name
}

/// A file that a child makes and maps.
#[derive(Clone, Copy, Debug)]
pub struct KnownFile {
    pub child: u32,
    pub number: u32,
}

impl KnownFile {
    /// One name is too long to be inside its dentry: these are its first bytes.
    #[must_use]
    pub fn name(self) -> Name {
        let mut name = numbered(*b"file-map00.know\0", self.child, self.number);
        if self.number == LONG {
            name[15] = b'_';
        }
        name
    }

    /// All of the name, with its NUL.
    #[must_use]
    pub fn whole_name(self) -> [u8; 64] {
        let mut whole = [0; 64];
        if self.number == LONG {
            whole[..63].fill(b'_');
        }
        let name = self.name();
        whole[..name.len()].copy_from_slice(&name);
        whole
    }

    #[must_use]
    pub fn size_bytes(self, page: u64) -> u64 {
        u64::from(12 + 3 * self.number + 16 * self.child) * page + 0x123 + u64::from(self.number)
    }

    /// Seconds and nanoseconds.
    #[must_use]
    pub fn mtime(self) -> (u32, u32) {
        let place = self.number + FILES * self.child;
        (1_234_567_890 + 1001 * place, 123_456_700 + 17 * place)
    }

    #[must_use]
    pub fn page_offset(self) -> u64 {
        u64::from(2 + self.number + 5 * self.child)
    }
}

/// What /proc and the child itself report about it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub known: Known,
    pub name: Name,
    pub pid: u32,
    pub facts: Facts,
    pub lines: Vec<Line>,
    /// The path of its program.
    pub executable: Vec<u8>,
}

/// One child after its fault, as the probe saw it.
#[derive(Clone, Debug)]
pub struct Child {
    pub task: u64,
    /// The last bytes of its kernel stack.
    pub top: Vec<u8>,
    pub seen: Seen,
}

/// The tool itself.
#[derive(Clone, Debug)]
pub struct Tool {
    pub task: u64,
    /// Inode of its pid namespace.
    pub pid_namespace: u32,
    /// Start times of its parent, that one's parent and so on, in ticks.
    pub ancestors: Vec<u64>,
    pub page_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_arrives() {
        let mut reported = Facts::default();
        reported.set(Fact::Tid, 1);
        reported.set(Fact::HasFiles, 1);
        reported.set(Fact::FaultAddress, 5);
        let mut heard = Facts::default();
        heard.set(Fact::Vdso, 7);
        heard.hear(&reported.reported());
        let found = [Fact::Tid, Fact::Sp, Fact::HasFiles, Fact::Vdso].map(|fact| heard.get(fact));
        assert_eq!(found, [1, 0, 1, 7]);
        assert_eq!(heard.get(Fact::FaultAddress), 0);
    }

    fn known(number: u32) -> Known {
        Known::of_name(&thread_name(b"abcdefgh", number))
    }

    #[test]
    fn names_have_a_number_and_two_words() {
        let name = thread_name(b"abcdefgh", 2);
        assert_eq!(&name, b"abcdefgh-child2\0");
        assert!(is_thread_name(&name[..15]));
        assert!(!is_thread_name(b"a-child2") && !is_thread_name(b"abcdefgh-children"));
        assert_eq!(Known::of_name(&name).number, 2);
        let mut facts = Facts::default();
        facts.set_name(Fact::Name, &name);
        assert_eq!(facts.get(Fact::NameEnd), u64::from_ne_bytes(*b"-child2\0"));
        assert!(known(1).file(LONG).whole_name()[41] != 0);
        let whole = known(1).file(GONE).whole_name();
        assert_eq!(whole[..17], *b"file-map12.know\0\0");
    }

    #[test]
    fn the_children_have_nothing_in_common_nor_with_earlier_ones() {
        let earlier = Known::of_name(&thread_name(b"bbcdefgh", 0));
        for (first, second) in [(known(0), known(1)), (known(0), earlier)] {
            assert_ne!(first.fault_address(), second.fault_address());
            let (a, b) = (first.registers(), second.registers());
            for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
                assert_ne!(a, b);
            }
        }
        let files: Vec<_> = (0..CHILDREN)
            .flat_map(|child| (0..FILES).map(move |number| known(child).file(number)))
            .collect();
        for (at, file) in files.iter().enumerate() {
            for other in &files[..at] {
                assert_ne!(file.name(), other.name());
                assert_ne!(file.size_bytes(4096), other.size_bytes(4096));
                assert_ne!(file.mtime().0, other.mtime().0);
                assert_ne!(file.page_offset(), other.page_offset());
            }
        }
    }
}
