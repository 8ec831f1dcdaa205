//! Watches a run and makes a diagram of it.

use super::diagram::{Diagram, Event, Explained, Kind, Operation, Span, State, Write};
use super::traffic::{self, Traffic};
use crate::fault::Fault;
use crate::happened::Happened;
use crate::report::Failure;
use crate::story::Story;
use crate::story::cause::{Run, What};
use crate::trace::{Commands, Traced, action_text, event_text, message_text};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::{self, Proposal};
use kontiki_core::types::{NodeId, RequestId, WriteSeq};
use std::collections::{BTreeMap, BTreeSet};

/// Makes a diagram of a run that it watches, step by step: as a [`Tracer`](crate::Tracer), or with a host of
/// your own.
#[derive(Default, Debug)]
pub struct Watcher {
    /// Its moments have the numbers of the events.
    run: Run,
    /// How many steps are left out: the first ones.
    left_out: u64,
    /// How many steps of the run there were so far.
    steps: u64,
    events: Vec<Event>,
    traffic: Traffic,
    writes: Vec<Write>,
    operations: Vec<Operation>,
    /// Whose each write and each operation is, until the lanes are known.
    writers: Vec<NodeId>,
    asked: Vec<NodeId>,
    /// The writes of each member that it has not heard of.
    pending: BTreeMap<NodeId, Vec<(WriteSeq, usize)>>,
    unanswered: BTreeMap<(NodeId, RequestId), usize>,
    members: BTreeSet<NodeId>,
    states: BTreeMap<NodeId, State>,
}

impl Watcher {
    /// Watches a run of these members, and of others that come to be known.
    pub fn new(members: impl IntoIterator<Item = NodeId>) -> Self {
        Self { members: members.into_iter().collect(), ..Self::default() }
    }

    /// Leaves the first steps of the run out.
    #[must_use]
    pub fn leaving_out(self, steps: u64) -> Self {
        Self { left_out: steps, ..self }
    }

    /// Takes messages of equal content for one another only within this time, the longest that an ordinary
    /// message takes, in nanoseconds.
    #[must_use]
    pub fn with_latency(self, latency: u64) -> Self {
        Self { traffic: Traffic::new(latency), ..self }
    }

    /// Takes note of what happens next.
    pub fn note(&mut self, traced: &Traced<'_>) {
        self.steps += u64::from(matches!(traced, Traced::Step { .. }));
        if let Traced::Message { number, message, fate, .. } = traced {
            self.traffic.becomes(*number, message, fate);
            self.run.note(traced);
            return;
        }
        match traced {
            // What disks do is left out with the steps around it; faults and crashes stay, since they last.
            Traced::Step { .. } | Traced::World { what: Happened::Other { .. }, .. }
                if self.left_out > 0 && self.steps <= self.left_out =>
            {
                return;
            }
            Traced::Step { .. } => self.note_step(traced),
            Traced::World { at, what } => self.note_happened(*at, what),
            Traced::Message { .. } => {}
        }
        self.run.note(traced);
        let number = self.run.moments.len() - 1;
        self.events[number].causes.clone_from(&self.run.moments[number].causes);
        self.events[number].step = self.run.moments[number].step;
    }

    fn note_step(&mut self, traced: &Traced<'_>) {
        let Traced::Step { at, event, actions, after, show, .. } = traced else { return };
        let (number, id) = (self.events.len(), after.id);
        self.members.insert(id);
        let mut noted = Event::new(*at, kind(event), String::new());
        match event {
            event::Event::Receive(message) => {
                let text = || message_text(message, *show);
                noted.received = Some(self.traffic.arrived(number, *at, message, text));
                self.members.insert(message.from.id);
            }
            event => noted.what = event_text(event, *show),
        }
        self.asked(number, id, event, *show);
        if let event::Event::Persisted(seq) = event {
            self.persisted(number, id, *seq);
        }
        for action in *actions {
            self.note_action(&mut noted, number, id, action, *show);
        }
        let state = State::of(after);
        if self.states.get(&id) != Some(&state) {
            noted.state = Some(state.clone());
            self.states.insert(id, state);
        }
        self.events.push(noted);
    }

    fn note_action(
        &mut self,
        noted: &mut Event,
        number: usize,
        id: NodeId,
        action: &Action,
        show: Commands<'_>,
    ) {
        match action {
            Action::Send(message) => {
                self.members.insert(message.to.id);
                let text = message_text(message, show);
                noted.sent.push(self.traffic.sent(number, noted.at, message, text));
                return;
            }
            Action::Persist(write) => {
                self.pending.entry(id).or_default().push((write.seq, self.writes.len()));
                self.writes.push(Write { member: 0, begun: number, ended: None, unheard: false });
                self.writers.push(id);
            }
            Action::Respond { request, outcome } => {
                if let Some(operation) = self.unanswered.remove(&(id, *request)) {
                    let operation = &mut self.operations[operation];
                    operation.answered = Some(number);
                    operation.answer = Some(match outcome {
                        Outcome::Committed(id) => format!("committed as {id}"),
                        outcome => outcome.to_string(),
                    });
                }
            }
            _ => {}
        }
        noted.did.push(action_text(action, show));
    }

    /// Takes note of what a client or an operator asks.
    fn asked(&mut self, number: usize, id: NodeId, event: &event::Event, show: Commands<'_>) {
        let proposals = |proposals: &[Proposal]| {
            let asked = proposals.iter().map(|one| (one.request, show.text(&one.payload)));
            asked.collect::<Vec<_>>()
        };
        let asked = match event {
            event::Event::Propose(proposal) => proposals(std::slice::from_ref(proposal)),
            event::Event::ProposeBatch(batch) => proposals(batch),
            event::Event::Read(read) => vec![(read.request, format!("read by {:?}", read.via))],
            event::Event::Reconfigure(it) => vec![(it.request, event_text(event, show))],
            event::Event::Transfer(transfer) => vec![(transfer.request, event_text(event, show))],
            event::Event::CancelChange(request) => vec![(*request, event_text(event, show))],
            _ => Vec::new(),
        };
        for (request, text) in asked {
            self.unanswered.insert((id, request), self.operations.len());
            let (answered, answer) = (None, None);
            self.operations.push(Operation { member: 0, text, asked: number, answered, answer });
            self.asked.push(id);
        }
    }

    fn persisted(&mut self, number: usize, id: NodeId, seq: WriteSeq) {
        let writes = &mut self.writes;
        self.pending.entry(id).or_default().retain(|(begun, write)| {
            let is_durable = *begun <= seq;
            if is_durable {
                writes[*write].ended = Some(number);
            }
            !is_durable
        });
    }

    fn note_happened(&mut self, at: u64, happened: &Happened) {
        let number = self.events.len();
        self.members.extend(happened.member());
        if let Happened::Crash { member, .. } | Happened::Restart { member, .. } = happened {
            self.states.remove(member);
            self.traffic.crashes(*member);
            self.unanswered.retain(|(id, _), _| id != member);
            for (_, write) in self.pending.remove(member).unwrap_or_default() {
                (self.writes[write].ended, self.writes[write].unheard) = (Some(number), true);
            }
        }
        let (kind, what) = match happened {
            Happened::Crash { .. } => (Kind::Crash, happened.to_string()),
            Happened::Restart { .. } => (Kind::Restart, happened.to_string()),
            Happened::SentAgain { .. } => (Kind::Client, happened.to_string()),
            Happened::Other { what, .. } if what.starts_with("disk of") => (Kind::Disk, what.clone()),
            Happened::Fault { .. }
            | Happened::CustomFault { .. }
            | Happened::Healed
            | Happened::Other { .. } => (Kind::Fault, happened.to_string()),
        };
        self.events.push(Event::new(at, kind, what));
    }

    /// The diagram of the run, now that it is over, and how it failed, if it did.
    pub fn diagram(self, title: String, failure: Option<Failure>) -> Diagram {
        let outcome = failure.as_ref().map_or("all properties held".to_owned(), ToString::to_string);
        let (failure, story) = failure.map(|failure| explained(&self.run, failure)).unzip();
        let end = self.events.last().map_or(0, |event| event.at);
        let end = failure.as_ref().map_or(end, |failure: &Explained| failure.at.max(end));
        let members: Vec<_> = self.members.into_iter().collect();
        let mut diagram = Diagram { title, outcome, members, left_out: self.left_out, ..Diagram::default() };
        let lane = |id: NodeId| diagram.lane(id).unwrap_or_default();
        let spans = spans(&self.run, &diagram, end);
        let messages = self.traffic.end(end, lane);
        let mut events = self.events;
        for (number, event) in events.iter_mut().enumerate() {
            event.member = self.run.moments[number].member().map(lane);
            event.fact = self.run.fact(number).map(|fact| fact.text);
        }
        let of = |ids: Vec<NodeId>| ids.into_iter().map(lane).collect::<Vec<_>>();
        let (writers, asked) = (of(self.writers), of(self.asked));
        diagram.writes =
            self.writes.into_iter().zip(writers).map(|(write, member)| Write { member, ..write }).collect();
        diagram.operations = self
            .operations
            .into_iter()
            .zip(asked)
            .map(|(operation, member)| Operation { member, ..operation })
            .collect();
        (diagram.events, diagram.messages, diagram.spans) = (events, messages, spans);
        (diagram.failure, diagram.story) = (failure, story.unwrap_or_default());
        diagram
    }
}

/// Of which kind an event is.
fn kind(event: &event::Event) -> Kind {
    match event {
        event::Event::Wake => Kind::Timer,
        event::Event::Receive(message) => traffic::kind(&message.body),
        event::Event::Propose(_)
        | event::Event::ProposeBatch(_)
        | event::Event::Read(_)
        | event::Event::Reconfigure(_)
        | event::Event::CancelChange(_)
        | event::Event::Transfer(_) => Kind::Client,
        event::Event::Persisted(_) | event::Event::DiskFull(_) | event::Event::EntriesLoaded(_) => Kind::Disk,
        event::Event::Applied(_)
        | event::Event::SnapshotTaken(_)
        | event::Event::SnapshotFetched(_)
        | event::Event::SnapshotFailed(_) => Kind::Machine,
        event::Event::PeerUnreachable(_) | event::Event::Shutdown => Kind::Other,
    }
}

/// What a failure came from, and the events that tell of it.
fn explained(run: &Run, failure: Failure) -> (Explained, Vec<usize>) {
    let ends = run.ends(&failure);
    let (relevant, past) = (run.relevant(&failure), run.past(&ends));
    let Story { failure, facts } = Story::of(run, failure);
    let parts = failure.shown_parts().map(|part| (part.to_string(), run.moment_of(part))).collect();
    let Failure { property, detail, step, at, .. } = failure;
    let event = run.seen_at().or(ends.last().copied());
    let explained = Explained { property, detail, parts, step, at, event, relevant, past };
    (explained, facts.iter().map(|fact| fact.moment).collect())
}

/// What lasted in a run.
fn spans(run: &Run, diagram: &Diagram, end: u64) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut down = BTreeMap::new();
    for moment in &run.moments {
        let What::World { happened, .. } = &moment.what else { continue };
        match happened {
            Happened::Fault { fault: Fault::Crash { .. } | Fault::CrashAll, .. } => {}
            Happened::Fault { for_us, .. } | Happened::CustomFault { for_us, .. } => spans.push(Span {
                kind: Kind::Fault,
                members: (0..diagram.members.len())
                    .filter(|lane| happened.concerns(diagram.members[*lane]))
                    .collect(),
                text: happened.to_string(),
                from: moment.at,
                to: moment.at.saturating_add(for_us.saturating_mul(1_000)).min(end),
            }),
            Happened::Crash { member, .. } => {
                down.insert(*member, spans.len());
                spans.push(Span {
                    kind: Kind::Crash,
                    members: diagram.lane(*member).into_iter().collect(),
                    text: format!("member {member} is down"),
                    from: moment.at,
                    to: end,
                });
            }
            Happened::Restart { member, .. } => {
                if let Some(span) = down.remove(member) {
                    spans[span].to = moment.at;
                }
            }
            Happened::Healed => {
                let faults = spans.iter_mut().filter(|span| span.kind == Kind::Fault);
                faults.for_each(|span| span.to = span.to.min(moment.at));
            }
            Happened::SentAgain { .. } | Happened::Other { .. } => {}
        }
    }
    spans
}
