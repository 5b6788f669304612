//! Mappings of a process that still exists, if none were captured.
//!
//! In: a crash, and `/proc/PID`. Out: the present mappings of that process, which are
//! those of the crash unless other code ran in it since; or nothing, if its memory is
//! gone or its pid now belongs to another process. proc(5).

use crate::base::address::{FileOffset, ProcessAddress};
use crate::base::procfs::Line;
use crate::crash::event::{Event, FileIdentity, MappedFile, Mapping, VmFlags};
use crate::modules::process::LiveProcess;
use crate::sys::opener;

/// Fills in the mappings; whether there were any.
pub fn mappings(event: &mut Event) -> bool {
    let pid = event.pid.unwrap_or(event.host_pid);
    let lines = LiveProcess::open_any(pid).and_then(|process| {
        let lines = process.lines_before(event.boot_ns)?;
        Some((process, lines))
    });
    let Some((process, lines)) = lines else {
        return false;
    };
    for line in lines {
        if line.path == b"[vdso]" {
            event.vdso = ProcessAddress(line.start);
        }
        event.mappings.push(mapping(&process, line));
    }
    !event.mappings.is_empty()
}

fn mapping(process: &LiveProcess, line: Line) -> Mapping {
    let mut flags = line.flags;
    if line.path == b"[stack]" {
        flags |= VmFlags::GROWS_DOWN;
    }
    let mut mapping = Mapping {
        start: ProcessAddress(line.start),
        end: ProcessAddress(line.end),
        flags: VmFlags(flags),
        file: None,
    };
    if line.inode == 0 {
        return mapping;
    }
    opener::search_on(Some(line.device));
    let file = process.mapped(&mapping).and_then(Result::ok);
    opener::search_on(None);
    let status = file.and_then(|file| file.status().ok());
    // Not known, they are like no file's.
    let mut identity = FileIdentity {
        inode: line.inode,
        device: line.device,
        size: 0,
        mtime_s: 0,
        mtime_ns: 0,
        mapped_unix_ns: None,
        crashed_unix_ns: None,
    };
    if let Some(status) = status {
        identity.size = status.size;
        identity.mtime_s = status.mtime_s;
        identity.mtime_ns = status.mtime_ns;
    }
    let path = line.path.strip_suffix(b" (deleted)");
    mapping.file = Some(MappedFile {
        identity,
        offset: FileOffset(line.file_offset),
        deleted: path.is_some(),
        path: path.unwrap_or(&line.path).to_vec(),
        lower_path: None,
        detached: line.path.starts_with(b"/memfd:"),
        truncated: false,
        head: None,
    });
    mapping
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_mappings_are_those_of_proc() {
        let process = LiveProcess::open_any(std::process::id()).unwrap();
        assert!(process.lines_before(0).is_none(), "it began after that");
        let lines = process.lines_before(u64::MAX).unwrap();
        let ours = std::env::current_exe().unwrap();
        let ours = ours.as_os_str().as_encoded_bytes();
        let code = lines
            .iter()
            .find(|line| line.path == ours && line.flags & 4 != 0);
        let code = mapping(&process, code.unwrap().clone());
        assert!(code.flags.executable() && !code.flags.writable());
        let file = code.file.unwrap();
        assert_eq!(file.path, ours);
        assert_eq!(
            file.identity.size,
            std::fs::metadata("/proc/self/exe").unwrap().len()
        );
        let stack = lines.iter().find(|line| line.path == b"[stack]").unwrap();
        let flags = mapping(&process, stack.clone()).flags;
        assert!(flags.0 & VmFlags::GROWS_DOWN != 0);
    }
}
