//! Offsets measured on the kernel that this runs on, each compared with the one in
//! its type information. Where bpf(2) is not permitted, or the kernel has no type
//! information, the tests are skipped.

#[path = "host/mod.rs"]
mod host;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use segfault_analyzer::analyze::recover_mappings;
use segfault_analyzer::base::error::{Kind, Result};
use segfault_analyzer::config::Method;
use segfault_analyzer::crash::event::Lost;
use segfault_analyzer::loader::btf::{Btf, Types};
use segfault_analyzer::measure::layout::{Detail, Field, Layout};
use segfault_analyzer::measure::peek::Peek;
use segfault_analyzer::measure::pieces::{Memory, Piece};
use segfault_analyzer::measure::search::search;
use segfault_analyzer::measure::{measure, subjects};
use segfault_analyzer::start::measured as trial;

const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Handlers of signals belong to all of a process: one measures at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program() -> CString {
    CString::new(env!("CARGO_BIN_EXE_segfault_analyzer")).expect("a path")
}

fn measured(program: &CStr) -> Option<Layout> {
    permitted(measure(program, true))
}

fn permitted<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(measured) => Some(measured),
        Err(error) if error.kind() == Kind::NotPermitted => {
            host::skip(error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Where a field is, through anonymous structs and unions.
fn place(btf: &Btf, id: u32, name: &str) -> Option<(u32, u32)> {
    let (_, found) = btf.resolve(id).ok()?;
    for member in found.members() {
        let text = btf.text(member.name);
        if text == name {
            return Some((member.bit_offset / 8, member.type_id));
        }
        if text.is_empty() {
            if let Some((at, id)) = place(btf, member.type_id, name) {
                return Some((at + member.bit_offset / 8, id));
            }
        }
    }
    None
}

fn by_name(btf: &Btf, name: &str) -> Option<u32> {
    btf.iter()
        .filter(|(_, found)| btf.text(found.name) == name)
        .map(|(id, _)| id)
        .find(|id| btf.resolve(*id).is_ok_and(|(_, t)| !t.members().is_empty()))
}

fn path(btf: &Btf, path: &[&str]) -> Option<u32> {
    let (first, rest) = path.split_first()?;
    let mut id = by_name(btf, first)?;
    let mut at = 0;
    for name in rest {
        let (here, next) = place(btf, id, name)?;
        at += here;
        id = next;
    }
    Some(at)
}

/// What the kernel's own types say of a field that was measured; the names of some are ours.
fn expected(btf: &Btf, of: &str, name: &str) -> Option<u32> {
    match (of, name) {
        // Counted from the task, or from where the one that is wanted stands.
        ("thread_struct", name) => path(btf, &["task_struct", "thread", name]),
        ("task_struct", "thread") => Some(0),
        ("mm_struct", "context") => path(btf, &["mm_struct", "context", "vdso"]),
        ("mm_struct", "mm_mt") => path(btf, &["mm_struct", "mm_mt", "ma_root"]),
        ("pid_namespace" | "mnt_namespace", "ns") => path(btf, &[of, "ns", "inum"]),
        ("dentry", "d_name") => path(btf, &["dentry", "d_name", "name"]),
        ("mm_context_t" | "maple_tree" | "ns_common" | "qstr" | "sifields" | "sigfault", _) => {
            Some(0)
        }
        // Behind the first number, where the tool is in the first namespace.
        ("pid", "own_ns") => path(btf, &["pid", "numbers"]).map(|at| at + 8),
        ("file", "dentry") => path(btf, &["file", "f_path", "dentry"]),
        ("inode", "i_mtime_sec") => path(btf, &["inode", "i_mtime_sec"])
            .or_else(|| path(btf, &["inode", "__i_mtime"]))
            .or_else(|| path(btf, &["inode", "i_mtime"])),
        ("inode", "i_mtime_nsec") => path(btf, &["inode", "i_mtime_nsec"])
            .or_else(|| path(btf, &["inode", "__i_mtime"]).map(|at| at + 8))
            .or_else(|| path(btf, &["inode", "i_mtime"]).map(|at| at + 8)),
        (of, name) => path(btf, &[of, name]),
    }
}

/// Struct, field and place of all that was found.
fn places(layout: &Layout) -> Vec<(String, String, u32)> {
    let bytes = layout.to_btf();
    let btf = Btf::parse(&bytes).expect("BTF");
    let mut places = Vec::new();
    for (_, found) in btf.iter() {
        for member in found.members() {
            let (of, name) = (btf.text(found.name), btf.text(member.name));
            places.push((of, name, member.bit_offset / 8));
        }
    }
    places
}

#[test]
fn every_place_is_the_kernels_own() {
    let _alone = alone();
    let bytes = match std::fs::read(KERNEL_TYPES) {
        Ok(bytes) => bytes,
        Err(error) => return host::skip(format_args!("{KERNEL_TYPES}: {error}")),
    };
    let btf = Btf::parse(&bytes).expect("BTF");
    let began = Instant::now();
    let Some(layout) = measured(&program()) else {
        return;
    };
    let took = began.elapsed();
    let mut wrong = Vec::new();
    for (of, name, at) in places(&layout) {
        // One of the two shapes of a mm_struct is not in this kernel.
        let Some(expected) = expected(&btf, &of, &name) else {
            println!("{of}.{name}: {at}, and not in this kernel");
            assert_eq!(of, "vm_area_struct");
            continue;
        };
        println!("{of}.{name}: {at} {expected}");
        if expected != at {
            wrong.push((of, name));
        }
    }
    println!("lost: {:?}, {took:?}", layout.lost());
    println!(
        "registers {} from top, stack {:?}",
        layout.regs_from_top, layout.thread_bytes
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    // What no kernel of these tests hides.
    for field in [Field::Comm, Field::RealParent, Field::Mm, Field::VmFile] {
        assert!(layout.place(field).is_some(), "{field:?}");
    }
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn one_more_child_agrees_whichever_the_rung() {
    let _alone = alone();
    let program = program();
    let Some(mut layout) = measured(&program) else {
        return;
    };
    for method in [Method::Ring, Method::Chain, Method::Tracepoint] {
        match trial::try_out(&program, &mut layout, Some(method)) {
            Ok(took_back) => assert!(!took_back, "{method:?}: {:?}", layout.lost()),
            // That program needs callbacks; the others run wherever something is measured.
            Err(error) if method == Method::Ring => {
                assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            }
            Err(error) => panic!("{method:?}: {error}"),
        }
    }
}

/// What is not found costs its detail and nothing else.
#[test]
fn less_is_lost_by_name_and_the_rest_is_right() {
    let _alone = alone();
    let program = program();
    let Some(truth) = measured(&program) else {
        return;
    };
    for (fields, lost) in [
        (&[Field::Comm][..], Detail::Comm),
        (&[Field::GroupLeader], Detail::Comm),
        (&[Field::RealParent], Detail::Ppid),
        (&[Field::ThreadPid, Field::Numbers], Detail::NsPid),
        (&[Field::StartBootTime], Detail::StartTime),
        (&[Field::NsProxy, Field::MntNs], Detail::MountNamespace),
        (&[Field::ExeFile], Detail::Exe),
        (&[Field::Context], Detail::Vdso),
        (&[Field::Stack], Detail::None),
        (
            &[Field::AlternateStart, Field::AlternateBytes],
            Detail::None,
        ),
        (
            &[Field::FInode, Field::INumber, Field::ISb],
            Detail::FileIdentity,
        ),
        (&[Field::DHash], Detail::FileIdentity),
        (&[Field::MmMt, Field::Mmap], Detail::Mappings),
        (&[Field::Mm, Field::MmMt, Field::Mmap], Detail::Mappings),
    ] {
        let mut layout = truth.clone();
        for field in fields {
            layout.forget(*field);
        }
        layout.lose(lost);
        // Whatever is left agrees, in the end.
        while trial::try_out(&program, &mut layout, None).expect("a record") {}
        println!("{fields:?}: {:?}", layout.lost());
        let is_lost = layout.lost();
        assert!(
            is_lost.len() <= 6 && is_lost.contains(&"cgroup"),
            "{is_lost:?}"
        );
    }
}

/// Whatever is not found, alone or with all that is searched for after it: there is a
/// record, and what it has is right.
#[test]
fn anything_may_be_missing() {
    let _alone = alone();
    let program = program();
    let Some(truth) = measured(&program) else {
        return;
    };
    let mut layouts = Vec::new();
    let mut less = truth.clone();
    for fields in FOUND_TOGETHER.iter().rev() {
        let mut layout = truth.clone();
        for field in *fields {
            layout.forget(*field);
            less.forget(*field);
        }
        layouts.push((fields, layout));
        layouts.push((fields, less.clone()));
    }
    for (fields, mut layout) in layouts {
        if layout.place(Field::FPath).is_none() || layout.place(Field::Mm).is_none() {
            layout.forget(Field::ExeFile);
            layout.forget(Field::FPath);
            layout.forget(Field::Mmap);
            layout.forget(Field::MmMt);
            layout.lose(Detail::Mappings);
        }
        for method in [Method::Chain, Method::Tracepoint] {
            while trial::try_out(&program, &mut layout, Some(method))
                .unwrap_or_else(|error| panic!("without {fields:?}: {error}"))
            {}
        }
    }
}

/// The fields that one rule finds, in the order of the search; but for what every report
/// stands on.
const FOUND_TOGETHER: &[&[Field]] = &[
    &[Field::Comm],
    &[Field::RealParent],
    &[Field::GroupLeader],
    &[Field::Stack],
    &[Field::AlternateStart, Field::AlternateBytes],
    &[Field::NsProxy, Field::MntNs, Field::MntNsCommon],
    &[Field::Numbers, Field::ThreadPid, Field::PidNsCommon],
    &[Field::StartBootTime],
    &[
        Field::Mm,
        Field::StartBrk,
        Field::Brk,
        Field::StartStack,
        Field::ArgStart,
        Field::ArgEnd,
        Field::EnvStart,
        Field::EnvEnd,
    ],
    &[Field::Context],
    &[Field::VmMm, Field::FPath],
    &[Field::VmFlags, Field::FPath],
    &[Field::VmFile, Field::FPath],
    &[Field::VmPgoff, Field::FPath],
    &[Field::FDentry, Field::FPath, Field::DName],
    &[Field::DParent, Field::FPath],
    &[Field::MntRoot, Field::Mnt, Field::FPath],
    &[Field::MntMountpoint, Field::FPath],
    &[Field::MntParent, Field::FPath],
    &[Field::FInode, Field::INumber],
    &[Field::ISize],
    &[Field::ISeconds],
    &[Field::INanoseconds],
    &[Field::ISb, Field::SDev],
    &[Field::DHash],
    &[Field::ExeFile],
];

/// Without mappings from the kernel, those of a process that still lives.
#[test]
fn mappings_that_were_not_found_come_from_proc() {
    let _alone = alone();
    let program = program();
    let Some(mut layout) = measured(&program) else {
        return;
    };
    layout.forget(Field::MmMt);
    layout.forget(Field::Mmap);
    layout.lose(Detail::Mappings);
    let (mut event, child) = trial::crash(&program, &layout, None).expect("a record");
    let seen = child.seen().expect("it waits");
    assert!(event.mappings.is_empty() && event.registers.is_some());
    event.lost.push(Lost {
        detail: "mappings",
        reason: "not found",
    });
    let captured = event.clone();
    recover_mappings(&mut event);
    let found: Vec<_> = event
        .mappings
        .iter()
        .map(|m| (m.start.0, m.end.0))
        .collect();
    let lines: Vec<_> = seen.lines.iter().map(|l| (l.start, l.end)).collect();
    assert_eq!(found, lines);
    let paths = event.mappings.iter().filter_map(|m| m.file.as_ref());
    let paths: Vec<_> = paths.map(|file| file.path.clone()).collect();
    assert!(paths.contains(&seen.executable), "{paths:?}");
    assert_ne!(event.lost, captured.lost);
    // When the process is gone, there is nothing, and that is what is said.
    drop(child);
    let mut late = captured.clone();
    recover_mappings(&mut late);
    assert_eq!(late, captured);
}

/// A place that was found wrong is noticed in the record of one more child.
#[test]
fn one_more_child_finds_what_is_wrong() {
    let _alone = alone();
    let program = program();
    let Some(truth) = measured(&program) else {
        return;
    };
    for (field, detail) in [
        (Field::Comm, "comm"),
        (Field::RealParent, "ppid"),
        (Field::StartBootTime, "start_time"),
        (Field::ExeFile, "exe"),
        (Field::MntNsCommon, "mount_namespace"),
        (Field::VmFile, "mappings"),
    ] {
        let mut layout = truth.clone();
        let at = truth.place(field).expect("it was found");
        layout.found(field, at + 16);
        let changed = trial::try_out(&program, &mut layout, None).expect("a record");
        assert!(changed && layout.lost().contains(&detail), "{field:?}");
    }
    for field in [Field::Cr2, Field::ErrorCode] {
        let mut layout = truth.clone();
        let at = truth.place(field).expect("it was found");
        layout.found(field, at + 64);
        let refused = trial::try_out(&program, &mut layout, None).expect_err("nothing is right");
        assert_eq!(refused.kind(), Kind::Unsupported, "{refused}");
    }
}

/// Keeps what was read, and answers from that, or worse.
struct Recording<'a> {
    peek: Option<&'a mut Peek>,
    pieces: HashMap<u64, Piece>,
    damage: u64,
    damaged: u32,
}

impl Recording<'_> {
    fn answer(&mut self, address: u64) -> Piece {
        let mut piece = self.pieces.get(&address)?.clone()?;
        let chance = (address ^ self.damage << 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if self.damage != 0 && chance.is_multiple_of(16) {
            self.damaged += 1;
            if self.damage.is_multiple_of(2) {
                return None;
            }
            for (at, byte) in piece.iter_mut().enumerate() {
                *byte = (chance >> (at % 24)) as u8;
            }
        }
        Some(piece)
    }
}

impl Memory for Recording<'_> {
    fn read(&mut self, addresses: &[u64]) -> Vec<Piece> {
        if let Some(peek) = &mut self.peek {
            let read = peek.read(addresses);
            self.pieces.extend(addresses.iter().copied().zip(read));
        }
        addresses.iter().map(|at| self.answer(*at)).collect()
    }
}

#[test]
fn damaged_memory_gives_less_and_nothing_wrong() {
    let _alone = alone();
    let Some(mut subjects) = permitted(subjects(&program(), true)) else {
        return;
    };
    let mut recording = Recording {
        peek: Some(&mut subjects.peek),
        pieces: HashMap::new(),
        damage: 0,
        damaged: 0,
    };
    let (children, tool) = (&subjects.children, &subjects.tool);
    let truth = places(&search(&mut recording, children, tool).expect("the places"));
    recording.peek = None;
    let again = places(&search(&mut recording, children, tool).expect("the places"));
    assert_eq!(again, truth);
    let (mut less, mut nothing) = (0, 0);
    for damage in 1..200 {
        recording.damage = damage;
        let Ok(found) = search(&mut recording, children, tool) else {
            nothing += 1;
            continue;
        };
        let found = places(&found);
        less += u32::from(found.len() < truth.len());
        for place in &found {
            // That of the list is a promise, which nothing reads where there is none.
            assert!(truth.contains(place), "{damage}: {place:?}");
        }
    }
    println!(
        "{less} of 199 found less, {nothing} nothing; {} pieces",
        recording.pieces.len()
    );
    assert!(less + nothing > 100 && recording.damaged > 1000);
}
