//! Which message that arrives is which that was sent.

use super::diagram::{Kind, Message};
use crate::fate::Fate;
use crate::hash::StableHasher;
use crate::story::delivery::Deliveries;
use kontiki_core::message::{self, Body};
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;

/// The messages of a run.
#[derive(Default, Debug)]
pub(super) struct Traffic {
    pub(super) messages: Vec<Carried>,
    /// Those of the same content, in the order in which they were sent.
    alike: BTreeMap<u64, Vec<usize>>,
    /// As far as what became of messages is said.
    deliveries: Deliveries,
    /// Whether it is said.
    is_told: bool,
    /// The message of each link that was sent last of those that have arrived.
    newest: BTreeMap<(NodeId, NodeId), usize>,
    /// The longest time that an ordinary message takes.
    usual: u64,
}

/// A message, and when it was sent.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    at: u64,
    pub(super) shown: Message,
}

impl Traffic {
    pub(super) fn new(usual: u64) -> Self {
        Self { usual, ..Self::default() }
    }

    /// Takes note of a message that is sent in an event.
    pub(super) fn sent(&mut self, event: usize, at: u64, message: &message::Message, text: String) -> usize {
        let number = self.push(at, message, text, Some(event));
        self.alike.entry(StableHasher::of(message)).or_default().push(number);
        self.deliveries.sends(message, number);
        number
    }

    /// Takes note of what becomes of a message.
    pub(super) fn becomes(&mut self, number: u64, message: &message::Message, fate: &Fate) {
        self.is_told = true;
        let Some(number) = self.deliveries.becomes(number, message, fate) else { return };
        let shown = &mut self.messages[number].shown;
        match fate {
            Fate::Carried { arrives_ns, delayed } => {
                shown.delayed |= delayed;
                shown.duplicated |= arrives_ns.len() > 1;
            }
            Fate::KeptBack => shown.delayed = true,
            Fate::Arrived { kept_back } => shown.delayed |= kept_back,
            Fate::Lost(loss) => shown.lost = Some(*loss),
        }
    }

    /// A member crashed.
    pub(super) fn crashes(&mut self, member: NodeId) {
        self.deliveries.crashes(member);
    }

    /// Takes note of a message that arrives in an event.
    pub(super) fn arrived(
        &mut self,
        event: usize,
        at: u64,
        message: &message::Message,
        text: impl FnOnce() -> String,
    ) -> usize {
        let delivery = self.deliveries.receives(message).map(|delivery| delivery.key);
        let inferred = || if self.is_told { None } else { self.sending(at, message) };
        let number = match delivery.or_else(inferred) {
            Some(number) => number,
            None => self.push(at, message, text(), None),
        };
        let newest = self.newest.entry((message.from.id, message.to.id)).or_insert(number);
        let carried = &mut self.messages[number].shown;
        carried.late |= number < *newest && carried.arrived.is_empty();
        carried.arrived.push(event);
        *newest = number.max(*newest);
        number
    }

    fn push(&mut self, at: u64, message: &message::Message, text: String, sent: Option<usize>) -> usize {
        let (kind, arrived) = (kind(&message.body), Vec::new());
        let shown = Message { from: 0, to: 0, kind, text, sent, arrived, ..Message::default() };
        self.messages.push(Carried { from: message.from.id, to: message.to.id, at, shown });
        self.messages.len() - 1
    }

    /// The one that arrives now: the first of those that are on their way for no longer than usual, else the
    /// latest that has not arrived, else the latest, which then comes once more.
    fn sending(&self, at: u64, message: &message::Message) -> Option<usize> {
        let alike = self.alike.get(&StableHasher::of(message))?;
        let due = |number: &&usize| self.messages[**number].shown.arrived.is_empty();
        let recent = |number: &usize| self.messages[*number].at.saturating_add(self.usual) >= at;
        let usual = alike.iter().rev().take_while(|number| recent(number)).filter(due).last();
        usual.or_else(|| alike.iter().rev().find(due)).or(alike.last()).copied()
    }

    /// The messages, with what is to be said of them at the end of the run.
    pub(super) fn end(self, end: u64, lane: impl Fn(NodeId) -> usize) -> Vec<Message> {
        let (usual, is_told) = (self.usual, self.is_told);
        let ended = |Carried { from, to, at, mut shown }: Carried| {
            shown.on_its_way = shown.arrived.is_empty()
                && if is_told { shown.lost.is_none() } else { at.saturating_add(usual) >= end };
            shown.duplicated |= shown.arrived.len() > 1;
            // One of its copies was lost.
            shown.lost = shown.lost.filter(|_| shown.arrived.is_empty());
            (shown.from, shown.to) = (lane(from), lane(to));
            shown
        };
        self.messages.into_iter().map(ended).collect()
    }
}

/// Of which kind a message is.
pub(super) fn kind(body: &Body) -> Kind {
    match body {
        Body::PreVote { .. }
        | Body::PreVoted { .. }
        | Body::RequestVote { .. }
        | Body::Voted { .. }
        | Body::TimeoutNow { .. } => Kind::Election,
        Body::Append { .. } | Body::Appended { .. } | Body::Rejected { .. } | Body::Commit { .. } => {
            Kind::Entries
        }
        Body::Heartbeat { .. } | Body::HeartbeatAck { .. } | Body::Pause { .. } => Kind::Heartbeat,
        Body::OfferSnapshot { .. }
        | Body::SnapshotUnavailable { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexIs { .. }
        | Body::WrongIncarnation
        | Body::StaleIncarnation { .. }
        | Body::Outdated
        | Body::RepairRequest { .. }
        | Body::RepairSnapshotRequest { .. }
        | Body::RepairResponse { .. }
        | Body::RepairSnapshot { .. } => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::{ClusterId, Identity, Term};

    const MS: u64 = 1_000_000;

    fn vote() -> message::Message {
        let id = |number| NodeId::new(number).expect("not zero");
        let from = Identity::new(ClusterId(1), id(1));
        message::Message::new(from, id(2).into(), Term::new(1), Body::Voted { granted: true })
    }

    /// Sends equal messages at some times and lets some arrive: the events in which each arrived, and which
    /// are late.
    fn carried(sent: &[u64], arrived: &[u64]) -> (Vec<Vec<u64>>, Vec<usize>) {
        let mut traffic = Traffic::new(2 * MS);
        let mut all: Vec<_> = sent.iter().map(|at| (*at, true)).collect();
        all.extend(arrived.iter().map(|at| (*at, false)));
        all.sort_unstable();
        for (at, is_sent) in all {
            if is_sent {
                traffic.sent(at as usize, at * MS, &vote(), String::new());
            } else {
                traffic.arrived(at as usize, at * MS, &vote(), String::new);
            }
        }
        let times = |one: &Message| one.arrived.iter().map(|event| *event as u64).collect();
        let messages = traffic.end(100 * MS, |_| 0);
        let late = messages.iter().enumerate().filter(|(_, one)| one.late).map(|(number, _)| number);
        (messages.iter().map(times).collect(), late.collect())
    }

    #[test]
    fn equal_messages_arrive_in_order_and_one_that_was_lost_is_not_confused_with_the_next() {
        assert_eq!(carried(&[10, 11], &[12, 13]), (vec![vec![12], vec![13]], vec![]));
        assert_eq!(carried(&[10, 50], &[51]), (vec![vec![], vec![51]], vec![]));
        assert_eq!(carried(&[10], &[11, 12]), (vec![vec![11, 12]], vec![]), "a duplicate");
        assert_eq!(carried(&[10, 50], &[51, 60]), (vec![vec![60], vec![51]], vec![0]), "overtaken");
        assert_eq!(carried(&[], &[5]), (vec![vec![5]], vec![]), "sent before what is seen");
    }

    #[test]
    fn what_was_sent_last_may_be_on_its_way() {
        let mut traffic = Traffic::new(2 * MS);
        traffic.sent(0, 10 * MS, &vote(), String::new());
        traffic.sent(1, 19 * MS, &vote(), String::new());
        let on_its_way: Vec<_> = traffic.end(20 * MS, |_| 0).iter().map(|one| one.on_its_way).collect();
        assert_eq!(on_its_way, [false, true]);
    }
}
