//! What is replicated: a [`StateMachine`], and the client sessions that make a command count once.
//!
//! A [`Machine`] takes the committed entries of the log, in order, and gives the answers. It is plain code
//! without a clock or a disk, and may live on a thread of its own: a slow command then delays answers, and
//! nothing else.
//!
//! ```
//! use kontiki_core::log::{Entry, EntryBody};
//! use kontiki_core::machine::{Answer, BadSnapshot, Command, BufferedRestore, Machine, SnapshotReader, Restore, StateMachine, BufferedSnapshot};
//! use kontiki_core::types::LogId;
//!
//! /// Adds up what it is told.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Snapshot = BufferedSnapshot;
//!     type Restore = BufferedRestore<Self>;
//!
//!     fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
//!         self.0 += command.len() as u64;
//!         self.0.to_le_bytes().to_vec()
//!     }
//!
//!     fn query(&self, _query: &[u8]) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!
//!     fn snapshot(&self) -> BufferedSnapshot {
//!         BufferedSnapshot::new(self.0.to_le_bytes().to_vec())
//!     }
//!
//!     fn restore(&self) -> BufferedRestore<Self> {
//!         BufferedRestore::new(|bytes| match bytes.try_into() {
//!             Ok(bytes) => Ok(Sum(u64::from_le_bytes(bytes))),
//!             Err(_) => Err(BadSnapshot::new("a sum has eight bytes")),
//!         })
//!     }
//!
//!     fn digest(&self) -> u64 {
//!         self.0
//!     }
//! }
//!
//! // A client opens a session, and then sends the same command twice: it has had no answer to the first.
//! let entry = |index, command: Command<'_>| Entry {
//!     id: LogId::new(1, index),
//!     body: EntryBody::Data(command.encode()),
//! };
//! let mut machine = Machine::new(Sum::default());
//! let opened = machine.apply(&[entry(1, Command::Register)])?;
//! let Answer::Opened(session) = opened[0].1 else { panic!("not {opened:?}") };
//! let add = Command::InSession { session, sequence: 1, acknowledged: 1, command: b"four" };
//! let answers = machine.apply(&[entry(2, add), entry(3, add)])?;
//! assert_eq!(answers[0].1, answers[1].1);
//! assert_eq!(machine.state().0, 4);
//!
//! // Another member gets its snapshot, and knows the session too.
//! let (mut snapshot, mut bytes) = (machine.snapshot(), Vec::new());
//! snapshot.read(usize::MAX, &mut bytes);
//! let mut restore = Machine::new(Sum::default()).restore();
//! restore.write(&bytes)?;
//! let mut other = restore.finish()?;
//! assert_eq!(other.digest(), machine.digest());
//! assert_eq!(other.apply(&[entry(4, add)])?[0].1, answers[0].1);
//! assert_eq!(other.state().0, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sessions
//!
//! A client that has had no answer does not know whether its command was applied, and must try again; the
//! command then lies in the log twice. Within a session ([`Command::Register`] opens one) it is applied once,
//! and the later copies get the first one's answer. A client may have up to [`Limits::max_answers`] commands
//! under way at a time; they are applied in the order of the log, which may be another than that of their
//! numbers. [`Client`] keeps the books at the client's end. Sessions end by [`Command::Close`], or expire,
//! see [`Limits`]; a command of a session that there is not is never applied ([`Answer::SessionExpired`]),
//! for it might be the second time. They are part of the state and of its snapshots.

mod answer;
mod applying;
pub(crate) mod bytes;
mod client;
mod command;
mod sessions;
mod snapshot;
mod state;

pub use crate::digest::fingerprint;
pub use answer::Answer;
pub use applying::{ApplyError, Machine};
pub use client::{Client, TooMany};
pub use command::{Command, Garbled, SessionId};
pub use sessions::{Limits, LimitsError};
pub use snapshot::{MachineRestore, MachineSnapshot};
pub use state::{BadSnapshot, BufferedRestore, BufferedSnapshot, Restore, SnapshotReader, StateMachine};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
