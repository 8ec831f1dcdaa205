//! Durable Log: what a member finds on its disk when it starts again is what it had reported as durable, or
//! the loss is known.

use super::{Finding, Violated};
use crate::disk::{Lost, Unreconciled};
use crate::hash::StableHasher;
use crate::part::{Involvement, LogEntry, Part};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::types::NodeId;

/// The name of the property.
pub(crate) const NAME: &str = "Durable Log";

/// A disk has lost what it was to hold: which entry, since when it was to, and what is found in its place.
pub(crate) fn violated(id: NodeId, Unreconciled { detail, lost }: Unreconciled) -> Violated {
    let of = |entry: &Entry| LogEntry::new(entry.id, StableHasher::of(&entry.body));
    let parts = lost.into_iter().flat_map(|lost| {
        let Lost { entry, since, found } = *lost;
        let instead = match &found {
            None => Involvement::HoldsNothing(entry.id.index),
            Some(Entry { id, body: EntryBody::Lost }) => Involvement::HasLost(*id),
            Some(found) => Involvement::Holds(of(found)),
        };
        [
            Part { member: Some(id), since, what: Involvement::Persists(of(&entry)) },
            Part { member: Some(id), since: None, what: instead },
        ]
    });
    Finding::new(format!("member {id}: {detail}"), parts).of(NAME)
}

#[cfg(test)]
mod tests {
    use super::super::testing::id;
    use super::*;
    use crate::part::Stamp;
    use kontiki_core::types::LogId;

    #[test]
    fn names_the_entry_that_was_durable_and_what_is_found_in_its_place() {
        let entry = |term, body| Entry { id: LogId::new(term, 4), body };
        let told = |found| {
            let since = Some(Stamp { step: 7, at: 1_000_000 });
            let lost = Lost { entry: entry(2, EntryBody::Blank), since, found };
            let lost = Unreconciled { detail: "it is gone".to_owned(), lost: Some(Box::new(lost)) };
            let violated = violated(id(3), lost);
            assert_eq!((violated.property, &*violated.detail), (NAME, "member 3: it is gone"));
            violated.parts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let reported = "member 3 reports 4:2 as durable, at step 7 (1.000 ms)";
        assert_eq!(told(None), [reported, "member 3 holds no entry 4"]);
        assert_eq!(told(Some(entry(2, EntryBody::Lost))), [reported, "member 3 finds that 4:2 is lost"]);
        assert_eq!(told(Some(entry(1, EntryBody::Blank))), [reported, "member 3 holds 4:1"]);
    }
}
