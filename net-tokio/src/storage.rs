//! The disk threads: one for the logs, one for large data such as snapshots.
//!
//! A driver never waits for a disk. It hands jobs to these threads, which report the outcome. While one batch
//! is written and synced, further proposals queue in the driver's log and form the next batch: group commit,
//! without a timer. All groups of a host share the two threads.

use crate::disk::FileDisk;
use crate::metrics::Metrics;
use kontiki_core::replica::{JobId, Lane, perform};
use kontiki_core::wal::{DiskError, Operation};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;
use std::{io, thread};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// The threads. They end when the last handle is dropped and their jobs are done.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    log: mpsc::Sender<Task>,
    bulk: mpsc::Sender<Task>,
    /// The number of jobs handed out and not finished.
    unfinished: Arc<AtomicUsize>,
}

/// One directory, opened once for each lane.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    log: Arc<Mutex<FileDisk>>,
    bulk: Arc<Mutex<FileDisk>>,
}

/// A message to a thread.
#[derive(Debug)]
enum Task {
    Work(Work),
    /// Reports that all earlier jobs are done.
    Barrier(oneshot::Sender<()>),
}

/// A job, and the receiver of its outcome.
#[derive(Debug)]
struct Work {
    disk: Arc<Mutex<FileDisk>>,
    operations: Vec<Operation>,
    job: JobId,
    done: UnboundedSender<Done>,
    metrics: Metrics,
    unfinished: Arc<AtomicUsize>,
}

/// The outcome of a job: the results of its reads, or its error.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) job: JobId,
    pub(crate) result: Result<Vec<Vec<u8>>, DiskError>,
}

impl Directory {
    pub(crate) fn new(disk: FileDisk) -> Self {
        let bulk = Arc::new(Mutex::new(disk.for_another_lane()));
        Self { log: Arc::new(Mutex::new(disk)), bulk }
    }
}

impl Storage {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let lane = |lane: &str| {
            let (tasks, queue) = mpsc::channel();
            let work = move || queue.into_iter().for_each(Task::run);
            thread::Builder::new().name(format!("{name} {lane}")).spawn(work)?;
            Ok::<_, io::Error>(tasks)
        };
        Ok(Self { log: lane("log")?, bulk: lane("bulk")?, unfinished: Arc::default() })
    }

    /// Returns whether a job is unfinished.
    pub(crate) fn is_busy(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) > 0
    }

    /// Queues a job behind all earlier jobs of this lane.
    pub(crate) fn hand(
        &self,
        directory: &Directory,
        lane: Lane,
        operations: Vec<Operation>,
        job: JobId,
        (done, metrics): (&UnboundedSender<Done>, &Metrics),
    ) {
        let (tasks, disk) = match lane {
            Lane::Log => (&self.log, &directory.log),
            Lane::Bulk => (&self.bulk, &directory.bulk),
        };
        let (disk, done, metrics) = (Arc::clone(disk), done.clone(), metrics.clone());
        let unfinished = Arc::clone(&self.unfinished);
        unfinished.fetch_add(1, Ordering::Relaxed);
        let work = Work { disk, operations, job, done, metrics, unfinished };
        // A thread that has ended has panicked. To its members that is a failed disk.
        if let Err(mpsc::SendError(Task::Work(work))) = tasks.send(Task::Work(work)) {
            let result = Err(DiskError::Failed("the disk thread has ended".to_owned()));
            work.unfinished.fetch_sub(1, Ordering::Relaxed);
            // A driver that has ended needs no answer.
            let _ = work.done.send(Done { job: work.job, result });
        }
    }

    /// Waits until all earlier jobs are done.
    pub(crate) async fn settle(&self) {
        for tasks in [&self.log, &self.bulk] {
            let (barrier, reached) = oneshot::channel();
            if tasks.send(Task::Barrier(barrier)).is_ok() {
                // A thread that has ended has no jobs left.
                let _ = reached.await;
            }
        }
    }
}

impl Task {
    fn run(self) {
        match self {
            Self::Work(work) => work.run(),
            Self::Barrier(reached) => drop(reached.send(())),
        }
    }
}

impl Work {
    fn run(self) {
        let Self { disk, operations, job, done, metrics, unfinished } = self;
        let began = Instant::now();
        let result = perform(&operations, &mut *disk.lock().unwrap_or_else(PoisonError::into_inner));
        if operations.iter().any(|operation| matches!(operation, Operation::Sync(_))) {
            metrics.synced(began.elapsed());
        }
        // Count the job before reporting it: the receiver may want to open the directory itself.
        drop(disk);
        unfinished.fetch_sub(1, Ordering::Relaxed);
        // A driver that has ended needs no answer.
        let _ = done.send(Done { job, result });
    }
}
