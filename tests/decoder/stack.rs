//! What an x86 instruction does to the stack pointer, as we decode it against its text.

use segfault_analyzer::decode::{Effect, Reg};

use super::intel::Text;

/// Mnemonics whose first operand is only read.
const READERS: &[&str] = &[
    "bound",
    "bt",
    "call",
    "clrssbsy",
    "cmp",
    "comi",
    "div",
    "enqcmd",
    "enqcmds",
    "idiv",
    "incsspd",
    "incsspq",
    "invept",
    "invlpga",
    "invpcid",
    "invvpid",
    "jmp",
    "lldt",
    "lmsw",
    "ltr",
    "monitor",
    "monitorx",
    "movdir64b",
    "mul",
    "mwait",
    "mwaitx",
    "nop",
    "out",
    "ptwrite",
    "push",
    "senduipi",
    "test",
    "tpause",
    "umonitor",
    "umwait",
    "verr",
    "verw",
    "vmrun",
    "vmload",
    "vmsave",
    "vmwrite",
    "wrfsbase",
    "wrgsbase",
    "wrssd",
    "wrssq",
    "wrussd",
    "wrussq",
    "invlpgb",
    "clzero",
    "skinit",
    "uwrmsr",
    "llwpcb",
    "prefetch",
    "invlpg",
];

/// Mnemonics that write two operands.
const WRITERS_OF_TWO: &[&str] = &["mulx", "xadd", "xchg"];

/// `None` for what is not compared: what only the kernel runs, or returns from it.
pub fn expected(long: bool, bytes: &[u8], address: u64, text: &Text) -> Option<Effect> {
    let mnemonic = text.mnemonic;
    let next = address.wrapping_add(bytes.len() as u64);
    let first = text.operands.first().copied().unwrap_or_default();
    let near = || {
        let hex = first.strip_prefix("0x").unwrap_or(first);
        let to = u64::from_str_radix(hex, 16).ok()?;
        // Those of 32-bit code wrap around.
        let distance = to.wrapping_sub(next) as i64;
        Some(if long {
            distance
        } else {
            distance as i32 as i64
        })
    };
    Some(match mnemonic {
        "sysret" | "sysretq" | "sysretl" | "sysexit" | "sysexitq" | "sysexitl" | "sysretd"
        | "rsm" | "uiret" | "eretu" | "erets" => return None,
        "ret" | "retw" | "retq" | "retl" | "retd" | "repz ret" => Effect::Return,
        _ if mnemonic.starts_with("retf") || mnemonic.starts_with("lret") => Effect::Stop,
        _ if mnemonic.starts_with("iret") => Effect::Stop,
        "hlt" | "ud0" | "ud1" | "ud2" | "ud2a" | "ud2b" => Effect::Stop,
        "call" if near() == Some(0) => Effect::Push(None),
        "call" | "lcall" | "callw" => Effect::Call,
        "jmp" | "jmpw" => near().map_or(Effect::Leave, Effect::Jump),
        "ljmp" => Effect::Leave,
        "jmpabs" => return None,
        _ if mnemonic.starts_with('j') || mnemonic.starts_with("loop") || mnemonic == "xbegin" => {
            Effect::Branch(near()?)
        }
        _ if mnemonic.starts_with("pusha")
            || mnemonic.starts_with("popa")
            || mnemonic.starts_with("enter") =>
        {
            Effect::Set
        }
        _ if mnemonic.starts_with("leave") => Effect::Frame,
        "push" | "pushw" | "pushq" | "pushl" | "pushd" | "pushp" | "pushf" | "pushfw"
        | "pushfq" | "pushfd" => match is_half(bytes, long) {
            true => Effect::Take(2),
            false => Effect::Push(register(first, long)),
        },
        "pop" | "popw" | "popq" | "popl" | "popd" | "popp" | "popf" | "popfw" | "popfq"
        | "popfd" => match (is_half(bytes, long), register(first, long)) {
            _ if is_stack_pointer(first) => Effect::Set,
            (true, _) => Effect::Take(-2),
            (false, register) => Effect::Pop(register),
        },
        _ => written(long, text, first),
    })
}

fn written(long: bool, text: &Text, first: &str) -> Effect {
    let mnemonic = text.mnemonic;
    let second = text.operands.get(1).copied().unwrap_or_default();
    let is_whole = matches!(first, "rsp" | "esp");
    let both = WRITERS_OF_TWO.contains(&mnemonic) && is_stack_pointer(second);
    let one = is_stack_pointer(first) && !READERS.contains(&mnemonic);
    // imul with one operand multiplies into others.
    let one = one && !(mnemonic == "imul" && text.operands.len() == 1);
    if !one && !both {
        return Effect::None;
    }
    // GNU writes a number that is negative in 32 bits as a positive one.
    let signed = |value: i64| match first {
        "esp" => i64::from(value as i32),
        _ => value,
    };
    match (mnemonic, number(second).map(signed)) {
        ("add", Some(value)) if is_whole => Effect::Take(-value),
        ("sub", Some(value)) if is_whole => Effect::Take(value),
        ("mov", _) if is_whole && matches!(second, "rbp" | "ebp") => Effect::Frame,
        ("mov", _) if is_whole && matches!(second, "rsp" | "esp") => Effect::None,
        ("lea", _) if is_whole => match text.memory.first() {
            Some(memory) if memory.index.is_none() => match memory.base {
                Some(base) if base == numbered(long, 4) => Effect::Take(-memory.displacement),
                Some(base) if base == numbered(long, 5) => Effect::Frame,
                _ => Effect::Set,
            },
            _ => Effect::Set,
        },
        _ => Effect::Set,
    }
}

/// Whether what is pushed or popped has 2 bytes.
fn is_half(bytes: &[u8], long: bool) -> bool {
    let mut rest = bytes;
    let mut half = false;
    while let [prefix @ (0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3), tail @ ..] =
        rest
    {
        half |= *prefix == 0x66;
        rest = tail;
    }
    half && !(long && rest.first().is_some_and(|rex| rex & 0xf8 == 0x48))
}

fn is_stack_pointer(operand: &str) -> bool {
    matches!(operand, "rsp" | "esp" | "sp")
}

/// By the numbers of instructions.
fn numbered(long: bool, number: u8) -> Reg {
    const DWARF: [u8; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    Reg(match DWARF.get(usize::from(number)) {
        Some(dwarf) if long => *dwarf,
        _ => number,
    })
}

/// A whole general register.
fn register(operand: &str, long: bool) -> Option<Reg> {
    const NAMES: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    let name = operand.strip_prefix(if long { 'r' } else { 'e' })?;
    if let Some(number) = NAMES.iter().position(|known| *known == name) {
        return Some(numbered(long, number as u8));
    }
    let number: u8 = name.parse().ok()?;
    long.then(|| numbered(long, number))
}

fn number(operand: &str) -> Option<i64> {
    let (negative, digits) = match operand.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, operand),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()? as i64,
        None => digits.parse().ok()?,
    };
    Some(if negative { -value } else { value })
}
