//! An aarch64 instruction as we decode it against its text:
//!
//! ```text
//! ldr w0, [x1, w2, uxtw #2]     ldp x29, x30, [sp], #16     ldr x0, 0x1234
//! ```

use segfault_analyzer::crash::registers::Arch;
use segfault_analyzer::decode::{
    decode, Class, Decoded, Extend, Index, Operand, Reg, Target, Touch,
};

use super::listing::Line;
use super::outcome::Outcome;

struct Text<'a> {
    mnemonic: &'a str,
    operands: Vec<&'a str>,
}

/// An address as it is written.
#[derive(Debug, Default, PartialEq)]
struct Written {
    base: Option<Reg>,
    index: Option<Index>,
    displacement: i64,
    opaque: bool,
}

pub fn outcome(line: &Line) -> Outcome {
    let code = line.text.split("//").next().unwrap_or("").trim();
    let mut code = code.split(['<', ';']).next().unwrap_or("").trim();
    if code.is_empty() || code.starts_with('.') || line.bytes.len() != 4 {
        return Outcome::Nothing;
    }
    if let Some((before, _)) = code.split_once('#').filter(|_| code.contains("udf")) {
        code = before;
    }
    let (mnemonic, rest) = code
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((code, ""));
    let text = Text {
        mnemonic,
        operands: split(rest),
    };
    let Some(decoded) = decode(Arch::Aarch64, line.bytes) else {
        return Outcome::Refused(mnemonic.to_owned());
    };
    let operands = decoded.memory().count() as u64;
    match difference(&text, &decoded, line.address) {
        None => Outcome::Same(operands),
        Some(key) => Outcome::Differs(operands, format!("{key}, {mnemonic}")),
    }
}

/// At commas outside of brackets.
pub fn split(text: &str) -> Vec<&str> {
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

pub fn starts_with_any(text: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start))
}

fn difference(text: &Text, decoded: &Decoded, address: u64) -> Option<String> {
    let name = text.mnemonic;
    if decoded.length != 4 {
        return Some("length".into());
    }
    let written: Vec<&str> = text
        .operands
        .iter()
        .copied()
        .filter(|o| o.starts_with('[') && name != "adr")
        .collect();
    let mut ours: Vec<&Operand> = decoded.memory().collect();
    if name.starts_with("cpy") {
        // Written with the destination first.
        ours.reverse();
    }
    let literal = ["ldr", "ldrsw", "prfm"].contains(&name) && written.is_empty();
    let cache = name == "dc" || name == "ic" && text.operands.len() == 2;
    if literal {
        let to = target_number(text.operands.last()?)?;
        let operand = ours.first()?;
        let distance = to.wrapping_sub(address) as i64;
        if operand.base != Some(Reg::pc(Arch::Aarch64)) || operand.displacement != distance {
            return Some("literal address".into());
        }
    } else if cache {
        if privileged_cache(text) {
            return (decoded.class != Class::Privileged).then(|| "class".into());
        }
        let base = register(text.operands.get(1)?);
        if ours.len() != 1
            || ours[0].base != base.filter(|_| *text.operands.get(1).unwrap() != "xzr")
        {
            return Some("cache line".into());
        }
        let touch = if ["zva", "gva", "gzva"].contains(&text.operands[0]) {
            Touch::Write
        } else {
            Touch::Read
        };
        return (ours[0].touch != touch || ours[0].width.is_some()).then(|| "cache touch".into());
    } else if written.len() != ours.len() {
        return Some(format!("{} operands for {}", ours.len(), written.len()));
    }
    for (at, (text_of, operand)) in written.iter().zip(&ours).enumerate() {
        let Some(read) = read(text_of) else {
            return Some(format!("cannot read {text_of}"));
        };
        if let Some(key) = address_differs(text, &read, operand) {
            return Some(key);
        }
        let touch = touch(name, at);
        if operand.touch != touch {
            return Some(format!("touch {:?} for {touch:?}", operand.touch));
        }
    }
    if let Some(operand) = ours.first() {
        let width = width(text);
        if operand.width != width {
            return Some(format!("width {:?} for {width:?}", operand.width));
        }
        let alignment = alignment(name, width);
        if operand.alignment != alignment {
            return Some(format!("alignment {} for {alignment}", operand.alignment));
        }
    }
    if let Some(class) = class(text) {
        if decoded.class != class {
            return Some(format!("class {:?} for {class:?}", decoded.class));
        }
    }
    let target = target(text, address);
    if decoded.target != target {
        return Some(format!("target {:?} for {target:?}", decoded.target));
    }
    None
}

fn address_differs(text: &Text, read: &Written, operand: &Operand) -> Option<String> {
    let name = text.mnemonic;
    let authenticated = starts_with_any(name, &["ldraa", "ldrab"]);
    let staged = starts_with_any(name, &["cpy", "set"]);
    if read.opaque || authenticated || staged {
        let base = operand.base.is_none() || operand.base == read.base;
        let exact = authenticated && operand.displacement != read.displacement;
        return (!operand.opaque || !base || exact).then(|| "opaque address".into());
    }
    // Only contiguous accesses of vectors are known.
    if operand.opaque && operand.partial {
        return (operand.base.is_some() && operand.base != read.base).then(|| "vector base".into());
    }
    let mut displacement = read.displacement;
    // Written without a number, as there is but one.
    if name.starts_with("stilp") && text.operands.last()?.ends_with('!') {
        displacement = -i64::from(operand.width?);
    }
    let same = !operand.opaque
        && operand.base == read.base
        && operand.index == read.index
        && operand.displacement == displacement
        && operand.segment.is_none()
        && operand.bit_offset.is_none()
        && operand.address_bytes == 8;
    (!same).then(|| "address".into())
}

/// `[x1, w2, uxtw #2]!`
fn read(text: &str) -> Option<Written> {
    let inside = text.strip_prefix('[')?.split(']').next()?;
    let mut written = Written::default();
    for (at, part) in inside.split(',').map(str::trim).enumerate() {
        if let Some(number) = part.strip_prefix('#') {
            written.displacement = super::intel::number(number)?;
        } else if part.contains("vl") || part.starts_with('z') && part != "xzr" {
            written.opaque = true;
        } else if part == "xzr" {
            continue;
        } else if let Some(register) = register(part) {
            if at == 0 {
                written.base = Some(register);
            } else {
                written.index = Some(Index {
                    register,
                    extend: Extend::Whole,
                    shift: 0,
                });
            }
        } else {
            let (how, shift) = part.split_once('#').unwrap_or((part, "0"));
            if let Some(index) = &mut written.index {
                index.shift = shift.parse().ok()?;
                index.extend = match how.trim() {
                    "uxtw" => Extend::UnsignedWord,
                    "sxtw" => Extend::SignedWord,
                    "lsl" | "sxtx" => Extend::Whole,
                    _ => return None,
                };
            }
        }
    }
    if written.opaque && written.displacement != 0 && !inside.contains("vl") {
        written.displacement = 0;
    }
    Some(written)
}

/// `x0`, `w0`, `sp`
fn register(name: &str) -> Option<Reg> {
    if name == "sp" {
        return Some(Reg(31));
    }
    let number: u8 = name.strip_prefix(['x', 'w'])?.parse().ok()?;
    (number < 31).then_some(Reg(number))
}

const OPERATIONS: [&str; 8] = ["add", "clr", "eor", "set", "smax", "smin", "umax", "umin"];

/// Whether it reads and writes in one.
fn is_atomic(name: &str) -> bool {
    let rest = name.strip_prefix("ld").or(name.strip_prefix("st"));
    let operation = rest.is_some_and(|rest| starts_with_any(rest, &OPERATIONS));
    operation || starts_with_any(name, &["cas", "swp", "rcw"])
}

fn touch(name: &str, at: usize) -> Touch {
    match name {
        _ if name.starts_with("prf") || name.starts_with("rprf") => Touch::Nothing,
        _ if is_atomic(name) => Touch::ReadWrite,
        _ if name.starts_with("cpy") && at == 1 => Touch::Read,
        _ if starts_with_any(name, &["st", "cpy", "set", "gcsst"]) => Touch::Write,
        _ => Touch::Read,
    }
}

/// Bytes by the name of a register: `w0`, `q0`
fn register_bytes(name: &str) -> Option<u16> {
    Some(match name.chars().next()? {
        'b' => 1,
        'h' => 2,
        'w' | 's' => 4,
        'x' | 'd' => 8,
        'q' => 16,
        _ => return None,
    })
}

fn width(text: &Text) -> Option<u16> {
    let name = text.mnemonic;
    let first = *text.operands.first()?;
    if first.starts_with('{') && first.contains('v') {
        return structure_width(text, first);
    }
    // Scalable, but for these.
    if starts_with_any(name, &["ld1rq", "ld1ro"]) {
        return Some(if name.starts_with("ld1rq") { 16 } else { 32 });
    }
    let scalable = first.starts_with(['{', 'z', 'p'])
        || name.starts_with("ld1")
        || name.starts_with("st1")
        || first.starts_with("za");
    if scalable || starts_with_any(name, &["prf", "rprf", "ldg", "stgm", "stzgm", "cpy", "set"]) {
        return None;
    }
    if starts_with_any(name, &["st2g", "stz2g"]) {
        return Some(32);
    }
    if name == "stg" || name == "stzg" || name == "stgp" {
        return Some(16);
    }
    if starts_with_any(name, &["ld64b", "st64b"]) {
        return Some(64);
    }
    if starts_with_any(name, &["ldraa", "ldrab"]) {
        return Some(8);
    }
    if let Some(operation) = name.strip_prefix("rcw") {
        // The s of rcws, which is not that of swp and set.
        let operation = match operation.strip_prefix('s') {
            Some(rest) if !starts_with_any(rest, &["wp", "et"]) => rest,
            _ => operation,
        };
        let pair = starts_with_any(operation, &["casp", "clrp", "swpp", "setp"]);
        return Some(if pair { 16 } else { 8 });
    }
    if starts_with_any(name, &["ldclrp", "ldsetp", "swpp"]) {
        return Some(16);
    }
    // The status comes first.
    let status = starts_with_any(name, &["stxr", "stlxr", "stxp", "stlxp"]);
    let bytes = register_bytes(text.operands.get(usize::from(status))?)?;
    if name.ends_with("sw") {
        return Some(if name.starts_with("ldp") { 8 } else { 4 });
    }
    let pair = starts_with_any(
        name,
        &[
            "ldp", "stp", "ldnp", "stnp", "ldxp", "ldaxp", "stxp", "stlxp", "casp", "ldiapp",
            "stilp",
        ],
    );
    Some(match name {
        _ if pair => 2 * bytes,
        _ if name.ends_with('b') && name != "ldrab" => 1,
        _ if name.ends_with('h') => 2,
        _ => bytes,
    })
}

/// `{ v0.16b, v1.16b }`, `{ v0.b }[3]`, `{v0.16b-v3.16b}`
fn structure_width(text: &Text, list: &str) -> Option<u16> {
    let inside = list.strip_prefix('{')?.split('}').next()?;
    let number = |name: &str| -> Option<u16> {
        name.trim()
            .strip_prefix('v')?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let count = match inside.split_once('-') {
        Some((from, to)) => (number(to)? + 32 - number(from)?) % 32 + 1,
        None => inside.split(',').count() as u16,
    };
    let kind = inside
        .split(['.', ',', '-', ' '])
        .find(|part| part.ends_with(['b', 'h', 's', 'd']))?;
    let element = register_bytes(&kind[kind.len() - 1..])?;
    let lanes: u16 = kind[..kind.len() - 1].parse().unwrap_or(1);
    let one = list.contains("}[") || text.mnemonic.ends_with('r');
    Some(count * element * if one { 1 } else { lanes })
}

fn alignment(name: &str, width: Option<u16>) -> u16 {
    let tags = ["stg", "stzg", "st2g", "stz2g", "stgp"];
    let ordered = [
        "ldx", "ldax", "stx", "stlx", "ldar", "stlr", "ldlar", "stllr", "ldap", "stlu", "ldiapp",
        "stilp", "gcsst", "ld64b", "st64b", "stl1",
    ];
    if tags.contains(&name) {
        return 16;
    }
    if is_atomic(name) || starts_with_any(name, &ordered) {
        return width.unwrap_or(1);
    }
    1
}

fn privileged_cache(text: &Text) -> bool {
    ![
        "zva", "gva", "gzva", "cvac", "cgvac", "cgdvac", "cvau", "cvap", "cgvap", "cgdvap",
        "cvadp", "cgvadp", "cgdvadp", "civac", "cigvac", "cigdvac", "ivau", "cvaoc", "civaoc",
    ]
    .contains(&text.operands[0])
}

/// By the name; `None` where that does not tell.
fn class(text: &Text) -> Option<Class> {
    let name = text.mnemonic;
    Some(match name {
        "svc" => Class::SystemCall,
        "brk" | "hlt" => Class::Breakpoint,
        "udf" => Class::Undefined,
        "bl" | "blr" => Class::Call,
        _ if starts_with_any(name, &["blra"]) => Class::Call,
        "b" | "br" | "cbz" | "cbnz" | "tbz" | "tbnz" => Class::Jump,
        _ if starts_with_any(name, &["b.", "bc.", "bra"]) => Class::Jump,
        _ if name.starts_with("ret") => Class::Return,
        "hvc" | "smc" | "dcps1" | "dcps2" | "dcps3" | "drps" | "tlbi" | "tlbip" | "at" | "ldgm"
        | "stgm" | "stzgm" => Class::Privileged,
        _ if name.starts_with("eret") => Class::Privileged,
        "msr" | "mrs" => {
            let register = text.operands.iter().find(|o| o.contains("_el"));
            if register.is_some_and(|r| r.to_ascii_lowercase().ends_with(['1', '2', '3'])) {
                Class::Privileged
            } else {
                return None;
            }
        }
        "sys" | "sysl" | "sysp" | "msrr" | "mrrs" | "cfp" | "dvp" | "cpp" | "cosp" | "ic"
        | "dc" | "brb" | "gcspushm" => return None,
        "gcsstr" | "gcssttr" => Class::Other,
        _ if starts_with_any(name, &["gcs", "trcit"]) => return None,
        _ => Class::Other,
    })
}

pub fn target_number(operand: &str) -> Option<u64> {
    let operand = operand.strip_prefix('#').unwrap_or(operand);
    let digits = operand.strip_prefix("0x").unwrap_or(operand);
    u64::from_str_radix(digits, 16).ok()
}

fn target(text: &Text, address: u64) -> Option<Target> {
    let name = text.mnemonic;
    match class(text)? {
        Class::Return if name == "ret" => Some(Target::Register(
            text.operands
                .first()
                .map_or(Some(Reg(30)), |name| register(name))?,
        )),
        Class::Return => Some(Target::Register(Reg(30))),
        Class::Call | Class::Jump => {
            if name.starts_with("br") || name.starts_with("blr") {
                return register(text.operands.first()?).map(Target::Register);
            }
            let to = target_number(text.operands.last()?)?;
            Some(Target::Near(to.wrapping_sub(address) as i64))
        }
        _ => None,
    }
}
