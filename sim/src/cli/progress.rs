//! How far a sweep is: a bar where a terminal watches, and a line now and then where none does.

use super::{note, summary::Summary, time};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// What ends a sweep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// So many seeds, all taken together.
    Seeds(u64),
    /// So much time, all taken together.
    Time(Duration),
    /// Only a signal.
    Signal,
}

/// How far a sweep is, and how fast.
#[derive(Clone, Copy, Debug)]
struct Pace {
    goal: Goal,
    /// How many seeds are done, and how long that took, earlier runs of the program included.
    done: u64,
    wall: Duration,
    /// How many of them this program has done, and how long that took.
    own: u64,
    own_wall: Duration,
}

/// Shows how far a sweep is.
#[derive(Debug)]
pub(super) struct Progress {
    goal: Goal,
    /// How many seeds were done before, and how long that had taken.
    before: (u64, Duration),
    started: Instant,
    bar: ProgressBar,
    /// How often a line is written where there is no terminal, and when the last one was.
    every: Duration,
    written: Instant,
    has_said_stopping: bool,
}

/// How long the bar is, whatever it counts.
const LENGTH: u64 = 1_000;

impl Pace {
    /// How much is done, out of [`LENGTH`].
    fn position(&self) -> u64 {
        let (done, all) = match self.goal {
            Goal::Seeds(all) => (u128::from(self.done), u128::from(all)),
            Goal::Time(all) => (self.wall.as_nanos(), all.as_nanos()),
            Goal::Signal => (0, 1),
        };
        let position = done.saturating_mul(u128::from(LENGTH)) / all.max(1);
        u64::try_from(position).unwrap_or(LENGTH).min(LENGTH)
    }

    /// How long it will go on, as far as that can be told.
    fn left(&self) -> Option<Duration> {
        match self.goal {
            Goal::Time(all) => Some(all.saturating_sub(self.wall)),
            Goal::Seeds(all) => {
                let left = u128::from(all.saturating_sub(self.done));
                let nanos = (self.own_wall.as_nanos() * left).checked_div(u128::from(self.own))?;
                Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
            Goal::Signal => None,
        }
    }

    /// A line for people.
    fn line(&self, found: &str) -> String {
        let count = |number| HumanCount(number).to_string();
        let seeds = match self.goal {
            Goal::Seeds(all) => format!("{} of {}", count(self.done), count(all)),
            Goal::Time(_) | Goal::Signal => count(self.done),
        };
        let rate = time::rate(self.own, self.own_wall);
        let left = self.left().map(|left| format!(", {} left", HumanDuration(left))).unwrap_or_default();
        format!("{seeds} seeds, {} a second{left}; {found}", count(rate as u64))
    }
}

impl Progress {
    /// Begins where a report ends. Without a terminal a line is written this often; never, if that is zero.
    pub(super) fn new(goal: Goal, begun: &Summary, every: Duration) -> Self {
        let watched = std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(LENGTH), target);
        let template = if matches!(goal, Goal::Signal) { "{msg}" } else { "{bar:24} {msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        let (before, now) = ((begun.done.len(), begun.wall), Instant::now());
        let every = if watched || every.is_zero() { Duration::MAX } else { every };
        Self { goal, before, started: now, bar, every, written: now, has_said_stopping: false }
    }

    /// Shows what has been found by now.
    pub(super) fn show(&mut self, summary: &Summary, is_told_to_stop: bool) {
        let (done, own_wall) = (summary.done.len(), self.started.elapsed());
        let (before, wall) = self.before;
        let pace = Pace {
            goal: self.goal,
            done,
            wall: wall.saturating_add(own_wall),
            own: done.saturating_sub(before),
            own_wall,
        };
        if !self.bar.is_hidden() {
            self.bar.set_position(pace.position());
            self.bar.set_message(pace.line(&summary.found()));
        } else if self.written.elapsed() >= self.every {
            self.written = Instant::now();
            note(&pace.line(&summary.found()));
        }
        if is_told_to_stop && !self.has_said_stopping {
            self.has_said_stopping = true;
            let stopping = "stopping: the seeds that run are finished; once more stops at once";
            self.bar.suspend(|| note(stopping));
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(goal: Goal) -> Pace {
        let [wall, own_wall] = [30, 10].map(Duration::from_secs);
        Pace { goal, done: 30_000, wall, own: 5_000, own_wall }
    }

    #[test]
    fn a_line_says_how_much_is_done_how_fast_and_how_long_it_will_go_on() {
        let line = |goal| pace(goal).line("all properties held");
        let seeds = "30,000 of 90,000 seeds, 500 a second, 2 minutes left; all properties held";
        assert_eq!(line(Goal::Seeds(90_000)), seeds);
        let time = "30,000 seeds, 500 a second, 60 seconds left; all properties held";
        assert_eq!(line(Goal::Time(Duration::from_secs(90))), time);
        assert_eq!(line(Goal::Signal), "30,000 seeds, 500 a second; all properties held");
    }

    #[test]
    fn the_bar_is_as_long_as_what_is_done() {
        let position = |goal| pace(goal).position();
        assert_eq!(position(Goal::Seeds(90_000)), 333);
        assert_eq!(position(Goal::Time(Duration::from_secs(60))), 500);
        assert_eq!(position(Goal::Time(Duration::from_secs(20))), LENGTH, "its last seeds take longer");
        assert_eq!((position(Goal::Seeds(0)), position(Goal::Signal)), (LENGTH, 0));
        let none_yet = Pace { own: 0, ..pace(Goal::Seeds(90_000)) };
        assert_eq!(none_yet.left(), None);
    }
}
