//! Reads the types of a mangled C++ name.
//!
//! In: a [`Parser`] before a type. Out: its node; the parser stands behind it.

use super::node::{builtin, builtin_d, Id, List, Node, Quals, NOEXCEPT, TRANSACTION_SAFE};
use super::parse::Parser;

impl Parser<'_> {
    /// Parameters, without that which stands for none.
    pub(super) fn parameters(&mut self) -> Option<List> {
        let mut types = Vec::new();
        loop {
            match (self.peek(), self.peek_behind(1)) {
                (0 | b'E' | b'.', _) | (b'R' | b'O', b'E') => break,
                _ => types.push(self.ty()?),
            }
        }
        let is_void = |id: &Id| matches!(self.tree.get(*id), Node::Fixed("void"));
        if types.is_empty() {
            return None;
        }
        if types.len() == 1 && is_void(&types[0]) {
            types.clear();
        }
        Some(self.tree.add_list(&types))
    }

    pub(super) fn bare_function(
        &mut self,
        returns: bool,
        quals: Quals,
        condition: Option<Id>,
    ) -> Option<Id> {
        let returns = self.take(b"J") || returns;
        let returns = match returns {
            true => Some(self.ty()?),
            false => None,
        };
        let parameters = self.parameters()?;
        self.add(Node::Function {
            returns,
            parameters,
            quals,
            condition,
        })
    }

    /// A function's type, with the qualifiers that stood before it.
    pub(super) fn function(&mut self, quals: Quals, condition: Option<Id>) -> Option<Id> {
        self.need(b"F")?;
        self.take(b"Y");
        let function = self.bare_function(true, quals, condition)?;
        let reference = self.reference_qualifier();
        self.need(b"E")?;
        match (self.tree.get(function), reference) {
            (
                Node::Function {
                    returns,
                    parameters,
                    quals,
                    condition,
                },
                1..,
            ) => {
                let quals = quals | reference;
                self.add(Node::Function {
                    returns,
                    parameters,
                    quals,
                    condition,
                })
            }
            _ => Some(function),
        }
    }

    pub(super) fn ty(&mut self) -> Option<Id> {
        self.nested(|parser| {
            let (id, is_new) = parser.any_type()?;
            if is_new {
                parser.remember(id);
            }
            Some(id)
        })
    }

    /// A type, and whether later parts of the name may refer to it.
    fn any_type(&mut self) -> Option<(Id, bool)> {
        let letter = self.peek();
        if let Some(name) = builtin(letter) {
            self.at += 1;
            return Some((self.tree.add(Node::Fixed(name)), false));
        }
        let id = match letter {
            b'r' | b'V' | b'K' => return self.qualified(),
            b'D' => return self.type_d(),
            b'u' => {
                self.at += 1;
                let name = self.source_name()?;
                match self.peek() {
                    b'I' => {
                        let arguments = self.template_arguments()?;
                        self.tree.add(Node::Template(name, arguments))
                    }
                    _ => name,
                }
            }
            b'U' if !matches!(self.peek_behind(1), b'l' | b't') => {
                self.at += 1;
                let mut name = self.source_name()?;
                if self.peek() == b'I' {
                    let arguments = self.template_arguments()?;
                    name = self.tree.add(Node::Template(name, arguments));
                }
                let inner = self.ty()?;
                self.tree.add(Node::VendorQualified(inner, name))
            }
            b'F' => self.function(0, None)?,
            b'A' => {
                self.at += 1;
                let dimension = match self.peek() {
                    b'_' => None,
                    b'0'..=b'9' => {
                        let digits = self.text_until(|byte| !byte.is_ascii_digit());
                        Some(self.tree.add(Node::Text(digits)))
                    }
                    _ => Some(self.expression()?),
                };
                self.need(b"_")?;
                let of = self.ty()?;
                self.tree.add(Node::Array(dimension, of))
            }
            b'M' => {
                self.at += 1;
                let class = self.ty()?;
                let member = self.ty()?;
                self.tree.add(Node::MemberPointer(class, member))
            }
            b'T' => return self.type_of_parameter(),
            b'S' if self.peek_behind(1) != b't' => {
                let (known, is_abbreviation) = self.substitution()?;
                if self.peek() != b'I' {
                    return Some((known, is_abbreviation && !self.is_abbreviation(known)));
                }
                let arguments = self.template_arguments()?;
                self.tree.add(Node::Template(known, arguments))
            }
            b'P' | b'R' | b'O' | b'C' | b'G' => {
                self.at += 1;
                let inner = self.ty()?;
                self.tree.add(match letter {
                    b'P' => Node::Pointer("*", inner),
                    b'R' => Node::Pointer("&", inner),
                    b'O' => Node::Pointer("&&", inner),
                    b'C' => Node::Suffixed(inner, " _Complex"),
                    _ => Node::Suffixed(inner, " _Imaginary"),
                })
            }
            _ => self.name()?,
        };
        Some((id, true))
    }

    fn is_abbreviation(&self, id: Id) -> bool {
        matches!(self.tree.get(id), Node::Fixed(_))
    }

    fn type_of_parameter(&mut self) -> Option<(Id, bool)> {
        let parameter = self.parameter()?;
        if self.peek() != b'I' {
            return Some((parameter, true));
        }
        if !self.in_conversion {
            self.remember(parameter);
            let arguments = self.template_arguments()?;
            return Some((self.tree.add(Node::Template(parameter, arguments)), true));
        }
        // They may be the conversion operator's own.
        let (at, known) = (self.at, self.substitutions.len());
        let arguments = self.template_arguments();
        match (arguments, self.peek()) {
            (Some(arguments), b'I') => {
                self.remember(parameter);
                Some((self.tree.add(Node::Template(parameter, arguments)), true))
            }
            _ => {
                self.at = at;
                self.substitutions.truncate(known);
                Some((parameter, true))
            }
        }
    }

    pub(super) fn qualified(&mut self) -> Option<(Id, bool)> {
        let quals = self.qualifiers();
        if self.peek() == b'F' || self.is_function_qualifier() {
            return self.qualified_function(quals);
        }
        let inner = self.ty()?;
        Some((self.tree.add(Node::Qualified(inner, quals)), true))
    }

    fn is_function_qualifier(&self) -> bool {
        self.peek() == b'D' && matches!(self.peek_behind(1), b'o' | b'O' | b'x' | b'w')
    }

    fn qualified_function(&mut self, mut quals: Quals) -> Option<(Id, bool)> {
        let mut condition = None;
        while self.is_function_qualifier() {
            let letter = self.peek_behind(1);
            self.at += 2;
            match letter {
                b'x' => quals |= TRANSACTION_SAFE,
                b'o' => quals |= NOEXCEPT,
                b'O' => {
                    quals |= NOEXCEPT;
                    condition = Some(self.expression()?);
                    self.need(b"E")?;
                }
                _ => return None,
            }
        }
        Some((self.function(quals, condition)?, true))
    }

    fn type_d(&mut self) -> Option<(Id, bool)> {
        let letter = self.peek_behind(1);
        if self.is_function_qualifier() {
            return self.qualified_function(0);
        }
        self.at += 2;
        if let Some(name) = builtin_d(letter) {
            return Some((self.tree.add(Node::Fixed(name)), false));
        }
        let id = match letter {
            b'T' | b't' => {
                let value = self.expression()?;
                self.need(b"E")?;
                self.tree.add(Node::Decltype(value))
            }
            b'p' => {
                let pattern = self.ty()?;
                self.tree.add(Node::Expansion(pattern))
            }
            b'v' => {
                let size = match self.take(b"_") {
                    true => self.expression()?,
                    false => {
                        let digits = self.text_until(|byte| !byte.is_ascii_digit());
                        self.tree.add(Node::Text(digits))
                    }
                };
                self.need(b"_")?;
                let of = self.ty()?;
                self.tree.add(Node::Vector(size, of))
            }
            b'F' => {
                let digits = self.text_until(|byte| !byte.is_ascii_digit());
                let node = match (self.take(b"b"), self.take(b"x")) {
                    (true, false) => Node::Fixed("std::bfloat16_t"),
                    (false, true) => Node::BitFloat(digits, "x"),
                    _ => {
                        self.need(b"_")?;
                        Node::BitFloat(digits, "")
                    }
                };
                return Some((self.tree.add(node), false));
            }
            _ => return None,
        };
        Some((id, true))
    }
}
