//! What the people at a desktop are told of deployments, and asked.
//!
//! The user unit runs this when something changes. It lives no longer than a deployment is at work or a question
//! stands open, and remembers, as long as somebody is logged in, what it has told.

mod notification;
mod topic;

use std::os::fd::AsFd;
use std::path::{absolute, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cli::args;
use crate::deploy::context::Context;
use crate::model::{outcome::words, Approval, Attempt, ConfirmStep, Target};
use crate::report::page::Page;
use crate::state::{deploy_record::DeployRecord, store};
use crate::sys::command::{self, Interrupt};
use crate::sys::{inotify::Folders, json};
use crate::system::reboot_reasons;
use notification::{Id, Notification};
use topic::{Milestone, Topic};

/// How long a deploy that dies is taken for one that is at work.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long somebody may take to say who they are.
const AUTHENTICATION: Duration = Duration::from_secs(10 * 60);

/// What was told last in this session.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LastShown {
    topic: Option<Topic>,
    /// The notification, which the next one replaces.
    id: Option<Id>,
}

/// What there is to tell of the latest attempt.
struct News {
    topic: Topic,
    target: Target,
    text: String,
}

/// What one who is logged in runs `comin desktop` with.
pub struct Desktop<'a> {
    machine: &'a Context,
    title: &'a str,
    record: PathBuf,
}

impl<'a> Desktop<'a> {
    /// The desktop of the session in which this process runs.
    pub fn of(machine: &'a Context, title: &'a str) -> Result<Self> {
        let folder = std::env::var_os("XDG_RUNTIME_DIR")
            .context("There is no XDG_RUNTIME_DIR: comin desktop is for a session on a desktop")?;
        Ok(Self {
            machine,
            title,
            record: Path::new(&folder).join("comin-desktop.json"),
        })
    }

    /// Tells what there is to tell, until there is nothing more to come.
    pub fn tell(&self) -> Result<()> {
        let paths = &self.machine.paths;
        let run = paths.run();
        let folders = [&run, paths.state_dir()].into_iter();
        let folders: Vec<&Path> = folders.filter(|folder| folder.exists()).collect();
        let watch = Folders::watch(&folders)?;
        loop {
            watch.drain();
            let (at_work, news) = self.look()?;
            let told = self.told()?;
            match news {
                Some(news) if news.topic.is_notable(told.topic.as_ref()) => {
                    let shown = self.notification(news.topic.event, &news.text);
                    let id = shown.show(told.id)?;
                    self.remember(&news.topic, Some(id))?;
                    if let Milestone::Waits(step) = news.topic.event {
                        self.ask(&news, step, id, &watch)?;
                    }
                }
                // The first in a session, and no news: later, it is not taken for one either.
                Some(news) if told.topic.is_none() => self.remember(&news.topic, None)?,
                Some(_) | None if at_work => watch.wait(PATIENCE)?,
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Whether a deploy is at work, and what there is to tell.
    fn look(&self) -> Result<(bool, Option<News>)> {
        let Context { config, paths, .. } = self.machine;
        let at_work = DeployRecord::is_any_running(paths)?;
        let state = store::read(paths)?;
        let consent = config.awaited(&state).map(|awaited| awaited.consent);
        let topic = Topic::of(&state, at_work, consent);
        let news = topic.zip(state.latest()).map(|(topic, attempt)| News {
            text: self.text(attempt, topic.event, consent),
            target: attempt.target.clone(),
            topic,
        });
        Ok((at_work, news))
    }

    /// One that cannot be understood counts as absent: at worst, something is told twice.
    fn told(&self) -> Result<LastShown> {
        Ok(json::read_lossy(&self.record)?.unwrap_or_default())
    }

    fn remember(&self, topic: &Topic, id: Option<Id>) -> Result<()> {
        let told = LastShown {
            topic: Some(topic.clone()),
            id,
        };
        json::write(&self.record, &told)
    }

    fn notification<'b>(&'b self, event: Milestone, text: &'b str) -> Notification<'b> {
        Notification {
            title: self.title,
            is_urgent: matches!(event, Milestone::Failed | Milestone::RolledBack),
            text,
        }
    }

    /// Waits for an answer to a question that is shown, as long as it is one.
    fn ask(&self, news: &News, step: ConfirmStep, id: Id, watch: &Folders) -> Result<()> {
        let is_void = || {
            watch.drain();
            let (_, now) = self.look()?;
            Ok(now.is_none_or(|now| now.topic != news.topic))
        };
        let interrupt = Interrupt {
            signal: watch.as_fd(),
            ends: &is_void,
            note: "",
        };
        let question = self.notification(news.topic.event, &news.text);
        if question.ask(id, "Confirm", &interrupt)? {
            self.confirm(&news.target, step, id)?;
        }
        Ok(())
    }

    /// Confirms what was shown and nothing else, as root: polkit asks who that is.
    fn confirm(&self, target: &Target, step: ConfirmStep, id: Id) -> Result<()> {
        let mut pkexec = Command::new("pkexec");
        // There is no terminal for it to ask at.
        pkexec.arg("--disable-internal-agent");
        let is_default = self.machine.config_file == Path::new(args::CONFIG);
        if self.machine.paths.is_machine() && is_default {
            // The program of the system, which polkit's action names.
            pkexec.arg("comin");
        } else {
            let comin = std::env::current_exe().context("Failed to find the comin program")?;
            // It runs it elsewhere.
            let config = absolute(&self.machine.config_file)?;
            pkexec.arg(comin).arg("--config").arg(config);
            pkexec.arg("--root").arg(self.machine.paths.root());
        }
        pkexec
            .args(["confirm", &step.to_string()])
            .args(["--commit", target.commit.as_str()])
            .args(["--operation", &target.operation.to_string()]);
        if let Err(error) = command::run(&mut pkexec, "pkexec", Some(AUTHENTICATION)) {
            let text = format!("{target} is not confirmed\n{error:#}");
            self.notification(Milestone::Failed, &text).show(Some(id))?;
        }
        Ok(())
    }

    fn text(&self, attempt: &Attempt, event: Milestone, consent: Option<Approval>) -> String {
        let Attempt {
            target, subject, ..
        } = attempt;
        let error = || {
            let words = attempt.ended().map(|(_, outcome)| words(outcome));
            words.and_then(|(_, error, _)| error).unwrap_or_default()
        };
        match event {
            Milestone::Begun => format!("Deploying {target}\n{subject}"),
            Milestone::Waits(step) => {
                let what = step.participle();
                let how = match consent {
                    Some(Approval::At(time)) => {
                        let time = Page::here().at(time);
                        format!("is {what} at {time}, or when you confirm it")
                    }
                    Some(Approval::Given | Approval::Missing) | None => {
                        format!("waits for your confirmation to be {what}")
                    }
                };
                format!("{target} {how}\n{subject}")
            }
            Milestone::GoesOn => format!("{target} waits no longer\n{subject}"),
            Milestone::Done => {
                let Context { config, paths, .. } = self.machine;
                let reboot = match &reboot_reasons::reasons(config, paths, Some(attempt))[..] {
                    [] => String::new(),
                    reasons => format!("\nA reboot is needed: {}", reasons.join(", ")),
                };
                format!("Deployed {target}\n{subject}{reboot}")
            }
            Milestone::Stopped => format!("{target} will not be deployed\n{subject}"),
            Milestone::Failed => format!("Failed to deploy {target}\n{}", error()),
            Milestone::RolledBack => format!("Rolled back {target}\n{}", error()),
            Milestone::Skipped => format!("Skipped {target}\n{}", error()),
        }
    }
}
