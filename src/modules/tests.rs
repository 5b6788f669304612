//! Files that were replaced, deleted, changed or hidden since the crash, and the
//! places where they are found all the same.

use super::*;
use crate::base::address::{FileAddress, FileOffset};
use crate::crash::event::VmFlags;
use crate::host;
use crate::symbols::resolver::Names as _;
use crate::symbols::resolver::Resolver;
use crate::unwind::{CfiSection, ModuleData};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Separate debug files.
#[path = "debug_tests.rs"]
mod debug;

/// What the process's memory shows of them.
#[path = "head_tests.rs"]
mod head;

/// What a walk asks of them.
#[path = "walk_tests.rs"]
mod walk;

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sa-modules-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// A copy of a real program.
    fn program(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::copy("/bin/ls", &path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn modules(limits: Limits) -> (Modules, Rc<MemoryBudget>) {
    let budget = Rc::new(MemoryBudget::new(8 << 20));
    let allowance = Rc::new(Allowance::of_work(u64::MAX));
    (Modules::new(limits, budget.clone(), allowance), budget)
}

/// What a capture of this file would say, its first page mapped.
fn mapping_of(path: &Path) -> Mapping {
    let meta = std::fs::metadata(path).unwrap();
    Mapping {
        start: ProcessAddress(0x7000_0000),
        end: ProcessAddress(0x7000_1000),
        flags: VmFlags(1),
        file: Some(MappedFile {
            identity: FileIdentity {
                inode: meta.ino(),
                device: 0,
                size: meta.size(),
                mtime_s: meta.mtime(),
                mtime_ns: meta.mtime_nsec() as u32,
                mapped_unix_ns: None,
                crashed_unix_ns: None,
            },
            offset: FileOffset(0),
            path: path.as_os_str().as_bytes().to_vec(),
            lower_path: None,
            deleted: false,
            detached: false,
            truncated: false,
            head: None,
        }),
    }
}

fn file_of(mapping: &mut Mapping) -> &mut MappedFile {
    mapping.file.as_mut().unwrap()
}

/// A process long gone, of our own mount namespace.
fn gone() -> ProcessHint {
    ProcessHint {
        pid: None,
        host_pid: u32::MAX,
        start_ns: 1,
        mnt_ns: own_mount_namespace().unwrap(),
        ns_pid: u32::MAX,
        uid: Some(0),
        parent: None,
    }
}

fn reason(result: Result<Opened, Missing>) -> &'static str {
    result.unwrap_err().reason
}

#[test]
fn a_known_file_is_opened_once() {
    let dir = Scratch::new("once");
    let path = dir.program("prog");
    let (mut modules, budget) = modules(Limits::default());
    let mapping = mapping_of(&path);
    let first = modules.open(&mapping, gone()).unwrap();
    assert_eq!(first.bias, 0x7000_0000);
    assert_eq!(Some(&*first.module.homes()[0].dir), path.parent());
    assert_eq!(first.module.build_id().map(<[u8]>::len), Some(20));
    let again = modules.open(&mapping, gone()).unwrap();
    assert!(Rc::ptr_eq(&first.module, &again.module));
    let stats = modules.stats();
    assert_eq!((stats.opened, stats.hits, stats.open_now), (1, 1, 1));
    assert!(budget.used() > 0);
    modules.clear();
    assert_eq!(budget.used(), 0);
}

/// The reads for a second report of a crash, by the counters of everything that reads files.
#[test]
fn a_second_crash_in_a_known_program_reads_nothing() {
    let path = std::env::current_exe().unwrap();
    let mapping = mapping_of(&path);
    let (mut modules, budget) = modules(Limits::default());
    let mut resolver = Resolver::new(1000, budget.clone());
    #[cfg(feature = "lines")]
    let (mut places, mut missed) = (crate::symbols::places::Places::new(1000, budget), 0);
    let mut counts = Vec::new();
    let mut answers = Vec::new();
    // In a release profile it is stripped.
    let mut named = false;
    for _ in 0..2 {
        let module = modules.open(&mapping, gone()).unwrap().module;
        let elf = module.elf();
        named = elf.has_symtab();
        let code = elf.loads().iter().find(|load| load.executable).unwrap();
        let address = |step: u64| FileAddress(code.address.0 + code.file_size / 9 * step);
        let addresses: Vec<FileAddress> = (1..9).map(address).collect();
        let mut bytes = [0; 16];
        for &address in &addresses {
            module.read(address, &mut bytes);
            module.function_start(address);
        }
        module.read_section(CfiSection::EhFrameHdr, 0, &mut bytes);
        let symbols = resolver.resolve(&*module, &addresses);
        #[cfg(feature = "lines")]
        let lines = {
            let read = |missing: &[FileAddress]| {
                missed += missing.len() as u64;
                module.calls(missing)
            };
            let (calls, lack) = places.resolve(module.identity(), &addresses, read);
            assert_eq!(lack, None);
            (calls, missed)
        };
        #[cfg(not(feature = "lines"))]
        let lines = ((), 0);
        let (modules, symbol) = (modules.stats(), resolver.stats());
        counts.push([
            modules.opened,
            modules.block_misses,
            symbol.scans,
            symbol.misses,
            lines.1,
        ]);
        answers.push((symbols, lines.0));
    }
    assert_eq!(counts[0], counts[1], "opened, blocks, scans, names, lines");
    assert!(counts[0][..4].iter().all(|&count| count > 0), "{counts:?}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0.iter().any(Option::is_some), named);
}

#[test]
fn a_replaced_file_is_refused() {
    let dir = Scratch::new("replaced");
    let path = dir.program("prog");
    let mapping = mapping_of(&path);
    // Both exist at once, so that the inode is another.
    let new = dir.program("new");
    std::fs::rename(new, &path).unwrap();
    let (mut modules, _) = modules(Limits::default());
    let refused = modules.open(&mapping, gone());
    assert_eq!(reason(refused), "file replaced since the crash");
}

#[test]
fn a_deleted_file_is_refused_unless_it_is_open() {
    let dir = Scratch::new("deleted");
    let path = dir.program("prog");
    let mut mapping = mapping_of(&path);
    let (mut open, _) = modules(Limits::default());
    open.open(&mapping, gone()).unwrap();
    std::fs::remove_file(&path).unwrap();
    open.open(&mapping, gone()).unwrap();

    let (mut late, _) = modules(Limits::default());
    let refused = late.open(&mapping, gone());
    assert_eq!(reason(refused), "file deleted since the crash");
    file_of(&mut mapping).deleted = true;
    let (mut later, _) = modules(Limits::default());
    let refused = later.open(&mapping, gone());
    assert_eq!(reason(refused), "file deleted before the crash");
    std::fs::rename(dir.program("other"), &path).unwrap();
    let (mut later, _) = modules(Limits::default());
    let refused = later.open(&mapping, gone());
    assert_eq!(reason(refused), "file replaced before the crash");
}

#[test]
fn a_file_written_to_is_refused_even_when_it_was_open() {
    let dir = Scratch::new("changed");
    let path = dir.program("prog");
    let mapping = mapping_of(&path);
    let (mut modules, _) = modules(Limits::default());
    modules.open(&mapping, gone()).unwrap();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    let refused = modules.open(&mapping, gone());
    assert_eq!(reason(refused), "file changed since the crash");
    assert_eq!(modules.stats().changed, 1);
    // As it is now it is another file, and a good one.
    modules.open(&mapping_of(&path), gone()).unwrap();
}

/// Written to in place, with the size and the time that it had.
#[test]
fn a_file_is_another_one_after_a_change_that_hides_itself() {
    let dir = Scratch::new("hidden");
    let path = dir.program("prog");
    let (mut modules, _) = modules(Limits::default());
    let mut mapping = mapping_of(&path);
    let before = modules.open(&mapping, gone()).unwrap();
    let crashed = sys::time::realtime_ns();
    std::thread::sleep(Duration::from_millis(50));
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 0x100).unwrap();
    file.set_modified(time).unwrap();
    drop(file);
    // What is open is not used on, nor what is remembered of it.
    let after = modules.open(&mapping, gone()).unwrap();
    assert_eq!(modules.stats().changed, 1);
    assert_ne!(before.module.id(), after.module.id());
    // And not at all for a crash that went before.
    modules.clear();
    file_of(&mut mapping).identity.crashed_unix_ns = Some(crashed);
    let refused = modules.open(&mapping, gone());
    assert_eq!(reason(refused), "file changed since the crash");
    file_of(&mut mapping).identity.crashed_unix_ns = Some(sys::time::realtime_ns());
    modules.clear();
    assert!(modules.open(&mapping, gone()).is_ok());
    // A file that has lost its name is still the same.
    file_of(&mut mapping).identity.crashed_unix_ns = Some(sys::time::realtime_ns());
    modules.open(&mapping, gone()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    std::fs::remove_file(&path).unwrap();
    assert!(modules.open(&mapping, gone()).is_ok());
}

/// A mapping from a capture without sizes and times.
#[test]
fn a_file_is_known_by_when_it_was_mapped() {
    const SECOND_NS: i64 = 1_000_000_000;
    let dir = Scratch::new("when");
    let path = dir.program("prog");
    let meta = std::fs::metadata(&path).unwrap();
    let changed = meta.ctime() * SECOND_NS + meta.ctime_nsec();
    let mapped_at = |unix_ns| {
        let mut mapping = mapping_of(&path);
        file_of(&mut mapping).identity = FileIdentity {
            inode: meta.ino(),
            mapped_unix_ns: Some(unix_ns),
            ..FileIdentity::default()
        };
        mapping
    };
    let (mut modules, _) = modules(Limits::default());
    let later = mapped_at(changed + SECOND_NS);
    let first = modules.open(&later, gone()).unwrap();
    let second = modules.open(&mapped_at(changed + 2 * SECOND_NS), gone());
    assert!(Rc::ptr_eq(&first.module, &second.unwrap().module));
    // Also if it is open already.
    for earlier in [changed - 1, changed - SECOND_NS] {
        let refused = modules.open(&mapped_at(earlier), gone());
        assert_eq!(reason(refused), "file changed since it was mapped");
    }
    assert!(modules.open(&later, gone()).is_ok());
    let other = dir.program("new");
    std::fs::rename(other, &path).unwrap();
    modules.clear();
    let refused = modules.open(&later, gone());
    assert_eq!(reason(refused), "file replaced since the crash");
}

#[test]
fn a_time_ahead_of_the_clock_is_another_clocks() {
    let is_unchanged = search::is_unchanged;
    let (second, changed) = (1_000_000_000, 50_000_000_000);
    assert!(is_unchanged(
        changed,
        changed + second,
        changed + 2 * second
    ));
    assert!(!is_unchanged(
        changed,
        changed - second,
        changed + 2 * second
    ));
    assert!(is_unchanged(changed, 3 * second, 5 * second));
}

#[test]
fn what_is_no_program_is_refused_with_the_reason() {
    let dir = Scratch::new("kinds");
    let (mut modules, _) = modules(Limits::default());
    let text = dir.0.join("text");
    std::fs::write(&text, "no program").unwrap();
    let refused = modules.open(&mapping_of(&text), gone());
    assert_eq!(reason(refused), "not an ELF file");

    let huge = dir.0.join("huge");
    let sparse = std::fs::File::create(&huge).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let refused = modules.open(&mapping_of(&huge), gone());
    assert_eq!(reason(refused), "file too large");

    let path = dir.program("prog");
    let mapping = mapping_of(&path);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let refused = modules.open(&mapping, gone());
    assert_eq!(reason(refused), "not a regular file");

    let mut anonymous = mapping.clone();
    anonymous.file = None;
    let refused = modules.open(&anonymous, gone());
    assert_eq!(reason(refused), "the address is not in a mapped file");

    let mut unnamed = mapping.clone();
    file_of(&mut unnamed).path.clear();
    assert_eq!(reason(modules.open(&unnamed, gone())), "path not captured");

    let mut memfd = mapping;
    file_of(&mut memfd).detached = true;
    modules.missing.clear();
    let refused = modules.open(&memfd, gone());
    assert_eq!(
        reason(refused),
        "the file has no name, and its process is gone"
    );
}

#[test]
fn a_missing_file_is_not_looked_for_again_at_once() {
    let dir = Scratch::new("missing");
    let path = dir.program("prog");
    let mapping = mapping_of(&path);
    let aside = dir.0.join("aside");
    std::fs::rename(&path, &aside).unwrap();
    let (mut modules, _) = modules(Limits::default());
    assert!(modules.open(&mapping, gone()).is_err());
    std::fs::rename(&aside, &path).unwrap();
    assert!(modules.open(&mapping, gone()).is_err(), "within a second");
    for (since, _) in modules.missing.values_mut() {
        *since = since.checked_sub(MISSING_LIFETIME).unwrap();
    }
    modules.open(&mapping, gone()).unwrap();
    assert_eq!(modules.stats().missing, 2);
}

#[test]
fn few_stay_open() {
    let dir = Scratch::new("few");
    let limits = Limits {
        open_modules: 3,
        ..Limits::default()
    };
    let (mut modules, budget) = modules(limits);
    let mappings: Vec<Mapping> = (0..6)
        .map(|n| mapping_of(&dir.program(&format!("prog{n}"))))
        .collect();
    for mapping in &mappings {
        modules.open(&mappings[0], gone()).unwrap();
        modules.open(mapping, gone()).unwrap();
        assert!(modules.stats().open_now <= 3);
    }
    assert_eq!(modules.stats().opened, 6, "the one in use was never closed");
    modules.clear();
    assert_eq!(budget.used(), 0);
}

#[test]
fn the_lower_path_serves_where_the_captured_one_does_not() {
    let dir = Scratch::new("lower");
    let path = dir.program("prog");
    let mut mapping = mapping_of(&path);
    let foreign = ProcessHint {
        mnt_ns: 1,
        ..gone()
    };
    file_of(&mut mapping).path = b"/no/such/program".to_vec();
    let (mut modules, _) = modules(Limits::default());
    let refused = modules.open(&mapping, foreign);
    assert_eq!(
        reason(refused),
        "file not reachable from this mount namespace"
    );
    let file = file_of(&mut mapping);
    file.path = b"/no/such/other".to_vec();
    file.lower_path = Some(path.as_os_str().as_bytes().to_vec());
    modules.open(&mapping, foreign).unwrap();
}

#[test]
fn what_is_not_used_is_closed() {
    let dir = Scratch::new("idle");
    let (mut modules, budget) = modules(Limits::default());
    let mapping = mapping_of(&dir.program("prog"));
    assert_eq!(modules.close_unused(MISSING_LIFETIME), None);
    modules.open(&mapping, gone()).unwrap();
    let next = modules.close_unused(Duration::from_secs(60)).unwrap();
    assert!(next <= Duration::from_secs(60));
    assert_eq!(modules.stats().open_now, 1);
    assert_eq!(modules.close_unused(Duration::ZERO), None);
    assert_eq!((modules.stats().open_now, budget.used()), (0, 0));
}

/// A child that waits to be killed.
struct Sleeper(Child);

impl Sleeper {
    fn start(program: &Path) -> Self {
        let child = Command::new(program)
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Sleeper(child)
    }

    /// Its start time as a capture would give it.
    fn hint(&self) -> ProcessHint {
        let pid = self.0.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 = fields.split_whitespace().nth(19).unwrap().parse().unwrap();
        ProcessHint {
            pid: Some(pid),
            host_pid: pid,
            start_ns: ticks * 10_000_000 + 77,
            ns_pid: pid,
            ..gone()
        }
    }

    /// Where its program's code is, once it has been executed.
    fn code(&self, program: &Path) -> (u64, u64, u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "{program:?} is not run");
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).unwrap();
            let found = maps
                .lines()
                .find(|line| line.contains(" r-xp ") && line.contains(program.to_str().unwrap()));
            let Some(line) = found else {
                std::thread::yield_now();
                continue;
            };
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            return (number(start), number(end), number(words[2]));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_living_process_gives_even_a_deleted_file() {
    let dir = Scratch::new("alive");
    let path = dir.0.join("sleep");
    std::fs::copy("/bin/sleep", &path).unwrap();
    let mut mapping = mapping_of(&path);
    let sleeper = Sleeper::start(&path);
    let (start, end, offset) = sleeper.code(&path);
    mapping.start = ProcessAddress(start);
    mapping.end = ProcessAddress(end);
    mapping.flags = VmFlags(5);
    file_of(&mut mapping).offset = FileOffset(offset);
    file_of(&mut mapping).deleted = true;
    std::fs::remove_file(&path).unwrap();
    let has_home = |opened: Opened| {
        let mut homes = opened.module.homes().iter();
        homes.any(|home| home.dir == dir.0)
    };

    let (mut modules, _) = modules(Limits::default());
    let later = ProcessHint {
        start_ns: sleeper.hint().start_ns + 20_000_000,
        ..sleeper.hint()
    };
    let refused = modules.open(&mapping, later);
    assert_eq!(reason(refused), "file deleted before the crash");
    modules.missing.clear();
    match modules.open(&mapping, sleeper.hint()) {
        Ok(opened) => assert!(has_home(opened)),
        // map_files wants CAP_CHECKPOINT_RESTORE.
        Err(_) => assert_ne!(std::fs::metadata("/proc/self").unwrap().uid(), 0),
    }
    // Another process of that program, gone, whose parent lives.
    let child = |parent| ProcessHint { parent, ..gone() };
    modules.clear();
    mapping.start.0 += 0x1000_0000;
    mapping.end.0 += 0x1000_0000;
    let opened = modules.open(&mapping, child(Some(sleeper.0.id()))).unwrap();
    assert!(has_home(opened));
    modules.clear();
    let refused = modules.open(&mapping, child(Some(std::process::id())));
    assert_eq!(reason(refused), "file deleted before the crash");
}

#[test]
fn a_neighbour_in_the_mount_namespace_shows_its_files() {
    // That namespace is root's to make, and so is the mount in it.
    if !host::is_root() || !host::has("unshare") {
        return;
    }
    let dir = Scratch::new("peer");
    let place = dir.0.to_str().unwrap();
    // A file system that only this process has.
    let script = format!(
        "mount -t tmpfs none {place} && cp /bin/sleep {place}/sleep && exec {place}/sleep 60"
    );
    let spawned = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut peer = Sleeper(spawned.unwrap());
    let program = dir.0.join("sleep");
    let exe = format!("/proc/{}/exe", peer.0.id());
    while std::fs::read_link(&exe).ok().as_deref() != Some(&program) {
        if peer.0.try_wait().unwrap().is_some() {
            let said = std::io::read_to_string(peer.0.stderr.take().unwrap()).unwrap();
            return host::skip(said.trim_end());
        }
        std::thread::yield_now();
    }
    let exe = Path::new(&exe);
    let mut mapping = mapping_of(exe);
    // `/proc` has the path of the link, stat the file there.
    file_of(&mut mapping).path = program.as_os_str().as_bytes().to_vec();
    let link = std::fs::read_link(format!("/proc/{}/ns/mnt", peer.0.id())).unwrap();
    let digits: String = link
        .to_str()
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let hint = ProcessHint {
        mnt_ns: digits.parse().unwrap(),
        ..gone()
    };
    let (mut fresh, _) = modules(Limits::default());
    assert!(!program.exists(), "not to be seen from here");
    let opened = fresh.open(&mapping, hint).unwrap();
    assert!(opened.module.homes()[0].root.is_some());

    drop(peer);
    let (mut late, _) = modules(Limits::default());
    assert_eq!(
        reason(late.open(&mapping, hint)),
        "file not reachable from this mount namespace"
    );
}
