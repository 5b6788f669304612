//! Creates maps in the kernel, and loads types and programs.
//!
//! ```text
//! join the programs that were asked for    (pure)
//! compute and apply their CO-RE fix-ups    (reads the kernel's types)
//! create the maps that they refer to, fill and freeze the constants
//! load the object's types
//! put descriptors into instructions, leave out what cannot be reached, load the programs
//! fill the program arrays that the object initializes
//! ```
//!
//! A program is first loaded without a log, because the log costs the kernel more than
//! the verification. If the kernel refuses it, it is loaded again with a log.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::{Context, Error, Result};
use crate::loader::btf_load;
use crate::loader::explain;
use crate::loader::insn;
use crate::loader::link::{self, Joined, MapReference};
use crate::loader::object::{Content, Map, MAPPABLE, PERF_EVENT_ARRAY};
use crate::loader::object::{Object, Program};
use crate::loader::parallel;
use crate::loader::prune::{self, Address};
use crate::loader::relo::{self, Engine};
use crate::loader::target::{Target, TypeSource};
use crate::loader::unroll;
use crate::sys::bpf;

/// Verifier logs are asked for in these sizes, until one suffices.
/// Before 5.2 a log has less than 16 MB.
const LOG_SIZES: [usize; 3] = [256 << 10, 2 << 20, (16 << 20) - 1];

/// Slots of a perf event array where the number of CPUs is not available.
const CPUS_UNKNOWN: usize = 1024;

/// For the one missing privilege that is not among the two that [`explain`] names.
const MEMLOCK_HINT: &str =
    "before Linux 5.11 it counts as locked memory: raise that limit (ulimit -l unlimited), or add CAP_SYS_RESOURCE";

/// What the caller decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// Values of global constants and variables, by name, as the kernel is to see them.
    pub rodata: &'a [(&'a str, &'a [u8])],
    /// Sizes of maps that the object leaves open.
    pub max_entries: &'a [(&'a str, u32)],
    /// Print all of the verifier's log when it refuses.
    pub verbose: bool,
    /// Names of the programs to load.
    pub programs: &'a [&'a str],
    /// Two programs that do the same for different kernels: only the one that lacks fewer
    /// fields in this kernel is loaded.
    pub either: Option<(&'a str, &'a str)>,
    /// The type of all programs, if it is not the one that their sections say.
    pub program_type: Option<u32>,
}

/// Maps and programs in the kernel, for as long as this lives or they are attached.
#[derive(Debug)]
pub struct Loaded {
    maps: Vec<(String, OwnedFd)>,
    programs: Vec<(String, OwnedFd)>,
}

impl Loaded {
    /// The map of this name, if a loaded program refers to it.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        find(&self.maps, name)
    }

    /// Closes all other maps, which the programs keep alive: descriptors may be scarce. Not
    /// for arrays of programs, which the kernel empties then.
    pub fn keep_maps(&mut self, names: &[&str]) {
        self.maps.retain(|(name, _)| names.contains(&name.as_str()));
    }

    /// The program of this name, if it was asked for.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<BorrowedFd<'_>> {
        find(&self.programs, name)
    }

    /// Names of all programs that were loaded.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().map(|(name, _)| name.as_str())
    }

    /// What the kernel reports about a loaded program: its tag, how often it did not run.
    pub fn program_info(&self, name: &str) -> Result<bpf::ProgramInfo> {
        let program = self
            .program(name)
            .ok_or_else(|| Error::failed(format!("no program {name} is loaded")))?;
        bpf::program_info(program).context(|| format!("program {name}"))
    }

    /// Puts a loaded program into a slot of a program array.
    pub fn set_tail_call(&self, map: &str, index: u32, program: &str) -> Result<()> {
        let missing = |what: &str, name: &str| Error::failed(format!("no {what} {name} is loaded"));
        let array = self.map(map).ok_or_else(|| missing("map", map))?;
        let entry = self
            .program(program)
            .ok_or_else(|| missing("program", program))?;
        set_program(array, index, entry).context(|| format!("map {map}, slot {index}: {program}"))
    }
}

fn find<'a>(list: &'a [(String, OwnedFd)], name: &str) -> Option<BorrowedFd<'a>> {
    let (_, fd) = list.iter().find(|(known, _)| known == name)?;
    Some(fd.as_fd())
}

fn set_program(array: BorrowedFd<'_>, index: u32, program: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    let value = program.as_raw_fd().to_ne_bytes();
    bpf::map_update_elem(array, &index.to_ne_bytes(), &value, 0)
}

/// A program on its way into the kernel.
struct Prepared<'a> {
    program: &'a Program,
    joined: Joined,
    /// Instructions that call nothing now, and the relocations that made them so.
    poisoned: Vec<(usize, String)>,
}

/// Loads the programs that were asked for, with the maps that they refer to.
///
/// `kernel_types` may be empty for programs without CO-RE relocations.
pub fn load(
    object: &Object,
    kernel_types: &dyn TypeSource,
    settings: &Settings<'_>,
) -> Result<Loaded> {
    let mut prepared = Vec::with_capacity(settings.programs.len());
    for name in settings.programs {
        let program = object
            .program(name)
            .ok_or_else(|| Error::failed(format!("the BPF object has no program {name}")))?;
        let joined = link::join(object, program).context(|| format!("join program {name}"))?;
        prepared.push(Prepared {
            program,
            joined,
            poisoned: Vec::new(),
        });
    }
    // An unrolled program no longer has the lines and functions that the types describe.
    let needs_types = prepared
        .iter()
        .any(|one| !unroll::is_marked(&one.joined.instructions));
    let wanted = wanted_maps(object, &prepared);
    let contents = data_contents(object, settings)?;
    // Each takes its time, and needs nothing of the other.
    let (relocated, made) = parallel::both(
        || relocate(object, kernel_types, &mut prepared),
        || {
            let maps = create_maps(object, &wanted, &contents, settings)?;
            let btf = needs_types.then(|| load_btf(object)).transpose()?;
            Ok::<_, Error>((maps, btf.flatten()))
        },
    );
    relocated?;
    let (maps, btf) = made?;
    if let Some((one, other)) = settings.either {
        drop_lesser(&mut prepared, one, other);
    }
    let mut loaded = Loaded {
        maps: Vec::new(),
        programs: Vec::new(),
    };
    let programs = load_programs(object, &prepared, &maps, &contents, btf.as_ref(), settings)?;
    for (one, fd) in prepared.iter().zip(programs) {
        loaded.programs.push((one.program.name.clone(), fd));
    }
    for (map, fd) in object.maps.iter().zip(maps) {
        if let Some(fd) = fd {
            loaded.maps.push((map.name.clone(), fd));
        }
    }
    for map in &object.maps {
        let Content::Programs(programs) = &map.content else {
            continue;
        };
        for (slot, program) in programs {
            // A slot whose program was not asked for stays empty: the call falls through.
            if loaded.map(&map.name).is_some() && loaded.program(program).is_some() {
                loaded.set_tail_call(&map.name, *slot, program)?;
            }
        }
    }
    Ok(loaded)
}

/// Leaves out the one of two programs for which the kernel lacks more.
fn drop_lesser(prepared: &mut Vec<Prepared<'_>>, one: &str, other: &str) {
    let missing = |name: &str| {
        let found = prepared.iter().find(|one| one.program.name == name);
        found.map_or(usize::MAX, |one| one.poisoned.len())
    };
    let lesser = if missing(one) > missing(other) {
        one
    } else {
        other
    };
    prepared.retain(|one| one.program.name != lesser);
}

/// Applies the CO-RE relocations of all programs.
fn relocate(
    object: &Object,
    kernel_types: &dyn TypeSource,
    prepared: &mut [Prepared<'_>],
) -> Result<()> {
    let all: Vec<_> = prepared
        .iter()
        .map(|one| link::relocations(object, &one.joined))
        .collect();
    if all.iter().all(Vec::is_empty) {
        return Ok(());
    }
    if kernel_types.is_empty() {
        return Err(Error::unsupported(
            "the BPF program needs type information of this kernel (BTF)",
        )
        .with_hint("the kernel must be built with CONFIG_DEBUG_INFO_BTF, or name a BTF file of it with --btf"));
    }
    let failed = |error: &dyn std::fmt::Display| {
        Error::failed(error.to_string()).context("kernel type information")
    };
    let names = relo::wanted_names(&object.btf).map_err(|error| failed(&error))?;
    let target = Target::scan(kernel_types, names).map_err(|error| failed(&error))?;
    let mut engine = Engine::new(&object.btf, &target);
    for (one, records) in prepared.iter_mut().zip(&all) {
        for (instruction, record) in records {
            let explain = |error: &dyn std::fmt::Display| {
                Error::failed(error.to_string())
                    .context(format!(
                        "CO-RE relocation {}",
                        relo::describe(&object.btf, record)
                    ))
                    .context(format!("program {}", one.program.name))
            };
            let fixup = engine.fixup(record).map_err(|error| explain(&error))?;
            let applied = insn::apply(&mut one.joined.instructions, *instruction, &fixup)
                .map_err(|error| explain(&error))?;
            if applied == insn::Applied::Poisoned {
                let description = relo::describe(&object.btf, record);
                one.poisoned.push((*instruction, description));
            }
        }
    }
    Ok(())
}

/// For each map of the object, whether a program refers to it.
fn wanted_maps(object: &Object, prepared: &[Prepared<'_>]) -> Vec<bool> {
    let mut wanted = vec![false; object.maps.len()];
    for reference in prepared.iter().flat_map(|one| &one.joined.maps) {
        if let Some(wanted) = wanted.get_mut(reference.map) {
            *wanted = true;
        }
    }
    wanted
}

/// Creates the maps that are wanted; the list has a place for every map of the object.
fn create_maps(
    object: &Object,
    wanted: &[bool],
    contents: &[Option<Vec<u8>>],
    settings: &Settings<'_>,
) -> Result<Vec<Option<OwnedFd>>> {
    for (name, _) in settings.max_entries {
        if !object.maps.iter().any(|map| map.name == *name) {
            return Err(Error::failed(format!("the BPF object has no map {name}")));
        }
    }
    let mut created = Vec::with_capacity(object.maps.len());
    for ((map, content), is_wanted) in object.maps.iter().zip(contents).zip(wanted) {
        if !is_wanted {
            created.push(None);
            continue;
        }
        let context = || format!("map {}", map.name);
        let fd = create_map(map, settings)
            .context(context)
            .map_err(explain::refused)?;
        if let (Some(bytes), Content::Data { constant, .. }) = (content, &map.content) {
            // A new array is all zero.
            if bytes.iter().any(|byte| *byte != 0) {
                bpf::map_update_elem(fd.as_fd(), &0u32.to_ne_bytes(), bytes, 0).context(context)?;
            }
            if *constant {
                bpf::map_freeze(fd.as_fd()).context(context)?;
            }
        }
        created.push(Some(fd));
    }
    Ok(created)
}

fn create_map(map: &Map, settings: &Settings<'_>) -> Result<OwnedFd> {
    let override_of = |name: &str| {
        let found = settings
            .max_entries
            .iter()
            .find(|(known, _)| *known == name);
        found.map(|(_, entries)| *entries)
    };
    let mut max_entries = override_of(&map.name).unwrap_or(map.max_entries);
    if map.map_type == PERF_EVENT_ARRAY && max_entries == 0 {
        // A slot too many costs eight bytes; without /sys the number is not known.
        let cpus = bpf::possible_cpus().unwrap_or(CPUS_UNKNOWN);
        max_entries = u32::try_from(cpus).unwrap_or(u32::MAX);
    }
    let mut wanted = bpf::NewMap {
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries,
        flags: map.flags,
        name: &map.name,
    };
    let answer = with_memlock(|| bpf::map_create(&wanted));
    match answer {
        Err(error) if error.errno() == Some(bpf::EINVAL) && map.flags & MAPPABLE != 0 => {
            // Before 5.5 array maps cannot be mapped.
            wanted.flags &= !MAPPABLE;
            with_memlock(|| bpf::map_create(&wanted))
        }
        other => other,
    }
}

/// Tries again with the limit on locked memory lifted: before 5.11 it refuses with EPERM.
fn with_memlock<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    match attempt() {
        Err(error) if error.errno() == Some(bpf::EPERM) => {
            if bpf::raise_memlock_limit().is_err() {
                return Err(error.with_hint(MEMLOCK_HINT));
            }
            attempt()
        }
        other => other,
    }
}

/// The bytes of each data map, with the caller's values in their places.
fn data_contents(object: &Object, settings: &Settings<'_>) -> Result<Vec<Option<Vec<u8>>>> {
    let mut contents: Vec<Option<Vec<u8>>> = object
        .maps
        .iter()
        .map(|map| match &map.content {
            Content::Data { bytes, .. } => Some(bytes.clone()),
            Content::Empty | Content::Programs(_) => None,
        })
        .collect();
    for (name, value) in settings.rodata {
        let unknown = || Error::failed(format!("the BPF object has no variable {name}"));
        let place = object
            .maps
            .iter()
            .zip(&mut contents)
            .find_map(|(map, content)| {
                let variable = map
                    .variables
                    .iter()
                    .find(|variable| variable.name == *name)?;
                Some((variable, content.as_mut()?))
            });
        let (variable, content) = place.ok_or_else(unknown)?;
        if value.len() != variable.size as usize {
            return Err(Error::failed(format!(
                "variable {name} of the BPF object has {} bytes, not {}",
                variable.size,
                value.len()
            )));
        }
        let start = variable.offset as usize;
        content
            .get_mut(start..start + value.len())
            .ok_or_else(unknown)?
            .copy_from_slice(value);
    }
    Ok(contents)
}

/// The object's types in the kernel, or nothing if no rendition of them is taken.
fn load_btf(object: &Object) -> Result<Option<OwnedFd>> {
    let Ok(whole) = btf_load::finish(object) else {
        return Ok(None);
    };
    for number in 0..btf_load::RENDITIONS {
        let Some(bytes) = btf_load::rendition(object, &whole, number) else {
            continue;
        };
        match with_memlock(|| bpf::btf_load(&bytes, &mut [])) {
            Ok(types) => return Ok(Some(types)),
            Err(error) if is_want(&error) => {
                return Err(error.context("types of the capture program"));
            }
            // This kernel does not know their content.
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Whether it was refused for lack of descriptors or memory, and not for its content.
fn is_want(error: &Error) -> bool {
    matches!(error.errno(), Some(bpf::EMFILE | bpf::ENFILE | bpf::ENOMEM))
}

/// Loads each; the verifier takes most of the time. After a refusal no further one is
/// begun.
fn load_programs(
    object: &Object,
    prepared: &[Prepared<'_>],
    maps: &[Option<OwnedFd>],
    contents: &[Option<Vec<u8>>],
    btf: Option<&OwnedFd>,
    settings: &Settings<'_>,
) -> Result<Vec<OwnedFd>> {
    let is_refused = AtomicBool::new(false);
    let answers = parallel::each(prepared, |one| {
        if is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let answer = load_program(object, one, maps, contents, btf, settings);
        is_refused.fetch_or(answer.is_err(), Ordering::Relaxed);
        Some(answer)
    });
    // Missing entries are those of a refusal.
    answers.into_iter().flatten().collect()
}

fn load_program(
    object: &Object,
    prepared: &Prepared<'_>,
    maps: &[Option<OwnedFd>],
    contents: &[Option<Vec<u8>>],
    btf: Option<&OwnedFd>,
    settings: &Settings<'_>,
) -> Result<OwnedFd> {
    let program = prepared.program;
    let own_type = || program_type(&program.section);
    let prog_type = settings.program_type.or_else(own_type).ok_or_else(|| {
        Error::failed(format!(
            "program {}: section {} names no known kind of program",
            program.name, program.section
        ))
    })?;
    let joined = &prepared.joined;
    let is_marked = unroll::is_marked(&joined.instructions);
    let (mut written, origins) = match is_marked {
        true => unroll::unroll(&joined.instructions, unroll::OLD_LIMIT)
            .map_err(|error| Error::failed(error.to_string()))
            .context(|| format!("program {}", program.name))?,
        false => {
            let addresses = addresses(object, joined, contents);
            prune::prune(&joined.instructions, &addresses)
        }
    };
    link::put_maps(&mut written, &origins, &joined.maps, maps)
        .context(|| format!("program {}", program.name))?;
    let poisoned = moved(&prepared.poisoned, &origins);
    let extension = &object.extension;
    let functions = link::info(object, joined, &extension.functions, &origins);
    let types = btf.filter(|_| !is_marked).map(|btf| bpf::ProgramTypes {
        btf: btf.as_fd(),
        func_info_rec_size: extension.functions.record_size,
        func_info: &functions,
        line_info_rec_size: extension.lines.record_size,
        // The kernel drags them along through each change that it makes to a program:
        // only a log has a use for them.
        line_info: &[],
    });
    let instructions = insn::encode(&written);
    let wanted = bpf::NewProgram {
        prog_type,
        instructions: &instructions,
        license: &object.license,
        name: &program.name,
        types: types.filter(|types| !types.func_info.is_empty()),
    };
    let answer = with_memlock(|| bpf::prog_load(&wanted, &mut []));
    answer.map_err(|error| {
        let lines = link::info(object, joined, &extension.lines, &origins);
        let types = wanted.types.map(|types| bpf::ProgramTypes {
            line_info: &lines,
            ..types
        });
        let wanted = bpf::NewProgram { types, ..wanted };
        explain_refusal(&error, &wanted, &poisoned, settings.verbose)
    })
}

/// The addresses that a program loads, with the read-only data that is there.
fn addresses<'a>(
    object: &Object,
    joined: &Joined,
    contents: &'a [Option<Vec<u8>>],
) -> Vec<Address<'a>> {
    let of_reference = |reference: &MapReference| {
        let content = &object.maps[reference.map].content;
        let bytes = match content {
            Content::Data { constant: true, .. } => contents[reference.map].as_deref(),
            _ => None,
        };
        let start = reference.place.unwrap_or(0) as usize;
        Address {
            instruction: reference.instruction,
            constants: bytes
                .and_then(|bytes| bytes.get(start..))
                .unwrap_or_default(),
        }
    };
    joined.maps.iter().map(of_reference).collect()
}

/// The poisoned instructions in the program that is loaded.
fn moved(poisoned: &[(usize, String)], origins: &[usize]) -> Vec<(usize, String)> {
    let place = |origin: &usize| poisoned.iter().find(|(index, _)| index == origin);
    let places = origins.iter().enumerate();
    places
        .filter_map(|(at, origin)| Some((at, place(origin)?.1.clone())))
        .collect()
}

fn explain_refusal(
    error: &Error,
    program: &bpf::NewProgram<'_>,
    poisoned: &[(usize, String)],
    verbose: bool,
) -> Error {
    let refused = |errno: i32| {
        let plain = Error::syscall("bpf(BPF_PROG_LOAD)", errno);
        explain::refused(plain.context(format!("program {}", program.name)))
    };
    let errno = error.errno().unwrap_or(0);
    if matches!(errno, bpf::EPERM | bpf::ENOSYS) || is_want(error) {
        return refused(errno);
    }
    let mut log = Vec::new();
    for size in LOG_SIZES {
        log = vec![0; size];
        match bpf::prog_load(program, &mut log) {
            // The refusal was temporary; its reason is not known.
            Ok(_) => break,
            Err(again) if again.errno() == Some(bpf::ENOSPC) => {}
            Err(_) => break,
        }
    }
    let is_silent = log.first().is_none_or(|byte| *byte == 0);
    if is_silent && errno == bpf::EACCES {
        return refused(errno);
    }
    explain::verifier(error, program.name, &log, verbose, |instruction| {
        let found = poisoned.iter().find(|(index, _)| *index == instruction);
        found.map(|(_, description)| description.clone())
    })
}

/// `enum bpf_prog_type` for a section's name, by libbpf's convention.
fn program_type(section: &str) -> Option<u32> {
    const SOCKET_FILTER: u32 = 1;
    const KPROBE: u32 = 2;
    const TRACEPOINT: u32 = 5;
    const PERF_EVENT: u32 = 7;
    const RAW_TRACEPOINT: u32 = 17;
    Some(match section.split('/').next()? {
        "raw_tp" | "raw_tracepoint" => RAW_TRACEPOINT,
        "tp" | "tracepoint" => TRACEPOINT,
        "perf_event" => PERF_EVENT,
        "kprobe" | "kretprobe" => KPROBE,
        "socket" => SOCKET_FILTER,
        _ => return None,
    })
}
