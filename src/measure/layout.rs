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
    /// A struct of this name.
    Struct(&'static str),
    /// One or more of the struct that numbers a process.
    Upids,
}

/// A field of a kernel's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub of: &'static str,
    pub name: &'static str,
    /// Bytes from the structure's start.
    pub at: u32,
    pub what: What,
}

/// A [`Field`] in one line of a table.
#[must_use]
pub const fn field(of: &'static str, name: &'static str, at: u32, what: What) -> Field {
    Field { of, name, at, what }
}

/// What need not be measured.
const CONSTANTS: &[Field] = &[
    // The signal's description as user space gets it: include/uapi/asm-generic/siginfo.h.
    field("kernel_siginfo", "si_signo", 0, What::U32),
    field("kernel_siginfo", "si_code", 8, What::U32),
    field("kernel_siginfo", "_sifields", 16, What::Struct("sifields")),
    field("sifields", "_sigfault", 0, What::Struct("sigfault")),
    field("sigfault", "_addr", 0, What::Pointer),
    // include/linux/signal_types.h
    field("sigaction", "sa_handler", 0, What::Pointer),
    field("sigaction", "sa_flags", 8, What::U64),
    field("k_sigaction", "sa", 0, What::Struct("sigaction")),
    // struct pt_regs begins as user space's does.
    #[cfg(target_arch = "x86_64")]
    field("pt_regs", "ip", 128, What::U64),
    #[cfg(target_arch = "x86_64")]
    field("pt_regs", "sp", 152, What::U64),
    #[cfg(target_arch = "aarch64")]
    field("pt_regs", "pc", 256, What::U64),
    #[cfg(target_arch = "aarch64")]
    field("pt_regs", "sp", 248, What::U64),
    // Where `thread` begins does not matter: its fields are counted from the task.
    field("task_struct", "thread", 0, What::Struct("thread_struct")),
    field("qstr", "name", 0, What::Pointer),
    field("path", "mnt", 0, What::Pointer),
    field("path", "dentry", 8, What::Pointer),
    field("hlist_bl_node", "pprev", 8, What::Pointer),
    field("ns_common", "inum", 0, What::U32),
    field("mm_context_t", "vdso", 0, What::Pointer),
    field("upid", "nr", 0, What::U32),
    field("upid", "ns", 8, What::Pointer),
    // Mappings have always begun with their bounds.
    field("vm_area_struct", "vm_start", 0, What::U64),
    field("vm_area_struct", "vm_end", 8, What::U64),
    // include/linux/maple_tree.h, the same since it came with 6.1
    field("maple_tree", "ma_root", 0, What::Pointer),
    field("maple_range_64", "pivot", 8, What::Words),
    field("maple_range_64", "slot", 128, What::Pointers),
    field("maple_arange_64", "pivot", 8, What::Words),
    field("maple_arange_64", "slot", 80, What::Pointers),
];

/// What was found, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub fields: Vec<Field>,
    /// What could not be found with certainty, each once.
    pub lost: Vec<&'static str>,
    /// From the top of a kernel stack down to the user's registers.
    pub regs_from_top: u32,
    /// Size of a kernel stack, where its start stands in the task.
    pub thread_bytes: Option<u64>,
}

impl Layout {
    /// Notes that something could not be found.
    pub fn lose(&mut self, name: &'static str) {
        if !self.lost.contains(&name) {
            self.lost.push(name);
        }
    }

    /// Where a field is, if it was found.
    #[must_use]
    pub fn place(&self, of: &str, name: &str) -> Option<u32> {
        let mut fields = self.fields.iter().chain(CONSTANTS);
        let found = fields.find(|field| field.of == of && field.name == name);
        found.map(|field| field.at)
    }

    /// Takes a field back.
    pub fn forget(&mut self, of: &str, name: &str) {
        self.fields
            .retain(|field| field.of != of || field.name != name);
    }

    /// The fields as BTF.
    #[must_use]
    pub fn to_btf(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.extend_from_slice(CONSTANTS);
        let mut structs: Vec<&'static str> = Vec::new();
        for field in &fields {
            structs.push(field.of);
            if let What::Struct(name) = field.what {
                structs.push(name);
            }
        }
        structs.sort_unstable();
        structs.dedup();
        let mut writer = Writer::default();
        writer.basic_types(struct_id(&structs, "upid"));
        for name in &structs {
            let mut members = fields.clone();
            members.retain(|field| field.of == *name);
            let end = members.iter().map(|field| field.at + 8).max();
            let bytes = match *name {
                "pt_regs" => self.regs_from_top,
                _ => end.unwrap_or(0),
            };
            let text = writer.string(name);
            writer.words(&[text, KIND_STRUCT | members.len() as u32, bytes]);
            for field in members {
                let text = writer.string(field.name);
                let id = match field.what {
                    What::U32 => WORD,
                    What::U64 => LONG,
                    What::Pointer => POINTER,
                    What::Bytes => BYTES,
                    What::Words => WORDS,
                    What::Pointers => POINTERS,
                    What::Upids => UPIDS,
                    What::Struct(name) => struct_id(&structs, name),
                };
                writer.words(&[text, id, field.at * 8]);
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
                field("task_struct", "comm", 1234, What::Bytes),
                field("thread_struct", "cr2", 16, What::U64),
                field("pid", "numbers", 96, What::Upids),
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
        layout.fields.push(field("a", "d", 8, What::U32));
        assert_eq!(layout.lost, ["b"]);
        assert_eq!(layout.place("a", "d"), Some(8));
        assert_eq!(layout.place("upid", "ns"), Some(8));
        layout.forget("a", "d");
        assert_eq!(layout.place("a", "d"), None);
    }
}
