//! Requests of clients and operators. **Invariant:** each gets exactly one answer.

use crate::action;
use crate::action::Outcome;
use crate::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use crate::replica::Replica;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::clients::{Asked, Clients, Origin, Told};
use crate::replica::io::{Ask, MachineJob, Output};
use crate::replica::phase::Phase;
use crate::types::{Payload, RequestId};
use alloc::vec::Vec;

impl Replica {
    pub(super) fn on_request(&mut self, request: RequestId, ask: Ask, out: &mut Vec<Output>) {
        let origin = Origin::Client(request);
        if let Some(refusal) = self.refusal(&ask) {
            return self.tell(origin, Answer::Refused(refusal), out);
        }
        match ask {
            Ask::Command(payload) => self.on_command(origin, payload, out),
            Ask::Query { query, via } => self.on_query(origin, query, via),
            Ask::Reconfigure { expected, changes, force } => {
                let request = self.clients.ask(Asked::Reconfigure(origin));
                let wish = Reconfigure { request, expected, changes, force };
                self.events.push_back(Event::Reconfigure(wish));
            }
            Ask::CancelChange => {
                let request = self.clients.ask(Asked::Reconfigure(origin));
                self.events.push_back(Event::CancelChange(request));
            }
            Ask::Transfer { to } => {
                let request = self.clients.ask(Asked::Transfer(origin));
                self.events.push_back(Event::Transfer(Transfer { request, to }));
            }
            Ask::Snapshot => self.on_snapshot_asked(request, out),
            Ask::Entries { range, max_bytes } => self.on_entries_asked(request, range, max_bytes),
        }
    }

    /// Returns the refusal of a request that the replica can refuse without the kernel.
    fn refusal(&self, ask: &Ask) -> Option<ReplicaRefusal> {
        if self.phase == Phase::Stopping {
            return Some(ReplicaRefusal::Raft(action::Refusal::Stopped));
        }
        if self.waiting() >= self.options.max_requests {
            return Some(ReplicaRefusal::TooMany);
        }
        if let Ask::Query { query, .. } = ask {
            let (length, max) = (query.len() as u64, self.options.max_query_bytes);
            if length > max {
                return Some(ReplicaRefusal::QueryTooLarge { max });
            }
            if self.clients.query_bytes() + length > self.options.max_waiting_query_bytes {
                return Some(ReplicaRefusal::TooMany);
            }
        }
        None
    }

    fn on_command(&mut self, origin: Origin, payload: Payload, out: &mut Vec<Output>) {
        let Some(origin) = self.repeats.bring(origin, &payload) else { return };
        if let Some((leader, term)) = self.forwards_to() {
            return self.forward(origin, (leader, term), payload, out);
        }
        self.propose(origin, payload);
    }

    /// Proposes a command to the kernel, for this origin.
    pub(super) fn propose(&mut self, origin: Origin, payload: Payload) {
        let request = self.clients.ask(Asked::Command(origin));
        self.events.push_back(Event::Propose(Proposal { request, payload }));
    }

    pub(super) fn on_commands(&mut self, commands: Vec<Proposal>, out: &mut Vec<Output>) {
        if self.forwards_to().is_some() {
            for Proposal { request, payload } in commands {
                self.on_request(request, Ask::Command(payload), out);
            }
            return;
        }
        let mut proposals = Vec::with_capacity(commands.len());
        for Proposal { request, payload } in commands {
            let origin = Origin::Client(request);
            let ask = Ask::Command(payload);
            match (self.refusal(&ask), ask) {
                (None, Ask::Command(payload)) => {
                    let Some(origin) = self.repeats.bring(origin, &payload) else { continue };
                    let request = self.clients.ask(Asked::Command(origin));
                    proposals.push(Proposal { request, payload });
                }
                (refusal, _) => {
                    let refusal = refusal.unwrap_or(ReplicaRefusal::TooMany);
                    self.tell(origin, Answer::Refused(refusal), out);
                }
            }
        }
        if !proposals.is_empty() {
            self.events.push_back(Event::ProposeBatch(proposals));
        }
    }

    fn on_query(&mut self, origin: Origin, query: Vec<u8>, via: ReadVia) {
        let request = self.clients.ask(Asked::Query { origin, query });
        self.events.push_back(Event::Read(Read { request, via }));
    }

    /// The kernel has answered. A committed command goes on waiting for the state machine; a confirmed query
    /// is given to the state machine.
    pub(super) fn on_outcome(&mut self, request: RequestId, outcome: Outcome, out: &mut Vec<Output>) {
        let Some(asked) = self.clients.answered(request) else {
            return;
        };
        match (asked, outcome) {
            (Asked::Command(origin), Outcome::Committed(id)) if id.index > self.applying.at => {
                self.clients.committed(id, origin);
            }
            (Asked::Command(origin), Outcome::Committed(id)) => {
                self.tell(origin, Answer::Unanswered(id), out);
            }
            (Asked::Query { origin, query }, Outcome::Ready { index, until }) => {
                self.clients.reading(request, origin, (index, until), &query);
                out.push(Output::Machine(MachineJob::Query { read: request, query }));
            }
            (asked, outcome) => {
                self.clients.drop_query(&asked);
                self.tell(asked.origin(), plain(outcome), out);
            }
        }
    }

    /// Sends the one answer to the origin of a request.
    pub(super) fn tell(&mut self, origin: Origin, answer: Answer, out: &mut Vec<Output>) {
        match origin {
            Origin::Client(request) => out.push(Output::Answer { request, answer }),
            Origin::Peer(member, id) => self.reply(member, id, answer, out),
            Origin::Long(number) => {
                for origin in self.repeats.take(number) {
                    self.tell(origin, answer.clone(), out);
                }
            }
        }
    }

    pub(super) fn tell_all(&mut self, ask: impl FnOnce(&mut Clients, &mut Told), out: &mut Vec<Output>) {
        let mut told = Vec::new();
        ask(&mut self.clients, &mut told);
        for (origin, answer) in told {
            self.tell(origin, answer, out);
        }
    }
}

/// The answer to a request that needs no state machine.
fn plain(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Committed(id) => Answer::Reconfigured(id),
        Outcome::Transferred => Answer::Transferred,
        Outcome::NotTransferred => Answer::NotTransferred,
        Outcome::NotCaughtUp(id) => Answer::NotCaughtUp(id),
        Outcome::Cancelled => Answer::Cancelled,
        Outcome::Refused(refusal) => Answer::Refused(ReplicaRefusal::Raft(refusal)),
        Outcome::Ready { .. } | Outcome::Unknown => Answer::Unknown,
    }
}
