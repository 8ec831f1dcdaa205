//! The log that was applied in a run, in words, for the report of a failure.

use kontiki_core::types::{Index, LogId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many of the last entries are shown.
const SHOWN: usize = 10;

/// What was applied. Clones share it.
#[derive(Clone, Default, Debug)]
pub(super) struct Journal(Rc<RefCell<Applied>>);

#[derive(Default, Debug)]
struct Applied {
    lines: BTreeMap<Index, String>,
    /// The entry at which the run failed.
    failing: Option<Index>,
}

impl Journal {
    /// An entry was applied for the first time, or is about to be.
    pub(super) fn note(&self, at: LogId, text: &str) {
        self.0.borrow_mut().lines.insert(at.index, format!("{at} {text}"));
    }

    /// The run fails at this entry.
    pub(super) fn fails_at(&self, index: Index) {
        self.0.borrow_mut().failing = Some(index);
    }

    /// Its last lines, and that of the entry at which the run failed, which is marked.
    pub(super) fn lines(&self) -> Vec<String> {
        let Applied { lines, failing } = &*self.0.borrow();
        let end = lines.len().saturating_sub(SHOWN);
        let mut shown: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(number, (index, _))| *number >= end || *failing == Some(**index))
            .map(|(number, (index, line))| {
                let mark = if *failing == Some(*index) { '>' } else { ' ' };
                (number, format!("{mark} {line}"))
            })
            .collect();
        if let Some(&(number, _)) = shown.first().filter(|(number, _)| number + 1 < end) {
            shown.insert(1, (number, "  ...".to_owned()));
        }
        shown.into_iter().map(|(_, line)| line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(entries: u64, failing: u64) -> Vec<String> {
        let journal = Journal::default();
        (1..=entries).for_each(|index| journal.note(LogId::new(1, index), "put"));
        journal.fails_at(Index::new(failing));
        journal.lines()
    }

    #[test]
    fn the_entry_that_fails_is_shown_wherever_it_is() {
        let early = journal(40, 3);
        assert_eq!(early[..3], ["> 3:1 put", "  ...", "  31:1 put"]);
        assert_eq!(early.len(), SHOWN + 2);
        let late = journal(40, 40);
        assert_eq!((late.len(), &*late[9]), (SHOWN, "> 40:1 put"));
        assert_eq!(journal(40, 30)[..2], ["> 30:1 put", "  31:1 put"], "there is no gap");
        assert_eq!(journal(2, 9), ["  1:1 put", "  2:1 put"]);
    }
}
