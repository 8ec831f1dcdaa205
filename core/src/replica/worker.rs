//! The state machine's side: does what a replica asks of it, on whatever thread the host likes.

use crate::log::Snapshot;
use crate::machine::{
    BadSnapshot, Machine, MachineRestore, MachineSnapshot, Restore, SnapshotReader, StateMachine,
};
use crate::replica::io::{MachineDone, MachineJob, TaskId};
use crate::types::LogId;
use alloc::vec::Vec;
use core::fmt;

/// A [`Machine`] at work. Give it the [`MachineJob`]s in the order in which they come, and the replica what
/// it answers.
///
/// ```
/// use kontiki_core::kv::Kv;
/// use kontiki_core::machine::Machine;
/// use kontiki_core::replica::{MachineDone, MachineJob, Worker};
/// use kontiki_core::types::RequestId;
///
/// let mut worker = Worker::new(Machine::new(Kv::default()));
/// let asked = MachineJob::Query { read: RequestId(1), query: vec![] };
/// assert!(matches!(worker.run(asked), Some(MachineDone::Queried { read: RequestId(1), .. })));
/// ```
pub struct Worker<S: StateMachine> {
    machine: Machine<S>,
    snapshot: Option<(TaskId, MachineSnapshot<S::Snapshot>)>,
    restore: Option<(TaskId, Restoring<S>)>,
}

/// A machine that is being built, or what was wrong with its bytes.
type Restoring<S> = Result<MachineRestore<S>, BadSnapshot>;

impl<S: StateMachine> Worker<S> {
    /// A worker that begins with this machine, which must have applied nothing: the replica tells it what to
    /// begin with.
    pub fn new(machine: Machine<S>) -> Self {
        Self { machine, snapshot: None, restore: None }
    }

    /// The machine as it is now.
    pub fn machine(&self) -> &Machine<S> {
        &self.machine
    }

    /// Does a job, and gives what to report with [`Input::Machine`](crate::replica::Input::Machine), where
    /// there is something.
    pub fn run(&mut self, job: MachineJob) -> Option<MachineDone> {
        match job {
            MachineJob::Apply(entries) => {
                let result =
                    self.machine.apply(&entries).map(|answers| (self.machine.applied().index, answers));
                Some(MachineDone::Applied { result })
            }
            MachineJob::Query { read, query } => {
                Some(MachineDone::Queried { read, answer: self.machine.query(&query) })
            }
            MachineJob::Snapshot(task) => {
                self.snapshot = Some((task, self.machine.snapshot()));
                None
            }
            MachineJob::Chunk { task, max_bytes } => {
                let mut bytes = Vec::new();
                if let Some((_, snapshot)) = self.snapshot.as_mut().filter(|(current, _)| *current == task) {
                    snapshot.read(max_bytes as usize, &mut bytes);
                }
                Some(MachineDone::Chunk { task, bytes })
            }
            MachineJob::Forget(task) => {
                self.snapshot.take_if(|(current, _)| *current == task);
                None
            }
            MachineJob::Feed { task, bytes } => Some(self.feed(task, &bytes)),
            MachineJob::Restore { task, snapshot } => {
                let result = self.finish(task, &snapshot);
                Some(MachineDone::Restored { task, result })
            }
        }
    }

    fn feed(&mut self, task: TaskId, bytes: &[u8]) -> MachineDone {
        let (_, restore) = match self.restore.take() {
            Some(under_way) if under_way.0 == task => self.restore.insert(under_way),
            _ => self.restore.insert((task, Ok(self.machine.restore()))),
        };
        let result = match restore {
            Ok(building) => building.write(bytes),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result {
            *restore = Err(error.clone());
        }
        MachineDone::Fed { task, result }
    }

    /// The machine of the snapshot takes the place of the one that is.
    fn finish(&mut self, task: TaskId, snapshot: &Snapshot) -> Result<LogId, BadSnapshot> {
        let built = match self.restore.take() {
            Some((current, restore)) if current == task => restore?.finish()?,
            _ => return Err(BadSnapshot::new("none of its bytes have come")),
        };
        if built.applied() != snapshot.last {
            return Err(BadSnapshot::new("it is of another entry than its file says"));
        }
        self.machine = built;
        Ok(self.machine.applied())
    }
}

impl<S: StateMachine> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("applied", &self.machine.applied()).finish_non_exhaustive()
    }
}
