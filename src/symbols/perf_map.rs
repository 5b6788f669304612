//! Names of code that is in no file: the map that a just-in-time compiler writes
//! for perf.
//!
//! In: the map, and addresses of the process. Out: for each the name of its function. A
//! map grows at its end, and code memory is used again, so if several functions have
//! contained an address, the last one counts. The file is read in windows, with a limit on
//! its size. A last line without its newline is incomplete and does not count.
//! `tools/perf/Documentation/jit-interface.txt`:
//!
//! ```text
//! START SIZE symbolname      both in hexadecimal, the name up to the newline
//! ```

use super::elf::{Source, MAX_NAME};
use crate::base::address::ProcessAddress;
use crate::base::bytes;

/// A Java program with all of its code compiled writes some 5 MB.
pub const MAX_SIZE: u64 = 64 << 20;
const WINDOW: usize = 64 * 1024;
/// Units of work for a line, beside the comparison with each address.
const LINE: u64 = 32;

/// A function that was compiled while the program ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    pub name: Vec<u8>,
    pub start: ProcessAddress,
}

/// One answer for each address; `None` if it took too long, or if this is not such a map.
#[must_use]
pub fn look_up(source: &Source, addresses: &[ProcessAddress]) -> Option<Vec<Option<Compiled>>> {
    let mut found = vec![None; addresses.len()];
    let mut window = vec![0; WINDOW];
    let mut held = 0;
    let mut offset = 0;
    while offset < MAX_SIZE {
        let read = source.read_at(offset, &mut window[held..]);
        if source.is_out() {
            return None;
        }
        offset += read as u64;
        let filled = held + read;
        let lines = bytes::whole_lines(&window[..filled]);
        let whole = lines.len();
        for line in lines.split(|&byte| byte == b'\n') {
            if !source.work(LINE + addresses.len() as u64) {
                return None;
            }
            take(line, addresses, &mut found);
        }
        if filled < window.len() {
            return Some(found);
        }
        if whole == 0 {
            return None;
        }
        window.copy_within(whole..filled, 0);
        held = filled - whole;
    }
    None
}

fn take(line: &[u8], addresses: &[ProcessAddress], found: &mut [Option<Compiled>]) {
    let Some((start, size, name)) = parse(line) else {
        return;
    };
    for (address, found) in addresses.iter().zip(found) {
        if address.0.checked_sub(start).is_some_and(|at| at < size) {
            *found = Some(Compiled {
                name: name[..name.len().min(MAX_NAME)].to_vec(),
                start: ProcessAddress(start),
            });
        }
    }
}

fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let start = hexadecimal(fields.next()?)?;
    let size = hexadecimal(fields.next()?)?;
    let name = fields.next()?.trim_ascii();
    (!name.is_empty()).then_some((start, size, name))
}

/// Digits, which some write with `0x` before them.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    let text = std::str::from_utf8(digits).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(map: &[u8], addresses: &[u64]) -> Option<Vec<String>> {
        let addresses: Vec<ProcessAddress> =
            addresses.iter().copied().map(ProcessAddress).collect();
        let found = look_up(&Source::memory(map.to_vec()), &addresses)?;
        let show = |(found, address): (&Option<Compiled>, &ProcessAddress)| match found {
            Some(found) => {
                let name = String::from_utf8_lossy(&found.name);
                format!("{name}+{:#x}", address.0 - found.start.0)
            }
            None => "-".to_owned(),
        };
        Some(found.iter().zip(&addresses).map(show).collect())
    }

    #[test]
    fn the_last_function_at_an_address_counts() {
        let map = b"7f0000001000 20 LazyCompile:~run app.js:1\n\
                    0x7f0000001020 0x10 second\n\
                    7f0000001000 10 again\n\
                    7f0000002000 10 cut off";
        assert_eq!(
            names(
                map,
                &[
                    0x7f0000001004,
                    0x7f0000001018,
                    0x7f000000102f,
                    0x7f0000001030,
                    0x7f0000002000
                ]
            )
            .unwrap(),
            [
                "again+0x4",
                "LazyCompile:~run app.js:1+0x18",
                "second+0xf",
                "-",
                "-"
            ]
        );
    }

    #[test]
    fn maps_larger_than_a_window_are_read_whole() {
        let mut map = Vec::new();
        for n in 0..20_000u64 {
            map.extend(format!("{:x} 8 function_{n}\n", 0x10_0000 + n * 8).bytes());
        }
        let last = 0x10_0000 + 19_999 * 8;
        assert_eq!(
            names(&map, &[0x10_0003, last]).unwrap(),
            ["function_0+0x3", "function_19999+0x0"]
        );
    }

    #[test]
    fn other_things_are_no_map() {
        let none = Some(vec!["-".to_owned()]);
        for map in [
            &b""[..],
            b"\n\n\n",
            b"1000\n",
            b"1000 10\n",
            b"1000 10 \n",
            b"+1000 10 x\n",
            b"-1 10 x\n",
            b"fffffffffffffffff 1 x\n",
            b"\xff\xff 10 x\n",
            b" 1000 10 x\n",
        ] {
            assert_eq!(names(map, &[0x1000]), none, "{map:?}");
        }
        // To the end of the address space and not beyond.
        let end = b"ffffffffffffffff ffffffffffffffff end\n";
        assert_eq!(names(end, &[u64::MAX]).unwrap(), ["end+0x0"]);
        assert_eq!(names(end, &[0]), none);
        // A line without end.
        assert_eq!(names(&vec![b'1'; 200_000], &[1]), None);
        let mut long = b"10 10 ".to_vec();
        long.extend(vec![b'n'; 10_000]);
        long.push(b'\n');
        let found = look_up(&Source::memory(long), &[ProcessAddress(0x10)]).unwrap();
        assert_eq!(found[0].as_ref().unwrap().name.len(), MAX_NAME);
    }
}
