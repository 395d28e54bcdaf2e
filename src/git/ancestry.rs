//! Where two commits stand to each other, by a walk through their histories.

use std::collections::{BinaryHeap, HashMap};

use anyhow::{Context, Result};
use git2::{Odb, Oid};

use crate::model::Relation;

/// In whose history a commit is, as far as the walk knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Base,
    Head,
    Both,
}

/// What the walk knows of a commit that it has visited.
struct Visited {
    side: Side,
    /// Whether the walk has yet to go on to its parents, or must do so again, as a commit of both sides.
    is_queued: bool,
}

/// A commit, as far as the walk needs it. The newest one is the greatest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CommitNode {
    time: i64,
    commit: Oid,
    parents: Vec<Oid>,
}

impl CommitNode {
    fn read(odb: &Odb, commit: Oid) -> Result<Self> {
        let object = odb.read(commit)?;
        let (parents, time) =
            parse_headers(object.data()).with_context(|| format!("{commit} is no commit"))?;
        Ok(Self {
            time,
            commit,
            parents,
        })
    }
}

/// The parents of a commit and its time, from its headers: tree, parents, author, committer, in this
/// order. libgit2 would parse all of it, and make objects of it, which is a fifth of a long walk.
fn parse_headers(commit: &[u8]) -> Option<(Vec<Oid>, i64)> {
    let mut lines = commit.split(|&byte| byte == b'\n');
    lines.next()?.strip_prefix(b"tree ")?;
    let mut parents = Vec::new();
    let mut line = lines.next()?;
    while let Some(parent) = line.strip_prefix(b"parent ") {
        // libgit2 would fill up a short one with zeroes.
        let id = str::from_utf8(parent).ok().filter(|id| id.len() == 40)?;
        parents.push(Oid::from_str(id).ok()?);
        line = lines.next()?;
    }
    line.strip_prefix(b"author ")?;
    let committer = lines.next()?.strip_prefix(b"committer ")?;
    let time = committer.rsplit(|&byte| byte == b' ').nth(1)?;
    // A commit whose time cannot be read is as good as any other, and comes last.
    let time = str::from_utf8(time).ok().and_then(|time| time.parse().ok());
    Some((parents, time.unwrap_or(i64::MIN)))
}

/// The walk.
struct Walk<'a> {
    odb: &'a Odb<'a>,
    visited: HashMap<Oid, Visited>,
    queue: BinaryHeap<CommitNode>,
    /// How many commits of the queue are in one history alone.
    one_sided: usize,
}

/// Where `head` stands to `base`. The walk begins at both and takes the newest commits first, as git does for a merge base.
/// It is over when it comes from one of the two to the other, or when the whole queue is in both histories. Wrong commit
/// times make the walk longer, and do not change the answer.
pub fn relation(odb: &Odb, base: Oid, head: Oid) -> Result<Relation> {
    if head == base {
        return Ok(Relation::Equal);
    }
    let mut walk = Walk {
        odb,
        visited: HashMap::new(),
        queue: BinaryHeap::new(),
        one_sided: 0,
    };
    walk.visit(base, Side::Base)?;
    walk.visit(head, Side::Head)?;
    while let Some((parents, side)) = walk.advance() {
        for parent in parents {
            match side {
                Side::Head if parent == base => return Ok(Relation::Descendant),
                Side::Base if parent == head => return Ok(Relation::Ancestor),
                Side::Head | Side::Base | Side::Both => walk.visit(parent, side)?,
            }
        }
    }
    Ok(Relation::Diverged)
}

impl Walk<'_> {
    /// The parents of the newest commit of the queue, as long as the queue has a commit that is in one history alone.
    fn advance(&mut self) -> Option<(Vec<Oid>, Side)> {
        if self.one_sided == 0 {
            return None;
        }
        let step = self.queue.pop()?;
        let visited = self.visited.get_mut(&step.commit)?;
        visited.is_queued = false;
        if visited.side != Side::Both {
            self.one_sided -= 1;
        }
        Some((step.parents, visited.side))
    }

    /// Visits a commit from a side.
    fn visit(&mut self, commit: Oid, from: Side) -> Result<()> {
        let side = match self.visited.get(&commit) {
            None => from,
            Some(visited) if visited.side == from || visited.side == Side::Both => return Ok(()),
            Some(_) => Side::Both,
        };
        let is_queued = true;
        let before = self.visited.insert(commit, Visited { side, is_queued });
        // If commit times are wrong, the walk may have left it already, as a commit of one side.
        let was_queued = before.is_some_and(|visited| visited.is_queued);
        match side {
            Side::Base | Side::Head => self.one_sided += 1,
            Side::Both if was_queued => self.one_sided -= 1,
            Side::Both => {}
        }
        if !was_queued {
            self.queue.push(CommitNode::read(self.odb, commit)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::{Repository, Signature, Time};

    /// Histories of all shapes, with clocks that are anything but right: libgit2 finds the same.
    #[test]
    fn every_pair_of_commits_stands_as_libgit2_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(folder.path()).unwrap();
        let tree = repository.treebuilder(None).unwrap().write().unwrap();
        let tree = repository.find_tree(tree).unwrap();
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for most_parents in 1..=4 {
            let mut commits: Vec<Oid> = Vec::new();
            for n in 0..40 {
                let mut parents = Vec::new();
                for _ in 0..random(most_parents + 1).min(commits.len()) {
                    // Of the last few: a history that is neither a line nor a star.
                    let parent = commits[commits.len() - 1 - random(commits.len().min(6))];
                    if !parents.contains(&parent) {
                        parents.push(parent);
                    }
                }
                let time = Time::new(i64::try_from(random(20)).unwrap(), 0);
                let author = Signature::new("a", "a@example.org", &time).unwrap();
                let message = format!("{most_parents} {n}");
                let parents: Vec<_> = parents
                    .into_iter()
                    .map(|parent| repository.find_commit(parent).unwrap())
                    .collect();
                let parents: Vec<_> = parents.iter().collect();
                let commit = repository.commit(None, &author, &author, &message, &tree, &parents);
                commits.push(commit.unwrap());
            }
            let odb = repository.odb().unwrap();
            for &base in &commits {
                for &head in &commits {
                    let descends = |a, b| repository.graph_descendant_of(a, b).unwrap();
                    let expected = if base == head {
                        Relation::Equal
                    } else if descends(head, base) {
                        Relation::Descendant
                    } else if descends(base, head) {
                        Relation::Ancestor
                    } else {
                        Relation::Diverged
                    };
                    assert_eq!(relation(&odb, base, head).unwrap(), expected);
                }
            }
        }
    }

    #[test]
    fn headers_count_in_their_order_alone() {
        let id = "1".repeat(40);
        let lineage_of = |text: String| parse_headers(text.as_bytes());
        let author = "author a <a@example.org> 1 +0000\ncommitter a <a> b <a@example.org> 2 +0000";
        let (parents, time) =
            lineage_of(format!("tree {id}\nparent {id}\n{author}\n\nparent x")).unwrap();
        assert_eq!((parents.len(), time), (1, 2));
        assert!(lineage_of(format!("tree {id}\n{author}\nparent {id}\n\n"))
            .unwrap()
            .0
            .is_empty());
        assert!(lineage_of(format!("tree {id}\nparent 1\n{author}\n")).is_none());
        assert!(lineage_of(format!("parent {id}\ntree {id}\n{author}\n")).is_none());
        assert!(lineage_of(format!("tree {id}\nparent {id}")).is_none());
    }
}
