//! What a member is told once, when it is made; every value is checked, and every wrong one has its own
//! error.

use crate::time::Nanos;
use crate::types::{Identity, Member, NodeId};
use core::fmt;
use core::time::Duration;

/// The settings of a member, all of which have a default. Plain data: checked by [`Config::new`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Options {
    /// A follower waits at least this long for its leader before it thinks of an election. It also refuses
    /// votes to others for this long after it last heard from its leader. Default 150 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub election_timeout_min: Duration,
    /// ... and less than this; the time is drawn anew for each attempt, so that two seldom try at once.
    /// Default 300 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub election_timeout_max: Duration,
    /// How often a leader that has nothing else to say shows that it is alive. Default 50 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub heartbeat_interval: Duration,
    /// Ask whether an election could be won before starting a new term (thesis 9.6). Default on.
    pub pre_vote: bool,
    /// A leader that has not heard from a quorum for `election_timeout_max` steps down, and followers that
    /// hear from a leader refuse to vote (paper §6, thesis 6.2). The two belong together: refusing votes for
    /// the sake of a leader that has no quorum could leave a group without one for ever. Default on.
    pub check_quorum: bool,
    /// How much this member should lead, from 0 to [`MAX_PRIORITY`]. For each step below the highest, it
    /// waits one more `election_timeout_max - election_timeout_min` before it campaigns. It is a preference:
    /// safety and progress do not depend on it. Default the highest.
    pub priority: u8,
    /// The most bytes of entries in one append; one larger entry still travels, alone. Default 1 MiB.
    pub max_append_bytes: u64,
    /// How many unanswered appends may be on their way to one follower. One that has refused an append gets
    /// one at a time at first, and one more for each that it acknowledges. Default 64.
    pub max_in_flight_messages: usize,
    /// How many unanswered bytes may be on their way to one follower before the next append waits. Default 8
    /// MiB.
    pub max_in_flight_bytes: u64,
    /// How many bytes may wait to be committed before further proposals are refused as busy. Default 64 MiB.
    pub max_uncommitted_bytes: u64,
    /// The largest payload that may be proposed. Default 16 MiB.
    pub max_payload_bytes: u64,
    /// How many acknowledgements may wait for this member's disk before further ones are dropped; the leader
    /// hears of the rest with the next heartbeat. Default 4,096.
    pub max_waiting_answers: usize,
    /// How many entries a log keeps behind its latest snapshot, so that a follower that is a little slow need
    /// not be sent a snapshot. Default 10,000.
    pub retained_entries: u64,
    /// ... and how many bytes of entries at most, whichever is less. While a follower is getting a snapshot,
    /// what it needs after that stays as well. Default 64 MiB.
    pub retained_bytes: u64,
    /// How many bytes of entries that are applied stay in memory for followers that lag behind; what is older
    /// is asked back from the host with [`Action::LoadEntries`](crate::action::Action::LoadEntries). A host
    /// that keeps no log outside memory sets it to the maximum, and its log in memory is as long as its
    /// snapshots let it be. Entries that came in one message or proposal are freed together, so up to
    /// `max_append_bytes` more may be held. Default 64 MiB.
    pub max_cached_bytes: u64,
    /// How many reads may wait to be confirmed or applied before further ones are refused as busy. Default
    /// 65,536.
    pub max_waiting_reads: usize,
    /// Whether leaders may serve reads by lease, without a round of heartbeats (thesis 6.4.1). It costs a
    /// slower failover: a voter keeps its promise not to elect another leader for `election_timeout_min`,
    /// even where its host says that the leader is gone. All members of a group must have the same. It needs
    /// `check_quorum`. Default off.
    pub lease_reads: bool,
    /// How far the rate of a member's clock may be from true, as a ratio in parts per million: leases are
    /// shorter than the promise they rest on by twice that. Ordinary clocks stay within 200; a clock beyond
    /// it makes lease reads stale, and nothing else. Default 10,000, which is one in a hundred.
    ///
    /// A host's clock must count the time for which the machine was suspended. A guest whose hypervisor
    /// pauses it, and does not set its clock right before it goes on, is beyond any drift: keep `lease_reads`
    /// off there.
    pub max_clock_drift_ppm: u32,
    /// How long a newcomer that shall vote may take to catch up with the log before the request is answered
    /// with [`Outcome::NotCaughtUp`](crate::action::Outcome::NotCaughtUp); and how long a change of the
    /// membership that is in the log may take to be decided before its request is answered with
    /// [`Outcome::Unknown`](crate::action::Outcome::Unknown). Default ten minutes.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub catch_up_timeout: Duration,
    /// Whether this member is a witness: it votes, and stores no payloads. It must be what the group takes it
    /// for. Default off.
    pub witness: bool,
    /// Whether the host writes synchronously: it carries out the actions of a step in their order, and each
    /// [`Persist`](crate::action::Action::Persist) is durable before it begins with the next action. The
    /// kernel then goes on in the same step as if [`Persisted`](crate::event::Event::Persisted) had been
    /// reported, so that most steps, and what the host does for each, are saved. A host whose write fails
    /// carries out none of the actions after it, and stops the member: the kernel takes the write for
    /// durable. Default off: writes are reported, and other work goes on meanwhile.
    pub synchronous_writes: bool,
    /// Whether the host applies synchronously: it carries out the actions of a step in their order, and has
    /// applied each [`Apply`](crate::action::Action::Apply), and restored each
    /// [`Restore`](crate::action::Action::Restore), before it begins with the next action. The kernel then
    /// goes on as if [`Applied`](crate::event::Event::Applied) had been reported. Default off.
    pub synchronous_apply: bool,
    /// Where the member's chances come from. Members of one group may share a seed: their ids keep them
    /// apart. Draw it from the system's entropy in production; fix it in a test. Default 0.
    pub seed: u64,
}

/// The highest [`Options::priority`], at which a member campaigns without further delay.
pub const MAX_PRIORITY: u8 = 7;

impl Default for Options {
    fn default() -> Self {
        Self {
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(50),
            pre_vote: true,
            check_quorum: true,
            priority: MAX_PRIORITY,
            max_append_bytes: 1 << 20,
            max_in_flight_messages: 64,
            max_in_flight_bytes: 8 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_payload_bytes: 16 << 20,
            max_waiting_answers: 4096,
            retained_entries: 10_000,
            retained_bytes: 64 << 20,
            max_cached_bytes: 64 << 20,
            max_waiting_reads: 1 << 16,
            lease_reads: false,
            max_clock_drift_ppm: 10_000,
            catch_up_timeout: Duration::from_secs(600),
            witness: false,
            synchronous_writes: false,
            synchronous_apply: false,
            seed: 0,
        }
    }
}

/// Checked settings: who this member is, and the [`Options`]. Who else there is stands in its log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "record", serde(try_from = "Given", into = "Given"))]
pub struct Config {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) timing: Timing,
}

/// What a [`Config`] is made from, and all that is kept of it: the rest follows, and is checked again.
#[cfg(feature = "record")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Given(Identity, Options);

#[cfg(feature = "record")]
impl TryFrom<Given> for Config {
    type Error = ConfigError;
    fn try_from(Given(identity, options): Given) -> Result<Self, ConfigError> {
        Self::new(identity, options)
    }
}

#[cfg(feature = "record")]
impl From<Config> for Given {
    fn from(config: Config) -> Self {
        Self(config.identity, config.options)
    }
}

/// The times of [`Options`] as the kernel counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Timing {
    pub(crate) election_min: Nanos,
    pub(crate) election_max: Nanos,
    /// What is drawn from on top of `election_min`, and the delay of one step of priority.
    pub(crate) spread: Nanos,
    pub(crate) heartbeat: Nanos,
    /// How long a lease lasts from the moment at which the promise it rests on was asked for.
    pub(crate) lease: Nanos,
    pub(crate) catch_up: Nanos,
}

/// What is wrong with a [`Config`], and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The heartbeat interval is zero.
    ZeroHeartbeat,
    /// The shortest election timeout is zero.
    ZeroElectionTimeout,
    /// The election timeouts are no range.
    EmptyElectionRange {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Followers would not wait for the next heartbeat.
    HeartbeatTooSlow {
        /// The heartbeat interval.
        heartbeat: Duration,
        /// The shortest election timeout.
        election_timeout_min: Duration,
    },
    /// The priority is above [`MAX_PRIORITY`].
    PriorityTooHigh(u8),
    /// An append may hold no bytes.
    ZeroAppendBytes,
    /// No append may be in flight.
    ZeroWindowMessages,
    /// No byte may be in flight.
    ZeroWindowBytes,
    /// Nothing may wait to be committed.
    ZeroUncommittedBytes,
    /// No payload may hold a byte.
    ZeroPayloadBytes,
    /// No answer may wait for the disk.
    ZeroWaitingAnswers,
    /// No read may wait.
    ZeroWaitingReads,
    /// Clocks may drift by half or more: no lease could be shorter than a promise.
    DriftTooLarge(u32),
    /// Leases rest on the followers' promise, which `check_quorum` is.
    LeaseWithoutCheckQuorum,
}

impl Config {
    /// Checks everything that can be checked about a member before it starts.
    ///
    /// ```
    /// use kontiki_core::config::{Config, ConfigError, Options};
    /// use kontiki_core::types::{ClusterId, Identity, Incarnation, Member, NodeId};
    ///
    /// let member = Member::new(NodeId::new(1).expect("not zero"), Incarnation(0x5eed));
    /// let me = Identity::new(ClusterId(7), member);
    /// assert!(Config::new(me, Options::default()).is_ok());
    ///
    /// let wrong = Options { max_in_flight_messages: 0, ..Options::default() };
    /// assert_eq!(Config::new(me, wrong), Err(ConfigError::ZeroWindowMessages));
    /// ```
    #[inline]
    pub fn new(identity: Identity, options: Options) -> Result<Self, ConfigError> {
        let Options {
            election_timeout_min: min,
            election_timeout_max: max,
            heartbeat_interval: heartbeat,
            ..
        } = options;
        let wrong = |condition: bool, error: ConfigError| if condition { Err(error) } else { Ok(()) };
        wrong(heartbeat.is_zero(), ConfigError::ZeroHeartbeat)?;
        wrong(min.is_zero(), ConfigError::ZeroElectionTimeout)?;
        wrong(min >= max, ConfigError::EmptyElectionRange { min, max })?;
        wrong(heartbeat >= min, ConfigError::HeartbeatTooSlow { heartbeat, election_timeout_min: min })?;
        wrong(options.priority > MAX_PRIORITY, ConfigError::PriorityTooHigh(options.priority))?;
        wrong(options.max_append_bytes == 0, ConfigError::ZeroAppendBytes)?;
        wrong(options.max_in_flight_messages == 0, ConfigError::ZeroWindowMessages)?;
        wrong(options.max_in_flight_bytes == 0, ConfigError::ZeroWindowBytes)?;
        wrong(options.max_uncommitted_bytes == 0, ConfigError::ZeroUncommittedBytes)?;
        wrong(options.max_payload_bytes == 0, ConfigError::ZeroPayloadBytes)?;
        wrong(options.max_waiting_answers == 0, ConfigError::ZeroWaitingAnswers)?;
        wrong(options.max_waiting_reads == 0, ConfigError::ZeroWaitingReads)?;
        let drift = options.max_clock_drift_ppm;
        wrong(drift >= 500_000, ConfigError::DriftTooLarge(drift))?;
        wrong(options.lease_reads && !options.check_quorum, ConfigError::LeaseWithoutCheckQuorum)?;
        let timing = Timing {
            election_min: min.into(),
            election_max: max.into(),
            spread: Nanos::from(max) - Nanos::from(min),
            heartbeat: heartbeat.into(),
            lease: lease(min.into(), drift),
            catch_up: options.catch_up_timeout.into(),
        };
        Ok(Self { identity, options, timing })
    }

    /// Which member of which cluster.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The member.
    pub fn member(&self) -> Member {
        self.identity.member
    }

    /// The member's name.
    pub fn id(&self) -> NodeId {
        self.identity.member.id
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// How much of a promise of `promised`, counted by a clock that may be as fast as allowed, is certain to be
/// left by a clock that may be as slow.
fn lease(promised: Nanos, drift_ppm: u32) -> Nanos {
    const MILLION: u128 = 1_000_000;
    let drift = u128::from(drift_ppm);
    let span = u128::from(promised.get()) * (MILLION - drift) / (MILLION + drift);
    Nanos::new(u64::try_from(span).unwrap_or(u64::MAX))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroHeartbeat => {
                f.write_str("heartbeat_interval is zero: set it to about a third of election_timeout_min")
            }
            Self::ZeroElectionTimeout => {
                f.write_str("election_timeout_min is zero: set it to several round trips, 150 ms if in doubt")
            }
            Self::EmptyElectionRange { min, max } => write!(
                f,
                "election_timeout_min {min:?} is not below election_timeout_max {max:?}: make max about twice min, \
                 or members will campaign in step and split the vote"
            ),
            Self::HeartbeatTooSlow { heartbeat, election_timeout_min } => write!(
                f,
                "heartbeat_interval {heartbeat:?} is not below election_timeout_min {election_timeout_min:?}: \
                 set it to about a third of that, or followers will not wait for it"
            ),
            Self::PriorityTooHigh(priority) => {
                write!(f, "priority {priority} is too high: it goes from 0 to {MAX_PRIORITY}")
            }
            Self::ZeroAppendBytes => {
                f.write_str("max_append_bytes is zero: set at least one byte; one entry always travels")
            }
            Self::ZeroWindowMessages => {
                f.write_str("max_in_flight_messages is zero: set at least 1, or nothing is ever replicated")
            }
            Self::ZeroWindowBytes => {
                f.write_str("max_in_flight_bytes is zero: set at least 1, or nothing is ever replicated")
            }
            Self::ZeroUncommittedBytes => {
                f.write_str("max_uncommitted_bytes is zero: set at least 1, or every proposal is refused")
            }
            Self::ZeroPayloadBytes => {
                f.write_str("max_payload_bytes is zero: set it to the largest payload you propose")
            }
            Self::ZeroWaitingAnswers => {
                f.write_str("max_waiting_answers is zero: set at least 1, or no append is ever acknowledged")
            }
            Self::ZeroWaitingReads => {
                f.write_str("max_waiting_reads is zero: set at least 1, or every read is refused")
            }
            Self::DriftTooLarge(ppm) => {
                write!(f, "max_clock_drift_ppm is {ppm}: set it below 500000; 200 is usual for real clocks")
            }
            Self::LeaseWithoutCheckQuorum => f.write_str(
                "lease_reads without check_quorum: switch both on, or followers promise nothing to lease from",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClusterId;
    use alloc::string::ToString;

    fn with(change: impl FnOnce(&mut Options)) -> Result<Config, ConfigError> {
        let mut options = Options::default();
        change(&mut options);
        Config::new(Identity::new(ClusterId(1), NodeId::new(1).unwrap()), options)
    }

    #[test]
    fn each_wrong_value_has_its_own_error_that_says_what_to_do() {
        let ms = Duration::from_millis;
        let range = ConfigError::EmptyElectionRange { min: ms(300), max: ms(300) };
        let slow = ConfigError::HeartbeatTooSlow { heartbeat: ms(150), election_timeout_min: ms(150) };
        let cases = [
            (with(|o| o.heartbeat_interval = ms(0)), ConfigError::ZeroHeartbeat),
            (with(|o| o.election_timeout_min = ms(0)), ConfigError::ZeroElectionTimeout),
            (with(|o| o.election_timeout_min = ms(300)), range),
            (with(|o| o.heartbeat_interval = ms(150)), slow),
            (with(|o| o.priority = 8), ConfigError::PriorityTooHigh(8)),
            (with(|o| o.max_append_bytes = 0), ConfigError::ZeroAppendBytes),
            (with(|o| o.max_in_flight_messages = 0), ConfigError::ZeroWindowMessages),
            (with(|o| o.max_in_flight_bytes = 0), ConfigError::ZeroWindowBytes),
            (with(|o| o.max_uncommitted_bytes = 0), ConfigError::ZeroUncommittedBytes),
            (with(|o| o.max_payload_bytes = 0), ConfigError::ZeroPayloadBytes),
            (with(|o| o.max_waiting_answers = 0), ConfigError::ZeroWaitingAnswers),
            (with(|o| o.max_waiting_reads = 0), ConfigError::ZeroWaitingReads),
            (with(|o| o.max_clock_drift_ppm = 500_000), ConfigError::DriftTooLarge(500_000)),
            (with(|o| (o.lease_reads, o.check_quorum) = (true, false)), ConfigError::LeaseWithoutCheckQuorum),
        ];
        for (got, expected) in cases {
            assert_eq!(got, Err(expected));
            assert!(expected.to_string().contains(':'), "{expected} should say what to do after a colon");
        }
    }

    /// The slowest clock that is allowed ends a lease before the fastest ends the promise.
    #[test]
    fn a_lease_is_shorter_than_a_promise_by_the_drift_of_two_clocks() {
        for drift in [0, 200, 10_000, 200_000, 499_999] {
            let promised = Nanos::new(150_000_000);
            let (slow, fast) = (1_000_000 - u128::from(drift), 1_000_000 + u128::from(drift));
            // In true time, a span on a clock of rate r lasts span / r.
            let lease = u128::from(lease(promised, drift).get());
            assert!(lease * fast <= u128::from(promised.get()) * slow);
            assert!(drift == 0 || lease < u128::from(promised.get()));
        }
    }
}
