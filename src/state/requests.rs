//! What operators and fetches request, each in a file of its own: a deploy, a suspension, a confirmation, an accepted
//! rewrite. A deploy removes the file of a request once the state has it.

use anyhow::Result;
use derive_more::Display;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;
use crate::model::{Attempt, Commit, ConfirmStep, RemoteName, Suspension};
use crate::sys::{fs, json};

/// Asks for a deploy: the path unit of systemd sees the file.
pub fn request_deploy(paths: &Paths) -> Result<()> {
    let is_roots = !paths.is_machine() || rustix::process::geteuid().is_root();
    let file = if is_roots {
        paths.wanted()
    } else {
        paths.wanted_by_fetch()
    };
    fs::replace(&file, b"")
}

/// Asks for the deploy that takes up an order. The order is in force already, so a failure is only reported.
pub fn request_for_order(paths: &Paths) {
    if let Err(error) = request_deploy(paths) {
        log::warn!(
            "The order is recorded, but no deploy could be started: {error:#}\n→ sudo comin deploy"
        );
    }
}

/// Takes the request back before it is served: one made meanwhile starts another deploy. Says whether
/// there was one.
pub fn take_deploy_request(paths: &Paths) -> Result<bool> {
    let by_fetch = fs::remove_any(&paths.wanted_by_fetch())?;
    Ok(fs::remove_optional(&paths.wanted())? || by_fetch)
}

/// The suspension that is in force, if one is.
///
/// # Errors
/// The file cannot be read or understood; then nobody knows whether something may be deployed.
pub fn read_suspension(paths: &Paths, now: Timestamp) -> Result<Option<Suspension>> {
    let cure = "; use comin suspend or comin resume to write it anew";
    let suspension: Option<Suspension> = json::read(&paths.suspension(), cure)?;
    // A clock that is behind, such as that of a board without a battery, ends no suspension.
    Ok(suspension.filter(|s| s.until.is_none_or(|until| now < until)))
}

/// Whether a suspension is in force now.
///
/// # Errors
/// As those of [`read_suspension`].
pub fn is_suspended(paths: &Paths) -> Result<bool> {
    Ok(read_suspension(paths, Timestamp::now())?.is_some())
}

/// The order to accept a main.
#[derive(Debug, Serialize, Deserialize, Display)]
#[display("{commit} ({remote}/{branch})")]
pub struct Rewrite {
    /// The head of main that is accepted.
    pub commit: Commit,
    /// The remote that has it.
    pub remote: RemoteName,
    /// The branch.
    pub branch: String,
}

impl Rewrite {
    /// Reads the order, if there is one.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        json::read(&paths.rewrite(), "; remove it, and use comin accept again")
    }
}

/// The order to let a commit through every gate.
#[derive(Debug, Serialize, Deserialize)]
pub struct PastGates {
    /// The commit.
    pub commit: Commit,
}

impl PastGates {
    /// Reads the order, if there is one.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        let cure = "; remove it, and use comin confirm --past-gates again";
        json::read(&paths.past_gates(), cure)
    }
}

/// The order to go on with an attempt that waits. It names all that was confirmed, so that it is never taken
/// for something else.
#[derive(Debug, Serialize, Deserialize)]
pub struct Confirmation {
    attempt: u64,
    /// The commit.
    pub commit: Commit,
    /// Its step.
    pub step: ConfirmStep,
}

impl Confirmation {
    pub fn of(attempt: &Attempt, step: ConfirmStep) -> Self {
        Self {
            attempt: attempt.id,
            commit: attempt.target.commit.clone(),
            step,
        }
    }

    pub fn is_of(&self, attempt: &Attempt, step: ConfirmStep) -> bool {
        (self.attempt, &self.commit, self.step) == (attempt.id, &attempt.target.commit, step)
    }

    /// Reads the order, where there is one that can be understood.
    pub fn read(paths: &Paths) -> Option<Self> {
        json::read_lossy(&paths.confirmation()).ok().flatten()
    }

    /// Takes the order out of its file by this function; it is removed after that, so a comin that is killed
    /// meanwhile takes it once more.
    pub fn take(paths: &Paths, take: impl FnOnce(Self) -> Result<()>) -> Result<()> {
        let path = paths.confirmation();
        // An order that cannot be read now is left to the next deploy.
        fs::read_optional(&path)?;
        match json::read(&path, " and is removed; use comin confirm again") {
            Ok(None) => return Ok(()),
            Ok(Some(order)) => take(order)?,
            // Nothing is lost but a word that can be given again.
            Err(error) => log::warn!("{error:#}"),
        }
        fs::remove_optional(&path).map(|_| ())
    }
}
