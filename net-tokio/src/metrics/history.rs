//! The member's history, derived from changes of its status.

use crate::protocol::{NodePhase, NodeStatus};
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::status::{RoleKind, Space};
use kontiki_core::types::{Incarnation, Index, NodeId, Term};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The number of events kept.
pub const MAX_EVENTS: usize = 100;

/// An event of the member, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// The time in milliseconds since 1970 by this machine's clock; the last time if the event was repeated.
    pub at_ms: u64,
    /// The subject: `phase`, `leader`, `term`, `election`, `kind`, `space`, `members` or `snapshot`.
    pub kind: &'static str,
    /// The event as text.
    pub text: String,
    /// The number of repetitions in a row. More than 1 occurs only for elections, which may repeat for long.
    pub times: u64,
}

/// Counters of events.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) elections: u64,
    pub(super) won: u64,
    pub(super) terms: u64,
    pub(super) leaders: u64,
    pub(super) committed: u64,
    pub(super) applied: u64,
}

/// The last status, and what was derived from all earlier ones.
#[derive(Default)]
pub(super) struct History {
    last: Option<NodeStatus>,
    /// The members of the last membership, each with its incarnation and kind.
    members: Option<BTreeMap<NodeId, (Incarnation, MemberKind)>>,
    counts: Counts,
    events: VecDeque<Event>,
    /// The last term in which this member was a candidate.
    stood: Term,
    /// The last known leader.
    led: Option<(Term, NodeId)>,
    timed: Option<Timed>,
}

/// An entry whose commit is being timed, and when it was appended.
struct Timed {
    term: Term,
    index: Index,
    since: Instant,
}

impl History {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Takes note of a status. Returns the commit latency of the timed entry, if it is committed now.
    pub(super) fn note(&mut self, at_ms: u64, now: Instant, status: &NodeStatus) -> Option<Duration> {
        let is_first = self.last.is_none();
        let before = self.last.take().unwrap_or_else(|| NodeStatus { leader: None, ..status.clone() });
        if is_first || before.phase != status.phase {
            self.push(at_ms, "phase", phase_text(&status.phase));
        }
        self.note_election(at_ms, &before, status);
        if before.kind != status.kind {
            self.push(at_ms, "kind", kind_text(status.kind).to_owned());
        }
        if before.space != status.space {
            self.push(at_ms, "space", space_text(status.space).to_owned());
        }
        if before.snapshot != status.snapshot {
            let text = format!("the latest snapshot covers the log through entry {}", status.snapshot.index);
            self.push(at_ms, "snapshot", text);
        }
        // A restarted member knows a lower commit index than before.
        self.counts.committed += status.committed.get().saturating_sub(before.committed.get());
        self.counts.applied += status.applied.get().saturating_sub(before.applied.get());
        let took = self.time(now, &before, status);
        self.last = Some(status.clone());
        took
    }

    /// Takes note of a membership, and of the changes of other members since the last one.
    pub(super) fn note_members(&mut self, at_ms: u64, me: NodeId, membership: &Membership) {
        let now: BTreeMap<_, _> = membership
            .members()
            .iter()
            .map(|member| (member.id, (member.incarnation, membership.kind(*member))))
            .collect();
        let Some(before) = self.members.replace(now.clone()) else {
            let ids: Vec<_> = now.keys().map(NodeId::to_string).collect();
            if !ids.is_empty() {
                self.push(at_ms, "members", format!("the members of the group: {}", ids.join(", ")));
            }
            return;
        };
        for (id, (incarnation, kind)) in now.iter().filter(|(id, _)| **id != me) {
            let what = match before.get(id) {
                None => format!("was added as a {}", kind.code()),
                Some((other, _)) if other != incarnation => {
                    "was added again, with an empty directory".to_owned()
                }
                Some((_, other)) if other != kind => format!("is a {} now", kind.code()),
                Some(_) => continue,
            };
            self.push(at_ms, "members", format!("member {id} {what}"));
        }
        for id in before.keys().filter(|id| **id != me && !now.contains_key(id)) {
            self.push(at_ms, "members", format!("member {id} was removed"));
        }
    }

    fn note_election(&mut self, at_ms: u64, before: &NodeStatus, status: &NodeStatus) {
        let (term, me) = (status.term, status.member.id);
        let has_stood = matches!(status.role, RoleKind::Candidate | RoleKind::Leader) && term > self.stood;
        if has_stood {
            (self.stood, self.counts.elections) = (term, self.counts.elections + 1);
        }
        self.counts.terms += u64::from(term > before.term);
        match status.leader {
            Some(leader) if self.led != Some((term, leader)) => {
                self.led = Some((term, leader));
                self.counts.leaders += 1;
                self.counts.won += u64::from(leader == me);
                self.push(at_ms, "leader", format!("{} was elected leader (term {term})", who(leader, me)));
            }
            Some(leader) if before.leader.is_none() => {
                self.push(at_ms, "leader", format!("{} leads again", who(leader, me)));
            }
            Some(_) => {}
            None if status.role == RoleKind::Candidate && has_stood => {
                self.push(at_ms, "election", format!("this member is a candidate (term {term})"));
            }
            None if term > before.term => {
                self.push(at_ms, "term", format!("an election began (term {term})"));
            }
            None if before.leader == Some(me) => {
                self.push(at_ms, "leader", "this member stopped leading".to_owned());
            }
            None if before.leader.is_some() => {
                self.push(at_ms, "leader", "the leader was lost".to_owned());
            }
            None => {}
        }
    }

    /// Times one entry of this leader at a time, from append to commit.
    fn time(&mut self, now: Instant, before: &NodeStatus, status: &NodeStatus) -> Option<Duration> {
        let leads = status.role == RoleKind::Leader;
        let timed = self.timed.take().filter(|timed| leads && timed.term == status.term);
        match timed {
            Some(timed) if timed.index <= status.committed => {
                Some(now.saturating_duration_since(timed.since))
            }
            Some(timed) => {
                self.timed = Some(timed);
                None
            }
            None => {
                let is_new = status.last != before.last && status.last.index > status.committed;
                self.timed = (leads && is_new && status.last.term == status.term).then_some(Timed {
                    term: status.term,
                    index: status.last.index,
                    since: now,
                });
                None
            }
        }
    }

    fn push(&mut self, at_ms: u64, kind: &'static str, text: String) {
        let mut times = 1;
        // A partitioned member may campaign for hours: repetitions must not displace all other events.
        if kind == "election" && self.events.back().is_some_and(|last| last.kind == kind) {
            times += self.events.pop_back().map_or(0, |last| last.times);
        }
        self.events.push_back(Event { at_ms, kind, text, times });
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }
}

fn who(id: NodeId, me: NodeId) -> String {
    if id == me { "this member".to_owned() } else { format!("member {id}") }
}

fn space_text(space: Space) -> &'static str {
    match space {
        Space::Free => "there is space for more entries again",
        Space::Full => "the disk is full: this member takes no entries",
        Space::GroupFull => "no majority of the voters has space: nothing can be committed",
    }
}

fn kind_text(kind: MemberKind) -> &'static str {
    match kind {
        MemberKind::Voter => "this member votes in its group",
        MemberKind::Witness => "this member is a witness of its group: it votes and stores no commands",
        MemberKind::Learner => "this member is a learner of its group: it does not vote",
        MemberKind::NonMember => "this member is not in its group",
    }
}

fn phase_text(phase: &NodePhase) -> String {
    match phase {
        NodePhase::Starting(why) => format!("this member waits to enter a group: {why}"),
        NodePhase::Running => "this member is running".to_owned(),
        NodePhase::Refusing(why) => format!("this member refuses all requests: {why}"),
        NodePhase::Halted(why) => format!("this member halted: {why}"),
        NodePhase::Stopped => "this member was shut down".to_owned(),
    }
}
