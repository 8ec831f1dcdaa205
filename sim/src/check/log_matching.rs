//! Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in
//! all entries up through the given index (paper §5.3, figure 3); the terms of a log never go back; and what
//! a member sends of its log is in it.

use super::{Check, Finding, Observation};
use crate::ledger::{Link, entry_at, index_of, last_of};
use crate::part::{Involvement, LogEntry, Part, Stamp};
use kontiki_core::action::Action;
use kontiki_core::message::{Body, Message};
use kontiki_core::types::{Index, LogId, NodeId};
use std::iter;

/// For each index, the entries that were ever seen there, one of each term, each with the one prefix that may
/// lead to it.
#[derive(Default, Debug)]
pub struct LogMatching {
    seen: Vec<Vec<Sighting>>,
}

/// An entry, and where it was seen first.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    link: Link,
    member: NodeId,
    since: Stamp,
}

impl Sighting {
    fn held_at(&self, position: usize) -> Part {
        Part::of(self.member, self.since, Involvement::Holds(entry_at(index_of(position), &self.link)))
    }
}

impl LogMatching {
    /// What an entry that was seen holds, by its hash.
    pub fn content(&self, id: LogId) -> Option<u64> {
        self.sightings(id.index).find(|seen| seen.link.term == id.term).map(|seen| seen.link.content)
    }

    /// Which member was the first to have an entry in its log, and since when.
    pub(crate) fn origin(&self, entry: &LogEntry) -> Option<Part> {
        let is_it = |seen: &&Sighting| (seen.link.term, seen.link.content) == (entry.id.term, entry.content);
        let first = self.sightings(entry.id.index).find(is_it)?;
        Some(Part::of(first.member, first.since, Involvement::Appends(entry.clone())))
    }

    fn sightings(&self, index: Index) -> impl Iterator<Item = &Sighting> {
        let position = index.get().checked_sub(1).and_then(|position| usize::try_from(position).ok());
        position.and_then(|position| self.seen.get(position)).into_iter().flatten()
    }

    /// The first entry in which the log of a step differs from the one through an entry that was seen: what
    /// either has there.
    fn difference(&self, step: &Observation<'_>, mut position: usize, known: Sighting) -> [Part; 2] {
        let mut theirs = known;
        while let Some(before) = position.checked_sub(1)
            && let Some(earlier) = self.seen[before].iter().find(|seen| theirs.link.follows(Some(&seen.link)))
            && earlier.link.prefix != step.chain[before].prefix
        {
            (theirs, position) = (*earlier, before);
        }
        let link = step.chain[position];
        let is_new = position >= step.chain.len() - step.appended;
        let first = self.seen[position].iter().find(|seen| seen.link == link).filter(|_| !is_new);
        let new = Sighting { link, member: step.after.id, since: step.now };
        [theirs.held_at(position), first.unwrap_or(&new).held_at(position)]
    }
}

/// The terms of a log never go back, not even from the end of a snapshot to what follows it.
pub(crate) fn terms_ascend(
    id: NodeId,
    mut before: LogId,
    entries: impl Iterator<Item = LogId>,
) -> Result<(), String> {
    for entry in entries {
        if entry.term < before.term {
            return Err(format!("the log of member {id} has entry {entry} after entry {before}"));
        }
        before = entry;
    }
    Ok(())
}

/// What is sent of a log is in it, and what comes before it too.
fn sent_is_held(step: &Observation<'_>) -> Result<(), Finding> {
    for action in step.actions {
        let Action::Send(Message { to, body, .. }) = action else { continue };
        let (Body::Append { slice, .. } | Body::RepairResponse { slice }) = body else { continue };
        let ids = iter::once(slice.prev()).chain(slice.entries().iter().map(|entry| entry.id));
        let is_held = |id: &LogId| *id == LogId::ZERO || holds(step.chain, *id);
        if let Some(sent) = ids.into_iter().find(|id| !is_held(id)) {
            let id = step.after.id;
            return Err(format!("member {id} sends {to} entry {sent}, which is not in its log").into());
        }
    }
    Ok(())
}

fn holds(chain: &[Link], id: LogId) -> bool {
    let position = id.index.get().checked_sub(1).and_then(|position| usize::try_from(position).ok());
    position.and_then(|position| chain.get(position)).is_some_and(|link| link.term == id.term)
}

/// The entries of a log from a position on.
fn entries(chain: &[Link], from: usize) -> impl Iterator<Item = LogId> {
    let ids = chain.iter().enumerate().skip(from);
    ids.map(|(position, link)| LogId { term: link.term, index: index_of(position) })
}

impl Check for LogMatching {
    const NAME: &'static str = "Log Matching";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        sent_is_held(step)?;
        if step.appended == 0 {
            return Ok(());
        }
        let from = step.chain.len() - step.appended;
        terms_ascend(step.after.id, last_of(&step.chain[..from]), entries(step.chain, from))?;
        for (position, link) in step.chain.iter().enumerate().skip(from) {
            if self.seen.len() <= position {
                self.seen.resize_with(position + 1, Vec::new);
            }
            let seen = &mut self.seen[position];
            match seen.iter().find(|known| known.link.term == link.term) {
                None => {
                    // Nearly always there is one.
                    seen.reserve_exact(1);
                    seen.push(Sighting { link: *link, member: step.after.id, since: step.now });
                }
                Some(known) if known.link.prefix == link.prefix => {}
                Some(known) => {
                    let (known, id, index, term) = (*known, step.after.id, position + 1, link.term);
                    return Err(Finding::new(
                        format!(
                            "member {id} has another log up to entry {index}:{term} than it was seen with before"
                        ),
                        self.difference(step, position, known),
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, group, id, observation, show, status};
    use super::*;
    use kontiki_core::log::{Entry, EntryBody, LogSlice};
    use kontiki_core::status::RoleKind::{Follower, Leader};
    use kontiki_core::types::{ClusterId, Term};

    #[test]
    fn fires_on_equal_ids_with_different_pasts() {
        let one = status(1, Follower, 3, 0);
        let two = status(2, Follower, 3, 0);
        let mut check = LogMatching::default();
        assert!(show(&mut check, &one, &one, &chain(&[(1, "a"), (2, "b")])).is_ok());
        assert!(
            show(&mut check, &two, &two, &chain(&[(1, "a"), (3, "c")])).is_ok(),
            "other terms may differ"
        );
        let seen = show(&mut check, &two, &two, &chain(&[(1, "x"), (2, "b")])).expect_err("its past differs");
        let held: Vec<_> = seen.parts.iter().map(|part| (part.member, part.what.clone())).collect();
        let at_one = |text| Involvement::Holds(entry_at(Index::new(1), &chain(&[(1, text)])[0]));
        assert_eq!(held, [(Some(id(1)), at_one("a")), (Some(id(2)), at_one("x"))], "where they part");
        assert!(show(&mut check, &two, &two, &chain(&[(1, "a"), (2, "x")])).is_err());
    }

    #[test]
    fn fires_on_what_is_sent_and_not_held() {
        let leader = status(1, Leader, 3, 0);
        let log = chain(&[(1, "a"), (3, "b")]);
        let sent = |prev: LogId, terms: &[u64], is_repair| {
            let entry =
                |(term, index): (&u64, u64)| Entry { id: LogId::new(*term, index), body: EntryBody::Blank };
            let entries = terms.iter().zip(prev.index.get() + 1..).map(entry);
            let slice = LogSlice::new(prev, entries.collect()).expect("they follow one another");
            let body = match is_repair {
                true => Body::RepairResponse { slice },
                false => Body::Append { slice, commit: Index::ZERO },
            };
            let (cluster, from, to) = (ClusterId(1), id(1).into(), id(2).into());
            let actions = [Action::Send(Message { cluster, from, to, term: Term::new(3), body })];
            let group = group(3);
            let step =
                Observation { actions: &actions, chain: &log, ..observation(&leader, &leader, &group) };
            LogMatching::default().observe(&step).map_err(|finding| finding.detail)
        };
        assert_eq!(sent(LogId::ZERO, &[1, 3], false), Ok(()));
        assert_eq!(sent(LogId::new(3, 2), &[], false), Ok(()));
        let stale = sent(LogId::new(1, 1), &[2], false).expect_err("it was cut since");
        assert_eq!(stale, "member 1 sends 2 entry 2:2, which is not in its log");
        for (prev, terms) in [(LogId::new(2, 2), &[][..]), (LogId::new(3, 2), &[3]), (LogId::ZERO, &[1, 1])] {
            assert!(
                sent(prev, terms, false).is_err() && sent(prev, terms, true).is_err(),
                "{prev} {terms:?}"
            );
        }
    }

    #[test]
    fn names_the_first_of_several_entries_that_differ() {
        let (one, two) = (status(1, Follower, 4, 0), status(2, Follower, 4, 0));
        let mut check = LogMatching::default();
        show(&mut check, &one, &one, &chain(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).unwrap();
        let other = chain(&[(1, "a"), (4, "b"), (4, "c"), (4, "d")]);
        let seen = show(&mut check, &two, &two, &other).expect_err("another past");
        let told: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["member 1 holds 2:2, since step 0 (0.000 ms)", "member 2 holds 2:4, since step 0 (0.000 ms)",]
        );
    }

    #[test]
    fn fires_on_an_entry_of_an_earlier_term_than_that_before_it() {
        let one = status(1, Follower, 3, 0);
        let shown = |log: &[(u64, &str)]| show(&mut LogMatching::default(), &one, &one, &chain(log));
        assert_eq!(shown(&[(1, "a"), (3, "b"), (3, "c")]), Ok(()));
        let seen = shown(&[(1, "a"), (3, "b"), (2, "c")]).expect_err("its terms go back");
        assert_eq!(seen.detail, "the log of member 1 has entry 3:2 after entry 2:3");
        let behind_a_snapshot = terms_ascend(id(1), LogId::new(2, 1), [LogId::new(1, 2)].into_iter());
        assert!(behind_a_snapshot.is_err());
    }
}
