//! A run as a trace in TLA+, which the model checker TLC accepts or rejects step by step against the
//! specification in `tests/spec` (docs/specification.md).
//!
//! A step of a kernel is a sequence of acts of the specification. What they are follows from the event, from
//! what came of it, and from what the member was before and after. The simulator names them, and the
//! specification decides whether each is allowed and whether they lead to what the member became. A wrong
//! sequence can make TLC reject a right step; it cannot make it accept a wrong one.

mod acts;
mod member;
#[cfg(test)]
mod tests;
mod value;

use crate::happened::Happened;
use crate::report::Report;
use crate::scenario::{Scenario, ScenarioError};
use crate::trace::Traced;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::membership::MemberKind;
use kontiki_core::message::Message;
use kontiki_core::types::{Member, NodeId};
use kontiki_core::wire;
use member::Tracked;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use value::{Memberships, seq};

/// Why a run cannot be written as a trace in TLA+.
#[derive(Debug, thiserror::Error)]
pub enum TlaError {
    /// The scenario is wrong.
    #[error("the scenario is wrong: {0}")]
    Scenario(#[from] ScenarioError),
    /// What a disk is found to hold is not in a trace.
    #[error("the members are full replicas, whose disks may be damaged: choose a profile other than storage")]
    FullReplicas,
}

/// Runs a scenario, and writes its first `steps` steps as module `Trace`. The run goes on to its end:
/// what the report says is about all of it.
pub fn trace(scenario: &Scenario, steps: u64) -> Result<(Report, String), TlaError> {
    if scenario.replica.is_some() {
        return Err(TlaError::FullReplicas);
    }
    let mut trace = Trace::new(scenario)?;
    let report = crate::run_traced(scenario, &mut |traced| trace.note(traced, steps))?;
    Ok((report, trace.module()))
}

/// How many lines one definition holds: a parser of TLA+ takes long for a long one.
const CHUNK: usize = 50;

/// A trace in the making.
struct Trace {
    members: BTreeMap<NodeId, Tracked>,
    memberships: Memberships,
    /// The members as they begin.
    first: String,
    lines: Vec<String>,
    /// Where each message was said first: the line and the place in it, from 1.
    said: BTreeMap<Vec<u8>, (usize, usize)>,
}

impl Trace {
    fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let mut memberships = Memberships::default();
        let group = memberships.name(&scenario.membership()?);
        let ids = scenario.ids();
        let disk = scenario.members.iter().map(|spec| match spec.initially {
            MemberKind::NonMember => "EmptyDisk".to_owned(),
            _ => format!("FirstDisk({group})"),
        });
        let first = ids.iter().zip(disk).map(|(id, disk)| format!("Started(<<{id}, 0>>, {disk}, 0)"));
        let first = seq(first);
        let members = ids.iter().map(|id| (*id, Tracked::new(Member::from(*id)))).collect();
        Ok(Self { members, memberships, first, lines: Vec::new(), said: BTreeMap::new() })
    }

    fn note(&mut self, traced: &Traced<'_>, steps: u64) {
        match traced {
            Traced::Step { step, event, actions, left_out, after, .. } if *step <= steps => {
                let by = self.by(event);
                let Some(member) = self.members.get_mut(&after.id) else { return };
                let (acts, writes) =
                    acts::of(member, event, (actions, left_out), after, &mut self.memberships);
                member.steps(after, actions, left_out);
                let (says, became) = (self.says(actions), value::status(after));
                let (id, (line, place)) = (after.id, by);
                let writes = if writes { "TRUE" } else { "FALSE" };
                self.lines.push(format!(
                    "[member |-> {id}, step |-> {step}, by |-> <<{line}, {place}>>, acts |-> {acts}, \
                     writes |-> {writes}, says |-> {says}, after |-> {became}]",
                ));
            }
            Traced::World { what: Happened::Crash { member, lost }, .. } => {
                self.members.entry(*member).and_modify(|tracked| tracked.crashes(*lost));
            }
            Traced::World { what: Happened::Restart { member, incarnation }, .. } => {
                self.members.entry(*member).and_modify(|tracked| tracked.restarts(*incarnation));
            }
            _ => {}
        }
    }

    /// Where the message was said that a step is about.
    fn by(&self, event: &Event) -> (usize, usize) {
        let Event::Receive(message) = event else { return (0, 0) };
        // One that was never said is one of the future, which the specification rejects.
        self.said.get(&frame(message)).copied().unwrap_or((self.lines.len() + 1, 1))
    }

    /// What the member says in the step that will be the next line.
    fn says(&mut self, actions: &[Action]) -> String {
        let mut says = Vec::new();
        for action in actions {
            if let Action::Send(message) = action {
                says.push(self.memberships.message(message));
                self.said.entry(frame(message)).or_insert((self.lines.len() + 1, says.len()));
            }
        }
        seq(says)
    }

    /// The module, now that the run is over.
    fn module(self) -> String {
        let mut module = format!(
            "---- MODULE Trace ----\n\\* Written by `kontiki-sim trace --format tla`.\nEXTENDS Kontiki\n\n{}{}",
            value::SHORTHANDS,
            self.memberships.definitions()
        );
        let _ = writeln!(module, "First == {}\n", self.first);
        let chunks: Vec<_> = self.lines.chunks(CHUNK).collect();
        for (chunk, number) in chunks.iter().zip(1..) {
            let _ = writeln!(module, "L{number} == <<\n{}>>\n", chunk.join(",\n"));
        }
        let all: Vec<_> = (1..=chunks.len()).map(|number| format!("L{number}")).collect();
        let all = if all.is_empty() { "<<>>".to_owned() } else { all.join(" \\o ") };
        let _ = writeln!(module, "Lines == {all}\n====");
        module
    }
}

/// A message as it is sent: two are the same where this is.
fn frame(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode(message, &mut frame);
    frame
}
