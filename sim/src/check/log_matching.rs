//! Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in
//! all entries up through the given index (paper §5.3, figure 3).

use super::{Check, Observation};
use crate::ledger::Link;
use kontiki_core::types::LogId;

/// For each index, the entries that were ever seen there, one of each term, each with the one prefix that may
/// lead to it.
#[derive(Default, Debug)]
pub struct LogMatching {
    seen: Vec<Vec<Link>>,
}

impl LogMatching {
    /// What an entry that was seen holds, by its hash.
    pub fn content(&self, id: LogId) -> Option<u64> {
        let position = usize::try_from(id.index.get().checked_sub(1)?).ok()?;
        self.seen.get(position)?.iter().find(|link| link.term == id.term).map(|link| link.content)
    }
}

impl Check for LogMatching {
    const NAME: &'static str = "Log Matching";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), String> {
        let from = step.chain.len() - step.appended;
        for (position, link) in step.chain.iter().enumerate().skip(from) {
            if self.seen.len() <= position {
                self.seen.resize_with(position + 1, Vec::new);
            }
            let seen = &mut self.seen[position];
            match seen.iter().find(|known| known.term == link.term) {
                None => seen.push(*link),
                Some(known) if known.prefix == link.prefix => {}
                Some(_) => {
                    let (id, index, term) = (step.after.id, position + 1, link.term);
                    return Err(format!(
                        "member {id} has another log up to entry {index}:{term} than it was seen with before"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show, status};
    use super::*;
    use kontiki_core::status::RoleKind::Follower;

    #[test]
    fn fires_on_equal_ids_with_different_pasts() {
        let one = status(1, Follower, 3, 0);
        let two = status(2, Follower, 3, 0);
        let mut check = LogMatching::default();
        assert!(show(&mut check, &one, &one, &chain(&[(1, "a"), (2, "b")])).is_ok());
        assert!(
            show(&mut check, &two, &two, &chain(&[(1, "a"), (3, "c")])).is_ok(),
            "other terms may differ"
        );
        assert!(show(&mut check, &two, &two, &chain(&[(1, "x"), (2, "b")])).is_err());
        assert!(show(&mut check, &two, &two, &chain(&[(1, "a"), (2, "x")])).is_err());
    }
}
