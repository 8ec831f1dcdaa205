//! The health checks: live and ready.

use crate::protocol::{NodePhase, NodeStatus};
use kontiki_core::membership::MemberKind;
use kontiki_core::status::Space;

/// Returns why the member should be restarted, if it should. A member that waits for others is live.
pub(super) fn live(status: &NodeStatus) -> Result<(), String> {
    match &status.phase {
        NodePhase::Starting(_) | NodePhase::Running | NodePhase::Refusing(_) => Ok(()),
        NodePhase::Halted(why) => Err(format!("halted: {why}")),
        NodePhase::Stopped => Err("it was shut down".to_owned()),
    }
}

/// Returns why the member should get no requests now, if it should not.
pub(super) fn ready(status: &NodeStatus, max_lag: u64) -> Result<(), String> {
    live(status)?;
    match &status.phase {
        NodePhase::Starting(why) => return Err(format!("it waits to enter a group: {why}")),
        NodePhase::Refusing(why) => return Err(format!("it refuses all requests: {why}")),
        NodePhase::Running | NodePhase::Halted(_) | NodePhase::Stopped => {}
    }
    if status.kind == MemberKind::NonMember {
        return Err("it is not in its group: add it, or shut it down".to_owned());
    }
    if status.leader.is_none() {
        return Err(format!("no leader is known in term {}", status.term));
    }
    let lag = status.committed.get().saturating_sub(status.applied.get());
    if lag > max_lag {
        return Err(format!("{lag} committed entries are not applied yet, more than {max_lag}"));
    }
    Ok(())
}

/// Returns a warning about a member that is ready: reads and votes need no disk space.
pub(super) fn warning(status: &NodeStatus) -> Option<&'static str> {
    match status.space {
        Space::Free => None,
        Space::Full => Some("the disk is full, and this member takes no entries: make space"),
        Space::GroupFull => {
            Some("no majority of the voters has space, and nothing can be committed: make space")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::status::RoleKind;
    use kontiki_core::types::{ClusterId, Incarnation, Index, LogId, Member, NodeId, Term};

    #[test]
    fn a_member_is_ready_when_it_has_a_leader_and_has_caught_up() {
        let id = NodeId::new(1).expect("not zero");
        let well = NodeStatus {
            cluster: ClusterId(1),
            member: Member::new(id, Incarnation(1)),
            phase: NodePhase::Running,
            role: RoleKind::Follower,
            kind: MemberKind::Voter,
            term: Term::new(1),
            vote: None,
            leader: Some(id),
            last: LogId::new(1, 20),
            durable: LogId::new(1, 20),
            committed: Index::new(20),
            applied: Index::new(10),
            snapshot: LogId::ZERO,
            configured: LogId::ZERO,
            space: Space::Free,
        };
        assert_eq!((live(&well), ready(&well, 10)), (Ok(()), Ok(())));
        let phase = |phase| NodeStatus { phase, ..well.clone() };
        for (status, is_live, why) in [
            (NodeStatus { leader: None, ..well.clone() }, true, "no leader"),
            (NodeStatus { committed: Index::new(21), ..well.clone() }, true, "11 committed entries"),
            (NodeStatus { kind: MemberKind::NonMember, ..well.clone() }, true, "not in its group"),
            (phase(NodePhase::Starting("two are missing".to_owned())), true, "two are missing"),
            (phase(NodePhase::Refusing("segment 3".to_owned())), true, "segment 3"),
            (phase(NodePhase::Halted("two leaders".to_owned())), false, "two leaders"),
            (phase(NodePhase::Stopped), false, "shut down"),
        ] {
            assert_eq!(live(&status).is_ok(), is_live, "{status:?}");
            assert!(ready(&status, 10).is_err_and(|error| error.contains(why)), "{status:?}");
        }
    }
}
