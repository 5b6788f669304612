//! Reports with other threads.

use super::*;

/// A report with a stack of one frame, and two other threads.
fn with_threads(frames: [String; 4]) -> String {
    let [own, first, second, third] = frames;
    report("null", &[own], "").replace(
        ",\"lost\"",
        &format!(
            ", \"threads\": [{{\"tid\":3,\"stack_trace\":[{first},{second}],\"stack_complete\":true}}, \
             {{\"tid\":4,\"stack_trace\":[]}},{{\"tid\":5,\"state\":\"running\"}},\
             {{\"tid\":6,\"stack_trace\":[{third}]}}],\"lost\""
        ),
    )
}

#[test]
fn frames_of_other_threads_get_names_too() {
    let scratch = Scratch::new("threads");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let id = "abcd01";
    let own = |name: &str| frame(name, "0x1310", id, "context");
    let before = with_threads([
        own("null"),
        frame("null", "0x1200", id, "context"),
        frame("null", "0x1200", id, "cfi"),
        frame("null", "0x1204", id, "context"),
    ]);
    let after = with_threads([
        own("null"),
        frame("\"second+0x0 (/srv/app)\"", "0x1200", id, "context"),
        frame("\"first+0x100 (/srv/app)\"", "0x1200", id, "cfi"),
        frame("\"second+0x4 (/srv/app)\"", "0x1204", id, "context"),
    ]);
    let named = named(&mut desk, &before);
    let up_to_lost = |line: &str| line.split("\"lost\"").next().map(str::to_owned);
    assert_eq!(up_to_lost(&named), up_to_lost(&after));
    // In whatever order the keys come.
    let key = |name: &str| before.find(&format!("\"{name}\"")).expect("a key");
    let (stack, threads, lost) = (key("stack_trace"), key("threads"), key("lost"));
    let turned = |line: &str, at: [usize; 3]| {
        let [stack, threads, lost] = at;
        let (own, others) = (&line[stack..threads - 2], &line[threads..lost - 1]);
        [&line[..stack], others, ", ", own, &line[lost - 1..]].concat()
    };
    let turned_before = turned(&before, [stack, threads, lost]);
    let key = |name: &str| after.find(&format!("\"{name}\"")).expect("a key");
    let turned_after = turned(&after, [key("stack_trace"), key("threads"), key("lost")]);
    let turned_named = self::named(&mut desk, &turned_before);
    assert_eq!(up_to_lost(&turned_named), up_to_lost(&turned_after));
    // Nothing new: every byte stays.
    let known = with_threads([
        own("\"a+0x1 (/srv/app)\""),
        frame("\"b+0x1 (/srv/app)\"", "0x1200", id, "context"),
        frame("\"c+0x1 (/srv/app)\"", "0x1200", id, "cfi"),
        frame("\"d+0x1 (/srv/app)\"", "0x1204", id, "context"),
    ]);
    assert_eq!(self::named(&mut desk, &known), known);
    // Threads that are none are not a report of ours.
    let other = before.replace("{\"tid\":4,\"stack_trace\":[]}", "4");
    assert!(is_passed_on(&mut desk, &other));
}

#[test]
fn text_of_other_threads_gets_names_and_is_not_held_back() {
    let scratch = Scratch::new("text-threads");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let before = "[2024-02-15 10:35:12.789] SEGFAULT in process app (PID: 1, TID: 2)\n\
        \x20 Fault Address: unknown\n\
        \n\
        \x20 Stack Trace (1 frames):\n\
        \x20   #0  0x555555551110 /srv/app+0x1110 (build-id abcd01)\n\
        \n\
        \x20 Other Threads (3 of 7):\n\
        \x20 Thread 4 (reader), in read(3):\n\
        \x20   #0  0x555555551200 /srv/app+0x1200 (build-id abcd01)\n\
        \x20   #1  0x555555551200 /srv/app+0x1200 (build-id abcd01)\n\
        \x20   (stack ends here: --max-stack-depth is reached)\n\
        \x20 Thread 5, running\n\
        \x20 Threads 6 to 7 (2 alike):\n\
        \x20   #0  0x555555551200 /srv/app+0x1200 (build-id abcd01)\n\
        \n\
        \x20 Mappings nearby:\n";
    let after = before
        .replace("/srv/app+0x1110 (build-id abcd01)", "first+0x10 (/srv/app)")
        .replace(
            "#0  0x555555551200 /srv/app+0x1200 (build-id abcd01)",
            "#0  0x555555551200 second+0x0 (/srv/app)",
        )
        .replace(
            "#1  0x555555551200 /srv/app+0x1200 (build-id abcd01)",
            "#1  0x555555551200 first+0x100 (/srv/app)",
        );
    assert_eq!(text(&mut desk, before), after);
    // With the line after the section, all of it has been written.
    let mut reader = TextReport::default();
    let mut out = Vec::new();
    let end = before.find("\x20 Mappings").unwrap();
    for line in before[..end].split_inclusive('\n') {
        reader.take(line.as_bytes(), &mut desk, &mut out);
    }
    assert!(out.ends_with(b"second+0x0 (/srv/app)\n\n"));
}
