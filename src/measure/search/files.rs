//! From a mapping to the file, its name, its directory, its mount, its numbers.

use super::memory::{Mapped, Space};
use super::{nearest, only, targets, Search};
use crate::measure::facts::{Child, KnownFile, Line, COVERED_NAME, FILES, GONE, OUTER};
use crate::measure::layout::What;
use crate::measure::pieces::Pieces;

const FILE_BYTES: u32 = 256;
const DENTRY_BYTES: u32 = 256;
const INODE_BYTES: u32 = 640;
const SUPER_BLOCK_BYTES: u32 = 128;
const MM_BYTES: u32 = 2048;
/// Around a vfsmount lies the mount that it is part of.
const MOUNT_BYTES: u32 = 64;

/// A mapped file of a child.
#[derive(Clone, Copy)]
struct Sample<'a> {
    child: &'a Child,
    known: KnownFile,
    line: &'a Line,
    vma: u64,
}

/// Reads the pointers along a path of offsets.
fn chase(pieces: &mut Pieces<'_>, start: u64, offsets: &[u32]) -> Option<u64> {
    let mut at = start;
    for offset in offsets {
        at = pieces.pointer(at.checked_add(u64::from(*offset))?)?;
    }
    Some(at)
}

fn is_named(pieces: &mut Pieces<'_>, dentry: u64, name_at: u32, name: &[u8]) -> bool {
    chase(pieces, dentry, &[name_at]).is_some_and(|text| pieces.is_text(text, name))
}

/// The files that the children were told to map, if all of them are.
fn samples<'a>(children: &'a [Child], mapped: &[Mapped]) -> Option<Vec<Sample<'a>>> {
    let mut found = Vec::new();
    for one in mapped {
        let child = children.get(one.child)?;
        let line = child.seen.lines.get(one.line)?;
        for number in 0..FILES {
            let known = child.seen.known.file(number);
            let mut ending = format!("/{}", known.name());
            if number == GONE {
                ending.push_str(" (deleted)");
            }
            if line.path.ends_with(ending.as_bytes()) {
                let vma = one.vma;
                found.push(Sample {
                    child,
                    known,
                    line,
                    vma,
                });
            }
        }
    }
    (found.len() == children.len() * FILES as usize).then_some(found)
}

impl Search<'_> {
    /// `candidates` are the fields of a mapping that are set just where a file is mapped.
    pub(super) fn files(&mut self, spaces: &[Space], mapped: &[Mapped], candidates: &[u32]) {
        let children = self.children;
        let samples = samples(children, mapped);
        let found = samples
            .as_deref()
            .map(|samples| self.names(samples, candidates));
        let found = found.and_then(|found| nearest(&found, |(_, _, name_at)| *name_at));
        let (Some(samples), Some((file_at, dentry_at, name_at))) = (samples, found) else {
            self.layout.lose("files");
            self.layout.lose("executable");
            return;
        };
        let mut of_files = Vec::new();
        let mut of_dentries = Vec::new();
        for sample in &samples {
            of_files.push(chase(&mut self.pieces, sample.vma, &[file_at]).unwrap_or(0));
            let dentry = chase(&mut self.pieces, sample.vma, &[file_at, dentry_at]);
            of_dentries.push(dentry.unwrap_or(0));
        }
        let layout = &mut self.layout;
        layout.found("vm_area_struct", "vm_file", file_at, What::Pointer);
        layout.found("dentry", "d_name", name_at, What::Struct("qstr"));
        self.executable(spaces, dentry_at, name_at);
        self.identity(&samples, &of_files, &of_dentries);
        let is_whole = self.directories(&samples, &of_dentries, name_at)
            && self.mounts(&samples, &of_files, dentry_at, name_at);
        if !is_whole {
            self.layout.forget("vm_area_struct", "vm_file");
            self.layout.forget("mm_struct", "exe_file");
            self.layout.lose("files");
            self.layout.lose("executable");
        }
    }

    /// Which field of a mapping, of a file, of a dentry lead to the names of all the files.
    fn names(&mut self, samples: &[Sample<'_>], candidates: &[u32]) -> Vec<(u32, u32, u32)> {
        let Some(first) = samples.first() else {
            return Vec::new();
        };
        let pieces = &mut self.pieces;
        let mut found = Vec::new();
        for file_at in candidates {
            let Some(file) = chase(pieces, first.vma, &[*file_at]) else {
                continue;
            };
            let dentries = pieces.pointers(file, FILE_BYTES);
            pieces.want(&targets(&dentries), DENTRY_BYTES as usize);
            for (dentry_at, dentry) in dentries {
                let texts = pieces.pointers(dentry, DENTRY_BYTES);
                pieces.want(&targets(&texts), 16);
                for (name_at, text) in texts {
                    if pieces.is_text(text, first.known.name().as_bytes()) {
                        found.push((*file_at, dentry_at, name_at));
                    }
                }
            }
        }
        found.retain(|(file_at, dentry_at, name_at)| {
            samples.iter().all(|sample| {
                let dentry = chase(pieces, sample.vma, &[*file_at, *dentry_at]);
                let name = sample.known.name();
                dentry.is_some_and(|d| is_named(pieces, d, *name_at, name.as_bytes()))
            })
        });
        found
    }

    /// mm -> the file that was executed.
    fn executable(&mut self, spaces: &[Space], dentry_at: u32, name_at: u32) {
        let starts: Vec<u64> = spaces.iter().map(|space| space.mm).collect();
        let name = self.tool.executable.clone();
        let found = self.places(&starts, 0..MM_BYTES, 8, &mut |pieces, _, at| {
            let dentry = chase(pieces, at, &[0, dentry_at]);
            dentry.is_some_and(|dentry| is_named(pieces, dentry, name_at, &name))
        });
        let what = What::Pointer;
        self.layout
            .note("mm_struct", "exe_file", only(&found), what, "executable");
    }

    /// What tells a file from one that takes its name: numbers, size and time.
    fn identity(&mut self, samples: &[Sample<'_>], of_files: &[u64], of_dentries: &[u64]) {
        const MISSED: &str = "identities of files";
        let Some(first) = of_dentries.first() else {
            return self.layout.lose(MISSED);
        };
        // dentry -> inode -> its number
        let inodes = self.pieces.pointers(*first, DENTRY_BYTES);
        self.pieces.want(&targets(&inodes), INODE_BYTES as usize);
        let mut found = Vec::new();
        for (inode_at, _) in inodes {
            let starts: Option<Vec<u64>> = of_dentries
                .iter()
                .map(|dentry| chase(&mut self.pieces, *dentry, &[inode_at]))
                .collect();
            let Some(starts) = starts else { continue };
            let numbers = self.places(&starts, 0..INODE_BYTES, 8, &mut |pieces, index, at| {
                pieces.u64(at) == Some(samples[index].line.inode)
            });
            found.extend(numbers.into_iter().map(|number| (number, starts.clone())));
        }
        let Some((number_at, inodes)) = nearest(&found, |(number_at, _)| *number_at) else {
            return self.layout.lose(MISSED);
        };
        let inode_of_file = self.places(of_files, 0..FILE_BYTES, 8, &mut |pieces, index, at| {
            pieces.u64(at) == Some(inodes[index])
        });
        let page = self.tool.page_bytes;
        let size = self.places(&inodes, 0..INODE_BYTES, 8, &mut |pieces, index, at| {
            pieces.u64(at) == Some(samples[index].known.size_bytes(page))
        });
        let seconds = self.places(&inodes, 0..INODE_BYTES, 8, &mut |pieces, index, at| {
            pieces.u64(at) == Some(samples[index].known.mtime().0.cast_unsigned())
        });
        let nanoseconds = self.places(&inodes, 0..INODE_BYTES, 4, &mut |pieces, index, at| {
            pieces.u32(at) == Some(samples[index].known.mtime().1)
        });
        let device = self.device(samples, &inodes);
        let places = [
            ("file", "f_inode", only(&inode_of_file), What::Pointer),
            ("inode", "i_ino", Some(number_at), What::U64),
            ("inode", "i_size", only(&size), What::U64),
            ("inode", "i_mtime_sec", only(&seconds), What::U64),
            ("inode", "i_mtime_nsec", only(&nanoseconds), What::U32),
            ("inode", "i_sb", device.map(|(at, _)| at), What::Pointer),
            ("super_block", "s_dev", device.map(|(_, at)| at), What::U32),
        ];
        for (of, name, at, what) in places {
            self.layout.note(of, name, at, what, MISSED);
        }
    }

    /// inode -> super_block -> its device
    fn device(&mut self, samples: &[Sample<'_>], inodes: &[u64]) -> Option<(u32, u32)> {
        let blocks = self.pieces.pointers(*inodes.first()?, INODE_BYTES);
        let mut found = Vec::new();
        for (block_at, _) in blocks {
            let starts: Option<Vec<u64>> = inodes
                .iter()
                .map(|inode| chase(&mut self.pieces, *inode, &[block_at]))
                .collect();
            let Some(starts) = starts else { continue };
            let devices = self.places(
                &starts,
                0..SUPER_BLOCK_BYTES,
                4,
                &mut |pieces, index, at| pieces.u32(at) == Some(samples[index].line.device),
            );
            found.extend(devices.into_iter().map(|device| (block_at, device)));
        }
        nearest(&found, |(_, device)| *device)
    }

    /// dentry -> that of the directory, up to the root, which is its own; and what only an
    /// unlinked one lacks.
    fn directories(&mut self, samples: &[Sample<'_>], dentries: &[u64], name_at: u32) -> bool {
        let parent = self.places(dentries, 0..DENTRY_BYTES, 8, &mut |pieces, index, at| {
            let sample = &samples[index];
            let within = (at - dentries[index]) as u32;
            let Some(mut parent) = pieces.pointer(at) else {
                return false;
            };
            if sample.known.number != OUTER {
                let name = sample.child.seen.known.directory_name();
                if !is_named(pieces, parent, name_at, name.as_bytes()) {
                    return false;
                }
                parent = chase(pieces, parent, &[within]).unwrap_or(0);
            }
            is_named(pieces, parent, name_at, b"/")
                && chase(pieces, parent, &[within]) == Some(parent)
        });
        let Some(parent) = only(&parent) else {
            return false;
        };
        let hashed = self.places(dentries, 0..DENTRY_BYTES, 8, &mut |pieces, index, at| {
            if samples[index].known.number == GONE {
                pieces.u64(at) == Some(0)
            } else {
                pieces.pointer(at).is_some()
            }
        });
        let layout = &mut self.layout;
        layout.found("dentry", "d_parent", parent, What::Pointer);
        // The link back in the hash table: the word before the parent, as it always was.
        match parent.checked_sub(8).filter(|at| hashed.contains(at)) {
            Some(at) if at >= 8 => {
                layout.found("dentry", "d_hash", at - 8, What::Struct("hlist_bl_node"));
                layout.found("hlist_bl_node", "pprev", 8, What::Pointer);
            }
            _ => layout.lose("whether files were deleted"),
        }
        true
    }

    /// file -> vfsmount, within a mount that has a place on another.
    fn mounts(
        &mut self,
        samples: &[Sample<'_>],
        files: &[u64],
        dentry_at: u32,
        name_at: u32,
    ) -> bool {
        let Some(path_at) = dentry_at.checked_sub(8) else {
            return false;
        };
        let Some(parent_at) = self.layout.place("dentry", "d_parent") else {
            return false;
        };
        let of = |pieces: &mut Pieces<'_>, file: u64| chase(pieces, file, &[path_at]);
        let mut lower = Vec::new();
        for file in files {
            // So far below the vfsmount, to search on both sides of it.
            let mount = of(&mut self.pieces, *file).unwrap_or(0);
            lower.push(mount.saturating_sub(u64::from(MOUNT_BYTES)));
        }
        let point = self.places(&lower, 0..2 * MOUNT_BYTES, 8, &mut |pieces, index, at| {
            let Some(dentry) = pieces.pointer(at) else {
                return false;
            };
            if samples[index].known.number == OUTER {
                // On the root of the one that it covers, or on a plain directory.
                return is_named(pieces, dentry, name_at, b"/")
                    || is_named(pieces, dentry, name_at, COVERED_NAME);
            }
            let name = samples[index].child.seen.known.mount_name();
            is_named(pieces, dentry, name_at, name.as_bytes())
        });
        let root = self.places(&lower, 0..2 * MOUNT_BYTES, 8, &mut |pieces, _, at| {
            let Some(dentry) = pieces.pointer(at) else {
                return false;
            };
            is_named(pieces, dentry, name_at, b"/")
                && chase(pieces, dentry, &[parent_at]) == Some(dentry)
        });
        // The inner mount's parent is the outer mount, a few words before its vfsmount.
        let inner: Vec<usize> = (0..samples.len())
            .filter(|index| samples[*index].known.number == 0)
            .collect();
        let mut parents = Vec::new();
        for at in (0..2 * MOUNT_BYTES).step_by(8) {
            let mut starts = inner.iter().map(|index| {
                let child = samples[*index].child.seen.known.0;
                let outer = samples
                    .iter()
                    .position(|s| s.known.number == OUTER && s.child.seen.known.0 == child)?;
                let parent = self.pieces.pointer(lower[*index] + u64::from(at))?;
                let before = lower[outer] + u64::from(MOUNT_BYTES);
                u32::try_from(before.checked_sub(parent)?).ok()
            });
            let first = starts.next().flatten();
            if let Some(before) = first.filter(|before| *before <= MOUNT_BYTES) {
                if starts.all(|other| other == Some(before)) {
                    parents.push((at, before));
                }
            }
        }
        let (Some(point), Some(root)) = (only(&point), only(&root)) else {
            return false;
        };
        // It stands before the mount point; a chain of the hash table may lead there too.
        parents.retain(|(at, _)| at + 8 == point);
        let [(parent, before)] = parents.as_slice() else {
            return false;
        };
        // From the start of the mount.
        let place = |at: u32| (at + before).checked_sub(MOUNT_BYTES);
        let (Some(point), Some(parent)) = (place(point), place(*parent)) else {
            return false;
        };
        let Some(root) = root.checked_sub(MOUNT_BYTES) else {
            return false;
        };
        let layout = &mut self.layout;
        layout.found("mount", "mnt_parent", parent, What::Pointer);
        layout.found("mount", "mnt_mountpoint", point, What::Pointer);
        layout.found("mount", "mnt", *before, What::Struct("vfsmount"));
        layout.found("vfsmount", "mnt_root", root, What::Pointer);
        layout.found("file", "f_path", path_at, What::Struct("path"));
        layout.found("path", "mnt", 0, What::Pointer);
        layout.found("path", "dentry", 8, What::Pointer);
        true
    }
}
