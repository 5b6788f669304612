//! The BPF object's way into the kernel, by bpf(2) alone.
//!
//! ```text
//! ELF bytes --object, btf, lines, maps--> Object          same on every machine
//! Object + program --link--> instructions, references
//! Object + kernel types --target, relo--> fix-ups --insn--> instructions
//! maps, types, programs --kernel--> descriptors           the only part that acts
//! descriptors --attach--> it runs
//! ```
//!
//! `object`, `btf`, `lines`, `maps`, `link`, `target`, `relo`, `insn`, `unroll`,
//! `packed`, `compare` and `btf_load` are pure: bytes in, values out, no system call.
//! `source` opens the kernel's types, `kernel` and `attach` change the kernel, `probe`
//! finds out what the kernel can do, `explain` says why it refused.
//!
//! Behaviour and terms follow libbpf, so that knowledge of libbpf applies here.

pub mod attach;
pub mod btf;
pub mod btf_load;
pub mod compare;
pub mod explain;
pub mod insn;
pub mod kernel;
pub mod lines;
pub mod link;
pub mod maps;
pub mod object;
pub mod packed;
mod parallel;
pub mod parse;
pub mod probe;
pub mod prune;
pub mod relo;
pub mod source;
pub mod target;
pub mod unroll;

pub use kernel::{load, Loaded, Settings};
pub use object::Object;
pub use source::{kernel_types, KernelTypes};
pub use target::TypeSource;
