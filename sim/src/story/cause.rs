//! What led to what in a run: each step follows the one before it at its member, the step that sent the
//! message that it got, and the step that began the write that it heard of.

use super::delivery::{Deliveries, Delivery};
use crate::fate::{Fate, Loss};
use crate::hash::StableHasher;
use crate::part::shown;
use crate::trace::{Happened, Traced};
use kontiki_core::action::{Action, Write};
use kontiki_core::event::Event;
use kontiki_core::message::Message;
use kontiki_core::status::Status;
use kontiki_core::types::{LogId, NodeId, WriteSeq};
use std::collections::{BTreeMap, BTreeSet};

/// A run as it was traced, and what led to what in it.
#[derive(Default, Debug)]
pub(crate) struct Run {
    pub(crate) moments: Vec<Moment>,
    /// The last moment of each member, and its status then, in its present life.
    latest: BTreeMap<NodeId, usize>,
    status: BTreeMap<NodeId, Status>,
    /// Where each message was sent last, by its hash: for traces that do not say what became of messages.
    sent: BTreeMap<u64, usize>,
    deliveries: Deliveries,
    /// Where a client sent a payload again last, by its hash.
    again: BTreeMap<u64, usize>,
    /// Where that came to be appended.
    taken: BTreeSet<usize>,
    /// The writes of each member that it has begun and not heard of.
    open: BTreeMap<NodeId, Vec<(WriteSeq, usize)>>,
}

/// A step, or something that happened to the world.
#[derive(Debug)]
pub(crate) struct Moment {
    /// The number of the step, or of the last one before.
    pub(crate) step: u64,
    /// The virtual time, in nanoseconds.
    pub(crate) at: u64,
    pub(crate) what: What,
    /// Earlier moments that led to it.
    pub(crate) causes: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum What {
    Step(Box<Step>),
    World {
        happened: Happened,
        /// For a crash: the moments at which the writes were begun that were not reported as durable.
        unsynced: Vec<usize>,
    },
}

/// A step of a member.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) actions: Vec<Action>,
    /// Before the step; none in the first one of a life.
    pub(crate) before: Option<Status>,
    pub(crate) after: Status,
    /// The entries that it appended.
    pub(crate) appended: Vec<Appended>,
    /// The moment that its event came from: where the message was sent or the write begun.
    pub(crate) source: Option<usize>,
    /// How the message came that it received, and how long that took, in nanoseconds; nothing where the trace
    /// does not say.
    pub(crate) delivery: Option<(Delivery, u64)>,
    /// The messages that it sent and that were lost: what each was, for whom, and how it was lost.
    pub(crate) lost: Vec<(Message, Loss)>,
}

/// An entry that a member appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Appended {
    pub(crate) id: LogId,
    /// What it holds, for people.
    pub(crate) text: String,
}

impl Moment {
    /// The member that it is about, if it is about one.
    pub(crate) fn member(&self) -> Option<NodeId> {
        match &self.what {
            What::Step(step) => Some(step.after.id),
            What::World { happened, .. } => happened.member(),
        }
    }
}

impl Step {
    /// The write that it began.
    pub(crate) fn write(&self) -> Option<&Write> {
        self.actions.iter().find_map(|action| match action {
            Action::Persist(write) => Some(write),
            _ => None,
        })
    }
}

impl Run {
    /// Takes note of what happens next.
    pub(crate) fn note(&mut self, traced: &Traced<'_>) {
        match traced {
            Traced::Step { step, at, event, actions, after, .. } => {
                let mut causes: Vec<_> = self.latest.get(&after.id).copied().into_iter().collect();
                let delivery = self.delivery(*at, event);
                let source =
                    delivery.map(|(delivery, _)| delivery.key).or_else(|| self.source(after.id, event));
                causes.extend(source);
                let taken = Step {
                    event: (*event).clone(),
                    actions: actions.to_vec(),
                    before: self.status.insert(after.id, **after),
                    after: **after,
                    appended: appended(traced),
                    source,
                    delivery,
                    lost: Vec::new(),
                };
                if !taken.appended.is_empty() {
                    self.taken.extend(source.filter(|source| self.is_sent_again(*source)));
                }
                let number = self.moments.len();
                for action in *actions {
                    match action {
                        Action::Send(message) => {
                            self.sent.insert(StableHasher::of(message), number);
                            self.deliveries.sends(message, number);
                        }
                        Action::Persist(write) => {
                            self.open.entry(after.id).or_default().push((write.seq, number));
                        }
                        _ => {}
                    }
                }
                self.latest.insert(after.id, number);
                let (step, at, what) = (*step, *at, What::Step(Box::new(taken)));
                self.moments.push(Moment { step, at, what, causes });
            }
            Traced::World { at, what } => self.note_happened(*at, what),
            Traced::Message { number, message, fate, .. } => {
                let sent = self.deliveries.becomes(*number, message, fate);
                if let (Some(sent), Fate::Lost(loss)) = (sent, fate)
                    && let What::Step(step) = &mut self.moments[sent].what
                {
                    step.lost.push(((*message).clone(), *loss));
                }
            }
        }
    }

    /// How the message of an event came, and how long that took.
    fn delivery(&mut self, at: u64, event: &Event) -> Option<(Delivery, u64)> {
        let Event::Receive(message) = event else { return None };
        let delivery = self.deliveries.receives(message)?;
        Some((delivery, at.saturating_sub(self.moments[delivery.key].at)))
    }

    fn is_sent_again(&self, number: usize) -> bool {
        matches!(self.moments[number].what, What::World { happened: Happened::SentAgain { .. }, .. })
    }

    /// Whether what a client sent again at this moment came to be appended.
    pub(super) fn is_taken(&self, number: usize) -> bool {
        self.taken.contains(&number)
    }

    /// The moment that an event came from.
    fn source(&mut self, member: NodeId, event: &Event) -> Option<usize> {
        match event {
            Event::Receive(message) => self.sent.get(&StableHasher::of(message)).copied(),
            Event::Propose(proposal) => self.again.get(&StableHasher::of(&proposal.payload)).copied(),
            Event::ProposeBatch(proposals) => proposals
                .iter()
                .find_map(|proposal| self.again.get(&StableHasher::of(&proposal.payload)).copied()),
            Event::Persisted(seq) => {
                let open = self.open.get_mut(&member)?;
                let begun = open.iter().rfind(|(begun, _)| begun <= seq).map(|(_, number)| *number);
                open.retain(|(begun, _)| begun > seq);
                begun
            }
            _ => None,
        }
    }

    fn note_happened(&mut self, at: u64, happened: &Happened) {
        let (number, step) = (self.moments.len(), self.moments.last().map_or(0, |moment| moment.step));
        let mut unsynced = Vec::new();
        let mut causes = Vec::new();
        if let Happened::Crash { member, .. } | Happened::Restart { member, .. } = happened {
            causes.extend(self.latest.insert(*member, number));
            self.status.remove(member);
            let lost = self.open.remove(member).unwrap_or_default();
            unsynced.extend(lost.into_iter().map(|(_, number)| number));
        }
        if let Happened::Crash { member, .. } = happened {
            self.deliveries.crashes(*member);
        }
        if let Happened::SentAgain { payload, .. } = happened {
            self.again.insert(StableHasher::of(payload), number);
        }
        let what = What::World { happened: happened.clone(), unsynced };
        self.moments.push(Moment { step, at, what, causes });
    }

    /// The moments from which these follow, and these.
    pub(crate) fn past(&self, of: &[usize]) -> Vec<usize> {
        let mut is_past = vec![false; self.moments.len()];
        of.iter().for_each(|number| is_past[*number] = true);
        for number in (0..self.moments.len()).rev() {
            if is_past[number] {
                self.moments[number].causes.iter().for_each(|cause| is_past[*cause] = true);
            }
        }
        (0..self.moments.len()).filter(|number| is_past[*number]).collect()
    }
}

fn appended(traced: &Traced<'_>) -> Vec<Appended> {
    let Traced::Step { actions, show, .. } = traced else { return Vec::new() };
    let writes = actions.iter().filter_map(|action| match action {
        Action::Persist(write) => Some(write),
        _ => None,
    });
    writes
        .flat_map(|write| write.append.iter())
        .map(|entry| Appended { id: entry.id, text: shown(&entry.body, show.0) })
        .collect()
}
