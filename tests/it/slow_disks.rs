//! Groups whose disks are slow for good or full: any finite speed elects a leader, which stays and commits; a
//! member without space leads last.

use kontiki_core::action::{Action, Outcome, Refusal};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{Event, Proposal};
use kontiki_core::membership::Membership;
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::status::{RoleKind, Space};
use kontiki_core::time::Instant;
use kontiki_core::types::{Payload, RequestId, Term};
use kontiki_core::wal::{self, MemoryDisk, Operation, Wal};
use kontiki_tests::lab::{Lab, id, identity};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const MS: u64 = 1_000_000;
const LATENCY: u64 = MS;
const THINK: u64 = 50 * MS;
const HEARTBEAT: u64 = 50 * MS;
const SEEDS: u64 = 7;

/// Members whose logs are on disks that take a fixed time for each sync; writes that come meanwhile share the
/// next.
struct Group {
    now: u64,
    members: Vec<Member>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, Due>,
    scheduled: u64,
    requests: u64,
    committed: u64,
    /// The terms in which a member stood, and those that got a leader.
    attempts: BTreeSet<Term>,
    led: Vec<(usize, Term)>,
}

struct Member {
    raft: Raft,
    up: bool,
    sync: u64,
    wal: Wal,
    disk: MemoryDisk,
    writing: bool,
    /// When its last batch is to be marked.
    mark_at: u64,
}

enum Due {
    Receive(usize, Message),
    Written { member: usize, is_mark: bool },
    Mark(usize),
    Wake(usize),
    Client,
}

impl Group {
    fn new(seed: u64, options: &Options, syncs_ms: &[u64]) -> Self {
        let ids: Vec<_> = (1..=syncs_ms.len() as u64).map(id).collect();
        let members = (1..).zip(syncs_ms).map(|(number, sync)| {
            let options = Options { seed, ..options.clone() };
            let config = Config::new(identity(number), options).expect("options that fit");
            let group = Durable::bootstrap(Membership::of(ids.clone()).expect("distinct ids"));
            let mut disk = MemoryDisk::default();
            let recovery = Wal::open(&mut disk, identity(number), wal::WalOptions::default(), &group);
            let wal = recovery.expect("a new disk").wal;
            let raft = Raft::restore(config, group, Instant::ZERO).expect("a new disk");
            Member { raft, up: true, sync: sync * MS, wal, disk, writing: false, mark_at: u64::MAX }
        });
        let mut group = Self {
            now: 0,
            members: members.collect(),
            due: BinaryHeap::new(),
            what: BTreeMap::new(),
            scheduled: 0,
            requests: 0,
            committed: 0,
            attempts: BTreeSet::new(),
            led: Vec::new(),
        };
        (0..group.members.len()).for_each(|member| group.wake_later(member));
        group.schedule(THINK, Due::Client);
        group
    }

    fn schedule(&mut self, at: u64, due: Due) {
        self.scheduled += 1;
        self.due.push(Reverse((at, self.scheduled)));
        self.what.insert(self.scheduled, due);
    }

    fn wake_later(&mut self, member: usize) {
        let deadline = self.members[member].raft.deadline().as_nanos();
        self.schedule(deadline.max(self.now), Due::Wake(member));
    }

    /// Runs until `done`, or for so long. Returns whether it was done.
    fn run(&mut self, ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ms * MS;
        while let Some(&Reverse((at, number))) = self.due.peek()
            && at <= end
        {
            self.due.pop();
            self.now = at;
            let due = self.what.remove(&number).expect("it was scheduled");
            self.happen(due);
            if done(self) {
                return true;
            }
        }
        self.now = end;
        false
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Receive(member, message) => self.step(member, Event::Receive(message)),
            Due::Written { member, is_mark } => {
                let disk = &mut self.members[member];
                disk.writing = false;
                let seq = disk.wal.completed();
                disk.mark_at = if is_mark { self.now } else { self.now + HEARTBEAT };
                self.schedule(self.members[member].mark_at, Due::Mark(member));
                if !is_mark {
                    self.step(member, Event::Persisted(seq));
                }
            }
            Due::Mark(member) => self.write(member),
            Due::Wake(member) if self.members[member].raft.deadline().as_nanos() <= self.now => {
                self.step(member, Event::Wake);
            }
            Due::Wake(_) => {}
            Due::Client => {
                self.schedule(self.now + THINK, Due::Client);
                if let Some(leader) = self.leader() {
                    self.requests += 1;
                    let request = RequestId(self.requests);
                    self.step(leader, Event::Propose(Proposal { request, payload: Payload::from("x") }));
                }
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| member.up && member.raft.status().role == RoleKind::Leader;
        self.members.iter().rposition(leads)
    }

    fn step(&mut self, member: usize, event: Event) {
        if !self.members[member].up {
            return;
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let before = self.members[member].raft.status();
            let actions = self.members[member].raft.step(Instant::from_nanos(self.now), event);
            let after = self.members[member].raft.status();
            if after.term > before.term && after.vote == Some(id(member as u64 + 1)) {
                self.attempts.insert(after.term);
            }
            if after.role == RoleKind::Leader && before.role != RoleKind::Leader {
                self.led.push((member, after.term));
            }
            for action in actions {
                match action {
                    Action::Send(message) => {
                        let to = message.to.id.get() as usize - 1;
                        self.schedule(self.now + LATENCY, Due::Receive(to, message));
                    }
                    Action::Persist(write) => self.members[member].wal.submit(write),
                    Action::Apply { through } => events.push(Event::Applied(through)),
                    Action::Respond { outcome: Outcome::Committed(_), .. } => self.committed += 1,
                    _ => {}
                }
            }
        }
        self.write(member);
        self.wake_later(member);
    }

    /// Writes what has queued, or marks what was written last, as a replica does.
    fn write(&mut self, member: usize) {
        let now = self.now;
        let Member { wal, disk, sync, writing, mark_at, up, .. } = &mut self.members[member];
        if *writing || !*up {
            return;
        }
        while let Some(operations) = wal.upkeep() {
            operations.iter().for_each(|operation| drop(operation.perform(disk).expect("memory")));
            wal.upkeep_done(Ok(()));
        }
        let job = wal.next_job();
        let is_mark = job.is_none();
        let Some(operations) = job.or_else(|| if *mark_at <= now { wal.mark() } else { None }) else {
            return;
        };
        let syncs =
            operations.iter().filter(|it| matches!(it, Operation::Sync(_) | Operation::SyncDirectory));
        let done = now + *sync * syncs.count() as u64;
        operations.iter().for_each(|operation| drop(operation.perform(disk).expect("memory")));
        *writing = true;
        self.schedule(done, Due::Written { member, is_mark });
    }
}

/// How many elections each seed needs for its first leader, and after a crash of that for the next; in the
/// median.
fn elects(syncs_ms: &[u64], options: &Options, seeds: u64) -> (usize, usize) {
    let slowest = *syncs_ms.iter().max().expect("there are members");
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        let mut group = Group::new(seed, options, syncs_ms);
        let what = format!("syncs of {syncs_ms:?} ms, seed {seed}");
        assert!(group.run(60_000 + 60 * slowest, |group| !group.led.is_empty()), "{what}: no leader");
        first.push(group.attempts.len());
        // It stays, and commits at the speed of the disks.
        group.run(2_000 + 12 * slowest, |_| false);
        let leader = group.leader();
        group.led.clear();
        let before = group.committed;
        group.run(2_000 + 12 * slowest, |_| false);
        assert!(group.committed >= before + 2, "{what}: {} commits", group.committed - before);
        assert_eq!((group.leader(), &group.led[..]), (leader, &[][..]), "{what}: another leader");
        // It is lost, and there is another.
        group.members[leader.expect("it leads")].up = false;
        group.attempts.clear();
        assert!(group.run(60_000 + 60 * slowest, |group| !group.led.is_empty()), "{what}: no other leader");
        next.push(group.attempts.len());
        let before = group.committed;
        group.run(2_000 + 12 * slowest, |_| false);
        assert!(group.committed >= before + 2, "{what}: {} commits later", group.committed - before);
    }
    first.sort_unstable();
    next.sort_unstable();
    println!("syncs of {syncs_ms:?} ms: {first:?} elections, then {next:?}");
    (first[first.len() / 2], next[next.len() / 2])
}

/// Asserts that half of the seeds have a leader within ten elections, at the start and after a crash.
#[track_caller]
fn assert_elects_soon(syncs_ms: &[u64], options: &Options) {
    let (first, next) = elects(syncs_ms, options, SEEDS);
    assert!(first <= 10 && next <= 10, "syncs of {syncs_ms:?} ms: {first} elections, then {next}");
}

/// Syncs of a second, elections of 150 to 300 ms: half of the seeds have a leader within ten elections, at
/// the start and after a crash.
#[test]
fn syncs_of_a_second_elect_within_ten_attempts() {
    for members in [3, 5] {
        let (first, next) = elects(&vec![1_000; members], &Options::default(), 50);
        assert!(first <= 10 && next <= 10, "{members} members: {first} elections, then {next}");
    }
}

#[test]
fn any_speed_of_all_disks_elects() {
    for sync in [1, 60, 80, 150, 300, 1_000, 2_000] {
        assert_elects_soon(&[sync; 3], &Options::default());
        assert_elects_soon(&[sync; 5], &Options::default());
    }
}

#[test]
fn any_speed_of_some_disks_elects() {
    for slow in [60, 300, 1_000, 2_000] {
        assert_elects_soon(&[slow, 1, 1], &Options::default());
        assert_elects_soon(&[slow, slow, 1], &Options::default());
        assert_elects_soon(&[slow, 1, 1, 1, 1], &Options::default());
        assert_elects_soon(&[slow, slow / 2, slow / 3, 1, 1], &Options::default());
    }
}

#[test]
fn slow_disks_elect_without_pre_votes_too() {
    let options = Options { pre_vote: false, ..Options::default() };
    for slow in [60, 300, 1_000] {
        assert_elects_soon(&[slow; 3], &options);
        assert_elects_soon(&[slow, slow, 1], &options);
        assert_elects_soon(&[slow; 5], &options);
    }
}

/// Each election in a row that brings no leader makes the next one twice as long, up to sixteen times; a
/// leader ends that.
#[test]
fn elections_that_fail_last_longer_until_a_leader_is_heard() {
    let options = Options { pre_vote: false, ..Options::default() };
    let ms = |lab: &Lab| lab.time_to_deadline(1).get() / MS;
    let mut lab = Lab::new(3, 0, &options);
    for times in [1, 2, 4, 8, 16, 16, 16] {
        lab.campaign(1);
        lab.lose("RequestVote");
        assert!((150 * times..300 * times).contains(&ms(&lab)), "{} ms, expected {times} times", ms(&lab));
    }
    lab.elect(1);
    lab.transfer(1, Some(2));
    lab.deliver();
    assert_eq!(lab.leaders(), [2]);
    assert!((150..300).contains(&ms(&lab)), "{} ms with a leader", ms(&lab));
}

/// Of two members, the one whose clock is quicker stands again and again, and cannot be elected. The other
/// one, which can, does not wait for it as long as for the last of its own elections.
#[test]
fn a_candidate_whose_log_is_behind_is_not_waited_for() {
    let options = Options { pre_vote: false, ..Options::default() };
    let ms = |lab: &Lab| lab.time_to_deadline(2).get() / MS;
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    lab.isolate(3);
    lab.propose(1, "ahead");
    lab.deliver();
    lab.crash(1);
    lab.heal();
    for _ in 0..5 {
        lab.campaign(2);
        lab.lose("RequestVote");
    }
    assert!(ms(&lab) >= 16 * 150, "{} ms", ms(&lab));
    while lab.status(3).term <= lab.status(2).term {
        lab.campaign(3);
        lab.lose("RequestVote");
    }
    lab.campaign(3);
    lab.deliver();
    assert_eq!((lab.status(2).term, lab.status(2).role), (lab.status(3).term, RoleKind::Follower));
    assert!((150..300).contains(&ms(&lab)), "{} ms", ms(&lab));
    lab.fire(2);
    lab.deliver();
    assert_eq!(lab.leaders(), [2]);
}

/// The election of a candidate has its whole time from the moment at which it asks, however long its own disk
/// took.
#[test]
fn an_election_begins_when_the_requests_for_votes_leave() {
    let mut lab = Lab::of(3);
    lab.slow_disk(1);
    lab.campaign(1);
    lab.deliver();
    let term = lab.status(1).term;
    for _ in 0..10 {
        lab.fire(1);
        assert_eq!((lab.status(1).role, lab.status(1).term), (RoleKind::Candidate, term));
    }
    lab.persist(1, 9);
    assert!(lab.time_to_deadline(1).get() >= 150 * MS);
    lab.deliver();
    lab.fast_disk(1);
    assert_eq!(lab.leaders(), [1]);
}

/// A voter whose vote is on its way to the disk neither stands nor encourages another to stand.
#[test]
fn a_voter_that_writes_its_vote_gives_that_election_its_time() {
    let mut lab = Lab::of(3);
    lab.slow_disk(2);
    lab.crash(3);
    lab.campaign(1);
    lab.deliver();
    let term = lab.status(2).term;
    lab.fire(2);
    assert_eq!((lab.status(2).role, lab.status(2).term), (RoleKind::Follower, term), "it does not stand");
    lab.fire(1);
    lab.deliver();
    assert_eq!(
        (lab.status(1).role, lab.status(1).term),
        (RoleKind::PreCandidate, term),
        "it is not encouraged"
    );
    lab.persist(2, 9);
    lab.fast_disk(2);
    lab.deliver();
    assert_eq!((lab.leaders(), lab.status(1).term), (vec![1], term), "the vote counts, late as it is");
}

/// A leader whose disk is slow, and known to be, goes on; one whose disk takes far longer than it is known to
/// take gives up.
#[test]
fn a_slow_disk_is_not_a_stalled_one() {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.beat(1);
    let write = |lab: &mut Lab, beats: u64| {
        lab.slow_disk(1);
        lab.propose(1, "x");
        lab.deliver();
        let leads = (0..beats).all(|_| {
            lab.heartbeat(1);
            lab.deliver();
            lab.leaders() == [1]
        });
        lab.persist(1, 9);
        leads
    };
    assert!(write(&mut lab, 5), "250 ms, as long as an election may take");
    assert!(write(&mut lab, 19), "950 ms, less than four times as long as the last write");
    assert!(!write(&mut lab, 100), "five seconds");
}

/// A member whose disk is full stands after all others, and does not take over when it is bidden to by a
/// leader that does not know.
#[test]
fn a_full_member_stands_last() {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.beat(1);
    let before = lab.time_to_deadline(2).get() / MS;
    lab.step(2, Event::DiskFull(true));
    assert_eq!(lab.time_to_deadline(2).get() / MS, before + 8 * 150);
    let transfer = lab.transfer(1, Some(2));
    lab.deliver();
    (0..7).for_each(|_| lab.beat(1));
    assert_eq!((lab.outcomes(transfer), lab.leaders()), (&[Outcome::NotTransferred][..], vec![1]));
    let again = lab.transfer(1, Some(2));
    assert_eq!(lab.outcomes(again), [Outcome::Refused(Refusal::MemberFull(id(2)))], "it knows by now");
    lab.step(2, Event::DiskFull(false));
    lab.beat(1);
    assert!((150..300).contains(&(lab.time_to_deadline(2).get() / MS)));
    lab.transfer(1, Some(2));
    lab.deliver();
    assert_eq!(lab.leaders(), [2]);
}

/// A leader without space hands over to a voter that has everything, and some space; where there is none, it
/// leads on and says why it takes nothing.
#[test]
fn a_leader_without_space_hands_over_to_a_voter_that_has_some() {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.beat(1);
    (1..=3).for_each(|member| {
        lab.step(member, Event::DiskFull(true));
    });
    lab.beat(1);
    for _ in 0..30 {
        lab.beat(1);
        assert_eq!((lab.count("TimeoutNow"), lab.leaders()), (0, vec![1]), "all are full");
    }
    assert_eq!([1, 2].map(|member| lab.status(member).space), [Space::GroupFull, Space::Full]);
    let refused = lab.propose(1, "x");
    assert_eq!(lab.outcomes(refused), [Outcome::Refused(Refusal::DiskFull)]);
    lab.step(3, Event::DiskFull(false));
    for _ in 0..30 {
        if lab.leaders() == [1] {
            lab.beat(1);
        }
    }
    assert_eq!(lab.leaders(), [3], "it has space");
}

/// A transfer that names no member goes to a voter that has space, however much of the log another has.
#[test]
fn a_member_with_space_is_chosen_before_a_full_one() {
    let mut lab = Lab::of(5);
    lab.elect(1);
    lab.beat(1);
    for full in [2, 3, 5] {
        lab.step(full, Event::DiskFull(true));
    }
    lab.beat(1);
    lab.beat(1);
    assert_eq!(lab.status(1).space, Space::GroupFull, "three of five");
    lab.transfer(1, None);
    lab.deliver();
    assert_eq!(lab.leaders(), [4]);
}
