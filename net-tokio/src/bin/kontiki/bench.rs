//! Measures throughput and latency as seen by clients.

use crate::failure::{Exit, Failure};
use crate::output::{Format, Table};
use crate::target::{Target, duration};
use clap::Args;
use hdrhistogram::Histogram;
use kontiki_core::event::ReadVia;
use kontiki_core::kv::{Command, MAX_VALUE, Query};
use kontiki_net_tokio::client::{Client, Error};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::Instant;

#[derive(Args, Clone, Debug)]
pub(crate) struct Bench {
    /// The number of clients, each with one request at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// The number of connections they share [default: one for each client]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: Option<u32>,
    /// The size of a value in bytes
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=MAX_VALUE as i64))]
    payload: u32,
    /// The duration of the measurement
    #[arg(long, default_value = "10s", value_parser = duration)]
    time: Duration,
    /// The duration of the warm-up before it
    #[arg(long, default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// The percentage of requests that are reads
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    reads: u32,
    /// Read with the leader's lease instead of a quorum
    #[arg(long)]
    lease: bool,
    /// Write without sessions: a write whose outcome is unknown is not retried
    #[arg(long)]
    no_session: bool,
    /// The number of keys that each client writes to
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

/// The results.
#[derive(Debug)]
struct Measured {
    /// In nanoseconds, as are the reads.
    writes: Histogram<u64>,
    reads: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Bench {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let connections = (0..self.connections()).map(|_| target.client()).collect::<Result<Vec<_>, _>>()?;
        // Before measuring: check that the group can be reached and accepts writes.
        let first = &connections[0];
        self.write(first, b"bench", &[]).await?;
        let begin = Instant::now() + self.warm_up;
        let end = begin + self.time;
        let measured = Rc::new(RefCell::new(Measured::new()));
        let local = LocalSet::new();
        for (number, client) in (0..self.clients).zip(connections.iter().cycle()) {
            let client = client.clone();
            local.spawn_local(self.clone().client(number, client, (begin, end), Rc::clone(&measured)));
        }
        local.await;
        for connection in &connections {
            connection.close().await;
        }
        let measured = measured.borrow();
        format.print(|| self.human(&measured), || self.json(&measured));
        Ok(if measured.writes.len() + measured.reads.len() > 0 { Exit::Done } else { Exit::Unreachable })
    }

    /// Returns the number of connections, no more than there are clients.
    fn connections(&self) -> u32 {
        self.connections.unwrap_or(self.clients).min(self.clients)
    }

    async fn client(
        self,
        number: u32,
        client: Client,
        (begin, end): (Instant, Instant),
        measured: Rc<RefCell<Measured>>,
    ) {
        let value = vec![b'x'; self.payload as usize];
        for turn in 0_u32.. {
            let key = format!("bench-{number}-{}", turn % self.keys);
            // Spread evenly over each hundred, in another order for each client.
            let reads = (turn.wrapping_mul(37) + number) % 100 < self.reads;
            let began = Instant::now();
            if began >= end {
                break;
            }
            let done = match reads {
                true => self.read(&client, key.as_bytes()).await,
                false => self.write(&client, key.as_bytes(), &value).await,
            };
            let ended = Instant::now();
            // Requests in flight when the measurement begins or ends do not count.
            if began < begin || ended > end {
                continue;
            }
            let mut measured = measured.borrow_mut();
            match done {
                Ok(()) => {
                    let took = u64::try_from((ended - began).as_nanos()).unwrap_or(u64::MAX);
                    let histogram = if reads { &mut measured.reads } else { &mut measured.writes };
                    histogram.record(took).expect("the histogram grows as needed");
                }
                Err(error) => *measured.errors.entry(error.code().to_owned()).or_default() += 1,
            }
        }
    }

    async fn write(&self, client: &Client, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let command = Command::Put { key, value }.encode();
        match self.no_session {
            true => client.command_once(&command).await.map(drop),
            false => client.command(&command).await.map(drop),
        }
    }

    async fn read(&self, client: &Client, key: &[u8]) -> Result<(), Error> {
        let via = if self.lease { ReadVia::Lease } else { ReadVia::Quorum };
        client.query(&Query::Get { key }.encode(), via).await.map(drop)
    }

    fn human(&self, measured: &Measured) -> String {
        let mut table = Table::new(["", "PER SECOND", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"]);
        for (name, histogram) in measured.kinds() {
            let at = |share| millis(histogram.value_at_quantile(share));
            table.row([
                name.to_owned(),
                self.rate(histogram).to_string(),
                histogram.len().to_string(),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                millis(histogram.max()),
            ]);
        }
        let errors: String =
            measured.errors.iter().map(|(code, count)| format!("{count} failed: {code}\n")).collect();
        let Self { clients, payload, time, .. } = self;
        let connections = self.connections();
        let heading = format!(
            "{clients} clients on {connections} connections, values of {payload} bytes, {} s\n\n",
            time.as_secs()
        );
        heading + &table.render() + &errors
    }

    fn json(&self, measured: &Measured) -> Value {
        let kinds = measured.kinds().map(|(name, histogram)| {
            let at = |share| histogram.value_at_quantile(share) / 1_000;
            let figures = json!({
                "count": histogram.len(),
                "per_second": self.rate(histogram),
                "latency_us": {
                    "p50": at(0.5),
                    "p90": at(0.9),
                    "p99": at(0.99),
                    "p999": at(0.999),
                    "max": histogram.max() / 1_000,
                },
            });
            (name.to_owned(), figures)
        });
        json!({
            "clients": self.clients,
            "connections": self.connections(),
            "payload_bytes": self.payload,
            "time_ms": u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            "reads_percent": self.reads,
            "sessions": !self.no_session,
            "results": kinds.collect::<serde_json::Map<_, _>>(),
            "errors": measured.errors,
        })
    }

    fn rate(&self, histogram: &Histogram<u64>) -> u64 {
        let rate = u128::from(histogram.len()) * 1_000 / self.time.as_millis().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

impl Measured {
    fn new() -> Self {
        let histogram = Histogram::new(3).expect("three digits are possible");
        Self { writes: histogram.clone(), reads: histogram, errors: BTreeMap::new() }
    }

    /// Returns the results of writes and of reads, where there are any.
    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let both = [("writes", &self.writes), ("reads", &self.reads)];
        both.into_iter().filter(|(_, histogram)| !histogram.is_empty())
    }
}

/// Formats nanoseconds as milliseconds, with the significant digits.
fn millis(nanos: u64) -> String {
    let micros = nanos / 1_000;
    match micros {
        0..10_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{} ms", micros / 1_000),
    }
}
