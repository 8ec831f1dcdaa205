//! How long a group of three real members does without a leader: the leader is killed under load, and the
//! next write is waited for.
//!
//! ```text
//! cargo build --release -p kontiki-net-tokio --bin kontiki
//! cargo run --release -p kontiki-tests --bin failover -- --rounds 50
//! ```
//!
//! The time runs from just before SIGKILL until the first acknowledgement of a write that began after it. At
//! the end everything is checked that the tests of real members check: the history is linearizable, and
//! nothing acknowledged is lost.
#![allow(clippy::float_arithmetic, reason = "figures for people: nothing is decided by them")]

#[allow(dead_code, reason = "tests use all of it")]
#[path = "../../real/harness.rs"]
mod harness;
#[allow(dead_code, reason = "tests use all of it")]
#[path = "../../real/load.rs"]
mod load;

use clap::Parser;
use harness::{Group, run};
use load::{Load, Plan};
use std::time::{Duration, Instant};

/// Kills the leader of three members under load, again and again, and measures until a write succeeds again.
#[derive(Parser)]
struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// How many clients.
    #[arg(long, default_value_t = 8)]
    clients: u64,
    /// How long each waits between two requests, in milliseconds.
    #[arg(long, default_value_t = 2)]
    pause: u64,
    /// The longest election timeout, in milliseconds; the shortest is half of it, and heartbeats come six
    /// times as often.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

fn main() {
    let Arguments { rounds, clients, pause, timeout } = Arguments::parse();
    let config = format!(
        "[raft]\nelection_timeout_max = \"{timeout}ms\"\nelection_timeout_min = \"{}ms\"\nheartbeat_interval = \"{}ms\"\n",
        timeout / 2,
        timeout / 6
    );
    run(
        || Group::new(3, &config),
        async |group| {
            group.start_all()?;
            group.leader().await?;
            let plan = Plan { clients, pause: Duration::from_millis(pause), ..Plan::default() };
            let load = Load::start(group, plan);
            load.goes_on(200).await?;
            let mut times = Vec::new();
            for round in 1..=rounds {
                let leader = group.leader().await?;
                let killed = Instant::now();
                group.member(leader).kill()?;
                let time = load.served_since(killed).await?;
                println!("round {round}: {} ms without member {leader}", time.as_millis());
                times.push(time);
                group.member(leader).start()?;
                group.caught_up(leader).await?;
                load.goes_on(100).await?;
            }
            times.sort_unstable();
            let report = load.end(group).await?;
            let line = |name: &str, time: Duration| {
                let in_timeouts = time.as_secs_f64() * 1000.0 / timeout as f64;
                println!("{name} {} ms, {in_timeouts:.2} of the longest election timeout", time.as_millis());
            };
            if let (Some(most), Some(median)) = (times.last(), times.get(times.len() / 2)) {
                line("median", *median);
                line("max   ", *most);
            }
            println!("{report}");
            Ok(())
        },
    );
}
