//! The queue of what will happen to forming groups, and what each event does.

mod checks;
mod connections;
mod faults;
mod operator;

use crate::formation::plan::{Fault, MS, Plan};
use crate::formation::report::{Report, Tracer};
use crate::formation::unit::{Asker, Directory, Hello, Link, Unit};
use crate::hash::StableHasher;
use crate::queue::Queue;
use crate::report::Failure;
use crate::stream::Stream;
use kontiki_core::action::{Action, Outcome, Refusal, Violation};
use kontiki_core::event::{Event as Kernel, Reconfigure};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::replica::formation::{
    self, Address, Admission, ChangeRefused, Input, Output, Question, QuestionId, Record, Reply, Source,
};
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Member, NodeId, RequestId, Term};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After everything has healed, and after power was lost, groups must be complete within this time.
const PATIENCE: u64 = 60_000 * MS;
/// Everything must stay as it should be for this long.
const REST: u64 = 2_000 * MS;
/// How long a dial into nothing takes.
const HANDSHAKE_TIMEOUT: u64 = 1_000 * MS;
/// So many questions within a second are no pause between them.
const MAX_QUESTIONS: usize = 400;
/// So many events happen in no sound run.
const MAX_EVENTS: u64 = 4_000_000;

#[derive(Debug)]
enum Event {
    Fault(Fault),
    Start(usize),
    Heal,
    HandOver(usize),
    /// The operator and the supervisors look after their members.
    Tick,
    WakeFormation(usize, u64),
    WakeKernel(usize, u64),
    Stored(usize, u64, Record),
    /// A process writes down the addresses that it knows.
    Remember(usize, u64),
    Asked {
        asker: Asker,
        target: (usize, u64),
        ask: Question,
        cluster: Option<ClusterId>,
    },
    Answered {
        asker: Asker,
        answer: Result<Reply, String>,
    },
    Dialled {
        from: (usize, u64),
        peer: NodeId,
        address: String,
        target: (usize, u64),
        hello: Hello,
    },
    DialEnded {
        from: (usize, u64),
        peer: NodeId,
        address: String,
        found: Option<(Hello, usize, u64)>,
    },
    Broken {
        from: (usize, u64),
        peer: NodeId,
        target: (usize, u64),
    },
    Redial {
        from: (usize, u64),
        peer: NodeId,
    },
    Message {
        to: (usize, u64),
        message: Box<Message>,
    },
    Renamed(String, String),
}

pub(super) struct World<'a> {
    plan: Plan,
    now: u64,
    queue: Queue<Event>,
    units: Vec<Unit>,
    /// What names resolve to.
    names: BTreeMap<String, String>,
    /// Which way is cut until when.
    cuts: BTreeMap<(usize, usize), u64>,
    latency: Stream,
    draws: Stream,
    addresses: u64,
    healed: bool,
    /// From when on everything becomes as it should be within [`PATIENCE`].
    demanded_from: u64,
    /// Since when everything is as it should be.
    good_since: Option<u64>,
    /// Who was listed or added, by group.
    admitted: BTreeMap<ClusterId, BTreeSet<Member>>,
    leaders: BTreeMap<(ClusterId, Term), Member>,
    failure: Option<Failure>,
    events: u64,
    hash: u64,
    last: VecDeque<String>,
    tracer: Option<Tracer<'a>>,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, tracer: Option<Tracer<'a>>) -> Self {
        let plan = Plan::draw(seed);
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            units: Vec::new(),
            names: BTreeMap::new(),
            cuts: BTreeMap::new(),
            latency: Stream::named(seed, "formation/latency", 0),
            draws: Stream::named(seed, "formation/draws", 0),
            addresses: 0,
            healed: false,
            demanded_from: plan.heal_at,
            good_since: None,
            admitted: BTreeMap::new(),
            leaders: BTreeMap::new(),
            failure: None,
            events: 0,
            hash: 0,
            last: VecDeque::new(),
            tracer,
            plan,
        };
        world.populate();
        world
    }

    /// Gives every process an address, a name and flags.
    fn populate(&mut self) {
        for (group, (founders, newcomers)) in self.plan.groups.clone().into_iter().enumerate() {
            let first = self.units.len();
            for number in 0..founders + newcomers {
                let address = self.fresh_address();
                let unit = self.units.len();
                self.names.insert(name_of(unit), address.clone());
                self.units.push(Unit {
                    id: NodeId::new(number as u64 + 1).expect("not zero"),
                    group,
                    is_founder: number < founders,
                    plan: formation::Plan::Resume,
                    address,
                    directory: Directory::default(),
                    process: None,
                    lives: 0,
                    down_until: 0,
                    is_lost: false,
                    starts_at: None,
                });
            }
            for unit in first..first + founders {
                self.units[unit].plan = formation::Plan::Found(self.list(group));
            }
            for unit in first + founders..self.units.len() {
                let seed = first + self.draws.below(founders as u64) as usize;
                self.units[unit].plan = formation::Plan::Join(self.told(seed));
            }
        }
        if let Some((whose, entry, leads_to)) = self.plan.mixed_up {
            let (wrong, right) = (self.units[leads_to].address.clone(), self.units[entry].address.clone());
            let id = self.units[entry].id;
            match &mut self.units[whose].plan {
                _ if self.plan.by_name => {
                    // Another machine had the name before.
                    self.names.insert(name_of(entry), wrong);
                    let later = self.draws.between(100, 5_000) * MS;
                    self.at(later, Event::Renamed(name_of(entry), right));
                }
                formation::Plan::Found(list) => {
                    list.iter_mut()
                        .filter(|(listed, _)| *listed == id)
                        .for_each(|(_, at)| at.clone_from(&wrong));
                }
                _ => {}
            }
        }
        for (unit, at) in self.plan.starts.clone().into_iter().enumerate() {
            self.units[unit].starts_at = Some(at);
            self.at(at, Event::Start(unit));
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, Event::Fault(fault));
        }
        self.at(self.plan.heal_at, Event::Heal);
        self.at(1_000 * MS, Event::Tick);
    }

    pub(super) fn run(mut self, seed: u64) -> Report {
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            if self.events > MAX_EVENTS {
                self.fail("Bounded Work", format!("{MAX_EVENTS} events, and no end"));
            }
            if self.failure.is_some() || self.is_done() {
                break;
            }
            self.happen(event);
        }
        Report {
            seed,
            failure: self.failure,
            events: self.events,
            virtual_nanos: self.now,
            trace_hash: self.hash,
            last: self.last.into(),
        }
    }

    fn is_done(&self) -> bool {
        !self.plan.loses_power && self.good_since.is_some_and(|since| self.now >= since + REST)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault(fault) => self.strike(fault),
            Event::Start(unit) => self.start(unit),
            Event::Heal => self.heal(),
            Event::Tick => self.tick(),
            Event::HandOver(group) => self.hand_over(group),
            Event::WakeFormation(unit, life) => {
                if let Some(process) = self.units[unit].running(life) {
                    process.wakes[0] = None;
                    self.form(unit, Input::Wake);
                }
            }
            Event::WakeKernel(unit, life) => {
                if let Some(process) = self.units[unit].running(life) {
                    process.wakes[1] = None;
                    self.step(unit, Kernel::Wake);
                }
            }
            Event::Stored(unit, life, record) => self.stored(unit, life, record),
            Event::Remember(unit, life) => self.remember(unit, life),
            Event::Asked { asker, target, ask, cluster } => self.asked(asker, target, ask, cluster),
            Event::Answered { asker, answer } => self.answered(asker, answer),
            Event::Dialled { from, peer, address, target, hello } => {
                let found = self.dialled(from.0, peer, target, &hello);
                let latency = self.latency();
                self.after(latency, Event::DialEnded { from, peer, address, found });
            }
            Event::DialEnded { from, peer, address, found } => self.dial_ended(from, peer, &address, found),
            Event::Broken { from: (unit, life), peer, target } => {
                let Some(process) = self.units[unit].running(life) else { return };
                if process.connected(peer) == Some(target) {
                    process.links.insert(peer, Link::Waiting { until: self.now, failures: 0 });
                    self.redial(unit, peer);
                    self.step(unit, Kernel::PeerUnreachable(peer));
                }
            }
            Event::Redial { from: (unit, life), peer } => {
                let now = self.now;
                let Some(process) = self.units[unit].running(life) else { return };
                if matches!(process.links.get(&peer), Some(Link::Waiting { until, .. }) if *until <= now) {
                    self.redial(unit, peer);
                }
            }
            Event::Message { to: (unit, life), message } => {
                if self.units[unit].running(life).is_some() {
                    self.step(unit, Kernel::Receive(*message));
                }
            }
            // The operator has set all names right.
            Event::Renamed(..) if self.healed => {}
            Event::Renamed(name, address) => {
                self.trace(|| format!("{name} resolves to {address}"));
                self.names.insert(name, address);
            }
        }
    }

    /// Writes the addresses that a process knows to its directory, and does so again later.
    fn remember(&mut self, unit: usize, life: u64) {
        if let Some(process) = self.units[unit].running(life) {
            self.units[unit].directory.addresses = process.book.known();
            self.after(2_000 * MS, Event::Remember(unit, life));
        }
    }

    fn step(&mut self, unit: usize, event: Kernel) {
        let now = self.instant();
        let actions = self.units[unit].step(now, event);
        for action in actions {
            match action {
                Action::Send(message) => self.send(unit, message),
                Action::Respond { request, outcome } => self.respond(unit, request, outcome),
                Action::Halt(Violation::StaleIncarnation { .. }) => {
                    self.end(unit, "its group has another".to_owned());
                }
                Action::Halt(violation) => return self.fail("Halt", format!("unit {unit}: {violation}")),
                _ => {}
            }
        }
        self.check_leader(unit);
        let Some(process) = self.units[unit].alive() else { return };
        let configured = process.raft.as_ref().map(|raft| raft.status().configured);
        let is_news = process.placed() != process.place || configured != process.configured;
        if is_news && configured.is_some() {
            self.placed(unit);
        }
        self.schedule(unit);
    }

    /// A member's place in its group has changed.
    fn placed(&mut self, unit: usize) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        let (Some(raft), Some(place)) = (&process.raft, process.placed()) else { return };
        let members = raft.membership().members().to_vec();
        process.configured = Some(raft.status().configured);
        let me = process.formation.record().id;
        if let Some(cluster) = process.formation.cluster() {
            process.book.expect(cluster, &members);
        }
        process.wanted.retain(|id| {
            members.iter().any(|member| member.id == *id) || place.kind == MemberKind::NonMember
        });
        process.wanted.extend(members.iter().map(|member| member.id).filter(|id| *id != me));
        if process.place.replace(place) != Some(place) {
            self.form(unit, Input::Placed(place));
        }
        self.connect(unit);
    }

    fn respond(&mut self, unit: usize, request: RequestId, outcome: Outcome) {
        let Some(process) = &mut self.units[unit].process else { return };
        let Some(asker) = process.asked.remove(&request) else { return };
        let answer = match outcome {
            Outcome::Committed(id) => Reply::Changed(id),
            Outcome::NotCaughtUp(_) => Reply::NotCaughtUp,
            Outcome::Refused(refusal) => {
                let leader = match refusal {
                    Refusal::NotLeader { leader } => leader,
                    _ => process.raft.as_ref().and_then(|raft| raft.status().leader),
                };
                let leader = leader.map(|id| (id, process.book.best(id).map(str::to_owned)));
                let is_member = refusal.code() == "already_member";
                let (reason, is_passing) = (refusal.to_string(), refusal.is_retryable());
                Reply::Refused(ChangeRefused { reason, is_passing, is_member, leader })
            }
            _ => Reply::Unknown,
        };
        let latency = self.latency();
        self.after(latency, Event::Answered { asker, answer: Ok(answer) });
    }

    fn send(&mut self, unit: usize, message: Message) {
        let peer = message.to.id;
        let Some(process) = self.units[unit].alive() else { return };
        match process.connected(peer) {
            Some(target) if !self.is_cut(unit, target.0) => {
                let latency = self.latency();
                self.after(latency, Event::Message { to: target, message: Box::new(message) });
            }
            Some(_) => {}
            None if process.links.contains_key(&peer) => {}
            None => self.dial(unit, peer),
        }
    }

    fn form(&mut self, unit: usize, input: Input) {
        let now = self.instant();
        let outputs = self.units[unit].form(now, input);
        for output in outputs {
            self.carry_out(unit, output);
        }
        self.spread(unit);
        self.schedule(unit);
    }

    fn carry_out(&mut self, unit: usize, output: Output) {
        let now = self.now;
        let Some(process) = self.units[unit].process.as_mut().filter(|process| process.ended.is_none())
        else {
            return;
        };
        let life = process.life;
        match output {
            Output::Ask { question, address, ask, patience } => {
                process.questions.push_back(now);
                while process.questions.front().is_some_and(|at| at + 1_000 * MS < now) {
                    process.questions.pop_front();
                }
                if process.questions.len() > MAX_QUESTIONS {
                    return self.fail(
                        "Bounded Work",
                        format!("unit {unit} asks {address} again and again: {ask:?}"),
                    );
                }
                let cluster = process.formation.cluster();
                self.trace_unit(unit, || format!("asks {address}: {}", brief(&ask)));
                self.ask(unit, question, &address, ask, cluster, patience.get());
            }
            Output::Store(record) => {
                let time = self.draws.skewed(MS, self.plan.max_store);
                self.after(time, Event::Stored(unit, life, record));
            }
            Output::Enter(record) => {
                self.trace_unit(unit, || format!("enters group {:x}", record.cluster.unwrap_or_default().0));
                let seed = self.draws.number();
                let now = self.instant();
                self.units[unit].enter(&record, seed, now);
                self.step(unit, Kernel::Wake);
            }
            Output::Connect(ids) => {
                process.wanted.extend(ids);
                self.connect(unit);
            }
            Output::Report(report) => self.trace_unit(unit, || report.to_string()),
            Output::Fail(error) => self.end(unit, error.to_string()),
        }
    }

    fn ask(
        &mut self,
        unit: usize,
        question: QuestionId,
        address: &str,
        ask: Question,
        cluster: Option<ClusterId>,
        patience: u64,
    ) {
        let Some(life) = self.units[unit].process.as_ref().map(|process| process.life) else { return };
        let asker = Asker::Unit { unit, life, question };
        // Whatever comes first counts.
        self.after(patience, Event::Answered { asker, answer: Err("no answer in time".to_owned()) });
        match self.target(address) {
            Some(target) if self.is_cut(unit, target.0) => {}
            Some(target) => {
                let latency = self.latency();
                self.after(latency, Event::Asked { asker, target, ask, cluster });
            }
            None => {
                let latency = self.latency();
                self.after(latency, Event::Answered { asker, answer: Err("refused".to_owned()) });
            }
        }
    }

    fn asked(&mut self, asker: Asker, target: (usize, u64), ask: Question, cluster: Option<ClusterId>) {
        let (unit, life) = target;
        let latency = self.latency();
        let Some(process) = self.units[unit].running(life) else {
            return self.after(latency, Event::Answered { asker, answer: Err("broken".to_owned()) });
        };
        if cluster.is_some() && process.formation.cluster() != cluster {
            return self.after(latency, Event::Answered { asker, answer: Err("other cluster".to_owned()) });
        }
        match ask {
            Question::Introduce(introduction) => {
                let who = process.formation.introduced(&introduction, &mut process.book);
                let later = match (&who, asker) {
                    (Ok(who), Asker::Unit { unit: asker, .. }) if who.cluster.is_some() => {
                        self.forget_answer(unit, asker)
                    }
                    _ => None,
                };
                let answer = who.map(Reply::Who).map_err(|error| error.to_string());
                self.after(latency + later.unwrap_or(0), Event::Answered { asker, answer });
            }
            Question::Change(change, introduction) => {
                if let Some(address) = introduction.address {
                    process.book.note(
                        introduction.member.id,
                        Address::undated(address.text),
                        Source::Configured,
                    );
                }
                if process.raft.is_none() {
                    return self
                        .after(latency, Event::Answered { asker, answer: Err("starting".to_owned()) });
                }
                if let (Some(cluster), Change::AddVoter(member)) = (process.formation.cluster(), change) {
                    self.admitted.entry(cluster).or_default().insert(member);
                }
                if self.plan.loses_addition && self.leader_of(self.units[unit].group) == Some(unit) {
                    self.lose_addition(unit);
                }
                let request = self.request(unit, asker);
                let changes = vec![change];
                self.step(
                    unit,
                    Kernel::Reconfigure(Reconfigure { request, expected: None, changes, force: false }),
                );
            }
        }
        self.spread(unit);
    }

    fn answered(&mut self, asker: Asker, answer: Result<Reply, String>) {
        let Asker::Unit { unit, life, question } = asker else { return };
        if self.units[unit].running(life).is_some() {
            self.form(unit, Input::Answered { question, answer });
        }
    }

    fn request(&mut self, unit: usize, asker: Asker) -> RequestId {
        let process = self.units[unit].process.as_mut().expect("it runs");
        process.last_request += 1;
        let request = RequestId(process.last_request);
        process.asked.insert(request, asker);
        request
    }

    fn stored(&mut self, unit: usize, life: u64, record: Record) {
        if self.units[unit].running(life).is_none() {
            return;
        }
        if let Some(cluster) = record.cluster {
            let founders = record.founders.iter().map(|it| Member::new(it.id, it.incarnation));
            self.admitted.entry(cluster).or_default().extend(founders);
        }
        let has_entered = record.cluster.is_some() && record.joining == Some(Admission::Wanted);
        self.units[unit].directory.record = Some(record);
        self.form(unit, Input::Stored);
        self.part(unit);
        self.check_records();
        if has_entered {
            self.lose_seed(unit);
        }
    }

    /// Wakes are asked for once.
    fn schedule(&mut self, unit: usize) {
        let now = self.now;
        let Some(process) = self.units[unit].process.as_mut().filter(|process| process.ended.is_none())
        else {
            return;
        };
        let deadlines =
            [process.formation.deadline(), process.raft.as_ref().map_or(Instant::NEVER, Raft::deadline)];
        let life = process.life;
        let mut wanted = [None; 2];
        for (at, deadline) in deadlines.into_iter().enumerate() {
            let when = deadline.as_nanos().max(now + 1);
            if deadline != Instant::NEVER && process.wakes[at].is_none_or(|known| known > when) {
                process.wakes[at] = Some(when);
                wanted[at] = Some(when);
            }
        }
        if let Some(when) = wanted[0] {
            self.at(when, Event::WakeFormation(unit, life));
        }
        if let Some(when) = wanted[1] {
            self.at(when, Event::WakeKernel(unit, life));
        }
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn at(&mut self, when: u64, event: Event) {
        self.queue.push(when.max(self.now), event);
    }

    fn after(&mut self, time: u64, event: Event) {
        self.at(self.now + time, event);
    }

    fn latency(&mut self) -> u64 {
        self.latency.skewed(MS / 4, 32 * MS)
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    fn fresh_address(&mut self) -> String {
        self.addresses += 1;
        format!("10.0.0.{}:7001", self.addresses)
    }

    fn resolved<'b>(&'b self, text: &'b String) -> &'b String {
        self.names.get(text).unwrap_or(text)
    }

    /// Which process is at an address now.
    fn target(&self, text: &str) -> Option<(usize, u64)> {
        let text = text.to_owned();
        let address = self.resolved(&text);
        let at = self.units.iter().position(|unit| unit.address == *address)?;
        self.units[at].alive().map(|process| (at, process.life))
    }

    /// How a unit is named in flags.
    fn told(&self, unit: usize) -> String {
        if self.plan.by_name { name_of(unit) } else { self.units[unit].address.clone() }
    }

    fn list(&self, group: usize) -> Vec<(NodeId, String)> {
        let founders = (0..self.units.len()).filter(|unit| self.units[*unit].group == group);
        let founders = founders.filter(|unit| self.units[*unit].is_founder);
        founders.map(|unit| (self.units[unit].id, self.told(unit))).collect()
    }

    fn fail(&mut self, property: &str, detail: String) {
        self.trace(|| format!("{property}: {detail}"));
        let failure = Failure::new(property, detail, self.events, self.now);
        self.failure.get_or_insert(failure);
    }

    fn trace_unit(&mut self, unit: usize, what: impl FnOnce() -> String) {
        let (id, group, life) = (self.units[unit].id.get(), self.units[unit].group, self.units[unit].lives);
        self.trace(|| format!("unit {unit} (member {id} of group {group}, life {life}) {}", what()));
    }

    fn trace(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>12} {}", format!("{}.{:03}ms", self.now / MS, self.now % MS / 1_000), what());
        self.hash = StableHasher::combine(self.hash, StableHasher::of(&line));
        if let Some(tracer) = &mut self.tracer {
            tracer(&line);
        }
        if self.last.len() >= LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// How many lines of a run are kept for a report.
const LAST: usize = 30;

fn name_of(unit: usize) -> String {
    format!("host-{unit}:7001")
}

fn brief(ask: &Question) -> String {
    match ask {
        Question::Introduce(_) => "who are you?".to_owned(),
        Question::Change(change, _) => format!("{change:?}"),
    }
}
