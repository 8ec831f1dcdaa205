//! Linearizable Reads: while the host of a leader may read by a lease, no other member is elected in a later
//! term (thesis 6.4.1). A read by the lease is stale from the first commit of another leader on; one whose
//! election it outlives is a fault of the lease, whether a client reads then or not.

use super::{Finding, Observation};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::types::{Index, NodeId, Term};

/// The leases that hosts may read by.
#[derive(Default, Debug)]
pub(super) struct Leases(Vec<Lease>);

/// The host of a leader may read by it.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Whose host.
    pub leader: NodeId,
    /// The term in which it was given.
    pub term: Term,
    /// What the first read by it sees.
    pub index: Index,
    /// When it was given.
    pub given: Stamp,
    /// When it ends by the leader's clock, as true time, in nanoseconds.
    pub until: u64,
}

impl Leases {
    pub(super) fn given(&mut self, lease: Lease) {
        self.0.retain(|known| known.until > lease.given.at);
        self.0.push(lease);
    }

    /// The host of a member that starts again reads by no lease of its earlier life.
    pub(super) fn restarted(&mut self, member: NodeId) {
        self.0.retain(|lease| lease.leader != member);
    }

    /// A member is elected in this step.
    pub(super) fn elected(&self, step: &Observation<'_>) -> Result<(), Finding> {
        let (id, term, now) = (step.after.id, step.after.term, step.now);
        let holds = |lease: &&Lease| lease.leader != id && lease.term < term && lease.until > now.at;
        let Some(lease) = self.0.iter().find(holds) else { return Ok(()) };
        let Lease { leader, index, given, until, .. } = *lease;
        let detail = format!(
            "member {id} leads term {term}, and the host of {leader} may read by its lease for {} us more",
            (until - now.at).div_ceil(1_000)
        );
        let serves = Part::of(leader, given, Involvement::Serves(index));
        Err(Finding::new(detail, [serves, Part::of(id, now, Involvement::Leads { term })]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id, observation, status};
    use super::super::{Checks, Start};
    use super::*;
    use kontiki_core::durable::Durable;
    use kontiki_core::membership::Membership;
    use kontiki_core::status::RoleKind;

    fn lease(leader: u64, term: u64, given: u64, until: u64) -> Lease {
        let given = Stamp { step: 1, at: given };
        Lease { leader: id(leader), term: Term::new(term), index: Index::new(7), given, until }
    }

    fn elected(leases: &Leases, member: u64, term: u64, at: u64) -> Result<(), Finding> {
        leads(member, term, at, |step| leases.elected(step))
    }

    /// A member is elected, alone in its group.
    fn leads<T>(member: u64, term: u64, at: u64, judged: impl FnOnce(&Observation<'_>) -> T) -> T {
        let before = status(member, RoleKind::Candidate, term, 0);
        let (after, alone) =
            (status(member, RoleKind::Leader, term, 0), Membership::of([id(member)]).unwrap());
        judged(&Observation { now: Stamp { step: 9, at }, ..observation(&before, &after, &alone) })
    }

    #[test]
    fn none_is_elected_while_the_host_of_an_earlier_leader_may_read() {
        let mut leases = Leases::default();
        leases.given(lease(1, 4, 0, 100_000));
        let seen = elected(&leases, 2, 5, 98_500).expect_err("the lease holds");
        assert_eq!(
            seen.detail,
            "member 2 leads term 5, and the host of 1 may read by its lease for 2 us more"
        );
        assert_eq!(seen.parts[0].member, Some(id(1)));
        assert_eq!(elected(&leases, 2, 5, 100_000), Ok(()), "it has ended");
        assert_eq!(elected(&leases, 1, 5, 98_500), Ok(()), "the same member");
        assert_eq!(elected(&leases, 2, 4, 98_500), Ok(()), "no later term");
    }

    #[test]
    fn each_election_is_judged() {
        let mut checks = Checks::default();
        checks.leased(lease(1, 4, 0, 100));
        let judged = |checks: &mut Checks, at| leads(2, 5, at, |step| checks.observe(step));
        assert_eq!(judged(&mut checks, 99).map_err(|violated| violated.property), Err("Linearizable Reads"));
        let mut checks = Checks::default();
        checks.leased(lease(1, 4, 0, 100));
        assert!(judged(&mut checks, 100).is_ok());
        let mut checks = Checks::default();
        checks.leased(lease(1, 4, 0, 100));
        let (durable, group) = (Durable::bootstrap(group(3)), group(3));
        let (member, membership) = (id(1).into(), &group);
        let started = Start { position: 0, member, durable: &durable, membership, chain: &[] };
        assert!(checks.starts(&started).is_ok());
        assert!(judged(&mut checks, 99).is_ok(), "the host has forgotten it");
    }

    #[test]
    fn a_restart_ends_a_lease_and_time_does() {
        let mut leases = Leases::default();
        leases.given(lease(1, 4, 0, 100));
        leases.given(lease(2, 5, 100, 300));
        assert_eq!(leases.0.len(), 1, "the first has ended");
        leases.restarted(id(1));
        assert!(elected(&leases, 3, 6, 200).is_err());
        leases.restarted(id(2));
        assert_eq!(elected(&leases, 3, 6, 200), Ok(()));
    }
}
