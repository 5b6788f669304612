//! What was compared, and what differed.

use std::collections::BTreeMap;

use super::outcome::Outcome;

#[derive(Default)]
pub struct Tally {
    pub instructions: u64,
    pub operands: u64,
    /// Instructions that we do not know, by mnemonic, with an example.
    pub refused: BTreeMap<String, (u64, String)>,
    pub mismatches: u64,
    examples: BTreeMap<String, (u64, String)>,
}

impl Tally {
    /// An instruction and what came of it; of each kind of trouble one example
    /// is kept.
    pub fn count(&mut self, outcome: Outcome, example: impl FnOnce() -> String) {
        let (kinds, key) = match outcome {
            Outcome::Nothing => return,
            Outcome::Same(operands) => {
                self.instructions += 1;
                self.operands += operands;
                return;
            }
            Outcome::Refused(key) => (&mut self.refused, key),
            Outcome::Differs(operands, key) => {
                self.operands += operands;
                self.mismatches += 1;
                (&mut self.examples, key)
            }
        };
        self.instructions += 1;
        kinds.entry(key).or_insert_with(|| (0, example())).0 += 1;
    }

    pub fn add(&mut self, other: Tally) {
        self.instructions += other.instructions;
        self.operands += other.operands;
        self.mismatches += other.mismatches;
        for (key, (count, example)) in other.examples {
            self.examples.entry(key).or_insert((0, example)).0 += count;
        }
        for (key, (count, example)) in other.refused {
            self.refused.entry(key).or_insert((0, example)).0 += count;
        }
    }

    pub fn print(&self, name: &str) {
        println!(
            "{name}: {} instructions, {} operands in memory, {} mismatches, {} not known",
            self.instructions,
            self.operands,
            self.mismatches,
            self.refused.values().map(|(count, _)| count).sum::<u64>(),
        );
    }

    /// Prints what there is, and fails if anything differed.
    #[track_caller]
    pub fn settle(&self, name: &str) {
        self.print(name);
        for (mnemonic, (count, example)) in &self.refused {
            println!("  not known {count} times: {mnemonic}: {example}");
        }
        for (key, (count, example)) in &self.examples {
            println!("  mismatch {count} times: {key}: {example}");
        }
        assert!(self.mismatches == 0, "{name}: mismatches");
        assert!(self.refused.is_empty(), "{name}: instructions not known");
        assert!(self.operands > 0, "{name}: nothing was compared");
    }
}
