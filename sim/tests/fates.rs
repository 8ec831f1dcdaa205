//! What becomes of each message, as the text trace, the JSON trace and the page of a run tell it.

use kontiki_core::event::Event;
use kontiki_core::types::NodeId;
use kontiki_sim::explain::{Diagram, Message, Watcher};
use kontiki_sim::report::Report;
use kontiki_sim::scenario::{Fault, Profile, Scenario, Target, TimedFault};
use kontiki_sim::trace::{Fate, Loss, Traced};
use serde_json::Value;

/// A run as it is told.
struct Told {
    lines: Vec<String>,
    json: Vec<Value>,
    diagram: Diagram,
    report: Report,
    /// How many steps received a message.
    received: usize,
}

impl Told {
    fn of(scenario: &Scenario) -> Self {
        let (mut lines, mut json, mut received) = (Vec::new(), Vec::new(), 0);
        let mut watcher = Watcher::new(scenario.ids());
        let report = kontiki_sim::run_traced(scenario, &mut |traced| {
            if !traced.is_routine() {
                lines.push(traced.line());
            }
            json.push(traced.json());
            received += usize::from(matches!(traced, Traced::Step { event: Event::Receive(_), .. }));
            watcher.note(traced);
        });
        let report = report.expect("it can be run");
        Self { lines, json, diagram: watcher.diagram(String::new(), None), report, received }
    }

    fn lines_with(&self, what: &str) -> usize {
        self.lines.iter().filter(|line| line.contains(" * ") && line.contains(what)).count()
    }

    fn fates(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.json.iter().filter(|one| one.get("fate").is_some_and(&is_it)).count()
    }

    fn messages(&self, is_it: impl Fn(&&Message) -> bool) -> Vec<&Message> {
        self.diagram.messages.iter().filter(is_it).collect()
    }

    fn counted(&self, fault: &str) -> usize {
        self.report.counters.faults()[fault] as usize
    }

    /// When a message was sent.
    fn sent_at(&self, message: &Message) -> u64 {
        self.diagram.events[message.sent.expect("it is sent in the run")].at
    }
}

/// Three members of a network that does no harm.
fn calm() -> Scenario {
    let mut scenario = Scenario::draw(1, 3, Profile::Calm);
    (scenario.chaos_us, scenario.until_us, scenario.faults) = (3_000_000, Some(2_800_000), Vec::new());
    scenario
}

fn member(number: u64) -> Target {
    Target::Member(NodeId::new(number).expect("not zero"))
}

fn faulty(for_us: u64, fault: Fault) -> Told {
    let mut scenario = calm();
    scenario.faults = vec![TimedFault { at_us: 1_000_000, for_us, fault }];
    Told::of(&scenario)
}

#[test]
fn nothing_is_said_of_messages_that_arrive_as_they_should() {
    let told = Told::of(&calm());
    assert!(told.received > 100);
    assert_eq!(told.lines_with("lost: ") + told.lines_with("duplicated") + told.lines_with("delayed"), 0);
    assert!(told.fates(|fate| fate["carried"]["arrives_ns"].as_array().map(Vec::len) == Some(1)) > 100);
    let odd = told.messages(|one| one.lost.is_some() || one.duplicated || one.delayed);
    assert_eq!(odd, Vec::<&Message>::new());
}

#[test]
fn a_dropped_message_is_told_as_dropped() {
    let mut scenario = calm();
    scenario.network.drop = 2_000;
    let told = Told::of(&scenario);
    let dropped = told.counted("drop");
    assert!(dropped > 20);
    assert_eq!(told.lines_with("lost: dropped by the network"), dropped);
    assert_eq!(told.fates(|fate| fate["lost"] == "dropped"), dropped);
    let lost = told.messages(|one| one.lost == Some(Loss::Dropped));
    assert_eq!(lost.len(), dropped);
    assert!(lost.iter().all(|one| one.arrived.is_empty() && !one.on_its_way));
}

#[test]
fn a_message_that_is_duplicated_is_told_as_such_and_is_received_twice() {
    let mut scenario = calm();
    scenario.network.duplicate = 2_000;
    let told = Told::of(&scenario);
    let duplicated = told.counted("duplicate");
    assert!(duplicated > 20);
    assert_eq!(told.lines_with(": duplicated, arrives at "), duplicated);
    assert_eq!(
        told.fates(|fate| fate["carried"]["arrives_ns"].as_array().map(Vec::len) == Some(2)),
        duplicated
    );
    let twice = told.messages(|one| one.duplicated);
    assert_eq!(twice.len(), duplicated);
    let received = twice.iter().filter(|one| one.arrived.len() == 2).count();
    let near_the_end = twice.iter().filter(|one| told.sent_at(one) > 2_700_000_000).count();
    assert!(received > 20 && received + near_the_end >= duplicated);
}

#[test]
fn what_a_cut_link_loses_is_told_as_such() {
    let told = faulty(800_000, Fault::Isolate { member: member(2) });
    let cut = told.counted("cut");
    assert!(cut > 20);
    assert_eq!(told.lines_with("lost: the link is cut"), cut);
    assert_eq!(told.fates(|fate| fate["lost"] == "link_cut"), cut);
    let lost = told.messages(|one| one.lost == Some(Loss::LinkCut));
    assert_eq!(lost.len(), cut);
    for one in lost {
        assert!(one.from == 1 || one.to == 1, "{one:?}");
        assert!((1_000_000_000..=1_800_000_000).contains(&told.sent_at(one)), "{one:?}");
    }
}

#[test]
fn what_a_receiver_that_is_down_loses_is_told_as_such() {
    let told = faulty(500_000, Fault::Crash { member: member(2), after_actions: 0 });
    let lost = told.messages(|one| one.lost == Some(Loss::ReceiverDown));
    assert!(lost.len() > 5);
    assert_eq!(told.lines_with("lost: the receiver is down"), lost.len());
    assert_eq!(told.fates(|fate| fate["lost"] == "receiver_down"), lost.len());
    for one in lost {
        assert!(one.to == 1 && one.arrived.is_empty(), "{one:?}");
        assert!((990_000_000..=1_500_000_000).contains(&told.sent_at(one)), "{one:?}");
    }
}

#[test]
fn a_message_that_is_late_is_told_to_be_delayed() {
    let mut scenario = calm();
    (scenario.network.tail, scenario.network.tail_max_us) = (1_000, 90_000);
    let told = Told::of(&scenario);
    let delayed = told.counted("delay");
    assert!(delayed > 20);
    assert_eq!(told.lines_with(": delayed until "), delayed);
    assert_eq!(told.fates(|fate| fate["carried"]["delayed"] == true), delayed);
    assert_eq!(told.messages(|one| one.delayed).len(), delayed);
}

/// In all kinds of worlds, of kernels alone and of full replicas: a message is received as often as it
/// arrives, or lost, or still on its way.
#[test]
fn each_message_of_a_run_has_a_fate() {
    let (mut lost, mut kept_back, mut full) = ([0; 7], 0, 0);
    for profile in [Profile::Swarm, Profile::Storage] {
        for seed in 0..12 {
            let mut scenario = Scenario::draw(seed, 5, profile);
            scenario.until_us = Some(3_000_000);
            full += u32::from(scenario.replica.is_some());
            let told = Told::of(&scenario);
            let arrivals: usize = told.diagram.messages.iter().map(|one| one.arrived.len()).sum();
            assert_eq!(arrivals, told.received, "seed {seed}");
            for one in &told.diagram.messages {
                assert!(one.sent.is_some(), "seed {seed}: {one:?}");
                let ends = [!one.arrived.is_empty(), one.lost.is_some(), one.on_its_way];
                assert_eq!(ends.iter().filter(|end| **end).count(), 1, "seed {seed}: {one:?}");
                if one.on_its_way && !one.delayed {
                    // The run was over within a second.
                    let end = told.report.counters.virtual_nanos;
                    assert!(told.sent_at(one) + 1_000_000_000 > end, "seed {seed}: {one:?}");
                }
                if let Some(loss) = one.lost {
                    lost[loss as usize] += 1;
                }
            }
            kept_back += told.fates(|fate| fate["arrived"]["kept_back"] == true);
        }
    }
    assert!(full > 3 && kept_back > 0, "{full} with full replicas, {kept_back} kept back");
    assert!(lost.iter().all(|count| *count > 0), "{lost:?}");
    assert!(!Fate::KeptBack.is_ordinary());
}
