//! Everything at once, drawn from a seed: frames lost, copied and out of order, members that crash and come
//! back, slow machines, and snapshots at every turn.

use crate::event::ReadVia;
use crate::kv;
use crate::log::Snapshot;
use crate::machine::{self, Command, SessionId};
use crate::replica::tests::group::{Group, in_session, put, small};
use crate::replica::{Answer, Ask, Halt, Lane, ReplicaOptions};
use crate::rng::Rng;
use crate::time::Nanos;
use crate::types::RequestId;
use crate::wal::DiskError;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

fn chance(rng: &mut Rng, percent: u64) -> bool {
    rng.below(Nanos::new(100)).get() < percent
}

fn pick(rng: &mut Rng, from: u64, count: u64) -> u64 {
    from + rng.below(Nanos::new(count)).get()
}

/// One client that counts in a session, and tries each command until it has an answer.
struct Counter {
    session: SessionId,
    sequence: u64,
    asked: Option<(u64, RequestId)>,
    since: u32,
}

impl Counter {
    fn go_on(&mut self, group: &mut Group, rng: &mut Rng, members: u64) {
        if let Some((at, request)) = self.asked
            && let Some(answer) = group.answer(at, request)
        {
            self.asked = None;
            if let Answer::Applied { answer, .. } = answer {
                assert!(matches!(answer, machine::Answer::Applied(_)), "{answer}");
                self.sequence += 1;
            }
        }
        self.since += 1;
        if self.asked.is_none() || self.since > 40 {
            // Each step of the counter is a swap from the number before: a second execution would be seen.
            let before = alloc::format!("{}", self.sequence - 1).into_bytes();
            let after = alloc::format!("{}", self.sequence).into_bytes();
            let expected = (self.sequence > 1).then_some(&before[..]);
            let swap = kv::Command::CompareAndSwap { key: b"count", expected, value: &after };
            let at = group.leader().unwrap_or(pick(rng, 1, members));
            let request = group.ask(at, Ask::Command(in_session(self.session, self.sequence, &swap)));
            (self.asked, self.since) = (Some((at, request)), 0);
        }
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = Rng::new(seed, super::group::node(9));
    let members = 3;
    let config = crate::config::Options {
        retained_entries: pick(&mut rng, 0, 4),
        max_cached_bytes: pick(&mut rng, 200, 2_000),
        ..Default::default()
    };
    let options = ReplicaOptions {
        snapshot_every_entries: pick(&mut rng, 5, 40),
        apply_bytes: pick(&mut rng, 1, 1_000),
        forward: chance(&mut rng, 50),
        keep_snapshots: pick(&mut rng, 1, 3) as usize,
        snapshot_retries: 2,
        ..small()
    };
    let mut group = Group::with(members, &config, &options);
    let leader = group.elect();
    let opened = group.asked(leader, Ask::Command(Command::Register.encode()));
    let Answer::Applied { answer: machine::Answer::Opened(session), .. } = opened else { panic!("{opened}") };
    let mut counter = Counter { session, sequence: 1, asked: None, since: 0 };
    let (mut down, mut lives, mut crashes) = (None, Vec::new(), 0);
    let mut all = BTreeMap::new();
    let mut net = rng.clone();
    let loss = pick(&mut rng, 0, 15);
    group.network = Box::new(move |_| match chance(&mut net, loss) {
        true => 0,
        false => 1 + usize::from(chance(&mut net, 10)),
    });
    for step in 0..400 {
        group.reorders = chance(&mut rng, 30);
        counter.go_on(&mut group, &mut rng, members);
        let at = pick(&mut rng, 1, members);
        if chance(&mut rng, 30) {
            let request = group.ask(at, put(&alloc::format!("{step}"), "some value that is not short"));
            lives.push((at, request, crashes));
        }
        if chance(&mut rng, 10) {
            let query = kv::Query::Get { key: b"count" }.encode();
            group.ask(at, Ask::Query { query, via: ReadVia::Quorum });
        }
        if chance(&mut rng, 3) {
            group.ask(at, Ask::Snapshot);
        }
        group.host(at).machine_stands = chance(&mut rng, 5);
        group.host(at).lane_stands = chance(&mut rng, 5).then_some(Lane::Bulk);
        match down {
            None if chance(&mut rng, 8) => {
                tally(&mut all, &group, at);
                let operations = pick(&mut rng, 0, 6) as usize;
                group.crash_midway(at, operations);
                crashes += 1;
                down = Some(at);
            }
            Some(id) if chance(&mut rng, 20) => {
                group.start(id);
                down = None;
            }
            _ => {}
        }
        let failure = match pick(&mut rng, 0, 100) {
            0 => Some((Lane::Log, DiskError::Failed("broken".into()))),
            1 => Some((Lane::Bulk, DiskError::Failed("broken".into()))),
            2..8 => Some((Lane::Bulk, DiskError::Full)),
            _ => None,
        };
        group.host(at).disk_error = failure;
        group.run(pick(&mut rng, 1, 60));
        group.host(at).disk_error = None;
        for id in 1..=members {
            let halted = group.host(id).halted.clone();
            assert!(
                matches!(halted, None | Some(Halt::Disk(DiskError::Failed(_)))),
                "seed {seed}: {halted:?}"
            );
            if halted.is_some() && down != Some(id) {
                assert_eq!(group.replica(id).waiting(), 0, "seed {seed}: a request was not answered");
                tally(&mut all, &group, id);
                *all.entry("failures").or_insert(0) += 1;
                crashes += 1;
                group.restart(id);
            }
        }
    }
    // Everything heals.
    group.network = Box::new(|_| 1);
    group.reorders = false;
    for id in 1..=members {
        group.host(id).machine_stands = false;
        group.host(id).lane_stands = None;
    }
    down.into_iter().for_each(|id| group.start(id));
    let reached = counter.sequence + 3;
    for _ in 0..2_000 {
        counter.go_on(&mut group, &mut rng, members);
        group.run(10);
        if counter.sequence >= reached {
            break;
        }
    }
    assert!(counter.sequence >= reached, "seed {seed}: no progress");
    group.converge();
    group.run(6_000);
    let count = group.host(1).worker.machine().state().value(b"count").map(<[u8]>::to_vec);
    let count: u64 = alloc::string::String::from_utf8(count.unwrap()).unwrap().parse().unwrap();
    assert!(count == counter.sequence || count + 1 == counter.sequence, "seed {seed}: {count}");
    for id in 1..=members {
        let status = group.replica(id).status();
        let snapshot: Option<&Snapshot> = group.replica(id).raft().log().snapshot();
        assert_eq!(snapshot.map(|snapshot| snapshot.last), Some(status.snapshot));
        assert_eq!(group.replica(id).waiting(), 0, "seed {seed}: a request waits for ever");
        assert!(group.host(id).snapshots() <= options.keep_snapshots + 1, "seed {seed}");
    }
    if crashes == 0 {
        assert!(lives.iter().all(|(at, request, _)| group.answer(*at, *request).is_some()));
    }
    (1..=members).for_each(|id| tally(&mut all, &group, id));
    all.insert("crashes", crashes);
    all
}

/// Adds what a member has counted in this life.
fn tally(sums: &mut BTreeMap<&'static str, u64>, group: &Group, id: u64) {
    let counters = group.replica(id).counters();
    for (name, count) in [
        ("fetched", counters.snapshots_fetched),
        ("taken", counters.snapshots_taken),
        ("dropped", counters.pieces_dropped),
        ("forwarded", counters.forwarded),
    ] {
        *sums.entry(name).or_insert(0) += count;
    }
}

#[test]
fn nothing_is_lost_nothing_is_done_twice_and_every_request_is_answered() {
    let mut sums = BTreeMap::new();
    for seed in 0..16 {
        for (name, count) in run(seed) {
            *sums.entry(name).or_insert(0) += count;
        }
    }
    assert!(sums.values().all(|count| *count > 5), "too little happened: {sums:?}");
}
