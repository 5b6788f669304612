//! What Linux 4.15 takes, held against the object that is meant for it, because
//! not every kernel from there on can be booted here: each program as it goes to
//! the kernel has at most 4,096 instructions, jumps forward only, calls no
//! function but helpers of 4.15, and uses maps that 4.15 knows.

use segfault_analyzer::loader::insn::Instruction;
use segfault_analyzer::loader::link;
use segfault_analyzer::loader::object::Object;
use segfault_analyzer::loader::unroll;

const OBJECT: &[u8] = include_bytes!("../prebuilt/capture_old.bpf.o");

/// Helpers by their numbers in include/uapi/linux/bpf.h.
const HELPERS: [i32; 13] = [
    1,  // map_lookup_elem
    2,  // map_update_elem
    3,  // map_delete_elem
    4,  // probe_read
    5,  // ktime_get_ns
    8,  // get_smp_processor_id
    12, // tail_call
    14, // get_current_pid_tgid
    15, // get_current_uid_gid
    16, // get_current_comm
    25, // perf_event_output
    35, // get_current_task
    45, // probe_read_str
];

/// Map types by their numbers there.
const MAP_TYPES: [u32; 6] = [
    1, // HASH
    2, // ARRAY
    3, // PROG_ARRAY
    4, // PERF_EVENT_ARRAY
    6, // PERCPU_ARRAY
    9, // LRU_HASH
];
/// Largest value of a per-CPU map (`PCPU_MIN_UNIT_SIZE`).
const PER_CPU_VALUE_BYTES: u32 = 32 << 10;

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LDIMM64: u8 = 0x18;
/// `BPF_STX | BPF_XADD`, of both sizes; what it adds to is thrown away.
const ADD_ATOMICALLY: [u8; 2] = [0xc3, 0xdb];

fn object() -> Object {
    Object::parse(OBJECT).expect("the object is whole")
}

/// The programs by name, each as it goes to an old kernel.
fn programs(object: &Object) -> Vec<(String, Vec<Instruction>)> {
    let written = |program| {
        let joined = link::join(object, program).expect("a program of the object");
        assert_eq!(joined.pieces.len(), 1, "{}: calls functions", program.name);
        let (written, _) = unroll::unroll(&joined.instructions, unroll::OLD_LIMIT)
            .unwrap_or_else(|error| panic!("{}: {error}", program.name));
        (program.name.clone(), written)
    };
    object.programs.iter().map(written).collect()
}

/// Calls `check` with each instruction, second halves of loads left out.
fn each(mut check: impl FnMut(&str, usize, &Instruction)) {
    for (name, program) in programs(&object()) {
        let mut at = 0;
        while let Some(instruction) = program.get(at) {
            check(&name, at, instruction);
            at += if instruction.code == LDIMM64 { 2 } else { 1 };
        }
    }
}

#[test]
fn programs_are_short_enough() {
    for (name, program) in programs(&object()) {
        println!("{name}: {} instructions", program.len());
        assert!(program.len() <= 4096, "{name}: {}", program.len());
    }
}

#[test]
fn jumps_lead_forward() {
    each(|name, at, instruction| {
        // JMP32 came in 5.1.
        assert_ne!(instruction.code & 7, 6, "{name} at {at}: {instruction:?}");
        let is_jump = instruction.code & 7 == 5 && !matches!(instruction.code, CALL | EXIT);
        assert!(
            !is_jump || instruction.offset >= 0,
            "{name} at {at}: {instruction:?}"
        );
    });
}

#[test]
fn every_instruction_can_be_reached() {
    for (name, program) in programs(&object()) {
        let mut is_reached = vec![false; program.len()];
        is_reached[0] = true;
        for (at, instruction) in program.iter().enumerate() {
            assert!(is_reached[at] || instruction.code == 0, "{name} at {at}");
            let is_jump = instruction.code & 7 == 5 && !matches!(instruction.code, CALL | EXIT);
            if is_jump {
                is_reached[at + 1 + usize::from(instruction.offset.unsigned_abs())] = true;
            }
            if !matches!(instruction.code, 0x05 | EXIT) {
                is_reached[at + 1 + usize::from(instruction.code == LDIMM64)] = true;
            }
        }
    }
}

#[test]
fn only_helpers_of_4_15_are_called() {
    each(|name, at, instruction| {
        if instruction.code == CALL {
            assert_eq!(instruction.source, 0, "{name} at {at}: calls a function");
            assert!(
                HELPERS.contains(&instruction.immediate),
                "{name} at {at}: helper {}",
                instruction.immediate
            );
        }
    });
}

#[test]
fn only_additions_are_atomic() {
    each(|name, at, instruction| {
        if ADD_ATOMICALLY.contains(&instruction.code) {
            assert_eq!(instruction.immediate, 0, "{name} at {at}: {instruction:?}");
        }
    });
}

#[test]
fn only_maps_of_4_15_are_used() {
    for map in &object().maps {
        assert!(!map.is_data(), "{}: global data", map.name);
        assert!(
            MAP_TYPES.contains(&map.map_type),
            "{}: {}",
            map.name,
            map.map_type
        );
        assert!(map.value_size <= PER_CPU_VALUE_BYTES, "{}", map.name);
        assert_eq!(map.flags, 0, "{}", map.name);
    }
}
