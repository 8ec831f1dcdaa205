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

/// A replicated key-value store, and the members that replicate it.
///
/// Start with `kontiki dev`: it runs a group of three on this machine, and says what to type next.
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
  2  the command line makes no sense
  3  nobody could be reached or the time was up; whether it was done may be unknown, and then is said
  4  the member goes no further or refuses everything, and has said why";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a group of three members on this machine, to try things out
    Dev(Dev),
    /// Run one member
    Serve(Box<Serve>),
    /// Give a key a value
    Put(Put),
    /// Print the value of a key
    Get(Get),
    /// Take a key out
    Delete(Delete),
    /// Give a key a value if it has the one that is expected
    Cas(Cas),
    /// Print keys and values in a range
    Scan(Scan),
    /// Tell how the leader is, or one member, or each
    Status(Status),
    /// List the members of the group
    Members(Members),
    /// Print entries of the log
    Logs(Logs),
    /// Add a member that does not ask by itself, such as one that was removed before
    Add(Add),
    /// Take a member out of the group
    Remove(Id),
    /// Have a learner vote
    Promote(Id),
    /// Have a voter only learn
    Demote(Id),
    /// Give up the change that waits for a new voter to catch up: it stays a learner
    Cancel(Cancel),
    /// Have another member lead
    Transfer(Transfer),
    /// Have a snapshot taken now, by the leader or one member
    Snapshot(Snapshot),
    /// Measure throughput and latency
    Bench(Bench),
    /// Make a new group of one member. DANGER: loses what only the others had
    Recover(Recover),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Cli {
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Does what the command says.
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

/// Runs something to its end on this thread.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(work);
            // A thread that a disk has hung up must not keep the process.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::new(Exit::Unreachable, "system", format!("the system refuses: {error}"))),
    }
}
