//! The inputs and outputs of a replica, as plain data.

use crate::event::{Proposal, ReadVia};
use crate::log::{Entries, Snapshot};
use crate::machine::{self, ApplyError, BadSnapshot};
use crate::membership::Change;
use crate::replica::answer::{Answer, Halt};
use crate::replica::page::LogRange;
use crate::types::{Index, LogId, Member, NodeId, Payload, RequestId};
use crate::wal::{Disk, DiskError, Operation};
use alloc::vec::Vec;

/// An input: something that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Time has passed. To be sent no later than [`Replica::deadline`](crate::replica::Replica::deadline).
    Wake,
    /// One whole frame of another member. It may be garbage.
    Frame {
        /// Its bytes, header included.
        bytes: Vec<u8>,
    },
    /// A request of a client or an operator. Answered by exactly one [`Output::Answer`].
    Request {
        /// The id that the answer carries.
        request: RequestId,
        /// The request.
        ask: Ask,
    },
    /// Several commands at once, each an [`Ask::Command`] of its own: they share one write and one message to
    /// each follower.
    Commands(Vec<Proposal>),
    /// A [`DiskJob`] is done.
    Disk {
        /// Which.
        job: JobId,
        /// The bytes of its reads, in order, or the error.
        result: Result<Vec<Vec<u8>>, DiskError>,
    },
    /// A [`MachineJob`] is done.
    Machine(MachineDone),
    /// The connection to this member broke: a hint, see
    /// [`Event::PeerUnreachable`](crate::event::Event::PeerUnreachable).
    PeerUnreachable(NodeId),
    /// The member is about to be stopped. Every waiting request is answered, writes in progress are finished,
    /// and then [`Halt::Stopped`] reports that the host may drop the replica.
    Shutdown,
}

/// A request of a client or an operator.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ask {
    /// Applies a command: an encoded [`machine::Command`].
    Command(Payload),
    /// Queries the state machine, which reflects everything acknowledged before (a linearizable read).
    Query {
        /// The query, in the state machine's own encoding.
        query: Vec<u8>,
        /// How the read is made linearizable.
        via: ReadVia,
    },
    /// Changes the membership: see [`Reconfigure`](crate::event::Reconfigure).
    Reconfigure {
        /// If set, the change is made only if the membership is still that of this entry.
        expected: Option<LogId>,
        /// The changes, which take effect together.
        changes: Vec<Change>,
        /// Makes the change even if no reachable majority is left.
        force: bool,
    },
    /// Cancels the change that waits for newcomers: see [`CancelChange`](crate::event::Event::CancelChange).
    CancelChange,
    /// Transfers leadership: see [`Transfer`](crate::event::Transfer).
    Transfer {
        /// The next leader; `None` chooses the voter with most of the log.
        to: Option<NodeId>,
    },
    /// Takes a snapshot on this member now.
    Snapshot,
    /// Reads entries of this member's log, committed or not. Answered by [`Answer::Entries`].
    Entries {
        /// Which entries.
        range: LogRange,
        /// How many bytes of them at most, but one entry at least: see
        /// [`Options::max_page_bytes`](crate::replica::ReplicaOptions::max_page_bytes).
        max_bytes: u64,
    },
}

/// An output: something to do. Frames may be lost; jobs may not.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send this to another member, at once.
    Frame {
        /// The addressee.
        to: Member,
        /// The lane: frames in [`Lane::Bulk`] must not delay the other lane.
        lane: Lane,
        /// The whole frame.
        bytes: Vec<u8>,
    },
    /// Carry out this job on the disk, and report with [`Input::Disk`].
    Disk(DiskJob),
    /// Give this job to the state machine, after all earlier ones, and report with [`Input::Machine`].
    Machine(MachineJob),
    /// The one answer to a request.
    Answer {
        /// Which request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The member has ended. Reported once, as the last output but for the refusals of later requests.
    Halt(Halt),
}

/// A lane for one of two kinds of work. Neither lane waits for the other, and each keeps its own order.
///
/// Between two members these are two connections. Heartbeats, votes and acknowledgements overtake the bulk
/// lane, so a large entry on a slow link does not make a leader seem dead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Work that elections and commits wait for: short messages and the log's batches.
    Log,
    /// Large work that may be late: entries, snapshots, long commands, reads, and the preparation of
    /// segments.
    Bulk,
}

/// The number of a [`DiskJob`]. Numbers begin anew with each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// Operations on the member's directory, to be carried out in order up to the first that fails.
#[derive(Clone, PartialEq, Debug)]
pub struct DiskJob {
    /// Its number.
    pub id: JobId,
    /// Jobs of one lane are carried out one after the other, in the order in which they come.
    pub lane: Lane,
    /// What to do.
    pub operations: Vec<Operation>,
}

impl DiskJob {
    /// Carries out the job and returns the input that reports it.
    pub fn run(&self, disk: &mut impl Disk) -> Input {
        Input::Disk { job: self.id, result: perform(&self.operations, disk) }
    }
}

/// Carries out operations in order and returns the bytes of the reads among them.
pub fn perform(operations: &[Operation], disk: &mut impl Disk) -> Result<Vec<Vec<u8>>, DiskError> {
    let mut read = Vec::new();
    for operation in operations {
        let bytes = operation.perform(disk)?;
        if matches!(operation, Operation::Read { .. }) {
            read.push(bytes);
        }
    }
    Ok(read)
}

/// The number of a snapshot or a restoration. It tells results of one that was given up apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(pub u64);

/// Work for the state machine, which a [`Worker`](crate::replica::Worker) does: one after the other, in
/// order.
#[derive(Clone, PartialEq, Debug)]
pub enum MachineJob {
    /// Apply these entries, which follow those applied before. Answered by [`MachineDone::Applied`].
    Apply(Entries),
    /// Answer this. Answered by [`MachineDone::Queried`].
    Query {
        /// Which query it is.
        read: RequestId,
        /// What is asked.
        query: Vec<u8>,
    },
    /// Take a snapshot of the state, and hold it. Answered by nothing.
    Snapshot(TaskId),
    /// Read on in the snapshot. Answered by [`MachineDone::Chunk`].
    Chunk {
        /// Of which snapshot.
        task: TaskId,
        /// How many bytes at most.
        max_bytes: u32,
    },
    /// Let go of the snapshot. Answered by nothing.
    Forget(TaskId),
    /// A piece of a snapshot, to be restored. The first of a task begins anew. Answered by
    /// [`MachineDone::Fed`].
    Feed {
        /// Which restoration.
        task: TaskId,
        /// The bytes that follow.
        bytes: Vec<u8>,
    },
    /// The snapshot is whole: go to its state. Answered by [`MachineDone::Restored`].
    Restore {
        /// Which restoration.
        task: TaskId,
        /// Which snapshot.
        snapshot: Snapshot,
    },
}

/// What the state machine has done.
#[derive(Clone, PartialEq, Debug)]
pub enum MachineDone {
    /// Entries are applied.
    Applied {
        /// How far everything is applied now, and the answer to each command among them.
        result: Result<(Index, Vec<(Index, machine::Answer)>), ApplyError>,
    },
    /// A query is answered.
    Queried {
        /// Which.
        read: RequestId,
        /// The answer.
        answer: Vec<u8>,
    },
    /// What follows in a snapshot.
    Chunk {
        /// Of which.
        task: TaskId,
        /// The bytes; empty at the end.
        bytes: Vec<u8>,
    },
    /// A piece of a snapshot was taken, or is none.
    Fed {
        /// Of which restoration.
        task: TaskId,
        /// What is wrong with it.
        result: Result<(), BadSnapshot>,
    },
    /// The state is that of the snapshot; or the bytes are no snapshot of this state machine.
    Restored {
        /// Which restoration.
        task: TaskId,
        /// The last entry whose effects are in it.
        result: Result<LogId, BadSnapshot>,
    },
}
