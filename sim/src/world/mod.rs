//! The simulated world: one thread, virtual time, one queue of what will happen.

mod contest;
mod custom;
mod fates;
mod faults;
mod full_replica;
mod healing;
mod late_commands;
mod log_reader;
mod marks;
mod old_messages;
mod operator;
mod probe;
mod starting;
mod step;
mod storage;

use crate::application::{Application, MachineOf};
use crate::check::bounded_work::Limits;
use crate::check::liveness::Stage;
use crate::check::{Checked, Checks, Start, Violated};
use crate::clients::{Asked, Clients, Turn};
use crate::contests::Contests;
use crate::disk::Synced;
use crate::fate::{Fate, Loss};
use crate::fault::{Episode, FaultInjection as _};
use crate::happened::Happened;
use crate::hash::StableHasher;
use crate::host::full_replica::Damage;
use crate::host::kernel_only::Stored;
use crate::host::{Arrived, Crashed, Host, MemberBody, MemberEvent, Told};
use crate::late_commands::LateCommands;
use crate::log_reader::LogReader;
use crate::network::{Connection, Frame, Network};
use crate::old_messages::OldMessages;
use crate::operator::Operator;
use crate::part::{Involvement, Part, Stamp, shown};
use crate::queue::Queue;
use crate::report::{Counters, Failure, FaultKind, Mark, Report};
use crate::scenario::{Scenario, ScenarioError};
use crate::stream::Stream;
use crate::trace::Traced;
use kontiki_core::action::{Action, Outcome};
use kontiki_core::durable::Durable;
use kontiki_core::event::{EntriesLoaded, Event, Proposal, ReadVia};
use kontiki_core::log::{Entry, Snapshot};
use kontiki_core::machine::StateMachine;
use kontiki_core::message::Message;
use kontiki_core::record::Recorder;
use kontiki_core::replica::{Input, Lane, Output};
use kontiki_core::types::{Index, LogId, NodeId, Term};
use kontiki_core::wire;
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;

/// How often the healed world is looked at, in nanoseconds.
const GLANCE: u64 = 5_000_000;

/// Receives every step of a run, in order.
pub type Tracer<'t> = &'t mut dyn FnMut(&Traced<'_>);

/// A cluster in its world.
pub(crate) struct World<'t, A: Application> {
    scenario: Scenario,
    now: u64,
    queue: Queue<Happening<A::Query>>,
    hosts: Vec<Host<A::Machine>>,
    network: Network,
    old_messages: Option<OldMessages>,
    contests: Option<Contests>,
    late: Option<LateCommands>,
    clients: Clients<A>,
    operator: Operator,
    operator_stream: Stream,
    log_reader: LogReader,
    /// Which leader began the joint phase of each entry.
    joints: BTreeMap<LogId, NodeId>,
    /// Who must make progress once the world has healed.
    core: Vec<usize>,
    /// Faults that lie in wait for the next leader.
    ambushes: VecDeque<usize>,
    /// Faults of users' own that last.
    custom_faults: Vec<Episode>,
    /// How many requests were made of leaders that others had succeeded.
    probes: u32,
    checks: Checks,
    counters: Counters,
    hasher: StableHasher,
    /// How often luck has changed.
    forked: usize,
    /// The run is given up after this step.
    last_step: u64,
    /// None during the chaos.
    stage: Option<Stage>,
    /// When the healed world must have come to rest.
    bound: u64,
    /// Until when disks have to do with what began in the chaos.
    busy_until: u64,
    /// How much had been committed, all members taken together, when that was last put off, and in which
    /// term.
    progress: (u64, Term),
    /// The end of the longest log when the chaos was over.
    end_at_healing: Index,
    /// While clients wait to be served: the end of what was proposed when the others made way, and how much
    /// of it has been committed.
    queue_end: Option<Index>,
    queue_committed: Index,
    /// Whether it has come to rest once.
    has_rested: bool,
    actions: Vec<Action>,
    outputs: Vec<Output>,
    frames: Vec<Vec<u8>>,
    tracer: Option<Tracer<'t>>,
    /// The messages that were sent, by their numbers, where a tracer is to learn what becomes of them.
    sent: BTreeMap<u64, Message>,
    /// One for each member, where their lives are recorded.
    recorders: Vec<Recorder>,
}

/// Something that will happen.
enum Happening<Q> {
    Deliver {
        to: usize,
        frame: Frame,
        /// By which connection it comes; by none where it was kept back.
        connection: Option<Connection>,
        /// Whether a bit of it was flipped.
        flipped: bool,
    },
    Wake {
        member: usize,
        life: u32,
    },
    Synced {
        member: usize,
        life: u32,
    },
    Applied {
        member: usize,
        life: u32,
    },
    DiskOperation {
        member: usize,
        life: u32,
        lane: Lane,
    },
    MachineDone {
        member: usize,
        life: u32,
    },
    Unreachable {
        member: usize,
        peer: NodeId,
    },
    Client(Turn),
    LateCommand {
        member: usize,
        command: usize,
    },
    ReadLog,
    ProbeWrite {
        leader: usize,
    },
    ProbeRead {
        member: usize,
        query: Q,
    },
    Operate {
        task: usize,
        turn: u64,
    },
    LetUp {
        member: usize,
    },
    ReadsAgain {
        member: usize,
    },
    SnapshotTaken {
        member: usize,
        life: u32,
        stored: Box<Stored>,
    },
    Fetched {
        member: usize,
        life: u32,
        from: usize,
        snapshot: Box<Snapshot>,
    },
    Loaded {
        member: usize,
        life: u32,
        loaded: Box<EntriesLoaded>,
    },
    Space {
        member: usize,
    },
    Begin(usize),
    End(Episode),
    BeginCustom(usize),
    EndCustom(Episode),
    Flap {
        at: Episode,
        period_us: u64,
        down: bool,
    },
    Contest,
    /// What was found where a run cannot end.
    Violated(Violated),
    Heal,
    Glance,
}

/// How a run that has violated nothing comes to its end.
enum End {
    /// The healed cluster is at rest.
    Rest,
    /// The scenario lasts no longer.
    Time,
    /// It has taken as many steps as it may.
    GivenUp,
}

impl<'t, A: Application> World<'t, A> {
    pub(crate) fn new(
        scenario: &Scenario,
        application: A,
        tracer: Option<Tracer<'t>>,
    ) -> Result<Self, ScenarioError> {
        scenario.validate()?;
        application.validate(scenario)?;
        let (seed, size) = (scenario.seed, scenario.members.len());
        let membership = scenario.membership()?;
        let members = scenario.ids().into_iter().zip(scenario.members.iter().cloned());
        let mut world = Self {
            hosts: members
                .map(|member| Host::new(scenario, member, &membership))
                .collect::<Result<_, _>>()?,
            network: Network::new(
                seed,
                scenario.network.clone(),
                scenario.members.iter().map(|spec| spec.link_us).collect(),
            ),
            old_messages: scenario.old_messages.clone().map(|spec| OldMessages::new(seed, size, spec)),
            contests: scenario.contests.clone().map(|spec| Contests::new(seed, spec)),
            late: scenario.replica.as_ref().map(|spec| LateCommands::new(seed, spec.late)),
            clients: Clients::new(application, scenario),
            operator: Operator::default(),
            operator_stream: Stream::named(seed, "operator", 0),
            log_reader: LogReader::new(seed),
            joints: BTreeMap::new(),
            core: Vec::new(),
            ambushes: VecDeque::new(),
            custom_faults: Vec::new(),
            scenario: scenario.clone(),
            now: 0,
            queue: Queue::default(),
            probes: 0,
            checks: Checks::default(),
            counters: Counters::default(),
            hasher: StableHasher::new(),
            forked: 0,
            last_step: u64::MAX,
            stage: None,
            bound: 0,
            busy_until: 0,
            progress: (0, Term::ZERO),
            end_at_healing: Index::ZERO,
            queue_end: None,
            queue_committed: Index::ZERO,
            has_rested: false,
            actions: Vec::new(),
            outputs: Vec::new(),
            frames: Vec::new(),
            tracer,
            sent: BTreeMap::new(),
            recorders: Vec::new(),
        };
        world.checks.begins_with(membership);
        world.checks.limited_to(scenario.options.retained_bytes);
        let clients = world.clients.count() as u64;
        world.checks.holds_within(size as u64, &scenario.options);
        world.checks.works_within(Limits::of(size as u64, clients, &scenario.options));
        world.prepare();
        Ok(world)
    }

    /// Runs until all is well in the end, or a property is violated.
    pub(crate) fn run(mut self) -> Report {
        self.run_to_report()
    }

    /// The same, but gives up after so many steps: what is violated later is not seen.
    pub(crate) fn run_for(mut self, steps: u64) -> Report {
        self.last_step = steps;
        self.run_to_report()
    }

    /// The same, and all that every member lived through, one recording after the other.
    pub(crate) fn run_recorded(mut self) -> (Report, Vec<Vec<u8>>) {
        self.recorders = vec![Recorder::default(); self.hosts.len()];
        let report = self.run_to_report();
        (report, self.recorders.iter_mut().map(Recorder::take).collect())
    }

    fn run_to_report(&mut self) -> Report {
        let judged = self.run_to_rest().and_then(|end| match end {
            End::Rest => self.check_log_reads().and_then(|()| self.check_history(true)),
            End::Time => self.check_history(false),
            End::GivenUp => Ok(()),
        });
        let violated = judged.err();
        self.counters.virtual_nanos = self.now;
        self.counters.commits = self.checks.committed();
        let failure = violated.map(|violated| self.failure(violated));
        Report {
            seed: self.scenario.seed,
            trace_hash: self.hasher.finish(),
            counters: self.counters.clone(),
            operations: self.clients.drawn(),
            failure,
        }
    }

    /// A violation that was seen now, with what the entries hold that it is about.
    fn failure(&self, violated: Violated) -> Failure {
        let Violated { property, detail, mut parts } = violated;
        let origins = self.checks.origins(&parts);
        parts.splice(0..0, origins);
        self.tell_entries(&mut parts, &[]);
        parts.iter_mut().filter_map(Part::entry_mut).for_each(|entry| entry.content = 0);
        parts.sort_by_key(|part| part.since.unwrap_or(self.stamp()));
        let Stamp { step, at } = self.stamp();
        Failure { parts, ..Failure::new(property, detail, step, at) }
    }

    /// Says of entries what they hold, as far as a disk or a write that was just handed out has them.
    fn tell_entries(&self, parts: &mut [Part], handed_out: &[Action]) {
        let written = handed_out.iter().filter_map(|action| match action {
            Action::Persist(write) => Some(write.append.iter()),
            _ => None,
        });
        let on_disks = self.hosts.iter().flat_map(|host| host.body.model().entries());
        for entry in parts.iter_mut().filter_map(Part::entry_mut).filter(|entry| entry.text.is_none()) {
            let is_it =
                |known: &&Entry| known.id == entry.id && StableHasher::of(&known.body) == entry.content;
            let found = written.clone().flatten().chain(on_disks.clone()).find(is_it);
            entry.text = found.map(|known| shown(&known.body, |payload| self.show_payload(payload)));
        }
    }

    /// Now.
    fn stamp(&self) -> Stamp {
        Stamp { step: self.counters.steps, at: self.now }
    }

    fn prepare(&mut self) {
        for fault in 0..self.scenario.faults.len() {
            let at = self.scenario.faults[fault].at_us.min(self.scenario.chaos_us) * 1_000;
            self.schedule(at, Happening::Begin(fault));
        }
        for client in 0..self.clients.count() {
            let pause = self.clients.pause();
            self.schedule(pause, Happening::Client(Turn { client, at: pause, number: 0 }));
        }
        self.prepare_custom_faults();
        self.prepare_operator();
        if self.scenario.replica.is_some() {
            let pause = self.log_reader.pause();
            self.schedule(pause, Happening::ReadLog);
        }
        self.schedule(self.scenario.chaos_us * 1_000, Happening::Heal);
    }

    fn run_to_rest(&mut self) -> Result<End, Violated> {
        let until = self.scenario.until_us.map_or(u64::MAX, |us| us.saturating_mul(1_000));
        for member in 0..self.hosts.len() {
            self.start(member)?;
        }
        while self.stage != Some(Stage::Done) {
            self.fork();
            let Some((at, what)) = self.queue.pop() else {
                return Err(Violated::new("Simulator", "nothing is left to happen".to_owned()));
            };
            if at > until {
                return Ok(End::Time);
            }
            if self.counters.steps > self.last_step {
                return Ok(End::GivenUp);
            }
            self.now = at;
            self.clients.application.passes(self.stamp());
            // What is applied is bounded by the log: a member that starts again applies all of it at once.
            if !matches!(what, Happening::Applied { .. } | Happening::MachineDone { .. }) {
                self.checks.happens(self.now)?;
            }
            self.happen(what)?;
        }
        Ok(End::Rest)
    }

    /// Changes luck where the scenario says so.
    fn fork(&mut self) {
        while let Some(fork) = self.scenario.forks.get(self.forked)
            && fork.after_step <= self.counters.steps
        {
            self.forked += 1;
            self.network.reseed(fork.seed);
            self.old_messages.iter_mut().for_each(|kept| kept.reseed(fork.seed));
            self.late.iter_mut().for_each(|late| late.reseed(fork.seed));
            self.hosts.iter_mut().for_each(|host| host.reseed(fork.seed));
        }
    }

    /// The run is over: looks at what clients were told, and at the states of members that are at rest.
    fn check_history(&mut self, at_rest: bool) -> Checked {
        let states: Vec<_> = self.hosts.iter().filter(|_| at_rest).filter_map(machine_of).collect();
        self.counters.undecided += self.clients.ended(self.checks.log(), at_rest.then_some(&states))?;
        Ok(())
    }

    fn schedule(&mut self, at: u64, what: Happening<A::Query>) {
        self.queue.push(at.max(self.now), what);
    }

    fn happen(&mut self, what: Happening<A::Query>) -> Checked {
        match what {
            Happening::Deliver { to, frame, connection, flipped } => {
                if connection.is_none_or(|connection| self.network.is_open(connection, to)) {
                    self.deliver(to, frame, connection.is_none(), flipped)
                } else {
                    self.counters.fault(FaultKind::Cut);
                    self.trace_fate(frame.number, || Fate::Lost(Loss::ConnectionBroken));
                    Ok(())
                }
            }
            Happening::Wake { member, life } => self.wake(member, life),
            Happening::Synced { member, life } => self.synced(member, life),
            Happening::Applied { member, life } => self.applied(member, life),
            Happening::DiskOperation { member, life, lane } => self.disk_operation(member, life, lane),
            Happening::MachineDone { member, life } => self.machine_done(member, life),
            Happening::Unreachable { member, peer } => self.tell(member, Event::PeerUnreachable(peer)),
            Happening::Client(turn) => self.client(turn),
            Happening::LateCommand { member, command } => self.late_command(member, command),
            Happening::ReadLog => self.read_log(),
            Happening::ProbeWrite { leader } => self.probe_write(leader),
            Happening::ProbeRead { member, query } => self.probe_read(member, &query),
            Happening::Operate { task, turn } => self.operate(task, turn),
            Happening::LetUp { member } => {
                // Once the world has healed, every member that shall be up is up already.
                if self.stage.is_none() { self.let_up(member) } else { Ok(()) }
            }
            Happening::ReadsAgain { member } => {
                self.reads_again(member);
                Ok(())
            }
            Happening::SnapshotTaken { member, life, stored } => self.snapshot_taken(member, life, *stored),
            Happening::Fetched { member, life, from, snapshot } => {
                self.fetched(member, life, from, *snapshot)
            }
            Happening::Loaded { member, life, loaded } => {
                if self.hosts[member].life == life {
                    self.tell(member, Event::EntriesLoaded(*loaded))
                } else {
                    Ok(())
                }
            }
            Happening::Space { member } => self.tell_space(member),
            Happening::Begin(fault) => {
                self.begin(fault);
                Ok(())
            }
            Happening::End(at) => self.end(at),
            Happening::BeginCustom(number) => self.begin_custom(number),
            Happening::EndCustom(lasting) => self.end_custom(lasting),
            Happening::Flap { at, period_us, down } => {
                self.flap(at, period_us, down);
                Ok(())
            }
            Happening::Contest => {
                self.contest_due();
                Ok(())
            }
            Happening::Violated(violated) => Err(violated),
            Happening::Heal => self.heal(),
            Happening::Glance => self.glance(),
        }
    }

    // ----- members -----

    fn start(&mut self, member: usize) -> Checked {
        let Host { crashed, ref body, id, .. } = self.hosts[member];
        let damage = body.damage();
        let started = self.start_host(member).map_err(|mut violated| {
            let damaged = damage.map(|Damage { at, by, .. }| (at, Involvement::Damaged { by }));
            let crashed = crashed.map(|(at, lost)| (at, Involvement::Crashes { lost }));
            let before = damaged.into_iter().chain(crashed);
            violated.parts.extend(before.map(|(at, deed)| Part::of(id, at, deed)));
            violated
        });
        self.blamed_on(member, started)
    }

    fn start_host(&mut self, member: usize) -> Checked {
        let now = self.now;
        let host = &mut self.hosts[member];
        if host.is_stale {
            return Ok(());
        }
        if matches!(host.body, MemberBody::FullReplica(_)) {
            return self.start_replica(member);
        }
        host.start_kernel(now)
            .map_err(|error| ("Restart", format!("member {} cannot start: {error}", host.id)))?;
        if host.life > 1 {
            self.counters.fault(FaultKind::Restart);
            let (member, incarnation) = (host.id, host.incarnation);
            self.trace_world(|| Happened::Restart { member, incarnation });
        }
        self.check_start(member, None)?;
        if matches!(&self.hosts[member].body, MemberBody::KernelOnly(kernel_only) if kernel_only.full) {
            self.schedule(self.now, Happening::Space { member });
        }
        self.schedule_wake(member);
        self.release_to_restarted(member);
        Ok(())
    }

    /// Looks at a member that has just started, with what its host remembers or has `found` on its disk: what
    /// was lost may be readable again.
    fn check_start(&mut self, member: usize, found: Option<&Durable>) -> Checked {
        let host = &self.hosts[member];
        let Some(up) = &host.up else { return Ok(()) };
        self.checks.starts(&Start {
            position: member,
            member: host.member(),
            durable: found.unwrap_or(&host.body.model().durable),
            membership: &up.membership,
            chain: &up.chain,
        })
    }

    fn crash(&mut self, member: usize, kind: FaultKind) {
        let host = &mut self.hosts[member];
        if host.up.is_none() {
            return;
        }
        host.restart_clock(self.now);
        let unseen = std::mem::take(&mut host.backlog);
        let crashed = host.crash();
        self.recorders.get_mut(member).map(Recorder::stop);
        self.counters.fault(kind);
        let (lost, torn) = match crashed {
            Crashed::Power { lost, torn } => (lost, torn),
            Crashed::Killed => {
                self.counters.fault(FaultKind::Kill);
                self.may_lose_power_later(member);
                (0, 0)
            }
        };
        self.counters.faults_of(FaultKind::TornWrite, torn);
        self.counters.faults_of(FaultKind::LostInCrash, lost);
        if lost > 0 {
            self.counters.mark(Mark::Forgot);
        }
        let id = self.hosts[member].id;
        self.hosts[member].crashed = Some((self.stamp(), lost));
        self.trace_world(|| Happened::Crash { member: id, lost });
        for arrived in unseen.into_iter().filter_map(|told| told.arrived) {
            self.trace_fate(arrived.number, || Fate::Lost(Loss::ReceiverDown));
        }
        for peer in 0..self.hosts.len() {
            self.network.break_off(member, peer);
            self.network.break_off(peer, member);
            self.break_connection(peer, member);
        }
        self.may_rot_before_a_cut_write(member);
    }

    /// The connection between two members broke: the host of `member` may notice that `peer` is gone.
    fn break_connection(&mut self, member: usize, peer: usize) {
        if member != peer && self.network.is_noticed() {
            let peer = self.hosts[peer].id;
            let delay = self.hosts[member].stream.below(5_000_000);
            self.counters.fault(FaultKind::BrokenConnection);
            self.schedule(self.now + delay, Happening::Unreachable { member, peer });
        }
    }

    /// Tells a member of an event.
    fn tell(&mut self, member: usize, event: Event) -> Checked {
        self.tell_that(member, Told { event: MemberEvent::Event(event), arrived: None })
    }

    /// Tells a full replica of something.
    fn tell_input(&mut self, member: usize, input: Input) -> Checked {
        self.tell_that(member, Told { event: MemberEvent::Input(input), arrived: None })
    }

    /// Tells a member of something; one that stands still hears of it later, one that is down never.
    fn tell_that(&mut self, member: usize, told: Told) -> Checked {
        let host = &mut self.hosts[member];
        if !host.is_awake() {
            if host.up.is_some() {
                host.backlog.push_back(told);
            } else if let Some(arrived) = told.arrived {
                self.trace_fate(arrived.number, || Fate::Lost(Loss::ReceiverDown));
            }
            return Ok(());
        }
        if let Some(Arrived { number, kept_back }) = told.arrived {
            self.trace_fate(number, || Fate::Arrived { kept_back });
        }
        let host = &mut self.hosts[member];
        let checked = match told.event {
            MemberEvent::Input(input) => self.handle(member, input),
            MemberEvent::Event(event) if matches!(host.body, MemberBody::KernelOnly(_)) => {
                self.step(member, event)
            }
            MemberEvent::Event(event) => match self.input_of(event) {
                Some(input) => self.handle(member, input),
                None => Ok(()),
            },
        };
        self.blamed_on(member, checked)
    }

    /// What was seen when a member acted names it, where nothing more is known.
    fn blamed_on(&self, member: usize, checked: Checked) -> Checked {
        checked.map_err(|violated| violated.by(self.hosts[member].id, self.stamp()))
    }

    fn wake(&mut self, member: usize, life: u32) -> Checked {
        let host = &mut self.hosts[member];
        if host.life != life || !host.is_awake() {
            return Ok(());
        }
        let Some(up) = &mut host.up else { return Ok(()) };
        up.wake_at = u64::MAX;
        if !host.is_due(self.now) {
            self.schedule_wake(member);
            return Ok(());
        }
        self.tell(member, Event::Wake)
    }

    /// Makes sure that the member will be woken at its deadline, or a little later: hosts are not punctual. A
    /// wake-up that comes too early, since the deadline has moved, only looks at the clock.
    fn schedule_wake(&mut self, member: usize) {
        let host = &mut self.hosts[member];
        let Some(at) = host.wakes_at() else { return };
        let Some(up) = &mut host.up else { return };
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
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(()) };
        let Synced { seq, took, next } = kernel_only.disk.synced(now);
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
        let Some(through) = self.finish_apply(member)? else { return Ok(()) };
        self.tell(member, Event::Applied(through))?;
        self.take_snapshot(member);
        self.start_apply(member)
    }

    fn deliver(&mut self, to: usize, frame: Frame, kept_back: bool, flipped: bool) -> Checked {
        let Frame { number, bytes } = frame;
        let arrived = Some(Arrived { number, kept_back });
        if flipped {
            let is_up = self.hosts[to].up.is_some();
            let loss = if is_up { Loss::Corrupted } else { Loss::ReceiverDown };
            self.trace_fate(number, || Fate::Lost(loss));
        }
        if matches!(self.hosts[to].body, MemberBody::FullReplica(_)) {
            let event = MemberEvent::Input(Input::Frame { bytes });
            return self.tell_that(to, Told { event, arrived: arrived.filter(|_| !flipped) });
        }
        let decoded = wire::decode(&bytes, wire::max_body(&self.scenario.options));
        self.frames.push(bytes);
        match decoded {
            Ok((message, _)) => {
                self.tell_that(to, Told { event: MemberEvent::Event(Event::Receive(message)), arrived })
            }
            Err(_) => {
                self.counters.mark(Mark::FrameRefused);
                Ok(())
            }
        }
    }

    fn snapshot_taken(&mut self, member: usize, life: u32, stored: Stored) -> Checked {
        let host = &mut self.hosts[member];
        if host.life != life {
            return Ok(());
        }
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(()) };
        let Some(kernel) = &mut kernel_only.running else { return Ok(()) };
        kernel.snapshotting = false;
        let through = stored.snapshot.last.index;
        kernel_only.keep(stored);
        self.counters.mark(Mark::SnapshotTaken);
        self.tell(member, Event::SnapshotTaken(through))
    }

    fn client(&mut self, turn: Turn) -> Checked {
        let committed = Index::new(self.checks.committed());
        let healed = self.stage.is_some();
        let Some(attempt) = self.clients.on_timer(self.now, turn, healed, committed)? else {
            return Ok(());
        };
        let (at, number) = attempt.timeout;
        self.schedule(at, Happening::Client(Turn { client: turn.client, at, number }));
        let Some(event) = attempt.event else { return Ok(()) };
        if attempt.is_again {
            self.trace_again(turn.client, attempt.member, &event);
        }
        self.ask(attempt.member, event)
    }

    /// A client asks a member, whose host may know the answer.
    fn ask(&mut self, member: usize, event: Event) -> Checked {
        if let Event::Read(read) = event
            && read.via == ReadVia::Lease
            && self.may_serve_unasked(member)
            && let Some(Asked::Read { committed, .. }) = self.clients.asked(read.request)
        {
            // The host has been told until when it needs not ask.
            let found = self.serve(member, read.request, committed)?;
            self.counters.mark(Mark::ReadUnasked);
            let outcome = Outcome::Ready { index: found.at, until: None };
            return self.tell_client(member, read.request, outcome, Some(found));
        }
        self.tell(member, event)
    }

    /// Whether a host may serve a read by the lease that it was given with an earlier one: its clock is not
    /// past the end, and its state machine holds all that its kernel knows to be committed.
    fn may_serve_unasked(&self, member: usize) -> bool {
        let host = &self.hosts[member];
        let MemberBody::KernelOnly(kernel_only) = &host.body else { return false };
        let Some(up) = host.up.as_ref().filter(|_| !host.paused) else { return false };
        let holds = up.leased_until.is_some_and(|until| host.clock.local(self.now) < until);
        holds && kernel_only.applied >= up.status.committed
    }

    // ----- what is shown -----

    fn trace_world(&mut self, what: impl FnOnce() -> Happened) {
        if let Some(tracer) = &mut self.tracer {
            tracer(&Traced::World { at: self.now, what: &what() });
        }
    }

    /// A client sends again what was not answered.
    fn trace_again(&mut self, client: usize, member: usize, event: &Event) {
        let Event::Propose(Proposal { payload, .. }) = event else { return };
        if self.tracer.is_some() {
            let (client, member) = (client as u64, self.hosts[member].id);
            let (payload, what) = (payload.clone(), self.clients.show(payload));
            self.trace_world(|| Happened::SentAgain { client, member, payload, what });
        }
    }

    fn trace_about(&mut self, member: NodeId, what: impl FnOnce() -> String) {
        self.trace_world(|| Happened::Other { member: Some(member), what: what() });
    }
}

/// The state of a member, where it is a full replica that is up.
fn machine_of<M: StateMachine>(host: &Host<M>) -> Option<MachineOf<'_, M>> {
    let MemberBody::FullReplica(full) = &host.body else { return None };
    let machine = full.running.as_ref()?.machine();
    (!host.spec.witness).then_some(MachineOf { member: host.id, machine })
}

fn position(id: NodeId) -> usize {
    id.get() as usize - 1
}
