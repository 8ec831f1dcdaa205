//! A client of the key-value store of `kontiki_core`.

use super::{Client, Error, Part};
use kontiki_core::event::ReadVia;
use kontiki_core::kv::{Command, MAX_KEY, MAX_VALUE, Query, Reply};

/// A client of a group that replicates a [`kontiki_core::kv::Kv`].
#[derive(Clone, Debug)]
pub struct Kv {
    client: Client,
    via: ReadVia,
}

/// The result of a compare-and-swap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Swap {
    /// The key has the new value.
    Done,
    /// The key does not have the expected value; it keeps this one, or none.
    Differs(Option<Vec<u8>>),
}

/// The result of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// Keys and values, by rising key.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the limit left out entries: continue after the last key.
    pub more: bool,
}

impl Client {
    /// Returns a client of the group's key-value store.
    pub fn kv(&self) -> Kv {
        Kv::new(self.clone())
    }
}

impl Kv {
    pub(super) fn new(client: Client) -> Self {
        Self { client, via: ReadVia::Quorum }
    }

    /// Returns the same client with another way to read.
    #[must_use]
    pub fn via(self, via: ReadVia) -> Self {
        Self { via, ..self }
    }

    /// Sets the value of a key.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match self.command(Command::Put { key, value }).await? {
            Reply::Written => Ok(()),
            other => Err(odd(&other)),
        }
    }

    /// Deletes a key; returns whether it had a value.
    pub async fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        match self.command(Command::Delete { key }).await? {
            Reply::Deleted { existed } => Ok(existed),
            other => Err(odd(&other)),
        }
    }

    /// Sets the value of a key if it has the expected value; with `None`, if it has no value.
    pub async fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swap, Error> {
        match self.command(Command::CompareAndSwap { key, expected, value }).await? {
            Reply::Written => Ok(Swap::Done),
            Reply::Differs { actual } => Ok(Swap::Differs(actual)),
            other => Err(odd(&other)),
        }
    }

    /// Returns the value of a key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.query(Query::Get { key }).await? {
            Reply::Value(value) => Ok(value),
            other => Err(odd(&other)),
        }
    }

    /// Returns the keys and values from one key up to, but not including, another.
    pub async fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: u32) -> Result<Scanned, Error> {
        match self.query(Query::Scan { from, to, limit }).await? {
            Reply::Found { entries, more } => Ok(Scanned { entries, more }),
            other => Err(odd(&other)),
        }
    }

    async fn command(&self, command: Command<'_>) -> Result<Reply, Error> {
        fits(Part::Key, command.key(), MAX_KEY)?;
        fits(Part::Value, command.value().unwrap_or_default(), MAX_VALUE)?;
        read(&self.client.command(&command.encode()).await?)
    }

    async fn query(&self, query: Query<'_>) -> Result<Reply, Error> {
        read(&self.client.query(&query.encode(), self.via).await?)
    }
}

/// Refuses here what the store would refuse, with a better message.
fn fits(part: Part, bytes: &[u8], limit: usize) -> Result<(), Error> {
    match bytes.len() {
        length if length > limit => Err(Error::TooLong { part, length, limit }),
        _ => Ok(()),
    }
}

fn read(bytes: &[u8]) -> Result<Reply, Error> {
    Reply::decode(bytes).map_err(|malformed| Error::Unexpected(malformed.to_string()))
}

/// Returns an error for an answer that does not belong to the request.
fn odd(reply: &Reply) -> Error {
    match reply {
        Reply::TooLong => {
            Error::Unexpected("the store of this group takes shorter keys or values".to_owned())
        }
        Reply::Malformed => {
            Error::Unexpected("the state machine of this group is not the key-value store".to_owned())
        }
        _ => Error::Unexpected("an answer to another command".to_owned()),
    }
}
