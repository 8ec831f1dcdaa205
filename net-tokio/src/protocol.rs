//! What a client and a member say to each other.
//!
//! After the handshake of [`transport`](crate::transport), a connection carries frames of [`wire`] in both
//! directions: requests, each with a number that its client chose, and one response to each, in whatever
//! order they come about. A frame's body is a [`Request`] or a [`Response`], as postcard.
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

/// What a client wants.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for it, which comes back with the response.
    pub number: u64,
    /// What is wanted.
    pub ask: Ask,
}

/// What may be wanted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Who are you? Answered by [`Reply::Who`], by a member that waits to be founded as well.
    Who,
    /// Apply this: an encoded [`machine::Command`].
    Command(Payload),
    /// Ask the state machine.
    Query {
        /// What; the state machine knows what it means.
        query: Vec<u8>,
        /// How it is made sure that nothing is missed.
        via: ReadVia,
    },
    /// Answered by [`Reply::Status`].
    Status,
    /// Answered by [`Reply::Members`].
    Members,
    /// Answered by [`Reply::Logs`].
    Logs(Range),
    /// Have other members.
    Reconfigure {
        /// Only if the membership is still that of this entry.
        expected: Option<LogId>,
        /// What to change.
        changes: Vec<Change>,
        /// Though no majority may be left that can be reached.
        force: bool,
        /// Where newcomers are to be reached.
        addresses: Vec<(NodeId, String)>,
    },
    /// Have another leader; where not set, whoever has most of the log.
    Transfer(Option<NodeId>),
    /// Take a snapshot here, now.
    Snapshot,
    /// "I am this member: who are you?" Answered by [`Reply::Who`], unless the member is just writing down
    /// its group.
    Introduce(Introduction),
    /// Give up the change of the membership that waits for newcomers. Answered by [`Reply::Cancelled`].
    CancelChange,
}

/// A response.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The number of the request.
    pub number: u64,
    /// What came of it.
    pub reply: Reply,
}

/// What may come of a request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Who this is.
    Who(Who),
    /// The command is committed and applied.
    Applied {
        /// The entry that holds it.
        id: LogId,
        /// What the state machine made of it.
        answer: machine::Answer,
    },
    /// The command is committed and applied, and its answer is not to be had here. In a session, the same
    /// command again brings it.
    Unanswered(LogId),
    /// The state machine's answer to a query.
    Read {
        /// It held everything through here at least.
        index: Index,
        /// The answer.
        answer: Vec<u8>,
    },
    /// How the member is.
    Status(NodeStatus),
    /// Who is in the group.
    Members(Vec<MemberStatus>),
    /// Entries, by rising index.
    Logs(Vec<LogEntry>),
    /// The new membership is committed, as this entry.
    Reconfigured(LogId),
    /// This newcomer did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The member leads no more.
    Transferred,
    /// Nobody took over in time: the member leads on.
    NotTransferred,
    /// There is a snapshot of everything through this entry.
    Snapshot(LogId),
    /// Nothing was done, and nothing will be.
    Refused(Refused),
    /// It may come to pass, or not. In a session, the same command again is applied once and brings the
    /// answer.
    Unknown,
    /// The change of the membership was given up while it waited for newcomers, which stay learners.
    Cancelled,
}

/// Why nothing was done, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The reason's code, the same in logs and metrics: [`kontiki_core::replica::ReplicaRefusal::code`], or
    /// one of this crate's.
    pub code: String,
    /// The reason in words, and what to do.
    pub text: String,
    /// Whether the same request may be taken a little later, or elsewhere.
    pub retry: bool,
    /// Who leads, and where it is to be reached, as far as this member knows.
    pub leader: Option<(NodeId, Option<String>)>,
}

/// How far a member is in its life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodePhase {
    /// It waits to be in a group: this says for what.
    Starting(String),
    /// It takes part.
    Running,
    /// Too much of its directory is damaged: it refuses everything, and says what is missing.
    Refusing(String),
    /// It goes no further: this says why. Start it again.
    Halted(String),
    /// It was shut down.
    Stopped,
}

/// How a member is at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its group; zero as long as it has none.
    pub cluster: ClusterId,
    /// The member.
    pub member: Member,
    /// How far it is in its life.
    pub phase: NodePhase,
    /// What it is.
    pub role: RoleKind,
    /// What its group takes it for.
    pub kind: MemberKind,
    /// The latest term it has seen.
    pub term: Term,
    /// Whom it voted for in this term.
    pub vote: Option<NodeId>,
    /// Who leads this term, where it knows; never a mere candidate.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: LogId,
    /// The last entry of its log that is on its disk.
    pub durable: LogId,
    /// How far it knows the log to be committed.
    pub committed: Index,
    /// How far its state machine has applied the log.
    pub applied: Index,
    /// The last entry of its latest snapshot; zero where there is none.
    pub snapshot: LogId,
    /// The entry that holds the membership in force.
    pub configured: LogId,
    /// Whether there is space for more entries, on its disk and on those of the group.
    pub space: Space,
}

/// A member of the group, as one member sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub member: Member,
    /// Where it is to be reached, where that is known.
    pub address: Option<String>,
    /// What the group takes it for.
    pub kind: MemberKind,
    /// Whether it leads.
    pub leads: bool,
    /// How long ago something was heard from it, in milliseconds; nothing ever, where not set. Zero for the
    /// member that answers.
    pub last_contact_ms: Option<u64>,
    /// How far its log agrees with the leader's, on its disk: known to the leader alone.
    pub matched: Option<Index>,
    /// How many entries it lacks of the leader's log: known to the leader alone.
    pub lag: Option<u64>,
    /// Why it takes no entries at present, if it takes none: known to the leader alone.
    pub paused: Option<PauseReason>,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its place, and the term in which it was proposed: the entry's own, whoever tells of it.
    pub id: LogId,
    /// Whether it is known to be committed here.
    pub committed: bool,
    /// What is in it.
    pub content: Content,
}

impl LogEntry {
    /// About how many bytes it takes.
    pub fn size(&self) -> u64 {
        let content = match &self.content {
            Content::Command(command) => command.len(),
            Content::Members(members) => members.len(),
            Content::Blank | Content::Session | Content::Withheld | Content::Lost => 0,
        };
        (size_of::<Self>() + content) as u64
    }
}

/// What is in an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: a leader began with it.
    Blank,
    /// A client's command, as the state machine gets it.
    Command(Payload),
    /// A client opens, keeps or closes a session, or proposed what is no command.
    Session,
    /// A membership, in words.
    Members(String),
    /// A witness does not hold it.
    Withheld,
    /// This member's disk has lost it; it will be had from others.
    Lost,
}

/// Appends the frame of a request or a response to `out`.
pub fn encode(body: &impl Serialize, out: &mut Vec<u8>) {
    wire::seal(VERSION, out, |out| {
        *out = postcard::to_extend(body, std::mem::take(out)).expect("writing to memory does not fail");
    });
}

/// Reads the first frame of `bytes`; how long it is. A body of more than `max_body` bytes is refused before
/// anything is done about it.
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
