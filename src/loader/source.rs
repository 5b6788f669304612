//! Where the kernel's types come from.
//!
//! In this order: a file that the user names, `/sys/kernel/btf/vmlinux`, for hosts
//! without /sys the same of a sysfs that only we see or the kernel itself by
//! `BPF_BTF_GET_FD_BY_ID` (from 5.11 on), and kernel images with BTF in the places
//! that libbpf searches. Where none of these has
//! any, `measure/` makes some of what it measures. A file is raw BTF or an
//! ELF file with a `.BTF` section, and is read through a descriptor, in pieces; what the
//! kernel lets map is mapped.
//! What comes by descriptor from the kernel comes whole: that is the one case in
//! which it is held in memory, until the programs are loaded.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};
use crate::loader::parse::section_range;
use crate::loader::target::TypeSource;
use crate::sys::mmap::SharedMemory;
use crate::sys::{bpf, unmounted};

const SYSFS: &str = "/sys/kernel/btf/vmlinux";
const IN_SYSFS: &CStr = c"kernel/btf/vmlinux";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const NO_SYSFS_HINT: &str =
    "mount /sys, run with CAP_SYS_ADMIN, or name a BTF file of exactly this kernel with --btf";
/// The hint if no types were found.
pub const NO_TYPES_HINT: &str =
    "the kernel was built without type information (CONFIG_DEBUG_INFO_BTF); name a BTF file of exactly this kernel with --btf";

/// Kernel types and where they were found.
#[derive(Debug)]
pub struct KernelTypes {
    origin: Origin,
    bytes: Bytes,
}

#[derive(Debug)]
enum Origin {
    File(PathBuf),
    OwnSysfs,
    Kernel {
        id: u32,
    },
    Measured {
        thread_bytes: Option<u64>,
        lost: Vec<&'static str>,
    },
}

#[derive(Debug)]
enum Bytes {
    File { file: File, start: u64, len: u64 },
    Mapped(SharedMemory),
    Held(Vec<u8>),
}

impl fmt::Display for KernelTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::OwnSysfs => write!(f, "{SYSFS}, from a private mount"),
            Origin::Kernel { id } => write!(f, "BTF object {id} of the kernel"),
            Origin::Measured { .. } => {
                f.write_str("measured at start, because the kernel has no BTF")
            }
        }
    }
}

impl KernelTypes {
    /// Types made from measured offsets: with the size of kernel stacks, if that is known, and
    /// the details of a report that were not found.
    #[must_use]
    pub fn measured(
        bytes: Vec<u8>,
        thread_bytes: Option<u64>,
        lost: Vec<&'static str>,
    ) -> KernelTypes {
        KernelTypes {
            origin: Origin::Measured { thread_bytes, lost },
            bytes: Bytes::Held(bytes),
        }
    }

    /// For a method that needs no types.
    #[must_use]
    pub fn none() -> KernelTypes {
        KernelTypes::measured(Vec::new(), None, Vec::new())
    }

    /// The file that holds them, if the user has named it.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) if path != Path::new(SYSFS) => Some(path),
            _ => None,
        }
    }

    /// The size of kernel stacks, if it was measured.
    #[must_use]
    pub fn thread_bytes(&self) -> Option<u64> {
        match &self.origin {
            Origin::Measured { thread_bytes, .. } => *thread_bytes,
            _ => None,
        }
    }

    /// Details of reports for which these types do not suffice.
    #[must_use]
    pub fn lost(&self) -> &[&'static str] {
        match &self.origin {
            Origin::Measured { lost, .. } => lost,
            _ => &[],
        }
    }
}

impl TypeSource for KernelTypes {
    fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::File { len, .. } => *len,
            Bytes::Mapped(memory) => memory.len() as u64,
            Bytes::Held(bytes) => bytes.as_slice().len() as u64,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &self.bytes {
            Bytes::File { file, start, len } => {
                let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
                let wanted = buffer.len().min(left);
                let place = start.saturating_add(offset);
                FileExt::read_at(file, &mut buffer[..wanted], place)
            }
            Bytes::Mapped(memory) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let wanted = buffer.len().min(memory.len().saturating_sub(start));
                if wanted > 0 {
                    memory.copy_to(start, &mut buffer[..wanted]);
                }
                Ok(wanted)
            }
            Bytes::Held(bytes) => TypeSource::read_at(bytes, offset, buffer),
        }
    }
}

/// Finds the kernel's types, or those in the file named.
pub fn kernel_types(explicit: Option<&Path>) -> Result<KernelTypes> {
    if let Some(path) = explicit {
        return from_file(path).context(|| format!("kernel types in {}", path.display()));
    }
    let missing = match from_file(Path::new(SYSFS)) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    let in_sysfs = unmounted::open(c"sysfs", IN_SYSFS);
    if let Ok(types) = in_sysfs.and_then(|file| from_open(file, Origin::OwnSysfs)) {
        return Ok(types);
    }
    let hint = match from_kernel() {
        Ok(types) => return Ok(types),
        Err(error) if error.errno() == Some(bpf::EPERM) => NO_SYSFS_HINT,
        Err(_) => NO_TYPES_HINT,
    };
    for path in images() {
        if let Ok(types) = from_file(&path) {
            return Ok(types);
        }
    }
    Err(missing
        .context("no type information of this kernel was found")
        .with_kind(crate::base::error::Kind::Unsupported)
        .with_hint(hint))
}

fn from_file(path: &Path) -> Result<KernelTypes> {
    from_open(File::open(path)?, Origin::File(path.to_owned()))
}

fn from_open(file: File, origin: Origin) -> Result<KernelTypes> {
    let len = file.metadata()?.len();
    if let Ok(memory) = SharedMemory::map_sysfs(file.as_fd(), len) {
        let bytes = Bytes::Mapped(memory);
        return Ok(KernelTypes { origin, bytes });
    }
    let whole = KernelTypes {
        origin,
        bytes: Bytes::File {
            file,
            start: 0,
            len,
        },
    };
    let mut magic = [0; 4];
    let read = whole.read_at(0, &mut magic)?;
    if !magic[..read].starts_with(b"\x7fELF") {
        if magic[..read].starts_with(&[0x9f, 0xeb]) {
            return Ok(whole);
        }
        return Err(Error::failed("neither BTF nor an ELF file"));
    }
    let (start, len) = section_range(&whole, ".BTF")?;
    let KernelTypes { origin, bytes } = whole;
    let Bytes::File { file, .. } = bytes else {
        return Err(Error::failed("not read from a file"));
    };
    Ok(KernelTypes {
        origin,
        bytes: Bytes::File { file, start, len },
    })
}

/// Asks the kernel for its own BTF: its first BTF object with the name vmlinux.
fn from_kernel() -> Result<KernelTypes> {
    // The kernel's own types get their number at boot, so they come early.
    const TRIED: usize = 1024;
    let mut id = 0;
    for _ in 0..TRIED {
        let Some(next) = bpf::btf_get_next_id(id)? else {
            break;
        };
        id = next;
        let Ok(fd) = bpf::btf_get_fd_by_id(id) else {
            continue;
        };
        let info = bpf::btf_info(fd.as_fd())?;
        if info.kernel && info.name == b"vmlinux" {
            let mut bytes = vec![0; info.size_bytes as usize];
            bpf::btf_bytes(fd.as_fd(), &mut bytes)?;
            return Ok(KernelTypes {
                origin: Origin::Kernel { id },
                bytes: Bytes::Held(bytes),
            });
        }
    }
    Err(Error::unsupported(
        "the kernel has no BTF object of its own",
    ))
}

/// Kernel images that may carry BTF, as libbpf looks for them.
fn images() -> Vec<PathBuf> {
    let Ok(release) = std::fs::read_to_string(RELEASE) else {
        return Vec::new();
    };
    let release = release.trim();
    [
        format!("/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/usr/lib/modules/{release}/kernel/vmlinux"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
    ]
    .map(PathBuf::from)
    .to_vec()
}
