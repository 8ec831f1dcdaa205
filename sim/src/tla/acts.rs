//! Of which acts of the specification a step of a kernel is made.

use super::member::{Restarted, Tracked, write_of};
use super::value::{Memberships, seq};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody, Rebase};
use kontiki_core::message::{Body, Message};
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::types::LogId;

/// The acts of a step, in their order, and whether the step ends with a write. The actions are those that
/// were carried out, and those that were not since the member crashed.
pub(super) fn of(
    member: &mut Tracked,
    event: &Event,
    (actions, left_out): (&[Action], &[Action]),
    after: &Status,
    memberships: &mut Memberships,
) -> (String, bool) {
    let write = write_of(actions).or(write_of(left_out));
    let before = member.before.filter(|_| member.restarted.is_none());
    let mut acts = Acts { list: Vec::new(), before, after, memberships };
    acts.restart(member);
    if after.role == RoleKind::Halted {
        acts.list.push(act("halt"));
        return (seq(acts.list), false);
    }
    let rebase = write.and_then(|write| write.rebase.as_deref());
    // A member that has never heard of its group learns how that began: no entry is in that snapshot.
    let rebase = rebase.filter(|rebase| rebase.snapshot.last != LogId::ZERO);
    acts.event(event, member, rebase);
    acts.election(member);
    let is_adopted = matches!(event, Event::Receive(message) if matches!(message.body, Body::Append { .. }));
    let own = if is_adopted { &[] } else { write.map_or(&[][..], |write| &write.append) };
    acts.leadership(own, event);
    if let Some(rebase) = rebase.filter(|_| !installs(event)) {
        acts.compact(rebase);
    }
    if after.role == RoleKind::Follower {
        acts.list.push(act("rest"));
    }
    (seq(acts.list), write.is_some())
}

/// The acts of a step, as far as they are known.
struct Acts<'a> {
    list: Vec<String>,
    /// The member before the step; none where it has just started.
    before: Option<Status>,
    after: &'a Status,
    memberships: &'a mut Memberships,
}

impl Acts<'_> {
    fn restart(&mut self, member: &Tracked) {
        match member.restarted {
            None => {}
            Some(Restarted::Wiped(disks)) => (0..disks).for_each(|_| self.list.push(act("wipe"))),
            Some(Restarted::With(kept)) => {
                let committed = self.after.committed;
                self.list.push(format!("[k |-> \"restart\", n |-> {kept}, i |-> {committed}]"));
            }
        }
    }

    fn event(&mut self, event: &Event, member: &mut Tracked, rebase: Option<&Rebase>) {
        match event {
            Event::Receive(message) => self.message(message, rebase),
            Event::Persisted(seq) => match member.persisted(*seq) {
                0 => {}
                count => self.list.push(format!("[k |-> \"persisted\", n |-> {count}]")),
            },
            Event::SnapshotFetched(snapshot) => {
                let snapshot = self.memberships.snapshot(snapshot);
                self.list.push(format!("[k |-> \"fetched\", snap |-> {snapshot}]"));
            }
            _ => {}
        }
    }

    /// What a message brings about. One that the member has left aside brings nothing: it was of an earlier
    /// term, or for another life, or asked for a vote while a leader was heard.
    fn message(&mut self, message: &Message, rebase: Option<&Rebase>) {
        if self.after.term < message.term {
            return;
        }
        self.list.push(act("enter"));
        match &message.body {
            Body::RequestVote { .. } if self.after.vote == Some(message.from.id) => {
                self.list.push(act("vote"));
            }
            Body::Voted { granted: true } => self.list.push(act("granted")),
            Body::Append { slice, .. } => {
                // It takes no more than its state machine or its disk can follow.
                let had = self.before.map_or(self.after.last.index, |before| before.last.index);
                let reaches = self.after.last.index >= slice.last().index;
                let taken = slice.last().index <= had || reaches;
                self.list.push(act(if taken { "append" } else { "hear" }));
                self.commit();
            }
            Body::Heartbeat { .. } | Body::Commit { .. } => {
                self.list.push(act("hear"));
                self.commit();
            }
            Body::TimeoutNow { .. } => self.list.push(act("hear")),
            Body::OfferSnapshot { snapshot } | Body::RepairSnapshot { snapshot } => {
                self.list.push(act("offer"));
                // A witness needs no bytes.
                if rebase.is_some_and(|rebase| rebase.snapshot == *snapshot) {
                    let snapshot = self.memberships.snapshot(snapshot);
                    self.list.push(format!("[k |-> \"fetched\", snap |-> {snapshot}]"));
                }
            }
            Body::Appended { .. } | Body::HeartbeatAck { .. } | Body::Pause { .. } => {
                self.list.push(act("match"));
            }
            Body::RepairResponse { .. } => self.list.push(act("mend")),
            _ => {}
        }
    }

    /// A follower commits what its leader says.
    fn commit(&mut self) {
        let before = self.before.map(|before| before.committed);
        if before.is_some_and(|before| before < self.after.committed) && self.after.role != RoleKind::Leader {
            self.list.push(format!("[k |-> \"commit\", i |-> {}]", self.after.committed));
        }
    }

    fn election(&mut self, member: &Tracked) {
        let (before, after) = (self.before, self.after);
        let votes_for_itself = after.vote == Some(member.me.id);
        let stood = match before {
            Some(before) => votes_for_itself && (before.term, before.vote) != (after.term, after.vote),
            None => matches!(after.role, RoleKind::Candidate | RoleKind::Leader),
        };
        if stood {
            self.list.push(act("campaign"));
        }
        if after.role == RoleKind::PreCandidate {
            self.list.push(act("prepare"));
        }
        let led = before.is_some_and(|it| it.role == RoleKind::Leader && it.term == after.term);
        if after.role == RoleKind::Leader && !led {
            self.list.push(act("lead"));
        }
    }

    /// What a leader appends, and what it commits before and after each change of the membership.
    fn leadership(&mut self, own: &[Entry], event: &Event) {
        let is_leader = |status: &Status| status.role == RoleKind::Leader;
        if !is_leader(self.after) && !self.before.as_ref().is_some_and(is_leader) {
            return;
        }
        let term = self.before.map_or(self.after.term, |before| before.term);
        if matches!(event, Event::Receive(message) if message.term > term) {
            return;
        }
        self.reach();
        for entry in own {
            match &entry.body {
                EntryBody::Data(_) => {
                    let entry = self.memberships.entry(entry);
                    self.list.push(format!("[k |-> \"propose\", e |-> {entry}]"));
                }
                EntryBody::Config(membership) => {
                    let name = self.memberships.name(membership);
                    self.list.push(format!("[k |-> \"change\", c |-> {name}]"));
                    self.reach();
                }
                EntryBody::Blank | EntryBody::Withheld | EntryBody::Lost => {}
            }
        }
    }

    fn reach(&mut self) {
        self.list.push(format!("[k |-> \"reach\", i |-> {}]", self.after.committed));
    }

    fn compact(&mut self, rebase: &Rebase) {
        let snapshot = self.memberships.snapshot(&rebase.snapshot);
        let base = super::value::id(rebase.base);
        self.list.push(format!("[k |-> \"compact\", snap |-> {snapshot}, base |-> {base}]"));
    }
}

/// Whether a step may put a snapshot in the place of the log.
fn installs(event: &Event) -> bool {
    match event {
        Event::SnapshotFetched(_) => true,
        Event::Receive(message) => {
            matches!(message.body, Body::OfferSnapshot { .. } | Body::RepairSnapshot { .. })
        }
        _ => false,
    }
}

/// An act without anything beside it.
fn act(kind: &str) -> String {
    format!("[k |-> \"{kind}\"]")
}
