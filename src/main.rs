//! The binary: everything it does is in the library, see [`segfault_analyzer::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = segfault_analyzer::measure::children::run_as_child(std::env::args_os()) {
        return ExitCode::from(status);
    }
    ExitCode::from(segfault_analyzer::app::main(std::env::args_os().skip(1)))
}
