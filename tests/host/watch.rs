//! Path units: a commit to a repository on the machine is fetched at once, whenever and however it is made.

use std::time::Duration;

use serde_json::json;

use crate::machine::{Configuration, Host, LOCAL, OWNER};
use crate::support::{await_that, tell};

/// A bare repository, also the owner's.
const BARE: &str = "/home/owner/bare.git";

/// Changes the branches of both repositories at random, in bursts. After each burst, it waits until the mirror has what the
/// repositories have, and prints how many microseconds that took, or `lost`.
const BURSTS: &str = r#"#!/bin/bash
set -euo pipefail
export GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@example.org GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@example.org
RANDOM=$1
owner() { setpriv --reuid=@OWNER@ --regid=@OWNER@ --clear-groups env HOME=/home/owner git -C "$@"; }
work() { owner @LOCAL@ "$@" >/dev/null; }
bare() { owner @BARE@ "$@"; }
# From 1 ms to 2 s; each order of magnitude as often.
pause() { sleep "$(awk -v r="$RANDOM" 'BEGIN { print 0.001 * 2000 ^ (r / 32768) }')"; }
change() {
    case $((RANDOM % 10)) in
        0 | 1) work commit --quiet --allow-empty --message "$RANDOM" ;;
        2) work commit --quiet --amend --allow-empty --message "$RANDOM" ;;
        3) work commit --quiet --allow-empty -m 1 && work commit --quiet --allow-empty -m 2 && work rebase --force-rebase HEAD~2 ;;
        4) work branch --force team/testing HEAD ;;
        5) work update-ref refs/heads/team/testing "$(owner @LOCAL@ commit-tree -m "$RANDOM" HEAD^{tree})" ;;
        6) work pack-refs --all && work commit --quiet --allow-empty --message "$RANDOM" ;;
        7) bare update-ref refs/heads/main "$(bare commit-tree -p main -m "$RANDOM" main^{tree})" ;;
        8) bare pack-refs --all && bare branch --force team/testing "$(bare commit-tree -m "$RANDOM" main^{tree})" ;;
        9) work push --quiet --force @BARE@ HEAD:main ;;
    esac
}
is_mirrored() {
    mirror=$(git --git-dir /var/lib/comin/repository for-each-ref --format='%(objectname) %(refname:lstrip=2)')
    for remote in local bare; do
        repository=@BARE@
        [ $remote = bare ] || repository=@LOCAL@/.git
        while read -r branch; do
            [[ $mirror == *"$branch"* ]] || return 1
        done < <(owner "$repository" for-each-ref --format="%(objectname) $remote/%(refname:lstrip=2)" refs/heads)
    done
}
for burst in $(seq "$2"); do
    for change in $(seq $((RANDOM % 4))); do change; pause; done
    change
    end=${EPOCHREALTIME/./}
    until is_mirrored; do
        if [ $((${EPOCHREALTIME/./} - end)) -gt 180000000 ]; then echo "lost in burst $burst"; exit; fi
        sleep 0.005
    done
    echo $((${EPOCHREALTIME/./} - end))
done
"#;

/// Fetched by its path unit, or not at all within this test.
fn watched(name: &str, url: &str) -> serde_json::Value {
    json!({
        "name": name,
        "url": url,
        "timeout": 300,
        "branches": {
            "main": {"name": "main", "operation": "switch"},
            "testing": {"name": "team/testing", "operation": "test"},
        },
        "poller": {"period": 3600, "jitter": 0},
    })
}

fn as_owner(host: &Host, words: &str) -> String {
    let name = "GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@example.org GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@example.org";
    host.run(&format!("setpriv --reuid={OWNER} --regid={OWNER} --clear-groups env HOME=/home/owner {name} {words}"))
}

#[test]
fn no_commit_to_a_watched_repository_is_missed() {
    need_host!();
    let bursts = std::env::var("COMIN_BURSTS").map_or(40, |bursts| bursts.parse().unwrap());
    let configuration = Configuration::new("first").with("first", |c| {
        c["comin"]["remotes"][0] = watched("local", LOCAL);
        c["comin"]["remotes"][1] = watched("bare", BARE);
    });
    let host = Host::installed_with(&configuration, |host| {
        as_owner(
            host,
            &format!("git init --quiet --bare --initial-branch=main {BARE}"),
        );
        let tree = as_owner(
            host,
            &format!("git -C {BARE} hash-object -t tree -w /dev/null"),
        );
        let commit = as_owner(host, &format!("git -C {BARE} commit-tree -m first {tree}"));
        as_owner(
            host,
            &format!("git -C {BARE} update-ref refs/heads/main {commit}"),
        );
    });
    host.run("comin suspend");
    let script = BURSTS.replace("@LOCAL@", LOCAL).replace("@BARE@", BARE);
    host.write(
        "/root/bursts",
        &script.replace("@OWNER@", &OWNER.to_string()),
    );
    let seed = std::process::id() % 32768;
    let said = host.run(&format!("bash /root/bursts {seed} {bursts}"));
    let mut taken: Vec<u64> = said.lines().map_while(|line| line.parse().ok()).collect();
    assert_eq!(taken.len(), bursts, "seed {seed}: {said}");
    taken.sort_unstable();
    tell(&format!(
        "watch: {bursts} bursts, fetched after {:?} (median), {:?} (longest)",
        Duration::from_micros(taken[bursts / 2]),
        Duration::from_micros(taken[bursts - 1]),
    ));

    // A repository that is made anew.
    as_owner(&host, &format!("rm -rf {LOCAL}/.git"));
    host.local.git(&host, "init --quiet --initial-branch=main");
    host.local
        .git(&host, "commit --quiet --allow-empty --message anew");
    let commit = as_owner(&host, &format!("git -C {LOCAL} rev-parse main"));
    await_that("the new repository is fetched", || {
        let mirrored = "git --git-dir /var/lib/comin/repository rev-parse refs/remotes/local/main";
        host.try_run(mirrored).out.trim() == commit
    });
}

#[test]
fn refs_in_another_folder_are_watched_if_it_is_named() {
    need_host!();
    let configuration = Configuration::new("first").with("first", |c| {
        let mut linked = watched("linked", "/home/owner/linked");
        linked["watch"] = json!([format!("{LOCAL}/.git/refs/heads")]);
        let mut reftable = watched("reftable", "/home/owner/reftable");
        reftable["watch"] = json!(["/home/owner/reftable/.git/reftable"]);
        let remotes = c["comin"]["remotes"].as_array_mut().unwrap();
        remotes[0]["poller"]["period"] = json!(3600);
        remotes.extend([linked, reftable]);
    });
    let host = Host::installed_with(&configuration, |host| {
        as_owner(
            host,
            "git init --quiet --ref-format=reftable --initial-branch=main /home/owner/reftable",
        );
    });
    host.local
        .git(&host, "worktree add --quiet -b linked /home/owner/linked");
    for (folder, remote) in [("linked", "linked"), ("reftable", "reftable")] {
        let repository = format!("git -C /home/owner/{folder}");
        as_owner(
            &host,
            &format!("{repository} commit --quiet --allow-empty --message {remote}"),
        );
        as_owner(&host, &format!("{repository} branch --force team/testing"));
        let commit = as_owner(&host, &format!("{repository} rev-parse HEAD"));
        await_that("the commit is fetched", || {
            let mirrored = format!(
                "git --git-dir /var/lib/comin/repository rev-parse refs/remotes/{remote}/team/testing"
            );
            host.try_run(&mirrored).out.trim() == commit
        });
    }
}
