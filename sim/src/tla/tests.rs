use super::{TlaError, trace};
use crate::scenario::{Profile, Scenario};
use crate::trace::Traced;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::Message;

/// The value of a field of each line.
fn fields<'m>(module: &'m str, field: &str) -> Vec<&'m str> {
    let begins = format!("{field} |-> ");
    let lines = module.lines().filter(|line| line.starts_with("[member |-> "));
    lines.filter_map(|line| line.split_once(&begins)?.1.split_once(", ").map(|(value, _)| value)).collect()
}

#[test]
fn each_step_is_a_line_and_the_same_run_is_the_same_trace() {
    let scenario = Scenario::draw(1, 3, Profile::Swarm);
    let (report, module) = trace(&scenario, u64::MAX).expect("kernels alone can be traced");
    assert_eq!(fields(&module, "step").len() as u64, report.counters.steps);
    assert_eq!(trace(&scenario, u64::MAX).expect("the same").1, module);
    let (_, first) = trace(&scenario, 100).expect("the same");
    assert_eq!(fields(&first, "step"), fields(&module, "step")[..100]);
}

#[test]
fn what_a_trace_is_about_is_in_it() {
    let (mut acts, wanted) = (String::new(), ["campaign", "lead", "propose", "reach", "restart", "compact"]);
    for seed in 0..10 {
        acts += &trace(&Scenario::draw(seed, 3, Profile::Swarm), u64::MAX).expect("kernels alone").1;
    }
    for act in wanted {
        assert!(acts.contains(&format!("k |-> \"{act}\"")), "no {act}");
    }
}

/// A step that a message brought about names the line and the place in it where that was said first, also
/// where the same was said again since.
#[test]
fn a_message_that_arrives_is_traced_to_where_it_was_said_first() {
    let mut said_again = 0;
    for seed in 0..6 {
        let scenario = Scenario::draw(seed, 3, Profile::Swarm);
        let (mut said, mut expected) = (Vec::<Vec<Message>>::new(), Vec::new());
        crate::run_traced(&scenario, &mut |traced| {
            let Traced::Step { event, actions, .. } = traced else { return };
            expected.push(match event {
                Event::Receive(message) => {
                    let places = said.iter().enumerate().filter_map(|(line, says)| {
                        Some((line + 1, says.iter().position(|said| said == message)? + 1))
                    });
                    let places: Vec<_> = places.collect();
                    said_again += usize::from(places.len() > 1);
                    let (line, place) = places.first().expect("it was sent before");
                    format!("<<{line}, {place}>>")
                }
                _ => "<<0, 0>>".to_owned(),
            });
            let sends = actions.iter().filter_map(|action| match action {
                Action::Send(message) => Some(message.clone()),
                _ => None,
            });
            said.push(sends.collect());
        })
        .expect("it can be run");
        let (_, module) = trace(&scenario, u64::MAX).expect("kernels alone");
        let lines = module.lines().filter_map(|line| line.split_once("by |-> ")?.1.split_once(", acts"));
        assert_eq!(lines.map(|(by, _)| by).collect::<Vec<_>>(), expected, "seed {seed}");
    }
    assert!(said_again > 0, "messages are said again before they arrive");
}

#[test]
fn full_replicas_are_refused() {
    let refused = trace(&Scenario::draw(1, 3, Profile::Storage), 10);
    assert!(matches!(refused, Err(TlaError::FullReplicas)));
}
