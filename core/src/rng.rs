//! The kernel's only source of chance: a `rand_chacha` stream named by a seed and a position in it.

use crate::time::Nanos;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A random stream as two numbers, so that a member stays small, comparable and hashable. The block that
/// holds a draw is computed anew for each draw; there is one per election, so that costs nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    /// The stream of member `id` in a group seeded with `seed`. Two members never share one, even where the
    /// host gives all of them the same seed: equal streams would be perpetual split votes.
    pub(crate) fn new(seed: u64, id: crate::types::NodeId) -> Self {
        // An odd multiplier permutes the numbers, so different members get different streams.
        Self { seed: seed ^ id.get().wrapping_mul(0x9e37_79b9_7f4a_7c15), drawn: 0 }
    }

    /// A span that is at least zero and less than `bound`, uniform but for the bias of a 64-bit product.
    pub(crate) fn below(&mut self, bound: Nanos) -> Nanos {
        let mut stream = ChaCha8Rng::seed_from_u64(self.seed);
        stream.set_word_pos(u128::from(self.drawn) * 2);
        self.drawn += 1;
        let product = u128::from(stream.next_u64()) * u128::from(bound.get());
        Nanos::new((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn members_of_one_seed_draw_differently_and_repeatably() {
        let draw = |id| {
            let mut rng = Rng::new(7, NodeId::new(id).unwrap());
            [rng.below(Nanos::new(1 << 40)), rng.below(Nanos::new(1 << 40))]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }

    #[test]
    fn a_draw_is_below_its_bound() {
        let mut rng = Rng::new(1, NodeId::new(1).unwrap());
        assert!((0..1000).all(|_| rng.below(Nanos::new(3)) < Nanos::new(3)));
    }
}
