//! What is said to the user beside the reports.
//!
//! Nothing that is said on standard error may hold up the work: a closed one is
//! nobody's trouble, and a reader that has stopped costs the message, not the
//! tool.

use std::io::Write as _;

use crate::base::error::Result;
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

/// What was asked for, on standard output.
pub fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text)?;
    Ok(stdout.flush()?)
}
