//! Debug files from servers, by a desk build: from a real `debuginfod` on this host, from one
//! that speaks https, and from servers that are hostile.
#![cfg(feature = "desk")]

#[path = "host/mod.rs"]
mod host;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of whatever a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

const SOURCE: &str = "\
volatile int *nowhere;
__attribute__((noinline)) int price_of(int item) { return *nowhere + item; }
int main(int argc, char **argv) { return price_of(argc); }
";

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debuginfod-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory below target/");
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program that is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program's debug file, and a report of a crash in it.
struct Sample {
    scratch: Scratch,
    build_id: String,
    report: String,
}

impl Sample {
    /// `None` where there is no compiler.
    fn new(name: &str) -> Option<Self> {
        if !["cc", "objcopy", "nm", "readelf"]
            .into_iter()
            .all(host::has)
        {
            return None;
        }
        let scratch = Scratch::new(name);
        let source = scratch.path("bill.c");
        fs::write(&source, SOURCE).expect("our own file");
        let program = scratch.path("bill");
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-g", "-Wl,--build-id", "-o"]);
        output(compile.arg(&program).arg(&source));
        fs::create_dir(scratch.path("debug")).expect("our own directory");
        let debug = scratch.path("debug/bill.debug");
        output(
            Command::new("objcopy")
                .arg("--only-keep-debug")
                .arg(&program)
                .arg(&debug),
        );
        let symbols = output(Command::new("nm").arg(&program));
        let line = symbols.lines().find(|line| line.ends_with(" price_of"));
        let address = line
            .and_then(|line| line.split(' ').next())
            .expect("a function");
        let notes = output(Command::new("readelf").arg("-n").arg(&program));
        let build_id = notes.split("Build ID: ").nth(1).expect("--build-id");
        let build_id = build_id
            .split_whitespace()
            .next()
            .expect("digits")
            .to_owned();
        let report = report(&build_id, address);
        Some(Sample {
            scratch,
            build_id,
            report,
        })
    }

    fn debug_file(&self) -> Vec<u8> {
        fs::read(self.scratch.path("debug/bill.debug")).expect("our own file")
    }

    fn cached(&self) -> PathBuf {
        self.scratch
            .path("cache")
            .join(&self.build_id)
            .join("debuginfo")
    }

    /// Symbolizes the report; what is printed, and what is said.
    fn symbolize(&self, server: &str, variables: &[(&str, &str)]) -> (String, String) {
        self.symbolize_report(&self.report, server, variables)
    }

    fn symbolize_report(
        &self,
        report: &str,
        server: &str,
        variables: &[(&str, &str)],
    ) -> (String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_segfault_analyzer"))
            .args(["symbolize", "--debuginfod", server])
            .env_remove("HOME")
            .env("DEBUGINFOD_CACHE_PATH", self.scratch.path("cache"))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("our own binary");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(report.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("our own child");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let (printed, said) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}");
        (printed, said)
    }
}

fn report(build_id: &str, address: &str) -> String {
    format!(
        "{{\"timestamp\":1,\"pid\":2,\"instruction_symbol\":null,\"fault_type\":\"map_error\",\
         \"stack_trace\":[{{\"address\":\"0x{address}\",\"symbol\":null,\"module\":\"/srv/bill\",\
         \"module_offset\":\"0x{address}\",\"build_id\":\"{build_id}\",\"trust\":\"context\",\
         \"file\":null,\"line\":null,\"inlined\":false}}],\"lost\":[]}}\n"
    )
}

#[track_caller]
fn assert_named(printed: &str) {
    assert!(
        printed.contains("\"symbol\":\"price_of+0x0 (/srv/bill)\""),
        "{printed}"
    );
    assert!(printed.contains("bill.c\",\"line\":2,"), "{printed}");
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("an address").port()
}

#[test]
fn a_real_server_has_what_symbolize_lacks() {
    if !["debuginfod", "debuginfod-find"].into_iter().all(host::has) {
        return;
    }
    let Some(sample) = Sample::new("real") else {
        return;
    };
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new("debuginfod");
    command.arg("-d").arg(sample.scratch.path("index.sqlite"));
    command
        .args(["-p", &port.to_string(), "-F"])
        .arg(sample.scratch.path("debug"));
    command
        .env_remove("DEBUGINFOD_URLS")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Running(command.spawn().expect("debuginfod"));
    wait_for_file(port, &sample.build_id);

    let (printed, said) = sample.symbolize(&url, &[]);
    assert_eq!(said, "");
    assert_named(&printed);
    assert_eq!(
        fs::read(sample.cached()).expect("a cached file"),
        sample.debug_file()
    );
    let mode = fs::metadata(sample.cached())
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);

    // A file that it does not have, which is remembered.
    let unknown = "00112233445566778899aabbccddeeff00112233";
    let (printed, said) = sample.symbolize_report(&report(unknown, "10"), &url, &[]);
    assert!(printed.contains("\"symbol\":null"), "{printed}");
    assert!(said.contains("no file has its build-id 0011"), "{said}");
    let missing = sample.scratch.path("cache").join(unknown).join("debuginfo");
    assert_eq!(fs::metadata(&missing).expect("a mark").len(), 0);

    // Both are known without the server, to us and to elfutils' client.
    drop(server);
    let (printed, said) = sample.symbolize(&url, &[]);
    assert_eq!(said, "");
    assert_named(&printed);
    let (_, said) = sample.symbolize_report(&report(unknown, "10"), &url, &[]);
    assert!(!said.contains("cannot be reached"), "{said}");
    let find = |build_id: &str| {
        let mut command = Command::new("debuginfod-find");
        command
            .args(["debuginfo", build_id])
            .env("DEBUGINFOD_URLS", &url);
        command.env("DEBUGINFOD_CACHE_PATH", sample.scratch.path("cache"));
        let output = command.output().expect("debuginfod-find");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(find(&sample.build_id).0);
    let (is_found, said) = find(unknown);
    assert!(!is_found && said.contains("No such file"), "{said}");

    // An old mark no longer counts.
    fs::write(sample.scratch.path("cache/cache_miss_s"), "0\n").expect("our own file");
    std::thread::sleep(Duration::from_millis(1100));
    let (_, said) = sample.symbolize_report(&report(unknown, "10"), &url, &[]);
    assert!(said.contains("cannot be reached"), "{said}");
}

/// Waits until the server has indexed the file.
#[track_caller]
fn wait_for_file(port: u16, build_id: &str) {
    let begin = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let request = format!("GET /buildid/{build_id}/debuginfo HTTP/1.0\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("a connection");
            let mut line = String::new();
            let _ = BufReader::new(stream).read_line(&mut line);
            if line.contains(" 200 ") {
                return;
            }
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "debuginfod does not have the file"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server that gives the same answer to each request, until the test ends.
fn serve(answer: impl Fn(&mut TcpStream, &str) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a connection"));
            let mut path = String::new();
            let _ = reader.read_line(&mut path);
            let path = path.split(' ').nth(1).unwrap_or("").to_owned();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            answer(&mut stream, &path);
        }
    });
    url
}

fn respond(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}

#[test]
fn bodies_come_in_chunks_and_from_elsewhere() {
    let Some(sample) = Sample::new("chunks") else {
        return;
    };
    let file = sample.debug_file();
    let url = serve(move |stream, path| match path {
        path if path.starts_with("/base/buildid/") => {
            respond(stream, "302 Found\r\nLocation: ../other/file", b"");
        }
        path if path.starts_with("/base/buildid/../") => {}
        _ => {
            let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n");
            let mut body = Vec::new();
            for chunk in file.chunks(1000) {
                body.extend(format!("{:x};x=y\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            respond(stream, "200 OK\r\ntransfer-encoding: Chunked", &body);
        }
    });
    // A relative place that leads out is asked for as it is; an absolute one is taken.
    let (printed, said) = sample.symbolize(&url, &[]);
    assert_eq!(said, "");
    assert_named(&printed);
}

/// A server, what is said about it, and how it answers.
type Hostile = (&'static str, Box<dyn Fn(&mut TcpStream, &str) + Send>);

fn fixed(said: &'static str, head: &'static str, body: &'static [u8]) -> Hostile {
    (
        said,
        Box::new(move |stream: &mut TcpStream, _: &str| respond(stream, head, body)),
    )
}

#[test]
fn hostile_servers_give_no_file_and_take_no_time() {
    let Some(sample) = Sample::new("hostile") else {
        return;
    };
    let whole = sample.debug_file();
    // The same file, as if of another build.
    let mut other = whole.clone();
    let digits = sample.build_id.as_bytes().chunks(2);
    let build_id: Vec<u8> = digits
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits")
        })
        .collect();
    let places: Vec<usize> = (0..other.len() - build_id.len())
        .filter(|at| other[*at..].starts_with(&build_id))
        .collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| other[at] ^= 1);
    let servers: Vec<Hostile> = vec![
        (
            "the file is too large",
            Box::new(|stream, _| {
                respond(stream, "200 OK\r\nTransfer-Encoding: chunked", b"");
                while stream
                    .write_all(&[b"ff\r\n", &[0; 255][..], b"\r\n"].concat())
                    .is_ok()
                {}
            }),
        ),
        (
            "the file is too large",
            Box::new(|stream, _| {
                respond(
                    stream,
                    "200 OK\r\nContent-Length: 18446744073709551615",
                    b"",
                );
                while stream.write_all(&[0; 4096]).is_ok() {}
            }),
        ),
        (
            "the server is too slow",
            Box::new(|stream, _| {
                respond(stream, "200 OK\r\nContent-Length: 1000000", b"");
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }),
        ),
        (
            "the server is too slow",
            Box::new(|stream, _| {
                // A head without an end.
                while stream.write_all(b"HTTP/1.1 200 OK\r\nX: y").is_ok() {
                    std::thread::sleep(Duration::from_millis(500));
                }
            }),
        ),
        (
            "the server is too slow",
            Box::new(|stream, _| drop(stream.read(&mut [0]))),
        ),
        (
            "a head that is cut or too long",
            Box::new(|stream, _| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream.write_all(&[b'x'; 1000]).is_ok() {}
            }),
        ),
        (
            "a file with another build-id",
            Box::new(move |stream, _| {
                respond(
                    stream,
                    &format!("200 OK\r\nContent-Length: {}", other.len()),
                    &other,
                );
            }),
        ),
        (
            "the body ends too early",
            Box::new(move |stream, _| {
                let head = format!("200 OK\r\nContent-Length: {}", whole.len());
                respond(stream, &head, &whole[..whole.len() - 1]);
            }),
        ),
        (
            "too many redirections",
            Box::new(|stream, path| {
                respond(stream, &format!("302 Found\r\nLocation: {path}x"), b"")
            }),
        ),
        fixed("no ELF file", "200 OK\r\nContent-Length: 4", b"<htm"),
        fixed("no ELF file", "200 OK\r\nContent-Length: 0", b""),
        fixed(
            "not to http",
            "301 Moved\r\nLocation: file:///etc/passwd",
            b"",
        ),
        fixed(
            "not to http",
            "301 Moved\r\nLocation: https://127.0.0.1/",
            b"",
        ),
        fixed("without a place", "302 Found", b""),
        fixed("neither a length nor chunks", "200 OK", b"\x7fELF"),
        fixed(
            "two lengths",
            "200 OK\r\nContent-Length: 4\r\nContent-Length: 5",
            b"ELF!",
        ),
        fixed(
            "a length that is no number",
            "200 OK\r\nContent-Length: -1",
            b"",
        ),
        fixed(
            "an encoding",
            "200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip",
            b"gzip",
        ),
        fixed(
            "a chunk without a size",
            "200 OK\r\nTransfer-Encoding: chunked",
            b"-1\r\n",
        ),
        fixed(
            "longer than its size",
            "200 OK\r\nTransfer-Encoding: chunked",
            b"1\r\nabc\r\n",
        ),
        fixed("status 500", "500 Oh\r\nContent-Length: 0", b""),
        (
            "no answer of HTTP/1",
            Box::new(|stream, _| drop(stream.write_all(b"SSH-2.0-x\r\n"))),
        ),
        (
            "a head that is not text",
            Box::new(|stream, _| drop(stream.write_all(b"HTTP/1.1 200 \xff\r\n"))),
        ),
    ];
    let limits = [
        ("DEBUGINFOD_TIMEOUT", "1"),
        ("DEBUGINFOD_MAXSIZE", "2000000"),
    ];
    for (word, answer) in servers {
        let url = serve(answer);
        let begin = Instant::now();
        let (printed, said) = sample.symbolize(&url, &limits);
        assert!(said.contains(word), "{word}: {said}");
        assert!(said.contains(&url), "{word}: {said}");
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{word}: {:?}",
            begin.elapsed()
        );
        assert!(printed.contains("\"symbol\":null"), "{printed}");
        // Neither a file nor a piece of one, nor a mark that there is none.
        let dir = sample.scratch.path("cache").join(&sample.build_id);
        let left: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{word}: {left:?}");
    }
}

/// One that cannot be reached is named, and the next one asked.
#[test]
fn servers_are_asked_one_after_the_other() {
    let Some(sample) = Sample::new("several") else {
        return;
    };
    let file = sample.debug_file();
    let url = serve(move |stream, path| {
        assert!(path.starts_with("/some/base/buildid/"), "{path}");
        respond(
            stream,
            &format!("200 OK\r\nContent-Length: {}", file.len()),
            &file,
        );
    });
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let both = format!("{nobody} {url}/some/base/");
    let mut child = Command::new(env!("CARGO_BIN_EXE_segfault_analyzer"))
        .arg("symbolize")
        .env("DEBUGINFOD_URLS", both)
        .env("DEBUGINFOD_CACHE_PATH", sample.scratch.path("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("our own binary");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(sample.report.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("our own child");
    assert_named(&String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot be reached") && said.contains(&nobody),
        "{said}"
    );
}

/// By curl, which trusts a certificate of ours.
#[test]
fn https_is_left_to_a_program() {
    if !["curl", "openssl", "python3"].into_iter().all(host::has) {
        return;
    }
    let Some(sample) = Sample::new("https") else {
        return;
    };
    let place = sample.scratch.path("www/buildid").join(&sample.build_id);
    fs::create_dir_all(&place).expect("our own directory");
    fs::copy(
        sample.scratch.path("debug/bill.debug"),
        place.join("debuginfo"),
    )
    .expect("our own file");
    let (key, certificate) = (
        sample.scratch.path("key"),
        sample.scratch.path("certificate"),
    );
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]);
    make.args(["-addext", "subjectAltName=DNS:localhost"]);
    output(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let script = "\
import http.server, ssl, sys, os
os.chdir(sys.argv[1])
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";
    let mut command = Command::new("python3");
    command
        .args(["-c", script])
        .arg(sample.scratch.path("www"))
        .arg(&key)
        .arg(&certificate);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut server = Running(child.expect("python3"));
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().expect("a pipe"))
        .read_line(&mut port)
        .expect("a port");
    let url = format!("https://localhost:{}", port.trim());

    let certificate = certificate.to_str().expect("an ASCII path");
    let (printed, said) = sample.symbolize(&url, &[]);
    assert!(
        said.contains("curl failed with status 60"),
        "an unknown certificate: {said}"
    );
    assert!(printed.contains("\"symbol\":null"), "{printed}");
    let trusted = [("CURL_CA_BUNDLE", certificate)];
    let unknown = "00112233445566778899aabbccddeeff00112233";
    let (_, said) = sample.symbolize_report(&report(unknown, "10"), &url, &trusted);
    assert!(
        said.contains("no file has its build-id 0011") && !said.contains("curl"),
        "{said}"
    );
    let (printed, said) = sample.symbolize(&url, &[trusted[0], ("DEBUGINFOD_MAXSIZE", "100")]);
    assert!(said.contains("the file is too large"), "{said}");
    assert!(printed.contains("\"symbol\":null"), "{printed}");
    let (printed, said) = sample.symbolize(&url, &trusted);
    assert_eq!(said, "");
    assert_named(&printed);
    // Without such a program.
    fs::remove_file(sample.cached()).expect("our own file");
    let (_, said) = sample.symbolize(&url, &[("PATH", "/nonexistent")]);
    assert!(said.contains("needs curl or debuginfod-find"), "{said}");
}
