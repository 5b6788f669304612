//! Any bytes as a core file: the event of it is ordered and bounded, whatever they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::corefile::read::Core;
use segfault_analyzer::corefile::recall::{identify, recall, WINDOW_BYTES};
use segfault_analyzer::corefile::threads;
use segfault_analyzer::symbols::elf::Source;

fuzz_target!(|bytes: &[u8]| {
    let size = bytes.len();
    let Ok(mut core) = Core::read(Source::memory(bytes.to_vec())) else {
        return;
    };
    let mut recalled = recall(&core);
    assert!(recalled.window_bytes <= WINDOW_BYTES);
    let event = &recalled.event;
    for pair in event.mappings.windows(2) {
        assert!(pair[0].start < pair[0].end && pair[0].end <= pair[1].start);
    }
    for window in event.windows.iter().chain(&event.memory) {
        assert!(!window.bytes.is_empty() && window.bytes.len() <= size);
    }
    for pair in event.windows.windows(2) {
        assert!(pair[0].address.0 + pair[0].bytes.len() as u64 <= pair[1].address.0);
    }
    threads::recall(&mut core, &mut recalled.event);
    let threads = recalled.event.threads.take().expect("asked for");
    assert!(threads.list.len() <= 1024);
    for window in threads.list.iter().flat_map(|thread| &thread.windows) {
        assert!(!window.bytes.is_empty() && window.bytes.len() <= size);
    }
    identify(&mut recalled.event, 0, &|_| false, &|_| None);
});
