//! A member whose disk has no space left: on a small file system of its own.

use crate::harness::{CALM, Group, Result, id, run, skip, until};
use crate::load::{Load, Plan};
use kontiki_core::status::Space;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::client::{Again, ClientOptions};
use kontiki_net_tokio::protocol::Ask;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Segments so small that a full disk is felt at once, and looked at often.
const SMALL: &str = "[wal]\nsegment_bytes = 1048576\n[replica]\nfull_disk_retry = \"200ms\"\n";

#[test]
fn a_member_without_space_refuses_work_and_nothing_else_until_there_is_some() {
    let (small, other) = (id(1), id(2));
    on_small_disks([small], async |group, [disk]| {
        group.leader().await?;
        let plan =
            Plan { deadline: Duration::from_secs(4), pause: Duration::from_millis(10), ..Plan::default() };
        let load = Load::start(group, plan);
        load.goes_on(30).await?;

        lead(group, small).await?;
        disk.fill()?;
        let kept = write_until_handed_over(group, small).await?;
        // Another leads, which has space; all that was acknowledged is there.
        for key in &kept {
            let held = group.client(ClientOptions::default()).kv().get(key).await?;
            assert_eq!(held, Some(value(key)), "it was acknowledged");
        }
        disk.make_space()?;
        load.goes_on(30).await?;

        // As a follower, it still votes: the others cannot have a leader without it.
        lead(group, other).await?;
        disk.fill()?;
        write_past(group, small).await?;
        let term = group.status(other).await.ok_or("it leads")?.term;
        group.member(other).kill()?;
        until("the one without space has voted for another leader", async || {
            let voted = group.status(small).await?;
            (voted.term > term && voted.leader.is_some_and(|leader| leader != small)).then_some(())
        })
        .await?;
        disk.make_space()?;
        load.goes_on(30).await?;
        group.member(other).start()?;

        let report = load.end(group).await?;
        for (key, member) in kept.iter().flat_map(|key| group.ids().into_iter().map(move |id| (key, id))) {
            assert_eq!(group.at_member(member).kv().get(key).await?, Some(value(key)), "it was acknowledged");
        }
        eprintln!("{report}");
        Ok(())
    });
}

#[test]
fn a_member_without_space_is_not_handed_the_lead_and_a_group_without_any_says_so() {
    let (leader, full) = (id(1), id(2));
    on_small_disks([leader, full, id(3)], async |group, disks| {
        lead(group, leader).await?;

        disks[1].fill()?;
        write_past(group, full).await?;
        until("it says so", async || space(group, full).await.filter(|it| *it == Space::Full)).await?;
        until("its leader refuses to hand over to it", async || {
            let asked = group.at_member(leader).ask(Ask::Transfer { to: Some(full) }, Again::Safe).await;
            asked.err().filter(|error| error.to_string().contains("no space on the disk of member 2"))
        })
        .await?;
        assert_eq!(group.leader().await?, leader);

        disks[0].fill()?;
        disks[2].fill()?;
        let client =
            group.client(ClientOptions { deadline: Duration::from_secs(1), ..ClientOptions::default() });
        let mut kept = Vec::new();
        until("a leader says that its group has no space", async || {
            let key = format!("x-last-{}", kept.len()).into_bytes();
            if client.kv().put(&key, &value(&key)).await.is_ok() {
                kept.push(key);
            }
            let statuses = group.statuses().await;
            statuses.iter().find(|status| status.space == Space::GroupFull).map(drop)
        })
        .await?;
        for key in &kept {
            assert_eq!(client.kv().get(key).await?, Some(value(key)), "reads need no space");
        }

        disks.iter().try_for_each(SmallDisk::make_space)?;
        until("it takes writes again", async || client.kv().put(b"x", b"again").await.ok()).await?;
        for id in group.ids() {
            group.caught_up(id).await?;
            until("it has space", async || space(group, id).await.filter(|it| *it == Space::Free)).await?;
        }
        Ok(())
    });
}

/// Runs a test on a group of three, of which these members have a disk of 24 MB. Skips it where none can be
/// mounted.
fn on_small_disks<const N: usize>(
    members: [NodeId; N],
    test: impl for<'a> AsyncFnOnce(&'a mut Group, [SmallDisk; N]) -> Result,
) {
    if !rustix::process::geteuid().is_root() {
        return skip("only root mounts file systems").expect("it can be said");
    }
    let config = format!("{CALM}{SMALL}");
    run(
        || Group::new(3, &config),
        async |group| {
            let mounted: Result<Vec<_>> =
                members.iter().map(|id| SmallDisk::mount(&group.member(*id).data, 24 << 20)).collect();
            let disks = match mounted.map(<[SmallDisk; N]>::try_from) {
                Ok(Ok(disks)) => disks,
                Ok(Err(_)) => unreachable!("a disk for each member"),
                Err(error) => return skip(&format!("no small file system: {error}")),
            };
            group.start_all()?;
            test(group, disks).await
        },
    );
}

async fn space(group: &Group, member: NodeId) -> Option<Space> {
    group.status(member).await.map(|status| status.space)
}

/// Has a member lead.
async fn lead(group: &Group, member: NodeId) -> Result {
    until("leadership is handed over", async || {
        let leader = group.leader().await.ok()?;
        if leader == member {
            return Some(());
        }
        // It may be refused for a moment; then once more.
        let _ = group.at_member(leader).ask(Ask::Transfer { to: Some(member) }, Again::Safe).await;
        None
    })
    .await
}

/// Large enough that a segment takes only a few.
fn value(key: &[u8]) -> Vec<u8> {
    key.repeat(100_000 / key.len())
}

/// Writes until this leader, whose disk is full, has handed over to another. What was acknowledged before.
async fn write_until_handed_over(group: &Group, leader: NodeId) -> Result<Vec<Vec<u8>>> {
    let client = group.client(ClientOptions::default());
    let mut kept = Vec::new();
    for number in 0..100 {
        let key = format!("x{number}").into_bytes();
        client.kv().put(&key, &value(&key)).await?;
        kept.push(key);
        if group.leader().await.is_ok_and(|leads| leads != leader) {
            return Ok(kept);
        }
    }
    Err("ten megabytes were written and the leader without space leads on".into())
}

/// Writes more by way of the others than this member has room for.
async fn write_past(group: &Group, member: NodeId) -> Result {
    let client = group.client(ClientOptions::default());
    for number in 0..50 {
        let key = format!("x-past-{number}").into_bytes();
        client.kv().put(&key, &value(&key)).await?;
    }
    let leader = group.leader().await?;
    let committed = group.status(leader).await.ok_or("it leads")?.committed;
    let last = group.status(member).await.ok_or("it is there")?.last.index;
    if last < committed { Ok(()) } else { Err("five megabytes went to a disk without space".into()) }
}

/// A file system of a few megabytes at a member's directory. It goes with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(at)?;
        let size = format!("size={bytes},mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output()?;
        match mount.status.success() {
            true => Ok(Self(at.to_owned())),
            false => Err(String::from_utf8_lossy(&mount.stderr).into()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all space that is left.
    fn fill(&self) -> Result {
        let mut ballast = fs::File::options().create(true).append(true).open(self.ballast())?;
        loop {
            match ballast.write(&[1; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn make_space(&self) -> Result {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once for every process that looks, and for the member when it is gone.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
