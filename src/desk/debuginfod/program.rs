//! A file from a server that needs more than plain HTTP, by a program of the host: curl, or
//! else elfutils' debuginfod-find.
//!
//! In: an address. Out: the bytes, from the program's standard output or from its own
//! cache. The program verifies certificates, and its settings, proxies too, are those of the user.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Failure, Limits, WINDOW_BYTES};

/// What a program may say.
const MAX_SAID: u64 = 4096;
const BLOCK: usize = 64 << 10;

/// Gives the file at `address` to `take`, a block at a time.
///
/// # Errors
/// [`Failure::NotFound`] if the server does not have it, otherwise what went wrong.
pub(super) fn get(
    address: &str,
    limits: &Limits,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !address
        .get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    {
        return Err(Failure::Program(
            "neither an http nor an https address".into(),
        ));
    }
    match curl(address, limits, take) {
        Some(result) => result,
        None => debuginfod_find(address, limits, take).unwrap_or_else(|| {
            let what = "https needs curl or debuginfod-find, and neither is installed";
            Err(Failure::Program(what.into()))
        }),
    }
}

/// `None` if there is no such program.
fn spawn(command: &mut Command) -> Option<Result<Child, Failure>> {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => Some(Ok(child)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(Err(Failure::Program(error.to_string()))),
    }
}

fn curl(
    address: &str,
    limits: &Limits,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Option<Result<(), Failure>> {
    let seconds = limits.window.as_secs().max(1);
    let speed = (WINDOW_BYTES / seconds).max(1);
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--fail",
            "--location",
            "--max-redirs",
            "5",
            "--proto",
            "=https",
        ])
        .args([
            "--connect-timeout",
            "10",
            "--write-out",
            "%{stderr}%{http_code}",
        ])
        .arg("--max-time")
        .arg(limits.whole.as_secs().to_string())
        .arg("--speed-time")
        .arg(seconds.to_string())
        .arg("--speed-limit")
        .arg(speed.to_string())
        .args(["--", address]);
    let mut child = match spawn(&mut command)? {
        Ok(child) => child,
        Err(failure) => return Some(Err(failure)),
    };
    let passed = child
        .stdout
        .take()
        .map_or(Ok(()), |mut stdout| pass(&mut stdout, take));
    if passed.is_err() {
        let _ = child.kill();
    }
    let said = said(&mut child);
    let Ok(status) = child.wait() else {
        return Some(Err(Failure::Program("curl was lost".into())));
    };
    // What --write-out adds, after what curl itself has to say.
    let answer = said
        .get(said.len().saturating_sub(3)..)
        .and_then(|digits| digits.parse().ok());
    Some(match (passed, status.code(), answer) {
        (Err(failure), ..) => Err(failure),
        (_, Some(0), _) => Ok(()),
        (_, Some(22), Some(404)) => Err(Failure::NotFound),
        (_, Some(22), Some(answer)) => Err(Failure::Status(answer)),
        (_, Some(28), _) => Err(Failure::TooSlow),
        (_, Some(code), _) => Err(Failure::Program(format!(
            "curl failed with status {code}, see curl(1)"
        ))),
        (_, None, _) => Err(Failure::Program("curl was killed".into())),
    })
}

fn debuginfod_find(
    address: &str,
    limits: &Limits,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Option<Result<(), Failure>> {
    let (server, rest) = address.split_once("/buildid/")?;
    let build_id = rest.strip_suffix("/debuginfo")?;
    let mut command = Command::new("debuginfod-find");
    command
        .args(["debuginfo", build_id])
        .env("DEBUGINFOD_URLS", server)
        .env("DEBUGINFOD_TIMEOUT", limits.window.as_secs().to_string())
        .env("DEBUGINFOD_MAXTIME", limits.whole.as_secs().to_string())
        .env("DEBUGINFOD_MAXSIZE", limits.bytes.to_string());
    let mut child = match spawn(&mut command)? {
        Ok(child) => child,
        Err(failure) => return Some(Err(failure)),
    };
    let mut path = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(MAX_SAID).read_to_end(&mut path);
    }
    let said = said(&mut child);
    let is_done = child.wait().is_ok_and(|status| status.success());
    let path = Path::new(std::ffi::OsStr::from_bytes(path.trim_ascii_end()));
    Some(match File::open(path) {
        Ok(mut file) if is_done => pass(&mut file, take),
        _ if said.contains("No such file or directory") => Err(Failure::NotFound),
        _ => Err(Failure::Program("debuginfod-find failed".into())),
    })
}

fn pass(
    from: &mut dyn Read,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&block[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::of_read(error)),
        }
    }
}

/// What a program says on standard error.
fn said(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_SAID).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
