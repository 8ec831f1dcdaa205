//! What happens to a simulated world beside the steps of its members, as data and in words.

use crate::fault::Fault;
use crate::scenario::{Leading, Target};
use kontiki_core::types::{Incarnation, NodeId, Payload};
use std::fmt;
use std::time::Duration;

/// Something that happened to the world.
#[derive(Clone, PartialEq, Debug)]
pub enum Happened {
    /// A fault began.
    Fault {
        /// Which.
        fault: Fault,
        /// The member that it befell, where it befalls a single one.
        member: Option<NodeId>,
        /// For how long, in microseconds.
        for_us: u64,
    },
    /// Something of a user's own began to go wrong.
    CustomFault {
        /// What.
        name: String,
        /// With which member.
        member: NodeId,
        /// For how long, in microseconds.
        for_us: u64,
    },
    /// A member crashed.
    Crash {
        /// Which.
        member: NodeId,
        /// How many writes it had begun that its disk will not hold.
        lost: u64,
    },
    /// A member started again.
    Restart {
        /// Which.
        member: NodeId,
        /// In which life of its directory: another one where its disk was wiped.
        incarnation: Incarnation,
    },
    /// A client sends a command again that was not answered.
    SentAgain {
        /// Which client, numbered from 0.
        client: u64,
        /// To which member.
        member: NodeId,
        /// What is to be in the log.
        payload: Payload,
        /// The same, for people.
        what: String,
    },
    /// The chaos is over.
    Healed,
    /// Something else, in words.
    Other {
        /// The member that it was about, if it was about one.
        member: Option<NodeId>,
        /// What.
        what: String,
    },
}

impl Happened {
    /// The one member that it was about.
    pub fn member(&self) -> Option<NodeId> {
        match self {
            Self::CustomFault { member, .. }
            | Self::Crash { member, .. }
            | Self::Restart { member, .. }
            | Self::SentAgain { member, .. } => Some(*member),
            Self::Fault { member, .. } | Self::Other { member, .. } => *member,
            Self::Healed => None,
        }
    }

    /// Whether it concerns a member: by itself, or with all others.
    pub fn concerns(&self, id: NodeId) -> bool {
        match self {
            Self::Fault { fault: Fault::Partition { side: members }, .. } => members.contains(&id),
            Self::Fault { fault: Fault::OneWay { from, to }, .. } => from.contains(&id) || to.contains(&id),
            _ => self.member().is_none_or(|member| member == id),
        }
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { fault, member, for_us } => {
                let span = Duration::from_micros(*for_us);
                write!(f, "{}, for {span:?}", words(fault, *member))
            }
            Self::CustomFault { name, member, for_us } => {
                write!(f, "member {member}: {name}, for {:?}", Duration::from_micros(*for_us))
            }
            Self::Crash { member, lost: 0 } => write!(f, "member {member} crashes, and loses no write"),
            Self::Crash { member, lost: 1 } => {
                write!(f, "member {member} crashes before its last write is durable")
            }
            Self::Crash { member, lost } => {
                write!(f, "member {member} crashes before its last {lost} writes are durable")
            }
            Self::Restart { member, .. } => write!(f, "member {member} starts again"),
            Self::SentAgain { client, member, what, .. } => {
                write!(f, "client {client} sends {what} again, to member {member}")
            }
            Self::Healed => f.write_str("the chaos is over"),
            Self::Other { what, .. } => f.write_str(what),
        }
    }
}

/// A fault as a clause. `befallen` is the member that it befell, where that is known by now.
pub fn words(fault: &Fault, befallen: Option<NodeId>) -> String {
    let named = match (befallen, fault.target()) {
        (Some(id), _) | (None, Some(Target::Member(id))) => format!("member {id}"),
        (None, Some(Target::Leading(Leading::Leader))) => "the leader".to_owned(),
        (None, Some(Target::Leading(Leading::NextLeader))) => "the next leader".to_owned(),
        (None, None) => "every member".to_owned(),
    };
    let clause = match fault {
        Fault::Partition { side } => {
            return format!("{} cut off from the others", members(side, "is", "are"));
        }
        Fault::OneWay { from, to } => {
            return format!("{} not heard by {}", members(from, "is", "are"), members(to, "", ""));
        }
        Fault::Stall { .. } => "'s messages are held up",
        Fault::Isolate { .. } => " is cut off from all others",
        Fault::Flap { .. } => "'s links go down and up",
        Fault::Crash { after_actions: 0, .. } => " is to crash",
        Fault::Crash { after_actions, .. } => &format!(" is to crash after {after_actions} more actions"),
        Fault::CrashAll => " is to crash",
        Fault::Pause { .. } => " stands still",
        Fault::Suspend { counted: true, .. } | Fault::SuspendAll { counted: true } => " is suspended",
        Fault::Suspend { counted: false, .. } | Fault::SuspendAll { counted: false } => {
            " is suspended, and its clock with it"
        }
        Fault::ClockJump { by_us, .. } => {
            &format!("'s clock jumps ahead by {:?}", Duration::from_micros(*by_us))
        }
        Fault::Clock { ppm, .. } => &format!("'s clock runs at {ppm:+} ppm"),
        Fault::DiskStall { .. } => "'s disk finishes no write",
        Fault::Wipe { .. } => " loses its disk",
        Fault::FalseAlarm { .. } => " is told that its connection to the leader broke",
        Fault::SyncFails { .. } => "'s next sync fails",
        Fault::DiskFull { .. } => "'s disk is full",
        Fault::LostWrite { .. } => "'s next write is lost",
        Fault::MisdirectedWrite { .. } => "'s next write goes to another place",
        Fault::Rot { what, how, .. } => &format!("'s disk rots ({what:?}: {how:?})"),
    };
    named + clause
}

/// `member 1 is`, or `members 1, 2 and 3 are`.
fn members(ids: &[NodeId], is: &str, are: &str) -> String {
    let text = match ids {
        [] => format!("no member {is}"),
        [one] => format!("member {one} {is}"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(ToString::to_string).collect();
            format!("members {} and {last} {are}", first.join(", "))
        }
    };
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().filter_map(|number| NodeId::new(*number)).collect()
    }

    #[test]
    fn faults_are_told_in_words() {
        let told = |fault, member: u64| {
            Happened::Fault { fault, member: NodeId::new(member), for_us: 20_500 }.to_string()
        };
        let leader = Target::Leading(Leading::Leader);
        assert_eq!(
            told(Fault::Crash { member: leader, after_actions: 2 }, 3),
            "member 3 is to crash after 2 more actions, for 20.5ms"
        );
        assert_eq!(
            told(Fault::OneWay { from: ids(&[1]), to: ids(&[2, 3]) }, 0),
            "member 1 is not heard by members 2 and 3, for 20.5ms"
        );
        assert_eq!(words(&Fault::Isolate { member: leader }, None), "the leader is cut off from all others");
        assert_eq!(words(&Fault::CrashAll, None), "every member is to crash");
    }

    #[test]
    fn a_happening_concerns_those_whom_it_is_about() {
        let [one, two] = [1, 2].map(|number| NodeId::new(number).expect("not zero"));
        let parted = Happened::Fault { fault: Fault::Partition { side: ids(&[1]) }, member: None, for_us: 1 };
        assert!(parted.concerns(one) && !parted.concerns(two));
        assert!(Happened::Healed.concerns(one));
        assert!(!Happened::Restart { member: one, incarnation: Incarnation::default() }.concerns(two));
    }
}
