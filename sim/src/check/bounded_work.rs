//! Bounded Work: what happens at one instant, what happens in a heartbeat's time, what one step sends and
//! writes, and what a recovery reads are bounded by the members, the clients and their settings. Members that
//! keep each other busy, and a step that says more and more, are failures and no hangs. (A step that computes
//! without an end is found by the clock of `kontiki-sim run`.)

use super::limits::{first_beyond, largest_append};
use super::{Check, Finding, Observation};
use kontiki_core::action::{Action, Write};
use kontiki_core::config::Options;
use kontiki_core::log::Entry;
use kontiki_core::message::Body;
use kontiki_core::types::Member;

/// How much may be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many things may happen at one instant.
    at_once: u64,
    /// How many may happen in a heartbeat's time, and how long that is, in nanoseconds.
    in_a_heartbeat: u64,
    heartbeat: u64,
    /// How many messages one step may send to one member, how many of them with entries, and how many bytes
    /// of these.
    messages: u64,
    appends: u64,
    bytes: u64,
    /// How many bytes of entries one step may write.
    written: u64,
}

impl Limits {
    /// Of so many members with these settings, and so many clients.
    pub fn of(members: u64, clients: u64, options: &Options) -> Self {
        let window = (options.max_in_flight_messages as u64).max(64);
        let append = largest_append(members, options);
        Self {
            at_once: AT_ONCE + members * members + clients,
            in_a_heartbeat: 32 * members * members * window + 64 * clients,
            heartbeat: u64::try_from(options.heartbeat_interval.as_nanos()).unwrap_or(u64::MAX).max(1),
            messages: (options.max_in_flight_messages
                + options.max_waiting_answers
                + options.max_waiting_reads) as u64
                + FEW,
            appends: options.max_in_flight_messages as u64 + FEW,
            bytes: options.max_in_flight_bytes + 2 * append,
            written: options.max_uncommitted_bytes + 2 * append,
        }
    }
}

/// A host reads a snapshot back piece by piece in no time at all; each piece is one thing that happens.
const AT_ONCE: u64 = 4_000;
/// What a step sends to a member beside entries and answers: a heartbeat, an offer, a bidding and the like.
const FEW: u64 = 8;
/// How often one recovery may read a block, each piece counted for its part: for its file's header, in search
/// of a batch, as part of a batch, in search of what follows it; and all that once more where sectors that
/// cannot be read are read around.
pub const READS_OF_A_BLOCK: u64 = 8;

/// How much was done lately.
#[derive(Default, Debug)]
pub struct BoundedWork {
    /// None where no limit is known: then everything is within it.
    limits: Option<Limits>,
    instant: u64,
    at_once: u64,
    heartbeat: u64,
    in_a_heartbeat: u64,
    /// What a step sends, by member.
    sent: Vec<(Member, Sent)>,
}

/// What a step sends to a member.
#[derive(Clone, Copy, Default, Debug)]
struct Sent {
    messages: u64,
    appends: u64,
    bytes: u64,
}

impl Sent {
    fn add(&mut self, body: &Body) {
        self.messages += 1;
        if let Body::Append { slice, .. } | Body::RepairResponse { slice } = body {
            self.appends += 1;
            self.bytes += slice.entries().iter().map(Entry::size).sum::<u64>();
        }
    }
}

impl BoundedWork {
    /// Only so much may be done.
    pub fn limited_to(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// Something happens at this time, in nanoseconds.
    pub fn happens(&mut self, now: u64) -> Result<(), String> {
        let Some(limits) = self.limits else { return Ok(()) };
        let heartbeat = now / limits.heartbeat;
        if heartbeat != self.heartbeat {
            (self.heartbeat, self.in_a_heartbeat) = (heartbeat, 0);
        }
        self.in_a_heartbeat += 1;
        if self.in_a_heartbeat > limits.in_a_heartbeat {
            return Err(format!("more than {} things happen in a heartbeat's time", limits.in_a_heartbeat));
        }
        self.follows(now)
    }

    /// Something follows from that at once, at this time in nanoseconds.
    pub fn follows(&mut self, now: u64) -> Result<(), String> {
        let Some(limits) = self.limits else { return Ok(()) };
        if now != self.instant {
            (self.instant, self.at_once) = (now, 0);
        }
        self.at_once += 1;
        if self.at_once > limits.at_once {
            return Err(format!("more than {} things happen at one instant", limits.at_once));
        }
        Ok(())
    }

    fn sends(&mut self, to: Member, body: &Body) {
        let place = self.sent.iter().position(|(member, _)| *member == to).unwrap_or_else(|| {
            self.sent.push((to, Sent::default()));
            self.sent.len() - 1
        });
        self.sent[place].1.add(body);
    }
}

/// Looks at how often a recovery has read any block.
pub fn recovery_read(times: u64) -> Result<(), String> {
    if times > READS_OF_A_BLOCK {
        return Err(format!(
            "a recovery has read a block {times} times, and {READS_OF_A_BLOCK} must be enough"
        ));
    }
    Ok(())
}

impl Check for BoundedWork {
    const NAME: &'static str = "Bounded Work";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let Some(limits) = self.limits else { return Ok(()) };
        self.sent.clear();
        for action in step.actions {
            match action {
                Action::Send(message) => self.sends(message.to, &message.body),
                Action::Persist(Write { append, repaired, .. }) => {
                    let bytes: u64 = append.iter().chain(repaired.iter()).map(Entry::size).sum();
                    if bytes > limits.written {
                        return Err(
                            format!("a step writes {bytes} bytes, more than {}", limits.written).into()
                        );
                    }
                }
                _ => {}
            }
        }
        for (to, Sent { messages, appends, bytes }) in &self.sent {
            let all = [
                ("messages", *messages, limits.messages),
                ("messages with entries", *appends, limits.appends),
                ("bytes of entries", *bytes, limits.bytes),
            ];
            if let Some((what, sent, limit)) = first_beyond(all) {
                return Err(format!("a step sends {sent} {what} to {to}, more than {limit}").into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, show_actions, status};
    use super::*;
    use kontiki_core::log::{Entries, EntryBody, LogSlice};
    use kontiki_core::message::Message;
    use kontiki_core::status::RoleKind;
    use kontiki_core::types::{Ballot, ClusterId, Index, LogId, Payload, Term, WriteSeq};

    fn limited() -> BoundedWork {
        let options = Options {
            max_in_flight_messages: 2,
            max_waiting_answers: 1,
            max_in_flight_bytes: 1_000,
            max_append_bytes: 100,
            max_payload_bytes: 100,
            ..Options::default()
        };
        let mut check = BoundedWork::default();
        check.limited_to(Limits::of(3, 2, &options));
        check
    }

    fn entries(count: usize, length: usize) -> Entries {
        let body = EntryBody::Data(Payload::from(&vec![0; length][..]));
        (1..=count as u64).map(|index| Entry { id: LogId::new(1, index), body: body.clone() }).collect()
    }

    fn append(entries: Entries) -> Action {
        let slice = LogSlice::new(LogId::ZERO, entries).expect("one after the other");
        let (from, to) = (id(1).into(), id(2).into());
        let body = Body::Append { slice, commit: Index::ZERO };
        Action::Send(Message { cluster: ClusterId(1), from, to, term: Term::new(1), body })
    }

    fn step(actions: &[Action]) -> Result<(), Finding> {
        let leader = status(1, RoleKind::Leader, 1, 0);
        show_actions(&mut limited(), &leader, &leader, &[], actions, &[])
    }

    #[test]
    fn fires_where_one_thing_follows_another_at_one_instant_without_an_end() {
        let mut check = limited();
        let happen = |check: &mut BoundedWork, now| (0..4_100).try_for_each(|_| check.happens(now));
        assert!(happen(&mut check, 5).is_err());
        let mut check = limited();
        assert_eq!((0..9_000).try_for_each(|now| check.happens(now)), Ok(()), "one after the other");
    }

    #[test]
    fn fires_where_a_member_keeps_itself_busy_at_one_instant() {
        let mut check = limited();
        assert_eq!(check.happens(5), Ok(()));
        assert!((0..4_100).try_for_each(|_| check.follows(5)).is_err());
    }

    #[test]
    fn fires_where_members_keep_each_other_busy() {
        let mut check = limited();
        assert!((0..40_000_000).step_by(1_000).try_for_each(|now| check.happens(now)).is_err());
        let mut check = limited();
        assert_eq!((0..400_000_000).step_by(100_000).try_for_each(|now| check.happens(now)), Ok(()));
    }

    #[test]
    fn fires_on_a_step_that_sends_more_than_its_settings_allow() {
        assert_eq!(step(&vec![append(entries(1, 10)); 10]), Ok(()));
        assert!(step(&vec![append(entries(1, 10)); 11]).is_err(), "messages");
        assert!(step(&[append(entries(100, 100))]).is_err(), "bytes");
    }

    #[test]
    fn fires_on_a_step_that_writes_more_than_its_settings_allow() {
        let write = |append| {
            let leader = status(1, RoleKind::Leader, 1, 0);
            let write = Write {
                seq: WriteSeq::ZERO,
                ballot: Ballot::default(),
                starts: 1,
                truncate_after: None,
                rebase: None,
                repaired: Entries::EMPTY,
                append,
                committed: Index::ZERO,
            };
            let mut check = limited();
            check.limited_to(Limits { written: 1_000, ..check.limits.expect("it is limited") });
            show_actions(&mut check, &leader, &leader, &[], &[Action::Persist(write)], &[])
        };
        assert_eq!(write(entries(2, 100)), Ok(()));
        assert!(write(entries(20, 100)).is_err());
    }

    #[test]
    fn fires_on_a_recovery_that_reads_a_block_over_and_over() {
        assert_eq!(recovery_read(READS_OF_A_BLOCK), Ok(()));
        assert!(recovery_read(READS_OF_A_BLOCK + 1).is_err());
    }
}
