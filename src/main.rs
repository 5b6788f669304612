//! The binary: everything it does is in the library, see [`segfault_analyzer::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(segfault_analyzer::app::main(std::env::args_os().skip(1)))
}
