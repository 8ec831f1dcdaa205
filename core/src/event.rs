//! What a host tells the kernel.

use crate::message::Message;
use crate::types::{Index, NodeId, Payload, RequestId, WriteSeq};
use alloc::vec::Vec;

/// Something that happened in the world outside. The kernel takes them one at a time, in any order that the world
/// brings them, with the duties that each names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// Time has passed. The host sends this no later than [`Raft::deadline`](crate::raft::Raft::deadline); sooner, or
    /// more often, does no harm, and every other event looks at the clock too.
    Wake,
    /// A message arrived. It may be garbage: the kernel drops what it cannot use, and counts it.
    Receive(Message),
    /// A client wants a payload in the log. Answered by exactly one
    /// [`Action::Respond`](crate::action::Action::Respond).
    Propose(Proposal),
    /// Several at once: they share one write and one message to each follower. Each is answered for itself.
    ProposeBatch(Vec<Proposal>),
    /// The write of this number and all before it are on the disk, and will be there after a crash.
    Persisted(WriteSeq),
    /// Everything through here, as named by [`Action::Apply`](crate::action::Action::Apply), is applied.
    Applied(Index),
    /// The host's connection to this member broke. A hint: where it was the leader, an election is considered at once
    /// rather than after a timeout. A false hint costs a little traffic and nothing else.
    PeerUnreachable(NodeId),
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
