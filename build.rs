//! Embeds the capture program: `prebuilt/capture.bpf.o`, compiled from `bpf/` by
//! `make bpf` and committed, so that building the tool needs no clang.

use std::path::Path;
use std::{env, fs};

const OBJECT: &str = "prebuilt/capture.bpf.o";
const EM_BPF: u16 = 247;

fn main() {
    println!("cargo:rerun-if-changed={OBJECT}");
    println!("cargo:rerun-if-changed=build.rs");
    let object = fs::read(OBJECT).unwrap_or_else(|error| {
        panic!("{OBJECT}: {error} (it is committed; `make bpf` rebuilds it)")
    });
    let machine = object
        .get(18..20)
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    assert!(
        object.starts_with(b"\x7fELF") && machine == Some(EM_BPF),
        "{OBJECT} is not an ELF object for BPF"
    );
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("capture.bpf.o"), object).expect("write to OUT_DIR");
}
