//! One member of one group with everything that a host would write again: the kernel, its durable log, its
//! clients, snapshots on their way, and the frames that all of it travels in.
//!
//! A [`Replica`] decides everything and waits for nothing. It has no clock, no socket, no file and no thread:
//! a host tells it what happened, as an [`Input`], and carries out what it decides, as a list of [`Output`]s.
//! Two kinds of work are handed out, which the host may do on threads of their own: [`DiskJob`]s, which any
//! [`Disk`](crate::wal::Disk) can do, and [`MachineJob`]s, which a [`Worker`] does with the embedder's
//! [`StateMachine`](crate::machine::StateMachine). A slow state machine delays answers, never elections.
//!
//! ```text
//!                       Request, Frame, Wake
//!                               │
//!   Machine ◄── MachineJob ── Replica ── DiskJob (lane Log | Bulk) ──► disk
//!           ── MachineDone ──►  │  ◄────── Input::Disk ──────────────
//!                               ▼
//!                        Frame, Answer, Halt
//! ```
//!
//! # A group of one, by hand
//!
//! ```
//! use kontiki_core::config::{Config, Options};
//! use kontiki_core::kv::{Kv, self};
//! use kontiki_core::machine::{Command, Machine};
//! use kontiki_core::membership::Membership;
//! use kontiki_core::durable::Durable;
//! use kontiki_core::replica::{self, Answer, Ask, Input, Output, Replica, Worker};
//! use kontiki_core::time::Instant;
//! use kontiki_core::types::{ClusterId, Identity, NodeId, RequestId};
//! use kontiki_core::wal::{self, MemoryDisk, Wal};
//! use std::collections::VecDeque;
//!
//! let id = NodeId::new(1).expect("not zero");
//! let identity = Identity::new(ClusterId(7), id);
//! let mut disk = MemoryDisk::default();
//! let group = Durable::bootstrap(Membership::of([id])?);
//! let recovery = Wal::open(&mut disk, identity, wal::WalOptions::default(), &group)?;
//! let config = Config::new(identity, Options::default())?;
//! let mut replica = Replica::open(config, replica::ReplicaOptions::default(), recovery, Instant::ZERO)?;
//! let mut worker = Worker::new(Machine::new(Kv::default()));
//!
//! // Carry out whatever is to be done, and report it, until nothing is.
//! let mut answers = Vec::new();
//! let mut run = |replica: &mut Replica, now: Instant, input: Input| {
//!     let mut inputs = VecDeque::from([input]);
//!     while let Some(input) = inputs.pop_front() {
//!         let mut outputs = Vec::new();
//!         replica.handle(now, input, &mut outputs);
//!         for output in outputs {
//!             match output {
//!                 Output::Disk(job) => inputs.push_back(job.run(&mut disk)),
//!                 Output::Machine(job) => inputs.extend(worker.run(job).map(Input::Machine)),
//!                 Output::Answer { answer, .. } => answers.push(answer),
//!                 Output::Frame { .. } => unreachable!("there is no other member"),
//!                 Output::Halt(why) => panic!("{why}"),
//!             }
//!         }
//!     }
//! };
//! run(&mut replica, Instant::ZERO, Input::Wake);
//! let election = replica.deadline();
//! run(&mut replica, election, Input::Wake);
//! let put = kv::Command::Put { key: b"x", value: b"1" }.encode();
//! let ask = Ask::Command(Command::Plain(&put).encode());
//! run(&mut replica, election, Input::Request { request: RequestId(1), ask });
//! assert!(matches!(answers[..], [Answer::Applied { .. }]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a host does
//!
//! Open the directory ([`Wal::open`]), make the replica, send [`Input::Wake`] at once and again whenever its
//! [`deadline`](Replica::deadline) has come, and carry out every output: frames and answers at once, the jobs
//! of a [`Lane`] in their order, the state machine's jobs in theirs. There are no other rules of order.
//!
//! # When things go wrong
//!
//! Any error of the disk but a full one ends the member ([`Halt`]): it sends nothing more. Start it again,
//! and recovery finds what is truly on the disk. If recovery says that too much is lost to go on,
//! [`Refusing`] takes the replica's place and answers every request with what is missing.

mod answer;
mod applying;
mod clients;
mod common;
mod counters;
mod ending;
pub mod formation;
mod forwarding;
pub mod frame;
mod held;
mod io;
mod jobs;
mod loading;
mod log_lane;
mod opening;
mod options;
mod origin;
mod page;
mod peers;
mod phase;
mod reading;
mod refusing;
mod repeats;
mod snapshots;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

pub use answer::{Answer, Halt, ReplicaRefusal};
pub use counters::ReplicaCounters;
pub use held::ReplicaHeld;
pub use io::{Ask, DiskJob, Input, JobId, Lane, MachineDone, MachineJob, Output, TaskId, perform};
pub use opening::ReplicaOpenError;
pub use options::{MAX_CHUNK_BYTES, ReplicaOptions, ReplicaOptionsError};
pub use page::{LogPage, LogRange};
pub use refusing::Refusing;
pub use watch::Watch;
pub use worker::Worker;

use crate::action::{Action, Refusal};
use crate::config::Config;
use crate::event::{Event, Proposal};
use crate::message::Body;
use crate::raft::Raft;
use crate::replica::applying::{Applying, Part};
use crate::replica::clients::Clients;
use crate::replica::common::ReplicaCommon;
use crate::replica::ending::refuse_all;
use crate::replica::forwarding::{Forwards, forwards_to};
use crate::replica::frame::{Envelope, ReplicaBody};
use crate::replica::jobs::Job;
use crate::replica::log_lane::LogLane;
use crate::replica::origin::Origin;
use crate::replica::phase::Phase;
use crate::replica::reading::Reading;
use crate::replica::snapshots::{InUse, Snapshots};
use crate::replica::watch::watched_step;
use crate::status::Status;
use crate::time::Instant;
use crate::types::{Index, LogId, Member, Payload, RequestId};
use crate::wal::{DiskError, Recovery, Wal};
use crate::wire::FrameError;
use alloc::vec::Vec;

/// One member of one group, with its log, its clients, and the snapshots on their way.
///
/// The same options, recovery and sequence of (now, input) give the same outputs, on every platform.
#[derive(Clone, PartialEq, Debug)]
pub struct Replica {
    common: ReplicaCommon,
    actions: Vec<Action>,
    log: LogLane,
    applying: Applying,
    clients: Clients,
    forwards: Forwards,
    snapshots: Snapshots,
    reading: Reading,
}

impl Replica {
    /// Opens a member from its recovered directory, after every operation of [`Recovery::first`] was carried
    /// out. Its state machine has applied nothing yet.
    pub fn open(
        config: Config,
        options: ReplicaOptions,
        recovery: Recovery,
        now: Instant,
    ) -> Result<Self, ReplicaOpenError> {
        options.check(config.options()).map_err(ReplicaOpenError::Options)?;
        let Recovery { wal, mut durable, found, .. } = recovery;
        // The state machine lives in memory; and a witness has no snapshot's bytes to lose.
        durable.applied = Index::ZERO;
        durable.snapshot_lost &= !config.options().witness;
        let rests_on = durable.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let life = wal.life();
        let common = ReplicaCommon::restore(config, options, (wal, durable), now)
            .map_err(ReplicaOpenError::Restore)?;
        Ok(Self {
            actions: Vec::new(),
            log: LogLane::new(rests_on, now),
            applying: Applying::new(common.raft.log().applied()),
            clients: Clients::default(),
            forwards: Forwards::new(life, common.raft.status().term),
            snapshots: Snapshots::new(&found, now),
            reading: Reading::default(),
            common,
        })
    }

    /// Takes one input and appends what follows from it to `out`.
    ///
    /// A clock that goes back counts as one that stands still.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        self.handle_watched(now, input, out, &mut ());
    }

    /// Does what [`handle`](Self::handle) does, and shows every step of the kernel to `watch`.
    pub fn handle_watched(
        &mut self,
        now: Instant,
        input: Input,
        out: &mut Vec<Output>,
        watch: &mut impl Watch,
    ) {
        self.common.now = self.common.now.max(now);
        if self.common.phase == Phase::Halted {
            return refuse_all(input, &ReplicaRefusal::Raft(Refusal::Halted), out);
        }
        if self.common.phase == Phase::Fresh {
            self.common.phase = Phase::Running;
            self.common.events.push_back(Event::Wake);
        }
        let taken = self.take(input, out);
        self.halt_if(taken, out);
        if self.common.events.is_empty() && now >= self.common.raft.deadline() {
            self.common.events.push_back(Event::Wake);
        }
        loop {
            while self.common.phase != Phase::Halted
                && let Some(event) = self.common.events.pop_front()
            {
                self.step(now, event, out, watch);
            }
            if self.common.phase == Phase::Halted {
                return self.common.events.clear();
            }
            self.go_on(out);
            if self.common.events.is_empty() {
                break;
            }
        }
        self.stop_when_done(out);
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        match input {
            Input::Wake => {}
            Input::Frame { bytes } => self.on_frame(&bytes, out),
            Input::Request { request, ask } => self.on_request(request, ask, out),
            Input::Commands(commands) => self.on_commands(commands, out),
            Input::Disk { job, result } => self.on_disk(job, result, out)?,
            Input::Machine(done) => self.on_machine(done, out)?,
            Input::PeerUnreachable(peer) => self.common.events.push_back(Event::PeerUnreachable(peer)),
            Input::Shutdown => self.shut_down(out),
        }
        Ok(())
    }

    /// Steps the kernel, and carries out what it decides.
    fn step(&mut self, now: Instant, event: Event, out: &mut Vec<Output>, watch: &mut impl Watch) {
        let mut actions = core::mem::take(&mut self.actions);
        watched_step(&mut self.common.raft, now, event, &mut actions, watch);
        for action in actions.drain(..) {
            if self.common.phase != Phase::Halted {
                let carried_out = self.carry_out(action, out);
                self.halt_if(carried_out, out);
            }
        }
        self.actions = actions;
    }

    fn carry_out(&mut self, action: Action, out: &mut Vec<Output>) -> Result<(), Halt> {
        let common = &mut self.common;
        match action {
            Action::Send(message) => common.send_message(message, out),
            Action::Persist(write) => self.log.persist(common, write),
            Action::Apply { through } => self.applying.apply_through(through),
            Action::Restore(snapshot) => self.applying.restore(snapshot),
            Action::FetchSnapshot { from, snapshot } => self.snapshots.fetch(common, from, snapshot, out),
            Action::LoadEntries { to, after, through, max_bytes } => {
                loading::load(common, (to, after), through, max_bytes, out);
            }
            Action::TakeSnapshot => self.snapshots.want(),
            Action::Respond { request, outcome } => {
                self.clients.on_outcome(common, request, outcome, self.applying.at(), out);
            }
            Action::Halt(violation) => return Err(Halt::Violation(violation)),
        }
        Ok(())
    }

    /// Everything that is not the answer to an input, but is to be done when it can be.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        let common = &mut self.common;
        self.log.write(common, out);
        if common.phase != Phase::Running {
            return;
        }
        self.log.keep_up(common, out);
        let in_use = InUse { rests_on: self.log.rests_on(), restores: self.applying.restores() };
        self.snapshots.go_on(common, self.applying.stands_at(), in_use, out);
        if let Some(chunk) = self.applying.apply(common, out) {
            let part = self.snapshots.read_to_restore(common, chunk, out);
            self.restore_on(part, out);
        }
        self.forwards.give_up(&mut self.common, out);
        self.reading.read_log(&mut self.common, out);
    }

    fn on_frame(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        let common = &mut self.common;
        let max = frame::max_body(common.raft.config().options());
        let decoded = match frame::decode(bytes, common.peers.speaks(), max) {
            Ok(decoded) => decoded,
            Err(FrameError::Version(_)) => return common.counters.unknown_versions += 1,
            Err(_) => return common.counters.bad_frames += 1,
        };
        let me = common.identity();
        let (cluster, from, to) = match &decoded.envelope {
            Envelope::Raft(message) => (message.cluster, message.from, message.to),
            Envelope::Replica(message) => (message.cluster, message.from, message.to),
        };
        if cluster == me.cluster && from.id != me.member.id {
            common.peers.heard(from, &decoded, common.now);
        }
        match decoded.envelope {
            Envelope::Raft(message) => {
                // A member that offers a snapshot has its file, and can send it.
                if let Body::OfferSnapshot { snapshot } | Body::RepairSnapshot { snapshot } = &message.body {
                    self.snapshots.on_offered(from, snapshot);
                }
                common.events.push_back(Event::Receive(message));
            }
            Envelope::Replica(message) => {
                if cluster == me.cluster && to == me.member && from.id != me.member.id {
                    self.on_replica_message(from, message.body, out);
                } else {
                    common.counters.unexpected_messages += 1;
                }
            }
        }
    }

    fn on_replica_message(&mut self, from: Member, body: ReplicaBody, out: &mut Vec<Output>) {
        let common = &mut self.common;
        if common.phase.is_ending() {
            return;
        }
        match body {
            // A member that has just started says little until it knows what this one understands, and may
            // wait for an answer to it.
            ReplicaBody::Hello => {
                if common.peers.answers(from, common.now) {
                    common.greet(from, out);
                }
            }
            ReplicaBody::SnapshotRequest { last, edition, piece } => {
                self.snapshots.on_piece_asked(common, from, (last, edition, piece), out);
            }
            ReplicaBody::SnapshotPiece { last, edition, piece, bytes } => {
                self.snapshots.on_piece(common, from, (last, edition, piece), &bytes, out);
            }
            ReplicaBody::SnapshotGone { last, edition } => {
                self.snapshots.on_gone(common, from, last, edition);
            }
            ReplicaBody::Forward { term, id, command } => {
                let (forwarded, is_busy) = ((term, id, command), self.is_busy());
                let command = self.forwards.on_forward(&mut self.common, from, forwarded, is_busy, out);
                if let Some((origin, command)) = command {
                    self.propose(origin, command);
                }
            }
            ReplicaBody::Forwarded { id, reply } => {
                self.forwards.on_forwarded(common, from, id, reply, out);
            }
        }
    }

    fn on_request(&mut self, request: RequestId, ask: Ask, out: &mut Vec<Output>) {
        let origin = Origin::Client(request);
        let common = &self.common;
        let refusal = self.refusal().or_else(|| match &ask {
            Ask::Query { query, .. } => self.clients.refusal_of_query(common, query.len() as u64),
            _ => None,
        });
        if let Some(refusal) = refusal {
            return out.push(Output::Answer { request, answer: Answer::Refused(refusal) });
        }
        let common = &mut self.common;
        match ask {
            Ask::Command(payload) => self.on_command(origin, payload, out),
            Ask::Query { query, via } => self.clients.query(common, origin, query, via),
            Ask::Reconfigure { expected, changes, force } => {
                self.clients.reconfigure(common, origin, (expected, changes, force));
            }
            Ask::CancelChange => self.clients.cancel_change(common, origin),
            Ask::Transfer { to } => self.clients.transfer(common, origin, to),
            Ask::Snapshot => self.snapshots.on_asked(common, request, out),
            Ask::Entries { range, max_bytes } => self.reading.ask(common, request, range, max_bytes),
        }
    }

    /// Why no request is taken in, if none is.
    fn refusal(&self) -> Option<ReplicaRefusal> {
        if self.common.phase == Phase::Stopping {
            return Some(ReplicaRefusal::Raft(Refusal::Stopped));
        }
        self.is_busy().then_some(ReplicaRefusal::TooMany)
    }

    fn is_busy(&self) -> bool {
        self.waiting() >= self.common.options.max_requests
    }

    fn on_command(&mut self, origin: Origin, payload: Payload, out: &mut Vec<Output>) {
        let common = &mut self.common;
        let Some(origin) = common.repeats.bring(origin, &payload) else { return };
        match forwards_to(common) {
            Some(leader) => self.forwards.forward(common, origin, leader, payload, out),
            None => self.propose(origin, payload),
        }
    }

    fn propose(&mut self, origin: Origin, payload: Payload) {
        let proposal = self.clients.proposal(origin, payload);
        self.common.events.push_back(Event::Propose(proposal));
    }

    fn on_commands(&mut self, commands: Vec<Proposal>, out: &mut Vec<Output>) {
        if forwards_to(&self.common).is_some() {
            for Proposal { request, payload } in commands {
                self.on_request(request, Ask::Command(payload), out);
            }
            return;
        }
        let mut proposals = Vec::with_capacity(commands.len());
        for Proposal { request, payload } in commands {
            if let Some(refusal) = self.refusal() {
                out.push(Output::Answer { request, answer: Answer::Refused(refusal) });
            } else if let Some(origin) = self.common.repeats.bring(Origin::Client(request), &payload) {
                proposals.push(self.clients.proposal(origin, payload));
            }
        }
        if !proposals.is_empty() {
            self.common.events.push_back(Event::ProposeBatch(proposals));
        }
    }

    fn on_disk(
        &mut self,
        id: JobId,
        result: Result<Vec<Vec<u8>>, DiskError>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let common = &mut self.common;
        let Some(job) = common.jobs.finish(id) else {
            return Ok(());
        };
        let (job, bytes) = match (job, result) {
            (Job::Upkeep, result) => return self.log.on_upkeep(common, result.map(|_| ())),
            (Job::Snapshot(job), result) => {
                let restoring = self.applying.restoring();
                let part = self.snapshots.on_disk(common, (job, result), restoring, out)?;
                self.restore_on(part, out);
                return Ok(());
            }
            (job, Ok(read)) => (job, read.into_iter().next().unwrap_or_default()),
            (_, Err(error)) => return Err(Halt::Disk(error)),
        };
        match job {
            Job::Batch => self.log.on_batch_written(common),
            Job::Mark => self.log.on_mark_written(common),
            Job::Load { to, after, extent } => loading::on_read(common, (to, after), &extent, &bytes)?,
            Job::Apply(extent) => self.applying.on_read_back(common, &extent, &bytes, out)?,
            Job::Page { after, through, extent } => {
                self.reading.on_page_read(common, (after, through, &extent), &bytes, out);
            }
            Job::Upkeep | Job::Snapshot(_) => {}
        }
        Ok(())
    }

    fn on_machine(&mut self, done: MachineDone, out: &mut Vec<Output>) -> Result<(), Halt> {
        let common = &mut self.common;
        match done {
            MachineDone::Applied { result } => {
                if let Some(applied) = self.applying.on_applied(common, result)? {
                    self.snapshots.on_applied(applied.entries, applied.bytes);
                    self.clients.on_applied(common, applied.through, applied.answers, out);
                }
            }
            MachineDone::Queried { read, answer } => self.clients.on_queried(common, read, answer, out),
            MachineDone::Chunk { task, bytes } => self.snapshots.on_chunk(common, task, &bytes, out),
            MachineDone::Fed { task, result } => {
                if let Some(chunk) = self.applying.on_fed(common, task, result)? {
                    let part = self.snapshots.read_to_restore(common, chunk, out);
                    self.restore_on(part, out);
                }
            }
            MachineDone::Restored { task, result } => {
                if let Some(through) = self.applying.on_restored(common, task, result)? {
                    self.snapshots.on_restored(common);
                    // Entries through the snapshot are applied, but their answers are known only on the
                    // member that took it.
                    self.clients.pass(common, through, out);
                }
            }
        }
        Ok(())
    }

    fn restore_on(&mut self, part: Option<Part>, out: &mut Vec<Output>) {
        if let Some(part) = part {
            self.applying.feed(&self.common, part, out);
        }
    }

    fn shut_down(&mut self, out: &mut Vec<Output>) {
        if self.common.phase == Phase::Running {
            self.common.phase = Phase::Stopping;
            self.common.events.push_back(Event::Shutdown);
            let refusal = Answer::Refused(ReplicaRefusal::Raft(Refusal::Stopped));
            self.answer_outside_the_kernel(&refusal, out);
        }
    }

    /// Goes on with a shutdown. Nothing new is applied, so requests that wait for it are answered. Once no
    /// job is in progress, the member halts.
    fn stop_when_done(&mut self, out: &mut Vec<Output>) {
        if self.common.phase != Phase::Stopping {
            return;
        }
        self.clients.give_up_after(&mut self.common, self.applying.reaches(), out);
        // The writes that are still queued have no space on the disk, and were never acknowledged.
        let is_done = !self.log.is_writing() && self.common.jobs.is_empty() && self.applying.is_idle();
        if is_done && self.clients.len() == 0 {
            self.halt(Halt::Stopped, out);
        }
    }

    fn halt_if(&mut self, result: Result<(), Halt>, out: &mut Vec<Output>) {
        if let Err(why) = result {
            self.halt(why, out);
        }
    }

    /// Halts the member: every waiting request is answered, and the member sends nothing more.
    fn halt(&mut self, why: Halt, out: &mut Vec<Output>) {
        self.common.phase = Phase::Halted;
        let refusal = Answer::Refused(ReplicaRefusal::Raft(match why {
            Halt::Stopped => Refusal::Stopped,
            _ => Refusal::Halted,
        }));
        self.answer_outside_the_kernel(&refusal, out);
        self.clients.end(&mut self.common, &refusal, out);
        out.push(Output::Halt(why));
    }

    fn answer_outside_the_kernel(&mut self, refusal: &Answer, out: &mut Vec<Output>) {
        for request in self.snapshots.take_waiting().into_iter().chain(self.reading.take_waiting()) {
            out.push(Output::Answer { request, answer: refusal.clone() });
        }
        for origin in self.forwards.take_all() {
            self.common.tell(origin, Answer::Unknown, out);
        }
    }

    /// When to send [`Input::Wake`], at the latest.
    pub fn deadline(&self) -> Instant {
        let common = &self.common;
        match common.phase {
            Phase::Fresh => Instant::ZERO,
            Phase::Halted => Instant::NEVER,
            Phase::Stopping => common.raft.deadline(),
            Phase::Running => {
                [self.log.deadline(), self.snapshots.deadline(common), self.forwards.deadline()]
                    .into_iter()
                    .fold(common.raft.deadline(), Instant::min)
            }
        }
    }

    /// The kernel at this moment.
    pub fn status(&self) -> Status {
        self.common.raft.status()
    }

    /// The kernel.
    pub fn raft(&self) -> &Raft {
        &self.common.raft
    }

    /// Its settings.
    pub fn options(&self) -> &ReplicaOptions {
        &self.common.options
    }

    /// The durable log.
    pub fn wal(&self) -> &Wal {
        &self.common.wal
    }

    /// Whether nothing is being written to the log, nothing waits to be, and the last batch is marked: no
    /// single damaged block is too much then.
    pub fn is_log_at_rest(&self) -> bool {
        self.common.wal.is_idle() && self.log.is_at_rest()
    }

    /// Counters of rare events that belong to no request.
    pub fn counters(&self) -> &ReplicaCounters {
        &self.common.counters
    }

    /// What it holds in memory beside its kernel.
    pub fn held(&self) -> ReplicaHeld {
        ReplicaHeld {
            requests: self.waiting(),
            query_bytes: self.clients.query_bytes(),
            fetched_pieces: self.snapshots.fetched_pieces(),
            asked_pieces: self.snapshots.asked_pieces(),
        }
    }

    /// How many requests wait for their answers.
    pub fn waiting(&self) -> usize {
        let elsewhere = self.snapshots.waiting() + self.reading.waiting();
        self.clients.len() + self.forwards.len() + self.common.repeats.joined() + elsewhere
    }
}
