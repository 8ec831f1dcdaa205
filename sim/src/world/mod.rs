//! The simulated world: one thread, virtual time, one queue of what will happen, in the order of (time, sequence).

mod faults;
mod healing;
mod marks;
mod step;

pub use step::quiet_kernel_panics;

use crate::check::liveness::Stage;
use crate::check::{Checks, Violated};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::disk::{Disk, Synced};
use crate::hash::StableHasher;
use crate::host::Host;
use crate::network::Network;
use crate::report::{Counters, Failure, FaultKind, Mark, Report};
use crate::scenario::{Scenario, ScenarioError};
use crate::stream::Stream;
use crate::trace::Traced;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::raft::Durable;
use kontiki_core::types::{Index, NodeId};
use kontiki_core::wire;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hasher as _;

/// How often the healed world is looked at, in nanoseconds.
const GLANCE: u64 = 5_000_000;

/// What is shown to whoever watches a run.
pub type Tracer<'t> = &'t mut dyn FnMut(&Traced<'_>);

/// A cluster in its world.
pub(crate) struct World<'t> {
    scenario: Scenario,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    hosts: Vec<Host>,
    network: Network,
    clients: Clients,
    /// Whom each fault befell, by its number; known once it has begun.
    aims: Vec<usize>,
    /// When each fault that has begun is over.
    untils: Vec<u64>,
    /// Faults that lie in wait for the next leader.
    ambushes: VecDeque<usize>,
    checks: Checks,
    counters: Counters,
    hasher: StableHasher,
    /// None during the chaos.
    stage: Option<Stage>,
    /// When the healed world must have come to rest.
    bound: u64,
    actions: Vec<Action>,
    frames: Vec<Vec<u8>>,
    tracer: Option<Tracer<'t>>,
}

/// Something that will happen.
struct Scheduled {
    at: u64,
    sequence: u64,
    what: Happening,
}

enum Happening {
    Deliver { to: usize, frame: Vec<u8> },
    Wake { member: usize, life: u32 },
    Synced { member: usize, life: u32 },
    Applied { member: usize, life: u32 },
    Unreachable { member: usize, peer: NodeId },
    Client { client: usize, number: u64 },
    Begin(usize),
    End(usize),
    Flap { fault: usize, down: bool },
    Heal,
    Glance,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

type Checked = Result<(), Violated>;

impl<'t> World<'t> {
    pub(crate) fn new(scenario: &Scenario, tracer: Option<Tracer<'t>>) -> Result<Self, ScenarioError> {
        scenario.validate()?;
        let (seed, size) = (scenario.seed, scenario.members.len());
        let membership = Membership::of(scenario.ids()).map_err(ScenarioError::Membership)?;
        let host = |id: NodeId| {
            let spec = scenario.members[position(id)].clone();
            let mut stream = Stream::named(seed, "member", id.get());
            let origin = stream.below(1 << 40);
            Ok(Host {
                id,
                config: scenario.config(id)?,
                up: None,
                disk: Disk::new(
                    seed,
                    id.get(),
                    scenario.disk.clone(),
                    Durable::bootstrap(membership.clone()),
                ),
                clock: Clock::new(origin, spec.clock_ppm),
                spec,
                stream,
                life: 0,
                paused: false,
                backlog: Default::default(),
                crash_after: None,
                down: 0,
                applied: Index::ZERO,
            })
        };
        let mut world = Self {
            hosts: scenario.ids().into_iter().map(host).collect::<Result<_, _>>()?,
            network: Network::new(seed, size, scenario.network.clone()),
            clients: Clients::new(seed, size, scenario.workload.clone()),
            aims: vec![0; scenario.faults.len()],
            untils: vec![0; scenario.faults.len()],
            ambushes: VecDeque::new(),
            scenario: scenario.clone(),
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            checks: Checks::default(),
            counters: Counters::default(),
            hasher: StableHasher::new(),
            stage: None,
            bound: 0,
            actions: Vec::new(),
            frames: Vec::new(),
            tracer,
        };
        world.prepare();
        Ok(world)
    }

    /// Runs until all is well in the end, or a property is violated.
    pub(crate) fn run(mut self) -> Report {
        let violated = self.run_to_rest().err();
        self.counters.virtual_nanos = self.now;
        self.counters.commits = self.checks.committed();
        let failure = violated.map(|(property, detail)| Failure {
            property: property.to_owned(),
            detail,
            step: self.counters.steps,
            at: self.now,
        });
        Report {
            seed: self.scenario.seed,
            trace_hash: self.hasher.finish(),
            counters: self.counters,
            failure,
        }
    }

    fn prepare(&mut self) {
        for fault in 0..self.scenario.faults.len() {
            let at = self.scenario.faults[fault].at_us.min(self.scenario.chaos_us) * 1_000;
            self.schedule(at, Happening::Begin(fault));
        }
        for client in 0..self.clients.count() {
            let pause = self.clients.pause();
            self.schedule(pause, Happening::Client { client, number: 0 });
        }
        self.schedule(self.scenario.chaos_us * 1_000, Happening::Heal);
    }

    fn run_to_rest(&mut self) -> Checked {
        for member in 0..self.hosts.len() {
            self.start(member)?;
        }
        while self.stage != Some(Stage::Done) {
            let Some(Reverse(next)) = self.queue.pop() else {
                return Err(("Simulator", "nothing is left to happen".to_owned()));
            };
            self.now = next.at;
            self.happen(next.what)?;
        }
        Ok(())
    }

    fn schedule(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), sequence: self.sequence, what }));
    }

    fn happen(&mut self, what: Happening) -> Checked {
        match what {
            Happening::Deliver { to, frame } => self.deliver(to, frame),
            Happening::Wake { member, life } => self.wake(member, life),
            Happening::Synced { member, life } => self.synced(member, life),
            Happening::Applied { member, life } => self.applied(member, life),
            Happening::Unreachable { member, peer } => {
                self.counters.fault(FaultKind::BrokenConnection);
                self.tell(member, Event::PeerUnreachable(peer))
            }
            Happening::Client { client, number } => self.client(client, number),
            Happening::Begin(fault) => self.begin(fault),
            Happening::End(fault) => self.end(fault),
            Happening::Flap { fault, down } => {
                self.flap(fault, down);
                Ok(())
            }
            Happening::Heal => self.heal(),
            Happening::Glance => self.glance(),
        }
    }

    // ----- members -----

    fn start(&mut self, member: usize) -> Checked {
        let now = self.now;
        let host = &mut self.hosts[member];
        let ballot = host.disk.durable.ballot;
        host.start(now).map_err(|error| ("Restart", format!("member {} cannot start: {error}", host.id)))?;
        if host.life > 1 {
            self.counters.fault(FaultKind::Restart);
            let id = host.id;
            self.trace_world(|| format!("member {id} starts again"));
        }
        self.checks.restarted(member, ballot)?;
        self.schedule_wake(member);
        Ok(())
    }

    fn crash(&mut self, member: usize, kind: FaultKind) {
        let host = &mut self.hosts[member];
        if host.up.is_none() {
            return;
        }
        let lost = host.crash();
        self.counters.fault(kind);
        self.counters.faults_of(FaultKind::LostWrite, lost);
        if lost > 0 {
            self.counters.mark(Mark::Forgot);
        }
        let id = self.hosts[member].id;
        self.trace_world(|| format!("member {id} crashes and loses {lost} writes"));
        for peer in 0..self.hosts.len() {
            self.break_connection(peer, member);
        }
    }

    /// The connection between two members broke: the host of `member` may notice that `peer` is gone.
    fn break_connection(&mut self, member: usize, peer: usize) {
        if member != peer && self.network.is_noticed() {
            let peer = self.hosts[peer].id;
            let delay = self.hosts[member].stream.below(5_000_000);
            self.schedule(self.now + delay, Happening::Unreachable { member, peer });
        }
    }

    /// Tells a member of an event; one that stands still hears of it later, one that is down never.
    fn tell(&mut self, member: usize, event: Event) -> Checked {
        let host = &mut self.hosts[member];
        if host.is_awake() {
            self.step(member, event)
        } else {
            if host.up.is_some() {
                host.backlog.push_back(event);
            }
            Ok(())
        }
    }

    fn wake(&mut self, member: usize, life: u32) -> Checked {
        let host = &mut self.hosts[member];
        if host.life != life || !host.is_awake() {
            return Ok(());
        }
        let Some(up) = &mut host.up else { return Ok(()) };
        up.wake_at = u64::MAX;
        if host.clock.local(self.now) < up.raft.deadline() {
            self.schedule_wake(member);
            return Ok(());
        }
        self.step(member, Event::Wake)
    }

    /// Makes sure that the member will be woken at its deadline, or a little later: hosts are not punctual. A wake-up
    /// that comes too early, since the deadline has moved, only looks at the clock.
    fn schedule_wake(&mut self, member: usize) {
        let host = &mut self.hosts[member];
        let Some(up) = &mut host.up else { return };
        let Some(at) = host.clock.when(up.raft.deadline()) else {
            return;
        };
        let at = at.max(self.now);
        if at >= up.wake_at {
            return;
        }
        up.wake_at = at;
        let late = host.stream.below(100_000);
        let life = host.life;
        self.schedule(at + late, Happening::Wake { member, life });
    }

    fn synced(&mut self, member: usize, life: u32) -> Checked {
        let now = self.now;
        let host = &mut self.hosts[member];
        if host.life != life || host.up.is_none() {
            return Ok(());
        }
        let Synced { seq, took, next } = host.disk.synced(now);
        if u128::from(took) > self.scenario.options.election_timeout_min.as_nanos() {
            self.counters.mark(Mark::SlowSync);
        }
        if let Some(at) = next {
            self.schedule(at, Happening::Synced { member, life });
        }
        self.tell(member, Event::Persisted(seq))
    }

    fn applied(&mut self, member: usize, life: u32) -> Checked {
        if self.hosts[member].life != life {
            return Ok(());
        }
        let Some(through) = self.hosts[member].finish_apply() else {
            return Ok(());
        };
        self.start_apply(member);
        self.tell(member, Event::Applied(through))
    }

    fn deliver(&mut self, to: usize, frame: Vec<u8>) -> Checked {
        let decoded = wire::decode(&frame, wire::max_body(&self.scenario.options));
        self.frames.push(frame);
        match decoded {
            Ok((message, _)) => self.tell(to, Event::Receive(message)),
            Err(_) => {
                self.counters.mark(Mark::FrameRefused);
                Ok(())
            }
        }
    }

    fn client(&mut self, client: usize, number: u64) -> Checked {
        let Some(attempt) = self.clients.on_timer(self.now, client, number, self.stage.is_some()) else {
            return Ok(());
        };
        let (at, number) = attempt.timeout;
        self.schedule(at, Happening::Client { client, number });
        let mut proposals = attempt.proposals;
        let event = if proposals.len() == 1 {
            Event::Propose(proposals.remove(0))
        } else {
            Event::ProposeBatch(proposals)
        };
        self.tell(attempt.member, event)
    }

    // ----- what is shown -----

    fn trace_world(&mut self, what: impl FnOnce() -> String) {
        if let Some(tracer) = &mut self.tracer {
            tracer(&Traced::World { at: self.now, what: &what() });
        }
    }
}

fn position(id: NodeId) -> usize {
    id.get() as usize - 1
}
