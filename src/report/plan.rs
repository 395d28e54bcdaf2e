//! What a deploy would do now, and what it thinks of every branch.

use std::borrow::Cow;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::headline::{NOTHING_QUALIFIES, NOT_FETCHED, UNREACHABLE};
use super::host_state::{Absence, HealingView, HostState, InProgress, Skip};
use super::page::{column, Page, Tone};
use super::target::{by_name, Report, TargetView};
use super::{cures, seconds};
use crate::model::{
    Action, Candidate, Commit, Cure, Decision, Drift, Eligibility, Lookup, Operation, Refusal,
    Target,
};
use crate::sys::text::printable;
use crate::system;

/// What a deploy would do now, and what it thinks of every branch.
#[derive(Debug, Serialize)]
pub struct Plan {
    #[serde(serialize_with = "by_name")]
    action: Action,
    hindrance: Option<String>,
    target: Option<TargetView>,
    /// The system of the target, if CI has built it.
    pub prebuilt: Option<PathBuf>,
    #[serde(serialize_with = "seconds::optional")]
    retry_at: Option<Timestamp>,
    drift: Option<Drift>,
    healing: Option<HealingView>,
    /// Why the target does not run, although it is deployed.
    #[serde(skip)]
    absence: Option<Absence>,
    candidates: Vec<CandidateView>,
    /// That there is no main.
    #[serde(skip)]
    missing: Option<String>,
    /// That the target was skipped.
    #[serde(skip)]
    skip: Option<Skip>,
    /// What is selected, whether or not it would be deployed now.
    #[serde(skip)]
    pub selected: Option<Target>,
    /// What a deploy is doing already.
    #[serde(skip)]
    in_progress: Option<InProgress>,
}

#[derive(Debug, Serialize)]
struct CandidateView {
    remote: String,
    branch: String,
    testing: bool,
    commit: Option<Commit>,
    #[serde(rename = "verdict", serialize_with = "by_word")]
    eligibility: Eligibility,
    refused: Option<String>,
    /// The command that helps, if one does.
    cure: Option<Cure>,
    #[serde(skip)]
    refusal: Option<Refusal>,
}

/// Whether a branch may be deployed, as the JSON has it: what it is about stands beside it.
fn by_word<S: Serializer>(eligibility: &Eligibility, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match eligibility {
        Eligibility::Selected(_) => "selected",
        Eligibility::Qualifies(_) => "qualifies",
        Eligibility::Refused(_) => "refused",
    })
}

/// What is known of the system of what is selected.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outlook<'a> {
    /// Nothing: it has not been built.
    Unknown,
    /// It is not for this machine.
    Skipped,
    /// This keeps it from being switched to, if anything does.
    Inhibited(&'a [String]),
}

impl Plan {
    /// Tells what was decided.
    pub fn new(
        decision: Decision,
        prebuilt: Option<Lookup>,
        target: Option<TargetView>,
        host: HostState,
    ) -> Self {
        Self {
            missing: decision.missing_mains(),
            skip: target.as_ref().and_then(|target| host.skip(target)),
            hindrance: decision.hindrance(),
            retry_at: decision.action.again(),
            absence: target.as_ref().and_then(|target| host.absence(target)),
            action: decision.action,
            target,
            prebuilt: prebuilt.and_then(|lookup| lookup.system),
            candidates: decision.candidates.iter().map(CandidateView::of).collect(),
            selected: decision.selected,
            drift: host.seen.drift,
            healing: host.seen.healing,
            in_progress: host.in_progress,
        }
    }

    /// Why there is no system to build, if CI is to build it.
    pub fn unbuilt(&self) -> Option<String> {
        let is_awaited = matches!(self.action, Action::AwaitPrebuilt(_));
        is_awaited.then(|| "CI has not built it yet".to_string())
    }

    fn sentence(&self, outlook: Outlook, page: &Page) -> String {
        let Some(target) = &self.target else {
            return format!("Nothing to deploy: {}", self.why_nothing());
        };
        let is_it = |it: &&InProgress| it.attempt.target.commit == target.commit;
        if let Some(it) = self.in_progress.as_ref().filter(is_it) {
            return format!("Under way: {}", it.sentence(page));
        }
        let listed = |cures: Vec<Cure>| {
            let cures = Cure::in_order(cures)
                .into_iter()
                .map(|cure| format!("\n{cure}"));
            cures.collect::<String>()
        };
        let Some(hindrance) = self.action.hindrance(&|time| page.until(time)) else {
            return match (&self.action, &self.skip, &self.drift) {
                (Action::Nothing, Some(skip), _) => {
                    let cures = listed(Vec::from_iter(skip.cure()));
                    format!("Nothing to do: {target} {}{cures}", skip.clause(page))
                }
                (Action::Nothing, None, Some(drift)) => {
                    let what = drift.kind.clause();
                    let healing = self.healing.as_ref();
                    let healing =
                        healing.map(|it| format!("; {}", it.clause(&|at| page.until(at))));
                    let healing = healing.unwrap_or_default();
                    let why = format!("it is deployed, but {what}{healing}");
                    let cures = listed(vec![Cure::return_to(&target.commit), drift.cure_to_keep()]);
                    format!("Would not deploy {target}: {why}{cures}")
                }
                (Action::Nothing, None, None) => match self.absence {
                    None => format!("Nothing to do: {target} is deployed"),
                    Some(it) => {
                        let (why, cure) = (it.clause(), it.cure());
                        format!("Would not deploy {target}: it {why}\n{cure}")
                    }
                },
                (_, _, _) => would_deploy(target, outlook),
            };
        };
        let cures = listed(cures::of_action(&self.action, target, self.drift.as_ref()));
        let sentence = hindrance.sentence();
        let sentence = printable(&sentence);
        format!("Would not deploy {target}: it {sentence}{cures}")
    }

    /// Why no branch is selected, as the status has it.
    fn why_nothing(&self) -> Cow<'_, str> {
        if let Some(missing) = &self.missing {
            return printable(missing);
        }
        let mains = || {
            self.candidates
                .iter()
                .filter(|candidate| !candidate.testing)
        };
        let is_out = |main: &CandidateView| {
            let refusal = main.refusal.as_ref();
            matches!(refusal, Some(Refusal::NotFetched | Refusal::Unreachable))
        };
        Cow::Borrowed(if !mains().all(is_out) {
            NOTHING_QUALIFIES
        } else if mains().any(|main| main.refusal == Some(Refusal::Unreachable)) {
            UNREACHABLE
        } else {
            NOT_FETCHED
        })
    }
}

fn would_deploy(target: &TargetView, outlook: Outlook) -> String {
    let by = |operation: Operation| {
        let when = operation.when();
        format!("Would deploy {target} by {operation}, {when}")
    };
    match (outlook, target.operation) {
        (Outlook::Skipped, _) => format!("Would skip {target}"),
        (Outlook::Inhibited(inhibitors @ [_, ..]), Operation::Switch) => {
            let why = system::inhibited_by(inhibitors);
            format!("{}: {why}", by(Operation::Boot))
        }
        (Outlook::Inhibited(inhibitors @ [_, ..]), Operation::Test) => {
            let why = system::untestable_by(inhibitors);
            format!("Would skip {target}: {why}")
        }
        (Outlook::Unknown | Outlook::Inhibited(_), asked) => by(asked),
    }
}

impl CandidateView {
    fn of(candidate: &Candidate) -> Self {
        let refusal = candidate.refusal();
        Self {
            remote: candidate.remote.to_string(),
            branch: candidate.head.branch.name.clone(),
            testing: candidate.testing,
            commit: candidate.head.commit.clone(),
            eligibility: candidate.eligibility.clone(),
            refused: refusal.as_ref().map(ToString::to_string),
            cure: refusal.as_ref().and_then(Refusal::cure),
            refusal,
        }
    }

    /// A testing branch that does not exist.
    fn is_ordinary(&self) -> bool {
        self.testing && self.commit.is_none()
    }

    fn name(&self) -> String {
        format!("{}/{}", self.remote, printable(&self.branch))
    }

    /// As in `3f2a9c1e  qualifies`. Only what a person does not expect is called refused, as in the status.
    fn words(&self, page: &Page) -> String {
        let commit = self.commit.as_ref().map_or("-       ", Commit::short);
        let is_notable = self.refusal.as_ref().is_some_and(Refusal::is_notable);
        let refused = printable(self.refused.as_deref().unwrap_or_default());
        let word = match &self.eligibility {
            Eligibility::Selected(_) => page.paint(Tone::Good, "selected"),
            Eligibility::Qualifies(_) if self.refused.is_some() => "qualified".to_string(),
            Eligibility::Qualifies(_) => "qualifies".to_string(),
            Eligibility::Refused(_) if is_notable => {
                page.paint(Tone::Bad, &format!("refused: {refused}"))
            }
            Eligibility::Refused(_) => page.paint(Tone::Aside, &refused),
        };
        match (&self.eligibility, &self.refused) {
            (_, None) | (Eligibility::Refused(_), Some(_)) => {
                let cure = self.cure.as_ref().map(|cure| format!("\n{cure}"));
                format!("{commit}  {word}{}", cure.unwrap_or_default())
            }
            (Eligibility::Selected(_) | Eligibility::Qualifies(_), Some(_)) => {
                format!("{commit}  refused: {refused}; an ancestor of it is {word}")
            }
        }
    }
}

impl Report for Plan {
    fn text(&self, page: &Page) -> String {
        self.with_outlook(Outlook::Unknown, page)
    }
}

impl Plan {
    /// As a text, where something is known of the system of what is selected.
    pub(super) fn with_outlook(&self, outlook: Outlook, page: &Page) -> String {
        let mut text = page.wrapped("", 2, &self.sentence(outlook, page));
        let drift = self.drift.as_ref();
        if let Some(drift) = drift.filter(|_| self.action != Action::Nothing) {
            text += &page.wrapped("  ", 2, drift.kind.clause());
        }
        let candidates = self.candidates.iter().filter(|it| !it.is_ordinary());
        let candidates: Vec<_> = candidates.map(|it| (it, it.name())).collect();
        let width = column(candidates.iter().map(|(_, name)| name.as_str()));
        for (candidate, name) in &candidates {
            text += &page.row(2, name, width, width + 4, &candidate.words(page));
        }
        text
    }
}
