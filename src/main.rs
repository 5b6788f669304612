//! The binary: everything it does is in the library, see [`segfault_analyzer::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    segfault_analyzer::sys::own_crash::announce();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    // If this process is a child that must fault on purpose.
    segfault_analyzer::measure::children::run_as_child(&name, &mut args);
    ExitCode::from(segfault_analyzer::app::main(args))
}
