//! The bearer token of the admin port.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// The fewest bytes of a token.
pub const MIN_TOKEN: usize = 16;
/// The most bytes of a token.
pub const MAX_TOKEN: usize = 1024;

/// The secret that clients of the admin port send. 16 to 1024 visible ASCII characters. Make one with
/// `openssl rand -hex 32`.
#[derive(Clone)]
pub struct Token(String);

/// The reason a text is not a valid token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is empty.
    #[error("the token is empty: make one, with `openssl rand -hex 32`")]
    Empty,
    /// It is so short that it could be guessed; its length in bytes.
    #[error(
        "the token has {0} bytes and could be guessed: it needs {MIN_TOKEN}, make one with `openssl rand -hex 32`"
    )]
    TooShort(usize),
    /// It is too long for a header.
    #[error("the token is too long: {MAX_TOKEN} bytes at most")]
    TooLong,
    /// It contains characters that a header cannot: spaces, control characters, or non-ASCII characters.
    #[error("the token cannot be sent in a header: use visible ASCII characters, without spaces")]
    Characters,
    /// Its file cannot be read.
    #[error("cannot read the token's file {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The content of this file is not a valid token.
    #[error("{0}: {1}")]
    InFile(PathBuf, #[source] Box<TokenError>),
}

impl Token {
    /// Returns a token with this text.
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

    /// Reads a token from a file, without surrounding white space. Logs a warning if other users may read the
    /// file.
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
        // A longer file is not a valid token, and need not be read.
        file.take(2 * MAX_TOKEN as u64).read_to_end(&mut bytes).map_err(failed)?;
        let text = str::from_utf8(&bytes).map_err(|_| TokenError::Characters).map(str::trim);
        text.and_then(Self::new).map_err(|error| TokenError::InFile(path.to_owned(), Box::new(error)))
    }

    /// Compares in constant time: a wrong first character takes as long as a wrong last one. The length is
    /// not secret.
    pub(super) fn is(&self, brought: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(brought).into()
    }
}

/// Returns whether users other than the file's owner have access to it.
#[cfg(unix)]
fn is_shared(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_shared(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// The secret is not shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
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
