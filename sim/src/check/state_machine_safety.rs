//! State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other
//! server will ever apply a different log entry for the same index (paper §5.4.3, figure 3). Checked already
//! when an entry is known to be committed, which is before any server may apply it.

use super::{Check, Finding, Observation};
use crate::ledger::{Link, entry_at, first_difference, index_of, link_at};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::types::{Index, NodeId};
use std::collections::BTreeMap;

/// The one sequence of entries that the group has committed.
#[derive(Default, Debug)]
pub struct StateMachineSafety {
    committed: Vec<Link>,
    /// Who was the first to know entries as committed from an index on, and when.
    known_by: BTreeMap<Index, (NodeId, Stamp)>,
}

impl StateMachineSafety {
    /// What the group has committed.
    pub fn committed(&self) -> &[Link] {
        &self.committed
    }

    /// Which member was the first to know this entry to be committed, and since when.
    pub(crate) fn committed_by(&self, index: Index) -> Option<Part> {
        let link = link_at(&self.committed, index)?;
        let (_, &(member, since)) = self.known_by.range(..=index).next_back()?;
        let entry = entry_at(index, link);
        Some(Part::of(member, since, Involvement::Commits(entry)))
    }

    /// What a member commits that is something else than the group has committed, and where the two part.
    fn differs(&self, step: &Observation<'_>, detail: String) -> Finding {
        let index = index_of(first_difference(step.chain, &self.committed));
        let ours = link_at(step.chain, index)
            .map(|link| Part::of(step.after.id, step.now, Involvement::Commits(entry_at(index, link))));
        Finding::new(
            format!("{detail}: they differ from entry {index} on"),
            self.committed_by(index).into_iter().chain(ours),
        )
    }
}

impl Check for StateMachineSafety {
    const NAME: &'static str = "State Machine Safety";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let after = step.after;
        if after.committed == step.before.committed || after.committed.get() == 0 {
            return Ok(());
        }
        let through = after.committed;
        let Some(ours) = link_at(step.chain, through) else {
            return Err(format!("member {} commits {through}, beyond the end of its log", after.id).into());
        };
        match link_at(&self.committed, through) {
            Some(known) if known.prefix == ours.prefix => Ok(()),
            Some(_) => {
                let what =
                    format!("member {} commits another log through {through} than the group did", after.id);
                Err(self.differs(step, what))
            }
            None => {
                let known = self.committed.len();
                let agrees = known == 0 || step.chain[known - 1].prefix == self.committed[known - 1].prefix;
                if !agrees {
                    let id = after.id;
                    let what =
                        format!("member {id} commits through {through} on another log than the group's");
                    return Err(self.differs(step, what));
                }
                self.known_by.insert(Index::new(known as u64 + 1), (after.id, step.now));
                self.committed.extend_from_slice(&step.chain[known..through.get() as usize]);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show, status};
    use super::*;
    use kontiki_core::status::RoleKind::Follower;

    fn commit(
        check: &mut StateMachineSafety,
        id: u64,
        through: u64,
        log: &[(u64, &str)],
    ) -> Result<(), Finding> {
        show(check, &status(id, Follower, 3, 0), &status(id, Follower, 3, through), &chain(log))
    }

    #[test]
    fn fires_on_two_members_that_commit_different_entries() {
        let mut check = StateMachineSafety::default();
        assert!(commit(&mut check, 1, 2, &[(1, "a"), (1, "b"), (1, "c")]).is_ok());
        assert_eq!(check.committed().len(), 2);
        assert!(commit(&mut check, 2, 2, &[(1, "a"), (1, "b")]).is_ok());
        let seen = commit(&mut check, 2, 2, &[(1, "a"), (2, "b")]).expect_err("it commits another entry");
        assert!(seen.detail.ends_with("they differ from entry 2 on"), "{}", seen.detail);
        let told: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "member 1 knows 2:1 to be committed, since step 0 (0.000 ms)",
                "member 2 knows 2:2 to be committed, since step 0 (0.000 ms)"
            ]
        );
        assert!(commit(&mut check, 3, 3, &[(1, "a"), (1, "x"), (1, "c")]).is_err());
        assert!(commit(&mut check, 3, 3, &[(1, "a")]).is_err());
    }
}
