//! Faults in the terms of users: they befall members, begin again after a restart, are told, and are left out
//! where they do not matter.

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::{LogId, NodeId};
use kontiki_sim::scenario::{Fault, Profile, Target, TimedCustomFault, TimedFault};
use kontiki_sim::stream::Stream;
use kontiki_sim::test::{CustomFault, FailedSeed, Test, TestError, Workload};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Counts what it was told, and mirrors it to a store outside. One that asks the store first does not count
/// what the store does not take.
#[derive(Clone, Debug)]
struct Mirrored {
    count: u64,
    asks_first: bool,
    is_down: Cell<bool>,
}

impl Mirrored {
    fn new(asks_first: bool) -> Self {
        Self { count: 0, asks_first, is_down: Cell::new(false) }
    }
}

impl StateMachine for Mirrored {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, _command: &[u8]) -> Vec<u8> {
        if !(self.asks_first && self.is_down.get()) {
            self.count += 1;
        }
        Vec::new()
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        self.count.to_le_bytes().to_vec()
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new([&self.count.to_le_bytes()[..], &[self.asks_first.into()]].concat())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let (count, rest) = bytes.split_first_chunk().ok_or_else(|| BadSnapshot::new("no count"))?;
            Ok(Self { count: u64::from_le_bytes(*count), ..Self::new(rest == [1]) })
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.count.to_le_bytes()])
    }
}

/// One command after another.
#[derive(Clone)]
struct Commands;

impl Workload for Commands {
    fn command(&mut self, _client: u64, _stream: &mut Stream) -> Vec<u8> {
        b"count".to_vec()
    }
}

/// The store outside takes nothing.
struct StoreFails;

impl CustomFault<Mirrored> for StoreFails {
    fn begin(&mut self, _member: NodeId, state: Option<&Mirrored>) -> Vec<Fault> {
        state.inspect(|state| state.is_down.set(true));
        Vec::new()
    }

    fn end(&mut self, _member: NodeId, state: Option<&Mirrored>) {
        state.inspect(|state| state.is_down.set(false));
    }
}

fn mirrored(asks_first: bool) -> Test<Mirrored, Commands> {
    let test = Test::new(Mirrored::new(asks_first)).workload(Commands);
    test.fault("its store fails", || StoreFails).profile(Profile::Calm).seeds(0..30)
}

fn failed(test: &Test<Mirrored, Commands>) -> FailedSeed {
    match test.run() {
        Err(TestError::Failed(failed)) => *failed,
        other => panic!("it should fail: {other:?}"),
    }
}

#[test]
fn a_machine_that_depends_on_what_fails_at_one_member_is_found_and_told() {
    let found = failed(&mirrored(true));
    assert_eq!(found.failure.property, "Deterministic State Machine", "{found}");
    let [fault] = &found.scenario.custom_faults[..] else { panic!("one fault is enough: {found}") };
    assert_eq!(fault.name, "its store fails");
    assert!(found.to_string().contains(": its store fails, for "), "{found}");
    assert_eq!(mirrored(false).run(), Ok(30));
}

#[test]
fn a_fault_that_does_not_matter_is_left_out() {
    let found = failed(&mirrored(false).invariant("it counts to five", |state| state.count < 5));
    assert_eq!(found.scenario.custom_faults, [], "{found}");
}

#[test]
fn a_fault_changes_nothing_else_of_a_seed() {
    for seed in 0..20 {
        let plain = Test::new(Mirrored::new(false)).workload(Commands).profile(Profile::Calm).scenario(seed);
        let mut with_fault = mirrored(false).scenario(seed);
        with_fault.custom_faults.clear();
        assert_eq!(with_fault, plain);
    }
}

/// Which members a fault lasts at, and how often it began there, ended, and began again.
#[derive(Clone, Default)]
struct Counted(Rc<RefCell<(BTreeSet<NodeId>, [u64; 3])>>);

impl CustomFault<Mirrored> for Counted {
    fn begin(&mut self, member: NodeId, _state: Option<&Mirrored>) -> Vec<Fault> {
        let (lasting, [begun, _, again]) = &mut *self.0.borrow_mut();
        if lasting.insert(member) {
            *begun += 1;
            vec![Fault::DiskStall { member: Target::Member(member) }]
        } else {
            *again += 1;
            Vec::new()
        }
    }

    fn end(&mut self, member: NodeId, _state: Option<&Mirrored>) {
        let (lasting, [_, ended, _]) = &mut *self.0.borrow_mut();
        lasting.remove(&member);
        *ended += 1;
    }
}

#[test]
fn a_fault_brings_others_with_it_begins_again_after_a_restart_and_ends() {
    let counted = Counted::default();
    let given = counted.clone();
    let name = "it is counted";
    let test = Test::new(Mirrored::new(false)).workload(Commands).profile(Profile::Calm);
    let test = test.fault(name, move || given.clone());
    let member = Target::Member(NodeId::new(1).expect("not zero"));
    let mut scenario = test.scenario(0);
    let lasting = TimedCustomFault { at_us: 100_000, for_us: 300_000, member, name: name.to_owned() };
    let crash = Fault::Crash { member, after_actions: 0 };
    scenario.custom_faults = vec![lasting];
    scenario.faults = vec![TimedFault { at_us: 200_000, for_us: 20_000, fault: crash }];
    scenario.chaos_us = 500_000;
    let report = test.play(&scenario).expect("it can be run");
    assert_eq!(report.failure, None);
    let (lasting, begun_ended_again) = &*counted.0.borrow();
    assert!(lasting.is_empty());
    assert_eq!(*begun_ended_again, [1, 1, 1]);
    assert_eq!(report.counters.faults()["disk_stall"], 1);
}

#[test]
fn a_fault_that_the_test_does_not_have_is_refused() {
    let test = mirrored(false);
    let seed =
        (0..30).find(|seed| !test.scenario(*seed).custom_faults.is_empty()).expect("some seed has one");
    let mut scenario = test.scenario(seed);
    scenario.custom_faults[0].name = "its store burns".to_owned();
    let refused = test.play(&scenario).expect_err("there is no such fault").to_string();
    assert!(refused.contains("no fault is called \"its store burns\" here"), "{refused}");
}
