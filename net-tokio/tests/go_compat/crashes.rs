//! What survives crashes of members: everything that was acknowledged, from their files.
//!
//! A crash here ends the member's tasks at once, without any answer; data that was only in memory is lost.
//! The original's crashes kept its log in memory.

use crate::harness::{Group, Result, id};
use kontiki_net_tokio::node::Error;

#[tokio::test]
async fn crash_follower() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([5]).await?;
    group.committed(5, 3).await?;
    let leader = group.single_leader().await;
    let follower = group.others(leader.by)[0];
    group.crash(follower).await?;
    group.committed(5, 2).await?;
    group.commit([6]).await?;
    group.committed(6, 2).await?;
    group.finish().await
}

#[tokio::test]
async fn crash_then_restart_follower() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([5, 6, 7]).await?;
    let leader = group.single_leader().await;
    let follower = group.others(leader.by)[0];
    group.crash(follower).await?;
    for number in [5, 6, 7] {
        group.committed(number, 2).await?;
    }
    group.restart(follower).await?;
    for number in [5, 6, 7] {
        group.committed(number, 3).await?;
    }
    group.finish().await
}

#[tokio::test]
async fn crash_then_restart_leader() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([5, 6, 7]).await?;
    let old = group.single_leader().await;
    group.crash(old.by).await?;
    let new = group.single_leader().await;
    assert!(new.by != old.by && new.term > old.term, "{new:?} after {old:?}");
    for number in [5, 6, 7] {
        group.committed(number, 2).await?;
    }
    group.restart(old.by).await?;
    for number in [5, 6, 7] {
        group.committed(number, 3).await?;
    }
    group.agree().await?;
    group.finish().await
}

#[tokio::test]
async fn crash_then_restart_all() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([5, 6, 7]).await?;
    let before = group.single_leader().await;
    for number in 1..=3 {
        group.crash(id(number)).await?;
    }
    for number in 1..=3 {
        group.restart(id(number)).await?;
    }
    let after = group.single_leader().await;
    assert!(after.term > before.term, "the term is on the disks: {after:?} after {before:?}");
    group.commit([8]).await?;
    for number in [5, 6, 7, 8] {
        group.committed(number, 3).await?;
    }
    group.agree().await?;
    group.finish().await
}

/// The original (it had this commented out) wanted "5" not to be committed before "6" is. A new leader
/// commits its log with an entry of its own, at once: Raft promises that all members have "5" or none.
#[tokio::test]
async fn crash_after_submit() -> Result {
    let mut group = Group::start(3).await?;
    let old = group.single_leader().await;
    let submitted = group.submit(old.by, 5).await?;
    group.crash(old.by).await?;
    let told = submitted.await?;
    assert!(matches!(told, Ok(_) | Err(Error::Unknown)), "the outcome is unknown: {told:?}");
    let new = group.single_leader().await;
    assert_ne!(new.by, old.by);
    let had = group.agreed(5).await?;
    group.restart(old.by).await?;
    assert_eq!(group.agreed(5).await?, had, "one that was down neither brings it back nor takes it away");
    assert!(had == 1 || told.is_err(), "what was acknowledged is not lost: {told:?}");
    group.commit([6]).await?;
    group.committed(6, 3).await?;
    assert_eq!(group.agreed(5).await?, had);
    group.finish().await
}
