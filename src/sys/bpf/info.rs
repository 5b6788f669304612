//! `BPF_OBJ_GET_INFO_BY_FD`: what the kernel reports about its objects.
//!
//! Each kind of object has one struct, which is the beginning of the kernel's: an older
//! kernel fills in less and leaves the rest zero, a newer one has more fields that are
//! not requested. The layouts are those of `struct bpf_map_info`,
//! `bpf_prog_info` and `bpf_btf_info` in `include/uapi/linux/bpf.h`.
//!
//! # Safety
//!
//! The kernel writes into the struct, and through pointers in it: those are null,
//! or were made from a slice that is borrowed for the call.

use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;

use super::{address_mut, call, length, raw, NAME_LEN};
use crate::base::error::Result;

pub(super) const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

#[repr(C)]
struct ObjGetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}
const _: () = assert!(size_of::<ObjGetInfo>() == 16);

/// Asks for as much of an object's info as `I` has; an older kernel leaves the rest zero.
///
/// # Safety
///
/// - `I` is `repr(C)`, plain integers without padding, and a prefix of the info struct of the
///   kind of object that `fd` is.
/// - The pointers in `info` are null or valid for the bytes that the kernel writes through them.
unsafe fn obj_get_info_by_fd<I>(fd: BorrowedFd<'_>, info: &mut I) -> Result<()> {
    let into: *mut I = info;
    let mut attr = ObjGetInfo {
        bpf_fd: raw(fd),
        // The info structs here have a few dozen bytes.
        info_len: size_of::<I>() as u32,
        info: into as u64,
    };
    // SAFETY: `info` is exclusively borrowed and of the length passed; its own pointers are the
    // caller's duty.
    unsafe { call(OBJ_GET_INFO_BY_FD, "BPF_OBJ_GET_INFO_BY_FD", &mut attr) }.map(drop)
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    pub map_type: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}
const _: () = assert!(size_of::<MapInfo>() == 24);

/// What the kernel reports about a map.
pub fn map_info(map: BorrowedFd<'_>) -> Result<MapInfo> {
    let mut info = MapInfo::default();
    // SAFETY: the struct is plain integers, the beginning of bpf_map_info, without pointers. Were
    // the descriptor no map, the kernel would fill it with another object's integers.
    unsafe { obj_get_info_by_fd(map, &mut info) }?;
    Ok(info)
}

/// `struct bpf_prog_info`, up to the counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    pub prog_type: u32,
    pub id: u32,
    pub tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    pub load_time_ns: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; NAME_LEN],
    ifindex: u32,
    gpl_compatible: u32,
    netns_dev: u64,
    netns_ino: u64,
    nr_jited_ksyms: u32,
    nr_jited_func_lens: u32,
    jited_ksyms: u64,
    jited_func_lens: u64,
    btf_id: u32,
    func_info_rec_size: u32,
    func_info: u64,
    nr_func_info: u32,
    nr_line_info: u32,
    line_info: u64,
    jited_line_info: u64,
    nr_jited_line_info: u32,
    line_info_rec_size: u32,
    jited_line_info_rec_size: u32,
    nr_prog_tags: u32,
    prog_tags: u64,
    /// Counted only while run-time statistics are switched on.
    pub run_time_ns: u64,
    pub run_cnt: u64,
    /// Runs that the kernel left out because the program was running already (5.12).
    pub recursion_misses: u64,
    /// Instructions that the verifier walked (5.16).
    pub verified_insns: u32,
    attach_btf_obj_id: u32,
}
const _: () = assert!(offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(offset_of!(ProgramInfo, btf_id) == 128);
const _: () = assert!(offset_of!(ProgramInfo, run_time_ns) == 192);
const _: () = assert!(offset_of!(ProgramInfo, recursion_misses) == 208);
const _: () = assert!(size_of::<ProgramInfo>() == 224);

/// What the kernel reports about a program.
pub fn program_info(program: BorrowedFd<'_>) -> Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    // SAFETY: the struct is plain integers, the beginning of bpf_prog_info; all its pointers and
    // their counts are zero, so nothing is written through them.
    unsafe { obj_get_info_by_fd(program, &mut info) }?;
    Ok(info)
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}
const _: () = assert!(size_of::<BtfInfo>() == 32);

/// The name of a BTF object and whether it is the kernel's own (5.11), and its size in bytes.
#[derive(Clone, Debug)]
pub struct BtfDescription {
    pub name: Vec<u8>,
    pub kernel: bool,
    pub size_bytes: u32,
}

/// What the kernel reports about a BTF object.
pub fn btf_info(btf: BorrowedFd<'_>) -> Result<BtfDescription> {
    let mut name = [0; 64];
    let mut info = BtfInfo {
        name: address_mut(&mut name),
        name_len: length(&name),
        ..BtfInfo::default()
    };
    // SAFETY: `name` is as long as the length says, and no bytes of BTF are asked for.
    unsafe { obj_get_info_by_fd(btf, &mut info) }?;
    Ok(BtfDescription {
        name: crate::base::bytes::until_nul(&name).to_vec(),
        kernel: info.kernel_btf != 0,
        size_bytes: info.btf_size,
    })
}

/// The bytes of a BTF object, as many as `bytes` holds, from the first on.
pub fn btf_bytes(btf: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<()> {
    let mut info = BtfInfo {
        btf: address_mut(bytes),
        btf_size: length(bytes),
        ..BtfInfo::default()
    };
    // SAFETY: `bytes` is exclusively borrowed and as long as the length says; no name is asked for.
    unsafe { obj_get_info_by_fd(btf, &mut info) }
}
