//! ELF files for tests, written field by field; nothing is shared with the parser.

/// A symbol to be written.
#[derive(Clone, Debug)]
pub(crate) struct SynthSymbol {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) size: u64,
    /// Binding << 4 | type.
    pub(crate) info: u8,
    pub(crate) section: u16,
}

pub(crate) const LOCAL: u8 = 0x00;
pub(crate) const GLOBAL: u8 = 0x10;
pub(crate) const WEAK: u8 = 0x20;
pub(crate) const NOTYPE: u8 = 0;
pub(crate) const OBJECT: u8 = 1;
pub(crate) const FUNC: u8 = 2;
pub(crate) const TLS: u8 = 6;
pub(crate) const IFUNC: u8 = 10;

pub(crate) const TEXT: u16 = 1;
pub(crate) const ABS: u16 = 0xfff1;

pub(crate) fn symbol(name: &'static str, value: u64, size: u64, info: u8) -> SynthSymbol {
    SynthSymbol {
        name,
        value,
        size,
        info,
        section: TEXT,
    }
}

/// What goes into the file. `.text` is 0x1000..0x2000, `.data` 0x3000..0x4000.
#[derive(Clone, Debug)]
pub(crate) struct Synth {
    pub(crate) wide: bool,
    pub(crate) machine: u16,
    pub(crate) symtab: Vec<SynthSymbol>,
    pub(crate) dynsym: Vec<SynthSymbol>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) debug_link: Option<(&'static str, u32)>,
    pub(crate) sections: bool,
}

impl Synth {
    pub(crate) fn new() -> Self {
        Synth {
            wide: true,
            machine: 62,
            symtab: Vec::new(),
            dynsym: Vec::new(),
            build_id: vec![0xab, 0xcd, 0xef, 0x01],
            debug_link: None,
            sections: true,
        }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = Writer {
            wide: self.wide,
            bytes: Vec::new(),
        };
        let (head, phent, shent) = if self.wide {
            (64, 56, 64)
        } else {
            (52, 32, 40)
        };
        out.bytes.resize(head + 4 * phent, 0);

        let mut sections = vec![
            Section::default(),
            Section::new(".text", 1, 6, 0x1000, 0, 0x1000),
            Section::new(".data", 1, 3, 0x3000, 0, 0x1000),
        ];
        // Neither has bytes of its own here.
        sections[1].kind = 8;
        sections[2].kind = 8;

        let note = out.blob(|out| {
            for word in [4, self.build_id.len() as u32, 3] {
                out.u32(word);
            }
            out.bytes.extend(b"GNU\0");
            out.bytes.extend(&self.build_id);
        });
        if !self.build_id.is_empty() {
            sections.push(Section::at(".note.gnu.build-id", 7, note));
        }
        let (symtab, strtab) = out.table(&self.symtab);
        if !self.symtab.is_empty() {
            let link = sections.len() as u32 + 1;
            sections.push(Section::at(".symtab", 2, symtab).linked(link));
            sections.push(Section::at(".strtab", 3, strtab));
        }
        let (dynsym, dynstr) = out.table(&self.dynsym);
        if !self.dynsym.is_empty() {
            let link = sections.len() as u32 + 1;
            sections.push(Section::at(".dynsym", 11, dynsym).linked(link));
            sections.push(Section::at(".dynstr", 3, dynstr));
        }
        if let Some((name, crc)) = self.debug_link {
            let link = out.blob(|out| {
                let padded = (name.len() / 4 + 1) * 4;
                let end = out.bytes.len() + padded;
                out.bytes.extend(name.as_bytes());
                out.bytes.resize(end, 0);
                out.u32(crc);
            });
            sections.push(Section::at(".gnu_debuglink", 1, link));
        }
        let hash = out.gnu_hash(self.dynsym.len() as u32);
        let dynamic = out.blob(|out| {
            let pairs = [
                (0x6fff_fef5, hash.0),
                (5, dynstr.0),
                (6, dynsym.0),
                (10, dynstr.1),
                (0, 0),
            ];
            for (tag, value) in pairs {
                out.word(tag);
                out.word(value);
            }
        });

        let mut names = vec![0];
        for section in &mut sections[1..] {
            section.name_at = names.len() as u32;
            names.extend(section.name.as_bytes());
            names.push(0);
        }
        let names_at = out.blob(|out| out.bytes.extend(&names));
        sections.push(Section::at("", 3, names_at));
        out.align();
        let table_at = out.bytes.len() as u64;
        if self.sections {
            for section in &sections {
                section.write(&mut out);
            }
        }

        let file_size = out.bytes.len() as u64;
        let mut front = Writer {
            wide: self.wide,
            bytes: Vec::new(),
        };
        front.bytes.extend(b"\x7fELF");
        front.bytes.extend([1 + u8::from(self.wide), 1, 1, 0]);
        front.bytes.extend([0; 8]);
        front.u16(3);
        front.u16(self.machine);
        front.u32(1);
        front.word(0x1000);
        front.word(head as u64);
        front.word(if self.sections { table_at } else { 0 });
        front.u32(0);
        for half in [head, phent, 4, shent] {
            front.u16(half as u16);
        }
        let count = if self.sections { sections.len() } else { 0 };
        front.u16(count as u16);
        front.u16(count.saturating_sub(1) as u16);
        // The whole file as it stands, so that addresses in the dynamic section
        // are offsets; then code and data.
        front.segment(1, 4, 0, 0, file_size);
        front.segment(1, 5, 0, 0x1000, 0x1000);
        front.segment(2, 4, dynamic.0, dynamic.0, dynamic.1);
        front.segment(4, 4, note.0, note.0, note.1);
        out.bytes[..front.bytes.len()].copy_from_slice(&front.bytes);
        out.bytes
    }
}

#[derive(Clone, Debug, Default)]
struct Section {
    name: &'static str,
    name_at: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
}

impl Section {
    fn new(
        name: &'static str,
        kind: u32,
        flags: u64,
        address: u64,
        offset: u64,
        size: u64,
    ) -> Self {
        Section {
            name,
            name_at: 0,
            kind,
            flags,
            address,
            offset,
            size,
            link: 0,
        }
    }

    fn at(name: &'static str, kind: u32, (offset, size): (u64, u64)) -> Self {
        Section::new(name, kind, 0, 0, offset, size)
    }

    fn linked(mut self, link: u32) -> Self {
        self.link = link;
        self
    }

    fn write(&self, out: &mut Writer) {
        out.u32(self.name_at);
        out.u32(self.kind);
        out.word(self.flags);
        out.word(self.address);
        out.word(self.offset);
        out.word(self.size);
        out.u32(self.link);
        out.u32(0);
        out.word(1);
        out.word(0);
    }
}

struct Writer {
    wide: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn word(&mut self, value: u64) {
        if self.wide {
            self.bytes.extend(value.to_le_bytes());
        } else {
            self.u32(value as u32);
        }
    }

    fn align(&mut self) {
        let padded = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(padded, 0);
    }

    /// Writes at the next aligned place; offset and size of it.
    fn blob(&mut self, write: impl FnOnce(&mut Self)) -> (u64, u64) {
        self.align();
        let start = self.bytes.len() as u64;
        write(self);
        (start, self.bytes.len() as u64 - start)
    }

    /// A symbol table with its null symbol, and its strings.
    fn table(&mut self, symbols: &[SynthSymbol]) -> ((u64, u64), (u64, u64)) {
        let mut strings = vec![0];
        let table = self.blob(|out| {
            out.symbol(0, 0, 0, 0, 0);
            for symbol in symbols {
                let name = strings.len() as u32;
                strings.extend(symbol.name.as_bytes());
                strings.push(0);
                out.symbol(name, symbol.value, symbol.size, symbol.info, symbol.section);
            }
        });
        let strings = self.blob(|out| out.bytes.extend(&strings));
        (table, strings)
    }

    fn symbol(&mut self, name: u32, value: u64, size: u64, info: u8, section: u16) {
        self.u32(name);
        if self.wide {
            self.bytes.extend([info, 0]);
            self.u16(section);
            self.word(value);
            self.word(size);
        } else {
            self.word(value);
            self.word(size);
            self.bytes.extend([info, 0]);
            self.u16(section);
        }
    }

    /// One bucket, one chain of all symbols but the null one.
    fn gnu_hash(&mut self, count: u32) -> (u64, u64) {
        self.blob(|out| {
            for word in [1, 1, 1, 0] {
                out.u32(word);
            }
            out.word(0);
            out.u32(u32::from(count > 0));
            for index in 1..=count {
                out.u32(u32::from(index == count));
            }
        })
    }

    fn segment(&mut self, kind: u32, flags: u32, offset: u64, address: u64, size: u64) {
        self.u32(kind);
        if self.wide {
            self.u32(flags);
        }
        for word in [offset, address, address, size, size] {
            self.word(word);
        }
        if !self.wide {
            self.u32(flags);
        }
        self.word(8);
    }
}
