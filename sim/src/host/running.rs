//! A member that runs, and how one ends.

use crate::contract::Contract;
use crate::disk::DiskModel;
use crate::ledger::Chain;
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;

/// What is known of a member that is up, whatever its body.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) contract: Contract,
    pub(crate) status: Status,
    /// The membership in force, by its log.
    pub(crate) membership: Membership,
    /// The log as the writes tell it.
    pub(crate) chain: Chain,
    /// When the host will next wake the kernel.
    pub(crate) wake_at: u64,
    /// Until when it may serve reads without asking.
    pub(crate) leased_until: Option<Instant>,
    /// How many answers were dropped because too many waited for the disk.
    pub(crate) dropped: u64,
}

impl Up {
    /// A member has just started from what its disk holds.
    pub(crate) fn new(model: &DiskModel, raft: &Raft) -> Self {
        let status = raft.status();
        Self {
            contract: Contract::new(raft.config(), &model.durable),
            status,
            membership: raft.membership().clone(),
            chain: model.chain.clone(),
            wake_at: u64::MAX,
            leased_until: None,
            dropped: 0,
        }
    }
}

/// How a member crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crashed {
    /// Its power failed: so many writes were lost, and so many torn.
    Power { lost: u64, torn: u64 },
    /// It was killed. What it had written is still there to be read, and may be lost yet.
    Killed,
}
