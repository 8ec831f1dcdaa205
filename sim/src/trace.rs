//! A run, step by step: for people as lines, for other tools as JSON.

pub use crate::fate::{Fate, Loss};
pub use crate::happened::{Happened, words};

use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::message::{Body, Message};
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{NodeId, Payload};
use serde_json::{Value, json};
use std::fmt::{self, Write as _};

/// Something to be traced.
#[derive(Clone, Copy, Debug)]
pub enum Traced<'a> {
    /// A kernel took a step.
    Step {
        /// The number of the step, from 1.
        step: u64,
        /// The virtual time, in nanoseconds.
        at: u64,
        /// What the kernel was told.
        event: &'a Event,
        /// What the host carried out of what came of it.
        actions: &'a [Action],
        /// What else came of it, where the member crashed before it was carried out.
        left_out: &'a [Action],
        /// The member after the step.
        after: &'a Status,
        /// How commands are shown.
        show: Commands<'a>,
    },
    /// Something happened to the world.
    World {
        /// The virtual time, in nanoseconds.
        at: u64,
        /// What.
        what: &'a Happened,
    },
    /// Something became of a message between two kernels. A run of the simulator shows it of every message,
    /// after the step that sent it and before the step that receives it; a recording and a host of your own
    /// need not.
    Message {
        /// The virtual time, in nanoseconds.
        at: u64,
        /// The number of the message, from 1: copies of a message have the same. One that never left its
        /// member has none: it is 0.
        number: u64,
        /// The message.
        message: &'a Message,
        /// What became of it.
        fate: &'a Fate,
        /// How commands are shown.
        show: Commands<'a>,
    },
}

/// How the commands in a log are shown to people.
#[derive(Clone, Copy)]
pub struct Commands<'a>(pub &'a dyn Fn(&Payload) -> String);

impl Commands<'_> {
    /// As the bytes that they are.
    pub const AS_BYTES: Commands<'static> = Commands(&|payload| format!("{payload:?}"));

    /// A command as it is shown.
    pub(crate) fn text(self, payload: &Payload) -> String {
        (self.0)(payload)
    }

    /// A text that shows payloads as bytes, with what they are instead.
    fn put_into<'e>(self, mut text: String, payloads: impl Iterator<Item = &'e Payload>) -> String {
        let mut from = 0;
        for payload in payloads {
            let bytes = format!("{payload:?}");
            if let Some(at) = text[from..].find(&bytes) {
                let shown = (self.0)(payload);
                text.replace_range(from + at..from + at + bytes.len(), &shown);
                from += at + shown.len();
            }
        }
        text
    }

    fn put_into_entries(self, text: String, entries: &[Entry]) -> String {
        self.put_into(text, entries.iter().filter_map(payload))
    }
}

impl fmt::Debug for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commands")
    }
}

fn payload(entry: &Entry) -> Option<&Payload> {
    match &entry.body {
        EntryBody::Data(payload) => Some(payload),
        _ => None,
    }
}

/// What the letters of a trace mean.
pub const LEGEND: &str = "\
# step      time  member role term log/commit  what happened => what came of it
#   roles: F follower, p pre-candidate (asks whether it could win), C candidate, L leader, H halted
#   a log position is index:term; log/commit is the last entry of the log and how far it is known committed
#   a>b t3 ...   a message from a to b in term 3        [5:3 \"x\", 6:3 -]   entries, - for a blank one
#   write 7 ...  the member's 7th write: the ballot, where the log is cut, what is appended
#   *            something happened to the world, or to a message on its way, not to one kernel";

impl Traced<'_> {
    /// When it happened, in nanoseconds of virtual time.
    pub fn at(&self) -> u64 {
        match self {
            Self::Step { at, .. } | Self::World { at, .. } | Self::Message { at, .. } => *at,
        }
    }

    /// Whether it says no more than the steps do: that a message leaves or arrives as it should. Lines for
    /// people leave it out.
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::Message { fate, .. } if fate.is_ordinary())
    }

    /// Whether it is about a member: its step, something that happened to it, or a message that it sent or
    /// was to receive.
    pub fn concerns(&self, id: NodeId) -> bool {
        match self {
            Self::Step { after, .. } => after.id == id,
            Self::World { what, .. } => what.concerns(id),
            Self::Message { message, .. } => message.from.id == id || message.to.id == id,
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        match self {
            Self::World { at, what } => format!("{:>6} {:>12} * {what}", "", millis(*at)),
            Self::Message { at, message, fate, show, .. } => {
                format!("{:>6} {:>12} * {}: {fate}", "", millis(*at), message_text(message, *show))
            }
            Self::Step { step, at, event, actions, after, show, .. } => {
                let mut line = format!(
                    "{step:>6} {:>12} {} {} t{} {}/{}  {}",
                    millis(*at),
                    after.id,
                    role(after.role),
                    after.term,
                    after.last,
                    after.committed,
                    event_text(event, *show)
                );
                for (position, action) in actions.iter().enumerate() {
                    let joint = if position == 0 { " => " } else { "; " };
                    let _ = write!(line, "{joint}{}", action_text(action, *show));
                }
                line
            }
        }
    }

    /// One JSON object; its fields are documented in docs/trace.md.
    pub fn json(&self) -> Value {
        match self {
            Self::World { at, what } => {
                let mut object = json!({ "time_ns": at, "world": what.to_string() });
                if let Some(member) = what.member() {
                    object["member"] = json!(member);
                }
                if let Happened::Fault { fault, for_us, .. } = what {
                    object["fault"] = json!({ "fault": fault, "for_us": for_us });
                }
                object
            }
            Self::Message { at, number, message, fate, .. } => {
                let (from, to) = (message.from.id, message.to.id);
                let mut object =
                    json!({ "time_ns": at, "message": number, "from": from, "to": to, "fate": fate });
                if !matches!(fate, Fate::Arrived { .. }) {
                    object["content"] = json!(message);
                }
                object
            }
            Self::Step { step, at, event, actions, after, .. } => json!({
                "step": step,
                "time_ns": at,
                "member": after.id,
                "event": event,
                "actions": actions,
                "role": after.role.to_string(),
                "term": after.term,
                "vote": after.vote,
                "leader": after.leader,
                "last": after.last,
                "durable": after.durable,
                "committed": after.committed,
                "applied": after.applied,
            }),
        }
    }
}

pub(crate) fn millis(nanos: u64) -> String {
    format!("{}.{:03}ms", nanos / 1_000_000, nanos / 1_000 % 1_000)
}

fn role(role: RoleKind) -> char {
    match role {
        RoleKind::Follower => 'F',
        RoleKind::PreCandidate => 'p',
        RoleKind::Candidate => 'C',
        RoleKind::Leader => 'L',
        RoleKind::Halted => 'H',
    }
}

pub(crate) fn event_text(event: &Event, show: Commands<'_>) -> String {
    match event {
        Event::Wake => "wake".to_owned(),
        Event::Receive(message) => format!("got {}", message_text(message, show)),
        Event::Propose(proposal) => {
            format!("propose {:?} {}", proposal.request, (show.0)(&proposal.payload))
        }
        Event::ProposeBatch(proposals) => {
            let first = proposals.first().map(|proposal| proposal.request);
            format!("propose {} from {first:?}", proposals.len())
        }
        Event::Persisted(seq) => format!("written {}", seq.get()),
        Event::Applied(index) => format!("applied {index}"),
        Event::PeerUnreachable(peer) => format!("lost connection to {peer}"),
        Event::Read(read) => format!("read {:?} by {:?}", read.request, read.via),
        Event::Reconfigure(reconfigure) => {
            let force = if reconfigure.force { " by force" } else { "" };
            format!("reconfigure {:?} {:?}{force}", reconfigure.request, reconfigure.changes)
        }
        Event::CancelChange(request) => format!("cancel change {request:?}"),
        Event::Transfer(transfer) => format!("transfer {:?} to {:?}", transfer.request, transfer.to),
        Event::SnapshotTaken(index) => format!("took a snapshot through {index}"),
        Event::SnapshotFetched(snapshot) => format!("fetched {snapshot}"),
        Event::SnapshotFailed(last) => format!("could not fetch snapshot {last}"),
        Event::EntriesLoaded(loaded) => {
            format!("loaded {} for {}", loaded.entries, loaded.to)
        }
        Event::DiskFull(true) => "disk full".to_owned(),
        Event::DiskFull(false) => "disk has room again".to_owned(),
        Event::Shutdown => "shut down".to_owned(),
    }
}

pub(crate) fn action_text(action: &Action, show: Commands<'_>) -> String {
    match action {
        Action::Send(message) => message_text(message, show),
        Action::Persist(write) => {
            let vote = |id: NodeId| format!(" vote={id}");
            let vote = write.ballot.vote().map(vote).unwrap_or_default();
            let cut = write.truncate_after.map(|after| format!(" cut after {after}")).unwrap_or_default();
            let rebase = write.rebase.as_ref();
            let rebase = rebase.map(|it| format!(" {} from {}", it.snapshot, it.base)).unwrap_or_default();
            let repaired =
                if write.repaired.is_empty() { String::new() } else { format!(" repair {}", write.repaired) };
            let (seq, term) = (write.seq.get(), write.ballot.term());
            let append = show.put_into_entries(write.append.to_string(), &write.append);
            format!("write {seq} t{term}{vote}{cut}{repaired}{rebase} {append}")
        }
        Action::Apply { through } => format!("apply through {through}"),
        Action::Restore(snapshot) => format!("restore {snapshot}"),
        Action::FetchSnapshot { from, snapshot } => format!("fetch {snapshot} from {from}"),
        Action::LoadEntries { to, after, through, .. } => {
            format!("load entries after {after} through {through} for {to}")
        }
        Action::TakeSnapshot => "take a snapshot".to_owned(),
        Action::Respond { request, outcome: Outcome::Committed(id) } => {
            format!("{request:?} committed as {id}")
        }
        Action::Respond { request, outcome } => format!("{request:?} {outcome}"),
        Action::Halt(violation) => format!("HALT: {violation}"),
    }
}

pub(crate) fn message_text(message: &Message, show: Commands<'_>) -> String {
    let text = message.to_string().replacen('→', ">", 1);
    match &message.body {
        Body::Append { slice, .. } => show.put_into_entries(text, slice.entries()),
        _ => text,
    }
}
