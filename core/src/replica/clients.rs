//! Requests that wait for an answer. **Invariant:** each gets exactly one.

use crate::action::Outcome;
use crate::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use crate::machine;
use crate::membership::Change;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{MachineJob, Output};
use crate::replica::origin::Origin;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, Payload, RequestId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A request to the kernel, with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Command(Origin),
    Query { origin: Origin, query: Vec<u8> },
    Reconfigure(Origin),
    Transfer(Origin),
}

impl Asked {
    fn origin(&self) -> Origin {
        match *self {
            Self::Command(origin)
            | Self::Query { origin, .. }
            | Self::Reconfigure(origin)
            | Self::Transfer(origin) => origin,
        }
    }
}

/// A query that the state machine is answering.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Reading {
    origin: Origin,
    index: Index,
    until: Option<Instant>,
    bytes: u64,
}

/// All waiting requests. The kernel gets request ids of our own, since two clients may use the same id.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Clients {
    last: u64,
    /// The kernel has not answered yet.
    asked: BTreeMap<RequestId, Asked>,
    /// The command is committed as this entry, and the state machine has not applied it yet.
    committed: BTreeMap<Index, (LogId, Origin)>,
    /// The state machine has not answered yet.
    reading: BTreeMap<RequestId, Reading>,
    query_bytes: u64,
}

impl Clients {
    /// How many bytes of queries wait.
    pub(super) fn query_bytes(&self) -> u64 {
        self.query_bytes
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.committed.len() + self.reading.len()
    }

    /// Why no query of this length is taken in, if none is.
    pub(super) fn refusal_of_query(&self, common: &ReplicaCommon, length: u64) -> Option<ReplicaRefusal> {
        let max = common.options.max_query_bytes;
        if length > max {
            return Some(ReplicaRefusal::QueryTooLarge { max });
        }
        let is_full = self.query_bytes + length > common.options.max_waiting_query_bytes;
        is_full.then_some(ReplicaRefusal::TooMany)
    }

    /// Notes a request to the kernel. Returns the id to use for it.
    fn ask(&mut self, asked: Asked) -> RequestId {
        self.last += 1;
        let request = RequestId(self.last);
        self.asked.insert(request, asked);
        request
    }

    /// Notes a command. Returns what to propose to the kernel.
    pub(super) fn proposal(&mut self, origin: Origin, payload: Payload) -> Proposal {
        Proposal { request: self.ask(Asked::Command(origin)), payload }
    }

    pub(super) fn query(&mut self, common: &mut ReplicaCommon, origin: Origin, query: Vec<u8>, via: ReadVia) {
        self.query_bytes += query.len() as u64;
        let request = self.ask(Asked::Query { origin, query });
        common.events.push_back(Event::Read(Read { request, via }));
    }

    pub(super) fn reconfigure(
        &mut self,
        common: &mut ReplicaCommon,
        origin: Origin,
        (expected, changes, force): (Option<LogId>, Vec<Change>, bool),
    ) {
        let request = self.ask(Asked::Reconfigure(origin));
        common.events.push_back(Event::Reconfigure(Reconfigure { request, expected, changes, force }));
    }

    pub(super) fn cancel_change(&mut self, common: &mut ReplicaCommon, origin: Origin) {
        let request = self.ask(Asked::Reconfigure(origin));
        common.events.push_back(Event::CancelChange(request));
    }

    pub(super) fn transfer(&mut self, common: &mut ReplicaCommon, origin: Origin, to: Option<NodeId>) {
        let request = self.ask(Asked::Transfer(origin));
        common.events.push_back(Event::Transfer(Transfer { request, to }));
    }

    /// The kernel has answered. A committed command goes on waiting for the state machine, which has applied
    /// the log through `applied`; a confirmed query is given to the state machine.
    pub(super) fn on_outcome(
        &mut self,
        common: &mut ReplicaCommon,
        request: RequestId,
        outcome: Outcome,
        applied: Index,
        out: &mut Vec<Output>,
    ) {
        let Some(asked) = self.asked.remove(&request) else {
            return;
        };
        match (asked, outcome) {
            (Asked::Command(origin), Outcome::Committed(id)) if id.index > applied => {
                self.committed.insert(id.index, (id, origin));
            }
            (Asked::Command(origin), Outcome::Committed(id)) => {
                common.tell(origin, Answer::Unanswered(id), out);
            }
            (Asked::Query { origin, query }, Outcome::Ready { index, until }) => {
                let bytes = query.len() as u64;
                self.reading.insert(request, Reading { origin, index, until, bytes });
                out.push(Output::Machine(MachineJob::Query { read: request, query }));
            }
            (asked, outcome) => {
                if let Asked::Query { query, .. } = &asked {
                    self.query_bytes -= query.len() as u64;
                }
                common.tell(asked.origin(), plain(outcome), out);
            }
        }
    }

    /// The state machine has answered a query.
    pub(super) fn on_queried(
        &mut self,
        common: &mut ReplicaCommon,
        read: RequestId,
        answer: Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        if let Some(Reading { origin, index, until, bytes }) = self.reading.remove(&read) {
            self.query_bytes -= bytes;
            common.tell(origin, Answer::Read { index, until, answer }, out);
        }
    }

    /// The state machine has applied everything through `through`, with these answers.
    pub(super) fn on_applied(
        &mut self,
        common: &mut ReplicaCommon,
        through: Index,
        answers: Vec<(Index, machine::Answer)>,
        out: &mut Vec<Output>,
    ) {
        for (index, answer) in answers {
            if let Some((id, origin)) = self.committed.remove(&index) {
                common.tell(origin, Answer::Applied { id, answer }, out);
            }
        }
        self.pass(common, through, out);
    }

    /// Everything through `through` is applied, and the state machine will give no more answers to it.
    pub(super) fn pass(&mut self, common: &mut ReplicaCommon, through: Index, out: &mut Vec<Output>) {
        while let Some(first) = self.committed.first_entry()
            && *first.key() <= through
        {
            let (id, origin) = first.remove();
            common.tell(origin, Answer::Unanswered(id), out);
        }
    }

    /// Entries after `after` will not be applied here any more.
    pub(super) fn give_up_after(&mut self, common: &mut ReplicaCommon, after: Index, out: &mut Vec<Output>) {
        for (_, (id, origin)) in self.committed.split_off(&after.next()) {
            common.tell(origin, Answer::Unanswered(id), out);
        }
    }

    /// Ends all waiting requests: neither the kernel nor the state machine will answer any more. The outcome
    /// of a command that the kernel was given is unknown, since it may commit. A query, or any other request
    /// without an answer, is refused.
    pub(super) fn end(&mut self, common: &mut ReplicaCommon, refusal: &Answer, out: &mut Vec<Output>) {
        for (_, asked) in core::mem::take(&mut self.asked) {
            let answer = match &asked {
                Asked::Query { .. } => refusal.clone(),
                Asked::Command(_) | Asked::Reconfigure(_) | Asked::Transfer(_) => Answer::Unknown,
            };
            common.tell(asked.origin(), answer, out);
        }
        self.pass(common, Index::MAX, out);
        for (_, reading) in core::mem::take(&mut self.reading) {
            common.tell(reading.origin, refusal.clone(), out);
        }
        self.query_bytes = 0;
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
