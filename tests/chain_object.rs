//! What Linux 4.15 takes, held against the object that is meant for it, because
//! not every kernel from there on can be booted here: each program as it goes to
//! the kernel has at most 4,096 instructions, jumps forward only, calls no
//! function but helpers of 4.15, uses maps that 4.15 knows, and does nothing that a
//! verifier of that time cannot follow (`old_verifier`).

mod old_verifier;

use old_verifier::{Input, MapShape};
use segfault_analyzer::loader::insn::{self, Instruction};
use segfault_analyzer::loader::link;
use segfault_analyzer::loader::object::Object;
use segfault_analyzer::loader::parse::section_range;
use segfault_analyzer::loader::relo::{self, Engine};
use segfault_analyzer::loader::target::Target;
use segfault_analyzer::loader::unroll;
use segfault_analyzer::measure::layout::{Detail, Field, Layout};

const OBJECT: &[u8] = include_bytes!("../prebuilt/capture_chain.bpf.o");

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

const TAIL_CALL: i32 = 12;
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
        // The tree came with 6.1.
        let most = if name == "segfault_tree" { 16384 } else { 4096 };
        assert!(program.len() <= most, "{name}: {}", program.len());
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

/// The interpreter of 6.12 and later needs that of programs that call others as their
/// tails: see `tail_call()` in bpf/chain.h. No compiler may have put anything else there.
#[test]
fn programs_that_call_tails_have_the_largest_stack() {
    let object = object();
    for (name, program) in programs(&object) {
        let is_end = |one: &&Instruction| {
            let base = if one.code & 7 == 1 {
                one.source
            } else {
                one.destination
            };
            matches!(one.code & 7, 1..=3) && base == 10 && one.offset < -504
        };
        let ends: Vec<_> = program.iter().filter(is_end).collect();
        assert!(ends.iter().all(|one| one.code & 7 != 1), "{name} reads it");
        let is_tail_call = |one: &Instruction| one.code == CALL && one.immediate == TAIL_CALL;
        for (at, _) in program
            .iter()
            .enumerate()
            .filter(|(_, one)| is_tail_call(one))
        {
            let before = program[..at]
                .iter()
                .rev()
                .take_while(|one| one.code & 7 != 5);
            assert_eq!(before.filter(is_end).count(), 1, "{name} at {at}");
        }
        let calls = program.iter().filter(|one| is_tail_call(one)).count();
        assert_eq!(ends.len(), calls, "{name}");
        assert!(calls > 0, "{name}: all of them go on somewhere");
    }
}

/// The program of `ring` has calls between functions instead, which no kernel takes
/// together with these on every processor.
#[test]
fn no_other_object_calls_tails() {
    for bytes in [
        &include_bytes!("../prebuilt/capture.bpf.o")[..],
        include_bytes!("../prebuilt/peek.bpf.o"),
    ] {
        let object = Object::parse(bytes).expect("the object is whole");
        for program in &object.programs {
            let joined = link::join(&object, program).expect("a program of the object");
            let calls = |one: &&Instruction| one.code == CALL && one.source == 0;
            let tails = joined.instructions.iter().filter(calls);
            assert_eq!(tails.filter(|one| one.immediate == TAIL_CALL).count(), 0);
        }
    }
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

/// Fields of the kernel's structures as a kernel of that time has them, on x86, as far as
/// they are measured where it has no type information.
const MEASURED: [(Field, i32); 44] = [
    (Field::Stack, 24),
    (Field::RealParent, 1176),
    (Field::Ids, 1160),
    (Field::GroupLeader, 1224),
    (Field::ThreadPid, 1256),
    (Field::NsProxy, 1600),
    (Field::Mm, 952),
    (Field::Comm, 1544),
    (Field::StartBootTime, 1480),
    (Field::AlternateStart, 1696),
    (Field::AlternateBytes, 1704),
    (Field::Cr2, 2600),
    (Field::TrapNumber, 2608),
    (Field::ErrorCode, 2616),
    (Field::MntNsCommon, 8),
    (Field::PidNsCommon, 120),
    (Field::Numbers, 48),
    (Field::OwnPidNs, 56),
    (Field::Mmap, 0),
    (Field::HighestVmEnd, 56),
    (Field::StartBrk, 264),
    (Field::Brk, 272),
    (Field::StartStack, 280),
    (Field::ArgStart, 288),
    (Field::ArgEnd, 296),
    (Field::EnvEnd, 312),
    (Field::ExeFile, 840),
    (Field::Context, 744),
    (Field::VmNext, 16),
    (Field::VmMm, 64),
    (Field::VmFlags, 80),
    (Field::VmPgoff, 152),
    (Field::VmFile, 160),
    (Field::FPath, 16),
    (Field::FInode, 32),
    (Field::DHash, 8),
    (Field::DParent, 24),
    (Field::DName, 40),
    (Field::INumber, 64),
    (Field::ISb, 40),
    (Field::ISize, 80),
    (Field::SDev, 16),
    (Field::MntParent, 16),
    (Field::MntMountpoint, 24),
];

/// Types as they are measured there, and the object's own: with these everything is
/// there that some kernel has, and no program is longer.
fn kernels() -> [(&'static str, Vec<u8>); 2] {
    let mut layout = Layout::default();
    layout.regs_from_top = 168;
    for (field, at) in MEASURED {
        layout.found(field, at);
    }
    layout.found(Field::Mnt, 32);
    layout.found(Field::MntNs, 24);
    layout.found(Field::MntRoot, 0);
    layout.lose(Detail::Cgroup);
    let (start, bytes) = section_range(&OBJECT.to_vec(), ".BTF").expect("types");
    let own = OBJECT[start as usize..][..bytes as usize].to_vec();
    [("measured", layout.to_btf()), ("all", own)]
}

/// The programs that a kernel with these types can run, by name, each with what 4.15's
/// verifier thinks of it.
fn verdicts(object: &Object, types: &[u8]) -> Vec<(String, old_verifier::Verdict)> {
    let shapes: Vec<_> = object
        .maps
        .iter()
        .map(|map| MapShape {
            key_bytes: map.key_size,
            value_bytes: map.value_size,
        })
        .collect();
    let names = relo::wanted_names(&object.btf).expect("names");
    let types = types.to_vec();
    let target = Target::scan(&types, names).expect("types");
    let mut engine = Engine::new(&object.btf, &target);
    let mut verdicts = Vec::new();
    for program in &object.programs {
        let mut joined = link::join(object, program).expect("a program of the object");
        for (at, record) in link::relocations(object, &joined) {
            let fixup = engine.fixup(&record).expect("a value or poison");
            insn::apply(&mut joined.instructions, at, &fixup).expect("fits");
        }
        let (written, origins) = unroll::unroll(&joined.instructions, unroll::OLD_LIMIT)
            .expect("a program of the object");
        let map_at = |at: usize| {
            let found = joined
                .maps
                .iter()
                .find(|map| map.instruction == origins[at]);
            found.map(|reference| reference.map)
        };
        let verdict = old_verifier::verify(&Input {
            program: &written,
            maps: &map_at,
            shapes: &shapes,
        });
        verdicts.push((program.name.clone(), verdict));
    }
    verdicts
}

#[test]
fn verifiers_before_5_3_can_follow() {
    let object = object();
    for (kernel, types) in kernels() {
        for (name, verdict) in verdicts(&object, &types) {
            println!("{name} with types {kernel}: {verdict:?}");
            // Kernels that measure as these have no such mappings.
            if kernel == "measured" && name == "segfault_tree" {
                continue;
            }
            assert!(verdict.is_ok(), "{name} with types {kernel}: {verdict:?}");
        }
    }
}
