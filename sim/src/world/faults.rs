//! What goes wrong, when it begins and when it ends: what the entries of [`Fault`](crate::fault::Fault) begin
//! and end with.

use super::{Happening, World, position};
use crate::application::Application;
use crate::check::{Checked, Violated};
use crate::fault::{Episode, FaultInjection, Links};
use crate::happened::Happened;
use crate::host::full_replica::Failing;
use crate::host::{Host, MemberBody};
use crate::report::{FaultKind, Mark};
use crate::scenario::{Decay, Fault, Leading, Rotten, Target, TimedFault};
use crate::stream::Stream;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::NodeId;

impl<A: Application> World<'_, A> {
    /// A fault is due. One that is meant for the next leader lies in wait.
    pub(super) fn begin(&mut self, number: usize) {
        if self.stage.is_some() {
            return;
        }
        let target = self.scenario.faults[number].fault.target();
        if target == Some(Target::Leading(Leading::NextLeader)) {
            self.ambushes.push_back(number);
            return;
        }
        let aim = target.map_or(0, |target| self.aim(target));
        self.befall(number, aim);
        if self.hosts[aim].crash_after == Some(0) {
            self.crash(aim, FaultKind::Crash);
        }
    }

    /// A member has just won an election; the next ambush strikes before it has sent a message.
    pub(super) fn spring(&mut self, leader: usize) {
        if self.stage.is_none()
            && let Some(number) = self.ambushes.pop_front()
        {
            self.befall(number, leader);
        }
    }

    /// Something goes wrong at once that the scenario does not list.
    pub(super) fn strike(&mut self, member: usize, for_us: u64, fault: Fault) {
        let at_us = self.now / 1_000;
        self.scenario.faults.push(TimedFault { at_us, for_us, fault });
        self.befall(self.scenario.faults.len() - 1, member);
    }

    fn befall(&mut self, number: usize, member: usize) {
        let timed = self.scenario.faults[number].clone();
        let at = Episode { number, member, until: self.now + timed.for_us * 1_000 };
        let befallen = timed.fault.target().map(|_| self.hosts[member].id);
        self.trace_world(|| {
            let TimedFault { fault, for_us, .. } = timed.clone();
            Happened::Fault { fault, member: befallen, for_us }
        });
        self.schedule(at.until, Happening::End(at));
        timed.fault.begin(self, at);
    }

    pub(super) fn end(&mut self, at: Episode) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let fault = self.scenario.faults[at.number].fault.clone();
        fault.end(self, at)
    }

    /// Whom a fault befalls that begins now.
    pub(super) fn aim(&self, target: Target) -> usize {
        let leads =
            |host: &&Host<A::Machine>| host.up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader);
        let term = |host: &&Host<A::Machine>| host.up.as_ref().map(|up| up.status.term);
        match target {
            Target::Member(member) => position(member),
            Target::Leading(_) => {
                self.hosts.iter().filter(leads).max_by_key(term).map_or(0, |host| position(host.id))
            }
        }
    }

    /// Takes another look at when a member is to be woken.
    fn rewake(&mut self, member: usize) {
        if let Some(up) = &mut self.hosts[member].up {
            up.wake_at = u64::MAX;
        }
        self.schedule_wake(member);
    }
}

impl<A: Application> FaultInjection for World<'_, A> {
    type Violated = Violated;

    fn count_fault(&mut self, kind: FaultKind) {
        self.counters.fault(kind);
    }

    // ----- members -----

    fn crash_after(&mut self, member: usize, actions: u32) {
        let host = &mut self.hosts[member];
        host.down += 1;
        if host.up.is_some() {
            host.crash_after = Some(actions);
        }
    }

    fn stall(&mut self, at: Episode) {
        self.counters.fault(FaultKind::Stall);
        for (from, to) in self.links_of(at.member) {
            self.network.stall(from, to, at.until);
        }
    }

    fn crash_all(&mut self) {
        self.counters.fault(FaultKind::CrashAll);
        for member in 0..self.hosts.len() {
            self.hosts[member].down += 1;
            self.crash(member, FaultKind::Crash);
        }
    }

    fn let_all_up(&mut self) -> Checked {
        (0..self.hosts.len()).try_for_each(|member| self.let_up(member))
    }

    fn let_up(&mut self, member: usize) -> Checked {
        let host = &mut self.hosts[member];
        host.down = host.down.saturating_sub(1);
        // A crash that was to come after some more actions, and never came, is off.
        host.crash_after = None;
        if host.down == 0 && host.up.is_none() { self.start(member) } else { Ok(()) }
    }

    fn pause(&mut self, member: usize) {
        self.counters.fault(FaultKind::Pause);
        self.hosts[member].paused = true;
    }

    fn suspend(&mut self, at: Episode, counted: bool) {
        let host = &mut self.hosts[at.member];
        host.body.sync_times().stall(at.until);
        if !counted && host.up.is_some() && !host.paused {
            host.clock_stopped = Some(host.clock.local(self.now));
            self.counters.mark(Mark::TimeLost);
        }
        self.hosts[at.member].paused = true;
    }

    fn suspend_all(&mut self, at: Episode, counted: bool) {
        (0..self.hosts.len()).for_each(|member| self.suspend(Episode { member, ..at }, counted));
    }

    fn resume_all(&mut self) -> Checked {
        (0..self.hosts.len()).try_for_each(|member| self.resume(member))
    }

    fn resume(&mut self, member: usize) -> Checked {
        self.hosts[member].restart_clock(self.now);
        self.hosts[member].paused = false;
        if !self.hosts[member].backlog.is_empty() {
            self.counters.mark(Mark::Thawed);
        }
        // What it is told may befall it with the next pause.
        while !self.hosts[member].paused
            && let Some(told) = self.hosts[member].backlog.pop_front()
        {
            self.tell_that(member, told)?;
        }
        self.rewake(member);
        Ok(())
    }

    fn set_clock(&mut self, member: usize, ppm: i64) {
        self.hosts[member].clock.set_rate(self.now, ppm);
        self.rewake(member);
    }

    fn jump_clock(&mut self, member: usize, by_us: u64) {
        let now = self.now;
        let clock = &mut self.hosts[member].clock;
        let ahead = Instant::from_nanos(clock.local(now).as_nanos() + by_us * 1_000);
        clock.set(now, ahead);
        self.rewake(member);
    }

    fn restore_clock(&mut self, member: usize) {
        let ppm = self.hosts[member].spec.clock_ppm;
        self.set_clock(member, ppm);
    }

    fn stall_disk(&mut self, at: Episode) {
        self.counters.fault(FaultKind::DiskStall);
        self.hosts[at.member].body.sync_times().stall(at.until);
    }

    fn wipe(&mut self, member: usize) {
        self.hosts[member].down += 1;
        if self.may_wipe(member) {
            self.counters.fault(FaultKind::Wipe);
            self.crash(member, FaultKind::Crash);
            self.hosts[member].wipe();
            self.cure(member);
        }
    }

    fn alarm_falsely(&mut self, member: usize) {
        self.counters.fault(FaultKind::FalseAlarm);
        if let Some(peer) = self.hosts[member].up.as_ref().and_then(|up| up.status.leader) {
            self.schedule(self.now, Happening::Unreachable { member, peer });
        }
    }

    // ----- links -----

    fn flap(&mut self, at: Episode, period_us: u64, down: bool) {
        if self.stage.is_some() || (self.now >= at.until && down) {
            return;
        }
        for (from, to) in self.links_of(at.member) {
            if down {
                self.network.cut(from, to);
                self.break_connection(from, to);
            } else {
                self.network.mend(from, to);
            }
        }
        self.schedule(self.now + period_us * 1_000, Happening::Flap { at, period_us, down: !down });
    }

    fn cut(&mut self, kind: FaultKind, links: &[(usize, usize)]) {
        self.counters.fault(kind);
        for &(from, to) in links {
            self.network.cut(from, to);
            self.release_parted(from, to);
            self.break_connection(from, to);
            self.break_connection(to, from);
        }
    }

    fn mend(&mut self, links: &[(usize, usize)]) -> Checked {
        links.iter().for_each(|&(from, to)| self.network.mend(from, to));
        Ok(())
    }

    fn links_around(&self, side: &[NodeId]) -> Links {
        let ids = self.scenario.ids();
        let other = |id: &&NodeId| !side.contains(id);
        let pairs = side.iter().flat_map(|&a| ids.iter().filter(other).map(move |&b| (a, b)));
        pairs.flat_map(|(a, b)| [(position(a), position(b)), (position(b), position(a))]).collect()
    }

    fn links_between(&self, from: &[NodeId], to: &[NodeId]) -> Links {
        let pairs = from.iter().flat_map(|&a| to.iter().map(move |&b| (position(a), position(b))));
        pairs.filter(|(a, b)| a != b).collect()
    }

    fn links_of(&self, member: usize) -> Links {
        self.links_around(&[self.hosts[member].id])
    }

    // ----- disks -----

    fn fail_next_sync(&mut self, member: usize) {
        if let MemberBody::FullReplica(full) = &mut self.hosts[member].body {
            self.counters.fault(FaultKind::SyncFails);
            full.spoiled = true;
            // Syncs of the log are by far more frequent than others.
            match Stream::named(self.scenario.seed, "which sync fails", self.now).below(4) {
                0 => full.failing = Some(Failing::Any),
                1 => full.failing = Some(Failing::Snapshot),
                _ => full.storage.fail_next_sync(None),
            }
        }
    }

    fn fill_disk(&mut self, member: usize) {
        self.counters.fault(FaultKind::DiskFull);
        let Host { body, stream, .. } = &mut self.hosts[member];
        match body {
            MemberBody::FullReplica(full) => {
                full.spoiled = true;
                full.storage.set_space(Some(stream.below(64 * 1_024)));
            }
            MemberBody::KernelOnly(kernel_only) => {
                kernel_only.full = true;
                self.schedule(self.now, Happening::Space { member });
            }
        }
    }

    fn make_space(&mut self, member: usize) {
        match &mut self.hosts[member].body {
            MemberBody::FullReplica(full) => full.storage.set_space(None),
            MemberBody::KernelOnly(kernel_only) => {
                if std::mem::take(&mut kernel_only.full) {
                    self.schedule(self.now, Happening::Space { member });
                }
            }
        }
    }

    fn lose_next_write(&mut self, member: usize) {
        self.spoil(member, Self::lose_write);
    }

    fn misdirect_next_write(&mut self, member: usize) {
        self.spoil(member, Self::misdirect_write);
    }

    fn rot_disk(&mut self, member: usize, what: Rotten, how: Decay) {
        self.spoil(member, |world, member| world.rot(member, what, how));
    }
}
