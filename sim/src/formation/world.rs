//! The queue of what will happen to forming groups, and what each event does.

use crate::formation::plan::{Fault, MS, Plan};
use crate::formation::report::{Report, Tracer};
use crate::formation::unit::{Asker, Directory, Hello, Link, Process, Unit};
use crate::hash::StableHasher;
use crate::report::Failure;
use crate::stream::Stream;
use kontiki_core::action::{Action, Outcome, Refusal, Violation};
use kontiki_core::event::{Event as Kernel, Reconfigure, Transfer};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::replica::formation::{
    self, Address, Admission, ChangeRefused, Input, Output, Question, QuestionId, Record, Reply, Source,
    Verdict,
};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Member, NodeId, RequestId, Term};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After everything has healed, groups must be complete within this time.
const PATIENCE: u64 = 180_000 * MS;
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
    next: u64,
    queue: BTreeMap<(u64, u64), Event>,
    units: Vec<Unit>,
    /// What names resolve to.
    names: BTreeMap<String, String>,
    /// Which way is cut until when.
    cuts: BTreeMap<(usize, usize), u64>,
    latency: Stream,
    draws: Stream,
    addresses: u64,
    healed: bool,
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
            next: 0,
            queue: BTreeMap::new(),
            units: Vec::new(),
            names: BTreeMap::new(),
            cuts: BTreeMap::new(),
            latency: Stream::named(seed, "formation/latency", 0),
            draws: Stream::named(seed, "formation/draws", 0),
            addresses: 0,
            healed: false,
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
        while let Some(((at, _), event)) = self.queue.pop_first() {
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
        self.good_since.is_some_and(|since| self.now >= since + REST)
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
            Event::Remember(unit, life) => {
                if let Some(process) = self.units[unit].running(life) {
                    self.units[unit].directory.addresses = process.book.known();
                    self.after(2_000 * MS, Event::Remember(unit, life));
                }
            }
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

    // What goes wrong, and who sets it right.

    fn strike(&mut self, fault: Fault) {
        self.trace(|| format!("{fault:?}"));
        match fault {
            Fault::Crash(unit, time) => self.crash(unit, time),
            Fault::Move(unit, time, renamed) => {
                self.crash(unit, time);
                let address = self.fresh_address();
                self.move_to(unit, address, renamed);
            }
            // Which group a newcomer joins its operator says by an address alone.
            Fault::Swap(one, other, _) if self.leads_astray(one, other) => {}
            Fault::Swap(one, other, time) => {
                let (first, second) = (self.units[one].address.clone(), self.units[other].address.clone());
                self.crash(one, time);
                self.crash(other, time);
                self.move_to(one, second, time);
                self.move_to(other, first, time);
            }
            Fault::Cut(from, to, time) => {
                self.cuts.insert((from, to), self.now + time);
                let (peer, broken) =
                    (self.units[to].id, self.units[from].alive().map(|process| process.life));
                if let (Some(life), Some(process)) = (broken, &self.units[to].process) {
                    let target = (to, process.life);
                    self.after(300 * MS, Event::Broken { from: (from, life), peer, target });
                }
            }
            Fault::Wipe(unit, time) => {
                self.crash(unit, time);
                self.units[unit].directory = Directory::default();
            }
        }
    }

    /// Loses the seed of a newcomer that has just learned its group, where no other unit needs that seed any
    /// more: any other member can add the newcomer.
    fn lose_seed(&mut self, unit: usize) {
        let Unit { group, is_founder, .. } = self.units[unit];
        let all: Vec<_> = (0..self.units.len()).filter(|it| self.units[*it].group == group).collect();
        let founders: Vec<_> = all.iter().copied().filter(|it| self.units[*it].is_founder).collect();
        let is_wiped = self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Wipe(..)));
        let have_entered = all.iter().all(|unit| self.has_group(*unit));
        if !self.plan.loses_seed || is_founder || is_wiped || !have_entered || founders.len() < 3 {
            return;
        }
        let Some(seed) = self.leads_to(unit).into_iter().find(|seed| founders.contains(seed)) else { return };
        self.units[seed].is_lost = true;
        if all.iter().any(|unit| *unit != seed && !self.leads_home(*unit)) {
            self.units[seed].is_lost = false;
            return;
        }
        self.plan.loses_seed = false;
        self.trace(|| format!("unit {seed}, the seed of unit {unit}, is lost for good"));
        self.crash(seed, 0);
    }

    /// From now on the leader reaches newcomers alone, and soon crashes. Where two others are left and time is
    /// left to heal it, it comes back elsewhere, and finds that a newcomer leads, of which it may know nothing.
    fn lose_addition(&mut self, leader: usize) {
        self.plan.loses_addition = false;
        let Unit { group, .. } = self.units[leader];
        let is_founder = |it: &usize| self.units[*it].group == group && self.units[*it].is_founder;
        let others: Vec<_> = (0..self.units.len()).filter(is_founder).filter(|it| *it != leader).collect();
        self.cuts.extend(others.iter().map(|other| ((leader, *other), self.now + 3_000 * MS)));
        self.trace(|| format!("unit {leader} reaches newcomers alone"));
        if others.len() < 2 || self.now + 4_000 * MS > self.plan.heal_at {
            return self.after(1_500 * MS, Event::Fault(Fault::Crash(leader, 1_000 * MS)));
        }
        self.after(1_500 * MS, Event::Fault(Fault::Move(leader, 1_000 * MS, 2_000 * MS)));
        self.after(2_000 * MS, Event::HandOver(group));
    }

    /// The operator has a newcomer lead.
    fn hand_over(&mut self, group: usize) {
        let is_voter = |unit: &Unit| {
            let place = unit.alive().and_then(Process::placed);
            place.is_some_and(|place| place.kind == MemberKind::Voter && place.is_committed)
        };
        let newcomer =
            self.units.iter().find(|unit| unit.group == group && !unit.is_founder && is_voter(unit));
        let (Some(leader), Some(to)) = (self.leader_of(group), newcomer.map(|unit| unit.id)) else { return };
        self.trace(|| format!("the operator has member {} lead", to.get()));
        let request = self.request(leader, Asker::Operator);
        self.step(leader, Kernel::Transfer(Transfer { request, to: Some(to) }));
    }

    fn leads_astray(&self, one: usize, other: usize) -> bool {
        let groups = [self.units[one].group, self.units[other].group];
        let joins = self.units.iter().any(|unit| groups.contains(&unit.group) && !unit.is_founder);
        let will_join = self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Wipe(..)));
        groups[0] != groups[1] && (joins || will_join)
    }

    fn move_to(&mut self, unit: usize, address: String, renamed: u64) {
        self.units[unit].address.clone_from(&address);
        self.after(renamed, Event::Renamed(name_of(unit), address));
    }

    /// The process ends; its supervisor starts it again after this time.
    fn crash(&mut self, unit: usize, time: u64) {
        let ended = self.units[unit].process.take();
        if let Some(process) = ended {
            self.hang_up(unit, process.life);
        }
        let until = self.units[unit].down_until.max(self.now + time);
        self.units[unit].down_until = until;
        self.start_at(unit, until);
    }

    /// Those that were connected with this life notice that it has ended.
    fn hang_up(&mut self, unit: usize, life: u64) {
        let id = self.units[unit].id;
        for from in 0..self.units.len() {
            let Some(process) = self.units[from].alive() else { continue };
            if process.connected(id) == Some((unit, life)) {
                let from = (from, process.life);
                let latency = self.latency();
                self.after(latency, Event::Broken { from, peer: id, target: (unit, life) });
            }
        }
    }

    /// A member has introduced itself anew, in a group: those that are in another end their connections.
    fn part(&mut self, unit: usize) {
        let Some(hello) = self.units[unit].alive().map(Process::hello) else { return };
        for other in 0..self.units.len() {
            let Some(theirs) = self.units[other].alive().map(Process::hello) else { continue };
            if theirs.is_foreign_to(&hello) {
                for (from, to) in [(unit, other), (other, unit)] {
                    let lives = [from, to].map(|it| self.units[it].lives);
                    let peer = self.units[to].id;
                    self.after(MS, Event::Broken { from: (from, lives[0]), peer, target: (to, lives[1]) });
                }
            }
        }
    }

    fn start_at(&mut self, unit: usize, at: u64) {
        let at = at.max(self.units[unit].starts_at.unwrap_or(0));
        self.units[unit].starts_at = Some(at);
        self.at(at, Event::Start(unit));
    }

    fn start(&mut self, unit: usize) {
        let Unit { starts_at, is_lost, .. } = self.units[unit];
        if starts_at != Some(self.now) || is_lost || self.units[unit].process.is_some() {
            return;
        }
        let drawn = self.draws.number();
        let now = self.now;
        self.trace(|| format!("unit {unit} starts"));
        if let Err(error) = self.units[unit].start(now, drawn) {
            return self.fail("Formation", format!("unit {unit} cannot start: {error}"));
        }
        let life = self.units[unit].lives;
        self.trace_unit(unit, || "runs".to_owned());
        self.after(2_000 * MS, Event::Remember(unit, life));
        self.form(unit, Input::Wake);
    }

    /// A process goes no further by itself; its supervisor starts it again.
    fn end(&mut self, unit: usize, why: String) {
        self.trace_unit(unit, || format!("ends: {why}"));
        let Some(process) = &mut self.units[unit].process else { return };
        process.ended = Some(why);
        let life = process.life;
        self.hang_up(unit, life);
    }

    fn heal(&mut self) {
        self.trace(|| "heals".to_owned());
        self.healed = true;
        self.cuts.clear();
        for unit in 0..self.units.len() {
            let address = self.units[unit].address.clone();
            self.names.insert(name_of(unit), address);
        }
        for group in 0..self.plan.groups.len() {
            self.correct(group);
        }
    }

    /// The operator corrects what members are started with, where that does not lead them together.
    fn correct(&mut self, group: usize) {
        let members = || (0..self.units.len()).filter(|unit| self.units[*unit].group == group);
        let all: Vec<_> = members().filter(|unit| !self.units[*unit].is_lost).collect();
        let (firsts, newcomers): (Vec<_>, Vec<_>) =
            all.iter().partition(|unit| self.units[**unit].is_founder);
        let firsts: Vec<usize> = firsts;
        // Of a group that there is, only members that are in it lead others together.
        let is_founded = firsts.iter().any(|unit| self.has_group(*unit));
        let joins = |unit: &usize| !is_founded || self.has_group(*unit);
        let mut reached: BTreeSet<_> = firsts.iter().copied().find(joins).into_iter().collect();
        loop {
            let before = reached.len();
            for unit in &firsts {
                let to = self.leads_to(*unit).into_iter();
                let to: Vec<_> = to.filter(|to| firsts.contains(to) && joins(to)).collect();
                if reached.contains(unit) || to.iter().any(|to| reached.contains(to)) {
                    reached.insert(*unit);
                    if joins(unit) {
                        reached.extend(to);
                    }
                }
            }
            if reached.len() == before {
                break;
            }
        }
        let led: Vec<usize> = newcomers;
        let is_led =
            |it: &usize| self.leads_to(*it).iter().any(|to| reached.contains(to)) || self.knows_founder(*it);
        let led: Vec<_> = led.into_iter().filter(is_led).collect();
        reached.extend(led);
        let list = members().filter(|unit| self.units[*unit].is_founder);
        let list: Vec<_> = list.map(|unit| (self.units[unit].id, self.units[unit].address.clone())).collect();
        let mut founders =
            all.iter().filter(|unit| matches!(self.units[**unit].plan, formation::Plan::Found(_)));
        let is_founding = founders.any(|unit| !self.has_group(*unit));
        let is_other = |to: &usize| self.units[*to].group != group;
        let leads_apart = all.iter().any(|unit| self.leads_to(*unit).iter().any(is_other));
        let lists: BTreeSet<_> = all
            .iter()
            .filter_map(|unit| match &self.units[*unit].plan {
                formation::Plan::Found(list) => Some(list.clone()),
                _ => None,
            })
            .collect();
        let differ = lists.len() > 1 || reached.len() < all.len() || leads_apart;
        let is_listed_anew = is_founding && differ;
        for unit in all.clone() {
            let is_wrong = (is_listed_anew && matches!(self.units[unit].plan, formation::Plan::Found(_)))
                || self.leads_to(unit).iter().any(|to| self.units[*to].group != group)
                || !self.leads_home(unit);
            if reached.contains(&unit) && !is_wrong {
                continue;
            }
            let has_group = self.has_group(unit);
            let is_founder = self.units[unit].is_founder;
            let joins = !is_founder || matches!(self.units[unit].plan, formation::Plan::Join(_));
            let by_seed = joins || (has_group && unit != all[0] && self.draws.coin());
            let seed = self.units[self.seed_for(unit, &all)].address.clone();
            self.units[unit].plan = match by_seed {
                true => formation::Plan::Join(seed),
                false => formation::Plan::Found(list.clone()),
            };
            self.trace(|| format!("the operator corrects the flags of unit {unit}"));
            let time = self.draws.between(10, 2_000) * MS;
            self.crash(unit, time);
        }
    }

    fn has_group(&self, unit: usize) -> bool {
        self.units[unit].directory.record.as_ref().is_some_and(|record| record.cluster.is_some())
    }

    /// Another member by which this one can join: the leader, or one that has a group.
    fn seed_for(&self, unit: usize, all: &[usize]) -> usize {
        let leader = self.leader_of(self.units[unit].group).filter(|leader| *leader != unit);
        let others = || all.iter().copied().filter(|other| *other != unit && !self.units[*other].is_lost);
        leader
            .or_else(|| others().find(|other| self.has_group(*other)))
            .or_else(|| others().next())
            .unwrap_or(unit)
    }

    /// To which units the flags of one lead now.
    fn leads_to(&self, unit: usize) -> Vec<usize> {
        let at = |text: &String| self.units.iter().position(|it| it.address == *self.resolved(text));
        let leads: Vec<_> = match &self.units[unit].plan {
            formation::Plan::Resume => Vec::new(),
            formation::Plan::Found(list) => {
                let is_right = |to: usize, id: NodeId| {
                    self.units[to].group != self.units[unit].group || self.units[to].id == id
                };
                let others = list.iter().filter(|(id, _)| *id != self.units[unit].id);
                others.filter_map(|(id, text)| at(text).filter(|to| is_right(*to, *id))).collect()
            }
            formation::Plan::Join(seed) => at(seed).into_iter().collect(),
        };
        leads.into_iter().filter(|to| *to != unit).collect()
    }

    /// Whether a newcomer's seed is a member at all: one that finds a group, and is there or not needed any
    /// more.
    fn leads_home(&self, unit: usize) -> bool {
        let is_join = matches!(self.units[unit].plan, formation::Plan::Join(_));
        let is_home =
            |to: &usize| self.units[*to].is_founder && (!self.units[*to].is_lost || self.knows_founder(unit));
        !is_join || self.leads_to(unit).iter().any(is_home)
    }

    /// Whether a unit that has a group knows where a first member is that is there.
    fn knows_founder(&self, unit: usize) -> bool {
        let Unit { group, directory, process, .. } = &self.units[unit];
        let others = self.units.iter().filter(|it| it.group == *group && it.is_founder && !it.is_lost);
        let knows = |other: &Unit| {
            let mut stored = directory.addresses.iter().filter(|(id, _)| *id == other.id);
            let stored = stored.any(|(_, address)| *self.resolved(&address.text) == other.address);
            let book = process.as_ref().map(|process| process.book.candidates(other.id));
            let in_memory = book.unwrap_or_default().iter().any(|text| *self.resolved(text) == other.address);
            if process.is_some() { in_memory } else { stored }
        };
        self.has_group(unit) && others.filter(|other| other.id != self.units[unit].id).any(knows)
    }

    /// Supervisors start what has ended, and operators replace members whose directories were emptied.
    fn tick(&mut self) {
        self.after(1_000 * MS, Event::Tick);
        for unit in 0..self.units.len() {
            if self.units[unit].process.as_ref().is_some_and(|process| process.ended.is_some()) {
                self.units[unit].process = None;
                let time = self.draws.between(1, 2_000) * MS;
                self.start_at(unit, self.now + time);
            }
        }
        for group in 0..self.plan.groups.len() {
            self.replace_emptied(group);
        }
        self.check_forming();
        if self.healed {
            let complaint = (0..self.plan.groups.len()).find_map(|group| self.incomplete(group));
            match complaint {
                None => {
                    self.good_since.get_or_insert(self.now);
                }
                Some(complaint) => {
                    self.good_since = None;
                    if self.now > self.plan.heal_at + PATIENCE {
                        self.fail("Formation", complaint);
                    }
                }
            }
        }
    }

    /// The documented procedure: remove the member, and have it join again.
    fn replace_emptied(&mut self, group: usize) {
        let Some(leader) = self.leader_of(group) else { return };
        let Some(raft) = self.units[leader].alive().and_then(|process| process.raft.as_ref()) else { return };
        let members = raft.membership().members().to_vec();
        let cluster = self.units[leader].directory.record.as_ref().and_then(|record| record.cluster);
        let address = self.units[leader].address.clone();
        for unit in 0..self.units.len() {
            let Some(now) = self.units[unit].member().filter(|_| self.units[unit].group == group) else {
                continue;
            };
            // The founder told it of a group, and lost its directory before any other founder had entered
            // that group.
            let record = self.units[unit].directory.record.as_ref();
            if self.healed
                && record.is_some_and(|record| record.cluster.is_some() && record.cluster != cluster)
            {
                self.trace(|| {
                    format!("the operator empties the directory of unit {unit}: its group is lost")
                });
                self.units[unit].directory = Directory::default();
                self.crash(unit, 100 * MS);
                continue;
            }
            let is_other = members.iter().any(|it| it.id == now.id && it.incarnation != now.incarnation);
            let has_group = self.has_group(unit);
            if !is_other && (has_group || !self.units[unit].is_founder || members.contains(&now)) {
                continue;
            }
            if self.units[unit].is_founder
                && !has_group
                && !matches!(self.units[unit].plan, formation::Plan::Join(_))
            {
                self.trace(|| format!("the operator has unit {unit} join"));
                self.units[unit].plan = formation::Plan::Join(address.clone());
                self.crash(unit, 100 * MS);
            }
            if is_other {
                self.trace(|| format!("the operator removes member {}", now.id.get()));
                let request = self.request(leader, Asker::Operator);
                let changes = vec![Change::Remove(now.id)];
                self.step(
                    leader,
                    Kernel::Reconfigure(Reconfigure { request, expected: None, changes, force: false }),
                );
            }
        }
    }

    // The kernel.

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

    // The formation.

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
                let answer = who.map(Reply::Who).map_err(|error| error.to_string());
                self.after(latency, Event::Answered { asker, answer });
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

    // Connections.

    /// Dials every peer that a connection is wanted to and that has none.
    fn connect(&mut self, unit: usize) {
        let Some(process) = self.units[unit].alive() else { return };
        let missing = process.wanted.iter().filter(|id| !process.links.contains_key(id)).copied();
        for peer in missing.collect::<Vec<_>>() {
            self.dial(unit, peer);
        }
    }

    /// Where there are new addresses, members are dialled at once.
    fn spread(&mut self, unit: usize) {
        let Some(process) = self.units[unit].process.as_mut().filter(|process| process.ended.is_none())
        else {
            return;
        };
        let news = process.book.take_news();
        let waiting = |id: &NodeId| matches!(process.links.get(id), Some(Link::Waiting { .. }));
        let waiting: Vec<_> = news.into_iter().filter(waiting).collect();
        waiting.into_iter().for_each(|id| self.redial(unit, id));
    }

    fn redial(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        if process.wanted.contains(&peer) {
            self.dial(unit, peer);
        } else {
            process.links.remove(&peer);
        }
    }

    fn dial(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        let failures = match process.links.get(&peer) {
            Some(Link::Waiting { failures, .. }) => *failures,
            _ => 0,
        };
        let left: VecDeque<_> = process.book.candidates(peer).into();
        if left.is_empty() {
            return self.wait(unit, peer, failures);
        }
        process.links.insert(peer, Link::Dialling { left, doubtful: None });
        self.try_next(unit, peer);
    }

    fn wait(&mut self, unit: usize, peer: NodeId, failures: u32) {
        let until = self.now + ((50 * MS) << failures.min(6)).min(2_000 * MS);
        let Some(process) = self.units[unit].process.as_mut() else { return };
        process.links.insert(peer, Link::Waiting { until, failures: failures + 1 });
        let from = (unit, process.life);
        self.at(until, Event::Redial { from, peer });
    }

    fn try_next(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        let Some(Link::Dialling { left, doubtful }) = process.links.get_mut(&peer) else { return };
        let (next, doubtful) = (left.pop_front(), *doubtful);
        let (from, hello) = ((unit, process.life), process.hello());
        match (next, doubtful) {
            (Some(address), _) => match self.target(&address) {
                Some(target) if self.is_cut(unit, target.0) => {
                    self.after(HANDSHAKE_TIMEOUT, Event::DialEnded { from, peer, address, found: None });
                }
                Some(target) => {
                    let latency = self.latency();
                    self.after(latency, Event::Dialled { from, peer, address, target, hello });
                }
                None => {
                    let latency = self.latency();
                    self.after(latency, Event::DialEnded { from, peer, address, found: None });
                }
            },
            (None, Some((target, life))) => {
                // It is in no group of this host's, and may know all the same where members of it are.
                let theirs = self.units[target].running(life).map(|process| process.hello());
                if let (Some(hello), Some(process)) = (theirs, self.units[unit].process.as_mut()) {
                    process.book.heard(hello.id, &hello.address, &hello.known);
                }
                self.connected(unit, peer, (target, life));
                self.spread(unit);
            }
            (None, None) => self.wait(unit, peer, 3),
        }
    }

    /// A peer is dialled: it says who it is, unless it does not want to talk.
    fn dialled(
        &mut self,
        from: usize,
        wanted: NodeId,
        target: (usize, u64),
        hello: &Hello,
    ) -> Option<(Hello, usize, u64)> {
        let process = self.units[target.0].running(target.1)?;
        let mine = process.hello();
        if mine.id == hello.id || mine.is_foreign_to(hello) {
            return None;
        }
        if !process.book.visited(wanted, hello.id, &hello.address, &hello.known) {
            self.spread(target.0);
            return None;
        }
        let process = self.units[target.0].running(target.1)?;
        // It is there: so it can perhaps be reached as well.
        if matches!(process.links.get(&hello.id), Some(Link::Waiting { .. })) {
            self.redial(target.0, hello.id);
        }
        self.spread(target.0);
        let _ = from;
        Some((mine, target.0, target.1))
    }

    fn dial_ended(
        &mut self,
        (unit, life): (usize, u64),
        peer: NodeId,
        address: &str,
        found: Option<(Hello, usize, u64)>,
    ) {
        let now = self.instant();
        let Some(process) = self.units[unit].running(life) else { return };
        if !matches!(process.links.get(&peer), Some(Link::Dialling { .. })) {
            return;
        }
        match found {
            None => process.book.failed(peer, address, now),
            Some((hello, target, target_life)) => {
                match process.book.answered(peer, address, hello.id, &hello.groups, now) {
                    Verdict::Verified => {
                        process.book.heard(hello.id, &hello.address, &hello.known);
                        self.connected(unit, peer, (target, target_life));
                        return self.spread(unit);
                    }
                    Verdict::Doubtful => {
                        if let Some(Link::Dialling { doubtful, .. }) = process.links.get_mut(&peer) {
                            doubtful.get_or_insert((target, target_life));
                        }
                    }
                    Verdict::Other => {}
                }
            }
        }
        self.try_next(unit, peer);
    }

    fn connected(&mut self, unit: usize, peer: NodeId, (target, life): (usize, u64)) {
        let theirs = self.units[target].alive().filter(|process| process.life == life).map(Process::hello);
        let ours = self.units[unit].alive().map(Process::hello);
        // One of them may have entered a group since they introduced themselves.
        if theirs.zip(ours).is_none_or(|(theirs, ours)| theirs.is_foreign_to(&ours)) {
            return self.wait(unit, peer, 0);
        }
        let Some(process) = self.units[unit].process.as_mut() else { return };
        process.links.insert(peer, Link::Connected { unit: target, life });
        self.trace_unit(unit, || format!("is connected with unit {target}"));
    }

    // What must hold.

    /// Two groups from one list would be two groups that take themselves for one.
    fn check_records(&mut self) {
        let mut groups = BTreeMap::new();
        let mut complaint = None;
        for (number, unit) in self.units.iter().enumerate() {
            let Some(record) = &unit.directory.record else { continue };
            let Some(cluster) = record.cluster.filter(|_| !record.founders.is_empty()) else { continue };
            if *groups.entry(unit.group).or_insert(cluster) != cluster {
                complaint = Some(("One Group", format!("the list of unit {number} has made two groups")));
            }
            let me = record.member();
            if !record.founders.iter().any(|it| it.id == me.id && it.incarnation == me.incarnation) {
                complaint =
                    Some(("Listed or Added", format!("unit {number} is in a group that does not list it")));
            }
        }
        for (number, unit) in self.units.iter().enumerate().filter(|(_, unit)| unit.is_founder) {
            let cluster = unit.directory.record.as_ref().and_then(|record| record.cluster);
            let others = groups.iter().any(|(group, found)| *group != unit.group && Some(*found) == cluster);
            if others {
                complaint =
                    Some(("Listed or Added", format!("unit {number} is in the group of another list")));
            }
        }
        if let Some((property, detail)) = complaint {
            self.fail(property, detail);
        }
    }

    /// A member takes part only where it was listed, or its addition was asked for.
    fn check_forming(&mut self) {
        for (number, unit) in self.units.iter().enumerate() {
            let Some(raft) = unit.alive().and_then(|process| process.raft.as_ref()) else { continue };
            let Some(cluster) = unit.directory.record.as_ref().and_then(|record| record.cluster) else {
                continue;
            };
            let admitted = self.admitted.get(&cluster);
            let stranger =
                raft.membership().members().iter().find(|it| !admitted.is_some_and(|all| all.contains(it)));
            if let Some(stranger) = stranger {
                let detail = format!(
                    "unit {number} has member {} that was neither listed nor added",
                    stranger.id.get()
                );
                return self.fail("Listed or Added", detail);
            }
        }
    }

    fn check_leader(&mut self, unit: usize) {
        let Some(process) = self.units[unit].alive() else { return };
        let (Some(raft), Some(cluster)) = (&process.raft, process.formation.cluster()) else { return };
        let status = raft.status();
        if status.role != RoleKind::Leader {
            return;
        }
        let me = process.formation.record().member();
        let known = self.leaders.insert((cluster, status.term), me);
        if known.is_none() {
            self.trace_unit(unit, || format!("leads term {}", status.term.get()));
        }
        if known.is_some_and(|known| known != me) {
            self.fail("Election Safety", format!("unit {unit} leads a term that another has led"));
        }
    }

    fn leader_of(&self, group: usize) -> Option<usize> {
        let leads = |unit: &usize| {
            let unit = &self.units[*unit];
            let raft = unit.alive().and_then(|process| process.raft.as_ref());
            raft.filter(|raft| unit.group == group && raft.status().role == RoleKind::Leader)
        };
        let all = (0..self.units.len()).filter(|unit| leads(unit).is_some());
        all.max_by_key(|unit| leads(unit).map(|raft| raft.status().term))
    }

    /// What a group still lacks.
    fn incomplete(&self, group: usize) -> Option<String> {
        let Some(leader) = self.leader_of(group) else { return Some(format!("group {group} has no leader")) };
        let is_there = |unit: &usize| self.units[*unit].group == group && !self.units[*unit].is_lost;
        let all: Vec<_> = (0..self.units.len()).filter(is_there).collect();
        let cluster = self.units[leader].directory.record.as_ref().and_then(|record| record.cluster);
        for &number in &all {
            let unit = &self.units[number];
            let Some(process) = unit.alive() else { return Some(format!("unit {number} does not run")) };
            let record = process.formation.record();
            if record.cluster != cluster {
                return Some(format!("unit {number} is not in the group of its list"));
            }
            let place = process.placed();
            if !place.is_some_and(|place| place.kind == MemberKind::Voter && place.is_committed) {
                return Some(format!("unit {number} is no voter of its group"));
            }
            if record.joining.is_some() {
                return Some(format!("unit {number} does not notice that it has joined"));
            }
            for &other in all.iter().filter(|other| **other != number) {
                let to = self.units[other].alive().map(|process| (other, process.life));
                if to.is_none() || process.connected(self.units[other].id) != to {
                    let id = self.units[other].id;
                    let (link, tried) = (process.links.get(&id), process.book.candidates(id));
                    return Some(format!(
                        "unit {number} does not reach unit {other} at {}: {link:?}, tries {tried:?}",
                        self.units[other].address
                    ));
                }
            }
        }
        None
    }

    // Time, addresses, words.

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
        self.next += 1;
        self.queue.insert((when.max(self.now), self.next), event);
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
        let failure = Failure { property: property.to_owned(), detail, step: self.events, at: self.now };
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
