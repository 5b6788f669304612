//! Structs that the BPF programs and the tool share, each defined once for Rust.
//!
//! From a list of fields `record!` makes a struct, the functions that read it from bytes
//! and write it to them, and the table of fields that `tests/abi.rs` compares with the
//! type information in the compiled objects. Values go through the cursor, never through
//! a pointer cast.

use crate::base::bytes::{Cursor, ShortRead};

/// A fixed-size value, as C lays it out if nothing must be padded.
pub trait Field: Sized {
    const SIZE: usize;
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ShortRead>;
    fn write(&self, bytes: &mut Vec<u8>);
}

macro_rules! integer_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const SIZE: usize = size_of::<$type>();
            fn read(cursor: &mut Cursor<'_>) -> Result<Self, ShortRead> {
                cursor.array().map(<$type>::from_ne_bytes)
            }
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
integer_field!(u8, u16, i16, u32, i32, u64, i64);

impl<T: Field + Copy + Default, const N: usize> Field for [T; N] {
    const SIZE: usize = T::SIZE * N;
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ShortRead> {
        let mut array = [T::default(); N];
        for element in &mut array {
            *element = T::read(cursor)?;
        }
        Ok(array)
    }
    fn write(&self, bytes: &mut Vec<u8>) {
        self.iter().for_each(|element| element.write(bytes));
    }
}

/// A field of a struct: its name, offset and size.
pub type FieldLayout = (&'static str, usize, usize);

/// Defines a struct, how it is read, and the table that the test compares.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl $crate::base::structs::Field for $name {
            const SIZE: usize = 0 $(+ <$type as $crate::base::structs::Field>::SIZE)*;
            fn read(cursor: &mut $crate::base::bytes::Cursor<'_>) -> Result<Self, $crate::base::bytes::ShortRead> {
                Ok($name { $($field: $crate::base::structs::Field::read(cursor)?,)* })
            }
            fn write(&self, bytes: &mut Vec<u8>) {
                $($crate::base::structs::Field::write(&self.$field, bytes);)*
            }
        }

        impl $name {
            /// Name, offset and size of each field.
            #[must_use]
            pub fn fields() -> Vec<$crate::base::structs::FieldLayout> {
                let mut offset = 0;
                let mut fields = Vec::new();
                $(
                    fields.push((stringify!($field), offset, <$type as $crate::base::structs::Field>::SIZE));
                    offset += <$type as $crate::base::structs::Field>::SIZE;
                )*
                let _ = offset;
                fields
            }
        }
    };
}
pub(crate) use record;

/// A record as bytes.
pub fn bytes_of(record: &impl Field) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    bytes
}
