//! What git is told by its environment: by comin, and by the Nix that comin runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::url::{Http, Token, Url};
use crate::config::{paths::Paths, Remote};
use crate::git::{git_command::quoted, ssh, submodules};
use crate::model::RemoteName;
use crate::sys::{credential_file, fs};

/// Names and values of variables.
pub type Variables = Vec<(String, String)>;

/// More memory than git needs at once for anything that is well-meant: larger files are never in memory as a whole.
pub(super) const LARGEST_ALLOCATION: &str = "256m";
/// A file that is larger is copied in pieces, and not compared with others.
const LARGE_FILE: &str = "16m";
/// How long a server may send nothing.
const SILENCE: Duration = Duration::from_secs(120);
/// Faults in commits and trees that git of old made, and that harm nobody.
const HARMLESS: [&str; 3] = [
    "zeroPaddedFilemode",
    "badTimezone",
    "missingSpaceBeforeDate",
];

/// For a git that fetches a remote into a repository beside the mirror: nobody's settings, the remote's credentials,
/// and bounds.
pub fn for_fetch(remote: &Remote) -> Result<Variables> {
    let mut settings: Variables = [
        ("core.hooksPath", "/dev/null"),
        ("core.bigFileThreshold", LARGE_FILE),
        ("fetch.fsckObjects", "true"),
        // A pack arrives whole or not at all.
        ("fetch.unpackLimit", "1"),
        // Threads that check objects wait for each other most of the time.
        ("pack.threads", "1"),
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", &SILENCE.as_secs().to_string()),
    ]
    .map(owned)
    .into();
    for fault in HARMLESS {
        settings.push(owned((&format!("fetch.fsck.{fault}"), "ignore")));
    }
    let mut variables: Variables = [
        ("GIT_ASKPASS", ""),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_ALLOC_LIMIT", LARGEST_ALLOCATION),
        // A cure is found by git's words.
        ("LC_ALL", "C"),
        // curl would look for passwords in there.
        ("HOME", "/dev/null"),
    ]
    .map(owned)
    .into();
    let protocols = match &remote.url {
        Url::Local(_) => "file",
        Url::Ssh(ssh) => {
            variables.push(owned(("GIT_SSH_VARIANT", "ssh")));
            variables.push(owned(("GIT_SSH_COMMAND", &ssh::command(ssh))));
            "ssh"
        }
        Url::Http(http) => {
            settings.extend(settings_of(http)?);
            variables.extend(certificates());
            // A redirection may begin to encrypt, and not end it.
            if http.url.starts_with("https://") {
                "https"
            } else {
                "http:https"
            }
        }
    };
    variables.push(owned(("GIT_ALLOW_PROTOCOL", protocols)));
    variables.extend(as_variables(settings, 0));
    Ok(variables)
}

/// For Nix, and the git and ssh that it starts, so that they reach the servers of all remotes as comin does; `first` is
/// the remote whose credentials come first where two are for one host. A user who is not root is `handed` copies of the
/// credentials in a folder.
pub fn for_nix(
    paths: &Paths,
    remotes: &[Remote],
    first: &RemoteName,
    handed: Option<&Path>,
) -> Result<Variables> {
    let is_first = |remote: &&Remote| remote.name == *first;
    let others = remotes.iter().filter(|remote| !is_first(remote));
    let remotes: Vec<&Remote> = remotes.iter().filter(is_first).chain(others).collect();
    // A flake may ask for its submodules itself.
    let mut settings = match remotes.first().filter(|it| is_first(it)) {
        Some(first) => submodules::settings(paths, first)?,
        None => Vec::new(),
    };

    let mut variables = vec![owned(("GIT_NO_REPLACE_OBJECTS", "1"))];
    variables.extend(certificates());
    // Somebody who has told git already how to use ssh knows better.
    let is_told = std::env::var_os("GIT_SSH_COMMAND").is_some();
    let place = |file: &Path| match handed {
        Some(folder) => credential_file::copy_in(folder, file),
        None => credential_file::credential_path(file),
    };
    if let Some(config) = ssh::config(remotes.iter().copied(), place).filter(|_| !is_told) {
        fs::replace(&paths.ssh_config(), config.as_bytes())?;
        let file = quoted(&paths.ssh_config().display().to_string());
        variables.push(owned(("GIT_SSH_COMMAND", &format!("ssh -F {file}"))));
    }

    for remote in remotes {
        let Url::Http(http) = &remote.url else {
            continue;
        };
        // Git takes the first answer, whatever the server thinks of it.
        let key = credential_helper(http);
        if http.token.is_some() && !settings.iter().any(|(other, _)| *other == key) {
            settings.extend(settings_of(http)?);
        }
    }
    let count = std::env::var("GIT_CONFIG_COUNT");
    let before = count.ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    variables.extend(as_variables(settings, before));
    Ok(variables)
}

/// What git is told of a server.
fn settings_of(http: &Http) -> Result<Variables> {
    let mut settings = Vec::new();
    if http.is_on_this_machine() {
        // A proxy would ask its own machine, and be shown the token.
        settings.push((format!("http.{}.proxy", http.origin()), String::new()));
    }
    if let Some(token) = &http.token {
        let key = credential_helper(http);
        // The empty one takes away those of root's: they would be told the token, to keep it.
        settings.push((key.clone(), String::new()));
        settings.push((key, helper(http.origin(), token)?));
    }
    Ok(settings)
}

/// The certificates that git is to trust if other programs are told by their variables which to trust.
fn certificates() -> Option<(String, String)> {
    let mut names = ["GIT_SSL_CAINFO", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE"].into_iter();
    let file = names.find_map(|name| std::env::var(name).ok())?;
    Some(owned(("GIT_SSL_CAINFO", &file)))
}

fn credential_helper(http: &Http) -> String {
    format!("credential.{}.helper", http.origin())
}

/// How git asks for a token: by a shell that runs this program, which answers it with
/// [`answer`](super::credentials::answer).
fn helper(origin: &str, token: &Token) -> Result<String> {
    let comin = std::env::current_exe().context("Failed to find the comin program")?;
    let quoted_path = |path: &Path| quoted(&path.display().to_string());
    Ok(format!(
        "!{} credential --origin {} --username {} --token {}",
        quoted_path(&comin),
        quoted(origin),
        quoted(&token.username),
        quoted_path(&std::path::absolute(&token.path)?)
    ))
}

/// Settings as git takes them from its environment, after so many others.
fn as_variables(settings: Variables, before: usize) -> Variables {
    // There is nobody to ask.
    let mut variables = vec![owned(("GIT_TERMINAL_PROMPT", "0"))];
    let count = before + settings.len();
    for (n, (key, value)) in (before..).zip(settings) {
        variables.push((format!("GIT_CONFIG_KEY_{n}"), key));
        variables.push((format!("GIT_CONFIG_VALUE_{n}"), value));
    }
    variables.push(owned(("GIT_CONFIG_COUNT", &count.to_string())));
    variables
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_string(), value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_of_the_target_comes_first() {
        let json = r#"{"hostname": "m", "remotes": [
            {"name": "a", "url": "https://h/a", "auth": {"access_token_path": "/a"}},
            {"name": "b", "url": "https://h/b", "auth": {"access_token_path": "/it's b"}},
            {"name": "c", "url": "https://other/c", "auth": {"access_token_path": "/c"}},
            {"name": "d", "url": "https://public/d"}]}"#;
        let remotes = crate::config::Config::for_tests(json).remotes;
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), Path::new("/state"));
        std::fs::create_dir_all(paths.repository()).unwrap();
        let set = for_nix(&paths, &remotes, &remotes[1].name, None).unwrap();
        let set: std::collections::BTreeMap<_, _> = set.into_iter().collect();
        assert_eq!(set["GIT_CONFIG_COUNT"], "5");
        assert_eq!(set["GIT_CONFIG_KEY_2"], "credential.https://h.helper");
        assert!(set["GIT_CONFIG_VALUE_2"].ends_with(r"--token '/it'\''s b'"));
        assert!(set["GIT_CONFIG_VALUE_4"].ends_with("--token '/c'"));
        assert_eq!(set.get("GIT_SSH_COMMAND"), None);
    }
}
