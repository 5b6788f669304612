//! Writes the values, the casts and the packs of a C++ name.
//!
//! In: a [`Printer`] and a node. Out: the text, at the end of the printer's.

use super::node::{Id, List, Node};
use super::print::Printer;

impl Printer<'_, '_> {
    pub(super) fn expansion(&mut self, pattern: Id) -> Option<()> {
        let mut steps = 0;
        let count = self.pack_in(pattern, &mut steps);
        self.steps += steps;
        let Some(count) = count else {
            self.operand(pattern)?;
            return self.text("...");
        };
        let before = self.index;
        for index in 0..count {
            self.index = Some(index);
            if index > 0 {
                self.text(", ")?;
            }
            self.print(pattern)?;
        }
        self.index = before;
        Some(())
    }

    /// The length of the first pack that a pattern uses.
    fn pack_in(&self, id: Id, steps: &mut u32) -> Option<usize> {
        *steps += 1;
        if *steps > 1000 {
            return None;
        }
        let in_list = |list: List, steps: &mut u32| {
            let mut ids = self.tree.list(list).iter();
            ids.find_map(|&id| self.pack_in(id, steps))
        };
        match self.tree.get(id) {
            Node::Parameter(number) => {
                let (arguments, _) = self.scopes[self.scope?];
                let argument = *self.tree.list(arguments).get(number as usize)?;
                match self.tree.get(argument) {
                    Node::Pack(pack) => Some(pack.len as usize),
                    _ => None,
                }
            }
            Node::Scoped(a, b)
            | Node::Local(a, b)
            | Node::MemberPointer(a, b)
            | Node::Encoding(a, b)
            | Node::Vector(a, b)
            | Node::VendorQualified(a, b)
            | Node::Binary(_, a, b)
            | Node::NamedCast(_, a, b) => self.pack_in(a, steps).or_else(|| self.pack_in(b, steps)),
            Node::Template(a, list)
            | Node::Call(a, list)
            | Node::Cast(a, list)
            | Node::Braced(Some(a), list) => {
                self.pack_in(a, steps).or_else(|| in_list(list, steps))
            }
            Node::Braced(None, list) | Node::Pack(list) => in_list(list, steps),
            Node::Pointer(_, a)
            | Node::Suffixed(a, _)
            | Node::Qualified(a, _)
            | Node::Method(a, _)
            | Node::Decltype(a)
            | Node::Conversion(a)
            | Node::Unary(_, a)
            | Node::Postfix(_, a)
            | Node::SizeofPack(a)
            | Node::Global(a)
            | Node::Array(None, a) => self.pack_in(a, steps),
            Node::Array(Some(a), b) => self.pack_in(a, steps).or_else(|| self.pack_in(b, steps)),
            Node::Conditional(a, b, c) => {
                [a, b, c].into_iter().find_map(|id| self.pack_in(id, steps))
            }
            Node::Function {
                returns,
                parameters,
                ..
            } => {
                let found = returns.and_then(|id| self.pack_in(id, steps));
                found.or_else(|| in_list(parameters, steps))
            }
            _ => None,
        }
    }

    pub(super) fn value(&mut self, id: Id) -> Option<()> {
        match self.tree.get(id) {
            Node::Literal {
                of,
                value,
                negative,
            } => self.literal(of, value, negative),
            Node::Unary(operator, value) => {
                self.text(operator.name)?;
                if matches!(&operator.code, b"st" | b"nx") {
                    return self.enclosed(value);
                }
                // The address of a function needs no parameters.
                match (&operator.code, self.tree.get(value)) {
                    (b"ad", Node::Encoding(name, _)) => self.operand(name),
                    _ => self.operand(value),
                }
            }
            Node::Postfix(operator, value) => {
                self.operand(value)?;
                self.text(operator.name)
            }
            Node::Binary(operator, left, right) => {
                let is_closing = operator.name == ">";
                if is_closing {
                    self.text("(")?;
                }
                self.operand(left)?;
                if operator.name == "[]" {
                    self.text("[")?;
                    self.print(right)?;
                    self.text("]")?;
                } else {
                    self.text(operator.name)?;
                    self.operand(right)?;
                }
                match is_closing {
                    true => self.text(")"),
                    false => Some(()),
                }
            }
            Node::Conditional(condition, left, right) => {
                self.operand(condition)?;
                self.text("?")?;
                self.operand(left)?;
                self.text(" : ")?;
                self.operand(right)
            }
            Node::Call(called, arguments) => {
                match self.tree.get(called) {
                    Node::Encoding(name, _) => self.operand(name)?,
                    _ => self.operand(called)?,
                }
                self.values(arguments)
            }
            Node::Cast(to, values) => {
                self.enclosed(to)?;
                match self.tree.list(values) {
                    &[value] => self.operand(value),
                    _ => self.values(values),
                }
            }
            Node::NamedCast(operator, to, value) => {
                self.text(operator.name)?;
                self.text("<")?;
                self.print(to)?;
                self.text(">")?;
                self.enclosed(value)
            }
            Node::Braced(of, values) => {
                if let Some(of) = of {
                    self.print(of)?;
                }
                self.text("{")?;
                self.list(values)?;
                self.text("}")
            }
            Node::Fold {
                kind,
                operator,
                left,
                right,
            } => {
                self.text("(")?;
                if kind == b'l' {
                    self.text("...")?;
                } else {
                    self.operand(left)?;
                }
                self.text(operator.name)?;
                match (kind, right) {
                    (b'l', _) => self.operand(left)?,
                    (_, Some(right)) => {
                        self.text("...")?;
                        self.text(operator.name)?;
                        self.operand(right)?;
                    }
                    _ => self.text("...")?,
                }
                self.text(")")
            }
            Node::SizeofPack(of) => {
                let mut steps = 0;
                match self.pack_in(of, &mut steps) {
                    Some(count) => self.number(count as u32),
                    None => {
                        self.text("sizeof...")?;
                        self.enclosed(of)
                    }
                }
            }
            Node::Global(name) => {
                self.text("::")?;
                self.print(name)
            }
            Node::New {
                array,
                placement,
                of,
                arguments,
            } => {
                self.text(if array { "new[]" } else { "new" })?;
                if placement.len > 0 {
                    self.values(placement)?;
                }
                self.text(" ")?;
                self.print(of)?;
                match arguments {
                    Some(arguments) => self.values(arguments),
                    None => Some(()),
                }
            }
            _ => None,
        }
    }

    fn values(&mut self, values: List) -> Option<()> {
        self.text("(")?;
        self.list(values)?;
        self.text(")")
    }

    fn enclosed(&mut self, id: Id) -> Option<()> {
        self.text("(")?;
        self.print(id)?;
        self.text(")")
    }

    fn operand(&mut self, id: Id) -> Option<()> {
        match self.tree.get(id) {
            Node::Name(_)
            | Node::Scoped(..)
            | Node::Braced(..)
            | Node::FunctionParameter(_)
            | Node::Fixed("this") => self.print(id),
            _ => self.enclosed(id),
        }
    }

    fn literal(&mut self, of: Id, value: &[u8], negative: bool) -> Option<()> {
        let (suffix, is_shown) = match self.tree.get(of) {
            Node::Fixed("bool") if !negative && value == b"0" => return self.text("false"),
            Node::Fixed("bool") if !negative && value == b"1" => return self.text("true"),
            Node::Fixed("int") => ("", false),
            Node::Fixed("unsigned int") => ("u", false),
            Node::Fixed("long") => ("l", false),
            Node::Fixed("unsigned long") => ("ul", false),
            Node::Fixed("long long") => ("ll", false),
            Node::Fixed("unsigned long long") => ("ull", false),
            _ => ("", true),
        };
        if is_shown {
            self.enclosed(of)?;
        }
        if negative {
            self.text("-")?;
        }
        let is_float = matches!(
            self.tree.get(of),
            Node::Fixed("float" | "double" | "long double" | "__float128")
        );
        if is_float {
            self.text("[")?;
        }
        self.bytes(value)?;
        if is_float {
            self.text("]")?;
        }
        self.text(suffix)
    }
}
