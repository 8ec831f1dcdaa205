//! Kontiki's kernel, with the default options: pre-vote and check-quorum are on. Its host, like those of the
//! others, waits for disk and state machine, which are instant.

use crate::{Applied, Group};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{Event, Proposal};
use kontiki_core::log::EntryBody;
use kontiki_core::membership::Membership;
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{ClusterId, Identity, Index, NodeId, Payload, RequestId};
use std::collections::VecDeque;

pub(crate) struct Kontiki {
    members: Vec<Member>,
    queue: VecDeque<Message>,
    actions: Vec<Action>,
    now: Instant,
    leader: usize,
    sent: u64,
}

struct Member {
    raft: Raft,
    read: Index,
    applied: Applied,
}

impl Member {
    fn apply(&mut self, through: Index) {
        for entry in self.raft.log().entries(self.read, through) {
            if let EntryBody::Data(payload) = &entry.body {
                self.applied.apply(payload);
            }
        }
        self.read = through;
    }
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("members are numbered from 1")
}

impl Kontiki {
    /// Hands an event to a member, and carries out all that follows from it there.
    fn step(&mut self, member: usize, event: Event) {
        let member = &mut self.members[member];
        member.raft.step_into(self.now, event, &mut self.actions);
        for action in self.actions.drain(..) {
            match action {
                Action::Send(message) => {
                    self.sent += 1;
                    self.queue.push_back(message);
                }
                Action::Persist(_) => {}
                Action::Apply { through } => member.apply(through),
                Action::Respond { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome}");
                }
                other => panic!("{other:?}: nothing leaves these logs"),
            }
        }
    }

    fn leads(&self, member: usize) -> bool {
        self.members[member].raft.status().role == RoleKind::Leader
    }
}

impl Group for Kontiki {
    type Payload = Payload;

    fn cold(members: usize, _: usize) -> Self {
        let ids = 1..=members as u64;
        let membership = Membership::of(ids.clone().map(id)).expect("valid");
        let durable = Durable::bootstrap(membership);
        let member = |number: u64| {
            let options = Options {
                synchronous_writes: true,
                synchronous_apply: true,
                max_cached_bytes: u64::MAX,
                ..Options::default()
            };
            let identity = Identity::new(ClusterId(1), id(number));
            let config = Config::new(identity, options).expect("valid");
            let raft = Raft::restore(config, durable.clone(), Instant::ZERO).expect("what a disk may hold");
            Member { raft, read: Index::ZERO, applied: Applied::default() }
        };
        let members = ids.map(member).collect();
        let (queue, actions) = (VecDeque::new(), Vec::new());
        Self { members, queue, actions, now: Instant::ZERO, leader: 0, sent: 0 }
    }

    fn payload(bytes: &[u8]) -> Payload {
        Payload::from(bytes)
    }

    fn elect(&mut self) {
        let deadline = |member: &Member| member.raft.deadline();
        while !self.leads(self.leader) {
            let next = self.members.iter().map(deadline).min().expect("there are members");
            self.now = self.now.max(next);
            self.leader = self.members.iter().position(|member| deadline(member) == next).expect("the next");
            self.step(self.leader, Event::Wake);
            self.deliver(None);
        }
    }

    fn propose(&mut self, payload: Payload) {
        self.step(self.leader, Event::Propose(Proposal { request: RequestId(0), payload }));
    }

    fn propose_batch(&mut self, batch: Vec<Payload>) {
        let proposal = |payload| Proposal { request: RequestId(0), payload };
        self.step(self.leader, Event::ProposeBatch(batch.into_iter().map(proposal).collect()));
    }

    fn deliver(&mut self, lost: Option<usize>) {
        while let Some(message) = self.queue.pop_front() {
            let to = message.to.id.get() as usize - 1;
            if Some(to) != lost {
                self.step(to, Event::Receive(message));
            }
        }
    }

    fn heartbeat(&mut self) {
        self.now = self.now + Nanos::new(50_000_000);
        self.step(self.leader, Event::Wake);
        self.deliver(None);
    }

    fn applied(&self) -> Vec<Applied> {
        self.members.iter().map(|member| member.applied).collect()
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}
