//! Any bytes as a symbol's name: what is made of it is bounded, in length and in time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::symbols::demangle::{demangle, demangle_cpp, MAX_OUTPUT};

fuzz_target!(|name: &[u8]| {
    assert!(demangle(name).len() <= name.len().max(MAX_OUTPUT));
    let whole = demangle_cpp(name, true);
    let short = demangle_cpp(name, false);
    assert!(whole.iter().chain(&short).all(|shown| shown.len() <= MAX_OUTPUT));
});
