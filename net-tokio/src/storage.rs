//! The threads that work on disks: one for the logs, one for all that is large.
//!
//! A driver never waits for a disk. It hands its jobs to these threads and is told of the outcome. While one
//! batch is written and synced, whatever else is proposed queues in the driver's log and goes into the next:
//! group commit, without a timer. All groups of a host share the two threads.

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

/// The threads. They end when nobody has one of these any more, and their jobs are done.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    log: mpsc::Sender<Task>,
    bulk: mpsc::Sender<Task>,
    /// How many jobs were handed out and are not done.
    unfinished: Arc<AtomicUsize>,
}

/// One directory, as each lane has it open.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    log: Arc<Mutex<FileDisk>>,
    bulk: Arc<Mutex<FileDisk>>,
}

/// What a thread is given.
#[derive(Debug)]
enum Task {
    Work(Work),
    /// Everything before this is done.
    Barrier(oneshot::Sender<()>),
}

/// What is to be done, and who is told.
#[derive(Debug)]
struct Work {
    disk: Arc<Mutex<FileDisk>>,
    operations: Vec<Operation>,
    job: JobId,
    done: UnboundedSender<Done>,
    metrics: Metrics,
    unfinished: Arc<AtomicUsize>,
}

/// What came of a job: what its reads have read, or how it failed.
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

    /// Whether something that was handed out is not done.
    pub(crate) fn is_busy(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) > 0
    }

    /// Has this done, after all that this lane was given before.
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
        // A thread that is gone has panicked: to its members it is a disk that failed.
        if let Err(mpsc::SendError(Task::Work(work))) = tasks.send(Task::Work(work)) {
            let result = Err(DiskError::Failed("the thread that works on it has ended".to_owned()));
            work.unfinished.fetch_sub(1, Ordering::Relaxed);
            // Whoever is gone needs no answer.
            let _ = work.done.send(Done { job: work.job, result });
        }
    }

    /// Waits until everything is done that was handed out before.
    pub(crate) async fn settle(&self) {
        for tasks in [&self.log, &self.bulk] {
            let (barrier, reached) = oneshot::channel();
            if tasks.send(Task::Barrier(barrier)).is_ok() {
                // A thread that has ended is past everything.
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
        // Whoever hears that it is done may want the directory for itself.
        drop(disk);
        unfinished.fetch_sub(1, Ordering::Relaxed);
        // Whoever is gone needs no answer.
        let _ = done.send(Done { job, result });
    }
}
