//! The smallest host: members with disks in memory, a network that does as it is told, and a clock that
//! jumps.

use crate::action::Action;
use crate::config::{self, Config};
use crate::durable::Durable;
use crate::event::Event;
use crate::kv::{self, Kv};
use crate::log::Entry;
use crate::machine::{self, Command, Machine, SessionId};
use crate::membership::{Change, Membership};
use crate::raft::Raft;
use crate::replica::frame::{self, Decoded};
use crate::replica::{
    Answer, Ask, DiskJob, Halt, Input, Lane, MachineJob, Output, Replica, ReplicaOptions, Watch, Worker,
};
use crate::status::{RoleKind, Status};
use crate::time::{Instant, Nanos};
use crate::types::{ClusterId, Identity, Incarnation, Index, Member, NodeId, Payload, RequestId};
use crate::wal::{self, DiskError, FileName, MemoryDisk, Operation, Wal};
use crate::wire;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

/// A frame on its way.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) lane: Lane,
    pub(super) frame: Decoded,
    /// How often its sender had synced its log's files by then.
    pub(super) syncs: usize,
    bytes: Vec<u8>,
}

/// One member with its surroundings.
pub(super) struct Host {
    pub(super) member: Member,
    pub(super) config: config::Options,
    pub(super) options: ReplicaOptions,
    pub(super) wal: wal::WalOptions,
    begin: Durable,
    pub(super) disk: MemoryDisk,
    pub(super) replica: Option<Replica>,
    pub(super) worker: Worker<Kv>,
    jobs: BTreeMap<Lane, VecDeque<DiskJob>>,
    /// How often this life has synced in the lane of the log.
    syncs: usize,
    machine: VecDeque<MachineJob>,
    pub(super) answers: Vec<(RequestId, Answer)>,
    pub(super) watch: Steps,
    pub(super) halted: Option<Halt>,
    /// Set while the state machine does nothing.
    pub(super) machine_stands: bool,
    /// Set while jobs of this lane are not done.
    pub(super) lane_stands: Option<Lane>,
    /// What becomes of jobs instead of being done.
    pub(super) disk_error: Option<(Lane, DiskError)>,
}

/// Counts the kernel's steps, and checks that it is shown all of each.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) steps: u64,
    pub(super) elections: u64,
}

impl Watch for Steps {
    fn step(&mut self, _: Instant, event: &Event, actions: &[Action], before: &Status, raft: &Raft) {
        self.steps += 1;
        let after = raft.status();
        self.elections += u64::from(before.role != RoleKind::Leader && after.role == RoleKind::Leader);
        let persists = actions.iter().any(|action| matches!(action, Action::Persist(_)));
        assert!(persists || before.last == after.last, "{event:?} changed the log and wrote nothing");
    }
}

/// What becomes of a frame: how often it arrives.
pub(super) type Network = Box<dyn FnMut(&Wire) -> usize>;

pub(super) struct Group {
    pub(super) hosts: Vec<Host>,
    pub(super) now: Instant,
    pub(super) frames: VecDeque<Wire>,
    pub(super) network: Network,
    /// Set to take frames from the back of the queue.
    pub(super) reorders: bool,
    requests: u64,
}

pub(super) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(super) fn small() -> ReplicaOptions {
    ReplicaOptions { snapshot_chunk_bytes: 64, snapshot_window: 3, ..ReplicaOptions::default() }
}

impl Group {
    /// This many members that know one another.
    pub(super) fn of(count: u64, options: &ReplicaOptions) -> Self {
        Self::with(count, &config::Options::default(), options)
    }

    pub(super) fn with(count: u64, config: &config::Options, options: &ReplicaOptions) -> Self {
        let begin = Durable::bootstrap(Membership::of((1..=count).map(node)).unwrap());
        let mut group = Self {
            hosts: Vec::new(),
            now: Instant::ZERO,
            frames: VecDeque::new(),
            network: Box::new(|_| 1),
            reorders: false,
            requests: 0,
        };
        for id in 1..=count {
            group.add(id, &begin, config, options);
        }
        group
    }

    fn add(&mut self, id: u64, begin: &Durable, config: &config::Options, options: &ReplicaOptions) {
        let host = Host {
            member: node(id).into(),
            config: config::Options { seed: 7, ..config.clone() },
            options: options.clone(),
            wal: wal::WalOptions { segment_bytes: 64 << 10, ..wal::WalOptions::default() },
            begin: begin.clone(),
            disk: MemoryDisk::default(),
            replica: None,
            worker: Worker::new(Machine::new(Kv::default())),
            jobs: BTreeMap::new(),
            syncs: 0,
            machine: VecDeque::new(),
            answers: Vec::new(),
            watch: Steps::default(),
            halted: None,
            machine_stands: false,
            lane_stands: None,
            disk_error: None,
        };
        self.hosts.push(host);
        self.start(id);
    }

    /// One more member, which knows of no group.
    pub(super) fn join(&mut self, id: u64) {
        let (config, options) = (self.hosts[0].config.clone(), self.hosts[0].options.clone());
        self.add(id, &Durable::default(), &config, &options);
    }

    /// How many jobs of this lane are not done.
    pub(super) fn jobs(&mut self, id: u64, lane: Lane) -> usize {
        self.host(id).jobs.get(&lane).map_or(0, VecDeque::len)
    }

    pub(super) fn host(&mut self, id: u64) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.member.id == node(id)).unwrap()
    }

    pub(super) fn replica(&self, id: u64) -> &Replica {
        let host = self.hosts.iter().find(|host| host.member.id == node(id)).unwrap();
        host.replica.as_ref().unwrap()
    }

    /// Starts a member from what its disk holds.
    pub(super) fn start(&mut self, id: u64) {
        let now = self.now;
        let host = self.host(id);
        let identity = Identity::new(ClusterId(7), host.member);
        let recovery = Wal::open(&mut host.disk, identity, host.wal, &host.begin).unwrap();
        let config = Config::new(identity, host.config.clone()).unwrap();
        host.replica = Some(Replica::open(config, host.options.clone(), recovery, now).unwrap());
        host.worker = Worker::new(Machine::new(Kv::default()));
        host.halted = None;
        self.input(id, Input::Wake);
    }

    /// Crashes in the middle of what is next for the disk: so many operations of each lane's next job are
    /// done.
    pub(super) fn crash_midway(&mut self, id: u64, operations: usize) {
        let host = self.host(id);
        for job in host.jobs.values().filter_map(VecDeque::front) {
            let done = &job.operations[..operations.min(job.operations.len())];
            let _ = crate::replica::perform(done, &mut host.disk);
        }
        self.crash(id);
    }

    /// Everything in memory is gone, and what was not yet done to the disk is not.
    pub(super) fn crash(&mut self, id: u64) {
        let host = self.host(id);
        host.replica = None;
        host.jobs.clear();
        host.syncs = 0;
        host.machine.clear();
    }

    pub(super) fn restart(&mut self, id: u64) {
        self.crash(id);
        self.start(id);
    }

    pub(super) fn input(&mut self, id: u64, input: Input) {
        let now = self.now;
        let host = self.host(id);
        let Some(replica) = &mut host.replica else { return };
        let mut outputs = Vec::new();
        replica.handle_watched(now, input, &mut outputs, &mut host.watch);
        let from = host.member.id;
        let mut frames = Vec::new();
        for output in outputs {
            match output {
                Output::Frame { to, lane, bytes } => {
                    assert!(host.halted.is_none(), "nothing leaves a member that has halted");
                    let frame = frame::decode(&bytes, wire::VERSION, 1 << 24).unwrap();
                    frames.push(Wire { from, to: to.id, lane, frame, syncs: host.syncs, bytes });
                }
                Output::Disk(job) => host.jobs.entry(job.lane).or_default().push_back(job),
                Output::Machine(job) => host.machine.push_back(job),
                Output::Answer { request, answer } => host.answers.push((request, answer)),
                Output::Halt(halt) => assert!(host.halted.replace(halt).is_none(), "halted twice"),
            }
        }
        self.frames.extend(frames);
    }

    /// Does one thing that can be done now, if there is any.
    fn act(&mut self) -> bool {
        let frame = if self.reorders { self.frames.pop_back() } else { self.frames.pop_front() };
        if let Some(wire) = frame {
            for _ in 0..(self.network)(&wire) {
                self.input(wire.to.get(), Input::Frame { bytes: wire.bytes.clone() });
            }
            return true;
        }
        for position in 0..self.hosts.len() {
            let host = &mut self.hosts[position];
            let id = host.member.id.get();
            if let Some(input) = host.work() {
                input.into_iter().for_each(|input| self.input(id, input));
                return true;
            }
        }
        false
    }

    /// Does everything that can be done now; or much of it: members that will not stop talking are cut short,
    /// since here no time passes between a question and its answer.
    pub(super) fn settle(&mut self) {
        let mut left = 5_000;
        while left > 0 && self.act() {
            left -= 1;
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + Nanos::new(millis * 1_000_000);
        self.settle();
        let mut last = None;
        loop {
            let due = |host: &Host| host.replica.as_ref().map(|replica| (replica.deadline(), host.member.id));
            let next = self.hosts.iter().filter_map(due).min();
            let Some((at, id)) = next.filter(|(at, _)| *at <= end) else { break };
            assert_ne!(last.replace((at, id)), Some((at, id)), "due again at once");
            self.now = self.now.max(at);
            self.input(id.get(), Input::Wake);
            self.settle();
        }
        self.now = end;
    }

    /// Lets time pass until this holds.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..3_000 {
            if holds(self) {
                return;
            }
            self.run(10);
        }
        panic!("never came to pass: {what}");
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |host: &&Host| {
            host.replica.as_ref().is_some_and(|replica| replica.status().role == RoleKind::Leader)
        };
        let latest = |host: &&Host| host.replica.as_ref().map(|replica| replica.status().term);
        self.hosts.iter().filter(leads).max_by_key(latest).map(|host| host.member.id.get())
    }

    pub(super) fn elect(&mut self) -> u64 {
        self.until("a leader that can commit", |group| {
            group.leader().is_some_and(|leader| {
                let status = group.replica(leader).status();
                group.replica(leader).raft().log().term(status.committed) == Some(status.term)
            })
        });
        self.leader().unwrap()
    }

    pub(super) fn ask(&mut self, id: u64, ask: Ask) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(id, Input::Request { request, ask });
        request
    }

    pub(super) fn answer(&mut self, id: u64, request: RequestId) -> Option<Answer> {
        let answers = &self.host(id).answers;
        let mut own = answers.iter().filter(|(answered, _)| *answered == request);
        let first = own.next().map(|(_, answer)| answer.clone());
        assert!(own.next().is_none(), "{request:?} was answered twice");
        first
    }

    /// Asks and waits for the answer.
    pub(super) fn asked(&mut self, id: u64, ask: Ask) -> Answer {
        let request = self.ask(id, ask);
        self.until("an answer", |group| group.answer(id, request).is_some());
        self.answer(id, request).unwrap()
    }

    pub(super) fn put(&mut self, id: u64, key: &str, value: &str) -> Answer {
        self.asked(id, put(key, value))
    }

    /// Puts this many keys, named by numbers, with values of about this length.
    pub(super) fn fill(&mut self, id: u64, keys: core::ops::Range<u64>, length: usize) {
        for key in keys {
            let value = alloc::format!("{key:>0length$}");
            let answer = self.put(id, &alloc::format!("{key:06}"), &value);
            assert!(matches!(answer, Answer::Applied { .. }), "{answer}");
        }
    }

    pub(super) fn get(&mut self, id: u64, key: &str) -> Option<Vec<u8>> {
        let query = kv::Query::Get { key: key.as_bytes() }.encode();
        let answer = self.asked(id, Ask::Query { query, via: crate::event::ReadVia::Quorum });
        let Answer::Read { answer, .. } = answer else { panic!("not read: {answer}") };
        match kv::Reply::decode(&answer) {
            Ok(kv::Reply::Value(value)) => value,
            other => panic!("no value: {other:?}"),
        }
    }

    pub(super) fn add_voter(&mut self, id: u64) -> RequestId {
        let leader = self.elect();
        let changes = vec![Change::AddVoter(Member::new(node(id), Incarnation(0)))];
        self.ask(leader, Ask::Reconfigure { expected: None, changes, force: false })
    }

    /// Waits until every member has applied the same.
    pub(super) fn converge(&mut self) {
        self.until("all have applied the same", |group| {
            let leader = group.leader();
            let applied = |host: &Host| host.worker.machine().applied();
            let last = leader.map(|id| group.replica(id).status().last);
            group.hosts.iter().filter(|host| host.replica.is_some()).all(|host| Some(applied(host)) == last)
        });
        let digests = self.hosts.iter().filter(|host| host.replica.is_some());
        let digests: Vec<u64> = digests.map(|host| host.worker.machine().digest()).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "states part: {digests:?}");
    }
}

impl Host {
    /// Does the next job, if there is one, and says what to report.
    fn work(&mut self) -> Option<Option<Input>> {
        self.replica.as_ref()?;
        for lane in [Lane::Log, Lane::Bulk] {
            if self.lane_stands == Some(lane) {
                continue;
            }
            if let Some(job) = self.jobs.get_mut(&lane).and_then(VecDeque::pop_front) {
                let grows = |operation: &Operation| {
                    matches!(operation, Operation::Create { .. } | Operation::Write { .. })
                };
                let concerns =
                    |error: &DiskError| *error != DiskError::Full || job.operations.iter().any(grows);
                let is_sync = |operation: &&Operation| {
                    matches!(operation, Operation::Sync(_) | Operation::SyncDirectory)
                };
                if lane == Lane::Log {
                    self.syncs += job.operations.iter().filter(is_sync).count();
                }
                let error = self.disk_error.clone();
                return Some(Some(
                    match error.filter(|(broken, error)| *broken == lane && concerns(error)) {
                        Some((_, error)) => Input::Disk { job: job.id, result: Err(error) },
                        None => job.run(&mut self.disk),
                    },
                ));
            }
        }
        if self.machine_stands {
            return None;
        }
        let job = self.machine.pop_front()?;
        if let MachineJob::Apply(entries) = &job {
            let bytes: u64 = entries.iter().map(Entry::size).sum();
            assert!(entries.len() == 1 || bytes <= self.options.apply_bytes, "{bytes} bytes in one job");
        }
        Some(self.worker.run(job).map(Input::Machine))
    }

    pub(super) fn snapshots(&self) -> usize {
        self.disk.files.keys().filter(|file| matches!(file, FileName::Snapshot { .. })).count()
    }

    pub(super) fn applied(&self) -> Index {
        self.worker.machine().applied().index
    }
}

pub(super) fn put(key: &str, value: &str) -> Ask {
    let put = kv::Command::Put { key: key.as_bytes(), value: value.as_bytes() }.encode();
    Ask::Command(Command::Plain(&put).encode())
}

pub(super) fn delete(key: &str) -> Ask {
    let delete = kv::Command::Delete { key: key.as_bytes() }.encode();
    Ask::Command(Command::Plain(&delete).encode())
}

/// A command of a session, with everything before it acknowledged.
pub(super) fn in_session(session: SessionId, sequence: u64, command: &kv::Command<'_>) -> Payload {
    let command = command.encode();
    Command::InSession { session, sequence, acknowledged: sequence, command: &command }.encode()
}

pub(super) fn reply(answer: &Answer) -> kv::Reply {
    match answer {
        Answer::Applied { answer: machine::Answer::Applied(reply), .. } => kv::Reply::decode(reply).unwrap(),
        other => panic!("not applied: {other}"),
    }
}
