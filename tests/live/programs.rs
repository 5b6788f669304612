//! Compiles the programs that crash, and gives each test copies of its own.
//!
//! `cc` (or $CC), `c++` and `rustc` run once for each source and set of flags. A copy has
//! a name that no other process on the host has, so that `-n NAME` shows one test
//! its own crashes only, whatever else crashes meanwhile.

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::harness::eventually;
use crate::harness::PATIENCE;

/// How a distribution builds: optimized, position-independent, no frame pointers.
pub const PIE: &[&str] = &["-fPIE", "-pie"];
pub const NO_PIE: &[&str] = &["-fno-pie", "-no-pie"];
pub const STATIC: &[&str] = &["-static"];
const C_OPTIONS: &[&str] = &["-O2", "-Wall", "-fomit-frame-pointer", "-pthread"];

/// This run's directory for programs; `main` removes it at the end.
pub fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{}", process::id()))
}

/// A name of at most 15 bytes, what the kernel keeps of a program's name, that is
/// no part of any other such name. `tag` has at most six bytes.
pub fn unique(tag: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "{tag}{:05x}z{:03x}",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    assert!(name.len() <= 15, "the kernel would cut {name}");
    name
}

/// A new empty directory.
pub fn directory() -> PathBuf {
    let dir = scratch().join(unique("dir"));
    fs::create_dir_all(&dir).expect("a directory below target/");
    dir
}

/// A new empty directory that every user can reach, unlike target/ below a home.
pub fn public_directory() -> PathBuf {
    let dir = env::temp_dir().join(unique("sa"));
    fs::create_dir(&dir).expect("a directory in /tmp");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("our own directory");
    dir
}

/// The name and the path of a copy that only one test has.
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

impl Program {
    /// A copy of the crash program `source` (a file in tests/crashers), built as a
    /// distribution would.
    pub fn new(source: &str) -> Program {
        Program::built(source, PIE)
    }

    pub fn built(source: &str, flags: &[&str]) -> Program {
        Program::of(source, &compile(source, flags))
    }

    /// Built by another compiler than $CC.
    pub fn built_by(compiler: &str, source: &str, flags: &[&str]) -> Program {
        Program::of(
            source,
            &compile_file(Some(compiler), &crasher(source), flags),
        )
    }

    /// The same under a name that another program has, in another directory.
    pub fn named(self, name: &str) -> Program {
        let path = directory().join(name);
        copy(&self.path, &path);
        Program {
            name: name.to_owned(),
            path,
        }
    }

    /// One more copy, for `source` in its name.
    pub fn of(source: &str, executable: &Path) -> Program {
        let tag: String = source
            .chars()
            .filter(char::is_ascii_lowercase)
            .take(5)
            .collect();
        let name = unique(&tag);
        let path = directory().join(&name);
        copy(executable, &path);
        Program { name, path }
    }

    /// Another program that the same `-n` matches: its name is this one's and a
    /// letter. A test that expects silence crashes it last, to know that the
    /// monitor was listening.
    pub fn sibling(&self, source: &str) -> Program {
        let name = format!("{}b", self.name);
        let path = directory().join(&name);
        copy(&compile(source, PIE), &path);
        Program { name, path }
    }

    /// A command that starts it, in its own directory.
    pub fn command(&self) -> Command {
        command(&self.path)
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("names made here are ASCII")
    }
}

/// A command for `program`, whose core file, if any, falls into its directory.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(program.parent().expect("an absolute path"));
    command
}

/// Copies by `cp`: a descriptor that this process has open for writing would be
/// inherited by whatever another test forks now, and the copy could not be run.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("--")
        .args([from, to])
        .status()
        .expect("cp");
    assert!(status.success(), "cp {from:?} {to:?}: {status}");
}

/// Compiles a file of tests/crashers (`.c`, `.cc` or `.rs`), once for each set of flags.
pub fn compile(source: &str, flags: &[&str]) -> PathBuf {
    compile_file(None, &crasher(source), flags)
}

fn crasher(source: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashers");
    directory.join(source)
}

/// Compiles a wrapper: a program that changes something about itself (its
/// capabilities, its view of the system) and runs its arguments.
pub fn wrapper(source: &str) -> PathBuf {
    wrapper_built(source, &[])
}

pub fn wrapper_built(source: &str, flags: &[&str]) -> PathBuf {
    compile_file(
        None,
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/live/wrappers")
            .join(source),
        flags,
    )
}

fn compile_file(compiler: Option<&str>, source: &Path, flags: &[&str]) -> PathBuf {
    let mut built = built();
    let key = format!("{compiler:?} {} {}", source.display(), flags.join(" "));
    if let Some(path) = built.get(&key) {
        return path.clone();
    }
    let dir = scratch().join(format!("build{}", built.len()));
    fs::create_dir_all(&dir).expect("a directory below target/");
    let path = dir.join(source.file_stem().expect("a source file"));
    let (variable, usual, options): (_, _, &[&str]) =
        match source.extension().and_then(OsStr::to_str) {
            Some("rs") => ("RUSTC", "rustc", &["--edition=2021", "-O"]),
            Some("cc") => ("CXX", "c++", C_OPTIONS),
            _ => ("CC", "cc", C_OPTIONS),
        };
    let compiler = compiler.map(OsString::from);
    let compiler = compiler.or_else(|| env::var_os(variable));
    let mut compiler = Command::new(compiler.unwrap_or_else(|| usual.into()));
    // Libraries among the flags come behind what needs them.
    let (libraries, flags): (Vec<&str>, Vec<&str>) =
        flags.iter().partition(|flag| flag.starts_with("-l"));
    compiler.args(options).args(flags).arg(source);
    compiler.args(libraries).arg("-o").arg(&path);
    let output = compiler
        .output()
        .unwrap_or_else(|e| panic!("cannot run {compiler:?}: {e}"));
    assert!(
        output.status.success(),
        "{compiler:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    built.insert(key, path.clone());
    path
}

fn built() -> MutexGuard<'static, HashMap<String, PathBuf>> {
    static BUILT: OnceLock<Mutex<HashMap<String, PathBuf>>> = OnceLock::new();
    // A failed compilation panics with the lock held and changes nothing.
    BUILT
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Does the C compiler link programs of 32 bits?
pub fn links_32_bit() -> bool {
    static LINKS: OnceLock<bool> = OnceLock::new();
    *LINKS.get_or_init(|| {
        let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashers/quick.c");
        let mut cc = Command::new(cc);
        cc.arg("-m32")
            .arg("-o")
            .arg(directory().join("quick"))
            .arg(source);
        cc.output().is_ok_and(|output| output.status.success())
    })
}

/// Is there such a program in PATH?
pub fn installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Reads a file once `enough` is content with it.
pub fn wait_file(path: &Path, what: &str, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    eventually(&format!("{what} in {}", path.display()), PATIENCE, || {
        let bytes = fs::read(path).unwrap_or_default();
        enough(&bytes).then_some(bytes)
    })
}

/// Waits until `path` holds `count` complete lines.
pub fn wait_lines(path: &Path, count: usize) -> Vec<String> {
    let enough = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count() >= count;
    let bytes = wait_file(path, &format!("{count} lines"), enough);
    crate::harness::complete_lines(&bytes)
}
