//! The binary `kontiki`: serves a member of a group, and is a client of one. `docs/kontiki.md` is its manual.
#![forbid(unsafe_code)]
// They panic if the reader of the output has ended: `output` has functions that do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cli;
mod config;
mod dev;
mod failure;
mod keys;
mod members;
mod output;
mod recover;
mod serve;
mod target;
#[cfg(test)]
mod tests;

use clap::Parser as _;
use cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format();
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report(format);
            failure.exit.into()
        }
    }
}
