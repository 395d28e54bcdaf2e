//! OpenSSH as comin runs it: with the key and the host keys of one remote, and with nothing else.

use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::config::url::{Ssh, Url};
use crate::config::Remote;
use crate::git::git_command::quoted;
use crate::sys::{command, credential_file};

/// The settings of a server, as `ssh_config(5)` has them. They hold paths and no secret. `place` is where ssh is to read a
/// file that the configuration names.
fn settings(ssh: &Ssh, place: impl Fn(&Path) -> PathBuf) -> Vec<(&'static str, String)> {
    // ssh replaces what follows a %; a path with characters that it cannot take is no `Ssh`.
    let path = |file: &Path| {
        let path = place(file).display().to_string();
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

/// How git is to run ssh. No configuration but ours has a say: neither the machine's nor root's.
pub fn command(ssh: &Ssh) -> String {
    let mut command = "ssh -F none".to_string();
    // Writing to a string does not fail.
    for (name, value) in settings(ssh, credential_file::credential_path) {
        let _ = write!(command, " -o {}", quoted(&format!("{name}={value}")));
    }
    if let Some(port) = ssh.port {
        let _ = write!(command, " -p {port}");
    }
    command
}

/// Where git finds the repository: in the one form in which it decodes nothing.
pub fn address(ssh: &Ssh) -> String {
    let Ssh {
        user, host, path, ..
    } = ssh;
    if host.contains(':') {
        format!("{user}@[{host}]:{path}")
    } else {
        format!("{user}@{host}:{path}")
    }
}

/// An `ssh_config` that has the settings of each remote for the remote's host, and for all others
/// what root would have without it. `remotes` are in the order in which their keys are tried, and `place` is where ssh is to
/// read a file that the configuration names.
pub fn config<'a>(
    remotes: impl Iterator<Item = &'a Remote>,
    place: impl Fn(&Path) -> PathBuf,
) -> Option<String> {
    let mut text = String::new();
    let mut others = "Host *".to_string();
    for remote in remotes {
        let Url::Ssh(ssh) = &remote.url else {
            continue;
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "Host {}", ssh.host);
        for (name, value) in settings(ssh, &place) {
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
    File::open(credential_file::credential_path(&ssh.key))
        .map(drop)
        .with_context(|| {
            format!(
                "Failed to read the SSH key {}, which auth.ssh_deploy_key_path names",
                ssh.key.display()
            )
        })
}

/// What went wrong and what helps, from the last words of ssh and git. `said` are the same, for a person.
pub fn cure(ssh: &Ssh, words: &str, said: &str) -> String {
    let Ssh {
        host,
        user,
        key,
        known_hosts,
        ..
    } = ssh;
    let (key, known_hosts) = (key.display(), known_hosts.display());
    let has = |text: &str| words.contains(text);
    if has("HOST IDENTIFICATION HAS CHANGED") {
        format!(
            "{host} shows another host key than the one in {known_hosts}, so it may be another machine ({said}). If its administrator confirms the new key, replace the old one"
        )
    } else if has("host key is known for") {
        let port = ssh.port.map(|port| format!("-p {port} "));
        format!(
            "the host key of {host} is not known ({said}): add it to {known_hosts}, on NixOS with programs.ssh.knownHosts. \"ssh-keyscan {}{host}\" shows it, and its administrator can confirm it",
            port.unwrap_or_default()
        )
    } else if has("UNPROTECTED PRIVATE KEY FILE") {
        format!("others may read the SSH key {key}, so ssh does not use it: chmod 600 it")
    } else if has("Load key") {
        let has_no_end = std::fs::read(credential_file::credential_path(&ssh.key))
            .is_ok_and(|key| key.last().is_some_and(|byte| *byte != b'\n'));
        if has_no_end {
            format!("the SSH key {key} has no line break at its end, which ssh needs: add one")
        } else {
            format!("the SSH key {key} cannot be used: {said}")
        }
    } else if has("Permission denied") {
        if wants_passphrase(&ssh.key) {
            return format!("the SSH key {key} has a passphrase, which nobody is there to enter: use a key without one");
        }
        format!(
            "{host} refuses the user {user} with the SSH key {key} ({said}): allow its public key to read the repository there"
        )
    } else if has("ssh: not found") || has("ssh: command not found") {
        "ssh cannot be started: is it installed?".to_string()
    } else if has("Could not resolve hostname") || has("connect to host") {
        format!("{host} cannot be reached: {said}")
    } else if [
        "does not appear to be a git",
        "not found",
        "not be found",
        "does not exist",
    ]
    .into_iter()
    .any(has)
    {
        format!(
            "the server has no such repository, or hides it from this key ({said}): check the URL"
        )
    } else {
        format!("{host}: {said}")
    }
}

/// Whether a key cannot be read without a passphrase. ssh passes over such a key without a word.
fn wants_passphrase(key: &Path) -> bool {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-y", "-P", "", "-f"])
        .arg(credential_file::credential_path(key));
    let answer = command::ask(&mut keygen, "ssh-keygen", Stdio::null(), command::PATIENCE);
    answer.is_ok_and(|answer| {
        let mut said = answer.stderr_lines();
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
    fn git_is_told_how_to_run_ssh_and_where_the_repository_is() {
        let Url::Ssh(ssh) = &remotes(&["ssh://git@[::1]:22/it's%20me!"])[0].url else {
            unreachable!()
        };
        let command = command(ssh);
        assert!(command.starts_with("ssh -F none -o 'BatchMode=yes' "));
        assert!(command.contains(" -o 'IdentityFile=\"/keys/100%% 0\"' "));
        assert!(command.ends_with(" -p 22"));
        assert_eq!(address(ssh), "git@[::1]:/it's me!");
    }

    #[test]
    fn each_host_has_the_settings_of_its_remotes_and_no_other_has() {
        let remotes = remotes(&["git@a:r", "/r", "git@b:r", "git@a:s"]);
        let text = config(remotes.iter(), Path::to_path_buf).unwrap();
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
        assert_eq!(config(remotes[1..2].iter(), Path::to_path_buf), None);
    }
}
