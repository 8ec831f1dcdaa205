//! The steps by which a scenario is made smaller, as a list: for those who judge by themselves which to keep.

use super::{members, settings};
use crate::scenario::Scenario;

/// One step. It changes nothing where there is nothing of its kind left.
pub(crate) type Step = Box<dyn Fn(&mut Scenario)>;

/// All steps, in the order in which they are tried.
pub(crate) fn steps(scenario: &Scenario) -> Vec<Step> {
    let mut steps = some_of(scenario.faults.len(), |scenario| &mut scenario.faults);
    steps.extend(some_of(scenario.custom_faults.len(), |scenario| &mut scenario.custom_faults));
    for staying in members::groups(scenario.members.len()) {
        steps.push(Box::new(move |scenario| members::keep(scenario, &staying)));
    }
    steps.extend(boxed(settings::CLIENTS));
    steps.extend(some_of(scenario.operations.len(), |scenario| &mut scenario.operations));
    steps.push(Box::new(|scenario| scenario.chaos_us /= 2));
    for number in 0..scenario.faults.len() {
        steps.push(Box::new(move |scenario| {
            scenario.faults.get_mut(number).into_iter().for_each(|timed| timed.for_us /= 2);
        }));
    }
    steps.extend(boxed(settings::FEATURES));
    for option in settings::options() {
        steps.push(Box::new(move |scenario| settings::reset(scenario, &option)));
    }
    steps.extend(boxed(settings::CHANCE));
    steps
}

fn boxed(changes: &'static [settings::Change]) -> impl Iterator<Item = Step> {
    changes.iter().map(|change| -> Step { Box::new(change) })
}

/// Leaves out some of a list of so many: all of it, half of it, a quarter, and so on down to each alone.
fn some_of<T: 'static>(length: usize, list: fn(&mut Scenario) -> &mut Vec<T>) -> Vec<Step> {
    let sizes = std::iter::successors(Some(length), |size| Some(size / 2)).take_while(|size| *size > 0);
    let groups = sizes.flat_map(|size| (0..length).step_by(size).map(move |from| (from, from + size)));
    let leave_out = |(from, to): (usize, usize)| -> Step {
        Box::new(move |scenario| {
            let list = list(scenario);
            list.drain(from.min(list.len())..to.min(list.len()));
        })
    };
    groups.map(leave_out).collect()
}
