//! What a host tells the kernel.

use crate::log::{Entries, Snapshot};
use crate::membership::Change;
use crate::message::Message;
use crate::types::{Index, LogId, NodeId, Payload, RequestId, WriteSeq};
use alloc::vec::Vec;

/// Something that happened in the world outside. The kernel takes them one at a time, in any order that the
/// world brings them, with the duties that each names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// Time has passed. The host sends this no later than [`Raft::deadline`](crate::raft::Raft::deadline);
    /// sooner, or more often, does no harm, and every other event looks at the clock too: see
    /// [`Instant`](crate::time::Instant) for what clock that must be.
    Wake,
    /// A message arrived. It may be garbage: the kernel drops what it cannot use, and counts it.
    Receive(Message),
    /// A client wants a payload in the log. Answered by exactly one
    /// [`Action::Respond`](crate::action::Action::Respond), as is every other request below.
    Propose(Proposal),
    /// Several at once: they share one write and one message to each follower. Each is answered for itself.
    ProposeBatch(Vec<Proposal>),
    /// A client wants to read what is written by now.
    Read(Read),
    /// An operator wants other members. Only the leader takes it.
    Reconfigure(Reconfigure),
    /// An operator wants the change of the membership given up that waits for newcomers to catch up. Only the
    /// leader takes it. Both this request and that of the change are answered with
    /// [`Outcome::Cancelled`](crate::action::Outcome::Cancelled).
    CancelChange(RequestId),
    /// An operator wants another leader. Only the leader takes it.
    Transfer(Transfer),
    /// The write of this number and all before it are on the disk, and will be there after a crash. Not
    /// needed where [writes are synchronous](crate::config::Options::synchronous_writes).
    Persisted(WriteSeq),
    /// Everything through here, as named by [`Action::Apply`](crate::action::Action::Apply) or
    /// [`Action::Restore`](crate::action::Action::Restore), is applied. Not needed where
    /// [applying is synchronous](crate::config::Options::synchronous_apply).
    Applied(Index),
    /// The host has a snapshot of its state machine with everything applied through here, and it is durable:
    /// what it holds may leave the log. When to take one is the host's to decide. The kernel records it with
    /// its next write; what else belongs into it is to be had from
    /// [`Raft::snapshot_at`](crate::raft::Raft::snapshot_at) before.
    SnapshotTaken(Index),
    /// The bytes that [`Action::FetchSnapshot`](crate::action::Action::FetchSnapshot) asked for are here, and
    /// durable, beside whatever there was before.
    SnapshotFetched(Snapshot),
    /// The bytes of the snapshot with this last entry cannot be had; another may be offered.
    SnapshotFailed(LogId),
    /// What [`Action::LoadEntries`](crate::action::Action::LoadEntries) asked for.
    EntriesLoaded(EntriesLoaded),
    /// Whether there is no space on this member's disk for more than has been handed out to be written. While
    /// there is none, a leader refuses new work with [`Refusal::DiskFull`](crate::action::Refusal::DiskFull),
    /// and a follower takes no entries; reads and votes go on. A host that keeps space in reserve for what
    /// was handed out says it in time.
    DiskFull(bool),
    /// The host's connection to this member broke. A hint: where it was the leader, an election is considered
    /// at once rather than after a timeout. A false hint costs a little traffic and nothing else.
    PeerUnreachable(NodeId),
    /// The host is about to stop this member. Everything that still waits is answered, a leader bids the best
    /// of its followers to take over, and from then on this member does nothing and refuses every request.
    /// What was handed out to be written should still be.
    Shutdown,
}

/// A payload that a client wants in the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Proposal {
    /// What the answer will be addressed to.
    pub request: RequestId,
    /// What to put into the log.
    pub payload: Payload,
}

/// A client's wish to read. The answer, [`Outcome::Ready`](crate::action::Outcome::Ready), comes when this
/// member's state machine holds every write that had been acknowledged to any client when the event came:
/// read it then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Read {
    /// What the answer will be addressed to.
    pub request: RequestId,
    /// How it is made sure that nothing newer is missed.
    pub via: ReadVia,
}

/// How a read makes sure that it misses nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReadVia {
    /// The leader asks a quorum whether it still leads (thesis 6.4, ReadIndex). Any member with a state
    /// machine may be asked; it asks the leader. Depends on no clock.
    Quorum,
    /// The leader answers at once while its lease lasts (thesis 6.4.1), and otherwise as by
    /// [`ReadVia::Quorum`]. Linearizable only while clocks keep to
    /// [`max_clock_drift_ppm`](crate::config::Options::max_clock_drift_ppm), and only where
    /// [`lease_reads`](crate::config::Options::lease_reads) is on for all members.
    Lease,
}

/// An operator's wish for other members.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reconfigure {
    /// What the answer will be addressed to.
    pub request: RequestId,
    /// Where set, do it only if the membership is still that of this entry
    /// ([`Log::configured`](crate::log::Log::configured)): what the operator looked at when deciding.
    pub expected: Option<LogId>,
    /// What to change, all of it together.
    pub changes: Vec<Change>,
    /// Do it even where no majority of the voters that it leaves has been heard of lately: until enough of
    /// them are back, the group can then decide nothing. Without it such a change is refused with
    /// [`Refusal::NoReachableMajority`](crate::action::Refusal::NoReachableMajority).
    pub force: bool,
}

/// An operator's wish for another leader (thesis 3.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Transfer {
    /// What the answer will be addressed to.
    pub request: RequestId,
    /// The next leader; `None` chooses the voter with most of the log.
    pub to: Option<NodeId>,
}

/// Entries read back from the host's log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntriesLoaded {
    /// For whom they are: as asked.
    pub to: NodeId,
    /// The entry before the first: as asked.
    pub after: LogId,
    /// As many of those that were asked for as fit; none where they could not be read, which is tried again
    /// later.
    pub entries: Entries,
}
