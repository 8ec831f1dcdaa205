//! What every piece of a replica works with: the kernel, the log, the settings, the time, and the ways out.

use crate::config::Config;
use crate::durable::{Durable, RestoreError};
use crate::event::Event;
use crate::message::{Body, Message};
use crate::raft::Raft;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::counters::ReplicaCounters;
use crate::replica::frame::{self, Envelope, ForwardId, ReplicaBody, ReplicaMessage, Reply};
use crate::replica::io::{Lane, Output, TaskId};
use crate::replica::jobs::Jobs;
use crate::replica::options::ReplicaOptions;
use crate::replica::origin::Origin;
use crate::replica::peers::Peers;
use crate::replica::phase::Phase;
use crate::replica::repeats::Repeats;
use crate::time::Instant;
use crate::types::{Identity, Member};
use crate::wal::Wal;
use crate::wire;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct ReplicaCommon {
    pub(super) raft: Raft,
    pub(super) wal: Wal,
    pub(super) options: ReplicaOptions,
    pub(super) now: Instant,
    pub(super) phase: Phase,
    /// What the kernel is to be told next, in order.
    pub(super) events: VecDeque<Event>,
    pub(super) jobs: Jobs,
    pub(super) peers: Peers,
    pub(super) repeats: Repeats,
    pub(super) counters: ReplicaCounters,
    last_task: u64,
}

impl ReplicaCommon {
    pub(super) fn restore(
        config: Config,
        options: ReplicaOptions,
        (wal, durable): (Wal, Durable),
        now: Instant,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            raft: Raft::restore(config, durable, now)?,
            wal,
            now,
            phase: Phase::Fresh,
            events: VecDeque::new(),
            jobs: Jobs::default(),
            peers: Peers::new(options.wire_version, options.hello_interval.into()),
            repeats: Repeats::default(),
            counters: ReplicaCounters::default(),
            last_task: 0,
            options,
        })
    }

    pub(super) fn identity(&self) -> Identity {
        self.raft.config().identity()
    }

    /// Whether this member votes and keeps the log, and has no state machine.
    pub(super) fn is_witness(&self) -> bool {
        self.raft.config().options().witness
    }

    pub(super) fn next_task(&mut self) -> TaskId {
        self.last_task += 1;
        TaskId(self.last_task)
    }

    /// Sends a message of the kernel.
    pub(super) fn send_message(&mut self, message: Message, out: &mut Vec<Output>) {
        let (to, lane) = (message.to, lane_of(&message.body));
        let message = wire::reword(message, self.peers.version(to));
        self.send_frame(to, lane, &Envelope::Raft(message), out);
    }

    /// Sends a message of the replica.
    pub(super) fn send(&mut self, to: Member, lane: Lane, body: ReplicaBody, out: &mut Vec<Output>) {
        let envelope = self.envelope(to, body);
        self.send_frame(to, lane, &envelope, out);
    }

    /// Says which version this member speaks.
    pub(super) fn greet(&self, to: Member, out: &mut Vec<Output>) {
        let hello = self.envelope(to, ReplicaBody::Hello);
        let mut bytes = Vec::new();
        frame::encode(&hello, frame::version_of(&hello), self.peers.speaks(), &mut bytes);
        out.push(Output::Frame { to, lane: Lane::Log, bytes });
    }

    fn envelope(&self, to: Member, body: ReplicaBody) -> Envelope {
        let me = self.identity();
        Envelope::Replica(ReplicaMessage { cluster: me.cluster, from: me.member, to, body })
    }

    /// Sends in the older of two versions; and tells those who seem to speak an older one that this member
    /// speaks a later.
    fn send_frame(&mut self, to: Member, lane: Lane, envelope: &Envelope, out: &mut Vec<Output>) {
        let (speaks, version) = (self.peers.speaks(), self.peers.version(to));
        if self.peers.greet(to, self.now) {
            self.greet(to, out);
        }
        let mut bytes = Vec::with_capacity(ROOM);
        if frame::encode(envelope, version, speaks, &mut bytes) {
            let lane = if bytes.len() > MAX_SHORT { Lane::Bulk } else { lane };
            out.push(Output::Frame { to, lane, bytes });
        } else {
            self.counters.unsupported_version += 1;
        }
    }

    /// Sends the one answer to the origin of a request.
    pub(super) fn tell(&mut self, origin: Origin, answer: Answer, out: &mut Vec<Output>) {
        match origin {
            Origin::Client(request) => out.push(Output::Answer { request, answer }),
            Origin::Peer(member, id) => self.reply(member, id, answer, out),
            Origin::Long(number) => {
                for origin in self.repeats.take(number) {
                    self.tell(origin, answer.clone(), out);
                }
            }
        }
    }

    /// Answers a member that sent a command on. One that has halted says nothing more.
    fn reply(&mut self, to: Member, id: ForwardId, answer: Answer, out: &mut Vec<Output>) {
        if self.phase == Phase::Halted {
            return;
        }
        let reply = match answer {
            Answer::Applied { id, answer } => Reply::Applied { id, answer },
            Answer::Unanswered(id) => Reply::Unanswered(id),
            Answer::Refused(ReplicaRefusal::Raft(refusal)) => Reply::Refused(refusal),
            _ => Reply::Unknown,
        };
        self.send(to, Lane::Log, ReplicaBody::Forwarded { id, reply }, out);
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

/// Most frames have fewer bytes.
const ROOM: usize = 128;

/// A frame of more bytes is sent in the bulk lane, whatever it holds.
const MAX_SHORT: usize = 16 << 10;
