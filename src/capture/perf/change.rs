//! Decodes the perf records of what a process did: fork, exec, names, mappings.
//!
//! Records come as the kernel writes them for [`crate::sys::perf::process_changes`]:
//! each ends with its time. Layouts: `enum perf_event_type` of
//! include/uapi/linux/perf_event.h. A record that makes no sense is ignored.

use crate::base::bytes::{until_nul, Cursor, ShortRead};
use crate::capture::perf::buffer::{lost, Header, LOST};

/// `PERF_RECORD_COMM` and so on.
const COMM: u32 = 3;
const EXIT: u32 = 4;
const FORK: u32 = 7;
const MMAP2: u32 = 10;
const NAMESPACES: u32 = 16;
/// `PERF_RECORD_MISC_COMM_EXEC`
const MISC_EXEC: u16 = 1 << 13;
/// `PERF_RECORD_MISC_MMAP_BUILD_ID`: no inode stands there then.
const MISC_BUILD_ID: u16 = 1 << 14;
/// The mount namespace among a process's namespaces.
const MNT_NS: usize = 5;
/// Bytes of a name in the kernel, its NUL included.
pub(super) const NAME_BYTES: usize = 16;

/// The kernel's name of a thread, filled up with NULs.
pub(super) type Name = [u8; NAME_BYTES];

/// A mapping that holds code, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewMapping {
    pub start: u64,
    pub end: u64,
    /// Bits as in `vm_flags`: read 1, write 2, execute 4, shared 8.
    pub flags: u64,
    pub file_offset: u64,
    /// Major << 20 | minor.
    pub device: u32,
    /// 0 if no file is mapped.
    pub inode: u64,
    /// The path of the file, or the name that the kernel writes in its place.
    pub path: Vec<u8>,
}

/// One thing that a process did. Ids are those of our pid namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A thread, where both processes are the same, or else a process.
    Forked {
        pid: u32,
        tid: u32,
        parent: u32,
        parent_tid: u32,
    },
    Exited {
        pid: u32,
        tid: u32,
    },
    Named {
        pid: u32,
        tid: u32,
        name: Name,
        /// The process runs another program from here on.
        is_exec: bool,
    },
    Mapped {
        pid: u32,
        mapping: NewMapping,
    },
    /// It is in this mount namespace now.
    Moved {
        pid: u32,
        mnt_ns: u32,
    },
    /// So many changes found no room in the ring.
    Lost(u64),
}

/// The change that a record reports, and its time by `CLOCK_MONOTONIC`.
#[must_use]
pub(super) fn parse(header: Header, body: &[u8]) -> Option<(u64, Change)> {
    let (body, time) = body.split_last_chunk()?;
    let change = read(header, body).ok()??;
    Some((u64::from_le_bytes(*time), change))
}

fn read(header: Header, body: &[u8]) -> Result<Option<Change>, ShortRead> {
    let mut cursor = Cursor::new(body);
    let change = match header.kind {
        FORK => {
            let (pid, parent) = (cursor.u32()?, cursor.u32()?);
            let (tid, parent_tid) = (cursor.u32()?, cursor.u32()?);
            Change::Forked {
                pid,
                tid,
                parent,
                parent_tid,
            }
        }
        EXIT => {
            let (pid, _, tid) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
            Change::Exited { pid, tid }
        }
        COMM => Change::Named {
            pid: cursor.u32()?,
            tid: cursor.u32()?,
            name: name(&body[cursor.offset()..]),
            is_exec: header.misc & MISC_EXEC != 0,
        },
        MMAP2 if header.misc & MISC_BUILD_ID == 0 => {
            let pid = cursor.u32()?;
            cursor.skip(4)?;
            return Ok(mapping(&mut cursor, body)?.map(|mapping| Change::Mapped { pid, mapping }));
        }
        NAMESPACES => {
            let pid = cursor.u32()?;
            cursor.skip(4)?;
            let count = cursor.u64()?;
            if count <= MNT_NS as u64 {
                return Ok(None);
            }
            // Pairs of device and inode.
            cursor.skip(MNT_NS * 16 + 8)?;
            let mnt_ns = u32::try_from(cursor.u64()?).unwrap_or(0);
            Change::Moved { pid, mnt_ns }
        }
        LOST => Change::Lost(lost(body).unwrap_or(0)),
        _ => return Ok(None),
    };
    Ok(Some(change))
}

/// The kernel's name of a thread out of bytes that begin with it.
#[must_use]
pub(super) fn name(bytes: &[u8]) -> Name {
    let mut name = Name::default();
    let known = until_nul(bytes);
    let length = known.len().min(NAME_BYTES - 1);
    name[..length].copy_from_slice(&known[..length]);
    name
}

fn mapping(cursor: &mut Cursor<'_>, body: &[u8]) -> Result<Option<NewMapping>, ShortRead> {
    let (start, length, file_offset) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (major, minor, inode) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    cursor.skip(8)?;
    let (protection, kind) = (cursor.u32()?, cursor.u32()?);
    let path = until_nul(&body[cursor.offset()..]);
    let end = start.checked_add(length).filter(|end| *end > start);
    Ok(end.map(|end| NewMapping {
        start,
        end,
        // PROT_READ, PROT_WRITE and PROT_EXEC have the same bits; MAP_SHARED is 1.
        flags: u64::from(protection & 7) | u64::from(kind & 1) << 3,
        file_offset,
        device: major << 20 | (minor & 0xf_ffff),
        inode,
        path: path.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, misc: u16) -> Header {
        Header { kind, misc }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn ended(mut body: Vec<u8>, time: u64) -> Vec<u8> {
        body.resize(body.len().next_multiple_of(8), 0);
        body.extend_from_slice(&time.to_le_bytes());
        body
    }

    fn mmap2(path: &[u8]) -> Vec<u8> {
        let mut body = words(&[7, 8]);
        for word in [0x1000u64, 0x2000, 0x3000] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(&words(&[8, 1, 42, 0, 0, 0, 5, 1]));
        body.extend_from_slice(path);
        body.push(0);
        ended(body, 99)
    }

    #[test]
    fn a_mapping_is_read_with_its_file() {
        let change = parse(header(MMAP2, 2), &mmap2(b"/bin/x"));
        let mapping = NewMapping {
            start: 0x1000,
            end: 0x3000,
            flags: 13,
            file_offset: 0x3000,
            device: 8 << 20 | 1,
            inode: 42,
            path: b"/bin/x".to_vec(),
        };
        assert_eq!(change, Some((99, Change::Mapped { pid: 7, mapping })));
        assert_eq!(parse(header(MMAP2, MISC_BUILD_ID), &mmap2(b"/bin/x")), None);
    }

    #[test]
    fn a_mapping_of_nothing_or_past_the_end_is_none() {
        for length in [0, u64::MAX] {
            let mut body = mmap2(b"x");
            body[16..24].copy_from_slice(&length.to_le_bytes());
            assert_eq!(parse(header(MMAP2, 0), &body), None, "{length}");
        }
    }

    #[test]
    fn lives_are_reported() {
        let body = ended([words(&[7, 6, 8, 5]), vec![0; 8]].concat(), 3);
        let forked = Change::Forked {
            pid: 7,
            tid: 8,
            parent: 6,
            parent_tid: 5,
        };
        assert_eq!(parse(header(FORK, 0), &body), Some((3, forked)));
        let exited = Change::Exited { pid: 7, tid: 8 };
        assert_eq!(parse(header(EXIT, 0), &body), Some((3, exited)));
        let named = ended([words(&[7, 7]), b"exactly15bytes!\0".to_vec()].concat(), 4);
        let name = |misc| match parse(header(COMM, misc), &named) {
            Some((4, Change::Named { name, is_exec, .. })) => (name, is_exec),
            other => panic!("{other:?}"),
        };
        assert_eq!(name(0), (*b"exactly15bytes!\0", false));
        assert!(name(MISC_EXEC).1);
    }

    #[test]
    fn the_mount_namespace_is_the_sixth() {
        let with = |count: u64| {
            let mut body = words(&[7, 7]);
            body.extend_from_slice(&count.to_le_bytes());
            for number in 0..count {
                body.extend_from_slice(&words(&[4, 0, number as u32, 0]));
            }
            parse(header(NAMESPACES, 0), &ended(body, 1))
        };
        assert_eq!(with(7), Some((1, Change::Moved { pid: 7, mnt_ns: 5 })));
        assert_eq!(with(5), None);
    }

    /// Whatever is cut off, and whatever a name holds.
    #[test]
    fn no_record_is_read_past_its_end() {
        for kind in 0..20 {
            let body = mmap2(&[0xff; 40]);
            for end in 0..body.len() {
                let _ = parse(header(kind, 0), &body[..end]);
            }
        }
        assert_eq!(name(&[b'x'; 40]), *b"xxxxxxxxxxxxxxx\0");
    }
}
