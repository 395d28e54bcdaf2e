//! Nix: one evaluation, one build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::commit::Commit;
use crate::config::Config;
use crate::credential;
use crate::paths::Paths;
use crate::process;
use crate::select::Target;

/// What stays as it is in a flake URL.
const SAFE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What an evaluation tells of a system.
///
/// No key is `outPath`: Nix prints an attribute set with that key as the path alone.
#[derive(Debug, Deserialize)]
pub struct Evaluation {
    /// The derivation of the toplevel; it is in the store.
    pub derivation: String,
    /// Where the system will be.
    pub out: PathBuf,
    /// The machine that the configuration is for, if it says so.
    pub machine_id: Option<String>,
}

/// Asked of a host. `or null` covers configurations without our module.
const QUESTION: &str = "host: {
  derivation = host.config.system.build.toplevel.drvPath;
  out = host.config.system.build.toplevel.outPath;
  machine_id = host.config.services.comin.machineId or null;
}";

/// Evaluates the target's commit, which `reference` keeps in the mirror, and instantiates the system.
///
/// # Errors
/// Nix's own sentence.
pub fn evaluate(
    config: &Config,
    paths: &Paths,
    reference: &str,
    target: &Target,
) -> Result<Evaluation> {
    let url = flake_url(config, &paths.repository(), reference, &target.commit);
    let mut nix = asking(&url, &of_host(&config.hostname));
    credential::hand_on(&mut nix, paths, &config.remotes, &target.remote)?;
    answer(&mut nix, config.eval_timeout)
}

/// Evaluates a host of any flake, as whoever runs this, and instantiates its system.
///
/// # Errors
/// Nix's own sentence.
pub fn evaluate_host(flake: &str, host: &str) -> Result<Evaluation> {
    answer(&mut asking(flake, &of_host(host)), None)
}

/// The names of a flake's hosts, which may be any text.
///
/// # Errors
/// Nix's own sentence.
pub fn hosts(flake: &str) -> Result<Vec<String>> {
    answer(&mut asking(flake, "builtins.attrNames"), None)
}

/// Nix, to be asked something of all hosts of a flake.
fn asking(flake: &str, question: &str) -> Command {
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes"])
        .args(["eval", "--json", "--apply", question])
        .arg(format!("{flake}#nixosConfigurations"));
    nix
}

/// The [`QUESTION`] to one host. An attribute path could not name it: there, a quote has no escape.
fn of_host(host: &str) -> String {
    let name = literal(host);
    format!(
        "hosts: ({QUESTION}) (hosts.{name} or (throw (
          \"there is no host \" + {name} + \": nixosConfigurations has \"
          + builtins.concatStringsSep \", \" (builtins.attrNames hosts))))"
    )
}

/// A string as Nix reads it.
fn literal(text: &str) -> String {
    let mut literal = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' | '$' => literal.extend(['\\', c]),
            // Nix takes a bare one for the end of a line.
            '\r' => literal.push_str("\\r"),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

fn answer<T: DeserializeOwned>(nix: &mut Command, timeout: Option<Duration>) -> Result<T> {
    let answer = process::run(nix, "nix eval", timeout)?;
    serde_json::from_str(&answer).context("nix eval answered something unexpected")
}

fn flake_url(config: &Config, repository: &Path, reference: &str, commit: &Commit) -> String {
    let encode = |text: &str| utf8_percent_encode(text, SAFE).to_string();
    let mut url = format!(
        "git+file://{}?ref={}&rev={commit}",
        encode(&repository.to_string_lossy()),
        encode(reference)
    );
    if let Some(subdir) = &config.repository_subdir {
        url.push_str("&dir=");
        url.push_str(&encode(subdir));
    }
    if config.submodules {
        url.push_str("&submodules=1");
    }
    url
}

/// Builds a derivation; `root` becomes a GC root of the result before it can be collected.
///
/// The old command is the one that takes a derivation alike in every Nix since 2.3, streams the
/// build log by itself and registers the root in the same step.
///
/// # Errors
/// Nix's own sentence.
pub fn build(derivation: &str, root: &Path, timeout: Option<Duration>) -> Result<()> {
    let mut nix = Command::new("nix-store");
    nix.args(["--realise", derivation, "--indirect", "--add-root"])
        .arg(root);
    process::run(&mut nix, "nix build", timeout).map(|_| ())
}

/// Makes `system` the newest generation of a profile, or leaves the profile alone if it is already
/// the current one.
///
/// # Errors
/// Nix's own sentence.
pub fn set_profile(profile: &Path, system: &Path) -> Result<()> {
    let mut nix = Command::new("nix-env");
    nix.arg("--profile").arg(profile).arg("--set").arg(system);
    process::run(&mut nix, "nix-env --set", None).map(|_| ())
}

/// Takes a profile back to one of its generations.
///
/// # Errors
/// Nix's own sentence.
pub fn switch_generation(profile: &Path, generation: u64) -> Result<()> {
    let mut nix = Command::new("nix-env");
    nix.arg("--profile")
        .arg(profile)
        .arg("--switch-generation")
        .arg(generation.to_string());
    process::run(&mut nix, "nix-env --switch-generation", None).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_a_string_that_evaluates_nothing() {
        assert_eq!(literal("a.b"), r#""a.b""#);
        assert_eq!(literal("\"${x}\\\r\n"), "\"\\\"\\${x}\\\\\\r\n\"");
    }

    #[test]
    fn flake_urls_are_encoded() {
        let mut config = crate::config::for_tests();
        let commit: Commit = "a".repeat(40).parse().unwrap();
        let url = flake_url(
            &config,
            Path::new("/var/lib/a b"),
            "refs/comin/target",
            &commit,
        );
        assert_eq!(
            url,
            format!("git+file:///var/lib/a%20b?ref=refs/comin/target&rev={commit}")
        );
        config.repository_subdir = Some("a&b".to_string());
        config.submodules = true;
        let url = flake_url(&config, Path::new("/r"), "refs/comin/target", &commit);
        assert!(url.ends_with("&dir=a%26b&submodules=1"), "{url}");
    }
}
