//! A way through the states of a group, gone again: as steps of its members, as a story and as a page.

use super::bounds::{Bounds, ReplayError, Transition, id};
use super::clocks::TICK_NANOS;
use super::host::Cause;
use super::state::{State, What};
use super::steps::{Steps, Taken};
use super::symmetry::Symmetry;
use super::violation::Ended;
use crate::fate::Fate;
use crate::happened::Happened;
use crate::report::Failure;
use crate::story::{self, Story};
use crate::trace::{Commands, Traced};
use crate::world::Tracer;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::Message;
use kontiki_core::status::Status;
use kontiki_core::types::{Member, NodeId, Term, WriteSeq};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What happens in a group, one event after the other: what a counterexample is, as a file keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The bounds within which it happens.
    pub bounds: Bounds,
    /// The events, from the beginning.
    pub path: Vec<Transition>,
}

/// How long an event takes in the time of a trace, in nanoseconds: an exploration knows no time.
const EVENT: u64 = 1_000_000;

impl Schedule {
    /// The ids of the members.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..usize::from(self.bounds.members)).map(id)
    }

    /// Goes it again, and shows every step to `tracer`, each event a millisecond after the one before.
    /// Returns the violation at its end, if there is one.
    ///
    /// # Errors
    ///
    /// If the bounds are none, or an event cannot happen where it stands.
    pub fn run_traced(&self, tracer: Tracer<'_>) -> Result<Option<Failure>, ReplayError> {
        let (Run { shown, .. }, failure) = self.run()?;
        // When each message arrives, and whether it was late when it came first.
        let mut arrivals: BTreeMap<u64, (Vec<u64>, bool)> = BTreeMap::new();
        for (at, shown) in &shown {
            if let Shown::Arrived { number, is_late, .. } = shown {
                arrivals.entry(*number).or_insert((Vec::new(), *is_late)).0.push(*at);
            }
        }
        for (at, shown) in &shown {
            let fate = match shown {
                Shown::Sent { number, .. } => {
                    let (arrives_ns, delayed) = arrivals.get(number).cloned().unwrap_or_default();
                    Fate::Carried { arrives_ns, delayed }
                }
                _ => Fate::Arrived { kept_back: false },
            };
            tracer(&shown.traced(*at, &fate));
        }
        Ok(failure)
    }

    /// How it came to the violation at its end; none where there is none.
    ///
    /// # Errors
    ///
    /// If the bounds are none, or an event cannot happen where it stands.
    pub fn story(&self) -> Result<Option<Story>, ReplayError> {
        story::tell_of(|tracer| self.run_traced(tracer))
    }

    /// Everything that can happen after it within its bounds; nothing after a violation.
    ///
    /// # Errors
    ///
    /// If the bounds are none, or an event cannot happen where it stands.
    pub fn next(&self) -> Result<Vec<Transition>, ReplayError> {
        let end = self.walk(&self.steps()?, |_, _| ())?;
        let mut events = Vec::new();
        if let Ok(end) = end {
            (0..end.hosts.len()).for_each(|member| end.events(member, &self.bounds, &mut events));
            let ticks = end.ticks(&self.bounds).map(Transition::Tick);
            return Ok(events.into_iter().map(|(_, transition)| transition).chain(ticks).collect());
        }
        Ok(Vec::new())
    }

    fn run(&self) -> Result<(Run, Option<Failure>), ReplayError> {
        let steps = self.steps()?;
        let mut run = Run::default();
        let end = self.walk(&steps, |state, what| match what {
            What::Step(member, cause) => {
                run.at += EVENT;
                run.happens(state, member, cause, &steps);
            }
            What::Tick(_) => run.at += TICK_NANOS,
        })?;
        let found = end.err().map(|ended| ended.violation);
        let failure = found.map(|found| Failure::new(found.property, found.detail, run.step, run.at));
        Ok((run, failure))
    }

    /// Goes it again. `before` sees each state, and what is about to happen. Returns the
    /// state at the end, or the violation: of an event, or that the end leads nowhere.
    pub(super) fn walk(
        &self,
        steps: &Steps,
        mut before: impl FnMut(&State, What),
    ) -> Result<Result<Arc<State>, Ended>, ReplayError> {
        let mut state = match State::first(steps) {
            Ok(first) => Arc::new(first),
            Err(violation) => return Ok(Err(violation.into())),
        };
        for (&transition, step) in self.path.iter().zip(1..) {
            let impossible = ReplayError::Impossible { step, transition };
            before(&state, state.what(transition, &steps.bounds).ok_or(impossible)?);
            match state.after(transition, steps).ok_or(impossible)? {
                Ok(next) => state = next,
                Err(violation) => return Ok(Err(violation.into())),
            }
        }
        Ok(state.goes_on(steps, |_| true).map(|()| state).map_err(|ended| *ended))
    }

    pub(super) fn steps(&self) -> Result<Steps, ReplayError> {
        self.bounds.check().map_err(ReplayError::Bounds)?;
        Ok(Steps::new(self.bounds, Symmetry::none()))
    }
}

/// A group whose events are written down.
#[derive(Default)]
struct Run {
    shown: Vec<(u64, Shown)>,
    step: u64,
    at: u64,
    /// How many messages have left.
    sent: u64,
    /// How many writes each member has begun, and the numbers of those that are under way. An exploration
    /// numbers them anew after each step.
    writes: BTreeMap<NodeId, (u64, VecDeque<WriteSeq>)>,
    /// The copies of each message, in the order in which they were sent.
    copies: Vec<(Message, Vec<Copy>)>,
    /// The greatest number of those that have arrived, on each link.
    newest: BTreeMap<(NodeId, NodeId), u64>,
}

/// A message that was sent.
#[derive(Clone, Copy)]
struct Copy {
    number: u64,
    has_arrived: bool,
}

/// Something to be traced.
enum Shown {
    Step { step: u64, event: Event, actions: Vec<Action>, after: Box<Status> },
    World(Happened),
    Sent { number: u64, message: Message },
    Arrived { number: u64, message: Message, is_late: bool },
}

impl Run {
    fn show(&mut self, shown: Shown) {
        self.shown.push((self.at, shown));
    }

    /// What happens to a member, and what it does.
    fn happens(&mut self, state: &State, member: usize, cause: Cause, steps: &Steps) {
        let host = &state.hosts[member];
        match cause {
            Cause::Crash(written) => {
                let lost = host.writes.len() as u64 - u64::from(written);
                return self.starts_again(host.member(), lost, None);
            }
            Cause::Lose(index) => {
                let what = format!("the disk of member {} is damaged: entry {index}", id(member));
                return self.starts_again(host.member(), 0, Some(what));
            }
            Cause::Wipe => {
                let (lost, what) =
                    (host.writes.len() as u64, format!("the disk of member {} is lost", id(member)));
                return self.starts_again(host.reborn(), lost, Some(what));
            }
            Cause::Receive(key) => self.arrives(&steps.post(key).message, host.raft.status().term),
            _ => {}
        }
        // The judge has its say of the whole event.
        let _ = steps.watched(host, state.at(member, cause), &mut |taken| self.steps(taken));
    }

    /// A member crashes before so many of its writes are durable, this befalls its disk, and it starts again
    /// as told.
    fn starts_again(&mut self, member: Member, lost: u64, disk: Option<String>) {
        let Member { id: member, incarnation } = member;
        self.writes.entry(member).or_default().1.clear();
        self.show(Shown::World(Happened::Crash { member, lost }));
        if let Some(what) = disk {
            self.show(Shown::World(Happened::Other { member: Some(member), what }));
        }
        self.show(Shown::World(Happened::Restart { member, incarnation }));
    }

    fn steps(&mut self, taken: &Taken<'_>) {
        self.step += 1;
        let id = taken.after.id;
        let (begun, open) = self.writes.entry(id).or_default();
        let event = match taken.event {
            Event::Persisted(_) => Event::Persisted(open.pop_front().unwrap_or_default()),
            event => event.clone(),
        };
        let mut actions = taken.actions.to_vec();
        for action in &mut actions {
            if let Action::Persist(write) = action {
                *begun += 1;
                write.seq = WriteSeq::new(*begun);
                open.push_back(write.seq);
            }
        }
        let sent: Vec<_> = actions.iter().filter_map(sent).cloned().collect();
        let after = Box::new(*taken.after);
        self.show(Shown::Step { step: self.step, event, actions, after });
        sent.into_iter().for_each(|message| self.leaves(message));
    }

    fn leaves(&mut self, message: Message) {
        self.sent += 1;
        let copy = Copy { number: self.sent, has_arrived: false };
        match self.copies.iter_mut().find(|(known, _)| *known == message) {
            Some((_, copies)) => copies.push(copy),
            None => self.copies.push((message.clone(), vec![copy])),
        }
        self.show(Shown::Sent { number: copy.number, message });
    }

    /// A message reaches a member in this term: the first of its copies that has not arrived, or the last
    /// once more. It is late if the term has passed, or a later one of the same link was faster.
    fn arrives(&mut self, message: &Message, term: Term) {
        let Some((_, copies)) = self.copies.iter_mut().find(|(known, _)| known == message) else { return };
        let waiting = copies.iter().position(|copy| !copy.has_arrived).unwrap_or(copies.len() - 1);
        copies[waiting].has_arrived = true;
        let number = copies[waiting].number;
        let newest = self.newest.entry((message.from.id, message.to.id)).or_default();
        let is_late = number < *newest || message.term < term;
        *newest = number.max(*newest);
        self.show(Shown::Arrived { number, message: message.clone(), is_late });
    }
}

impl Shown {
    fn traced<'a>(&'a self, at: u64, fate: &'a Fate) -> Traced<'a> {
        let show = Commands::AS_BYTES;
        match self {
            Self::Step { step, event, actions, after, .. } => {
                Traced::Step { step: *step, at, event, actions, left_out: &[], after, show }
            }
            Self::World(what) => Traced::World { at, what },
            Self::Sent { number, message } | Self::Arrived { number, message, .. } => {
                Traced::Message { at, number: *number, message, fate, show }
            }
        }
    }
}

pub(super) fn sent(action: &Action) -> Option<&Message> {
    match action {
        Action::Send(message) => Some(message),
        _ => None,
    }
}
