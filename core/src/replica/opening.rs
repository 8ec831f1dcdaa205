//! Why a replica cannot be opened.

use crate::durable::RestoreError;
use crate::replica::options::ReplicaOptionsError;
use core::fmt;

/// Why a replica cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicaOpenError {
    /// The options are wrong.
    Options(ReplicaOptionsError),
    /// The kernel rejects the recovered state.
    Restore(RestoreError),
    /// The kernel was told that its host writes or applies synchronously. A replica does neither: its jobs run
    /// elsewhere, and report.
    Synchronous,
}

impl fmt::Display for ReplicaOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::Restore(error) => error.fmt(f),
            Self::Synchronous => f.write_str(
                "synchronous_writes and synchronous_apply are for hosts of the bare kernel: leave both off for a \
                 replica, which goes on while its disk and its state machine are at work",
            ),
        }
    }
}

impl core::error::Error for ReplicaOpenError {}
