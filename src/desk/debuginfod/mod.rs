//! Debug files from debuginfod servers, by build-id.
//!
//! In: a build-id. Out: the path of the debug file in the cache, or the reason why there
//! is none. The cache is laid out and used as elfutils' client does it:
//!
//! ```text
//! CACHE/BUILDID/debuginfo     the file; an empty one: no server has it, asked at its mtime
//! CACHE/cache_miss_s          how many seconds an empty one counts; 600 otherwise
//! ```
//!
//! A file gets its name in the cache only when it is whole and has the build-id that was
//! asked for. Plain HTTP is [`http`]; for `https` a program of the host is run ([`program`]). The
//! monitor has no part in this. debuginfod(8), debuginfod_find_debuginfo(3), elfutils
//! `debuginfod/debuginfod-client.c`.

mod http;
mod program;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::base::bytes::hex;
use crate::symbols::elf::{ElfFile, Source};
use crate::sys::file::RegularFile;
use http::Url;

/// Files that are asked for in one run: reports can name as many as they like.
const MAX_REQUESTS: u32 = 2000;
/// A debug file is at most as large.
const MAX_BYTES: u64 = 8 << 30;
/// In each window of time a server sends as much, or is given up.
const WINDOW_BYTES: u64 = 100 << 10;
const WINDOW: Duration = Duration::from_secs(90);
/// For one file.
const WHOLE: Duration = Duration::from_secs(3600);
const CACHE_MISS_S: u64 = 600;
/// Linkers make no longer ones.
const MAX_BUILD_ID: usize = 64;
/// Of a file with a number.
const MAX_NUMBER: usize = 32;

/// What a server may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    /// The time for [`WINDOW_BYTES`], and for the answer to begin.
    window: Duration,
    whole: Duration,
}

/// Why a server gave no file.
#[derive(Debug)]
enum Failure {
    /// It does not have it.
    NotFound,
    Unreachable(io::Error),
    Broken(io::Error),
    Status(u16),
    TooLarge,
    TooSlow,
    /// What it sent is not taken.
    Refused(&'static str),
    /// The cache cannot be written.
    Cache(io::Error),
    /// No program for `https` is there, or it failed.
    Program(String),
}

impl Failure {
    fn of_read(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::TooSlow,
            _ => Failure::Broken(error),
        }
    }

    /// A few words for a message.
    fn text(&self) -> String {
        match self {
            Failure::NotFound => "not found".into(),
            Failure::Unreachable(error) => format!("cannot be reached: {error}"),
            Failure::Broken(error) => format!("the connection broke: {error}"),
            Failure::Status(status) => format!("the server answered with status {status}"),
            Failure::TooLarge => "the file is too large".into(),
            Failure::TooSlow => "the server is too slow".into(),
            Failure::Refused(what) => format!("the server sent {what}"),
            Failure::Cache(error) => format!("the cache cannot be written: {error}"),
            Failure::Program(what) => what.clone(),
        }
    }
}

/// Whether a server is fast enough: in each window [`WINDOW_BYTES`], and all within the time
/// for the whole.
#[derive(Debug)]
struct Progress<'a> {
    limits: &'a Limits,
    begin: Instant,
    window: Instant,
    bytes: u64,
}

impl<'a> Progress<'a> {
    fn new(limits: &'a Limits, now: Instant) -> Self {
        Progress {
            limits,
            begin: now,
            window: now,
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        if self.bytes >= WINDOW_BYTES {
            self.bytes = 0;
            self.window = now;
        }
    }

    /// How long the next read may take; `None` if the time is over.
    fn left(&self, now: Instant) -> Option<Duration> {
        let window = self.limits.window.checked_sub(now - self.window)?;
        let whole = self.limits.whole.checked_sub(now - self.begin)?;
        Some(window.min(whole)).filter(|left| !left.is_zero())
    }
}

/// A server, as it was given.
#[derive(Debug)]
struct Server {
    text: String,
    /// It failed in a way that further requests would repeat.
    given_up: bool,
}

/// Servers, and the cache.
#[derive(Debug)]
pub(super) struct Debuginfod {
    servers: Vec<Server>,
    cache: PathBuf,
    limits: Limits,
    requests: u32,
    /// Messages for the user.
    pub(super) said: Vec<String>,
}

impl Debuginfod {
    /// `given` are the servers of the command line, in whose place the variable
    /// DEBUGINFOD_URLS may stand. `None` if there are none; a message if there is no cache.
    pub(super) fn new(
        given: Vec<String>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let urls = match given.is_empty() {
            true => text("DEBUGINFOD_URLS").unwrap_or_default(),
            false => given.join(" "),
        };
        // Other words of the variable say how files are to be verified.
        let words = urls.split_whitespace().filter(|word| word.contains("://"));
        let servers: Vec<Server> = words
            .map(|word| Server {
                text: word.trim_end_matches('/').to_owned(),
                given_up: false,
            })
            .collect();
        if servers.is_empty() {
            return Ok(None);
        }
        let number = |name: &str| {
            text(name)
                .and_then(|text| text.parse().ok())
                .filter(|number| *number > 0)
        };
        Ok(Some(Debuginfod {
            servers,
            cache: cache(variable)
                .ok_or("no cache for debuginfod: neither HOME nor DEBUGINFOD_CACHE_PATH is set")?,
            limits: Limits {
                bytes: number("DEBUGINFOD_MAXSIZE").unwrap_or(MAX_BYTES),
                window: number("DEBUGINFOD_TIMEOUT").map_or(WINDOW, Duration::from_secs),
                whole: number("DEBUGINFOD_MAXTIME").map_or(WHOLE, Duration::from_secs),
            },
            requests: 0,
            said: Vec::new(),
        }))
    }

    /// The debug file of that build-id, in the cache; `None` if no server has it.
    pub(super) fn find(&mut self, build_id: &[u8]) -> Option<PathBuf> {
        if !(1..=MAX_BUILD_ID).contains(&build_id.len()) {
            return None;
        }
        let dir = self.cache.join(hex(build_id));
        let place = dir.join("debuginfo");
        match fs::metadata(&place) {
            Ok(there) if there.len() > 0 => return Some(place),
            Ok(there) if self.is_recent(there.modified().ok()) => return None,
            _ => {}
        }
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            if self.requests == MAX_REQUESTS + 1 {
                self.said.push(format!(
                    "debuginfod: no more than {MAX_REQUESTS} files are asked for"
                ));
            }
            return None;
        }
        let mut is_nowhere = true;
        for number in 0..self.servers.len() {
            if self.servers[number].given_up {
                is_nowhere = false;
                continue;
            }
            match self.fetch(&self.servers[number].text, build_id, &dir) {
                Ok(()) => return Some(place),
                Err(Failure::NotFound) => {}
                Err(failure) => {
                    is_nowhere = false;
                    let server = &mut self.servers[number];
                    server.given_up = !matches!(
                        failure,
                        Failure::TooLarge | Failure::Status(_) | Failure::Refused(_)
                    );
                    let more = if server.given_up {
                        "; it is not asked again"
                    } else {
                        ""
                    };
                    self.said.push(format!(
                        "{}: {}{more}",
                        server.text.escape_debug(),
                        failure.text()
                    ));
                }
            }
        }
        if is_nowhere {
            // The next run does not ask again.
            let _ = fs::remove_file(&place);
            let _ = make_directory(&dir).and_then(|()| create(&place));
        }
        None
    }

    /// Whether servers were asked so recently that they are not asked again.
    fn is_recent(&self, asked: Option<SystemTime>) -> bool {
        let given = fs::read(self.cache.join("cache_miss_s")).ok();
        let given = given.filter(|text| text.len() <= MAX_NUMBER);
        let given = given.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
        let age = asked.and_then(|asked| asked.elapsed().ok());
        age.is_some_and(|age| age.as_secs() <= given.unwrap_or(CACHE_MISS_S))
    }

    fn fetch(&self, server: &str, build_id: &[u8], dir: &Path) -> Result<(), Failure> {
        let address = format!("{server}/buildid/{}/debuginfo", hex(build_id));
        make_directory(dir).map_err(Failure::Cache)?;
        let mut part = Part::new(dir)?;
        let mut left = self.limits.bytes;
        let mut take = |block: &[u8]| {
            left = left
                .checked_sub(block.len() as u64)
                .ok_or(Failure::TooLarge)?;
            part.file.write_all(block).map_err(Failure::Cache)
        };
        match Url::parse(&address) {
            Some(url) => http::get(&url, &self.limits, &mut take)?,
            None => program::get(&address, &self.limits, &mut take)?,
        }
        part.keep(build_id, &dir.join("debuginfo"))
    }
}

/// A file that is being written; removed unless it is kept.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn new(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(format!("debuginfo.{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let file = create(&path).map_err(Failure::Cache)?;
        Ok(Part { file, path })
    }

    /// Gives it its name, if it is the file that was asked for.
    fn keep(self, build_id: &[u8], place: &Path) -> Result<(), Failure> {
        let source = RegularFile::open(&self.path).and_then(Source::file);
        let elf = source.ok().and_then(|source| ElfFile::parse(source).ok());
        match elf {
            Some(elf) if elf.build_id() == Some(build_id) => {}
            Some(_) => return Err(Failure::Refused("a file with another build-id")),
            None => return Err(Failure::Refused("something that is no ELF file")),
        }
        let read_only = fs::Permissions::from_mode(0o400);
        self.file
            .set_permissions(read_only)
            .map_err(Failure::Cache)?;
        fs::rename(&self.path, place).map_err(Failure::Cache)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Under its own name it is there no more.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file; never one that is there.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn make_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Where files are put: the first of the places at which all clients look.
fn cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let below = |name: &str, below: &str| {
        let base = variable(name).filter(|value| !value.is_empty());
        base.map(|base| Path::new(&base).join(below))
            .filter(|path| path.is_absolute())
    };
    let old = || below("HOME", ".debuginfod_client_cache").filter(|path| path.is_dir());
    below("DEBUGINFOD_CACHE_PATH", "")
        .or_else(old)
        .or_else(|| below("XDG_CACHE_HOME", "debuginfod_client"))
        .or_else(|| below("HOME", ".cache/debuginfod_client"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_must_send_something_in_each_window() {
        let limits = Limits {
            bytes: 0,
            window: Duration::from_secs(10),
            whole: Duration::from_secs(25),
        };
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut progress = Progress::new(&limits, begin);
        assert_eq!(progress.left(at(4)), Some(Duration::from_secs(6)));
        progress.add(WINDOW_BYTES - 1, at(5));
        assert_eq!(progress.left(at(10)), None);
        progress.add(1, at(9));
        assert_eq!(progress.left(at(10)), Some(Duration::from_secs(9)));
        progress.add(WINDOW_BYTES, at(18));
        assert_eq!(progress.left(at(20)), Some(Duration::from_secs(5)));
        progress.add(WINDOW_BYTES, at(24));
        assert_eq!(progress.left(at(25)), None);
    }

    #[test]
    fn servers_come_from_the_command_line_or_the_environment() {
        let variable = |name: &str| match name {
            "DEBUGINFOD_URLS" => Some("ima:enforcing https://a/ http://b/x/".into()),
            "HOME" => Some("/nonexistent".into()),
            _ => None,
        };
        let servers = |given: &[&str]| {
            let given = given.iter().map(|text| (*text).to_owned()).collect();
            let found = Debuginfod::new(given, &variable).expect("a cache");
            let servers = found.expect("servers").servers;
            servers
                .into_iter()
                .map(|server| server.text)
                .collect::<Vec<_>>()
        };
        assert_eq!(servers(&[]), ["https://a", "http://b/x"]);
        assert_eq!(servers(&["http://c"]), ["http://c"]);
        assert!(Debuginfod::new(Vec::new(), &|_| None)
            .expect("nothing is wrong")
            .is_none());
        assert!(Debuginfod::new(vec!["http://c".into()], &|_| None).is_err());
    }

    #[test]
    fn the_cache_is_where_other_clients_have_it() {
        let of = |variables: &[(&str, &str)]| {
            cache(&|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).into())
            })
        };
        let (own, xdg, home) = (
            ("DEBUGINFOD_CACHE_PATH", "/c"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/nonexistent"),
        );
        assert_eq!(of(&[home, xdg, own]), Some("/c".into()));
        assert_eq!(of(&[home, xdg]), Some("/x/debuginfod_client".into()));
        assert_eq!(
            of(&[home]),
            Some("/nonexistent/.cache/debuginfod_client".into())
        );
        assert_eq!(of(&[("HOME", "relative")]), None);
    }
}
