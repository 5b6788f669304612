//! Searches for the file of a mapping, and checks whether it is the right one.
//!
//! In: a mapping and what is known about its process. Out: a parsed [`Module`], or the
//! most specific reason why there is none ([`Verdict`]). [`super`] lists the places that
//! are searched, in order.

use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::process::{self, LiveProcess};
use super::{Head, Missing, Module, Modules, ProcessHint};
use crate::crash::event::{FileIdentity, MappedFile, Mapping};
use crate::symbols::elf::{ElfFile, Home, Source};
use crate::sys::file::{Directory, Refusal, RegularFile, Status, NO_ANSWER};
use crate::sys::opener;
use crate::sys::time;

/// Units of work for the places that are looked at, without those that are read.
const SEARCH: u64 = 64 << 10;
/// Files below a root that lies deeper are not found.
const MAX_SHORTENED: usize = 64;
/// Bytes of a build-id that no two files have by chance: linkers make 16 and more.
const MIN_HASH: usize = 16;

impl Modules {
    pub(super) fn search(
        &mut self,
        mapping: &Mapping,
        file: &MappedFile,
        process: ProcessHint,
    ) -> Result<Rc<Module>, Missing> {
        if !self.shared.allowance.take(SEARCH) {
            return Err(self.out_of_time());
        }
        let mut verdict = Verdict::default();
        let candidate = match opener::search_on(Some(file.identity.device)) {
            true => self.candidates(mapping, file, process, &mut verdict),
            false => {
                verdict = Verdict::Refused(NO_ANSWER);
                None
            }
        };
        opener::search_on(None);
        let Some((found, status, path)) = candidate else {
            let same = self.of_same_build(mapping, file, process);
            return same.ok_or_else(|| verdict.missing(file));
        };
        let refused = |reason| Missing { reason };
        let source = Source::file(found).map_err(|refusal| refused(refusal.as_str()))?;
        let source = source.within(Some(&self.shared.allowance));
        let elf = ElfFile::parse(source).map_err(|error| match opener::is_silent() {
            true => refused(NO_ANSWER),
            false => refused(error.as_str()),
        })?;
        // Both devices: the captured one distinguishes files for which `stat` has the same one.
        let times = (
            status.size,
            status.mtime_s,
            status.mtime_ns,
            status.changed_unix_ns,
        );
        let devices = (status.device, file.identity.device);
        let id = self.hasher.hash_one((status.inode, devices, times));
        let homes = self.homes(&elf, file, process, path);
        let module = Module::new(id, elf, homes, self.shared.clone());
        Ok(Rc::new(module))
    }

    /// Another copy of a file that cannot be reached, found by a build-id that is a hash: one
    /// that is already open, or one at the same path in our own mount namespace.
    fn of_same_build(
        &mut self,
        mapping: &Mapping,
        file: &MappedFile,
        process: ProcessHint,
    ) -> Option<Rc<Module>> {
        let head = Head::of(mapping)?;
        let build_id = head.build_id().filter(|id| id.len() >= MIN_HASH)?;
        let mut kept = self.kept.values().map(|kept| &kept.module);
        let is_same = |module: &&Rc<Module>| module.build_id() == Some(build_id);
        if let Some(module) = kept.find(|module| is_same(module) && module.is_current()) {
            return Some(module.clone());
        }
        let foreign = process.mnt_ns != 0 && Some(process.mnt_ns) != self.own_mnt_ns;
        if !(foreign && file.path.starts_with(b"/")) || file.truncated || file.detached {
            return None;
        }
        let path = Path::new(OsStr::from_bytes(&file.path));
        let found = RegularFile::open(path).ok()?;
        let status = found.status().ok()?;
        let source = Source::file(found)
            .ok()?
            .within(Some(&self.shared.allowance));
        let elf = ElfFile::parse(source).ok()?;
        if elf.build_id() != Some(build_id) {
            return None;
        }
        let times = (
            status.size,
            status.mtime_s,
            status.mtime_ns,
            status.changed_unix_ns,
        );
        let id = self.hasher.hash_one((status.inode, status.device, times));
        let homes = self.homes(&elf, file, process, Some(path.to_owned()));
        let module = Module::new(id, elf, homes, self.shared.clone());
        Some(Rc::new(module))
    }

    /// The directories of the file, however it was reached. Its debug file is searched there,
    /// and recognized by its content.
    fn homes(
        &mut self,
        elf: &ElfFile,
        file: &MappedFile,
        process: ProcessHint,
        found: Option<PathBuf>,
    ) -> Vec<Home> {
        let mut homes: Vec<Home> = Vec::new();
        let mut add = |root: Option<Rc<Directory>>, path: &[u8]| {
            let dir = Path::new(OsStr::from_bytes(path)).parent();
            let known =
                |home: &Home| Some(&*home.dir) == dir && home.root.is_some() == root.is_some();
            match dir {
                Some(dir) if dir.is_absolute() && !homes.iter().any(known) => {
                    let dir = dir.to_owned();
                    homes.push(Home { root, dir });
                }
                _ => {}
            }
        };
        if file.truncated
            || file.detached
            || (elf.debug_link().is_none() && elf.build_id().is_none())
        {
            return homes;
        }
        let foreign = process.mnt_ns != 0 && Some(process.mnt_ns) != self.own_mnt_ns;
        // Perf events have paths from the process's own root, which chroot(2) may have set.
        if foreign || found.is_none() && elf.debug_link().is_some() {
            // One that ends has no root any more.
            let root = live_process(process)
                .and_then(|live| live.root())
                .or_else(|| self.peers.find(process.mnt_ns)?.root());
            add(root.map(Rc::new), &file.path);
        }
        if let Some(found) = found {
            add(None, found.as_os_str().as_bytes());
        }
        add(None, &file.path);
        if let (Some(lower), true) = (&file.lower_path, elf.debug_link().is_some()) {
            for place in process::places_of(file.identity.device, lower) {
                add(None, &place);
            }
        }
        homes
    }

    /// The first candidate that is the mapped file.
    fn candidates(
        &mut self,
        mapping: &Mapping,
        file: &MappedFile,
        process: ProcessHint,
        verdict: &mut Verdict,
    ) -> Option<(RegularFile, Status, Option<PathBuf>)> {
        let foreign = process.mnt_ns != 0 && Some(process.mnt_ns) != self.own_mnt_ns;
        let whole = file.path.starts_with(b"/") && !file.truncated && !file.detached;

        if let Some(live) = live_process(process) {
            let ways = [
                live.mapped(mapping),
                whole.then(|| live.in_root(&file.path)).flatten(),
            ];
            for way in ways.into_iter().flatten() {
                if let Some((found, status)) = verdict.judge(file, way, true) {
                    return Some((found, status, None));
                }
            }
        }
        let own = whole.then(|| file.path.clone());
        // Known from the root of its file system on, which may be mounted anywhere.
        let lower = file.lower_path.iter().flat_map(|lower| {
            let mounted = process::places_of(file.identity.device, lower);
            std::iter::once(lower.clone()).chain(mounted)
        });
        for path in own.into_iter().chain(lower) {
            if !path.starts_with(b"/") {
                continue;
            }
            let path = Path::new(OsStr::from_bytes(&path));
            let way = RegularFile::open(path);
            if let Some((found, status)) = verdict.judge(file, way, !foreign) {
                return Some((found, status, Some(path.to_owned())));
            }
        }
        // Under chroot(2) captured paths begin above our root.
        if whole && (!foreign || self.own_mnt_ns.is_none()) {
            for path in shortened(&file.path) {
                let path = Path::new(OsStr::from_bytes(path));
                let judged = verdict.judge(file, RegularFile::open(path), false);
                let is_same_device =
                    |(_, status): &(_, Status)| status.device == file.identity.device;
                if let Some((found, status)) = judged.filter(is_same_device) {
                    return Some((found, status, Some(path.to_owned())));
                }
            }
        }
        let in_peer = (foreign && whole)
            .then(|| self.peers.find(process.mnt_ns)?.in_root(&file.path))
            .flatten();
        if let Some(way) = in_peer {
            if let Some((found, status)) = verdict.judge(file, way, true) {
                return Some((found, status, None));
            }
        }
        // One that forked has the same file at the same place, or runs it.
        let parent = LiveProcess::open_any(process.parent?)?;
        let ways = [parent.mapped(mapping), parent.executable()];
        let judged = |way| verdict.judge(file, way, false);
        let (found, status) = ways.into_iter().flatten().find_map(judged)?;
        Some((found, status, None))
    }
}

/// A path without its first component, without its first two, and so on.
fn shortened(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = (1..path.len()).filter(|&at| path[at] == b'/');
    slashes.take(MAX_SHORTENED).map(|at| &path[at..])
}

/// The process itself, if it still lives.
pub(super) fn live_process(process: ProcessHint) -> Option<LiveProcess> {
    let as_seen_here = process.pid.unwrap_or(process.host_pid);
    let pids = [as_seen_here, process.host_pid];
    let distinct = if as_seen_here == process.host_pid {
        1
    } else {
        2
    };
    pids[..distinct]
        .iter()
        .find_map(|&pid| LiveProcess::open(pid, process.start_ns))
}

/// The result of the search for a file: the most specific reason so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Verdict {
    /// No place to look at.
    #[default]
    Unreachable,
    NotFound,
    Refused(&'static str),
    Replaced,
    Changed,
}

impl Verdict {
    /// The file, if it is the right one; else the reason. `telling`: the path is the process's
    /// own, so that a file there shows what became of the mapped one.
    fn judge(
        &mut self,
        wanted: &MappedFile,
        way: Result<RegularFile, Refusal>,
        telling: bool,
    ) -> Option<(RegularFile, Status)> {
        let opened = way.and_then(|file| Ok((file.status()?, file)));
        let is_ours = matches!(opened, Err(Refusal::NoDescriptor | Refusal::NoAnswer));
        let reason = match opened {
            Ok((status, file)) if matches(&wanted.identity, &status) => {
                return Some((file, status))
            }
            Ok((status, _)) if status.inode == wanted.identity.inode => Verdict::Changed,
            Ok(_) => Verdict::Replaced,
            Err(Refusal::NotFound) => Verdict::NotFound,
            Err(refusal) => Verdict::Refused(refusal.as_str()),
        };
        if telling || is_ours {
            *self = (*self).max(reason);
        }
        None
    }

    fn missing(self, file: &MappedFile) -> Missing {
        let reason = match self {
            Verdict::Changed if file.identity.mapped_unix_ns.is_some() => {
                "file changed since it was mapped"
            }
            Verdict::Changed => "file changed since the crash",
            _ if file.detached => "the file has no name, and its process is gone",
            Verdict::Replaced if file.deleted => "file replaced before the crash",
            _ if file.deleted => "file deleted before the crash",
            Verdict::Replaced => "file replaced since the crash",
            Verdict::Refused(reason) => reason,
            Verdict::NotFound => "file deleted since the crash",
            Verdict::Unreachable if file.path.is_empty() => "path not captured",
            Verdict::Unreachable if file.truncated => "path cut off",
            Verdict::Unreachable => "file not reachable from this mount namespace",
        };
        Missing { reason }
    }
}

/// Whether a file that was last changed at this time is the one that was mapped.
///
/// File times are those of the clock's last tick, with 100 ticks a second or more: a file
/// that changes at the moment when it is mapped cannot be distinguished from one that is
/// run as soon as it is made. A time in the future was set by another clock, for example
/// that of the machine that made the image of a board, whose own clock starts in 1970.
pub(super) fn is_unchanged(changed_unix_ns: i64, mapped_unix_ns: i64, now_unix_ns: i64) -> bool {
    changed_unix_ns <= mapped_unix_ns || changed_unix_ns > now_unix_ns
}

/// The device does not count: overlayfs and btrfs report another one to `stat`.
fn matches(identity: &FileIdentity, status: &Status) -> bool {
    if let Some(mapped_unix_ns) = identity.mapped_unix_ns {
        let now_unix_ns = time::realtime_ns();
        return identity.inode == status.inode
            && is_unchanged(status.changed_unix_ns, mapped_unix_ns, now_unix_ns);
    }
    // One that has no name any more has changed by that.
    let is_later = |crashed_unix_ns| {
        let changed_unix_ns = status.changed_unix_ns;
        status.links > 0 && !is_unchanged(changed_unix_ns, crashed_unix_ns, time::realtime_ns())
    };
    identity.inode == status.inode
        && identity.size == status.size
        && identity.mtime_s == status.mtime_s
        && identity.mtime_ns == status.mtime_ns
        && !identity.crashed_unix_ns.is_some_and(is_later)
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn components_are_taken_from_the_front() {
        let text = |path: &'static str| {
            let shorter = shortened(path.as_bytes()).map(|rest| std::str::from_utf8(rest).unwrap());
            shorter.collect::<Vec<_>>()
        };
        assert_eq!(text("/srv/root/bin/a"), ["/root/bin/a", "/bin/a", "/a"]);
        assert_eq!(text("/a"), [""; 0]);
        assert_eq!(text(""), [""; 0]);
        assert_eq!(shortened(&b"/x".repeat(1000)).count(), 64);
    }
}
