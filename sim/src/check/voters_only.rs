//! Voters Only: a member stands for election, and is elected, only if it is a voter by its own log: no
//! learner, no witness, no member that has left or has come back under another incarnation. The exception is
//! a member that does not know its removal to be committed: it may be needed to commit it (thesis 4.2.2).

use super::{Check, Finding, Observation};
use kontiki_core::membership::MemberKind;
use kontiki_core::status::RoleKind;

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct VotersOnly;

impl Check for VotersOnly {
    const NAME: &'static str = "Voters Only";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        let stands = matches!(after.role, RoleKind::PreCandidate | RoleKind::Candidate | RoleKind::Leader);
        let new = before.role != after.role || before.term != after.term;
        if !stands || !new {
            return Ok(());
        }
        // By the membership and by who it is, not by what the kernel takes itself for.
        let kind = step.membership.kind(step.me);
        let leaving = after.configured.index > after.committed && kind != MemberKind::Witness;
        if leaving || kind == MemberKind::Voter {
            return Ok(());
        }
        Err(format!("member {} becomes {} and is {:?} in {}", after.id, after.role, kind, step.membership)
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{show, status};
    use super::*;

    #[test]
    fn a_non_member_that_campaigns_is_seen() {
        let before = status(4, RoleKind::Follower, 1, 0);
        let after = status(4, RoleKind::Candidate, 2, 0);
        assert_eq!(after.kind, MemberKind::Voter);
        assert!(show(&mut VotersOnly, &before, &after, &[]).unwrap_err().detail.contains("NonMember"));
        let before = status(1, RoleKind::Follower, 1, 0);
        assert_eq!(show(&mut VotersOnly, &before, &status(1, RoleKind::Candidate, 2, 0), &[]), Ok(()));
    }

    #[test]
    fn a_leader_that_has_left_leads_on_in_its_term() {
        let leads = status(4, RoleKind::Leader, 2, 0);
        assert_eq!(show(&mut VotersOnly, &leads, &leads, &[]), Ok(()));
        assert!(show(&mut VotersOnly, &leads, &status(4, RoleKind::Leader, 3, 0), &[]).is_err());
    }
}
