//! A file system for each member, in a file. While one is frozen, no write to it is synced.

use crate::Result;
use crate::cluster::MEMBERS;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File systems of a cluster's members. They are thawed and unmounted in the end.
pub(crate) struct Disks {
    mounts: Vec<PathBuf>,
}

impl Disks {
    /// Makes them below a directory, each of so many bytes at most.
    pub(crate) fn new(directory: &Path, bytes: u64) -> Result<Self> {
        let mut disks = Self { mounts: Vec::new() };
        for number in 0..MEMBERS {
            let image = directory.join(format!("disk-{number}.img"));
            File::create(&image)?.set_len(bytes)?;
            run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image])?;
            let mount = directory.join(format!("disk-{number}"));
            std::fs::create_dir(&mount)?;
            run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mount])?;
            disks.mounts.push(mount);
        }
        Ok(disks)
    }

    pub(crate) fn directories(&self) -> [PathBuf; MEMBERS] {
        self.mounts.clone().try_into().expect("one for each member")
    }

    /// Nothing is written any more until it thaws.
    pub(crate) fn freeze(&self, member: usize) -> Result {
        run("fsfreeze", &["--freeze".as_ref(), &self.mounts[member]])
    }

    pub(crate) fn thaw(&self, member: usize) -> Result {
        run("fsfreeze", &["--unfreeze".as_ref(), &self.mounts[member]])
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for member in 0..self.mounts.len() {
            // One that is not frozen cannot be thawed.
            let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.mounts[member]).output();
            if let Err(error) = run("umount", &[&self.mounts[member]]) {
                eprintln!("{error}");
            }
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments:?} failed; file systems of their own need root: {}", said.trim())
        .into())
}
