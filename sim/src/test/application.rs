//! A user's state machine and workload, as the world runs them.

use super::numbered::{Numbered, command_in, number};
use super::property::Property;
use super::reference::{ANSWERS, Reference};
use super::workload::Workload;
use crate::application::{Application, CommittedLog, Reached, Sent, Standing};
use crate::check::Violated;
use crate::quiet::{quietly, text_of};
use crate::stream::Stream;
use crate::watched::Watched;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{Answer, Command, Limits, Machine, StateMachine};
use kontiki_core::types::{Index, LogId, NodeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// A property under its name.
pub(super) type Named<M> = (&'static str, Box<dyn Property<M>>);

/// One run of a user's state machine under a user's workload.
pub(crate) struct Simulated<M: StateMachine, W> {
    begin: Box<dyn Fn() -> M>,
    workload: W,
    properties: Vec<Named<M>>,
    reference: Reference<M>,
    /// Through which entry the snapshot went from which a member was restored last, if it was.
    restored: BTreeMap<NodeId, Index>,
    /// What was asked, by its operation.
    queries: BTreeMap<u64, Vec<u8>>,
    operations: u64,
    /// What was applied, in words, where that is wanted.
    journal: Option<Journal>,
}

/// What was applied, one entry a line.
pub(super) type Journal = Rc<RefCell<Vec<String>>>;

impl<M: StateMachine, W: Workload> Simulated<M, W> {
    pub(super) fn new(
        begin: impl Fn() -> M + Clone + 'static,
        workload: W,
        properties: Vec<Named<M>>,
        limits: Limits,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            reference: Reference::new(Box::new(begin.clone()), limits),
            begin: Box::new(begin),
            workload,
            properties,
            restored: BTreeMap::new(),
            queries: BTreeMap::new(),
            operations: 0,
            journal,
        }
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

/// What an entry holds, in words.
fn show<W: Workload>(workload: &W, entry: &Entry) -> String {
    let EntryBody::Data(payload) = &entry.body else { return "no command".to_owned() };
    match Command::decode(payload) {
        Ok(Command::Plain(command)) => format!("command {}", workload.describe(command_in(command))),
        Ok(Command::InSession { session, sequence, command, .. }) => {
            let command = workload.describe(command_in(command));
            format!("command {command}, number {sequence} of session {session}")
        }
        Ok(command) => format!("{command:?}"),
        Err(error) => error.to_string(),
    }
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
    type Command = Vec<u8>;
    type Query = Vec<u8>;
    type Operation = u64;

    fn machine(&self) -> Numbered<M> {
        Numbered((self.begin)())
    }

    fn draw_command(&mut self, stream: &mut Stream) -> Vec<u8> {
        self.workload.command(stream)
    }

    fn draw_query(&mut self, stream: &mut Stream) -> Option<Vec<u8>> {
        self.workload.query(stream)
    }

    fn encode(&self, command: &Vec<u8>, number_: u64) -> Vec<u8> {
        number(command, number_)
    }

    fn encode_query(&self, query: &Vec<u8>) -> Vec<u8> {
        query.clone()
    }

    fn command_begins(&mut self, _client: u64, _command: &Vec<u8>, _sent: Sent) -> u64 {
        self.operations += 1;
        self.operations
    }

    fn query_begins(&mut self, _client: u64, query: &Vec<u8>) -> u64 {
        self.operations += 1;
        self.queries.insert(self.operations, query.clone());
        self.operations
    }

    fn committed(&mut self, _operation: u64, _at: Option<Index>) {}

    fn found(&mut self, member: NodeId, operation: u64, answer: &[u8], at: Index) -> Result<(), Violated> {
        let Some(query) = self.queries.remove(&operation) else { return Ok(()) };
        self.reference.found(member, at, &query, answer)?;
        Self::demand(&mut self.properties, |property| property.answered(&query, answer))
    }

    fn refused(&mut self, operation: u64) {
        self.queries.remove(&operation);
    }

    fn sends_again(&self) -> bool {
        !self.workload.uses_sessions()
    }

    fn reached(&mut self, reached: Reached<'_, Numbered<M>>) -> Result<(), Violated> {
        let Self { reference, workload, restored, properties, journal, .. } = self;
        let Reached { member, machine, digest, entry } = reached;
        let at = machine.applied();
        let show = |entry: &Entry| show(workload, entry);
        match entry {
            Some(entry) => {
                if at.index == Index::new(1) {
                    restored.remove(&member);
                }
                let is_new = reference.entry(at.index).is_none();
                reference.apply(member, entry, &show)?;
                if let Some(journal) = journal.as_ref().filter(|_| is_new) {
                    let answer = reference.answer(at.index).map_or(String::new(), |it| format!(": {it}"));
                    journal.borrow_mut().push(format!("  {at} {}{answer}", show(entry)));
                }
            }
            None => {
                restored.insert(member, at.index);
            }
        }
        reference.compare(member, at.index, digest, restored.get(&member).copied(), &show)?;
        let state = state_of(machine);
        Self::demand(properties, |property| property.applied(member, at, state)).map_err(|(name, detail)| {
            match reference.entry(at.index) {
                Some(entry) => (name, format!("{detail}, {}", show(entry))),
                None => (name, detail),
            }
        })
    }

    fn met(
        &mut self,
        one: Standing<'_, Numbered<M>>,
        other: Standing<'_, Numbered<M>>,
    ) -> Result<(), Violated> {
        let of = |it: Standing<'_, Numbered<M>>| it.member;
        let (first, second) = ((of(one), state_of(one.machine)), (of(other), state_of(other.machine)));
        Self::demand(&mut self.properties, |property| property.met(first, second))
    }

    fn compares_replicas(&self) -> bool {
        !self.properties.is_empty()
    }

    fn answered(&mut self, member: NodeId, at: LogId, answer: &Answer) -> Result<(), Violated> {
        let Self { reference, workload, properties, .. } = self;
        reference.answered(member, at.index, answer, &|entry| show(workload, entry))?;
        let Answer::Applied(answer) = answer else { return Ok(()) };
        let Some(Entry { body: EntryBody::Data(payload), .. }) = reference.entry(at.index) else {
            return Err((ANSWERS, format!("member {member} answers for entry {at}, which holds no command")));
        };
        let Ok(Command::Plain(command) | Command::InSession { command, .. }) = Command::decode(payload)
        else {
            return Ok(());
        };
        Self::demand(properties, |property| property.answered(command_in(command), answer))
    }

    fn show(&self, command: &[u8]) -> String {
        format!("command {}", self.workload.describe(command_in(command)))
    }

    fn ended(
        &mut self,
        log: CommittedLog<'_>,
        states: Option<&[Standing<'_, Numbered<M>>]>,
    ) -> Result<u64, Violated> {
        self.reference.is_of(log.entries().map(|(entry, _)| entry.id))?;
        let Some(states) = states else { return Ok(0) };
        let states: Vec<_> = states.iter().map(|it| (it.member, state_of(it.machine))).collect();
        Self::demand(&mut self.properties, |property| property.ended(&states))?;
        Ok(0)
    }
}
