//! The clients: each has one attempt at a time, and asks elsewhere when it is refused or left without an
//! answer. What they asked and were told is recorded.

use crate::hash::StableHasher;
use crate::history::witness::Committed;
use crate::history::{Call, History, OperationId, Value};
use crate::host::full_replica::{command, put_command};
use crate::ledger::Link;
use crate::scenario::{ReplicaSpec, WorkloadSpec};
use crate::store::Put;
use crate::stream::Stream;
use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::event::{Event, Proposal, Read, ReadVia};
use kontiki_core::kv::Kv;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{Command, Machine, SessionId, fingerprint};
use kontiki_core::types::{Index, LogId, Payload, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// All clients of a cluster.
#[derive(Debug)]
pub(crate) struct Clients {
    spec: WorkloadSpec,
    /// Set where the members are whole.
    replica: Option<ReplicaSpec>,
    stream: Stream,
    clients: Vec<Client>,
    /// Requests that were made and not yet answered.
    open: BTreeMap<RequestId, Open>,
    /// What every payload that was ever proposed writes, by its hash.
    puts: BTreeMap<u64, Put>,
    /// Every payload that was ever proposed to full replicas, by its hash; and which operation it was of,
    /// where it was sent in a session.
    payloads: BTreeMap<u64, Payload>,
    in_sessions: BTreeMap<u64, OperationId>,
    /// Where each command of a session took effect, by its fingerprint.
    once: BTreeMap<u64, Option<Index>>,
    requests: u64,
    members: usize,
    /// Set once no new operation may begin.
    still: bool,
    /// Set once a client that has been served since the world healed begins nothing more.
    yielding: bool,
    pub(crate) history: History,
    /// The clock of the history: it tells what came before what, and nothing else.
    moment: u64,
    /// How many names clients have gone by.
    names: u64,
}

#[derive(Clone, Debug)]
struct Client {
    /// What it calls itself: another name after each answer that did not come.
    name: u64,
    /// The member that it believes to lead.
    target: usize,
    /// How many requests of the current attempt are open.
    waiting: u32,
    /// Told of something by a timer; older timers are void.
    attempt: u64,
    /// The first attempt that was begun after the world healed.
    first_healed: Option<u64>,
    /// Whether such a write has been committed, and such a read answered.
    written: bool,
    read: bool,
    /// Set where it works in a session, and sends again what was not answered.
    session: Option<Session>,
}

/// A client's session, open or about to be opened.
#[derive(Clone, Default, Debug)]
struct Session {
    id: Option<SessionId>,
    /// The number of its last command.
    sequence: u64,
    /// The command that waits for its answer.
    pending: Option<Pending>,
}

/// A command that is sent again until it is answered.
#[derive(Clone, Debug)]
struct Pending {
    payload: Payload,
    content: u64,
    operation: OperationId,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    client: usize,
    attempt: u64,
    /// What of it is recorded; nothing of a session's opening.
    operation: Option<OperationId>,
    asked: Asked,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// To write what has this hash.
    Write { content: u64 },
    /// The same in a session: perhaps not for the first time.
    InSession { content: u64 },
    /// To open a session.
    Register,
    /// To read, when the group had committed so much.
    Read { key: u64, via: ReadVia, committed: Index },
}

/// What a client does next.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Which member it asks.
    pub(crate) member: usize,
    /// What it asks.
    pub(crate) event: Event,
    /// When it gives up waiting, and the number to give it then.
    pub(crate) timeout: (u64, u64),
}

/// When a client acts next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) client: usize,
    pub(crate) at: u64,
    pub(crate) number: u64,
}

impl Client {
    /// Whether it has been served since the world healed.
    fn is_served(&self) -> bool {
        self.written && self.read
    }
}

impl Clients {
    pub(crate) fn new(seed: u64, members: usize, spec: WorkloadSpec, replica: Option<ReplicaSpec>) -> Self {
        let mut stream = Stream::named(seed, "workload", 0);
        let mut sessions = Stream::named(seed, "sessions", 0);
        let mut client = |name| Client {
            session: replica
                .as_ref()
                .is_some_and(|spec| sessions.chance(spec.sessions))
                .then(Session::default),
            name,
            target: stream.below(members as u64) as usize,
            waiting: 0,
            attempt: 0,
            first_healed: None,
            written: false,
            read: spec.read == 0,
        };
        let clients: Vec<_> = (0..u64::from(spec.clients)).map(&mut client).collect();
        Self {
            names: clients.len() as u64,
            spec,
            replica,
            stream,
            clients,
            open: BTreeMap::new(),
            puts: BTreeMap::new(),
            payloads: BTreeMap::new(),
            in_sessions: BTreeMap::new(),
            once: BTreeMap::new(),
            requests: 0,
            members,
            still: false,
            yielding: false,
            history: History::default(),
            moment: 0,
        }
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
        for client in self.clients.iter_mut().take(self.spec.clients as usize) {
            client.first_healed = None;
            client.written = false;
            client.read = self.spec.read == 0;
        }
    }

    /// How many clients have not been served since the world healed.
    pub(crate) fn unserved(&self) -> usize {
        self.clients.iter().filter(|client| !client.is_served()).count()
    }

    /// Clients that have been served leave the room that there is to the others, and an answer counts that
    /// comes after its client has given it up.
    pub(crate) fn yield_to_unserved(&mut self) {
        self.yielding = true;
    }

    /// No new operations.
    pub(crate) fn be_still(&mut self) {
        self.still = true;
    }

    /// A client's timer has gone off: the pause is over, or the answer is overdue. `number` tells which
    /// attempt the timer belongs to; `committed` is what the group has committed.
    pub(crate) fn on_timer(
        &mut self,
        now: u64,
        Turn { client, number, .. }: Turn,
        healed: bool,
        committed: Index,
    ) -> Option<Attempt> {
        let is_done = self.still || self.yielding && self.clients[client].is_served();
        if is_done || self.clients[client].attempt != number {
            return None;
        }
        let pending = self.clients[client].session.as_ref().and_then(|session| session.pending.clone());
        if self.clients[client].waiting > 0 && pending.is_some() {
            // It will be told once more; nothing else is asked meanwhile.
            self.clients[client].target = self.stream.below(self.members as u64) as usize;
        } else if self.clients[client].waiting > 0 {
            // Its answer is overdue. A client with a pending operation cannot begin another, so this one goes
            // on under a new name.
            self.clients[client].name = self.names;
            self.names += 1;
            self.clients[client].target = self.stream.below(self.members as u64) as usize;
        }
        let reads = self.stream.chance(self.spec.read);
        let state = &mut self.clients[client];
        state.attempt += 1;
        let attempt = state.attempt;
        if healed {
            state.first_healed.get_or_insert(attempt);
        }
        let mut member = state.target;
        let event = if let Some(Pending { payload, content, operation }) = pending {
            self.clients[client].waiting = 1;
            let request = self.open(client, Some(operation), Asked::InSession { content });
            Event::Propose(Proposal { request, payload })
        } else if reads {
            if self.stream.chance(self.spec.anywhere) {
                member = self.stream.below(self.members as u64) as usize;
            }
            self.clients[client].waiting = 1;
            Event::Read(self.read(client, committed))
        } else if self.clients[client].session.is_some() {
            self.clients[client].waiting = 1;
            Event::Propose(self.command(client))
        } else {
            let size = self.stream.between(1, u64::from(self.spec.batch));
            self.clients[client].waiting = size as u32;
            let mut proposals: Vec<_> = (0..size).map(|_| self.proposal(client)).collect();
            if size == 1 { Event::Propose(proposals.remove(0)) } else { Event::ProposeBatch(proposals) }
        };
        Some(Attempt { member, event, timeout: (now + self.spec.timeout_us * 1_000, attempt) })
    }

    /// A write by a client that asks this once.
    pub(crate) fn probe_write(&mut self) -> Event {
        self.probe(|clients, client| Event::Propose(clients.proposal(client)))
    }

    /// A read of `key` under a lease, by a client that asks this once.
    pub(crate) fn probe_read(&mut self, key: u64, committed: Index) -> Event {
        self.probe(|clients, client| {
            let via = ReadVia::Lease;
            let request = clients.request(client, key, Call::Read, Asked::Read { key, via, committed });
            Event::Read(Read { request, via })
        })
    }

    /// Adds a client beside those of the workload. Its timer never runs, and no answer begins another
    /// attempt.
    fn probe(&mut self, ask: impl FnOnce(&mut Self, usize) -> Event) -> Event {
        let (client, name) = (self.clients.len(), self.names);
        self.names += 1;
        self.clients.push(Client {
            name,
            target: 0,
            waiting: 0,
            attempt: 0,
            first_healed: None,
            written: true,
            read: true,
            session: None,
        });
        let event = ask(self, client);
        self.clients[client].attempt += 1;
        event
    }

    /// The register that a proposal writes.
    pub(crate) fn key_of(&self, content: u64) -> Option<u64> {
        self.puts.get(&content).map(|put| put.key)
    }

    fn request(&mut self, client: usize, key: u64, call: Call, asked: Asked) -> RequestId {
        let moment = self.next_moment();
        let operation = self.history.invoke(self.clients[client].name, key, call, moment);
        self.open(client, Some(operation), asked)
    }

    fn open(&mut self, client: usize, operation: Option<OperationId>, asked: Asked) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let attempt = self.clients[client].attempt;
        self.open.insert(request, Open { client, attempt, operation, asked });
        request
    }

    /// The next command of a session, or the request for one.
    fn command(&mut self, client: usize) -> Proposal {
        let Some(session) = self.clients[client].session.clone() else {
            return self.proposal(client);
        };
        let Some(id) = session.id else {
            let payload = Command::Register.encode();
            self.payloads.insert(content_of(&payload), payload.clone());
            let request = self.open(client, None, Asked::Register);
            return Proposal { request, payload };
        };
        let (key, value) = (self.stream.below(self.spec.keys), self.requests + 1);
        let put = Put { key, value };
        let (sequence, acknowledged) = (session.sequence + 1, session.sequence + 1);
        let command = put_command(put, self.size());
        self.once.insert(fingerprint(&[&command]), None);
        let command = Command::InSession { session: id, sequence, acknowledged, command: &command };
        let payload = command.encode();
        let content = content_of(&payload);
        let moment = self.next_moment();
        let operation =
            self.history.invoke(self.clients[client].name, key, Call::Write(Value(value)), moment);
        self.puts.insert(content, put);
        self.payloads.insert(content, payload.clone());
        self.in_sessions.insert(content, operation);
        let pending = Pending { payload: payload.clone(), content, operation };
        self.clients[client].session = Some(Session { id: Some(id), sequence, pending: Some(pending) });
        let request = self.open(client, Some(operation), Asked::InSession { content });
        Proposal { request, payload }
    }

    /// A session was opened for a client that had asked for one.
    pub(crate) fn opened(&mut self, now: u64, request: RequestId, id: SessionId) -> Option<Turn> {
        let Open { client, attempt, .. } = self.open.remove(&request)?;
        let state = &mut self.clients[client];
        if state.attempt != attempt {
            return None;
        }
        state.session = Some(Session { id: Some(id), sequence: 0, pending: None });
        self.next_turn(client, now, 0)
    }

    /// A session has expired: the operation that was pending in it may or may not have taken effect. The
    /// client goes on under a new name.
    pub(crate) fn expired(&mut self, now: u64, request: RequestId) -> Option<Turn> {
        let Open { client, asked, .. } = self.open.remove(&request)?;
        let state = &mut self.clients[client];
        let waits = |pending: &Pending| asked == Asked::InSession { content: pending.content };
        if !state.session.as_ref().is_some_and(|session| session.pending.as_ref().is_some_and(waits)) {
            return None;
        }
        state.session = Some(Session::default());
        state.name = self.names;
        self.names += 1;
        self.next_turn(client, now, 0)
    }

    /// A member has carried out a command. One that was given in a session must not be carried out twice.
    pub(crate) fn carried_out(&mut self, index: Index, command: u64) -> Result<(), String> {
        match self.once.get_mut(&command) {
            Some(Some(first)) if *first != index => Err(format!(
                "the command of a session that entry {first} holds is carried out again at {index}"
            )),
            Some(at) => {
                *at = Some(index);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How large the next payload is.
    fn size(&mut self) -> usize {
        let large = self.stream.chance(self.spec.large);
        (if large { self.spec.large_bytes } else { self.spec.payload_bytes }) as usize
    }

    fn next_turn(&mut self, client: usize, now: u64, patience: u64) -> Option<Turn> {
        let state = &mut self.clients[client];
        state.attempt += 1;
        state.waiting = 0;
        let number = state.attempt;
        Some(Turn { client, at: now + self.stream.between(0, patience) * 1_000 + 1, number })
    }

    /// What the commands in this log did, in their order: copies of a session's command that came later, or
    /// too late, did nothing. Tells the history where commands of sessions took effect.
    pub(crate) fn effects(&mut self, log: &[Link]) -> Vec<Committed> {
        let limits = self.replica.as_ref().map(ReplicaSpec::limits);
        let mut machine = limits.map(|limits| Machine::with_limits(Kv::default(), limits).expect("limits"));
        let mut done = BTreeSet::new();
        let mut effects = Vec::new();
        for (link, index) in log.iter().zip(1..) {
            let id = LogId { term: link.term, index: Index::new(index) };
            let payload = self.payloads.get(&link.content).cloned();
            let applied = machine.as_mut().is_none_or(|machine| {
                let body = payload.map_or(EntryBody::Blank, EntryBody::Data);
                let answers = machine.apply(&[Entry { id, body }]).expect("a log is without gaps");
                answers.iter().any(|(_, answer)| answer.is_applied())
            });
            if let Some(put) = self.puts.get(&link.content).filter(|_| applied)
                && done.insert(link.content)
            {
                effects.push(Committed { index, key: put.key, value: Value(put.value) });
                if let Some(operation) = self.in_sessions.get(&link.content) {
                    self.history.took_effect(*operation, index);
                }
            }
        }
        effects
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn proposal(&mut self, client: usize) -> Proposal {
        let key = self.stream.below(self.spec.keys);
        let value = self.requests + 1;
        let put = Put { key, value };
        let size = self.size();
        let payload = if self.replica.is_some() { command(put, size) } else { put.encode(size) };
        let content = content_of(&payload);
        self.puts.insert(content, put);
        if self.replica.is_some() {
            self.payloads.insert(content, payload.clone());
        }
        let request = self.request(client, key, Call::Write(Value(value)), Asked::Write { content });
        Proposal { request, payload }
    }

    fn read(&mut self, client: usize, committed: Index) -> Read {
        let key = self.stream.below(self.spec.keys);
        let via = if self.stream.chance(self.spec.lease) { ReadVia::Lease } else { ReadVia::Quorum };
        let request = self.request(client, key, Call::Read, Asked::Read { key, via, committed });
        Read { request, via }
    }

    /// What a request asks for, where it is still open.
    pub(crate) fn asked(&self, request: RequestId) -> Option<Asked> {
        self.open.get(&request).map(|open| open.asked)
    }

    /// A member has answered; `found` is what its state machine holds of what was to be read, and as of which
    /// entry. Returns when the client acts next, where the answer ends its attempt.
    pub(crate) fn on_outcome(
        &mut self,
        now: u64,
        request: RequestId,
        outcome: Outcome,
        found: Option<(Option<u64>, Index)>,
    ) -> Option<Turn> {
        let Open { client, attempt, operation, asked } = self.open.remove(&request)?;
        let Some(operation) = operation else {
            return if self.clients[client].attempt == attempt {
                let patience = self.spec.timeout_us / 4;
                self.clients[client].target = self.stream.below(self.members as u64) as usize;
                self.next_turn(client, now, patience)
            } else {
                None
            };
        };
        if let Asked::InSession { content } = asked {
            return self.on_session_outcome(now, client, attempt, content, outcome);
        }
        let moment = self.next_moment();
        let state = &mut self.clients[client];
        let current = state.attempt == attempt;
        // An answer that is overdue is one where the slow part takes longer than a client waits.
        let serves = state.first_healed.is_some_and(|first| attempt >= first) && (current || self.yielding);
        let mut patience = self.spec.think_us;
        match outcome {
            Outcome::Committed(id) => {
                state.written |= serves;
                self.history.wrote(operation, moment);
                self.history.took_effect(operation, id.index.get());
            }
            Outcome::Ready { .. } => {
                let (value, index) = found.unwrap_or_default();
                state.read |= serves;
                self.history.read(operation, moment, value.map(Value));
                self.history.took_effect(operation, index.get());
            }
            Outcome::Refused(refusal) => {
                self.history.refused(operation, moment);
                if let Refusal::NotLeader { leader: Some(leader) } = refusal {
                    state.target = leader.get() as usize - 1;
                } else {
                    state.target = self.stream.below(self.members as u64) as usize;
                    patience = patience.max(self.spec.timeout_us / 4);
                }
            }
            Outcome::Unknown
            | Outcome::Transferred
            | Outcome::NotTransferred
            | Outcome::NotCaughtUp(_)
            | Outcome::Cancelled => {
                state.name = self.names;
                self.names += 1;
                state.target = self.stream.below(self.members as u64) as usize;
                patience = patience.max(self.spec.timeout_us / 4);
            }
        }
        // What an attempt that was given up is told in the end is only recorded.
        if !current {
            return None;
        }
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return None;
        }
        state.attempt += 1;
        let number = state.attempt;
        Some(Turn { client, at: now + self.stream.between(0, patience) * 1_000 + 1, number })
    }

    /// A command of a session was answered, perhaps not for the first time.
    fn on_session_outcome(
        &mut self,
        now: u64,
        client: usize,
        attempt: u64,
        content: u64,
        outcome: Outcome,
    ) -> Option<Turn> {
        let moment = self.next_moment();
        let random = self.stream.below(self.members as u64) as usize;
        let state = &mut self.clients[client];
        let session = state.session.as_mut()?;
        let pending = session.pending.as_ref().filter(|pending| pending.content == content)?;
        let current = state.attempt == attempt;
        match outcome {
            Outcome::Committed(_) => {
                self.history.wrote(pending.operation, moment);
                session.pending = None;
                state.written |= state.first_healed.is_some();
                self.next_turn(client, now, self.spec.think_us)
            }
            _ if !current => None,
            Outcome::Refused(Refusal::NotLeader { leader: Some(leader) }) => {
                state.target = leader.get() as usize - 1;
                self.next_turn(client, now, self.spec.think_us)
            }
            _ => {
                state.target = random;
                self.next_turn(client, now, self.spec.think_us.max(self.spec.timeout_us / 4))
            }
        }
    }
}

fn content_of(payload: &Payload) -> u64 {
    StableHasher::of(&EntryBody::Data(payload.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Profile, Scenario};

    #[test]
    fn a_command_of_a_session_may_be_carried_out_at_one_entry_by_each_member_and_nowhere_else() {
        let spec = Scenario::draw(1, 3, Profile::Storage).workload;
        let mut clients = Clients::new(1, 3, spec, None);
        clients.once.insert(7, None);
        assert_eq!(clients.carried_out(Index::new(4), 7), Ok(()));
        assert_eq!(clients.carried_out(Index::new(4), 7), Ok(()), "by another member");
        assert!(clients.carried_out(Index::new(5), 7).is_err());
        assert_eq!(clients.carried_out(Index::new(5), 8), Ok(()), "of no session");
    }
}
