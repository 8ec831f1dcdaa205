//! Which part of the past of a failure explains it.
//!
//! A step follows everything that its member did before, down to each heartbeat, so the full causal past of a
//! failure is most of its run. The relevant past is followed from the failure backwards, by what each step
//! looked at: a commit by the acknowledgements that the leader counted, a vote by the log that it was given
//! for, an entry by the leader that appended it. A step that changed nothing of what is looked at later is
//! left out, and so is a change that a later one has replaced before anything looked at it.
//!
//! This is an explanation, not a proof. A term is not explained by the terms before it, and an entry not by
//! the entries before it: where two logs differ, the check names the entry, and the past begins there.

use super::cause::{Run, Step, What};
use crate::check::Check as _;
use crate::check::vote_durability::VoteDurability;
use crate::part::Involvement;
use crate::report::Failure;
use crate::trace::Happened;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{Index, NodeId, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// What a step looked at of its member, or of what its member had heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Need {
    /// The term and the vote.
    Ballot,
    /// Whether it follows, stands for election or leads.
    Role,
    /// Who has said that they vote, or would vote, for it.
    Support,
    /// The end of the log.
    Log,
    /// How much of the log is on the disk.
    Durable,
    /// The commit index.
    Committed,
    /// How far the log is applied.
    Applied,
    /// The membership in force.
    Configured,
    /// The latest snapshot.
    Snapshot,
    /// Who has acknowledged the log this far.
    Acknowledged(Index),
    /// Who has lately confirmed that it leads.
    Confirmed,
    /// What it was asked.
    Request(RequestId),
}

/// What a step may settle of its member's state.
const STATE: [Need; 8] = [
    Need::Ballot,
    Need::Role,
    Need::Log,
    Need::Durable,
    Need::Committed,
    Need::Applied,
    Need::Configured,
    Need::Snapshot,
];

/// What a step looks at of which no more is known than that it violates something.
const LOOKED_AT: [Need; 6] =
    [Need::Ballot, Need::Role, Need::Log, Need::Durable, Need::Committed, Need::Configured];

/// What a disk holds, and a restarted member knows.
const ON_DISK: [Need; 4] = [Need::Ballot, Need::Log, Need::Durable, Need::Snapshot];

/// What is still looked for, before some moment.
#[derive(Default)]
struct Search {
    /// What the moments at which the failure came about have to do with it.
    ends: BTreeMap<usize, BTreeSet<Need>>,
    needs: BTreeMap<NodeId, BTreeSet<Need>>,
    /// Of whom an acknowledgement or a confirmation was found, after the member that got it and what it was
    /// for.
    heard: BTreeSet<(NodeId, Need, NodeId)>,
    /// What is to be explained of a sender, by the moment at which it sent something.
    sent: BTreeMap<usize, BTreeSet<Need>>,
}

impl Run {
    /// The part of the past of a failure that explains it. It includes the moments at which the failure came
    /// about.
    pub(crate) fn relevant(&self, failure: &Failure) -> Vec<usize> {
        let ends = self.ends(failure);
        let mut search = Search { ends: self.needs_of(failure, &ends), ..Search::default() };
        let mut found = Vec::new();
        for number in (0..self.moments.len()).rev() {
            let is_relevant = match &self.moments[number].what {
                What::Step(step) => search.step(number, step),
                What::World { happened, unsynced } => search.happened(self, number, happened, unsynced),
            };
            if is_relevant {
                found.push(number);
            }
        }
        found.reverse();
        found
    }

    /// What each of the moments at which a failure came about has to do with it: as its part says; everything
    /// for the last one, where there are no parts; for others, what they settled.
    fn needs_of(&self, failure: &Failure, ends: &[usize]) -> BTreeMap<usize, BTreeSet<Need>> {
        let mut needs: BTreeMap<usize, BTreeSet<Need>> = BTreeMap::new();
        for part in &failure.parts {
            if let Some(number) = self.end_of(part) {
                needs.entry(number).or_default().extend(involved(&part.what, failure));
            }
        }
        let is_named = !needs.is_empty();
        for number in ends {
            let is_last = !is_named && Some(number) == ends.last();
            needs.entry(*number).or_insert_with(|| match &self.moments[*number].what {
                _ if is_last => LOOKED_AT.into(),
                What::Step(step) => STATE.into_iter().filter(|need| settles(step, *need)).collect(),
                What::World { .. } => BTreeSet::new(),
            });
        }
        needs
    }
}

/// What a part of a failure looks at.
fn involved(what: &Involvement, failure: &Failure) -> Vec<Need> {
    match what {
        Involvement::Acts => LOOKED_AT.to_vec(),
        Involvement::Leads { .. } => vec![Need::Role],
        Involvement::Votes { .. } => vec![Need::Ballot],
        Involvement::Appends(_) | Involvement::Holds(_) | Involvement::HoldsNothing(_) => vec![Need::Log],
        Involvement::HasLost(_) | Involvement::Persists(_) => vec![Need::Log, Need::Durable],
        Involvement::Commits(_) => vec![Need::Committed],
        Involvement::Acknowledges(_) => vec![Need::Log, Need::Committed],
        Involvement::Applies { .. } => vec![Need::Applied],
        Involvement::Serves(_) => vec![Need::Role, Need::Committed, Need::Confirmed],
        Involvement::Crashes { .. } if failure.property == VoteDurability::NAME => vec![Need::Ballot],
        Involvement::Crashes { .. } | Involvement::Damaged { .. } => ON_DISK.to_vec(),
        Involvement::Operation(_) => Vec::new(),
    }
}

impl Search {
    /// Takes a step back. Returns whether it explains anything that comes later.
    fn step(&mut self, number: usize, step: &Step) -> bool {
        let id = step.after.id;
        let (sent, end) = (self.sent.remove(&number), self.ends.remove(&number));
        let is_other = sent.is_some() || end.is_some();
        let own = self.needs.entry(id).or_default();
        if end.is_some() {
            own.extend(answered(step).map(Need::Request));
        }
        own.extend(end.into_iter().chain(sent).flatten());
        let why = self.settled(id, step);
        if !is_other && why.is_empty() {
            return false;
        }
        let own = self.needs.entry(id).or_default();
        own.extend(why.iter().flat_map(|need| looks_at(step, *need)));
        if let Some(source) = step.source {
            let of_source = match &step.event {
                Event::Receive(message) => carried(message, &why),
                _ => Vec::new(),
            };
            self.sent.entry(source).or_default().extend(of_source);
        }
        true
    }

    /// What a step settles of what is looked for. That is looked for no more, but for what several steps
    /// settle together.
    fn settled(&mut self, id: NodeId, step: &Step) -> BTreeSet<Need> {
        let own = self.needs.entry(id).or_default();
        let mut settled: BTreeSet<Need> = own.iter().copied().filter(|need| settles(step, *need)).collect();
        let heard = &mut self.heard;
        settled.retain(|need| {
            let from = sender(step).filter(|_| is_of_peers(*need));
            from.is_none_or(|from| heard.insert((id, *need, from)))
        });
        own.retain(|need| is_of_peers(*need) || *need == Need::Support || !settled.contains(need));
        if settled.contains(&Need::Role) {
            own.retain(|need| *need != Need::Support && !is_of_peers(*need));
            self.heard.retain(|(member, _, _)| *member != id);
        }
        settled
    }

    /// Takes back something that happened to the world.
    fn happened(&mut self, run: &Run, number: usize, happened: &Happened, unsynced: &[usize]) -> bool {
        let (sent, end) = (self.sent.remove(&number), self.ends.remove(&number));
        let is_relevant = sent.is_some() || end.is_some();
        let Some(member) = happened.member() else { return is_relevant };
        let own = self.needs.entry(member).or_default();
        own.extend(end.into_iter().flatten());
        let is_turn = matches!(happened, Happened::Crash { .. } | Happened::Restart { .. });
        if own.is_empty() || !is_turn {
            return is_relevant;
        }
        if let Happened::Restart { .. } = happened {
            own.retain(|need| ON_DISK.contains(need));
            self.heard.retain(|(id, _, _)| *id != member);
        }
        // What was lost with the crash is why the disk holds what it holds.
        let is_write = |number: &&usize| match &run.moments[**number].what {
            What::Step(step) => settles(step, Need::Log) || settles(step, Need::Ballot),
            What::World { .. } => false,
        };
        for lost in unsynced.iter().filter(is_write) {
            self.sent.entry(*lost).or_default();
        }
        true
    }
}

/// Whether a need is of what others have said, each for itself.
fn is_of_peers(need: Need) -> bool {
    matches!(need, Need::Acknowledged(_) | Need::Confirmed)
}

fn sender(step: &Step) -> Option<NodeId> {
    match &step.event {
        Event::Receive(message) => Some(message.from.id),
        _ => None,
    }
}

/// Whether a step is where something came to be as it was later.
fn settles(step: &Step, need: Need) -> bool {
    let Step { before, after, .. } = step;
    let moved = |of: fn(&Status) -> u64| before.as_ref().is_some_and(|before| of(before) != of(after));
    let write = step.write();
    match need {
        Need::Ballot => match before {
            Some(before) => (before.term, before.vote) != (after.term, after.vote),
            None => write.is_some(),
        },
        Need::Role => match before {
            Some(before) if after.role == RoleKind::Follower => before.role != after.role,
            Some(before) => (before.role, before.term) != (after.role, after.term),
            None => after.role != RoleKind::Follower,
        },
        Need::Support => supports(step),
        Need::Log => write.is_some_and(|write| {
            let is_other = write.truncate_after.is_some() || write.rebase.is_some();
            is_other || !write.append.is_empty() || !write.repaired.is_empty()
        }),
        Need::Durable => moved(|it| it.durable.index.get()) || moved(|it| it.durable.term.get()),
        Need::Committed => moved(|it| it.committed.get()),
        Need::Applied => moved(|it| it.applied.get()),
        Need::Configured => moved(|it| it.configured.index.get()),
        Need::Snapshot => moved(|it| it.snapshot.index.get()),
        Need::Acknowledged(through) => match received(step) {
            Some(
                Body::Appended { matched } | Body::HeartbeatAck { matched, .. } | Body::Pause { matched, .. },
            ) => *matched >= through,
            _ => false,
        },
        Need::Confirmed => {
            matches!(received(step), Some(Body::HeartbeatAck { .. } | Body::Pause { .. }))
        }
        Need::Request(request) => asked(&step.event).contains(&request),
    }
}

/// The message that a step received.
fn received(step: &Step) -> Option<&Body> {
    match &step.event {
        Event::Receive(message) => Some(&message.body),
        _ => None,
    }
}

/// Whether a step received a message of an earlier term.
fn is_stale(step: &Step) -> bool {
    matches!(&step.event, Event::Receive(message) if message.term < step.after.term)
}

/// Whether a candidate receives a vote or a pre-vote that another member gives it.
fn supports(step: &Step) -> bool {
    let stands = |role| matches!(role, RoleKind::PreCandidate | RoleKind::Candidate);
    let says_yes =
        matches!(received(step), Some(Body::Voted { granted: true } | Body::PreVoted { granted: true }));
    says_yes && step.before.is_some_and(|before| stands(before.role))
}

/// The requests that an event brings.
fn asked(event: &Event) -> Vec<RequestId> {
    match event {
        Event::Propose(proposal) => vec![proposal.request],
        Event::ProposeBatch(batch) => batch.iter().map(|one| one.request).collect(),
        Event::Read(read) => vec![read.request],
        Event::Reconfigure(change) => vec![change.request],
        Event::CancelChange(request) => vec![*request],
        Event::Transfer(transfer) => vec![transfer.request],
        _ => Vec::new(),
    }
}

/// The requests that a step answers.
fn answered(step: &Step) -> impl Iterator<Item = RequestId> {
    step.actions.iter().filter_map(|action| match action {
        Action::Respond { request, .. } => Some(*request),
        _ => None,
    })
}

/// What a step looked at to settle something.
fn looks_at(step: &Step, need: Need) -> Vec<Need> {
    let Step { before, after, .. } = step;
    let leads = after.role == RoleKind::Leader;
    match need {
        // A term is not explained by the terms before; a vote is by the log that the voter had.
        Need::Ballot if before.is_some_and(|before| before.term == after.term) => {
            vec![Need::Ballot, Need::Log]
        }
        Need::Ballot if after.vote.is_some_and(|vote| vote != after.id) => vec![Need::Log],
        Need::Role if leads || after.role == RoleKind::Candidate => vec![Need::Role, Need::Support],
        Need::Log if leads => vec![Need::Role],
        Need::Log if step.write().is_some_and(|write| write.truncate_after.is_some()) => vec![Need::Log],
        // What is not of its term should not have been taken.
        Need::Log if is_stale(step) => vec![Need::Ballot],
        Need::Committed if leads => vec![Need::Role, Need::Durable, Need::Acknowledged(after.committed)],
        Need::Committed => vec![Need::Log],
        Need::Applied => vec![Need::Committed],
        Need::Snapshot => vec![Need::Applied],
        _ => Vec::new(),
    }
}

/// What the sender of a message looked at, as far as that explains what its receiver settled.
fn carried(message: &Message, why: &BTreeSet<Need>) -> Vec<Need> {
    match &message.body {
        Body::PreVote { .. } | Body::RequestVote { .. } | Body::TimeoutNow { .. } => {
            vec![Need::Role, Need::Log]
        }
        Body::Voted { .. } | Body::WrongIncarnation | Body::StaleIncarnation { .. } | Body::Outdated => {
            vec![Need::Ballot]
        }
        Body::Append { .. } | Body::Heartbeat { .. } | Body::Commit { .. } => {
            let told = [Need::Log, Need::Committed].into_iter().filter(|need| why.contains(need));
            [Need::Role].into_iter().chain(told).collect()
        }
        Body::Appended { .. } | Body::HeartbeatAck { .. } | Body::Pause { .. } => {
            let is_of_log = |need: &Need| matches!(need, Need::Acknowledged(_) | Need::Committed);
            why.iter().any(is_of_log).then_some(Need::Durable).into_iter().collect()
        }
        Body::Rejected { .. }
        | Body::RepairRequest { .. }
        | Body::RepairSnapshotRequest { .. }
        | Body::RepairResponse { .. } => vec![Need::Log],
        Body::OfferSnapshot { .. } | Body::RepairSnapshot { .. } => vec![Need::Role, Need::Snapshot],
        Body::ReadIndexIs { .. } => vec![Need::Role, Need::Committed, Need::Confirmed],
        // A pre-vote promises nothing.
        Body::PreVoted { .. } | Body::ReadIndex { .. } | Body::SnapshotUnavailable { .. } => Vec::new(),
    }
}
