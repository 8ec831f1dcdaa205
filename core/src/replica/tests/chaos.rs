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

/// How many members there are.
const MEMBERS: u64 = 3;

/// A group, and what befalls it.
struct Chaos {
    seed: u64,
    rng: Rng,
    group: Group,
    keep_snapshots: usize,
    counter: Counter,
    /// The member that is down.
    down: Option<u64>,
    /// The requests of other clients, each with its member.
    asked: Vec<(u64, RequestId)>,
    crashes: u64,
    /// What the members have counted, in all their lives.
    sums: BTreeMap<&'static str, u64>,
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut chaos = Chaos::begin(seed);
    (0..400).for_each(|step| chaos.step(step));
    chaos.heal();
    chaos.check();
    let Chaos { group, mut sums, crashes, .. } = chaos;
    (1..=MEMBERS).for_each(|id| tally(&mut sums, &group, id));
    sums.insert("crashes", crashes);
    sums
}

impl Chaos {
    fn begin(seed: u64) -> Self {
        let mut rng = Rng::new(seed, super::group::node(9));
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
        let mut group = Group::with(MEMBERS, &config, &options);
        let leader = group.elect();
        let opened = group.asked(leader, Ask::Command(Command::Register.encode()));
        let Answer::Applied { answer: machine::Answer::Opened(session), .. } = opened else {
            panic!("{opened}")
        };
        let mut net = rng.clone();
        let loss = pick(&mut rng, 0, 15);
        group.network = Box::new(move |_| match chance(&mut net, loss) {
            true => 0,
            false => 1 + usize::from(chance(&mut net, 10)),
        });
        Self {
            seed,
            rng,
            group,
            keep_snapshots: options.keep_snapshots,
            counter: Counter { session, sequence: 1, asked: None, since: 0 },
            down: None,
            asked: Vec::new(),
            crashes: 0,
            sums: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: u64) {
        self.group.reorders = chance(&mut self.rng, 30);
        self.counter.go_on(&mut self.group, &mut self.rng, MEMBERS);
        let at = pick(&mut self.rng, 1, MEMBERS);
        self.ask(at, step);
        let Self { rng, group, .. } = self;
        group.host(at).machine_stands = chance(rng, 5);
        group.host(at).lane_stands = chance(rng, 5).then_some(Lane::Bulk);
        self.crash_or_start(at);
        let Self { rng, group, .. } = self;
        group.host(at).disk_error = match pick(rng, 0, 100) {
            0 => Some((Lane::Log, DiskError::Failed("broken".into()))),
            1 => Some((Lane::Bulk, DiskError::Failed("broken".into()))),
            2..8 => Some((Lane::Bulk, DiskError::Full)),
            _ => None,
        };
        group.run(pick(rng, 1, 60));
        group.host(at).disk_error = None;
        (1..=MEMBERS).for_each(|id| self.restart_if_halted(id));
    }

    /// Clients ask a member for this and that.
    fn ask(&mut self, at: u64, step: u64) {
        let Self { rng, group, .. } = self;
        if chance(rng, 30) {
            let request = group.ask(at, put(&alloc::format!("{step}"), "some value that is not short"));
            self.asked.push((at, request));
        }
        if chance(rng, 10) {
            let query = kv::Query::Get { key: b"count" }.encode();
            group.ask(at, Ask::Query { query, via: ReadVia::Quorum });
        }
        if chance(rng, 3) {
            group.ask(at, Ask::Snapshot);
        }
    }

    fn crash_or_start(&mut self, at: u64) {
        let Self { rng, group, .. } = self;
        match self.down {
            None if chance(rng, 8) => {
                tally(&mut self.sums, group, at);
                group.crash_midway(at, pick(rng, 0, 6) as usize);
                self.crashes += 1;
                self.down = Some(at);
            }
            Some(id) if chance(rng, 20) => {
                group.start(id);
                self.down = None;
            }
            _ => {}
        }
    }

    /// A member whose disk has failed has halted, and is started again.
    fn restart_if_halted(&mut self, id: u64) {
        let Self { seed, group, sums, .. } = self;
        let halted = group.host(id).halted.clone();
        let is_expected = matches!(halted, None | Some(Halt::Disk(DiskError::Failed(_))));
        assert!(is_expected, "seed {seed}: {halted:?}");
        if halted.is_some() && self.down != Some(id) {
            assert_eq!(group.replica(id).waiting(), 0, "seed {seed}: a request was not answered");
            tally(sums, group, id);
            *sums.entry("failures").or_insert(0) += 1;
            self.crashes += 1;
            group.restart(id);
        }
    }

    /// Everything heals, and the counter goes on.
    fn heal(&mut self) {
        let Self { group, rng, counter, .. } = self;
        group.network = Box::new(|_| 1);
        group.reorders = false;
        for id in 1..=MEMBERS {
            group.host(id).machine_stands = false;
            group.host(id).lane_stands = None;
        }
        self.down.into_iter().for_each(|id| group.start(id));
        let reached = counter.sequence + 3;
        for _ in 0..2_000 {
            counter.go_on(group, rng, MEMBERS);
            group.run(10);
            if counter.sequence >= reached {
                break;
            }
        }
        assert!(counter.sequence >= reached, "seed {}: no progress", self.seed);
        group.converge();
        group.run(6_000);
    }

    /// Nothing was done twice, and every request was answered.
    fn check(&mut self) {
        let Self { seed, group, counter, .. } = self;
        let count = group.host(1).worker.machine().state().value(b"count").map(<[u8]>::to_vec);
        let count: u64 = alloc::string::String::from_utf8(count.unwrap()).unwrap().parse().unwrap();
        assert!(count == counter.sequence || count + 1 == counter.sequence, "seed {seed}: {count}");
        for id in 1..=MEMBERS {
            let status = group.replica(id).status();
            let snapshot: Option<&Snapshot> = group.replica(id).raft().log().snapshot();
            assert_eq!(snapshot.map(|snapshot| snapshot.last), Some(status.snapshot));
            assert_eq!(group.replica(id).waiting(), 0, "seed {seed}: a request waits for ever");
            assert!(group.host(id).snapshots() <= self.keep_snapshots + 1, "seed {seed}");
        }
        if self.crashes == 0 {
            assert!(self.asked.iter().all(|(at, request)| group.answer(*at, *request).is_some()));
        }
    }
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
