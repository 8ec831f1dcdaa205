//! Bounded Memory: after a step a member holds no more than its settings allow: bytes of the log, what is on
//! its way to each other member, what waits to be committed, and reads and answers that wait; and of a full
//! replica requests, their queries, and pieces of snapshots. What it had when it started may be more, until
//! it has worked that off.

use super::limits::{Limited, first_beyond, largest_append};
use kontiki_core::config::Options;
use kontiki_core::replica::{ReplicaHeld, ReplicaOptions};
use kontiki_core::status::Held;
use std::collections::BTreeMap;

/// The property's name.
pub const NAME: &str = "Bounded Memory";

/// How much each member may hold, and what it held when it started.
#[derive(Default, Debug)]
pub struct BoundedMemory {
    /// None where no limit is known: then everything is within it.
    limit: Option<Held>,
    /// What a member has started with that is beyond the limit, until it is within.
    started: BTreeMap<usize, Start>,
    /// The largest entry that is appended without a limit of its own: a membership, a blank one, what a
    /// message may carry.
    message: u64,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    /// It has not taken a step.
    Fresh,
    /// So many bytes of the log.
    With(u64),
}

impl BoundedMemory {
    /// Members, so many of them, have these settings.
    pub fn limited_to(&mut self, members: u64, options: &Options) {
        // One item may be beyond each limit: what is larger still goes, alone.
        self.message = largest_append(members, options);
        self.limit = Some(Held {
            cached_bytes: options
                .max_cached_bytes
                .saturating_add(options.max_uncommitted_bytes)
                .saturating_add(2 * self.message),
            in_flight_messages: options.max_in_flight_messages as u64,
            in_flight_bytes: options.max_in_flight_bytes.saturating_add(self.message),
            uncommitted_bytes: options.max_uncommitted_bytes.saturating_add(2 * self.message),
            // Those that wait to be confirmed, and those that wait to be applied.
            waiting_reads: options.max_waiting_reads.saturating_mul(2),
            // Votes, requests for them, and questions are few and wait beside the answers.
            waiting_answers: options.max_waiting_answers + 4 * members as usize,
        });
    }

    /// A member starts again, with what its disk holds.
    pub fn restarted(&mut self, member: usize) {
        self.started.insert(member, Start::Fresh);
    }

    /// What a member holds after a step, and whether its log is whole: what is lost comes back on top of what
    /// waits behind it.
    pub fn holds(&mut self, member: usize, held: &Held, is_whole: bool) -> Result<(), String> {
        let Some(limit) = self.limit else { return Ok(()) };
        let cached = self.allowed(member, held.cached_bytes, limit.cached_bytes, is_whole);
        let all = [
            ("bytes of the log in memory", held.cached_bytes, cached),
            ("messages on their way to a member", held.in_flight_messages, limit.in_flight_messages),
            ("bytes on their way to a member", held.in_flight_bytes, limit.in_flight_bytes),
            ("bytes that wait to be committed", held.uncommitted_bytes, limit.uncommitted_bytes),
            ("reads that wait", held.waiting_reads as u64, limit.waiting_reads as u64),
            ("answers that wait for the disk", held.waiting_answers as u64, limit.waiting_answers as u64),
        ];
        within(all)
    }

    /// How many bytes of its log a member may hold.
    fn allowed(&mut self, member: usize, cached: u64, limit: u64, is_whole: bool) -> u64 {
        let Some(start) = self.started.get_mut(&member) else { return limit };
        if cached <= limit && is_whole && !matches!(start, Start::Fresh) {
            self.started.remove(&member);
            return limit;
        }
        let had = match *start {
            Start::Fresh => cached,
            Start::With(had) => had,
        };
        *start = Start::With(had);
        limit.max(had.saturating_add(2 * self.message))
    }
}

/// Looks at what a full replica with these settings holds after an input, beside its kernel.
pub fn replica_holds(held: &ReplicaHeld, options: &ReplicaOptions) -> Result<(), String> {
    let limit = ReplicaHeld::limit(options);
    within([
        ("requests that wait", held.requests as u64, limit.requests as u64),
        ("bytes of queries", held.query_bytes, limit.query_bytes),
        ("pieces of a snapshot on their way", held.fetched_pieces as u64, limit.fetched_pieces as u64),
        ("pieces that a member waits for", held.asked_pieces as u64, limit.asked_pieces as u64),
    ])
}

fn within<const N: usize>(all: [Limited; N]) -> Result<(), String> {
    match first_beyond(all) {
        None => Ok(()),
        Some((what, held, limit)) => Err(format!("{held} {what}, more than {limit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited() -> BoundedMemory {
        let options = Options {
            max_cached_bytes: 10_000,
            max_uncommitted_bytes: 5_000,
            max_append_bytes: 1_000,
            max_payload_bytes: 100,
            max_in_flight_bytes: 2_000,
            max_in_flight_messages: 4,
            max_waiting_reads: 3,
            max_waiting_answers: 3,
            ..Options::default()
        };
        let mut check = BoundedMemory::default();
        check.limited_to(3, &options);
        check
    }

    #[test]
    fn fires_on_each_thing_that_is_held_beyond_its_limit() {
        let limit = limited().limit.expect("it is limited");
        assert_eq!(limited().holds(0, &limit, true), Ok(()));
        let beyond = [
            Held { cached_bytes: limit.cached_bytes + 1, ..limit },
            Held { in_flight_messages: limit.in_flight_messages + 1, ..limit },
            Held { in_flight_bytes: limit.in_flight_bytes + 1, ..limit },
            Held { uncommitted_bytes: limit.uncommitted_bytes + 1, ..limit },
            Held { waiting_reads: limit.waiting_reads + 1, ..limit },
            Held { waiting_answers: limit.waiting_answers + 1, ..limit },
        ];
        for held in beyond {
            assert!(limited().holds(0, &held, true).is_err(), "{held:?}");
        }
    }

    #[test]
    fn fires_on_each_thing_that_a_replica_holds_beyond_its_limit() {
        let options = ReplicaOptions::default();
        let limit = ReplicaHeld::limit(&options);
        assert_eq!(replica_holds(&limit, &options), Ok(()));
        let beyond = [
            ReplicaHeld { requests: limit.requests + 1, ..limit },
            ReplicaHeld { query_bytes: limit.query_bytes + 1, ..limit },
            ReplicaHeld { fetched_pieces: limit.fetched_pieces + 1, ..limit },
            ReplicaHeld { asked_pieces: limit.asked_pieces + 1, ..limit },
        ];
        for held in beyond {
            assert!(replica_holds(&held, &options).is_err(), "{held:?}");
        }
    }

    #[test]
    fn what_a_member_starts_with_may_be_more_until_it_is_worked_off() {
        let mut check = limited();
        let holds = |check: &mut BoundedMemory, cached_bytes| {
            check.holds(0, &Held { cached_bytes, ..Held::default() }, true)
        };
        check.restarted(0);
        assert_eq!(holds(&mut check, 90_000), Ok(()));
        assert_eq!(holds(&mut check, 90_100), Ok(()));
        assert!(holds(&mut check, 190_000).is_err());
        assert_eq!(holds(&mut check, 1_000), Ok(()));
        assert!(holds(&mut check, 90_000).is_err(), "it was within the limit by then");
    }

    /// A member starts within the limit, with what cannot be applied before a lost entry is back.
    #[test]
    fn what_comes_back_may_be_on_top_of_what_waits_for_it() {
        let mut check = limited();
        let limit = check.limit.expect("it is limited").cached_bytes;
        let most = limit + 2 * check.message;
        let mut holds = |cached_bytes, is_whole| {
            check.holds(0, &Held { cached_bytes, ..Held::default() }, is_whole).is_ok()
        };
        assert!(!holds(limit + 1, false), "it has not started with anything");
        check.restarted(0);
        let mut holds = |cached_bytes, is_whole| {
            check.holds(0, &Held { cached_bytes, ..Held::default() }, is_whole).is_ok()
        };
        assert!(holds(limit, false) && holds(limit, false) && holds(most, false));
        assert!(!holds(most + 1, false));
        assert!(holds(limit, true) && !holds(most, false), "it had come back");
    }
}
