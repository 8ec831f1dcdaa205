//! Reads at the worst moment: from a leader that does not know of its successor yet, under its lease, of what
//! the successor has just acknowledged. The clients of the workload meet that moment by chance alone.

use super::{Happening, World};
use crate::application::Application;
use crate::check::Checked;
use crate::host::Host;
use crate::report::Mark;
use kontiki_core::machine::StateMachine;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Term};

/// How many requests of this kind a run makes at most.
const PROBES: u32 = 200;

impl<A: Application> World<'_, A> {
    /// A member has been elected. Where another still leads in an earlier term, there is something to find
    /// out.
    pub(super) fn probe_elected(&mut self, leader: usize, term: Term) {
        if self.probes_leases() && self.has_stale_leader(term) {
            self.schedule(self.now + 1, Happening::ProbeWrite { leader });
        }
    }

    /// A write has been acknowledged in this term: it must be seen wherever a leader of an earlier term
    /// serves reads.
    pub(super) fn probe_committed(&mut self, term: Term, content: u64) {
        if !self.probes_leases() || !self.has_stale_leader(term) {
            return;
        }
        let Some(query) = self.clients.application.probe(content) else { return };
        for member in 0..self.hosts.len() {
            if leads_before(&self.hosts[member], term) {
                self.counters.mark(Mark::StaleLeaderRead);
                self.schedule(self.now + 1, Happening::ProbeRead { member, query: query.clone() });
                self.probe_later(member, &query);
            }
        }
    }

    /// In a contest, a leader that takes itself for one is asked again for as long as a lease may last.
    fn probe_later(&mut self, member: usize, query: &A::Query) {
        if self.contests.is_some() {
            let lease = self.scenario.options.election_timeout_max.as_nanos() as u64;
            for part in 1..=4 {
                let query = query.clone();
                self.schedule(self.now + part * lease / 4, Happening::ProbeRead { member, query });
            }
        }
    }

    pub(super) fn probe_write(&mut self, leader: usize) -> Checked {
        if self.may_probe() {
            let event = self.clients.probe_write()?;
            return event.map_or(Ok(()), |event| self.tell(leader, event));
        }
        Ok(())
    }

    pub(super) fn probe_read(&mut self, member: usize, query: &A::Query) -> Checked {
        if self.may_probe() {
            let event = self.clients.probe_read(query, Index::new(self.checks.committed()));
            return self.ask(member, event);
        }
        Ok(())
    }

    /// Whether clients read under leases at all, and are so quick.
    fn probes_leases(&self) -> bool {
        self.scenario.workload.probe && self.scenario.workload.lease > 0
    }

    /// Whether a further request may be made: the healed world has its own clients.
    fn may_probe(&mut self) -> bool {
        let may = self.stage.is_none() && self.probes < PROBES;
        self.probes += u32::from(may);
        may
    }

    fn has_stale_leader(&self, term: Term) -> bool {
        self.hosts.iter().any(|host| leads_before(host, term))
    }
}

/// Whether a member leads in a term before this one.
fn leads_before<M: StateMachine>(host: &Host<M>, term: Term) -> bool {
    host.up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader && up.status.term < term)
}
