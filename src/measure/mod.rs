//! Measures the offsets of fields at start, for kernels without type information.
//!
//! ```text
//! children  two of ours fault on purpose, with values that nothing else has
//! peek      a small BPF program keeps their tasks and reads kernel memory for us
//! search    the offset of each value, if there is exactly one          (pure)
//! layout    the offsets as type information like the kernel's own      (pure)
//! ```
//!
//! The result goes through the same relocations as a kernel's BTF. A field that was not
//! found with certainty is not in it, and is named as missing.

use std::ffi::CStr;

use crate::base::error::{Error, Result};
use crate::sys::mmap::page_bytes;
use crate::sys::process;

pub mod children;
pub mod facts;
pub mod layout;
pub mod peek;
pub mod pieces;
pub mod search;

use children::Running;
use facts::{Child, Tool};
pub use layout::Layout;
use peek::Peek;

/// This program, for children.
pub const OURSELVES: &CStr = c"/proc/self/exe";

/// Kernel stacks have 16 KB, or a page where pages are larger.
const STACK_BYTES: u64 = 16 << 10;

/// The input of the search; the children live as long as this.
#[derive(Debug)]
pub struct Subjects {
    pub peek: Peek,
    pub children: Vec<Child>,
    pub tool: Tool,
    running: Vec<Running>,
}

/// Lets children fault that are `program`, which runs [`children::run_as_child`] first.
pub fn subjects(program: &CStr, allows_raw: bool) -> Result<Subjects> {
    let page_bytes = page_bytes() as u64;
    let mut subjects = Subjects {
        peek: Peek::start(STACK_BYTES.max(page_bytes), allows_raw, children::magic())?,
        children: Vec::new(),
        tool: Tool {
            task: 0,
            pid_namespace: process::pid_namespace(),
            ancestors: children::ancestors(),
            page_bytes,
        },
        running: Vec::new(),
    };
    for number in 0..facts::CHILDREN {
        let child = children::start(program, number, &subjects.peek.magic());
        let child = child.ok_or_else(|| {
            let error = Error::unsupported("cannot start a child that faults on purpose");
            match std::fs::exists("/proc/self/exe") {
                Ok(true) => error,
                _ => error.with_hint("mount /proc: the children are started from /proc/self/exe"),
            }
        })?;
        subjects.children.extend(child.child(&mut subjects.peek));
        subjects.running.push(child);
    }
    subjects.tool.task = subjects.peek.own_task().unwrap_or(0);
    Ok(subjects)
}

/// Measures with children that run `program`; without `allows_raw` at the ordinary tracepoint,
/// as kernels before 4.17 require.
pub fn measure(program: &CStr, allows_raw: bool) -> Result<Layout> {
    let mut subjects = subjects(program, allows_raw)?;
    let found = search::search(&mut subjects.peek, &subjects.children, &subjects.tool);
    found.map_err(|error| Error::unsupported(error.as_str()))
}
