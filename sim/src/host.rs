//! A simulated host: one kernel, its disk, its clock, and what befalls them.

use crate::clock::Clock;
use crate::contract::Contract;
use crate::disk::Disk;
use crate::ledger::{Chain, Link};
use crate::scenario::MemberSpec;
use crate::stream::Stream;
use kontiki_core::config::Config;
use kontiki_core::event::Event;
use kontiki_core::raft::{Durable, Raft};
use kontiki_core::status::Status;
use kontiki_core::types::{Index, NodeId};
use std::collections::VecDeque;

/// One member and its surroundings.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) spec: MemberSpec,
    /// The kernel and what watches it; none while the member is down.
    pub(crate) up: Option<Up>,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) stream: Stream,
    /// How often it has started; what was scheduled in an earlier life is void.
    pub(crate) life: u32,
    /// Set while the member stands still: what arrives waits.
    pub(crate) paused: bool,
    pub(crate) backlog: VecDeque<Event>,
    /// Crash after carrying out so many more actions.
    pub(crate) crash_after: Option<u32>,
    /// How many faults keep it down.
    pub(crate) down: u32,
    /// How far its state machine has got, whether it survives a crash or not.
    pub(crate) applied: Index,
}

/// A running kernel.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) raft: Raft,
    pub(crate) contract: Contract,
    pub(crate) status: Status,
    /// The log as the writes tell it.
    pub(crate) chain: Chain,
    /// When the host will next wake the kernel.
    pub(crate) wake_at: u64,
    /// How far the state machine is told to apply, and how far it is at the moment at work to.
    pub(crate) apply_through: Index,
    pub(crate) applying: Option<Index>,
}

impl Host {
    /// Starts the member with what its disk holds. Says why where the kernel refuses that.
    pub(crate) fn start(&mut self, now: u64) -> Result<(), String> {
        let durable = self.recovered();
        let contract = Contract::new(self.id, &durable);
        self.applied = durable.applied;
        let local = self.clock.local(now);
        let raft = Raft::restore(self.config.clone(), durable, local).map_err(|error| error.to_string())?;
        let status = raft.status();
        let chain = self.disk.chain.clone();
        let apply_through = self.applied;
        self.life += 1;
        self.up =
            Some(Up { raft, contract, status, chain, wake_at: u64::MAX, apply_through, applying: None });
        Ok(())
    }

    /// Stops the member: everything in memory is gone. Returns how many writes were lost.
    pub(crate) fn crash(&mut self) -> u64 {
        self.up = None;
        self.backlog.clear();
        self.crash_after = None;
        self.disk.crash()
    }

    /// Gives the state machine all that is to be applied, if it has nothing to do. Returns when it will be done.
    pub(crate) fn start_apply(&mut self, now: u64) -> Option<u64> {
        let up = self.up.as_mut()?;
        if up.applying.is_some() || up.apply_through == self.applied {
            return None;
        }
        up.applying = Some(up.apply_through);
        Some(now + self.spec.apply_us * 1_000 + self.stream.below(50_000))
    }

    /// The state machine is done with what it was given; how far that was.
    pub(crate) fn finish_apply(&mut self) -> Option<Index> {
        let through = self.up.as_mut()?.applying.take()?;
        self.applied = through;
        Some(through)
    }

    /// Whether events reach the kernel now.
    pub(crate) fn is_awake(&self) -> bool {
        self.up.is_some() && !self.paused
    }

    pub(crate) fn durable_chain(&self) -> &[Link] {
        &self.disk.chain
    }

    fn recovered(&self) -> Durable {
        let durable = self.disk.durable.clone();
        let applied = if self.spec.keeps_state { self.applied } else { Index::ZERO };
        Durable { applied, ..durable }
    }
}
