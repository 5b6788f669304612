//! The loader against the kernel that this runs on.
//!
//! `relocs.bpf.o` has programs that check themselves and return the line of the
//! first failed expectation; `crashes.bpf.o` is attached where the tool's own
//! program is. Where bpf(2) is not permitted the tests are skipped.

#[path = "host/mod.rs"]
mod host;

use std::ffi::c_int;
use std::os::fd::AsFd;

use nix::sys::signal::{raise, sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use segfault_analyzer::base::error::{Kind, Result};
use segfault_analyzer::loader::object::{Map, Object};
use segfault_analyzer::loader::probe::Features;
use segfault_analyzer::loader::{self, attach, btf_load, Loaded, Settings};
use segfault_analyzer::sys::bpf;

const RELOCS: &[u8] = include_bytes!("bpf/relocs.bpf.o");
const CRASHES: &[u8] = include_bytes!("bpf/crashes.bpf.o");

/// Arguments of a raw tracepoint: `bpf_raw_tracepoint_args` has no fixed length.
const CONTEXT: [u8; 64] = [0; 64];

/// The answer, or nothing where this process may not load programs.
fn permitted<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error) if error.kind() == Kind::NotPermitted => {
            host::skip(error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// False on kernels before 5.17; `None` where nothing may be loaded.
fn callbacks() -> Option<bool> {
    let has = permitted(Features::new().callbacks())?;
    if !has {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next(), numbers.next());
        assert!(version < (Some(5), Some(17)), "no bpf_loop on {release}");
    }
    Some(has)
}

fn load(bytes: &[u8], settings: &Settings<'_>) -> Result<Loaded> {
    let object = Object::parse(bytes)?;
    let types = loader::kernel_types(None)?;
    loader::load(&object, &types, settings)
}

fn run(name: &str) {
    let settings = Settings {
        rodata: &[("wanted", &6u32.to_ne_bytes())],
        programs: &[name],
        verbose: true,
        ..Settings::default()
    };
    let Some(loaded) = permitted(load(RELOCS, &settings)) else {
        return;
    };
    let program = loaded.program(name).expect("was loaded");
    let line = bpf::prog_test_run(program, &CONTEXT).expect("test run");
    assert_eq!(line, 0, "{name}: relocs.bpf.c:{line} does not hold");
}

#[test]
fn offsets() {
    run("offsets");
}

#[test]
fn sizes() {
    run("sizes");
}

#[test]
fn existence() {
    run("existence");
}

#[test]
fn signs() {
    run("signs");
}

#[test]
fn enums() {
    run("enums");
}

#[test]
fn reads() {
    run("reads");
}

#[test]
fn guarded() {
    run("guarded");
}

#[test]
fn data() {
    run("data");
}

#[test]
fn calls() {
    run("calls_first");
    run("calls_second");
}

#[test]
fn bpf_loop_callbacks() {
    match callbacks() {
        Some(true) => run("loop"),
        Some(false) => {
            if let Some(error) = refusal("loop") {
                assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            }
        }
        None => {}
    }
}

fn refusal(name: &str) -> Option<segfault_analyzer::base::error::Error> {
    let settings = Settings {
        programs: &[name],
        ..Settings::default()
    };
    match load(RELOCS, &settings) {
        Ok(_) => panic!("{name} was loaded"),
        Err(error) if error.kind() == Kind::NotPermitted => permitted::<()>(Err(error)).map(|()| {
            unreachable!("permitted() passes no error on");
        }),
        Err(error) => Some(error),
    }
}

#[test]
fn a_reached_poison_names_its_relocation() {
    let Some(error) = refusal("err_gone") else {
        return;
    };
    let said = error.to_string();
    assert!(
        said.starts_with("Failed to load BPF program: err_gone: ")
            && said.contains("<byte_off> [")
            && said.ends_with("struct task_struct___gone.no_such_field (0:1 @ offset 4)"),
        "{said}"
    );
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[test]
fn a_verifier_refusal_shows_the_telling_lines() {
    let Some(error) = refusal("err_verifier") else {
        return;
    };
    let said = error.to_string();
    assert!(
        said.starts_with("Failed to load BPF program: err_verifier: ")
            && said.contains("invalid mem access")
            && !said.contains("processed ")
            && !said.contains('\n'),
        "{said}"
    );
}

#[test]
fn wrong_settings_are_refused_before_the_kernel_sees_them() {
    let refused = |settings: &Settings<'_>, expected: &str| {
        let said = load(RELOCS, settings).expect_err(expected).to_string();
        assert!(said.contains(expected), "{said}");
    };
    let programs = &["data"];
    refused(
        &Settings {
            programs,
            rodata: &[("no_such", &[0; 4])],
            ..Settings::default()
        },
        "no variable no_such",
    );
    refused(
        &Settings {
            programs,
            rodata: &[("wanted", &[0; 8])],
            ..Settings::default()
        },
        "variable wanted of the BPF object has 4 bytes, not 8",
    );
    refused(
        &Settings {
            programs,
            max_entries: &[("no_such", 1)],
            ..Settings::default()
        },
        "no map no_such",
    );
    refused(
        &Settings {
            programs: &["no_such"],
            ..Settings::default()
        },
        "no program no_such",
    );
}

extern "C" fn ignore(_: c_int) {}

/// A variable of `.bss`, read through the map.
fn counter(loaded: &Loaded, object: &Object, name: &str) -> u64 {
    let lies_in = |map: &Map| map.variables.iter().any(|known| known.name == name);
    let map = object.maps.iter().find(|map| lies_in(map)).expect(name);
    let variable = map
        .variables
        .iter()
        .find(|known| known.name == name)
        .expect(name);
    let start = variable.offset as usize;
    let mut bytes = vec![0; map.value_size as usize];
    assert_eq!(map.name, "segfault_bss");
    let fd = loaded.map(&map.name).expect("was created");
    assert!(bpf::map_lookup_elem(fd, &[0; 4], &mut bytes).expect("lookup"));
    let value = bytes[start..start + 8].try_into().expect("eight bytes");
    u64::from_ne_bytes(value)
}

#[test]
fn every_kind_of_map_works_at_signal_deliver() {
    const SIGNALS: u64 = 3;
    match callbacks() {
        Some(true) => {}
        Some(false) => return host::skip("bpf_loop needs Linux 5.17"),
        None => return,
    }
    let object = Object::parse(CRASHES).expect("our own object");
    let signal = (Signal::SIGSEGV as u32).to_ne_bytes();
    let pid = std::process::id().to_ne_bytes();
    let settings = Settings {
        rodata: &[("target_signal", &signal), ("target_pid", &pid)],
        max_entries: &[("segfault_ring", 64 << 10)],
        verbose: true,
        programs: &["segfault_main", "segfault_tail"],
        ..Settings::default()
    };
    let Some(loaded) = permitted(load(CRASHES, &settings)) else {
        return;
    };
    let ring = loaded.map("segfault_ring").expect("was created");
    assert_eq!(bpf::map_info(ring).expect("info").max_entries, 64 << 10);
    assert!(
        loaded.map("segfault_unused").is_none(),
        "nobody refers to it"
    );
    let program = loaded.program("segfault_main").expect("was loaded");
    let link = attach::raw_tracepoint(program, "signal_deliver").expect("attach");
    let action = SigAction::new(
        SigHandler::Handler(ignore),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the signal handler does nothing, so it is safe at any time.
    let before = unsafe { sigaction(Signal::SIGSEGV, &action) }.expect("sigaction");
    for _ in 0..SIGNALS {
        raise(Signal::SIGSEGV).expect("raise");
    }
    // SAFETY: what was installed before is put back.
    unsafe { sigaction(Signal::SIGSEGV, &before) }.expect("sigaction");
    drop(link);
    let count = |name| counter(&loaded, &object, name);
    assert_eq!(count("delivered"), SIGNALS);
    assert_eq!(count("looped"), SIGNALS * 5);
    assert_eq!(count("tailed"), SIGNALS);
    assert_eq!(count("ringed"), SIGNALS);
    assert!(count("seen") >= SIGNALS);
    let mut value = [0; 8];
    let array = loaded.map("segfault_array").expect("was created");
    assert!(bpf::map_lookup_elem(array, &3u32.to_ne_bytes(), &mut value).expect("lookup"));
    assert_eq!(u64::from_ne_bytes(value), SIGNALS);
    let info = loaded.program_info("segfault_main").expect("info");
    assert_ne!(info.tag, [0; 8]);
    assert_eq!(info.recursion_misses, 0);
}

#[test]
fn constants_cannot_be_changed_after_loading() {
    let settings = Settings {
        programs: &["data"],
        ..Settings::default()
    };
    let Some(loaded) = permitted(load(RELOCS, &settings)) else {
        return;
    };
    let rodata = loaded.map("segfault_rodata").expect("was created");
    let size = bpf::map_info(rodata.as_fd()).expect("info").value_size;
    let zeros = vec![0; size as usize];
    let error = bpf::map_update_elem(rodata, &[0; 4], &zeros, 0).expect_err("is frozen");
    assert_eq!(error.errno(), Some(bpf::EPERM));
}

#[test]
fn every_rendition_of_the_types_is_taken() {
    for bytes in [RELOCS, CRASHES] {
        let object = Object::parse(bytes).expect("our own object");
        let whole = btf_load::finish(&object).expect("our own types");
        let mut renditions = 0;
        for number in 0..btf_load::RENDITIONS {
            let Some(bytes) = btf_load::rendition(&object, &whole, number) else {
                continue;
            };
            let mut log = vec![0; 64 << 10];
            let answer = bpf::btf_load(&bytes, &mut log);
            if let Err(error) = &answer {
                println!("{}", String::from_utf8_lossy(&log));
                println!("rendition {number}: {error}");
            }
            if permitted(answer).is_none() {
                return;
            }
            renditions += 1;
        }
        // Whole, functions without linkage, no data sections.
        assert!(renditions >= 3, "{renditions}");
    }
}

#[test]
fn this_kernel_has_a_ring_buffer() {
    if let Some(has) = permitted(Features::new().ring_buffer()) {
        assert!(has, "5.8 has it, and tests run on nothing older");
    }
}
