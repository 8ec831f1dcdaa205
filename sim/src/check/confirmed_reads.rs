//! Linearizable Reads, where each is served: a majority has answered a heartbeat of the leader since the read
//! came to it, by which it still led then (thesis 6.4); a follower has its leader's answer to a question that
//! it asked since; and the state machine has got as far as the read must see. Whether a later leader had been
//! elected meanwhile, so that the read is stale, does not matter.

use super::linearizable_reads::NAME;
use super::majority::has_majority;
use super::{Check, Finding, Observation};
use crate::part::{Involvement, Part};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message, ReadContext};
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Member, NodeId, RequestId, Term};
use std::collections::BTreeMap;

/// What waits for each member.
#[derive(Default, Debug)]
pub struct ConfirmedReads {
    members: BTreeMap<NodeId, Waits>,
}

/// The reads that wait for a member, and what it was told since they came.
#[derive(Default, Debug)]
struct Waits {
    /// In the order in which they came. The same question may come twice, and is answered twice then.
    reads: Vec<(Reader, Waiting)>,
    /// The term of the reads that came to it as a leader, and in which step each member last answered a
    /// heartbeat of that term.
    term: Term,
    answered: Vec<(Member, u64)>,
    /// In which step each question to its leader left it that is not answered, and the last that is.
    asked: BTreeMap<Question, u64>,
    told: u64,
}

/// Who waits for an answer: a client, or a follower that was asked by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reader {
    Client(RequestId),
    Follower(Member, Question),
}

/// Which life of a follower asks, and its how manyth question that is.
type Question = (u64, u64);

/// A read that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The step in which it came.
    since: u64,
    /// Whether it came to a leader.
    leads: bool,
    /// Whether the leader had what confirms it when the membership changed or its term was over, if it had
    /// not before and can have it no more.
    confirmed: Option<bool>,
}

impl ConfirmedReads {
    /// A member starts again: it has forgotten the reads that waited for it.
    pub(super) fn restarted(&mut self, member: NodeId) {
        self.members.remove(&member);
    }

    /// A member answers a heartbeat.
    fn answers(&mut self, step: &Observation<'_>, message: &Message) {
        let Some(waits) = self.members.get_mut(&message.to.id) else { return };
        if waits.term != message.term || waits.reads.is_empty() {
            return;
        }
        match waits.answered.iter_mut().find(|(member, _)| *member == message.from) {
            Some((_, last)) => *last = step.now.step,
            None => waits.answered.push((message.from, step.now.step)),
        }
    }

    /// What a member was told.
    fn told(&mut self, step: &Observation<'_>) {
        let reader = match step.event {
            Event::Read(read) => Reader::Client(read.request),
            Event::Receive(Message { from, to, term, body: Body::ReadIndex { context }, .. })
                if *to == step.me && *term == step.after.term =>
            {
                Reader::Follower(*from, question(context))
            }
            Event::Receive(Message { to, body: Body::ReadIndexIs { context, .. }, .. }) if *to == step.me => {
                let Some(waits) = self.members.get_mut(&step.after.id) else { return };
                let asked = waits.asked.remove(&question(context));
                waits.told = waits.told.max(asked.unwrap_or_default());
                // What answers an earlier one tells no more.
                waits.asked.retain(|other, _| *other > question(context));
                return;
            }
            _ => return,
        };
        let leads = step.before.role == RoleKind::Leader;
        if leads || matches!(reader, Reader::Client(_)) {
            let waits = self.members.entry(step.after.id).or_default();
            waits.begin(reader, leads, step);
        }
    }

    /// A client is told to read.
    fn served(
        &mut self,
        step: &Observation<'_>,
        request: RequestId,
        outcome: Outcome,
    ) -> Result<(), Finding> {
        let Outcome::Ready { index, until } = outcome else {
            self.refused(step.after.id, request);
            return Ok(());
        };
        let read = self.ends(step, Reader::Client(request));
        is_applied(step.after.id, step.after.applied, index)?;
        match read {
            Some((waits, read)) if until.is_none() => waits.confirm(step, &read, index),
            _ => Ok(()),
        }
    }

    /// A leader answers a follower's question.
    fn tells(&mut self, step: &Observation<'_>, to: Member, body: &Body) -> Result<(), Finding> {
        let Body::ReadIndexIs { context, index } = body else { return Ok(()) };
        match self.ends(step, Reader::Follower(to, question(context))) {
            Some((waits, read)) => waits.confirm(step, &read, *index),
            None => Ok(()),
        }
    }

    /// A read waits no more: of several that are the same the one that came first.
    fn ends(&mut self, step: &Observation<'_>, reader: Reader) -> Option<(&Waits, Waiting)> {
        let waits = self.members.get_mut(&step.after.id)?;
        let first = waits.reads.iter().position(|(known, _)| *known == reader)?;
        let (_, read) = waits.reads.remove(first);
        Some((waits, read))
    }

    /// A client is not told to read: where it has asked more than once, this answers the last time.
    fn refused(&mut self, member: NodeId, request: RequestId) {
        let Some(waits) = self.members.get_mut(&member) else { return };
        let last = waits.reads.iter().rposition(|(known, _)| *known == Reader::Client(request));
        last.map(|last| waits.reads.remove(last));
    }
}

impl Waits {
    fn begin(&mut self, reader: Reader, leads: bool, step: &Observation<'_>) {
        if leads {
            self.term = step.before.term;
        }
        self.reads.push((reader, Waiting { since: step.now.step, leads, confirmed: None }));
    }

    /// The leader's membership is another, or its term is over: what does not confirm a read now does not
    /// later.
    fn settle(&mut self, step: &Observation<'_>, leads: bool) {
        if !leads {
            // Followers ask the next leader.
            self.reads.retain(|(reader, _)| matches!(reader, Reader::Client(_)));
        }
        let answered = &self.answered;
        let undecided = |read: &&mut Waiting| read.leads && read.confirmed.is_none();
        for read in self.reads.iter_mut().map(|(_, read)| read).filter(undecided) {
            let of = |membership: &Membership| have_answered(answered, step.after.id, membership, read.since);
            match of(step.membership_before) || of(step.membership) {
                true => read.confirmed = Some(true),
                false if leads => {}
                false => read.confirmed = Some(false),
            }
        }
    }

    fn confirm(&self, step: &Observation<'_>, read: &Waiting, index: Index) -> Result<(), Finding> {
        let (id, since, membership) = (step.after.id, read.since, step.membership);
        let detail = if read.leads {
            let is_confirmed = || have_answered(&self.answered, id, membership, since);
            if read.confirmed.unwrap_or_else(is_confirmed) {
                return Ok(());
            }
            let answers = self.when_each_answered(membership);
            format!(
                "leader {id} serves a read of step {since}, and no majority of {membership} has answered a heartbeat since: {answers}"
            )
        } else if self.told < since {
            format!(
                "member {id} serves a read of step {since}, and its leader has answered no question since"
            )
        } else {
            return Ok(());
        };
        Err(Finding::new(detail, [Part::of(id, step.now, Involvement::Serves(index))]))
    }

    fn when_each_answered(&self, membership: &Membership) -> String {
        let answers = membership.members().iter().map(|member| {
            let last = self.answered.iter().find(|(known, _)| known == member);
            last.map_or(format!("{member} not at all"), |(_, last)| format!("{member} in step {last}"))
        });
        answers.collect::<Vec<_>>().join(", ")
    }
}

/// Whether the leader and those that have answered it after a step are a majority.
fn have_answered(answered: &[(Member, u64)], leader: NodeId, membership: &Membership, since: u64) -> bool {
    has_majority(membership, |member| {
        member.id == leader || answered.iter().any(|&(known, last)| known == member && last > since)
    })
}

/// What a read must see is applied by the state machine before its client is told to read.
pub(crate) fn is_applied(id: NodeId, applied: Index, index: Index) -> Result<(), String> {
    if index <= applied {
        return Ok(());
    }
    Err(format!("member {id} serves a read of entry {index} and has applied {applied}"))
}

fn question(context: &ReadContext) -> Question {
    (context.start, context.number)
}

impl Check for ConfirmedReads {
    const NAME: &'static str = NAME;

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        self.told(step);
        let leads = step.after.role == RoleKind::Leader && step.before.term == step.after.term;
        let led = step.before.role == RoleKind::Leader;
        if led
            && (!leads || !std::ptr::eq(step.membership, step.membership_before))
            && let Some(waits) = self.members.get_mut(&step.after.id)
        {
            waits.settle(step, leads);
        }
        for action in step.actions {
            match action {
                Action::Send(message) => match &message.body {
                    Body::HeartbeatAck { .. } | Body::Pause { .. } => self.answers(step, message),
                    Body::ReadIndex { context } => {
                        let waits = self.members.entry(step.after.id).or_default();
                        waits.asked.entry(question(context)).or_insert(step.now.step);
                    }
                    Body::ReadIndexIs { .. } => self.tells(step, message.to, &message.body)?,
                    _ => {}
                },
                Action::Respond { request, outcome } => self.served(step, *request, *outcome)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id, observation, status};
    use super::*;
    use crate::part::Stamp;
    use kontiki_core::event::{Read, ReadVia};
    use kontiki_core::status::RoleKind::{Follower, Leader};
    use kontiki_core::status::Status;
    use kontiki_core::time::Instant;
    use kontiki_core::types::{ClusterId, Identity};

    /// A group whose members take one step after the other.
    #[derive(Default)]
    struct Steps {
        check: ConfirmedReads,
        step: u64,
    }

    /// What a member was before a step, and is after it.
    type Was<'a> = (&'a Status, &'a Membership);

    impl Steps {
        fn take(
            &mut self,
            before: Was<'_>,
            after: Was<'_>,
            event: &Event,
            actions: &[Action],
        ) -> Result<(), Finding> {
            self.step += 1;
            let _id = after.0.id;
            self.check.observe(&Observation {
                membership: after.1,
                now: Stamp { step: self.step, at: 0 },
                event,
                actions,
                ..observation(before.0, after.0, before.1)
            })
        }

        /// A member that remains what it is.
        fn stays(
            &mut self,
            is: &Status,
            group: &Membership,
            event: &Event,
            actions: &[Action],
        ) -> Result<(), Finding> {
            self.take((is, group), (is, group), event, actions)
        }
    }

    fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
        Message::new(Identity::new(ClusterId(0), id(from)), id(to).into(), Term::new(term), body)
    }

    fn read() -> Event {
        Event::Read(Read { request: RequestId(7), via: ReadVia::Quorum })
    }

    /// The read is served, by a lease or not.
    fn ready(until: Option<Instant>) -> Action {
        let outcome = Outcome::Ready { index: Index::new(2), until };
        Action::Respond { request: RequestId(7), outcome }
    }

    /// Member 2 answers a heartbeat of member 1.
    fn answer(term: u64) -> Action {
        let body = Body::HeartbeatAck { round: 1, received: Index::ZERO, matched: Index::ZERO };
        Action::Send(message(2, 1, term, body))
    }

    fn leads(term: u64) -> Status {
        Status { applied: Index::new(2), ..status(1, Leader, term, 2) }
    }

    /// What becomes of a read of leader 1 in term 4 before and after which member 2 has answered in these
    /// terms.
    fn read_between(before: u64, after: u64) -> Result<(), Finding> {
        let (mut steps, group) = (Steps::default(), group(3));
        let follows = |term| status(2, Follower, term, 0);
        steps.stays(&follows(before), &group, &Event::Wake, &[answer(before)])?;
        steps.stays(&leads(4), &group, &read(), &[])?;
        steps.stays(&follows(after), &group, &Event::Wake, &[answer(after)])?;
        steps.stays(&leads(4), &group, &Event::Wake, &[ready(None)])
    }

    #[test]
    fn a_leader_serves_a_read_once_a_majority_has_answered_since() {
        assert_eq!(read_between(3, 4), Ok(()));
        let seen = read_between(4, 3).expect_err("the answer came before the read");
        assert!(
            seen.detail.ends_with("has answered a heartbeat since: 1 not at all, 2 not at all, 3 not at all")
        );
        assert_eq!(
            seen.parts,
            [Part::of(id(1), Stamp { step: 4, at: 0 }, Involvement::Serves(Index::new(2)))]
        );
    }

    #[test]
    fn a_lease_needs_no_answers() {
        let (mut steps, group) = (Steps::default(), group(3));
        steps.stays(&leads(4), &group, &read(), &[ready(Some(Instant::from_millis(1)))]).expect("by a lease");
        steps.stays(&leads(4), &group, &read(), &[]).expect("it waits");
        assert!(steps.stays(&leads(4), &group, &Event::Wake, &[ready(None)]).is_err());
    }

    #[test]
    fn what_confirms_a_read_does_so_by_the_membership_of_that_time() {
        let (mut steps, three, five) = (Steps::default(), group(3), group(5));
        let follows = status(2, Follower, 4, 0);
        steps.stays(&leads(4), &three, &read(), &[]).expect("it waits");
        steps.stays(&follows, &three, &Event::Wake, &[answer(4)]).expect("an answer");
        steps.take((&leads(4), &three), (&leads(4), &five), &Event::Wake, &[]).expect("another membership");
        steps.stays(&leads(4), &five, &Event::Wake, &[ready(None)]).expect("it was confirmed before");
        steps.stays(&leads(4), &five, &read(), &[]).expect("it waits");
        steps.stays(&follows, &five, &Event::Wake, &[answer(4)]).expect("an answer");
        assert!(steps.stays(&leads(4), &five, &Event::Wake, &[ready(None)]).is_err(), "two of five");
    }

    #[test]
    fn a_later_term_confirms_no_read_of_an_earlier_one() {
        let (mut steps, group) = (Steps::default(), group(3));
        let deposed = Status { role: Follower, ..leads(5) };
        steps.stays(&leads(4), &group, &read(), &[]).expect("it waits");
        steps.take((&leads(4), &group), (&deposed, &group), &Event::Wake, &[]).expect("it steps down");
        let another = Event::Read(Read { request: RequestId(8), via: ReadVia::Quorum });
        steps.stays(&leads(6), &group, &another, &[]).expect("it waits");
        steps.stays(&status(2, Follower, 6, 0), &group, &Event::Wake, &[answer(6)]).expect("an answer");
        assert!(steps.stays(&leads(6), &group, &Event::Wake, &[ready(None)]).is_err());
    }

    #[test]
    fn a_restart_forgets_who_waits() {
        let (mut steps, group) = (Steps::default(), group(3));
        steps.stays(&leads(4), &group, &read(), &[]).expect("it waits");
        steps.check.restarted(id(1));
        steps.stays(&leads(4), &group, &Event::Wake, &[ready(None)]).expect("no read waits for that");
    }

    /// A follower asks, and is told by its leader, in this order among: the read comes, and is served.
    fn follower_reads(order: &[&str]) -> Result<(), Finding> {
        let (mut steps, group) = (Steps::default(), group(3));
        let context = ReadContext { start: 1, number: 1 };
        let asks = [Action::Send(message(2, 1, 4, Body::ReadIndex { context }))];
        let told = Body::ReadIndexIs { context, index: Index::new(2) };
        let follows = Status { applied: Index::new(2), ..status(2, Follower, 4, 2) };
        for &it in order {
            match it {
                "read" => steps.stays(&follows, &group, &read(), &[])?,
                "asks" => steps.stays(&follows, &group, &Event::Wake, &asks)?,
                "told" => {
                    steps.stays(&follows, &group, &Event::Receive(message(1, 2, 4, told.clone())), &[])?;
                }
                _ => steps.stays(&follows, &group, &Event::Wake, &[ready(None)])?,
            }
        }
        Ok(())
    }

    #[test]
    fn a_follower_serves_a_read_once_a_question_asked_since_is_answered() {
        assert_eq!(follower_reads(&["read", "asks", "told", "serves"]), Ok(()));
        assert!(follower_reads(&["asks", "read", "told", "serves"]).is_err(), "asked before");
        assert!(follower_reads(&["read", "asks", "serves"]).is_err(), "not answered");
    }

    #[test]
    fn a_leader_answers_a_follower_once_a_majority_has_answered_since() {
        let answered = |is_confirmed: bool| {
            let (mut steps, group) = (Steps::default(), group(3));
            let context = ReadContext { start: 1, number: 1 };
            let asks = Event::Receive(message(3, 1, 4, Body::ReadIndex { context }));
            let told = Action::Send(message(1, 3, 4, Body::ReadIndexIs { context, index: Index::new(2) }));
            steps.stays(&leads(4), &group, &asks, &[])?;
            if is_confirmed {
                steps.stays(&status(2, Follower, 4, 0), &group, &Event::Wake, &[answer(4)])?;
            }
            steps.stays(&leads(4), &group, &Event::Wake, &[told])
        };
        assert_eq!(answered(true), Ok(()));
        assert!(answered(false).is_err());
    }

    /// A question that comes a third time does not make the answer to the second one early.
    #[test]
    fn a_question_that_comes_several_times_is_answered_as_often() {
        let (mut steps, group) = (Steps::default(), group(3));
        let context = ReadContext { start: 1, number: 1 };
        let asks = Event::Receive(message(3, 1, 4, Body::ReadIndex { context }));
        let told = [Action::Send(message(1, 3, 4, Body::ReadIndexIs { context, index: Index::new(2) }))];
        let follows = status(2, Follower, 4, 0);
        for _ in 0..2 {
            steps.stays(&leads(4), &group, &asks, &[]).expect("it waits");
        }
        steps.stays(&follows, &group, &Event::Wake, &[answer(4)]).expect("an answer");
        steps.stays(&leads(4), &group, &asks, &[]).expect("it waits");
        for _ in 0..2 {
            steps.stays(&leads(4), &group, &Event::Wake, &told).expect("confirmed since it came");
        }
        assert!(steps.stays(&leads(4), &group, &Event::Wake, &told).is_err(), "no answer since the third");
    }

    #[test]
    fn a_read_is_served_once_what_it_must_see_is_applied() {
        let (mut steps, alone) = (Steps::default(), group(1));
        let behind = Status { applied: Index::new(1), ..leads(4) };
        let seen = steps.stays(&behind, &alone, &read(), &[ready(None)]).expect_err("it is not applied");
        assert_eq!(seen.detail, "member 1 serves a read of entry 2 and has applied 1");
        steps.stays(&leads(4), &alone, &read(), &[ready(None)]).expect("a leader alone needs no answers");
    }
}
