//! The request to deploy, and what the latest deploy decided on: by these two a poll knows, without
//! looking at the state or at any history, whether there is something to do.

use std::path::PathBuf;

use anyhow::Result;
use jiff::Timestamp;
use log::Level;
use serde::{Deserialize, Serialize};

use crate::config::{paths::Paths, Config};
use crate::model::{Delay, Drift, Lookup, RemoteFacts};
use crate::sys::progress::{self, JobProgress};
use crate::sys::{command::Process, fs, json, mutex::Shared};

/// How much of what has been said is remembered.
const NOTICES: usize = 20;

/// Does a job of a deploy, and meanwhile shows and records how far the job is.
pub fn during<T>(paths: &Paths, work: &str, job: impl FnOnce() -> T) -> T {
    let file = paths.progress();
    // One that was killed may have left its own.
    let known = Shared::new(None);
    let record = |steps: &JobProgress| {
        let mut known = known.lock();
        if known.as_ref() == Some(steps) {
            return;
        }
        let recorded = match steps {
            _ if *steps == JobProgress::default() => fs::remove_optional(&file).map(drop),
            steps => json::write(&file, steps),
        };
        if let Err(error) = recorded {
            log::debug!("{error:#}");
        }
        *known = Some(steps.clone());
    };
    let done = progress::during_watched(work, &record, job);
    record(&JobProgress::default());
    done
}

/// How far the evaluation or build is that is under way.
pub fn progress(paths: &Paths) -> Result<Option<JobProgress>> {
    json::read_lossy(&paths.progress())
}

/// What the latest deploy decided on. Absent after a boot: then a deploy is due.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeployRecord {
    /// The configuration that it went by.
    #[serde(default)]
    fingerprint: u64,
    /// The heads it saw.
    pub remotes: Vec<RemoteFacts>,
    /// Who decided; at work as long as it lives and has not `settled`.
    by: Process,
    /// Whether it is done.
    settled: bool,
    /// When something is to be tried again.
    retry: Option<Delay>,
    /// Whether the operator's order to deploy nothing was there.
    #[serde(default)]
    suspended: bool,
    /// The heads whose refusal has been said, so that it is said once.
    pub refused: Vec<String>,
    /// What else has been said since the machine booted, and is not said again.
    pub notices: Vec<String>,
    /// What was found of the system that CI builds.
    #[serde(default)]
    pub prebuilt: Option<Lookup>,
    /// The other system that the machine had drifted to, and when that was first seen.
    #[serde(default)]
    drift: Option<(PathBuf, Timestamp)>,
    /// The links to what ran and to what was to boot next, if another deploy is due when they change.
    #[serde(default)]
    links: Option<Links>,
}

/// Where the links lead to what runs, and to what boots next.
type Links = [Option<PathBuf>; 2];

fn links(config: &Config, paths: &Paths) -> Result<Links> {
    let runs = fs::read_link_optional(&paths.current_system())?;
    let boots = fs::read_link_optional(&paths.profile(&config.profile))?;
    Ok([runs, boots])
}

impl DeployRecord {
    /// The record of a deploy that begins. It keeps what has been said and found before.
    pub fn begin(config: &Config, paths: &Paths, remotes: Vec<RemoteFacts>) -> Result<Self> {
        let before = Self::read(paths)?;
        let (refused, notices, prebuilt, drift) = before.map_or_else(Default::default, |it| {
            (it.refused, it.notices, it.prebuilt, it.drift)
        });
        Ok(Self {
            fingerprint: config.fingerprint,
            remotes,
            by: Process::own()?,
            settled: false,
            retry: None,
            suspended: false,
            refused,
            notices,
            prebuilt,
            drift,
            links: None,
        })
    }

    /// The record of one that ends.
    pub fn finish(self, retry: Option<Delay>, paths: &Paths) -> Self {
        Self {
            settled: true,
            retry,
            suspended: paths.suspension().exists(),
            ..self
        }
    }

    /// Remembers a drift, and returns when it was first seen. What has been said of one that is over is said again.
    pub fn see(
        &mut self,
        config: &Config,
        paths: &Paths,
        drift: Option<&Drift>,
        now: Timestamp,
    ) -> Result<Timestamp> {
        self.links = config
            .drift
            .heal
            .then(|| links(config, paths))
            .transpose()?;
        let now = Timestamp::from_second(now.as_second())?;
        let seen = drift.map(|drift| (drift.out.clone(), self.drift_seen(drift).unwrap_or(now)));
        if self.drift.is_some()
            && seen.as_ref().map(|it| &it.0) != self.drift.as_ref().map(|it| &it.0)
        {
            self.notices.retain(|it| !it.starts_with(Drift::NOTICE));
        }
        self.drift = seen;
        Ok(self.drift.as_ref().map_or(now, |(_, seen)| *seen))
    }

    /// When a drift was first seen, if it was.
    pub fn drift_seen(&self, drift: &Drift) -> Option<Timestamp> {
        let (_, seen) = self.drift.as_ref().filter(|(out, _)| *out == drift.out)?;
        Some(*seen)
    }

    /// Says something, if it has not been said since the machine booted; returns whether it said it.
    pub fn log_once(&mut self, level: Level, text: String) -> bool {
        let shown = text.clone();
        self.log_once_about(text, level, &shown)
    }

    /// Says something, if nothing has been said about this subject since the machine booted; returns whether it said
    /// it.
    pub fn log_once_about(&mut self, subject: String, level: Level, text: &str) -> bool {
        if self.notices.contains(&subject) {
            return false;
        }
        log::log!(level, "{text}");
        let surplus = (self.notices.len() + 1).saturating_sub(NOTICES);
        self.notices.drain(..surplus);
        self.notices.push(subject);
        true
    }

    /// Reads the record; one that cannot be understood counts as absent, and a deploy follows.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        json::read_lossy(&paths.decided())
    }

    /// Writes the record.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        json::write(&paths.decided(), self)
    }

    /// Kills whoever decided, if that is still at work.
    pub fn kill(&self) {
        if self.is_running() {
            self.by.kill();
        }
    }

    /// Whether the deploy that decided is still at work.
    pub fn is_running(&self) -> bool {
        !self.settled && self.by.lives()
    }

    /// Whether another process than this one is at work.
    pub fn is_of_another(&self) -> bool {
        self.is_running() && Process::own().is_ok_and(|own| own != self.by)
    }

    /// Whether a deploy is at work.
    pub fn is_any_running(paths: &Paths) -> Result<bool> {
        Ok(Self::read(paths)?.is_some_and(|decided| decided.is_running()))
    }

    /// Whether a deploy would have something to look at.
    pub fn needs_deploy(
        &self,
        config: &Config,
        paths: &Paths,
        remotes: &[RemoteFacts],
        now: Timestamp,
    ) -> bool {
        let interrupted = !self.settled && !self.by.lives();
        let is_due = match self.retry {
            Some(wait) => wait.has_elapsed(now),
            // The request for an order may have been lost with the deploy that took it.
            None => self.settled && self.has_pending_requests(paths),
        };
        // One that is at work ends by the configuration that it began with.
        let is_reconfigured = self.settled && self.fingerprint != config.fingerprint;
        let has_drifted = |seen: &Links| links(config, paths).is_ok_and(|now| now != *seen);
        interrupted
            || is_due
            || is_reconfigured
            || self.remotes != remotes
            || self.links.as_ref().is_some_and(has_drifted)
    }

    fn has_pending_requests(&self, paths: &Paths) -> bool {
        let suspended = paths.suspension().exists();
        [
            paths.retry(),
            paths.rewrite(),
            paths.confirmation(),
            paths.past_gates(),
        ]
        .iter()
        .any(|order| order.exists())
            || self.suspended != suspended
    }
}
