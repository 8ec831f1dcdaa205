//! What happens to single members, worked out once.
//!
//! What an event does to a member depends on that member alone. Members have few states compared with the
//! group, so nearly every transition of the group is one that is known for its member: the kernel is not
//! stepped again, nothing is cloned, and what did not change is shared.

use super::bounds::{Bounds, id};
use super::ghost;
use super::host::{Cause, Host, NOW, Step};
use super::network::{Key, Post};
use super::violation::Violation;
use crate::quiet::{quietly, text_of};
use kontiki_core::action::{Action, Outcome, Write};
use kontiki_core::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::membership::Change;
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::time::Instant;
use kontiki_core::types::{Payload, RequestId, WriteSeq};
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All states of members and all messages that were met, each once.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) bounds: Bounds,
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
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, hosts: Mutex::default(), posts: Mutex::default() }
    }

    /// The one host that is equal to this one.
    ///
    /// # Panics
    ///
    /// If two states of members that differ have the same hash, or two messages the same key: what was explored
    /// then would not be what it seems.
    pub(super) fn host(&self, host: Host) -> Arc<Host> {
        let mut hosts = locked(&self.hosts);
        let known = hosts.entry(host.hash).or_insert_with(|| Arc::new(host.clone()));
        assert!(known.equals(&host), "two states of members have the same hash");
        Arc::clone(known)
    }

    pub(super) fn post(&self, key: Key) -> Arc<Post> {
        Arc::clone(&locked(&self.posts)[&key])
    }

    fn sent(&self, message: Message) -> Arc<Post> {
        let post = Post::new(message);
        let mut posts = locked(&self.posts);
        let known = posts.entry(post.key).or_insert_with(|| Arc::new(Post::new(post.message.clone())));
        assert_eq!(known.message, post.message, "two messages have the same key");
        Arc::clone(known)
    }

    /// Works out what follows for a member from each of these causes, which are in order: its
    /// [`Done`](super::host::Done) knows them all then.
    pub(super) fn prepare(&self, host: &Host, member: usize, causes: impl Iterator<Item = Cause>) {
        let unknown = host.done.unknown(causes);
        if !unknown.is_empty() {
            host.done
                .learn(unknown.into_iter().map(|cause| (cause, self.step(host, member, cause))).collect());
        }
    }

    fn step(&self, before: &Host, member: usize, cause: Cause) -> Option<Arc<Step>> {
        let mut did = Did::default();
        let mut host = before.clone();
        let violation = match cause {
            Cause::Crash(written) => {
                (0..written).for_each(|_| host.disk_writes());
                host.restart(&self.bounds, member).err()
            }
            _ => did.carry_out(&mut host, self.event(cause), &self.bounds).err(),
        };
        let Did { sent, answers } = did;
        if let Some(violation) = violation {
            let (sent, answers) = Default::default();
            return Some(Arc::new(Step { host: Err(violation), sent, answers, is_judged: false }));
        }
        host.seal();
        let host = self.host(host);
        if sent.is_empty() && answers.is_empty() && host.hash == before.hash {
            return None;
        }
        let is_judged = match cause {
            Cause::Crash(_) => false,
            Cause::Read(_) => true,
            _ => ghost::concerns(before, &host, &sent, &answers),
        };
        let mut sent: Vec<_> = sent.into_iter().map(|message| self.sent(message)).collect();
        sent.sort_unstable_by_key(|post| post.key);
        sent.dedup_by_key(|post| post.key);
        Some(Arc::new(Step { host: Ok(host), sent: sent.into(), answers: answers.into(), is_judged }))
    }

    fn event(&self, cause: Cause) -> Event {
        match cause {
            Cause::Receive(key) => Event::Receive(self.post(key).message.clone()),
            Cause::Persisted => Event::Persisted(WriteSeq::new(1)),
            Cause::Propose(number) => {
                let payload = Payload::from(&[number][..]);
                Event::Propose(Proposal { request: request(0, number), payload })
            }
            Cause::Read(number) => {
                Event::Read(Read { request: request_of_read(number), via: ReadVia::Quorum })
            }
            Cause::Change(number) => self.change(request(200, number), number),
            Cause::Transfer(number) => Event::Transfer(Transfer { request: request(300, number), to: None }),
            Cause::Timeout | Cause::Crash(_) => Event::Wake,
        }
    }

    /// A change of the membership: the last member is added as a voter, then removed, and so on.
    fn change(&self, request: RequestId, number: u8) -> Event {
        let last = id(usize::from(self.bounds.members) - 1);
        let change = if number % 2 == 1 { Change::AddVoter(last.into()) } else { Change::Remove(last) };
        Event::Reconfigure(Reconfigure { request, expected: None, changes: vec![change], force: true })
    }
}

fn request(first: u64, number: u8) -> RequestId {
    RequestId(first + u64::from(number))
}

pub(super) fn request_of_read(number: u8) -> RequestId {
    request(100, number)
}

/// What a member does in a step.
#[derive(Default)]
struct Did {
    sent: Vec<Message>,
    answers: Vec<(RequestId, Outcome)>,
}

impl Did {
    /// Steps a member, and carries out what follows.
    fn carry_out(&mut self, host: &mut Host, event: Event, bounds: &Bounds) -> Result<(), Violation> {
        if matches!(event, Event::Persisted(_)) {
            host.disk_writes();
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = if event == Event::Wake { host.raft.deadline() } else { NOW };
            for action in stepped(&mut host.raft, now, event)? {
                match action {
                    Action::Send(message) => self.sent.push(message),
                    Action::Persist(write) if bounds.instant_disks => {
                        host.disk.write(&write);
                        events.push_back(Event::Persisted(write.seq));
                    }
                    Action::Persist(write) => {
                        host.writes.push_back(Arc::new(Write { seq: WriteSeq::ZERO, ..write }));
                    }
                    Action::Apply { through } => events.push_back(Event::Applied(through)),
                    Action::Restore(snapshot) => events.push_back(Event::Applied(snapshot.last.index)),
                    Action::FetchSnapshot { snapshot, .. } => {
                        events.push_back(Event::SnapshotFetched(snapshot));
                    }
                    Action::Respond { request, outcome } => self.answers.push((request, outcome)),
                    Action::Halt(violation) => return Err(Violation::new("Halt", violation.to_string())),
                    Action::LoadEntries { .. } | Action::TakeSnapshot => {
                        return Err(Violation::new("Contract", format!("{action:?} for no reason")));
                    }
                }
            }
        }
        host.raft.forget_time(NOW);
        Ok(())
    }
}

/// What follows from an event; a kernel that panics violates its own invariants.
fn stepped(raft: &mut Raft, now: Instant, event: Event) -> Result<Vec<Action>, Violation> {
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
