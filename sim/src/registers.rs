//! The application that Raft is checked with: registers, each write of which writes a value of its own. So
//! the history of what clients asked and were told can be checked by itself, and against the log.

use crate::application::{Application, CommittedLog, MachineOf, Sent};
use crate::check::{Finding, Violated, linearizable_reads};
use crate::history::witness::Committed;
use crate::history::{Call, History, OperationId, Value, Violation};
use crate::part::{Involvement, Part, Stamp};
use crate::scenario::{Scenario, WorkloadSpec};
use crate::store::Put;
use crate::stream::Stream;
use kontiki_core::kv::{self, Kv};
use kontiki_core::machine::Machine;
use kontiki_core::types::{Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// The registers of a run, and everything that clients asked of them.
#[derive(Debug)]
pub(crate) struct Registers {
    spec: WorkloadSpec,
    /// Whether members are kernels alone, which the simulator's own store goes with.
    is_kernel_only: bool,
    /// What every payload that was ever proposed writes, by its hash.
    puts: BTreeMap<u64, Put>,
    /// Which operation a payload was of, where it was sent in a session.
    in_sessions: BTreeMap<u64, OperationId>,
    history: History,
    /// The clock of the history tells what came before what, and nothing else: when each of its readings was.
    moments: Vec<Stamp>,
    now: Stamp,
}

/// A write to a register. What it writes is the number of its command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    key: u64,
    /// How large the payload is to be.
    size: usize,
}

impl Registers {
    /// The registers of a scenario, of which nothing was asked yet.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            spec: scenario.workload.clone(),
            is_kernel_only: scenario.replica.is_none(),
            puts: BTreeMap::new(),
            in_sessions: BTreeMap::new(),
            history: History::default(),
            moments: Vec::new(),
            now: Stamp::default(),
        }
    }

    fn next_moment(&mut self) -> u64 {
        self.moments.push(self.now);
        self.moments.len() as u64
    }

    /// What contradicts what in the history, and when each operation was asked for.
    fn contradiction(&self, violation: &Violation) -> Violated {
        let parts = violation.operations.iter().map(|recorded| {
            let asked = recorded.operation.invoked.checked_sub(1);
            let since = asked.and_then(|moment| self.moments.get(usize::try_from(moment).ok()?)).copied();
            Part { member: None, since, what: Involvement::Operation(recorded.to_string()) }
        });
        Finding::new(format!("key {}: {}", violation.key, violation.reason), parts)
            .of(linearizable_reads::NAME)
    }

    /// What the commands in this log did, in their order: copies of a session's command that came later, or
    /// too late, did nothing. Tells the history where commands of sessions took effect.
    fn effects(&mut self, log: CommittedLog<'_>) -> Vec<Committed> {
        let mut machine =
            log.limits.map(|limits| Machine::with_limits(Kv::default(), limits).expect("limits"));
        let mut done = BTreeSet::new();
        let mut effects = Vec::new();
        for (entry, content) in log.entries() {
            let index = entry.id.index.get();
            let applied = machine.as_mut().is_none_or(|machine| {
                let answers = machine.apply(&[entry]).expect("a log is without gaps");
                answers.iter().any(|(_, answer)| answer.is_applied())
            });
            if let Some(put) = self.puts.get(&content).filter(|_| applied)
                && done.insert(content)
            {
                effects.push(Committed { index, key: put.key, value: Value(put.value) });
                if let Some(operation) = self.in_sessions.get(&content) {
                    self.history.took_effect(*operation, index);
                }
            }
        }
        effects
    }
}

/// Odds of what always happens.
const ALL: u32 = 10_000;

impl Application for Registers {
    type Machine = Kv;
    type Command = Write;
    type Query = u64;
    type Operation = OperationId;

    fn passes(&mut self, now: Stamp) {
        self.now = now;
    }

    fn machine(&self) -> Kv {
        Kv::default()
    }

    fn draw_command(&mut self, _client: u64, stream: &mut Stream) -> Result<Write, Violated> {
        let key = stream.below(self.spec.keys);
        let is_large = stream.chance(self.spec.large);
        let size = if is_large { self.spec.large_bytes } else { self.spec.payload_bytes };
        Ok(Write { key, size: size as usize })
    }

    fn draw_query(&mut self, _client: u64, stream: &mut Stream) -> Result<Option<u64>, Violated> {
        Ok(Some(stream.below(self.spec.keys)))
    }

    /// Where there are large writes, all are large from now on: whatever a healed link carries, a leader
    /// stays.
    fn healed(&mut self) {
        if self.spec.large > 0 {
            self.spec.large = ALL;
        }
    }

    fn encode(&self, &Write { key, size }: &Write, number: u64) -> Vec<u8> {
        let put = Put { key, value: number };
        if self.is_kernel_only { put.encode(size) } else { put_command(put, size) }
    }

    fn encode_query(&self, key: &u64) -> Vec<u8> {
        let key = key.to_le_bytes();
        if self.is_kernel_only { key.to_vec() } else { kv::Query::Get { key: &key }.encode() }
    }

    fn command_begins(&mut self, client: u64, write: &Write, sent: Sent) -> OperationId {
        let put = Put { key: write.key, value: sent.number };
        let moment = self.next_moment();
        let operation = self.history.invoke(client, put.key, Call::Write(Value(put.value)), moment);
        self.puts.insert(sent.content, put);
        if sent.in_session {
            self.in_sessions.insert(sent.content, operation);
        }
        operation
    }

    fn query_begins(&mut self, client: u64, key: &u64) -> OperationId {
        let moment = self.next_moment();
        self.history.invoke(client, *key, Call::Read, moment)
    }

    fn committed(&mut self, operation: OperationId, at: Option<Index>) {
        let moment = self.next_moment();
        self.history.wrote(operation, moment);
        if let Some(at) = at {
            self.history.took_effect(operation, at.get());
        }
    }

    fn found(
        &mut self,
        _member: NodeId,
        operation: OperationId,
        answer: &[u8],
        at: Index,
    ) -> Result<(), Violated> {
        let moment = self.next_moment();
        let value = if self.is_kernel_only { number_in(answer) } else { value_in(answer) };
        self.history.read(operation, moment, value.map(Value));
        self.history.took_effect(operation, at.get());
        Ok(())
    }

    fn refused(&mut self, operation: OperationId) {
        let moment = self.next_moment();
        self.history.refused(operation, moment);
    }

    fn probe(&self, content: u64) -> Option<u64> {
        self.puts.get(&content).map(|put| put.key)
    }

    fn show(&self, command: &[u8]) -> String {
        let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let put = if self.is_kernel_only {
            Put::decode(command)
        } else if let Ok(kv::Command::Put { key, value }) = kv::Command::decode(command) {
            number(key).zip(number(value)).map(|(key, value)| Put { key, value })
        } else {
            None
        };
        put.map_or_else(|| format!("{command:02x?}"), |Put { key, value }| format!("put k{key}=v{value}"))
    }

    /// What clients were told must be what one store could have told them.
    fn ended(&mut self, log: CommittedLog<'_>, _: Option<&[MachineOf<'_, Kv>]>) -> Result<u64, Violated> {
        let committed = self.effects(log);
        let undecided = linearizable_reads::over(&self.history, committed.into_iter())
            .map_err(|violation| self.contradiction(&violation))?;
        Ok(undecided as u64)
    }
}

/// A write to a register, as a command of at least `size` bytes once it is encoded.
fn put_command(put: Put, size: usize) -> Vec<u8> {
    let padding = size.saturating_sub(48).max(8);
    let mut value = put.value.to_le_bytes().to_vec();
    value.resize(padding, 0x2e);
    kv::Command::Put { key: &put.key.to_le_bytes(), value: &value }.encode()
}

/// What a register was found to hold.
fn value_in(reply: &[u8]) -> Option<u64> {
    match kv::Reply::decode(reply) {
        Ok(kv::Reply::Value(Some(value))) => number_in(&value),
        _ => None,
    }
}

fn number_in(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}
