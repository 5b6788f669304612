//! What the kernel writes about a process in /proc, as values: proc(5).
//!
//! Text in, plain data out; whatever is malformed is left out.

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub start: u64,
    pub end: u64,
    /// Bits as in `vm_flags`: read 1, write 2, execute 4, shared 8.
    pub flags: u64,
    pub file_offset: u64,
    /// As the kernel has it: major << 20 | minor.
    pub device: u32,
    /// 0 if no file is mapped.
    pub inode: u64,
    pub path: Vec<u8>,
}

/// The lines of a maps file, without the vsyscall page, which is not a mapping.
#[must_use]
pub fn parse_maps(text: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match parse_line(line) {
            Some(line) if line.path != b"[vsyscall]" => lines.push(line),
            _ => {}
        }
    }
    lines
}

/// A number in hexadecimal, and what follows the byte after it.
fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut at = 0;
    while let Some(digit) = char::from(*text.get(at)?).to_digit(16) {
        value = value.checked_mul(16)? | u64::from(digit);
        at += 1;
    }
    (at > 0).then(|| (value, &text[at + 1..]))
}

/// `55d0c0000000-55d0c0002000 r-xp 00003000 fe:01 1234      /usr/bin/a b`
fn parse_line(line: &[u8]) -> Option<Line> {
    let (start, rest) = hex(line)?;
    let (end, rest) = hex(rest)?;
    let (letters, rest) = rest.split_at_checked(5)?;
    let (file_offset, rest) = hex(rest)?;
    let (major, rest) = hex(rest)?;
    let (minor, rest) = hex(rest)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (inode, path) = rest.split_at(digits);
    let mut flags = 0;
    for (place, letter) in b"rwxs".iter().enumerate() {
        flags |= u64::from(letters[place] == *letter) << place;
    }
    Some(Line {
        start,
        end,
        flags,
        file_offset,
        device: (major << 20 | minor) as u32,
        inode: decimal(inode)?,
        path: path.trim_ascii_start().to_vec(),
    })
}

/// Field `number`, counted as proc(5) does, of `/proc/PID/stat`.
#[must_use]
pub fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    // The name before the last parenthesis may hold anything.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat[name_end..].split(|byte| byte.is_ascii_whitespace());
    decimal(fields.nth(number.checked_sub(2)?)?)
}

/// A tick of the times in /proc: USER_HZ is 100 on every architecture that is supported.
pub const NS_PER_TICK: u64 = 10_000_000;

/// Fields of `/proc/PID/stat` for [`stat_field`], as proc(5) numbers them.
pub mod stat {
    pub const PARENT: usize = 4;
    pub const THREADS: usize = 20;
    pub const STARTED: usize = 22;
}

/// The number in a link of `/proc/PID/ns`: `mnt:[4026531840]`.
#[must_use]
pub fn namespace(link: &[u8]) -> Option<u32> {
    let start = link.iter().position(|byte| *byte == b'[')?;
    let digits = link[start + 1..].strip_suffix(b"]")?;
    u32::try_from(decimal(digits)?).ok()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let text =
            b"55d0c0000000-55d0c0002000 r-xp 00003000 fe:01 1234      /usr/bin/a b (deleted)\n\
            7ffc00000000-7ffc00021000 rw-s 00000000 00:00 0          [stack]\n\
            7ffc10000000-7ffc10021000 ---p 00000000 00:00 0 \n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n\
            nonsense\n1-2 r\n1-2 rw-p 0 0:0 x\n-\n";
        let lines = parse_maps(text);
        assert_eq!(
            lines[0],
            Line {
                start: 0x55d0_c000_0000,
                end: 0x55d0_c000_2000,
                flags: 5,
                file_offset: 0x3000,
                device: 0xfe << 20 | 1,
                inode: 1234,
                path: b"/usr/bin/a b (deleted)".to_vec(),
            }
        );
        assert_eq!((lines[1].flags, lines[1].inode), (11, 0));
        assert_eq!((lines[2].flags, &lines[2].path[..]), (0, &b""[..]));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_cut_line_is_none() {
        let line = b"55d0c0000000-55d0c0002000 r-xp 00003000 fe:01 1234      /usr/bin/a";
        let whole = parse_maps(line).remove(0);
        for end in 0..line.len() {
            // Up to the inode there is none; after it there is one with what is left of
            // the path.
            let inode = line.len() - b"      /usr/bin/a".len() - b"1234".len();
            let read = parse_maps(&line[..end]);
            assert_eq!(read.len(), usize::from(end > inode), "{end}");
            if let Some(cut) = read.first() {
                assert_eq!((cut.start, cut.end), (whole.start, whole.end), "{end}");
                assert!(whole.path.starts_with(&cut.path), "{end}");
            }
        }
        assert!(parse_maps(b"11112222333344445-1 r-xp 0 0:0 0").is_empty());
    }

    #[test]
    fn fields_of_stat_are_counted_from_the_name() {
        let stat = b"7 (a) 1 (b)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2\n";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 22), Some(424_242));
        assert_eq!(stat_field(stat, 24), Some(2));
        assert_eq!(stat_field(stat, 25), None);
        assert_eq!(stat_field(b"7 (sleep) S 1", 22), None);
        assert_eq!(stat_field(b"", 3), None);
    }

    #[test]
    fn namespaces_have_numbers() {
        assert_eq!(namespace(b"mnt:[4026531840]"), Some(0xf000_0000));
        for wrong in [
            &b"mnt:[4026531840"[..],
            b"mnt:[]",
            b"mnt:[x]",
            b"[99999999999]",
            b"",
        ] {
            assert_eq!(namespace(wrong), None);
        }
    }
}
