//! A way through the states of a group as a script: the language of the scripts in `tests/data`.

use super::bounds::{Bounds, ReplayError, id};
use super::host::Cause;
use super::schedule::{Schedule, sent};
use super::state::{State, What};
use super::steps::Steps;
use super::violation::{Ended, Violation};
use kontiki_core::event::{Event, Reconfigure};
use kontiki_core::membership::Change;
use std::collections::BTreeMap;
use std::fmt::Write as _;

impl Schedule {
    /// The same as a script for `tests/data`. What the members do is left to `BLESS=1` to write down.
    ///
    /// # Errors
    ///
    /// If the bounds are none, or an event cannot happen where it stands.
    pub fn script(&self) -> Result<String, ReplayError> {
        let steps = self.steps()?;
        if self.bounds.ticks > 0 {
            return Err(ReplayError::Clocks);
        }
        if self.bounds.synchronous {
            return Err(ReplayError::Synchronous);
        }
        let mut later = BTreeMap::new();
        let _ = self.walk(&steps, |_, what| {
            if let What::Step(_, Cause::Receive(key)) = what {
                *later.entry(steps.post(key).message.to_string()).or_default() += 1;
            }
        })?;
        let mut script = Script { lines: beginning(&self.bounds), copies: BTreeMap::new(), later };
        let end = self.walk(&steps, |state, what| {
            let What::Step(member, cause) = what else { return };
            script.line(state, member, cause, &steps);
            let _ = steps.watched(&state.hosts[member], state.at(member, cause), &mut |taken| {
                for message in taken.actions.iter().filter_map(sent) {
                    *script.copies.entry(message.to_string()).or_default() += 1;
                }
            });
        })?;
        Ok(match end {
            Err(Ended { violation: Violation { property, detail }, .. }) => {
                format!("# {property}: {detail}\n{}----\n", script.lines)
            }
            Ok(_) => script.lines + "status\n----\n",
        })
    }
}

struct Script {
    lines: String,
    /// How many copies of each message are on their way.
    copies: BTreeMap<String, usize>,
    /// How often each message is still to arrive.
    later: BTreeMap<String, usize>,
}

impl Script {
    /// What happens to a member.
    fn line(&mut self, state: &State, member: usize, cause: Cause, steps: &Steps) {
        let (host, name) = (&state.hosts[member], id(member));
        let lines = &mut self.lines;
        let _ = match cause {
            Cause::Receive(key) => {
                let message = steps.post(key).message.to_string();
                let left = self.later.entry(message.clone()).or_default();
                *left = left.saturating_sub(1);
                let copies = self.copies.entry(message.clone()).or_default();
                if *copies == 1 && *left > 0 {
                    let _ = writeln!(lines, "duplicate \"{message}\"");
                    *copies += 1;
                }
                *copies = copies.saturating_sub(1);
                writeln!(lines, "deliver \"{message}\"")
            }
            Cause::Timeout if host.facts.is_leader => writeln!(lines, "heartbeat {name}"),
            Cause::Timeout => writeln!(lines, "campaign {name}"),
            Cause::Persisted => writeln!(lines, "persist {name}"),
            Cause::Applied => writeln!(lines, "apply {name}"),
            Cause::Crash(written) => {
                if written > 0 {
                    let _ = writeln!(lines, "flush {name} {written}");
                }
                writeln!(lines, "crash {name}\nrestart {name}")
            }
            Cause::Lose(index) => {
                if !host.writes.is_empty() {
                    let _ = writeln!(lines, "flush {name} {}", host.writes.len());
                }
                writeln!(lines, "damage {name} {index}")
            }
            Cause::Wipe => writeln!(lines, "wipe {name}"),
            Cause::Propose(number) => writeln!(lines, "propose {name} {number}"),
            Cause::Read(_) => writeln!(lines, "read {name}"),
            Cause::Transfer(_) => writeln!(lines, "transfer {name}"),
            Cause::Alarm => {
                let leader = host.raft.status().leader;
                leader.map_or(Ok(()), |leader| writeln!(lines, "unreachable {name} {leader}"))
            }
            Cause::Snapshot => writeln!(lines, "snapshot {name} {}", host.raft.status().applied),
            Cause::Change(..) => writeln!(lines, "reconfigure {name} {}", change(&steps.event(cause, host))),
        };
    }
}

fn change(event: &Event) -> String {
    let Event::Reconfigure(Reconfigure { changes, .. }) = event else { return String::new() };
    let words = changes.iter().map(|change| match change {
        Change::AddVoter(member) => format!("add-voter {}", member.id),
        Change::Remove(id) => format!("remove {id}"),
        other => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(", ") + " force"
}

fn beginning(bounds: &Bounds) -> String {
    let Bounds { members, voters, learners, led, pre_vote, .. } = *bounds;
    let Bounds { instant_disks, slow_machines, snapshots, .. } = *bounds;
    let witnesses = u8::from(bounds.witness);
    let mut lines = format!("cluster {}", voters - witnesses);
    let others = [("witnesses", witnesses), ("learners", learners), ("spares", members - voters - learners)];
    for (kind, number) in others.into_iter().filter(|(_, number)| *number > 0) {
        let _ = write!(lines, " {kind}={number}");
    }
    let _ = write!(lines, " pre_vote={pre_vote} check_quorum=false");
    if snapshots > 0 {
        lines.push_str(" retained_entries=0 retained_bytes=0");
    }
    lines.push('\n');
    if led {
        lines.push_str("elect 1\n");
    }
    for member in 1..=members {
        for (is_slow, command) in [(!instant_disks, "slow-disk"), (slow_machines, "slow-apply")] {
            if is_slow {
                let _ = writeln!(lines, "{command} {member}");
            }
        }
    }
    lines
}
