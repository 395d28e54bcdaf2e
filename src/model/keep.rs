//! What `comin keep` keeps. A pure function from the state and from what the machine runs.

use std::path::Path;

use crate::model::{
    attempt::Attempt, drift::Systems, names::Operation, state::State, target::Target,
};

/// The attempt whose test runs, and should boot next; or why there is none, as a sentence.
pub fn tested<'a>(
    state: &'a State,
    systems: &Systems,
    selected: Option<&Target>,
) -> Result<&'a Attempt, String> {
    let Some(runs) = systems.running.as_ref().map(|it| &*it.system) else {
        return Err("Nothing is tested: no system runs".to_string());
    };
    let of = |out: &Path| state.latest_activation_of(out).filter(|it| it.is_done());
    let Some(tested) = of(runs) else {
        let runs = runs.display();
        return Err(format!(
            "What runs was not activated by comin, so there is no test to keep: {runs}"
        ));
    };
    let target = &tested.target;
    let boots = systems.boots_next.as_ref().map(|it| &*it.system);
    if boots == Some(runs) {
        return Err(format!(
            "There is nothing to keep: {target} runs, and boots next already"
        ));
    }
    if !target.testing || tested.operation() != Operation::Test {
        return Err(format!(
            "Nothing is tested: {target} runs, and comin activated it by {}",
            tested.operation()
        ));
    }
    let is_other = |it: &&Target| !it.same_as(&target.commit, target.operation);
    if let Some(other) = selected.filter(is_other) {
        return Err(format!(
            "{target} is not kept: {other} is selected by now, to be deployed by {}; comin plan says why",
            other.operation
        ));
    }
    Ok(tested)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::drift::tests::{state, systems};

    #[test]
    fn running_test_is_kept_if_nothing_else_is_selected() {
        for (attempts, machine, selected, wanted) in [
            ("sa1 tb1", "baa1", "b", "b"),
            // Its remote is away.
            ("sa1 tb1", "baa1", "-", "b"),
            // Tested once more by hand after a reboot, or healed.
            ("sa1 tb1", "baa2", "b", "b"),
            ("sa1 tb1 tc1x", "baa1", "b", "b"),
            ("sa1 tb1 tc1", "baa1", "c", "b is not kept: c is selected"),
            ("sa1 tb1", "baa1", "c", "b is not kept: c is selected"),
            ("sa1 tb1", "bab1", "b", "There is nothing to keep: b runs"),
            ("sa1 tb1", "aaa2", "b", "There is nothing to keep: a runs"),
            ("sa1", "aaz1", "a", "Nothing is tested: a runs"),
            ("sa1 bb1", "aaa1", "b", "There is nothing to keep: a runs"),
            ("sa1 tb1", "zaa1", "b", "What runs was not activated"),
            ("sa1 tb1", "-aa1", "b", "Nothing is tested: no system runs"),
            ("sa1 tb1?", "baa1", "b", "What runs was not activated"),
            ("", "aaa1", "-", "What runs was not activated"),
        ] {
            let mut state = state(attempts);
            for attempt in &mut state.attempts {
                attempt.target.testing = attempt.target.operation == Operation::Test;
                attempt.target.commit = commit(attempt.out.as_ref().unwrap().to_str().unwrap());
            }
            let mut targets = state.attempts.iter().map(|it| it.target.clone());
            let target = targets
                .next_back()
                .filter(|_| selected != "-")
                .map(|it| Target {
                    commit: commit(selected),
                    ..it
                });
            let told = match tested(&state, &systems(machine), target.as_ref()) {
                Ok(attempt) => attempt.out.as_ref().unwrap().display().to_string(),
                Err(why) => ["a", "b", "c"].iter().fold(why, |why, name| {
                    why.replace(&format!("{} (origin/main)", commit(name).short()), name)
                }),
            };
            assert!(
                told.starts_with(wanted),
                "{attempts} | {machine} | {selected}: {told}"
            );
        }
    }

    fn commit(name: &str) -> crate::model::commit::Commit {
        name.repeat(40).parse().unwrap()
    }
}
