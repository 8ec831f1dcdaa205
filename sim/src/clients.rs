//! The clients: each has one attempt at a time, and asks elsewhere when it is refused or left without an
//! answer. What they asked and were told is recorded.

use crate::application::{Application, CommittedLog, MachineOf, Sent};
use crate::check::Violated;
use crate::hash::StableHasher;
use crate::ledger::Link;
use crate::scenario::{ReplicaSpec, Scenario, WorkloadSpec};
use crate::stream::Stream;
use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::event::{Event, Proposal, Read, ReadVia};
use kontiki_core::log::EntryBody;
use kontiki_core::machine::{Answer, Command, SessionId, fingerprint};
use kontiki_core::types::{Index, LogId, NodeId, Payload, RequestId};
use std::collections::BTreeMap;

/// All clients of a cluster.
#[derive(Debug)]
pub(crate) struct Clients<A: Application> {
    /// What they ask for, and what they were told.
    pub(crate) application: A,
    spec: WorkloadSpec,
    /// Set where the members are whole.
    replica: Option<ReplicaSpec>,
    stream: Stream,
    clients: Vec<Client<A>>,
    /// Requests that were made and not yet answered.
    open: BTreeMap<RequestId, Open<A>>,
    /// Every payload that was ever proposed to full replicas, by its hash.
    payloads: BTreeMap<u64, Payload>,
    /// Where each command took effect that must do so once, by its fingerprint.
    once: BTreeMap<u64, Once>,
    /// The commands of sessions that were answered, with their clients.
    answered: Vec<(usize, Pending<A::Operation>)>,
    requests: u64,
    members: usize,
    /// Set once no new operation may begin.
    still: bool,
    /// Set once a client that has been served since the world healed begins nothing more.
    yielding: bool,
    /// How many names clients have gone by.
    names: u64,
    /// How many commands and queries were drawn.
    drawn: u64,
}

#[derive(Debug)]
struct Client<A: Application> {
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
    session: Option<Session<A::Operation>>,
    /// What it sends again without a session, where the application wants that.
    again: Option<(A::Command, A::Operation)>,
}

/// A client's session, open or about to be opened.
#[derive(Clone, Debug)]
struct Session<O> {
    id: Option<SessionId>,
    /// The number of its last command.
    sequence: u64,
    /// The command that waits for its answer.
    pending: Option<Pending<O>>,
}

/// A command that is sent again until it is answered.
#[derive(Clone, Debug)]
struct Pending<O> {
    payload: Payload,
    content: u64,
    operation: O,
}

impl<O> Session<O> {
    /// A session that is open, or about to be opened.
    fn new(id: Option<SessionId>) -> Self {
        Self { id, sequence: 0, pending: None }
    }
}

/// A command that must take effect once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Once {
    /// Where it was first seen to.
    pub(crate) at: Option<Index>,
    /// Why: it is of a session. Otherwise, since it was sent once.
    pub(crate) in_session: bool,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Open<A: Application> {
    client: usize,
    attempt: u64,
    /// What of it is recorded; nothing of a session's opening.
    operation: Option<A::Operation>,
    asked: Asked,
    /// What the state machine is asked, if it is.
    query: Vec<u8>,
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
    Read { via: ReadVia, committed: Index },
}

/// What a state machine answered to a query, and how far it had come.
#[derive(Clone, Default, Debug)]
pub(crate) struct Found {
    pub(crate) answer: Vec<u8>,
    pub(crate) at: Index,
}

/// What a client does next.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Which member it asks.
    pub(crate) member: usize,
    /// What it asks; nothing where that is left out.
    pub(crate) event: Option<Event>,
    /// Whether it asks that not for the first time.
    pub(crate) is_again: bool,
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

impl<A: Application> Client<A> {
    /// Whether it has been served since the world healed.
    fn is_served(&self) -> bool {
        self.written && self.read
    }
}

impl<A: Application> Clients<A> {
    pub(crate) fn new(application: A, scenario: &Scenario) -> Self {
        let (seed, members) = (scenario.seed, scenario.members.len());
        let (spec, replica) = (scenario.workload.clone(), scenario.replica.clone());
        let mut stream = Stream::named(seed, "workload", 0);
        let mut sessions = Stream::named(seed, "sessions", 0);
        let mut client = |name| Client {
            session: replica
                .as_ref()
                .is_some_and(|spec| sessions.chance(spec.sessions))
                .then(|| Session::new(None)),
            again: None,
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
            application,
            names: clients.len() as u64,
            spec,
            replica,
            stream,
            clients,
            open: BTreeMap::new(),
            payloads: BTreeMap::new(),
            once: BTreeMap::new(),
            answered: Vec::new(),
            requests: 0,
            members,
            still: false,
            yielding: false,
            drawn: 0,
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
        self.application.healed();
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
    ) -> Result<Option<Attempt>, Violated> {
        let is_done = self.still || self.yielding && self.clients[client].is_served();
        if is_done || self.clients[client].attempt != number {
            return Ok(None);
        }
        let pending = self.clients[client].session.as_ref().and_then(|session| session.pending.clone());
        let again = self.clients[client].again.clone();
        if self.clients[client].waiting > 0 && (pending.is_some() || again.is_some()) {
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
        let is_again = pending.is_some() || again.is_some();
        let (member, event) = match (pending, again) {
            (Some(Pending { payload, content, operation }), _) => {
                let request = self.open(client, Some(operation), Asked::InSession { content });
                (self.ask_target(client, 1), Some(Event::Propose(Proposal { request, payload })))
            }
            (None, Some((command, operation))) => {
                let proposal = self.send(client, &command, Some(operation));
                (self.ask_target(client, 1), Some(Event::Propose(proposal)))
            }
            (None, None) => self.next_event(client, reads, committed)?,
        };
        let longest = match event {
            Some(_) => self.spec.timeout_us * 1_000,
            None => self.skip(client),
        };
        let timeout = (now + longest, attempt);
        Ok(Some(Attempt { member, event, is_again, timeout }))
    }

    /// What a client asks that waits for nothing, and whom; nothing where that is left out.
    fn next_event(
        &mut self,
        client: usize,
        reads: bool,
        committed: Index,
    ) -> Result<(usize, Option<Event>), Violated> {
        let anywhere = reads && self.stream.chance(self.spec.anywhere);
        let elsewhere = anywhere.then(|| self.stream.below(self.members as u64) as usize);
        if reads && let Some(query) = self.application.draw_query(client as u64, &mut self.stream)? {
            let via = if self.stream.chance(self.spec.lease) { ReadVia::Lease } else { ReadVia::Quorum };
            if self.is_left_out() {
                return Ok((self.ask_target(client, 0), None));
            }
            let read = self.ask(client, &query, via, committed);
            let target = self.ask_target(client, 1);
            return Ok((elsewhere.unwrap_or(target), Some(Event::Read(read))));
        }
        if self.clients[client].session.is_some() {
            let proposal = self.command(client)?;
            let answers = u32::from(proposal.is_some());
            return Ok((self.ask_target(client, answers), proposal.map(Event::Propose)));
        }
        let size = self.stream.between(1, u64::from(self.spec.batch));
        let mut proposals = Vec::new();
        for _ in 0..size {
            proposals.extend(self.proposal(client)?);
        }
        let target = self.ask_target(client, proposals.len() as u32);
        let event = match proposals.len() {
            0 | 1 => proposals.pop().map(Event::Propose),
            _ => Some(Event::ProposeBatch(proposals)),
        };
        Ok((target, event))
    }

    /// Numbers what was drawn just now. Returns whether it is left out.
    fn is_left_out(&mut self) -> bool {
        self.drawn += 1;
        self.spec.left_out.contains(&self.drawn)
    }

    /// What was drawn is left out: the client goes on as if it had been answered at once, with the same
    /// draws. Returns after what pause.
    fn skip(&mut self, client: usize) -> u64 {
        if self.clients[client].session.is_some() {
            self.stream.below(self.members as u64);
        }
        self.pause()
    }

    /// How many commands and queries were drawn.
    pub(crate) fn drawn(&self) -> u64 {
        self.drawn
    }

    /// The member that a client believes to lead, of which it now awaits so many answers.
    fn ask_target(&mut self, client: usize, answers: u32) -> usize {
        self.clients[client].waiting = answers;
        self.clients[client].target
    }

    /// A write by a client that asks this once; nothing where that is left out.
    pub(crate) fn probe_write(&mut self) -> Result<Option<Event>, Violated> {
        self.probe(|clients, client| Ok(clients.proposal(client)?.map(Event::Propose)))
    }

    /// This query under a lease, by a client that asks this once.
    pub(crate) fn probe_read(&mut self, query: &A::Query, committed: Index) -> Event {
        self.probe(|clients, client| Event::Read(clients.ask(client, query, ReadVia::Lease, committed)))
    }

    /// Adds a client beside those of the workload. Its timer never runs, and no answer begins another
    /// attempt.
    fn probe<E>(&mut self, ask: impl FnOnce(&mut Self, usize) -> E) -> E {
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
            again: None,
        });
        let event = ask(self, client);
        self.clients[client].attempt += 1;
        event
    }

    fn open(&mut self, client: usize, operation: Option<A::Operation>, asked: Asked) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let attempt = self.clients[client].attempt;
        self.open.insert(request, Open { client, attempt, operation, asked, query: Vec::new() });
        request
    }

    /// The next command of a session, or the request for one; nothing where the command is left out.
    fn command(&mut self, client: usize) -> Result<Option<Proposal>, Violated> {
        let Some(session) = self.clients[client].session.clone() else {
            return self.proposal(client);
        };
        let Some(id) = session.id else {
            let payload = Command::Register.encode();
            self.payloads.insert(content_of(&payload), payload.clone());
            let request = self.open(client, None, Asked::Register);
            return Ok(Some(Proposal { request, payload }));
        };
        let command = self.application.draw_command(client as u64, &mut self.stream)?;
        if self.is_left_out() {
            return Ok(None);
        }
        let number = self.requests + 1;
        let bytes = self.application.encode(&command, number);
        self.once.insert(fingerprint(&[&bytes]), Once { at: None, in_session: true });
        let (sequence, acknowledged) = (session.sequence + 1, session.sequence + 1);
        let payload = Command::InSession { session: id, sequence, acknowledged, command: &bytes }.encode();
        let content = content_of(&payload);
        let name = self.clients[client].name;
        let sent = Sent { number, content, in_session: true };
        let operation = self.application.command_begins(name, &command, sent);
        self.payloads.insert(content, payload.clone());
        let pending = Pending { payload: payload.clone(), content, operation };
        self.clients[client].session = Some(Session { id: Some(id), sequence, pending: Some(pending) });
        let request = self.open(client, Some(operation), Asked::InSession { content });
        Ok(Some(Proposal { request, payload }))
    }

    /// A session was opened for a client that had asked for one.
    pub(crate) fn opened(&mut self, now: u64, request: RequestId, id: SessionId) -> Option<Turn> {
        let Open { client, attempt, .. } = self.open.remove(&request)?;
        let state = &mut self.clients[client];
        if state.attempt != attempt {
            return None;
        }
        state.session = Some(Session::new(Some(id)));
        self.next_turn(client, now, 0)
    }

    /// A session has expired: the operation that was pending in it may or may not have taken effect. The
    /// client goes on under a new name.
    pub(crate) fn expired(&mut self, now: u64, request: RequestId) -> Option<Turn> {
        let Open { client, asked, .. } = self.open.remove(&request)?;
        let state = &mut self.clients[client];
        let waits = |pending: &Pending<A::Operation>| asked == Asked::InSession { content: pending.content };
        if !state.session.as_ref().is_some_and(|session| session.pending.as_ref().is_some_and(waits)) {
            return None;
        }
        state.session = Some(Session::new(None));
        state.name = self.names;
        self.names += 1;
        self.next_turn(client, now, 0)
    }

    /// How many commands of sessions were answered.
    pub(crate) fn answered_in_sessions(&self) -> usize {
        self.answered.len()
    }

    /// What a client has sent before it was answered, once more: the command of this number, from zero.
    pub(crate) fn sent_before(&mut self, number: usize) -> Option<Proposal> {
        let (client, Pending { payload, content, operation }) = self.answered.get(number)?.clone();
        let request = self.open(client, Some(operation), Asked::InSession { content });
        Some(Proposal { request, payload })
    }

    /// A member has carried out a command. One that is given in a session, or sent once, must not be carried
    /// out twice: returns where it was before.
    pub(crate) fn carried_out(&mut self, index: Index, command: u64) -> Result<(), Once> {
        match self.once.get_mut(&command) {
            Some(once) if once.at.is_some_and(|first| first != index) => Err(*once),
            Some(once) => {
                once.at = Some(index);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn next_turn(&mut self, client: usize, now: u64, patience: u64) -> Option<Turn> {
        let state = &mut self.clients[client];
        state.attempt += 1;
        state.waiting = 0;
        let number = state.attempt;
        Some(Turn { client, at: now + self.stream.between(0, patience) * 1_000 + 1, number })
    }

    /// The run is over, with this log, and with these states if the cluster is at rest. Returns how much of
    /// what clients were told could not be decided.
    pub(crate) fn ended(
        &mut self,
        links: &[Link],
        states: Option<&Vec<MachineOf<'_, A::Machine>>>,
    ) -> Result<u64, Violated> {
        let limits = self.replica.as_ref().map(ReplicaSpec::session_limits);
        let log = CommittedLog { links, payloads: &self.payloads, limits };
        self.application.ended(log, states.map(|states| &states[..]))
    }

    /// A command that is drawn now; nothing where it is left out.
    fn proposal(&mut self, client: usize) -> Result<Option<Proposal>, Violated> {
        let command = self.application.draw_command(client as u64, &mut self.stream)?;
        Ok((!self.is_left_out()).then(|| self.send(client, &command, None)))
    }

    /// A command without a session: perhaps not for the first time, if it is of an operation already.
    fn send(&mut self, client: usize, command: &A::Command, operation: Option<A::Operation>) -> Proposal {
        let number = self.requests + 1;
        let bytes = self.application.encode(command, number);
        let payload = match self.replica {
            Some(_) => Command::Plain(&bytes).encode(),
            None => Payload::from(&bytes[..]),
        };
        let content = content_of(&payload);
        if self.replica.is_some() {
            self.payloads.insert(content, payload.clone());
        }
        let state = &mut self.clients[client];
        let operation = operation.unwrap_or_else(|| {
            let sent = Sent { number, content, in_session: false };
            self.application.command_begins(state.name, command, sent)
        });
        if self.application.sends_again() {
            state.again = Some((command.clone(), operation));
        } else if self.replica.is_some() {
            self.once.insert(fingerprint(&[&bytes]), Once { at: None, in_session: false });
        }
        let request = self.open(client, Some(operation), Asked::Write { content });
        Proposal { request, payload }
    }

    fn ask(&mut self, client: usize, query: &A::Query, via: ReadVia, committed: Index) -> Read {
        let operation = self.application.query_begins(self.clients[client].name, query);
        let request = self.open(client, Some(operation), Asked::Read { via, committed });
        if let Some(open) = self.open.get_mut(&request) {
            open.query = self.application.encode_query(query);
        }
        Read { request, via }
    }

    /// A payload, for people.
    pub(crate) fn show(&self, payload: &[u8]) -> String {
        match Command::decode(payload) {
            Ok(Command::Plain(command)) => self.application.show(command),
            Ok(Command::InSession { session, sequence, command, .. }) => {
                format!("{} (command {sequence} of session {session})", self.application.show(command))
            }
            other => format!("{other:?}"),
        }
    }

    /// A member answers a command as the entry at `at` was answered. The client need not wait for that any
    /// more.
    pub(crate) fn answered(
        &mut self,
        member: NodeId,
        request: RequestId,
        at: LogId,
        answer: &Answer,
    ) -> Result<(), Violated> {
        let operation = self.open.get(&request).and_then(|open| open.operation);
        self.application.answered(member, operation, at, answer)
    }

    /// The query of a request that is still open.
    pub(crate) fn query(&self, request: RequestId) -> Option<&[u8]> {
        self.open.get(&request).map(|open| &open.query[..])
    }

    /// What a request asks for, where it is still open.
    pub(crate) fn asked(&self, request: RequestId) -> Option<Asked> {
        self.open.get(&request).map(|open| open.asked)
    }

    /// A member has answered; `found` is what its state machine answered to a query, and as of which entry.
    /// Returns when the client acts next, where the answer ends its attempt.
    pub(crate) fn on_outcome(
        &mut self,
        now: u64,
        member: NodeId,
        request: RequestId,
        outcome: Outcome,
        found: Option<Found>,
    ) -> Result<Option<Turn>, Violated> {
        let Some(Open { client, attempt, operation, asked, .. }) = self.open.remove(&request) else {
            return Ok(None);
        };
        let Some(operation) = operation else {
            return Ok(self.on_refused_session(now, client, attempt));
        };
        if let Asked::InSession { content } = asked {
            return Ok(self.on_session_outcome(now, client, attempt, content, outcome));
        }
        let state = &mut self.clients[client];
        let current = state.attempt == attempt;
        // An answer that is overdue is one where the slow part takes longer than a client waits.
        let serves = state.first_healed.is_some_and(|first| attempt >= first) && (current || self.yielding);
        let mut patience = self.spec.think_us;
        match outcome {
            Outcome::Committed(id) => {
                state.written |= serves;
                state.again.take_if(|(_, sent)| *sent == operation);
                self.application.committed(operation, Some(id.index));
            }
            Outcome::Ready { .. } => {
                let Found { answer, at } = found.unwrap_or_default();
                state.read |= serves;
                self.application.found(member, operation, &answer, at)?;
            }
            Outcome::Refused(Refusal::NotLeader { leader: Some(leader) }) => {
                self.application.refused(operation);
                state.target = leader.get() as usize - 1;
            }
            Outcome::Refused(_) => {
                self.application.refused(operation);
                state.target = self.stream.below(self.members as u64) as usize;
                patience = patience.max(self.spec.timeout_us / 4);
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
        if current {
            state.waiting = state.waiting.saturating_sub(1);
        }
        let is_over = current && state.waiting == 0;
        Ok(if is_over { self.next_turn(client, now, patience) } else { None })
    }

    /// No session was opened for a client, or it is not known whether one was: it asks elsewhere.
    fn on_refused_session(&mut self, now: u64, client: usize, attempt: u64) -> Option<Turn> {
        if self.clients[client].attempt != attempt {
            return None;
        }
        self.clients[client].target = self.stream.below(self.members as u64) as usize;
        self.next_turn(client, now, self.spec.timeout_us / 4)
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
        let random = self.stream.below(self.members as u64) as usize;
        let state = &mut self.clients[client];
        let session = state.session.as_mut()?;
        let is_it = |pending: &mut Pending<A::Operation>| pending.content == content;
        let pending = session.pending.take_if(is_it)?;
        let current = state.attempt == attempt;
        if let Outcome::Committed(_) = outcome {
            self.application.committed(pending.operation, None);
            state.written |= state.first_healed.is_some();
            self.answered.push((client, pending));
            return self.next_turn(client, now, self.spec.think_us);
        }
        session.pending = Some(pending);
        match outcome {
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
    use crate::registers::Registers;
    use crate::scenario::Profile;

    #[test]
    fn a_command_may_be_carried_out_at_one_entry_by_each_member_and_nowhere_else() {
        let scenario = Scenario::draw(1, 3, Profile::Storage);
        let mut clients = Clients::new(Registers::new(&scenario), &scenario);
        let (at, in_session) = (Some(Index::new(4)), true);
        clients.once.insert(7, Once { at: None, in_session });
        assert_eq!(clients.carried_out(Index::new(4), 7), Ok(()));
        assert_eq!(clients.carried_out(Index::new(4), 7), Ok(()), "by another member");
        assert_eq!(clients.carried_out(Index::new(5), 7), Err(Once { at, in_session }));
        assert_eq!(clients.carried_out(Index::new(5), 8), Ok(()), "of no client");
    }
}
