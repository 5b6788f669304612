//! Escapes text from the crashed process and its files.
//!
//! Names, paths, arguments and symbols come from the crashed process as raw
//! bytes. [`text`] makes them fit for a terminal and for one line of a log;
//! [`json`] makes them the inside of a JSON string of ASCII characters.
//!
//! In both, bytes that are not UTF-8 read `\xNN`. In JSON every backslash,
//! quote, control and non-ASCII character is written `\uXXXX` and nothing else
//! follows a backslash: a shell's `read` without `-r` eats the backslashes, and
//! what it leaves is still a valid line of JSON.

/// Appends `bytes`, escaped for a terminal.
///
/// Printable UTF-8 passes. Control bytes read `\xNN`; characters that control,
/// hide or reorder text read `\u{…}`. A backslash stays as it is, so that
/// Windows paths under Wine stay readable.
pub fn text(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\0'..='\x1f' | '\x7f' => {
                    out.push_str(&format!("\\x{:02x}", u32::from(character)));
                }
                _ if is_unsafe_to_show(character) => {
                    out.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
                }
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

/// C1 controls, and the format characters that are invisible or change the order of the
/// text (Unicode, general category Cf, and the line and paragraph separators).
fn is_unsafe_to_show(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Whether [`json`] would append the bytes as they are.
#[must_use]
pub fn is_plain_json(bytes: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    bytes.iter().all(is_plain)
}

/// Appends `bytes`, escaped for the inside of a JSON string.
pub fn json(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' '..='~' if character != '"' && character != '\\' => out.push(character),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\u005cx{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_text(bytes: &[u8]) -> String {
        let mut out = String::new();
        text(&mut out, bytes);
        out
    }

    fn as_json(bytes: &[u8]) -> String {
        let mut out = String::new();
        json(&mut out, bytes);
        out
    }

    /// Decodes our JSON strings, and accepts only escapes that we write.
    fn read_json(escaped: &str) -> Option<String> {
        let mut units = Vec::new();
        let mut rest = escaped.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            match first {
                b'\\' => {
                    let digits = std::str::from_utf8(rest.strip_prefix(b"u")?.get(..4)?).ok()?;
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    rest = &rest[5..];
                }
                b'"' | 0..=0x1f | 0x7f.. => return None,
                plain => units.push(u16::from(*plain)),
            }
        }
        String::from_utf16(&units).ok()
    }

    #[test]
    fn every_byte_value_becomes_harmless_in_both_formats() {
        for byte in 0..=u8::MAX {
            // Alone, and where the next byte could have completed it.
            for bytes in [vec![byte], vec![b'a', byte, b'b'], vec![byte, 0x80, 0xbf]] {
                let shown = as_text(&bytes);
                assert!(
                    !shown.chars().any(char::is_control),
                    "{bytes:02x?} gave {shown:?}"
                );
                let escaped = as_json(&bytes);
                assert!(escaped.is_ascii());
                let read = read_json(&escaped);
                let expected = match std::str::from_utf8(&bytes) {
                    Ok(valid) => Some(valid.to_string()),
                    Err(_) => {
                        let mut spelled = String::new();
                        for chunk in bytes.utf8_chunks() {
                            spelled.push_str(chunk.valid());
                            for byte in chunk.invalid() {
                                spelled.push_str(&format!("\\x{byte:02x}"));
                            }
                        }
                        Some(spelled)
                    }
                };
                assert_eq!(read, expected, "{bytes:02x?} gave {escaped}");
            }
        }
    }

    #[test]
    fn every_character_comes_back_from_json() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            let mut utf8 = [0; 4];
            let plain = character.encode_utf8(&mut utf8);
            assert_eq!(
                read_json(&as_json(plain.as_bytes())).as_deref(),
                Some(&*plain)
            );
        }
    }

    #[test]
    fn a_shell_that_eats_backslashes_leaves_valid_json() {
        let eaten = as_json(b"a\"b\\c\nd\xff\x1b\xc3\xa9").replace('\\', "");
        assert_eq!(eaten, "au0022bu005ccu000adu005cxffu001bu00e9");
    }

    #[test]
    fn terminals_get_no_orders() {
        assert_eq!(
            as_text(b"a\x1b[2J\r\nb\x07\x7f"),
            "a\\x1b[2J\\x0d\\x0ab\\x07\\x7f"
        );
        assert_eq!(as_text("b\u{9b}2J".as_bytes()), "b\\u{9b}2J");
        assert_eq!(
            as_text("a\u{202e}gpj.exe\u{feff}".as_bytes()),
            "a\\u{202e}gpj.exe\\u{feff}"
        );
        assert_eq!(as_text(b"\xffa\xe2\x82"), "\\xffa\\xe2\\x82");
        assert_eq!(as_text("C:\\größe/日本 😀".as_bytes()), "C:\\größe/日本 😀");
    }

    #[test]
    fn json_spells_what_lies_beyond_ascii() {
        assert_eq!(
            as_json("é日😀\"\\".as_bytes()),
            "\\u00e9\\u65e5\\ud83d\\ude00\\u0022\\u005c"
        );
        assert_eq!(as_json(b"a\xffb"), "a\\u005cxffb");
    }
}
