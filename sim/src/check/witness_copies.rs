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
        if is_new || office.term != after.term {
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
    let holds = |member: &&Member| (step.durable)(**member).and_then(|log| link_at(log, index)) == Some(link);
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
    use super::super::testing::{chain, id, observation, status};
    use super::*;
    use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice};
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
    }

    impl Leading {
        fn new(holding: &[u64]) -> Self {
            let mut check = WitnessCopies { longest: TIMEOUT * 1_000_000, ..WitnessCopies::default() };
            let office = Office { term: Term::new(1), heard: BTreeMap::new(), committing_since: Some(ms(0)) };
            check.offices.insert(0, office);
            Self { check, holding: holding.iter().copied().map(id).collect() }
        }

        fn step(&mut self, at: u64, event: &Event, actions: &[Action]) -> Result<(), Finding> {
            let kinds = (1..=4).map(|number| {
                (id(number).into(), if number == 4 { MemberKind::Witness } else { MemberKind::Voter })
            });
            let group = Membership::from_kinds(kinds).unwrap();
            let log = chain(&[(1, "a"), (1, "b")]);
            let mut leads = status(1, RoleKind::Leader, 1, 1);
            leads.last = LogId::new(1, 2);
            self.check.observe(&Observation {
                local: ms(at),
                event,
                actions,
                chain: &log,
                durable: &|member| Some(&log[..1 + usize::from(self.holding.contains(&member.id))]),
                ..observation(&leads, &leads, &group)
            })
        }

        /// A voter answers.
        fn hears(&mut self, at: u64, from: u64, term: u64) {
            let from = Identity::new(ClusterId(0), id(from));
            let body = Body::Appended { matched: Index::new(1) };
            let message = Message::new(from, id(1).into(), Term::new(term), body);
            assert_eq!(self.step(at, &Event::Receive(message), &[]), Ok(()));
        }

        /// The entry goes to this member.
        fn sends(&mut self, at: u64, to: u64) -> Result<(), Finding> {
            let entries: Entries =
                [Entry { id: LogId::new(1, 2), body: EntryBody::Blank }].into_iter().collect();
            let slice = LogSlice::new(LogId::new(1, 1), entries).unwrap();
            let from = Identity::new(ClusterId(0), id(1));
            let body = Body::Append { slice, commit: Index::new(1) };
            let message = Message::new(from, id(to).into(), Term::new(1), body);
            self.step(at, &Event::Wake, &[Action::Send(message)])
        }
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
