//! A member's recorded life as a diagram.

use super::STEPS;
use super::diagram::{Clock, Diagram};
use super::watcher::Watcher;
use crate::recording::{self, Replayed};
use crate::report::Failure;
use crate::trace::Traced;
use kontiki_core::record::NotARecording;

/// Lives the recordings of a member again, the oldest first, and makes a diagram of their last
/// [`STEPS`](super::STEPS) steps.
///
/// # Errors
///
/// If the bytes do not begin like a recording.
pub fn recordings(bytes: &[u8]) -> Result<Diagram, NotARecording> {
    let mut steps = 0;
    recording::replay(bytes, &mut |traced| steps += u64::from(matches!(traced, Traced::Step { .. })))?;
    let mut watcher = Watcher::new([]).leaving_out(steps.saturating_sub(STEPS));
    let (mut shift, mut last) = (0, (0_u64, 0_u64));
    let replayed = recording::replay(bytes, &mut |traced| {
        let (mut shifted, at) = (*traced, traced.at().saturating_add(shift));
        // The clock of a process that starts again may begin anew; a diagram's does not.
        shift += last.1.saturating_sub(at);
        let now = traced.at().saturating_add(shift);
        match &mut shifted {
            Traced::Step { at, step, .. } => (*at, last.0) = (now, *step),
            Traced::World { at, .. } | Traced::Message { at, .. } => *at = now,
        }
        last.1 = now;
        watcher.note(&shifted);
    })?;
    let diagram = watcher.diagram(title(&replayed), failure(&replayed, last));
    Ok(Diagram { outcome: outcome(&replayed), clock: Clock::Member, ..diagram })
}

fn title(replayed: &[Replayed]) -> String {
    let identity = replayed.iter().find_map(|one| one.identity);
    let member =
        identity.map_or("a member that is not known".to_owned(), |it| format!("member {}", it.member));
    match replayed.len() {
        1 => format!("a recording of {member}"),
        count => format!("{count} recordings of {member}"),
    }
}

fn outcome(replayed: &[Replayed]) -> String {
    let steps = replayed.iter().map(|one| one.same).sum::<u64>();
    match replayed.iter().find_map(|one| one.wrong.as_ref()) {
        Some(wrong) => format!("{steps} steps the same, then: {wrong}"),
        None => format!("every action was the same: {steps} steps"),
    }
}

/// The first thing that was not the same, as a failure at the last step that was lived again.
fn failure(replayed: &[Replayed], (step, at): (u64, u64)) -> Option<Failure> {
    let wrong = replayed.iter().find_map(|one| one.wrong.as_ref())?;
    Some(Failure::new("Replay", wrong.to_string(), step, at))
}
