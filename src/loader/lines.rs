//! `.BTF.ext`: the functions, lines and CO-RE relocations of an object.
//!
//! Three tables, each a list of sections with fixed-size records that begin with
//! the offset of an instruction in that section. Function and line records go to
//! the kernel, rebased for the final program; relocations go to `relo.rs`. Records of
//! later compilers may be longer: the known fields are read, the rest is kept.
//! The format is `Documentation/bpf/btf.rst`, ".BTF.ext section".

use crate::base::bytes::{Cursor, ShortRead};
use crate::loader::btf::BtfError;

const MAGIC: u16 = 0xeb9f;
const MIN_HEADER: u32 = 24;
const MIN_FUNCTION: u32 = 8;
const MIN_LINE: u32 = 16;
const MIN_RELOCATION: u32 = 16;

/// The records of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionRecords {
    /// The section's name, as an offset into the object's BTF strings.
    pub section: u32,
    /// Records one after the other.
    pub bytes: Vec<u8>,
}

/// One of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub record_size: u32,
    pub sections: Vec<SectionRecords>,
}

impl Table {
    /// The records of the sections whose name, as an offset into the object's BTF strings, is
    /// accepted, each with the byte offset of its instruction.
    pub fn records(&self, accepted: impl Fn(u32) -> bool) -> impl Iterator<Item = (u32, &[u8])> {
        self.sections
            .iter()
            .filter(move |records| accepted(records.section))
            .flat_map(|records| records.bytes.chunks_exact(self.record_size.max(4) as usize))
            .map(|record| {
                let mut offset = [0; 4];
                offset.copy_from_slice(&record[..4]);
                (u32::from_le_bytes(offset), record)
            })
    }

    fn parse(bytes: &[u8], minimum: u32, field: &'static str) -> Result<Self, BtfError> {
        if bytes.is_empty() {
            return Ok(Table::default());
        }
        let mut cursor = Cursor::new(bytes);
        let record_size = cursor.u32()?;
        if record_size < minimum || record_size % 4 != 0 {
            return Err(BtfError::BadHeader {
                field,
                value: record_size,
            });
        }
        let mut sections = Vec::new();
        while cursor.left() > 0 {
            let section = cursor.u32()?;
            let count = cursor.u32()? as usize;
            let len = count
                .checked_mul(record_size as usize)
                .ok_or(BtfError::TooMany {
                    what: "records",
                    count: count as u64,
                })?;
            sections.push(SectionRecords {
                section,
                bytes: cursor.take(len)?.to_vec(),
            });
        }
        Ok(Table {
            record_size,
            sections,
        })
    }
}

/// A CO-RE relocation as it stands in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelocationRecord {
    /// Byte offset of the instruction in its section.
    pub offset: u32,
    pub type_id: u32,
    /// The access string, as an offset into the object's BTF strings.
    pub access: u32,
    pub kind: u32,
}

impl RelocationRecord {
    /// Decodes one record of the relocation table.
    pub fn parse(record: &[u8]) -> Result<Self, ShortRead> {
        let mut cursor = Cursor::new(record);
        Ok(RelocationRecord {
            offset: cursor.u32()?,
            type_id: cursor.u32()?,
            access: cursor.u32()?,
            kind: cursor.u32()?,
        })
    }
}

/// The three tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    pub functions: Table,
    pub lines: Table,
    pub relocations: Table,
}

impl Extension {
    /// Decodes a `.BTF.ext` section.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u16()?;
        if magic != MAGIC {
            return Err(BtfError::BadMagic { magic });
        }
        cursor.skip(2)?;
        let header_len = cursor.u32()?;
        if header_len < MIN_HEADER {
            return Err(BtfError::BadHeader {
                field: "hdr_len",
                value: header_len,
            });
        }
        let mut table = |minimum, field| {
            let offset = cursor.u32()?;
            let len = cursor.u32()? as usize;
            let start = header_len.checked_add(offset).ok_or(BtfError::BadHeader {
                field,
                value: offset,
            })?;
            let content = Cursor::at(bytes, start as usize).take(len)?;
            Table::parse(content, minimum, field)
        };
        let functions = table(MIN_FUNCTION, "func_info")?;
        let lines = table(MIN_LINE, "line_info")?;
        // The first version of the header ends here.
        let relocations = if header_len >= MIN_HEADER + 8 {
            table(MIN_RELOCATION, "core_relo")?
        } else {
            Table::default()
        };
        Ok(Extension {
            functions,
            lines,
            relocations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Extension, Table};
    use crate::loader::btf::BtfError;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_table_is_a_list_of_sections_with_records() {
        let bytes = words(&[8, 7, 2, 0, 100, 16, 101, 9, 1, 8, 102]);
        let table = Table::parse(&bytes, 8, "func_info").unwrap();
        let offsets: Vec<u32> = table
            .records(|name| name == 7)
            .map(|(offset, _)| offset)
            .collect();
        assert_eq!(offsets, [0, 16]);
        assert_eq!(table.records(|name| name == 9).count(), 1);
        assert_eq!(table.records(|name| name == 8).count(), 0);
    }

    #[test]
    fn counts_are_believed_only_with_their_bytes() {
        let bytes = words(&[8, 7, u32::MAX, 0]);
        assert!(Table::parse(&bytes, 8, "func_info").is_err());
        assert!(matches!(
            Table::parse(&words(&[6]), 8, "func_info"),
            Err(BtfError::BadHeader { value: 6, .. })
        ));
        assert!(Extension::parse(&words(&[0x0001_eb9f, 24, u32::MAX, 1])).is_err());
    }
}
