//! Kinds of files that must not be opened, and roots that must not be left.

use super::*;
use std::os::unix::net::UnixListener;

/// A directory of this test's own, removed when dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sa-file-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn only_regular_files_are_opened() {
    let dir = Scratch::new("kinds");
    let at = |name: &str| dir.0.join(name);
    std::fs::write(at("plain"), b"0123456789").unwrap();
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
    std::os::unix::fs::symlink("plain", at("link")).unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    let itself = format!("/proc/{}/exe", std::process::id());
    std::os::unix::fs::symlink(itself, at("magic")).unwrap();

    for bad in ["fifo", "socket", "zero", "loop", "magic", "."] {
        assert_eq!(
            RegularFile::open(&at(bad)).unwrap_err(),
            Refusal::NotRegular,
            "{bad}"
        );
    }
    let missing = RegularFile::open(&at("none")).unwrap_err();
    assert_eq!(missing, Refusal::NotFound);

    for good in ["plain", "link"] {
        let file = RegularFile::open(&at(good)).unwrap();
        let mut buf = [0; 8];
        assert_eq!(file.read_at(4, &mut buf), 6);
        assert_eq!(&buf[..6], b"456789");
        assert_eq!(file.read_at(u64::MAX, &mut buf), 0);
    }
}

#[test]
fn a_foreign_root_is_not_left() {
    let dir = Scratch::new("root");
    std::fs::create_dir_all(dir.0.join("etc")).unwrap();
    std::fs::write(dir.0.join("etc/passwd"), b"inside").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.0.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/passwd", dir.0.join("upward")).unwrap();
    let root = Directory::open(&dir.0).unwrap();
    for path in ["/etc/passwd", "/absolute", "/upward", "/../etc/passwd"] {
        let file = root.open_in_root(path.as_bytes()).unwrap();
        assert_eq!(file.status().unwrap().size, 6, "{path}");
    }
    let by_walk = look_up::walk(root.0.as_fd(), Path::new("/etc/passwd")).unwrap();
    assert_eq!(look_up::status(&File::from(by_walk)).unwrap().size, 6);
    // The walk does not follow the link, which is not a regular file.
    let link = look_up::walk(root.0.as_fd(), Path::new("/absolute")).unwrap();
    assert_eq!(
        look_up::status(&File::from(link)).unwrap_err(),
        Refusal::NotRegular
    );
    assert!(look_up::walk(root.0.as_fd(), Path::new("/etc/../etc/passwd")).is_err());
}

#[test]
fn the_mapping_of_a_live_process_leads_to_its_file() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // The vDSO comes first below a static program.
    let code = |line: &&str| line.contains(" r-xp ") && line.contains('/');
    let line = maps.lines().find(code).unwrap();
    let (range, inode) = (
        line.split(' ').next().unwrap(),
        line.split_whitespace().nth(4).unwrap(),
    );
    let process = Directory::open(Path::new("/proc/self")).unwrap();
    let file = process.open_regular_link(&format!("map_files/{range}"));
    match file {
        Ok(file) => assert_eq!(file.status().unwrap().inode.to_string(), inode),
        Err(refusal) => assert_eq!(refusal, Refusal::NotPermitted, "needs privilege"),
    }
}

#[test]
fn files_of_the_kernels_own_are_not_opened() {
    for path in ["/proc/version", "/proc/self/maps"] {
        let refused = RegularFile::open(Path::new(path)).map(drop);
        assert_eq!(refused, Err(Refusal::Special), "{path}");
    }
}

#[test]
fn a_link_is_refused_on_request_wherever_it_is() {
    let dir = std::env::temp_dir().join(format!("links-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("real")).unwrap();
    std::fs::write(dir.join("real/file"), "x").unwrap();
    std::os::unix::fs::symlink("real", dir.join("by")).unwrap();
    std::os::unix::fs::symlink("real/file", dir.join("last")).unwrap();
    let open = |name: &str| RegularFile::open_without_links(&dir.join(name)).is_ok();
    let opened = ["real/file", "by/file", "last"].map(open);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(opened, [true, false, false]);
}
