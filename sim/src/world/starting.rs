//! How full replicas start: from what their disks hold, which may be too little.

use super::{Happening, World};
use crate::application::Application;
use crate::check::Check as _;
use crate::check::Checked;
use crate::check::bounded_work::{self, BoundedWork};
use crate::check::{Violated, durable_log};
use crate::happened::Happened;
use crate::host::full_replica::{Damage, FullReplica, Outage, Running};
use crate::host::{Host, MemberBody, Up};
use crate::ledger::Link;
use crate::quiet::{quietly, text_of};
use crate::report::{FaultKind, Mark};
use crate::storage::SimDisk;
use kontiki_core::durable::Durable;
use kontiki_core::replica::{Input, Replica};
use kontiki_core::types::Identity;
use kontiki_core::wal::{self, Found, Missing, RecoverError, Recovery, Wal};
use std::panic::AssertUnwindSafe;

/// Each header of the log names so many of its last terms.
const NAMED_TERMS: usize = 8;

/// What becomes of the repairs that a recovery begins with.
enum Repaired {
    /// They were made.
    Yes,
    /// Power failed meanwhile, or it was killed: it starts over.
    CutShort,
    /// The disk refused one.
    Refused,
}

impl<A: Application> World<'_, A> {
    /// Starts a full replica from what its disk holds.
    pub(super) fn start_replica(&mut self, member: usize) -> Checked {
        let mut recovery = match self.recover(member)? {
            Ok(recovery) => recovery,
            Err(error) => return self.gave_up(member, &error),
        };
        // A witness has no snapshot's bytes to lose.
        recovery.durable.snapshot_lost &= !self.hosts[member].spec.witness;
        match self.repair(member, &recovery) {
            Repaired::Yes => {}
            Repaired::CutShort => {
                self.counters.mark(Mark::CrashInRecovery);
                return self.start_replica(member);
            }
            Repaired::Refused => return self.cannot_start(member),
        }
        self.note_found(member, &recovery.found);
        if recovery.durable.snapshot_lost {
            self.counters.mark(Mark::SnapshotLost);
        }
        let found = recovery.durable.clone();
        self.open_replica(member, recovery)?;
        let host = &self.hosts[member];
        if host.life > 1 {
            let (member, incarnation) = (host.id, host.incarnation);
            self.counters.fault(FaultKind::Restart);
            self.trace_world(|| Happened::Restart { member, incarnation });
        }
        self.check_start(member, Some(&found))?;
        self.renew_custom_faults(member)?;
        self.lose_power_later(member);
        self.handle(member, Input::Wake)?;
        self.release_to_restarted(member);
        self.may_be_sent_on_to(member);
        Ok(())
    }

    /// Reads what a member's disk holds.
    fn recover(&mut self, member: usize) -> Result<Result<Recovery, RecoverError>, Violated> {
        let host = &mut self.hosts[member];
        let (id, identity) = (host.id, Identity::new(host.cluster, host.member()));
        let MemberBody::FullReplica(full) = &mut host.body else { unreachable!("it is a full replica") };
        let FullReplica { storage, spec, begin, .. } = &mut **full;
        storage.count_reads();
        let recovered = quietly_recover(storage, identity, spec.wal(), begin)
            .map_err(|panic| ("Recovery", format!("member {id} panicked: {panic}")))?;
        bounded_work::recovery_read(storage.take_reads())
            .map_err(|detail| (BoundedWork::NAME, format!("member {id}: {detail}")))?;
        Ok(recovered)
    }

    /// Makes the repairs that a recovery begins with, unless it is cut short.
    fn repair(&mut self, member: usize, recovery: &Recovery) -> Repaired {
        let all = recovery.first.len();
        let cut_short = self.cuts_recovery_short(member, all);
        let Host { body, stream, .. } = &mut self.hosts[member];
        let MemberBody::FullReplica(full) = body else { unreachable!("it is a full replica") };
        let carried_out = cut_short.map_or(all, |(_, carried_out)| carried_out);
        for operation in &recovery.first[..carried_out] {
            if operation.perform(&mut full.storage).is_err() {
                return Repaired::Refused;
            }
        }
        full.killed_in_recovery = matches!(cut_short, Some((Outage::Kill, _)));
        match cut_short {
            Some((Outage::Power, _)) => {
                full.storage.crash(stream);
                Repaired::CutShort
            }
            Some((Outage::Kill, _)) => Repaired::CutShort,
            None => {
                full.disarm();
                Repaired::Yes
            }
        }
    }

    /// How a recovery is cut short, and after how many of its operations. Where it is killed, often only what
    /// it does last is missing, which is to make the rest last: then power often fails in the next one.
    fn cuts_recovery_short(&mut self, member: usize, all: usize) -> Option<(Outage, usize)> {
        let Host { body, stream, life, .. } = &mut self.hosts[member];
        let MemberBody::FullReplica(full) = body else { return None };
        if self.stage.is_some() || *life == 0 {
            return None;
        }
        let was_killed = full.killed_in_recovery;
        if stream.below(8) > 0 && !(was_killed && stream.coin()) {
            return None;
        }
        let anywhere = stream.below(all as u64 + 1) as usize;
        if was_killed || stream.coin() {
            return Some((Outage::Power, anywhere));
        }
        Some((Outage::Kill, if stream.coin() { all.saturating_sub(1) } else { anywhere }))
    }

    /// Opens the replica on what was found, which must be what the disk was given to hold.
    fn open_replica(&mut self, member: usize, recovery: Recovery) -> Checked {
        let host = &mut self.hosts[member];
        let (id, local) = (host.id, host.clock.local(self.now));
        let wrong = |error: String| ("Restart", format!("member {id} cannot start: {error}"));
        let config = host.config().map_err(wrong)?;
        let state = self.clients.application.machine();
        let MemberBody::FullReplica(full) = &mut host.body else { return Ok(()) };
        full.model
            .reconcile(&recovery.durable, full.damaged.is_some())
            .map_err(|unreconciled| durable_log::violated(id, unreconciled))?;
        let options = full.spec.options(&self.scenario, id);
        let replica =
            Replica::open(config, options, recovery, local).map_err(|error| wrong(error.to_string()))?;
        host.up = Some(Up::new(&full.model, replica.raft()));
        full.running = Some(Box::new(Running::new(replica, state, full.spec.session_limits())));
        full.written.starts();
        host.life += 1;
        Ok(())
    }

    /// So much of a member's disk is damaged that it does not start. It has lost its memory, then.
    fn gave_up(&mut self, member: usize, error: &RecoverError) -> Checked {
        let Host { body: MemberBody::FullReplica(full), id, .. } = &self.hosts[member] else { return Ok(()) };
        let id = *id;
        let excuse = match full.damaged {
            None => Err("nothing has damaged its disk"),
            Some(Damage { times: 1, .. })
                if !full.written.nothing_says_what() && !names_too_few_terms(error, &full.model.chain) =>
            {
                Err("its disk was damaged in one place, of which something else tells")
            }
            Some(_) => Ok(()),
        };
        excuse.map_err(|why| ("Restart", format!("member {id} cannot start, and {why}: {error}")))?;
        self.trace_about(id, || format!("member {id} gives up: {error}"));
        self.counters.mark(Mark::GaveUp);
        let host = &mut self.hosts[member];
        host.wipe();
        self.cure(member);
        self.start_replica(member)
    }

    /// Its disk fails, or is full. It is started again in a while.
    fn cannot_start(&mut self, member: usize) -> Checked {
        let Host { body: MemberBody::FullReplica(full), stream, id, .. } = &mut self.hosts[member] else {
            return Ok(());
        };
        full.storage.crash(stream);
        if !full.spoiled {
            return Err(Violated::new("Restart", format!("the disk of member {id} fails for no reason")));
        }
        self.counters.mark(Mark::DiskHalt);
        let host = &mut self.hosts[member];
        host.down += 1;
        let retry = host.stream.between(1_000, 100_000) * 1_000;
        self.schedule(self.now + retry, Happening::LetUp { member });
        Ok(())
    }

    fn note_found(&mut self, member: usize, found: &Found) {
        let host = &self.hosts[member];
        let id = host.id;
        self.trace_about(id, || format!("member {id} recovers its log{}", damage(found)));
        let counters = &mut self.counters;
        let mut mark = |seen: bool, what| {
            if seen {
                counters.mark(what);
            }
        };
        mark(found.torn > 0, Mark::TornTail);
        mark(!found.lost.is_empty(), Mark::EntriesLost);
        mark(found.rewritten > 0, Mark::Rewritten);
        mark(found.bad_votes > 0, Mark::VoteDamaged);
    }
}

/// Whether so many terms begin in what is lost of this log, and behind it, that no header names them all.
fn names_too_few_terms(error: &RecoverError, log: &[Link]) -> bool {
    let RecoverError::TooMuch(Missing::Ids { after, .. }) = error else { return false };
    let behind =
        usize::try_from(after.index.get()).ok().and_then(|after| log.get(after..)).unwrap_or_default();
    behind.chunk_by(|one, next| one.term == next.term).count() > NAMED_TERMS
}

fn quietly_recover(
    disk: &mut SimDisk,
    identity: Identity,
    options: wal::WalOptions,
    begin: &Durable,
) -> Result<Result<Recovery, RecoverError>, String> {
    let mut recovered = None;
    let ran = quietly(AssertUnwindSafe(|| {
        recovered = Some(Wal::recover(disk, identity, options, begin));
    }));
    ran.map_err(|panic| text_of(&*panic))?;
    Ok(recovered.expect("it ran to its end"))
}

/// What a recovery has found to be wrong, in words; nothing where all was well.
fn damage(found: &Found) -> String {
    let counts = [
        (found.rotten_batches, "rotten batches"),
        (found.rotten_sectors, "rotten sectors"),
        (found.torn, "unfinished batches"),
        (found.rewritten, "entries written again"),
        (found.bad_votes, "bad copies of its vote"),
        (found.bad_segments, "bad segments"),
        (found.bad_snapshots.len() as u64, "bad snapshots"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let lost = found.lost.iter().map(|(after, last)| format!("entries after {after} through {last} lost"));
    let all: Vec<_> = counts.map(|(count, what)| format!("{what} {count}")).chain(lost).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::log::{Entry, EntryBody};
    use kontiki_core::types::{Index, LogId};

    #[test]
    fn more_terms_than_a_header_names_are_too_many() {
        let mut log: Vec<Link> = Vec::new();
        for (term, index) in [1, 2, 2, 3, 4, 5, 6, 7, 8, 9].into_iter().zip(1..) {
            let entry = Entry { id: LogId::new(term, index), body: EntryBody::Blank };
            log.push(Link::after(log.last(), &entry));
        }
        let lost = |term, index| {
            let after = LogId::new(term, index);
            RecoverError::TooMuch(Missing::Ids { after, through: Index::new(9) })
        };
        assert!(names_too_few_terms(&lost(0, 0), &log), "terms 1 to 9");
        assert!(!names_too_few_terms(&lost(1, 1), &log), "terms 2 to 9");
        assert!(!names_too_few_terms(&RecoverError::TooMuch(Missing::EndAfter(LogId::ZERO)), &log));
    }
}
