//! The commands and their arguments.

use crate::bench::Bench;
use crate::dev::Dev;
use crate::failure::{Exit, Failure};
use crate::keys::{Cas, Delete, Get, Put, Scan};
use crate::members::{Add, Cancel, Id, Logs, Members, Snapshot, Status, Transfer};
use crate::output::{Format, write};
use crate::recover::Recover;
use crate::serve::Serve;
use crate::target::Target;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use kontiki_core::membership::Change;
use std::future::Future;

/// A replicated key-value store.
///
/// Start with `kontiki dev`: it runs a group of three on this machine, and prints commands to try.
#[derive(Parser, Debug)]
#[command(name = "kontiki", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    target: Target,
    /// How the result is printed
    #[arg(long, global = true, value_enum, default_value = "human")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not done: refused, not found, or the condition does not hold
  2  the command line is invalid
  3  no member could be reached, or the time limit passed; the message tells if the outcome is unknown
  4  the member halted or refuses all requests, and has logged the reason";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a group of three members on this machine, for experiments
    Dev(Dev),
    /// Run one member
    Serve(Box<Serve>),
    /// Set the value of a key
    Put(Put),
    /// Print the value of a key
    Get(Get),
    /// Delete a key
    Delete(Delete),
    /// Set the value of a key if it has the expected value
    Cas(Cas),
    /// Print the keys and values in a range
    Scan(Scan),
    /// Print the status of the leader, of one member, or of each
    Status(Status),
    /// List the members of the group
    Members(Members),
    /// Print log entries
    Logs(Logs),
    /// Add a member that does not join by itself, such as one that was removed before
    Add(Add),
    /// Remove a member from the group
    Remove(Id),
    /// Make a learner a voter
    Promote(Id),
    /// Make a voter a learner
    Demote(Id),
    /// Cancel the change that waits for a new voter to catch up: it stays a learner
    Cancel(Cancel),
    /// Transfer leadership to another member
    Transfer(Transfer),
    /// Take a snapshot now, on the leader or on one member
    Snapshot(Snapshot),
    /// Measure throughput and latency
    Bench(Bench),
    /// Make a new group of one member. DANGER: loses entries that only other members had
    Recover(Recover),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Runs the command.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let Self { target, format, command } = self;
        match command {
            Command::Serve(serve) => serve.run(&target),
            Command::Recover(recover) => recover.run(format),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "kontiki", &mut script);
                write(&script);
                Ok(Exit::Done)
            }
            Command::Dev(dev) => wait(dev.run(format)),
            Command::Put(put) => wait(put.run(&target, format)),
            Command::Get(get) => wait(get.run(&target, format)),
            Command::Delete(delete) => wait(delete.run(&target, format)),
            Command::Cas(cas) => wait(cas.run(&target, format)),
            Command::Scan(scan) => wait(scan.run(&target, format)),
            Command::Status(status) => wait(status.run(&target, format)),
            Command::Members(members) => wait(members.run(&target, format)),
            Command::Logs(logs) => wait(logs.run(&target, format)),
            Command::Add(add) => wait(add.run(&target, format)),
            Command::Remove(id) => wait(id.change(Change::Remove, "removed", &target, format)),
            Command::Promote(id) => wait(id.change(Change::Promote, "promoted", &target, format)),
            Command::Demote(id) => wait(id.change(Change::Demote, "demoted", &target, format)),
            Command::Cancel(cancel) => wait(cancel.run(&target, format)),
            Command::Transfer(transfer) => wait(transfer.run(&target, format)),
            Command::Snapshot(snapshot) => wait(snapshot.run(&target, format)),
            Command::Bench(bench) => wait(bench.run(&target, format)),
        }
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(work);
            // A thread that waits for a hung disk must not keep the process alive.
            runtime.shutdown_background();
            done
        }
        Err(error) => {
            Err(Failure::new(Exit::Unreachable, "system", format!("cannot start the runtime: {error}")))
        }
    }
}
