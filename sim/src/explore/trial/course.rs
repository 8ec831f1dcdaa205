//! What a group goes through in a trial, and what is demanded of it.

use super::super::bounds::id;
use super::super::violation::Violation;
use super::{CATCH_UP, ELECTION, HEARTBEAT, MESSAGE, PAYLOAD, Side, Trial, WAITING, WRITE, millis, payload};
use crate::check::Check;
use crate::check::one_change_at_a_time::OneChangeAtATime;
use crate::check::paused_flow::PausedFlow;
use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::membership::{Change, Membership};
use kontiki_core::time::Nanos;
use kontiki_core::types::RequestId;

/// How long a group may take to be led by a member that knows all, and to answer all that was asked before.
/// Several elections may fail before.
const REST: Nanos = ELECTION.times(20);
/// How long a request of a group at rest may take, and the news of it to reach all members.
const ANSWER: Nanos = HEARTBEAT.times(4);
/// How long a leader that hears from no quorum may lead on.
const STEPS_DOWN: Nanos = ELECTION.times(2);
/// How long a write takes that is slower than an election.
const SLOW_WRITE: Nanos = millis(400);
/// How long a message takes that is slower than the next heartbeat.
const SLOW_MESSAGE: Nanos = millis(60);

/// So many commands, one after the other, would not fit together into what may wait.
const COMMANDS: u64 = 3 * WAITING / PAYLOAD as u64;

impl Trial {
    /// The group comes to rest, stays so, serves, and does so again after each of some misfortunes.
    pub(super) fn takes_its_course(&mut self) -> Result<(), Violation> {
        self.comes_to_rest(REST)?;
        self.stays_at_rest()?;
        self.serves()?;
        self.starts_again()?;
        self.hands_over()?;
        self.goes_on_without_space()?;
        self.goes_on_without_its_leader()?;
        self.goes_on_without_the_disk_of_its_leader()?;
        self.sends_again_what_was_lost()?;
        self.changes_its_membership()?;
        self.elects_though_disks_are_slow()
    }

    /// There is no such thing in time.
    fn fails(&mut self, what: &str, within: Nanos) -> Violation {
        let are = (0..self.members.len()).map(|member| {
            let it = self.status(member);
            let leads = if self.leads(member) { " and leads" } else { "" };
            let open = self.members[member].open.len();
            format!(
                "member {} is in term {}{leads}, its log ends at {}, it knows {} to be committed, and {open} requests are open",
                it.id, it.term, it.last, it.committed
            )
        });
        let are = are.collect::<Vec<_>>().join("; ");
        let detail = format!("{what} in {} ms: {are}", within.get() / 1_000_000);
        self.say(&detail);
        Violation::new("Liveness", detail)
    }

    fn is_wanted(
        &mut self,
        what: &str,
        within: Nanos,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        match self.until(within, is_so)? {
            true => Ok(()),
            false => Err(self.fails(what, within)),
        }
    }

    /// The leader, where all members are as it is, and it knows.
    fn leader_at_rest(&self) -> Option<usize> {
        let leader = self.leader()?;
        let membership = self.members[leader].raft.membership();
        let is_led = membership.is_voter(id(leader)) && !membership.is_joint();
        let rests = |member| !self.is_in(member, membership) || self.rests(member, leader);
        (is_led && (0..self.members.len()).all(rests)).then_some(leader)
    }

    /// Whether a member is one of these, in the incarnation that they know, and up.
    fn is_in(&self, member: usize, membership: &Membership) -> bool {
        !self.members[member].is_down && membership.contains(self.members[member].member())
    }

    /// Whether a member follows this leader and has done all that it is to do, which the leader knows.
    fn rests(&self, member: usize, leader: usize) -> bool {
        let (it, raft) = (&self.members[member], &self.members[leader].raft);
        let (is, leads) = (self.status(member), self.status(leader));
        let peer = raft.leader().and_then(|view| view.peer(is.id));
        let matched = peer.map_or(leads.last.index, |peer| peer.matched);
        // A witness has nothing to apply.
        let has_applied = it.applied == is.committed || raft.membership().is_witness(is.id);
        let knows_all = (is.leader, is.last, is.committed) == (Some(leads.id), leads.last, leads.last.index);
        knows_all && matched == leads.last.index && has_applied && it.writes.is_empty()
    }

    /// The group is at rest, and has answered all that it was asked.
    fn comes_to_rest(&mut self, within: Nanos) -> Result<usize, Violation> {
        let has_answered = |trial: &Self| trial.members.iter().all(|it| it.is_down || it.open.is_empty());
        if self.until(within, |trial| trial.leader_at_rest().is_some() && has_answered(trial))? {
            return Ok(self.leader_at_rest().expect("it was just there"));
        }
        if self.leader_at_rest().is_some() {
            let unanswered = self.fails("the group is at rest, and has not answered all requests", within);
            return Err(Violation { property: "Contract", ..unanswered });
        }
        Err(self.fails("no leader brings all members to where it is", within))
    }

    /// The other voters that may lead.
    fn successors(&self, leader: usize) -> Vec<usize> {
        let membership = self.members[leader].raft.membership();
        let may_lead = |member: &usize| {
            let is_other = *member != leader && self.is_in(*member, membership);
            is_other && membership.is_voter(id(*member)) && !membership.is_witness(id(*member))
        };
        (0..self.members.len()).filter(may_lead).collect()
    }

    /// Whether the voters without this one are a majority, and one of them may lead.
    fn can_do_without(&self, voter: usize) -> bool {
        let Some(leader) = self.leader() else { return false };
        let membership = self.members[leader].raft.membership();
        let votes = |member: &usize| self.is_in(*member, membership) && membership.is_voter(id(*member));
        let others = (0..self.members.len()).filter(|member| *member != voter && votes(member)).count();
        2 * others > membership.voters().len() && !self.successors(voter).is_empty()
    }

    /// The leader leads on, and no more is said than heartbeats and their answers.
    fn stays_at_rest(&mut self) -> Result<(), Violation> {
        let (leader, while_at_rest) = (self.comes_to_rest(REST)?, ELECTION.times(5));
        let (term, sent) = (self.status(leader).term, self.sent());
        if self.until(while_at_rest, |trial| !trial.leads(leader) || trial.status(leader).term > term)? {
            let what = "a leader that all members hear does not lead on, though nothing befalls them,";
            return Err(self.fails(what, while_at_rest));
        }
        let heartbeats = while_at_rest.get() / HEARTBEAT.get() + 2;
        let (sent, most) = (self.sent() - sent, heartbeats * 2 * (self.members.len() as u64 - 1));
        if sent > most {
            let detail = format!(
                "{sent} messages are sent in {heartbeats} heartbeats of a group at rest, {most} at most"
            );
            return Err(Violation::new("Bounded Work", detail));
        }
        Ok(())
    }

    /// How many messages the members have sent that the group has.
    fn sent(&self) -> u64 {
        let Some(leader) = self.leader() else { return 0 };
        let membership = self.members[leader].raft.membership();
        let members = (0..self.members.len()).filter(|member| self.is_in(*member, membership));
        members.map(|member| self.members[member].sent).sum()
    }

    fn is_answered(&self, request: RequestId, such: impl Fn(&Outcome) -> bool) -> bool {
        self.answers.get(&request).is_some_and(such)
    }

    /// How long an answer may take. Witnesses stand in for members that are silent when these have had some
    /// time.
    fn answer(&self) -> Nanos {
        let leader = self.leader().unwrap_or_default();
        match self.members[leader].raft.membership().witnesses() {
            [] => ANSWER,
            _ => ANSWER + ELECTION.times(2),
        }
    }

    /// A client proposes a command, which is committed.
    fn commits(&mut self, leader: usize, within: Nanos) -> Result<(), Violation> {
        let propose = |request| Event::Propose(Proposal { request, payload: payload() });
        let request = self.asks(leader, propose)?;
        let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Committed(_));
        self.is_wanted("a command is not committed", within, |trial| trial.is_answered(request, is_done))
    }

    /// Commands are committed, one after the other, more than may wait at once.
    fn commits_many(&mut self, leader: usize) -> Result<(), Violation> {
        (0..COMMANDS).try_for_each(|_| self.commits(leader, self.answer()))
    }

    /// Commands are committed and reads answered, everywhere, at once.
    fn serves(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        self.commits_many(leader)?;
        self.comes_to_rest(ANSWER)?;
        let membership = self.members[leader].raft.membership().clone();
        for member in 0..self.members.len() {
            if !self.is_in(member, &membership) || membership.is_witness(id(member)) {
                continue;
            }
            let request = self.asks(member, |request| Event::Read(Read { request, via: ReadVia::Quorum }))?;
            let is_ready = |outcome: &Outcome| matches!(outcome, Outcome::Ready { .. });
            self.is_wanted("a read is not answered", ANSWER, |trial| trial.is_answered(request, is_ready))?;
        }
        Ok(())
    }

    /// Each member crashes at rest, and is soon back where it was.
    fn starts_again(&mut self) -> Result<(), Violation> {
        for member in 0..self.newcomer() {
            let leader = self.comes_to_rest(REST)?;
            if self.members[member].is_down {
                continue;
            }
            self.say(&format!("member {} crashes, and starts again", id(member)));
            self.members[member].restart(self.now)?;
            if member != leader {
                self.comes_to_rest(ANSWER)?;
            }
        }
        self.comes_to_rest(REST).map(drop)
    }

    /// It leads on if its successor is cut off, which then has much to catch up with, and hands over to one
    /// that is there.
    fn hands_over(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        let Some(&successor) = self.successors(leader).first() else { return Ok(()) };
        if self.can_do_without(successor) {
            self.say(&format!("{} is cut off, and {} is to hand over to it", id(successor), id(leader)));
            self.members[successor].side = Side::CutOff;
            self.asks(leader, |request| Event::Transfer(Transfer { request, to: Some(id(successor)) }))?;
            self.until(STEPS_DOWN, |_| false)?;
            self.commits_many(leader)?;
            self.connect();
            self.comes_to_rest(REST)?;
        }
        let leader = self.comes_to_rest(REST)?;
        self.say(&format!("{} is to hand over", id(leader)));
        let term = self.status(leader).term;
        self.asks(leader, |request| Event::Transfer(Transfer { request, to: None }))?;
        let is_led = |trial: &Self| {
            trial.leader_at_rest().is_some_and(|now| now != leader && trial.status(now).term > term)
        };
        self.is_wanted("no other member leads after a leader has handed over", STEPS_DOWN, is_led)
    }

    /// A follower without space gets no entries and does not lead; it has them soon when there is space.
    fn goes_on_without_space(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        let successors = self.successors(leader);
        let Some(&full) = successors.first().filter(|full| self.can_do_without(**full)) else {
            return Ok(());
        };
        self.say(&format!("the disk of {} is full", id(full)));
        self.step(full, Event::DiskFull(true))?;
        self.until(HEARTBEAT.times(3), |_| false)?;
        if let Some(&other) = successors.get(1) {
            self.makes_way_without_space(leader, (full, other))?;
        }
        let leader = self.leader().unwrap_or(leader);
        self.commits(leader, self.answer())?;
        let transfer = |request| Event::Transfer(Transfer { request, to: Some(id(full)) });
        let transfer = self.asks(leader, transfer)?;
        if !self.is_answered(transfer, |outcome| *outcome == Outcome::Refused(Refusal::MemberFull(id(full))))
        {
            let detail = format!("{} takes a transfer to {}, whose disk is full", id(leader), id(full));
            return Err(Violation::new(PausedFlow::NAME, detail));
        }
        self.until(ELECTION.times(3), |_| false)?;
        self.say(&format!("there is space on the disk of {} again", id(full)));
        self.step(full, Event::DiskFull(false))?;
        self.comes_to_rest(STEPS_DOWN).map(drop)
    }

    /// A leader whose disk is full hands over to another member when that is heard again, and never to one
    /// that has no space either.
    fn makes_way_without_space(
        &mut self,
        leader: usize,
        (full, other): (usize, usize),
    ) -> Result<(), Violation> {
        self.say(&format!("and that of its leader {}, while {} is cut off", id(leader), id(other)));
        self.members[other].side = Side::CutOff;
        self.step(leader, Event::DiskFull(true))?;
        self.until(STEPS_DOWN, |_| false)?;
        self.connect();
        let is_led = |trial: &Self| trial.leader().is_some_and(|now| now != leader);
        self.is_wanted("a leader whose disk is full leads on", STEPS_DOWN, is_led)?;
        if self.leader() == Some(full) {
            let what = "a leader whose disk is full has handed over to another such member";
            return Err(Violation::new(PausedFlow::NAME, what.to_owned()));
        }
        self.step(leader, Event::DiskFull(false))?;
        self.until(HEARTBEAT.times(3), |_| false).map(drop)
    }

    /// A leader that is cut off, with all learners, steps down. The others elect another, who leads on when
    /// it comes back.
    fn goes_on_without_its_leader(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        if self.successors(leader).is_empty() {
            return Ok(());
        }
        let goes_on = self.can_do_without(leader);
        self.cut_off(leader);
        let steps_down = |trial: &Self| !trial.leads(leader);
        self.is_wanted("a leader that hears from no quorum leads on", STEPS_DOWN, steps_down)?;
        let mut led = None;
        if goes_on {
            let other = self.is_succeeded(leader)?;
            self.commits(other, self.answer())?;
            led = Some((other, self.status(other).term));
        }
        self.say("all are connected again");
        self.connect();
        let now = self.comes_to_rest(REST)?;
        match led.filter(|(other, term)| (*other, *term) != (now, self.status(now).term)) {
            Some((other, term)) => {
                let detail = format!("{} leads term {term} no more when others come back", id(other));
                Err(Violation::new("Liveness", detail))
            }
            None => Ok(()),
        }
    }

    fn cut_off(&mut self, leader: usize) {
        self.say(&format!("leader {} is cut off, with all learners", id(leader)));
        let membership = self.members[leader].raft.membership().clone();
        for member in 0..self.newcomer() {
            if member == leader || !membership.is_voter(id(member)) {
                self.members[member].side = Side::CutOff;
            }
        }
    }

    /// The last.
    fn newcomer(&self) -> usize {
        self.members.len() - 1
    }

    /// All but the newcomer hear one another.
    fn connect(&mut self) {
        let newcomer = self.newcomer();
        self.members[..newcomer].iter_mut().for_each(|it| it.side = Side::Group);
    }

    /// Another leads.
    fn is_succeeded(&mut self, leader: usize) -> Result<usize, Violation> {
        let leads = |trial: &Self| trial.leader().filter(|other| *other != leader);
        self.is_wanted("no other member is elected", REST, |trial| leads(trial).is_some())?;
        Ok(leads(self).expect("it was just there"))
    }

    /// A leader whose disk stalls makes way.
    fn goes_on_without_the_disk_of_its_leader(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        if !self.can_do_without(leader) || self.has_synchronous_hosts() {
            return Ok(());
        }
        self.say(&format!("the disk of leader {} stalls", id(leader)));
        self.members[leader].stalls = true;
        self.asks(leader, |request| Event::Propose(Proposal { request, payload: payload() }))?;
        let other = self.is_succeeded(leader)?;
        self.commits(other, REST)?;
        self.say("its disk goes on");
        self.disk_goes_on(leader);
        self.comes_to_rest(REST).map(drop)
    }

    /// Entries that get lost where no answer comes before the next heartbeat are sent again.
    fn sends_again_what_was_lost(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        let Some(&other) = self.successors(leader).first() else { return Ok(()) };
        self.message = SLOW_MESSAGE;
        self.until(HEARTBEAT.times(4), |_| false)?;
        self.say(&format!("messages take longer, and the next entries to {} get lost", id(other)));
        self.members[other].misses_next = true;
        self.asks(leader, |request| Event::Propose(Proposal { request, payload: payload() }))?;
        let within = STEPS_DOWN + SLOW_MESSAGE.times(4);
        self.comes_to_rest(within)?;
        self.message = MESSAGE;
        self.comes_to_rest(within).map(drop)
    }

    /// A newcomer votes when it has caught up, and not before. The leader gives one up in time that is cut
    /// off, and one at once whose change the operator cancels: such a newcomer learns and does not vote. Then
    /// it takes the place of a voter, which learns from then on, and gives it back.
    fn changes_its_membership(&mut self) -> Result<(), Violation> {
        let newcomer = self.newcomer();
        self.say(&format!("{} is to vote, and is cut off", id(newcomer)));
        let leader = self.comes_to_rest(REST)?;
        let wanted = self.changes(leader, vec![Change::AddVoter(id(newcomer).into())])?;
        self.until(HEARTBEAT.times(2), |_| false)?;
        self.commits(leader, self.answer())?;
        let cancels = self.asks(leader, Event::CancelChange)?;
        let is_cancelled = |trial: &Self| {
            [wanted, cancels]
                .iter()
                .all(|it| trial.is_answered(*it, |outcome| *outcome == Outcome::Cancelled))
        };
        self.is_wanted("a change is not cancelled", ANSWER, is_cancelled)?;
        self.say(&format!("that is cancelled, and {} is connected", id(newcomer)));
        self.members[newcomer].side = Side::Group;
        self.comes_to_rest(REST)?;
        self.stays_a_learner(newcomer)?;
        self.say(&format!("{} is cut off, and is to vote when it lacks an entry", id(newcomer)));
        self.members[newcomer].side = Side::Alone;
        self.commits(leader, self.answer())?;
        let wanted = self.changes(leader, vec![Change::Promote(id(newcomer))])?;
        self.commits(leader, self.answer())?;
        let given_up = Outcome::NotCaughtUp(id(newcomer));
        let is_given_up = |trial: &Self| trial.is_answered(wanted, |outcome| *outcome == given_up);
        let within = self.answer() + CATCH_UP.into();
        if !self.until(within, is_given_up)? {
            let late = self.fails("a newcomer that is cut off is waited for", within);
            return Err(Violation { property: "Change Deadline", ..late });
        }
        self.members[newcomer].side = Side::Group;
        self.comes_to_rest(REST)?;
        self.stays_a_learner(newcomer)?;
        self.takes_a_place(newcomer)
    }

    fn stays_a_learner(&mut self, newcomer: usize) -> Result<(), Violation> {
        let votes = |trial: &Self| {
            let leader = trial.leader().unwrap_or(newcomer);
            trial.members[leader].raft.membership().is_voter(id(newcomer))
        };
        match self.until(ELECTION, votes)? {
            true => {
                let what = "a newcomer votes whose change was cancelled or given up";
                Err(Violation::new("Contract", what.to_owned()))
            }
            false => Ok(()),
        }
    }

    /// A newcomer, which learns, takes the place of a voter, and gives it back.
    fn takes_a_place(&mut self, newcomer: usize) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        let voter = self.successors(leader).first().map(|voter| id(*voter));
        self.say(&format!("{} is to vote in the place of {voter:?}", id(newcomer)));
        let there = [Some(Change::Promote(id(newcomer))), voter.map(Change::Demote)];
        let back = [Some(Change::Remove(id(newcomer))), voter.map(Change::Promote)];
        for changes in [there, back] {
            let leader = self.comes_to_rest(REST)?;
            let wanted = self.changes(leader, changes.into_iter().flatten().collect())?;
            let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Committed(_));
            self.is_wanted("the membership is not changed", REST, |trial| {
                trial.is_answered(wanted, is_done)
            })?;
            let leader = self.comes_to_rest(REST)?;
            let has_voter = voter.is_none_or(|voter| {
                self.members[leader].raft.membership().members().iter().any(|member| member.id == voter)
            });
            if !has_voter {
                let what = "a voter that is to learn is no member any more";
                return Err(Violation::new(OneChangeAtATime::NAME, what.to_owned()));
            }
        }
        self.members[newcomer].side = Side::Alone;
        self.comes_to_rest(REST).map(drop)
    }

    /// An operator asks for another membership.
    fn changes(&mut self, leader: usize, changes: Vec<Change>) -> Result<RequestId, Violation> {
        let change = |request| Reconfigure { request, expected: None, changes, force: false };
        self.asks(leader, |request| Event::Reconfigure(change(request)))
    }

    /// Whether writes are done in the step that hands them out: then no disk is slow.
    fn has_synchronous_hosts(&self) -> bool {
        self.members[0].raft.config().options().synchronous_writes
    }

    /// Where writes take longer than elections, one succeeds all the same.
    fn elects_though_disks_are_slow(&mut self) -> Result<(), Violation> {
        let leader = self.comes_to_rest(REST)?;
        if !self.can_do_without(leader) || self.has_synchronous_hosts() {
            return Ok(());
        }
        self.say("disks are slow");
        self.write = SLOW_WRITE;
        self.cut_off(leader);
        let other = self.is_succeeded(leader)?;
        self.commits(other, REST)?;
        self.write = WRITE;
        self.connect();
        self.comes_to_rest(REST).map(drop)
    }
}
