//! What goes wrong, when it begins and when it ends.

use super::{Checked, Happening, World, position};
use crate::host::Host;
use crate::report::{FaultKind, Mark};
use crate::scenario::{Fault, Leading, Target};
use kontiki_core::event::Event;
use kontiki_core::status::RoleKind;
use kontiki_core::types::NodeId;

impl World<'_> {
    /// A fault is due. One that is meant for the next leader lies in wait.
    pub(super) fn begin(&mut self, number: usize) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let fault = &self.scenario.faults[number].fault;
        if fault.target() == Some(Target::Leading(Leading::NextLeader)) {
            self.ambushes.push_back(number);
            return Ok(());
        }
        let aim = fault.target().map_or(0, |target| self.aim(target));
        if matches!(fault, Fault::FalseAlarm { .. }) {
            return self.false_alarm(aim);
        }
        self.befall(number, aim);
        if self.hosts[aim].crash_after == Some(0) {
            self.crash(aim, FaultKind::Crash);
        }
        Ok(())
    }

    /// A member has just won an election; what lay in wait for it befalls it before it has told anybody.
    pub(super) fn spring(&mut self, leader: usize) {
        if self.stage.is_none()
            && let Some(number) = self.ambushes.pop_front()
        {
            self.befall(number, leader);
        }
    }

    fn befall(&mut self, number: usize, aim: usize) {
        let timed = self.scenario.faults[number].clone();
        let until = self.now + timed.for_us * 1_000;
        (self.aims[number], self.untils[number]) = (aim, until);
        self.trace_world(|| format!("{:?} for {} us", timed.fault, timed.for_us));
        self.schedule(until, Happening::End(number));
        match timed.fault {
            Fault::Crash { after_actions, .. } => {
                self.hosts[aim].down += 1;
                if self.hosts[aim].up.is_some() {
                    self.hosts[aim].crash_after = Some(after_actions);
                }
            }
            Fault::CrashAll => {
                self.counters.fault(FaultKind::CrashAll);
                for member in 0..self.hosts.len() {
                    self.hosts[member].down += 1;
                    self.crash(member, FaultKind::Crash);
                }
            }
            Fault::Partition { .. } => self.cut(number, FaultKind::Partition),
            Fault::OneWay { .. } => self.cut(number, FaultKind::OneWay),
            Fault::Isolate { .. } => self.cut(number, FaultKind::Isolate),
            Fault::Flap { .. } => {
                self.counters.fault(FaultKind::Flap);
                self.flap(number, true);
            }
            Fault::Pause { .. } => {
                self.counters.fault(FaultKind::Pause);
                self.hosts[aim].paused = true;
            }
            Fault::Clock { ppm, .. } => {
                self.counters.fault(FaultKind::ClockDrift);
                self.set_clock(aim, ppm);
            }
            Fault::DiskStall { .. } => {
                self.counters.fault(FaultKind::DiskStall);
                self.hosts[aim].disk.stall(until);
            }
            Fault::Wipe { .. } => {
                self.hosts[aim].down += 1;
                if self.may_wipe(aim) {
                    self.counters.fault(FaultKind::Wipe);
                    self.crash(aim, FaultKind::Crash);
                    self.hosts[aim].wipe();
                    self.checks.wiped(aim);
                    self.cure(aim);
                }
            }
            Fault::SyncFails { .. }
            | Fault::LostWrite { .. }
            | Fault::MisdirectedWrite { .. }
            | Fault::DiskFull { .. }
            | Fault::Rot { .. } => self.spoil(&timed.fault, aim),
            // Told at once; a new leader has no leader to lose.
            Fault::FalseAlarm { .. } => {}
        }
    }

    /// A host believes that it lost the connection to its leader.
    fn false_alarm(&mut self, aim: usize) -> Checked {
        self.counters.fault(FaultKind::FalseAlarm);
        match self.hosts[aim].up.as_ref().and_then(|up| up.status.leader) {
            Some(leader) => self.tell(aim, Event::PeerUnreachable(leader)),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self, number: usize) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let aim = self.aims[number];
        match self.scenario.faults[number].fault.clone() {
            Fault::Crash { .. } | Fault::Wipe { .. } => self.let_up(aim),
            Fault::CrashAll => (0..self.hosts.len()).try_for_each(|member| self.let_up(member)),
            Fault::Partition { .. } | Fault::OneWay { .. } | Fault::Isolate { .. } => {
                let cuts = self.links_of(number);
                cuts.into_iter().for_each(|(from, to)| self.network.mend(from, to));
                Ok(())
            }
            Fault::Pause { .. } => self.resume(aim),
            Fault::Clock { .. } => {
                let ppm = self.hosts[aim].spec.clock_ppm;
                self.set_clock(aim, ppm);
                Ok(())
            }
            Fault::DiskFull { .. } => {
                self.make_space(aim);
                Ok(())
            }
            Fault::Flap { .. }
            | Fault::DiskStall { .. }
            | Fault::FalseAlarm { .. }
            | Fault::SyncFails { .. }
            | Fault::LostWrite { .. }
            | Fault::MisdirectedWrite { .. }
            | Fault::Rot { .. } => Ok(()),
        }
    }

    /// The links of a member go down or up, and the other way a little later, until the fault is over.
    pub(super) fn flap(&mut self, number: usize, down: bool) {
        let Fault::Flap { period_us, .. } = self.scenario.faults[number].fault else {
            return;
        };
        let over = self.now >= self.untils[number];
        if self.stage.is_some() || (over && down) {
            return;
        }
        for (from, to) in self.links_of(number) {
            if down {
                self.network.cut(from, to);
                self.break_connection(from, to);
            } else {
                self.network.mend(from, to);
            }
        }
        self.schedule(self.now + period_us * 1_000, Happening::Flap { fault: number, down: !down });
    }

    /// A member may start again, if no other fault keeps it down.
    pub(super) fn let_up(&mut self, member: usize) -> Checked {
        let host = &mut self.hosts[member];
        host.down = host.down.saturating_sub(1);
        // A crash that was to come after some more actions, and never came, is off.
        host.crash_after = None;
        if host.down == 0 && host.up.is_none() { self.start(member) } else { Ok(()) }
    }

    /// A member goes on, and hears at once of all that happened while it stood still.
    pub(super) fn resume(&mut self, member: usize) -> Checked {
        self.hosts[member].paused = false;
        if !self.hosts[member].backlog.is_empty() {
            self.counters.mark(Mark::Thawed);
        }
        while let Some(told) = self.hosts[member].backlog.pop_front() {
            self.tell_that(member, told)?;
        }
        self.rewake(member);
        Ok(())
    }

    /// Takes another look at when a member is to be woken.
    pub(super) fn rewake(&mut self, member: usize) {
        if let Some(up) = &mut self.hosts[member].up {
            up.wake_at = u64::MAX;
        }
        self.schedule_wake(member);
    }

    fn set_clock(&mut self, member: usize, ppm: i64) {
        self.hosts[member].clock.set_rate(self.now, ppm);
        self.rewake(member);
    }

    fn cut(&mut self, number: usize, kind: FaultKind) {
        self.counters.fault(kind);
        for (from, to) in self.links_of(number) {
            self.network.cut(from, to);
            self.break_connection(from, to);
            self.break_connection(to, from);
        }
    }

    /// Whom a fault befalls that begins now.
    pub(super) fn aim(&self, target: Target) -> usize {
        let leads = |host: &&Host| host.up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader);
        let term = |host: &&Host| host.up.as_ref().map(|up| up.status.term);
        match target {
            Target::Member(member) => position(member),
            Target::Leading(_) => {
                self.hosts.iter().filter(leads).max_by_key(term).map_or(0, |host| position(host.id))
            }
        }
    }

    /// The links that a fault is about, each way for itself.
    fn links_of(&self, number: usize) -> Vec<(usize, usize)> {
        let ids = self.scenario.ids();
        let both = |side: &[NodeId]| {
            let other = |id: &&NodeId| !side.contains(id);
            let pairs = side.iter().flat_map(|&a| ids.iter().filter(other).map(move |&b| (a, b)));
            pairs.flat_map(|(a, b)| [(position(a), position(b)), (position(b), position(a))]).collect()
        };
        match &self.scenario.faults[number].fault {
            Fault::Partition { side } => both(side),
            Fault::Isolate { .. } | Fault::Flap { .. } => both(&ids[self.aims[number]..=self.aims[number]]),
            Fault::OneWay { from, to } => {
                let pairs = from.iter().flat_map(|&a| to.iter().map(move |&b| (position(a), position(b))));
                pairs.filter(|(a, b)| a != b).collect()
            }
            _ => vec![],
        }
    }
}
