use super::*;
use crate::part::{LogEntry, Stamp};
use crate::scenario::{Fault, Leading, Profile, Target, TimedFault};
use kontiki_core::event::Event;
use kontiki_core::message::Body;
use kontiki_core::types::Term;

/// A healthy run whose leader crashes early, as if a property were violated at its end.
fn story(property: &str) -> Story {
    story_of(&with_a_crash(), property)
}

fn with_a_crash() -> Scenario {
    let mut scenario = Scenario::draw(1, 3, Profile::Calm);
    let member = Target::Leading(Leading::Leader);
    scenario.faults =
        vec![TimedFault { at_us: 700_000, for_us: 50_000, fault: Fault::Crash { member, after_actions: 0 } }];
    scenario.until_us = Some(1_500_000);
    scenario
}

fn story_of(scenario: &Scenario, property: &str) -> Story {
    let mut run = Run::default();
    let report = crate::run_traced(scenario, &mut |traced| run.note(traced)).expect("it can be run");
    assert_eq!(report.failure, None);
    let (step, at) = (report.counters.steps, report.counters.virtual_nanos);
    Story::of(&run, Failure::new(property, "of a test".to_owned(), step, at))
}

#[test]
fn a_story_names_elections_votes_and_crashes_in_the_order_of_time() {
    let story = story("Liveness");
    let text = story.to_string();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no `{what}` in:\n{text}"));
    assert!(at(" crashes") < at("starts again"), "{text}");
    assert!(story.facts.iter().any(|fact| fact.text.contains("is to crash")), "{:?}", story.facts);
    assert!(at("stands for election in term 2") < at("becomes leader of term 2"), "{text}");
    assert!(text.contains("votes for") || text.contains("gets the vote of"), "{text}");
    assert!(text.ends_with("Liveness: of a test"), "{text}");
    assert!(story.facts.len() <= FACTS && story.lines().len() <= LINES, "{text}");
    assert!(story.facts.iter().all(|fact| !fact.text.contains("Heartbeat")), "{text}");
    assert_eq!(story.members().len(), 3);
}

#[test]
fn a_story_says_of_messages_that_they_came_late_or_twice_or_were_lost() {
    let mut scenario = Scenario::draw(1, 5, Profile::Calm);
    (scenario.faults, scenario.until_us) = (Vec::new(), Some(1_500_000));
    (scenario.network.tail, scenario.network.tail_max_us) = (10_000, 40_000);
    let late = story_of(&scenario, "Liveness").to_string();
    assert!(late.contains(", by a message sent "), "{late}");
    (scenario.network.tail, scenario.network.duplicate) = (0, 10_000);
    let twice = story_of(&scenario, "Liveness");
    let facts: Vec<_> = twice.facts.iter().map(|fact| &*fact.text).collect();
    assert!(facts.iter().any(|text| text.contains(", by a copy of a message sent ")), "{facts:#?}");
    scenario.network.duplicate = 0;
    let crash = Fault::Crash { member: Target::Leading(Leading::Leader), after_actions: 0 };
    scenario.faults = vec![TimedFault { at_us: 700_000, for_us: 800_000, fault: crash }];
    let lost = story_of(&scenario, "Liveness").to_string();
    assert!(
        lost.contains("; what it sends to ") && lost.contains(" is lost: the receiver is down"),
        "{lost}"
    );
}

/// The past of a failure is also that of the moments at which its parts came about.
#[test]
fn what_led_to_a_part_of_a_failure_is_in_its_past() {
    let run = cut_off();
    let last = run.moments.len() - 1;
    let (step, at) = (run.moments[last].step, run.moments[last].at);
    let mut failure = Failure::new("Log Matching", String::new(), step, at);
    let is_other = |number: &usize| {
        let moment = &run.moments[*number];
        matches!(moment.what, What::Step(_)) && moment.member() != run.moments[last].member()
    };
    let part = (0..last).rev().filter(is_other).nth(5).expect("others take steps");
    let (step, at) = (run.moments[part].step, run.moments[part].at);
    let other = run.moments[part].member().expect("it is a step");
    failure.parts.push(Part::of(other, Stamp { step, at }, Involvement::Leads { term: Term::new(1) }));
    assert_eq!(run.moment_of(&failure.parts[0]), Some(part));
    assert_eq!(run.ends(&failure), [part, last]);
    let past = run.past(&run.ends(&failure));
    let (of_part, rest): (Vec<_>, Vec<_>) =
        past.iter().partition(|number| run.moments[**number].member() == Some(other));
    assert_eq!(of_part.last(), Some(&part), "what the member did later had no part in it");
    assert!(of_part.len() > 1 && rest.len() > 1);
    assert!(rest.iter().all(|number| run.moments[*number].member() == run.moments[last].member()));
}

/// What happened at a member and was heard by none has no part in what happened at another.
#[test]
fn what_no_message_carried_is_not_in_the_past() {
    let run = cut_off();
    let last = run.moments.len() - 1;
    let member = run.moments[last].member();
    let past = run.past(&[last]);
    assert!(past.len() > 1 && past.len() < run.moments.len());
    assert!(past.iter().all(|number| run.moments[*number].member() == member));
}

/// A healthy run whose leader crashes early.
fn run_with_a_crash() -> Run {
    let mut run = Run::default();
    let report = crate::run_traced(&with_a_crash(), &mut |traced| run.note(traced)).expect("it can be run");
    assert_eq!(report.failure, None);
    run
}

/// A failure at the last step of a run.
fn failure_at_the_end(run: &Run, property: &str) -> Failure {
    let last = run.moments.last().expect("it is not empty");
    Failure::new(property, "of a test".to_owned(), last.step, last.at)
}

fn step_of(run: &Run, number: usize) -> Option<&cause::Step> {
    match &run.moments[number].what {
        What::Step(step) => Some(step),
        What::World { .. } => None,
    }
}

#[test]
fn the_relevant_past_is_a_small_part_of_the_past_and_holds_what_each_of_its_messages_came_from() {
    let run = run_with_a_crash();
    let failure = failure_at_the_end(&run, "Liveness");
    let (ends, relevant) = (run.ends(&failure), run.relevant(&failure));
    let past = run.past(&ends);
    assert!(ends.iter().all(|end| relevant.contains(end)), "{ends:?} {relevant:?}");
    assert!(relevant.iter().all(|number| past.contains(number)));
    assert!(relevant.len() > 10 && 3 * relevant.len() < past.len(), "{} {}", relevant.len(), past.len());
    for number in &relevant {
        let source = step_of(&run, *number).and_then(|step| step.source);
        assert!(source.is_none_or(|source| relevant.contains(&source)), "{number}");
    }
    let elects =
        |number: &usize| run.fact(*number).is_some_and(|fact| fact.text.contains("becomes leader of"));
    assert!(relevant.iter().any(elects), "{relevant:?}");
}

/// A commit is explained by the election of its leader, the entry, and acknowledgements: not by heartbeats,
/// and not by the commits before it.
#[test]
fn what_changed_nothing_and_what_was_replaced_is_not_relevant() {
    let run = run_with_a_crash();
    let commits = |number: &usize| {
        let step = step_of(&run, *number)?;
        let moved = step.after.committed > step.before?.committed;
        (moved && step.after.role == RoleKind::Leader).then_some(step)
    };
    let last = (0..run.moments.len()).rev().find(|number| commits(number).is_some()).expect("it commits");
    let leader = commits(&last).expect("it commits").after;
    let mut failure = failure_at_the_end(&run, "Durable Commit");
    let of_leader = |number: &&usize| {
        commits(number).is_some_and(|it| (it.after.id, it.after.term) == (leader.id, leader.term))
    };
    (failure.step, failure.at) = (run.moments[last].step, run.moments[last].at);
    let since = Stamp { step: failure.step, at: failure.at };
    let entry = LogEntry::new(leader.last, 0);
    failure.parts.push(Part::of(leader.id, since, Involvement::Commits(entry)));
    let mut until = Run::default();
    crate::run_traced(&with_a_crash(), &mut |traced| {
        if traced.at() <= failure.at && until.moments.len() <= last {
            until.note(traced);
        }
    })
    .expect("it can be run");
    let relevant = until.relevant(&failure);
    let all: Vec<_> = (0..=last).collect();
    assert!(all.iter().filter(of_leader).count() > 3, "it commits more than once");
    assert_eq!(relevant.iter().filter(of_leader).collect::<Vec<_>>(), [&last]);
    let is = |what: fn(&Body) -> bool| {
        let is_it = |number: &&usize| match step_of(&until, **number).map(|step| &step.event) {
            Some(Event::Receive(message)) => what(&message.body),
            _ => false,
        };
        relevant.iter().filter(is_it).count()
    };
    assert!(is(|body| matches!(body, Body::Appended { .. })) >= 1);
    assert!(is(|body| matches!(body, Body::Voted { granted: true })) >= 1);
    assert_eq!(is(|body| matches!(body, Body::Heartbeat { .. } | Body::HeartbeatAck { .. })), 0);
}

fn appends(run: &Run, number: usize) -> bool {
    step_of(run, number).is_some_and(|step| !step.appended.is_empty())
}

#[test]
fn what_a_crash_lost_is_relevant_to_what_the_disk_then_holds() {
    let lossy = (0..100).find_map(|seed| {
        let mut scenario = Scenario::draw(seed, 3, Profile::Chaos);
        scenario.until_us = Some(2_000_000);
        let mut run = Run::default();
        crate::run_traced(&scenario, &mut |traced| run.note(traced)).expect("it can be run");
        let crash = run.moments.iter().position(|moment| match &moment.what {
            What::World { happened: Happened::Crash { .. }, unsynced } => {
                unsynced.iter().filter(|number| appends(&run, **number)).count() > 1
            }
            _ => false,
        })?;
        Some((run, crash))
    });
    let (mut run, crash) = lossy.expect("some crash loses two writes of entries");
    run.moments.truncate(crash + 1);
    let What::World { unsynced, .. } = &run.moments[crash].what else { panic!("it is a crash") };
    let relevant = run.relevant(&failure_at_the_end(&run, "Durable Log"));
    assert_eq!(relevant.last(), Some(&crash));
    let lost =
        unsynced.iter().filter(|number| step_of(&run, **number).is_some_and(|it| !it.appended.is_empty()));
    assert!(lost.clone().count() > 1 && lost.clone().all(|number| relevant.contains(number)));
}

/// A run of three members of which none hears of another.
fn cut_off() -> Run {
    let mut run = Run::default();
    let mut scenario = Scenario::draw(1, 3, Profile::Calm);
    let id = |number| NodeId::new(number).expect("not zero");
    scenario.faults = (1..=3)
        .map(|number| {
            let fault = Fault::Isolate { member: Target::Member(id(number)) };
            TimedFault { at_us: 0, for_us: 10_000_000, fault }
        })
        .collect();
    (scenario.chaos_us, scenario.until_us) = (10_000_000, Some(2_000_000));
    crate::run_traced(&scenario, &mut |traced| run.note(traced)).expect("it can be run");
    run
}
