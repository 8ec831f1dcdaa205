//! A run as a space-time diagram, as data.

use crate::fate::Loss;
use kontiki_core::status::Status;
use kontiki_core::types::{LogId, NodeId};
use serde::Serialize;

/// A run as a space-time diagram: a lane for each member, and what happened in the order of time. Events,
/// messages and members refer to each other by their positions here.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Diagram {
    /// Which run it is.
    pub title: String,
    /// How it ended: a sentence.
    pub outcome: String,
    /// What its times are.
    pub clock: Clock,
    /// The members.
    pub members: Vec<NodeId>,
    /// What happened.
    pub events: Vec<Event>,
    /// What members sent each other.
    pub messages: Vec<Message>,
    /// What members wrote to their disks.
    pub writes: Vec<Write>,
    /// What members were asked.
    pub operations: Vec<Operation>,
    /// What lasted: faults, and members that were down.
    pub spans: Vec<Span>,
    /// What failed; none where nothing did.
    pub failure: Option<Explained>,
    /// The events that tell what happened, thirty at most of a failure: those of its relevant past that mean
    /// something, and faults.
    pub story: Vec<usize>,
    /// The step from which on the failure was inevitable, where [`when`](crate::when) has told; the diagram
    /// does not find out by itself.
    pub inevitable: Option<u64>,
    /// How many steps before the first one here are left out.
    pub left_out: u64,
}

/// What the times of a diagram are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Nanoseconds of virtual time.
    #[default]
    Virtual,
    /// Nanoseconds by the member's own clock.
    Member,
    /// Scripts and explorations know of no time, only of what comes before what.
    Order,
}

/// Something that happened: a step of a member, or something in the world around it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// The number of the step, or of the last one before.
    pub step: u64,
    /// When.
    pub at: u64,
    /// The lane of the member that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<usize>,
    /// Of which kind it is.
    pub kind: Kind,
    /// What the member was told, or what happened; empty where it is a message that arrived.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// The message that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<usize>,
    /// The messages that the member sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<usize>,
    /// What else came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub did: Vec<String>,
    /// What it means, in words; none, for most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// The member after the step, where that changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The earlier events that led to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<usize>,
}

/// Of which kind an event or a message is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A member was woken.
    Timer,
    /// About votes, or about handing leadership over.
    Election,
    /// About entries of the log.
    Entries,
    /// About heartbeats.
    Heartbeat,
    /// About reads, snapshots, the repair of logs or the identity of members.
    #[default]
    Other,
    /// A client or an operator asked something.
    Client,
    /// About a disk.
    Disk,
    /// About a state machine.
    Machine,
    /// A fault, or what it brought about.
    Fault,
    /// A member crashed, or was down.
    Crash,
    /// A member started again.
    Restart,
}

/// A member at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct State {
    /// What it is.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Whom it voted for in this term.
    pub vote: Option<NodeId>,
    /// The leader of this term, where it knows one.
    pub leader: Option<NodeId>,
    /// The last entry of its log: its index and its term.
    pub last: (u64, u64),
    /// The last entry that is on its disk.
    pub durable: (u64, u64),
    /// How far it knows the log to be committed.
    pub committed: u64,
    /// How far its state machine has applied the log.
    pub applied: u64,
    /// The last entry of its snapshot.
    pub snapshot: (u64, u64),
}

/// A message between two members. Where the trace says what became of messages, so does this. A recording and
/// a host of your own need not say so: then messages with equal content cannot be told apart, and one that
/// arrives is taken for one that was sent within the ordinary time of a message before, or else for the
/// latest.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Message {
    /// The lane of the sender.
    pub from: usize,
    /// The lane of the member that it was for.
    pub to: usize,
    /// Of which kind it is.
    pub kind: Kind,
    /// What it says.
    pub text: String,
    /// The event in which it was sent; none where that was not seen.
    pub sent: Option<usize>,
    /// The events in which it was received: none where it was lost, two where it was duplicated.
    pub arrived: Vec<usize>,
    /// Whether a message that was sent later arrived earlier.
    pub late: bool,
    /// Whether a fault of the network delayed it, or it was kept back.
    pub delayed: bool,
    /// Whether it was sent once and was to arrive twice, or did.
    pub duplicated: bool,
    /// How it was lost; nothing where it arrived, and where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Loss>,
    /// Whether it was on its way at the end of the run, or was sent so shortly before that it may have been.
    pub on_its_way: bool,
}

/// What a member wrote to its disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Write {
    /// The lane of the member.
    pub member: usize,
    /// The event in which it was begun.
    pub begun: usize,
    /// The event in which the member heard that it was durable, or in which it crashed before.
    pub ended: Option<usize>,
    /// Whether the member crashed before it heard that the write was durable.
    pub unheard: bool,
}

/// What a member was asked, and what it answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Operation {
    /// The lane of the member.
    pub member: usize,
    /// What was asked.
    pub text: String,
    /// The event in which it was asked.
    pub asked: usize,
    /// The event in which it was answered.
    pub answered: Option<usize>,
    /// The answer.
    pub answer: Option<String>,
}

/// Something that lasted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Span {
    /// Of which kind it is: a fault, or a member that was down.
    pub kind: Kind,
    /// The lanes of the members that it befell.
    pub members: Vec<usize>,
    /// What it was.
    pub text: String,
    /// When it began.
    pub from: u64,
    /// When it ended, at the end of the run at the latest.
    pub to: u64,
}

/// A failure, and what it came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explained {
    /// The property that does not hold.
    pub property: String,
    /// What was seen instead.
    pub detail: String,
    /// Who had a part in it, in words, and the event at which that came about, where it is one.
    pub parts: Vec<(String, Option<usize>)>,
    /// The step at which it was seen.
    pub step: u64,
    /// When it was seen.
    pub at: u64,
    /// The event at which it was seen.
    pub event: Option<usize>,
    /// The relevant past: the events that explain it. Of the full past it holds what settled something that a
    /// later event of it looked at.
    pub relevant: Vec<usize>,
    /// The full past: all events from which it follows, down to each heartbeat.
    pub past: Vec<usize>,
}

impl Event {
    /// One of which no more is known yet.
    pub(super) fn new(at: u64, kind: Kind, what: String) -> Self {
        Self {
            step: 0,
            at,
            member: None,
            kind,
            what,
            received: None,
            sent: Vec::new(),
            did: Vec::new(),
            fact: None,
            state: None,
            causes: Vec::new(),
        }
    }
}

impl State {
    pub(crate) fn of(status: &Status) -> Self {
        let entry = |id: LogId| (id.index.get(), id.term.get());
        Self {
            role: status.role.to_string(),
            term: status.term.get(),
            vote: status.vote,
            leader: status.leader,
            last: entry(status.last),
            durable: entry(status.durable),
            committed: status.committed.get(),
            applied: status.applied.get(),
            snapshot: entry(status.snapshot),
        }
    }
}

impl Diagram {
    /// The lane of a member.
    pub(crate) fn lane(&self, id: NodeId) -> Option<usize> {
        self.members.binary_search(&id).ok()
    }
}
