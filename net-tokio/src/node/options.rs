//! What a node is told once.

use crate::transport;
use kontiki_core::machine::Limits;
use kontiki_core::{config, replica, wal};
use serde::{Deserialize, Serialize};

/// The settings of a node, all of which have a default. Plain data: checked when the node is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeOptions {
    /// The kernel's: times, limits, what is on. Its `seed` is drawn from the system's entropy where it is
    /// zero.
    pub raft: config::Options,
    /// The replica's: snapshots, limits, whether commands are sent on to the leader (here they are unless
    /// told).
    pub replica: replica::ReplicaOptions,
    /// The log's.
    pub wal: wal::WalOptions,
    /// How much is remembered of sessions: **the same on every member for the whole life of a group**.
    pub sessions: Limits,
    /// The sockets'.
    pub transport: transport::TransportOptions,
    /// How many requests of one connection may wait for their answers before it is read no further. Default
    /// 1,024.
    pub max_requests_of_a_client: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            raft: config::Options::default(),
            replica: replica::ReplicaOptions { forward: true, ..replica::ReplicaOptions::default() },
            wal: wal::WalOptions::default(),
            sessions: Limits::default(),
            transport: transport::TransportOptions::default(),
            max_requests_of_a_client: 1024,
        }
    }
}
