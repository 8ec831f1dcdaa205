//! The messages that were ever sent.

use super::bounds::MAX_MEMBERS;
use super::symmetry::{Renaming, Symmetry};
use crate::hash::StableHasher;
use kontiki_core::message::{Body, Message};
use std::sync::Arc;

/// Names a message: its addressee in the upper bits, so that the messages to one member are together, then
/// whether it is a question to the leader, and its hash in the others. No two messages of an exploration have
/// the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key(u64);

/// How many bits of a key are of the hash.
const BITS: u32 = 60;
/// The bit that tells whether the message is a question to the leader.
const QUESTION: u64 = 1 << BITS;
const _: () = assert!((MAX_MEMBERS as u64) < 1 << (u64::BITS - BITS - 1));

impl Key {
    pub(super) fn of(message: &Message) -> Self {
        let question = if matches!(message.body, Body::ReadIndex { .. }) { QUESTION } else { 0 };
        let addressee = message.to.id.get() << (BITS + 1);
        Self(addressee | question | StableHasher::of(message) >> (u64::BITS - BITS))
    }

    /// The place of its addressee among the members.
    pub(super) fn addressee(self) -> usize {
        (self.0 >> (BITS + 1)) as usize - 1
    }

    /// Whether it asks the leader what a read must see.
    pub(super) fn is_question(self) -> bool {
        self.0 & QUESTION != 0
    }
}

/// A message, and what identifies it.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) key: Key,
    pub(super) message: Message,
    /// The keys and hashes of what it is under each renaming; first its own.
    pub(super) images: Box<[(Key, u64)]>,
}

impl Post {
    pub(super) fn new(message: Message, symmetry: &Symmetry) -> Self {
        let image = |renaming: &Renaming| {
            let message = renaming.message(&message);
            (Key::of(&message), StableHasher::of(&message))
        };
        let images = symmetry.renamings().iter().map(image).collect();
        Self { key: Key::of(&message), message, images }
    }
}

/// Some of the messages that a step sends, by their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsent(u64);

impl Unsent {
    /// How many messages a step may send.
    pub(super) const MAX: usize = u64::BITS as usize;

    fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (place < Self::MAX).then_some(place)
        })
    }
}

/// Every message that was ever sent, in the order of their keys.
///
/// Messages stay. So each may be delivered at any later time, any number of times, and never: loss,
/// duplication, delay and reordering without a bound. Where copies are bounded they are counted, and one is
/// gone when it has arrived.
#[derive(Debug)]
pub(super) struct Network {
    keys: Vec<Key>,
    counts: bool,
}

impl Network {
    pub(super) fn new(counts: bool) -> Self {
        Self { keys: Vec::new(), counts }
    }

    pub(super) fn key(&self, at: u32) -> Option<Key> {
        self.keys.get(at as usize).copied()
    }

    /// The messages to one member, each with its place among all; one of those that are equal.
    pub(super) fn to(&self, member: usize) -> impl Iterator<Item = (u32, Key)> {
        let first = self.keys.partition_point(|key| key.addressee() < member);
        let to = move |(_, key): &(u32, Key)| key.addressee() == member;
        let all = (first as u32..).zip(self.keys[first..].iter().copied()).take_while(to);
        let mut before = None;
        all.filter(move |(_, key)| before.replace(*key) != Some(*key))
    }

    /// Which of these messages are not there before they are sent.
    pub(super) fn unsent(&self, sent: &[Arc<Post>]) -> Unsent {
        let is_new = |post: &Arc<Post>| self.counts || self.keys.binary_search(&post.key).is_err();
        let bits = sent.iter().enumerate().map(|(place, post)| u64::from(is_new(post)) << place);
        Unsent(bits.fold(0, |all, bit| all | bit))
    }

    /// What it is once these messages, which are in order, have been sent too, and this one is gone.
    pub(super) fn with(self: &Arc<Self>, sent: &[Arc<Post>], gone: Option<Key>) -> Arc<Self> {
        if gone.is_none() && self.unsent(sent).is_none() {
            return Arc::clone(self);
        }
        let mut keys = Vec::with_capacity(self.keys.len() + sent.len());
        let without = gone.and_then(|gone| self.keys.binary_search(&gone).ok());
        let old = self.keys.iter().enumerate().filter(|(place, _)| Some(*place) != without);
        let mut old = old.map(|(_, key)| *key).peekable();
        for key in sent.iter().map(|post| post.key) {
            keys.extend(std::iter::from_fn(|| old.next_if(|old| *old < key)));
            if !self.counts {
                old.next_if_eq(&key);
            }
            keys.push(key);
        }
        keys.extend(old);
        Arc::new(Self { keys, counts: self.counts })
    }
}
