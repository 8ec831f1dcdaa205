//! What can go wrong, one entry a fault: its name, how it is drawn, whom it befalls, how it begins and how it
//! ends.
//!
//! A new fault is a new entry here, and what it does to a world a function of [`FaultInjection`]. Each fault
//! draws from a stream of its own, so an entry that is added leaves what all seeds draw of the others as it
//! was.

use crate::counted::counted;
use crate::scenario::{Decay, Leading, Rotten, Target, TimedFault};
use crate::stream::Stream;
use kontiki_core::types::NodeId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whom a fault befalls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Victims {
    /// One member.
    One(Target),
    /// The links of these members.
    Links(Vec<NodeId>),
    /// Every member.
    All,
}

/// What a fault is of, which says in what profiles it is drawn, and with what else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Realm {
    /// The network: drawn also in profiles without crashes.
    Network,
    /// The members and their hosts.
    Member,
    /// Clocks that break what leases allow for: drawn only where there are no leases.
    Clock,
    /// The space on disks: it lasts for longer than most faults.
    Space,
    /// The syncs of the disks of full replicas. A crash often follows.
    Sync,
    /// What was durable on the disks of full replicas. A crash often follows, since damage is found when it
    /// is read.
    Damage,
}

/// A fault that begins, or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Episode {
    /// The number of the fault in its scenario.
    pub(crate) number: usize,
    /// The position of the member that it befalls; of the first where it befalls no single one.
    pub(crate) member: usize,
    /// When it is over.
    pub(crate) until: u64,
}

/// Links, each way for itself, by the positions of both ends.
pub(crate) type Links = Vec<(usize, usize)>;

/// A world that faults can be injected into. Members are given by position.
pub(crate) trait FaultInjection {
    /// A property that does not hold when a member starts again or goes on.
    type Violated;

    /// Counts a fault that has begun, where what it begins with does not.
    fn count_fault(&mut self, kind: FaultKind);

    // ----- members -----

    /// A member crashes after so many more actions; what is counted then is the crash.
    fn crash_after(&mut self, member: usize, actions: u32);
    /// Every member crashes at once.
    fn crash_all(&mut self);
    /// A member may start again, if no other fault keeps it down.
    fn let_up(&mut self, member: usize) -> Result<(), Self::Violated>;
    /// The same for every member.
    fn let_all_up(&mut self) -> Result<(), Self::Violated>;
    /// A member stands still, while its host and its disk go on.
    fn pause(&mut self, member: usize);
    /// A host is suspended, with its disk, until the fault is over. Its clock counts that time, or not.
    fn suspend(&mut self, at: Episode, counted: bool);
    /// The same for every host.
    fn suspend_all(&mut self, at: Episode, counted: bool);
    /// A member goes on, and hears at once of all that happened while it stood still.
    fn resume(&mut self, member: usize) -> Result<(), Self::Violated>;
    /// The same for every member.
    fn resume_all(&mut self) -> Result<(), Self::Violated>;
    /// A member's disk is gone, if the group can do without.
    fn wipe(&mut self, member: usize);
    /// A host believes that it lost the connection to its leader. One that leads has no leader to lose.
    fn alarm_falsely(&mut self, member: usize);

    // ----- clocks -----

    /// A clock runs faster than true time by so many parts per million.
    fn set_clock(&mut self, member: usize, ppm: i64);
    /// A clock jumps ahead.
    fn jump_clock(&mut self, member: usize, by_us: u64);
    /// A clock runs at the rate again that its scenario gives it.
    fn restore_clock(&mut self, member: usize);

    // ----- links -----

    /// Nothing passes over these links.
    fn cut(&mut self, kind: FaultKind, links: &[(usize, usize)]);
    /// They are as before.
    fn mend(&mut self, links: &[(usize, usize)]) -> Result<(), Self::Violated>;
    /// The links of a member are stalled.
    fn stall(&mut self, at: Episode);
    /// The links of a member go down or up, and the other way a little later, until the fault is over.
    fn flap(&mut self, at: Episode, period_us: u64, down: bool);
    /// The links between these members and all others, both ways.
    fn links_around(&self, side: &[NodeId]) -> Links;
    /// The links from these members to those.
    fn links_between(&self, from: &[NodeId], to: &[NodeId]) -> Links;
    /// The links between a member and all others, both ways.
    fn links_of(&self, member: usize) -> Links;

    // ----- disks -----

    /// A disk finishes no write until the fault is over.
    fn stall_disk(&mut self, at: Episode);
    /// The next sync of a disk fails.
    fn fail_next_sync(&mut self, member: usize);
    /// A disk has room for no more, or for little. The host of a kernel alone says so; a full replica finds
    /// out.
    fn fill_disk(&mut self, member: usize);
    /// There is space on a disk again.
    fn make_space(&mut self, member: usize);
    /// The next write never gets to the disk, if the group can do without what is lost. So it is with the two
    /// below.
    fn lose_next_write(&mut self, member: usize);
    /// The next write gets to another place of the disk.
    fn misdirect_next_write(&mut self, member: usize);
    /// Something durable is damaged.
    fn rot_disk(&mut self, member: usize, what: Rotten, how: Decay);
}

macro_rules! faults {
    (
        counted { $($(#[$counted_doc:meta])* $Counted:ident = $counted:literal,)* }
        $(
            $(#[$doc:meta])*
            $Fault:ident = $name:literal $({ $($(#[$field_doc:meta])* $field:ident: $Field:ty,)* })?
            drawn $realm:ident $weight:literal |$draw:ident| $drawn:expr,
            befalls $victims:expr,
            begins |$began:ident, $at:ident| $begin:expr,
            ends |$ended:ident, $then:ident| $end:expr;
        )*
    ) => {
        /// Something that goes wrong.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub enum Fault {
            $($(#[$doc])* #[serde(rename = $name)] $Fault $({ $($(#[$field_doc])* $field: $Field,)* })?,)*
        }

        counted! {
            /// Everything that can go wrong in a simulated world, for counting: what happens by chance, what
            /// follows from faults, and every fault.
            pub enum FaultKind {
                $($(#[$counted_doc])* $Counted = $counted,)*
                $($(#[$doc])* $Fault = $name,)*
            }
        }

        /// One entry of the table.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Entry {
            $($Fault,)*
        }

        impl Entry {
            pub(crate) const ALL: &[Self] = &[$(Self::$Fault,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$Fault => $name,)*
                }
            }

            pub(crate) fn realm(self) -> Realm {
                match self {
                    $(Self::$Fault => Realm::$realm,)*
                }
            }

            /// How often it is on, in percent of how often most are.
            fn weight(self) -> u64 {
                match self {
                    $(Self::$Fault => $weight,)*
                }
            }

            #[allow(unused_variables)]
            fn draw(self, draw: &mut FaultDraw<'_>) -> Fault {
                match self {
                    $(Self::$Fault => { let $draw = draw; $drawn })*
                }
            }
        }

        impl Fault {
            /// What kind it is.
            pub fn kind(&self) -> FaultKind {
                match self {
                    $(Self::$Fault { .. } => FaultKind::$Fault,)*
                }
            }

            /// Whom it befalls.
            #[allow(unused_variables)]
            pub fn victims(&self) -> Victims {
                match self {
                    $(Self::$Fault { $($($field,)*)? } => $victims,)*
                }
            }

            /// Gives the members that it names other ids. Returns whether it still befalls anything: a member
            /// without a new id is there no more.
            #[allow(unused_variables)]
            pub(crate) fn rename(&mut self, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
                match self {
                    $(Self::$Fault { $($($field,)*)? } => true $($(&& $field.rename(to))*)?,)*
                }
            }

            /// It begins.
            #[allow(unused_variables)]
            pub(crate) fn begin(&self, world: &mut impl FaultInjection, at: Episode) {
                match self {
                    $(Self::$Fault { $($($field,)*)? } => { let ($began, $at) = (world, at); $begin })*
                }
            }

            /// It ends.
            #[allow(unused_variables)]
            pub(crate) fn end<W: FaultInjection>(&self, world: &mut W, at: Episode) -> Result<(), W::Violated> {
                match self {
                    $(Self::$Fault { $($($field,)*)? } => { let ($ended, $then) = (world, at); $end })*
                }
            }
        }
    };
}

faults! {
    counted {
        /// A message was lost by chance.
        Drop = "drop",
        /// A message arrived twice.
        Duplicate = "duplicate",
        /// A message left the order of its link.
        Reorder = "reorder",
        /// A message took very long.
        Delay = "delay",
        /// A message was kept back, and came when it could do harm.
        OldMessage = "old_message",
        /// A bit of a message was flipped.
        Corrupt = "corrupt",
        /// A message waited for those before it on a slow link.
        Queued = "queued",
        /// A short message overtook a large one on a slow link.
        Overtaken = "overtaken",
        /// A message was dropped since too much waited for a slow link.
        QueueFull = "queue_full",
        /// A message met a link that was cut.
        Cut = "cut",
        /// A member crashed between two actions of one step.
        CrashMidStep = "crash_mid_step",
        /// A member was killed: of what it had written and not synced, nothing was lost yet.
        Kill = "kill",
        /// A member started again.
        Restart = "restart",
        /// A write that was not synced was lost in a crash.
        LostInCrash = "lost_in_crash",
        /// A crash left a part of a write.
        TornWrite = "torn_write",
        /// A host noticed a broken connection.
        BrokenConnection = "broken_connection",
        /// A member was stopped in good order.
        Shutdown = "shutdown",
        /// A snapshot could not be fetched, or entries not be read back.
        FetchFailed = "fetch_failed",
        /// Some of a log that was durable was damaged.
        RotLog = "rot_log",
        /// A copy of a vote was damaged.
        RotVote = "rot_vote",
        /// A snapshot was damaged.
        RotSnapshot = "rot_snapshot",
        /// A sector could not be read any more.
        Unreadable = "unreadable",
    }

    /// Nothing passes between these and the others.
    Partition = "partition" {
        /// One side.
        side: Vec<NodeId>,
    }
    drawn Network 100 |draw| Fault::Partition { side: draw.side() },
    befalls Victims::Links(side.clone()),
    begins |world, at| world.cut(FaultKind::Partition, &world.links_around(side)),
    ends |world, at| world.mend(&world.links_around(side));

    /// Nothing passes from these to those; the way back is open.
    OneWay = "one_way" {
        /// Whose messages are lost.
        from: Vec<NodeId>,
        /// Who does not get them.
        to: Vec<NodeId>,
    }
    drawn Network 100 |draw| {
        let from = draw.side();
        Fault::OneWay { to: draw.all_but(&from), from }
    },
    befalls Victims::Links([&from[..], to].concat()),
    begins |world, at| world.cut(FaultKind::OneWay, &world.links_between(from, to)),
    ends |world, at| world.mend(&world.links_between(from, to));

    /// What is sent to or from this member arrives when the fault is over, as over a connection that sends
    /// again.
    Stall = "stall" {
        /// Which.
        member: Target,
    }
    drawn Network 100 |draw| Fault::Stall { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.stall(at),
    ends |world, at| Ok(());

    /// Nothing passes to or from this member.
    Isolate = "isolate" {
        /// Which.
        member: Target,
    }
    drawn Network 100 |draw| Fault::Isolate { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.cut(FaultKind::Isolate, &world.links_of(at.member)),
    ends |world, at| world.mend(&world.links_of(at.member));

    /// The links of a member go down and up again, over and over.
    Flap = "flap" {
        /// Whose.
        member: Target,
        /// How long they stay down, and then up.
        period_us: u64,
    }
    drawn Network 100 |draw| {
        Fault::Flap { member: draw.target(), period_us: draw.stream.skewed(1_000, 2 * draw.world.election_us.1) }
    },
    befalls Victims::One(*member),
    begins |world, at| {
        world.count_fault(FaultKind::Flap);
        world.flap(at, *period_us, true);
    },
    ends |world, at| Ok(());

    /// A member stops after carrying out so many more actions, forgets what it had in memory, and keeps only
    /// a prefix of the writes that were not yet synced. It starts again when the fault ends.
    Crash = "crash" {
        /// Which.
        member: Target,
        /// After how many actions; zero for at once.
        after_actions: u32,
    }
    drawn Member 100 |draw| {
        Fault::Crash { member: draw.target(), after_actions: draw.stream.below(8) as u32 }
    },
    befalls Victims::One(*member),
    begins |world, at| world.crash_after(at.member, *after_actions),
    ends |world, at| world.let_up(at.member);

    /// Every member crashes at once.
    CrashAll = "crash_all"
    drawn Member 100 |draw| Fault::CrashAll,
    befalls Victims::All,
    begins |world, at| world.crash_all(),
    ends |world, at| world.let_all_up();

    /// A member stands still while the world goes on.
    Pause = "pause" {
        /// Which.
        member: Target,
    }
    drawn Member 100 |draw| Fault::Pause { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.pause(at.member),
    ends |world, at| world.resume(at.member);

    /// A host is suspended: nothing of it goes on, neither the member nor its disk, while the world does.
    /// Then it hears at once of all that has happened.
    Suspend = "suspend" {
        /// Which.
        member: Target,
        /// Whether its clock counts the suspension, as leases require. One that does not goes on where it
        /// stood.
        counted: bool,
    }
    drawn Member 60 |draw| {
        let counted = draw.stream.coin();
        Fault::Suspend { member: draw.target(), counted: counted || draw.world.leases }
    },
    befalls Victims::One(*member),
    begins |world, at| {
        world.count_fault(FaultKind::Suspend);
        world.suspend(at, *counted);
    },
    ends |world, at| world.resume(at.member);

    /// All hosts are suspended at once, as when the machine that they run on is.
    SuspendAll = "suspend_all" {
        /// Whether their clocks count the suspension.
        counted: bool,
    }
    drawn Member 30 |draw| {
        let counted = draw.stream.coin();
        Fault::SuspendAll { counted: counted || draw.world.leases }
    },
    befalls Victims::All,
    begins |world, at| {
        world.count_fault(FaultKind::SuspendAll);
        world.suspend_all(at, *counted);
    },
    ends |world, at| world.resume_all();

    /// A member's clock jumps ahead.
    ClockJump = "clock_jump" {
        /// Which.
        member: Target,
        /// How far.
        by_us: u64,
    }
    drawn Clock 40 |draw| {
        let farthest = 20 * draw.world.election_us.1;
        Fault::ClockJump { member: draw.target(), by_us: draw.stream.skewed(1_000, farthest) }
    },
    befalls Victims::One(*member),
    begins |world, at| {
        world.count_fault(FaultKind::ClockJump);
        world.jump_clock(at.member, *by_us);
    },
    ends |world, at| Ok(());

    /// A member's clock runs at another rate.
    Clock = "clock" {
        /// Which.
        member: Target,
        /// How much faster than true time, in parts per million.
        ppm: i64,
    }
    drawn Member 100 |draw| {
        let bound = draw.world.drift_ppm;
        Fault::Clock { member: draw.target(), ppm: draw.stream.between(0, 2 * bound) as i64 - bound as i64 }
    },
    befalls Victims::One(*member),
    begins |world, at| {
        world.count_fault(FaultKind::Clock);
        world.set_clock(at.member, *ppm);
    },
    ends |world, at| {
        world.restore_clock(at.member);
        Ok(())
    };

    /// A member's disk takes writes and finishes none.
    DiskStall = "disk_stall" {
        /// Which.
        member: Target,
    }
    drawn Member 100 |draw| Fault::DiskStall { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.stall_disk(at),
    ends |world, at| Ok(());

    /// A member loses its disk and starts again when the fault ends, under a new incarnation, knowing
    /// nothing. The operator has to remove the old one and add the new. Nothing happens where that could take
    /// the last copy of something from the group.
    Wipe = "wipe" {
        /// Which.
        member: Target,
    }
    drawn Member 100 |draw| Fault::Wipe { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.wipe(at.member),
    ends |world, at| world.let_up(at.member);

    /// A host is told that its connection to the leader broke, though it did not.
    FalseAlarm = "false_alarm" {
        /// Whose.
        member: Target,
    }
    drawn Member 100 |draw| Fault::FalseAlarm { member: draw.target() },
    befalls Victims::One(*member),
    begins |world, at| world.alarm_falsely(at.member),
    ends |world, at| Ok(());

    /// The next sync of a disk fails, and what it should have made durable never will be, though it is read
    /// back (as Linux does). Of full replicas only.
    SyncFails = "sync_fails" {
        /// Whose.
        member: Target,
    }
    drawn Sync 100 |draw| Fault::SyncFails { member: draw.any_member() },
    befalls Victims::One(*member),
    begins |world, at| world.fail_next_sync(at.member),
    ends |world, at| Ok(());

    /// A disk has no space left.
    DiskFull = "disk_full" {
        /// Whose.
        member: Target,
    }
    drawn Space 60 |draw| Fault::DiskFull { member: draw.any_member() },
    befalls Victims::One(*member),
    begins |world, at| world.fill_disk(at.member),
    ends |world, at| {
        world.make_space(at.member);
        Ok(())
    };

    /// The next write to a disk never gets there, though the disk says so. This fault and those below are of
    /// full replicas only, and damage what may have been acknowledged: they do nothing where that could leave
    /// too few members with everything.
    LostWrite = "lost_write" {
        /// Whose.
        member: Target,
    }
    drawn Damage 100 |draw| Fault::LostWrite { member: draw.any_member() },
    befalls Victims::One(*member),
    begins |world, at| world.lose_next_write(at.member),
    ends |world, at| Ok(());

    /// The next write to a disk gets to another place.
    MisdirectedWrite = "misdirected_write" {
        /// Whose.
        member: Target,
    }
    drawn Damage 100 |draw| Fault::MisdirectedWrite { member: draw.any_member() },
    befalls Victims::One(*member),
    begins |world, at| world.misdirect_next_write(at.member),
    ends |world, at| Ok(());

    /// A disk damages what it had made durable.
    Rot = "rot" {
        /// Whose.
        member: Target,
        /// What.
        what: Rotten,
        /// How.
        how: Decay,
    }
    drawn Damage 100 |draw| {
        Fault::Rot { member: draw.any_member(), what: draw.rotten(), how: *draw.stream.pick(&Decay::ALL) }
    },
    befalls Victims::One(*member),
    begins |world, at| world.rot_disk(at.member, *what, *how),
    ends |world, at| Ok(());
}

impl Fault {
    /// The members that the fault names.
    pub fn members(&self) -> Vec<NodeId> {
        match self.victims() {
            Victims::One(Target::Member(member)) => vec![member],
            Victims::Links(members) => members,
            Victims::One(Target::Leading(_)) | Victims::All => vec![],
        }
    }

    /// The one member that the fault befalls, if it is about one.
    pub fn target(&self) -> Option<Target> {
        match self.victims() {
            Victims::One(target) => Some(target),
            Victims::Links(_) | Victims::All => None,
        }
    }
}

/// What a fault may hold: with or without members in it, which are given other ids.
pub(crate) trait Rename {
    /// Returns whether there is anything left.
    fn rename(&mut self, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool;
}

impl Rename for Target {
    fn rename(&mut self, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
        let Self::Member(id) = self else { return true };
        to(*id).map(|renamed| *id = renamed).is_some()
    }
}

impl Rename for Vec<NodeId> {
    fn rename(&mut self, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
        *self = self.iter().filter_map(|id| to(*id)).collect();
        !self.is_empty()
    }
}

macro_rules! without_members {
    ($($Type:ty)*) => {
        $(impl Rename for $Type {
            fn rename(&mut self, _: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
                true
            }
        })*
    };
}

without_members! { bool i64 u32 u64 Decay Rotten }

/// The world that faults are drawn for.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    pub(crate) seed: u64,
    pub(crate) ids: Vec<NodeId>,
    /// How far clocks may be from true, in parts per million.
    pub(crate) drift_ppm: u64,
    /// Whether members serve reads by lease, so that clocks must keep to what that allows for.
    pub(crate) leases: bool,
    /// The shortest and the longest election timeout.
    pub(crate) election_us: (u64, u64),
    pub(crate) chaos_us: u64,
    /// Odds, out of a hundred, that an entry of the usual weight is on.
    pub(crate) odds: u64,
    /// How many faults an entry that is on has at most.
    pub(crate) most: u64,
}

impl FaultPlan {
    /// What the seed holds of these entries, in the order of time.
    pub(crate) fn draw(&self, entries: impl Iterator<Item = Entry>) -> Vec<TimedFault> {
        let mut faults: Vec<_> = entries.flat_map(|entry| self.draw_entry(entry)).collect();
        faults.sort_by_key(|timed| timed.at_us);
        faults
    }

    fn draw_entry(&self, entry: Entry) -> Vec<TimedFault> {
        let stream = Stream::named(self.seed, &format!("fault {}", entry.name()), 0);
        let mut draw = FaultDraw { world: self, stream };
        let is_on = draw.stream.below(100 * 100) < self.odds * entry.weight();
        let count = draw.stream.between(1, self.most);
        (0..if is_on { count } else { 0 }).flat_map(|_| draw.timed(entry)).collect()
    }
}

/// What one entry of the table draws from.
struct FaultDraw<'p> {
    world: &'p FaultPlan,
    stream: Stream,
}

impl FaultDraw<'_> {
    /// A fault, and now and then a crash that follows it.
    fn timed(&mut self, entry: Entry) -> Vec<TimedFault> {
        let chaos_us = self.world.chaos_us;
        let at_us = self.stream.below(chaos_us);
        let for_us = match entry.realm() {
            Realm::Network | Realm::Member | Realm::Clock => {
                span_us(&mut self.stream, self.world.election_us)
            }
            Realm::Space | Realm::Sync | Realm::Damage => self.stream.skewed(1_000, chaos_us),
        };
        let fault = entry.draw(self);
        let crash = match (entry.realm(), fault.target()) {
            (Realm::Sync | Realm::Damage, Some(member)) if self.stream.below(3) > 0 => {
                let after_actions = self.stream.skewed(1, 8) as u32 - 1;
                let at_us = at_us + self.stream.skewed(100, chaos_us / 4);
                let for_us = self.stream.skewed(1_000, chaos_us / 4);
                Some(TimedFault { at_us, for_us, fault: Fault::Crash { member, after_actions } })
            }
            _ => None,
        };
        [Some(TimedFault { at_us, for_us, fault }), crash].into_iter().flatten().collect()
    }

    /// Whom a fault befalls: half of the time the leader, since nothing else changes the course of things so
    /// much.
    fn target(&mut self) -> Target {
        target(&mut self.stream, &self.world.ids)
    }

    /// Any member.
    fn any_member(&mut self) -> Target {
        Target::Member(*self.stream.pick(&self.world.ids))
    }

    /// Some members, but not all of several.
    fn side(&mut self) -> Vec<NodeId> {
        let most = (self.world.ids.len() as u64 - 1).max(1);
        let some = self.stream.between(1, most) as usize;
        self.stream.sample(&self.world.ids, some)
    }

    fn all_but(&self, side: &[NodeId]) -> Vec<NodeId> {
        self.world.ids.iter().copied().filter(|id| !side.contains(id)).collect()
    }

    fn rotten(&mut self) -> Rotten {
        *self.stream.pick(&[
            Rotten::Log,
            Rotten::Log,
            Rotten::Tail,
            Rotten::Tail,
            Rotten::Vote,
            Rotten::Snapshot,
        ])
    }
}

/// Whom something befalls: half of the time the leader.
pub(crate) fn target(stream: &mut Stream, ids: &[NodeId]) -> Target {
    let member = *stream.pick(ids);
    if stream.coin() { Target::Member(member) } else { Target::Leading(Leading::Leader) }
}

/// How long a fault lasts: half of them any order of magnitude, half of them about as long as it takes to
/// elect another leader.
pub(crate) fn span_us(stream: &mut Stream, (shortest, longest): (u64, u64)) -> u64 {
    if stream.coin() { stream.skewed(1_000, 6 * longest) } else { stream.between(shortest / 2, 3 * longest) }
}

/// As its name.
impl Serialize for FaultKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FaultKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| D::Error::custom(format_args!("there is no fault `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> FaultPlan {
        let ids = (1..=5).filter_map(NodeId::new).collect();
        let election_us = (150_000, 300_000);
        FaultPlan {
            seed,
            ids,
            drift_ppm: 200,
            leases: false,
            election_us,
            chaos_us: 5_000_000,
            odds: 50,
            most: 9,
        }
    }

    /// So a fault that is added redraws no seed.
    #[test]
    fn without_an_entry_all_others_are_drawn_as_before() {
        for seed in 0..50 {
            let all = plan(seed).draw(Entry::ALL.iter().copied());
            for &left_out in Entry::ALL {
                let others = plan(seed).draw(Entry::ALL.iter().copied().filter(|entry| *entry != left_out));
                let its_own = plan(seed).draw_entry(left_out);
                let mut rest = all.clone();
                rest.retain(|timed| !its_own.contains(timed));
                assert_eq!(others, rest, "seed {seed} without {}", left_out.name());
            }
        }
    }

    #[test]
    fn every_entry_is_drawn_under_its_name() {
        for &entry in Entry::ALL {
            let drawn = (0..50).flat_map(|seed| plan(seed).draw_entry(entry));
            let text = drawn.map(|timed| serde_json::to_string(&timed.fault).expect("plain data"));
            assert!(text.into_iter().any(|text| text.contains(entry.name())), "{}", entry.name());
        }
    }
}
