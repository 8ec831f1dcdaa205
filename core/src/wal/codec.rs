//! Ids and memberships as bytes, little-endian; and the records that a batch is made of.
//!
//! Reading is bounded by the bytes that there are, and never panics: `None` is what was not written by this
//! library.

use crate::bytes::Reader;
use crate::log::{Entry, EntryBody, Rebase, Snapshot};
use crate::membership::{MAX_MEMBERS, Membership};
use crate::types::{Ballot, ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
use crate::wal::sector::DATA;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Reader<'_> {
    pub(super) fn index(&mut self) -> Option<Index> {
        self.u64().map(Index::new).filter(|index| *index < Index::MAX)
    }

    fn term(&mut self) -> Option<Term> {
        self.u64().map(Term::new).filter(|term| *term <= Term::MAX)
    }

    pub(super) fn log_id(&mut self) -> Option<LogId> {
        let (term, index) = (self.term()?, self.index()?);
        Some(LogId { term, index })
    }

    pub(super) fn ballot(&mut self) -> Option<Ballot> {
        let (term, vote) = (self.term()?, self.u64()?);
        Some(Ballot::new(term, NodeId::new(vote)))
    }

    pub(super) fn identity(&mut self) -> Option<Identity> {
        let cluster = ClusterId(self.u64()?);
        Some(Identity::new(cluster, self.member()?))
    }

    fn member(&mut self) -> Option<Member> {
        let id = NodeId::new(self.u64()?)?;
        Some(Member::new(id, Incarnation(self.u64()?)))
    }

    fn membership(&mut self) -> Option<Membership> {
        let count = usize::from(self.u8()?);
        if count > MAX_MEMBERS {
            return None;
        }
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push((self.member()?, self.u8()?));
        }
        Membership::from_places(&places).ok()
    }

    pub(super) fn snapshot(&mut self) -> Option<Snapshot> {
        let (last, configured) = (self.log_id()?, self.log_id()?);
        let snapshot = Snapshot { last, configured, membership: Arc::new(self.membership()?) };
        Some(snapshot).filter(Snapshot::is_well_formed)
    }

    /// A list of ids, at most `max` of them.
    pub(super) fn log_ids(&mut self, max: usize) -> Option<Vec<LogId>> {
        let count = usize::from(self.u8()?);
        if count > max {
            return None;
        }
        (0..count).map(|_| self.log_id()).collect()
    }
}

/// Takes bytes, one piece after the other.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_log_id(&mut self, id: LogId) {
        self.put_u64(id.term.get());
        self.put_u64(id.index.get());
    }

    fn put_ballot(&mut self, ballot: Ballot) {
        self.put_u64(ballot.term().get());
        self.put_u64(ballot.vote().map_or(0, NodeId::get));
    }

    fn put_identity(&mut self, identity: Identity) {
        self.put_u64(identity.cluster.0);
        self.put_member(identity.member);
    }

    fn put_member(&mut self, member: Member) {
        self.put_u64(member.id.get());
        self.put_u64(member.incarnation.0);
    }

    fn put_membership(&mut self, membership: &Membership) {
        let places = membership.places();
        self.put_u8(u8::try_from(places.len()).expect("a group has at most MAX_MEMBERS"));
        for (member, sets) in places {
            self.put_member(member);
            self.put_u8(sets);
        }
    }

    fn put_snapshot(&mut self, snapshot: &Snapshot) {
        self.put_log_id(snapshot.last);
        self.put_log_id(snapshot.configured);
        self.put_membership(&snapshot.membership);
    }

    fn put_log_ids(&mut self, ids: &[LogId]) {
        self.put_u8(u8::try_from(ids.len()).expect("the caller gives a short list"));
        ids.iter().for_each(|&id| self.put_log_id(id));
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what it is given.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Length(pub(super) u64);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}

/// One thing that a batch does to the log.
///
/// ```text
///   1 byte    which
///   4 bytes   length of the rest
///   rest      1 truncate: the index after which everything goes (8)
///             2 repair:   an entry, in the place of the same one that was lost
///             3 rebase:   the base (16), the snapshot: last (16), configured (16), membership
///             4 append:   an entry: term (8), index (8), body: 1 byte which, then
///                         0 blank, 1 the payload, 2 a membership, 3 withheld
///             5 space:    as many zeros as a sector holds
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Truncate(Index),
    RepairResponse(Entry),
    Rebase(Rebase),
    Append(Entry),
    /// Nothing. What stands before and what stands behind it share no sector.
    Space,
}

/// The bytes in front of a record.
const PREFIX: usize = 5;

impl Record {
    pub(super) fn encode(&self, out: &mut impl Sink) {
        let mut length = Length::default();
        self.encode_body(&mut length);
        out.put_u8(match self {
            Self::Truncate(_) => 1,
            Self::RepairResponse(_) => 2,
            Self::Rebase(_) => 3,
            Self::Append(_) => 4,
            Self::Space => 5,
        });
        out.put_u32(u32::try_from(length.0).expect("an entry is smaller than four gigabytes"));
        self.encode_body(out);
    }

    fn encode_body(&self, out: &mut impl Sink) {
        match self {
            Self::Truncate(after) => out.put_u64(after.get()),
            Self::Space => out.put(&[0; DATA]),
            Self::Rebase(Rebase { snapshot, base }) => {
                out.put_log_id(*base);
                out.put_snapshot(snapshot);
            }
            Self::RepairResponse(entry) | Self::Append(entry) => {
                out.put_log_id(entry.id);
                match &entry.body {
                    EntryBody::Blank => out.put_u8(0),
                    EntryBody::Data(payload) => {
                        out.put_u8(1);
                        out.put(payload);
                    }
                    EntryBody::Config(membership) => {
                        out.put_u8(2);
                        out.put_membership(membership);
                    }
                    EntryBody::Withheld => out.put_u8(3),
                    EntryBody::Lost => {
                        unreachable!("the kernel never hands out an entry that it does not have")
                    }
                }
            }
        }
    }

    /// How many bytes it takes.
    pub(super) fn length(&self) -> u64 {
        let mut length = Length::default();
        self.encode_body(&mut length);
        length.0 + PREFIX as u64
    }

    /// The record at the front of some bytes, and how many of them it takes; none where it goes on behind
    /// them, where it is none, and where only padding is left.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        let length = usize::try_from(reader.u32()?).ok()?;
        let mut body = Reader(reader.bytes(length)?);
        let record = match kind {
            1 => Self::Truncate(body.index()?),
            2 => Self::RepairResponse(entry(&mut body)?),
            3 => {
                let base = body.log_id()?;
                Self::Rebase(Rebase { base, snapshot: body.snapshot()? })
            }
            4 => Self::Append(entry(&mut body)?),
            5 => body.bytes(DATA).map(|_| Self::Space)?,
            _ => return None,
        };
        body.end().map(|()| (record, PREFIX + length))
    }
}

fn entry(body: &mut Reader<'_>) -> Option<Entry> {
    let id = body.log_id()?;
    let body = match body.u8()? {
        0 => EntryBody::Blank,
        1 => EntryBody::Data(Payload::from(body.rest())),
        2 => EntryBody::Config(Arc::new(body.membership()?)),
        3 => EntryBody::Withheld,
        _ => return None,
    };
    Some(Entry { id, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MemberKind;
    use alloc::vec;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn records() -> Vec<Record> {
        let joint = Membership::joint([1, 2, 3].map(node), [3, 4, 5].map(node), [6].map(node)).unwrap();
        let kinds = [MemberKind::Voter, MemberKind::Voter, MemberKind::Witness, MemberKind::Learner];
        let witness = (1..).zip(kinds).map(|(id, kind)| (Member::from(node(id)), kind));
        let witness = Arc::new(Membership::from_kinds(witness).unwrap());
        let snapshot = Snapshot { last: LogId::new(3, 9), configured: LogId::new(2, 5), membership: witness };
        let entry = |index, body| Entry { id: LogId::new(4, index), body };
        vec![
            Record::Truncate(Index::new(7)),
            Record::Rebase(Rebase { snapshot, base: LogId::new(3, 8) }),
            Record::RepairResponse(entry(9, EntryBody::Blank)),
            Record::Append(entry(10, EntryBody::Data(Payload::from("hello")))),
            Record::Append(entry(11, EntryBody::Config(Arc::new(joint)))),
            Record::Append(entry(12, EntryBody::Withheld)),
            Record::Space,
        ]
    }

    #[test]
    fn records_are_read_back() {
        for record in records() {
            let mut bytes = vec![];
            record.encode(&mut bytes);
            assert_eq!(bytes.len() as u64, record.length());
            assert_eq!(Record::decode(&bytes), Some((record.clone(), bytes.len())));
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..length]), None, "{record:?} cut to {length}");
            }
        }
    }

    #[test]
    fn padding_and_numbers_beyond_their_limits_are_no_record() {
        assert_eq!(Record::decode(&[0; 64]), None);
        let mut bytes = vec![1, 8, 0, 0, 0];
        bytes.extend([0xff; 8]);
        assert_eq!(Record::decode(&bytes), None);
        assert_eq!(Record::decode(&[4, 0xff, 0xff, 0xff, 0xff, 0, 0]), None);
    }
}
