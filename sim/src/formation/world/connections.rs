//! Connections between members.

use super::{Event, HANDSHAKE_TIMEOUT, World};
use crate::formation::plan::MS;
use crate::formation::unit::{Hello, Link, Process};
use kontiki_core::replica::formation::Verdict;
use kontiki_core::types::NodeId;
use std::collections::VecDeque;

impl World<'_> {
    /// Dials every peer that a connection is wanted to and that has none.
    pub(super) fn connect(&mut self, unit: usize) {
        let Some(process) = self.units[unit].alive() else { return };
        let missing = process.wanted.iter().filter(|id| !process.links.contains_key(id)).copied();
        for peer in missing.collect::<Vec<_>>() {
            self.dial(unit, peer);
        }
    }

    /// Where there are new addresses, members are dialled at once.
    pub(super) fn spread(&mut self, unit: usize) {
        let Some(process) = self.units[unit].process.as_mut().filter(|process| process.ended.is_none())
        else {
            return;
        };
        let news = process.book.take_news();
        let waiting = |id: &NodeId| matches!(process.links.get(id), Some(Link::Waiting { .. }));
        let waiting: Vec<_> = news.into_iter().filter(waiting).collect();
        waiting.into_iter().for_each(|id| self.redial(unit, id));
    }

    pub(super) fn redial(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        if process.wanted.contains(&peer) {
            self.dial(unit, peer);
        } else {
            process.links.remove(&peer);
        }
    }

    pub(super) fn dial(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        let failures = match process.links.get(&peer) {
            Some(Link::Waiting { failures, .. }) => *failures,
            _ => 0,
        };
        let left: VecDeque<_> = process.book.to_dial(peer).into();
        if left.is_empty() {
            return self.wait(unit, peer, failures);
        }
        process.links.insert(peer, Link::Dialling { left, doubtful: None });
        self.try_next(unit, peer);
    }

    pub(super) fn wait(&mut self, unit: usize, peer: NodeId, failures: u32) {
        let until = self.now + ((50 * MS) << failures.min(6)).min(2_000 * MS);
        let Some(process) = self.units[unit].process.as_mut() else { return };
        process.links.insert(peer, Link::Waiting { until, failures: failures + 1 });
        let from = (unit, process.life);
        self.at(until, Event::Redial { from, peer });
    }

    pub(super) fn try_next(&mut self, unit: usize, peer: NodeId) {
        let Some(process) = self.units[unit].process.as_mut() else { return };
        let Some(Link::Dialling { left, doubtful }) = process.links.get_mut(&peer) else { return };
        let (next, doubtful) = (left.pop_front(), *doubtful);
        let (from, hello) = ((unit, process.life), process.hello());
        match (next, doubtful) {
            (Some(address), _) => match self.target(&address) {
                Some(target) if self.is_cut(unit, target.0) => {
                    self.after(HANDSHAKE_TIMEOUT, Event::DialEnded { from, peer, address, found: None });
                }
                Some(target) => {
                    let latency = self.latency();
                    self.after(latency, Event::Dialled { from, peer, address, target, hello });
                }
                None => {
                    let latency = self.latency();
                    self.after(latency, Event::DialEnded { from, peer, address, found: None });
                }
            },
            (None, Some((target, life))) => {
                // It is in no group of this host's, and may know all the same where members of it are.
                let theirs = self.units[target].running(life).map(|process| process.hello());
                if let (Some(hello), Some(process)) = (theirs, self.units[unit].process.as_mut()) {
                    process.book.heard(hello.id, &hello.address, &hello.known);
                }
                self.connected(unit, peer, (target, life));
                self.spread(unit);
            }
            (None, None) => self.wait(unit, peer, 3),
        }
    }

    /// A peer is dialled: it says who it is, unless it does not want to talk.
    pub(super) fn dialled(
        &mut self,
        from: usize,
        wanted: NodeId,
        target: (usize, u64),
        hello: &Hello,
    ) -> Option<(Hello, usize, u64)> {
        let process = self.units[target.0].running(target.1)?;
        let mine = process.hello();
        if mine.id == hello.id || mine.is_foreign_to(hello) {
            return None;
        }
        if !process.book.visited(wanted, hello.id, &hello.address, &hello.known) {
            self.spread(target.0);
            return None;
        }
        let process = self.units[target.0].running(target.1)?;
        // It is there: so it can perhaps be reached as well.
        if matches!(process.links.get(&hello.id), Some(Link::Waiting { .. })) {
            self.redial(target.0, hello.id);
        }
        self.spread(target.0);
        let _ = from;
        Some((mine, target.0, target.1))
    }

    pub(super) fn dial_ended(
        &mut self,
        (unit, life): (usize, u64),
        peer: NodeId,
        address: &str,
        found: Option<(Hello, usize, u64)>,
    ) {
        let now = self.instant();
        let Some(process) = self.units[unit].running(life) else { return };
        if !matches!(process.links.get(&peer), Some(Link::Dialling { .. })) {
            return;
        }
        match found {
            None => process.book.failed(peer, address, now),
            Some((hello, target, target_life)) => {
                match process.book.answered(peer, address, hello.id, &hello.groups, now) {
                    Verdict::Verified => {
                        process.book.heard(hello.id, &hello.address, &hello.known);
                        self.connected(unit, peer, (target, target_life));
                        return self.spread(unit);
                    }
                    Verdict::Doubtful => {
                        if let Some(Link::Dialling { doubtful, .. }) = process.links.get_mut(&peer) {
                            doubtful.get_or_insert((target, target_life));
                        }
                    }
                    Verdict::Other => {}
                }
            }
        }
        self.try_next(unit, peer);
    }

    pub(super) fn connected(&mut self, unit: usize, peer: NodeId, (target, life): (usize, u64)) {
        let theirs = self.units[target].alive().filter(|process| process.life == life).map(Process::hello);
        let ours = self.units[unit].alive().map(Process::hello);
        // One of them may have entered a group since they introduced themselves.
        if theirs.zip(ours).is_none_or(|(theirs, ours)| theirs.is_foreign_to(&ours)) {
            return self.wait(unit, peer, 0);
        }
        let Some(process) = self.units[unit].process.as_mut() else { return };
        process.links.insert(peer, Link::Connected { unit: target, life });
        self.trace_unit(unit, || format!("is connected with unit {target}"));
    }
}
