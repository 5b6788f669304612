//! From a captured mapping to the ELF file that was mapped, after the process is
//! gone.
//!
//! In: mappings of a crashed process, with inode, size and time of each file. Out:
//! an open [`Module`] and where it was placed, or the reason why there is none
//! ([`Missing`]). Places to look, in this order:
//!
//! ```text
//! the process itself, if it lives:  /proc/PID/map_files, then /proc/PID/root
//! the captured path here, then that of the file below an overlay
//! what is left of the path below a root that chroot(2) has set
//! the path in the root of another process of the same mount namespace
//! what its parent runs and has mapped, whatever has become of the file's name
//! a file that is open already, or one at the same path here, with the same build-id
//! ```
//!
//! A file is accepted only if its inode, size and modification time are those that the
//! crashed process had mapped: a file that was replaced, changed or deleted since is
//! refused, because a wrong name is worse than none. If size and time were not captured,
//! the file must not have changed since it was mapped. If the process's memory has a
//! build-id, the file must have the same one. An open module stays open and valid after
//! its file has lost its name; one whose file was written to is dropped.

mod blocks;
mod compiled;
mod head;
mod module;
mod process;
pub mod recover;
mod search;

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::address::ProcessAddress;
use crate::base::allowance::{Allowance, Step};
use crate::base::budget::MemoryBudget;
use crate::crash::event::{Event, FileIdentity, MappedFile, Mapping};
use crate::keyed::{Key, Map};
use crate::symbols::elf::{DebugDirs, ElfFile, Source};
use crate::sys;
use crate::unwind::Placed;
use blocks::Blocks;
pub use head::Head;
pub use module::Module;
use module::Shared;
use process::{own_mount_namespace, Peers};
use search::is_unchanged;

/// Units of work for a file that is open already: its times are looked at, and what the
/// process's memory shows of it.
const OPEN: u64 = 16 << 10;
/// How long a file that was not found is not looked for again.
const MISSING_LIFETIME: Duration = Duration::from_secs(1);
const MAX_MISSING: usize = 512;

/// The limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Files kept open.
    pub open_modules: usize,
    /// Blocks of files kept.
    pub block_bytes: usize,
    /// The directories with debug files.
    pub debug_dirs: DebugDirs,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            open_modules: 64,
            block_bytes: 1 << 20,
            debug_dirs: DebugDirs::default(),
        }
    }
}

/// Who crashed, as far as that helps to find files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessHint {
    /// As our own pid namespace sees it.
    pub pid: Option<u32>,
    pub host_pid: u32,
    /// With the pid, the process's identity.
    pub start_ns: u64,
    /// 0 if it was not captured.
    pub mnt_ns: u32,
    /// As the process sees itself.
    pub ns_pid: u32,
    pub uid: Option<u32>,
    /// Its parent, as our own pid namespace sees it.
    pub parent: Option<u32>,
}

impl From<&Event> for ProcessHint {
    fn from(event: &Event) -> Self {
        ProcessHint {
            pid: event.pid,
            host_pid: event.host_pid,
            start_ns: event.start_ns,
            mnt_ns: event.mnt_ns,
            ns_pid: event.ns_pid,
            uid: event.uid,
            parent: event.ppid,
        }
    }
}

/// Why there is no file for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A few words.
    pub reason: &'static str,
}

/// A module at its place in the process: `process = file + bias`, wrapping.
#[derive(Clone, Debug)]
pub struct Opened {
    pub module: Rc<Module>,
    pub bias: u64,
}

impl Opened {
    /// What a stack walk takes.
    #[must_use]
    pub fn placed(&self) -> Placed {
        Placed {
            data: self.module.clone(),
            bias: self.bias,
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ModuleStats {
    /// Files opened and parsed.
    pub opened: u64,
    /// Mappings whose file was open already.
    pub hits: u64,
    /// Mappings whose file was not available, repeated ones too.
    pub missing: u64,
    /// Modules closed for room.
    pub evictions: u64,
    /// Modules dropped because their files were written to.
    pub changed: u64,
    pub open_now: usize,
    pub block_hits: u64,
    pub block_misses: u64,
}

#[derive(Debug)]
struct Kept {
    module: Rc<Module>,
    identity: FileIdentity,
    path: Vec<u8>,
    used: Instant,
    bytes: usize,
}

/// All modules that are open.
#[derive(Debug)]
pub struct Modules {
    limits: Limits,
    budget: Rc<MemoryBudget>,
    shared: Rc<Shared>,
    hasher: Key,
    kept: Map<u64, Kept>,
    /// The time until which a file is not searched again.
    missing: Map<u64, (Instant, Missing)>,
    peers: Peers,
    own_mnt_ns: Option<u32>,
    vdso: Option<Option<Rc<Module>>>,
    stats: ModuleStats,
}

impl Modules {
    #[must_use]
    pub fn new(limits: Limits, budget: Rc<MemoryBudget>, allowance: Rc<Allowance>) -> Self {
        let shared = Rc::new(Shared {
            blocks: RefCell::new(Blocks::new(limits.block_bytes, budget.clone())),
            debug_dirs: limits.debug_dirs.clone(),
            allowance,
            budget: budget.clone(),
        });
        Modules {
            limits,
            budget,
            shared,
            hasher: Key::default(),
            kept: Map::default(),
            missing: Map::default(),
            peers: Peers::default(),
            own_mnt_ns: own_mount_namespace(),
            vdso: None,
            stats: ModuleStats::default(),
        }
    }

    /// The file of a mapping, and where the mapping puts it.
    pub fn open(&mut self, mapping: &Mapping, process: ProcessHint) -> Result<Opened, Missing> {
        if !self.shared.allowance.take(OPEN) {
            return Err(self.out_of_time());
        }
        let opened = self.module(mapping, process).and_then(|module| {
            if Head::of(mapping).is_some_and(|head| head.contradicts(module.build_id())) {
                return Err(Missing {
                    reason: "file is not what was mapped: its build-id is another",
                });
            }
            let bias = module.bias(mapping).ok_or(Missing {
                reason: "the mapped part is not a segment of the file",
            })?;
            Ok(Opened { module, bias })
        });
        if opened.is_err() {
            self.stats.missing += 1;
        }
        opened
    }

    /// The kernel's code in every process, at the address where this one had it.
    pub fn vdso(&mut self, start: ProcessAddress) -> Option<Opened> {
        if self.vdso.is_none() {
            self.vdso = Some(self.load_vdso());
        }
        let module = self.vdso.clone().flatten()?;
        let first = module.elf().loads().first()?;
        let base = first.address.0.wrapping_sub(first.offset.0);
        let bias = start.0.wrapping_sub(base);
        Some(Opened { module, bias })
    }

    /// Closes files unused for that long: an open file keeps its file system from
    /// being unmounted. When it wants to be called again, `None` if all are closed.
    pub fn close_unused(&mut self, age: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let budget = &self.budget;
        self.kept.retain(|_, kept| {
            let left = age.saturating_sub(kept.used.elapsed());
            if left == Duration::ZERO {
                budget.give_back(kept.bytes);
                return false;
            }
            next = Some(next.map_or(left, |next| next.min(left)));
            true
        });
        if self.kept.is_empty() {
            self.clear();
        }
        next
    }

    /// Closes all files and forgets what was read from them.
    pub fn clear(&mut self) {
        for (_, kept) in self.kept.drain() {
            self.budget.give_back(kept.bytes);
        }
        self.missing.clear();
        self.shared.allowance.forget();
        self.shared.blocks.borrow_mut().clear();
    }

    #[must_use]
    pub fn stats(&self) -> ModuleStats {
        let blocks = self.shared.blocks.borrow();
        ModuleStats {
            open_now: self.kept.len(),
            block_hits: blocks.hits,
            block_misses: blocks.misses,
            ..self.stats
        }
    }

    fn load_vdso(&self) -> Option<Rc<Module>> {
        let image = sys::vdso::image()?;
        let id = self.hasher.hash_one(&image);
        let elf = ElfFile::parse(Source::memory(image)).ok()?;
        let homes = Vec::new();
        Some(Rc::new(Module::new(id, elf, homes, self.shared.clone())))
    }

    fn module(&mut self, mapping: &Mapping, process: ProcessHint) -> Result<Rc<Module>, Missing> {
        let file = mapping.file.as_ref().ok_or(Missing {
            reason: "the address is not in a mapped file",
        })?;
        let key = self.hasher.hash_one((file.identity.whenever(), &file.path));
        if let Some(module) = self.kept(key, file) {
            return Ok(module);
        }
        let when = file.identity.mapped_unix_ns;
        let missing_key = self.hasher.hash_one((key, when, process.mnt_ns));
        if let Some((since, missing)) = self.missing.get(&missing_key) {
            if since.elapsed() < MISSING_LIFETIME {
                return Err(*missing);
            }
        }
        let allowance = self.shared.allowance.clone();
        let Some(_turn) = allowance.turn(key, Step::Files) else {
            return Err(self.out_of_time());
        };
        match self.search(mapping, file, process) {
            // What looks like the reason is that not all was read.
            Err(_) if allowance.is_out() => Err(self.out_of_time()),
            Ok(module) => {
                self.missing.remove(&missing_key);
                self.keep(key, file, module.clone());
                Ok(module)
            }
            Err(missing) => {
                if self.missing.len() >= MAX_MISSING {
                    self.missing.clear();
                }
                self.missing.insert(missing_key, (Instant::now(), missing));
                Err(missing)
            }
        }
    }

    fn out_of_time(&self) -> Missing {
        self.shared.allowance.cut(Step::Files);
        let (_, reason) = Step::Files.lost();
        Missing { reason }
    }

    fn kept(&mut self, key: u64, file: &MappedFile) -> Option<Rc<Module>> {
        let kept = self.kept.get_mut(&key)?;
        let same = kept.identity == file.identity.whenever() && kept.path == file.path;
        let when = file.identity.mapped_unix_ns;
        if same && kept.module.is_current() {
            let changed_unix_ns = kept.module.changed_unix_ns();
            let now_unix_ns = sys::time::realtime_ns();
            if when.is_some_and(|when| !is_unchanged(changed_unix_ns, when, now_unix_ns)) {
                return None;
            }
            kept.used = Instant::now();
            self.stats.hits += 1;
            return Some(kept.module.clone());
        }
        self.stats.changed += 1;
        self.forget(key);
        None
    }

    fn keep(&mut self, key: u64, file: &MappedFile, module: Rc<Module>) {
        self.stats.opened += 1;
        let bytes = module.memory() + file.path.len() + size_of::<Kept>();
        let full = |modules: &Self| {
            modules.kept.len() >= modules.limits.open_modules || !modules.budget.fits(bytes)
        };
        while full(self) && self.evict() {}
        if full(self) {
            return;
        }
        self.budget.take(bytes);
        let kept = Kept {
            module,
            identity: file.identity.whenever(),
            path: file.path.clone(),
            used: Instant::now(),
            bytes,
        };
        self.kept.insert(key, kept);
    }

    /// Closes the module unused for longest; false if there is none.
    fn evict(&mut self) -> bool {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
        let Some((&key, _)) = oldest else {
            return false;
        };
        self.stats.evictions += 1;
        self.forget(key);
        true
    }

    fn forget(&mut self, key: u64) {
        if let Some(kept) = self.kept.remove(&key) {
            self.budget.give_back(kept.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
