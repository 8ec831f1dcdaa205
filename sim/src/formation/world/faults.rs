//! What goes wrong.

use super::{Event, World, name_of};
use crate::formation::plan::{Fault, MS};
use crate::formation::unit::{Directory, Process, Unit};
use kontiki_core::replica::formation::Input;

impl World<'_> {
    pub(super) fn strike(&mut self, fault: Fault) {
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
    pub(super) fn lose_seed(&mut self, unit: usize) {
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

    /// A unit answers another one, which has no group yet, that it has one. It may lose its memory at once:
    /// then returns by how much the answer comes later, which is when the unit has long said something else.
    pub(super) fn forget_answer(&mut self, unit: usize, asker: usize) -> Option<u64> {
        let is_wiped = |(_, fault): &(u64, Fault)| matches!(fault, Fault::Wipe(wiped, _) if *wiped == unit);
        let forgets = self.plan.forgets_answer && self.plan.faults.iter().any(is_wiped);
        let of_one_group = self.units[unit].group == self.units[asker].group;
        if !forgets || !of_one_group || self.has_group(asker) || self.now + 1_000 * MS > self.plan.heal_at {
            return None;
        }
        self.plan.forgets_answer = false;
        let time = self.draws.skewed(1, 200) * MS;
        self.after(MS, Event::Fault(Fault::Wipe(unit, time)));
        Some(time + self.draws.skewed(1, 500) * MS)
    }

    /// From now on the leader reaches newcomers alone, and soon crashes. Where two others are left and time
    /// is left to heal it, it comes back elsewhere, and finds that a newcomer leads, of which it may know
    /// nothing.
    pub(super) fn lose_addition(&mut self, leader: usize) {
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

    /// A group that is complete, and whose members have all written down where the others are, loses power.
    /// Each comes back at the address that another had, but one, whose address is new. All that they know of
    /// each other is wrong then, and leads each member to another one that it did not look for.
    pub(super) fn lose_power(&mut self) {
        let group_of = |group: usize| -> Vec<usize> {
            let is_there = |it: &usize| self.units[*it].group == group && !self.units[*it].is_lost;
            (0..self.units.len()).filter(is_there).collect()
        };
        let all = (0..self.plan.groups.len()).map(group_of).find(|all| all.len() >= 3);
        let Some(all) = all.filter(|_| self.plan.loses_power) else { return self.plan.loses_power = false };
        if !all.iter().all(|unit| self.has_noted(*unit, &all)) {
            return;
        }
        self.plan.loses_power = false;
        self.good_since = None;
        self.demanded_from = self.now;
        self.trace(|| format!("the units {all:?} lose power"));
        let mut addresses: Vec<_> = all.iter().map(|unit| self.units[*unit].address.clone()).collect();
        addresses.rotate_left(self.draws.between(1, all.len() as u64 - 1) as usize);
        let renewed = self.draws.below(all.len() as u64) as usize;
        addresses[renewed] = self.fresh_address();
        for (unit, address) in all.into_iter().zip(addresses) {
            let time = self.draws.between(10, 2_000) * MS;
            self.crash(unit, time);
            self.names.insert(name_of(unit), address.clone());
            self.units[unit].address = address;
        }
    }

    /// Whether a unit has written down where all others of its group are.
    fn has_noted(&self, unit: usize, group: &[usize]) -> bool {
        let noted = &self.units[unit].directory.addresses;
        group.iter().map(|other| &self.units[*other]).filter(|other| other.id != self.units[unit].id).all(
            |other| noted.iter().any(|(id, at)| *id == other.id && *self.resolved(&at.text) == other.address),
        )
    }

    pub(super) fn leads_astray(&self, one: usize, other: usize) -> bool {
        let groups = [self.units[one].group, self.units[other].group];
        let joins = self.units.iter().any(|unit| groups.contains(&unit.group) && !unit.is_founder);
        let will_join = self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Wipe(..)));
        groups[0] != groups[1] && (joins || will_join)
    }

    pub(super) fn move_to(&mut self, unit: usize, address: String, renamed: u64) {
        self.units[unit].address.clone_from(&address);
        self.after(renamed, Event::Renamed(name_of(unit), address));
    }

    /// The process ends; its supervisor starts it again after this time.
    pub(super) fn crash(&mut self, unit: usize, time: u64) {
        let ended = self.units[unit].process.take();
        if let Some(process) = ended {
            self.hang_up(unit, process.life);
        }
        let until = self.units[unit].down_until.max(self.now + time);
        self.units[unit].down_until = until;
        self.start_at(unit, until);
    }

    /// Those that were connected with this life notice that it has ended.
    pub(super) fn hang_up(&mut self, unit: usize, life: u64) {
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
    pub(super) fn part(&mut self, unit: usize) {
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

    pub(super) fn start_at(&mut self, unit: usize, at: u64) {
        let at = at.max(self.units[unit].starts_at.unwrap_or(0));
        self.units[unit].starts_at = Some(at);
        self.at(at, Event::Start(unit));
    }

    pub(super) fn start(&mut self, unit: usize) {
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
    pub(super) fn end(&mut self, unit: usize, why: String) {
        self.trace_unit(unit, || format!("ends: {why}"));
        let Some(process) = &mut self.units[unit].process else { return };
        process.ended = Some(why);
        let life = process.life;
        self.hang_up(unit, life);
    }
}
