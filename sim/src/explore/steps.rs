//! What happens to single members, worked out once.
//!
//! What an event does to a member depends on that member alone. Members have few states compared with the
//! group, so nearly every transition of the group is one that is known for its member: the kernel is not
//! stepped again, nothing is cloned, and what did not change is shared.

use super::alone::{Before, has_latest_membership, is_applied, may_halt};
use super::bounds::{Bounds, MAX_PROPOSALS, id};
use super::clocks::Clock;
use super::ghost::{self, Ghost};
use super::host::{At, Cause, Host, Step};
use super::network::{Key, Post, Unsent};
use super::symmetry::{Renaming, Symmetry};
use super::violation::Violation;
use crate::hash::StableHasher;
use crate::quiet::{quietly, text_of};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::membership::Change;
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{Incarnation, Member, RequestId, WriteSeq};
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All states of members and all messages that were met, each once.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) bounds: Bounds,
    symmetry: Symmetry,
    hosts: Mutex<BTreeMap<u64, Arc<Host>>>,
    posts: Mutex<BTreeMap<Key, Arc<Post>>>,
}

/// Members that follow from one another refer to one another.
impl Drop for Steps {
    fn drop(&mut self) {
        locked(&self.hosts).values().for_each(|host| host.done.forget());
    }
}

impl Steps {
    pub(super) fn new(bounds: Bounds, symmetry: Symmetry) -> Self {
        Self { bounds, symmetry, hosts: Mutex::default(), posts: Mutex::default() }
    }

    /// All members as they begin.
    pub(super) fn first(&self) -> Vec<Arc<Host>> {
        let hosts: Vec<_> =
            (0..usize::from(self.bounds.members)).map(|it| Host::of(&self.bounds, it)).collect();
        let hashes: Vec<_> = hosts.iter().map(|host| host.hash).collect();
        let mut all = Vec::new();
        for (member, host) in hosts.into_iter().enumerate() {
            let image = |renaming: &Renaming| hashes[renaming.place(member)];
            let images = self.symmetry.renamings().iter().map(image).collect();
            all.push(self.host(host, images).expect("it is met for the first time"));
        }
        all
    }

    pub(super) fn renamings(&self) -> &[Renaming] {
        self.symmetry.renamings()
    }

    /// The hashes of what is remembered, under each renaming.
    pub(super) fn hashes_of(&self, ghost: &Ghost) -> Arc<[u64]> {
        let (_, others) = self.symmetry.renamings().split_first().expect("one that changes nothing");
        let others = others.iter().map(|renaming| StableHasher::of(&ghost.renamed(renaming)));
        std::iter::once(StableHasher::of(ghost)).chain(others).collect()
    }

    /// The one host that is equal to this one; `None` where it was seen to have other images.
    ///
    /// # Panics
    ///
    /// If two states of members that differ have the same hash, or two messages the same key: what was
    /// explored then would not be what it seems.
    pub(super) fn host(&self, host: Host, images: Box<[u64]>) -> Option<Arc<Host>> {
        let mut hosts = locked(&self.hosts);
        let new = || Arc::new(Host { images: images.clone(), ..host.clone() });
        let known = hosts.entry(host.hash).or_insert_with(new);
        assert!(known.equals(&host), "two states of members have the same hash");
        (known.images == images).then(|| Arc::clone(known))
    }

    pub(super) fn post(&self, key: Key) -> Arc<Post> {
        Arc::clone(&locked(&self.posts)[&key])
    }

    /// These messages, each once, in the order of their keys.
    fn posts(&self, sent: Vec<Message>) -> Box<[Arc<Post>]> {
        let mut sent: Vec<_> = sent.into_iter().map(|message| self.sent(message)).collect();
        sent.sort_unstable_by_key(|post| post.key);
        sent.dedup_by_key(|post| post.key);
        assert!(sent.len() <= Unsent::MAX, "a step of few members sends few messages");
        sent.into()
    }

    fn sent(&self, message: Message) -> Arc<Post> {
        let key = Key::of(&message);
        let mut posts = locked(&self.posts);
        let known = posts.entry(key).or_insert_with(|| Arc::new(Post::new(message.clone(), &self.symmetry)));
        assert_eq!(known.message, message, "two messages have the same key");
        Arc::clone(known)
    }

    /// Works out what follows for a member from each of these causes, which are in order: its
    /// [`Done`](super::host::Done) knows them all then.
    pub(super) fn prepare(&self, host: &Host, member: usize, causes: impl Iterator<Item = At>) {
        for (clock, cause) in host.done.unknown(causes) {
            self.work_out(host, member, clock, cause);
        }
    }

    /// Works out what follows for a member and, under each renaming, for the member that takes its place:
    /// what comes of one must be what comes of the other, renamed.
    fn work_out(&self, host: &Host, member: usize, clock: Clock, cause: Cause) {
        let renamings = self.symmetry.renamings();
        let twin = |renaming: usize| Arc::clone(&locked(&self.hosts)[&host.images[renaming]]);
        let twins: Vec<_> = (0..renamings.len()).map(twin).collect();
        let received = |key: Key, renaming: usize| self.post(key).images[renaming].0;
        let causes = (0..renamings.len()).map(|renaming| match cause {
            Cause::Receive(key) => Cause::Receive(received(key, renaming)),
            cause => cause,
        });
        let causes: Vec<_> = causes.collect();
        let did = twins.iter().zip(&causes).map(|(twin, cause)| self.did(twin, (clock, *cause)));
        let steps = self.compared(&twins, &causes, did.collect()).unwrap_or_else(|| {
            let detail = format!("{cause:?} at member {} comes to something else at another", member + 1);
            let violation = Violation::new("Symmetry", detail + ": explore with --no-symmetry");
            vec![Some(Arc::new(Step::violating(violation))); twins.len()]
        });
        for ((twin, cause), step) in twins.iter().zip(causes).zip(steps) {
            twin.done.learn((clock, cause), step);
        }
    }

    /// What each of the members that are renamings of one another did, if it is the same but for names.
    fn compared(
        &self,
        twins: &[Arc<Host>],
        causes: &[Cause],
        did: Vec<Result<Did, Violation>>,
    ) -> Option<Vec<Option<Arc<Step>>>> {
        if did.iter().all(Result::is_err) {
            let steps = did.into_iter().filter_map(Result::err).map(|it| Some(Arc::new(Step::violating(it))));
            return Some(steps.collect());
        }
        let did: Vec<Did> = did.into_iter().collect::<Result<_, _>>().ok()?;
        let hashes: Vec<_> = did.iter().map(|did| did.host.hash).collect();
        let mut steps: Vec<Option<Arc<Step>>> = Vec::new();
        let mut first: Option<Box<[Arc<Post>]>> = None;
        let judged = did[0].judged();
        for (renaming, ((did, before), cause)) in did.into_iter().zip(twins).zip(causes).enumerate() {
            if did.judged() != judged {
                return None;
            }
            let image = |other: usize| hashes[self.symmetry.composed(other, renaming)];
            let host = self.host(did.host, (0..hashes.len()).map(image).collect())?;
            let sent = self.posts(did.sent);
            let expected =
                first.get_or_insert_with(|| sent.clone()).iter().map(|post| post.images[renaming].0);
            let mut expected: Vec<_> = expected.collect();
            expected.sort_unstable();
            if !expected.into_iter().eq(sent.iter().map(|post| post.key)) {
                return None;
            }
            let stays = sent.is_empty() && did.answers.is_empty() && host.hash == before.hash;
            let (answers, is_judged) = (did.answers.into(), did.is_judged);
            let received = match cause {
                Cause::Receive(key) => Some(self.post(*key)),
                _ => None,
            };
            let change =
                host.images.iter().zip(&before.images).map(|(is, was)| is.wrapping_sub(*was)).collect();
            steps.push(
                (!stays)
                    .then(|| Arc::new(Step { host: Ok(host), change, received, sent, answers, is_judged })),
            );
        }
        Some(steps)
    }

    /// What a member does.
    fn did(&self, before: &Host, at: At) -> Result<Did, Violation> {
        self.watched(before, at, &mut |_| ())
    }

    /// The same, where each step of the kernel is shown.
    pub(super) fn watched(
        &self,
        before: &Host,
        (clock, cause): At,
        watch: Watch<'_>,
    ) -> Result<Did, Violation> {
        let mut did = Did { host: before.clone(), sent: Vec::new(), answers: Vec::new(), is_judged: false };
        let written = match cause {
            Cause::Crash(written) => Some(usize::from(written)),
            Cause::Lose(_) => Some(before.writes.len()),
            Cause::Wipe => Some(0),
            _ => None,
        };
        if let Some(written) = written {
            (0..written).for_each(|_| did.host.disk_writes());
            if let Cause::Lose(index) = cause {
                did.host.lose(index);
            }
            let member = match cause {
                Cause::Wipe => {
                    did.host.wipe();
                    before.reborn()
                }
                _ => before.member(),
            };
            did.host.restart(&self.bounds, member, clock.now())?;
            has_latest_membership(&did.host.raft)?;
            // Its host reads by no lease any more.
            did.is_judged = self.bounds.ticks > 0;
            return Ok(did);
        }
        if cause == Cause::Timeout && !before.facts.is_leader {
            did.host.raft.set_election_deadline(before.due);
        }
        let now = match cause {
            Cause::Timeout if self.bounds.ticks == 0 => before.due,
            _ => clock.now(),
        };
        let event = self.event(cause, before);
        did.host.open.extend(request_in(&event));
        did.host.open.sort_unstable();
        did.carry_out(event, now, &self.bounds, watch)?;
        did.host.seal(&self.bounds);
        let is_read = matches!(cause, Cause::Read(_));
        did.is_judged = is_read || ghost::concerns(before, &did.host, &did.sent, &did.answers);
        Ok(did)
    }

    pub(super) fn event(&self, cause: Cause, host: &Host) -> Event {
        match cause {
            Cause::Receive(key) => Event::Receive(self.post(key).message.clone()),
            Cause::Persisted => Event::Persisted(WriteSeq::new(1)),
            Cause::Applied => Event::Applied(host.applying.front().copied().unwrap_or_default()),
            Cause::Propose(number) => {
                let request = request(0, number);
                Event::Propose(Proposal { request, payload: ghost::payload_of(request) })
            }
            Cause::Read(number) => {
                let via = if self.bounds.ticks == 0 { ReadVia::Quorum } else { ReadVia::Lease };
                Event::Read(Read { request: request_of_read(number), via })
            }
            Cause::Change(number, lives) => self.change(request(2 * MAX_PROPOSALS, number), number, lives),
            Cause::Transfer(number) => {
                Event::Transfer(Transfer { request: request(3 * MAX_PROPOSALS, number), to: None })
            }
            Cause::Snapshot => Event::SnapshotTaken(host.raft.status().applied),
            Cause::Alarm => host.raft.status().leader.map_or(Event::Wake, Event::PeerUnreachable),
            Cause::Timeout | Cause::Crash(_) | Cause::Lose(_) | Cause::Wipe => Event::Wake,
        }
    }

    /// A change of the membership: the last member, in this incarnation, is added as a voter, then removed,
    /// and so on, or the other way round; or it is swapped for the one before it, and back.
    fn change(&self, request: RequestId, number: u8, lives: u8) -> Event {
        let Bounds { members, swap, wipes, .. } = self.bounds;
        let begins_with_it = wipes > 0 && self.bounds.founders() == usize::from(members);
        let last = Member::new(id(usize::from(members) - 1), Incarnation(lives.into()));
        let before_last = swap.then(|| Member::from(id(usize::from(members) - 2)));
        let comes = (number % 2 == 1) != begins_with_it;
        let (added, removed) = if comes { (Some(last), before_last) } else { (before_last, Some(last)) };
        let removed = removed.map(|member| Change::Remove(member.id));
        let changes = removed.into_iter().chain(added.map(Change::AddVoter)).collect();
        Event::Reconfigure(Reconfigure { request, expected: None, changes, force: true })
    }
}

/// What a client or an operator is to be answered.
fn request_in(event: &Event) -> Option<RequestId> {
    match event {
        Event::Propose(Proposal { request, .. })
        | Event::Read(Read { request, .. })
        | Event::Reconfigure(Reconfigure { request, .. })
        | Event::Transfer(Transfer { request, .. }) => Some(*request),
        _ => None,
    }
}

fn request(first: u64, number: u8) -> RequestId {
    RequestId(first + u64::from(number))
}

pub(super) fn request_of_read(number: u8) -> RequestId {
    request(MAX_PROPOSALS, number)
}

impl Step {
    fn violating(violation: Violation) -> Self {
        let (change, received, sent, answers) = Default::default();
        Self { host: Err(violation), change, received, sent, answers, is_judged: false }
    }
}

/// A step of a kernel, as it is taken.
pub(super) struct Taken<'a> {
    pub(super) event: &'a Event,
    pub(super) actions: &'a [Action],
    /// The member after the step; before it, where its kernel panicked.
    pub(super) after: &'a Status,
}

/// Is shown each step.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Taken<'_>);

/// What a member does in a step, and what it is then.
pub(super) struct Did {
    host: Host,
    sent: Vec<Message>,
    answers: Vec<(RequestId, Outcome)>,
    is_judged: bool,
}

impl Did {
    /// What the judge makes of it, which names no member.
    fn judged(&self) -> (bool, Vec<(RequestId, Option<Outcome>)>) {
        let judged = |outcome: Outcome| match outcome {
            Outcome::Committed(_) | Outcome::Ready { .. } => Some(outcome),
            _ => None,
        };
        (self.is_judged, self.answers.iter().map(|(request, outcome)| (*request, judged(*outcome))).collect())
    }

    /// Steps a member, and carries out what follows.
    fn carry_out(
        &mut self,
        event: Event,
        now: Instant,
        bounds: &Bounds,
        watch: Watch<'_>,
    ) -> Result<(), Violation> {
        if matches!(event, Event::Persisted(_)) {
            self.host.disk_writes();
        }
        if matches!(event, Event::Applied(_)) {
            self.host.applying.pop_front();
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let host = &mut self.host;
            if let Event::Applied(through) = event {
                host.applied = through;
            }
            let before = Before::of(&host.raft);
            let stepped = stepped(&mut host.raft, now, event.clone());
            let (actions, after) = match &stepped {
                Ok(actions) => (&actions[..], &host.raft.status()),
                Err(_) => (&[][..], before.status()),
            };
            watch(&Taken { event: &event, actions, after });
            let actions = stepped?;
            before.judge(&host.raft, &event, &actions)?;
            for action in actions {
                events.extend(self.does(action, bounds)?);
            }
            if bounds.synchronous {
                self.host.has_written_all()?;
            }
        }
        Ok(())
    }

    /// Carries out an action. Returns what the kernel is told of it at once.
    fn does(&mut self, action: Action, bounds: &Bounds) -> Result<Option<Event>, Violation> {
        let host = &mut self.host;
        Ok(match action {
            Action::Send(message) => {
                if bounds.synchronous {
                    ghost::is_promised_in_order(host, &message)?;
                }
                self.sent.push(message);
                None
            }
            Action::Persist(write) => host.persists(write, bounds),
            Action::Apply { through } => {
                host.may_apply(through)?;
                host.applies(through, bounds)
            }
            Action::Restore(snapshot) => host.restores(&snapshot, bounds),
            Action::FetchSnapshot { snapshot, .. } => Some(Event::SnapshotFetched(snapshot)),
            Action::Respond { request, outcome } => {
                is_applied(host.raft.status().id, host.applied, outcome)?;
                host.open.retain(|open| *open != request);
                self.answers.push((request, outcome));
                None
            }
            // It stays down.
            Action::Halt(halt) => may_halt(host.member(), halt).map(|()| None)?,
            Action::LoadEntries { .. } | Action::TakeSnapshot => {
                return Err(Violation::new("Contract", format!("{action:?} for no reason")));
            }
        })
    }
}

/// What follows from an event; a kernel that panics violates its own invariants.
pub(super) fn stepped(raft: &mut Raft, now: Instant, event: Event) -> Result<Vec<Action>, Violation> {
    let mut actions = Vec::new();
    let stepped = quietly(AssertUnwindSafe(|| raft.step_into(now, event, &mut actions)));
    match stepped {
        Ok(()) => Ok(actions),
        Err(panic) => Err(Violation::new("Kernel Invariants", text_of(&*panic))),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::clocks::NOW;
    use kontiki_core::message::Body;
    use kontiki_core::types::{ClusterId, Identity, Index, NodeId, Term};

    /// Where a host waits for its disk, what leaves comes after the write that it rests on, and no write is
    /// left for later.
    #[test]
    fn a_host_that_waits_writes_first_and_writes_all() {
        let bounds = Bounds { synchronous: true, ..Bounds::default() };
        let start = || Did { host: Host::of(&bounds, 1), sent: vec![], answers: vec![], is_judged: false };
        let mut raft = start().host.raft;
        let [candidate, voter] = [1, 2].map(|number| NodeId::new(number).expect("not zero"));
        let asks = Body::RequestVote { last: start().host.disk.last(), transfer: false };
        let asks =
            Message::new(Identity::new(ClusterId(1), candidate), voter.into(), Term::ZERO.next(), asks);
        let mut actions = stepped(&mut raft, NOW, Event::Receive(asks)).unwrap();
        assert!(matches!(&actions[..], [Action::Persist(_), Action::Send(_)]), "{actions:?}");
        let done = |actions: &[Action]| {
            let mut did = start();
            did.host.raft = raft.clone();
            let told = actions.iter().try_for_each(|action| did.does(action.clone(), &bounds).map(drop));
            told.and_then(|()| did.host.has_written_all()).map_err(|violation| violation.property)
        };
        assert_eq!(done(&actions), Ok(()));
        let reported = |action: Action| start().does(action, &bounds).expect("it may");
        assert_eq!(reported(actions[0].clone()), None, "its kernel goes on without");
        assert_eq!(reported(Action::Apply { through: Index::ZERO }), None);
        assert_eq!(done(&[]), Err("Contract"), "a write is left for later");
        actions.reverse();
        assert_eq!(done(&actions), Err("Contract"), "the vote leaves first");
    }

    /// What a client was promised an answer to is open until it is answered, or its member crashes.
    #[test]
    fn requests_are_open_until_they_are_answered() {
        let bounds = Bounds::default();
        let steps = Steps::new(bounds, Symmetry::within(&bounds));
        let first = &steps.first()[0];
        let after = |host: &Host, cause| steps.did(host, (Clock::default(), cause)).unwrap().host;
        assert_eq!(after(first, Cause::Propose(1)).open, [], "it does not lead, and refuses");
        let led = Bounds { members: 1, voters: 1, ..bounds };
        let steps = Steps::new(led, Symmetry::none());
        let at = |host: &Host, cause| steps.did(host, (Clock::default(), cause)).unwrap().host;
        let mut leader = at(&steps.first()[0], Cause::Timeout);
        while !leader.writes.is_empty() {
            leader = at(&leader, Cause::Persisted);
        }
        let asked = at(&leader, Cause::Propose(1));
        assert_eq!(asked.open, [RequestId(1)]);
        let mut answered = Host { open: vec![], ..asked.clone() };
        answered.seal(&led);
        assert!(answered.hash != asked.hash && !answered.equals(&asked));
        assert_eq!(at(&asked, Cause::Persisted).open, []);
        assert_eq!(at(&asked, Cause::Crash(0)).open, []);
    }

    /// A member that answers a client, or sends a message, where its twin does not is not its like.
    #[test]
    fn twins_that_differ_in_an_answer_or_a_message_are_noticed() {
        let bounds = Bounds::default();
        let steps = Steps::new(bounds, Symmetry::within(&bounds));
        let first = steps.first();
        let twin = |renaming: &Renaming| Arc::clone(&first[renaming.place(0)]);
        let twins: Vec<_> = steps.symmetry.renamings().iter().map(twin).collect();
        let stays = || {
            let did = |it: &Arc<Host>| Did {
                host: (**it).clone(),
                sent: vec![],
                answers: vec![],
                is_judged: false,
            };
            twins.iter().map(did).collect::<Vec<_>>()
        };
        let causes = vec![Cause::Timeout; twins.len()];
        let agree =
            |did: Vec<Did>| steps.compared(&twins, &causes, did.into_iter().map(Ok).collect()).is_some();
        assert!(twins.len() > 1 && agree(stays()));
        let mut answers = stays();
        answers[1].answers.push((RequestId(1), Outcome::Unknown));
        assert!(!agree(answers));
        let mut sends = stays();
        let [one, other] = [1, 2].map(|number| NodeId::new(number).expect("not zero"));
        let from = Identity::new(ClusterId(1), one);
        let body = Body::Commit { commit: Index::ZERO };
        sends[1].sent.push(Message::new(from, other.into(), Term::ZERO, body));
        assert!(!agree(sends));
    }
}
