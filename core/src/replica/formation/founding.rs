//! Founding: the first members find each other, and one of them writes down who they are.

use crate::replica::formation::address_book::AddressBook;
use crate::replica::formation::io::{
    FormationError, MissingFounder, Output, Question, QuestionId, Reply, Report,
};
use crate::replica::formation::record::Founder;
use crate::replica::formation::stage::{Founding, Heard, PATIENCE, RETRY, Stage};
use crate::replica::formation::state::Formation;
use crate::time::Instant;
use crate::types::NodeId;
use alloc::string::String;
use alloc::vec::Vec;

impl Formation {
    /// Asks all first members at once, wherever they may be.
    pub(super) fn ask_founders(&mut self, book: &mut AddressBook, out: &mut Vec<Output>) {
        let others: Vec<_> = self.first().iter().filter(|(id, _)| *id != self.record.id).cloned().collect();
        let mut addresses = Vec::new();
        for (id, address) in others {
            for candidate in book.candidates(id).into_iter().chain([address]) {
                if !addresses.contains(&candidate) {
                    addresses.push(candidate);
                }
            }
        }
        let introduction = self.introduction(book);
        let mut founding = Founding::default();
        for address in addresses {
            let ask = Question::Introduce(introduction.clone());
            let question = self.ask(address.clone(), ask, PATIENCE, out);
            founding.open.insert(question, address);
        }
        let is_alone = founding.is_idle();
        self.stage = Stage::Founding(founding);
        if is_alone {
            self.judge(out);
        }
    }

    pub(super) fn on_founder(
        &mut self,
        now: Instant,
        question: QuestionId,
        answer: Result<Reply, String>,
        book: &mut AddressBook,
        out: &mut Vec<Output>,
    ) {
        let Stage::Founding(founding) = &mut self.stage else { return };
        let Some(address) = founding.open.remove(&question) else { return };
        let mut news = Vec::new();
        if let Ok(Reply::Who(who)) = answer {
            news.clone_from(&who.addresses);
            founding.heard.push(Heard { question, address, who });
        }
        let is_over = founding.is_idle();
        for (id, address) in news.into_iter().filter(|(id, _)| self.lists(*id)) {
            book.told(id, address);
        }
        if is_over {
            self.retry_at = now + RETRY;
            self.judge(out);
        }
    }

    /// All have answered, or had time to.
    fn judge(&mut self, out: &mut Vec<Output>) {
        let Stage::Founding(founding) = &self.stage else { return };
        let me = self.record.member();
        let listed = |heard: &&Heard| self.lists(heard.who.member.id) && heard.who.member.id != me.id;
        let listed = founding.heard.iter().filter(listed);
        let mut elsewhere = None;
        for heard in listed {
            let who = &heard.who;
            let Some(cluster) = who.cluster else { continue };
            let us = who.founders.iter().find(|founder| founder.id == me.id);
            if us.is_some_and(|us| us.incarnation == me.incarnation) {
                if self.is_outdated(heard) {
                    continue;
                }
                let mut record = self.record.clone();
                (record.cluster, record.founders) = (Some(cluster), who.founders.clone());
                return self.store_group(record, out);
            }
            // Only the list says for sure that the peer is meant; other addresses are hints.
            let is_listed = self.first().iter().any(|(id, at)| *id == who.member.id && *at == heard.address);
            let error = match us {
                Some(_) => FormationError::OtherIncarnation(cluster),
                None => FormationError::NotFounder(cluster),
            };
            elsewhere = elsewhere.or(is_listed.then_some(error));
        }
        if let Some(error) = elsewhere {
            return self.fail(error, out);
        }
        let missing = |(id, address): &(NodeId, String)| {
            let is_here = *id == me.id
                || founding
                    .of(*id)
                    .is_some_and(|heard| heard.who.cluster.is_none() && !self.is_outdated(heard));
            let missing =
                || MissingFounder { id: *id, address: address.clone(), found: founding.at(address) };
            (!is_here).then(missing)
        };
        let missing: Vec<_> = self.first().iter().filter_map(missing).collect();
        if !missing.is_empty() {
            return self.report(Report::FoundersMissing(missing), out);
        }
        let lowest = self.first().iter().map(|(id, _)| *id).min();
        match lowest.filter(|lowest| *lowest != me.id) {
            Some(lowest) => self.report(Report::FounderAwaited(lowest), out),
            None => self.found(out),
        }
    }

    /// All first members are here, none has a group, and this one has the lowest id.
    fn found(&mut self, out: &mut Vec<Output>) {
        let Stage::Founding(founding) = &self.stage else { return };
        let me = self.record.member();
        let founder = |(id, listed): &(NodeId, String)| match founding.of(*id) {
            Some(Heard { address, who, .. }) if *id != me.id => {
                Founder { id: *id, incarnation: who.member.incarnation, address: address.clone() }
            }
            _ => Founder { id: me.id, incarnation: me.incarnation, address: listed.clone() },
        };
        let mut founders: Vec<_> = self.first().iter().map(founder).collect();
        founders.sort_unstable_by_key(|founder| founder.id);
        founders.dedup_by_key(|founder| founder.id);
        let mut record = self.record.clone();
        record.cluster = Some(self.setup.wanted.unwrap_or(self.setup.drawn));
        record.founders = founders;
        self.store_group(record, out);
    }

    /// Whether the answer is older than what is known: since the question was asked, another incarnation of
    /// the peer, or of a founder that it names, has introduced itself and has this member's word that it has
    /// no group. The next answer counts.
    fn is_outdated(&self, heard: &Heard) -> bool {
        let founders = heard.who.founders.iter().map(|founder| (founder.id, founder.incarnation));
        let peer = (heard.who.member.id, heard.who.member.incarnation);
        founders.chain([peer]).any(|(id, incarnation)| {
            let introduced = self.introduced.get(&id);
            introduced.is_some_and(|(other, after)| *other != incarnation && heard.question <= *after)
        })
    }
}
