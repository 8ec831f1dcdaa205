//! Whether recovery has answered what it owes.

use super::disk::{BLOCK, Platter, SECTOR, is_read, reachable, sector_of};
use super::frame::Frame;
use super::history::{Batch, History, Moment, small_entry};
use kontiki_core::durable::Durable;
use kontiki_core::log::EntryBody;
use kontiki_core::wal::{FileName, Missing, RecoverError, Recovery};

/// Which promise recovery has broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Broken {
    /// Something that was acknowledged is absent, and is not reported as lost.
    DurableLog,
    /// What a mere crash leaves is called damage, or prevents a start.
    FalseAlarm,
    /// One damaged block prevents a start, though something else tells what it held.
    Restart,
    /// The recovered log is recovered as another one.
    SameAgain,
    /// Recovery has panicked.
    Panic,
}

impl Broken {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::DurableLog => "Durable Log",
            Self::FalseAlarm => "No False Alarm",
            Self::Restart => "Restart",
            Self::SameAgain => "Same Again",
            Self::Panic => "No Panic",
        }
    }
}

/// How a case ended well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Held {
    /// Everything is there.
    Whole,
    /// What is not there is reported as lost, by the ids of the entries or as damage.
    Reported,
    /// The member must not start.
    Refused,
    /// Something is absent of which nothing can tell: the disk is one that a shorter history leaves as well,
    /// with no other block damaged.
    Indistinguishable,
    /// The latest ballot is absent, because it stood in one file alone and both blocks of that file are
    /// damaged.
    BallotGone,
}

impl Held {
    /// Every way.
    pub const ALL: [Self; 5] =
        [Self::Whole, Self::Reported, Self::Refused, Self::Indistinguishable, Self::BallotGone];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "everything there",
            Self::Reported => "reported",
            Self::Refused => "refused",
            Self::Indistinguishable => "indistinguishable",
            Self::BallotGone => "ballot gone",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Whole => "everything that was acknowledged is there",
            Self::Reported => "what is lost is reported",
            Self::Refused => "too much is damaged, and recovery says so",
            Self::Indistinguishable => {
                "something is absent, and nothing on the disk tells of it: a shorter history leaves the same"
            }
            Self::BallotGone => {
                "the latest ballot is absent: it stood in one file alone, both blocks of which are damaged"
            }
        }
    }
}

/// Recovery's answer.
pub(super) type Answer = Result<Recovery, RecoverError>;

/// What is known of a case.
pub(super) struct Case<'a> {
    pub(super) history: &'a History,
    pub(super) at: usize,
    pub(super) frame: &'a Frame,
    /// The disk that recovery has read.
    pub(super) disk: &'a Platter,
    /// The damaged blocks.
    pub(super) damages: u64,
}

impl Case<'_> {
    fn moment(&self) -> &Moment {
        &self.history.moments[self.at]
    }

    /// Judges the answer; or says which promise is broken, and what was expected.
    pub(super) fn judge(&self, answer: &Answer) -> Result<Held, (Broken, String)> {
        match answer {
            Ok(recovery) => self.judge_started(recovery),
            Err(error) => self.judge_refused(error),
        }
    }

    fn judge_refused(&self, error: &RecoverError) -> Result<Held, (Broken, String)> {
        let is_known = matches!(error, RecoverError::VoteLost | RecoverError::TooMuch(_));
        if self.damages == 0 {
            return Err((Broken::FalseAlarm, "a start, after a mere crash".to_owned()));
        }
        if !is_known {
            return Err((Broken::Restart, "a start, or what is lost".to_owned()));
        }
        if self.damages.count_ones() == 1 && self.is_told(error) {
            let expected = "a start: one block is damaged, and something else tells what it held";
            return Err((Broken::Restart, expected.to_owned()));
        }
        Ok(Held::Refused)
    }

    /// Whether something else than the one damaged block tells what it held.
    fn is_told(&self, error: &RecoverError) -> bool {
        let block = self.frame.blocks[self.damages.trailing_zeros() as usize];
        let holds = |batch: &&Batch| batch.file == block.0 && batch.blocks.contains(&block.1);
        let Some(batch) = self.history.batches.iter().find(holds) else { return true };
        let told = batch.told_at.is_some_and(|told| told <= self.at);
        // Either of its headers tells of it.
        let [first, last] = [batch.blocks.start * BLOCK, batch.blocks.end * BLOCK - SECTOR];
        let stays = |at: usize| {
            let sector = at / SECTOR;
            let (now, was) = (&self.disk.files[batch.file], &self.frame.base.files[batch.file]);
            !now.unreadable.contains(&sector)
                && sector_of(&now.shown, sector) == sector_of(&was.shown, sector)
        };
        // But not of the members as of a snapshot, which these histories keep in no file.
        let by_headers = !matches!(error, RecoverError::TooMuch(Missing::Membership(_)));
        told || by_headers && (stays(first) || stays(last))
    }

    fn judge_started(&self, recovery: &Recovery) -> Result<Held, (Broken, String)> {
        let Recovery { durable, found, .. } = recovery;
        let states = &self.moment().states;
        let is_lost = durable.entries.iter().any(|entry| entry.body == EntryBody::Lost);
        if self.damages == 0 && !self.moment().rotten {
            let alarmed = is_lost || found.rotten_batches > 0 || found.bad_segments > 0;
            if alarmed {
                return Err((Broken::FalseAlarm, "nothing lost, after a mere crash".to_owned()));
            }
        }
        if survives(durable, states, self.damages > 0) {
            return Ok(if is_lost || found.rotten_batches > 0 { Held::Reported } else { Held::Whole });
        }
        if self.damages > 0 && survives(durable, &self.begun_earlier(durable), true) {
            return Ok(Held::Reported);
        }
        if self.damages > 0 && self.is_indistinguishable(durable) {
            return Ok(Held::Indistinguishable);
        }
        if self.is_ballot_gone(durable) {
            return Ok(Held::BallotGone);
        }
        let states: Vec<_> = states.iter().map(describe).collect();
        Err((Broken::DurableLog, states.join("; or ")))
    }

    /// What is owed, as the log would be had it not been cut at its beginning since: its base and snapshot
    /// are those of an earlier moment, and the entries that the later base covers follow.
    fn begun_earlier(&self, found: &Durable) -> Vec<Durable> {
        let states = &self.moment().states;
        let all = self.history.moments[..self.at].iter().flat_map(|then| &then.states);
        let earlier = all.filter(|then| then.base == found.base && then.snapshot == found.snapshot);
        let of = |then: &Durable, state: &Durable| {
            let end = then.entries.iter().position(|entry| entry.id == state.base)?;
            let entries = then.entries[..=end].iter().chain(&state.entries).cloned().collect();
            let (base, snapshot) = (then.base, then.snapshot.clone());
            Some(Durable { base, snapshot, entries, ..state.clone() })
        };
        earlier.flat_map(|then| states.iter().filter_map(|state| of(then, state))).collect()
    }

    /// Whether nothing but the ballot is absent, which stands in one file alone between a vote and its mark,
    /// and all of that file is damaged: a limit of the format.
    fn is_ballot_gone(&self, found: &Durable) -> bool {
        let is_damaged = |bit: usize| self.damages >> bit & 1 == 1;
        let is_vote = |file: usize| {
            self.disk.names.iter().any(|(name, it)| *it == file && matches!(name, FileName::Vote(_)))
        };
        let blocks = || self.frame.blocks.iter().enumerate();
        let all_of = |file: usize| {
            let own = blocks().filter(|(_, block)| block.0 == file);
            own.fold((0, true), |(count, all), (bit, _)| (count + 1, all && is_damaged(bit)))
        };
        let gone = blocks().any(|(_, (file, _))| is_vote(*file) && all_of(*file) == (2, true));
        let voted = |then: &Moment| {
            let same = |state: &Durable| (state.ballot, state.starts) == (found.ballot, found.starts);
            then.states.iter().any(same)
        };
        gone && self.history.moments[..self.at].iter().any(voted)
            && self.moment().states.iter().any(|state| is_log(found, state))
    }

    /// Whether the member had been on this very disk before, with no other block damaged, and what recovery
    /// has found is what it owed then.
    fn is_indistinguishable(&self, found: &Durable) -> bool {
        let earlier = self.history.moments[..self.at].iter().rev();
        earlier.filter(|then| survives(found, &then.states, true)).any(|then| self.could_be(then))
    }

    fn could_be(&self, then: &Moment) -> bool {
        let counts = |names: &[(FileName, usize)]| {
            let mut names: Vec<_> = names.to_vec();
            names.retain(|(name, _)| !matches!(name, FileName::Spare(_)));
            names.sort_unstable();
            names
        };
        let now = counts(&self.disk.names);
        reachable(&then.disk).iter().any(|(names, _)| counts(names) == now)
            && now.iter().all(|(_, file)| self.file_could_be(*file, then))
    }

    fn file_could_be(&self, file: usize, then: &Moment) -> bool {
        let now = &self.disk.files[file].shown;
        let Some(before) = then.disk.files.get(file).filter(|_| is_read(&then.disk, file)) else {
            return false;
        };
        let blocks = now.len().max(before.shown.len()).div_ceil(BLOCK);
        (0..blocks).all(|block| {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let durable = before.durable.get(range.clone());
            let is_readable = self.disk.files[file].unreadable.iter().all(|at| at / 8 != block);
            if is_readable && now.get(range) == durable {
                return true;
            }
            // What was never written is not damaged.
            let is_written = durable.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0));
            let damaged = self.frame.blocks.iter().position(|it| *it == (file, block));
            let is_damaged = damaged.is_some_and(|bit| self.damages >> bit & 1 == 1);
            if is_damaged && is_written {
                return true;
            }
            is_readable
                && (block * 8..(block + 1) * 8).all(|sector| {
                    let now = sector_of(now, sector);
                    let (old, new) = (sector_of(&before.durable, sector), sector_of(&before.shown, sector));
                    is_cut_short(now, old, new)
                })
        })
    }
}

/// Whether a sector is a beginning of its new content, and behind that the old: none of the new, all of it,
/// or some.
pub(super) fn is_cut_short(now: &[u8], old: &[u8], new: &[u8]) -> bool {
    let same = now.iter().zip(new).take_while(|(a, b)| a == b).count();
    now[same..] == old[same..]
}

/// Whether what was found is one of these states: bodies may be reported as lost, and the ballot may be that
/// of a later write, where something is `damaged`.
pub(super) fn survives(found: &Durable, states: &[Durable], damaged: bool) -> bool {
    let committed = states.iter().map(|state| state.committed).max();
    let is_committed = |state: &Durable| found.committed <= committed.unwrap_or(state.committed);
    let same_vote = |state: &Durable| (found.ballot, found.starts) == (state.ballot, state.starts);
    let has_vote = states.iter().any(same_vote);
    states.iter().any(|state| {
        let voted = if damaged { has_vote } else { same_vote(state) };
        voted && is_committed(state) && is_log(found, state)
    })
}

fn is_log(found: &Durable, state: &Durable) -> bool {
    let same = |(found, owed): (&kontiki_core::log::Entry, &kontiki_core::log::Entry)| {
        // What was lost may be read again, where the damage is taken back.
        let is_back = || owed.body == EntryBody::Lost && *found == small_entry(owed.id);
        found.id == owed.id && (found.body == EntryBody::Lost || found.body == owed.body || is_back())
    };
    found.base == state.base
        && found.snapshot == state.snapshot
        && found.entries.len() == state.entries.len()
        && found.entries.iter().zip(&state.entries).all(same)
}

/// A log in one line.
pub(super) fn describe(log: &Durable) -> String {
    let vote = log.ballot.vote().map_or("no member".to_owned(), |vote| format!("member {vote}"));
    let mut text = format!(
        "term {} with a vote for {vote}, start {}, committed through {}, {}, entries",
        log.ballot.term(),
        log.starts,
        log.committed,
        match &log.snapshot {
            Some(snapshot) if log.snapshot_lost => format!("{snapshot} whose bytes are lost"),
            Some(snapshot) => snapshot.to_string(),
            None => "no snapshot".to_owned(),
        }
    );
    let ids: Vec<_> = log
        .entries
        .iter()
        .map(|entry| match entry.body {
            EntryBody::Lost => format!("{} (lost)", entry.id),
            _ => entry.id.to_string(),
        })
        .collect();
    text += &format!(" [{}] after {}", ids.join(", "), log.base);
    text
}
