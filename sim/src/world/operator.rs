//! The operator: asks the leader for membership changes and transfers of leadership, and repeats each request
//! until a leader accepts it or refuses it for good. It also replaces members that have lost their disks.

use super::{Happening, World, position};
use crate::application::Application;
use crate::check::Checked;
use crate::host::Host;
use crate::operator::{Asked, Task};
use crate::report::{FaultKind, Mark};
use crate::scenario::{Alteration, Operation, Target, TimedOperation};
use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::event::{Event, Reconfigure, Transfer};
use kontiki_core::membership::{Change, MemberKind, Membership};
use kontiki_core::status::RoleKind;
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Member, NodeId, RequestId};

/// What is checked here: a change of the membership is answered in time.
const NAME: &str = "Change Deadline";

impl<A: Application> World<'_, A> {
    /// Asks this member something, which has until then by its clock to answer.
    fn ask_operated(&mut self, task: usize, member: usize, until: Instant) -> RequestId {
        self.operator.ask(Asked { task, member, life: self.hosts[member].life, until })
    }

    /// A change of the membership has at most two stages, and each has its deadline: the first step after
    /// both answers it.
    pub(super) fn check_change_deadlines(&self, member: usize) -> Checked {
        if self.operator.open.is_empty() {
            return Ok(());
        }
        let (now, life) = (self.hosts[member].clock.local(self.now), self.hosts[member].life);
        let late = |asked: &Asked| asked.member == member && asked.life == life && now >= asked.until;
        match self.operator.open.values().find(|asked| late(asked)) {
            Some(asked) => Err((
                NAME,
                format!(
                    "member {} has not answered a change of the membership by {:?}: it is {now:?}",
                    self.hosts[member].id, asked.until
                ),
            )
                .into()),
            None => Ok(()),
        }
    }

    pub(super) fn prepare_operator(&mut self) {
        for number in 0..self.scenario.operations.len() {
            let at = self.scenario.operations[number].at_us.min(self.scenario.chaos_us) * 1_000;
            self.add_task(Task::Operation(number), at);
        }
    }

    /// The operator does something at once that the scenario does not list.
    pub(super) fn order(&mut self, operation: Operation) {
        self.scenario.operations.push(TimedOperation { at_us: self.now / 1_000, operation });
        self.add_task(Task::Operation(self.scenario.operations.len() - 1), self.now);
    }

    /// A member has lost its disk: the operator will notice.
    pub(super) fn cure(&mut self, member: usize) {
        let soon = self.patience();
        self.add_task(Task::Cure(member), self.now + soon);
    }

    fn add_task(&mut self, task: Task, at: u64) {
        self.operator.tasks.push(task);
        self.operator.turns.push(0);
        self.turn_to(self.operator.tasks.len() - 1, at);
    }

    fn turn_to(&mut self, task: usize, at: u64) {
        self.operator.turns[task] += 1;
        self.schedule(at, Happening::Operate { task, turn: self.operator.turns[task] });
    }

    /// Whether a change of the membership is being asked for.
    pub(super) fn is_reconfiguring(&self) -> bool {
        let changes = |asked: &Asked| match self.operator.tasks[asked.task] {
            Task::Operation(number) => self.scenario.operations[number].operation.changes_members(),
            Task::Cure(_) => true,
        };
        self.operator.open.values().any(changes)
    }

    /// The members concerned by changes that were requested and may still take effect.
    pub(super) fn concerned(&self) -> Vec<usize> {
        let members = |asked: &Asked| match &self.operator.tasks[asked.task] {
            Task::Operation(number) => self.scenario.operations[*number].operation.members(),
            Task::Cure(member) => vec![self.hosts[*member].id],
        };
        self.operator.open.values().flat_map(members).map(position).collect()
    }

    /// The operator turns to a task, for the first time or once more.
    pub(super) fn operate(&mut self, task: usize, turn: u64) -> Checked {
        // After the chaos, what is under way comes to its end, and nothing else is begun.
        if self.stage.is_some() || self.operator.turns[task] != turn {
            return Ok(());
        }
        // A request that has not been answered by now is made again, of the present leader.
        self.operator.waiting.retain(|_, waiting| *waiting != task);
        let what = self.operator.tasks[task].clone();
        if let Task::Operation(number) = what
            && let Operation::Shutdown { member, for_us } = self.scenario.operations[number].operation
        {
            return self.shut_down(member, for_us);
        }
        let Some(leader) = self.leader() else {
            self.try_later(task);
            return Ok(());
        };
        let Some(event) = self.request_for(&what, task, leader)? else {
            return Ok(());
        };
        let late = 4 * self.patience();
        self.turn_to(task, self.now + late);
        self.tell(leader, event)
    }

    /// What to ask of this leader; none where there is nothing to ask, now or ever.
    fn request_for(
        &mut self,
        task: &Task,
        number: usize,
        leader: usize,
    ) -> Result<Option<Event>, crate::check::Violated> {
        let Some(membership) = self.hosts[leader].membership() else {
            self.try_later(number);
            return Ok(None);
        };
        let mut force = false;
        let changes = match task {
            Task::Cure(member) => match self.treatment(*member, &membership)? {
                Some(change) => vec![change],
                // It is a voter again.
                None => return Ok(None),
            },
            Task::Operation(operation) => match self.scenario.operations[*operation].operation.clone() {
                // Who takes a voter away while another has lost its memory may end with no quorum that
                // remembers.
                Operation::Reconfigure { .. } | Operation::Force { .. } if self.has_lost_one(&membership) => {
                    self.try_later(number);
                    return Ok(None);
                }
                Operation::Reconfigure { changes } => {
                    changes.iter().map(|change| self.change(*change, leader)).collect()
                }
                Operation::Force { changes } => {
                    force = true;
                    changes.iter().map(|change| self.change(*change, leader)).collect()
                }
                Operation::Transfer { to } => {
                    let request = self.ask_operated(number, leader, Instant::NEVER);
                    return Ok(Some(Event::Transfer(Transfer { request, to })));
                }
                Operation::Cancel => {
                    let request = self.ask_operated(number, leader, Instant::NEVER);
                    return Ok(Some(Event::CancelChange(request)));
                }
                Operation::Shutdown { .. } => return Ok(None),
            },
        };
        let expected = self.hosts[leader].up.as_ref().map(|up| up.status.configured);
        let catch_up = Nanos::from(self.scenario.options.catch_up_timeout);
        let until = self.hosts[leader].clock.local(self.now) + catch_up + catch_up;
        let request = self.ask_operated(number, leader, until);
        Ok(Some(Event::Reconfigure(Reconfigure { request, expected, changes, force })))
    }

    fn change(&self, alteration: Alteration, leader: usize) -> Change {
        let member = |id: NodeId| self.hosts[position(id)].member();
        match alteration {
            Alteration::Add(id) => self.addition(member(id)),
            Alteration::AddLearner(id) if self.hosts[position(id)].spec.witness => self.addition(member(id)),
            Alteration::AddLearner(id) => Change::AddLearner(member(id)),
            Alteration::Promote(id) => Change::Promote(id),
            Alteration::Demote(id) => Change::Demote(id),
            Alteration::Remove(Target::Member(id)) => Change::Remove(id),
            Alteration::Remove(Target::Leading(_)) => Change::Remove(self.hosts[leader].id),
        }
    }

    fn addition(&self, member: Member) -> Change {
        if self.hosts[position(member.id)].spec.witness {
            Change::AddWitness(member)
        } else {
            Change::AddVoter(member)
        }
    }

    /// The next step for a member that was wiped: its old self goes, then it starts, then its new self is
    /// added.
    fn treatment(
        &mut self,
        member: usize,
        membership: &Membership,
    ) -> Result<Option<Change>, crate::check::Violated> {
        let me = self.hosts[member].member();
        match membership.incarnation(me.id) {
            Some(incarnation) if incarnation == me.incarnation => {
                self.start_anew(member)?;
                if membership.is_voter(me.id) {
                    self.counters.mark(Mark::Readded);
                    return Ok(None);
                }
                Ok(Some(Change::Promote(me.id)))
            }
            Some(_) => Ok(Some(Change::Remove(me.id))),
            None => {
                self.start_anew(member)?;
                Ok(Some(self.addition(me)))
            }
        }
    }

    /// A member that was told to start again, now that its group has let its old self go.
    pub(super) fn start_anew(&mut self, member: usize) -> Checked {
        let host = &mut self.hosts[member];
        let stays_down = host.down > 0;
        if std::mem::take(&mut host.is_stale) && !stays_down { self.start(member) } else { Ok(()) }
    }

    /// Whether a voter has lost its memory, or some of it, and is still counted on.
    fn has_lost_one(&self, membership: &Membership) -> bool {
        let lost = |member: &Member| {
            membership.kind(*member) != MemberKind::Learner
                && (self.hosts[position(member.id)].member() != *member
                    || self.hosts[position(member.id)].body.is_damaged())
        };
        membership.members().iter().any(lost)
    }

    /// A leader has answered a request.
    pub(super) fn operator_answered(&mut self, request: RequestId, outcome: Outcome) {
        self.operator.open.remove(&request);
        // An answer that comes too late changes nothing: the operator has asked again.
        let Some(task) = self.operator.waiting.remove(&request) else {
            return;
        };
        let cures = matches!(self.operator.tasks[task], Task::Cure(_));
        let again = match outcome {
            Outcome::Committed(_) => {
                self.counters.mark(Mark::ChangeFinished);
                cures
            }
            Outcome::NotCaughtUp(_) => {
                self.counters.mark(Mark::NotCaughtUp);
                cures
            }
            Outcome::Transferred => {
                self.counters.mark(Mark::TransferDone);
                false
            }
            Outcome::NotTransferred => {
                self.counters.mark(Mark::TransferFailed);
                false
            }
            Outcome::Refused(
                Refusal::NotReady
                | Refusal::ChangeInFlight { .. }
                | Refusal::Outdated { .. }
                | Refusal::Transferring { .. }
                | Refusal::NotLeader { .. }
                | Refusal::Stopped,
            ) => true,
            Outcome::Refused(_) | Outcome::Cancelled | Outcome::Unknown | Outcome::Ready { .. } => cures,
        };
        if again {
            self.try_later(task);
        } else {
            self.operator.turns[task] += 1;
        }
    }

    fn try_later(&mut self, task: usize) {
        let soon = self.patience();
        let jitter = self.operator_stream.below(soon);
        self.turn_to(task, self.now + soon / 2 + jitter);
    }

    /// Stops a member in good order: everything that waits is answered. It starts again later.
    fn shut_down(&mut self, target: Target, for_us: u64) -> Checked {
        let member = self.aim(target);
        if !self.hosts[member].is_awake() {
            return Ok(());
        }
        self.counters.fault(FaultKind::Shutdown);
        self.tell(member, Event::Shutdown)?;
        self.hosts[member].down += 1;
        self.crash(member, FaultKind::Crash);
        self.schedule(self.now + for_us * 1_000, Happening::LetUp { member });
        Ok(())
    }

    /// Whether a member may lose its disk: wherever it votes, the other voters with intact disks must be a
    /// majority, none of them a witness; and no change of the voters may be under way.
    pub(super) fn may_wipe(&self, member: usize) -> bool {
        let me = self.hosts[member].member();
        let remembers = |id: &NodeId, membership: &Membership| {
            let host = &self.hosts[position(*id)];
            position(*id) != member && !host.body.is_damaged() && membership.contains(host.member())
        };
        let is_safe = |membership: Membership| {
            if membership.kind(me) == MemberKind::NonMember {
                return true;
            }
            let most = |set: &[NodeId]| {
                set.iter().filter(|id| remembers(id, &membership)).count() > set.len() / 2
                    || !set.contains(&me.id)
            };
            membership.is_voter(me.id)
                && membership.witnesses().is_empty()
                && most(membership.voters())
                && most(membership.outgoing())
        };
        let known = |membership: &Membership| membership.kind(me) != MemberKind::NonMember;
        let memberships = || self.hosts.iter().flat_map(Host::possible_memberships);
        !self.is_reconfiguring() && memberships().any(|it| known(&it)) && memberships().all(is_safe)
    }

    /// Who leads, by what can be seen from outside.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |member: &usize| {
            let host = &self.hosts[*member];
            host.is_awake() && host.up.as_ref().is_some_and(|up| up.status.role == RoleKind::Leader)
        };
        let term = |member: &usize| self.hosts[*member].up.as_ref().map(|up| up.status.term);
        (0..self.hosts.len()).filter(leads).max_by_key(term)
    }

    /// How long the operator waits before it looks again, in nanoseconds.
    fn patience(&self) -> u64 {
        u64::try_from(self.scenario.options.election_timeout_max.as_nanos()).unwrap_or(u64::MAX) / 2
    }
}
