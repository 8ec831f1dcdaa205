//! What is sometimes true of a correct cluster, and must be seen in a sweep.

use super::World;
use super::step::Taken;
use crate::application::Application;
use crate::ledger::Link;
use crate::report::Mark;
use kontiki_core::action::{Action, Outcome, Refusal, Write};
use kontiki_core::event::Event;
use kontiki_core::membership::MemberKind;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::RoleKind::{Candidate, Follower, Leader, PreCandidate};

impl<A: Application> World<'_, A> {
    /// Counts what the step has shown.
    pub(super) fn count(&mut self, member: usize, taken: &Taken<'_>) {
        let Taken { before, after, .. } = taken;
        if after.role == Leader && (before.role != Leader || before.term != after.term) {
            self.counters.elections += 1;
        }
        let chain = self.hosts[member].up.as_ref().map_or(&[][..], |up| &up.chain);
        let counters = &mut self.counters;
        marks_of_status(taken, chain, |mark| counters.mark(mark));
        marks_of_actions(taken, |mark| counters.mark(mark));
        self.count_change(member, taken);
    }

    /// Counts what a step has done to the membership.
    fn count_change(&mut self, member: usize, taken: &Taken<'_>) {
        let (Some(before), Some(up)) = (&taken.membership_before, &self.hosts[member].up) else {
            return;
        };
        let (counters, after, status) = (&mut self.counters, &up.membership, taken.after);
        if status.role != Leader {
            if status.configured < taken.before.configured {
                counters.mark(Mark::RolledBack);
            }
            return;
        }
        if after.is_joint() {
            counters.mark(Mark::Joint);
            self.joints.insert(status.configured, status.id);
        } else if before.is_joint()
            && self.joints.get(&taken.before.configured).is_some_and(|began| *began != status.id)
        {
            counters.mark(Mark::JointLeftByAnother);
        }
        let promoted = after.voters().iter().filter(|id| before.learners().contains(id)).count();
        (0..promoted).for_each(|_| counters.mark(Mark::Promoted));
    }
}

fn marks_of_status(taken: &Taken<'_>, chain: &[Link], mut mark: impl FnMut(Mark)) {
    let Taken { event, before, after, dropped_answer, .. } = taken;
    let same_term = before.term == after.term;
    match (before.role, after.role) {
        (Leader, Follower) if same_term => mark(Mark::SteppedDown),
        (PreCandidate, PreCandidate | Follower) if same_term => mark(Mark::PreVoteFailed),
        (Candidate, PreCandidate | Follower) => mark(Mark::CampaignFailed),
        (Candidate, Candidate) if !same_term => mark(Mark::CampaignFailed),
        _ => {}
    }
    if (before.role, after.role) == (Leader, Follower) && same_term && after.kind != MemberKind::Voter {
        mark(Mark::LeaderRemoved);
    }
    let refused = taken.actions.iter().any(|action| matches!(action, Action::Respond { .. }));
    match event {
        Event::Reconfigure(_) if after.role == Leader && !refused => mark(Mark::ChangeBegun),
        Event::Transfer(_) if after.role == Leader && !refused => mark(Mark::TransferTried),
        Event::EntriesLoaded(loaded) if !loaded.entries.is_empty() => mark(Mark::EntriesLoaded),
        _ => {}
    }
    if *dropped_answer {
        mark(Mark::TooManyWaiting);
    }
    if after.committed > before.committed {
        if after.committed > after.durable.index {
            mark(Mark::CommittedBeforeDurable);
        }
        let first = chain.get(before.committed.get() as usize).map(|link| link.term);
        if after.role == Leader && first.is_some_and(|term| term < after.term) {
            mark(Mark::OldTermCommitted);
        }
    }
    if let Event::Receive(Message { term, body: Body::RequestVote { .. }, .. }) = event
        && before.role == Candidate
        && *term == before.term
    {
        mark(Mark::Contested);
    }
}

fn marks_of_actions(taken: &Taken<'_>, mut mark: impl FnMut(Mark)) {
    for action in taken.actions {
        match action {
            Action::Send(Message { body: Body::Rejected { .. }, .. }) => mark(Mark::Rejected),
            Action::Send(Message { body: Body::Voted { granted: false }, .. })
                if taken.after.leader.is_some() =>
            {
                mark(Mark::VoteLocked);
            }
            Action::Restore(_) if taken.after.committed > taken.before.applied => {
                mark(Mark::SnapshotInstalled);
            }
            Action::Send(Message { body: Body::OfferSnapshot { .. }, .. }) => mark(Mark::SnapshotOffered),
            Action::Send(Message { body: Body::Appended { .. }, .. })
                if taken.after.kind == MemberKind::Witness =>
            {
                mark(Mark::WitnessHeld);
            }
            Action::Persist(Write { truncate_after: Some(_), .. }) => mark(Mark::Truncated),
            Action::Respond { outcome: Outcome::Unknown, .. } => mark(Mark::Unknown),
            Action::Respond { outcome: Outcome::Refused(Refusal::Busy), .. } => mark(Mark::Busy),
            _ => {}
        }
    }
}
