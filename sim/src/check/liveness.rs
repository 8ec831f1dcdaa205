//! Liveness: once the world has healed, a leader is elected, every client has a write committed, all members
//! come to hold the same log, and the term stops growing, all within a bounded time. An election storm or a
//! stuck follower is a failure, not a timeout.

use kontiki_core::membership::Membership;
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{Index, Term};

/// The name of the property.
pub const NAME: &str = "Liveness";

/// How far the healed cluster has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Waiting for every client to have a write committed that it began after the healing.
    Serving,
    /// The clients are still; waiting for all members to hold the same, committed and applied.
    Converging,
    /// Watching that nothing moves any more.
    Resting {
        /// Since when, in nanoseconds.
        since: u64,
        /// The term that must not grow.
        term: Term,
    },
    /// All is well.
    Done,
}

/// A member that must take part, as seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct Healed<'a> {
    /// Its status; none where it is down.
    pub status: Option<&'a Status>,
    /// The hash of its whole log.
    pub log: u64,
    /// The membership by which it goes.
    pub membership: Option<&'a Membership>,
}

/// Whether all follow one leader of the same term.
pub fn is_led(members: &[Healed<'_>]) -> bool {
    let Some(term) = members.iter().filter_map(|member| member.status).map(|status| status.term).max() else {
        return false;
    };
    let agrees = |status: &Status| status.term == term && status.leader.is_some();
    let leads = |status: &Status| status.role == RoleKind::Leader && status.term == term;
    members.iter().all(|member| member.status.is_some_and(agrees))
        && members.iter().filter(|member| member.status.is_some_and(leads)).count() == 1
}

/// Whether all hold the same log, and all of it is committed and applied.
pub fn has_converged(members: &[Healed<'_>]) -> bool {
    let settled = |status: &Status| {
        let last = status.last.index;
        last > Index::ZERO
            && status.durable == status.last
            && status.committed == last
            && status.applied == last
    };
    let equal = members.windows(2).all(|pair| pair[0].log == pair[1].log);
    equal && is_led(members) && members.iter().all(|member| member.status.is_some_and(settled))
}

/// What is still wrong, for the report of a failure.
pub fn describe(members: &[Healed<'_>], clients_waiting: usize) -> String {
    let status = |member: &Healed<'_>| match member.status {
        None => "down".to_owned(),
        Some(status) => format!(
            "{} {} t{} last={} durable={} committed={} applied={} {}",
            status.id,
            status.role,
            status.term,
            status.last,
            status.durable,
            status.committed,
            status.applied,
            member.membership.map(ToString::to_string).unwrap_or_default()
        ),
    };
    let members: Vec<_> = members.iter().map(status).collect();
    format!("{clients_waiting} clients wait; {}", members.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::status;
    use super::*;
    use kontiki_core::types::{LogId, NodeId};

    fn settled(id: u64, role: RoleKind) -> Status {
        let last = LogId::new(2, 5);
        let mut status = status(id, role, 2, 5);
        (status.last, status.durable, status.applied, status.leader) =
            (last, last, last.index, NodeId::new(1));
        status
    }

    fn healed(statuses: &[Status]) -> Vec<Healed<'_>> {
        statuses.iter().map(|status| Healed { status: Some(status), log: 9, membership: None }).collect()
    }

    #[test]
    fn a_cluster_at_rest_has_converged() {
        let statuses = [settled(1, RoleKind::Leader), settled(2, RoleKind::Follower)];
        assert!(has_converged(&healed(&statuses)));
    }

    #[test]
    fn fires_on_each_way_of_not_converging() {
        let good = [settled(1, RoleKind::Leader), settled(2, RoleKind::Follower)];
        let with = |change: fn(&mut Status)| {
            let mut statuses = good;
            change(&mut statuses[1]);
            has_converged(&healed(&statuses))
        };
        assert!(!with(|status| status.leader = None), "a follower without a leader");
        assert!(!with(|status| status.term = Term::new(3)), "a term beyond the leader's");
        assert!(!with(|status| status.applied = Index::new(4)), "an apply that lags");
        assert!(!with(|status| status.committed = Index::new(4)), "a commit that lags");
        assert!(!with(|status| status.role = RoleKind::Leader), "two leaders");
        let mut members = healed(&good);
        members[1].log = 8;
        assert!(!has_converged(&members), "another log");
        members[1] = Healed { status: None, log: 9, membership: None };
        assert!(!has_converged(&members), "a member that is down");
    }
}
