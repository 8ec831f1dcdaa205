//! The protocol between clients and members.
//!
//! After the handshake of [`transport`](crate::transport), a connection carries frames of [`wire`] in both
//! directions: requests, each with a number that the client chooses, and one response to each, in any order.
//! A frame's body is a [`Numbered`] [`Request`] or [`Response`], encoded with postcard.
//!
//! ```
//! use kontiki_net_tokio::protocol::{self, Numbered, Request};
//!
//! let request = Numbered { number: 7, body: Request::Status };
//! let mut bytes = Vec::new();
//! protocol::encode(&request, &mut bytes);
//! let (read, length) = protocol::decode::<Numbered<Request>>(&bytes, 1 << 20)?;
//! assert_eq!((read, length), (request, bytes.len()));
//! # Ok::<(), kontiki_core::wire::FrameError>(())
//! ```

pub use kontiki_core::replica::formation::{Founder, Introduction, Who};
pub use kontiki_core::replica::{Ask, LogRange as Range};

use kontiki_core::membership::MemberKind;
use kontiki_core::replica;
use kontiki_core::status::{PauseReason, RoleKind, Space};
use kontiki_core::types::{ClusterId, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_core::wire::{self, FrameError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the bodies.
pub const VERSION: u8 = 2;

/// The body of a frame: a request or a response, with its number.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// The number that the client chose for the request. The response has the same.
    pub number: u64,
    /// The request or the response.
    pub body: T,
}

/// A request to a member. The replica's requests are one variant of it, so that clients, the admin port and
/// the command line have one vocabulary.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Asks the member for its identity. Answered by [`Response::Identity`], even before the member has a
    /// group.
    Identify,
    /// Introduces the sender, and asks the member for its identity. Answered by [`Response::Identity`],
    /// unless the member is just writing its group's record.
    Introduce(Introduction),
    /// Answered by [`Response::Status`].
    Status,
    /// Answered by [`Response::Members`].
    Members,
    /// A request to the replica. Answered by [`Response::Answer`].
    Ask {
        /// The replica's request. The limits of [`Ask::Entries`] are the member's, if they are lower.
        ask: Ask,
        /// The addresses of the members that it adds.
        addresses: Vec<(NodeId, String)>,
    },
}

impl Request {
    /// Returns a request for entries of the log, as many as the member gives at once.
    pub fn logs(range: Range) -> Self {
        Ask::Entries { range, max_bytes: u64::MAX }.into()
    }
}

impl From<Ask> for Request {
    fn from(ask: Ask) -> Self {
        Self::Ask { ask, addresses: Vec::new() }
    }
}

/// A response to a [`Request`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Response {
    /// The member's identity.
    Identity(Who),
    /// The member's status.
    Status(NodeStatus),
    /// The members of the group.
    Members(Vec<MemberStatus>),
    /// The outcome of a request to the replica, or the refusal of any request.
    Answer(Answer),
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Response {
    /// Returns the refusal of a request.
    pub fn refused(refused: Refused) -> Self {
        Self::Answer(Answer::Refused(refused))
    }
}

/// A replica's answer as clients get it: a refusal names the leader's address, and entries are decoded.
pub type Answer = replica::Answer<Refused, Vec<LogEntry>>;

/// The reason for a refusal, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The reason's code, the same in logs and metrics:
    /// [`ReplicaRefusal::code`](replica::ReplicaRefusal::code), or a code of this crate.
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

impl NodePhase {
    /// Returns the phase as one word, the same in logs, metrics and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Running => "running",
            Self::Refusing(_) => "refusing",
            Self::Halted(_) => "halted",
            Self::Stopped => "stopped",
        }
    }

    /// Returns why the member is in this phase, if that needs a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Starting(reason) | Self::Refusing(reason) | Self::Halted(reason) => Some(reason),
            Self::Running | Self::Stopped => None,
        }
    }
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

/// Takes all complete frames out of `bytes`. It is no `Decoder` of tokio-util, because a client's connection
/// counts the bytes of incomplete frames as signs of life, and so reads by itself.
pub(crate) fn take_frames<T: DeserializeOwned, E: From<FrameError>>(
    bytes: &mut Vec<u8>,
    max_body: usize,
    mut each: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let mut taken = 0;
    loop {
        match decode(&bytes[taken..], max_body) {
            Ok((body, length)) => {
                taken += length;
                each(body)?;
            }
            Err(FrameError::Incomplete { .. }) => {
                bytes.drain(..taken);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &mut Vec<u8>, each: impl FnMut(Numbered<Request>)) -> Result<(), FrameError> {
        let mut each = each;
        take_frames(bytes, 100, |request| {
            each(request);
            Ok(())
        })
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let mut bytes = Vec::new();
        for number in 1..=3 {
            encode(&Numbered { number, body: Request::Status }, &mut bytes);
        }
        let (mut read, mut numbers) = (Vec::new(), Vec::new());
        for byte in bytes {
            read.push(byte);
            assert_eq!(take(&mut read, |request| numbers.push(request.number)), Ok(()));
        }
        assert_eq!((numbers, read), (vec![1, 2, 3], Vec::new()));
    }

    #[test]
    fn malformed_frames_are_refused() {
        let mut read = Vec::new();
        encode(&Numbered { number: 1, body: Request::Status }, &mut read);
        read[9] ^= 1;
        assert_eq!(take(&mut read, |_| panic!("it is malformed")), Err(FrameError::Checksum));
        let mut read = vec![0xff; 20];
        let refused = take(&mut read, |_| panic!("it is too long"));
        assert!(matches!(refused, Err(FrameError::TooLong { .. })), "{refused:?}");
    }
}
