//! The configuration: a JSON file, as the NixOS module writes it, turned into checked values.

mod check;
mod file;
pub mod paths;
#[cfg(test)]
mod tests;
pub mod url;

#[cfg(test)]
pub use tests::for_tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::SignedDuration;

use crate::config::url::Url;
use crate::model::{
    Approval, Attempt, Backoff, Branch, ConfirmStep, Confirmer, Gates, Heals, PendingConfirmation,
    Prebuilt, Reboots, RemoteName, Retention, State,
};

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
    /// Whether root evaluates, although there is a user for that.
    pub evaluate_as_root: bool,
    /// How long an evaluation may take; `None` is as long as it likes.
    pub eval_timeout: Option<Duration>,
    /// How long a build may take; `None` is as long as it likes.
    pub build_timeout: Option<Duration>,
    /// How long a failed deployment waits before it is tried again.
    pub retry: Backoff,
    /// A program that is run after each deployment.
    pub post_deployment_command: Option<PathBuf>,
    /// Who confirms that a system may be built.
    pub build_confirmer: Confirmer,
    /// Who confirms that a system may be deployed.
    pub deploy_confirmer: Confirmer,
    /// What has to let a deployment pass.
    pub gates: Gates,
    /// What has to be well after an activation.
    pub health_check: HealthCheck,
    /// What happens where it is not.
    pub rollback: Rollback,
    /// Whether the same has to be well after the first boot of a system.
    pub boot_check: BootCheck,
    /// Whether and when a drift is healed.
    pub drift: Heals,
    /// Whether and when the machine reboots by itself.
    pub reboot: Reboots,
    /// What is kept of what was deployed.
    pub retention: Retention,
    /// Where CI names the systems that it has built; `None` if this machine builds its own.
    pub prebuilt: Option<Prebuilt>,
    /// In order of preference, at least one.
    pub remotes: Vec<Remote>,
    /// Another one for another text, as good as certainly.
    pub fingerprint: u64,
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

/// Whether a system is judged after its first boot, and how long the machine may take to be well with it.
#[derive(Debug, Clone, Copy)]
pub struct BootCheck {
    pub enable: bool,
    pub timeout: Duration,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in units, refs and files.
    pub name: RemoteName,
    /// Where it is, and what its server wants to see.
    pub url: Url,
    /// How long a fetch may take; `None` is as long as it likes.
    pub timeout: Option<Duration>,
    /// How often it is fetched, if the configuration says that. Only timers and the status look at it.
    pub period: Option<SignedDuration>,
    /// The branch that is deployed to stay; `None` if the remote is for testing only.
    pub main: Option<Branch>,
    /// The branch that is tried; `None` where the owner wants no testing.
    pub testing: Option<Branch>,
    /// The name of the notes in which CI names the systems that it has built, if it does.
    pub notes: Option<String>,
}

impl Config {
    /// Who confirms this step.
    pub fn confirmer(&self, step: ConfirmStep) -> Confirmer {
        match step {
            ConfirmStep::Build => self.build_confirmer,
            ConfirmStep::Deploy => self.deploy_confirmer,
        }
    }

    /// Whether only signed commits are deployed.
    pub fn needs_signatures(&self) -> bool {
        !self.gpg_public_key_paths.is_empty() || self.ssh_signers.is_some()
    }

    /// Whether somebody has to vouch for a commit: by a signature, or by a confirmation.
    pub fn is_guarded(&self) -> bool {
        let confirmers = [self.build_confirmer, self.deploy_confirmer];
        self.needs_signatures() || confirmers != [Confirmer::Without; 2]
    }

    /// Whether a step of an attempt has to be confirmed, and has not been.
    pub fn asks(&self, attempt: &Attempt, step: ConfirmStep) -> bool {
        self.confirmer(step) != Confirmer::Without && !attempt.confirmed.contains(&step)
    }

    /// What waits for a confirmation, as the configuration has it now.
    pub fn awaited(&self, state: &State) -> Option<PendingConfirmation> {
        let (waiting, step) = state.awaiting()?;
        Some(PendingConfirmation {
            commit: waiting.target.commit.clone(),
            operation: waiting.target.operation,
            step,
            consent: if self.asks(waiting, step) {
                self.confirmer(step).consent(waiting.since())
            } else {
                Approval::Given
            },
        })
    }

    /// The remote of that name.
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
