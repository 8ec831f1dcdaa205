//! Who belongs to the group, who of them decides, and what a change makes of that.

use crate::quorum::{self, Tally};
use crate::types::{Incarnation, Index, Member, NodeId};
use alloc::vec::Vec;
use core::fmt;

/// The members of a group: voters, of whom some may be witnesses, and learners, which receive the log and
/// decide nothing.
///
/// While the group moves from one set of voters to another (joint consensus, paper §6), `outgoing` holds the
/// old set, and every decision needs a majority of both. All sets are sorted and free of duplicates, a
/// learner is in no voting set, there is at least one voter, and in each voting set less than half are
/// witnesses: so every majority contains a member that holds the payloads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Sets", into = "Sets"))]
pub struct Membership {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
    /// Those of `outgoing` that will be learners once the joint phase is left.
    demoted: Vec<NodeId>,
    witnesses: Vec<NodeId>,
    /// All members, sorted by id.
    members: Vec<Member>,
}

/// The most members of a group. What they have decided is counted in memory of a fixed size.
pub const MAX_MEMBERS: usize = 64;

const _: () = assert!(MAX_MEMBERS <= quorum::MAX_VOTERS);

/// What a member is in its group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MemberKind {
    /// It votes, holds everything, and may lead.
    Voter,
    /// It votes and remembers which entries there are, but not what is in them; it never leads.
    Witness,
    /// It receives the log and decides nothing.
    Learner,
    /// It is no member: it was removed, or is not yet added.
    NonMember,
}

impl MemberKind {
    /// The kind as one word: the same in logs, metrics and JSON.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Witness => "witness",
            Self::Learner => "learner",
            Self::NonMember => "non_member",
        }
    }
}

/// One step that a [`Reconfigure`](crate::event::Reconfigure) asks for. Several in one request take effect
/// together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Change {
    /// A newcomer that shall vote. It is a learner first, and votes once it has caught up.
    AddVoter(Member),
    /// A newcomer that shall vote and hold no payloads: the third vote of two real members.
    AddWitness(Member),
    /// A newcomer that receives the log and decides nothing.
    AddLearner(Member),
    /// A learner that shall vote, once it has caught up.
    Promote(NodeId),
    /// A voter that shall only learn.
    Demote(NodeId),
    /// A member that shall leave.
    Remove(NodeId),
}

/// Some members: the first few by their ids, and how many more there are. A copy, and as small as an answer
/// should be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SomeMembers {
    named: [Option<NodeId>; 4],
    more: u8,
}

impl SomeMembers {
    /// Those that are named.
    pub fn named(&self) -> impl Iterator<Item = NodeId> {
        self.named.into_iter().flatten()
    }

    /// How many there are beside those.
    pub fn more(&self) -> usize {
        usize::from(self.more)
    }
}

impl FromIterator<NodeId> for SomeMembers {
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> Self {
        let mut ids = ids.into_iter();
        let named = core::array::from_fn(|_| ids.next());
        Self { named, more: u8::try_from(ids.count()).unwrap_or(u8::MAX) }
    }
}

/// Written as `member 3`, `members 3, 4`, `members 1, 2, 3, 4 and 2 more`.
impl fmt::Display for SomeMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.named().count() == 1 { "member" } else { "members" })?;
        for (position, id) in self.named().enumerate() {
            write!(f, "{}{id}", if position == 0 { " " } else { ", " })?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Why a list of members is no membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MembershipError {
    /// There are no voters, and so no majority could ever decide anything.
    NoVoters,
    /// A member is listed twice.
    Duplicate(NodeId),
    /// More members than [`MAX_MEMBERS`]; the number that was given.
    TooMany(usize),
    /// Half of the voters or more would be witnesses: a majority could hold no copy of what it decided.
    TooManyWitnesses,
}

/// Why a change makes no sense for the group as it is. Nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ChangeError {
    /// No change was asked for.
    Nothing,
    /// Two changes are about this member.
    NamedTwice(NodeId),
    /// It is no member.
    Stranger(NodeId),
    /// It is a member already.
    AlreadyMember(NodeId),
    /// It is a member under another incarnation.
    OtherIncarnation(NodeId),
    /// It votes already.
    AlreadyVoter(NodeId),
    /// It is a learner already.
    AlreadyLearner(NodeId),
    /// A witness holds no state from which a learner could continue.
    Witness(NodeId),
    /// No voter would be left.
    NoVoters,
    /// Half of the voters or more would be witnesses.
    TooManyWitnesses,
    /// There would be more members than [`MAX_MEMBERS`].
    TooMany,
}

impl ChangeError {
    /// The reason as one word: the same in logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing_to_change",
            Self::NamedTwice(_) => "named_twice",
            Self::Stranger(_) => "no_member",
            Self::AlreadyMember(_) => "already_member",
            Self::OtherIncarnation(_) => "other_incarnation",
            Self::AlreadyVoter(_) => "already_voter",
            Self::AlreadyLearner(_) => "already_learner",
            Self::Witness(_) => "witness_has_nothing",
            Self::NoVoters => "no_voters",
            Self::TooManyWitnesses => "too_many_witnesses",
            Self::TooMany => "too_many_members",
        }
    }
}

impl Membership {
    /// A group of `voters` alone.
    pub fn of<M: Into<Member>>(voters: impl IntoIterator<Item = M>) -> Result<Self, MembershipError> {
        Self::new(voters, [])
    }

    /// A group of `voters` and `learners`, in any order.
    pub fn new<M: Into<Member>>(
        voters: impl IntoIterator<Item = M>,
        learners: impl IntoIterator<Item = M>,
    ) -> Result<Self, MembershipError> {
        let voters = voters.into_iter().map(|member| (member.into(), MemberKind::Voter));
        let learners = learners.into_iter().map(|member| (member.into(), MemberKind::Learner));
        Self::from_kinds(voters.chain(learners))
    }

    /// The membership of these members, each with its kind; non-members are left out.
    pub fn from_kinds(
        members: impl IntoIterator<Item = (Member, MemberKind)>,
    ) -> Result<Self, MembershipError> {
        let all: Vec<_> = members
            .into_iter()
            .filter(|(_, kind)| *kind != MemberKind::NonMember)
            .take(MAX_MEMBERS + 1)
            .collect();
        let ids = |of: &[MemberKind]| -> Vec<NodeId> {
            all.iter().filter(|(_, kind)| of.contains(kind)).map(|(member, _)| member.id).collect()
        };
        Self::checked(Sets {
            voters: ids(&[MemberKind::Voter, MemberKind::Witness]),
            outgoing: Vec::new(),
            learners: ids(&[MemberKind::Learner]),
            demoted: Vec::new(),
            witnesses: ids(&[MemberKind::Witness]),
            members: all.iter().map(|(member, _)| *member).collect(),
        })
    }

    /// A group on its way from the voters `outgoing` to the voters `incoming` (paper §6).
    pub fn joint<M: Into<Member>>(
        incoming: impl IntoIterator<Item = M>,
        outgoing: impl IntoIterator<Item = M>,
        learners: impl IntoIterator<Item = M>,
    ) -> Result<Self, MembershipError> {
        let mut members = Vec::new();
        let mut known = |member: Member| {
            if !members.contains(&member) {
                members.push(member);
            }
            member.id
        };
        let sets = Sets {
            voters: incoming.into_iter().map(|member| known(member.into())).collect(),
            outgoing: outgoing.into_iter().map(|member| known(member.into())).collect(),
            learners: learners.into_iter().map(|member| known(member.into())).collect(),
            demoted: Vec::new(),
            witnesses: Vec::new(),
            members,
        };
        Self::checked(sets)
    }

    /// The empty membership of a member that has not received its group's first one yet: without voters
    /// nothing is decided.
    pub(crate) const fn unknown() -> Self {
        Self {
            voters: Vec::new(),
            outgoing: Vec::new(),
            learners: Vec::new(),
            demoted: Vec::new(),
            witnesses: Vec::new(),
            members: Vec::new(),
        }
    }

    fn checked(sets: Sets) -> Result<Self, MembershipError> {
        let Sets { voters, outgoing, learners, demoted, witnesses, members } = sets;
        if members.len() > MAX_MEMBERS {
            return Err(MembershipError::TooMany(members.len()));
        }
        let mut members = members;
        members.sort_unstable();
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(MembershipError::Duplicate(pair[0].id));
        }
        let [voters, outgoing, learners, demoted, witnesses] =
            [voters, outgoing, learners, demoted, witnesses].map(sorted);
        let membership = Self {
            voters: voters?,
            outgoing: outgoing?,
            learners: learners?,
            demoted: demoted?,
            witnesses: witnesses?,
            members,
        };
        if membership.voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        let twice = membership.learners.iter().find(|&&id| membership.is_voter(id));
        let odd = membership.demoted.iter().find(|id| !membership.outgoing.contains(id));
        if let Some(&twice) = twice.or(odd) {
            return Err(MembershipError::Duplicate(twice));
        }
        if [&membership.voters, &membership.outgoing].iter().any(|set| membership.has_many_witnesses(set)) {
            return Err(MembershipError::TooManyWitnesses);
        }
        // Every set speaks of members, and every member is in a set.
        let sets = [&membership.voters, &membership.outgoing, &membership.learners, &membership.witnesses];
        let stranger = sets.into_iter().flatten().find(|&&id| membership.incarnation(id).is_none());
        let idle = membership.members.iter().map(|member| &member.id).find(|&&id| !membership.has_place(id));
        match stranger.or(idle) {
            Some(&id) => Err(MembershipError::Duplicate(id)),
            None => Ok(membership),
        }
    }

    /// Every member with the sets that it is in, one bit each: the encoding of a membership in the durable
    /// log.
    #[cfg(feature = "wal")]
    pub(crate) fn places(&self) -> impl ExactSizeIterator<Item = (Member, u8)> {
        let sets = [&self.voters, &self.outgoing, &self.learners, &self.demoted, &self.witnesses];
        self.members.iter().map(move |&member| {
            let bit = |(set, bit): (&Vec<NodeId>, u8)| u8::from(set.contains(&member.id)) << bit;
            (member, sets.into_iter().zip(0..).map(bit).sum())
        })
    }

    /// The reverse of [`places`](Self::places).
    #[cfg(feature = "wal")]
    pub(crate) fn from_places(places: &[(Member, u8)]) -> Result<Self, MembershipError> {
        let set = |bit: u8| -> Vec<NodeId> {
            let of_set = places.iter().filter(|(_, sets)| sets & (1 << bit) != 0);
            of_set.map(|(member, _)| member.id).collect()
        };
        Self::checked(Sets {
            voters: set(0),
            outgoing: set(1),
            learners: set(2),
            demoted: set(3),
            witnesses: set(4),
            members: places.iter().map(|(member, _)| *member).collect(),
        })
    }

    fn has_place(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.binary_search(&id).is_ok()
    }

    fn has_many_witnesses(&self, set: &[NodeId]) -> bool {
        let witnesses = set.iter().filter(|&&id| self.is_witness(id)).count();
        witnesses > 0 && 2 * witnesses >= set.len()
    }

    /// The voters, or while joint, those of the new set; sorted. Witnesses are among them.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// While joint, the voters of the old set; empty otherwise; sorted.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// While joint, those of the voters of the old set that will be learners; sorted.
    pub fn demoted(&self) -> &[NodeId] {
        &self.demoted
    }

    /// The members that receive the log and decide nothing; sorted.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// The members that hold no payloads; sorted.
    pub fn witnesses(&self) -> &[NodeId] {
        &self.witnesses
    }

    /// All members, each once, in the order of their ids.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` has a vote in either set.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` holds no payloads.
    pub fn is_witness(&self, id: NodeId) -> bool {
        self.witnesses.binary_search(&id).is_ok()
    }

    /// Under which incarnation `id` is a member.
    pub fn incarnation(&self, id: NodeId) -> Option<Incarnation> {
        let found = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        Some(self.members[found].incarnation)
    }

    /// Whether this member, in this incarnation, belongs to the group.
    pub fn contains(&self, member: Member) -> bool {
        self.incarnation(member.id) == Some(member.incarnation)
    }

    /// What this very member is here.
    pub fn kind(&self, member: Member) -> MemberKind {
        let id = member.id;
        if !self.contains(member) {
            MemberKind::NonMember
        } else if !self.is_voter(id) {
            MemberKind::Learner
        } else if self.is_witness(id) {
            MemberKind::Witness
        } else {
            MemberKind::Voter
        }
    }

    /// All members with a vote in either set, each once.
    pub(crate) fn all_voters(&self) -> impl Iterator<Item = Member> {
        self.members.iter().copied().filter(|member| self.is_voter(member.id))
    }

    /// Counts answers: won where every set has a majority for it, lost where one has none left.
    pub fn tally(&self, answer: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let incoming = quorum::tally(&self.voters, &answer);
        if !self.is_joint() {
            return incoming;
        }
        match (incoming, quorum::tally(&self.outgoing, &answer)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            _ => Tally::Pending,
        }
    }

    /// The greatest index that a majority of every set has reached.
    pub fn reached(&self, index_of: impl FnMut(NodeId) -> Index) -> Index {
        self.reached_beyond(Index::ZERO, index_of)
    }

    /// The greatest value beyond `floor` that a majority of every set has reached; `floor` where there is
    /// none.
    pub(crate) fn reached_beyond<T: Copy + Ord>(&self, floor: T, mut value_of: impl FnMut(NodeId) -> T) -> T {
        let incoming = quorum::reached_beyond(floor, &self.voters, &mut value_of);
        if !self.is_joint() {
            return incoming;
        }
        incoming.min(quorum::reached_beyond(floor, &self.outgoing, value_of))
    }

    /// What `changes` make of this group, when they are over. The group must not be joint.
    ///
    /// ```
    /// use kontiki_core::membership::{Change, ChangeError, Membership};
    /// use kontiki_core::types::NodeId;
    ///
    /// let [a, b, c, d] = [1, 2, 3, 4].map(|id| NodeId::new(id).expect("not zero"));
    /// let group = Membership::of([a, b, c])?;
    /// let changed = group.changed(&[Change::Remove(a), Change::AddVoter(d.into())]);
    /// assert_eq!(changed, Ok(Membership::of([b, c, d])?));
    /// assert_eq!(group.changed(&[Change::Remove(d)]), Err(ChangeError::Stranger(d)));
    /// # Ok::<(), kontiki_core::membership::MembershipError>(())
    /// ```
    pub fn changed(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        if changes.is_empty() {
            return Err(ChangeError::Nothing);
        }
        let mut kinds: Vec<_> = self.members.iter().map(|&member| (member, self.kind(member))).collect();
        let mut named = Vec::new();
        for change in changes {
            let id = change.subject();
            if named.contains(&id) {
                return Err(ChangeError::NamedTwice(id));
            }
            named.push(id);
            self.change_one(*change, &mut kinds)?;
        }
        let changed = Self::from_kinds(kinds).map(|changed| Self {
            // A witness that is still catching up is a learner, and stays what it was brought in for.
            witnesses: changed
                .members
                .iter()
                .map(|member| member.id)
                .filter(|&id| changed.is_witness(id) || self.brings_in(id, &changed))
                .collect(),
            ..changed.clone()
        });
        changed.map_err(|error| match error {
            MembershipError::NoVoters => ChangeError::NoVoters,
            MembershipError::TooManyWitnesses => ChangeError::TooManyWitnesses,
            MembershipError::TooMany(_) => ChangeError::TooMany,
            MembershipError::Duplicate(id) => ChangeError::NamedTwice(id),
        })
    }

    /// Whether `id` is a witness here that catches up, and is a learner still in `changed`.
    fn brings_in(&self, id: NodeId, changed: &Self) -> bool {
        self.is_witness(id) && changed.learners.binary_search(&id).is_ok()
    }

    /// How many are members here or there.
    pub(crate) fn united_with(&self, other: &Self) -> usize {
        self.members.len() + other.members.iter().filter(|member| !self.contains(**member)).count()
    }

    fn change_one(&self, change: Change, kinds: &mut Vec<(Member, MemberKind)>) -> Result<(), ChangeError> {
        let id = change.subject();
        let now = kinds.iter_mut().find(|(member, _)| member.id == id);
        let (newcomer, kind) = match change {
            Change::AddVoter(member) => (Some(member), MemberKind::Voter),
            Change::AddWitness(member) => (Some(member), MemberKind::Witness),
            Change::AddLearner(member) => (Some(member), MemberKind::Learner),
            Change::Promote(_) => (None, MemberKind::Voter),
            Change::Demote(_) => (None, MemberKind::Learner),
            Change::Remove(_) => (None, MemberKind::NonMember),
        };
        match (now, newcomer) {
            (None, Some(member)) => kinds.push((member, kind)),
            (Some((known, _)), Some(member)) if *known == member => {
                return Err(ChangeError::AlreadyMember(id));
            }
            (Some(_), Some(_)) => return Err(ChangeError::OtherIncarnation(id)),
            (None, None) => return Err(ChangeError::Stranger(id)),
            (Some((_, was)), None) => match (&*was, kind) {
                // A witness that is still a learner is promoted to what it was brought in for.
                (MemberKind::Learner, MemberKind::Voter) if self.is_witness(id) => *was = MemberKind::Witness,
                (MemberKind::Voter | MemberKind::Witness, MemberKind::Voter) => {
                    return Err(ChangeError::AlreadyVoter(id));
                }
                (MemberKind::Learner, MemberKind::Learner) => return Err(ChangeError::AlreadyLearner(id)),
                (MemberKind::Witness, MemberKind::Learner) => return Err(ChangeError::Witness(id)),
                _ => *was = kind,
            },
        }
        Ok(())
    }

    /// Those that vote in `target` and do not here: they must catch up first.
    pub(crate) fn newcomers_to(&self, target: &Self) -> Vec<NodeId> {
        target.voters.iter().copied().filter(|&id| !self.is_voter(id)).collect()
    }

    /// This group, with those of `newcomers` that are not yet members as learners; none where all of them
    /// are.
    pub(crate) fn staging(&self, newcomers: &[NodeId], target: &Self) -> Option<Self> {
        let mut staged = self.clone();
        for &id in newcomers {
            if let (None, Some(incarnation)) = (self.incarnation(id), target.incarnation(id)) {
                staged.members.push(Member { id, incarnation });
                staged.learners.push(id);
                if target.is_witness(id) {
                    staged.witnesses.push(id);
                }
            }
        }
        if staged.members.len() == self.members.len() {
            return None;
        }
        staged.members.sort_unstable();
        staged.learners.sort_unstable();
        staged.witnesses.sort_unstable();
        Some(staged)
    }

    /// The first step from here to `target`: the target itself where any majority of one shares a member with
    /// any majority of the other, and the joint group of both otherwise (paper §6, thesis 4.1).
    pub(crate) fn step_to(&self, target: &Self) -> Self {
        let gone = self.voters.iter().filter(|id| target.voters.binary_search(id).is_err()).count();
        let come = target.voters.iter().filter(|id| self.voters.binary_search(id).is_err()).count();
        if gone + come <= 1 {
            return target.clone();
        }
        let leaves = |member: &&Member| self.is_voter(member.id) && !target.contains(**member);
        let mut members = target.members.clone();
        members.extend(self.members.iter().filter(leaves));
        members.sort_unstable();
        let demoted: Vec<_> =
            target.learners.iter().copied().filter(|id| self.voters.binary_search(id).is_ok()).collect();
        let mut witnesses = [&self.witnesses[..], &target.witnesses].concat();
        witnesses.sort_unstable();
        witnesses.dedup();
        witnesses.retain(|id| members.iter().any(|member| member.id == *id));
        Self {
            voters: target.voters.clone(),
            outgoing: self.voters.clone(),
            learners: target.learners.iter().copied().filter(|id| !demoted.contains(id)).collect(),
            demoted,
            witnesses,
            members,
        }
    }

    /// What this joint group becomes when it is left.
    pub(crate) fn left(&self) -> Self {
        let mut learners = [&self.learners[..], &self.demoted].concat();
        learners.sort_unstable();
        let stays = |id: &NodeId| self.voters.binary_search(id).is_ok() || learners.binary_search(id).is_ok();
        let members = self.members.iter().copied().filter(|member| stays(&member.id)).collect();
        let witnesses = self.witnesses.iter().copied().filter(stays).collect();
        Self {
            voters: self.voters.clone(),
            outgoing: Vec::new(),
            demoted: Vec::new(),
            learners,
            witnesses,
            members,
        }
    }
}

impl Change {
    /// Whom the change is about.
    pub fn subject(&self) -> NodeId {
        match self {
            Self::AddVoter(member) | Self::AddWitness(member) | Self::AddLearner(member) => member.id,
            Self::Promote(id) | Self::Demote(id) | Self::Remove(id) => *id,
        }
    }
}

fn sorted(mut ids: Vec<NodeId>) -> Result<Vec<NodeId>, MembershipError> {
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MembershipError::Duplicate(pair[0])),
        None => Ok(ids),
    }
}

/// Written as `{1 2 3}`; while joint `{2 3 4}&{1 2 3}`; learners after a `+`, witnesses with a `w`,
/// incarnations as in `3@7`.
impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |f: &mut fmt::Formatter<'_>, ids: &[NodeId]| {
            f.write_str("{")?;
            for (position, &id) in ids.iter().enumerate() {
                let space = if position > 0 { " " } else { "" };
                let incarnation = self.incarnation(id).unwrap_or_default();
                let witness = if self.is_witness(id) { "w" } else { "" };
                write!(f, "{space}{}{witness}", Member { id, incarnation })?;
            }
            f.write_str("}")
        };
        set(f, &self.voters)?;
        if self.is_joint() {
            f.write_str("&")?;
            set(f, &self.outgoing)?;
        }
        if !self.learners.is_empty() {
            f.write_str("+")?;
            set(f, &self.learners)?;
        }
        Ok(())
    }
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoters => f.write_str("no voters: name at least one member that votes"),
            Self::Duplicate(id) => {
                write!(f, "member {id} is listed twice: list each member once, as voter or as learner")
            }
            Self::TooMany(count) => write!(f, "{count} members: a group takes at most {MAX_MEMBERS}"),
            Self::TooManyWitnesses => {
                f.write_str("too many witnesses: less than half of the voters may hold no payloads")
            }
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no change: name at least one"),
            Self::NamedTwice(id) => write!(f, "two changes are about member {id}: ask for one at a time"),
            Self::Stranger(id) => {
                write!(f, "the group has no member {id}: look the id up in the list of members")
            }
            Self::AlreadyMember(id) => write!(f, "member {id} is here already: promote or demote it instead"),
            Self::OtherIncarnation(id) => {
                write!(f, "member {id} is here under another incarnation: remove that first")
            }
            Self::AlreadyVoter(id) => write!(f, "member {id} votes already: nothing to promote"),
            Self::AlreadyLearner(id) => write!(f, "member {id} is a learner already: nothing to demote"),
            Self::Witness(id) => {
                write!(f, "member {id} is a witness and cannot learn: remove it and add it anew")
            }
            Self::NoVoters => f.write_str("no voter would be left: a group keeps at least one voter"),
            Self::TooManyWitnesses => {
                f.write_str("too many witnesses: less than half of the voters may hold no payloads")
            }
            Self::TooMany => write!(f, "too many members: a group takes at most {MAX_MEMBERS}"),
        }
    }
}

impl core::error::Error for MembershipError {}
impl core::error::Error for ChangeError {}

/// What a membership looks like outside: checked on its way in.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Sets {
    voters: Vec<NodeId>,
    #[cfg_attr(feature = "serde", serde(default))]
    outgoing: Vec<NodeId>,
    #[cfg_attr(feature = "serde", serde(default))]
    learners: Vec<NodeId>,
    #[cfg_attr(feature = "serde", serde(default))]
    demoted: Vec<NodeId>,
    #[cfg_attr(feature = "serde", serde(default))]
    witnesses: Vec<NodeId>,
    members: Vec<Member>,
}

#[cfg(feature = "serde")]
impl TryFrom<Sets> for Membership {
    type Error = MembershipError;
    fn try_from(sets: Sets) -> Result<Self, MembershipError> {
        Self::checked(sets)
    }
}

#[cfg(feature = "serde")]
impl From<Membership> for Sets {
    fn from(membership: Membership) -> Self {
        let Membership { voters, outgoing, learners, demoted, witnesses, members } = membership;
        Self { voters, outgoing, learners, demoted, witnesses, members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|&number| NodeId::new(number).unwrap()).collect()
    }

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn wrong_lists_are_refused_each_with_its_reason() {
        assert_eq!(Membership::of(ids(&[])), Err(MembershipError::NoVoters));
        assert_eq!(Membership::of(ids(&[1, 2, 1])), Err(MembershipError::Duplicate(id(1))));
        assert_eq!(Membership::new(ids(&[1, 2]), ids(&[2])), Err(MembershipError::Duplicate(id(2))));
        assert_eq!(Membership::of(ids(&(1..100).collect::<Vec<_>>())), Err(MembershipError::TooMany(65)));
        let half = [(id(1), MemberKind::Voter), (id(2), MemberKind::Witness)];
        let half = half.map(|(id, kind)| (Member::from(id), kind));
        assert_eq!(Membership::from_kinds(half), Err(MembershipError::TooManyWitnesses));
    }

    #[test]
    fn some_members_are_named_and_the_rest_counted() {
        let some = |count: u64| ids(&(1..=count).collect::<Vec<_>>()).into_iter().collect::<SomeMembers>();
        assert_eq!(some(1).to_string(), "member 1");
        assert_eq!(some(3).to_string(), "members 1, 2, 3");
        assert_eq!(some(6).to_string(), "members 1, 2, 3, 4 and 2 more");
        assert_eq!((some(6).named().count(), some(6).more()), (4, 2));
    }

    #[test]
    fn a_joint_group_needs_a_majority_of_both_sets() {
        let joint = Membership::joint(ids(&[3, 4, 5]), ids(&[1, 2, 3]), []).unwrap();
        let yes = |set: &'static [u64]| move |id: NodeId| set.contains(&id.get()).then_some(true);
        assert_eq!(joint.tally(yes(&[3, 4, 5])), Tally::Pending);
        assert_eq!(joint.tally(yes(&[1, 2, 4])), Tally::Pending);
        assert_eq!(joint.tally(yes(&[2, 3, 4])), Tally::Won);
        assert_eq!(joint.tally(|id| (id.get() <= 2).then_some(false)), Tally::Lost);
        let index = |id: NodeId| Index::new(if id.get() >= 3 { 9 } else { 4 });
        assert_eq!(joint.reached(index), Index::new(4));
    }

    #[test]
    fn learners_decide_nothing() {
        let group = Membership::new(ids(&[1, 2, 3]), ids(&[4, 5])).unwrap();
        assert_eq!(group.tally(|id| (id.get() >= 3).then_some(true)), Tally::Pending);
        assert_eq!(group.reached(|id| Index::new(if id.get() >= 3 { 9 } else { 2 })), Index::new(2));
        assert_eq!(group.members().len(), 5);
    }

    #[test]
    fn illegal_changes_are_refused_each_with_its_reason() {
        let group = Membership::new(ids(&[1, 2]), ids(&[3])).unwrap();
        let other = Member::new(id(2), Incarnation(9));
        let cases: [(&[Change], _); 9] = [
            (&[], ChangeError::Nothing),
            (&[Change::Remove(id(1)), Change::Demote(id(1))], ChangeError::NamedTwice(id(1))),
            (&[Change::Remove(id(7))], ChangeError::Stranger(id(7))),
            (&[Change::AddVoter(id(3).into())], ChangeError::AlreadyMember(id(3))),
            (&[Change::AddVoter(other)], ChangeError::OtherIncarnation(id(2))),
            (&[Change::Promote(id(1))], ChangeError::AlreadyVoter(id(1))),
            (&[Change::Demote(id(3))], ChangeError::AlreadyLearner(id(3))),
            (&[Change::Remove(id(1)), Change::Demote(id(2))], ChangeError::NoVoters),
            (&[Change::AddWitness(id(4).into()), Change::Remove(id(2))], ChangeError::TooManyWitnesses),
        ];
        for (changes, error) in cases {
            assert_eq!(group.changed(changes), Err(error));
        }
    }

    #[test]
    fn a_swap_goes_through_a_joint_group_and_one_voter_more_does_not() {
        let group = Membership::of(ids(&[1, 2, 3])).unwrap();
        let more = group.changed(&[Change::AddVoter(id(4).into())]).unwrap();
        assert_eq!(group.step_to(&more), more);
        let swap = [Change::AddVoter(id(4).into()), Change::Demote(id(1)), Change::Remove(id(2))];
        let swapped = group.changed(&swap).unwrap();
        let joint = group.step_to(&swapped);
        assert_eq!(joint.to_string(), "{3 4}&{1 2 3}");
        assert_eq!(joint.left(), swapped);
        assert_eq!(swapped.to_string(), "{3 4}+{1}");
    }

    #[test]
    fn newcomers_are_learners_first_witnesses_too() {
        let group = Membership::of(ids(&[1, 2])).unwrap();
        let target = group.changed(&[Change::AddWitness(id(3).into())]).unwrap();
        assert_eq!(group.newcomers_to(&target), ids(&[3]));
        let staged = group.staging(&ids(&[3]), &target).unwrap();
        assert_eq!(staged.to_string(), "{1 2}+{3w}");
        assert_eq!(staged.changed(&[Change::Promote(id(3))]), Ok(target.clone()));
        assert_eq!(staged.staging(&ids(&[3]), &target), None);
        let more = staged.changed(&[Change::AddLearner(id(4).into())]).unwrap();
        assert_eq!(more.to_string(), "{1 2}+{3w 4}", "a witness stays one while it catches up");
    }
}
