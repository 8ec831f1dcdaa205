//! A member: its directory, and its process while that runs.

use kontiki_core::action::Action;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::replica::formation::{
    self, Address, AddressBook, Formation, Output, Place, Plan, QuestionId, Record, Setup, Source,
};
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Incarnation, LogId, Member, NodeId, RequestId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One member as its operator knows it: an id, a directory, flags to start it with, and an address.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: NodeId,
    pub(super) group: usize,
    pub(super) is_founder: bool,
    /// How it is started.
    pub(super) plan: Plan,
    /// Where it listens when it runs.
    pub(super) address: String,
    pub(super) directory: Directory,
    pub(super) process: Option<Process>,
    /// How often it was started.
    pub(super) lives: u64,
    /// It is down until then, whatever its supervisor does.
    pub(super) down_until: u64,
    /// Its machine is gone: it is down for good.
    pub(super) is_lost: bool,
    /// When its supervisor starts it again, if that is planned.
    pub(super) starts_at: Option<u64>,
}

/// What lasts.
#[derive(Clone, Default, Debug)]
pub(super) struct Directory {
    pub(super) record: Option<Record>,
    pub(super) log: Option<Durable>,
    pub(super) addresses: Vec<(NodeId, Address)>,
}

/// What is lost in a crash.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) life: u64,
    pub(super) formation: Formation,
    pub(super) book: AddressBook,
    pub(super) raft: Option<Raft>,
    pub(super) place: Option<Place>,
    /// The entry with the membership to which it keeps connections.
    pub(super) configured: Option<LogId>,
    pub(super) links: BTreeMap<NodeId, Link>,
    /// To whom connections are kept.
    pub(super) wanted: BTreeSet<NodeId>,
    pub(super) asked: BTreeMap<RequestId, Asker>,
    pub(super) last_request: u64,
    /// Why it goes no further.
    pub(super) ended: Option<String>,
    /// For what wakes are scheduled already.
    pub(super) wakes: [Option<u64>; 2],
    /// When the last questions were asked: a member that asks without a pause is wrong.
    pub(super) questions: VecDeque<u64>,
}

/// Who waits for the answer to a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Operator,
    Unit { unit: usize, life: u64, question: QuestionId },
}

/// The way from one member to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// It is dialled: what is left to try, and who has been found that may not be the member.
    Dialling { left: VecDeque<String>, doubtful: Option<(usize, u64)> },
    /// It is connected with this life of this unit.
    Connected { unit: usize, life: u64 },
    /// It is dialled again at this time.
    Waiting { until: u64, failures: u32 },
}

/// What a member says of itself in a handshake.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub(super) id: NodeId,
    pub(super) groups: Vec<(ClusterId, Incarnation)>,
    pub(super) address: Address,
    pub(super) known: Vec<(NodeId, Address)>,
}

impl Hello {
    /// Both are in groups, and in none together.
    pub(super) fn is_foreign_to(&self, other: &Self) -> bool {
        let clusters = |hello: &Self| hello.groups.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>();
        let (ours, theirs) = (clusters(self), clusters(other));
        !ours.is_empty() && !theirs.is_empty() && !ours.iter().any(|cluster| theirs.contains(cluster))
    }
}

impl Unit {
    /// Starts the process; `drawn` is a number that no other process draws.
    pub(super) fn start(&mut self, now: u64, drawn: u64) -> Result<(), formation::FormationError> {
        self.lives += 1;
        self.starts_at = None;
        let record =
            self.directory.record.get_or_insert_with(|| Record::blank(self.id, Incarnation(drawn))).clone();
        let setup =
            Setup { plan: self.plan.clone(), wanted: None, drawn: ClusterId(drawn ^ 0xc1), witness: false };
        let mut book = AddressBook::new(self.id);
        book.announce(Address { text: self.address.clone(), stamp: now / 1_000_000 + 1 });
        for (id, address) in &self.directory.addresses {
            book.note(*id, address.clone(), Source::Remembered);
        }
        self.process = Some(Process {
            life: self.lives,
            formation: Formation::new(record, setup)?,
            book,
            raft: None,
            place: None,
            configured: None,
            links: BTreeMap::new(),
            wanted: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_request: 0,
            ended: None,
            wakes: [None; 2],
            questions: VecDeque::new(),
        });
        Ok(())
    }

    /// The process, unless it has ended.
    pub(super) fn running(&mut self, life: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life && process.ended.is_none())
    }

    pub(super) fn alive(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.ended.is_none())
    }

    pub(super) fn member(&self) -> Option<Member> {
        self.directory.record.as_ref().map(Record::member)
    }

    /// Its formation, and what is to be done for it.
    pub(super) fn form(&mut self, now: Instant, input: formation::Input) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(process) = &mut self.process {
            process.formation.handle(now, input, &mut process.book, &mut out);
        }
        out
    }

    /// Opens its log.
    pub(super) fn enter(&mut self, record: &Record, seed: u64, now: Instant) {
        let Some(identity) = record.identity() else { return };
        let founders = record.founders.iter().map(|it| Member::new(it.id, it.incarnation));
        let beginning = match Membership::of(founders) {
            Ok(membership) => Durable::bootstrap(membership),
            Err(_) => Durable::default(),
        };
        let log = self.directory.log.get_or_insert(beginning).clone();
        // A change that waits for a newcomer whose directory was emptied must end within a run.
        let options = Options { seed, catch_up_timeout: Duration::from_secs(5), ..Options::default() };
        let config = Config::new(identity, options).expect("options that fit");
        let raft = Raft::restore(config, log, now).expect("what was written is sound");
        if let Some(process) = &mut self.process {
            process.raft = Some(raft);
        }
    }

    /// Steps its kernel. Its disk takes no time.
    pub(super) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let Some(raft) = self.process.as_mut().and_then(|process| process.raft.as_mut()) else {
            return Vec::new();
        };
        let (mut events, mut left) = (VecDeque::from([event]), Vec::new());
        while let Some(event) = events.pop_front() {
            for action in raft.step(now, event) {
                match action {
                    Action::Persist(write) => {
                        self.directory.log.get_or_insert_default().write(&write);
                        events.push_back(Event::Persisted(write.seq));
                    }
                    Action::Apply { through } => events.push_back(Event::Applied(through)),
                    Action::Restore(snapshot) => events.push_back(Event::Applied(snapshot.last.index)),
                    // There is no state beside the log.
                    Action::FetchSnapshot { snapshot, .. } => {
                        events.push_back(Event::SnapshotFetched(snapshot));
                    }
                    other => left.push(other),
                }
            }
        }
        left
    }
}

impl Process {
    pub(super) fn hello(&self) -> Hello {
        let incarnation = self.formation.record().incarnation;
        Hello {
            id: self.formation.record().id,
            groups: self.formation.cluster().map(|cluster| (cluster, incarnation)).into_iter().collect(),
            address: self.book.own().cloned().unwrap_or_else(|| Address::undated("")),
            known: self.book.known(),
        }
    }

    /// Its place in its group, as its kernel sees it.
    pub(super) fn placed(&self) -> Option<Place> {
        let status = self.raft.as_ref()?.status();
        Some(Place::new(status.configured.index, status.committed, status.kind, status.leader))
    }

    /// The member at the other end of each link that is connected.
    pub(super) fn connected(&self, id: NodeId) -> Option<(usize, u64)> {
        match self.links.get(&id) {
            Some(Link::Connected { unit, life }) => Some((*unit, *life)),
            _ => None,
        }
    }
}
