//! What happens to a cluster, as data: drawn from a seed, printed, edited, replayed.

mod coincidence;
mod contest;
mod custom;
mod draw;
mod storage;

pub use crate::fault::{Fault, Victims};
pub use contest::{ContestKind, ContestSpec};
pub use custom::TimedCustomFault;
pub use draw::Profile;
pub use storage::{Decay, ReplicaLimits, ReplicaSpec, Rotten};

use kontiki_core::config::{Config, ConfigError, MAX_PRIORITY, Options};
use kontiki_core::membership::{MemberKind, Membership, MembershipError};
use kontiki_core::replica::ReplicaOptionsError;
use kontiki_core::types::{ClusterId, Identity, Member, NodeId};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// One run of a cluster, whole: who is in it, what the world around it is like, and what goes wrong when. All
/// times are virtual, in microseconds; all odds are out of ten thousand.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Names the random streams for everything that is not listed: latencies, odds, clients' choices.
    pub seed: u64,
    /// The hosts; the first has id 1. What each is in the beginning it says itself.
    pub members: Vec<MemberSpec>,
    /// The settings that they share. `priority` and `seed` are set for each.
    pub options: Options,
    /// How messages travel.
    pub network: NetworkSpec,
    /// Which messages are kept back, to come when they may do harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_messages: Option<OldMessageSpec>,
    /// Which contests of leadership the world holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contests: Option<ContestSpec>,
    /// How writes become durable.
    pub disk: DiskSpec,
    /// What clients do.
    pub workload: WorkloadSpec,
    /// When snapshots are taken, and how they travel.
    #[serde(default)]
    pub snapshots: SnapshotSpec,
    /// What the operator does.
    #[serde(default)]
    pub operations: Vec<TimedOperation>,
    /// What goes wrong, in any order.
    pub faults: Vec<TimedFault>,
    /// What goes wrong beside that in the terms of a user's own test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_faults: Vec<TimedCustomFault>,
    /// How long the faults last. Then the world heals, as `heal` says.
    pub chaos_us: u64,
    /// Where set, the run is over then, healed or not. What was seen by then is judged; the cluster need not
    /// come to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
    /// What becomes well in the end, and must then make progress.
    pub heal: Heal,
    /// Whether the clients fall silent when the chaos ends: what is there must then come to agree by itself.
    /// Not where disks are dead, since a leader that has nothing to write does not notice its own.
    #[serde(default)]
    pub quiet: bool,
    /// Where set, the members are whole: replicas with a durable log each, on a simulated disk. Otherwise
    /// they are kernels, and everything around them is played.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaSpec>,
    /// When luck changes, the first time first: see [`when`](crate::when).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forks: Vec<Fork>,
}

/// A change of luck: from then on the network, the disks and the hosts draw from other streams. What came
/// before is as it was without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// After so many steps.
    pub after_step: u64,
    /// Names the streams.
    pub seed: u64,
}

/// One member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// How much it should lead; see [`Options::priority`].
    pub priority: u8,
    /// How much faster than true time its clock runs, in parts per million; negative for slower.
    pub clock_ppm: i64,
    /// Whether its state machine survives a crash. One that does not is filled again from the log.
    pub keeps_state: bool,
    /// How long its state machine takes for what one step hands it.
    pub apply_us: u64,
    /// How long a sync of its disk takes at least, now and once the world has healed: a slow disk stays slow.
    #[serde(default)]
    pub sync_us: u64,
    /// How much longer a message to or from it takes, now and once the world has healed.
    #[serde(default)]
    pub link_us: u64,
    /// What it is in the beginning: one of the first members, or, as a non-member, a host that knows of no
    /// group and waits to be added.
    #[serde(default = "voter")]
    pub initially: MemberKind,
    /// Whether it is a witness, from the beginning or once it is added.
    #[serde(default)]
    pub witness: bool,
}

fn voter() -> MemberKind {
    MemberKind::Voter
}

/// When members take snapshots, and how those travel.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// A snapshot after so many applied entries; zero for never.
    pub every: u64,
    /// The longest time that a snapshot takes to be written, or to be fetched.
    pub longest_us: u64,
    /// Odds that a fetch fails, and that entries cannot be read back.
    pub fail: u32,
}

/// Something that the operator does, and when. It is asked of the leader, again and again until a leader
/// accepts it or refuses it for good.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedOperation {
    /// When.
    pub at_us: u64,
    /// What.
    pub operation: Operation,
}

/// Something that the operator does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Operation {
    /// Changes the membership, all at once.
    Reconfigure {
        /// How.
        changes: Vec<Alteration>,
    },
    /// The same, whether a majority can be reached then or not.
    Force {
        /// How.
        changes: Vec<Alteration>,
    },
    /// Gives up the change that waits for newcomers.
    Cancel,
    /// Hands leadership over.
    Transfer {
        /// To whom; to the best where not set.
        to: Option<NodeId>,
    },
    /// Stops a member in good order, and starts it again a moment later.
    Shutdown {
        /// Which.
        member: Target,
        /// How long it stays down.
        for_us: u64,
    },
}

/// One change of the membership. Incarnations are what they are when it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Alteration {
    /// A newcomer that shall vote, as a witness if its host is one.
    Add(NodeId),
    /// A newcomer that only learns.
    AddLearner(NodeId),
    /// A learner that shall vote.
    Promote(NodeId),
    /// A voter that shall only learn.
    Demote(NodeId),
    /// A member that leaves; `"leader"` for the present leader.
    Remove(Target),
}

/// Messages that the network keeps back until their addressee is elected, stands, starts again, reads, or
/// changes its snapshot or membership, until their sender starts again, or until some elections have passed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldMessageSpec {
    /// Odds that a message is kept.
    pub keep: u32,
    /// How many of each kind are kept at a time.
    pub each: u32,
    /// Odds that a message that is kept does not arrive at its own time as well.
    pub instead: u32,
    /// Odds that a message that has come late is kept once more.
    pub again: u32,
    /// The longest time from the moment for which a message is kept until it arrives.
    pub longest_us: u64,
}

/// How messages travel between members during the chaos.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The shortest way.
    pub latency_min_us: u64,
    /// The longest ordinary way.
    pub latency_max_us: u64,
    /// Odds that a message is lost.
    pub drop: u32,
    /// Odds that a message arrives twice.
    pub duplicate: u32,
    /// Odds that a message overtakes, or is overtaken.
    pub reorder: u32,
    /// Odds that a message takes much longer, up to `tail_max_us`.
    pub tail: u32,
    /// The longest way of all.
    pub tail_max_us: u64,
    /// Odds that a bit of a message is flipped.
    pub corrupt: u32,
    /// Odds that a host notices when a connection to a peer breaks, and tells its kernel.
    pub notice: u32,
    /// How much a link carries, now and once the world has healed; any amount where not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// How much a link carries, each way. What is short and what is large go by two connections, as in the
/// transport, which share the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// How many bytes pass in a millisecond.
    pub bytes_per_ms: u64,
    /// How many bytes wait for a link at most; a frame that does not fit is dropped.
    pub queue_bytes: u64,
}

/// How a member's writes become durable during the chaos.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// The shortest sync.
    pub sync_min_us: u64,
    /// The longest ordinary sync.
    pub sync_max_us: u64,
    /// Odds that a sync takes much longer, up to `tail_max_us`.
    pub tail: u32,
    /// The longest sync of all.
    pub tail_max_us: u64,
}

/// What clients do, from the start to the end. A client has one request at a time, and makes a new one, of
/// new payloads, after each answer; after a refusal, or where the answer is overdue, it asks another member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// How many clients.
    pub clients: u32,
    /// The longest pause between an answer and the next request.
    pub think_us: u64,
    /// How long a client waits for an answer before it tries elsewhere.
    pub timeout_us: u64,
    /// The size of a payload.
    pub payload_bytes: u32,
    /// Odds that a payload is large, and the size of such a one.
    #[serde(default)]
    pub large: u32,
    /// The size of a large payload.
    #[serde(default)]
    pub large_bytes: u32,
    /// How many payloads a request holds at most; more than one are proposed as a batch.
    pub batch: u32,
    /// How many keys there are.
    #[serde(default = "one")]
    pub keys: u64,
    /// Odds that a request reads.
    #[serde(default)]
    pub read: u32,
    /// Odds that a read is by lease rather than by quorum.
    #[serde(default)]
    pub lease: u32,
    /// Whether a leader that does not know of its successor is read from, under its lease, as soon as the
    /// successor has acknowledged a write; and the successor is given one as soon as it is elected.
    #[serde(default)]
    pub probe: bool,
    /// Odds that a read goes to any member rather than to the one that the client believes to lead.
    #[serde(default)]
    pub anywhere: u32,
    /// Commands and queries that are drawn and not sent, by their numbers: the first that a client draws has
    /// number 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<u64>,
}

fn one() -> u64 {
    1
}

/// Something that goes wrong, and when.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedFault {
    /// When.
    pub at_us: u64,
    /// For how long.
    pub for_us: u64,
    /// What.
    pub fault: Fault,
}

/// Whom a fault befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// This member.
    Member(NodeId),
    /// `"leader"`: the leader when the fault begins (member 1 where there is none); or `"next_leader"`: the
    /// next member to be elected, at that very moment, before it has sent a message.
    Leading(Leading),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

/// Reads a [`Target`], and says what is allowed where something else is found.
struct TargetVisitor;

impl Visitor<'_> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a member, from 1, or \"leader\" or \"next_leader\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Target, E> {
        let id = NodeId::new(number);
        id.map(Target::Member).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Target, E> {
        match word {
            "leader" => Ok(Target::Leading(Leading::Leader)),
            "next_leader" => Ok(Target::Leading(Leading::NextLeader)),
            _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
        }
    }
}

/// A member named by its leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leading {
    /// The present leader.
    Leader,
    /// The next member to be elected.
    NextLeader,
}

/// What becomes well when the chaos ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// Everything.
    Everything,
    /// Only what is between these, a majority. For good, the others are down or reach them at most one way.
    Quorum(Vec<NodeId>),
    /// Everything but the disks of all but these, a majority: the others' take writes and finish none, for
    /// good.
    Disks(Vec<NodeId>),
}

/// Why a scenario cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The members are no group.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The settings are wrong.
    #[error("options: {0}")]
    Config(#[from] ConfigError),
    /// A fault or the healing names a server that is no member.
    #[error("member {0} is named and does not exist: members are numbered from 1")]
    Stranger(NodeId),
    /// A range is empty: what it is of.
    #[error("{0} is an empty range: its minimum must not exceed its maximum")]
    EmptyRange(&'static str),
    /// Odds above ten thousand: of what.
    #[error("the odds of {0} are above 10000: they are out of ten thousand")]
    Odds(&'static str),
    /// A clock that runs backwards, or more than twice too fast.
    #[error("a clock at {0} ppm: it must be from -900000 to 1000000")]
    Clock(i64),
    /// Too few heal to decide anything.
    #[error("heal.quorum names no majority: name more than half of the members")]
    NoQuorum,
    /// There are no clients, so there is nothing to check.
    #[error("workload.clients is zero: a run without clients shows nothing, set at least 1")]
    NoClients,
    /// A flapping link that never rests.
    #[error("a flap with period_us zero: set at least 1")]
    ZeroPeriod,
    /// A fault of a user's own that the test does not have.
    #[error("no fault is called {0:?} here: name one that was given to Test::fault, or leave it out")]
    UnknownFault(String),
    /// A state machine of a user's own runs on full replicas alone.
    #[error("replica is missing: take it from `kontiki-sim scenario --seed 1 --profile storage`")]
    NoReplica,
    /// A full replica has jobs of its own, which report.
    #[error(
        "options.synchronous_writes and options.synchronous_apply are for kernels alone: leave both out, or leave \
         replica out"
    )]
    Synchronous,
    /// A replica's setting is too small: which, and what it must be at least.
    #[error("replica.{0} is too small: set at least {1}")]
    Replica(&'static str, u64),
    /// The settings of replicas that come of it are wrong.
    #[error("replica: {0}")]
    ReplicaOptions(ReplicaOptionsError),
}

/// A text is no scenario: why.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("no scenario: {0}; compare it with `kontiki-sim scenario --seed 1`")]
pub struct NotAScenario(pub String);

impl Scenario {
    /// The ids of the members.
    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.members.len() as u64).filter_map(NodeId::new).collect()
    }

    /// The configuration of a member.
    pub fn config(&self, id: NodeId) -> Result<Config, ScenarioError> {
        let spec = usize::try_from(id.get() - 1).ok().and_then(|position| self.members.get(position));
        let spec = spec.ok_or(ScenarioError::Stranger(id))?;
        let options = Options {
            priority: spec.priority,
            witness: spec.witness,
            seed: self.seed,
            ..self.options.clone()
        };
        let identity = Identity::new(ClusterId(self.seed), id);
        Config::new(identity, options).map_err(ScenarioError::Config)
    }

    /// The first membership.
    pub fn membership(&self) -> Result<Membership, ScenarioError> {
        let kind = |spec: &MemberSpec| match spec.initially {
            MemberKind::Voter if spec.witness => MemberKind::Witness,
            kind => kind,
        };
        let members = self.ids().into_iter().zip(&self.members);
        let kinds = members.map(|(id, spec)| (Member::from(id), kind(spec)));
        Membership::from_kinds(kinds).map_err(ScenarioError::Membership)
    }

    /// Whether who belongs to the group may change on the way.
    pub fn churns(&self) -> bool {
        let changes = |timed: &TimedOperation| timed.operation.changes_members();
        let wipes = |timed: &TimedFault| matches!(timed.fault, Fault::Wipe { .. });
        let joins = |contests: &ContestSpec| contests.kind == ContestKind::HalfOfJoint;
        self.operations.iter().any(changes)
            || self.faults.iter().any(wipes)
            || self.contests.as_ref().is_some_and(joins)
    }

    /// Checks everything that an edited scenario could have wrong.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        self.membership()?;
        self.ids().iter().try_for_each(|&id| self.config(id).map(drop))?;
        self.validate_ranges()?;
        self.validate_odds()?;
        if self.workload.clients == 0 {
            return Err(ScenarioError::NoClients);
        }
        self.validate_replica()?;
        self.validate_clocks()?;
        self.validate_members()
    }

    fn validate_replica(&self) -> Result<(), ScenarioError> {
        let Some(replica) = &self.replica else { return Ok(()) };
        if self.options.synchronous_writes || self.options.synchronous_apply {
            return Err(ScenarioError::Synchronous);
        }
        replica.validate()?;
        let check = |id| replica.options(self, id).check(&self.options);
        self.ids().into_iter().try_for_each(check).map_err(ScenarioError::ReplicaOptions)
    }

    fn validate_ranges(&self) -> Result<(), ScenarioError> {
        let range = |low: u64, high: u64, what| {
            if low <= high { Ok(()) } else { Err(ScenarioError::EmptyRange(what)) }
        };
        range(self.network.latency_min_us, self.network.latency_max_us, "network.latency")?;
        range(self.network.latency_max_us, self.network.tail_max_us, "network.tail_max_us")?;
        range(self.disk.sync_min_us, self.disk.sync_max_us, "disk.sync")?;
        range(self.disk.sync_max_us, self.disk.tail_max_us, "disk.tail_max_us")?;
        range(1, u64::from(self.workload.batch), "workload.batch")?;
        range(1, self.network.bandwidth.map_or(1, |link| link.bytes_per_ms), "network.bandwidth")?;
        range(1, self.workload.timeout_us, "workload.timeout_us")?;
        range(1, self.workload.keys, "workload.keys")
    }

    fn validate_odds(&self) -> Result<(), ScenarioError> {
        let NetworkSpec { drop, duplicate, reorder, tail, corrupt, notice, .. } = self.network;
        let odds = [(drop, "drop"), (duplicate, "duplicate"), (reorder, "reorder"), (tail, "network.tail")];
        let more = [(corrupt, "corrupt"), (notice, "notice"), (self.disk.tail, "disk.tail")];
        let WorkloadSpec { read, lease, anywhere, .. } = self.workload;
        let reads = [
            (read, "workload.read"),
            (lease, "workload.lease"),
            (anywhere, "workload.anywhere"),
            (self.workload.large, "workload.large"),
        ];
        let fetches = [(self.snapshots.fail, "snapshots.fail")];
        let kept = self.old_messages.iter().flat_map(|spec| {
            let OldMessageSpec { keep, instead, again, .. } = *spec;
            [(keep, "old_messages.keep"), (instead, "old_messages.instead"), (again, "old_messages.again")]
        });
        let all = odds.into_iter().chain(more).chain(reads).chain(fetches).chain(kept);
        match all.into_iter().find(|&(odds, _)| odds > 10_000) {
            Some((_, what)) => Err(ScenarioError::Odds(what)),
            None => Ok(()),
        }
    }

    fn validate_clocks(&self) -> Result<(), ScenarioError> {
        let clocks = self.members.iter().map(|member| member.clock_ppm);
        let drifts = self.faults.iter().filter_map(|timed| match timed.fault {
            Fault::Clock { ppm, .. } => Some(ppm),
            _ => None,
        });
        match clocks.chain(drifts).find(|ppm| !(-900_000..=1_000_000).contains(ppm)) {
            Some(ppm) => Err(ScenarioError::Clock(ppm)),
            None => Ok(()),
        }
    }

    /// Faults, operations and the healing name members, and enough of them heal.
    fn validate_members(&self) -> Result<(), ScenarioError> {
        let ids = self.ids();
        let mut named: Vec<_> = self.faults.iter().flat_map(|timed| timed.fault.members()).collect();
        named.extend(self.operations.iter().flat_map(|timed| timed.operation.members()));
        if self.faults.iter().any(|timed| matches!(timed.fault, Fault::Flap { period_us: 0, .. })) {
            return Err(ScenarioError::ZeroPeriod);
        }
        if let Heal::Quorum(core) | Heal::Disks(core) = &self.heal {
            let membership = self.membership()?;
            let inside = membership.voters().iter().filter(|id| core.contains(id)).count();
            if inside <= membership.voters().len() / 2 {
                return Err(ScenarioError::NoQuorum);
            }
            named.extend(core);
        }
        match named.into_iter().find(|id| !ids.contains(id)) {
            Some(stranger) => Err(ScenarioError::Stranger(stranger)),
            None => Ok(()),
        }
    }

    /// The members that must make progress in the end.
    pub fn core(&self) -> Vec<NodeId> {
        match &self.heal {
            Heal::Everything => self.ids(),
            Heal::Quorum(core) | Heal::Disks(core) => core.clone(),
        }
    }

    /// The longest that a healed member waits before it campaigns, in microseconds of its own clock.
    pub fn longest_election_timeout_us(&self) -> u64 {
        let us = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let (min, max) = (us(self.options.election_timeout_min), us(self.options.election_timeout_max));
        let lowest = self.members.iter().map(|member| member.priority).min().unwrap_or(MAX_PRIORITY);
        max + (max - min) * u64::from(MAX_PRIORITY - lowest)
    }

    /// How long the slowest that never heals takes, once: the longest sync, the longest way there and back,
    /// and the slowest state machine. An operation of a client takes a few of these.
    pub fn slowest_us(&self) -> u64 {
        let longest = |of: fn(&MemberSpec) -> u64| self.members.iter().map(of).max().unwrap_or(0);
        let hosts = 2 * longest(|spec| spec.sync_us)
            + 4 * longest(|spec| spec.link_us)
            + longest(|spec| spec.apply_us);
        let WorkloadSpec { clients, batch, payload_bytes, large_bytes, .. } = self.workload;
        let asked = u64::from(clients) * u64::from(batch) * u64::from(payload_bytes.max(large_bytes));
        hosts + self.network.bandwidth.map_or(0, |link| 2_000 * asked / link.bytes_per_ms.max(1))
    }
}

/// Reads a scenario as it is written: JSON.
impl FromStr for Scenario {
    type Err = NotAScenario;

    fn from_str(text: &str) -> Result<Self, NotAScenario> {
        serde_json::from_str(text).map_err(|error| NotAScenario(error.to_string()))
    }
}

impl Operation {
    /// Whether other members are asked for.
    pub fn changes_members(&self) -> bool {
        matches!(self, Self::Reconfigure { .. } | Self::Force { .. })
    }

    /// The members that the operation names.
    pub fn members(&self) -> Vec<NodeId> {
        match self {
            Self::Reconfigure { changes } | Self::Force { changes } => {
                changes.iter().filter_map(Alteration::subject).collect()
            }
            Self::Transfer { to } => to.iter().copied().collect(),
            Self::Shutdown { member: Target::Member(member), .. } => vec![*member],
            Self::Cancel | Self::Shutdown { .. } => vec![],
        }
    }
}

impl Alteration {
    /// The member that the change names, if it names one.
    pub fn subject(&self) -> Option<NodeId> {
        match self {
            Self::Add(id) | Self::AddLearner(id) | Self::Promote(id) | Self::Demote(id) => Some(*id),
            Self::Remove(Target::Member(id)) => Some(*id),
            Self::Remove(Target::Leading(_)) => None,
        }
    }
}
