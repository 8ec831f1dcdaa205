//! Output: tables for people, one JSON object for programs.

use clap::ValueEnum;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// The format of the output.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// One JSON object
    Json,
}

impl Format {
    /// Prints one of the two. A closed pipe is not an error.
    pub(crate) fn print(self, human: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        let text = match self {
            Self::Human => human(),
            Self::Json => format!("{}\n", json()),
        };
        write(text.as_bytes());
    }
}

/// Writes bytes as they are.
pub(crate) fn write(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes a line to the error stream, which may be closed as well.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Rows under a heading, each column as wide as its cells; the last one is limited by the width of the
/// terminal.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Cells are cut where a line would be longer than [`WIDTH`].
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            out += &cut(line.trim_end(), WIDTH);
            out.push('\n');
        }
        out
    }
}

/// The widest line for people.
pub(crate) const WIDTH: usize = 100;

/// Cuts a line to this many characters, with a mark.
pub(crate) fn cut(line: &str, width: usize) -> String {
    match line.char_indices().nth(width) {
        None => line.to_owned(),
        Some(_) => line.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// Formats bytes for people: text as it is, except for control characters; all else as `\xNN`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Formats bytes for programs: a string if they are UTF-8, otherwise an object with their base64.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(base64(bytes), expected);
        }
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_shown_as_it_is() {
        assert_eq!(readable("süß".as_bytes()), "süß");
        assert_eq!(readable(b"a\x1b[2Jb\nc\\\xff"), "a\\u{1b}[2Jb\\nc\\\\\\xff");
        assert_eq!(json_bytes(b"\xff"), json!({ "base64": "/w==" }));
        assert_eq!(json_bytes(b"text"), json!("text"));
    }

    #[test]
    fn columns_are_aligned_and_lines_fit_a_terminal() {
        let mut table = Table::new(["a", "long", "last"]);
        table.row(["wide".to_owned(), "x".to_owned(), "y".repeat(200)]);
        let text = table.render();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "a     long  last");
        assert!(lines[1].starts_with("wide  x     yyy") && lines[1].ends_with('…'), "{}", lines[1]);
        assert_eq!(lines[1].chars().count(), WIDTH);
    }
}
