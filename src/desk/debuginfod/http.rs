//! A file by HTTP/1.1, without encryption.
//!
//! In: an address ([`Url`]) and limits. Out: the bytes, in the order in which they come. One
//! request on each connection. The server is not trusted: its head, its body and its
//! time are bounded, and a redirection may lead to `http` only. A body comes with its
//! length or in chunks: without either an end that is too early could not be seen. RFC 9110,
//! RFC 9112.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::{Failure, Limits, Progress};

/// The lines before a body.
const MAX_HEAD: u64 = 64 << 10;
/// The lines around a chunk.
const MAX_CHUNK_LINES: u64 = 256;
const MAX_REDIRECTS: usize = 5;
/// Answers before the one that counts, such as 103 Early Hints.
const MAX_INTERIM: usize = 8;
const CONNECT: Duration = Duration::from_secs(10);
const BLOCK: usize = 64 << 10;

/// An address that begins with `http://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// With its slash, and without a fragment.
    path: String,
}

impl Url {
    /// `None` for another scheme, for names and passwords, and for what is no address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let scheme = text.get(..7)?;
        if !scheme.eq_ignore_ascii_case("http://")
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return None;
        }
        let rest = text[7..].split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => 80,
            None => return None,
            Some("") => 80,
            Some(digits) => digits.parse().ok()?,
        };
        if host.is_empty() || host.contains('@') || port == 0 {
            return None;
        }
        Some(Url {
            host: host.into(),
            port,
            path: if path.starts_with('/') {
                path.into()
            } else {
                format!("/{path}")
            },
        })
    }

    /// Where a redirection leads; `None` if not to `http`.
    fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Url::parse(location);
        }
        let authority = self.authority();
        if location.starts_with("//") {
            return Url::parse(&format!("http:{location}"));
        }
        let directory = &self.path[..=self.path.rfind('/')?];
        let directory = if location.starts_with('/') {
            ""
        } else {
            directory
        };
        Url::parse(&format!("http://{authority}{directory}{location}"))
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Gives the file at `url` to `take`, a block at a time.
///
/// # Errors
/// [`Failure::NotFound`] if the server says so (404), otherwise what went wrong.
pub(super) fn get(
    url: &Url,
    limits: &Limits,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let stream = connect(&url)?;
        match answer(&url, stream, limits, take)? {
            None => return Ok(()),
            Some(location) => {
                url = url
                    .join(&location)
                    .ok_or(Failure::Refused("a redirection that is not to http"))?;
            }
        }
    }
    Err(Failure::Refused("too many redirections"))
}

fn connect(url: &Url) -> Result<TcpStream, Failure> {
    let addresses = (&*url.host, url.port).to_socket_addrs();
    let mut error = io::Error::from(ErrorKind::NotFound);
    for address in addresses.map_err(Failure::Unreachable)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(refused) => error = refused,
        }
    }
    Err(Failure::Unreachable(error))
}

/// One request and its answer; where it redirects to, if it does.
fn answer(
    url: &Url,
    stream: TcpStream,
    limits: &Limits,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: segfault_analyzer/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.path,
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    stream
        .set_write_timeout(Some(limits.window))
        .map_err(Failure::Broken)?;
    (&stream)
        .write_all(request.as_bytes())
        .map_err(Failure::Broken)?;
    let mut reader = BufReader::with_capacity(BLOCK, Timed::new(stream, limits));
    let mut head = Head::read(&mut reader)?;
    let mut interim = 0;
    while (100..200).contains(&head.status) && interim < MAX_INTERIM {
        head = Head::read(&mut reader)?;
        interim += 1;
    }
    match head.status {
        200 => body(&mut reader, &head, take).map(|()| None),
        301 | 302 | 303 | 307 | 308 => {
            let location = head
                .location
                .ok_or(Failure::Refused("a redirection without a place"))?;
            Ok(Some(location))
        }
        404 => Err(Failure::NotFound),
        status => Err(Failure::Status(status)),
    }
}

/// What is used of the lines before a body.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    length: Option<u64>,
    is_chunked: bool,
    is_encoded: bool,
    location: Option<String>,
}

impl Head {
    fn read(reader: &mut BufReader<Timed<'_>>) -> Result<Self, Failure> {
        let mut left = MAX_HEAD;
        let first = line(reader, &mut left)?;
        let mut words = first.split(' ');
        let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
        let status = words.next().and_then(|word| word.parse().ok());
        let mut head = Head {
            status: status
                .filter(|_| is_http)
                .ok_or(Failure::Refused("no answer of HTTP/1"))?,
            ..Head::default()
        };
        loop {
            let text = line(reader, &mut left)?;
            if text.is_empty() {
                return Ok(head);
            }
            let (name, value) = text
                .split_once(':')
                .ok_or(Failure::Refused("a head that is none"))?;
            head.keep(&name.to_ascii_lowercase(), value.trim())?;
        }
    }

    fn keep(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match name {
            "content-length" => {
                let length =
                    digits(value, 10).ok_or(Failure::Refused("a length that is no number"))?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(Failure::Refused("two lengths"));
                }
                self.length = Some(length);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => self.is_chunked = true,
            "transfer-encoding" => self.is_encoded = true,
            "content-encoding" if !value.eq_ignore_ascii_case("identity") => self.is_encoded = true,
            "location" => self.location = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

fn body(
    reader: &mut BufReader<Timed<'_>>,
    head: &Head,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if head.is_encoded {
        return Err(Failure::Refused("an encoding that was not asked for"));
    }
    reader.get_mut().in_body = true;
    if !head.is_chunked {
        let length = head
            .length
            .ok_or(Failure::Refused("neither a length nor chunks"))?;
        return pass(reader, length, take);
    }
    loop {
        let mut left = MAX_CHUNK_LINES;
        let text = line(reader, &mut left)?;
        let size = text.split(';').next().unwrap_or("").trim();
        let size = digits(size, 16).ok_or(Failure::Refused("a chunk without a size"))?;
        if size == 0 {
            // What may follow is of no use.
            return Ok(());
        }
        pass(reader, size, take)?;
        if !line(reader, &mut left)?.is_empty() {
            return Err(Failure::Refused("a chunk longer than its size"));
        }
    }
}

/// Passes so many bytes on.
fn pass(
    reader: &mut BufReader<Timed<'_>>,
    mut left: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while left > 0 {
        let block = reader.fill_buf().map_err(Failure::of_read)?;
        if block.is_empty() {
            return Err(Failure::Refused("the body ends too early"));
        }
        let count = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        take(&block[..count])?;
        reader.consume(count);
        left -= count as u64;
    }
    Ok(())
}

/// A line without its end; `left` bytes may still come before the body.
fn line(reader: &mut BufReader<Timed<'_>>, left: &mut u64) -> Result<String, Failure> {
    let mut text = Vec::new();
    let count = reader
        .take(*left)
        .read_until(b'\n', &mut text)
        .map_err(Failure::of_read)?;
    *left -= count as u64;
    if text.pop() != Some(b'\n') {
        return Err(Failure::Refused("a head that is cut or too long"));
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    String::from_utf8(text).map_err(|_| Failure::Refused("a head that is not text"))
}

/// Digits and nothing else.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u64::from_str_radix(text, radix).ok().filter(|_| is_plain)
}

/// A connection whose reads end when the server is too slow.
struct Timed<'a> {
    stream: TcpStream,
    progress: Progress<'a>,
    /// Bytes count as progress only in the body.
    in_body: bool,
}

impl<'a> Timed<'a> {
    fn new(stream: TcpStream, limits: &'a Limits) -> Self {
        Timed {
            stream,
            progress: Progress::new(limits, Instant::now()),
            in_body: false,
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.progress.left(Instant::now());
        let left = left.ok_or_else(|| io::Error::from(ErrorKind::TimedOut))?;
        self.stream.set_read_timeout(Some(left))?;
        let count = self.stream.read(buffer)?;
        if self.in_body {
            self.progress.add(count as u64, Instant::now());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, path) in [
            ("http://a", "a", 80, "/"),
            ("HTTP://a.b:8002", "a.b", 8002, "/"),
            ("http://a/x/y?z#f", "a", 80, "/x/y?z"),
            ("http://[::1]:7/x", "::1", 7, "/x"),
            ("http://[::1]", "::1", 80, "/"),
            ("http://a:/x", "a", 80, "/x"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(
                (&*url.host, url.port, &*url.path),
                (host, port, path),
                "{text}"
            );
        }
        for text in [
            "https://a/",
            "ftp://a",
            "http://",
            "http:///x",
            "http://u@a/",
            "http://a:0/",
            "http://a:x/",
            "http://a:70000/",
            "http://[::1/",
            "http://[::1]x/",
            "http://a b/",
            "http://a/\r\nX: y",
            "",
            "http:/",
            "http://ä/",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn redirections_stay_with_http() {
        let url = Url::parse("http://a:5/x/y").expect("an address");
        for (location, expected) in [
            ("http://b/z", Some("http://b/z")),
            ("//b/z", Some("http://b/z")),
            ("/z", Some("http://a:5/z")),
            ("z", Some("http://a:5/x/z")),
            ("https://b/z", None),
            ("file:///etc/passwd", None),
        ] {
            let expected = expected.and_then(Url::parse);
            assert_eq!(url.join(location), expected, "{location}");
        }
    }

    #[test]
    fn numbers_have_no_sign() {
        assert_eq!(digits("1f", 16), Some(31));
        for text in ["", "+1", "-1", " 1", "g", "0x1", "11111111111111111"] {
            assert_eq!(digits(text, 16), None, "{text}");
        }
    }
}
