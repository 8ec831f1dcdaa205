//! Commands that are told apart by a number of their own, however alike they are.

use kontiki_core::machine::{BadSnapshot, Restore, StateMachine};
use kontiki_core::types::LogId;

/// A state machine whose commands come behind a number, of which it knows nothing.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<M>(pub(super) M);

/// A command behind its number.
pub(super) fn number(command: &[u8], number: u64) -> Vec<u8> {
    [&number.to_le_bytes()[..], command].concat()
}

/// The command without its number.
pub(super) fn command_in(bytes: &[u8]) -> &[u8] {
    bytes.get(size_of::<u64>()..).unwrap_or_default()
}

impl<M: StateMachine> StateMachine for Numbered<M> {
    type Snapshot = M::Snapshot;
    type Restore = RestoreNumbered<M::Restore>;

    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8> {
        self.0.apply(at, command_in(command))
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.0.query(query)
    }

    fn snapshot(&self) -> M::Snapshot {
        self.0.snapshot()
    }

    fn restore(&self) -> RestoreNumbered<M::Restore> {
        RestoreNumbered(self.0.restore())
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }
}

/// The same, while it is being built.
#[derive(Debug)]
pub(crate) struct RestoreNumbered<R>(R);

impl<R: Restore> Restore for RestoreNumbered<R> {
    type State = Numbered<R::State>;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.0.write(bytes)
    }

    fn finish(self) -> Result<Numbered<R::State>, BadSnapshot> {
        Ok(Numbered(self.0.finish()?))
    }
}
