//! What every member has, whatever its role: the "all servers" part of the paper's figure 2.

use crate::action::Action;
use crate::config::{Config, MAX_PRIORITY};
use crate::durability::Durability;
use crate::log::Log;
use crate::message::{Body, Message};
use crate::rng::Rng;
use crate::status::{DropReason, Drops};
use crate::time::{Instant, Nanos};
use crate::types::{Ballot, NodeId, Term};
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) ballot: Ballot,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    pub(crate) drops: Drops,
    pub(crate) now: Instant,
    /// When a member that does not lead considers an election.
    pub(crate) election_deadline: Instant,
    /// The span that the deadline is set to whenever the leader is heard.
    election_timeout: Nanos,
    /// Until then this member refuses its vote to others: it has heard from a leader, or it has just started and may
    /// have heard from one before.
    loyal_until: Instant,
    rng: Rng,
}

impl Common {
    pub(crate) fn new(config: Config, ballot: Ballot, log: Log, now: Instant) -> Self {
        let mut common = Self {
            rng: Rng::new(config.options.seed, config.id),
            durability: Durability::new(ballot),
            drops: Drops::default(),
            now,
            election_deadline: now,
            election_timeout: Nanos::ZERO,
            loyal_until: now + config.timing.election_min,
            config,
            ballot,
            log,
        };
        common.restart_election_timer();
        common
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn term(&self) -> Term {
        self.ballot.term()
    }

    /// Draws a new election timeout and starts it.
    pub(crate) fn restart_election_timer(&mut self) {
        let timing = self.config.timing;
        self.election_timeout = timing.election_min + self.rng.below(timing.spread) + self.priority_delay();
        self.rearm_election_timer();
    }

    /// Starts the election timeout again.
    pub(crate) fn rearm_election_timer(&mut self) {
        self.election_deadline = self.now + self.election_timeout;
    }

    /// The leader of this term was heard: no election for a while, of anybody.
    pub(crate) fn heard_from_leader(&mut self) {
        self.rearm_election_timer();
        self.loyal_until = self.now + self.config.timing.election_min;
    }

    /// The host has lost the connection to the leader: consider an election soon, after a short delay that keeps
    /// those who noticed at the same moment apart.
    pub(crate) fn leader_unreachable(&mut self) {
        self.loyal_until = self.now;
        let delay = self.rng.below(Nanos::new(self.config.timing.spread.get() / 2)) + self.priority_delay();
        self.election_deadline = self.election_deadline.min(self.now + delay);
    }

    /// Whether a leader was heard so recently that nobody else should get this member's vote (thesis 6.2).
    pub(crate) fn is_loyal(&self) -> bool {
        self.now < self.loyal_until
    }

    /// Whether the disk has owed a write for longer than an election takes: a member that cannot write can neither
    /// lead nor win.
    pub(crate) fn disk_stalls(&self) -> bool {
        self.durability
            .oldest_pending()
            .is_some_and(|since| self.now - since >= self.config.timing.election_max)
    }

    pub(crate) fn message(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id(), to, term: self.term(), body }
    }

    /// Sends now: for everything that promises nothing.
    pub(crate) fn send(&self, to: NodeId, body: Body, out: &mut Vec<Action>) {
        out.push(Action::Send(self.message(to, body)));
    }

    /// Sends once everything that this member knows in this step is on its disk: for everything that would be a lie
    /// if a crash made this member forget.
    ///
    /// Acknowledgements that wait are limited; the next one says the same and more. Votes and requests for them are
    /// few, and an election needs every one, so they are not; one that waits already is not kept twice.
    pub(crate) fn send_once_durable(&mut self, to: NodeId, body: Body) {
        let acknowledges = matches!(body, Body::Appended { .. });
        let message = self.message(to, body);
        if acknowledges && self.durability.waiting() >= self.config.options.max_waiting_answers {
            self.drops.add(DropReason::TooManyWaiting);
        } else if acknowledges || !self.durability.holds(&message) {
            self.durability.hold(message);
        }
    }

    fn priority_delay(&self) -> Nanos {
        self.config.timing.spread.times(u64::from(MAX_PRIORITY - self.config.options.priority))
    }
}
