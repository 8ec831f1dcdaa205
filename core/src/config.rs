//! What a member is told once, when it is made; every value is checked, and every wrong one has its own error.

use crate::membership::{Membership, MembershipError};
use crate::time::Nanos;
use crate::types::NodeId;
use core::fmt;
use core::time::Duration;

/// The settings of a member, all of which have a default. Plain data: checked by [`Config::new`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Options {
    /// A follower waits at least this long for its leader before it thinks of an election. It also refuses votes to
    /// others for this long after it last heard from its leader. Default 150 ms.
    pub election_timeout_min: Duration,
    /// ... and less than this; the time is drawn anew for each attempt, so that two seldom try at once. Default 300 ms.
    pub election_timeout_max: Duration,
    /// How often a leader that has nothing else to say shows that it is alive. Default 50 ms.
    pub heartbeat_interval: Duration,
    /// Ask whether an election could be won before disturbing anybody with a new term (thesis 9.6). Default on.
    pub pre_vote: bool,
    /// A leader that has not heard from a quorum for `election_timeout_max` steps down, and followers that hear from
    /// a leader refuse to vote (paper §6, thesis 6.2). The two belong together: refusing votes for the sake of a
    /// leader that has no quorum could leave a group without one for ever. Default on.
    pub check_quorum: bool,
    /// How much this member should lead, from 0 to [`MAX_PRIORITY`]. For each step below the highest, it waits one
    /// more `election_timeout_max - election_timeout_min` before it campaigns. It is a preference: safety and
    /// progress do not depend on it. Default the highest.
    pub priority: u8,
    /// The most bytes of entries in one append; one larger entry still travels, alone. Default 1 MiB.
    pub max_append_bytes: u64,
    /// How many unanswered appends may be on their way to one follower. Default 64.
    pub max_in_flight_messages: usize,
    /// How many unanswered bytes may be on their way to one follower before the next append waits. Default 8 MiB.
    pub max_in_flight_bytes: u64,
    /// How many bytes may wait to be committed before further proposals are refused as busy. Default 64 MiB.
    pub max_uncommitted_bytes: u64,
    /// The largest payload that may be proposed. Default 16 MiB.
    pub max_payload_bytes: u64,
    /// How many acknowledgements may wait for this member's disk before further ones are dropped; the leader hears of
    /// the rest with the next heartbeat. Default 4,096.
    pub max_waiting_answers: usize,
    /// Where the member's chances come from. Members of one group may share a seed: their ids keep them apart.
    /// Draw it from the system's entropy in production; fix it in a test. Default 0.
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
            seed: 0,
        }
    }
}

/// Checked settings: which member this is, who else there is, and the [`Options`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    pub(crate) id: NodeId,
    pub(crate) membership: Membership,
    pub(crate) options: Options,
    pub(crate) timing: Timing,
}

/// The times of [`Options`] as the kernel counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Timing {
    pub(crate) election_min: Nanos,
    pub(crate) election_max: Nanos,
    /// What is drawn from on top of `election_min`, and the delay of one step of priority.
    pub(crate) spread: Nanos,
    pub(crate) heartbeat: Nanos,
}

/// What is wrong with a [`Config`], and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The list of members is no membership.
    Membership(MembershipError),
    /// This member is not in its own group.
    NotAMember(NodeId),
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
}

impl Config {
    /// Checks everything that can be checked about member `id` of the group `membership`.
    ///
    /// ```
    /// use kontiki_core::config::{Config, ConfigError, Options};
    /// use kontiki_core::membership::Membership;
    /// use kontiki_core::types::NodeId;
    ///
    /// let [a, b, c] = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
    /// let group = Membership::of([a, b, c])?;
    /// assert!(Config::new(a, group.clone(), Options::default()).is_ok());
    ///
    /// let wrong = Options { max_in_flight_messages: 0, ..Options::default() };
    /// assert_eq!(Config::new(a, group, wrong), Err(ConfigError::ZeroWindowMessages));
    /// # Ok::<(), kontiki_core::membership::MembershipError>(())
    /// ```
    #[inline]
    pub fn new(id: NodeId, membership: Membership, options: Options) -> Result<Self, ConfigError> {
        let Options {
            election_timeout_min: min,
            election_timeout_max: max,
            heartbeat_interval: heartbeat,
            ..
        } = options;
        let wrong = |condition: bool, error: ConfigError| if condition { Err(error) } else { Ok(()) };
        wrong(!membership.contains(id), ConfigError::NotAMember(id))?;
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
        let timing = Timing {
            election_min: min.into(),
            election_max: max.into(),
            spread: Nanos::from(max) - Nanos::from(min),
            heartbeat: heartbeat.into(),
        };
        Ok(Self { id, membership, options, timing })
    }

    /// The member.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The group.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

impl From<MembershipError> for ConfigError {
    fn from(error: MembershipError) -> Self {
        Self::Membership(error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Membership(error) => error.fmt(f),
            Self::NotAMember(id) => {
                write!(f, "member {id} is not in its own group: add it to the members, as voter or learner")
            }
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
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn with(change: impl FnOnce(&mut Options)) -> Result<Config, ConfigError> {
        let id = NodeId::new(1).unwrap();
        let mut options = Options::default();
        change(&mut options);
        Config::new(id, Membership::of([id]).unwrap(), options)
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
        ];
        for (got, expected) in cases {
            assert_eq!(got, Err(expected));
            assert!(expected.to_string().contains(':'), "{expected} should say what to do after a colon");
        }
    }

    #[test]
    fn a_member_belongs_to_its_group() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let config = Config::new(two, Membership::of([one]).unwrap(), Options::default());
        assert_eq!(config, Err(ConfigError::NotAMember(two)));
    }
}
