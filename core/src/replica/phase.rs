//! How far a replica is in its life.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It has not taken its first step.
    Fresh,
    Running,
    /// It was shut down, and something is still under way.
    Stopping,
    Halted,
}

impl Phase {
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::Stopping | Self::Halted)
    }
}
