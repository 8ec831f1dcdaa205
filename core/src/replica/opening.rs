//! Opens a replica from the result of recovery.

use crate::config::Config;
use crate::durable::RestoreError;
use crate::raft::Raft;
use crate::replica::Replica;
use crate::replica::applying::Applying;
use crate::replica::clients::Clients;
use crate::replica::forwarding::Forwards;
use crate::replica::jobs::Jobs;
use crate::replica::log_lane::LogLane;
use crate::replica::options::{ReplicaOptions, ReplicaOptionsError};
use crate::replica::peers::Peers;
use crate::replica::phase::Phase;
use crate::replica::post::ReplicaCounters;
use crate::replica::reading::Reading;
use crate::replica::repeats::Repeats;
use crate::replica::snapshots::Snapshots;
use crate::time::Instant;
use crate::types::{Index, LogId};
use crate::wal::Recovery;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
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

impl Replica {
    /// Opens a member from its recovered directory, after every operation of [`Recovery::first`] was carried
    /// out. Its state machine has applied nothing yet.
    pub fn open(
        config: Config,
        options: ReplicaOptions,
        recovery: Recovery,
        now: Instant,
    ) -> Result<Self, ReplicaOpenError> {
        options.check().map_err(ReplicaOpenError::Options)?;
        let Recovery { wal, mut durable, found, .. } = recovery;
        // The state machine lives in memory; and a witness has no snapshot's bytes to lose.
        durable.applied = Index::ZERO;
        durable.snapshot_lost &= !config.options().witness;
        let rests_on = durable.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let life = wal.life();
        let raft = Raft::restore(config, durable, now).map_err(ReplicaOpenError::Restore)?;
        Ok(Self {
            now,
            phase: Phase::Fresh,
            events: VecDeque::new(),
            actions: Vec::new(),
            jobs: Jobs::default(),
            last_task: 0,
            log: LogLane::new(rests_on, now),
            applying: Applying::new(raft.log().applied()),
            clients: Clients::default(),
            peers: Peers::new(options.wire_version, options.hello_interval.into()),
            forwards: Forwards::new(life, raft.status().term),
            repeats: Repeats::default(),
            snapshots: Snapshots::new(&found, now),
            reading: Reading::default(),
            counters: ReplicaCounters::default(),
            raft,
            wal,
            options,
        })
    }
}
