//! The commands put, get, delete, cas and scan.

use crate::failure::{Exit, Failure};
use crate::output::{Format, Table, cut, json_bytes, note, readable, write};
use crate::target::Target;
use clap::{Args, ValueEnum};
use kontiki_core::event::ReadVia;
use kontiki_net_tokio::client::{Client, Error, Kv, Swap};
use serde_json::json;
use std::ffi::OsString;
use std::future::Future;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;

#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The key
    key: OsString,
    /// The value; `-` reads it from the standard input
    value: OsString,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The key
    key: OsString,
    #[command(flatten)]
    how: How,
    /// Print the bytes of the value and nothing else
    #[arg(long)]
    raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The key
    key: OsString,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("condition").required(true))]
pub(crate) struct Cas {
    /// The key
    key: OsString,
    /// The expected value
    #[arg(long, group = "condition", value_name = "OLD")]
    expect: Option<OsString>,
    /// Expect no value
    #[arg(long, group = "condition")]
    absent: bool,
    /// The new value; `-` reads it from the standard input
    #[arg(value_name = "NEW")]
    value: OsString,
}

#[derive(Args, Debug)]
pub(crate) struct Scan {
    /// The first key [default: none, from the beginning]
    from: Option<OsString>,
    /// The key to end before [default: none, to the end]
    to: Option<OsString>,
    /// The most keys to print
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Clone, Copy, Debug)]
struct How {
    /// How the leader makes the read linearizable
    #[arg(long, value_enum, default_value = "quorum")]
    via: Via,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Via {
    /// Ask a majority: depends on no clock
    Quorum,
    /// Use the lease if the members' options enable `lease_reads`, otherwise ask a majority
    Lease,
}

impl How {
    fn kv(self, client: &Client) -> Kv {
        client.kv().via(match self.via {
            Via::Quorum => ReadVia::Quorum,
            Via::Lease => ReadVia::Lease,
        })
    }
}

impl Put {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let (key, value) = (bytes(self.key), from_argument(self.value)?);
        let client = target.client()?;
        done_with(&client, async { client.kv().put(&key, &value).await }).await?;
        format.print(|| "done\n".to_owned(), || json!({ "key": json_bytes(&key), "written": true }));
        Ok(Exit::Done)
    }
}

impl Get {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let key = bytes(self.key);
        let value = self.how.kv(&target.client()?).get(&key).await?;
        let Some(value) = value else {
            match format {
                Format::Human => note(&format!("{} has no value", readable(&key))),
                Format::Json => write(format!("{}\n", found(&key, None)).as_bytes()),
            }
            return Ok(Exit::Not);
        };
        if self.raw {
            write(&value);
        } else {
            format.print(|| readable(&value) + "\n", || found(&key, Some(&value)));
        }
        Ok(Exit::Done)
    }
}

fn found(key: &[u8], value: Option<&[u8]>) -> serde_json::Value {
    json!({ "key": json_bytes(key), "found": value.is_some(), "value": value.map(json_bytes) })
}

impl Delete {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let key = bytes(self.key);
        let client = target.client()?;
        let existed = done_with(&client, async { client.kv().delete(&key).await }).await?;
        let human = || if existed { "done\n".to_owned() } else { "it had no value\n".to_owned() };
        format.print(human, || json!({ "key": json_bytes(&key), "existed": existed }));
        Ok(if existed { Exit::Done } else { Exit::Not })
    }
}

impl Cas {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let (key, value) = (bytes(self.key), from_argument(self.value)?);
        let expected = self.expect.map(bytes);
        let client = target.client()?;
        let swap = async { client.kv().compare_and_swap(&key, expected.as_deref(), &value).await };
        let (written, actual) = match done_with(&client, swap).await? {
            Swap::Done => (true, Some(value)),
            Swap::Differs(actual) => (false, actual),
        };
        let shown = actual.as_deref().map(json_bytes);
        let human = || match (written, &actual) {
            (true, _) => "done\n".to_owned(),
            (false, Some(actual)) => format!("not done: its value is {}\n", readable(actual)),
            (false, None) => "not done: it has no value\n".to_owned(),
        };
        format.print(human, || json!({ "key": json_bytes(&key), "written": written, "value": shown }));
        Ok(if written { Exit::Done } else { Exit::Not })
    }
}

impl Scan {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let (from, to) = (self.from.map(bytes).unwrap_or_default(), self.to.map(bytes));
        let kv = self.how.kv(&target.client()?);
        let (mut entries, mut next, mut more) = (Vec::new(), from, true);
        // The store limits a scan; this continues up to the caller's limit.
        while more && entries.len() < self.limit as usize {
            let left = self.limit - u32::try_from(entries.len()).unwrap_or(self.limit);
            let scanned = kv.scan(&next, to.as_deref(), left).await?;
            more = scanned.more && !scanned.entries.is_empty();
            if let Some((last, _)) = scanned.entries.last() {
                // The first key after the last.
                next = [last, &[0][..]].concat();
            }
            entries.extend(scanned.entries);
        }
        let human = || {
            let mut table = Table::new(["KEY", "VALUE"]);
            // A wide key does not push all values off the screen.
            entries.iter().for_each(|(key, value)| table.row([cut(&readable(key), 48), readable(value)]));
            let rest =
                if more { "There are more: raise --limit, or continue after the last key.\n" } else { "" };
            table.render() + rest
        };
        let json = || {
            let pair = |(key, value): &(Vec<u8>, Vec<u8>)| json!({ "key": json_bytes(key), "value": json_bytes(value) });
            json!({ "entries": entries.iter().map(pair).collect::<Vec<_>>(), "more": more })
        };
        format.print(human, json);
        Ok(Exit::Done)
    }
}

/// Runs a command in a session, and closes the session: repeated commands would otherwise fill the group with
/// sessions.
async fn done_with<T>(client: &Client, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let done = work.await;
    client.close().await;
    Ok(done?)
}

fn bytes(argument: OsString) -> Vec<u8> {
    argument.into_vec()
}

fn from_argument(argument: OsString) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(bytes(argument));
    }
    let mut value = Vec::new();
    // One byte more than the longest value: refused later, and not read without bound.
    let limit = kontiki_core::kv::MAX_VALUE as u64 + 1;
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut value);
    read.map_err(|error| Failure::usage(format!("cannot read the value from the standard input: {error}")))?;
    Ok(value)
}
