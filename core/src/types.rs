//! The words of the protocol as types: a number with a meaning has only the arithmetic that means something.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, Deref, Sub};

/// The name of a member of the group. Never zero, so that `Option<NodeId>` costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(NonZeroU64);

const _: () = assert!(size_of::<Option<NodeId>>() == 8);

impl NodeId {
    /// The id with this number, or `None` for zero, which is no id.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number of this id; never zero.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// The name of a whole cluster, drawn when it is made. Members refuse the messages of any other, so that two
/// clusters whose members have the same numbers never mix.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClusterId(pub u64);

/// Which life of a member's data directory this is: drawn when the directory is made, and recorded in the
/// membership.
///
/// A member whose disk was wiped has forgotten its votes and acknowledgements. It comes back under the same
/// id with another incarnation, and so as a non-member: until the group adds it again, its votes and
/// acknowledgements do not count. Draw it from the system's entropy, or count directories; only equality
/// matters.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Incarnation(pub u64);

/// One member, as one life of its data directory: what a membership lists, and what messages are addressed
/// to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// Its name in the group.
    pub id: NodeId,
    /// Which life of that name.
    pub incarnation: Incarnation,
}

impl Member {
    /// Member `id` in this incarnation.
    pub const fn new(id: NodeId, incarnation: Incarnation) -> Self {
        Self { id, incarnation }
    }
}

/// The member with this id whose data directory was never made anew: incarnation zero.
impl From<NodeId> for Member {
    fn from(id: NodeId) -> Self {
        Self { id, incarnation: Incarnation(0) }
    }
}

/// Who a member is: which of which cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: Member,
}

impl Identity {
    /// This member of this cluster.
    pub fn new(cluster: ClusterId, member: impl Into<Member>) -> Self {
        Self { cluster, member: member.into() }
    }
}

/// A term of office: at most one leader is elected in each (paper §5.1). Zero is before the first election.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Term(u64);

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);
    /// The greatest term that a peer may claim. At one election a nanosecond it is reached after a century,
    /// so a message beyond it is garbage, and [`Term::next`] can never overflow. A member that lies could
    /// still drive a group to it and end all elections: Raft tolerates members that fail, not members that
    /// lie.
    pub const MAX: Self = Self(1 << 62);

    /// The term with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this term.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A position in the log. The first entry has index 1; zero is the position before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Index(u64);

impl Index {
    /// The position before the first entry.
    pub const ZERO: Self = Self(0);
    /// The greatest index that a peer may claim; a message beyond it is garbage.
    pub const MAX: Self = Self(1 << 62);

    /// The index with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this index.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one, or `None` before the first.
    pub const fn prev(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl Add<u64> for Index {
    type Output = Self;
    fn add(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Sub for Index {
    type Output = u64;
    /// How many entries lie after `earlier`, through `self`. Panics where `earlier` is the later one.
    #[track_caller]
    fn sub(self, earlier: Self) -> u64 {
        assert!(self.0 >= earlier.0, "distance of {earlier:?} to {self:?} is negative");
        self.0 - earlier.0
    }
}

/// The identity of an entry: no two different entries ever have the same one (Log Matching, paper §5.3).
///
/// The order of the fields makes the derived order the paper's "at least as up-to-date" (§5.4.1): the later
/// term wins, and in the same term the longer log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Where in the log it stands.
    pub index: Index,
}

impl LogId {
    /// The position before the first entry of an empty log.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// The entry that a leader of `term` created at `index`.
    pub const fn new(term: u64, index: u64) -> Self {
        Self { term: Term(term), index: Index(index) }
    }
}

/// What a member must never forget: the latest term it has seen, and whom it voted for in it (paper, figure
/// 2).
///
/// The fields are private so that a new term cannot keep an old vote, and a vote cannot be changed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ballot {
    term: Term,
    vote: Option<NodeId>,
}

impl Ballot {
    /// A ballot as it was read back from disk.
    pub const fn new(term: Term, vote: Option<NodeId>) -> Self {
        Self { term, vote }
    }

    /// The latest term this member has seen.
    pub const fn term(self) -> Term {
        self.term
    }

    /// The candidate that got this member's vote in this term.
    pub const fn vote(self) -> Option<NodeId> {
        self.vote
    }

    /// Enters a later term, in which no vote is given yet.
    pub(crate) fn enter(&mut self, term: Term) {
        assert!(term > self.term, "a ballot only moves to later terms: {:?} -> {term:?}", self.term);
        *self = Self { term, vote: None };
    }

    /// Whether this member may vote for `candidate` in this term: it has not voted, or voted for the same.
    pub(crate) fn may_vote_for(self, candidate: NodeId) -> bool {
        self.vote.is_none_or(|voted| voted == candidate)
    }

    /// Votes for `candidate`. A vote, once given in a term, stays.
    pub(crate) fn cast(&mut self, candidate: NodeId) {
        assert!(
            self.may_vote_for(candidate),
            "a second vote in {:?}: {:?}, then {candidate:?}",
            self.term,
            self.vote
        );
        self.vote = Some(candidate);
    }
}

/// What the host proposes, opaque to the kernel: shared, never copied inside it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// Takes over a buffer that is already shared.
    pub const fn from_shared(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What the host calls a request, in whatever numbering it likes. The answer to a request carries its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestId(pub u64);

/// The number of a write in a member's one ordered stream of writes. The first is 1; numbering starts anew
/// with each [`Raft::restore`](crate::raft::Raft::restore).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WriteSeq(u64);

impl WriteSeq {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// The write with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this write.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The write after this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Written `3@7`: member 3 in incarnation 7; without the incarnation where that is zero.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Incarnation(0) => write!(f, "{}", self.id),
            Incarnation(incarnation) => write!(f, "{}@{incarnation}", self.id),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{self}")
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {self}")
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Written `index:term`, as the literature does.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.index, self.term)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The first bytes as text where they are text, so that traces can be read.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(16)];
        match core::str::from_utf8(shown) {
            Ok(text) if shown.len() == self.0.len() => write!(f, "{text:?}"),
            Ok(text) => write!(f, "{text:?}..{}", self.0.len()),
            Err(_) => write!(f, "{shown:02x?}..{}", self.0.len()),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for WriteSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

#[cfg(feature = "serde")]
mod serde_payload {
    use super::Payload;
    use core::fmt;
    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for Payload {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self)
        }
    }

    impl<'de> Deserialize<'de> for Payload {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Bytes;
            impl<'de> Visitor<'de> for Bytes {
                type Value = Payload;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                    Ok(Payload::from(bytes))
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Payload, A::Error> {
                    let mut bytes = alloc::vec::Vec::new();
                    while let Some(byte) = seq.next_element::<u8>()? {
                        bytes.push(byte);
                    }
                    Ok(Payload::from(&bytes[..]))
                }
            }
            deserializer.deserialize_bytes(Bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_later_term_is_more_up_to_date_than_a_longer_log() {
        assert!(LogId::new(2, 1) > LogId::new(1, 9));
        assert!(LogId::new(2, 3) > LogId::new(2, 2));
    }

    #[test]
    fn a_new_term_forgets_the_vote() {
        let mut ballot = Ballot::default();
        ballot.enter(Term::new(3));
        ballot.cast(NodeId::new(2).unwrap());
        ballot.enter(Term::new(4));
        assert_eq!(ballot.vote(), None);
    }

    #[test]
    #[should_panic(expected = "a second vote")]
    fn a_vote_cannot_be_changed() {
        let mut ballot = Ballot::default();
        ballot.cast(NodeId::new(2).unwrap());
        ballot.cast(NodeId::new(3).unwrap());
    }

    #[test]
    fn payloads_print_as_text_where_they_are_text() {
        assert_eq!(format!("{:?}", Payload::from("set x")), "\"set x\"");
        assert_eq!(format!("{:?}", Payload::from(&[0xff, 1][..])), "[ff, 01]..2");
    }
}
