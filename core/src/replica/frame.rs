//! What travels between two replicas: the kernel's messages, and what the replicas say to one another beside
//! them.
//!
//! A frame is that of [`wire`]; its version says what the body is:
//!
//! | version | body |
//! |---|---|
//! | 1 | a [`Message`], as postcard |
//! | 2 | one byte, the latest version that the sender speaks; then an [`Envelope`], as postcard |
//! | 3 | the same, with [`Body::Pause`](crate::message::Body::Pause) |
//!
//! A member sends in the older of its own version and its peer's, and takes a peer for one that speaks the
//! oldest until it has heard otherwise. What that version cannot say is not sent. So that two members that
//! both speak a later one find out, each says so now and then in a [`ReplicaBody::Hello`], which an older
//! member drops as a frame of a version it does not know.
//!
//! ```
//! use kontiki_core::message::{Body, Message};
//! use kontiki_core::replica::frame::{self, Envelope};
//! use kontiki_core::types::{ClusterId, Identity, NodeId, Term};
//!
//! let [from, to] = [1, 2].map(|id| NodeId::new(id).expect("not zero"));
//! let message = Message::new(Identity::new(ClusterId(7), from), to.into(), Term::new(3), Body::Outdated);
//! let envelope = Envelope::Raft(message);
//! let mut bytes = Vec::new();
//! assert!(frame::encode(&envelope, 2, 2, &mut bytes), "version 2 can say it");
//! let frame = frame::decode(&bytes, 2, 1 << 20)?;
//! assert_eq!((frame.envelope, frame.speaks), (envelope, Some(2)));
//! # Ok::<(), kontiki_core::wire::FrameError>(())
//! ```

use crate::action::Refusal;
use crate::config;
use crate::machine;
use crate::message::Message;
use crate::replica::options::MAX_CHUNK_BYTES;
use crate::types::{ClusterId, LogId, Member, Payload, Term};
use crate::wire::{self, FrameError, from_postcard, postcard};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a frame holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Envelope {
    /// What one kernel says to another.
    Raft(Message),
    /// What one replica says to another.
    Replica(ReplicaMessage),
}

/// A body with its sender and its addressee.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaMessage {
    /// Whose it is: no other cluster listens to it.
    pub cluster: ClusterId,
    /// Who sent it.
    pub from: Member,
    /// Whom it is for.
    pub to: Member,
    /// What it says.
    pub body: ReplicaBody,
}

/// What replicas say to one another. Notes may be lost, repeated, delayed and reordered at will, like
/// messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReplicaBody {
    /// "I speak the version that stands in front of this."
    Hello,
    /// "Send me this piece of your snapshot."
    SnapshotRequest {
        /// The snapshot's last entry.
        last: LogId,
        /// Which file of it, where pieces have come already: of another, nothing is wanted.
        edition: Option<u64>,
        /// Which piece of the file; 0 is its header, 1 the first chunk.
        piece: u64,
    },
    /// A piece of a snapshot file, as it stands there.
    SnapshotPiece {
        /// The snapshot's last entry.
        last: LogId,
        /// Which file of it: made from the digest of its content and the length of its chunks.
        edition: u64,
        /// Which piece this is.
        piece: u64,
        /// The bytes of this part of the file.
        bytes: Payload,
    },
    /// "I do not have that snapshot", or not any more.
    SnapshotGone {
        /// Its last entry: as asked.
        last: LogId,
        /// Which file of it: as asked.
        edition: Option<u64>,
    },
    /// "Propose this for me." A member that does not lead in this term refuses: a command is forwarded once
    /// at most.
    Forward {
        /// The term in which the addressee leads. Makes the number mean one thing only: see [`ForwardId`].
        term: Term,
        /// Which command it is.
        id: ForwardId,
        /// What to propose.
        command: Payload,
    },
    /// The answer to [`ReplicaBody::Forward`].
    Forwarded {
        /// Which command it was.
        id: ForwardId,
        /// What became of it.
        reply: Reply,
    },
}

/// Which command of which life of a member. The leader takes each once: a copy that the network made is no
/// second command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ForwardId {
    /// Which life of the member that sends it on: no two have the same.
    pub life: u64,
    /// Which command since.
    pub number: u64,
}

/// What became of a command that was sent on.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is applied, and this is its answer.
    Applied {
        /// The entry that holds it.
        id: LogId,
        /// What the state machine made of it.
        answer: machine::Answer,
    },
    /// It is committed as this entry, and its answer is not to be had.
    Unanswered(LogId),
    /// Nothing was done, and nothing will be.
    Refused(Refusal),
    /// It may commit, or not.
    Unknown,
}

/// A frame that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// What it holds.
    pub envelope: Envelope,
    /// The version it is of.
    pub version: u8,
    /// The latest version that its sender speaks, where it says.
    pub speaks: Option<u8>,
}

/// The oldest version that can say this.
pub fn version_of(envelope: &Envelope) -> u8 {
    match envelope {
        Envelope::Raft(message) => wire::version_of(&message.body),
        Envelope::Replica(_) => 2,
    }
}

/// The longest body of a frame between members with these options, chunks of snapshots included: the limit to
/// give to [`decode`].
pub fn max_body(options: &config::Options) -> usize {
    wire::max_body(options).max(MAX_CHUNK_BYTES as usize + FIXED)
}

/// More than all of a body but its bytes takes.
const FIXED: usize = 256;

/// Appends the frame of `envelope` in this version to `out`, from a sender that speaks `speaks`. Says whether
/// the version can say it: where it cannot, nothing is appended.
pub fn encode(envelope: &Envelope, version: u8, speaks: u8, out: &mut Vec<u8>) -> bool {
    if version < version_of(envelope) {
        return false;
    }
    match envelope {
        Envelope::Raft(message) if version == 1 => wire::encode(message, out),
        envelope => wire::seal(version, out, |out| {
            out.push(speaks);
            postcard(envelope, out);
        }),
    }
    true
}

/// Reads the one frame that `bytes` are, of any version through `speaks`. A body of more than `max_body`
/// bytes is refused before anything is done about it.
pub fn decode(bytes: &[u8], speaks: u8, max_body: usize) -> Result<Decoded, FrameError> {
    let wire::Frame { version, body, length } = wire::open(bytes, max_body)?;
    if length != bytes.len() {
        return Err(FrameError::Body);
    }
    if version < wire::OLDEST || version > speaks.min(wire::VERSION) {
        return Err(FrameError::Version(version));
    }
    let (envelope, speaks) = match (version, body.split_first()) {
        (1, _) => (Envelope::Raft(from_postcard(body)?), None),
        (_, Some((&speaks, body))) => (from_postcard(body)?, Some(speaks)),
        (_, None) => return Err(FrameError::Body),
    };
    if version_of(&envelope) > version || speaks.is_some_and(|speaks| speaks < version) {
        return Err(FrameError::Body);
    }
    Ok(Decoded { envelope, version, speaks })
}
