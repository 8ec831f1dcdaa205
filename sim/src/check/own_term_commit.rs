//! Own-Term Commit: a leader commits by counting replicas only entries of its own term; those of earlier
//! terms commit along with one of them (paper §5.4.2, figure 8).

use super::{Check, Finding, Observation};
use crate::ledger::link_at;
use kontiki_core::status::RoleKind;

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct OwnTermCommit;

impl Check for OwnTermCommit {
    const NAME: &'static str = "Own-Term Commit";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        if after.role != RoleKind::Leader || after.committed == before.committed {
            return Ok(());
        }
        match link_at(step.chain, after.committed) {
            Some(link) if link.term == after.term => Ok(()),
            found => {
                let (id, term, through) = (after.id, after.term, after.committed);
                let found = found.map(|link| link.term);
                Err(format!("leader {id} of term {term} commits through {through}, an entry of {found:?}")
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show, status};
    use super::*;

    #[test]
    fn fires_on_an_old_entry_that_is_committed_by_itself() {
        let log = chain(&[(2, "a"), (4, "b")]);
        let leader = |committed| status(1, RoleKind::Leader, 4, committed);
        assert!(show(&mut OwnTermCommit, &leader(0), &leader(2), &log).is_ok());
        assert!(show(&mut OwnTermCommit, &leader(0), &leader(1), &log).is_err());
        let follower = |committed| status(1, RoleKind::Follower, 4, committed);
        assert!(show(&mut OwnTermCommit, &follower(0), &follower(1), &log).is_ok(), "a follower is told");
    }
}
