//! How the latest fetch of each remote ended. In `/run`, so a poll writes nothing to a disk, and
//! after a boot nothing counts as reachable until it has been reached.

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{paths::Paths, Remote};
use crate::model::Reach;
use crate::sys::{command::Process, json, text::printable};

/// More bytes than a record has.
const LARGEST: u64 = 64 * 1024;

/// The record of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRecord {
    /// What was fetched; a record of another URL says nothing. The configuration refuses one with credentials.
    url: String,
    /// The latest fetch.
    pub attempted_at: Timestamp,
    /// The latest fetch that worked.
    pub succeeded_at: Option<Timestamp>,
    /// Why the latest one did not.
    pub error: Option<String>,
    /// How many have worked since the machine booted. The first comin did not count.
    #[serde(default)]
    pub successes: u64,
    /// How many have not.
    #[serde(default)]
    pub failures: u64,
    /// Who fetches, from the moment on when something may have moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetching: Option<Process>,
    /// When all of the mirror was last read because a fetch had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_checked_at: Option<Timestamp>,
}

impl FetchRecord {
    /// The record of a remote, if it has been fetched from this URL since the machine booted.
    ///
    /// One that cannot be read counts as absent: the next fetch replaces it, and nothing depends on it. Who fetches may
    /// have written anything.
    pub fn read(paths: &Paths, remote: &Remote) -> Option<Self> {
        let record: Option<Self> = json::read_foreign(&paths.remote(&remote.name), LARGEST);
        let mut record = record.filter(|record| record.url == remote.url.to_string())?;
        record.error = record.error.map(|it| printable(&it).into_owned());
        Some(match &record.fetching {
            Some(process) if !process.lives() => record.killed(),
            Some(_) | None => record,
        })
    }

    /// The same after a fetch that did not come to its end.
    fn killed(self) -> Self {
        Self {
            fetching: None,
            error: Some(
                "the fetch was killed: systemd does that if it takes too long or too much memory"
                    .to_string(),
            ),
            failures: self.failures + 1,
            ..self
        }
    }

    /// The record of a fetch that ended now.
    pub fn record(remote: &Remote, before: Option<&Self>, error: Option<String>) -> Self {
        let now = Timestamp::now();
        let (successes, failures) = before.map_or((0, 0), |b| (b.successes, b.failures));
        let failed = u64::from(error.is_some());
        Self {
            url: remote.url.to_string(),
            attempted_at: now,
            succeeded_at: match &error {
                None => Some(now),
                Some(_) => before.and_then(|before| before.succeeded_at),
            },
            error,
            successes: successes + 1 - failed,
            failures: failures + failed,
            fetching: None,
            mirror_checked_at: None,
        }
    }

    /// The record of a remote while this process fetches: what is known of the latest fetch, if there was one.
    pub fn begin(remote: &Remote, before: Option<&Self>) -> Result<Self> {
        let none_yet = || Self {
            succeeded_at: None,
            successes: 0,
            ..Self::record(remote, None, None)
        };
        Ok(Self {
            fetching: Some(Process::own()?),
            ..before.cloned().unwrap_or_else(none_yet)
        })
    }

    /// Writes the record.
    pub fn write(&self, paths: &Paths, remote: &Remote) -> Result<()> {
        json::write(&paths.remote(&remote.name), self)
    }

    /// Whether the remote's heads count.
    pub fn reachability(record: Option<&Self>) -> Reach {
        match record {
            None => Reach::Never,
            Some(record) if record.error.is_some() => Reach::Unreachable,
            // The first fetch since the boot is under way.
            Some(record) if record.succeeded_at.is_none() => Reach::Never,
            Some(_) => Reach::Fetched,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::sys::fs;

    #[test]
    fn record_that_somebody_else_wrote_is_read_as_far_as_it_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), Path::new("/state"));
        let remote = &config::for_tests().remotes[0];
        let path = paths.remote(&remote.name);
        let read = || FetchRecord::read(&paths, remote);
        let hostile = format!(
            r#"{{"version": 1, "url": "{}", "attempted_at": "2026-01-02T03:04:05Z", "succeeded_at": null,
            "error": "\u001b[2Jit is away\n"}}"#,
            remote.url
        );
        fs::replace(&path, hostile.as_bytes()).unwrap();
        let error = read().unwrap().error.unwrap();
        assert!(!error.contains(char::is_control), "{error:?}");
        fs::replace(
            &path,
            format!("{hostile}{}", " ".repeat(1 << 20)).as_bytes(),
        )
        .unwrap();
        assert_eq!(read(), None);
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        assert_eq!(read(), None);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read(), None);
    }

    #[test]
    fn fetches_are_counted_from_a_record_without_counts_on() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), Path::new("/state"));
        let remote = &config::for_tests().remotes[0];
        let old = r#"{"version": 1, "url": "/r", "attempted_at": "2026-01-02T03:04:05Z",
            "succeeded_at": null, "error": "it is away"}"#;
        fs::replace(&paths.remote(&remote.name), old.as_bytes()).unwrap();
        for (error, counts) in [
            (None, (1, 0)),
            (Some("it is away".to_string()), (1, 1)),
            (None, (2, 1)),
        ] {
            let before = FetchRecord::read(&paths, remote);
            assert!(before.is_some());
            let record = FetchRecord::record(remote, before.as_ref(), error);
            record.write(&paths, remote).unwrap();
            assert_eq!((record.successes, record.failures), counts);
        }
    }
}
