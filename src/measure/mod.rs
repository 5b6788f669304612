//! Kernels without type information: where things are is measured at start.
//!
//! ```text
//! children  two of ours fault on purpose, with values that nothing else has
//! peek      a small program keeps their tasks and reads kernel memory for us
//! search    the places at which the values stand, if there is but one  (pure)
//! layout    the places as type information like a kernel's own         (pure)
//! ```
//!
//! What comes out goes through the same relocations as a kernel's BTF. What could
//! not be found with certainty is not in it, by name.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::loader::{self, KernelTypes};
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
pub const OURSELVES: &str = "/proc/self/exe";

/// Kernel stacks have 16 KB, or a page where pages are larger.
const STACK_BYTES: u64 = 16 << 10;

/// What measuring gave.
#[derive(Debug)]
pub struct Measured {
    pub layout: Layout,
    /// How often kernel memory was asked for, and how long all of it took.
    pub requests: u32,
    pub took: Duration,
}

/// Finds the kernel's types, or those in the file named, as the loader does; measures where
/// there are none, or where that is what is wanted. What was measured comes with them.
pub fn kernel_types(
    explicit: Option<&Path>,
    wanted: bool,
) -> Result<(KernelTypes, Option<Measured>)> {
    let missing = if wanted {
        None
    } else {
        match loader::kernel_types(explicit) {
            Ok(types) => return Ok((types, None)),
            Err(error) if explicit.is_some() || error.kind() != Kind::Unsupported => {
                return Err(error);
            }
            Err(error) => Some(error),
        }
    };
    let measured = measure(Path::new(OURSELVES)).map_err(|error| match missing {
        Some(missing) => {
            let text = format!("{missing}; nor could offsets be measured: {error}");
            let hint = missing.hint().unwrap_or_default().to_owned();
            Error::new(error.kind(), text).with_hint(hint)
        }
        None => error,
    })?;
    let how = measured.to_string();
    let types = KernelTypes::made(measured.layout.to_btf(), how);
    Ok((types, Some(measured)))
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took_ms = self.took.as_millis();
        write!(f, "measured at start, in {took_ms} ms")?;
        if !self.layout.lost.is_empty() {
            write!(f, "; not found: {}", self.layout.lost.join(", "))?;
        }
        Ok(())
    }
}

/// What the search works on; the children live as long as this.
#[derive(Debug)]
pub struct Subjects {
    pub peek: Peek,
    pub children: Vec<Child>,
    pub tool: Tool,
    _running: Vec<Running>,
}

/// Lets children fault that are `program`, which runs [`children::run_as_child`] first.
pub fn subjects(program: &Path) -> Result<Subjects> {
    let page_bytes = page_bytes() as u64;
    let stack_bytes = STACK_BYTES.max(page_bytes);
    let mut peek = Peek::start(stack_bytes)?;
    let magic = peek.magic().to_owned();
    let mut running = Vec::new();
    for number in 0..facts::CHILDREN {
        running.push(children::start(program, number, &magic)?);
    }
    let mut children = Vec::new();
    for child in &mut running {
        children.push(child.fault(&mut peek)?);
    }
    let (task, host_ids) = peek.own()?;
    let tool = Tool {
        task,
        host_ids,
        pid_namespace: process::pid_namespace(),
        ancestors: children::ancestors(),
        executable: children::base_name(program),
        page_bytes,
        stack_bytes,
        aarch64: cfg!(target_arch = "aarch64"),
    };
    Ok(Subjects {
        peek,
        children,
        tool,
        _running: running,
    })
}

/// Measures with children that are `program`.
pub fn measure(program: &Path) -> Result<Measured> {
    let began = Instant::now();
    let mut subjects = subjects(program)?;
    let found = search::search(&mut subjects.peek, &subjects.children, &subjects.tool);
    let layout = found.map_err(|error| {
        Error::unsupported(error.to_string()).context("measure the kernel's structures")
    })?;
    Ok(Measured {
        layout,
        requests: subjects.peek.requests,
        took: began.elapsed(),
    })
}
