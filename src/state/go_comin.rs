//! `store.json`, in which the Go comin remembers what it deployed: read on the first run after it, never changed.

use anyhow::{anyhow, ensure, Context, Error, Result};
use serde::Deserialize;

use crate::config::paths::Paths;
use crate::model::Commit;
use crate::sys::{fs, text::shortened};

/// The most bytes that are read of it. It has some twenty deployments, each with the message of a commit.
const SIZE: u64 = 16 * 1024 * 1024;
/// How much of an error is shown: it may quote what is in the file.
const ERROR: usize = 200;

/// The main of the latest deployment of the Go comin that succeeded; `None` where there is no file.
pub fn accepted_main(paths: &Paths) -> Result<Option<Commit>> {
    let path = paths.go_store();
    fs::read_small_optional(&path, SIZE)
        .and_then(|content| content.as_deref().map(latest_main).transpose())
        .with_context(|| format!("Failed to find the main in {}", path.display()))
}

/// As the Go comin writes it from its version 0.9 on, of which this is the part that matters.
#[derive(Deserialize)]
struct Stored {
    /// The latest first.
    deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    status: String,
    generation: Option<Generation>,
}

#[derive(Deserialize)]
struct Generation {
    main_commit_id: String,
}

fn latest_main(content: &[u8]) -> Result<Commit> {
    let stored: Stored =
        serde_json::from_slice(content).map_err(|error| short(&error.to_string()))?;
    let mut mains = stored
        .deployments
        .into_iter()
        .filter(|deployment| deployment.status == "done")
        .filter_map(|deployment| deployment.generation)
        .map(|generation| generation.main_commit_id)
        // Of what ran before its first deployment, it has made up one that has no commit.
        .filter(|main| !main.is_empty());
    let main = mains.next().context("no deployment in it has succeeded")?;
    ensure!(!is_zero(&main), "its latest deployment has no main");
    main.parse().map_err(|error: String| short(&error))
}

/// Git's way to say that there is no commit.
fn is_zero(id: &str) -> bool {
    id.bytes().all(|digit| digit == b'0')
}

fn short(error: &str) -> Error {
    anyhow!("{}", shortened(error, ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(status: &str, main: &str) -> String {
        format!(
            r#"{{"status": "{status}", "generation": {{"main_commit_id": "{main}", "uuid": ""}}}}"#
        )
    }

    fn of(deployments: &[String]) -> Result<Commit> {
        let store = format!(
            r#"{{"deployments": [{}], "deployer": null}}"#,
            deployments.join(",")
        );
        latest_main(store.as_bytes())
    }

    #[test]
    fn the_latest_deployment_that_succeeded_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        let made_up = || deployment("done", "");
        let without_generation = r#"{"status": "done", "generation": null}"#.to_string();
        let stored = [
            made_up(),
            without_generation,
            deployment("running", &a),
            deployment("failed", &a),
            deployment("done", &b),
            deployment("done", &c),
            made_up(),
        ];
        assert_eq!(of(&stored).unwrap().as_str(), b);
        for stored in [vec![], vec![made_up()], vec![deployment("failed", &a)]] {
            let error = of(&stored).unwrap_err().to_string();
            assert_eq!(error, "no deployment in it has succeeded");
        }
    }

    #[test]
    fn what_is_no_commit_is_none() {
        for bad in [
            "HEAD",
            "refs/heads/main",
            "--help",
            "\\u001b[2J",
            &"A".repeat(40),
            &"0".repeat(40),
        ] {
            assert!(of(&[deployment("done", bad)]).is_err(), "{bad}");
        }
        let long = of(&[deployment("done", &"f".repeat(1_000_000))]).unwrap_err();
        assert!(long.to_string().chars().count() <= ERROR + 1);
    }

    #[test]
    fn a_file_of_another_kind_is_an_error() {
        let deep = "[".repeat(1_000_000);
        // As before 0.9.
        let old = format!(
            r#"{{"version": "1", "deployments": [{{"status": 2, "generation": {{"main-commit-id": "{}"}}}}]}}"#,
            "a".repeat(40)
        );
        for bad in [
            "",
            "\0\0\0\0",
            "null",
            "[]",
            "{}",
            r#"{"deployments": null}"#,
            r#"{"deployments": {}}"#,
            r#"{"deployments": [null]}"#,
            r#"{"deployments": [{}]}"#,
            r#"{"deployments": [{"status": "done", "generation": {}}]}"#,
            r#"{"deployments": [], "deployments": []}"#,
            &deep,
            &format!(r#"{{"deployments": {deep}"#),
            &old,
        ] {
            assert!(latest_main(bad.as_bytes()).is_err(), "{bad:.80}");
        }
    }
}
