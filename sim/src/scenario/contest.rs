//! Contests of leadership: a leader and its successor at the same time, at the moment at which a mistake
//! shows.
//!
//! A lease, a promise or a joint phase goes wrong in a few milliseconds, between members in certain roles.
//! Faults at drawn times hardly ever meet that, so the world holds these contests by itself: it chooses the
//! members by their roles, and the moment by what they do.

use super::{Heal, Scenario};
use crate::stream::Stream;
use serde::{Deserialize, Serialize};

/// Which contests are held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContestSpec {
    /// Of which kind.
    pub kind: ContestKind,
    /// How many, at most.
    pub times: u32,
    /// Whether hosts are told at once that their connections to the leader broke.
    pub alarm: bool,
    /// Whether the leader's clock is as slow, and the others' are as fast, as leases allow for.
    pub drift: bool,
}

/// How a leader loses its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContestKind {
    /// It is cut off just after its followers have answered.
    CutOff,
    /// It is cut off just after a heartbeat, and the answers to that come late.
    LateAnswers,
    /// A few are parted from it, and the others start again when one of these stands.
    RestartedVoters,
    /// A member that was once bidden to take over is parted from it alone, and stands.
    FormerSuccessor,
    /// It is cut off as soon as it has bidden another to take over.
    HandingOver,
    /// Its bidding to take over arrives when it has given that up, and it is cut off then.
    LateBidding,
    /// It begins a joint phase, and only those hear of it who are a majority of the new voters and not of the
    /// old.
    HalfOfJoint,
    /// The answer that it gave to a follower's question arrives when that has started again, asks another,
    /// and does not hear what was committed meanwhile.
    EarlierAnswer,
}

impl ContestKind {
    const ALL: [Self; 8] = [
        Self::CutOff,
        Self::LateAnswers,
        Self::RestartedVoters,
        Self::FormerSuccessor,
        Self::HandingOver,
        Self::LateBidding,
        Self::HalfOfJoint,
        Self::EarlierAnswer,
    ];
}

impl Scenario {
    /// Adds contests to a sixth of all scenarios. Half of those are calm otherwise: what is contested takes a
    /// few round trips, and other faults mostly prevent it.
    pub(super) fn add_contests(&mut self) {
        let mut stream = Stream::named(self.seed, "contests", 0);
        let voters = self.membership().map_or(0, |membership| membership.voters().len());
        if stream.below(6) > 0 || voters < 3 {
            return;
        }
        let kind = *stream.pick(&ContestKind::ALL);
        let calm = stream.coin() || !self.options.lease_reads;
        let times = stream.between(1, 6) as u32;
        let drift = kind == ContestKind::CutOff && stream.below(3) > 0;
        if calm {
            self.calm_down(kind, drift, &mut stream);
        }
        self.workload.probe = true;
        self.contests = Some(ContestSpec { kind, times, alarm: stream.coin(), drift });
    }

    /// Nothing else goes wrong, all is quick, and clients read by lease.
    fn calm_down(&mut self, kind: ContestKind, drift: bool, stream: &mut Stream) {
        let us = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let (min, max) = (us(self.options.election_timeout_min), us(self.options.election_timeout_max));
        self.faults.clear();
        self.operations.clear();
        self.old_messages = None;
        let network = &mut self.network;
        network.latency_min_us = stream.skewed(50, min / 100);
        network.latency_max_us = network.latency_min_us + stream.skewed(50, min / 50);
        network.tail_max_us = network.latency_max_us;
        for odds in [
            &mut network.drop,
            &mut network.duplicate,
            &mut network.reorder,
            &mut network.tail,
            &mut network.corrupt,
        ] {
            *odds = 0;
        }
        self.disk.sync_min_us = self.disk.sync_min_us.min(min / 100);
        self.disk.sync_max_us = self.disk.sync_min_us + stream.skewed(50, min / 50);
        (self.disk.tail, self.disk.tail_max_us) = (0, self.disk.sync_max_us);
        for member in &mut self.members {
            (member.clock_ppm, member.apply_us, member.sync_us, member.link_us) = (0, 0, 0, 0);
        }
        let options = &mut self.options;
        (options.lease_reads, options.check_quorum) = (true, true);
        options.pre_vote = kind != ContestKind::FormerSuccessor && stream.below(4) > 0;
        options.max_clock_drift_ppm =
            if drift { stream.between(50_000, 200_000) } else { stream.skewed(100, 50_000) } as u32;
        if !options.pre_vote {
            self.heal = Heal::Everything;
        }
        self.workload.lease = 10_000;
        self.workload.read = self.workload.read.max(stream.between(1_000, 9_000) as u32);
        self.chaos_us = max * stream.between(10, 40);
    }
}
