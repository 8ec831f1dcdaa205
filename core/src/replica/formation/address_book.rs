//! Where members are to be reached: several candidates for each id, until one proves to be that member.
//!
//! An address decides nothing. The peer identifies itself in the handshake, and only a handshake with the
//! right id, group and incarnation makes a candidate a verified address. So a wrong hint costs an attempt and
//! displaces nothing: what an operator has configured is always tried, whatever an earlier life remembers.

use crate::replica::formation::record::Address;
use crate::time::{Instant, Nanos};
use crate::types::{ClusterId, Incarnation, Member, NodeId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Where a candidate comes from, the least trusted first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// An earlier life of this member has written it down.
    Remembered,
    /// Another member says so.
    Reported,
    /// The member itself says so, or has answered there.
    Announced,
    /// An operator says so.
    Configured,
}

/// The addresses that a host knows, and what it has found out about them.
///
/// **Invariant:** the space is bounded: [`MAX_IDS`] ids with [`MAX_CANDIDATES`] addresses each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressBook {
    id: NodeId,
    own: Option<Address>,
    entries: BTreeMap<NodeId, Entry>,
    /// The incarnations of members of which this host knows by a membership.
    expected: BTreeMap<ClusterId, Vec<Member>>,
    changes: u64,
    news: BTreeSet<NodeId>,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Entry {
    candidates: Vec<Candidate>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Candidate {
    address: Address,
    source: Source,
    /// Whether the member has proved to be there since this book was made, and nothing has failed since.
    verified: bool,
    /// Whether the member itself named it in its last handshake.
    is_own_word: bool,
    /// How many attempts have failed since one last succeeded for this id.
    failures: u32,
    /// Since when no attempt has succeeded here.
    failing_since: Option<Instant>,
}

/// What an address is worth once a peer has answered there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the member: stay connected.
    Verified,
    /// It has the member's id and not its incarnation or its group: stay connected only if no other address
    /// leads to the member. It may be a member whose directory was emptied, which has to be told.
    Doubtful,
    /// It is another member.
    Other,
}

/// How many ids a book keeps.
pub const MAX_IDS: usize = 256;
/// How many addresses a book keeps for one id.
pub const MAX_CANDIDATES: usize = 8;
/// How many addresses that other members have left take turns for one that answers nowhere.
const MAX_LEFT: usize = 16;
/// After how long an address that never answers is dropped, if nothing configures it.
pub const FORGET_AFTER: Nanos = Nanos::new(10 * 60 * 1_000_000_000);

impl AddressBook {
    /// An empty book of the host with this id.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            own: None,
            entries: BTreeMap::new(),
            expected: BTreeMap::new(),
            changes: 0,
            news: BTreeSet::new(),
        }
    }

    /// Where this host is to be reached, if it knows.
    pub fn own(&self) -> Option<&Address> {
        self.own.as_ref()
    }

    /// From now on this host announces this address. Returns whether it can be announced at all.
    pub fn announce(&mut self, address: Address) -> bool {
        let usable = address.is_usable();
        if usable {
            self.own = Some(address);
        }
        usable
    }

    /// Takes note of a candidate. Returns whether it is news, so that the member is worth dialling now.
    pub fn note(&mut self, id: NodeId, address: Address, source: Source) -> bool {
        if id == self.id || !address.is_usable() || !self.make_room(id, source) {
            return false;
        }
        let entry = self.entries.entry(id).or_default();
        let is_news = entry.note(address, source);
        if is_news {
            self.changes += 1;
            self.news.insert(id);
        }
        is_news
    }

    /// Returns the members of which there are new addresses since this was asked last: they are worth
    /// dialling at once.
    pub fn take_news(&mut self) -> BTreeSet<NodeId> {
        core::mem::take(&mut self.news)
    }

    /// Another member says where one is to be reached.
    pub(super) fn told(&mut self, id: NodeId, address: String) {
        self.note(id, Address::undated(address), Source::Reported);
    }

    /// Another member says where several are.
    pub(super) fn told_all(&mut self, addresses: &[(NodeId, String)]) {
        for (id, address) in addresses {
            self.told(*id, address.clone());
        }
    }

    /// Takes in what a peer says of itself and of others in its handshake.
    ///
    /// The peer may have dialled this host, which then has no reason to dial, and verifies nothing. What the
    /// peer says of itself is then what others are told.
    pub fn heard(&mut self, id: NodeId, own: &Address, known: &[(NodeId, Address)]) {
        self.note(id, own.clone(), Source::Announced);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.own_word(&own.text);
        }
        for (other, address) in known.iter().filter(|(other, _)| *other != id) {
            self.note(*other, address.clone(), Source::Reported);
        }
    }

    /// A peer looks for the member `sought` here, and introduces itself. Returns whether it has come to the
    /// right place.
    ///
    /// Where it has not, the peer knows of an old address, and nothing better. So it may be up to this host
    /// to dial the peer, whose own address is news in either case.
    pub fn visited(
        &mut self,
        sought: NodeId,
        peer: NodeId,
        own: &Address,
        known: &[(NodeId, Address)],
    ) -> bool {
        self.heard(peer, own, known);
        sought == self.id
    }

    /// From now on the group has these members. Addresses are verified against their incarnations, and
    /// addresses of others may age out.
    pub fn expect(&mut self, cluster: ClusterId, members: &[Member]) {
        self.expected.insert(cluster, members.to_vec());
    }

    /// This host has left the group.
    pub fn forget_group(&mut self, cluster: ClusterId) {
        self.expected.remove(&cluster);
    }

    /// Returns the addresses to try for a member, in order.
    pub fn candidates(&self, id: NodeId) -> Vec<String> {
        let mut candidates: Vec<_> =
            self.entries.get(&id).into_iter().flat_map(|it| &it.candidates).collect();
        candidates.sort_by_key(|candidate| candidate.order());
        candidates.into_iter().map(|candidate| candidate.address.text.clone()).collect()
    }

    /// Returns the addresses to dial for a member, in order: its candidates, and then one address that
    /// another member of its group has left. Those take turns, the newest first.
    ///
    /// Where a whole group comes back with its addresses mixed up, a member may be at the former address of
    /// another that has been found elsewhere. Only a peer that dials it there can find it, and be heard.
    pub fn to_dial(&self, id: NodeId) -> Vec<String> {
        let mut to_dial = self.candidates(id);
        let left = self.left_by_others(id);
        if !left.is_empty() {
            let rounds = self.entries.get(&id).map_or(0, Entry::rounds) as usize;
            to_dial.push(String::from(left[rounds % left.len()]));
        }
        to_dial
    }

    /// The newest [`MAX_LEFT`] addresses that others of a member's groups have left, and at which, for all
    /// that is known, the member may be.
    fn left_by_others(&self, id: NodeId) -> Vec<&str> {
        let groups = self.expected.values().filter(|members| members.iter().any(|it| it.id == id));
        let others: BTreeSet<_> = groups.flatten().map(|it| it.id).filter(|other| *other != id).collect();
        let others: Vec<_> = others.iter().filter_map(|other| self.entries.get(other)).collect();
        let own = self.own.as_ref().map(|own| &*own.text);
        let taken: BTreeSet<_> = others.iter().filter_map(|it| it.verified_at()).chain(own).collect();
        let tried = self.entries.get(&id).map_or(&[][..], |entry| &entry.candidates);
        let may_be_there = |it: &&Candidate| {
            !taken.contains(&*it.address.text) && !tried.iter().any(|own| own.address.text == it.address.text)
        };
        let mut left: Vec<_> = others.iter().flat_map(|it| it.left()).filter(may_be_there).collect();
        left.sort_by_key(|candidate| Reverse(candidate.address.stamp));
        left.truncate(MAX_LEFT);
        left.into_iter().map(|candidate| &*candidate.address.text).collect()
    }

    /// Returns the most likely address of a member, to tell others; for this host's own id, what it
    /// announces.
    pub fn best(&self, id: NodeId) -> Option<&str> {
        if id == self.id {
            return self.own.as_ref().map(|address| &*address.text);
        }
        let candidates = &self.entries.get(&id)?.candidates;
        let best = candidates.iter().min_by_key(|it| (!it.verified, !it.is_own_word, it.order()))?;
        Some(&best.address.text)
    }

    /// Returns all other ids of which an address is known.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.entries.keys().copied()
    }

    /// No peer answers at this address, or the peer there refuses to be asked for this member.
    pub fn failed(&mut self, id: NodeId, address: &str, now: Instant) {
        let is_expected = self.is_expected(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = entry.candidates.len();
        entry.failed(address, now, is_expected);
        if entry.candidates.len() < before {
            self.changes += 1;
            if entry.candidates.is_empty() {
                self.entries.remove(&id);
            }
        }
    }

    /// At an address of member `id` answers `peer`, which says that it is in these groups in these
    /// incarnations.
    pub fn answered(
        &mut self,
        id: NodeId,
        address: &str,
        peer: NodeId,
        groups: &[(ClusterId, Incarnation)],
        now: Instant,
    ) -> Verdict {
        if peer != id {
            self.failed(id, address, now);
            // The address is good for the member that is there.
            self.note(peer, Address::undated(address), Source::Announced);
            return Verdict::Other;
        }
        let mut expected = self.expected.iter().flat_map(|(cluster, members)| {
            members.iter().filter(|member| member.id == id).map(|member| (*cluster, member.incarnation))
        });
        if expected.any(|group| !groups.contains(&group)) {
            self.failed(id, address, now);
            return Verdict::Doubtful;
        }
        let is_known = |entry: &Entry| entry.candidates.iter().any(|it| it.address.text == address);
        if !self.entries.get(&id).is_some_and(is_known) {
            // Another member has left it.
            self.note(id, Address::undated(address), Source::Announced);
        }
        let entry = self.entries.entry(id).or_default();
        self.changes += u64::from(entry.verified(address));
        Verdict::Verified
    }

    /// Returns what to tell other members, and what to write down for a later life: the best address of each
    /// member first, then the second-best, so that a reader with little room has one of each.
    pub fn known(&self) -> Vec<(NodeId, Address)> {
        let mut known = Vec::new();
        for (id, entry) in &self.entries {
            let mut candidates: Vec<_> = entry.candidates.iter().collect();
            candidates.sort_by_key(|candidate| candidate.order());
            known
                .extend(candidates.into_iter().enumerate().map(|(rank, it)| (rank, *id, it.address.clone())));
        }
        known.sort_by_key(|(rank, id, _)| (*rank, *id));
        known.into_iter().map(|(_, id, address)| (id, address)).collect()
    }

    /// Returns how often something has changed that is worth writing down.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn is_expected(&self, id: NodeId) -> bool {
        self.expected.values().flatten().any(|member| member.id == id)
    }

    /// Sees to it that there is room for this id. A member of a group is never displaced by another id.
    fn make_room(&mut self, id: NodeId, source: Source) -> bool {
        if self.entries.contains_key(&id) || self.entries.len() < MAX_IDS {
            return true;
        }
        if source != Source::Configured && !self.is_expected(id) {
            return false;
        }
        let Some(stranger) = self.entries.keys().copied().find(|known| !self.is_expected(*known)) else {
            return false;
        };
        self.entries.remove(&stranger);
        true
    }
}

impl Entry {
    fn note(&mut self, address: Address, source: Source) -> bool {
        if let Some(known) = self.candidates.iter_mut().find(|known| known.address.text == address.text) {
            let is_news = (source, address.stamp) > (known.source, known.address.stamp);
            known.source = known.source.max(source);
            known.address.stamp = known.address.stamp.max(address.stamp);
            if is_news {
                known.failing_since = None;
            }
            return is_news;
        }
        if self.candidates.len() >= MAX_CANDIDATES && !self.drop_worst(source) {
            return false;
        }
        // It is the next to be tried, and then takes its turn among the others.
        let failures = self.rounds();
        let candidate =
            Candidate { address, source, verified: false, is_own_word: false, failures, failing_since: None };
        self.candidates.push(candidate);
        true
    }

    /// Makes room for a candidate of this source. A verified address stays, and so does what an operator has
    /// configured, unless an operator configures more than there is room for.
    fn drop_worst(&mut self, source: Source) -> bool {
        let may_go =
            |it: &Candidate| !it.verified && (it.source < Source::Configured || source == Source::Configured);
        let worst = self.candidates.iter().enumerate().filter(|(_, it)| may_go(it));
        let worst = worst.max_by_key(|(_, it)| (Reverse(it.source), it.failures, Reverse(it.address.stamp)));
        let Some((at, worst)) = worst else { return false };
        if worst.source > source {
            return false;
        }
        self.candidates.remove(at);
        true
    }

    fn failed(&mut self, address: &str, now: Instant, is_expected: bool) {
        let Some(at) = self.candidates.iter().position(|candidate| candidate.address.text == address) else {
            return;
        };
        let has_verified = self.candidates.iter().any(|candidate| candidate.verified);
        let candidate = &mut self.candidates[at];
        candidate.verified = false;
        candidate.failures = candidate.failures.saturating_add(1);
        let since = *candidate.failing_since.get_or_insert(now);
        let is_old = now - since >= FORGET_AFTER;
        // The last address of a member stays as long as the member is one.
        let is_needed = candidate.source == Source::Configured || (is_expected && !has_verified);
        if is_old && !is_needed {
            self.candidates.remove(at);
        }
    }

    /// The member itself has named this address in a handshake.
    fn own_word(&mut self, address: &str) {
        for candidate in &mut self.candidates {
            candidate.is_own_word = candidate.address.text == address;
        }
    }

    /// Where the member has proved to be.
    fn verified_at(&self) -> Option<&str> {
        self.candidates.iter().find(|candidate| candidate.verified).map(|candidate| &*candidate.address.text)
    }

    /// How often all addresses have been tried since the member was last found.
    fn rounds(&self) -> u32 {
        self.candidates.iter().map(|candidate| candidate.failures).min().unwrap_or(0)
    }

    /// The addresses at which the member is not any more: it has proved to be at another.
    fn left(&self) -> impl Iterator<Item = &Candidate> {
        let has_left = self.verified_at().is_some();
        self.candidates.iter().filter(move |candidate| has_left && !candidate.verified)
    }

    /// Whether that is news.
    fn verified(&mut self, address: &str) -> bool {
        for candidate in &mut self.candidates {
            if candidate.address.text == address {
                let is_news = !candidate.verified;
                (candidate.verified, candidate.failures, candidate.failing_since) = (true, 0, None);
                self.rest_after(address);
                return is_news;
            }
        }
        false
    }

    /// All other addresses are tried again from the beginning, once this one fails.
    fn rest_after(&mut self, address: &str) {
        for candidate in self.candidates.iter_mut().filter(|it| it.address.text != address) {
            (candidate.verified, candidate.failures) = (false, 1);
        }
    }
}

impl Candidate {
    /// What is tried first is least: whatever has failed less often, and then whatever is trusted more. So
    /// all addresses of a member take turns, and nothing that is known stays untried.
    fn order(&self) -> (u32, bool, Reverse<Source>, Reverse<u64>) {
        (self.failures, !self.verified, Reverse(self.source), Reverse(self.address.stamp))
    }
}
