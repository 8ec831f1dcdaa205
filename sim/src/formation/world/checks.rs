//! What must hold.

use super::World;
use kontiki_core::membership::MemberKind;
use kontiki_core::status::RoleKind;
use std::collections::BTreeMap;

impl World<'_> {
    /// Two groups from one list would be two groups that take themselves for one.
    pub(super) fn check_records(&mut self) {
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
    pub(super) fn check_forming(&mut self) {
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

    pub(super) fn check_leader(&mut self, unit: usize) {
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

    pub(super) fn leader_of(&self, group: usize) -> Option<usize> {
        let leads = |unit: &usize| {
            let unit = &self.units[*unit];
            let raft = unit.alive().and_then(|process| process.raft.as_ref());
            raft.filter(|raft| unit.group == group && raft.status().role == RoleKind::Leader)
        };
        let all = (0..self.units.len()).filter(|unit| leads(unit).is_some());
        all.max_by_key(|unit| leads(unit).map(|raft| raft.status().term))
    }

    /// What a group still lacks.
    pub(super) fn incomplete(&self, group: usize) -> Option<String> {
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
}
