use super::{TlaError, trace};
use crate::scenario::{Profile, Scenario};

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

#[test]
fn full_replicas_are_refused() {
    let refused = trace(&Scenario::draw(1, 3, Profile::Storage), 10);
    assert!(matches!(refused, Err(TlaError::FullReplicas)));
}
