//! The smallest host of the kernel: three members in one thread, with a queue for a network, a value for a
//! disk, and a clock that jumps to the next deadline.
//!
//! ```text
//! cargo run -p kontiki-core --example minimal_host
//! ```
//!
//! A host of your own has the same four parts: [`Host::carry_out`] is where its sockets, its files, its state
//! machine and its clients go. This one waits for its disk and its state machine before it goes on with the
//! next action, and says so in its options. A host that does other work meanwhile leaves both options off,
//! and reports with `Event::Persisted` and `Event::Applied`; `threads.rs` is one.

use kontiki_core::log::EntryBody;
use kontiki_core::{
    Action, ClusterId, Config, Durable, Event, Identity, Index, Instant, Membership, Message, Nanos, NodeId,
    Options, Outcome, Payload, Proposal, Raft, RequestId, RoleKind,
};
use std::collections::VecDeque;
use std::error::Error;

/// One member and its surroundings.
struct Host {
    id: NodeId,
    /// None while the member is down.
    raft: Option<Raft>,
    /// Survives a crash. A real host keeps this in files, as `kontiki_core::wal` does.
    disk: Durable,
    /// The state machine: a list of words. It is built again from the log at each start.
    words: Vec<String>,
    /// The last entry that the state machine has applied.
    applied: Index,
}

impl Host {
    fn start(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        let options =
            Options { synchronous_writes: true, synchronous_apply: true, seed: 42, ..Options::default() };
        let config = Config::new(Identity::new(ClusterId(7), self.id), options)?;
        (self.words, self.applied) = (Vec::new(), Index::ZERO);
        self.raft = Some(Raft::restore(config, self.disk.clone(), now)?);
        Ok(())
    }

    /// One step of the kernel, and all that it asks for. Returns what goes to other members.
    fn step(&mut self, now: Instant, event: Event) -> Vec<Message> {
        let mut outbox = Vec::new();
        if let Some(raft) = &mut self.raft {
            for action in raft.step(now, event) {
                self.carry_out(action, &mut outbox);
            }
        }
        outbox
    }

    /// Does what the kernel asks for.
    fn carry_out(&mut self, action: Action, outbox: &mut Vec<Message>) {
        match action {
            // The network. A message may get lost, be repeated, or arrive late.
            Action::Send(message) => outbox.push(message),
            // The disk. The write must be synced before the next action is begun.
            Action::Persist(write) => self.disk.write(&write),
            // The state machine. Entries without data are Raft's own.
            Action::Apply { through } => {
                let log = self.raft.iter().flat_map(|raft| raft.log().entries(self.applied, through));
                for entry in log {
                    if let EntryBody::Data(word) = &entry.body {
                        self.words.push(String::from_utf8_lossy(word).into_owned());
                    }
                }
                self.applied = through;
            }
            // The clients. Each request gets exactly one outcome.
            Action::Respond { request, outcome } => {
                println!("member {}: request {} is {outcome}", self.id, request.0);
                assert!(matches!(outcome, Outcome::Committed(_)), "nothing went wrong");
            }
            // The operator.
            Action::Halt(violation) => panic!("member {} halted: {violation}", self.id),
            // Snapshots. This host takes none and evicts nothing from memory, so it is never asked for one.
            other => unreachable!("{other:?}"),
        }
    }
}

/// Three hosts, the messages between them, and the time.
struct Cluster {
    hosts: Vec<Host>,
    network: VecDeque<Message>,
    now: Instant,
}

impl Cluster {
    fn new() -> Result<Self, Box<dyn Error>> {
        let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
        // Each member of a new group starts from the same membership.
        let disk = Durable::bootstrap(Membership::of(ids)?);
        let host = |id| Host { id, raft: None, disk: disk.clone(), words: Vec::new(), applied: Index::ZERO };
        let mut cluster = Self { hosts: ids.map(host).into(), network: VecDeque::new(), now: Instant::ZERO };
        cluster.hosts.iter_mut().try_for_each(|host| host.start(Instant::ZERO))?;
        Ok(cluster)
    }

    /// Gives a member an event, and then delivers messages until there are none.
    fn tell(&mut self, member: usize, event: Event) {
        self.network.extend(self.hosts[member].step(self.now, event));
        while let Some(message) = self.network.pop_front() {
            if let Some(to) = self.hosts.iter_mut().find(|host| host.id == message.to.id) {
                self.network.extend(to.step(self.now, Event::Receive(message)));
            }
        }
    }

    /// Lets time pass until this holds: jumps to the first deadline, and wakes the member that has it.
    fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let end = self.now + Nanos::new(60_000_000_000);
        while !holds(self) {
            assert!(self.now < end, "after a minute it still does not hold");
            let deadline = |host: &Host| host.raft.as_ref().map(Raft::deadline);
            let next = (0..3).filter_map(|at| deadline(&self.hosts[at]).map(|due| (due, at))).min();
            let (due, member) = next.expect("a member runs");
            self.now = self.now.max(due);
            self.tell(member, Event::Wake);
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |raft: &Raft| raft.status().role == RoleKind::Leader;
        self.hosts.iter().position(|host| host.raft.as_ref().is_some_and(leads))
    }

    /// Elects a leader if there is none, and has it take this word.
    fn propose(&mut self, request: u64, word: &str) {
        self.until(|cluster| cluster.leader().is_some());
        let leader = self.leader().expect("there is one now");
        let proposal = Proposal { request: RequestId(request), payload: Payload::from(word) };
        self.tell(leader, Event::Propose(proposal));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut cluster = Cluster::new()?;
    cluster.propose(1, "one");
    cluster.propose(2, "two");

    let crashed = cluster.leader().expect("it has just answered");
    println!("member {} crashes", cluster.hosts[crashed].id);
    cluster.hosts[crashed].raft = None;
    cluster.propose(3, "three");

    let now = cluster.now;
    cluster.hosts[crashed].start(now)?;
    cluster.until(|cluster| cluster.hosts.iter().all(|host| host.words.len() == 3));
    for host in &cluster.hosts {
        println!("member {}: {:?}", host.id, host.words);
        assert_eq!(host.words, ["one", "two", "three"]);
    }
    let raft = cluster.hosts[crashed].raft.as_ref().expect("it runs again");
    assert!(raft.status().applied > Index::new(3), "and each leader's blank entries");
    Ok(())
}
