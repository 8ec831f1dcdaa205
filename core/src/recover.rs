//! Disaster recovery: a new cluster from one survivor.
//!
//! # Danger
//!
//! This is for a cluster that has lost its majority **for good**, and will never be asked again. It breaks
//! what Raft promises:
//!
//! - What was committed and the survivor does not have **is lost**, though clients were told that it is safe.
//!   Take the survivor with the greatest [`Durable::last`].
//! - What the survivor has and was *not* committed **becomes committed**, though clients were told that the
//!   outcome is unknown.
//! - If any of the old members still runs, or comes back, **there are two clusters** with two truths. The new
//!   one has another [`ClusterId`], so that they do not mix; but the clients of the old do not know that.
//!
//! Everything here is plain data: nothing is written before the host writes it. Keep a copy of the old
//! directory.
//!
//! ```
//! use kontiki_core::membership::Membership;
//! use kontiki_core::durable::Durable;
//! use kontiki_core::recover;
//! use kontiki_core::types::{ClusterId, Identity, Incarnation, Member, NodeId};
//!
//! let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
//! let found_on_disk = Durable::bootstrap(Membership::of(ids)?);
//! let old = Identity::new(ClusterId(7), ids[0]);
//! let new = Identity::new(ClusterId(8), Member::new(ids[0], Incarnation(1)));
//!
//! // Write this in the place of what was found, and start the member as `new`. Then add others.
//! let durable = recover::force_new_cluster(found_on_disk, old, new)?;
//! assert_eq!(durable.last().index.get(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::durable::Durable;
use crate::log::{Entry, EntryBody};
use crate::membership::Membership;
use crate::types::{Ballot, ClusterId, Identity, LogId};
use alloc::sync::Arc;
use core::fmt;

/// Why a new cluster cannot be made from what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// The new cluster has the name of the old one: their members would listen to one another.
    SameCluster(ClusterId),
    /// The member keeps its incarnation: what it promised as the old one would be held against it.
    SameIncarnation(Identity),
    /// The member has never heard of its group: there is nothing to recover from.
    Blank,
    /// The member is a witness: it knows which entries there were, and not what was in them. The entry shows
    /// it.
    Witness(LogId),
    /// Its disk has damaged this entry.
    Damaged(LogId),
}

/// What the survivor `old` must find on its disk to start as `new`, the only member of a new cluster. Read
/// what this module says before.
///
/// Its log stays as it is, with one more entry: the new membership, in a new term. Nothing is executed twice:
/// the state machine goes on from where it was.
pub fn force_new_cluster(durable: Durable, old: Identity, new: Identity) -> Result<Durable, RecoverError> {
    if old.cluster == new.cluster {
        return Err(RecoverError::SameCluster(new.cluster));
    }
    if old.member == new.member {
        return Err(RecoverError::SameIncarnation(new));
    }
    if durable.snapshot.is_none() {
        return Err(RecoverError::Blank);
    }
    if let Some(entry) = durable.entries.iter().find(|entry| entry.body == EntryBody::Withheld) {
        return Err(RecoverError::Witness(entry.id));
    }
    if let Some((_, through)) = durable.lost().first() {
        return Err(RecoverError::Damaged(*through));
    }
    if durable.snapshot_lost {
        return Err(RecoverError::Damaged(durable.base));
    }
    let mut recovered = durable;
    let term = recovered.ballot.term().max(recovered.last().term).next();
    let membership = Membership::of([new.member]).expect("one member is a membership");
    let id = term.at(recovered.last().index.next());
    recovered.entries.push(Entry { id, body: EntryBody::Config(Arc::new(membership)) });
    recovered.ballot = Ballot::new(term, None);
    Ok(recovered)
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameCluster(cluster) => {
                write!(f, "the new cluster is named {cluster} like the old one: draw another name")
            }
            Self::SameIncarnation(identity) => {
                write!(f, "member {} keeps its incarnation: draw another", identity.member)
            }
            Self::Blank => f.write_str("the member has never heard of its group: take another survivor"),
            Self::Damaged(id) => write!(
                f,
                "the disk has damaged entry {id}: start from the data of another survivor, or from a backup"
            ),
            Self::Witness(id) => {
                write!(f, "the member is a witness, entry {id} has no payload: take another survivor")
            }
        }
    }
}

impl core::error::Error for RecoverError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Outcome};
    use crate::config::{Config, Options};
    use crate::event::{Event, Proposal};
    use crate::raft::Raft;
    use crate::time::Instant;
    use crate::types::{Incarnation, Index, Member, NodeId, Payload, RequestId, Term};
    use alloc::vec::Vec;

    fn identity(cluster: u64, incarnation: u64) -> Identity {
        let member = Member::new(NodeId::new(1).unwrap(), Incarnation(incarnation));
        Identity::new(ClusterId(cluster), member)
    }

    fn survivor() -> Durable {
        let group = Membership::of([1, 2, 3].map(|id| NodeId::new(id).unwrap())).unwrap();
        let entry = |index| Entry { id: LogId::new(4, index), body: EntryBody::Data(Payload::from("x")) };
        Durable {
            ballot: Ballot::new(Term::new(5), NodeId::new(2)),
            entries: (1..=3).map(entry).collect(),
            committed: Index::new(2),
            ..Durable::bootstrap(group)
        }
    }

    #[test]
    fn the_survivor_leads_alone_and_all_that_it_had_is_committed() {
        let durable = force_new_cluster(survivor(), identity(7, 0), identity(8, 1)).unwrap();
        assert_eq!((durable.last(), durable.ballot), (LogId::new(6, 4), Ballot::new(Term::new(6), None)));
        let config = Config::new(identity(8, 1), Options::default()).unwrap();
        let mut raft = Raft::restore(config, durable, Instant::ZERO).unwrap();
        let now = raft.deadline();
        let mut answers = Vec::new();
        let proposal = Proposal { request: RequestId(1), payload: Payload::from("y") };
        for event in [Event::Wake, Event::Propose(proposal)] {
            let mut events = Vec::from([event]);
            while let Some(event) = events.pop() {
                for action in raft.step(now, event) {
                    match action {
                        Action::Persist(write) => events.push(Event::Persisted(write.seq)),
                        Action::Apply { through } => events.push(Event::Applied(through)),
                        Action::Respond { outcome, .. } => answers.push(outcome),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(answers, [Outcome::Committed(LogId::new(7, 6))]);
        assert_eq!(raft.status().applied, Index::new(6));
    }

    #[test]
    fn what_cannot_be_a_new_cluster_is_refused_each_with_its_reason() {
        let force = |durable, old, new| force_new_cluster(durable, old, new).unwrap_err();
        let (old, new) = (identity(7, 0), identity(8, 1));
        assert_eq!(force(survivor(), old, identity(7, 1)), RecoverError::SameCluster(ClusterId(7)));
        assert_eq!(force(survivor(), old, identity(8, 0)), RecoverError::SameIncarnation(identity(8, 0)));
        assert_eq!(force(Durable::default(), old, new), RecoverError::Blank);
        let mut witness = survivor();
        witness.entries[1].body = EntryBody::Withheld;
        assert_eq!(force(witness, old, new), RecoverError::Witness(LogId::new(4, 2)));
    }
}
