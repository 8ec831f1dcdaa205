//! One step of one kernel, what the checks make of it, and what the host does about it.

use super::{Happening, World, position};
use crate::application::Application;
use crate::check::acknowledged_writes::Acknowledged;
use crate::check::leases::Lease;
use crate::check::{Checked, Checks, Observation, Violated, linearizable_reads};
use crate::clients::{Asked, Found};
use crate::fate::Fate;
use crate::host::kernel_only::Kernel;
use crate::host::{MemberBody, Up};
use crate::ledger::{Links, last_of, write_to};
use crate::network::{Frame, Sent};
use crate::quiet::{quietly, text_of};
use crate::report::{FaultKind, Mark};
use crate::trace::{Commands, Traced};
use kontiki_core::action::{Action, Outcome, Violation, Write};
use kontiki_core::event::{EntriesLoaded, Event};
use kontiki_core::log::{Entries, Snapshot};
use kontiki_core::machine::Command;
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::replica::Lane;
use kontiki_core::status::{DropReason, RoleKind, Status};
use kontiki_core::types::{Index, LogId, NodeId, Payload, RequestId};
use kontiki_core::wire;
use std::hash::Hash as _;
use std::panic::AssertUnwindSafe;
use std::vec;

/// What is left of a step once it is over.
pub(super) struct Taken<'a> {
    pub(super) event: &'a Event,
    /// What the host carries out before it crashes, if it does.
    pub(super) actions: &'a [Action],
    /// What it does not live to carry out.
    left_out: &'a [Action],
    pub(super) before: Status,
    pub(super) after: Status,
    /// What each write of the step did to the log, whether the disk will see it or not.
    links: Vec<Links>,
    /// Through where nothing is lost of the log.
    held: Index,
    /// The membership in force before the step, where it is another now.
    pub(super) membership_before: Option<Membership>,
    /// Whether an answer was dropped because too many wait for the disk.
    pub(super) dropped_answer: bool,
    crashes: bool,
}

/// A step of a kernel, as it was decided.
pub(super) struct Stepped<'a> {
    pub(super) event: &'a Event,
    pub(super) decided: &'a [Action],
    /// How many actions are carried out before a crash, if there is one.
    pub(super) carried_out: usize,
    pub(super) crashes: bool,
    /// What the kernel is after it.
    pub(super) after: Status,
}

/// What a kernel was before a step.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) status: Status,
    pub(super) dropped: u64,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        Self { status: raft.status(), dropped: raft.drops().count(DropReason::TooManyWaiting) }
    }
}

impl<A: Application> World<'_, A> {
    /// The only place where a kernel runs by itself.
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
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(()) };
        let Some(mut kernel) = kernel_only.running.take() else { return Ok(()) };
        let before = Before::of(&kernel.raft);
        let told = event.clone();
        if let Some(recorder) = self.recorders.get_mut(member) {
            recorder.begins(local, &event, &kernel.raft);
        }
        let ran = quietly(AssertUnwindSafe(|| kernel.raft.step_into(local, told, actions)));
        self.survived(member, ran)?;
        if let Some(recorder) = self.recorders.get_mut(member) {
            recorder.ends(actions, &kernel.raft);
        }
        let after = kernel.raft.status();
        self.note_leader(member, &before.status, &after);
        let host = &mut self.hosts[member];

        // A crash falls between two actions: those after it have no effect outside the kernel.
        let mut carried_out = host.crash_after.map_or(actions.len(), |left| actions.len().min(left as usize));
        let crashes = host.crash_after.is_some_and(|left| left as usize == carried_out);
        if let Some(left) = &mut host.crash_after {
            *left -= carried_out as u32;
        }
        if crashes && self.scenario.options.synchronous_writes {
            match after_the_writes(actions, carried_out) {
                Some(after) => carried_out = after,
                None => {
                    self.crash(member, FaultKind::CrashMidStep);
                    return Ok(());
                }
            }
        }
        let stepped = Stepped { event: &event, decided: actions, carried_out, crashes, after };
        let links = self.observe(member, &stepped, before, &kernel.raft)?;
        if let MemberBody::KernelOnly(kernel_only) = &mut self.hosts[member].body {
            kernel_only.running = Some(kernel);
        }
        let mut links = links.into_iter();
        let mut carry_out = |action| self.carry_out(member, action, &mut links);
        actions.drain(..).take(carried_out).try_for_each(&mut carry_out)?;
        self.end_step(member, crashes)
    }

    /// A panic of our own code is a finding.
    pub(super) fn survived(&self, member: usize, ran: std::thread::Result<()>) -> Checked {
        let id = self.hosts[member].id;
        ran.map_err(|panic| {
            let what = format!("member {id} panicked: {}", text_of(&*panic));
            Violated::new("Kernel Invariants", what).by(id, self.stamp())
        })
    }

    /// What lay in wait for the next leader befalls it, if this is one.
    pub(super) fn note_leader(&mut self, member: usize, before: &Status, after: &Status) {
        if after.role == RoleKind::Leader && (before.role, before.term) != (after.role, after.term) {
            self.spring(member);
            self.probe_elected(member, after.term);
        }
    }

    /// What has happened is over: the member crashes, or goes on.
    pub(super) fn end_step(&mut self, member: usize, crashes: bool) -> Checked {
        if crashes {
            self.crash(member, FaultKind::CrashMidStep);
        } else if self.hosts[member].is_stale {
            self.crash(member, FaultKind::Crash);
        } else {
            self.schedule_wake(member);
            self.check_change_deadlines(member)?;
        }
        Ok(())
    }

    /// Looks at one step of a kernel with every check. Returns what each of its writes did to the log.
    pub(super) fn observe(
        &mut self,
        member: usize,
        stepped: &Stepped<'_>,
        before: Before,
        raft: &Raft,
    ) -> Result<Vec<Links>, Violated> {
        let host = &mut self.hosts[member];
        let (id, local) = (host.id, host.clock.local(self.now));
        let Some(up) = &mut host.up else { return Ok(Vec::new()) };
        let after = stepped.after;
        if raft.deadline() <= local {
            let what = format!("member {id} wants to be woken at once, again and again");
            return Err(Violated::new("Contract", what));
        }
        up.status = after;
        up.dropped = raft.drops().count(DropReason::TooManyWaiting);
        let dropped_answer = up.dropped > before.dropped;
        let links = note_writes(up, stepped.decided, &self.checks);
        if self.scenario.options.synchronous_writes {
            self.write_and_wait(member, stepped, &links);
        }
        let Some(up) = &mut self.hosts[member].up else { return Ok(links) };
        let membership_before = note_membership(up, raft, &before.status);
        let taken = Taken {
            event: stepped.event,
            actions: &stepped.decided[..stepped.carried_out],
            left_out: &stepped.decided[stepped.carried_out..],
            before: before.status,
            after,
            links,
            held: raft.log().held(),
            membership_before,
            dropped_answer,
            crashes: stepped.crashes,
        };
        self.show(&taken);
        self.check(member, &taken)?;
        if self.counters.steps.is_multiple_of(LOOKS) {
            self.checks.holds(member, id, &raft.held(), raft.log().is_whole())?;
        }
        self.count(member, &taken);
        self.release_after(member, &taken);
        self.contest_after(member, &taken);
        Ok(taken.links)
    }

    /// Passes the step to the tracer, and makes the trace hash depend on it.
    fn show(&mut self, taken: &Taken<'_>) {
        let Taken { event, actions, left_out, after, .. } = taken;
        (self.now, after.id).hash(&mut self.hasher);
        event.hash(&mut self.hasher);
        actions.hash(&mut self.hasher);
        if let Some(tracer) = &mut self.tracer {
            let (application, is_full) = (&self.clients.application, self.scenario.replica.is_some());
            let show = |payload: &Payload| show(application, is_full, payload);
            let (step, at, show) = (self.counters.steps, self.now, Commands(&show));
            tracer(&Traced::Step { step, at, event, actions, left_out, after, show });
        }
    }

    fn check(&mut self, member: usize, taken: &Taken<'_>) -> Checked {
        let now = self.stamp();
        let Taken { event, actions, before, after, links, held, crashes, membership_before, .. } = taken;
        let Some(up) = &mut self.hosts[member].up else {
            return Ok(());
        };
        let watched = if *crashes {
            up.contract.watch_partial(event, actions)
        } else {
            up.contract.watch(event, actions, after)
        };
        watched.map_err(|breach| ("Contract", format!("member {}: {breach}", after.id)))?;
        if let Some(violation) = unexpected(actions) {
            return Err(Violated::new("Halt", format!("member {}: {violation}", after.id)));
        }
        let last = last_of(&up.chain);
        if last != after.last {
            let what =
                format!("the log of member {} ends at {}, what it wrote at {last}", after.id, after.last);
            return Err(Violated::new("Contract", what));
        }
        let hosts = &self.hosts;
        let Some(up) = &hosts[member].up else {
            return Ok(());
        };
        let local = hosts[member].clock.local(now.at);
        let observed = self.checks.observe(&Observation {
            member,
            now,
            local,
            event,
            actions,
            before,
            after,
            chain: &up.chain,
            appended: links.iter().map(|links| links.appended.len()).sum(),
            held: *held,
            membership: &up.membership,
            membership_before: membership_before.as_ref().unwrap_or(&up.membership),
            me: hosts[member].member(),
            durable: &|other| hosts[position(other.id)].durable_chain_of(other),
        });
        observed.map_err(|mut violated| {
            // What was cut from a log or is not yet on its way to a disk is not found later.
            self.tell_entries(&mut violated.parts, actions);
            violated
        })?;
        self.note_leases(member, taken);
        Ok(())
    }

    /// The leases that are given in this step.
    fn note_leases(&mut self, member: usize, taken: &Taken<'_>) {
        let (given, clock) = (self.stamp(), &self.hosts[member].clock);
        for action in taken.actions {
            let Action::Respond { outcome: Outcome::Ready { index, until: Some(until) }, .. } = action else {
                continue;
            };
            if let Some(until) = clock.when(*until) {
                let (leader, term) = (taken.after.id, taken.after.term);
                self.checks.leased(Lease { leader, term, index: *index, given, until });
            }
        }
    }

    fn carry_out(&mut self, member: usize, action: Action, links: &mut vec::IntoIter<Links>) -> Checked {
        match action {
            Action::Send(message) => self.send(member, &message),
            Action::Persist(write) => self.persist(member, write, links.next().unwrap_or_default()),
            Action::Apply { through } => return self.apply(member, through),
            Action::Restore(snapshot) => {
                if let MemberBody::KernelOnly(kernel_only) = &mut self.hosts[member].body {
                    kernel_only.restore(snapshot);
                }
                return self.work(member);
            }
            Action::FetchSnapshot { from, snapshot } => self.fetch(member, from, snapshot),
            Action::TakeSnapshot => self.take_snapshot(member),
            Action::LoadEntries { to, after, through, max_bytes } => {
                self.load(member, to, after, through, max_bytes);
            }
            Action::Respond { request, outcome } => return self.respond(member, request, outcome, None),
            Action::Halt(_) => {
                self.counters.mark(Mark::WipeRefused);
                self.hosts[member].is_stale = true;
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, message: &Message) {
        let number = self.numbered(|| Some(message.clone()));
        let to = position(message.to.id);
        let encoded = || {
            let mut bytes = Vec::new();
            wire::encode(message, &mut bytes);
            Frame { number, bytes }
        };
        if self.keeps_back(from, message, encoded) {
            self.trace_fate(number, || Fate::KeptBack);
            return;
        }
        let mut frame = self.frames.pop().unwrap_or_default();
        frame.clear();
        wire::encode(message, &mut frame);
        let lane = lane_of(&message.body, frame.len());
        self.transmit(Sent { from, to, lane, bytes: frame.len() }, number, frame);
    }

    /// The host waits for its disk: what the step writes is durable before anything that rests on it is done,
    /// and before the checks look at it.
    fn write_and_wait(&mut self, member: usize, stepped: &Stepped<'_>, links: &[Links]) {
        let MemberBody::KernelOnly(kernel_only) = &mut self.hosts[member].body else { return };
        let carried_out = &stepped.decided[..stepped.carried_out];
        for (write, links) in writes_of(carried_out).zip(links) {
            kernel_only.disk.write_and_wait(write.clone(), links.clone());
        }
    }

    fn persist(&mut self, member: usize, write: Write, links: Links) {
        let host = &mut self.hosts[member];
        let life = host.life;
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return };
        if self.scenario.options.synchronous_writes {
            return;
        }
        if let Some(at) = kernel_only.disk.write(self.now, write, links) {
            self.schedule(at, Happening::Synced { member, life });
        }
    }

    fn apply(&mut self, member: usize, through: Index) -> Checked {
        if let MemberBody::KernelOnly(kernel_only) = &mut self.hosts[member].body {
            kernel_only.apply(through);
        }
        self.work(member)
    }

    /// The state machine does what it was told: in its own time, or while the host waits for it.
    fn work(&mut self, member: usize) -> Checked {
        if !self.scenario.options.synchronous_apply {
            return self.start_apply(member);
        }
        self.begin_apply(member)?;
        let applied = self.finish_apply(member)?;
        if applied.is_some() {
            self.take_snapshot(member);
        }
        Ok(())
    }

    /// The state machine is done with what it was given. Returns how far that was.
    pub(super) fn finish_apply(&mut self, member: usize) -> Result<Option<Index>, Violated> {
        let now = self.stamp();
        let host = &mut self.hosts[member];
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(None) };
        let Some(through) = kernel_only.finish_apply() else { return Ok(None) };
        if !host.spec.witness {
            self.checks.applied(host.id, through, kernel_only.store.digest(), now)?;
        }
        Ok(Some(through))
    }

    pub(super) fn start_apply(&mut self, member: usize) -> Checked {
        let life = self.hosts[member].life;
        if let Some(at) = self.begin_apply(member)? {
            self.schedule(at, Happening::Applied { member, life });
        }
        Ok(())
    }

    /// The state machine gets what is to be done. Returns when it will be done.
    fn begin_apply(&mut self, member: usize) -> Result<Option<u64>, Violated> {
        let host = &mut self.hosts[member];
        let id = host.id;
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(None) };
        let begun = kernel_only.start_apply(self.now, &host.spec, &mut host.stream);
        begun.map_err(|error| Violated::new("Contract", format!("member {id} {error}")))
    }

    /// Gets a snapshot from another host, which may have it no more, or be down, or be out of reach.
    fn fetch(&mut self, member: usize, from: NodeId, snapshot: Snapshot) {
        let host = &mut self.hosts[member];
        let life = host.life;
        if let Some(kernel) = host.kernel() {
            kernel.fetching = Some(snapshot.clone());
        }
        let took = host.stream.skewed(100, self.scenario.snapshots.longest_us.max(200)) * 1_000;
        let from = position(from);
        self.schedule(
            self.now + took,
            Happening::Fetched { member, life, from, snapshot: Box::new(snapshot) },
        );
    }

    pub(super) fn fetched(&mut self, member: usize, life: u32, from: usize, snapshot: Snapshot) -> Checked {
        let fails = self.hosts[member].stream.chance(self.scenario.snapshots.fail) && self.stage.is_none();
        let source = &self.hosts[from];
        let reachable = source.up.is_some() && !self.network.is_cut(from, member);
        let found = match &source.body {
            MemberBody::KernelOnly(source) => source.stored(&snapshot).cloned(),
            MemberBody::FullReplica(_) => None,
        };
        let host = &mut self.hosts[member];
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return Ok(()) };
        let wanted = |kernel: &Kernel| kernel.fetching.as_ref() == Some(&snapshot);
        if host.life != life || !kernel_only.running.as_deref().is_some_and(wanted) {
            return Ok(());
        }
        match found.filter(|_| reachable && !fails) {
            Some(stored) => {
                kernel_only.keep(stored);
                self.tell(member, Event::SnapshotFetched(snapshot))
            }
            None => {
                self.counters.fault(FaultKind::FetchFailed);
                self.tell(member, Event::SnapshotFailed(snapshot.last))
            }
        }
    }

    /// Reads entries back from the disk.
    fn load(&mut self, member: usize, to: NodeId, after: LogId, through: Index, max_bytes: u64) {
        let host = &mut self.hosts[member];
        let life = host.life;
        let fails = host.stream.chance(self.scenario.snapshots.fail) && self.stage.is_none();
        if fails {
            self.counters.fault(FaultKind::FetchFailed);
        }
        let entries = match &host.body {
            MemberBody::KernelOnly(kernel_only) if !fails => kernel_only.load(after, through, max_bytes),
            _ => Entries::EMPTY,
        };
        let slowest = if self.stage.is_none() { 5_000 } else { 50 };
        let took = host.stream.skewed(10, slowest) * 1_000;
        let loaded = Box::new(EntriesLoaded { to, after, entries });
        self.schedule(self.now + took, Happening::Loaded { member, life, loaded });
    }

    /// Takes a snapshot if one is due; it is reported once it is on the disk.
    pub(super) fn take_snapshot(&mut self, member: usize) {
        let host = &mut self.hosts[member];
        let MemberBody::KernelOnly(kernel_only) = &mut host.body else { return };
        let Some(stored) = kernel_only.begin_snapshot(self.scenario.snapshots.every) else { return };
        let took = host.stream.skewed(100, self.scenario.snapshots.longest_us.max(200)) * 1_000;
        let life = host.life;
        self.schedule(self.now + took, Happening::SnapshotTaken { member, life, stored: Box::new(stored) });
    }

    /// A request is answered; a full replica says also what was found, and as of which entry.
    pub(super) fn respond(
        &mut self,
        member: usize,
        request: RequestId,
        outcome: Outcome,
        mut found: Option<Found>,
    ) -> Checked {
        if self.operator.is_waiting_for(request) {
            self.operator_answered(request, outcome);
            return Ok(());
        }
        match (outcome, self.clients.asked(request)) {
            (Outcome::Committed(id), Some(Asked::Write { content } | Asked::InSession { content })) => {
                self.counters.acknowledged += 1;
                let (teller, at) = (self.hosts[member].id, self.stamp());
                self.checks.acknowledged(Acknowledged { request, id, content, member: teller, at })?;
                self.probe_committed(id.term, content);
            }
            (Outcome::Refused(_), Some(Asked::Write { content })) => self.checks.refused(content),
            (Outcome::Ready { until, .. }, Some(Asked::Read { committed, .. })) => {
                found = Some(match found {
                    None => self.serve(member, request, committed)?,
                    Some(found) => self.served(member, found, committed)?,
                });
                self.note_read(member, until.is_some());
                if let Some(up) = &mut self.hosts[member].up {
                    up.leased_until = up.leased_until.max(until);
                }
            }
            _ => {}
        }
        self.tell_client(member, request, outcome, found)
    }

    /// A client gets an answer, and says when it acts next.
    pub(super) fn tell_client(
        &mut self,
        member: usize,
        request: RequestId,
        outcome: Outcome,
        found: Option<Found>,
    ) -> Checked {
        let (id, answered) = (self.hosts[member].id, self.clients.answered_in_sessions());
        if let Some(turn) = self.clients.on_outcome(self.now, id, request, outcome, found)? {
            self.schedule(turn.at, Happening::Client(turn));
        }
        if self.clients.answered_in_sessions() > answered {
            self.may_come_late(answered);
        }
        Ok(())
    }

    /// A member has answered a client's query by itself.
    fn served(&self, member: usize, found: Found, committed: Index) -> Result<Found, Violated> {
        self.checks.served(self.hosts[member].id, found.at, committed, self.stamp())?;
        Ok(found)
    }

    /// Answers a client's query by the state machine that the host of a kernel alone plays.
    pub(super) fn serve(
        &mut self,
        member: usize,
        request: RequestId,
        committed: Index,
    ) -> Result<Found, Violated> {
        let host = &self.hosts[member];
        let MemberBody::KernelOnly(kernel_only) = &host.body else {
            let what = format!("replica {} does not say what it was asked", host.id);
            return Err(Violated::new(linearizable_reads::NAME, what));
        };
        self.checks.served(host.id, kernel_only.applied, committed, self.stamp())?;
        let answer = kernel_only.store.query(self.clients.query(request).unwrap_or_default());
        Ok(Found { answer, at: kernel_only.applied })
    }

    fn note_read(&mut self, member: usize, leased: bool) {
        let leads = self.hosts[member].up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader);
        self.counters.mark(match (leased, leads) {
            (true, _) => Mark::ReadByLease,
            (false, true) => Mark::ReadByQuorum,
            (false, false) => Mark::ReadByFollower,
        });
    }
}

impl<A: Application> World<'_, A> {
    /// A payload of the log as what it is.
    pub(super) fn show_payload(&self, payload: &Payload) -> String {
        show(&self.clients.application, self.scenario.replica.is_some(), payload)
    }
}

/// A payload of the log as what it is. Full replicas wrap what their state machines get.
pub(super) fn show<A: Application>(application: &A, is_full: bool, payload: &Payload) -> String {
    let command = if is_full { Command::decode(payload).ok() } else { None };
    match command {
        None => application.show(payload),
        Some(Command::Plain(command)) => application.show(command),
        Some(Command::InSession { session, sequence, command, .. }) => {
            format!("{} ({sequence} of session {session})", application.show(command))
        }
        Some(Command::Register) => "open a session".to_owned(),
        Some(other) => format!("{other:?}"),
    }
}

/// By which connection the host of a kernel alone sends a message, as a replica does: all that carries
/// entries by the same.
fn lane_of(body: &Body, bytes: usize) -> Lane {
    match body {
        Body::Append { .. } | Body::RepairResponse { .. } => Lane::Bulk,
        _ if bytes > MAX_SHORT => Lane::Bulk,
        _ => Lane::Log,
    }
}

/// After how many steps it is looked at what a member holds: what is held beyond a limit is held for a while.
const LOOKS: u64 = 8;

/// A frame of more bytes is large, whatever it holds.
const MAX_SHORT: usize = 16 << 10;

/// What makes a member halt though its incarnation is not stale.
fn unexpected(actions: &[Action]) -> Option<&Violation> {
    actions.iter().find_map(|action| match action {
        Action::Halt(Violation::StaleIncarnation { .. }) => None,
        Action::Halt(violation) => Some(violation),
        _ => None,
    })
}

/// Takes note of the membership in force. Returns the one before, where it has changed.
fn note_membership(up: &mut Up, raft: &Raft, before: &Status) -> Option<Membership> {
    let after = &up.status;
    if (before.configured, before.snapshot, before.last) == (after.configured, after.snapshot, after.last)
        || up.membership == *raft.membership()
    {
        return None;
    }
    let membership = raft.membership().clone();
    Some(std::mem::replace(&mut up.membership, membership))
}

/// Keeps the log of a member as the writes of a step tell it, and returns what each does to it. Where the
/// host waits for its disk, one step may make several.
fn note_writes(up: &mut Up, actions: &[Action], checks: &Checks) -> Vec<Links> {
    writes_of(actions).map(|write| write_to(&mut up.chain, write, checks)).collect()
}

fn writes_of(actions: &[Action]) -> impl Iterator<Item = &Write> {
    actions.iter().filter_map(|action| match action {
        Action::Persist(write) => Some(write),
        _ => None,
    })
}

/// Where a crash falls that is due after so many actions of a host that waits for its disk. The kernel has
/// gone on as if everything were written. So the host crashes before it carries out anything of the
/// step, or after the last of its writes.
fn after_the_writes(actions: &[Action], carried_out: usize) -> Option<usize> {
    let is_write = |action: &Action| matches!(action, Action::Persist(_));
    let last = actions.iter().rposition(is_write).map_or(0, |last| last + 1);
    if carried_out >= last || actions[..carried_out].iter().any(is_write) {
        Some(carried_out.max(last))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::{Ballot, WriteSeq};

    fn write(seq: u64) -> Action {
        Action::Persist(Write {
            seq: WriteSeq::new(seq),
            ballot: Ballot::default(),
            starts: 1,
            truncate_after: None,
            rebase: None,
            repaired: Entries::EMPTY,
            append: Entries::EMPTY,
            committed: Index::ZERO,
        })
    }

    /// A kernel whose host waits has gone on as if each write were done, so no write may be left out that the
    /// others of its step went before.
    #[test]
    fn a_host_that_waits_crashes_before_its_step_or_after_the_last_write() {
        let other = || Action::TakeSnapshot;
        let actions = [other(), write(1), other(), write(2), other()];
        let carried_out = (0..=5).map(|count| after_the_writes(&actions, count));
        assert_eq!(carried_out.collect::<Vec<_>>(), [None, None, Some(4), Some(4), Some(4), Some(5)]);
        let carried_out = (0..=1).map(|count| after_the_writes(&[other()], count));
        assert_eq!(carried_out.collect::<Vec<_>>(), [Some(0), Some(1)], "nothing is written");
    }
}
