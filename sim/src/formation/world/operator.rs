//! What operators and supervisors do: they heal, correct flags, replace members and hand leadership over.

use super::{Event, PATIENCE, REST, World, name_of};
use crate::formation::plan::MS;
use crate::formation::unit::{Asker, Directory, Process, Unit};
use kontiki_core::event::{Event as Kernel, Reconfigure, Transfer};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::replica::formation;
use kontiki_core::types::NodeId;
use std::collections::BTreeSet;

impl World<'_> {
    /// The operator has a newcomer lead.
    pub(super) fn hand_over(&mut self, group: usize) {
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

    pub(super) fn heal(&mut self) {
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
    pub(super) fn correct(&mut self, group: usize) {
        let members = || (0..self.units.len()).filter(|unit| self.units[*unit].group == group);
        let all: Vec<_> = members().filter(|unit| !self.units[*unit].is_lost).collect();
        let reached = self.reached(&all);
        let list = members().filter(|unit| self.units[*unit].is_founder);
        let list: Vec<_> = list.map(|unit| (self.units[unit].id, self.units[unit].address.clone())).collect();
        let is_listed_anew = self.is_listed_anew(&all, reached.len() < all.len());
        for unit in all.clone() {
            let is_wrong = (is_listed_anew && self.founds(unit).is_some())
                || self.leads_apart(unit)
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

    /// Which of the members of a group what they are started with leads together.
    fn reached(&self, all: &[usize]) -> BTreeSet<usize> {
        let (firsts, newcomers): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|unit| self.units[**unit].is_founder);
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
        let leads = |to: &usize| reached.contains(to) && joins(to);
        let is_led = |it: &usize| self.leads_to(*it).iter().any(leads) || self.knows_founder(*it);
        let led: Vec<_> = newcomers.into_iter().filter(is_led).collect();
        reached.extend(led);
        reached
    }

    /// Whether all founders are to get the same list: one of them still founds, and their lists differ, or
    /// lead elsewhere, or do not reach all.
    fn is_listed_anew(&self, all: &[usize], is_apart: bool) -> bool {
        let is_founding = all.iter().any(|unit| self.founds(*unit).is_some() && !self.has_group(*unit));
        let lists: BTreeSet<_> = all.iter().filter_map(|unit| self.founds(*unit)).collect();
        is_founding && (lists.len() > 1 || is_apart || all.iter().any(|unit| self.leads_apart(*unit)))
    }

    /// The list that a unit founds its group by, if it does.
    fn founds(&self, unit: usize) -> Option<&Vec<(NodeId, String)>> {
        match &self.units[unit].plan {
            formation::Plan::Found(list) => Some(list),
            _ => None,
        }
    }

    /// Whether what a unit is started with leads to another group.
    fn leads_apart(&self, unit: usize) -> bool {
        let group = self.units[unit].group;
        self.leads_to(unit).iter().any(|to| self.units[*to].group != group)
    }

    pub(super) fn has_group(&self, unit: usize) -> bool {
        self.units[unit].directory.record.as_ref().is_some_and(|record| record.cluster.is_some())
    }

    /// Another member by which this one can join: the leader, or one that has a group.
    pub(super) fn seed_for(&self, unit: usize, all: &[usize]) -> usize {
        let leader = self.leader_of(self.units[unit].group).filter(|leader| *leader != unit);
        let others = || all.iter().copied().filter(|other| *other != unit && !self.units[*other].is_lost);
        leader
            .or_else(|| others().find(|other| self.has_group(*other)))
            .or_else(|| others().next())
            .unwrap_or(unit)
    }

    /// To which units the flags of one lead now.
    pub(super) fn leads_to(&self, unit: usize) -> Vec<usize> {
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
    pub(super) fn leads_home(&self, unit: usize) -> bool {
        let is_join = matches!(self.units[unit].plan, formation::Plan::Join(_));
        let is_home =
            |to: &usize| self.units[*to].is_founder && (!self.units[*to].is_lost || self.knows_founder(unit));
        !is_join || self.leads_to(unit).iter().any(is_home)
    }

    /// Whether a unit that has a group knows where a first member is that is there.
    pub(super) fn knows_founder(&self, unit: usize) -> bool {
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
    pub(super) fn tick(&mut self) {
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
                    let since = *self.good_since.get_or_insert(self.now);
                    if self.now >= since + REST {
                        self.lose_power();
                    }
                }
                Some(complaint) => {
                    self.good_since = None;
                    if self.now > self.demanded_from + PATIENCE {
                        self.fail("Formation", complaint);
                    }
                }
            }
        }
    }

    /// The documented procedure: remove the member, and have it join again.
    pub(super) fn replace_emptied(&mut self, group: usize) {
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
}
