//! The bytes on a connection.
//!
//! ```text
//! the dialler    7 bytes KONTIKI   1 byte version   a frame of version 1 that holds an Opening
//! the acceptor   7 bytes KONTIKI   1 byte version   a frame of version 1 that holds an Answer
//! then, to a member:
//! the dialler    8 bytes group, little-endian   a frame   ...
//! the acceptor   1 byte now and then
//! ```
//!
//! A frame is one of [`kontiki_core::wire`]: it begins with its length, its checksum and the version of its
//! body. A frame of version 0 for group 0 belongs to the transport: if empty, it is the dialler's keep-alive;
//! otherwise it holds a new [`Hello`]. What a client and its member exchange after the answer is defined by
//! [`protocol`](crate::protocol).
//!
//! Only the functions that read wait; none allocates beyond the limits.

use kontiki_core::replica::formation::{Address, MAX_ADDRESS};
use kontiki_core::types::{ClusterId, Incarnation, NodeId};
use kontiki_core::wire::{self, Frame, FrameError, HEADER};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const MAGIC: &[u8; 7] = b"KONTIKI";
/// The version of this protocol. A member that supports others dials again with the version in the answer.
pub(super) const VERSION: u8 = 1;
/// The version of the frames that hold an [`Opening`] or an [`Answer`].
const HANDSHAKE: u8 = 1;
/// The version of the transport's own frames, which members never send.
const CONTROL: u8 = 0;
/// The bytes in front of each frame's body.
pub(super) const HEAD: usize = 8 + HEADER;
/// The most groups in an introduction. A member with as many groups is not refused for having none in common.
const MAX_GROUPS: usize = 1024;
/// The most addresses in an introduction.
const MAX_KNOWN: usize = 64;
/// The longest opening or answer: the limits above, with the longest numbers.
const MAX_HELLO: usize = 4096 + MAX_GROUPS * 20 + (MAX_KNOWN + 1) * (MAX_ADDRESS + 2 + 10 + 10);
/// The number of bytes read at once.
const READ: usize = 64 << 10;
/// An incomplete frame longer than this is read into a buffer of its own.
const LARGE: usize = 16 << 10;

/// A member's introduction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The member's id.
    pub id: NodeId,
    /// Its groups, and its incarnation in each. At most 1024 are sent.
    pub groups: Vec<(ClusterId, Incarnation)>,
    /// Its own address.
    pub address: Address,
    /// The addresses of other members that it knows. At most 64 are sent.
    pub known: Vec<(NodeId, Address)>,
}

impl Hello {
    /// Returns the introduction cut to the limits.
    fn bounded(mut self) -> Self {
        self.groups.truncate(MAX_GROUPS);
        self.known.retain(|(_, address)| address.text.len() <= MAX_ADDRESS);
        self.known.truncate(MAX_KNOWN);
        if self.address.text.len() > MAX_ADDRESS {
            self.address.text.clear();
        }
        self
    }

    fn is_bounded(&self) -> bool {
        let mut addresses = self.known.iter().map(|(_, address)| address).chain([&self.address]);
        self.groups.len() <= MAX_GROUPS
            && self.known.len() <= MAX_KNOWN
            && addresses.all(|address| address.text.len() <= MAX_ADDRESS)
    }

    /// Returns whether the member runs this group, as far as the introduction tells.
    pub(super) fn has(&self, group: ClusterId) -> bool {
        self.groups.len() >= MAX_GROUPS || self.groups.iter().any(|(cluster, _)| *cluster == group)
    }

    /// Returns whether the two have no group in common although both are in groups.
    pub(super) fn is_foreign_to(&self, other: &Self) -> bool {
        let groups = !self.groups.is_empty() && !other.groups.is_empty();
        groups && !other.groups.iter().any(|(group, _)| self.has(*group)) && other.groups.len() < MAX_GROUPS
    }
}

/// The first message of a dialler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Opening {
    /// A member introduces itself, and names the member it wants to reach.
    Member { hello: Hello, to: NodeId, bulk: bool },
    /// A client, perhaps for this cluster only.
    Client { cluster: Option<ClusterId> },
}

/// The acceptor's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Welcome(Hello),
    Refused(HandshakeRefusal),
}

/// The reason a connection is refused or closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum HandshakeRefusal {
    /// The first bytes are not those of this protocol.
    NotKontiki,
    /// The peer speaks another version of this protocol.
    Version,
    /// The peer belongs to another cluster.
    OtherCluster,
    /// The peer wants to reach another member.
    WrongMember,
    /// The peer is this member itself.
    Itself,
    /// The peer has no certificate.
    NoCertificate,
    /// The peer's certificate is invalid or not signed by this cluster's authority.
    BadCertificate,
    /// The peer does not speak TLS 1.3.
    Tls,
    /// The peer introduces itself as a member, but its certificate is not a member's.
    NotAMember,
    /// There is no TLS, and the peer is on another machine.
    Insecure,
    /// There are too many connections.
    TooManyConnections,
    /// The handshake took too long.
    Timeout,
    /// The peer closed the connection during the handshake.
    Left,
    /// The message is malformed.
    Malformed,
    /// A frame's checksum is wrong.
    Corrupt,
    /// A frame is longer than the limit.
    Oversized,
    /// A frame took too long to arrive.
    Slow,
    /// The peer was silent for too long.
    Silent,
    /// A test blocks the peer.
    Blocked,
}

impl HandshakeRefusal {
    /// All reasons, in order.
    pub const ALL: [Self; 19] = [
        Self::NotKontiki,
        Self::Version,
        Self::OtherCluster,
        Self::WrongMember,
        Self::Itself,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::Tls,
        Self::NotAMember,
        Self::Insecure,
        Self::TooManyConnections,
        Self::Timeout,
        Self::Left,
        Self::Malformed,
        Self::Corrupt,
        Self::Oversized,
        Self::Slow,
        Self::Silent,
        Self::Blocked,
    ];

    /// Returns the code used in logs, metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotKontiki => "not_kontiki",
            Self::Version => "version",
            Self::OtherCluster => "other_cluster",
            Self::WrongMember => "wrong_member",
            Self::Itself => "self",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::Tls => "tls",
            Self::NotAMember => "not_a_member",
            Self::Insecure => "insecure",
            Self::TooManyConnections => "too_many_connections",
            Self::Timeout => "timeout",
            Self::Left => "left",
            Self::Malformed => "malformed",
            Self::Corrupt => "corrupt",
            Self::Oversized => "oversized",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Blocked => "blocked",
        }
    }

    /// Returns whether the peer is told: it has shown that it speaks this protocol, and is listening.
    pub(super) fn is_told(self) -> bool {
        !matches!(self, Self::NotKontiki | Self::Timeout | Self::Left | Self::Blocked)
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Encodes an opening or an answer.
pub(super) fn introduction(said: &impl Serialize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    wire::seal(HANDSHAKE, &mut out, |out| postcard(said, out));
    out
}

/// Returns the opening of a member with this introduction.
pub(super) fn opening(hello: Hello, to: NodeId, bulk: bool) -> Opening {
    Opening::Member { hello: hello.bounded(), to, bulk }
}

/// Returns the answer that accepts the peer.
pub(super) fn welcome(hello: Hello) -> Answer {
    Answer::Welcome(hello.bounded())
}

/// The reason no opening or answer could be read.
#[derive(Debug)]
pub(super) enum NoIntroduction {
    /// The bytes are neither.
    Not(HandshakeRefusal),
    /// The connection ended.
    Ended(io::Error),
}

/// Reads one opening or answer, and not a byte more. Returns its version too; the body of another version may
/// be unreadable.
pub(super) async fn introduced<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<(u8, Option<T>), NoIntroduction> {
    use NoIntroduction::{Ended, Not};
    let mut head = [0; MAGIC.len() + 1];
    from.read_exact(&mut head).await.map_err(Ended)?;
    if !head.starts_with(MAGIC) {
        return Err(Not(HandshakeRefusal::NotKontiki));
    }
    let version = head[MAGIC.len()];
    let mut bytes = vec![0; HEADER];
    from.read_exact(&mut bytes).await.map_err(Ended)?;
    match wire::open(&bytes, MAX_HELLO) {
        Err(FrameError::Incomplete { needed }) => {
            bytes.resize(needed, 0);
            from.read_exact(&mut bytes[HEADER..]).await.map_err(Ended)?;
        }
        Err(FrameError::TooLong { .. }) => return Err(Not(HandshakeRefusal::Oversized)),
        Ok(_) | Err(_) => {}
    }
    let frame = wire::open(&bytes, MAX_HELLO).map_err(|_| Not(HandshakeRefusal::Corrupt))?;
    let said = postcard::from_bytes(frame.body).ok();
    // Another version may hold any body, even one that can be read here: a refusal.
    if said.is_none() && version == VERSION {
        return Err(Not(HandshakeRefusal::Malformed));
    }
    Ok((version, said))
}

impl Opening {
    pub(super) fn is_bounded(&self) -> bool {
        match self {
            Self::Member { hello, .. } => hello.is_bounded(),
            Self::Client { .. } => true,
        }
    }
}

impl Answer {
    pub(super) fn is_bounded(&self) -> bool {
        match self {
            Self::Welcome(hello) => hello.is_bounded(),
            Self::Refused(_) => true,
        }
    }
}

fn postcard(said: &impl Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(said, std::mem::take(out)).expect("writing to memory does not fail");
}

/// Encodes the dialler's keep-alive; with a new introduction, the change.
pub(super) fn control(hello: Option<Hello>) -> Vec<u8> {
    let mut out = ClusterId(0).0.to_le_bytes().to_vec();
    wire::seal(CONTROL, &mut out, |out| {
        if let Some(hello) = hello {
            postcard(&hello.bounded(), out);
        }
    });
    out
}

/// What was received from a member.
#[derive(Debug, PartialEq)]
pub(super) enum Arrived {
    Frame(ClusterId, Vec<u8>),
    Hello(Hello),
    Beat,
}

/// Decodes frames from the received bytes. It is no `Decoder` of tokio-util, which does not show the progress
/// of an incomplete frame: a frame that grows too slowly ends its connection.
#[derive(Debug)]
pub(super) struct Inflow {
    max_body: usize,
    /// The received bytes, and how many of them are consumed.
    buffer: Vec<u8>,
    at: usize,
    /// An incomplete long frame, and its full length: it is not copied a second time.
    large: Option<(ClusterId, Vec<u8>, usize)>,
}

impl Inflow {
    pub(super) fn new(max_body: usize) -> Self {
        Self { max_body, buffer: Vec::with_capacity(READ), at: 0, large: None }
    }

    /// Returns whether a frame is incomplete.
    pub(super) fn is_pending(&self) -> bool {
        self.large.is_some() || self.at < self.buffer.len()
    }

    /// Reads once; call it when [`Self::next`] returns nothing. Returns the number of bytes read, 0 at the
    /// end. Cancel safe.
    pub(super) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        if let Some((_, bytes, whole)) = &mut self.large {
            let missing = *whole - bytes.len();
            if bytes.len() == bytes.capacity() {
                // Allocates no memory for bytes that are announced but not received.
                bytes.reserve_exact(missing.min(bytes.len()));
            }
            return from.take(missing as u64).read_buf(bytes).await;
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        from.read_buf(&mut self.buffer).await
    }

    /// Returns the next complete frame, verified.
    pub(super) fn next(&mut self) -> Result<Option<Arrived>, HandshakeRefusal> {
        if let Some((_, bytes, whole)) = &self.large {
            if bytes.len() < *whole {
                return Ok(None);
            }
            let Some((group, bytes, _)) = self.large.take() else { return Ok(None) };
            let version = wire::open(&bytes, self.max_body).map_err(broken)?.version;
            return arrived(group, version, bytes).map(Some);
        }
        let Some((group, rest)) = self.buffer[self.at..].split_first_chunk() else { return Ok(None) };
        let group = ClusterId(u64::from_le_bytes(*group));
        match wire::open(rest, self.max_body) {
            Ok(Frame { version, length, .. }) => {
                let bytes = rest[..length].to_vec();
                self.at += 8 + length;
                arrived(group, version, bytes).map(Some)
            }
            Err(FrameError::Incomplete { needed }) => {
                if needed > LARGE {
                    let mut bytes = Vec::with_capacity(needed.min(READ));
                    bytes.extend_from_slice(rest);
                    self.at = self.buffer.len();
                    self.large = Some((group, bytes, needed));
                }
                Ok(None)
            }
            Err(error) => Err(broken(error)),
        }
    }
}

fn arrived(group: ClusterId, version: u8, bytes: Vec<u8>) -> Result<Arrived, HandshakeRefusal> {
    match (group, version) {
        (ClusterId(0), CONTROL) if bytes.len() == HEADER => Ok(Arrived::Beat),
        (ClusterId(0), CONTROL) => match postcard::from_bytes::<Hello>(&bytes[HEADER..]) {
            Ok(hello) if hello.is_bounded() => Ok(Arrived::Hello(hello)),
            Ok(_) | Err(_) => Err(HandshakeRefusal::Malformed),
        },
        _ => Ok(Arrived::Frame(group, bytes)),
    }
}

fn broken(error: FrameError) -> HandshakeRefusal {
    match error {
        FrameError::TooLong { .. } => HandshakeRefusal::Oversized,
        FrameError::Checksum => HandshakeRefusal::Corrupt,
        FrameError::Incomplete { .. } | FrameError::Version(_) | FrameError::Body => {
            HandshakeRefusal::Malformed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let [id, other] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let address = |text: &str, stamp| Address { text: text.into(), stamp };
        Hello {
            id,
            groups: vec![(ClusterId(7), Incarnation(3))],
            address: address("a:1", 5),
            known: vec![(other, address("b:2", 6))],
        }
    }

    fn frame(group: u64, version: u8, body: &[u8]) -> Vec<u8> {
        let mut out = group.to_le_bytes().to_vec();
        wire::seal(version, &mut out, |out| out.extend_from_slice(body));
        out
    }

    async fn all(bytes: &[u8], chunk: usize, max_body: usize) -> Result<Vec<Arrived>, HandshakeRefusal> {
        let (mut inflow, mut arrived) = (Inflow::new(max_body), vec![]);
        for mut piece in bytes.chunks(chunk) {
            while !piece.is_empty() {
                inflow.fill(&mut piece).await.unwrap();
                while let Some(next) = inflow.next()? {
                    arrived.push(next);
                }
            }
        }
        assert!(!inflow.is_pending(), "all of it was taken");
        Ok(arrived)
    }

    #[tokio::test]
    async fn frames_are_the_same_however_the_bytes_come() {
        let bodies = [vec![1; 10], vec![], vec![2; LARGE + 5], vec![3; 3 * READ], vec![4; LARGE - HEADER]];
        let mut bytes: Vec<u8> = bodies.iter().flat_map(|body| frame(9, 2, body)).collect();
        bytes.extend(control(None));
        bytes.extend(control(Some(hello())));
        let wanted = bodies.iter().map(|body| Arrived::Frame(ClusterId(9), frame(9, 2, body)[8..].to_vec()));
        let wanted: Vec<_> = wanted.chain([Arrived::Beat, Arrived::Hello(hello())]).collect();
        for chunk in [1, 7, 4096, 1 << 20] {
            assert_eq!(all(&bytes, chunk, 1 << 20).await.as_ref(), Ok(&wanted), "{chunk} bytes at once");
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_changed_or_too_long_is_none() {
        let long = frame(9, 2, &[2; 40_000]);
        assert_eq!(all(&long, 4096, 39_999).await, Err(HandshakeRefusal::Oversized));
        for body in [100, 40_000] {
            let mut bytes = frame(9, 2, &vec![2; body]);
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(all(&bytes, 4096, 1 << 20).await, Err(HandshakeRefusal::Corrupt));
        }
        assert_eq!(all(&frame(0, CONTROL, b"?"), 4096, 1 << 20).await, Err(HandshakeRefusal::Malformed));
    }

    /// If this fails, a member of another version of this library cannot read this version's frames.
    #[test]
    fn the_bytes_of_a_handshake_stay() {
        let bytes = introduction(&opening(hello(), NodeId::new(2).unwrap(), true));
        let body = [0, 1, 1, 7, 3, 3, b'a', b':', b'1', 5, 1, 2, 3, b'b', b':', b'2', 6, 2, 1];
        assert_eq!(bytes[..8], *b"KONTIKI\x01");
        assert_eq!((bytes[8], bytes[16]), (19, 1));
        assert_eq!(bytes[17..], body);
        assert_eq!(introduction(&Answer::Refused(HandshakeRefusal::Silent))[17..], [1, 17]);
        assert_eq!(introduction(&Opening::Client { cluster: None })[17..], [1, 0]);
        for (refusal, number) in HandshakeRefusal::ALL.into_iter().zip(0..) {
            assert_eq!(postcard::to_allocvec(&refusal).unwrap(), [number], "{refusal}");
        }
    }

    #[tokio::test]
    async fn the_longest_hello_is_within_the_limits_and_a_longer_one_is_cut() {
        let last = NodeId::new(u64::MAX).unwrap();
        let address = |length| Address { text: "x".repeat(length), stamp: u64::MAX };
        let mut known = vec![(last, address(MAX_ADDRESS)); 2 * MAX_KNOWN];
        known[0].1 = address(MAX_ADDRESS + 1);
        let groups = vec![(ClusterId(u64::MAX), Incarnation(u64::MAX)); MAX_GROUPS + 1];
        let hello = Hello { id: last, groups, address: address(MAX_ADDRESS), known };
        assert!(!hello.is_bounded());
        let bytes = introduction(&welcome(hello));
        assert!(bytes.len() <= MAX_HELLO, "{} bytes", bytes.len());
        let (version, said) = introduced::<Answer>(&mut &bytes[..]).await.unwrap();
        let Some(Answer::Welcome(said)) = said else { panic!("{said:?}") };
        assert_eq!((version, said.groups.len(), said.known.len()), (VERSION, MAX_GROUPS, MAX_KNOWN));
        assert!(said.is_bounded() && said.known.iter().all(|(_, it)| it.text.len() == MAX_ADDRESS));
    }

    #[test]
    fn who_has_no_group_in_common_is_foreign_unless_one_of_the_two_has_none() {
        let with = |groups: &[u64]| Hello {
            groups: groups.iter().map(|group| (ClusterId(*group), Incarnation(0))).collect(),
            ..hello()
        };
        assert!(with(&[1, 2]).is_foreign_to(&with(&[3])));
        assert!(!with(&[1, 2]).is_foreign_to(&with(&[3, 2])));
        assert!(!with(&[1]).is_foreign_to(&with(&[])) && !with(&[]).is_foreign_to(&with(&[1])));
    }
}
