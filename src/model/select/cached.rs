//! A history that is asked each question once: an answer may cost a long walk, or the run of a tool.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::model::commit::Commit;
use crate::model::history::{History, Relation, Signature};

/// The answers of a history so far.
pub struct Cached<'a, H> {
    history: &'a H,
    relations: RefCell<BTreeMap<(Commit, Commit), Relation>>,
    signatures: RefCell<BTreeMap<Commit, Signature>>,
}

impl<'a, H> Cached<'a, H> {
    pub fn new(history: &'a H) -> Self {
        Self {
            history,
            relations: RefCell::default(),
            signatures: RefCell::default(),
        }
    }
}

impl<H: History> History for Cached<'_, H> {
    fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        if base == head {
            return Relation::Equal;
        }
        let mut relations = self.relations.borrow_mut();
        let ask = || self.history.relation(base, head);
        let relation = relations.entry((base.clone(), head.clone()));
        relation.or_insert_with(ask).clone()
    }

    fn signature(&self, commit: &Commit) -> Signature {
        let mut signatures = self.signatures.borrow_mut();
        let ask = || self.history.signature(commit);
        signatures.entry(commit.clone()).or_insert_with(ask).clone()
    }

    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit> {
        self.history.ancestors(base, head)
    }
}
