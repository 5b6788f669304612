//! Names from separate debug files: by link, by build-id, from a client's cache.

use super::*;
use crate::host;

/// A stripped program beside its debug file; skips without a compiler or binutils.
fn stripped_program(dir: &Scratch, build_id: &str) -> Option<PathBuf> {
    if !["cc", "objcopy", "strip", "nm"].into_iter().all(host::has) {
        return None;
    }
    let source = dir.0.join("prog.c");
    std::fs::write(
        &source,
        "static __attribute__((noinline)) int hidden_helper(int x) { return x * 3; }\n\
         int main(int argc, char **argv) { (void)argv; return hidden_helper(argc); }\n",
    )
    .unwrap();
    let program = dir.0.join("prog");
    let run = |command: &mut Command| {
        let output = command.current_dir(&dir.0).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(said)
    };
    let build_id = format!("-Wl,--build-id={build_id}");
    run(Command::new("cc").args(["-O1", "-static-pie", &build_id, "prog.c", "-o", "prog"]))
        .or_else(|_| run(Command::new("cc").args(["-O1", &build_id, "prog.c", "-o", "prog"])))
        .unwrap();
    run(Command::new("objcopy").args(["--only-keep-debug", "prog", "prog.debug"])).unwrap();
    run(Command::new("strip").arg("prog")).unwrap();
    run(Command::new("objcopy").args(["--add-gnu-debuglink=prog.debug", "prog"])).unwrap();
    Some(program)
}

/// Where `hidden_helper` is, by `nm`.
fn helper_address(dir: &Scratch, debug: &str) -> Option<FileAddress> {
    let out = Command::new("nm").arg(dir.0.join(debug)).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let line = text.lines().find(|line| line.ends_with(" hidden_helper"))?;
    let value = u64::from_str_radix(line.split(' ').next()?, 16).ok()?;
    Some(FileAddress(value))
}

fn helper_name(modules: &mut Modules, program: &Path, address: FileAddress) -> Option<String> {
    let module = modules.open(&mapping_of(program), gone()).unwrap().module;
    let mut resolver = Resolver::new(10, Rc::new(MemoryBudget::new(1 << 20)));
    let symbol = resolver.resolve(&*module, &[address]).pop()??;
    Some(String::from_utf8(symbol.name.to_vec()).unwrap())
}

#[test]
fn names_come_from_the_debug_file_by_its_link() {
    // Without a build-id the checksum decides.
    for build_id in ["sha1", "none"] {
        let dir = Scratch::new(&format!("link-{build_id}"));
        let Some(program) = stripped_program(&dir, build_id) else {
            return;
        };
        let address = helper_address(&dir, "prog.debug").unwrap();
        let (mut fresh, _) = modules(Limits::default());
        let name = helper_name(&mut fresh, &program, address);
        assert_eq!(name.as_deref(), Some("hidden_helper"), "{build_id}");

        // One that does not belong: other code, other build-id and checksum.
        std::fs::copy("/proc/self/exe", dir.0.join("prog.debug")).unwrap();
        let (mut fresh, _) = modules(Limits::default());
        let name = helper_name(&mut fresh, &program, address);
        assert_ne!(name.as_deref(), Some("hidden_helper"), "{build_id}");
    }
}

#[test]
fn a_link_leads_below_a_root_that_lies_deep() {
    let dir = Scratch::new("deep-root");
    let Some(program) = stripped_program(&dir, "none") else {
        return;
    };
    let address = helper_address(&dir, "prog.debug").unwrap();
    for depth in [0, 5, 10, 40] {
        let root = dir.0.join(format!("root{depth}")).join("x/".repeat(depth));
        let debug = root.join("usr/lib/debug/bin");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(&debug).unwrap();
        std::fs::copy(&program, root.join("bin/prog")).unwrap();
        std::fs::copy(dir.0.join("prog.debug"), debug.join("prog.debug")).unwrap();
        let limits = Limits {
            debug_dirs: DebugDirs::new(vec!["/usr/lib/debug".into()], &|_| None),
            ..Limits::default()
        };
        let (mut fresh, _) = modules(limits);
        let name = helper_name(&mut fresh, &root.join("bin/prog"), address);
        assert_eq!(name.as_deref(), Some("hidden_helper"), "{depth} below");
    }
}

#[test]
fn names_come_from_the_debug_directory_by_build_id() {
    let dir = Scratch::new("build-id");
    let Some(program) = stripped_program(&dir, "0xabcdef0123") else {
        return;
    };
    let address = helper_address(&dir, "prog.debug").unwrap();
    let place = dir.0.join("debug/.build-id/ab");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::rename(dir.0.join("prog.debug"), place.join("cdef0123.debug")).unwrap();
    let limits = Limits {
        debug_dirs: DebugDirs {
            packages: vec![dir.0.join("nowhere"), dir.0.join("debug")],
            ..DebugDirs::default()
        },
        ..Limits::default()
    };
    let (mut modules, _) = modules(limits);
    let name = helper_name(&mut modules, &program, address);
    assert_eq!(name.as_deref(), Some("hidden_helper"));
}

#[test]
fn names_come_from_the_cache_of_a_debuginfod_client() {
    let dir = Scratch::new("debuginfod");
    let Some(program) = stripped_program(&dir, "0xabcdef0123") else {
        return;
    };
    let address = helper_address(&dir, "prog.debug").unwrap();
    let place = dir.0.join("home/.cache/debuginfod_client/abcdef0123");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::rename(dir.0.join("prog.debug"), place.join("debuginfo")).unwrap();
    let debug_dirs = DebugDirs::new(Vec::new(), &|name| match name {
        "HOME" => Some(dir.0.join("home").into()),
        "XDG_CACHE_HOME" => Some("relative".into()),
        "DEBUGINFOD_CACHE_PATH" => Some("".into()),
        _ => None,
    });
    assert_eq!(debug_dirs.debuginfod.len(), 2);
    let limits = Limits {
        debug_dirs,
        ..Limits::default()
    };
    let (mut modules, _) = modules(limits);
    let name = helper_name(&mut modules, &program, address);
    assert_eq!(name.as_deref(), Some("hidden_helper"));
}

/// The owner of a program can name any file in its link, and put a symbolic link there.
#[test]
fn a_link_leads_to_files_of_the_programs_owner_or_of_root() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = Scratch::new("owners");
    let Some(program) = stripped_program(&dir, "none") else {
        return;
    };
    let address = helper_address(&dir, "prog.debug").unwrap();
    let own = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
    own(&program, 65534);
    let debug = dir.0.join("prog.debug");
    let is_found = || {
        let (mut fresh, _) = modules(Limits::default());
        helper_name(&mut fresh, &program, address).as_deref() == Some("hidden_helper")
    };
    for (uid, expected) in [(65534, true), (0, true), (65533, false)] {
        own(&debug, uid);
        assert_eq!(is_found(), expected, "of user {uid}");
    }
    let elsewhere = dir.0.join("elsewhere");
    std::fs::rename(&debug, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &debug).unwrap();
    for (uid, expected) in [(65534, true), (0, false)] {
        own(&elsewhere, uid);
        assert_eq!(
            is_found(),
            expected,
            "behind a symbolic link, of user {uid}"
        );
    }
}
