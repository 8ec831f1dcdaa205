//! The task that runs one member. It passes inputs to the replica, and carries out the replica's actions on
//! the disk, the state machine, the network and the waiting callers. It makes no protocol decision.
//!
//! ```text
//!   frames ──►┐                         ┌─► transport
//!   requests ─►  Replica::handle(now)  ─┤─► disk threads ──────► done ─┐
//!   done ────►┘        ▲                ├─► the state machine's thread ┤
//!                      │                └─► answers                    │
//!                      └───────────────────────────────────────────────┘
//! ```

use crate::clock::Clock;
use crate::host::Host;
use crate::node::event::{DriverEvent, NodeCounters, Waiter};
use crate::node::handle::NodeHandle;
use crate::node::worker::Work;
use crate::protocol::{MemberStatus, NodePhase, NodeStatus};
use crate::record::FlightRecorder;
use crate::storage::{Directory, Done};
use kontiki_core::event::Proposal;
use kontiki_core::replica::{self, Answer, Halt, Input, MachineDone, Output, Refusing, Replica};
use kontiki_core::status::{PauseReason, Status};
use kontiki_core::time::Instant;
use kontiki_core::types::{Identity, NodeId, RequestId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The member, or its substitute when its directory is damaged beyond repair by other members.
#[derive(Debug)]
pub(super) enum Member {
    Replica(Box<Replica>),
    /// A description of the damage.
    Refusing(Refusing, String),
}

pub(super) struct Driver {
    pub(super) identity: Identity,
    pub(super) member: Member,
    pub(super) recorder: Option<FlightRecorder>,
    pub(super) clock: Clock,
    pub(super) host: Arc<Host>,
    pub(super) directory: Directory,
    pub(super) work: Work,
    pub(super) handle: Arc<NodeHandle>,
    pub(super) told: mpsc::Receiver<DriverEvent>,
    pub(super) disk_done: mpsc::UnboundedReceiver<Done>,
    pub(super) machine_done: mpsc::UnboundedReceiver<MachineDone>,
    pub(super) done: mpsc::UnboundedSender<Done>,
    pub(super) pending: PendingRequests,
}

/// The pending requests and the results collected for them.
#[derive(Default)]
pub(super) struct PendingRequests {
    last: u64,
    waiting: HashMap<RequestId, (Waiter, Option<std::time::Instant>)>,
    commands: Vec<Proposal>,
    outputs: Vec<Output>,
    /// The members to which the transport keeps a connection.
    connected: Vec<NodeId>,
    /// The status that was published last.
    published: Option<Status>,
    stopped: bool,
}

/// The number of items taken from one queue before the other queues have their turn.
const MANY: usize = 512;

/// Takes more of what is there already, up to [`MANY`] in all.
fn fill<T>(batch: &mut Vec<T>, mut next: impl FnMut() -> Option<T>) {
    while batch.len() < MANY
        && let Some(more) = next()
    {
        batch.push(more);
    }
}

impl Driver {
    pub(super) async fn run(mut self) {
        if let Member::Refusing(_, missing) = &self.member {
            let phase = NodePhase::Refusing(missing.clone());
            tracing::error!(member = %self.identity.member.id, missing, "refuses all requests");
            self.handle.set_phase(phase);
        }
        self.handle(Input::Wake);
        self.publish();
        let mut sleep = Box::pin(tokio::time::sleep(self.clock.sleep_until(self.deadline())));
        let (mut told, mut disk_done, mut machine_done) = (Vec::new(), Vec::new(), Vec::new());
        while !self.pending.stopped {
            tokio::select! {
                biased;
                _ = self.disk_done.recv_many(&mut disk_done, MANY) => {}
                count = self.machine_done.recv_many(&mut machine_done, MANY) => {
                    if count == 0 {
                        self.lose_machine();
                        break;
                    }
                }
                count = self.told.recv_many(&mut told, MANY) => {
                    if count == 0 {
                        // The last handle was dropped.
                        told.push(DriverEvent::Shutdown);
                    }
                }
                () = &mut sleep => {}
            }
            if told.iter().any(|told| matches!(told, DriverEvent::Ask(..))) {
                // Requests that arrive now share the write and the messages to the followers.
                tokio::task::yield_now().await;
            }
            fill(&mut disk_done, || self.disk_done.try_recv().ok());
            fill(&mut machine_done, || self.machine_done.try_recv().ok());
            fill(&mut told, || self.told.try_recv().ok());
            disk_done.drain(..).for_each(|Done { job, result }| self.handle(Input::Disk { job, result }));
            machine_done.drain(..).for_each(|done| self.handle(Input::Machine(done)));
            told.drain(..).for_each(|told| self.on_event(told));
            self.propose();
            if self.clock.now() >= self.deadline() {
                self.handle(Input::Wake);
            }
            self.publish();
            // A timer that fires too early costs less than resetting it at each step.
            let wake = tokio::time::Instant::now() + self.clock.sleep_until(self.deadline());
            if wake < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(wake);
            }
        }
        self.end().await;
    }

    fn deadline(&self) -> Instant {
        match &self.member {
            Member::Replica(replica) => replica.deadline(),
            Member::Refusing(..) => Instant::NEVER,
        }
    }

    fn on_event(&mut self, told: DriverEvent) {
        match told {
            DriverEvent::Frame(bytes) => {
                self.handle.taken(bytes.len());
                self.handle(Input::Frame { bytes });
            }
            DriverEvent::Broken(peer) => self.handle(Input::PeerUnreachable(peer)),
            DriverEvent::Ask(replica::Ask::Command(payload), waiter) => {
                let request = self.number(waiter, Some(std::time::Instant::now()));
                self.pending.commands.push(Proposal { request, payload });
            }
            DriverEvent::Ask(ask, waiter) => {
                self.propose();
                let request = self.number(waiter, None);
                self.handle(Input::Request { request, ask });
            }
            DriverEvent::Members(reply) => drop(reply.send(self.members())),
            DriverEvent::Counters(reply) => drop(reply.send(self.counters())),
            DriverEvent::Shutdown => {
                self.propose();
                self.handle(Input::Shutdown);
                // A member that refuses everything has nothing to finish.
                self.pending.stopped |= matches!(self.member, Member::Refusing(..)) || self.is_halted();
            }
        }
    }

    fn number(&mut self, waiter: Waiter, since: Option<std::time::Instant>) -> RequestId {
        self.pending.last += 1;
        let request = RequestId(self.pending.last);
        self.pending.waiting.insert(request, (waiter, since));
        request
    }

    /// Commands that arrive together share one write, and one message to each follower.
    fn propose(&mut self) {
        if !self.pending.commands.is_empty() {
            let commands = std::mem::take(&mut self.pending.commands);
            self.handle(Input::Commands(commands));
        }
    }

    /// Hands an input to the member, and carries out the actions it returns. The clock is read after the
    /// input has arrived: a lease that expired while this process was suspended is then seen as expired.
    fn handle(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.pending.outputs);
        let now = self.clock.now();
        match (&mut self.member, &mut self.recorder) {
            (Member::Replica(replica), None) => replica.handle(now, input, &mut outputs),
            (Member::Replica(replica), Some(recorder)) => {
                replica.handle_watched(now, input, &mut outputs, recorder);
            }
            (Member::Refusing(refusing, _), _) => refusing.handle(input, &mut outputs),
        }
        outputs.drain(..).for_each(|output| self.carry_out(output));
        self.pending.outputs = outputs;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Frame { to, lane, bytes } => {
                self.host.send(to.id, lane, self.identity.cluster, bytes);
            }
            Output::Disk(job) => {
                let whose = (&self.done, self.handle.metrics());
                self.host.storage().hand(&self.directory, job.lane, job.operations, job.id, whose);
            }
            Output::Machine(job) => self.work.hand(job),
            Output::Answer { request, answer } => self.answer(request, answer),
            Output::Halt(why) => self.on_halt(&why),
        }
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some((waiter, since)) = self.pending.waiting.remove(&request) else { return };
        match (&answer, since) {
            (Answer::Refused(refusal), _) => self.handle.metrics().refused(refusal.code()),
            (Answer::Applied { .. }, Some(since)) => self.handle.metrics().applied(since.elapsed()),
            _ => {}
        }
        waiter.tell(answer);
    }

    fn on_halt(&mut self, why: &Halt) {
        if matches!(why, Halt::Stopped) {
            self.pending.stopped = true;
            return;
        }
        tracing::error!(member = %self.identity.member.id, %why, "halted");
        self.handle.set_phase(NodePhase::Halted(why.to_string()));
    }

    fn is_halted(&self) -> bool {
        matches!(self.handle.status_sender().borrow().phase, NodePhase::Halted(_))
    }

    fn counters(&self) -> NodeCounters {
        match &self.member {
            Member::Replica(replica) => NodeCounters {
                replica: *replica.counters(),
                drops: *replica.raft().drops(),
                retention: replica.raft().retention(),
                segments: replica.wal().segments(),
                waiting: replica.waiting(),
                recorder: self.recorder.as_ref().map(FlightRecorder::counters),
            },
            Member::Refusing(..) => NodeCounters::default(),
        }
    }

    fn members(&self) -> Vec<MemberStatus> {
        let Member::Replica(replica) = &self.member else { return Vec::new() };
        let (raft, status, now) = (replica.raft(), replica.status(), self.clock.now());
        let (me, leader) = (self.identity.member.id, raft.leader());
        let of = |member: &kontiki_core::types::Member| {
            let peer = leader.and_then(|leader| leader.peer(member.id));
            let matched = if member.id == me {
                leader.map(|_| status.durable.index)
            } else {
                peer.map(|peer| peer.matched)
            };
            // A new leader counts all members as heard from at its election. The sockets know more; but they
            // may serve several groups, so the last contact of this group's leader counts where it is later.
            let counted = peer.map(|peer| (now - peer.last_contact).get() / 1_000_000);
            let heard = self.host.last_heard_ms(member.id);
            MemberStatus {
                member: *member,
                address: self.host.address_of(member.id),
                kind: raft.log().membership().kind(*member),
                leads: status.leader == Some(member.id),
                last_contact_ms: if member.id == me {
                    Some(0)
                } else {
                    heard.map(|heard| heard.max(counted.unwrap_or(0)))
                },
                matched,
                lag: matched.map(|matched| status.last.index.get().saturating_sub(matched.get())),
                paused: if member.id == me {
                    leader.and(raft.is_disk_full().then_some(PauseReason::DiskFull))
                } else {
                    peer.and_then(|peer| peer.paused)
                },
            }
        };
        raft.log().membership().members().iter().map(of).collect()
    }

    /// Publishes the status if it has changed.
    fn publish(&mut self) {
        let Member::Replica(replica) = &self.member else { return };
        let now = replica.status();
        let before = self.pending.published.replace(now);
        if before == Some(now) {
            return;
        }
        let Identity { cluster, member } = self.identity;
        self.handle.status_sender().send_modify(|status| {
            let phase = match &status.phase {
                NodePhase::Starting(_) => NodePhase::Running,
                other => other.clone(),
            };
            *status = NodeStatus::of(cluster, member, phase, &now);
        });
        self.handle.metrics().status(&self.handle.status_sender().borrow());
        if before.is_none_or(|before| before.configured != now.configured) {
            self.handle.metrics().membership(member.id, replica.raft().log().membership());
            self.connect();
        }
    }

    /// Members keep connections to each other even without traffic, so that addresses spread and a broken
    /// connection is noticed.
    fn connect(&mut self) {
        let Member::Replica(replica) = &self.member else { return };
        let me = self.identity.member.id;
        self.host.expect(self.identity.cluster, replica.raft().log().membership().members());
        let ids = replica.raft().log().membership().members().iter().map(|member| member.id);
        let members: Vec<_> = ids.filter(|id| *id != me).collect();
        let gone: Vec<_> =
            self.pending.connected.iter().filter(|id| !members.contains(id)).copied().collect();
        self.host.connect(&members, &gone);
        self.pending.connected = members;
    }

    /// The state machine's thread has ended. No entry committed from here on could be answered.
    fn lose_machine(&self) {
        let why = "the state machine has panicked: fix it, and start the member again".to_owned();
        tracing::error!(member = %self.identity.member.id, why, "halted");
        self.handle.set_phase(NodePhase::Halted(why));
    }

    async fn end(mut self) {
        self.host.connect(&[], &self.pending.connected);
        // The replica has not answered these callers: their requests may take effect or not.
        self.pending.waiting.drain().for_each(|(_, (waiter, _))| waiter.tell(Answer::Unknown));
        self.told.close();
        // A caller may be adding a request right now. Wait for it, or the caller would wait forever.
        while let Some(told) = self.told.recv().await {
            if let DriverEvent::Ask(_, waiter) = told {
                let refusal = kontiki_core::action::Refusal::Stopped;
                waiter.tell(Answer::Refused(replica::ReplicaRefusal::Raft(refusal)));
            }
        }
        if !matches!(self.handle.status().phase, NodePhase::Halted(_)) {
            self.handle.set_phase(NodePhase::Stopped);
        }
    }
}
