//! What a replica holds in memory beside its kernel.

use crate::replica::options::ReplicaOptions;

/// How many pieces of a snapshot one follower may wait for.
pub(super) const MAX_ASKED_PIECES: usize = 64;

/// What a replica holds in memory that its [`ReplicaOptions`] limit, beside what its kernel
/// [holds](crate::status::Held).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ReplicaHeld {
    /// Requests that wait for their answers.
    pub requests: usize,
    /// Bytes of the queries among them.
    pub query_bytes: u64,
    /// Pieces of the snapshot that is fetched which are asked for or being written.
    pub fetched_pieces: usize,
    /// Pieces of snapshots that one follower waits for; the most of any.
    pub asked_pieces: usize,
}

impl ReplicaHeld {
    /// The most that a replica with these options may hold.
    pub fn limit(options: &ReplicaOptions) -> Self {
        Self {
            requests: options.max_requests,
            query_bytes: options.max_waiting_query_bytes,
            fetched_pieces: options.snapshot_window as usize,
            asked_pieces: MAX_ASKED_PIECES,
        }
    }
}
