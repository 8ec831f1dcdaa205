//! Kontiki's kernel beside raft-rs and omnipaxos: the same work, the same host, one run.
//!
//! ```text
//! cargo run --release --manifest-path tests/peers/Cargo.toml                  a table of all; needs valgrind
//! cargo run --release --manifest-path tests/peers/Cargo.toml -- --members 15  w1 of larger groups
//! ```
//!
//! Members live in one thread and one memory, messages wait in one queue, nothing is serialized, and a disk
//! is instant. Every run ends with a check that all members applied the same commands in one order.
//! `docs/performance.md` says what the workloads are, what came out, and what is unfair to whom.

mod counted;
mod floor;
mod kontiki;
mod omni;
mod raft_rs;

use clap::{Parser, ValueEnum};
use std::hint::black_box;
use std::process::{Command, ExitCode};

/// A group of members in one thread, of one library.
trait Group: Sized {
    /// What is proposed.
    type Payload;

    /// Returns members that have just started, for proposals that come so many at a time.
    fn cold(members: usize, batch: usize) -> Self;
    /// Takes over the bytes of a command.
    fn payload(bytes: &[u8]) -> Self::Payload;
    /// Lets time pass until there is a leader and nothing is on its way.
    fn elect(&mut self);
    /// Hands one command to the leader.
    fn propose(&mut self, payload: Self::Payload);
    /// Hands as many commands to the leader as come at a time.
    fn propose_batch(&mut self, batch: Vec<Self::Payload>);
    /// Delivers until nothing is on its way. Messages to the member `lost` are dropped.
    fn deliver(&mut self, lost: Option<usize>);
    /// Lets the time between two heartbeats pass, and delivers all that comes of it.
    fn heartbeat(&mut self);
    /// Returns what each member has applied.
    fn applied(&self) -> Vec<Applied>;
    /// Returns how many messages were sent.
    fn sent(&self) -> u64;
}

/// What a member has applied: how many commands, and a digest of them in their order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Applied {
    count: u64,
    digest: u64,
}

impl Applied {
    fn apply(&mut self, command: &[u8]) {
        let number = command.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let word = number.rotate_left(32) ^ command.len() as u64;
        self.count += 1;
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

#[derive(Parser)]
struct Arguments {
    /// Count one workload of one library, and print it as a line; of all otherwise, as a table.
    #[arg(long, value_enum, requires = "library")]
    workload: Option<Workload>,
    #[arg(long, value_enum, requires = "workload")]
    library: Option<Library>,
    /// How many operations.
    #[arg(long, default_value = "6400")]
    n: u64,
    /// How many members a group of w1 has.
    #[arg(long, default_value = "3")]
    members: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Library {
    /// The same messages and vectors, and no consensus: what this program itself costs.
    Floor,
    RaftRs,
    Omnipaxos,
    Kontiki,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// 3 members, one proposal of 16 bytes until every member has applied it.
    W1,
    /// The same, 64 proposals a round; an operation is one proposal.
    W2,
    /// 5 members, 1 KiB, 64 proposals a round.
    W3,
    /// 1,000 idle groups of 3: one heartbeat round of one group.
    W4,
    /// A follower catches up on entries of 16 bytes; an operation is one entry.
    W5,
    /// 3 cold members to a leader, and quiet.
    W6,
}

/// Proposals in a round.
const ROUND: u64 = 64;
const IDLE_GROUPS: u64 = 1_000;

struct Cost {
    operations: u64,
    allocations: u64,
    messages: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some(workload), Some(library)) = (arguments.workload, arguments.library) {
        let cost = library.run(workload, arguments.n, arguments.members);
        println!("{} {} {}", cost.operations, cost.allocations, cost.messages);
        return ExitCode::SUCCESS;
    }
    match table(arguments.members) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Prints instructions (allocations; messages) for each operation.
fn table(members: usize) -> Result<(), String> {
    let libraries = Library::value_variants();
    print!("| |");
    libraries.iter().for_each(|library| print!(" {} |", name(library)));
    println!("\n|---|{}", "--:|".repeat(libraries.len()));
    let workloads = if members == 3 { Workload::value_variants() } else { &[Workload::W1] };
    for &workload in workloads {
        print!("| {} |", name(&workload));
        for &library in libraries {
            match measure(library, workload, members) {
                Ok(cell) => print!(" {cell} |"),
                Err(reason) => return Err(format!("{}, {}: {reason}", name(&library), name(&workload))),
            }
        }
        println!();
    }
    Ok(())
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// The difference between n and 2n operations, so that beginning and end do not count.
fn measure(library: Library, workload: Workload, members: usize) -> Result<String, String> {
    let n = if workload == Workload::W6 { 200 } else { 6_400 };
    let run = |n| instructions(library, workload, n, members);
    let ((short, few), (long, many)) = (run(n)?, run(2 * n)?);
    let count = (many.operations - few.operations) as f64;
    let allocations = (many.allocations - few.allocations) as f64 / count;
    let messages = (many.messages - few.messages) as f64 / count;
    Ok(format!("{:.0} ({allocations:.2}; {messages:.2})", (long - short) as f64 / count))
}

fn instructions(library: Library, workload: Workload, n: u64, members: usize) -> Result<(u64, Cost), String> {
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*peers_measured*"])
        .args(["--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--workload", &name(&workload), "--library", &name(&library)])
        .args(["--n", &n.to_string(), "--members", &members.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind, which counts the instructions: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    let counts: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match (count, &counts[..]) {
        (Some(count), &[operations, allocations, messages]) if output.status.success() => {
            Ok((count, Cost { operations, allocations, messages }))
        }
        _ => Err(format!("valgrind did not count:\n{report}")),
    }
}

impl Library {
    fn run(self, workload: Workload, n: u64, members: usize) -> Cost {
        match self {
            Self::Floor => workload.run::<floor::Floor>(n, members),
            Self::RaftRs => workload.run::<raft_rs::RaftRs>(n, members),
            Self::Omnipaxos => workload.run::<omni::Omni>(n, members),
            Self::Kontiki => workload.run::<kontiki::Kontiki>(n, members),
        }
    }
}

impl Workload {
    fn run<G: Group>(self, n: u64, members: usize) -> Cost {
        match self {
            Self::W1 => one_by_one::<G>(members, n),
            Self::W2 => in_rounds::<G>(3, 16, n),
            Self::W3 => in_rounds::<G>(5, 1_024, n),
            Self::W4 => heartbeats::<G>(n),
            Self::W5 => catching_up::<G>(n),
            Self::W6 => elections::<G>(n),
        }
    }
}

fn one_by_one<G: Group>(members: usize, n: u64) -> Cost {
    let mut group = G::cold(members, 1);
    group.elect();
    let sent = group.sent();
    let mut bytes = [0; 16];
    let allocations = counted(|| {
        for number in 0..n {
            group.propose(command::<G>(number, &mut bytes));
            group.deliver(None);
        }
    });
    check(&group, n);
    Cost { operations: n, allocations, messages: group.sent() - sent }
}

fn in_rounds<G: Group>(members: usize, size: usize, n: u64) -> Cost {
    let rounds = n.div_ceil(ROUND);
    let mut group = G::cold(members, ROUND as usize);
    group.elect();
    let sent = group.sent();
    let mut bytes = vec![0; size];
    let allocations = counted(|| {
        for round in 0..rounds {
            let numbers = round * ROUND..(round + 1) * ROUND;
            group.propose_batch(numbers.map(|number| command::<G>(number, &mut bytes)).collect());
            group.deliver(None);
        }
    });
    check(&group, rounds * ROUND);
    Cost { operations: rounds * ROUND, allocations, messages: group.sent() - sent }
}

fn heartbeats<G: Group>(n: u64) -> Cost {
    let idle = || {
        let mut group = G::cold(3, 1);
        group.elect();
        (0..3).for_each(|_| group.heartbeat());
        group
    };
    let mut groups: Vec<_> = (0..IDLE_GROUPS).map(|_| idle()).collect();
    let sent: u64 = groups.iter().map(G::sent).sum();
    let allocations = counted(|| {
        for number in 0..n {
            groups[(number % IDLE_GROUPS) as usize].heartbeat();
        }
    });
    groups.iter().for_each(|group| check(group, 0));
    Cost { operations: n, allocations, messages: groups.iter().map(G::sent).sum::<u64>() - sent }
}

/// The last member was cut off while the others went on.
fn catching_up<G: Group>(n: u64) -> Cost {
    let rounds = n.div_ceil(ROUND);
    let mut group = G::cold(3, ROUND as usize);
    group.elect();
    let mut bytes = [0; 16];
    for round in 0..rounds {
        let numbers = round * ROUND..(round + 1) * ROUND;
        group.propose_batch(numbers.map(|number| command::<G>(number, &mut bytes)).collect());
        group.deliver(Some(2));
    }
    assert!(group.applied()[2].count < rounds * ROUND, "it lags behind");
    let sent = group.sent();
    let allocations = counted(|| {
        while group.applied()[2].count < rounds * ROUND {
            group.heartbeat();
        }
    });
    check(&group, rounds * ROUND);
    Cost { operations: rounds * ROUND, allocations, messages: group.sent() - sent }
}

fn elections<G: Group>(n: u64) -> Cost {
    let mut sent = 0;
    let allocations = counted(|| {
        for _ in 0..n {
            let mut group = G::cold(3, 1);
            group.elect();
            sent += group.sent();
            black_box(&group);
        }
    });
    Cost { operations: n, allocations, messages: sent }
}

fn command<G: Group>(number: u64, bytes: &mut [u8]) -> G::Payload {
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    G::payload(bytes)
}

/// That all members applied the same commands in one order.
fn check<G: Group>(group: &G, commands: u64) {
    let applied = group.applied();
    assert!(applied.iter().all(|member| *member == applied[0]), "{applied:?}");
    assert_eq!(applied[0].count, commands, "no command is missing");
}

/// Does what is measured, and returns how often it asked for memory.
fn counted(mut work: impl FnMut()) -> u64 {
    let before = counted::allocations();
    peers_measured(&mut work);
    counted::allocations() - before
}

/// What valgrind counts, by this name.
#[inline(never)]
fn peers_measured(work: &mut dyn FnMut()) {
    work();
}
