//! Requests that wait for an answer. **Invariant:** each gets exactly one.

use crate::machine;
use crate::replica::answer::Answer;
use crate::replica::frame::ForwardId;
use crate::time::Instant;
use crate::types::{Index, LogId, Member, RequestId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The origin of a request, which gets the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A client of this host, with the request's id.
    Client(RequestId),
    /// A member that forwarded a client's command.
    Peer(Member, ForwardId),
    /// Every origin of this long command: see [`Repeats`](crate::replica::repeats::Repeats).
    Long(u64),
}

/// A request to the kernel, with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Command(Origin),
    Query { origin: Origin, query: Vec<u8> },
    Reconfigure(Origin),
    Transfer(Origin),
}

impl Asked {
    pub(super) fn origin(&self) -> Origin {
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
pub(super) struct Reading {
    pub(super) origin: Origin,
    pub(super) index: Index,
    pub(super) until: Option<Instant>,
    bytes: u64,
}

/// Answers, each with its origin.
pub(super) type Told = Vec<(Origin, Answer)>;

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
    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.committed.len() + self.reading.len()
    }

    /// The size in bytes of the waiting queries.
    pub(super) fn query_bytes(&self) -> u64 {
        self.query_bytes
    }

    /// Notes a request to the kernel. Returns the id to use for it.
    pub(super) fn ask(&mut self, asked: Asked) -> RequestId {
        self.last += 1;
        if let Asked::Query { query, .. } = &asked {
            self.query_bytes += query.len() as u64;
        }
        let request = RequestId(self.last);
        self.asked.insert(request, asked);
        request
    }

    /// The kernel has answered. Returns the request, if it still waits.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Asked> {
        self.asked.remove(&request)
    }

    /// If this is a query, it need not wait any more.
    pub(super) fn drop_query(&mut self, asked: &Asked) {
        if let Asked::Query { query, .. } = asked {
            self.query_bytes -= query.len() as u64;
        }
    }

    /// A command is committed; the state machine will answer it.
    pub(super) fn committed(&mut self, id: LogId, origin: Origin) {
        self.committed.insert(id.index, (id, origin));
    }

    /// A query may be given to the state machine now.
    pub(super) fn reading(
        &mut self,
        read: RequestId,
        origin: Origin,
        at: (Index, Option<Instant>),
        query: &[u8],
    ) {
        let (index, until) = at;
        self.reading.insert(read, Reading { origin, index, until, bytes: query.len() as u64 });
    }

    /// The state machine has answered a query.
    pub(super) fn read(&mut self, read: RequestId) -> Option<Reading> {
        let reading = self.reading.remove(&read)?;
        self.query_bytes -= reading.bytes;
        Some(reading)
    }

    /// The state machine has applied everything through `through`, with these answers. Collects them with
    /// their origins.
    pub(super) fn applied(
        &mut self,
        through: Index,
        answers: Vec<(Index, machine::Answer)>,
        told: &mut Told,
    ) {
        for (index, answer) in answers {
            if let Some((id, origin)) = self.committed.remove(&index) {
                told.push((origin, Answer::Applied { id, answer }));
            }
        }
        self.passed(through, told);
    }

    /// Everything through `through` is applied, and the state machine will give no more answers to it.
    pub(super) fn passed(&mut self, through: Index, told: &mut Told) {
        while let Some(first) = self.committed.first_entry()
            && *first.key() <= through
        {
            let (id, origin) = first.remove();
            told.push((origin, Answer::Unanswered(id)));
        }
    }

    /// Entries after `after` will not be applied here any more.
    pub(super) fn give_up_after(&mut self, after: Index, told: &mut Told) {
        for (_, (id, origin)) in self.committed.split_off(&after.next()) {
            told.push((origin, Answer::Unanswered(id)));
        }
    }

    /// Ends all waiting requests: neither the kernel nor the state machine will answer any more. The outcome
    /// of a command that the kernel was given is unknown, since it may commit. A query, or any other request
    /// without an answer, is refused.
    pub(super) fn end(&mut self, refusal: &Answer, told: &mut Told) {
        for (_, asked) in core::mem::take(&mut self.asked) {
            let answer = match &asked {
                Asked::Query { .. } => refusal.clone(),
                Asked::Command(_) | Asked::Reconfigure(_) | Asked::Transfer(_) => Answer::Unknown,
            };
            told.push((asked.origin(), answer));
        }
        self.passed(Index::MAX, told);
        for (_, reading) in core::mem::take(&mut self.reading) {
            told.push((reading.origin, refusal.clone()));
        }
        self.query_bytes = 0;
    }
}
