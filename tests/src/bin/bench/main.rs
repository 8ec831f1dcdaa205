//! What the bare kernel costs: seven workloads, counted. `docs/performance.md` says what they are and what
//! came out.
//!
//! ```text
//! cargo run --release -p kontiki-tests --bin bench -- --workload all               one JSON line a workload
//! cargo run --release -p kontiki-tests --bin bench -- --workload w1 --callgrind    with instructions (valgrind)
//! cargo run --release -p kontiki-tests --bin bench -- --workload w1 --members 15   a larger group
//! cargo run --release -p kontiki-tests --bin bench -- --budget tests/golden/costs.json
//! cargo run --release -p kontiki-tests --bin bench -- --curves docs/images         how costs grow, as SVG
//! ```
//!
//! Members live in one thread and one memory, messages in one queue, nothing is serialized, and a disk is
//! instant: what is left is the kernel, and as little around it as a host can do with. Every run ends with a
//! check that all members applied the same payloads in one order.
#![allow(unsafe_code, reason = "a global allocator that counts can be written in no other way")]
#![allow(clippy::float_arithmetic, reason = "figures for people: nothing is decided by them")]

mod budget;
mod curves;

use clap::{Args, Parser, ValueEnum};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{Event, Proposal};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{
    Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, RequestId, Term, WriteSeq,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Measures the bare kernel on one workload, or on all.
#[derive(Parser)]
struct Arguments {
    /// Which workload.
    #[arg(long, value_enum, default_value = "all")]
    workload: Choice,
    /// How many operations; each workload has its own default.
    #[arg(long)]
    n: Option<u64>,
    #[command(flatten)]
    shape: Shape,
    /// Count instructions too: runs itself under valgrind for n and 2n operations and takes the difference.
    #[arg(long)]
    callgrind: bool,
    /// Count what this budget lists instead, and see whether it is kept: tests/golden/costs.json.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "n", "members", "callgrind"])]
    budget: Option<PathBuf>,
    /// Write the budget anew.
    #[arg(long, requires = "budget")]
    write: bool,
    /// Count how costs grow with members, the log and groups, and draw it into this directory: docs/images.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workload", "n", "members", "callgrind", "budget"])]
    curves: Option<PathBuf>,
}

/// How large the groups are that are measured.
#[derive(Args, Clone, Copy)]
struct Shape {
    /// How many members a group of w1 has.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..=64))]
    members: u8,
    /// How many entries the logs of w1 have before it begins.
    #[arg(long, default_value = "0")]
    log: u64,
    /// How many groups w4 has.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    groups: u64,
    /// How the host writes and applies.
    #[arg(long, value_enum, default_value = "at-once")]
    host: Does,
}

impl Default for Shape {
    fn default() -> Self {
        Self { members: 3, log: 0, groups: IDLE_GROUPS, host: Does::AtOnce }
    }
}

/// How a host writes and applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Does {
    /// It is done before the next action begins (`Options::synchronous_writes`, `synchronous_apply`).
    AtOnce,
    /// It is reported with `Persisted` and `Applied`.
    Reported,
}

impl Does {
    fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// 3 members, one proposal of 16 bytes until every member has applied it.
    W1,
    /// The same, 64 proposals a round; an operation is one proposal.
    W2,
    /// 5 members, 1 KiB, 64 proposals a round.
    W3,
    /// 1,000 idle groups of 3: one heartbeat round of one group.
    W4,
    /// The same: one tick of one group at which nothing is due.
    W4t,
    /// A follower catches up on n entries of 16 bytes; an operation is one entry.
    W5,
    /// 3 cold members to a leader, and quiet.
    W6,
    /// The memory of one idle group of 3.
    W7,
    /// Each of them in turn.
    All,
}

impl Choice {
    fn name(self) -> String {
        let value = self.to_possible_value().expect("no choice is hidden");
        value.get_name().to_owned()
    }

    fn default_n(self) -> u64 {
        match self {
            Self::W1 | Self::W3 | Self::W4 => 20_000,
            Self::W6 | Self::W7 => 1_000,
            _ => 100_000,
        }
    }

    fn run(self, n: u64, shape: Shape) -> Cost {
        match self {
            Self::W1 => one_by_one(shape, n),
            Self::W2 => in_rounds(shape.host, 3, 16, n),
            Self::W3 => in_rounds(shape.host, 5, 1024, n),
            Self::W4 => heartbeats(shape, n),
            Self::W4t => ticks(shape.host, n),
            Self::W5 => catching_up(shape.host, n),
            Self::W6 => elections(shape.host, n),
            Self::W7 => memory(shape.host, n),
            Self::All => unreachable!("main takes it apart"),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn run(&self) -> Result<bool, String> {
        if let Some(file) = &self.budget {
            return budget::check(file, self.write);
        }
        match &self.curves {
            Some(dir) => curves::draw(dir)?,
            None => self.measure()?,
        }
        Ok(true)
    }

    fn measure(&self) -> Result<(), String> {
        let all = Choice::value_variants().iter().copied().filter(|&each| each != Choice::All);
        for workload in all.filter(|&each| self.workload == Choice::All || self.workload == each) {
            let n = self.n.unwrap_or(workload.default_n());
            let mut line = workload.run(n, self.shape).to_json(workload, n);
            if self.callgrind && workload != Choice::W7 {
                line["instructions_per_op"] =
                    json!(count_per_operation(Counter::Instructions, workload, n, self.shape)?);
            }
            println!("{line}");
        }
        Ok(())
    }
}

// ----------------------------------------------------------------------------------------------------------
// Workloads
// ----------------------------------------------------------------------------------------------------------

const HEARTBEAT: u64 = 50;
const IDLE_GROUPS: u64 = 1_000;
const ROUND: u64 = 64;

fn one_by_one(shape: Shape, n: u64) -> Cost {
    let Shape { members, log, host, .. } = shape;
    let mut host = Host::that(host);
    let mut group = host.group(members.into(), 0);
    let leader = host.elect(&mut group);
    let mut bytes = [0; 16];
    let log = log.next_multiple_of(ROUND);
    for round in 0..log / ROUND {
        let numbers = round * ROUND..(round + 1) * ROUND;
        let batch = numbers.map(|number| proposal(number, &mut bytes)).collect();
        host.step(&mut group, leader, Event::ProposeBatch(batch));
        host.deliver(&mut group);
    }
    let cost = measure(&mut host, n, |host| {
        for number in log..log + n {
            let proposal = proposal(number, &mut bytes);
            host.step(&mut group, leader, Event::Propose(proposal));
            host.deliver(&mut group);
        }
    });
    assert_eq!(host.committed, log + n, "every proposal is answered");
    group.check(log + n);
    cost
}

fn in_rounds(does: Does, members: usize, size: usize, n: u64) -> Cost {
    let rounds = n.div_ceil(ROUND);
    let mut host = Host::that(does);
    let mut group = host.group(members, 0);
    let leader = host.elect(&mut group);
    let mut bytes = vec![0; size];
    let cost = measure(&mut host, rounds * ROUND, |host| {
        for round in 0..rounds {
            let numbers = round * ROUND..(round + 1) * ROUND;
            let batch = numbers.map(|number| proposal(number, &mut bytes)).collect();
            host.step(&mut group, leader, Event::ProposeBatch(batch));
            host.deliver(&mut group);
        }
    });
    assert_eq!(host.committed, rounds * ROUND, "every proposal is answered");
    group.check(rounds * ROUND);
    cost
}

/// Idle groups that have all come to the same moment, and their leaders.
fn idle_groups(host: &mut Host, count: u64) -> Vec<(Group, NodeId)> {
    let idle = |seed| {
        let mut group = host.group(3, seed);
        host.now = Instant::ZERO;
        let leader = host.elect(&mut group);
        host.pass_time(&mut group, Instant::from_millis(1_000));
        (group, leader)
    };
    (0..count).map(idle).collect()
}

fn heartbeats(shape: Shape, n: u64) -> Cost {
    let mut host = Host::that(shape.host);
    let mut groups = idle_groups(&mut host, shape.groups);
    let mut left = n;
    let cost = measure(&mut host, n, |host| {
        while left > 0 {
            host.now = host.now + Nanos::new(HEARTBEAT * 1_000_000);
            for (group, leader) in groups.iter_mut().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                host.step(group, *leader, Event::Wake);
                host.deliver(group);
                left -= 1;
            }
        }
    });
    assert_eq!(cost.messages, 4 * n, "a heartbeat to each follower, and its answer");
    groups.iter().for_each(|(group, _)| group.check(0));
    cost
}

fn ticks(does: Does, n: u64) -> Cost {
    let mut host = Host::that(does);
    let mut groups = idle_groups(&mut host, IDLE_GROUPS);
    // Each leader sends a heartbeat now, so that none is due at the next millisecond.
    host.now = host.now + Nanos::new(HEARTBEAT * 1_000_000);
    for (group, leader) in &mut groups {
        host.step(group, *leader, Event::Wake);
        host.deliver(group);
    }
    host.now = host.now + Nanos::new(1_000_000);
    let mut left = n;
    let cost = measure(&mut host, n, |host| {
        while left > 0 {
            for (group, _) in groups.iter_mut().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                host.tick(group);
                left -= 1;
            }
        }
    });
    assert_eq!(cost.messages, 0, "nothing was due");
    groups.iter().for_each(|(group, _)| group.check(0));
    cost
}

/// The third member missed everything that the other two have.
fn catching_up(does: Does, n: u64) -> Cost {
    let mut bytes = [0; 16];
    let entries: Vec<_> = (0..n)
        .map(|number| Entry {
            id: LogId::new(1, number + 1),
            body: EntryBody::Data(proposal(number, &mut bytes).payload),
        })
        .collect();
    let new = Durable::bootstrap(membership(3));
    let full =
        Durable { ballot: Ballot::new(Term::new(1), None), entries, committed: Index::new(n), ..new.clone() };
    let mut host = Host::that(does);
    let mut group = Group::restore(does, 0, [full.clone(), full, new]);
    // The third is not there yet.
    let late = member(3);
    let leader = loop {
        match group.leader() {
            Some(leader) => break leader,
            None => {
                let next = group.members[..2].iter().map(|member| member.raft.deadline()).min();
                host.now = next.expect("there are two");
                for id in [member(1), member(2)] {
                    host.step(&mut group, id, Event::Wake);
                    host.deliver_to(&mut group, |to| to != late);
                }
            }
        }
    };
    assert_eq!(group.members[2].applied, Index::ZERO);
    let cost = measure(&mut host, n, |host| {
        host.now = host.now + Nanos::new(HEARTBEAT * 1_000_000);
        host.step(&mut group, leader, Event::Wake);
        host.deliver(&mut group);
    });
    group.check(n);
    cost
}

fn elections(does: Does, n: u64) -> Cost {
    let mut host = Host::that(does);
    measure(&mut host, n, |host| {
        for seed in 0..n {
            let mut group = host.group(3, seed);
            host.now = Instant::ZERO;
            host.elect(&mut group);
            black_box(&group);
        }
    })
}

fn memory(does: Does, n: u64) -> Cost {
    let mut host = Host::that(does);
    // The host's own buffers grow now, once.
    drop(idle_groups(&mut host, 1));
    let before = counted::live();
    let mut groups = Vec::new();
    let mut cost = measure(&mut host, n, |host| groups = idle_groups(host, n));
    cost.heap_bytes_per_op = Some(ratio(counted::live() - before, n));
    groups.iter().for_each(|(group, _)| group.check(0));
    cost
}

// ----------------------------------------------------------------------------------------------------------
// Members and their host
// ----------------------------------------------------------------------------------------------------------

/// One group: the member with id 1 first.
struct Group {
    members: Vec<Member>,
}

struct Member {
    raft: Raft,
    applied: Index,
    /// Over the number and the length of every payload applied, in order.
    digest: u64,
}

/// What drives the members: a clock that stands still unless told, messages in the order in which they were
/// sent, and a disk that has finished before it began.
struct Host {
    does: Does,
    now: Instant,
    /// What the members said should be done. All but the messages is done as soon as it is said.
    actions: Vec<Action>,
    /// A buffer to swap with that one.
    spare: Vec<Action>,
    sent: u64,
    committed: u64,
}

/// What was done of what a step asked for.
#[derive(Default)]
struct Done {
    written: Option<WriteSeq>,
    applied: Option<Index>,
}

impl Group {
    fn restore(does: Does, seed: u64, members: impl IntoIterator<Item = Durable>) -> Self {
        let (synchronous_writes, synchronous_apply) = (does == Does::AtOnce, does == Does::AtOnce);
        let options = Options { seed, synchronous_writes, synchronous_apply, ..Options::default() };
        let restored = members.into_iter().zip(1..).map(|(durable, id)| {
            let identity = Identity::new(ClusterId(1), member(id));
            let config = Config::new(identity, options.clone()).expect("valid");
            Member {
                raft: Raft::restore(config, durable, Instant::ZERO).expect("what a disk may hold"),
                applied: Index::ZERO,
                digest: 0,
            }
        });
        Self { members: restored.collect() }
    }

    fn leader(&self) -> Option<NodeId> {
        let mut all = self.members.iter().map(|member| member.raft.status());
        all.find(|status| status.role == RoleKind::Leader).map(|status| status.id)
    }

    /// That all members applied the same payloads in one order: those numbered from zero.
    fn check(&self, payloads: u64) {
        let first = &self.members[0];
        for member in &self.members {
            let last = member.raft.log().last();
            assert_eq!(member.applied, last.index, "everything is applied");
            assert_eq!(last, first.raft.log().last(), "the logs are equal");
            assert_eq!(member.digest, first.digest, "all applied the same in one order");
            let log = member.raft.log().entries(Index::ZERO, last.index);
            if log.len() < member.raft.log().last().index.get() as usize {
                // What left memory is in the digest. Beside the payloads there is the leader's blank entry.
                assert_eq!(last.index.get(), payloads + 1, "no payload is missing");
                continue;
            }
            let payload = |entry: &Entry| match &entry.body {
                EntryBody::Data(payload) => Some(payload.clone()),
                EntryBody::Blank | EntryBody::Config(_) | EntryBody::Withheld | EntryBody::Lost => None,
            };
            let mut count = 0;
            for (payload, number) in log.clone().filter_map(payload).zip(0..) {
                assert_eq!(payload[..8], u64::to_le_bytes(number), "the payloads are in order");
                assert!(payload[8..].iter().all(|&byte| byte == 0), "the payloads are whole");
                count += 1;
            }
            assert_eq!(count, payloads, "no payload is missing");
        }
    }
}

impl Member {
    fn apply(&mut self, through: Index) {
        for entry in self.raft.log().entries(self.applied, through) {
            if let EntryBody::Data(payload) = &entry.body {
                let number = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let word = number.rotate_left(32) ^ payload.len() as u64;
                self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
            }
        }
        self.applied = through;
    }
}

impl Host {
    fn that(does: Does) -> Self {
        Self { does, now: Instant::ZERO, actions: Vec::new(), spare: Vec::new(), sent: 0, committed: 0 }
    }

    /// A new group of members, which this host drives.
    fn group(&self, members: usize, seed: u64) -> Group {
        let new = Durable::bootstrap(membership(members as u64));
        Group::restore(self.does, seed, (0..members).map(|_| new.clone()))
    }

    /// Hands an event to a member and carries out all that follows from it on that member.
    fn step(&mut self, group: &mut Group, id: NodeId, event: Event) {
        let member = &mut group.members[id.get() as usize - 1];
        let mut seen = self.actions.len();
        member.raft.step_into(self.now, event, &mut self.actions);
        let mut done = self.carry_out(member, seen);
        while self.does == Does::Reported {
            seen = self.actions.len();
            let (now, actions) = (self.now, &mut self.actions);
            if let Some(seq) = done.written.take() {
                member.raft.step_into(now, Event::Persisted(seq), actions);
            } else if let Some(through) = done.applied.take() {
                member.raft.step_into(now, Event::Applied(through), actions);
            } else {
                return;
            }
            let Done { written, applied } = self.carry_out(member, seen);
            done = Done { written, applied: applied.or(done.applied) };
        }
    }

    /// Carries out the actions that came last, but for the messages. Returns what there is to report.
    fn carry_out(&mut self, member: &mut Member, seen: usize) -> Done {
        let mut done = Done::default();
        for action in &self.actions[seen..] {
            match action {
                Action::Send(_) => self.sent += 1,
                Action::Persist(write) => done.written = Some(write.seq),
                Action::Apply { through } => {
                    member.apply(*through);
                    done.applied = Some(*through);
                }
                Action::Respond { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome}");
                    self.committed += 1;
                }
                Action::Halt(violation) => panic!("{violation}"),
                Action::Restore(_)
                | Action::FetchSnapshot { .. }
                | Action::LoadEntries { .. }
                | Action::TakeSnapshot => {
                    panic!("{action:?}: nothing leaves these logs")
                }
            }
        }
        done
    }

    /// Delivers until nothing is on its way.
    fn deliver(&mut self, group: &mut Group) {
        self.deliver_to(group, |_| true);
    }

    /// The same, where messages to some are lost.
    fn deliver_to(&mut self, group: &mut Group, reaches: impl Fn(NodeId) -> bool) {
        let mut done = std::mem::take(&mut self.spare);
        while !self.actions.is_empty() {
            std::mem::swap(&mut self.actions, &mut done);
            for action in done.drain(..) {
                if let Action::Send(message) = action
                    && reaches(message.to.id)
                {
                    self.step(group, message.to.id, Event::Receive(message));
                }
            }
        }
        self.spare = done;
    }

    /// Wakes the members whose deadline has come.
    fn tick(&mut self, group: &mut Group) {
        for position in 0..group.members.len() {
            if group.members[position].raft.deadline() <= self.now {
                self.step(group, member(position as u64 + 1), Event::Wake);
            }
        }
    }

    /// Lets time pass until `then`, with everything that happens on the way.
    fn pass_time(&mut self, group: &mut Group, then: Instant) {
        while let Some(next) = next_deadline(group)
            && next <= then
        {
            self.now = next;
            self.tick(group);
            self.deliver(group);
        }
        self.now = then;
    }

    /// Lets time pass until there is a leader, and everything is quiet.
    fn elect(&mut self, group: &mut Group) -> NodeId {
        loop {
            let next = next_deadline(group).expect("there are members");
            self.pass_time(group, next);
            if let Some(leader) = group.leader() {
                return leader;
            }
        }
    }
}

fn next_deadline(group: &Group) -> Option<Instant> {
    group.members.iter().map(|member| member.raft.deadline()).min()
}

fn membership(members: u64) -> Membership {
    Membership::of((1..=members).map(member)).expect("a group of different members")
}

fn member(id: u64) -> NodeId {
    NodeId::new(id).expect("ids begin at one")
}

/// A payload is its number and zeros.
fn proposal(number: u64, bytes: &mut [u8]) -> Proposal {
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Proposal { request: RequestId(number), payload: Payload::from(&*bytes) }
}

// ----------------------------------------------------------------------------------------------------------
// Counting
// ----------------------------------------------------------------------------------------------------------

/// What a workload cost, all operations together.
struct Cost {
    operations: u64,
    wall_ns: u64,
    allocations: u64,
    allocated_bytes: u64,
    messages: u64,
    heap_bytes_per_op: Option<f64>,
}

impl Cost {
    fn to_json(&self, workload: Choice, n: u64) -> serde_json::Value {
        let per_op = |total| ratio(total, self.operations);
        let mut line = json!({
            "workload": workload.name(),
            "n": n,
            "operations": self.operations,
            "wall_ns_per_op": per_op(self.wall_ns),
            "allocations_per_op": per_op(self.allocations),
            "allocated_bytes_per_op": per_op(self.allocated_bytes),
            "messages_per_op": per_op(self.messages),
        });
        if let Some(bytes) = self.heap_bytes_per_op {
            line["heap_bytes_per_op"] = json!(bytes);
        }
        line
    }
}

/// To two decimals.
fn ratio(total: u64, count: u64) -> f64 {
    (total as f64 / count as f64 * 100.0).round() / 100.0
}

fn measure(host: &mut Host, operations: u64, mut work: impl FnMut(&mut Host)) -> Cost {
    let (sent, allocations, bytes) = (host.sent, counted::allocations(), counted::bytes());
    let start = std::time::Instant::now();
    bench_measured(&mut || work(host));
    Cost {
        operations,
        wall_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        allocations: counted::allocations() - allocations,
        allocated_bytes: counted::bytes() - bytes,
        messages: host.sent - sent,
        heap_bytes_per_op: None,
    }
}

/// Valgrind counts inside this function and nowhere else: its name is the switch.
#[inline(never)]
fn bench_measured(work: &mut dyn FnMut()) {
    work();
    // So that the call above is a call, and not a jump that leaves this function.
    black_box(());
}

/// Runs this program under valgrind with n and with 2n operations: what is the same in both cancels.
/// What valgrind counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counter {
    Instructions,
    /// Reads and writes of memory that is in none of a processor's caches, of which the last has 8 MiB.
    Misses,
}

/// The difference between n and 2n operations, so that beginning and end do not count.
fn count_per_operation(counter: Counter, workload: Choice, n: u64, shape: Shape) -> Result<f64, String> {
    let (shorter, longer) = (count(counter, workload, n, shape)?, count(counter, workload, 2 * n, shape)?);
    let (from, to) = match workload {
        Choice::W2 | Choice::W3 => (n.next_multiple_of(ROUND), (2 * n).next_multiple_of(ROUND)),
        _ => (n, 2 * n),
    };
    Ok(ratio(longer.saturating_sub(shorter), to - from))
}

fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn count(counter: Counter, workload: Choice, n: u64, shape: Shape) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--toggle-collect=*bench_measured*"]);
    valgrind.arg("--callgrind-out-file=/dev/null");
    if counter == Counter::Misses {
        valgrind.args(["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64"]);
    }
    let output = valgrind
        .arg(program)
        .args(["--workload", &workload.name(), "--n", &n.to_string()])
        .args(["--members", &shape.members.to_string(), "--log", &shape.log.to_string()])
        .args(["--groups", &shape.groups.to_string(), "--host", &shape.host.name()])
        .output()
        .map_err(|error| format!("cannot run valgrind, which counts: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let counted: Vec<u64> = collected
        .map(|(_, counts)| counts.split_whitespace().filter_map(|count| count.parse().ok()).collect())
        .unwrap_or_default();
    match (counter, &counted[..]) {
        (Counter::Instructions, &[instructions]) if output.status.success() => Ok(instructions),
        // Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw
        (Counter::Misses, &[.., reads, writes]) if output.status.success() => Ok(reads + writes),
        _ => Err(format!("valgrind did not count:\n{report}")),
    }
}

/// The system's allocator, and how often and for how much it was asked.
mod counted {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[global_allocator]
    static COUNTED: Counted = Counted;

    struct Counted;

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
    static BYTES: AtomicU64 = AtomicU64::new(0);
    static FREED: AtomicU64 = AtomicU64::new(0);

    /// How often memory was asked for, a buffer's growth included.
    pub(crate) fn allocations() -> u64 {
        ALLOCATIONS.load(Relaxed)
    }

    /// How many bytes were asked for; of a buffer's growth, what was added.
    pub(crate) fn bytes() -> u64 {
        BYTES.load(Relaxed)
    }

    /// How many bytes are in use.
    pub(crate) fn live() -> u64 {
        BYTES.load(Relaxed) - FREED.load(Relaxed)
    }

    /// Two plain instructions rather than one that locks: there is one thread.
    fn add(counter: &AtomicU64, count: usize) {
        counter.store(counter.load(Relaxed) + count as u64, Relaxed);
    }

    // SAFETY: every call goes to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            add(&ALLOCATIONS, 1);
            add(&BYTES, layout.size());
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            add(&FREED, layout.size());
            // SAFETY: as above.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            add(&ALLOCATIONS, 1);
            add(&BYTES, size.saturating_sub(layout.size()));
            add(&FREED, layout.size().saturating_sub(size));
            // SAFETY: as above.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }
}
