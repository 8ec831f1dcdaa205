//! After the chaos: what heals, and whether the cluster then makes progress.

use super::{GLANCE, Happening, World, position};
use crate::application::Application;
use crate::check::Checked;
use crate::check::liveness::{self, Healed, Stage};
use crate::fault::FaultInjection as _;
use crate::happened::Happened;
use crate::host::{Host, MemberBody};
use crate::report::Mark;
use crate::scenario::{Heal, MemberSpec};
use kontiki_core::config::Options;
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{Incarnation, Index, NodeId, Term};
use std::mem;

/// How long nothing may move before a cluster counts as resting, and how long it may take to get there: in
/// longest election timeouts.
const REST: u64 = 3;
const BOUND: u64 = 60;
/// By how many entries the logs of a healed cluster may grow while a client waits to be served. By then the
/// others are in its way, and what they write must be carried to the last member over the slowest link.
const ROOM: u64 = 8_192;

impl<A: Application> World<'_, A> {
    /// The chaos is over.
    pub(super) fn heal(&mut self) -> Checked {
        self.trace_world(|| Happened::Healed);
        self.stage = Some(Stage::Serving);
        self.end_custom_faults()?;
        let timeout = self.election_timeout();
        let waits =
            (self.scenario.workload.timeout_us + self.scenario.workload.think_us) * 1_000 + self.slowest();
        self.bound = self.now + BOUND * (timeout + waits);
        self.clients.healed();
        let dead_disks = matches!(self.scenario.heal, Heal::Disks(_));
        if self.scenario.quiet && !dead_disks {
            self.clients.be_still();
            self.stage = Some(Stage::Converging);
        }
        self.network.heal();
        self.core = self.choose_core();
        self.end_at_healing = self.end_of_logs();
        for member in 0..self.hosts.len() {
            // A leader whose disk is full refuses all work until there is space, which one that is dead as
            // well never tells.
            let full = self.running(member).is_some_and(|running| running.replica.raft().is_disk_full());
            if dead_disks && full && !self.core.contains(&member) {
                self.core.push(member);
                self.core.sort_unstable();
            }
        }
        self.heal_links();
        let core = self.core.clone();
        for member in 0..self.hosts.len() {
            // Its group has it again, though something that was late has told it otherwise.
            let me = self.hosts[member].member();
            if self.hosts.iter().filter_map(Host::membership).any(|it| it.contains(me)) {
                self.hosts[member].is_stale = false;
            }
            if core.contains(&member) {
                let busy_until = self.hosts[member].body.sync_times().heal();
                self.busy_until = self.busy_until.max(busy_until);
                if let MemberBody::FullReplica(full) = &mut self.hosts[member].body {
                    full.disarm();
                }
                self.make_space(member);
                self.heal_member(member)?;
            } else if dead_disks {
                self.hosts[member].body.sync_times().die();
                self.heal_member(member)?;
            }
        }
        self.schedule(self.now + GLANCE, Happening::Glance);
        Ok(())
    }

    fn heal_member(&mut self, member: usize) -> Checked {
        let host = &mut self.hosts[member];
        host.down = 0;
        host.crash_after = None;
        host.clock.set_rate(self.now, host.spec.clock_ppm);
        if host.up.is_none() {
            self.start(member)?;
        }
        self.resume(member)
    }

    /// Mends every link inside the core, or every link at all where the core is chosen by its disks. A link
    /// between the core and a member outside it keeps at most one direction, so that no member outside can
    /// lead the core: which direction, if any, is as the chaos left it.
    fn heal_links(&mut self) {
        let core = self.core.clone();
        let all = matches!(self.scenario.heal, Heal::Disks(_));
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                match (all || core.contains(&from), all || core.contains(&to)) {
                    (true, true) => self.network.mend_all(from, to),
                    (true, false) if !self.network.is_cut(to, from) => self.network.cut(from, to),
                    _ => {}
                }
            }
        }
    }

    /// Looks whether the healed cluster has got further.
    pub(super) fn glance(&mut self) -> Checked {
        self.readmit()?;
        let stage = self.stage.unwrap_or(Stage::Serving);
        let rest = REST * (self.election_timeout() + self.slowest());
        let members = self.healed_group();
        let next = self.next_stage(stage, &members, rest);
        let statuses = || members.iter().filter_map(|member| member.status);
        let term = statuses().map(|status| status.term).max().unwrap_or(Term::ZERO);
        // A disk that stalled in the chaos may take its time, and its leader steps down for it.
        let are_written =
            statuses().all(|status| status.durable == status.last) && self.now >= self.busy_until;
        let is_led = liveness::is_led(&members) && are_written;
        if self.is_steady() {
            self.checks.healed(self.now, 2 * self.election_timeout(), term, is_led)?;
        }
        if let (Stage::Converging, Stage::Resting { .. }) = (stage, next)
            && !mem::replace(&mut self.has_rested, true)
        {
            // A group that took all of the time to converge may rest as long as any other. Once: one that is
            // restless comes to an end.
            self.bound = self.bound.max(self.now + 2 * rest);
        }
        if next == Stage::Serving && self.end_of_logs().get() > self.end_at_healing.get() + ROOM {
            self.make_way();
        }
        self.check_bound(next)?;
        if stage == Stage::Serving && next == Stage::Converging {
            self.clients.be_still();
        }
        if next == Stage::Done {
            self.check_rest()?;
        }
        self.stage = Some(next);
        self.schedule(self.now + GLANCE, Happening::Glance);
        Ok(())
    }

    fn healed_group(&self) -> Vec<Healed<'_>> {
        self.group().iter().map(|&member| self.healed(member)).collect()
    }

    /// How far the cluster is, which was at `stage` when it was last looked at and has to `rest` for so long.
    fn next_stage(&self, stage: Stage, members: &[Healed<'_>], rest: u64) -> Stage {
        let term = members.iter().filter_map(|member| member.status).map(|status| status.term).max();
        let term = term.unwrap_or(Term::ZERO);
        match stage {
            Stage::Serving if self.clients.unserved() == 0 => Stage::Converging,
            Stage::Converging if is_decided(members) && liveness::has_converged(members) => {
                Stage::Resting { since: self.now, term }
            }
            Stage::Resting { term: quiet, .. } if term != quiet || !liveness::is_led(members) => {
                Stage::Converging
            }
            Stage::Resting { since, .. } if self.now >= since + rest && liveness::has_converged(members) => {
                Stage::Done
            }
            stage => stage,
        }
    }

    /// The time may be up, and put off no more.
    fn check_bound(&mut self, next: Stage) -> Checked {
        if self.now > self.bound {
            match next {
                Stage::Serving => self.extend_service(),
                // No client writes any more, so there is an end to it.
                _ => self.extend_bound(),
            }
        }
        if next == Stage::Done || self.now <= self.bound {
            return Ok(());
        }
        let millis = (self.now - self.scenario.chaos_us * 1_000) / 1_000_000;
        let members = liveness::describe(&self.healed_group(), self.clients.unserved());
        Err((liveness::NAME, format!("{next:?} after {millis} ms: {members}")).into())
    }

    /// The cluster has come to rest: all members have the same, and every client has its answer.
    fn check_rest(&mut self) -> Checked {
        let hosts = self.group().into_iter().map(|member| &self.hosts[member]);
        self.checks.at_rest(hosts.map(|host| (host.id, &host.body.model().chain[..])))?;
        self.all_is_answered()?;
        let slow = self.scenario.members.iter().filter(|spec| spec.sync_us > 0).count();
        if slow > self.scenario.members.len() / 2 {
            self.counters.mark(Mark::ServedBySlowDisks);
        }
        Ok(())
    }

    /// Whether nothing that is left in the healed world unseats a leader: all members are quick for an
    /// election timeout, and only the links have much to carry.
    fn is_steady(&self) -> bool {
        let Options { pre_vote, check_quorum, election_timeout_min, .. } = self.scenario.options;
        let quick = (election_timeout_min.as_micros() / 4) as u64;
        let is_quick = |spec: &MemberSpec| spec.sync_us + spec.apply_us + 4 * spec.link_us < quick;
        pre_vote
            && check_quorum
            && self.scenario.heal == Heal::Everything
            && self.scenario.members.iter().all(is_quick)
    }

    /// In a cluster at rest nothing is left that an answer could wait for.
    fn all_is_answered(&self) -> Checked {
        for host in self.group().into_iter().map(|member| &self.hosts[member]) {
            let open = host.up.as_ref().map_or(0, |up| up.contract.open_requests());
            if open > 0 {
                return Err((
                    liveness::NAME,
                    format!("member {} has left {open} requests unanswered", host.id),
                )
                    .into());
            }
        }
        Ok(())
    }

    /// Where entries travel one by one, catching up takes long: the bound moves on while a member makes
    /// progress within the time of a few elections. This holds under one leader only: each of a series of
    /// leaders commits an entry of its own, which is no progress.
    fn extend_bound(&mut self) {
        let progress = self.statuses().map(|status| status.committed.get()).sum();
        let term = self.statuses().map(|status| status.term).max().unwrap_or(Term::ZERO);
        let (known, since) = self.progress;
        if progress > known && (since == Term::ZERO || since == term) {
            self.progress = (progress, term);
            self.bound = self.now + BOUND / 2 * (self.election_timeout() + self.slowest());
        }
    }

    /// Where the slow part lets few entries through at once, a client may find no room for long, or wait
    /// behind everything that was proposed before. So at the end of the time the clients that have been
    /// served make way, and what is in the logs is waited for, as long as it is being committed.
    fn extend_service(&mut self) {
        match self.queue_end {
            None => {
                self.make_way();
                self.bound = self.now + BOUND / 2 * (self.election_timeout() + self.slowest());
            }
            Some(end) if self.queue_committed < end => {
                let committed = self.statuses().map(|status| status.committed).max();
                self.queue_committed = committed.unwrap_or_default();
                self.extend_bound();
            }
            Some(_) => {}
        }
    }

    /// The clients that have been served leave the room to the others.
    fn make_way(&mut self) {
        if self.queue_end.is_none() {
            self.queue_end = Some(self.end_of_logs());
            self.clients.yield_to_unserved();
        }
    }

    /// The last entry of the longest log of the group.
    fn end_of_logs(&self) -> Index {
        self.statuses().map(|status| status.last.index).max().unwrap_or_default()
    }

    /// What the running members of the group say of themselves.
    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.group().into_iter().filter_map(|member| self.hosts[member].up.as_ref()).map(|up| &up.status)
    }

    /// Restarts the members whose incarnation was stale and that their group has added again: the operator
    /// starts them.
    fn readmit(&mut self) -> Checked {
        for member in self.group() {
            if self.hosts[member].is_stale && self.leader().is_some() {
                self.start_anew(member)?;
            }
        }
        Ok(())
    }

    fn healed(&self, member: usize) -> Healed<'_> {
        let up = self.hosts[member].up.as_ref();
        let log = up.and_then(|up| up.chain.last()).map_or(0, |link| link.prefix);
        Healed { status: up.map(|up| &up.status), log, membership: up.map(|up| &up.membership) }
    }

    /// Chooses the members that heal: those that the scenario names, and as many more as it takes for a
    /// majority of every membership that is in force at a member or about to be.
    fn choose_core(&self) -> Vec<usize> {
        let mut core: Vec<_> = self.scenario.core().into_iter().map(position).collect();
        let witnesses = self.scenario.members.iter().any(|spec| spec.witness);
        // Where entries are damaged, any member with an intact copy may be needed.
        let damaged = self.hosts.iter().any(|host| host.body.is_damaged());
        // While a change of the membership is being prepared, its voters are not in any log yet, and they
        // will decide.
        let changing = self.is_reconfiguring();
        if self.scenario.heal == Heal::Everything || witnesses || damaged || changing {
            // Where a witness votes, any member with the payloads of entries that it has acknowledged may be
            // needed.
            return (0..self.hosts.len()).collect();
        }
        let some_gave_up = self.hosts.iter().any(|host| host.incarnation != Incarnation::default());
        if !self.scenario.churns() && !some_gave_up {
            return core;
        }
        core.extend(self.concerned());
        for membership in self.hosts.iter().flat_map(Host::possible_memberships) {
            for set in [membership.voters(), membership.outgoing()] {
                let remembers = |id: &&NodeId| membership.contains(self.hosts[position(**id)].member());
                let mut inside =
                    set.iter().filter(remembers).filter(|id| core.contains(&position(**id))).count();
                for id in set.iter().filter(remembers) {
                    if inside <= set.len() / 2 && !core.contains(&position(*id)) {
                        core.push(position(*id));
                        inside += 1;
                    }
                }
            }
        }
        core.sort_unstable();
        core.dedup();
        core
    }

    /// The positions of those who must come to agree: all that heal, and that belong to the group as its
    /// leader sees it.
    fn group(&self) -> Vec<usize> {
        let leads = |member: &&usize| {
            self.hosts[**member].up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader)
        };
        let term = |member: &&usize| self.hosts[**member].up.as_ref().map(|up| up.status.term);
        let leader = self.core.iter().filter(leads).max_by_key(term);
        let Some(up) = leader.and_then(|&leader| self.hosts[leader].up.as_ref()) else {
            return self.core.clone();
        };
        let belongs = |member: &usize| up.membership.contains(self.hosts[*member].member());
        self.core.iter().copied().filter(belongs).collect()
    }

    /// How long the slowest that never heals takes, once.
    fn slowest(&self) -> u64 {
        self.scenario.slowest_us() * 1_000
    }

    /// The longest election timeout of a healed member, in true nanoseconds, with some room for slow clocks.
    fn election_timeout(&self) -> u64 {
        self.scenario.longest_election_timeout_us() * 1_100
    }
}

/// Whether no change of the membership is half done.
fn is_decided(members: &[Healed<'_>]) -> bool {
    let is_settled = |status: &Status| status.configured.index <= status.committed;
    members.iter().all(|member| {
        member.status.is_none_or(is_settled) && member.membership.is_none_or(|it| !it.is_joint())
    })
}
