//! Writes the measured offsets as type information like the kernel's own.
//!
//! The capture programs ask for fields by name; here the names and their offsets are
//! written as BTF, so that the same relocations serve a kernel with BTF and one without.
//! A field that was not found does not exist there, and the programs leave out what
//! depends on it. What the kernel guarantees to user space, or has never changed, is
//! written without a measurement. The format is `Documentation/bpf/btf.rst`.

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    U32,
    U64,
    Pointer,
    /// Sixteen of each, or of the struct that numbers a process.
    Bytes,
    Words,
    Pointers,
    Upids,
    /// The struct that has this field.
    StructOf(Field),
}

/// Makes the list of fields, of their names and of their types.
macro_rules! fields {
    ($($of:literal { $($field:ident $name:literal $what:expr,)+ })+) => {
        /// A field of a kernel's structure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($($field,)+)+ }

        /// Structs, marked so, each before its fields, in the order of [`Field`].
        const NAMES: &str = concat!($("#", $of, $(" ", $name,)+ " ",)+);

        const WHAT: &[What] = &[$($($what,)+)+];
    };
}

fields! {
    "kernel_siginfo" {
        Signo "si_signo" What::U32,
        Code "si_code" What::U32,
        Sifields "_sifields" What::StructOf(Field::Sigfault),
    }
    "sifields" { Sigfault "_sigfault" What::StructOf(Field::Address), }
    "sigfault" { Address "_addr" What::Pointer, }
    "sigaction" {
        Handler "sa_handler" What::Pointer,
        HandlerFlags "sa_flags" What::U64,
    }
    "k_sigaction" { Action "sa" What::StructOf(Field::Handler), }
    "pt_regs" {
        Ip "ip" What::U64,
        Pc "pc" What::U64,
        Sp "sp" What::U64,
    }
    "task_struct" {
        Stack "stack" What::Pointer,
        RealParent "real_parent" What::Pointer,
        Ids "pid" What::U32,
        GroupLeader "group_leader" What::Pointer,
        ThreadPid "thread_pid" What::Pointer,
        NsProxy "nsproxy" What::Pointer,
        Mm "mm" What::Pointer,
        Comm "comm" What::Bytes,
        StartBootTime "start_boottime" What::U64,
        AlternateStart "sas_ss_sp" What::U64,
        AlternateBytes "sas_ss_size" What::U64,
        Thread "thread" What::StructOf(Field::Cr2),
    }
    "thread_struct" {
        Cr2 "cr2" What::U64,
        TrapNumber "trap_nr" What::U64,
        ErrorCode "error_code" What::U64,
        FaultAddress "fault_address" What::U64,
        FaultCode "fault_code" What::U64,
    }
    "nsproxy" { MntNs "mnt_ns" What::Pointer, }
    "mnt_namespace" { MntNsCommon "ns" What::StructOf(Field::Inum), }
    "pid_namespace" { PidNsCommon "ns" What::StructOf(Field::Inum), }
    "ns_common" { Inum "inum" What::U32, }
    "pid" {
        Level "level" What::U32,
        Numbers "numbers" What::Upids,
        OwnPidNs "own_ns" What::Pointer,
    }
    "upid" {
        Nr "nr" What::U32,
        UpidNs "ns" What::Pointer,
    }
    "mm_struct" {
        Mmap "mmap" What::Pointer,
        MmMt "mm_mt" What::StructOf(Field::MaRoot),
        HighestVmEnd "highest_vm_end" What::U64,
        StartBrk "start_brk" What::U64,
        Brk "brk" What::U64,
        StartStack "start_stack" What::U64,
        ArgStart "arg_start" What::U64,
        ArgEnd "arg_end" What::U64,
        EnvStart "env_start" What::U64,
        EnvEnd "env_end" What::U64,
        ExeFile "exe_file" What::Pointer,
        Context "context" What::StructOf(Field::Vdso),
    }
    "mm_context_t" { Vdso "vdso" What::Pointer, }
    "maple_tree" { MaRoot "ma_root" What::Pointer, }
    "maple_range_64" {
        RangePivot "pivot" What::Words,
        RangeSlot "slot" What::Pointers,
    }
    "maple_arange_64" {
        ArangePivot "pivot" What::Words,
        ArangeSlot "slot" What::Pointers,
    }
    "vm_area_struct" {
        VmStart "vm_start" What::U64,
        VmEnd "vm_end" What::U64,
        VmNext "vm_next" What::Pointer,
        VmMm "vm_mm" What::Pointer,
        VmFlags "vm_flags" What::U64,
        VmPgoff "vm_pgoff" What::U64,
        VmFile "vm_file" What::Pointer,
    }
    "file" {
        FPath "f_path" What::StructOf(Field::PathMnt),
        FDentry "dentry" What::Pointer,
        FInode "f_inode" What::Pointer,
    }
    "path" {
        PathMnt "mnt" What::Pointer,
        PathDentry "dentry" What::Pointer,
    }
    "dentry" {
        DHash "d_hash" What::StructOf(Field::Pprev),
        DParent "d_parent" What::Pointer,
        DName "d_name" What::StructOf(Field::QstrName),
    }
    "hlist_bl_node" { Pprev "pprev" What::Pointer, }
    "qstr" { QstrName "name" What::Pointer, }
    "inode" {
        INumber "i_ino" What::U64,
        ISb "i_sb" What::Pointer,
        ISize "i_size" What::U64,
        ISeconds "i_mtime_sec" What::U64,
        INanoseconds "i_mtime_nsec" What::U32,
    }
    "super_block" { SDev "s_dev" What::U32, }
    "mount" {
        MntParent "mnt_parent" What::Pointer,
        MntMountpoint "mnt_mountpoint" What::Pointer,
        Mnt "mnt" What::StructOf(Field::MntRoot),
    }
    "vfsmount" { MntRoot "mnt_root" What::Pointer, }
}

/// Fields that need not be measured.
const CONSTANTS: &[(Field, i16)] = &[
    // The signal's description as user space gets it: include/uapi/asm-generic/siginfo.h.
    (Field::Signo, 0),
    (Field::Code, 8),
    (Field::Sifields, 16),
    (Field::Sigfault, 0),
    (Field::Address, 0),
    // include/linux/signal_types.h
    (Field::Handler, 0),
    (Field::HandlerFlags, 8),
    (Field::Action, 0),
    // struct pt_regs begins as user space's does.
    #[cfg(target_arch = "x86_64")]
    (Field::Ip, 128),
    #[cfg(target_arch = "x86_64")]
    (Field::Sp, 152),
    #[cfg(target_arch = "aarch64")]
    (Field::Pc, 256),
    #[cfg(target_arch = "aarch64")]
    (Field::Sp, 248),
    // The offset of `thread` does not matter: its fields are counted from the task.
    (Field::Thread, 0),
    (Field::Inum, 0),
    (Field::Level, 4),
    (Field::Nr, 0),
    (Field::UpidNs, 8),
    (Field::Vdso, 0),
    // include/linux/maple_tree.h, the same since it came with 6.1
    (Field::MaRoot, 0),
    (Field::RangePivot, 8),
    (Field::RangeSlot, 128),
    (Field::ArangePivot, 8),
    (Field::ArangeSlot, 80),
    // Mappings have always begun with their bounds.
    (Field::VmStart, 0),
    (Field::VmEnd, 8),
    (Field::PathMnt, 0),
    (Field::PathDentry, 8),
    (Field::Pprev, 8),
    (Field::QstrName, 0),
];

/// A detail of a report that must be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Comm,
    Ppid,
    NsPid,
    StartTime,
    MountNamespace,
    MemoryLayout,
    Vdso,
    Mappings,
    FileIdentity,
    Exe,
    Cgroup,
    /// Which stack a handler on an alternate one has interrupted.
    InterruptedStack,
    /// A detail that no report needs.
    None,
}

/// In the order of [`Detail`].
const DETAILS: [&str; 12] = [
    "comm",
    "ppid",
    "ns_pid",
    "start_time",
    "mount_namespace",
    "memory_layout",
    "vdso",
    "mappings",
    "file_identity",
    "exe",
    "cgroup",
    "interrupted_stack",
];

/// The fields that were found, and those that were not.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes from the structure's start, if it was found.
    places: [Option<i32>; WHAT.len()],
    /// A bit for each [`Detail`] that could not be found with certainty.
    lost: u32,
    /// From the top of a kernel stack down to the user's registers.
    pub regs_from_top: u32,
    /// Size of a kernel stack, if the task has its start.
    pub thread_bytes: Option<u64>,
}

impl Default for Layout {
    fn default() -> Self {
        let mut places = [None; WHAT.len()];
        for (field, at) in CONSTANTS {
            places[*field as usize] = Some(i32::from(*at));
        }
        Layout {
            places,
            lost: 0,
            regs_from_top: 0,
            thread_bytes: None,
        }
    }
}

impl Layout {
    /// Notes that something could not be found.
    pub fn lose(&mut self, detail: Detail) {
        self.lost |= 1 << detail as u32;
    }

    /// Whether a detail could not be found.
    #[must_use]
    pub fn has_lost(&self, detail: Detail) -> bool {
        self.lost >> detail as u32 & 1 != 0
    }

    /// Details that could not be found with certainty.
    #[must_use]
    pub fn lost(&self) -> Vec<&'static str> {
        let mut lost = Vec::new();
        for (bit, name) in DETAILS.iter().enumerate() {
            if self.lost >> bit & 1 != 0 {
                lost.push(*name);
            }
        }
        lost
    }

    /// Notes where a field is.
    pub fn found(&mut self, field: Field, at: i32) {
        self.places[field as usize] = Some(at);
    }

    /// The offset of a field, if it was found.
    #[must_use]
    pub fn place(&self, field: Field) -> Option<i32> {
        self.places[field as usize]
    }

    /// Takes a field back.
    pub fn forget(&mut self, field: Field) {
        self.places[field as usize] = None;
    }

    /// The fields as BTF.
    #[must_use]
    pub fn to_btf(&self) -> Vec<u8> {
        let mut types = BASIC_TYPES.to_vec();
        types[ELEMENT_OF_UPIDS] = struct_of(Field::Nr);
        let mut strings = vec![0];
        let (mut start, mut field) = (0, 0);
        for word in words() {
            if let Some(name) = word.strip_prefix(b"#") {
                start = types.len();
                let bytes = match name {
                    b"pt_regs" => self.regs_from_top,
                    _ => 0,
                };
                types.extend_from_slice(&[put_text(&mut strings, name), KIND_STRUCT, bytes]);
                continue;
            }
            let (what, place) = (WHAT[field], self.places[field]);
            field += 1;
            if let Some(at) = place.and_then(|at| u32::try_from(at).ok()) {
                types[start + 1] += 1;
                types[start + 2] = types[start + 2].max(at + 8);
                let name = put_text(&mut strings, word);
                types.extend_from_slice(&[name, type_of(what), at * 8]);
            }
        }
        let bytes = types.len() as u32 * 4;
        let header = [
            MAGIC_AND_VERSION,
            HEADER_BYTES,
            0,
            bytes,
            bytes,
            strings.len() as u32,
        ];
        let mut btf = Vec::new();
        for word in header.iter().chain(&types) {
            btf.extend_from_slice(&word.to_le_bytes());
        }
        btf.extend_from_slice(&strings);
        btf
    }
}

/// Adds a name; where it is.
fn put_text(strings: &mut Vec<u8>, text: &[u8]) -> u32 {
    let at = strings.len();
    strings.extend_from_slice(text);
    strings.push(0);
    at as u32
}

const MAGIC_AND_VERSION: u32 = 0x1_eb9f;
const HEADER_BYTES: u32 = 24;
const KIND_INT: u32 = 1 << 24;
const KIND_PTR: u32 = 2 << 24;
const KIND_ARRAY: u32 = 3 << 24;
const KIND_STRUCT: u32 = 4 << 24;

// The first types, in this order; then the structs.
const BYTE: u32 = 1;
const WORD: u32 = 2;
const LONG: u32 = 3;
const POINTER: u32 = 4;
const BYTES: u32 = 5;
const WORDS: u32 = 6;
const POINTERS: u32 = 7;
const UPIDS: u32 = 8;
const FIRST_STRUCT: u32 = 9;

/// Without names: they are found by number.
#[rustfmt::skip]
const BASIC_TYPES: [u32; 39] = [
    // int: its bytes, its bits
    0, KIND_INT, 1, 8, //
    0, KIND_INT, 4, 32, //
    0, KIND_INT, 8, 64, //
    0, KIND_PTR, 0, //
    // array: element type, index type, length
    0, KIND_ARRAY, 0, BYTE, WORD, 16, //
    0, KIND_ARRAY, 0, LONG, WORD, 16, //
    0, KIND_ARRAY, 0, POINTER, WORD, 16, //
    0, KIND_ARRAY, 0, 0, WORD, 16, //
];
const ELEMENT_OF_UPIDS: usize = 36;

/// The number of a type.
fn type_of(what: What) -> u32 {
    match what {
        What::U32 => WORD,
        What::U64 => LONG,
        What::Pointer => POINTER,
        What::Bytes => BYTES,
        What::Words => WORDS,
        What::Pointers => POINTERS,
        What::Upids => UPIDS,
        What::StructOf(field) => struct_of(field),
    }
}

/// Structs are numbered as they come.
fn struct_of(field: Field) -> u32 {
    let mut id = FIRST_STRUCT - 1;
    let mut fields = 0;
    for word in words() {
        if word.starts_with(b"#") {
            id += 1;
        } else if fields == field as u32 {
            break;
        } else {
            fields += 1;
        }
    }
    id
}

fn words() -> impl Iterator<Item = &'static [u8]> {
    let names = NAMES.trim_ascii_end().as_bytes();
    names.split(|byte| *byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::btf::{Btf, Types};

    #[test]
    fn what_was_found_can_be_asked_for_by_name() {
        let mut layout = Layout {
            regs_from_top: 184,
            ..Layout::default()
        };
        layout.found(Field::Comm, 1234);
        layout.found(Field::Cr2, 16);
        layout.found(Field::Numbers, 96);
        let bytes = layout.to_btf();
        let btf = Btf::parse(&bytes).expect("BTF");
        let find = |wanted: &str| {
            let (id, found) = btf
                .iter()
                .find(|(_, found)| btf.text(found.name) == wanted)
                .expect("a struct");
            (btf.size_of(id).expect("a size"), found.clone())
        };
        let places = |of: &str| -> Vec<_> {
            let (_, found) = find(of);
            let members = found.members().iter();
            members
                .map(|member| (btf.text(member.name), member.bit_offset / 8))
                .collect()
        };
        let name = |text: &str| text.into();
        assert_eq!(
            places("task_struct"),
            [(name("comm"), 1234), (name("thread"), 0)]
        );
        assert_eq!(places("thread_struct"), [(name("cr2"), 16)]);
        assert_eq!(places("nsproxy"), []);
        assert_eq!(find("pt_regs").0, 184);
        assert_eq!(find("upid").0, 16);
        // pid.numbers is an array of upid
        let (_, pid) = find("pid");
        let numbers = pid
            .members()
            .iter()
            .find(|member| btf.text(member.name) == "numbers");
        let (_, array) = btf
            .resolve(numbers.expect("numbers").type_id)
            .expect("an array");
        let shown = format!("{array:?}");
        let upid = btf.iter().find(|(_, found)| btf.text(found.name) == "upid");
        let element = format!("{}", upid.expect("upid").0);
        assert!(
            shown.contains("Array") && shown.contains(&element),
            "{shown}"
        );
    }

    #[test]
    fn every_field_has_a_name_and_a_struct() {
        let structs = words().filter(|word| word.starts_with(b"#")).count();
        assert_eq!(words().count() - structs, WHAT.len());
        assert_eq!(struct_of(Field::Signo), FIRST_STRUCT);
        assert_eq!(struct_of(Field::Sifields), FIRST_STRUCT);
        assert_eq!(struct_of(Field::Sigfault), FIRST_STRUCT + 1);
        assert_eq!(struct_of(Field::MntRoot), FIRST_STRUCT + structs as u32 - 1);
    }

    #[test]
    fn what_is_missed_is_named_once() {
        let mut layout = Layout::default();
        layout.lose(Detail::Cgroup);
        layout.lose(Detail::Cgroup);
        layout.lose(Detail::None);
        layout.lose(Detail::Comm);
        assert_eq!(layout.lost(), ["comm", "cgroup"]);
        layout.found(Field::Comm, 8);
        assert_eq!(layout.place(Field::Comm), Some(8));
        layout.forget(Field::Comm);
        assert_eq!(layout.place(Field::Comm), None);
        assert_eq!(layout.place(Field::UpidNs), Some(8));
    }
}
