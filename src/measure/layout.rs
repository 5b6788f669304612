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
    /// A struct of this name.
    Struct(&'static str),
    /// So many bytes.
    Bytes(u32),
    /// So many words.
    Words(u32),
    /// So many pointers.
    Pointers(u32),
    /// An array of one struct of this name.
    Structs(&'static str),
}

/// A field of a kernel's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub of: &'static str,
    pub name: &'static str,
    pub at: u32,
    pub what: What,
}

/// What was found, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub fields: Vec<Field>,
    /// What could not be found with certainty, each once.
    pub lost: Vec<&'static str>,
    /// From the top of a kernel stack down to the user's registers.
    pub regs_from_top: u32,
    /// Size of a kernel stack, where its start stands in the task.
    pub thread_size: Option<u64>,
}

impl Layout {
    /// Notes a field at its place.
    pub fn found(&mut self, of: &'static str, name: &'static str, at: u32, what: What) {
        self.fields.push(Field { of, name, at, what });
    }

    /// Notes a field, or by which name it is missed.
    pub fn note(
        &mut self,
        of: &'static str,
        name: &'static str,
        at: Option<u32>,
        what: What,
        missed: &'static str,
    ) {
        match at {
            Some(at) => self.found(of, name, at, what),
            None => self.lose(missed),
        }
    }

    /// Notes that something could not be found.
    pub fn lose(&mut self, name: &'static str) {
        if !self.lost.contains(&name) {
            self.lost.push(name);
        }
    }

    /// Where a field is, if it was found.
    #[must_use]
    pub fn place(&self, of: &str, name: &str) -> Option<u32> {
        let found = self.fields.iter().find(|f| f.of == of && f.name == name);
        found.map(|field| field.at)
    }

    /// Takes a field back.
    pub fn forget(&mut self, of: &str, name: &str) {
        self.fields
            .retain(|field| field.of != of || field.name != name);
    }

    /// Adds what need not be measured.
    pub fn add_constants(&mut self, aarch64: bool) {
        use What::{Pointer, Pointers, Struct, Words, U32, U64};
        // The signal's description as user space gets it: include/uapi/asm-generic/siginfo.h.
        self.found("kernel_siginfo", "si_signo", 0, U32);
        self.found("kernel_siginfo", "si_code", 8, U32);
        self.found("kernel_siginfo", "_sifields", 16, Struct("sifields"));
        self.found("sifields", "_sigfault", 0, Struct("sigfault"));
        self.found("sigfault", "_addr", 0, Pointer);
        // include/linux/signal_types.h
        self.found("sigaction", "sa_handler", 0, Pointer);
        self.found("sigaction", "sa_flags", 8, U64);
        self.found("k_sigaction", "sa", 0, Struct("sigaction"));
        // struct pt_regs begins as user space's does.
        let (ip, sp) = if aarch64 { (256, 248) } else { (128, 152) };
        self.found("pt_regs", if aarch64 { "pc" } else { "ip" }, ip, U64);
        self.found("pt_regs", "sp", sp, U64);
        self.found("qstr", "name", 0, Pointer);
        self.found("ns_common", "inum", 0, U32);
        if self.place("pid", "numbers").is_some() {
            self.found("upid", "nr", 0, U32);
            self.found("upid", "ns", 8, Pointer);
        }
        if self.place("mm_struct", "mm_mt").is_some() {
            // include/linux/maple_tree.h, the same since it came with 6.1
            self.found("maple_tree", "ma_root", 0, Pointer);
            self.found("maple_range_64", "pivot", 8, Words(15));
            self.found("maple_range_64", "slot", 128, Pointers(16));
            self.found("maple_arange_64", "pivot", 8, Words(9));
            self.found("maple_arange_64", "slot", 80, Pointers(10));
        }
    }

    /// The fields as BTF.
    #[must_use]
    pub fn to_btf(&self) -> Vec<u8> {
        Writer::new(self).finish()
    }
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;

// The first types, in this order.
const BYTE: u32 = 1;
const WORD: u32 = 2;
const LONG: u32 = 3;
const POINTER: u32 = 4;
const FIXED: u32 = 4;

struct Writer<'a> {
    layout: &'a Layout,
    structs: Vec<&'static str>,
    arrays: Vec<What>,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(layout: &'a Layout) -> Self {
        let mut structs: Vec<&'static str> = Vec::new();
        let mut arrays: Vec<What> = Vec::new();
        for field in &layout.fields {
            let within = match field.what {
                What::Struct(name) | What::Structs(name) => Some(name),
                _ => None,
            };
            for name in [Some(field.of), within].into_iter().flatten() {
                if !structs.contains(&name) {
                    structs.push(name);
                }
            }
            let is_array = matches!(
                field.what,
                What::Bytes(_) | What::Words(_) | What::Pointers(_) | What::Structs(_)
            );
            if is_array && !arrays.contains(&field.what) {
                arrays.push(field.what);
            }
        }
        Writer {
            layout,
            structs,
            arrays,
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn int(&mut self, name: &str, bytes: u32) {
        let name = self.string(name);
        self.words(&[name, KIND_INT << 24, bytes, bytes * 8]);
    }

    /// Arrays stand behind the fixed types, structs behind the arrays.
    fn id_of(&self, what: What) -> u32 {
        let place = |at: Option<usize>| at.unwrap_or(0) as u32;
        match what {
            What::U32 => WORD,
            What::U64 => LONG,
            What::Pointer => POINTER,
            What::Struct(name) => {
                let at = place(self.structs.iter().position(|known| *known == name));
                FIXED + 1 + self.arrays.len() as u32 + at
            }
            What::Bytes(_) | What::Words(_) | What::Pointers(_) | What::Structs(_) => {
                FIXED + 1 + place(self.arrays.iter().position(|known| *known == what))
            }
        }
    }

    fn size_of(&self, what: What) -> u32 {
        match what {
            What::U32 => 4,
            What::U64 | What::Pointer => 8,
            What::Bytes(count) => count,
            What::Words(count) | What::Pointers(count) => count * 8,
            What::Struct(name) | What::Structs(name) => self.struct_size(name),
        }
    }

    /// Up to the end of the last field that is known; no struct here contains itself.
    fn struct_size(&self, name: &str) -> u32 {
        if name == "pt_regs" {
            return self.layout.regs_from_top;
        }
        let fields = self.layout.fields.iter().filter(|field| field.of == name);
        let end = fields
            .map(|field| field.at + self.size_of(field.what))
            .max()
            .unwrap_or(0);
        end.next_multiple_of(8)
    }

    fn finish(mut self) -> Vec<u8> {
        self.int("unsigned char", 1);
        self.int("unsigned int", 4);
        self.int("unsigned long", 8);
        self.words(&[0, KIND_PTR << 24, 0]);
        for array in self.arrays.clone() {
            let (element, count) = match array {
                What::Words(count) => (LONG, count),
                What::Pointers(count) => (POINTER, count),
                What::Structs(name) => (self.id_of(What::Struct(name)), 1),
                What::Bytes(count) => (BYTE, count),
                _ => continue,
            };
            self.words(&[0, KIND_ARRAY << 24, 0, element, WORD, count]);
        }
        for name in self.structs.clone() {
            let fields: Vec<Field> = self
                .layout
                .fields
                .iter()
                .filter(|field| field.of == name)
                .copied()
                .collect();
            let size = self.struct_size(name);
            let text = self.string(name);
            self.words(&[text, KIND_STRUCT << 24 | fields.len() as u32, size]);
            for field in fields {
                let text = self.string(field.name);
                let id = self.id_of(field.what);
                self.words(&[text, id, field.at * 8]);
            }
        }
        let mut btf = Vec::new();
        btf.extend_from_slice(&MAGIC.to_le_bytes());
        btf.extend_from_slice(&[1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            btf.extend_from_slice(&u32::to_le_bytes(word));
        }
        btf.append(&mut self.types);
        btf.append(&mut self.strings);
        btf
    }
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
        layout.found("task_struct", "comm", 1234, What::Bytes(16));
        layout.found("task_struct", "thread", 2000, What::Struct("thread_struct"));
        layout.found("thread_struct", "cr2", 16, What::U64);
        layout.found("pid", "numbers", 96, What::Structs("upid"));
        layout.add_constants(false);
        let bytes = layout.to_btf();
        let btf = Btf::parse(&bytes).expect("BTF");
        let find = |wanted: &str| {
            let (id, found) = btf
                .iter()
                .find(|(_, found)| btf.text(found.name) == wanted)
                .expect("a struct");
            (btf.size_of(id).expect("a size"), found.clone())
        };
        let (size, task) = find("task_struct");
        assert_eq!(size, 2024);
        let places: Vec<_> = task
            .members()
            .iter()
            .map(|member| (btf.text(member.name), member.bit_offset / 8))
            .collect();
        assert_eq!(places, [("comm".into(), 1234), ("thread".into(), 2000)]);
        assert_eq!(find("pt_regs").0, 184);
        assert_eq!(find("upid").0, 16);
        assert_eq!(find("pid").0, 112);
        assert_eq!(find("k_sigaction").0, 16);
    }

    #[test]
    fn what_is_missed_is_named_once() {
        let mut layout = Layout::default();
        layout.note("a", "b", None, What::U32, "b");
        layout.note("a", "c", None, What::U32, "b");
        layout.note("a", "d", Some(8), What::U32, "b");
        assert_eq!(layout.lost, ["b"]);
        assert_eq!(layout.place("a", "d"), Some(8));
        layout.forget("a", "d");
        assert_eq!(layout.place("a", "d"), None);
    }
}
