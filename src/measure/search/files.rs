//! From a mapping to the file, its name, its directory, its mount, its numbers.

use super::mappings::Mapped;
use super::{Place, Rule, Search, Subject, Word, ALL, LOW, RULE};
use crate::bytes;
use crate::measure::facts::{Fact, FILES, GONE, OUTER};
use crate::measure::layout::{field, What};

/// `struct mount` begins so far before the `vfsmount` within it, behind its links in a hash
/// table, its parent and its place there (fs/mount.h, since 3.3).
const MOUNT_BEFORE: u64 = 32;

/// No dentry is smaller.
const DENTRY_APART: u32 = 192;

/// Which fields of a mapping, of a file, of a dentry lead to its name.
const NAME: Rule = Rule {
    path: &[
        Place::Of("vm_area_struct.vm_file"),
        Place::Within(0, 256, 8),
        Place::Within(0, 256, 8),
    ],
    place: Place::At(0),
    words: &[
        Word::Same(Fact::FileName, ALL),
        Word::Same(Fact::FileNameEnd, ALL),
    ],
    fields: &[
        (1, field("file.dentry", What::Pointer, 0)),
        (2, field("dentry.d_name", What::Qstr, 0)),
    ],
    ..RULE
};

/// dentry -> inode -> its number
const INODE: Rule = Rule {
    path: &[Place::Within(0, 256, 8)],
    place: Place::Within(0, 640, 8),
    words: &[Word::Same(Fact::Inode, ALL)],
    fields: &[
        (0, field("dentry.d_inode", What::Pointer, 0)),
        (1, field("inode.i_ino", What::U64, 0)),
    ],
    ..RULE
};

/// What tells a file from one that takes its name: numbers, size and time.
const OF_INODE: &[Rule] = &[
    Rule {
        place: Place::Within(0, 640, 8),
        words: &[Word::Same(Fact::Size, ALL)],
        fields: &[(0, field("inode.i_size", What::U64, 0))],
        lost: IDENTITY,
        ..RULE
    },
    Rule {
        place: Place::Within(0, 640, 8),
        words: &[Word::Same(Fact::Seconds, ALL)],
        fields: &[(0, field("inode.i_mtime_sec", What::U64, 0))],
        lost: IDENTITY,
        ..RULE
    },
    Rule {
        place: Place::Within(0, 640, 4),
        words: &[Word::Same(Fact::Nanoseconds, LOW)],
        fields: &[(0, field("inode.i_mtime_nsec", What::U32, 0))],
        lost: IDENTITY,
        ..RULE
    },
    Rule {
        path: &[Place::Within(0, 640, 8)],
        place: Place::Within(0, 128, 4),
        words: &[Word::Same(Fact::Device, LOW)],
        fields: &[
            (0, field("inode.i_sb", What::Pointer, 0)),
            (1, field("super_block.s_dev", What::U32, 0)),
        ],
        lost: IDENTITY,
        ..RULE
    },
];

const INODE_OF_FILE: Rule = Rule {
    place: Place::Within(0, 256, 8),
    words: &[Word::Same(Fact::InodeAddress, ALL)],
    fields: &[(0, field("file.f_inode", What::Pointer, 0))],
    ..RULE
};

const IDENTITY: &str = "file_identity";

/// dentry -> that of the directory
const PARENT: Rule = Rule {
    path: &[Place::Within(0, 256, 8), Place::Of("dentry.d_name")],
    place: Place::At(0),
    words: &[
        Word::Same(Fact::Directory, ALL),
        Word::Same(Fact::DirectoryEnd, ALL),
    ],
    apart: DENTRY_APART,
    fields: &[(0, field("dentry.d_parent", What::Pointer, 0))],
    ..RULE
};

/// The root has this name.
const ROOT: &[Word] = &[Word::Is(b'/' as u64, 0xffff)];

/// Below the root there is none but the root.
const PARENTS_OF_OUTER: Rule = Rule {
    path: &[
        Place::Of("dentry.d_parent"),
        Place::Of("dentry.d_parent"),
        Place::Of("dentry.d_name"),
    ],
    place: Place::At(0),
    words: ROOT,
    ..RULE
};

/// file -> vfsmount -> its root
const MOUNT_ROOT: Rule = Rule {
    path: &[
        Place::Of("file.f_path"),
        Place::At(0),
        Place::Of("dentry.d_name"),
    ],
    place: Place::At(0),
    words: ROOT,
    fields: &[
        (1, field("vfsmount.mnt_root", What::Pointer, 0)),
        (1, field("mount.mnt", What::Vfsmount, MOUNT_BEFORE as u32)),
    ],
    ..RULE
};

/// mount -> the directory on which it is
const MOUNT_POINT: Rule = Rule {
    path: &[Place::At(24), Place::Of("dentry.d_name")],
    place: Place::At(0),
    words: &[
        Word::Same(Fact::Mount, ALL),
        Word::Same(Fact::MountEnd, ALL),
    ],
    fields: &[(0, field("mount.mnt_mountpoint", What::Pointer, 0))],
    ..RULE
};

/// mount -> that on which it is
const MOUNT_PARENT: Rule = Rule {
    place: Place::At(16),
    words: &[Word::Same(Fact::ParentMount, ALL)],
    fields: &[(0, field("mount.mnt_parent", What::Pointer, 0))],
    ..RULE
};

/// The link back in the hash table, which only an unlinked dentry lacks.
const HASHED: Word = Word::Pointer(Fact::Linked);

impl Search<'_> {
    /// The way from the mappings of the files that the children have made to their names.
    pub(super) fn files(&mut self, children: usize, mapped: &[Mapped<'_>]) -> Option<()> {
        let (mut vmas, outer) = samples(mapped, self.tool.page_bytes);
        let inner = vmas.len();
        if inner != children * (FILES as usize - 1) || outer.len() != children {
            return None;
        }
        vmas.extend(outer);
        let [_, dentry, ..] = self.find(&vmas, &NAME)?;
        let path = field("file.f_path", What::Path, dentry.checked_sub(8)?);
        self.layout.fields.push(path);
        let files = self.behind(&vmas, "vm_area_struct.vm_file")?;
        let dentries = self.behind(&files, "file.dentry")?;
        if self.identity(&files, &dentries).is_none() {
            self.layout.lose(IDENTITY);
        }
        let [parent, ..] = self.find(&dentries[..inner], &PARENT)?;
        self.find(&dentries[inner..], &PARENTS_OF_OUTER)?;
        self.hash(&dentries, parent);
        self.find(&files, &MOUNT_ROOT)?;
        let mut mounts = self.behind(&files, "file.f_path")?;
        for mount in &mut mounts {
            mount.at = mount.at.checked_sub(MOUNT_BEFORE)?;
        }
        let (below, above) = mounts.split_at_mut(inner);
        for mount in below.iter_mut() {
            for other in above.iter() {
                if other.facts.get(Fact::Mm) == mount.facts.get(Fact::Mm) {
                    mount.facts.set(Fact::ParentMount, other.at);
                }
            }
        }
        self.find(below, &MOUNT_POINT)?;
        self.find(below, &MOUNT_PARENT).map(drop)
    }

    /// What the subjects' fields point to.
    fn behind(&mut self, subjects: &[Subject], name: &str) -> Option<Vec<Subject>> {
        let place = self.layout.place(name)?;
        let mut behind = subjects.to_vec();
        for subject in &mut behind {
            subject.at = self.pieces.pointer(subject.at + u64::from(place))?;
        }
        Some(behind)
    }

    fn identity(&mut self, files: &[Subject], dentries: &[Subject]) -> Option<()> {
        self.find(dentries, &INODE)?;
        let inodes = self.behind(dentries, "dentry.d_inode")?;
        self.find_all(&inodes, OF_INODE);
        let mut files = files.to_vec();
        for (file, inode) in files.iter_mut().zip(&inodes) {
            file.facts.set(Fact::InodeAddress, inode.at);
        }
        self.find(&files, &INODE_OF_FILE).map(drop)
    }

    /// A dentry's links in the hash table stand before its parent, as they always did; the
    /// link back is what an unlinked one lacks.
    fn hash(&mut self, dentries: &[Subject], parent: u32) {
        let mut holds = parent >= 16;
        for dentry in dentries {
            let word = self
                .pieces
                .u64((dentry.at + u64::from(parent)).wrapping_sub(8));
            holds &= word.is_some_and(|word| HASHED.holds(word, &dentry.facts));
        }
        if holds {
            let hash = field("dentry.d_hash", What::HashLinks, parent - 16);
            self.layout.fields.push(hash);
        } else {
            self.layout.lose(IDENTITY);
        }
    }
}

/// Mappings of the files that the children have made: those on the inner file system, and
/// those on the outer one.
fn samples(mapped: &[Mapped<'_>], page: u64) -> (Vec<Subject>, Vec<Subject>) {
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for one in mapped {
        for number in 0..FILES {
            let known = one.known.file(number);
            let name = known.name();
            if bytes::find(&one.line.path, &name[..name.len() - 1]).is_none() {
                continue;
            }
            let (seconds, nanoseconds) = known.mtime();
            let mut facts = one.space.facts.clone();
            facts.set_name(Fact::FileName, &name);
            facts.set_name(Fact::Directory, &one.known.directory_name());
            facts.set_name(Fact::Mount, &one.known.mount_name());
            facts.set(Fact::Inode, one.line.inode);
            facts.set(Fact::Device, one.line.device.into());
            facts.set(Fact::Size, known.size_bytes(page));
            facts.set(Fact::Seconds, seconds.into());
            facts.set(Fact::Nanoseconds, nanoseconds.into());
            facts.set(Fact::Linked, u64::from(number != GONE));
            let at = one.vma;
            let samples = if number == OUTER {
                &mut outer
            } else {
                &mut inner
            };
            samples.push(Subject { at, facts });
        }
    }
    (inner, outer)
}
