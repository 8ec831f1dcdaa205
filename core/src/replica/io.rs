//! What goes into a replica and what comes out of it: plain data, all of it.

use crate::event::{Proposal, ReadVia};
use crate::log::{Entries, Snapshot};
use crate::machine::{self, ApplyError, BadSnapshot};
use crate::membership::Change;
use crate::replica::answer::{Answer, Halt};
use crate::types::{Index, LogId, Member, NodeId, Payload, RequestId};
use crate::wal::{Disk, DiskError, Operation};
use alloc::vec::Vec;

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Time has passed. To be sent no later than [`Replica::deadline`](crate::replica::Replica::deadline).
    Wake,
    /// One whole frame of another member. It may be garbage.
    Frame {
        /// Its bytes, header included.
        bytes: Vec<u8>,
    },
    /// A client or an operator wants something. Answered by exactly one [`Output::Answer`].
    Request {
        /// What the answer will be addressed to.
        request: RequestId,
        /// What is wanted.
        ask: Ask,
    },
    /// Several commands at once, each an [`Ask::Command`] of its own: they share one write and one message to
    /// each follower.
    Commands(Vec<Proposal>),
    /// A [`DiskJob`] is done.
    Disk {
        /// Which.
        job: JobId,
        /// What its reads have read, in order; or how it failed.
        result: Result<Vec<Vec<u8>>, DiskError>,
    },
    /// A [`MachineJob`] is done.
    Machine(MachineDone),
    /// The connection to this member broke: a hint, see
    /// [`Event::PeerUnreachable`](crate::event::Event::PeerUnreachable).
    PeerUnreachable(NodeId),
    /// The member is about to be stopped. Everything that waits is answered; what is being written still is,
    /// and then [`Halt::Stopped`] says that it may go.
    Shutdown,
}

/// What a client or an operator may want.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    /// To have this applied: an encoded [`machine::Command`].
    Command(Payload),
    /// To ask the state machine something, and miss nothing that was acknowledged before.
    Query {
        /// What; the state machine knows what it means.
        query: Vec<u8>,
        /// How it is made sure that nothing is missed.
        via: ReadVia,
    },
    /// To have other members: see [`Reconfigure`](crate::event::Reconfigure).
    Reconfigure {
        /// Only if the membership is still that of this entry.
        expected: Option<LogId>,
        /// What to change.
        changes: Vec<Change>,
        /// Though no majority may be left that can be reached.
        force: bool,
    },
    /// To have the change given up that waits for newcomers: see
    /// [`CancelChange`](crate::event::Event::CancelChange).
    CancelChange,
    /// To have another leader: see [`Transfer`](crate::event::Transfer).
    Transfer {
        /// The next leader; `None` chooses the voter with most of the log.
        to: Option<NodeId>,
    },
    /// To have a snapshot taken here, now.
    Snapshot,
    /// To read in this member's log, committed or not. Answered by [`Answer::Entries`].
    Entries {
        /// Which entries.
        range: LogRange,
        /// How many bytes of them at most, but one entry at least: see
        /// [`Options::max_page_bytes`](crate::replica::ReplicaOptions::max_page_bytes).
        max_bytes: u64,
    },
}

/// Which part of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LogRange {
    /// So many from the first that is still there.
    First(u64),
    /// The last so many, by rising index.
    Last(u64),
    /// Everything after one index through another, as much as fits.
    Between(Index, Index),
}

/// Something to do. Frames may get lost; jobs may not.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send this to another member, at once.
    Frame {
        /// To whom.
        to: Member,
        /// By which way: what is in [`Lane::Bulk`] must not keep the other waiting.
        lane: Lane,
        /// The whole frame.
        bytes: Vec<u8>,
    },
    /// Do this to the disk, and report with [`Input::Disk`].
    Disk(DiskJob),
    /// Have the state machine do this, after all that came before, and report with [`Input::Machine`].
    Machine(MachineJob),
    /// The one answer to a request.
    Answer {
        /// Which request.
        request: RequestId,
        /// What became of it.
        answer: Answer,
    },
    /// The member goes no further. Said once, and the last of all outputs but the refusals of later requests.
    Halt(Halt),
}

/// Two ways for two kinds of work: neither may wait for the other, and each keeps its own order.
///
/// Between two members these are two connections. Whatever is on the bulk lane, a heartbeat, a vote and an
/// acknowledgement overtake it: so no entry is so large, and no link so slow, that a leader seems to be gone
/// while it sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// What elections and commits wait for: short messages; the log's batches.
    Log,
    /// What is large and may be late: entries, snapshots, long commands; what is read back, what is prepared.
    Bulk,
}

/// The number of a [`DiskJob`]. Numbers begin anew with each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// Some operations on the member's directory, to be carried out in order, and not further than to the first
/// that fails.
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
    /// Carries it out, and gives what to report.
    pub fn run(&self, disk: &mut impl Disk) -> Input {
        Input::Disk { job: self.id, result: perform(&self.operations, disk) }
    }
}

/// Carries out operations in order; what the reads among them have read.
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

/// Which snapshot or which restoration: what belongs to one that was given up is recognized.
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
