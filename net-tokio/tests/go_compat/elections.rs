//! Elections when members are partitioned and return.

use crate::harness::{Group, Result, command, id, options, within};
use kontiki_core::action;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_net_tokio::node::{Error, NodeOptions};
use std::time::Duration;

/// For tests in which no unnecessary election may happen: a busy machine may keep a member waiting for longer
/// than a short timeout.
fn unhurried(pre_vote: bool) -> NodeOptions {
    let mut options = options();
    options.raft.election_timeout_min = Duration::from_millis(600);
    options.raft.election_timeout_max = Duration::from_millis(900);
    options.raft.pre_vote = pre_vote;
    options
}

/// How often a test is repeated that a pause of the whole machine may have disturbed.
const ATTEMPTS: usize = 5;

#[tokio::test]
async fn election_basic() -> Result {
    let group = Group::start(2).await?;
    let leader = group.single_leader().await;
    assert!(group.node(leader.by).status().leader == Some(leader.by) && leader.term.get() > 0);
    group.finish().await
}

#[tokio::test]
async fn election_leader_disconnect() -> Result {
    let mut group = Group::start(5).await?;
    let old = group.single_leader().await;
    group.disconnect(old.by);
    let new = group.single_leader().await;
    assert_ne!(new.by, old.by);
    assert!(new.term > old.term, "{new:?} after {old:?}");
    group.finish().await
}

#[tokio::test]
async fn election_leader_and_another_disconnect() -> Result {
    let mut group = Group::start(3).await?;
    let old = group.single_leader().await;
    let other = group.others(old.by)[0];
    group.disconnect(old.by);
    group.disconnect(other);
    group.no_leader().await;
    group.reconnect(other);
    let new = group.single_leader().await;
    assert_ne!(new.by, old.by);
    group.reconnect(old.by);
    group.single_leader().await;
    group.finish().await
}

/// A leader that hears from no member steps down by itself, which the original's did not.
#[tokio::test]
async fn disconnect_all_then_restore() -> Result {
    let mut group = Group::start(5).await?;
    for number in 1..=5 {
        group.disconnect(id(number));
    }
    group.no_leader().await;
    for number in 1..=5 {
        group.reconnect(id(number));
    }
    let leader = group.single_leader().await;
    assert!(group.node(leader.by).status().leader == Some(leader.by));
    group.finish().await
}

/// The old leader returns after it has stepped down. With pre-vote it has not raised its term meanwhile, and
/// so disturbs no election: that holds each time. It is likely that no *other* member campaigns just then.
#[tokio::test]
async fn election_leader_disconnect_then_reconnect() -> Result {
    let mut group = Group::with(5, &unhurried(true)).await?;
    for _ in 0..ATTEMPTS {
        let old = group.single_leader().await;
        group.disconnect(old.by);
        let new = group.single_leader().await;
        assert_ne!(new.by, old.by);
        group.tries_in_vain(old.by, 1).await;
        assert_eq!(group.node(old.by).status().term, old.term, "who cannot win does not raise its term");
        group.reconnect(old.by);
        if group.single_leader().await == new {
            return group.finish().await;
        }
    }
    Err("the leader changed each time that the old one came back".into())
}

/// The old leader returns as soon as there is another, and may still believe that it leads.
#[tokio::test]
async fn election_leader_disconnect_then_reconnect_5() -> Result {
    let mut group = Group::with(5, &unhurried(true)).await?;
    for _ in 0..ATTEMPTS {
        let old = group.single_leader().await;
        group.disconnect(old.by);
        let new = group.single_leader().await;
        assert!(new.by != old.by && new.term > old.term, "{new:?} after {old:?}");
        group.reconnect(old.by);
        if group.single_leader().await == new {
            return group.finish().await;
        }
    }
    Err("the leader changed each time that the old one came back".into())
}

/// Without pre-vote a member that hears from no other raises its term again and again, and disrupts the
/// others with it when it returns.
#[tokio::test]
async fn election_follower_comes_back_without_pre_vote() -> Result {
    let mut group = Group::with(5, &unhurried(false)).await?;
    let before = group.single_leader().await;
    let follower = group.others(before.by)[0];
    group.disconnect(follower);
    let raised = group
        .until("it stands for election", |seen| {
            Some(seen[&follower].term).filter(|term| *term > before.term.next())
        })
        .await;
    group.reconnect(follower);
    let after = group.single_leader().await;
    assert!(after.term >= raised && raised > before.term, "{after:?} after {before:?}");
    group.finish().await
}

/// With pre-vote it does not, and the leader stays.
#[tokio::test]
async fn election_follower_comes_back_with_pre_vote() -> Result {
    let mut group = Group::with(5, &unhurried(true)).await?;
    for _ in 0..ATTEMPTS {
        let before = group.single_leader().await;
        let follower = group.others(before.by)[0];
        group.disconnect(follower);
        group.tries_in_vain(follower, 2).await;
        assert_eq!(group.node(follower).status().term, before.term, "who cannot win does not raise its term");
        group.reconnect(follower);
        if group.single_leader().await == before {
            return group.finish().await;
        }
    }
    Err("the leader changed each time that a follower came back".into())
}

#[tokio::test]
async fn election_disconnect_loop() -> Result {
    let mut group = Group::start(3).await?;
    for _ in 0..5 {
        let leader = group.single_leader().await;
        let other = group.others(leader.by)[0];
        group.disconnect(leader.by);
        group.disconnect(other);
        group.no_leader().await;
        group.reconnect(other);
        group.single_leader().await;
        group.reconnect(leader.by);
        group.single_leader().await;
    }
    group.finish().await
}

/// A follower that is configured not to forward refuses commands, and reports the leader.
#[tokio::test]
async fn submit_non_leader_fails() -> Result {
    let mut options = options();
    options.replica.forward = false;
    let group = Group::with(5, &options).await?;
    let (mut numbers, mut refused) = (1.., Vec::new());
    for _ in 0..ATTEMPTS {
        let leader = group.single_leader().await;
        let mut named = 0;
        for (other, number) in group.others(leader.by).into_iter().zip(&mut numbers) {
            match within(group.node(other).propose(&command(number))).await? {
                Err(Error::Refused(ReplicaRefusal::Raft(action::Refusal::NotLeader { leader: told }))) => {
                    refused.push(number);
                    named += usize::from(told == Some(leader.by));
                }
                // It leads by now.
                _ if group.single_leader().await != leader => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        if named == 4 {
            for number in refused {
                assert_eq!(group.agreed(number).await?, 0, "what is refused is not done");
            }
            return group.finish().await;
        }
    }
    Err("the leader changed each time".into())
}
