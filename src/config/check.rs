//! What the file says is checked, and becomes values. What is left out gets its default here, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use jiff::SignedDuration;

use super::file::{
    BootCheckFile, BranchFile, ConfirmerFile, DriftFile, ExporterFile, File, GateFile,
    HealthCheckFile, ModeFile, OtherwiseFile, PrebuiltFile, RebootFile, RemoteFile, RetentionFile,
    RetryFile, RollbackFile, WindowFile,
};
use super::{
    BootCheck, Config, HealthCheck, Remote, RepositoryType, Rollback, SshSigners, STATE_DIR,
};
use crate::config::url::Url;
use crate::model::{
    gate::BUILT_IN, names::check_branch, prebuilt::check_template, Backoff, Branch, Confirmer,
    Gate, Gates, Heals, Operation, Prebuilt, Reboots, Retention, Window,
};

impl File {
    /// Checks every value of a file with this fingerprint.
    pub fn check(self, fingerprint: u64) -> Result<Config> {
        ensure!(
            is_hostname(&self.hostname),
            "hostname: {:?} is not a host name: use letters, digits, . - and _",
            self.hostname
        );
        let repository_type = repository_type(self.repository_type.as_deref(), self.system_attr)?;
        let state_dir = self.state_dir.unwrap_or_else(|| STATE_DIR.into());
        ensure!(
            state_dir.is_absolute() && !escapes(&state_dir),
            "state_dir: {} is not an absolute path without ..",
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
        let prebuilt = self.prebuilt.map(prebuilt).transpose()?;
        let notes = prebuilt
            .as_ref()
            .and_then(|prebuilt| prebuilt.notes.clone());
        let mut names = BTreeSet::new();
        let mut remotes = Vec::new();
        for (index, remote) in self.remotes.into_iter().enumerate() {
            ensure!(
                names.insert(remote.name.clone()),
                "remotes[{index}].name: there is already a remote {}: give each its own name",
                remote.name
            );
            let remote = remote
                .check(&self.hostname, notes.clone())
                .map_err(|error| anyhow::anyhow!("remotes[{index}].{error:#}"))?;
            remotes.push(remote);
        }
        ensure!(
            remotes.iter().any(|remote| remote.main.is_some()),
            "remotes[].branches.main.name: it is empty for every remote: name the branch to deploy for at least one of them"
        );
        let reboot = reboot(self.reboot.unwrap_or_default())?;
        let rollback = rollback(&self.rollback.unwrap_or_default());
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
            evaluate_as_root: self.evaluate_as_root.unwrap_or(false),
            eval_timeout: seconds(self.eval_timeout.unwrap_or(30 * 60)),
            build_timeout: seconds(self.build_timeout.unwrap_or(0)),
            retry: retry(&self.retry.unwrap_or_default())?,
            post_deployment_command,
            build_confirmer: confirmer(self.build_confirmer.unwrap_or_default()),
            deploy_confirmer: confirmer(self.deploy_confirmer.unwrap_or_default()),
            gates: gates(self.gates, self.deploy_window, self.min_free)?,
            health_check: health_check(self.health_check.unwrap_or_default())?,
            boot_check: boot_check(
                &self.boot_check.unwrap_or_default(),
                reboot.allow && rollback.enable,
            ),
            drift: heals(&self.drift.unwrap_or_default()),
            rollback,
            reboot,
            retention: retention(&self.retention.unwrap_or_default())?,
            prebuilt,
            remotes,
            fingerprint,
        })
    }
}

fn retry(file: &RetryFile) -> Result<Backoff> {
    let seconds = |seconds: u32| SignedDuration::from_secs(seconds.into());
    let first = file.first_delay.unwrap_or(60);
    let most = file.max_delay.unwrap_or(60 * 60);
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

fn confirmer(file: ConfirmerFile) -> Confirmer {
    let seconds = file.autoconfirm_duration.unwrap_or(2 * 60);
    match file.mode.unwrap_or(ModeFile::Without) {
        ModeFile::Without => Confirmer::Without,
        ModeFile::Auto => Confirmer::Auto(SignedDuration::from_secs(seconds.into())),
        ModeFile::Manual => Confirmer::Manual,
    }
}

fn health_check(file: HealthCheckFile) -> Result<HealthCheck> {
    let commands = file.commands.unwrap_or_default();
    for (index, command) in commands.iter().enumerate() {
        check_command(command).with_context(|| format!("health_check.commands[{index}]"))?;
    }
    Ok(HealthCheck {
        commands,
        timeout: seconds(file.timeout.unwrap_or(60)),
        connectivity: file.connectivity.unwrap_or(true),
        connectivity_timeout: Duration::from_secs(file.connectivity_timeout.unwrap_or(120).into()),
        failed_units: file.failed_units.unwrap_or(false),
    })
}

fn rollback(file: &RollbackFile) -> Rollback {
    Rollback {
        enable: file.enable.unwrap_or(true),
        timeout: seconds(file.timeout.unwrap_or(15 * 60)),
    }
}

fn boot_check(file: &BootCheckFile, by_default: bool) -> BootCheck {
    BootCheck {
        enable: file.enable.unwrap_or(by_default),
        timeout: Duration::from_secs(file.timeout.unwrap_or(5 * 60).into()),
    }
}

fn heals(file: &DriftFile) -> Heals {
    Heals {
        heal: file.heal.unwrap_or(false),
        grace: SignedDuration::from_secs(file.grace.unwrap_or(60 * 60).into()),
    }
}

impl ExporterFile {
    pub(super) fn check(&self) -> Result<()> {
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

fn reboot(file: RebootFile) -> Result<Reboots> {
    let window = file.window.map(|window| {
        window
            .check()
            .map_err(|error| anyhow::anyhow!("reboot.window.{error}"))
    });
    Ok(Reboots {
        allow: file.allow.unwrap_or(false),
        window: window.transpose()?,
        delay: SignedDuration::from_secs(file.delay.unwrap_or(60).into()),
    })
}

impl WindowFile {
    fn check(&self) -> Result<Window> {
        let days = self.days.as_deref().unwrap_or_default();
        Window::new(&self.lower, &self.upper, days)
    }
}

fn gates(
    commands: Option<BTreeMap<String, GateFile>>,
    windows: Option<Vec<WindowFile>>,
    min_free: Option<u64>,
) -> Result<Gates> {
    let check = |(name, gate): (String, GateFile)| {
        ensure!(
            is_hostname(&name) && !BUILT_IN.contains(&&*name),
            "gates: {name:?} is no name of a gate: use letters, digits, . - and _, but none of {}",
            BUILT_IN.join(" ")
        );
        check_command(&gate.command).with_context(|| format!("gates.{name}.command"))?;
        let timeout = gate.timeout.unwrap_or(60);
        ensure!(
            timeout > 0,
            "gates.{name}.timeout: a gate that may take for ever can stop every deployment: use at least 1 (seconds)"
        );
        Ok(Gate {
            name,
            before: gate.before,
            command: gate.command,
            timeout: Duration::from_secs(timeout.into()),
        })
    };
    let commands = commands.unwrap_or_default().into_iter().map(check);
    let windows = windows.unwrap_or_default().into_iter().enumerate();
    let windows = windows.map(|(index, window)| {
        let window = window.check();
        window.map_err(|error| anyhow::anyhow!("deploy_window[{index}].{error}"))
    });
    Ok(Gates {
        commands: commands.collect::<Result<_>>()?,
        windows: windows.collect::<Result<_>>()?,
        min_free: min_free.unwrap_or(0),
    })
}

/// Whether a shell has something to run.
fn check_command(command: &str) -> Result<()> {
    ensure!(
        !command.trim().is_empty() && !command.contains('\0'),
        "{command:?} is no command"
    );
    Ok(())
}

fn retention(file: &RetentionFile) -> Result<Retention> {
    let check = |key: &str, written: Option<usize>, default| {
        let capacity = written.unwrap_or(default);
        ensure!(
            capacity > 0,
            "retention.deployment_{key}_capacity: 0 would keep nothing: use at least 1"
        );
        Ok(capacity)
    };
    Ok(Retention {
        boot_entries: check("boot_entry", file.boot_entries, 3)?,
        successful: check("successful", file.successful, 3)?,
        any: check("any", file.any, 5)?,
    })
}

fn prebuilt(file: PrebuiltFile) -> Result<Prebuilt> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (notes, url) = (given(file.notes), given(file.url));
    ensure!(
        notes.is_some() || url.is_some(),
        "prebuilt: name the notes or the URL that tell which systems are built"
    );
    if let Some(notes) = &notes {
        check_branch(notes).context("prebuilt.notes")?;
    }
    if let Some(url) = &url {
        check_template(url).map_err(|error| anyhow::anyhow!("prebuilt.url: {error}"))?;
    }
    let patience = SignedDuration::from_secs(file.patience.unwrap_or(60 * 60).into());
    Ok(Prebuilt {
        notes,
        url,
        patience: match file.otherwise.unwrap_or(OtherwiseFile::Wait) {
            OtherwiseFile::Wait => None,
            OtherwiseFile::Evaluate => Some(patience),
        },
    })
}

impl RemoteFile {
    pub(super) fn check(self, hostname: &str, notes: Option<String>) -> Result<Remote> {
        let url = Url::new(&self.url, self.auth.unwrap_or_default())?;
        let branches = self.branches.unwrap_or_default();
        let main = branches.main.unwrap_or_default();
        let main = main
            .check("main", Operation::Switch)
            .context("branches.main.name")?;
        let testing = branches.testing.unwrap_or_default();
        let testing = testing
            .check(&format!("testing-{hostname}"), Operation::Test)
            .context("branches.testing.name")?;
        ensure!(
            main.is_some() || testing.is_some(),
            "branches: main.name and testing.name are both empty: name a branch to follow, or remove the remote"
        );
        let period = self.poller.and_then(|poller| poller.period);
        ensure!(
            period != Some(0),
            "poller.period: 0 is no period: use at least 1 (seconds)"
        );
        Ok(Remote {
            name: self.name,
            url,
            timeout: seconds(self.timeout.unwrap_or(5 * 60)),
            period: period
                .map(|period| SignedDuration::from_secs(period.try_into().unwrap_or(i64::MAX))),
            main,
            testing,
            notes,
        })
    }
}

impl BranchFile {
    /// The branch; `None` if its name is empty.
    pub(super) fn check(self, name: &str, operation: Operation) -> Result<Option<Branch>> {
        let branch = Branch {
            name: self.name.unwrap_or_else(|| name.to_string()),
            operation: self.operation.unwrap_or(operation),
        };
        if branch.name.is_empty() {
            return Ok(None);
        }
        check_branch(&branch.name)?;
        Ok(Some(branch))
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
            "ssh_revoked_keys_path: it has no effect without allowed signers: set ssh_allowed_signers_path, or leave it out"
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

/// Seconds as in the configuration, where 0 stands for no limit. More than a century is none either, and more than
/// clocks can count.
fn seconds(seconds: u64) -> Option<Duration> {
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.into()))
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
