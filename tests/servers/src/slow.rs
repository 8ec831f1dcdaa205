//! Writes at a steady rate while a part is slow: a disk that stalls, a large snapshot.

use crate::cluster::{Cluster, MEMBERS, Settings, System};
use crate::disks::Disks;
use crate::load::{Seen, Steady};
use crate::{Programs, Result};
use clap::Args;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[derive(Args)]
pub(crate) struct Slow {
    /// Writes a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long a disk stalls, in milliseconds
    #[arg(long, default_value_t = 2_000)]
    stall: u64,
    /// How many bytes the snapshot has
    #[arg(long, default_value_t = 1 << 30)]
    snapshot: u64,
    /// How often disks stall
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Connections that the writes share.
const CONNECTIONS: u32 = 16;

/// How long the values are of which the snapshot is made.
const LARGE: usize = 256 << 10;

/// How many of the log's entries stay behind a snapshot: etcd's, which cannot be changed.
const RETAINED: u32 = 5_000;

/// How long a member may take to catch up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same timeouts for both: etcd's defaults.
fn settings() -> Settings {
    let kontiki = format!(
        "[raft]\nheartbeat_interval = \"100ms\"\nelection_timeout_min = \"1s\"\nelection_timeout_max = \"2s\"\n\
         retained_entries = {RETAINED}\n\n\
         [replica]\nsnapshot_every_bytes = 1099511627776\nsnapshot_every_entries = 1000000000\n\
         snapshot_bytes_per_second = 1073741824\n"
    );
    Settings { etcd: ["--snapshot-count", "1000"].map(str::to_owned).into(), kontiki }
}

impl Slow {
    pub(crate) async fn run(self, programs: &Programs) -> Result {
        println!("| | round | etcd p50, p99, max ms | Kontiki p50, p99, max ms |");
        println!("|---|--:|--:|--:|");
        for round in 0..self.rounds {
            let mut stalls = Vec::new();
            for system in System::ALL {
                let root = root(programs)?;
                let disks = Disks::new(root.path(), 4 << 30)?;
                let cluster = Cluster::start(system, programs, &disks.directories(), &settings()).await?;
                stalls.push(self.stalls(&cluster, &disks).await?);
                // Members end before their disks go.
                drop(cluster);
            }
            for (etcd, kontiki) in stalls[0].iter().zip(&stalls[1]) {
                println!("| {} | {} | {} | {} |", etcd.0, round + 1, figures(&etcd.1), figures(&kontiki.1));
            }
        }
        let mut snapshots = Vec::new();
        for system in System::ALL {
            let root = root(programs)?;
            let disks = Disks::new(root.path(), 8 * self.snapshot + (4 << 30))?;
            let mut cluster = Cluster::start(system, programs, &disks.directories(), &settings()).await?;
            snapshots.push(self.snapshot(&mut cluster, programs).await?);
        }
        println!(
            "| a snapshot is taken, sent and installed | | {} | {} |",
            figures(&snapshots[0]),
            figures(&snapshots[1])
        );
        let seconds = |seen: &Seen| seen.time.as_millis() as u64 / 100;
        let (etcd, kontiki) = (seconds(&snapshots[0]), seconds(&snapshots[1]));
        println!();
        println!(
            "caught up by a snapshot of {} bytes after {}.{} s (etcd), {}.{} s (Kontiki)",
            self.snapshot,
            etcd / 10,
            etcd % 10,
            kontiki / 10,
            kontiki % 10
        );
        Ok(())
    }

    /// Without a fault; while a follower's disk stalls; while the leader's does.
    async fn stalls(&self, cluster: &Cluster, disks: &Disks) -> Result<Vec<(&'static str, Seen)>> {
        let mut load = Steady::new(cluster.connect(CONNECTIONS).await?, self.rate);
        // Connections are made, and sessions are opened.
        load.run_until(pause(1_000)).await?;
        let mut seen = vec![("no fault", load.run_until(pause(self.stall + 3_000)).await?)];
        let leader = cluster.leader().await?;
        let follower = (leader + 1) % MEMBERS;
        seen.push(("a follower's disk stalls", load.run_until(self.stall(disks, follower)).await?));
        let leader = cluster.leader().await?;
        seen.push(("the leader's disk stalls", load.run_until(self.stall(disks, leader)).await?));
        Ok(seen)
    }

    async fn stall(&self, disks: &Disks, member: usize) -> Result {
        sleep(Duration::from_secs(1)).await;
        disks.freeze(member)?;
        sleep(Duration::from_millis(self.stall)).await;
        disks.thaw(member)?;
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// A member comes back that lacks more than the log has kept: it gets everything as a snapshot.
    async fn snapshot(&self, cluster: &mut Cluster, programs: &Programs) -> Result<Seen> {
        self.fill(cluster).await?;
        let leader = cluster.leader().await?;
        let behind = (leader + 1) % MEMBERS;
        cluster.kill(behind);
        self.overtake(cluster).await?;
        let mut load = Steady::new(cluster.connect(CONNECTIONS).await?, self.rate);
        load.run_until(pause(1_000)).await?;
        let target = cluster.applied(leader).await?;
        let taken = cluster.snapshot(programs)?;
        let caught_up = async {
            for mut child in taken {
                let ended = tokio::task::spawn_blocking(move || child.wait()).await??;
                if !ended.success() {
                    return Err(format!("no snapshot was taken: {ended}").into());
                }
            }
            cluster.restart(behind)?;
            let end = Instant::now() + PATIENCE;
            while cluster.applied(behind).await.unwrap_or(0) < target {
                if Instant::now() >= end {
                    return Err(format!("{} did not catch up", cluster.system.name()).into());
                }
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        load.run_until(caught_up).await
    }

    /// Writes as much as the snapshot is to hold.
    async fn fill(&self, cluster: &Cluster) -> Result {
        let values = self.snapshot / LARGE as u64;
        let mut tasks = JoinSet::new();
        for (number, mut connection) in (0..4).zip(cluster.connect(4).await?) {
            tasks.spawn(async move {
                for value in (number..values).step_by(4) {
                    connection.put(format!("large-{value}").as_bytes(), &vec![b'z'; LARGE]).await?;
                }
                Result::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Writes more entries than the log keeps behind a snapshot.
    async fn overtake(&self, cluster: &Cluster) -> Result {
        let mut tasks = JoinSet::new();
        for (number, mut connection) in cluster.connect(CONNECTIONS).await?.into_iter().enumerate() {
            tasks.spawn(async move {
                for turn in 0..2 * RETAINED / CONNECTIONS {
                    connection.put(format!("small-{number}-{turn}").as_bytes(), b"").await?;
                }
                Result::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

fn root(programs: &Programs) -> Result<tempfile::TempDir> {
    Ok(match &programs.data {
        Some(data) => tempfile::tempdir_in(data)?,
        None => tempfile::tempdir()?,
    })
}

async fn pause(millis: u64) -> Result {
    sleep(Duration::from_millis(millis)).await;
    Ok(())
}

fn figures(seen: &Seen) -> String {
    let millis = |micros: u64| format!("{}.{}", micros / 1_000, micros % 1_000 / 100);
    let at = |share| millis(seen.latency.value_at_quantile(share));
    let failed = if seen.errors > 0 { format!("; {} failed", seen.errors) } else { String::new() };
    format!("{}, {}, {}{failed}", at(0.5), at(0.99), millis(seen.latency.max()))
}
