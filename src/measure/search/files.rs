//! From a mapping to the file, its name, its directory, its mount, its numbers.

use super::{same, Bits, Place, Rule, Search, Subject, Word, RULE};
use crate::base::bytes;
use crate::base::procfs::Line;
use crate::measure::facts::{Fact, Facts, Known, CHILDREN, FILES, GONE, OUTER};
use crate::measure::layout::{Detail, Field};

/// How far `struct mount` begins before the `vfsmount` in it: before that come its links in a
/// hash table, its parent and its mount point (fs/mount.h, since 3.3).
const MOUNT_BEFORE: i16 = 32;
const PARENT_BEFORE: i16 = 16;
const POINT_BEFORE: i16 = 8;
/// No dentry and no file is smaller.
const DENTRY_APART: i16 = 192;
const FILE_APART: i16 = 168;

const FILE: Place = Place::Of(Field::VmFile);
const DENTRY: Place = Place::Of(Field::FDentry);
const NAME: Place = Place::Of(Field::DName);
const PARENT: Place = Place::Of(Field::DParent);
const MOUNT: Place = Place::Of(Field::FPath);
const INODE: Place = Place::Of(Field::FInode);
const IN_INODE: Place = Place::Within(0, 640, 8);

/// The root has this name.
const ROOT: &[Word] = &[Word::Same(Fact::Slash, Bits::Text)];

/// The path from a mapping to the name of its file, of its directory, and of those above.
const WAY: &[Rule] = &[
    // file -> dentry -> name
    Rule {
        only: Some(Fact::Made),
        path: &[FILE, Place::Within(0, 256, 8), Place::Within(0, 256, 8)],
        words: &[same(Fact::FileName), same(Fact::FileNameEnd)],
        nearest: true,
        fields: &[
            (1, Field::FDentry, 0),
            (1, Field::FPath, -8),
            (2, Field::DName, 0),
        ],
        ..OF_NAME
    },
    // dentry -> the directory's dentry; the parent of a root is the root itself.
    Rule {
        only: Some(Fact::Inner),
        path: &[FILE, DENTRY, Place::Within(0, 256, 8), NAME],
        words: &[same(Fact::Directory), same(Fact::DirectoryEnd)],
        apart: DENTRY_APART,
        fields: &[(2, Field::DParent, 0)],
        ..OF_NAME
    },
    Rule {
        only: Some(Fact::Outer),
        path: &[FILE, DENTRY, PARENT, PARENT, NAME],
        words: ROOT,
        ..OF_NAME
    },
    // vfsmount -> its root
    Rule {
        only: Some(Fact::Made),
        path: &[FILE, MOUNT, Place::At(0), NAME],
        words: ROOT,
        fields: &[(2, Field::MntRoot, 0), (2, Field::Mnt, MOUNT_BEFORE)],
        ..OF_NAME
    },
    // mount -> the directory on which it is; and the mount which that is in
    Rule {
        only: Some(Fact::Made),
        path: &[FILE, MOUNT, Place::At(-POINT_BEFORE), NAME],
        words: &[same(Fact::Mount), same(Fact::MountEnd)],
        fields: &[(2, Field::MntMountpoint, MOUNT_BEFORE)],
        ..OF_NAME
    },
    Rule {
        only: Some(Fact::Inner),
        path: &[
            FILE,
            MOUNT,
            Place::At(-PARENT_BEFORE),
            Place::At(MOUNT_BEFORE - POINT_BEFORE),
            NAME,
        ],
        words: &[same(Fact::OuterMount), same(Fact::OuterMountEnd)],
        fields: &[(2, Field::MntParent, MOUNT_BEFORE)],
        ..OF_NAME
    },
];

const OF_NAME: Rule = Rule {
    place: Place::At(0),
    ..RULE
};

/// What distinguishes a file from a later one with its name: numbers, size and time; and
/// the links of a dentry in a hash table, which come before its parent. An unlinked dentry
/// lacks the link back.
const IDENTITY: &[Rule] = &[
    Rule {
        path: &[FILE, Place::Within(0, 256, 8)],
        words: &[same(Fact::Inode)],
        nearest: true,
        apart: FILE_APART,
        fields: &[(1, Field::FInode, 0), (2, Field::INumber, 0)],
        ..OF_INODE
    },
    Rule {
        words: &[same(Fact::Size)],
        fields: &[(2, Field::ISize, 0)],
        ..OF_INODE
    },
    Rule {
        words: &[same(Fact::Seconds)],
        fields: &[(2, Field::ISeconds, 0)],
        ..OF_INODE
    },
    Rule {
        place: Place::Within(0, 640, 4),
        words: &[Word::Same(Fact::Nanoseconds, Bits::Low)],
        fields: &[(2, Field::INanoseconds, 0)],
        ..OF_INODE
    },
    Rule {
        path: &[FILE, INODE, IN_INODE],
        place: Place::Within(0, 128, 4),
        words: &[Word::Same(Fact::Device, Bits::Low)],
        nearest: true,
        fields: &[(2, Field::ISb, 0), (3, Field::SDev, 0)],
        ..OF_INODE
    },
    Rule {
        path: &[FILE, DENTRY],
        place: Place::Ahead(Field::DParent),
        words: &[Word::Pointer(Fact::Linked)],
        fields: &[(2, Field::DHash, -8)],
        ..OF_INODE
    },
];

const OF_INODE: Rule = Rule {
    only: Some(Fact::Made),
    path: &[FILE, INODE],
    place: IN_INODE,
    lost: Detail::FileIdentity,
    ..RULE
};

/// What is known of a mapping's file, if the child has made it.
pub(super) fn know(facts: &mut Facts, known: Known, line: &Line, page: u64) {
    for number in 0..FILES {
        let file = known.file(number);
        let name = file.name();
        if bytes::find(&line.path, &name[..name.len() - 1]).is_none() {
            continue;
        }
        let is_outer = number == OUTER;
        let (seconds, nanoseconds) = file.mtime();
        facts.set_name(Fact::FileName, &name);
        facts.set_name(Fact::Directory, &known.directory_name());
        facts.set_name(Fact::Mount, &known.mount_name(u32::from(!is_outer)));
        facts.set_name(Fact::OuterMount, &known.mount_name(0));
        facts.set(Fact::Made, 1);
        facts.set(Fact::Inner, u64::from(!is_outer));
        facts.set(Fact::Outer, u64::from(is_outer));
        facts.set(Fact::Inode, line.inode);
        facts.set(Fact::Device, line.device.into());
        facts.set(Fact::Size, file.size_bytes(page));
        facts.set(Fact::Seconds, seconds.into());
        facts.set(Fact::Nanoseconds, nanoseconds.into());
        facts.set(Fact::Linked, u64::from(number != GONE));
    }
}

impl Search<'_> {
    /// The path from the mappings of the children's files to the names of these files.
    pub(super) fn files(&mut self, mapped: &[Subject]) -> bool {
        let made = mapped.iter().filter(|one| one.facts.get(Fact::Made) != 0);
        // All of them, or there may be too little to distinguish the fields.
        let found = made.count() == (CHILDREN * FILES) as usize && self.find_all(mapped, WAY);
        found && {
            self.find_all(mapped, IDENTITY);
            true
        }
    }
}
