//! What becomes of the messages between members, as the simulated world decides it.

use serde::Serialize;
use std::fmt;

/// What became of a message. One message may have several fates: it is carried, and each copy of it arrives
/// or is lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The network carries it.
    Carried {
        /// When it is to arrive, in nanoseconds of virtual time: two times where it is duplicated.
        arrives_ns: Vec<u64>,
        /// Whether a fault of the network delays it: it takes longer than others, or later ones may overtake
        /// it.
        delayed: bool,
    },
    /// The network keeps it back until a moment at which it may do harm.
    KeptBack,
    /// Its receiver gets it.
    Arrived {
        /// Whether the network had kept this copy back.
        kept_back: bool,
    },
    /// It is lost, or a copy of it is.
    Lost(Loss),
}

/// How a message is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The network dropped it.
    Dropped,
    /// The link was cut when it was sent.
    LinkCut,
    /// Too much waited for the link already.
    QueueFull,
    /// The connection broke while it was on its way.
    ConnectionBroken,
    /// A bit of it was flipped, and the receiver refused it.
    Corrupted,
    /// The receiver was down, or crashed before it looked at it.
    ReceiverDown,
    /// The sender crashed before it left.
    SenderCrashed,
}

impl Fate {
    /// Whether nothing out of the ordinary became of the message.
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::Carried { arrives_ns, delayed } => arrives_ns.len() == 1 && !delayed,
            Self::Arrived { kept_back } => !kept_back,
            Self::KeptBack | Self::Lost(_) => false,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carried { arrives_ns, delayed } => {
                let times: Vec<_> = arrives_ns.iter().map(|at| crate::trace::millis(*at)).collect();
                let how = match (&times[..], delayed) {
                    ([_], false) => "arrives at",
                    ([_], true) => "delayed until",
                    (_, false) => "duplicated, arrives at",
                    (_, true) => "duplicated and delayed until",
                };
                write!(f, "{how} {}", times.join(" and "))
            }
            Self::KeptBack => f.write_str("kept back"),
            Self::Arrived { kept_back: false } => f.write_str("arrives"),
            Self::Arrived { kept_back: true } => f.write_str("arrives after it was kept back"),
            Self::Lost(loss) => write!(f, "lost: {loss}"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped by the network",
            Self::LinkCut => "the link is cut",
            Self::QueueFull => "too much waits for the link",
            Self::ConnectionBroken => "the connection broke",
            Self::Corrupted => "corrupted on the way",
            Self::ReceiverDown => "the receiver is down",
            Self::SenderCrashed => "the sender crashed first",
        })
    }
}
