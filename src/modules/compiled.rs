//! Finds the map that a just-in-time compiler wrote of its code: `/tmp/perf-PID.map`, in
//! the process's own root and with the pid that the process itself sees.
//!
//! In: who crashed, and addresses that are in no file. Out: the functions at them.
//! Every user may write to `/tmp`, and pids are used again: the map counts only if it is a
//! regular file of the process's user or of root that was written since the process
//! began. A missing map is not reported; a refused one is ([`Missing`]).

use std::hash::BuildHasher;
use std::path::Path;

use super::process::LiveProcess;
use super::search::live_process;
use super::{Missing, Modules, ProcessHint};
use crate::base::address::ProcessAddress;
use crate::base::allowance::Step;
use crate::symbols::elf::Source;
use crate::symbols::perf_map::{self, Compiled};
use crate::sys::file::{Refusal, RegularFile, Status};
use crate::sys::time;

/// File times are those of the clock's last tick, with 100 ticks a second or more; the
/// time of the process is exact.
const TICK_NS: i128 = 20_000_000;

impl Modules {
    /// The compiled functions at these addresses, one answer for each.
    pub fn compiled(
        &mut self,
        process: ProcessHint,
        addresses: &[ProcessAddress],
    ) -> Result<Vec<Option<Compiled>>, Missing> {
        let path = format!("/tmp/perf-{}.map", process.ns_pid);
        let refused = |reason| Missing { reason };
        let file = match self.open_as(process, &path) {
            Err(Refusal::NotFound) => return Ok(vec![None; addresses.len()]),
            other => other.map_err(|_| refused("the perf map of its code cannot be opened"))?,
        };
        let status = file.status().map_err(|refusal| refused(refusal.as_str()))?;
        check(&status, process)?;
        let source = Source::file(file).map_err(|refusal| refused(refusal.as_str()))?;
        let allowance = self.shared.allowance.clone();
        let late = refused("time limit: the perf map of its code not read to its end");
        let file = self.hasher.hash_one((status.inode, status.device));
        let _turn = allowance.turn(file, Step::Names).ok_or(late)?;
        perf_map::look_up(&source.within(Some(&allowance)), addresses).ok_or(late)
    }

    /// A file as the process sees it.
    fn open_as(&mut self, process: ProcessHint, path: &str) -> Result<RegularFile, Refusal> {
        let in_root = |live: LiveProcess| live.in_root(path.as_bytes());
        if let Some(way) = live_process(process).and_then(in_root) {
            return way;
        }
        if process.mnt_ns == 0 || Some(process.mnt_ns) == self.own_mnt_ns {
            return RegularFile::open(Path::new(path));
        }
        let peer = self.peers.find(process.mnt_ns);
        peer.and_then(in_root).unwrap_or(Err(Refusal::NotFound))
    }
}

fn check(status: &Status, process: ProcessHint) -> Result<(), Missing> {
    let refused = |reason| Err(Missing { reason });
    match process.uid {
        _ if status.owner == 0 => {}
        Some(uid) if uid == status.owner => {}
        Some(_) => return refused("the perf map of its code belongs to another user"),
        None => return refused("cannot check who owns the perf map of its code"),
    }
    if status.size > perf_map::MAX_SIZE {
        return refused("the perf map of its code is too large");
    }
    let boot_to_unix_ns = i128::from(time::realtime_ns()) - i128::from(time::boottime_ns());
    let began_ns = i128::from(process.start_ns) + boot_to_unix_ns;
    let written_ns = i128::from(status.mtime_s) * 1_000_000_000 + i128::from(status.mtime_ns);
    if written_ns + TICK_NS < began_ns {
        return refused("the perf map of its code is older than the process");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(owner: u32, size: u64, written_ns: i64) -> Status {
        Status {
            inode: 1,
            device: 1,
            size,
            mtime_s: written_ns.div_euclid(1_000_000_000),
            mtime_ns: written_ns.rem_euclid(1_000_000_000) as u32,
            changed_unix_ns: written_ns,
            links: 1,
            owner,
        }
    }

    #[test]
    fn only_a_map_of_this_process_is_taken() {
        let process = ProcessHint {
            pid: None,
            host_pid: 7,
            start_ns: time::boottime_ns().unsigned_abs(),
            mnt_ns: 0,
            ns_pid: 7,
            uid: Some(1000),
            parent: None,
        };
        let now = time::realtime_ns();
        assert!(check(&status(1000, 100, now), process).is_ok());
        assert!(check(&status(0, 100, now), process).is_ok());
        assert!(check(&status(1001, 100, now), process).is_err());
        assert!(check(&status(1000, 1 << 40, now), process).is_err());
        let unknown = ProcessHint {
            uid: None,
            ..process
        };
        assert!(check(&status(1000, 100, now), unknown).is_err());
        assert!(check(&status(0, 100, now), unknown).is_ok());
        assert!(check(&status(1000, 100, now - 1_000_000_000), process).is_err());
    }
}
