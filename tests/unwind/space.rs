//! A stopped process as the walker sees a crashed one: its stacks up to where
//! the process began, its mappings, and the files behind them.
//!
//! The loader here is the simplest that works, and shares nothing with the
//! tool's own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use goblin::elf::Elf;
use segfault_analyzer::base::address::{FileAddress, ProcessAddress};
use segfault_analyzer::unwind::{AddressSpace, CfiSection, ModuleData, Placed, SectionRange};

const PAGE: u64 = 4096;

/// An ELF file, wholly in memory.
pub struct Module {
    pub path: String,
    bytes: Vec<u8>,
    identity: u64,
    entry: u64,
    sections: HashMap<String, (u64, u64, u64)>,
    /// Virtual address, file offset, length in the file.
    segments: Vec<(u64, u64, u64)>,
    /// Start, size, name.
    symbols: Vec<(u64, u64, String)>,
    /// Whether the symbols may be used for walking.
    stripped: bool,
}

impl Module {
    /// `named` is a twin of the file with its symbols.
    pub fn load(path: &str, bytes: Vec<u8>, named: Option<&[u8]>) -> Option<Self> {
        let elf = Elf::parse(&bytes).ok()?;
        let sections = elf
            .section_headers
            .iter()
            .filter(|section| section.sh_type != goblin::elf::section_header::SHT_NOBITS)
            .map(|section| {
                let name = elf.shdr_strtab.get_at(section.sh_name).unwrap_or("");
                let place = (section.sh_addr, section.sh_offset, section.sh_size);
                (name.to_owned(), place)
            })
            .collect();
        let segments = elf
            .program_headers
            .iter()
            .filter(|header| header.p_type == goblin::elf::program_header::PT_LOAD)
            .map(|header| (header.p_vaddr, header.p_offset, header.p_filesz))
            .collect();
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Some(Module {
            path: path.to_owned(),
            identity: hasher.finish(),
            entry: elf.header.e_entry,
            sections,
            segments,
            symbols: symbols(named.unwrap_or(&bytes)),
            stripped: elf.syms.is_empty(),
            bytes,
        })
    }

    pub fn symbol(&self, address: FileAddress) -> Option<&(u64, u64, String)> {
        self.symbols
            .iter()
            .rev()
            .find(|(start, size, _)| (*start..start + size).contains(&address.0))
    }

    fn at(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

fn symbols(bytes: &[u8]) -> Vec<(u64, u64, String)> {
    let Ok(elf) = Elf::parse(bytes) else {
        return Vec::new();
    };
    let named = |table: &goblin::elf::Symtab<'_>, names: &goblin::strtab::Strtab<'_>| {
        table
            .iter()
            .filter(|symbol| symbol.is_function() && symbol.st_value != 0)
            .filter_map(|symbol| {
                let name = names.get_at(symbol.st_name)?.to_owned();
                Some((symbol.st_value, symbol.st_size, name))
            })
            .collect::<Vec<_>>()
    };
    let mut all = named(&elf.dynsyms, &elf.dynstrtab);
    all.extend(named(&elf.syms, &elf.strtab));
    all
}

impl ModuleData for Module {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn entry(&self) -> Option<FileAddress> {
        Some(FileAddress(self.entry))
    }

    fn section(&self, section: CfiSection) -> Option<SectionRange> {
        let (address, _, size) = *self.sections.get(name(section))?;
        Some(SectionRange {
            address: FileAddress(address),
            size,
        })
    }

    fn read_section(&self, section: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()> {
        let (_, start, size) = *self.sections.get(name(section))?;
        if offset.checked_add(buf.len() as u64)? > size {
            return None;
        }
        buf.copy_from_slice(self.at(start.checked_add(offset)?, buf.len())?);
        Some(())
    }

    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize {
        let segment = self.segments.iter().find_map(|(start, offset, len)| {
            let into = address.offset_from(FileAddress(*start))?;
            (into < *len).then(|| (offset + into, len - into))
        });
        let Some((offset, left)) = segment else {
            return 0;
        };
        let len = buf.len().min(left as usize);
        match self.at(offset, len) {
            Some(bytes) => buf[..len].copy_from_slice(bytes),
            None => return 0,
        }
        len
    }

    fn function_start(&self, address: FileAddress) -> Option<FileAddress> {
        if self.stripped {
            return None;
        }
        self.symbol(address)
            .map(|(start, _, _)| FileAddress(*start))
    }
}

fn name(section: CfiSection) -> &'static str {
    match section {
        CfiSection::EhFrameHdr => ".eh_frame_hdr",
        CfiSection::EhFrame => ".eh_frame",
        CfiSection::DebugFrame => ".debug_frame",
        CfiSection::ArmIndex => ".ARM.exidx",
    }
}

struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    executable: bool,
    module: Option<(Rc<Module>, u64)>,
}

/// The process.
pub struct Space {
    memory: File,
    mappings: Vec<Mapping>,
    start_stack: u64,
    /// Pages that were read; `None` for those that cannot be.
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE as usize]>>>>,
}

impl Space {
    /// `named` is a twin of the program with its symbols. Files are kept in `files`.
    pub fn of(pid: i32, named: &Path, files: &mut HashMap<String, Rc<Module>>) -> Option<Self> {
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 28, counted from behind the name.
        let fields = stat.rsplit_once(')')?.1.split_whitespace();
        let start_stack = fields.skip(25).nth(0)?.parse().ok()?;
        let mut mappings = Vec::new();
        for line in fs::read_to_string(format!("/proc/{pid}/maps"))
            .ok()?
            .lines()
        {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let end = u64::from_str_radix(end, 16).ok()?;
            let flags = fields.next()?;
            let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
            let path = fields.nth(2).unwrap_or("");
            let executable = flags.contains('x');
            let load = |bytes| {
                let twin = (Path::new(path) == program).then(|| fs::read(named).ok());
                Module::load(path, bytes, twin.flatten().as_deref()).map(Rc::new)
            };
            let module = match path {
                "[vdso]" => {
                    let mut bytes = vec![0; (end - start) as usize];
                    memory.read_exact_at(&mut bytes, start).ok()?;
                    load(bytes)
                }
                _ if executable && path.starts_with('/') => match files.get(path) {
                    Some(module) => Some(Rc::clone(module)),
                    None => load(fs::read(path).ok()?),
                },
                _ => None,
            };
            let module = module.map(|module| {
                files.insert(path.to_owned(), Rc::clone(&module));
                let segment = module
                    .segments
                    .iter()
                    .find(|(_, at, len)| (at & !(PAGE - 1)..at + len).contains(&offset));
                let (address, at, _) = segment.copied().unwrap_or((0, 0, 0));
                let bias = start.wrapping_sub(offset.wrapping_sub(at).wrapping_add(address));
                (module, bias)
            });
            mappings.push(Mapping {
                start,
                end,
                writable: flags.contains('w'),
                executable,
                module,
            });
        }
        Some(Space {
            memory,
            mappings,
            start_stack,
            pages: RefCell::default(),
        })
    }

    fn mapping(&self, address: u64) -> Option<&Mapping> {
        let behind = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(behind.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// The process has run on.
    #[cfg(feature = "dwarf")]
    pub fn forget(&self) {
        self.pages.borrow_mut().clear();
    }

    pub fn located(&self, address: ProcessAddress) -> Option<(&Module, FileAddress)> {
        let (module, bias) = self.mapping(address.0)?.module.as_ref()?;
        Some((module, FileAddress(address.0.wrapping_sub(*bias))))
    }

    fn byte(&self, address: u64) -> Option<u8> {
        let mut pages = self.pages.borrow_mut();
        let page = pages.entry(address / PAGE).or_insert_with(|| {
            let mut page = Box::new([0; PAGE as usize]);
            let start = address / PAGE * PAGE;
            self.memory.read_exact_at(&mut page[..], start).ok()?;
            Some(page)
        });
        Some(page.as_ref()?[(address % PAGE) as usize])
    }
}

impl AddressSpace for Space {
    fn read_memory(&self, address: ProcessAddress, buf: &mut [u8]) -> Option<()> {
        let last = address.0.checked_add(buf.len() as u64)?.checked_sub(1)?;
        let mapping = self.mapping(address.0).filter(|mapping| mapping.writable)?;
        let below_start = address.0 >= self.start_stack || last < self.start_stack;
        let main_stack = (mapping.start..mapping.end).contains(&self.start_stack);
        let arguments = main_stack && address.0 >= self.start_stack;
        if last >= mapping.end || !below_start || arguments {
            return None;
        }
        for (index, byte) in buf.iter_mut().enumerate() {
            *byte = self.byte(address.0 + index as u64)?;
        }
        Some(())
    }

    fn read_code(&self, address: ProcessAddress, buf: &mut [u8]) -> usize {
        match self.mapping(address.0) {
            Some(Mapping {
                module: Some((module, bias)),
                ..
            }) => module.read(FileAddress(address.0.wrapping_sub(*bias)), buf),
            // As the bytes that are captured around the pc.
            Some(mapping) if mapping.executable => {
                let bytes = (address.0..mapping.end).map_while(|address| self.byte(address));
                let filled = buf.iter_mut().zip(bytes).map(|(to, from)| *to = from);
                filled.count()
            }
            _ => 0,
        }
    }

    fn is_executable(&self, address: ProcessAddress) -> bool {
        self.mapping(address.0)
            .is_some_and(|mapping| mapping.executable)
    }

    fn module(&self, address: ProcessAddress) -> Option<Placed> {
        let (module, bias) = self.mapping(address.0)?.module.as_ref()?;
        Some(Placed {
            data: Rc::clone(module) as Rc<dyn ModuleData>,
            bias: *bias,
        })
    }

    fn stack_start(&self) -> Option<ProcessAddress> {
        Some(ProcessAddress(self.start_stack))
    }
}
