//! A state machine that is watched at work.

use kontiki_core::machine::{BadSnapshot, Restore, StateMachine, fingerprint};
use kontiki_core::types::{Index, LogId};

/// A state machine, and what it was last told to do: so what is carried out twice shows, whatever the
/// sessions say.
#[derive(Clone, Debug)]
pub(crate) struct Watched<M> {
    pub(crate) inner: M,
    /// The fingerprint of the last command, and its entry.
    pub(crate) last: Option<(Index, u64)>,
}

impl<M> Watched<M> {
    /// A state that was told nothing yet.
    pub(crate) fn new(inner: M) -> Self {
        Self { inner, last: None }
    }
}

/// The same, while it is being built.
#[derive(Debug)]
pub(crate) struct Rebuilt<R>(R);

impl<M: StateMachine> StateMachine for Watched<M> {
    type Snapshot = M::Snapshot;
    type Restore = Rebuilt<M::Restore>;

    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8> {
        self.last = Some((at.index, fingerprint(&[command])));
        self.inner.apply(at, command)
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.inner.query(query)
    }

    fn snapshot(&self) -> M::Snapshot {
        self.inner.snapshot()
    }

    fn restore(&self) -> Rebuilt<M::Restore> {
        Rebuilt(self.inner.restore())
    }

    fn digest(&self) -> u64 {
        self.inner.digest()
    }
}

impl<R: Restore> Restore for Rebuilt<R> {
    type State = Watched<R::State>;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.0.write(bytes)
    }

    fn finish(self) -> Result<Watched<R::State>, BadSnapshot> {
        Ok(Watched::new(self.0.finish()?))
    }
}
