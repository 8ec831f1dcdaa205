//! Every membership that was ever appended, and which of them a log has.

use super::Observation;
use crate::ledger::{Link, index_of, link_at};
use kontiki_core::action::{Action, Write};
use kontiki_core::log::EntryBody;
use kontiki_core::membership::Membership;
use kontiki_core::types::{Index, LogId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// By the index of the entry; several where leaders of several terms have appended one there.
#[derive(Default, Debug)]
pub(super) struct Memberships {
    appended: BTreeMap<Index, Vec<(LogId, Arc<Membership>)>>,
}

/// A membership, and the entry that holds it.
pub(super) type Known = (LogId, Arc<Membership>);

impl Memberships {
    /// The group begins with this membership.
    pub(super) fn begins_with(&mut self, membership: Membership) {
        self.appended.insert(Index::ZERO, vec![(LogId::ZERO, Arc::new(membership))]);
    }

    /// Takes note of what a step appends. Returns whether the memberships in the member's log may be others
    /// than before.
    pub(super) fn note(&mut self, step: &Observation<'_>) -> bool {
        let mut may_differ = false;
        for action in step.actions {
            if let Action::Persist(write) = action {
                may_differ |= self.note_write(write);
            }
        }
        may_differ
    }

    fn note_write(&mut self, write: &Write) -> bool {
        let mut may_differ = write.truncate_after.is_some() || write.rebase.is_some();
        may_differ |= !write.repaired.is_empty();
        for entry in write.append.iter() {
            if let EntryBody::Config(membership) = &entry.body {
                may_differ = true;
                self.add(entry.id, membership);
            }
        }
        may_differ
    }

    fn add(&mut self, entry: LogId, membership: &Arc<Membership>) {
        let known = self.appended.entry(entry.index).or_default();
        if !known.iter().any(|(id, _)| *id == entry) {
            known.push((entry, Arc::clone(membership)));
        }
    }

    #[cfg(test)]
    pub(super) fn appended_at(&mut self, entry: LogId, membership: Membership) {
        self.add(entry, &Arc::new(membership));
    }

    /// The membership as of this index of a log: that of the last entry through there that holds one.
    pub(super) fn as_of(&self, index: Index, log: &[Link]) -> Option<&Known> {
        self.before(index, log).next()
    }

    /// The latest membership in a log, of those whose entry is such.
    pub(super) fn latest_in(&self, log: &[Link], is_such: impl Fn(&LogId) -> bool) -> Option<&Known> {
        let last = log.len().checked_sub(1).map_or(Index::ZERO, index_of);
        self.before(last, log).find(|(entry, _)| is_such(entry))
    }

    /// The memberships in a log through this index, the latest first.
    fn before(&self, index: Index, log: &[Link]) -> impl Iterator<Item = &Known> {
        let is_there = |id: &LogId| {
            id.index == Index::ZERO || link_at(log, id.index).is_some_and(|link| link.term == id.term)
        };
        let before = self.appended.range(..=index).rev();
        before.filter_map(move |(_, known)| known.iter().find(|(id, _)| is_there(id)))
    }

    /// The entries that hold memberships, of these runs: each from behind one entry through another.
    pub(super) fn of_entries(&self, runs: &[(LogId, LogId)]) -> Vec<LogId> {
        let behind =
            |(after, through): &(LogId, LogId)| self.appended.range(after.index.next()..=through.index);
        runs.iter().flat_map(behind).flat_map(|(_, known)| known.iter().map(|(entry, _)| *entry)).collect()
    }
}
