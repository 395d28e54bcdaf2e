//! On what Nix said in fact, of the oldest, an older and the newest version: `tests/nix`.

use super::*;

const RECORDED: [[&str; 4]; 3] = [
    [
        include_str!("../../../tests/nix/2.8-built.log"),
        include_str!("../../../tests/nix/2.8-failed.log"),
        include_str!("../../../tests/nix/2.8-thrown.log"),
        include_str!("../../../tests/nix/2.8-missing.log"),
    ],
    [
        include_str!("../../../tests/nix/2.26-built.log"),
        include_str!("../../../tests/nix/2.26-failed.log"),
        include_str!("../../../tests/nix/2.26-thrown.log"),
        include_str!("../../../tests/nix/2.26-missing.log"),
    ],
    [
        include_str!("../../../tests/nix/2.34-built.log"),
        include_str!("../../../tests/nix/2.34-failed.log"),
        include_str!("../../../tests/nix/2.34-thrown.log"),
        include_str!("../../../tests/nix/2.34-missing.log"),
    ],
];
const COMMIT: &str = "95d669cb402646fa6acc5fc5806206e2f78df7d6";

/// Everything that is logged, and the failure.
fn failure(recorded: &str) -> (String, Failure) {
    let mut log = NixLog::default();
    let told: Vec<String> = recorded
        .lines()
        .flat_map(|line| log.understand(line))
        .collect();
    let error = log.error("nix exited with status 1".to_string());
    let commit = COMMIT.parse().unwrap();
    let error = in_repository(error, &commit, |path| path.starts_with("hosts/"));
    let failure = error.downcast().unwrap();
    (told.join("\n"), failure)
}

#[test]
fn a_build_is_followed_from_derivation_to_derivation() {
    for [built, ..] in RECORDED {
        let mut log = NixLog::default();
        let mut told = Vec::new();
        let mut seen = Vec::new();
        for line in built.lines() {
            told.extend(log.understand(line));
            let JobProgress {
                built,
                to_build,
                item,
                ..
            } = log.steps.clone();
            let now = (built, to_build, item);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        let at = |built, item: &str| (built, 3, Some(item.to_string()));
        for state in [at(0, "alpha-1.0"), at(1, "beta-2.0"), at(2, "system-3")] {
            assert!(seen.contains(&state), "{state:?}: {seen:?}");
        }
        let of_builds: Vec<&String> = told.iter().filter(|line| line.contains("> ")).collect();
        assert_eq!(
            of_builds,
            [
                "alpha-1.0> a1",
                "alpha-1.0> a2",
                "beta-2.0> b1",
                "beta-2.0> b2 red",
                "system-3> s"
            ]
        );
        assert!(
            told.iter()
                .any(|line| line.starts_with("building '/nix/store/")),
            "{told:?}"
        );
    }
}

#[test]
fn downloads_are_counted_beside_the_builds() {
    let mut log = NixLog::default();
    for line in [
        r#"{"action": "start", "id": 1, "level": 0, "type": 103, "fields": []}"#,
        r#"{"action": "start", "id": 2, "level": 0, "type": 104, "fields": []}"#,
        r#"{"action": "result", "id": 2, "type": 105, "fields": [0, 1, 0, 0]}"#,
        r#"{"action": "result", "id": 1, "type": 105, "fields": [2, 3, 1, 0]}"#,
    ] {
        log.hear(&format!("@nix {line}"));
    }
    let said = log.steps.at(Timestamp::now());
    assert_eq!(said, "2 of 3 downloaded, 0 of 1 built");
}

#[test]
fn builds_that_were_stopped_are_told_though_they_end_before_nix_does() {
    let start = |id: u64, name: &str| {
        let derivation = format!("/nix/store/{}-{name}.drv", "0".repeat(32));
        format!(
            r#"@nix {{"action": "start", "id": {id}, "level": 3, "type": 105, "fields": ["{derivation}"]}}"#
        )
    };
    let stop = |id: u64| format!(r#"@nix {{"action": "stop", "id": {id}}}"#);
    let mut log = NixLog::default();
    log.hear(&start(1, "over"));
    log.hear(&stop(1));
    assert_eq!(log.at_work(), None);
    log.stopping();
    // The line was on its way.
    log.hear(&start(2, "gate"));
    log.hear(&stop(2));
    assert_eq!(log.at_work().as_deref(), Some("gate"));
}

#[test]
fn a_failed_build_is_told_by_the_derivation_that_failed_and_the_end_of_its_log() {
    for [_, failed, ..] in RECORDED {
        let (_, failure) = failure(failed);
        let derivation = failure.derivation.clone().unwrap();
        assert!(derivation.ends_with("-alpha-1.0.drv"), "{derivation}");
        assert_eq!(failure.lines.len(), 13);
        assert_eq!(failure.lines.last().unwrap(), "no such file");
        let sentence = failure.to_string();
        assert!(
            sentence.starts_with("nix exited with status 1: error: "),
            "{sentence}"
        );
        assert!(sentence.ends_with("\n> no such file") && sentence.contains(&derivation));
        assert!(
            !sentence.contains("system-3") && !sentence.contains("Output paths"),
            "{sentence}"
        );
    }
}

#[test]
fn an_evaluation_error_is_the_users_and_nothing_of_our_own_expression_is_shown() {
    for [_, _, thrown, missing] in RECORDED {
        let (told, failure) = failure(thrown);
        let lines = failure.lines.join("\n");
        assert_eq!(
            failure.to_string(),
            "nix exited with status 1: error: the printer is on fire"
        );
        for text in [&told, &lines] {
            assert!(
                !text.contains("toplevel.drvPath") && !text.contains("«string»"),
                "{text}"
            );
            assert!(!text.contains("--show-trace"), "{text}");
            assert!(text.ends_with("error: the printer is on fire"), "{text}");
        }
        let (_, failure) = super::tests::failure(missing);
        assert_eq!(
            failure.to_string(),
            "nix exited with status 1: error: attribute 'driver' missing\nat hosts/missing.nix:3:27"
        );
        let lines = failure.lines.join("\n");
        assert!(
            lines.contains("system.build.toplevel = { }.driver;"),
            "{lines}"
        );
        assert!(lines.contains("at hosts/missing.nix:3:27:"), "{lines}");
        assert!(
            !lines.contains("/nix/store/") && !lines.contains("git+file"),
            "{lines}"
        );
    }
}

#[test]
fn hostile_and_unknown_lines_are_harmless() {
    let mut log = NixLog::default();
    for line in [
        "@nix ",
        "@nix {",
        "@nix null",
        r#"@nix {"action":"dance"}"#,
        r#"@nix {"action":"start","id":1,"type":105,"level":3}"#,
        r#"@nix {"action":"start","id":-1,"type":105,"level":3,"fields":["x"]}"#,
        r#"@nix {"action":"result","id":7,"type":105,"fields":[1,2]}"#,
        r#"@nix {"action":"result","id":7,"type":105,"fields":["x",{}]}"#,
        r#"@nix {"action":"stop","id":7}"#,
    ] {
        assert_eq!(log.understand(line), [""; 0], "{line}");
    }
    assert_eq!(log.steps, JobProgress::default());
    for id in 0..100 {
        let name = "x".repeat(5000);
        log.understand(&format!(
            r#"@nix {{"action":"start","id":{id},"type":105,"level":3,"fields":["/nix/store/0-{name}"]}}"#
        ));
        for _ in 0..50 {
            log.understand(&format!(
                r#"@nix {{"action":"result","id":{id},"type":101,"fields":["{name}"]}}"#
            ));
        }
    }
    assert!(log.running.len() <= MAX_BUILDS);
    assert!(log
        .running
        .values()
        .all(|build| build.log.len() <= LOG_LINES));
    let said = log.understand(
        r#"@nix {"action":"result","id":0,"type":101,"fields":["a\u001b[31mb\u001b]0;c\u0007\rd\u202e"]}"#,
    );
    assert!(
        said[0].ends_with("> ab\u{fffd}]0;c\u{fffd}\u{fffd}d\u{fffd}"),
        "{said:?}"
    );
    let error = format!(
        r#"@nix {{"action":"msg","level":0,"msg":"error: x","raw_msg":"builder for '/nix/store/0-{}' failed"}}"#,
        "y".repeat(100_000)
    );
    log.understand(&error);
    let failure: Failure = log.error("nix".to_string()).downcast().unwrap();
    assert!(failure.to_string().len() < 3000);
    assert!(failure.lines.concat().len() < FAILURE_BYTES);
}

#[test]
fn a_consequence_does_not_hide_its_cause() {
    let error = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"@nix {{"action":"msg","level":0,"msg":{text},"raw_msg":{text}}}"#)
    };
    let (cause, consequence) = (
        "builder for '/nix/store/a.drv' failed with exit code 1;\n       last 2 log lines:\n       > compiling\n       > no such file\n       For full logs, run 'nix log /nix/store/a.drv'.",
        "1 dependencies of derivation '/nix/store/b.drv' failed to build",
    );
    for (said, told) in [
        (
            vec![cause, consequence],
            "builder for '/nix/store/a.drv' failed with exit code 1",
        ),
        (vec![consequence], consequence),
        (vec!["a", "interrupted by the user"], "a"),
        (vec!["a", "Build failed due to failed dependency"], "a"),
        (
            vec!["writing file: No space left on device"],
            "writing file: No space left on device",
        ),
    ] {
        let recorded: Vec<String> = said.into_iter().map(error).collect();
        let (_, failure) = failure(&recorded.join("\n"));
        assert!(
            failure.to_string().ends_with(&format!("error: {told}")),
            "{failure}"
        );
    }
    let (_, full) = failure(&error("writing file: No space left on device"));
    assert!(full.to_string().contains(": the disk is full: "), "{full}");
    let oom: Failure = NixLog::default()
        .error("nix was killed by signal 9".to_string())
        .downcast()
        .unwrap();
    assert_eq!(oom.to_string(), "nix was killed by signal 9: out of memory");
    let (_, killed) = failure(&error(
        "builder for '/nix/store/a.drv' failed due to signal 9 (Killed)",
    ));
    assert!(killed.to_string().contains(": out of memory: "), "{killed}");
}

#[test]
fn only_paths_of_the_repository_are_shortened() {
    let source = format!("/nix/store/{}-source/", "0".repeat(32));
    let shorten = |text: &str| without_source(text, "c0ffee", |path| path == "hosts/m.nix");
    assert_eq!(
        shorten(&format!("at {source}hosts/m.nix:1:2:")),
        "at hosts/m.nix:1:2:"
    );
    for other in [
        format!("at {source}lib/modules.nix:1:2"),
        "at /nix/store/a.drv, «x»/y".to_string(),
    ] {
        assert_eq!(shorten(&other), other);
    }
    assert_eq!(
        shorten("'«git+file:///r?rev=c0ffee»/a.nix' and «git+file:///r?rev=b»/a"),
        "'a.nix' and «git+file:///r?rev=b»/a"
    );
    assert_eq!(
        shorten("flake 'git+file:///r?rev=c0ffee' and 'git+file:///r?rev=b' lack 'a'"),
        "flake '.' and 'git+file:///r?rev=b' lack 'a'"
    );
}
