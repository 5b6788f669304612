//! Reads expressions: template arguments that are values, and what `decltype` is about.
//!
//! Part of [`super::parse`]. Itanium C++ ABI, "Expressions".

use super::node::{operator, Id, List, Node};
use super::parse::Parser;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Option<Id> {
        self.nested(read)
    }

    pub(super) fn literal(&mut self) -> Option<Id> {
        self.nested(literal)
    }
}

fn read(parser: &mut Parser<'_>) -> Option<Id> {
    let code = [parser.peek(), parser.peek_behind(1)];
    match &code {
        [b'L', _] => return literal(parser),
        [b'T', _] => return parser.parameter(),
        [b'0'..=b'9', _] | b"on" => return unresolved(parser),
        b"fp" => return function_parameter(parser),
        [b'f', b'l' | b'r' | b'L' | b'R'] if !parser.peek_behind(2).is_ascii_digit() => {
            return fold(parser, code[1]);
        }
        b"fL" => {
            parser.at += 2;
            parser.number()?;
            return function_parameter(parser);
        }
        _ => {}
    }
    parser.at += 2;
    match &code {
        b"sr" => {
            let scope = scope(parser)?;
            let name = unresolved(parser)?;
            parser.add(Node::Scoped(scope, name))
        }
        b"sp" => {
            let pattern = parser.expression()?;
            parser.add(Node::Expansion(pattern))
        }
        b"sZ" => {
            let of = match parser.peek() {
                b'T' => parser.parameter()?,
                _ => function_parameter(parser)?,
            };
            parser.add(Node::SizeofPack(of))
        }
        b"il" => {
            let values = until_end(parser)?;
            parser.add(Node::Braced(None, values))
        }
        b"tl" => {
            let of = parser.ty()?;
            let values = until_end(parser)?;
            parser.add(Node::Braced(Some(of), values))
        }
        b"cl" => {
            let called = parser.expression()?;
            let arguments = until_end(parser)?;
            parser.add(Node::Call(called, arguments))
        }
        b"cv" => {
            let to = parser.ty()?;
            let values = match parser.take(b"_") {
                true => until_end(parser)?,
                false => {
                    let value = parser.expression()?;
                    parser.tree.add_list(&[value])
                }
            };
            parser.add(Node::Cast(to, values))
        }
        b"tr" => parser.add(Node::Fixed("throw")),
        b"gs" => {
            let name = parser.expression()?;
            parser.add(Node::Global(name))
        }
        b"nw" | b"na" => new(parser, code[1] == b'a'),
        _ => operation(parser, code),
    }
}

fn operation(parser: &mut Parser<'_>, code: [u8; 2]) -> Option<Id> {
    let found = operator(code)?;
    match &code {
        b"dc" | b"sc" | b"cc" | b"rc" => {
            let to = parser.ty()?;
            let value = parser.expression()?;
            return parser.add(Node::NamedCast(found, to, value));
        }
        b"st" | b"at" | b"ti" => {
            let of = parser.ty()?;
            return parser.add(Node::Unary(found, of));
        }
        b"dt" | b"pt" => {
            let object = parser.expression()?;
            let member = match parser.peek() {
                b's' => parser.expression()?,
                _ => unresolved(parser)?,
            };
            return parser.add(Node::Binary(found, object, member));
        }
        b"pp" | b"mm" => {
            let before = parser.take(b"_");
            let value = parser.expression()?;
            return parser.add(match before {
                true => Node::Unary(found, value),
                false => Node::Postfix(found, value),
            });
        }
        _ => {}
    }
    let first = parser.expression()?;
    match found.operands {
        1 => parser.add(Node::Unary(found, first)),
        2 => {
            let second = parser.expression()?;
            parser.add(Node::Binary(found, first, second))
        }
        _ => {
            let second = parser.expression()?;
            let third = parser.expression()?;
            parser.add(Node::Conditional(first, second, third))
        }
    }
}

fn until_end(parser: &mut Parser<'_>) -> Option<List> {
    let mut values = Vec::new();
    while !parser.take(b"E") {
        values.push(parser.expression()?);
    }
    Some(parser.tree.add_list(&values))
}

/// A name that is looked up when the template is used.
fn unresolved(parser: &mut Parser<'_>) -> Option<Id> {
    let name = match (parser.take(b"dn"), parser.take(b"on")) {
        (true, _) => {
            let name = match parser.peek() {
                b'0'..=b'9' => parser.source_name()?,
                _ => parser.ty()?,
            };
            parser.tree.add(Node::Destructor(name))
        }
        (_, true) => parser.operator_name()?,
        _ => parser.unqualified(None)?,
    };
    with_arguments(parser, name)
}

fn with_arguments(parser: &mut Parser<'_>, name: Id) -> Option<Id> {
    if parser.peek() != b'I' {
        return Some(name);
    }
    let arguments = parser.template_arguments()?;
    parser.add(Node::Template(name, arguments))
}

fn scope(parser: &mut Parser<'_>) -> Option<Id> {
    if parser.peek().is_ascii_digit() {
        let (at, known) = (parser.at, parser.substitutions.len());
        let first = level(parser);
        if let Some(scope) = first.and_then(|first| levels(parser, first)) {
            return Some(scope);
        }
        // As compilers wrote it before there were levels.
        parser.at = at;
        parser.substitutions.truncate(known);
    }
    if !parser.take(b"N") {
        return parser.ty();
    }
    let first = parser.ty()?;
    levels(parser, first)
}

/// The scopes in another one, up to their end.
fn levels(parser: &mut Parser<'_>, mut scope: Id) -> Option<Id> {
    while !parser.take(b"E") {
        let name = level(parser)?;
        scope = parser.tree.add(Node::Scoped(scope, name));
    }
    Some(scope)
}

fn level(parser: &mut Parser<'_>) -> Option<Id> {
    let name = parser.source_name()?;
    with_arguments(parser, name)
}

fn function_parameter(parser: &mut Parser<'_>) -> Option<Id> {
    if !parser.take(b"fp") {
        parser.need(b"p")?;
    }
    if parser.take(b"T") {
        return parser.add(Node::Fixed("this"));
    }
    while matches!(parser.peek(), b'r' | b'V' | b'K') {
        parser.at += 1;
    }
    let number = parser.compact()?.checked_add(1)?;
    parser.add(Node::FunctionParameter(number))
}

fn fold(parser: &mut Parser<'_>, kind: u8) -> Option<Id> {
    parser.at += 2;
    let code = [parser.peek(), parser.peek_behind(1)];
    parser.at += 2;
    let operator = operator(code)?;
    let left = parser.expression()?;
    let right = match kind {
        b'L' | b'R' => Some(parser.expression()?),
        _ => None,
    };
    parser.add(Node::Fold {
        kind,
        operator,
        left,
        right,
    })
}

fn new(parser: &mut Parser<'_>, array: bool) -> Option<Id> {
    let mut placement = Vec::new();
    while !parser.take(b"_") {
        placement.push(parser.expression()?);
    }
    let placement = parser.tree.add_list(&placement);
    let of = parser.ty()?;
    let arguments = match (parser.take(b"pi"), parser.take(b"il")) {
        (false, false) => {
            parser.need(b"E")?;
            None
        }
        _ => Some(until_end(parser)?),
    };
    parser.add(Node::New {
        array,
        placement,
        of,
        arguments,
    })
}

/// A value that the name spells out, or another function or object.
fn literal(parser: &mut Parser<'_>) -> Option<Id> {
    parser.need(b"L")?;
    if parser.take(b"_Z") || parser.take(b"Z") {
        let target = parser.encoding()?;
        parser.need(b"E")?;
        return Some(target);
    }
    let of = parser.ty()?;
    let is_null = matches!(parser.tree.get(of), Node::Fixed("decltype(nullptr)"));
    if is_null && parser.take(b"E") {
        return Some(of);
    }
    let negative = parser.take(b"n");
    let value = parser.text_until(|byte| byte == b'E');
    parser.need(b"E")?;
    parser.add(Node::Literal {
        of,
        value,
        negative,
    })
}
