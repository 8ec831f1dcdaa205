//! `kontiki recover --force-new-cluster`: a new group of one remaining member. `kontiki_core::recover` makes
//! the decisions; this module carries them from one directory to another, and keeps the old one.

use crate::failure::{Exit, Failure};
use crate::output::{Format, note};
use crate::target::node_id;
use clap::Args;
use kontiki_core::durable::Durable;
use kontiki_core::recover::force_new_cluster;
use kontiki_core::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId};
use kontiki_core::wal::{FileName, Wal, WalOptions};
use kontiki_net_tokio::disk::FileDisk;
use kontiki_net_tokio::identity::{self, Record};
use serde_json::json;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

/// DANGER. For a group that has lost the majority of its members for good: makes a new group of one
/// remaining member.
///
/// Committed entries that this member does not have are lost, although they were acknowledged to clients:
/// take the member with the longest log. Its uncommitted entries become committed. If any of the others ever
/// comes back, there are two diverging groups: destroy their directories. This member must be stopped. Its
/// old directory is kept beside the new one.
#[derive(Args, Debug)]
pub(crate) struct Recover {
    /// The id of the remaining member
    #[arg(long, value_parser = node_id)]
    id: NodeId,
    /// The directory of the remaining member
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Required, to confirm the purpose
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// Skip the confirmation prompt
    #[arg(long)]
    yes_i_lose_what_others_had: bool,
}

/// The old directory, and the plan for the new one.
struct Plan {
    directory: PathBuf,
    old: Record,
    new: Record,
    found: Durable,
    recovered: Durable,
    /// The lock of the old directory, so that the member cannot be started meanwhile.
    _held: FileDisk,
}

impl Recover {
    pub(crate) fn run(self, format: Format) -> Result<Exit, Failure> {
        let plan = Plan::make(&self.data, self.id)?;
        if !self.yes_i_lose_what_others_had {
            plan.confirm()?;
        }
        let kept = plan.carry_out()?;
        let Plan { new, recovered, directory, .. } = &plan;
        let cluster = new.cluster.unwrap_or_default();
        let human = || {
            format!(
                "Member {} is alone in the new group {cluster}, with everything through entry {}.\n\
                 Its old directory is {}: keep it until you are sure.\n\n\
                 Start it:         kontiki serve --id {} --data {} --listen HOST:PORT\n\
                 Then add others,\n\
                 each in an empty\n\
                 directory:        kontiki serve --id ID --data DIR --listen HOST:PORT --join HOST:PORT\n",
                self.id,
                recovered.last(),
                kept.display(),
                self.id,
                directory.display(),
            )
        };
        let last = recovered.last();
        let json = || {
            json!({
                "id": self.id.get(),
                "cluster": cluster.to_string(),
                "incarnation": new.incarnation.to_string(),
                "last": { "index": last.index.get(), "term": last.term.get() },
                "kept": kept.display().to_string(),
            })
        };
        format.print(human, json);
        Ok(Exit::Done)
    }
}

impl Plan {
    /// Reads the old directory, and changes nothing.
    fn make(directory: &Path, id: NodeId) -> Result<Self, Failure> {
        // Opening would create a missing directory.
        let directory = directory.canonicalize().map_err(|error| failed("use", directory, error))?;
        let old = identity::load(&directory, id).map_err(refused)?;
        let old = old.ok_or_else(|| refused(format!("there is no member in {}", directory.display())))?;
        let Some(old_identity) = old.identity() else {
            return Err(refused("the member has never had a group: there is nothing to recover"));
        };
        let mut held = FileDisk::open(&directory).map_err(refused)?;
        let empty = Durable::default();
        let recovery = Wal::recover(&mut held, old_identity, ALL, &empty).map_err(refused)?;
        let found = recovery.durable;
        let cluster = ClusterId(random()?);
        let member = Member::new(id, Incarnation(random()?));
        let recovered = force_new_cluster(found.clone(), old_identity, Identity::new(cluster, member));
        let recovered = recovered.map_err(refused)?;
        let new = Record {
            incarnation: member.incarnation,
            cluster: Some(cluster),
            founders: Vec::new(),
            joining: None,
            ..old.clone()
        };
        Ok(Self { directory, old, new, found, recovered, _held: held })
    }

    /// Asks for confirmation.
    fn confirm(&self) -> Result<(), Failure> {
        let Self { old, found, directory, .. } = self;
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "no terminal to ask for confirmation: pass --yes-i-lose-what-others-had to confirm",
            ));
        }
        note(&format!(
            "DANGER. This makes a new group of member {} alone, from {}.\n\n\
             It has entries through {}, of which it knew those through {} to be committed.\n\
             Whatever else group {} has acknowledged to its clients IS LOST.\n\
             The other members of that group must never run again.\n",
            old.id,
            directory.display(),
            found.last(),
            found.committed,
            old.cluster.unwrap_or_default(),
        ));
        note(&format!("Type {CONFIRMATION:?} to go on:"));
        let mut typed = String::new();
        let read = io::stdin().read_line(&mut typed);
        match read {
            Ok(_) if typed.trim() == CONFIRMATION => Ok(()),
            _ => Err(refused("nothing was done")),
        }
    }

    /// Makes the new directory, and puts it in place of the old one; returns where the old one is kept.
    fn carry_out(&self) -> Result<PathBuf, Failure> {
        let Self { directory, new, .. } = self;
        let tag = new.cluster.unwrap_or_default();
        let made = beside(directory, &format!("new-{tag}"));
        let kept = beside(directory, &format!("before-{tag}"));
        if let Err(failure) = self.fill(&made) {
            // The old one is unchanged.
            let _ = fs::remove_dir_all(&made);
            return Err(failure);
        }
        fs::rename(directory, &kept).map_err(|error| failed("rename", directory, error))?;
        fs::rename(&made, directory).map_err(|error| failed("rename", &made, error))?;
        let parent = directory.parent().unwrap_or(Path::new("/"));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| failed("sync", parent, error))?;
        Ok(kept)
    }

    fn fill(&self, made: &Path) -> Result<(), Failure> {
        let Self { new, recovered, .. } = self;
        let mut disk = FileDisk::open(made).map_err(refused)?;
        // Before the log, which looks for the snapshot that it builds on.
        let snapshot = recovered.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        if snapshot.index > Index::ZERO {
            let (term, index) = (snapshot.term.get(), snapshot.index.get());
            let name = FileName::Snapshot { term, index }.to_string();
            let (from, to) = (self.directory.join(&name), made.join(&name));
            let copied = fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all());
            copied.map_err(|error| failed("copy", &from, error))?;
        }
        identity::store(new, made).map_err(refused)?;
        let identity = new.identity().ok_or_else(|| refused("the new group has no name"))?;
        let opened = Wal::open(&mut disk, identity, ALL, recovered).map_err(refused)?;
        // Verify what was written before it replaces anything.
        drop(opened);
        let again = Wal::recover(&mut disk, identity, ALL, &Durable::default()).map_err(refused)?;
        match again.durable.last() == recovered.last() && !again.durable.snapshot_lost {
            true => Ok(()),
            false => {
                Err(refused("what was written is not what is on the disk: the old directory is untouched"))
            }
        }
    }
}

/// The whole log is read, whatever memory it takes.
const ALL: WalOptions = WalOptions { segment_bytes: 64 << 20, cached_bytes: u64::MAX };

const CONFIRMATION: &str = "lose what the others had";

fn beside(directory: &Path, what: &str) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    directory.with_file_name(name)
}

fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| refused(format!("the system gives no random numbers: {error}")))
}

fn refused(why: impl Display) -> Failure {
    Failure::new(Exit::Not, "not_recovered", why)
}

fn failed(what: &str, path: &Path, error: impl Display) -> Failure {
    refused(format!("cannot {what} {}: {error}", path.display()))
}
