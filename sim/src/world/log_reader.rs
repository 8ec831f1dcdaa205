//! Asks members for pages of their logs, and looks at the answers (see [`crate::log_reader`]).

use super::{Happening, World};
use crate::application::Application;
use crate::check::Checked;
use crate::check::log_reads::{Asked, NAME, Read, Reader};
use crate::log_reader::{FIRST, MAX_BYTES, Open};
use crate::report::Mark;
use kontiki_core::replica::{Answer, Ask, Input, Lane};
use kontiki_core::types::RequestId;

impl<A: Application> World<'_, A> {
    pub(super) fn read_log(&mut self) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let pause = self.log_reader.pause();
        self.schedule(self.now + pause, Happening::ReadLog);
        let members = self.hosts.len();
        let is_busy = |member: &usize| {
            self.running(*member).is_some_and(|running| !running.lane(Lane::Bulk).is_empty())
        };
        let busy: Vec<_> = (0..members).filter(is_busy).collect();
        let is_damaged = |member: &usize| self.hosts[*member].body.is_damaged();
        let damaged: Vec<_> = (0..members).filter(is_damaged).collect();
        let member = self.log_reader.member(members, &busy, &damaged);
        let Some(running) = self.running(member) else { return Ok(()) };
        let (log, options) = (running.replica.raft().log(), running.replica.options());
        let (max_entries, page_bytes) = (options.max_page_entries, options.max_page_bytes);
        let (base, last) = (log.base(), log.last().index);
        let reader = &mut self.log_reader;
        let range = reader.range(member, base, last);
        let max_bytes = reader.stream.skewed(1, MAX_BYTES);
        reader.requests += 1;
        let request = RequestId(FIRST + reader.requests);
        let asked = Asked { range, max_bytes: max_bytes.min(page_bytes), max_entries };
        reader.open.insert(request, Open { member, life: self.hosts[member].life, asked });
        self.tell_input(member, Input::Request { request, ask: Ask::Entries { range, max_bytes } })
    }

    /// Whether this is the answer to one of its requests.
    pub(super) fn is_log_read(request: RequestId) -> bool {
        (FIRST..FIRST << 1).contains(&request.0)
    }

    pub(super) fn log_was_read(&mut self, member: usize, request: RequestId, answer: &Answer) -> Checked {
        let id = self.hosts[member].id;
        let wrong = |what: String| (NAME, format!("member {id}: {what}"));
        let Some(Open { asked, .. }) = self.log_reader.open.remove(&request) else {
            return Err(wrong(format!("a request was answered twice, at last: {answer}")).into());
        };
        let host = &self.hosts[member];
        let (is_damaged, is_witness) = (host.body.is_damaged(), host.spec.witness);
        let Some(running) = self.running(member) else { return Ok(()) };
        let log = running.replica.raft().log();
        let (base, last) = (log.base(), log.last().index);
        let committed = self.checks.log();
        let reader = Reader { base, last, committed, is_damaged, is_witness };
        match reader.judge(asked, answer).map_err(wrong)? {
            Read::Entries => self.counters.mark(Mark::LogRead),
            Read::Compacted => self.counters.mark(Mark::LogReadCompacted),
            Read::Unreadable => self.counters.mark(Mark::LogReadUnreadable),
            Read::Refused => {}
        }
        Ok(())
    }

    /// The world has come to rest: what was asked of members that have lived on since, and whose disks work,
    /// is answered.
    pub(super) fn check_log_reads(&self) -> Checked {
        let unanswered = |open: &&Open| {
            let host = &self.hosts[open.member];
            self.core.contains(&open.member) && host.up.is_some() && host.life == open.life
        };
        match self.log_reader.open.values().find(unanswered) {
            None => Ok(()),
            Some(Open { member, asked, .. }) => {
                let id = self.hosts[*member].id;
                Err((NAME, format!("member {id} was asked for {:?} and has not answered", asked.range))
                    .into())
            }
        }
    }
}
