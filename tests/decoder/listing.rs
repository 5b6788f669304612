//! Disassemblers, and their listings line by line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Two that share no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Gnu,
    Llvm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    I386,
    Aarch64,
    Arm,
    Thumb,
}

/// One instruction as a tool sees it.
pub struct Line<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
    pub text: &'a str,
}

/// There is none for all.
const ARM_FEATURES: &str = "--mattr=+neon,+fullfp16,+dotprod,+crypto,+sb,+crc,+bf16,+i8mm,\
     +trustzone,+virtualization,+mp,+hwdiv,+hwdiv-arm,+fp-armv8,+ras";

impl Tool {
    fn command(self, machine: Machine) -> Command {
        let mut command = match self {
            Tool::Gnu => Command::new(machine.binutils("objdump")),
            Tool::Llvm => Command::new("llvm-objdump-19"),
        };
        // LLVM wants this one first.
        command.arg("-d");
        if self == Tool::Gnu {
            command.arg("-w");
        }
        match (machine, self) {
            (Machine::X86_64 | Machine::I386, _) => command.args(["-M", "intel"]),
            (Machine::Aarch64, Tool::Llvm) => command.arg("--mattr=+all"),
            (Machine::Arm, Tool::Llvm) => command.args(["--triple=armv8.6a", ARM_FEATURES]),
            (Machine::Thumb, Tool::Llvm) => command.args(["--triple=thumbv8.6a", ARM_FEATURES]),
            (Machine::Thumb, Tool::Gnu) => command.args(["-M", "force-thumb"]),
            (Machine::Aarch64 | Machine::Arm, Tool::Gnu) => &mut command,
        };
        command
    }

    /// All code of a file, line by line.
    pub fn disassemble(self, machine: Machine, file: &Path, mut each: impl FnMut(&Line)) {
        let mut child = self
            .command(machine)
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a disassembler");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut bytes = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if output.read_until(b'\n', &mut line).expect("its output") == 0 {
                break;
            }
            let Ok(line) = std::str::from_utf8(&line) else {
                continue;
            };
            if let Some((address, text)) = parse(line.trim_end(), &mut bytes) {
                each(&Line {
                    address,
                    bytes: &bytes,
                    text,
                });
            }
        }
        assert!(child.wait().expect("its end").success());
    }
}

/// `  1040:\t48 8b 05 10 00 00 00 \tmov    rax,QWORD PTR [rip+0x10]        # 0x17`
fn parse<'a>(line: &'a str, bytes: &mut Vec<u8>) -> Option<(u64, &'a str)> {
    let (address, rest) = line.trim_start().split_once(':')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let (hex, text) = rest.trim_start().split_once('\t')?;
    bytes.clear();
    for group in hex.split_ascii_whitespace() {
        // Bytes, or the halves and words of ARM.
        let word = u32::from_str_radix(group, 16).ok()?;
        bytes.extend_from_slice(&word.to_le_bytes()[..group.len() / 2]);
    }
    Some((address, text.trim()))
}

impl Machine {
    fn format(self) -> &'static str {
        match self {
            Machine::X86_64 => "elf64-x86-64",
            Machine::I386 => "elf32-i386",
            Machine::Aarch64 => "elf64-littleaarch64",
            Machine::Arm | Machine::Thumb => "elf32-littlearm",
        }
    }

    /// The name of a tool of binutils.
    fn binutils(self, tool: &str) -> String {
        match self {
            Machine::X86_64 | Machine::I386 => tool.to_owned(),
            Machine::Aarch64 => format!("aarch64-linux-gnu-{tool}"),
            Machine::Arm | Machine::Thumb => format!("arm-linux-gnueabihf-{tool}"),
        }
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn run(program: &str, arguments: &[&str], files: [&Path; 2]) {
    let mut command = Command::new(program);
    let status = command.args(arguments).args(files).status();
    assert!(
        status.expect(program).success(),
        "{program} {arguments:?} {files:?}"
    );
}

/// An object with these bytes as its code, and without symbols: for those tools
/// show data where they think to know better.
pub fn object_of(machine: Machine, name: &str, code: &[u8]) -> PathBuf {
    let plain = scratch(&format!("{name}.bin"));
    fs::write(&plain, code).expect("a file");
    wrap(machine, name, &plain)
}

/// The same of a library's section `.text`.
pub fn text_of(machine: Machine, library: &Path) -> PathBuf {
    let name = library.file_name().expect("a name").to_string_lossy();
    let name = format!("{machine:?}-{name}");
    let plain = scratch(&format!("{name}.bin"));
    let objcopy = machine.binutils("objcopy");
    run(
        &objcopy,
        &["-O", "binary", "-j", ".text"],
        [library, &plain],
    );
    wrap(machine, &name, &plain)
}

/// The bytes of that section.
pub fn code_of(machine: Machine, library: &Path) -> Vec<u8> {
    let plain = scratch(&format!("{machine:?}-code.bin"));
    let objcopy = machine.binutils("objcopy");
    run(
        &objcopy,
        &["-O", "binary", "-j", ".text"],
        [library, &plain],
    );
    let code = fs::read(&plain).expect("the code");
    fs::remove_file(plain).expect("our own file");
    code
}

fn wrap(machine: Machine, name: &str, plain: &Path) -> PathBuf {
    let object = scratch(&format!("{name}.o"));
    let objcopy = machine.binutils("objcopy");
    let arguments = [
        "-I",
        "binary",
        "-O",
        machine.format(),
        "--rename-section",
        ".data=.text,alloc,load,readonly,code,contents",
        "--strip-all",
    ];
    run(&objcopy, &arguments, [plain, &object]);
    fs::remove_file(plain).expect("our own file");
    object
}
