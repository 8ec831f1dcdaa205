//! A large state goes to a newcomer over a slow link that breaks on the way.

use crate::harness::{Group, Result, id, run, until, within};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, NodeId};
use kontiki_net_tokio::client::{Again, Client, ClientOptions};
use kontiki_net_tokio::protocol::{Answer, Ask, Response};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A newcomer gets the snapshot and not the log; 32 MiB of it a second, in pieces of 1 MiB.
const CONFIG: &str = "[raft]
election_timeout_min = \"1s\"
election_timeout_max = \"2s\"
heartbeat_interval = \"200ms\"
retained_entries = 2
max_cached_bytes = 16777216
[replica]
snapshot_every_bytes = 1099511627776
snapshot_bytes_per_second = 33554432
snapshot_chunk_bytes = 1048576
[wal]
cached_bytes = 16777216
";

/// How many values, and how long each is: 256 MiB together.
const VALUES: u64 = 256;
const LENGTH: usize = 1 << 20;
const STATE_MIB: u64 = VALUES;

#[test]
fn a_large_snapshot_that_is_broken_off_goes_on_where_it_was() {
    run(
        || Group::new(1, CONFIG),
        async |group| {
            let (old, new) = (id(1), group.newcomer(2, id(1))?);
            let mut ports = BTreeMap::new();
            for member in [old, new] {
                ports.insert(member, operate(group, member)?);
            }
            group.member(old).start()?;
            group.leader().await?;
            let begun = Instant::now();
            let told = |what: &str| eprintln!("{:>6} ms: {what}", begun.elapsed().as_millis());
            fill(&group.client(patient())).await?;
            told("everything is written");
            take_snapshot(group, old).await?;
            told("there is a snapshot");
            // The newcomer dies when it has a quarter, and the sender when it has half of the rest.
            group.member(new).start()?;
            let kept = taken(ports[&new], VALUES / 4).await?;
            told("a quarter has come");
            group.member(new).kill()?;
            group.member(new).start()?;
            taken(ports[&new], (VALUES - kept) / 2).await?;
            told("half of the rest has come");
            group.member(old).kill()?;
            group.member(old).start()?;
            let committed = last(group, old).await?;
            within(LONG, "the newcomer has everything", async || {
                group.status(new).await.filter(|status| status.applied >= committed).map(drop)
            })
            .await?;

            told("all has come");
            let counted = counters(ports[&new])?;
            let resumed = counter(&counted, RESUMED)?;
            assert!(resumed >= 1, "a fetch went on from where another had ended: {resumed}");
            // In this life, that is: what came in the one before was not fetched again.
            let (pieces, rest) = (counter(&counted, TAKEN)?, VALUES - kept);
            assert!(pieces <= rest + SLACK, "{pieces} pieces came, and {rest} were missing");
            assert_eq!(counter(&counted, "kontiki_snapshots_fetched_total")?, 1);

            promote(group, old, new).await?;
            told("the newcomer votes");
            compare(group, old, new).await?;
            told("it has the same");
            for member in [old, new] {
                let peak = group.member(member).peak_memory()? >> 20;
                eprintln!("member {member} had {peak} MiB in use at once, for {STATE_MIB} MiB of state");
                assert!(peak < STATE_MIB * 2 + 128, "member {member}: {peak} MiB");
            }
            Ok(())
        },
    );
}

/// Has a member take a snapshot of its state machine.
async fn take_snapshot(group: &Group, member: NodeId) -> Result<()> {
    match group.at_member(member).with_deadline(LONG).ask(Ask::Snapshot, Again::Unsafe).await? {
        Response::Answer(Answer::Snapshot(_)) => Ok(()),
        other => Err(format!("no snapshot: {other:?}").into()),
    }
}

/// Has the leader promote a member that is still a learner, because the leader that was to promote it died.
async fn promote(group: &Group, leader: NodeId, learner: NodeId) -> Result<()> {
    let change =
        || Ask::Reconfigure { expected: None, changes: vec![Change::Promote(learner)], force: false };
    until("the newcomer votes", async || {
        let kind = group.status(learner).await?.kind;
        if kind == MemberKind::Learner {
            // It may be refused for a moment; then once more.
            let _ = group.at_member(leader).ask(change(), Again::Safe).await;
        }
        (kind == MemberKind::Voter).then_some(())
    })
    .await
}

/// How far the log of a leader is committed, once it leads.
async fn last(group: &Group, leader: NodeId) -> Result<Index> {
    within(LONG, "the sender leads again", async || {
        let status = group.status(leader).await?;
        (status.role == RoleKind::Leader && status.committed == status.last.index).then_some(status.committed)
    })
    .await
}

/// For what takes time on a busy machine.
const LONG: Duration = Duration::from_secs(180);
/// Pieces that were on their way, or written and not yet synced, when the newcomer died; and the first and
/// the last.
const SLACK: u64 = 24;

fn patient() -> ClientOptions {
    ClientOptions { deadline: LONG, reply_timeout: LONG, ..ClientOptions::default() }
}

/// Values that no compression and no mistake makes alike.
fn value(number: u64) -> Vec<u8> {
    let mut state = number + 1;
    let words = (0..LENGTH / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).to_le_bytes()
    });
    words.collect()
}

async fn fill(client: &Client) -> Result {
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let kv = client.kv();
        writers.push(tokio::spawn(async move {
            for number in (writer..VALUES).step_by(WRITERS as usize) {
                kv.put(&number.to_le_bytes(), &value(number)).await?;
            }
            Result::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

const WRITERS: u64 = 4;

/// The newcomer's snapshot is a copy of the other's, and what it serves is what was written.
async fn compare(group: &mut Group, old: NodeId, new: NodeId) -> Result {
    let one = snapshot_file(&group.member(old).data)?;
    let other = snapshot_file(&group.member(new).data)?;
    assert_eq!(one.file_name(), other.file_name());
    assert!(fs::read(one)? == fs::read(other)?, "the snapshot of the newcomer is another");
    let client = group.at_member(new).with_deadline(LONG);
    for number in (0..VALUES).step_by(23) {
        let held = client.kv().get(&number.to_le_bytes()).await?;
        assert!(held == Some(value(number)), "value {number} is another at the newcomer");
    }
    Ok(())
}

fn snapshot_file(data: &Path) -> Result<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        all.extend(entry.file_name().to_string_lossy().starts_with("snapshot-").then(|| entry.path()));
    }
    all.sort();
    all.pop().ok_or_else(|| format!("there is no snapshot in {}", data.display()).into())
}

/// Waits until so many pieces have come in a member's present life; how many that are.
async fn taken(at: SocketAddr, pieces: u64) -> Result<u64> {
    within(LONG, &format!("{pieces} pieces have come"), async || {
        counter(&counters(at).ok()?, TAKEN).ok().filter(|taken| *taken >= pieces)
    })
    .await
}

const TAKEN: &str = "kontiki_snapshot_pieces_taken_total";
const RESUMED: &str = "kontiki_snapshot_fetches_resumed_total";

fn counter(counters: &BTreeMap<String, u64>, name: &str) -> Result<u64> {
    counters.get(name).copied().ok_or_else(|| format!("there is no {name}").into())
}

const TOKEN: &str = "known-to-tests-alone";

/// Opens a member's port for operators.
fn operate(group: &mut Group, member: NodeId) -> Result<SocketAddr> {
    let file = group.root().join("token");
    if !file.exists() {
        fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&file)?
            .write_all(TOKEN.as_bytes())?;
    }
    let address = crate::harness::free_address(member.get())?;
    for (name, value) in
        [("--admin", address.to_string()), ("--admin-token-file", file.display().to_string())]
    {
        group.member(member).with(name);
        group.member(member).with(value);
    }
    Ok(address)
}

/// A member's counters: those that have no labels.
fn counters(at: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let samples = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    });
    Ok(samples.collect())
}
