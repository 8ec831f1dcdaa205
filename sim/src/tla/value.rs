//! Values of the protocol as the specification has them.

use kontiki_core::log::{Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::machine::fingerprint;
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::Status;
use kontiki_core::types::{LogId, Member, NodeId};
use std::fmt::Write as _;

/// What keeps a trace short.
pub(super) const SHORTHANDS: &str = r#"NoMessage == [k |-> "none"]
E(t, v) == [t |-> t, v |-> v, c |-> {}]
EC(t, c) == [t |-> t, v |-> Config, c |-> {c}]
I(i, t) == [i |-> i, t |-> t]
S(i, t, ci, c) == [i |-> i, t |-> t, ci |-> ci, c |-> {c}]
A(term, vote, role, li, lt, dur, commit, snap, conf) ==
    [term |-> term, vote |-> vote, role |-> role, last |-> <<li, lt>>, dur |-> dur, commit |-> commit,
     snap |-> snap, conf |-> conf]
Hint(f, t) == [k |-> "hint", from |-> f, t |-> t]
Ask(f, t, last) == [k |-> "ask", from |-> f, t |-> t, last |-> last]
Vote(f, t, for) == [k |-> "vote", from |-> f, t |-> t, for |-> for]
Entries(f, t, prev, ents, commit) ==
    [k |-> "append", from |-> f, t |-> t, prev |-> prev, ents |-> ents, commit |-> commit]
Ack(f, t, matched) == [k |-> "ack", from |-> f, t |-> t, matched |-> matched]
Beat(f, t, commit) == [k |-> "beat", from |-> f, t |-> t, commit |-> commit]
Offer(f, t, snap) == [k |-> "offer", from |-> f, t |-> t, snap |-> snap]
Mend(f, t, prev, ents) == [k |-> "mend", from |-> f, t |-> t, prev |-> prev, ents |-> ents]
MendSnapshot(f, t, snap) == [k |-> "mend-snapshot", from |-> f, t |-> t, snap |-> snap]

"#;

/// The memberships of a trace, each with the name of its definition.
#[derive(Default)]
pub(super) struct Memberships(Vec<Membership>);

impl Memberships {
    /// The name of a membership.
    pub(super) fn name(&mut self, membership: &Membership) -> String {
        let known = self.0.iter().position(|known| known == membership);
        let position = known.unwrap_or_else(|| {
            self.0.push(membership.clone());
            self.0.len() - 1
        });
        format!("C{}", position + 1)
    }

    /// What the names stand for.
    pub(super) fn definitions(&self) -> String {
        let mut text = String::new();
        for (membership, number) in self.0.iter().zip(1..) {
            let _ = writeln!(text, "C{number} == {}", definition(membership));
        }
        text
    }

    /// An entry of a log.
    pub(super) fn entry(&mut self, entry: &Entry) -> String {
        let term = entry.id.term;
        match &entry.body {
            EntryBody::Blank => format!("E({term}, Blank)"),
            EntryBody::Data(payload) => format!("E({term}, {})", fingerprint(&[payload]) % (1 << 30) + 1),
            EntryBody::Config(membership) => format!("EC({term}, {})", self.name(membership)),
            EntryBody::Withheld => format!("E({term}, Withheld)"),
            EntryBody::Lost => format!("E({term}, Lost)"),
        }
    }

    /// A snapshot.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) -> String {
        let name = self.name(&snapshot.membership);
        let (last, configured) = (snapshot.last, snapshot.configured.index);
        format!("S({}, {}, {configured}, {name})", last.index, last.term)
    }

    /// A message. What promises nothing and tells nothing but its term is a hint.
    pub(super) fn message(&mut self, message: &Message) -> String {
        let (from, term) = (member(message.from), message.term);
        match &message.body {
            Body::RequestVote { last, .. } => format!("Ask({from}, {term}, {})", id(*last)),
            Body::Voted { granted: true } => format!("Vote({from}, {term}, {})", member(message.to)),
            Body::Append { slice, commit } => {
                format!("Entries({from}, {term}, {}, {commit})", self.slice(slice))
            }
            Body::Appended { matched } | Body::HeartbeatAck { matched, .. } | Body::Pause { matched, .. } => {
                format!("Ack({from}, {term}, {matched})")
            }
            Body::Heartbeat { commit, .. } | Body::Commit { commit } => {
                format!("Beat({from}, {term}, {commit})")
            }
            Body::OfferSnapshot { snapshot } => {
                format!("Offer({from}, {term}, {})", self.snapshot(snapshot))
            }
            Body::RepairResponse { slice } => format!("Mend({from}, {term}, {})", self.slice(slice)),
            Body::RepairSnapshot { snapshot } => {
                format!("MendSnapshot({from}, {term}, {})", self.snapshot(snapshot))
            }
            _ => format!("Hint({from}, {term})"),
        }
    }

    fn slice(&mut self, slice: &LogSlice) -> String {
        let entries: Vec<_> = slice.entries().iter().map(|entry| self.entry(entry)).collect();
        format!("{}, {}", id(slice.prev()), seq(entries))
    }
}

/// A member after a step.
pub(super) fn status(after: &Status) -> String {
    let Status { role, term, vote, last, durable, committed, snapshot, configured, .. } = after;
    format!(
        "A({term}, {}, \"{role}\", {}, {}, {}, {committed}, {}, {})",
        vote.map_or(0, NodeId::get),
        last.index,
        last.term,
        durable.index,
        snapshot.index,
        configured.index
    )
}

/// A sequence.
pub(super) fn seq(of: impl IntoIterator<Item = String>) -> String {
    format!("<<{}>>", of.into_iter().collect::<Vec<_>>().join(", "))
}

pub(super) fn id(id: LogId) -> String {
    format!("I({}, {})", id.index, id.term)
}

fn member(member: Member) -> String {
    format!("<<{}, {}>>", member.id, member.incarnation.0)
}

fn definition(membership: &Membership) -> String {
    let set = |ids: &mut dyn Iterator<Item = String>| format!("{{{}}}", ids.collect::<Vec<_>>().join(", "));
    let ids = |ids: &[NodeId]| set(&mut ids.iter().map(NodeId::to_string));
    format!(
        "[new |-> {}, old |-> {}, learners |-> {}, demoted |-> {}, witnesses |-> {}, who |-> {}]",
        ids(membership.voters()),
        ids(membership.outgoing()),
        ids(membership.learners()),
        ids(membership.demoted()),
        ids(membership.witnesses()),
        set(&mut membership.members().iter().map(|it| member(*it)))
    )
}
