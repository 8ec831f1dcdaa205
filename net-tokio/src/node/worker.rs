//! The thread of a state machine: a slow one delays answers, and never elections.

use kontiki_core::machine::{Limits, Machine, StateMachine};
use kontiki_core::replica::{MachineDone, MachineJob, Worker};
use std::sync::{Arc, mpsc};
use std::{fmt, io, thread};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Where jobs for the state machine go.
#[derive(Debug)]
pub(crate) struct Work(mpsc::Sender<MachineJob>);

impl Work {
    pub(crate) fn hand(&self, job: MachineJob) {
        // A state machine that has panicked ends its member, which notices by the results that do not come.
        let _ = self.0.send(job);
    }
}

/// Starts a state machine's thread, as often as its node is started: whatever kind it is.
#[derive(Clone)]
pub(crate) struct Start(Arc<Starter>);

type Starter = dyn Fn(Limits) -> io::Result<(Work, UnboundedReceiver<MachineDone>)> + Send + Sync;

impl Start {
    pub(crate) fn of<S: StateMachine>(machine: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let machine = Arc::new(machine);
        Self(Arc::new(move |limits| {
            let (jobs, queue) = mpsc::channel();
            let (done, results) = unbounded_channel();
            let machine = Arc::clone(&machine);
            // The machine is made on its thread: it need not be one that can be sent to another.
            let live = move || {
                if let Ok(machine) = Machine::with_limits(machine(), limits) {
                    work(&mut Worker::new(machine), &queue, &done);
                }
            };
            thread::Builder::new().name("state machine".to_owned()).spawn(live)?;
            Ok((Work(jobs), results))
        }))
    }

    /// Limits that leave no room for anything end the thread at once: [`Limits::check`] them before.
    pub(crate) fn start(&self, limits: Limits) -> io::Result<(Work, UnboundedReceiver<MachineDone>)> {
        (self.0)(limits)
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

fn work<S: StateMachine>(
    worker: &mut Worker<S>,
    queue: &mpsc::Receiver<MachineJob>,
    done: &UnboundedSender<MachineDone>,
) {
    while let Ok(job) = queue.recv() {
        if worker.run(job).is_some_and(|result| done.send(result).is_err()) {
            return;
        }
    }
}
