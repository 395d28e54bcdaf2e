//! Tokens: read when they are needed, and handed to git through a pipe.

use std::fmt;
use std::io::BufRead;

use anyhow::{ensure, Context, Result};

use crate::config::url::Token;
use crate::sys::credential_file::credential_path;

/// A value that no log and no error shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value, for the server that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Reads a token.
pub fn read(token: &Token) -> Result<Secret> {
    let path = token.path.display();
    let text = std::fs::read_to_string(credential_path(&token.path)).with_context(|| {
        format!("Failed to read the access token {path}, which auth.access_token_path names")
    })?;
    let text = text.trim();
    ensure!(
        !text.is_empty() && !text.contains(char::is_control),
        "The access token {path} is not one line of text"
    );
    Ok(Secret(text.to_string()))
}

/// Answers a question of git's by the protocol of git-credential(1): the token, if the question is
/// about the origin that it is for, and else nothing.
pub fn answer(origin: &str, token: &Token, question: impl BufRead) -> Result<Option<String>> {
    let (mut protocol, mut host, mut username) = (String::new(), String::new(), None);
    for line in question.lines() {
        let line = line.context("Failed to read the request of git")?;
        match line.split_once('=') {
            Some(("protocol", value)) => protocol = value.to_string(),
            Some(("host", value)) => host = value.to_string(),
            Some(("username", value)) => username = Some(value.to_string()),
            Some(_) | None => {}
        }
    }
    let is_other = username.is_some_and(|username| username != token.username);
    if is_other || !origin.eq_ignore_ascii_case(&format!("{protocol}://{host}")) {
        return Ok(None);
    }
    let (username, secret) = (&token.username, read(token)?);
    Ok(Some(format!(
        "username={username}\npassword={}\n",
        secret.expose()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Some(Secret("token".into()));
        assert_eq!(format!("{secret:?}"), "Some((secret))");
    }

    #[test]
    fn only_the_origin_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token {
            username: "me".to_string(),
            path: folder.path().join("it's a token"),
        };
        std::fs::write(&token.path, "tok3n\n").unwrap();
        let ask = |question: &str| answer("https://h:8443", &token, question.as_bytes()).unwrap();
        let right = "username=me\npassword=tok3n\n";
        assert_eq!(
            ask("capability[]=authtype\nprotocol=https\nhost=h:8443\n\n").unwrap(),
            right
        );
        assert_eq!(
            ask("protocol=https\nhost=h:8443\nusername=me\n").unwrap(),
            right
        );
        for other in [
            "",
            "protocol=http\nhost=h:8443\n",
            "protocol=https\nhost=h\n",
            "protocol=https\nhost=h:8443\nusername=you\n",
            "protocol=https\nhost=x@h:8443\n",
        ] {
            assert_eq!(ask(other), None, "{other}");
        }
        std::fs::write(&token.path, "a\nb").unwrap();
        assert!(answer("https://h", &token, "protocol=https\nhost=h\n".as_bytes()).is_err());
    }
}
