//! The children that fault on purpose: made, asked and ended.
//!
//! A child is this very program, executed anew so that its addresses are its own,
//! under a name that tells it what it is. It makes itself the files and values of
//! [`Known`], says what chance decided, waits for a word on standard input, and
//! faults. Its handler says so and waits: no core, no line in the kernel's log.
//! It ends when its parent does.

use std::ffi::{CString, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::measure::facts::{self, Child, Known, Told, COVERED, FILES, GONE, OUTER, TOLD_BYTES};
use crate::measure::peek::Peek;
use crate::sys::mmap::page_bytes;
use crate::sys::own_fault::{self, Registers, Spawned};

/// The name under which a child is executed.
const MARK: &str = "segfault_analyzer: measuring";
/// The next child's stack pointer is so much further up.
const STACK_STEP: u64 = 128;
const STACK_BYTES: usize = 64 << 10;

pub use crate::measure::facts::Seen;

/// What the names of children begin with, eight bytes that nobody else's have.
#[must_use]
pub fn magic() -> String {
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// A child that runs; it ends with this.
#[derive(Debug)]
pub struct Running {
    process: Spawned,
    known: Known,
    name: String,
    told: Told,
}

/// Starts a child and waits until it is ready.
pub fn start(program: &Path, number: u32, magic: &str) -> Result<Running> {
    let terminated =
        |text: Vec<u8>| CString::new(text).map_err(|_| Error::failed("an argument with a NUL"));
    let path = terminated(program.as_os_str().as_bytes().to_vec())?;
    let mark = terminated(MARK.into())?;
    let argument = terminated(number.to_string().into())?;
    let magic_argument = terminated(magic.into())?;
    let mut process = own_fault::spawn(&path, &[&mark, &argument, &magic_argument])
        .context(|| format!("execute {}", program.display()))?;
    let known = Known(number);
    let mut told = [0; TOLD_BYTES];
    process
        .stdout
        .read_exact(&mut told)
        .context(|| "a child that measures")?;
    Ok(Running {
        process,
        known,
        name: known.name(magic),
        told: Told::from_bytes(&told),
    })
}

impl Running {
    /// Lets it fault, and gathers what is to be known of it.
    pub fn fault(&mut self, peek: &mut Peek) -> Result<Child> {
        let before = peek.fault()?.count;
        self.go()?;
        let fault = peek.fault()?;
        if fault.count != before + 1 {
            return Err(Error::failed("a child's fault was not seen"));
        }
        Ok(Child {
            host_ids: fault.ids,
            task: fault.task,
            frame: fault.frame,
            top: fault.top,
            seen: self.seen()?,
        })
    }

    /// What /proc says of it now.
    pub fn seen(&self) -> Result<Seen> {
        let pid = self.process.pid();
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read(&path).context(|| path)
        };
        let stat = read(&format!("task/{}/stat", self.told.tid))?;
        let inode = std::fs::metadata(format!("/proc/{pid}/ns/mnt"));
        let inode = inode.ok().and_then(|found| u32::try_from(found.ino()).ok());
        let executable = std::fs::read_link(format!("/proc/{pid}/exe"));
        Ok(Seen {
            known: self.known,
            name: self.name.clone().into_bytes(),
            told: self.told,
            pid,
            parent: std::process::id(),
            lines: facts::parse_maps(&read("maps")?),
            layout: facts::memory_layout(&stat).unwrap_or_default(),
            start_ticks: facts::stat_field(&stat, 22).unwrap_or(0),
            mount_namespace: inode.filter(|_| self.told.has_files != 0),
            executable: executable
                .map(|path| path.into_os_string().into_encoded_bytes())
                .unwrap_or_default(),
        })
    }

    /// The name of the thread that faults.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it fault; returns when its handler has run.
    pub fn go(&mut self) -> Result<()> {
        let process = &mut self.process;
        let answer = process.stdin.write_all(b"g");
        answer
            .and_then(|()| process.stdout.read_exact(&mut [0]))
            .context(|| "a child that measures")
    }
}

/// Start times, in ticks, of our parent, of that one's, and so on, as far as we see them.
#[must_use]
pub fn ancestors() -> Vec<u64> {
    const MOST: usize = 8;
    let mut found = Vec::new();
    let mut pid = u64::from(std::os::unix::process::parent_id());
    while pid != 0 && found.len() < MOST {
        let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else {
            break;
        };
        let fields = (facts::stat_field(&stat, 22), facts::stat_field(&stat, 4));
        let (Some(ticks), Some(parent)) = fields else {
            break;
        };
        found.push(ticks);
        pid = parent;
    }
    found
}

/// The base name of a program as its dentry has it.
#[must_use]
pub fn base_name(program: &Path) -> Vec<u8> {
    let path = std::fs::read_link(program).unwrap_or_else(|_| program.to_owned());
    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    let ending = b" (deleted)";
    match name.strip_suffix(ending) {
        Some(name) => name.to_vec(),
        None => name,
    }
}

/// Runs as a child if that is what the arguments, with the program's name, say; does not
/// return then, unless something is in its way.
pub fn run_as_child(mut args: impl Iterator<Item = OsString>) -> Option<u8> {
    if args.next()? != MARK {
        return None;
    }
    let number = args.next()?.to_str()?.parse().ok()?;
    let magic = args.next()?.to_str()?.to_owned();
    let _ = live(Known(number), &magic);
    Some(1)
}

fn live(known: Known, magic: &str) -> Result<()> {
    own_fault::die_with_parent()?;
    let has_files = make_files(known).is_ok();
    if known.0.is_multiple_of(2) {
        return fault(known, magic, has_files);
    }
    let magic = magic.to_owned();
    own_fault::in_thread(move || {
        let _ = fault(known, &magic, has_files);
    })
}

fn fault(known: Known, magic: &str, has_files: bool) -> Result<()> {
    let name = CString::new(known.name(magic)).map_err(|_| Error::failed("a name with a NUL"))?;
    own_fault::set_name(&name)?;
    let alternate = own_fault::map_for_good(STACK_BYTES)?;
    own_fault::handle_faults(alternate, STACK_BYTES as u64)?;
    let stack = own_fault::map_for_good(STACK_BYTES)?;
    let (fs_base, has_gs_base) = own_fault::segment_bases(known.gs_base());
    let registers = Registers {
        fault_address: known.fault_address(),
        sp: stack + STACK_BYTES as u64 / 2 + u64::from(known.0 + 1) * STACK_STEP,
        values: known.registers(),
    };
    let told = Told {
        tid: own_fault::tid(),
        sp: registers.sp,
        fs_base,
        has_gs_base: has_gs_base.into(),
        brk: own_fault::heap_end(),
        alternate_start: alternate,
        alternate_bytes: STACK_BYTES as u64,
        has_files: has_files.into(),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&told.to_bytes())?;
    stdout.flush()?;
    std::io::stdin().lock().read_exact(&mut [0])?;
    own_fault::fault(&registers)
}

/// Two file systems, one within the other, and files in both; all of it is seen by this
/// process alone and goes with it.
fn make_files(known: Known) -> Result<()> {
    let page = page_bytes() as u64;
    own_fault::own_mounts()?;
    own_fault::mount_memory(COVERED)?;
    let inner = format!("{COVERED}/{}", known.mount_name());
    let directory = format!("{inner}/{}", known.directory_name());
    DirBuilder::new().create(&inner)?;
    own_fault::mount_memory(&inner)?;
    DirBuilder::new().create(&directory)?;
    // So that the children's files have other numbers.
    for place in 0..3 + 20 * known.0 {
        File::create(format!("{inner}/{place}"))?;
        if place % 2 == 0 {
            File::create(format!("{COVERED}/{place}"))?;
        }
    }
    for number in 0..FILES {
        let wanted = known.file(number);
        let within = if number == OUTER { COVERED } else { &directory };
        let path = format!("{within}/{}", wanted.name());
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.set_len(wanted.size_bytes(page))?;
        let (seconds, nanoseconds) = wanted.mtime();
        own_fault::set_mtime(&file, seconds, nanoseconds)?;
        let offset = wanted.page_offset() * page;
        let bytes = page_bytes() * (1 + number as usize);
        own_fault::map_file_for_good(&file, offset, bytes, number % 2 == 0)?;
        if number == GONE {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
