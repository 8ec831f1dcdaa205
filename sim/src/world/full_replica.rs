//! Full replicas: what a replica is told, and what is done about what it says.

use super::step::{Before, Stepped};
use super::{Happening, World, machine_of, position};
use crate::application::{Application, Reached};
use crate::check::{Checked, Checks, Finding, Violated};
use crate::clients::{Asked, Once};
use crate::fate::{Fate, Loss};
use crate::host::MemberBody;
use crate::host::full_replica::{DiskWork, FullReplica, Interrupted, Outage, Panicked, Running, found_in};
use crate::host::written::Written;
use crate::network::{Frame, Sent};
use crate::part::{Involvement, Part, Stamp};
use crate::quiet::quietly;
use crate::report::{FaultKind, Mark};
use crate::storage::SimDisk;
use crate::stream::Stream;
use kontiki_core::action::{Action, Outcome, Refusal, Violation};
use kontiki_core::event::{Event, Reconfigure};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine;
use kontiki_core::raft::Raft;
use kontiki_core::replica::{self, Answer, Ask, Halt, Input, Lane, MachineJob, Output, Watch};
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, Member, NodeId, RequestId};
use kontiki_core::wal::{DiskError, Operation};
use std::panic::AssertUnwindSafe;

/// Watches every step of the kernel inside a replica.
struct Watching<'w, 't, A: Application> {
    world: &'w mut World<'t, A>,
    member: usize,
    seen: Checked,
}

impl<A: Application> Watch for Watching<'_, '_, A> {
    fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        if let Some(recorder) = self.world.recorders.get_mut(self.member) {
            recorder.begins(now, event, before);
        }
    }

    fn step(&mut self, _now: Instant, event: &Event, actions: &[Action], before: &Status, raft: &Raft) {
        if let Some(recorder) = self.world.recorders.get_mut(self.member) {
            recorder.ends(actions, raft);
        }
        if self.seen.is_ok() {
            self.seen = self.world.watched(self.member, event, actions, before, raft);
        }
    }
}

impl<A: Application> World<'_, A> {
    /// The only place where a replica runs.
    pub(super) fn handle(&mut self, member: usize, input: Input) -> Checked {
        self.checks.follows(self.now)?;
        let host = &mut self.hosts[member];
        let local = host.clock.local(self.now);
        let MemberBody::FullReplica(full) = &mut host.body else { return Ok(()) };
        let Some(mut running) = full.running.take() else { return Ok(()) };
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut watching = Watching { world: self, member, seen: Ok(()) };
        let ran = quietly(AssertUnwindSafe(|| {
            running.replica.handle_watched(local, input, &mut outputs, &mut watching);
        }));
        let seen = watching.seen;
        self.survived(member, ran)?;
        seen?;
        let at_rest = running.replica.is_log_at_rest();
        let id = self.hosts[member].id;
        self.checks.replica_holds(id, &running.replica)?;
        if running.replica.deadline() <= local {
            let what = format!("replica {id} wants to be woken at once, again and again");
            return Err(Violated::new("Contract", what));
        }
        let host = &mut self.hosts[member];
        if let MemberBody::FullReplica(full) = &mut host.body {
            full.running = Some(running);
        }
        // A crash falls between two outputs: those after it have no effect outside the replica.
        let carried_out = host.crash_after.map_or(outputs.len(), |left| outputs.len().min(left as usize));
        let crashes = host.crash_after.is_some_and(|left| left as usize == carried_out);
        if let Some(left) = &mut host.crash_after {
            *left -= carried_out as u32;
        }
        let life = host.life;
        for (position, output) in outputs.drain(..).enumerate() {
            if position < carried_out && self.hosts[member].life == life {
                self.carry_out_output(member, output)?;
            } else if let Output::Frame { bytes, .. } = output {
                self.trace_unsent(&bytes);
            }
        }
        self.outputs = outputs;
        if self.hosts[member].life == life {
            self.end_step(member, crashes)?;
        }
        if at_rest && self.hosts[member].life == life {
            self.spoil_marked_batch(member);
        }
        Ok(())
    }

    /// One step of the kernel inside.
    fn watched(
        &mut self,
        member: usize,
        event: &Event,
        actions: &[Action],
        before: &Status,
        raft: &Raft,
    ) -> Checked {
        self.counters.steps += 1;
        let now = self.stamp();
        if let Event::Persisted(seq) = event
            && let MemberBody::FullReplica(full) = &mut self.hosts[member].body
        {
            full.model.report(*seq);
            full.model.reported_at(now);
        }
        match event {
            Event::SnapshotTaken(_) => self.counters.mark(Mark::SnapshotTaken),
            Event::DiskFull(true) => self.counters.mark(Mark::NoRoom),
            _ => {}
        }
        let dropped = self.hosts[member].up.as_ref().map_or(0, |up| up.dropped);
        let before = Before { status: *before, dropped };
        let after = raft.status();
        self.note_leader(member, &before.status, &after);
        let stepped = Stepped { event, decided: actions, carried_out: actions.len(), crashes: false, after };
        let mut links = self.observe(member, &stepped, before, raft)?.into_iter();
        let MemberBody::FullReplica(full) = &mut self.hosts[member].body else { return Ok(()) };
        for action in actions {
            if let Action::Persist(write) = action {
                if let Some(first) = write.repaired.first() {
                    self.counters.mark(Mark::EntriesRepaired);
                    self.log_reader.repaired.insert(member, first.id.index);
                }
                if write.truncate_after.is_some() {
                    full.written.takes_back();
                }
                full.model.note(write.clone(), links.next().unwrap_or_default());
            }
        }
        let rebases = |action: &Action| matches!(action, Action::Persist(write) if write.rebase.is_some());
        if actions.iter().any(|action| matches!(action, Action::Restore(_))) {
            self.may_lose_power(member, 2, 64);
        } else if actions.iter().any(rebases) {
            self.may_lose_power(member, 32, 8);
        }
        self.note_recovery(member, raft)
    }

    fn carry_out_output(&mut self, member: usize, output: Output) -> Checked {
        match output {
            Output::Frame { to, lane, bytes } => self.send_frame(member, to, lane, bytes),
            Output::Disk(job) => {
                let lane = job.lane;
                if self.running(member).is_some_and(|running| running.add_disk_job(job)) {
                    self.work_disk(member, lane)?;
                }
            }
            Output::Machine(job) => {
                if self.running(member).is_some_and(|running| running.add_machine_job(job)) {
                    self.start_machine(member);
                }
            }
            Output::Answer { request, answer } => return self.answered(member, request, answer),
            Output::Halt(halt) => return self.halted(member, &halt),
        }
        Ok(())
    }

    /// A full replica, where it is up.
    pub(super) fn running(&mut self, member: usize) -> Option<&mut Running<A::Machine>> {
        match &mut self.hosts[member].body {
            MemberBody::FullReplica(full) => full.running.as_deref_mut(),
            MemberBody::KernelOnly(_) => None,
        }
    }

    fn send_frame(&mut self, from: usize, to: Member, lane: Lane, bytes: Vec<u8>) {
        let message = self.tracer.is_some().then(|| self.message_of(&bytes)).flatten();
        let number = self.numbered(|| message);
        if self.keeps_frame_back(from, to.id, number, &bytes) {
            self.trace_fate(number, || Fate::KeptBack);
            return;
        }
        self.transmit(Sent { from, to: position(to.id), lane, bytes: bytes.len() }, number, bytes);
    }

    /// The frame of a message goes on its way.
    pub(super) fn transmit(&mut self, sent: Sent, number: u64, mut bytes: Vec<u8>) {
        let (counters, mut loss) = (&mut self.counters, None);
        let arrivals = self.network.send(self.now, sent, |kind| {
            counters.fault(kind);
            loss = loss_by(kind).or(loss);
        });
        self.trace_fate(number, || match loss {
            Some(loss) => Fate::Lost(loss),
            None => Fate::Carried {
                arrives_ns: arrivals.iter().flatten().map(|arrival| arrival.at).collect(),
                delayed: arrivals.iter().flatten().any(|arrival| arrival.delayed),
            },
        });
        let mut arrivals = arrivals.into_iter().flatten().peekable();
        while let Some(arrival) = arrivals.next() {
            let is_last = arrivals.peek().is_none();
            let frame = if is_last { std::mem::take(&mut bytes) } else { bytes.clone() };
            let frame = Frame { number, bytes: arrival.shape(frame) };
            let (connection, flipped) = (Some(arrival.connection), arrival.flipped.is_some());
            self.schedule(arrival.at, Happening::Deliver { to: sent.to, frame, connection, flipped });
        }
    }

    // ----- the disk -----

    /// Goes on with the first job of a lane, through all that takes no time, to the next sync.
    fn work_disk(&mut self, member: usize, lane: Lane) -> Checked {
        loop {
            let now = self.now;
            let host = &mut self.hosts[member];
            let life = host.life;
            let MemberBody::FullReplica(full) = &mut host.body else { return Ok(()) };
            let Some(running) = &mut full.running else { return Ok(()) };
            let Some(work) = running.lane(lane).front_mut() else { return Ok(()) };
            let Some(operation) = work.job.operations.get(work.done) else {
                let read = std::mem::take(&mut work.read);
                self.spoil_first_batch(member);
                if !self.finish(member, lane, Ok(read))? {
                    return Ok(());
                }
                continue;
            };
            if takes_time(operation) {
                let done = full.times.sync_done(now);
                self.schedule(done, Happening::DiskOperation { member, life, lane });
                return Ok(());
            }
            if let Err(error) = self.perform(member, lane) {
                return self.disk_failed(member, lane, error);
            }
        }
    }

    fn trace_operation(&mut self, member: usize, lane: Lane) {
        if self.tracer.is_none() {
            return;
        }
        let id = self.hosts[member].id;
        let Some(running) = self.running(member) else { return };
        let work = running.lane(lane).front();
        let Some(operation) = work.and_then(|work| work.job.operations.get(work.done)) else { return };
        let what = match operation {
            Operation::Write { file, at, bytes } => format!("write {} bytes at {at} of {file}", bytes.len()),
            Operation::Read { file, at, length } => format!("read {length} bytes at {at} of {file}"),
            Operation::Create { file, length } => format!("create {file} of {length} bytes"),
            Operation::Sync(file) => format!("sync {file}"),
            Operation::Rename { from, to } => format!("rename {from} to {to}"),
            Operation::Remove(file) => format!("remove {file}"),
            Operation::SyncDirectory => "sync the directory".to_owned(),
        };
        self.trace_about(id, || format!("disk of member {id}: {what}"));
    }

    /// What the first job of a lane waited for is done.
    pub(super) fn disk_operation(&mut self, member: usize, life: u32, lane: Lane) -> Checked {
        let host = &mut self.hosts[member];
        if host.life != life {
            return Ok(());
        }
        match self.perform(member, lane) {
            Ok(()) => self.work_disk(member, lane),
            Err(error) => self.disk_failed(member, lane, error),
        }
    }

    /// Carries out the next operation of the first job of a lane.
    fn perform(&mut self, member: usize, lane: Lane) -> Result<(), DiskError> {
        self.trace_operation(member, lane);
        let MemberBody::FullReplica(full) = &mut self.hosts[member].body else { return Ok(()) };
        let FullReplica { running, storage, written, failing, .. } = &mut **full;
        let Some(work) = running.as_mut().and_then(|running| running.lane(lane).front_mut()) else {
            return Ok(());
        };
        if let (Lane::Bulk, Operation::Sync(file)) = (lane, &work.job.operations[work.done])
            && failing.take_if(|failing| failing.is(*file)).is_some()
        {
            storage.fail_next_sync(Some(*file));
        }
        perform(work, storage, written)
    }

    fn disk_failed(&mut self, member: usize, lane: Lane, error: DiskError) -> Checked {
        if self.finish(member, lane, Err(error))? { self.work_disk(member, lane) } else { Ok(()) }
    }

    /// Reports the first job of a lane as done. It stays in its lane until the member has heard of it: what
    /// the member asks for then waits behind it, so that no report is made inside another. Returns whether
    /// the member lives on.
    fn finish(
        &mut self,
        member: usize,
        lane: Lane,
        result: Result<Vec<Vec<u8>>, DiskError>,
    ) -> Result<bool, Violated> {
        let life = self.hosts[member].life;
        let Some(work) = self.running(member).and_then(|running| running.lane(lane).front()) else {
            return Ok(false);
        };
        let job = work.job.id;
        self.tell_input(member, Input::Disk { job, result })?;
        if self.hosts[member].life != life {
            return Ok(false);
        }
        Ok(self.running(member).and_then(|running| running.lane(lane).pop_front()).is_some())
    }

    // ----- the state machine -----

    fn start_machine(&mut self, member: usize) {
        let host = &mut self.hosts[member];
        let life = host.life;
        let MemberBody::FullReplica(full) = &mut host.body else { return };
        let slow = match full.running.as_ref().and_then(|running| running.machine_job()) {
            None => return,
            Some(MachineJob::Apply(_)) => host.spec.apply_us * 1_000,
            Some(_) => 0,
        };
        let took = slow + host.stream.below(50_000);
        self.schedule(self.now + took, Happening::MachineDone { member, life });
    }

    pub(super) fn machine_done(&mut self, member: usize, life: u32) -> Checked {
        if self.hosts[member].life != life {
            return Ok(());
        }
        let now = self.stamp();
        let (checks, clients) = (&mut self.checks, &mut self.clients);
        let MemberBody::FullReplica(full) = &mut self.hosts[member].body else { return Ok(()) };
        let Some(running) = &mut full.running else { return Ok(()) };
        let worked = running.work(|reached| {
            let Reached { member, machine, digest, entry } = reached;
            let index = machine.applied().index;
            let last = machine.state().last.filter(|(at, _)| entry.is_some() && *at == index);
            clients.application.reached(reached)?;
            checks.applied(member, index, digest, now)?;
            let Some((at, command)) = last else { return Ok(()) };
            clients
                .carried_out(at, command)
                .map_err(|once| carried_out_twice(checks, member, (once, at), now))
        });
        let done = worked.map_err(|interrupted| self.interrupted(member, interrupted))?;
        self.compare(member)?;
        if let Some(done) = done {
            self.tell_input(member, Input::Machine(done))?;
        }
        if self.hosts[member].life == life {
            self.start_machine(member);
        }
        Ok(())
    }

    /// Compares a replica with those that have come as far.
    fn compare(&mut self, member: usize) -> Checked {
        if !self.clients.application.compares_replicas() {
            return Ok(());
        }
        let Some(one) = machine_of(&self.hosts[member]) else { return Ok(()) };
        for other in self.hosts.iter().filter(|host| host.id != one.member).filter_map(machine_of) {
            if one.machine.applied() == other.machine.applied() {
                self.clients.application.met(one, other)?;
            }
        }
        Ok(())
    }

    /// Why a state machine did not get to the end of a job.
    fn interrupted(&mut self, member: usize, interrupted: Interrupted) -> Violated {
        let Panicked { entry, text } = match interrupted {
            Interrupted::Violated(violated) => return violated.by(self.hosts[member].id, self.stamp()),
            Interrupted::Panicked(panicked) => panicked,
        };
        let id = self.hosts[member].id;
        if let Some(entry) = &entry {
            self.clients.application.panicked(entry);
        }
        let at = match entry {
            Some(Entry { id, body: EntryBody::Data(payload) }) => {
                format!(" at entry {id}, {}", self.clients.show(&payload))
            }
            Some(Entry { id, .. }) => format!(" at entry {id}"),
            None => String::new(),
        };
        Violated::new("State Machine", format!("the state machine of member {id} panicked{at}: {text}"))
    }

    // ----- what members are told -----

    /// What a full replica is told where a kernel would be told of this event.
    pub(super) fn input_of(&self, event: Event) -> Option<Input> {
        let request = |request, ask| Some(Input::Request { request, ask });
        match event {
            Event::Wake => Some(Input::Wake),
            Event::Propose(proposal) => request(proposal.request, Ask::Command(proposal.payload)),
            Event::ProposeBatch(proposals) => Some(Input::Commands(proposals)),
            Event::Read(read) => {
                let query = self.clients.query(read.request)?.to_vec();
                request(read.request, Ask::Query { query, via: read.via })
            }
            Event::Reconfigure(wish) => {
                let Reconfigure { request: number, expected, changes, force } = wish;
                request(number, Ask::Reconfigure { expected, changes, force })
            }
            Event::CancelChange(number) => request(number, Ask::CancelChange),
            Event::Transfer(wish) => request(wish.request, Ask::Transfer { to: wish.to }),
            Event::PeerUnreachable(peer) => Some(Input::PeerUnreachable(peer)),
            Event::Shutdown => Some(Input::Shutdown),
            _ => None,
        }
    }

    fn answered(&mut self, member: usize, request: RequestId, answer: Answer) -> Checked {
        if Self::is_log_read(request) {
            return self.log_was_read(member, request, &answer);
        }
        if let Answer::Applied { id, answer } = &answer {
            self.clients.answered(self.hosts[member].id, request, *id, answer)?;
        }
        let mut found = None;
        let asked = self.clients.asked(request);
        let turn = match (&answer, asked) {
            (Answer::Applied { answer: machine::Answer::Opened(id), .. }, Some(Asked::Register)) => {
                self.clients.opened(self.now, request, *id)
            }
            (
                Answer::Applied { answer: machine::Answer::SessionExpired, .. },
                Some(Asked::InSession { .. }),
            ) => {
                self.counters.mark(Mark::SessionExpired);
                self.clients.expired(self.now, request)
            }
            _ => None,
        };
        if let Some(turn) = turn {
            self.schedule(turn.at, Happening::Client(turn));
            return Ok(());
        }
        let outcome = match answer {
            Answer::Applied { id, answer } if answer.is_applied() => Outcome::Committed(id),
            // Without the answer a command of a session is sent again.
            Answer::Unanswered(_) if matches!(asked, Some(Asked::InSession { .. } | Asked::Register)) => {
                Outcome::Unknown
            }
            Answer::Unanswered(id) | Answer::Reconfigured(id) => Outcome::Committed(id),
            // A duplicate whose client no longer waits.
            Answer::Applied {
                answer:
                    machine::Answer::Superseded | machine::Answer::SessionExpired | machine::Answer::Opened(_),
                ..
            } if asked.is_none_or(|asked| !matches!(asked, Asked::Write { .. })) => Outcome::Unknown,
            Answer::Applied { answer, .. } => {
                return Err(Violated::new("Sessions", format!("{asked:?} was answered {answer:?}")));
            }
            Answer::Read { index, until, answer } => {
                found = found_in(&answer);
                Outcome::Ready { index, until }
            }
            Answer::NotCaughtUp(id) => Outcome::NotCaughtUp(id),
            Answer::Cancelled => Outcome::Cancelled,
            Answer::Transferred => Outcome::Transferred,
            Answer::NotTransferred => Outcome::NotTransferred,
            Answer::Refused(replica::ReplicaRefusal::Raft(refusal)) => Outcome::Refused(refusal),
            Answer::Refused(refusal) => {
                if refusal == replica::ReplicaRefusal::TooMany {
                    self.counters.mark(Mark::TooManyRequests);
                }
                Outcome::Refused(Refusal::Busy)
            }
            Answer::Unknown | Answer::Snapshot(_) | Answer::Entries(_) => Outcome::Unknown,
        };
        self.respond(member, request, outcome, found)
    }

    fn is_spoiled(&self, member: usize) -> bool {
        matches!(&self.hosts[member].body, MemberBody::FullReplica(full) if full.spoiled)
    }

    /// A replica has stopped by itself.
    fn halted(&mut self, member: usize, halt: &Halt) -> Checked {
        let id = self.hosts[member].id;
        self.trace_about(id, || format!("member {id} halts: {halt}"));
        match halt {
            Halt::Stopped => Ok(()),
            Halt::Violation(Violation::StaleIncarnation { .. }) => {
                self.counters.mark(Mark::WipeRefused);
                self.hosts[member].is_stale = true;
                Ok(())
            }
            Halt::Disk(_) | Halt::Damaged(_) if self.is_spoiled(member) => {
                self.counters.mark(match halt {
                    Halt::Disk(_) => Mark::DiskHalt,
                    _ => Mark::DamageFound,
                });
                // It stops by itself. Half the time its machine lives on for sure.
                let stops = Stream::named(self.scenario.seed, "how it stops", self.now).coin();
                if let MemberBody::FullReplica(full) = &mut self.hosts[member].body {
                    full.next_outage = stops.then_some(Outage::Kill);
                }
                self.crash(member, FaultKind::Crash);
                self.hosts[member].down += 1;
                let pause = self.hosts[member].stream.skewed(1_000, 1_000_000) * 1_000;
                if self.stage.is_some() {
                    self.hosts[member].down = 0;
                    return self.start(member);
                }
                self.schedule(self.now + pause, Happening::LetUp { member });
                Ok(())
            }
            _ => Err(Violated::new("Halt", format!("replica {id}: {halt}"))),
        }
    }
}

/// How a message is lost to a fault of the network, where it is.
fn loss_by(kind: FaultKind) -> Option<Loss> {
    match kind {
        FaultKind::Cut => Some(Loss::LinkCut),
        FaultKind::Drop => Some(Loss::Dropped),
        FaultKind::QueueFull => Some(Loss::QueueFull),
        _ => None,
    }
}

/// A member carries out a command a second time.
fn carried_out_twice(checks: &Checks, member: NodeId, (once, again): (Once, Index), now: Stamp) -> Violated {
    let first = once.at.unwrap_or_default();
    let detail = format!("the command that entry {first} holds is carried out again at {again}");
    let appended = [first, again].into_iter().filter_map(|index| checks.appended(index));
    let acts = Part::of(member, now, Involvement::Acts);
    let property = if once.in_session { "Sessions" } else { "Forwarding" };
    Finding::new(detail, appended.chain([acts])).of(property)
}

/// Whether an operation is one that a disk takes its time for.
fn takes_time(operation: &Operation) -> bool {
    matches!(operation, Operation::Sync(_) | Operation::SyncDirectory | Operation::Create { .. })
}

fn perform(work: &mut DiskWork, disk: &mut SimDisk, written: &mut Written) -> Result<(), DiskError> {
    let operation = &work.job.operations[work.done];
    let bytes = operation.perform(disk)?;
    if matches!(operation, Operation::Read { .. }) {
        work.read.push(bytes);
    }
    work.done += 1;
    if work.job.lane == Lane::Log {
        written.carried_out(&work.job.operations, work.done);
    }
    Ok(())
}
