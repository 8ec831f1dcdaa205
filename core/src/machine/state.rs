//! What an embedder writes: the state that a group replicates.

use crate::types::LogId;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A deterministic state machine: the same commands in the same order give the same state and the same
/// answers on every member.
///
/// So it has no clock, draws no random numbers, reads no files, and keeps to the order of its own containers
/// (a `BTreeMap`, not a `HashMap`, wherever an order shows). What a command needs of such things, its
/// proposer puts into the command. A command must have the same effect on members of different versions of a
/// program too.
///
/// It lives in memory: when a member starts, it is made anew from the last snapshot and the log after it.
///
/// A state that fits into one buffer gets its snapshots nearly for free, with [`BufferedSnapshot`] and
/// [`BufferedRestore`]; [`machine`](super) shows it.
pub trait StateMachine: Sized {
    /// The state at one moment, from which a snapshot is read while the state goes on.
    type Snapshot: SnapshotReader;
    /// A state that is being built from a snapshot.
    type Restore: Restore<State = Self>;

    /// Carries out a command, and gives what its client gets for an answer. `at` is the entry that holds it,
    /// and is the same on every member. A command that it cannot carry out (garbage, say, for clients send
    /// what they like) is answered, too: it must not panic, or it will on every member.
    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8>;

    /// Answers a question about the state, and changes nothing.
    fn query(&self, query: &[u8]) -> Vec<u8>;

    /// The state as it is now. No command is applied before this returns, so it should be quick: share what
    /// it can, and leave the writing to [`SnapshotReader::read`].
    fn snapshot(&self) -> Self::Snapshot;

    /// Begins to build the state of a snapshot, which may then take the place of this one. This one gives
    /// what is no part of any state (its configuration, say) and stays as it is.
    fn restore(&self) -> Self::Restore;

    /// A number that equal states have in common and different ones have not, see
    /// [`fingerprint`](super::fingerprint). The simulator compares members by it after every entry, to find
    /// the one at which they part; a real member hardly ever asks for it.
    fn digest(&self) -> u64;
}

/// What a snapshot is read from: bytes, bit by bit.
pub trait SnapshotReader {
    /// Appends the next bytes of the snapshot to `out`, about `enough` of them: it may stop at the first good
    /// place after that many. It appends nothing only at the end, and from then on. Equal states need not
    /// give equal bytes.
    fn read(&mut self, enough: usize, out: &mut Vec<u8>);
}

/// What a state is built from: the bytes of a snapshot, as its [`SnapshotReader`] gave them, but cut
/// anywhere.
pub trait Restore {
    /// What comes of it.
    type State;

    /// Takes the next bytes. After an error nothing more is asked of it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot>;

    /// Gives the state, once all bytes were taken.
    fn finish(self) -> Result<Self::State, BadSnapshot>;
}

/// Why bytes are no snapshot of this state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadSnapshot {
    /// What is wrong with them.
    pub reason: String,
}

impl BadSnapshot {
    /// It cannot be read, for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bytes are no snapshot that this member can read: {}", self.reason)
    }
}

impl core::error::Error for BadSnapshot {}

/// A snapshot that was written into one buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferedSnapshot {
    bytes: Vec<u8>,
    read: usize,
}

impl BufferedSnapshot {
    /// A snapshot that consists of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0 }
    }
}

impl SnapshotReader for BufferedSnapshot {
    fn read(&mut self, enough: usize, out: &mut Vec<u8>) {
        let left = &self.bytes[self.read..];
        let taken = left.len().min(enough.max(1));
        out.extend_from_slice(&left[..taken]);
        self.read += taken;
    }
}

/// Gathers all bytes of a snapshot, and builds the state from them at once. It holds the whole snapshot
/// meanwhile.
#[derive(Clone, Debug)]
pub struct BufferedRestore<S> {
    bytes: Vec<u8>,
    build: fn(&[u8]) -> Result<S, BadSnapshot>,
}

impl<S> BufferedRestore<S> {
    /// `build` makes the state of its bytes: the reverse of what went into [`BufferedSnapshot::new`].
    pub fn new(build: fn(&[u8]) -> Result<S, BadSnapshot>) -> Self {
        Self { bytes: Vec::new(), build }
    }
}

impl<S> Restore for BufferedRestore<S> {
    type State = S;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<S, BadSnapshot> {
        (self.build)(&self.bytes)
    }
}
