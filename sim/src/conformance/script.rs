//! What a store goes through: a list of steps, and the writes that they make of the log as it is by then.

use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entries, Entry, EntryBody, Rebase, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Ballot, Index, LogId, NodeId, Payload, Term, WriteSeq};
use std::fmt;
use std::sync::Arc;

/// One step of the workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A later term, and a vote in it or none.
    Vote(Option<u64>),
    /// Entries with payloads of so many bytes.
    Append {
        entries: u64,
        bytes: usize,
    },
    /// A new term, whose leader overwrites so many entries.
    Overwrite(u64),
    /// Takes a snapshot, and forgets all but so many of the entries in it.
    Compact {
        keep: u64,
    },
    /// Gets a snapshot that reaches so far beyond the log.
    Install {
        beyond: u64,
    },
    Sync,
    /// Nothing to do for a while.
    Idle,
    /// The process dies and comes back.
    Kill,
    /// Power fails, and chance decides what is left.
    PowerFailure(u64),
}

use Step::{Append, Compact, Idle, Install, Kill, Overwrite, PowerFailure, Sync, Vote};

/// The whole workload. Each step is there for something: see the comments.
pub(super) const SCRIPT: &[Step] = &[
    // A vote alone, as of a follower.
    Vote(Some(1)),
    Sync,
    Append { entries: 3, bytes: 10 },
    Sync,
    // Two writes in one sync, and a vote that is denied a sync of its own.
    Append { entries: 1, bytes: 300 },
    Vote(None),
    Append { entries: 2, bytes: 0 },
    Sync,
    // Larger than a few blocks.
    Append { entries: 2, bytes: 5_000 },
    Sync,
    Overwrite(2),
    Sync,
    Idle,
    // Writes without a sync, and the process dies.
    Append { entries: 2, bytes: 100 },
    Overwrite(1),
    Kill,
    Append { entries: 6, bytes: 900 },
    Sync,
    Compact { keep: 2 },
    Sync,
    // More than a small segment: the log rolls over.
    Append { entries: 3, bytes: 9_000 },
    Sync,
    Append { entries: 2, bytes: 9_000 },
    Sync,
    Append { entries: 1, bytes: 20_000 },
    Append { entries: 2, bytes: 20 },
    Sync,
    Idle,
    Append { entries: 2, bytes: 700 },
    Vote(Some(3)),
    PowerFailure(1),
    Append { entries: 3, bytes: 60 },
    Sync,
    // A follower that lags is sent a snapshot, and goes on behind it.
    Install { beyond: 5 },
    Sync,
    Append { entries: 3, bytes: 2_000 },
    Sync,
    Overwrite(1),
    PowerFailure(2),
    Vote(Some(2)),
    Sync,
    Append { entries: 4, bytes: 1_500 },
    Compact { keep: 0 },
    Sync,
    Append { entries: 2, bytes: 30 },
    Sync,
    Idle,
    Append { entries: 1, bytes: 8 },
    Sync,
    Idle,
];

/// Makes the writes of a member whose log is `log`.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// Everything that was found and written so far.
    pub(super) log: Durable,
    seq: u64,
    starts: u64,
}

impl Writer {
    /// Goes on where a store has come back with this.
    pub(super) fn after(found: &Durable) -> Self {
        Self { log: found.clone(), seq: 0, starts: found.starts + 1 }
    }

    /// The write of this step; none for a step that writes nothing.
    pub(super) fn write(&mut self, step: Step) -> Option<Write> {
        let last = self.log.last();
        let mut write = self.blank();
        match step {
            Vote(vote) => write.ballot = Ballot::new(self.term().next(), vote.and_then(NodeId::new)),
            Append { entries, bytes } => write.append = entries_after(last, self.term(), entries, bytes),
            Overwrite(count) => {
                let floor = self.log.committed.max(self.log.skipped_through().index);
                let after = Index::new(last.index.get().saturating_sub(count)).max(floor);
                let term = self.term().next();
                let position = |entry: &&Entry| entry.id.index <= after;
                let kept = self.log.entries.iter().rev().find(position);
                let kept = kept.map_or(self.log.skipped_through(), |entry| entry.id);
                write.ballot = Ballot::new(term, None);
                write.truncate_after = Some(after);
                write.append = entries_after(kept, term, 1, 50);
            }
            Compact { keep } => {
                let last = self.log.entries.iter().rev().nth(1)?.id;
                let base = Index::new(last.index.get().saturating_sub(keep));
                let base = self.log.entries.iter().find(|entry| entry.id.index == base)?.id;
                write.rebase = Some(Box::new(Rebase { snapshot: snapshot(last), base }));
                write.committed = last.index;
            }
            Install { beyond } => {
                let last = LogId { term: self.term(), index: last.index + beyond };
                write.rebase = Some(Box::new(Rebase { snapshot: snapshot(last), base: last }));
                write.committed = last.index;
            }
            Sync | Idle | Kill | PowerFailure(_) => return None,
        }
        Some(self.hand_out(write))
    }

    /// Fills what was lost again, as it was.
    pub(super) fn repair(&mut self, whole: &Durable) -> Write {
        let runs = self.log.lost();
        let lost =
            |entry: &&Entry| runs.iter().any(|(after, through)| *after < entry.id && entry.id <= *through);
        let repaired = whole.entries.iter().filter(lost).cloned().collect();
        let write = Write { repaired, ..self.blank() };
        self.hand_out(write)
    }

    fn blank(&self) -> Write {
        // What is not yet committed may be overwritten, so it is a few entries.
        let committed = Index::new(self.log.last().index.get().saturating_sub(4));
        Write {
            seq: WriteSeq::new(self.seq + 1),
            ballot: self.log.ballot,
            starts: self.starts,
            truncate_after: None,
            rebase: None,
            repaired: Entries::EMPTY,
            append: Entries::EMPTY,
            committed: self.log.committed.max(committed),
        }
    }

    fn hand_out(&mut self, write: Write) -> Write {
        self.seq += 1;
        self.log.write(&write);
        write
    }

    fn term(&self) -> Term {
        self.log.ballot.term()
    }
}

fn snapshot(last: LogId) -> Snapshot {
    Snapshot { last, configured: LogId::ZERO, membership: Arc::new(members()) }
}

fn members() -> Membership {
    let ids = (1..=3).filter_map(NodeId::new);
    Membership::of(ids).expect("three members are a group")
}

/// What a snapshot holds, of a few chunks, told from any other by its last entry.
pub(super) fn snapshot_bytes(snapshot: &Snapshot) -> Vec<u8> {
    filling(snapshot.last, 6_000)
}

fn entries_after(after: LogId, term: Term, count: u64, bytes: usize) -> Entries {
    let entry = |position: u64| {
        let id = LogId { term, index: after.index + position };
        let body = match (bytes, position) {
            (0, 1) => EntryBody::Config(Arc::new(members())),
            (0, _) => EntryBody::Blank,
            _ => EntryBody::Data(Payload::from(&filling(id, bytes)[..])),
        };
        Entry { id, body }
    };
    (1..=count).map(entry).collect()
}

/// Bytes that are another's nowhere.
fn filling(id: LogId, length: usize) -> Vec<u8> {
    let mut state = id.term.get().wrapping_mul(1_000_003).wrapping_add(id.index.get());
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vote(_) => f.write_str("a new term"),
            Append { entries, bytes } => write!(f, "appending {entries} entries of {bytes} bytes"),
            Overwrite(entries) => write!(f, "overwriting {entries} entries"),
            Compact { .. } => f.write_str("compacting the log"),
            Install { .. } => f.write_str("installing a snapshot"),
            Sync => f.write_str("a sync"),
            Idle => f.write_str("idling"),
            Kill => f.write_str("starting after the process was killed"),
            PowerFailure(_) => f.write_str("starting after a power failure"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::log::LogSlice;

    #[test]
    fn the_script_makes_a_log_and_does_everything_that_can_be_done_to_one() {
        let mut writer = Writer::after(&Durable::default());
        let mut writes = Vec::new();
        for step in SCRIPT {
            writes.extend(writer.write(*step));
            let log = &writer.log;
            let entries = log.entries.iter().cloned().collect();
            assert!(LogSlice::new(log.base, entries).is_ok(), "{step:?}: {log:?}");
            assert!(log.last().term <= log.ballot.term(), "{step:?}: {log:?}");
            assert!(log.committed <= log.last().index, "{step:?}: {log:?}");
            let floor = log.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
            assert!(log.base.index <= floor.index && floor.index <= log.last().index, "{step:?}: {log:?}");
        }
        let has = |is: fn(&Write) -> bool| writes.iter().any(is);
        assert!(has(|write| write.truncate_after.is_some()));
        assert!(has(|write| write.rebase.as_ref().is_some_and(|rebase| rebase.base == rebase.snapshot.last)));
        assert!(has(|write| write.rebase.as_ref().is_some_and(|rebase| rebase.base != rebase.snapshot.last)));
        assert!(has(|write| write.append.iter().any(|entry| matches!(entry.body, EntryBody::Config(_)))));
        assert!(has(|write| write.append.iter().map(Entry::size).sum::<u64>() > 16 * 1024));
        assert!(writes.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    }
}
