//! Edits of a text by its bytes, of which one may stand within another.

use std::ops::Range;

/// Puts a text in the place of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    range: Range<usize>,
    side: Side,
    text: String,
}

/// Several edits may meet at one place. What ends there comes before what begins there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    Ends,
    Begins,
}

impl Edit {
    /// Puts a text before what begins at `at`.
    pub fn before(at: usize, text: impl Into<String>) -> Self {
        Self { range: at..at, side: Side::Begins, text: text.into() }
    }

    /// Puts a text after what ends at `at`.
    pub fn after(at: usize, text: impl Into<String>) -> Self {
        Self { range: at..at, side: Side::Ends, text: text.into() }
    }

    /// Puts a text in the place of what is there.
    pub fn replace(range: Range<usize>, text: impl Into<String>) -> Self {
        Self { range, side: Side::Begins, text: text.into() }
    }

    /// Where it comes among those of all groups. Of two groups that meet, the earlier is the outer one.
    fn place(&self, group: usize) -> (usize, Side, isize) {
        let order = group.cast_signed();
        (self.range.start, self.side, if self.side == Side::Ends { -order } else { order })
    }
}

/// Makes all edits, in groups of which the outer stand before the inner. Returns the new text, and what each
/// group takes of it.
///
/// # Panics
///
/// Where two edits change the same text.
pub fn apply(text: &str, groups: &[&[Edit]]) -> (String, Vec<Range<usize>>) {
    let numbered = groups.iter().enumerate();
    let mut sorted: Vec<_> = numbered
        .flat_map(|(group, edits)| edits.iter().map(move |edit| (edit.place(group), group, edit)))
        .collect();
    sorted.sort_by_key(|(place, ..)| *place);
    let (mut new, mut done) = (String::with_capacity(text.len() * 3), 0);
    let mut taken: Vec<Option<Range<usize>>> = vec![None; groups.len()];
    for (_, group, edit) in sorted {
        assert!(edit.range.start >= done, "two edits change `{}`", &text[edit.range.start..done]);
        new.push_str(&text[done..edit.range.start]);
        let start = new.len();
        new.push_str(&edit.text);
        taken[group].get_or_insert(start..start).end = new.len();
        done = edit.range.end;
    }
    new.push_str(&text[done..]);
    (new, taken.into_iter().map(Option::unwrap_or_default).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_may_stand_within_one_another() {
        let equal = [Edit::before(0, "g("), Edit::replace(5..9, ", "), Edit::after(10, ")")];
        let sum = [Edit::before(0, "f("), Edit::replace(1..4, ", "), Edit::after(5, ")")];
        let left = [Edit::before(0, "h("), Edit::after(1, ")")];
        let whole = [Edit::before(0, "k["), Edit::after(10, "]")];
        let (new, taken) = apply("a + b == c", &[&whole, &equal, &sum, &left]);
        assert_eq!(new, "k[g(f(h(a), b), c)]");
        assert_eq!(&new[taken[2].clone()], "f(h(a), b)");
        assert_eq!(&new[taken[3].clone()], "h(a)");
    }

    #[test]
    fn what_ends_comes_before_what_begins() {
        let statement = [Edit::before(0, "if keep { "), Edit::after(2, " }")];
        let (new, _) = apply("a;", &[&statement, &[Edit::before(0, "f(&"), Edit::after(1, ")")]]);
        assert_eq!(new, "if keep { f(&a); }");
        let (new, _) =
            apply("a b", &[&[Edit::before(1, " &&")], &[Edit::before(0, "f("), Edit::after(1, ")")]]);
        assert_eq!(new, "f(a) && b");
    }
}
