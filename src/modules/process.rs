//! The files of a process that still exists, as the process sees them.
//!
//! In: a pid and the start time that was captured with it, because a pid is used again.
//! Out: files from `/proc/PID/map_files` and `/proc/PID/root`. The directory is opened
//! once and used from then on: after the process has died all reads fail, and no later
//! process with its pid is mistaken for it. proc(5).

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::order;
use crate::base::procfs::{self, Line, NS_PER_TICK};
use crate::crash::event::Mapping;
use crate::sys::file::{Directory, Refusal, RegularFile};

/// `/proc/PID/stat` counts in units of 1/100 second on x86 and arm64.
/// Processes looked at to find one in a mount namespace.
const MAX_LOOKED_AT: usize = 4096;
/// The least time between two looks at all of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Enough for a process with ten thousand mappings.
const MAX_MAPS: usize = 1 << 20;
/// Enough for a host with thousands of containers.
const MAX_MOUNTINFO: u64 = 4 << 20;
/// Mounts of one file system that are tried.
const MAX_PLACES: usize = 8;

/// A process that was alive when it was opened.
#[derive(Debug)]
pub(super) struct LiveProcess(Directory);

impl LiveProcess {
    /// The process with that pid, if it started then.
    pub(super) fn open(pid: u32, start_ns: u64) -> Option<Self> {
        let process = Self::open_any(pid)?;
        let stat = process.0.read_small("stat", 1024)?;
        (procfs::stat_field(&stat, procfs::stat::STARTED)? == start_ns / NS_PER_TICK)
            .then_some(process)
    }

    /// The process that has that pid now, whichever it is.
    pub(super) fn open_any(pid: u32) -> Option<Self> {
        let path = format!("/proc/{pid}");
        Directory::open(Path::new(&path)).ok().map(LiveProcess)
    }

    /// The file of one of its mappings, even one that has no name any more;
    /// `None` if its memory is gone.
    pub(super) fn mapped(&self, mapping: &Mapping) -> Option<Result<RegularFile, Refusal>> {
        let name = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        let opened = self.0.open_regular_link(&name);
        (!matches!(opened, Err(Refusal::NotFound))).then_some(opened)
    }

    /// The file that it runs, even one that has no name any more.
    pub(super) fn executable(&self) -> Option<Result<RegularFile, Refusal>> {
        let opened = self.0.open_regular_link("exe");
        (!matches!(opened, Err(Refusal::NotFound))).then_some(opened)
    }

    /// A path as this process sees it; `None` if it sees none any more. A process
    /// that ends loses its root before its mounts go.
    pub(super) fn in_root(&self, path: &[u8]) -> Option<Result<RegularFile, Refusal>> {
        let opened = self.0.open_directory("root").ok()?.open_in_root(path);
        if matches!(opened, Err(Refusal::NotFound)) {
            self.0.open_directory("root").ok()?;
        }
        Some(opened)
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Option<Directory> {
        self.0.open_directory("root").ok()
    }

    /// Its mappings as they are now, if it began before that time: otherwise it is another.
    pub(super) fn lines_before(&self, boot_ns: u64) -> Option<Vec<Line>> {
        let stat = self.0.read_small("stat", 1024)?;
        let began = procfs::stat_field(&stat, procfs::stat::STARTED)?;
        let maps = self.0.read_small("maps", MAX_MAPS)?;
        (began <= boot_ns / NS_PER_TICK).then(|| procfs::parse_maps(&maps))
    }

    fn mount_namespace(&self) -> Option<u32> {
        procfs::namespace(&self.0.read_link("ns/mnt")?)
    }
}

/// The paths at which a place in a file system is found here: by the device of the file system and
/// the path from its root: one for each mount that shows it.
pub(super) fn places_of(device: u32, path: &[u8]) -> Vec<Vec<u8>> {
    let mut text = Vec::new();
    let mounts = std::fs::File::open("/proc/self/mountinfo");
    // The part that could not be read shows nothing.
    let _ = mounts.and_then(|file| file.take(MAX_MOUNTINFO).read_to_end(&mut text));
    shown(&text, device, path)
}

/// `36 35 98:0 /root /mount/point options - type source options`, proc_pid_mountinfo(5)
fn shown(mountinfo: &[u8], device: u32, path: &[u8]) -> Vec<Vec<u8>> {
    let device = format!("{}:{}", device >> 20, device & 0xf_ffff);
    let place = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        if fields.next()? != device.as_bytes() {
            return None;
        }
        let root = unescape(fields.next()?);
        let mut place = unescape(fields.next()?);
        let root = root.strip_suffix(b"/").unwrap_or(&root);
        let below = path.strip_prefix(root)?;
        if !below.starts_with(b"/") {
            return None;
        }
        if place == b"/" {
            place.clear();
        }
        place.extend_from_slice(below);
        Some(place)
    };
    let lines = mountinfo.split(|&byte| byte == b'\n');
    lines.filter_map(place).take(MAX_PLACES).collect()
}

/// Space, tab, newline and backslash are written `\040` and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let (byte, left) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), tail)
            }
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = left;
    }
    plain
}

/// Our own mount namespace.
pub(super) fn own_mount_namespace() -> Option<u32> {
    let itself = Directory::open(Path::new("/proc/self")).ok()?;
    procfs::namespace(&itself.read_link("ns/mnt")?)
}

/// Members of mount namespaces, found by looking through `/proc`, which is done
/// only for a namespace that is not known, and not often.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Namespace and a process in it, sorted.
    members: Vec<(u32, u32)>,
    looked: Option<Instant>,
}

impl Peers {
    /// Some living process in that mount namespace.
    pub(super) fn find(&mut self, mnt_ns: u32) -> Option<LiveProcess> {
        if let Some(process) = self.known(mnt_ns) {
            return Some(process);
        }
        if self
            .looked
            .is_some_and(|last| last.elapsed() < LOOK_INTERVAL)
        {
            return None;
        }
        self.members = look_through();
        self.looked = Some(Instant::now());
        self.known(mnt_ns)
    }

    fn known(&self, mnt_ns: u32) -> Option<LiveProcess> {
        let first = self
            .members
            .partition_point(|(namespace, _)| *namespace < mnt_ns);
        let members = self.members[first..].iter();
        members
            .take_while(|(namespace, _)| *namespace == mnt_ns)
            .find_map(|(_, pid)| {
                let process = LiveProcess::open_any(*pid)?;
                (process.mount_namespace()? == mnt_ns).then_some(process)
            })
    }
}

/// A process of each mount namespace, two if there are as many.
fn look_through() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut members: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX_LOOKED_AT)
        .filter_map(|pid: u32| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
            Some((procfs::namespace(link.as_os_str().as_bytes())?, pid))
        })
        .collect();
    order::sort(&mut members, |&(_, pid)| pid.into());
    order::sort(&mut members, |&(namespace, _)| namespace.into());
    let mut kept: Vec<(u32, u32)> = Vec::new();
    for member in members {
        let same = kept.iter().rev().take(2).filter(|kept| kept.0 == member.0);
        if same.count() < 2 {
            kept.push(member);
        }
    }
    kept.shrink_to_fit();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_file_system_is_found_where_it_is_mounted() {
        let mounts = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            22 21 8:2 / /var/lib\\040x rw shared:1 - ext4 /dev/sda2 rw\n\
            23 21 8:2 /docker /mnt rw - ext4 /dev/sda2 rw\n\
            24 21 8:2\n\n25 21 8:2 /dock /wrong rw";
        let shown = |device, path: &[u8]| {
            let places = shown(mounts, device, path);
            let text = |place: &Vec<u8>| String::from_utf8(place.clone()).unwrap();
            places.iter().map(text).collect::<Vec<String>>()
        };
        let device = |major: u32, minor| major << 20 | minor;
        assert_eq!(shown(device(8, 1), b"/bin/ls"), ["/bin/ls"]);
        assert_eq!(
            shown(device(8, 2), b"/docker/layer/ls"),
            ["/var/lib x/docker/layer/ls", "/mnt/layer/ls"]
        );
        assert_eq!(shown(device(8, 3), b"/ls"), [""; 0]);
        assert_eq!(unescape(b"a\\134\\9\\04"), b"a\\\\9\\04");
    }

    #[test]
    fn only_the_process_that_started_then_is_opened() {
        let pid = std::process::id();
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let start_ns = procfs::stat_field(&stat, procfs::stat::STARTED).unwrap() * NS_PER_TICK;
        assert!(LiveProcess::open(pid, start_ns + 1234).is_some());
        assert!(LiveProcess::open(pid, start_ns + NS_PER_TICK).is_none());
        assert!(LiveProcess::open(pid, 0).is_none());
    }

    #[test]
    fn a_member_of_our_own_namespace_is_found() {
        let own = own_mount_namespace().unwrap();
        let mut peers = Peers::default();
        assert_eq!(peers.find(own).unwrap().mount_namespace(), Some(own));
        assert!(peers.find(own).is_some());
        assert!(peers.find(1).is_none());
    }
}
