//! One state of a group, and what can happen next.

use super::bounds::{Bounds, MAX_MEMBERS, Transition, id};
use super::clocks::Clocks;
use super::ghost::Ghost;
use super::host::{At, Cause, Host, Step};
use super::network::{Network, Post};
use super::steps::{Steps, request_of_read};
use super::symmetry::Renaming;
use super::violation::Violation;
use crate::hash::StableHasher;
use kontiki_core::time::Instant;
use std::sync::Arc;

/// How much of what is bounded has happened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Spent {
    proposals: u8,
    crashes: u8,
    losses: u8,
    wipes: u8,
    elections: u8,
    heartbeats: u8,
    reads: u8,
    follower_reads: u8,
    questions: u8,
    snapshots: u8,
    transfers: u8,
    changes: u8,
    copied: u8,
    alarms: u8,
}

/// A state: what all members are, every message that was ever sent, and what must be remembered to judge what
/// comes.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) hosts: Box<[Arc<Host>]>,
    network: Arc<Network>,
    past: Past,
    /// The sums of the hashes of all members and messages, under each renaming: equal for equal sets, in
    /// whatever order they grew. A member's hash is of its name too.
    sums: Box<[u64]>,
    spent: Spent,
    clocks: Clocks,
}

/// What a transition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// This happens to a member.
    Step(usize, Cause),
    /// Time goes on, by the clock of this member slowly.
    Tick(u8),
}

/// What is remembered.
#[derive(Clone, Debug)]
struct Past {
    ghost: Arc<Ghost>,
    /// Its hashes under each renaming.
    hashes: Arc<[u64]>,
}

/// A state that follows from another one, before it is worked out in full.
#[derive(Debug)]
pub(super) struct Successor {
    from: Arc<State>,
    change: Change,
    news: News,
}

/// What makes it another one.
#[derive(Debug)]
enum Change {
    /// This member takes a step.
    Step(usize, Arc<Step>),
    /// Time goes on: the sums then.
    Tick(Box<[u64]>),
}

/// What a transition changes beside a member and the network.
#[derive(Debug)]
pub(super) struct News {
    /// Of the state that follows.
    pub(super) fingerprint: u64,
    /// What is remembered then, where that has changed.
    past: Option<Past>,
    spent: Spent,
    clocks: Clocks,
    /// Whether the message that is received is gone then.
    consumes: bool,
}

impl Spent {
    fn hash(self) -> u64 {
        let Self { proposals, crashes, elections, heartbeats, reads, follower_reads, questions, .. } = self;
        let Self { snapshots, transfers, changes, copied, alarms, losses, wipes, .. } = self;
        let often = [proposals, crashes, elections, heartbeats, reads, follower_reads, questions, snapshots];
        StableHasher::combine(
            u64::from_le_bytes(often),
            u64::from_le_bytes([transfers, changes, copied, alarms, losses, wipes, 0, 0]),
        )
    }

    /// What is spent by this, at a member that leads or does not.
    fn count(&mut self, cause: Cause, is_leader: bool) {
        match cause {
            Cause::Timeout if is_leader => self.heartbeats += 1,
            Cause::Timeout => self.elections += 1,
            Cause::Crash(_) => self.crashes += 1,
            Cause::Lose(_) => self.losses += 1,
            Cause::Wipe => self.wipes += 1,
            Cause::Propose(_) => self.proposals += 1,
            Cause::Read(_) if is_leader => self.reads += 1,
            Cause::Read(_) => self.follower_reads += 1,
            Cause::Receive(key) if key.is_question() && is_leader => self.questions += 1,
            Cause::Snapshot => self.snapshots += 1,
            Cause::Change(..) => self.changes += 1,
            Cause::Transfer(_) => self.transfers += 1,
            Cause::Alarm => self.alarms += 1,
            Cause::Persisted | Cause::Applied | Cause::Receive(_) => {}
        }
    }
}

impl State {
    /// The state in which an exploration begins.
    ///
    /// # Errors
    ///
    /// If the group is to begin with a leader, and something is violated before it has one.
    pub(super) fn first(steps: &Steps) -> Result<Self, Violation> {
        let ghost = Arc::<Ghost>::default();
        let past = Past { hashes: steps.hashes_of(&ghost), ghost };
        let first = Self::begun(steps.first().into(), past, steps);
        if !steps.bounds.led {
            return Ok(first);
        }
        let led = first.led(steps)?;
        Ok(Self::begun(led.hosts.clone(), led.past.clone(), steps))
    }

    /// The same where no message is under way. Commands are numbered on.
    pub(super) fn calmed(&self, steps: &Steps) -> Self {
        let spent = Spent { proposals: self.spent.proposals, ..Spent::default() };
        Self { spent, ..Self::begun(self.hosts.clone(), self.past.clone(), steps) }
    }

    /// What comes of the first member's election and of nothing else, when there is nothing more to do.
    fn led(self, steps: &Steps) -> Result<Arc<Self>, Violation> {
        let within = Bounds { elections: 1, terms: 1, proposals: 0, ..Bounds::default() };
        let mut state = Arc::new(self);
        let (mut events, mut member) = (Vec::new(), 0);
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for _ in 0..state.hosts.len() {
                events.clear();
                state.events(member, &within, &mut events);
                for &(cause, transition) in &events {
                    // The others' timers do not go off.
                    let own = member == 0 || cause != Cause::Timeout;
                    let next = if own { state.following(member, cause, transition, steps)? } else { None };
                    if let Some(next) = next.map(|next| next.state()).filter(|next| next.sums != state.sums) {
                        (state, is_quiet) = (Arc::new(next), false);
                        break;
                    }
                }
                member = (member + 1) % state.hosts.len();
            }
        }
        Ok(state)
    }

    /// Nothing is under way, and nothing of the bounds used up.
    fn begun(hosts: Box<[Arc<Host>]>, past: Past, steps: &Steps) -> Self {
        let sum = |renaming: usize| hosts.iter().map(|host| host.images[renaming]).fold(0, u64::wrapping_add);
        let sums = (0..past.hashes.len()).map(sum).collect();
        let network = Arc::new(Network::new(steps.bounds.copied.is_some()));
        Self { hosts, network, past, sums, spent: Spent::default(), clocks: Clocks::default() }
    }

    /// Equal for states that are equal but for names, and different for others, but for a chance of one in
    /// 2^64 for each pair.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(self.spent, &self.past.hashes, self.sums.iter().copied())
    }

    #[cfg(test)]
    pub(super) fn ghost(&self) -> &Ghost {
        &self.past.ghost
    }

    /// Different for states that differ in names.
    #[cfg(test)]
    pub(super) fn own_fingerprint(&self) -> u64 {
        fingerprint(self.spent, &self.past.hashes[..1], self.sums[..1].iter().copied())
    }

    /// Everything that can happen within the bounds to one member, in the order of the causes.
    pub(super) fn events(&self, member: usize, bounds: &Bounds, all: &mut Vec<(Cause, Transition)>) {
        let Spent { proposals, crashes, elections, heartbeats, reads, .. } = self.spent;
        let Spent { follower_reads, questions, snapshots, transfers, changes, .. } = self.spent;
        let Spent { alarms, losses, wipes, .. } = self.spent;
        let (host, at) = (&self.hosts[member], member as u8);
        let may_wake = match host.facts.is_leader {
            true => heartbeats < bounds.heartbeats,
            false => host.facts.term.get() < bounds.terms && elections < bounds.elections,
        };
        let is_due = if bounds.ticks == 0 { host.due < Instant::NEVER } else { host.due <= self.now(member) };
        if may_wake && is_due {
            all.push((Cause::Timeout, Transition::Timeout(at)));
        }
        if !host.writes.is_empty() {
            all.push((Cause::Persisted, Transition::Persisted(at)));
        }
        if !host.applying.is_empty() {
            all.push((Cause::Applied, Transition::Applied(at)));
        }
        if crashes < bounds.crashes {
            let crash = |written| (Cause::Crash(written), Transition::Crash(at, written));
            all.extend((0..=host.writes.len() as u8).map(crash));
        }
        if losses < bounds.losses {
            let lose = |index| (Cause::Lose(index), Transition::Lose(at, index));
            all.extend(host.may_lose().map(lose));
        }
        if wipes < bounds.wipes {
            all.push((Cause::Wipe, Transition::Wipe(at)));
        }
        let read = (Cause::Read(reads + follower_reads + 1), Transition::Read(at));
        if host.facts.is_leader {
            if proposals < bounds.proposals {
                all.push((Cause::Propose(proposals + 1), Transition::Propose(at)));
            }
            if reads < bounds.reads {
                all.push(read);
            }
            if changes < bounds.changes {
                let lives = self.hosts.last().map_or(0, |last| last.former.len() as u8);
                all.push((Cause::Change(changes + 1, lives), Transition::Change(at)));
            }
            if transfers < bounds.transfers {
                all.push((Cause::Transfer(transfers + 1), Transition::Transfer(at)));
            }
        } else if follower_reads < bounds.follower_reads {
            all.push(read);
        }
        if host.facts.has_news && snapshots < bounds.snapshots {
            all.push((Cause::Snapshot, Transition::Snapshot(at)));
        }
        if alarms < bounds.alarms && host.facts.follows {
            all.push((Cause::Alarm, Transition::Alarm(at)));
        }
        let may_ask = !host.facts.is_leader || questions < bounds.follower_reads;
        let received = self.network.to(member).filter(|(_, key)| may_ask || !key.is_question());
        let may_repeat = bounds.copied.is_some_and(|most| self.spent.copied < most);
        for (at, key) in received {
            all.push((Cause::Receive(key), Transition::Deliver(at)));
            if may_repeat {
                all.push((Cause::Receive(key), Transition::Repeat(at)));
            }
        }
    }

    /// How time can go on within the bounds.
    pub(super) fn ticks(&self, bounds: &Bounds) -> impl Iterator<Item = u8> + use<> {
        let (clocks, goes_on) = (self.clocks, self.clocks.ticks() < bounds.ticks);
        (0..self.hosts.len() as u8).filter(move |member| goes_on && clocks.may_be_slow(*member))
    }

    /// What time it is for a member.
    fn now(&self, member: usize) -> Instant {
        self.clocks.of(member).now()
    }

    /// This happens to a member now.
    pub(super) fn at(&self, member: usize, cause: Cause) -> At {
        (self.clocks.of(member), cause)
    }

    /// What a transition is, if it can happen within the bounds.
    pub(super) fn what(&self, transition: Transition, bounds: &Bounds) -> Option<What> {
        let member = match transition {
            Transition::Tick(slow) => {
                return self.ticks(bounds).find(|it| *it == slow).map(What::Tick);
            }
            Transition::Deliver(at) | Transition::Repeat(at) => self.network.key(at)?.addressee(),
            Transition::Timeout(member)
            | Transition::Persisted(member)
            | Transition::Applied(member)
            | Transition::Crash(member, _)
            | Transition::Lose(member, _)
            | Transition::Wipe(member)
            | Transition::Propose(member)
            | Transition::Read(member)
            | Transition::Change(member)
            | Transition::Transfer(member)
            | Transition::Alarm(member)
            | Transition::Snapshot(member) => usize::from(member),
        };
        let mut events = Vec::new();
        if member < self.hosts.len() {
            self.events(member, bounds, &mut events);
        }
        let event = events.iter().find(|(_, possible)| *possible == transition);
        event.map(|(cause, _)| What::Step(member, *cause))
    }

    /// Whose step a transition is, and what it is, in words.
    pub(super) fn describe(&self, transition: Transition, steps: &Steps) -> String {
        match transition {
            Transition::Deliver(at) | Transition::Repeat(at) => {
                let Some(key) = self.network.key(at) else { return "nothing".to_owned() };
                let message = &steps.post(key).message;
                format!(
                    "member {} receives from {}, sent in term {}: {:?}",
                    message.to.id, message.from.id, message.term, message.body
                )
            }
            Transition::Timeout(member) => format!("member {} times out", id(member.into())),
            Transition::Persisted(member) => {
                let oldest = self.hosts[usize::from(member)].writes.front();
                let append = oldest.map_or(0, |write| write.append.len());
                let ballot = oldest.map(|write| write.ballot);
                format!(
                    "member {}'s oldest write is durable: {ballot:?}, {append} entries",
                    id(member.into())
                )
            }
            Transition::Applied(member) => {
                let oldest = self.hosts[usize::from(member)].applying.front().copied().unwrap_or_default();
                format!("member {}'s state machine has applied through {oldest}", id(member.into()))
            }
            Transition::Crash(member, written) => {
                let writes = self.hosts[usize::from(member)].writes.len();
                format!(
                    "member {} crashes with {written} of {writes} writes on its disk, and starts again",
                    id(member.into())
                )
            }
            Transition::Lose(member, index) => {
                format!("member {} starts again, and its disk has damaged entry {index}", id(member.into()))
            }
            Transition::Wipe(member) => {
                format!("member {} loses its disk, and starts again with an empty one", id(member.into()))
            }
            Transition::Propose(member) => {
                format!("a client proposes a command to member {}", id(member.into()))
            }
            Transition::Read(member) => format!("a client reads at member {}", id(member.into())),
            Transition::Change(member) => {
                format!("the operator changes the membership at {}", id(member.into()))
            }
            Transition::Transfer(member) => format!("the operator has {} hand over", id(member.into())),
            Transition::Snapshot(member) => format!("member {} takes a snapshot", id(member.into())),
            Transition::Tick(member) => {
                format!("time goes on, by the clock of member {} slowly", id(member.into()))
            }
            Transition::Alarm(member) => {
                format!("the host of member {} takes its leader for lost", id(member.into()))
            }
        }
    }

    /// The state after one of its transitions; `None` where that cannot happen within the bounds.
    pub(super) fn after(
        self: &Arc<Self>,
        transition: Transition,
        steps: &Steps,
    ) -> Option<Result<Arc<Self>, Violation>> {
        let changed = |successor: Option<Successor>| match successor {
            Some(successor) => Arc::new(successor.state()),
            None => Arc::clone(self),
        };
        Some(self.successor(transition, steps)?.map(changed))
    }

    /// What follows from one of its transitions, if that changes anything; `None` where it cannot happen
    /// within the bounds.
    pub(super) fn successor(
        self: &Arc<Self>,
        transition: Transition,
        steps: &Steps,
    ) -> Option<Result<Option<Successor>, Violation>> {
        Some(match self.what(transition, &steps.bounds)? {
            What::Step(member, cause) => self.following(member, cause, transition, steps),
            What::Tick(slow) => Ok(Some(self.ticked(slow, steps))),
        })
    }

    /// What follows where time goes on, by the clock of this member slowly.
    pub(super) fn ticked(self: &Arc<Self>, slow: u8, steps: &Steps) -> Successor {
        let clocks = self.clocks.tick(slow);
        let mut ghost = Arc::clone(&self.past.ghost);
        ghost.time_passes(&clocks);
        let past = self.past_of(ghost, steps);
        let hashes = &past.as_ref().unwrap_or(&self.past).hashes;
        let changed = |renaming: &Renaming| clocks.hash(renaming).wrapping_sub(self.clocks.hash(renaming));
        let sums = self.sums.iter().zip(steps.renamings());
        let sums: Box<[_]> = sums.map(|(sum, renaming)| sum.wrapping_add(changed(renaming))).collect();
        let fingerprint = fingerprint(self.spent, hashes, sums.iter().copied());
        let news = News { fingerprint, past, spent: self.spent, clocks, consumes: false };
        Successor { from: Arc::clone(self), change: Change::Tick(sums), news }
    }

    /// What follows where this happens to a member, if that changes anything.
    pub(super) fn following(
        self: &Arc<Self>,
        member: usize,
        cause: Cause,
        transition: Transition,
        steps: &Steps,
    ) -> Result<Option<Successor>, Violation> {
        let (host, at) = (&self.hosts[member], self.at(member, cause));
        steps.prepare(host, member, std::iter::once(at));
        let done = host.done.read();
        let step = done.iter().find(|(known, _)| *known == at).and_then(|(_, step)| step.as_ref());
        let Some(step) = step else { return Ok(None) };
        let news = self.news(member, cause, transition, step, steps)?;
        Ok(Some(Successor::new(self, member, step, news)))
    }

    /// What follows where this happens to a member, and it takes this step.
    pub(super) fn news(
        &self,
        member: usize,
        cause: Cause,
        transition: Transition,
        step: &Step,
        steps: &Steps,
    ) -> Result<News, Violation> {
        let host = step.host.as_ref().map_err(Clone::clone)?;
        let mut spent = self.spent;
        spent.count(cause, self.hosts[member].facts.is_leader);
        spent.copied += u8::from(matches!(transition, Transition::Repeat(_)));
        let consumes = steps.bounds.copied.is_some() && matches!(transition, Transition::Deliver(_));
        let past = self.judged(member, cause, step, host, steps)?;
        let hashes = &past.as_ref().unwrap_or(&self.past).hashes;
        let sums = self.sums_after(step, consumes);
        let fingerprint = fingerprint(spent, hashes, sums);
        Ok(News { fingerprint, past, spent, clocks: self.clocks, consumes })
    }

    /// The sums once a member has taken this step.
    fn sums_after<'a>(&'a self, step: &'a Step, consumes: bool) -> impl Iterator<Item = u64> + 'a {
        let unsent = self.network.unsent(&step.sent);
        let gone = step.received.as_ref().filter(|_| consumes);
        self.sums.iter().zip(&step.change).enumerate().map(move |(renaming, (sum, change))| {
            let gone = gone.map_or(0, |post| post.images[renaming].1);
            let sum = sum.wrapping_add(*change).wrapping_sub(gone);
            let sent = unsent.places().map(|place| step.sent[place].images[renaming].1);
            sent.fold(sum, u64::wrapping_add)
        })
    }

    /// What is remembered after a step, where that has changed.
    fn judged(
        &self,
        member: usize,
        cause: Cause,
        step: &Step,
        host: &Host,
        steps: &Steps,
    ) -> Result<Option<Past>, Violation> {
        if !step.is_judged && !cfg!(test) {
            return Ok(None);
        }
        let mut ghost = Arc::clone(&self.past.ghost);
        match cause {
            Cause::Read(number) => Arc::make_mut(&mut ghost)
                .read_begins(request_of_read(number), self.hosts[member].facts.is_leader),
            Cause::Crash(_) | Cause::Lose(_) | Cause::Wipe => ghost.crashes(id(member)),
            _ => {}
        }
        let mut hosts = [host; MAX_MEMBERS];
        let others = hosts.iter_mut().zip(&self.hosts).enumerate().filter(|(place, _)| *place != member);
        others.for_each(|(_, (place, host))| *place = host);
        let sent = step.sent.iter().map(|post| &post.message);
        ghost.judge(&self.hosts[member], &hosts[..self.hosts.len()], member, sent, &step.answers)?;
        assert!(
            step.is_judged || ghost == self.past.ghost,
            "the judge remembers a step that is none of its concern"
        );
        Ok(self.past_of(ghost, steps))
    }

    /// What is remembered, where that has changed.
    fn past_of(&self, ghost: Arc<Ghost>, steps: &Steps) -> Option<Past> {
        let is_same = Arc::ptr_eq(&ghost, &self.past.ghost);
        (!is_same).then(|| Past { hashes: steps.hashes_of(&ghost), ghost })
    }
}

impl Successor {
    pub(super) fn new(from: &Arc<State>, member: usize, step: &Arc<Step>, news: News) -> Self {
        Self { from: Arc::clone(from), change: Change::Step(member, Arc::clone(step)), news }
    }

    /// That of the state.
    pub(super) fn fingerprint(&self) -> u64 {
        self.news.fingerprint
    }

    /// The messages that are sent on the way to it, in the order of their keys.
    pub(super) fn sent(&self) -> &[Arc<Post>] {
        match &self.change {
            Change::Step(_, step) => &step.sent,
            Change::Tick(_) => &[],
        }
    }

    /// The whole state.
    pub(super) fn state(&self) -> State {
        let from = &*self.from;
        let (mut hosts, mut sums) = (from.hosts.clone(), from.sums.clone());
        let mut network = Arc::clone(&from.network);
        let News { spent, clocks, consumes, ref past, .. } = self.news;
        match &self.change {
            Change::Tick(ticked) => sums.clone_from(ticked),
            Change::Step(member, step) => {
                if let Ok(host) = &step.host {
                    let after = from.sums_after(step, consumes);
                    sums.iter_mut().zip(after).for_each(|(sum, after)| *sum = after);
                    hosts[*member] = Arc::clone(host);
                }
                let gone = step.received.as_ref().filter(|_| consumes);
                network = from.network.with(&step.sent, gone.map(|post| post.key));
            }
        }
        let past = past.as_ref().unwrap_or(&from.past).clone();
        State { hosts, network, past, sums, spent, clocks }
    }
}

/// The least over all renamings.
fn fingerprint(spent: Spent, pasts: &[u64], sums: impl Iterator<Item = u64>) -> u64 {
    let spent = spent.hash();
    let under = |(past, sum): (&u64, u64)| StableHasher::combine(past.wrapping_add(spent), sum);
    pasts.iter().zip(sums).map(under).min().unwrap_or_default()
}
