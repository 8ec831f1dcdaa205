//! Witness Copies: a leader sends an entry to a witness only once so many voters hold it with its payload
//! that one of them is left when as many fail as the group can do without. Otherwise the entry may be gone
//! for good, and the witness, which knows of it, votes for no voter that is left.
//!
//! Silent voters are not waited for, nor is anything where nothing has been committed for an election
//! timeout. So this judges by who has answered the leader lately, by its own clock.

use super::{Check, Finding, Observation};
use crate::ledger::{Link, link_at};
use kontiki_core::action::Action;
use kontiki_core::config::Options;
use kontiki_core::event::Event;
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::message::{Body, Message};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, Member, NodeId, Term};
use std::collections::BTreeMap;

/// Remembers who has answered each leader of a group with a witness, and when.
#[derive(Default, Debug)]
pub struct WitnessCopies {
    /// How long a voter that says nothing is waited for, in nanoseconds.
    longest: u64,
    /// What is known of leaders, by their positions.
    offices: BTreeMap<usize, Office>,
}

/// What is known of a leader in its term.
#[derive(Debug)]
struct Office {
    term: Term,
    heard: BTreeMap<Member, Instant>,
    /// Since when there has been something to commit, and nothing was committed; none where that is unknown.
    committing_since: Option<Instant>,
}

impl WitnessCopies {
    /// Members have these settings.
    pub fn within(&mut self, options: &Options) {
        self.longest = u64::try_from(options.election_timeout_max.as_nanos()).unwrap_or(u64::MAX);
    }

    /// What is known of this leader: who has answered, and since when it commits as it was before the step.
    fn office(&mut self, step: &Observation<'_>) -> &mut Office {
        let (before, after, now) = (step.before, step.after, step.local);
        let is_new = (before.role, before.term) != (after.role, after.term);
        let committing_since = is_new.then_some(now);
        let begins = || Office { term: after.term, heard: BTreeMap::new(), committing_since };
        let office = self.offices.entry(step.member).or_insert_with(begins);
        if office.term != after.term {
            *office = begins();
        }
        if let Event::Receive(message) = step.event
            && answers(message, after.term)
        {
            office.heard.insert(message.from, now);
        }
        office
    }
}

impl Check for WitnessCopies {
    const NAME: &'static str = "Witness Copies";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        if step.after.role != RoleKind::Leader || step.membership.witnesses().is_empty() {
            self.offices.remove(&step.member);
            return Ok(());
        }
        let longest = self.longest;
        let office = self.office(step);
        let is_recent = |since: Instant| (step.local - since).get() < longest;
        // Where the membership changes in this step, some was sent by the one before.
        let is_settled = step.membership == step.membership_before;
        let judged = match is_settled && office.committing_since.is_some_and(is_recent) {
            true => judge(step, |member| office.heard.get(&member).is_some_and(|at| is_recent(*at))),
            false => Ok(()),
        };
        let (before, after) = (step.before, step.after);
        // There was nothing to commit before, or something was committed.
        if before.committed == before.last.index || before.committed < after.committed {
            office.committing_since = Some(step.local);
        }
        judged
    }
}

/// Looks at what this leader sends to witnesses, where these voters were `heard` lately.
fn judge(step: &Observation<'_>, heard: impl Fn(Member) -> bool) -> Result<(), Finding> {
    let sent = step.actions.iter().filter_map(|action| sends_to_witness(action, step.membership));
    for (witness, last) in sent.filter(|(_, last)| *last > step.after.committed) {
        let Some(link) = link_at(step.chain, last) else { continue };
        for set in [step.membership.voters(), step.membership.outgoing()] {
            let Copies { needed, held } = copies(step, set, (last, link), &heard);
            if held < needed {
                let id = step.after.id;
                let detail = format!(
                    "leader {id} sends entry {last} to witness {witness}, and {held} other voters hold it, not {needed}"
                );
                return Err(detail.into());
            }
        }
    }
    Ok(())
}

/// How many voters besides the leader must hold an entry, and how many do.
struct Copies {
    needed: usize,
    held: usize,
}

fn copies(
    step: &Observation<'_>,
    set: &[NodeId],
    (index, link): (Index, &Link),
    heard: impl Fn(Member) -> bool,
) -> Copies {
    let membership = step.membership;
    let full = |member: &&Member| set.contains(&member.id) && membership.kind(**member) == MemberKind::Voter;
    let all = || membership.members().iter().filter(full);
    let others = || all().filter(|member| member.id != step.after.id);
    // As many may fail as leave a majority; one more copy, but no more than there can be.
    let may_fail = set.len().saturating_sub(set.len() / 2 + 1);
    let leads = usize::from(set.contains(&step.after.id));
    let needed = (may_fail + 1).min(all().count()).saturating_sub(leads);
    let needed = needed.min(others().filter(|member| heard(**member)).count());
    // What a member has of a later leader may have taken the entry back, of which this leader does not know.
    let holds = |member: &&Member| {
        let log = (step.durable)(**member).unwrap_or_default();
        link_at(log, index) == Some(link) || log.last().is_some_and(|last| last.term > step.after.term)
    };
    Copies { needed, held: others().filter(holds).count() }
}

/// Whether a follower says that it follows the leader of this term.
fn answers(message: &Message, term: Term) -> bool {
    let follows =
        matches!(message.body, Body::Appended { .. } | Body::Rejected { .. } | Body::HeartbeatAck { .. });
    follows && message.term == term
}

/// To which witness this sends entries, and which is the last of them.
fn sends_to_witness(action: &Action, membership: &Membership) -> Option<(NodeId, Index)> {
    let Action::Send(Message { to, body: Body::Append { slice, .. }, .. }) = action else { return None };
    let last = slice.entries().last()?.id.index;
    membership.is_witness(to.id).then_some((to.id, last))
}

#[cfg(test)]
mod tests {
    use super::super::Checks;
    use super::super::testing::{chain, id, observation, status};
    use super::*;
    use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice};
    use kontiki_core::status::Status;
    use kontiki_core::types::{ClusterId, Identity, LogId};

    const TIMEOUT: u64 = 150;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// A leader of term 1, whose entry 2 is not committed, among four voters of whom the last is a witness.
    struct Leading {
        check: WitnessCopies,
        /// Which of the other voters hold entry 2.
        holding: Vec<NodeId>,
        /// Which have another entry of a later term there.
        led_on: Vec<NodeId>,
        /// What it is before each step, and after.
        before: Status,
        after: Status,
        /// The voters before each step.
        voters_before: u64,
    }

    impl Leading {
        fn new(holding: &[u64]) -> Self {
            let mut check = WitnessCopies { longest: TIMEOUT * 1_000_000, ..WitnessCopies::default() };
            let office = Office { term: Term::new(1), heard: BTreeMap::new(), committing_since: Some(ms(0)) };
            check.offices.insert(0, office);
            let leads = Status { last: LogId::new(1, 2), ..status(1, RoleKind::Leader, 1, 1) };
            let holding = holding.iter().copied().map(id).collect();
            let led_on = Vec::new();
            Self { check, holding, led_on, before: leads, after: leads, voters_before: 4 }
        }

        /// Nothing is known of it yet.
        fn unknown() -> Self {
            let mut leading = Self::new(&[]);
            leading.check.offices.clear();
            leading
        }

        fn step(&mut self, at: u64, event: &Event, actions: &[Action]) -> Result<(), Finding> {
            let mut check = std::mem::take(&mut self.check);
            let seen = self.shown(at, event, actions, |step| check.observe(step));
            self.check = check;
            seen
        }

        fn shown<T>(
            &self,
            at: u64,
            event: &Event,
            actions: &[Action],
            judged: impl FnOnce(&Observation<'_>) -> T,
        ) -> T {
            let group = |voters| {
                let kind = |number| if number == 4 { MemberKind::Witness } else { MemberKind::Voter };
                let kinds = (1..=voters).map(|number| (id(number).into(), kind(number)));
                Membership::from_kinds(kinds).unwrap()
            };
            let log = chain(&[(1, "a"), (1, "b")]);
            let later = chain(&[(1, "a"), (2, "c")]);
            let durable = |member: Member| match self.led_on.contains(&member.id) {
                true => &later[..],
                false => &log[..1 + usize::from(self.holding.contains(&member.id))],
            };
            judged(&Observation {
                local: ms(at),
                event,
                actions,
                chain: &log,
                membership: &group(4),
                durable: &|member| Some(durable(member)),
                ..observation(&self.before, &self.after, &group(self.voters_before))
            })
        }

        /// A voter answers.
        fn hears(&mut self, at: u64, from: u64, term: u64) {
            assert_eq!(self.step(at, &answer(from, term), &[]), Ok(()));
        }

        /// The entry goes to this member.
        fn sends(&mut self, at: u64, to: u64) -> Result<(), Finding> {
            self.step(at, &Event::Wake, &[append(to)])
        }
    }

    fn answer(from: u64, term: u64) -> Event {
        let from = Identity::new(ClusterId(0), id(from));
        let body = Body::Appended { matched: Index::new(1) };
        Event::Receive(Message::new(from, id(1).into(), Term::new(term), body))
    }

    fn append(to: u64) -> Action {
        let entries: Entries = [Entry { id: LogId::new(1, 2), body: EntryBody::Blank }].into_iter().collect();
        let slice = LogSlice::new(LogId::new(1, 1), entries).unwrap();
        let from = Identity::new(ClusterId(0), id(1));
        let body = Body::Append { slice, commit: Index::new(1) };
        Action::Send(Message::new(from, id(to).into(), Term::new(1), body))
    }

    /// A leader commits, is answered, and sends the next entry on.
    #[test]
    fn it_is_one_of_the_checks() {
        let mut leading = Leading::new(&[]);
        let mut checks = Checks::default();
        checks.holds_within(4, &Options::default());
        let mut shown = |leading: &Leading, at, event: &Event, actions: &[Action]| {
            leading.shown(at, event, actions, |step| checks.observe(step)).map_err(|seen| seen.property)
        };
        leading.before.committed = Index::ZERO;
        assert_eq!(shown(&leading, 0, &answer(2, 1), &[]), Ok(()));
        leading.before = leading.after;
        assert_eq!(shown(&leading, 1, &answer(2, 1), &[]), Ok(()));
        assert_eq!(shown(&leading, 2, &Event::Wake, &[append(4)]), Err("Witness Copies"));
    }

    /// Of four voters one may fail, so two must hold it: the leader and one more.
    #[test]
    fn a_witness_gets_what_outlives_as_many_as_may_fail() {
        let mut leading = Leading::new(&[]);
        leading.hears(10, 2, 1);
        assert_eq!(leading.sends(20, 3), Ok(()), "to a voter that holds it with its payload");
        let seen = leading.sends(20, 4).expect_err("no other holds it");
        assert_eq!(seen.detail, "leader 1 sends entry 2 to witness 4, and 0 other voters hold it, not 1");
        let mut leading = Leading::new(&[3]);
        leading.hears(10, 2, 1);
        assert_eq!(leading.sends(20, 4), Ok(()), "whether that one was heard or not");
        leading.hears(30, 3, 1);
        assert_eq!(leading.sends(40, 4), Ok(()), "the leader holds it, too");
        let mut leading = Leading::new(&[1]);
        leading.hears(10, 2, 1);
        assert!(leading.sends(20, 4).is_err(), "which is all that its own disk says");
        let mut leading = Leading::new(&[]);
        leading.hears(10, 2, 1);
        (leading.before.committed, leading.after.committed) = (Index::new(2), Index::new(2));
        assert_eq!(leading.sends(20, 4), Ok(()), "it is committed");
        let mut leading = Leading::new(&[]);
        leading.hears(10, 2, 1);
        leading.voters_before = 5;
        assert_eq!(leading.sends(20, 4), Ok(()), "by the membership before, perhaps");
    }

    /// It may have acknowledged the entry before. A leader that was replaced does not hear what became of it.
    #[test]
    fn what_a_voter_has_of_a_later_leader_is_not_missed_in_what_it_has_of_this_one() {
        let mut leading = Leading::new(&[]);
        leading.hears(10, 2, 1);
        leading.led_on = vec![id(2)];
        assert_eq!(leading.sends(20, 4), Ok(()));
        leading.led_on = vec![id(1)];
        assert!(leading.sends(20, 4).is_err(), "what the leader itself has does not count");
    }

    /// The time that nothing was committed begins when a member is elected, when something is appended to a
    /// log of which all is committed, and when something is committed.
    #[test]
    fn what_was_committed_lately_is_known() {
        let mut leading = Leading::unknown();
        leading.hears(10, 2, 1);
        assert_eq!(leading.sends(20, 4), Ok(()), "it was not seen when it was elected");
        let mut leading = Leading::unknown();
        leading.before.role = RoleKind::Candidate;
        assert_eq!(leading.step(100, &Event::Wake, &[]), Ok(()));
        leading.before = leading.after;
        leading.hears(110, 2, 1);
        assert!(leading.sends(249, 4).is_err());
        for (before, after) in [(0, 1), (2, 2)] {
            let mut leading = Leading::new(&[]);
            let now = leading.before;
            leading.before.committed = Index::new(before);
            leading.after.committed = Index::new(after);
            assert_eq!(leading.step(140, &Event::Wake, &[]), Ok(()));
            (leading.before, leading.after) = (now, now);
            leading.hears(150, 2, 1);
            assert!(leading.sends(289, 4).is_err(), "{before} to {after}");
            leading.hears(290, 2, 1);
            assert_eq!(leading.sends(290, 4), Ok(()));
        }
    }

    #[test]
    fn silent_voters_are_not_waited_for_and_none_is_for_long() {
        let mut leading = Leading::new(&[]);
        assert_eq!(leading.sends(20, 4), Ok(()), "none was heard");
        leading.hears(30, 2, 2);
        leading.hears(30, 4, 1);
        assert_eq!(leading.sends(40, 4), Ok(()), "in another term, or the witness");
        leading.hears(40, 2, 1);
        assert!(leading.sends(149, 4).is_err());
        leading.hears(150, 2, 1);
        assert_eq!(leading.sends(150, 4), Ok(()), "nothing was committed for so long");
        let mut leading = Leading::new(&[]);
        leading.hears(0, 2, 1);
        leading.check.offices.get_mut(&0).unwrap().committing_since = Some(ms(100));
        assert!(leading.sends(149, 4).is_err());
        assert_eq!(leading.sends(150, 4), Ok(()), "it has said nothing for so long");
        leading.check.offices.get_mut(&0).unwrap().committing_since = None;
        leading.hears(150, 2, 1);
        assert_eq!(leading.sends(160, 4), Ok(()), "it is not known since when it commits");
    }
}
