use super::*;
use crate::base::address::FileAddress;
use crate::report::Symbol;

const EXE: &str = "/srv/bill";

fn location(module: &str, offset: u64, name: &str) -> Location {
    Location {
        symbol: (!name.is_empty()).then(|| Symbol {
            name: name.as_bytes().to_vec(),
            offset: 4,
        }),
        module: Some(module.as_bytes().to_vec()),
        module_offset: Some(FileAddress(offset)),
        build_id: Some(vec![0xab, module.len() as u8]),
        ..Location::default()
    }
}

fn place(trust: Trust, location: &Location) -> Place<'_> {
    Place {
        trust,
        fault: false,
        unread: false,
        proven: false,
        keeps_frame_pointers: false,
        function: None,
        location,
    }
}

fn value(cause: &str, exe: &str, places: &[Place<'_>]) -> Signature {
    let crash = Crash {
        signal: 11,
        cause: cause.as_bytes(),
        exe: Some(exe.as_bytes()),
    };
    Signature::of(&crash, places)
}

fn of(places: &[(Trust, Location)]) -> Signature {
    let places = places.iter().map(|(trust, at)| place(*trust, at));
    let places: Vec<Place<'_>> = places.collect();
    value("null_dereference", EXE, &places)
}

/// Frames by words: `e` the executable's, `l` and `m` libraries', `c` the C library's, and
/// what follows the number of the place; behind a colon its name.
fn stack(words: &str) -> Vec<Location> {
    let words = words.split(' ').filter(|word| !word.is_empty());
    let frame = |word: &str| {
        let (place, name) = word.split_once(':').unwrap_or((word, ""));
        let module = match &place[..1] {
            "e" => EXE,
            "l" => "/lib/libxml2.so.2",
            "m" => "/lib/libother.so",
            "c" => "/lib/libc.so.6",
            _ => "/lib/libstdc++.so.6",
        };
        let number = place[1..].parse().expect("a number");
        location(module, number, name)
    };
    words.map(frame).collect()
}

fn of_stack(cause: &str, words: &str) -> Signature {
    let frames = stack(words);
    let places: Vec<Place<'_>> = frames.iter().map(|at| place(Trust::Cfi, at)).collect();
    value(cause, EXE, &places)
}

fn abort(words: &str) -> Signature {
    of_stack("abort", words)
}

fn fault(words: &str) -> Signature {
    of_stack("unmapped", words)
}

/// Values of one version are compared with those of the next: FNV-1a of the text that
/// the module's page describes.
#[test]
fn the_values_are_those_of_the_description() {
    // "foobar" is an example of the algorithm's authors: 0x85944171f73967e8; the newline
    // makes one more step.
    let mut plain = Fnv::default();
    plain.line(b"foobar");
    assert_eq!(plain.0, 0x3453_16a7_168b_8506);
    let text = |text: &str| {
        let mut fnv = Fnv::default();
        text.split('\n').for_each(|line| fnv.line(line.as_bytes()));
        Some(fnv.0)
    };
    let one = of(&[(Trust::Context, location(EXE, 0x1234, "f.part.0"))]);
    assert_eq!(one.signature, text("2\n11\nnull_dereference\nab09+1234"));
    assert_eq!(one.group, text("2\n11\nnull_dereference\nbill\nf"));
    let library = of(&[(Trust::Context, location("/lib/libz.so", 1, "g"))]);
    assert_eq!(
        library.signature,
        text("2\n11\nnull_dereference\nbill\nab0c+1")
    );
    let called = fault("c1:strlen c2:puts e3:f c4:qsort e5:main");
    assert_eq!(
        called.signature,
        text("2\n11\nunmapped\n[runtime]\nab09+3\nab09+5")
    );
    assert_eq!(
        called.group,
        text("2\n11\nunmapped\nbill\n[runtime]\nf\nmain")
    );
    let died = abort("c1:raise c2:abort e3:f e4:main");
    assert_eq!(died.signature, text("2\n11\nabort\nab09+3\nab09+4"));
    assert_eq!(died.group, text("2\n11\nabort\nbill\nf\nmain"));
}

#[test]
fn the_executable_is_part_of_both() {
    let inside = stack("l1:f l2:g l3:h");
    let places: Vec<Place<'_>> = inside.iter().map(|at| place(Trust::Cfi, at)).collect();
    let [one, other] = ["/bin/one", "/bin/other"].map(|exe| value("unmapped", exe, &places));
    assert_ne!(one.signature, other.signature);
    assert_ne!(one.group, other.group);
    let moved = value("unmapped", "/mnt/root/bin/one (deleted)", &places);
    assert_eq!(one, moved, "where it lies is chance");
    let crash = Crash {
        signal: 11,
        cause: b"unmapped",
        exe: None,
    };
    assert_eq!(Signature::of(&crash, &places), Signature::default());
}

#[test]
fn names_change_the_group_alone() {
    let named = of(&[(Trust::Cfi, location(EXE, 16, "f"))]);
    let stripped = of(&[(Trust::Cfi, location(EXE, 16, ""))]);
    let rebuilt = of(&[(Trust::Cfi, location(EXE, 32, "f"))]);
    assert_eq!(named.signature, stripped.signature);
    assert_ne!(named.group, stripped.group);
    assert_ne!(named.signature, rebuilt.signature);
    assert_eq!(named.group, rebuilt.group);
}

#[test]
fn places_without_names_are_distinguished() {
    let at = |module, offset| of(&[(Trust::Context, location(module, offset, ""))]);
    assert_ne!(at(EXE, 16).group, at(EXE, 32).group);
    assert_eq!(at(EXE, 16), at("/mnt/bill", 16), "one build");
}

#[test]
fn frames_that_were_guessed_do_not_count() {
    let sure = (Trust::Cfi, location(EXE, 16, "f"));
    let guess = (Trust::Scan, location(EXE, 99, "g"));
    assert_eq!(of(&[sure.clone(), guess]), of(&[sure]));
}

/// Go's code has no other sign of its callers; all its panics would be one.
#[test]
fn frame_pointers_count_where_all_code_keeps_them() {
    let of = |words: &str, keeps_frame_pointers| {
        let frames = stack(words);
        let mut places: Vec<Place<'_>> = Vec::new();
        for at in &frames {
            places.push(Place {
                keeps_frame_pointers,
                ..place(Trust::FramePointer, at)
            });
        }
        places[0].trust = Trust::Context;
        value("abort", EXE, &places)
    };
    let [one, other] = ["e5:main.a", "e6:main.b"].map(|bug| {
        let way = "e1:runtime.raise e2:runtime.crash e3:runtime.gopanic";
        [true, false].map(|keeps| of(&format!("{way} {bug} e4:main.main"), keeps))
    });
    assert_ne!(one[0].signature, other[0].signature);
    assert_ne!(one[0].group, other[0].group);
    assert_eq!(one[1], other[1], "elsewhere they are a guess");
}

/// All calls of null would be one bug.
#[test]
fn who_called_what_is_no_code_counts() {
    let nowhere = (Trust::Context, Location::default());
    let caller = |offset| (Trust::Leaf, location(EXE, offset, "f"));
    let main = (Trust::Cfi, location(EXE, 99, "main"));
    let through = |offset| of(&[nowhere.clone(), caller(offset), main.clone()]);
    assert_ne!(through(1).signature, through(2).signature);
    let code = (Trust::Context, location(EXE, 7, "g"));
    let guessed = |offset| of(&[code.clone(), caller(offset), main.clone()]);
    assert_eq!(guessed(1), guessed(2));
}

#[test]
fn five_lines_count_and_no_more() {
    assert_eq!(fault("e1 e2 e3 e4 e5 e6 e7"), fault("e1 e2 e3 e4 e5"));
    assert_ne!(fault("e1 e2 e3 e4 e5"), fault("e1 e2 e3 e4"));
    assert_eq!(
        fault("e1 e2 e2 e2 e3"),
        fault("e1 e2 e3"),
        "how deep is chance"
    );
    assert_eq!(fault("e1 e2 e3 e2 e3 e4"), fault("e1 e2 e3 e4"));
}

/// The functions with which a library ends a program are the same for all its users.
#[test]
fn deaths_count_from_where_the_program_is_left() {
    let assert_ = "c1:raise c2:abort c3 c4:__assert_fail";
    let heap = "c1:raise c2:abort c5 c6 c7:free";
    let thrown = "c1:raise c2:abort s1 s2 s3 s4:__cxa_throw s5";
    for way in [assert_, heap, thrown] {
        let one = abort(&format!("{way} e1:f e2:main c9"));
        let other = abort(&format!("{way} e3:g e2:main c9"));
        assert_ne!(one.signature, other.signature, "{way}");
        assert_ne!(one.group, other.group, "{way}");
        assert_eq!(one, abort(&format!("{assert_} e1:f e2:main")), "{way}");
    }
    assert_ne!(
        abort("c1 c2 c3 c4"),
        abort("c1 c2 c3 c5"),
        "all that there is"
    );
    // Not every SIGABRT is one.
    assert_ne!(of_stack("sent", "c1 e1"), of_stack("sent", "e1"));
}

/// Rust's std, a static C library and Go's runtime are part of the executable.
#[test]
fn deaths_in_the_executables_own_code_are_distinguished() {
    let own =
        "e1:rust_panic e2:std::panicking::rust_panic_with_hook e3:std::panicking::f e4:core::g \
        e5:rust_begin_unwind e6:core::panicking::panic_fmt e7:core::panicking::panic_bounds_check";
    let stripped = "e1 e2 e3 e4 e5 e6 e7";
    let one = abort(&format!("c1:abort {own} e8:bill::f e9:main"));
    let other = abort(&format!("c1:abort {own} e10:bill::g e9:main"));
    assert_ne!(one.signature, other.signature);
    assert_ne!(one.group, other.group);
    let nameless = abort(&format!("c1 {stripped} e8 e9"));
    assert_eq!(one.signature, nameless.signature);
    let elsewhere = nameless.group != abort(&format!("c1 {stripped} e10 e9")).group;
    assert!(elsewhere, "by the place alone");
    let way = "e21:abort e22:__assert_fail";
    let rebuilt = abort(&format!("{way} e28:bill::f e29:main"));
    assert_eq!(one.group, rebuilt.group);
}

#[test]
fn callers_of_one_library_are_distinguished() {
    let inside = "l1 l2 l3 l4 l5 l6";
    assert_ne!(
        fault(&format!("{inside} e1")),
        fault(&format!("{inside} e2"))
    );
    assert_ne!(
        fault(&format!("{inside} e1 e2")),
        fault(&format!("{inside} e1 e3"))
    );
    assert_eq!(
        fault(&format!("{inside} e1 e2 e3")),
        fault(&format!("{inside} e1 e2 e4"))
    );
    assert_eq!(
        fault("l1 l2 l1 l2 l1 l2 e1 e2"),
        fault("l1 l2 e1 e2"),
        "its recursion"
    );
    assert_ne!(
        fault(&format!("{inside} m1 e2")),
        fault(&format!("{inside} m1 e3"))
    );
}

/// The processor decides which strlen runs, and the debug file what its name is.
#[test]
fn the_c_library_counts_by_its_callers() {
    let evex = fault("c1 e1:f e2:main c7");
    let sse2 = fault("c2:__strlen_sse2 e1:f e2:main c8:__libc_start_call_main");
    assert_eq!(evex, sse2);
    assert_ne!(evex.signature, fault("c1 e3:f e2:main c7").signature);
    assert_ne!(evex.group, fault("c1 e1:g e2:main c7").group);
    assert_ne!(
        evex,
        fault("e1:f e2:main c7"),
        "nor is it the program's own fault"
    );
    assert_ne!(fault("c1 c2"), fault("c1 c3"), "all that there is");
}

/// One place in a library may call anything, as in libffi.
#[test]
fn what_a_library_called_is_distinguished() {
    let through = |called: &str| format!("{called} l1 l2 l3 e1:f e2:main");
    let [length, copy] = ["c1", "c2"].map(|called| fault(&through(called)));
    assert_ne!(length.signature, copy.signature);
    assert_eq!(length.group, copy.group, "neither has a name everywhere");
    let variant = fault(&through("c1:__strlen_avx2"));
    assert_eq!(length, variant, "on hosts with a debug file");
    let [died, freed] = ["c1 c2:abort", "c1 c2 c3:free"].map(|called| abort(&through(called)));
    assert_ne!(died.signature, freed.signature);
    assert_ne!(died.group, freed.group);
}

/// A full stack may be met anywhere in a recursion.
#[test]
fn one_recursion_has_one_value() {
    let frames = |names: &str| -> Vec<Location> {
        let number = |name| u64::from(name as u32);
        let names = names.chars();
        names
            .map(|name| location(EXE, number(name), &name.to_string()))
            .collect()
    };
    let of = |names: &str| {
        let frames = frames(names);
        let places: Vec<Place<'_>> = frames.iter().map(|at| place(Trust::Cfi, at)).collect();
        value("stack_overflow", EXE, &places)
    };
    assert_eq!(of("xababab"), of("ybabab"));
    assert_eq!(of("xababab"), of("pqabab"), "in a function that they call");
    assert_ne!(of("xababab"), of("xacacac"));
    assert_ne!(of("xababab"), of("xaaaa"));
    assert_eq!(of("xmn"), of("ymn"), "a large frame: no recursion");
    assert_ne!(of("xmn"), of("xon"));
    assert_eq!(of("xmnopq"), of("ymnopr"), "what calls them all");
    assert_eq!(of("x"), of("y"));
    assert_eq!(of(""), of("x"));
}

#[test]
fn what_chance_decides_is_left_out() {
    let at = |module: &str| Location {
        build_id: None,
        module_offset: None,
        ..location(module, 0, "")
    };
    let places = ["[heap]", "[anon]", "[stack]"].map(|module| of(&[(Trust::Context, at(module))]));
    assert_eq!(places[0], places[1]);
    assert_eq!(places[0], places[2]);
    assert_eq!(places[0], of(&[(Trust::Context, Location::default())]));
    let vdso = |offset| of(&[(Trust::Cfi, location("[vdso]", offset, "clock_gettime"))]);
    assert_eq!(vdso(1), vdso(2));
}

#[test]
fn a_handlers_frames_are_passed_over() {
    let frames = ["raise", "on_segv", "f", "main"].map(|name| location(EXE, 1, name));
    let places: Vec<Place<'_>> = frames
        .iter()
        .zip([Trust::Context, Trust::Cfi, Trust::Signal, Trust::Cfi])
        .map(|(location, trust)| Place {
            fault: trust == Trust::Signal,
            ..place(trust, location)
        })
        .collect();
    let direct = value("unmapped", EXE, &places[2..]);
    assert_eq!(value("unmapped", EXE, &places), direct);
}

/// A sort of an array may call itself from two places, in an order that its values decide.
#[test]
fn the_way_of_a_recursion_is_no_part_of_a_signature() {
    let of = |calls: &str| {
        let stack = stack(calls);
        let function = |at: &Location| match at.module_offset.unwrap().0 {
            10..20 => Some(FileAddress(10)),
            20..30 => Some(FileAddress(20)),
            _ => None,
        };
        let places: Vec<Place<'_>> = stack
            .iter()
            .map(|at| Place {
                function: function(at),
                ..place(Trust::Cfi, at)
            })
            .collect();
        value("null_dereference", EXE, &places).signature
    };
    let expected = of("e1 e12 e14 e12 e3");
    assert_eq!(of("e1 e14 e12 e14 e14 e14 e3"), expected);
    assert_ne!(of("e1 e14 e12 e14 e14 e14 e4"), expected, "another caller");
    assert_ne!(of("e2 e14 e12 e14 e14 e14 e3"), expected, "another place");
    assert_ne!(of("e1 e12 e3"), of("e1 e14 e3"), "no recursion");
    assert_ne!(of("e12 e14 e3"), of("e14 e14 e3"), "the crash's own place");
    assert_eq!(of("e1 e12 e22 e14 e24 e3"), of("e1 e14 e23 e13 e22 e3"));
}

/// Behind a file that cannot be read the callers are another's luck.
#[test]
fn there_is_no_value_where_luck_would_make_it() {
    let of = |cause: &str, words: &str, unread: &[usize], trust: &[(usize, Trust)]| {
        let frames = stack(words);
        let mut places: Vec<Place<'_>> = frames.iter().map(|at| place(Trust::Cfi, at)).collect();
        unread.iter().for_each(|&at| places[at].unread = true);
        trust
            .iter()
            .for_each(|&(at, trust)| places[at].trust = trust);
        value(cause, EXE, &places)
    };
    let words = "e1:a e2:b l3:c e4:d e5:e e6:f";
    let whole = of("unmapped", words, &[], &[]);
    assert!(whole.signature.is_some() && whole.group.is_some());
    assert_eq!(of("unmapped", words, &[5], &[]), whole, "not needed");
    let last = of("unmapped", words, &[4], &[]);
    assert_eq!(last.signature, whole.signature, "its own place is known");
    for at in 0..4 {
        assert_eq!(
            of("unmapped", words, &[at], &[]),
            Signature::default(),
            "{at}"
        );
        // Though it was only searched for, it would have led on.
        let scanned = of("unmapped", words, &[at], &[(at, Trust::Scan)]);
        assert_eq!(scanned, Signature::default(), "{at}");
    }
    assert_eq!(of("unmapped", "e1:a e2:b", &[1], &[]), Signature::default());
    assert_eq!(
        of("unmapped", "c1 c2 e1 e2 e3 e4", &[1], &[]),
        Signature::default()
    );
    assert_eq!(
        of("abort", "c1 c2 e1 e2 e3 e4", &[1], &[]),
        Signature::default()
    );
    assert_eq!(
        of("stack_overflow", "e1 e1 e1 e1", &[2], &[]),
        Signature::default()
    );
}

/// The first frame outside of a runtime without call-frame information.
#[test]
fn a_proven_caller_counts_in_a_group() {
    let value = |cause: &str, caller: &str, proven: bool| {
        let frames = stack(&format!("c1:raise c2:abort {caller} e9:main"));
        let trust = [Trust::Context, Trust::ScanDirect, Trust::Scan, Trust::Cfi];
        let places: Vec<Place<'_>> = std::iter::zip(trust, &frames)
            .map(|(trust, at)| Place {
                proven,
                ..place(trust, at)
            })
            .collect();
        value(cause, EXE, &places)
    };
    for cause in ["abort", "null_dereference"] {
        let [one, other] = ["e3:one", "e4:other"].map(|caller| value(cause, caller, true));
        assert_ne!(one.group, other.group, "{cause}");
        assert_eq!(one.signature, other.signature, "{cause}: needs symbols");
        let [one, other] = ["e3:one", "e4:other"].map(|caller| value(cause, caller, false));
        assert_eq!(one, other, "{cause}: may be left over");
    }
}
