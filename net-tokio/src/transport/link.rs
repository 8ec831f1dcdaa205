//! The queue of frames for one member in one lane.

use crate::sync::lock;
use crate::transport::counters::Dropped;
use crate::transport::options::TransportOptions;
use kontiki_core::types::ClusterId;
use kontiki_core::wire::HEADER;
use std::mem;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The link to one member in one lane: the queue, and the task that sends it.
#[derive(Default, Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    /// There is something to write.
    pub(super) wake: Notify,
    /// Dial now.
    pub(super) kick: Notify,
}

#[derive(Default, Debug)]
struct State {
    /// The queued frames, encoded.
    waiting: Vec<u8>,
    frames: u64,
    /// The bytes and frames being written.
    writing: (usize, u64),
    connected: bool,
    /// Send a new introduction.
    hello: bool,
    /// Failed dials since the last success.
    failures: u32,
    /// When a failure was last logged.
    logged: Option<Instant>,
    task: Option<AbortHandle>,
}

/// The result of queueing a frame.
pub(super) enum Pushed {
    Queued,
    /// It is queued, and no task is running to send it.
    Asleep,
    Dropped(Dropped),
}

impl Link {
    pub(super) fn push(
        &self,
        is_blocked: impl Fn() -> bool,
        group: ClusterId,
        frame: &[u8],
        options: &TransportOptions,
    ) -> Pushed {
        if frame.len() > options.max_body + HEADER {
            return Pushed::Dropped(Dropped::TooLong);
        }
        let mut state = lock(&self.state);
        if is_blocked() {
            return Pushed::Dropped(Dropped::Blocked);
        }
        let running = state.is_running();
        // A frame queued for an unreachable member would be stale when the member can be reached.
        if running && !state.connected && state.failures > 0 {
            return Pushed::Dropped(Dropped::Unreachable);
        }
        let bytes = state.waiting.len() + state.writing.0 + size_of::<ClusterId>() + frame.len();
        if bytes > options.queue_bytes || state.frames >= options.queue_frames as u64 {
            return Pushed::Dropped(Dropped::QueueFull);
        }
        state.waiting.extend_from_slice(&group.0.to_le_bytes());
        state.waiting.extend_from_slice(frame);
        state.frames += 1;
        drop(state);
        if !running {
            return Pushed::Asleep;
        }
        self.wake.notify_one();
        Pushed::Queued
    }

    /// Starts the task, unless it is running or sending is disabled.
    pub(super) fn run(&self, is_blocked: impl Fn() -> bool, begin: impl FnOnce() -> Option<AbortHandle>) {
        let mut state = lock(&self.state);
        if !state.is_running() && !is_blocked() {
            state.connected = false;
            state.task = begin();
        }
    }

    /// Ends the task; returns the number of frames lost.
    pub(super) fn stop(&self) -> u64 {
        let mut state = lock(&self.state);
        if let Some(task) = mem::take(&mut state.task) {
            task.abort();
        }
        let ended = mem::take(&mut *state);
        ended.frames + ended.writing.1
    }

    /// Introduces this member again: on the connection, or by dialling at once.
    pub(super) fn rehello(&self) {
        lock(&self.state).hello = true;
        self.wake.notify_one();
        self.kick();
    }

    /// There is a sign that the peer can be reached.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    pub(super) fn is_connected(&self) -> bool {
        let state = lock(&self.state);
        state.connected && state.is_running()
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.state).is_running()
    }

    /// Swaps the queued bytes for the written buffer, which is empty. Returns the number of frames, and
    /// whether to send an introduction first.
    pub(super) fn take(&self, written: &mut Vec<u8>) -> (u64, bool) {
        let mut state = lock(&self.state);
        mem::swap(&mut state.waiting, written);
        let frames = mem::take(&mut state.frames);
        state.writing = (written.len(), frames);
        (frames, mem::take(&mut state.hello))
    }

    /// The introduction sent from here on is current.
    pub(super) fn introducing(&self) {
        lock(&self.state).hello = false;
    }

    pub(super) fn connected(&self) {
        lock(&self.state).connected = true;
    }

    /// The connection broke, or could not be made. Returns the number of failures in a row and of frames
    /// lost. Queued frames are kept if the peer can perhaps be reached at once.
    pub(super) fn failed(&self, worked: bool) -> (u32, u64) {
        let mut state = lock(&self.state);
        let mut lost = mem::take(&mut state.writing).1;
        state.connected = false;
        state.failures = if worked { 0 } else { state.failures.saturating_add(1) };
        if !worked {
            state.waiting = Vec::new();
            lost += mem::take(&mut state.frames);
        }
        (state.failures, lost)
    }

    /// Returns whether it is time to log again.
    pub(super) fn is_news(&self, interval: Duration) -> bool {
        let mut state = lock(&self.state);
        let is_news = state.logged.is_none_or(|when| when.elapsed() >= interval);
        if is_news {
            state.logged = Some(Instant::now());
        }
        is_news
    }

    /// Ends the task if the queue is empty: the next frame starts another.
    pub(super) fn rest(&self) -> bool {
        let mut state = lock(&self.state);
        let rests = state.frames == 0;
        if rests {
            (state.task, state.connected) = (None, false);
        }
        rests
    }
}

impl State {
    fn is_running(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }
}
