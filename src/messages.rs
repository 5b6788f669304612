//! What is said to the user on standard error, beside the reports.
//!
//! Nothing that is said may hold up the work: a closed standard error is
//! nobody's trouble, and a reader that has stopped costs the message, not the
//! tool.

use std::io::Write as _;

use crate::sys::output_file::is_writable;

/// One line, or a page of several.
pub fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    if is_writable(&stderr) {
        let _ = writeln!(stderr, "{text}");
    }
}

/// The last words of a program that ends: whole, however long that takes.
pub fn say_last(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
