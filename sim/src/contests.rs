//! Contests of leadership (see [`ContestSpec`]): which scene is on, and what it waits for. What becomes of it
//! is in [`crate::world`].

use crate::network::Frame;
use crate::report::Mark;
use crate::scenario::ContestSpec;
use crate::stream::Stream;

/// The contests of a run.
#[derive(Debug)]
pub(crate) struct Contests {
    pub(crate) spec: ContestSpec,
    pub(crate) stream: Stream,
    /// How many are still to be held.
    pub(crate) left: u32,
    pub(crate) scene: Scene,
    /// When a scene is given up for which nothing happens.
    pub(crate) until: u64,
}

/// What a contest waits for. Members are given by position.
#[derive(Debug)]
pub(crate) enum Scene {
    /// A leader has to be answered so many heartbeats before a contest begins.
    Led { answers: u32 },
    /// Clocks run apart, for so many answers.
    Drifting { leader: usize, answers: u32 },
    /// The answers to the leader's next heartbeat will come late.
    Answering { leader: usize },
    /// It is about to be cut off.
    CutOff { leader: usize, mark: Mark },
    /// These hear nothing from the leader any more, and one of them will stand.
    Aside { leader: usize, aside: Vec<usize> },
    /// `one` is to take over.
    Succeeding { one: usize },
    /// It leads, and has to be answered so many heartbeats before it hands over itself.
    Succeeded { one: usize, answers: u32 },
    /// Another is to take over.
    HandedOn { one: usize },
    /// The other leads, and has to be answered so many heartbeats.
    Renewed { one: usize, leader: usize, answers: u32 },
    /// It alone does not hear the leader, and will stand.
    Parted { one: usize, leader: usize },
    /// The leader will bid another to take over.
    HandingOver { leader: usize },
    /// The same, but that does not arrive.
    Bidding { leader: usize, kept: Option<(usize, Frame)> },
    /// The leader has taken office back, and has to be answered so many heartbeats until it arrives.
    TakenBack { leader: usize, kept: (usize, Frame), answers: u32 },
    /// The leader will begin a joint phase.
    Changing { leader: usize },
    /// `one` has started again, and will hear the leader. Then it is asked to read, or, where the leader's
    /// answer to an earlier question is kept, does not hear the leader any more.
    Reborn { leader: usize, one: usize, answer: Option<Frame> },
    /// It asks the leader, whose answer will not arrive.
    Asking { leader: usize, one: usize },
    /// It is about to start again.
    Falling { leader: usize, one: usize, answer: Frame },
    /// It does not hear the leader any more, which will commit something.
    Ignorant { leader: usize, one: usize, answer: Frame },
    /// It is about to ask, and the earlier answer arrives.
    AskingAgain { one: usize, answer: Frame },
    /// There are no more.
    Over,
}

impl Contests {
    pub(crate) fn new(seed: u64, spec: ContestSpec) -> Self {
        let stream = Stream::named(seed, "contests of the world", 0);
        let left = spec.times;
        let mut contests = Self { spec, stream, left, scene: Scene::Over, until: 0 };
        contests.scene = contests.next();
        contests
    }

    /// Waits for the next contest, after a while.
    pub(crate) fn next(&mut self) -> Scene {
        match self.left {
            0 => Scene::Over,
            _ => Scene::Led { answers: self.stream.between(4, 30) as u32 },
        }
    }

    pub(crate) fn few(&mut self) -> u32 {
        self.stream.between(2, 12) as u32
    }
}
