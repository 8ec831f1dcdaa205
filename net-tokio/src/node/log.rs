//! Reading in the log: what is in memory at once, what is on the disk by way of its thread.

use crate::protocol::{Content, LogEntry};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::Command;
use kontiki_core::replica::Replica;
use kontiki_core::types::{Index, Payload};
use kontiki_core::wal::{Extent, Operation};

/// Which entries are wanted: after the one through the other, as many as fit into `max_bytes`, but one at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    pub(crate) after: Index,
    pub(crate) through: Index,
    pub(crate) max_bytes: u64,
}

/// A piece of the log, and where all of it begins and ends.
#[derive(Debug)]
pub(crate) struct Page {
    /// By rising index, the first of them after the one that was asked for; none where that has left the log.
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) base: Index,
    pub(crate) last: Index,
}

/// A page that is being read from the disk.
#[derive(Debug)]
pub(crate) struct Reading(Extent);

/// The page, where it is in memory.
pub(crate) fn page(replica: &Replica, paging: Paging) -> Result<Page, Reading> {
    let log = replica.raft().log();
    let Paging { after, through, max_bytes } = paging;
    let through = through.min(log.last().index);
    if after < log.base() || after >= through {
        return Ok(of(replica, &[]));
    }
    if after < log.evicted() {
        return match replica.wal().locate(after, through, max_bytes) {
            Some(extent) => Err(Reading(extent)),
            None => Ok(of(replica, &[])),
        };
    }
    let mut size = 0;
    let fits = |entry: &&Entry| {
        let is_first = size == 0;
        size += entry.size();
        is_first || size <= max_bytes
    };
    let entries: Vec<_> = log.entries(after, through).take_while(fits).cloned().collect();
    Ok(of(replica, &entries))
}

impl Reading {
    pub(crate) fn operation(&self) -> Operation {
        self.0.read()
    }

    pub(crate) fn read(&self, replica: &Replica, bytes: &[u8]) -> Page {
        match replica.wal().entries(&self.0, bytes) {
            Ok(entries) => of(replica, &entries),
            Err(_) => of(replica, &[]),
        }
    }
}

fn of(replica: &Replica, entries: &[Entry]) -> Page {
    let log = replica.raft().log();
    let told = |entry: &Entry| LogEntry {
        id: entry.id,
        committed: entry.id.index <= log.committed(),
        content: content(&entry.body),
    };
    Page { entries: entries.iter().map(told).collect(), base: log.base(), last: log.last().index }
}

fn content(body: &EntryBody) -> Content {
    match body {
        EntryBody::Blank => Content::Blank,
        EntryBody::Data(payload) => match Command::decode(payload) {
            Ok(Command::Plain(command) | Command::InSession { command, .. }) => {
                Content::Command(Payload::from(command))
            }
            _ => Content::Session,
        },
        EntryBody::Config(membership) => Content::Members(membership.to_string()),
        EntryBody::Withheld => Content::Withheld,
        EntryBody::Lost => Content::Lost,
    }
}
