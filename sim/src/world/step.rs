//! One step of one kernel, what the checks make of it, and what the host does about it.

use super::{Checked, Happening, World, position};
use crate::check::Observation;
use crate::check::acknowledged_writes::Acknowledged;
use crate::host::Up;
use crate::ledger::{Link, last_of, write_to};
use crate::report::FaultKind;
use crate::trace::Traced;
use kontiki_core::action::{Action, Outcome, Write};
use kontiki_core::event::Event;
use kontiki_core::message::Message;
use kontiki_core::status::{DropReason, RoleKind, Status};
use kontiki_core::types::{Index, RequestId};
use kontiki_core::wire;
use std::cell::Cell;
use std::hash::Hash as _;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};

/// What is left of a step once it is over.
pub(super) struct Taken<'a> {
    pub(super) event: &'a Event,
    /// What the host carries out before it crashes, if it does.
    pub(super) actions: &'a [Action],
    pub(super) before: Status,
    pub(super) after: Status,
    /// What the step wrote: the links of each write, whether the disk will see it or not.
    links: Vec<Link>,
    /// Whether an answer was dropped because too many wait for the disk.
    pub(super) dropped_answer: bool,
    crashes: bool,
}

impl World<'_> {
    /// The only place where a kernel runs.
    pub(super) fn step(&mut self, member: usize, event: Event) -> Checked {
        self.counters.steps += 1;
        let mut actions = std::mem::take(&mut self.actions);
        let checked = self.step_into(member, event, &mut actions);
        actions.clear();
        self.actions = actions;
        checked
    }

    fn step_into(&mut self, member: usize, event: Event, actions: &mut Vec<Action>) -> Checked {
        let host = &mut self.hosts[member];
        let local = host.clock.local(self.now);
        let Some(up) = &mut host.up else { return Ok(()) };
        let before = up.status;
        let told = event.clone();
        let dropped = up.raft.drops().count(DropReason::TooManyWaiting);
        quietly(AssertUnwindSafe(|| up.raft.step_into(local, told, actions))).map_err(|panic| {
            ("Kernel Invariants", format!("member {} panicked: {}", host.id, text_of(&*panic)))
        })?;
        let after = up.raft.status();
        if up.raft.deadline() <= local {
            return Err((
                "Contract",
                format!("member {} wants to be woken at once, again and again", host.id),
            ));
        }
        up.status = after;
        let dropped_answer = up.raft.drops().count(DropReason::TooManyWaiting) > dropped;
        let links = note_writes(up, actions);
        if after.role == RoleKind::Leader && (before.role, before.term) != (after.role, after.term) {
            self.spring(member);
        }
        let host = &mut self.hosts[member];

        // A crash falls between two actions: what the kernel decided beyond it never happened to anybody else.
        let carried_out = host.crash_after.map_or(actions.len(), |left| actions.len().min(left as usize));
        let crashes = host.crash_after.is_some_and(|left| left as usize == carried_out);
        if let Some(left) = &mut host.crash_after {
            *left -= carried_out as u32;
        }
        let taken = Taken {
            event: &event,
            actions: &actions[..carried_out],
            before,
            after,
            links,
            dropped_answer,
            crashes,
        };
        self.show(&taken);
        self.check(member, &taken)?;
        self.count(member, &taken);
        let links = taken.links;
        actions.drain(..).take(carried_out).try_for_each(|action| self.carry_out(member, action, &links))?;
        if crashes {
            self.crash(member, FaultKind::CrashMidStep);
        } else {
            self.schedule_wake(member);
        }
        Ok(())
    }

    /// Shows the step to whoever watches, and makes the trace hash depend on it.
    fn show(&mut self, taken: &Taken<'_>) {
        let Taken { event, actions, after, .. } = taken;
        (self.now, after.id).hash(&mut self.hasher);
        event.hash(&mut self.hasher);
        actions.hash(&mut self.hasher);
        if let Some(tracer) = &mut self.tracer {
            tracer(&Traced::Step { step: self.counters.steps, at: self.now, event, actions, after });
        }
    }

    fn check(&mut self, member: usize, taken: &Taken<'_>) -> Checked {
        let Taken { event, actions, before, after, links, crashes, .. } = taken;
        let Some(up) = &mut self.hosts[member].up else {
            return Ok(());
        };
        let watched = if *crashes {
            up.contract.watch_partial(event, actions)
        } else {
            up.contract.watch(event, actions, after)
        };
        watched.map_err(|breach| ("Contract", format!("member {}: {breach}", after.id)))?;
        if let Some(Action::Halt(violation)) = actions.iter().find(|action| matches!(action, Action::Halt(_)))
        {
            return Err(("Halt", format!("member {}: {violation}", after.id)));
        }
        let last = last_of(&up.chain);
        if last != after.last {
            return Err((
                "Contract",
                format!("the log of member {} ends at {}, what it wrote at {last}", after.id, after.last),
            ));
        }
        let hosts = &self.hosts;
        let Some(up) = &hosts[member].up else {
            return Ok(());
        };
        self.checks.observe(&Observation {
            member,
            event,
            actions,
            before,
            after,
            chain: &up.chain,
            appended: links.len(),
            members: hosts.len(),
            durable: &|other| hosts[other].durable_chain(),
        })
    }

    fn carry_out(&mut self, member: usize, action: Action, links: &[Link]) -> Checked {
        match action {
            Action::Send(message) => self.send(member, &message),
            Action::Persist(write) => self.persist(member, write, links),
            Action::Apply { through } => self.apply(member, through),
            Action::Respond { request, outcome } => return self.respond(request, outcome),
            Action::Halt(_)
            | Action::Restore(_)
            | Action::FetchSnapshot { .. }
            | Action::LoadEntries { .. } => {}
        }
        Ok(())
    }

    fn send(&mut self, from: usize, message: &Message) {
        self.counters.messages += 1;
        let to = position(message.to.id);
        let counters = &mut self.counters;
        let arrivals = self.network.send(self.now, from, to, |kind| counters.fault(kind));
        for arrival in arrivals.into_iter().flatten() {
            let mut frame = self.frames.pop().unwrap_or_default();
            frame.clear();
            wire::encode(message, &mut frame);
            if let Some(bit) = arrival.flipped {
                let bit = bit % (frame.len() as u64 * 8);
                frame[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            self.schedule(arrival.at, Happening::Deliver { to, frame });
        }
    }

    fn persist(&mut self, member: usize, write: Write, links: &[Link]) {
        let (now, life) = (self.now, self.hosts[member].life);
        if let Some(at) = self.hosts[member].disk.write(now, write, links.to_vec()) {
            self.schedule(at, Happening::Synced { member, life });
        }
    }

    fn apply(&mut self, member: usize, through: Index) {
        if let Some(up) = &mut self.hosts[member].up {
            up.apply_through = through;
        }
        self.start_apply(member);
    }

    pub(super) fn start_apply(&mut self, member: usize) {
        let (now, life) = (self.now, self.hosts[member].life);
        if let Some(at) = self.hosts[member].start_apply(now) {
            self.schedule(at, Happening::Applied { member, life });
        }
    }

    fn respond(&mut self, request: RequestId, outcome: Outcome) -> Checked {
        match (outcome, self.clients.content(request)) {
            (Outcome::Committed(id), Some(content)) => {
                self.counters.acknowledged += 1;
                self.checks.acknowledged(Acknowledged { request, id, content })?;
            }
            (Outcome::Refused(_), Some(content)) => self.checks.refused(content),
            _ => {}
        }
        if let Some((client, at, number)) = self.clients.on_outcome(self.now, request, outcome) {
            self.schedule(at, Happening::Client { client, number });
        }
        Ok(())
    }
}

/// Keeps the log of a member as its writes tell it, and returns what they append.
fn note_writes(up: &mut Up, actions: &[Action]) -> Vec<Link> {
    let mut links = Vec::new();
    for action in actions {
        if let Action::Persist(write) = action {
            links.extend(write_to(&mut up.chain, write));
        }
    }
    links
}

thread_local! {
    static IN_KERNEL: Cell<bool> = const { Cell::new(false) };
}

/// Runs a kernel and catches its panics, which are findings of the simulator and not failures of it.
fn quietly(kernel: impl FnOnce() + UnwindSafe) -> std::thread::Result<()> {
    IN_KERNEL.set(true);
    let result = catch_unwind(kernel);
    IN_KERNEL.set(false);
    result
}

/// Keeps panics of simulated kernels, which are reported as violated properties, from being printed where they happen.
/// Other panics are printed as before.
pub fn quiet_kernel_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IN_KERNEL.get() {
            loud(panic);
        }
    }));
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
