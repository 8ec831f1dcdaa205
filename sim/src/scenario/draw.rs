//! Drawing scenarios from seeds.
//!
//! Each seed turns a random subset of features and faults on, with random intensities (swarm testing, Groce
//! et al., ISSTA 2012): a run with everything on at once hides what needs something to be off. Latencies of
//! network and disk are spread across the election timeout, or the interesting interleavings never happen.

use super::{
    Alteration, Bandwidth, DiskSpec, Fault, Heal, Leading, MemberSpec, NetworkSpec, OldMessageSpec,
    Operation, ReplicaSpec, Scenario, SnapshotSpec, Target, TimedFault, TimedOperation, WorkloadSpec,
};
use crate::fault::{Entry, FaultPlan, Realm, span_us, target};
use crate::stream::Stream;
use kontiki_core::config::{MAX_PRIORITY, Options};
use kontiki_core::membership::MemberKind;
use kontiki_core::types::NodeId;
use std::fmt;
use std::time::Duration;

/// What kind of world a seed draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// The network is bad; no member crashes.
    Flaky,
    /// Everything goes wrong.
    Chaos,
    /// A random subset of everything goes wrong: the one to find bugs with.
    Swarm,
    /// The same with full replicas, each a replica with its log on a disk that is not to be trusted.
    Storage,
    /// The same as the swarm with hosts that wait for the disk, for the state machine or for both before they
    /// carry out the next action. Such a host stands still where its disk does.
    Synchronous,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::Flaky, Self::Chaos, Self::Swarm, Self::Storage, Self::Synchronous];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Flaky => "flaky",
            Self::Chaos => "chaos",
            Self::Swarm => "swarm",
            Self::Storage => "storage",
            Self::Synchronous => "synchronous",
        })
    }
}

/// What may be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Network,
    Member,
    Setting,
}

/// The slowest sync that is drawn for good, in thousandths of the longest election timeout; and the slowest
/// way, of the shortest, so that an answer comes in half of it where both are slow: beyond that elections
/// cannot be won.
const SLOWEST_SYNC: u64 = 3_000;
const SLOWEST_LINK: u64 = 120;

struct Draw {
    seed: u64,
    /// What the part of the scenario at hand draws from.
    stream: Stream,
    profile: Profile,
    ids: Vec<NodeId>,
    /// What each is in the beginning, and whether it is a witness.
    roles: Vec<(MemberKind, bool)>,
    /// How far clocks may be from true, in parts per million.
    drift_ppm: u64,
    leases: bool,
    election_min_us: u64,
    election_max_us: u64,
}

impl Scenario {
    /// The scenario of a seed.
    ///
    /// ```
    /// use kontiki_sim::scenario::{Profile, Scenario};
    /// let scenario = Scenario::draw(7, 5, Profile::Swarm);
    /// assert_eq!(scenario, Scenario::draw(7, 5, Profile::Swarm));
    /// scenario.validate().expect("every drawn scenario can be run");
    /// ```
    pub fn draw(seed: u64, members: u32, profile: Profile) -> Self {
        let mut stream = part(seed, "timing");
        let election_min_us = stream.skewed(50_000, 1_000_000);
        let election_max_us = election_min_us * stream.between(14, 25) / 10;
        let ids: Vec<_> = (1..=u64::from(members.max(1))).filter_map(NodeId::new).collect();
        let roles = vec![(MemberKind::Voter, false); ids.len()];
        let drift_ppm = 200_000;
        Draw { seed, stream, profile, ids, roles, drift_ppm, leases: false, election_min_us, election_max_us }
            .scenario()
    }
}

/// Each part of a scenario has a stream of its own, so what is added to one leaves the others as they were.
fn part(seed: u64, name: &str) -> Stream {
    Stream::named(seed, &format!("scenario {name}"), 0)
}

impl Draw {
    /// Draws a part of the scenario.
    fn part<T>(&mut self, name: &str, draw: impl FnOnce(&mut Self) -> T) -> T {
        self.stream = part(self.seed, name);
        draw(self)
    }

    /// Whether this feature is on in this seed.
    fn on(&mut self, kind: Kind) -> bool {
        let coin = self.stream.coin();
        match (self.profile, kind) {
            (Profile::Calm, _) => false,
            (Profile::Flaky, Kind::Network) | (Profile::Chaos, Kind::Network | Kind::Member) => true,
            (Profile::Flaky, _) => false,
            (Profile::Chaos, Kind::Setting)
            | (Profile::Swarm | Profile::Storage | Profile::Synchronous, _) => coin,
        }
    }

    /// Odds for a feature that is on: seldom, or often.
    fn odds(&mut self, kind: Kind, most: u64) -> u32 {
        let odds = self.stream.skewed(20, most) as u32;
        if self.on(kind) { odds } else { 0 }
    }

    fn scenario(mut self) -> Scenario {
        // Mostly short: what the faults leave behind is looked at when they are over.
        let chaos_us = self.election_max_us * self.stream.skewed(3, 40);
        self.part("roles", Self::cast);
        let options = self.part("options", Self::options);
        let mut scenario = Scenario {
            seed: self.seed,
            members: self.part("members", Self::members),
            network: self.part("links", Self::network),
            old_messages: self.part("old messages", Self::old_messages),
            contests: None,
            disk: self.part("disks", Self::disk),
            workload: self.part("clients", Self::workload),
            faults: self.part("faults", |draw| draw.faults(chaos_us)),
            custom_faults: Vec::new(),
            chaos_us,
            until_us: None,
            heal: self.part("healing", |draw| draw.heal(&options)),
            quiet: self.part("quiet", |draw| draw.on(Kind::Setting)),
            snapshots: self.part("snapshots", Self::snapshots),
            operations: self.part("operations", |draw| draw.operations(chaos_us)),
            options,
            replica: None,
            forks: Vec::new(),
        };
        self.part("slow for good", |draw| draw.slow(&mut scenario));
        self.part("bandwidth", |draw| draw.bandwidth(&mut scenario));
        self.part("refusal", |draw| draw.refusal(&mut scenario));
        if self.profile == Profile::Storage {
            scenario.add_storage();
            let can_repair = scenario.replica.as_ref().is_some_and(ReplicaSpec::can_repair);
            scenario
                .faults
                .extend(self.part("faults of disks", |draw| draw.disk_faults(chaos_us, can_repair)));
            if can_repair {
                scenario.faults.extend(self.part("decay", |draw| draw.decay(chaos_us)));
            }
        }
        self.part("errors of operators", |draw| draw.err(&mut scenario));
        self.part("interruptions", |draw| draw.interrupt(&scenario.operations, &mut scenario.faults));
        if matches!(self.profile, Profile::Swarm | Profile::Storage | Profile::Synchronous) {
            scenario.add_coincidences();
            scenario.add_full_successors();
            scenario.add_contests();
        }
        if self.profile == Profile::Synchronous {
            self.part("synchronous", |draw| draw.synchronous(&mut scenario));
        }
        scenario.faults.sort_by_key(|timed| timed.at_us);
        if scenario.churns() {
            // Who has left and does not know it would disturb for ever, were it not for these two (thesis
            // 4.2.3).
            (scenario.options.pre_vote, scenario.options.check_quorum) = (true, true);
        }
        scenario
    }

    /// Hosts wait for their disks, their state machines or both. One whose disk stalls stands still until it
    /// goes on, and one whose disk is dead is.
    fn synchronous(&mut self, scenario: &mut Scenario) {
        let waits_for = self.stream.below(4);
        scenario.options.synchronous_writes = waits_for != 0;
        scenario.options.synchronous_apply = waits_for != 1;
        if !scenario.options.synchronous_writes {
            return;
        }
        for timed in &mut scenario.faults {
            if let Fault::DiskStall { member } = timed.fault {
                timed.fault = Fault::Pause { member };
            }
        }
        if let Heal::Disks(core) = &mut scenario.heal {
            scenario.heal = Heal::Quorum(std::mem::take(core));
        }
    }

    /// Who is what in the beginning: mostly all are voters. Where the membership changes, some begin outside.
    fn cast(&mut self) {
        let hosts = self.ids.len() as u64;
        if self.on(Kind::Setting) && hosts > 1 {
            let voters = self.stream.between(1, hosts) as usize;
            let learns = self.stream.coin();
            for (position, role) in self.roles.iter_mut().enumerate().skip(voters) {
                let learner = learns && position == voters;
                role.0 = if learner { MemberKind::Learner } else { MemberKind::NonMember };
            }
        }
        // Witnesses must be less than half of any set of voters, whichever other members come and go: so
        // there is one at most.
        if self.on(Kind::Setting) && self.stream.coin() && self.voters().len() >= 3 {
            self.roles[2].1 = true;
        }
    }

    fn voters(&self) -> Vec<NodeId> {
        let votes = |(_, (kind, _)): &(&NodeId, &(MemberKind, bool))| *kind == MemberKind::Voter;
        self.ids.iter().zip(&self.roles).filter(votes).map(|(id, _)| *id).collect()
    }

    fn options(&mut self) -> Options {
        let us = Duration::from_micros;
        let defaults = Options::default();
        let heartbeat = self.election_min_us / self.stream.between(3, 6);
        let unusual = |draw: &mut Self| draw.on(Kind::Setting) && draw.stream.coin();
        let check_quorum = !unusual(self);
        let lease_reads = self.on(Kind::Setting) && check_quorum;
        self.leases = lease_reads;
        if lease_reads {
            // What leases allow for, clocks keep to, and now and then go to the very bound.
            self.drift_ppm = self.stream.skewed(200, 200_000);
        }
        let compacts = self.on(Kind::Setting);
        Options {
            election_timeout_min: us(self.election_min_us),
            election_timeout_max: us(self.election_max_us),
            heartbeat_interval: us(heartbeat),
            pre_vote: !unusual(self),
            check_quorum,
            lease_reads,
            max_clock_drift_ppm: if lease_reads {
                self.drift_ppm as u32
            } else {
                defaults.max_clock_drift_ppm
            },
            retained_entries: if compacts {
                self.stream.skewed(1, 100) - 1
            } else {
                defaults.retained_entries
            },
            retained_bytes: if compacts { self.retained_bytes() } else { defaults.retained_bytes },
            max_cached_bytes: if unusual(self) {
                self.stream.skewed(64, 8192)
            } else {
                defaults.max_cached_bytes
            },
            max_waiting_reads: if unusual(self) { self.stream.skewed(1, 8) as usize } else { 1 << 16 },
            catch_up_timeout: us(self.election_max_us * self.stream.skewed(2, 20)),
            max_append_bytes: if unusual(self) {
                self.stream.skewed(1, 4096)
            } else {
                defaults.max_append_bytes
            },
            max_in_flight_messages: if unusual(self) { self.stream.skewed(1, 16) as usize } else { 64 },
            max_in_flight_bytes: if unusual(self) {
                self.stream.skewed(1, 4096)
            } else {
                defaults.max_in_flight_bytes
            },
            max_uncommitted_bytes: if unusual(self) {
                self.stream.skewed(64, 4096)
            } else {
                defaults.max_uncommitted_bytes
            },
            max_waiting_answers: if unusual(self) { self.stream.skewed(2, 64) as usize } else { 4096 },
            ..defaults
        }
    }

    /// From a stream of its own, as it came later than the rest. Less than one entry, or more than all.
    fn retained_bytes(&self) -> u64 {
        part(self.seed, "retained bytes").skewed(1, 100_000) - 1
    }

    fn members(&mut self) -> Vec<MemberSpec> {
        let (priorities, clocks, keeps, applies) =
            (self.on(Kind::Setting), self.on(Kind::Member), self.on(Kind::Setting), self.on(Kind::Setting));
        let drift = self.stream.skewed(100, self.drift_ppm.min(50_000));
        let extreme = self.stream.coin();
        let bound = self.drift_ppm as i64;
        let slowest = self.stream.skewed(10, self.election_max_us);
        let mut member = |&(initially, witness): &(MemberKind, bool)| MemberSpec {
            initially,
            witness,
            priority: if priorities {
                self.stream.between(4, u64::from(MAX_PRIORITY)) as u8
            } else {
                MAX_PRIORITY
            },
            clock_ppm: match (clocks, extreme) {
                (false, _) => 0,
                (true, true) if self.stream.coin() => bound,
                (true, true) => -bound,
                (true, false) => self.stream.between(0, 2 * drift) as i64 - drift as i64,
            },
            keeps_state: keeps && self.stream.coin() && !witness,
            apply_us: if applies { self.stream.below(slowest) } else { 0 },
            sync_us: 0,
            link_us: 0,
        };
        self.roles.iter().map(&mut member).collect()
    }

    /// In some seeds links carry only so much, and a large payload, of up to all that is allowed, takes up to
    /// twice the longest election timeout. What is short takes little of a link.
    fn bandwidth(&mut self, scenario: &mut Scenario) {
        if !(self.on(Kind::Network) && self.stream.below(4) == 0) {
            return;
        }
        let large_bytes = self.stream.skewed(4 << 10, 64 << 10);
        let takes_us = match self.stream.coin() {
            true => self.stream.skewed(self.election_min_us / 20, 2 * self.election_max_us),
            false => self.stream.between(self.election_min_us, 2 * self.election_max_us),
        };
        let heartbeat_us = scenario.options.heartbeat_interval.as_micros().max(1) as u64;
        let bytes_per_ms = (large_bytes * 1_000 / takes_us).max(6_000_000 / heartbeat_us);
        let queue_bytes = large_bytes * self.stream.skewed(2, 64);
        scenario.network.bandwidth = Some(Bandwidth { bytes_per_ms, queue_bytes });
        let workload = &mut scenario.workload;
        workload.batch = 1;
        workload.large = self.stream.between(200, 3_000) as u32;
        workload.large_bytes = large_bytes as u32;
        scenario.options.max_payload_bytes = large_bytes + 256;
        scenario.workload.timeout_us += 2 * scenario.slowest_us();
    }

    /// In some seeds a few voters, less than half, take nothing for most of the run, since their disks are
    /// full or their state machines lag, while all else is well and clients ask for much.
    fn refusal(&mut self, scenario: &mut Scenario) {
        let voters = self.voters();
        if !(self.on(Kind::Member) && self.stream.below(8) == 0) || voters.len() < 3 {
            return;
        }
        let some = self.stream.between(1, (voters.len() as u64 - 1) / 2) as usize;
        let full = self.stream.coin();
        scenario.faults.clear();
        scenario.operations.clear();
        scenario.chaos_us = scenario.chaos_us.min(8 * self.election_max_us);
        for member in self.stream.sample(&voters, some) {
            let at_us = self.stream.below(scenario.chaos_us / 4);
            let fault = Fault::DiskFull { member: Target::Member(member) };
            if full {
                scenario.faults.push(TimedFault { at_us, for_us: scenario.chaos_us, fault });
            } else {
                let slow = &mut scenario.members[member.get() as usize - 1];
                slow.apply_us = self.stream.between(self.election_max_us, 6 * self.election_max_us);
            }
        }
        if !full {
            scenario.options.max_cached_bytes = self.stream.skewed(64, 1_024);
            scenario.options.max_uncommitted_bytes = self.stream.skewed(64, 1_024);
            // It may lead.
            scenario.workload.timeout_us += 4 * scenario.slowest_us();
        }
        scenario.options.max_append_bytes = self.stream.skewed(32, 1_024);
        let NetworkSpec { drop, duplicate, reorder, tail, corrupt, .. } = &mut scenario.network;
        for odds in [drop, duplicate, reorder, tail, corrupt] {
            *odds = 0;
        }
        scenario.workload.clients = 4;
        scenario.workload.think_us = self.election_max_us / 4;
    }

    /// In some seeds disks, links and state machines are slow for good, of one member, of most or of all, and
    /// each as slow as it likes. Clients know it, and wait for longer.
    fn slow(&mut self, scenario: &mut Scenario) {
        let (disks, links, machines) = (self.is_slow(), self.is_slow(), self.is_slow());
        let longest = |permille: u64| (self.election_max_us * permille / 1_000).max(2_000);
        let (sync_us, link_us) = (longest(SLOWEST_SYNC), self.election_min_us * SLOWEST_LINK / 1_000);
        let apply_us = 3 * self.election_max_us;
        let befallen = |draw: &mut Self, on: bool| -> Vec<usize> {
            let all = draw.ids.len();
            let count = *draw.stream.pick(&[1, all / 2 + 1, all]);
            let positions: Vec<_> = (0..all).collect();
            let some = draw.stream.sample(&positions, count);
            if on { some } else { vec![] }
        };
        for member in befallen(self, disks) {
            scenario.members[member].sync_us = self.stream.skewed(1_000, sync_us);
        }
        for member in befallen(self, links) {
            scenario.members[member].link_us = self.stream.skewed(1_000, link_us.max(1_000));
        }
        for member in befallen(self, machines) {
            scenario.members[member].apply_us = self.stream.skewed(1_000, apply_us);
        }
        if disks || links || machines {
            scenario.workload.timeout_us += 4 * scenario.slowest_us();
        }
    }

    /// Whether something is slow for good: in an eighth of the seeds.
    fn is_slow(&mut self) -> bool {
        self.on(Kind::Member) && self.stream.below(4) == 0
    }

    fn network(&mut self) -> NetworkSpec {
        let latency_min_us = self.stream.skewed(50, self.election_min_us / 20);
        let latency_max_us = latency_min_us + self.stream.skewed(50, self.election_min_us / 5);
        NetworkSpec {
            latency_min_us,
            latency_max_us,
            drop: self.odds(Kind::Network, 3_000),
            duplicate: self.odds(Kind::Network, 3_000),
            reorder: self.odds(Kind::Network, 5_000),
            tail: self.odds(Kind::Network, 2_000),
            tail_max_us: latency_max_us + self.stream.skewed(1_000, 3 * self.election_max_us),
            corrupt: self.odds(Kind::Network, 1_000),
            notice: self.odds(Kind::Network, 10_000),
            bandwidth: None,
        }
    }

    fn old_messages(&mut self) -> Option<OldMessageSpec> {
        let on = self.on(Kind::Network) && self.profile != Profile::Flaky;
        on.then(|| OldMessageSpec {
            keep: self.stream.skewed(300, 4_000) as u32,
            each: self.stream.between(2, 6) as u32,
            instead: self.stream.skewed(500, 5_000) as u32,
            again: self.stream.between(0, 5_000) as u32,
            longest_us: self.election_max_us,
        })
    }

    fn disk(&mut self) -> DiskSpec {
        let sync_min_us = self.stream.skewed(20, 2_000);
        let slow = self.on(Kind::Member);
        let spread = self.stream.skewed(100, self.election_max_us);
        let sync_max_us = sync_min_us + if slow { spread } else { 500 };
        DiskSpec {
            sync_min_us,
            sync_max_us,
            tail: self.odds(Kind::Member, 2_000),
            tail_max_us: sync_max_us + self.stream.skewed(1_000, 2 * self.election_max_us),
        }
    }

    fn workload(&mut self) -> WorkloadSpec {
        let large = self.on(Kind::Setting) && self.stream.coin();
        WorkloadSpec {
            left_out: Vec::new(),
            clients: self.stream.between(1, 4) as u32,
            think_us: self.stream.skewed(self.election_max_us / 50, 4 * self.election_max_us),
            timeout_us: self.election_max_us * self.stream.between(1, 3),
            payload_bytes: if large { self.stream.skewed(24, 2_000) as u32 } else { 24 },
            large: 0,
            large_bytes: 0,
            batch: if self.on(Kind::Setting) { self.stream.between(1, 16) as u32 } else { 1 },
            keys: self.stream.skewed(1, 20),
            read: if self.on(Kind::Setting) { self.stream.between(500, 9_000) as u32 } else { 0 },
            lease: if self.stream.coin() { self.stream.between(0, 10_000) as u32 } else { 10_000 },
            anywhere: if self.on(Kind::Setting) { self.stream.between(0, 10_000) as u32 } else { 0 },
            probe: self.stream.coin(),
        }
    }

    fn faults(&mut self, chaos_us: u64) -> Vec<TimedFault> {
        if self.on(Kind::Member) && self.stream.coin() {
            return self.succession(chaos_us);
        }
        let odds = match self.profile {
            Profile::Calm => 0,
            Profile::Flaky | Profile::Chaos => 100,
            Profile::Swarm | Profile::Storage | Profile::Synchronous => 50,
        };
        // Few in many seeds, many in few: of each entry, when half of them are on, or all.
        let most = 1 + self.stream.between(2, 40) * 50 / odds.max(1) / 4;
        let is_drawn = |entry: &Entry| match entry.realm() {
            Realm::Network => true,
            Realm::Member | Realm::Space => self.profile != Profile::Flaky,
            Realm::Clock => self.profile != Profile::Flaky && !self.leases,
            Realm::Sync | Realm::Damage => false,
        };
        self.plan(chaos_us, odds, most).draw(Entry::ALL.iter().copied().filter(is_drawn))
    }

    /// What disks do besides being slow; what they damage only where that can be repaired.
    fn disk_faults(&mut self, chaos_us: u64, can_repair: bool) -> Vec<TimedFault> {
        let odds = if self.stream.below(4) > 0 { 66 } else { 0 };
        let most = 1 + self.stream.skewed(2, 32);
        let is_drawn = |entry: &Entry| match entry.realm() {
            Realm::Network | Realm::Member | Realm::Clock | Realm::Space => false,
            Realm::Sync => true,
            Realm::Damage => can_repair,
        };
        self.plan(chaos_us, odds, most).draw(Entry::ALL.iter().copied().filter(is_drawn))
    }

    /// In a quarter of the scenarios disks damage much.
    fn decay(&mut self, chaos_us: u64) -> Vec<TimedFault> {
        if self.stream.below(4) > 0 {
            return Vec::new();
        }
        let most = self.stream.between(2, 8);
        let plan = FaultPlan { seed: self.stream.number(), ..self.plan(chaos_us, 100, most) };
        plan.draw(Entry::ALL.iter().copied().filter(|entry| entry.realm() == Realm::Damage))
    }

    fn plan(&self, chaos_us: u64, odds: u64, most: u64) -> FaultPlan {
        FaultPlan {
            seed: self.seed,
            ids: self.ids.clone(),
            drift_ppm: self.drift_ppm,
            leases: self.leases,
            election_us: (self.election_min_us, self.election_max_us),
            chaos_us,
            odds,
            most,
        }
    }

    /// One leader after another fails, at about the pace at which they are elected, some of them before they
    /// have sent a message: this leaves entries of many terms behind (paper, figure 8).
    fn succession(&mut self, chaos_us: u64) -> Vec<TimedFault> {
        let crash = self.stream.coin();
        let ambush = self.stream.coin();
        let mut faults = Vec::new();
        let mut at_us = 0;
        while at_us < chaos_us && faults.len() < 40 {
            at_us += self.stream.between(self.election_min_us / 2, 2 * self.election_max_us);
            let ambushed = ambush || self.stream.coin();
            let member = Target::Leading(if ambushed { Leading::NextLeader } else { Leading::Leader });
            let crash = crash != (self.stream.below(4) == 0);
            let after_actions = self.stream.skewed(1, 32) as u32;
            faults.push(TimedFault {
                at_us,
                for_us: self.stream.between(self.election_min_us / 2, 3 * self.election_max_us),
                fault: if crash { Fault::Crash { member, after_actions } } else { Fault::Isolate { member } },
            });
        }
        faults
    }

    fn span_us(&mut self) -> u64 {
        span_us(&mut self.stream, (self.election_min_us, self.election_max_us))
    }

    fn snapshots(&mut self) -> SnapshotSpec {
        let every = self.stream.skewed(1, 200);
        SnapshotSpec {
            every: if self.on(Kind::Setting) { every } else { 0 },
            longest_us: self.stream.skewed(1_000, 3 * self.election_max_us),
            fail: self.odds(Kind::Network, 4_000),
        }
    }

    fn operations(&mut self, chaos_us: u64) -> Vec<TimedOperation> {
        let (changes, transfers) = (self.on(Kind::Setting), self.on(Kind::Setting));
        let stops = self.on(Kind::Member) && self.stream.coin();
        let mut operations = Vec::new();
        let times = |draw: &mut Self, on: bool, most: u64| -> Vec<u64> {
            let count = if on { draw.stream.skewed(1, most) } else { 0 };
            (0..count).map(|_| draw.stream.below(chaos_us)).collect()
        };
        let mut inside: Vec<_> = self.roles.iter().map(|(kind, _)| *kind != MemberKind::NonMember).collect();
        let mut moments = times(self, changes, 12);
        moments.sort_unstable();
        for at_us in moments {
            operations.push(TimedOperation { at_us, operation: self.reconfigure(&mut inside) });
        }
        for at_us in times(self, transfers, 8) {
            let to = self.stream.coin().then(|| *self.stream.pick(&self.ids));
            operations.push(TimedOperation { at_us, operation: Operation::Transfer { to } });
        }
        for at_us in times(self, stops, 6) {
            let (member, for_us) = (target(&mut self.stream, &self.ids), self.span_us());
            operations.push(TimedOperation { at_us, operation: Operation::Shutdown { member, for_us } });
        }
        operations.sort_by_key(|timed| timed.at_us);
        operations
    }

    /// A few changes at once, of whom should be inside by then. Some make no sense by the time they are asked
    /// for, and are refused.
    fn reconfigure(&mut self, inside: &mut [bool]) -> Operation {
        let count = self.stream.skewed(1, 4) as usize;
        let subjects = self.stream.sample(&self.ids, count.min(self.ids.len()));
        let mut change = |draw: &mut Self, id: NodeId| {
            let is_inside = &mut inside[id.get() as usize - 1];
            match (*is_inside, draw.stream.below(10)) {
                (false, 0..=7) => {
                    *is_inside = true;
                    Alteration::Add(id)
                }
                (false, _) | (true, 0) => Alteration::AddLearner(id),
                (true, 1) => Alteration::Promote(id),
                (true, 2 | 3) => Alteration::Demote(id),
                (true, 4) => Alteration::Remove(Target::Leading(Leading::Leader)),
                (true, _) => {
                    *is_inside = false;
                    Alteration::Remove(Target::Member(id))
                }
            }
        };
        Operation::Reconfigure { changes: subjects.into_iter().map(|id| change(self, id)).collect() }
    }

    /// Operators err: they remove a live voter while another is down, wait for a newcomer that does not come,
    /// hand over to a member that is silent, ask for two changes in a hurry, and cancel and force what they
    /// asked for.
    fn err(&mut self, scenario: &mut Scenario) {
        if !(self.on(Kind::Setting) && self.stream.coin()) || self.ids.len() < 3 {
            return;
        }
        for _ in 0..self.stream.skewed(1, 4) {
            let chosen = self.stream.sample(&self.ids, 2);
            let (silent, other) = (chosen[0], chosen[1]);
            let at_us = self.stream.below(scenario.chaos_us);
            // Mostly it has been silent for long enough to be known for it; sometimes it fails a moment
            // before, or after.
            let later = |draw: &mut Self| at_us + draw.stream.below(4 * draw.election_max_us);
            let member = Target::Member(silent);
            let fails = match self.stream.coin() {
                true => Fault::Crash { member, after_actions: 0 },
                false => Fault::Isolate { member },
            };
            scenario.faults.push(TimedFault { at_us, for_us: scenario.chaos_us, fault: fails });
            let mut ask = |at_us, operation| scenario.operations.push(TimedOperation { at_us, operation });
            let changes = vec![Alteration::Remove(Target::Member(other))];
            match self.stream.below(8) {
                0..=2 => ask(later(self), Operation::Reconfigure { changes }),
                3 => ask(later(self), Operation::Force { changes }),
                4 => ask(later(self), Operation::Transfer { to: Some(silent) }),
                _ => {
                    ask(at_us, Operation::Reconfigure { changes: vec![Alteration::Add(silent)] });
                    ask(later(self), Operation::Transfer { to: None });
                    let hurried = later(self);
                    ask(hurried, Operation::Reconfigure { changes });
                    let gone = vec![Alteration::Remove(member)];
                    match self.stream.coin() {
                        true => ask(hurried, Operation::Cancel),
                        false => ask(hurried, Operation::Reconfigure { changes: gone }),
                    }
                }
            }
        }
        scenario.operations.sort_by_key(|timed| timed.at_us);
    }

    /// Leaders fall in the middle of what the operator has asked them for.
    fn interrupt(&mut self, operations: &[TimedOperation], faults: &mut Vec<TimedFault>) {
        if !(self.on(Kind::Member) && self.stream.coin()) {
            return;
        }
        for timed in operations {
            let member = Target::Leading(Leading::Leader);
            let crash = self.stream.coin();
            let at_us = timed.at_us + self.stream.skewed(100, self.election_min_us);
            let for_us = self.span_us();
            let after_actions = self.stream.skewed(1, 32) as u32;
            let fault =
                if crash { Fault::Crash { member, after_actions } } else { Fault::Isolate { member } };
            faults.push(TimedFault { at_us, for_us, fault });
        }
    }

    /// Half of the time only a quorum heals, or only its disks. Where followers may leave a live leader (no
    /// pre-vote), or a leader its followers (no check-quorum), those who are left outside could disturb for
    /// ever, and everything must heal.
    fn heal(&mut self, options: &Options) -> Heal {
        let voters = self.voters();
        let size = self.stream.between(voters.len() as u64 / 2 + 1, voters.len() as u64) as usize;
        let mut core = self.stream.sample(&voters, size);
        core.extend(self.ids.iter().copied().filter(|id| !voters.contains(id) && self.stream.coin()));
        core.sort_unstable();
        let partly = self.on(Kind::Member) && options.pre_vote && options.check_quorum;
        let disks = self.stream.below(3) == 0;
        match (partly, disks) {
            (true, true) => Heal::Disks(core),
            (true, false) => Heal::Quorum(core),
            (false, _) => Heal::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{ReplicaSpec, ScenarioError};

    #[test]
    fn every_drawn_scenario_can_be_run_and_survives_being_written_down() {
        for seed in 0..300 {
            for profile in Profile::ALL {
                let scenario = Scenario::draw(seed, 1 + seed as u32 % 7, profile);
                scenario.validate().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let text = serde_json::to_string(&scenario).unwrap();
                assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario);
            }
        }
    }

    #[test]
    fn each_fault_is_off_in_many_seeds_of_the_swarm_and_on_in_many() {
        let draws: Vec<_> = (0..200).map(|seed| Scenario::draw(seed, 5, Profile::Swarm)).collect();
        let often = |has: &dyn Fn(&Scenario) -> bool| draws.iter().filter(|scenario| has(scenario)).count();
        for count in [
            often(&|s| s.network.drop > 0),
            often(&|s| s.network.corrupt > 0),
            often(&|s| s.faults.iter().any(|timed| matches!(timed.fault, Fault::Crash { .. }))),
            often(&|s| s.heal != Heal::Everything),
        ] {
            assert!((40..160).contains(&count), "{count} of 200");
        }
    }

    /// A full replica is no host that waits: it has jobs of its own.
    #[test]
    fn hosts_that_wait_are_of_kernels_alone_and_have_disks_that_do_not_stall() {
        let drawn: Vec<_> = (0..100).map(|seed| Scenario::draw(seed, 3, Profile::Synchronous)).collect();
        let waits = |s: &Scenario| (s.options.synchronous_writes, s.options.synchronous_apply);
        for kind in [(true, true), (true, false), (false, true)] {
            assert!(drawn.iter().filter(|scenario| waits(scenario) == kind).count() >= 10, "{kind:?}");
        }
        assert!(drawn.iter().all(|scenario| waits(scenario) != (false, false)));
        let stalls = |s: &Scenario| {
            s.faults.iter().any(|timed| matches!(timed.fault, Fault::DiskStall { .. }))
                || matches!(s.heal, Heal::Disks(_))
        };
        assert!(drawn.iter().any(stalls) && !drawn.iter().any(|s| waits(s).0 && stalls(s)));
        let mut scenario = Scenario::draw(1, 3, Profile::Storage);
        scenario.options.synchronous_apply = true;
        assert_eq!(scenario.validate(), Err(ScenarioError::Synchronous));
    }

    #[test]
    fn settings_of_replicas_that_cannot_be_are_refused_and_say_what_to_do() {
        let refused = |change: &dyn Fn(&mut ReplicaSpec)| {
            let mut scenario = Scenario::draw(1, 3, Profile::Storage);
            change(scenario.replica.as_mut().expect("it has full replicas"));
            scenario.validate().expect_err("it cannot be").to_string()
        };
        assert_eq!(
            refused(&|it| it.segment_blocks = 3),
            "replica.segment_blocks is too small: set at least 4"
        );
        assert_eq!(refused(&|it| it.session_idle = 0), "replica.session_idle is too small: set at least 1");
        for (change, says) in [
            (
                &(|it: &mut ReplicaSpec| it.window = 0) as &dyn Fn(&mut ReplicaSpec),
                "snapshot_window is zero: ",
            ),
            (&|it| it.limits.max_requests = 0, "max_requests is zero: "),
            (&|it| it.limits.max_waiting_query_bytes = 1, "max_waiting_query_bytes is 1, "),
        ] {
            let said = refused(change);
            assert!(said.starts_with("replica: ") && said.contains(says), "{said}");
        }
    }

    /// Which settings have the same value in all of these, written down.
    fn never_drawn(settings: &[serde_json::Value]) -> Vec<&str> {
        let first = settings[0].as_object().expect("it is a struct");
        let same = |name: &&String| settings.iter().all(|other| other[name.as_str()] == first[name.as_str()]);
        first.keys().filter(same).map(String::as_str).collect()
    }

    /// A setting that is never drawn is one that was never simulated: so forwarding was missed.
    #[test]
    fn each_setting_of_members_is_drawn_but_for_those_that_are_listed() {
        let drawn: Vec<_> = (0..300).map(|seed| Scenario::draw(seed, 5, Profile::Storage)).collect();
        let options: Vec<_> = drawn.iter().map(|it| serde_json::to_value(&it.options).unwrap()).collect();
        // Each member has its own of the first three; the other two are of the profile `synchronous`.
        let listed = ["priority", "seed", "witness", "synchronous_apply", "synchronous_writes"];
        let missed = |drawn: &[serde_json::Value], listed: &[&str]| {
            let missed = never_drawn(drawn).into_iter().map(str::to_owned);
            missed.filter(|name| !listed.contains(&name.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(missed(&options, &listed), Vec::<String>::new());
        let replica = |it: &Scenario| {
            let spec = it.replica.as_ref().expect("it has full replicas");
            serde_json::to_value(spec.options(it, it.ids()[0])).unwrap()
        };
        let replicas: Vec<_> = drawn.iter().map(replica).collect();
        assert_eq!(missed(&replicas, &[]), Vec::<String>::new());
    }

    #[test]
    fn nothing_goes_wrong_in_a_calm_world() {
        let calm = Scenario::draw(3, 5, Profile::Calm);
        assert!(calm.faults.is_empty());
        assert_eq!((calm.network.drop, calm.network.tail, calm.network.corrupt), (0, 0, 0));
    }
}
