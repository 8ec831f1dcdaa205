//! What a moment of a run means, in words; nothing, for most moments.

use super::cause::{Appended, Moment, Run, Step, What};
use super::delivery::Delivery;
use crate::fate::Loss;
use crate::trace::{Happened, millis};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::message::Body;
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{LogId, NodeId};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// How much a fact says of how a failure came about, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// A client was answered.
    Answer,
    /// Entries were committed.
    Commit,
    /// A member stood for election, or voted.
    Vote,
    /// Entries were appended.
    Append,
    /// A fault began, or a client sent a command again.
    Fault,
    /// A leader that came or went, a log that was cut, a snapshot, a crash or a restart; and a vote, where
    /// the property is about elections.
    Turn,
    /// The last of all.
    End,
}

/// Something that a failure followed from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// The step, or the last one before.
    pub step: u64,
    /// The virtual time, in nanoseconds.
    pub at: u64,
    /// The member that it is about, if it is about one.
    pub member: Option<NodeId>,
    /// How much it says.
    pub weight: Weight,
    /// What happened: a sentence without its full stop.
    pub text: String,
    /// The first and the last entry, where all that happened is that some were appended.
    appended: Option<(LogId, LogId)>,
    /// The moment of the run at which it happened.
    pub(crate) moment: usize,
}

impl Fact {
    /// Takes up a later fact that tells more of the same. Returns whether it does.
    pub(super) fn absorb(&mut self, later: &Self) -> bool {
        let (Some((first, _)), Some((_, last)), Some(member)) = (self.appended, later.appended, self.member)
        else {
            return false;
        };
        if later.member != self.member {
            return false;
        }
        self.text = format!("member {member} appends {first} to {last}");
        self.appended = Some((first, last));
        true
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.at / 1_000_000, self.at / 1_000 % 1_000);
        let time = format!("{ms}.{us:03}ms");
        write!(f, "{:>6} {time:>12}  {}", self.step, self.text)
    }
}

impl Run {
    /// What a moment means; none where it changed nothing that matters.
    pub(crate) fn fact(&self, number: usize) -> Option<Fact> {
        let moment = &self.moments[number];
        let (weight, text) = match &moment.what {
            What::Step(step) => {
                let (weight, text) = step_fact(step)?;
                (weight, text + &carriage(step))
            }
            What::World { happened: Happened::SentAgain { .. }, .. } if !self.is_taken(number) => {
                return None;
            }
            What::World { happened, unsynced } => self.world_fact(happened, unsynced)?,
        };
        let appended = match &moment.what {
            What::Step(step) if weight == Weight::Append && carriage(step).is_empty() => {
                step.appended.first().zip(step.appended.last()).map(|(first, last)| (first.id, last.id))
            }
            _ => None,
        };
        let Moment { step, at, .. } = *moment;
        Some(Fact { step, at, member: moment.member(), weight, text, appended, moment: number })
    }

    fn world_fact(&self, happened: &Happened, unsynced: &[usize]) -> Option<(Weight, String)> {
        match happened {
            Happened::Fault { .. } | Happened::CustomFault { .. } | Happened::SentAgain { .. } => {
                Some((Weight::Fault, happened.to_string()))
            }
            Happened::Crash { member, lost } => {
                // The first ones may be on the disk, and the member did not hear of it.
                let kept = unsynced.len().saturating_sub(usize::try_from(*lost).unwrap_or(usize::MAX));
                let lost = unsynced[kept..].iter().filter_map(|number| match &self.moments[*number].what {
                    What::Step(step) => written(step),
                    What::World { .. } => None,
                });
                let lost: Vec<_> = lost.collect();
                let before = match &lost[..] {
                    [] => String::new(),
                    [one] => format!(" before {one} is durable"),
                    all => format!(" before {} are durable", all.join(" and ")),
                };
                Some((Weight::Turn, format!("member {member} crashes{before}")))
            }
            Happened::Restart { .. } => Some((Weight::Turn, happened.to_string())),
            // What disks do is told where it matters: when a member halts, or finds damage.
            Happened::Other { what, .. }
                if what.starts_with("disk of") || what.ends_with("recovers its log") =>
            {
                None
            }
            Happened::Other { what, .. } => Some((Weight::Turn, what.clone())),
            Happened::Healed => None,
        }
    }
}

/// How the message of a step came, and which of those that it sent were lost: nothing where all went as it
/// should.
fn carriage(step: &Step) -> String {
    let mut text = match step.delivery {
        Some((Delivery { is_copy: true, .. }, took)) => {
            format!(", by a copy of a message sent {} before", millis(took))
        }
        Some((Delivery { is_late: true, .. }, took)) => {
            format!(", by a message sent {} before", millis(took))
        }
        _ => String::new(),
    };
    let mut lost: BTreeMap<Loss, Vec<NodeId>> = BTreeMap::new();
    for (message, loss) in step.lost.iter().filter(|(message, _)| matters(&message.body)) {
        let to = lost.entry(*loss).or_default();
        if !to.contains(&message.to.id) {
            to.push(message.to.id);
        }
    }
    for (loss, to) in lost {
        let to: Vec<_> = to.iter().map(NodeId::to_string).collect();
        let _ = write!(text, "; what it sends to {} is lost: {loss}", to.join(" and "));
    }
    text
}

/// Whether the loss of a message may be part of how a failure came about: it is about votes or entries.
fn matters(body: &Body) -> bool {
    match body {
        Body::RequestVote { .. }
        | Body::Voted { .. }
        | Body::TimeoutNow { .. }
        | Body::Append { .. }
        | Body::Appended { .. }
        | Body::Rejected { .. } => true,
        Body::PreVote { .. }
        | Body::PreVoted { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatAck { .. }
        | Body::Commit { .. }
        | Body::OfferSnapshot { .. }
        | Body::SnapshotUnavailable { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexIs { .. }
        | Body::WrongIncarnation
        | Body::StaleIncarnation { .. }
        | Body::Outdated
        | Body::RepairRequest { .. }
        | Body::RepairSnapshotRequest { .. }
        | Body::RepairResponse { .. }
        | Body::RepairSnapshot { .. }
        | Body::Pause { .. } => false,
    }
}

/// What a step has begun to write.
fn written(step: &Step) -> Option<String> {
    let write = step.write()?;
    let vote = voted(step).map(|id| format!("its vote for {id} in term {}", step.after.term));
    let entries = span(&step.appended).map(|entries| format!("its write of {entries}"));
    match (vote, entries) {
        (Some(vote), Some(entries)) => Some(format!("{vote} and {entries}")),
        (None, None) if write.truncate_after.is_none() => None,
        (None, None) => Some("its cut of the log".to_owned()),
        (one, other) => one.or(other),
    }
}

fn step_fact(step: &Step) -> Option<(Weight, String)> {
    let clauses: Vec<_> =
        [support(step), turn(step), append(step), commit(step), answer(step)].into_iter().flatten().collect();
    let weight = clauses.iter().map(|(weight, _)| *weight).max()?;
    let texts: Vec<_> = clauses.into_iter().map(|(_, text)| text).collect();
    Some((weight, format!("member {} {}", step.after.id, texts.join(", "))))
}

/// Whom a member has voted for by a step.
fn voted(step: &Step) -> Option<NodeId> {
    let vote = step.write()?.ballot.vote()?;
    let known = |status: Status| (status.term, status.vote) == (step.after.term, Some(vote));
    (!step.before.is_some_and(known) && step.after.vote == Some(vote)).then_some(vote)
}

/// A candidate hears that it is voted for, or late that it may stand.
fn support(step: &Step) -> Option<(Weight, String)> {
    let Event::Receive(message) = &step.event else { return None };
    let stands = step.before.is_some_and(|before| before.role == RoleKind::Candidate);
    let text = match message.body {
        Body::Voted { granted: true } => format!("gets the vote of {}", message.from.id),
        Body::PreVoted { granted: true, .. } => format!("gets a late pre-vote of {}", message.from.id),
        _ => return None,
    };
    stands.then_some((Weight::Vote, text))
}

fn turn(step: &Step) -> Option<(Weight, String)> {
    let Step { before, after, actions, .. } = step;
    let role = before.map_or(RoleKind::Follower, |before| before.role);
    let term = after.term;
    let halt = actions.iter().find_map(|action| match action {
        Action::Halt(violation) => Some(format!("halts: {violation}")),
        _ => None,
    });
    let became = |kind| after.role == kind && (role != kind || before.is_some_and(|it| it.term != term));
    if let Some(halt) = halt {
        Some((Weight::Turn, halt))
    } else if became(RoleKind::Leader) {
        Some((Weight::Turn, format!("becomes leader of term {term}")))
    } else if became(RoleKind::Candidate) {
        Some((Weight::Vote, format!("stands for election in term {term}")))
    } else if role == RoleKind::Leader && after.role != RoleKind::Leader {
        Some((Weight::Turn, format!("steps down in term {term}")))
    } else if let Some(vote) = voted(step) {
        Some((Weight::Vote, format!("votes for {vote} in term {term}")))
    } else {
        Some((Weight::Turn, restored(step)?))
    }
}

/// A snapshot takes the place of the log.
fn restored(step: &Step) -> Option<String> {
    step.actions.iter().find_map(|action| match action {
        Action::Restore(snapshot) => Some(format!("installs {snapshot}")),
        _ => None,
    })
}

fn append(step: &Step) -> Option<(Weight, String)> {
    let write = step.write()?;
    let cut = write.truncate_after.map(|after| format!("cuts its log after {after}"));
    let entries = span(&step.appended).map(|entries| match &step.event {
        Event::Receive(message) if step.after.role != RoleKind::Leader => {
            format!("appends {entries} from {}", message.from.id)
        }
        _ => format!("appends {entries}"),
    });
    let weight = if cut.is_some() { Weight::Turn } else { Weight::Append };
    match (cut, entries) {
        (None, None) => None,
        (Some(cut), Some(entries)) => Some((weight, format!("{cut} and {entries}"))),
        (one, other) => Some((weight, one.or(other)?)),
    }
}

/// `4:2 (put k1=v3)`, or `4:2 to 9:2`.
fn span(entries: &[Appended]) -> Option<String> {
    match entries {
        [] => None,
        [one] => Some(format!("{} ({})", one.id, one.text)),
        [first, .., last] => Some(format!("{} to {}", first.id, last.id)),
    }
}

fn commit(step: &Step) -> Option<(Weight, String)> {
    let known = step.before?.committed;
    let moved = step.after.committed > known;
    moved.then(|| (Weight::Commit, format!("knows all through {} to be committed", step.after.committed)))
}

fn answer(step: &Step) -> Option<(Weight, String)> {
    step.actions.iter().find_map(|action| {
        let text = match action {
            Action::Respond { outcome: Outcome::Committed(id), .. } => {
                format!("tells a client that {id} is committed")
            }
            Action::Respond { outcome: Outcome::Ready { index, .. }, .. } => {
                format!("answers a read as of entry {index}")
            }
            _ => return None,
        };
        Some((Weight::Answer, text))
    })
}
