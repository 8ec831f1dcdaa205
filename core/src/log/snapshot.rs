//! What stands in for the entries that a log no longer has.

use crate::membership::Membership;
use crate::types::LogId;
use alloc::sync::Arc;
use core::fmt;

/// What the kernel knows of a snapshot: everything about it but its bytes, which are the host's.
///
/// The snapshot at index zero is the empty state with the group's first membership: how a cluster begins, see
/// [`Durable::bootstrap`](crate::durable::Durable::bootstrap).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The last entry whose effects are in it.
    pub last: LogId,
    /// The entry that holds the membership as of `last`; zero for the first membership.
    pub configured: LogId,
    /// The membership as of `last`, not the latest (thesis 5.1).
    pub membership: Arc<Membership>,
}

impl Snapshot {
    /// Whether its fields agree with one another.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.configured <= self.last && self.configured.index <= self.last.index
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {} {}", self.last, self.membership)
    }
}
