//! Joining: a newcomer learns the name of its group, and asks to be added until it votes.

use crate::membership::{Change, MemberKind};
use crate::replica::formation::address_book::{AddressBook, Source};
use crate::replica::formation::io::{ChangeRefused, Output, Place, Question, QuestionId, Reply, Report};
use crate::replica::formation::record::{Address, Admission, Who};
use crate::replica::formation::stage::{ADDING, PATIENCE, PAUSE, RETRY, Stage};
use crate::replica::formation::state::Formation;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;

/// So often in a row an answer's word on the leader is followed at once.
const MAX_REDIRECTS: u8 = 3;

/// What a member that has entered its group has to do there.
enum Duty {
    Nothing,
    /// Its own log decides, sooner or later.
    Wait,
    /// The same, unless a later leader has never heard of this member: then no leader sends it entries, and
    /// its log never changes. So it goes on asking.
    Remind(Change),
    /// It has come to be this.
    Become(Option<Admission>),
    Ask(Change),
}

impl Formation {
    /// Asks the member to join by for its identity.
    pub(super) fn ask_seed(&mut self, book: &AddressBook, out: &mut Vec<Output>) -> Option<QuestionId> {
        let seed = self.seed()?.into();
        let ask = Question::Introduce(self.introduction(book));
        Some(self.ask(seed, ask, PATIENCE, out))
    }

    /// The member to join by has answered, or not. The group has no name yet.
    pub(super) fn on_seed(
        &mut self,
        answer: Result<Reply, String>,
        book: &mut AddressBook,
        out: &mut Vec<Output>,
    ) {
        let address: String = self.seed().unwrap_or_default().into();
        let who = match answer {
            Ok(Reply::Who(who)) => who,
            Ok(_) => return,
            Err(why) => return self.report(Report::SeedSilent { address, why }, out),
        };
        match (who.cluster, self.setup.wanted) {
            (None, _) => {
                let member = who.member.id;
                self.report(Report::SeedHasNoGroup { member, address }, out);
            }
            (Some(found), Some(wanted)) if found != wanted => {
                self.report(Report::SeedOfOtherGroup { address, found }, out);
            }
            (Some(cluster), _) => {
                self.note(&who, address, book);
                let mut record = self.record.clone();
                // A founder that was started to join finds itself in the list, and is not added by a change.
                let me = record.member();
                let is_founder =
                    who.founders.iter().any(|it| it.id == me.id && it.incarnation == me.incarnation);
                if is_founder {
                    record.founders = who.founders;
                }
                record.cluster = Some(cluster);
                record.joining = (!is_founder).then_some(Admission::Wanted);
                self.store_group(record, out);
            }
        }
    }

    /// The same for a member that has a group already: only addresses are wanted.
    pub(super) fn on_located(
        &mut self,
        answer: Result<Reply, String>,
        book: &mut AddressBook,
        out: &mut Vec<Output>,
    ) {
        let address: String = self.seed().unwrap_or_default().into();
        match answer {
            // The name may lead to the right one later.
            Ok(Reply::Who(who)) if who.member.id == self.record.id => {}
            Ok(Reply::Who(who)) if who.cluster == self.record.cluster => {
                self.note(&who, address, book);
                self.stage = Stage::Settled;
            }
            Ok(Reply::Who(Who { cluster: Some(found), .. })) => {
                self.report(Report::SeedOfOtherGroup { address, found }, out);
            }
            Ok(Reply::Who(who)) => self.hear(&who, book),
            Ok(_) | Err(_) => {}
        }
    }

    /// Asks at the next of all known addresses for the identity of the member there, which learns by that
    /// where this member is.
    pub(super) fn introduce_itself(&mut self, turn: usize, book: &AddressBook, out: &mut Vec<Output>) {
        let all: Vec<_> = book.ids().flat_map(|id| book.candidates(id)).collect();
        let open = all.get(turn % all.len().max(1)).map(|address| {
            let ask = Question::Introduce(self.introduction(book));
            self.ask(address.clone(), ask, PATIENCE, out)
        });
        self.stage = Stage::Introducing { open, turn: turn.wrapping_add(1) };
    }

    /// Hears where others are, from a member of the group, or from one that has lost its directory and may
    /// know it all the same.
    pub(super) fn hear(&self, who: &Who, book: &mut AddressBook) {
        if who.cluster.is_none() || who.cluster == self.record.cluster {
            book.told_all(&who.addresses);
        }
    }

    /// Takes note of where members are: of the one to join by, on the operator's word.
    fn note(&self, who: &Who, address: String, book: &mut AddressBook) {
        book.note(who.member.id, Address::undated(address), Source::Configured);
        book.told_all(&who.addresses);
    }

    /// **Invariant:** only a committed membership ends the joining. One that is not committed may be undone,
    /// and one that is older than this member's addition does not have it.
    fn duty(&self, place: Place) -> Duty {
        let me = self.record.member();
        let add = match self.setup.witness {
            true => Change::AddWitness(me),
            false => Change::AddVoter(me),
        };
        match (self.record.joining, place.kind) {
            (None, _) if !place.is_configured && self.seed().is_some() => {
                Duty::Become(Some(Admission::Wanted))
            }
            (None, _) => Duty::Nothing,
            (Some(_), MemberKind::Voter | MemberKind::Witness) if place.is_committed => Duty::Become(None),
            (Some(Admission::Learner), MemberKind::Voter | MemberKind::Witness) => Duty::Wait,
            (Some(Admission::Wanted), MemberKind::NonMember) => Duty::Ask(add),
            (Some(Admission::Wanted), MemberKind::Learner) if place.is_committed => {
                Duty::Become(Some(Admission::Learner))
            }
            (Some(Admission::Wanted), _) => Duty::Remind(add),
            (Some(Admission::Learner), MemberKind::Learner) if self.setup.witness => Duty::Wait,
            (Some(Admission::Learner), MemberKind::Learner) => Duty::Ask(Change::Promote(me.id)),
            (Some(Admission::Learner), MemberKind::NonMember) if place.is_committed => Duty::Become(None),
            (Some(Admission::Learner), MemberKind::NonMember) => Duty::Wait,
        }
    }

    pub(super) fn go_on_joining(&mut self, now: Instant, book: &mut AddressBook, out: &mut Vec<Output>) {
        let (Stage::Joining(joining), Some(place)) = (&self.stage, self.place) else { return };
        let (is_open, asks_next) = (joining.open.is_some(), joining.was_found);
        match self.duty(place) {
            Duty::Nothing => self.settle(now, book, out),
            Duty::Remind(change) if !is_open && asks_next && now >= self.retry_at => {
                self.retry_at = now + PAUSE;
                self.ask_to_change(change, place, book, out);
            }
            Duty::Wait | Duty::Remind(_) if !is_open && now >= self.retry_at => {
                self.retry_at = now + PAUSE;
                self.be_found(book, out);
            }
            Duty::Wait | Duty::Remind(_) => {}
            Duty::Become(joining) => {
                if joining.is_none() && place.kind != MemberKind::NonMember {
                    self.report(Report::Joined, out);
                }
                self.record.joining = joining;
                let then = self.stage.clone();
                self.store(then, out);
            }
            Duty::Ask(change) if !is_open && now >= self.retry_at => {
                self.retry_at = now + RETRY;
                self.ask_to_change(change, place, book, out);
            }
            Duty::Ask(_) => {}
        }
    }

    /// The member is where it belongs; it may still have an address to ask for the others'.
    fn settle(&mut self, now: Instant, book: &mut AddressBook, out: &mut Vec<Output>) {
        if self.seed().is_none() {
            self.stage = Stage::Settled;
            return;
        }
        self.retry_at = now;
        let question = self.ask_seed(book, out);
        self.stage = Stage::Locating { open: question, pause: RETRY };
    }

    /// The log that decides comes from a leader, which must know where this member is; and after a restart
    /// this member may know only the member to join by. It introduces itself to that member, which answers
    /// with the addresses it knows.
    fn be_found(&mut self, book: &AddressBook, out: &mut Vec<Output>) {
        out.push(Output::Connect(book.ids().collect()));
        let Some(address) = self.seed().map(String::from) else { return };
        if let Some(question) = self.ask_seed(book, out)
            && let Stage::Joining(joining) = &mut self.stage
        {
            joining.open = Some((question, address));
            joining.was_found = true;
        }
    }

    fn ask_to_change(&mut self, change: Change, place: Place, book: &mut AddressBook, out: &mut Vec<Output>) {
        let introduction = self.introduction(book);
        let others: Vec<_> = book.ids().collect();
        let mut all: Vec<String> = self.seed().map(Into::into).into_iter().collect();
        for address in others.iter().flat_map(|id| book.candidates(*id)) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        let Stage::Joining(joining) = &mut self.stage else { return };
        let known = place.leader.and_then(|leader| book.best(leader)).map(String::from);
        // The leader may be lost: every other attempt goes to another member.
        let by_turn = all.get(joining.turn / 2 % all.len().max(1)).cloned();
        let leader = joining.leader.take().or_else(|| known.filter(|_| joining.turn % 2 == 1));
        joining.turn = joining.turn.wrapping_add(1);
        let Some(address) = leader.or(by_turn) else { return };
        // The next leader must know where this member is, which it learns from a connection.
        out.push(Output::Connect(others));
        let question = self.ask(address.clone(), Question::Change(change, introduction), ADDING, out);
        if let Stage::Joining(joining) = &mut self.stage {
            joining.open = Some((question, address));
            joining.was_found = false;
        }
    }

    pub(super) fn on_change(
        &mut self,
        now: Instant,
        question: QuestionId,
        answer: Result<Reply, String>,
        book: &mut AddressBook,
        out: &mut Vec<Output>,
    ) {
        let Stage::Joining(joining) = &mut self.stage else { return };
        let Some((_, address)) = joining.open.take_if(|(open, _)| *open == question) else { return };
        self.retry_at = now + RETRY;
        let redirected = core::mem::take(&mut joining.redirects);
        match answer {
            // What its own replica says counts. It will hear of it.
            Ok(Reply::Changed(_)) => {}
            Ok(Reply::Who(who)) => {
                if who.cluster == self.record.cluster && who.member.id != self.record.id {
                    self.note(&who, address, book);
                }
            }
            Ok(Reply::Unknown) => {
                let why = "leadership was lost".into();
                self.report(Report::AdditionUnknown { address, why }, out);
            }
            Ok(Reply::NotCaughtUp) => {
                self.retry_at = now + PAUSE;
                self.report(Report::NotCaughtUp, out);
            }
            Ok(Reply::Refused(ChangeRefused { leader: Some((id, Some(leader))), .. }))
                if leader != address && redirected < MAX_REDIRECTS =>
            {
                book.told(id, leader.clone());
                (joining.leader, joining.redirects) = (Some(leader), redirected + 1);
                self.retry_at = now;
            }
            Ok(Reply::Refused(ChangeRefused { is_member: true, .. })) => {}
            Ok(Reply::Refused(ChangeRefused { reason, is_passing, .. })) => {
                if !is_passing {
                    self.retry_at = now + PAUSE;
                }
                self.report(Report::NotAdded { reason, needs_operator: !is_passing }, out);
            }
            Err(why) => self.report(Report::AdditionUnknown { address, why }, out),
        }
    }
}
