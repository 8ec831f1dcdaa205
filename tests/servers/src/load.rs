//! Clients, and how long they wait.

use crate::Result;
use crate::cluster::Connection;
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What clients ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Writes,
    Reads,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Writes, Self::Reads];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Reads => "reads",
        }
    }
}

/// How long values are.
pub(crate) const VALUE: usize = 256;

/// How many keys each client uses.
const KEYS: u32 = 1_000;

/// How long clients run before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// What clients saw.
pub(crate) struct Seen {
    /// In microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) errors: u64,
    pub(crate) time: Duration,
}

impl Seen {
    fn new(time: Duration) -> Self {
        Self { latency: histogram(), errors: 0, time }
    }

    pub(crate) fn per_second(&self) -> u64 {
        let millis = self.time.as_millis().max(1);
        u64::try_from(u128::from(self.latency.len()) * 1_000 / millis).unwrap_or(u64::MAX)
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn ask(connection: &mut Connection, kind: Kind, key: &[u8], value: &[u8]) -> Result {
    match kind {
        Kind::Writes => connection.put(key, value).await,
        Kind::Reads => connection.get(key).await,
    }
}

/// Clients that ask again as soon as they have an answer. A request counts that began and ended within
/// `time`.
pub(crate) async fn closed(
    connections: &[Connection],
    clients: u32,
    kind: Kind,
    time: Duration,
) -> Result<Seen> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for (number, connection) in (0..clients).zip(connections.iter().cycle()) {
        let mut connection = connection.clone();
        tasks.spawn(async move {
            let mut seen = Seen::new(time);
            let value = [b'x'; VALUE];
            for turn in 0_u32.. {
                let began = Instant::now();
                if began >= end {
                    break;
                }
                let key = format!("key-{number}-{}", turn % KEYS);
                let done = ask(&mut connection, kind, key.as_bytes(), &value).await;
                let ended = Instant::now();
                if began < begin || ended > end {
                    continue;
                }
                match done {
                    Ok(()) => seen.latency.record(micros(ended - began)).expect("it grows as needed"),
                    Err(_) => seen.errors += 1,
                }
            }
            seen
        });
    }
    let mut all = Seen::new(time);
    while let Some(seen) = tasks.join_next().await {
        let seen = seen?;
        all.latency.add(&seen.latency).expect("it grows as needed");
        all.errors += seen.errors;
    }
    Ok(all)
}

/// Writes at a steady rate, whether the earlier ones were answered or not: how long each takes is counted
/// from when it was due, so that a stall delays all that were due in it.
pub(crate) struct Steady {
    connections: Vec<Connection>,
    every: Duration,
    tasks: JoinSet<(Duration, bool)>,
}

impl Steady {
    pub(crate) fn new(connections: Vec<Connection>, per_second: u32) -> Self {
        Self { connections, every: Duration::from_secs(1) / per_second, tasks: JoinSet::new() }
    }

    /// Writes until `until` is ready. Waits for all answers.
    pub(crate) async fn run_until(&mut self, until: impl Future<Output = Result>) -> Result<Seen> {
        let began = Instant::now();
        tokio::pin!(until);
        let mut due = began;
        for turn in 0_u32.. {
            tokio::select! {
                biased;
                done = &mut until => {
                    done?;
                    break;
                }
                () = sleep_until(due) => self.write(turn, due),
            }
            due += self.every;
        }
        let mut seen = Seen::new(began.elapsed());
        while let Some(done) = self.tasks.join_next().await {
            match done? {
                (took, true) => seen.latency.record(micros(took)).expect("it grows as needed"),
                (_, false) => seen.errors += 1,
            }
        }
        Ok(seen)
    }

    fn write(&mut self, turn: u32, due: Instant) {
        let mut connection = self.connections[turn as usize % self.connections.len()].clone();
        self.tasks.spawn(async move {
            let key = format!("steady-{}", turn % KEYS);
            let done = connection.put(key.as_bytes(), &[b'y'; VALUE]).await;
            (due.elapsed(), done.is_ok())
        });
    }
}
