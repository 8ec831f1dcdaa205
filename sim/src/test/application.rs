//! A user's state machine and workload, as the world runs them.

use super::fault::CustomFault;
use super::journal::Journal;
use super::numbered::{Numbered, command_in, number};
use super::property::Property;
use super::reference::{ANSWERS, Reference};
use super::words::{WORKLOAD, Words, command_of, guarded, has_words};
use super::workload::{Request, Workload};
use crate::application::{Application, CommittedLog, MachineOf, Reached, Sent};
use crate::check::Violated;
use crate::quiet::{quietly, text_of};
use crate::scenario::Fault;
use crate::stream::Stream;
use crate::watched::Watched;
use kontiki_core::log::Entry;
use kontiki_core::machine::{Answer, Limits, Machine, StateMachine};
use kontiki_core::types::{Index, LogId, NodeId};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

/// A property under its name.
pub(super) type Named<M> = (&'static str, Box<dyn Property<M>>);

/// A fault under its name.
pub(super) type NamedFault<M> = (&'static str, Box<dyn CustomFault<M>>);

/// What a user has beside a state machine and a workload.
pub(super) struct Demands<M> {
    pub(super) properties: Vec<Named<M>>,
    pub(super) faults: Vec<NamedFault<M>>,
}

/// One run of a user's state machine under a user's workload.
pub(crate) struct Simulated<M: StateMachine, W> {
    begin: Box<dyn Fn() -> M>,
    workload: W,
    properties: Vec<Named<M>>,
    faults: Vec<NamedFault<M>>,
    reference: Reference<M>,
    /// Through which entry the snapshot went from which a member was restored last, if it was.
    restored: BTreeMap<NodeId, Index>,
    /// What was asked and not yet answered, by its operation.
    commands: BTreeMap<u64, Asked>,
    queries: BTreeMap<u64, Asked>,
    operations: u64,
    /// What was applied, in words, where that is wanted.
    journal: Option<Journal>,
}

/// A command or a query, and the client that asks.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    client: u64,
    bytes: Vec<u8>,
}

impl<M: StateMachine, W: Workload> Simulated<M, W> {
    pub(super) fn new(
        begin: impl Fn() -> M + Clone + 'static,
        workload: W,
        demands: Demands<M>,
        limits: Limits,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            reference: Reference::new(Box::new(begin.clone()), limits),
            begin: Box::new(begin),
            workload,
            properties: demands.properties,
            faults: demands.faults,
            restored: BTreeMap::new(),
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            operations: 0,
            journal,
        }
    }

    /// Runs a function of the fault of this name, which the test has. One that panics fails the run.
    fn run_fault<R>(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut dyn CustomFault<M>) -> R,
    ) -> Result<R, Violated> {
        let found = self.faults.iter_mut().find(|(own, _)| *own == name);
        let (name, fault) = found.expect("the scenario was validated");
        guarded("the fault", || run(&mut **fault)).map_err(|panicked| Violated::new(name, panicked))
    }

    /// A client gets its answer.
    fn tell(&mut self, client: u64, request: Request<'_>, answer: &[u8]) -> Result<(), Violated> {
        guarded("answered", || self.workload.answered(client, request, answer))
            .map_err(|panicked| Violated::new(WORKLOAD, format!("{panicked}, for client {client}")))
    }

    /// Takes note of the entry at which a run fails, where it does.
    fn note_failure(&self, at: Index, seen: Result<(), Violated>) -> Result<(), Violated> {
        if let (Some(journal), Err(_)) = (&self.journal, &seen) {
            journal.fails_at(at);
        }
        seen
    }

    fn look_at_state(&mut self, reached: Reached<'_, Numbered<M>>) -> Result<(), Violated> {
        let Self { reference, workload, restored, properties, journal, .. } = self;
        let Reached { member, machine, digest, entry } = reached;
        let at = machine.applied();
        match entry {
            Some(entry) => {
                if at.index == Index::new(1) {
                    restored.remove(&member);
                }
                if reference.entry(at.index).is_none() {
                    command_of(entry).map_or(Ok(()), |command| has_words(workload, command))?;
                    let applied = reference.apply(member, entry, workload);
                    if let Some(journal) = journal {
                        let answer = reference.answer(at.index).map(|it| workload.say_answer_of(entry, it));
                        let answer = answer.map_or(String::new(), |answer| format!(": {answer}"));
                        journal.note(at, &(workload.say_entry(entry) + &answer));
                    }
                    applied?;
                }
            }
            None => {
                restored.insert(member, at.index);
            }
        }
        reference.compare(member, at.index, digest, restored.get(&member).copied(), workload)?;
        let state = state_of(machine);
        Self::demand(properties, |property| property.applied(member, at, state)).map_err(|violated| {
            match reference.entry(at.index) {
                Some(entry) => violated.with(&format!(", {}", workload.say_entry(entry))),
                None => violated,
            }
        })
    }

    fn look_at_found(
        &mut self,
        member: NodeId,
        asked: &Asked,
        answer: &[u8],
        at: Index,
    ) -> Result<(), Violated> {
        let (query, request) = (&asked.bytes, Request::Query(&asked.bytes));
        self.reference.found(member, at, query, answer, &self.workload)?;
        Self::demand(&mut self.properties, |property| property.answered(query, answer))
            .map_err(|violated| of_answer(&self.workload, violated, request, answer))
    }

    fn look_at_answer(&mut self, member: NodeId, at: LogId, answer: &Answer) -> Result<(), Violated> {
        let Self { reference, workload, properties, .. } = self;
        reference.answered(member, at.index, answer, workload)?;
        let Answer::Applied(answer) = answer else { return Ok(()) };
        let Some(command) = reference.entry(at.index).and_then(command_of) else {
            return Err(
                (ANSWERS, format!("member {member} answers for entry {at}, which holds no command")).into()
            );
        };
        Self::demand(properties, |property| property.answered(command, answer))
            .map_err(|violated| of_answer(workload, violated, Request::Command(command), answer))
    }

    /// Shows something to every property. One that panics does not hold.
    fn demand(
        properties: &mut [Named<M>],
        mut look: impl FnMut(&mut dyn Property<M>) -> Result<(), String>,
    ) -> Result<(), Violated> {
        for (name, property) in properties {
            let mut seen = Ok(());
            quietly(AssertUnwindSafe(|| seen = look(&mut **property)))
                .map_err(|panic| (*name, format!("the property panicked: {}", text_of(&*panic))))?;
            seen.map_err(|detail| (*name, detail))?;
        }
        Ok(())
    }
}

/// What a property demands of an answer, and of which.
fn of_answer(workload: &dyn Words, violated: Violated, request: Request<'_>, answer: &[u8]) -> Violated {
    let answer = workload.say_answer(request, answer);
    let request = match request {
        Request::Command(command) => format!("command {}", workload.say_command(command)),
        Request::Query(query) => format!("query {}", workload.say_query(query)),
    };
    violated.with(&format!(": the answer {answer} to {request}"))
}

/// The user's state inside.
fn state_of<M>(machine: &Machine<Watched<Numbered<M>>>) -> &M
where
    M: StateMachine,
{
    &machine.state().inner.0
}

impl<M: StateMachine, W: Workload> Application for Simulated<M, W> {
    type Machine = Numbered<M>;
    type Command = Asked;
    type Query = Asked;
    type Operation = u64;

    fn machine(&self) -> Numbered<M> {
        Numbered((self.begin)())
    }

    fn draw_command(&mut self, client: u64, stream: &mut Stream) -> Result<Asked, Violated> {
        let drawn = guarded("command", || self.workload.command(client, stream));
        let bytes = drawn.map_err(|panicked| (WORKLOAD, format!("{panicked}, for client {client}")))?;
        Ok(Asked { client, bytes })
    }

    fn draw_query(&mut self, client: u64, stream: &mut Stream) -> Result<Option<Asked>, Violated> {
        let drawn = guarded("query", || self.workload.query(client, stream));
        let bytes = drawn.map_err(|panicked| (WORKLOAD, format!("{panicked}, for client {client}")))?;
        Ok(bytes.map(|bytes| Asked { client, bytes }))
    }

    fn encode(&self, command: &Asked, number_: u64) -> Vec<u8> {
        number(&command.bytes, number_)
    }

    fn encode_query(&self, query: &Asked) -> Vec<u8> {
        query.bytes.clone()
    }

    fn command_begins(&mut self, _name: u64, command: &Asked, _sent: Sent) -> u64 {
        self.operations += 1;
        self.commands.insert(self.operations, command.clone());
        self.operations
    }

    fn query_begins(&mut self, _name: u64, query: &Asked) -> u64 {
        self.operations += 1;
        self.queries.insert(self.operations, query.clone());
        self.operations
    }

    fn committed(&mut self, _operation: u64, _at: Option<Index>) {}

    fn found(&mut self, member: NodeId, operation: u64, answer: &[u8], at: Index) -> Result<(), Violated> {
        let Some(asked) = self.queries.remove(&operation) else { return Ok(()) };
        let seen = self.look_at_found(member, &asked, answer, at);
        self.note_failure(at, seen)?;
        self.tell(asked.client, Request::Query(&asked.bytes), answer)
    }

    fn refused(&mut self, operation: u64) {
        // A command is sent again, and may be answered then.
        self.queries.remove(&operation);
    }

    fn sends_again(&self) -> bool {
        !self.workload.uses_sessions()
    }

    fn reached(&mut self, reached: Reached<'_, Numbered<M>>) -> Result<(), Violated> {
        let seen = self.look_at_state(reached);
        self.note_failure(reached.machine.applied().index, seen)
    }

    fn has_fault(&self, name: &str) -> bool {
        self.faults.iter().any(|(own, _)| *own == name)
    }

    fn fault_begins(
        &mut self,
        name: &str,
        member: NodeId,
        machine: Option<&Machine<Watched<Numbered<M>>>>,
    ) -> Result<Vec<Fault>, Violated> {
        let state = machine.map(state_of);
        self.run_fault(name, |fault| fault.begin(member, state))
    }

    fn fault_ends(
        &mut self,
        name: &str,
        member: NodeId,
        machine: Option<&Machine<Watched<Numbered<M>>>>,
    ) -> Result<(), Violated> {
        let state = machine.map(state_of);
        self.run_fault(name, |fault| fault.end(member, state))
    }

    fn panicked(&mut self, entry: &Entry) {
        if let Some(journal) = &self.journal {
            journal.note(entry.id, &self.workload.say_entry(entry));
            journal.fails_at(entry.id.index);
        }
    }

    fn met(
        &mut self,
        one: MachineOf<'_, Numbered<M>>,
        other: MachineOf<'_, Numbered<M>>,
    ) -> Result<(), Violated> {
        let of = |it: MachineOf<'_, Numbered<M>>| it.member;
        let (first, second) = ((of(one), state_of(one.machine)), (of(other), state_of(other.machine)));
        let seen = Self::demand(&mut self.properties, |property| property.met(first, second));
        self.note_failure(one.machine.applied().index, seen)
    }

    fn compares_replicas(&self) -> bool {
        !self.properties.is_empty()
    }

    fn answered(
        &mut self,
        member: NodeId,
        operation: Option<u64>,
        at: LogId,
        answer: &Answer,
    ) -> Result<(), Violated> {
        let seen = self.look_at_answer(member, at, answer);
        self.note_failure(at.index, seen)?;
        let (Answer::Applied(answer), Some(operation)) = (answer, operation) else { return Ok(()) };
        match self.commands.remove(&operation) {
            Some(asked) => self.tell(asked.client, Request::Command(&asked.bytes), answer),
            None => Ok(()),
        }
    }

    fn show(&self, command: &[u8]) -> String {
        format!("command {}", self.workload.say_command(command_in(command)))
    }

    fn ended(
        &mut self,
        log: CommittedLog<'_>,
        states: Option<&[MachineOf<'_, Numbered<M>>]>,
    ) -> Result<u64, Violated> {
        self.reference.is_of(log.entries().map(|(entry, _)| entry.id))?;
        let Some(states) = states else { return Ok(0) };
        let states: Vec<_> = states.iter().map(|it| (it.member, state_of(it.machine))).collect();
        Self::demand(&mut self.properties, |property| property.ended(&states))?;
        Ok(0)
    }
}
