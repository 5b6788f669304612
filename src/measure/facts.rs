//! What is known of the children that fault on purpose: what they were told to
//! have, and what /proc and the probe say of them.
//!
//! Both sides compute the same values from a child's number, so that only what
//! chance decides is sent. All values are such that no field has them by accident,
//! and differ between the children.

/// Children whose memory is searched.
pub const CHILDREN: u32 = 2;
/// Registers that a child sets, by [`Known::registers`].
pub const REGISTERS: usize = 6;
/// Files that a child maps.
pub const FILES: u32 = 4;
/// The one of them that is unlinked, and the one on the outer file system.
pub const GONE: u32 = 2;
pub const OUTER: u32 = 3;

/// Linux's path of the directory that a child hides under a file system of its own.
pub const COVERED: &str = "/proc";
pub const COVERED_NAME: &[u8] = b"proc";

/// What a child sets itself, by its number.
#[derive(Clone, Copy, Debug)]
pub struct Known(pub u32);

impl Known {
    /// Where it writes: mapped nowhere, even with 39 bits of addresses.
    #[must_use]
    pub fn fault_address(self) -> u64 {
        0x5e_adbe_ef00 + u64::from(self.0) * 0x1_0008
    }

    /// rbx, rbp, r12 to r15; x19 to x24.
    #[must_use]
    pub fn registers(self) -> [u64; REGISTERS] {
        std::array::from_fn(|at| {
            0x1212_c0de_0000_0000
                + (at as u64) * 0x0101_0000_0000_0000
                + u64::from(self.0 + 1) * (77 + 22 * at as u64)
        })
    }

    #[must_use]
    pub fn gs_base(self) -> u64 {
        0x5e_6500_0000 + u64::from(self.0) * 0x3000
    }

    /// The name of the thread that faults; all begin with the magic.
    #[must_use]
    pub fn name(self, magic: &str) -> String {
        format!("{magic}-kid{}", self.0)
    }

    #[must_use]
    pub fn mount_name(self) -> String {
        format!("mountGamma{}", self.0)
    }

    #[must_use]
    pub fn directory_name(self) -> String {
        format!("dirAlpha{}", self.0)
    }

    #[must_use]
    pub fn file(self, number: u32) -> KnownFile {
        KnownFile {
            child: self.0,
            number,
        }
    }
}

/// A file that a child makes and maps.
#[derive(Clone, Copy, Debug)]
pub struct KnownFile {
    pub child: u32,
    pub number: u32,
}

impl KnownFile {
    /// The second is too long to stand inside of its dentry.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = format!("fileBeta{}{}", self.child, self.number);
        if self.number == 1 {
            name.push_str("_whose_name_is_longer_than_what_a_dentry_has_room_for");
        }
        name
    }

    #[must_use]
    pub fn size_bytes(self, page: u64) -> u64 {
        u64::from(12 + 3 * self.number + 16 * self.child) * page + 0x123 + u64::from(self.number)
    }

    #[must_use]
    pub fn mtime(self) -> (i64, u32) {
        let place = self.number + FILES * self.child;
        (
            1_234_567_890 + 1001 * i64::from(place),
            123_456_700 + 17 * place,
        )
    }

    #[must_use]
    pub fn page_offset(self) -> u64 {
        u64::from(2 + self.number + 5 * self.child)
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub start: u64,
    pub end: u64,
    /// Bits as in `vm_flags`: read 1, write 2, execute 4.
    pub flags: u64,
    pub file_offset: u64,
    /// As the kernel has it: major << 20 | minor.
    pub device: u32,
    pub inode: u64,
    pub path: Vec<u8>,
}

/// The lines of a maps file, but not the kernel's page that stands there as if it were one.
#[must_use]
pub fn parse_maps(text: &[u8]) -> Vec<Line> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .filter(|line| line.path != b"[vsyscall]")
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut next = || std::str::from_utf8(fields.next()?).ok();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = next()?.split_once('-')?;
    let letters = next()?;
    let offset = next()?;
    let (major, minor) = next()?.split_once(':')?;
    let inode = next()?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    let bits = [('r', 1), ('w', 2), ('x', 4)];
    Some(Line {
        start: hex(start)?,
        end: hex(end)?,
        flags: bits
            .iter()
            .filter(|(letter, _)| letters.contains(*letter))
            .map(|(_, bit)| bit)
            .sum(),
        file_offset: hex(offset)?,
        device: (hex(major)? << 20 | hex(minor)?) as u32,
        inode: inode.parse().ok()?,
        path: path.to_vec(),
    })
}

/// Field `number`, counted as proc(5) does, of `/proc/PID/stat`.
#[must_use]
pub fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    // The name before the last parenthesis may hold anything.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let at = number.checked_sub(3)?;
    rest.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// The values that stand in a row in every mm_struct, `brk` left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLayout {
    /// start_code, end_code, start_data, end_data, start_brk
    pub first: [u64; 5],
    /// start_stack, arg_start, arg_end, env_start, env_end
    pub last: [u64; 5],
}

/// The same from `/proc/PID/stat`, where the reader may see them.
#[must_use]
pub fn memory_layout(stat: &[u8]) -> Option<MemoryLayout> {
    let field = |number| stat_field(stat, number);
    Some(MemoryLayout {
        first: [field(26)?, field(27)?, field(45)?, field(46)?, field(47)?],
        last: [field(28)?, field(48)?, field(49)?, field(50)?, field(51)?],
    })
}

/// What a child says of itself when it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub tid: u64,
    pub sp: u64,
    pub fs_base: u64,
    pub has_gs_base: u64,
    pub brk: u64,
    pub alternate_start: u64,
    pub alternate_bytes: u64,
    /// Whether it could make its file systems.
    pub has_files: u64,
}

pub const TOLD_BYTES: usize = 64;

impl Told {
    #[must_use]
    pub fn to_bytes(self) -> [u8; TOLD_BYTES] {
        let words = [
            self.tid,
            self.sp,
            self.fs_base,
            self.has_gs_base,
            self.brk,
            self.alternate_start,
            self.alternate_bytes,
            self.has_files,
        ];
        let mut bytes = [0; TOLD_BYTES];
        for (at, word) in bytes.chunks_exact_mut(8).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[must_use]
    pub fn from_bytes(bytes: &[u8; TOLD_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            u64::from_le_bytes(word)
        };
        Told {
            tid: word(0),
            sp: word(1),
            fs_base: word(2),
            has_gs_base: word(3),
            brk: word(4),
            alternate_start: word(5),
            alternate_bytes: word(6),
            has_files: word(7),
        }
    }
}

/// What /proc and a child itself say of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub known: Known,
    pub name: Vec<u8>,
    pub told: Told,
    pub pid: u32,
    pub parent: u32,
    pub lines: Vec<Line>,
    pub layout: MemoryLayout,
    /// Of the thread, in hundredths of a second.
    pub start_ticks: u64,
    pub mount_namespace: Option<u32>,
    pub executable: Vec<u8>,
}

/// One child after its fault, as the probe saw it.
#[derive(Clone, Debug)]
pub struct Child {
    /// Ids in the first pid namespace: process, thread.
    pub host_ids: (u32, u32),
    pub task: u64,
    /// Some address in its kernel stack, and the last bytes of the stack that it is in.
    pub frame: u64,
    pub top: Vec<u8>,
    pub seen: Seen,
}

/// The tool itself.
#[derive(Clone, Debug)]
pub struct Tool {
    pub task: u64,
    pub host_ids: (u32, u32),
    /// Inode of its pid namespace.
    pub pid_namespace: u32,
    /// Start times of its parent, that one's parent and so on, in ticks.
    pub ancestors: Vec<u64>,
    pub executable: Vec<u8>,
    pub page_bytes: u64,
    /// What the probe took a kernel stack for.
    pub stack_bytes: u64,
    pub aarch64: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let text =
            b"55d0c0000000-55d0c0002000 r-xp 00003000 fe:01 1234      /usr/bin/a b (deleted)\n\
            7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0          [stack]\n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n\
            nonsense\n";
        let lines = parse_maps(text);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            Line {
                start: 0x55d0_c000_0000,
                end: 0x55d0_c000_2000,
                flags: 5,
                file_offset: 0x3000,
                device: 0xfe << 20 | 1,
                inode: 1234,
                path: b"/usr/bin/a b (deleted)".to_vec(),
            }
        );
        assert_eq!((lines[1].flags, lines[1].inode), (3, 0));
    }

    #[test]
    fn fields_of_stat_are_counted_from_the_name() {
        let stat = b"7 (a) 1 (b)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 22), Some(424_242));
        assert_eq!(stat_field(stat, 26), None);
        assert_eq!(stat_field(b"", 3), None);
        assert_eq!(memory_layout(stat), None);
    }

    #[test]
    fn what_a_child_says_arrives() {
        let told = Told {
            tid: 1,
            sp: 2,
            fs_base: 3,
            has_gs_base: 4,
            brk: 5,
            alternate_start: 6,
            alternate_bytes: 7,
            has_files: 8,
        };
        assert_eq!(Told::from_bytes(&told.to_bytes()), told);
    }

    #[test]
    fn the_children_have_nothing_in_common() {
        let (first, second) = (Known(0), Known(1));
        assert_ne!(first.fault_address(), second.fault_address());
        for (a, b) in first.registers().iter().zip(second.registers()) {
            assert_ne!(*a, b);
        }
        let files: Vec<_> = (0..CHILDREN)
            .flat_map(|child| (0..FILES).map(move |number| Known(child).file(number)))
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
