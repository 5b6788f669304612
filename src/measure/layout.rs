//! Places that were found, as type information like a kernel's own.
//!
//! The capture program asks for fields by name; here the names and their places
//! are written as BTF, so that the same relocations serve a kernel with BTF and
//! one without. A field that was not found does not exist, and the program
//! leaves out what depends on it. What the kernel promises to user space, or
//! has never changed, is added unmeasured. The format is
//! `Documentation/bpf/btf.rst`.

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    U32,
    U64,
    Pointer,
    /// Sixteen of each.
    Bytes,
    Words,
    Pointers,
    /// One or more of the struct that numbers a process.
    Upids,
    // A struct.
    Sifields,
    Sigfault,
    Sigaction,
    Thread,
    NsCommon,
    Qstr,
    Path,
    Vfsmount,
    HashLinks,
    MapleTree,
    MmContext,
}

impl What {
    fn struct_name(self) -> Option<&'static str> {
        Some(match self {
            What::Sifields => "sifields",
            What::Sigfault => "sigfault",
            What::Sigaction => "sigaction",
            What::Thread => "thread_struct",
            What::NsCommon => "ns_common",
            What::Qstr => "qstr",
            What::Path => "path",
            What::Vfsmount => "vfsmount",
            What::HashLinks => "hlist_bl_node",
            What::MapleTree => "maple_tree",
            What::MmContext => "mm_context_t",
            _ => return None,
        })
    }
}

/// A field of a kernel's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// `task_struct.comm`
    pub name: &'static str,
    pub what: What,
    /// Bytes from the structure's start.
    pub at: i32,
}

impl Field {
    /// The structure's name and its own.
    #[must_use]
    pub fn names(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or((self.name, ""))
    }
}

/// A [`Field`] in one line of a table.
#[must_use]
pub const fn field(name: &'static str, what: What, at: i32) -> Field {
    Field { name, what, at }
}

/// What need not be measured.
const CONSTANTS: &[Field] = &[
    // The signal's description as user space gets it: include/uapi/asm-generic/siginfo.h.
    field("kernel_siginfo.si_signo", What::U32, 0),
    field("kernel_siginfo.si_code", What::U32, 8),
    field("kernel_siginfo._sifields", What::Sifields, 16),
    field("sifields._sigfault", What::Sigfault, 0),
    field("sigfault._addr", What::Pointer, 0),
    // include/linux/signal_types.h
    field("sigaction.sa_handler", What::Pointer, 0),
    field("sigaction.sa_flags", What::U64, 8),
    field("k_sigaction.sa", What::Sigaction, 0),
    // struct pt_regs begins as user space's does.
    #[cfg(target_arch = "x86_64")]
    field("pt_regs.ip", What::U64, 128),
    #[cfg(target_arch = "x86_64")]
    field("pt_regs.sp", What::U64, 152),
    #[cfg(target_arch = "aarch64")]
    field("pt_regs.pc", What::U64, 256),
    #[cfg(target_arch = "aarch64")]
    field("pt_regs.sp", What::U64, 248),
    // Where `thread` begins does not matter: its fields are counted from the task.
    field("task_struct.thread", What::Thread, 0),
    field("qstr.name", What::Pointer, 0),
    field("path.mnt", What::Pointer, 0),
    field("path.dentry", What::Pointer, 8),
    field("hlist_bl_node.pprev", What::Pointer, 8),
    field("ns_common.inum", What::U32, 0),
    field("mm_context_t.vdso", What::Pointer, 0),
    field("pid.level", What::U32, 4),
    field("upid.nr", What::U32, 0),
    field("upid.ns", What::Pointer, 8),
    // Mappings have always begun with their bounds.
    field("vm_area_struct.vm_start", What::U64, 0),
    field("vm_area_struct.vm_end", What::U64, 8),
    // include/linux/maple_tree.h, the same since it came with 6.1
    field("maple_tree.ma_root", What::Pointer, 0),
    field("maple_range_64.pivot", What::Words, 8),
    field("maple_range_64.slot", What::Pointers, 128),
    field("maple_arange_64.pivot", What::Words, 8),
    field("maple_arange_64.slot", What::Pointers, 80),
];

/// What was found, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub fields: Vec<Field>,
    /// Details of reports for which nothing could be found with certainty, each once.
    pub lost: Vec<&'static str>,
    /// From the top of a kernel stack down to the user's registers.
    pub regs_from_top: u32,
    /// Size of a kernel stack, where its start stands in the task.
    pub thread_bytes: Option<u64>,
}

impl Layout {
    /// Notes that something could not be found; without a name, that no report misses it.
    pub fn lose(&mut self, name: &'static str) {
        if !name.is_empty() && !self.lost.contains(&name) {
            self.lost.push(name);
        }
    }

    /// Where a field is, if it was found.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<i32> {
        let found = self.fields.iter().find(|field| field.name == name);
        found.map(|field| field.at)
    }

    /// Takes a field back.
    pub fn forget(&mut self, name: &str) {
        self.fields.retain(|field| field.name != name);
    }

    /// The fields as BTF.
    #[must_use]
    pub fn to_btf(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.extend_from_slice(CONSTANTS);
        let mut structs: Vec<&'static str> = Vec::new();
        for field in &fields {
            let (of, _) = field.names();
            if !structs.contains(&of) {
                structs.push(of);
            }
        }
        let mut writer = Writer::default();
        writer.basic_types(struct_id(&structs, "upid"));
        for within in &structs {
            let mut members = 0;
            let mut bytes = 0u32;
            for field in &fields {
                if field.names().0 == *within {
                    members += 1;
                    bytes = bytes.max(field.at.unsigned_abs() + 8);
                }
            }
            if *within == "pt_regs" {
                bytes = self.regs_from_top;
            }
            let text = writer.string(within);
            writer.words(&[text, KIND_STRUCT | members, bytes]);
            for field in &fields {
                let (of, name) = field.names();
                if of == *within {
                    let text = writer.string(name);
                    let id = type_id(&structs, field.what);
                    writer.words(&[text, id, field.at.unsigned_abs() * 8]);
                }
            }
        }
        writer.finish()
    }
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

fn struct_id(structs: &[&str], name: &str) -> u32 {
    let at = structs.iter().position(|known| *known == name);
    at.map_or(0, |at| FIRST_STRUCT + at as u32)
}

fn type_id(structs: &[&str], what: What) -> u32 {
    match what {
        What::U32 => WORD,
        What::U64 => LONG,
        What::Pointer => POINTER,
        What::Bytes => BYTES,
        What::Words => WORDS,
        What::Pointers => POINTERS,
        What::Upids => UPIDS,
        _ => struct_id(structs, what.struct_name().unwrap_or_default()),
    }
}

#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    /// Without the empty one at the start.
    strings: Vec<u8>,
}

impl Writer {
    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at + 1
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn basic_types(&mut self, upid: u32) {
        for (name, bytes) in [
            ("unsigned char", 1),
            ("unsigned int", 4),
            ("unsigned long", 8),
        ] {
            let name = self.string(name);
            self.words(&[name, KIND_INT, bytes, bytes * 8]);
        }
        self.words(&[0, KIND_PTR, 0]);
        for element in [BYTE, LONG, POINTER, upid] {
            self.words(&[0, KIND_ARRAY, 0, element, WORD, 16]);
        }
    }

    fn finish(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32 + 1);
        let mut btf = Vec::new();
        for word in [MAGIC_AND_VERSION, HEADER_BYTES, 0, types, types, strings] {
            btf.extend_from_slice(&word.to_le_bytes());
        }
        btf.extend_from_slice(&self.types);
        btf.push(0);
        btf.extend_from_slice(&self.strings);
        btf
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::btf::{Btf, Types};

    #[test]
    fn what_was_found_can_be_asked_for_by_name() {
        let layout = Layout {
            regs_from_top: 184,
            fields: vec![
                field("task_struct.comm", What::Bytes, 1234),
                field("thread_struct.cr2", What::U64, 16),
                field("pid.numbers", What::Upids, 96),
            ],
            ..Layout::default()
        };
        let bytes = layout.to_btf();
        let btf = Btf::parse(&bytes).expect("BTF");
        let find = |wanted: &str| {
            let (id, found) = btf
                .iter()
                .find(|(_, found)| btf.text(found.name) == wanted)
                .expect("a struct");
            (btf.size_of(id).expect("a size"), found.clone())
        };
        let (_, task) = find("task_struct");
        let places: Vec<_> = task
            .members()
            .iter()
            .map(|member| (btf.text(member.name), member.bit_offset / 8))
            .collect();
        assert_eq!(places, [("comm".into(), 1234), ("thread".into(), 0)]);
        assert_eq!(find("pt_regs").0, 184);
        assert_eq!(find("upid").0, 16);
        let (_, pid) = find("pid");
        let (_, array) = btf.resolve(pid.members()[0].type_id).expect("an array");
        let shown = format!("{array:?}");
        assert!(shown.contains("Array"), "{shown}");
    }

    #[test]
    fn what_is_missed_is_named_once() {
        let mut layout = Layout::default();
        layout.lose("b");
        layout.lose("b");
        layout.fields.push(field("a.d", What::U32, 8));
        assert_eq!(layout.lost, ["b"]);
        assert_eq!(layout.place("a.d"), Some(8));
        layout.forget("a.d");
        assert_eq!(layout.place("a.d"), None);
    }
}
