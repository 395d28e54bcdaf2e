//! OpenSSH as comin runs it: with the key and the host keys of one remote, and with nothing else.

use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::url::{Ssh, Url};
use crate::config::Remote;
use crate::sys::command;
use crate::sys::credential_file;

/// What ssh exits with when it is ssh that failed, and not the server's command.
const FAILED: i32 = 255;
/// How long ssh-keygen may take to look at a key.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of a server, as `ssh_config(5)` has them. They hold paths and no secret.
fn settings(ssh: &Ssh) -> Vec<(&'static str, String)> {
    // ssh replaces what follows a %; a path with characters that it cannot take is no `Ssh`.
    let path = |path: &Path| {
        let path = credential_file::place(path).display().to_string();
        format!("\"{}\"", path.replace('%', "%%"))
    };
    let word = str::to_string;
    vec![
        // Nobody is there to answer, and what is not known is not trusted.
        ("BatchMode", word("yes")),
        ("StrictHostKeyChecking", word("yes")),
        ("UserKnownHostsFile", path(&ssh.known_hosts)),
        ("GlobalKnownHostsFile", word("/dev/null")),
        ("UpdateHostKeys", word("no")),
        ("IdentityFile", path(&ssh.key)),
        ("IdentitiesOnly", word("yes")),
        ("IdentityAgent", word("none")),
        ("PreferredAuthentications", word("publickey")),
        // A connection that died without a word is given up where there is no timeout, too.
        ("ServerAliveInterval", word("30")),
    ]
}

/// The server of a repository. No configuration but ours has a say: neither the machine's nor root's.
pub fn upload_pack(ssh: &Ssh) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", "none"]);
    for (name, value) in settings(ssh) {
        command.arg("-o").arg(format!("{name}={value}"));
    }
    if let Some(port) = ssh.port {
        command.arg("-p").arg(port.to_string());
    }
    // The server's shell reads it, and git(1) quotes it like this.
    let path = ssh.path.replace('\'', r"'\''").replace('!', r"'\!'");
    command
        .arg("--")
        .arg(format!("{}@{}", ssh.user, ssh.host))
        .arg(format!("git-upload-pack '{path}'"));
    command
}

/// An `ssh_config` that has the settings of each remote for the remote's host, and for all others
/// what root would have without it. `remotes` are in the order in which their keys are tried.
pub fn config<'a>(remotes: impl Iterator<Item = &'a Remote>) -> Option<String> {
    let mut text = String::new();
    let mut others = "Host *".to_string();
    for remote in remotes {
        let Url::Ssh(ssh) = &remote.url else {
            continue;
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "Host {}", ssh.host);
        for (name, value) in settings(ssh) {
            let _ = writeln!(text, "  {name} {value}");
        }
        let _ = write!(others, " !{}", ssh.host);
    }
    if text.is_empty() {
        return None;
    }
    let _ = write!(
        text,
        "{others}\n  BatchMode yes\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n"
    );
    Some(text)
}

/// Whether the key can be read, which ssh itself would mention only as one of many things.
pub fn check_key(ssh: &Ssh) -> Result<()> {
    File::open(credential_file::place(&ssh.key))
        .map(drop)
        .with_context(|| {
            format!(
                "Failed to read the SSH key {}, which auth.ssh_deploy_key_path names",
                ssh.key.display()
            )
        })
}

/// What went wrong and what helps, from the last words of ssh.
pub fn sentence(ssh: &Ssh, status: ExitStatus, words: &str) -> String {
    let Ssh {
        host,
        user,
        key,
        known_hosts,
        ..
    } = ssh;
    let (key, known_hosts) = (key.display(), known_hosts.display());
    let said = spoken(words);
    let has = |text: &str| words.contains(text);
    if status.code() != Some(FAILED) {
        let missing = [
            "does not appear to be a git",
            "not found",
            "not be found",
            "does not exist",
        ];
        return if missing.into_iter().any(has) {
            format!("the server has no such repository, or hides it from this key ({said}): check the URL")
        } else {
            format!("git-upload-pack on {host}: {said}")
        };
    }
    if has("HOST IDENTIFICATION HAS CHANGED") {
        format!(
            "{host} shows another host key than the one in {known_hosts}, so it may be another machine ({said}): if its administrator confirms the new key, replace the old one"
        )
    } else if has("host key is known for") {
        let port = ssh.port.map(|port| format!("-p {port} "));
        format!(
            "the host key of {host} is not known ({said}): add it to {known_hosts}, on NixOS by programs.ssh.knownHosts; \"ssh-keyscan {}{host}\" shows it, and its administrator can confirm it",
            port.unwrap_or_default()
        )
    } else if has("UNPROTECTED PRIVATE KEY FILE") {
        format!("others may read the SSH key {key}, so ssh does not use it: chmod 600 it")
    } else if has("Load key") {
        format!("the SSH key {key} cannot be used: {said}")
    } else if has("Permission denied") {
        if wants_passphrase(&ssh.key) {
            return format!("the SSH key {key} has a passphrase, which nobody is there to enter: use a key without one");
        }
        format!(
            "{host} refuses the user {user} with the SSH key {key} ({said}): allow its public key to read the repository there"
        )
    } else if has("Could not resolve hostname") || has("connect to host") {
        format!("{host} cannot be reached: {said}")
    } else {
        format!("ssh: {said}")
    }
}

/// The last lines of what was said, in one, without the frame that ssh draws around warnings.
fn spoken(words: &str) -> String {
    const LINES: usize = 3;
    const CHARS: usize = 500;
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('@'))
        .collect();
    match lines.as_slice() {
        [] => "it ended without a word".to_string(),
        lines => {
            let last = lines[lines.len().saturating_sub(LINES)..].join(" ");
            last.chars().take(CHARS).collect()
        }
    }
}

/// Whether a key cannot be read without a passphrase. ssh passes over such a key without a word.
fn wants_passphrase(key: &Path) -> bool {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-y", "-P", "", "-f"])
        .arg(credential_file::place(key));
    let answer = command::ask(&mut keygen, "ssh-keygen", Stdio::null(), PATIENCE);
    answer.is_ok_and(|answer| {
        let mut said = answer.said();
        said.any(|line| line.contains("incorrect passphrase"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remotes(urls: &[&str]) -> Vec<Remote> {
        let remotes = urls.iter().enumerate().map(|(n, url)| {
            let auth = serde_json::json!({
                "ssh_deploy_key_path": format!("/keys/100% {n}"),
                "ssh_known_hosts_path": "/hosts",
            });
            let auth = if url.contains('@') {
                auth
            } else {
                serde_json::json!({})
            };
            serde_json::json!({"name": format!("r{n}"), "url": url, "auth": auth})
        });
        let json = serde_json::json!({"hostname": "m", "remotes": remotes.collect::<Vec<_>>()});
        crate::config::Config::for_tests(&json.to_string()).remotes
    }

    #[test]
    fn the_path_reaches_the_server_as_one_word() {
        let Url::Ssh(ssh) = &remotes(&["ssh://git@[::1]:22/it's%20me!"])[0].url else {
            unreachable!()
        };
        let command = upload_pack(ssh);
        let arguments: Vec<_> = command.get_args().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(arguments[..2], ["-F", "none"]);
        assert!(arguments.contains(&"IdentityFile=\"/keys/100%% 0\""));
        let end = &arguments[arguments.len() - 5..];
        let path = r"git-upload-pack '/it'\''s me'\!''";
        assert_eq!(end, ["-p", "22", "--", "git@::1", path]);
    }

    #[test]
    fn each_host_has_the_settings_of_its_remotes_and_no_other_has() {
        let remotes = remotes(&["git@a:r", "/r", "git@b:r", "git@a:s"]);
        let text = config(remotes.iter()).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("Host ") || line.contains("IdentityFile"))
            .collect();
        assert_eq!(
            lines,
            [
                "Host a",
                "  IdentityFile \"/keys/100%% 0\"",
                "Host b",
                "  IdentityFile \"/keys/100%% 2\"",
                "Host a",
                "  IdentityFile \"/keys/100%% 3\"",
                "Host * !a !b !a"
            ]
        );
        assert_eq!(config(remotes[1..2].iter()), None);
    }
}
