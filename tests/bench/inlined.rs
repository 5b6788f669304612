// A program with many inlined calls, as rustc makes them.
use std::collections::{BTreeMap, HashMap};

fn words(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9) >> 12)).collect()
}

fn tree(words: &[String]) -> BTreeMap<&str, Vec<usize>> {
    let mut tree: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        tree.entry(&word[..word.len().min(2)]).or_default().push(at);
    }
    tree
}

fn letters(words: &[String]) -> HashMap<char, usize> {
    let mut counts = HashMap::new();
    for letter in words.iter().flat_map(|word| word.chars()).filter(char::is_ascii_alphanumeric) {
        *counts.entry(letter).or_insert(0) += 1;
    }
    counts
}

fn main() {
    let mut words = words(std::env::args().count() as u32 * 500);
    words.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    let sum: usize = tree(&words).values().flatten().copied().filter(|at| at % 3 == 0).sum();
    let mut counts: Vec<_> = letters(&words).into_iter().collect();
    counts.sort_unstable_by_key(|(letter, count)| (std::cmp::Reverse(*count), *letter));
    println!("{sum} {counts:?} {}", words.concat().len());
}
