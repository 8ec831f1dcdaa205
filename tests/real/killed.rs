//! Members that are killed or stand still, while clients go on.

use crate::harness::{CALM, Group, Result, run, until};
use crate::load::{Load, Plan};
use kontiki_core::event::ReadVia;
use kontiki_core::types::NodeId;
use std::time::Instant;

#[test]
fn members_are_killed_under_load_and_nothing_acknowledged_is_lost() {
    run(
        || Group::new(3, CALM),
        async |group| {
            group.start_all()?;
            group.leader().await?;
            let load = Load::start(group, Plan::default());
            load.goes_on(50).await?;
            for round in 0..3 {
                // The leader, whichever it is.
                let leader = group.leader().await?;
                let killed = Instant::now();
                group.member(leader).kill()?;
                let time = load.served_since(killed).await?;
                eprintln!("{} ms without a leader", time.as_millis());
                load.goes_on(50).await?;
                group.member(leader).start()?;
                // Another, as soon as it may be: the one that was killed may not have caught up.
                let other = other_than(group, leader, round);
                group.member(other).kill()?;
                load.goes_on(50).await?;
                group.member(other).start()?;
            }
            // All at once.
            let all = group.ids();
            all.iter().try_for_each(|id| group.member(*id).kill())?;
            group.start_all()?;
            load.goes_on(50).await?;
            let report = load.end(group).await?;
            eprintln!("{report}");
            Ok(())
        },
    );
}

fn other_than(group: &Group, leader: NodeId, round: usize) -> NodeId {
    let others: Vec<_> = group.ids().into_iter().filter(|id| *id != leader).collect();
    others[round % others.len()]
}

#[test]
fn a_leader_that_stood_still_serves_nothing_stale_when_it_goes_on() {
    run(|| Group::new(3, CALM), async |group| frozen(group, ReadVia::Quorum).await);
}

#[test]
fn a_leader_that_stood_still_serves_nothing_stale_by_its_lease() {
    let config = format!("{CALM}lease_reads = true\n");
    run(|| Group::new(3, &config), async |group| frozen(group, ReadVia::Lease).await);
}

/// The leader is frozen for longer than an election takes; meanwhile it is asked, and answers when it is
/// thawed.
async fn frozen(group: &mut Group, via: ReadVia) -> Result {
    group.start_all()?;
    group.leader().await?;
    let mut load = Load::start(group, Plan { via, ..Plan::default() });
    group.ids().iter().for_each(|id| load.read_at(group, *id, 2));
    load.goes_on(50).await?;
    for _ in 0..3 {
        let leader = group.leader().await?;
        let before = group.status(leader).await.ok_or("it leads and says so")?;
        group.member(leader).freeze()?;
        until("the others have another leader", async || {
            let all = group.statuses().await;
            all.iter().find(|it| it.leader.is_some_and(|id| id != leader) && it.term > before.term).map(drop)
        })
        .await?;
        load.goes_on(50).await?;
        group.member(leader).thaw()?;
        until("the one that stood still has heard of the new term", async || {
            group.status(leader).await.filter(|status| status.term > before.term).map(drop)
        })
        .await?;
        load.goes_on(50).await?;
    }
    let report = load.end(group).await?;
    eprintln!("{report}");
    Ok(())
}
