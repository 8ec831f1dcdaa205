//! What the operator of a cluster has to do, and what of it is asked. How it is done is in [`crate::world`].

use kontiki_core::time::Instant;
use kontiki_core::types::RequestId;
use std::collections::BTreeMap;

/// What the operator has to do, and what of it is asked at the moment.
#[derive(Default, Debug)]
pub(crate) struct Operator {
    pub(crate) tasks: Vec<Task>,
    /// How often each was turned to: timers of earlier turns are void.
    pub(crate) turns: Vec<u64>,
    pub(crate) waiting: BTreeMap<RequestId, usize>,
    /// Every request that was not answered, whether the operator still waits for it or not.
    pub(crate) open: BTreeMap<RequestId, Asked>,
    requests: u64,
}

/// A request that was not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) task: usize,
    /// Of whom, and in which of its lives.
    pub(crate) member: usize,
    pub(crate) life: u32,
    /// When it is answered at the latest, by the clock of that member, as long as that lives.
    pub(crate) until: Instant,
}

#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// One of the scenario's operations.
    Operation(usize),
    /// To remove a member that has lost its memory, and add it again as what it is now.
    Cure(usize),
}

/// The operator's requests are numbered from here on, the clients' from 1.
const FIRST: u64 = 1 << 62;

impl Operator {
    pub(crate) fn is_waiting_for(&self, request: RequestId) -> bool {
        self.open.contains_key(&request)
    }

    pub(crate) fn ask(&mut self, asked: Asked) -> RequestId {
        self.requests += 1;
        let request = RequestId(FIRST + self.requests);
        self.waiting.insert(request, asked.task);
        self.open.insert(request, asked);
        request
    }
}
