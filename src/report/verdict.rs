//! How a machine is, in words: what the status, its short line, the JSON, the exit code and the metrics agree on.

use super::page::Tone;
use crate::model::{Commit, Cure};

/// How good or bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// The machine runs what was pushed.
    Well,
    /// The same, and there is something to know.
    Noted,
    /// comin is at work.
    Busy,
    /// It waits for somebody or something.
    Waits,
    /// Something is wrong that a person may have wanted.
    Warned,
    Bad,
    Suspended,
    Drifted,
}

impl Grade {
    /// The exit code of `comin status --check`.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Well | Self::Noted => 0,
            Self::Busy | Self::Waits => 3,
            Self::Warned | Self::Bad => 4,
            Self::Suspended => 5,
            Self::Drifted => 6,
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Well => Tone::Good,
            Self::Busy => Tone::Busy,
            Self::Bad => Tone::Bad,
            Self::Noted | Self::Waits | Self::Warned | Self::Suspended | Self::Drifted => {
                Tone::Notable
            }
        }
    }
}

/// Every word of the short line.
const WORDS: [(&str, Grade); 27] = [
    ("up to date", Grade::Well),
    ("testing", Grade::Well),
    ("due", Grade::Busy),
    ("evaluating", Grade::Busy),
    ("building", Grade::Busy),
    ("activating", Grade::Busy),
    ("checking", Grade::Busy),
    ("rolling back", Grade::Busy),
    ("waits", Grade::Waits),
    ("waits for CI", Grade::Waits),
    ("waits for reboot", Grade::Waits),
    ("suspended", Grade::Suspended),
    ("skipped", Grade::Warned),
    ("failed", Grade::Bad),
    ("interrupted", Grade::Bad),
    ("postponed", Grade::Bad),
    ("rolled back", Grade::Bad),
    ("held", Grade::Bad),
    ("test ended", Grade::Waits),
    ("not running", Grade::Drifted),
    ("boots another", Grade::Drifted),
    ("not polled", Grade::Bad),
    ("not deploying", Grade::Bad),
    ("not fetched", Grade::Warned),
    ("cannot fetch", Grade::Bad),
    ("unreachable", Grade::Bad),
    ("no branch qualifies", Grade::Bad),
];

/// Every word, as the JSON and the metrics have it.
pub(super) fn states() -> impl Iterator<Item = String> {
    WORDS.into_iter().map(|(word, _)| state(word))
}

fn state(word: &str) -> String {
    word.replace(' ', "_").to_lowercase()
}

/// How a machine is, in words.
pub(super) struct Verdict<'a> {
    /// The word of the short line.
    word: String,
    pub(super) grade: Grade,
    /// For the status.
    pub(super) sentence: String,
    /// What the short line has besides the word.
    pub(super) detail: Option<String>,
    /// The commit that it is about.
    pub(super) commit: Option<&'a Commit>,
    /// What a person can do.
    pub(super) cures: Vec<Cure>,
}

impl<'a> Verdict<'a> {
    /// A verdict by its word, which is one of the known ones.
    pub(super) fn new(word: &str, sentence: impl Into<String>) -> Self {
        let known = WORDS.iter().find(|(known, _)| *known == word);
        debug_assert!(known.is_some(), "the word {word} has no grade");
        Self {
            word: word.to_string(),
            grade: known.map_or(Grade::Bad, |(_, grade)| *grade),
            sentence: sentence.into(),
            detail: None,
            commit: None,
            cures: Vec::new(),
        }
    }

    pub(super) fn graded(self, grade: Grade) -> Self {
        Self { grade, ..self }
    }

    pub(super) fn about(self, commit: Option<&'a Commit>) -> Self {
        Self { commit, ..self }
    }

    pub(super) fn with_detail(self, detail: impl Into<Option<String>>) -> Self {
        let detail = detail.into();
        Self { detail, ..self }
    }

    pub(super) fn with_cures(self, cures: impl IntoIterator<Item = Cure>) -> Self {
        let cures = Cure::in_order(cures);
        Self { cures, ..self }
    }

    /// Says what another verdict says as well, as in "up to date, but a reboot is needed".
    pub(super) fn and(self, joint: &str, other: Self) -> Self {
        let details = [self.detail, other.detail].into_iter().flatten();
        let details: Vec<String> = details.collect();
        Self {
            sentence: format!("{}{joint}{}", self.sentence, other.sentence),
            detail: (!details.is_empty()).then(|| details.join(", ")),
            cures: Cure::in_order(self.cures.into_iter().chain(other.cures)),
            ..self
        }
    }

    /// The word, as the JSON has it.
    pub(super) fn state(&self) -> String {
        state(&self.word)
    }

    /// As in `up to date 3f2a9c1e: a reboot is needed (+1 more)`.
    pub(super) fn line(&self, others: &[Self]) -> String {
        let commit = self.commit.map(|commit| format!(" {}", commit.short()));
        let of_other = |other: &Self| other.detail.clone().unwrap_or(other.sentence.clone());
        let (problem, rest) = match (&self.detail, others) {
            (None, [other, rest @ ..]) => (Some(of_other(other)), rest),
            (detail, others) => (detail.clone(), others),
        };
        let problem = problem.map(|problem| format!(": {problem}"));
        let more = (!rest.is_empty()).then(|| format!(" (+{} more)", rest.len()));
        let parts = [Some(self.word.clone()), commit, problem, more];
        parts.into_iter().flatten().collect()
    }
}
