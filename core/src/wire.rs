//! Frames: how a [`Message`] travels as bytes.
//!
//! ```text
//!   4 bytes   length of the body, little-endian
//!   4 bytes   CRC-32C of the version and the body, little-endian
//!   1 byte    version of the body's format
//!   length    the body; in version 1 the message, as postcard
//! ```
//!
//! The first nine bytes are the same in every version. A frame that was changed on its way is refused, never
//! misread; what a frame makes this member allocate is bounded by its length, which is bounded by the caller.
//! [`seal`] and [`open`] are the framing alone, for protocols that send more than the kernel's messages:
//! those define the body of a later version.
//!
//! ```
//! use kontiki_core::config::Options;
//! use kontiki_core::message::{Body, Message};
//! use kontiki_core::types::{ClusterId, Identity, NodeId, Term};
//! use kontiki_core::wire::{self, FrameError};
//!
//! let [from, to] = [1, 2].map(|id| NodeId::new(id).expect("not zero"));
//! let from = Identity::new(ClusterId(7), from);
//! let message = Message::new(from, to.into(), Term::new(3), Body::Voted { granted: true });
//! let mut frame = Vec::new();
//! wire::encode(&message, &mut frame);
//! let max = wire::max_body(&Options::default());
//! assert_eq!(wire::decode(&frame, max), Ok((message, frame.len())));
//!
//! *frame.last_mut().expect("not empty") ^= 1;
//! assert_eq!(wire::decode(&frame, max), Err(FrameError::Checksum));
//! ```

use crate::config::Options;
use crate::crc32c::CRC32;
use crate::log::Entry;
use crate::membership::MAX_MEMBERS;
use crate::message::{Body, Message};
use alloc::vec::Vec;
use core::fmt;

/// The oldest format, which every member understands: a body is one message. It is what [`encode`] writes.
pub const OLDEST: u8 = 1;

/// The latest format that this version of the library speaks.
pub const VERSION: u8 = 3;

/// The bytes in front of a frame's body.
pub const HEADER: usize = 9;

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The frame goes on: it has at least this many bytes.
    Incomplete {
        /// How many bytes to wait for.
        needed: usize,
    },
    /// The body is longer than the caller allows.
    TooLong {
        /// How long it claims to be.
        length: usize,
        /// How long it may be.
        max: usize,
    },
    /// The bytes are not those that were sent.
    Checksum,
    /// The frame is of a format that this member does not speak.
    Version(u8),
    /// The bytes are those that were sent, but they are no message.
    Body,
}

/// The longest body of a frame that members with these options send: the limit to give to [`decode`]. All
/// members of a group should have the same, or one may refuse for ever what another keeps sending.
pub fn max_body(options: &Options) -> usize {
    let entries = options.max_append_bytes.max(options.max_payload_bytes.saturating_add(Entry::OVERHEAD));
    usize::try_from(entries.saturating_add(FIXED)).unwrap_or(usize::MAX)
}

/// More than all of a message but its entries takes, or all of one that holds a membership. What an entry
/// takes besides its payload is less than [`Entry::OVERHEAD`], and so is what a membership takes for each
/// member.
const FIXED: u64 = 128 + 2 * MAX_MEMBERS as u64 * Entry::OVERHEAD;

/// The oldest version that can say this. What a version cannot say is not sent to a member that speaks no
/// later one.
pub fn version_of(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. }
        | Body::PreVoted { .. }
        | Body::RequestVote { .. }
        | Body::Voted { .. }
        | Body::Append { .. }
        | Body::Appended { .. }
        | Body::Rejected { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatAck { .. }
        | Body::Commit { .. }
        | Body::TimeoutNow { .. }
        | Body::OfferSnapshot { .. }
        | Body::SnapshotUnavailable { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexIs { .. }
        | Body::WrongIncarnation
        | Body::StaleIncarnation { .. }
        | Body::Outdated => 1,
        Body::RepairRequest { .. }
        | Body::RepairSnapshotRequest { .. }
        | Body::RepairResponse { .. }
        | Body::RepairSnapshot { .. } => 2,
        Body::Pause { .. } => 3,
    }
}

/// Puts a message into words that this version has, where it has none for it and others say the most
/// important part: a member that takes no entries has still heard the heartbeat.
pub fn reword(message: Message, version: u8) -> Message {
    match message.body {
        Body::Pause { round, received, matched, .. } if version < version_of(&message.body) => {
            Message { body: Body::HeartbeatAck { round, received, matched }, ..message }
        }
        _ => message,
    }
}

/// Appends the frame of a message to `out`, in the oldest format, whether an older member understands all of
/// it or not: see [`version_of`].
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    seal(OLDEST, out, |out| postcard(message, out));
}

/// Reads the message in the frame at the start of `bytes`, which must be of the oldest format, and says how
/// many of them it took. A body of more than `max_body` bytes is refused before anything is done about it.
pub fn decode(bytes: &[u8], max_body: usize) -> Result<(Message, usize), FrameError> {
    let Frame { version, body, length } = open(bytes, max_body)?;
    if version != OLDEST {
        return Err(FrameError::Version(version));
    }
    Ok((from_postcard(body)?, length))
}

/// A frame whose bytes are those that were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The format of the body; any, also one that is not known here.
    pub version: u8,
    /// What it holds.
    pub body: &'a [u8],
    /// How many bytes the whole frame has.
    pub length: usize,
}

/// Appends a frame to `out`, whose body `write` appends.
pub fn seal(version: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let length = u32::try_from(out.len() - start - HEADER).expect("a message fits into four gigabytes");
    out[start + 8] = version;
    let checksum = CRC32.checksum(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the frame at the start of `bytes`, of whatever version. A body of more than `max_body` bytes is
/// refused before anything is done about it.
pub fn open(bytes: &[u8], max_body: usize) -> Result<Frame<'_>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(FrameError::Incomplete { needed: HEADER });
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3, version] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > max_body {
        return Err(FrameError::TooLong { length, max: max_body });
    }
    let Some(body) = rest.get(..length) else {
        return Err(FrameError::Incomplete { needed: HEADER + length });
    };
    if CRC32.checksum(&bytes[HEADER - 1..HEADER + length]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum);
    }
    Ok(Frame { version, body, length: HEADER + length })
}

/// Appends a value as postcard.
pub(crate) fn postcard(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(value, core::mem::take(out)).expect("writing to memory does not fail");
}

/// Reads a value that takes all of `bytes`.
pub(crate) fn from_postcard<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Body),
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { needed } => {
                write!(f, "the frame is incomplete: read on until there are {needed} bytes")
            }
            Self::TooLong { length, max } => {
                write!(
                    f,
                    "a frame of {length} bytes is longer than the {max} that are allowed: close the connection"
                )
            }
            Self::Checksum => f.write_str("the frame was damaged on its way: close the connection"),
            Self::Version(version) => {
                write!(
                    f,
                    "the frame is of format {version}, and this member speaks {VERSION}: update the older of the two"
                )
            }
            Self::Body => f.write_str("the frame holds no message: close the connection"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{EntryBody, LogSlice};
    use crate::message::Body;
    use crate::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
    use alloc::vec;

    fn append() -> Message {
        let [from, to] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let from = Identity::new(ClusterId(5), Member::new(from, Incarnation(6)));
        let entries = vec![
            Entry { id: LogId::new(3, 5), body: EntryBody::Blank },
            Entry { id: LogId::new(4, 6), body: EntryBody::Data(Payload::from("hello")) },
        ];
        let slice = LogSlice::new(LogId::new(3, 4), entries.into_iter().collect()).unwrap();
        Message::new(from, to.into(), Term::new(4), Body::Append { slice, commit: Index::new(4) })
    }

    #[test]
    fn what_is_encoded_is_decoded_and_frames_follow_one_another() {
        let mut bytes = vec![];
        encode(&append(), &mut bytes);
        let first = bytes.len();
        encode(&append(), &mut bytes);
        assert_eq!(decode(&bytes, 1 << 20), Ok((append(), first)));
        assert_eq!(decode(&bytes[first..], 1 << 20), Ok((append(), first)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut bytes = vec![];
        encode(&append(), &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, 1 << 20).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                matches!(decode(&bytes[..length], 1 << 20), Err(FrameError::Incomplete { needed }) if needed > length)
            );
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_read() {
        let bytes = [0xff; HEADER];
        assert_eq!(decode(&bytes, 100), Err(FrameError::TooLong { length: 0xffff_ffff, max: 100 }));
    }

    #[test]
    fn the_largest_append_that_options_allow_fits_into_their_longest_frame() {
        let options = Options { max_append_bytes: 500, max_payload_bytes: 1_000, ..Options::default() };
        let last = LogId { term: Term::MAX, index: Index::new(Index::MAX.get() - 20) };
        let frame = |bodies: Vec<EntryBody>| {
            let entries = bodies
                .into_iter()
                .zip(last.index.get() + 1..)
                .map(|(body, index)| Entry { id: LogId { term: Term::MAX, index: Index::new(index) }, body });
            let slice = LogSlice::new(last, entries.collect()).unwrap();
            let [from, to] = [u64::MAX, u64::MAX - 1]
                .map(|id| Member::new(NodeId::new(id).unwrap(), Incarnation(u64::MAX)));
            let from = Identity::new(ClusterId(u64::MAX), from);
            let message = Message::new(from, to, Term::MAX, Body::Append { slice, commit: Index::MAX });
            let mut bytes = vec![];
            encode(&message, &mut bytes);
            bytes
        };
        let large = EntryBody::Data(Payload::from(&[7; 1_000][..]));
        let small = EntryBody::Data(Payload::from("x"));
        assert!(decode(&frame(vec![large]), max_body(&options)).is_ok());
        let small_options = Options { max_payload_bytes: 1, ..options };
        assert!(decode(&frame(vec![small; 500 / 33]), max_body(&small_options)).is_ok());
    }

    /// A malicious peer can compute a valid checksum: numbers near their maximum must not overflow.
    #[test]
    fn entries_beyond_the_greatest_index_are_refused() {
        let mut body = vec![5u8, 1, 6, 2, 0, 4, 4, 3];
        body.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 4, 0, 4]);
        let sealed = [&[OLDEST][..], &body].concat();
        let checksum = CRC32.checksum(&sealed).to_le_bytes();
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let frame = [&length[..], &checksum, &sealed].concat();
        assert_eq!(decode(&frame, 1 << 20), Err(FrameError::Body));
    }

    /// The bytes of format 1. If this fails, an older member cannot read what this one writes.
    #[test]
    fn the_format_stays() {
        let mut bytes = vec![];
        encode(&append(), &mut bytes);
        let body = [5, 1, 6, 2, 0, 4, 4, 3, 4, 2, 3, 0, 4, 1, 5, b'h', b'e', b'l', b'l', b'o', 4];
        assert_eq!(bytes[HEADER..], body);
        assert_eq!(bytes[..HEADER], [21, 0, 0, 0, bytes[4], bytes[5], bytes[6], bytes[7], 1]);
    }
}
