//! The contract between a kernel and its host, watched from outside: what goes in and what comes out.
//!
//! A [`Contract`] sees every event and every action of one life of one member and knows nothing else. It
//! holds both sides to their word: the kernel promises nothing that is not durable and answers each request
//! once; the host reports writes in order and applies what it was told to. Run it in the tests of your own
//! host:
//!
//! ```
//! use kontiki_core::config::{Config, Options};
//! use kontiki_core::event::Event;
//! use kontiki_core::membership::Membership;
//! use kontiki_core::durable::Durable;
//! use kontiki_core::raft::Raft;
//! use kontiki_core::time::Instant;
//! use kontiki_core::types::{ClusterId, Identity, NodeId};
//! use kontiki_sim::contract::Contract;
//!
//! let id = NodeId::new(1).expect("not zero");
//! let config = Config::new(Identity::new(ClusterId(7), id), Options::default())?;
//! let durable = Durable::bootstrap(Membership::of([id])?);
//! let mut contract = Contract::new(&config, &durable);
//! let mut raft = Raft::restore(config, durable, Instant::ZERO)?;
//!
//! let actions = raft.step(raft.deadline(), Event::Wake);
//! contract.watch(&Event::Wake, &actions, &raft.status())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use kontiki_core::action::{Action, Write};
use kontiki_core::config::Config;
use kontiki_core::durable::Durable;
use kontiki_core::event::{Event, Read, Reconfigure, Transfer};
use kontiki_core::message::{Body, Message};
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::{Ballot, Index, NodeId, RequestId, Term, WriteSeq};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What one life of one member has been told and has said, as far as the contract speaks of it.
#[derive(Clone, Debug)]
pub struct Contract {
    id: NodeId,
    /// Whether each write is durable before the host begins with the next action.
    synchronous_writes: bool,
    issued: WriteSeq,
    /// Writes that were handed out and not yet reported durable.
    pending: VecDeque<Pending>,
    /// Every term in which something became durable: the vote, and the furthest end of the durable log.
    durable: BTreeMap<Term, Held>,
    last_durable: Term,
    durable_end: Index,
    /// The end of the log as the writes handed out describe it.
    written_end: Index,
    applying: Index,
    committed: Index,
    term: Term,
    /// The term in which a step began, but none where a message of a later term was its event.
    begins_in: Option<Term>,
    /// The last term in which it was seen to lead.
    led: Term,
    /// Requests that were made and not yet answered.
    open: BTreeMap<RequestId, Open>,
    halted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    seq: WriteSeq,
    ballot: Ballot,
    end: Index,
    /// Where the same step entered the ballot's term later, of itself: the term before, and the end of the
    /// log then.
    before: Option<(Term, Index)>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Held {
    vote: Option<NodeId>,
    end: Index,
}

/// A request that waits for its outcome, and how often it was made.
#[derive(Clone, Copy, Debug)]
struct Open {
    kind: Kind,
    count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Proposal,
    Read,
    /// Of the leader's office: another membership, another leader.
    Leadership,
}

/// Who broke the contract, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// Who.
    pub party: Party,
    /// The rule that was broken.
    pub rule: &'static str,
    /// What happened.
    pub detail: String,
}

/// The two sides of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// The caller of `step`.
    Host,
    /// `step`.
    Kernel,
}

impl Contract {
    /// The contract of a member that starts from what its disk holds.
    pub fn new(config: &Config, durable: &Durable) -> Self {
        Self::begin(config.id(), config.options().synchronous_writes, durable)
    }

    fn begin(id: NodeId, synchronous_writes: bool, durable: &Durable) -> Self {
        let end = durable.last().index;
        let held = Held { vote: durable.ballot.vote(), end };
        Self {
            id,
            synchronous_writes,
            issued: WriteSeq::ZERO,
            pending: VecDeque::new(),
            durable: BTreeMap::from([(durable.ballot.term(), held)]),
            last_durable: durable.ballot.term(),
            durable_end: end,
            written_end: end,
            applying: durable.applied,
            committed: durable.committed.max(durable.applied),
            term: durable.ballot.term(),
            begins_in: None,
            led: Term::ZERO,
            open: BTreeMap::new(),
            halted: false,
        }
    }

    /// The contract of the member's next life, which starts from what its disk holds now: everything that the
    /// host had reported as durable, and of what it had been handed beyond that the first so many writes. A
    /// disk that loses what it has synced is not the host's fault, and is not forgiven here.
    pub fn restart(&self, config: &Config, durable: &Durable) -> Result<Self, Breach> {
        let reported = self.durable.get(&self.last_durable).and_then(|held| held.vote);
        let reported = (self.last_durable, reported, self.durable_end);
        let handed_out = self.pending.iter().map(|it| (it.ballot.term(), it.ballot.vote(), it.end));
        let found = (durable.ballot.term(), durable.ballot.vote(), durable.last().index);
        let is_kept = [reported].into_iter().chain(handed_out).any(|state| state == found);
        host(is_kept, "what was reported as durable is there after a crash", || {
            let told = |(term, vote, end): (Term, Option<NodeId>, Index)| {
                let vote = vote.map_or("no vote".to_owned(), |id| format!("a vote for {id}"));
                format!("{vote} in term {term} and a log through {end}")
            };
            let pending = self.pending.len();
            format!(
                "member {} finds {}, and had reported {}, with {pending} later writes not reported",
                self.id,
                told(found),
                told(reported)
            )
        })?;
        Ok(Self::new(config, durable))
    }

    /// Watches one step: the event, the actions that came of it, and the status after it.
    pub fn watch(&mut self, event: &Event, actions: &[Action], after: &Status) -> Result<(), Breach> {
        self.watch_event(event)?;
        for action in actions {
            self.watch_action(action)?;
        }
        self.halted |= matches!(event, Event::Shutdown);
        self.watch_status(after)
    }

    /// Watches a step of which only the first actions were carried out before the host crashed.
    pub fn watch_partial(&mut self, event: &Event, actions: &[Action]) -> Result<(), Breach> {
        self.watch_event(event)?;
        actions.iter().try_for_each(|action| self.watch_action(action))
    }

    /// How many requests wait for their answer.
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    fn watch_event(&mut self, event: &Event) -> Result<(), Breach> {
        let leads_on = matches!(event, Event::Receive(message) if message.term > self.term);
        self.begins_in = (!leads_on).then_some(self.term);
        match event {
            Event::Propose(proposal) => self.open(proposal.request, Kind::Proposal),
            Event::ProposeBatch(proposals) => {
                for proposal in proposals {
                    self.open(proposal.request, Kind::Proposal);
                }
            }
            Event::Persisted(seq) => {
                host(*seq <= self.issued, "only writes that were handed out become durable", || {
                    format!("write {} reported, {} handed out", seq.get(), self.issued.get())
                })?;
                while let Some(&pending) = self.pending.front()
                    && pending.seq <= *seq
                {
                    self.pending.pop_front();
                    self.became_durable(pending);
                }
            }
            Event::Applied(index) => {
                host(*index <= self.applying, "only what was handed out is applied", || {
                    format!("entry {index} reported, {} handed out", self.applying)
                })?;
            }
            Event::Read(Read { request, .. }) => self.open(*request, Kind::Read),
            Event::Reconfigure(Reconfigure { request, .. })
            | Event::CancelChange(request)
            | Event::Transfer(Transfer { request, .. }) => {
                self.open(*request, Kind::Leadership);
            }
            Event::Wake
            | Event::Receive(_)
            | Event::SnapshotTaken(_)
            | Event::SnapshotFetched(_)
            | Event::SnapshotFailed(_)
            | Event::EntriesLoaded(_)
            | Event::DiskFull(_)
            | Event::PeerUnreachable(_)
            | Event::Shutdown => {}
        }
        Ok(())
    }

    fn open(&mut self, request: RequestId, kind: Kind) {
        self.open.entry(request).or_insert(Open { kind, count: 0 }).count += 1;
    }

    fn became_durable(&mut self, pending: Pending) {
        if let Some((term, end)) = pending.before {
            let held = self.durable.entry(term).or_default();
            held.end = held.end.max(end);
        }
        let held = self.durable.entry(pending.ballot.term()).or_default();
        held.vote = pending.ballot.vote().or(held.vote);
        held.end = held.end.max(pending.end);
        self.last_durable = pending.ballot.term();
        self.durable_end = pending.end;
        // Promises of terms long gone have left long ago.
        while self.durable.len() > 64 {
            self.durable.pop_first();
        }
    }

    fn watch_action(&mut self, action: &Action) -> Result<(), Breach> {
        let silent = !self.halted || matches!(action, Action::Respond { .. });
        kernel(silent, "a halted member only answers", || format!("{action:?}"))?;
        match action {
            Action::Send(message) => self.watch_promise(message),
            Action::Persist(write) => self.watch_write(write),
            Action::Apply { through } => {
                kernel(*through > self.applying, "each entry is applied once", || {
                    format!("through {through} after {}", self.applying)
                })?;
                kernel(*through <= self.durable_end, "only durable entries are applied", || {
                    format!("through {through}, durable through {}", self.durable_end)
                })?;
                self.applying = *through;
                Ok(())
            }
            Action::Respond { request, .. } => {
                let open = self.open.get_mut(request);
                kernel(open.is_some(), "each request has one outcome", || {
                    format!("{action:?} answers nothing")
                })?;
                if let Some(open) = open {
                    open.count -= 1;
                    if open.count == 0 {
                        self.open.remove(request);
                    }
                }
                Ok(())
            }
            Action::Halt(_) => {
                self.halted = true;
                Ok(())
            }
            Action::Restore(snapshot) => {
                let through = snapshot.last.index;
                kernel(through >= self.applying, "a snapshot takes the state machine forward", || {
                    format!("to {through} after {}", self.applying)
                })?;
                kernel(through <= self.durable_end, "only an installed snapshot is restored", || {
                    format!("through {through}, durable through {}", self.durable_end)
                })?;
                self.applying = through;
                Ok(())
            }
            Action::FetchSnapshot { .. } | Action::LoadEntries { .. } | Action::TakeSnapshot => Ok(()),
        }
    }

    fn watch_write(&mut self, write: &Write) -> Result<(), Breach> {
        kernel(write.seq.get() == self.issued.get() + 1, "writes are numbered without a gap", || {
            format!("{} after {}", write.seq.get(), self.issued.get())
        })?;
        let start = write.truncate_after.unwrap_or(self.written_end);
        kernel(start <= self.written_end, "a write cuts only what was written", || {
            format!("cut after {start}, the log ends at {}", self.written_end)
        })?;
        // Where a snapshot takes the place of everything, the log begins after it.
        let start = start.max(write.rebase.as_ref().map_or(Index::ZERO, |rebase| rebase.base.index));
        let follows = write.append.first().is_none_or(|entry| entry.id.index == start.next());
        kernel(follows, "a write leaves no gap in the log", || {
            format!("{:?} after {start}", write.append.first())
        })?;
        let end = start + write.append.len() as u64;
        kernel(write.committed <= end, "a write commits only what is written", || {
            format!("commit {}, the log ends at {end}", write.committed)
        })?;
        let newest = write.append.last().map(|entry| entry.id.term);
        kernel(newest <= Some(write.ballot.term()), "no entry is durable before its term", || {
            format!("entry of {newest:?} in a write of {:?}", write.ballot)
        })?;
        self.issued = write.seq;
        self.written_end = end;
        let earlier = self.begins_in.filter(|term| *term < write.ballot.term());
        let before = earlier.map(|term| {
            let of_it = write.append.iter().take_while(|entry| entry.id.term <= term).count();
            (term, start + of_it as u64)
        });
        let written = Pending { seq: write.seq, ballot: write.ballot, end, before };
        if self.synchronous_writes {
            self.became_durable(written);
        } else {
            self.pending.push_back(written);
        }
        Ok(())
    }

    /// A promise may leave once what it promises is durable, in the term in which it was made.
    fn watch_promise(&self, message: &Message) -> Result<(), Breach> {
        let vote = |of| {
            let held = self.durable.get(&message.term).and_then(|held| held.vote);
            kernel(held == Some(of), "a vote leaves once it is durable", || {
                format!("{message}, while the disk holds a vote for {held:?} in that term")
            })
        };
        match message.body {
            Body::Voted { granted: true } => vote(message.to.id),
            Body::RequestVote { .. } => vote(self.id),
            Body::Appended { matched } | Body::HeartbeatAck { matched, .. } | Body::Pause { matched, .. } => {
                let end = self.durable_end_in(message.term);
                kernel(matched <= end, "an acknowledgement leaves once its entries are durable", || {
                    format!("{message}, while the disk held the log through {end} in that term")
                })
            }
            _ => Ok(()),
        }
    }

    /// The furthest that the durable log reached in `term`. Nothing can be promised in a term of which
    /// nothing is durable yet: a crash would go back to an earlier one.
    fn durable_end_in(&self, term: Term) -> Index {
        match self.durable.range(..=term).next_back() {
            Some((&last, _)) if last < term && last == self.last_durable => Index::ZERO,
            Some((_, held)) => held.end,
            None => Index::ZERO,
        }
    }

    fn watch_status(&mut self, after: &Status) -> Result<(), Breach> {
        kernel(after.term >= self.term, "terms never fall", || {
            format!("{:?} after {:?}", after.term, self.term)
        })?;
        kernel(after.committed >= self.committed, "the commit index never falls", || {
            format!("{} after {}", after.committed, self.committed)
        })?;
        kernel(self.applying <= after.committed, "only committed entries are applied", || {
            format!("through {}, committed through {}", self.applying, after.committed)
        })?;
        let written = self.halted || after.last.index == self.written_end;
        kernel(written, "every change of the log is handed out to be written in its step", || {
            format!("the log ends at {}, the writes at {}", after.last, self.written_end)
        })?;
        let leads = after.role == RoleKind::Leader;
        if leads && self.led != after.term {
            self.led = after.term;
            let vote = self.durable.get(&after.term).and_then(|held| held.vote);
            kernel(vote == Some(self.id), "a leader's own vote is durable", || {
                format!("it leads term {}, while the disk holds a vote for {vote:?} in that term", after.term)
            })?;
        }
        let may_wait = |open: &Open| match open.kind {
            Kind::Proposal => leads && after.committed < after.last.index,
            Kind::Leadership => leads,
            Kind::Read => after.role != RoleKind::Halted,
        };
        let stuck = self.open.iter().find(|(_, open)| !may_wait(open));
        kernel(stuck.is_none(), "a request waits only as long as it can be decided", || {
            format!("{stuck:?} waits on a {} committed through {}", after.role, after.committed)
        })?;
        self.term = after.term;
        self.committed = after.committed;
        Ok(())
    }
}

fn kernel(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach { party: Party::Kernel, rule, detail: detail() }) }
}

fn host(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach { party: Party::Host, rule, detail: detail() }) }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let party = match self.party {
            Party::Host => "the host",
            Party::Kernel => "the kernel",
        };
        write!(f, "{party} broke the contract ({}): {}", self.rule, self.detail)
    }
}

impl std::error::Error for Breach {}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::action::Outcome;
    use kontiki_core::event::Proposal;
    use kontiki_core::log::{Entries, Entry, EntryBody};
    use kontiki_core::membership::MemberKind;
    use kontiki_core::status::Space;
    use kontiki_core::types::{ClusterId, Identity, LogId, Payload};

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn contract() -> Contract {
        Contract::begin(id(1), false, &Durable::default())
    }

    fn status(term: u64) -> Status {
        Status {
            id: id(1),
            role: RoleKind::Follower,
            term: Term::new(term),
            vote: None,
            leader: None,
            last: LogId::ZERO,
            durable: LogId::ZERO,
            committed: Index::ZERO,
            applied: Index::ZERO,
            kind: MemberKind::Voter,
            snapshot: LogId::ZERO,
            configured: LogId::ZERO,
            space: Space::Free,
        }
    }

    fn write(seq: u64, vote: u64) -> Action {
        Action::Persist(Write {
            starts: 1,
            rebase: None,
            seq: WriteSeq::new(seq),
            ballot: Ballot::new(Term::new(1), NodeId::new(vote)),
            truncate_after: None,
            repaired: Entries::EMPTY,
            append: Entries::EMPTY,
            committed: Index::ZERO,
        })
    }

    fn send(term: u64, body: Body) -> Action {
        Action::Send(Message::new(Identity::new(ClusterId(0), id(1)), id(2).into(), Term::new(term), body))
    }

    fn rule(result: Result<(), Breach>) -> &'static str {
        result.expect_err("a breach").rule
    }

    #[test]
    fn a_vote_before_its_write_is_a_breach_and_after_it_none() {
        let granted = send(1, Body::Voted { granted: true });
        let early = contract().watch(&Event::Wake, &[write(1, 2), granted.clone()], &status(1));
        assert_eq!(rule(early), "a vote leaves once it is durable");

        let mut contract = contract();
        contract.watch(&Event::Wake, &[write(1, 2)], &status(1)).unwrap();
        contract.watch(&Event::Persisted(WriteSeq::new(1)), &[granted], &status(1)).unwrap();
    }

    /// A host that writes synchronously has carried a write out before it comes to the action after it, and
    /// not before it comes to the write itself.
    #[test]
    fn what_is_written_synchronously_is_durable_for_the_actions_after_it() {
        let granted = send(1, Body::Voted { granted: true });
        let watch = |actions: &[Action]| {
            Contract::begin(id(1), true, &Durable::default()).watch(&Event::Wake, actions, &status(1))
        };
        watch(&[write(1, 2), granted.clone()]).unwrap();
        assert_eq!(rule(watch(&[granted, write(1, 2)])), "a vote leaves once it is durable");
    }

    #[test]
    fn a_request_for_votes_promises_too() {
        let request = send(1, Body::RequestVote { last: LogId::ZERO, transfer: false });
        assert_eq!(
            rule(contract().watch(&Event::Wake, &[request], &status(1))),
            "a vote leaves once it is durable"
        );
    }

    #[test]
    fn a_leader_whose_own_vote_is_not_durable_is_a_breach() {
        let mut contract = contract();
        let leads = Status { role: RoleKind::Leader, ..status(1) };
        contract.watch(&Event::Wake, &[write(1, 1)], &status(1)).unwrap();
        let written = Event::Persisted(WriteSeq::new(1));
        contract.clone().watch(&written, &[], &leads).unwrap();
        assert_eq!(rule(contract.watch(&Event::Wake, &[], &leads)), "a leader's own vote is durable");
    }

    #[test]
    fn an_acknowledgement_of_what_is_not_there_is_a_breach() {
        let ack = send(1, Body::Appended { matched: Index::new(1) });
        let breach = contract().watch(&Event::Wake, &[ack], &status(1));
        assert_eq!(rule(breach), "an acknowledgement leaves once its entries are durable");
    }

    /// A member whose clock stood still writes what it was given and stands for election in the same step.
    #[test]
    fn what_a_step_appends_before_it_enters_a_later_term_is_acknowledged_in_the_earlier_one() {
        let entry = |term, index| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        let appended = |event: &Event, matched| {
            let mut contract = contract();
            contract.watch(&Event::Wake, &[write(1, 2)], &status(1)).unwrap();
            let Action::Persist(mut campaigns) = write(2, 1) else { unreachable!("it is a write") };
            campaigns.ballot = Ballot::new(Term::new(2), Some(id(1)));
            campaigns.append = [entry(1, 1), entry(2, 2)].into_iter().collect();
            let after = Status { last: LogId::new(2, 2), ..status(2) };
            contract.watch(event, &[Action::Persist(campaigns)], &after).unwrap();
            let acknowledged = send(1, Body::Appended { matched: Index::new(matched) });
            contract.watch(&Event::Persisted(WriteSeq::new(2)), &[acknowledged], &after)
        };
        assert_eq!(appended(&Event::Wake, 1), Ok(()));
        let early = "an acknowledgement leaves once its entries are durable";
        assert_eq!(rule(appended(&Event::Wake, 2)), early, "of the later term");
        let Action::Send(later) = send(2, Body::Outdated) else { unreachable!("it is a message") };
        assert_eq!(rule(appended(&Event::Receive(later), 1)), early, "another leader may have sent it");
    }

    #[test]
    fn a_second_outcome_is_a_breach() {
        let request = RequestId(4);
        let respond = Action::Respond { request, outcome: Outcome::Unknown };
        let propose = Event::Propose(Proposal { request, payload: Payload::from("x") });
        let mut contract = contract();
        let waits = Status { role: RoleKind::Leader, last: LogId::new(0, 1), ..status(0) };
        contract.written_end = Index::new(1);
        contract.watch(&propose, &[], &waits).unwrap();
        assert_eq!(contract.open_requests(), 1);
        let twice = contract.watch(&Event::Wake, &[respond.clone(), respond], &status(0));
        assert_eq!(rule(twice), "each request has one outcome");
    }

    #[test]
    fn a_request_without_an_outcome_is_a_breach() {
        let propose = Event::Propose(Proposal { request: RequestId(4), payload: Payload::from("x") });
        let forgotten = contract().watch(&propose, &[], &status(0));
        assert_eq!(rule(forgotten), "a request waits only as long as it can be decided");
    }

    #[test]
    fn the_host_is_held_to_its_side() {
        let breach = contract().watch(&Event::Persisted(WriteSeq::new(1)), &[], &status(0)).unwrap_err();
        assert_eq!(breach.party, Party::Host);
        let breach = contract().watch(&Event::Applied(Index::new(1)), &[], &status(0)).unwrap_err();
        assert_eq!(breach.party, Party::Host);
    }

    #[test]
    fn terms_and_writes_only_rise() {
        let mut contract = contract();
        contract.watch(&Event::Wake, &[write(1, 2)], &status(3)).unwrap();
        assert_eq!(rule(contract.watch(&Event::Wake, &[], &status(2))), "terms never fall");
        assert_eq!(
            rule(contract.watch(&Event::Wake, &[write(3, 2)], &status(3))),
            "writes are numbered without a gap"
        );
    }

    #[test]
    fn applying_what_is_not_durable_is_a_breach() {
        let apply = Action::Apply { through: Index::new(1) };
        assert_eq!(
            rule(contract().watch(&Event::Wake, &[apply], &status(0))),
            "only durable entries are applied"
        );
    }
}
