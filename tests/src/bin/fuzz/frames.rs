//! What members send one another: frames of every kind of message and body, of every version, changed, half
//! of them with checksums that fit again.

use crate::memory::bounded;
use crate::mutate::mutate;
use crate::rng::Rng;
use kontiki_core::action::Refusal;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::machine::{Answer, SessionId};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message, ReadContext};
use kontiki_core::raft::Raft;
use kontiki_core::replica::frame::{self, Decoded, Envelope, ForwardId, ReplicaBody, ReplicaMessage, Reply};
use kontiki_core::status::PauseReason;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_core::wire::{self, FrameError};
use std::sync::Arc;

const MAX_BODY: usize = 1 << 16;

/// An entry takes two bytes of a frame at least, 40 of memory, and while a list of them grows it is there
/// three times.
const EACH: u64 = 100;
const FIXED: u64 = 1 << 10;

pub(crate) fn case(rng: &mut Rng) -> &'static str {
    let (sent, other) = (decoded(rng), decoded(rng));
    let (mut bytes, other) = (encode(&sent), encode(&other));
    assert_eq!(read(&bytes, wire::VERSION), Ok(sent), "what was written is read");
    if rng.one_in(16) {
        bytes.push(rng.next() as u8);
        seal(&mut bytes);
        let error = read(&bytes, wire::VERSION).expect_err("a byte that belongs to no message");
        assert!(matches!(error, FrameError::Body | FrameError::Version(_)), "{error}");
        return "one byte too many";
    }
    mutate(&mut bytes, &other, rng);
    let sealed = bytes.len() >= wire::HEADER && rng.one_in(2);
    if sealed {
        if !rng.one_in(8) {
            bytes[wire::HEADER - 1] = rng.pick(&[wire::OLDEST, wire::VERSION]);
        }
        seal(&mut bytes);
    }
    let speaks = rng.pick(&[wire::OLDEST, wire::VERSION, wire::VERSION]);
    let received = match read(&bytes, speaks) {
        Ok(received) => received,
        Err(FrameError::Body) => return "no message",
        Err(FrameError::Version(_)) => return "another version",
        Err(error) => {
            assert!(!sealed || matches!(error, FrameError::TooLong { .. }), "sealed, and yet: {error}");
            return "no frame";
        }
    };
    assert!(received.version <= speaks, "read what it does not speak");
    assert_eq!(crc32c(&bytes[wire::HEADER - 1..]).to_le_bytes(), bytes[4..8], "damaged, and yet accepted");
    assert_eq!(read(&encode(&received), speaks), Ok(received.clone()), "what is read can be written");
    let from_the_oldest = bounded(bytes.len(), EACH, FIXED, || wire::decode(&bytes, MAX_BODY));
    match received.envelope {
        Envelope::Raft(message) => {
            let expected = if received.version == wire::OLDEST {
                Ok((message.clone(), bytes.len()))
            } else {
                Err(FrameError::Version(received.version))
            };
            assert_eq!(from_the_oldest, expected, "the two readers of frames differ");
            let end = kind(&message.body);
            receive(message, rng);
            end
        }
        Envelope::Replica(message) => replica_kind(&message.body),
    }
}

fn encode(frame: &Decoded) -> Vec<u8> {
    let mut bytes = Vec::new();
    let speaks = frame.speaks.unwrap_or(wire::OLDEST);
    assert!(frame::encode(&frame.envelope, frame.version, speaks, &mut bytes), "the version can say it");
    bytes
}

fn read(bytes: &[u8], speaks: u8) -> Result<Decoded, FrameError> {
    bounded(bytes.len(), EACH, FIXED, || frame::decode(bytes, speaks, MAX_BODY))
}

/// Anything that is said in any version that can say it.
fn decoded(rng: &mut Rng) -> Decoded {
    let envelope = match rng.below(3) {
        0 => Envelope::Replica(ReplicaMessage {
            cluster: ClusterId(rng.number()),
            from: member(rng),
            to: member(rng),
            body: replica_body(rng),
        }),
        _ => Envelope::Raft(message(rng)),
    };
    let version = frame::version_of(&envelope).max(rng.pick(&[wire::OLDEST, wire::VERSION]));
    let speaks = (version > wire::OLDEST).then(|| rng.pick(&[version, version + 1, u8::MAX]));
    Decoded { envelope, version, speaks }
}

fn replica_body(rng: &mut Rng) -> ReplicaBody {
    let id = ForwardId { life: rng.number(), number: rng.number() };
    let edition = rng.one_in(2).then(|| rng.number());
    match rng.below(8) {
        0 => ReplicaBody::Hello,
        1 => ReplicaBody::SnapshotRequest { last: log_id(rng), edition, piece: rng.number() },
        2 => ReplicaBody::SnapshotGone { last: log_id(rng), edition },
        3 | 4 => ReplicaBody::SnapshotPiece {
            last: log_id(rng),
            edition: rng.number(),
            piece: rng.number(),
            bytes: Payload::from(&rng.bytes(100)[..]),
        },
        5 => ReplicaBody::Forward {
            term: Term::new(rng.number()),
            id,
            command: Payload::from(&rng.bytes(100)[..]),
        },
        _ => ReplicaBody::Forwarded { id, reply: reply(rng) },
    }
}

fn reply(rng: &mut Rng) -> Reply {
    match rng.below(8) {
        0 => Reply::Unanswered(log_id(rng)),
        1 => Reply::Refused(rng.pick(&[Refusal::Busy, Refusal::Stopped, Refusal::NoSuccessor])),
        2 => Reply::Unknown,
        _ => Reply::Applied { id: log_id(rng), answer: answer(rng) },
    }
}

fn answer(rng: &mut Rng) -> Answer {
    match rng.below(10) {
        0 => Answer::Opened(SessionId(rng.number())),
        1 => Answer::Alive,
        2 => Answer::Closed,
        3 => Answer::NotKept { length: rng.number() },
        4 => Answer::Superseded,
        5 => Answer::SessionExpired,
        6 => Answer::TooManyPending,
        7 => Answer::Garbled,
        _ => Answer::Applied(Payload::from(&rng.bytes(100)[..])),
    }
}

/// The kind of a body, by name: does not compile where there is a kind that is not among them, and so perhaps
/// not drawn.
fn replica_kind(body: &ReplicaBody) -> &'static str {
    match body {
        ReplicaBody::Hello => "read: hellos",
        ReplicaBody::SnapshotRequest { .. }
        | ReplicaBody::SnapshotPiece { .. }
        | ReplicaBody::SnapshotGone { .. } => "read: pieces",
        ReplicaBody::Forward { .. } | ReplicaBody::Forwarded { .. } => "read: forwarded",
    }
}

/// A member of a group of three takes it, whatever it is. It may drop it or halt; it must not panic.
fn receive(mut message: Message, rng: &mut Rng) {
    let ids = [1, 2, 3].map(|number| NodeId::new(number).expect("not zero"));
    let group = Durable::bootstrap(Membership::of(ids).expect("distinct ids"));
    let identity = Identity::new(ClusterId(7), ids[0]);
    let config = Config::new(identity, Options::default()).expect("sound options");
    let mut raft = Raft::restore(config, group, Instant::ZERO).expect("an empty disk");
    if rng.one_in(2) {
        (message.cluster, message.to) = (identity.cluster, identity.member);
        message.from = Member::from(rng.pick(&ids[1..]));
    }
    if rng.one_in(2) {
        raft.step(raft.deadline(), Event::Wake);
    }
    for _ in 0..2 {
        raft.step(raft.deadline(), Event::Receive(message.clone()));
    }
    let member = raft.status().id;
    assert_eq!(member, ids[0], "it is still itself");
}

/// Writes the length and the checksum that belong to what is there.
fn seal(frame: &mut [u8]) {
    let length = (frame.len() - wire::HEADER) as u32;
    let checksum = crc32c(&frame[wire::HEADER - 1..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Not the library's own, so that both would have to be wrong.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

fn message(rng: &mut Rng) -> Message {
    let (cluster, term) = (ClusterId(rng.number()), Term::new(rng.number()));
    Message { cluster, from: member(rng), to: member(rng), term, body: body(rng) }
}

fn member(rng: &mut Rng) -> Member {
    Member::new(NodeId::new(rng.number().max(1)).expect("not zero"), Incarnation(rng.number()))
}

fn index(rng: &mut Rng) -> Index {
    Index::new(rng.number())
}

fn log_id(rng: &mut Rng) -> LogId {
    LogId::new(rng.number(), rng.number())
}

fn context(rng: &mut Rng) -> ReadContext {
    ReadContext { start: rng.number(), number: rng.number() }
}

/// A group of a few; joint, with learners, or plain.
fn membership(rng: &mut Rng) -> Arc<Membership> {
    let mut ids = 1..;
    let mut some = |rng: &mut Rng, least: u64| -> Vec<_> {
        let count = least + rng.below(4);
        let ids = ids.by_ref().take(count as usize);
        let ids: Vec<_> = ids.map(|id| NodeId::new(id).expect("not zero")).collect();
        ids.into_iter().map(|id| Member::new(id, Incarnation(rng.number()))).collect()
    };
    let (voters, others) = (some(rng, 1), some(rng, 0));
    let membership = match rng.below(3) {
        0 => Membership::of(voters),
        1 => Membership::new(voters, others),
        _ => Membership::joint(voters.clone(), voters.into_iter().chain(others), []),
    };
    Arc::new(membership.expect("distinct ids"))
}

fn slice(rng: &mut Rng) -> LogSlice {
    // Far from the end of all numbers, so that what follows it is still a number.
    let prev = LogId::new(rng.number() >> 3, rng.number() >> 3);
    let mut id = prev;
    let entries = (0..rng.below(8)).map(|_| {
        id = LogId::new(id.term.get() + rng.below(2), id.index.get() + 1);
        let body = match rng.below(6) {
            0 => EntryBody::Blank,
            1 => EntryBody::Withheld,
            2 => EntryBody::Config(membership(rng)),
            _ => EntryBody::Data(Payload::from(&rng.bytes(40)[..])),
        };
        Entry { id, body }
    });
    LogSlice::new(prev, entries.collect()).expect("without a gap")
}

fn snapshot(rng: &mut Rng) -> Snapshot {
    Snapshot { last: log_id(rng), configured: log_id(rng), membership: membership(rng) }
}

/// The kind of a message, by name: does not compile where there is a kind that is not among them, and so
/// perhaps not drawn.
fn kind(body: &Body) -> &'static str {
    match body {
        Body::PreVote { .. } | Body::PreVoted { .. } => "read: pre-votes",
        Body::RequestVote { .. } | Body::Voted { .. } | Body::TimeoutNow { .. } => "read: votes",
        Body::Append { .. } | Body::Appended { .. } | Body::Rejected { .. } => "read: appends",
        Body::Heartbeat { .. } | Body::HeartbeatAck { .. } | Body::Pause { .. } | Body::Commit { .. } => {
            "read: heartbeats"
        }
        Body::OfferSnapshot { .. } | Body::SnapshotUnavailable { .. } => "read: snapshots",
        Body::RepairRequest { .. } | Body::RepairSnapshotRequest { .. } => "read: missing",
        Body::RepairResponse { .. } | Body::RepairSnapshot { .. } => "read: repairs",
        Body::ReadIndex { .. } | Body::ReadIndexIs { .. } => "read: reads",
        Body::WrongIncarnation | Body::StaleIncarnation { .. } | Body::Outdated => "read: complaints",
    }
}

/// Of every kind there is, and more often of those that have more in them.
fn body(rng: &mut Rng) -> Body {
    match rng.below(32) {
        0 => Body::PreVote { last: log_id(rng) },
        1 => Body::PreVoted { granted: rng.one_in(2) },
        2 => Body::RequestVote { last: log_id(rng), transfer: rng.one_in(2) },
        3 => Body::Voted { granted: rng.one_in(2) },
        4 => Body::Appended { matched: index(rng) },
        5 => Body::Rejected { prev: index(rng), hint: log_id(rng) },
        6 => Body::Heartbeat { round: rng.number(), commit: index(rng) },
        7 => Body::HeartbeatAck { round: rng.number(), received: index(rng), matched: index(rng) },
        8 => Body::Commit { commit: index(rng) },
        9 => Body::TimeoutNow { last: log_id(rng) },
        10 => Body::SnapshotUnavailable { last: log_id(rng) },
        11 => Body::ReadIndex { context: context(rng) },
        12 => Body::ReadIndexIs { context: context(rng), index: index(rng) },
        13 => Body::WrongIncarnation,
        14 => Body::StaleIncarnation { incarnation: Incarnation(rng.number()) },
        15 => Body::Outdated,
        16 => Body::RepairRequest { after: log_id(rng), through: log_id(rng) },
        17 => Body::RepairSnapshotRequest { last: log_id(rng) },
        18 => Body::Pause {
            round: rng.number(),
            received: index(rng),
            matched: index(rng),
            last: log_id(rng),
            reason: rng.pick(&PauseReason::ALL),
        },
        19 | 20 => Body::OfferSnapshot { snapshot: snapshot(rng) },
        21 | 22 => Body::RepairSnapshot { snapshot: snapshot(rng) },
        23 | 24 => Body::RepairResponse { slice: slice(rng) },
        _ => Body::Append { slice: slice(rng), commit: index(rng) },
    }
}
