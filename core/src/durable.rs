//! What a member's disk holds, and the checks of it when the member starts.

use crate::action::Write;
use crate::config::Config;
use crate::log::{Discontinuity, Entry, EntryBody, Log, LogSlice, Runs, Skipped, Snapshot, Stored};
use crate::membership::Membership;
use crate::types::{Ballot, Index, LogId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// What a member finds on its disk when it starts: the sum of all its durable [`Write`]s, and how far its
/// state machine has applied the log.
///
/// The default is a member that has never run and belongs to no group: it waits to be added to one. A new
/// group begins with members that all start from the same [`bootstrap`](Self::bootstrap).
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Durable {
    /// The ballot of the last write.
    pub ballot: Ballot,
    /// How often the member has started, as of the last write.
    pub starts: u64,
    /// The snapshot that the log rests on; `None` in a member without a group.
    pub snapshot: Option<Snapshot>,
    /// Whether the snapshot's bytes are damaged: another member must send them before anything can be
    /// applied.
    pub snapshot_lost: bool,
    /// The entry before the first of the log, which is in the snapshot.
    pub base: LogId,
    /// The entries after `base` and before `entries`: committed, and on the disk alone.
    pub skipped: Skipped,
    /// Every entry after that.
    pub entries: Vec<Entry>,
    /// The commit index of the last write.
    pub committed: Index,
    /// How far the host's state machine has applied the log already; zero for one that lives in memory.
    pub applied: Index,
}

/// A checked [`Durable`], as the kernel starts from it.
pub(crate) struct Restored {
    pub(crate) ballot: Ballot,
    /// How often the member had started before.
    pub(crate) starts: u64,
    pub(crate) log: Log,
}

/// Why a state from the disk is not one that a member wrote. Do not start the member: its disk has lost
/// something that it acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// The entries are no log.
    Discontinuity(Discontinuity),
    /// An entry is of a later term than the ballot, which is always written first.
    EntryAfterBallot {
        /// The last entry.
        last: LogId,
        /// The term of the ballot.
        term: Term,
    },
    /// More was committed than there is.
    CommitBeyondLog {
        /// The commit index.
        committed: Index,
        /// The last entry.
        last: LogId,
    },
    /// Entries are damaged, and no other member is known that could have them. If a lost entry was the
    /// membership that added other members, they may have all entries, but nothing else names them. This
    /// member must not lead by itself, and if it started without leading, the group would stand still and
    /// give no reason.
    LastCopyLost {
        /// The last entry before the damage.
        after: LogId,
        /// The last damaged entry in a row.
        through: LogId,
    },
    /// Entries were left out that are not committed.
    SkippedUncommitted {
        /// The last entry that was left out.
        skipped: LogId,
        /// How far the log is committed.
        committed: Index,
    },
    /// The log begins after an entry that no snapshot holds.
    NoSnapshot {
        /// The entry before the first.
        base: LogId,
    },
    /// The directory is that of a witness and the member is started as none, or the other way round.
    WrongMemberKind {
        /// Whether the directory is that of a witness.
        witness: bool,
    },
    /// More was applied than there is, though nothing is applied before it is on the disk.
    ApplyBeyondLog {
        /// How far was applied.
        applied: Index,
        /// The last entry.
        last: LogId,
    },
}

impl Durable {
    /// The beginning of a group of these members. Each of them is started from it, once; later ones are added
    /// by [`Event::Reconfigure`](crate::event::Event::Reconfigure) and start from the default. The first
    /// members must have the incarnations that it lists, so their directories are made together.
    pub fn bootstrap(membership: Membership) -> Self {
        let membership = Arc::new(membership);
        let snapshot = Snapshot { last: LogId::ZERO, configured: LogId::ZERO, membership };
        Self { snapshot: Some(snapshot), ..Self::default() }
    }

    /// The last entry, or the base of an empty log.
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.skipped_through(), |entry| entry.id)
    }

    /// The entry before the first of `entries`.
    pub fn skipped_through(&self) -> LogId {
        self.skipped.last.unwrap_or(self.base)
    }

    /// Drops committed entries from `entries` while they take more than `max_bytes`, so that a log larger
    /// than memory can be summed up piece by piece. The member asks its host for a dropped entry when it
    /// needs it, and other members for a lost one.
    pub fn skip(&mut self, max_bytes: u64) {
        let mut size: u64 = self.entries.iter().map(Entry::size).sum();
        let mut skipped = 0;
        for entry in &self.entries {
            if size <= max_bytes || entry.id.index > self.committed {
                break;
            }
            size -= entry.size();
            skipped += 1;
        }
        for entry in self.entries.drain(..skipped) {
            self.skipped.push(&entry);
        }
    }

    /// Applies a write, as a disk would. Writes come in the order of their numbers.
    pub fn write(&mut self, write: &Write) {
        self.ballot = write.ballot;
        self.starts = write.starts;
        self.committed = write.committed;
        if let Some(after) = write.truncate_after {
            self.truncate(after);
        }
        for entry in write.repaired.iter() {
            self.repair(entry);
        }
        if let Some(rebase) = &write.rebase {
            self.forget(rebase.base);
            self.snapshot = Some(rebase.snapshot.clone());
            self.snapshot_lost = false;
        }
        self.entries.extend(write.append.iter().cloned());
    }

    /// Removes every entry after this index.
    pub(crate) fn truncate(&mut self, after: Index) {
        self.entries.truncate(self.position_after(after));
    }

    /// Puts an entry in the place of the same one that was lost. Returns whether it was.
    pub(crate) fn repair(&mut self, entry: &Entry) -> bool {
        let index = entry.id.index;
        if index <= self.skipped_through().index {
            return self.skipped.repair(entry);
        }
        let position = self.position_after(index.prev().unwrap_or_default());
        let is_lost = |known: &&mut Entry| known.id == entry.id && known.body == EntryBody::Lost;
        match self.entries.get_mut(position).filter(is_lost) {
            Some(lost) => *lost = entry.clone(),
            None => return false,
        }
        true
    }

    /// The log begins after `base` now.
    pub(crate) fn forget(&mut self, base: LogId) {
        let forgotten = self.position_after(base.index).min(self.entries.len());
        self.entries.drain(..forgotten);
        self.skipped.forget(base.index);
        self.base = base;
    }

    /// Checks that a member with this configuration may have written this state, and makes its log from it.
    pub(crate) fn restore(mut self, config: &Config) -> Result<Restored, RestoreError> {
        // The disk is not told while the snapshot is lost: a write that names a snapshot says, too,
        // that it is there.
        let trimmed = self.leave_lost_behind() && !self.snapshot_lost;
        let witness = config.options.witness;
        self.check(witness)?;
        let Self { ballot, starts, snapshot, snapshot_lost, base, skipped, entries, committed, applied } =
            self;
        let stored = Stored { snapshot, snapshot_lost, base, skipped, entries, committed, applied, trimmed };
        let log = Log::restore(stored, config.options.max_append_bytes);
        let (group, me) = (log.membership(), config.member());
        if group.contains(me) && group.is_witness(me.id) != witness {
            return Err(RestoreError::WrongMemberKind { witness: !witness });
        }
        if let Some((after, through)) = log.missing()
            && group.members() == [me]
        {
            return Err(RestoreError::LastCopyLost { after, through });
        }
        Ok(Restored { ballot, starts, log })
    }

    /// Checks that the parts of this state fit together.
    fn check(&self, witness: bool) -> Result<(), RestoreError> {
        let (after, committed) = (self.skipped_through(), self.committed);
        let last = LogSlice::check(after, &self.entries).map_err(RestoreError::Discontinuity)?;
        let term = self.ballot.term();
        if last.term > term {
            return Err(RestoreError::EntryAfterBallot { last, term });
        }
        let floor = self.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        if self.base.index > floor.index || floor.index > last.index {
            return Err(RestoreError::NoSnapshot { base: self.base });
        }
        if committed > last.index {
            return Err(RestoreError::CommitBeyondLog { committed, last });
        }
        if self.applied > last.index {
            return Err(RestoreError::ApplyBeyondLog { applied: self.applied, last });
        }
        let withheld = |entry: &Entry| entry.body == EntryBody::Withheld;
        if !witness && self.entries.iter().any(withheld) {
            return Err(RestoreError::WrongMemberKind { witness: true });
        }
        if after.index > committed.max(floor.index) {
            return Err(RestoreError::SkippedUncommitted { skipped: after, committed });
        }
        Ok(())
    }

    /// Moves the beginning of the log behind the last lost entry that the snapshot covers: entries covered by
    /// a snapshot are not repaired. Returns whether there was one.
    fn leave_lost_behind(&mut self) -> bool {
        let floor = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let Some(base) = self.lost_runs().last_through(floor).and_then(|last| self.id(last)) else {
            return false;
        };
        self.forget(base);
        true
    }

    /// The lost entries, as runs: the entry before the first and the last one.
    pub fn lost(&self) -> Vec<(LogId, LogId)> {
        let id = |index| self.id(index).unwrap_or(self.base);
        self.lost_runs()
            .iter()
            .map(|(first, last)| (id(first.prev().unwrap_or_default()), id(last)))
            .collect()
    }

    fn lost_runs(&self) -> Runs {
        let mut lost = self.skipped.lost.clone();
        let damaged = self.entries.iter().filter(|entry| entry.body == EntryBody::Lost);
        damaged.for_each(|entry| lost.push(entry.id.index));
        lost
    }

    /// The id of the entry at `index`, after the base.
    pub(crate) fn id(&self, index: Index) -> Option<LogId> {
        let before = index.prev()?;
        if before < self.skipped_through().index {
            return self.skipped.id(index);
        }
        self.entries.get(self.position_after(before)).map(|entry| entry.id)
    }

    fn position_after(&self, index: Index) -> usize {
        usize::try_from(index.get().saturating_sub(self.skipped_through().index.get())).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discontinuity(gap) => write!(f, "the stored log has a gap: {gap}")?,
            Self::EntryAfterBallot { last, term } => {
                write!(
                    f,
                    "the stored log ends with entry {last}, but the stored ballot is of the earlier term {term}"
                )?;
            }
            Self::CommitBeyondLog { committed, last } => {
                write!(f, "entry {committed} was committed, but the stored log ends with entry {last}")?;
            }
            Self::LastCopyLost { after, through } => {
                return write!(
                    f,
                    "everything after entry {after} through entry {through} is damaged, and this member knows of no other that could \
                     have it: put back a copy of the directory from before the damage. If members were added since, and can elect a leader \
                     without this one, remove it and add it again under a new incarnation with an empty directory; if they cannot, start \
                     a new cluster from the one of them that has the most (recover::force_new_cluster)"
                );
            }
            Self::SkippedUncommitted { skipped, committed } => {
                return write!(
                    f,
                    "everything through entry {skipped} was left out, but only {committed} is committed: sum up what was written with \
                     Durable::write, and leave out with Durable::skip"
                );
            }
            Self::WrongMemberKind { witness: true } => {
                return f.write_str("the directory is that of a witness: start the member as one");
            }
            Self::WrongMemberKind { witness: false } => {
                return f.write_str("the directory is not that of a witness: start the member as what it is");
            }
            Self::NoSnapshot { base } => {
                write!(f, "the stored log begins after entry {base}, which no stored snapshot holds")?;
            }
            Self::ApplyBeyondLog { applied, last } => {
                write!(f, "entry {applied} was applied, but the stored log ends with entry {last}")?;
            }
        }
        f.write_str(": the disk lost what this member acknowledged; do not start it, replace it")
    }
}

impl core::error::Error for RestoreError {}
