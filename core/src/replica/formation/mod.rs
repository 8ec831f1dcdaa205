//! How a member comes to its group: as one of the first members, or by joining.
//!
//! A [`Formation`] decides and waits for nothing. Like the kernel it has no clock, no socket and no file: a
//! host tells it what happened, as an [`Input`], wakes it at its [`deadline`](Formation::deadline), and
//! carries out its [`Output`]s. The simulator runs the same code (`cargo sim formation`).
//!
//! ```text
//!   Plan::Found ─► Founding ─┐                    ┌─► Joining ─► Settled     not a voter yet
//!                            ├─ Store ─► Enter ───┤
//!   Plan::Join ──► Seeking ──┘                    └─► Locating ─► Settled    a member, with an address to ask
//!                                                     Introducing ◄─►┘       as long as it hears of no leader
//! ```
//!
//! # Founding
//!
//! All first members are started with the same list. Each asks the others for their identity, and introduces
//! itself by asking. When all of them are there and none has a group, the member with the lowest id names the
//! group and writes down its members, each with the incarnation of its directory. The others find themselves
//! in what it wrote, and write it down as well. A member whose directory was emptied later does not find
//! itself: it neither founds the group a second time nor votes in it without its memory.
//!
//! Members that were started with other lists do not tell each other their identity: two groups whose members
//! have the same ids do not mix, although an address leads from one to the other.
//!
//! **Invariant:** no two groups come from one list. A founder needs the word of all others that they have no
//! group. A member that has given its word adopts no group that another incarnation of the peer has founded,
//! unless it is told of it in answer to a later question; and it answers no question about its identity while
//! it writes.
//!
//! # Joining
//!
//! A newcomer asks one member for the group's name, starts as a member that knows nothing, and asks the
//! leader to be added. It receives the log, or a snapshot, like any follower, and votes once it has caught
//! up. Only the log decides whether it is added. It asks all members that it knows of, until its own replica
//! says that it votes; it is written down that it has not finished, so a restart does not end the attempt. An
//! entry that adds it and is not committed ends nothing either: a later leader may never have heard of it.
//!
//! # Addresses
//!
//! The [`AddressBook`] keeps several candidates for each member. A member that is told an address to join by
//! asks there even if it is in its group already: so a group that has moved finds together again. A member
//! that hears of no leader for long introduces itself to one known address after the other: its leader may
//! have lost sight of it.

mod address_book;
mod founding;
mod io;
mod joining;
mod record;
mod stage;
mod state;
#[cfg(test)]
mod tests;

pub use address_book::{AddressBook, FORGET_AFTER, MAX_CANDIDATES, MAX_IDS, Source, Verdict};
pub use io::{
    ChangeRefused, FormationError, Input, MissingFounder, Output, Place, Plan, Question, QuestionId, Reply,
    Report, Setup,
};
pub use record::{
    Address, Admission, Founder, Introduction, MAX_ADDRESS, NoIdentity, Record, Who, is_unspecified,
};
pub use stage::{ADDING, PATIENCE, PAUSE, RETRY};
pub use state::Formation;

use crate::replica::formation::stage::{Founding, Joining, Stage};
use crate::time::Instant;
use crate::types::ClusterId;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

impl Formation {
    /// A formation of the member whose directory has this record.
    ///
    /// # Errors
    ///
    /// What is wrong with the plan for such a directory.
    pub fn new(record: Record, setup: Setup) -> Result<Self, FormationError> {
        match (record.cluster, setup.wanted, &setup.plan) {
            (Some(found), Some(wanted), _) if found != wanted => {
                return Err(FormationError::OtherCluster { found, wanted });
            }
            (None, _, Plan::Resume) => return Err(FormationError::NoPlan),
            (None, _, Plan::Found(first)) if first.iter().all(|(id, _)| *id != record.id) => {
                return Err(FormationError::NotListed(record.id));
            }
            _ => {}
        }
        Ok(Self {
            record,
            setup,
            stage: Stage::Fresh,
            place: None,
            last_question: 0,
            retry_at: Instant::ZERO,
            introduced: BTreeMap::new(),
            reported: None,
        })
    }

    /// What is written down of the member, or is about to be.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The name of the member's group, or of the one that it waits for, if that is known.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.record.cluster.or(self.setup.wanted)
    }

    /// When to send [`Input::Wake`], at the latest.
    pub fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Fresh => Instant::ZERO,
            Stage::Founding(founding) if founding.is_idle() => self.retry_at,
            Stage::Seeking { open: None } | Stage::Locating { open: None, .. } => self.retry_at,
            Stage::Joining(joining) if joining.waits(self.place) => self.retry_at,
            Stage::Settled if self.is_leaderless() => self.retry_at,
            Stage::Introducing { open: None, .. } => self.retry_at,
            _ => Instant::NEVER,
        }
    }

    /// Takes one input and appends what follows from it to `out`.
    pub fn handle(&mut self, now: Instant, input: Input, book: &mut AddressBook, out: &mut Vec<Output>) {
        if self.stage == Stage::Fresh {
            self.begin(now, book, out);
        }
        match input {
            Input::Wake => {}
            Input::Answered { question, answer } => self.on_answer(now, question, answer, book, out),
            Input::Stored => self.on_stored(now, book, out),
            Input::Placed(place) => self.on_placed(now, place),
        }
        self.go_on(now, book, out);
    }

    /// What the member says when it is asked for its identity. Nothing while it writes down its group: what
    /// it says must be true after a crash as well.
    pub fn who(&self, book: &AddressBook) -> Option<Who> {
        let is_writing_group = matches!(&self.stage, Stage::Storing(_)) && self.place.is_none();
        if is_writing_group || self.stage == Stage::Fresh {
            return None;
        }
        let own = book.own().map(|address| (self.record.id, address.text.clone()));
        let known = book.known().into_iter().map(|(id, address)| (id, address.text));
        Some(Who {
            member: self.record.member(),
            cluster: self.record.cluster,
            founders: self.record.founders.clone(),
            addresses: own.into_iter().chain(known).collect(),
        })
    }

    /// A peer has introduced itself and asks for this member's identity.
    ///
    /// # Errors
    ///
    /// Why it is not told.
    pub fn introduced(&mut self, peer: &Introduction, book: &mut AddressBook) -> Result<Who, NoIdentity> {
        if peer.list.is_some() && self.record.cluster.is_none() && peer.list != self.list() {
            return Err(NoIdentity::OtherList);
        }
        if let Some(address) = &peer.address {
            book.note(peer.member.id, address.clone(), Source::Announced);
        }
        if self.lists(peer.member.id) {
            let introduced = (peer.member.incarnation, QuestionId(self.last_question));
            self.introduced.insert(peer.member.id, introduced);
        }
        self.who(book).ok_or(NoIdentity::Writing)
    }

    fn begin(&mut self, now: Instant, book: &mut AddressBook, out: &mut Vec<Output>) {
        for (id, address) in self.first() {
            book.note(*id, Address::undated(address.clone()), Source::Configured);
        }
        self.retry_at = now;
        if self.record.cluster.is_some() {
            return self.enter(book, out);
        }
        self.stage = match &self.setup.plan {
            Plan::Found(_) => Stage::Founding(Founding::default()),
            Plan::Join(_) | Plan::Resume => Stage::Seeking { open: None },
        };
    }

    /// The member has a group, and that is written down.
    fn enter(&mut self, book: &mut AddressBook, out: &mut Vec<Output>) {
        for founder in &self.record.founders {
            book.note(founder.id, Address::undated(founder.address.clone()), Source::Remembered);
        }
        self.stage = Stage::Joining(Joining::default());
        out.push(Output::Enter(self.record.clone()));
    }

    fn on_stored(&mut self, now: Instant, book: &mut AddressBook, out: &mut Vec<Output>) {
        let Stage::Storing(then) = core::mem::replace(&mut self.stage, Stage::Settled) else { return };
        self.retry_at = now;
        match *then {
            // It was the group that was written.
            Stage::Fresh => self.enter(book, out),
            then => self.stage = then,
        }
    }

    fn on_placed(&mut self, now: Instant, place: Place) {
        self.place = Some(place);
        match &self.stage {
            Stage::Settled if place.leader.is_none() => self.retry_at = now + PAUSE,
            Stage::Introducing { .. } if place.leader.is_some() => self.stage = Stage::Settled,
            _ => {}
        }
    }

    fn is_leaderless(&self) -> bool {
        self.place.is_some_and(|place| place.leader.is_none())
    }

    fn on_answer(
        &mut self,
        now: Instant,
        question: QuestionId,
        answer: Result<Reply, String>,
        book: &mut AddressBook,
        out: &mut Vec<Output>,
    ) {
        match &mut self.stage {
            Stage::Founding(_) => self.on_founder(now, question, answer, book, out),
            Stage::Seeking { open } if *open == Some(question) => {
                *open = None;
                self.retry_at = now + RETRY;
                self.on_seed(answer, book, out);
            }
            Stage::Joining(_) => self.on_change(now, question, answer, book, out),
            Stage::Locating { open, pause } if *open == Some(question) => {
                *open = None;
                self.retry_at = now + *pause;
                *pause = (*pause + *pause).min(PAUSE);
                self.on_located(answer, book, out);
            }
            Stage::Introducing { open, .. } if *open == Some(question) => {
                *open = None;
                self.retry_at = now + PAUSE;
                if let Ok(Reply::Who(who)) = answer {
                    self.hear(&who, book);
                }
            }
            // The question is of an earlier stage.
            _ => {}
        }
    }

    /// Does what there is to do now, and says when to look again.
    fn go_on(&mut self, now: Instant, book: &mut AddressBook, out: &mut Vec<Output>) {
        let is_leaderless = self.is_leaderless();
        match &mut self.stage {
            Stage::Founding(founding) if founding.is_idle() && now >= self.retry_at => {
                self.ask_founders(book, out);
            }
            Stage::Seeking { open: None } if now >= self.retry_at => {
                let question = self.ask_seed(book, out);
                self.stage = Stage::Seeking { open: question };
            }
            Stage::Joining(_) => self.go_on_joining(now, book, out),
            Stage::Locating { open: None, pause } if now >= self.retry_at => {
                let pause = *pause;
                let question = self.ask_seed(book, out);
                self.stage = Stage::Locating { open: question, pause };
            }
            Stage::Settled if is_leaderless && now >= self.retry_at => {
                self.retry_at = now + PAUSE;
                self.introduce_itself(0, book, out);
            }
            Stage::Introducing { open: None, turn } if now >= self.retry_at => {
                let turn = *turn;
                self.retry_at = now + PAUSE;
                self.introduce_itself(turn, book, out);
            }
            _ => {}
        }
    }
}
