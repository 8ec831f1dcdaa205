//! What a formation knows, and what all its stages do with it.

use crate::digest::fingerprint;
use crate::replica::formation::address_book::AddressBook;
use crate::replica::formation::io::{
    FormationError, Output, Place, Plan, Question, QuestionId, Report, Setup,
};
use crate::replica::formation::record::{Introduction, Record};
use crate::replica::formation::stage::Stage;
use crate::time::{Instant, Nanos};
use crate::types::{Incarnation, NodeId};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A member on its way into its group, and what it still has to do there.
///
/// The same record, setup, address book and sequence of (now, input) give the same outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formation {
    pub(super) record: Record,
    pub(super) setup: Setup,
    pub(super) stage: Stage,
    pub(super) place: Option<Place>,
    pub(super) last_question: u64,
    /// When what was asked may be asked again.
    pub(super) retry_at: Instant,
    /// The first members that have introduced themselves: the latest incarnation of each, and the last
    /// question that had been asked then.
    pub(super) introduced: BTreeMap<NodeId, (Incarnation, QuestionId)>,
    pub(super) reported: Option<Report>,
}

impl Formation {
    /// How this member introduces itself.
    pub(super) fn introduction(&self, book: &AddressBook) -> Introduction {
        let list = self.list().filter(|_| self.record.cluster.is_none());
        Introduction { member: self.record.member(), address: book.own().cloned(), list }
    }

    /// The digest of the list of first members.
    pub(super) fn list(&self) -> Option<u64> {
        let Plan::Found(first) = &self.setup.plan else { return None };
        let mut first: Vec<_> = first.iter().collect();
        first.sort_unstable();
        let ids: Vec<_> = first.iter().map(|(id, _)| id.get().to_le_bytes()).collect();
        let addresses = first.iter().map(|(_, address)| address.as_bytes());
        let strings: Vec<&[u8]> = ids.iter().map(|id| &id[..]).chain(addresses).collect();
        Some(fingerprint(&strings))
    }

    pub(super) fn first(&self) -> &[(NodeId, String)] {
        match &self.setup.plan {
            Plan::Found(first) => first,
            Plan::Resume | Plan::Join(_) => &[],
        }
    }

    pub(super) fn lists(&self, id: NodeId) -> bool {
        self.first().iter().any(|(listed, _)| *listed == id)
    }

    /// The address to join by.
    pub(super) fn seed(&self) -> Option<&str> {
        match &self.setup.plan {
            Plan::Join(seed) => Some(seed),
            Plan::Resume | Plan::Found(_) => None,
        }
    }

    /// The group is known: it is entered once that is durable.
    pub(super) fn store_group(&mut self, record: Record, out: &mut Vec<Output>) {
        self.record = record;
        self.store(Stage::Fresh, out);
    }

    pub(super) fn store(&mut self, then: Stage, out: &mut Vec<Output>) {
        self.stage = Stage::Storing(Box::new(then));
        out.push(Output::Store(self.record.clone()));
    }

    pub(super) fn ask(
        &mut self,
        address: String,
        ask: Question,
        patience: Nanos,
        out: &mut Vec<Output>,
    ) -> QuestionId {
        self.last_question += 1;
        let question = QuestionId(self.last_question);
        out.push(Output::Ask { question, address, ask, patience });
        question
    }

    /// Tells the operator, unless that is what was told last.
    pub(super) fn report(&mut self, report: Report, out: &mut Vec<Output>) {
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            out.push(Output::Report(report));
        }
    }

    pub(super) fn fail(&mut self, error: FormationError, out: &mut Vec<Output>) {
        self.stage = Stage::Failed;
        out.push(Output::Fail(error));
    }
}
