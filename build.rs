//! Embeds the capture programs: the objects in `prebuilt/`, compiled from `bpf/` by
//! `make bpf` and committed, so that building the tool needs no clang. And leaves
//! unwind tables out of the static binary.

use std::collections::HashMap;
use std::path::Path;
use std::{env, fs};

const OBJECTS: [&str; 3] = ["capture.bpf.o", "capture_chain.bpf.o", "peek.bpf.o"];
const EM_BPF: u16 = 247;
const SHORTEST_MATCH: usize = 7;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    for name in OBJECTS {
        embed(name, out);
    }
    leave_out_unwind_tables(out);
}

fn embed(name: &str, out: &Path) {
    let path = Path::new("prebuilt").join(name);
    println!("cargo:rerun-if-changed={}", path.display());
    let object = fs::read(&path).unwrap_or_else(|error| {
        panic!("prebuilt/{name}: {error} (it is committed; `make bpf` rebuilds it)")
    });
    let machine = object
        .get(18..20)
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    assert!(
        object.starts_with(b"\x7fELF") && machine == Some(EM_BPF),
        "prebuilt/{name} is not an ELF object for BPF"
    );
    fs::write(out.join(name), packed(&object)).expect("write to OUT_DIR");
}

/// The object in the format that src/loader/packed.rs describes.
fn packed(object: &[u8]) -> Vec<u8> {
    let mut packed = (object.len() as u32).to_le_bytes().to_vec();
    // By the next four bytes, the places where they were met.
    let mut known: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let (mut at, mut literals) = (0, 0);
    while at + SHORTEST_MATCH <= object.len() {
        let places = known.entry(&object[at..at + SHORTEST_MATCH]).or_default();
        let length = |place: &usize| {
            let pairs = object[*place..].iter().zip(&object[at..]);
            pairs.take_while(|(old, new)| old == new).count()
        };
        let near = places
            .iter()
            .rev()
            .take_while(|place| at - **place < 1 << 16);
        let best = near.copied().max_by_key(length);
        places.push(at);
        let Some(place) = best else {
            at += 1;
            continue;
        };
        let count = length(&place);
        put(&mut packed, &object[literals..at], count - SHORTEST_MATCH);
        packed.extend_from_slice(&((at - place) as u16).to_le_bytes());
        put_rest(&mut packed, count - SHORTEST_MATCH);
        let end = at + count;
        for place in at + 1..end.min(object.len() - SHORTEST_MATCH) {
            known
                .entry(&object[place..place + SHORTEST_MATCH])
                .or_default()
                .push(place);
        }
        (at, literals) = (end, end);
    }
    put(&mut packed, &object[literals..], 0);
    packed
}

fn put(packed: &mut Vec<u8>, literals: &[u8], more: usize) {
    packed.push((literals.len().min(15) << 4 | more.min(15)) as u8);
    put_rest(packed, literals.len());
    packed.extend_from_slice(literals);
}

fn put_rest(packed: &mut Vec<u8>, length: usize) {
    if let Some(rest) = length.checked_sub(15) {
        packed.resize(packed.len() + rest / 255, 255);
        packed.push((rest % 255) as u8);
    }
}

/// A program that aborts on panic never unwinds its own stack, so its unwind
/// tables (68 KB) are dead weight; what they would give is the backtrace that
/// RUST_BACKTRACE=1 adds to a panic's message. Only the linker that
/// .cargo/config.toml names for the musl targets is known to take this script.
fn leave_out_unwind_tables(out: &Path) {
    const SCRIPT: &str =
        "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table*) } } INSERT AFTER .text;\n";
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.ends_with(value));
    if !is("CARGO_CFG_TARGET_ENV", "musl")
        || !is("PROFILE", "release")
        || !is("RUSTC_LINKER", "rust-lld")
    {
        return;
    }
    let script = out.join("no-unwind-tables.ld");
    fs::write(&script, SCRIPT).expect("write to OUT_DIR");
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    println!("cargo:rustc-link-arg-bins=--no-eh-frame-hdr");
    // By which a report of the tool's own fault finds the file with its symbols.
    println!("cargo:rustc-link-arg-bins=--build-id=sha1");
}
