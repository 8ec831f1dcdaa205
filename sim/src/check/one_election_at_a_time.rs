//! One Election at a Time: a member makes a new term only by campaigning, one term a step, however long it
//! has slept. Terms that grow faster than elections are held tell of timers that fire several times for one
//! silence.

use super::{Check, Finding, Observation};
use kontiki_core::event::Event;

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct OneElectionAtATime;

impl Check for OneElectionAtATime {
    const NAME: &'static str = "One Election at a Time";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let told = match step.event {
            Event::Receive(message) => message.term.max(step.before.term),
            _ => step.before.term,
        };
        if step.after.term <= told.next() {
            return Ok(());
        }
        let (id, before, after) = (step.after.id, step.before.term, step.after.term);
        Err(format!("member {id} went from term {before} to {after} in one step").into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{show, status};
    use super::*;
    use kontiki_core::status::RoleKind::Candidate;

    #[test]
    fn fires_on_two_terms_in_one_step() {
        let term = |term| status(1, Candidate, term, 0);
        assert!(show(&mut OneElectionAtATime, &term(4), &term(5), &[]).is_ok());
        assert!(show(&mut OneElectionAtATime, &term(4), &term(6), &[]).is_err());
    }
}
