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
mod ending;
pub mod formation;
mod forwarding;
pub mod frame;
mod io;
mod jobs;
mod log_lane;
mod opening;
mod options;
mod page;
mod peers;
mod phase;
mod post;
mod reading;
mod refusing;
mod repeats;
mod requests;
mod snapshots;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

pub use answer::{Answer, Halt, ReplicaRefusal};
pub use io::{Ask, DiskJob, Input, JobId, Lane, MachineDone, MachineJob, Output, TaskId, perform};
pub use opening::ReplicaOpenError;
pub use options::{MAX_CHUNK_BYTES, ReplicaOptions, ReplicaOptionsError};
pub use page::{LogPage, LogRange};
pub use post::ReplicaCounters;
pub use refusing::Refusing;
pub use watch::Watch;
pub use worker::Worker;

use crate::action::Action;
use crate::event::Event;
use crate::raft::Raft;
use crate::replica::applying::Applying;
use crate::replica::clients::Clients;
use crate::replica::forwarding::Forwards;
use crate::replica::jobs::Jobs;
use crate::replica::log_lane::LogLane;
use crate::replica::peers::Peers;
use crate::replica::phase::Phase;
use crate::replica::reading::Reading;
use crate::replica::repeats::Repeats;
use crate::replica::snapshots::Snapshots;
use crate::replica::watch::watched_step;
use crate::status::Status;
use crate::time::Instant;
use crate::wal::Wal;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// One member of one group, with its log, its clients, and the snapshots on their way.
///
/// The same options, recovery and sequence of (now, input) give the same outputs, on every platform.
#[derive(Clone, PartialEq, Debug)]
pub struct Replica {
    raft: Raft,
    wal: Wal,
    options: ReplicaOptions,
    now: Instant,
    phase: Phase,
    /// What the kernel is to be told next, in order.
    events: VecDeque<Event>,
    actions: Vec<Action>,
    jobs: Jobs,
    last_task: u64,
    log: LogLane,
    applying: Applying,
    clients: Clients,
    peers: Peers,
    forwards: Forwards,
    repeats: Repeats,
    snapshots: Snapshots,
    reading: Reading,
    counters: ReplicaCounters,
}

impl Replica {
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
        self.now = self.now.max(now);
        if self.phase == Phase::Halted {
            return self.refuse(input, out);
        }
        if self.phase == Phase::Fresh {
            self.phase = Phase::Running;
            self.events.push_back(Event::Wake);
        }
        self.take(input, out);
        if self.events.is_empty() && now >= self.raft.deadline() {
            self.events.push_back(Event::Wake);
        }
        loop {
            while self.phase != Phase::Halted
                && let Some(event) = self.events.pop_front()
            {
                self.step(now, event, out, watch);
            }
            if self.phase == Phase::Halted {
                return self.events.clear();
            }
            self.go_on(out);
            if self.events.is_empty() {
                break;
            }
        }
        self.stop_when_done(out);
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Wake => {}
            Input::Frame { bytes } => self.on_frame(&bytes, out),
            Input::Request { request, ask } => self.on_request(request, ask, out),
            Input::Commands(commands) => self.on_commands(commands, out),
            Input::Disk { job, result } => self.on_disk(job, result, out),
            Input::Machine(done) => self.on_machine(done, out),
            Input::PeerUnreachable(peer) => self.events.push_back(Event::PeerUnreachable(peer)),
            Input::Shutdown => self.shut_down(out),
        }
    }

    /// Steps the kernel, and carries out what it decides.
    fn step(&mut self, now: Instant, event: Event, out: &mut Vec<Output>, watch: &mut impl Watch) {
        let mut actions = core::mem::take(&mut self.actions);
        watched_step(&mut self.raft, now, event, &mut actions, watch);
        for action in actions.drain(..) {
            if self.phase != Phase::Halted {
                self.carry_out(action, out);
            }
        }
        self.actions = actions;
    }

    fn carry_out(&mut self, action: Action, out: &mut Vec<Output>) {
        match action {
            Action::Send(message) => self.send_message(message, out),
            Action::Persist(write) => self.persist(write),
            Action::Apply { through } => self.applying.through = through,
            Action::Restore(snapshot) => self.restore(snapshot),
            Action::FetchSnapshot { from, snapshot } => self.fetch(from, snapshot, out),
            Action::LoadEntries { to, after, through, max_bytes } => {
                self.load(to, after, through, max_bytes, out);
            }
            Action::TakeSnapshot => self.snapshots.want(),
            Action::Respond { request, outcome } => self.on_outcome(request, outcome, out),
            Action::Halt(violation) => self.halt(Halt::Violation(violation), out),
        }
    }

    /// Everything that is not the answer to an input, but is to be done when it can be.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        self.write_log(out);
        if self.phase == Phase::Running {
            self.keep_up(out);
            self.tend_snapshots(out);
            self.apply(out);
            self.give_up_forwards(out);
            self.read_log(out);
        }
    }

    /// When to send [`Input::Wake`], at the latest.
    pub fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Fresh => Instant::ZERO,
            Phase::Halted => Instant::NEVER,
            Phase::Stopping => self.raft.deadline(),
            Phase::Running => [self.log.deadline(), self.snapshots_deadline(), self.forwards.deadline()]
                .into_iter()
                .fold(self.raft.deadline(), Instant::min),
        }
    }

    /// The kernel at this moment.
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// The kernel.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Its settings.
    pub fn options(&self) -> &ReplicaOptions {
        &self.options
    }

    /// The durable log.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Whether nothing is being written to the log, nothing waits to be, and the last batch is marked: no
    /// single damaged block is too much then.
    pub fn is_log_at_rest(&self) -> bool {
        self.wal.is_idle() && self.log.is_at_rest()
    }

    /// Counters of rare events that belong to no request.
    pub fn counters(&self) -> &ReplicaCounters {
        &self.counters
    }

    /// How many requests wait for their answers.
    pub fn waiting(&self) -> usize {
        let elsewhere = self.snapshots.waiting() + self.reading.waiting();
        self.clients.len() + self.forwards.len() + self.repeats.joined() + elsewhere
    }

    fn next_task(&mut self) -> TaskId {
        self.last_task += 1;
        TaskId(self.last_task)
    }
}
