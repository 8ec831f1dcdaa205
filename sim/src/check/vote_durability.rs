//! Vote Durability: each server votes for at most one candidate in a given term (paper §5.2), across crashes
//! too: a vote that has left a member is still on its disk when it starts again.

use super::{Check, Finding, Observation};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::action::Action;
use kontiki_core::message::Body;
use kontiki_core::types::{Ballot, Member, NodeId, Term};
use std::collections::BTreeMap;

/// Every vote that has left each member, and when.
#[derive(Default, Debug)]
pub struct VoteDurability {
    votes: BTreeMap<(Member, Term), (NodeId, Stamp)>,
}

impl VoteDurability {
    /// A member starts again with this ballot.
    pub fn restarted(&self, member: Member, ballot: Ballot) -> Result<(), Finding> {
        let last = self.votes.range((member, Term::ZERO)..=(member, Term::new(u64::MAX))).next_back();
        let Some((&(_, term), &(vote, since))) = last else {
            return Ok(());
        };
        if ballot.term() < term || (ballot.term() == term && ballot.vote() != Some(vote)) {
            return Err(Finding::new(
                format!("member {member} voted for {vote} in term {term} and starts again with {ballot:?}"),
                [voted(member, vote, term, since)],
            ));
        }
        Ok(())
    }

    /// For whom a member has voted in a term, and when.
    pub(super) fn vote_of(&self, member: Member, term: Term) -> Option<(NodeId, Stamp)> {
        self.votes.get(&(member, term)).copied()
    }

    fn vote(&mut self, member: Member, term: Term, candidate: NodeId, now: Stamp) -> Result<(), Finding> {
        let (first, since) = *self.votes.entry((member, term)).or_insert((candidate, now));
        if first == candidate {
            return Ok(());
        }
        let what = format!("member {member} voted for {first} and for {candidate} in term {term}");
        let votes = [(first, since), (candidate, now)];
        Err(Finding::new(what, votes.map(|(vote, at)| voted(member, vote, term, at))))
    }
}

/// A member voted.
pub(super) fn voted(member: Member, candidate: NodeId, term: Term, at: Stamp) -> Part {
    Part::of(member.id, at, Involvement::Votes { candidate, term })
}

impl Check for VoteDurability {
    const NAME: &'static str = "Vote Durability";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        for action in step.actions {
            if let Action::Send(message) = action {
                match message.body {
                    Body::Voted { granted: true } => {
                        self.vote(message.from, message.term, message.to.id, step.now)?;
                    }
                    Body::RequestVote { .. } => {
                        self.vote(message.from, message.term, message.from.id, step.now)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, show_actions, status};
    use super::*;
    use kontiki_core::message::Message;
    use kontiki_core::status::RoleKind::Follower;
    use kontiki_core::types::{ClusterId, Identity};

    fn grant(check: &mut VoteDurability, candidate: u64, term: u64) -> Result<(), Finding> {
        let body = Body::Voted { granted: true };
        let message =
            Message::new(Identity::new(ClusterId(0), id(1)), id(candidate).into(), Term::new(term), body);
        let status = status(1, Follower, term, 0);
        show_actions(check, &status, &status, &[], &[Action::Send(message)], &[])
    }

    #[test]
    fn fires_on_a_second_vote_in_a_term() {
        let mut check = VoteDurability::default();
        assert!(grant(&mut check, 2, 5).is_ok());
        assert!(grant(&mut check, 2, 5).is_ok(), "the same vote may be repeated");
        assert!(grant(&mut check, 3, 6).is_ok());
        assert!(grant(&mut check, 3, 5).is_err());
    }

    #[test]
    fn fires_on_a_vote_that_a_crash_made_its_giver_forget() {
        let mut check = VoteDurability::default();
        grant(&mut check, 2, 5).unwrap();
        assert!(check.restarted(id(1).into(), Ballot::new(Term::new(5), Some(id(2)))).is_ok());
        assert!(check.restarted(id(1).into(), Ballot::new(Term::new(6), None)).is_ok());
        assert!(check.restarted(id(1).into(), Ballot::new(Term::new(5), None)).is_err());
        assert!(check.restarted(id(1).into(), Ballot::new(Term::new(4), None)).is_err());
        assert!(check.restarted(id(2).into(), Ballot::new(Term::new(4), None)).is_ok(), "another member");
    }
}
