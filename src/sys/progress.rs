//! The line at the bottom of a terminal that says what is worked at, for how long, and how far it is.

use std::convert::Infallible;
use std::io::Write;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sys::{mutex::Shared, terminal};

/// How far a tool is with a job that has many parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// How many derivations have been built.
    pub built: u64,
    /// How many derivations are built in all.
    pub to_build: u64,
    /// How many store paths have been downloaded.
    pub downloaded: u64,
    /// How many store paths are downloaded in all.
    pub to_download: u64,
    /// The derivation that has been built for the longest time.
    #[serde(rename = "derivation")]
    pub item: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl JobProgress {
    /// As in "2 of 5 downloaded, 1 of 3 built, hello-2.12 for 12 s"; nothing if nothing is known.
    pub fn at(&self, now: Timestamp) -> String {
        let mut parts = Vec::new();
        for (done, all, word) in [
            (self.downloaded, self.to_download, "downloaded"),
            (self.built, self.to_build, "built"),
        ] {
            if all > 0 {
                parts.push(format!("{done} of {all} {word}"));
            }
        }
        if let (Some(item), Some(since)) = (&self.item, self.since) {
            let time = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            parts.push(format!("{item} for {}", elapsed(time)));
        }
        parts.join(", ")
    }
}

/// A job that is done now.
struct Job {
    work: String,
    began: Instant,
    steps: JobProgress,
    is_shown: bool,
}

static JOB: Shared<Option<Job>> = Shared::new(None);

const TICK: Duration = Duration::from_secs(1);
const ERASE: &str = "\r\x1b[K";

/// Keeps and shows how far the job is.
pub fn report(steps: &JobProgress) {
    if let Some(job) = &mut *JOB.lock() {
        job.steps.clone_from(steps);
        job.show();
    }
}

/// Does a job, and meanwhile says on a terminal that it is being worked at. `work` is printable.
pub fn during<T>(work: &str, job: impl FnOnce() -> T) -> T {
    during_watched(work, &|_| (), job)
}

/// The same, and tells `watch` each second how far the job is.
pub fn during_watched<T>(
    work: &str,
    watch: &(impl Fn(&JobProgress) + Sync),
    job: impl FnOnce() -> T,
) -> T {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    *JOB.lock() = Some(Job {
        work: work.to_string(),
        began: Instant::now(),
        steps: JobProgress::default(),
        is_shown: !is_dumb && terminal::is_on_terminal(),
    });
    let (working, done) = channel();
    let result = thread::scope(|scope| {
        scope.spawn(move || tick(watch, &done));
        let result = job();
        drop(working);
        result
    });
    end();
    result
}

/// [`during`], and says it for good as well.
pub fn during_told<T>(work: &str, job: impl FnOnce() -> T) -> T {
    log::info!("{work}");
    during(work, job)
}

/// The text as a line of its own, above what is shown at the bottom.
pub fn above(text: &str) -> String {
    match JOB.lock().as_ref().filter(|job| job.is_shown) {
        Some(job) => format!("{ERASE}{text}\n{}", job.line()),
        None => format!("{text}\n"),
    }
}

/// Erases what is shown: the job is done, or the process ends in the midst of it.
pub fn end() {
    if JOB.lock().take().is_some_and(|job| job.is_shown) {
        write(ERASE);
    }
}

fn tick(watch: impl Fn(&JobProgress), done: &Receiver<Infallible>) {
    loop {
        let steps = JOB.lock().as_ref().map(|job| {
            job.show();
            job.steps.clone()
        });
        if let Some(steps) = steps {
            watch(&steps);
        }
        match done.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(never) => match never {},
        }
    }
}

impl Job {
    fn show(&self) {
        if self.is_shown {
            write(&format!("{ERASE}{}", self.line()));
        }
    }

    /// Without wrapping: what is wider than the terminal would leave a row that nobody erases.
    fn line(&self) -> String {
        let time = elapsed(self.began.elapsed());
        let steps = match self.steps.at(Timestamp::now()) {
            steps if steps.is_empty() => steps,
            steps => format!(": {}", terminal::paint(terminal::BUSY, &steps)),
        };
        format!("\x1b[?7l{}, {time}{steps}\x1b[?7h", self.work)
    }
}

fn write(text: &str) {
    // There is nobody to tell that the terminal is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn elapsed(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
