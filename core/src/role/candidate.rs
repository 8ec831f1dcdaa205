//! A candidate collects votes (paper §5.2), or asks first whether it would get them (thesis 9.6).

use crate::action::{Action, Refusal};
use crate::common::Common;
use crate::message::Body;
use crate::quorum::Tally;
use crate::role::{Next, Phase, follower};
use crate::status::DropReason;
use crate::types::Member;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Candidate {
    pub(crate) phase: Phase,
    /// What the other voters answered in this phase.
    answers: Answers,
    /// What they answered to the request for votes in the term that this member is still in, if it made one
    /// and now asks whether another would succeed. A vote that took long to reach its voter's disk still
    /// counts.
    votes: Answers,
}

/// The other voters, and what each answered; the first answer of each counts.
type Answers = Vec<(Member, Option<bool>)>;

impl Candidate {
    /// Asks the other voters for their votes. The requests leave once the candidate's own vote is on its
    /// disk, and with it the log that it claims: a candidate that forgot either could use the votes that
    /// others gave to what it was.
    pub(crate) fn ask(transfer: bool, common: &mut Common) -> Self {
        let last = common.log.last();
        let answers = unanswered(common);
        for &(voter, _) in &answers {
            common.send_once_durable(voter, Body::RequestVote { last, transfer });
        }
        Self { phase: Phase::Vote { transfer }, answers, votes: Vec::new() }
    }

    /// Asks whether they would vote for this member. Whatever `votes` come meanwhile for the term it is still
    /// in are counted.
    pub(crate) fn ask_beforehand(votes: Answers, common: &Common, out: &mut Vec<Action>) -> Self {
        let last = common.log.last();
        let answers = unanswered(common);
        for &(voter, _) in &answers {
            common.send(voter, Body::PreVote { last }, out);
        }
        Self { phase: Phase::PreVote, answers, votes }
    }

    /// The votes of this term so far.
    pub(crate) fn take_votes(&mut self) -> Answers {
        core::mem::take(match self.phase {
            Phase::PreVote => &mut self.votes,
            Phase::Vote { .. } => &mut self.answers,
        })
    }

    pub(crate) fn on_message(&mut self, common: &mut Common, from: Member, body: &Body) -> Next {
        let (answers, granted) = match (self.phase, body) {
            (Phase::PreVote, Body::PreVoted { granted }) | (Phase::Vote { .. }, Body::Voted { granted }) => {
                (&mut self.answers, *granted)
            }
            (Phase::PreVote, Body::Voted { granted }) if !self.votes.is_empty() => {
                (&mut self.votes, *granted)
            }
            _ => {
                common.drops.add(DropReason::Late);
                return Next::Stay;
            }
        };
        match answers.iter_mut().find(|(voter, _)| *voter == from) {
            None => {
                common.drops.add(DropReason::Stranger);
                return Next::Stay;
            }
            Some((_, answer)) => *answer = answer.or(Some(granted)),
        }
        self.verdict(common)
    }

    /// The time for this election is over. It has not begun while the candidate's own vote is on its way to
    /// the disk.
    pub(crate) fn on_deadline(&self, common: &mut Common, out: &mut Vec<Action>) -> Next {
        if common.is_writing_ballot() {
            common.rearm_election_timer();
            common.refuse_reads(Refusal::NotLeader { leader: None }, out);
            return Next::Stay;
        }
        follower::on_election_deadline(common, out)
    }

    /// What the answers so far come to. The candidate's own vote is one of them, once it is durable; before
    /// that it does not lead, whatever others claim to have answered: they cannot have been asked.
    pub(crate) fn verdict(&self, common: &Common) -> Next {
        let voted = common.durability.durable_ballot() == common.ballot;
        match self.phase {
            Phase::PreVote => match (tally(common, true, &self.answers), self.tally_votes(common)) {
                (_, Tally::Won) => Next::Lead,
                (Tally::Won, _) => Next::Campaign(Phase::Vote { transfer: false }),
                (Tally::Lost, Tally::Lost) => Next::Follow(None),
                (Tally::Lost | Tally::Pending, _) => Next::Stay,
            },
            Phase::Vote { .. } => match tally(common, voted, &self.answers) {
                Tally::Lost => Next::Follow(None),
                Tally::Won if voted => Next::Lead,
                Tally::Won | Tally::Pending => Next::Stay,
            },
        }
    }

    /// What the votes of the term come to that this member is still in; lost where it did not ask for any.
    fn tally_votes(&self, common: &Common) -> Tally {
        if self.votes.is_empty() { Tally::Lost } else { tally(common, true, &self.votes) }
    }
}

fn unanswered(common: &Common) -> Answers {
    let others = common.membership().all_voters().filter(|&voter| voter != common.member());
    others.map(|voter| (voter, None)).collect()
}

/// Counts the answers, and this member's own where it has one.
fn tally(common: &Common, own: bool, answers: &Answers) -> Tally {
    common.membership().tally(|voter| {
        if voter == common.id() {
            return own.then_some(true);
        }
        answers.iter().find(|(asked, _)| asked.id == voter).and_then(|&(_, answer)| answer)
    })
}
