//! Clients in a closed loop: each asks again as soon as it has an answer.

use crate::cluster::{Cluster, Connection, MEMBERS, Settings, System};
use crate::floor::{self, Floor};
use crate::load::{Kind, Seen, closed, micros};
use crate::{Programs, Result};
use clap::Args;
use std::fs::create_dir;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct Rates {
    /// How many clients
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<u32>,
    /// How often each measurement is made
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long it takes, in milliseconds
    #[arg(long, default_value_t = 3_000)]
    time: u64,
}

/// How many connections clients share at most, where they share them.
const SHARED: u32 = 16;

/// What is measured in each round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Case {
    clients: u32,
    connections: u32,
    kind: Kind,
}

/// What one system did in a case, a figure for each round.
struct Line {
    case: Case,
    system: System,
    rates: Vec<u64>,
    p50: Vec<u64>,
    p99: Vec<u64>,
    errors: u64,
}

impl Rates {
    pub(crate) async fn run(self, programs: &Programs) -> Result {
        let root = match &programs.data {
            Some(data) => tempfile::tempdir_in(data)?,
            None => tempfile::tempdir()?,
        };
        let mut clusters = Vec::new();
        for system in System::ALL {
            let directories = directories(root.path(), system)?;
            clusters.push(Cluster::start(system, programs, &directories, &Settings::default()).await?);
        }
        let cases = self.cases();
        let mut lines: Vec<_> =
            cases.iter().flat_map(|&case| System::ALL.map(|system| Line::new(case, system))).collect();
        let mut floors = Vec::new();
        for round in 0..self.rounds {
            for &case in &cases {
                floors.push(floor::measure(root.path(), Duration::from_millis(300))?);
                for turn in 0..clusters.len() {
                    // The other one first, in every second round.
                    let cluster = &clusters[(turn + round as usize) % clusters.len()];
                    let seen = self.measure(cluster, case).await?;
                    let line =
                        lines.iter_mut().find(|line| line.case == case && line.system == cluster.system);
                    line.expect("there is one for each").add(&seen);
                }
            }
            eprintln!("round {} of {} is done", round + 1, self.rounds);
        }
        print(&lines, &floors);
        Ok(())
    }

    /// Clients that share connections, and those that have one each, where that is not the same.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &clients in &self.clients {
            for kind in Kind::ALL {
                cases.push(Case { clients, connections: clients.min(SHARED), kind });
                if clients > SHARED {
                    cases.push(Case { clients, connections: clients, kind });
                }
            }
        }
        cases
    }

    async fn measure(&self, cluster: &Cluster, case: Case) -> Result<Seen> {
        let connections: Vec<Connection> = cluster.connect(case.connections).await?;
        closed(&connections, case.clients, case.kind, Duration::from_millis(self.time)).await
    }
}

/// A directory for each member.
fn directories(root: &Path, system: System) -> Result<[PathBuf; MEMBERS]> {
    let directory = |number: usize| root.join(format!("{}-{number}", system.name()));
    let directories = [directory(0), directory(1), directory(2)];
    for directory in &directories {
        create_dir(directory)?;
    }
    Ok(directories)
}

impl Line {
    fn new(case: Case, system: System) -> Self {
        Self { case, system, rates: Vec::new(), p50: Vec::new(), p99: Vec::new(), errors: 0 }
    }

    fn add(&mut self, seen: &Seen) {
        self.rates.push(seen.per_second());
        self.p50.push(seen.latency.value_at_quantile(0.5));
        self.p99.push(seen.latency.value_at_quantile(0.99));
        self.errors += seen.errors;
    }
}

fn median(figures: &[u64]) -> u64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn range(figures: &[u64]) -> String {
    let (least, most) = (figures.iter().min().unwrap_or(&0), figures.iter().max().unwrap_or(&0));
    format!("{least} to {most}")
}

/// Hundredths, as people write them.
fn hundredths(figure: u64) -> String {
    format!("{}.{:02}", figure / 100, figure % 100)
}

fn print(lines: &[Line], floors: &[Floor]) {
    let all = |part: fn(&Floor) -> Duration| {
        let figures: Vec<_> = floors.iter().map(|floor| micros(part(floor))).collect();
        format!("{} us ({})", median(&figures), range(&figures))
    };
    println!("two syncs and two round trips: {}", all(|floor| floor.write));
    println!("one sync: {}", all(|floor| floor.sync));
    println!("one round trip: {}", all(|floor| floor.round_trip));
    println!();
    println!(
        "| | clients | connections | etcd, a second | p50, p99 ms | Kontiki, a second | p50, p99 ms | ratio | in each round |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|---|");
    for pair in lines.chunks(2) {
        let [etcd, kontiki] = pair else { unreachable!("a line for each system") };
        let Case { clients, connections, kind } = etcd.case;
        let ratio = |ours: u64, theirs: u64| hundredths(ours * 100 / theirs.max(1));
        let rounds: Vec<_> =
            kontiki.rates.iter().zip(&etcd.rates).map(|(ours, theirs)| ratio(*ours, *theirs)).collect();
        let latency = |line: &Line| {
            let millis = |figures| hundredths(median(figures) / 10);
            format!("{}, {}", millis(&line.p50), millis(&line.p99))
        };
        println!(
            "| {} | {clients} | {connections} | {} | {} | {} | {} | {} | {} |",
            kind.name(),
            median(&etcd.rates),
            latency(etcd),
            median(&kontiki.rates),
            latency(kontiki),
            ratio(median(&kontiki.rates), median(&etcd.rates)),
            rounds.join(", "),
        );
    }
    for line in lines.iter().filter(|line| line.errors > 0) {
        println!("{} requests of {} failed in {:?}", line.errors, line.system.name(), line.case);
    }
}
