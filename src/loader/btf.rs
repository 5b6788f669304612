//! Decodes types from BTF bytes, for the object and for the kernel.
//!
//! A type is decoded whole from its twelve-byte head and the tail that its kind
//! demands; names stay offsets into the string section, because the kernel's
//! strings are never in memory. [`Btf`] is a small BTF held whole: the object's.
//! The kernel's is `target.rs`. Both answer [`Types`], which is all that the
//! relocation engine asks for.
//!
//! Whatever the bytes say, nothing here panics, recurses without bound or
//! allocates more than a small multiple of what was read. The format is
//! `Documentation/bpf/btf.rst`.

use std::fmt;
use std::sync::Arc;

use crate::base::bytes::{string_at, Cursor, ShortRead};

mod kind;

pub use kind::Kind;

const MAGIC: u16 = 0xeb9f;
/// Bytes of the header in its first version; later ones are longer.
pub const HEADER_LEN: usize = 24;
/// Bytes of a type before its tail.
pub const HEAD_LEN: usize = 12;
/// How many modifiers, typedefs or array dimensions are followed.
const MAX_DEPTH: u32 = 32;
/// More types than any kernel has.
pub const MAX_TYPES: u32 = 4 << 20;

/// Why BTF could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// There is no BTF header at the beginning.
    BadMagic { magic: u16 },
    /// A header field points outside.
    BadHeader { field: &'static str, value: u32 },
    /// The bytes end within something.
    Short(ShortRead),
    /// A kind that this tool does not know, so that the types after it cannot be found.
    UnknownKind { id: u32, kind: u32 },
    /// There is no type with this number.
    NoType { id: u32 },
    /// There is no string at this offset.
    NoString { offset: u32 },
    /// Types refer to each other in a circle, or nearly so.
    TooDeep { id: u32 },
    /// A type without a size was asked for one.
    NoSize { id: u32, kind: Kind },
    /// More of something than is believable.
    TooMany { what: &'static str, count: u64 },
    /// The source could not be read.
    Unreadable { offset: u64, errno: i32 },
}

impl From<ShortRead> for BtfError {
    fn from(short: ShortRead) -> Self {
        BtfError::Short(short)
    }
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BtfError::BadMagic { magic } => write!(f, "no BTF: magic {magic:#06x}"),
            BtfError::BadHeader { field, value } => {
                write!(f, "BTF header: {field} of {value:#x} leads outside")
            }
            BtfError::Short(short) => write!(f, "BTF: {short}"),
            BtfError::UnknownKind { id, kind } => write!(f, "BTF: type {id} is of kind {kind}"),
            BtfError::NoType { id } => write!(f, "BTF: no type {id}"),
            BtfError::NoString { offset } => write!(f, "BTF: no string at {offset:#x}"),
            BtfError::TooDeep { id } => write!(f, "BTF: type {id} is nested too deep"),
            BtfError::NoSize { id, kind } => {
                write!(f, "BTF: type {id}, a {}, has no size", kind.name())
            }
            BtfError::TooMany { what, count } => write!(f, "BTF: {count} {what}"),
            BtfError::Unreadable { offset, errno } => write!(
                f,
                "BTF at offset {offset:#x}: {}",
                std::io::Error::from_raw_os_error(errno)
            ),
        }
    }
}

impl std::error::Error for BtfError {}

/// The ranges of the two sections, counted from the first byte of the BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub types_offset: u32,
    pub types_len: u32,
    pub strings_offset: u32,
    pub strings_len: u32,
}

impl Header {
    /// Decodes the header of a BTF that is `total` bytes long.
    pub fn parse(bytes: &[u8], total: u64) -> Result<Self, BtfError> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u16()?;
        if magic != MAGIC {
            return Err(BtfError::BadMagic { magic });
        }
        cursor.skip(2)?;
        let header_len = cursor.u32()?;
        if (header_len as usize) < HEADER_LEN || u64::from(header_len) > total {
            return Err(BtfError::BadHeader {
                field: "hdr_len",
                value: header_len,
            });
        }
        let mut section = |field, len_field| {
            let offset = cursor.u32()?;
            let len = cursor.u32()?;
            let start = header_len
                .checked_add(offset)
                .filter(|start| u64::from(*start) <= total)
                .ok_or(BtfError::BadHeader {
                    field,
                    value: offset,
                })?;
            if u64::from(start) + u64::from(len) > total {
                return Err(BtfError::BadHeader {
                    field: len_field,
                    value: len,
                });
            }
            Ok((start, len))
        };
        let (types_offset, types_len) = section("type_off", "type_len")?;
        let (strings_offset, strings_len) = section("str_off", "str_len")?;
        Ok(Header {
            types_offset,
            types_len,
            strings_offset,
            strings_len,
        })
    }
}

/// The first twelve bytes of a type.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub name: u32,
    pub kind: Kind,
    pub count: u32,
    pub flag: bool,
    pub size_or_type: u32,
}

impl Head {
    /// Decodes the head of type `id`.
    pub fn parse(cursor: &mut Cursor<'_>, id: u32) -> Result<Self, BtfError> {
        Head::from_bytes(&cursor.array()?, id)
    }

    /// The same from the bytes of just the head: a kernel has a hundred thousand of them.
    #[inline]
    pub fn from_bytes(bytes: &[u8; HEAD_LEN], id: u32) -> Result<Self, BtfError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (name, info, size_or_type) = (word(0), word(4), word(8));
        let number = info >> 24 & 0x1f;
        let kind = Kind::from_number(number)
            .filter(|kind| *kind != Kind::Void)
            .ok_or(BtfError::UnknownKind { id, kind: number })?;
        Ok(Head {
            name,
            kind,
            count: info & 0xffff,
            flag: info >> 31 != 0,
            size_or_type,
        })
    }

    /// Bytes from one type to the next.
    #[must_use]
    #[inline]
    pub fn type_len(&self) -> u32 {
        HEAD_LEN as u32 + self.kind.tail_len(self.count)
    }
}

/// A field of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: u32,
    pub type_id: u32,
    pub bit_offset: u32,
    /// Zero for a field that is not a bit field.
    pub bit_size: u32,
}

/// A named value of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator {
    pub name: u32,
    /// Sign-extended from 32 bits only where the enum is signed.
    pub value: u64,
}

/// A variable's place in a data section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionVariable {
    pub type_id: u32,
    pub offset: u32,
    pub size: u32,
}

/// The part of a type after its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    None,
    Int {
        encoding: u8,
        offset: u8,
    },
    Array {
        element: u32,
        count: u32,
    },
    Members(Vec<Member>),
    Enumerators(Vec<Enumerator>),
    /// Types of the parameters.
    Parameters(Vec<u32>),
    Variable {
        linkage: u32,
    },
    Section(Vec<SectionVariable>),
}

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub name: u32,
    pub kind: Kind,
    pub flag: bool,
    /// Linkage for functions, otherwise the number of members.
    pub count: u32,
    pub size_or_type: u32,
    pub tail: Tail,
}

impl Type {
    /// The type with number 0.
    #[must_use]
    pub fn void() -> Self {
        Type {
            name: 0,
            kind: Kind::Void,
            flag: false,
            count: 0,
            size_or_type: 0,
            tail: Tail::None,
        }
    }

    /// Decodes type `id`.
    pub fn parse(cursor: &mut Cursor<'_>, id: u32) -> Result<Self, BtfError> {
        let head = Head::parse(cursor, id)?;
        // The tail is taken first, so that a count is used only after a check that its bytes are there.
        let mut tail = Cursor::new(cursor.take(head.kind.tail_len(head.count) as usize)?);
        Ok(Type {
            name: head.name,
            kind: head.kind,
            flag: head.flag,
            count: head.count,
            size_or_type: head.size_or_type,
            tail: parse_tail(&head, &mut tail)?,
        })
    }

    /// The fields of a struct or union, nothing for other kinds.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        match &self.tail {
            Tail::Members(members) => members,
            _ => &[],
        }
    }

    /// The values of an enum, nothing for other kinds.
    #[must_use]
    pub fn enumerators(&self) -> &[Enumerator] {
        match &self.tail {
            Tail::Enumerators(enumerators) => enumerators,
            _ => &[],
        }
    }
}

fn parse_tail(head: &Head, tail: &mut Cursor<'_>) -> Result<Tail, BtfError> {
    let count = 0..head.count;
    Ok(match head.kind {
        Kind::Int => {
            let word = tail.u32()?;
            Tail::Int {
                encoding: (word >> 24 & 0x0f) as u8,
                offset: (word >> 16 & 0xff) as u8,
            }
        }
        Kind::Array => {
            let element = tail.u32()?;
            tail.skip(4)?;
            Tail::Array {
                element,
                count: tail.u32()?,
            }
        }
        Kind::Struct | Kind::Union => Tail::Members(
            count
                .map(|_| parse_member(head.flag, tail))
                .collect::<Result<_, _>>()?,
        ),
        Kind::Enum | Kind::Enum64 => Tail::Enumerators(
            count
                .map(|_| parse_enumerator(head, tail))
                .collect::<Result<_, _>>()?,
        ),
        Kind::FuncProto => Tail::Parameters(
            count
                .map(|_| {
                    tail.skip(4)?;
                    tail.u32()
                })
                .collect::<Result<_, _>>()?,
        ),
        Kind::Var => Tail::Variable {
            linkage: tail.u32()?,
        },
        Kind::Datasec => Tail::Section(
            count
                .map(|_| {
                    Ok::<_, ShortRead>(SectionVariable {
                        type_id: tail.u32()?,
                        offset: tail.u32()?,
                        size: tail.u32()?,
                    })
                })
                .collect::<Result<_, _>>()?,
        ),
        Kind::Void
        | Kind::Ptr
        | Kind::Fwd
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::Func
        | Kind::Float
        | Kind::DeclTag
        | Kind::TypeTag => Tail::None,
    })
}

fn parse_member(flag: bool, tail: &mut Cursor<'_>) -> Result<Member, ShortRead> {
    let name = tail.u32()?;
    let type_id = tail.u32()?;
    let place = tail.u32()?;
    // With the kind flag, the top byte of the place is the bit field's size.
    let (bit_offset, bit_size) = if flag {
        (place & 0x00ff_ffff, place >> 24)
    } else {
        (place, 0)
    };
    Ok(Member {
        name,
        type_id,
        bit_offset,
        bit_size,
    })
}

fn parse_enumerator(head: &Head, tail: &mut Cursor<'_>) -> Result<Enumerator, ShortRead> {
    let name = tail.u32()?;
    let low = tail.u32()?;
    let value = if head.kind == Kind::Enum64 {
        u64::from(low) | u64::from(tail.u32()?) << 32
    } else if head.flag {
        i64::from(low.cast_signed()).cast_unsigned()
    } else {
        u64::from(low)
    };
    Ok(Enumerator { name, value })
}

/// Types that can be asked for by number.
pub trait Types {
    /// The type with this number.
    fn get(&self, id: u32) -> Result<Arc<Type>, BtfError>;

    /// The first type from `id` on that is neither a modifier nor a typedef, and its number.
    fn resolve(&self, id: u32) -> Result<(u32, Arc<Type>), BtfError> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let found = self.get(at)?;
            match found.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    at = found.size_or_type
                }
                _ => return Ok((at, found)),
            }
        }
        Err(BtfError::TooDeep { id })
    }

    /// How many bytes a value of this type takes.
    fn size_of(&self, id: u32) -> Result<u32, BtfError> {
        let mut count = 1u32;
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let (here, found) = self.resolve(at)?;
            let size = match (found.kind, &found.tail) {
                (
                    Kind::Int
                    | Kind::Struct
                    | Kind::Union
                    | Kind::Enum
                    | Kind::Enum64
                    | Kind::Float
                    | Kind::Datasec,
                    _,
                ) => found.size_or_type,
                // Both architectures and BPF itself have 64-bit pointers.
                (Kind::Ptr, _) => 8,
                (
                    Kind::Array,
                    Tail::Array {
                        element,
                        count: more,
                    },
                ) => {
                    count = count.checked_mul(*more).ok_or(BtfError::TooDeep { id })?;
                    at = *element;
                    continue;
                }
                (Kind::Var, _) => {
                    at = found.size_or_type;
                    continue;
                }
                (kind, _) => return Err(BtfError::NoSize { id: here, kind }),
            };
            return size.checked_mul(count).ok_or(BtfError::TooDeep { id });
        }
        Err(BtfError::TooDeep { id })
    }
}

/// A name without its flavour: the part before the last `___`.
///
/// `task_struct___old` and `task_struct` have the same essential name. A name
/// that begins with the underscores has no flavour.
#[must_use]
pub fn essential_name(name: &[u8]) -> &[u8] {
    let last = name
        .windows(5)
        .rposition(|five| five[0] != b'_' && &five[1..4] == b"___" && five[4] != b'_');
    match last {
        Some(before) => &name[..=before],
        None => name,
    }
}

/// A BTF held whole in memory.
#[derive(Clone, Debug)]
pub struct Btf {
    header: Header,
    bytes: Vec<u8>,
    types: Vec<Arc<Type>>,
    /// Where each type begins, counted from the first byte.
    places: Vec<u32>,
}

impl Btf {
    /// Decodes all types.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let header = Header::parse(bytes, bytes.len() as u64)?;
        let end = header.types_offset as usize + header.types_len as usize;
        let within = bytes.get(..end).unwrap_or(bytes);
        let mut cursor = Cursor::at(within, header.types_offset as usize);
        let mut types = vec![Arc::new(Type::void())];
        let mut places = vec![0];
        while cursor.left() > 0 {
            let id = u32::try_from(types.len()).unwrap_or(u32::MAX);
            if id >= MAX_TYPES {
                return Err(BtfError::TooMany {
                    what: "types",
                    count: u64::from(id),
                });
            }
            // The header's offsets have 32 bits and the cursor stays within them.
            places.push(cursor.offset() as u32);
            types.push(Arc::new(Type::parse(&mut cursor, id)?));
        }
        Ok(Btf {
            header,
            bytes: bytes.to_vec(),
            types,
            places,
        })
    }

    /// The whole encoding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The types with their numbers, without void.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Type)> {
        (0..).zip(self.types.iter().map(Arc::as_ref)).skip(1)
    }

    /// Where type `id` begins in [`Btf::bytes`].
    #[must_use]
    pub fn place(&self, id: u32) -> Option<usize> {
        self.places.get(id as usize).map(|place| *place as usize)
    }

    /// The string at `offset` of the string section.
    pub fn string(&self, offset: u32) -> Result<&[u8], BtfError> {
        let start = self.header.strings_offset as usize;
        let end = start + self.header.strings_len as usize;
        self.bytes
            .get(start..end)
            .and_then(|strings| string_at(strings, offset as usize))
            .ok_or(BtfError::NoString { offset })
    }

    /// The string at `offset`, for messages.
    #[must_use]
    pub fn text(&self, offset: u32) -> String {
        match self.string(offset) {
            Ok(name) => String::from_utf8_lossy(name).into_owned(),
            Err(_) => "<?>".to_owned(),
        }
    }
}

impl Types for Btf {
    fn get(&self, id: u32) -> Result<Arc<Type>, BtfError> {
        self.types
            .get(id as usize)
            .cloned()
            .ok_or(BtfError::NoType { id })
    }
}
