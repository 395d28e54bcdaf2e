//! What to deploy: a pure function from plain facts to a decision. No clock, no log, no disk.

mod cached;
mod refusal;
#[cfg(test)]
pub mod tests;

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::commit::Commit;
use crate::model::confirmation::Step;
use crate::model::names::{Branch, Operation, RemoteName};
use crate::model::quarantine::Quarantine;
use crate::model::schedule::{Again, Wait};
use crate::model::signature::{Signer, Unverified};
use crate::model::suspension::Suspension;
use crate::sys::text;
use cached::Cached;
pub use refusal::{Accepted, Cure, Refusal};

/// A followed branch and its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its name and operation.
    pub branch: Branch,
    /// `None` where the remote has no such branch.
    pub commit: Option<Commit>,
}

/// Whether the latest fetch of a remote worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Not fetched since the machine booted, or since its URL changed.
    Never,
    /// The latest fetch failed.
    Unreachable,
    /// The latest fetch worked; its heads are those of the remote.
    Fetched,
    /// Its heads cannot be read from the mirror, for this reason. The next fetch brings them anew.
    Unreadable(String),
}

/// What is known of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFacts {
    /// Its name.
    pub name: RemoteName,
    /// Whether its heads count.
    pub reach: Reach,
    /// The branch that is deployed to stay, if one is followed.
    pub main: Option<Head>,
    /// The branch that is tried, if one is followed.
    pub testing: Option<Head>,
}

/// Everything that a decision depends on, apart from the commits themselves: those are [`History`].
#[derive(Debug, Clone)]
pub struct Facts {
    /// In the order of the configuration.
    pub remotes: Vec<RemoteFacts>,
    /// The chosen main of the latest deployment that reached activation.
    pub accepted: Option<Accepted>,
    /// Whether a head that does not verify gives way to an ancestor of it that does.
    pub signed_ancestors: bool,
    /// What was last tried of each branch.
    pub tried: Vec<Target>,
    /// What was tried since the machine last changed; the latest first.
    pub recent: Vec<Recent>,
    /// What waits for a confirmation.
    pub awaited: Option<Awaited>,
    /// What is not deployed again.
    pub quarantine: Vec<Quarantine>,
    /// Whether the operator wants nothing deployed.
    pub suspended: Option<Suspension>,
    /// The time.
    pub now: Timestamp,
}

/// An attempt that has ended, as far as it matters to a decision.
#[derive(Debug, Clone)]
pub struct Recent {
    /// What was deployed.
    pub commit: Commit,
    /// How.
    pub operation: Operation,
    /// Whether the same may be tried again.
    pub again: Again,
}

/// An attempt that waits for a confirmation, as far as it matters to a decision.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// What is deployed.
    pub commit: Commit,
    /// How.
    pub operation: Operation,
    /// What is to be confirmed.
    pub step: Step,
    /// Whether it is.
    pub consent: Consent,
}

/// Whether something that waits for a confirmation may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// It may.
    Given,
    /// At this time, if nobody says so before. Where the clock has been set back, rather later than too early.
    At(Timestamp),
    /// Somebody has to say so.
    Missing,
}

/// Where a commit stands relative to a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// The base is in its history.
    Descendant,
    /// It is in the history of the base.
    Ancestor,
    /// Neither is in the other's history.
    Diverged,
    /// The history cannot be read.
    Unreadable(String),
}

/// Whether a commit may be deployed for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// The owner requires none.
    NotRequired,
    /// It is by somebody who is trusted.
    By(Signer),
    /// There is none that counts.
    Refused(Unverified),
}

/// What a decision asks about commits; only about those that could still be chosen.
pub trait History {
    /// Where `head` stands relative to another commit, `base`.
    fn relation(&self, base: &Commit, head: &Commit) -> Relation;

    /// Whether a commit is signed by somebody whom the owner trusts, if that is required.
    fn signature(&self, commit: &Commit) -> Signature;

    /// The ancestors of `head` that are not in the history of `base`; newest first. Not necessarily all of
    /// them.
    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit>;
}

/// What was found about a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is the one to deploy.
    Selected(Qualified),
    /// It could be deployed, but another one comes first.
    Qualifies(Qualified),
    /// It cannot.
    Refused(Refusal),
}

/// What of a branch can be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qualified {
    /// The head, or an ancestor of it.
    pub commit: Commit,
    /// Who signed it, where that is required.
    pub signer: Option<Signer>,
    /// Why it is not the head.
    pub passed_over: Option<Unverified>,
}

/// A head with its verdict. Every head gets one, whatever is said of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The remote.
    pub remote: RemoteName,
    /// The branch and its head.
    pub head: Head,
    /// Whether this is a testing branch.
    pub testing: bool,
    /// What was found.
    pub verdict: Verdict,
}

impl Candidate {
    /// Why the head cannot be deployed, if it cannot.
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.verdict {
            Verdict::Selected(qualified) | Verdict::Qualifies(qualified) => {
                qualified.passed_over.clone().map(Refusal::Unverified)
            }
            Verdict::Refused(refusal) => Some(refusal.clone()),
        }
    }
}

/// What to deploy, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Of which remote.
    pub remote: RemoteName,
    /// Of which branch.
    pub branch: String,
    /// Whether that is a testing branch.
    pub testing: bool,
    /// Its head, or the newest ancestor that is signed where the owner wants that.
    pub commit: Commit,
    /// Who signed it, where that is required.
    pub signer: Option<String>,
    /// How it is activated.
    pub operation: Operation,
    /// The main it stands on: accepted once it reaches activation.
    pub main: Commit,
}

impl Target {
    /// Whether it is this commit, activated in this way: what has become of one has become of the other,
    /// whichever remote has it.
    pub fn is(&self, commit: &Commit, operation: Operation) -> bool {
        (&self.commit, self.operation) == (commit, operation)
    }

    /// Whether it is of this branch of this remote.
    pub fn is_of(&self, remote: &RemoteName, branch: &str, testing: bool) -> bool {
        (&self.remote, &*self.branch, self.testing) == (remote, branch, testing)
    }
}

/// As in `3f2a9c1e (origin/main)`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}/{})",
            self.commit.short(),
            self.remote,
            self.branch
        )
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deploy the selected target.
    Deploy,
    /// It failed; the same is tried again after a wait.
    Retry(Wait),
    /// It was undone by an outage; the same is tried again when one of these remotes is back.
    AwaitRemotes(Vec<RemoteName>),
    /// It goes on when somebody confirms this step, or after the wait where there is one.
    AwaitConfirmation(Step, Option<Wait>),
    /// It is in quarantine.
    Quarantined(Quarantine),
    /// The operator wants nothing deployed.
    Suspended(Suspension),
    /// Its activation failed, and is not repeated.
    GivenUp,
    /// It is deployed, or there is nothing to deploy.
    Nothing,
}

/// The decision on one set of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the machine should run; `None` where no head qualifies.
    pub selected: Option<Target>,
    /// What is to be done about it.
    pub action: Action,
    /// Every head, remote by remote, main first.
    pub candidates: Vec<Candidate>,
}

/// Decides.
///
/// 1. A main qualifies when it is the accepted main or a descendant of it. One that another of them
///    contains steps back behind that one, and of the rest the first is chosen. If none qualifies the
///    accepted main stays the base of 2.
/// 2. A testing head qualifies when it is a strict descendant of the chosen main. The first one
///    wins over main.
/// 3. Where signatures are required, what does not verify does not qualify. As long as a head does not, what was last
///    tried of its branch stands for it, if the branch still contains that.
pub fn decide(facts: &Facts, history: &impl History) -> Decision {
    let history = Cached::new(history);
    let court = Court { facts, history };
    let mut mains: Vec<Judged> = facts
        .remotes
        .iter()
        .filter_map(|remote| court.judge_main(remote))
        .collect();
    let chosen = court.choose(&mains);
    if chosen.is_some() {
        mains.iter_mut().for_each(Judged::wait_for_push);
    }
    let base = chosen
        .and_then(|main| mains[main].commit())
        .or(facts.accepted.as_ref().map(|accepted| &accepted.commit))
        .cloned();
    let mut testings: Vec<Judged> = facts
        .remotes
        .iter()
        .filter_map(|remote| court.judge_testing(remote, base.as_ref()))
        .collect();
    let tested = first(&testings, Standing::Ahead);
    if chosen.is_none() && court.is_lost(mains.iter().chain(&testings)) {
        court.propose(&mut mains);
    }

    let winner = match (tested, chosen) {
        (Some(testing), _) => Some(&mut testings[testing]),
        (None, Some(main)) => Some(&mut mains[main]),
        (None, None) => None,
    };
    let selected = winner
        .zip(base)
        .and_then(|(winner, base)| winner.select(base));
    let mut candidates: Vec<Candidate> = mains
        .into_iter()
        .chain(testings)
        .map(Judged::done)
        .collect();
    let position = |c: &Candidate| facts.remotes.iter().position(|r| r.name == c.remote);
    candidates.sort_by_key(|candidate| (position(candidate), candidate.testing));
    Decision::recalled(selected, candidates, facts)
}

/// Whether a target may still be deployed, whatever else is selected by now: its branch contains its commit, and that
/// would qualify if it were the head.
pub fn allows(facts: &Facts, target: &Target, history: &impl History) -> bool {
    let mut facts = facts.clone();
    let mut remotes = facts.remotes.iter_mut();
    let Some(remote) = remotes.find(|remote| remote.name == target.remote) else {
        return false;
    };
    if remote.reach != Reach::Fetched {
        return true;
    }
    let head = if target.testing {
        &mut remote.testing
    } else {
        &mut remote.main
    };
    let branch = Branch {
        name: target.branch.clone(),
        operation: target.operation,
    };
    let Some(head) = head.as_mut().filter(|head| head.branch == branch) else {
        return false;
    };
    let before = head.commit.replace(target.commit.clone());
    let is_contained = |commit: Commit| {
        commit == target.commit || history.relation(&target.commit, &commit) == Relation::Descendant
    };
    let is_it = |it: &Candidate| {
        let qualifies = matches!(
            &it.verdict,
            Verdict::Selected(found) | Verdict::Qualifies(found) if found.commit == target.commit
        );
        qualifies && target.is_of(&it.remote, &it.head.branch.name, it.testing)
    };
    let mut candidates = decide(&facts, history).candidates.into_iter();
    before.is_some_and(is_contained) && candidates.any(|it| is_it(&it))
}

fn first(judged: &[Judged], standing: Standing) -> Option<usize> {
    let stands = |judged: &Judged| matches!(&judged.result, Ok((_, s)) if *s == standing);
    judged.iter().position(stands)
}

fn action(selected: Option<&Target>, candidates: &[Candidate], facts: &Facts) -> Action {
    let Some(target) = selected else {
        return Action::Nothing;
    };
    match (due(target, candidates, facts), &facts.suspended) {
        (action @ (Action::Nothing | Action::Quarantined(_)), _) | (action, None) => action,
        (_, Some(suspension)) => Action::Suspended(suspension.clone()),
    }
}

/// What is to be done about a target where the operator has suspended nothing.
pub fn due(target: &Target, candidates: &[Candidate], facts: &Facts) -> Action {
    let mut quarantine = facts.quarantine.iter();
    if let Some(quarantine) = quarantine.find(|q| q.holds(target, candidates)) {
        return Action::Quarantined(quarantine.clone());
    }
    let is_awaited = |a: &&Awaited| target.is(&a.commit, a.operation);
    if let Some(awaited) = facts.awaited.as_ref().filter(is_awaited) {
        return match awaited.consent {
            Consent::Given => Action::Deploy,
            Consent::At(time) if time <= facts.now => Action::Deploy,
            Consent::At(time) => {
                let wait = Wait::until(facts.now, time);
                Action::AwaitConfirmation(awaited.step, Some(wait))
            }
            Consent::Missing => Action::AwaitConfirmation(awaited.step, None),
        };
    }
    let is_same = |r: &&Recent| target.is(&r.commit, r.operation);
    let is_back = |name: &RemoteName| {
        let remote = facts.remotes.iter().find(|remote| remote.name == *name);
        remote.is_none_or(|remote| remote.reach == Reach::Fetched)
    };
    match facts
        .recent
        .iter()
        .find(is_same)
        .map(|recent| &recent.again)
    {
        None => Action::Deploy,
        Some(Again::Done) => Action::Nothing,
        Some(Again::Never) => Action::GivenUp,
        Some(Again::After(wait)) if wait.is_over(facts.now) => Action::Deploy,
        Some(Again::After(wait)) => Action::Retry(*wait),
        Some(Again::WhenBack(remotes)) if remotes.iter().any(is_back) => Action::Deploy,
        Some(Again::WhenBack(remotes)) => Action::AwaitRemotes(remotes.clone()),
    }
}

impl Action {
    /// The word for it in the plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Retry(_) => "retry",
            Self::AwaitRemotes(_) => "await_remotes",
            Self::AwaitConfirmation(_, _) => "await_confirmation",
            Self::Quarantined(_) => "quarantined",
            Self::Suspended(_) => "suspended",
            Self::GivenUp => "given_up",
            Self::Nothing => "nothing",
        }
    }

    /// Why a target that was selected is not deployed now, where a person could expect it.
    pub fn hindrance(&self) -> Option<String> {
        match self {
            Self::Deploy | Self::Nothing => None,
            Self::Retry(wait) => Some(format!(
                "it failed before and is {}",
                Again::After(*wait).sentence()
            )),
            Self::AwaitRemotes(remotes) => Some(format!(
                "it was rolled back in an outage and is {}",
                Again::WhenBack(remotes.clone()).sentence()
            )),
            Self::AwaitConfirmation(step, None) => Some(format!(
                "it waits for your confirmation to be {}: comin confirm {step}",
                step.participle()
            )),
            Self::AwaitConfirmation(step, Some(wait)) => Some(format!(
                "it waits to be {} at {}, or at once with comin confirm {step}",
                step.participle(),
                text::at(wait.until)
            )),
            Self::Quarantined(quarantine) => Some(format!(
                "it is in quarantine until a head moves, or comin retry: {}",
                quarantine.reason
            )),
            Self::Suspended(suspension) => Some(suspension.to_string()),
            Self::GivenUp => Some(format!(
                "its activation failed and is {}",
                Again::Never.sentence()
            )),
        }
    }

    /// When there may be something else to do without any news.
    pub fn again(&self) -> Option<Timestamp> {
        match self {
            Self::Retry(wait) => Some(wait.until),
            Self::AwaitConfirmation(_, wait) => wait.map(|wait| wait.until),
            Self::Suspended(suspension) => suspension.until,
            Self::Deploy
            | Self::AwaitRemotes(_)
            | Self::Quarantined(_)
            | Self::GivenUp
            | Self::Nothing => None,
        }
    }
}

impl Decision {
    /// What is to be deployed now.
    pub fn to_deploy(&self) -> Option<&Target> {
        let is_due = self.action == Action::Deploy;
        self.selected.as_ref().filter(|_| is_due)
    }

    /// What was selected and is not deployed now, where a person could expect it, and why.
    pub fn hindered(&self) -> Option<(&Target, String)> {
        self.selected.as_ref().zip(self.action.hindrance())
    }

    /// That there is no main, as a clause with the cure, if none of the followed ones exists and nothing qualifies
    /// instead.
    pub fn missing(&self) -> Option<String> {
        let mains = || self.candidates.iter().filter(|it| !it.testing);
        let is_missing = |main: &Candidate| main.verdict == Verdict::Refused(Refusal::Missing);
        if self.selected.is_some() || !mains().all(is_missing) {
            return None;
        }
        let names: Vec<String> = mains()
            .map(|main| format!("no {}/{}", main.remote, main.head.branch.name))
            .collect();
        let which = if names.len() == 1 {
            "it"
        } else {
            "one of them"
        };
        Some(format!(
            "there is {}; push {which}, or name another branch in branches.main.name",
            names.join(" and ")
        ))
    }

    /// The decision where it is known already what of the heads qualifies.
    pub fn recalled(selected: Option<Target>, candidates: Vec<Candidate>, facts: &Facts) -> Self {
        Self {
            action: action(selected.as_ref(), &candidates, facts),
            selected,
            candidates,
        }
    }

    /// Whether a deployment of `target` that is still evaluated or built has lost its point: there
    /// is another one to deploy, or its remote has taken it back. That its remote cannot be reached
    /// for a while is no reason.
    pub fn supersedes(&self, target: &Target, facts: &Facts) -> bool {
        let same = |selected: &Target| target.is(&selected.commit, selected.operation);
        let own = facts.remotes.iter().find(|r| r.name == target.remote);
        let taken_back = own.is_none_or(|remote| remote.reach == Reach::Fetched);
        !self.selected.as_ref().is_some_and(same) && (self.action == Action::Deploy || taken_back)
    }
}

/// How a head that qualifies stands to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ahead,
    Level,
}

/// Judges heads.
struct Court<'a, H> {
    facts: &'a Facts,
    history: Cached<'a, H>,
}

impl<'a, H: History> Court<'a, H> {
    /// The first main that none of the others contains. All that are ahead contain the accepted one.
    fn choose(&self, mains: &[Judged]) -> Option<usize> {
        let mut ahead: VecDeque<(usize, &Commit)> = VecDeque::new();
        for (index, main) in mains.iter().enumerate() {
            if let Ok((main, Standing::Ahead)) = &main.result {
                if ahead.iter().all(|(_, commit)| **commit != main.commit) {
                    ahead.push_back((index, &main.commit));
                }
            }
        }
        while let Some((index, commit)) = ahead.pop_front() {
            let mut is_contained = false;
            // Those that it contains need not be asked about: whatever it steps back behind contains them, too.
            ahead.retain(|(_, other)| {
                let relation = (!is_contained).then(|| self.history.relation(commit, other));
                is_contained |= relation == Some(Relation::Descendant);
                relation != Some(Relation::Ancestor)
            });
            if !is_contained {
                return Some(index);
            }
        }
        first(mains, Standing::Level)
    }

    fn judge_main(&self, remote: &'a RemoteFacts) -> Option<Judged<'a>> {
        let head = remote.main.as_ref()?;
        let accepted = self.facts.accepted.as_ref();
        let stand = |commit: &Commit| {
            let Some(accepted) = accepted else {
                return Ok(Standing::Ahead);
            };
            match self.history.relation(&accepted.commit, commit) {
                Relation::Equal => Ok(Standing::Level),
                Relation::Descendant => Ok(Standing::Ahead),
                Relation::Ancestor => Err(Refusal::Rewound {
                    head: commit.clone(),
                    accepted: accepted.clone(),
                    cure: Cure::Push,
                }),
                Relation::Diverged => Err(Refusal::Rewritten {
                    head: commit.clone(),
                    accepted: accepted.clone(),
                    cure: Cure::Push,
                }),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        };
        let base = accepted.map(|accepted| &accepted.commit);
        let result = self.judge(remote, head, false, base, stand);
        Some(Judged::new(remote, head, false, result))
    }

    fn judge_testing(&self, remote: &'a RemoteFacts, base: Option<&Commit>) -> Option<Judged<'a>> {
        let head = remote.testing.as_ref()?;
        let stand = |commit: &Commit| {
            let base = base.ok_or(Refusal::NoMain)?;
            match self.history.relation(base, commit) {
                Relation::Descendant => Ok(Standing::Ahead),
                Relation::Equal | Relation::Ancestor => Err(Refusal::InMain),
                Relation::Diverged => Err(Refusal::NotOnMain(base.clone())),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        };
        let result = self.judge(remote, head, true, base, stand);
        Some(Judged::new(remote, head, true, result))
    }

    /// Whether no followed branch contains the accepted main any more, if no main qualifies: it was amended or
    /// rebased. As long as a remote cannot be fetched that had branches, nobody knows.
    fn is_lost<'j>(&self, mut judged: impl Iterator<Item = &'j Judged<'a>>) -> bool
    where
        'a: 'j,
    {
        let Some(accepted) = &self.facts.accepted else {
            return false;
        };
        judged.all(|judged| match &judged.result {
            // What lacks a signature contains it all the same.
            Ok(_) | Err(Refusal::Unverified(_) | Refusal::Unreadable(_)) => false,
            Err(Refusal::NotFetched | Refusal::Unreachable) => judged.head.commit.is_none(),
            Err(Refusal::InMain) => judged.head.commit.as_ref() != Some(&accepted.commit),
            Err(
                Refusal::Missing
                | Refusal::Behind(_)
                | Refusal::Rewound { .. }
                | Refusal::Rewritten { .. }
                | Refusal::NoMain
                | Refusal::NotOnMain(_),
            ) => true,
        })
    }

    /// Proposes one main to accept: the first that was rewritten, or if none was, the first that was rewound. One
    /// without a good signature cannot be accepted.
    fn propose(&self, mains: &mut [Judged]) {
        let is_rewritten = |main: &Judged| matches!(main.result, Err(Refusal::Rewritten { .. }));
        let is_any_rewritten = mains.iter().any(is_rewritten);
        let mut is_proposed = false;
        for main in mains {
            let comes_first = is_rewritten(main) || !is_any_rewritten;
            let Err(Refusal::Rewound { head, cure, .. } | Refusal::Rewritten { head, cure, .. }) =
                &mut main.result
            else {
                continue;
            };
            *cure = Cure::AcceptAnother;
            if !comes_first || is_proposed {
                continue;
            }
            match self.verified(head, None) {
                Ok(_) => {
                    *cure = Cure::Accept;
                    is_proposed = true;
                }
                Err(unverified) => main.result = Err(Refusal::Unverified(unverified)),
            }
        }
    }

    /// The head if it qualifies. If it only lacks a signature, an ancestor that lacks nothing: the newest one if the
    /// owner wants that, else the one that was tried last.
    fn judge(
        &self,
        remote: &RemoteFacts,
        head: &Head,
        testing: bool,
        base: Option<&Commit>,
        stand: impl Fn(&Commit) -> Result<Standing, Refusal>,
    ) -> Result<(Qualified, Standing), Refusal> {
        let commit = usable(remote, head)?;
        let standing = stand(commit)?;
        let unverified = match self.verified(commit, None) {
            Ok(qualified) => return Ok((qualified, standing)),
            Err(unverified) => unverified,
        };
        let (ancestors, base) = if self.facts.signed_ancestors && standing == Standing::Ahead {
            (self.history.ancestors(base, commit), base)
        } else {
            (Vec::new(), None)
        };
        let is_of_branch = |it: &&Target| it.is_of(&remote.name, &head.branch.name, testing);
        let is_contained = |it: &&Commit| self.history.relation(it, commit) == Relation::Descendant;
        let tried = self.facts.tried.iter().find(is_of_branch);
        let tried = tried.map(|tried| &tried.commit).filter(is_contained);
        let mut ancestors = ancestors.iter().chain(tried).chain(base);
        let taken = ancestors.find_map(|ancestor| {
            let standing = stand(ancestor).ok()?;
            let qualified = self.verified(ancestor, Some(&unverified)).ok()?;
            Some((qualified, standing))
        });
        taken.ok_or(Refusal::Unverified(unverified))
    }

    fn verified(
        &self,
        commit: &Commit,
        passed_over: Option<&Unverified>,
    ) -> Result<Qualified, Unverified> {
        let signer = match self.history.signature(commit) {
            Signature::NotRequired => None,
            Signature::By(signer) => Some(signer),
            Signature::Refused(unverified) => return Err(unverified),
        };
        Ok(Qualified {
            commit: commit.clone(),
            signer,
            passed_over: passed_over.cloned(),
        })
    }
}

/// A head under judgement.
struct Judged<'a> {
    remote: &'a RemoteName,
    head: &'a Head,
    testing: bool,
    result: Result<(Qualified, Standing), Refusal>,
    selected: bool,
}

impl<'a> Judged<'a> {
    fn new(
        remote: &'a RemoteFacts,
        head: &'a Head,
        testing: bool,
        result: Result<(Qualified, Standing), Refusal>,
    ) -> Self {
        Self {
            remote: &remote.name,
            head,
            testing,
            result,
            selected: false,
        }
    }

    /// What is behind while another remote's main qualifies was not rewound.
    fn wait_for_push(&mut self) {
        if let Err(Refusal::Rewound { accepted, .. }) = &self.result {
            self.result = Err(Refusal::Behind(accepted.clone()));
        }
    }

    /// What of it can be deployed.
    fn commit(&self) -> Option<&Commit> {
        self.result
            .as_ref()
            .ok()
            .map(|(qualified, _)| &qualified.commit)
    }

    fn select(&mut self, main: Commit) -> Option<Target> {
        let (qualified, _) = self.result.as_ref().ok()?;
        self.selected = true;
        Some(Target {
            remote: self.remote.clone(),
            branch: self.head.branch.name.clone(),
            testing: self.testing,
            commit: qualified.commit.clone(),
            signer: qualified.signer.as_ref().map(Signer::to_string),
            operation: self.head.branch.operation,
            main,
        })
    }

    fn done(self) -> Candidate {
        Candidate {
            remote: self.remote.clone(),
            head: self.head.clone(),
            testing: self.testing,
            verdict: match self.result {
                Ok((qualified, _)) if self.selected => Verdict::Selected(qualified),
                Ok((qualified, _)) => Verdict::Qualifies(qualified),
                Err(refusal) => Verdict::Refused(refusal),
            },
        }
    }
}

/// The head's commit, if it is known and counts.
fn usable<'a>(remote: &RemoteFacts, head: &'a Head) -> Result<&'a Commit, Refusal> {
    match &remote.reach {
        Reach::Never => Err(Refusal::NotFetched),
        Reach::Unreachable => Err(Refusal::Unreachable),
        Reach::Fetched => head.commit.as_ref().ok_or(Refusal::Missing),
        Reach::Unreadable(error) => Err(Refusal::Unreadable(error.clone())),
    }
}
