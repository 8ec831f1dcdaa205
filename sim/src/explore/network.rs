//! The messages that were ever sent.

use super::bounds::MAX_MEMBERS;
use crate::hash::StableHasher;
use kontiki_core::message::Message;
use std::sync::Arc;

/// Names a message: its addressee in the upper bits, so that the messages to one member are together, and its
/// hash in the others. No two messages of an exploration have the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key(u64);

/// How many bits of a key are of the hash.
const BITS: u32 = 61;
const _: () = assert!((MAX_MEMBERS as u64) < 1 << (u64::BITS - BITS));

impl Key {
    pub(super) fn of(message: &Message) -> Self {
        Self(message.to.id.get() << BITS | StableHasher::of(message) >> (u64::BITS - BITS))
    }

    /// The place of its addressee among the members.
    pub(super) fn addressee(self) -> usize {
        (self.0 >> BITS) as usize - 1
    }
}

/// A message, and what identifies it.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) key: Key,
    pub(super) hash: u64,
    pub(super) message: Message,
}

impl Post {
    pub(super) fn new(message: Message) -> Self {
        Self { key: Key::of(&message), hash: StableHasher::of(&message), message }
    }
}

/// Every message that was ever sent.
///
/// Messages stay. So each may be delivered at any later time, any number of times, and never: loss,
/// duplication, delay and reordering without a bound.
#[derive(Default, Debug)]
pub(super) struct Network {
    /// In order.
    keys: Vec<Key>,
    /// The sum of the messages' hashes: equal for equal sets, whatever the order in which they grew.
    sum: u64,
}

impl Network {
    pub(super) fn hash(&self) -> u64 {
        self.sum
    }

    pub(super) fn key(&self, at: u32) -> Option<Key> {
        self.keys.get(at as usize).copied()
    }

    /// The messages to one member, each with its place among all.
    pub(super) fn to(&self, member: usize) -> impl Iterator<Item = (u32, Key)> {
        let first = self.keys.partition_point(|key| key.addressee() < member);
        let to = move |(_, key): &(u32, Key)| key.addressee() == member;
        (first as u32..).zip(self.keys[first..].iter().copied()).take_while(to)
    }

    fn contains(&self, post: &Post) -> bool {
        self.keys.binary_search(&post.key).is_ok()
    }

    /// The hash of what it is once these messages have been sent too.
    pub(super) fn hash_with(&self, sent: &[Arc<Post>]) -> u64 {
        let new = sent.iter().filter(|post| !self.contains(post));
        new.fold(self.sum, |sum, post| sum.wrapping_add(post.hash))
    }

    /// What it is once these messages have been sent too.
    pub(super) fn with(self: &Arc<Self>, sent: &[Arc<Post>]) -> Arc<Self> {
        if sent.iter().all(|post| self.contains(post)) {
            return Arc::clone(self);
        }
        let mut keys = Vec::with_capacity(self.keys.len() + sent.len());
        let mut old = self.keys.iter().copied().peekable();
        for key in sent.iter().map(|post| post.key) {
            keys.extend(std::iter::from_fn(|| old.next_if(|old| *old < key)));
            old.next_if_eq(&key);
            keys.push(key);
        }
        keys.extend(old);
        Arc::new(Self { keys, sum: self.hash_with(sent) })
    }
}
