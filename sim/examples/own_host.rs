//! A host of one's own around the bare kernel, under lost messages and crashes: `cargo run -p kontiki-sim
//! --example own_host`.
//!
//! Three members run in one thread, on the simulator's network, disks and clocks, and a [`Contract`] watches
//! each. With `--hasty` a host reports its writes before they are synced: promises leave that a crash takes
//! back, and the contract says so.

use kontiki_core::log::EntryBody;
use kontiki_core::wal::{Operation, Wal, WalOptions};
use kontiki_core::{
    Action, ClusterId, Config, Durable, Event, Identity, Index, Membership, NodeId, Options, Payload,
    Proposal, Raft, RequestId, wire,
};
use kontiki_sim::clock::Clock;
use kontiki_sim::contract::Contract;
use kontiki_sim::network::Network;
use kontiki_sim::scenario::{Profile, Scenario};
use kontiki_sim::storage::SimDisk;
use kontiki_sim::stream::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;

/// How long a run takes, in nanoseconds.
const END: u64 = 20_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// A host: the loop around one kernel.
struct Host {
    id: NodeId,
    clock: Clock,
    disk: SimDisk,
    contract: Option<Contract>,
    /// None while it is down.
    running: Option<(Raft, Wal)>,
    /// What is left to do before the job of the log is durable.
    syncing: Option<Vec<Operation>>,
    applied: Index,
    words: Vec<Payload>,
    /// How often it has started: what is meant for an earlier life is void.
    life: u32,
}

/// What will happen to a host, and in which life of it.
enum Happening {
    Wake(u32),
    Frame(Vec<u8>),
    Synced(u32),
    Propose(u64),
    Crash,
    Start,
}

/// The hosts, what is between them, and what will happen.
struct World {
    hosts: Vec<Host>,
    network: Network,
    stream: Stream,
    now: u64,
    queue: BTreeMap<(u64, u64), (usize, Happening)>,
    sequence: u64,
    begin: Durable,
    hasty: bool,
}

type Done = Result<(), Box<dyn Error>>;

impl World {
    fn new(seed: u64, hasty: bool) -> Result<Self, Box<dyn Error>> {
        let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
        let host = |id: NodeId| Host {
            id,
            clock: Clock::new(0, [-50, 0, 50][id.get() as usize - 1]),
            disk: SimDisk::default(),
            contract: None,
            running: None,
            syncing: None,
            applied: Index::ZERO,
            words: Vec::new(),
            life: 0,
        };
        let mut spec = Scenario::draw(seed, 3, Profile::Calm).network;
        (spec.drop, spec.duplicate, spec.corrupt) = (500, 500, 100);
        let mut world = Self {
            hosts: ids.map(host).into(),
            network: Network::new(seed, spec, vec![0; 3]),
            stream: Stream::named(seed, "own host", 0),
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            begin: Durable::bootstrap(Membership::of(ids)?),
            hasty,
        };
        (0..3).for_each(|host| world.schedule(0, host, Happening::Start));
        for number in 0..200 {
            let (at, host) = (world.stream.below(END), world.stream.below(3) as usize);
            world.schedule(at, host, Happening::Propose(number));
        }
        for _ in 0..20 {
            let (at, host) = (world.stream.below(END), world.stream.below(3) as usize);
            world.schedule(at, host, Happening::Crash);
        }
        Ok(world)
    }

    fn schedule(&mut self, at: u64, host: usize, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), (host, what));
    }

    fn run(&mut self) -> Done {
        while let Some(((at, _), (host, what))) = self.queue.pop_first().filter(|((at, _), _)| *at < END) {
            self.now = at;
            match what {
                Happening::Start => self.start(host)?,
                Happening::Crash => self.crash(host),
                Happening::Synced(life) if life == self.hosts[host].life => self.synced(host)?,
                Happening::Wake(life) if life == self.hosts[host].life => self.step(host, Event::Wake)?,
                Happening::Frame(bytes) => {
                    // A frame that was damaged on its way is dropped.
                    if let Ok((message, _)) = wire::decode(&bytes, wire::max_body(&Options::default())) {
                        self.step(host, Event::Receive(message))?;
                    }
                }
                Happening::Propose(number) => {
                    let payload = Payload::from(&number.to_le_bytes()[..]);
                    self.step(host, Event::Propose(Proposal { request: RequestId(number), payload }))?;
                }
                Happening::Synced(_) | Happening::Wake(_) => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, at: usize) -> Done {
        let host = &mut self.hosts[at];
        let identity = Identity::new(ClusterId(7), host.id);
        let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
        let recovery = Wal::open(&mut host.disk, identity, options, &self.begin)?;
        let config = Config::new(identity, Options { seed: host.id.get(), ..Options::default() })?;
        // The contract remembers what the last life had reported as durable.
        host.contract = Some(match &host.contract {
            Some(contract) => contract.restart(&config, &recovery.durable)?,
            None => Contract::new(&config, &recovery.durable),
        });
        let raft = Raft::restore(config, recovery.durable, host.clock.local(self.now))?;
        (host.applied, host.words) = (Index::ZERO, Vec::new());
        host.running = Some((raft, recovery.wal));
        self.step(at, Event::Wake)
    }

    fn crash(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.running.take().is_some() {
            host.disk.crash(&mut self.stream);
            host.syncing = None;
            host.life += 1;
            let pause = self.stream.below(500) * MILLISECOND;
            self.schedule(self.now + pause, at, Happening::Start);
        }
    }

    /// One step of the kernel, watched by the contract, and all that comes of it.
    fn step(&mut self, at: usize, event: Event) -> Done {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let host = &mut self.hosts[at];
            let (Some((raft, _)), Some(contract)) = (&mut host.running, &mut host.contract) else {
                return Ok(());
            };
            let actions = raft.step(host.clock.local(self.now), event.clone());
            contract.watch(&event, &actions, &raft.status())?;
            for action in actions {
                events.extend(self.carry_out(at, action)?);
            }
        }
        let host = &self.hosts[at];
        let deadline = host.running.as_ref().and_then(|(raft, _)| host.clock.when(raft.deadline()));
        if let Some(due) = deadline {
            self.schedule(due, at, Happening::Wake(host.life));
        }
        Ok(())
    }

    /// Does what the kernel asks for, and returns the event that reports it, if there is one.
    fn carry_out(&mut self, at: usize, action: Action) -> Result<Option<Event>, Box<dyn Error>> {
        let host = &mut self.hosts[at];
        let Some((raft, wal)) = &mut host.running else { return Ok(None) };
        match action {
            Action::Send(message) => {
                let mut frame = Vec::new();
                wire::encode(&message, &mut frame);
                let to = message.to.id.get() as usize - 1;
                for (arrival, frame) in self.network.carry(self.now, at, to, &frame) {
                    self.schedule(arrival, to, Happening::Frame(frame));
                }
            }
            Action::Persist(write) => {
                let seq = write.seq;
                wal.submit(write);
                self.begin_sync(at)?;
                // The mistake: it is written, and not yet synced.
                return Ok(self.hasty.then_some(Event::Persisted(seq)));
            }
            Action::Apply { through } => {
                for entry in raft.log().entries(host.applied, through) {
                    if let EntryBody::Data(word) = &entry.body {
                        host.words.push(word.clone());
                    }
                }
                host.applied = through;
                return Ok(Some(Event::Applied(through)));
            }
            // Its clients do not wait.
            Action::Respond { .. } => {}
            other => return Err(format!("member {} is not prepared for {other:?}", host.id).into()),
        }
        Ok(None)
    }

    /// Writes what waits to be written, and begins to sync it, unless a sync is under way.
    fn begin_sync(&mut self, at: usize) -> Done {
        let host = &mut self.hosts[at];
        let Some((_, wal)) = &mut host.running else { return Ok(()) };
        while let Some(operations) = wal.upkeep() {
            perform(&mut host.disk, &operations)?;
            wal.upkeep_done(Ok(()));
        }
        if let Some(mut operations) = wal.next_job() {
            let is_sync = |operation: &Operation| matches!(operation, Operation::Sync(_));
            let first = operations.iter().position(is_sync).unwrap_or(operations.len());
            let rest = operations.split_off(first);
            perform(&mut host.disk, &operations)?;
            host.syncing = Some(rest);
            let (life, takes) = (host.life, self.stream.between(1, 30) * MILLISECOND);
            self.schedule(self.now + takes, at, Happening::Synced(life));
        }
        Ok(())
    }

    /// What was written is durable, and now the kernel may hear of it.
    fn synced(&mut self, at: usize) -> Done {
        let host = &mut self.hosts[at];
        let (Some((_, wal)), Some(rest)) = (&mut host.running, host.syncing.take()) else { return Ok(()) };
        perform(&mut host.disk, &rest)?;
        let seq = wal.completed();
        self.begin_sync(at)?;
        if self.hasty { Ok(()) } else { self.step(at, Event::Persisted(seq)) }
    }
}

fn perform(disk: &mut SimDisk, operations: &[Operation]) -> Done {
    for operation in operations {
        operation.perform(disk)?;
    }
    Ok(())
}

/// Runs a seed. Returns how much was committed.
pub(crate) fn run(seed: u64, hasty: bool) -> Result<usize, Box<dyn Error>> {
    let mut world = World::new(seed, hasty)?;
    world.run()?;
    let longest = world.hosts.iter().max_by_key(|host| host.words.len()).expect("there are three");
    for host in &world.hosts {
        assert!(longest.words.starts_with(&host.words), "member {} has applied something else", host.id);
    }
    Ok(longest.words.len())
}

fn main() -> Done {
    let hasty = std::env::args().any(|argument| argument == "--hasty");
    let mut committed = 0;
    for seed in 0..20 {
        committed += run(seed, hasty).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    println!("20 seeds, {committed} entries applied: the contract is kept");
    Ok(())
}
