//! Contests of leadership (see [`crate::scenario::ContestSpec`]): one scene after another, each of which
//! waits for what certain members do next. Links are cut before what a step has decided leaves its member.

use super::step::Taken;
use super::{Happening, World, position};
use crate::application::Application;
use crate::contests::{Contests, Scene};
use crate::host::Host;
use crate::network::Frame;
use crate::report::{FaultKind, Mark};
use crate::scenario::{Alteration, ContestKind, Fault, Operation, Target};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::RoleKind::{Candidate, Follower, Leader, PreCandidate};
use kontiki_core::status::Status;
use kontiki_core::types::NodeId;

/// A step of one member, as the contests look at it.
struct Moment<'a, 't> {
    member: usize,
    taken: &'a Taken<'t>,
    /// Whether a follower has answered the member, which leads.
    answered: bool,
    /// Whether the member was elected.
    elected: bool,
    /// Whether the member began to stand for election.
    stands: bool,
}

impl<'a, 't> Moment<'a, 't> {
    fn of(member: usize, taken: &'a Taken<'t>) -> Self {
        let Taken { event, before, after, .. } = taken;
        Self {
            member,
            taken,
            answered: after.role == Leader && is_answered(event, after),
            elected: after.role == Leader && (before.role, before.term) != (after.role, after.term),
            stands: before.role == Follower && matches!(after.role, PreCandidate | Candidate),
        }
    }

    /// Whether this is a step of `leader`, which leads.
    fn is_leader(&self, leader: usize) -> bool {
        leader == self.member && self.taken.after.role == Leader
    }

    fn is_answered(&self, leader: usize) -> bool {
        self.answered && self.is_leader(leader)
    }

    fn sends(&self, wanted: fn(&Body) -> bool) -> bool {
        let mut actions = self.taken.actions.iter();
        actions.any(|action| matches!(action, Action::Send(message) if wanted(&message.body)))
    }
}

impl<A: Application> World<'_, A> {
    /// What a step has done may be what a contest waits for.
    pub(super) fn contest_after(&mut self, member: usize, taken: &Taken<'_>) {
        if self.stage.is_some() {
            return;
        }
        let Some(mut contests) = self.contests.take() else { return };
        let scene = std::mem::replace(&mut contests.scene, Scene::Over);
        contests.scene = match self.play(&mut contests, scene, &Moment::of(member, taken)) {
            Scene::Led { answers } => Scene::Led { answers },
            Scene::Over => Scene::Over,
            _ if self.now >= contests.until => contests.next(),
            scene => scene,
        };
        self.contests = Some(contests);
    }

    /// The moment has come that a contest has set itself.
    pub(super) fn contest_due(&mut self) {
        let Some(mut contests) = self.contests.take() else { return };
        if self.stage.is_none() {
            let scene = std::mem::replace(&mut contests.scene, Scene::Over);
            contests.scene = match scene {
                Scene::CutOff { leader, mark } => {
                    self.cut_leader_off(&mut contests, leader, mark);
                    contests.next()
                }
                Scene::Falling { leader, one, answer } => {
                    self.restart(&mut contests, one);
                    Scene::Reborn { leader, one, answer: Some(answer) }
                }
                scene => scene,
            };
        }
        self.contests = Some(contests);
    }

    /// Whether a message is kept for a contest, and does not arrive now.
    pub(super) fn contest_keeps(&self, from: usize, message: &Message) -> bool {
        let to = position(message.to.id);
        match (self.contests.as_ref().map(|contests| &contests.scene), &message.body) {
            (
                Some(Scene::Bidding { leader, .. } | Scene::TakenBack { leader, .. }),
                Body::TimeoutNow { .. },
            ) => *leader == from,
            (Some(Scene::Asking { leader, one }), Body::ReadIndexIs { .. }) => (*leader, *one) == (from, to),
            _ => false,
        }
    }

    /// Keeps it.
    pub(super) fn contest_keep(&mut self, to: usize, frame: Frame) {
        let Some(contests) = &mut self.contests else { return };
        match contests.scene {
            Scene::Bidding { ref mut kept, .. } => *kept = Some((to, frame)),
            Scene::Asking { leader, one } => {
                contests.scene = Scene::Falling { leader, one, answer: frame };
                self.schedule(self.now + 1, Happening::Contest);
            }
            _ => {}
        }
    }

    fn play(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        match scene {
            Scene::Led { answers: 0 } if moment.answered => self.open(contests, moment.member),
            Scene::Led { answers } if moment.answered => Scene::Led { answers: answers - 1 },
            Scene::Drifting { .. } | Scene::Answering { .. } | Scene::Aside { .. } => {
                self.play_lease(contests, scene, moment)
            }
            Scene::Succeeding { .. }
            | Scene::Succeeded { .. }
            | Scene::HandedOn { .. }
            | Scene::Renewed { .. }
            | Scene::Parted { .. } => self.play_succession(contests, scene, moment),
            Scene::HandingOver { .. } | Scene::Bidding { .. } | Scene::TakenBack { .. } => {
                self.play_transfer(contests, scene, moment)
            }
            Scene::Changing { .. } => self.play_change(contests, scene, moment),
            Scene::Reborn { .. } | Scene::Ignorant { .. } | Scene::AskingAgain { .. } => {
                self.play_rebirth(contests, scene, moment)
            }
            // These wait for an instant or for a message under way.
            Scene::Led { .. }
            | Scene::CutOff { .. }
            | Scene::Asking { .. }
            | Scene::Falling { .. }
            | Scene::Over => scene,
        }
    }

    /// The leader is cut off while its lease holds, while answers are late, or once a promiser stands.
    fn play_lease(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        match scene {
            Scene::Drifting { leader, answers: 0 } if moment.is_answered(leader) => {
                self.cut_leader_off(contests, leader, Mark::CutOffUnderLease);
                contests.next()
            }
            Scene::Drifting { leader, answers } if moment.is_answered(leader) => {
                Scene::Drifting { leader, answers: answers - 1 }
            }
            Scene::Answering { leader }
                if moment.is_leader(leader)
                    && moment.sends(|body| matches!(body, Body::Heartbeat { .. })) =>
            {
                // By then those who can hear have heard, and their answers are on the way.
                let latest = 2 * self.scenario.network.latency_max_us * 1_000;
                self.schedule(self.now + latest, Happening::Contest);
                Scene::CutOff { leader, mark: Mark::AnswersHeldUp }
            }
            Scene::Aside { leader, aside } if moment.stands && aside.contains(&moment.member) => {
                self.cut_leader_off(contests, leader, Mark::PromiserRestarted);
                for voter in self.other_voters(leader) {
                    if !aside.contains(&voter) {
                        self.restart(contests, voter);
                    }
                }
                contests.next()
            }
            scene => scene,
        }
    }

    /// A member takes over, hands over, and stands against the leader that came after it.
    fn play_succession(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        let member = moment.member;
        match scene {
            Scene::Succeeding { one } if moment.elected && member == one => {
                Scene::Succeeded { one, answers: contests.few() }
            }
            Scene::Succeeded { one, answers: 0 } if moment.is_answered(one) => {
                self.order(Operation::Transfer { to: None });
                Scene::HandedOn { one }
            }
            Scene::Succeeded { one, answers } if moment.is_answered(one) => {
                Scene::Succeeded { one, answers: answers - 1 }
            }
            Scene::HandedOn { one } if moment.elected && member != one => {
                Scene::Renewed { one, leader: member, answers: contests.few() }
            }
            Scene::Renewed { one, leader, answers: 0 } if moment.is_answered(leader) => {
                self.part(contests, &[one], &[leader]);
                self.alarm(contests, one, leader);
                Scene::Parted { one, leader }
            }
            Scene::Renewed { one, leader, answers } if moment.is_answered(leader) => {
                Scene::Renewed { one, leader, answers: answers - 1 }
            }
            Scene::Parted { one, leader } if moment.stands && member == one => {
                self.cut_leader_off(contests, leader, Mark::FormerSuccessorStood);
                contests.next()
            }
            scene => scene,
        }
    }

    /// The leader is cut off as it hands over, or its `TimeoutNow` comes after it has given the transfer up.
    fn play_transfer(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        match scene {
            Scene::HandingOver { leader }
                if moment.is_leader(leader)
                    && moment.sends(|body| matches!(body, Body::TimeoutNow { .. })) =>
            {
                self.schedule(self.now + 1, Happening::Contest);
                Scene::CutOff { leader, mark: Mark::CutOffHandingOver }
            }
            Scene::Bidding { leader, kept: Some(kept) }
                if moment.is_leader(leader) && gives_up(moment.taken.actions) =>
            {
                Scene::TakenBack { leader, kept, answers: contests.few() }
            }
            Scene::TakenBack { leader, kept: (to, frame), answers: 0 } if moment.is_answered(leader) => {
                self.schedule(self.now, Happening::Deliver { to, frame, connection: None, flipped: false });
                self.counters.fault(FaultKind::OldMessage);
                self.cut_leader_off(contests, leader, Mark::BiddingCameLate);
                contests.next()
            }
            Scene::TakenBack { leader, kept, answers } if moment.is_answered(leader) => {
                Scene::TakenBack { leader, kept, answers: answers - 1 }
            }
            scene => scene,
        }
    }

    /// The group is split as its joint phase begins.
    fn play_change(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        match scene {
            Scene::Changing { leader }
                if moment.is_leader(leader) && moment.taken.membership_before.is_some() =>
            {
                let membership = self.hosts[leader].up.as_ref().map(|up| up.membership.clone());
                match membership.filter(Membership::is_joint) {
                    Some(membership) => {
                        self.split_joint(contests, leader, &membership);
                        contests.next()
                    }
                    None => Scene::Changing { leader },
                }
            }
            scene => scene,
        }
    }

    /// A member that has restarted hears the answer to a question of its earlier life.
    fn play_rebirth(&mut self, contests: &mut Contests, scene: Scene, moment: &Moment<'_, '_>) -> Scene {
        let Moment { member, taken, .. } = *moment;
        match scene {
            Scene::Reborn { leader, one, answer }
                if member == one && follows(&taken.after, self.hosts[leader].id) =>
            {
                match answer {
                    None => {
                        self.probe_at(contests, one);
                        Scene::Asking { leader, one }
                    }
                    Some(answer) => {
                        self.part(contests, &[one], &[leader]);
                        self.schedule(self.now + 1, Happening::ProbeWrite { leader });
                        Scene::Ignorant { leader, one, answer }
                    }
                }
            }
            Scene::Ignorant { leader, one, answer } if moment.is_leader(leader) && commits(taken.actions) => {
                self.probe_at(contests, one);
                Scene::AskingAgain { one, answer }
            }
            Scene::AskingAgain { one, answer } if member == one && matches!(taken.event, Event::Read(_)) => {
                self.counters.mark(Mark::EarlierAnswer);
                self.counters.fault(FaultKind::OldMessage);
                self.schedule(
                    self.now,
                    Happening::Deliver { to: one, frame: answer, connection: None, flipped: false },
                );
                contests.next()
            }
            scene => scene,
        }
    }

    /// Asks a member to read something.
    fn probe_at(&mut self, contests: &mut Contests, member: usize) {
        let client = self.clients.count() as u64;
        match self.clients.application.draw_query(client, &mut contests.stream) {
            Ok(Some(query)) => self.schedule(self.now + 1, Happening::ProbeRead { member, query }),
            Ok(None) => {}
            Err(violated) => self.schedule(self.now, Happening::Violated(violated)),
        }
    }

    /// A member crashes, and starts again at once.
    fn restart(&mut self, contests: &mut Contests, member: usize) {
        let for_us = contests.stream.skewed(1, 40);
        let target = Target::Member(self.hosts[member].id);
        self.strike(member, for_us, Fault::Crash { member: target, after_actions: 0 });
        self.crash(member, FaultKind::Crash);
    }

    /// A contest begins: this member leads, and has just been answered.
    fn open(&mut self, contests: &mut Contests, leader: usize) -> Scene {
        let others = self.other_voters(leader);
        if others.len() < 2 {
            return contests.next();
        }
        contests.left -= 1;
        let (min, max) = self.election_us();
        contests.until = self.now + 12 * max * 1_000;
        // Whatever is contested, a lease has been used.
        self.probe_at(contests, leader);
        let one = *contests.stream.pick(&others);
        match contests.spec.kind {
            ContestKind::CutOff => {
                if contests.spec.drift {
                    self.drift_apart(leader, 6 * max);
                }
                Scene::Drifting { leader, answers: contests.few() }
            }
            ContestKind::LateAnswers => {
                let until = self.now + contests.stream.between(min / 4, max) * 1_000;
                self.counters.fault(FaultKind::Stall);
                (0..self.hosts.len()).for_each(|member| self.network.stall(member, leader, until));
                Scene::Answering { leader }
            }
            ContestKind::RestartedVoters => {
                let count = contests.stream.between(1, others.len() as u64 / 2) as usize;
                let aside = contests.stream.sample(&others, count);
                self.part(contests, &aside, &[leader]);
                Scene::Aside { leader, aside }
            }
            ContestKind::FormerSuccessor => {
                self.order(Operation::Transfer { to: Some(self.hosts[one].id) });
                Scene::Succeeding { one }
            }
            ContestKind::HandingOver => {
                self.order(Operation::Transfer { to: Some(self.hosts[one].id) });
                Scene::HandingOver { leader }
            }
            ContestKind::LateBidding => {
                self.order(Operation::Transfer { to: Some(self.hosts[one].id) });
                Scene::Bidding { leader, kept: None }
            }
            ContestKind::HalfOfJoint => {
                let changes = self.change_of_majority(contests, leader, &others);
                self.order(Operation::Reconfigure { changes });
                Scene::Changing { leader }
            }
            ContestKind::EarlierAnswer => {
                self.restart(contests, one);
                Scene::Reborn { leader, one, answer: None }
            }
        }
    }

    /// The leader hears from none of the others any more.
    fn cut_leader_off(&mut self, contests: &mut Contests, leader: usize, mark: Mark) {
        self.counters.mark(mark);
        let (min, max) = self.election_us();
        let for_us = contests.stream.between(2 * min, 4 * max);
        self.strike(leader, for_us, Fault::Isolate { member: Target::Member(self.hosts[leader].id) });
        for member in 0..self.hosts.len() {
            self.alarm(contests, member, leader);
        }
    }

    /// A host learns that its connection to the leader broke, where hosts do.
    fn alarm(&mut self, contests: &mut Contests, member: usize, leader: usize) {
        if contests.spec.alarm && member != leader {
            let late = self.scenario.network.latency_max_us + contests.stream.skewed(1, 1_000);
            let peer = self.hosts[leader].id;
            self.counters.fault(FaultKind::BrokenConnection);
            self.schedule(self.now + late * 1_000, Happening::Unreachable { member, peer });
        }
    }

    /// Nothing passes between these and those.
    fn part(&mut self, contests: &mut Contests, some: &[usize], others: &[usize]) {
        let (_, max) = self.election_us();
        let for_us = contests.stream.between(4 * max, 8 * max);
        let ids =
            |members: &[usize]| -> Vec<NodeId> { members.iter().map(|&at| self.hosts[at].id).collect() };
        let (some, others) = (ids(some), ids(others));
        self.strike(0, for_us, Fault::OneWay { from: some.clone(), to: others.clone() });
        self.strike(0, for_us, Fault::OneWay { from: others, to: some });
    }

    /// The leader's clock runs as slowly as leases allow for, and the others' as fast.
    fn drift_apart(&mut self, leader: usize, for_us: u64) {
        let bound = i64::from(self.scenario.options.max_clock_drift_ppm);
        for at in 0..self.hosts.len() {
            let ppm = if at == leader { -bound } else { bound };
            self.strike(at, for_us, Fault::Clock { member: Target::Member(self.hosts[at].id), ppm });
        }
    }

    /// Most of the voters go, and those come that do not belong to the group.
    fn change_of_majority(
        &self,
        contests: &mut Contests,
        leader: usize,
        others: &[usize],
    ) -> Vec<Alteration> {
        let staying = contests.stream.below((others.len() as u64 / 2).max(1)) as usize;
        let stay = contests.stream.sample(others, staying);
        let Some(up) = &self.hosts[leader].up else { return vec![] };
        let membership = &up.membership;
        let is_new = |host: &&Host<A::Machine>| !membership.contains(host.member()) && host.is_awake();
        let comes = self.hosts.iter().filter(is_new).map(|host| Alteration::Add(host.id));
        let goes = others.iter().filter(|other| !stay.contains(other)).map(|&other| self.hosts[other].id);
        comes.chain(goes.map(|id| Alteration::Remove(Target::Member(id)))).collect()
    }

    /// Those that hear of a joint phase are a majority of the new voters, and the others are one of the old.
    fn split_joint(&mut self, contests: &mut Contests, leader: usize, membership: &Membership) {
        let (new, old) = (membership.voters(), membership.outgoing());
        let me = self.hosts[leader].id;
        let mut side = vec![me];
        // Those first that take nothing from the majority of the old.
        let mut joining: Vec<_> = new.iter().copied().filter(|id| *id != me).collect();
        joining.sort_by_key(|id| old.contains(id));
        for id in joining {
            if side.iter().filter(|id| new.contains(id)).count() <= new.len() / 2 {
                side.push(id);
            }
        }
        if old.iter().filter(|id| !side.contains(id)).count() <= old.len() / 2 {
            return;
        }
        self.counters.mark(Mark::JointHalfInformed);
        let (_, max) = self.election_us();
        let for_us = contests.stream.between(3 * max, 8 * max);
        for other in old.iter().filter(|id| !side.contains(id)) {
            self.alarm(contests, position(*other), leader);
        }
        self.strike(leader, for_us, Fault::Partition { side });
    }

    /// The voters of a leader's membership besides itself.
    fn other_voters(&self, leader: usize) -> Vec<usize> {
        let Some(up) = &self.hosts[leader].up else { return vec![] };
        up.membership.voters().iter().map(|id| position(*id)).filter(|&voter| voter != leader).collect()
    }

    /// The shortest and the longest election timeout.
    fn election_us(&self) -> (u64, u64) {
        let us = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        (us(self.scenario.options.election_timeout_min), us(self.scenario.options.election_timeout_max))
    }
}

/// Whether a leader hears that it was followed in its term.
fn is_answered(event: &Event, leader: &Status) -> bool {
    let Event::Receive(Message { body: Body::HeartbeatAck { .. }, term, .. }) = event else { return false };
    *term == leader.term
}

/// Whether a leader takes office back that it wanted to hand over.
fn gives_up(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Respond { outcome: Outcome::NotTransferred, .. }))
}

/// Whether a member follows this leader.
fn follows(status: &Status, leader: NodeId) -> bool {
    status.role == Follower && status.leader == Some(leader)
}

/// Whether a client is told that what it proposed is committed.
fn commits(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Respond { outcome: Outcome::Committed(_), .. }))
}
