//! Faults in the terms of users: when they begin and end, and that a member which starts again has them
//! still.

use super::{Checked, Happening, World, machine_of};
use crate::application::Application;
use crate::fault::Episode;
use crate::happened::Happened;
use crate::report::FaultKind;
use crate::scenario::TimedCustomFault;

impl<A: Application> World<'_, A> {
    pub(super) fn prepare_custom_faults(&mut self) {
        for number in 0..self.scenario.custom_faults.len() {
            let at = self.scenario.custom_faults[number].at_us.min(self.scenario.chaos_us) * 1_000;
            self.schedule(at, Happening::BeginCustom(number));
        }
    }

    /// It is due.
    pub(super) fn begin_custom(&mut self, number: usize) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let TimedCustomFault { member, for_us, name, .. } = self.scenario.custom_faults[number].clone();
        let until = self.now + for_us * 1_000;
        let lasting = Episode { number, member: self.aim(member), until };
        let id = self.hosts[lasting.member].id;
        self.trace_world(|| Happened::CustomFault { name: name.clone(), member: id, for_us });
        self.custom_faults.push(lasting);
        self.schedule(until, Happening::EndCustom(lasting));
        let machine = machine_of(&self.hosts[lasting.member]).map(|it| it.machine);
        for fault in self.clients.application.fault_begins(&name, id, machine)? {
            self.strike(lasting.member, for_us, fault);
            if self.hosts[lasting.member].crash_after == Some(0) {
                self.crash(lasting.member, FaultKind::Crash);
            }
        }
        Ok(())
    }

    pub(super) fn end_custom(&mut self, lasting: Episode) -> Checked {
        let Some(at) = self.custom_faults.iter().position(|it| *it == lasting) else { return Ok(()) };
        self.custom_faults.remove(at);
        let host = &self.hosts[lasting.member];
        let name = &self.scenario.custom_faults[lasting.number].name;
        self.clients.application.fault_ends(name, host.id, machine_of(host).map(|it| it.machine))
    }

    /// The chaos is over.
    pub(super) fn end_custom_faults(&mut self) -> Checked {
        while let Some(lasting) = self.custom_faults.first() {
            self.end_custom(*lasting)?;
        }
        Ok(())
    }

    /// A member has started again, with a state machine that knows of no fault.
    pub(super) fn renew_custom_faults(&mut self, member: usize) -> Checked {
        for lasting in self.custom_faults.iter().filter(|it| it.member == member) {
            let host = &self.hosts[member];
            let name = &self.scenario.custom_faults[lasting.number].name;
            let machine = machine_of(host).map(|it| it.machine);
            self.clients.application.fault_begins(name, host.id, machine)?;
        }
        Ok(())
    }
}
