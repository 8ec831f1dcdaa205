//! The options of a node.

use crate::transport;
use kontiki_core::machine::Limits;
use kontiki_core::{config, replica, wal};
use serde::{Deserialize, Serialize};

/// The options of a node, all with defaults. Plain data: checked when the node starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeOptions {
    /// The kernel's options: timeouts, limits, optional features. If its `seed` is zero, it is drawn from the
    /// system's entropy.
    pub raft: config::Options,
    /// The replica's options: snapshots, limits, and whether commands are forwarded to the leader (by default
    /// they are).
    pub replica: replica::ReplicaOptions,
    /// The log's options.
    pub wal: wal::WalOptions,
    /// The limits on sessions: **the same on every member for the whole life of a group**.
    pub sessions: Limits,
    /// The transport's options.
    pub transport: transport::TransportOptions,
    /// The number of requests of one connection that may wait for answers before it is read no further.
    /// Default 1,024.
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
