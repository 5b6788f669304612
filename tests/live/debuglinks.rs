//! Names from debug files that a link in the stripped program leads to: always, however
//! the program's file was reached, and only where the checksum is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{crash, options_for_all, Monitor};
use crate::programs::{command, compile, copy, directory, unique, STATIC};
use crate::report::{only, Report};
use crate::skip::not_applicable;
use crate::{cases, Needs};

cases! {
    Needs::Tool("objcopy") => [
        debug_link_beside_the_program,
        debug_link_in_its_own_directory,
        debug_link_below_a_debug_directory,
        debug_link_without_a_build_id,
        debug_link_with_a_wrong_checksum,
        debug_link_below_another_root,
        debug_link_in_another_mount_namespace,
    ],
}

/// By chance it was found at times: several runs of the tool say whether it is always.
const RUNS: usize = 4;

struct Stripped {
    name: String,
    path: PathBuf,
    debug: PathBuf,
}

/// A stripped copy of null_deep beside its debug file.
fn stripped(flags: &[&str]) -> Stripped {
    let name = unique("link");
    let path = directory().join(&name);
    copy(&compile("null_deep.c", flags), &path);
    let debug = path.with_extension("debug");
    let objcopy = |arguments: &[&str]| {
        let mut objcopy = Command::new("objcopy");
        objcopy.current_dir(path.parent().expect("a directory"));
        let status = objcopy.args(arguments).status().expect("objcopy");
        assert!(status.success(), "objcopy {arguments:?}");
    };
    let link = format!("{name}.debug");
    objcopy(&["--only-keep-debug", &name, &link]);
    objcopy(&["--strip-all", &name]);
    objcopy(&[&format!("--add-gnu-debuglink={link}"), &name]);
    Stripped { name, path, debug }
}

impl Stripped {
    fn dir(&self) -> &Path {
        self.path.parent().expect("a directory")
    }

    fn move_debug_to(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("a directory of our own");
        let name = self.debug.file_name().expect("a name");
        fs::rename(&self.debug, dir.join(name)).expect("our own file");
    }

    /// What each of several monitors says of a crash.
    fn reports(&self, options: &[&str], run: impl Fn()) -> Vec<Report> {
        let of_one = |_| {
            let mut all = vec!["-n", &*self.name, "-t", "--format", "json"];
            all.extend(options);
            let monitor = Monitor::start(all);
            run();
            only(monitor.stop().reports())
        };
        (0..RUNS).map(of_one).collect()
    }

    fn assert_named(&self, options: &[&str], run: impl Fn()) {
        for report in self.reports(options, run) {
            assert!(
                report.str("instruction_symbol").starts_with("level_five+"),
                "{}",
                report.line
            );
        }
    }

    fn crash(&self) {
        crash(&mut command(&self.path));
    }
}

fn debug_link_beside_the_program() {
    let program = stripped(&[]);
    program.assert_named(&[], || program.crash());
    // Named from another directory, and through a link.
    let link = directory().join("link");
    std::os::unix::fs::symlink(program.dir(), &link).expect("a link");
    program.assert_named(&[], || {
        crash(
            Command::new(format!("./link/{}", program.name))
                .current_dir(link.parent().expect("one")),
        );
    });
}

fn debug_link_in_its_own_directory() {
    let program = stripped(&[]);
    program.move_debug_to(&program.dir().join(".debug"));
    program.assert_named(&[], || program.crash());
}

fn debug_link_below_a_debug_directory() {
    let program = stripped(&[]);
    let debug = directory();
    program.move_debug_to(&debug.join(program.dir().strip_prefix("/").expect("absolute")));
    let debug = debug.to_str().expect("ASCII");
    program.assert_named(&["--debug-dir", debug], || program.crash());
}

fn debug_link_without_a_build_id() {
    let program = stripped(&["-Wl,--build-id=none"]);
    program.assert_named(&[], || program.crash());
}

fn debug_link_with_a_wrong_checksum() {
    for flags in [&["-Wl,--build-id=none"][..], &[]] {
        let program = stripped(flags);
        let mut bytes = fs::read(&program.debug).expect("our own file");
        bytes.push(0);
        fs::write(&program.debug, bytes).expect("our own file");
        for report in program.reports(&[], || program.crash()) {
            assert!(report["instruction_symbol"].is_null(), "{}", report.line);
        }
    }
}

fn debug_link_below_another_root() {
    // Perf events tell paths below the process's root, which is gone with it.
    if options_for_all().iter().any(|option| option == "perf") {
        not_applicable("perf events tell no path below another root");
    }
    let program = stripped(STATIC);
    let root = program.dir().to_owned();
    let crash_inside = || {
        crash(
            Command::new("chroot")
                .arg(&root)
                .arg(format!("/{}", program.name)),
        );
    };
    program.assert_named(&[], crash_inside);
    // In its root's own debug directory.
    program.move_debug_to(&root.join("usr/lib/debug"));
    program.assert_named(&[], crash_inside);
}

fn debug_link_in_another_mount_namespace() {
    let program = stripped(STATIC);
    let dir = program.dir().to_str().expect("ASCII").to_owned();
    program.assert_named(&[], || {
        let script = format!(
            "mkdir root; mount -t tmpfs none root; cp {dir}/{name} {dir}/{name}.debug root/; \
             root/{name}; sleep 1",
            name = program.name
        );
        let mut unshare = Command::new("unshare");
        unshare
            .args(["-m", "sh", "-c", &script])
            .current_dir(directory());
        unshare
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        unshare.status().expect("unshare");
    });
}
