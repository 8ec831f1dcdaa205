//! What takes a replica's place where its directory is damaged beyond what others can mend.

use crate::replica::answer::ReplicaRefusal;
use crate::replica::ending::refuse_all;
use crate::replica::io::{Input, Output};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Display;

/// A member that cannot go on: it stays up, refuses every request, and says what is missing. It sends nothing
/// to other members and writes nothing, so that the directory stays as it is for an operator.
///
/// ```
/// use kontiki_core::replica::{Answer, Ask, Input, Output, ReplicaRefusal, Refusing};
/// use kontiki_core::types::RequestId;
///
/// let mut member = Refusing::new(&"both copies of the vote cannot be read");
/// let mut outputs = Vec::new();
/// member.handle(Input::Request { request: RequestId(1), ask: Ask::Snapshot }, &mut outputs);
/// let [Output::Answer { answer: Answer::Refused(why), .. }] = &outputs[..] else { panic!("{outputs:?}") };
/// assert!(why.to_string().contains("both copies of the vote"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusing {
    why: ReplicaRefusal,
}

impl Refusing {
    /// A member that says this: the error of [`Wal::recover`](crate::wal::Wal::recover), as a rule.
    pub fn new(missing: &impl Display) -> Self {
        Self { why: ReplicaRefusal::Damaged(missing.to_string()) }
    }

    /// Takes one input: answers whatever is asked, and leaves everything else.
    pub fn handle(&mut self, input: Input, out: &mut Vec<Output>) {
        refuse_all(input, &self.why, out);
    }
}
