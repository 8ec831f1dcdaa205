//! `recovery`: how long a member takes to recover its log from a real disk, and in how much memory.
//!
//! It writes a log of the given size into a directory, compacts it so that the given part lies after the last
//! snapshot, and then recovers it in a process of its own, whose largest size it reports. `cargo run
//! --release -p kontiki-tests --bin recovery -- --gigabytes 10 --after 1`

use clap::Parser;
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entries, Entry, EntryBody, Rebase, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, Term, WriteSeq};
use kontiki_core::wal::{Operation, SnapshotWriter, Wal, WalOptions};
use kontiki_net_tokio::disk::FileDisk;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// Writes a log, and measures how it is recovered
#[derive(Parser, Debug)]
struct Cli {
    /// How much is written in all
    #[arg(long, default_value_t = 1)]
    gigabytes: u64,
    /// How much of it lies after the last snapshot, in gigabytes
    #[arg(long, default_value_t = 1)]
    after: u64,
    /// Where; a directory of its own is made in it, and removed again
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Only recover what is in this directory
    #[arg(long, hide = true)]
    recover: Option<PathBuf>,
}

/// The payload of an entry, and how many make a write.
const PAYLOAD: usize = 4_000;
const BATCH: u64 = 256;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    if let Some(directory) = &cli.recover {
        return recover(directory);
    }
    let directory = cli.directory.join(format!("kontiki-recovery-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let measured = write(&directory, cli.gigabytes, cli.after).and_then(|()| {
        let mut child = Command::new(std::env::current_exe()?);
        let done = child.arg("--recover").arg(&directory).status()?;
        done.success().then_some(()).ok_or_else(|| "the recovery failed".into())
    });
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn member() -> (Identity, Durable, WalOptions) {
    let me = NodeId::new(1).expect("not zero");
    let group = Membership::of([me]).expect("one member");
    (Identity::new(ClusterId(1), me), Durable::bootstrap(group), WalOptions::default())
}

fn write(directory: &Path, gigabytes: u64, after: u64) -> Result<(), Failure> {
    let (identity, begin, options) = member();
    let mut disk = FileDisk::open(directory)?;
    let mut wal = Wal::open(&mut disk, identity, options, &begin)?.wal;
    let began = Instant::now();
    let per_write = BATCH * PAYLOAD as u64;
    let writes = gigabytes * 1_000_000_000 / per_write;
    let kept = after * 1_000_000_000 / per_write;
    let (term, mut last, mut seq) = (Term::new(1), 0, WriteSeq::ZERO);
    let mut log = |wal: &mut Wal, disk: &mut FileDisk, rebase: Option<Rebase>, append: Entries, last: u64| {
        seq = WriteSeq::new(seq.get() + 1);
        wal.submit(Write {
            seq,
            ballot: Ballot::new(term, None),
            starts: 1,
            truncate_after: None,
            rebase: rebase.map(Box::new),
            repaired: Entries::EMPTY,
            append,
            committed: Index::new(last),
        });
        while !wal.is_idle() {
            if let Some(job) = wal.next_job() {
                perform(disk, &job)?;
                wal.completed();
            }
            while let Some(job) = wal.upkeep() {
                perform(disk, &job)?;
                wal.upkeep_done(Ok(()));
            }
        }
        Ok::<(), Failure>(())
    };
    for number in 0..writes {
        let first = last + 1;
        last += BATCH;
        let entry = |index| Entry {
            id: LogId { term, index: Index::new(index) },
            body: EntryBody::Data(Payload::from(&vec![index as u8; PAYLOAD][..])),
        };
        log(&mut wal, &mut disk, None, (first..=last).map(entry).collect(), last)?;
        if number + 1 == writes.saturating_sub(kept) {
            let base = LogId { term, index: Index::new(last) };
            let membership = Arc::new(Membership::of([identity.member]).expect("one member"));
            let snapshot = Snapshot { last: base, configured: LogId::ZERO, membership };
            let mut writer = SnapshotWriter::new(snapshot.clone(), 1 << 16);
            perform(&mut disk, &writer.push(b"the state"))?;
            perform(&mut disk, &writer.finish())?;
            log(&mut wal, &mut disk, Some(Rebase { snapshot, base }), Entries::EMPTY, last)?;
        }
    }
    let took = began.elapsed();
    println!("written: {gigabytes} GB in {last} entries, {after} GB after the last snapshot, {took:.1?}");
    Ok(())
}

fn perform(disk: &mut FileDisk, operations: &[Operation]) -> Result<(), Failure> {
    for operation in operations {
        operation.perform(disk)?;
    }
    Ok(())
}

fn recover(directory: &Path) -> Result<(), Failure> {
    let (identity, begin, options) = member();
    let mut disk = FileDisk::open(directory)?;
    let began = Instant::now();
    let recovery = Wal::recover(&mut disk, identity, options, &begin)?;
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or(" unknown").trim();
    let (last, base) = (recovery.durable.last(), recovery.durable.base);
    println!("recovered: the log from {base} to {last} in {took:.2?}, with at most {peak} of memory");
    Ok(())
}
