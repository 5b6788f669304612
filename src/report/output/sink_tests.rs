use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{pipe, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{chown, symlink, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::host;

/// A directory that only its owner can write to, and that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("segfault_sink_{}_{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for the test");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("our directory");
        Scratch(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Sink {
    Sink::open(Some(path), false).expect("this can be opened")
}

fn open_error(path: &Path) -> String {
    let error = Sink::open(Some(path), false).expect_err("this must be refused");
    error.to_string()
}

/// As a shell hands a descriptor over.
fn inherited(file: &impl AsRawFd) -> Sink {
    open(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())))
}

fn write(sink: &mut Sink, report: &str) -> Written {
    sink.write(report.as_bytes()).expect("the output goes on")
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).expect("the file is there")
}

#[test]
fn a_new_file_is_the_owners_alone_and_an_old_one_is_emptied_unless_appended_to() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    assert_eq!(write(&mut open(&path), "one\n"), Written::Now);
    let mode = fs::metadata(&path).expect("it was made").mode();
    assert_eq!(mode & 0o7777, 0o600);

    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("our file");
    let mut appending = Sink::open(Some(&path), true).expect("it exists");
    write(&mut appending, "two\n");
    assert_eq!(content(&path), "one\ntwo\n");

    write(&mut open(&path), "three\n");
    assert_eq!(content(&path), "three\n");
    let mode = fs::metadata(&path).expect("it is there").mode();
    assert_eq!(mode & 0o7777, 0o640, "an old file keeps its mode");
}

#[test]
fn a_file_cut_by_somebody_else_goes_on_at_its_end() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let mut sink = open(&path);
    write(&mut sink, "before\n");
    fs::write(&path, "").expect("copytruncate empties it");
    write(&mut sink, "after\n");
    assert_eq!(content(&path), "after\n");
}

#[test]
fn links_are_followed_only_where_nobody_but_root_can_lay_them() {
    let scratch = Scratch::new();
    symlink("target", scratch.join("link")).expect("a link");
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o775)).expect("our directory");
    let refusal = open_error(&scratch.join("link"));
    assert!(refusal.contains("symbolic link"), "{refusal}");
    assert!(!scratch.join("target").exists());
    if !host::is_root() {
        return;
    }
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o755)).expect("our directory");
    write(&mut open(&scratch.join("link")), "through\n");
    assert_eq!(content(&scratch.join("target")), "through\n");

    std::os::unix::fs::lchown(scratch.join("link"), Some(65_534), None).expect("we are root");
    open_error(&scratch.join("link"));
    symlink("round", scratch.join("round")).expect("a link");
    open_error(&scratch.join("round"));
}

#[test]
fn what_is_no_place_for_reports_is_refused() {
    let scratch = Scratch::new();
    assert!(open_error(&scratch.0).contains("directory"));
    assert!(open_error(&scratch.join("none/log")).contains("its directory"));
    let socket = scratch.join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    open_error(&socket);
    open_error(Path::new("/"));
    open_error(Path::new("/dev/fd/987654"));
}

#[test]
fn an_inherited_file_is_not_emptied() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    fs::write(&path, "the shell's\n").expect("our file");
    let appended = OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("it is there");
    let mut sink = inherited(&appended);
    assert!(!sink.is_named());
    write(&mut sink, "ours\n");
    sink.reopen();
    assert_eq!(content(&path), "the shell's\nours\n");
}

#[test]
fn a_rotated_file_is_opened_anew_and_never_emptied() {
    let scratch = Scratch::new();
    let (path, old) = (scratch.join("log"), scratch.join("log.1"));
    let mut sink = open(&path);
    write(&mut sink, "one\n");
    fs::rename(&path, &old).expect("our file");
    write(&mut sink, "two\n");
    fs::write(&path, "made by logrotate\n").expect("our file");
    sink.reopen();
    write(&mut sink, "three\n");
    assert_eq!(content(&old), "one\ntwo\n");
    assert_eq!(content(&path), "made by logrotate\nthree\n");

    fs::remove_file(&path).expect("our file");
    fs::create_dir(&path).expect("in its place");
    sink.reopen();
    assert_eq!(
        write(&mut sink, "four\n"),
        Written::Now,
        "the old file stays"
    );
}

#[test]
fn a_fifo_is_opened_anew_only_with_a_reader() {
    let scratch = Scratch::new();
    let fifo = scratch.join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
    let mut reader = nonblocking(&fifo);
    let mut sink = open(&fifo);
    write(&mut sink, "one\n");
    sink.reopen();
    write(&mut sink, "two\n");
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).expect("both are there");
    assert_eq!(&bytes, b"one\ntwo\n");
    drop(reader);
    sink.reopen();
    assert!(sink.write(b"three\n").is_err(), "nobody reads");
}

fn nonblocking(fifo: &Path) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(fifo).expect("it opens")
}

#[test]
fn a_fifo_that_nobody_reads_holds_nothing_up() {
    let scratch = Scratch::new();
    let fifo = scratch.join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
    let mut sink = open(&fifo);
    assert_eq!(write(&mut sink, "one\n"), Written::Now);
    let mut bytes = [0; 4];
    let mut reader = nonblocking(&fifo);
    reader.read_exact(&mut bytes).expect("it waited there");
    assert_eq!(&bytes, b"one\n");
    drop(reader);
    assert_eq!(
        write(&mut sink, "two\n"),
        Written::Now,
        "and the next one waits"
    );
}

/// A link to a file of ours would have it emptied, and filled with reports.
#[test]
fn a_file_that_others_could_have_laid_ready_is_refused() {
    let scratch = Scratch::new();
    let (own, planted) = (scratch.join("own"), scratch.join("planted"));
    fs::write(&own, "mine\n").expect("our directory");
    fs::hard_link(&own, &planted).expect("the same directory");
    drop(open(&planted));
    let directory = planted.parent().expect("it has one");
    fs::set_permissions(directory, Permissions::from_mode(0o777)).expect("ours");
    fs::write(&own, "mine\n").expect("our directory");
    assert!(open_error(&planted).contains("more than one name"));
    assert_eq!(content(&own), "mine\n");
    fs::remove_file(&own).expect("ours");
    drop(open(&planted));
}

/// Its owner could read the reports, memory of other users' programs among them.
#[test]
fn a_file_of_another_user_in_a_shared_directory_is_refused() {
    const NOBODY: u32 = 65534;
    let scratch = Scratch::new();
    let file = scratch.join("file");
    fs::write(&file, "").expect("our directory");
    if !host::is_root() {
        return host::skip("only root gives a file to another user");
    }
    chown(&file, Some(NOBODY), None).expect("root may");
    drop(open(&file));
    let directory = file.parent().expect("it has one");
    fs::set_permissions(directory, Permissions::from_mode(0o777)).expect("ours");
    assert!(open_error(&file).contains("belongs to another user"));
    // A directory of that user's own: nothing is given away that is not given anyway.
    fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("ours");
    chown(directory, Some(NOBODY), None).expect("as above");
    drop(open(&file));
}

#[test]
fn a_reader_that_has_gone_is_an_end() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut sink = inherited(&writer);
    drop(reader);
    let error = sink.write(b"report\n").expect_err("nobody reads");
    assert_eq!(error.kind(), Kind::BrokenPipe);
    assert_eq!(error.kind().exit_status(), 0);
}

#[test]
fn a_report_larger_than_the_pipe_arrives_whole() {
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut sink = inherited(&writer);
    drop(writer);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    let report = vec![b'x'; 300_000];
    sink.end(Duration::from_secs(60));
    assert_eq!(sink.write(&report).expect("somebody reads"), Written::Now);
    drop(sink);
    let all = reader.join().expect("it ends").expect("it reads");
    assert_eq!(all.len(), report.len());
}

#[test]
fn a_stopped_reader_does_not_make_us_deaf() {
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut sink = inherited(&writer);
    drop(writer);
    let large = "a".repeat(100_000) + "\n";
    assert!(!sink.is_blocked());
    assert_eq!(write(&mut sink, &large), Written::Later);
    assert_eq!(write(&mut sink, "b\n"), Written::Later);
    assert!(sink.is_blocked());
    assert_eq!(sink.reports_not_written(), 2);
    let mut taken = vec![0; 50_000];
    reader.read_exact(&mut taken).expect("it is there");
    sink.go_on().expect("somebody reads");
    assert_eq!(
        sink.reports_not_written(),
        0,
        "there was room for all of it"
    );
    assert!(!sink.is_blocked());
    assert_eq!(write(&mut sink, &large), Written::Later);
    assert_eq!(write(&mut sink, "b\n"), Written::Later);

    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        reader.read_to_string(&mut all).map(|_| all)
    });
    sink.end(Duration::from_secs(60));
    assert_eq!(sink.finish().expect("somebody reads"), 0);
    drop(sink);
    let all = reader.join().expect("it ends").expect("it reads");
    let written = format!("{large}b\n{large}b\n");
    assert!(
        taken == written.as_bytes()[..taken.len()] && all == written[taken.len()..],
        "begun reports are continued, not repeated"
    );
}

/// As the journal is, whose readers and writers share how it waits.
#[test]
fn a_socket_that_waits_for_everybody_else_does_not_wait_for_us() {
    let (mut reader, ours) = UnixStream::pair().expect("a pair");
    let mut sink = inherited(&ours);
    drop(ours);
    let large = "a".repeat(10_000_000) + "\n";
    assert_eq!(write(&mut sink, &large), Written::Later);
    assert!(sink.is_blocked());
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        reader.read_to_string(&mut all).map(|_| all)
    });
    sink.end(Duration::from_secs(60));
    assert_eq!(sink.finish().expect("somebody reads"), 0);
    drop(sink);
    let all = reader.join().expect("it ends").expect("it reads");
    assert!(all == large);
}

#[test]
fn a_reader_that_stays_stopped_costs_no_more_than_patience() {
    let (_reader, writer) = pipe().expect("a pipe");
    let mut sink = inherited(&writer);
    write(&mut sink, &"a".repeat(100_000));
    sink.end(Duration::from_millis(10));
    for _ in 0..3 {
        assert_eq!(write(&mut sink, "b\n"), Written::Later);
        assert!(!sink.is_blocked(), "nothing waits for it any more");
    }
    assert_eq!(sink.finish().expect("no error"), 4);
}

#[test]
fn what_cannot_be_written_waits_until_there_is_no_room_to_wait() {
    let mut sink = open(Path::new("/dev/full"));
    sink.queue_limit_bytes = 10;
    assert_eq!(write(&mut sink, "larger than the queue\n"), Written::Later);
    assert_eq!(write(&mut sink, "b\n"), Written::Lost);
    assert_eq!(sink.reports_not_written(), 2);
    assert_eq!(sink.errors(), 2);
    assert_eq!(sink.queued_bytes(), 22);
    assert_eq!(sink.finish().expect("no error"), 2);
    assert_eq!(sink.reports_not_written(), 2);
}

/// A tmpfs of 16 KB; skips where we may not mount.
struct SmallDisk(Scratch);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let scratch = Scratch::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k,mode=0755", "tmpfs"])
            .arg(&scratch.0)
            .output();
        match mounted {
            Ok(output) if output.status.success() => return Some(SmallDisk(scratch)),
            Ok(output) => host::skip(String::from_utf8_lossy(&output.stderr).trim_end()),
            Err(error) => host::skip(format_args!("mount: {error}")),
        }
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0 .0).status();
    }
}

#[test]
fn of_a_report_that_a_full_disk_cuts_nothing_stays_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let (path, filler) = (disk.0.join("log"), disk.0.join("filler"));
    let mut sink = open(&path);
    let large = "x".repeat(5000) + "\n";
    fs::write(&filler, vec![0; 8192]).expect("there is room");
    write(&mut sink, "first\n");
    assert_eq!(write(&mut sink, &large), Written::Now);
    assert_eq!(write(&mut sink, &large), Written::Later);
    assert_eq!(content(&path), format!("first\n{large}"), "no half line");
    assert_eq!((sink.reports_not_written(), sink.errors()), (1, 1));

    fs::remove_file(&filler).expect("our file");
    assert_eq!(write(&mut sink, "last\n"), Written::Now);
    assert_eq!(content(&path), format!("first\n{large}{large}last\n"));
    assert_eq!(sink.reports_not_written(), 0);
}

#[test]
fn an_inherited_file_gets_the_rest_of_a_cut_report_later() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let (path, filler) = (disk.0.join("log"), disk.0.join("filler"));
    let shells = File::create(&path).expect("there is room");
    let mut sink = inherited(&shells);
    fs::write(&filler, vec![0; 12288]).expect("there is room");
    let large = "x".repeat(5000) + "\n";
    assert_eq!(write(&mut sink, &large), Written::Later);
    fs::remove_file(&filler).expect("our file");
    assert_eq!(sink.finish().expect("no error"), 0);
    assert_eq!(content(&path), large);
}

/// Reports stay whole, and as many files as are wanted.
#[test]
fn a_file_that_grows_is_put_aside() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let mut sink = open(&path);
    sink.rotate(Some(Rotation { bytes: 10, keep: 2 }));
    for number in 0..8 {
        let report = format!("{number}{number}{number}\n");
        assert_eq!(sink.write(report.as_bytes()).expect("room"), Written::Now);
    }
    sink.write(b"longer than all of it\n").expect("room");
    sink.write(b"end\n").expect("room");
    let read = |name: &str| fs::read_to_string(scratch.join(name)).ok();
    assert_eq!(read("log").as_deref(), Some("end\n"));
    assert_eq!(read("log.1").as_deref(), Some("longer than all of it\n"));
    assert_eq!(read("log.2").as_deref(), Some("666\n777\n"));
    assert_eq!(read("log.3"), None);
    let mode = fs::metadata(&path).expect("our file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(sink.finish().expect("written"), 0);
}

/// What somebody else has put there stays where it is.
#[test]
fn another_file_of_that_name_is_not_put_aside() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let mut sink = open(&path);
    sink.rotate(Some(Rotation { bytes: 10, keep: 2 }));
    sink.write(b"0123456\n").expect("room");
    fs::rename(&path, scratch.join("moved")).expect("our file");
    fs::write(&path, "another").expect("our directory");
    sink.write(b"89abcdef\n").expect("room");
    assert_eq!(fs::read(&path).expect("our file"), b"another");
    let moved = fs::read(scratch.join("moved")).expect("our file");
    assert_eq!(moved, b"0123456\n89abcdef\n");
}

/// As after SIGKILL during a write.
#[test]
fn a_line_that_was_cut_off_gets_an_end() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    for (before, expected) in [
        ("whole\nha", "whole\nha\nnext\n"),
        ("whole\n", "whole\nnext\n"),
        ("", "next\n"),
    ] {
        fs::write(&path, before).expect("our directory");
        let mut sink = Sink::open(Some(&path), true).expect("our file");
        sink.write(b"next\n").expect("room");
        assert_eq!(fs::read_to_string(&path).expect("our file"), expected);
        fs::write(&path, before).expect("our directory");
        sink.reopen();
        sink.write(b"next\n").expect("room");
        assert_eq!(fs::read_to_string(&path).expect("our file"), expected);
    }
}
