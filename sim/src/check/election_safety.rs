//! Election Safety: at most one leader can be elected in a given term (paper §5.2, figure 3); and each is
//! elected by the votes of a majority of its membership, of both sets of voters where two decide (§6).

use super::majority::has_majority;
use super::vote_durability::{VoteDurability, voted};
use super::{Check, Finding, Observation};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::membership::Membership;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Member, NodeId, Term};
use std::collections::BTreeMap;

/// Who led each term, and since when.
#[derive(Default, Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, (NodeId, Stamp)>,
}

/// Whether `leader` and those that voted for it are a majority of its membership.
pub(crate) fn is_elected(leader: NodeId, membership: &Membership, voted: impl Fn(Member) -> bool) -> bool {
    has_majority(membership, |member| member.id == leader || voted(member))
}

/// Whether a member becomes a leader in a step.
pub(super) fn is_elected_in(step: &Observation<'_>) -> bool {
    let (before, after) = (step.before, step.after);
    after.role == RoleKind::Leader && (before.role != RoleKind::Leader || before.term != after.term)
}

/// Whether a member that becomes a leader has the votes that left other members for it.
pub(super) fn has_votes(step: &Observation<'_>, votes: &VoteDurability) -> Result<(), Finding> {
    let (id, term, membership) = (step.after.id, step.after.term, step.membership_before);
    let vote = |member| votes.vote_of(member, term).filter(|(candidate, _)| *candidate == id);
    if is_elected(id, membership, |member| vote(member).is_some()) {
        return Ok(());
    }
    let given = membership.members().iter().filter_map(|&member| {
        let (candidate, since) = vote(member)?;
        Some(voted(member, candidate, term, since))
    });
    Err(Finding::new(
        format!("member {id} leads term {term} without the votes of a majority of {membership}"),
        [Part::of(id, step.now, Involvement::Leads { term })].into_iter().chain(given),
    ))
}

impl Check for ElectionSafety {
    const NAME: &'static str = "Election Safety";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        if !is_elected_in(step) {
            return Ok(());
        }
        let after = step.after;
        let (first, since) = *self.leaders.entry(after.term).or_insert((after.id, step.now));
        if first == after.id {
            return Ok(());
        }
        let term = after.term;
        let parts = [(first, since), (after.id, step.now)];
        Err(Finding::new(
            format!("members {first} and {} both lead term {term}", after.id),
            parts.map(|(id, since)| Part::of(id, since, Involvement::Leads { term })),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, observation, show, show_actions, status};
    use super::*;
    use kontiki_core::action::Action;
    use kontiki_core::message::{Body, Message};
    use kontiki_core::types::{ClusterId, Identity, Incarnation};

    #[test]
    fn fires_on_a_second_leader_of_a_term() {
        let mut check = ElectionSafety::default();
        let candidate = |id| status(id, RoleKind::Candidate, 4, 0);
        let leader = |id| status(id, RoleKind::Leader, 4, 0);
        assert_eq!(show(&mut check, &candidate(1), &leader(1), &[]), Ok(()));
        assert_eq!(show(&mut check, &leader(1), &leader(1), &[]), Ok(()));
        let seen = show(&mut check, &candidate(2), &leader(2), &[]).expect_err("a second leader");
        let told: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "member 1 leads term 4, since step 0 (0.000 ms)",
                "member 2 leads term 4, since step 0 (0.000 ms)"
            ]
        );
    }

    /// Whether member 1 may lead term 4 of three, where `voter` has voted for `candidate` in `term`.
    fn elected(voter: Member, candidate: u64, term: u64) -> bool {
        let mut votes = VoteDurability::default();
        let from = Identity::new(ClusterId(0), voter);
        let vote = Message::new(from, id(candidate).into(), Term::new(term), Body::Voted { granted: true });
        let voter = status(voter.id.get(), RoleKind::Follower, term, 0);
        show_actions(&mut votes, &voter, &voter, &[], &[Action::Send(vote)], &[]).expect("its only vote");
        let group = super::super::testing::group(3);
        let (before, after) = (status(1, RoleKind::Candidate, 4, 0), status(1, RoleKind::Leader, 4, 0));
        let step = observation(&before, &after, &group);
        has_votes(&step, &votes).is_ok()
    }

    #[test]
    fn fires_on_a_leader_without_the_votes_of_a_majority() {
        assert!(elected(id(2).into(), 1, 4));
        assert!(!elected(id(2).into(), 3, 4), "a vote for another candidate");
        assert!(!elected(id(2).into(), 1, 3), "of an earlier term");
        assert!(!elected(id(4).into(), 1, 4), "of a member that has no vote");
        assert!(!elected(Member::new(id(2), Incarnation(1)), 1, 4), "of another incarnation");
    }
}
