//! Offsets measured on the kernel that this runs on, each compared with the one in
//! its type information. Where bpf(2) is not permitted, or the kernel has no type
//! information, the tests say so and pass, unless `CI=true`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use segfault_analyzer::error::{Kind, Result};
use segfault_analyzer::loader::btf::{Btf, Types};
use segfault_analyzer::measure::layout::{Field, Layout};
use segfault_analyzer::measure::peek::Peek;
use segfault_analyzer::measure::pieces::{Memory, Piece};
use segfault_analyzer::measure::search::search;
use segfault_analyzer::measure::{measure, subjects};
use segfault_analyzer::trial;

const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Handlers of signals belong to all of a process: one measures at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_segfault_analyzer");

fn measured() -> Option<Layout> {
    permitted(measure(Path::new(PROGRAM)))
}

fn permitted<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(measured) => Some(measured),
        Err(error) if error.kind() == Kind::NotPermitted => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{error}");
            println!("skipped: {error}");
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
fn expected(btf: &Btf, field: &Field) -> Option<u32> {
    match (field.of, field.name) {
        // Counted from the task.
        ("thread_struct", name) => path(btf, &["task_struct", "thread", name]),
        ("mm_struct", "context") => path(btf, &["mm_struct", "context", "vdso"]),
        ("mm_struct", "mm_mt") => path(btf, &["mm_struct", "mm_mt", "ma_root"]),
        ("pid_namespace" | "mnt_namespace", "ns") => path(btf, &[field.of, "ns", "inum"]),
        ("dentry", "d_name") => path(btf, &["dentry", "d_name", "name"]),
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

#[test]
fn every_place_is_the_kernels_own() {
    let _alone = alone();
    let Ok(bytes) = std::fs::read(KERNEL_TYPES) else {
        println!("skipped: no {KERNEL_TYPES}");
        return;
    };
    let btf = Btf::parse(&bytes).expect("BTF");
    let began = Instant::now();
    let Some(layout) = measured() else { return };
    let took = began.elapsed();
    let mut wrong = Vec::new();
    for field in &layout.fields {
        let expected = expected(&btf, field);
        let mark = if expected == Some(field.at) {
            ""
        } else {
            "  <--"
        };
        println!(
            "{}.{}: {} {expected:?}{mark}",
            field.of, field.name, field.at
        );
        if !mark.is_empty() {
            wrong.push((field.of, field.name));
        }
    }
    println!("lost: {:?}, {took:?}", layout.lost);
    println!(
        "registers {} from top, stack {:?}",
        layout.regs_from_top, layout.thread_bytes
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    // What no kernel of these tests hides.
    for (of, name) in [
        ("task_struct", "comm"),
        ("task_struct", "real_parent"),
        ("task_struct", "mm"),
        ("vm_area_struct", "vm_file"),
    ] {
        assert!(layout.place(of, name).is_some(), "{of}.{name}");
    }
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn one_more_child_agrees() {
    let _alone = alone();
    let Some(mut layout) = measured() else { return };
    let lost = layout.lost.clone();
    match trial::try_out(Path::new(PROGRAM), &mut layout) {
        Ok(()) => assert_eq!(layout.lost, lost),
        // The program with a ring needs callbacks.
        Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error}"),
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
    let Some(mut subjects) = permitted(subjects(Path::new(PROGRAM))) else {
        return;
    };
    let mut recording = Recording {
        peek: Some(&mut subjects.peek),
        pieces: HashMap::new(),
        damage: 0,
        damaged: 0,
    };
    let (children, tool) = (&subjects.children, &subjects.tool);
    let truth = search(&mut recording, children, tool).expect("the places");
    recording.peek = None;
    let again = search(&mut recording, children, tool).expect("the places");
    assert_eq!(again.fields, truth.fields);
    let (mut less, mut nothing) = (0, 0);
    for damage in 1..200 {
        recording.damage = damage;
        let Ok(found) = search(&mut recording, children, tool) else {
            nothing += 1;
            continue;
        };
        less += u32::from(found.fields.len() < truth.fields.len());
        for field in &found.fields {
            assert!(truth.fields.contains(field), "{damage}: {field:?}");
        }
    }
    println!(
        "{less} of 199 found less, {nothing} nothing; {} pieces",
        recording.pieces.len()
    );
    assert!(less + nothing > 100 && recording.damaged > 1000);
}
