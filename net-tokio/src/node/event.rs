//! The inputs of a driver, and the receivers of its answers.

use crate::protocol::{MemberStatus, Response};
use kontiki_core::replica::{self, Answer};
use kontiki_core::types::NodeId;
use tokio::sync::{mpsc, oneshot};

/// An input of the driver.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// A frame from another member.
    Frame(Vec<u8>),
    /// The connection of this member broke.
    Broken(NodeId),
    /// A request for the replica.
    Ask(replica::Ask, Waiter),
    /// A request for the members of the group.
    Members(oneshot::Sender<Vec<MemberStatus>>),
    /// A request for the counters.
    Counters(oneshot::Sender<NodeCounters>),
    /// Shut down.
    Shutdown,
}

/// The receiver of an answer.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A caller in this process.
    Alone(oneshot::Sender<Answer>),
    /// A client connection, with the number that the client gave the request.
    Numbered(u64, mpsc::UnboundedSender<(u64, Said)>),
}

/// The answer to one request of a client connection.
#[derive(Debug)]
pub(crate) enum Said {
    /// An answer of the replica.
    Answered(Answer),
    /// A response that did not come from the replica, already in the client protocol.
    Replied(Response),
}

impl Waiter {
    pub(super) fn tell(self, answer: Answer) {
        // A caller that stopped waiting needs no answer.
        match self {
            Self::Alone(waiter) => drop(waiter.send(answer)),
            Self::Numbered(number, waiter) => drop(waiter.send((number, Said::Answered(answer)))),
        }
    }
}

/// The counters of the replica and its kernel.
#[derive(Clone, Debug, Default)]
pub struct NodeCounters {
    /// The replica's counters.
    pub replica: replica::ReplicaCounters,
    /// Messages that the kernel dropped, by reason.
    pub drops: kontiki_core::status::Drops,
    /// The entries that the log retains, by reason.
    pub retention: kontiki_core::raft::Retention,
    /// The number of log files.
    pub segments: usize,
    /// The number of requests that wait for an answer.
    pub waiting: usize,
    /// The flight recorder's counters, if the member is recorded.
    pub recorder: Option<crate::record::RecorderCounters>,
}
