//! Nix: one evaluation, one build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::Deserialize;

use crate::commit::Commit;
use crate::config::Config;
use crate::credential;
use crate::paths::Paths;
use crate::process::{self, Interrupt};
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

/// Asked of `nixosConfigurations."<hostname>"`. `or null` covers configurations without our module.
const QUESTION: &str = "host: {
  derivation = host.config.system.build.toplevel.drvPath;
  out = host.config.system.build.toplevel.outPath;
  machine_id = host.config.services.comin.machineId or null;
}";

/// Evaluates the target's commit, which `reference` keeps in the mirror, and instantiates the system;
/// `None` where it was interrupted.
///
/// # Errors
/// Nix's own sentence.
pub fn evaluate(
    config: &Config,
    paths: &Paths,
    reference: &str,
    target: &Target,
    interrupt: &Interrupt,
) -> Result<Option<Evaluation>> {
    let installable = format!(
        "{}#nixosConfigurations.\"{}\"",
        flake_url(config, &paths.repository(), reference, &target.commit),
        config.hostname
    );
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes"])
        .args(["eval", "--json", &installable, "--apply", QUESTION]);
    credential::hand_on(&mut nix, paths, &config.remotes, &target.remote)?;
    let timeout = config.eval_timeout;
    let answer = process::run_unless(&mut nix, "nix eval", timeout, Some(interrupt))?;
    answer
        .map(|answer| serde_json::from_str(&answer))
        .transpose()
        .context("nix eval answered something unexpected")
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

/// Builds a derivation; `root` becomes a GC root of the result before it can be collected. Says whether
/// it came to an end, and was not interrupted.
///
/// The old command is the one that takes a derivation alike in every Nix since 2.3, streams the
/// build log by itself and registers the root in the same step.
///
/// # Errors
/// Nix's own sentence.
pub fn build(
    derivation: &str,
    root: &Path,
    timeout: Option<Duration>,
    interrupt: &Interrupt,
) -> Result<bool> {
    let mut nix = realise(Path::new(derivation), root);
    let built = process::run_unless(&mut nix, "nix build", timeout, Some(interrupt))?;
    Ok(built.is_some())
}

/// Makes `root` a GC root of a system that is there.
///
/// # Errors
/// Nix's own sentence.
pub fn keep(system: &Path, root: &Path) -> Result<()> {
    process::run(&mut realise(system, root), "nix-store --realise", None).map(|_| ())
}

fn realise(path: &Path, root: &Path) -> Command {
    let mut nix = Command::new("nix-store");
    nix.arg("--realise").arg(path);
    nix.args(["--indirect", "--add-root"]).arg(root);
    nix
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
