//! What the latest deploy found about every head. As long as no head, no accepted main and no setting has
//! changed, nobody needs to walk a history or to verify a signature to know it.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{paths::Paths, Config};
use crate::model::{Accepted, Candidate, Decision, Facts, RemoteFacts, Target};
use crate::sys::json;

/// What was found, and what it depends on.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecisionCache {
    /// Of the configuration. A key file with new content does not change this: the next deploy reads the file.
    fingerprint: u64,
    /// The heads it is about.
    pub remotes: Vec<RemoteFacts>,
    accepted: Option<Accepted>,
    /// What was selected.
    pub selected: Option<Target>,
    /// What was found of every head.
    pub candidates: Vec<Candidate>,
}

impl DecisionCache {
    /// What a decision found.
    pub fn of(facts: &Facts, decision: &Decision, config: &Config) -> Self {
        Self {
            fingerprint: config.fingerprint,
            remotes: facts.remotes.clone(),
            accepted: facts.accepted.clone(),
            selected: decision.selected.clone(),
            candidates: decision.candidates.clone(),
        }
    }

    /// Writes it.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        json::write(&paths.judgement(), self)
    }

    /// The latest one. A record that cannot be understood is none: nothing depends on it.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        json::read_lossy(&paths.judgement())
    }

    /// The decision on these facts, if nothing has changed that it depends on.
    pub fn decision_for(paths: &Paths, facts: &Facts, config: &Config) -> Result<Option<Decision>> {
        let judgement = Self::read(paths)?.filter(|it| it.holds(facts, config));
        Ok(judgement.map(|it| Decision::new(it.selected, it.candidates, facts)))
    }

    /// Whether nothing has changed since that it rests on.
    pub fn holds(&self, facts: &Facts, config: &Config) -> bool {
        self.fingerprint == config.fingerprint
            && self.remotes == facts.remotes
            && self.accepted == facts.accepted
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::for_tests;
    use crate::model::select::{
        decide,
        tests::{facts, Diagram},
    };

    #[test]
    fn a_judgement_holds_until_something_that_it_rests_on_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), Path::new("/state"));
        let config = for_tests();
        let recall = |facts: &Facts, config: &Config| {
            DecisionCache::decision_for(&paths, facts, config).unwrap()
        };
        // Refusals of several kinds, and one that is passed over.
        let seen = facts("A+", "o:C/- p:0/D q!:A/A r?:-/- s:X/B");
        let decision = decide(&seen, &Diagram::of("0-A-B-C* 0-D"));
        assert_eq!(recall(&seen, &config), None, "there is none yet");
        DecisionCache::of(&seen, &decision, &config)
            .write(&paths)
            .unwrap();
        assert_eq!(recall(&seen, &config), Some(decision));

        assert_eq!(
            recall(&facts("A+", "o:C/- p:0/D q:A/A r?:-/- s:X/B"), &config),
            None
        );
        let mut accepted = seen.clone();
        accepted.accepted = facts("B", "").accepted;
        assert_eq!(recall(&accepted, &config), None);
        let mut another = config;
        another.fingerprint += 1;
        assert_eq!(recall(&seen, &another), None);
        std::fs::write(paths.judgement(), "{").unwrap();
        assert_eq!(recall(&seen, &for_tests()), None);
    }
}
