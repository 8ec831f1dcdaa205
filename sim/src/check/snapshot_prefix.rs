//! Snapshot Prefix: a snapshot on which a log rests holds what the group has committed, through its last
//! entry, with the membership as of that entry (thesis 5.1); and members that have applied the same have the
//! same state.

use super::{Check, Finding, Observation};
use crate::ledger::{Link, link_at};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::action::Action;
use kontiki_core::log::{EntryBody, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Index, LogId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every membership that was ever appended, and the state that members had at each index.
#[derive(Default, Debug)]
pub struct SnapshotPrefix {
    memberships: BTreeMap<Index, Vec<(LogId, Arc<Membership>)>>,
    states: BTreeMap<Index, (u64, NodeId, Stamp)>,
}

impl SnapshotPrefix {
    /// The group begins with this membership.
    pub fn begins_with(&mut self, membership: Membership) {
        self.memberships.insert(Index::ZERO, vec![(LogId::ZERO, Arc::new(membership))]);
    }

    /// Whether the snapshots that a step puts under a log are those of what the group has committed.
    pub fn rests_on(&self, step: &Observation<'_>, committed: &[Link]) -> Result<(), String> {
        for action in step.actions {
            if let Action::Persist(write) = action
                && let Some(rebase) = &write.rebase
            {
                self.check(&rebase.snapshot, committed).map_err(|found| {
                    format!("the log of member {} rests on {}, {found}", step.after.id, rebase.snapshot)
                })?;
            }
        }
        Ok(())
    }

    fn check(&self, snapshot: &Snapshot, committed: &[Link]) -> Result<(), String> {
        let term_at = |index| link_at(committed, index).map(|link| link.term);
        let last = snapshot.last;
        if last != LogId::ZERO && term_at(last.index) != Some(last.term) {
            return Err(format!("and the group has committed {:?} there", term_at(last.index)));
        }
        let is_committed = |id: &LogId| id.index == Index::ZERO || term_at(id.index) == Some(id.term);
        let as_of = self
            .memberships
            .range(..=last.index)
            .rev()
            .find_map(|(_, known)| known.iter().find(|(id, _)| is_committed(id)));
        match as_of {
            Some((id, membership)) if *id == snapshot.configured && *membership == snapshot.membership => {
                Ok(())
            }
            found => Err(format!("and the membership there was {found:?}")),
        }
    }

    /// A member's state machine has got so far.
    pub fn applied(&mut self, member: NodeId, index: Index, digest: u64, now: Stamp) -> Result<(), Finding> {
        let (known, first, since) = *self.states.entry(index).or_insert((digest, member, now));
        if known == digest {
            return Ok(());
        }
        let parts = [(first, since, known), (member, now, digest)];
        Err(Finding::new(
            format!("members {first} and {member} have applied through {index} and have different states"),
            parts.map(|(id, at, digest)| Part::of(id, at, Involvement::Applies { through: index, digest })),
        ))
    }
}

impl Check for SnapshotPrefix {
    const NAME: &'static str = "Snapshot Prefix";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        for action in step.actions {
            let Action::Persist(write) = action else { continue };
            for entry in write.append.iter() {
                if let EntryBody::Config(membership) = &entry.body {
                    let known = self.memberships.entry(entry.id.index).or_default();
                    if !known.iter().any(|(id, _)| *id == entry.id) {
                        known.push((entry.id, membership.clone()));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, group, id};
    use super::*;

    #[test]
    fn a_snapshot_of_something_else_is_seen() {
        let mut check = SnapshotPrefix::default();
        check.begins_with(group(3));
        let committed = chain(&[(1, "x"), (2, "y")]);
        let snapshot =
            |last, of: u64| Snapshot { last, configured: LogId::ZERO, membership: Arc::new(group(of)) };
        assert_eq!(check.check(&snapshot(LogId::new(2, 2), 3), &committed), Ok(()));
        assert!(check.check(&snapshot(LogId::new(1, 2), 3), &committed).is_err());
        assert!(check.check(&snapshot(LogId::new(2, 2), 2), &committed).is_err());
        assert!(check.check(&snapshot(LogId::new(2, 3), 3), &committed).is_err());
    }

    #[test]
    fn states_that_differ_at_one_index_are_seen() {
        let mut check = SnapshotPrefix::default();
        let now = |step| Stamp { step, at: 0 };
        assert_eq!(check.applied(id(1), Index::new(3), 7, now(10)), Ok(()));
        assert_eq!(check.applied(id(2), Index::new(4), 8, now(11)), Ok(()));
        let seen = check.applied(id(3), Index::new(3), 8, now(12)).expect_err("it differs");
        let who: Vec<_> = seen.parts.iter().map(|part| (part.member, part.since)).collect();
        assert_eq!(who, [(Some(id(1)), Some(now(10))), (Some(id(3)), Some(now(12)))]);
    }
}
