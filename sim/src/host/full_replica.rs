//! A full replica: a replica, its state machine at work, and what its disk has yet to do.

use super::running::Crashed;
use super::written::Written;
use crate::application::Reached;
use crate::check::Violated;
use crate::clients::Found;
use crate::disk::{DiskModel, SyncTimes};
use crate::fault::FaultKind;
use crate::part::Stamp;
use crate::quiet::{quietly, text_of};
use crate::scenario::{ReplicaSpec, Scenario};
use crate::storage::SimDisk;
use crate::stream::Stream;
use crate::watched::Watched;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entries, Entry};
use kontiki_core::machine::{Limits, Machine, StateMachine};
use kontiki_core::replica::{self, DiskJob, Lane, MachineDone, MachineJob, Replica, Worker};
use kontiki_core::types::{Index, NodeId};
use kontiki_core::wal::{self, FileName};
use kontiki_core::wire;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// A whole replica, and the disk that it runs on.
#[derive(Debug)]
pub(crate) struct FullReplica<M: StateMachine> {
    pub(crate) spec: ReplicaSpec,
    /// What the disk must hold.
    pub(crate) model: DiskModel,
    pub(crate) times: SyncTimes,
    /// The disk itself, and what an empty one begins with.
    pub(crate) storage: SimDisk,
    pub(crate) begin: Durable,
    pub(crate) written: Written,
    /// Says whether the disk survives when the member crashes.
    outage: Stream,
    /// How the member crashes next, where that is settled.
    pub(crate) next_outage: Option<Outage>,
    /// After how many outputs power fails once the member, which was killed, has started again.
    pub(crate) power_fails_after: Option<u32>,
    /// Whether it was killed in the recovery before this one.
    pub(crate) killed_in_recovery: bool,
    /// Which sync fails next, where it is of no part of the log.
    pub(crate) failing: Option<Failing>,
    /// What the disk has damaged, and the member may not know of yet.
    pub(crate) damaged: Option<Damage>,
    /// Whether the disk ever did something that it should not have.
    pub(crate) spoiled: bool,
    /// None while the member is down, and while it takes a step.
    pub(crate) running: Option<Box<Running<M>>>,
}

/// Which sync fails, of those that are not of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failing {
    /// The next one.
    Any,
    /// The next one of a snapshot that is not whole yet.
    Snapshot,
}

impl Failing {
    /// Whether it is the sync of this file.
    pub(crate) fn is(self, file: FileName) -> bool {
        self == Self::Any || matches!(file, FileName::Partial { .. })
    }
}

/// How a member goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outage {
    /// Its power fails: of what was not synced anything may be lost.
    Power,
    /// It is killed, or stops by itself: what it has written can be read, and may be lost later.
    Kill,
}

/// What a disk has damaged since its member was last known to be whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    /// The member's life in which it did so last.
    pub(crate) life: u32,
    /// How often it did; a write that got to the place of another may have taken the last batch, of which
    /// nothing else tells, and counts for many.
    pub(crate) times: u32,
    /// When it did so last.
    pub(crate) at: Stamp,
    /// By which fault.
    pub(crate) by: FaultKind,
}

/// A replica that runs, and what works for it.
#[derive(Debug)]
pub(crate) struct Running<M: StateMachine> {
    pub(crate) replica: Replica,
    worker: Worker<Watched<M>>,
    log: VecDeque<DiskWork>,
    bulk: VecDeque<DiskWork>,
    /// What the state machine has to do; it is at work on the first.
    jobs: VecDeque<MachineJob>,
}

/// A job of a disk, and how far it is done.
#[derive(Debug)]
pub(crate) struct DiskWork {
    pub(crate) job: DiskJob,
    pub(crate) done: usize,
    pub(crate) read: Vec<Vec<u8>>,
}

/// A state machine that panicked.
#[derive(Debug)]
pub(crate) struct Panicked {
    /// At which entry, if at one.
    pub(crate) entry: Option<Entry>,
    pub(crate) text: String,
}

/// Why a state machine does not get to the end of a job.
#[derive(Debug)]
pub(crate) enum Interrupted {
    Panicked(Panicked),
    Violated(Violated),
}

impl<M: StateMachine> FullReplica<M> {
    pub(crate) fn new(spec: ReplicaSpec, begin: Durable, times: SyncTimes, outage: Stream) -> Self {
        Self {
            spec,
            model: DiskModel::new(begin.clone()),
            times,
            storage: SimDisk::default(),
            begin,
            written: Written::default(),
            outage,
            next_outage: None,
            power_fails_after: None,
            killed_in_recovery: false,
            failing: None,
            damaged: None,
            spoiled: false,
            running: None,
        }
    }

    /// Its power fails, or it is killed: as chance will have it where nothing says how.
    pub(crate) fn crash(&mut self, stream: &mut Stream) -> Crashed {
        self.running = None;
        let drawn = if self.outage.below(4) == 0 { Outage::Kill } else { Outage::Power };
        if self.next_outage.take().unwrap_or(drawn) == Outage::Kill {
            self.disarm();
            return Crashed::Killed;
        }
        self.disarm();
        let lost = self.storage.crash(stream);
        self.written.power_fails();
        Crashed::Power { lost: lost.writes, torn: lost.torn }
    }

    /// Its disk will do nothing wrong that it was told to.
    pub(crate) fn disarm(&mut self) {
        self.storage.disarm();
        self.failing = None;
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64, member: u64) {
        self.outage = Stream::named(seed, "outage", member);
    }

    pub(crate) fn wipe(&mut self) {
        self.model.wipe();
        self.storage = SimDisk::default();
        self.begin = Durable::default();
        self.damaged = None;
    }
}

impl<M: StateMachine> Running<M> {
    pub(crate) fn new(replica: Replica, state: M, limits: Limits) -> Self {
        let machine = Machine::with_limits(Watched::new(state), limits).expect("limits that were checked");
        Self {
            replica,
            worker: Worker::new(machine),
            log: VecDeque::new(),
            bulk: VecDeque::new(),
            jobs: VecDeque::new(),
        }
    }

    pub(crate) fn lane(&mut self, lane: Lane) -> &mut VecDeque<DiskWork> {
        match lane {
            Lane::Log => &mut self.log,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// The disk shall do this. Returns whether it has nothing else to do in that lane.
    pub(crate) fn add_disk_job(&mut self, job: DiskJob) -> bool {
        let lane = self.lane(job.lane);
        lane.push_back(DiskWork { job, done: 0, read: Vec::new() });
        lane.len() == 1
    }

    /// The state machine shall do this. Returns whether it has nothing else to do.
    pub(crate) fn add_machine_job(&mut self, job: MachineJob) -> bool {
        self.jobs.push_back(job);
        self.jobs.len() == 1
    }

    /// What the state machine is at work on.
    pub(crate) fn machine_job(&self) -> Option<&MachineJob> {
        self.jobs.front()
    }

    /// The state machine and its sessions, as they are now.
    pub(crate) fn machine(&self) -> &Machine<Watched<M>> {
        self.worker.machine()
    }

    /// The state machine is done with what it was at work on. It is shown at every entry that it gets to.
    pub(crate) fn work(
        &mut self,
        mut show: impl FnMut(Reached<'_, M>) -> Result<(), Violated>,
    ) -> Result<Option<MachineDone>, Interrupted> {
        let member = self.replica.status().id;
        let Some(job) = self.jobs.pop_front() else { return Ok(None) };
        match job {
            MachineJob::Apply(entries) => self.apply(&entries, show).map(Some),
            MachineJob::Query { read, query } => {
                let at = self.machine().applied().index.get();
                match self.run(MachineJob::Query { read, query }, None)? {
                    // The simulator wants to know as of when.
                    Some(MachineDone::Queried { read, answer }) => {
                        let answer = [&at.to_le_bytes()[..], &answer].concat();
                        Ok(Some(MachineDone::Queried { read, answer }))
                    }
                    done => Ok(done),
                }
            }
            job => {
                let done = self.run(job, None)?;
                if let Some(MachineDone::Restored { result: Ok(_), .. }) = &done {
                    let machine = self.worker.machine();
                    show(Reached { member, machine, digest: machine.digest(), entry: None })
                        .map_err(Interrupted::Violated)?;
                }
                Ok(done)
            }
        }
    }

    /// Applies entries one by one, so that each state is seen.
    fn apply(
        &mut self,
        entries: &Entries,
        mut show: impl FnMut(Reached<'_, M>) -> Result<(), Violated>,
    ) -> Result<MachineDone, Interrupted> {
        let member = self.replica.status().id;
        let (mut applied, mut answers) = (Index::ZERO, Vec::new());
        for entry in entries.iter() {
            let one = MachineJob::Apply(std::iter::once(entry.clone()).collect());
            let Some(MachineDone::Applied { result }) = self.run(one, Some(entry))? else { break };
            match result {
                Ok((index, more)) => {
                    applied = index;
                    answers.extend(more);
                    let machine = self.worker.machine();
                    show(Reached { member, machine, digest: machine.digest(), entry: Some(entry) })
                        .map_err(Interrupted::Violated)?;
                }
                Err(error) => return Ok(MachineDone::Applied { result: Err(error) }),
            }
        }
        Ok(MachineDone::Applied { result: Ok((applied, answers)) })
    }

    /// Does a job. A panic is a finding.
    fn run(&mut self, job: MachineJob, entry: Option<&Entry>) -> Result<Option<MachineDone>, Interrupted> {
        let mut done = None;
        quietly(AssertUnwindSafe(|| done = self.worker.run(job))).map_err(|panic| {
            Interrupted::Panicked(Panicked { entry: entry.cloned(), text: text_of(&*panic) })
        })?;
        Ok(done)
    }
}

impl ReplicaSpec {
    /// The log's settings.
    pub(crate) fn wal(&self) -> wal::WalOptions {
        let segment_bytes = u64::from(self.segment_blocks) * 4_096;
        wal::WalOptions { segment_bytes, cached_bytes: self.cached_bytes }
    }

    /// The settings of sessions.
    pub(crate) fn session_limits(&self) -> Limits {
        Limits { idle_entries: self.session_idle, ..Limits::default() }
    }

    /// The settings of a replica.
    pub(crate) fn options(&self, scenario: &Scenario, id: NodeId) -> replica::ReplicaOptions {
        let us = Duration::from_micros;
        let every = scenario.snapshots.every;
        let election = scenario.options.election_timeout_max;
        let old = self.old_wire.contains(&id);
        let limits = &self.limits;
        replica::ReplicaOptions {
            max_requests: limits.max_requests,
            max_query_bytes: limits.max_query_bytes,
            max_waiting_query_bytes: limits.max_waiting_query_bytes,
            apply_bytes: self.apply_bytes,
            snapshot_every_bytes: limits.snapshot_every_bytes,
            snapshot_every_entries: if every == 0 { u64::MAX } else { every },
            // Files that hold the same are not cut the same everywhere.
            snapshot_chunk_bytes: self.chunk_bytes + (id.get() % 3) as u32,
            snapshot_window: self.window,
            keep_snapshots: self.keep_snapshots as usize,
            snapshot_bytes_per_second: limits.snapshot_bytes_per_second,
            snapshot_retries: limits.snapshot_retries,
            snapshot_timeout: election.max(us(20_000)),
            full_disk_retry: election,
            hello_interval: election,
            max_page_entries: limits.max_page_entries,
            max_page_bytes: limits.max_page_bytes,
            forward: self.forward,
            forward_timeout: election.max(us(20_000)) * 4,
            wire_version: if old { wire::OLDEST } else { wire::VERSION },
        }
    }
}

/// What a state machine answered, and as of which entry.
pub(crate) fn found_in(answer: &[u8]) -> Option<Found> {
    let (at, answer) = answer.split_first_chunk()?;
    Some(Found { answer: answer.to_vec(), at: Index::new(u64::from_le_bytes(*at)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_fails_of_any_file_or_of_a_snapshot_that_is_not_whole() {
        let partial = FileName::Partial { term: 1, index: 2 };
        let others = [FileName::Spare(1), FileName::Snapshot { term: 1, index: 2 }];
        assert!(Failing::Snapshot.is(partial) && !others.iter().any(|file| Failing::Snapshot.is(*file)));
        assert!(Failing::Any.is(partial) && others.iter().all(|file| Failing::Any.is(*file)));
    }
}
