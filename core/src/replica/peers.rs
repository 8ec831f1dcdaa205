//! Which version of the frames each other member speaks.

use crate::membership::MAX_MEMBERS;
use crate::replica::frame::Decoded;
use crate::time::{Instant, Nanos};
use crate::types::{Member, NodeId};
use crate::wire;
use alloc::collections::BTreeMap;

/// What is known of the others, by what they sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Peers {
    /// The latest version that this member speaks.
    speaks: u8,
    hello_interval: Nanos,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Peer {
    member: Member,
    /// The latest version that it speaks, as far as it has shown.
    speaks: u8,
    /// When it last spoke a later version than the oldest.
    spoke: Instant,
    /// When it was last heard of.
    heard: Instant,
    /// When it was last told which this member speaks.
    greeted: Option<Instant>,
}

/// How many others are remembered: those that leave make room for those that come.
const MAX_PEERS: usize = 2 * MAX_MEMBERS;

impl Peers {
    pub(super) fn new(speaks: u8, hello_interval: Nanos) -> Self {
        Self { speaks, hello_interval, peers: BTreeMap::new() }
    }

    /// The latest version that this member speaks.
    pub(super) fn speaks(&self) -> u8 {
        self.speaks
    }

    /// The version in which to speak to a member: the older of the two.
    pub(super) fn version(&self, to: Member) -> u8 {
        let known = self.peers.get(&to.id).filter(|peer| peer.member == to);
        known.map_or(wire::OLDEST, |peer| peer.speaks).min(self.speaks)
    }

    /// A frame has come from this member. A member that speaks a later version says so at intervals, so a
    /// member that has sent only the oldest version for long runs an older program by now.
    pub(super) fn heard(&mut self, from: Member, frame: &Decoded, now: Instant) {
        let patience = self.hello_interval.times(3);
        let peer = self.peer(from, now);
        peer.heard = now;
        if let Some(speaks) = frame.speaks {
            (peer.speaks, peer.spoke) = (speaks, now);
        } else if now - peer.spoke > patience {
            peer.speaks = wire::OLDEST;
        }
    }

    /// Whether a member that is about to be sent something should be told first which version this member
    /// speaks. It counts as told.
    pub(super) fn greet(&mut self, to: Member, now: Instant) -> bool {
        let (speaks, interval) = (self.speaks, self.hello_interval);
        if speaks == wire::OLDEST {
            return false;
        }
        let peer = self.peer(to, now);
        let is_due = peer.greeted.is_none_or(|last| now - last >= interval);
        if peer.speaks >= speaks || !is_due {
            return false;
        }
        peer.greeted = Some(now);
        true
    }

    /// Whether a member that has said which version it speaks should be told the same of this one. It counts
    /// as told. Of two that greet each other, one answers.
    pub(super) fn answers(&mut self, to: Member, now: Instant) -> bool {
        let (speaks, interval) = (self.speaks, self.hello_interval);
        let peer = self.peer(to, now);
        let is_due = speaks > wire::OLDEST && peer.greeted.is_none_or(|last| now - last >= interval);
        if is_due {
            peer.greeted = Some(now);
        }
        is_due
    }

    fn peer(&mut self, member: Member, now: Instant) -> &mut Peer {
        if !self.peers.contains_key(&member.id) && self.peers.len() >= MAX_PEERS {
            let stalest = self.peers.iter().min_by_key(|(_, peer)| peer.heard).map(|(id, _)| *id);
            stalest.map(|id| self.peers.remove(&id));
        }
        let blank = Peer { member, speaks: wire::OLDEST, spoke: now, heard: now, greeted: None };
        let peer = self.peers.entry(member.id).or_insert_with(|| blank.clone());
        if peer.member != member {
            *peer = blank;
        }
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::frame::{Envelope, ReplicaBody, ReplicaMessage};
    use crate::types::ClusterId;

    fn frame(from: Member, speaks: Option<u8>) -> Decoded {
        let message = ReplicaMessage { cluster: ClusterId(1), from, to: from, body: ReplicaBody::Hello };
        Decoded { envelope: Envelope::Replica(message), version: 1, speaks }
    }

    #[test]
    fn a_member_speaks_the_older_of_two_versions_and_the_oldest_to_strangers() {
        let member = Member::from(NodeId::new(2).unwrap());
        let (now, later) = (Instant::from_millis(1), Instant::from_millis(5_000));
        let mut peers = Peers::new(2, Nanos::new(1_000_000_000));
        assert_eq!(peers.version(member), 1);
        assert!(peers.greet(member, now) && !peers.greet(member, now), "told once in an interval");
        peers.heard(member, &frame(member, Some(9)), now);
        assert_eq!(peers.version(member), 2);
        assert!(!peers.greet(member, later), "it knows");
        peers.heard(member, &frame(member, None), now);
        assert_eq!(peers.version(member), 2, "this frame may be older than what was said");
        peers.heard(member, &frame(member, None), later);
        assert_eq!(peers.version(member), 1, "it was replaced by an older program");
        assert!(peers.greet(member, later));
        let reborn = Member::new(member.id, crate::types::Incarnation(1));
        peers.heard(member, &frame(member, Some(2)), later);
        assert_eq!(peers.version(reborn), 1);
    }
}
