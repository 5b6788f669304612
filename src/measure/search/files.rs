//! From a mapping to the file, its name, its directory, its mount, its numbers.

use super::mappings::Mapped;
use super::{plus, Place, Rule, Search, Subject, Word, ALL, LOW, RULE};
use crate::bytes;
use crate::measure::facts::{Fact, Known, FILES, GONE, OUTER};
use crate::measure::layout::{field, What};
use crate::procfs::Line;

/// `struct mount` begins so far before the `vfsmount` within it, behind its links in a hash
/// table, its parent and its place there (fs/mount.h, since 3.3).
const MOUNT_BEFORE: i32 = 32;
/// No dentry and no file is smaller.
const DENTRY_APART: i32 = 192;
const FILE_APART: i32 = 168;

const FILE: Place = Place::Of("vm_area_struct.vm_file");
const DENTRY: Place = Place::Of("file.dentry");
const NAME: Place = Place::Of("dentry.d_name");
const PARENT: Place = Place::Of("dentry.d_parent");
const MOUNT: Place = Place::Of("file.f_path");
const INODE: Place = Place::Of("file.f_inode");

/// The root has this name.
const ROOT: &[Word] = &[Word::Is(b'/' as u64, 0xffff)];

/// Which fields of a file, of a dentry lead to its name; and to a mount, and its root.
const OF_ALL: &[Rule] = &[
    Rule {
        path: &[FILE, Place::Within(0, 256, 8), Place::Within(0, 256, 8)],
        place: Place::At(0),
        words: &[
            Word::Same(Fact::FileName, ALL),
            Word::Same(Fact::FileNameEnd, ALL),
        ],
        fields: &[
            (1, field("file.dentry", What::Pointer, 0)),
            (1, field("file.f_path", What::Path, -8)),
            (2, field("dentry.d_name", What::Qstr, 0)),
        ],
        ..RULE
    },
    Rule {
        path: &[FILE, MOUNT, Place::At(0), NAME],
        place: Place::At(0),
        words: ROOT,
        fields: &[
            (2, field("vfsmount.mnt_root", What::Pointer, 0)),
            (2, field("mount.mnt", What::Vfsmount, MOUNT_BEFORE)),
        ],
        ..RULE
    },
];

/// What tells a file from one that takes its name: numbers, size and time, and the links of
/// a dentry in a hash table, which stand ahead of its parent; the link back is what one
/// lacks that is unlinked.
const IDENTITY: &[Rule] = &[
    Rule {
        path: &[FILE, Place::Within(0, 256, 8)],
        place: Place::Within(0, 640, 8),
        words: &[Word::Same(Fact::Inode, ALL)],
        nearest: true,
        apart: FILE_APART,
        fields: &[
            (1, field("file.f_inode", What::Pointer, 0)),
            (2, field("inode.i_ino", What::U64, 0)),
        ],
        lost: "file_identity",
        ..RULE
    },
    Rule {
        words: &[Word::Same(Fact::Size, ALL)],
        fields: &[(2, field("inode.i_size", What::U64, 0))],
        ..OF_INODE
    },
    Rule {
        words: &[Word::Same(Fact::Seconds, ALL)],
        fields: &[(2, field("inode.i_mtime_sec", What::U64, 0))],
        ..OF_INODE
    },
    Rule {
        place: Place::Within(0, 640, 4),
        words: &[Word::Same(Fact::Nanoseconds, LOW)],
        fields: &[(2, field("inode.i_mtime_nsec", What::U32, 0))],
        ..OF_INODE
    },
    Rule {
        path: &[FILE, INODE, Place::Within(0, 640, 8)],
        place: Place::Within(0, 128, 4),
        words: &[Word::Same(Fact::Device, LOW)],
        nearest: true,
        fields: &[
            (2, field("inode.i_sb", What::Pointer, 0)),
            (3, field("super_block.s_dev", What::U32, 0)),
        ],
        ..OF_INODE
    },
    Rule {
        path: &[FILE, DENTRY],
        place: Place::Ahead("dentry.d_parent"),
        words: &[Word::Pointer(Fact::Linked)],
        fields: &[(2, field("dentry.d_hash", What::HashLinks, -8))],
        ..OF_INODE
    },
];

const OF_INODE: Rule = Rule {
    path: &[FILE, INODE],
    place: Place::Within(0, 640, 8),
    lost: "file_identity",
    ..RULE
};

/// dentry -> that of the directory; mount -> the directory on which it is, and the mount
/// which that is in.
const OF_INNER: &[Rule] = &[
    Rule {
        path: &[FILE, DENTRY, Place::Within(0, 256, 8), NAME],
        place: Place::At(0),
        words: &[
            Word::Same(Fact::Directory, ALL),
            Word::Same(Fact::DirectoryEnd, ALL),
        ],
        apart: DENTRY_APART,
        fields: &[(2, field("dentry.d_parent", What::Pointer, 0))],
        ..RULE
    },
    Rule {
        path: &[FILE, MOUNT, Place::At(-8), NAME],
        place: Place::At(0),
        words: &[
            Word::Same(Fact::Mount, ALL),
            Word::Same(Fact::MountEnd, ALL),
        ],
        fields: &[(
            2,
            field("mount.mnt_mountpoint", What::Pointer, MOUNT_BEFORE),
        )],
        ..RULE
    },
    Rule {
        path: &[FILE, MOUNT],
        place: Place::At(-16),
        words: &[Word::Same(Fact::ParentMount, ALL)],
        fields: &[(2, field("mount.mnt_parent", What::Pointer, MOUNT_BEFORE))],
        ..RULE
    },
];

/// Below the root there is none but the root.
const OF_OUTER: &[Rule] = &[Rule {
    path: &[FILE, DENTRY, PARENT, PARENT, NAME],
    place: Place::At(0),
    words: ROOT,
    ..RULE
}];

impl Mapped {
    /// Notes a mapping, and what is known of its file if the child has made it.
    pub(super) fn add(&mut self, mut mapping: Subject, known: Known, line: &Line, page: u64) {
        for number in 0..FILES {
            let file = known.file(number);
            let name = file.name();
            if bytes::find(&line.path, &name[..name.len() - 1]).is_none() {
                continue;
            }
            let (seconds, nanoseconds) = file.mtime();
            let facts = &mut mapping.facts;
            facts.set_name(Fact::FileName, &name);
            facts.set_name(Fact::Directory, &known.directory_name());
            facts.set_name(Fact::Mount, &known.mount_name());
            facts.set(Fact::Inode, line.inode);
            facts.set(Fact::Device, line.device.into());
            facts.set(Fact::Size, file.size_bytes(page));
            facts.set(Fact::Seconds, seconds.into());
            facts.set(Fact::Nanoseconds, nanoseconds.into());
            facts.set(Fact::Linked, u64::from(number != GONE));
            let same = if number == OUTER {
                &mut self.outer
            } else {
                &mut self.inner
            };
            same.push(mapping.clone());
        }
        if line.inode != 0 {
            self.of_files.push(mapping.clone());
        }
        self.all.push(mapping);
    }
}

impl Search<'_> {
    /// The way from the mappings of the files that the children have made to their names.
    pub(super) fn files(&mut self, mapped: &mut Mapped) -> bool {
        let mut all = mapped.inner.clone();
        all.extend_from_slice(&mapped.outer);
        // All of them, or there may be too little to tell one field from another.
        if mapped.outer.len() * FILES as usize != all.len() || !self.find_all(&all, OF_ALL) {
            return false;
        }
        for other in &mapped.outer {
            let file = self.word_of(other.at, "vm_area_struct.vm_file");
            let mount = file.and_then(|file| self.word_of(file, "file.f_path"));
            let start = plus(mount.unwrap_or(0), -MOUNT_BEFORE);
            for inner in &mut mapped.inner {
                if inner.facts.get(Fact::Mm) == other.facts.get(Fact::Mm) {
                    inner.facts.set(Fact::ParentMount, start);
                }
            }
        }
        let found =
            self.find_all(&mapped.inner, OF_INNER) && self.find_all(&mapped.outer, OF_OUTER);
        self.find_all(&all, IDENTITY);
        found
    }
}
