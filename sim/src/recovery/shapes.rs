//! The histories that are enumerated.

use super::history::{Act, Border, Shape};

/// What is written last and before that: every pair of these, behind an entry.
const ACTS: [Act; 6] =
    [Act::Append, Act::VoteAndAppend, Act::Overwrite, Act::Empty, Act::Vote, Act::Snapshot];

/// Every pair of acts with every border, and those that take more than one block or repair, in the order of
/// their numbers.
pub(super) fn shapes() -> Vec<Shape> {
    let borders = [
        Border::None,
        Border::Full(1),
        Border::Full(2),
        Border::Restart(1),
        Border::Restart(2),
        Border::Restart(3),
    ];
    let mut shapes = Vec::new();
    let last_two = ACTS.into_iter().flat_map(|before| ACTS.map(|last| [before, last]));
    let more = [[Act::Large, Act::Append], [Act::Append, Act::Large], [Act::Repair, Act::Append]];
    for (number, [before, last]) in last_two.chain(more).enumerate() {
        for border in borders {
            // A segment is made for a batch, and a vote alone is none.
            let begins = match border {
                Border::Full(at) => [Act::Append, before, last].get(at) != Some(&Act::Vote),
                Border::None | Border::Restart(_) => true,
            };
            let repairs = before == Act::Repair;
            if !begins || repairs && matches!(border, Border::Full(_)) {
                continue;
            }
            let marked = number % 2 == 1;
            shapes.push(Shape { acts: vec![Act::Append, before, last], border, marked });
        }
    }
    shapes
}
