//! The configuration as it is written.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use strsim::levenshtein;

use super::Config;
use crate::config::url::Auth;
use crate::model::{Before, Operation, RemoteName};

/// The file as it is written. What is left out gets its default in [`File::check`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct File {
    pub(super) hostname: String,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) repository_type: Option<String>,
    pub(super) repository_subdir: Option<String>,
    pub(super) system_attr: Option<String>,
    pub(super) submodules: Option<bool>,
    pub(super) profile: Option<String>,
    pub(super) gpg_public_key_paths: Option<Vec<PathBuf>>,
    pub(super) ssh_allowed_signers_path: Option<PathBuf>,
    pub(super) ssh_revoked_keys_path: Option<PathBuf>,
    pub(super) signed_ancestors: Option<bool>,
    pub(super) evaluate_as_root: Option<bool>,
    pub(super) eval_timeout: Option<u64>,
    pub(super) build_timeout: Option<u64>,
    pub(super) retry: Option<RetryFile>,
    pub(super) post_deployment_command: Option<PathBuf>,
    pub(super) build_confirmer: Option<ConfirmerFile>,
    pub(super) deploy_confirmer: Option<ConfirmerFile>,
    pub(super) gates: Option<BTreeMap<String, GateFile>>,
    pub(super) deploy_window: Option<Vec<WindowFile>>,
    pub(super) min_free: Option<u64>,
    pub(super) health_check: Option<HealthCheckFile>,
    pub(super) rollback: Option<RollbackFile>,
    pub(super) boot_check: Option<BootCheckFile>,
    pub(super) drift: Option<DriftFile>,
    pub(super) exporter: Option<ExporterFile>,
    pub(super) reboot: Option<RebootFile>,
    pub(super) retention: Option<RetentionFile>,
    pub(super) prebuilt: Option<PrebuiltFile>,
    pub(super) remotes: Vec<RemoteFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RetryFile {
    pub(super) first_delay: Option<u32>,
    pub(super) max_delay: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct ConfirmerFile {
    pub(super) mode: Option<ModeFile>,
    pub(super) autoconfirm_duration: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeFile {
    Without,
    Auto,
    Manual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct GateFile {
    pub(super) before: Before,
    pub(super) command: String,
    pub(super) timeout: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct HealthCheckFile {
    pub(super) commands: Option<Vec<String>>,
    pub(super) timeout: Option<u64>,
    pub(super) connectivity: Option<bool>,
    pub(super) connectivity_timeout: Option<u32>,
    pub(super) failed_units: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RollbackFile {
    pub(super) enable: Option<bool>,
    pub(super) timeout: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct BootCheckFile {
    pub(super) enable: Option<bool>,
    pub(super) timeout: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct DriftFile {
    pub(super) heal: Option<bool>,
    pub(super) grace: Option<u32>,
}

/// Only the socket unit looks at it; here it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct ExporterFile {
    pub(super) listen_address: Option<String>,
    pub(super) port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RebootFile {
    pub(super) allow: Option<bool>,
    pub(super) window: Option<WindowFile>,
    pub(super) delay: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct WindowFile {
    pub(super) lower: String,
    pub(super) upper: String,
    pub(super) days: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RetentionFile {
    #[serde(rename = "deployment_boot_entry_capacity")]
    pub(super) boot_entries: Option<usize>,
    #[serde(rename = "deployment_successful_capacity")]
    pub(super) successful: Option<usize>,
    #[serde(rename = "deployment_any_capacity")]
    pub(super) any: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct PrebuiltFile {
    pub(super) notes: Option<String>,
    pub(super) url: Option<String>,
    pub(super) otherwise: Option<OtherwiseFile>,
    pub(super) patience: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OtherwiseFile {
    Wait,
    Evaluate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RemoteFile {
    pub(super) name: RemoteName,
    pub(super) url: String,
    pub(super) timeout: Option<u64>,
    pub(super) auth: Option<Auth>,
    pub(super) branches: Option<BranchesFile>,
    pub(super) poller: Option<PollerFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct BranchesFile {
    pub(super) main: Option<BranchFile>,
    pub(super) testing: Option<BranchFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct BranchFile {
    pub(super) name: Option<String>,
    pub(super) operation: Option<Operation>,
}

/// The timers fetch by it. Without systemd, it tells when a fetch is late.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct PollerFile {
    pub(super) period: Option<u64>,
}

impl Config {
    /// [`Config::load`] on a machine that may have no configuration yet.
    pub fn of_machine(path: &Path) -> Result<Self> {
        Self::load(path).map_err(|error| match path.try_exists() {
            Ok(false) => anyhow::anyhow!(
                "There is no configuration {}: enable the NixOS module (services.comin.enable, services.comin.remotes), or name a file with --config FILE. comin list, eval and build need none",
                path.display()
            ),
            Ok(true) | Err(_) => error,
        })
    }

    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = || format!("Failed to read the configuration {}", path.display());
        let text = std::fs::read(path).with_context(failed)?;
        Self::parse(&text).with_context(failed)
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        // Apart from the keys: serde_json takes a value of the wrong type for a fault of JSON, too, now and then.
        let _: serde_json::Value = serde_json::from_slice(text).context("it is no JSON")?;
        let json = &mut serde_json::Deserializer::from_slice(text);
        let file: File = serde_path_to_error::deserialize(json).map_err(|error| {
            match error.path().to_string().as_str() {
                "." => anyhow::anyhow!("{}", suggested(&error.inner().to_string())),
                key => anyhow::anyhow!("{key}: {}", suggested(&error.inner().to_string())),
            }
        })?;
        file.check(fingerprint(text))
    }
}

/// The words of serde about an unknown key, with the key that was probably meant in place of all that there are.
fn suggested(error: &str) -> String {
    let Some((unknown, expected)) = error.split_once(", expected ") else {
        return error.to_string();
    };
    let Some(written) = unknown.strip_prefix("unknown field ") else {
        return error.to_string();
    };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_string();
    let written = quoted(written);
    let names = expected.split('`').skip(1).step_by(2);
    let near = names.min_by_key(|name| levenshtein(&written, name));
    match near.filter(|near| levenshtein(&written, near) <= 3) {
        Some(near) => format!("{unknown}; did you mean `{near}`?"),
        None => error.to_string(),
    }
}

/// For a record that does not outlive a boot: another comin may have another one for the same text.
fn fingerprint(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}
