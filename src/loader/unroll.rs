//! Unrolls loops, for kernels that refuse them (before 5.3).
//!
//! If the compiler unrolled it, a program for such a kernel would have 32 KB; as a loop
//! it has a few hundred bytes. So the object keeps the loop, and a marker shows where a
//! round ends. Here each round becomes a copy:
//!
//! ```text
//! head: body                      body, body, ... body
//!       marker n, out     --->    (nothing between them)
//!       goto head                 goto out
//! ```
//!
//! The marker is `if r10 == n goto out`, which no compiler emits by itself: n is
//! the number of rounds, or 0 for as many as the limit allows.
//!
//! Compilers order blocks freely, so a jump backward does not prove a loop, and the order
//! in the file says little. So the program is walked with a count of the rounds for each
//! marker: an instruction that is reached with different counts gets one copy for each.
//! A count is dropped when its marker cannot be reached any more without another loop.
//! The instructions that the walk has reached are put in an order in which every jump
//! leads forward; the others are left out, as kernels before 5.0 demand. Fix-ups are already
//! in the instructions; descriptors come later.

use std::fmt;

use crate::loader::insn::Instruction;

/// Instructions that a program may have before 5.2 (`BPF_MAXINSNS`).
pub const OLD_LIMIT: usize = 4096;

/// Loops in one program, each with a byte in [`State::rounds`].
const MAX_LOOPS: usize = 8;

const CLASS: u8 = 0x07;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const JA: u8 = 0x05;
const JEQ_IMMEDIATE: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const FRAME_POINTER: u8 = 10;

/// Why a program cannot be written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnrollError {
    /// A jump leads out of the program, or further than a jump can.
    Jump { at: usize },
    /// A loop has no marker, or a way round that does not pass it.
    Unmarked { at: usize },
    /// More instructions than the limit.
    TooLong { count: usize },
}

impl fmt::Display for UnrollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            UnrollError::Jump { at } => write!(f, "instruction {at} jumps too far"),
            UnrollError::Unmarked { at } => {
                write!(f, "instruction {at} is in a loop without a mark")
            }
            UnrollError::TooLong { count } => write!(f, "{count} instructions written out"),
        }
    }
}

/// Whether a program has loops to be written out.
#[must_use]
pub fn is_marked(program: &[Instruction]) -> bool {
    program.iter().any(is_marker)
}

fn is_marker(instruction: &Instruction) -> bool {
    instruction.code == JEQ_IMMEDIATE && instruction.destination == FRAME_POINTER
}

/// Writes out the marked loops of a program, within `limit` instructions. Gives the
/// program and, for each of its instructions, the index that it came from.
/// A program without a mark stays as it is.
pub fn unroll(
    program: &[Instruction],
    limit: usize,
) -> Result<(Vec<Instruction>, Vec<usize>), UnrollError> {
    if !is_marked(program) {
        return Ok((program.to_vec(), (0..program.len()).collect()));
    }
    let mut graph = Graph::of(program)?;
    let open: Vec<usize> = (0..graph.markers.len())
        .filter(|marker| graph.rounds[*marker] == 0)
        .collect();
    if let [open] = open[..] {
        // The length is linear in the number of rounds: two points give it.
        let mut length = |rounds| -> Result<usize, UnrollError> {
            graph.rounds[open] = rounds;
            Ok(graph.written()?.0.len())
        };
        let (one, two) = (length(1)?, length(2)?);
        let more = limit.saturating_sub(one) / two.saturating_sub(one).max(1);
        graph.rounds[open] = 1 + u8::try_from(more).unwrap_or(u8::MAX - 1).min(u8::MAX - 1);
    }
    let written = graph.written()?;
    match written.0.len() {
        // Without an open count the program is for kernels that have no such limit.
        count if count > limit && !open.is_empty() => Err(UnrollError::TooLong { count }),
        _ => Ok(written),
    }
}

/// The control flow of a program.
struct Graph<'a> {
    program: &'a [Instruction],
    /// The instruction that comes next if there is no jump, and the one jumped to.
    next: Vec<Option<usize>>,
    target: Vec<Option<usize>>,
    markers: Vec<usize>,
    /// How many rounds each marker's loop has.
    rounds: Vec<u8>,
    /// For each instruction, a byte of ones for each marker that it leads to within
    /// a round.
    leads_to: Vec<u64>,
}

/// An instruction, and how many rounds each loop has been gone through.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    at: usize,
    rounds: u64,
}

/// The next instruction, and the target of the jump.
type Ways = [Option<usize>; 2];

impl<'a> Graph<'a> {
    fn of(program: &'a [Instruction]) -> Result<Self, UnrollError> {
        let mut graph = Graph {
            program,
            next: vec![None; program.len()],
            target: vec![None; program.len()],
            markers: Vec::new(),
            rounds: Vec::new(),
            leads_to: vec![0; program.len()],
        };
        for (at, instruction) in program.iter().enumerate() {
            let jumped_to = (at + 1).checked_add_signed(isize::from(instruction.offset));
            let is_jump = matches!(instruction.code & CLASS, CLASS_JMP | CLASS_JMP32)
                && !matches!(instruction.code, CALL | EXIT);
            (graph.next[at], graph.target[at]) = match instruction.code {
                // The second slot of a load is never executed.
                EXIT | 0 => continue,
                JA => (jumped_to, None),
                _ if is_jump => (Some(at + 1), jumped_to),
                _ if instruction.is_wide_load() => (Some(at + 2), None),
                _ => (Some(at + 1), None),
            };
            let is_inside = |to: Option<usize>| to.is_none_or(|to| to < program.len());
            if !is_inside(graph.next[at]) || !is_inside(graph.target[at]) {
                return Err(UnrollError::Jump { at });
            }
            if is_marker(instruction) {
                graph.markers.push(at);
                graph
                    .rounds
                    .push(u8::try_from(instruction.immediate).unwrap_or(u8::MAX));
            }
        }
        if graph.markers.len() > MAX_LOOPS {
            return Err(UnrollError::TooLong {
                count: graph.markers.len(),
            });
        }
        graph.find_markers();
        Ok(graph)
    }

    /// Fills in `leads_to`, from the markers backward until nothing changes.
    fn find_markers(&mut self) {
        for (number, at) in self.markers.iter().enumerate() {
            self.leads_to[*at] = 0xff << (8 * number);
        }
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for at in (0..self.program.len()).rev() {
                let next = self.next[at].filter(|_| !is_marker(&self.program[at]));
                let ahead = next.into_iter().chain(self.target[at]);
                let leads_to = ahead.fold(self.leads_to[at], |all, to| all | self.leads_to[to]);
                has_changed |= leads_to != self.leads_to[at];
                self.leads_to[at] = leads_to;
            }
        }
    }

    /// The first real instruction at or after `to`.
    fn settled(&self, mut to: usize, mut rounds: u64) -> Result<State, UnrollError> {
        for _ in 0..self.program.len() {
            rounds &= self.leads_to[to];
            let marker = self.markers.iter().position(|marker| *marker == to);
            let through = match marker {
                Some(marker) => {
                    let done = (rounds >> (8 * marker) & 0xff) + 1;
                    rounds &= !(0xff << (8 * marker));
                    if done < u64::from(self.rounds[marker]) {
                        rounds |= done << (8 * marker);
                        self.next[to]
                    } else {
                        self.target[to]
                    }
                }
                None if self.program[to].code == JA => self.next[to],
                None => None,
            };
            match through {
                Some(next) => to = next,
                None => return Ok(State { at: to, rounds }),
            }
        }
        Err(UnrollError::Unmarked { at: to })
    }

    /// Every state that can be reached, each before all that may follow it, with the places
    /// in that list of its next state and of its jump's target.
    fn walk(&self) -> Result<Vec<(usize, Ways)>, UnrollError> {
        let mut states: Vec<(State, Ways)> = Vec::new();
        // By instruction, the states that it is met in.
        let mut known: Vec<Vec<(u64, usize)>> = vec![Vec::new(); self.program.len()];
        let mut finished = Vec::new();
        // A state, and which of its two ways is taken next: first the jump, then the next
        // instruction, so that this one comes directly after the state.
        let mut path: Vec<(usize, usize)> = Vec::new();
        let mut enter = Some((self.settled(0, 0)?, None));
        loop {
            if let Some((state, from)) = enter.take() {
                let found = known[state.at].iter().find(|one| one.0 == state.rounds);
                let number = match found {
                    Some((_, number)) => *number,
                    None => {
                        known[state.at].push((state.rounds, states.len()));
                        path.push((states.len(), 0));
                        states.push((state, [None; 2]));
                        states.len() - 1
                    }
                };
                if let Some((from, way)) = from {
                    let (_, ways): &mut (State, Ways) = &mut states[from];
                    ways[way] = Some(number);
                }
            }
            let Some((number, way)) = path.last_mut() else {
                break;
            };
            let (state, _) = states[*number];
            let to = match *way {
                0 => self.target[state.at],
                1 => self.next[state.at],
                _ => {
                    finished.push(*number);
                    path.pop();
                    continue;
                }
            };
            if let Some(to) = to {
                enter = Some((self.settled(to, state.rounds)?, Some((*number, 1 - *way))));
            }
            *way += 1;
        }
        finished.reverse();
        let mut places = vec![0; states.len()];
        for (place, number) in finished.iter().enumerate() {
            places[*number] = place;
        }
        let placed = |number: &usize| {
            let (state, ways) = states[*number];
            (state.at, ways.map(|way| way.map(|way| places[way])))
        };
        Ok(finished.iter().map(placed).collect())
    }

    /// The program as it is walked.
    fn written(&self) -> Result<(Vec<Instruction>, Vec<usize>), UnrollError> {
        let walked = self.walk()?;
        // Whether the next state must be reached by a jump.
        let needs_jump = |place: usize| walked[place].1[0].is_some_and(|next| next != place + 1);
        let mut starts = Vec::with_capacity(walked.len());
        let mut count = 0;
        for (place, (at, _)) in walked.iter().enumerate() {
            starts.push(count);
            let is_wide = self.program[*at].is_wide_load();
            count += 1 + usize::from(is_wide) + usize::from(needs_jump(place));
        }
        let mut instructions = Vec::with_capacity(count);
        let mut origins = Vec::with_capacity(count);
        for (place, (at, [next, target])) in walked.iter().enumerate() {
            let distance = |to: usize, here: usize| {
                let distance = starts[to].checked_sub(here + 1);
                let offset = distance.and_then(|distance| i16::try_from(distance).ok());
                // Backward: a way round a loop that passes no marker.
                offset.ok_or(UnrollError::Unmarked { at: *at })
            };
            let mut instruction = self.program[*at];
            if let Some(target) = target {
                instruction.offset = distance(*target, instructions.len())?;
            }
            instructions.push(instruction);
            if instruction.is_wide_load() {
                instructions.push(self.program[*at + 1]);
            }
            if let Some(next) = next.filter(|_| needs_jump(place)) {
                instructions.push(Instruction {
                    code: JA,
                    offset: distance(next, instructions.len())?,
                    ..Instruction::default()
                });
            }
            origins.resize(instructions.len(), *at);
        }
        Ok((instructions, origins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u8, destination: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction {
            code,
            destination,
            source: 0,
            offset,
            immediate,
        }
    }

    const ADD: u8 = 0x07;

    #[test]
    fn rounds_become_copies_and_the_last_one_leaves() {
        let program = [
            insn(0xb7, 0, 0, 0),
            insn(ADD, 0, 0, 1),
            insn(JEQ_IMMEDIATE, 0, 3, 9), // leaves the loop early
            insn(JEQ_IMMEDIATE, 10, 1, 3),
            insn(JA, 0, -4, 0),
            insn(ADD, 0, 0, 100),
            insn(EXIT, 0, 0, 0),
        ];
        let (written, origins) = unroll(&program, 100).unwrap();
        assert_eq!(origins, [0, 1, 2, 1, 2, 1, 2, 5, 6]);
        assert_eq!(written[2].offset, 5);
        assert_eq!(written[4].offset, 3);
        assert_eq!(written[6].offset, 1);
        // It is so long because it is meant to be.
        assert!(unroll(&program, 8).is_ok_and(|(written, _)| written.len() == 9));
    }

    #[test]
    fn an_open_count_fills_the_limit() {
        let program = [
            insn(ADD, 0, 0, 1),
            insn(JEQ_IMMEDIATE, 10, 1, 0),
            insn(JA, 0, -3, 0),
            insn(EXIT, 0, 0, 0),
        ];
        let (written, _) = unroll(&program, 31).unwrap();
        assert_eq!(written.len(), 31);
        assert!(written.iter().all(|insn| insn.code != JA));
        assert_eq!(unroll(&program, 1), Err(UnrollError::TooLong { count: 2 }));
    }

    #[test]
    fn a_way_round_without_the_mark_is_refused() {
        let program = [
            insn(ADD, 0, 0, 1),
            insn(JEQ_IMMEDIATE, 0, -2, 7),
            insn(JEQ_IMMEDIATE, 10, 1, 2),
            insn(JA, 0, -4, 0),
            insn(EXIT, 0, 0, 0),
        ];
        assert!(matches!(
            unroll(&program, 100),
            Err(UnrollError::Unmarked { .. })
        ));
    }
}
