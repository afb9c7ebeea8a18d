//! The bearer token of the admin API.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The token's digest: what is compared takes the same time whatever was sent, and the token
/// itself is not kept.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("cannot read the admin token {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the admin token {} has {length} characters; at least {TOKEN_MIN}", path.display())]
    Short { path: PathBuf, length: usize },
}

impl Token {
    /// Reads the token file; white space around the token does not count.
    pub(crate) fn load(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        let token = text.trim();
        if token.len() < TOKEN_MIN {
            return Err(TokenError::Short { path: path.to_owned(), length: token.len() });
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// Whether an `Authorization` header carries this token (RFC 6750 section 2.1).
    pub(crate) fn admits(&self, authorization: Option<&str>) -> bool {
        let sent = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| <[u8; 32]>::from(Sha256::digest(token.trim())));
        sent == Some(self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Characters of a token; 16 random ones in hexadecimal carry 64 bits.
const TOKEN_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_the_token_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let token = Token::load(file.path()).unwrap();
        for (sent, admitted) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer  0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer "), false),
            (Some("Basic 0123456789abcdef"), false),
            (Some("0123456789abcdef"), false),
            (None, false),
        ] {
            assert_eq!(token.admits(sent), admitted, "{sent:?}");
        }
    }

    #[test]
    fn refuses_a_token_that_can_be_guessed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " secret \n").unwrap();
        let error = Token::load(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("6 characters; at least 16"), "{error}");
    }
}
