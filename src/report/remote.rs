//! The remotes: when each was last fetched, where its branches are, and what was refused.

use jiff::Timestamp;
use serde::Serialize;

use super::page::{column, Page, Tone};
use super::verdict::{Grade, Verdict};
use super::{cures, seconds};
use crate::config::Remote;
use crate::model::{Candidate, Commit, Cure, Refusal};
use crate::state::fetch_record::FetchRecord;
use crate::sys::diagnosis::{in_short, Cause};
use crate::sys::text::{fact_and_advice, in_brackets, printable, without_codes};
use crate::system::timers::FetchSchedule;

/// A remote.
#[derive(Debug, Serialize)]
pub struct RemoteStatus {
    pub(super) name: String,
    url: String,
    /// The latest fetch that worked.
    #[serde(serialize_with = "seconds::optional")]
    pub(super) fetched_at: Option<Timestamp>,
    /// The latest fetch.
    #[serde(serialize_with = "seconds::optional")]
    pub(super) attempted_at: Option<Timestamp>,
    pub(super) error: Option<String>,
    /// When systemd fetches it next, where that is known.
    #[serde(serialize_with = "seconds::optional")]
    pub(super) next_fetch_at: Option<Timestamp>,
    /// Whether systemd fetches it when there is a commit.
    pub(super) watched: bool,
    /// Whether the latest fetch is too long ago to know what the remote has now.
    #[serde(rename = "stale")]
    pub(super) is_stale: bool,
    main: Option<BranchStatus>,
    testing: Option<BranchStatus>,
}

/// A branch of a remote.
#[derive(Debug, Serialize)]
pub(super) struct BranchStatus {
    pub(super) name: String,
    pub(super) commit: Option<Commit>,
    refused: Option<String>,
    /// The same for programs.
    pub(super) reason: Option<&'static str>,
    /// The command that helps, if one does.
    cure: Option<Cure>,
    #[serde(skip)]
    remark: Remark,
}

/// How much a person wants to hear of a branch's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remark {
    /// Nothing: it is not there, or its remote has said why it does not count.
    Silence,
    /// That it is as it is.
    Aside,
    /// That what they did is not going to have the effect they expect.
    News,
}

impl RemoteStatus {
    /// What is known of one.
    pub fn of(
        remote: &Remote,
        record: Option<FetchRecord>,
        poll: FetchSchedule,
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Self {
        let branch = |testing: bool| {
            let is_it = |c: &&Candidate| c.remote == remote.name && c.testing == testing;
            candidates.iter().find(is_it).map(BranchStatus::of)
        };
        let attempted_at = record.as_ref().map(|record| record.attempted_at);
        Self {
            is_stale: attempted_at
                .is_some_and(|at| poll.is_overdue(now.duration_since(at), remote)),
            attempted_at,
            name: remote.name.to_string(),
            url: remote.url.to_string(),
            fetched_at: record.as_ref().and_then(|record| record.succeeded_at),
            error: record
                .and_then(|record| record.error)
                .map(|error| without_codes(&error).into_owned()),
            next_fetch_at: poll.next,
            watched: poll.watched,
            main: branch(false),
            testing: branch(true),
        }
    }

    pub(super) fn branches(&self) -> impl Iterator<Item = &BranchStatus> {
        self.main.iter().chain(&self.testing)
    }

    /// Whether its branches count.
    pub(super) fn is_reached(&self) -> bool {
        self.error.is_none() && self.fetched_at.is_some()
    }

    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<Verdict<'_>> {
        let name = &self.name;
        let problem = |sentence: String, detail: String, cures| {
            let verdict = Verdict::new("up to date", sentence).graded(Grade::Warned);
            verdict.with_detail(detail).with_cures(cures)
        };
        if let Some(error) = &self.error {
            let unreachable = format!("the remote {name} cannot be fetched");
            let why = in_short(error);
            let sentence = in_brackets(&unreachable, Some(&why));
            let cures = match Cause::of(error).filter(|cause| cause.is_local()) {
                Some(cause) => cures::of_cause(cause),
                None => vec![Cure::fix(format!("sudo comin fetch {name}"))],
            };
            return vec![problem(sentence, unreachable, cures)];
        }
        let refused = self.branches().filter(|it| it.remark == Remark::News);
        let refused = refused.map(|it| {
            let refused = format!("{name}/{} is refused", printable(&it.name));
            let why = printable(it.refused.as_deref().unwrap_or_default());
            let (fact, advice) = fact_and_advice(&why);
            let cures = it.cure.iter().cloned().chain(advice.map(Cure::advice));
            let sentence = format!("{refused}: {fact}");
            problem(sentence, in_brackets(&refused, it.reason), cures.collect())
        });
        refused.collect()
    }

    /// That its latest fetch is too long ago, if it is: as in "the remote origin has not been fetched for 4 days", and the
    /// same with the date for who reads it later.
    pub(super) fn lateness(&self, page: &Page) -> Option<[String; 2]> {
        let at = self.attempted_at.filter(|_| self.is_stale)?;
        let times = [("for", page.since(at)), ("since", page.at(at))];
        Some(times.map(|(word, time)| {
            format!(
                "the remote {} has not been fetched {word} {time}",
                self.name
            )
        }))
    }

    /// What of it there is to say.
    pub(super) fn text(&self, page: &Page) -> String {
        let mut lines = vec![printable(&self.url).into_owned()];
        if let Some(error) = &self.error {
            let error = format!("cannot be fetched: {}", printable(error));
            lines.push(page.paint(Tone::Bad, &error));
        }
        let fetched = match self.fetched_at {
            Some(time) => format!("fetched {}", page.ago(time)),
            None => "not fetched since the boot".to_string(),
        };
        let next = match self.next_fetch_at {
            _ if self.watched => ", watched".to_string(),
            Some(next) => format!(", next {}", page.until(next)),
            None => String::new(),
        };
        let tone = if self.is_stale {
            Tone::Bad
        } else {
            Tone::Aside
        };
        lines.push(page.paint(tone, &format!("{fetched}{next}")));
        let text = page.entry(&self.name, &lines.join("\n"));
        let names: Vec<_> = self.branches().map(|it| printable(&it.name)).collect();
        let width = column(names.iter().map(AsRef::as_ref));
        let lines = self
            .branches()
            .filter_map(|branch| branch.line(width, page));
        text + &lines.collect::<String>()
    }
}

impl BranchStatus {
    fn of(candidate: &Candidate) -> Self {
        // A testing branch that does not exist is nothing to be refused.
        let is_absent = |it: &Refusal| candidate.testing && *it == Refusal::Missing;
        let refusal = candidate.refusal().filter(|it| !is_absent(it));
        let remark = match &refusal {
            None if candidate.head.commit.is_none() => Remark::Silence,
            Some(Refusal::NotFetched | Refusal::Unreachable) => Remark::Silence,
            Some(refusal) if refusal.is_notable() => Remark::News,
            Some(_) | None => Remark::Aside,
        };
        Self {
            name: candidate.head.branch.name.clone(),
            commit: candidate.head.commit.clone(),
            refused: refusal.as_ref().map(Refusal::to_string),
            reason: refusal.as_ref().map(Refusal::reason),
            cure: refusal.as_ref().and_then(Refusal::cure),
            remark,
        }
    }

    /// As in `testing-m  3f2a9c1e  it has nothing that main does not have`; `None` where nobody wants to
    /// hear of it. Why it is refused and what helps is said above as a problem.
    fn line(&self, width: usize, page: &Page) -> Option<String> {
        let refused = match self.remark {
            Remark::Silence if self.commit.is_none() => return None,
            Remark::Silence => String::new(),
            Remark::Aside => {
                let why = printable(self.refused.as_deref().unwrap_or_default());
                page.paint(Tone::Aside, &why)
            }
            Remark::News => page.paint(Tone::Bad, &in_brackets("refused", self.reason)),
        };
        let commit = self.commit.as_ref().map_or("-", Commit::short);
        let text = format!("{commit}  {refused}");
        Some(page.below(&printable(&self.name), width, text.trim_end()))
    }
}
