//! Durable Commit: when a leader commits an entry, that entry and all before it are on the disks of a
//! majority of the voters, of both sets in a joint configuration. This is what an acknowledgement means.
//! A member breaks it that acknowledges entries which are only in memory, on the disk of another incarnation,
//! or behind one that its disk has lost: the last is seen when it does.

use super::majority::has_majority;
use super::{Check, Finding, Observation};
use crate::ledger::{entry_at, held_at, link_at};
use crate::part::{Involvement, Part};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::message::Body;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, NodeId};

/// Whether a member acknowledges in these actions no entry behind the last that it holds: what its disk has
/// lost counts for no majority, nor what follows it.
fn is_held(id: NodeId, actions: &[Action], held: Index) -> Result<(), String> {
    let acknowledged = actions.iter().filter_map(|action| match action {
        Action::Send(message) => match message.body {
            Body::Appended { matched } | Body::HeartbeatAck { matched, .. } => Some(matched),
            _ => None,
        },
        _ => None,
    });
    match acknowledged.max().filter(|matched| *matched > held) {
        None => Ok(()),
        Some(matched) => Err(format!(
            "member {id} acknowledges entries through {matched}, and its disk has lost what follows {held}"
        )),
    }
}

/// Needs to remember nothing: looks at all disks whenever a leader commits.
#[derive(Default, Debug)]
pub struct DurableCommit;

impl Check for DurableCommit {
    const NAME: &'static str = "Durable Commit";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        is_held(after.id, step.actions, step.held)?;
        if after.role != RoleKind::Leader || after.committed == before.committed {
            return Ok(());
        }
        let through = after.committed;
        let prefix = link_at(step.chain, through).map(|link| link.prefix);
        let held = |membership: &Membership| {
            let link = |member| link_at((step.durable)(member)?, through);
            has_majority(membership, |member| link(member).map(|link| link.prefix) == prefix)
        };
        // A commit may bring about the next membership, and so be decided by the one before. A request for
        // another takes effect first.
        let by_the_one_before = !matches!(step.event, Event::Reconfigure(_)) && held(step.membership_before);
        if prefix.is_some() && (held(step.membership) || by_the_one_before) {
            return Ok(());
        }
        let (id, membership) = (after.id, step.membership);
        let disks = membership.members().iter().map(|member| match (step.durable)(*member) {
            None => format!("{member} never was"),
            Some(chain) if link_at(chain, through).map(|link| link.prefix) == prefix => {
                format!("{member} has it")
            }
            Some(chain) => format!("{member} has {} entries", chain.len()),
        });
        let disks: Vec<_> = disks.collect();
        let what = format!(
            "leader {id} commits through {through}, which is not on a majority of the disks of {membership}: {}",
            disks.join(", ")
        );
        let leads = link_at(step.chain, through)
            .map(|link| Part::of(id, step.now, Involvement::Commits(entry_at(through, link))));
        let lacks = membership.members().iter().filter_map(|member| {
            let chain = (step.durable)(*member).unwrap_or_default();
            let has_it = link_at(chain, through).map(|link| link.prefix) == prefix;
            let on_disk = || Part { member: Some(member.id), since: None, what: held_at(chain, through) };
            (!has_it).then(on_disk)
        });
        Err(Finding::new(what, leads.into_iter().chain(lacks)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, group, id, observation, status};
    use super::*;
    use kontiki_core::message::Message;
    use kontiki_core::types::{ClusterId, Identity, Term};

    fn commit(copies: usize) -> Result<(), Finding> {
        observed(copies, 1, &[])
    }

    /// Of a leader of three that has committed so much, and of whose log nothing is held behind entry 4.
    fn observed(copies: usize, committed: u64, actions: &[Action]) -> Result<(), Finding> {
        let log = chain(&[(1, "x")]);
        let (before, after) = (status(1, RoleKind::Leader, 1, 0), status(1, RoleKind::Leader, 1, committed));
        let group = group(3);
        DurableCommit.observe(&Observation {
            actions,
            chain: &log,
            held: Index::new(4),
            durable: &|member| Some(if member.id.get() as usize <= copies { &log[..] } else { &[] }),
            ..observation(&before, &after, &group)
        })
    }

    #[test]
    fn nothing_is_acknowledged_behind_what_is_lost() {
        let to = |body| Message::new(Identity::new(ClusterId(0), id(1)), id(2).into(), Term::new(3), body);
        let judged = |body| observed(0, 0, &[Action::Send(to(body))]);
        let (four, five) = (Index::new(4), Index::new(5));
        assert_eq!(judged(Body::Appended { matched: four }), Ok(()));
        assert_eq!(judged(Body::Commit { commit: five }), Ok(()), "it acknowledges nothing");
        let seen = judged(Body::Appended { matched: five }).expect_err("the fifth is lost");
        assert!(seen.detail.ends_with("through 5, and its disk has lost what follows 4"), "{seen:?}");
        assert!(judged(Body::HeartbeatAck { round: 1, received: five, matched: five }).is_err());
    }

    #[test]
    fn a_majority_of_disks_is_enough_and_less_is_not() {
        assert_eq!(commit(2), Ok(()));
        assert!(commit(1).unwrap_err().detail.contains("not on a majority"));
    }
}
