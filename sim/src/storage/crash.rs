//! What a crash takes: of everything that no sync has covered, any part.

use super::SimDisk;
use super::file::{Landed, SECTOR, tear};
use super::naming::Change;
use crate::stream::Stream;
use std::collections::BTreeMap;
use std::ops::Range;

/// What becomes of one change in a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never was.
    Lost,
    /// It is there. A change of names is kept only where all earlier ones of the same names are.
    Kept,
    /// These bytes of a write are there, counted from its first. A change of names is never torn: it is lost.
    Torn {
        /// Which bytes; what reaches beyond the write's end is left out.
        parts: Vec<Range<u64>>,
        /// Whether the file is as long as the whole write made it, with zeros where nothing landed.
        grown: bool,
    },
}

/// A crash that is laid down beforehand. Changes are counted from zero, in the order of
/// [`SimDisk::unsynced`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plan {
    /// Only what syncs have covered is left.
    KeepNone,
    /// Everything is left.
    KeepAll,
    /// The contents of files are left, and no change of names.
    KeepContents,
    /// Changes of names are left, and no contents.
    KeepNames,
    /// Nothing is left but this one; and, where it is a change of names, those of the same names before it.
    KeepOnly(usize),
    /// Everything is left but this one; and, where it is a change of names, those of the same names after it.
    LoseOnly(usize),
    /// All before this one is left, of this one a prefix of so many bytes, and nothing after it.
    TearAfter(usize, u64),
    /// Nothing is left but a prefix of this one, of so many bytes.
    KeepOnlyPrefix(usize, u64),
    /// Everything is left but the first so many bytes of this one, and the rest of the sector that they end
    /// in: of one sector it is the beginning that is written first.
    LoseOnlyPrefix(usize, u64),
}

/// What a crash took.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Changes that survived, though no sync had covered them.
    pub kept: u64,
    /// Writes of which a part survived.
    pub torn: u64,
    /// Writes that did not survive.
    pub writes: u64,
    /// Changes of names that did not survive.
    pub names: u64,
}

impl SimDisk {
    /// What no sync has covered, the oldest first.
    pub fn unsynced(&self) -> Vec<Change> {
        self.changes().into_iter().map(|(_, change)| change).collect()
    }

    /// Power fails. Of what no sync has covered any subset survives: each write whole, not at all, or torn at
    /// any byte; each change of names wholly or not at all, and never without the earlier ones of the same
    /// names.
    pub fn crash(&mut self, chance: &mut Stream) -> Lost {
        // Whole crashes that keep nearly everything, or nearly nothing, are as likely as those in between.
        let keep = *chance.pick(&[0, 1_000, 5_000, 9_000, 10_000]);
        self.crash_with(|_, change| {
            if chance.chance(keep) {
                return Fate::Kept;
            }
            match *change {
                Change::Write { at, length, .. } if keep > 0 && chance.coin() => {
                    Fate::Torn { parts: tear(chance, at, length), grown: chance.coin() }
                }
                _ => Fate::Lost,
            }
        })
    }

    /// Power fails, and this is what is left.
    pub fn crash_at(&mut self, plan: Plan) -> Lost {
        let changes = self.unsynced();
        self.crash_with(|position, change| plan.fate(position, change, &changes))
    }

    /// Power fails, and `decide` says what becomes of each change, the oldest first, with its number in
    /// [`unsynced`](Self::unsynced).
    pub fn crash_with(&mut self, mut decide: impl FnMut(usize, &Change) -> Fate) -> Lost {
        let mut lost = Lost::default();
        let mut landed = BTreeMap::new();
        let mut taken_back: Vec<Change> = Vec::new();
        for (position, (order, change)) in self.changes().into_iter().enumerate() {
            let fate = decide(position, &change);
            match (change, fate) {
                (Change::Write { length, .. }, fate) => {
                    landed.insert(order, lost.count_write(length, fate));
                }
                (_, Fate::Kept) if !taken_back.iter().any(|other| other.shares_name_with(&change)) => {
                    lost.kept += 1;
                    let naming = self.namings.iter().find(|naming| naming.order == order);
                    naming.expect("it was found there").apply(&mut self.medium);
                }
                (change, _) => {
                    lost.names += 1;
                    taken_back.push(change);
                }
            }
        }
        self.namings.clear();
        self.shown = self.medium.clone();
        self.forget_nameless(self.files.keys().copied().collect());
        for file in self.files.values_mut() {
            file.crash(|order| landed.remove(&order).unwrap_or_else(Landed::nothing));
        }
        self.armed.clear();
        self.counters.crashes += 1;
        lost
    }

    fn changes(&self) -> Vec<(u64, Change)> {
        let mut changes = Vec::new();
        for (id, file) in &self.files {
            let name = self.called[id];
            changes.extend(file.waiting().map(|write| {
                let (at, length) = (write.at as u64, write.length as u64);
                (write.order, Change::Write { file: name, at, length })
            }));
        }
        let namings = self.namings.iter().filter(|naming| !naming.dropped);
        changes.extend(namings.map(|naming| (naming.order, naming.change)));
        changes.sort_unstable_by_key(|(order, _)| *order);
        changes
    }
}

impl Plan {
    fn fate(self, position: usize, change: &Change, changes: &[Change]) -> Fate {
        let kept = |kept| if kept { Fate::Kept } else { Fate::Lost };
        let torn = |part: Range<u64>, grown| Fate::Torn { parts: Vec::from([part]), grown };
        match self {
            Self::KeepNone => Fate::Lost,
            Self::KeepAll => Fate::Kept,
            Self::KeepContents => kept(change.is_write()),
            Self::KeepNames => kept(!change.is_write()),
            Self::KeepOnly(only) => {
                let needed = position < only
                    && changes.get(only).is_some_and(|kept| leads_to(changes, position, only, kept));
                kept(position == only || needed)
            }
            Self::LoseOnly(only) => kept(position != only),
            Self::TearAfter(last, bytes) if position == last => torn(0..bytes, false),
            Self::TearAfter(last, _) => kept(position < last),
            Self::KeepOnlyPrefix(only, bytes) if position == only => torn(0..bytes, false),
            Self::KeepOnlyPrefix(..) => Fate::Lost,
            Self::LoseOnlyPrefix(only, bytes) if position == only => {
                let at = if let Change::Write { at, .. } = *change { at } else { 0 };
                torn((at + bytes).next_multiple_of(SECTOR) - at..u64::MAX, true)
            }
            Self::LoseOnlyPrefix(..) => Fate::Kept,
        }
    }
}

/// Whether the change of names at `position` must have happened for the one at `only` to be possible.
fn leads_to(changes: &[Change], position: usize, only: usize, kept: &Change) -> bool {
    let change = &changes[position];
    change.shares_name_with(kept)
        || changes[position + 1..only].iter().enumerate().any(|(offset, between)| {
            change.shares_name_with(between) && leads_to(changes, position + 1 + offset, only, kept)
        })
}

impl Lost {
    fn count_write(&mut self, length: u64, fate: Fate) -> Landed {
        let (parts, grown) = match fate {
            Fate::Lost => (Vec::new(), false),
            Fate::Kept => (std::iter::once(0..length).collect(), true),
            Fate::Torn { parts, grown } => (parts, grown),
        };
        let within = |at: u64| usize::try_from(at.min(length)).unwrap_or(usize::MAX);
        let parts = parts.iter().map(|part| within(part.start)..within(part.end));
        let parts: Vec<_> = parts.filter(|part| part.start < part.end).collect();
        if grown && parts.iter().map(|part| part.len() as u64).sum::<u64>() >= length {
            self.kept += 1;
        } else if parts.is_empty() {
            self.writes += 1;
        } else {
            self.torn += 1;
        }
        Landed { parts, grown }
    }
}
