//! Paused Flow: a leader sends no entries to a follower that has said that it takes none, until that says
//! otherwise, and does not bid it to take over where its disk is full. And to one that answers, takes nothing
//! and does not say so, it does not send whole windows of the same entries over and over.

use super::followers::Followers;
use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::PauseReason;
use kontiki_core::types::Index;

/// How many windows of entries a leader may repeat until it must have found out that a follower takes
/// nothing.
const PATIENCE: u32 = 3;
/// How many messages of repeated entries are no window yet, besides one for each answer of the follower.
const MOST: u32 = 2;

/// What each leader has sent to its followers, and heard from them, in its term.
#[derive(Default, Debug)]
pub struct PausedFlow {
    flows: Followers<Flow>,
}

#[derive(Default, Debug)]
struct Flow {
    /// The latest heartbeat that was answered: what answers an earlier one is old.
    answered: u64,
    /// Why the follower takes no entries, as it has said.
    paused: Option<PauseReason>,
    /// The last entry that was ever sent, and the last that is known to be there.
    sent: Index,
    reached: Index,
    /// The last entry that was sent since the leader last went back: it sends one window after the other.
    at: Index,
    /// How many windows were repeated since the follower got further or the leader had a reason to begin
    /// anew. One is right: all that was sent may be lost.
    repeats: u32,
    /// How many messages of this window have repeated entries, and how many answers have come meanwhile.
    repeated: u32,
    answers: u32,
}

impl Flow {
    fn hear(&mut self, body: &Body) {
        self.answers += 1;
        match *body {
            Body::HeartbeatAck { round, received, .. } => self.hear_answer(round, received, None),
            Body::Pause { round, received, reason, .. } => {
                self.hear_answer(round, received, Some(reason));
            }
            // It takes entries, or its leader rightly goes back.
            Body::Appended { .. } | Body::Rejected { .. } => self.repeats = 0,
            _ => {}
        }
    }

    fn hear_answer(&mut self, round: u64, received: Index, paused: Option<PauseReason>) {
        if round >= self.answered {
            if self.paused != paused {
                self.repeats = 0;
            }
            (self.answered, self.paused) = (round, paused);
        }
        if received > self.reached {
            (self.reached, self.repeats) = (received, 0);
        }
    }

    fn send(&mut self, body: &Body) -> Result<(), String> {
        match body {
            Body::Append { slice, .. } if !slice.entries().is_empty() => {
                if self.paused.is_some() {
                    return Err(format!("entries after {}, though it takes none", slice.prev()));
                }
                if slice.prev().index < self.at {
                    self.end_window()?;
                }
                self.repeated += u32::from(slice.prev().index < self.sent);
                self.at = slice.last().index;
                self.sent = self.sent.max(self.at);
            }
            Body::TimeoutNow { .. } if self.paused == Some(PauseReason::DiskFull) => {
                return Err("its bidding to take over, though its disk is full".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// The leader goes back and sends entries anew.
    fn end_window(&mut self) -> Result<(), String> {
        self.repeats += u32::from(self.repeated > MOST + self.answers);
        (self.repeated, self.answers) = (0, 0);
        if self.repeats > PATIENCE {
            let Self { repeats, reached, .. } = self;
            return Err(format!("the same entries after {reached} again, after {repeats} windows of them"));
        }
        Ok(())
    }

    /// The follower has left the group or joined it: the leader may begin anew. The rounds of its heartbeats
    /// go on, so that an earlier answer stays an old one.
    fn begin_anew(&mut self) {
        *self = Self { answered: self.answered, ..Self::default() };
    }
}

impl Check for PausedFlow {
    const NAME: &'static str = "Paused Flow";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let begin_anew = |flow: &mut Flow| {
            flow.begin_anew();
            true
        };
        let Some(flows) = self.flows.of(step, begin_anew) else { return Ok(()) };
        if let Event::Receive(Message { from, term, body, .. }) = step.event
            && *term == step.after.term
            && (step.membership.contains(*from) || flows.contains_key(from))
        {
            flows.entry(*from).or_default().hear(body);
        }
        for action in step.actions {
            let Action::Send(Message { to, body, .. }) = action else { continue };
            let flow = flows.entry(*to).or_default();
            flow.send(body).map_err(|what| format!("leader {} sends {to} {what}", step.after.id))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id, observation, status};
    use super::*;
    use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice};
    use kontiki_core::membership::Membership;
    use kontiki_core::status::{RoleKind, Status};
    use kontiki_core::types::{ClusterId, LogId, Term};

    fn message(from: u64, to: u64, body: Body) -> Message {
        let (from, to) = (id(from).into(), id(to).into());
        Message { cluster: ClusterId(1), from, to, term: Term::new(1), body }
    }

    fn append(index: u64) -> Body {
        let entry = Entry { id: LogId::new(1, index), body: EntryBody::Blank };
        let entries = [entry].into_iter().collect::<Entries>();
        let slice = LogSlice::new(LogId::new(u64::from(index > 1), index - 1), entries).expect("one entry");
        Body::Append { slice, commit: Index::ZERO }
    }

    fn pause(round: u64) -> Body {
        let (received, matched, last) = (Index::ZERO, Index::ZERO, LogId::ZERO);
        Body::Pause { round, received, matched, last, reason: PauseReason::DiskFull }
    }

    fn ack(round: u64) -> Body {
        Body::HeartbeatAck { round, received: Index::ZERO, matched: Index::ZERO }
    }

    /// Leader 1 hears this of member 2, and sends that.
    fn observed(check: &mut PausedFlow, heard: Option<Body>, sent: &[Body]) -> Result<(), Finding> {
        observed_since(check, LogId::ZERO, &group(3), heard, sent)
    }

    /// The same, where this membership was in force before the step, and that of three members is now.
    fn observed_since(
        check: &mut PausedFlow,
        configured: LogId,
        membership_before: &Membership,
        heard: Option<Body>,
        sent: &[Body],
    ) -> Result<(), Finding> {
        let leader = status(1, RoleKind::Leader, 1, 0);
        let event = heard.map_or(Event::Wake, |body| Event::Receive(message(2, 1, body)));
        let actions: Vec<_> = sent.iter().map(|body| Action::Send(message(1, 2, body.clone()))).collect();
        check.observe(&Observation {
            membership: &group(3),
            event: &event,
            actions: &actions,
            ..observation(&Status { configured, ..leader }, &leader, membership_before)
        })
    }

    #[test]
    fn fires_on_entries_for_one_that_takes_none_until_it_takes_them_again() {
        let mut check = PausedFlow::default();
        assert_eq!(observed(&mut check, Some(ack(3)), &[append(1)]), Ok(()));
        assert_eq!(observed(&mut check, Some(pause(2)), &[append(2)]), Ok(()), "an old answer");
        assert_eq!(observed(&mut check, Some(pause(3)), &[]), Ok(()));
        assert!(observed(&mut check, Some(ack(2)), &[append(1)]).is_err(), "an old answer");
        assert_eq!(observed(&mut check, Some(ack(3)), &[append(1), append(2)]), Ok(()));
    }

    #[test]
    fn fires_where_a_full_member_is_bidden_to_take_over() {
        let bidding = || Body::TimeoutNow { last: LogId::ZERO };
        let mut check = PausedFlow::default();
        assert_eq!(observed(&mut check, Some(ack(1)), &[bidding()]), Ok(()));
        assert!(observed(&mut check, Some(pause(1)), &[bidding()]).is_err());
    }

    #[test]
    fn fires_on_windows_that_are_sent_over_and_over_and_not_on_one_message_for_an_answer() {
        let heartbeat = || Body::Heartbeat { round: 1, commit: Index::ZERO };
        let window = [append(1), append(2), append(3), append(4)];
        let mut check = PausedFlow::default();
        assert_eq!(observed(&mut check, None, &window), Ok(()));
        for round in 1..30 {
            assert_eq!(observed(&mut check, None, &[heartbeat()]), Ok(()));
            assert_eq!(observed(&mut check, Some(ack(round)), &window[..3]), Ok(()));
        }
        for round in 30..=30 + u64::from(PATIENCE) {
            assert_eq!(observed(&mut check, None, &[heartbeat()]), Ok(()));
            assert_eq!(observed(&mut check, Some(ack(round)), &window), Ok(()), "it may have lost them");
        }
        assert!(observed(&mut check, None, &window).is_err());
        let refusal = Body::Rejected { prev: Index::new(1), hint: LogId::ZERO };
        assert_eq!(observed(&mut check, Some(refusal), &window), Ok(()), "it rightly goes back");
        assert_eq!(observed(&mut check, None, &window), Ok(()));
    }

    /// A slow link: what was sent before is sent once more, over many heartbeats.
    #[test]
    fn lets_one_window_take_as_long_as_it_takes() {
        let heartbeat = || Body::Heartbeat { round: 1, commit: Index::ZERO };
        let mut check = PausedFlow::default();
        let window: Vec<_> = (1..=100).map(append).collect();
        assert_eq!(observed(&mut check, None, &window), Ok(()));
        for some in window.chunks(5) {
            assert_eq!(observed(&mut check, None, some), Ok(()));
            assert_eq!(observed(&mut check, None, &[heartbeat()]), Ok(()));
        }
    }

    #[test]
    fn an_answer_from_before_a_newcomer_joined_stays_old() {
        let mut check = PausedFlow::default();
        assert_eq!(observed(&mut check, Some(ack(3)), &[append(1)]), Ok(()));
        let earlier = LogId { index: Index::new(1), term: Term::new(1) };
        assert_eq!(observed_since(&mut check, earlier, &group(1), None, &[]), Ok(()));
        assert_eq!(observed(&mut check, Some(pause(2)), &[append(2)]), Ok(()));
    }
}
