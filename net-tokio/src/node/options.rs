//! What a node is told once.

use crate::transport;
use kontiki_core::machine::Limits;
use kontiki_core::{config, replica, wal};
use serde::{Deserialize, Serialize};

/// The settings of a node, all of which have a default. Plain data: checked when the node is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The kernel's: times, limits, what is on. Its `seed` is drawn from the system's entropy where it is zero.
    pub raft: config::Options,
    /// The replica's: snapshots, limits, whether commands are sent on to the leader (here they are unless told).
    pub replica: replica::Options,
    /// The log's.
    pub wal: wal::Options,
    /// How much is remembered of sessions: **the same on every member for the whole life of a group**.
    pub sessions: Limits,
    /// The sockets'.
    pub transport: transport::Options,
    /// How many requests of one connection may wait for their answers before it is read no further. Default 1,024.
    pub max_requests_of_a_client: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            raft: config::Options::default(),
            replica: replica::Options { forward: true, ..replica::Options::default() },
            wal: wal::Options::default(),
            sessions: Limits::default(),
            transport: transport::Options::default(),
            max_requests_of_a_client: 1024,
        }
    }
}
