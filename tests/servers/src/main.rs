//! Kontiki's server beside etcd's: three members of each on one machine, the same load, interleaved in one
//! run.
//!
//! ```text
//! cargo build --release -p kontiki-net-tokio --bin kontiki
//! cargo run --release --manifest-path tests/servers/Cargo.toml -- rates       clients in a closed loop
//! cargo run --release --manifest-path tests/servers/Cargo.toml -- slow        stalled disks, a large snapshot
//! ```
//!
//! Needs `etcd` (Debian's etcd-server); to build it, `protoc` (protobuf-compiler). `slow` needs root: each
//! member gets a file system of its own, which is frozen. All traffic is on the loopback interface.
//! `docs/performance.md` says what came out, and what is unfair to whom.

mod cluster;
mod disks;
mod floor;
mod load;
mod rates;
mod slow;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// What goes wrong ends the run, and says so.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T = ()> = std::result::Result<T, Error>;

/// Measures Kontiki's server and etcd's under the same load.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    programs: Programs,
    #[command(subcommand)]
    what: What,
}

#[derive(Args, Clone, Debug)]
struct Programs {
    /// The program etcd
    #[arg(long, default_value = "etcd", value_name = "FILE", global = true)]
    etcd: PathBuf,
    /// The program kontiki
    #[arg(long, default_value = "target/release/kontiki", value_name = "FILE", global = true)]
    kontiki: PathBuf,
    /// Where the members' data goes [default: the directory for temporary files]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Writes and reads a second, and their latencies, of clients that wait for each answer
    Rates(rates::Rates),
    /// Latencies of writes at a steady rate while disks stall, and while a large snapshot is sent
    Slow(slow::Slow),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { programs, what } = Arguments::parse();
    let done = match what {
        What::Rates(rates) => rates.run(&programs).await,
        What::Slow(slow) => slow.run(&programs).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
