//! Reads a mangled C++ name.
//!
//! In: the bytes behind `_Z`. Out: a [`Tree`] and its root; `None` for what is no such name,
//! or nested too deeply. Each step consumes a byte or goes one level down, and depth is
//! limited: the work is bounded by the name's length. Itanium C++ ABI, "Mangling", with what
//! GCC and Clang write beside it.

use super::node::{
    abbreviation, operator, Id, List, Node, Quals, Tree, CONST, LVALUE, RESTRICT, RVALUE, VOLATILE,
};

/// No real name is nested deeper, and each level is a few calls on our own stack.
const MAX_DEPTH: u32 = 96;
/// Nodes of one name: substitutions do not copy, so that real names have as many as bytes.
const MAX_NODES: u32 = 1 << 13;
/// Levels that are gone down, in all, and text that is skipped: what is read in two ways may
/// be read in vain again and again.
const MAX_STEPS: u32 = 1 << 13;
/// Of text, for a step.
const STEP_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Parser<'a> {
    input: &'a [u8],
    pub(super) at: usize,
    pub(super) tree: Tree<'a>,
    pub(super) substitutions: Vec<Id>,
    depth: u32,
    steps: u32,
    /// Inside the type of a conversion operator.
    pub(super) in_conversion: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Parser {
            input,
            at: 0,
            tree: Tree::default(),
            substitutions: Vec::new(),
            depth: 0,
            steps: 0,
            in_conversion: false,
        }
    }

    /// The whole name, with what compilers append to that of a part of a function.
    pub(super) fn whole(&mut self) -> Option<Id> {
        let mut root = self.encoding()?;
        while self.peek() == b'.' {
            let rest = &self.input[self.at..];
            let word = rest[1..].iter().position(|&byte| !is_word(byte));
            let mut end = word.map_or(rest.len(), |word| word + 1);
            if end < 2 {
                return None;
            }
            // Numbers behind it belong to it: .part.0
            while rest.get(end) == Some(&b'.') && rest.get(end + 1).is_some_and(u8::is_ascii_digit)
            {
                let digits = rest[end + 1..]
                    .iter()
                    .position(|byte| !byte.is_ascii_digit());
                end = digits.map_or(rest.len(), |digits| end + 1 + digits);
            }
            self.at += end;
            root = self.tree.add(Node::Clone(root, &rest[..end]));
        }
        (self.at == self.input.len()).then_some(root)
    }

    /// Goes one level down.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let is_much = self.steps >= MAX_STEPS || self.tree.len() > MAX_NODES;
        if self.depth == MAX_DEPTH || is_much {
            return None;
        }
        self.steps += 1;
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    pub(super) fn peek(&self) -> u8 {
        self.peek_behind(0)
    }

    pub(super) fn peek_behind(&self, bytes: usize) -> u8 {
        self.input.get(self.at + bytes).copied().unwrap_or(0)
    }

    pub(super) fn take(&mut self, text: &[u8]) -> bool {
        let found = self.input[self.at..].starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    pub(super) fn need(&mut self, text: &[u8]) -> Option<()> {
        self.take(text).then_some(())
    }

    pub(super) fn add(&mut self, node: Node<'a>) -> Option<Id> {
        Some(self.tree.add(node))
    }

    pub(super) fn remember(&mut self, id: Id) {
        self.substitutions.push(id);
    }

    pub(super) fn text_until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.input[self.at..];
        let len = rest
            .iter()
            .position(|&byte| ends(byte))
            .unwrap_or(rest.len());
        self.at += len;
        self.steps = self.steps.saturating_add((len / STEP_BYTES) as u32);
        &rest[..len]
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let digits = self.text_until(|byte| !byte.is_ascii_digit());
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// `_` is 0, `0_` is 1, and so on.
    pub(super) fn compact(&mut self) -> Option<u32> {
        if self.take(b"_") {
            return Some(0);
        }
        let number = self.number()?.checked_add(1)?;
        self.need(b"_")?;
        Some(number)
    }

    pub(super) fn encoding(&mut self) -> Option<Id> {
        self.nested(|parser| {
            if matches!(parser.peek(), b'G' | b'T') {
                return parser.special();
            }
            let name = parser.name()?;
            if matches!(parser.peek(), 0 | b'E' | b'.') {
                return Some(name);
            }
            let returns = has_return_type(&parser.tree, name);
            let function = parser.bare_function(returns, 0, None)?;
            parser.add(Node::Encoding(name, function))
        })
    }

    fn special(&mut self) -> Option<Id> {
        let code = [self.peek(), self.peek_behind(1)];
        self.at += 2;
        let text = match &code {
            b"TV" => "vtable for ",
            b"TT" => "VTT for ",
            b"TI" => "typeinfo for ",
            b"TS" => "typeinfo name for ",
            b"TF" => "typeinfo fn for ",
            b"TJ" => "java Class for ",
            b"TH" => "TLS init function for ",
            b"TW" => "TLS wrapper function for ",
            b"TA" => "template parameter object for ",
            b"Th" | b"Tv" | b"Tc" => {
                self.at -= 1;
                self.offset()?;
                if code[1] == b'c' {
                    self.offset()?;
                }
                let target = self.encoding()?;
                let text = match code[1] {
                    b'h' => "non-virtual thunk to ",
                    b'v' => "virtual thunk to ",
                    _ => "covariant return thunk to ",
                };
                return self.add(Node::Prefixed(text, target));
            }
            b"TC" => {
                let derived = self.ty()?;
                self.number()?;
                self.need(b"_")?;
                let base = self.ty()?;
                return self.add(Node::ConstructionVtable(base, derived));
            }
            b"GV" => "guard variable for ",
            b"GA" => "hidden alias for ",
            b"GT" => {
                let text = match self.take(b"n") {
                    true => "non-transaction clone for ",
                    false => {
                        self.need(b"t")?;
                        "transaction clone for "
                    }
                };
                let target = self.encoding()?;
                return self.add(Node::Prefixed(text, target));
            }
            b"GR" => {
                let name = self.name()?;
                let number = match self.peek() {
                    b'0'..=b'9' => self.number()?.checked_add(1)?,
                    _ => 0,
                };
                self.take(b"_");
                return self.add(Node::ReferenceTemporary(name, number));
            }
            _ => return None,
        };
        let target = match &code {
            b"TV" | b"TT" | b"TI" | b"TS" | b"TF" | b"TJ" => self.ty()?,
            b"TA" => self.template_argument()?,
            b"GA" => self.encoding()?,
            _ => self.name()?,
        };
        self.add(Node::Prefixed(text, target))
    }

    /// How far a thunk moves `this`, which is not shown.
    fn offset(&mut self) -> Option<()> {
        let parts = match (self.take(b"h"), self.take(b"v")) {
            (true, false) => 1,
            (false, true) => 2,
            _ => return None,
        };
        for _ in 0..parts {
            self.take(b"n");
            self.number()?;
            self.need(b"_")?;
        }
        Some(())
    }

    pub(super) fn name(&mut self) -> Option<Id> {
        self.nested(|parser| match (parser.peek(), parser.peek_behind(1)) {
            (b'N', _) => parser.nested_name(),
            (b'Z', _) => parser.local_name(),
            (b'S', other) if other != b't' => {
                let known = parser.substitution()?.0;
                parser.with_arguments(known, false)
            }
            (b'S', _) => {
                parser.at += 2;
                let std = parser.tree.add(Node::Fixed("std"));
                let inner = parser.unqualified(None)?;
                let name = parser.tree.add(Node::Scoped(std, inner));
                parser.with_arguments(name, true)
            }
            _ => {
                let name = parser.unqualified(None)?;
                parser.with_arguments(name, true)
            }
        })
    }

    fn with_arguments(&mut self, name: Id, is_new: bool) -> Option<Id> {
        if self.peek() != b'I' {
            return Some(name);
        }
        if is_new {
            self.remember(name);
        }
        let arguments = self.template_arguments()?;
        self.add(Node::Template(name, arguments))
    }

    pub(super) fn qualifiers(&mut self) -> Quals {
        let mut quals = 0;
        loop {
            quals |= match self.peek() {
                b'r' => RESTRICT,
                b'V' => VOLATILE,
                b'K' => CONST,
                _ => return quals,
            };
            self.at += 1;
        }
    }

    pub(super) fn reference_qualifier(&mut self) -> Quals {
        match (self.take(b"R"), self.take(b"O")) {
            (true, _) => LVALUE,
            (_, true) => RVALUE,
            _ => 0,
        }
    }

    fn nested_name(&mut self) -> Option<Id> {
        self.need(b"N")?;
        self.take(b"H");
        let quals = self.qualifiers();
        let quals = quals | self.reference_qualifier();
        let name = self.prefix()?;
        self.need(b"E")?;
        match quals {
            0 => Some(name),
            quals => self.add(Node::Method(name, quals)),
        }
    }

    fn prefix(&mut self) -> Option<Id> {
        let mut scope: Option<Id> = None;
        loop {
            let is_substitution = self.peek() == b'S';
            let next = match (self.peek(), self.peek_behind(1)) {
                (b'E', _) => return scope,
                (b'M', _) if scope.is_some() => {
                    self.at += 1;
                    continue;
                }
                (b'I', _) => {
                    let arguments = self.template_arguments()?;
                    let whole = self.tree.add(Node::Template(scope?, arguments));
                    scope = Some(whole);
                    if self.peek() != b'E' {
                        self.remember(whole);
                    }
                    continue;
                }
                (b'D', b'T' | b't') => self.nested(Self::ty)?,
                (b'S', b't') => {
                    self.at += 2;
                    self.tree.add(Node::Fixed("std"))
                }
                (b'S', _) => self.substitution()?.0,
                (b'T', _) => self.parameter()?,
                _ => self.unqualified(scope)?,
            };
            let whole = match scope {
                Some(scope) => self.tree.add(Node::Scoped(scope, next)),
                None => next,
            };
            scope = Some(whole);
            if !is_substitution && self.peek() != b'E' {
                self.remember(whole);
            }
        }
    }

    /// A name without its scope, which a constructor is named after.
    pub(super) fn unqualified(&mut self, scope: Option<Id>) -> Option<Id> {
        self.take(b"L");
        let mut name = match (self.peek(), self.peek_behind(1)) {
            (b'0'..=b'9', _) => self.source_name()?,
            (b'D', b'C') => self.binding()?,
            (b'C' | b'D', _) => self.structor(scope?)?,
            (b'U', b'l') => self.lambda()?,
            (b'U', b't') => {
                self.at += 2;
                let number = self.compact()?;
                let name = self.tree.add(Node::Unnamed(number));
                self.remember(name);
                name
            }
            (b'o', b'n') => {
                self.at += 2;
                self.operator_name()?
            }
            _ => self.operator_name()?,
        };
        while self.take(b"B") {
            let tag = self.source_name()?;
            name = self.tree.add(Node::Tagged(name, tag));
        }
        Some(name)
    }

    pub(super) fn source_name(&mut self) -> Option<Id> {
        let len = self.number()? as usize;
        let name = self.input.get(self.at..self.at.checked_add(len)?)?;
        if len == 0 {
            return None;
        }
        self.at += len;
        let anonymous = name.starts_with(b"_GLOBAL_")
            && matches!(name.get(8), Some(b'.' | b'_' | b'$'))
            && name.get(9) == Some(&b'N');
        self.add(match anonymous {
            true => Node::Fixed("(anonymous namespace)"),
            false => Node::Name(name),
        })
    }

    pub(super) fn operator_name(&mut self) -> Option<Id> {
        let code = [self.peek(), self.peek_behind(1)];
        if code[0] == b'v' && code[1].is_ascii_digit() {
            self.at += 2;
            let name = self.source_name()?;
            return self.add(Node::LiteralOperator(name));
        }
        if !code[0].is_ascii_lowercase() {
            return None;
        }
        self.at += 2;
        if &code == b"cv" {
            let before = std::mem::replace(&mut self.in_conversion, true);
            let to = self.ty();
            self.in_conversion = before;
            return self.add(Node::Conversion(to?));
        }
        let found = operator(code)?;
        if &code == b"li" {
            let name = self.source_name()?;
            return self.add(Node::LiteralOperator(name));
        }
        self.add(Node::Operator(found))
    }

    fn binding(&mut self) -> Option<Id> {
        self.at += 2;
        let mut names = Vec::new();
        while !self.take(b"E") {
            names.push(self.source_name()?);
        }
        let names = self.tree.add_list(&names);
        self.add(Node::Binding(names))
    }

    fn structor(&mut self, scope: Id) -> Option<Id> {
        let is_destructor = self.peek() == b'D';
        self.at += 1;
        let inherits = !is_destructor && self.take(b"I");
        if !matches!(self.peek(), b'0'..=b'5') {
            return None;
        }
        self.at += 1;
        if inherits {
            self.ty()?;
        }
        let name = self.last_name(scope)?;
        match is_destructor {
            true => self.add(Node::Destructor(name)),
            false => self.add(Node::Constructor(name)),
        }
    }

    /// The last part of a name, without arguments.
    fn last_name(&mut self, mut id: Id) -> Option<Id> {
        loop {
            id = match self.tree.get(id) {
                Node::Scoped(_, name) | Node::Local(_, name) | Node::Template(name, _) => name,
                Node::Tagged(name, _) | Node::Method(name, _) | Node::Constructor(name) => name,
                Node::Fixed(whole) => {
                    let found = b"abiosd".iter().filter_map(|&letter| abbreviation(letter));
                    let short = found.into_iter().find(|(name, _)| *name == whole)?.1;
                    return self.add(Node::Fixed(short));
                }
                _ => return Some(id),
            }
        }
    }

    fn lambda(&mut self) -> Option<Id> {
        self.at += 2;
        let parameters = self.parameters()?;
        self.need(b"E")?;
        let number = self.compact()?;
        self.add(Node::Lambda(parameters, number))
    }

    fn local_name(&mut self) -> Option<Id> {
        self.need(b"Z")?;
        let function = self.encoding()?;
        self.need(b"E")?;
        if self.take(b"s") {
            self.discriminator()?;
            let text = self.tree.add(Node::Fixed("string literal"));
            return self.add(Node::Local(function, text));
        }
        let argument = match self.take(b"d") {
            true => Some(self.compact()?),
            false => None,
        };
        let name = self.name()?;
        // Those of lambdas and types have a number of their own.
        if !matches!(self.tree.get(name), Node::Lambda(..) | Node::Unnamed(_)) {
            self.discriminator()?;
        }
        let name = match argument {
            Some(number) => self.tree.add(Node::DefaultArgument(number, name)),
            None => name,
        };
        self.add(Node::Local(function, name))
    }

    fn discriminator(&mut self) -> Option<()> {
        if self.take(b"__") {
            self.number()?;
            return self.need(b"_");
        }
        if self.peek() == b'_' && self.peek_behind(1).is_ascii_digit() {
            self.at += 1;
            self.number()?;
        }
        Some(())
    }

    pub(super) fn parameter(&mut self) -> Option<Id> {
        self.need(b"T")?;
        let number = self.compact()?;
        self.add(Node::Parameter(number))
    }

    pub(super) fn template_arguments(&mut self) -> Option<List> {
        self.nested(|parser| {
            if !parser.take(b"I") {
                parser.need(b"J")?;
            }
            let mut arguments = Vec::new();
            while !parser.take(b"E") {
                arguments.push(parser.template_argument()?);
            }
            Some(parser.tree.add_list(&arguments))
        })
    }

    pub(super) fn template_argument(&mut self) -> Option<Id> {
        match self.peek() {
            b'X' => {
                self.at += 1;
                let value = self.expression()?;
                self.need(b"E")?;
                Some(value)
            }
            b'L' => self.literal(),
            b'I' | b'J' => {
                let pack = self.template_arguments()?;
                self.add(Node::Pack(pack))
            }
            _ => self.ty(),
        }
    }

    /// An earlier part of the name, and whether it is one of the abbreviations.
    pub(super) fn substitution(&mut self) -> Option<(Id, bool)> {
        self.need(b"S")?;
        let letter = self.peek();
        if letter == b'_' || letter.is_ascii_digit() || letter.is_ascii_uppercase() {
            let digits =
                self.text_until(|byte| !(byte.is_ascii_digit() || byte.is_ascii_uppercase()));
            self.need(b"_")?;
            let mut number = 0usize;
            for &digit in digits {
                let value = char::from(digit).to_digit(36)? as usize;
                number = number.checked_mul(36)?.checked_add(value)?;
            }
            let index = if digits.is_empty() {
                0
            } else {
                number.checked_add(1)?
            };
            return Some((*self.substitutions.get(index)?, false));
        }
        self.at += 1;
        let (whole, _) = abbreviation(letter)?;
        let mut name = self.tree.add(Node::Fixed(whole));
        let is_plain = self.peek() != b'B';
        while self.take(b"B") {
            let tag = self.source_name()?;
            name = self.tree.add(Node::Tagged(name, tag));
        }
        if !is_plain {
            self.remember(name);
        }
        Some((name, is_plain))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Functions made from a template have their return type in the name.
fn has_return_type(tree: &Tree, id: Id) -> bool {
    match tree.get(id) {
        Node::Template(name, _) => !is_structor(tree, name),
        Node::Local(_, name) | Node::Method(name, _) | Node::DefaultArgument(_, name) => {
            has_return_type(tree, name)
        }
        _ => false,
    }
}

/// Constructors, destructors and conversion operators have none.
fn is_structor(tree: &Tree, mut id: Id) -> bool {
    // Tags may be as many as fit into a name, so this does not recurse.
    loop {
        id = match tree.get(id) {
            Node::Scoped(_, name) | Node::Local(_, name) | Node::Tagged(name, _) => name,
            Node::Constructor(_) | Node::Destructor(_) | Node::Conversion(_) => return true,
            _ => return false,
        }
    }
}
