//! What a listing in Intel's syntax says of memory, of either disassembler:
//!
//! ```text
//! mov    rax,QWORD PTR fs:[rcx+rdx*8-0x10]        GNU
//! mov    rax, qword ptr fs:[rcx + 8*rdx - 0x10]   LLVM
//! ```

use segfault_analyzer::decode::{Reg, Segment};

/// An operand in memory as it is written.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    /// Which operand of the instruction it is, from 0.
    pub position: usize,
    pub segment: Option<Segment>,
    pub base: Option<Reg>,
    pub index: Option<(Reg, u8)>,
    pub vector_index: bool,
    pub displacement: i64,
    /// By the size of its registers.
    pub address_bytes: Option<u8>,
    pub width: Option<u16>,
}

/// An instruction as it is written.
#[derive(Debug, Default)]
pub struct Text<'a> {
    pub prefixes: Vec<&'a str>,
    pub mnemonic: &'a str,
    pub operands: Vec<&'a str>,
    pub memory: Vec<Written>,
}

/// `None` for what is no instruction.
pub fn read(text: &str, long: bool) -> Option<Text<'_>> {
    let code = text.split(['#', '<']).next()?.trim();
    if text.starts_with(['.', '<'])
        || code.contains("(bad)")
        || code.contains("{bad}")
        || code.contains('?')
        || code.is_empty()
    {
        return None;
    }
    let mut read = Text::default();
    let mut rest = code;
    loop {
        let (word, after) = rest
            .split_once(|c: char| c.is_ascii_whitespace())
            .unwrap_or((rest, ""));
        rest = after.trim_start();
        if is_prefix(word) {
            read.prefixes.push(word);
        } else {
            read.mnemonic = word;
            break;
        }
    }
    if read.mnemonic.is_empty() || needs_apx(rest) {
        return None;
    }
    for (position, operand) in split(rest).into_iter().enumerate() {
        read.operands.push(operand);
        if let Some(mut written) = memory(operand, long) {
            written.position = position;
            read.memory.push(written);
        }
    }
    Some(read)
}

/// r16 to r31, which LLVM knows and no processor on sale has.
fn needs_apx(operands: &str) -> bool {
    operands
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.strip_prefix('r'))
        .filter_map(|word| word.trim_end_matches(['d', 'w', 'b']).parse::<u8>().ok())
        .any(|number| number >= 16)
}

fn is_prefix(word: &str) -> bool {
    let simple = [
        "lock", "rep", "repz", "repnz", "repe", "repne", "data16", "data32", "addr32", "addr16",
        "cs", "ds", "es", "ss", "fs", "gs", "bnd", "notrack", "xacquire", "xrelease", "{evex}",
        "{vex}", "{vex3}",
    ];
    simple.contains(&word) || word.starts_with("rex")
}

/// At commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut from = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

const SIZES: [(&str, u16); 10] = [
    ("byte", 1),
    ("word", 2),
    ("dword", 4),
    ("fword", 6),
    ("qword", 8),
    ("tbyte", 10),
    ("xmmword", 16),
    ("oword", 16),
    ("ymmword", 32),
    ("zmmword", 64),
];

fn memory(operand: &str, long: bool) -> Option<Written> {
    let mut written = Written::default();
    let lower = operand.to_ascii_lowercase();
    let mut rest = lower.as_str();
    for mark in [" ptr", " bcst"] {
        if let Some((size, after)) = rest.split_once(mark) {
            let known = SIZES.iter().find(|(name, _)| *name == size);
            written.width = Some(known.unwrap_or_else(|| panic!("size of {operand}")).1);
            rest = after.trim_start();
        }
    }
    let mut named = false;
    if let Some((segment, after)) = rest.split_once(':') {
        written.segment = match segment {
            "fs" => Some(Segment::Fs),
            "gs" => Some(Segment::Gs),
            "cs" | "ds" | "es" | "ss" => None,
            _ => return None,
        };
        named = true;
        rest = after;
    }
    let inside = match rest.strip_prefix('[') {
        Some(inside) => inside.split(']').next()?,
        None if named => rest.split('{').next()?,
        None => return None,
    };
    // Turned into terms with a sign each.
    let flat = inside.replace(' ', "").replace('-', "+-");
    for term in flat.split('+').filter(|term| !term.is_empty()) {
        let (a, b) = term.split_once('*').unwrap_or((term, ""));
        if let Some(number) = number(term) {
            written.displacement = written.displacement.wrapping_add(number);
            continue;
        }
        let (name, scale) = if a.parse::<u8>().is_ok() {
            (b, a)
        } else {
            (a, b)
        };
        if ["riz", "eiz"].contains(&name) {
            written.address_bytes = Some(if name == "riz" { 8 } else { 4 });
            continue;
        }
        if ["xmm", "ymm", "zmm"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            written.vector_index = true;
            continue;
        }
        let Some((register, bytes)) = register(name, long) else {
            panic!("register {name} in {operand}");
        };
        written.address_bytes = Some(bytes);
        let shift = match scale {
            "" | "1" => 0,
            "2" => 1,
            "4" => 2,
            _ => 3,
        };
        // GNU writes *1 behind an index, LLVM does not.
        if written.base.is_none() && scale.is_empty() {
            written.base = Some(register);
        } else {
            written.index = Some((register, shift));
        }
    }
    Some(written)
}

/// `0x10`, `-0x10`
pub fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()? as i64,
        None => digits.parse().ok()?,
    };
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// In the order of DWARF numbers.
const NAMES_64: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];
const NAMES_32: [&str; 17] = [
    "eax", "edx", "ecx", "ebx", "esi", "edi", "ebp", "esp", "r8d", "r9d", "r10d", "r11d", "r12d",
    "r13d", "r14d", "r15d", "eip",
];
const NAMES_16: [&str; 16] = [
    "ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w",
    "r14w", "r15w",
];
/// The same of 32-bit code.
const SHORT_32: [&str; 9] = [
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
];
const SHORT_16: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];

/// A general register and its size.
pub fn register(name: &str, long: bool) -> Option<(Reg, u8)> {
    let tables: [(&[&str], u8); 3] = match long {
        true => [(&NAMES_64, 8), (&NAMES_32, 4), (&NAMES_16, 2)],
        false => [(&[], 8), (&SHORT_32, 4), (&SHORT_16, 2)],
    };
    tables.iter().find_map(|(names, bytes)| {
        let number = names.iter().position(|known| *known == name)?;
        Some((Reg(number as u8), *bytes))
    })
}
