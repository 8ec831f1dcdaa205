//! Frames: what is encoded is decoded, and no bytes make the decoder panic.

use super::holds;
use kontiki_core::log::{Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::message::{Body, Message, ReadContext};
use kontiki_core::status::PauseReason;
use kontiki_core::types::{ClusterId, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_core::wire::{self, FrameError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

const MAX_BODY: usize = 1 << 20;

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogId::new(term, index))
}

fn member() -> impl Strategy<Value = Member> {
    (1..=u64::MAX, any::<u64>()).prop_map(|(id, incarnation)| {
        Member::new(NodeId::new(id).expect("not zero"), Incarnation(incarnation))
    })
}

/// Any group of a few members, in a joint phase or not, with witnesses or without.
fn membership() -> impl Strategy<Value = Arc<Membership>> {
    let others = vec((any::<u64>(), 0..5_u8), 0..6);
    (member(), others).prop_map(|(first, others)| {
        let others: Vec<_> = others
            .iter()
            .zip(1..)
            .map(|(&(incarnation, kind), distance)| {
                let id = NodeId::new(first.id.get().wrapping_add(distance).max(1)).expect("not zero");
                (Member::new(id, Incarnation(incarnation)), kind)
            })
            .collect();
        let kinds = others.iter().map(|&(member, kind)| match kind {
            0 => (member, MemberKind::Learner),
            1 => (member, MemberKind::Witness),
            _ => (member, MemberKind::Voter),
        });
        let of = |wanted: u8| others.iter().filter(move |(_, it)| *it == wanted).map(|(member, _)| *member);
        let incoming = std::iter::once(first).chain(of(4)).chain(of(3));
        let joint = others.iter().any(|(_, kind)| *kind == 3);
        let membership = match joint {
            true => Membership::joint(incoming, of(3).chain(of(2)), of(0)),
            false => Membership::from_kinds(kinds.chain([(first, MemberKind::Voter)])),
        };
        // Half of them may be witnesses by chance, or ids collide at the end of all numbers: then the first
        // alone.
        Arc::new(membership.unwrap_or_else(|_| Membership::of([first]).expect("one voter")))
    })
}

fn entry_body() -> impl Strategy<Value = EntryBody> {
    let data = vec(any::<u8>(), 0..50).prop_map(|bytes| EntryBody::Data(Payload::from(&bytes[..])));
    prop_oneof![
        1 => Just(EntryBody::Blank),
        1 => Just(EntryBody::Withheld),
        3 => data,
        1 => membership().prop_map(EntryBody::Config),
    ]
}

/// Entries after any place of a log, their terms rising now and then.
fn slice() -> impl Strategy<Value = LogSlice> {
    let entries = vec((0..3_u64, entry_body()), 0..6);
    (0..1_u64 << 40, 0..1_u64 << 40, entries).prop_map(|(term, index, entries)| {
        let mut id = LogId::new(term, index);
        let slice = entries.into_iter().map(|(rise, body)| {
            id = LogId::new(id.term.get() + rise, id.index.get() + 1);
            Entry { id, body }
        });
        LogSlice::new(LogId::new(term, index), slice.collect()).expect("entries without a gap")
    })
}

fn index() -> impl Strategy<Value = Index> {
    any::<u64>().prop_map(Index::new)
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => log_id().prop_map(|last| Body::PreVote { last }),
        1 => any::<bool>().prop_map(|granted| Body::PreVoted { granted }),
        1 => (log_id(), any::<bool>()).prop_map(|(last, transfer)| Body::RequestVote { last, transfer }),
        1 => any::<bool>().prop_map(|granted| Body::Voted { granted }),
        4 => (slice(), index()).prop_map(|(slice, commit)| Body::Append { slice, commit }),
        1 => index().prop_map(|matched| Body::Appended { matched }),
        1 => (index(), log_id()).prop_map(|(prev, hint)| Body::Rejected { prev, hint }),
        1 => (any::<u64>(), index()).prop_map(|(round, commit)| Body::Heartbeat { round, commit }),
        1 => (any::<u64>(), index(), index())
            .prop_map(|(round, received, matched)| Body::HeartbeatAck { round, received, matched }),
        1 => (any::<u64>(), index(), index(), log_id(), select(&PauseReason::ALL)).prop_map(
            |(round, received, matched, last, reason)| Body::Pause { round, received, matched, last, reason }
        ),
        1 => index().prop_map(|commit| Body::Commit { commit }),
        1 => Just(Body::Outdated),
        1 => log_id().prop_map(|last| Body::TimeoutNow { last }),
        2 => snapshot().prop_map(|snapshot| Body::OfferSnapshot { snapshot }),
        1 => log_id().prop_map(|last| Body::SnapshotUnavailable { last }),
        1 => context().prop_map(|context| Body::ReadIndex { context }),
        1 => (context(), index()).prop_map(|(context, index)| Body::ReadIndexIs { context, index }),
        1 => Just(Body::WrongIncarnation),
        1 => any::<u64>().prop_map(|number| Body::StaleIncarnation { incarnation: Incarnation(number) }),
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (log_id(), log_id(), membership()).prop_map(|(last, configured, membership)| Snapshot {
        last,
        configured,
        membership,
    })
}

fn context() -> impl Strategy<Value = ReadContext> {
    (any::<u64>(), any::<u64>()).prop_map(|(start, number)| ReadContext { start, number })
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), member(), member(), any::<u64>(), body()).prop_map(|(cluster, from, to, term, body)| {
        let (cluster, term) = (ClusterId(cluster), Term::new(term));
        Message { cluster, from, to, term, body }
    })
}

fn encode(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode(message, &mut frame);
    frame
}

#[test]
fn what_is_encoded_is_decoded() {
    let name = "properties::wire::what_is_encoded_is_decoded";
    let property = |(message, rest): (Message, Vec<u8>)| {
        let mut frame = encode(&message);
        let length = frame.len();
        frame.extend(rest);
        assert_eq!(wire::decode(&frame, MAX_BODY), Ok((message, length)));
    };
    holds(name, 2000, (message(), vec(any::<u8>(), 0..20)), property, |_| String::new());
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let name = "properties::wire::no_bytes_make_the_decoder_panic";
    let property =
        |bytes: Vec<u8>| assert!(wire::decode(&bytes, MAX_BODY).is_err(), "random bytes are no frame");
    holds(name, 5000, vec(any::<u8>(), 0..200), property, |_| String::new());
}

/// A frame that a peer made wrong on purpose: its bytes are changed and its checksum fits. It may decode to
/// another message, which then takes another frame of the same length at most; or it is refused.
#[test]
fn no_forged_frame_makes_the_decoder_panic() {
    let name = "properties::wire::no_forged_frame_makes_the_decoder_panic";
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let property = |(message, changes, cut): (Message, Vec<(prop::sample::Index, u8)>, usize)| {
        let mut frame = encode(&message);
        let body = wire::HEADER..frame.len();
        for (place, byte) in changes {
            frame[body.start + place.index(body.len())] = byte;
        }
        frame.truncate(frame.len() - cut.min(body.len() - 1));
        seal(&mut frame);
        match wire::decode(&frame, MAX_BODY) {
            Ok((other, length)) => {
                assert_eq!(length, frame.len());
                assert_eq!(wire::decode(&encode(&other), MAX_BODY).map(|(again, _)| again), Ok(other));
            }
            Err(error) => assert_eq!(error, FrameError::Body),
        }
    };
    holds(name, 5000, (message(), changes, 0..8_usize), property, |_| String::new());
}

/// Writes the length and the checksum that belong to a frame's body.
fn seal(frame: &mut [u8]) {
    let length = (frame.len() - wire::HEADER) as u32;
    let checksum = crc32c(&frame[wire::HEADER - 1..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}
