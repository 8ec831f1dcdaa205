//! A full replica: a replica, its state machine at work, and what its disk has yet to do.

use super::Crashed;
use super::written::Written;
use crate::disk::{DiskModel, SyncTimes};
use crate::scenario::{ReplicaSpec, Scenario};
use crate::storage::SimDisk;
use crate::store::Put;
use crate::stream::Stream;
use kontiki_core::durable::Durable;
use kontiki_core::kv::{self, Kv, KvRestore, KvSnapshot};
use kontiki_core::machine::{BadSnapshot, Command, Limits, Machine, Restore, StateMachine, fingerprint};
use kontiki_core::replica::{self, DiskJob, Lane, MachineDone, MachineJob, Replica, Worker};
use kontiki_core::types::{Index, LogId, NodeId, Payload};
use kontiki_core::{wal, wire};
use std::collections::VecDeque;
use std::time::Duration;

/// A whole replica, and the disk that it runs on.
#[derive(Debug)]
pub(crate) struct FullReplica {
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
    /// What the disk has damaged, and the member may not know of yet.
    pub(crate) damaged: Option<Damage>,
    /// Whether the disk ever did something that it should not have.
    pub(crate) spoiled: bool,
    /// None while the member is down, and while it takes a step.
    pub(crate) running: Option<Box<Running>>,
}

/// What a disk has damaged since its member was last known to be whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    /// The member's life in which it did so last.
    pub(crate) life: u32,
    /// How often it did; a write that got to the place of another may have taken the last batch, of which
    /// nothing else tells, and counts for many.
    pub(crate) times: u32,
}

/// A replica that runs, and what works for it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) replica: Replica,
    worker: Worker<Watched>,
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

/// A job of the state machine, done, and what its state was after each entry.
pub(crate) struct Worked {
    pub(crate) done: Option<MachineDone>,
    pub(crate) digests: Vec<(Index, u64)>,
    /// Which commands it carried out, by their fingerprints, and at which entries.
    pub(crate) carried_out: Vec<(Index, u64)>,
}

/// A map that remembers what it was last told to do: so what is carried out twice shows, whatever the
/// sessions say.
#[derive(Default, Debug)]
pub(crate) struct Watched {
    kv: Kv,
    last: Option<(Index, u64)>,
}

/// The same, while it is being built.
#[derive(Debug)]
pub(crate) struct Rebuilt(KvRestore);

impl StateMachine for Watched {
    type Snapshot = KvSnapshot;
    type Restore = Rebuilt;

    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8> {
        self.last = Some((at.index, fingerprint(&[command])));
        self.kv.apply(at, command)
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.kv.query(query)
    }

    fn snapshot(&self) -> KvSnapshot {
        self.kv.snapshot()
    }

    fn restore(&self) -> Rebuilt {
        Rebuilt(self.kv.restore())
    }

    fn digest(&self) -> u64 {
        self.kv.digest()
    }
}

impl Restore for Rebuilt {
    type State = Watched;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.0.write(bytes)
    }

    fn finish(self) -> Result<Watched, BadSnapshot> {
        Ok(Watched { kv: self.0.finish()?, last: None })
    }
}

impl FullReplica {
    pub(crate) fn new(spec: ReplicaSpec, begin: Durable, times: SyncTimes, outage: Stream) -> Self {
        Self {
            spec,
            model: DiskModel::new(begin.clone()),
            times,
            storage: SimDisk::default(),
            begin,
            written: Written::default(),
            outage,
            damaged: None,
            spoiled: false,
            running: None,
        }
    }

    /// Its power fails, or it is killed, as chance will have it.
    pub(crate) fn crash(&mut self, stream: &mut Stream) -> Crashed {
        self.running = None;
        if self.outage.below(4) == 0 {
            self.storage.disarm();
            return Crashed::Killed;
        }
        let lost = self.storage.crash(stream);
        Crashed::Power { lost: lost.writes, torn: lost.torn }
    }

    pub(crate) fn wipe(&mut self) {
        self.model.wipe();
        self.storage = SimDisk::default();
        self.begin = Durable::default();
        self.damaged = None;
    }
}

impl Running {
    pub(crate) fn new(replica: Replica, limits: Limits) -> Self {
        let machine = Machine::with_limits(Watched::default(), limits).expect("limits that were checked");
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

    /// The state machine is done with what it was at work on.
    pub(crate) fn work(&mut self) -> Option<Worked> {
        let (mut digests, mut carried_out) = (Vec::new(), Vec::new());
        let done = match self.jobs.pop_front()? {
            MachineJob::Apply(entries) => {
                let mut answers = Vec::new();
                let mut result = Ok(());
                let mut applied = Index::ZERO;
                for entry in entries.iter() {
                    let one = std::iter::once(entry.clone()).collect();
                    let Some(MachineDone::Applied { result: answered }) =
                        self.worker.run(MachineJob::Apply(one))
                    else {
                        break;
                    };
                    match answered {
                        Ok((index, more)) => {
                            applied = index;
                            answers.extend(more);
                            digests.push((index, self.worker.machine().digest()));
                            let last = self.worker.machine().state().last;
                            carried_out.extend(last.filter(|(at, _)| *at == index));
                        }
                        Err(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
                Some(MachineDone::Applied { result: result.map(|()| (applied, answers)) })
            }
            MachineJob::Query { read, query } => {
                let at = self.worker.machine().applied().index.get();
                match self.worker.run(MachineJob::Query { read, query }) {
                    // The simulator wants to know as of when.
                    Some(MachineDone::Queried { read, answer }) => {
                        let answer = [&at.to_le_bytes()[..], &answer].concat();
                        Some(MachineDone::Queried { read, answer })
                    }
                    done => done,
                }
            }
            job => {
                let done = self.worker.run(job);
                if let Some(MachineDone::Restored { result: Ok(last), .. }) = &done {
                    digests.push((last.index, self.worker.machine().digest()));
                }
                done
            }
        };
        Some(Worked { done, digests, carried_out })
    }
}

impl ReplicaSpec {
    /// The log's settings.
    pub(crate) fn wal(&self) -> wal::WalOptions {
        let segment_bytes = u64::from(self.segment_blocks) * 4_096;
        wal::WalOptions { segment_bytes, cached_bytes: self.cached_bytes }
    }

    /// The settings of sessions.
    pub(crate) fn limits(&self) -> Limits {
        Limits { idle_entries: self.session_idle, ..Limits::default() }
    }

    /// The settings of a replica.
    pub(crate) fn options(&self, scenario: &Scenario, id: NodeId) -> replica::ReplicaOptions {
        let us = Duration::from_micros;
        let every = scenario.snapshots.every;
        let election = scenario.options.election_timeout_max;
        let old = self.old_wire.contains(&id);
        replica::ReplicaOptions {
            apply_bytes: self.apply_bytes,
            snapshot_every_bytes: u64::MAX,
            snapshot_every_entries: if every == 0 { u64::MAX } else { every },
            // Files that hold the same are not cut the same everywhere.
            snapshot_chunk_bytes: self.chunk_bytes + (id.get() % 3) as u32,
            snapshot_window: self.window,
            keep_snapshots: self.keep_snapshots as usize,
            snapshot_bytes_per_second: 1 << 30,
            snapshot_timeout: election.max(us(20_000)),
            full_disk_retry: election,
            hello_interval: election,
            max_page_entries: 24,
            wire_version: if old { wire::OLDEST } else { wire::VERSION },
            ..replica::ReplicaOptions::default()
        }
    }
}

/// A write to a register, as a command of at least `size` bytes.
pub(crate) fn command(put: Put, size: usize) -> Payload {
    Command::Plain(&put_command(put, size)).encode()
}

/// The same without saying in which session, if in any.
pub(crate) fn put_command(put: Put, size: usize) -> Vec<u8> {
    let padding = size.saturating_sub(48).max(8);
    let mut value = put.value.to_le_bytes().to_vec();
    value.resize(padding, 0x2e);
    kv::Command::Put { key: &put.key.to_le_bytes(), value: &value }.encode()
}

/// The question what a register holds.
pub(crate) fn query(key: u64) -> Vec<u8> {
    kv::Query::Get { key: &key.to_le_bytes() }.encode()
}

/// What a register was found to hold, and as of which entry.
pub(crate) fn found(answer: &[u8]) -> Option<(Option<u64>, Index)> {
    let (at, reply) = answer.split_first_chunk()?;
    let value = match kv::Reply::decode(reply) {
        Ok(kv::Reply::Value(Some(value))) => Some(u64::from_le_bytes(*value.first_chunk()?)),
        _ => None,
    };
    Some((value, Index::new(u64::from_le_bytes(*at))))
}
