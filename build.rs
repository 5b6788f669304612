//! Embeds the BPF programs: `prebuilt/*.bpf.o`, compiled from `bpf/` by `make bpf`
//! and committed, so that building the tool needs no clang. And leaves unwind
//! tables out of the static binary.

use std::path::Path;
use std::{env, fs};

const OBJECTS: [&str; 2] = ["capture.bpf.o", "peek.bpf.o"];
const EM_BPF: u16 = 247;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    for name in OBJECTS {
        let path = format!("prebuilt/{name}");
        println!("cargo:rerun-if-changed={path}");
        let object = fs::read(&path).unwrap_or_else(|error| {
            panic!("{path}: {error} (it is committed; `make bpf` rebuilds it)")
        });
        let machine = object
            .get(18..20)
            .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        assert!(
            object.starts_with(b"\x7fELF") && machine == Some(EM_BPF),
            "{path} is not an ELF object for BPF"
        );
        fs::write(out.join(name), object).expect("write to OUT_DIR");
    }
    leave_out_unwind_tables(out);
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
}
