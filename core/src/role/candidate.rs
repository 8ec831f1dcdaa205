//! A candidate collects votes (paper §5.2), or asks first whether it would get them (thesis 9.6).

use crate::action::Action;
use crate::common::Common;
use crate::message::Body;
use crate::quorum::Tally;
use crate::role::{Next, Phase};
use crate::status::DropReason;
use crate::types::Member;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Candidate {
    pub(crate) phase: Phase,
    /// What the other voters answered; the first answer of each counts.
    answers: Vec<(Member, Option<bool>)>,
}

impl Candidate {
    /// Asks the other voters. A real campaign's requests leave once the candidate's own vote is on its disk, and with
    /// it the log that it claims: a candidate that forgot either could use the votes that others gave to what it was.
    pub(crate) fn ask(phase: Phase, common: &mut Common, out: &mut Vec<Action>) -> Self {
        let last = common.log.last();
        let others = common.membership().all_voters().filter(|&voter| voter != common.member());
        let answers: Vec<_> = others.map(|voter| (voter, None)).collect();
        for &(voter, _) in &answers {
            match phase {
                Phase::PreVote => common.send(voter, Body::PreVote { last }, out),
                Phase::Vote { transfer } => {
                    common.send_once_durable(voter, Body::RequestVote { last, transfer });
                }
            }
        }
        Self { phase, answers }
    }

    pub(crate) fn on_message(&mut self, common: &mut Common, from: Member, body: &Body) -> Next {
        let granted = match (self.phase, body) {
            (Phase::PreVote, Body::PreVoted { granted }) | (Phase::Vote { .. }, Body::Voted { granted }) => {
                *granted
            }
            _ => {
                common.drops.add(DropReason::Late);
                return Next::Stay;
            }
        };
        match self.answers.iter_mut().find(|(voter, _)| *voter == from) {
            None => {
                common.drops.add(DropReason::Stranger);
                return Next::Stay;
            }
            Some((_, answer)) => *answer = answer.or(Some(granted)),
        }
        self.verdict(common)
    }

    /// What the answers so far come to. The candidate's own vote is one of them, once it is durable; before that it does
    /// not lead, whatever others claim to have answered: they cannot have been asked.
    pub(crate) fn verdict(&self, common: &Common) -> Next {
        let own = match self.phase {
            Phase::PreVote => true,
            Phase::Vote { .. } => common.durability.durable_ballot() == common.ballot,
        };
        let answer = |voter| {
            if voter == common.id() {
                return own.then_some(true);
            }
            self.answers.iter().find(|(asked, _)| asked.id == voter).and_then(|&(_, answer)| answer)
        };
        match common.membership().tally(answer) {
            Tally::Pending => Next::Stay,
            Tally::Lost => Next::Follow(None),
            Tally::Won => match self.phase {
                Phase::PreVote => Next::Campaign(Phase::Vote { transfer: false }),
                Phase::Vote { .. } if own => Next::Lead,
                Phase::Vote { .. } => Next::Stay,
            },
        }
    }
}
