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
}

impl fmt::Display for ReplicaOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::Restore(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReplicaOpenError {}
