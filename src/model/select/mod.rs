//! What to deploy: a pure function from plain facts to a decision. No clock, no log, no disk.

mod cached;
#[cfg(test)]
pub mod tests;

use std::collections::VecDeque;

use crate::model::candidate::{Candidate, Eligibility, Qualified};
use crate::model::history::{History, Relation, Signature};
use crate::model::names::{Branch, RemoteName};
use crate::model::refusal::{Displaced, Refusal, Remedy};
use crate::model::remote::{Head, Reach, RemoteFacts};
use crate::model::signature::{Signer, Unverified};
use crate::model::{commit::Commit, decision::Decision, facts::Facts, target::Target};
use cached::Cached;

/// Decides.
///
/// 1. A main qualifies when it is the accepted main or a descendant of it. One that another of them
///    contains steps back behind that one, and of the rest the first is chosen. If none qualifies the
///    accepted main takes the place of the chosen one.
/// 2. A testing head qualifies when it is a strict descendant of the chosen main. The first one
///    wins over main.
/// 3. Where signatures are required, what does not verify does not qualify. As long as a head does not, what was last
///    tried of its branch stands for it, if the branch still contains that.
pub fn decide(facts: &Facts, history: &impl History) -> Decision {
    let history = Cached::new(history);
    let judge = Judge { facts, history };
    let mut mains: Vec<Judged> = facts
        .remotes
        .iter()
        .filter_map(|remote| judge.main(remote))
        .collect();
    let chosen = judge.choose(&mains);
    if chosen.is_some() {
        mains.iter_mut().for_each(Judged::mark_behind);
    }
    let main = chosen
        .and_then(|index| mains[index].commit())
        .or(facts.accepted.as_ref().map(|accepted| &accepted.commit))
        .cloned();
    let mut testings: Vec<Judged> = facts
        .remotes
        .iter()
        .filter_map(|remote| judge.testing(remote, main.as_ref()))
        .collect();
    let tested = first(&testings, Position::Ahead);
    if chosen.is_none() && judge.is_lost(mains.iter().chain(&testings)) {
        judge.propose(&mut mains);
    }

    let winner = match (tested, chosen) {
        (Some(testing), _) => Some(&mut testings[testing]),
        (None, Some(main)) => Some(&mut mains[main]),
        (None, None) => None,
    };
    let selected = winner
        .zip(main)
        .and_then(|(winner, main)| winner.select(main));
    let mut candidates: Vec<Candidate> = mains
        .into_iter()
        .chain(testings)
        .map(Judged::done)
        .collect();
    let position = |c: &Candidate| facts.remotes.iter().position(|r| r.name == c.remote);
    candidates.sort_by_key(|candidate| (position(candidate), candidate.testing));
    Decision::new(selected, candidates, facts)
}

/// Whether a target may still be deployed, whatever else is selected by now: its branch contains its commit, and that
/// would qualify if it were the head.
pub fn may_still_be_deployed(facts: &Facts, target: &Target, history: &impl History) -> bool {
    let mut facts = facts.clone();
    let mut remotes = facts.remotes.iter_mut();
    let Some(remote) = remotes.find(|remote| remote.name == target.remote) else {
        return false;
    };
    if remote.reach != Reach::Fetched {
        return true;
    }
    let head = target.choose(&mut remote.main, &mut remote.testing);
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
            &it.eligibility,
            Eligibility::Selected(found) | Eligibility::Qualifies(found) if found.commit == target.commit
        );
        qualifies && target.is_of(&it.remote, &it.head.branch.name, it.testing)
    };
    let mut candidates = decide(&facts, history).candidates.into_iter();
    before.is_some_and(is_contained) && candidates.any(|it| is_it(&it))
}

fn first(judged: &[Judged], position: Position) -> Option<usize> {
    let is_there = |judged: &Judged| matches!(&judged.result, Ok((_, it)) if *it == position);
    judged.iter().position(is_there)
}

/// How a head that qualifies stands to the commit that it has to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Ahead,
    Equal,
}

/// Judges heads.
struct Judge<'a, H> {
    facts: &'a Facts,
    history: Cached<'a, H>,
}

impl<'a, H: History> Judge<'a, H> {
    /// The first main that none of the others contains. All that are ahead contain the accepted one.
    fn choose(&self, mains: &[Judged]) -> Option<usize> {
        let mut ahead: VecDeque<(usize, &Commit)> = VecDeque::new();
        for (index, main) in mains.iter().enumerate() {
            if let Ok((main, Position::Ahead)) = &main.result {
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
        first(mains, Position::Equal)
    }

    fn main(&self, remote: &'a RemoteFacts) -> Option<Judged<'a>> {
        let head = remote.main.as_ref()?;
        let accepted = self.facts.accepted.as_ref();
        let position = |commit: &Commit| {
            let Some(accepted) = accepted else {
                return Ok(Position::Ahead);
            };
            let displaced = || Displaced {
                head: commit.clone(),
                accepted: accepted.clone(),
                cure: Remedy::Push,
            };
            match self.history.relation(&accepted.commit, commit) {
                Relation::Equal => Ok(Position::Equal),
                Relation::Descendant => Ok(Position::Ahead),
                Relation::Ancestor => Err(Refusal::Rewound(displaced())),
                Relation::Diverged => Err(Refusal::Rewritten(displaced())),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        };
        let contained = accepted.map(|accepted| &accepted.commit);
        let result = self.judge(remote, head, false, contained, position);
        Some(Judged::new(remote, head, false, result))
    }

    fn testing(&self, remote: &'a RemoteFacts, main: Option<&Commit>) -> Option<Judged<'a>> {
        let head = remote.testing.as_ref()?;
        let position = |commit: &Commit| {
            let main = main.ok_or(Refusal::NoMain)?;
            match self.history.relation(main, commit) {
                Relation::Descendant => Ok(Position::Ahead),
                Relation::Equal | Relation::Ancestor => Err(Refusal::InMain),
                Relation::Diverged => Err(Refusal::NotOnMain(main.clone())),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        };
        let result = self.judge(remote, head, true, main, position);
        Some(Judged::new(remote, head, true, result))
    }

    /// Whether no followed branch contains the accepted main any more, if no main qualifies: it was amended or
    /// rebased. As long as a remote cannot be fetched that had branches, nobody knows.
    fn is_lost<'e>(&self, mut judged: impl Iterator<Item = &'e Judged<'a>>) -> bool
    where
        'a: 'e,
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
                | Refusal::Rewound(_)
                | Refusal::Rewritten(_)
                | Refusal::NoMain
                | Refusal::NotOnMain(_),
            ) => true,
        })
    }

    /// Proposes one main to accept: the first that was rewritten, or if none was, the first that was rewound. One
    /// without a good signature cannot be accepted.
    fn propose(&self, mains: &mut [Judged]) {
        let is_rewritten = |main: &Judged| matches!(main.result, Err(Refusal::Rewritten(_)));
        let is_any_rewritten = mains.iter().any(is_rewritten);
        let mut is_proposed = false;
        for main in mains {
            let comes_first = is_rewritten(main) || !is_any_rewritten;
            let Err(Refusal::Rewound(it) | Refusal::Rewritten(it)) = &mut main.result else {
                continue;
            };
            it.cure = Remedy::AcceptAnother;
            if !comes_first || is_proposed {
                continue;
            }
            match self.verified(&it.head, None) {
                Ok(_) => {
                    it.cure = Remedy::Accept;
                    is_proposed = true;
                }
                Err(unverified) => main.result = Err(Refusal::Unverified(unverified)),
            }
        }
    }

    /// The head if it qualifies. If it only lacks a signature, an ancestor that lacks nothing: the newest one if the
    /// owner wants that, else the one that was tried last. `contained` is the commit that it has to contain, and `position`
    /// says where a commit stands to that.
    fn judge(
        &self,
        remote: &RemoteFacts,
        head: &Head,
        testing: bool,
        contained: Option<&Commit>,
        position: impl Fn(&Commit) -> Result<Position, Refusal>,
    ) -> Result<(Qualified, Position), Refusal> {
        let commit = reachable_head(remote, head)?;
        let at = position(commit)?;
        let unverified = match self.verified(commit, None) {
            Ok(qualified) => return Ok((qualified, at)),
            Err(unverified) => unverified,
        };
        let (ancestors, contained) = if self.facts.signed_ancestors && at == Position::Ahead {
            (self.history.ancestors(contained, commit), contained)
        } else {
            (Vec::new(), None)
        };
        let is_of_branch = |it: &&Target| it.is_of(&remote.name, &head.branch.name, testing);
        let is_of_head = |it: &&Commit| self.history.relation(it, commit) == Relation::Descendant;
        let tried = self.facts.tried.iter().find(is_of_branch);
        let tried = tried.map(|tried| &tried.commit).filter(is_of_head);
        let mut ancestors = ancestors.iter().chain(tried).chain(contained);
        let taken = ancestors.find_map(|ancestor| {
            let at = position(ancestor).ok()?;
            let qualified = self.verified(ancestor, Some(&unverified)).ok()?;
            Some((qualified, at))
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

/// A head, and whether it qualifies.
struct Judged<'a> {
    remote: &'a RemoteName,
    head: &'a Head,
    testing: bool,
    result: Result<(Qualified, Position), Refusal>,
    selected: bool,
}

impl<'a> Judged<'a> {
    fn new(
        remote: &'a RemoteFacts,
        head: &'a Head,
        testing: bool,
        result: Result<(Qualified, Position), Refusal>,
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
    fn mark_behind(&mut self) {
        if let Err(Refusal::Rewound(main)) = &self.result {
            self.result = Err(Refusal::Behind(main.accepted.clone()));
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
            eligibility: match self.result {
                Ok((qualified, _)) if self.selected => Eligibility::Selected(qualified),
                Ok((qualified, _)) => Eligibility::Qualifies(qualified),
                Err(refusal) => Eligibility::Refused(refusal),
            },
        }
    }
}

/// The head's commit, if it is known and counts.
fn reachable_head<'a>(remote: &RemoteFacts, head: &'a Head) -> Result<&'a Commit, Refusal> {
    match &remote.reach {
        Reach::Never => Err(Refusal::NotFetched),
        Reach::Unreachable => Err(Refusal::Unreachable),
        Reach::Fetched => head.commit.as_ref().ok_or(Refusal::Missing),
        Reach::Unreadable(error) => Err(Refusal::Unreadable(error.clone())),
    }
}
