//! The bytes of every frame, and what is no frame.

use crate::action::Refusal;
use crate::log::{Entry, EntryBody, LogSlice, Snapshot};
use crate::machine;
use crate::membership::Membership;
use crate::message::{Body, Message, ReadContext};
use crate::replica::frame::{
    Decoded, Envelope, ForwardId, ReplicaBody, ReplicaMessage, Reply, decode, encode, version_of,
};
use crate::status::PauseReason;
use crate::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
use crate::wire::{self, FrameError, VERSION};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

const MAX: usize = 1 << 20;

fn members() -> (Identity, Member) {
    let [from, to] = [1, 2].map(|id| NodeId::new(id).unwrap());
    (Identity::new(ClusterId(0x5eed), Member::new(from, Incarnation(300))), Member::new(to, Incarnation(0)))
}

fn snapshot() -> Snapshot {
    let membership = Membership::new([1, 2, 3].map(|id| NodeId::new(id).unwrap()), [NodeId::new(4).unwrap()]);
    Snapshot {
        last: LogId::new(3, 200),
        configured: LogId::new(1, 2),
        membership: Arc::new(membership.unwrap()),
    }
}

fn slice() -> LogSlice {
    let entries = vec![
        Entry { id: LogId::new(3, 5), body: EntryBody::Blank },
        Entry { id: LogId::new(4, 6), body: EntryBody::Data(Payload::from("hello")) },
        Entry { id: LogId::new(4, 7), body: EntryBody::Config(snapshot().membership) },
        Entry { id: LogId::new(4, 8), body: EntryBody::Withheld },
    ];
    LogSlice::new(LogId::new(3, 4), entries.into_iter().collect()).unwrap()
}

fn bodies() -> Vec<Body> {
    let (last, matched) = (LogId::new(3, 200), Index::new(200));
    let context = ReadContext { start: 5, number: 6 };
    vec![
        Body::PreVote { last },
        Body::PreVoted { granted: true },
        Body::RequestVote { last, transfer: true },
        Body::Voted { granted: false },
        Body::Append { slice: slice(), commit: Index::new(4) },
        Body::Appended { matched },
        Body::Rejected { prev: matched, hint: LogId::new(2, 100) },
        Body::Heartbeat { round: 7, commit: matched },
        Body::HeartbeatAck { round: 7, received: matched, matched: Index::new(4) },
        Body::Commit { commit: matched },
        Body::TimeoutNow { last },
        Body::OfferSnapshot { snapshot: snapshot() },
        Body::SnapshotUnavailable { last },
        Body::ReadIndex { context },
        Body::ReadIndexIs { context, index: matched },
        Body::WrongIncarnation,
        Body::StaleIncarnation { incarnation: Incarnation(9) },
        Body::Outdated,
        Body::RepairRequest { after: LogId::new(2, 100), through: last },
        Body::RepairSnapshotRequest { last },
        Body::RepairResponse { slice: slice() },
        Body::RepairSnapshot { snapshot: snapshot() },
        Body::Pause {
            round: 7,
            received: matched,
            matched: Index::new(4),
            last,
            reason: PauseReason::Unapplied,
        },
    ]
}

/// The place of a kind in [`bodies`]: a new kind does not compile before it has one.
fn place(body: &Body) -> usize {
    match body {
        Body::PreVote { .. } => 0,
        Body::PreVoted { .. } => 1,
        Body::RequestVote { .. } => 2,
        Body::Voted { .. } => 3,
        Body::Append { .. } => 4,
        Body::Appended { .. } => 5,
        Body::Rejected { .. } => 6,
        Body::Heartbeat { .. } => 7,
        Body::HeartbeatAck { .. } => 8,
        Body::Commit { .. } => 9,
        Body::TimeoutNow { .. } => 10,
        Body::OfferSnapshot { .. } => 11,
        Body::SnapshotUnavailable { .. } => 12,
        Body::ReadIndex { .. } => 13,
        Body::ReadIndexIs { .. } => 14,
        Body::WrongIncarnation => 15,
        Body::StaleIncarnation { .. } => 16,
        Body::Outdated => 17,
        Body::RepairRequest { .. } => 18,
        Body::RepairSnapshotRequest { .. } => 19,
        Body::RepairResponse { .. } => 20,
        Body::RepairSnapshot { .. } => 21,
        Body::Pause { .. } => 22,
    }
}

fn replica_bodies() -> Vec<ReplicaBody> {
    let last = LogId::new(3, 200);
    let id = ForwardId { life: 5, number: 300 };
    let forwarded = |reply| ReplicaBody::Forwarded { id, reply };
    vec![
        ReplicaBody::Hello,
        ReplicaBody::SnapshotRequest { last, edition: None, piece: 0 },
        ReplicaBody::SnapshotRequest { last, edition: Some(77), piece: 300 },
        ReplicaBody::SnapshotPiece { last, edition: 77, piece: 1, bytes: Payload::from("bytes") },
        ReplicaBody::SnapshotGone { last, edition: Some(77) },
        ReplicaBody::Forward { term: Term::new(4), id, command: Payload::from("do it") },
        forwarded(Reply::Applied { id: last, answer: machine::Answer::Applied(Payload::from("done")) }),
        forwarded(Reply::Applied { id: last, answer: machine::Answer::SessionExpired }),
        forwarded(Reply::Unanswered(last)),
        forwarded(Reply::Refused(Refusal::NotLeader { leader: NodeId::new(3) })),
        forwarded(Reply::Unknown),
    ]
}

fn place_of_replica(body: &ReplicaBody) -> usize {
    match body {
        ReplicaBody::Hello => 0,
        ReplicaBody::SnapshotRequest { edition: None, .. } => 1,
        ReplicaBody::SnapshotRequest { edition: Some(_), .. } => 2,
        ReplicaBody::SnapshotPiece { .. } => 3,
        ReplicaBody::SnapshotGone { .. } => 4,
        ReplicaBody::Forward { .. } => 5,
        ReplicaBody::Forwarded { reply, .. } => match reply {
            Reply::Applied { answer: machine::Answer::Applied(_), .. } => 6,
            Reply::Applied { .. } => 7,
            Reply::Unanswered(_) => 8,
            Reply::Refused(_) => 9,
            Reply::Unknown => 10,
        },
    }
}

fn envelopes() -> Vec<Envelope> {
    let (from, to) = members();
    let raft = |body| Envelope::Raft(Message::new(from, to, Term::new(4), body));
    let replica =
        |body| Envelope::Replica(ReplicaMessage { cluster: from.cluster, from: from.member, to, body });
    bodies().into_iter().map(raft).chain(replica_bodies().into_iter().map(replica)).collect()
}

fn frame(envelope: &Envelope, version: u8) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    encode(envelope, version, version, &mut bytes).then_some(bytes)
}

fn name(envelope: &Envelope) -> String {
    match envelope {
        Envelope::Raft(message) => format!("{}", message.body),
        Envelope::Replica(message) => format!("{:?}", message.body),
    }
}

#[test]
fn every_kind_has_its_golden_bytes() {
    for (position, body) in bodies().iter().enumerate() {
        assert_eq!(place(body), position);
    }
    for (position, body) in replica_bodies().iter().enumerate() {
        assert_eq!(place_of_replica(body), position);
    }
}

/// The bytes of every kind of frame, in every version that can say it. If this fails, other members cannot
/// read what this one sends: give the format a new version.
#[test]
fn the_formats_stay() {
    let mut lines = String::new();
    for version in wire::OLDEST..=VERSION {
        for envelope in envelopes() {
            let Some(bytes) = frame(&envelope, version) else { continue };
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            lines += &format!("v{version} {}\n  {hex}\n", name(&envelope));
        }
    }
    let golden = include_str!("frames.txt");
    for (line, expected) in lines.lines().zip(golden.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.lines().count(), golden.lines().count(), "{lines}");
}

#[test]
fn what_is_encoded_is_decoded_in_every_version_that_can_say_it() {
    for version in wire::OLDEST..=VERSION {
        for envelope in envelopes() {
            let bytes = frame(&envelope, version);
            assert_eq!(bytes.is_some(), version >= version_of(&envelope), "{envelope:?}");
            let Some(bytes) = bytes else { continue };
            let speaks = (version > 1).then_some(version);
            assert_eq!(decode(&bytes, VERSION, MAX), Ok(Decoded { envelope, version, speaks }));
        }
    }
}

#[test]
fn a_later_version_and_what_an_older_one_cannot_say_are_refused() {
    let hello = envelopes().into_iter().find(|envelope| version_of(envelope) == 2).unwrap();
    let bytes = frame(&hello, 2).unwrap();
    assert_eq!(decode(&bytes, 1, MAX), Err(FrameError::Version(2)));

    // A message that version 1 does not know, in a frame that says it is of version 1.
    let (from, to) = members();
    let missing = Body::RepairSnapshotRequest { last: LogId::new(3, 200) };
    let mut forged = vec![];
    wire::encode(&Message::new(from, to, Term::new(4), missing), &mut forged);
    assert_eq!(decode(&forged, VERSION, MAX), Err(FrameError::Body));

    let mut later = vec![];
    wire::seal(VERSION + 1, &mut later, |out| out.push(VERSION + 1));
    assert_eq!(decode(&later, VERSION + 1, MAX), Err(FrameError::Version(VERSION + 1)));
    let mut empty = vec![];
    wire::seal(2, &mut empty, |_| {});
    assert_eq!(decode(&empty, VERSION, MAX), Err(FrameError::Body));
}

#[test]
fn every_flipped_bit_every_cut_and_whatever_follows_is_noticed() {
    for envelope in envelopes() {
        let bytes = frame(&envelope, VERSION).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, VERSION, MAX).is_err(), "bit {bit} of {envelope:?}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], VERSION, MAX).is_err());
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat(), VERSION, MAX), Err(FrameError::Body));
    }
}
