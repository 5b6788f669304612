use super::*;
use crate::capture::perf::change::name;

const EXE: &[u8] = b"/bin/x";

fn mapping(start: u64, end: u64, path: &[u8]) -> NewMapping {
    NewMapping {
        start,
        end,
        flags: 5,
        file_offset: 0x1000,
        device: 1,
        inode: if path[1] == b'/' || path[0] != b'/' {
            0
        } else {
            42
        },
        path: path.to_vec(),
    }
}

fn forked(pid: u32, parent: u32) -> Change {
    Change::Forked {
        pid,
        tid: pid,
        parent,
        parent_tid: parent,
    }
}

fn named(pid: u32, tid: u32, text: &str, is_exec: bool) -> Change {
    Change::Named {
        pid,
        tid,
        name: name(text.as_bytes()),
        is_exec,
    }
}

fn mapped(pid: u32, start: u64, end: u64, path: &[u8]) -> Change {
    Change::Mapped {
        pid,
        mapping: mapping(start, end, path),
    }
}

/// Changes at times 1, 2, 3, …, by both clocks.
fn after(changes: Vec<Change>) -> Processes {
    let mut processes = Processes::new(1 << 20);
    for (time, change) in (1..).zip(changes) {
        processes.apply(time, time as i64, change);
    }
    processes
}

fn text(name: &Name) -> &str {
    std::str::from_utf8(crate::base::bytes::until_nul(name)).unwrap()
}

fn starts(process: &Process) -> Vec<(u64, u64, u64)> {
    let place = |known: &KnownMapping| (known.start, known.end, known.file_offset);
    process.mappings.iter().map(place).collect()
}

#[test]
fn who_is_gone_for_two_looks_is_forgotten() {
    let mut processes = Processes::new(1 << 20);
    for pid in [7, 8, 9] {
        processes.found(pid, Process::default());
    }
    processes.forget_others(&[7, 8]);
    assert!(processes.get(9).is_some(), "its last signal may be waiting");
    processes.forget_others(&[7]);
    assert!(processes.get(9).is_none());
    processes.forget_others(&[7, 8]);
    assert!(processes.get(7).is_some() && processes.get(8).is_some());
}

#[test]
fn a_program_is_known_from_its_fork_on() {
    let processes = after(vec![
        forked(7, 1),
        named(7, 7, "prog", true),
        mapped(7, 0x1000, 0x2000, EXE),
        mapped(7, 0x8000, 0x9000, b"/lib/l.so"),
        mapped(7, 0xf000, 0xf800, b"[vdso]"),
    ]);
    let process = processes.get(7).unwrap();
    assert_eq!(text(&process.name), "prog");
    assert_eq!((process.parent, process.started_ns), (1, 1));
    assert_eq!(process.exe.as_ref().unwrap().path, EXE);
    assert_eq!(process.vdso, 0xf000);
    assert_eq!(process.mappings.len(), 3);
    assert_eq!(process.mappings[1].mapped_unix_ns, 4);
    assert_eq!(processes.gap(process), None);
    assert_eq!(processes.parent(process), None, "nobody saw process 1");
}

#[test]
fn a_child_shares_what_it_has_not_changed() {
    let mut processes = after(vec![
        forked(7, 1),
        named(7, 7, "prog", true),
        mapped(7, 0x1000, 0x2000, EXE),
        forked(8, 7),
    ]);
    let lists = |processes: &Processes| {
        let list = |pid| Rc::clone(&processes.get(pid).unwrap().mappings);
        (list(7), list(8))
    };
    let (parent, child) = lists(&processes);
    assert!(Rc::ptr_eq(&parent, &child));
    drop((parent, child));
    processes.apply(9, 9, mapped(8, 0x4000, 0x5000, b"//anon"));
    let (parent, child) = lists(&processes);
    assert_eq!((parent.len(), child.len()), (1, 2));
    assert!(child[1].file.is_none());
    let process = processes.get(8).unwrap();
    assert_eq!(processes.parent(process), Some(7));
    assert_eq!(text(&process.name), "prog");
    assert_eq!(process.exe.as_ref().unwrap().path, EXE);
    processes.apply(10, 10, Change::Exited { pid: 7, tid: 7 });
    let process = processes.get(8).unwrap();
    assert_eq!(processes.parent(process), None, "an orphan's is another");
}

#[test]
fn another_program_has_nothing_of_the_one_before() {
    let processes = after(vec![
        forked(7, 1),
        named(7, 7, "one", true),
        mapped(7, 0x1000, 0x2000, EXE),
        named(7, 9, "thread", false),
        Change::Moved { pid: 7, mnt_ns: 5 },
        named(7, 7, "two", true),
    ]);
    let process = processes.get(7).unwrap();
    assert!(process.mappings.is_empty() && process.exe.is_none());
    assert_eq!(text(&process.thread_name(9)), "two");
    assert_eq!((process.mnt_ns, process.started_ns), (5, 1));
    assert_eq!(process.image_ns, 6);
}

#[test]
fn threads_have_the_name_of_the_one_that_made_them() {
    let thread = |tid, parent_tid| Change::Forked {
        pid: 7,
        tid,
        parent: 7,
        parent_tid,
    };
    let processes = after(vec![
        forked(7, 1),
        named(7, 7, "prog", true),
        thread(8, 7),
        named(7, 8, "worker", false),
        thread(9, 8),
        thread(10, 7),
        Change::Exited { pid: 7, tid: 8 },
        forked(20, 7),
        Change::Forked {
            pid: 21,
            tid: 21,
            parent: 7,
            parent_tid: 9,
        },
    ]);
    let process = processes.get(7).unwrap();
    let names = [7, 8, 9, 10].map(|tid| process.thread_name(tid));
    assert_eq!(
        names.each_ref().map(text),
        ["prog", "prog", "worker", "prog"]
    );
    assert_eq!(text(&processes.get(20).unwrap().name), "prog");
    assert_eq!(text(&processes.get(21).unwrap().name), "worker");
}

#[test]
fn a_mapping_takes_the_place_of_what_was_there() {
    let whole = mapped(7, 0x1000, 0x9000, EXE);
    let over = |start, end| {
        let processes = after(vec![
            whole.clone(),
            mapped(7, 0xa000, 0xb000, EXE),
            mapped(7, start, end, b"//anon"),
        ]);
        starts(processes.get(7).unwrap())
    };
    let last = (0xa000, 0xb000, 0x1000);
    assert_eq!(
        over(0x3000, 0x4000),
        [
            (0x1000, 0x3000, 0x1000),
            (0x3000, 0x4000, 0x1000),
            (0x4000, 0x9000, 0x4000),
            last
        ]
    );
    assert_eq!(over(0x1000, 0x9000), [(0x1000, 0x9000, 0x1000), last]);
    assert_eq!(
        over(0x0, 0x2000),
        [(0, 0x2000, 0x1000), (0x2000, 0x9000, 0x2000), last]
    );
    assert_eq!(over(0x9000, 0xa000)[1], (0x9000, 0xa000, 0x1000));
    assert_eq!(
        over(0x8000, 0xa800),
        [
            (0x1000, 0x8000, 0x1000),
            (0x8000, 0xa800, 0x1000),
            (0xa800, 0xb000, 0x1800)
        ]
    );
    assert_eq!(over(0, u64::MAX), [(0, u64::MAX, 0x1000)]);
}

#[test]
fn what_was_lost_is_missed_until_it_was_looked_at_again() {
    let mut processes = after(vec![
        forked(7, 1),
        named(7, 7, "prog", true),
        mapped(7, 0x1000, 0x2000, EXE),
        Change::Lost(1),
        forked(8, 7),
        mapped(9, 0x1000, 0x2000, EXE),
    ]);
    let gap = |processes: &Processes, pid| processes.gap(processes.get(pid).unwrap());
    assert_eq!(gap(&processes, 7), Some(Gap::Lost));
    assert_eq!(
        gap(&processes, 8),
        Some(Gap::Lost),
        "its parent's may lack some"
    );
    assert_eq!(gap(&processes, 9), Some(Gap::Unseen));
    let found = Process {
        whole_from_ns: 20,
        seen_ns: 20,
        ..Process::default()
    };
    for pid in [7, 9] {
        processes.found(pid, found.clone());
        assert_eq!(gap(&processes, pid), None);
    }
    processes.apply(21, 21, named(8, 8, "new", true));
    assert_eq!(gap(&processes, 8), None);
    processes.found(8, Process::default());
    assert_eq!(text(&processes.get(8).unwrap().name), "new", "knows more");
}

/// What /proc showed holds what happened before.
#[test]
fn changes_from_before_a_look_are_passed_over() {
    let mut processes = Processes::new(1 << 20);
    let found = Process {
        started_ns: 3,
        whole_from_ns: 10,
        seen_ns: 10,
        name: name(b"now"),
        ..Process::default()
    };
    processes.found(7, found);
    for change in [
        forked(7, 1),
        named(7, 7, "then", true),
        mapped(7, 0x1000, 0x2000, EXE),
        Change::Exited { pid: 7, tid: 7 },
    ] {
        processes.apply(10, 10, change);
    }
    let process = processes.get(7).unwrap();
    assert_eq!(text(&process.name), "now");
    assert!(process.mappings.is_empty() && !process.has_ended);
    processes.apply(11, 11, mapped(7, 0x1000, 0x2000, EXE));
    assert_eq!(processes.get(7).unwrap().mappings.len(), 1);
}

#[test]
fn few_that_ended_are_kept() {
    let mut processes = Processes::new(1 << 20);
    let pids = 1..=MAX_ENDED as u32 + 10;
    for pid in pids.clone() {
        processes.apply(1, 1, forked(pid, 0));
        processes.apply(2, 2, Change::Exited { pid, tid: pid });
    }
    assert_eq!(processes.len(), MAX_ENDED);
    assert!(processes.get(10).is_none() && processes.get(11).is_some());
    // The number of one that ended is used again.
    processes.apply(3, 3, forked(11, 0));
    for pid in pids {
        processes.apply(
            4,
            4,
            Change::Exited {
                pid: pid + 1000,
                tid: 0,
            },
        );
        processes.apply(5, 5, forked(pid + 1000, 0));
        processes.apply(
            6,
            6,
            Change::Exited {
                pid: pid + 1000,
                tid: pid + 1000,
            },
        );
    }
    assert!(processes.get(11).is_some());
}

#[test]
fn files_are_distinguished_from_what_is_none() {
    let file_of = |path: &[u8]| {
        file(&NewMapping {
            inode: 9,
            ..mapping(1, 2, path)
        })
    };
    assert_eq!(file_of(b"[vdso]"), None);
    assert_eq!(file_of(b"anon_inode:x"), None);
    assert!(file(&NewMapping {
        inode: 0,
        ..mapping(1, 2, EXE)
    })
    .is_none());
    let deleted = file_of(b"/bin/x (deleted)").unwrap();
    assert_eq!(
        (&deleted.path[..], deleted.deleted, deleted.detached),
        (EXE, true, false)
    );
    assert!(file_of(b"/memfd:jit (deleted)").unwrap().detached);
    assert!(file_of(b"//toolong").unwrap().path.is_empty());
}

#[test]
fn no_process_makes_more_than_its_share_be_held() {
    let mut processes = Processes::new(1 << 20);
    processes.apply(1, 1, forked(7, 1));
    processes.apply(2, 2, named(7, 7, "many", true));
    for number in 0..3000u64 {
        processes.apply(3, 3, mapped(7, number << 12, (number << 12) + 1, b"//anon"));
    }
    let process = processes.get(7).unwrap();
    assert_eq!(process.mappings.len(), MAX_MAPPINGS);
    assert_eq!(processes.gap(process), Some(Gap::TooMany));
}

#[test]
fn what_is_held_stays_below_the_limit_and_what_was_given_up_is_said() {
    let limit = 256 << 10;
    let mut processes = Processes::new(limit);
    for pid in 1..2000 {
        processes.apply(1, 1, forked(pid, 0));
        processes.apply(2, 2, named(pid, pid, "p", true));
        for number in 0..20u64 {
            let path = format!("/lib/{pid}/{number}");
            let start = number << 12;
            processes.apply(3, 3, mapped(pid, start, start + 1, path.as_bytes()));
        }
        assert!(
            processes.bytes() <= limit + (32 << 10),
            "{}",
            processes.bytes()
        );
    }
    assert!(processes.evicted() > 0);
    let gaps = (1..2000).filter_map(|pid| processes.gap(processes.get(pid)?));
    assert!(gaps.clone().count() > 0 && gaps.clone().all(|gap| gap == Gap::Evicted));
}
