//! Whether what a store has come back with is what it owes.

use super::point::Rule;
use crate::hash::StableHasher;
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::types::{Index, WriteSeq};
use std::fmt::Write as _;

/// What a store owes: everything acknowledged, and then as much of what was written as it likes, from the
/// first on.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) acknowledged: Durable,
    /// Written and not acknowledged.
    pub(super) written: Vec<Write>,
}

/// What was broken, and how.
pub(super) type Verdict = Result<(), (Rule, String, String)>;

impl Promise {
    /// Of a store that has just come back with this.
    pub(super) fn of(found: &Durable) -> Self {
        Self { acknowledged: found.clone(), written: Vec::new() }
    }

    /// The store says that everything through this write is durable.
    pub(super) fn acknowledge(&mut self, seq: WriteSeq) -> Verdict {
        let last = self.written.last().map(|write| write.seq);
        while self.written.first().is_some_and(|write| write.seq <= seq) {
            self.acknowledged.write(&self.written.remove(0));
        }
        match last {
            Some(last) if seq > last => {
                let expected = format!("at most write {} acknowledged", last.get());
                let found = format!("write {} acknowledged", seq.get());
                Err((Rule::AcknowledgesWhatIsWritten, expected, found))
            }
            _ => Ok(()),
        }
    }

    /// Everything that was written.
    fn all(&self) -> Durable {
        let mut all = self.acknowledged.clone();
        for write in &self.written {
            all.write(write);
        }
        all
    }

    /// After a mere crash.
    pub(super) fn judge(&self, found: &Durable) -> Verdict {
        let mut candidate = self.acknowledged.clone();
        let mut committed = candidate.committed;
        let mut matches = is(found, &candidate, committed);
        for write in &self.written {
            candidate.write(write);
            committed = committed.max(candidate.committed);
            matches = matches || is(found, &candidate, committed);
        }
        if matches { Ok(()) } else { Err((self.broken(found), self.expected(), describe(found))) }
    }

    /// The rule that is broken, where `found` is not what it should be.
    fn broken(&self, found: &Durable) -> Rule {
        let owed = &self.acknowledged;
        if found.last().term > found.ballot.term() {
            return Rule::TermBeforeEntries;
        }
        if is_older(found, owed) {
            return Rule::KeepsTheVote;
        }
        if found.snapshot_lost || !found.lost().is_empty() {
            return Rule::NoFalseAlarm;
        }
        // Which entries no write would have taken back.
        let overwritten = self.written.iter().filter_map(|write| write.truncate_after).min();
        let covered = self.written.iter().filter_map(|write| Some(write.rebase.as_ref()?.base.index)).max();
        let kept = |entry: &&Entry| {
            overwritten.is_none_or(|after| entry.id.index <= after)
                && covered.is_none_or(|base| entry.id.index > base)
                && entry.id.index > found.skipped_through().index
        };
        let has = |entry: &Entry| entry_at(found, entry.id.index) == Some(entry);
        let rebased = found.base == owed.base && found.snapshot == owed.snapshot;
        let all = self.all();
        let moved_on = self.written.iter().any(|write| write.rebase.is_some());
        let base_known = rebased || moved_on && (found.base == all.base || found.snapshot == all.snapshot);
        if !base_known
            || !owed.entries.iter().filter(kept).all(has)
            || found.last() < owed.last() && overwritten.is_none()
        {
            return Rule::KeepsWhatIsAcknowledged;
        }
        Rule::NothingButWhatWasWritten
    }

    /// After damage to what was acknowledged, with nothing written that is not. Lost entries are in order,
    /// and others not.
    pub(super) fn judge_damaged(&self, found: &Durable) -> Verdict {
        let owed = &self.acknowledged;
        let verdict = |rule| Err((rule, self.expected(), describe(found)));
        let known = |entry: &Entry| {
            let hidden = entry.id.index <= found.skipped_through().index;
            let here = entry_at(found, entry.id.index).filter(|here| here.id == entry.id);
            hidden || here.is_some_and(|here| here.body == EntryBody::Lost || here == entry)
        };
        let rests = found.base == owed.base && (found.snapshot == owed.snapshot || found.snapshot_lost);
        if !rests || found.last() != owed.last() || !owed.entries.iter().all(known) {
            return verdict(Rule::ReportsDamage);
        }
        if is_older(found, owed) {
            return verdict(Rule::KeepsTheVote);
        }
        Ok(())
    }

    fn expected(&self) -> String {
        let mut text = describe(&self.acknowledged);
        if !self.written.is_empty() {
            let _ = write!(
                text,
                "; or that and the first of {} more writes, up to {}",
                self.written.len(),
                describe(&self.all())
            );
        }
        text
    }
}

/// Whether a log is this one. The commit index may be any that was true: it can be lost without harm.
fn is(found: &Durable, owed: &Durable, committed: Index) -> bool {
    let shown = |entry: &&Entry| entry.id.index > found.skipped_through().index;
    found.ballot == owed.ballot
        && found.starts == owed.starts
        && found.snapshot == owed.snapshot
        && !found.snapshot_lost
        && found.base == owed.base
        && found.last() == owed.last()
        && found.committed <= committed
        && found.entries.iter().eq(owed.entries.iter().filter(shown))
}

/// Whether the ballot is not what was acknowledged, nor any that may have come after it.
fn is_older(found: &Durable, owed: &Durable) -> bool {
    let (term, vote) = (found.ballot.term(), found.ballot.vote());
    term < owed.ballot.term()
        || term == owed.ballot.term() && owed.ballot.vote().is_some() && vote != owed.ballot.vote()
}

fn entry_at(log: &Durable, index: Index) -> Option<&Entry> {
    log.entries.iter().find(|entry| entry.id.index == index)
}

/// A log in one line.
pub(super) fn describe(log: &Durable) -> String {
    let vote = log.ballot.vote().map_or("no member".to_owned(), |vote| vote.to_string());
    let mut text = format!(
        "term {} with a vote for {vote}, start {}, entries after {}",
        log.ballot.term(),
        log.starts,
        log.base
    );
    let _ = write!(text, " through {} (contents {:x})", log.last(), StableHasher::of(&log.entries));
    for (after, through) in log.lost() {
        let _ = write!(text, ", of which everything after {after} through {through} is lost");
    }
    match &log.snapshot {
        Some(snapshot) => {
            let _ = write!(
                text,
                ", snapshot through {}{}",
                snapshot.last,
                if log.snapshot_lost { " (lost)" } else { "" }
            );
        }
        None => text.push_str(", no snapshot"),
    }
    let _ = write!(text, ", committed through {}", log.committed);
    text
}
