//! What no host does on purpose: frames out of nothing, and answers of the disk in unlucky orders.

use crate::config::{self, Config};
use crate::durable::Durable;
use crate::message::{Body, Message};
use crate::replica::frame::{self, Envelope, ReplicaBody, ReplicaMessage};
use crate::replica::tests::group::{Group, node, small};
use crate::replica::{
    Answer, Ask, DiskJob, Halt, Input, Lane, MachineDone, MachineJob, Output, Replica, ReplicaOpenError,
    ReplicaOptionsError,
};
use crate::time::Instant;
use crate::types::{ClusterId, Identity, LogId, Member};
use crate::wal::{Damage, DiskError, FileName, MemoryDisk, Operation, Wal};
use crate::wire;
use alloc::vec::Vec;

/// A member of three that has just started from a snapshot, its disk, and which snapshot it is.
fn started() -> (Replica, MemoryDisk, LogId) {
    let options = config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &options, &small());
    let leader = group.elect();
    group.fill(leader, 0..30, 50);
    group.converge();
    let Answer::Snapshot(last) = group.asked(1, Ask::Snapshot) else { panic!("no snapshot") };
    group.run(500);
    let host = group.host(1);
    let identity = Identity::new(ClusterId(7), host.member);
    let recovery = Wal::open(&mut host.disk, identity, host.wal, &Default::default()).unwrap();
    assert_eq!(recovery.durable.snapshot.as_ref().map(|snapshot| snapshot.last), Some(last));
    let config = Config::new(identity, host.config.clone()).unwrap();
    let replica = Replica::open(config, small(), recovery, Instant::ZERO).unwrap();
    (replica, host.disk.clone(), last)
}

fn handle(replica: &mut Replica, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    replica.handle(Instant::ZERO, input, &mut out);
    out
}

/// A replica's disk and state machine report. A kernel that takes each write for durable at once would
/// promise what a crash takes back.
#[test]
fn a_replica_whose_kernel_waits_for_no_report_is_not_opened() {
    let open = |options| {
        let me = Identity::new(ClusterId(7), node(1));
        let recovery =
            Wal::open(&mut MemoryDisk::default(), me, Default::default(), &Durable::default()).unwrap();
        Replica::open(Config::new(me, options).unwrap(), small(), recovery, Instant::ZERO).map(drop)
    };
    let defaults = config::Options::default();
    let writes = config::Options { synchronous_writes: true, ..defaults.clone() };
    let applies = config::Options { synchronous_apply: true, ..defaults.clone() };
    let refused = Err(ReplicaOpenError::Options(ReplicaOptionsError::Synchronous));
    assert_eq!([defaults, writes, applies].map(open), [Ok(()), refused, refused]);
}

/// A frame of member 2 to member 1.
fn frame(body: ReplicaBody) -> Input {
    let [from, to] = [2, 1].map(|id| Member::from(node(id)));
    let message = ReplicaMessage { cluster: ClusterId(7), from, to, body };
    let mut bytes = Vec::new();
    assert!(frame::encode(&Envelope::Replica(message), wire::VERSION, wire::VERSION, &mut bytes));
    Input::Frame { bytes }
}

/// The jobs among these that read this file.
fn reads(outputs: &[Output], file: FileName) -> Vec<DiskJob> {
    let reads = |job: &&DiskJob| {
        job.operations
            .iter()
            .any(|operation| matches!(operation, Operation::Read { file: read, .. } if *read == file))
    };
    let jobs = outputs.iter().filter_map(|output| match output {
        Output::Disk(job) => Some(job),
        _ => None,
    });
    jobs.filter(reads).cloned().collect()
}

fn file(last: LogId) -> FileName {
    FileName::Snapshot { term: last.term.get(), index: last.index.get() }
}

/// A real disk fails where it is read far beyond the end of a file, and a member whose disk fails stops.
#[test]
fn no_piece_is_read_that_a_snapshot_does_not_have() {
    let (mut replica, mut disk, last) = started();
    let length = disk.files[&file(last)].len() as u64;
    let mut outputs = Vec::new();
    for piece in [u64::MAX, 1 << 40] {
        outputs
            .extend(handle(&mut replica, frame(ReplicaBody::SnapshotRequest { last, edition: None, piece })));
    }
    let mut seen = 0;
    while let Some(job) = reads(&outputs, file(last)).first() {
        let Operation::Read { at, .. } = job.operations[0] else { panic!("{job:?}") };
        assert!(at < length, "a read at {at} of a file of {length} bytes");
        seen += 1;
        outputs = handle(&mut replica, job.run(&mut disk));
    }
    assert!(seen > 0, "at least its header was read");
}

/// While it is restored from a snapshot, another member that fetches the same one comes upon damage in it
/// first.
#[test]
fn a_restoration_does_not_wait_for_a_file_that_is_given_up() {
    let (mut replica, mut disk, last) = started();
    let mut outputs = handle(&mut replica, Input::Wake);
    let task = loop {
        let feeds = outputs.iter().find_map(|output| match output {
            Output::Machine(MachineJob::Feed { task, .. }) => Some(*task),
            _ => None,
        });
        if let Some(task) = feeds {
            break task;
        }
        let job = reads(&outputs, file(last)).remove(0);
        outputs = handle(&mut replica, job.run(&mut disk));
    };
    let asked = handle(&mut replica, frame(ReplicaBody::SnapshotRequest { last, edition: None, piece: 2 }));
    let sent = reads(&asked, file(last)).remove(0);
    let fed = handle(&mut replica, Input::Machine(MachineDone::Fed { task, result: Ok(()) }));
    let restored = reads(&fed, file(last)).remove(0);
    let Operation::Read { at, .. } = sent.operations[0] else { panic!("{sent:?}") };
    disk.files.get_mut(&file(last)).unwrap()[at as usize + 9] ^= 1;
    handle(&mut replica, sent.run(&mut disk));
    let outputs = handle(&mut replica, restored.run(&mut disk));
    assert!(
        outputs.contains(&Output::Halt(Halt::Damaged(Damage(file(last))))),
        "it is to be started again, and to get another: {outputs:?}"
    );
}

/// A member that has lost a snapshot asks for one with each heartbeat, however long it takes to take.
#[test]
fn one_snapshot_is_enough_for_a_member_that_asks_many_times() {
    let options = config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &options, &small());
    let leader = group.elect();
    let victim = 1 + leader % 3;
    group.fill(leader, 0..20, 50);
    group.converge();
    let Answer::Snapshot(last) = group.asked(victim, Ask::Snapshot) else { panic!("no snapshot") };
    group.run(200);
    group.crash(victim);
    let bytes = group.host(victim).disk.files.get_mut(&file(last)).unwrap();
    let middle = bytes.len() - 200;
    bytes[middle] ^= 1;
    group.host(leader).lane_stands = Some(Lane::Bulk);
    group.start(victim);
    group.run(1_000);
    group.host(leader).lane_stands = None;
    group.converge();
    group.run(1_000);
    assert_eq!(group.replica(leader).counters().snapshots_taken, 1);
}

/// After a sync that failed, what was written may be read back and be nowhere: no later sync makes it
/// durable.
#[test]
fn what_an_earlier_life_has_fetched_is_written_again_before_it_counts() {
    let options = config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(1, &options, &small());
    let leader = group.elect();
    group.fill(leader, 0..30, 50);
    let Answer::Snapshot(last) = group.asked(leader, Ask::Snapshot) else { panic!("no snapshot") };
    // All of it has come, and then its sync failed.
    let partial = FileName::Partial { term: last.term.get(), index: last.index.get() };
    let fetched = group.host(leader).disk.files[&file(last)].clone();
    let snapshot = group.replica(leader).raft().log().snapshot().unwrap().clone();
    let mut disk = MemoryDisk::default();
    disk.files.insert(partial, fetched.clone());
    let me = Identity::new(ClusterId(7), node(2));
    let recovery = Wal::open(&mut disk, me, Default::default(), &Durable::default()).unwrap();
    let mut replica =
        Replica::open(Config::new(me, options).unwrap(), small(), recovery, Instant::ZERO).unwrap();
    let from = Identity::new(ClusterId(7), node(1));
    let message = Message::new(from, me.member, last.term, Body::OfferSnapshot { snapshot });
    let mut bytes = Vec::new();
    assert!(frame::encode(&Envelope::Raft(message), wire::VERSION, wire::VERSION, &mut bytes));

    let mut written = alloc::vec![false; fetched.len()];
    let mut outputs = handle(&mut replica, Input::Frame { bytes });
    while !outputs.is_empty() {
        let mut next = Vec::new();
        for output in outputs {
            let Output::Disk(job) = output else { continue };
            for operation in &job.operations {
                match operation {
                    Operation::Write { file, at, bytes } if *file == partial => {
                        written[*at as usize..][..bytes.len()].fill(true);
                    }
                    Operation::Sync(file) if *file == partial => {
                        assert!(written.iter().all(|&is| is), "some of it is only what was read back");
                    }
                    _ => {}
                }
            }
            next.extend(handle(&mut replica, job.run(&mut disk)));
        }
        outputs = next;
    }
    assert_eq!(disk.files.get(&file(last)), Some(&fetched), "nothing had to be fetched");
}

/// The leader offers it again with each heartbeat; but what is sent to a full disk is sent in vain.
#[test]
fn a_snapshot_that_finds_no_space_is_not_fetched_again_at_once() {
    let options = config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &options, &small());
    let leader = group.elect();
    group.fill(leader, 0..30, 50);
    group.converge();
    assert!(matches!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(_)));
    group.run(500);
    group.join(4);
    group.host(4).disk_error = Some((Lane::Bulk, DiskError::Full));
    group.add_voter(4);
    group.run(4_500);
    let failed = group.replica(4).counters().snapshots_failed;
    assert!((4..=6).contains(&failed), "tried {failed} times");
    assert_eq!(group.host(4).halted, None);
    group.host(4).disk_error = None;
    group.converge();
    assert_eq!(group.replica(4).counters().snapshots_fetched, 1);
}
