use super::*;

use crate::measure::facts::{self, Known, Seen};
use crate::measure::pieces::{Piece, PIECE};

/// Memory in which each piece is noise or missing; always the same for the same seed.
struct Noise(u64);

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 29
}

impl Memory for Noise {
    fn read(&mut self, addresses: &[u64]) -> Vec<Piece> {
        let piece = |address: u64| {
            let mut bytes = [0; PIECE];
            for (at, word) in (address..).step_by(8).zip(bytes.chunks_exact_mut(8)) {
                let noise = mix(at ^ self.0);
                let value = match noise % 8 {
                    0 => 0,
                    1..=3 => 0xffff_8880_0000_0000 | noise >> 8 & 0xffff_fff8,
                    4 => 0xffff_8880_0000_001e | noise >> 8 & 0xffff_ff00,
                    5 => noise >> 8 & 7,
                    6 => u64::MAX - (noise & 0xffff),
                    _ => noise,
                };
                word.copy_from_slice(&value.to_le_bytes());
            }
            let is_there = !mix(!address ^ self.0).is_multiple_of(9);
            is_there.then(|| Box::new(bytes))
        };
        addresses.iter().map(|address| piece(*address)).collect()
    }
}

const SP: u64 = 0x7f00_1234_0000;

fn child(number: u32) -> Child {
    let name = facts::thread_name(b"abcdefgh", number);
    let known = Known::of_name(&name);
    let mut top = vec![0; 4096];
    let (first, sp, bytes) = match cfg!(target_arch = "aarch64") {
        true => (19 * 8, 31 * 8, 336),
        false => (0, 19 * 8, 168),
    };
    let start = top.len() - bytes;
    let registers = known.registers();
    top[start + first..][..registers.len()].copy_from_slice(&registers);
    top[start + sp..][..8].copy_from_slice(&SP.to_le_bytes());
    let mut facts = Facts::default();
    facts.set_name(Fact::Name, &name);
    for (fact, value) in [
        (Fact::Sp, SP),
        (Fact::FaultAddress, known.fault_address()),
        (Fact::Ids, 7 << 32 | u64::from(7 + number)),
        (Fact::LeaderIds, 7 << 32 | 7),
        (Fact::StackTop, 0xffff_c900_0000_4000),
        (Fact::MountNamespace, 0xf000_0000),
        (Fact::StartCode, 1 << 20),
        (Fact::FirstStart, 1 << 20),
    ] {
        facts.set(fact, value);
    }
    Child {
        task: 0xffff_8880_0001_0000 + u64::from(number) * 0x8000,
        top,
        seen: Seen {
            known,
            name,
            pid: 7,
            facts,
            lines: Vec::new(),
            executable: Vec::new(),
        },
    }
}

fn tool() -> Tool {
    Tool {
        task: 0xffff_8880_0002_0000,
        pid_namespace: 5,
        ancestors: vec![0; 8],
        page_bytes: 4096,
    }
}

#[test]
fn noise_is_taken_for_nothing() {
    let children = [child(0), child(1)];
    let tool = tool();
    for seed in 0..20 {
        let mut noise = Noise(seed);
        let answer = search(&mut noise, &children, &tool);
        assert_eq!(answer.err(), Some(SearchError::NoTrap));
        // As if the trap had been found.
        let mut search = Search {
            pieces: Pieces::new(&mut noise),
            tool: &tool,
            layout: Layout::default(),
            limit: 4096,
        };
        let tasks = children.each_ref().map(|child| Subject {
            at: child.task,
            facts: child.seen.facts.clone(),
        });
        assert_eq!(search.task(&tasks), Err(SearchError::NoTrap));
        search.memory(&tasks, &children);
        for field in [
            Field::Comm,
            Field::RealParent,
            Field::GroupLeader,
            Field::ThreadPid,
            Field::NsProxy,
            Field::Mm,
            Field::Mmap,
            Field::VmFile,
        ] {
            assert_eq!(search.layout.place(field), None, "{field:?}");
        }
        let lost = search.layout.lost();
        assert!(
            lost.contains(&"mappings") && lost.contains(&"exe"),
            "{lost:?}"
        );
    }
}

#[test]
fn registers_stand_at_one_place() {
    let mut children = [child(0), child(1)];
    let expected = if cfg!(target_arch = "aarch64") {
        336
    } else {
        168
    };
    assert_eq!(stack::registers(&children), Some(expected));
    // Once more elsewhere.
    let registers = children[0].seen.known.registers();
    children[0].top[8..8 + registers.len()].copy_from_slice(&registers);
    assert_eq!(stack::registers(&children), None);
    children[0] = child(0);
    // Elsewhere than the other's.
    children[1].top.drain(..8);
    children[1].top.extend_from_slice(&[0; 8]);
    assert_eq!(stack::registers(&children), None);
    children[1].top.truncate(100);
    let answer = search(&mut Noise(1), &children, &tool());
    assert_eq!(answer.err(), Some(SearchError::NoRegisters));
}

/// A structure of 1024 bytes in which a word stands wherever a test wants it.
struct Words<'a>(u64, &'a [(u64, u64)]);

impl Memory for Words<'_> {
    fn read(&mut self, addresses: &[u64]) -> Vec<Piece> {
        let word = |at: u64| {
            let found = self.1.iter().find(|(place, _)| self.0 + place == at);
            found.map_or(0, |(_, value)| *value)
        };
        let piece = |start: u64| {
            let mut bytes = [0; PIECE];
            for (at, bytes) in (start..).step_by(8).zip(bytes.chunks_exact_mut(8)) {
                bytes.copy_from_slice(&word(at).to_le_bytes());
            }
            let is_there = (self.0..self.0 + 1024).contains(&start);
            is_there.then(|| Box::new(bytes))
        };
        addresses.iter().map(|address| piece(*address)).collect()
    }
}

const START: u64 = 0xffff_8880_0000_0000;
const WANTED: u64 = 0x1234_5678_9abc;

/// Where a rule about two subjects finds its field; the second subject sees the same memory.
fn found(words: &[(u64, u64)], rule: &Rule) -> Option<i32> {
    let mut memory = Words(START, words);
    let tool = tool();
    let mut search = Search {
        pieces: Pieces::new(&mut memory),
        tool: &tool,
        layout: Layout::default(),
        limit: 512,
    };
    let mut facts = Facts::default();
    facts.set(Fact::Inode, WANTED);
    let subject = Subject { at: START, facts };
    search.find(&[subject.clone(), subject], rule);
    search.layout.place(Field::INumber)
}

#[test]
fn one_place_is_certain_and_two_are_not() {
    const ALONE: Rule = Rule {
        place: Place::Within(0, 512, 8),
        words: &[same(Fact::Inode)],
        fields: &[(0, Field::INumber, 0)],
        ..RULE
    };
    const APART: Rule = Rule {
        apart: 128,
        ..ALONE
    };
    assert_eq!(found(&[(24, WANTED)], &ALONE), Some(24));
    assert_eq!(found(&[(24, WANTED), (152, WANTED)], &ALONE), None);
    assert_eq!(found(&[(24, WANTED), (152, WANTED)], &APART), Some(24));
    assert_eq!(found(&[(24, WANTED), (144, WANTED)], &APART), None);
    assert_eq!(found(&[(24, WANTED + 1)], &ALONE), None);
    assert_eq!(found(&[(512, WANTED)], &ALONE), None);
}

#[test]
fn behind_pointers_the_nearest_counts() {
    const BEHIND: Rule = Rule {
        path: &[Place::Within(0, 64, 8)],
        place: Place::Within(0, 256, 8),
        words: &[same(Fact::Inode)],
        nearest: true,
        fields: &[(1, Field::INumber, 0)],
        ..RULE
    };
    let at = |place: u64| START + place;
    assert_eq!(found(&[(8, at(256)), (280, WANTED)], &BEHIND), Some(24));
    // A pointer to the structure before it sees the word, too.
    let neighbour = [(0, at(128)), (8, at(256)), (280, WANTED)];
    assert_eq!(found(&neighbour, &BEHIND), Some(24));
    let neighbour = [(0, at(256)), (8, at(128)), (280, WANTED)];
    assert_eq!(found(&neighbour, &BEHIND), Some(24));
    // Two that lead to the same place cannot be distinguished.
    let both = [(0, at(256)), (8, at(256)), (280, WANTED)];
    assert_eq!(found(&both, &BEHIND), None);
    const PAIRED: Rule = Rule {
        paired: true,
        ..BEHIND
    };
    assert_eq!(found(&both, &PAIRED), Some(24));
    assert_eq!(found(&both[1..], &PAIRED), None);
    // The last searched offset need not be in the structure that the pointer itself leads to.
    const TWICE: Rule = Rule {
        path: &[Place::Within(0, 64, 8), Place::Within(0, 256, 8)],
        place: Place::At(0),
        words: &[same(Fact::Inode)],
        nearest: true,
        fields: &[(1, Field::INumber, 0)],
        ..RULE
    };
    let name = [(8, at(256)), (296, at(512)), (512, WANTED)];
    assert_eq!(found(&name, &TWICE), Some(40));
    let [right, pointer, text] = name;
    let neighbours = [right, pointer, text, (16, at(160)), (24, at(160))];
    assert_eq!(found(&neighbours, &TWICE), Some(40));
    assert_eq!(found(&[right, pointer, text, (16, at(256))], &TWICE), None);
}
