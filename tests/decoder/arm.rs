//! An instruction of 32-bit ARM as we decode it against its text:
//!
//! ```text
//! ldrne r0, [r1, -r2, lsl #2]     stmdb r0!, {r1, r2}     vld2.8 {d0[1], d1[1]}, [r2:16]
//! ```

use segfault_analyzer::base::address::ProcessAddress;
use segfault_analyzer::decode::{
    decode_arm, Class, Decoded, Extend, Index, Operand, Reg, Target, Touch,
};

use super::arm64::{split, starts_with_any, target_number};
use super::listing::Line;
use super::outcome::Outcome;

const CONDITIONS: [&str; 18] = [
    "", "eq", "ne", "cs", "hs", "cc", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt",
    "le", "al",
];
/// What a tool writes where it knows no instruction, or one that must not be.
const UNKNOWN: &[&str] = &[
    "<unknown>",
    "UNDEFINED",
    "undefined",
    "<und>",
    "<invalid",
    "<bad",
    "FPSCR",
    "FPCXT",
    "VPR",
    "UNPREDICTABLE",
    "llegal",
    "overflow",
    "??",
];
/// Of processors without an MMU, and of coprocessors that only GNU knows.
const OTHERS: &[&str] = &[
    "bf", "bfl", "bfx", "bflx", "bfcsel", "le", "letp", "wls", "dls", "wlstp", "dlstp", "lctp",
    "clrm", "vlldm", "vlstm", "vscclrm", "cfld", "cfst", "lfm", "sfm", "ldf", "stf",
];

struct Text<'a> {
    thumb: bool,
    /// Bytes of an element, as `.16` has it.
    element: Option<u16>,
    address: u64,
    /// Without its condition.
    name: &'a str,
    operands: Vec<&'a str>,
}

struct Wanted {
    touch: Touch,
    width: Option<u16>,
    alignment: u16,
    partial: bool,
    base: Option<Reg>,
    index: Option<Index>,
    displacement: i64,
    opaque: bool,
}

/// What one tool alone shows: hints without a meaning, what must not be, lists of
/// vectors that LLVM cuts at the last register and GNU counts in a circle, and
/// coprocessors whose numbers are instructions of vectors by now.
fn has_no_meaning(thumb: bool, name: &str, rest: &str, bytes: &[u8]) -> bool {
    let hint = name.starts_with("pl") && !thumb;
    let list = starts_with_any(name, &["vldm", "vstm", "vpush", "vpop", "fld", "fst"]);
    let words = bytes.get(if thumb { 2 } else { 0 });
    let cut = |list: &str| {
        let all = list.contains("31}") || list.matches('d').count() >= 16;
        !list.contains('-') && all || words.is_some_and(|words| *words > 64)
    };
    hint && (rest.contains("],") || bytes[3] & 2 != 0 && bytes[0] & 0x10 != 0)
        || thumb && name.starts_with("ldrsh") && rest.starts_with("pc")
        || name.starts_with("rfe") && rest.starts_with('#')
        || list && cut(rest)
        || rest.starts_with("P0")
        || starts_with_any(name, &["ldc2", "stc2"])
            && starts_with_any(rest, &["8", "9", "12", "13"])
}

pub fn outcome(thumb: bool, line: &Line) -> Outcome {
    let code = line.text.split(['@', ';']).next().unwrap_or("").trim();
    let (mnemonic, rest) = code
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((code, ""));
    let name = known(mnemonic);
    let none = UNKNOWN.iter().any(|word| line.text.contains(word))
        || code.is_empty()
        || mnemonic.starts_with('.')
        || has_no_meaning(thumb, name, rest, line.bytes)
        || OTHERS.contains(&name)
        || starts_with_any(mnemonic, &["cfld", "cfst", "lfm", "sfm", "ldf", "stf"]);
    if none {
        return Outcome::Nothing;
    }
    let Some(decoded) = decode_arm(thumb, ProcessAddress(line.address), line.bytes) else {
        return Outcome::Refused(mnemonic.to_owned());
    };
    let text = Text {
        thumb,
        element: mnemonic
            .split('.')
            .nth(1)
            .and_then(|bits| bits.parse::<u16>().ok())
            .map(|bits| bits / 8),
        address: line.address,
        name,
        operands: split(rest.split('<').next().unwrap_or("")),
    };
    let operands = decoded.memory().count() as u64;
    if usize::from(decoded.length) != line.bytes.len() {
        return Outcome::Differs(operands, format!("length, {mnemonic}"));
    }
    match difference(&text, &decoded) {
        None => Outcome::Same(operands),
        Some(key) => Outcome::Differs(operands, format!("{key}, {name}")),
    }
}

const NAMES: &[&str] = &[
    "ldr", "ldrt", "ldrb", "ldrbt", "ldrh", "ldrht", "ldrsb", "ldrsbt", "ldrsh", "ldrsht", "ldrd",
    "str", "strt", "strb", "strbt", "strh", "strht", "strd", "ldrex", "ldrexb", "ldrexh", "ldrexd",
    "strex", "strexb", "strexh", "strexd", "lda", "ldab", "ldah", "ldaex", "ldaexb", "ldaexh",
    "ldaexd", "stl", "stlb", "stlh", "stlex", "stlexb", "stlexh", "stlexd", "swp", "swpb", "pld",
    "pldw", "pli", "tbb", "tbh", "ldm", "ldmia", "ldmib", "ldmda", "ldmdb", "ldmfd", "ldmea",
    "stm", "stmia", "stmib", "stmda", "stmdb", "stmfd", "stmea", "push", "pop", "vldr", "vstr",
    "vldmia", "vldmdb", "vstmia", "vstmdb", "vpush", "vpop", "ldc", "ldcl", "ldc2", "ldc2l", "stc",
    "stcl", "stc2", "stc2l", "rfeda", "rfeia", "rfedb", "rfeib", "b", "bl", "blx", "bx", "bxj",
    "svc", "fldmiax", "fldmdbx", "fstmiax", "fstmdbx",
];

/// The name without condition and width, where both follow.
fn known(mnemonic: &str) -> &str {
    let plain = mnemonic.split('.').next().unwrap_or(mnemonic);
    let found = NAMES.iter().find(|name| {
        let rest = plain.strip_prefix(**name);
        rest.is_some_and(|rest| CONDITIONS.contains(&rest))
    });
    // bls is b with a condition, and no bl.
    let branch = plain
        .strip_prefix('b')
        .filter(|rest| CONDITIONS.contains(rest));
    match (branch, found) {
        (Some(_), _) => "b",
        (_, Some(name)) => name,
        _ => plain,
    }
}

fn difference(text: &Text, decoded: &Decoded) -> Option<String> {
    let ours: Vec<&Operand> = decoded.memory().collect();
    let wanted = match wanted(text) {
        Ok(wanted) => wanted,
        Err(what) => return Some(format!("cannot read {what}")),
    };
    if ours.len() != usize::from(wanted.is_some()) {
        return Some(format!("{} operands", ours.len()));
    }
    if let (Some(wanted), Some(operand)) = (wanted, ours.first()) {
        let of_one = text
            .operands
            .first()
            .is_some_and(|list| list.starts_with('{'));
        let checks = [
            (operand.touch == wanted.touch, "touch"),
            (operand.width == wanted.width, "width"),
            // A single register is pushed by str.
            (
                operand.alignment == wanted.alignment || of_one && operand.alignment == 1,
                "alignment",
            ),
            (operand.partial == wanted.partial, "partial"),
            (operand.base == wanted.base, "base"),
            (operand.opaque == wanted.opaque, "opaque"),
            (operand.opaque || operand.index == wanted.index, "index"),
            (
                operand.opaque || operand.displacement == wanted.displacement,
                "displacement",
            ),
            (operand.address_bytes == 4, "address bytes"),
        ];
        if let Some((_, what)) = checks.iter().find(|(same, _)| !same) {
            return Some((*what).to_owned());
        }
    }
    let (class, target) = class_and_target(text);
    if class.is_some_and(|class| class != decoded.class) {
        return Some(format!("class {:?} for {class:?}", decoded.class));
    }
    let near = |target| match target {
        Some(Target::Near(distance)) => Some(text.address.wrapping_add(distance as u64) as u32),
        _ => None,
    };
    let same =
        target == decoded.target || near(target).is_some() && near(target) == near(decoded.target);
    (class.is_some() && !same).then(|| format!("target {:?} for {target:?}", decoded.target))
}

/// Bytes by the end of a name, after `ldr` and its like.
fn bytes_of(rest: &str) -> u16 {
    let rest = rest.trim_start_matches("ex").trim_start_matches('s');
    match rest.chars().next() {
        Some('b') => 1,
        Some('h') => 2,
        Some('d') => 8,
        _ => 4,
    }
}

/// What the text says of memory; nothing for what has no operand there.
fn wanted(text: &Text) -> Result<Option<Wanted>, String> {
    let name = text.name;
    let load = |is_load| if is_load { Touch::Read } else { Touch::Write };
    if starts_with_any(name, &["vld", "vst", "vpush", "vpop", "fld", "fst"]) {
        return vector(text).map(Some);
    }
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    if name.starts_with('b') || name == "svc" {
        return Ok(None);
    }
    if starts_with_any(name, &["ldm", "stm", "push", "pop", "rfe"]) {
        return several(text).map(Some);
    }
    let mut wanted = address(text)?;
    match name {
        "pld" | "pldw" | "pli" => return Ok(Some(wanted)),
        "tbb" | "tbh" => {
            wanted.width = Some(if name == "tbb" { 1 } else { 2 });
            wanted.touch = Touch::Read;
            return Ok(Some(wanted));
        }
        _ if starts_with_any(name, &["ldc", "stc"]) => {
            wanted.touch = load(name.starts_with('l'));
            wanted.alignment = 4;
            return Ok(Some(wanted));
        }
        "swp" | "swpb" => wanted.touch = Touch::ReadWrite,
        _ => wanted.touch = load(name.starts_with('l')),
    }
    let rest = name
        .trim_start_matches("ldr")
        .trim_start_matches("str")
        .trim_start_matches("lda")
        .trim_start_matches("stl")
        .trim_start_matches("swp");
    let width = bytes_of(rest);
    wanted.width = Some(width);
    let exclusive = rest.starts_with("ex");
    let atomic = exclusive || starts_with_any(name, &["lda", "stl", "swp"]);
    wanted.alignment = match width {
        _ if atomic => width,
        8 => 4,
        _ => 1,
    };
    wanted.partial = exclusive && name.starts_with("st");
    Ok(Some(wanted))
}

/// ldm, stm, push, pop, rfe
fn several(text: &Text) -> Result<Wanted, String> {
    let name = text.name;
    let (base, list) = match text.operands[..] {
        [list] if name == "push" || name == "pop" => ("sp", list),
        [base] if name.starts_with("rfe") => (base, "{a, b}"),
        [base, list] => (base, list),
        _ => return Err(format!("{:?}", text.operands)),
    };
    let inside = list.trim_start_matches('{').split('}').next().unwrap_or("");
    let count = inside
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .count() as i64;
    let displacement = match name {
        "push" => -4 * count,
        "pop" => 0,
        _ => match (&name[3..], name.starts_with('s')) {
            ("ib", _) => 4,
            ("da", _) => 4 - 4 * count,
            ("db", _) | ("ea", false) | ("fd", true) => -4 * count,
            _ => 0,
        },
    };
    let mut wanted = at(base);
    wanted.touch = match name.starts_with('s') || name == "push" {
        true => Touch::Write,
        false => Touch::Read,
    };
    wanted.width = Some(4 * count as u16);
    wanted.alignment = 4;
    wanted.displacement = displacement;
    Ok(wanted)
}

fn at(base: &str) -> Wanted {
    Wanted {
        touch: Touch::Nothing,
        width: None,
        alignment: 1,
        partial: false,
        base: register(base.trim_end_matches('!').trim()),
        index: None,
        displacement: 0,
        opaque: false,
    }
}

/// `[r1, -r2, lsl #2]!`
fn address(text: &Text) -> Result<Wanted, String> {
    let written = text
        .operands
        .iter()
        .find(|operand| operand.starts_with('['));
    let written = *written.ok_or_else(|| format!("{:?}", text.operands))?;
    let inside = written[1..].split(']').next().unwrap_or("");
    let mut wanted = at("");
    for (at, part) in inside.split(',').map(str::trim).enumerate() {
        let (sign, plain) = match part.strip_prefix('-') {
            Some(plain) => (Extend::Negated, plain),
            None => (Extend::Whole, part),
        };
        if at == 0 {
            // `r5 :64`, `r5:64`
            let (base, alignment) = plain.split_once(':').unwrap_or((plain, "8"));
            wanted.base = register(base.trim());
            wanted.alignment = alignment.trim().parse::<u16>().map_err(|_| inside)? / 8;
        } else if let Some(number) = part.strip_prefix('#') {
            wanted.displacement = super::intel::number(number).ok_or(inside)?;
        } else if let Some(register) = register(plain) {
            wanted.index = Some(Index {
                register,
                extend: sign,
                shift: 0,
            });
        } else if let Some(shift) = part.strip_prefix("lsl #") {
            let index = wanted.index.as_mut().ok_or(inside)?;
            index.shift = super::intel::number(shift).ok_or(inside)? as u8;
        } else {
            wanted.opaque = true;
        }
    }
    // The others must not have the pc, and tools show it as it is.
    let literal = !text.name.contains("ex")
        && !starts_with_any(text.name, &["lda", "stl"])
        && !starts_with_any(
            text.name,
            &[
                "vld1", "vld2", "vld3", "vld4", "vst1", "vst2", "vst3", "vst4",
            ],
        );
    if wanted.base == Some(Reg(15)) && literal {
        wanted.displacement += match (text.thumb, text.name) {
            (false, _) => 8,
            (true, "tbb" | "tbh") => 4,
            _ => 4 - (text.address & 2) as i64,
        };
    }
    Ok(wanted)
}

fn register(name: &str) -> Option<Reg> {
    Some(Reg(match name {
        "sl" => 10,
        "fp" => 11,
        "ip" => 12,
        "sp" => 13,
        "lr" => 14,
        "pc" => 15,
        _ => name
            .strip_prefix('r')?
            .parse()
            .ok()
            .filter(|number| *number < 16)?,
    }))
}

/// Registers in `{d0-d3}`, `{d0, d2}`, `{d0[]-d1[]}`, and the first one's letter.
fn vectors(list: &str) -> Option<(i64, char)> {
    let inside = list.strip_prefix('{')?.split('}').next()?;
    let mut count = 0;
    for part in inside.split(',').map(str::trim) {
        let number = |name: &str| name.trim()[1..].split('[').next()?.parse::<i64>().ok();
        count += match part.split_once('-') {
            Some((from, to)) => number(to)? - number(from)? + 1,
            None => 1,
        };
    }
    Some((count, inside.chars().next()?))
}

fn vector(text: &Text) -> Result<Wanted, String> {
    let name = text.name;
    let unread = || format!("{:?}", text.operands);
    let touch = match name.contains("st") || name == "vpush" {
        true => Touch::Write,
        false => Touch::Read,
    };
    if name == "vldr" || name == "vstr" {
        let mut wanted = address(text)?;
        wanted.touch = touch;
        let half = text.element == Some(2);
        wanted.alignment = if half { 1 } else { 4 };
        wanted.width = match text.operands.first().and_then(|first| first.chars().next()) {
            _ if half => Some(2),
            Some('d') => Some(8),
            _ => Some(4),
        };
        return Ok(wanted);
    }
    let list = text
        .operands
        .iter()
        .find(|operand| operand.starts_with('{'));
    let list = list.ok_or_else(unread)?;
    let (count, letter) = vectors(list).ok_or_else(unread)?;
    if name.len() == 4 && name.ends_with(|c: char| c.is_ascii_digit()) {
        let mut wanted = address(text)?;
        wanted.touch = touch;
        wanted.width = Some(match list.contains('[') {
            true => u16::from(name.as_bytes()[3] - b'0') * text.element.ok_or_else(unread)?,
            false => 8 * count as u16,
        });
        return Ok(wanted);
    }
    let bytes = count * if letter == 's' { 4 } else { 8 };
    let base = match name {
        "vpush" | "vpop" => "sp",
        _ => text.operands[0],
    };
    let mut wanted = at(base);
    wanted.touch = touch;
    wanted.width = Some(bytes as u16);
    wanted.alignment = 4;
    if name == "vpush" || name.contains("db") {
        // fstmdbx goes down by a word more.
        wanted.displacement = -bytes - if name.ends_with('x') { 4 } else { 0 };
    }
    if base == "pc" || wanted.base == Some(Reg(15)) {
        wanted.displacement += if text.thumb {
            4 - (text.address & 2) as i64
        } else {
            8
        };
    }
    Ok(wanted)
}

/// By the name; no class where that does not tell.
fn class_and_target(text: &Text) -> (Option<Class>, Option<Target>) {
    let first = text.operands.first().copied().unwrap_or("");
    let last = text.operands.last().copied().unwrap_or("");
    let to = || {
        let to = target_number(last)?;
        Some(Target::Near(
            to.wrapping_sub(text.address) as u32 as i32 as i64
        ))
    };
    let class = match (text.name, register(first)) {
        ("b" | "cbz" | "cbnz", _) => return (Some(Class::Jump), to()),
        ("bl", _) | ("blx", None) => return (Some(Class::Call), to()),
        ("blx", Some(register)) => return (Some(Class::Call), Some(Target::Register(register))),
        ("bx" | "bxj", Some(register)) => {
            let class = if register == Reg(14) {
                Class::Return
            } else {
                Class::Jump
            };
            return (Some(class), Some(Target::Register(register)));
        }
        ("svc", _) => Class::SystemCall,
        ("udf", _) => Class::Undefined,
        ("bkpt" | "hlt", _) => Class::Breakpoint,
        ("tbb" | "tbh", _) => Class::Jump,
        ("pop", _) if first.contains("pc") => return (Some(Class::Return), Some(Target::Loaded)),
        _ => return (None, None),
    };
    (Some(class), None)
}
