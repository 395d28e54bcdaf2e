//! Nix: one evaluation, one build.

pub mod closure_diff;
mod command;
pub mod evaluator;
pub mod events;
mod restricted;
pub mod signatures;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::config::{paths::TARGET_REF, Config, RepositoryType};
use crate::model::{store_path, Commit};
use crate::sys::command::{query, run_interruptible, Interrupt, PATIENCE};
use crate::sys::text::shortened;
use command::nix;
pub use command::settings;
use evaluator::Evaluator;
use events::NixLog;

/// What stays as it is in a URL.
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

impl Evaluation {
    /// What a configuration says of itself may be anything.
    fn checked(self) -> Result<Self> {
        for path in [Path::new(&self.derivation), &self.out] {
            ensure!(
                store_path::is_valid(path),
                "The system's path is not a store path: {}",
                shortened(&path.to_string_lossy(), store_path::LONGEST)
            );
        }
        // Another file is a program to Nix, which it would run as root, without the bounds of a flake.
        ensure!(
            store_path::is_derivation(Path::new(&self.derivation)),
            "The system has no derivation, but {}",
            self.derivation
        );
        Ok(self)
    }
}

/// Asked of a flake's `nixosConfigurations."<hostname>"`, and of what `system_attr` selects: what
/// `lib.nixosSystem`, `import <nixpkgs/nixos>` or `pkgs.nixos` return, a set with the `toplevel`
/// alone, or the toplevel itself. `or null` covers those without our module.
const QUESTION: &str = "system:
let
  toplevel = system.config.system.build.toplevel or system.toplevel or system;
in
{
  derivation = toplevel.drvPath or (throw
    \"this is not a NixOS system: it has neither config.system.build.toplevel nor toplevel, and is not a derivation\");
  out = toplevel.outPath;
  machine_id = system.config.services.comin.machineId or null;
}";

/// Evaluates the target's commit in a repository that keeps it as [`TARGET_REF`], and instantiates the system;
/// `None` where it was interrupted.
pub fn evaluate(
    config: &Config,
    repository: &Path,
    commit: &Commit,
    evaluator: Evaluator,
    interrupt: Option<&Interrupt>,
) -> Result<Option<Evaluation>> {
    let mut nix = match &config.repository_type {
        RepositoryType::Flake => {
            let flake = flake_url(config, repository, commit);
            let question = of_host(&config.hostname);
            if config.is_guarded() {
                // An input without a lock would be copied before it is missed, but for this one.
                let hosts = format!(
                    "(builtins.getFlake {}).nixosConfigurations",
                    literal(&flake)
                );
                let mut nix = eval(&question);
                nix.args(["--expr", &hosts]);
                nix
            } else {
                let mut nix = asking(&flake, &question);
                // It would be written into the mirror.
                nix.arg("--no-update-lock-file");
                nix
            }
        }
        RepositoryType::Nix { system_attr } => {
            let contained = expression(config, repository, commit);
            let mut nix = eval(QUESTION);
            // Impure: without a lock file, nixpkgs is what NIX_PATH says.
            nix.args(["--impure", "--expr", &contained])
                .args(system_attr);
            nix
        }
    };
    if config.is_guarded() {
        let folder = file_url(repository.parent().unwrap_or(repository));
        restricted::restrict(&mut nix, repository, &folder);
    }
    let once = |nix: &mut Command| run_until(nix, "nix eval", config.eval_timeout, interrupt);
    evaluator
        .run(nix, once)?
        .map(|answer| understand::<Evaluation>(&answer)?.checked())
        .transpose()
}

/// Evaluates a host of any flake, as whoever runs this, and instantiates its system.
pub fn evaluate_host(flake: &str, host: &str) -> Result<Evaluation> {
    let answer = run(&mut asking(flake, &of_host(host)), "nix eval")?;
    understand::<Evaluation>(&answer)?.checked()
}

/// Runs a Nix to its end.
fn run(nix: &mut Command, what: &str) -> Result<String> {
    run_until(nix, what, None, None)?.with_context(|| format!("{what} was stopped"))
}

/// [`run`]; `None` if it was interrupted.
fn run_until(
    nix: &mut Command,
    what: &str,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
) -> Result<Option<String>> {
    nix.args(["--log-format", "internal-json"]);
    run_interruptible::<NixLog>(nix, what, timeout, interrupt)
}

/// The names of a flake's hosts, which may be any text.
pub fn hosts(flake: &str) -> Result<Vec<String>> {
    understand(&run(&mut asking(flake, "builtins.attrNames"), "nix eval")?)
}

/// Nix, to be asked something of all hosts of a flake.
fn asking(flake: &str, question: &str) -> Command {
    let mut nix = eval(question);
    nix.arg(format!("{flake}#nixosConfigurations"));
    nix
}

fn eval(question: &str) -> Command {
    let mut nix = nix();
    nix.args(["eval", "--json", "--apply", question]);
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

fn understand<T: DeserializeOwned>(answer: &str) -> Result<T> {
    serde_json::from_str(answer).context("nix eval answered something unexpected")
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, SAFE).to_string()
}

fn file_url(path: &Path) -> String {
    format!("file://{}", encode(&path.to_string_lossy()))
}

/// Where the files of a commit are for Nix.
pub fn flake_url(config: &Config, repository: &Path, commit: &Commit) -> String {
    let repository = file_url(repository);
    let mut url = format!("git+{repository}?ref={TARGET_REF}&rev={commit}");
    if let Some(subdir) = &config.repository_subdir {
        url.push_str("&dir=");
        url.push_str(&encode(subdir));
    }
    if config.submodules {
        url.push_str("&submodules=1");
    }
    url
}

/// What a repository without a flake contains, as a Nix expression: the same files of the same commit.
///
/// Called if it is a function, as `nix-build` calls it. `shallow` saves counting the commits, which
/// nobody asks for.
fn expression(config: &Config, repository: &Path, commit: &Commit) -> String {
    let folder = config.repository_subdir.as_ref();
    format!(
        "let
  files = builtins.fetchGit {{
    url = {};
    ref = {};
    rev = {};
    submodules = {};
    shallow = true;
  }};
  contained = import (files + {});
in
if builtins.isFunction contained then contained {{ }} else contained",
        literal(&file_url(repository)),
        literal(TARGET_REF),
        literal(commit.as_str()),
        config.submodules,
        literal(&folder.map_or(String::new(), |folder| format!("/{folder}"))),
    )
}

/// Builds a derivation, or fetches a system that was built elsewhere; `root` becomes a GC root of the result before it
/// can be collected. Says whether it came to an end, and was not interrupted.
///
/// The old command is the one that takes a derivation alike in every Nix since 2.3, streams the
/// build log by itself and registers the root in the same step.
pub fn build(
    path: &Path,
    root: &Path,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
) -> Result<bool> {
    let mut nix = realise(path, root);
    let built = run_until(&mut nix, "nix build", timeout, interrupt)?;
    Ok(built.is_some())
}

/// Asks a binary cache whether it is there, and Nix whether it has the key and the means to copy to it.
pub fn check_cache(cache: &str) -> Result<()> {
    // Newer ones call it `info`, and know this name as well.
    let mut nix = nix();
    nix.args(["store", "ping", "--store", cache]);
    query(&mut nix, "nix store ping", PATIENCE).map(drop)
}

/// Copies systems to a binary cache.
pub fn copy_to(cache: &str, systems: &[&Path]) -> Result<()> {
    let mut nix = nix();
    nix.args(["copy", "--to", cache]).args(systems);
    run(&mut nix, "nix copy").map(drop)
}

/// Makes `root` a GC root of a system that is there.
pub fn add_gc_root(system: &Path, root: &Path) -> Result<()> {
    run(&mut realise(system, root), "nix-store --realise").map(drop)
}

/// Makes `root` a GC root of a derivation, without building it.
pub fn add_gc_root_of_derivation(derivation: &str, root: &Path) -> Result<()> {
    // nix-store would build it; an import of a derivation's file evaluates to that derivation. Such a file has been
    // told by its name: see `Evaluation::checked`.
    let mut nix = Command::new("nix-instantiate");
    nix.args(["--expr", &format!("import {}", literal(derivation))]);
    nix.args(["--indirect", "--add-root"]).arg(root);
    run(&mut nix, "nix-instantiate").map(drop)
}

fn realise(path: &Path, root: &Path) -> Command {
    let mut nix = Command::new("nix-store");
    nix.arg("--realise").arg(path);
    nix.args(["--indirect", "--add-root"]).arg(root);
    if !store_path::is_derivation(path) {
        // A cache that did not have it a moment ago may have it now.
        nix.args(["--option", "narinfo-cache-negative-ttl", "0"]);
    }
    nix
}

/// What differs between the closures of two systems that are there, in Nix' own words.
fn diff_closures(before: &Path, after: &Path) -> Result<String> {
    for path in [before, after] {
        ensure!(
            store_path::is_valid(path),
            "{} is not a store path",
            path.display()
        );
    }
    let mut nix = nix();
    // What is missing after all is not to be fetched.
    nix.args(["--option", "substitute", "false"])
        .args(["store", "diff-closures"])
        .args([before, after]);
    let what = "nix store diff-closures";
    let output = query(&mut nix, what, PATIENCE)?;
    String::from_utf8(output).with_context(|| format!("{what} answered no text"))
}

/// Makes `system` the newest generation of a profile, or leaves the profile alone if it is already
/// the current one.
pub fn set_profile(profile: &Path, system: &Path) -> Result<()> {
    if let Some(folder) = profile.parent() {
        std::fs::create_dir_all(folder)?;
    }
    on_profile(profile, "--set", [system])
}

/// Takes a profile back to one of its generations.
pub fn switch_generation(profile: &Path, generation: u64) -> Result<()> {
    on_profile(profile, "--switch-generation", [generation.to_string()])
}

/// Deletes generations of a profile; never its current one.
pub fn delete_generations(profile: &Path, generations: &[u64]) -> Result<()> {
    let generations = generations.iter().map(u64::to_string);
    on_profile(profile, "--delete-generations", generations)
}

fn on_profile(
    profile: &Path,
    operation: &str,
    operands: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<()> {
    let mut nix = Command::new("nix-env");
    nix.arg("--profile")
        .arg(profile)
        .arg(operation)
        .args(operands);
    run(&mut nix, &format!("nix-env {operation}")).map(drop)
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
        let url = flake_url(&config, Path::new("/var/lib/a b"), &commit);
        assert_eq!(
            url,
            format!("git+file:///var/lib/a%20b?ref=refs/comin/target&rev={commit}")
        );
        config.repository_subdir = Some("a&b".to_string());
        config.submodules = true;
        let url = flake_url(&config, Path::new("/r"), &commit);
        assert!(url.ends_with("&dir=a%26b&submodules=1"), "{url}");
    }

    #[test]
    fn nothing_in_a_literal_is_evaluated() {
        assert_eq!(literal(r#"a"b\c${d}$$"#), r#""a\"b\\c\${d}\$\$""#);
        let mut config = crate::config::for_tests();
        config.repository_subdir = Some("a\"; b = \"".to_string());
        let commit: Commit = "a".repeat(40).parse().unwrap();
        let expression = expression(&config, Path::new("/a \"b"), &commit);
        assert!(
            expression.contains(r#"url = "file:///a%20%22b";"#)
                && expression.contains(r#"import (files + "/a\"; b = \"");"#),
            "{expression}"
        );
    }
}
