//! The secret that operators bring.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// The fewest bytes of a token.
pub const MIN_TOKEN: usize = 16;
/// The most.
pub const MAX_TOKEN: usize = 1024;

/// What whoever asks something of the admin port must bring. Never empty; 16 to 1024 visible ASCII
/// characters. Make one with `openssl rand -hex 32`.
#[derive(Clone)]
pub struct Token(String);

/// Why something is no token.
#[derive(Debug)]
pub enum TokenError {
    /// There is nothing in it.
    Empty,
    /// It is easy to guess: it has so few bytes.
    TooShort(usize),
    /// It has more bytes than a header should have.
    TooLong,
    /// It has characters that a header cannot have: spaces, control characters, or what is not ASCII.
    Characters,
    /// Its file cannot be read.
    File(PathBuf, io::Error),
    /// What is in this file is no token.
    InFile(PathBuf, Box<TokenError>),
}

impl Token {
    /// Takes this as a token.
    ///
    /// ```
    /// use kontiki_net_tokio::admin::{Token, TokenError};
    ///
    /// assert!(Token::new("0f9d3f1f6fd0a7c2b45e").is_ok());
    /// assert!(matches!(Token::new("hunter2"), Err(TokenError::TooShort(7))));
    /// ```
    pub fn new(text: impl Into<String>) -> Result<Self, TokenError> {
        let text = text.into();
        match text.len() {
            0 => Err(TokenError::Empty),
            length if length < MIN_TOKEN => Err(TokenError::TooShort(length)),
            length if length > MAX_TOKEN => Err(TokenError::TooLong),
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(TokenError::Characters),
            _ => Ok(Self(text)),
        }
    }

    /// Reads it from a file; white space around it does not count. Warns in the log where other users may
    /// read the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let failed = |error| TokenError::File(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        if is_shared(&file).map_err(failed)? {
            tracing::warn!(
                path = %path.display(),
                "other users may read or change the token's file: chmod 600 it, and make a new token"
            );
        }
        let mut bytes = Vec::new();
        // What is longer, with a little white space, is no token, and need not be read.
        file.take(2 * MAX_TOKEN as u64).read_to_end(&mut bytes).map_err(failed)?;
        let text = str::from_utf8(&bytes).map_err(|_| TokenError::Characters).map(str::trim);
        text.and_then(Self::new).map_err(|error| TokenError::InFile(path.to_owned(), Box::new(error)))
    }

    /// Whether this is the token. It takes as long for one that is wrong in its first character as in its
    /// last; the length is no secret.
    pub(super) fn is(&self, brought: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(brought).into()
    }
}

/// Whether others than the file's owner have any right to it.
#[cfg(unix)]
fn is_shared(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_shared(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// Not the secret itself.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the token is empty: make one, with `openssl rand -hex 32`"),
            Self::TooShort(length) => write!(
                f,
                "the token has {length} bytes and could be guessed: it needs {MIN_TOKEN}, make one with `openssl rand -hex 32`"
            ),
            Self::TooLong => write!(f, "the token is too long: {MAX_TOKEN} bytes at most"),
            Self::Characters => f.write_str(
                "the token cannot be sent in a header: use visible ASCII characters, without spaces",
            ),
            Self::File(path, error) => write!(f, "cannot read the token's file {}: {error}", path.display()),
            Self::InFile(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, error) => Some(error),
            Self::InFile(_, error) => Some(error),
            Self::Empty | Self::TooShort(_) | Self::TooLong | Self::Characters => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_token_is_never_empty_short_or_unspeakable() {
        assert!(matches!(Token::new(""), Err(TokenError::Empty)));
        assert!(matches!(Token::new("x".repeat(15)), Err(TokenError::TooShort(15))));
        assert!(matches!(Token::new("x".repeat(MAX_TOKEN + 1)), Err(TokenError::TooLong)));
        assert!(matches!(Token::new("sixteen bytes or more"), Err(TokenError::Characters)));
        let token = Token::new("x".repeat(16)).expect("long enough");
        assert!(token.is(&[b'x'; 16]) && !token.is(&[b'x'; 15]) && !token.is(b""));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_file_may_end_with_a_line_and_says_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        fs::write(&path, "0123456789abcdef\n").expect("written");
        assert!(Token::from_file(&path).expect("a token").is(b"0123456789abcdef"));
        for (bytes, complaint) in [
            (&b"\n"[..], "is empty"),
            (b"short\n", "has 5 bytes"),
            (b"\xff\xfe\xff\xfe", "visible ASCII"),
            (&[b'x'; 5000], "too long"),
        ] {
            fs::write(&path, bytes).expect("written");
            let error = Token::from_file(&path).expect_err("no token").to_string();
            assert!(error.contains(complaint) && error.contains("token"), "{error}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(matches!(Token::from_file(&path), Err(TokenError::File(..))));
    }
}
