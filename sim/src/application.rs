//! What a simulated cluster replicates, and what its clients ask of it.
//!
//! The world, its clients and its members are generic over it: [`Registers`](crate::registers::Registers) are
//! what the simulator checks Raft with, and [`Test`](crate::test::Test) brings a user's own state machine.

use crate::check::Violated;
use crate::ledger::Link;
use crate::part::Stamp;
use crate::scenario::{Fault, Scenario, ScenarioError};
use crate::stream::Stream;
use crate::watched::Watched;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{self, Limits, Machine, StateMachine};
use kontiki_core::types::{Index, LogId, NodeId, Payload};
use std::collections::BTreeMap;
use std::fmt;

/// What is replicated, the workload of its clients, and what must hold of both.
///
/// Commands and queries are drawn by the world's clients, who send them, in sessions or not, to whom they
/// like and as often as it takes. The application records what they ask and are answered.
pub(crate) trait Application {
    /// What full replicas replicate.
    type Machine: StateMachine;
    /// What a client asks to be done.
    type Command: Clone + fmt::Debug;
    /// What a client asks.
    type Query: Clone + fmt::Debug;
    /// Names a command or a query of a client, from its beginning to its end.
    type Operation: Copy + Eq + fmt::Debug;

    /// The state at the beginning of the log.
    fn machine(&self) -> Self::Machine;

    /// It is this time now.
    fn passes(&mut self, now: Stamp) {
        let _ = now;
    }

    /// What a client asks to be done next. Clients are numbered from 0, and keep their numbers.
    fn draw_command(&mut self, client: u64, stream: &mut Stream) -> Result<Self::Command, Violated>;

    /// What a client asks next, if it asks anything.
    fn draw_query(&mut self, client: u64, stream: &mut Stream) -> Result<Option<Self::Query>, Violated>;

    /// The command as the state machine gets it. No two have the same number, which must show in the bytes.
    fn encode(&self, command: &Self::Command, number: u64) -> Vec<u8>;

    /// The query as the state machine gets it.
    fn encode_query(&self, query: &Self::Query) -> Vec<u8>;

    /// A client, which goes by this name, sends a command for the first time.
    fn command_begins(&mut self, client: u64, command: &Self::Command, sent: Sent) -> Self::Operation;

    /// A client, which goes by this name, sends a query.
    fn query_begins(&mut self, client: u64, query: &Self::Query) -> Self::Operation;

    /// A command was answered, by the entry at `at` where that is known to be the first to hold it.
    fn committed(&mut self, operation: Self::Operation, at: Option<Index>);

    /// A query was answered, by a state machine that had come to `at`.
    fn found(
        &mut self,
        member: NodeId,
        operation: Self::Operation,
        answer: &[u8],
        at: Index,
    ) -> Result<(), Violated>;

    /// An operation was refused: nothing was done about it, and nothing will be.
    fn refused(&mut self, operation: Self::Operation);

    /// The world has healed. What clients ask from now on must be served.
    fn healed(&mut self) {}

    /// Whether a client without a session sends a command again that was not answered. The copies have
    /// different numbers.
    fn sends_again(&self) -> bool {
        false
    }

    /// What to ask to see the effect of what has this hash.
    fn probe(&self, content: u64) -> Option<Self::Query> {
        let _ = content;
        None
    }

    /// A replica's state machine has got to an entry.
    fn reached(&mut self, reached: Reached<'_, Self::Machine>) -> Result<(), Violated> {
        let _ = reached;
        Ok(())
    }

    /// Two replicas have got to the same entry.
    fn met(
        &mut self,
        one: MachineOf<'_, Self::Machine>,
        other: MachineOf<'_, Self::Machine>,
    ) -> Result<(), Violated> {
        let _ = (one, other);
        Ok(())
    }

    /// Whether [`met`](Self::met) has anything to look at.
    fn compares_replicas(&self) -> bool {
        false
    }

    /// A member gives this answer to a command, perhaps not for the first time: that of the entry at `at`.
    /// The operation is known where the request is still open.
    fn answered(
        &mut self,
        member: NodeId,
        operation: Option<Self::Operation>,
        at: LogId,
        answer: &machine::Answer,
    ) -> Result<(), Violated> {
        let _ = (member, operation, at, answer);
        Ok(())
    }

    /// Whether there is a fault of this name.
    fn has_fault(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Every fault of the application's own that a scenario names must be there.
    fn validate(&self, scenario: &Scenario) -> Result<(), ScenarioError> {
        match scenario.custom_faults.iter().find(|timed| !self.has_fault(&timed.name)) {
            Some(unknown) => Err(ScenarioError::UnknownFault(unknown.name.clone())),
            None => Ok(()),
        }
    }

    /// A fault of the application's own begins at a member; it returns what goes wrong there beside. It
    /// begins once more when the member starts again while it lasts.
    fn fault_begins(
        &mut self,
        name: &str,
        member: NodeId,
        machine: Option<&Machine<Watched<Self::Machine>>>,
    ) -> Result<Vec<Fault>, Violated> {
        let _ = (name, member, machine);
        Ok(Vec::new())
    }

    /// It ends.
    fn fault_ends(
        &mut self,
        name: &str,
        member: NodeId,
        machine: Option<&Machine<Watched<Self::Machine>>>,
    ) -> Result<(), Violated> {
        let _ = (name, member, machine);
        Ok(())
    }

    /// The state machine of a member panicked at an entry.
    fn panicked(&mut self, entry: &Entry) {
        let _ = entry;
    }

    /// A command, for people.
    fn show(&self, command: &[u8]) -> String;

    /// The run is over; if the cluster is at rest, these are the states of the members that are up. Returns
    /// of how many operations it could not be decided whether they were answered rightly.
    fn ended(
        &mut self,
        log: CommittedLog<'_>,
        states: Option<&[MachineOf<'_, Self::Machine>]>,
    ) -> Result<u64, Violated>;
}

/// How a command was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The number that it was encoded with.
    pub(crate) number: u64,
    /// The hash of the payload.
    pub(crate) content: u64,
    /// Whether it is one of a session.
    pub(crate) in_session: bool,
}

/// A replica, and the state that its state machine has.
pub(crate) struct MachineOf<'a, M> {
    pub(crate) member: NodeId,
    pub(crate) machine: &'a Machine<Watched<M>>,
}

impl<M> Clone for MachineOf<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for MachineOf<'_, M> {}

/// A replica's state machine has just got to an entry.
pub(crate) struct Reached<'a, M> {
    pub(crate) member: NodeId,
    /// Its state now.
    pub(crate) machine: &'a Machine<Watched<M>>,
    /// The digest of that.
    pub(crate) digest: u64,
    /// The entry that it has applied; none where it was restored from a snapshot.
    pub(crate) entry: Option<&'a Entry>,
}

impl<M> Clone for Reached<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Reached<'_, M> {}

/// What the group has committed, with the payloads that clients have sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommittedLog<'a> {
    pub(crate) links: &'a [Link],
    /// The payloads, by their hashes; none where members are kernels alone.
    pub(crate) payloads: &'a BTreeMap<u64, Payload>,
    /// The limits of sessions, where members are full replicas.
    pub(crate) limits: Option<Limits>,
}

impl<'a> CommittedLog<'a> {
    /// Its entries, each with the hash of what it holds. One that no client has sent holds nothing here.
    pub(crate) fn entries(self) -> impl Iterator<Item = (Entry, u64)> + 'a {
        self.links.iter().zip(1..).map(move |(link, index)| {
            let payload = self.payloads.get(&link.content).cloned();
            let body = payload.map_or(EntryBody::Blank, EntryBody::Data);
            (Entry { id: LogId { term: link.term, index: Index::new(index) }, body }, link.content)
        })
    }
}
