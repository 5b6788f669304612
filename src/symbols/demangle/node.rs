//! What a mangled C++ name is made of: a tree, and the tables of fixed names.
//!
//! In: nothing. Out: [`Node`], [`Tree`], operators, types and abbreviations by their codes.
//! Itanium C++ ABI, "External Names".

/// A node's number in its [`Tree`].
pub(super) type Id = u32;

/// Part of [`Tree::lists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Qualifiers: one bit each.
pub(super) type Quals = u8;
pub(super) const RESTRICT: Quals = 1;
pub(super) const VOLATILE: Quals = 2;
pub(super) const CONST: Quals = 4;
pub(super) const LVALUE: Quals = 8;
pub(super) const RVALUE: Quals = 16;
pub(super) const NOEXCEPT: Quals = 32;
pub(super) const TRANSACTION_SAFE: Quals = 64;

#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Name(&'a [u8]),
    Fixed(&'static str),
    Scoped(Id, Id),
    /// Something in a function: its encoding, and its name there.
    Local(Id, Id),
    /// The name of a local entity in a default argument.
    DefaultArgument(u32, Id),
    Template(Id, List),
    Parameter(u32),
    FunctionParameter(u32),
    Constructor(Id),
    Destructor(Id),
    Operator(&'static Operator),
    Conversion(Id),
    LiteralOperator(Id),
    Prefixed(&'static str, Id),
    ConstructionVtable(Id, Id),
    ReferenceTemporary(Id, u32),
    /// `*`, `&`, `&&` behind a type.
    Pointer(&'static str, Id),
    Suffixed(Id, &'static str),
    Qualified(Id, Quals),
    VendorQualified(Id, Id),
    Function {
        returns: Option<Id>,
        parameters: List,
        quals: Quals,
        condition: Option<Id>,
    },
    Array(Option<Id>, Id),
    Vector(Id, Id),
    MemberPointer(Id, Id),
    /// A function: its name, and its type.
    Encoding(Id, Id),
    /// A member function's name with the qualifiers of the function.
    Method(Id, Quals),
    Lambda(List, u32),
    Unnamed(u32),
    Binding(List),
    Tagged(Id, Id),
    Clone(Id, &'a [u8]),
    Expansion(Id),
    Pack(List),
    Decltype(Id),
    Text(&'a [u8]),
    BitFloat(&'a [u8], &'static str),
    Literal {
        of: Id,
        value: &'a [u8],
        negative: bool,
    },
    Unary(&'static Operator, Id),
    Postfix(&'static Operator, Id),
    Binary(&'static Operator, Id, Id),
    Conditional(Id, Id, Id),
    Call(Id, List),
    Cast(Id, List),
    NamedCast(&'static Operator, Id, Id),
    Braced(Option<Id>, List),
    Fold {
        kind: u8,
        operator: &'static Operator,
        left: Id,
        right: Option<Id>,
    },
    SizeofPack(Id),
    Global(Id),
    New {
        array: bool,
        placement: List,
        of: Id,
        arguments: Option<List>,
    },
}

#[derive(Debug)]
pub(super) struct Operator {
    pub(super) code: [u8; 2],
    pub(super) name: &'static str,
    pub(super) operands: u8,
}

const fn op(code: &[u8; 2], name: &'static str, operands: u8) -> Operator {
    Operator {
        code: *code,
        name,
        operands,
    }
}

static OPERATORS: [Operator; 68] = [
    op(b"aN", "&=", 2),
    op(b"aS", "=", 2),
    op(b"aa", "&&", 2),
    op(b"ad", "&", 1),
    op(b"an", "&", 2),
    op(b"at", "alignof ", 1),
    op(b"aw", "co_await ", 1),
    op(b"az", "alignof ", 1),
    op(b"cc", "const_cast", 2),
    op(b"cl", "()", 2),
    op(b"cm", ",", 2),
    op(b"co", "~", 1),
    op(b"dV", "/=", 2),
    op(b"dX", "[...]=", 3),
    op(b"da", "delete[] ", 1),
    op(b"dc", "dynamic_cast", 2),
    op(b"de", "*", 1),
    op(b"di", "=", 2),
    op(b"dl", "delete ", 1),
    op(b"ds", ".*", 2),
    op(b"dt", ".", 2),
    op(b"dv", "/", 2),
    op(b"dx", "]=", 2),
    op(b"eO", "^=", 2),
    op(b"eo", "^", 2),
    op(b"eq", "==", 2),
    op(b"ge", ">=", 2),
    op(b"gs", "::", 1),
    op(b"gt", ">", 2),
    op(b"ix", "[]", 2),
    op(b"lS", "<<=", 2),
    op(b"le", "<=", 2),
    op(b"li", "operator\"\" ", 1),
    op(b"ls", "<<", 2),
    op(b"lt", "<", 2),
    op(b"mI", "-=", 2),
    op(b"mL", "*=", 2),
    op(b"mi", "-", 2),
    op(b"ml", "*", 2),
    op(b"mm", "--", 1),
    op(b"na", "new[]", 3),
    op(b"ne", "!=", 2),
    op(b"ng", "-", 1),
    op(b"nt", "!", 1),
    op(b"nw", "new", 3),
    op(b"oR", "|=", 2),
    op(b"oo", "||", 2),
    op(b"or", "|", 2),
    op(b"pL", "+=", 2),
    op(b"pl", "+", 2),
    op(b"pm", "->*", 2),
    op(b"pp", "++", 1),
    op(b"ps", "+", 1),
    op(b"pt", "->", 2),
    op(b"qu", "?", 3),
    op(b"rM", "%=", 2),
    op(b"rS", ">>=", 2),
    op(b"rc", "reinterpret_cast", 2),
    op(b"rm", "%", 2),
    op(b"rs", ">>", 2),
    op(b"sc", "static_cast", 2),
    op(b"ss", "<=>", 2),
    op(b"st", "sizeof ", 1),
    op(b"sz", "sizeof ", 1),
    op(b"tw", "throw ", 1),
    op(b"nx", "noexcept", 1),
    op(b"te", "typeid ", 1),
    op(b"ti", "typeid ", 1),
];

pub(super) fn operator(code: [u8; 2]) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.code == code)
}

/// A builtin type of one letter.
pub(super) fn builtin(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'a' => "signed char",
        b'b' => "bool",
        b'c' => "char",
        b'd' => "double",
        b'e' => "long double",
        b'f' => "float",
        b'g' => "__float128",
        b'h' => "unsigned char",
        b'i' => "int",
        b'j' => "unsigned int",
        b'l' => "long",
        b'm' => "unsigned long",
        b'n' => "__int128",
        b'o' => "unsigned __int128",
        b's' => "short",
        b't' => "unsigned short",
        b'v' => "void",
        b'w' => "wchar_t",
        b'x' => "long long",
        b'y' => "unsigned long long",
        b'z' => "...",
        _ => return None,
    })
}

/// The same of two letters, the first of which is `D`.
pub(super) fn builtin_d(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'a' => "auto",
        b'c' => "decltype(auto)",
        b'd' => "decimal64",
        b'e' => "decimal128",
        b'f' => "decimal32",
        b'h' => "half",
        b'i' => "char32_t",
        b'n' => "decltype(nullptr)",
        b's' => "char16_t",
        b'u' => "char8_t",
        _ => return None,
    })
}

/// An abbreviation's whole name, and the part of it that a constructor has.
pub(super) fn abbreviation(letter: u8) -> Option<(&'static str, &'static str)> {
    Some(match letter {
        b't' => ("std", ""),
        b'a' => ("std::allocator", "allocator"),
        b'b' => ("std::basic_string", "basic_string"),
        b's' => (
            "std::basic_string<char, std::char_traits<char>, std::allocator<char> >",
            "basic_string",
        ),
        b'i' => (
            "std::basic_istream<char, std::char_traits<char> >",
            "basic_istream",
        ),
        b'o' => (
            "std::basic_ostream<char, std::char_traits<char> >",
            "basic_ostream",
        ),
        b'd' => (
            "std::basic_iostream<char, std::char_traits<char> >",
            "basic_iostream",
        ),
        _ => return None,
    })
}

#[derive(Debug, Default)]
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    lists: Vec<Id>,
}

impl<'a> Tree<'a> {
    pub(super) fn add(&mut self, node: Node<'a>) -> Id {
        self.nodes.push(node);
        (self.nodes.len() - 1) as Id
    }

    pub(super) fn add_list(&mut self, ids: &[Id]) -> List {
        let start = self.lists.len() as u32;
        self.lists.extend_from_slice(ids);
        List {
            start,
            len: ids.len() as u32,
        }
    }

    pub(super) fn get(&self, id: Id) -> Node<'a> {
        self.nodes[id as usize]
    }

    pub(super) fn len(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub(super) fn list(&self, list: List) -> &[Id] {
        &self.lists[list.start as usize..(list.start + list.len) as usize]
    }
}
