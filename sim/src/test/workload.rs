//! What clients of the machine under test ask.

use crate::stream::Stream;

/// Draws what clients ask of a state machine. Each run begins with a clone, which draws for all clients of the
/// run.
///
/// All choices come from `stream`, so that a seed is the same run every time.
pub trait Workload {
    /// The next command, as the state machine's `apply` gets it.
    fn command(&mut self, stream: &mut Stream) -> Vec<u8>;

    /// The next query, as the state machine's `query` gets it; none where the client shall send a command
    /// instead.
    fn query(&mut self, stream: &mut Stream) -> Option<Vec<u8>> {
        let _ = stream;
        None
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
