//! The clients: each has one request at a time, and asks elsewhere when it is refused or left without an answer.

use crate::hash::StableHasher;
use crate::scenario::WorkloadSpec;
use crate::stream::Stream;
use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::event::Proposal;
use kontiki_core::log::EntryBody;
use kontiki_core::types::{Payload, RequestId};
use std::collections::BTreeMap;

/// All clients of a cluster.
#[derive(Debug)]
pub(crate) struct Clients {
    spec: WorkloadSpec,
    stream: Stream,
    clients: Vec<Client>,
    /// Requests that were made and not yet answered: whose, and the hash of the payload.
    open: BTreeMap<RequestId, (usize, u64)>,
    requests: u64,
    members: usize,
    /// Set once no new operation may begin.
    still: bool,
}

#[derive(Clone, Debug)]
struct Client {
    /// The member that it believes to lead.
    target: usize,
    operation: u64,
    /// How many requests of the current attempt are open.
    waiting: u32,
    /// Told of something by a timer; older timers are void.
    attempt: u64,
    /// Whether the current operation was begun after the world healed.
    after_healing: bool,
    /// Whether such an operation has been committed.
    served: bool,
}

/// What a client does next.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Which member it asks.
    pub(crate) member: usize,
    /// What it proposes.
    pub(crate) proposals: Vec<Proposal>,
    /// When it gives up waiting, and the number to give it then.
    pub(crate) timeout: (u64, u64),
}

impl Clients {
    pub(crate) fn new(seed: u64, members: usize, spec: WorkloadSpec) -> Self {
        let mut stream = Stream::named(seed, "workload", 0);
        let mut client = || Client {
            target: stream.below(members as u64) as usize,
            operation: 0,
            waiting: 0,
            attempt: 0,
            after_healing: false,
            served: false,
        };
        let clients = (0..spec.clients).map(|_| client()).collect();
        Self { spec, stream, clients, open: BTreeMap::new(), requests: 0, members, still: false }
    }

    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }

    /// How long a client pauses before its next operation, in nanoseconds.
    pub(crate) fn pause(&mut self) -> u64 {
        self.stream.between(0, self.spec.think_us) * 1_000 + 1
    }

    /// The world has healed: from now on every client must be served.
    pub(crate) fn healed(&mut self) {
        for client in &mut self.clients {
            client.after_healing = false;
            client.served = false;
        }
    }

    /// How many clients have not been served since the world healed.
    pub(crate) fn unserved(&self) -> usize {
        self.clients.iter().filter(|client| !client.served).count()
    }

    /// No new operations.
    pub(crate) fn be_still(&mut self) {
        self.still = true;
    }

    /// A client's timer has gone off: the pause is over, or the answer is overdue. `number` tells which attempt the timer
    /// belongs to.
    pub(crate) fn on_timer(&mut self, now: u64, client: usize, number: u64, healed: bool) -> Option<Attempt> {
        if self.still || self.clients[client].attempt != number {
            return None;
        }
        let overdue = self.clients[client].waiting > 0;
        if overdue {
            self.clients[client].target = self.stream.below(self.members as u64) as usize;
        }
        let size = self.stream.between(1, u64::from(self.spec.batch));
        let state = &mut self.clients[client];
        state.operation += 1;
        state.attempt += 1;
        state.after_healing = healed;
        state.waiting = size as u32;
        let (member, attempt) = (state.target, state.attempt);
        let proposals = (0..size).map(|part| self.proposal(client, part)).collect();
        Some(Attempt { member, proposals, timeout: (now + self.spec.timeout_us * 1_000, attempt) })
    }

    fn proposal(&mut self, client: usize, part: u64) -> Proposal {
        self.requests += 1;
        let request = RequestId(self.requests);
        let mut bytes = [client as u64, self.clients[client].operation, part].map(u64::to_le_bytes).concat();
        bytes.resize(bytes.len().max(self.spec.payload_bytes as usize), 0x2e);
        let payload = Payload::from(&bytes[..]);
        let content = StableHasher::of(&EntryBody::Data(payload.clone()));
        self.open.insert(request, (client, content));
        Proposal { request, payload }
    }

    /// The hash of what a request proposed, where it is still open.
    pub(crate) fn content(&self, request: RequestId) -> Option<u64> {
        self.open.get(&request).map(|&(_, content)| content)
    }

    /// A member has answered. Returns when the client acts next, and the number of its timer, where the answer ends its
    /// attempt.
    pub(crate) fn on_outcome(
        &mut self,
        now: u64,
        request: RequestId,
        outcome: Outcome,
    ) -> Option<(usize, u64, u64)> {
        let (client, _) = self.open.remove(&request)?;
        let state = &mut self.clients[client];
        let mut patience = self.spec.think_us;
        match outcome {
            Outcome::Committed(_) => state.served |= state.after_healing,
            Outcome::Refused(Refusal::NotLeader { leader: Some(leader) }) => {
                state.target = leader.get() as usize - 1;
            }
            _ => {
                state.target = self.stream.below(self.members as u64) as usize;
                patience = patience.max(self.spec.timeout_us / 4);
            }
        }
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return None;
        }
        state.attempt += 1;
        let number = state.attempt;
        Some((client, now + self.stream.between(0, patience) * 1_000 + 1, number))
    }
}
