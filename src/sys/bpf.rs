//! bpf(2): one function per command, named after it.
//!
//! Arguments come in as slices and borrowed descriptors, new objects go out as
//! owned descriptors. Each command has an attribute struct of its own that ends
//! at the last field set here, so nothing unset reaches the kernel and an old
//! kernel sees no field it does not know. `union bpf_attr` in
//! `include/uapi/linux/bpf.h` defines the layouts.
//!
//! This file does not decide what to try next when the kernel refuses. It only retries
//! if the kernel asks for it (`EAGAIN` on a program load that a signal interrupted).
//!
//! # Safety
//!
//! The kernel reads and writes through the pointers inside an attribute. Every
//! function here makes them from slices that it borrows for the whole call. If the
//! kernel takes a length from elsewhere (a map's key and value size), the function asks
//! the kernel for that length first and compares.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::base::error::{Error, Result};

mod info;
mod limits;

pub use info::{btf_bytes, btf_info, map_info, program_info, BtfDescription, MapInfo, ProgramInfo};
pub use limits::{effective_capabilities, online_cpus, possible_cpus, raise_memlock_limit};

pub use libc::{EACCES, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOSYS, EPERM};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const MAP_LOOKUP_AND_DELETE: libc::c_long = 21;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BTF_LOAD: libc::c_long = 18;
const BTF_GET_FD_BY_ID: libc::c_long = 19;
const MAP_FREEZE: libc::c_long = 22;
const BTF_GET_NEXT_ID: libc::c_long = 23;
/// The commands that read and write maps which are there.
pub(super) const OF_MAPS: [u32; 6] = [
    MAP_LOOKUP_ELEM as u32,
    MAP_UPDATE_ELEM as u32,
    MAP_DELETE_ELEM as u32,
    MAP_GET_NEXT_KEY as u32,
    MAP_LOOKUP_AND_DELETE as u32,
    info::OBJ_GET_INFO_BY_FD as u32,
];

/// `BPF_PROG_TYPE_TRACEPOINT`
pub const PROG_TYPE_TRACEPOINT: u32 = 5;

/// How often a program load is tried while the kernel answers `EAGAIN`: it does
/// when a signal is pending in the midst of verification.
const LOAD_ATTEMPTS: u32 = 5;

/// Map and program names have 16 bytes including their NUL.
pub const NAME_LEN: usize = 16;

/// Calls bpf(2) with one attribute struct.
///
/// # Safety
///
/// - `A` is the layout, or a prefix of it, of the `union bpf_attr` member that `command` takes.
/// - Every pointer in `attr` is null or valid for the access that the kernel makes under `command`.
unsafe fn call<A>(command: libc::c_long, name: &str, attr: &mut A) -> Result<libc::c_long> {
    let attr: *mut A = attr;
    // SAFETY: `attr` is a live, exclusively borrowed struct of the size passed; the caller
    // guarantees that its pointers are valid.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    if answer < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Error::syscall(&format!("bpf({name})"), errno));
    }
    Ok(answer)
}

/// Takes ownership of a descriptor that a bpf(2) command just returned.
fn owned(answer: libc::c_long, name: &str) -> Result<OwnedFd> {
    let fd = i32::try_from(answer)
        .map_err(|_| Error::failed(format!("bpf({name}): answered {answer}, no descriptor")))?;
    // SAFETY: the callers pass the answer of a command that returns a new descriptor, which
    // nothing else uses.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn address(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    bytes.as_ptr() as u64
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    bytes.as_mut_ptr() as u64
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A name as the kernel keeps it: cut to 15 bytes.
fn kernel_name(name: &str) -> [u8; NAME_LEN] {
    let mut kept = [0; NAME_LEN];
    for (to, from) in kept[..NAME_LEN - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    kept
}

/// The attributes of a new map.
#[derive(Clone, Copy, Debug)]
pub struct NewMap<'a> {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: &'a str,
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME_LEN],
}
const _: () = assert!(size_of::<MapCreate>() == 44);
const _: () = assert!(offset_of!(MapCreate, map_name) == 28);

/// `BPF_MAP_CREATE`.
pub fn map_create(map: &NewMap<'_>) -> Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        map_flags: map.flags,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: kernel_name(map.name),
    };
    // SAFETY: the struct is the map-creating member of bpf_attr and holds no pointer.
    let answer = unsafe { call(MAP_CREATE, "BPF_MAP_CREATE", &mut attr) }?;
    owned(answer, "BPF_MAP_CREATE")
}

#[repr(C)]
struct MapElem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}
const _: () = assert!(size_of::<MapElem>() == 32);
const _: () = assert!(offset_of!(MapElem, key) == 8);

const PER_CPU_TYPES: [u32; 4] = [
    5,  // BPF_MAP_TYPE_PERCPU_HASH
    6,  // BPF_MAP_TYPE_PERCPU_ARRAY
    10, // BPF_MAP_TYPE_LRU_PERCPU_HASH
    21, // BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE
];

/// Checks that `key` and `value` are as long as the bytes that the kernel will read or write.
fn check_lengths(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let info = map_info(map)?;
    let mut wanted = info.value_size as usize;
    if PER_CPU_TYPES.contains(&info.map_type) {
        wanted = wanted.next_multiple_of(8).saturating_mul(possible_cpus()?);
    }
    if key.len() == info.key_size as usize && value.len() == wanted {
        return Ok(());
    }
    Err(Error::failed(format!(
        "map has keys of {} and values of {wanted} bytes, not {} and {}",
        info.key_size,
        key.len(),
        value.len()
    )))
}

/// `BPF_MAP_UPDATE_ELEM`; a per-CPU map takes one value, padded to 8 bytes, per possible CPU.
pub fn map_update_elem(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
    check_lengths(map, key, value)?;
    let mut attr = MapElem {
        map_fd: raw(map),
        pad: 0,
        key: address(key),
        value: address(value),
        flags,
    };
    // SAFETY: `key` and `value` were seen to be as long as the kernel reads.
    unsafe { call(MAP_UPDATE_ELEM, "BPF_MAP_UPDATE_ELEM", &mut attr) }.map(drop)
}

/// `BPF_MAP_LOOKUP_ELEM` into `value`; false if the map has no such key.
pub fn map_lookup_elem(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> Result<bool> {
    check_lengths(map, key, value)?;
    let mut attr = MapElem {
        map_fd: raw(map),
        pad: 0,
        key: address(key),
        value: address_mut(value),
        flags: 0,
    };
    // SAFETY: `key` and `value` were seen to be as long as what the kernel reads and writes.
    match unsafe { call(MAP_LOOKUP_ELEM, "BPF_MAP_LOOKUP_ELEM", &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `BPF_MAP_GET_NEXT_KEY`: the key after `key`, or the first one, into `next`; false after the
/// last. If the map has no such key (any more), the first one follows.
pub fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
    let bytes = map_info(map)?.key_size as usize;
    if next.len() != bytes || key.is_some_and(|key| key.len() != bytes) {
        return Err(Error::failed("a map's key has another size"));
    }
    let mut attr = MapElem {
        map_fd: raw(map),
        pad: 0,
        key: key.map_or(0, address),
        value: address_mut(next),
        flags: 0,
    };
    // SAFETY: `key` and `next` were seen to be as long as what the kernel reads and writes.
    match unsafe { call(MAP_GET_NEXT_KEY, "BPF_MAP_GET_NEXT_KEY", &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a key from the map, and reads its value into `value`; false if the map has no such
/// key. If the kernel cannot do both at once (before 5.14), a change in between is lost.
pub fn map_take_elem(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> Result<bool> {
    check_lengths(map, key, value)?;
    let mut attr = MapElem {
        map_fd: raw(map),
        pad: 0,
        key: address(key),
        value: address_mut(value),
        flags: 0,
    };
    // SAFETY: `key` and `value` were seen to be as long as what the kernel reads and writes.
    match unsafe {
        call(
            MAP_LOOKUP_AND_DELETE,
            "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
            &mut attr,
        )
    } {
        Ok(_) => return Ok(true),
        Err(error) if error.errno() == Some(ENOENT) => return Ok(false),
        Err(_) => {}
    }
    let is_there = map_lookup_elem(map, key, value)?;
    // SAFETY: as above; this command does not look at the value.
    match unsafe { call(MAP_DELETE_ELEM, "BPF_MAP_DELETE_ELEM", &mut attr) } {
        Err(error) if error.errno() != Some(ENOENT) => Err(error),
        _ => Ok(is_there),
    }
}

#[repr(C)]
struct OneFd {
    fd: u32,
}

/// `BPF_MAP_FREEZE` (5.2): from now on user space cannot write the map.
pub fn map_freeze(map: BorrowedFd<'_>) -> Result<()> {
    let mut attr = OneFd { fd: raw(map) };
    // SAFETY: the struct is the first field of the element member and holds no pointer.
    unsafe { call(MAP_FREEZE, "BPF_MAP_FREEZE", &mut attr) }.map(drop)
}

/// Type information that goes with a program: its functions and lines.
#[derive(Clone, Copy, Debug)]
pub struct ProgramTypes<'a> {
    pub btf: BorrowedFd<'a>,
    pub func_info_rec_size: u32,
    pub func_info: &'a [u8],
    pub line_info_rec_size: u32,
    pub line_info: &'a [u8],
}

/// The attributes of a new program.
#[derive(Clone, Copy, Debug)]
pub struct NewProgram<'a> {
    pub prog_type: u32,
    /// Eight bytes an instruction.
    pub instructions: &'a [u8],
    /// NUL-terminated.
    pub license: &'a std::ffi::CStr,
    pub name: &'a str,
    pub types: Option<ProgramTypes<'a>>,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    pad: u32,
}
const _: () = assert!(size_of::<ProgLoad>() == 112);
const _: () = assert!(offset_of!(ProgLoad, prog_name) == 48);
const _: () = assert!(offset_of!(ProgLoad, func_info) == 80);
const _: () = assert!(offset_of!(ProgLoad, line_info) == 96);

fn records(bytes: &[u8], size: u32) -> u32 {
    length(bytes).checked_div(size).unwrap_or(0)
}

/// `BPF_PROG_LOAD`. With an empty `log` the kernel writes none; else it is filled with the
/// verifier's account, NUL-terminated.
pub fn prog_load(program: &NewProgram<'_>, log: &mut [u8]) -> Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: program.prog_type,
        insn_cnt: length(program.instructions) / 8,
        insns: address(program.instructions),
        license: program.license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: length(log),
        log_buf: address_mut(log),
        kern_version: 0,
        prog_flags: 0,
        prog_name: kernel_name(program.name),
        prog_ifindex: 0,
        expected_attach_type: 0,
        prog_btf_fd: 0,
        func_info_rec_size: 0,
        func_info: 0,
        func_info_cnt: 0,
        line_info_rec_size: 0,
        line_info: 0,
        line_info_cnt: 0,
        pad: 0,
    };
    if let Some(types) = &program.types {
        attr.prog_btf_fd = raw(types.btf);
        attr.func_info_rec_size = types.func_info_rec_size;
        attr.func_info = address(types.func_info);
        attr.func_info_cnt = records(types.func_info, types.func_info_rec_size);
        attr.line_info_rec_size = types.line_info_rec_size;
        attr.line_info = address(types.line_info);
        attr.line_info_cnt = records(types.line_info, types.line_info_rec_size);
    }
    let mut attempt = 1;
    loop {
        // SAFETY: every pointer was made from a slice in `program` or from `log`, borrowed for
        // this call, with the length that stands beside it; the license ends with a NUL.
        match unsafe { call(PROG_LOAD, "BPF_PROG_LOAD", &mut attr) } {
            Ok(answer) => return owned(answer, "BPF_PROG_LOAD"),
            Err(error) if error.errno() == Some(libc::EAGAIN) && attempt < LOAD_ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    pad: u32,
}
const _: () = assert!(size_of::<BtfLoad>() == 32);

/// `BPF_BTF_LOAD`, with a log as for [`prog_load`].
pub fn btf_load(btf: &[u8], log: &mut [u8]) -> Result<OwnedFd> {
    let mut attr = BtfLoad {
        btf: address(btf),
        btf_log_buf: address_mut(log),
        btf_size: length(btf),
        btf_log_size: length(log),
        btf_log_level: u32::from(!log.is_empty()),
        pad: 0,
    };
    // SAFETY: both pointers were made from slices borrowed for this call, with their lengths.
    let answer = unsafe { call(BTF_LOAD, "BPF_BTF_LOAD", &mut attr) }?;
    owned(answer, "BPF_BTF_LOAD")
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    pad: u32,
}
const _: () = assert!(size_of::<RawTracepointOpen>() == 16);

/// `BPF_RAW_TRACEPOINT_OPEN` (4.17): the program runs until the descriptor is closed.
pub fn raw_tracepoint_open(program: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    let mut attr = RawTracepointOpen {
        name: name.as_ptr() as u64,
        prog_fd: raw(program),
        pad: 0,
    };
    // SAFETY: the name is NUL-terminated and borrowed for this call.
    let answer = unsafe { call(RAW_TRACEPOINT_OPEN, "BPF_RAW_TRACEPOINT_OPEN", &mut attr) }?;
    owned(answer, "BPF_RAW_TRACEPOINT_OPEN")
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `BPF_BTF_GET_FD_BY_ID`; needs CAP_SYS_ADMIN.
pub fn btf_get_fd_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = ById {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the struct is the by-id member of bpf_attr and holds no pointer.
    let answer = unsafe { call(BTF_GET_FD_BY_ID, "BPF_BTF_GET_FD_BY_ID", &mut attr) }?;
    owned(answer, "BPF_BTF_GET_FD_BY_ID")
}

/// `BPF_BTF_GET_NEXT_ID` (5.4): the id that follows `id`, if any does.
pub fn btf_get_next_id(id: u32) -> Result<Option<u32>> {
    let mut attr = ById {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the struct is the by-id member of bpf_attr and holds no pointer.
    match unsafe { call(BTF_GET_NEXT_ID, "BPF_BTF_GET_NEXT_ID", &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.errno() == Some(ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct ProgTestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}
const _: () = assert!(size_of::<ProgTestRun>() == 64);

/// `BPF_PROG_TEST_RUN` of a raw tracepoint program (5.10) with `context` as its arguments;
/// returns what the program returned.
pub fn prog_test_run(program: BorrowedFd<'_>, context: &[u8]) -> Result<u32> {
    let mut attr = ProgTestRun {
        prog_fd: raw(program),
        retval: 0,
        data_size_in: 0,
        data_size_out: 0,
        data_in: 0,
        data_out: 0,
        repeat: 0,
        duration: 0,
        ctx_size_in: length(context),
        ctx_size_out: 0,
        ctx_in: address(context),
        ctx_out: 0,
    };
    // SAFETY: the context is borrowed for this call and as long as the length says; the other
    // pointers are null.
    unsafe { call(PROG_TEST_RUN, "BPF_PROG_TEST_RUN", &mut attr) }?;
    Ok(attr.retval)
}

#[cfg(test)]
mod tests {
    use super::kernel_name;

    #[test]
    fn names_keep_fifteen_bytes_and_a_nul() {
        assert_eq!(&kernel_name("segfault_rodata"), b"segfault_rodata\0");
        assert_eq!(&kernel_name("segfault_rodata.str1"), b"segfault_rodata\0");
        assert_eq!(&kernel_name("a")[..2], b"a\0");
    }
}
