//! A part of a sweep: which seeds of its range a shard runs, and which seeds are done.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::ops::Range;
use std::str::FromStr;

/// The share of one of several programs that sweep a range together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Shard {
    /// From 1.
    number: u64,
    count: u64,
}

impl Shard {
    /// All of a range.
    pub(super) const WHOLE: Self = Self { number: 1, count: 1 };

    /// The part of this number, from 1, of so many; none where there is no such part.
    pub(super) fn new(number: u64, count: u64) -> Option<Self> {
        (1..=count).contains(&number).then_some(Self { number, count })
    }

    /// The seeds of this shard: shards are as long as each other, but for one seed.
    pub(super) fn of(self, range: &Range<u64>) -> Range<u64> {
        let seeds = u128::from(range.end.saturating_sub(range.start));
        let at = |number: u64| {
            // At most the length of the range, which has 64 bits.
            range.start + (seeds * u128::from(number) / u128::from(self.count)) as u64
        };
        at(self.number - 1)..at(self.number)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.parse::<u64>().ok();
        let shard = text.split_once('/').and_then(|(number, count)| Self::new(parse(number)?, parse(count)?));
        shard.ok_or_else(|| {
            format!("`{text}` is no shard: write 1/64 for the first of 64, up to 64/64, or auto")
        })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// A set of seeds, kept as ranges that neither overlap nor touch: from the start of each to its end.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<[u64; 2]>", into = "Vec<[u64; 2]>")]
pub(super) struct Seeds(BTreeMap<u64, u64>);

impl Seeds {
    /// Adds a range, of which no seed may be there yet; returns the first that is.
    pub(super) fn add(&mut self, mut range: Range<u64>) -> Result<(), u64> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some((&start, &end)) = self.0.range(..range.end).next_back() {
            if end > range.start {
                return Err(self.first_within(&range).unwrap_or(start));
            }
            if end == range.start {
                range.start = start;
            }
        }
        if let Some(end) = self.0.remove(&range.end) {
            range.end = end;
        }
        self.0.insert(range.start, range.end);
        Ok(())
    }

    /// The first seed of a range that is in the set.
    fn first_within(&self, range: &Range<u64>) -> Option<u64> {
        self.ranges().find(|own| own.end > range.start).map(|own| own.start.max(range.start))
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(&start, &end)| start..end)
    }

    pub(super) fn len(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    pub(super) fn contains(&self, seed: u64) -> bool {
        self.0.range(..=seed).next_back().is_some_and(|(_, &end)| seed < end)
    }

    pub(super) fn is_within(&self, range: &Range<u64>) -> bool {
        self.ranges().all(|own| range.start <= own.start && own.end <= range.end)
    }

    /// The seeds of a range that are not in the set.
    pub(super) fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut from = range.start;
        for own in self.ranges().chain(iter::once(range.end..range.end)) {
            missing.push(from..own.start.min(range.end));
            from = own.end.max(from);
        }
        missing.retain(|range| !range.is_empty());
        missing
    }
}

impl TryFrom<Vec<[u64; 2]>> for Seeds {
    type Error = String;

    fn try_from(ranges: Vec<[u64; 2]>) -> Result<Self, String> {
        let mut seeds = Self::default();
        for [start, end] in ranges {
            seeds.add(start..end).map_err(|seed| format!("seed {seed} is listed twice"))?;
        }
        Ok(seeds)
    }
}

impl From<Seeds> for Vec<[u64; 2]> {
    fn from(seeds: Seeds) -> Self {
        seeds.ranges().map(|range| [range.start, range.end]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_of_a_range_are_the_range() {
        for (range, count) in [(0..1000, 64), (7..10, 5), (0..u64::MAX, 3), (u64::MAX - 1..u64::MAX, 2)] {
            let mut all = Seeds::default();
            for number in 1..=count {
                let shard: Shard = format!("{number}/{count}").parse().unwrap();
                all.add(shard.of(&range)).unwrap();
            }
            assert_eq!(all.ranges().collect::<Vec<_>>(), [range]);
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", ""] {
            assert!(text.parse::<Shard>().unwrap_err().contains("write 1/64"), "{text}");
        }
    }

    #[test]
    fn seeds_in_any_order_become_ranges_and_none_is_added_twice() {
        let mut seeds = Seeds::default();
        for seed in [5, 3, 4, 9, 8, 0] {
            seeds.add(seed..seed + 1).unwrap();
        }
        assert_eq!(Vec::from(seeds.clone()), [[0, 1], [3, 6], [8, 10]]);
        assert_eq!(seeds.missing(&(0..12)), [1..3, 6..8, 10..12]);
        assert_eq!(seeds.missing(&(2..9)), [2..3, 6..8]);
        assert_eq!((seeds.add(4..5), seeds.add(1..9), seeds.add(9..20)), (Err(4), Err(3), Err(9)));
        assert_eq!((seeds.len(), seeds.contains(5), seeds.contains(6)), (6, true, false));
    }
}
