//! The state machine's thread: a slow state machine delays answers, but never elections.

use kontiki_core::machine::{Limits, Machine, StateMachine};
use kontiki_core::replica::{MachineDone, MachineJob, Worker};
use std::sync::{Arc, mpsc};
use std::{fmt, io, thread};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The queue of jobs for the state machine.
#[derive(Debug)]
pub(crate) struct Work(mpsc::Sender<MachineJob>);

impl Work {
    pub(crate) fn hand(&self, job: MachineJob) {
        // A state machine that has panicked ends its member, which notices that the results stop.
        let _ = self.0.send(job);
    }
}

/// Starts a state machine's thread at each start of its node, independent of the machine's type.
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
            // The machine is made on its own thread, so that it need not be `Send`.
            let live = move || {
                if let Ok(machine) = Machine::with_limits(machine(), limits) {
                    work(&mut Worker::new(machine), &queue, &done);
                }
            };
            thread::Builder::new().name("state machine".to_owned()).spawn(live)?;
            Ok((Work(jobs), results))
        }))
    }

    /// Starts the thread. Limits that leave no room end it at once: [`Limits::check`] them before.
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
