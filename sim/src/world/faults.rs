//! What goes wrong, when it begins and when it ends.

use super::{Checked, Happening, World, position};
use crate::report::FaultKind;
use crate::scenario::Fault;
use kontiki_core::event::Event;
use kontiki_core::types::NodeId;

impl World<'_> {
    pub(super) fn begin(&mut self, number: usize) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let timed = self.scenario.faults[number].clone();
        let until = self.now + timed.for_us * 1_000;
        self.trace_world(|| format!("{:?} for {} us", timed.fault, timed.for_us));
        self.schedule(until, Happening::End(number));
        match timed.fault {
            Fault::Crash { member, after_actions } => {
                let member = position(member);
                self.hosts[member].down += 1;
                if after_actions == 0 {
                    self.crash(member, FaultKind::Crash);
                } else if self.hosts[member].up.is_some() {
                    self.hosts[member].crash_after = Some(after_actions);
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
            Fault::Pause { member } => {
                self.counters.fault(FaultKind::Pause);
                self.hosts[position(member)].paused = true;
            }
            Fault::Clock { member, ppm } => {
                self.counters.fault(FaultKind::ClockDrift);
                self.set_clock(position(member), ppm);
            }
            Fault::DiskStall { member } => {
                self.counters.fault(FaultKind::DiskStall);
                self.hosts[position(member)].disk.stall(until);
            }
            Fault::FalseAlarm { member } => {
                self.counters.fault(FaultKind::FalseAlarm);
                let member = position(member);
                let leader = self.hosts[member].up.as_ref().and_then(|up| up.status.leader);
                if let Some(leader) = leader {
                    return self.tell(member, Event::PeerUnreachable(leader));
                }
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, number: usize) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        match self.scenario.faults[number].fault.clone() {
            Fault::Crash { member, .. } => self.let_up(position(member)),
            Fault::CrashAll => (0..self.hosts.len()).try_for_each(|member| self.let_up(member)),
            Fault::Partition { .. } | Fault::OneWay { .. } | Fault::Isolate { .. } => {
                let cuts = self.links_of(number);
                cuts.into_iter().for_each(|(from, to)| self.network.mend(from, to));
                Ok(())
            }
            Fault::Pause { member } => self.resume(position(member)),
            Fault::Clock { member, .. } => {
                let member = position(member);
                let ppm = self.hosts[member].spec.clock_ppm;
                self.set_clock(member, ppm);
                Ok(())
            }
            Fault::Flap { .. } | Fault::DiskStall { .. } | Fault::FalseAlarm { .. } => Ok(()),
        }
    }

    /// The links of a member go down or up, and the other way a little later, until the fault is over.
    pub(super) fn flap(&mut self, number: usize, down: bool) {
        let timed = &self.scenario.faults[number];
        let Fault::Flap { period_us, .. } = timed.fault else {
            return;
        };
        let over = self.now >= (timed.at_us.min(self.scenario.chaos_us) + timed.for_us) * 1_000;
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
        while let Some(event) = self.hosts[member].backlog.pop_front() {
            self.tell(member, event)?;
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
            Fault::Isolate { member } | Fault::Flap { member, .. } => both(&[*member]),
            Fault::OneWay { from, to } => {
                let pairs = from.iter().flat_map(|&a| to.iter().map(move |&b| (position(a), position(b))));
                pairs.filter(|(a, b)| a != b).collect()
            }
            _ => vec![],
        }
    }
}
