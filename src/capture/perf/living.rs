//! Processes that already run when the capture starts, as /proc shows them.
//!
//! The result gets the time before the read began, so a change that came meanwhile is
//! applied again later. /proc still has some data of a dead process until its parent
//! collects it: see [`Look`]. Whatever cannot be read is not known. proc(5).

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use super::change::{name, Name, NewMapping};
use super::processes::{KnownFile, KnownMapping, Process, Processes};
use crate::base::bytes::find;
use crate::base::order;
use crate::base::procfs::stat::{PARENT, STARTED, THREADS};
use crate::base::procfs::{self, NS_PER_TICK};
use crate::sys::file::Directory;
use crate::sys::time;

/// `/proc/PID/stat` counts in units of 1/100 second on x86 and arm64.
/// Fields of `/proc/PID/stat`.
/// Then their end, and the same of the environment.
const ARG_START: usize = 48;

const MAX_MAPS: u64 = 8 << 20;
const MAX_STAT: u64 = 4096;
const MAX_CMDLINE: u64 = 4096;
const MAX_LOOK: usize = 4096;
const EXEC: u64 = 4;

/// What perf events do not have about a process that may be gone at any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub parent: u32,
    pub uid: u32,
    /// As the process sees itself.
    pub own_pid: u32,
    pub cgroup: Option<Vec<u8>>,
}

/// A last look at the process with this pid, if it is the one that started then
/// (0: any time before `now_ns`).
pub(super) fn look_at(pid: u32, started_ns: u64, now_ns: u64) -> Option<Look> {
    // From here on it is this process or none.
    let process = Directory::open(format!("/proc/{pid}").as_ref()).ok()?;
    let stat = process.read_small("stat", MAX_LOOK)?;
    let stated_ns = procfs::stat_field(&stat, STARTED)?.checked_mul(NS_PER_TICK)?;
    // The event of the fork comes a moment after the start.
    let is_same = match started_ns {
        0 => stated_ns <= now_ns,
        _ => stated_ns.abs_diff(started_ns) < 2 * NS_PER_TICK,
    };
    let status = is_same.then(|| process.read_small("status", MAX_LOOK))??;
    let cgroup = process.read_small("cgroup", MAX_LOOK);
    Some(Look {
        parent: procfs::stat_field(&stat, PARENT)?.try_into().ok()?,
        uid: *numbers(&status, b"\nUid:\t").first()?,
        own_pid: *numbers(&status, b"\nNSpid:\t").last()?,
        cgroup: cgroup.and_then(|lines| unified(&lines)),
    })
}

/// The numbers that follow a word of `/proc/PID/status`.
fn numbers(status: &[u8], word: &[u8]) -> Vec<u32> {
    let rest = find(status, word).map_or(&[][..], |at| &status[at + word.len()..]);
    let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let numbers = line.split(|&byte| byte == b'\t');
    numbers
        .filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok())
        .collect()
}

/// The path in the hierarchy of version 2: `0::/path`.
fn unified(lines: &[u8]) -> Option<Vec<u8>> {
    let mut lines = lines.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    Some(path.to_vec())
}

/// Reads all of them; how many there are.
pub(super) fn read_all(processes: &mut Processes) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut there = Vec::new();
    for pid in pids {
        if let Some(process) = read_one(pid, processes) {
            processes.found(pid, process);
            there.push(pid);
        }
    }
    order::sort(&mut there, |&pid| u64::from(pid));
    processes.forget_others(&there);
    there.len()
}

/// Reads one.
pub(super) fn read_one(pid: u32, processes: &mut Processes) -> Option<Process> {
    // What happens in the same tick of a coarse clock is taken in once more.
    let seen_ns = time::boottime_ns().unsigned_abs().saturating_sub(1);
    let unix_ns = time::realtime_ns();
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let stat = read(&of("stat"), MAX_STAT)?;
    let maps = read(&of("maps"), MAX_MAPS);
    let mut process = Process {
        parent: procfs::stat_field(&stat, PARENT)?.try_into().ok()?,
        started_ns: procfs::stat_field(&stat, STARTED)?.checked_mul(NS_PER_TICK)?,
        seen_ns,
        // A list that could not be read to its end lacks some mappings; and a process that is
        // ending has none any more.
        whole_from_ns: match maps.as_ref().map_or(0, Vec::len) as u64 {
            1..MAX_MAPS => seen_ns,
            _ => 0,
        },
        name: stat_name(&stat)?,
        named_ns: seen_ns,
        mnt_ns: link(&of("ns/mnt"))
            .and_then(|link| procfs::namespace(&link))
            .unwrap_or(0),
        ..Process::default()
    };
    for line in procfs::parse_maps(&maps.unwrap_or_default()) {
        if line.path == b"[vdso]" {
            process.vdso = line.start;
        }
        if line.flags & EXEC == 0 {
            continue;
        }
        let new = NewMapping {
            start: line.start,
            end: line.end,
            flags: line.flags,
            file_offset: line.file_offset,
            device: line.device,
            inode: line.inode,
            path: line.path,
        };
        process.map(KnownMapping {
            start: new.start,
            end: new.end,
            flags: new.flags,
            file_offset: new.file_offset,
            mapped_unix_ns: unix_ns,
            file: processes.file(&new),
        });
    }
    process.exe = link(&of("exe")).map(|path| exe(&path, &process));
    process.cmdline = read(&of("cmdline"), MAX_CMDLINE).and_then(|line| arguments(line, &stat));
    if procfs::stat_field(&stat, THREADS) > Some(1) {
        process.thread_names = thread_names(pid, &process.name);
    }
    Some(process)
}

/// The arguments, each with its NUL. If a title has overwritten the zero at the end of the
/// last one, the file has more: perhaps a part of the environment. Nothing is returned if
/// the process has moved its arguments into its environment.
fn arguments(mut line: Vec<u8>, stat: &[u8]) -> Option<Rc<[u8]>> {
    let field = |number| procfs::stat_field(stat, number);
    let (start, end) = (field(ARG_START)?, field(ARG_START + 1)?);
    let (env_start, env_end) = (field(ARG_START + 2)?, field(ARG_START + 3)?);
    if start == 0 || env_start == 0 || start < env_end && env_start < end {
        return None;
    }
    let bytes = end
        .checked_sub(start)
        .filter(|bytes| *bytes <= MAX_CMDLINE)?;
    line.truncate(usize::try_from(bytes).ok()?);
    line.pop_if(|last| *last == 0);
    if line.is_empty() {
        return None;
    }
    line.push(0);
    Some(Rc::from(line))
}

fn read(path: &str, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn link(path: &str) -> Option<Vec<u8>> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.as_os_str().as_bytes().to_vec())
}

/// `7 (name) S …`, where the name may hold anything.
fn stat_name(stat: &[u8]) -> Option<Name> {
    let start = stat.iter().position(|&byte| byte == b'(')? + 1;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(start..end).map(name)
}

/// The executable by its link, which is usually the file of a mapping.
fn exe(path: &[u8], process: &Process) -> Rc<KnownFile> {
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let mut files = process
        .mappings
        .iter()
        .filter_map(|known| known.file.as_ref());
    let mapped = files.find(|file| file.path == path && file.deleted == deleted);
    mapped.cloned().unwrap_or_else(|| {
        Rc::new(KnownFile {
            inode: 0,
            device: 0,
            path: path.to_vec(),
            deleted,
            detached: false,
        })
    })
}

/// The names of threads that differ from the process's.
fn thread_names(pid: u32, own: &Name) -> Vec<(u32, Name)> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let tids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid: u32| {
        let comm = read(&format!("/proc/{pid}/task/{tid}/comm"), MAX_STAT)?;
        let comm = name(comm.strip_suffix(b"\n").unwrap_or(&comm));
        (comm != *own && tid != pid).then_some((tid, comm))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_code_and_threads() {
        let (sent, wait) = (
            std::sync::mpsc::channel::<()>(),
            std::sync::mpsc::channel::<()>(),
        );
        let thread = std::thread::Builder::new().name("odd thread".into());
        let thread = thread.spawn(move || {
            sent.0.send(()).unwrap();
            let _ = wait.1.recv();
        });
        sent.1.recv().unwrap();
        let mut processes = Processes::new(64 << 20);
        assert!(read_all(&mut processes) > 0);
        drop(wait.0);
        thread.unwrap().join().unwrap();
        let process = processes.get(std::process::id()).unwrap();
        assert_eq!(processes.gap(process), None);
        let here = read_all as fn(&mut Processes) -> usize as usize as u64;
        let holds = |known: &&KnownMapping| known.start <= here && here < known.end;
        let file = process
            .mappings
            .iter()
            .find(holds)
            .unwrap()
            .file
            .as_ref()
            .unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(file.path, exe.as_os_str().as_bytes());
        assert!(Rc::ptr_eq(file, process.exe.as_ref().unwrap()));
        assert_eq!(
            processes.parent(process),
            Some(std::os::unix::process::parent_id())
        );
        assert!(process
            .thread_names
            .iter()
            .any(|(_, known)| *known == name(b"odd thread")));
        assert!(process.vdso != 0);
        let line = process.cmdline.as_ref().unwrap();
        let first = std::env::args().next().unwrap();
        assert!(line.starts_with(first.as_bytes()));
    }

    #[test]
    fn a_last_look_is_at_the_process_that_started_then() {
        let pid = std::process::id();
        let now = time::boottime_ns().unsigned_abs();
        let look = look_at(pid, 0, now).unwrap();
        assert_eq!(look.parent, std::os::unix::process::parent_id());
        assert_eq!(look.uid, crate::sys::process::user());
        let mut processes = Processes::new(1 << 20);
        let started = read_one(pid, &mut processes).unwrap().started_ns;
        assert!(look_at(pid, started + NS_PER_TICK, now).is_some());
        assert!(look_at(pid, started + 2 * NS_PER_TICK, now).is_none());
        assert!(look_at(pid, 0, started - 1).is_none());
    }

    #[test]
    fn arguments_end_where_the_kernel_says_that_they_do() {
        let stat = |places: &str| format!("7 (x) S{} {places}", " 0".repeat(44)).into_bytes();
        let line = |text: &[u8], places| arguments(text.to_vec(), &stat(places));
        let usual = line(b"prog\0-v\0", "1000 1008 1008 1040");
        assert_eq!(usual.as_deref(), Some(&b"prog\0-v\0"[..]));
        let title = line(b"prog: a titleHOME=/secret\0", "1000 1013 1013 1040");
        assert_eq!(title.as_deref(), Some(&b"prog: a title\0"[..]));
        let all = line(b"prog\0HOME=/secret\0", "1000 1018 1005 1018");
        assert_eq!(all, None);
        assert_eq!(line(b"prog\0", "1000 0 0 0"), None);
        assert_eq!(line(b"", "1000 1008 1008 1040"), None);
    }

    #[test]
    fn words_of_status_have_numbers() {
        let status = b"Name:\tx\nUid:\t1000\t0\t0\t0\nNSpid:\t77\t5\n";
        assert_eq!(numbers(status, b"\nUid:\t"), [1000, 0, 0, 0]);
        assert_eq!(numbers(status, b"\nNSpid:\t"), [77, 5]);
        assert!(numbers(status, b"\nGid:\t").is_empty());
        let cgroup = b"5:cpu:/a\n0::/user.slice/x\n";
        assert_eq!(unified(cgroup).as_deref(), Some(&b"/user.slice/x"[..]));
        assert_eq!(unified(b"5:cpu:/a\n"), None);
    }

    #[test]
    fn names_may_hold_parentheses() {
        assert_eq!(stat_name(b"7 (a) (b)) S 1"), Some(name(b"a) (b)")));
        assert_eq!(stat_name(b")7("), None);
    }
}
