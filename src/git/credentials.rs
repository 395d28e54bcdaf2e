//! Credentials: tokens, read when they are needed, and what git gets of them when Nix runs it for
//! submodules and flake inputs. What it gets names files; the token itself goes through a pipe.

use std::fmt;
use std::io::BufRead;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::config::paths::Paths;
use crate::config::url::{Token, Url};
use crate::config::Remote;
use crate::git::ssh;
use crate::model::names::RemoteName;
use crate::sys::credential_file::place;
use crate::sys::fs;

/// A value that no log and no error shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Makes a value secret.
    pub fn new(value: String) -> Self {
        Self(value)
    }

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
    let text = std::fs::read_to_string(place(&token.path)).with_context(|| {
        format!("Failed to read the access token {path}, which auth.access_token_path names")
    })?;
    let text = text.trim();
    ensure!(
        !text.is_empty() && !text.contains(char::is_control),
        "The access token {path} is not one line of text"
    );
    Ok(Secret(text.to_string()))
}

/// Lets a command, and the git and ssh that it starts, reach the servers of all remotes as comin
/// does; `first` is the remote whose credentials come first where two are for one host. What git is
/// told besides, as name and value, is in `settings`.
pub fn hand_on(
    command: &mut Command,
    paths: &Paths,
    remotes: &[Remote],
    first: &RemoteName,
    mut settings: Vec<(String, String)>,
) -> Result<()> {
    let is_first = |remote: &&Remote| remote.name == *first;
    let others = remotes.iter().filter(|remote| !is_first(remote));
    let remotes: Vec<&Remote> = remotes.iter().filter(is_first).chain(others).collect();

    // Somebody who has told git already how to use ssh knows better.
    let is_told = std::env::var_os("GIT_SSH_COMMAND").is_some();
    if let Some(config) = ssh::config(remotes.iter().copied()).filter(|_| !is_told) {
        fs::replace(&paths.ssh_config(), config.as_bytes())?;
        command.env(
            "GIT_SSH_COMMAND",
            format!("ssh -F {}", quoted(&paths.ssh_config())),
        );
    }

    for remote in remotes {
        let Url::Http(http) = &remote.url else {
            continue;
        };
        let Some(token) = &http.token else { continue };
        let key = format!("credential.{}.helper", http.origin());
        // Git takes the first answer, whatever the server thinks of it.
        if settings.iter().any(|(other, _)| *other == key) {
            continue;
        }
        if http.is_on_this_machine() {
            // A proxy would ask its own machine, and be shown the token.
            let key = format!("http.{}.proxy", http.origin());
            settings.push((key, String::new()));
        }
        // The empty one takes away those of root's: they would be told the token, to keep it.
        settings.push((key.clone(), String::new()));
        settings.push((key, helper(http.origin(), token)?));
    }
    if !settings.is_empty() {
        let count = std::env::var("GIT_CONFIG_COUNT");
        let before: usize = count.ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        command.env("GIT_CONFIG_COUNT", (before + settings.len()).to_string());
        for (n, (key, value)) in settings.into_iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{}", before + n), key)
                .env(format!("GIT_CONFIG_VALUE_{}", before + n), value);
        }
    }
    // There is nobody to ask.
    command.env("GIT_TERMINAL_PROMPT", "0");
    Ok(())
}

/// How git asks for a token: by a shell that runs this program, which answers it with [`answer`].
fn helper(origin: &str, token: &Token) -> Result<String> {
    let comin = std::env::current_exe().context("Failed to find comin itself")?;
    Ok(format!(
        "!{} credential --origin {} --username {} --token {}",
        quoted(&comin),
        quoted(Path::new(origin)),
        quoted(Path::new(&token.username)),
        quoted(&std::path::absolute(&token.path)?)
    ))
}

/// A word for the shell.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

/// Answers a question of git's by the protocol of git-credential(1): the token, if the question is
/// about the origin that it is for, and else nothing.
pub fn answer(origin: &str, token: &Token, question: impl BufRead) -> Result<Option<String>> {
    let (mut protocol, mut host, mut username) = (String::new(), String::new(), None);
    for line in question.lines() {
        let line = line.context("Failed to read git's question")?;
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
        let secret = Some(Secret::new("token".into()));
        assert_eq!(format!("{secret:?}"), "Some((secret))");
    }

    #[test]
    fn the_remote_of_the_target_comes_first() {
        let json = r#"{"hostname": "m", "remotes": [
            {"name": "a", "url": "https://h/a", "auth": {"access_token_path": "/a"}},
            {"name": "b", "url": "https://h/b", "auth": {"access_token_path": "/b"}},
            {"name": "c", "url": "https://other/c", "auth": {"access_token_path": "/c"}},
            {"name": "d", "url": "https://public/d"}]}"#;
        let remotes = crate::config::Config::for_tests(json).remotes;
        let paths = Paths::outside_state(Path::new("/nonexistent"));
        let mut command = Command::new("true");
        hand_on(&mut command, &paths, &remotes, &remotes[1].name, Vec::new()).unwrap();
        let set: std::collections::BTreeMap<_, _> = command
            .get_envs()
            .map(|(name, value)| (name.to_str().unwrap(), value.unwrap().to_str().unwrap()))
            .collect();
        assert_eq!(set["GIT_CONFIG_COUNT"], "4");
        assert_eq!(set["GIT_CONFIG_KEY_1"], "credential.https://h.helper");
        assert!(set["GIT_CONFIG_VALUE_1"].ends_with("--token '/b'"));
        assert!(set["GIT_CONFIG_VALUE_3"].ends_with("--token '/c'"));
        assert_eq!(set.get("GIT_SSH_COMMAND"), None);
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
        assert!(helper("https://h", &token)
            .unwrap()
            .contains(r"it'\''s a token'"));
        std::fs::write(&token.path, "a\nb").unwrap();
        assert!(answer("https://h", &token, "protocol=https\nhost=h\n".as_bytes()).is_err());
    }
}
