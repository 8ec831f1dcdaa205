//! Who waits for what: each request gets exactly one answer.

use crate::machine;
use crate::replica::answer::Answer;
use crate::replica::frame::ForwardId;
use crate::time::Instant;
use crate::types::{Index, LogId, Member, RequestId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Who asked, and will get the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A client of this host, under its own number.
    Client(RequestId),
    /// A member that sent a client's command on.
    Peer(Member, ForwardId),
    /// Everybody who has brought this long command: see [`Repeats`](crate::replica::repeats::Repeats).
    Long(u64),
}

/// What the kernel was asked on somebody's behalf.
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

/// A query that the state machine is at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub(super) origin: Origin,
    pub(super) index: Index,
    pub(super) until: Option<Instant>,
    bytes: u64,
}

/// Who is to be told what.
pub(super) type Told = Vec<(Origin, Answer)>;

/// Everybody who waits. The kernel gets numbers of our own, so that two clients who use the same do no harm.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Clients {
    last: u64,
    /// The kernel has not answered.
    asked: BTreeMap<RequestId, Asked>,
    /// The command is committed as this entry, and its answer must come from the state machine.
    committed: BTreeMap<Index, (LogId, Origin)>,
    /// The state machine is asked.
    reading: BTreeMap<RequestId, Reading>,
    query_bytes: u64,
}

impl Clients {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.committed.len() + self.reading.len()
    }

    /// How many bytes of queries wait.
    pub(super) fn query_bytes(&self) -> u64 {
        self.query_bytes
    }

    /// Somebody waits for the kernel; the number to ask it with.
    pub(super) fn ask(&mut self, asked: Asked) -> RequestId {
        self.last += 1;
        if let Asked::Query { query, .. } = &asked {
            self.query_bytes += query.len() as u64;
        }
        let request = RequestId(self.last);
        self.asked.insert(request, asked);
        request
    }

    /// The kernel has answered.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Asked> {
        self.asked.remove(&request)
    }

    /// If this is a query, it need not wait any more.
    pub(super) fn drop_query(&mut self, asked: &Asked) {
        if let Asked::Query { query, .. } = asked {
            self.query_bytes -= query.len() as u64;
        }
    }

    /// A command is in the log for good; the state machine will answer it.
    pub(super) fn committed(&mut self, id: LogId, origin: Origin) {
        self.committed.insert(id.index, (id, origin));
    }

    /// A query may be put to the state machine now.
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

    /// The state machine has applied everything through `through`, with these answers: who gets what.
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

    /// Everything through `through` is applied, and no answers to it will come any more.
    pub(super) fn passed(&mut self, through: Index, told: &mut Told) {
        while let Some(first) = self.committed.first_entry()
            && *first.key() <= through
        {
            let (id, origin) = first.remove();
            told.push((origin, Answer::Unanswered(id)));
        }
    }

    /// What is committed after `after` will not be applied here any more.
    pub(super) fn give_up_after(&mut self, after: Index, told: &mut Told) {
        for (_, (id, origin)) in self.committed.split_off(&after.next()) {
            told.push((origin, Answer::Unanswered(id)));
        }
    }

    /// Nobody will be answered any more by the kernel or the state machine: what is left to say. A command
    /// that the kernel was given may commit; a query or anything else that it had not answered may be
    /// refused.
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
