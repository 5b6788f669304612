//! Writes a C++ name as `c++filt` does.
//!
//! In: a [`Tree`], and whether parameters are wanted. Out: text of at most `limit` bytes;
//! `None` for a name that is longer, takes too many steps or is nested too deeply: a short
//! name can stand for a very long one. A declaration is written from the inside out: what
//! stands left of the declared name, then what stands right of it.

use super::node::{
    Id, List, Node, Operator, Quals, Tree, CONST, LVALUE, NOEXCEPT, RESTRICT, RVALUE,
    TRANSACTION_SAFE, VOLATILE,
};

/// A stack may have a hundred names that are made to be costly.
const MAX_STEPS: u32 = 16_384;
const MAX_DEPTH: u32 = 192;

/// The arguments of a template, and the scope around it: both as [`Printer::scopes`] has them.
pub(super) type Scope = Option<usize>;

#[derive(Debug)]
pub(super) struct Printer<'t, 'a> {
    pub(super) tree: &'t Tree<'a>,
    out: Vec<u8>,
    limit: usize,
    pub(super) steps: u32,
    depth: u32,
    pub(super) scopes: Vec<(List, Scope)>,
    pub(super) scope: Scope,
    /// The arguments of the template whose name is being written.
    current: Option<List>,
    /// Which argument of a pack is wanted.
    pub(super) index: Option<usize>,
    in_lambda: bool,
    /// How long the text was when an empty pack was left out at its end.
    left_out_at: usize,
}

/// What a type has behind the declared name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Nothing,
    Array,
    Function,
}

pub(super) fn print(tree: &Tree, root: Id, parameters: bool, limit: usize) -> Option<Vec<u8>> {
    let mut printer = Printer {
        tree,
        out: Vec::new(),
        limit,
        steps: 0,
        depth: 0,
        scopes: Vec::new(),
        scope: None,
        current: None,
        index: None,
        in_lambda: false,
        left_out_at: 0,
    };
    printer.root(root, parameters)?;
    Some(printer.out)
}

impl<'a> Printer<'_, 'a> {
    fn root(&mut self, root: Id, parameters: bool) -> Option<()> {
        match self.tree.get(root) {
            Node::Clone(inner, text) => {
                let scope = self.scope;
                self.within(scope, |printer| printer.root(inner, parameters))?;
                self.text(" [clone ")?;
                self.bytes(text)?;
                self.text("]")
            }
            Node::Encoding(name, _) if !parameters => self.print(name),
            _ => self.print(root),
        }
    }

    pub(super) fn bytes(&mut self, text: &[u8]) -> Option<()> {
        if self.out.len() + text.len() > self.limit {
            return None;
        }
        self.out.extend_from_slice(text);
        Some(())
    }

    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        self.bytes(text.as_bytes())
    }

    pub(super) fn number(&mut self, number: u32) -> Option<()> {
        self.text(&number.to_string())
    }

    pub(super) fn print(&mut self, id: Id) -> Option<()> {
        self.left(id)?;
        self.right(id)
    }

    /// A node and the scope that its parameters belong to, behind parameters of templates.
    fn behind_parameters(&self, mut id: Id, mut scope: Scope) -> (Id, Scope) {
        for _ in 0..MAX_DEPTH {
            let Node::Parameter(number) = self.tree.get(id) else {
                break;
            };
            if self.in_lambda {
                break;
            }
            let Some((arguments, around)) = scope.map(|at| self.scopes[at]) else {
                break;
            };
            let Some(&argument) = self.tree.list(arguments).get(number as usize) else {
                break;
            };
            (id, scope) = match (self.tree.get(argument), self.index) {
                (Node::Pack(pack), Some(index)) => match self.tree.list(pack).get(index) {
                    Some(&one) => (one, around),
                    None => (argument, around),
                },
                _ => (argument, around),
            };
        }
        (id, scope)
    }

    fn behind(&self, id: Id, scope: Scope) -> Behind {
        let (id, scope) = self.behind_parameters(id, scope);
        match self.tree.get(id) {
            Node::Array(..) => Behind::Array,
            Node::Function { .. } => Behind::Function,
            Node::Qualified(inner, _) => self.behind(inner, scope),
            _ => Behind::Nothing,
        }
    }

    /// Whether something stands right of the declared name.
    fn has_right(&self, id: Id, scope: Scope) -> bool {
        let (id, scope) = self.behind_parameters(id, scope);
        match self.tree.get(id) {
            Node::Array(..) | Node::Function { .. } => true,
            Node::Qualified(inner, _) | Node::Pointer(_, inner) | Node::MemberPointer(_, inner) => {
                self.has_right(inner, scope)
            }
            _ => false,
        }
    }

    /// A reference to a reference is one.
    fn collapsed(
        &self,
        mut text: &'static str,
        inner: Id,
        scope: Scope,
    ) -> (&'static str, Id, Scope) {
        let (mut inner, mut scope) = self.behind_parameters(inner, scope);
        while let (true, Node::Pointer(other @ ("&" | "&&"), next)) =
            (text != "*", self.tree.get(inner))
        {
            if other == "&" {
                text = "&";
            }
            (inner, scope) = self.behind_parameters(next, scope);
        }
        (text, inner, scope)
    }

    /// Does something in a scope, one level deeper.
    fn within(&mut self, scope: Scope, print: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.scope, scope);
        print(self)?;
        self.scope = before;
        self.depth -= 1;
        Some(())
    }

    fn left(&mut self, id: Id) -> Option<()> {
        let (id, scope) = self.behind_parameters(id, self.scope);
        self.within(scope, |printer| printer.left_of(id))
    }

    fn right(&mut self, id: Id) -> Option<()> {
        let (id, scope) = self.behind_parameters(id, self.scope);
        self.within(scope, |printer| printer.right_of(id))
    }

    fn left_of(&mut self, id: Id) -> Option<()> {
        match self.tree.get(id) {
            Node::Pointer(text, inner) => {
                let (text, inner, scope) = self.collapsed(text, inner, self.scope);
                self.within(scope, |printer| {
                    printer.left(inner)?;
                    match printer.behind(inner, scope) {
                        Behind::Array => printer.text(" ("),
                        Behind::Function => printer.text("("),
                        Behind::Nothing => Some(()),
                    }
                })?;
                self.text(text)
            }
            Node::MemberPointer(class, member) => {
                self.left(member)?;
                self.text(match self.behind(member, self.scope) {
                    Behind::Function => "(",
                    Behind::Array => " (",
                    Behind::Nothing => " ",
                })?;
                self.print(class)?;
                self.text("::*")
            }
            Node::Qualified(inner, quals) => {
                self.left(inner)?;
                let (inner, _) = self.behind_parameters(inner, self.scope);
                let known = match self.tree.get(inner) {
                    Node::Qualified(_, known) => known,
                    _ => 0,
                };
                self.quals(quals & !known)
            }
            Node::Suffixed(inner, text) => {
                self.left(inner)?;
                self.text(text)
            }
            Node::VendorQualified(inner, name) => {
                self.left(inner)?;
                self.text(" ")?;
                self.print(name)
            }
            Node::Function { returns, .. } => match returns {
                Some(returns) => {
                    self.left(returns)?;
                    match self.has_right(returns, self.scope) {
                        true => Some(()),
                        false => self.text(" "),
                    }
                }
                None => Some(()),
            },
            Node::Array(_, of) => self.left(of),
            _ => self.simple(id),
        }
    }

    fn right_of(&mut self, id: Id) -> Option<()> {
        match self.tree.get(id) {
            Node::Pointer(text, inner) => {
                let (_, inner, scope) = self.collapsed(text, inner, self.scope);
                self.within(scope, |printer| {
                    if printer.behind(inner, scope) != Behind::Nothing {
                        printer.text(")")?;
                    }
                    printer.right(inner)
                })
            }
            Node::MemberPointer(_, member) => {
                if self.behind(member, self.scope) != Behind::Nothing {
                    self.text(")")?;
                }
                self.right(member)
            }
            Node::Qualified(inner, _)
            | Node::Suffixed(inner, _)
            | Node::VendorQualified(inner, _) => self.right(inner),
            Node::Function {
                returns,
                parameters,
                quals,
                condition,
            } => {
                self.text("(")?;
                self.list(parameters)?;
                self.text(")")?;
                self.quals(quals)?;
                if let Some(condition) = condition {
                    self.text("(")?;
                    self.print(condition)?;
                    self.text(")")?;
                }
                match returns {
                    Some(returns) => self.right(returns),
                    None => Some(()),
                }
            }
            Node::Array(dimension, of) => {
                if self.out.last() != Some(&b']') {
                    self.text(" ")?;
                }
                self.text("[")?;
                if let Some(dimension) = dimension {
                    self.print(dimension)?;
                }
                self.text("]")?;
                self.right(of)
            }
            _ => Some(()),
        }
    }

    fn quals(&mut self, quals: Quals) -> Option<()> {
        let all = [
            (CONST, " const"),
            (VOLATILE, " volatile"),
            (RESTRICT, " restrict"),
            (TRANSACTION_SAFE, " transaction_safe"),
            (NOEXCEPT, " noexcept"),
            (LVALUE, " &"),
            (RVALUE, " &&"),
        ];
        for (qual, text) in all {
            if quals & qual != 0 {
                self.text(text)?;
            }
        }
        Some(())
    }

    /// What has nothing to the right of a declared name.
    fn simple(&mut self, id: Id) -> Option<()> {
        match self.tree.get(id) {
            Node::Name(name) | Node::Text(name) => self.bytes(name),
            Node::Fixed(text) => self.text(text),
            Node::Scoped(scope, name) | Node::Local(scope, name) => {
                match self.tree.get(scope) {
                    // What a function returns is not part of a scope.
                    Node::Encoding(name, function) => self.encoding(name, function, false)?,
                    _ => self.print(scope)?,
                }
                self.text("::")?;
                self.print(name)
            }
            Node::DefaultArgument(number, name) => {
                self.text("{default arg#")?;
                self.number(number + 1)?;
                self.text("}::")?;
                self.print(name)
            }
            Node::Template(name, arguments) => self.template(name, arguments),
            Node::Parameter(number) if self.in_lambda => {
                self.text("auto:")?;
                self.number(number + 1)
            }
            Node::Parameter(_) => None,
            Node::FunctionParameter(number) => {
                self.text("{parm#")?;
                self.number(number)?;
                self.text("}")
            }
            Node::Constructor(name) | Node::Method(name, _) => self.print(name),
            Node::Destructor(name) => {
                self.text("~")?;
                self.print(name)
            }
            Node::Operator(operator) => self.operator(operator),
            Node::Conversion(to) => {
                self.text("operator ")?;
                let scope = match self.current {
                    Some(arguments) => self.opened(arguments),
                    None => self.scope,
                };
                self.within(scope, |printer| printer.print(to))
            }
            Node::LiteralOperator(name) => {
                self.text("operator\"\" ")?;
                self.print(name)
            }
            Node::Prefixed(text, target) => {
                self.text(text)?;
                self.print(target)
            }
            Node::ConstructionVtable(base, derived) => {
                self.text("construction vtable for ")?;
                self.print(base)?;
                self.text("-in-")?;
                self.print(derived)
            }
            Node::ReferenceTemporary(name, number) => {
                self.text("reference temporary #")?;
                self.number(number)?;
                self.text(" for ")?;
                self.print(name)
            }
            Node::Vector(size, of) => {
                self.print(of)?;
                self.text(" __vector(")?;
                self.print(size)?;
                self.text(")")
            }
            Node::Encoding(name, function) => self.encoding(name, function, true),
            Node::Lambda(parameters, number) => {
                self.text("{lambda(")?;
                let before = std::mem::replace(&mut self.in_lambda, true);
                self.list(parameters)?;
                self.in_lambda = before;
                self.text(")#")?;
                self.number(number + 1)?;
                self.text("}")
            }
            Node::Unnamed(number) => {
                self.text("{unnamed type#")?;
                self.number(number + 1)?;
                self.text("}")
            }
            Node::Binding(names) => {
                self.text("[")?;
                self.list(names)?;
                self.text("]")
            }
            Node::Tagged(name, tag) => {
                self.print(name)?;
                self.text("[abi:")?;
                self.print(tag)?;
                self.text("]")
            }
            Node::Expansion(pattern) => self.expansion(pattern),
            Node::Pack(pack) => self.list(pack),
            Node::Decltype(value) => {
                self.text("decltype (")?;
                self.print(value)?;
                self.text(")")
            }
            Node::BitFloat(bits, suffix) => {
                self.text("_Float")?;
                self.bytes(bits)?;
                self.text(suffix)
            }
            _ => self.value(id),
        }
    }

    fn operator(&mut self, operator: &Operator) -> Option<()> {
        self.text("operator")?;
        if operator.name.as_bytes()[0].is_ascii_lowercase() {
            self.text(" ")?;
        }
        self.text(operator.name.trim_end())
    }

    fn opened(&mut self, arguments: List) -> Scope {
        self.scopes.push((arguments, self.scope));
        Some(self.scopes.len() - 1)
    }

    fn template(&mut self, name: Id, arguments: List) -> Option<()> {
        let before = self.current.replace(arguments);
        self.print(name)?;
        if self.out.last() == Some(&b'<') {
            self.text(" ")?;
        }
        self.text("<")?;
        self.list(arguments)?;
        if self.out.last() == Some(&b'>') && self.left_out_at != self.out.len() {
            self.text(" ")?;
        }
        self.current = before;
        self.text(">")
    }

    pub(super) fn list(&mut self, list: List) -> Option<()> {
        for at in 0..list.len as usize {
            let id = self.tree.list(list)[at];
            if at > 0 {
                self.text(", ")?;
            }
            let before = self.out.len();
            self.print(id)?;
            if at > 0 && self.out.len() == before {
                self.out.truncate(before - 2);
                self.left_out_at = self.out.len();
            }
        }
        Some(())
    }

    fn encoding(&mut self, name: Id, function: Id, returning: bool) -> Option<()> {
        let (mut inner, mut quals) = (name, 0);
        loop {
            inner = match self.tree.get(inner) {
                Node::Method(name, found) => {
                    quals |= found;
                    name
                }
                Node::Local(_, name) | Node::DefaultArgument(_, name) => name,
                _ => break,
            };
        }
        let scope = match self.tree.get(inner) {
            Node::Template(_, arguments) => self.opened(arguments),
            _ => self.scope,
        };
        self.within(scope, |printer| {
            if returning {
                printer.left(function)?;
            }
            printer.print(name)?;
            let Node::Function {
                returns,
                parameters,
                ..
            } = printer.tree.get(function)
            else {
                return None;
            };
            printer.text("(")?;
            printer.list(parameters)?;
            printer.text(")")?;
            printer.quals(quals)?;
            match returns {
                Some(returns) if returning => printer.right(returns),
                _ => Some(()),
            }
        })
    }
}
