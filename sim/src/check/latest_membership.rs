//! Latest Membership: a member goes by the latest membership in its log, committed or not (paper §6): as soon
//! as the entry is written, until it is cut, and when it starts again.

use super::memberships::Memberships;
use super::{Finding, Observation, Start};
use crate::ledger::Link;
use kontiki_core::action::{Action, Write};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Index, LogId, NodeId};
use std::collections::BTreeMap;

/// The name of the property.
pub const NAME: &str = "Latest Membership";

/// Whether a member goes by this membership, which is the latest in its log.
pub(crate) fn goes_by(id: NodeId, in_force: &Membership, latest: (LogId, &Membership)) -> Result<(), String> {
    let (entry, latest) = latest;
    if *in_force == *latest {
        return Ok(());
    }
    Err(format!("member {id} goes by the membership {in_force}, and entry {} says {latest}", entry.index))
}

/// The memberships that disks have damaged.
#[derive(Default, Debug)]
pub struct LatestMembership {
    /// The entries of each member's log that held a membership and are lost: what it said is not known to
    /// the member until another one sends it.
    lost: BTreeMap<NodeId, Vec<LogId>>,
}

impl LatestMembership {
    /// A member starts.
    pub(super) fn starts(&mut self, start: &Start<'_>, known: &Memberships) -> Result<(), Finding> {
        let id = start.member.id;
        let mut lost = known.of_entries(&start.durable.lost());
        // What a snapshot covers, it tells of.
        let covered = start.durable.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        lost.retain(|entry| entry.index > covered);
        if lost.is_empty() {
            self.lost.remove(&id);
        } else {
            self.lost.insert(id, lost);
        }
        self.goes_by(id, start.membership, start.chain, known)
    }

    /// A member has taken a step in which the memberships in its log, or the one in force, have changed.
    pub(super) fn changed(&mut self, step: &Observation<'_>, known: &Memberships) -> Result<(), Finding> {
        let id = step.after.id;
        if let Some(lost) = self.lost.get_mut(&id) {
            writes_of(step).for_each(|write| lost.retain(|entry| !tells(write, entry)));
        }
        if writes_of(step).map(|write| write.append.len()).sum::<usize>() < step.appended {
            // It crashes in this step: its actions do not tell what else it has appended.
            return Ok(());
        }
        self.goes_by(id, step.membership, step.chain, known)
    }

    /// Whether a member goes by the latest membership in its log that it can know.
    fn goes_by(
        &self,
        id: NodeId,
        in_force: &Membership,
        log: &[Link],
        known: &Memberships,
    ) -> Result<(), Finding> {
        if in_force.voters().is_empty() && log.is_empty() {
            // It was not there when the group began, and knows of no membership yet.
            return Ok(());
        }
        let lost = self.lost.get(&id).map_or(&[][..], Vec::as_slice);
        match known.latest_in(log, |entry| !lost.contains(entry)) {
            Some((entry, latest)) => Ok(goes_by(id, in_force, (*entry, latest))?),
            None => Ok(()),
        }
    }
}

fn writes_of<'a>(step: &Observation<'a>) -> impl Iterator<Item = &'a Write> + use<'a> {
    step.actions.iter().filter_map(|action| match action {
        Action::Persist(write) => Some(write),
        _ => None,
    })
}

/// Whether a member knows what a lost entry said once it makes this write.
fn tells(write: &Write, lost: &LogId) -> bool {
    // A leader that replicates does not ask whether it is lost: then it is cut, and appended again.
    write.repaired.iter().chain(write.append.iter()).any(|entry| entry.id == *lost)
        || write.rebase.as_ref().is_some_and(|rebase| rebase.snapshot.last.index >= lost.index)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, group, id, observation, status};
    use super::*;
    use kontiki_core::durable::Durable;
    use kontiki_core::log::{Entries, Entry, EntryBody, Snapshot};
    use kontiki_core::status::RoleKind;
    use kontiki_core::types::{Ballot, WriteSeq};
    use std::sync::Arc;

    fn known() -> Memberships {
        let mut known = Memberships::default();
        known.begins_with(group(3));
        known.appended_at(LogId::new(2, 2), group(4));
        known.appended_at(LogId::new(3, 2), group(5));
        known
    }

    #[test]
    fn fires_on_a_membership_that_is_not_the_latest() {
        let (known, check) = (known(), LatestMembership::default());
        let goes_by = |size, log: &[Link]| check.goes_by(id(1), &group(size), log, &known);
        let [short, second, third] =
            [&[(1, "a")][..], &[(1, "a"), (2, "b")], &[(1, "a"), (3, "c")]].map(chain);
        assert_eq!(goes_by(3, &short), Ok(()));
        assert_eq!(goes_by(4, &second), Ok(()));
        assert_eq!(goes_by(5, &third), Ok(()));
        let seen = goes_by(3, &second).expect_err("the entry is written");
        assert!(seen.detail.contains("entry 2 says"), "{}", seen.detail);
        assert!(goes_by(4, &short).is_err(), "the entry was cut");
        assert!(goes_by(4, &third).is_err(), "another took its place");
    }

    /// What a disk has lost of a log, its member cannot go by until it comes back.
    #[test]
    fn a_lost_membership_is_in_force_once_it_is_repaired() {
        let (known, mut check, log) = (known(), LatestMembership::default(), chain(&[(1, "a"), (2, "b")]));
        let entry = |index, term, body| Entry { id: LogId::new(term, index), body };
        let durable = Durable {
            entries: vec![entry(1, 1, EntryBody::Blank), entry(2, 2, EntryBody::Lost)],
            ..Durable::bootstrap(group(3))
        };
        let mut starts = |durable: &Durable, size| {
            let (member, membership) = (id(1).into(), &group(size));
            check.starts(&Start { position: 0, member, durable, membership, chain: &log }, &known)
        };
        assert!(starts(&Durable { entries: vec![], ..durable.clone() }, 3).is_err(), "nothing is lost");
        assert_eq!(starts(&durable, 3), Ok(()));
        assert!(starts(&durable, 4).is_err(), "it cannot know");
        let membership = Arc::new(group(4));
        let (last, configured) = (LogId::new(2, 2), LogId::new(2, 2));
        let covered =
            Durable { snapshot: Some(Snapshot { last, configured, membership }), ..durable.clone() };
        assert_eq!(starts(&covered, 4), Ok(()), "its snapshot tells");
        assert!(starts(&covered, 3).is_err());
        assert_eq!(starts(&durable, 3), Ok(()));
        let repaired = Write {
            seq: WriteSeq::new(1),
            ballot: Ballot::default(),
            starts: 1,
            truncate_after: None,
            rebase: None,
            repaired: [entry(2, 2, EntryBody::Config(Arc::new(group(4))))].into_iter().collect(),
            append: Entries::EMPTY,
            committed: Index::ZERO,
        };
        let appended = Write {
            truncate_after: Some(Index::new(1)),
            repaired: Entries::EMPTY,
            append: repaired.repaired.clone(),
            ..repaired.clone()
        };
        let is = status(1, RoleKind::Follower, 2, 0);
        let writes = |write: &Write, size| {
            LatestMembership { lost: check.lost.clone() }.changed(
                &Observation {
                    membership: &group(size),
                    actions: &[Action::Persist(write.clone())],
                    chain: &log,
                    ..observation(&is, &is, &group(3))
                },
                &known,
            )
        };
        for write in [repaired, appended] {
            assert_eq!(writes(&write, 4), Ok(()));
            assert!(writes(&write, 3).is_err());
        }
    }
}
