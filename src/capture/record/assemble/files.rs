//! Finds the mappings of the same file if the capture program sent its name only once.

use crate::crash::event::{Event, Lost, MappedFile};

/// The number that mappings of one file have, in the flags of the one with its name.
const NUMBER_SHIFT: u32 = 8;
/// Numbers are below, the kernel's addresses above.
const NUMBERS: u64 = 1 << 24;
/// The memory for names that mappings of one event share with another mapping: a thousand
/// mappings may be of a file whose name has 4 KB.
const MOST_BYTES: usize = 1 << 20;

/// Numbers of an event's mappings, by their places.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    named: Vec<(u64, usize)>,
    unnamed: Vec<(u64, usize)>,
}

impl Numbers {
    /// What one takes in memory.
    pub(super) const BYTES: usize = size_of::<(u64, usize)>();

    /// A mapping that has its file's name, by its flags.
    pub(super) fn named(&mut self, flags: u32, place: usize) {
        let number = flags >> NUMBER_SHIFT;
        if number != 0 {
            self.named.push((number.into(), place));
        }
    }

    /// One that has not, by what stands for its file.
    pub(super) fn unnamed(&mut self, file: u64, place: usize) {
        if (1..NUMBERS).contains(&file) {
            self.unnamed.push((file, place));
        }
    }

    /// Gives every mapping its file's name.
    pub(super) fn share(mut self, event: &mut Event) {
        self.named.sort_unstable();
        let mut room = MOST_BYTES;
        for (number, place) in self.unnamed {
            let found = self
                .named
                .binary_search_by_key(&number, |(number, _)| *number);
            let from = found.ok().and_then(|at| {
                let (_, named) = self.named[at];
                event.mappings.get(named)?.file.clone()
            });
            let Some(from) = from else {
                continue;
            };
            let bytes = from.path.len() + from.lower_path.as_ref().map_or(0, Vec::len);
            let Some(rest) = room.checked_sub(bytes) else {
                event.lost.push(Lost {
                    detail: "mappings",
                    reason: "no room for the names of all files",
                });
                return;
            };
            room = rest;
            let Some(file) = event
                .mappings
                .get_mut(place)
                .and_then(|it| it.file.as_mut())
            else {
                continue;
            };
            *file = MappedFile {
                offset: file.offset,
                ..from
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::{FileOffset, ProcessAddress};
    use crate::crash::event::{Event, Mapping, VmFlags};

    fn mapping(start: u64, path: &[u8]) -> Mapping {
        Mapping {
            start: ProcessAddress(start),
            end: ProcessAddress(start + 0x1000),
            flags: VmFlags(1),
            file: Some(MappedFile {
                head: None,
                identity: Default::default(),
                offset: FileOffset(start),
                path: path.to_vec(),
                lower_path: None,
                deleted: false,
                detached: false,
                truncated: false,
            }),
        }
    }

    fn paths(event: &Event) -> Vec<Vec<u8>> {
        let file = |mapping: &Mapping| mapping.file.as_ref().map(|file| file.path.clone());
        event.mappings.iter().filter_map(file).collect()
    }

    #[test]
    fn a_name_goes_to_all_that_have_its_number() {
        let mut event = Event {
            mappings: vec![
                mapping(0x1000, b""),
                mapping(0x2000, b""),
                mapping(0x3000, b""),
                mapping(0x4000, b"/lib/b"),
                mapping(0x5000, b"/lib/a"),
            ],
            ..crate::capture::record::assemble::tests::nothing()
        };
        let mut numbers = Numbers::default();
        numbers.unnamed(1, 0);
        numbers.unnamed(7, 1);
        // An address of the kernel's, none, and a place that is not there.
        numbers.unnamed(0xffff_8880_0000_1000, 2);
        numbers.unnamed(0, 2);
        numbers.unnamed(1, 99);
        numbers.named(2 << 8 | 0x1f, 3);
        numbers.named(1 << 8 | 0x1f, 4);
        numbers.named(0x1f, 4);
        numbers.share(&mut event);
        assert_eq!(
            paths(&event),
            [&b"/lib/a"[..], b"", b"", b"/lib/b", b"/lib/a"]
        );
        let file = event.mappings[0].file.as_ref().unwrap();
        assert_eq!(file.offset, FileOffset(0x1000));
        assert!(event.lost.is_empty());
    }

    #[test]
    fn names_have_a_limit() {
        let long = vec![b'x'; 4096];
        let mut event = Event {
            mappings: vec![mapping(0x1000, &long)],
            ..crate::capture::record::assemble::tests::nothing()
        };
        let mut numbers = Numbers::default();
        numbers.named(1 << 8, 0);
        for place in 1..1000 {
            event.mappings.push(mapping(0x1000 * (place + 1), b""));
            numbers.unnamed(1, place as usize);
        }
        numbers.share(&mut event);
        let named = paths(&event).iter().filter(|path| !path.is_empty()).count();
        assert_eq!(named, 257);
        assert_eq!(event.lost.len(), 1);
    }
}
