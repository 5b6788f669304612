//! Messages to the user on standard error.
//!
//! A message never blocks: if standard error is closed, or its reader has stopped, the
//! message is dropped.

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

/// The last message of a program that ends: it waits until the message is written.
pub fn say_last(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints requested text on standard output.
pub fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text)?;
    Ok(stdout.flush()?)
}
