//! A member, its disk, and what its disk still owes.

use super::bounds::Bounds;
use super::violation::Violation;
use crate::hash::StableHasher;
use kontiki_core::action::Write;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;

/// The time at which everything happens.
pub(super) const NOW: Instant = Instant::from_millis(1_000_000);

/// A member, up at all times: a crash and the start after it are one transition.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) raft: Raft,
    /// What is on its disk for good.
    pub(super) disk: Durable,
    /// What its kernel has handed out to be written since, in order.
    pub(super) writes: VecDeque<Arc<Write>>,
    pub(super) hash: u64,
}

impl Host {
    /// A member that starts for the first time.
    pub(super) fn of(bounds: &Bounds, member: usize) -> Self {
        let group = Membership::of((0..usize::from(bounds.voters)).map(id)).expect("few members, each once");
        let is_founder = member < usize::from(bounds.voters);
        let disk = if is_founder { Durable::bootstrap(group) } else { Durable::default() };
        let raft = restored(bounds, member, &disk).expect("a new member starts");
        let mut host = Self { raft, disk, writes: VecDeque::new(), hash: 0 };
        host.hash = host.hash_of();
        host
    }

    /// It starts again with what is on its disk.
    pub(super) fn restart(&mut self, bounds: &Bounds, member: usize) -> Result<(), Violation> {
        self.raft = restored(bounds, member, &self.disk)?;
        self.writes.clear();
        self.hash = self.hash_of();
        Ok(())
    }

    /// The oldest write reaches the disk.
    pub(super) fn disk_writes(&mut self) {
        if let Some(write) = self.writes.pop_front() {
            self.disk.write(&write);
        }
    }

    pub(super) fn hash_of(&self) -> u64 {
        StableHasher::of(&(&self.raft, &self.disk, &self.writes))
    }
}

pub(super) fn id(member: usize) -> NodeId {
    NodeId::new(member as u64 + 1).expect("not zero")
}

fn config(bounds: &Bounds, member: usize) -> Config {
    let options = Options {
        pre_vote: bounds.pre_vote,
        // Both go by how long something has lasted.
        check_quorum: false,
        lease_reads: false,
        max_cached_bytes: u64::MAX,
        ..Options::default()
    };
    Config::new(Identity::new(ClusterId(1), id(member)), options).expect("sound options")
}

fn restored(bounds: &Bounds, member: usize, disk: &Durable) -> Result<Raft, Violation> {
    let restored = Raft::restore(config(bounds, member), disk.clone(), NOW);
    let mut raft = restored.map_err(|error| Violation::new("Restart", format!("{}: {error}", id(member))))?;
    raft.forget_time(NOW);
    Ok(raft)
}
