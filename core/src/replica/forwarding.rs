//! Commands that are sent on to the leader: once each, and by one hop.
//!
//! A command is sent on once and never again: what comes of it if the answer stays away is unknown, and only
//! a session makes it harmless to try again (the client does, under the same number). A long one takes its
//! time: as long as its addressee leads, it is waited for one more second for each 64 KiB. The network may
//! still copy the frame. The leader takes each [`ForwardId`] once while it lives; and it takes only what is
//! addressed to the term in which it leads, which a member that was restarted never leads again.

use crate::action;
use crate::membership::MAX_MEMBERS;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::common::ReplicaCommon;
use crate::replica::frame::{ForwardId, ReplicaBody, Reply};
use crate::replica::io::{Lane, Output};
use crate::replica::origin::Origin;
use crate::replica::repeats::LONG;
use crate::status::{RoleKind, Status};
use crate::time::{Instant, Nanos};
use crate::types::{Member, NodeId, Payload, Term};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Forwards {
    /// Which life of this member it is; no other has this number.
    life: u64,
    /// The term in which this life began: of what happened in it before, nothing is known.
    born: Term,
    last: u64,
    sent: BTreeMap<u64, Sent>,
    /// When to look at which of them.
    due: BTreeSet<(Instant, u64)>,
    taken: BTreeMap<NodeId, Taken>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    origin: Origin,
    to: Member,
    /// In which it leads.
    term: Term,
    due: Instant,
    /// Until when it may be waited for.
    until: Instant,
}

/// Which commands of one member were taken, so that none is taken twice.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Taken {
    member: Member,
    life: u64,
    /// Everything through here counts as taken.
    floor: u64,
    numbers: BTreeSet<u64>,
}

/// How many numbers of one member are remembered one by one.
const REMEMBERED: usize = 4096;

impl Forwards {
    pub(super) fn new(life: u64, born: Term) -> Self {
        Self { life, born, last: 0, sent: BTreeMap::new(), due: BTreeSet::new(), taken: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(due, _)| *due)
    }

    fn remove(&mut self, number: u64) -> Option<Sent> {
        let sent = self.sent.remove(&number)?;
        self.due.remove(&(sent.due, number));
        Some(sent)
    }

    /// Takes the origins of all forwarded commands: no answer to them will come any more.
    pub(super) fn take_all(&mut self) -> Vec<Origin> {
        self.due.clear();
        core::mem::take(&mut self.sent).into_values().map(|sent| sent.origin).collect()
    }

    /// Whether this is the first copy of a command.
    fn is_first(&mut self, from: Member, id: ForwardId) -> bool {
        let blank = Taken { member: from, life: id.life, floor: 0, numbers: BTreeSet::new() };
        let taken = self.taken.entry(from.id).or_insert_with(|| blank.clone());
        if taken.member != from || taken.life < id.life {
            *taken = blank;
        }
        if taken.life != id.life || id.number <= taken.floor || !taken.numbers.insert(id.number) {
            return false;
        }
        if taken.numbers.len() > REMEMBERED {
            taken.floor = taken.numbers.pop_first().unwrap_or(taken.floor);
        }
        true
    }

    pub(super) fn forward(
        &mut self,
        common: &mut ReplicaCommon,
        origin: Origin,
        (leader, term): (Member, Term),
        command: Payload,
        out: &mut Vec<Output>,
    ) {
        let max = common.raft.config().options().max_payload_bytes;
        if command.len() as u64 > max {
            let refusal = ReplicaRefusal::Raft(action::Refusal::TooLarge { max });
            return common.tell(origin, Answer::Refused(refusal), out);
        }
        self.last += 1;
        let number = self.last;
        let due = common.now + Nanos::from(common.options.forward_timeout);
        let until = due + SLOWEST.times((command.len() / LONG) as u64);
        self.sent.insert(number, Sent { origin, to: leader, term, due, until });
        self.due.insert((due, number));
        common.counters.forwarded += 1;
        let id = ForwardId { life: self.life, number };
        common.send(leader, Lane::Log, ReplicaBody::Forward { term, id, command }, out);
    }

    /// A member sends a client's command on to this one, which it takes for the leader of `term`. Returns the
    /// command where it is to be proposed.
    pub(super) fn on_forward(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        (term, id, command): (Term, ForwardId, Payload),
        is_busy: bool,
        out: &mut Vec<Output>,
    ) -> Option<(Origin, Payload)> {
        let membership = common.raft.membership();
        if self.taken.len() > MAX_MEMBERS {
            // A member that has left may forward nothing any more.
            self.taken.retain(|id, _| membership.incarnation(*id).is_some());
        }
        if !membership.contains(from) || !self.is_first(from, id) {
            common.counters.unexpected_messages += 1;
            return None;
        }
        let status = common.raft.status();
        let origin = Origin::Peer(from, id);
        if term <= self.born {
            // An earlier life of this member may have taken it.
            common.tell(origin, Answer::Unknown, out);
            return None;
        }
        let refusal = if status.role != RoleKind::Leader || status.term != term {
            action::Refusal::NotLeader { leader: status.leader }
        } else if is_busy {
            action::Refusal::Busy
        } else {
            let origin = common.repeats.bring(origin, &command)?;
            return Some((origin, command));
        };
        common.tell(origin, Answer::Refused(ReplicaRefusal::Raft(refusal)), out);
        None
    }

    pub(super) fn on_forwarded(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        id: ForwardId,
        reply: Reply,
        out: &mut Vec<Output>,
    ) {
        let is_asked = |sent: &Sent| sent.to == from && self.life == id.life;
        if !self.sent.get(&id.number).is_some_and(is_asked) {
            common.counters.unexpected_messages += 1;
            return;
        }
        let answer = match reply {
            Reply::Applied { id, answer } => Answer::Applied { id, answer },
            Reply::Unanswered(id) => Answer::Unanswered(id),
            Reply::Refused(refusal) => Answer::Refused(ReplicaRefusal::Raft(refusal)),
            Reply::Unknown => Answer::Unknown,
        };
        if let Some(sent) = self.remove(id.number) {
            common.tell(sent.origin, answer, out);
        }
    }

    /// The answers to some have stayed away for too long.
    pub(super) fn give_up(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        while let Some(&(due, number)) = self.due.first()
            && due <= common.now
        {
            let Some(mut sent) = self.remove(number) else { return };
            let Status { leader, term, .. } = common.raft.status();
            let may_be_under_way = leader == Some(sent.to.id) && term == sent.term;
            if may_be_under_way && sent.until > common.now {
                sent.due = sent.until.min(common.now + Nanos::from(common.options.forward_timeout));
                self.due.insert((sent.due, number));
                self.sent.insert(number, sent);
            } else {
                common.tell(sent.origin, Answer::Unknown, out);
            }
        }
    }
}

/// Whom to send commands on to, and the term in which that member leads: none where this member may not, need
/// not or cannot.
pub(super) fn forwards_to(common: &ReplicaCommon) -> Option<(Member, Term)> {
    let status = common.raft.status();
    let leader = status.leader.filter(|leader| common.options.forward && *leader != status.id)?;
    let member = Member::new(leader, common.raft.membership().incarnation(leader)?);
    (common.peers.version(member) >= FORWARDING).then_some((member, status.term))
}

/// How long a piece of [`LONG`] bytes takes by the slowest way that is waited for.
const SLOWEST: Nanos = Nanos::new(1_000_000_000);

/// The first version of the wire format that can send commands on.
const FORWARDING: u8 = 2;
