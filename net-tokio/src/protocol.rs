//! The protocol between clients and members.
//!
//! After the handshake of [`transport`](crate::transport), a connection carries frames of [`wire`] in both
//! directions: requests, each with a number that the client chooses, and one response to each, in any order.
//! A frame's body is a [`Request`] or a [`Response`], encoded with postcard.
//!
//! ```
//! use kontiki_net_tokio::protocol::{self, Ask, Request};
//!
//! let request = Request { number: 7, ask: Ask::Status };
//! let mut bytes = Vec::new();
//! protocol::encode(&request, &mut bytes);
//! let (read, length) = protocol::decode::<Request>(&bytes, 1 << 20)?;
//! assert_eq!((read, length), (request, bytes.len()));
//! # Ok::<(), kontiki_core::wire::FrameError>(())
//! ```

pub use kontiki_core::replica::LogRange as Range;
pub use kontiki_core::replica::formation::{Founder, Introduction, Who};

use kontiki_core::event::ReadVia;
use kontiki_core::machine;
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::status::{PauseReason, RoleKind, Space};
use kontiki_core::types::{ClusterId, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_core::wire::{self, FrameError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the bodies.
pub const VERSION: u8 = 1;

/// A request of a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for the request, returned with the response.
    pub number: u64,
    /// The question or command.
    pub ask: Ask,
}

/// The kinds of requests.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Asks the member for its identity. Answered by [`Reply::Who`], even before the member has a group.
    Who,
    /// Applies a command: an encoded [`machine::Command`].
    Command(Payload),
    /// Queries the state machine.
    Query {
        /// The query, in the state machine's own encoding.
        query: Vec<u8>,
        /// How linearizability is ensured.
        via: ReadVia,
    },
    /// Answered by [`Reply::Status`].
    Status,
    /// Answered by [`Reply::Members`].
    Members,
    /// Answered by [`Reply::Logs`].
    Logs(Range),
    /// Changes the membership.
    Reconfigure {
        /// Refuse unless the membership is still that of this entry.
        expected: Option<LogId>,
        /// The changes.
        changes: Vec<Change>,
        /// Allow a change after which no majority of the voters may be reachable.
        force: bool,
        /// The addresses of new members.
        addresses: Vec<(NodeId, String)>,
    },
    /// Transfers leadership to this member; without one, to the member with the most complete log.
    Transfer(Option<NodeId>),
    /// Takes a snapshot on this member now.
    Snapshot,
    /// Introduces the sender, and asks the member for its identity. Answered by [`Reply::Who`], unless the
    /// member is just writing its group's record.
    Introduce(Introduction),
    /// Cancels the membership change that waits for new members. Answered by [`Reply::Cancelled`].
    CancelChange,
}

/// A response to a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The number of the request.
    pub number: u64,
    /// The outcome.
    pub reply: Reply,
}

/// The outcomes of requests.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The member's identity.
    Who(Who),
    /// The command is committed and applied.
    Applied {
        /// The id of its entry.
        id: LogId,
        /// The state machine's answer.
        answer: machine::Answer,
    },
    /// The command is committed and applied, but this member does not have its answer. In a session, sending
    /// the command again returns it.
    Unanswered(LogId),
    /// The state machine's answer to a query.
    Read {
        /// The state machine had applied at least the entries through this index.
        index: Index,
        /// The answer.
        answer: Vec<u8>,
    },
    /// The member's status.
    Status(NodeStatus),
    /// The members of the group.
    Members(Vec<MemberStatus>),
    /// Log entries, by rising index.
    Logs(Vec<LogEntry>),
    /// The new membership is committed, as this entry.
    Reconfigured(LogId),
    /// This new member did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The member has transferred leadership.
    Transferred,
    /// No member took over in time: this member still leads.
    NotTransferred,
    /// There is a snapshot of all entries through this one.
    Snapshot(LogId),
    /// The request had no effect, and will have none.
    Refused(Refused),
    /// The outcome is unknown: the request may take effect or not. In a session, send the command again: it
    /// is applied once.
    Unknown,
    /// The membership change was cancelled while it waited for new members, which stay learners.
    Cancelled,
}

/// The reason for a refusal, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The reason's code, the same in logs and metrics: [`kontiki_core::replica::ReplicaRefusal::code`], or a
    /// code of this crate.
    pub code: String,
    /// The reason as text, and what to do.
    pub text: String,
    /// Whether the same request may be accepted later, or by another member.
    pub retry: bool,
    /// The leader and its address, as far as this member knows them.
    pub leader: Option<(NodeId, Option<String>)>,
}

/// The phases of a member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodePhase {
    /// It waits to enter a group. The text says for what.
    Starting(String),
    /// It runs.
    Running,
    /// Too much of its directory is damaged: it refuses all requests. The text describes the damage.
    Refusing(String),
    /// It has stopped because of an error, described by the text. Start it again.
    Halted(String),
    /// It was shut down.
    Stopped,
}

/// The status of a member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its group; zero while it has none.
    pub cluster: ClusterId,
    /// The member.
    pub member: Member,
    /// Its phase.
    pub phase: NodePhase,
    /// Its role.
    pub role: RoleKind,
    /// Its kind in the membership in force.
    pub kind: MemberKind,
    /// The latest term it has seen.
    pub term: Term,
    /// The candidate it voted for in this term.
    pub vote: Option<NodeId>,
    /// The leader of this term, if known; never a candidate.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: LogId,
    /// The last entry of its log that is durable on its disk.
    pub durable: LogId,
    /// Its commit index.
    pub committed: Index,
    /// The index through which its state machine has applied the log.
    pub applied: Index,
    /// The last entry of its latest snapshot; zero if there is none.
    pub snapshot: LogId,
    /// The entry that holds the membership in force.
    pub configured: LogId,
    /// Whether there is disk space for more entries, here and in the group.
    pub space: Space,
}

/// A member of the group, as seen by one member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub member: Member,
    /// Its address, if known.
    pub address: Option<String>,
    /// Its kind in the membership in force.
    pub kind: MemberKind,
    /// Whether it leads.
    pub leads: bool,
    /// The time since it was last heard from, in milliseconds; `None` if never. Zero for the member that
    /// answers.
    pub last_contact_ms: Option<u64>,
    /// The index through which its durable log matches the leader's. Known to the leader only.
    pub matched: Option<Index>,
    /// The number of the leader's entries that it lacks. Known to the leader only.
    pub lag: Option<u64>,
    /// The reason it takes no entries at present, if it takes none. Known to the leader only.
    pub paused: Option<PauseReason>,
}

/// A log entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its index, and the term in which it was proposed: the entry's own, whichever member reports it.
    pub id: LogId,
    /// Whether it is known to be committed here.
    pub committed: bool,
    /// Its content.
    pub content: Content,
}

impl LogEntry {
    /// Returns its approximate size in bytes.
    pub fn size(&self) -> u64 {
        let content = match &self.content {
            Content::Command(command) => command.len(),
            Content::Members(members) => members.len(),
            Content::Blank | Content::Session | Content::Withheld | Content::Lost => 0,
        };
        (size_of::<Self>() + content) as u64
    }
}

/// The content of a log entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Blank: the first entry of a leader's term.
    Blank,
    /// A client's command, as the state machine gets it.
    Command(Payload),
    /// The opening, renewal or closing of a client session, or a payload that is not a command.
    Session,
    /// A membership, as text.
    Members(String),
    /// A witness does not hold the command.
    Withheld,
    /// This member's disk has lost it; it will be repaired from other members.
    Lost,
}

/// Appends the frame of a request or a response to `out`.
pub fn encode(body: &impl Serialize, out: &mut Vec<u8>) {
    wire::seal(VERSION, out, |out| {
        *out = postcard::to_extend(body, std::mem::take(out)).expect("writing to memory does not fail");
    });
}

/// Reads the first frame of `bytes`, and returns its length too. A body of more than `max_body` bytes is
/// refused before it is decoded.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max_body: usize) -> Result<(T, usize), FrameError> {
    let frame = wire::open(bytes, max_body)?;
    if frame.version != VERSION {
        return Err(FrameError::Version(frame.version));
    }
    match postcard::take_from_bytes(frame.body) {
        Ok((body, [])) => Ok((body, frame.length)),
        _ => Err(FrameError::Body),
    }
}
