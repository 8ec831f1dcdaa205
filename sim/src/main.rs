//! The simulator as a program: `kontiki-sim run`, `replay` and `scenario`.

// They panic where the reader has gone: `cli` has functions that do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

/// Exit status: everything held.
const HELD: u8 = 0;
/// Exit status: a property was violated.
const VIOLATED: u8 = 1;
/// Exit status: the call was wrong.
const WRONG_CALL: u8 = 2;

fn main() -> ExitCode {
    kontiki_sim::quiet_kernel_panics();
    match cli::Cli::parse().run() {
        Ok(true) => ExitCode::from(HELD),
        Ok(false) => ExitCode::from(VIOLATED),
        Err(error) => {
            cli::note(&format!("error: {error}"));
            ExitCode::from(WRONG_CALL)
        }
    }
}
