//! What happens to the members of one seed, drawn before it begins.

use crate::stream::Stream;

/// One nanosecond-counted millisecond.
pub(super) const MS: u64 = 1_000_000;
/// How long things go wrong, at most.
const CHAOS: u64 = 12_000 * MS;

/// A seed's world: groups of first members, newcomers, and what goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// For each group, how many first members and newcomers it has.
    pub(super) groups: Vec<(usize, usize)>,
    /// Whether members are listed by names, which resolve to wherever they are, sooner or later.
    pub(super) by_name: bool,
    /// A list that names a member of another group at first: which unit, whose entry, which unit it leads to.
    pub(super) mixed_up: Option<(usize, usize, usize)>,
    /// When each unit is started for the first time.
    pub(super) starts: Vec<u64>,
    pub(super) faults: Vec<(u64, Fault)>,
    /// Whether the seed of a newcomer is lost for good as soon as the newcomer knows its group.
    pub(super) loses_seed: bool,
    /// Whether the leader that first adds a newcomer reaches only the newcomer from then on, and crashes: the
    /// newcomer alone has the entry that adds it.
    pub(super) loses_addition: bool,
    /// Whether a first member that may lose its memory does so as soon as it has told another one of its
    /// group; that answer comes when it is back.
    pub(super) forgets_answer: bool,
    /// Whether, long after everything has healed, a group of three or more loses power, and its members come
    /// back at addresses that other members had before.
    pub(super) loses_power: bool,
    /// When everything heals.
    pub(super) heal_at: u64,
    /// The longest that writing a record takes.
    pub(super) max_store: u64,
}

/// Something that goes wrong. Units are processes with a directory, numbered through all groups.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The process ends, and is started again after this long.
    Crash(usize, u64),
    /// The same, at another address; its name resolves to it this much later.
    Move(usize, u64, u64),
    /// Two units exchange their addresses.
    Swap(usize, usize, u64),
    /// The second cannot be reached from the first for so long.
    Cut(usize, usize, u64),
    /// The directory is emptied while the process is down for so long.
    Wipe(usize, u64),
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut stream = Stream::named(seed, "formation/groups", 0);
        let founders = *stream.pick(&[1, 2, 3, 3, 3, 3, 5]);
        let newcomers = stream.below(3) as usize;
        let mut groups = vec![(founders, newcomers)];
        if stream.chance(3_500) {
            groups.push((stream.between(1, 3) as usize, stream.below(2) as usize));
        }
        let by_name = stream.coin();
        let ranges: Vec<_> = groups
            .iter()
            .scan(0, |next, (founders, newcomers)| {
                let first = *next;
                *next += founders + newcomers;
                Some((first, *founders, *newcomers))
            })
            .collect();
        let units: usize = groups.iter().map(|(founders, newcomers)| founders + newcomers).sum();
        let mixed_up = (groups.len() > 1 && stream.chance(5_000)).then(|| {
            let ((first, founders, _), (other, others, _)) = (ranges[0], ranges[1]);
            let whose = first + stream.below(founders as u64) as usize;
            let entry = first + stream.below(founders as u64) as usize;
            (whose, entry, other + stream.below(others as u64) as usize)
        });
        let mixed_up = mixed_up.filter(|(whose, entry, _)| whose != entry && newcomers == 0);
        let late = stream.chance(3_000);
        let starts = (0..units).map(|_| stream.skewed(1, if late { 5_000 } else { 500 }) * MS).collect();
        let heal_at = stream.between(2_000 * MS, CHAOS);
        let faults = Self::faults(seed, &ranges, units, heal_at);
        let max_store = stream.skewed(1, 400) * MS;
        let loses_addition = Stream::named(seed, "formation/lost addition", 0).chance(3_000);
        let loses_seed = Stream::named(seed, "formation/lost seed", 0).chance(3_000);
        let loses_power = Stream::named(seed, "formation/lost power", 0).chance(3_000);
        let forgets_answer = Stream::named(seed, "formation/forgotten answer", 0).chance(3_000);
        Self {
            groups,
            by_name,
            mixed_up,
            starts,
            faults,
            loses_seed,
            loses_addition,
            forgets_answer,
            loses_power,
            heal_at,
            max_store,
        }
    }

    fn faults(seed: u64, ranges: &[(usize, usize, usize)], units: usize, heal_at: u64) -> Vec<(u64, Fault)> {
        let mut faults = Vec::new();
        let kinds: [(&str, u64); 5] = [("crash", 8), ("move", 4), ("swap", 2), ("cut", 6), ("wipe", 3)];
        for (kind, most) in kinds {
            // A stream of its own: another kind does not change the draws of this one.
            let mut stream = Stream::named(seed, &format!("formation/{kind}"), 0);
            if stream.chance(4_000) {
                continue;
            }
            for _ in 0..stream.below(most + 1) {
                // Most of what is interesting happens while groups form.
                let at = stream.skewed(1, heal_at / MS) * MS;
                let (unit, other) =
                    (stream.below(units as u64) as usize, stream.below(units as u64) as usize);
                let time = stream.skewed(5, 3_000) * MS;
                faults.push((
                    at,
                    match kind {
                        "crash" => Fault::Crash(unit, time),
                        "move" => Fault::Move(unit, time, stream.skewed(1, 3_000) * MS),
                        "swap" => Fault::Swap(unit, other, time),
                        "cut" => Fault::Cut(unit, other, time),
                        _ => match ranges
                            .iter()
                            .rev()
                            .find(|it| unit >= it.0)
                            .and_then(|it| Self::may_be_wiped(*it, seed))
                        {
                            Some(unit) => Fault::Wipe(unit, time),
                            None => Fault::Crash(unit, time),
                        },
                    },
                ));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    /// One member of a group with a majority of others may lose its memory: the first member with the lowest
    /// id, which founds, another, or the last newcomer. A group in which a majority loses its memory is lost,
    /// as it must be.
    fn may_be_wiped((first, founders, newcomers): (usize, usize, usize), seed: u64) -> Option<usize> {
        let last = first + founders + newcomers - 1;
        (founders >= 3).then(|| match seed % 4 {
            0 => first + 1,
            1 if newcomers > 0 => last,
            _ => first,
        })
    }
}
