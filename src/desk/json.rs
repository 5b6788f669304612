//! JSON read in place: where the parts of a text are, not copies of them.
//!
//! In: one line that anybody may have written. Out: the members of an object and
//! the elements of an array as [`Span`]s of that line, so that all other text can be
//! passed on unchanged; and single values, decoded. A line that is not JSON is `None` as
//! a whole: the grammar is checked to the end of the line before anything is used.
//! Nothing recurses: brackets are a stack of bits, at most [`MAX_DEPTH`] of them.
//!
//! RFC 8259, with two extensions: bytes above ASCII are not checked to be UTF-8, and
//! half a surrogate pair reads U+FFFD. A key with escapes is not recognized: the tool
//! does not write such keys.

/// Brackets inside one another; reports have three.
pub const MAX_DEPTH: u32 = 64;
/// The most members of an object; reports have about thirty.
pub const MAX_MEMBERS: usize = 256;
/// The most elements of an array; the tool reports at most 1,024 calls, each with 32 inlined ones.
pub const MAX_ELEMENTS: usize = 1 << 16;

/// A part of a text, by its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// All of a text.
    #[must_use]
    pub fn whole(text: &[u8]) -> Self {
        Span {
            start: 0,
            end: text.len(),
        }
    }

    /// The bytes themselves; none if it is a span of another text.
    #[must_use]
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start..self.end).unwrap_or(&[])
    }
}

/// An object: its members, in their order.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a [u8],
    whole: Span,
    /// Keys between their quotes, escapes as they stand; and values.
    members: Vec<(Span, Span)>,
}

impl<'a> Object<'a> {
    /// The object that is all of `whole`; `None` if there is none, or one of more
    /// than [`MAX_MEMBERS`].
    #[must_use]
    pub fn read(text: &'a [u8], whole: Span) -> Option<Self> {
        let mut scanner = Scanner::new(text, whole);
        let mut members = Vec::with_capacity(32);
        scanner.eats(b'{').then_some(())?;
        if !scanner.eats(b'}') {
            loop {
                let key = scanner.key()?;
                members.push((key, scanner.value()?));
                if !scanner.eats(b',') {
                    break;
                }
                if members.len() == MAX_MEMBERS {
                    return None;
                }
            }
            scanner.eats(b'}').then_some(())?;
        }
        scanner.ends().then_some(Object {
            text,
            whole,
            members,
        })
    }

    /// The text that it is a part of.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    #[must_use]
    pub fn whole(&self) -> Span {
        self.whole
    }

    #[must_use]
    pub fn members(&self) -> &[(Span, Span)] {
        &self.members
    }

    /// Where the value of a key is; the last one, as most readers have it.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<Span> {
        let mut from_last = self.members.iter().rev();
        let (_, value) = from_last.find(|(name, _)| name.of(self.text) == key.as_bytes())?;
        Some(*value)
    }

    /// The value as it stands; nothing if there is none, and for null.
    #[must_use]
    pub fn value(&self, key: &str) -> &'a [u8] {
        match self
            .place(key)
            .map_or(&b""[..], |place| place.of(self.text))
        {
            b"null" => b"",
            value => value,
        }
    }
}

/// The elements of the array that is all of `whole`; `None` if there is none, or one
/// of more than [`MAX_ELEMENTS`].
#[must_use]
pub fn elements(text: &[u8], whole: Span) -> Option<Vec<Span>> {
    let mut scanner = Scanner::new(text, whole);
    let mut elements = Vec::new();
    scanner.eats(b'[').then_some(())?;
    if !scanner.eats(b']') {
        loop {
            elements.push(scanner.value()?);
            if !scanner.eats(b',') {
                break;
            }
            if elements.len() == MAX_ELEMENTS {
                return None;
            }
        }
        scanner.eats(b']').then_some(())?;
    }
    scanner.ends().then_some(elements)
}

/// The elements of an array of objects; `None` also if one is not an object.
#[must_use]
pub fn objects(text: &[u8], whole: Span) -> Option<Vec<Object<'_>>> {
    let mut objects = Vec::new();
    for element in elements(text, whole)? {
        objects.push(Object::read(text, element)?);
    }
    Some(objects)
}

/// The decoded string; `None` for any other value.
#[must_use]
pub fn string(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut plain = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            plain.push(*first);
            continue;
        }
        let [kind, tail @ ..] = rest else {
            return None;
        };
        rest = tail;
        plain.push(match kind {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = character(&mut rest)?;
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            b'"' | b'\\' | b'/' => *kind,
            _ => return None,
        });
    }
    Some(plain)
}

/// The digits after `\u`, and those of the second half if this is a first one.
fn character(rest: &mut &[u8]) -> Option<char> {
    let unit = unit(rest)?;
    if !(0xd800..0xdc00).contains(&unit) {
        // Only a second half is not a character.
        return Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    let mut after = rest.strip_prefix(b"\\u").unwrap_or(b"");
    match self::unit(&mut after) {
        Some(low @ 0xdc00..0xe000) => {
            *rest = after;
            char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
        }
        _ => Some(char::REPLACEMENT_CHARACTER),
    }
}

/// Four hexadecimal digits.
fn unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, tail) = rest.split_at_checked(4)?;
    *rest = tail;
    digits.iter().try_fold(0, |unit, &digit| {
        Some(unit << 4 | u32::from(super::hex_digit(digit)?))
    })
}

/// A whole number that is not negative; `None` for any other value.
#[must_use]
pub fn number(value: &[u8]) -> Option<u64> {
    let mut number = None;
    for &digit in value {
        let digit = u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        number = Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(digit)?);
    }
    number
}

/// Whether a byte needs no escape in a string.
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

/// A position in a text.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8], span: Span) -> Self {
        Scanner {
            text: text.get(..span.end).unwrap_or(&[]),
            at: span.start,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips spaces, and the byte if it is next; whether it was.
    fn eats(&mut self, byte: u8) -> bool {
        self.spaces();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Whether nothing follows but spaces.
    fn ends(&mut self) -> bool {
        self.spaces();
        self.peek().is_none()
    }

    /// A key and its colon; the span between the quotes.
    fn key(&mut self) -> Option<Span> {
        self.spaces();
        let start = self.at + 1;
        self.string()?;
        let end = self.at - 1;
        self.eats(b':').then_some(Span { start, end })
    }

    /// Any value, whatever is in it.
    fn value(&mut self) -> Option<Span> {
        self.spaces();
        let start = self.at;
        // The last bit says whether the innermost bracket is that of an object.
        let (mut objects, mut depth) = (0u64, 0);
        loop {
            self.spaces();
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    self.at += 1;
                    depth += 1;
                    objects = objects << 1 | u64::from(bracket == b'{');
                    let is_object = bracket == b'{';
                    if !self.eats(if is_object { b'}' } else { b']' }) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                    objects >>= 1;
                    depth -= 1;
                }
                b'"' => self.string()?,
                _ => self.scalar()?,
            }
            // Behind a value: the next one of the same bracket, or its end.
            loop {
                if depth == 0 {
                    let end = self.at;
                    return Some(Span { start, end });
                }
                let is_object = objects & 1 == 1;
                if self.eats(b',') {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                if !self.eats(if is_object { b'}' } else { b']' }) {
                    return None;
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += rest.iter().position(|&byte| !is_plain(byte))?;
            self.at += match (self.peek()?, self.text.get(self.at + 1)) {
                (b'"', _) => {
                    self.at += 1;
                    return Some(());
                }
                (b'\\', Some(b'u')) => {
                    let mut digits = self.text.get(self.at + 2..)?;
                    unit(&mut digits)?;
                    6
                }
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => 2,
                // A control byte.
                _ => return None,
            };
        }
    }

    /// A number, or one of three words.
    fn scalar(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        for word in [&b"null"[..], b"true", b"false"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Some(());
            }
        }
        self.skip(b"-");
        match self.digits() {
            0 => return None,
            1 => {}
            _ if self.starts_with_zero(rest) => return None,
            _ => {}
        }
        if self.skip(b".") && self.digits() == 0 {
            return None;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            if self.digits() == 0 {
                return None;
            }
        }
        Some(())
    }

    fn starts_with_zero(&self, number: &[u8]) -> bool {
        number.strip_prefix(b"-").unwrap_or(number).first() == Some(&b'0')
    }

    /// Passes one of these bytes, if it is next.
    fn skip(&mut self, any: &[u8]) -> bool {
        let next = self.peek().is_some_and(|byte| any.contains(&byte));
        self.at += usize::from(next);
        next
    }

    /// Passes digits; how many.
    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
