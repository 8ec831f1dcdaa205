//! Match Index: what a leader knows of a follower's log never goes back while it leads (paper figure 2:
//! `matchIndex` increases monotonically). It sends no entries from before what the follower has acknowledged,
//! whatever comes late.

use super::followers::Followers;
use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::types::Index;

/// What the followers of each leader have acknowledged in its term.
#[derive(Default, Debug)]
pub struct MatchIndex {
    followers: Followers<Index>,
}

impl Check for MatchIndex {
    const NAME: &'static str = "Match Index";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let Some(followers) = self.followers.of(step, |_| false) else { return Ok(()) };
        if let Event::Receive(Message { from, term, body: Body::Appended { matched, .. }, .. }) = step.event
            && *term == step.after.term
            && step.membership_before.contains(*from)
        {
            let acknowledged = followers.entry(*from).or_default();
            *acknowledged = (*matched).max(*acknowledged);
        }
        for action in step.actions {
            if let Action::Send(Message { to, body: Body::Append { slice, .. }, .. }) = action
                && let Some(acknowledged) = followers.get(to)
                && slice.prev().index < *acknowledged
            {
                let (id, prev) = (step.after.id, slice.prev());
                return Err(format!(
                    "leader {id} sends {to} entries after {prev}, which has acknowledged all through {acknowledged}"
                ).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id, observation, status};
    use super::*;
    use kontiki_core::log::{Entries, LogSlice};
    use kontiki_core::status::RoleKind;
    use kontiki_core::types::{ClusterId, LogId, Term};

    fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
        let (from, to) = (id(from).into(), id(to).into());
        Message { cluster: ClusterId(1), from, to, term: Term::new(term), body }
    }

    /// Leader 1 hears of this from member 2, and then sends it what comes after that index.
    fn observed(check: &mut MatchIndex, term: u64, event: &Event, after: u64) -> Result<(), Finding> {
        let leader = status(1, RoleKind::Leader, term, 0);
        let prev = LogId { index: Index::new(after), term: Term::new(u64::from(after > 0)) };
        let slice = LogSlice::new(prev, Entries::default()).expect("entries that follow");
        let append = message(1, 2, term, Body::Append { slice, commit: Index::ZERO });
        check.observe(&Observation {
            event,
            actions: &[Action::Send(append)],
            ..observation(&leader, &leader, &group(3))
        })
    }

    #[test]
    fn fires_where_a_leader_goes_back_behind_what_was_acknowledged() {
        let appended = |term, matched| {
            let matched = Index::new(matched);
            Event::Receive(message(2, 1, term, Body::Appended { matched }))
        };
        let mut check = MatchIndex::default();
        assert_eq!(observed(&mut check, 1, &Event::Wake, 0), Ok(()), "nothing is known yet");
        assert_eq!(observed(&mut check, 1, &appended(1, 7), 7), Ok(()));
        assert_eq!(observed(&mut check, 1, &appended(1, 5), 7), Ok(()), "a late acknowledgement");
        let error = observed(&mut check, 1, &Event::Wake, 6).expect_err("it goes back");
        assert!(error.detail.contains("after 6:1") && error.detail.contains("through 7"), "{error:?}");
        assert_eq!(observed(&mut check, 2, &Event::Wake, 3), Ok(()), "another term, another leader");
        assert_eq!(observed(&mut check, 2, &appended(1, 9), 3), Ok(()), "an answer to another leader");
    }
}
