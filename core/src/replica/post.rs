//! What comes from other members and goes to them.

use crate::event::Event;
use crate::message::{Body, Message};
use crate::replica::Replica;
use crate::replica::frame::{self, Envelope, ReplicaBody, ReplicaMessage};
use crate::replica::io::{Lane, Output};
use crate::types::Member;
use crate::wire::{self, FrameError};
use alloc::vec::Vec;

/// Counters of rare events that belong to no request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReplicaCounters {
    /// Frames that were damaged, or held nothing that can be read.
    pub bad_frames: u64,
    /// Frames of a version that this member does not speak.
    pub unknown_versions: u64,
    /// What was not sent because the version that its addressee is known to speak cannot say it.
    pub unsupported_version: u64,
    /// Notes of strangers, to others, or to nothing that was asked.
    pub unexpected_messages: u64,
    /// Pieces of snapshots that were sent.
    pub pieces_sent: u64,
    /// Pieces of snapshots that came and were wanted.
    pub pieces_taken: u64,
    /// Pieces of snapshots that came and were not: copies, late ones, those of another snapshot, damaged
    /// ones.
    pub pieces_dropped: u64,
    /// Pieces of snapshots that were asked for again.
    pub pieces_asked_again: u64,
    /// Snapshots that were taken here.
    pub snapshots_taken: u64,
    /// Snapshots that were fetched whole.
    pub snapshots_fetched: u64,
    /// Snapshots that could not be had.
    pub snapshots_failed: u64,
    /// How often a fetch went on from where another had ended.
    pub fetches_resumed: u64,
    /// Commands that were sent on to the leader.
    pub forwarded: u64,
}

impl Replica {
    pub(super) fn on_frame(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        let max = frame::max_body(self.raft.config().options());
        let decoded = match frame::decode(bytes, self.peers.speaks(), max) {
            Ok(decoded) => decoded,
            Err(FrameError::Version(_)) => return self.counters.unknown_versions += 1,
            Err(_) => return self.counters.bad_frames += 1,
        };
        let me = self.raft.config().identity();
        let (cluster, from, to) = match &decoded.envelope {
            Envelope::Raft(message) => (message.cluster, message.from, message.to),
            Envelope::Replica(message) => (message.cluster, message.from, message.to),
        };
        if cluster == me.cluster && from.id != me.member.id {
            self.peers.heard(from, &decoded, self.now);
        }
        match decoded.envelope {
            Envelope::Raft(message) => {
                self.note_offer(&message);
                self.events.push_back(Event::Receive(message));
            }
            Envelope::Replica(message) => {
                if cluster == me.cluster && to == me.member && from.id != me.member.id {
                    self.on_replica_message(from, message.body, out);
                } else {
                    self.counters.unexpected_messages += 1;
                }
            }
        }
    }

    /// A member that offers a snapshot has its file, and can send it.
    fn note_offer(&mut self, message: &Message) {
        if let Body::OfferSnapshot { snapshot } | Body::RepairSnapshot { snapshot } = &message.body {
            self.offered(message.from, snapshot);
        }
    }

    fn on_replica_message(&mut self, from: Member, body: ReplicaBody, out: &mut Vec<Output>) {
        if self.phase.is_ending() {
            return;
        }
        match body {
            // A member that has just started says little until it knows what this one understands, and may
            // wait for an answer to it.
            ReplicaBody::Hello => {
                if self.peers.answers(from, self.now) {
                    self.greet(from, out);
                }
            }
            ReplicaBody::SnapshotRequest { last, edition, piece } => {
                self.on_piece_asked(from, last, edition, piece, out);
            }
            ReplicaBody::SnapshotPiece { last, edition, piece, bytes } => {
                self.on_piece(from, last, edition, piece, &bytes, out);
            }
            ReplicaBody::SnapshotGone { last, edition } => self.on_gone(from, last, edition),
            ReplicaBody::Forward { term, id, command } => self.on_forward(from, term, id, command, out),
            ReplicaBody::Forwarded { id, reply } => self.on_forwarded(from, id, reply, out),
        }
    }

    pub(super) fn send_message(&mut self, message: Message, out: &mut Vec<Output>) {
        let (to, lane) = (message.to, lane_of(&message.body));
        let message = wire::reword(message, self.peers.version(to));
        self.send(to, lane, &Envelope::Raft(message), out);
    }

    pub(super) fn send_replica(
        &mut self,
        to: Member,
        lane: Lane,
        body: ReplicaBody,
        out: &mut Vec<Output>,
    ) -> bool {
        let me = self.raft.config().identity();
        let message = ReplicaMessage { cluster: me.cluster, from: me.member, to, body };
        self.send(to, lane, &Envelope::Replica(message), out)
    }

    /// Sends in the older of two versions; and tells those who seem to speak an older one that this member
    /// speaks a later.
    fn send(&mut self, to: Member, lane: Lane, envelope: &Envelope, out: &mut Vec<Output>) -> bool {
        let (speaks, version) = (self.peers.speaks(), self.peers.version(to));
        if self.peers.greet(to, self.now) {
            self.greet(to, out);
        }
        let mut bytes = Vec::new();
        let said = frame::encode(envelope, version, speaks, &mut bytes);
        if said {
            let lane = if bytes.len() > MAX_SHORT { Lane::Bulk } else { lane };
            out.push(Output::Frame { to, lane, bytes });
        } else {
            self.counters.unsupported_version += 1;
        }
        said
    }

    /// Says which version this member speaks.
    fn greet(&self, to: Member, out: &mut Vec<Output>) {
        let me = self.raft.config().identity();
        let message = ReplicaMessage { cluster: me.cluster, from: me.member, to, body: ReplicaBody::Hello };
        let hello = Envelope::Replica(message);
        let mut bytes = Vec::new();
        frame::encode(&hello, frame::version_of(&hello), self.peers.speaks(), &mut bytes);
        out.push(Output::Frame { to, lane: Lane::Log, bytes });
    }
}

/// By which way a message goes. All that carries entries goes by the same, however few they are: what follows
/// an append must not overtake it, and an empty append asks what became of those before it.
fn lane_of(body: &Body) -> Lane {
    match body {
        Body::Append { .. } | Body::RepairResponse { .. } => Lane::Bulk,
        _ => Lane::Log,
    }
}

/// A frame of more bytes is sent in the bulk lane, whatever it holds.
const MAX_SHORT: usize = 16 << 10;
