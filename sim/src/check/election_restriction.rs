//! Election Restriction: a voter denies its vote if its own log is more up-to-date than that of the candidate
//! (paper §5.4.1). Leader Completeness rests on it, and shows its breach only much later.

use super::{Check, Finding, Observation};
use kontiki_core::event::Event;
use kontiki_core::message::Body;

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct ElectionRestriction;

impl Check for ElectionRestriction {
    const NAME: &'static str = "Election Restriction";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        let Event::Receive(message) = step.event else { return Ok(()) };
        let Body::RequestVote { last, .. } = message.body else { return Ok(()) };
        let gave =
            after.vote == Some(message.from.id) && (before.vote, before.term) != (after.vote, after.term);
        if !gave || last >= before.last {
            return Ok(());
        }
        let (id, ours, candidate) = (after.id, before.last, message.from.id);
        Err(format!("member {id} with {ours} votes for member {candidate} with {last}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id, observation, status};
    use super::*;
    use kontiki_core::message::Message;
    use kontiki_core::status::{RoleKind::Follower, Status};
    use kontiki_core::types::{ClusterId, Identity, LogId, Term};

    fn vote(ours: LogId, theirs: LogId) -> Result<(), Finding> {
        let before = Status { last: ours, ..status(1, Follower, 3, 0) };
        let after = Status { term: Term::new(4), vote: Some(id(2)), ..before };
        let body = Body::RequestVote { last: theirs, transfer: false };
        let message = Message::new(Identity::new(ClusterId(0), id(2)), id(1).into(), Term::new(4), body);
        ElectionRestriction.observe(&Observation {
            event: &Event::Receive(message),
            ..observation(&before, &after, &group(3))
        })
    }

    #[test]
    fn fires_on_a_vote_for_an_older_log() {
        assert!(vote(LogId::new(2, 5), LogId::new(2, 5)).is_ok());
        assert!(vote(LogId::new(2, 5), LogId::new(3, 1)).is_ok());
        assert!(vote(LogId::new(2, 5), LogId::new(2, 4)).is_err());
        assert!(vote(LogId::new(2, 5), LogId::new(1, 9)).is_err());
    }
}
