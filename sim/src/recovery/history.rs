//! What a member had written, operation by operation, and what it had been told to be durable.

use super::disk::{BLOCK, File, Platter};
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody, Rebase, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, Term, WriteSeq};
use kontiki_core::wal::{FileName, Operation, RecoverError, Recovery, Wal, WalOptions};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One thing that a member writes: a job of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// An entry of the term that the last one is of.
    Append,
    /// A new term with a vote, and an entry in one batch.
    VoteAndAppend,
    /// A new leader's entry, in the place of the last one.
    Overwrite,
    /// A commit index: a batch without records.
    Empty,
    /// A new term with a vote, in a copy of the vote alone.
    Vote,
    /// The log begins later and rests on a snapshot.
    Snapshot,
    /// An entry that takes two blocks.
    Large,
    /// The bodies of all lost entries.
    Repair,
    /// So many blocks of an entry, so that the segment is full where it is meant to be.
    Fill(usize),
    /// Both copies of the vote name the last batch.
    Mark,
    /// The next segment is made, or old ones are removed.
    Upkeep,
    /// The process ends and starts again.
    Restart,
    /// The last batch rots.
    Rot,
}

/// Where the first acts of a history are made into another segment than those behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Border {
    None,
    /// The segment is full before this act.
    Full(usize),
    /// The member starts again before this act.
    Restart(usize),
}

/// A history that is enumerated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// The last batches.
    pub(super) acts: Vec<Act>,
    pub(super) border: Border,
    /// Whether both copies of the vote name the batch before the last.
    pub(super) marked: bool,
}

/// A batch, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) file: usize,
    pub(super) blocks: Range<usize>,
    /// The moment after which it was durable.
    pub(super) durable_at: Option<usize>,
    /// The moment after which a copy of the vote, written behind it, was durable; or a batch behind it was.
    pub(super) told_at: Option<usize>,
    pub(super) words: String,
}

/// A moment between two operations.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) disk: Platter,
    /// What the member is owed: what was acknowledged, and then the same with each of the writes that are on
    /// their way.
    pub(super) states: Vec<Durable>,
    /// How many of the batches have been handed to the disk.
    pub(super) batches: usize,
    /// Whether the last acts have begun.
    pub(super) in_window: bool,
    /// Whether something rotted before.
    pub(super) rotten: bool,
    /// What was done, in words.
    pub(super) words: String,
}

/// A history: each moment of it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) moments: Vec<Moment>,
    pub(super) batches: Vec<Batch>,
}

impl Shape {
    /// Plays it on a disk that loses nothing.
    pub(super) fn play(&self) -> History {
        let mut player = Player::begin();
        player.act(Act::Upkeep);
        let first_border = match self.border {
            Border::Full(at) => Some(at),
            Border::None | Border::Restart(_) => None,
        };
        if let Some(at) = first_border {
            player.fill(13 - self.acts[..at].iter().map(|act| act.blocks()).sum::<usize>());
        }
        player.act(Act::Append);
        player.act(Act::Append);
        if self.acts.contains(&Act::Repair) {
            [Act::Append, Act::Rot, Act::Restart, Act::Upkeep].into_iter().for_each(|act| player.act(act));
        }
        player.in_window = true;
        for (at, act) in self.acts.iter().enumerate() {
            if self.marked && at + 1 == self.acts.len() {
                player.act(Act::Mark);
            }
            if self.border == Border::Restart(at) {
                player.act(Act::Restart);
            }
            player.act(Act::Upkeep);
            player.act(*act);
        }
        player.act(Act::Mark);
        player.act(Act::Upkeep);
        if self.border == Border::Restart(self.acts.len()) {
            player.act(Act::Restart);
            player.act(Act::Mark);
        }
        player.history
    }
}

impl Act {
    /// How many blocks of a segment it takes.
    fn blocks(self) -> usize {
        match self {
            Self::Append | Self::VoteAndAppend | Self::Overwrite | Self::Empty | Self::Repair => 1,
            Self::Snapshot => 1,
            Self::Large => 2,
            Self::Fill(blocks) => blocks,
            Self::Vote | Self::Mark | Self::Upkeep | Self::Restart | Self::Rot => 0,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::VoteAndAppend => "vote+append",
            Self::Overwrite => "overwrite",
            Self::Empty => "empty",
            Self::Vote => "vote",
            Self::Snapshot => "snapshot",
            Self::Large => "large",
            Self::Repair => "repair",
            Self::Fill(_) => "fill",
            Self::Mark => "mark",
            Self::Upkeep => "upkeep",
            Self::Restart => "restart",
            Self::Rot => "rot",
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, act) in self.acts.iter().enumerate() {
            match self.border {
                Border::Full(before) if before == at => f.write_str("next segment, ")?,
                Border::Restart(before) if before == at => f.write_str("restart, ")?,
                _ => {}
            }
            if self.marked && at + 1 == self.acts.len() {
                f.write_str("mark, ")?;
            }
            write!(f, "{act}, ")?;
        }
        f.write_str("mark")?;
        match self.border {
            Border::Restart(before) if before == self.acts.len() => f.write_str(", restart, mark"),
            _ => Ok(()),
        }
    }
}

pub(super) fn identity() -> Identity {
    Identity::new(ClusterId(7), node(1))
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

pub(super) fn options() -> WalOptions {
    WalOptions { segment_bytes: 16 * BLOCK as u64, cached_bytes: u64::MAX }
}

/// Recovers with the production code.
pub(super) fn recover(disk: &mut impl kontiki_core::wal::Disk) -> Result<Recovery, RecoverError> {
    Wal::recover(disk, identity(), options(), &begin())
}

/// A group of three members.
pub(super) fn begin() -> Durable {
    Durable::bootstrap(group())
}

fn group() -> Membership {
    Membership::of((1..=3).map(node)).expect("three members are a group")
}

/// A member at work.
struct Player {
    disk: Platter,
    wal: Wal,
    /// Everything that was acknowledged.
    acknowledged: Durable,
    seq: u64,
    starts: u64,
    in_window: bool,
    rotten: bool,
    /// The lost entries, with their bodies.
    bodies: Vec<Entry>,
    history: History,
}

impl Player {
    fn begin() -> Self {
        let mut disk = Platter::default();
        let recovery = recover(&mut disk).expect("an empty directory holds a new log");
        let mut player = Self {
            disk,
            wal: recovery.wal,
            acknowledged: recovery.durable,
            seq: 0,
            starts: 1,
            in_window: false,
            rotten: false,
            bodies: Vec::new(),
            history: History::default(),
        };
        player.note("the member has an empty directory", Vec::new());
        player.carry_out("first start", &recovery.first, &[]);
        player
    }

    fn fill(&mut self, blocks: usize) {
        if blocks > 0 {
            self.act(Act::Fill(blocks));
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Upkeep => {
                while let Some(operations) = self.wal.upkeep() {
                    self.carry_out("upkeep", &operations, &[]);
                    self.wal.upkeep_done(Ok(()));
                }
            }
            Act::Mark => {
                while let Some(operations) = self.wal.mark() {
                    self.carry_out("mark", &operations, &[]);
                    self.wal.completed();
                }
            }
            Act::Restart => self.restart(),
            Act::Rot => self.rot(),
            _ => self.job(act),
        }
    }

    fn restart(&mut self) {
        let recovery = recover(&mut self.disk).expect("nothing is damaged beyond repair");
        self.bodies.extend(self.acknowledged.entries.iter().cloned());
        self.acknowledged = Durable { snapshot_lost: false, ..recovery.durable };
        self.wal = recovery.wal;
        self.starts += 1;
        self.carry_out("restart", &recovery.first, &[]);
    }

    /// All sectors of the last batch but its headers go bad.
    fn rot(&mut self) {
        let Batch { file, ref blocks, .. } = *self.history.batches.last().expect("a batch was written");
        let range = blocks.start * BLOCK + 512..blocks.end * BLOCK - 512;
        let File { shown, durable, .. } = &mut self.disk.files[file];
        [shown, durable].into_iter().for_each(|bytes| bytes[range.clone()].fill(0xa5));
        self.rotten = true;
        self.note("the body of the last batch rots", vec![self.acknowledged.clone()]);
    }

    fn job(&mut self, act: Act) {
        let write = self.write(act);
        let mut after = self.acknowledged.clone();
        after.write(&write);
        self.wal.submit(write);
        let operations = self.wal.next_job().expect("there is room");
        self.carry_out(&act.to_string(), &operations, std::slice::from_ref(&after));
        self.wal.completed();
        self.acknowledged = after;
        let last = self.history.moments.last_mut().expect("operations were carried out");
        last.states = vec![self.acknowledged.clone()];
    }

    /// Carries operations out, and notes the moment behind each.
    fn carry_out(&mut self, what: &str, operations: &[Operation], on_their_way: &[Durable]) {
        let states: Vec<_> = [&self.acknowledged].into_iter().chain(on_their_way).cloned().collect();
        for operation in operations {
            self.note_batch(what, operation);
            operation.perform(&mut self.disk).expect("this disk does not fail");
            self.note_sync(operation);
            self.note(&format!("{what}: {}", words(operation)), states.clone());
        }
    }

    fn note(&mut self, words: &str, states: Vec<Durable>) {
        let states = if states.is_empty() { vec![self.acknowledged.clone()] } else { states };
        self.history.moments.push(Moment {
            disk: self.disk.clone(),
            states,
            batches: self.history.batches.len(),
            in_window: self.in_window,
            rotten: self.rotten,
            words: words.to_owned(),
        });
    }

    fn note_batch(&mut self, what: &str, operation: &Operation) {
        let Operation::Write { file, at, bytes } = operation else { return };
        let headers = match file {
            FileName::Segment(_) => 0,
            FileName::Spare(_) => 2,
            _ => return,
        };
        let first = *at as usize / BLOCK + headers;
        self.history.batches.push(Batch {
            file: self.disk.number(*file).expect("the log writes to files that exist"),
            blocks: first..(*at as usize + bytes.len()) / BLOCK,
            durable_at: None,
            told_at: None,
            words: format!("batch {} ({what})", self.history.batches.len()),
        });
    }

    /// Notes what is durable after the operation, which is at the next moment. The first batch of a segment
    /// is, and tells of those before it, once the segment has its name for good.
    fn note_sync(&mut self, operation: &Operation) {
        let now = self.history.moments.len();
        let batches = &mut self.history.batches;
        let named = |file: usize| {
            let name = self.disk.durable_names.iter().find(|(_, it)| *it == file);
            name.is_some_and(|(name, _)| matches!(name, FileName::Segment(_)))
        };
        match operation {
            Operation::Sync(FileName::Vote(_)) => {
                let durable = batches.iter_mut().filter(|batch| batch.durable_at.is_some());
                durable.for_each(|batch| _ = batch.told_at.get_or_insert(now));
            }
            Operation::Sync(_) | Operation::SyncDirectory => {
                let Some((last, before)) = batches.split_last_mut() else { return };
                if last.durable_at.is_none() && named(last.file) {
                    last.durable_at = Some(now);
                    before.iter_mut().for_each(|batch| _ = batch.told_at.get_or_insert(now));
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, act: Act) -> Write {
        self.seq += 1;
        let log = &self.acknowledged;
        let (last, ballot) = (log.last(), log.ballot);
        let mut write = Write {
            seq: WriteSeq::new(self.seq),
            ballot,
            starts: self.starts,
            truncate_after: None,
            rebase: None,
            repaired: Default::default(),
            append: Default::default(),
            committed: log.committed,
        };
        let later = Ballot::new(Term::new(ballot.term().get() + 1), Some(node(ballot.term().get() % 3 + 1)));
        if matches!(act, Act::VoteAndAppend | Act::Overwrite | Act::Vote) || ballot.term() == Term::new(0) {
            write.ballot = later;
        }
        let term = write.ballot.term();
        let next = LogId { term, index: last.index.next() };
        let append = |id: LogId, bytes: usize| [entry(id, bytes)].into_iter().collect();
        match act {
            Act::Append | Act::VoteAndAppend => write.append = append(next, SMALL),
            Act::Large => write.append = append(next, 10 * 505),
            Act::Fill(blocks) => write.append = append(next, (8 * blocks - 4) * 505),
            Act::Overwrite => {
                write.truncate_after = last.index.prev();
                write.append = append(LogId { term, index: last.index }, SMALL);
            }
            Act::Empty => write.committed = committed(log),
            Act::Snapshot => {
                write.committed = committed(log);
                let last = log.entries.iter().map(|entry| entry.id).find(|id| id.index == write.committed);
                let last = last.unwrap_or(log.base);
                let snapshot = Snapshot { last, configured: LogId::ZERO, membership: Arc::new(group()) };
                write.rebase = Some(Box::new(Rebase { snapshot, base: last }));
            }
            Act::Repair => {
                let lost = log.entries.iter().filter(|entry| entry.body == EntryBody::Lost);
                let body = |lost: &Entry| self.bodies.iter().find(|it| it.id == lost.id).cloned();
                write.repaired = lost.filter_map(body).collect();
            }
            Act::Vote | Act::Mark | Act::Upkeep | Act::Restart | Act::Rot => {}
        }
        write
    }
}

/// One entry more than before, but never the last one, which may be overwritten.
fn committed(log: &Durable) -> Index {
    let before_last = log.last().index.prev().unwrap_or_default();
    log.committed.next().min(before_last).max(log.committed)
}

/// How many bytes the payload of an entry has.
const SMALL: usize = 20;

/// The one entry of this id.
fn entry(id: LogId, bytes: usize) -> Entry {
    let salt = id.index.get() * 31 + id.term.get();
    let payload: Vec<u8> = (0..bytes as u64).map(|at| (at * 7 + salt) as u8 | 1).collect();
    Entry { id, body: EntryBody::Data(Payload::from(&payload[..])) }
}

/// The entry of this id, where it is a small one, as all are but the large ones.
pub(super) fn small_entry(id: LogId) -> Entry {
    entry(id, SMALL)
}

/// An operation in words.
fn words(operation: &Operation) -> String {
    match operation {
        Operation::Create { file, length } => {
            format!("create {file} of {} blocks", *length as usize / BLOCK)
        }
        Operation::Write { file, at, bytes } => {
            let blocks = *at as usize / BLOCK..(*at as usize + bytes.len()) / BLOCK;
            format!("write {file}, blocks {}..{}", blocks.start, blocks.end)
        }
        Operation::Read { file, .. } => format!("read {file}"),
        Operation::Sync(file) => format!("sync {file}"),
        Operation::Rename { from, to } => format!("rename {from} to {to}"),
        Operation::Remove(file) => format!("remove {file}"),
        Operation::SyncDirectory => "sync the directory".to_owned(),
    }
}
