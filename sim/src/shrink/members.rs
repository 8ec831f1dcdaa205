//! A scenario without some of its members.

use crate::scenario::{Alteration, Heal, Operation, Scenario, ScenarioError, Target};
use kontiki_core::types::NodeId;

/// How many groups of each size are tried.
const GROUPS: usize = 12;

/// The groups that may be left of so many members, the smallest first: each by the ids that stay.
pub(super) fn groups(members: usize) -> Vec<Vec<NodeId>> {
    (1..members).flat_map(|size| combinations(members as u64, size).into_iter().take(GROUPS)).collect()
}

/// The first few choices of `size` ids from 1 through `last`, in the order of their first ids.
fn combinations(last: u64, size: usize) -> Vec<Vec<NodeId>> {
    let mut found: Vec<Vec<NodeId>> = vec![vec![]];
    for _ in 0..size {
        let longer = |chosen: &Vec<NodeId>| {
            let from = chosen.last().map_or(1, |id| id.get() + 1);
            let ids = (from..=last).filter_map(NodeId::new);
            let chosen = chosen.clone();
            ids.map(move |id| chosen.iter().copied().chain([id]).collect()).collect::<Vec<_>>()
        };
        // Those that begin high have no room for the rest: more than the few are kept on the way.
        found = found.iter().flat_map(longer).take(GROUPS << 6).collect();
    }
    found
}

/// Leaves only these members, and numbers them from 1. Faults and operations about the others go with them.
pub(super) fn keep(scenario: &mut Scenario, staying: &[NodeId]) {
    let renamed = |id: NodeId| {
        let position = staying.iter().position(|stays| *stays == id)?;
        NodeId::new(position as u64 + 1)
    };
    let ids = scenario.ids();
    let mut stays = ids.iter().map(|id| staying.contains(id));
    scenario.members.retain(|_| stays.next().unwrap_or(false));
    scenario.faults.retain_mut(|timed| timed.fault.rename(&renamed));
    scenario.custom_faults.retain_mut(|timed| timed.rename(&renamed));
    scenario.operations.retain_mut(|timed| rename(&mut timed.operation, &renamed));
    if let Heal::Quorum(core) | Heal::Disks(core) = &mut scenario.heal {
        *core = core.iter().filter_map(|id| renamed(*id)).collect();
    }
    if let Some(replica) = &mut scenario.replica {
        replica.old_wire = replica.old_wire.iter().filter_map(|id| renamed(*id)).collect();
    }
    if scenario.validate() == Err(ScenarioError::NoQuorum) {
        scenario.heal = Heal::Everything;
    }
}

/// Gives the members that an operation names other ids. Returns whether there is anything left of it.
fn rename(operation: &mut Operation, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
    match operation {
        Operation::Reconfigure { changes } | Operation::Force { changes } => {
            changes.retain_mut(|change| rename_subject(change, to));
            !changes.is_empty()
        }
        Operation::Transfer { to: Some(id) } | Operation::Shutdown { member: Target::Member(id), .. } => {
            to(*id).map(|renamed| *id = renamed).is_some()
        }
        Operation::Transfer { to: None } | Operation::Shutdown { .. } | Operation::Cancel => true,
    }
}

fn rename_subject(change: &mut Alteration, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
    match change {
        Alteration::Add(id)
        | Alteration::AddLearner(id)
        | Alteration::Promote(id)
        | Alteration::Demote(id)
        | Alteration::Remove(Target::Member(id)) => to(*id).map(|renamed| *id = renamed).is_some(),
        Alteration::Remove(Target::Leading(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Fault, Profile, TimedFault, TimedOperation};

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().filter_map(|number| NodeId::new(*number)).collect()
    }

    #[test]
    fn every_group_of_five_is_tried_and_a_few_of_many() {
        let five = groups(5);
        assert_eq!((five.len(), &five[0], &five[29]), (30, &ids(&[1]), &ids(&[2, 3, 4, 5])));
        assert_eq!(groups(64).len(), 63 * GROUPS);
        assert!(groups(1).is_empty());
    }

    #[test]
    fn members_that_stay_are_renumbered_everywhere() {
        let mut scenario = Scenario::draw(1, 5, Profile::Calm);
        for (position, member) in scenario.members.iter_mut().enumerate() {
            member.apply_us = position as u64;
        }
        let fault = |fault| TimedFault { at_us: 1, for_us: 1, fault };
        let operation = |operation| TimedOperation { at_us: 1, operation };
        let member = |number| Target::Member(NodeId::new(number).expect("not zero"));
        scenario.faults = vec![
            fault(Fault::Partition { side: ids(&[1, 4]) }),
            fault(Fault::Isolate { member: member(3) }),
            fault(Fault::Pause { member: member(5) }),
            fault(Fault::OneWay { from: ids(&[3]), to: ids(&[2]) }),
        ];
        scenario.operations = vec![
            operation(Operation::Transfer { to: NodeId::new(3) }),
            operation(Operation::Reconfigure {
                changes: vec![Alteration::Remove(member(4)), Alteration::Demote(ids(&[1])[0])],
            }),
        ];
        scenario.heal = Heal::Quorum(ids(&[1, 2, 3]));
        keep(&mut scenario, &ids(&[2, 4, 5]));
        assert_eq!(scenario.members.iter().map(|member| member.apply_us).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(
            scenario.faults,
            [fault(Fault::Partition { side: ids(&[2]) }), fault(Fault::Pause { member: member(3) })]
        );
        let changes = vec![Alteration::Remove(member(2))];
        assert_eq!(scenario.operations, [operation(Operation::Reconfigure { changes })]);
        assert_eq!(scenario.heal, Heal::Everything, "one of three is no majority");
    }
}
