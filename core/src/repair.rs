//! Repairs entries and snapshots that a disk has damaged with copies from other members (Alagappan et al.,
//! "Protocol-Aware Recovery", FAST'18).
//!
//! A member whose disk has lost entries knows their ids. By Log Matching (paper §5.3) two entries with the
//! same id are the same entry, and so are all entries before them. So any member may repair the log, whether
//! it leads or not. The damaged member asks its leader at each contact. Without a leader it asks all members:
//! an election may be impossible without this very member.
//!
//! **Invariant:** answers are bounded. In one heartbeat interval a member gets at most what a leader may have
//! in flight to it, and all non-members together get as much. A member that hears a leader does not answer
//! non-members: the leader knows the membership, and has every entry that a member can miss.
//!
//! A witness gives what it has: the ids of the entries, and the contents of those without a payload.

use crate::action::Action;
use crate::common::{Answered, Common};
use crate::event::EntriesLoaded;
use crate::log::{Entries, EntryBody, LogSlice, Snapshot};
use crate::membership::{MAX_MEMBERS, Membership};
use crate::message::Body;
use crate::status::DropReason;
use crate::types::{LogId, Member};
use alloc::vec::Vec;

/// Asks these for what is missing here, unless they were asked a moment ago.
pub(crate) fn ask(common: &mut Common, whom: impl IntoIterator<Item = Member>, out: &mut Vec<Action>) {
    // Nearly every member misses nothing.
    if let Some((after, through)) = common.log.missing()
        && !waits_for_disk(common)
    {
        let (now, pause) = (common.now, common.config.timing.heartbeat);
        let repairs = common.repairs.get_or_insert_default();
        if repairs.asked.is_none_or(|asked| now - asked >= pause) {
            repairs.asked = Some(now);
            whom.into_iter().for_each(|member| ask_for(common, member, after, through, out));
        }
    }
}

/// Asks all other members, because there is no leader.
pub(crate) fn ask_all(common: &mut Common, out: &mut Vec<Action>) {
    if !common.log.is_whole() {
        let me = common.member();
        let others: Vec<_> =
            common.membership().members().iter().copied().filter(|&member| member != me).collect();
        ask(common, others, out);
    }
}

/// Whether so much has come back that waits to be written that no more should be taken in.
fn waits_for_disk(common: &Common) -> bool {
    common.log.repairing() >= common.config.options.max_in_flight_bytes
}

/// Decides whether a request for repair is answered now. `knows` says whether this member knows the
/// membership for certain.
pub(crate) fn admit(common: &mut Common, from: Member, knows: bool) -> Result<(), DropReason> {
    let is_member = |membership: &Membership| membership.contains(from);
    let known = is_member(common.membership()) || common.log.fallback().is_some_and(is_member);
    if knows && !known {
        return Err(DropReason::Stranger);
    }
    let (now, pause, options) = (common.now, common.config.timing.heartbeat, &common.config.options);
    let bytes = options.max_in_flight_bytes / options.max_append_bytes;
    let most = bytes.clamp(1, options.max_in_flight_messages as u64);
    let answered = &mut common.repairs.get_or_insert_default().answered;
    answered.retain(|answered| now - answered.since < pause);
    let member = known.then_some(from);
    match answered.iter_mut().find(|answered| answered.member == member) {
        Some(answered) if answered.times >= most => return Err(DropReason::TooOften),
        Some(answered) => answered.times += 1,
        None => answered.push(Answered { member, since: now, times: 1 }),
    }
    Ok(())
}

fn ask_for(common: &Common, whom: Member, after: LogId, through: LogId, out: &mut Vec<Action>) {
    let snapshot = common.log.snapshot().map_or(LogId::ZERO, |snapshot| snapshot.last);
    let body = if after == LogId::ZERO && through == snapshot {
        Body::RepairSnapshotRequest { last: snapshot }
    } else {
        Body::RepairRequest { after, through }
    };
    common.send(whom, body, out);
}

/// Whether this member has the bytes of its snapshot, where another needs any: a witness has none, and only
/// another witness needs none.
fn has_bytes_for(common: &Common, whom: Member, snapshot: &Snapshot) -> bool {
    let has = !common.config.options.witness && common.log.held() >= snapshot.last.index;
    has || common.membership().is_witness(whom.id)
}

/// Another member has lost entries.
pub(crate) fn on_repair_request(
    common: &mut Common,
    from: Member,
    after: LogId,
    through: LogId,
    out: &mut Vec<Action>,
) {
    let log = &mut common.log;
    let covered = log.snapshot().filter(|snapshot| snapshot.last.index > after.index).cloned();
    if after.index < log.base() {
        // It is no longer in the log.
        let Some(snapshot) = covered.filter(|snapshot| has_bytes_for(common, from, snapshot)) else {
            return common.drops.add(DropReason::Late);
        };
        return common.send(from, Body::RepairSnapshot { snapshot }, out);
    }
    let through = through.index.min(log.readable_after(after.index));
    if !log.contains(after) || through <= after.index {
        return common.drops.add(DropReason::Late);
    }
    let max_bytes = common.config.options.max_append_bytes;
    if after.index >= log.evicted() {
        let (slice, _) = log.slice(after, through.min(log.last().index), max_bytes);
        return send(common, from, slice, out);
    }
    let through = through.min(log.evicted());
    let repairs = common.repairs.get_or_insert_default();
    let asks_once = repairs.loading.iter().all(|(member, _)| *member != from);
    if asks_once && repairs.loading.len() < MAX_MEMBERS {
        repairs.loading.push((from, after));
        out.push(Action::LoadEntries { to: from.id, after, through, max_bytes });
    }
}

/// What another member misses was read back.
pub(crate) fn on_entries_loaded(common: &mut Common, loaded: &EntriesLoaded, out: &mut Vec<Action>) {
    let Some(repairs) = &mut common.repairs else { return };
    let wanted = |(member, after): &(Member, LogId)| member.id == loaded.to && *after == loaded.after;
    let Some(position) = repairs.loading.iter().position(wanted) else { return };
    let (from, after) = repairs.loading.swap_remove(position);
    let ours = loaded.entries.iter().all(|entry| common.log.contains(entry.id));
    if let Ok(slice) = LogSlice::new(after, loaded.entries.clone())
        && ours
    {
        send(common, from, slice, out);
    }
}

fn send(common: &Common, to: Member, slice: LogSlice, out: &mut Vec<Action>) {
    let witness = common.membership().is_witness(to.id);
    let slice = if witness { slice.withheld() } else { slice };
    if slice.entries() != &Entries::EMPTY {
        common.send(to, Body::RepairResponse { slice }, out);
    }
}

/// Another member misses its snapshot.
pub(crate) fn on_repair_snapshot_request(
    common: &mut Common,
    from: Member,
    last: LogId,
    out: &mut Vec<Action>,
) {
    match common.log.snapshot() {
        Some(snapshot) if snapshot.last.index >= last.index && has_bytes_for(common, from, snapshot) => {
            let snapshot = snapshot.clone();
            common.send(from, Body::RepairSnapshot { snapshot }, out);
        }
        _ if common.log.applied() >= last.index && !common.config.options.witness => {
            out.push(Action::TakeSnapshot);
        }
        _ => common.drops.add(DropReason::Late),
    }
}

/// Some of what is missing here.
pub(crate) fn on_repair_response(common: &mut Common, from: Member, slice: &LogSlice, out: &mut Vec<Action>) {
    let before = common.log.missing();
    if before.is_none() {
        return common.drops.add(DropReason::Late);
    }
    if waits_for_disk(common) {
        return common.drops.add(DropReason::TooManyWaiting);
    }
    // What a witness sends in the place of a payload is no copy of it.
    let witness = common.config.options.witness;
    let copies = slice.entries().iter().filter(|entry| witness || entry.body != EntryBody::Withheld);
    common.log.repair(copies);
    if common.log.missing() != before
        && let Some((after, through)) = common.log.missing()
        && !waits_for_disk(common)
    {
        ask_for(common, from, after, through, out);
    }
}

/// A snapshot that holds what is missing here.
pub(crate) fn on_repair_snapshot(
    common: &mut Common,
    from: Member,
    snapshot: &Snapshot,
    out: &mut Vec<Action>,
) {
    let ours = common.log.snapshot().map_or(LogId::ZERO, |snapshot| snapshot.last);
    let goes_further = snapshot.last > ours || (snapshot.last == ours && common.log.held() < ours.index);
    let helps = common.log.missing().is_some() && snapshot.last.index > common.log.held() && goes_further;
    if !helps || common.fetching.is_some() {
        return common.drops.add(DropReason::Late);
    }
    if common.config.options.witness {
        // It needs no bytes.
        if common.log.contains(snapshot.last) {
            common.log.rest_on(snapshot.clone());
        }
        return;
    }
    common.fetching = Some(snapshot.clone());
    out.push(Action::FetchSnapshot { from: from.id, snapshot: snapshot.clone() });
}
