//! An x86 instruction as we decode it against its text.

use segfault_analyzer::crash::registers::Arch;
use segfault_analyzer::decode::{
    decode, step, Class, Decoded, Effect, Extend, Index, Operand, Reg, Target, Touch,
};

use super::intel::{self, Text, Written};
use super::listing::{Line, Machine, Tool};
use super::outcome::Outcome;
use super::stack;

pub fn outcome(tool: Tool, machine: Machine, line: &Line) -> Outcome {
    let long = machine == Machine::X86_64;
    let arch = if long { Arch::X86_64 } else { Arch::I386 };
    let (Some(bytes), Some(text)) = (comparable(line.bytes, long), intel::read(line.text, long))
    else {
        return Outcome::Nothing;
    };
    let Some(decoded) = decode(arch, bytes) else {
        return Outcome::Refused(text.mnemonic.to_owned());
    };
    let operands = text.memory.len() as u64;
    let differs = if usize::from(decoded.length) != bytes.len() {
        Some(format!("length {}", decoded.length))
    } else {
        difference(tool, long, line.address, &text, &decoded)
            .or_else(|| moved(arch, bytes, line.address, &text))
    };
    match differs {
        None => Outcome::Same(operands),
        Some(key) => Outcome::Differs(operands, format!("{key}, {}", text.mnemonic)),
    }
}

/// The length and what becomes of the stack pointer.
fn moved(arch: Arch, bytes: &[u8], address: u64, text: &Text) -> Option<String> {
    let expected = stack::expected(arch == Arch::X86_64, bytes, address, text)?;
    let ours = step(arch, bytes);
    let agrees = ours.is_some_and(|ours| {
        // Those of 32-bit code are written without their sign.
        let effect = match (arch, ours.effect, expected) {
            (Arch::I386, Effect::Take(ours), Effect::Take(theirs)) => ours as i32 == theirs as i32,
            (_, ours, theirs) => ours == theirs,
        };
        usize::from(ours.length) == bytes.len() && effect
    });
    (!agrees).then(|| format!("stack: {ours:?} for {expected:?}"))
}

const SEGMENTS: [u8; 6] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

/// What tools take as one instruction and no processor does so is left out, and
/// what those of different vendors take differently.
fn comparable(bytes: &[u8], long: bool) -> Option<&[u8]> {
    // GNU makes one of fwait and what follows.
    let is_prefix = |byte: u8| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    };
    let legacy = bytes.iter().take_while(|byte| is_prefix(**byte)).count();
    let (prefixes, rest) = bytes.split_at(legacy);
    if rest.first() == Some(&0x9b) && rest.len() > 1 {
        return None;
    }
    let rex = rest.first().copied().filter(|byte| long && byte >> 4 == 4);
    let rest = &rest[usize::from(rex.is_some())..];
    let opcode = *rest.first()?;
    let vector = matches!(opcode, 0x62 | 0xc4 | 0xc5) && (long || rest.get(1)? >= &0xc0);
    let second = rest.get(1).copied().unwrap_or(0);
    let reg = rest.get(2).map_or(0, |modrm| modrm >> 3 & 7);
    let chosen = [0x66, 0xf2, 0xf3]
        .iter()
        .any(|prefix| prefixes.contains(prefix));
    // LLVM takes the last of several segments; 64-bit code has only two.
    let segment = prefixes
        .iter()
        .rev()
        .find(|prefix| SEGMENTS.contains(prefix));
    let ignored = segment.is_some_and(|last| last & 0xe7 == 0x26);
    let chosen_before = prefixes.iter().any(|prefix| prefix & 0xfe == 0x64);
    if long && ignored && chosen_before {
        return None;
    }
    let differs = match opcode {
        // No processor takes those before VEX, nor a move to cs. The other
        // extensions of APX: REX2, and two bits of EVEX.
        _ if vector && (rex.is_some() || chosen || prefixes.contains(&0xf0)) => true,
        0x8e => second >> 3 & 7 == 1,
        // GNU computes these with all bits.
        0x0f if matches!(second, 0x1a | 0x1b) => prefixes.contains(&0x67),
        0xd5 if long => true,
        0x62 if vector => second & 8 != 0 || rest.get(2)? & 4 == 0,
        // A prefix that the manual forbids there, to the end that it is none.
        0x0f if second == 0xae => chosen && reg < 6,
        0x0f if second == 0xc7 => chosen && [3, 4, 5, 7].contains(&reg),
        0x0f if second == 0xd7 => prefixes.contains(&0xf3) || prefixes.contains(&0xf2),
        // A near branch of 16 bits: AMD has it in 64-bit code.
        0xe8 | 0xe9 => prefixes.contains(&0x66),
        0x0f if second & 0xf0 == 0x80 => prefixes.contains(&0x66),
        // The same, and a far one of 64 bits, which is Intel's.
        0xff => match second >> 3 & 7 {
            2 | 4 => long && prefixes.contains(&0x66),
            3 | 5 => rex.is_some_and(|rex| rex & 8 != 0),
            _ => false,
        },
        _ => false,
    };
    (!differs).then_some(bytes)
}

fn difference(
    tool: Tool,
    long: bool,
    address: u64,
    text: &Text,
    decoded: &Decoded,
) -> Option<String> {
    let mut ours: Vec<Operand> = decoded.memory().copied().collect();
    for written in &text.memory {
        let Some(at) = ours
            .iter()
            .position(|operand| same_address(long, text, written, operand, decoded))
        else {
            return Some("address".into());
        };
        let operand = ours.remove(at);
        if written.width.is_some()
            && operand.width != written.width
            && !width_excused(tool, text, &operand)
        {
            return Some(format!("width {:?} for {:?}", operand.width, written.width));
        }
        let touch = touch(text, written.position);
        if touch != Some(operand.touch) {
            return Some(format!("touch {:?} for {touch:?}", operand.touch));
        }
        let alignment = alignment(text, &operand);
        if alignment != operand.alignment {
            return Some(format!("alignment {} for {alignment}", operand.alignment));
        }
        let offset = bit_offset(text, long);
        if operand.bit_offset != offset {
            return Some("bit offset".into());
        }
    }
    if ours != implied(text, long, &ours) {
        return Some("implied operands".into());
    }
    let class = class(text);
    if decoded.class != class {
        return Some(format!("class {:?} for {class:?}", decoded.class));
    }
    let target = target(text, long, address);
    if decoded.target != target {
        return Some(format!("target {:?} for {target:?}", decoded.target));
    }
    None
}

fn pc(long: bool) -> Reg {
    Reg::pc(if long { Arch::X86_64 } else { Arch::I386 })
}

fn stack_pointer(long: bool) -> Reg {
    Reg(if long { 7 } else { 4 })
}

fn same_address(
    long: bool,
    text: &Text,
    written: &Written,
    operand: &Operand,
    decoded: &Decoded,
) -> bool {
    let mut displacement = operand.displacement;
    if operand.base == Some(pc(long)) {
        displacement -= i64::from(decoded.length);
    }
    // Written as it is before the pop, used as it is after.
    if text.mnemonic.starts_with("pop")
        && text.mnemonic != "popcnt"
        && operand.base == Some(stack_pointer(long))
    {
        displacement -= i64::from(operand.width.unwrap_or(0));
    }
    let mut index = operand.index;
    let mut named = written.index;
    // Its index is the distance of one row to the next.
    if text.mnemonic.starts_with("tile") {
        named = None;
    }
    if text.mnemonic.starts_with("xlat") {
        index = index.filter(|index| index.extend != Extend::Byte);
    }
    let one = |base: Option<Reg>, index: Option<(Reg, u8)>| match (base, index) {
        (None, Some((register, 0))) => (Some(register), None),
        other => other,
    };
    let unused = 64 - 8 * u32::from(operand.address_bytes);
    written.segment == operand.segment
        && written
            .address_bytes
            .is_none_or(|bytes| bytes == operand.address_bytes)
        && written.vector_index <= operand.opaque
        && one(written.base, named)
            == one(
                operand.base,
                index.map(|index| (index.register, index.shift)),
            )
        && index.is_none_or(|index| index.extend == Extend::Whole)
        && (written.displacement ^ displacement) << unused == 0
}

/// Where a tool writes another width, or one where there is none to write.
fn width_excused(tool: Tool, text: &Text, operand: &Operand) -> bool {
    let line = ["clflush", "clwb"];
    operand.touch == Touch::Nothing
        || starts_with_any(text.mnemonic, &line) && operand.width.is_none()
        // GNU reads 32 bits whatever 66 says.
        || text.mnemonic == "movsxd" && tool == Tool::Gnu
        // LLVM means all lanes.
        || operand.opaque && tool == Tool::Llvm
}

fn starts_with_any(text: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start))
}

/// What an instruction does to its operand at a position, by its name.
fn touch(text: &Text, position: usize) -> Option<Touch> {
    let name = text.mnemonic;
    let nothing = [
        "lea",
        "nop",
        "prefetch",
        "cldemote",
        "invlpg",
        "bnd",
        "vgatherpf",
        "vscatterpf",
        "ud",
    ];
    if starts_with_any(name, &nothing) {
        return Some(Touch::Nothing);
    }
    if position > 0 {
        return Some(if name == "xchg" {
            Touch::ReadWrite
        } else {
            Touch::Read
        });
    }
    let both = [
        "add",
        "or",
        "adc",
        "sbb",
        "and",
        "sub",
        "xor",
        "inc",
        "dec",
        "neg",
        "not",
        "shl",
        "shr",
        "sar",
        "rol",
        "ror",
        "rcl",
        "rcr",
        "sal",
        "shld",
        "shrd",
        "bts",
        "btr",
        "btc",
        "xadd",
        "xchg",
        "cmpxchg",
        "cmpxchg8b",
        "cmpxchg16b",
        "aadd",
        "aand",
        "aor",
        "axor",
        "rstorssp",
        "clrssbsy",
        "arpl",
    ];
    if both.contains(&name) || name.starts_with("cmp") && name.ends_with("xadd") {
        return Some(Touch::ReadWrite);
    }
    let read = [
        "cmp",
        "test",
        "bt",
        "push",
        "call",
        "jmp",
        "mul",
        "imul",
        "div",
        "idiv",
        "ldmxcsr",
        "vldmxcsr",
        "lldt",
        "ltr",
        "verr",
        "verw",
        "lmsw",
        "lgdt",
        "lidt",
        "lgdtd",
        "lidtd",
        "lgdtw",
        "lidtw",
        "vmptrld",
        "vmclear",
        "vmxon",
        "ldtilecfg",
        "ptwrite",
        "xlat",
    ];
    if read.contains(&name)
        || starts_with_any(
            name,
            &[
                "cmps",
                "xrstor",
                "fxrstor",
                "clflush",
                "clwb",
                "aesencwide",
                "aesdecwide",
            ],
        )
    {
        return Some(Touch::Read);
    }
    let write = [
        "mov",
        "vmov",
        "set",
        "sto",
        "ins",
        "pop",
        "pextr",
        "vpextr",
        "extractps",
        "vextract",
        "vcvtps2ph",
        "vpmov",
        "vpcompress",
        "vcompress",
        "vmaskmov",
        "vpmaskmov",
        "fst",
        "fist",
        "fbstp",
        "fnst",
        "fnsave",
        "fsave",
        "stmxcsr",
        "vstmxcsr",
        "fxsave",
        "xsave",
        "sgdt",
        "sidt",
        "sldt",
        "str",
        "smsw",
        "vmread",
        "vmptrst",
        "kmov",
        "wrss",
        "wruss",
        "tilestored",
        "sttilecfg",
        "vscatter",
        "vpscatter",
    ];
    if starts_with_any(name, &write) {
        return Some(Touch::Write);
    }
    name.starts_with('f').then_some(Touch::Read)
}

/// By the manual's exception types: 1 and 4 want alignment of what has 16 bytes
/// and is not VEX; type 1 does in VEX and EVEX too.
fn alignment(text: &Text, operand: &Operand) -> u16 {
    let name = text.mnemonic;
    let width = operand.width.unwrap_or(0);
    if starts_with_any(name, &["xsave", "xrstor"]) {
        return 64;
    }
    if starts_with_any(name, &["fxsave", "fxrstor", "cmpxchg16b"]) {
        return 16;
    }
    let tight = ["vmova", "vmovdqa", "vmovnt"];
    if starts_with_any(name, &tight) {
        return width;
    }
    // An MMX form, and so without a vector register.
    if ["cvtpd2pi", "cvttpd2pi"].contains(&name) && width == 16 {
        return 16;
    }
    let vector = !name.starts_with("inv")
        && text
            .operands
            .iter()
            .any(|operand| operand.starts_with("xmm"));
    let loose = ["movup", "movdqu", "lddqu", "pcmpistr", "pcmpestr"];
    if width == 16 && vector && !name.starts_with('v') && !starts_with_any(name, &loose) {
        return 16;
    }
    1
}

fn bit_offset(text: &Text, long: bool) -> Option<Reg> {
    if !["bt", "bts", "btr", "btc"].contains(&text.mnemonic) {
        return None;
    }
    Some(intel::register(text.operands.get(1)?, long)?.0)
}

/// What an instruction does to memory that it does not name; the widths are
/// those that were found, as far as there is a choice.
fn implied(text: &Text, long: bool, found: &[Operand]) -> Vec<Operand> {
    let name = text.mnemonic;
    let Some(first) = found.first() else {
        return vec![];
    };
    let width = first.width.unwrap_or(0);
    let at = |base: Reg, displacement, touch, alignment| Operand {
        segment: first.segment,
        base: Some(base),
        index: None,
        displacement,
        bit_offset: None,
        address_bytes: first.address_bytes,
        width: first.width,
        alignment,
        touch,
        partial: first.partial,
        opaque: false,
    };
    let stack = |displacement, touch| {
        vec![Operand {
            segment: None,
            partial: false,
            ..at(stack_pointer(long), displacement, touch, 1)
        }]
    };
    if name.starts_with("enter") {
        let number = |at: usize| text.operands.get(at).and_then(|text| intel::number(text));
        let (Some(bytes), Some(frames)) = (number(0), number(1)) else {
            return vec![];
        };
        let mut operands = stack(-i64::from(width), Touch::Write);
        // LLVM gives them a sign.
        let below = -(bytes & 0xffff) - (1 + (frames & 31)) * i64::from(width);
        operands.extend(stack(below, Touch::Write));
        return operands;
    }
    if starts_with_any(name, &["push", "call", "lcall"]) {
        return stack(-i64::from(width), Touch::Write);
    }
    if name == "xlatb" {
        return vec![Operand {
            index: Some(Index {
                register: Reg(0),
                extend: Extend::Byte,
                shift: 0,
            }),
            ..at(Reg(3), 0, Touch::Read, 1)
        }];
    }
    if name.starts_with("maskmov") || name.starts_with("vmaskmovdqu") {
        return vec![at(Reg(if long { 5 } else { 7 }), 0, Touch::Write, 1)];
    }
    let register = text
        .operands
        .first()
        .and_then(|name| intel::register(name, long));
    if let (Some((register, _)), "movdir64b" | "enqcmd" | "enqcmds") = (register, name) {
        return vec![Operand {
            segment: None,
            ..at(register, 0, Touch::Write, 64)
        }];
    }
    if let (Some((register, _)), "umonitor") = (register, name) {
        return vec![at(register, 0, Touch::Read, 1)];
    }
    if let "monitorx" | "clzero" = name {
        let touch = if name == "clzero" {
            Touch::Write
        } else {
            Touch::Read
        };
        return vec![at(Reg(0), 0, touch, 1)];
    }
    if name.starts_with("leave") {
        let mut operands = stack(0, Touch::Read);
        operands[0].base = Some(Reg(if long { 6 } else { 5 }));
        return operands;
    }
    if starts_with_any(name, &["pop", "ret", "iret", "lret"]) {
        return stack(0, Touch::Read);
    }
    vec![]
}

fn class(text: &Text) -> Class {
    let name = text.mnemonic;
    let privileged = [
        "hlt",
        "cli",
        "sti",
        "in",
        "out",
        "ins",
        "outs",
        "insb",
        "insd",
        "insw",
        "outsb",
        "outsd",
        "outsw",
        "int",
        "clts",
        "sysret",
        "sysretd",
        "sysretq",
        "sysexit",
        "sysexitd",
        "sysexitq",
        "invd",
        "wbinvd",
        "wbnoinvd",
        "wrmsr",
        "rdmsr",
        "rdtsc",
        "rdpmc",
        "rdtscp",
        "getsec",
        "rsm",
        "lgdt",
        "lidt",
        "lgdtd",
        "lidtd",
        "lgdtw",
        "lidtw",
        "lldt",
        "ltr",
        "lmsw",
        "invlpg",
        "swapgs",
        "vmread",
        "vmwrite",
        "vmptrld",
        "vmptrst",
        "vmclear",
        "vmxon",
        "vmxoff",
        "vmcall",
        "vmlaunch",
        "vmresume",
        "vmrun",
        "vmload",
        "vmsave",
        "stgi",
        "clgi",
        "skinit",
        "invlpga",
        "invlpgb",
        "tlbsync",
        "psmash",
        "pvalidate",
        "rmpadjust",
        "rmpupdate",
        "monitor",
        "mwait",
        "clac",
        "stac",
        "encls",
        "enclv",
        "pconfig",
        "xsetbv",
        "setssbsy",
        "clrssbsy",
        "invept",
        "invvpid",
        "invpcid",
        "loadiwkey",
        "wrussd",
        "wrussq",
        "enqcmds",
        "hreset",
        "wrmsrns",
        "rdmsrlist",
        "wrmsrlist",
        "seamcall",
        "seamret",
        "seamops",
        "tdcall",
    ];
    match name {
        "div" | "idiv" | "aam" => Class::Division,
        "int3" | "int1" => Class::Breakpoint,
        _ if starts_with_any(name, &["call", "lcall"]) => Class::Call,
        _ if starts_with_any(name, &["j", "ljmp"])
            || starts_with_any(name, &["loop", "xbegin"]) =>
        {
            Class::Jump
        }
        _ if starts_with_any(name, &["ret", "iret", "lret"]) => Class::Return,
        _ if name.starts_with("ud") => Class::Undefined,
        "syscall" | "sysenter" => Class::SystemCall,
        "int" if text.operands == ["0x80"] => Class::SystemCall,
        "int" if text.operands == ["0x3"] => Class::Breakpoint,
        "int" if text.operands == ["0x4"] => Class::Other,
        _ if starts_with_any(name, &["xsaves", "xrstors"]) => Class::Privileged,
        "mov" | "movabs" if control(text) => Class::Privileged,
        _ if privileged.contains(&name) => Class::Privileged,
        _ => Class::Other,
    }
}

/// Whether it moves a control or debug register.
fn control(text: &Text) -> bool {
    let numbered = |operand: &&str| {
        let rest = operand.strip_prefix("cr").or(operand.strip_prefix("dr"));
        rest.or(operand.strip_prefix("db"))
            .is_some_and(|rest| rest.parse::<u8>().is_ok())
    };
    text.operands.iter().any(numbered)
}

fn target(text: &Text, long: bool, address: u64) -> Option<Target> {
    let name = text.mnemonic;
    match class(text) {
        Class::Return => return Some(Target::Loaded),
        Class::Call | Class::Jump => {}
        _ => return None,
    }
    if !text.memory.is_empty() {
        return Some(Target::Loaded);
    }
    let operand = text.operands.last()?;
    if let Some((register, _)) = intel::register(operand, long) {
        return Some(Target::Register(register));
    }
    // A far one names its segment, and is not decoded.
    if operand.contains(':') {
        return None;
    }
    let digits = operand.strip_prefix("0x").unwrap_or(operand);
    let to =
        u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("target of {name} {operand}"));
    let distance = to.wrapping_sub(address) as i64;
    Some(Target::Near(match long {
        true => distance,
        false => i64::from(distance as i32),
    }))
}
