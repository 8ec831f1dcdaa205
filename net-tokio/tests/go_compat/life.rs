//! A node's life as its application sees it: starting and stopping, requests and answers, joining and
//! leaving.

use crate::diary::Diary;
use crate::harness::{
    Group, PATIENCE, Result, addresses, builders, command, id, log, member, options, places, until, within,
};
use kontiki_core::config::ConfigError;
use kontiki_core::kv::{Command, Kv, Query, Reply};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::replica::formation::FormationError;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{ClusterId, Incarnation, Index, Member, NodeId};
use kontiki_net_tokio::disk;
use kontiki_net_tokio::identity::IdentityError;
use kontiki_net_tokio::node::{Builder, Error, Node, StartError};
use kontiki_net_tokio::protocol::{Content, NodePhase, Range};
use kontiki_net_tokio::transport::{self, Address, Hello, Stream, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, fs};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, span};

async fn get(node: &Node, key: &str) -> Result<Option<Vec<u8>>> {
    let answer = within(node.read(Query::Get { key: key.as_bytes() }.encode())).await??;
    match Reply::decode(&answer)? {
        Reply::Value(value) => Ok(value),
        other => Err(format!("{other:?}").into()),
    }
}

fn newcomer(number: u64, group: &Group, at: SocketAddr, seed: NodeId) -> Result<(Builder, Diary)> {
    let seed = group.node(seed).local_addr().ok_or("it runs")?;
    let diary = Diary::default();
    let builder = member(id(number), &diary)
        .directory(group.directory(id(number)))
        .listen(at)
        .join(seed.to_string())
        .options(options());
    Ok((builder, diary))
}

/// The example of the original's README: start, commit, stop, with a peer that does not exist. With one
/// member this is a group; with a missing peer it is not a group yet, and names the peer that it waits for.
#[tokio::test]
async fn test_raft() -> Result {
    let root = tempfile::tempdir()?;
    let two = builders(2, &root.path().join("two"), &options())?;
    let waiting = two[0].start().await?;
    let status =
        until(&waiting, |status| matches!(&status.phase, NodePhase::Starting(why) if why.contains('2')))
            .await?;
    assert_eq!((status.leader, status.role), (None, RoleKind::Follower));
    let refused = waiting.propose(&command(1)).await;
    assert!(matches!(refused, Err(Error::Starting(_))), "{refused:?}");
    within(waiting.shutdown()).await?;
    assert_eq!(waiting.status().phase, NodePhase::Stopped);

    let alone = builders(1, &root.path().join("one"), &options())?[0].start().await?;
    within(alone.ready()).await??;
    let applied = within(alone.propose(&command(1))).await??;
    assert_eq!(Reply::decode(&applied.answer), Ok(Reply::Written));
    within(alone.shutdown()).await?;
    assert_eq!(alone.propose(&command(2)).await, Err(Error::Stopped));
    Ok(())
}

/// Members join one after the other, each through another; commands are submitted at all of them; some stop,
/// and return.
#[tokio::test]
async fn test_main_functions() -> Result {
    let mut group = Group::start(1).await?;
    let at = addresses(2)?;
    for (number, at) in (2..).zip(at) {
        let (builder, diary) = newcomer(number, &group, at, id(number - 1))?;
        let node = builder.start().await?;
        until(&node, |status| status.kind == MemberKind::Voter).await?;
        group.adopt(id(number), node, diary);
    }
    for number in 1..=3 {
        group.commit_at(id(number), number).await?;
        group.committed(number, 3).await?;
    }
    group.stop(id(2)).await?;
    group.stop(id(3)).await?;
    group.no_leader().await;
    group.restart(id(2)).await?;
    group.restart(id(3)).await?;
    group.commit([4]).await?;
    group.committed(4, 3).await?;
    group.stop(id(1)).await?;
    group.commit([5]).await?;
    group.committed(5, 2).await?;
    group.restart(id(1)).await?;
    group.commit_at(id(1), 6).await?;
    for number in 1..=6 {
        group.committed(number, 3).await?;
        assert_eq!(group.agreed(number).await?, 1);
    }
    group.finish().await
}

#[tokio::test]
async fn a_group_of_one_leads_itself() -> Result {
    let mut group = Group::start(1).await?;
    group.commit([1]).await?;
    group.crash(id(1)).await?;
    group.restart(id(1)).await?;
    assert_eq!(group.single_leader().await.by, id(1));
    group.committed(1, 1).await?;
    assert_eq!(get(group.node(id(1)), "1").await?.as_deref(), Some(b"1".as_slice()));
    group.finish().await
}

#[tokio::test]
async fn starting_and_stopping_twice_changes_nothing_and_a_stopped_node_starts_again() -> Result {
    let root = tempfile::tempdir()?;
    let node = builders(1, root.path(), &options())?[0].start().await?;
    let mut watch = node.watch();
    within(node.ready()).await??;
    let at = node.local_addr();
    node.start().await?;
    assert_eq!(node.local_addr(), at);
    within(node.propose(&command(1))).await??;
    for _ in 0..2 {
        for _ in 0..2 {
            within(node.shutdown()).await?;
        }
        let status = node.status();
        assert_eq!((status.phase, node.local_addr()), (NodePhase::Stopped, None));
        assert_eq!((status.leader, status.role), (None, RoleKind::Halted), "it led, and does no more");
        assert_eq!(node.members(false).await, Err(Error::Stopped));
        within(watch.wait_for(|status| status.phase == NodePhase::Stopped)).await??;
        for _ in 0..2 {
            node.start().await?;
        }
        assert_eq!(within(node.ready()).await??.phase, NodePhase::Running);
        assert_eq!(node.local_addr(), at);
        within(watch.wait_for(|status| status.phase == NodePhase::Running)).await??;
        assert_eq!(get(&node, "1").await?.as_deref(), Some(b"1".as_slice()));
    }
    within(node.shutdown()).await
}

#[tokio::test]
async fn wrong_settings_are_refused_each_with_its_reason_and_nothing_is_touched() -> Result {
    let root = tempfile::tempdir()?;
    let directory = root.path().join("1");
    let with = |change: fn(&mut kontiki_net_tokio::node::NodeOptions)| {
        let mut options = options();
        change(&mut options);
        Builder::new(id(1), Kv::default)
            .directory(&directory)
            .peers([(id(1), String::new())])
            .options(options)
    };
    let swapped = with(|options| options.raft.election_timeout_max = Duration::from_millis(1)).start().await;
    assert!(
        matches!(swapped, Err(StartError::Config(ConfigError::EmptyElectionRange { .. }))),
        "{swapped:?}"
    );
    let slow = with(|options| options.raft.heartbeat_interval = Duration::from_secs(50)).start().await;
    assert!(matches!(slow, Err(StartError::Config(ConfigError::HeartbeatTooSlow { .. }))), "{slow:?}");
    let none = with(|options| options.replica.keep_snapshots = 0).start().await;
    assert!(matches!(none, Err(StartError::Replica(_))), "{none:?}");
    assert!(!directory.exists(), "who cannot start leaves nothing behind");
    let lost = Builder::new(id(1), Kv::default).directory(&directory).start().await;
    assert!(matches!(lost, Err(StartError::Formation(FormationError::NoPlan))), "{lost:?}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_the_directory_is_free_again() -> Result {
    let root = tempfile::tempdir()?;
    let builder = &builders(1, root.path(), &options())?[0];
    let taken = std::net::TcpListener::bind((addresses(1)?[0].ip(), 0))?;
    let refused = builder.clone().listen(taken.local_addr()?).start().await;
    assert!(matches!(refused, Err(StartError::Host(_))), "{refused:?}");
    let node = builder.start().await?;
    within(node.ready()).await??;
    within(node.shutdown()).await
}

#[tokio::test]
async fn two_nodes_do_not_share_a_directory() -> Result {
    let root = tempfile::tempdir()?;
    let builder = &builders(1, root.path(), &options())?[0];
    let node = builder.start().await?;
    within(node.ready()).await??;
    let same = builder.clone().listen(addresses(1)?[0]).start().await;
    assert!(matches!(same, Err(StartError::Directory(disk::DiskOpenError::Taken { .. }))), "{same:?}");
    within(node.shutdown()).await?;
    let other =
        Builder::new(id(2), Kv::default).directory(root.path().join("1")).peers([(id(2), String::new())]);
    let other = other.start().await;
    assert!(
        matches!(other, Err(StartError::Identity(IdentityError::OtherMember { found, .. })) if found == id(1)),
        "{other:?}"
    );
    // This has harmed neither.
    node.start().await?;
    within(node.ready()).await??;
    within(node.shutdown()).await
}

/// Returns the files of a directory that contain these bytes.
fn holding(directory: &Path, bytes: &[u8]) -> Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let text = fs::read(&path)?;
        found.extend(text.windows(bytes.len()).position(|window| window == bytes).map(|at| (path, at)));
    }
    Ok(found)
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_never_removed() -> Result {
    let root = tempfile::tempdir()?;
    let node = builders(1, root.path(), &options())?[0].start().await?;
    within(node.ready()).await??;
    let precious = [0x5e; 64];
    within(node.propose(&Command::Put { key: b"precious", value: &precious }.encode())).await??;
    for number in 1..=3 {
        within(node.propose(&command(number))).await??;
    }
    within(node.shutdown()).await?;
    let directory = root.path().join("1");

    let identity = directory.join("identity.json");
    let good = fs::read(&identity)?;
    fs::write(&identity, &good[..good.len() / 2])?;
    let refused = node.start().await;
    assert!(matches!(refused, Err(StartError::Identity(IdentityError::Garbled { .. }))), "{refused:?}");
    assert_eq!(fs::read(&identity)?, good[..good.len() / 2], "it is left as it is");
    fs::write(&identity, &good)?;

    let places = holding(&directory, &precious)?;
    let [(file, at)] = places.as_slice() else { return Err(format!("{places:?}").into()) };
    let mut damaged = fs::read(file)?;
    damaged[*at] ^= 1;
    fs::write(file, &damaged)?;
    node.start().await?;
    // It was the only one that had it, so it cannot be repaired.
    let status = until(&node, |status| !matches!(status.phase, NodePhase::Starting(_))).await?;
    assert!(matches!(status.phase, NodePhase::Refusing(_)), "{status:?}");
    let refused = within(node.propose(&command(4))).await?;
    assert!(matches!(refused, Err(Error::Refused(ReplicaRefusal::Damaged(_)))), "{refused:?}");
    within(node.shutdown()).await?;
    assert_eq!(fs::read(file)?, damaged, "it is left as it is");

    damaged[*at] ^= 1;
    fs::write(file, &damaged)?;
    node.start().await?;
    within(node.ready()).await??;
    assert_eq!(get(&node, "precious").await?.as_deref(), Some(precious.as_slice()));
    within(node.shutdown()).await
}

/// The original reported the candidate that a member had voted for as the leader.
#[tokio::test]
async fn a_candidate_is_not_reported_as_the_leader() -> Result {
    let mut options = options();
    options.raft.pre_vote = false;
    let mut group = Group::with(3, &options).await?;
    let leader = group.single_leader().await;
    let follower = group.others(leader.by)[0];
    group.disconnect(follower);
    let seen = group
        .until("it stands for election again and again", |seen| {
            let status = &seen[&follower];
            let led =
                status.leader.is_none() || (status.leader, status.term) == (Some(leader.by), leader.term);
            assert!(led, "it knows no leader: {status:?}");
            Some(status.clone()).filter(|status| status.term > leader.term.next())
        })
        .await;
    assert_eq!((seen.role, seen.leader, seen.vote), (RoleKind::Candidate, None, Some(follower)));
    group.reconnect(follower);
    group.single_leader().await;
    group.finish().await
}

#[tokio::test]
async fn the_log_is_read_from_either_end_and_between_with_index_term_and_commitment() -> Result {
    let mut group = Group::start(3).await?;
    group.commit(1..=5).await?;
    let all = group.agree().await?;
    let leader = group.single_leader().await;
    let node = group.node(leader.by);
    let places: Vec<_> = all.iter().map(|entry| entry.id.index.get()).collect();
    assert_eq!(places, (1..=all.len() as u64).collect::<Vec<_>>(), "by rising index, from the first");
    assert!(all.iter().all(|entry| entry.committed && entry.id.term <= leader.term));
    assert_eq!(node.logs(Range::First(3)).await?, all[..3]);
    assert_eq!(node.logs(Range::Last(3)).await?, all[all.len() - 3..]);
    assert_eq!(node.logs(Range::Between(Index::new(2), Index::new(4))).await?, all[2..4]);
    assert_eq!(node.logs(Range::First(u64::MAX)).await?, all);
    assert_eq!(node.logs(Range::Last(u64::MAX)).await?, all);
    assert_eq!(node.logs(Range::Last(0)).await?, []);
    assert_eq!(node.logs(Range::Between(Index::new(u64::MAX), Index::new(u64::MAX))).await?, []);

    for other in group.others(leader.by) {
        group.disconnect(other);
    }
    group.submit(leader.by, 6).await?;
    let last = group.node(leader.by).logs(Range::Last(1)).await?;
    assert_eq!(last[0].content, Content::Command(command(6).as_slice().into()));
    assert!(!last[0].committed, "it is in the log, and no other member has it");
    group.finish().await
}

#[tokio::test]
async fn a_member_that_cannot_be_reached_is_not_alive() -> Result {
    let mut options = options();
    options.transport.keep_alive = Duration::from_millis(100);
    let mut group = Group::with(3, &options).await?;
    let leader = group.single_leader().await;
    let [away, other] = group.others(leader.by)[..] else { return Err("three members".into()) };
    all_alive(&group, [leader.by, other], &[id(1), id(2), id(3)]).await?;
    group.disconnect(away);
    let mut rest = vec![leader.by, other];
    rest.sort_unstable();
    all_alive(&group, [leader.by, other], &rest).await?;
    let members = group.node(leader.by).members(false).await?;
    assert_eq!(members.len(), 3, "it is a member all the same");
    assert!(members.iter().all(|member| member.last_contact_ms.is_some()));
    group.reconnect(away);
    all_alive(&group, [leader.by, other], &[id(1), id(2), id(3)]).await?;
    group.finish().await
}

/// Waits until these members count those as alive.
async fn all_alive(group: &Group, told_by: [NodeId; 2], wanted: &[NodeId]) -> Result {
    for by in told_by {
        let began = Instant::now();
        loop {
            let members = group.node(by).members(true).await?;
            let alive: Vec<_> = members.iter().map(|member| member.member.id).collect();
            if alive == wanted {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{by} holds {alive:?} for alive, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// The original panicked, or hung, when it was stopped while requests were in progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_answers_every_request() -> Result {
    let group = Group::start(3).await?;
    let applied = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..60 {
        let (node, applied) = (group.node(id(1 + client % 3)).clone(), Arc::clone(&applied));
        clients.spawn(async move {
            loop {
                match node.propose(&command(client)).await {
                    Ok(_) => drop(applied.fetch_add(1, Ordering::Relaxed)),
                    Err(error) if error.is_retryable() => tokio::task::yield_now().await,
                    Err(error) => return error,
                }
            }
        });
    }
    group.until("there is load", |_| (applied.load(Ordering::Relaxed) >= 500).then_some(())).await;
    group.finish().await?;
    for told in within(clients.join_all()).await? {
        assert_eq!(told, Error::Stopped);
    }
    Ok(())
}

/// The original's consumer, if it was slow or absent, stopped its member.
#[tokio::test]
async fn committed_entries_stream_from_any_index_and_a_slow_reader_delays_no_other() -> Result {
    const MANY: u64 = 3000;
    let group = Group::start(3).await?;
    let leader = group.single_leader().await;
    let node = group.node(leader.by);
    let mut lazy = node.committed(Index::ZERO);
    let first = within(lazy.next()).await??;
    assert_eq!(first.id.index, Index::new(1));

    let session = Arc::new(within(node.session()).await??);
    let mut clients = JoinSet::new();
    for client in 0..10 {
        let session = Arc::clone(&session);
        clients.spawn(async move {
            for number in 0..MANY / 10 {
                session.propose(&command(client * MANY + number)).await?;
            }
            Ok::<_, Error>(())
        });
    }
    for done in within(clients.join_all()).await? {
        done?;
    }

    let last = node.status().committed;
    assert!(last.get() > MANY);
    let mut eager = node.committed(Index::ZERO);
    let mut entries = Vec::new();
    while entries.len() < usize::try_from(last.get())? {
        entries.push(within(eager.next()).await??);
    }
    let places = entries.iter().map(|entry| entry.id.index.get());
    assert!(places.eq(1..=last.get()), "each once and in order");
    let commands = entries.iter().filter_map(|entry| match &entry.content {
        Content::Command(command) => Some(command.to_vec()),
        _ => None,
    });
    // A retried command may be in the log twice, and was applied once.
    assert_eq!(commands.collect::<BTreeSet<_>>().len() as u64, MANY);
    let middle = MANY / 2;
    let mut later = node.committed(Index::new(middle));
    assert_eq!(within(later.next()).await??, entries[usize::try_from(middle)?]);
    for entry in &entries[1..] {
        assert_eq!(within(lazy.next()).await??, *entry, "nothing was lost for who came late");
    }
    within(node.shutdown()).await?;
    let mut over = node.committed(last);
    assert_eq!(within(over.next()).await?, Err(Error::Stopped));
    group.finish().await
}

/// The original reported each entry with the member's own current term, so that two members reported the same
/// entry differently.
#[tokio::test]
async fn an_entry_keeps_the_term_it_was_proposed_in_on_every_member() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([1]).await?;
    let old = group.single_leader().await;
    group.crash(old.by).await?;
    group.single_leader().await;
    group.restart(old.by).await?;
    group.commit([2]).await?;
    let (one, two) = (group.committed(1, 3).await?, group.committed(2, 3).await?);
    assert!(one.term <= old.term && old.term < two.term, "{one:?} {two:?}");
    let all = group.agree().await?;
    for node in group.nodes() {
        let mut told = node.committed(Index::ZERO);
        for entry in &all {
            assert_eq!(within(told.next()).await??, *entry);
        }
    }
    group.finish().await
}

/// A process that introduces itself as a member.
struct Stranger {
    groups: Vec<(ClusterId, Incarnation)>,
    addresses: BTreeMap<NodeId, String>,
}

impl transport::Host for Stranger {
    fn hello(&self) -> Hello {
        let address = Address { text: "127.0.0.1:9".to_owned(), stamp: u64::MAX };
        Hello { id: id(9), groups: self.groups.clone(), address, known: vec![] }
    }
    fn heard(&self, _: &Hello) {}
    fn addresses(&self, of: NodeId) -> Vec<String> {
        self.addresses.get(&of).cloned().into_iter().collect()
    }
    fn deliver(&self, _: NodeId, _: ClusterId, _: Vec<u8>) -> bool {
        true
    }
    fn broken(&self, _: NodeId) {}
    fn client(&self, _: Stream, _: Option<ClusterId>, _: SocketAddr) {}
}

/// In the original a peer that called a member became a voter, to that member.
#[tokio::test]
async fn a_stranger_that_introduces_itself_is_no_member() -> Result {
    let group = Group::start(3).await?;
    let before = group.single_leader().await;
    let addresses = (1..=3).map(|number| (id(number), group.node(id(number)).local_addr()));
    let addresses = addresses.filter_map(|(id, at)| Some((id, at?.to_string()))).collect();
    let cluster = group.node(id(1)).status().cluster;
    let stranger = Arc::new(Stranger { groups: vec![(cluster, Incarnation(9))], addresses });
    let transport = Transport::start(transport::TransportOptions::default(), stranger).await?;
    for number in 1..=3 {
        transport.connect(id(number));
    }
    group
        .until("all have heard of it", |_| {
            let heard = |node: &Node| {
                let host = node.host()?;
                Some(host.transport()?.counters().peers.get(&id(9))?.inbound).filter(|count| *count > 0)
            };
            group.nodes().all(|node| heard(node).is_some()).then_some(())
        })
        .await;
    group.commit([1]).await?;
    group.committed(1, 3).await?;
    for node in group.nodes() {
        let members = node.members(false).await?;
        let ids: Vec<_> = members.iter().map(|member| member.member.id).collect();
        assert_eq!(ids, [id(1), id(2), id(3)]);
        assert!(members.iter().all(|member| member.kind == MemberKind::Voter));
        assert!(node.status().term >= before.term && node.status().vote != Some(id(9)));
    }
    transport.shutdown().await;
    group.finish().await
}

/// The original lost its term and its candidacy to a peer that never existed.
#[tokio::test]
async fn a_member_that_never_started_does_not_hinder_the_group() -> Result {
    let mut group = Group::start(3).await?;
    group.commit([1]).await?;
    for number in 1..=3 {
        group.crash(id(number)).await?;
    }
    let before = group.node(id(1)).status().term;
    group.restart(id(1)).await?;
    group.restart(id(2)).await?;
    assert!(group.single_leader().await.term > before);
    group.commit([2]).await?;
    group.committed(1, 2).await?;
    group.committed(2, 2).await?;
    // A member in the membership only: it does not exist.
    let leader = group.single_leader().await.by;
    let missing = Member::new(id(7), Incarnation(7));
    within(group.node(leader).reconfigure(None, vec![Change::AddLearner(missing)])).await??;
    group.commit([3]).await?;
    group.committed(3, 2).await?;
    let members = group.node(leader).members(true).await?;
    assert!(
        members.iter().all(|member| member.member.id <= id(2)),
        "no member has heard from these: {members:?}"
    );
    group.finish().await
}

#[tokio::test]
async fn a_follower_that_was_away_for_long_gets_a_snapshot() -> Result {
    let mut options = options();
    options.raft.retained_entries = 4;
    let mut group = Group::with(3, &options).await?;
    let leader = group.single_leader().await;
    let follower = group.others(leader.by)[0];
    group.disconnect(follower);
    group.commit(1..=20).await?;
    let leader = group.single_leader().await;
    let snapshot = within(group.node(leader.by).snapshot()).await??;
    let first = match group.node(leader.by).logs(Range::Between(Index::ZERO, snapshot.index)).await {
        Err(Error::Refused(ReplicaRefusal::Compacted { first })) => first,
        other => return Err(format!("the log begins where it began: {other:?}").into()),
    };
    assert!(group.node(follower).status().last.index.next() < first, "it lacks what is no more in the log");
    group.reconnect(follower);
    let status = until(group.node(follower), |status| status.applied >= snapshot.index).await?;
    assert_eq!(status.snapshot, snapshot);
    for number in [1, 20] {
        let number = number.to_string();
        assert_eq!(get(group.node(follower), &number).await?.as_deref(), Some(number.as_bytes()));
    }
    let told = within(group.node(follower).committed(Index::ZERO).next()).await?;
    assert!(matches!(told, Err(Error::Refused(ReplicaRefusal::Compacted { .. }))), "{told:?}");
    group.finish().await
}

/// In the original members could only be added, and dead ones counted for good.
#[tokio::test]
async fn a_group_shrinks_and_the_dead_count_no_more() -> Result {
    let mut group = Group::start(5).await?;
    group.commit([1]).await?;
    for expected in [3, 2] {
        // One that is down, while a fifth is not: of five members three must be up, of three two.
        let leader = group.single_leader().await.by;
        let others = group.others(leader);
        let leaving = if expected == 3 { &others[..2] } else { &others[..1] };
        group.crash(leaving[0]).await?;
        let changes = leaving.iter().map(|id| Change::Remove(*id)).collect::<Vec<_>>();
        reconfigure(&group, changes).await?;
        for id in leaving {
            group.dismiss(*id).await?;
        }
        group.commit([10 + expected]).await?;
        group.committed(10 + expected, usize::try_from(expected)?).await?;
    }
    let leader = group.single_leader().await.by;
    let last = group.others(leader)[0];
    reconfigure(&group, vec![Change::Remove(last)]).await?;
    group.dismiss(last).await?;
    group.commit([20]).await?;
    group.committed(20, 1).await?;
    let members = group.node(leader).members(false).await?;
    assert_eq!(members.iter().map(|member| member.member.id).collect::<Vec<_>>(), [leader]);
    assert_eq!(group.agreed(1).await?, 1);
    group.finish().await
}

/// Has the leader change the membership, whichever member leads: a refused request had no effect.
async fn reconfigure(group: &Group, changes: Vec<Change>) -> Result {
    loop {
        let leader = group.single_leader().await.by;
        match within(group.node(leader).reconfigure(None, changes.clone())).await? {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => {}
            Err(Error::Refused(ReplicaRefusal::Raft(kontiki_core::action::Refusal::Change(_)))) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A caller that stops waiting undoes nothing, and leaves nothing behind.
#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_nothing_behind() -> Result {
    let mut group = Group::start(3).await?;
    let leader = group.single_leader().await;
    for other in group.others(leader.by) {
        group.disconnect(other);
    }
    group.submit(leader.by, 1).await?.abort();
    assert!(places(&log(group.node(leader.by)).await?, 1).next().is_some(), "it is under way");
    for number in 1..=3 {
        group.reconnect(id(number));
    }
    group.commit([2]).await?;
    assert!(group.agreed(1).await? <= 1);
    let waiting = group.node(leader.by).counters().await?.waiting;
    assert_eq!(waiting, 0);
    group.finish().await
}

/// Collects log lines, from some level on.
struct Listener {
    level: Level,
    heard: Arc<Mutex<Vec<(Level, String)>>>,
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.heard.lock().expect("no holder panics").push((*event.metadata().level(), line.0));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

/// The original either wrote its log or did not.
#[tokio::test]
async fn what_is_logged_is_for_the_application_to_choose() -> Result {
    let root = tempfile::tempdir()?;
    let two = builders(2, root.path(), &options())?;
    assert!(!logged(&two[0], Level::ERROR).await?, "that it waits is no error");
    for _ in 0..5 {
        // A log statement that another test reaches for the first time just now may not have registered this
        // subscriber.
        if logged(&two[0], Level::INFO).await? {
            return Ok(());
        }
    }
    Err("it does not say for whom it waits".into())
}

/// Returns whether a member that waits for its first group logs this to a subscriber of this level.
async fn logged(builder: &Builder, level: Level) -> Result<bool> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Listener { level, heard: Arc::clone(&heard) };
    let _guard = tracing::subscriber::set_default(listener);
    let node = builder.start().await?;
    until(&node, |status| matches!(&status.phase, NodePhase::Starting(why) if why.contains('2'))).await?;
    within(node.shutdown()).await?;
    let heard = heard.lock().expect("no holder panics").clone();
    assert!(heard.iter().all(|(of, _)| *of <= level), "{heard:?}");
    Ok(heard.iter().any(|(_, line)| line.contains("waiting for member 2") && line.contains("member=")))
}
