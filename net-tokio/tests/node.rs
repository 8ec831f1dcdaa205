//! A group over real sockets and files, as an application sees it.

use kontiki_core::kv::{Command, Kv, Query, Reply};
use kontiki_core::membership::MemberKind;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::types::{ClusterId, Index, NodeId};
use kontiki_net_tokio::host::Host;
use kontiki_net_tokio::node::{Builder, Error, Node, NodeOptions};
use kontiki_net_tokio::protocol::{Content, NodePhase, NodeStatus, Range};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn id(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// Ports that are free now.
fn ports(count: u64) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

/// Returns builders for the members of a group.
fn builders(count: u64, root: &Path) -> Result<Vec<Builder>> {
    let at = ports(count)?;
    let peers: Vec<_> = (1..).map(id).zip(at.iter().map(ToString::to_string)).collect();
    let builder = |(number, at): (u64, &SocketAddr)| {
        let directory = root.join(number.to_string());
        Builder::new(id(number), Kv::default).directory(directory).listen(*at).peers(peers.clone())
    };
    Ok((1..).zip(&at).map(builder).collect())
}

async fn group(count: u64, root: &Path) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for builder in builders(count, root)? {
        nodes.push(builder.start().await?);
    }
    for node in &nodes {
        within(node.ready()).await??;
    }
    Ok(nodes)
}

async fn within<T>(what: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(60), what).await?)
}

async fn until(node: &Node, is_so: impl Fn(&NodeStatus) -> bool) -> Result<NodeStatus> {
    Ok(within(node.watch().wait_for(is_so)).await??.clone())
}

fn put(key: &str, value: &str) -> Vec<u8> {
    Command::Put { key: key.as_bytes(), value: value.as_bytes() }.encode()
}

async fn get(node: &Node, key: &str) -> Result<Option<String>> {
    loop {
        match within(node.read(Query::Get { key: key.as_bytes() }.encode())).await? {
            Ok(answer) => match Reply::decode(&answer)? {
                Reply::Value(value) => return Ok(value.map(String::from_utf8).transpose()?),
                other => return Err(format!("{other:?}").into()),
            },
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::test]
async fn three_members_agree_and_remember() -> Result {
    let root = tempfile::tempdir()?;
    let nodes = group(3, root.path()).await?;
    let session = within(nodes[0].session()).await??;
    let applied = within(session.propose(&put("colour", "red"))).await??;
    for node in &nodes {
        assert_eq!(get(node, "colour").await?.as_deref(), Some("red"), "any member may be asked");
        until(node, |status| status.applied >= applied.id.index).await?;
        let last = within(node.logs(Range::Last(1))).await??;
        assert_eq!((last[0].id, last[0].committed), (applied.id, true));
        assert_eq!(last[0].content, Content::Command(put("colour", "red").as_slice().into()));
        let members = within(node.members(false)).await??;
        assert!(members.iter().all(|member| member.kind == MemberKind::Voter && member.address.is_some()));
        assert_eq!(members.iter().filter(|member| member.leads).count(), 1);
    }
    for node in &nodes {
        within(node.shutdown()).await?;
        assert_eq!(node.status().phase, NodePhase::Stopped);
        assert_eq!(node.propose(&put("colour", "blue")).await, Err(Error::Stopped));
    }
    for node in &nodes {
        node.start().await?;
        node.start().await?;
    }
    assert_eq!(get(&nodes[2], "colour").await?.as_deref(), Some("red"), "it was on the disks");
    // The other two are a majority: this one may still be opening its log.
    within(nodes[1].ready()).await??;
    let mut committed = nodes[1].committed(Index::ZERO);
    loop {
        let entry = within(committed.next()).await??;
        if entry.id == applied.id {
            break;
        }
    }
    Ok(())
}

/// A client that asks for entries that the disk has damaged, or that precede the log, gets an error that says
/// so.
#[tokio::test]
async fn a_page_of_the_log_that_cannot_be_read_is_an_error() -> Result {
    let root = tempfile::tempdir()?;
    let mut options = NodeOptions::default();
    options.raft.max_cached_bytes = 256;
    options.raft.retained_entries = 4;
    let node = builders(1, root.path())?.remove(0).options(options).start().await?;
    within(node.ready()).await??;
    for number in 0..40 {
        within(node.propose(&put("key", &number.to_string()))).await??;
    }
    let all = within(node.logs(Range::Between(Index::ZERO, Index::MAX))).await??;
    assert!(all.len() > 40 && all.iter().zip(1..).all(|(entry, index)| entry.id.index == Index::new(index)));

    for file in std::fs::read_dir(root.path().join("1"))? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            let file = std::fs::OpenOptions::new().write(true).open(&path)?;
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xee; 1 << 20], 0)?;
        }
    }
    let told = within(node.logs(Range::Between(Index::new(4), Index::new(9)))).await?;
    let Err(Error::Refused(refusal)) = told else { return Err(format!("{told:?}").into()) };
    assert!(
        matches!(refusal, ReplicaRefusal::Unreadable { index, damage: Some(_) } if index == Index::new(5))
    );
    assert!(refusal.to_string().contains("entry 5 cannot be read"), "{refusal}");
    let told = within(node.committed(Index::new(4)).next()).await?;
    assert_eq!(told, Err(Error::Refused(refusal)), "the stream waits for nothing that does not come");

    let snapshot = within(node.snapshot()).await??;
    until(&node, |status| status.snapshot == snapshot).await?;
    let told = within(node.logs(Range::Between(Index::ZERO, Index::MAX))).await?;
    let Err(Error::Refused(ReplicaRefusal::Compacted { first })) = told else {
        return Err(format!("{told:?}").into());
    };
    assert_eq!(within(node.logs(Range::First(1))).await??[0].id.index, first);
    Ok(())
}

#[tokio::test]
async fn a_member_joins_and_another_leaves() -> Result {
    let root = tempfile::tempdir()?;
    let nodes = group(1, root.path()).await?;
    within(nodes[0].session()).await??.propose(&put("a", "1")).await?;
    let seed = nodes[0].local_addr().ok_or("it runs")?.to_string();
    let newcomer =
        Builder::new(id(2), Kv::default).directory(root.path().join("2")).join(seed).start().await?;
    until(&newcomer, |status| status.kind == MemberKind::Voter).await?;
    assert_eq!(get(&newcomer, "a").await?.as_deref(), Some("1"));
    // The promotion has not ended for the leader before it is committed.
    while let Err(error) = within(nodes[0].remove(id(2))).await? {
        assert!(error.is_retryable(), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(&nodes[0], |status| status.committed == status.last.index).await?;
    within(nodes[0].session()).await??.propose(&put("a", "2")).await?;
    assert_eq!(within(nodes[0].members(false)).await??.len(), 1);
    Ok(())
}

/// A ring too small for the member is reported: after an incident it would be empty.
#[tokio::test]
async fn what_is_not_recorded_is_counted() -> Result {
    let root = tempfile::tempdir()?;
    let builder = builders(1, root.path())?.remove(0).record(root.path().join("one.rec"), 1 << 20);
    let node = builder.start().await?;
    within(node.ready()).await??;
    let recorder = async || node.counters().await.map(|counters| counters.recorder.unwrap_or_default());
    let counters = recorder().await?;
    assert!(counters.recordings == 1 && counters.missed == 0, "{counters:?}");
    // More than a sixteenth of the ring.
    within(node.propose(&put("key", &"v".repeat(100_000)))).await??;
    let counters = recorder().await?;
    assert!(counters.too_large > 0 && counters.missed >= counters.too_large, "{counters:?}");
    within(node.shutdown()).await?;
    Ok(())
}

/// The caller that added a member may be gone, for good, before the member has caught up.
#[tokio::test]
async fn a_newcomer_whose_leader_is_lost_is_promoted_by_the_next() -> Result {
    let root = tempfile::tempdir()?;
    let mut nodes = group(3, root.path()).await?;
    let leader = nodes[0].status().leader.ok_or("ready without a leader")?;
    let leader =
        nodes.remove(nodes.iter().position(|node| node.status().member.id == leader).ok_or("it is one")?);
    let host = leader.host().ok_or("it runs")?;
    // The leader adds the new member, and cannot bring it up to date.
    host.transport().ok_or("it has sockets")?.block(id(4), true);
    let seed = leader.local_addr().ok_or("it runs")?.to_string();
    let newcomer =
        Builder::new(id(4), Kv::default).directory(root.path().join("4")).join(seed).start().await?;
    while within(nodes[0].members(false)).await??.len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    within(leader.shutdown()).await?;
    until(&newcomer, |status| status.kind == MemberKind::Voter).await?;
    Ok(())
}

#[tokio::test]
async fn a_directory_that_was_emptied_founds_no_second_group() -> Result {
    let root = tempfile::tempdir()?;
    let nodes = group(3, root.path()).await?;
    within(nodes[0].shutdown()).await?;
    std::fs::remove_dir_all(root.path().join("1"))?;
    nodes[0].start().await?;
    let status = until(&nodes[0], NodeStatus::is_over).await?;
    let NodePhase::Halted(why) = &status.phase else { return Err(format!("{status:?}").into()) };
    assert!(why.contains("directory was lost or emptied"), "{why}");
    Ok(())
}

/// Three hosts, each with a member of both groups: the groups share sockets and disk threads, and nothing
/// else.
#[tokio::test]
async fn two_groups_share_their_hosts() -> Result {
    let root = tempfile::tempdir()?;
    let at = ports(3)?;
    let peers: Vec<_> = (1..).map(id).zip(at.iter().map(ToString::to_string)).collect();
    let mut hosts = Vec::new();
    for (number, at) in (1..).zip(&at) {
        hosts.push(Host::start(id(number), *at, None, None, &NodeOptions::default()).await?);
    }
    let mut groups = Vec::new();
    for cluster in [ClusterId(7), ClusterId(8)] {
        let mut nodes = Vec::new();
        for (number, host) in (1..).zip(&hosts) {
            let directory = root.path().join(format!("{cluster}-{number}"));
            let builder = Builder::new(id(number), Kv::default).directory(directory).peers(peers.clone());
            nodes.push(builder.cluster(cluster).on(host.clone()).start().await?);
        }
        groups.push(nodes);
    }
    for (nodes, value) in groups.iter().zip(["red", "blue"]) {
        within(nodes[0].ready()).await??;
        let session = within(nodes[0].session()).await??;
        within(session.propose(&put("colour", value))).await??;
    }
    for (nodes, value) in groups.iter().zip(["red", "blue"]) {
        for node in nodes {
            assert_eq!(get(node, "colour").await?.as_deref(), Some(value));
            assert_eq!(within(node.members(false)).await??.len(), 3);
        }
    }
    for node in groups.iter().flatten() {
        within(node.shutdown()).await?;
    }
    for host in hosts {
        within(host.shutdown()).await?;
    }
    Ok(())
}
