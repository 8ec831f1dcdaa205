//! Steady Leader: a leader that every member of a healed group follows is not replaced, however much is on
//! the links: large entries, snapshots and retries cost no leader. A group that changes its membership or
//! hands over may have another.

use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::types::Term;

/// The name of the property.
pub const NAME: &str = "Steady Leader";

/// Which leader stays.
#[derive(Default, Debug)]
pub struct SteadyLeader {
    /// The term in which all follow one leader, and since when.
    led: Option<(Term, u64)>,
}

impl SteadyLeader {
    /// The latest term at this time, in nanoseconds, and whether all members follow its leader. A leader is
    /// steady once it has led for `patience`.
    pub fn look(&mut self, now: u64, patience: u64, term: Term, is_led: bool) -> Result<(), String> {
        match self.led {
            Some((led, since)) if term > led && now >= since + patience => {
                let elapsed = (now - since) / 1_000_000;
                Err(format!(
                    "the leader of term {led} led all members for {elapsed} ms, and is replaced in term {term}"
                ))
            }
            Some((led, _)) if term == led => Ok(()),
            _ => {
                self.led = is_led.then_some((term, now));
                Ok(())
            }
        }
    }
}

impl Check for SteadyLeader {
    const NAME: &'static str = NAME;

    /// Leadership that is handed over, and another membership, may bring another leader.
    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let is_bidding = |message: &Message| matches!(message.body, Body::TimeoutNow { .. });
        let is_sent = step.actions.iter().any(|action| matches!(action, Action::Send(it) if is_bidding(it)));
        let is_received = matches!(step.event, Event::Receive(message) if is_bidding(message));
        if is_sent || is_received || step.before.configured != step.after.configured {
            self.led = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(check: &mut SteadyLeader, now: u64, term: u64, is_led: bool) -> Result<(), String> {
        check.look(now, 100, Term::new(term), is_led)
    }

    #[test]
    fn fires_where_a_leader_that_all_follow_is_replaced() {
        let mut check = SteadyLeader::default();
        assert_eq!(look(&mut check, 10, 2, true), Ok(()));
        assert_eq!(look(&mut check, 60, 3, true), Ok(()), "it had not led for long");
        assert_eq!(look(&mut check, 200, 3, true), Ok(()));
        assert!(look(&mut check, 210, 4, false).is_err());
    }

    #[test]
    fn a_leader_that_not_all_follow_may_be_replaced() {
        let mut check = SteadyLeader::default();
        assert_eq!(look(&mut check, 10, 2, false), Ok(()));
        assert_eq!(look(&mut check, 500, 3, true), Ok(()));
    }
}
