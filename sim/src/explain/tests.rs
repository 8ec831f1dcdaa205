use super::*;
use crate::report::Failure;
use crate::scenario::{Fault, Profile, Target, TimedFault};
use crate::trace::Traced;
use kontiki_core::status::Status;
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// Three members, of which one crashes and one is cut off.
fn scenario() -> Scenario {
    let mut scenario = Scenario::draw(1, 3, Profile::Calm);
    let timed = |at_us, for_us, fault| TimedFault { at_us, for_us, fault };
    scenario.faults = vec![
        timed(900_000, 100_000, Fault::Crash { member: Target::Member(id(1)), after_actions: 0 }),
        timed(1_500_000, 800_000, Fault::Isolate { member: Target::Member(id(2)) }),
    ];
    (scenario.chaos_us, scenario.until_us) = (3_000_000, Some(2_800_000));
    scenario
}

/// Its diagram, as if a property were violated at the end, and the last status of each member.
fn diagram() -> (Diagram, BTreeMap<NodeId, Status>) {
    let (scenario, mut last) = (scenario(), BTreeMap::new());
    let mut watcher = watch(&scenario, 0);
    let report = crate::run_traced(&scenario, &mut |traced| {
        if let Traced::Step { after, .. } = traced {
            last.insert(after.id, **after);
        }
        watcher.note(traced);
    });
    let counters = report.expect("it can be run").counters;
    let failure = Failure::new("Liveness", "of a test".to_owned(), counters.steps, counters.virtual_nanos);
    (watcher.diagram(title(&scenario), Some(failure)), last)
}

#[test]
fn messages_are_sent_before_they_arrive_and_some_are_lost() {
    let (diagram, _) = diagram();
    let Diagram { events, messages, .. } = &diagram;
    for (number, message) in messages.iter().enumerate() {
        let sent = message.sent.expect("all are sent in the run");
        assert!(events[sent].sent.contains(&number) && events[sent].member == Some(message.from));
        for arrived in &message.arrived {
            assert!(sent < *arrived, "{message:?}");
            assert_eq!(
                (events[*arrived].received, events[*arrived].member),
                (Some(number), Some(message.to))
            );
        }
    }
    let span = diagram.spans.iter().find(|span| span.text.contains("is cut off from all others"));
    let span = span.expect("it is cut off");
    assert_eq!((&span.members[..], span.to - span.from), (&[1][..], 800_000_000));
    let lost = |one: &&Message| one.arrived.is_empty() && !one.on_its_way;
    let is_cut = |one: &Message| {
        let at = events[one.sent.expect("it is sent")].at;
        (one.from == 1 || one.to == 1) && (span.from..=span.to).contains(&at)
    };
    assert!(messages.iter().filter(lost).any(is_cut));
    let whole = messages.iter().filter(|one| events[one.sent.unwrap_or_default()].at < 890_000_000);
    assert!(whole.clone().count() > 10, "enough is sent before the crash");
    assert_eq!(whole.clone().find(lost), None, "the network is calm");
}

#[test]
fn states_are_those_of_the_members_and_writes_are_pending_until_they_are_heard_of() {
    let (diagram, last) = diagram();
    for (lane, member) in diagram.members.iter().enumerate() {
        let own = diagram.events.iter().filter(|event| event.member == Some(lane));
        assert_eq!(own.filter_map(|event| event.state.as_ref()).next_back(), Some(&State::of(&last[member])));
    }
    let durable = diagram.writes.iter().filter(|write| write.ended.is_some() && !write.unheard);
    assert!(durable.clone().count() > 5);
    assert!(durable.clone().all(|write| write.ended > Some(write.begun)));
    for write in durable {
        let [begun, ended] = [write.begun, write.ended.unwrap_or_default()].map(|at| &diagram.events[at]);
        assert!(begun.did.iter().any(|did| did.starts_with("write ")), "{begun:?}");
        assert!(ended.what.starts_with("written ") && ended.kind == Kind::Disk, "{ended:?}");
    }
}

#[test]
fn a_crash_lasts_until_its_member_starts_again_and_clients_get_answers() {
    let (diagram, _) = diagram();
    let down = diagram.spans.iter().find(|span| span.kind == Kind::Crash).expect("it crashes");
    let at = |kind| diagram.events.iter().find(|event| event.kind == kind).map(|event| event.at);
    assert_eq!((Some(down.from), Some(down.to)), (at(Kind::Crash), at(Kind::Restart)));
    assert_eq!(down.members, [0]);
    let of_down = |event: &&Event| event.member == Some(0) && (down.from + 1..down.to).contains(&event.at);
    assert_eq!(diagram.events.iter().find(of_down), None);
    let answered = diagram.operations.iter().filter_map(|one| one.answer.as_ref());
    assert!(answered.filter(|answer| answer.starts_with("committed as ")).count() > 0);
    assert!(diagram.operations.iter().all(|one| one.answered.is_none_or(|at| at >= one.asked)));
}

#[test]
fn the_past_of_a_failure_is_earlier_and_the_story_is_in_it() {
    let (diagram, _) = diagram();
    let failure = diagram.failure.as_ref().expect("as if it failed");
    assert_eq!(failure.event, failure.past.last().copied());
    for number in &failure.past {
        let causes = &diagram.events[*number].causes;
        assert!(causes.iter().all(|cause| cause < number && failure.past.contains(cause)));
    }
    assert!(failure.relevant.iter().all(|number| failure.past.contains(number)));
    assert_eq!(failure.relevant.last(), failure.past.last());
    assert!((3..=30).contains(&diagram.story.len()), "{:?}", diagram.story);
    for number in &diagram.story {
        let event = &diagram.events[*number];
        assert!(event.fact.is_some(), "{event:?}");
        assert!(failure.relevant.contains(number) || event.kind == Kind::Fault, "{event:?}");
    }
}

#[test]
fn a_long_run_is_shown_from_a_step_on_and_says_how_much_is_left_out() {
    let scenario = scenario();
    let steps = crate::run(&scenario).expect("it can be run").counters.steps;
    let mut watcher = watch(&scenario, STEPS + steps - 20);
    crate::run_traced(&scenario, &mut |traced| watcher.note(traced)).expect("it can be run");
    let diagram = watcher.diagram(title(&scenario), None);
    assert_eq!(diagram.left_out, steps - 20);
    let taken = diagram
        .events
        .iter()
        .filter(|event| ![Kind::Fault, Kind::Crash, Kind::Restart].contains(&event.kind));
    assert_eq!(taken.map(|event| event.step).collect::<Vec<_>>(), (steps - 19..=steps).collect::<Vec<_>>());
    assert!(diagram.spans.iter().any(|span| span.text.contains("is cut off")), "what lasts is not left out");
}

#[test]
fn the_same_scenario_is_the_same_page() {
    let page = || run(&scenario()).expect("it can be run").to_html();
    assert!(page() == page());
}

#[test]
fn a_recorded_life_is_a_diagram_of_one_member_by_its_clock() {
    let (report, lives) = crate::run_recorded(&scenario()).expect("it can be run");
    let diagram = recordings(&lives[0]).expect("it is a recording");
    assert!(diagram.clock == Clock::Member && diagram.failure.is_none());
    assert_eq!(diagram.title, "2 recordings of member 1", "it started again");
    let own: Vec<_> = diagram.events.iter().filter(|event| event.state.is_some()).collect();
    assert!(own.iter().all(|event| event.member == diagram.lane(id(1))));
    assert!(diagram.events.is_sorted_by_key(|event| event.at) && report.counters.steps > 0);
    assert!(diagram.messages.iter().any(|message| message.sent.is_none()), "others' steps are not recorded");
}
