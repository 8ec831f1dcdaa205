//! What the kernel tells its host to do.

use crate::log::{Entries, Rebase, Snapshot};
use crate::membership::{ChangeError, SomeMembers};
use crate::message::Message;
use crate::time::Instant;
use crate::types::{Ballot, Incarnation, Index, LogId, NodeId, RequestId, Term, WriteSeq};
use alloc::boxed::Box;
use core::fmt;

/// Something for the host to do. There is nothing to get wrong about their order: whatever must wait for the
/// disk is withheld by the kernel until [`Event::Persisted`](crate::event::Event::Persisted). A host that
/// waits for its disk or its state machine carries them out in their order instead, and reports nothing: see
/// [`Options::synchronous_writes`](crate::config::Options::synchronous_writes).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Action {
    /// Send this message, at once and without waiting for anything. It may get lost.
    Send(Message),
    /// Put this on the disk. Carry writes out in the order in which they come, and report the last that is
    /// durable.
    Persist(Write),
    /// Apply the entries after the last ones named, through `through`, in order: read them with
    /// [`Log::entries`](crate::log::Log::entries). They are committed and on this member's disk. Report with
    /// [`Event::Applied`](crate::event::Event::Applied). Where the log does not hold them any more by the
    /// time that the host comes to it, a snapshot has taken their place: leave it, a
    /// [`Restore`](Self::Restore) follows.
    Apply {
        /// The last entry to apply.
        through: Index,
    },
    /// Put the state machine into the state of this snapshot, which is installed on this member's disk,
    /// instead of whatever it was told to apply before and has not yet done. Report with
    /// [`Event::Applied`](crate::event::Event::Applied).
    Restore(Snapshot),
    /// Get the bytes of this snapshot from member `from`, by whatever means the host has, and keep them
    /// beside what there is. Report with [`Event::SnapshotFetched`](crate::event::Event::SnapshotFetched)
    /// once they are durable, or [`Event::SnapshotFailed`](crate::event::Event::SnapshotFailed). Abandons any
    /// fetch that came before.
    FetchSnapshot {
        /// Who has it.
        from: NodeId,
        /// Which.
        snapshot: Snapshot,
    },
    /// Read entries back from this member's log, for a follower that lags behind what is in memory, and bring
    /// them with [`Event::EntriesLoaded`](crate::event::Event::EntriesLoaded).
    LoadEntries {
        /// For whom.
        to: NodeId,
        /// The entry before the first.
        after: LogId,
        /// The last.
        through: Index,
        /// Enough when this many bytes are read; at least one entry.
        max_bytes: u64,
    },
    /// Take a snapshot soon, of whatever is applied by now: a member whose own is damaged needs one. Report
    /// it with [`Event::SnapshotTaken`](crate::event::Event::SnapshotTaken).
    TakeSnapshot,
    /// The one answer to a request.
    Respond {
        /// Which request.
        request: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// This member cannot go on: safety is already broken, here or elsewhere, or it is not who its group
    /// thinks it is. Stop it and call a human, with the reason, which says what to do. Said once; afterwards
    /// the member answers no peer and refuses every request.
    Halt(Violation),
}

/// One atomic write: after a crash, either all of it is there or nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Write {
    /// Its number in the stream of writes.
    pub seq: WriteSeq,
    /// The term and vote to remember, whether they changed or not, so that no entry is ever durable before
    /// the term that wrote it.
    pub ballot: Ballot,
    /// How often this member has started.
    pub starts: u64,
    /// Where set, first forget every entry after this index.
    pub truncate_after: Option<Index>,
    /// Where set, the log then rests on this snapshot, whose bytes the host has, and begins after its base.
    pub rebase: Option<Box<Rebase>>,
    /// Put the body of each of these in the place of one that was lost: see
    /// [`EntryBody::Lost`](crate::log::EntryBody::Lost). They are of the log as it was before this write.
    pub repaired: Entries,
    /// Then append these.
    pub append: Entries,
    /// How far the log, as it is after this write, was known to be committed. Saves a restarted member the
    /// wait for a leader's word; may be lost without harm.
    pub committed: Index,
}

/// What became of a request. Each gets exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// The proposal is committed, as this entry, and will never be lost. For a
    /// [`Reconfigure`](crate::event::Reconfigure), the entry that holds the new membership.
    Committed(LogId),
    /// Read now: this member's state machine holds all that the read must see.
    Ready {
        /// Everything through here is what it must see.
        index: Index,
        /// For a read by lease: until this instant of this member's clock no other member can be elected. A
        /// further read that arrives before it may be served without asking the kernel, once the state
        /// machine has applied everything through the [`Log::committed`](crate::log::Log::committed) of its
        /// arrival. A host that may have been paused looks at its clock *after* the read has arrived.
        until: Option<Instant>,
    },
    /// This member no longer leads; its status names the leader.
    Transferred,
    /// The chosen member did not take over in time, and this member leads on.
    NotTransferred,
    /// This newcomer did not catch up in time. It is a learner now and will go on learning: remove it, or
    /// promote it later. Nothing else of the request was done.
    NotCaughtUp(NodeId),
    /// A change of the membership was given up while it waited for newcomers: by
    /// [`Event::CancelChange`](crate::event::Event::CancelChange), for a change that removes one of them, or
    /// because its time was up and something other than its newcomers was in the way. Those that it had added
    /// are learners and will go on learning; nothing else of it was done. The request to cancel is answered
    /// with it as well.
    Cancelled,
    /// Nothing was done, and nothing will be.
    Refused(Refusal),
    /// It may commit, or not: leadership was lost while the request was on its way; or a change of the
    /// membership is in the log and was not decided in
    /// [`catch_up_timeout`](crate::config::Options::catch_up_timeout). Look before asking for it again, or
    /// make it harmless to apply twice.
    Unknown,
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// Only the leader takes proposals.
    NotLeader {
        /// Who leads, where this member knows; ask there.
        leader: Option<NodeId>,
    },
    /// Too much waits to be committed already; try again when some of it is.
    Busy,
    /// This member's disk has no space for more.
    DiskFull,
    /// The payload is larger than [`Options::max_payload_bytes`](crate::config::Options::max_payload_bytes).
    TooLarge {
        /// The largest payload that is taken.
        max: u64,
    },
    /// Leadership is being handed over; try again soon, at the new leader.
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// What was proposed is overwritten: another entry is committed in its place.
    Overwritten,
    /// The leader has not yet committed anything of its own term; try again soon.
    NotReady,
    /// Another change of the membership is under way; try again when it is over.
    ChangeInFlight {
        /// The entry that holds it; the one before it while newcomers catch up.
        configured: LogId,
    },
    /// A change of the membership waits for this newcomer to catch up: wait, cancel the change, or remove the
    /// newcomer.
    CatchingUp(NodeId),
    /// No change of the membership waits for newcomers.
    NothingToCancel,
    /// These voters have not been heard of lately, and of the voters that the change would leave no majority
    /// would be left without them. [`Reconfigure::force`](crate::event::Reconfigure::force) does it all the
    /// same.
    NoReachableMajority {
        /// The silent voters.
        unreachable: SomeMembers,
    },
    /// The membership is not the one that the request expected.
    Outdated {
        /// The entry that holds it.
        configured: LogId,
    },
    /// The change makes no sense.
    Change(ChangeError),
    /// A learner, a witness or a stranger cannot lead.
    CannotLead(NodeId),
    /// This member has not been heard of lately, and would not take over.
    Unreachable(NodeId),
    /// This member lacks too much of the log, or has too much of it to apply, to take over in time.
    Lagging(NodeId),
    /// No other member could take over.
    NoSuccessor,
    /// This member leads already.
    LeadsAlready,
    /// This member is being stopped.
    Stopped,
    /// This member has halted.
    Halted,
    /// There is no space on the disk of this member, and it would not take over.
    MemberFull(NodeId),
}

/// Proof that safety is broken, or that the host breaks its side of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Violation {
    /// Two members act as leader of one term.
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader that was known.
        known: NodeId,
        /// The other.
        other: NodeId,
    },
    /// A leader's log contradicts an entry that is committed here, or that the same leader has sent before.
    AgreedEntryContradicted {
        /// The entry here.
        ours: LogId,
        /// What the leader has in its place.
        theirs: LogId,
    },
    /// The host reported a write as durable that was never handed out.
    UnknownWrite(WriteSeq),
    /// The host reported an entry as applied that was never handed out to be.
    UnknownApply(Index),
    /// The host reported a snapshot of what it has not applied, or of what it was told to forget long ago.
    UnknownSnapshot(Index),
    /// The group has this member's id under another incarnation: this one has lost its memory, or was
    /// replaced.
    StaleIncarnation {
        /// Which this one is.
        ours: Incarnation,
        /// Which the group has.
        theirs: Incarnation,
    },
    /// The group takes this member for a witness and it is none, or the other way round.
    WrongMemberKind {
        /// Whether the group takes it for a witness.
        witness: bool,
    },
}

impl Refusal {
    /// The reason as one word: the same in logs, metrics and simulations.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLeader { .. } => "not_leader",
            Self::Busy => "busy",
            Self::DiskFull => "disk_full",
            Self::TooLarge { .. } => "too_large",
            Self::Transferring { .. } => "transferring",
            Self::Overwritten => "overwritten",
            Self::NotReady => "not_ready",
            Self::ChangeInFlight { .. } => "change_in_flight",
            Self::CatchingUp(_) => "catching_up",
            Self::NothingToCancel => "nothing_to_cancel",
            Self::NoReachableMajority { .. } => "no_reachable_majority",
            Self::Outdated { .. } => "outdated",
            Self::Change(error) => error.code(),
            Self::CannotLead(_) => "cannot_lead",
            Self::Unreachable(_) => "unreachable",
            Self::Lagging(_) => "lagging",
            Self::NoSuccessor => "no_successor",
            Self::LeadsAlready => "leads_already",
            Self::Stopped => "stopped",
            Self::Halted => "halted",
            Self::MemberFull(_) => "member_full",
        }
    }

    /// Whether the same request may be taken a little later, or by another member. Where not, it is the
    /// request that is wrong.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::Busy
            | Self::DiskFull
            | Self::Transferring { .. }
            | Self::Overwritten
            | Self::NotReady
            | Self::ChangeInFlight { .. }
            | Self::CatchingUp(_)
            | Self::Stopped
            | Self::Halted => true,
            Self::TooLarge { .. }
            | Self::Outdated { .. }
            | Self::Change(_)
            | Self::NothingToCancel
            | Self::NoReachableMajority { .. }
            | Self::CannotLead(_)
            | Self::Unreachable(_)
            | Self::Lagging(_)
            | Self::MemberFull(_)
            | Self::NoSuccessor
            | Self::LeadsAlready => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(id) => write!(f, "committed as {id}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Ready { index, until: None } => write!(f, "ready at {index}"),
            Self::Ready { index, until: Some(until) } => write!(f, "ready at {index} until {until:?}"),
            Self::Transferred => f.write_str("transferred"),
            Self::NotTransferred => f.write_str("not transferred: no member took over in time"),
            Self::NotCaughtUp(id) => {
                write!(f, "member {id} did not catch up: it stays a learner, remove it or promote it later")
            }
            Self::Cancelled => {
                f.write_str("cancelled: newcomers stay learners, remove them or promote them later")
            }
            Self::Unknown => f.write_str("unknown: leadership was lost, it may commit or not"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader: ask member {leader}"),
            Self::NotLeader { leader: None } => {
                f.write_str("not the leader, and none is known: try again later")
            }
            Self::Busy => f.write_str("busy: too much waits to be committed, try again later"),
            Self::DiskFull => {
                f.write_str("the disk is full: make space, or hand leadership to a member that has some")
            }
            Self::TooLarge { max } => write!(f, "too large: propose at most {max} bytes at a time"),
            Self::Transferring { to } => {
                write!(f, "transferring: leadership goes to member {to}, try again there")
            }
            Self::Overwritten => f.write_str("overwritten: another entry is committed in its place"),
            Self::NotReady => f.write_str("not ready: the leader is new, try again soon"),
            Self::ChangeInFlight { configured } => {
                write!(f, "a change is in flight since entry {configured}: try again when it is over")
            }
            Self::CatchingUp(id) => write!(
                f,
                "a change waits for member {id} to catch up: wait, cancel that change, or remove member {id}"
            ),
            Self::NothingToCancel => f.write_str("no change waits for newcomers: nothing to cancel"),
            Self::NoReachableMajority { unreachable } => write!(
                f,
                "no majority would be left within reach, {unreachable} being silent: bring that back or remove it first, or force the change"
            ),
            Self::Outdated { configured } => {
                write!(f, "outdated: the membership is now that of entry {configured}, look at it again")
            }
            Self::Change(error) => error.fmt(f),
            Self::CannotLead(id) => write!(f, "member {id} cannot lead: name a voter that is no witness"),
            Self::Unreachable(id) => {
                write!(f, "member {id} is silent and would not take over: bring it back, or name another")
            }
            Self::Lagging(id) => {
                write!(
                    f,
                    "member {id} lacks too much of the log, or has too much of it to apply: wait until it has caught up, or name another"
                )
            }
            Self::MemberFull(id) => write!(
                f,
                "there is no space on the disk of member {id} and it would not take over: make space there, or name another"
            ),
            Self::NoSuccessor => f.write_str("no other member could lead: add a voter first"),
            Self::LeadsAlready => f.write_str("this member leads already: nothing to do"),
            Self::Stopped => f.write_str("stopped: this member is shutting down, ask another"),
            Self::Halted => f.write_str("halted: this member takes no further part, call its operator"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoLeaders { term, known, other } => {
                write!(f, "members {known} and {other} both lead term {term}")
            }
            Self::AgreedEntryContradicted { ours, theirs } => {
                write!(f, "entry {ours} was agreed upon, and a leader has {theirs} in its place")
            }
            Self::UnknownWrite(seq) => {
                write!(f, "the host reported write {} durable, which was never handed out", seq.get())
            }
            Self::UnknownApply(index) => {
                write!(f, "the host reported entry {index} applied, which was never handed out")
            }
            Self::UnknownSnapshot(index) => {
                write!(f, "the host reported a snapshot through entry {index}, which it has not applied")
            }
            Self::StaleIncarnation { ours, theirs } => write!(
                f,
                "this member is incarnation {ours} and its group has {theirs}: its memory is lost; remove it from the group, add it under its new incarnation, and start it again"
            ),
            Self::WrongMemberKind { witness: true } => {
                f.write_str("the group takes this member for a witness: start it as one")
            }
            Self::WrongMemberKind { witness: false } => f.write_str(
                "this member is a witness, and its group takes it for more: start it as what it is",
            ),
        }
    }
}

impl core::error::Error for Refusal {}
impl core::error::Error for Violation {}
