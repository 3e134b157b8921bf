//! Parses arguments, calls [`vmdeck::run`], turns an error into text and an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmdeck::run::main()
}
