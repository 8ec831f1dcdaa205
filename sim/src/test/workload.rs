//! What clients of the machine under test ask.

use crate::stream::Stream;

/// Draws what clients ask of a state machine. Each run begins with a clone, which draws for all clients of
/// the run.
///
/// All choices come from `stream`, so that a seed is the same run every time. Clients are numbered from 0.
pub trait Workload {
    /// The next command of a client, as the state machine's `apply` gets it.
    fn command(&mut self, client: u64, stream: &mut Stream) -> Vec<u8>;

    /// The next query of a client, as the state machine's `query` gets it; none where the client shall send a
    /// command instead.
    fn query(&mut self, client: u64, stream: &mut Stream) -> Option<Vec<u8>> {
        let _ = (client, stream);
        None
    }

    /// A client gets the answer to what it asked: once for each command, and for each query at most. The
    /// answer may come late, when the client has asked something else since, or not at all.
    fn answered(&mut self, client: u64, request: Request<'_>, answer: &[u8]) {
        let _ = (client, request, answer);
    }

    /// Whether clients work in sessions, in which a command that is sent again takes effect once. Without
    /// them a client sends an unanswered command again all the same, and it may take effect twice.
    fn uses_sessions(&self) -> bool {
        true
    }

    /// A command in words, for the report of a failure.
    fn describe(&self, command: &[u8]) -> String {
        describe_bytes(command)
    }

    /// A query in words.
    fn describe_query(&self, query: &[u8]) -> String {
        describe_bytes(query)
    }

    /// An answer in words.
    fn describe_answer(&self, request: Request<'_>, answer: &[u8]) -> String {
        let _ = request;
        describe_bytes(answer)
    }
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// That something be done.
    Command(&'a [u8]),
    /// To be told something.
    Query(&'a [u8]),
}

/// Text as it is, anything else as hexadecimal digits.
fn describe_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_bytes_as_digits() {
        assert_eq!(describe_bytes(b"move 3"), "\"move 3\"");
        assert_eq!(describe_bytes(&[0, 255]), "00ff");
    }
}
