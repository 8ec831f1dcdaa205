//! What must hold of a whole cluster after every step.

use super::{Disks, Member};
use kontiki_core::log::{Entry, EntryBody, Log};
use kontiki_core::membership::Membership;
use kontiki_core::quorum::Tally;
use kontiki_core::raft::Raft;
use kontiki_core::status::{Drops, RoleKind, Status};
use kontiki_core::types::{Index, LogId, NodeId, Term};
use std::collections::BTreeMap;

/// A member as it was before a step.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) status: Status,
    pub(super) drops: Drops,
    membership: Membership,
    /// The log of a leader, which may only grow.
    leads_with: Option<Ids>,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        let status = raft.status();
        Self {
            status,
            drops: *raft.drops(),
            membership: raft.membership().clone(),
            leads_with: (status.role == RoleKind::Leader).then(|| Ids::of(raft.log())),
        }
    }
}

/// Which entries a log has after its base; what is in them may no longer be in memory.
#[derive(Debug)]
struct Ids {
    base: Index,
    ids: Vec<LogId>,
}

impl Ids {
    fn of(log: &Log) -> Self {
        let base = log.base();
        let id = |index| {
            let index = Index::new(index);
            LogId { term: log.term(index).expect("an entry between base and end"), index }
        };
        Self { base, ids: (base.get() + 1..=log.last().index.get()).map(id).collect() }
    }

    /// Those after `base`, which is not before this log's own.
    fn after(&self, base: Index) -> &[LogId] {
        self.ids.get((base - self.base) as usize..).unwrap_or_default()
    }
}

/// The properties of the paper's figure 3, over the whole cluster and its whole history, and what follows
/// from them for memberships and snapshots.
#[derive(Debug)]
pub(super) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that any member has committed, from index 1.
    committed: Vec<Entry>,
    founders: Membership,
}

impl Safety {
    pub(super) fn new(founders: Membership) -> Self {
        Self { leaders: BTreeMap::new(), committed: Vec::new(), founders }
    }

    /// The greatest index that any member has committed.
    pub(super) fn committed(&self) -> Index {
        Index::new(self.committed.len() as u64)
    }

    /// Looks at the member that has just taken a step.
    pub(super) fn check(
        &mut self,
        members: &BTreeMap<u64, Member>,
        disks: &Disks<'_>,
        stepped: u64,
        before: &Before,
    ) {
        let raft = members[&stepped].raft.as_ref().expect("it has just taken a step");
        let status = raft.status();
        if status.role == RoleKind::Halted {
            return;
        }
        let ids = Ids::of(raft.log());
        if status.role == RoleKind::Leader {
            self.election_safety(status);
            if let Some(earlier) = &before.leads_with
                && before.status.term == status.term
            {
                assert!(
                    ids.ids.starts_with(earlier.after(ids.base)),
                    "Leader Append-Only: member {stepped} changed its log"
                );
            }
            one_change_at_a_time(raft);
            if before.status.role == RoleKind::Leader && before.status.committed < status.committed {
                durable_on_a_quorum(raft, before, disks);
            }
        }
        self.state_machine_safety(raft, &ids);
        self.configuration_safety(raft);
        self.leader_completeness(members);
        for other in members.values().filter_map(|member| member.raft.as_ref()) {
            log_matching(raft.log(), &ids, other.log());
        }
    }

    fn election_safety(&mut self, status: Status) {
        let leader = *self.leaders.entry(status.term).or_insert(status.id);
        assert_eq!(leader, status.id, "Election Safety: two leaders in term {}", status.term);
    }

    /// What one member commits, all commit. Only what is committed is applied, so this covers that too.
    fn state_machine_safety(&mut self, raft: &Raft, ids: &Ids) {
        let status = raft.status();
        assert!(
            ids.base <= self.committed(),
            "a log begins after {}, which no member has committed",
            ids.base
        );
        let committed = (status.committed - ids.base) as usize;
        for &id in &ids.ids[..committed] {
            let entry = raft.log().get(id.index);
            match self.committed.get_mut(id.index.get() as usize - 1) {
                Some(known) => {
                    assert_eq!(
                        known.id, id,
                        "State Machine Safety: member {} commits another entry",
                        status.id
                    );
                    let Some(entry) = entry else { continue };
                    assert!(same(known, entry), "State Machine Safety: {known:?} here, {entry:?} there");
                    if matches!(known.body, EntryBody::Withheld | EntryBody::Lost) {
                        *known = entry.clone();
                    }
                }
                None => {
                    let entry = entry.expect("what has just been committed is in memory");
                    self.committed.push(entry.clone());
                }
            }
        }
        let base = LogId { term: raft.log().term(ids.base).unwrap_or_default(), index: ids.base };
        assert_eq!(
            base,
            self.id_at(ids.base),
            "State Machine Safety: member {}'s log rests on it",
            status.id
        );
    }

    fn id_at(&self, index: Index) -> LogId {
        let position = index.get().checked_sub(1);
        position.map_or(LogId::ZERO, |position| self.committed[position as usize].id)
    }

    /// The membership as of a committed entry, and the entry that holds it.
    fn membership_as_of(&self, index: Index) -> (LogId, &Membership) {
        let until = &self.committed[..index.get() as usize];
        let last = until.iter().rev().find_map(|entry| match &entry.body {
            EntryBody::Config(membership) => Some((entry.id, &**membership)),
            _ => None,
        });
        last.unwrap_or((LogId::ZERO, &self.founders))
    }

    /// The membership in force is the latest of the log, and that of a snapshot the one as of its last entry
    /// (PITFALLS S4).
    fn configuration_safety(&self, raft: &Raft) {
        let (log, id) = (raft.log(), raft.status().id);
        let Some(snapshot) = log.snapshot() else { return };
        assert_eq!(
            snapshot.last,
            self.id_at(snapshot.last.index),
            "member {id} rests on what is not committed"
        );
        assert_eq!(
            (snapshot.configured, &*snapshot.membership),
            self.membership_as_of(snapshot.last.index),
            "the membership of member {id}'s {snapshot}"
        );
        let after = log.evicted().max(snapshot.last.index);
        let latest = log.entries(after, log.last().index).rev_config();
        let expected = match latest {
            Some(found) => found,
            None => self.membership_as_of(after.min(self.committed())),
        };
        assert_eq!((log.configured(), log.membership()), expected, "the membership of member {id}");
    }

    /// A leader has every entry that was committed in its own term or an earlier one. One of an earlier term
    /// may not know yet that it is deposed, and is not asked.
    fn leader_completeness(&self, members: &BTreeMap<u64, Member>) {
        let raft = members.values().filter_map(|member| member.raft.as_ref());
        let newest =
            raft.filter(|raft| raft.status().role == RoleKind::Leader).max_by_key(|raft| raft.status().term);
        if let Some(raft) = newest
            && self.committed.last().is_some_and(|last| last.id.term <= raft.status().term)
        {
            let has = |entry: &Entry| entry.id.index <= raft.log().base() || raft.log().contains(entry.id);
            let lacks = self.committed.iter().find(|entry| !has(entry));
            assert_eq!(
                lacks,
                None,
                "Leader Completeness: leader {} lacks a committed entry",
                raft.status().id
            );
        }
    }
}

/// What finds the last membership among entries.
trait Configs<'a> {
    fn rev_config(self) -> Option<(LogId, &'a Membership)>;
}

impl<'a, I: Iterator<Item = &'a Entry>> Configs<'a> for I {
    fn rev_config(self) -> Option<(LogId, &'a Membership)> {
        let config = |entry: &'a Entry| match &entry.body {
            EntryBody::Config(membership) => Some((entry.id, &**membership)),
            _ => None,
        };
        self.filter_map(config).last()
    }
}

/// A witness has the entry and not what is in it, and so has a member whose disk has damaged it.
fn same(one: &Entry, other: &Entry) -> bool {
    let withheld = |entry: &Entry| matches!(entry.body, EntryBody::Withheld | EntryBody::Lost);
    one.id == other.id && (one.body == other.body || withheld(one) || withheld(other))
}

/// PITFALLS M2: a leader has at most one change of the membership that is not committed.
fn one_change_at_a_time(raft: &Raft) {
    let (log, status) = (raft.log(), raft.status());
    let open = log.entries(status.committed, status.last.index);
    let changes = open.filter(|entry| matches!(entry.body, EntryBody::Config(_))).count();
    assert!(changes <= 1, "One Change at a Time: {changes} wait at leader {}", status.id);
}

/// What a leader commits is on the disks of a quorum: of the membership that was in force before the step or
/// after it. The disk of a former life counts: it did hold the entry, and that the new one does not is for
/// the votes to respect.
fn durable_on_a_quorum(raft: &Raft, before: &Before, disks: &Disks<'_>) {
    let status = raft.status();
    let id = LogId { term: raft.log().term(status.committed).unwrap_or_default(), index: status.committed };
    let quorum = |membership: &Membership| {
        let answer = |voter| {
            let incarnation = membership.incarnation(voter)?;
            disks.hold(voter, incarnation, id).then_some(true)
        };
        membership.tally(answer) == Tally::Won
    };
    assert!(
        quorum(&before.membership) || quorum(raft.membership()),
        "Durable Commit: leader {} commits {id}, which is on the disks of no quorum",
        status.id
    );
}

/// Two logs that have the same entry somewhere are the same through there.
fn log_matching(one: &Log, ids: &Ids, other: &Log) {
    let base = ids.base.max(other.base());
    if base > one.last().index {
        return;
    }
    let mine = ids.after(base);
    let shared = mine.iter().rposition(|id| other.contains(*id)).map_or(0, |position| position + 1);
    for id in &mine[..shared] {
        assert!(other.contains(*id), "Log Matching: {id} differs before what is the same");
        if let (Some(here), Some(there)) = (one.get(id.index), other.get(id.index)) {
            assert!(same(here, there), "Log Matching: {here:?} and {there:?}");
        }
    }
}
