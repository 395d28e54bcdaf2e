//! The configuration: a JSON file, as the NixOS module writes it, turned into checked values.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use clap::ValueEnum;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::reboot::Window;
use crate::url::{Auth, Url};

/// Where the state is kept, unless the owner wants it elsewhere.
pub const STATE_DIR: &str = "/var/lib/comin";

/// What a machine follows, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The machine's name, and the attribute of a flake's `nixosConfigurations` that is its own.
    pub hostname: String,
    /// [`STATE_DIR`], or where the owner wants it.
    pub state_dir: PathBuf,
    /// What the repository contains.
    pub repository_type: RepositoryType,
    /// Where in the repository that is; `None` is its top.
    pub repository_subdir: Option<String>,
    /// Whether Nix fetches the repository's submodules.
    pub submodules: bool,
    /// The name of the system profile that `switch` and `boot` move.
    pub profile: String,
    /// The files of the GPG keys whose signatures count.
    pub gpg_public_key_paths: Vec<PathBuf>,
    /// The SSH keys whose signatures count.
    pub ssh_signers: Option<SshSigners>,
    /// Whether a head that is not signed gives way to its newest ancestor that is.
    pub signed_ancestors: bool,
    /// How long an evaluation may take; `None` is as long as it likes.
    pub eval_timeout: Option<Duration>,
    /// How long a build may take; `None` is as long as it likes.
    pub build_timeout: Option<Duration>,
    /// How long a failed deployment waits before it is tried again.
    pub retry: Backoff,
    /// A program that is run after each deployment.
    pub post_deployment_command: Option<PathBuf>,
    /// What has to be well after an activation.
    pub health_check: HealthCheck,
    /// What happens where it is not.
    pub rollback: Rollback,
    /// Whether and when the machine reboots by itself.
    pub reboot: Reboots,
    /// What is kept of what was deployed.
    pub retention: Retention,
    /// In order of preference, at least one.
    pub remotes: Vec<Remote>,
}

/// How long a failed deployment waits: first this, then twice as long each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: SignedDuration,
    most: SignedDuration,
}

impl Backoff {
    /// How long after the how-manieth try.
    #[must_use]
    pub fn after(self, tries: u32) -> SignedDuration {
        let factor = 1 << tries.saturating_sub(1).min(20);
        self.first.saturating_mul(factor).min(self.most)
    }
}

/// What has to be well after an activation.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// Shell commands, each of which has to succeed.
    pub commands: Vec<String>,
    /// How long each of them may take; `None` is as long as it likes.
    pub timeout: Option<Duration>,
    /// Whether one of the servers that could be fetched from before has to be within reach.
    pub connectivity: bool,
    /// How long that may take: the network may be starting anew.
    pub connectivity_timeout: Duration,
    /// Whether no unit may have failed that had not before.
    pub failed_units: bool,
}

/// What happens to a system with which the machine is not well.
#[derive(Debug, Clone, Copy)]
pub struct Rollback {
    /// Whether the system before is activated again.
    pub enable: bool,
    /// How long an activation and its checks may take together, whatever happens to comin; `None` is
    /// for ever.
    pub timeout: Option<Duration>,
}

/// Whether and when the machine reboots by itself, where a deployment needs that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboots {
    /// Whether it does.
    pub allow: bool,
    /// When it may; `None` is at any time.
    pub window: Option<Window>,
    /// How long before it is announced, at least.
    pub delay: SignedDuration,
}

/// How many are kept, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Different systems that comin made generations of the profile of.
    pub boot_entries: usize,
    /// Successful deployments whose systems Nix does not collect.
    pub successful: usize,
    /// Deployments, however they ended, whose systems Nix does not collect.
    pub any: usize,
}

/// How a repository says what its machines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryType {
    /// By `nixosConfigurations."<hostname>"` of its `flake.nix`.
    Flake,
    /// By its `default.nix`.
    Nix {
        /// The attribute that is this machine, as `nix-build -A` takes it; `None` is the whole.
        system_attr: Option<String>,
    },
}

/// Whose SSH signatures count. The files need not be there yet when the configuration is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSigners {
    /// The allowed signers, in the format of ssh-keygen(1).
    pub allowed_signers_path: PathBuf,
    /// Keys that count no longer, whatever the allowed signers say: a KRL or a list of public keys.
    pub revoked_keys_path: Option<PathBuf>,
}

/// A repository that is followed.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its name in units, refs and files.
    pub name: RemoteName,
    /// Where it is, and what its server wants to see.
    pub url: Url,
    /// How long a fetch may take; `None` is as long as it likes.
    pub timeout: Option<Duration>,
    /// The branch that is deployed to stay.
    pub main: Branch,
    /// The branch that is tried; `None` where the owner wants no testing.
    pub testing: Option<Branch>,
}

/// A branch and what is done with its commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// How its commits are activated.
    pub operation: Operation,
}

/// The action of `switch-to-configuration` for a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Activate now and at every boot.
    Switch,
    /// Activate at the next boot.
    Boot,
    /// Activate now; a reboot undoes it.
    Test,
}

impl Operation {
    /// The word on the command line of `switch-to-configuration`.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::Test => "test",
        }
    }

    /// Whether the system profile, and with it the boot loader, gets the system.
    #[must_use]
    pub fn moves_profile(self) -> bool {
        match self {
            Self::Switch | Self::Boot => true,
            Self::Test => false,
        }
    }

    /// Whether the running system becomes the new one.
    #[must_use]
    pub fn activates(self) -> bool {
        match self {
            Self::Switch | Self::Test => true,
            Self::Boot => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action())
    }
}

/// A remote's name: safe in a unit name, a ref and a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RemoteName(String);

impl RemoteName {
    /// The longest name; the module asserts the same.
    const MAX: usize = 64;

    fn new(name: String) -> Result<Self> {
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(
            name.len() <= Self::MAX
                && name.chars().all(safe)
                && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "{name:?} cannot name units, refs and files: use at most {} letters, digits, - and _, beginning with a letter or digit",
            Self::MAX
        );
        ensure!(
            name != "exporter",
            "{name:?} is kept for comin's own units: use another name"
        );
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RemoteName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Config {
    /// [`Config::load`] on a machine that may have no configuration yet.
    ///
    /// # Errors
    /// As there; where there is no file, what to do next.
    pub fn of_machine(path: &Path) -> Result<Self> {
        Self::load(path).map_err(|error| match path.try_exists() {
            Ok(false) => anyhow::anyhow!(
                "There is no configuration {}: enable the NixOS module, which writes it (services.comin.enable, services.comin.remotes), or name a file with --config FILE; comin help lists what needs none",
                path.display()
            ),
            Ok(true) | Err(_) => error,
        })
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// A sentence that names the file, the key and the cure.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = || format!("Failed to read the configuration {}", path.display());
        let text = std::fs::read(path).with_context(failed)?;
        Self::parse(&text).with_context(failed)
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let file: File = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| match error.path().to_string().as_str() {
                "." => anyhow::anyhow!("{}", error.inner()),
                key => anyhow::anyhow!("{key}: {}", error.inner()),
            })
            .and_then(|file| Ok(json.end().map(|()| file)?))?;
        file.check()
    }

    /// The configuration that is written like this.
    #[cfg(test)]
    pub fn for_tests(json: &str) -> Self {
        Self::parse(json.as_bytes()).unwrap()
    }

    /// The remote of that name.
    ///
    /// # Errors
    /// Names the remotes that there are.
    pub fn remote(&self, name: &str) -> Result<&Remote> {
        let found = self.remotes.iter().find(|r| r.name.as_str() == name);
        found.with_context(|| {
            let names: Vec<&str> = self.remotes.iter().map(|r| r.name.as_str()).collect();
            format!(
                "There is no remote {name:?} in the configuration: it has {}",
                names.join(", ")
            )
        })
    }
}

/// The file as it is written. Defaults that depend on other keys are in [`File::check`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hostname: String,
    state_dir: Option<PathBuf>,
    repository_type: Option<String>,
    repository_subdir: Option<String>,
    system_attr: Option<String>,
    submodules: Option<bool>,
    profile: Option<String>,
    gpg_public_key_paths: Option<Vec<PathBuf>>,
    ssh_allowed_signers_path: Option<PathBuf>,
    ssh_revoked_keys_path: Option<PathBuf>,
    signed_ancestors: Option<bool>,
    eval_timeout: Option<u64>,
    build_timeout: Option<u64>,
    retry: Option<RetryFile>,
    post_deployment_command: Option<PathBuf>,
    health_check: Option<HealthCheckFile>,
    rollback: Option<RollbackFile>,
    exporter: Option<ExporterFile>,
    reboot: Option<RebootFile>,
    retention: Option<RetentionFile>,
    remotes: Vec<RemoteFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RetryFile {
    first_delay: Option<u32>,
    max_delay: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct HealthCheckFile {
    commands: Option<Vec<String>>,
    timeout: Option<u64>,
    connectivity: Option<bool>,
    connectivity_timeout: Option<u64>,
    failed_units: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RollbackFile {
    enable: Option<bool>,
    timeout: Option<u64>,
}

/// Only the socket unit looks at it; here it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExporterFile {
    listen_address: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RebootFile {
    allow: Option<bool>,
    window: Option<WindowFile>,
    delay: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowFile {
    lower: String,
    upper: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RetentionFile {
    #[serde(rename = "deployment_boot_entry_capacity")]
    boot_entries: Option<usize>,
    #[serde(rename = "deployment_successful_capacity")]
    successful: Option<usize>,
    #[serde(rename = "deployment_any_capacity")]
    any: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteFile {
    name: RemoteName,
    url: String,
    timeout: Option<u64>,
    auth: Option<Auth>,
    branches: Option<BranchesFile>,
    poller: Option<PollerFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BranchesFile {
    main: Option<BranchFile>,
    testing: Option<BranchFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BranchFile {
    name: Option<String>,
    operation: Option<Operation>,
}

/// Only the timers look at it; here it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollerFile {
    period: Option<u64>,
}

impl File {
    fn check(self) -> Result<Config> {
        ensure!(
            is_hostname(&self.hostname),
            "hostname: {:?} is not a host name: use letters, digits, . - and _",
            self.hostname
        );
        let repository_type = repository_type(self.repository_type.as_deref(), self.system_attr)?;
        let state_dir = self.state_dir.unwrap_or_else(|| STATE_DIR.into());
        ensure!(
            state_dir.is_absolute() && !escapes(&state_dir),
            "state_dir: {} is not an absolute path",
            state_dir.display()
        );
        let repository_subdir = self.repository_subdir.filter(|s| !matches!(&**s, "" | "."));
        if let Some(subdir) = &repository_subdir {
            ensure!(
                Path::new(subdir).is_relative() && !escapes(Path::new(subdir)),
                "repository_subdir: {subdir:?} is not a path inside of the repository"
            );
        }
        let profile = self.profile.unwrap_or_else(|| "system".to_string());
        ensure!(
            is_hostname(&profile),
            "profile: {profile:?} is not a profile name: use letters, digits, . - and _"
        );
        let post_deployment_command = self.post_deployment_command;
        if let Some(command) = &post_deployment_command {
            check_file(command).context("post_deployment_command")?;
        }
        let gpg_public_key_paths = self.gpg_public_key_paths.unwrap_or_default();
        for (index, path) in gpg_public_key_paths.iter().enumerate() {
            check_file(path).with_context(|| format!("gpg_public_key_paths[{index}]"))?;
        }
        let ssh_signers = ssh_signers(self.ssh_allowed_signers_path, self.ssh_revoked_keys_path)?;
        if let Some(exporter) = &self.exporter {
            exporter.check()?;
        }
        ensure!(
            !self.remotes.is_empty(),
            "remotes: name at least one remote"
        );
        let mut names = BTreeSet::new();
        let mut remotes = Vec::new();
        for (index, remote) in self.remotes.into_iter().enumerate() {
            ensure!(
                names.insert(remote.name.clone()),
                "remotes[{index}].name: there is already a remote {}: give each its own name",
                remote.name
            );
            let remote = remote
                .check(&self.hostname)
                .map_err(|error| anyhow::anyhow!("remotes[{index}].{error:#}"))?;
            remotes.push(remote);
        }
        Ok(Config {
            hostname: self.hostname,
            state_dir,
            repository_type,
            repository_subdir,
            submodules: self.submodules.unwrap_or(false),
            profile,
            gpg_public_key_paths,
            ssh_signers,
            signed_ancestors: self.signed_ancestors.unwrap_or(false),
            eval_timeout: seconds(self.eval_timeout.unwrap_or(30 * 60)),
            build_timeout: seconds(self.build_timeout.unwrap_or(0)),
            retry: self.retry.unwrap_or_default().check()?,
            post_deployment_command,
            health_check: self.health_check.unwrap_or_default().check()?,
            rollback: self.rollback.unwrap_or_default().check(),
            reboot: self.reboot.unwrap_or_default().check()?,
            retention: self.retention.unwrap_or_default().check()?,
            remotes,
        })
    }
}

impl RetryFile {
    fn check(self) -> Result<Backoff> {
        let seconds = |seconds: u32| SignedDuration::from_secs(seconds.into());
        let first = self.first_delay.unwrap_or(60);
        let most = self.max_delay.unwrap_or(60 * 60);
        ensure!(
            first > 0,
            "retry.first_delay: 0 is no wait: use at least 1 (seconds)"
        );
        ensure!(
            first <= most,
            "retry.max_delay: {most} is less than the first delay, {first}"
        );
        Ok(Backoff {
            first: seconds(first),
            most: seconds(most),
        })
    }
}

impl HealthCheckFile {
    fn check(self) -> Result<HealthCheck> {
        let commands = self.commands.unwrap_or_default();
        for (index, command) in commands.iter().enumerate() {
            ensure!(
                !command.trim().is_empty() && !command.contains('\0'),
                "health_check.commands[{index}]: {command:?} is no command"
            );
        }
        Ok(HealthCheck {
            commands,
            timeout: seconds(self.timeout.unwrap_or(60)),
            connectivity: self.connectivity.unwrap_or(true),
            connectivity_timeout: Duration::from_secs(self.connectivity_timeout.unwrap_or(120)),
            failed_units: self.failed_units.unwrap_or(false),
        })
    }
}

impl RollbackFile {
    fn check(self) -> Rollback {
        Rollback {
            enable: self.enable.unwrap_or(true),
            timeout: seconds(self.timeout.unwrap_or(15 * 60)),
        }
    }
}

impl ExporterFile {
    fn check(&self) -> Result<()> {
        let address = self.listen_address.as_deref().unwrap_or_default();
        ensure!(
            address.is_empty() || address.parse::<IpAddr>().is_ok(),
            "exporter.listen_address: {address:?} is not an IP address: use one of this machine's, or \"\" for all of them"
        );
        ensure!(
            self.port != Some(0),
            "exporter.port: 0 is no port: use one from 1 to 65535, such as 4243"
        );
        Ok(())
    }
}

impl RebootFile {
    fn check(self) -> Result<Reboots> {
        let window = self.window.map(|window| {
            Window::new(&window.lower, &window.upper)
                .map_err(|error| anyhow::anyhow!("reboot.window.{error}"))
        });
        Ok(Reboots {
            allow: self.allow.unwrap_or(false),
            window: window.transpose()?,
            delay: SignedDuration::from_secs(self.delay.unwrap_or(60).into()),
        })
    }
}

impl RetentionFile {
    fn check(self) -> Result<Retention> {
        let check = |key: &str, written: Option<usize>, default| {
            let capacity = written.unwrap_or(default);
            ensure!(
                capacity > 0,
                "retention.deployment_{key}_capacity: 0 would keep nothing: use at least 1"
            );
            Ok(capacity)
        };
        Ok(Retention {
            boot_entries: check("boot_entry", self.boot_entries, 3)?,
            successful: check("successful", self.successful, 3)?,
            any: check("any", self.any, 5)?,
        })
    }
}

impl RemoteFile {
    fn check(self, hostname: &str) -> Result<Remote> {
        let url = Url::new(&self.url, self.auth.unwrap_or_default())?;
        let branches = self.branches.unwrap_or_default();
        let main = branches.main.unwrap_or_default();
        let main = Branch {
            name: main.name.unwrap_or_else(|| "main".to_string()),
            operation: main.operation.unwrap_or(Operation::Switch),
        };
        check_branch(&main.name).context("branches.main.name")?;
        let testing = branches.testing.unwrap_or_default();
        let testing = Branch {
            name: testing
                .name
                .unwrap_or_else(|| format!("testing-{hostname}")),
            operation: testing.operation.unwrap_or(Operation::Test),
        };
        let testing = Some(testing).filter(|testing| !testing.name.is_empty());
        if let Some(testing) = &testing {
            check_branch(&testing.name).context("branches.testing.name")?;
        }
        if let Some(PollerFile { period: Some(0) }) = self.poller {
            bail!("poller.period: 0 is no period: use at least 1 (seconds)");
        }
        Ok(Remote {
            name: self.name,
            url,
            timeout: seconds(self.timeout.unwrap_or(5 * 60)),
            main,
            testing,
        })
    }
}

fn repository_type(written: Option<&str>, system_attr: Option<String>) -> Result<RepositoryType> {
    let system_attr = system_attr.filter(|attribute| !attribute.is_empty());
    match (written, system_attr) {
        (None | Some("flake"), None) => Ok(RepositoryType::Flake),
        (None | Some("flake"), Some(_)) => bail!(
            "system_attr: the hostname selects a flake's configuration: set repository_type to \"nix\", or leave it out"
        ),
        (Some("nix"), system_attr) => {
            if let Some(attribute) = &system_attr {
                ensure!(
                    is_attribute_path(attribute),
                    "system_attr: {attribute:?} is not an attribute path: use one like hosts.{{name}}, as nix-build -A takes it"
                );
            }
            Ok(RepositoryType::Nix { system_attr })
        }
        (Some(other), _) => {
            bail!("repository_type: {other:?} is not supported: use \"flake\" or \"nix\"")
        }
    }
}

/// An empty path is none, as the module of the Go comin writes it.
fn ssh_signers(allowed: Option<PathBuf>, revoked: Option<PathBuf>) -> Result<Option<SshSigners>> {
    let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
    let revoked_keys_path = given(revoked);
    if let Some(path) = &revoked_keys_path {
        check_file(path).context("ssh_revoked_keys_path")?;
    }
    let Some(allowed_signers_path) = given(allowed) else {
        ensure!(
            revoked_keys_path.is_none(),
            "ssh_revoked_keys_path: it says nothing without allowed signers: set ssh_allowed_signers_path, or leave it out"
        );
        return Ok(None);
    };
    check_file(&allowed_signers_path).context("ssh_allowed_signers_path")?;
    Ok(Some(SshSigners {
        allowed_signers_path,
        revoked_keys_path,
    }))
}

fn check_file(path: &Path) -> Result<()> {
    ensure!(
        path.is_absolute(),
        "{} is not an absolute path",
        path.display()
    );
    Ok(())
}

/// Seconds as in the configuration, where 0 stands for no limit.
fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A name that needs no quoting in an attribute path or a file name.
fn is_hostname(name: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= 253
        && name.chars().all(safe)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether Nix takes a word for an attribute path: not for an option, nor for one with outputs (`a^out`).
fn is_attribute_path(path: &str) -> bool {
    !path.starts_with(['-', '.'])
        && !path.ends_with('.')
        && !path.contains("..")
        && !path.contains(|c: char| c.is_control() || c == '^')
}

/// Whether a path climbs with `..`.
fn escapes(path: &Path) -> bool {
    path.components()
        .any(|part| part == std::path::Component::ParentDir)
}

/// The rules of git-check-ref-format(1): a branch name is also a path below `refs/heads`.
fn check_branch(name: &str) -> Result<()> {
    let part_is_bad = |part: &str| {
        let lock = Path::new(part).extension().is_some_and(|e| e == "lock");
        part.is_empty() || part.starts_with('.') || part.ends_with('.') || lock
    };
    let bad = name.split('/').any(part_is_bad)
        || name.contains("..")
        || name.contains("@{")
        || name.starts_with('-')
        || name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c));
    ensure!(!bad, "{name:?} is not a valid branch name");
    Ok(())
}

/// The smallest configuration.
#[cfg(test)]
pub fn for_tests() -> Config {
    Config::for_tests(r#"{"hostname": "m", "remotes": [{"name": "o", "url": "/r"}]}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config> {
        Config::parse(json.as_bytes())
    }

    fn error(json: &str) -> String {
        format!("{:#}", parse(json).unwrap_err())
    }

    fn with_remote(remote: &str) -> String {
        format!(r#"{{"hostname": "m", "remotes": [{remote}]}}"#)
    }

    #[test]
    fn only_hostname_name_and_url_are_required() {
        let config = parse(&with_remote(r#"{"name": "origin", "url": "/r"}"#)).unwrap();
        let remote = config.remote("origin").unwrap();
        assert_eq!(remote.main.name, "main");
        assert_eq!(remote.main.operation, Operation::Switch);
        let testing = remote.testing.as_ref().unwrap();
        assert_eq!(testing.name, "testing-m");
        assert_eq!(testing.operation, Operation::Test);
        assert_eq!(remote.timeout, Some(Duration::from_secs(300)));
        assert_eq!(config.state_dir, Path::new("/var/lib/comin"));
        assert_eq!(config.profile, "system");
        assert_eq!(config.build_timeout, None);
        assert!(!config.reboot.allow);
        let Retention {
            boot_entries,
            successful,
            any,
        } = config.retention;
        assert_eq!((boot_entries, successful, any), (3, 3, 5));
    }

    #[test]
    fn the_wait_doubles_up_to_its_most() {
        let backoff = parse(&with_remote(r#"{"name": "o", "url": "/r"}"#))
            .unwrap()
            .retry;
        let minutes: Vec<i64> = (1..=9).map(|n| backoff.after(n).as_mins()).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.after(u32::MAX).as_mins(), 60);
    }

    #[test]
    fn null_is_absence() {
        let json = r#"{"hostname": "m", "repository_type": null, "repository_subdir": null, "system_attr": null, "profile": null, "eval_timeout": null,
            "gpg_public_key_paths": null, "ssh_allowed_signers_path": null, "ssh_revoked_keys_path": null,
            "exporter": null,
            "remotes": [{"name": "o", "url": "/r", "auth": null, "branches": null, "poller": null, "timeout": null}]}"#;
        assert!(parse(json).is_ok());
    }

    #[test]
    fn the_exporter_listens_on_an_address_or_on_all() {
        for exporter in [
            "{}",
            r#"{"listen_address": "", "port": 4243}"#,
            r#"{"listen_address": "::1"}"#,
        ] {
            let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
            let json = format!(r#"{{"hostname": "m", "exporter": {exporter}, {remote}}}"#);
            assert!(parse(&json).is_ok(), "{exporter}");
        }
    }

    #[test]
    fn an_empty_testing_name_is_no_testing() {
        let remote = r#"{"name": "o", "url": "/r", "branches": {"testing": {"name": ""}}}"#;
        assert!(parse(&with_remote(remote)).unwrap().remotes[0]
            .testing
            .is_none());
    }

    #[test]
    fn signers_need_not_be_there_when_the_configuration_is_checked() {
        let with = |keys: &str| {
            let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
            parse(&format!(r#"{{"hostname": "m", {keys}, {remote}}}"#))
        };
        let config = with(
            r#""gpg_public_key_paths": ["/no/a", "/no/b"], "ssh_allowed_signers_path": "/no/c",
            "ssh_revoked_keys_path": "/no/d""#,
        )
        .unwrap();
        assert_eq!(
            config.gpg_public_key_paths,
            [Path::new("/no/a"), Path::new("/no/b")]
        );
        let ssh = config.ssh_signers.unwrap();
        assert_eq!(ssh.allowed_signers_path, Path::new("/no/c"));
        assert_eq!(ssh.revoked_keys_path.unwrap(), Path::new("/no/d"));

        let none = r#""gpg_public_key_paths": [], "ssh_allowed_signers_path": "", "ssh_revoked_keys_path": """#;
        let config = with(none).unwrap();
        assert!(config.gpg_public_key_paths.is_empty() && config.ssh_signers.is_none());

        for (keys, wanted) in [
            (
                r#""gpg_public_key_paths": ["/a", "b"]"#,
                "gpg_public_key_paths[1]: b is not an absolute path",
            ),
            (
                r#""gpg_public_key_paths": [""]"#,
                "gpg_public_key_paths[0]: ",
            ),
            (
                r#""gpg_public_key_paths": "/a""#,
                "gpg_public_key_paths: invalid type",
            ),
            (
                r#""ssh_allowed_signers_path": "~/x""#,
                "ssh_allowed_signers_path: ~/x is not",
            ),
            (
                r#""ssh_allowed_signers_path": "/a", "ssh_revoked_keys_path": "x""#,
                "ssh_revoked_keys_path: x is not",
            ),
            (
                r#""ssh_revoked_keys_path": "/a""#,
                "ssh_revoked_keys_path: it says nothing without",
            ),
        ] {
            let error = format!("{:#}", with(keys).unwrap_err());
            assert!(error.contains(wanted), "{keys}: {error}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        let ok = r#"{"name": "o", "url": "/r"}"#;
        for (json, wanted) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            ("{} x", "missing field `hostname`"),
            (r#"{"hostname": "m"}"#, "missing field `remotes`"),
            (
                r#"{"hostname": "m", "remotes": []}"#,
                "remotes: name at least one",
            ),
            (
                r#"{"hostname": 1, "remotes": []}"#,
                "hostname: invalid type: integer",
            ),
            (
                &format!(r#"{{"hostname": "m", "remotes": [{ok}]}} x"#),
                "trailing characters",
            ),
            (
                &format!(r#"{{"hostname": "m", "remotes": [{ok},{ok}]}}"#),
                "remotes[1].name: there is already",
            ),
            (
                &format!(r#"{{"hostname": "m", "colour": 1, "remotes": [{ok}]}}"#),
                "unknown field `colour`",
            ),
            (
                &format!(r#"{{"hostname": "a/b", "remotes": [{ok}]}}"#),
                "hostname: \"a/b\" is not",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "repository_type": "nix-flake", "remotes": [{ok}]}}"#
                ),
                "repository_type: \"nix-flake\" is not supported: use \"flake\" or \"nix\"",
            ),
            (
                &format!(r#"{{"hostname": "m", "repository_type": "", "remotes": [{ok}]}}"#),
                "repository_type: \"\" is not",
            ),
            (
                &format!(r#"{{"hostname": "m", "system_attr": "hosts.m", "remotes": [{ok}]}}"#),
                "system_attr: the hostname selects",
            ),
            (
                &format!(r#"{{"hostname": "m", "repository_subdir": "../x", "remotes": [{ok}]}}"#),
                "repository_subdir: ",
            ),
            (
                &format!(r#"{{"hostname": "m", "state_dir": "x", "remotes": [{ok}]}}"#),
                "state_dir: ",
            ),
            (
                &format!(r#"{{"hostname": "m", "profile": "../x", "remotes": [{ok}]}}"#),
                "profile: ",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "retry": {{"first_delay": 9, "max_delay": 3}}, "remotes": [{ok}]}}"#
                ),
                "retry.max_delay: 3 is less",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "health_check": {{"commands": [" "]}}, "remotes": [{ok}]}}"#
                ),
                "health_check.commands[0]: ",
            ),
            (
                &format!(r#"{{"hostname": "m", "rollback": {{"on": true}}, "remotes": [{ok}]}}"#),
                "rollback.on: unknown field",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "reboot": {{"window": {{"lower": "1", "upper": "02:00"}}}}, "remotes": [{ok}]}}"#
                ),
                "reboot.window.lower: \"1\" is no time of day",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "reboot": {{"window": {{"lower": "01:00"}}}}, "remotes": [{ok}]}}"#
                ),
                "reboot.window: missing field `upper`",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "retention": {{"deployment_any_capacity": 0}}, "remotes": [{ok}]}}"#
                ),
                "retention.deployment_any_capacity: 0 would keep nothing",
            ),
            (
                &format!(r#"{{"hostname": "m", "eval_timeout": -1, "remotes": [{ok}]}}"#),
                "eval_timeout: invalid value",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "exporter": {{"listen_address": "localhost"}}, "remotes": [{ok}]}}"#
                ),
                "exporter.listen_address: \"localhost\" is not an IP address",
            ),
            (
                &format!(r#"{{"hostname": "m", "exporter": {{"port": 0}}, "remotes": [{ok}]}}"#),
                "exporter.port: 0 is no port",
            ),
            (
                &format!(
                    r#"{{"hostname": "m", "exporter": {{"port": 65536}}, "remotes": [{ok}]}}"#
                ),
                "exporter.port: invalid value",
            ),
        ] {
            let error = error(json);
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn repository_types() {
        let with = |keys: &str| {
            let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
            parse(&format!(r#"{{"hostname": "m", {keys}, {remote}}}"#))
        };
        let nix = |system_attr: Option<&str>| RepositoryType::Nix {
            system_attr: system_attr.map(str::to_string),
        };
        for (keys, wanted) in [
            (r#""repository_type": null"#, RepositoryType::Flake),
            (r#""repository_type": "flake""#, RepositoryType::Flake),
            (
                r#""repository_type": "flake", "system_attr": null"#,
                RepositoryType::Flake,
            ),
            (r#""system_attr": """#, RepositoryType::Flake),
            (r#""repository_type": "nix""#, nix(None)),
            (r#""repository_type": "nix", "system_attr": """#, nix(None)),
            (
                r#""repository_type": "nix", "system_attr": "hosts.m""#,
                nix(Some("hosts.m")),
            ),
            (
                r#""repository_type": "nix", "system_attr": "hosts.\"a.b\"""#,
                nix(Some("hosts.\"a.b\"")),
            ),
        ] {
            assert_eq!(with(keys).unwrap().repository_type, wanted, "{keys}");
        }
        for bad in ["-x", ".", ".a", "a.", "a..b", "a^out", "a\\nb"] {
            let keys = format!(r#""repository_type": "nix", "system_attr": "{bad}""#);
            let error = format!("{:#}", with(&keys).unwrap_err());
            assert!(error.contains("is not an attribute path"), "{bad}: {error}");
        }
    }

    #[test]
    fn errors_of_a_remote_name_its_key() {
        for (remote, wanted) in [
            (r#"{"url": "/r"}"#, "remotes[0]: missing field `name`"),
            (r#"{"name": "o"}"#, "remotes[0]: missing field `url`"),
            (
                r#"{"name": "a/b", "url": "/r"}"#,
                "remotes[0].name: \"a/b\" cannot name",
            ),
            (r#"{"name": "..", "url": "/r"}"#, "remotes[0].name: "),
            (r#"{"name": "-x", "url": "/r"}"#, "remotes[0].name: "),
            (r#"{"name": "", "url": "/r"}"#, "remotes[0].name: "),
            (r#"{"name": "exporter", "url": "/r"}"#, "remotes[0].name: "),
            (
                r#"{"name": "o", "url": "r"}"#,
                "remotes[0].url: \"r\" is not supported",
            ),
            (
                r#"{"name": "o", "url": "git@h:r", "auth": {}}"#,
                "remotes[0].auth.ssh_deploy_key_path: an SSH server",
            ),
            (
                r#"{"name": "o", "url": "/r", "timeout": "5"}"#,
                "remotes[0].timeout: invalid type: string",
            ),
            (
                r#"{"name": "o", "url": "/r", "poller": {"period": 0}}"#,
                "remotes[0].poller.period: 0",
            ),
            (
                r#"{"name": "o", "url": "/r", "branches": {"main": {"name": "a..b"}}}"#,
                "remotes[0].branches.main.name: ",
            ),
            (
                r#"{"name": "o", "url": "/r", "branches": {"main": {"name": ""}}}"#,
                "remotes[0].branches.main.name: ",
            ),
            (
                r#"{"name": "o", "url": "/r", "branches": {"main": {"operation": "go"}}}"#,
                "remotes[0].branches.main.operation: unknown variant `go`",
            ),
            (
                r#"{"name": "o", "url": "/r", "branches": {"staging": {}}}"#,
                "remotes[0].branches.staging: unknown field",
            ),
        ] {
            let error = error(&with_remote(remote));
            assert!(error.contains(wanted), "{remote}: {error}");
        }
    }

    #[test]
    fn branch_names() {
        for good in ["main", "a/b", "feature-1", "ü", "a.b", "testing-m"] {
            assert!(check_branch(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a//b", "/a", "a/", ".a", "a/.b", "a..b", "a.lock", "a.", "@{", "-a", "a b",
            "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\x1bb", "../../x",
        ] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
    }
}
