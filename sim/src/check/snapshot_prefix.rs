//! Snapshot Prefix: a snapshot on which a log rests holds what the group has committed, through its last
//! entry, with the membership as of that entry (thesis 5.1); and members that have applied the same have the
//! same state.

use super::memberships::Memberships;
use super::{Finding, Observation};
use crate::ledger::{Link, link_at};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::action::Action;
use kontiki_core::log::Snapshot;
use kontiki_core::types::{Index, LogId, NodeId};
use std::collections::BTreeMap;

/// The name of the property.
pub const NAME: &str = "Snapshot Prefix";

/// The state that members had at each index.
#[derive(Default, Debug)]
pub struct SnapshotPrefix {
    states: BTreeMap<Index, (u64, NodeId, Stamp)>,
}

/// Whether the snapshots that a step puts under a log are those of what the group has committed.
pub(super) fn rests_on(
    step: &Observation<'_>,
    committed: &[Link],
    known: &Memberships,
) -> Result<(), Finding> {
    for action in step.actions {
        if let Action::Persist(write) = action
            && let Some(rebase) = &write.rebase
        {
            is_committed(&rebase.snapshot, committed, known).map_err(|found| {
                format!("the log of member {} rests on {}, {found}", step.after.id, rebase.snapshot)
            })?;
        }
    }
    Ok(())
}

fn is_committed(snapshot: &Snapshot, committed: &[Link], known: &Memberships) -> Result<(), String> {
    let term_at = |index| link_at(committed, index).map(|link| link.term);
    let last = snapshot.last;
    if last != LogId::ZERO && term_at(last.index) != Some(last.term) {
        return Err(format!("and the group has committed {:?} there", term_at(last.index)));
    }
    match known.as_of(last.index, committed) {
        Some((id, membership)) if *id == snapshot.configured && *membership == snapshot.membership => Ok(()),
        found => Err(format!("and the membership there was {found:?}")),
    }
}

impl SnapshotPrefix {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, group, id};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_snapshot_of_something_else_is_seen() {
        let mut known = Memberships::default();
        known.begins_with(group(3));
        let committed = chain(&[(1, "x"), (2, "y")]);
        let snapshot =
            |last, of: u64| Snapshot { last, configured: LogId::ZERO, membership: Arc::new(group(of)) };
        let holds = |last, of| is_committed(&snapshot(last, of), &committed, &known);
        assert_eq!(holds(LogId::new(2, 2), 3), Ok(()));
        assert!(holds(LogId::new(1, 2), 3).is_err());
        assert!(holds(LogId::new(2, 2), 2).is_err());
        assert!(holds(LogId::new(2, 3), 3).is_err());
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
